//! VeraCrypt containers made and changed here: opened by ourselves and by another implementation, and alike from outside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::{
    collections::HashSet,
    io::Cursor,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use strongroom::{
    ErrorKind, Result,
    block::{BlockDevice, BlockError, ByteDevice},
    crypto::{
        rng::{OsRng, Rng},
        secret::{Credentials, KeyfileDigest, Password},
    },
    format::{
        Attempt, Blueprint, Format, Header, Provision, Room, Severity, Unlocked, Wishes,
        veracrypt::{
            Hints, Locking, NewHeaders, Opened, Place, Prf, TRUECRYPT, VERACRYPT, VolumeBlueprint,
            backup_file, pool_contribution, protect, read_backup,
        },
    },
    storage::{MemoryStorage, Storage},
    units::Sector,
    volume::{self, fill_range, prepare_growth, prepare_storage},
};
use veracrypt::VeraVolume;

const LEN: u64 = 1 << 20;
const HEADERS: u64 = 131_072;
/// Long enough for any PIM.
const PASSWORD: &str = "a password of more than twenty bytes";
const HIDDEN: &str = "another password of more than twenty";
const PIM: u32 = 1;

fn secret(password: &str) -> Credentials {
    Credentials::Password { password: Password::copy_of(password.as_bytes()).unwrap(), keyfiles: Vec::new() }
}

fn wishes(cipher: &str, prf: Prf) -> Wishes<'_> {
    Wishes { cipher: Some(cipher), prf: Some(prf), pim: PIM, ..Wishes::default() }
}

