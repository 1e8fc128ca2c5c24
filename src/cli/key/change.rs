//! `key change`: another secret in the place of the old one.

use strongroom::{
    crypto::{kdf::Argon2Cost, rng::OsRng, secret::Credentials},
    error::{Error, ErrorKind, Result},
    format::{Change, KdfBounds, KeyfileRole, KeyslotInfo, NewKeyslot},
};

use super::{Edited, commit, find, opaque};
use crate::cli::{
    args::KeyChangeOptions, cost, edit::Editable, interrupt, output::Console, progress::spin, remembered,
    unlock::unlock_with,
};

pub(super) fn run(console: Console, options: &KeyChangeOptions) -> Result<()> {
    let path = options.container.as_path();
    change(console, options)
        .map_err(|error| error.during(format!("cannot change a keyslot of {}", path.display())))
}

fn change(console: Console, options: &KeyChangeOptions) -> Result<()> {
    let path = options.container.as_path();
    let container = Editable::open(console, path, &options.unlock)?;
    let header = container.header()?;
    if header.keyfile_role() == KeyfileRole::Pool {
        return opaque::change(console, options, &container, &*header);
    }
    if header.is_opaque() {
        header.check_change(&Change::Replace { slot: 0, label: None })?;
    }
    if options.seal.is_any() {
        let error = Error::new(ErrorKind::Usage, "--new-prf and --new-pim are for VeraCrypt containers");
        return Err(error);
    }
    if let Some(slot) = options.slot {
        header.check_change(&Change::Replace { slot, label: options.label.as_deref() })?;
    }
    let bounds = header.kdf_bounds();
    cost::check(options.cost, bounds.as_ref())?;
    let given = if options.keep_password {
        options.unlock.check_source_for(&*header)?;
        None
    } else {
        options.new.check_sources(&options.unlock, &*header)?;
        Some(options.new.read_given(console, header.keyfile_role())?)
    };

    // Where the password stays, it must be the one of this very keyslot.
    let unlock_slot = options.unlock_slot.or_else(|| options.slot.filter(|_| options.keep_password));
    let (unlocked, old) = unlock_with(console, path, &*header, &options.unlock, unlock_slot)?;
    let mut editor = header.editor(&unlocked)?;
    let slot = options.slot.or(unlocked.keyslot).ok_or_else(no_keyslot)?;
    let before = find(&editor.keyslots(), slot).cloned().ok_or_else(no_keyslot)?;
    let credentials = match given {
        Some(given) => {
            let new = given.complete(console, path)?;
            if new.is_same(&old) {
                console.warn("the new password is the same as the old one");
            }
            new
        }
        None => old,
    };
    interrupt::at_liberty(|| {
        let new = renewed(console, options, bounds.as_ref(), &before, &credentials)?;
        spin(console, "deriving the key", || editor.replace(slot, &new, &OsRng))
    })?;
    if let Some(token) = before.token.as_ref().filter(|_| !options.keep_password) {
        console
            .warn(&format!("keyslot {slot} belongs to a token ({token}), which will not open it any more"));
    }
    commit(console, &container, &*header, &*editor)?;
    if !options.keep_password {
        remembered::remind(console, path, header.describe().uuid.as_deref())?;
    }

    let keyslots = editor.keyslots();
    let kind = find(&keyslots, slot).map_or("unknown", |keyslot| keyslot.kind);
    let edited = Edited { container: path, keyslot: slot, kind, keyslots, recovery_key: None };
    console.done(&edited, |edited| format!("changed keyslot {} of {}", edited.keyslot, path.display()));
    Ok(())
}

/// The keyslot in the place of `before`: what the options leave open stays.
fn renewed<'a>(
    console: Console,
    options: &'a KeyChangeOptions,
    bounds: Option<&KdfBounds>,
    before: &'a KeyslotInfo,
    credentials: &'a Credentials,
) -> Result<NewKeyslot<'a>> {
    let cost = match bounds {
        Some(bounds) => cost::settle_anew(console, options.cost, bounds, &before.kdf)?,
        None => Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 }.into(),
    };
    console.detail(&format!("strongroom: keyslot {} costs {} now", before.slot, cost::show(&cost)));
    Ok(NewKeyslot {
        slot: Some(before.slot),
        label: options.label.as_deref().or(before.label.as_deref()),
        priority: options.priority.map(Into::into).or(before.priority).unwrap_or_default(),
        cost,
        credentials,
    })
}

fn no_keyslot() -> Error {
    Error::new(ErrorKind::Usage, "it is not known which keyslot to change").with_hint("name it with --slot")
}
