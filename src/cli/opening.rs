//! `open` and `close`: `mount` and `unmount` with less to type.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use strongroom::{
    error::{ErrorKind, Result},
    mount::{self, Entry, OnDesktop},
    sys::process::is_root,
    text::in_one_line,
    volume::{Access, Container, by_signature, identity_of},
};

use super::{
    args::{CloseOptions, OpenFormat, OpenOptions},
    folders, interrupt,
    mounting::{mount_on, target, tell_mounted},
    mountpoint::Place,
    output::Console,
    remembered,
    unlock::open_to_look,
    unmounting::{chosen, mountpoints, take_down, unmount_saving},
};

/// Mounts a container on a folder of its own. What is open already is only shown.
pub(crate) fn open(console: Console, options: &OpenOptions) -> Result<()> {
    mount::check_proc()?;
    let path = &options.container;
    let (entry, is_news) = open_or_find(console, options)?;
    let place = entry.mountpoint.as_deref().unwrap_or(path);
    if options.show
        && let Err(error) = mount::show_folder(place)
    {
        console.warn(&format!("the file manager was not started: {}", error.reason()));
    }
    if is_news {
        tell_mounted(console, path, &entry);
    } else {
        if options.mounting.remember {
            remembered::tell_unkept(console, path, entry.uuid.as_deref())?;
        }
        console.done(&entry, |_| {
            in_one_line(&format!("{} is already open on {}", path.display(), place.display()))
        });
    }
    Ok(())
}

/// Lets a file be what it shows itself to be: a desktop takes it for what the ending of its name says.
pub(crate) fn believe_file(options: &mut OpenOptions) {
    let unlock = &mut options.mounting.unlock;
    if !options.show || unlock.format == OpenFormat::Auto {
        return;
    }
    // What cannot be read is told later.
    let looked = open_to_look(&options.container, unlock.header_file());
    if looked.is_ok_and(|container| by_signature(&*container.storage()).is_ok_and(|found| found.is_some())) {
        unlock.format = OpenFormat::Auto;
    }
}

/// What the container is mounted on, and whether it was not before.
fn open_or_find(console: Console, options: &OpenOptions) -> Result<(Entry, bool)> {
    let end = Instant::now() + PATIENCE;
    let mut attempts_left = ATTEMPTS;
    loop {
        attempts_left -= 1;
        if let Some(entry) = opened(options)? {
            return Ok((entry, false));
        }
        match mount_here(console, options) {
            Err(error)
                if error.kind() == ErrorKind::Busy
                    && attempts_left > 0
                    && is_free_by(end, console, options)? => {}
            mounted => return mounted.map(|mounted| (mounted, true)),
        }
    }
}

/// Waits for another command that has the container and has not mounted it yet: a second click starts a second `open`. False where
/// what it mounted is not what is asked for, or it takes too long.
fn is_free_by(end: Instant, console: Console, options: &OpenOptions) -> Result<bool> {
    let path = &options.container;
    let is_locked =
        || Container::open(path, Access::ReadOnly).is_err_and(|error| error.kind() == ErrorKind::Busy);
    let start = Instant::now();
    let mut is_told = false;
    loop {
        let (is_shown, is_locked) = interrupt::asking_at_liberty(path, || {
            let is_shown = mount::shown(identity_of(path)?).is_some();
            Ok((is_shown, !is_shown && is_locked()))
        })?;
        if is_shown {
            return Ok(opened(options)?.is_some());
        }
        // Who only looked at it has let it go by now, or the command has failed.
        if !is_locked || Instant::now() > end {
            return Ok(!is_locked);
        }
        if !is_told && start.elapsed() > SILENCE {
            console.note(&format!("another command has {}: waiting for it", path.display()));
            is_told = true;
        }
        interrupt::at_liberty(|| {
            sleep(TICK);
            Ok(())
        })?;
    }
}

fn mount_here(console: Console, options: &OpenOptions) -> Result<Entry> {
    let place = if let Some(directory) = &options.at {
        Place::made(directory.clone())
    } else {
        // What a server left that was killed is in the way of its own vault alone.
        mount::clean_stale();
        Place::among_vaults(&options.container, &mountpoints())?
    };
    let target = target(&options.mounting, &place)?;
    let bookmarks = folders::of_user("XDG_CONFIG_HOME", ".config").map(|folder| folder.join(BOOKMARKS));
    // Root's desktop would be somebody else's.
    let bookmarks = bookmarks.filter(|_| options.bookmark && !is_root());
    let desktop = OnDesktop { is_announced: options.show, bookmarks };
    Ok(mount_on(console, &options.container, (&place, target), &options.mounting, desktop)?.entry)
}

/// The mount that the container has already, if it is what is asked for.
fn opened(options: &OpenOptions) -> Result<Option<Entry>> {
    let how = &options.mounting;
    if options.at.is_some() || how.protect.protect_hidden || how.unlock.place.is_any() {
        return Ok(None);
    }
    let path = &options.container;
    let entry = interrupt::asking_at_liberty(path, || Ok(identity_of(path).ok().and_then(mount::shown)))?;
    Ok(entry.filter(|entry| entry.mountpoint.is_some() && entry.read_only == how.is_read_only()))
}

/// How long another `open` of the same container is waited for: it may derive a key.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long nothing is said of that.
const SILENCE: Duration = Duration::from_secs(2);
/// So often it is tried: what is in the way may be no other command.
const ATTEMPTS: u32 = 4;
/// Where GTK has its bookmarks, below the user's configuration.
const BOOKMARKS: &str = "gtk-3.0/bookmarks";
const TICK: Duration = Duration::from_millis(100);

/// Takes down what was opened last, or what is named. Gives the exit status.
pub(crate) fn close(console: Console, options: &CloseOptions) -> Result<u8> {
    mount::check_proc()?;
    let last = || mountpoints().pop().filter(|_| !options.all);
    let target = options.target.clone().or_else(last);
    if let (Some(target), Some(copy)) = (&target, &options.save_as) {
        return unmount_saving(console, (target, "close"), copy, options.force).map(|()| 0);
    }
    Ok(take_down(console, chosen(target.as_deref(), "close")?, options.force))
}
