//! Pins: what is remembered of headers outside their containers, so that one that was changed is noticed.
//!
//! A header of LUKS is only checksummed. Whoever can write to the container can put keyslots and a cipher of his own into it;
//! a pin is what shows that. The header of a native container is authentic or does not open, but an old one can be put in its
//! place: its pin remembers how far it had come.

use std::{
    fs,
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{self, Path, PathBuf},
};

use rustix::{fs::OFlags, process::geteuid};
use serde::{Deserialize, Serialize};

use crate::{
    crypto::{hash::sha256, secret::VolumeKey},
    error::{Error, ErrorKind, Result},
    format::{Fact, Fingerprint, State, Subject, digest_of, hex, native::NativeHeader},
    storage::Storage,
};

/// The folder of a user's pins, one file a container.
#[derive(Debug, Clone)]
pub struct Pins {
    folder: PathBuf,
}

/// What is remembered of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    version: u32,
    uuid: String,
    facts: Vec<Fact>,
    sequence: Option<u64>,
    /// How often re-encryptions have started and ended. None in pins from before it was remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    /// How many records the one had written that was under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<u64>,
    /// SHA-256 of the paths where the container was opened, as they were given and resolved. Devices are not among them: their
    /// names go from one to another.
    places: Vec<String>,
    /// Over all the above, against damage.
    checksum: String,
}

/// How a header is to its pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Neither the container nor the place where it lies is known.
    Unknown,
    /// It is as it was.
    Same,
    /// It is not: what is different, each as a phrase.
    Changed(Vec<String>),
}

impl Pins {
    /// The pins in `folder`, which is made when the first one is stored.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Compares a header with its pin. `path` is where the container lies: another container in a pinned one's place is as bad as
    /// a changed header. `None` stands for a header that has no fingerprint.
    ///
    /// # Errors
    /// `Damaged` where the pin of this container cannot be read.
    pub fn compare(&self, header: Option<&Fingerprint>, path: &Path) -> Result<Standing> {
        if let Some(header) = header
            && let Some(pin) = self.find(header.uuid())?
        {
            let changes = pin.changes(header);
            return Ok(if changes.is_empty() { Standing::Same } else { Standing::Changed(changes) });
        }
        let places = places(path);
        let pinned =
            self.all()?.into_iter().find(|pin| places.iter().any(|place| pin.places.contains(place)));
        Ok(pinned.map_or(Standing::Unknown, |pin| {
            Standing::Changed(vec![format!("another container was there, with the UUID {}", pin.uuid)])
        }))
    }

    /// The pin of the container with this UUID.
    ///
    /// # Errors
    /// `Damaged`, or what reading gave.
    pub fn find(&self, uuid: &str) -> Result<Option<Pin>> {
        let file = self.file(uuid);
        match read(&file) {
            Ok(pin) => Ok(Some(pin)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.during(format!("cannot read the pin {}", file.display()))),
        }
    }

    /// Remembers a header. Gives the pin's file. Another container that was pinned in this place is forgotten there.
    ///
    /// # Errors
    /// What making the folder and writing gave; the old pin is still there then.
    pub fn store(&self, header: &Fingerprint, path: &Path) -> Result<PathBuf> {
        let file = self.file(header.uuid());
        let cannot = |error: Error| error.during(format!("cannot write the pin {}", file.display()));
        self.prepare_folder().map_err(cannot)?;
        let here = places(path);
        self.vacate(&here, Some(header.uuid()))?;
        let mut places = self.find(header.uuid()).ok().flatten().map_or_else(Vec::new, |pin| pin.places);
        if path.is_file() {
            places.retain(|place| !here.contains(place));
            places.extend(here);
            let surplus = places.len().saturating_sub(MOST_PLACES);
            places.drain(..surplus);
        }
        let facts = header.facts().to_vec();
        let uuid = header.uuid().to_owned();
        let mut pin = Pin {
            version: VERSION,
            uuid,
            facts,
            sequence: None,
            generation: None,
            record: None,
            places,
            checksum: String::new(),
        };
        pin.set_state(header.state());
        self.write(&mut pin).map_err(cannot)?;
        Ok(file)
    }

