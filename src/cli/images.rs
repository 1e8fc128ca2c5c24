//! `import` and `export`: whole images into new containers, and the content of containers out, unencrypted.

use std::{
    fs::{File, Metadata, OpenOptions},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;
use serde::Serialize;
use strongroom::{
    block::ByteDevice,
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    format::{HeaderInfo, NewHeader, Provision, Room},
    mount::{Holder, holders_of_file},
    storage::{FileStorage, Storage},
    volume::{
        Access, Container, Draft, Volume, device,
        image::{self, Zeros},
        prepare,
    },
};

use super::{
    args::{ExportOptions, ImportOptions},
    ask, interrupt,
    mounting::open,
    output::Console,
    plan::{Plan, cannot_make, check_target},
    progress::ByteProgress,
    size::show_size,
    unlock::{read_header, settle_format, unlock},
};

/// Makes a container that holds an image.
pub(crate) fn import(console: Console, options: &ImportOptions) -> Result<()> {
    let image = interrupt::asking_at_liberty(&options.image, || open_image(console, &options.image))
        .map_err(|error| error.during(format!("cannot open {}", options.image.display())))?;
    fill_new(console, options, &image).map_err(|error| cannot_make(error, "create", &options.container))
}

#[derive(Debug, Serialize)]
struct Imported<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    image: &'a Path,
    format: &'static str,
    uuid: Option<String>,
    container_size: u64,
    data_size: u64,
    image_size: u64,
    sha256: String,
}

fn fill_new(console: Console, options: &ImportOptions, image: &FileStorage) -> Result<()> {
    let path = options.container.as_path();
    interrupt::asking_at_liberty(path, || refuse_same_file(&image.file().metadata()?, path))?;
    let size = image.size()?;
    let plan = Plan::new(path, &options.new, |drawing, device| {
        let needed = drawing.blueprint(Room::Data(size))?.extent().container_len;
        room(size, needed, device)
    })?;
    plan.confirm(console)?;
    warn_of_padding(console, &plan, size);
    let header = plan.make_header(console)?;

    // From here on the draft takes back what was done, whatever fails.
    let mut draft = interrupt::asking(path, || plan.draft())?;
    let sha256 = fill(console, options, image, &plan, &*header, draft.container())?;
    let header_file = plan.write_header(&mut draft, &*header)?;
    interrupt::check()?;
    plan.commit(console, draft, header_file)?;

    let imported = Imported {
        container: path,
        image: &options.image,
        format: plan.format(),
        uuid: plan.uuid(),
        container_size: plan.extent().container_len,
        data_size: plan.extent().data_len(),
        image_size: size,
        sha256: hex(&sha256),
    };
    console.done(&imported, |made| {
        let (from, to) = (made.image.display(), made.container.display());
        format!("imported {from} into {to}: {}", show_size(made.image_size))
    });
    if !console.is_json() {
        console.note(&plan.advice());
    }
    Ok(())
}

/// Prepares the space and copies the image into it; the header comes last. Gives the image's SHA-256.
fn fill(
    console: Console,
    options: &ImportOptions,
    image: &FileStorage,
    plan: &Plan<'_>,
    header: &dyn NewHeader,
    container: &Container,
) -> Result<[u8; 32]> {
    let before = Stamp::of(image.file())?;
    // A file is as long as the image: the image's own ciphertext is all the random bytes that it takes.
    let provision = match plan.provision {
        Provision::Thick if !plan.is_device() => Provision::Quick,
        provision => provision,
    };
    let progress = ByteProgress::start(console, "filling");
    prepare(container, &plan.extent(), provision, &OsRng, &mut |done, total| progress.step(done, total))?;
    drop(progress);

    let volume = ByteDevice::new(device(container.storage(), header.layout()?));
    let zeros = if plan.provision == Provision::Thin { Zeros::LeftOut } else { Zeros::Written };
    let progress = ByteProgress::start(console, "importing");
    let sha256 = image::import(image, &volume, zeros, &mut |done, total| progress.step(done, total))?;
    drop(progress);
    if Stamp::of(image.file())? != before {
        return Err(Error::new(ErrorKind::Busy, "the image was changed while it was read")
            .with_hint("close the program that uses it, and try again"));
    }
    if !options.no_verify {
        container.forget_cached();
        let progress = ByteProgress::start(console, "verifying");
        let size = image.size()?;
        let found = image::digest_of_volume(&volume, size, &mut |done, total| progress.step(done, total))?;
        check_same(&found, &sha256)?;
    }
    Ok(sha256)
}

/// Writes the content of a container unencrypted.
pub(crate) fn export(console: Console, options: &ExportOptions) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open(path, options.unlock.header_file(), Access::ReadOnly)?;
    settle_format(console, &mut container, &options.unlock)?;
    write_image(console, options, &container).map_err(|error| cannot_make(error, "write", &options.image))
}

#[derive(Debug, Serialize)]
struct Exported<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    image: &'a Path,
    size: u64,
    sha256: String,
}

