//! Headers on their way back to the medium: encrypted under a password, and proven to open with it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, thread};

use super::{
    Family, Place, VolumeHeader,
    chain::{Encryption, MAX_KEY_LEN, Use},
    keyfile::with_pool,
    layout::{HEADER_LEN, PLAIN_LEN, SALT_LEN},
    place::Slot,
    prf::{Cost, Prf},
    trial::decrypted,
};
use crate::{
    crypto::{
        hash,
        kdf::{argon2id, pbkdf2},
        rng::Rng,
        secret::{Credentials, DerivedKey, LockedBytes},
    },
    error::{Error, ErrorKind, Result},
    storage::Storage,
    units::{Sector, SectorSize},
};

/// What is to open a header.
#[derive(Debug, Clone, Copy)]
pub struct Locking<'a> {
    /// Password and keyfiles.
    pub credentials: &'a Credentials,
    /// What makes the header's key of them.
    pub prf: Prf,
    /// The PIM with which it does; 0 is the usual one.
    pub pim: u32,
}

impl Locking<'_> {
    /// The costs, where a program of this family takes such a header (VC-WRITE-05, -06).
    ///
    /// # Errors
    /// `Usage`.
    pub fn cost(&self, family: Family) -> Result<Cost> {
        let usage = |reason: String| Error::new(ErrorKind::Usage, reason);
        let Credentials::Password { password, keyfiles } = self.credentials else {
            return Err(usage("only a password and keyfiles open such a container".to_owned()));
        };
        if password.is_empty() && keyfiles.is_empty() {
            return Err(usage("the password is empty".to_owned()));
        }
        if family == Family::VeraCrypt && self.prf == Prf::Ripemd160 {
            return Err(usage("VeraCrypt 1.26.7 and later open no header with ripemd160".to_owned()));
        }
        let cost = self.prf.cost(family, false, self.pim)?;
        let cost = cost.ok_or_else(|| usage(format!("{} has no {}", family.title(), self.prf.name())))?;
        let least = if matches!(cost, Cost::Argon2id(_)) { LEAST_ARGON2_PIM } else { LEAST_PIM };
        if self.pim != 0 && self.pim < least && password.len() < LONG_PASSWORD {
            let reason = format!(
                "a PIM below {least} needs a password of {LONG_PASSWORD} bytes, and this one has {}",
                password.len()
            );
            return Err(usage(reason));
        }
        Ok(cost)
    }

    fn password(&self, family: Family) -> Result<LockedBytes> {
        match self.credentials {
            Credentials::Password { password, keyfiles } => {
                with_pool(password, keyfiles, family).map_err(|error| match error.kind() {
                    // It is not a wrong password: the header cannot have it.
                    ErrorKind::Credentials => Error::new(ErrorKind::Usage, error.reason()),
                    _ => error,
                })
            }
            _ => Err(Error::new(ErrorKind::Usage, "only a password and keyfiles open such a container")),
        }
    }
}

/// A header as it is to stand on the medium, and what it takes to open it there.
pub(super) struct Sealed {
    pub(super) bytes: [u8; HEADER_LEN],
    encryption: Encryption,
    key: DerivedKey,
    plain: LockedBytes,
}

impl Sealed {
    /// Seals `header` twice, each time with a salt of its own (VC-WRITE-02).
    ///
    /// # Errors
    /// As [`Locking::cost`]; `OutOfMemory`.
    pub(super) fn pair(
        header: &VolumeHeader,
        encryption: Encryption,
        locking: &Locking<'_>,
        rng: &dyn Rng,
    ) -> Result<[Self; 2]> {
        let cost = locking.cost(header.family)?;
        let password = locking.password(header.family)?;
        let (mut first, mut second) = ([0; SALT_LEN], [0; SALT_LEN]);
        rng.fill(&mut first)?;
        rng.fill(&mut second)?;
        let seal = |salt| Self::with_salt(header, encryption, derive(cost, &password, &salt)?, salt);
        if let Cost::Argon2id(_) = cost {
            // One at a time: the memory is for one.
            return Ok([seal(first)?, seal(second)?]);
        }
        thread::scope(|scope| {
            let other = thread::Builder::new().spawn_scoped(scope, || seal(second))?;
            let first = seal(first)?;
            let second = other.join().map_err(|_| Error::new(ErrorKind::Io, "the derivation failed"))??;
            Ok([first, second])
        })
    }

    fn with_salt(
        header: &VolumeHeader,
        encryption: Encryption,
        key: DerivedKey,
        salt: [u8; SALT_LEN],
    ) -> Result<Self> {
        let no_memory = || Error::new(ErrorKind::OutOfMemory, "no memory for the keys");
        // VC-WRITE-04: halves that are equal are refused here.
        let cipher = encryption.keyed(key.expose(), Use::Header)?;
        let plain = header.to_bytes().ok_or_else(no_memory)?;
        let mut unit = LockedBytes::zeroed(HEADER_LEN)?;
        for (place, &byte) in unit.as_mut_slice().iter_mut().zip(plain.as_slice()) {
            *place = byte;
        }
        cipher.encrypt(unit.as_mut_slice(), SectorSize::B512, Sector(0));
        let mut bytes = [0; HEADER_LEN];
        let encrypted = unit.as_slice().get(..PLAIN_LEN).unwrap_or_default();
        for (place, &byte) in bytes.iter_mut().zip(salt.iter().chain(encrypted)) {
            *place = byte;
        }
        Ok(Self { bytes, encryption, key, plain })
    }

    /// Writes it at `offset`, waits for the medium, and opens what is there then (VC-WRITE-03).
    ///
    /// # Errors
    /// `Io` where something else is read; what writing gave.
    pub(super) fn write(&self, storage: &dyn Storage, offset: u64) -> Result<()> {
        storage.write_all_at(&self.bytes, offset)?;
        storage.sync_data()?;
        if self.opens_at(storage, offset)? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Io,
            format!("the header at byte {offset} reads as another than was written"),
        ))
    }

    fn opens_at(&self, storage: &dyn Storage, offset: u64) -> Result<bool> {
        let slot = Slot::read(storage, Place::Normal, offset)?;
        let found = decrypted(&slot, self.encryption, self.key.expose())?.and_then(Result::ok);
        let plain = found.and_then(|header| header.to_bytes());
        Ok(plain.is_some_and(|plain| hash::equal(plain.as_slice(), self.plain.as_slice())))
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({})", self.encryption.name())
    }
}

fn derive(cost: Cost, password: &LockedBytes, salt: &[u8; SALT_LEN]) -> Result<DerivedKey> {
    match cost {
        Cost::Pbkdf2 { hash, iterations } => pbkdf2(hash, password.as_slice(), salt, iterations, MAX_KEY_LEN),
        Cost::Argon2id(cost) => argon2id(password.as_slice(), salt, &cost, MAX_KEY_LEN),
    }
}

/// A password of so many bytes may have any PIM (VeraCrypt's rule).
const LONG_PASSWORD: usize = 20;
/// The least PIM for shorter ones: what gives the usual 500,000 iterations.
const LEAST_PIM: u32 = 485;
/// The same for Argon2id: what it takes where none is given.
const LEAST_ARGON2_PIM: u32 = 12;
