//! `resize`: containers grow.

use std::path::Path;

use serde::Serialize;
use strongroom::{
    crypto::rng::OsRng,
    error::Result,
    format::KeyfileRole,
    volume::{Access, grow},
};

use super::{
    args::ResizeOptions,
    interrupt,
    mounting::open,
    output::Console,
    plan::cannot_make,
    progress::{ByteProgress, spin},
    size::show_size,
    unlock::{read_header, settle_format, unlock_with},
};

/// Makes a container larger.
pub(crate) fn run(console: Console, options: &ResizeOptions) -> Result<()> {
    resize(console, options).map_err(|error| cannot_make(error, "resize", &options.container))
}

#[derive(Debug, Serialize)]
struct Resized<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    format: &'static str,
    container_size: u64,
    data_size: u64,
}

fn resize(console: Console, options: &ResizeOptions) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open(path, options.unlock.header_file(), Access::ReadWrite)?;
    settle_format(&mut container, &options.unlock)?;
    let header = read_header(&container)?;
    header.check_growth(options.size)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) =
        unlock_with(console, path, &*header, &options.unlock, options.keyslot.slot)?;
    header.prepare_writing(&*container.storage(), &unlocked)?;
    let growth = interrupt::at_liberty(|| {
        spin(console, "deriving the key", || header.growth(&unlocked, &credentials, options.size, &OsRng))
    })?;
    let format = header.describe_unlocked(&unlocked).format;
    let progress = ByteProgress::start(console, "filling");
    grow(&container, &*growth, &OsRng, &mut |done, total| progress.step(done, total))?;
    drop(progress);

    let resized = Resized {
        container: path,
        format,
        container_size: growth.container_len(),
        data_size: growth.data_len(),
    };
    console.done(&resized, |resized| {
        format!("resized {}: {} for data now", path.display(), show_size(resized.data_size))
    });
    console.note(
        "the file system inside still has its old size: strongroom mount --block, then for ext4 e2fsck -f and resize2fs on DIR/volume",
    );
    if header.keyfile_role() == KeyfileRole::Pool {
        console.note("a hidden volume, if there is one, stays where it is: protect it when the outer file system grows over it");
    }
    Ok(())
}
