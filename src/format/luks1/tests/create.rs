//! New containers.

use super::*;
use crate::{
    crypto::{kdf::KdfCost, rng::OsRng},
    format::{Blueprint, Provision, Room, Wishes},
};

const COST: KdfCost = KdfCost::Pbkdf2 { hash: HashKind::Sha256, iterations: 1000 };

fn plan(len: u64, wishes: &Wishes<'_>) -> crate::Result<Box<dyn Blueprint>> {
    Luks1.plan(Room::Container(len), wishes, &OsRng)
}

/// A new container that opens with `secret`.
pub(super) fn made(len: u64, wishes: &Wishes<'_>) -> MemoryStorage {
    let storage = MemoryStorage::new(vec![0; usize::try_from(len).unwrap()]);
    let blueprint = plan(len, wishes).unwrap();
    blueprint.make_header(&credentials(b"secret"), Some(COST), &OsRng).unwrap().write(&storage).unwrap();
    storage
}

#[test]
fn a_new_container_is_read_again_and_opens() {
    // proves: L1-WRITE-06
    for (cipher, areas, data_offset) in [
        (None, 504, 2 << 20),
        (Some("aes-128-xts"), 256, 2 << 20),
        (Some("serpent-cbc-essiv:sha256"), 256, 2 << 20),
        (Some("aes-128-cbc"), 128, 1 << 20),
    ] {
        let storage = made((2 << 20) + (1 << 17) + 100, &Wishes { cipher, ..Wishes::default() });
        let bytes = storage.to_vec();
        for slot in 0..8 {
            let at = 208 + 48 * usize::try_from(slot).unwrap();
            let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(number(at), if slot == 0 { ACTIVE } else { FREE });
            assert_eq!((number(at + 40), number(at + 44)), (8 + slot * areas, 4000), "{cipher:?}");
        }
        let header = Luks1.read_header(&storage).unwrap();
        let info = header.describe();
        assert_eq!((info.data_offset, info.keyslots.len()), (data_offset, 1));
        let unlocked = header.unlock(&credentials(b"secret"), &Attempt::default()).unwrap();
        assert_eq!(unlocked.keyslot, Some(0));
        let wrong = header.unlock(&credentials(b"secret "), &Attempt::default()).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Credentials);
    }
}

#[test]
fn the_places_of_free_keyslots_show_nothing() {
    let bytes = made(4 << 20, &Wishes::default()).to_vec();
    for block in bytes[4096..2 << 20].chunks(4096) {
        assert_ne!(block, [0; 4096]);
    }
}

#[test]
fn no_two_containers_have_a_key_or_an_identity_in_common() {
    // proves: L1-WRITE-04
    let open = |storage: &MemoryStorage| {
        let header = Luks1.read_header(storage).unwrap();
        let key = header.unlock(&credentials(b"secret"), &Attempt::default()).unwrap().volume_key;
        (key.expose().to_vec(), header.describe().uuid)
    };
    let (one, other) = (made(4 << 20, &Wishes::default()), made(4 << 20, &Wishes::default()));
    let ((key, uuid), (other_key, other_uuid)) = (open(&one), open(&other));
    assert!(key != other_key && uuid != other_uuid);
    assert_ne!(key[..32], key[32..]);

    let blueprint = plan(4 << 20, &Wishes::default()).unwrap();
    let error = blueprint.make_header(&credentials(b"secret"), Some(COST), &Constant).unwrap_err();
    assert_eq!(error.reason(), "the two halves of the XTS key are equal");
}

/// A generator that is broken.
struct Constant;

impl crate::crypto::rng::Rng for Constant {
    fn fill(&self, buf: &mut [u8]) -> std::io::Result<()> {
        buf.fill(7);
        Ok(())
    }
}

#[test]
fn what_the_format_does_not_have_is_refused() {
    // proves: L1-WRITE-02
    let refused = |wishes: Wishes<'_>| plan(4 << 20, &wishes).unwrap_err().kind();
    let open = Wishes::default();
    for wishes in [
        Wishes { label: Some("name"), ..open.clone() },
        Wishes { sector_size: Some(SectorSize::B4096), ..open.clone() },
        Wishes { provision: Provision::Thin, ..open.clone() },
        Wishes { cipher: Some("rot13"), ..open.clone() },
        Wishes { key_bits: Some(100), ..open.clone() },
    ] {
        assert_eq!(refused(wishes), ErrorKind::Usage);
    }
    assert_eq!(plan((2 << 20) + 1000, &open).unwrap_err().kind(), ErrorKind::Usage);
    let plain = Wishes { cipher: Some("aes-xts-plain"), ..open };
    assert!(plan(2 << 40, &plain).is_ok());
    assert_eq!(plan(3 << 40, &plain).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn costs_below_the_least_and_other_derivations_are_refused() {
    // proves: L1-WRITE-05
    let blueprint = plan(4 << 20, &Wishes::default()).unwrap();
    let make = |cost| blueprint.make_header(&credentials(b"secret"), Some(cost), &OsRng).unwrap_err().kind();
    assert_eq!(make(KdfCost::Pbkdf2 { hash: HashKind::Sha256, iterations: 999 }), ErrorKind::Usage);
    assert_eq!(make(KdfCost::Pbkdf2 { hash: HashKind::Sha512, iterations: 1000 }), ErrorKind::Usage);
    let argon2 = crate::crypto::kdf::Argon2Cost { memory_kib: 65536, passes: 4, lanes: 1 };
    assert_eq!(make(KdfCost::Argon2id(argon2)), ErrorKind::Usage);
    let error = blueprint.make_header(&credentials(b""), Some(COST), &OsRng).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Usage, "the password is empty"));
}
