//! One keyslot: parsed without a secret, sealed and opened with one.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::{FromZeros, IntoBytes};

use super::{
    error::HeaderError,
    fido2, keys,
    layout::{KDF_ARGON2ID, KDF_HKDF, KEYSLOT_AAD_LEN, LABEL_LEN, RawKeyslot, VOLUME_KEY_LEN},
    superblock::Label,
};
use crate::{
    crypto::{
        aead,
        hash::HashKind,
        kdf::{Argon2Cost, KdfCost, KdfKind, KdfLimits},
        rng::Rng,
        secret::{Credentials, LockedBytes, VolumeKey},
        security_key::Challenge,
    },
    error::{Error, ErrorKind, Result},
    format::{KdfBounds, KdfInfo, KeyslotInfo, NewKeyslot, Priority},
};

/// The least memory of a new keyslot.
pub const MIN_MEMORY_KIB: u32 = 64 << 10;
/// The fewest passes of a new keyslot.
pub const MIN_PASSES: u32 = 3;

/// What opens a keyslot (`kind` in the specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A password.
    Password,
    /// One or more keyfiles, with a password or an empty one.
    Keyfile,
    /// A recovery key.
    Recovery,
    /// A FIDO2 token.
    Fido2,
    /// A kind of a later version: shown, never opened.
    Other(u32),
}

impl SlotKind {
    const fn number(self) -> u32 {
        match self {
            Self::Password => 1,
            Self::Keyfile => 2,
            Self::Recovery => 3,
            Self::Fido2 => 4,
            Self::Other(number) => number,
        }
    }

    /// What `info` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Keyfile => "keyfile",
            Self::Recovery => "recovery-key",
            Self::Fido2 => "fido2",
            Self::Other(5) => "tpm2",
            Self::Other(_) => "unknown",
        }
    }

    /// What a user presents, as it goes on after "takes a".
    pub(super) const fn takes(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Keyfile => "keyfile",
            Self::Recovery => "recovery key",
            Self::Fido2 => "FIDO2 token",
            Self::Other(_) => "credential that this strongroom does not know",
        }
    }

    /// The kind that these credentials open (NAT-SLOT-03).
    pub fn of(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Password { keyfiles, .. } if keyfiles.is_empty() => Self::Password,
            Credentials::Password { .. } => Self::Keyfile,
            Credentials::Recovery(_) => Self::Recovery,
            Credentials::SecurityKey(_) => Self::Fido2,
        }
    }

    /// The key derivation of slots of this kind (NAT-SLOT-06); `None` where the kind is not known.
    const fn kdf(self) -> Option<u32> {
        match self {
            Self::Password | Self::Keyfile => Some(KDF_ARGON2ID),
            Self::Recovery | Self::Fido2 => Some(KDF_HKDF),
            Self::Other(_) => None,
        }
    }

    /// Whether this program can open slots of this kind.
    pub(super) const fn is_known(self) -> bool {
        self.kdf().is_some()
    }
}

/// A keyslot in use.
#[derive(Debug, Clone)]
pub struct Keyslot {
    /// Its number.
    pub index: u32,
    /// What opens it.
    pub kind: SlotKind,
    /// 0 only by number, 1 normal, 2 first.
    pub priority: u32,
    /// The user's name for it.
    pub label: Label,
    /// What it asks of a FIDO2 token, where one opens it.
    pub challenge: Option<Challenge>,
    raw: RawKeyslot,
}

/// What one attempt to unlock may still spend, in KiB of memory times passes (NAT-SLOT-09).
#[derive(Debug)]
pub(super) struct Budget(u64);

impl Budget {
    /// As much as the costliest single slot within `limits`: by default 256 GiB in one pass.
    pub(super) fn new(limits: &KdfLimits) -> Self {
        Self(limits.memory_kib.saturating_mul(limits.passes.into()))
    }

