//! `compact`: thin containers give back what is free in them.

use std::{io, path::Path};

use serde::Serialize;
use strongroom::{
    error::{Error, ErrorKind, Result},
    mount,
    volume::{Access, Volume, allocated},
};

use super::{
    args::CompactOptions,
    interrupt,
    mounting::{make_whole, open},
    output::Console,
    plan::cannot_make,
    progress::ByteProgress,
    resize::unlock_pieces,
    size::show_size,
    unlock::{read_header, refuse_missing_end, settle_format, unlock_with},
};

/// Makes a thin container take only the room that its files take.
pub(crate) fn run(console: Console, options: &CompactOptions) -> Result<()> {
    compact(console, options).map_err(|error| {
        let error = match error.kind() {
            ErrorKind::Interrupted => {
                error.with_hint("what was given back by then held nothing; the same command goes on")
            }
            ErrorKind::Busy => error.with_hint(
                "unmount it first; or where the kernel has mounted it, as root: fstrim MOUNTPOINT",
            ),
            _ => error,
        };
        cannot_make(error, "compact", &options.container)
    })
}

#[derive(Debug, Serialize)]
struct Compacted<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    /// Bytes on its medium, before and now.
    allocated_before: u64,
    allocated: u64,
}

fn compact(console: Console, options: &CompactOptions) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open(path, options.unlock.header_file(), Access::ReadWrite)?;
    settle_format(console, &mut container, &options.unlock)?;
    let header = read_header(&container)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, _) = unlock_with(console, path, &*header, &options.unlock, options.keyslot.slot)?;
    refuse_missing_end(&container, &unlocked)?;
    let info = header.describe_unlocked(&unlocked);
    if info.reencryption {
        let hint = format!("strongroom reencrypt {} ends it", strongroom::text::path::command_word(path));
        return Err(Error::new(ErrorKind::Usage, "a re-encryption is under way").with_hint(hint));
    }
    unlock_pieces(console, path, &container, &*header, &unlocked)?;
    make_whole(console, path, &container, (&*header, &unlocked))?;
    let before = allocated(&container)?;
    let volume = Volume::open(&container, info, &unlocked);
    let progress = ByteProgress::start(console, "looking for free space");
    mount::compact(&volume.device(), &mut |done, total| progress.step(done, total))?;
    drop(progress);
    drop(volume);
    if let Some(pieces) = container.pieces() {
        pieces.drop_empty(&mut |_| interrupt::check().map_err(|_| io::ErrorKind::Interrupted.into()))?;
    }
    let compacted =
        Compacted { container: path, allocated_before: before, allocated: allocated(&container)? };
    console.done(&compacted, |compacted| {
        let (given, left) = (before.saturating_sub(compacted.allocated), show_size(compacted.allocated));
        if given == 0 {
            return format!("{} has nothing to give back: it takes {left}", path.display());
        }
        format!("{} takes {left} now: {} given back", path.display(), show_size(given))
    });
    Ok(())
}
