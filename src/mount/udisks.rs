//! udisks, the desktop's way to the kernel's file systems: what is asked of it over the system's bus.
//!
//! Each question is asked by a thread of its own, on a connection of its own. So nobody hangs with a bus or a daemon that does not
//! answer, and nothing of a connection is left while a volume is only served. Never asked for: a resize and a repair, which mount
//! the file system in a place of their own.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, SendError},
    thread,
    time::{Duration, Instant},
};

use zbus::{
    DynamicType, Fd, OwnedObjectPath, Variant, block_on, connection::Builder, fdo, wire::DynamicDeserialize,
};

use crate::{
    error::{Error, ErrorKind, Fact, Result},
    text::{excerpt, path::command_word},
};

/// How a question is asked.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    /// Whether polkit may have the user asked for a password, by the desktop's own window.
    pub asks_password: bool,
    /// Whether the answer is still wanted.
    pub may_wait: &'a dyn Fn() -> bool,
}

/// Whether udisks is there. Where it only does not run, the bus starts it.
///
/// # Errors
/// `Missing`, naming the package; `Io` where it does not answer.
pub(super) fn check() -> Result<()> {
    let to = To { path: MANAGER.to_owned(), interface: "org.freedesktop.DBus.Peer", method: "Ping" };
    call(to, (), QUICKLY, &|| true, |()| ())
}

/// Makes the open file a loop device that lasts until [`delete`], and gives its name.
///
/// # Errors
/// `Permission` where polkit refuses; those of [`check`]; `Interrupted`.
pub(super) fn attach(file: OwnedFd, read_only: bool, manner: Manner<'_>) -> Result<PathBuf> {
    let mut options = manner.options();
    options.insert("read-only", Variant::from(read_only));
    // What lies in a volume is one file system.
    options.insert("no-part-scan", Variant::from(true));
    let to =
        To { path: MANAGER.to_owned(), interface: "org.freedesktop.UDisks2.Manager", method: "LoopSetup" };
    let body = (Fd::from(file), options);
    let unwanted = |object| {
        if let Some(device) = device_of(&object) {
            // Nobody is left to be told.
            let _ = delete(&device, &|| true);
        }
    };
    let object: OwnedObjectPath = call(to, body, manner.limit(), manner.may_wait, unwanted)?;
    device_of(&object)
        .ok_or_else(|| Error::new(ErrorKind::Io, "udisks made something else than a loop device"))
}

/// Mounts the file system on the loop device, and tells where. `options` are those of mount(8).
///
/// # Errors
/// `Permission`; `Unsupported` for an option that is not in its list; `NotFound` where it sees no file system that it knows; `Exists`
/// where something else has mounted it already, as desktops do; `Io` with the reason of mount(8); `Interrupted`.
pub(super) fn mount(device: &Path, options: &str, manner: Manner<'_>) -> Result<PathBuf> {
    let deadline = Instant::now() + RECOGNITION;
    loop {
        let mut told = manner.options();
        told.insert("options", Variant::from(options.to_owned()));
        let to = To::file_system(device, "Mount")?;
        let mounted_unasked = device.to_path_buf();
        let unwanted = move |_: String| {
            // Nobody is left to be told.
            let _ = unmount(&mounted_unasked, true, &|| true);
        };
        match call(to, (told,), manner.limit(), manner.may_wait, unwanted) {
            // udev looks at the device first, and then udisks at what udev found.
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let reason = "udisks finds no file system in the volume that it knows";
                return Err(Error::new(ErrorKind::Unsupported, reason));
            }
            mounted => return mounted.map(PathBuf::from),
        }
    }
}

/// Has the kernel take the loop device away once its file system is unmounted, by whomever.
///
/// # Errors
/// `Io`, `Missing`, `Interrupted`.
pub(super) fn let_go_at_unmount(device: &Path, manner: Manner<'_>) -> Result<()> {
    let to = To::loop_device(device, "SetAutoclear")?;
    call(to, (true, manner.options()), QUICKLY, manner.may_wait, |()| ())
}

/// Unmounts the file system on the loop device; with `force` also where it is in use, as `umount -l` does.
///
/// # Errors
/// `Busy`, `Permission`, `Missing`, `Io`, `Interrupted`. It is none where it is not mounted.
pub(super) fn unmount(device: &Path, force: bool, may_wait: &dyn Fn() -> bool) -> Result<()> {
    let mut options = Manner { asks_password: false, may_wait }.options();
    if force {
        options.insert("force", Variant::from(true));
    }
    // What is not written yet may be much: it takes as long as it takes, while somebody waits.
    let limit = if force { QUICKLY } else { PATIENTLY };
    let unmounted = call(To::file_system(device, "Unmount")?, (options,), limit, may_wait, |()| ());
    gone_is_well(unmounted).map_err(|error| {
        let way = format!("as root: umount {}", command_word(device));
        if error.kind() == ErrorKind::Busy { error } else { error.with_first_hint(way) }
    })
}

