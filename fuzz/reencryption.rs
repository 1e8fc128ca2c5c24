//! Hostile state of a re-encryption: records, journals and the superblock's section. Shared with `tests/fuzz_corpus.rs`.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use strongroom::{
    crypto::{
        hash::hmac_sha512,
        kdf::{KdfLimits, WorkLimit, hkdf_sha512},
        secret::{Credentials, Password, VolumeKey},
    },
    format::{Attempt, Format, freeotfe, native::Native, veracrypt::Hints},
    mapping::Layout,
    storage::{MemoryStorage, Storage},
    units::Sector,
    volume::device,
};

/// A container whose newest record has a chunk: both work areas have 16 KiB, the data area lies between them.
const BASE: &[u8] = include_bytes!("../spec/vectors/native/journaled.img");
const COPY_LEN: usize = 65_536;
const RECORD_LEN: usize = 4096;
const AREA_LEN: usize = 16_384;
const SECTION: usize = 192;

const ATTEMPT: Attempt = Attempt {
    limits: KdfLimits {
        memory_kib: 128,
        passes: 2,
        lanes: 2,
        iterations: 2000,
        available_kib: u64::MAX,
        work: WorkLimit { kib: 256, kib_per_second: 1 << 20 },
    },
    keyslot: None,
    hints: Hints::NONE,
    freeotfe: freeotfe::Hints::USUAL,
    monitor: None,
};

/// The first byte tells what the rest overwrites, the second where in it.
///
/// Bits 0 and 1: the first two records, of the front. Bits 2 and 3: those of the tail. Bit 4: the section, in both copies. Bit 5:
/// make the MACs of records and the checksums of copies right. Bit 6: open for writing.
pub(crate) fn reencryption(data: &[u8]) {
    let [flags, at, rest @ ..] = data else { return };
    let is_set = |bit: u8| flags >> bit & 1 == 1;
    let mut bytes = BASE.to_vec();
    let backup = bytes.len() - AREA_LEN - COPY_LEN;
    let tail = bytes.len() - AREA_LEN;
    let key = volume_key(&bytes);
    let slots = [COPY_LEN, COPY_LEN + RECORD_LEN, tail, tail + RECORD_LEN];
    for (slot, bit) in slots.into_iter().zip(0..) {
        if !is_set(bit) {
            continue;
        }
        let record = &mut bytes[slot..slot + RECORD_LEN];
        put(record, usize::from(*at), rest);
        if is_set(5) {
            let uuid: [u8; 16] = BASE[48..64].try_into().expect("16 bytes");
            let label = b"strongroom/v1/reencryption-record";
            let record_key = hkdf_sha512(key.expose(), &uuid, label, 64).expect("memory");
            let mac = hmac_sha512(record_key.expose(), &[&record[..4032]]);
            record[4032..].copy_from_slice(&mac);
        }
    }
    for copy in [0, backup] {
        if is_set(4) {
            put(&mut bytes[copy..copy + RECORD_LEN], SECTION + usize::from(*at % 112), rest);
        }
        if is_set(4) && is_set(5) {
            make_checksum_right(&mut bytes[copy..copy + COPY_LEN]);
        }
    }
    open(&bytes, key, is_set(6), backup);
}

/// Opens what may be opened. Nothing but header, work areas and data area is ever written.
fn open(bytes: &[u8], key: VolumeKey, for_writing: bool, backup: usize) {
    let storage = Arc::new(MemoryStorage::new(bytes.to_vec()));
    let Ok(header) = Native.read_header(&*storage) else { return };
    let Ok(unlocked) = header.unlock_with_key(key) else { return };
    if for_writing && header.prepare_writing(&*storage, &unlocked).is_ok() {
        let header = Native.read_header(&*storage).expect("what was healed is read");
        let key = VolumeKey::copy_of(unlocked.volume_key.expose()).expect("memory");
        let again = header.unlock_with_key(key).expect("what was healed opens");
        if let Layout::Moving(moving) = &again.layout {
            assert!(moving.journaled.is_none(), "a chunk is left in the journal");
        }
        let done = header.prepare_writing(&*storage, &again).expect("what was healed may be written");
        assert!(done.is_empty(), "{done:?}");
    }
    if !for_writing {
        assert!(storage.to_vec() == bytes, "reading wrote");
    }
    assert!(storage.to_vec().len() == bytes.len() && backup > COPY_LEN);
    let device = device(Arc::clone(&storage) as Arc<dyn Storage>, unlocked.layout);
    let mut plaintext = vec![0; usize::try_from(device.geometry().bytes()).expect("small")];
    // A chunk whose journal is lost is an error, not a panic.
    let _ = device.read(&mut plaintext, Sector(0));
}

fn volume_key(bytes: &[u8]) -> VolumeKey {
    let header = Native.read_header(&MemoryStorage::new(bytes.to_vec())).expect("the base is whole");
    let password = Password::copy_of(b"correct horse battery staple").expect("memory");
    let credentials = Credentials::Password { password, keyfiles: Vec::new() };
    let unlocked = header.unlock(&credentials, &ATTEMPT).expect("the base opens");
    VolumeKey::copy_of(unlocked.volume_key.expose()).expect("memory")
}

fn put(place: &mut [u8], at: usize, bytes: &[u8]) {
    let len = bytes.len().min(place.len() - at);
    place[at..at + len].copy_from_slice(&bytes[..len]);
}

fn make_checksum_right(copy: &mut [u8]) {
    let mac: Vec<u8> = copy[4032..4096].to_vec();
    copy[4000..4096].fill(0);
    let sum = Sha256::digest(&*copy);
    copy[4000..4032].copy_from_slice(&sum);
    copy[4032..4096].copy_from_slice(&mac);
}
