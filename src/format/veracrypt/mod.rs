//! TrueCrypt and VeraCrypt, as `spec/profiles/truecrypt-veracrypt.md` says; the code cites its rules (`VC-...`).
//!
//! Two names for one family of containers: the same layout, other magics, functions, iterations and limits ([`Family`]).
//! Nothing in them is in the clear, so there is nothing to find them by: only a password tells.

mod chain;
mod create;
mod estimate;
mod growth;
mod header;
mod keyfile;
mod layout;
mod opened;
mod original;
mod place;
mod prf;
mod rewrite;
mod seal;
mod start;
#[cfg(test)]
mod tests;
mod trial;

use std::ops::Range;

pub use self::{
    chain::{Chain, Encryption, Mode},
    create::VolumeBlueprint,
    header::{Data, HeaderError, IN_PLACE, SYSTEM, VolumeHeader},
    keyfile::pool_contribution,
    opened::Opened,
    place::Place,
    prf::{Cost, MAX_BOOT_PIM, MAX_PIM, Prf},
    rewrite::{NewHeaders, backup_file},
    seal::Locking,
};
use self::{growth::VeraCryptGrowth, layout::SLOT_LEN, place::Slot, start::Front};
use crate::{
    crypto::{
        rng::Rng,
        secret::{Credentials, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Blueprint, Change, Editor, Erasure, Finding, Format, Growth, Header, HeaderInfo,
        KeyfileRole, Probe, Room, Unlocked, Wishes,
    },
    storage::Storage,
};

/// Which of the two programs a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// VeraCrypt.
    VeraCrypt,
    /// TrueCrypt.
    TrueCrypt,
}

impl Family {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::VeraCrypt, Self::TrueCrypt];

    /// The format's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VeraCrypt => "veracrypt",
            Self::TrueCrypt => "truecrypt",
        }
    }

    /// The program's name.
    pub const fn title(self) -> &'static str {
        match self {
            Self::VeraCrypt => "VeraCrypt",
            Self::TrueCrypt => "TrueCrypt",
        }
    }

    /// What a decrypted header starts with.
    const fn magic(self) -> [u8; 4] {
        match self {
            Self::VeraCrypt => *b"VERA",
            Self::TrueCrypt => *b"TRUE",
        }
    }

    /// The newest program that a header may ask for.
    const fn newest(self) -> u16 {
        match self {
            Self::VeraCrypt => 0x01ff,
            Self::TrueCrypt => 0x07ff,
        }
    }

    /// The longest password in bytes.
    pub const fn max_password_len(self) -> usize {
        match self {
            Self::VeraCrypt => 128,
            Self::TrueCrypt => 64,
        }
    }
}

/// What the user knows of a container that says nothing of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints {
    /// The only function to try.
    pub prf: Option<Prf>,
    /// The PIM; 0 is the usual one.
    pub pim: u32,
    /// Open the hidden volume.
    pub hidden: bool,
    /// Take the header's copy at the end.
    pub backup_header: bool,
    /// The container is a drive with an encrypted system on it.
    pub system: bool,
}

impl Hints {
    /// Nothing but the password.
    pub const NONE: Self = Self { prf: None, pim: 0, hidden: false, backup_header: false, system: false };
}

/// Containers of TrueCrypt, of VeraCrypt, or of either.
#[derive(Debug, Clone, Copy)]
pub struct VeraCrypt {
    name: &'static str,
    families: &'static [Family],
}

/// Containers of VeraCrypt.
pub static VERACRYPT: VeraCrypt = VeraCrypt { name: "veracrypt", families: &[Family::VeraCrypt] };
/// Containers of TrueCrypt.
pub static TRUECRYPT: VeraCrypt = VeraCrypt { name: "truecrypt", families: &[Family::TrueCrypt] };
/// Containers of which it is not known whose they are.
pub static EITHER: VeraCrypt = VeraCrypt { name: "veracrypt", families: &Family::ALL };

