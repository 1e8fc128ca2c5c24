//! `create`: everything that can be refused is refused before the password is asked for; nothing stays of what fails.

use std::path::PathBuf;

use serde::Serialize;
use strongroom::{
    crypto::{
        rng::{OsRng, Rng},
        secret::VolumeKey,
    },
    error::{Error, ErrorKind, Result},
    format::{KeyfileRole, Provision, Room},
    mount::{self, FilesystemKind, NewFilesystem, Request, Target},
    sys::user::User,
    volume::{Container, Volume, prepare},
};

use super::{
    args::{CreateOptions, FileSystemChoice},
    hidden, interrupt,
    output::Console,
    plan::{Plan, cannot_make},
    progress::{ByteProgress, spin},
    size::show_size,
};

/// Makes a container.
pub(crate) fn run(console: Console, options: &CreateOptions) -> Result<()> {
    let done = if options.hidden { hidden::create(console, options) } else { create(console, options) };
    done.map_err(|error| cannot_make(error, "create", &options.container))
}

fn create(console: Console, options: &CreateOptions) -> Result<()> {
    let (summary, advice, ()) = make(console, options, || Ok(()))?;
    console.done(&summary, |made| {
        let (path, size) = (options.container.display(), show_size(made.data_size));
        format!("created {path}: {size} for data, {}", made.contents())
    });
    if !console.is_json() {
        console.note(&advice);
    }
    Ok(())
}

/// Makes it, and says nothing of that yet: gives what was made, what to do now, and what `begin` gave. That is called when the
/// password is known and nothing is made; whatever fails later drops it.
pub(super) fn make<T>(
    console: Console,
    options: &CreateOptions,
    begin: impl FnOnce() -> Result<T>,
) -> Result<(Summary, String, T)> {
    let path = options.container.as_path();
    if !options.hidden_secret.is_left_out() || options.hidden_seal.is_any() {
        return Err(
            usage("options that begin with --new- are for a hidden volume").with_hint("--hidden makes one")
        );
    }
    check_owner(options)?;
    let plan =
        Plan::new(path, &options.new, |_, device| Ok(Room::Container(container_size(options.size, device)?)))
            .map_err(|error| name_unit(error, options.size))?;
    let filesystem = filesystem_kind(options.filesystem);
    if let Some(kind) = filesystem {
        check_filesystem(kind, plan.extent().data_len(), plan.sector_size())?;
    }
    plan.confirm(console)?;
    warn_of_label(console, &plan, filesystem);
    if plan.keyfile_role() == KeyfileRole::Pool && plan.provision == Provision::Quick {
        console.warn(QUICK);
    }
    let header = plan.make_header(console)?;

    // From here on the draft takes back what was done, whatever fails.
    let rest = begin()?;
    let mut draft = interrupt::asking(path, || plan.draft())?;
    if plan.keyfile_role() == KeyfileRole::Pool {
        draft.assume(options.new.format.format());
    }
    let container = draft.container();
    let progress = ByteProgress::start(console, "filling");
    prepare(container, &plan.extent(), plan.provision, &OsRng, &mut |done, total| {
        progress.step(done, total)
    })?;
    drop(progress);
    let header_file = plan.write_header(&mut draft, &*header)?;
    let container = draft.container();
    if let Some(kind) = filesystem {
        console.detail(&format!("strongroom: making the {kind} file system"));
        spin(console, "making the file system", || {
            let filesystem = NewFilesystem {
                kind,
                sector_size: plan.sector_size(),
                owner: owner(options),
                label: plan.label(),
                reads_zeros: plan.provision == Provision::Thin,
            };
            make_filesystem(&filesystem, container, header.volume_key().expose())
        })?;
    }
    interrupt::check()?;
    plan.commit(console, draft, header_file)?;
    let summary = Summary {
        container: path.to_path_buf(),
        format: plan.format(),
        uuid: plan.uuid(),
        container_size: plan.extent().container_len,
        data_size: plan.extent().data_len(),
        filesystem: filesystem.map_or("none", FilesystemKind::name),
    };
    Ok((summary, plan.advice(), rest))
}

