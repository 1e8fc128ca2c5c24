//! A container that is to be made, by `create` or by `import`: checked before the password is asked for.

use std::path::Path;

use rustix::fs::statvfs;
use strongroom::{
    crypto::rng::{OsRng, Rng},
    error::{Error, ErrorKind, Result},
    format::{Blueprint, Extent, KeyfileRole, NewHeader, Provision, Room, Wishes, parse_uuid},
    text::path::command_word,
    volume::{
        Access, Container, Draft, NewPieces, Occupant, fill_around, free_bytes, new_header_file, occupant,
    },
};

use super::{
    args::{NewFormat, NewOptions, ProvisionChoice},
    ask, cost, device,
    header::check_kernel_use,
    interrupt,
    mounting::{name_holder, refuse_mounted},
    output::Console,
    pin,
    progress::spin,
    size::show_size,
};

/// What is to be made, checked.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    path: &'a Path,
    options: &'a NewOptions,
    blueprint: Box<dyn Blueprint>,
    pub(crate) provision: Provision,
    /// The bytes of the device, where it is one.
    device_size: Option<u64>,
    replaced: Option<Occupant>,
}

impl<'a> Plan<'a> {
    /// A plan for a container at `path`. `room` gives the container's from the size of the block device, where it is one.
    ///
    /// # Errors
    /// `Usage`, `Exists`, and what `room` gives.
    pub(crate) fn new(
        path: &'a Path,
        options: &'a NewOptions,
        room: impl FnOnce(&Drawing<'_>, Option<u64>) -> Result<Room>,
    ) -> Result<Self> {
        let (replaced, device_size) = interrupt::asking_at_liberty(path, || {
            if options.split.is_some() && path.symlink_metadata().is_ok() {
                return Err(Error::new(ErrorKind::Exists, "it already exists")
                    .with_hint("with --split a new folder is made: choose another name"));
            }
            Ok((check_target(path, options.force)?, device_size(path)?))
        })?;
        let provision = match options.provision() {
            ProvisionChoice::Thick => Provision::Thick,
            ProvisionChoice::Quick => Provision::Quick,
            ProvisionChoice::Thin => Provision::Thin,
        };
        if options.split.is_some() && options.format != NewFormat::Native {
            return Err(usage("--split is for containers of strongroom's own format"));
        }
        let drawing = Drawing { options, provision };
        let blueprint = drawing.blueprint(room(&drawing, device_size)?)?;
        if let Some(piece_len) = options.split {
            check_split(&*blueprint, piece_len, device_size.is_some())?;
        }
        cost::check(options.cost, blueprint.kdf_bounds().as_ref())?;
        Ok(Self { path, options, blueprint, provision, device_size, replaced })
    }

    /// Whether it will be a whole device.
    pub(crate) const fn is_device(&self) -> bool {
        self.device_size.is_some()
    }

    /// Where the data will lie.
    pub(crate) fn extent(&self) -> Extent {
        self.blueprint.extent()
    }

    /// The container's identity, where the format has one.
    pub(crate) fn uuid(&self) -> Option<String> {
        self.blueprint.uuid()
    }

    /// The size of one sector of the volume in bytes.
    pub(crate) fn sector_size(&self) -> u32 {
        u32::try_from(self.blueprint.sector_size().bytes()).unwrap_or(u32::MAX)
    }

    /// What a keyfile is to the format.
    pub(crate) fn keyfile_role(&self) -> KeyfileRole {
        self.blueprint.keyfile_role()
    }

    /// The format's name.
    pub(crate) fn format(&self) -> &'static str {
        self.options.format.format().name()
    }

    /// The label that the container gets.
    pub(crate) fn label(&self) -> Option<&str> {
        self.options.label.as_deref().filter(|label| !label.is_empty())
    }

