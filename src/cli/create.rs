//! `create`: everything that can be refused is refused before the password is asked for; nothing stays of what fails.

use std::path::{Path, PathBuf};

use rustix::{
    fs::statvfs,
    process::{getgid, getuid},
};
use serde::Serialize;
use strongroom::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    format::{
        KeyfileRole,
        native::{Geometry, Label, NewContainer, NewHeader, Provision, Suite, hyphenated, new_uuid},
    },
    mount::{self, FilesystemKind, NewFilesystem, Request, Target},
    units::SectorSize,
    volume::{Access, Container, Draft, Occupant, occupant, prepare},
};

use super::{
    args::{CreateOptions, FileSystemChoice, ProvisionChoice},
    cost, interrupt,
    mounting::name_holder,
    output::Console,
    progress::{ByteProgress, spin},
    prompt,
    size::show_size,
};

/// Makes a container.
pub(crate) fn run(console: Console, options: &CreateOptions) -> Result<()> {
    let path = options.container.as_path();
    create(console, options).map_err(|error| {
        let error = match error.kind() {
            // Ctrl-C reaches the tools that work for us as well: what they say then is no reason of its own.
            _ if interrupt::is_requested() => interrupt::interrupted(),
            ErrorKind::Busy => name_holder(error, path),
            _ => error,
        };
        error.during(format!("cannot create {}", path.display()))
    })
}

fn create(console: Console, options: &CreateOptions) -> Result<()> {
    let path = options.container.as_path();
    let plan = Plan::new(options)?;
    plan.check_space(path)?;
    options.secrets.check_source(KeyfileRole::PartOfSecret)?;
    plan.confirm(path, options.yes)?;
    plan.warn_of_label(console);

    let credentials = options.secrets.read_new(path, |weakness| console.warn(weakness))?;
    let header = interrupt::at_liberty(|| {
        let cost = cost::settle(console, options.cost)?;
        console.detail(&format!("strongroom: keyslot 0 costs {}", cost::show(&cost)));
        let container = NewContainer {
            suite: Suite::default(),
            uuid: plan.uuid,
            label: plan.label.clone(),
            sector_size: plan.sector_size,
            provision: plan.provision,
            geometry: plan.geometry,
            cost,
        };
        spin(console, "deriving the key", || NewHeader::new(&container, &credentials, &OsRng))
    })?;
    drop(credentials);

    // From here on the draft takes back what was done, whatever fails.
    let draft = Draft::new(path, options.force, &OsRng)?;
    let container = draft.container();
    let progress = ByteProgress::start(console, "filling");
    prepare(container, &plan.geometry, plan.provision, &OsRng, &mut |done, total| {
        progress.step(done, total)
    })?;
    drop(progress);
    header.write(&*container.storage())?;
    container.storage().sync_data()?;
    if let Some(kind) = plan.filesystem {
        console.detail(&format!("strongroom: making the {kind} file system"));
        spin(console, "making the file system", || {
            make_filesystem(&plan, kind, container, header.volume_key.expose())
        })?;
    }
    interrupt::check()?;
    draft.commit(&OsRng)?;

    console.done(&plan.summary(path), |made| {
        format!("created {}: {} for data, {}", path.display(), show_size(made.data_size), made.contents())
    })
}

/// What is to be made, checked.
#[derive(Debug)]
struct Plan {
    uuid: [u8; 16],
    label: Label,
    sector_size: SectorSize,
    provision: Provision,
    geometry: Geometry,
    filesystem: Option<FilesystemKind>,
    replaced: Option<Occupant>,
    is_device: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    container: PathBuf,
    format: &'static str,
    uuid: String,
    container_size: u64,
    data_size: u64,
    filesystem: &'static str,
}

impl Summary {
    fn contents(&self) -> String {
        match self.filesystem {
            "none" => "no file system".to_owned(),
            name => format!("{name} file system"),
        }
    }
}

impl Plan {
    fn new(options: &CreateOptions) -> Result<Self> {
        let path = options.container.as_path();
        let label = options.label.as_deref().map_or(Some(Label::default()), Label::new);
        let label =
            label.ok_or_else(|| usage("--label must be at most 64 bytes without control characters"))?;
        let directory = directory_of(path);
        if !directory.is_dir() {
            return Err(usage(format!("there is no directory {}", directory.display())));
        }
        let replaced = occupant(path)?;
        match replaced {
            Some(Occupant::Other) => {
                return Err(usage("it is neither a file nor a block device"));
            }
            Some(there) if !options.force => {
                let error = Error::new(ErrorKind::Exists, format!("it exists ({})", describe(there)));
                return Err(error.with_hint("choose another name, or overwrite it with --force"));
            }
            _ => {}
        }
        let device_size = device_size(path)?;
        let geometry = Geometry::for_container(container_size(options.size, device_size)?)?;
        let filesystem = filesystem_kind(options.filesystem);
        if let Some(kind) = filesystem {
            check_size(kind, geometry.data_len)?;
            mount::is_available(kind)?;
            mount::check_target(&Target::Private, Access::ReadWrite)?;
        }
        Ok(Self {
            uuid: new_uuid(&OsRng)?,
            label,
            sector_size: options.sector_size,
            provision: match options.provision {
                ProvisionChoice::Thick => Provision::Thick,
                ProvisionChoice::Quick => Provision::Quick,
                ProvisionChoice::Thin => Provision::Thin,
            },
            geometry,
            filesystem,
            replaced,
            is_device: device_size.is_some(),
        })
    }

