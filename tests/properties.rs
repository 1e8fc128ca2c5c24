//! What must hold of every header: any change is noticed, and no part of one container is of use in another.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

use std::sync::Arc;

use proptest::{prelude::*, test_runner::RngSeed};
use sha2::{Digest, Sha256};
use strongroom::{
    ErrorKind, Result,
    crypto::{
        kdf::Argon2Cost,
        rng::OsRng,
        secret::{Credentials, RECOVERY_KEY_LEN, RecoveryKey, VolumeKey},
    },
    format::{
        Attempt, Format, Unlocked,
        native::{
            COPY_LEN, Geometry, HeaderCopy, Label, MIN_CONTAINER_LEN, Native, NewContainer, NewHeader,
            Provision, Suite, new_uuid,
        },
    },
    storage::{MemoryStorage, Storage},
    units::{Sector, SectorSize},
    volume::device,
};

const DATA: usize = 1 << 20;
const SLOT_LEN: usize = 2048;
const PLAINTEXT: [u8; 4096] = [0xa5; 4096];

fn key(number: u8) -> Credentials {
    Credentials::Recovery(RecoveryKey::copy_of(&[number; RECOVERY_KEY_LEN]).unwrap())
}

/// A container that the recovery key of this number opens in keyslot 0, with [`PLAINTEXT`] in its first sector.
fn container(number: u8) -> (Vec<u8>, VolumeKey) {
    let storage = Arc::new(MemoryStorage::default());
    storage.set_size(MIN_CONTAINER_LEN).unwrap();
    let new = NewContainer {
        uuid: new_uuid(&OsRng).unwrap(),
        label: Label::default(),
        suite: Suite::default(),
        sector_size: SectorSize::B4096,
        provision: Provision::Thick,
        geometry: Geometry::for_container(MIN_CONTAINER_LEN).unwrap(),
        cost: Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 },
    };
    let header = NewHeader::new(&new, &key(number), &OsRng).unwrap();
    header.write(&*storage).unwrap();
    let volume = device(Arc::clone(&storage) as Arc<dyn Storage>, header.layout().unwrap());
    volume.write(&PLAINTEXT, Sector(0)).unwrap();
    (storage.to_vec(), VolumeKey::copy_of(header.volume_key.expose()).unwrap())
}

fn unlock(container: &[u8], number: u8) -> Result<Unlocked> {
    Native.read_header(&MemoryStorage::new(container.to_vec()))?.unlock(&key(number), &Attempt::default())
}

fn first_sector(container: &[u8], unlocked: Unlocked) -> Vec<u8> {
    let mut sector = vec![0; 4096];
    let volume = device(Arc::new(MemoryStorage::new(container.to_vec())), unlocked.layout);
    volume.read(&mut sector, Sector(0)).unwrap();
    sector
}

/// As someone without the key can.
fn make_checksum_right(copy: &mut [u8]) {
    let mac = copy[4032..4096].to_vec();
    copy[4000..4096].fill(0);
    let sum = Sha256::digest(&*copy);
    copy[4000..4032].copy_from_slice(&sum);
    copy[4032..4096].copy_from_slice(&mac);
}

/// Does the same to both copies of a container.
fn in_both_copies(container: &mut [u8], change: impl Fn(&mut [u8])) {
    let backup = container.len() - DATA;
    for start in [0, backup] {
        change(&mut container[start..start + COPY_LEN]);
        make_checksum_right(&mut container[start..start + COPY_LEN]);
    }
}