    /// The last checks before the secret: is there space, is there a source for the secret, may what is there go?
    pub(crate) fn confirm(&self, console: Console) -> Result<()> {
        interrupt::asking(self.path, || {
            self.check_space()?;
            self.check_place()?;
            self.check_header_file()
        })?;
        self.options.secrets.check_source_for(self.blueprint.keyfile_role())?;
        if let Some(there) = &self.replaced {
            // Whatever is answered.
            refuse_mounted(self.path)?;
            check_kernel_use(self.path)?;
            confirm_overwriting(self.path, there, self.options.yes)?;
        } else if let Some(size) = self.device_size.filter(|_| !self.options.yes) {
            device::confirm(self.path, size, None)?;
        }
        if let Some(warning) = self.overcommitment() {
            console.alarm(&format!("{}: {warning}", self.path.display()));
        }
        Ok(())
    }

    /// Reads the new secret, settles its costs and makes the header, which is not written yet.
    pub(crate) fn make_header(&self, console: Console) -> Result<Box<dyn NewHeader>> {
        let role = self.blueprint.keyfile_role();
        let credentials = self.options.secrets.read_new(console, self.path, role)?;
        interrupt::at_liberty(|| {
            let bounds = self.blueprint.kdf_bounds();
            let cost = bounds.map(|bounds| cost::settle(console, self.options.cost, &bounds)).transpose()?;
            if let Some(cost) = &cost {
                console.detail(&format!("strongroom: keyslot 0 costs {}", cost::show(cost)));
            }
            spin(console, "deriving the key", || self.blueprint.make_header(&credentials, cost, &OsRng))
        })
    }

    /// Starts what is to become the container.
    ///
    /// # Errors
    /// As [`Draft::new`] and [`Draft::new_folder`].
    pub(crate) fn draft(&self) -> Result<Draft> {
        let Some(piece_len) = self.options.split else {
            return Draft::new(self.path, self.options.force, &OsRng);
        };
        let mut set = [0; 16];
        OsRng.fill(&mut set)?;
        let extent = self.blueprint.extent();
        let new = new_pieces(&*self.blueprint, &extent, set, piece_len)?;
        Draft::new_folder(self.path, &new, &OsRng)
    }

    /// Writes the header where it belongs: into the container, or beside it into a file of its own, which is given.
    pub(crate) fn write_header(&self, draft: &mut Draft, header: &dyn NewHeader) -> Result<Option<Draft>> {
        let storage = draft.container().storage();
        let Some(file) = &self.options.header else {
            header.write(&*storage)?;
            draft.container().seal_pieces(&header.volume_key())?;
            return Ok(None);
        };
        if self.provision == Provision::Thick {
            fill_around(&*storage, &self.extent(), &OsRng)?;
        }
        let header_file = new_header_file(file, header, &OsRng)?;
        draft.attach_header(&header_file)?;
        Ok(Some(header_file))
    }

    /// Gives both their names, the header file first: a container without it opens for nobody (NAT-HF-09).
    pub(crate) fn commit(&self, console: Console, draft: Draft, header_file: Option<Draft>) -> Result<()> {
        if let (Some(name), Some(header_file)) = (&self.options.header, header_file) {
            header_file.commit(&OsRng)?;
            draft.commit(&OsRng).inspect_err(|_| drop(std::fs::remove_file(name)))?;
        } else {
            draft.commit(&OsRng)?;
        }
        pin::leave(console, self.path);
        Ok(())
    }

    /// What to do now, so that a damaged header loses nothing.
    pub(crate) fn advice(&self) -> String {
        let path = command_word(self.path);
        match &self.options.header {
            Some(file) => {
                format!("it opens only with {}: keep a copy of that file elsewhere", file.display())
            }
            None if self.keyfile_role() == KeyfileRole::Pool => format!(
                "keep a copy of its header elsewhere: strongroom header backup --format {} {path} FILE",
                self.format()
            ),
            None => format!("keep a copy of its header elsewhere: strongroom header backup {path} FILE"),
        }
    }

