//! Containers made here, a fault at a time.

use std::ops::Range;

use super::{
    chain::Use,
    layout::{HEADER_LEN, PLAIN_LEN, SALT_LEN},
    *,
};
use crate::{
    crypto::{
        kdf::{KdfLimits, argon2id, pbkdf2},
        secret::{LockedBytes, Password},
    },
    format::{CopyState, Monitor, Severity},
    mapping::{Layout, Segment},
    storage::MemoryStorage,
    units::{Sector, SectorSize},
};

mod data;
mod header;
mod trial;

const LEN: u64 = 512 << 10;
const DATA: Range<u64> = 131_072..131_072 + 65_536;
const PASSWORD: &[u8] = b"correct horse";

/// A header of each family's newest layout.
fn header(family: Family) -> VolumeHeader {
    let mut keys = LockedBytes::zeroed(256).unwrap();
    for (byte, value) in keys.as_mut_slice().iter_mut().zip(1..=192) {
        *byte = value;
    }
    let (version, minimum) = match family {
        Family::VeraCrypt => (5, 0x010b),
        Family::TrueCrypt => (4, 0x0600),
    };
    VolumeHeader {
        family,
        version,
        minimum,
        times: [0; 2],
        hidden_size: 0,
        // The container ends where its backup headers do (VC-DATA-08).
        volume_size: LEN - 262_144,
        area_start: DATA.start,
        area_len: DATA.end - DATA.start,
        flags: 0,
        sector_size: SectorSize::B512,
        keys,
    }
}

/// An old header: fields from version 4 on are zero.
fn old_header() -> VolumeHeader {
    let new = header(Family::TrueCrypt);
    VolumeHeader { version: 2, minimum: 0x0410, volume_size: 0, area_start: 0, area_len: 0, ..new }
}

fn plain(header: &VolumeHeader) -> [u8; PLAIN_LEN] {
    header.to_bytes().unwrap().as_slice().try_into().unwrap()
}

/// How a header is put into a container.
#[derive(Clone, Copy)]
struct Seal {
    prf: Prf,
    pim: u32,
    chain: &'static str,
    mode: Mode,
    place: Place,
}

const OLD: Seal = Seal { prf: Prf::Ripemd160, pim: 0, chain: "aes", mode: Mode::Xts, place: Place::Normal };
const NEW: Seal = Seal { prf: Prf::Sha512, pim: 1, ..OLD };

impl Seal {
    fn encryption(self) -> Encryption {
        Encryption { chain: Chain::from_name(self.chain).unwrap(), mode: self.mode }
    }

    fn hints(self) -> Hints {
        Hints { pim: self.pim, ..Hints::NONE }
    }

    /// A container full of noise, with this header in its place.
    fn container(self, family: Family, plain: &[u8; PLAIN_LEN]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..=250).cycle().take(usize::try_from(LEN).unwrap()).collect();
        self.put(family, plain, &mut bytes);
        bytes
    }

    fn put(self, family: Family, plain: &[u8; PLAIN_LEN], bytes: &mut [u8]) {
        let len = u64::try_from(bytes.len()).unwrap();
        let offset = usize::try_from(self.place.offset(len).unwrap()).unwrap();
        let salt = bytes[offset..][..SALT_LEN].to_vec();
        let is_boot = self.place == Place::System;
        let key = match self.prf.cost(family, is_boot, self.pim).unwrap().unwrap() {
            Cost::Pbkdf2 { hash, iterations } => pbkdf2(hash, PASSWORD, &salt, iterations, 192),
            Cost::Argon2id(cost) => argon2id(PASSWORD, &salt, &cost, 192),
        };
        let mut unit = [0; HEADER_LEN];
        unit[..PLAIN_LEN].copy_from_slice(plain);
        let cipher = self.encryption().keyed(key.unwrap().expose(), Use::Header).unwrap();
        cipher.encrypt(&mut unit, SectorSize::B512, Sector(0));
        bytes[offset + SALT_LEN..][..PLAIN_LEN].copy_from_slice(&unit[..PLAIN_LEN]);
    }
}

fn credentials(password: &[u8]) -> Credentials {
    Credentials::Password { password: Password::copy_of(password).unwrap(), keyfiles: Vec::new() }
}

fn unlock(format: VeraCrypt, bytes: Vec<u8>, hints: Hints) -> Result<(HeaderInfo, Unlocked)> {
    let header = format.read_header(&MemoryStorage::new(bytes))?;
    let attempt = Attempt { hints, ..Attempt::default() };
    let unlocked = header.unlock(&credentials(PASSWORD), &attempt)?;
    Ok((header.describe_unlocked(&unlocked), unlocked))
}

fn segment(unlocked: &Unlocked) -> Segment {
    let Layout::Fixed(mapping) = &unlocked.layout else { panic!("one mapping") };
    assert_eq!(mapping.segments().len(), 1);
    mapping.segments()[0].clone()
}

