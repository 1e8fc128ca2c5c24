//! `open` and `close`: `mount` and `unmount` with less to type.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use strongroom::{
    error::{Error, ErrorKind, Result},
    mount::{self, Entry},
    text::in_one_line,
};

use super::{
    args::{CloseOptions, OpenOptions},
    interrupt,
    mounting::{chosen, mount_on, take_down, target, tell_mounted},
    mountpoint::Place,
    output::Console,
};

/// Mounts a container on a folder of its own. What is open already is only shown.
pub(crate) fn open(console: Console, options: &OpenOptions) -> Result<()> {
    mount::check_proc()?;
    let path = &options.container;
    let opened = opened(options)?;
    let is_news = opened.is_none();
    let entry = match opened {
        Some(entry) => entry,
        None => mount_here(console, options)?,
    };
    let place = entry.mountpoint.clone().unwrap_or_default();
    if options.show
        && let Err(error) = mount::show_folder(&place)
    {
        console.warn(&format!("the file manager was not started: {}", error.reason()));
    }
    if is_news {
        tell_mounted(console, path, &entry);
    } else {
        let told = |_: &Entry| format!("{} is open already, on {}", path.display(), place.display());
        console.done(&entry, |entry| in_one_line(&told(entry)));
    }
    Ok(())
}

fn mount_here(console: Console, options: &OpenOptions) -> Result<Entry> {
    let place = match &options.at {
        Some(directory) => Place::made(directory.clone()),
        None => Place::among_vaults(&options.container, &mountpoints())?,
    };
    let target = target(&options.mounting, &place);
    Ok(mount_on(console, &options.container, (&place, target), &options.mounting)?.entry)
}

/// The mount that the container has already, if it is what is asked for.
fn opened(options: &OpenOptions) -> Result<Option<Entry>> {
    let how = &options.mounting;
    if options.at.is_some() || how.protect.protect_hidden || how.unlock.place.is_any() {
        return Ok(None);
    }
    let path = &options.container;
    let entry = interrupt::asking_at_liberty(path, || {
        let found = std::fs::metadata(path).ok();
        Ok(found.and_then(|found| mount::holding((found.dev(), found.ino()))))
    })?;
    Ok(entry.filter(|entry| entry.mountpoint.is_some() && entry.read_only == how.read_only))
}

/// Takes down what was opened last, or what is named. Gives the exit status.
pub(crate) fn close(console: Console, options: &CloseOptions) -> Result<u8> {
    mount::check_proc()?;
    let chosen = match &options.target {
        Some(name) => named(name)?,
        None if options.all => chosen(None, "close")?,
        None => match mount::list().into_iter().filter_map(|entry| entry.mountpoint).next_back() {
            Some(last) => chosen(Some(&last), "close")?,
            None => chosen(None, "close")?,
        },
    };
    Ok(take_down(console, chosen, options.force))
}

/// What a container, a mount point or the last part of a mount point stands for.
fn named(name: &Path) -> Result<mount::Chosen> {
    let error = match chosen(Some(name), "close") {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        found => return found,
    };
    let bear_it = mountpoints().into_iter().filter(|path| path.file_name() == Some(name.as_os_str()));
    match bear_it.collect::<Vec<_>>().as_slice() {
        [] => Err(error),
        [path] => chosen(Some(path), "close"),
        several => {
            let told: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            let reason = in_one_line(&format!("several are called that: {}", told.join(", ")));
            Err(Error::new(ErrorKind::Usage, reason)
                .during(format!("cannot close {}", name.display()))
                .with_hint("name the directory"))
        }
    }
}

fn mountpoints() -> Vec<PathBuf> {
    mount::list().into_iter().filter_map(|entry| entry.mountpoint).collect()
}
