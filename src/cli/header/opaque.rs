//! Headers of TrueCrypt and VeraCrypt containers: all of it takes their password.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use strongroom::{
    crypto::{rng::OsRng, secret::Credentials},
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, KeyslotInfo,
        veracrypt::{Hints, Locking, NewHeaders, Opened, backup_file, read_backup},
    },
    storage::Storage,
    volume::{Container, Draft, by_signature, keep_bytes, recognise_data},
};

use super::{
    BackedUp, Replaced, Restored, agree, check_terminal,
    refusals::{Consent, Overwriting, needs_force},
    refuse_kernel_use, shown,
};
use crate::cli::{
    args::{HeaderBackupOptions, HeaderRepairOptions, HeaderRestoreOptions},
    interrupt,
    key::opaque::tell_of_copy,
    output::Console,
    progress::{TrialProgress, spin},
    unlock::{read_header, unlock_with},
};

/// Whether the container is one of these.
pub(super) fn is_opaque(container: &Container) -> bool {
    container.assumed().is_some_and(|format| matches!(format.name(), "veracrypt" | "truecrypt"))
}

/// Writes the header into a file as VeraCrypt's own backups have it.
pub(super) fn backup(console: Console, options: &HeaderBackupOptions, container: &Container) -> Result<()> {
    let (path, file) = (options.container.as_path(), options.file.as_path());
    let cannot = |error: Error| {
        error.during(format!("cannot back up the header of {} to {}", path.display(), file.display()))
    };
    if file.symlink_metadata().is_ok() {
        return Err(cannot(
            Error::new(ErrorKind::Exists, "it already exists").with_hint("choose another name"),
        ));
    }
    let header = read_header(container)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) = unlock_with(console, path, &*header, &options.unlock, None)?;
    let opened = Opened::of_key(&unlocked.volume_key)?;
    let bytes = seal(console, &opened, &credentials, |locking| backup_file(&opened, locking, &OsRng));
    let draft = Draft::new(file, false, &OsRng).map_err(cannot)?;
    draft
        .container()
        .storage()
        .write_all_at(&bytes.map_err(cannot)?, 0)
        .map_err(|error| cannot(error.into()))?;
    draft.commit(&OsRng).map_err(cannot)?;
    let done = BackedUp { container: path, header_file: file, uuid: None, left_out: Vec::new() };
    let which = if opened.place.is_hidden() { "hidden volume's header in" } else { "header of" };
    console.done(&done, |_| {
        format!(
            "backed up the {which} {} to {}\nit opens with today's password, even after that is changed: keep it safe",
            shown(path),
            shown(file)
        )
    });
    if !opened.place.is_hidden() {
        console.note("a hidden volume's header needs its own backup: --hidden");
    }
    Ok(())
}

/// Puts back a header from a file that VeraCrypt or [`backup`] made.
pub(super) fn restore(
    console: Console,
    options: &HeaderRestoreOptions,
    container: &Container,
    source: &Container,
) -> Result<()> {
    let (path, file) = (options.container.as_path(), options.file.as_path());
    let storage = container.storage();
    let header = read_backup(&*source.storage(), storage.size()?)
        .map_err(|error| error.during(format!("cannot open header file {}", file.display())))?;
    check_terminal(options.yes, path)?;
    refuse_signature(path, &*storage)?;
    let lost = recognise_data(&*storage)?;
    let consent = Consent { is_agreed: options.yes, is_forced: options.force };
    check_places(path, container, &[START], consent)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) = unlock_with(console, file, &*header, &options.unlock, None)?;
    let cannot = |error: Error| error.during(format!("cannot restore the header of {}", path.display()));
    let opened = Opened::of_key(&unlocked.volume_key)?;
    let present = present(console, options, container, &opened, &credentials)?;
    let belongs = present.is_some() || opened.shows_data(&*storage)?;
    // A container that has grown since has data where its end was.
    let has_its_size = present.is_some_and(|present| present.container_len() == opened.container_len());
    if !options.force && !has_its_size {
        refuse_size(&opened, &*storage).map_err(cannot)?;
    }
    if !options.force && !belongs && options.yes {
        return Err(needs_force(path, STRANGER));
    }
    let headers = seal(console, &opened, &credentials, |locking| {
        NewHeaders::from_backup(&opened, (&*storage, options.force), locking, &OsRng)
    })
    .map_err(|error| match error.kind() {
        ErrorKind::Unsupported if !options.force => {
            cannot(error).with_first_hint("if nothing follows the container: --force")
        }
        _ => cannot(error),
    })?;
    check_places(path, container, &headers.areas(), consent)?;
    warn_of_loss(console, path, lost);
    console.warn(if belongs {
        "if the container has a different password now, that one will stop working"
    } else {
        STRANGER
    });
    agree(
        &format!(
            "The {} of {} and its copy will be replaced.",
            opened.place.name(),
            options.unlock.place.name(path)
        ),
        options.yes,
    )?;
    interrupt::check()?;
    let replaced = keep(console, container, file, &headers, options.force)?;
    headers.write(&*storage).map_err(cannot)?;
    tell_of_copy(console, &opened, &headers, &*storage)?;
    let line = format!("restored the header of {} from {}", options.unlock.place.name(path), shown(file));
    tell(console, path, header.describe_unlocked(&unlocked).keyslots, replaced, line);
    Ok(())
}

