//! The Secret Service of a desktop (`org.freedesktop.secrets`, API 0.2), over the bus of the user's session.
//!
//! Each question is asked by a thread of its own, on a connection of its own: nobody hangs with a service that does not answer, and no
//! session with it outlives the question.

use std::{
    collections::HashMap,
    env,
    future::poll_fn,
    pin::Pin,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use futures_core::Stream;
use zbus::{
    Connection, DynamicType, Error as BusError, MatchRule, Message, MessageStream, OwnedObjectPath,
    OwnedVariant, Variant, block_on, connection::Builder, fdo, message::Type, wire::DynamicDeserialize,
};

use super::Keyring;
use crate::{
    crypto::{
        rng::OsRng,
        secret::Password,
        transport::{Exchange, Transport},
    },
    error::{Error, ErrorKind, Result},
    sys::{
        process::{effective_user, is_root},
        session_bus,
    },
    text::excerpt,
};

/// The service of this user's session.
#[derive(Debug, Clone)]
pub struct SecretService {
    /// The bus.
    address: String,
    /// Whether the service can ask the user for anything.
    has_display: bool,
}

impl SecretService {
    /// The one that this process's environment leads to. Nothing is asked of it yet.
    ///
    /// # Errors
    /// `Permission` for root, who has none; `Missing` where there is no session.
    pub fn of_user() -> Result<Self> {
        if is_root() {
            return Err(Error::new(ErrorKind::Permission, "root has no keyring")
                .with_hint("call strongroom as the user of the desktop, without sudo"));
        }
        let address = session_bus::of_user().ok_or_else(missing)?;
        let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some());
        Ok(Self { address, has_display })
    }

    /// Has a thread talk to the service, and waits for it within `limit`.
    fn ask<T, F>(&self, limit: Duration, talk: impl FnOnce(Service) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let (answer, answered) = mpsc::channel();
        let this = self.clone();
        let ask = move || {
            let talked = block_on(async { talk(Service::reach(&this).await?).await });
            // Nobody waits for what comes too late.
            let _ = answer.send(talked);
        };
        thread::Builder::new().name("keyring".to_owned()).spawn(ask)?;
        answered.recv_timeout(limit).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => Err(silent()),
            RecvTimeoutError::Disconnected => Err(Error::new(ErrorKind::Io, "the keyring failed")),
        })
    }
}

impl Keyring for SecretService {
    fn has(&self, uuid: &str) -> Result<bool> {
        let wanted = Wanted::of(Some(uuid));
        self.ask(QUICKLY, |service| async move {
            let found = service.search(&wanted).await?;
            Ok(!(found.open.is_empty() && found.locked.is_empty()))
        })
    }

    fn password(&self, uuid: &str) -> Result<Option<Password>> {
        // Only where there is one is it worth that somebody may have to be asked.
        if !self.has(uuid)? {
            return Ok(None);
        }
        let wanted = Wanted::of(Some(uuid));
        self.ask(PATIENTLY, |service| async move {
            let found = service.search(&wanted).await?;
            let item = match (found.open.into_iter().next(), found.locked.into_iter().next()) {
                (Some(item), _) => item,
                (None, Some(item)) => {
                    service.unlock(&[&item]).await?;
                    item
                }
                (None, None) => return Ok(None),
            };
            let session = service.open_session().await?;
            service.secret(&item, &session).await.map(Some)
        })
    }

    fn keep(&self, uuid: &str, label: &str, password: &Password) -> Result<()> {
        let (wanted, label) = (Wanted::of(Some(uuid)), label.to_owned());
        let password = Password::copy_of(password.expose())?;
        self.ask(PATIENTLY, |service| async move {
            let session = service.open_session().await?;
            let collection = service.usual_collection().await?;
            service.unlock(&[&collection]).await?;
            service.create(&collection, (&label, &wanted), &session.seal(&password)?).await
        })
    }

    fn forget(&self, uuid: Option<&str>) -> Result<usize> {
        let wanted = Wanted::of(uuid);
        self.ask(PATIENTLY, |service| async move {
            let Found { mut open, locked } = service.search(&wanted).await?;
            if !locked.is_empty() {
                service.unlock(&locked.iter().collect::<Vec<_>>()).await?;
                open.extend(locked);
            }
            for item in &open {
                service.delete(item).await?;
            }
            Ok(open.len())
        })
    }
}

