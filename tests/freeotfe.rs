//! Volumes of FreeOTFE: vectors that another implementation made, and one that LibreCrypt made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

mod place;

use std::{env, fs, path::PathBuf, sync::Arc};

use place::{Place, can_mount, is_skipped};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use strongroom::{
    crypto::secret::{Credentials, Password, VolumeKey},
    error::ErrorKind,
    format::{
        Attempt, Format, Header, Unlocked,
        freeotfe::{FreeOtfe, Hints},
    },
    mapping::Segment,
    storage::{MemoryStorage, Storage},
    units::{Sector, SectorSize},
};

const VOLUMES: &str = include_str!("vectors/freeotfe/volumes.json");
const VECTORS_PASSWORD: &str = "correct horse";

/// A line of `volumes.json`.
#[derive(Debug, Deserialize)]
struct Vector {
    cipher: String,
    key_bits: u32,
    hash: String,
    version: u32,
    flags: u32,
    salt_bits: u32,
    iterations: u32,
    data_len: u64,
    origin: u64,
    cdb: String,
    data_seed: String,
    plain_sha256: String,
    data_sha256: String,
}

impl Vector {
    fn all() -> Vec<Self> {
        serde_json::from_str(VOLUMES).unwrap()
    }

    fn cdb(&self) -> Vec<u8> {
        hex::decode(&self.cdb).unwrap()
    }

    fn hints(&self) -> Hints {
        let Self { salt_bits, iterations, origin, .. } = *self;
        Hints { salt_bits, iterations, origin, ..Hints::USUAL }
    }

    /// The data, decrypted.
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        for number in 0.. {
            if plain.len() >= 3 * 512 {
                break;
            }
            plain.extend(Sha256::digest(format!("{} {number}", self.data_seed)));
        }
        assert_eq!(hex::encode(Sha256::digest(&plain)), self.plain_sha256, "the generator's own bytes");
        plain
    }

    /// The header and room for the data.
    fn storage(&self) -> MemoryStorage {
        let mut bytes = self.cdb();
        bytes.resize(512 + 3 * 512, 0);
        MemoryStorage::new(bytes)
    }

    fn name(&self) -> String {
        format!("{} of {} bits, {}, layout {}", self.cipher, self.key_bits, self.hash, self.version)
    }
}

fn unlock(storage: &dyn Storage, hints: Hints) -> strongroom::Result<(Box<dyn Header>, Unlocked)> {
    let header = FreeOtfe.read_header(storage)?;
    let attempt = Attempt { freeotfe: hints, ..Attempt::default() };
    let unlocked = header.unlock(&password(VECTORS_PASSWORD), &attempt)?;
    Ok((header, unlocked))
}

fn password(password: &str) -> Credentials {
    Credentials::Password { password: Password::copy_of(password.as_bytes()).unwrap(), keyfiles: Vec::new() }
}

fn only_segment(unlocked: &Unlocked) -> Segment {
    let [segment] = unlocked.layout.current().segments() else { panic!("one segment") };
    segment.clone()
}