    /// Lets the pin follow a header that this program has just written, and read back as authentic: `header` is what it is
    /// now. Where there is no pin, or it is not one that only moves on, nothing is done.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn advance(&self, header: &Fingerprint) -> Result<()> {
        let Some(mut pin) = self.find(header.uuid())? else { return Ok(()) };
        if !pin.changes(header).is_empty() || !pin.is_older_than(header) {
            return Ok(());
        }
        pin.set_state(header.state());
        let file = self.file(header.uuid());
        self.write(&mut pin).map_err(|error| error.during(format!("cannot write the pin {}", file.display())))
    }

    /// The same with the header of a native container, which is read once more. `key` is its volume key.
    ///
    /// # Errors
    /// What reading the header gave, and as [`Self::advance`].
    pub fn advance_to(&self, storage: &dyn Storage, key: &VolumeKey) -> Result<()> {
        let header = NativeHeader::read(storage)?.authentic_fingerprint(key)?;
        header.map_or(Ok(()), |header| self.advance(&header))
    }

    /// Forgets which container lay at `path`: the user has just put another one in its place. The pin itself stays, for copies of
    /// that container elsewhere.
    ///
    /// # Errors
    /// What reading and writing gave.
    pub fn leave(&self, path: &Path) -> Result<()> {
        self.vacate(&places(path), None)
    }

    /// Takes places away from all pins but that of the container `keeper`.
    fn vacate(&self, places: &[String], keeper: Option<&str>) -> Result<()> {
        for mut pin in self.all()?.into_iter().filter(|pin| Some(pin.uuid.as_str()) != keeper) {
            if places.iter().any(|place| pin.places.contains(place)) {
                pin.places.retain(|place| !places.contains(place));
                self.write(&mut pin)?;
            }
        }
        Ok(())
    }

    /// The folder that they are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets the pin follow a change of keyslots that this program made, where the header was as pinned before.
    ///
    /// # Errors
    /// `Tampered` where more than keyslots has changed; the old pin stays. As [`Self::store`].
    pub fn follow(&self, before: &Fingerprint, after: &Fingerprint, path: &Path) -> Result<()> {
        let Some(pin) = self.find(before.uuid())? else { return Ok(()) };
        if !pin.changes(before).is_empty() {
            return Ok(());
        }
        let others = |fingerprint: &Fingerprint| -> Vec<Fact> {
            let facts = fingerprint.facts().iter();
            facts.filter(|fact| !fact.is_about(Subject::Keyslot)).cloned().collect()
        };
        let changes = differences(&others(before), &others(after));
        if before.uuid() != after.uuid() || !changes.is_empty() {
            let reason = format!("more than its keyslots has changed: {}", changes.join(", "));
            return Err(Error::new(ErrorKind::Tampered, reason));
        }
        self.store(after, path).map(drop)
    }

    /// Where the pin of the container with this UUID lies. What the header says becomes no part of a path: it is hashed.
    pub fn file(&self, uuid: &str) -> PathBuf {
        let digest = sha256(&[b"strongroom pin 1: container", uuid.to_ascii_lowercase().as_bytes()]);
        self.folder.join(format!("{}.json", hex(digest.get(..16).unwrap_or_default())))
    }

    /// Every pin that can be read: a damaged one must not keep other containers from being opened.
    fn all(&self) -> Result<Vec<Pin>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Error::from(error).during(format!("cannot read {}", self.folder.display())));
            }
        };
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
        Ok(files.filter_map(|file| read(&file).ok()).collect())
    }

    /// Makes the folder, and sees that nobody else can write there.
    fn prepare_folder(&self) -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let metadata = fs::metadata(&self.folder)?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let reason = format!("others can write to {}", self.folder.display());
            return Err(Error::new(ErrorKind::Permission, reason));
        }
        Ok(())
    }

    /// Replaces a pin's file as a whole: after a power cut it is the old one or the new one.
    fn write(&self, pin: &mut Pin) -> Result<()> {
        pin.checksum = pin.computed_checksum();
        let file = self.file(&pin.uuid);
        let new = file.with_extension(format!("new-{}", std::process::id()));
        let text =
            serde_json::to_string_pretty(pin).map_err(|error| Error::caused_by(ErrorKind::Io, error))?;
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&new)
            .and_then(|mut open| {
                open.write_all(text.as_bytes())?;
                open.write_all(b"\n")?;
                open.sync_all()
            })
            .and_then(|()| fs::rename(&new, &file));
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            return Err(error.into());
        }
        Ok(fs::File::open(&self.folder)?.sync_all()?)
    }
}

impl Pin {
    /// What a user can compare between machines: SHA-256 over all facts, in hexadecimal.
    pub fn digest(&self) -> String {
        digest_of(&self.facts)
    }

    /// Whether this container was pinned where `path` is too.
    pub fn knows(&self, path: &Path) -> bool {
        !path.is_file() || places(path).iter().all(|place| self.places.contains(place))
    }

    /// How a header differs, each difference as a phrase.
    pub fn changes(&self, header: &Fingerprint) -> Vec<String> {
        let mut changes = differences(&self.facts, header.facts());
        if let Some(pinned) = self.state() {
            changes.extend(fallen(pinned, header.state()));
        }
        changes
    }

    /// Whether the header may have moved on, where it is authentic and newer.
    pub fn is_older_than(&self, header: &Fingerprint) -> bool {
        self.state() < header.state()
    }

