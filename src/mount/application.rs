//! What a desktop asks of a program over the bus of the user's session: `org.freedesktop.Application` (Desktop Entry Specification,
//! "D-Bus Activation"). The bus starts the program when somebody calls it by its name.
//!
//! Whoever may send to that bus may call: what comes in is as foreign as an argument. Nothing secret goes over it in either direction.

use std::{
    collections::HashMap,
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use zbus::{
    Connection, Message, MessageStream, OwnedVariant, block_on,
    connection::Builder,
    fdo::RequestNameFlags,
    message::{Flags, Header, PrimaryHeader, Type},
    names::{InterfaceName, MemberName},
};

use super::bus::{BUS, check_owner, next};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::{
        process::{effective_user, is_root},
        session_bus,
    },
};

/// What a desktop asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// These were double-clicked.
    Open(Vec<PathBuf>),
    /// The program itself was started.
    Activate,
    /// One of the actions of its desktop entry was chosen.
    Action(String),
}

/// Who fulfils a desktop's wishes.
pub trait Application {
    /// Begins to do what is wished for, and does not wait for its end.
    ///
    /// # Errors
    /// Why that is refused.
    fn fulfil(&mut self, wish: Wish) -> Result<()>;

    /// Whether something that was begun has not come to its end.
    fn is_busy(&mut self) -> bool;
}