/// Takes the loop device away: at once, or when its last user has closed it.
///
/// # Errors
/// As [`unmount`].
pub(super) fn delete(device: &Path, may_wait: &dyn Fn() -> bool) -> Result<()> {
    let options = Manner { asks_password: false, may_wait }.options();
    let deleted = call(To::loop_device(device, "Delete")?, (options,), QUICKLY, may_wait, |()| ());
    gone_is_well(deleted)
        .map_err(|error| error.with_first_hint(format!("as root: losetup -d {}", command_word(device))))
}

/// What is not there any more need not be taken away.
fn gone_is_well(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

impl Manner<'_> {
    fn options(self) -> HashMap<&'static str, Variant<'static>> {
        HashMap::from([("auth.no_user_interaction", Variant::from(!self.asks_password))])
    }

    fn limit(self) -> Duration {
        if self.asks_password { PATIENTLY } else { QUICKLY }
    }
}

/// Which method of which object is called.
#[derive(Debug)]
struct To {
    path: String,
    interface: &'static str,
    method: &'static str,
}

impl To {
    fn file_system(device: &Path, method: &'static str) -> Result<Self> {
        Ok(Self { path: object(device)?, interface: "org.freedesktop.UDisks2.Filesystem", method })
    }

    fn loop_device(device: &Path, method: &'static str) -> Result<Self> {
        Ok(Self { path: object(device)?, interface: "org.freedesktop.UDisks2.Loop", method })
    }
}

/// The loop device that an object stands for.
fn device_of(object: &OwnedObjectPath) -> Option<PathBuf> {
    let name = object.as_str().strip_prefix(BLOCK_DEVICES).filter(|name| is_loop_device(name))?;
    Some(Path::new("/dev").join(name))
}

/// The object that stands for a loop device.
fn object(device: &Path) -> Result<String> {
    let name = device.file_name().and_then(|name| name.to_str()).filter(|name| is_loop_device(name));
    let name = name.ok_or_else(|| Error::new(ErrorKind::Usage, "it is not a loop device"))?;
    Ok(format!("{BLOCK_DEVICES}{name}"))
}

