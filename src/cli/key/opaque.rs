//! `key change` on a TrueCrypt or VeraCrypt container: its one password, PIM, function and keyfiles.

use strongroom::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Header,
        veracrypt::{Locking, NewHeaders, Opened},
    },
    storage::Storage,
};

use super::Edited;
use crate::cli::{
    args::{CostOptions, KeyChangeOptions},
    edit::Editable,
    header::opaque::refuse_signature,
    interrupt,
    output::Console,
    progress::spin,
    unlock::unlock_with,
};

pub(super) fn change(
    console: Console,
    options: &KeyChangeOptions,
    container: &Editable,
    header: &dyn Header,
) -> Result<()> {
    let path = options.container.as_path();
    check(options)?;
    refuse_signature(path, &*container.storage())?;
    let given = if options.keep_password {
        options.unlock.check_source_for(header)?;
        None
    } else {
        options.new.check_sources(&options.unlock, header)?;
        Some(options.new.read_given(console, header.keyfile_role())?)
    };
    let (unlocked, old) = unlock_with(console, path, header, &options.unlock, None)?;
    let opened = Opened::of_key(&unlocked.volume_key)?;
    let new = given.map(|given| given.complete(console, path)).transpose()?;
    let locking = Locking {
        credentials: new.as_ref().unwrap_or(&old),
        prf: options.seal.new_prf.unwrap_or(opened.prf),
        pim: options.seal.new_pim.unwrap_or(opened.pim),
    };
    let headers = interrupt::at_liberty(|| {
        spin(console, "deriving the key", || {
            let storage = container.storage();
            let attempt = Attempt { limits: options.unlock.limits(header)?, ..Attempt::default() };
            NewHeaders::new(&opened, &*storage, &locking, (&old, &attempt), &OsRng)
        })
    })?;
    interrupt::check()?;
    container.write(|storage| headers.write(storage))?;

    let keyslots = header.describe_unlocked(&unlocked).keyslots;
    let edited = Edited { container: path, keyslot: 0, kind: "password", keyslots, recovery_key: None };
    let which = if opened.place.is_hidden() { "the hidden volume in " } else { "" };
    console.done(&edited, |_| format!("changed what opens {which}{}", path.display()));
    tell_of_copy(console, &opened, &headers, &*container.storage())?;
    for offset in headers.left_behind() {
        console.note(&format!(
            "the container is longer than its header says: an old copy of the header, at byte {offset}, opened with the old password and was overwritten"
        ));
    }
    console.note(
        "copies of the container and backups of its header from before still open with the old password",
    );
    Ok(())
}

/// Says where the copy of the header stands in what is longer than the container.
pub(in crate::cli) fn tell_of_copy(
    console: Console,
    opened: &Opened,
    headers: &NewHeaders,
    storage: &dyn Storage,
) -> Result<()> {
    let Some(end) = opened.container_len() else { return Ok(()) };
    let (more, at) = (storage.size()?.saturating_sub(end), headers.copy_at());
    if at < end && more >= COPIES_LEN {
        let at = storage.origin().saturating_add(at);
        console.note(&format!(
            "{more} bytes lie behind the container and stay as they are: its backup header is at byte {at}, where the container ends"
        ));
    }
    Ok(())
}

/// What keyslots have and these headers do not.
fn check(options: &KeyChangeOptions) -> Result<()> {
    let has_slot = options.slot.or(options.unlock_slot).is_some_and(|slot| slot != 0);
    if has_slot
        || options.label.is_some()
        || options.priority.is_some()
        || options.cost != CostOptions::default()
    {
        return Err(Error::new(
            ErrorKind::Usage,
            "a TrueCrypt or VeraCrypt header has no keyslots, labels or costs of its own",
        )
        .with_hint("--new-prf and --new-pim say what opening it costs"));
    }
    Ok(())
}

/// What the copies take at a container's end.
const COPIES_LEN: u64 = 128 << 10;
