//! Passwords that the keyring of the user's desktop remembers: who takes them from there, and `forget`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use strongroom::{
    error::{Error, ErrorKind, Result},
    format::Header,
    keyring::{Keyring, SecretService},
    text::path::command_word,
    unlock::{Known, Remembering, name_in_keyring, opening::take_only_partition},
};

use super::{
    args::{ForgetOptions, MountingOptions},
    config::is_uuid,
    front::CommandLine,
    interrupt,
    output::Console,
    unlock::{open_to_look, read_header},
};

/// The user's keyring, where opening this container may have to do with it. Where it is wanted and there is none, that is told.
pub(crate) fn keyring(console: Console, path: &Path, options: &MountingOptions) -> Option<SecretService> {
    if !options.remember && !may_take(options) {
        return None;
    }
    match SecretService::of_user() {
        Ok(keyring) => Some(keyring),
        Err(error) => {
            if options.remember {
                console.warn(&not_kept(path, &error));
            }
            None
        }
    }
}

/// What is wanted of it.
pub(crate) fn wish<'a>(options: &MountingOptions, keyring: Option<&'a SecretService>) -> Remembering<'a> {
    Remembering {
        keyring: keyring.map(|keyring| keyring as &dyn Keyring),
        may_take: may_take(options),
        shall_keep: options.remember,
    }
}

fn may_take(options: &MountingOptions) -> bool {
    options.unlock.is_password_asked_for()
}

/// Whether the keyring has a password for this container, so that perhaps nobody needs to be asked.
pub(crate) fn has(wish: &Remembering<'_>, header: &dyn Header) -> Result<bool> {
    let Some(keyring) = wish.keyring.filter(|_| wish.may_take) else { return Ok(false) };
    let Ok(name) = name_in_keyring(header) else { return Ok(false) };
    Ok(asked(|| keyring.has(&name))?.unwrap_or_default())
}

/// Says that the keyring may have a password that no longer opens the container, where it has one.
pub(crate) fn remind(console: Console, path: &Path, uuid: Option<&str>) -> Result<()> {
    if is_kept(uuid)? {
        let path = command_word(path);
        console.warn(&format!(
            "your keyring remembers a password of this container, perhaps one that no longer opens it: strongroom forget {path}, or open {path} --remember"
        ));
    }
    Ok(())
}

/// Says that the keyring still has the password of a container that is no more.
pub(crate) fn remind_of_erased(console: Console, uuid: Option<&str>) -> Result<()> {
    if is_kept(uuid)? {
        let uuid = uuid.unwrap_or_default();
        console.warn(&format!("your keyring still remembers its password: strongroom forget {uuid}"));
    }
    Ok(())
}

/// Says that nothing was remembered of a container that was open before.
pub(crate) fn tell_unkept(console: Console, path: &Path, uuid: Option<&str>) -> Result<()> {
    if !is_kept(uuid)? {
        let path = path.display();
        console.warn(&format!(
            "the password of {path} is not remembered, as it was not asked for: it is open already"
        ));
    }
    Ok(())
}

/// Where there is no keyring, it remembers nothing.
fn is_kept(uuid: Option<&str>) -> Result<bool> {
    let (Some(uuid), Ok(keyring)) = (uuid, SecretService::of_user()) else { return Ok(false) };
    Ok(asked(|| keyring.has(uuid))?.unwrap_or_default())
}

/// What the keyring says, if anything; the user may have enough of waiting.
fn asked<T>(ask: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    match interrupt::at_liberty(ask) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
        asked => Ok(asked.ok()),
    }
}

/// Why a password is not remembered, on one line.
pub(crate) fn not_kept(path: &Path, error: &Error) -> String {
    let way = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("the password of {} is not remembered: {}{way}", path.display(), error.reason())
}

/// Has the keyring forget the password of a container, or those of all.
pub(crate) fn forget(console: Console, options: &ForgetOptions) -> Result<()> {
    let path = options.container.as_deref();
    let told =
        path.map_or_else(|| "passwords".to_owned(), |path| format!("the password of {}", path.display()));
    let uuid = path.map(|path| name_of(console, path, options)).transpose()?;
    let forgotten = SecretService::of_user()
        .and_then(|keyring| interrupt::at_liberty(|| keyring.forget(uuid.as_deref())))
        .map_err(|error| match error.kind() {
            ErrorKind::Interrupted => error,
            _ => error.during(format!("cannot forget {told}")),
        })?;
    let done = Done { container: options.container.clone(), uuid, forgotten };
    console.done(&done, |done| match (path, done.forgotten) {
        (_, 0) => format!("{told}: nothing is remembered"),
        (Some(_), _) => format!("forgot {told}"),
        (None, 1) => "forgot 1 password".to_owned(),
        (None, several) => format!("forgot {several} passwords"),
    });
    Ok(())
}

#[derive(Debug, Serialize)]
struct Done {
    #[serde(with = "strongroom::text::path::optional")]
    container: Option<PathBuf>,
    uuid: Option<String>,
    forgotten: usize,
}

/// The UUID of the container, or the one that is named in its place.
fn name_of(console: Console, path: &Path, options: &ForgetOptions) -> Result<String> {
    let named = path.to_str().filter(|text| is_uuid(text));
    if let Some(uuid) = named.filter(|_| interrupt::at_liberty(|| Ok(!path.exists())).unwrap_or_default()) {
        return Ok(uuid.to_owned());
    }
    let file = options.header_file();
    let mut container = open_to_look(path, file)?;
    let front = CommandLine::asking(console);
    take_only_partition(&front, &mut container, &Known { file, ..Known::default() })?;
    name_in_keyring(&*read_header(&container)?)
        .map_err(|error| error.during(format!("cannot forget the password of {}", path.display())))
}
