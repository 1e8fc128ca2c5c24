//! The command's side of a volume that grows while it is mounted.

use std::{io, ops::Range, path::Path, sync::atomic::AtomicBool, time::Duration};

use super::{
    filesystem::{Contents, Superblock},
    growfs::{CANNOT, COPY, GrownFilesystem},
    program,
    protocol::{self, Command, Outcome},
    registry::living,
    session::CONTROL,
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::{process::may_resize_ext, socket::connect},
};

/// A volume that has grown under its users.
#[derive(Debug)]
pub struct GrownMount {
    /// Its size in bytes.
    pub size: u64,
    /// What became of the file system in it.
    pub filesystem: GrownFilesystem,
}

/// Refuses a mounted volume that cannot grow before it is unmounted.
///
/// # Errors
/// `Busy`.
pub fn check_mounted(path: &Path, section: Option<&Range<u64>>) -> Result<()> {
    let is_protected = living(path, section).is_some_and(|(_, record)| record.entry.protection.is_some());
    if !is_protected {
        return Ok(());
    }
    let reason = "it does not grow while a hidden volume in it is protected";
    Err(Error::new(ErrorKind::Busy, reason).with_hint("unmount it first"))
}

/// Has the server of the mounted volume whose container is at `path` show what the container has gained; `key` is the volume key. Then
/// makes the file system as large, where the kernel has it mounted and can do so; with `container_only` that stays as it is.
///
/// # Errors
/// `NotFound` where it is not mounted any more; `Unsupported` where the volume cannot grow while it is mounted. The container has its
/// new size all the same.
pub fn grow_mounted(
    path: &Path,
    section: Option<&Range<u64>>,
    key: &[u8],
    container_only: bool,
) -> Result<GrownMount> {
    let gone = || Error::new(ErrorKind::NotFound, "it was unmounted meanwhile, and has its new size");
    let (directory, record) = living(path, section).ok_or_else(gone)?;
    let (size, is_seen) = match ask(&directory.join(CONTROL), key) {
        Ok(Outcome::Grown { size, is_seen }) => (size, is_seen),
        Ok(Outcome::Failed(failure)) => return Err(failure.into()),
        Ok(_) => return Err(no_answer("another answer")),
        Err(error) => return Err(no_answer(&error.kind().to_string())),
    };
    let filesystem = match (&record.loop_device, &record.entry.mountpoint) {
        _ if container_only => GrownFilesystem::None,
        (None, Some(_)) if record.entry.driver == BUILTIN => grow_served(&directory.join(CONTROL))?,
        (Some(device), Some(mountpoint)) if is_seen => grow_filesystem(device, mountpoint)?,
        (_, None) => GrownFilesystem::None,
        _ => GrownFilesystem::Left("", AFTERWARDS.into()),
    };
    Ok(GrownMount { size, filesystem })
}

/// With the tools that have the kernel do it.
fn grow_filesystem(device: &Path, mountpoint: &Path) -> Result<GrownFilesystem> {
    let contents = Superblock::probe(device)?.contents;
    let name = contents.kernel_name().unwrap_or_default();
    let (tool, package, target, before): (_, _, _, &[&str]) = match contents {
        Contents::Ext { .. } => ("resize2fs", "e2fsprogs", device, &[]),
        Contents::Xfs => ("xfs_growfs", "xfsprogs", mountpoint, &[]),
        Contents::Btrfs => ("btrfs", "btrfs-progs", mountpoint, &["filesystem", "resize", "max"]),
        _ => return Ok(GrownFilesystem::Left(name, AFTERWARDS.into())),
    };
    if matches!(contents, Contents::Ext { .. }) && !may_resize_ext() {
        return Ok(GrownFilesystem::Left(name, WITHOUT_PRIVILEGE.into()));
    }
    let grown = program::require(tool, package).and_then(|tool| {
        program::run(program::command(tool).args(before).arg(target), &AtomicBool::new(false))
    });
    let during = |error: Error| error.during(CANNOT);
    let grown = grown.map_err(during)?;
    if grown.status == Some(0) {
        return Ok(GrownFilesystem::Grown(name));
    }
    Err(during(
        Error::new(ErrorKind::Io, format!("{tool}: {}", grown.reason()))
            .with_hint("the volume has its new size, and the files are there; the same command tries again"),
    ))
}

/// By the server, which serves it itself. That takes as long as it takes.
fn grow_served(control: &Path) -> Result<GrownFilesystem> {
    let asked = connect(control).and_then(|stream| {
        protocol::send(&stream, &Command::GrowFiles)?;
        protocol::receive(&stream)
    });
    match asked {
        Ok(Outcome::FilesGrown { filesystem, left }) => {
            let name = SERVED.into_iter().find(|name| *name == filesystem).unwrap_or_default();
            Ok(match left {
                None => GrownFilesystem::Grown(name),
                Some(why) if why.is_empty() => GrownFilesystem::Left(name, COPY.into()),
                Some(why) => GrownFilesystem::Left(name, format!("{why}; {AFTERWARDS}").into()),
            })
        }
        Ok(Outcome::Failed(failure)) => Err(Error::from(failure)
            .during(CANNOT)
            .with_hint("the volume has its new size, and the files are there; the same command tries again")),
        // A server of an older version does not know how.
        _ => Ok(GrownFilesystem::Left("", AFTERWARDS.into())),
    }
}

fn ask(control: &Path, key: &[u8]) -> io::Result<Outcome> {
    let stream = connect(control)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    protocol::send(&stream, &Command::Grow)?;
    match protocol::receive(&stream)? {
        Outcome::Proceed => {
            protocol::send_with_key(&stream, &[], key)?;
            protocol::receive(&stream)
        }
        answer => Ok(answer),
    }
}

fn no_answer(what: &str) -> Error {
    Error::new(ErrorKind::Io, format!("the server of the volume does not answer ({what})"))
        .with_hint("the container has its new size; the volume has it at the next mount")
}

/// The driver whose file systems the server serves, and which of these grow.
const BUILTIN: &str = "builtin";
const SERVED: [&str; 1] = ["ext4"];
const AFTERWARDS: &str = "unmount it, and give the same command again";
const WITHOUT_PRIVILEGE: &str =
    "while it is mounted that takes CAP_SYS_RESOURCE; unmount it, and give the same command again";
/// Longer than a server takes for another command that it has just begun.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
