//! `resize`: containers grow.

use std::path::Path;

use rustix::fs::fstatvfs;
use serde::Serialize;
use strongroom::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    format::KeyfileRole,
    mount::{self, GrownFilesystem, Request, Target},
    volume::{Access, Container, grow},
};

use super::{
    args::ResizeOptions,
    interrupt,
    mounting::open,
    output::Console,
    plan::cannot_make,
    progress::{ByteProgress, spin},
    size::{NewSize, show_size},
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
    /// The file system that has grown with it.
    filesystem: Option<&'static str>,
}

fn resize(console: Console, options: &ResizeOptions) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open(path, options.unlock.header_file(), Access::ReadWrite)?;
    settle_format(&mut container, &options.unlock)?;
    let header = read_header(&container)?;
    let size = bytes(options.size, &container)?;
    header.check_growth(size)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) =
        unlock_with(console, path, &*header, &options.unlock, options.keyslot.slot)?;
    header.prepare_writing(&*container.storage(), &unlocked)?;
    let growth = interrupt::at_liberty(|| {
        spin(console, "deriving the key", || header.growth(&unlocked, &credentials, size, &OsRng))
    })?;
    let format = header.describe_unlocked(&unlocked).format;
    let may_hide = header.keyfile_role() == KeyfileRole::Pool;
    let progress = ByteProgress::start(console, "filling");
    grow(&container, &*growth, &OsRng, &mut |done, total| progress.step(done, total))?;
    drop(progress);

    let filesystem = if options.container_only || may_hide {
        None
    } else {
        Some(spin(console, "growing the file system", || {
            grow_filesystem(&container, unlocked.volume_key.expose())
        })?)
    };
    let resized = Resized {
        container: path,
        format,
        container_size: growth.container_len(),
        data_size: growth.data_len(),
        filesystem: filesystem.and_then(GrownFilesystem::grown),
    };
    console.done(&resized, |resized| {
        let what = resized.filesystem.map_or(String::new(), |name| format!(", {name} file system included"));
        format!("resized {}: {} for data now{what}", path.display(), show_size(resized.data_size))
    });
    for note in notes(filesystem, format) {
        console.note(&note);
    }
    if may_hide {
        console.note("a hidden volume, if there is one, stays where it is: protect it when the outer file system grows over it");
    }
    Ok(())
}

/// The container's new size in bytes.
fn bytes(size: NewSize, container: &Container) -> Result<u64> {
    let now = container.storage().size()?;
    let too_large = || Error::new(ErrorKind::Usage, "that is too large");
    match size {
        NewSize::To(size) => Ok(size),
        NewSize::By(more) => now.checked_add(more).ok_or_else(too_large),
        NewSize::Max if !container.storage().limits().can_resize => Ok(now),
        NewSize::Max => {
            let room = fstatvfs(container.file()).map_err(std::io::Error::from)?;
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            // The file system needs some of it to keep account of the file.
            let left = (free / 256).max(LEAST_LEFT);
            let max = now.checked_add(free.saturating_sub(left)).ok_or_else(too_large)?;
            // Of a file that cannot be longer, FAT's for one, nobody can say so but by trying.
            Ok(max / LEAST_LEFT * LEAST_LEFT)
        }
    }
}

/// Serves the volume to ourselves, and makes the file system in it as large as that.
fn grow_filesystem(container: &Container, key: &[u8]) -> Result<GrownFilesystem> {
    let request = Request { container, fingerprint: None, key, target: Target::Private };
    let mounted = mount::start(&request, interrupt::flag())?;
    let grown = mounted.grow_filesystem(interrupt::flag());
    let stopped = mounted.stop(grown.is_err());
    grown.and_then(|grown| stopped.map(|()| grown))
}

/// What is to be known or done afterwards.
fn notes(filesystem: Option<GrownFilesystem>, format: &str) -> Vec<String> {
    let mut notes = Vec::new();
    match filesystem {
        Some(GrownFilesystem::Left(name, Some(way))) => {
            notes.push(format!("the {name} file system inside still has its old size: {way}"));
        }
        Some(GrownFilesystem::Left(name, None)) => notes.push(format!(
            "the {name} file system inside keeps its old size, and nothing here makes it larger: to use the new space, make a new \
             container and copy the files"
        )),
        Some(GrownFilesystem::Grown(_) | GrownFilesystem::None) => {}
        None => notes.push(
            "the file system inside still has its old size: strongroom mount --block, then for ext4 e2fsck -f and resize2fs on \
             DIR/volume"
                .to_owned(),
        ),
    }
    if format == "native" {
        notes.push(
            "a backup of the header from before does not fit any more: make a new one with strongroom header backup".to_owned(),
        );
    }
    notes
}

/// Bytes.
const LEAST_LEFT: u64 = 1 << 20;