impl Format for VeraCrypt {
    fn name(&self) -> &'static str {
        self.name
    }

    fn probe(&self, _: &dyn Storage) -> Result<Probe> {
        Ok(Probe::Opaque)
    }

    fn read_header(&self, storage: &dyn Storage) -> Result<Box<dyn Header>> {
        let len = storage.size()?;
        let slots = Slot::read_all(storage, len)?;
        if slots.is_empty() {
            let reason = format!("its size is {len}, and a header alone has 512 bytes");
            return Err(Error::new(ErrorKind::NotAContainer, reason)); // VC-PLACE-02
        }
        let front = Front::read(storage, len);
        Ok(Box::new(Locked { format: *self, container_len: len, slots, front: Some(front) }))
    }

    /// A backup has this size, and says nothing of itself either (VC-BACKUP-01).
    fn read_header_file(&self, file: &dyn Storage) -> Result<Option<Box<dyn Header>>> {
        if file.size()? != create::HEADERS_LEN {
            return Ok(None);
        }
        Ok(Some(locked_backup(*self, file, LONG_ENOUGH)?))
    }

    fn plan(&self, room: Room, wishes: &Wishes<'_>, _: &dyn Rng) -> Result<Box<dyn Blueprint>> {
        // Where it is not known whose a container is, a new one is for today's program.
        let family = self.families.first().copied().unwrap_or(Family::VeraCrypt);
        Ok(Box::new(VolumeBlueprint::outer(family, room, wishes)?))
    }

    fn traces(&self, len: u64) -> Vec<Range<u64>> {
        let room = SLOT_LEN * 2;
        vec![0..room.min(len), len.saturating_sub(room)..len]
    }

    /// Every place where any version puts a header, with the room around it.
    fn erasure(&self, storage: &dyn Storage) -> Result<Erasure> {
        let len = storage.size()?;
        let both = (SLOT_LEN * 2).min(len);
        let first = SLOT_LEN.min(len);
        let tail = len.saturating_sub(SLOT_LEN * 2).max(both);
        let places: [Range<u64>; 2] = [first..both, tail..len];
        let spare = places.into_iter().filter(|place| !place.is_empty()).collect();
        Ok(Erasure { spare, last: 0..first, rest: Vec::new() })
    }

    fn check(&self, storage: &dyn Storage) -> Result<Vec<Finding>> {
        self.read_header(storage)?;
        Ok(vec![
            Finding::info("header", "encrypted: only the password shows whether it is whole"),
            Finding::info("header", NOT_AUTHENTICATED),
        ])
    }
}

/// The places where headers may stand, each still encrypted.
#[derive(Debug)]
struct Locked {
    format: VeraCrypt,
    container_len: u64,
    slots: Vec<Slot>,
    /// `None` where they are in a file of their own.
    front: Option<Front>,
}

impl Header for Locked {
    /// Before it is unlocked nothing is known.
    fn describe(&self) -> HeaderInfo {
        HeaderInfo::unknown(self.format.name, self.container_len)
    }

    fn describe_unlocked(&self, unlocked: &Unlocked) -> HeaderInfo {
        Opened::of_key(&unlocked.volume_key)
            .map_or_else(|_| self.describe(), |opened| opened.describe(self.container_len))
    }

    fn is_opaque(&self) -> bool {
        true
    }

    fn keyfile_role(&self) -> KeyfileRole {
        KeyfileRole::Pool
    }

    fn unlock(&self, credentials: &Credentials, attempt: &Attempt<'_>) -> Result<Unlocked> {
        let Credentials::Password { password, keyfiles } = credentials else {
            return Err(Error::new(ErrorKind::Credentials, "only a password and keyfiles open it"));
        };
        // What is described of an opened header is keyslot 0.
        if attempt.keyslot.is_some_and(|slot| slot != 0) {
            return Err(Error::usage("TrueCrypt and VeraCrypt containers have no keyslots"));
        }
        let mut passwords = Vec::new();
        let mut refused = None;
        for &family in self.format.families {
            // TrueCrypt has no PIM: one that is given speaks for VeraCrypt.
            if family == Family::TrueCrypt && attempt.hints.pim != 0 && self.format.families.len() > 1 {
                continue;
            }
            match keyfile::with_pool(password, keyfiles, family) {
                Ok(password) => passwords.push((family, password)),
                Err(error) => refused = Some(error),
            }
        }
        if let (Some(error), true) = (refused, passwords.is_empty()) {
            return Err(error);
        }
        let opened = trial::run(&self.slots, &passwords, attempt)?;
        if let Some(front) = &self.front {
            opened.check_start(front)?;
        }
        opened.unlock(self.container_len)
    }

    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked> {
        Opened::of_key(&key)?.unlock(self.container_len)
    }