/// The refusal of a header that the password decrypts.
fn refusal(change: impl FnOnce(&mut VolumeHeader)) -> Error {
    let mut header = header(Family::TrueCrypt);
    change(&mut header);
    unlock(TRUECRYPT, OLD.container(Family::TrueCrypt, &plain(&header)), Hints::NONE).unwrap_err()
}

#[test]
fn a_container_too_small_for_a_header_is_none() {
    // proves: VC-PLACE-02
    for len in [0, 1, 511] {
        let error = VERACRYPT.read_header(&MemoryStorage::new(vec![7; len])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAContainer);
    }
    let header = VERACRYPT.read_header(&MemoryStorage::new(vec![7; 512])).unwrap();
    let attempt = Attempt { hints: Hints { backup_header: true, ..Hints::NONE }, ..Attempt::default() };
    let error = header.unlock(&credentials(PASSWORD), &attempt).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAContainer);
}

#[test]
fn what_opened_is_handed_on_without_the_password() {
    let seal = Seal { chain: "camellia-serpent-kuznyechik", place: Place::Hidden, ..NEW };
    let bytes = seal.container(Family::VeraCrypt, &plain(&header(Family::VeraCrypt)));
    let (info, unlocked) = unlock(VERACRYPT, bytes.clone(), seal.hints()).unwrap();
    let header = VERACRYPT.read_header(&MemoryStorage::new(bytes)).unwrap();
    let key = VolumeKey::copy_of(unlocked.volume_key.expose()).unwrap();
    let again = header.unlock_with_key(key).unwrap();
    assert_eq!(
        serde_json::to_string(&header.describe_unlocked(&again)).unwrap(),
        serde_json::to_string(&info).unwrap()
    );
    let (ours, theirs) = (segment(&unlocked), segment(&again));
    assert_eq!(
        (ours.storage_offset, ours.sectors, ours.first_tweak),
        (theirs.storage_offset, theirs.sectors, theirs.first_tweak)
    );
    let (mut one, mut other) = ([1; 512], [1; 512]);
    ours.cipher.encrypt(&mut one, SectorSize::B512, Sector(7));
    theirs.cipher.encrypt(&mut other, SectorSize::B512, Sector(7));
    assert_eq!(one, other);
}

#[test]
fn bytes_that_are_no_handed_on_header_are_refused() {
    let bytes = NEW.container(Family::VeraCrypt, &plain(&header(Family::VeraCrypt)));
    let (_, unlocked) = unlock(VERACRYPT, bytes.clone(), NEW.hints()).unwrap();
    let header = VERACRYPT.read_header(&MemoryStorage::new(bytes)).unwrap();
    let good = unlocked.volume_key.expose().to_vec();
    let refuse =
        |bytes: &[u8]| header.unlock_with_key(VolumeKey::copy_of(bytes).unwrap()).unwrap_err().kind();
    assert_eq!(refuse(&good[1..]), ErrorKind::Damaged);
    assert_eq!(refuse(&[]), ErrorKind::Damaged);
    for at in 0..5 {
        let mut bad = good.clone();
        bad[at] = 200;
        assert_eq!(refuse(&bad), ErrorKind::Damaged, "{at}");
    }
    let mut bad = good;
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert_eq!(refuse(&bad), ErrorKind::Damaged);
}

#[test]
fn erasing_covers_every_place_of_every_version() {
    for len in [512, 2048, 65_536, 100_000, 131_072, 200_000, 262_144, 1 << 20] {
        let storage = MemoryStorage::new(vec![7; usize::try_from(len).unwrap()]);
        let erasure = VERACRYPT.erasure(&storage).unwrap();
        let covers = |range: &Range<u64>, at: u64| range.start <= at && at + 512 <= range.end;
        for place in Place::ALL {
            let Some(offset) = place.offset(len) else { continue };
            let parts = erasure.spare.iter().chain([&erasure.last]).chain(&erasure.rest);
            assert!(parts.clone().any(|part| covers(part, offset)), "{place:?} of {len}");
            assert!(parts.clone().all(|part| part.end <= len), "{len}");
        }
    }
}

#[test]
fn only_a_password_opens_it_and_there_are_no_keyslots() {
    let header = VERACRYPT.read_header(&MemoryStorage::new(vec![7; 65_536])).unwrap();
    let recovery = Credentials::Recovery(crate::crypto::secret::RecoveryKey::copy_of(&[1; 32]).unwrap());
    let error = header.unlock(&recovery, &Attempt::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert_eq!(header.challenges(&Attempt::default()).len(), 0);
    let change = Change::Add { slot: None, label: None };
    assert_eq!(header.check_change(&change).unwrap_err().kind(), ErrorKind::Usage);
}