/// Whoever leaves the unit out does not mean bytes.
fn name_unit(error: Error, size: Option<u64>) -> Error {
    match size {
        Some(size @ ..4096) if error.hint().is_none() => {
            error.with_hint(format!("a size without a unit is in bytes; did you mean {size}M or {size}G?"))
        }
        _ => error,
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Summary {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    pub(super) container: PathBuf,
    pub(super) format: &'static str,
    pub(super) uuid: Option<String>,
    pub(super) container_size: u64,
    pub(super) data_size: u64,
    pub(super) filesystem: &'static str,
}

impl Summary {
    pub(super) fn contents(&self) -> String {
        match self.filesystem {
            "none" => "no file system".to_owned(),
            name => format!("{name} file system"),
        }
    }
}

/// All that can keep a file system from being made, before the password.
pub(super) fn check_filesystem(kind: FilesystemKind, data_len: u64, sector_size: u32) -> Result<()> {
    check_size(kind, data_len, sector_size)?;
    if kind.package().is_none() {
        return Ok(());
    }
    mount::is_available(kind)?;
    mount::check_target(&Target::Private)
}

/// The container keeps every label; the file system in it may not.
fn warn_of_label(console: Console, plan: &Plan<'_>, filesystem: Option<FilesystemKind>) {
    if let (Some(kind), Some(label)) = (filesystem, plan.label())
        && !kind.takes_label(label)
    {
        console.warn(&format!("{kind} cannot hold this label, so the file system gets none"));
    }
}

/// A word before the work where the file system would not fit.
fn check_size(kind: FilesystemKind, data_len: u64, sector_size: u32) -> Result<()> {
    if data_len >= kind.least_size() {
        if kind.reaches(data_len, sector_size) {
            return Ok(());
        }
        let error = usage(format!("{} is more than {kind} can have", show_size(data_len)));
        return Err(error.with_hint("choose a smaller --size, or --filesystem exfat"));
    }
    let (least, size) = (show_size(kind.least_size()), show_size(data_len));
    let error = usage(format!("{kind} needs at least {least}, but only {size} are left for data"));
    Err(error.with_hint("choose a larger --size, or another --filesystem"))
}

/// An owner takes a file system that knows owners.
fn check_owner(options: &CreateOptions) -> Result<()> {
    let knows_owners = matches!(
        options.filesystem,
        FileSystemChoice::Ext4 | FileSystemChoice::Xfs | FileSystemChoice::Btrfs
    );
    if options.owner.is_none() || knows_owners {
        return Ok(());
    }
    Err(usage("--owner is for file systems that know owners: ext4, xfs and btrfs"))
}

/// The user and the group that get the root directory of the new file system.
pub(super) fn owner(options: &CreateOptions) -> (u32, u32) {
    let User { uid, gid } = options.owner.unwrap_or_else(User::served);
    (uid, gid)
}

/// Makes a file system in the new volume; where the system's tool makes it, the volume is served to ourselves for that.
pub(super) fn make_filesystem(
    filesystem: &NewFilesystem<'_>,
    container: &Container,
    key: &[u8],
) -> Result<()> {
    if filesystem.kind.package().is_none() {
        let header = container.header()?;
        let unlocked = header.unlock_with_key(VolumeKey::copy_of(key)?)?;
        let info = header.describe_unlocked(&unlocked);
        container.unlock_pieces(&info, &unlocked)?;
        let volume = Volume::open(container, info, &unlocked);
        let mut random = [[0; 16]; 2];
        OsRng.fill(random.as_flattened_mut())?;
        return filesystem.make_in_process(volume.device(), random, interrupt::flag());
    }
    let mounted = mount::start(&Request::private(container, key), interrupt::flag())?;
    let made = mounted.make_filesystem(filesystem, interrupt::flag());
    let stopped = mounted.stop(made.is_err());
    made.and(stopped)
}

pub(super) const fn filesystem_kind(choice: FileSystemChoice) -> Option<FilesystemKind> {
    Some(match choice {
        FileSystemChoice::Ext4 => FilesystemKind::Ext4,
        FileSystemChoice::Exfat => FilesystemKind::Exfat,
        FileSystemChoice::Vfat => FilesystemKind::Vfat,
        FileSystemChoice::Xfs => FilesystemKind::Xfs,
        FileSystemChoice::Btrfs => FilesystemKind::Btrfs,
        FileSystemChoice::Ntfs => FilesystemKind::Ntfs,
        FileSystemChoice::None => return None,
    })
}

fn container_size(asked: Option<u64>, device: Option<u64>) -> Result<u64> {
    match (asked, device) {
        (Some(size), Some(device)) if size != device => {
            let error = usage(format!("a container fills its device, which has {device} bytes"));
            Err(error.with_hint("leave --size out"))
        }
        (Some(size), _) | (None, Some(size)) => Ok(size),
        (None, None) => Err(usage("--size is needed").with_hint("for example --size 10G")),
    }
}

fn usage(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, reason)
}

const QUICK: &str = "free space is not filled with random data: it shows how much is in use, and a hidden volume would stand out";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_too_small_for_its_file_system_is_refused() {
        check_size(FilesystemKind::Xfs, 300 << 20, 4096).unwrap();
        let error = check_size(FilesystemKind::Xfs, 62 << 20, 4096).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.reason(), "xfs needs at least 300 MiB, but only 62 MiB are left for data");
    }

    #[test]
    fn a_device_is_taken_whole() {
        assert_eq!(container_size(None, Some(8 << 20)).unwrap(), 8 << 20);
        assert_eq!(container_size(Some(4 << 20), Some(8 << 20)).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(container_size(None, None).unwrap_err().kind(), ErrorKind::Usage);
    }
}
