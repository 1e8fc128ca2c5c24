//! Containers on disk: each format is a folder here and a line in [`FORMATS`]; each unlocks to a [`Layout`].

mod backup;
mod create;
mod finding;
mod fingerprint;
pub mod folder;
pub mod freeotfe;
mod growth;
mod info;
mod luks;
pub mod luks1;
pub mod luks2;
pub mod native;
mod noise;
pub mod partitions;
pub mod scan;
pub mod signature;
mod uuid;
pub mod veracrypt;

use backup::OLDER_PASSWORDS;
pub use backup::{HeaderBackup, HeaderRestore};
pub use create::{Blueprint, Extent, KdfBounds, NewHeader, Provision, Room, Wishes};
pub use finding::{Finding, Object, Severity};
pub use fingerprint::{Fact, Fingerprint, State, Subject, digest_of, hex};
pub use growth::{CutEnd, End, Growth, OpenEnd, Shrinkage};
pub use info::{CopyInfo, CopyState, Detail, HeaderInfo, KdfInfo, KeyslotInfo};
pub use noise::looks_random;
pub use uuid::{hyphenated, new_uuid, parse_uuid, uuid_of};

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    crypto::{
        kdf::{KdfCost, KdfLimits},
        rng::Rng,
        secret::{Credentials, VolumeKey},
        security_key::Challenge,
    },
    error::{Error, ErrorKind, Result},
    mapping::Layout,
    storage::Storage,
};

/// Every format, in the order in which they are probed.
pub static FORMATS: &[&dyn Format] = &[
    &native::Native,
    &luks1::Luks1,
    &luks2::Luks2,
    &veracrypt::VERACRYPT,
    &veracrypt::TRUECRYPT,
    &freeotfe::FreeOtfe,
];

/// The format of this name.
pub fn named(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|format| format.name() == name)
}

/// What a format says of a container at first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Its signature is there.
    Match,
    /// It is not this format.
    NoMatch,
    /// The format has no signature: only a password tells.
    Opaque,
}

/// One on-disk format.
pub trait Format: fmt::Debug + Send + Sync {
    /// The name that `--format` takes and `info` prints.
    fn name(&self) -> &'static str;

    /// Looks for the signature. Reads at most a few KiB.
    fn probe(&self, storage: &dyn Storage) -> Result<Probe>;

    /// Reads and checks all that can be checked without a secret.
    ///
    /// # Errors
    /// `NotAContainer`, `Damaged`, `Unsupported`, or what reading gave.
    fn read_header(&self, storage: &dyn Storage) -> Result<Box<dyn Header>>;

    /// Settles what a new container of this format will be; all that can be refused without a secret is refused here.
    ///
    /// # Errors
    /// `Usage` for what the format cannot have, `Unsupported` where containers of it are not made.
    fn plan(&self, room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Box<dyn Blueprint>> {
        let _ = (room, wishes, rng);
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("strongroom does not create {} containers", self.name()),
        ))
    }

    /// Lays the header in `file` over, or beside, `container`. `None` where `file` is no header file of this format.
    ///
    /// # Errors
    /// `Damaged`; `Usage` where the container bears a header of its own that is another one.
    fn attach(
        &self,
        container: Arc<dyn Storage>,
        file: Arc<dyn Storage>,
    ) -> Result<Option<Arc<dyn Storage>>> {
        let _ = (container, file);
        Ok(None)
    }

    /// Reads a header file without its container: a backup, or a detached header. `None` where `file` is none of this format.
    ///
    /// # Errors
    /// `Damaged`, `Unsupported`.
    fn read_header_file(&self, file: &dyn Storage) -> Result<Option<Box<dyn Header>>> {
        let _ = file;
        Ok(None)
    }

    /// Copies the header of a container. Needs no secret.
    ///
    /// # Errors
    /// `Busy` while the header is of use only where it is, `Damaged`, `Unsupported` where the format has no backups.
    fn take_backup(&self, container: &dyn Storage) -> Result<Box<dyn HeaderBackup>> {
        let _ = container;
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("strongroom does not back up {} headers", self.name()),
        ))
    }

    /// Compares a header file with the container that it is to be restored to. `None` where `file` is none of this format.
    ///
    /// # Errors
    /// `Usage` where it belongs to another container or to another state of its data, `Damaged`, `Unsupported`.
    fn restore(&self, container: &dyn Storage, file: &dyn Storage) -> Result<Option<Box<dyn HeaderRestore>>> {
        let _ = (container, file);
        Ok(None)
    }

    /// Where containers of this format have what tells them, or opens them, on a medium of `len` bytes. Whoever makes a
    /// container of any format clears these places first, so that nothing of an older one shows or opens.
    fn traces(&self, len: u64) -> Vec<Range<u64>>;

    /// What must be overwritten so that nobody ever opens the container again; also where its header is damaged.
    ///
    /// # Errors
    /// Only where the storage does not tell its size.
    fn erasure(&self, storage: &dyn Storage) -> Result<Erasure>;

    /// Examines all that can be examined without a secret; writes nothing. Damage is a finding, not an error.
    ///
    /// # Errors
    /// `NotAContainer`, and what reading gave.
    fn check(&self, storage: &dyn Storage) -> Result<Vec<Finding>>;
}