fn is_loop_device(name: &str) -> bool {
    let number = name.strip_prefix("loop").unwrap_or_default();
    !number.is_empty() && number.len() <= 7 && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Calls a method of udisks, and waits for the answer as long as that is wanted, within `limit`. What comes later goes to `unwanted`.
fn call<B, R>(
    to: To,
    body: B,
    limit: Duration,
    may_wait: &dyn Fn() -> bool,
    unwanted: impl FnOnce(R) + Send + 'static,
) -> Result<R>
where
    B: serde::Serialize + DynamicType + Send + 'static,
    R: for<'d> DynamicDeserialize<'d> + Send + 'static,
{
    let (answer, answered) = mpsc::channel();
    let ask = move || {
        let answered = block_on(async {
            let bus = Builder::system().method_timeout(limit).build().await?;
            let reply = bus.call_method(Some(SERVICE), to.path, Some(to.interface), to.method, &body).await?;
            reply.body().deserialize::<R>()
        });
        if let Err(SendError(Ok(answered))) = answer.send(answered) {
            unwanted(answered);
        }
    };
    thread::Builder::new().name("udisks".to_owned()).spawn(ask)?;
    // Reaching the bus takes its own time.
    let deadline = Instant::now() + limit + QUICKLY;
    loop {
        match answered.recv_timeout(TICK) {
            Ok(answered) => return answered.map_err(failed),
            Err(RecvTimeoutError::Timeout) if !may_wait() => {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(_) => return Err(silent()),
        }
    }
}

/// What went wrong, in our words.
fn failed(error: zbus::Error) -> Error {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            refused(name.as_str(), text.as_deref().unwrap_or_default())
        }
        zbus::Error::FDO(error) => match *error {
            fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::SpawnServiceNotFound(_) => missing(is_installed()),
            fdo::Error::UnknownMethod(_) | fdo::Error::UnknownObject(_) | fdo::Error::UnknownInterface(_) => {
                Error::new(ErrorKind::NotFound, "udisks does not know it")
            }
            fdo::Error::AccessDenied(_) | fdo::Error::AuthFailed(_) => not_allowed(),
            fdo::Error::NoReply(_)
            | fdo::Error::Timeout(_)
            | fdo::Error::TimedOut(_)
            | fdo::Error::Disconnected(_) => silent(),
            other => Error::new(ErrorKind::Io, format!("udisks: {}", excerpt(&other.to_string()))),
        },
        zbus::Error::InputOutput(error) | zbus::Error::Connection(error, _) => match error.kind() {
            std::io::ErrorKind::TimedOut => silent(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => missing(is_installed()),
            _ => Error::new(ErrorKind::Io, format!("the system's bus: {}", excerpt(&error.to_string()))),
        },
        other => Error::new(ErrorKind::Io, format!("the system's bus: {}", excerpt(&other.to_string()))),
    }
}

/// What udisks answers by the name of an error of its own.
fn refused(name: &str, text: &str) -> Error {
    let name = name.strip_prefix("org.freedesktop.UDisks2.Error.").unwrap_or(name);
    match name {
        "NotAuthorized" | "NotAuthorizedCanObtain" | "NotAuthorizedDismissed" => not_allowed(),
        "DeviceBusy" => Error::new(ErrorKind::Busy, "it is in use"),
        "NotMounted" => Error::new(ErrorKind::NotFound, "it is not mounted"),
        "AlreadyMounted" => Error::new(ErrorKind::Exists, "it is already mounted"),
        "OptionNotPermitted" => {
            Error::new(ErrorKind::Unsupported, format!("udisks refuses a mount option: {}", excerpt(text)))
                .with_hint("leave it out, or mount it as root")
        }
        "Timedout" => silent(),
        _ => Error::new(ErrorKind::Io, format!("udisks: {}", excerpt(text))),
    }
}

/// Where udisks could not mount what is there.
pub(super) const NOT_MOUNTED: &str = "unmount the same file system where it is mounted already; or use mount --block, then the file system's own check on the block file";

fn not_allowed() -> Error {
    let reason = "polkit does not let you";
    Error::new(ErrorKind::Permission, reason).with_hint(
        "log in at the machine itself; or mount it as root; or use mount --block to see the volume as a file",
    )
}

fn is_installed() -> bool {
    PROGRAMS.into_iter().any(|program| Path::new(program).exists())
}

fn missing(is_installed: bool) -> Error {
    if is_installed {
        return Error::new(ErrorKind::Missing, "udisks is not running")
            .with_hint("sudo systemctl start udisks2");
    }
    Error::new(ErrorKind::Missing, "udisks is not installed")
        .with_fact(Fact::NotInstalled("udisks2"))
        .with_hint("install the package udisks2")
}

fn silent() -> Error {
    Error::new(ErrorKind::Io, "udisks does not answer")
}

/// Where its program is, by the distribution.
const PROGRAMS: [&str; 2] = ["/usr/libexec/udisks2/udisksd", "/usr/lib/udisks2/udisksd"];
const SERVICE: &str = "org.freedesktop.UDisks2";
const MANAGER: &str = "/org/freedesktop/UDisks2/Manager";
const BLOCK_DEVICES: &str = "/org/freedesktop/UDisks2/block_devices/";
/// Longer than udisks itself waits for udev.
const QUICKLY: Duration = Duration::from_secs(25);
/// So long somebody may look for a password.
const PATIENTLY: Duration = Duration::from_secs(300);
/// So long udev may take to look at a new device.
const RECOGNITION: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loop_devices_are_asked_for() {
        assert_eq!(
            object(Path::new("/dev/loop12")).unwrap(),
            "/org/freedesktop/UDisks2/block_devices/loop12"
        );
        for device in ["/dev/sda", "/dev/loop", "/dev/loop1p1", "/dev/loop-control", "/", "/dev/loop12345678"]
        {
            assert_eq!(object(Path::new(device)).unwrap_err().kind(), ErrorKind::Usage, "{device}");
        }
    }

    #[test]
    fn a_refusal_of_polkit_names_the_way_out() {
        for name in ["NotAuthorized", "NotAuthorizedCanObtain", "NotAuthorizedDismissed"] {
            let error = refused(&format!("org.freedesktop.UDisks2.Error.{name}"), "Not authorized");
            assert_eq!(error.kind(), ErrorKind::Permission);
            assert!(error.reason().contains("polkit") && error.hint().unwrap().contains("as root"));
        }
    }

    #[test]
    fn what_udisks_answers_is_told_in_its_words_and_in_one_line() {
        let of = |name: &str, text| refused(&format!("org.freedesktop.UDisks2.Error.{name}"), text);
        assert_eq!(of("DeviceBusy", "target is busy").kind(), ErrorKind::Busy);
        assert_eq!(of("AlreadyMounted", "").kind(), ErrorKind::Exists);
        let failed = of("Failed", "wrong fs type\n\u{1b}[31mbad option");
        assert_eq!(failed.kind(), ErrorKind::Io);
        assert!(failed.reason().contains("wrong fs type") && !failed.reason().contains(['\n', '\u{1b}']));
    }

    #[test]
    fn without_a_bus_the_package_is_named_or_what_starts_it() {
        let error =
            failed(zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::NotFound.into())));
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert_eq!(missing(false).hint(), Some("install the package udisks2"));
        assert!(matches!(missing(false).fact(), Some(Fact::NotInstalled("udisks2"))));
        assert_eq!(
            (missing(true).hint(), missing(true).fact()),
            (Some("sudo systemctl start udisks2"), None)
        );
    }
}
