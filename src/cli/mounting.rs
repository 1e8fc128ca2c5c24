//! `mount`, and how every command opens a container.

use std::{
    fs::{self, File},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use strongroom::{
    error::{Error, ErrorKind, Result},
    export::{Owners, Share},
    format::{Format, Header, Unlocked, native::Native},
    mapping::Layout,
    mount::{self, Entry, Holder, OnDesktop, Other, Request, Target},
    text::{in_one_line, path::command_word},
    unlock::{HeaderFile, Unlocking, Wish, opening::find_partition},
    volume::{Access, Container, file_of, glance, identity_of, make_writable},
};

use super::{
    args::{DriverChoice, MountOptions, MountingOptions, OwnersChoice},
    hidden::{check_protection, protect},
    interrupt,
    listing::{tell_if_full, warn_of_lost},
    mountpoint::Place,
    output::Console,
    pin, remembered,
    unlock::{attach, cannot_open, check_kind, read_header, settle_format},
};

/// Opens a container and makes what is inside visible.
pub(crate) fn mount(console: Console, options: &MountOptions) -> Result<()> {
    let place = Place::new(options.mountpoint.as_deref(), &options.container)?;
    let target = if options.block {
        Target::Block { directory: place.path().to_path_buf() }
    } else {
        target(&options.mounting, &place)?
    };
    let mounted =
        mount_on(console, &options.container, (&place, target), &options.mounting, OnDesktop::default())?;
    tell_mounted(console, &options.container, &mounted.entry);
    if options.foreground { mounted.wait(interrupt::flag()) } else { Ok(()) }
}

/// Opens a container and mounts it on this place, which `target` names too.
pub(crate) fn mount_on(
    console: Console,
    path: &Path,
    (place, target): (&Place, Target),
    options: &MountingOptions,
    desktop: OnDesktop,
) -> Result<mount::Mounted> {
    // All that can fail without a password fails before it is asked for.
    mount::check_proc()?;
    let rescued = interrupt::asking_at_liberty(path, || Ok(mount::newest_rescued(path)))?;
    if let Some(copy) = rescued {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        // In the user's home it may be of a container that was elsewhere, or of a copy.
        let what = if copy.parent() == path.parent() {
            path.display().to_string()
        } else {
            format!("a container like {}", path.display())
        };
        let copy = copy.display();
        console.alarm(&format!(
            "{what} disappeared while it was mounted; its content was saved as {copy}: check that, then move it"
        ));
    }
    let mut container =
        open(path, options.unlock.header_file(), access(options)).map_err(|error| match error.kind() {
            // It can be read, so it is the writing that is refused.
            ErrorKind::Permission | ErrorKind::Io if !options.is_read_only() && File::open(path).is_ok() => {
                error.with_hint("use --read-only")
            }
            _ => error,
        })?;
    find_partition(&options.unlock.front(console), &mut container, &options.unlock.known())
        .map_err(|error| cannot_open(error, path))?;
    settle_format(console, &mut container, &options.unlock)?;
    let header = read_header(&container)?;
    let is_elsewhere = matches!(target, Target::Desktop { .. });
    if is_elsewhere {
        interrupt::at_liberty(|| mount::check_target(&target))?;
    } else {
        place.try_out(|| {
            let check = || mount::check_target(&target);
            // A folder that was made is taken away again.
            if place.is_made() { check() } else { interrupt::asking_at_liberty(place.path(), check) }
        })?;
    }
    let keyring = remembered::keyring(console, path, options);
    let remembering = remembered::wish(options, keyring.as_ref());
    if let Err(error) = options.unlock.check_source_for(&*header)
        && !remembered::has(&remembering, &*header)?
    {
        return Err(error);
    }
    check_protection(options, &*header)?;

    let front = options.unlock.front(console);
    let wish = Wish { remembering, ..options.unlock.wish(options.keyslot.slot) };
    let unlocking = Unlocking { front: &front, path, header: &*header, wish: &wish };
    let mut unlocked =
        if container.is_read_only() { unlocking.unlock()? } else { unlocking.unlock_to_write()?.0 };
    if options.protect.protect_hidden {
        unlocked = protect(console, options, &container, &*header, &unlocked)?;
    }
    let info = header.describe_unlocked(&unlocked);
    container.unlock_pieces(&info, &unlocked).map_err(|error| cannot_open(error, path))?;
    warn_of_pieces(console, path, &container)?;
    make_whole(console, path, &container, (&*header, &unlocked))?;
    if !container.is_read_only() && header.describe().format == Native.name() {
        // It may have brought a re-encryption to rest, with newer records than the pin remembers.
        pin::advance(console, &*container.storage(), &unlocked.volume_key);
    }
    if let Layout::Moving(_) = unlocked.layout {
        let file = options.unlock.header.as_ref().map(|file| format!(" --header {}", command_word(file)));
        let resume =
            format!("strongroom reencrypt {}{} continues it", command_word(path), file.unwrap_or_default());
        console.note(&format!("strongroom: a re-encryption of this container is paused; {resume}"));
    }
    let fingerprint = header.fingerprint().map(|fingerprint| fingerprint.digest());
    let key = unlocked.volume_key.expose();
    let request =
        Request { container: &container, fingerprint, key, target, closing: options.closing(), desktop };
    let start = || mount::start(&request, interrupt::flag());
    let mounted = if is_elsewhere { start()? } else { place.with(start)? };
    // The server has its own copies.
    drop((unlocked, container));

    for detail in &mounted.details {
        console.detail(&format!("strongroom: {detail}"));
    }
    for warning in &mounted.warnings {
        console.alarm(warning);
    }
    warn_of_walls(console, &mounted.entry);
    warn_of_lost(console, &mount::list());
    Ok(mounted)
}

/// Makes a container that is about to be written whole again, and says what was done.
pub(crate) fn make_whole(
    console: Console,
    path: &Path,
    container: &Container,
    (header, unlocked): (&dyn Header, &Unlocked),
) -> Result<()> {
    for repair in make_writable(container, header, unlocked).map_err(|error| cannot_open(error, path))? {
        console.warn(&format!("{}: {repair}", path.display()));
    }
    Ok(())
}

/// Says what is wrong with the pieces of a folder. Where some cannot be read, it is not opened for writing.
pub(crate) fn warn_of_pieces(console: Console, path: &Path, container: &Container) -> Result<()> {
    let found = match interrupt::asking_at_liberty(path, || glance(container)) {
        Err(error) if error.kind() == ErrorKind::Damaged && container.is_read_only() => {
            vec![error.reason().to_owned()]
        }
        found => found.map_err(|error| cannot_open(error, path))?,
    };
    for line in found {
        console.alarm(&format!("{}: {line}", path.display()));
    }
    Ok(())
}

/// Says where a volume is mounted, which is the result of the command.
pub(crate) fn tell_mounted(console: Console, path: &Path, entry: &Entry) {
    console.done(entry, |entry| match (&entry.mountpoint, &entry.block) {
        (Some(mountpoint), _) => {
            in_one_line(&format!("mounted {} on {}", path.display(), mountpoint.display()))
        }
        (None, Some(block)) => in_one_line(&format!("{} is open as {}", path.display(), block.display())),
        (None, None) => in_one_line(&format!("{} is open", path.display())),
    });
    tell_if_full(console, entry);
}

/// A file system that shows at `place`, or where udisks likes.
///
/// # Errors
/// `Usage` where the user named the place, and udisks is to choose it.
pub(crate) fn target(options: &MountingOptions, place: &Place) -> Result<Target> {
    let driver = match options.driver.unwrap_or(DriverChoice::Auto) {
        DriverChoice::Auto => mount::DriverChoice::Auto,
        DriverChoice::Kernel => mount::DriverChoice::Kernel,
        DriverChoice::Builtin => mount::DriverChoice::Builtin,
        DriverChoice::Udisks => mount::DriverChoice::Udisks,
    };
    let owners = options.owners.map(|owner| match owner {
        OwnersChoice::Me => Owners::Me,
        OwnersChoice::Real => Owners::Real,
    });
    let share = shared_with(options)?;
    let driver = match (driver, &share) {
        (driver, None) => driver,
        (mount::DriverChoice::Auto | mount::DriverChoice::Builtin, Some(_)) => mount::DriverChoice::Builtin,
        (_, Some(_)) => {
            let reason = "only the builtin driver shares a mount with some and not with all";
            return Err(Error::new(ErrorKind::Usage, reason).during("--share").with_hint(
                "leave out --driver; under the kernel's drivers the volume's own modes and access lists (setfacl) say who may do what",
            ));
        }
    };
    if driver == mount::DriverChoice::Udisks {
        if place.is_named() {
            let reason = format!(
                "{}: udisks mounts where it likes, below /run/media or /media",
                place.path().display()
            );
            return Err(Error::new(ErrorKind::Usage, reason)
                .during("--driver udisks")
                .with_hint("leave out the mount point, or leave out --driver"));
        }
        return Ok(Target::Desktop { owners, options: options.options() });
    }
    Ok(Target::FileSystem {
        mountpoint: place.path().to_path_buf(),
        driver,
        made: place.is_made(),
        free: !place.is_named(),
        owners,
        share,
        options: options.options(),
    })
}

/// All with whom it is to be shared.
fn shared_with(options: &MountingOptions) -> Result<Option<Share>> {
    let share = options.share.iter().try_fold(Share::default(), Share::and);
    let share = share.map_err(|reason| Error::new(ErrorKind::Usage, reason).during("--share"))?;
    Ok((!share.is_empty()).then_some(share))
}

/// Says what keeps those with whom a mount is shared from coming as far as its mount point.
fn warn_of_walls(console: Console, entry: &Entry) {
    let Some(place) = entry.mountpoint.as_deref().filter(|_| entry.shared_with.is_some()) else { return };
    let is_wall = |folder: &&Path| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o011 == 0);
    if let Some(wall) = place.ancestors().skip(1).find(is_wall) {
        console.warn(&format!(
            "whoever shares {} must be able to go through {}, and its mode lets only you: setfacl -m u:NAME:x {}, or mount it elsewhere",
            place.display(),
            wall.display(),
            command_word(wall)
        ));
    }
}

