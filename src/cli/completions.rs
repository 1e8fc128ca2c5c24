//! Completion scripts: what clap makes of the options, and what only the program knows: what is mounted, for `unmount`, `close` and
//! `sync`, and the keyslots of a container.

use std::{env, path::Path};

use clap_complete::Shell;
use strongroom::{error::Result, mount};

use super::output::print;

/// Prints the script for a shell.
pub(crate) fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "strongroom", &mut script);
    print(&with_mounted(shell, &String::from_utf8_lossy(&script)))
}

/// Prints what `unmount`, `close` and `sync` take, a line each: every mount point and container, also as seen from the current directory.
pub(crate) fn names() -> Result<()> {
    let here = env::current_dir().ok();
    let mut lines = String::new();
    for entry in mount::as_noted() {
        for name in [entry.mountpoint.as_deref(), Some(entry.container.as_path())].into_iter().flatten() {
            let from_here = here.as_deref().and_then(|here| name.strip_prefix(here).ok());
            for name in [from_here, Some(name)].into_iter().flatten().filter_map(Path::to_str) {
                // A name of two lines would be two names.
                if !name.is_empty() && !name.contains(char::is_control) {
                    lines.push_str(name);
                    lines.push('\n');
                }
            }
        }
    }
    print(&lines)
}

/// The script with the names of what is mounted for the commands that take one.
fn with_mounted(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => {
            let (functions, registration) =
                script.split_at(script.rfind("\nif [[ \"${BASH_VERSINFO").unwrap_or(script.len()));
            let registration = registration.replace("-F _strongroom ", "-F _strongroom_or_mounted ");
            format!("{functions}{BASH}{registration}")
        }
        Shell::Zsh => {
            let mut script = script.to_owned();
            for takes in ["A container or a mount point", "what you opened last\\]"] {
                script = script.replace(&format!("{takes}:_files"), &format!("{takes}:_strongroom_mounted"));
            }
            let lines = script.split_inclusive('\n').map(|line| {
                let takes_keyslot = SLOTS.iter().any(|slot| line.starts_with(&format!("'--{slot}=[")));
                if takes_keyslot {
                    line.replace(":N:_default'", ":N:_strongroom_keyslots'")
                } else {
                    line.to_owned()
                }
            });
            let script: String = lines.collect();
            script.replacen("\n_strongroom() {", &format!("{ZSH}\n_strongroom() {{"), 1)
        }
        Shell::Fish => {
            let line = |command| {
                format!(
                    "complete -c strongroom -n \"__fish_strongroom_using_subcommand {command}\" -f -a '(strongroom list --names 2>/dev/null)'\n"
                )
            };
            let slots = SLOTS
                .map(|slot| format!("complete -c strongroom -l {slot} -x -a '(__strongroom_keyslots)'\n"));
            format!("{script}{}{FISH}{}", TAKERS.map(line).concat(), slots.concat())
        }
        _ => script.to_owned(),
    }
}

/// The commands that take what is mounted, and their aliases.
const TAKERS: [&str; 5] = ["unmount", "umount", "dismount", "close", "sync"];

/// The options that take the number of a keyslot that there is.
const SLOTS: [&str; 2] = ["slot", "unlock-slot"];

const BASH: &str = r#"
_strongroom_keyslots() {
    local word=$1 given number what
    local -a shown=()
    for given in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        given=${given/#\~\//$HOME/}
        given=${given//[\\\"\']/}
        [[ $given == */* || -f $given || -d $given ]] || continue
        while IFS=$'\t' read -r number what; do
            [[ $number != "$word"* ]] || shown+=("$number ($what)")
        done < <("${COMP_WORDS[0]}" key list --names -- "$given" </dev/null 2>/dev/null)
        ((${#shown[@]} == 0)) || break
    done
    # What is alone goes onto the line.
    ((${#shown[@]} != 1)) || shown=("${shown[0]%% *}")
    COMPREPLY=("${shown[@]}")
}

_strongroom_or_mounted() {
    local word=${COMP_WORDS[COMP_CWORD]} given name before=${COMP_WORDS[COMP_CWORD-1]-}
    # An option and its value may be three words: readline takes them apart at =.
    [[ $word != = ]] || { word='' before=$before=; }
    [[ $before != = ]] || before=${COMP_WORDS[COMP_CWORD-2]-}=
    if [[ ${before%=} == @(--slot|--unlock-slot) ]]; then
        _strongroom_keyslots "$word"
        return 0
    fi
    for given in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $given != -* ]] || continue
        [[ $given == @(unmount|umount|dismount|close|sync) && $word != -* ]] || break
        COMPREPLY=()
        while IFS= read -r name; do
            [[ $name != "${word/#\~\//$HOME/}"* ]] || COMPREPLY+=("$(printf %q "$name")")
        done < <("${COMP_WORDS[0]}" list --names 2>/dev/null)
        return 0
    done
    _strongroom "$@"
    # Who begins no option wants a file, a command or a value.
    if [[ $word != -* ]]; then
        local -a found=("${COMPREPLY[@]}")
        COMPREPLY=()
        for name in "${found[@]}"; do
            [[ $name == [-\<\[]* ]] || COMPREPLY+=("$name")
        done
    fi
}
"#;

const ZSH: &str = r#"
_strongroom_mounted() {
    local -a names
    names=(${(f)"$(_call_program mounted strongroom list --names 2>/dev/null)"})
    (( $#names )) && compadd -a names
}

_strongroom_keyslots() {
    local word
    local -a found numbers shown
    for word in ${words[2,-1]}; do
        word=${(Q)word/#\~\//$HOME/}
        [[ -e $word && $word != -* ]] || continue
        found=(${(f)"$(_call_program keyslots strongroom key list --names -- ${(q)word} </dev/null 2>/dev/null)"})
        (( ! $#found )) || break
    done
    for word in $found; do
        numbers+=(${word%%$'\t'*})
        shown+=("${word/$'\t'/  }")
    done
    (( $#numbers )) && compadd -l -d shown -a numbers
}
"#;

const FISH: &str = r#"
function __strongroom_keyslots
    for word in (commandline -opc)[2..-1]
        set word (string replace -r '^~/' "$HOME/" -- $word)
        if test -f "$word" -o -d "$word" -o -b "$word"
            strongroom key list --names -- $word </dev/null 2>/dev/null; and return
        end
    end
end
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn script(shell: Shell) -> String {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut crate::cli::command(), "strongroom", &mut script);
        with_mounted(shell, &String::from_utf8(script).unwrap())
    }

    #[test]
    fn each_script_asks_what_is_mounted() {
        let bash = script(Shell::Bash);
        assert_eq!(bash.matches("complete -F _strongroom_or_mounted -o").count(), 2, "{bash}");
        assert!(!bash.contains("complete -F _strongroom -o"));
        let zsh = script(Shell::Zsh);
        assert_eq!(zsh.matches(":_strongroom_mounted'").count(), TAKERS.len(), "{zsh}");
        assert_eq!(zsh.matches("\n_strongroom_mounted() {").count(), 1);
        assert!(
            zsh.matches(":_strongroom_keyslots' ").count() > 10
                && !zsh.contains("slot=[Unlock only with this keyslot]:N:_default")
        );
        let fish = script(Shell::Fish);
        assert_eq!(fish.matches("(strongroom list --names").count(), TAKERS.len());
        assert_eq!(fish.matches("'(__strongroom_keyslots)'").count(), SLOTS.len());
        assert!(bash.contains("_strongroom_keyslots \"$word\""));
    }
}
