//! What each fuzz target does with its input. Shared with `tests/fuzz_corpus.rs`, which runs the corpus as an ordinary test.

use sha2::{Digest, Sha256};
use strongroom::{
    crypto::{
        kdf::KdfLimits,
        secret::{Credentials, Password},
    },
    format::{
        Attempt, Format,
        luks1::Luks1,
        luks2::{self, Luks2},
        native::Native,
    },
    storage::{MemoryStorage, Storage},
};

/// A whole container: what the input does not overwrite is right.
const BASE: &[u8] = include_bytes!("../tests/vectors/native/password.img");
const COPY_LEN: usize = 65_536;
const BACKUP_OFFSET: usize = COPY_LEN + 16_384;

/// So little that the real key derivation is cheap; nothing in the product is built differently for fuzzing.
const ATTEMPT: Attempt = Attempt {
    limits: KdfLimits { memory_kib: 128, passes: 2, lanes: 2, iterations: 2000, available_kib: u64::MAX },
    keyslot: None,
};

/// The first byte tells where the rest goes and what is made right again; the next two cut the container's end.
///
/// Bit 0: overwrite copy A. Bit 1: copy B. Bit 2: make their checksums right. Bit 3: open for writing.
/// Bit 4: at the keyslots instead of the superblock.
pub(crate) fn native_header(data: &[u8]) {
    let [flags, cut_low, cut_high, rest @ ..] = data else { return };
    let is_set = |bit: u8| flags >> bit & 1 == 1;
    let rest = &rest[..rest.len().min(COPY_LEN - 4096)];
    let place = if is_set(4) { 4096 } else { 0 };

    let mut bytes = BASE.to_vec();
    for (bit, start) in [(0, 0), (1, BACKUP_OFFSET)] {
        if !is_set(bit) {
            continue;
        }
        bytes[start + place..start + place + rest.len()].copy_from_slice(rest);
        if is_set(2) {
            make_checksum_right(&mut bytes[start..start + COPY_LEN]);
        }
    }
    let cut = usize::from(u16::from_le_bytes([*cut_low, *cut_high])) * 4;
    bytes.truncate(bytes.len().saturating_sub(cut));
    open(&MemoryStorage::new(bytes), is_set(3));
}

fn open(storage: &dyn Storage, for_writing: bool) {
    let Ok(probe) = Native.probe(storage) else { return };
    let Ok(header) = Native.read_header(storage) else { return };
    assert_eq!(probe, strongroom::format::Probe::Match, "a header was read where none was seen");
    let info = header.describe();
    assert!(info.data_offset + info.data_size <= info.container_size);
    let password = Password::copy_of(b"correct horse battery staple").expect("memory");
    let Ok(unlocked) = header.unlock(&Credentials::Password { password, keyfiles: Vec::new() }, &ATTEMPT)
    else {
        return;
    };
    assert!(unlocked.layout.current().sectors() > 0);
    if for_writing && header.prepare_writing(storage, &unlocked).is_ok() {
        healed_once_is_healed(storage);
    }
}

/// What was healed opens again, and there is nothing left to heal.
fn healed_once_is_healed(storage: &dyn Storage) {
    let header = Native.read_header(storage).expect("a healed header is read");
    let password = Password::copy_of(b"correct horse battery staple").expect("memory");
    let credentials = Credentials::Password { password, keyfiles: Vec::new() };
    let unlocked = header.unlock(&credentials, &ATTEMPT).expect("a healed header is unlocked");
    let done = header.prepare_writing(storage, &unlocked).expect("a healed header may be written");
    assert!(done.iter().all(|line| line.ends_with("left alone")), "{done:?}");
}

fn make_checksum_right(copy: &mut [u8]) {
    let mac: Vec<u8> = copy[4032..4096].to_vec();
    copy[4000..4096].fill(0);
    let sum = Sha256::digest(&*copy);
    copy[4000..4032].copy_from_slice(&sum);
    copy[4032..4096].copy_from_slice(&mac);
}

/// A LUKS1 header: the input over a container of zeros, its end where the first two bytes say, in units of 64 bytes.
pub(crate) fn luks1_header(data: &[u8]) {
    let [low, high, rest @ ..] = data else { return };
    let len = usize::from(u16::from_le_bytes([*low, *high])) * 64;
    open_luks(&Luks1, rest, len);
}

/// Both binary headers and the JSON area of a LUKS2 header. Bit 0 of the first byte: make the checksum of the first copy right.
pub(crate) fn luks2_header(data: &[u8]) {
    let [flags, rest @ ..] = data else { return };
    let mut bytes = rest[..rest.len().min(LUKS2_COPY_LEN)].to_vec();
    bytes.resize(LUKS2_COPY_LEN, 0);
    if flags & 1 == 1 {
        bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
        bytes[8..16].copy_from_slice(&16_384_u64.to_be_bytes());
        bytes[72..104].fill(0);
        bytes[72..78].copy_from_slice(b"sha256");
        bytes[256..264].fill(0);
        bytes[448..512].fill(0);
        let sum = Sha256::digest(&bytes);
        bytes[448..480].copy_from_slice(&sum);
    }
    open_luks(&Luks2, &bytes, 2 << 20);
}

/// The text of a JSON area.
pub(crate) fn luks2_json(data: &[u8]) {
    let _ = luks2::check_json(data, 16_384);
}

fn open_luks(format: &dyn Format, start: &[u8], len: usize) {
    let mut bytes = start.to_vec();
    bytes.resize(len.max(start.len()), 0);
    let storage = MemoryStorage::new(bytes);
    let Ok(header) = format.read_header(&storage) else { return };
    header.describe();
    let password = Password::copy_of(b"password").expect("memory");
    let credentials = Credentials::Password { password, keyfiles: Vec::new() };
    if let Ok(unlocked) = header.unlock(&credentials, &ATTEMPT) {
        header.prepare_writing(&storage, &unlocked).expect("memory can be written");
    }
}

const LUKS2_COPY_LEN: usize = 16_384;