fn access(options: &MountingOptions) -> Access {
    if options.is_read_only() { Access::ReadOnly } else { Access::ReadWrite }
}

/// Opens and locks the container, and its header file where the header is detached, or says who has it.
pub(crate) fn open(path: &Path, header: HeaderFile<'_>, access: Access) -> Result<Container> {
    interrupt::asking_at_liberty(path, || open_now(path, header, access))
}

fn open_now(path: &Path, header: HeaderFile<'_>, access: Access) -> Result<Container> {
    check_kind(path)?;
    let mut container = Container::open(path, access).map_err(|error| {
        let error = match error.kind() {
            ErrorKind::Busy => name_holder(error, path),
            _ => error,
        };
        cannot_open(error, path)
    })?;
    attach(&mut container, header, |header| {
        Container::open(header, access).map_err(|error| match error.kind() {
            ErrorKind::Busy => name_holder(error, header),
            _ => error,
        })
    })?;
    if access == Access::ReadWrite {
        refuse_twin(&container).map_err(|error| cannot_open(error, path))?;
    }
    Ok(container)
}

/// Refuses to write to what a volume is mounted from by another path.
///
/// # Errors
/// `Busy`.
fn refuse_twin(container: &Container) -> Result<()> {
    let uuid = container.header().ok().and_then(|header| header.describe().uuid);
    let Some(twin) = mount::twin_of(container.file(), uuid.as_deref()) else { return Ok(()) };
    let place = twin.shown_at().unwrap_or_else(|| twin.container.clone());
    let reason = format!(
        "it is the same file as {}, by another path, and that is mounted on {} (process {})",
        twin.container.display(),
        place.display(),
        twin.pid
    );
    Err(Error::new(ErrorKind::Busy, reason)
        .with_hint(format!("strongroom unmount {} first", command_word(&place))))
}