    /// A word before the work where the disk cannot hold it. Thin containers may promise more than there is.
    fn check_space(&self, path: &Path) -> Result<()> {
        if self.is_device || self.provision == Provision::Thin {
            return Ok(());
        }
        let space = statvfs(directory_of(path)).map_err(std::io::Error::from)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let needed = self.geometry.container_len;
        if free >= needed {
            return Ok(());
        }
        let (needed, free) = (show_size(needed), show_size(free));
        let error = Error::new(ErrorKind::NoSpace, format!("it needs {needed}, and {free} are free"));
        Err(error.with_hint("choose a smaller --size, or --provision thin, which grows with use"))
    }

    /// Shows what would be lost and lets the user say no.
    fn confirm(&self, path: &Path, is_yes: bool) -> Result<()> {
        let Some(there) = self.replaced else { return Ok(()) };
        if is_yes {
            return Ok(());
        }
        if !prompt::has_terminal() {
            let error = usage("it would be overwritten, and there is no terminal to ask on");
            return Err(error.with_hint("--yes answers for you"));
        }
        let question = format!("{} ({}) will be overwritten and is lost.", path.display(), describe(there));
        if prompt::confirm(&question)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Exists, "not confirmed; nothing was changed"))
    }

    /// The container keeps every label; the file system in it may not.
    fn warn_of_label(&self, console: Console) {
        if let (Some(kind), Some(label)) = (self.filesystem, self.label.text())
            && !kind.takes_label(label)
        {
            console.warn(&format!("{kind} cannot bear this label: the file system gets none"));
        }
    }

    fn summary(&self, path: &Path) -> Summary {
        Summary {
            container: path.to_path_buf(),
            format: "native",
            uuid: hyphenated(&self.uuid),
            container_size: self.geometry.container_len,
            data_size: self.geometry.data_len,
            filesystem: self.filesystem.map_or("none", FilesystemKind::name),
        }
    }
}

/// A word before the work where the file system would not fit.
fn check_size(kind: FilesystemKind, data_len: u64) -> Result<()> {
    if data_len >= kind.least_size() {
        return Ok(());
    }
    let (least, size) = (show_size(kind.least_size()), show_size(data_len));
    let error = usage(format!("{kind} needs at least {least}, and {size} are left for data"));
    Err(error.with_hint("choose a larger --size, or another --filesystem"))
}

/// Serves the new volume to ourselves and has the system's tool make a file system in it.
fn make_filesystem(plan: &Plan, kind: FilesystemKind, container: &Container, key: &[u8]) -> Result<()> {
    let request = Request { container, key, target: Target::Private };
    let mounted = mount::start(&request, interrupt::flag())?;
    let filesystem = NewFilesystem {
        kind,
        sector_size: u32::try_from(plan.sector_size.bytes())
            .map_err(|error| Error::caused_by(ErrorKind::Io, error))?,
        owner: (getuid().as_raw(), getgid().as_raw()),
        label: plan.label.text(),
    };
    let made = mounted.make_filesystem(&filesystem, interrupt::flag());
    let stopped = mounted.stop(made.is_err());
    made.and(stopped)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

const fn filesystem_kind(choice: FileSystemChoice) -> Option<FilesystemKind> {
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

/// The size of the block device at `path`; `None` where there is none.
fn device_size(path: &Path) -> Result<Option<u64>> {
    use std::os::unix::fs::FileTypeExt;
    if !std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
        return Ok(None);
    }
    Ok(Some(Container::open(path, Access::ReadOnly)?.storage().size()?))
}

fn container_size(asked: Option<u64>, device: Option<u64>) -> Result<u64> {
    match (asked, device) {
        (Some(size), Some(device)) if size != device => {
            let error = usage(format!("the device has {device} bytes, and a container takes all of it"));
            Err(error.with_hint("leave --size out"))
        }
        (Some(size), _) | (None, Some(size)) => Ok(size),
        (None, None) => Err(usage("--size is needed").with_hint("for example --size 10G")),
    }
}

fn describe(occupant: Occupant) -> String {
    match occupant {
        Occupant::File(size) => format!("a file of {}", show_size(size)),
        Occupant::Device(size) => format!("a device of {} that holds something", show_size(size)),
        Occupant::Other => "no file".to_owned(),
    }
}

fn usage(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_too_small_for_its_file_system_is_refused() {
        check_size(FilesystemKind::Xfs, 300 << 20).unwrap();
        let error = check_size(FilesystemKind::Xfs, 62 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.reason(), "xfs needs at least 300 MiB, and 62 MiB are left for data");
    }

    #[test]
    fn a_device_is_taken_whole() {
        assert_eq!(container_size(None, Some(8 << 20)).unwrap(), 8 << 20);
        assert_eq!(container_size(Some(4 << 20), Some(8 << 20)).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(container_size(None, None).unwrap_err().kind(), ErrorKind::Usage);
    }
}