    /// Takes the cost of one derivation; `false` where it passes what is left.
    fn spend(&mut self, cost: &Argon2Cost) -> bool {
        let left = self.0.checked_sub(u64::from(cost.memory_kib).saturating_mul(cost.passes.into()));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// How opening a keyslot ended without an error.
#[derive(Debug)]
pub(super) enum Opened {
    /// The volume key.
    Key(VolumeKey),
    /// The credentials are not those of this slot.
    WrongCredentials,
}

impl Keyslot {
    /// Reads the slot that stands at `index`; `None` where it is empty.
    pub(super) fn parse(raw: &RawKeyslot, index: u32) -> Result<Option<Self>, HeaderError> {
        let wrong = |field: &'static str, value: u32| HeaderError::Keyslot {
            slot: index,
            field,
            value: value.into(),
        };
        if raw.index.get() != index {
            return Err(wrong("index", raw.index.get())); // NAT-SLOT-01
        }
        let kind = match raw.kind.get() {
            0 if is_empty(raw) => return Ok(None),
            0 => return Err(HeaderError::Reserved { place: "empty keyslot" }), // NAT-SLOT-02
            1 => SlotKind::Password,
            2 => SlotKind::Keyfile,
            3 => SlotKind::Recovery,
            4 => SlotKind::Fido2,
            number => SlotKind::Other(number), // NAT-SLOT-04: not looked into
        };
        if let Some(kdf) = kind.kdf() {
            if raw.priority.get() > 2 {
                return Err(wrong("priority", raw.priority.get())); // NAT-SLOT-05
            }
            if raw.kdf.get() != kdf {
                return Err(wrong("key derivation", raw.kdf.get())); // NAT-SLOT-06
            }
            if kdf == KDF_HKDF && keys::slot_cost(raw) != NO_COST {
                return Err(wrong("cost", raw.memory_kib.get())); // NAT-SLOT-10
            }
            let extra = if kind == SlotKind::Fido2 { &[] } else { &raw.extra[..] };
            if raw.reserved_a.iter().chain(extra).any(|&byte| byte != 0) {
                return Err(HeaderError::Reserved { place: "keyslot" }); // NAT-SLOT-07
            }
        }
        let challenge = match kind {
            SlotKind::Fido2 => Some(
                fido2::parse(&raw.extra).map_err(|part| HeaderError::Fido2Keyslot { slot: index, part })?,
            ),
            _ => None,
        };
        let label = Label::parse(&raw.label, "keyslot")?;
        Ok(Some(Self { index, kind, priority: raw.priority.get(), label, challenge, raw: *raw }))
    }

    /// What `info` shows.
    pub fn describe(&self) -> KeyslotInfo {
        let cost = self.cost();
        let costs = |value: u32| self.is_costly().then_some(value);
        KeyslotInfo {
            slot: self.index,
            kind: self.kind.name(),
            token: None,
            label: self.label.text().map(str::to_owned),
            priority: Priority::from_number(self.priority).filter(|_| self.kind.is_known()),
            weak: self.is_costly() && is_weak(&cost),
            kdf: KdfInfo {
                name: match self.raw.kdf.get() {
                    KDF_ARGON2ID => "argon2id",
                    KDF_HKDF => "hkdf-sha512",
                    _ => "unknown",
                },
                memory: costs(cost.memory_kib).map(|kib| u64::from(kib).saturating_mul(1024)),
                passes: costs(cost.passes),
                lanes: costs(cost.lanes),
                iterations: None,
            },
        }
    }

    /// Whether a key derivation with costs stands before it.
    fn is_costly(&self) -> bool {
        self.raw.kdf.get() == KDF_ARGON2ID
    }

    fn cost(&self) -> Argon2Cost {
        keys::slot_cost(&self.raw)
    }

    /// Derives the slot's key and opens the volume key with it.
    ///
    /// # Errors
    /// `Unsupported` where the costs pass `limits` and `OutOfMemory` where the machine has less to give; nothing is allocated
    /// then.
    pub(super) fn open(
        &self,
        uuid: &[u8; 16],
        credentials: &Credentials,
        limits: &KdfLimits,
        budget: &mut Budget,
    ) -> Result<Opened> {
        if self.is_costly() {
            self.afford(limits, budget)?;
        }
        if let Credentials::SecurityKey(answer) = credentials
            && self.challenge.as_ref() != Some(&answer.challenge)
        {
            return Ok(Opened::WrongCredentials);
        }
        let key = keys::slot_key(credentials, &self.raw.salt, &self.cost())?;
        let mut volume_key = LockedBytes::zeroed(VOLUME_KEY_LEN)?;
        volume_key.as_mut_slice().copy_from_slice(&self.raw.wrapped_key);
        let aad = associated_data(uuid, self.kind, &self.raw);
        match aead::open(&key, &self.raw.nonce, &aad, volume_key.as_mut_slice(), &self.raw.tag) {
            Ok(()) => Ok(Opened::Key(volume_key.into())),
            Err(_) => Ok(Opened::WrongCredentials),
        }
    }

    /// NAT-SLOT-08, -09: refuses costs that pass the limits, before anything is allocated.
    fn afford(&self, limits: &KdfLimits, budget: &mut Budget) -> Result<()> {
        limits
            .check(&self.cost())
            .map_err(|error| Error::new(ErrorKind::Unsupported, format!("keyslot {} {error}", self.index)))?;
        let needed = u64::from(self.cost().memory_kib);
        if needed > limits.available_kib {
            let reason = format!(
                "keyslot {} needs {} MiB of memory, {} MiB are free",
                self.index,
                needed / 1024,
                limits.available_kib / 1024
            );
            return Err(Error::new(ErrorKind::OutOfMemory, reason)
                .with_hint("close other programs, or open it on a machine with more memory"));
        }
        if !budget.spend(&self.cost()) {
            let reason = "the keyslots together ask for more than one attempt to unlock may cost";
            return Err(Error::new(ErrorKind::Unsupported, reason));
        }
        Ok(())
    }
}

/// Derives the key of a new keyslot with a fresh salt and seals `volume_key` under it.
///
/// # Errors
/// `Usage` where the costs are below the least of NAT-KEY-09 or above what a reader accepts, or the label is no label.
pub(super) fn seal(
    index: u32,
    new: &NewKeyslot<'_>,
    uuid: &[u8; 16],
    volume_key: &VolumeKey,
    rng: &dyn Rng,
) -> Result<RawKeyslot> {
    let kind = SlotKind::of(new.credentials);
    let cost =
        if kind.kdf() == Some(KDF_ARGON2ID) { checked_cost(argon2id_cost(new.cost)?)? } else { NO_COST };
    let mut raw = RawKeyslot::new_zeroed();
    raw.kind = kind.number().into();
    raw.index = index.into();
    raw.priority = new.priority.number().into();
    raw.kdf = kind.kdf().unwrap_or_default().into();
    raw.memory_kib = cost.memory_kib.into();
    raw.passes = cost.passes.into();
    raw.lanes = cost.lanes.into();
    raw.label = carried_label(new.label)?.to_field();
    rng.fill(&mut raw.salt)?;
    rng.fill(&mut raw.nonce)?;
    if let Credentials::SecurityKey(answer) = new.credentials {
        fido2::write(&answer.challenge, &mut raw.extra);
    }

    let key = keys::slot_key(new.credentials, &raw.salt, &cost)?;
    let aad = associated_data(uuid, kind, &raw);
    let mut wrapped = LockedBytes::zeroed(VOLUME_KEY_LEN)?;
    wrapped.as_mut_slice().copy_from_slice(volume_key.expose());
    raw.tag = aead::seal(&key, &raw.nonce, &aad, wrapped.as_mut_slice())?;
    raw.wrapped_key.copy_from_slice(wrapped.as_slice());
    Ok(raw)
}

/// Which key derivations keyslots for passwords and keyfiles have (NAT-KEY-09).
pub(super) fn kdf_bounds() -> KdfBounds {
    let limits = KdfLimits::default();
    KdfBounds {
        kinds: &[KdfKind::Argon2id],
        hash: HashKind::Sha512,
        takes_hash: false,
        key_len: VOLUME_KEY_LEN,
        memory_kib: (MIN_MEMORY_KIB, u32::try_from(limits.memory_kib).unwrap_or(u32::MAX)),
        passes: (MIN_PASSES, limits.passes),
        lanes: (1, limits.lanes),
        iterations: (0, 0),
    }
}

/// The costs of the one derivation that passwords have here.
///
/// # Errors
/// `Usage` for another one.
pub(super) fn argon2id_cost(cost: KdfCost) -> Result<Argon2Cost> {
    match cost {
        KdfCost::Argon2id(cost) => Ok(cost),
        KdfCost::Argon2i(_) | KdfCost::Pbkdf2 { .. } => {
            Err(Error::new(ErrorKind::Usage, "keyslots of the native format take argon2id"))
        }
    }
}

/// NAT-KEY-09: no keyslot of ours is cheaper than this.
fn checked_cost(cost: Argon2Cost) -> Result<Argon2Cost> {
    if cost.memory_kib < MIN_MEMORY_KIB || cost.passes < MIN_PASSES {
        let reason =
            format!("a keyslot takes at least {} MiB and {MIN_PASSES} passes", MIN_MEMORY_KIB / 1024);
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    KdfLimits::default().check(&cost).map_err(|error| Error::caused_by(ErrorKind::Usage, error))?;
    Ok(cost)
}

/// The label that somebody chose.
///
/// # Errors
/// `Usage` where NAT-SB-06 or NAT-SB-11 does not allow it.
pub(super) fn checked_label(text: Option<&str>) -> Result<Label> {
    Label::chosen(text.unwrap_or_default()).ok_or_else(no_label)
}

/// A label that may have been chosen when more was allowed.
fn carried_label(text: Option<&str>) -> Result<Label> {
    Label::new(text.unwrap_or_default()).ok_or_else(no_label)
}

fn no_label() -> Error {
    let reason = format!(
        "a label takes at most {LABEL_LEN} bytes, and no invisible characters (control, private and unassigned ones, unusual spaces)"
    );
    Error::new(ErrorKind::Usage, reason)
}

impl Priority {
    const fn number(self) -> u32 {
        match self {
            Self::Ignore => 0,
            Self::Normal => 1,
            Self::Prefer => 2,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Ignore),
            1 => Some(Self::Normal),
            2 => Some(Self::Prefer),
            _ => None,
        }
    }
}

/// The costs of a keyslot without a costly derivation.
pub(super) const NO_COST: Argon2Cost = Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 };