/// The header that is there, where what opens the backup opens it and both have the same keys.
fn present(
    console: Console,
    options: &HeaderRestoreOptions,
    container: &Container,
    backup: &Opened,
    credentials: &Credentials,
) -> Result<Option<Opened>> {
    let header = read_header(container)?;
    let hints = Hints {
        prf: Some(backup.prf),
        pim: backup.pim,
        hidden: backup.place.is_hidden(),
        backup_header: false,
        system: false,
    };
    let attempt = Attempt {
        limits: options.unlock.limits(&*header)?,
        hints,
        monitor: Some(&TrialProgress),
        ..Attempt::default()
    };
    let present =
        interrupt::at_liberty(|| spin(console, "deriving the key", || header.unlock(credentials, &attempt)));
    match present {
        Ok(unlocked) => {
            Ok(Some(Opened::of_key(&unlocked.volume_key)?).filter(|present| present.has_same_keys(backup)))
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
        Err(_) => Ok(None),
    }
}

/// Refuses a header of a container of another size.
fn refuse_size(opened: &Opened, storage: &dyn Storage) -> Result<()> {
    let (len, size) = (opened.container_len(), storage.size()?);
    let Some(len) = len.filter(|len| *len != size) else { return Ok(()) };
    let reason = format!("it is the header of a container of {len} bytes, and this one has {size}");
    Err(Error::new(ErrorKind::Damaged, reason).with_hint(
        "if the container lies in it, --offset or --partition names the place; --force restores it here nevertheless",
    ))
}

/// Writes header and copy anew from the one that opens.
pub(super) fn repair(console: Console, options: &HeaderRepairOptions, container: &Container) -> Result<()> {
    let path = options.container.as_path();
    let header = read_header(container)?;
    refuse_signature(path, &*container.storage())?;
    refuse_kernel_use(path)?;
    let consent = Consent { is_agreed: options.yes, is_forced: options.force };
    check_places(path, container, &[START], consent)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) =
        unlock_with(console, path, &*header, &options.unlock, None).map_err(|error| match error.kind() {
            ErrorKind::Credentials if !options.unlock.hints.backup_header => {
                Error::new(error.kind(), error.reason())
                    .during(format!("cannot unlock {}", path.display()))
                    .with_hint("--backup-header takes the copy at the container's end")
            }
            _ => error,
        })?;
    let opened = Opened::of_key(&unlocked.volume_key)?;
    let cannot = |error: Error| error.during(format!("cannot repair the header of {}", path.display()));
    check_terminal(options.yes, path)?;
    let storage = container.storage();
    let attempt = Attempt { limits: options.unlock.limits(&*header)?, ..Attempt::default() };
    let headers = seal(console, &opened, &credentials, |locking| {
        NewHeaders::new(&opened, &*storage, locking, (&credentials, &attempt), &OsRng)
    })
    .map_err(cannot)?;
    check_places(path, container, &headers.areas(), consent)?;
    warn_of_loss(console, path, recognise_data(&*container.storage())?);
    agree(
        &format!(
            "The header of {} and its copy will be written anew, from the {}.",
            path.display(),
            opened.place.name()
        ),
        options.yes,
    )?;
    interrupt::check()?;
    let replaced = keep(console, container, path, &headers, options.force)?;
    headers.write(&*storage).map_err(cannot)?;
    tell_of_copy(console, &opened, &headers, &*storage)?;
    let line = format!("wrote the header of {} and its copy anew", options.unlock.place.name(path));
    tell(console, path, header.describe_unlocked(&unlocked).keyslots, replaced, line);
    Ok(())
}

/// Where a header of another format stands, one of these is not written over it: that container would be lost.
pub(in crate::cli) fn refuse_signature(path: &Path, storage: &dyn Storage) -> Result<()> {
    let Some(format) = by_signature(storage)? else { return Ok(()) };
    let reason = format!("it bears the header of a {} container, which would be lost", format.name());
    Err(Error::new(ErrorKind::Usage, reason)
        .during(format!("cannot replace the header of {}", path.display()))
        .with_hint("strongroom info shows it; leave --format out to use it"))
}

fn warn_of_loss(console: Console, path: &Path, lost: Option<&str>) {
    if let Some(lost) = lost {
        console.warn(&format!(
            "{} is {lost}: the first 128 KiB and the last of what its header tells will be overwritten, which may destroy it",
            path.display()
        ));
    }
}

/// Runs the derivation of a header that keeps its secret.
fn seal<T>(
    console: Console,
    opened: &Opened,
    credentials: &Credentials,
    work: impl FnOnce(&Locking<'_>) -> Result<T>,
) -> Result<T> {
    let locking = Locking { credentials, prf: opened.prf, pim: opened.pim };
    interrupt::at_liberty(|| spin(console, "deriving the key", || work(&locking)))
}

/// Keeps the places of the headers as they are, at both ends.
fn keep(
    console: Console,
    container: &Container,
    source: &Path,
    headers: &NewHeaders,
    is_forced: bool,
) -> Result<Vec<Replaced>> {
    let ranges: Vec<_> = headers.areas().into_iter().chain(headers.strays()).collect();
    let take = |folders: &[PathBuf]| keep_bytes(container, &ranges, folders, &OsRng);
    super::keep(console, (container.path(), ""), Some(source), is_forced, take)
}

/// Refuses to write over what is another's where headers go.
fn check_places(path: &Path, container: &Container, ranges: &[Range<u64>], consent: Consent) -> Result<()> {
    Overwriting { path, container, format: "veracrypt", ranges, is_known: true }.check(consent)
}

fn tell(console: Console, path: &Path, keyslots: Vec<KeyslotInfo>, replaced: Vec<Replaced>, line: String) {
    console.done(&Restored { container: path, uuid: None, keyslots, replaced }, |_| line);
}

/// Where nothing shows whose container it is.
const STRANGER: &str = "nothing shows that this header belongs here: the header that is there does not open with it, and nothing \
                        known lies under its keys; if it is another container, its data are lost";
/// What headers take at the start: that of the normal volume and that of the hidden one.
const START: Range<u64> = 0..128 << 10;