fn unseen(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn write(
    storage: &dyn Storage,
    blueprint: &dyn Blueprint,
    credentials: &Credentials,
    rng: &dyn Rng,
) -> Result<()> {
    blueprint.make_header(credentials, None, rng)?.write(storage)
}

fn made_with(cipher: &str, prf: Prf, rng: &dyn Rng) -> MemoryStorage {
    made_as(&VERACRYPT, &wishes(cipher, prf), rng)
}

fn made_as(format: &dyn Format, wishes: &Wishes<'_>, rng: &dyn Rng) -> MemoryStorage {
    let storage = MemoryStorage::default();
    let blueprint = format.plan(Room::Container(LEN), wishes, rng).unwrap();
    prepare_storage(&storage, &blueprint.extent(), Provision::Thick, rng, &mut unseen).unwrap();
    write(&storage, &*blueprint, &secret(PASSWORD), rng).unwrap();
    storage
}

fn made() -> MemoryStorage {
    made_with("aes", Prf::Sha512, &OsRng)
}

fn open(storage: &dyn Storage, password: &Credentials, hints: Hints) -> Result<(Box<dyn Header>, Unlocked)> {
    let header = VERACRYPT.read_header(storage)?;
    let unlocked = header.unlock(password, &Attempt { hints, ..Attempt::default() })?;
    Ok((header, unlocked))
}

fn hints(hidden: bool, backup_header: bool) -> Hints {
    Hints { prf: Some(Prf::Sha512), pim: PIM, hidden, backup_header, system: false }
}

fn opened(storage: &dyn Storage, password: &str, hidden: bool, backup: bool) -> Result<Opened> {
    let (_, unlocked) = open(storage, &secret(password), hints(hidden, backup))?;
    Opened::of_key(&unlocked.volume_key)
}

fn bytes_of(storage: &Arc<MemoryStorage>, unlocked: &Unlocked) -> ByteDevice {
    ByteDevice::new(volume::device(Arc::clone(storage) as Arc<dyn Storage>, unlocked.layout.clone()))
}

/// A hidden volume of this size in a container whose outer volume uses its first 64 KiB.
fn hide(storage: &MemoryStorage, size: Option<u64>, rng: &dyn Rng) -> Result<()> {
    let outer = opened(storage, PASSWORD, false, false)?;
    let len = storage.size()?;
    let blueprint =
        VolumeBlueprint::hidden(&outer, len, HEADERS + 65_536, size, &wishes("aes", Prf::Sha512))?;
    fill_range(storage, blueprint.extent().data, rng, &mut unseen)?;
    write(storage, &blueprint, &secret(HIDDEN), rng)
}

const CHAINS: [&str; 15] = [
    "aes",
    "serpent",
    "twofish",
    "camellia",
    "kuznyechik",
    "twofish-aes",
    "serpent-twofish-aes",
    "aes-serpent",
    "aes-twofish-serpent",
    "serpent-twofish",
    "kuznyechik-camellia",
    "serpent-camellia",
    "aes-kuznyechik",
    "camellia-serpent-kuznyechik",
    "twofish-kuznyechik",
];

// proves: VC-WRITE-01
// proves: VC-WRITE-02
#[test]
fn each_chain_makes_a_volume_that_opens_by_header_and_by_backup_header() {
    for cipher in CHAINS {
        let storage = Arc::new(made_with(cipher, Prf::Sha512, &OsRng));
        let (_, unlocked) = open(&*storage, &secret(PASSWORD), hints(false, false)).unwrap();
        let text = vec![0x5a; 3000];
        bytes_of(&storage, &unlocked).write_at(&text, 12_345).unwrap();
        let (_, unlocked) = open(&*storage, &secret(PASSWORD), hints(false, true)).unwrap();
        let found = Opened::of_key(&unlocked.volume_key).unwrap();
        assert_eq!((found.encryption.chain.name, found.place), (cipher, Place::Backup));
        assert_eq!((found.header.version, found.header.area_start), (5, HEADERS));
        assert_eq!((found.header.area_len, found.header.volume_size), (LEN - 2 * HEADERS, LEN - 2 * HEADERS));
        let mut read = vec![0; text.len()];
        bytes_of(&storage, &unlocked).read_at(&mut read, 12_345).unwrap();
        assert!(read == text, "{cipher}");
        let bytes = storage.to_vec();
        let backup = usize::try_from(LEN - HEADERS).unwrap();
        assert_ne!(bytes[..64], bytes[backup..backup + 64], "header and backup header share their salt");
    }
}

// proves: VC-WRITE-01
// proves: VC-WRITE-06
#[test]
fn truecrypt_volumes_are_made_with_its_chains_and_functions_and_no_others() {
    let truecrypts = CHAINS.iter().filter(|name| !name.contains("camellia") && !name.contains("kuznyechik"));
    let functions = [Prf::Sha512, Prf::Whirlpool, Prf::Ripemd160];
    let cases = truecrypts.map(|name| (*name, Prf::Sha512)).chain(functions.map(|prf| ("aes", prf)));
    let wish = |cipher, prf| Wishes { cipher: Some(cipher), prf: Some(prf), ..Wishes::default() };
    for (cipher, prf) in cases {
        let storage = made_as(&TRUECRYPT, &wish(cipher, prf), &OsRng);
        let header = TRUECRYPT.read_header(&storage).unwrap();
        for backup_header in [false, true] {
            let hints = Hints { prf: Some(prf), backup_header, ..Hints::NONE };
            let attempt = Attempt { hints, ..Attempt::default() };
            let unlocked = header.unlock(&secret(PASSWORD), &attempt).unwrap();
            let found = Opened::of_key(&unlocked.volume_key).unwrap();
            assert_eq!(found.encryption.chain.name, cipher);
            assert_eq!((found.header.version, found.header.minimum), (5, 0x0700));
        }
        assert_eq!(
            open(&storage, &secret(PASSWORD), Hints { prf: Some(prf), pim: PIM, ..Hints::NONE })
                .unwrap_err()
                .kind(),
            ErrorKind::Credentials,
            "{cipher}: VeraCrypt's header"
        );
    }
    for refused in [
        wish("camellia", Prf::Sha512),
        wish("aes", Prf::Sha256),
        wish("aes", Prf::Sha1),
        wish("aes", Prf::Argon2id),
        Wishes { pim: 1, ..wish("aes", Prf::Sha512) },
    ] {
        let error = TRUECRYPT.plan(Room::Container(LEN), &refused, &OsRng).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{refused:?}");
    }
}

#[test]
fn a_truecrypt_volume_takes_a_hidden_one_of_its_own_kind() {
    let storage = made_as(&TRUECRYPT, &Wishes::default(), &OsRng);
    let open = |password, hidden| {
        let header = TRUECRYPT.read_header(&storage).unwrap();
        let attempt = Attempt { hints: Hints { hidden, ..Hints::NONE }, ..Attempt::default() };
        let unlocked = header.unlock(&secret(password), &attempt).unwrap();
        Opened::of_key(&unlocked.volume_key).unwrap()
    };
    let outer = open(PASSWORD, false);
    let blueprint = VolumeBlueprint::hidden(&outer, LEN, HEADERS + 65_536, None, &Wishes::default()).unwrap();
    fill_range(&storage, blueprint.extent().data, &OsRng, &mut unseen).unwrap();
    write(&storage, &blueprint, &secret(HIDDEN), &OsRng).unwrap();
    let hidden = open(HIDDEN, true);
    assert_eq!((hidden.header.family, hidden.place), (outer.header.family, Place::Hidden));
    assert_eq!(hidden.header.area_start, blueprint.extent().data.start);
}

#[test]
fn another_implementation_opens_each_chain_and_function_that_it_knows_and_reads_the_data() {
    let chains = CHAINS.iter().filter(|name| !name.contains("camellia") && !name.contains("kuznyechik"));
    let functions = [Prf::Sha512, Prf::Sha256, Prf::Whirlpool, Prf::Streebog];
    let cases = chains.map(|name| (*name, Prf::Sha512)).chain(functions.map(|prf| ("aes", prf)));
    for (cipher, prf) in cases {
        let storage = Arc::new(made_with(cipher, prf, &OsRng));
        let text: Vec<u8> = (0..5000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let hint = Hints { prf: Some(prf), ..hints(false, false) };
        let (_, unlocked) = open(&*storage, &secret(PASSWORD), hint).unwrap();
        bytes_of(&storage, &unlocked).write_at(&text, 40_000).unwrap();
        let bytes = Cursor::new(storage.to_vec());
        let mut theirs = VeraVolume::unlock_with_pim(bytes, PASSWORD.as_bytes(), PIM).unwrap();
        assert_eq!(theirs.info().prf.name(), prf.name());
        assert_eq!(theirs.data_size(), LEN - 2 * HEADERS);
        let mut found = vec![0; text.len()];
        theirs.read_at(40_000, &mut found).unwrap();
        assert!(found == text, "{cipher}, {}", prf.name());
    }
}

#[test]
fn another_implementation_opens_a_hidden_volume_and_the_outer_one_around_it() {
    let storage = Arc::new(made());
    hide(&storage, Some(256 << 10), &OsRng).unwrap();
    let (_, unlocked) = open(&*storage, &secret(HIDDEN), hints(true, false)).unwrap();
    bytes_of(&storage, &unlocked).write_at(&[7; 2000], 100_000).unwrap();
    let bytes = storage.to_vec();
    let mut theirs =
        VeraVolume::unlock_hidden_with_pim(Cursor::new(bytes.clone()), HIDDEN.as_bytes(), PIM).unwrap();
    assert_eq!(theirs.data_size(), 256 << 10);
    // Smaller than 2 MiB: VC-HID-01.
    assert_eq!(theirs.info().encrypted_area_start, LEN - HEADERS - 4096 - (256 << 10));
    let mut found = [0; 2000];
    theirs.read_at(100_000, &mut found).unwrap();
    assert_eq!(found, [7; 2000]);
    VeraVolume::unlock_with_pim(Cursor::new(bytes), PASSWORD.as_bytes(), PIM).unwrap();
}

// proves: VC-HID-01
// proves: VC-HID-03
#[test]
fn a_hidden_volume_lies_where_veracrypt_puts_it_and_never_where_the_outer_one_has_data() {
    let storage = made();
    let outer = opened(&storage, PASSWORD, false, false).unwrap();
    let large = 16 << 20;
    let plan = |len: u64, free_from: u64, size: Option<u64>| {
        let mut outer = opened(&storage, PASSWORD, false, false).unwrap();
        outer.header.area_len = len - 2 * HEADERS;
        outer.header.volume_size = outer.header.area_len;
        VolumeBlueprint::hidden(&outer, len, free_from, size, &wishes("aes", Prf::Sha512))
            .map(|blueprint| blueprint.extent().data)
    };
    assert_eq!(
        plan(large, HEADERS, Some(4 << 20)).unwrap(),
        large - (4 << 20) - 2 * HEADERS..large - 2 * HEADERS
    );
    assert_eq!(
        plan(LEN, HEADERS, Some(40_960)).unwrap(),
        LEN - HEADERS - 4096 - 40_960..LEN - HEADERS - 4096
    );
    // As large as it can be, it begins where the free space does.
    let found = plan(large, HEADERS + 1_000_001, None).unwrap();
    assert!(found.start >= HEADERS + 1_000_001 && found.start < HEADERS + 1_000_001 + 8192, "{found:?}");
    for (len, free_from, size) in [
        (LEN, LEN - HEADERS - 50_000, Some(65_536)),
        (LEN, LEN - HEADERS - 10_000, None),
        (LEN, LEN, None),
        (LEN, HEADERS, Some(512)),
        (LEN, HEADERS, Some(u64::MAX)),
    ] {
        assert_eq!(plan(len, free_from, size).unwrap_err().kind(), ErrorKind::NoSpace);
    }
    let hidden =
        VolumeBlueprint::hidden(&outer, LEN, HEADERS, Some(65_536), &wishes("aes", Prf::Sha512)).unwrap();
    write(&storage, &hidden, &secret(HIDDEN), &OsRng).unwrap();
    let hidden = opened(&storage, HIDDEN, true, false).unwrap();
    let error =
        VolumeBlueprint::hidden(&hidden, LEN, HEADERS, None, &wishes("aes", Prf::Sha512)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn making_a_hidden_volume_changes_its_data_and_two_headers_and_nothing_else() {
    let storage = made();
    let before = storage.to_vec();
    hide(&storage, Some(65_536), &OsRng).unwrap();
    let after = storage.to_vec();
    let end = LEN - HEADERS - 4096;
    let may_change = [65_536..65_536 + 512, LEN - 65_536..LEN - 65_536 + 512, end - 65_536..end];
    for (at, (old, new)) in (0_u64..).zip(before.iter().zip(&after)) {
        assert!(old == new || may_change.iter().any(|range| range.contains(&at)), "byte {at} changed");
    }
}

/// The share of each byte value in some bytes, as chi square with 255 degrees of freedom.
fn chi_square<'a>(bytes: impl Iterator<Item = &'a u8>) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.for_each(|&byte| counts[usize::from(byte)] += 1);
    let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
    counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
}

fn slots(bytes: &[u8]) -> [&[u8]; 4] {
    let end = bytes.len();
    [&bytes[..65_536], &bytes[65_536..131_072], &bytes[end - 131_072..end - 65_536], &bytes[end - 65_536..]]
}

/// Sixteen containers with a hidden volume and sixteen without. Each header, and each whole slot, is random by its bytes in
/// both; no two are alike anywhere; and the files are of one size. 330 is passed once in a thousand times, 400 never.
// proves: VC-WRITE-08
#[test]
fn nothing_in_the_slots_tells_whether_there_is_a_hidden_volume() {
    let mut sums = [[0.0; 4]; 2];
    let mut seen = HashSet::new();
    let mut headers: [[Vec<u8>; 4]; 2] = Default::default();
    for round in 0..32 {
        let storage = made();
        let is_hidden = round % 2;
        if is_hidden == 1 {
            hide(&storage, Some(65_536), &OsRng).unwrap();
        }
        let bytes = storage.to_vec();
        assert_eq!(bytes.len(), usize::try_from(LEN).unwrap());
        for (index, slot) in slots(&bytes).into_iter().enumerate() {
            let chi = chi_square(slot.iter());
            assert!(chi < 400.0, "slot {index} has {chi}");
            sums[is_hidden][index] += chi / 16.0;
            headers[is_hidden][index].extend(&slot[..512]);
        }
        for block in bytes.chunks(512).map(<[u8]>::to_vec) {
            assert!(seen.insert(block), "two sectors are alike");
        }
    }
    for index in 0..4 {
        let means = [sums[0][index], sums[1][index]];
        // 255, plus or minus 22.6 / 4 by chance: five deviations.
        assert!(means.iter().all(|mean| (mean - 255.0).abs() < 30.0), "slot {index}: {means:?}");
        for headers in &headers {
            let chi = chi_square(headers[index].iter());
            assert!(chi < 400.0, "the headers in slot {index} have {chi}");
        }
    }
}

/// GHSA-jjcr-75w7-58jp: no sector is left that anybody can tell from ciphertext.
// proves: VC-WRITE-10
#[test]
fn no_sector_of_a_new_container_has_little_entropy() {
    let storage = Arc::new(made());
    hide(&storage, None, &OsRng).unwrap();
    let (_, unlocked) = open(&*storage, &secret(HIDDEN), hints(true, false)).unwrap();
    bytes_of(&storage, &unlocked).zero_range(0..65_536).unwrap();
    for (sector, bytes) in storage.to_vec().chunks(512).enumerate() {
        let kinds = bytes.iter().collect::<HashSet<_>>().len();
        // 512 random bytes have 221 values, give or take 8.
        assert!(kinds > 170, "sector {sector} has {kinds} values");
    }
}

#[test]
fn what_veracrypt_does_not_have_is_refused() {
    let usual = wishes("aes", Prf::Sha512);
    for (what, wishes) in [
        ("cipher", Wishes { cipher: Some("rot13"), ..usual.clone() }),
        ("label", Wishes { label: Some("name"), ..usual.clone() }),
        ("thin", Wishes { provision: Provision::Thin, ..usual.clone() }),
        ("detached", Wishes { is_detached: true, ..usual.clone() }),
        ("ripemd160", Wishes { prf: Some(Prf::Ripemd160), ..usual.clone() }),
        ("key size", Wishes { key_bits: Some(512), ..usual.clone() }),
        ("pim", Wishes { pim: u32::MAX, ..usual.clone() }),
    ] {
        let error = VERACRYPT.plan(Room::Container(LEN), &wishes, &OsRng).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{what}");
    }
    let too_small = VERACRYPT.plan(Room::Container(299_007), &usual, &OsRng).unwrap_err();
    assert_eq!(too_small.kind(), ErrorKind::Usage);
    let extent = VERACRYPT.plan(Room::Data(1_000_000), &usual, &OsRng).unwrap().extent();
    assert_eq!(extent.data_len(), 1_000_448);
}

// proves: VC-WRITE-05
// proves: VC-WRITE-06
#[test]
fn a_low_pim_needs_a_long_password_and_no_password_needs_a_keyfile() {
    let storage = made();
    let opened = opened(&storage, PASSWORD, false, false).unwrap();
    let refusal = |password: &str, prf, pim| {
        let credentials = secret(password);
        let locking = Locking { credentials: &credentials, prf, pim };
        let old = (&secret(PASSWORD), &Attempt::default());
        NewHeaders::new(&opened, &storage, &locking, old, &OsRng).unwrap_err().kind()
    };
    assert_eq!(refusal("short", Prf::Sha512, 484), ErrorKind::Usage);
    assert_eq!(refusal("short", Prf::Argon2id, 11), ErrorKind::Usage);
    assert_eq!(refusal("", Prf::Sha512, 0), ErrorKind::Usage);
    assert_eq!(refusal(PASSWORD, Prf::Ripemd160, 1), ErrorKind::Usage);
    assert_eq!(refusal(PASSWORD, Prf::Sha1, 0), ErrorKind::Usage);
}

/// Every byte the same.
struct Constant;

impl Rng for Constant {
    fn fill(&self, buf: &mut [u8]) -> std::io::Result<()> {
        buf.fill(7);
        Ok(())
    }
}

// proves: VC-WRITE-04
#[test]
fn equal_halves_of_the_keys_make_no_volume() {
    let blueprint = VERACRYPT.plan(Room::Container(LEN), &wishes("aes", Prf::Sha512), &Constant).unwrap();
    let error = blueprint.make_header(&secret(PASSWORD), None, &Constant).unwrap_err();
    assert!(error.reason().contains("equal"), "{error}");
}

fn change(
    storage: &MemoryStorage,
    old: &str,
    new: &Credentials,
    hidden: bool,
    prf: Prf,
    pim: u32,
) -> Result<()> {
    let opened = opened(storage, old, hidden, false)?;
    let locking = Locking { credentials: new, prf, pim };
    let old = secret(old);
    NewHeaders::new(&opened, storage, &locking, (&old, &Attempt::default()), &OsRng)?.write(storage)
}

// proves: VC-WRITE-09
#[test]
fn password_function_pim_and_keyfiles_can_be_changed_and_the_data_stay() {
    let storage = Arc::new(made());
    hide(&storage, Some(65_536), &OsRng).unwrap();
    let (_, unlocked) = open(&*storage, &secret(PASSWORD), hints(false, false)).unwrap();
    bytes_of(&storage, &unlocked).write_at(b"data", 1000).unwrap();
    let before = storage.to_vec();

    let keyfile = || -> KeyfileDigest { pool_contribution(&b"a keyfile"[..]).unwrap() };
    let new = |password: &str| Credentials::Password {
        password: Password::copy_of(password.as_bytes()).unwrap(),
        keyfiles: vec![keyfile()],
    };
    change(&storage, PASSWORD, &new("quite another password, long"), false, Prf::Sha256, 2).unwrap();
    for backup_header in [false, true] {
        let hint = Hints { prf: Some(Prf::Sha256), pim: 2, backup_header, ..Hints::NONE };
        let (_, unlocked) = open(&*storage, &new("quite another password, long"), hint).unwrap();
        let mut found = [0; 4];
        bytes_of(&storage, &unlocked).read_at(&mut found, 1000).unwrap();
        assert_eq!(&found, b"data");
        let old = open(&*storage, &secret(PASSWORD), hints(false, backup_header)).unwrap_err();
        assert_eq!(old.kind(), ErrorKind::Credentials);
    }
    // The hidden volume's headers are not touched by that, nor the other way round.
    let after = storage.to_vec();
    assert!(before[65_536..after.len() - 131_072] == after[65_536..after.len() - 131_072]);
    assert!(before[after.len() - 65_536..] == after[after.len() - 65_536..]);
    change(&storage, HIDDEN, &secret("the hidden one's new password"), true, Prf::Sha512, PIM).unwrap();
    for backup in [false, true] {
        opened(&*storage, "the hidden one's new password", true, backup).unwrap();
        assert_eq!(opened(&*storage, HIDDEN, true, backup).unwrap_err().kind(), ErrorKind::Credentials);
    }
    assert!(storage.to_vec()[..65_536] == after[..65_536]);
}

#[test]
fn a_header_that_was_changed_meanwhile_is_not_overwritten() {
    let storage = made();
    let opened = opened(&storage, PASSWORD, false, false).unwrap();
    let credentials = secret(HIDDEN);
    let locking = Locking { credentials: &credentials, prf: Prf::Sha512, pim: PIM };
    let old = (&secret(PASSWORD), &Attempt::default());
    let headers = NewHeaders::new(&opened, &storage, &locking, old, &OsRng).unwrap();
    change(&storage, PASSWORD, &secret("somebody was quicker than we were"), false, Prf::Sha512, PIM)
        .unwrap();
    let before = storage.to_vec();
    assert_eq!(headers.write(&storage).unwrap_err().kind(), ErrorKind::Busy);
    assert!(storage.to_vec() == before);
}

#[test]
fn a_damaged_header_is_put_back_from_its_copy() {
    let storage = made();
    storage.write_all_at(&[0x55; 512], 0).unwrap();
    assert_eq!(opened(&storage, PASSWORD, false, false).unwrap().place, Place::Backup);
    let found = opened(&storage, PASSWORD, false, true).unwrap();
    let credentials = secret(PASSWORD);
    let locking = Locking { credentials: &credentials, prf: found.prf, pim: found.pim };
    let old = (&credentials, &Attempt::default());
    NewHeaders::new(&found, &storage, &locking, old, &OsRng).unwrap().write(&storage).unwrap();
    assert_eq!(opened(&storage, PASSWORD, false, false).unwrap().place, Place::Normal);
    opened(&storage, PASSWORD, false, true).unwrap();
}

// proves: VC-PLACE-04
#[test]
fn what_only_a_copy_opens_whose_container_begins_elsewhere_is_not_written() {
    let storage = made();
    hide(&storage, Some(65_536), &OsRng).unwrap();
    let moved = MemoryStorage::new([vec![0x55; 12_288], storage.to_vec()].concat());
    let there = Some("--offset 12288 opens it there");
    let error = open(&moved, &secret(PASSWORD), hints(false, true)).unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::NotAContainer, there));

    let (header, unlocked) = open(&moved, &secret(HIDDEN), hints(true, true)).unwrap();
    assert!(header.warnings(&unlocked).iter().any(|warning| warning.contains("may begin elsewhere")));
    let error = header.prepare_writing(&moved, &unlocked).unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::NotAContainer, there));
    let found = Opened::of_key(&unlocked.volume_key).unwrap();
    let credentials = secret(HIDDEN);
    let locking = Locking { credentials: &credentials, prf: found.prf, pim: found.pim };
    let old = (&credentials, &Attempt::default());
    let error = NewHeaders::new(&found, &moved, &locking, old, &OsRng).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAContainer);

    // In its own container it is written, though its header is lost.
    storage.write_all_at(&[0x55; 512], 65_536).unwrap();
    let (header, unlocked) = open(&storage, &secret(HIDDEN), hints(true, true)).unwrap();
    assert!(header.warnings(&unlocked).is_empty());
    header.prepare_writing(&storage, &unlocked).unwrap();
}

