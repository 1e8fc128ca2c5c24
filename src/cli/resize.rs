//! `resize`: containers grow, and become smaller.

mod smaller;

use std::{fmt::Write, path::Path};

use rustix::fs::{fstatfs, fstatvfs};
use serde::Serialize;
use strongroom::{
    block::ByteDevice,
    crypto::{
        rng::OsRng,
        secret::{Credentials, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{Format, Growth, Header, KeyfileRole, Unlocked, native::Native},
    mount::{self, GrownFilesystem, InProcess, Request},
    unlock::HeaderFile,
    volume::{
        Access, Container, Progress, Stranger, Volume, allocated, free_bytes, grow, grow_folder,
        stranger_within,
    },
};

use smaller::make_smaller;

use super::{
    args::ResizeOptions,
    ask, interrupt,
    mounting::{make_whole, open, warn_of_pieces},
    output::Console,
    pin,
    plan::cannot_make,
    progress::{ByteProgress, spin},
    size::{FAT_LARGEST, MSDOS_SUPER_MAGIC, NewSize, ROUNDED, nearly_all, show_size},
    unlock::{open_to_look, read_header, refuse_missing_end, settle_format, unlock_with},
};

/// Gives a container another size.
pub(crate) fn run(console: Console, options: &ResizeOptions) -> Result<()> {
    resize(console, options).map_err(|error| {
        let error = if error.kind() == ErrorKind::Interrupted {
            error.with_hint("the container still opens; the same command ends it")
        } else {
            error
        };
        cannot_make(error, "resize", &options.container)
    })
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
    let opened = open(path, options.unlock.header_file(), Access::ReadWrite);
    let mut container = match opened {
        Err(busy) if busy.kind() == ErrorKind::Busy => return resize_mounted(console, options, busy),
        opened => opened?,
    };
    settle_format(console, &mut container, &options.unlock)?;
    let header = read_header(&container)?;
    let size = bytes(options.size, &container)?;
    let is_smaller = size < container.storage().size()?;
    if !is_smaller {
        header.check_growth(size)?;
    }
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) =
        unlock_with(console, path, &*header, &options.unlock, options.keyslot.slot)?;
    refuse_missing_end(&container, &unlocked)?;
    unlock_pieces(console, path, &container, &*header, &unlocked)?;
    if is_smaller {
        return make_smaller(console, options, (&container, &*header, &unlocked), size);
    }
    let may_hide = header.keyfile_role() == KeyfileRole::Pool;
    if !options.container_only && !may_hide {
        refuse_what_stays(&container, &*header, &unlocked, size)?;
    }
    let (grown, new_key) =
        grow_container(console, &container, &*header, (&unlocked, &credentials), size, options.force)?;
    let key = new_key.as_ref().unwrap_or(&unlocked.volume_key);
    if container.pieces().is_some() {
        // Its header files may be the same, and locked.
        drop(container);
        container = opened_anew(console, path, key)?;
    }
    let way = if options.container_only {
        Way::None
    } else if may_hide {
        Way::InProcess
    } else {
        Way::Any
    };
    let filesystem =
        spin(console, "growing the file system", || grow_filesystem(&container, key.expose(), way))?;
    report(console, path, grown, &filesystem);
    if may_hide {
        console.note(HIDDEN_STAYS);
    }
    Ok(())
}

/// How the file system in a container is made larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    None,
    /// Not by tools, which move things: a hidden volume may be where there is room.
    InProcess,
    Any,
}

/// The same of a container that is mounted, where its server lends it: else `busy` is the answer.
fn resize_mounted(console: Console, options: &ResizeOptions, busy: Error) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open_to_look(path, options.unlock.header_file())?;
    if container.pieces().is_some() {
        // Its server knows the files that it has, and no others.
        return Err(busy);
    }
    let section = container.section();
    if !mount::can_borrow(path, section.as_ref())? {
        return Err(busy);
    }
    settle_format(console, &mut container, &options.unlock)?;
    let header = read_header(&container)?;
    mount::check_mounted(path, section.as_ref())?;
    let size = bytes(options.size, &container)?;
    if size < container.storage().size()? {
        return Err(Error::new(ErrorKind::Busy, "it becomes smaller only while it is not mounted")
            .with_hint("unmount it first"));
    }
    header.check_growth(size)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) =
        unlock_with(console, path, &*header, &options.unlock, options.keyslot.slot)?;
    let may_hide = header.keyfile_role() == KeyfileRole::Pool;
    if !options.container_only && !may_hide {
        refuse_what_stays(&container, &*header, &unlocked, size)?;
    }
    let Some(mut loan) = mount::borrow(path, section.as_ref())? else {
        let reason = "it was unmounted while the password was typed";
        return Err(Error::new(ErrorKind::Busy, reason).with_hint("try again"));
    };
    if let Some(format) = container.assumed() {
        loan.assume_named(format.name())?;
    }
    let container = loan.container();
    let header = read_header(container)?;
    let (grown, new_key) =
        grow_container(console, container, &*header, (&unlocked, &credentials), size, options.force)?;
    let key = new_key.as_ref().unwrap_or(&unlocked.volume_key).expose();
    let mounted = spin(console, "growing the file system", || {
        mount::grow_mounted(path, section.as_ref(), key, options.container_only)
    })?;
    report(console, path, Resizing { data_size: mounted.size, ..grown }, &mounted.filesystem);
    if may_hide {
        console.note(HIDDEN_STAYS);
    }
    Ok(())
}