    fn check_unlocked(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Vec<Finding> {
        match Opened::of_key(&unlocked.volume_key) {
            Ok(opened) => opened.findings(storage, self.container_len),
            Err(error) => vec![Finding::error("header", error.reason())],
        }
    }

    fn prepare_writing(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>> {
        let opened = Opened::of_key(&unlocked.volume_key)?;
        opened.check_writable(self.container_len)?;
        opened.check_place(storage)?;
        opened.check_occupant(storage)?;
        Ok(Vec::new())
    }

    fn warnings(&self, unlocked: &Unlocked) -> Vec<String> {
        let opened = Opened::of_key(&unlocked.volume_key).ok().filter(|_| self.front.is_some());
        opened.and_then(|opened| opened.doubt_of_place(self.container_len)).into_iter().collect()
    }

    fn check_growth(&self, new_len: u64) -> Result<()> {
        crate::format::growth::check_larger(self.container_len, new_len)
    }

    fn can_grow(&self, unlocked: &Unlocked) -> bool {
        Opened::of_key(&unlocked.volume_key).is_ok_and(|opened| opened.fills_its_container())
    }

    fn growth(
        &self,
        unlocked: &Unlocked,
        credentials: &Credentials,
        new_len: u64,
        rng: &dyn Rng,
    ) -> Result<Box<dyn Growth>> {
        let opened = Opened::of_key(&unlocked.volume_key)?;
        let locking = Locking { credentials, prf: opened.prf, pim: opened.pim };
        Ok(Box::new(VeraCryptGrowth::new(&opened, &locking, self.container_len, new_len, rng)?))
    }

    fn check_change(&self, _: &Change<'_>) -> Result<()> {
        Err(no_editor())
    }

    fn editor(&self, _: &Unlocked) -> Result<Box<dyn Editor>> {
        Err(no_editor())
    }
}

/// The volume of `outer`, with the hidden volume of `hidden` protected from what is written to it.
///
/// # Errors
/// `Usage` where these are not an outer and a hidden volume, `Damaged` where the one does not lie in the other.
pub fn protect(outer: &Unlocked, hidden: &Unlocked, container_len: u64) -> Result<Unlocked> {
    let hidden = Opened::of_key(&hidden.volume_key)?;
    Opened::of_key(&outer.volume_key)?.protecting(&hidden, container_len)?.unlock(container_len)
}

/// Reads the headers in a backup file of a container of `container_len` bytes: the file's are that container's header and
/// hidden header.
///
/// # Errors
/// `NotAContainer` where the file has not the size of a backup.
pub fn read_backup(file: &dyn Storage, container_len: u64) -> Result<Box<dyn Header>> {
    let len = file.size()?;
    if len != create::HEADERS_LEN {
        let reason =
            format!("a backup of a VeraCrypt header has {} bytes, this file has {len}", create::HEADERS_LEN);
        return Err(Error::new(ErrorKind::NotAContainer, reason)); // VC-BACKUP-02
    }
    locked_backup(EITHER, file, container_len)
}

fn locked_backup(format: VeraCrypt, file: &dyn Storage, container_len: u64) -> Result<Box<dyn Header>> {
    let slots =
        [(Place::Normal, 0), (Place::Hidden, SLOT_LEN)].map(|(place, at)| Slot::read(file, place, at));
    let slots = slots.into_iter().collect::<Result<_>>()?;
    Ok(Box::new(Locked { format, container_len, slots, front: None }))
}

fn no_editor() -> Error {
    Error::new(
        ErrorKind::Usage,
        "a TrueCrypt or VeraCrypt header opens with one password: there are no others to add or remove",
    )
}

/// The size of a container that is not there: whatever the header says lies in it.
const LONG_ENOUGH: u64 = 1 << 62;
const NOT_AUTHENTICATED: &str =
    "not authenticated: whoever can write to the container can put another in its place";