    /// What was seen of a header under a MAC. What a pin does not remember yet is as at the beginning.
    fn state(&self) -> Option<State> {
        let (generation, record) = (self.generation.unwrap_or(0), self.record.unwrap_or(0));
        self.sequence.map(|sequence| State { sequence, generation, record })
    }

    fn set_state(&mut self, state: Option<State>) {
        self.sequence = state.map(|state| state.sequence);
        self.generation = state.map(|state| state.generation);
        self.record = state.map(|state| state.record);
    }

    fn computed_checksum(&self) -> String {
        let sequence = self.sequence.map_or_else(String::new, |sequence| sequence.to_string());
        let mut parts = vec![digest_of(&self.facts), self.uuid.clone(), sequence, self.places.join(" ")];
        parts.extend(self.generation.map(|generation| generation.to_string()));
        parts.extend(self.record.map(|record| record.to_string()));
        let parts = parts.iter().map(|part| {
            let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
            [&len.to_le_bytes()[..], part.as_bytes()].concat()
        });
        hex(&sha256(&[b"strongroom pin 1: file", &parts.collect::<Vec<_>>().concat()]))
    }
}

/// Why a header is an old one: the first number that is lower than it was, as a phrase.
fn fallen(pinned: State, found: Option<State>) -> Option<String> {
    let old = |what: &str, found: String, pinned: u64| {
        format!("it is an old one: its {what} is {found}, and {pinned} was there already")
    };
    let Some(found) = found else { return Some(old("sequence number", "none".to_owned(), pinned.sequence)) };
    if found.sequence < pinned.sequence {
        return Some(old("sequence number", found.sequence.to_string(), pinned.sequence));
    }
    if found.generation < pinned.generation {
        return Some(old("generation", found.generation.to_string(), pinned.generation.into()));
    }
    (found.generation == pinned.generation && found.record < pinned.record)
        .then(|| old("re-encryption record", found.record.to_string(), pinned.record))
}

/// Facts that are in one list only or differ. An object that is new, gone or of another type as a whole is one phrase.
fn differences(old: &[Fact], new: &[Fact]) -> Vec<String> {
    let mut phrases = Vec::new();
    let mut add = |phrase: String| {
        if !phrases.contains(&phrase) {
            phrases.push(phrase);
        }
    };
    let find = |list: &[Fact], fact: &Fact| {
        list.iter().find(|other| (&other.object, &other.name) == (&fact.object, &fact.name)).cloned()
    };
    let has_object = |list: &[Fact], fact: &Fact| list.iter().any(|other| other.object == fact.object);
    let has_other_type = |fact: &Fact| {
        let kind = |list: &[Fact]| {
            let mut kinds = list.iter().filter(|other| other.object == fact.object && other.name == "type");
            kinds.next().map(|kind| kind.digest.clone())
        };
        fact.name != "type" && has_object(old, fact) && has_object(new, fact) && kind(old) != kind(new)
    };
    for fact in old.iter().filter(|fact| !has_other_type(fact)) {
        match find(new, fact) {
            Some(found) if found.digest == fact.digest => {}
            None if !has_object(new, fact) => add(format!("{} is gone", fact.object)),
            _ => add(described(fact)),
        }
    }
    for fact in new.iter().filter(|fact| find(old, fact).is_none() && !has_other_type(fact)) {
        if has_object(old, fact) { add(described(fact)) } else { add(format!("{} is new", fact.object)) }
    }
    phrases
}

/// `segment 0: encryption`, `data offset`.
fn described(fact: &Fact) -> String {
    if fact.object.is_empty() { fact.name.clone() } else { format!("{}: {}", fact.object, fact.name) }
}

fn read(file: &Path) -> Result<Pin> {
    let text = fs::read(file)?;
    let damaged = || {
        Error::new(ErrorKind::Damaged, "it is damaged")
            .with_hint("look at the container with info; --pin=renew makes a new pin of it")
    };
    let pin: Pin = serde_json::from_slice(&text).map_err(|_| damaged())?;
    if pin.version != VERSION || pin.checksum != pin.computed_checksum() {
        return Err(damaged());
    }
    Ok(pin)
}

/// What stands for a path in a pin: the path as it was given, the name in its folder, and the file that they lead to, where these
/// differ. A symbolic link that is put in a pinned container's place leads elsewhere, but has its name.
fn places(path: &Path) -> Vec<String> {
    let given = path::absolute(path).ok();
    let in_folder = given.as_deref().and_then(|given| {
        let folder = fs::canonicalize(given.parent()?).ok()?;
        Some(folder.join(given.file_name()?))
    });
    let resolved = fs::canonicalize(path).ok();
    let mut places = Vec::new();
    for path in [given, in_folder, resolved].into_iter().flatten() {
        let place = hex(&sha256(&[b"strongroom pin 1: place", path.as_os_str().as_bytes()]));
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Paths that one container is known by.
const MOST_PLACES: usize = 16;
/// The version of the file.
const VERSION: u32 = 1;