// proves: VC-BACKUP-01
// proves: VC-BACKUP-02
#[test]
fn a_backup_file_restores_either_header_and_shows_neither() {
    let storage = made();
    hide(&storage, Some(65_536), &OsRng).unwrap();
    for (password, hidden) in [(PASSWORD, false), (HIDDEN, true)] {
        let found = opened(&storage, password, hidden, false).unwrap();
        let credentials = secret(password);
        let locking = Locking { credentials: &credentials, prf: found.prf, pim: found.pim };
        let file = MemoryStorage::new(backup_file(&found, &locking, &OsRng).unwrap());
        let bytes = file.to_vec();
        assert_eq!(bytes.len(), 131_072);
        assert!(chi_square(bytes.iter()) < 400.0);
        let at = if hidden { 65_536 } else { 0 };
        assert_ne!(bytes[at..at + 64], storage.to_vec()[at..at + 64], "the salt is the container's");

        let harmed = MemoryStorage::new(storage.to_vec());
        for offset in [0, 65_536, LEN - 131_072, LEN - 65_536] {
            harmed.write_all_at(&[0; 512], offset).unwrap();
        }
        let header = read_backup(&file, LEN).unwrap();
        let wrong = header.unlock(&secret("not the password at all, is it"), &attempt(hidden)).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Credentials);
        let unlocked = header.unlock(&credentials, &attempt(hidden)).unwrap();
        let from_file = Opened::of_key(&unlocked.volume_key).unwrap();
        NewHeaders::from_backup(&from_file, (&harmed, false), &locking, &OsRng)
            .unwrap()
            .write(&harmed)
            .unwrap();
        for backup in [false, true] {
            let restored = opened(&harmed, password, hidden, backup).unwrap();
            assert!(restored.header.keys.as_slice() == found.header.keys.as_slice());
        }
        let cut = MemoryStorage::new(harmed.to_vec()[..700_000].to_vec());
        let error = NewHeaders::from_backup(&from_file, (&cut, false), &locking, &OsRng).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
    }
    let error = read_backup(&MemoryStorage::new(vec![0; 131_071]), LEN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAContainer);
}