/// By which attributes a password is found. They are not secret.
#[derive(Debug)]
struct Wanted(HashMap<&'static str, String>);

impl Wanted {
    fn of(uuid: Option<&str>) -> Self {
        let uuid = uuid.map(|uuid| ("uuid", uuid.to_ascii_lowercase()));
        Self([("application", OURS.to_owned())].into_iter().chain(uuid).collect())
    }
}

/// What a search found.
#[derive(Debug)]
struct Found {
    open: Vec<OwnedObjectPath>,
    locked: Vec<OwnedObjectPath>,
}

/// A secret as it crosses the bus: session, parameters, value, content type.
type OnTheBus = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

/// A session with the service: how secrets cross the bus.
#[derive(Debug)]
struct Session {
    path: OwnedObjectPath,
    /// `None` where the service knows no encryption.
    transport: Option<Transport>,
}

impl Session {
    fn seal(&self, password: &Password) -> Result<OnTheBus> {
        let (parameters, value) = match &self.transport {
            Some(transport) => {
                let (iv, sealed) = transport.seal(password, &OsRng)?;
                (iv.to_vec(), sealed)
            }
            None => (Vec::new(), password.expose().to_vec()),
        };
        let is_text = str::from_utf8(password.expose()).is_ok();
        let content_type = if is_text { "text/plain; charset=utf8" } else { "application/octet-stream" };
        Ok((self.path.clone(), parameters, value, content_type.to_owned()))
    }

    fn open(&self, (_, parameters, value, _): &OnTheBus) -> Result<Password> {
        if value.len() > MOST_BYTES {
            return Err(Error::new(ErrorKind::Damaged, "what the keyring sent is too long for a password"));
        }
        match &self.transport {
            Some(transport) => transport.open(parameters, value),
            None => Ok(Password::copy_of(value)?),
        }
    }
}

/// The service, reached.
#[derive(Debug)]
struct Service {
    bus: Connection,
    has_display: bool,
}

impl Service {
    async fn reach(service: &SecretService) -> Result<Self> {
        let bus =
            Builder::address(&*service.address).method_timeout(QUICKLY).build().await.map_err(failed)?;
        let peer = bus.peer_creds().await?;
        if peer.unix_user_id() != Some(effective_user()) {
            return Err(Error::new(ErrorKind::Permission, "the bus is somebody else's"));
        }
        Ok(Self { bus, has_display: service.has_display })
    }

    async fn call<B, R>(&self, path: &str, (interface, method): (&str, &str), body: &B) -> zbus::Result<R>
    where
        B: serde::Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        let reply = self.bus.call_method(Some(SERVICE), path, Some(interface), method, body).await?;
        reply.body().deserialize()
    }

    async fn search(&self, wanted: &Wanted) -> Result<Found> {
        let found = self.call(OBJECT, (INTERFACE, "SearchItems"), &(&wanted.0,)).await;
        let (open, locked) = found.map_err(failed)?;
        Ok(Found { open, locked })
    }

    /// Agrees on a key with it, where it knows how.
    async fn open_session(&self) -> Result<Session> {
        let exchange = Exchange::begin(&OsRng)?;
        let open = (INTERFACE, "OpenSession");
        let body = (ENCRYPTED, Variant::from(exchange.public().to_vec()));
        let opened: zbus::Result<(OwnedVariant, OwnedObjectPath)> = self.call(OBJECT, open, &body).await;
        match opened {
            Ok((theirs, path)) => {
                let theirs = Vec::<u8>::try_from(theirs)
                    .map_err(|_| Error::new(ErrorKind::Io, "the keyring sent no public number"))?;
                Ok(Session { path, transport: Some(exchange.agree(&theirs)?) })
            }
            Err(error) if is_not_supported(&error) => {
                let body = ("plain", Variant::from(""));
                let opened: zbus::Result<(OwnedVariant, OwnedObjectPath)> =
                    self.call(OBJECT, open, &body).await;
                let (_, path) = opened.map_err(failed)?;
                Ok(Session { path, transport: None })
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn secret(&self, item: &OwnedObjectPath, session: &Session) -> Result<Password> {
        let secret = self.call(item.as_str(), (ITEM, "GetSecret"), &(&session.path,)).await;
        session.open(&secret.map_err(failed)?)
    }

    /// Where programs keep their secrets that name no other place. It is made where there is none.
    async fn usual_collection(&self) -> Result<OwnedObjectPath> {
        let alias = self.call(OBJECT, (INTERFACE, "ReadAlias"), &("default",)).await;
        let collection: OwnedObjectPath = alias.map_err(failed)?;
        if !is_nothing(&collection) {
            return Ok(collection);
        }
        let properties =
            HashMap::from([("org.freedesktop.Secret.Collection.Label", Variant::from("Default"))]);
        let made = self.call(OBJECT, (INTERFACE, "CreateCollection"), &(properties, "default")).await;
        let (collection, prompt): (OwnedObjectPath, OwnedObjectPath) = made.map_err(failed)?;
        if is_nothing(&prompt) {
            return Ok(collection);
        }
        let made = self.prompt(&prompt).await?;
        OwnedObjectPath::try_from(made)
            .map_err(|_| Error::new(ErrorKind::Io, "the keyring made no place for the password"))
    }

    /// Unlocks items or collections; the user is asked where that takes a password.
    async fn unlock(&self, paths: &[&OwnedObjectPath]) -> Result<()> {
        let unlocked = self.call(OBJECT, (INTERFACE, "Unlock"), &(paths,)).await;
        let (_, prompt): (Vec<OwnedObjectPath>, OwnedObjectPath) = unlocked.map_err(failed)?;
        self.answer(&prompt).await
    }

    async fn create(
        &self,
        collection: &OwnedObjectPath,
        (label, wanted): (&str, &Wanted),
        secret: &OnTheBus,
    ) -> Result<()> {
        let properties = HashMap::from([
            ("org.freedesktop.Secret.Item.Label", Variant::from(label)),
            ("org.freedesktop.Secret.Item.Attributes", Variant::from(wanted.0.clone())),
        ]);
        let created =
            self.call(collection.as_str(), (COLLECTION, "CreateItem"), &(properties, secret, true)).await;
        let (_, prompt): (OwnedObjectPath, OwnedObjectPath) = created.map_err(failed)?;
        self.answer(&prompt).await
    }

    async fn delete(&self, item: &OwnedObjectPath) -> Result<()> {
        let deleted: zbus::Result<OwnedObjectPath> = self.call(item.as_str(), (ITEM, "Delete"), &()).await;
        self.answer(&deleted.map_err(failed)?).await
    }

    async fn answer(&self, prompt: &OwnedObjectPath) -> Result<()> {
        if is_nothing(prompt) { Ok(()) } else { self.prompt(prompt).await.map(drop) }
    }

    /// Has the service ask the user what it must know, and gives what came of it.
    async fn prompt(&self, prompt: &OwnedObjectPath) -> Result<OwnedVariant> {
        if !self.has_display {
            return Err(Error::new(
                ErrorKind::Permission,
                "the keyring is locked, and there is no display to unlock it on",
            )
            .with_hint("unlock it on the desktop first"));
        }
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SERVICE)
            .path(prompt.as_str())
            .interface(PROMPT)
            .member("Completed")
            .build()
            .map_err(failed)?;
        let mut completed = MessageStream::for_match_rule(rule, &self.bus, None).await.map_err(failed)?;
        let shown: zbus::Result<()> = self.call(prompt.as_str(), (PROMPT, "Prompt"), &("",)).await;
        shown.map_err(failed)?;
        let told = poll_fn(|context| Pin::new(&mut completed).poll_next(context)).await;
        let told: Message = told.ok_or_else(silent)?.map_err(failed)?;
        let (is_dismissed, result): (bool, OwnedVariant) = told.body().deserialize().map_err(failed)?;
        if is_dismissed {
            return Err(Error::new(ErrorKind::Permission, "the keyring was not unlocked"));
        }
        Ok(result)
    }
}

/// A path that stands for none.
fn is_nothing(path: &OwnedObjectPath) -> bool {
    path.as_str() == "/"
}

fn is_not_supported(error: &BusError) -> bool {
    match error {
        BusError::MethodError(name, ..) => name.as_str() == "org.freedesktop.DBus.Error.NotSupported",
        BusError::FDO(error) => matches!(**error, fdo::Error::NotSupported(_)),
        _ => false,
    }
}

/// What went wrong, in our words.
fn failed(error: BusError) -> Error {
    match error {
        BusError::MethodError(name, text, _) => {
            let text = text.as_deref().filter(|text| !text.is_empty()).unwrap_or(name.as_str());
            match name.as_str() {
                "org.freedesktop.Secret.Error.IsLocked" => {
                    Error::new(ErrorKind::Permission, "the keyring is locked")
                }
                _ => Error::new(ErrorKind::Io, format!("the keyring: {}", excerpt(text))),
            }
        }
        BusError::FDO(error) => match *error {
            fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::SpawnServiceNotFound(_)
            | fdo::Error::SpawnExecFailed(_)
            | fdo::Error::SpawnFailed(_)
            | fdo::Error::SpawnChildExited(_)
            | fdo::Error::SpawnChildSignaled(_) => missing(),
            fdo::Error::NoReply(_)
            | fdo::Error::Timeout(_)
            | fdo::Error::TimedOut(_)
            | fdo::Error::Disconnected(_) => silent(),
            other => Error::new(ErrorKind::Io, format!("the keyring: {}", excerpt(&other.to_string()))),
        },
        BusError::InputOutput(error) | BusError::Connection(error, _) => match error.kind() {
            std::io::ErrorKind::TimedOut => silent(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => missing(),
            _ => Error::new(ErrorKind::Io, format!("the session's bus: {}", excerpt(&error.to_string()))),
        },
        other => Error::new(ErrorKind::Io, format!("the session's bus: {}", excerpt(&other.to_string()))),
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::Missing, "there is no keyring (Secret Service) in this session")
        .with_hint("log in to a desktop that has one: GNOME's keyring, KWallet, or KeePassXC")
}

fn silent() -> Error {
    Error::new(ErrorKind::Io, "the keyring does not answer")
}

/// What marks our secrets among those of other programs. Not by `xdg:schema`: GNOME's keyring finds nothing by that while it is locked
/// and was not unlocked before.
const OURS: &str = "strongroom";
const SERVICE: &str = "org.freedesktop.secrets";
const OBJECT: &str = "/org/freedesktop/secrets";
const INTERFACE: &str = "org.freedesktop.Secret.Service";
const COLLECTION: &str = "org.freedesktop.Secret.Collection";
const ITEM: &str = "org.freedesktop.Secret.Item";
const PROMPT: &str = "org.freedesktop.Secret.Prompt";
const ENCRYPTED: &str = "dh-ietf1024-sha256-aes128-cbc-pkcs7";
/// The longest password that is taken.
const MOST_BYTES: usize = 1 << 20;
/// So long the service may take to answer, and to start.
const QUICKLY: Duration = Duration::from_secs(5);
/// So long somebody may look for the password of the keyring.
const PATIENTLY: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_found_by_its_uuid_whatever_its_case() {
        let wanted = Wanted::of(Some("6B3A-0F"));
        assert_eq!((&*wanted.0["uuid"], &*wanted.0["application"]), ("6b3a-0f", OURS));
        assert_eq!(Wanted::of(None).0.len(), 1);
    }

    #[test]
    fn without_a_service_the_way_out_is_told() {
        let nowhere = SecretService { address: "unix:path=/nowhere/bus".to_owned(), has_display: true };
        let error = nowhere.has("u").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert!(error.hint().unwrap().contains("desktop"), "{error:?}");
    }

    #[test]
    fn what_the_keyring_says_stays_one_line() {
        let message = Message::method_call("/", "Get").build(&()).unwrap();
        let error = BusError::MethodError(
            "org.example.Failed".try_into().unwrap(),
            Some("no\n\u{1b}[31mroom".to_owned()),
            message,
        );
        let told = failed(error);
        assert_eq!(told.kind(), ErrorKind::Io);
        assert!(told.reason().contains("room") && !told.reason().contains(['\n', '\u{1b}']), "{told}");
    }

    #[test]
    fn more_than_a_password_is_not_taken() {
        let path = OwnedObjectPath::try_from("/s").unwrap();
        let session = Session { path: path.clone(), transport: None };
        let of = |len| session.open(&(path.clone(), Vec::new(), vec![0; len], String::new()));
        assert_eq!(of(MOST_BYTES + 1).unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(of(5).unwrap().len(), 5);
    }
}