/// The same error, naming the mount or the processes that keep the container to themselves.
pub(crate) fn name_holder(error: Error, path: &Path) -> Error {
    match use_of(path) {
        Some(usage) => usage.into(),
        None => match mount::others().first() {
            Some(other) if other.is_own() => {
                let place = other.mountpoint.display();
                error.with_hint(format!("perhaps your mount on {place} uses it: {}", other.unmount))
            }
            Some(Other { mounted_by, .. }) => {
                let sudo =
                    if mounted_by == "root" { "sudo".to_owned() } else { format!("sudo -u {mounted_by}") };
                error.with_hint(format!("perhaps {mounted_by} has mounted it: {sudo} strongroom list"))
            }
            None if is_block_device(path) => error.with_hint(
                "a program uses it, or one of its partitions: lsblk shows what is mounted; the device of another partition (/dev/sdX2) \
                 opens by itself",
            ),
            None => error,
        },
    }
}

fn is_block_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// Refuses a container that is mounted. Of what else uses it nothing is said.
///
/// # Errors
/// `Busy`.
pub(crate) fn refuse_mounted(path: &Path) -> Result<()> {
    match use_of(path) {
        Some(usage) if usage.place.is_some() => Err(usage.into()),
        _ => Ok(()),
    }
}

/// How a container is in use.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) told: String,
    /// Where it is mounted.
    place: Option<PathBuf>,
    /// Whether that is a part of the file only.
    is_part: bool,
}