/// Answers those who call the program `name` on the bus of the user's session, until nobody has for a while. Another process that has the
/// name already does so in our place.
///
/// # Errors
/// `Permission` for root, who has no such bus; `Missing` where there is none; `Io` where it fails.
pub fn serve_application(name: &str, application: &mut dyn Application) -> Result<()> {
    if is_root() {
        return Err(Error::new(ErrorKind::Permission, "root has no desktop"));
    }
    let address = session_bus::of_user()
        .ok_or_else(|| Error::new(ErrorKind::Missing, "there is no bus of a session here"))?;
    let bus = block_on(reach(&address)).map_err(failed)?;
    // Before the name is ours, as a call may come with it.
    let messages = hear(&bus)?;
    match block_on(bus.request_name_with_flags(name, RequestNameFlags::DO_NOT_QUEUE)) {
        Err(zbus::Error::NameTaken) => return Ok(()),
        requested => requested.map_err(failed)?,
    };
    let mut service = Service { bus, path: path_of(name), application };
    loop {
        match messages.recv_timeout(IDLE) {
            Ok(message) => service.heed(&message),
            Err(RecvTimeoutError::Timeout) if service.application.is_busy() => {}
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    // Whoever calls from now on has the bus start another one. What came before that is on its way to us.
    block_on(service.bus.release_name(name)).map_err(failed)?;
    while let Ok(message) = messages.recv_timeout(LAST_MOMENT) {
        if is_loss(&message) {
            break;
        }
        service.heed(&message);
    }
    Ok(())
}

async fn reach(address: &str) -> zbus::Result<Connection> {
    let bus = Builder::address(address).method_timeout(QUICKLY).build().await?;
    check_owner(&bus).await?;
    Ok(bus)
}

/// Everything that comes, until the bus ends.
fn hear(bus: &Connection) -> Result<Receiver<Message>> {
    let mut stream = [MessageStream::from(bus)];
    let (sender, messages): (Sender<Message>, _) = mpsc::channel();
    let hand_on = move || {
        while let Some(Ok(message)) = block_on(next(&mut stream)) {
            if sender.send(message).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("bus".to_owned()).spawn(hand_on)?;
    Ok(messages)
}

/// Whether the bus says that a name is ours no longer.
fn is_loss(message: &Message) -> bool {
    let header = message.header();
    let is_said = header.member().is_some_and(|member| member.as_str() == "NameLost");
    is_said && header.sender().is_some_and(|sender| sender.as_str() == BUS)
}

struct Service<'a> {
    bus: Connection,
    /// The object that is called.
    path: String,
    application: &'a mut dyn Application,
}

impl Service<'_> {
    /// Answers a call; whatever else comes is passed over.
    fn heed(&mut self, message: &Message) {
        if message.message_type() != Type::MethodCall {
            return;
        }
        let header = message.header();
        let answer = self.answer(message, &header);
        if !wants_reply(header.primary()) {
            return;
        }
        // Whoever has gone meanwhile needs none.
        let _gone = block_on(async {
            match &answer {
                Ok(None) => self.bus.reply(&header, &()).await,
                Ok(Some(text)) => self.bus.reply(&header, text).await,
                Err(refusal) => self.bus.reply_error(&header, refusal.name, &refusal.reason).await,
            }
        });
    }

    fn answer(&mut self, message: &Message, header: &Header<'_>) -> Result<Option<&'static str>, Refusal> {
        let interface = header.interface().map(InterfaceName::as_str);
        let member = header.member().map(MemberName::as_str).unwrap_or_default();
        match (interface, member) {
            (Some(PEER) | None, "Ping") => return Ok(None),
            (Some(INTROSPECTABLE) | None, "Introspect") if self.is_called(header) => {
                return Ok(Some(DESCRIPTION));
            }
            _ => {}
        }
        if !self.is_called(header) {
            return Err(Refusal::new(UNKNOWN_OBJECT, "there is no such object"));
        }
        if interface.is_some_and(|interface| interface != INTERFACE) {
            return Err(Refusal::new(UNKNOWN_INTERFACE, "there is no such interface"));
        }
        let wish = wish(member, message)?;
        if !self.is_of_user(header) {
            return Err(Refusal::new(DENIED, "you are another user"));
        }
        let begun = self.application.fulfil(wish);
        begun.map(|()| None).map_err(|error| {
            let name = if error.kind() == ErrorKind::Busy { TOO_MUCH } else { BAD_ARGUMENTS };
            Refusal::new(name, error.reason())
        })
    }

    fn is_called(&self, header: &Header<'_>) -> bool {
        header.path().is_some_and(|path| path.as_str() == self.path)
    }

    /// Whether the caller is the user himself: some buses let others in.
    fn is_of_user(&self, header: &Header<'_>) -> bool {
        let Some(sender) = header.sender() else { return false };
        let asked = block_on(async {
            let asked = self.bus.call_method(Some(BUS), "/", Some(BUS), "GetConnectionUnixUser", &sender);
            asked.await?.body().deserialize::<u32>()
        });
        asked.is_ok_and(|user| user == effective_user())
    }
}

/// Why a call was not answered, as D-Bus tells it.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    name: &'static str,
    reason: String,
}

impl Refusal {
    fn new(name: &'static str, reason: &str) -> Self {
        Self { name, reason: reason.to_owned() }
    }
}

/// What a method of the interface asks for. What the desktop says of itself (`platform_data`) is passed over.
fn wish(member: &str, message: &Message) -> Result<Wish, Refusal> {
    type Platform = HashMap<String, OwnedVariant>;
    let body = message.body();
    let bad = |_| Refusal::new(BAD_ARGUMENTS, "the arguments are not those of this method");
    match member {
        "Activate" => {
            body.deserialize::<(Platform,)>().map_err(bad)?;
            Ok(Wish::Activate)
        }
        "Open" => {
            let (addresses, _) = body.deserialize::<(Vec<String>, Platform)>().map_err(bad)?;
            if addresses.len() > MOST_ADDRESSES {
                return Err(Refusal::new(TOO_MUCH, "too many files at once"));
            }
            let paths = addresses.iter().map(|address| path_at(address));
            let paths: Option<Vec<_>> = paths.collect();
            paths.map(Wish::Open).ok_or_else(|| Refusal::new(BAD_ARGUMENTS, "an address is none of a file"))
        }
        "ActivateAction" => {
            let (action, _, _) = body.deserialize::<(String, Vec<OwnedVariant>, Platform)>().map_err(bad)?;
            Ok(Wish::Action(action))
        }
        _ => Err(Refusal::new(UNKNOWN_METHOD, "there is no such method")),
    }
}

/// The path that an address leads to (RFC 8089). One that is no file's stays as it is: whoever opens it says that it is none.
fn path_at(address: &str) -> Option<PathBuf> {
    if address.len() > MOST_BYTES || address.contains('\0') {
        return None;
    }
    let (scheme, rest) = address.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("file") {
        return address.contains("://").then(|| PathBuf::from(address));
    }
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(left.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok().filter(|byte| *byte != 0)?
            }
            byte => byte,
        });
    }
    bytes.starts_with(b"/").then(|| PathBuf::from(OsString::from_vec(bytes)))
}