#[test]
fn one_flipped_bit_in_any_byte_of_a_copy_is_damage() {
    let (bytes, volume_key) = container(1);
    let mut copy = bytes[..COPY_LEN].to_vec();
    for place in 0..COPY_LEN {
        let bit = 1 << (place % 8);
        copy[place] ^= bit;
        // The MAC is not under the checksum, but under itself.
        let is_noticed =
            HeaderCopy::parse(&copy).map_or(true, |parsed| parsed.check_mac(&volume_key).is_err());
        assert!(is_noticed, "bit {} of byte {place}", place % 8);
        copy[place] ^= bit;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        rng_seed: RngSeed::Fixed(17),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_flipped_bit_with_the_checksum_made_right_is_noticed_by_the_mac(place in 0..COPY_LEN, bit in 0..8_u8) {
        // Over the checksum there is nothing to flip: it is made anew.
        prop_assume!(!(4000..4032).contains(&place));
        let (bytes, volume_key) = shared();
        let mut copy = bytes[..COPY_LEN].to_vec();
        copy[place] ^= 1 << bit;
        make_checksum_right(&mut copy);
        let parsed = HeaderCopy::parse(&copy);
        prop_assert!(parsed.map_or(true, |parsed| parsed.check_mac(volume_key).is_err()));
    }
}

/// One container for all cases.
fn shared() -> &'static (Vec<u8>, VolumeKey) {
    static SHARED: std::sync::OnceLock<(Vec<u8>, VolumeKey)> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| container(1))
}

#[test]
fn a_keyslot_of_another_container_does_not_open() {
    let ((mut ours, _), (theirs, _)) = (container(1), container(2));
    // The same key, so that only the place differs.
    let slot = theirs[4096..4096 + SLOT_LEN].to_vec();
    in_both_copies(&mut ours, |copy| copy[4096..4096 + SLOT_LEN].copy_from_slice(&slot));
    assert_eq!(unlock(&ours, 2).unwrap_err().kind(), ErrorKind::Credentials);
}

#[test]
fn a_keyslot_copied_to_another_index_does_not_open() {
    let (mut bytes, _) = container(1);
    let mut slot = bytes[4096..4096 + SLOT_LEN].to_vec();
    // It has to bear its new number, or the copy is damaged.
    let empty = bytes[4096 + SLOT_LEN..4096 + 2 * SLOT_LEN].to_vec();
    slot[4..8].copy_from_slice(&1_u32.to_le_bytes());
    in_both_copies(&mut bytes, |copy| {
        copy[4096..4096 + SLOT_LEN].copy_from_slice(&empty);
        copy[4100..4104].copy_from_slice(&0_u32.to_le_bytes());
        copy[4096 + SLOT_LEN..4096 + 2 * SLOT_LEN].copy_from_slice(&slot);
    });
    assert_eq!(unlock(&bytes, 1).unwrap_err().kind(), ErrorKind::Credentials);

    let (mut bytes, _) = container(1);
    slot[4..8].copy_from_slice(&0_u32.to_le_bytes());
    in_both_copies(&mut bytes, |copy| copy[4096 + SLOT_LEN..4096 + 2 * SLOT_LEN].copy_from_slice(&slot));
    assert_eq!(unlock(&bytes, 1).unwrap_err().kind(), ErrorKind::Damaged, "a slot with another's number");
}

#[test]
fn a_header_and_the_data_of_another_container_give_no_plaintext() {
    let ((ours, _), (theirs, _)) = (container(1), container(2));
    let end = ours.len() - DATA;
    let mut mixed = ours.clone();
    mixed[DATA..end].copy_from_slice(&theirs[DATA..end]);
    assert_eq!(first_sector(&ours, unlock(&ours, 1).unwrap()), PLAINTEXT);
    assert_eq!(first_sector(&theirs, unlock(&theirs, 2).unwrap()), PLAINTEXT);
    assert_ne!(first_sector(&mixed, unlock(&mixed, 1).unwrap())[..16], PLAINTEXT[..16]);
    assert_eq!(unlock(&mixed, 2).unwrap_err().kind(), ErrorKind::Credentials);
}

#[test]
fn one_copy_of_another_container_beside_ours_opens_ours_alone() {
    let ((ours, _), (theirs, _)) = (container(1), container(2));
    let backup = ours.len() - DATA;
    let mut mixed = ours.clone();
    mixed[backup..].copy_from_slice(&theirs[backup..]);
    assert_eq!(first_sector(&mixed, unlock(&mixed, 1).unwrap()), PLAINTEXT);
}