impl Usage {
    const fn unmounted(told: String) -> Self {
        Self { told, place: None, is_part: false }
    }
}

impl From<Usage> for Error {
    fn from(usage: Usage) -> Self {
        let error = Self::new(ErrorKind::Busy, usage.told);
        let Some(place) = usage.place else { return error };
        let way = format!("strongroom unmount {}", command_word(&place));
        error.with_hint(if usage.is_part {
            format!("first: {way}; one part of a file at a time is open for writing, and several to be read (--read-only)")
        } else {
            way
        })
    }
}

/// How the container is in use, and where it is mounted.
pub(crate) fn use_of(path: &Path) -> Option<Usage> {
    let identity = identity_of(path).ok()?;
    if let Some(entry) = mount::holding(identity) {
        if mount::shown(identity).is_none() {
            let told = format!("another command is working on it (process {})", entry.pid);
            return Some(Usage::unmounted(told));
        }
        let is_part = entry.offset.is_some();
        let Some(place) = entry.shown_at() else {
            let told = format!("it is still being closed (process {}), as something uses it", entry.pid);
            return Some(Usage { told, place: Some(entry.container), is_part });
        };
        let what =
            entry.offset.map_or_else(|| "it".to_owned(), |offset| format!("its part at byte {offset}"));
        let told = format!("{what} is mounted on {} (process {})", place.display(), entry.pid);
        return Some(Usage { told, place: Some(place), is_part });
    }
    let holders = mount::holders_of_file(&file_of(path));
    let told = holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if holders.iter().any(Holder::is_certain) {
        return Some(Usage::unmounted(format!("in use by {told}")));
    }
    let told = format!("perhaps in use, which cannot be checked: {told}");
    (!holders.is_empty()).then(|| Usage::unmounted(told))
}

/// Whether it is mounted, and only to be read: nobody changes what is in it.
pub(crate) fn is_only_viewed(path: &Path) -> bool {
    let entry = identity_of(path).ok().and_then(mount::holding);
    entry.is_some_and(|entry| entry.read_only)
}
