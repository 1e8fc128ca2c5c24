//! Completion scripts: what clap makes of the options, and what is mounted for `unmount`, `close` and `sync`, which only the program knows.

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
            script.replacen("\n_strongroom() {", &format!("{ZSH}\n_strongroom() {{"), 1)
        }
        Shell::Fish => {
            let line = |command| {
                format!(
                    "complete -c strongroom -n \"__fish_strongroom_using_subcommand {command}\" -f -a '(strongroom list --names 2>/dev/null)'\n"
                )
            };
            format!("{script}{}", TAKERS.map(line).concat())
        }
        _ => script.to_owned(),
    }
}

/// The commands that take what is mounted, and their aliases.
const TAKERS: [&str; 5] = ["unmount", "umount", "dismount", "close", "sync"];

const BASH: &str = r#"
_strongroom_or_mounted() {
    local word=${COMP_WORDS[COMP_CWORD]} given name
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
        assert_eq!(script(Shell::Fish).matches("list --names").count(), TAKERS.len());
    }
}
