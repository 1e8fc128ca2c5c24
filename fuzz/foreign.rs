//! Containers of other programs, opened whole, and what is read of them after decryption. Shared with `tests/fuzz_corpus.rs`.

use std::{ffi::OsStr, fmt, ops::Range, os::unix::ffi::OsStrExt, sync::Arc};

use sha2::{Digest, Sha256};
use strongroom::{
    block::{BlockDevice, BlockError, ByteDevice, Geometry},
    crypto::{
        crc::crc32,
        hash::HashKind,
        kdf::{KdfLimits, WorkLimit, pbkdf2},
        secret::{Credentials, Password, VolumeKey},
        xts::AesXts,
    },
    filesystem::{ExtFileSystem, FileSystem, IsoFileSystem, NodeId, NtfsFileSystem, Seek, UdfFileSystem},
    format::{
        Attempt, Format, Unlocked,
        freeotfe::{self, Details, FreeOtfe},
        luks1::Luks1,
        luks2::Luks2,
        native::Native,
        veracrypt::{
            Chain, Encryption, Hints, Mode, Opened, Place, Prf, TRUECRYPT, VERACRYPT, VolumeHeader,
            pool_contribution,
        },
    },
    storage::{MemoryStorage, Storage},
    units::{Sector, SectorSize},
    volume::free_space::free_tail,
};

#[path = "../tests/luks_image/mod.rs"]
mod luks_image;

const NATIVE: &[u8] = include_bytes!("../spec/vectors/native/password.img");
const NATIVE_COPIES: [usize; 2] = [0, 81_920];
const NATIVE_COPY_LEN: usize = 65_536;
const PASSWORD: &[u8] = b"correct horse battery staple";

/// Real costs, as small as a container may have them; nothing in the product is built differently for fuzzing.
const ATTEMPT: Attempt<'static> = Attempt {
    limits: KdfLimits {
        memory_kib: 128,
        passes: 2,
        lanes: 2,
        iterations: 2000,
        available_kib: u64::MAX,
        work: WorkLimit { kib: 256, kib_per_second: 1 << 20 },
    },
    keyslot: None,
    hints: Hints { prf: Some(Prf::Sha512), ..Hints::NONE },
    freeotfe: freeotfe::Hints { iterations: 1, ..freeotfe::Hints::USUAL },
    monitor: None,
};

/// A whole container that opens, changed: unlocked with its password, prepared for writing, and opened again.
///
/// The first byte chooses the format (its last two bits) and, bit 2, whether checksums are made right again; then come changes:
/// two bytes of place, one of length, and as many bytes.
///
/// Gives whether it opened.
pub(crate) fn unlock(data: &[u8]) -> bool {
    let [choice, changes @ ..] = data else { return false };
    let (make_right, format) = (choice & 4 != 0, choice & 3);
    match format {
        0 => {
            let mut bytes = NATIVE.to_vec();
            change(&mut bytes, changes);
            for start in NATIVE_COPIES.into_iter().filter(|_| make_right) {
                make_native_checksum_right(&mut bytes, start);
            }
            open(&Native, &bytes)
        }
        1 => {
            let mut bytes = luks_image::luks1(PASSWORD);
            change(&mut bytes, changes);
            open(&Luks1, &bytes)
        }
        2 => {
            let mut bytes = luks_image::luks2(PASSWORD);
            change(&mut bytes[..2 * luks_image::COPY_LEN], changes);
            for start in [0, luks_image::COPY_LEN].into_iter().filter(|_| make_right) {
                luks_image::make_checksum_right(&mut bytes[start..start + luks_image::COPY_LEN]);
            }
            open(&Luks2, &bytes)
        }
        _ => {
            let mut plain = truecrypt_header();
            change(&mut plain, changes);
            if make_right {
                make_header_checksums_right(&mut plain);
            }
            open(&TRUECRYPT, &truecrypt(plain))
        }
    }
}