/// The object that stands for the program `name`.
fn path_of(name: &str) -> String {
    format!("/{}", name.replace('.', "/").replace('-', "_"))
}

/// Whether the caller waits for an answer.
fn wants_reply(header: &PrimaryHeader) -> bool {
    !header.flags().contains(Flags::NO_REPLY_EXPECTED)
}

fn failed(error: zbus::Error) -> Error {
    Error::caused_by(ErrorKind::Io, error).during("cannot serve the desktop")
}

const INTERFACE: &str = "org.freedesktop.Application";
const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
const PEER: &str = "org.freedesktop.DBus.Peer";

// Errors of the D-Bus specification.
const BAD_ARGUMENTS: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";
const TOO_MUCH: &str = "org.freedesktop.DBus.Error.LimitsExceeded";
const UNKNOWN_INTERFACE: &str = "org.freedesktop.DBus.Error.UnknownInterface";
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";

/// So many addresses of a call are read.
const MOST_ADDRESSES: usize = 64;
/// The bytes of an address: of a path, each byte of it as three.
const MOST_BYTES: usize = 3 * 4096 + 32;
/// How long nobody calls before it ends.
const IDLE: Duration = Duration::from_secs(10);
/// How long an answer of the bus is waited for.
const QUICKLY: Duration = Duration::from_secs(5);
/// How long the bus may take to say that the name is given back.
const LAST_MOMENT: Duration = Duration::from_secs(1);

const DESCRIPTION: &str = r#"<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<node>
  <interface name="org.freedesktop.Application">
    <method name="Activate">
      <arg type="a{sv}" name="platform_data" direction="in"/>
    </method>
    <method name="Open">
      <arg type="as" name="uris" direction="in"/>
      <arg type="a{sv}" name="platform_data" direction="in"/>
    </method>
    <method name="ActivateAction">
      <arg type="s" name="action_name" direction="in"/>
      <arg type="av" name="parameter" direction="in"/>
      <arg type="a{sv}" name="platform_data" direction="in"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg type="s" name="xml_data" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
  </interface>
</node>
"#;

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn an_address_leads_to_the_bytes_of_a_path() {
        for (address, path) in [
            ("file:///home/a/v.vault", Some(&b"/home/a/v.vault"[..])),
            ("FILE:///a", Some(b"/a")),
            ("file:/a", Some(b"/a")),
            ("file://localhost/a%20b%25", Some(b"/a b%")),
            ("file:///caf%e9/%0a", Some(b"/caf\xe9/\n")),
            ("file:///-rf;%24(x)", Some(b"/-rf;$(x)")),
            ("smb://host/v.vault", Some(b"smb://host/v.vault")),
            ("file:///a%00b", None),
            ("file:///a%2", None),
            ("file:///a%zz", None),
            ("file:///a%+1", None),
            ("file://elsewhere/a", None),
            ("file:a", None),
            ("file:", None),
            ("--force", None),
            ("/etc/passwd", None),
            ("UUID=1", None),
            ("x:y", None),
            ("", None),
        ] {
            let found = path_at(address);
            assert_eq!(found.as_ref().map(|path| path.as_os_str().as_bytes()), path, "{address}");
        }
        assert_eq!(path_at(&format!("file:///{}", "a".repeat(MOST_BYTES))), None);
    }

    #[test]
    fn an_object_has_the_name_of_its_program() {
        assert_eq!(path_of("org.strongroom.Strong-room"), "/org/strongroom/Strong_room");
    }
}
