//! Roff of what clap knows: synopsis, arguments, examples.

use clap::{Arg, Command};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// A command that does something, with the words that call it.
pub(super) struct Leaf<'a> {
    pub(super) path: String,
    pub(super) command: &'a Command,
    /// Options that every command has are described once.
    shared: &'a Command,
}

impl<'a> Leaf<'a> {
    /// What the command does, in one sentence without its full stop.
    pub(super) fn about(&self) -> String {
        self.command.get_about().map(ToString::to_string).unwrap_or_default()
    }

    fn arguments(&self) -> impl Iterator<Item = &'a Arg> {
        self.command.get_arguments().filter(|argument| {
            let is_shared = self.shared.get_arguments().any(|shared| shared.get_id() == argument.get_id());
            !is_shared && !argument.is_hide_set() && argument.get_id() != "help"
        })
    }
}

/// All commands below `command` that do something, in the order of its help.
pub(super) fn leaves<'a>(shared: &'a Command, command: &'a Command, path: &str) -> Vec<Leaf<'a>> {
    let mut found = Vec::new();
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        let path = format!("{path} {}", child.get_name());
        if child.has_subcommands() {
            found.extend(leaves(shared, child, &path));
        } else {
            found.push(Leaf { path, command: child, shared });
        }
    }
    found
}

/// The options that several of the commands take in the same words, in the order in which they come up.
pub(super) fn common_arguments<'a>(all: &[Leaf<'a>]) -> Vec<&'a Arg> {
    let mut common: Vec<&Arg> = Vec::new();
    for argument in all.iter().flat_map(Leaf::arguments).filter(|argument| !argument.is_positional()) {
        let takers = all.iter().filter(|leaf| leaf.arguments().any(|other| is_same(other, argument))).count();
        if takers >= SEVERAL && !common.iter().any(|known| is_same(known, argument)) {
            common.push(argument);
        }
    }
    common
}

/// One line of the synopsis.
pub(super) fn usage(leaf: &Leaf<'_>) -> Vec<Inline> {
    let mut line = vec![bold(leaf.path.as_str())];
    for argument in leaf.arguments().filter(|argument| argument.is_positional()) {
        let name = value_name(argument);
        let shown = if argument.is_required_set() { name } else { format!("[{name}]") };
        line.extend([roman(" "), italic(shown)]);
    }
    line.push(roman(" [options]"));
    line
}

/// What the command does and takes. Of what is in `common` it gives the names only.
pub(super) fn describe(roff: &mut Roff, leaf: &Leaf<'_>, common: &[&Arg]) {
    let aliases: Vec<_> = leaf.command.get_visible_aliases().collect();
    let also =
        if aliases.is_empty() { String::new() } else { format!(" Also called {}.", aliases.join(", ")) };
    roff.text([roman(format!("{}.{also}", leaf.about()))]);
    if let Some(about) = leaf.command.get_long_about() {
        for paragraph in about.to_string().split("\n\n").skip(1) {
            roff.control("PP", []).text([roman(paragraph)]);
        }
    }
    let is_common = |argument: &Arg| common.iter().any(|known| is_same(known, argument));
    for argument in leaf.arguments().filter(|argument| !is_common(argument)) {
        describe_argument(roff, argument);
    }
    let names: Vec<_> = leaf.arguments().filter(|argument| is_common(argument)).map(names).collect();
    if !names.is_empty() {
        roff.control("PP", []).text([roman(format!("Also {} (see COMMON OPTIONS).", names.join("; ")))]);
    }
    if let Some(examples) = leaf.command.get_after_help() {
        roff.control("PP", []).text([roman("Examples:")]);
        roff.control("PP", []).control("nf", []);
        for line in examples.to_string().lines().skip(1) {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
}

/// An argument with its values and what it says.
pub(super) fn describe_argument(roff: &mut Roff, argument: &Arg) {
    let mut header = Vec::new();
    if argument.is_positional() {
        header.push(italic(value_name(argument)));
    } else {
        header.push(bold(names(argument)));
        if argument.get_action().takes_values() {
            header.extend([roman(" "), italic(value_name(argument))]);
        }
    }
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    roff.control("TP", []).text(header).text([roman(help)]);

    let values = argument.get_possible_values();
    if argument.get_action().takes_values() && !values.is_empty() {
        let values = values.iter().map(|value| match value.get_help() {
            Some(help) => format!("{} ({help})", value.get_name()),
            None => value.get_name().to_owned(),
        });
        roff.control("br", []).text([roman(format!("One of: {}.", values.collect::<Vec<_>>().join(", ")))]);
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        roff.control("br", []).text([roman(format!("Default: {}.", defaults.join(", ")))]);
    }
}

/// Both names of an option: `-k, --keyfile`.
fn names(argument: &Arg) -> String {
    let short = argument.get_short().map(|letter| format!("-{letter}"));
    let long = argument.get_long().map(|name| format!("--{name}"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

/// Whether both are one option in the same words.
fn is_same(one: &Arg, other: &Arg) -> bool {
    one.get_id() == other.get_id()
        && one.get_help().map(ToString::to_string) == other.get_help().map(ToString::to_string)
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string)
}

/// A section of paragraphs, parted by blank lines. A line that begins with `# ` heads those that follow it.
pub(super) fn section(roff: &mut Roff, name: &str, text: &str) {
    roff.control("SH", [name]);
    for (index, paragraph) in text.split("\n\n").enumerate() {
        if let Some(head) = paragraph.strip_prefix("# ") {
            roff.control("SS", [head]);
            continue;
        }
        if index > 0 {
            roff.control("PP", []);
        }
        for line in paragraph.lines() {
            roff.text([roman(line)]);
        }
    }
}

/// So many commands make an option a common one.
const SEVERAL: usize = 3;