    /// The header file is made with the container, and replaces nothing.
    fn check_header_file(&self) -> Result<()> {
        let Some(file) = &self.options.header else { return Ok(()) };
        if file.symlink_metadata().is_err() && file != self.path {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Exists, "the header file already exists")
            .with_hint("choose another name for it"))
    }

    /// A word before the work where nothing can be written, or no file as large as that.
    fn check_place(&self) -> Result<()> {
        let whole = self.extent().container_len;
        let len = self.options.split.map_or(whole, |piece_len| piece_len.min(whole));
        if Draft::check_place(self.path, len, &OsRng)? {
            return Ok(());
        }
        if self.options.split.is_some() {
            let reason = format!(
                "this file system does not allow pieces of {} (FAT32: less than 4 GiB)",
                show_size(len)
            );
            return Err(Error::new(ErrorKind::Io, reason).with_hint("choose a smaller --split"));
        }
        let reason =
            format!("this file system does not allow a file of {} (FAT32: less than 4 GiB)", show_size(len));
        Err(Error::new(ErrorKind::Io, reason)
            .with_hint("choose a smaller --size, or make a folder of pieces with --split 2G"))
    }

    /// A word before the work where the disk cannot hold it. Thin containers may promise more than there is.
    fn check_space(&self) -> Result<()> {
        match self.shortfall()? {
            Some((needed, free)) if self.provision != Provision::Thin => {
                let reason = format!("it needs {needed}, but only {free} are free");
                Err(Error::new(ErrorKind::NoSpace, reason).with_hint("choose a smaller --size"))
            }
            _ => Ok(()),
        }
    }

    /// What a thin container is warned of: the disk cannot hold all that it promises.
    fn overcommitment(&self) -> Option<String> {
        let (needed, free) = self.shortfall().ok().flatten().filter(|_| self.provision == Provision::Thin)?;
        Some(format!(
            "it may grow to {needed}, and the disk has only {free} free: once the disk is full, what you write to the container can be lost"
        ))
    }

    /// The size that the disk has no room for, and the room that it has.
    fn shortfall(&self) -> Result<Option<(String, String)>> {
        if self.is_device() {
            return Ok(None);
        }
        let space = statvfs(directory_of(self.path)).map_err(std::io::Error::from)?;
        let needed = self.extent().container_len;
        let free = free_bytes(&space).filter(|&free| free < needed);
        Ok(free.map(|free| (show_size(needed), show_size(free))))
    }
}

/// What the options say of the container but for its size.
#[derive(Debug)]
pub(crate) struct Drawing<'a> {
    options: &'a NewOptions,
    provision: Provision,
}

impl Drawing<'_> {
    /// The container that has, or makes, this room.
    pub(crate) fn blueprint(&self, room: Room) -> Result<Box<dyn Blueprint>> {
        let wishes = Wishes {
            label: self.options.label.as_deref(),
            cipher: self.options.cipher.as_deref(),
            key_bits: self.options.key_size,
            sector_size: self.options.sector_size,
            hash: self.options.cost.hash,
            prf: self.options.prf,
            pim: self.options.pim.unwrap_or_default(),
            keyslots_len: None,
            provision: self.provision,
            is_detached: self.options.header.is_some(),
        };
        if (wishes.prf.is_some() || wishes.pim != 0)
            && !matches!(self.options.format, NewFormat::VeraCrypt | NewFormat::TrueCrypt)
        {
            return Err(usage("--prf and --pim are for --format veracrypt and truecrypt"));
        }
        self.options.format.format().plan(room, &wishes, &OsRng)
    }
}