/// Whether guessing costs less, in memory or in work, than NAT-KEY-09 asks of a new slot.
fn is_weak(cost: &Argon2Cost) -> bool {
    let work = |memory_kib: u32, passes: u32| u64::from(memory_kib).saturating_mul(passes.into());
    cost.memory_kib < MIN_MEMORY_KIB || work(cost.memory_kib, cost.passes) < work(MIN_MEMORY_KIB, MIN_PASSES)
}

/// An empty slot holds its number and nothing else.
fn is_empty(raw: &RawKeyslot) -> bool {
    let bytes = raw.as_bytes();
    let (before, after) = (bytes.get(..4), bytes.get(8..));
    before.into_iter().chain(after).flatten().all(|&byte| byte == 0)
}

/// What the wrapped key of a slot is bound to.
fn associated_data(uuid: &[u8; 16], kind: SlotKind, raw: &RawKeyslot) -> Vec<u8> {
    let head = raw.as_bytes().get(..KEYSLOT_AAD_LEN).unwrap_or_default();
    let tail = if kind == SlotKind::Fido2 { &raw.extra[..] } else { &[] };
    keys::keyslot_aad(uuid, head, tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_or_little_work_is_weak() {
        let least = Argon2Cost { memory_kib: MIN_MEMORY_KIB, passes: MIN_PASSES, lanes: 1 };
        assert!(!is_weak(&least));
        assert!(!is_weak(&Argon2Cost { memory_kib: 3 * MIN_MEMORY_KIB, passes: 1, ..least }));
        assert!(is_weak(&Argon2Cost { passes: MIN_PASSES - 1, ..least }));
        assert!(is_weak(&Argon2Cost { memory_kib: MIN_MEMORY_KIB - 1, passes: 64, ..least }));
    }

    // proves: NAT-SLOT-09
    #[test]
    fn an_attempt_spends_no_more_than_its_costliest_slot_may() {
        let mut budget = Budget::new(&KdfLimits::default());
        let costliest = Argon2Cost { memory_kib: 4 << 20, passes: 32, lanes: 1 };
        assert!(budget.spend(&costliest));
        assert!(budget.spend(&Argon2Cost { memory_kib: 1 << 20, ..costliest }));
        assert!(!budget.spend(&costliest), "what is left is less");
        assert!(budget.spend(&Argon2Cost { memory_kib: 3 << 20, ..costliest }), "a refusal costs nothing");
        assert!(!budget.spend(&Argon2Cost { memory_kib: 1, passes: 1, lanes: 1 }));
    }
}
