//! `key add`: one more way to open the container.

use strongroom::{
    crypto::rng::OsRng,
    error::Result,
    format::{Change, NewKeyslot},
};

use super::{Edited, commit, find};
use crate::cli::{
    args::KeyAddOptions, cost, edit::Editable, interrupt, output::Console, progress::spin, unlock::unlock,
};

pub(super) fn run(console: Console, options: &KeyAddOptions) -> Result<()> {
    let path = options.container.as_path();
    add(console, options).map_err(|error| error.during(format!("cannot add a keyslot to {}", path.display())))
}

fn add(console: Console, options: &KeyAddOptions) -> Result<()> {
    let path = options.container.as_path();
    let label = options.label.as_deref();
    let container = Editable::open(path)?;
    let header = container.header()?;
    header.check_change(&Change::Add { slot: options.slot, label })?;
    options.new.check_sources(&options.unlock.secrets)?;
    let given = options.new.read_given()?;

    let unlocked = unlock(console, path, &*header, &options.unlock, options.unlock_slot)?;
    let mut editor = header.editor(&unlocked)?;
    let credentials = given.complete(path, |weakness| console.warn(weakness))?;
    let slot = interrupt::at_liberty(|| {
        let cost = cost::settle(console, options.cost)?;
        console.detail(&format!("strongroom: the new keyslot costs {}", cost::show(&cost)));
        let new = NewKeyslot {
            slot: options.slot,
            label,
            priority: options.priority.into(),
            cost,
            credentials: &credentials,
        };
        spin(console, "deriving the key", || editor.add(&new, &OsRng))
    })?;
    commit(&container, &*editor)?;

    let keyslots = editor.keyslots();
    let kind = find(&keyslots, slot).map_or("unknown", |keyslot| keyslot.kind);
    let edited = Edited { container: path, keyslot: slot, kind, keyslots };
    console.done(&edited, |edited| format!("added keyslot {} to {}", edited.keyslot, path.display()))
}