fn attempt(hidden: bool) -> Attempt<'static> {
    Attempt { hints: hints(hidden, false), ..Attempt::default() }
}

// proves: VC-PROT-04
#[test]
fn protection_covers_the_hidden_volume_and_not_what_the_outer_file_system_may_keep_behind_it() {
    let storage = Arc::new(made());
    hide(&storage, Some(65_536), &OsRng).unwrap();
    let (_, outer) = open(&*storage, &secret(PASSWORD), hints(false, false)).unwrap();
    let (header, hidden) = open(&*storage, &secret(HIDDEN), hints(true, false)).unwrap();
    let protected = protect(&outer, &hidden, LEN).unwrap();
    // It goes to the server as a key.
    let key = strongroom::crypto::secret::VolumeKey::copy_of(protected.volume_key.expose()).unwrap();
    let served = header.unlock_with_key(key).unwrap();
    let end = LEN - HEADERS - 4096;
    let expected = Sector((end - 65_536 - HEADERS) / 512)..Sector((end - HEADERS) / 512);
    assert_eq!(served.layout.current().protected(), Some(&expected));
    for (outer, hidden) in [(&outer, &outer), (&hidden, &hidden), (&hidden, &outer)] {
        assert_eq!(protect(outer, hidden, LEN).unwrap_err().kind(), ErrorKind::Usage);
    }
    let device = volume::device(Arc::clone(&storage) as Arc<dyn Storage>, served.layout.clone());
    let guarded = strongroom::block::ProtectedDevice::new(device, expected.clone());
    let last = Sector(guarded.geometry().sectors - 1);
    guarded.write(&[1; 512], last).unwrap();
    guarded.write(&[1; 512], Sector(expected.start.0 - 1)).unwrap();
    assert!(matches!(guarded.write(&[1; 512], expected.start), Err(BlockError::Protected)));
}