fn write_image(console: Console, options: &ExportOptions, container: &Container) -> Result<()> {
    let (path, target) = (options.container.as_path(), options.image.as_path());
    let header = read_header(container)?;
    interrupt::asking_at_liberty(target, || refuse_same_file(&container.file().metadata()?, target))?;
    check_target(target, options.force)?;
    options.unlock.check_source_for(&*header)?;
    if !options.yes {
        confirm_cleartext(path, target)?;
    }
    let unlocked = unlock(console, path, &*header, &options.unlock, options.keyslot.slot)?;
    let info = header.describe_unlocked(&unlocked);
    container.unlock_pieces(&info, &unlocked)?;
    check_complete(container, &info)
        .map_err(|error| error.during(format!("cannot export {}", path.display())))?;
    let volume = ByteDevice::new(Volume::open(container, info, &unlocked).device());
    drop(unlocked);

    // From here on the draft takes back what was done, whatever fails.
    let draft = Draft::new(target, options.force, &OsRng)?;
    let image = draft.container().storage();
    // A new file has holes where nothing was written; a device holds what it held.
    let zeros = if image.limits().can_resize { Zeros::LeftOut } else { Zeros::Written };
    let progress = ByteProgress::start(console, "exporting");
    let sha256 = image::export(&volume, &*image, zeros, &mut |done, total| progress.step(done, total))?;
    drop(progress);
    if !options.no_verify {
        draft.container().forget_cached();
        let progress = ByteProgress::start(console, "verifying");
        let found =
            image::digest_of_image(&*image, volume.size(), &mut |done, total| progress.step(done, total))?;
        check_same(&found, &sha256)?;
    }
    interrupt::check()?;
    draft.commit(&OsRng)?;

    let exported = Exported { container: path, image: target, size: volume.size(), sha256: hex(&sha256) };
    console.done(&exported, |made| {
        let (from, to) = (made.container.display(), made.image.display());
        format!("exported {from} to {to}: {}, unencrypted", show_size(made.size))
    });
    Ok(())
}

/// An image would end where the container does: what there is, the other ways of looking at it give.
fn check_complete(container: &Container, info: &HeaderInfo) -> Result<()> {
    let (end, size) = (info.data_offset.saturating_add(info.data_size), container.storage().size()?);
    if size >= end {
        return Ok(());
    }
    let missing = end.saturating_sub(size.max(info.data_offset));
    let reason = format!(
        "the container is cut off: it has {size} bytes, and the last {missing} bytes of its {} bytes of data are missing",
        info.data_size
    );
    Err(Error::new(ErrorKind::Damaged, reason).with_hint(
        "mount --read-only shows the files that are left, mount --block --read-only the volume, for dd or ddrescue to copy",
    ))
}

fn confirm_cleartext(path: &Path, target: &Path) -> Result<()> {
    if !ask::is_possible() {
        let error = Error::new(
            ErrorKind::Usage,
            "it would be written unencrypted, and there is no terminal to ask on",
        );
        return Err(error.with_hint("--yes skips the question"));
    }
    let question =
        format!("{} will hold everything that is in {}, unencrypted.", target.display(), path.display());
    ask::confirm(&question)
}

/// Opens an image for reading. A device or a file that a loop device uses must not change under the copy.
fn open_image(console: Console, path: &Path) -> Result<FileStorage> {
    let open = |extra: OFlags| {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | extra).bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    };
    let mut file = open(OFlags::empty())?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(Error::new(ErrorKind::Usage, "it is neither a file nor a block device"));
    }
    if kind.is_block_device() {
        // Refused while the kernel uses it: mounted, part of RAID, swap.
        file = open(OFlags::EXCL).map_err(|error| Error::from(error).with_hint("unmount it first"))?;
    }
    let holders = holders_of_file(path);
    if let Some(device) = holders.iter().find(|holder| matches!(holder, Holder::Device(_))) {
        let error = Error::new(ErrorKind::Busy, format!("in use by {device}"));
        return Err(error.with_hint("unmount it first"));
    }
    for holder in holders {
        let path = path.display();
        console.warn(&if holder.is_certain() {
            format!("{path} is in use by {holder}, which must not write to it now")
        } else {
            format!("cannot tell who else uses {path}, which must not be written to now: {holder}")
        });
    }
    let storage = FileStorage::new(file)?;
    if storage.size()? == 0 {
        return Err(Error::new(ErrorKind::Usage, "it is empty"));
    }
    Ok(storage)
}

/// What changes when a file is written.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([i64; 4]);

impl Stamp {
    fn of(file: &File) -> Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self([metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()]))
    }
}

fn refuse_same_file(open: &Metadata, target: &Path) -> Result<()> {
    let Ok(there) = std::fs::metadata(target) else { return Ok(()) };
    let is_device = there.file_type().is_block_device() && open.file_type().is_block_device();
    let is_same = (there.dev(), there.ino()) == (open.dev(), open.ino());
    if is_same || (is_device && there.rdev() == open.rdev()) {
        return Err(Error::new(ErrorKind::Usage, "source and target are the same"));
    }
    Ok(())
}

/// The room for an image of so many bytes, for which a container needs `needed`.
fn room(image: u64, needed: u64, device: Option<u64>) -> Result<Room> {
    match device {
        Some(device) if device < needed => {
            let reason =
                format!("the device has {}, and {} are needed", show_size(device), show_size(needed));
            Err(Error::new(ErrorKind::NoSpace, reason))
        }
        Some(device) => Ok(Room::Container(device)),
        None => Ok(Room::Data(image)),
    }
}

/// A volume may have to be longer than the image.
fn warn_of_padding(console: Console, plan: &Plan<'_>, size: u64) {
    let missing = plan.extent().data_len() - size;
    if missing > 0 && !plan.is_device() {
        let why = "a volume has whole blocks, and at least 64 KiB";
        console.warn(&format!("{missing} zero bytes are added to the image's end: {why}"));
    }
}

fn check_same(found: &[u8; 32], expected: &[u8; 32]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, "what was written reads back differently")
        .with_hint("the medium may be failing"))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
