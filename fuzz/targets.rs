//! What each fuzz target does with its input. Shared with `tests/fuzz_corpus.rs`, which runs the corpus as an ordinary test.

use std::{ops::ControlFlow, sync::Arc};

use sha2::{Digest, Sha256};
use strongroom::{
    crypto::{
        crc::crc32,
        kdf::{KdfLimits, WorkLimit},
        secret::{Credentials, Password},
    },
    format::{
        Attempt, Format, Header, freeotfe,
        luks1::Luks1,
        luks2::{self, Luks2},
        native::{Backup, HeaderFile, Native, NativeHeader, Restore, scan},
        partitions,
        veracrypt::Hints,
    },
    storage::{
        MemoryStorage, Storage,
        pieces::{BLOCK_LEN, Geometry, PieceMap},
    },
};

/// A whole container: what the input does not overwrite is right.
const BASE: &[u8] = include_bytes!("../spec/vectors/native/password.img");
const COPY_LEN: usize = 65_536;
const BACKUP_OFFSET: usize = COPY_LEN + 16_384;

/// A whole header file, and the container whose header it is.
const DETACHED_HEADER: &[u8] = include_bytes!("../spec/vectors/native/detached.header");
const DETACHED: &[u8] = include_bytes!("../spec/vectors/native/detached.img");
const PREAMBLE_LEN: usize = 4096;

/// So little that the real key derivation is cheap; nothing in the product is built differently for fuzzing.
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

/// The block of a file of a folder of pieces, its checksum made right, and the piece map behind it.
pub(crate) fn pieces(data: &[u8]) {
    let Some((block, map)) = data.split_first_chunk::<BLOCK_LEN>() else { return };
    let mut mended = *block;
    let (head, checksum) = mended.split_at_mut(BLOCK_LEN - 32);
    checksum.copy_from_slice(&Sha256::digest(&*head));
    for block in [*block, mended] {
        let Ok((geometry, role)) = Geometry::read(&block) else { continue };
        assert_eq!(geometry.block(role), block);
        let data = geometry.data();
        let total: u64 = (0..geometry.pieces()).map(|index| geometry.file_len(index) - 4096).sum();
        assert_eq!(total, data.end - data.start);
        let _ = PieceMap::read(map, &geometry);
    }
}

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
    let challenges = header.challenges(&ATTEMPT);
    assert!(challenges.iter().all(|challenge| challenge.credential.as_bytes().len() <= 1024));
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

/// The first byte tells where the rest goes in a header file and what is made right again; the next two cut its end.
///
/// Bit 0: overwrite the preamble. Bit 1: copy A. Bit 2: copy B. Bit 3: make the preamble's checksum right. Bit 4: those of the
/// copies. Bit 5: at their keyslots instead of their superblocks.
pub(crate) fn header_file(data: &[u8]) {
    let [flags, cut_low, cut_high, rest @ ..] = data else { return };
    let is_set = |bit: u8| flags >> bit & 1 == 1;
    let mut bytes = DETACHED_HEADER.to_vec();
    if is_set(0) {
        let rest = &rest[..rest.len().min(PREAMBLE_LEN)];
        bytes[..rest.len()].copy_from_slice(rest);
        if is_set(3) {
            let sum = Sha256::digest(&bytes[..4064]);
            bytes[4064..4096].copy_from_slice(&sum);
        }
    }
    let place = if is_set(5) { 4096 } else { 0 };
    for (bit, start) in [(1, PREAMBLE_LEN), (2, PREAMBLE_LEN + COPY_LEN)] {
        if !is_set(bit) {
            continue;
        }
        let rest = &rest[..rest.len().min(COPY_LEN - 4096)];
        bytes[start + place..start + place + rest.len()].copy_from_slice(rest);
        if is_set(4) {
            make_checksum_right(&mut bytes[start..start + COPY_LEN]);
        }
    }
    let cut = usize::from(u16::from_le_bytes([*cut_low, *cut_high])) * 4;
    bytes.truncate(bytes.len().saturating_sub(cut));

    let found = scan(&MemoryStorage::new(bytes.clone()), &mut |_, _| ControlFlow::Continue(()));
    assert!(found.expect("memory is read").whole.len() <= 2);
    attach(&bytes);
    restore(&MemoryStorage::new(bytes));
}