/// What a container is now.
#[derive(Debug, Clone, Copy)]
struct Resizing {
    format: &'static str,
    container_size: u64,
    data_size: u64,
    is_changed: bool,
}

/// Makes the container itself larger. Gives its volume key, where that is another one now.
fn grow_container(
    console: Console,
    container: &Container,
    header: &dyn Header,
    (unlocked, credentials): (&Unlocked, &Credentials),
    size: u64,
    force: bool,
) -> Result<(Resizing, Option<VolumeKey>)> {
    make_whole(console, container.path(), container, (header, unlocked))?;
    let growth = interrupt::at_liberty(|| {
        spin(console, "deriving the key", || header.growth(unlocked, credentials, size, &OsRng))
    })?;
    if container.pieces().is_none() {
        agree_to_overwrite(console, container, &*growth, force)?;
    }
    let before = header.describe_unlocked(unlocked);
    let format = before.format;
    let is_larger =
        growth.container_len() > container.storage().size()? || growth.data_len() > before.data_size;
    let progress = ByteProgress::start(console, "filling");
    let step: Progress<'_> = &mut |done, total| progress.step(done, total);
    if container.pieces().is_some() {
        grow_folder(container, &unlocked.volume_key, &*growth, &OsRng, step)?;
    } else {
        grow(container, &*growth, &OsRng, step)?;
    }
    drop(progress);
    if format == Native.name() && container.pieces().is_none() {
        pin::advance(console, &*container.storage(), &unlocked.volume_key);
    }
    let (container_size, data_size) = (growth.container_len(), growth.data_len());
    Ok((Resizing { format, container_size, data_size, is_changed: is_larger }, growth.volume_key()?))
}

/// Refuses to grow over what lies behind the container, unless somebody agrees: it may be another's.
fn agree_to_overwrite(
    console: Console,
    container: &Container,
    growth: &dyn Growth,
    force: bool,
) -> Result<()> {
    let storage = container.storage();
    let found = interrupt::at_liberty(|| {
        spin(console, "looking behind the container", || growth.overwrites(&*storage))
    })?;
    let Some(range) = found.filter(|_| !force) else { return Ok(()) };
    let what = stranger_within(&storage, std::slice::from_ref(&range), true)?;
    let len = range.end.saturating_sub(range.start);
    let start = storage.origin().saturating_add(range.start);
    let mut reason = format!("{len} bytes behind its end (byte {start}) would be overwritten");
    if let Some(Stranger { what, .. }) = what {
        let _ = write!(reason, ": {what}");
    }
    if ask::is_possible() {
        return ask::confirm_by(&format!("{reason}. They are lost then."), "overwrite");
    }
    Err(Error::new(ErrorKind::Exists, reason).with_hint(
        "if they are of nobody, or of a resize that an older version did not finish: --force; else copy them elsewhere first",
    ))
}

/// Says what there is now.
fn report(console: Console, container: &Path, done: Resizing, filesystem: &GrownFilesystem) {
    let Resizing { format, container_size, data_size, is_changed } = done;
    let resized = Resized { container, format, container_size, data_size, filesystem: filesystem.grown() };
    console.done(&resized, |resized| {
        let what = resized.filesystem.map_or(String::new(), |name| format!(", {name} file system included"));
        let size = show_size(resized.data_size);
        if is_changed {
            format!("resized {}: {size} for data now{what}", container.display())
        } else {
            format!("{} was as large already: {size} for data{what}", container.display())
        }
    });
    if let Some(note) = note(filesystem) {
        console.note(&note);
    }
}

