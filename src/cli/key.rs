//! `key ...`: the keyslots of a container.

mod add;
mod change;
pub(super) mod opaque;
mod remove;

use std::path::Path;

use serde::Serialize;
use strongroom::{
    error::{Error, ErrorKind, Result},
    format::{Editor, Finding, Header, KeyslotInfo, Object, Priority, Severity, Unlocked},
    text::excerpt,
    volume::{Container, check_file_system},
};

use super::{
    args::{KeyCommand, KeyListOptions, KeyTestOptions, PriorityChoice},
    edit::Editable,
    info::{describe_header, describe_keyslots},
    interrupt,
    output::{Console, print},
    pin,
    unlock::{inspect_header, missing_part, unlock},
};

/// Runs one of the `key` commands.
pub(crate) fn run(console: Console, command: &KeyCommand) -> Result<()> {
    match command {
        KeyCommand::List(options) => list(console, options),
        KeyCommand::Test(options) => test(console, options),
        KeyCommand::Add(options) => add::run(console, options),
        KeyCommand::Change(options) => change::run(console, options),
        KeyCommand::Remove(options) => remove::run(console, options),
    }
}

#[derive(Debug, Serialize)]
struct Keyslots {
    keyslots: Vec<KeyslotInfo>,
}

fn list(console: Console, options: &KeyListOptions) -> Result<()> {
    let names_only = options.names;
    let options = &options.info;
    let (header, _) = inspect_header(console, &options.container, &options.unlock)?;
    if names_only {
        // Who completes a line is asked for nothing.
        let keyslots = if header.is_opaque() { Vec::new() } else { header.describe().keyslots };
        return print(&keyslots.iter().map(line).collect::<String>());
    }
    let keyslots = describe_header(console, options, &*header)?.keyslots;
    console.result(&Keyslots { keyslots }, |list| describe_keyslots(&list.keyslots))
}

/// A keyslot as completion scripts read it. Its label is as foreign as the header.
fn line(keyslot: &KeyslotInfo) -> String {
    let label = keyslot.label.as_deref().map(|label| format!(", {}", excerpt(label)));
    let label = label.unwrap_or_default();
    format!("{}\t{}{label}\n", keyslot.slot, keyslot.kind)
}

#[derive(Debug, Serialize)]
struct Tested<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    opens: bool,
    keyslot: Option<u32>,
}

/// Wrong credentials are an error as everywhere: the exit status is the answer. So is a container whose end is missing: what opens it
/// opens no more than is there.
fn test(console: Console, options: &KeyTestOptions) -> Result<()> {
    let (header, container) = inspect_header(console, &options.container, &options.unlock)?;
    options.unlock.check_source_for(&*header)?;
    let unlocked = unlock(console, &options.container, &*header, &options.unlock, options.keyslot.slot)?;
    let opened =
        unlocked.keyslot.map_or_else(|| "it opens".to_owned(), |slot| format!("keyslot {slot} opens"));
    if let Some(container) = &container
        && let Some(missing) = missing(container, &*header, &unlocked)?
    {
        return Err(Error::new(ErrorKind::Damaged, format!("{opened}, but {missing}"))
            .during(format!("cannot use all of {}", options.container.display()))
            .with_hint("take a whole copy of it, if there is one; mount --read-only opens what is left"));
    }
    if let Some(container) = &container {
        warn_of_end(console, &options.container, container);
    }
    let tested = Tested { container: &options.container, opens: true, keyslot: unlocked.keyslot };
    console.result(&tested, |tested| match tested.keyslot {
        Some(slot) => format!("keyslot {slot} opens\n"),
        None => "the container opens\n".to_owned(),
    })
}

/// A word where the end of a container is odd, and nothing tells how long it should be.
fn warn_of_end(console: Console, path: &Path, container: &Container) {
    let found = container.format().and_then(|format| format.check(&*container.storage()));
    let is_told = |finding: &Finding| finding.object == Object::Data && finding.severity == Severity::Warning;
    for finding in found.unwrap_or_default().into_iter().filter(is_told) {
        console.warn(&format!("{}: {}", path.display(), finding.message));
    }
}

/// What is missing of a container that was unlocked, as far as its header or the file system in it tells.
fn missing(container: &Container, header: &dyn Header, unlocked: &Unlocked) -> Result<Option<String>> {
    if let Some(missing) = missing_part(container, &header.describe_unlocked(unlocked))? {
        return Ok(Some(missing));
    }
    let mut found =
        if header.is_opaque() { header.check_unlocked(&*container.storage(), unlocked) } else { Vec::new() };
    // What cannot be read or is not known is nothing that is missing.
    found.extend(check_file_system(container, unlocked).ok().flatten());
    let gravest = found.into_iter().find(|finding| finding.severity == Severity::Error);
    Ok(gravest.map(|finding| format!("{}: {}", finding.object, finding.message)))
}

/// What `add`, `change` and `remove` tell.
#[derive(Debug, Serialize)]
struct Edited<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    keyslot: u32,
    kind: &'static str,
    keyslots: Vec<KeyslotInfo>,
    /// Digits and dashes: the only time that they are printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<&'a str>,
}

/// Writes what was edited, after what that risks was told, and lets a pin follow. The last moment at which Ctrl-C leaves
/// everything as it was is just before.
fn commit(console: Console, container: &Editable, header: &dyn Header, editor: &dyn Editor) -> Result<()> {
    for risk in editor.risks() {
        console.warn(&risk);
    }
    interrupt::check()?;
    container.write(|storage| editor.commit(storage))?;
    pin::follow(container.path(), header, &*container.header()?)
}

/// The keyslot with this number.
fn find(keyslots: &[KeyslotInfo], slot: u32) -> Option<&KeyslotInfo> {
    keyslots.iter().find(|keyslot| keyslot.slot == slot)
}

impl From<PriorityChoice> for Priority {
    fn from(choice: PriorityChoice) -> Self {
        match choice {
            PriorityChoice::Prefer => Self::Prefer,
            PriorityChoice::Normal => Self::Normal,
            PriorityChoice::Ignore => Self::Ignore,
        }
    }
}