/// Uses the header file as a detached header, read and healed.
fn attach(bytes: &[u8]) {
    let file = Arc::new(MemoryStorage::new(bytes.to_vec()));
    let container = Arc::new(MemoryStorage::new(DETACHED.to_vec()));
    let Ok(parsed) = HeaderFile::read(&*file) else { return };
    if parsed.check_against(&*container, &*file).is_err() {
        return;
    }
    let overlay =
        parsed.over(Arc::clone(&container) as Arc<dyn Storage>, file).expect("the geometry was checked");
    open(&overlay, true);
    assert!(container.to_vec() == DETACHED, "the container itself was written to");
}

/// Restores the header file to its container, which bears no header; then a backup of that is whole again.
fn restore(file: &dyn Storage) {
    let container = MemoryStorage::new(DETACHED.to_vec());
    let Ok(restore) = Restore::from_file(&container, file) else { return };
    let password = Password::copy_of(b"correct horse battery staple").expect("memory");
    let credentials = Credentials::Password { password, keyfiles: Vec::new() };
    let Ok(unlocked) = restore.source().unlock(&credentials, &ATTEMPT) else { return };
    restore.write(&container, &unlocked).expect("an authentic header is restored");
    let header = NativeHeader::read(&container).expect("a restored header is read");
    assert!(header.faults(&unlocked).expect("it is complete").is_empty());
    assert!(Backup::take(&container).expect("a restored header is backed up").is_settled());
}

/// A medium that begins with the input. Bit 0 of the first byte: a GPT header stands in the second sector, and its checksums are
/// made right. Bit 1: sectors of 4096 bytes.
pub(crate) fn partitions(data: &[u8]) {
    let [flags, rest @ ..] = data else { return };
    let mut bytes = rest[..rest.len().min(MEDIUM_LEN)].to_vec();
    bytes.resize(MEDIUM_LEN, 0);
    if flags & 1 == 1 {
        let sector = if flags & 2 == 2 { 4096 } else { 512 };
        make_gpt_right(&mut bytes, sector);
    }
    let size = MEDIUM_LEN as u64;
    let Some(table) = partitions::read(&MemoryStorage::new(bytes)).expect("memory is read") else { return };
    assert!(table.partitions.len() <= (1 << 20) / 128);
    assert!(table.partitions.is_sorted_by_key(|partition| partition.number));
    for partition in &table.partitions {
        assert!(partition.len > 0 && partition.start.checked_add(partition.len).is_some());
        if let Some(range) = partition.range(size) {
            assert!(range.start < range.end && range.end <= size);
        }
    }
}

fn make_gpt_right(bytes: &mut [u8], sector: usize) {
    let header = &mut bytes[sector..sector * 2];
    header[..8].copy_from_slice(b"EFI PART");
    header[12..16].copy_from_slice(&92_u32.to_le_bytes());
    header[24..32].copy_from_slice(&1_u64.to_le_bytes());
    let number = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (block, count, len) = (number(72), number(80), number(84));
    let range = (block * sector).min(MEDIUM_LEN)..(block * sector + count * len).min(MEDIUM_LEN);
    let sum = crc32(&bytes[range]);
    bytes[sector + 88..sector + 92].copy_from_slice(&sum.to_le_bytes());
    bytes[sector + 16..sector + 20].fill(0);
    let sum = crc32(&bytes[sector..sector + 92]);
    bytes[sector + 16..sector + 20].copy_from_slice(&sum.to_le_bytes());
}

const MEDIUM_LEN: usize = 128 << 10;