fn grow(storage: &MemoryStorage, new_len: u64) -> Result<()> {
    let (header, unlocked) = open(storage, &secret(PASSWORD), hints(false, false))?;
    let growth = header.growth(&unlocked, &secret(PASSWORD), new_len, &OsRng)?;
    prepare_growth(storage, &*growth, &OsRng, &mut unseen)?;
    growth.commit(storage)
}

// proves: VC-GROW-02
// proves: VC-GROW-03
#[test]
fn a_container_grows_and_keeps_its_data_and_the_hidden_volume_that_nobody_named() {
    let storage = Arc::new(made());
    hide(&storage, Some(65_536), &OsRng).unwrap();
    let write = |password, hidden, text: &[u8]| {
        let (_, unlocked) = open(&*storage, &secret(password), hints(hidden, false)).unwrap();
        bytes_of(&storage, &unlocked).write_at(text, 1000).unwrap();
    };
    write(PASSWORD, false, b"outer");
    write(HIDDEN, true, b"inner");
    let old_salt = storage.to_vec()[..64].to_vec();
    let new_len = LEN + 300_032;
    grow(&storage, new_len).unwrap();
    assert_eq!(storage.size().unwrap(), new_len);
    for (password, hidden, text) in [(PASSWORD, false, b"outer"), (HIDDEN, true, b"inner")] {
        for backup in [false, true] {
            let (_, unlocked) = open(&*storage, &secret(password), hints(hidden, backup)).unwrap();
            let device = bytes_of(&storage, &unlocked);
            let mut found = [0; 5];
            device.read_at(&mut found, 1000).unwrap();
            assert_eq!(&found, text);
            assert_eq!(device.size(), if hidden { 65_536 } else { new_len - 2 * HEADERS });
        }
    }
    let bytes = storage.to_vec();
    assert_ne!(bytes[..64], old_salt[..]);
    // Nothing is left of the old copies, and nothing is empty.
    let old = usize::try_from(LEN - HEADERS).unwrap();
    let at_old_end = MemoryStorage::new(bytes[old..old + 131_072].to_vec());
    let found =
        read_backup(&at_old_end, LEN).unwrap().unlock(&secret(PASSWORD), &attempt(false)).unwrap_err();
    assert_eq!(found.kind(), ErrorKind::Credentials);
    assert!(bytes.chunks_exact(512).all(|sector| sector.iter().collect::<HashSet<_>>().len() > 170));
    let mut theirs = VeraVolume::unlock_with_pim(Cursor::new(bytes), PASSWORD.as_bytes(), PIM).unwrap();
    assert_eq!(theirs.data_size(), new_len - 2 * HEADERS);
    let mut found = [0; 5];
    theirs.read_at(1000, &mut found).unwrap();
    assert_eq!(&found, b"outer");
}

