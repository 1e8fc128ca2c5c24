//! `unmount` and `sync`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use strongroom::{
    error::{Error, ErrorKind, Result},
    mount::{self, Entry, Other, Selection},
    text::{in_one_line, path::command_word},
};

use super::{
    args::{SyncOptions, UnmountOptions},
    folders::vaults,
    interrupt,
    output::Console,
    progress::ByteProgress,
    report::report_each,
};

/// Takes volumes down. Gives the exit status.
pub(crate) fn unmount(console: Console, options: &UnmountOptions) -> Result<u8> {
    mount::check_proc()?;
    if let (Some(target), Some(copy)) = (&options.target, &options.save_as) {
        return unmount_saving(console, (target, "unmount"), copy, options.force).map(|()| 0);
    }
    Ok(take_down(console, chosen(options.target.as_deref(), "unmount")?, options.force))
}

/// Takes down what was chosen. Gives the exit status.
pub(crate) fn take_down(console: Console, chosen: mount::Chosen, force: bool) -> u8 {
    let tell = |what: &str| console.note(&format!("strongroom: {what}"));
    let warn = |what: &str| console.alarm(what);
    let patience = mount::Patience { interrupted: interrupt::flag(), tell: &tell, warn: &warn };
    let mount::Unmounted { done, failures } = mount::unmount(chosen, force, patience);
    let done = Unmounted { unmounted: done };
    if failures.is_empty() {
        console.done(&done, Unmounted::told);
        return 0;
    }
    if !console.is_json() && !done.unmounted.is_empty() {
        console.note(&done.told());
    }
    let failures = failures
        .into_iter()
        .map(|(Entry { container, mountpoint, .. }, error)| (NotUnmounted { container, mountpoint }, error));
    report_each(console, done, failures)
}

/// What a name stands for, or all that is mounted. A name is a container, a mount point, or, where nothing of that name is here, the last
/// part of a mount point: `photos` for `~/Vaults/photos`. That is what `close` means by it beside a folder of that name, too.
pub(crate) fn chosen(target: Option<&Path>, verb: &str) -> Result<mount::Chosen> {
    let Some(name) = target else { return mount::Chosen::find(&Selection::All, verb) };
    let error = match found(name, verb) {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        found => return found,
    };
    let bear_it = mountpoints().into_iter().filter(|path| path.file_name() == Some(name.as_os_str()));
    let mut bear_it: Vec<_> = bear_it.collect();
    if bear_it.is_empty() && verb == "close" {
        bear_it = opened_elsewhere(name);
    }
    match bear_it.as_slice() {
        [] => Err(error),
        [path] if verb == "close" && is_opened(path, name) => found(path, verb),
        // Whoever names a folder of theirs does not mean a volume elsewhere.
        [path, ..] if is_here(name)? => {
            let other = format!("strongroom {verb} {}", command_word(path));
            Err(error.with_first_hint(format!("if you mean the volume on {}: {other}", path.display())))
        }
        [path] => found(path, verb),
        several => {
            let told: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            let reason = in_one_line(&format!("several are called that: {}", told.join(", ")));
            Err(Error::new(ErrorKind::Usage, reason)
                .during(format!("cannot {verb} {}", name.display()))
                .with_hint("name the directory"))
        }
    }
}

/// Where the containers are shown that `open` would give this name, and was told to mount elsewhere.
fn opened_elsewhere(name: &Path) -> Vec<PathBuf> {
    let entries = mount::as_noted().into_iter();
    let bear_it = entries.filter(|entry| entry.container.file_stem() == Some(name.as_os_str()));
    bear_it.filter_map(|entry| entry.mountpoint).collect()
}

/// Whether a volume is where `open` puts it.
fn is_opened(mountpoint: &Path, name: &Path) -> bool {
    let is_elsewhere = mountpoint.file_name() != Some(name.as_os_str());
    is_elsewhere || vaults().is_some_and(|vaults| mountpoint.parent() == Some(&vaults))
}

/// Whether a file or a folder of that name is here, were it a dead mount.
fn is_here(name: &Path) -> Result<bool> {
    let is_missing = |found: io::Result<_>| found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    interrupt::at_liberty(|| Ok(!is_missing(fs::symlink_metadata(name))))
}

/// The names of what is mounted come first: nothing is asked of the medium before.
fn found(path: &Path, verb: &str) -> Result<mount::Chosen> {
    interrupt::at_liberty(|| {
        interrupt::asking(path, || mount::Chosen::find(&Selection::One(path.to_path_buf()), verb))
    })
}

/// Where volumes show.
pub(crate) fn mountpoints() -> Vec<PathBuf> {
    mount::as_noted().into_iter().filter_map(|entry| entry.mountpoint).collect()
}

/// Takes a volume down and copies its container.
pub(crate) fn unmount_saving(
    console: Console,
    (path, verb): (&Path, &str),
    copy: &Path,
    force: bool,
) -> Result<()> {
    let chosen = chosen(Some(path), verb)?;
    let progress = ByteProgress::start(console, "saving");
    let saved = mount::unmount_saving(
        (path, chosen),
        force,
        copy,
        &mut |done, total| progress.step(done, total),
        (interrupt::flag(), &|what| console.note(&format!("strongroom: {what}"))),
    );
    drop(progress);
    let mount::Saved { entry, files, gone } = saved?;
    for gone in &gone {
        console.alarm(gone);
    }
    console.done(&SavedAs { unmounted: [entry], saved: files }, |done| {
        let [entry] = &done.unmounted;
        let files: Vec<_> = done.saved.iter().map(|file| file.display().to_string()).collect();
        let place = entry.shown_at().unwrap_or_else(|| entry.container.clone());
        in_one_line(&format!("unmounted {}, saved as {}", place.display(), files.join(" and ")))
    });
    Ok(())
}

/// Brings the container file up to date.
pub(crate) fn sync(console: Console, options: &SyncOptions) -> Result<()> {
    mount::check_proc()?;
    let chosen = chosen(Some(&options.target), "sync")?;
    let tell = |what: &str| console.note(&format!("strongroom: {what}"));
    let entry = mount::sync(&options.target, chosen, interrupt::flag(), &tell)?;
    console.done(&Synced { synced: [entry] }, |done| {
        let [entry] = &done.synced;
        in_one_line(&format!(
            "synced {}: the file has all that was written so far",
            entry.container.display()
        ))
    });
    Ok(())
}

#[derive(Debug, Serialize)]
struct Unmounted {
    unmounted: Vec<Entry>,
}

impl Unmounted {
    fn told(&self) -> String {
        if self.unmounted.is_empty() {
            let is_elsewhere = mount::others().iter().any(Other::is_own);
            let told = if is_elsewhere {
                "nothing is mounted here: see strongroom list"
            } else {
                "nothing is mounted"
            };
            return told.to_owned();
        }
        let lines = self.unmounted.iter().map(|entry| {
            let place = entry.shown_at().unwrap_or_else(|| entry.container.clone());
            in_one_line(&format!("unmounted {}", place.display()))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[derive(Debug, Serialize)]
struct NotUnmounted {
    #[serde(with = "strongroom::text::path")]
    container: PathBuf,
    #[serde(with = "strongroom::text::path::optional")]
    mountpoint: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Synced {
    synced: [Entry; 1],
}

#[derive(Debug, Serialize)]
struct SavedAs {
    unmounted: [Entry; 1],
    #[serde(serialize_with = "strongroom::text::path::list::serialize")]
    saved: Vec<PathBuf>,
}