#[test]
fn each_cipher_mode_hash_and_layout_opens_and_writes_what_another_implementation_writes() {
    // proves: FO-CDB-01
    // proves: FO-CDB-02
    // proves: FO-CDB-03
    // proves: FO-KDF-01
    // proves: FO-KDF-02
    // proves: FO-KDF-03
    // proves: FO-MAC-01
    // proves: FO-MAC-02
    // proves: FO-DET-02
    // proves: FO-DET-04
    // proves: FO-DET-05
    // proves: FO-DATA-03
    // proves: FO-DATA-04
    // proves: FO-DATA-05
    // proves: FO-TRIAL-01
    let vectors = Vector::all();
    assert!(vectors.len() > 60);
    for vector in vectors {
        let name = vector.name();
        let storage = vector.storage();
        let (header, unlocked) =
            unlock(&storage, vector.hints()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let info = header.describe_unlocked(&unlocked);
        assert!(info.cipher.starts_with(&vector.cipher), "{name}: {}", info.cipher);
        assert_eq!((info.key_bits, info.version), (vector.key_bits, vector.version), "{name}");
        assert!(info.details.iter().any(|detail| detail.value == vector.hash), "{name}: {:?}", info.details);

        let segment = only_segment(&unlocked);
        let (plain, mut data) = (vector.plain(), vector.plain());
        assert_eq!((segment.storage_offset, segment.sectors), (512, 3), "{name}");
        segment.cipher.encrypt(&mut data, SectorSize::B512, segment.first_tweak);
        assert_eq!(hex::encode(Sha256::digest(&data)), vector.data_sha256, "{name}");
        segment.cipher.decrypt(&mut data, SectorSize::B512, segment.first_tweak);
        assert!(data == plain, "{name}");
    }
}

#[test]
fn what_opened_a_header_opens_it_again_without_the_password() {
    for vector in Vector::all() {
        let name = vector.name();
        let storage = vector.storage();
        let (header, unlocked) = unlock(&storage, vector.hints()).unwrap();
        let key = VolumeKey::copy_of(unlocked.volume_key.expose()).unwrap();
        let again = header.unlock_with_key(key).unwrap_or_else(|error| panic!("{name}: {error}"));
        let info = |unlocked| serde_json::to_value(header.describe_unlocked(unlocked)).unwrap();
        assert_eq!(info(&again), info(&unlocked), "{name}");
        let (mut first, mut second) = (vector.plain(), vector.plain());
        for (unlocked, data) in [(&unlocked, &mut first), (&again, &mut second)] {
            let segment = only_segment(unlocked);
            segment.cipher.encrypt(data, SectorSize::B512, Sector(77));
        }
        assert!(first == second, "{name}");
    }
}

#[test]
fn another_password_salt_or_number_of_iterations_opens_nothing() {
    // proves: FO-TRIAL-02
    // proves: FO-KDF-04
    let vectors = Vector::all();
    let vector = vectors.iter().find(|vector| vector.iterations == 11 && vector.version == 4).unwrap();
    let storage = vector.storage();
    let header = FreeOtfe.read_header(&storage).unwrap();
    let attempt = Attempt { freeotfe: vector.hints(), ..Attempt::default() };
    let error = header.unlock(&password("correct house"), &attempt).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    for hints in
        [Hints::USUAL, Hints { iterations: 12, ..vector.hints() }, Hints { salt_bits: 248, ..vector.hints() }]
    {
        let error = unlock(&storage, hints).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        let named = format!("a salt of {} bits and {} key iterations", hints.salt_bits, hints.iterations);
        assert!(error.reason().contains(&named), "{error}");
    }
}

#[test]
fn a_salt_or_iterations_that_there_cannot_be_are_refused() {
    let vectors = Vector::all();
    let storage = vectors[0].storage();
    for hints in [
        Hints { salt_bits: 520, ..Hints::USUAL },
        Hints { salt_bits: 12, ..Hints::USUAL },
        Hints { iterations: 0, ..Hints::USUAL },
    ] {
        assert_eq!(unlock(&storage, hints).unwrap_err().kind(), ErrorKind::Usage);
    }
}

#[test]
fn a_header_in_a_file_of_its_own_opens_the_data_with_and_without_one_before_them() {
    // proves: FO-CDB-04
    // proves: FO-DATA-01
    let vectors = Vector::all();
    let vector = vectors.iter().find(|vector| vector.cipher == "aes-xts" && vector.version == 4).unwrap();
    let cdb: Arc<dyn Storage> = Arc::new(MemoryStorage::new(vector.cdb()));
    let start = |container_len: usize, without_cdb| {
        let container = Arc::new(MemoryStorage::new(vec![0; container_len]));
        let attached = FreeOtfe.attach(container, Arc::clone(&cdb)).unwrap().unwrap();
        let hints = Hints { without_cdb, ..vector.hints() };
        unlock(&*attached, hints).map(|(_, unlocked)| {
            let segment = only_segment(&unlocked);
            (segment.storage_offset, segment.sectors)
        })
    };
    assert_eq!(start(512 + 3 * 512, false).unwrap(), (512, 3));
    assert_eq!(start(3 * 512, false).unwrap(), (0, 3), "no room for another header");
    assert_eq!(start(8 * 512, true).unwrap(), (0, 3));
    assert_eq!(start(8 * 512, false).unwrap(), (512, 3));
    let header = FreeOtfe.read_header_file(&*cdb).unwrap().unwrap();
    let attempt = Attempt { freeotfe: vector.hints(), ..Attempt::default() };
    header.unlock(&password(VECTORS_PASSWORD), &attempt).unwrap();
    assert!(FreeOtfe.read_header_file(&vector.storage()).unwrap().is_none());
}

#[test]
fn sectors_are_numbered_from_the_data_or_from_the_file_as_the_header_says() {
    // proves: FO-DATA-02
    for (flags, origin, first) in [(0, 0, 0), (2, 0, 1), (2, 4096 * 512, 4097)] {
        let vectors = Vector::all();
        let has = |vector: &&Vector| vector.flags == flags && vector.origin == origin && vector.version == 4;
        let vector = vectors.iter().find(has).unwrap();
        let (_, unlocked) = unlock(&vector.storage(), vector.hints()).unwrap();
        assert_eq!(only_segment(&unlocked).first_tweak, Sector(first));
    }
}

#[test]
fn a_volume_that_is_cut_off_is_read_and_not_written() {
    // proves: FO-DATA-06
    let vectors = Vector::all();
    let vector = vectors.iter().find(|vector| vector.version == 1 && vector.data_len > 1 << 20).unwrap();
    let storage = vector.storage();
    let (header, unlocked) = unlock(&storage, vector.hints()).unwrap();
    assert_eq!(only_segment(&unlocked).sectors, 3);
    assert_eq!(header.prepare_writing(&storage, &unlocked).unwrap_err().kind(), ErrorKind::Damaged);
    let findings = header.check_unlocked(&storage, &unlocked);
    assert!(
        findings.iter().any(|finding| finding.message.contains("the container before that")),
        "{findings:?}"
    );
}

/// LibreCrypt's own volume.
fn fixture() -> Option<Vec<u8>> {
    let fixtures = env::var_os("STRONGROOM_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let path = fixtures.join("freeotfe/a.box");
    if !path.exists() {
        is_skipped(&format!("no {}: LibreCrypt's own volume is not opened", path.display()));
        return None;
    }
    Some(fs::read(path).unwrap())
}

const README_AT: usize = 24_576;

#[test]
fn the_volume_that_librecrypt_made_is_exported_checked_and_told_of() {
    // proves: FO-PROBE-01
    let Some(volume) = fixture() else { return };
    let place = Place::of_this_user();
    place.make_file("a.box", &volume);
    place.make_file("secret", "password\n");
    let run = |line: &str| place.strongroom(&format!("{line} --password-file secret"));
    let silent = place.strongroom("info a.box");
    assert_eq!(silent.status, Some(4), "{silent:?}");
    assert!(silent.errors.contains("--format freeotfe"), "{silent:?}");

    let info = run("info a.box --format freeotfe --json").json();
    assert_eq!((&info["cipher"], &info["authenticated_header"]), (&"aes-xts-plain64".into(), &true.into()));
    assert_eq!(
        (&info["version"], &info["key_bits"], &info["data_size"]),
        (&4.into(), &512.into(), &1_048_576.into())
    );
    for line in [
        "key test a.box --format freeotfe",
        "check a.box --format freeotfe",
        "key test a.box --salt-length 256",
    ] {
        let ended = run(line);
        assert_eq!(ended.status, Some(0), "{line}: {ended:?}");
    }
    let exported = run("export a.box image --yes --format freeotfe");
    assert_eq!(exported.status, Some(0), "{exported:?}");
    let image = place.bytes("image");
    assert_eq!(image.len(), 1 << 20);
    assert_eq!(&image[510..512], [0x55, 0xaa]);
    let text = String::from_utf8_lossy(&image[README_AT..README_AT + 64]);
    assert!(text.is_ascii() && text.trim_start().len() > 10, "{text:?}");
    assert!(place.bytes("a.box") == volume, "nothing was written");
    place.make_file("a.cdb", &volume[..512]);
    let alone = run("info a.cdb --format freeotfe --json").json();
    assert_eq!((&alone["cipher"], &alone["header_file"]), (&"aes-xts-plain64".into(), &true.into()));

    for line in [
        "key change a.box --format freeotfe --new-password-file secret",
        "key add a.box --format freeotfe --new-password-file secret",
        "header backup a.box b --format freeotfe",
        "key remove a.box --format freeotfe",
        "resize a.box 2M --format freeotfe",
    ] {
        let refused = run(line);
        assert_eq!(refused.status, Some(4), "{line}: {refused:?}");
        assert!(place.bytes("a.box") == volume, "{line}");
    }
}

#[test]
fn what_is_written_to_librecrypts_volume_reads_back_and_leaves_its_header() {
    let (Some(volume), true) = (fixture(), can_mount()) else { return };
    let place = Place::of_ordinary_user();
    place.make_file("a.box", &volume);
    place.make_file("cdb", &volume[..512]);
    place.make_file("data", &volume[512..]);
    place.make_file("secret", "password\n");
    let text = b"written by another program";
    for (file, options) in [("a.box", "a.box"), ("data", "data --header cdb")] {
        let mounted =
            place.strongroom(&format!("mount --block {options} m --format freeotfe --password-file secret"));
        assert_eq!(mounted.status, Some(0), "{mounted:?}");
        let listed = place.strongroom("list --json").json();
        assert_eq!(listed["mounts"][0]["format"], "freeotfe");
        place.make_file("text", text);
        place.shell("dd if=text of=m/volume bs=1 seek=700001 conv=notrunc,fsync status=none");
        assert_eq!(place.strongroom("unmount m").status, Some(0));
        let before = if file == "data" { &volume[512..] } else { &volume[..] };
        let after = place.bytes(file);
        let changed: Vec<_> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
        let start = 700_001 / 512 * 512 + if file == "data" { 0 } else { 512 };
        assert!(changed.iter().all(|at| (start..start + 512).contains(at)), "{file}: {changed:?}");
        assert!(!changed.is_empty(), "{file}");

        let exported = place.strongroom(&format!(
            "export {options} {file}.image --yes --format freeotfe --password-file secret"
        ));
        assert_eq!(exported.status, Some(0), "{exported:?}");
        assert_eq!(&place.bytes(&format!("{file}.image"))[700_001..][..text.len()], text);
    }
    assert!(place.bytes("cdb") == volume[..512]);
}

#[test]
fn a_hidden_volume_opens_at_its_offset_and_nothing_around_it_is_written() {
    let (Some(volume), true) = (fixture(), can_mount()) else { return };
    let place = Place::of_ordinary_user();
    let mut host: Vec<u8> = (0..=250).cycle().take(4 << 20).collect();
    host[HIDDEN_AT..][..volume.len()].copy_from_slice(&volume);
    place.make_file("host", &host);
    place.make_file("secret", "password\n");
    let options = "--format freeotfe --offset 2M --password-file secret";
    let mounted = place.strongroom(&format!("mount --block host m {options}"));
    assert_eq!(mounted.status, Some(0), "{mounted:?}");
    place.make_file("text", b"written by another program");
    place.shell("dd if=text of=m/volume bs=1 seek=1048000 conv=notrunc,fsync status=none");
    assert_eq!(place.strongroom("unmount m").status, Some(0));
    let after = place.bytes("host");
    let changed: Vec<_> = (0..host.len()).filter(|&at| host[at] != after[at]).collect();
    let start = HIDDEN_AT + 512 + 1_048_000 / 512 * 512;
    assert!(changed.iter().all(|at| (start..start + 512).contains(at)), "{changed:?}");
    assert!(!changed.is_empty() && after.len() == host.len());
    let exported = place.strongroom(&format!("export host image --yes {options}"));
    assert_eq!(exported.status, Some(0), "{exported:?}");
    let image = place.bytes("image");
    assert_eq!((image.len(), &image[1_048_000..][..26]), (1 << 20, &b"written by another program"[..]));
}

const HIDDEN_AT: usize = 2 << 20;

#[test]
fn a_scan_tries_the_password_at_the_start_and_says_where_it_did() {
    let Some(volume) = fixture() else { return };
    let place = Place::of_this_user();
    place.make_file("a.box", &volume);
    place.make_file("secret", "password\n");
    place.make_file("other", "another password\n");
    let scan = "header repair --scan a.box --format freeotfe --password-file";
    let told = place.done(&format!("{scan} secret"));
    assert!(told.contains("offset 0: freeotfe container, opened by its header"), "{told}");
    assert!(told.contains("strongroom mount a.box MOUNTPOINT --format freeotfe opens it"), "{told}");
    let refused = place.strongroom(&format!("{scan} other"));
    assert_eq!(refused.status, Some(4), "{refused:?}");
    assert!(refused.errors.contains("the password opens none of FreeOTFE"), "{refused:?}");
    assert_eq!((refused.errors + &refused.out).matches("it was tried at").count(), 1);
    let silent = place.strongroom("header repair --scan a.box");
    assert!(silent.errors.contains("FreeOTFE show nothing and were not looked for"), "{silent:?}");
}