/// What stands where something new is to be made. Without `force` nothing may stand there.
///
/// # Errors
/// `Usage` where nothing can be made there, `Exists`.
pub(crate) fn check_target(path: &Path, force: bool) -> Result<Option<Occupant>> {
    let directory = directory_of(path);
    if !directory.is_dir() {
        return Err(usage(format!("there is no directory {}", directory.display())));
    }
    let there = occupant(path)?;
    if there.is_none() && is_among_devices(directory) && path.symlink_metadata().is_err() {
        return Err(Error::new(ErrorKind::NotFound, "there is no such device")
            .with_hint("lsblk shows those that there are; a file belongs in another directory"));
    }
    match there {
        Some(Occupant::Other) => Err(usage("it is neither a file nor a block device")),
        Some(there) if !force => Err(occupied(&there)),
        _ => Ok(there),
    }
}

fn occupied(there: &Occupant) -> Error {
    let what = describe(there);
    match there {
        Occupant::Device(..) => Error::new(ErrorKind::Exists, format!("it is not empty ({what})"))
            .with_hint("--force erases all of it"),
        _ => Error::new(ErrorKind::Exists, format!("it already exists ({what})"))
            .with_hint("choose another name, or overwrite it with --force"),
    }
}

/// Shows what would be lost and lets the user say no.
fn confirm_overwriting(path: &Path, there: &Occupant, is_yes: bool) -> Result<()> {
    if is_yes {
        return Ok(());
    }
    if !ask::is_possible() {
        let error = usage("it would be overwritten, and there is no terminal to ask on");
        return Err(error.with_hint("--yes skips the question"));
    }
    let what = describe(there);
    if let Occupant::Device(size, _) = there {
        return device::confirm(path, *size, Some(&what));
    }
    ask::confirm(&format!("{} ({what}) will be overwritten; everything in it will be lost.", path.display()))
}

/// The error of making something at `path`.
pub(crate) fn cannot_make(error: Error, verb: &str, path: &Path) -> Error {
    let error = match error.kind() {
        // Ctrl-C reaches the tools that work for us as well: what they say then is no reason of its own.
        _ if interrupt::is_requested() => interrupt::interrupted(),
        ErrorKind::Busy => name_holder(error, path),
        _ => error,
    };
    error.during(format!("cannot {verb} {}", path.display()))
}

/// What only some containers can be.
fn check_split(blueprint: &dyn Blueprint, piece_len: u64, is_device: bool) -> Result<()> {
    if is_device {
        return Err(usage("a device is no folder: --split is for files"));
    }
    new_pieces(blueprint, &blueprint.extent(), [0; 16], piece_len)?.geometry().map(drop)
}

fn new_pieces<'a>(
    blueprint: &dyn Blueprint,
    extent: &'a Extent,
    set: [u8; 16],
    piece_len: u64,
) -> Result<NewPieces<'a>> {
    let uuid = blueprint.uuid().and_then(|uuid| parse_uuid(&uuid));
    let uuid = uuid.ok_or_else(|| usage("--split is for containers that have a UUID"))?;
    Ok(NewPieces { uuid, set, extent, piece_len })
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether it is a directory for devices, which the kernel keeps in memory.
fn is_among_devices(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file_system = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let own = file_system(directory);
    own.is_some() && own == file_system(Path::new("/dev")) && own != file_system(Path::new("/"))
}

/// The size of the block device at `path`; `None` where there is none.
fn device_size(path: &Path) -> Result<Option<u64>> {
    use std::os::unix::fs::FileTypeExt;
    if !std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
        return Ok(None);
    }
    Ok(Some(Container::open(path, Access::ReadOnly)?.storage().size()?))
}

/// What stands there, in words.
pub(crate) fn describe(occupant: &Occupant) -> String {
    match occupant {
        Occupant::File(size, None) => format!("a file of {}", show_size(*size)),
        Occupant::File(size, Some(holds)) => format!("{holds}, {}", show_size(*size)),
        Occupant::Device(size, holds) => {
            format!("{}, {}", holds.as_deref().unwrap_or("data of some kind"), show_size(*size))
        }
        Occupant::Other => "no file".to_owned(),
    }
}

fn usage(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, reason)
}
