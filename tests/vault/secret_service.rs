//! What stands on a test's bus for the keyring of a desktop (Secret Service API).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use strongroom::crypto::{
    rng::OsRng,
    secret::Password,
    transport::{Exchange, Transport},
};
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant, block_on};

use super::bus::{Bus, next_call};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As a keyring that is unlocked.
    Open,
    /// It is locked, and its user unlocks it when he is asked.
    Locked,
    /// It is locked, and its user closes the window.
    Dismissed,
    /// It knows no encryption.
    Plain,
    /// It does not answer.
    Hangs,
    /// What it gives is nothing that anybody encrypted.
    Garbles,
}

/// A password, under its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) label: String,
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) secret: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Item>,
    is_open: bool,
    prompts: usize,
    /// The values that crossed the bus.
    crossed: Vec<Vec<u8>>,
    transport: Option<Transport>,
}

pub(crate) struct Keyring {
    state: Arc<Mutex<State>>,
}

impl Keyring {
    pub(crate) fn start(bus: &Bus, manner: Manner) -> Self {
        let (bus, stream) = bus.connect();
        let is_open = ![Manner::Locked, Manner::Dismissed].contains(&manner);
        let state = Arc::new(Mutex::new(State { is_open, ..State::default() }));
        let (theirs, shared) = (bus.clone(), Arc::clone(&state));
        thread::spawn(move || block_on(be_keyring(&theirs, stream, manner, &shared)));
        block_on(bus.request_name("org.freedesktop.secrets")).unwrap();
        Self { state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn items(&self) -> Vec<Item> {
        self.state().items.clone()
    }

    /// Puts something into it.
    pub(crate) fn put(&self, item: Item) {
        self.state().items.push(item);
    }

    /// Has what is kept be another password.
    pub(crate) fn replace_secrets(&self, secret: &str) {
        for item in &mut self.state().items {
            item.secret = secret.as_bytes().to_vec();
        }
    }

    /// How often its user was asked to unlock it.
    pub(crate) fn prompts(&self) -> usize {
        self.state().prompts
    }

    /// Whether these bytes crossed the bus as they are.
    pub(crate) fn saw(&self, bytes: &[u8]) -> bool {
        self.state().crossed.iter().any(|value| value.windows(bytes.len()).any(|part| part == bytes))
    }
}

type Secret = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

fn path(path: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(path).unwrap()
}

fn item_path(number: usize) -> OwnedObjectPath {
    path(&format!("/org/freedesktop/secrets/collection/login/{number}"))
}

async fn be_keyring(bus: &Connection, mut stream: MessageStream, manner: Manner, state: &Mutex<State>) {
    while let Some(Ok(call)) = next_call(&mut stream).await {
        if manner != Manner::Hangs {
            answer(bus, &call, manner, state).await;
        }
    }
}

async fn answer(bus: &Connection, call: &Message, manner: Manner, state: &Mutex<State>) {
    let header = call.header();
    let object = header.path().unwrap().to_string();
    let number = || object.rsplit('/').next().unwrap().parse::<usize>().unwrap();
    match header.member().unwrap().as_str() {
        "OpenSession" => {
            let (algorithm, theirs): (String, OwnedVariant) = call.body().deserialize().unwrap();
            if algorithm == "plain" {
                state.lock().unwrap().transport = None;
                bus.reply(&header, &(Variant::from(""), path("/s"))).await.unwrap();
            } else if manner == Manner::Plain {
                let name = "org.freedesktop.DBus.Error.NotSupported";
                bus.reply_error(&header, name, &"no").await.unwrap();
            } else {
                assert_eq!(algorithm, "dh-ietf1024-sha256-aes128-cbc-pkcs7");
                let exchange = Exchange::begin(&OsRng).unwrap();
                let agreed = exchange.agree(&Vec::<u8>::try_from(theirs).unwrap()).unwrap();
                state.lock().unwrap().transport = Some(agreed);
                let ours = Variant::from(exchange.public().to_vec());
                bus.reply(&header, &(ours, path("/s"))).await.unwrap();
            }
        }
        "SearchItems" => {
            let (wanted,): (HashMap<String, String>,) = call.body().deserialize().unwrap();
            assert!(!wanted.contains_key("xdg:schema"), "GNOME's finds nothing by that while it is locked");
            let (found, is_open) = {
                let state = state.lock().unwrap();
                let fits =
                    |item: &Item| wanted.iter().all(|(key, value)| item.attributes.get(key) == Some(value));
                let found: Vec<_> = state.items.iter().enumerate().filter(|(_, item)| fits(item)).collect();
                (found.into_iter().map(|(number, _)| item_path(number)).collect::<Vec<_>>(), state.is_open)
            };
            let none = Vec::<OwnedObjectPath>::new();
            let reply = if is_open { (found, none) } else { (none, found) };
            bus.reply(&header, &reply).await.unwrap();
        }
        "ReadAlias" => bus.reply(&header, &path("/org/freedesktop/secrets/collection/login")).await.unwrap(),
        "Unlock" => {
            let (wanted,): (Vec<OwnedObjectPath>,) = call.body().deserialize().unwrap();
            let is_open = state.lock().unwrap().is_open;
            let reply = if is_open { (wanted, path("/")) } else { (Vec::new(), path("/prompt/1")) };
            bus.reply(&header, &reply).await.unwrap();
        }
        "Prompt" => {
            state.lock().unwrap().prompts += 1;
            bus.reply(&header, &()).await.unwrap();
            let is_dismissed = manner == Manner::Dismissed;
            state.lock().unwrap().is_open = !is_dismissed;
            let body = (is_dismissed, Variant::from(""));
            bus.emit_signal(None::<&str>, &*object, "org.freedesktop.Secret.Prompt", "Completed", &body)
                .await
                .unwrap();
        }
        "GetSecret" => {
            let secret = {
                let mut state = state.lock().unwrap();
                assert!(state.is_open);
                let password = Password::copy_of(&state.items[number()].secret).unwrap();
                let (parameters, value) = match &state.transport {
                    _ if manner == Manner::Garbles => (vec![0; 16], vec![0; 33]),
                    Some(transport) => {
                        let (iv, sealed) = transport.seal(&password, &OsRng).unwrap();
                        (iv.to_vec(), sealed)
                    }
                    None => (Vec::new(), password.expose().to_vec()),
                };
                state.crossed.push(value.clone());
                (path("/s"), parameters, value, "text/plain".to_owned())
            };
            bus.reply(&header, &(secret,)).await.unwrap();
        }
        "CreateItem" => {
            type Body = (HashMap<String, OwnedVariant>, Secret, bool);
            let (mut properties, (_, parameters, value, _), replaces) =
                call.body().deserialize::<Body>().unwrap();
            assert!(replaces);
            let label = properties.remove("org.freedesktop.Secret.Item.Label").unwrap();
            let attributes = properties.remove("org.freedesktop.Secret.Item.Attributes").unwrap();
            let attributes = HashMap::<String, String>::try_from(attributes).unwrap();
            {
                let mut state = state.lock().unwrap();
                assert!(state.is_open);
                let secret = match &state.transport {
                    Some(transport) => transport.open(&parameters, &value).unwrap().expose().to_vec(),
                    None => value.clone(),
                };
                state.crossed.push(value);
                state.items.retain(|item| item.attributes != attributes);
                state.items.push(Item { label: String::try_from(label).unwrap(), attributes, secret });
            }
            bus.reply(&header, &(item_path(0), path("/"))).await.unwrap();
        }
        "Delete" => {
            // The others keep their numbers.
            state.lock().unwrap().items[number()].attributes.clear();
            bus.reply(&header, &path("/")).await.unwrap();
        }
        _ => {}
    }
}