/// What must be overwritten to erase a container, in bytes. Each part is durable before the next one is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Copies of the keyslots that others stand in for. Until they are all gone the container opens.
    pub spare: Vec<Range<u64>>,
    /// The last copy of the keyslots, without what tells that there is a container. Once it is gone, nobody opens it.
    pub last: Range<u64>,
    /// What remains of the header, and all other places that keys may have been written to. While it is there, what is
    /// left shows as a damaged container and not as none.
    pub rest: Vec<Range<u64>>,
}

impl Erasure {
    /// The same without what lies in `data`: of a container whose data hold no copy of a header, wherever one is looked for.
    #[must_use]
    pub fn outside(self, data: &Range<u64>) -> Self {
        let clip = |places: Vec<Range<u64>>| {
            let parts = places.into_iter().flat_map(|place| {
                [place.start..place.end.min(data.start), place.start.max(data.end)..place.end]
            });
            parts.filter(|part| !part.is_empty()).collect()
        };
        Self { spare: clip(self.spare), last: self.last, rest: clip(self.rest) }
    }
}

/// A header that was read and is well-formed. Nothing in it is trusted before it is unlocked.
pub trait Header: fmt::Debug + Send + Sync {
    /// What can be told without a secret.
    fn describe(&self) -> HeaderInfo;

    /// What a pin remembers of this header, to notice another one in its place. `None` where the format has nothing to tell
    /// its containers apart by, or this container has no UUID.
    fn fingerprint(&self) -> Option<Fingerprint> {
        None
    }

    /// Whether nothing can be told of it before it is unlocked.
    fn is_opaque(&self) -> bool {
        false
    }

    /// What can be told once it is unlocked: in a format without a signature, everything.
    fn describe_unlocked(&self, _unlocked: &Unlocked) -> HeaderInfo {
        self.describe()
    }

    /// The same of the header that is authentic, where only the volume key tells which that is.
    fn fingerprint_unlocked(&self, unlocked: &Unlocked) -> Option<Fingerprint> {
        let _ = unlocked;
        self.fingerprint()
    }

    /// What a keyfile is to this format.
    fn keyfile_role(&self) -> KeyfileRole {
        KeyfileRole::PartOfSecret
    }

    /// What the keyslots for FIDO2 tokens ask, in the order in which they are to be tried. None where the format, or this
    /// container, has no such slots.
    fn challenges(&self, attempt: &Attempt<'_>) -> Vec<Challenge> {
        let _ = attempt;
        Vec::new()
    }