// proves: VC-GROW-01
#[test]
fn a_container_only_grows_and_by_no_less_than_its_headers() {
    let storage = made();
    for new_len in [0, LEN - 4096, LEN, LEN + 4096, LEN + HEADERS - 512, LEN + (1 << 20) + 1] {
        assert_eq!(grow(&storage, new_len).unwrap_err().kind(), ErrorKind::Usage, "{new_len}");
    }
    grow(&storage, LEN + HEADERS).unwrap();
}

/// What `check` finds wrong with an unlocked container.
fn complaints(storage: &MemoryStorage) -> Vec<(Severity, String)> {
    let (header, unlocked) = open(storage, &secret(PASSWORD), hints(false, false)).unwrap();
    let findings = header.check_unlocked(storage, &unlocked).into_iter();
    let bad =
        findings.filter(|finding| finding.severity > Severity::Info && finding.object != "key derivation");
    bad.map(|finding| (finding.severity, format!("{}: {}", finding.object, finding.message))).collect()
}

// proves: VC-GROW-04
#[test]
fn what_follows_a_container_is_told_before_it_grows_over_that_and_what_a_growth_left_is_not() {
    let growth = |storage: &MemoryStorage, new_len| {
        let (header, unlocked) = open(storage, &secret(PASSWORD), hints(false, false)).unwrap();
        header.growth(&unlocked, &secret(PASSWORD), new_len, &OsRng).unwrap()
    };
    let (new_len, larger) = (LEN + (1 << 20), LEN + (2 << 20));
    let with = |behind: Vec<u8>| MemoryStorage::new([made().to_vec(), behind].concat());
    for (behind, expected) in [
        (vec![0; 1 << 20], None),
        (vec![0x55; 1 << 20], Some(LEN..new_len)),
        (made().to_vec(), Some(LEN..2 * LEN)),
    ] {
        let storage = with(behind);
        assert_eq!(growth(&storage, new_len).overwrites(&storage).unwrap(), expected);
    }
    // Begun, and broken off in the middle.
    let storage = with(Vec::new());
    let begun = growth(&storage, new_len);
    let mut progress = |_, _| ControlFlow::Break(());
    assert_eq!(
        prepare_growth(&storage, &*begun, &OsRng, &mut progress).unwrap_err().kind(),
        ErrorKind::Interrupted
    );
    let told = &complaints(&storage)[0].1;
    assert!(told.contains("a resize was broken off, and the same command"), "{told}");
    for len in [new_len, larger] {
        assert_eq!(growth(&storage, len).overwrites(&storage).unwrap(), None, "{len}");
    }
    // What was appended since is not its own.
    storage.set_size(larger).unwrap();
    storage.write_all_at(b"text", larger - 5000).unwrap();
    assert!(growth(&storage, larger).overwrites(&storage).unwrap().is_some());
    // The same of what was there before the growth was agreed to.
    let storage = with(vec![0x55; 1 << 20]);
    growth(&storage, new_len).mark(&storage).unwrap();
    assert_eq!(growth(&storage, new_len).overwrites(&storage).unwrap(), None);
}

