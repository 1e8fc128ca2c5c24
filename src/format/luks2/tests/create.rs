//! New containers.

use super::*;
use crate::{
    crypto::{
        kdf::{Argon2Cost, KdfCost},
        rng::OsRng,
    },
    format::{Blueprint, Provision, Room, Wishes},
};

pub(super) const CHEAP: KdfCost = KdfCost::Pbkdf2 { hash: HashKind::Sha256, iterations: 1000 };

fn plan(len: u64, wishes: &Wishes<'_>) -> crate::Result<Box<dyn Blueprint>> {
    Luks2.plan(Room::Container(len), wishes, &OsRng)
}

fn made_with(len: u64, wishes: &Wishes<'_>, cost: KdfCost) -> MemoryStorage {
    let storage = MemoryStorage::new(vec![0; usize::try_from(len).unwrap()]);
    let header = plan(len, wishes).unwrap().make_header(&secret(b"secret"), Some(cost), &OsRng).unwrap();
    header.write(&storage).unwrap();
    storage
}

/// A new container that opens with `secret`.
pub(super) fn made(wishes: &Wishes<'_>) -> MemoryStorage {
    made_with((16 << 20) + (64 << 10), wishes, CHEAP)
}

#[test]
fn a_new_container_is_read_again_and_opens() {
    // proves: L2-WRITE-02
    let wishes = Wishes { label: Some("Grüße"), ..Wishes::default() };
    let storage = made(&wishes);
    let header = Luks2.read_header(&storage).unwrap();
    let info = header.describe();
    assert_eq!(info.label.as_deref(), Some("Grüße"));
    assert_eq!((info.data_offset, info.data_size, info.sector_size), (16 << 20, 64 << 10, 4096));
    let copies: Vec<_> = info.headers.iter().map(|copy| (copy.offset, copy.state, copy.sequence)).collect();
    let state = CopyState::Current;
    assert_eq!(copies, [(0, state, Some(1)), (16 << 10, state, Some(1))]);
    let unlocked = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap();
    assert!(header.prepare_writing(&storage, &unlocked).unwrap().is_empty());
    let bytes = storage.to_vec();
    assert_ne!(bytes[104..168], bytes[(16 << 10) + 104..(16 << 10) + 168], "the salts");
    for block in bytes[32 << 10..16 << 20].chunks(4096) {
        assert_ne!(block, [0; 4096], "free areas show nothing");
    }
}

#[test]
fn every_key_derivation_and_cipher_opens_again() {
    let argon2 = Argon2Cost { memory_kib: 32, passes: 4, lanes: 4 };
    for cost in [CHEAP, KdfCost::Argon2i(argon2), KdfCost::Argon2id(argon2)] {
        for (cipher, hash) in [
            ("aes-128-xts", HashKind::Sha512),
            ("twofish-xts-plain64", HashKind::Sha1),
            ("serpent-256-cbc", HashKind::Ripemd160),
            ("camellia-cbc-plain64", HashKind::Whirlpool),
        ] {
            let wishes = Wishes { cipher: Some(cipher), hash: Some(hash), ..Wishes::default() };
            let header = Luks2.read_header(&made_with(17 << 20, &wishes, cost)).unwrap();
            assert!(header.unlock(&secret(b"secret"), &Attempt::default()).is_ok(), "{cipher} {cost:?}");
        }
    }
}

#[test]
fn sectors_are_as_large_as_the_size_allows() {
    // proves: L2-WRITE-02
    let plan = |len, sector_size| plan(len, &Wishes { sector_size, ..Wishes::default() });
    let (whole, odd) = (20 << 20, (20 << 20) + 1536);
    assert_eq!(plan(whole, None).unwrap().sector_size(), SectorSize::B4096);
    let small = plan(odd, None).unwrap();
    assert_eq!((small.sector_size(), small.extent().data.end), (SectorSize::B512, odd));
    assert_eq!(plan(odd + 100, None).unwrap().extent().container_len, odd);
    assert_eq!(plan(whole, Some(SectorSize::B512)).unwrap().sector_size(), SectorSize::B512);
    assert_eq!(plan(odd, Some(SectorSize::B4096)).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(plan((16 << 20) + 4096, None).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn what_the_format_does_not_have_is_refused() {
    // proves: L2-WRITE-01
    let kind = |wishes| plan(20 << 20, &wishes).unwrap_err().kind();
    let long = "x".repeat(48);
    assert_eq!(kind(Wishes { label: Some(&long), ..Wishes::default() }), ErrorKind::Usage);
    assert_eq!(kind(Wishes { label: Some("a\nb"), ..Wishes::default() }), ErrorKind::Usage);
    assert_eq!(kind(Wishes { provision: Provision::Thin, ..Wishes::default() }), ErrorKind::Usage);
    assert!(plan(20 << 20, &Wishes { label: Some(&long[1..]), ..Wishes::default() }).is_ok());
}

#[test]
fn costs_outside_their_bounds_are_refused() {
    // proves: L2-WRITE-03
    let blueprint = plan(20 << 20, &Wishes::default()).unwrap();
    let make = |cost| blueprint.make_header(&secret(b"secret"), Some(cost), &OsRng).unwrap_err().kind();
    let least = Argon2Cost { memory_kib: 32, passes: 4, lanes: 1 };
    for cost in [
        KdfCost::Argon2id(Argon2Cost { memory_kib: 31, ..least }),
        KdfCost::Argon2id(Argon2Cost { passes: 3, ..least }),
        KdfCost::Argon2i(Argon2Cost { lanes: 5, memory_kib: 64, ..least }),
        KdfCost::Pbkdf2 { hash: HashKind::Sha256, iterations: 999 },
        KdfCost::Pbkdf2 { hash: HashKind::Sha256, iterations: u32::MAX },
    ] {
        assert_eq!(make(cost), ErrorKind::Usage, "{cost:?}");
    }
}
