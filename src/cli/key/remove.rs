//! `key remove`: a secret stops opening the container.

use strongroom::{
    error::{Error, ErrorKind, Result},
    format::{Change, KeyslotInfo},
};

use super::{Edited, commit, find};
use crate::cli::{
    args::KeyRemoveOptions, ask, edit::Editable, info::counted, output::Console, remembered,
    unlock::unlock_with,
};

pub(super) fn run(console: Console, options: &KeyRemoveOptions) -> Result<()> {
    let path = options.container.as_path();
    remove(console, options)
        .map_err(|error| error.during(format!("cannot remove a keyslot from {}", path.display())))
}

fn remove(console: Console, options: &KeyRemoveOptions) -> Result<()> {
    let path = options.container.as_path();
    let container = Editable::open(console, path, &options.unlock)?;
    let header = container.header()?;
    // Where nothing is known yet, keyslot 0 stands for what the password opens.
    if let Some(slot) = options.slot.or(header.is_opaque().then_some(0)) {
        header.check_change(&Change::Remove { slot, lock_out: options.force })?;
    } else if !options.yes && !ask::is_possible() {
        let reason =
            "this would remove the keyslot that you unlocked with, and there is no terminal to ask on";
        return Err(
            Error::new(ErrorKind::Usage, reason).with_hint("name it with --slot, or answer with --yes")
        );
    }
    options.unlock.check_source_for(&*header)?;

    let (unlocked, _) = unlock_with(console, path, &*header, &options.unlock, options.unlock_slot)?;
    let mut editor = header.editor(&unlocked)?;
    let Some(slot) = options.slot.or(unlocked.keyslot) else {
        let reason = "it is not known which keyslot to remove";
        return Err(Error::new(ErrorKind::Usage, reason).with_hint("name it with --slot"));
    };
    let doomed = find(&editor.keyslots(), slot).cloned();
    // Whoever has the secret of a keyslot that stays is not locked out.
    let stays = unlocked.keyslot.is_some_and(|opened| opened != slot);
    editor.remove(slot, options.force || stays)?;
    let keyslots = editor.keyslots();
    confirm(options, slot, doomed.as_ref(), &keyslots)?;
    commit(console, &container, &*header, &*editor)?;
    remembered::remind(console, path, header.describe().uuid.as_deref())?;

    let kind = doomed.map_or("unknown", |keyslot| keyslot.kind);
    let edited = Edited { container: path, keyslot: slot, kind, keyslots, recovery_key: None };
    console.done(&edited, |edited| {
        let left = u32::try_from(edited.keyslots.len()).unwrap_or(u32::MAX);
        let left = counted(left, "keyslot", "keyslots");
        format!("removed keyslot {slot} from {}; {left} left", path.display())
    });
    Ok(())
}

/// Lets the user say no, where there is a terminal to say it on.
fn confirm(
    options: &KeyRemoveOptions,
    slot: u32,
    doomed: Option<&KeyslotInfo>,
    left: &[KeyslotInfo],
) -> Result<()> {
    let is_last = left.is_empty();
    if options.yes || !ask::is_expected() && !is_last {
        return Ok(());
    }
    if !ask::is_possible() {
        let reason = "nobody could open the container again, and there is no terminal to ask on";
        return Err(Error::new(ErrorKind::Usage, reason).with_hint("--yes skips the question"));
    }
    let label = doomed.and_then(|keyslot| keyslot.label.as_ref());
    let label = label.map(|label| format!(", {label:?}")).unwrap_or_default();
    let kind = doomed.map_or("unknown", |keyslot| keyslot.kind);
    let end = match left.iter().all(|keyslot| keyslot.token.is_some()) {
        _ if is_last => LAST,
        true => TOKEN_ALONE,
        false => "",
    };
    let question =
        format!("Keyslot {slot} ({kind}{label}) of {} will be removed.{end}", options.container.display());
    ask::confirm(&question)
}

const TOKEN_ALONE: &str = " After that only a token opens the container: no password does.";
const LAST: &str =
    " It is the last one: nobody will be able to open the container, and all that is in it is lost.";