// proves: VC-DATA-08
#[test]
fn a_growth_that_was_broken_off_is_told_and_the_same_command_ends_it() {
    let storage = Arc::new(made());
    assert_eq!(complaints(&storage), []);
    let (_, unlocked) = open(&*storage, &secret(PASSWORD), hints(false, false)).unwrap();
    bytes_of(&storage, &unlocked).write_at(b"data", 1000).unwrap();

    let new_len = LEN + (1 << 20);
    let (header, unlocked) = open(&*storage, &secret(PASSWORD), hints(false, false)).unwrap();
    let growth = header.growth(&unlocked, &secret(PASSWORD), new_len, &OsRng).unwrap();
    prepare_growth(&*storage, &*growth, &OsRng, &mut unseen).unwrap();
    assert_eq!(growth.overwrites(&*storage).unwrap(), None);
    let [(Severity::Warning, told)] = &complaints(&storage)[..] else { panic!("nothing is told") };
    let expected = format!(
        "backup headers: the container is 1048576 bytes longer than its volume: a resize was broken off, and the same command (to {new_len} bytes) finishes it"
    );
    assert!(told.starts_with(&expected), "{told}");

    grow(&storage, new_len).unwrap();
    assert_eq!(complaints(&storage), []);
    for backup in [false, true] {
        let (_, unlocked) = open(&*storage, &secret(PASSWORD), hints(false, backup)).unwrap();
        let mut found = [0; 4];
        bytes_of(&storage, &unlocked).read_at(&mut found, 1000).unwrap();
        assert_eq!(&found, b"data");
    }
}

// proves: VC-DATA-08
// proves: VC-WRITE-11
#[test]
fn where_the_backup_headers_are_cut_off_that_is_told_and_no_header_is_written_into_the_data() {
    let mut bytes = made().to_vec();
    bytes.truncate(bytes.len() - 65_536);
    let cut = MemoryStorage::new(bytes.clone());
    let [(Severity::Error, told)] = &complaints(&cut)[..] else { panic!("nothing is told") };
    assert!(told.starts_with("backup headers: the container ends 65536 bytes before they do"), "{told}");
    let error = change(&cut, PASSWORD, &secret(HIDDEN), false, Prf::Sha512, PIM).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let opened = opened(&cut, PASSWORD, false, false).unwrap();
    let credentials = secret(PASSWORD);
    let locking = Locking { credentials: &credentials, prf: Prf::Sha512, pim: PIM };
    let error = NewHeaders::from_backup(&opened, (&cut, false), &locking, &OsRng).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(cut.to_vec() == bytes);
}

const NEW: &str = "a new password, longer than twenty";

/// Changes what opens a volume, and says which copies went besides.
fn changed(storage: &MemoryStorage, old: &str, hidden: bool) -> Result<Vec<u64>> {
    let found = opened(storage, old, hidden, false)?;
    let new = secret(NEW);
    let locking = Locking { credentials: &new, prf: found.prf, pim: found.pim };
    let headers = NewHeaders::new(&found, storage, &locking, (&secret(old), &Attempt::default()), &OsRng)?;
    headers.write(storage)?;
    Ok(headers.left_behind().collect())
}