    /// Refuses a container that is not opened whatever the secret is: for the time before one is asked for.
    ///
    /// # Errors
    /// As [`Self::unlock`].
    fn check_openable(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses a password, with keyfiles or without, that no keyslot takes: for the time before one is asked for.
    ///
    /// # Errors
    /// `Credentials`.
    fn check_takes_password(&self, with_keyfiles: bool, keyslot: Option<u32>) -> Result<()> {
        let _ = (with_keyfiles, keyslot);
        Ok(())
    }

    /// Opens a keyslot and checks the header against the volume key.
    ///
    /// # Errors
    /// `Credentials` where no keyslot opens, `Tampered` where the MAC is wrong, `Unsupported` where a keyslot's costs pass
    /// the attempt's limits, `OutOfMemory`.
    fn unlock(&self, credentials: &Credentials, attempt: &Attempt<'_>) -> Result<Unlocked>;

    /// Checks the header against a volume key that a keyslot gave earlier (in another process).
    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked>;

    /// What else only the volume key tells, besides whether the header is authentic: the end of "it takes a password to tell ...".
    fn told_by_key(&self) -> Option<&'static str> {
        None
    }

    /// Examines what takes the volume key to examine.
    fn check_unlocked(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Vec<Finding> {
        let _ = (storage, unlocked);
        Vec::new()
    }

    /// Makes sure that the container may be written, and brings damaged and stale header copies up to the authentic one;
    /// says what it did, a line each.
    ///
    /// # Errors
    /// `Unsupported` where writing needs features that are not known, `Damaged` where the container is cut off.
    fn prepare_writing(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>>;

    /// Why [`Self::prepare_writing`] left a header copy as it is: something else is in its place.
    ///
    /// # Errors
    /// What reading gave.
    fn left_alone(&self, storage: &dyn Storage) -> Result<Option<String>> {
        let _ = storage;
        Ok(None)
    }

    /// The bytes of damaged header copies that [`Self::prepare_writing`] overwrites, and that may have been newer than what it writes:
    /// they are kept in a file before.
    fn at_stake(&self) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// What its owner should know where it is opened read-only, for reasons that [`Self::prepare_writing`] gives as errors.
    fn warnings(&self, unlocked: &Unlocked) -> Vec<String> {
        let _ = unlocked;
        Vec::new()
    }

    /// Refuses a size that [`Self::growth`] would refuse whatever the secret is: for the time before it is asked for.
    ///
    /// # Errors
    /// As [`Self::growth`].
    fn check_growth(&self, new_len: u64) -> Result<()> {
        let _ = new_len;
        Err(no_growth(self.describe().format))
    }

    /// Whether [`growth`](Self::growth) makes the container larger whose volume this is, on a medium that has the room.
    fn can_grow(&self, unlocked: &Unlocked) -> bool {
        let _ = unlocked;
        false
    }

    /// What it takes to make the container one of `new_len` bytes. `credentials` opened it. Writes nothing.
    ///
    /// # Errors
    /// `Usage` where that is no larger size, `Unsupported` where it cannot grow.
    fn growth(
        &self,
        unlocked: &Unlocked,
        credentials: &Credentials,
        new_len: u64,
        rng: &dyn Rng,
    ) -> Result<Box<dyn Growth>> {
        let _ = (unlocked, credentials, new_len, rng);
        Err(no_growth(self.describe().format))
    }

    /// What it takes to make the container one of `new_len` bytes, fewer than it has. Writes nothing.
    ///
    /// # Errors
    /// `Usage` where that is no smaller size, `Unsupported` where it cannot become smaller.
    fn shrinkage(&self, unlocked: &Unlocked, new_len: u64) -> Result<Box<dyn Shrinkage>> {
        let _ = (unlocked, new_len);
        let format = self.describe().format;
        Err(Error::new(ErrorKind::Unsupported, format!("{format} containers do not become smaller"))
            .with_hint("make a smaller one, mount both, and copy the files: cp -r old/. new/"))
    }

    /// Refuses a change of keyslots that its [`Editor`] would refuse whatever the secrets are: for the time before they are
    /// asked for.
    ///
    /// # Errors
    /// As the method of [`Editor`] that makes the change.
    fn check_change(&self, change: &Change<'_>) -> Result<()>;

    /// Which key derivations a new keyslot may have; `None` where the format settles the costs itself.
    fn kdf_bounds(&self) -> Option<KdfBounds> {
        None
    }

    /// An editor of the keyslots as they are in this header.
    ///
    /// # Errors
    /// As [`Self::prepare_writing`], before anything is written.
    fn editor(&self, unlocked: &Unlocked) -> Result<Box<dyn Editor>>;
}

/// A keyslot that was asked for by number and holds nothing: no other secret makes it open.
fn empty_keyslot(slot: u32) -> Error {
    Error::new(ErrorKind::Usage, format!("keyslot {slot} is empty"))
        .with_hint("strongroom key list shows the keyslots")
}

/// A keyslot that would be tried if it were asked for.
fn tried_by_number(slot: u32) -> Error {
    Error::new(ErrorKind::Credentials, format!("keyslot {slot} is tried only by its number"))
        .with_hint(format!("--slot {slot} names it, or --unlock-slot {slot} where keyslots are changed"))
}

/// What the removal of `slot` means where all that stays is tried only by its number, as `other` is.
fn last_tried(slot: u32, other: u32) -> String {
    format!(
        "keyslot {slot} is the last one that is tried by itself: without it the container opens only with --slot {other}"
    )
}

/// A container whose keyslots were all destroyed.
fn no_keyslot_left() -> Error {
    Error::new(ErrorKind::Damaged, "it has no keyslot left: no password or keyfile can open it")
        .with_hint("only an older backup of its header can help: strongroom header restore CONTAINER FILE")
}

fn no_growth(format: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{format} containers cannot grow yet"))
        .with_hint("create a larger one, mount both, and copy the files: cp -r old/. new/")
}

/// What a keyfile is to a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyfileRole {
    /// A part of the secret, beside the password: its digest goes into [`Credentials`].
    PartOfSecret,
    /// The whole secret: its content stands in the password's place.
    WholeSecret,
    /// Bytes that are added to those of the password ([`veracrypt::pool_contribution`]). A folder stands for the files in it.
    Pool,
}

/// How one attempt to unlock goes about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempt<'a> {
    /// What the key derivation may cost.
    pub limits: KdfLimits,
    /// The only keyslot to try; `None` tries all but those of the lowest priority.
    pub keyslot: Option<u32>,
    /// What the user knows of a container that says nothing of itself.
    pub hints: veracrypt::Hints,
    /// The same of one of FreeOTFE.
    pub freeotfe: freeotfe::Hints,
    /// Is told how a long attempt goes, and may end it.
    pub monitor: Option<&'a dyn Monitor>,
}

/// Watches an attempt that takes many derivations. Called from several threads.
pub trait Monitor: fmt::Debug + Send + Sync {
    /// Derivation `number` of `total` begins: the function `name`.
    fn derives(&self, name: &'static str, number: usize, total: usize);

    /// The whole attempt takes about so long yet, where nothing opens before. Told again and again, the better the more is
    /// done; not before anything was measured.
    fn expects(&self, left: Duration) {
        let _ = left;
    }

    /// Whether the attempt is to end, as `Interrupted`. Asked every few milliseconds.
    fn is_over(&self) -> bool;
}

/// A change of keyslots, as far as it is known without secrets.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// [`Editor::add`].
    Add {
        /// The place for it; `None` takes the first empty one.
        slot: Option<u32>,
        /// Its label.
        label: Option<&'a str>,
    },
    /// [`Editor::replace`].
    Replace {
        /// The keyslot to be replaced.
        slot: u32,
        /// The new label.
        label: Option<&'a str>,
    },
    /// [`Editor::remove`].
    Remove {
        /// The keyslot to be emptied.
        slot: u32,
        /// Also where nobody opens the container after that.
        lock_out: bool,
    },
}

/// Changes to the keyslots of one container: gathered in memory, written by [`Editor::commit`].
///
/// The volume key stays, and with it all data.
pub trait Editor: fmt::Debug + Send {
    /// The keyslots as they will be.
    fn keyslots(&self) -> Vec<KeyslotInfo>;

    /// Fills the keyslot that `new` names, or the first empty one, and gives its number. Runs the key derivation.
    ///
    /// # Errors
    /// `Usage` where the keyslot does not exist or the costs are below the least that the format's writers use, `Exists`
    /// where it is in use, `NoSpace` where all are.
    fn add(&mut self, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<u32>;

    /// Puts `new` in the place of the keyslot in use with number `slot`. Runs the key derivation.
    ///
    /// # Errors
    /// As [`Self::add`]; `Usage` where the keyslot is empty.
    fn replace(&mut self, slot: u32, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<()>;

    /// Empties a keyslot. The last one that can be opened, and the last one whose secret people can know, goes only where
    /// `lock_out` is true: nobody opens the container after that, or a token alone does.
    ///
    /// # Errors
    /// `Usage` where it is empty already, and for the last one.
    fn remove(&mut self, slot: u32, lock_out: bool) -> Result<()>;

    /// What [`Self::commit`] will do that a power cut can make a loss of, a line each: to be told before.
    fn risks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Writes the changes so that a power cut at any moment leaves the old keyslots or the new ones.
    ///
    /// # Errors
    /// `Busy` where somebody else changed the header since it was read, `Exists` where a header copy is another container's:
    /// nothing was written then. What writing gave: the error says whether the change is in force.
    fn commit(&self, storage: &dyn Storage) -> Result<()>;
}

/// What a new keyslot is to hold.
#[derive(Debug)]
pub struct NewKeyslot<'a> {
    /// Its number; `None` takes the first empty one.
    pub slot: Option<u32>,
    /// The user's name for it.
    pub label: Option<&'a str>,
    /// When it is tried.
    pub priority: Priority,
    /// Its costs. Where no password opens it, they do not count.
    pub cost: KdfCost,
    /// What is to open it.
    pub credentials: &'a Credentials,
}

/// When a keyslot is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Only when it is asked for by number.
    Ignore,
    /// In numerical order.
    #[default]
    Normal,
    /// Before the others.
    Prefer,
}

/// What unlocking gives.
#[derive(Debug)]
pub struct Unlocked {
    /// How the volume lies in the container.
    pub layout: Layout,
    /// The key behind it, for the process that serves the volume.
    pub volume_key: Arc<VolumeKey>,
    /// The keyslot that opened.
    pub keyslot: Option<u32>,
}