fn change(bytes: &mut [u8], mut changes: &[u8]) {
    while let [low, high, len, rest @ ..] = changes {
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        let (patch, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        for (byte, new) in bytes.iter_mut().skip(at).zip(patch) {
            *byte = *new;
        }
        changes = rest;
    }
}

fn make_native_checksum_right(bytes: &mut [u8], start: usize) {
    let Some(copy) = bytes.get_mut(start..start + NATIVE_COPY_LEN) else { return };
    let mac: Vec<u8> = copy[4032..4096].to_vec();
    copy[4000..4096].fill(0);
    let sum = Sha256::digest(&*copy);
    copy[4000..4032].copy_from_slice(&sum);
    copy[4032..4096].copy_from_slice(&mac);
}

fn credentials() -> Credentials {
    Credentials::Password { password: Password::copy_of(PASSWORD).expect("memory"), keyfiles: Vec::new() }
}

fn open(format: &dyn Format, bytes: &[u8]) -> bool {
    let storage = MemoryStorage::new(bytes.to_vec());
    format.erasure(&storage).expect("memory tells its size");
    let _ = format.check(&storage);
    let Ok(header) = format.read_header(&storage) else { return false };
    header.describe();
    let fingerprint = header.fingerprint();
    let openable = header.check_openable();
    let Ok(unlocked) = header.unlock(&credentials(), &ATTEMPT) else { return false };
    openable.expect("what is refused before the password is refused after it");
    check_layout(&unlocked, &storage);
    header.describe_unlocked(&unlocked);
    header.check_unlocked(&storage, &unlocked);
    let key = VolumeKey::copy_of(unlocked.volume_key.expose()).expect("memory");
    header.unlock_with_key(key).expect("what a password opened, its key opens");
    if header.prepare_writing(&storage, &unlocked).is_err() {
        assert!(storage.to_vec() == bytes, "something was written before it was refused");
        return true;
    }
    let healed = format.read_header(&storage).expect("a healed header is read");
    assert!(
        fingerprint.map(|it| it.digest()) == healed.fingerprint().map(|it| it.digest()),
        "another header"
    );
    healed.unlock(&credentials(), &ATTEMPT).expect("a healed header opens");
    true
}

/// Each segment lies within the container.
fn check_layout(unlocked: &Unlocked, storage: &dyn Storage) {
    let size = storage.size().expect("memory tells its size");
    let mapping = unlocked.layout.current();
    assert!(mapping.sectors() > 0);
    for segment in mapping.segments() {
        let len = segment.sectors << mapping.sector_size().shift();
        assert!(segment.storage_offset + len <= size, "a segment leaves the container");
    }
}

const PLAIN_LEN: usize = 448;
const TRUECRYPT_LEN: usize = 2 * 131_072 + 16 * 512;

/// A header of TrueCrypt 7 before encryption, for AES-256-XTS.
fn truecrypt_header() -> [u8; PLAIN_LEN] {
    let mut plain = [0; PLAIN_LEN];
    plain[..4].copy_from_slice(b"TRUE");
    plain[4..6].copy_from_slice(&5_u16.to_be_bytes());
    plain[6..8].copy_from_slice(&0x0700_u16.to_be_bytes());
    for (at, value) in [(36, 16 * 512_u64), (44, 131_072), (52, 16 * 512)] {
        plain[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
    plain[64..68].copy_from_slice(&512_u32.to_be_bytes());
    for (byte, value) in plain[192..256].iter_mut().zip(1..) {
        *byte = value;
    }
    make_header_checksums_right(&mut plain);
    plain
}

fn make_header_checksums_right(plain: &mut [u8; PLAIN_LEN]) {
    let keys = crc32(&plain[192..]);
    plain[8..12].copy_from_slice(&keys.to_be_bytes());
    let fields = crc32(&plain[..188]);
    plain[188..192].copy_from_slice(&fields.to_be_bytes());
}

/// A container of TrueCrypt with this header at its start.
fn truecrypt(mut plain: [u8; PLAIN_LEN]) -> Vec<u8> {
    let key = pbkdf2(HashKind::Sha512, PASSWORD, &[3; 64], 1000, 64).expect("memory");
    AesXts::aes256(key.expose()).expect("two unlike halves").encrypt_unit(&mut plain, 0);
    let mut bytes = vec![0; TRUECRYPT_LEN];
    bytes[..64].fill(3);
    bytes[64..512].copy_from_slice(&plain);
    bytes
}

/// A header of TrueCrypt or VeraCrypt after decryption, the key that a server gets, and a keyfile.
///
/// Bit 0 of the first byte: make the magic right, bit 1: that of TrueCrypt. Bit 2: make the checksums right. Then four bytes with
/// the container's size, in sectors.
///
/// Gives whether it was a header.
pub(crate) fn veracrypt_header(data: &[u8]) -> bool {
    let [flags, a, b, c, d, rest @ ..] = data else { return false };
    let container_len = u64::from(u32::from_le_bytes([*a, *b, *c, *d])) * 512;
    let mut plain = [0; PLAIN_LEN];
    for (byte, new) in plain.iter_mut().zip(rest) {
        *byte = *new;
    }
    if flags & 1 != 0 {
        plain[..4].copy_from_slice(if flags & 2 == 0 { b"VERA" } else { b"TRUE" });
    }
    if flags & 4 != 0 {
        make_header_checksums_right(&mut plain);
    }
    let _ = pool_contribution(rest);
    let is_key = serve(rest);
    match VolumeHeader::parse(&plain) {
        Ok(Some(header)) => {
            check_header(&header, container_len);
            serve_header(&plain);
        }
        _ => return is_key,
    }
    true
}

fn check_header(header: &VolumeHeader, container_len: u64) {
    for place in
        [Place::Normal, Place::Hidden, Place::OldHidden, Place::Backup, Place::HiddenBackup, Place::System]
    {
        let Ok(data) = header.data(place, container_len) else { continue };
        assert!(data.len > 0 && data.start >= 512 && data.start + data.len <= container_len, "{data:?}");
        assert!(data.end >= data.start + data.len, "{data:?}");
    }
    let bytes = header.to_bytes().expect("memory");
    let bytes: &[u8; PLAIN_LEN] = bytes.as_slice().try_into().expect("as long as a header");
    let again = VolumeHeader::parse(bytes).expect("no damage").expect("a header");
    assert_eq!(
        (again.version, again.area_start, again.area_len),
        (header.version, header.area_start, header.area_len)
    );
    assert!(again.keys.as_slice() == header.keys.as_slice(), "other keys");
}

/// What a server gets where this header was opened. The times stand for the range that is protected.
fn serve_header(plain: &[u8; PLAIN_LEN]) {
    for (chain, mode) in
        [("aes", Mode::Xts), ("aes-twofish-serpent", Mode::Xts), ("aes", Mode::Lrw), ("serpent", Mode::Cbc)]
    {
        let chain = Chain::from_name(chain).expect("a chain of this name");
        let header = VolumeHeader::parse(plain).expect("as before").expect("as before");
        let protected = Some(header.times[0]..header.times[1]).filter(|range| !range.is_empty());
        let encryption = Encryption { chain, mode };
        let (place, prf) = (Place::Normal, Prf::Sha512);
        let opened =
            Opened { place, offset: 0, encryption, prf, pim: 0, header, protected, original_is_lost: false };
        assert!(serve(opened.to_key().expect("memory").expose()), "no key");
    }
}

/// The input as the key that a server gets; gives whether it is one.
fn serve(blob: &[u8]) -> bool {
    let key = || VolumeKey::copy_of(blob).expect("memory");
    let Ok(opened) = Opened::of_key(&key()) else { return false };
    let again = opened.to_key().expect("memory");
    assert!(Opened::of_key(&again).is_ok());
    let storage = MemoryStorage::new(vec![0; TRUECRYPT_LEN]);
    let header = VERACRYPT.read_header(&storage).expect("room for headers");
    if let Ok(unlocked) = header.unlock_with_key(key()) {
        check_layout(&unlocked, &storage);
        header.check_unlocked(&storage, &unlocked);
        let _ = header.prepare_writing(&storage, &unlocked);
    }
    true
}

/// A header of FreeOTFE: the input as the details block of one after decryption, as the key that a server gets, and as changes
/// to a right one that is then encrypted, with its check where bit 0 of the first byte is set.
///
/// Gives whether a volume opened.
pub(crate) fn freeotfe_header(data: &[u8]) -> bool {
    let [choice, rest @ ..] = data else { return false };
    if let Ok(details) = Details::parse(rest) {
        assert!((512..1 << 63).contains(&details.data_len) && details.volume_iv.as_slice().len() <= 16);
    }
    let storage = MemoryStorage::new(vec![0; FREEOTFE_LEN]);
    let header = FreeOtfe.read_header(&storage).expect("room for a header");
    let is_key = match header.unlock_with_key(VolumeKey::copy_of(rest).expect("memory")) {
        Ok(unlocked) => {
            check_layout(&unlocked, &storage);
            header.check_unlocked(&storage, &unlocked);
            true
        }
        Err(_) => false,
    };
    let mut block = freeotfe_block();
    change(&mut block[FREEOTFE_CHECK_LEN..], rest);
    open(&FreeOtfe, &freeotfe(block, choice & 1 != 0)) || is_key
}

const FREEOTFE_LEN: usize = 512 + 16 * 512;
const FREEOTFE_CHECK_LEN: usize = 64;
const FREEOTFE_BLOCK_LEN: usize = 480;

/// The encrypted block of a header of layout 4 before encryption, for AES-256-XTS, without its check.
fn freeotfe_block() -> [u8; FREEOTFE_BLOCK_LEN] {
    let key: Vec<u8> = (1..=64).collect();
    let fields: [&[u8]; 9] = [
        &[4],
        &0_u32.to_be_bytes(),
        &(16 * 512_u64).to_be_bytes(),
        &512_u32.to_be_bytes(),
        &key,
        b"Q",
        &128_u32.to_be_bytes(),
        &[9; 16],
        &[2],
    ];
    let mut block = [0; FREEOTFE_BLOCK_LEN];
    for (byte, value) in block[FREEOTFE_CHECK_LEN..].iter_mut().zip(fields.concat()) {
        *byte = value;
    }
    block
}

/// A volume of FreeOTFE with this block in its header.
fn freeotfe(mut block: [u8; FREEOTFE_BLOCK_LEN], make_right: bool) -> Vec<u8> {
    let key = pbkdf2(HashKind::Sha512, PASSWORD, &[3; 32], 1, 64).expect("memory");
    if make_right {
        let check = HashKind::Sha512.hmac(key.expose(), &[&block[FREEOTFE_CHECK_LEN..]]);
        block[..FREEOTFE_CHECK_LEN].copy_from_slice(&*check);
    }
    AesXts::aes256(key.expose()).expect("two unlike halves").encrypt_unit(&mut block, 0);
    let mut bytes = vec![0; FREEOTFE_LEN];
    bytes[..32].fill(3);
    bytes[32..512].copy_from_slice(&block);
    bytes
}

/// The file system on a decrypted volume: where its free space begins. Two bytes with the volume's size, in units of 4096
/// bytes, two with the limit; then the volume from its start, zeros behind.
///
/// Gives whether it was found.
pub(crate) fn free_space(data: &[u8]) -> bool {
    let [size_low, size_high, limit_low, limit_high, start @ ..] = data else { return false };
    let units = |low: &u8, high: &u8| u64::from(u16::from_le_bytes([*low, *high])) * 4096;
    let volume = Volume { start, len: units(size_low, size_high) };
    let limit = units(limit_low, limit_high);
    let Ok(tail) = free_tail(&volume, limit) else { return false };
    assert!(tail.start <= limit.min(volume.len), "{tail:?} passes {limit} of {}", volume.len);
    true
}

/// ext2, ext3 or ext4, in pieces. What is in it is looked at, up to a number of files.
///
/// Gives whether anything was read.
pub(crate) fn ext(data: &[u8]) -> bool {
    let Some(volume) = in_pieces(data) else { return false };
    ExtFileSystem::open(&volume, false).is_ok_and(|(files, _)| look_at(&files))
}

/// The same with NTFS.
pub(crate) fn ntfs(data: &[u8]) -> bool {
    let Some(volume) = in_pieces(data) else { return false };
    let Ok(files) = NtfsFileSystem::open(&volume, false) else { return false };
    let _anything = (files.space(), files.is_hibernated());
    look_at(&files)
}

/// The same with ISO 9660.
pub(crate) fn iso(data: &[u8]) -> bool {
    let Some(volume) = in_pieces(data) else { return false };
    let _either = UdfFileSystem::is_there(&volume);
    IsoFileSystem::open(&volume).is_ok_and(|files| look_at(&files))
}

/// The same with UDF.
pub(crate) fn udf(data: &[u8]) -> bool {
    let Some(volume) = in_pieces(data) else { return false };
    UdfFileSystem::open(&volume).is_ok_and(|files| look_at(&files))
}

/// Two bytes with the volume's size in KiB; then pieces of it, each as two bytes with its place in KiB, and a KiB. The rest is zeros.
fn in_pieces(data: &[u8]) -> Option<Arc<ByteDevice>> {
    let (size, pieces) = data.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes(*size)) << 10;
    let mut start = vec![0; len];
    for piece in pieces.chunks(2 + 1024) {
        let Some((place, bytes)) = piece.split_first_chunk() else { break };
        let place = usize::from(u16::from_le_bytes(*place)) << 10;
        for (to, from) in start.get_mut(place..).unwrap_or_default().iter_mut().zip(bytes) {
            *to = *from;
        }
    }
    let len = u64::try_from(len).expect("fits");
    Some(Arc::new(ByteDevice::new(Arc::new(Volume { start, len }))))
}

fn look_at(files: &dyn FileSystem) -> bool {
    let (mut folders, mut has_read) = (vec![NodeId::ROOT], false);
    let mut buffer = vec![0; 1 << 14];
    for _ in 0..200 {
        let Some(node) = folders.pop() else { break };
        for name in files.extended_names(node).unwrap_or_default().split(|byte| *byte == 0) {
            has_read |= files.extended(node, OsStr::from_bytes(name)).is_ok();
        }
        has_read |= files.target(node).is_ok();
        let _anything = (files.seek(node, 0, Seek::Data), files.seek(node, 0, Seek::Hole));
        let size = files.attributes(node).map_or(0, |found| found.size);
        for at in [0, size / 2, size.saturating_sub(5000)] {
            has_read |= files.read(node, at, &mut buffer).is_ok();
        }
        let mut names = Vec::new();
        let _damaged = files.list(node, 0, &mut |entry| {
            names.push(entry.name.to_owned());
            names.len() < 100
        });
        for name in names {
            folders.extend(files.lookup(node, &name).map(|found| found.attributes.node));
        }
    }
    has_read
}

/// Bytes, and zeros behind them, that nobody writes to.
#[derive(Debug)]
struct Volume<B> {
    start: B,
    len: u64,
}

impl<B: AsRef<[u8]> + fmt::Debug + Send + Sync> BlockDevice for Volume<B> {
    fn geometry(&self) -> Geometry {
        Geometry {
            sector_size: SectorSize::B512,
            sectors: self.len / 512,
            read_only: true,
            can_discard: false,
        }
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        let sectors = u64::try_from(buf.len()).expect("fits") / 512;
        let end = self.len / 512;
        if !buf.len().is_multiple_of(512) {
            return Err(BlockError::PartialSector { len: buf.len() });
        }
        if first.0.checked_add(sectors).is_none_or(|last| last > end) {
            return Err(BlockError::OutOfRange { first: first.0, sectors, end });
        }
        buf.fill(0);
        let at = usize::try_from(first.0 * 512).expect("fits");
        for (byte, there) in buf.iter_mut().zip(self.start.as_ref().get(at..).unwrap_or_default()) {
            *byte = *there;
        }
        Ok(())
    }

    fn write(&self, _: &[u8], _: Sector) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn write_zeroes(&self, _: Range<Sector>) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn discard(&self, _: Range<Sector>) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
}