// proves: VC-PLACE-06
#[test]
fn what_follows_a_container_stays_whole_and_its_copy_is_changed_where_it_ends() {
    let original = made();
    hide(&original, Some(65_536), &OsRng).unwrap();
    let original = original.to_vec();
    for (hidden, behind) in
        [(false, vec![0x55; 300_000]), (true, vec![0x55; 600_000]), (false, made().to_vec())]
    {
        let storage = MemoryStorage::new([original.clone(), behind.clone()].concat());
        let old = if hidden { HIDDEN } else { PASSWORD };
        assert!(changed(&storage, old, hidden).unwrap().is_empty());
        let after = storage.to_vec();
        assert!(after[original.len()..] == behind, "hidden {hidden}");
        let cut = MemoryStorage::new(after[..original.len()].to_vec());
        for backup in [false, true] {
            let refused = open(&cut, &secret(old), hints(hidden, backup)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Credentials, "hidden {hidden}, backup {backup}");
            open(&cut, &secret(NEW), hints(hidden, backup)).unwrap();
        }
    }
    // Where nothing tells the end, nothing is written.
    let mut bytes = [original.clone(), vec![0x55; 600_000]].concat();
    bytes[original.len() - 65_536..original.len()].fill(7);
    let storage = MemoryStorage::new(bytes.clone());
    assert_eq!(changed(&storage, HIDDEN, true).unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(storage.to_vec() == bytes);
}

// proves: VC-WRITE-12
#[test]
fn where_a_container_was_made_longer_no_copy_keeps_the_old_password() {
    for hidden in [false, true] {
        let original = made();
        hide(&original, Some(65_536), &OsRng).unwrap();
        let mut bytes = original.to_vec();
        let from_end = if hidden { 65_536 } else { 131_072 };
        let place = bytes.len() - from_end;
        bytes.extend(vec![0; 600_000]);
        // Another program, which looks at the end alone, has put a copy there.
        let at_end = bytes.len() - from_end;
        bytes.copy_within(place..place + 512, at_end);
        let storage = MemoryStorage::new(bytes.clone());
        let old = if hidden { HIDDEN } else { PASSWORD };
        assert_eq!(changed(&storage, old, hidden).unwrap(), [u64::try_from(place).unwrap()]);

        let after = storage.to_vec();
        let cut = MemoryStorage::new(after[..usize::try_from(LEN).unwrap()].to_vec());
        for backup in [false, true] {
            for storage in [&storage, &cut] {
                let refused = open(storage, &secret(old), hints(hidden, backup)).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Credentials, "hidden {hidden}, backup {backup}");
            }
        }
        open(&storage, &secret(NEW), hints(hidden, true)).unwrap();
        let changed = |range: std::ops::Range<usize>| bytes[range.clone()] != after[range];
        assert!(changed(place..place + 512) && !changed(place + 512..place + 65_536));
    }
}

/// What is known beforehand is the same in every run.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Rng for Counting {
    fn fill(&self, buf: &mut [u8]) -> std::io::Result<()> {
        for byte in buf {
            let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = (next ^ next >> 31).to_le_bytes()[3];
        }
        Ok(())
    }
}

/// A volume made with fixed randomness, kept by its two headers and the digest of all of it.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Kept {
    cipher: String,
    prf: String,
    pim: u32,
    password: String,
    hidden_password: String,
    size: u64,
    header: String,
    hidden_header: String,
    backup_header: String,
    hidden_backup_header: String,
    sha256: String,
}

impl Kept {
    fn make(cipher: &str, prf: Prf) -> Self {
        let rng = Counting::default();
        let storage = made_with(cipher, prf, &rng);
        let outer = Hints { prf: Some(prf), ..hints(false, false) };
        let (_, unlocked) = open(&storage, &secret(PASSWORD), outer).unwrap();
        let outer = Opened::of_key(&unlocked.volume_key).unwrap();
        let hidden =
            VolumeBlueprint::hidden(&outer, LEN, HEADERS, Some(65_536), &wishes(cipher, prf)).unwrap();
        write(&storage, &hidden, &secret(HIDDEN), &rng).unwrap();
        let bytes = storage.to_vec();
        let [header, hidden_header, backup_header, hidden_backup_header] =
            slots(&bytes).map(|slot| hex::encode(&slot[..512]));
        Self {
            cipher: cipher.to_owned(),
            prf: prf.name().to_owned(),
            pim: PIM,
            password: PASSWORD.to_owned(),
            hidden_password: HIDDEN.to_owned(),
            size: LEN,
            header,
            hidden_header,
            backup_header,
            hidden_backup_header,
            sha256: hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes)),
        }
    }
}

/// Set `STRONGROOM_WRITE_VECTORS=1` to write the file anew, which is right only where the format is meant to change.
#[test]
fn volumes_of_fixed_randomness_are_those_of_the_vectors() {
    let cases = [
        ("aes", Prf::Sha512),
        ("serpent-twofish-aes", Prf::Whirlpool),
        ("camellia-serpent-kuznyechik", Prf::Streebog),
        ("twofish", Prf::Blake2s),
        ("aes-kuznyechik", Prf::Sha256),
        ("serpent", Prf::Argon2id),
    ];
    let made: Vec<Kept> = cases.into_iter().map(|(cipher, prf)| Kept::make(cipher, prf)).collect();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/veracrypt/volumes.json");
    if std::env::var_os("STRONGROOM_WRITE_VECTORS").is_some_and(|value| value == "1") {
        std::fs::write(&path, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let kept: Vec<Kept> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(made == kept, "what is made now differs from the vectors");
}