/// Refuses a file system that will not use the new space of a container of `size` bytes: it could not be given back.
fn refuse_what_stays(
    container: &Container,
    header: &dyn Header,
    unlocked: &Unlocked,
    size: u64,
) -> Result<()> {
    let volume = Volume::open(container, header.describe_unlocked(unlocked), unlocked);
    let device = volume.device();
    let more = size.saturating_sub(container.storage().size()?);
    let len = device.geometry().bytes().saturating_add(more);
    mount::check_growth(&device, len)
}

/// The container's new size in bytes.
fn bytes(size: NewSize, container: &Container) -> Result<u64> {
    let now = container.storage().size()?;
    let too_large = || Error::new(ErrorKind::Usage, "that is too large");
    match size {
        NewSize::To(size) => Ok(size),
        NewSize::By(more) => now.checked_add(more).ok_or_else(too_large),
        NewSize::Max if !container.storage().limits().can_resize && container.pieces().is_none() => Ok(now),
        NewSize::Max => {
            let room = fstatvfs(container.file()).map_err(std::io::Error::from)?;
            let free = nearly_all(free_bytes(&room))?;
            // A thin one has taken less than its size by now.
            let taken = allocated(container)?.min(now);
            let max = taken.checked_add(free).ok_or_else(too_large)?;
            let is_fat = fstatfs(container.file()).is_ok_and(|found| found.f_type == MSDOS_SUPER_MAGIC);
            let max = if is_fat && container.pieces().is_none() { max.min(FAT_LARGEST) } else { max };
            Ok((max / ROUNDED * ROUNDED).max(now))
        }
    }
}

/// Has the pieces of a folder be known, all of which must be there.
pub(crate) fn unlock_pieces(
    console: Console,
    path: &Path,
    container: &Container,
    header: &dyn Header,
    unlocked: &Unlocked,
) -> Result<()> {
    container.unlock_pieces(&header.describe_unlocked(unlocked), unlocked)?;
    warn_of_pieces(console, path, container)
}

/// Opens a folder of pieces that has another size now, which ends what its new header files have begun.
fn opened_anew(console: Console, path: &Path, key: &VolumeKey) -> Result<Container> {
    let container = open(path, HeaderFile::default(), Access::ReadWrite)?;
    let header = read_header(&container)?;
    let unlocked = header.unlock_with_key(VolumeKey::copy_of(key.expose())?)?;
    container.unlock_pieces(&header.describe_unlocked(&unlocked), &unlocked)?;
    header.prepare_writing(&*container.storage(), &unlocked)?;
    pin::advance(console, &*container.storage(), &unlocked.volume_key);
    Ok(container)
}

/// Makes the file system in a volume as large as that. What only the system's tools do, they do to a volume that we serve to ourselves.
fn grow_filesystem(container: &Container, key: &[u8], way: Way) -> Result<GrownFilesystem> {
    let header = read_header(container)?;
    let unlocked = header.unlock_with_key(VolumeKey::copy_of(key)?)?;
    let volume = Volume::open(container, header.describe_unlocked(&unlocked), &unlocked);
    let device = volume.device();
    if way != Way::None {
        match mount::grow_in_process(&device, interrupt::flag())? {
            InProcess::Grown(name) => return Ok(GrownFilesystem::Grown(name)),
            InProcess::Left(Some(why)) if way == Way::Any => mount::require_tool(why)?,
            InProcess::Left(_) => {}
        }
    }
    if way != Way::Any {
        let left = mount::way_to_grow(&ByteDevice::new(device))?;
        return Ok(left.map_or(GrownFilesystem::None, |(name, way)| GrownFilesystem::Left(name, way.into())));
    }
    drop((device, volume));
    let mounted = mount::start(&Request::private(container, key), interrupt::flag())?;
    let grown = mounted.grow_filesystem(interrupt::flag());
    let stopped = mounted.stop(grown.is_err());
    grown.and_then(|grown| stopped.map(|()| grown))
}

/// What is to be known or done afterwards.
fn note(filesystem: &GrownFilesystem) -> Option<String> {
    let GrownFilesystem::Left(name, way) = filesystem else { return None };
    let name = if name.is_empty() { String::new() } else { format!("{name} ") };
    Some(format!("the {name}file system inside still has its old size: {way}"))
}

const HIDDEN_STAYS: &str = "a hidden volume, if there is one, stays where it is: protect it when the outer file system grows over it";
