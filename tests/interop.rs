//! Containers that other programs made: the plaintext of each is what `cases.json` says. No case is named here.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests too")]

mod block_file;
mod foreign;
mod place;

use std::{collections::HashMap, fs, path::Path, process::Command, sync::Arc, time::Duration};

use foreign::{Case, Fixtures};
use sha2::{Digest, Sha256};
use strongroom::{
    block::{BlockDevice, ByteDevice},
    error::ErrorKind,
    format::Unlocked,
    units::Sector,
    volume::{Access, Container, Volume, header_without_container, make_writable},
};

/// Unlocks a case, which may take seconds.
fn unlock(case: &Case, path: &Path) -> Unlocked {
    let header =
        case.open(path, Access::ReadOnly).header().unwrap_or_else(|error| panic!("{}: {error}", case.id));
    let unlocked = header
        .unlock(&case.credentials(&*header), &case.attempt())
        .unwrap_or_else(|error| panic!("{}: {error}", case.id));
    if let (Some(cipher), true) = (&case.cipher, case.is_opaque()) {
        let found = header.describe_unlocked(&unlocked).cipher;
        assert!(found.starts_with(&format!("{cipher}-")), "{}: {found}", case.id);
    }
    unlocked
}

/// Opens an unlocked case as `mount` does: for writing, or to read only where the format allows no more.
fn open(case: &Case, path: &Path, unlocked: &Unlocked) -> (Arc<dyn BlockDevice>, Access) {
    let open = |container: &Container, access| {
        let info = container.header().unwrap().describe_unlocked(unlocked);
        (Volume::open(container, info, unlocked).device(), access)
    };
    let container = case.open(path, Access::ReadWrite);
    match make_writable(&container, &*container.header().unwrap(), unlocked) {
        Ok(_) => open(&container, Access::ReadWrite),
        Err(error) => {
            let kinds = [ErrorKind::Unsupported, ErrorKind::Damaged];
            assert!(kinds.contains(&error.kind()), "{}: {error}", case.id);
            drop(container);
            open(&case.open(path, Access::ReadOnly), Access::ReadOnly)
        }
    }
}

fn content(device: &dyn BlockDevice) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(device.geometry().bytes()).unwrap()];
    device.read(&mut content, Sector(0)).unwrap();
    content
}

#[test]
fn each_container_holds_the_plaintext_that_is_known_of_it() {
    let Some(fixtures) = Fixtures::unpack() else { return };
    let mut done = 0;
    for case in fixtures.cases() {
        let Some(expect) = case.expect.as_ref().filter(|expect| expect.says_anything()) else { continue };
        let path = fixtures.image(&case.file);
        let (device, _) = open(&case, &path, &unlock(&case, &path));
        let content = content(&*device);
        if let Some(length) = expect.length {
            assert_eq!(content.len(), length, "{}", case.id);
        }
        if let Some(sha256) = &expect.sha256 {
            assert_eq!(hex::encode(Sha256::digest(&content)), *sha256, "{}", case.id);
        }
        if let Some(sha256) = &expect.first_sector_sha256 {
            assert_eq!(hex::encode(Sha256::digest(&content[..512])), *sha256, "{}", case.id);
        }
        if let Some(serial) = expect.fat12_serial() {
            // Boot sector: name of the file system, serial number.
            assert_eq!(&content[54..62], b"FAT12   ", "{}", case.id);
            let found = u32::from_le_bytes(content[39..43].try_into().unwrap());
            assert_eq!(found, serial, "{}: {found:x}", case.id);
        }
        done += 1;
    }
    assert!(done > 0, "no case was opened");
}

/// Those of which nothing is known but that another program opens the header: ours does so too, or names what it lacks.
#[test]
fn a_container_without_known_plaintext_opens_or_is_refused_with_the_reason() {
    let Some(fixtures) = Fixtures::unpack() else { return };
    for case in fixtures.cases() {
        if case.expect.as_ref().is_some_and(foreign::Expect::says_anything) {
            continue;
        }
        let container = case.open(&fixtures.image(&case.file), Access::ReadOnly);
        let header = container.header().unwrap();
        let unlocked = header.unlock(&case.credentials(&*header), &case.attempt());
        match (unlocked, case.is_supported()) {
            (Ok(unlocked), true) => assert!(unlocked.layout.current().sectors() > 0, "{}", case.id),
            (Err(error), false) => assert!(error.reason().contains("not supported"), "{}: {error}", case.id),
            (other, _) => panic!("{}: {other:?}", case.id),
        }
    }
}

#[test]
fn what_is_written_is_read_back_and_nothing_else_changes() {
    let Some(fixtures) = Fixtures::unpack() else { return };
    for case in fixtures.cases().into_iter().filter(Case::is_supported) {
        let path = fixtures.image(&case.file);
        let before = fs::read(&path).unwrap();
        let unlocked = unlock(&case, &path);
        let (device, access) = open(&case, &path, &unlocked);
        let mut expected = content(&*device);
        let bytes = ByteDevice::new(Arc::clone(&device));
        let middle = expected.len() / 2 - 700;
        let change: Vec<u8> = (0..1400_u32).map(|n| (n % 241).to_le_bytes()[0]).collect();
        let written = bytes.write_at(&change, u64::try_from(middle).unwrap());
        if access == Access::ReadOnly {
            assert!(written.is_err(), "{}", case.id);
            assert_eq!(fs::read(&path).unwrap(), before, "{}", case.id);
            continue;
        }
        written.unwrap();
        bytes.flush().unwrap();
        drop((bytes, device));
        expected[middle..middle + change.len()].copy_from_slice(&change);
        let (device, _) = open(&case, &path, &unlocked);
        assert!(content(&*device) == expected, "{}", case.id);
        drop(device);
        fs::write(&path, &before).unwrap();
    }
}

#[test]
fn a_wrong_password_is_told_from_damage() {
    let Some(fixtures) = Fixtures::unpack() else { return };
    for case in fixtures.cases().into_iter().filter(|case| case.is_cheap) {
        let container = case.open(&fixtures.image(&case.file), Access::ReadOnly);
        let header = container.header().unwrap();
        let error = header.unlock(&foreign::wrong_credentials(), &case.attempt()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials, "{}", case.id);
    }
}

/// Each header of a folder, and whether it must be read, from a file `NAME.xz`.
fn hostile(folder: &str, must_read: impl Fn(&str) -> bool) {
    let Some(fixtures) = foreign::folder() else { return };
    let unpacked = tempfile::tempdir().unwrap();
    let mut done = 0;
    for entry in fs::read_dir(fixtures.join(folder)).unwrap() {
        let packed = entry.unwrap().path();
        let Some(name) = packed.file_name().and_then(|name| name.to_str()?.strip_suffix(".xz")) else {
            continue;
        };
        let path = unpacked.path().join(name);
        let unpack =
            Command::new("xz").arg("-dkc").arg(&packed).stdout(fs::File::create(&path).unwrap()).status();
        assert!(unpack.unwrap().success());
        // All memory of the program's own counts against the limit, whether it is used or not: its heap, its stacks, locked
        // pages. Where it asks for more it gets none, and does not answer.
        let info = Command::new("prlimit")
            .arg(format!("--data={MOST_MEMORY}"))
            .arg(env!("CARGO_BIN_EXE_strongroom"))
            .arg("info")
            .arg(&path)
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&info.stderr).into_owned();
        assert_eq!(info.status.success(), must_read(name), "{name}: {answer}");
        if !must_read(name) {
            assert_eq!(info.status.code(), Some(4), "{name}: {answer}");
            assert!(!answer.contains("no known header"), "{name}: {answer}");
        }

        let container = Container::open(&path, Access::ReadOnly).unwrap();
        let before = processor_time();
        let alone = header_without_container(&container);
        let read = alone.and_then(|alone| alone.map_or_else(|| container.header(), Ok));
        let read = read.map(|header| header.describe());
        let spent = processor_time().saturating_sub(before);
        assert_eq!(read.is_ok(), must_read(name), "{name}: {read:?}");
        assert!(spent < MOST_TIME, "{name}: {spent:?}");
        fs::remove_file(&path).unwrap();
        done += 1;
    }
    assert!(done > 0, "no header in {folder}");
}

/// What this thread has used of the processors: what else runs on the machine does not count.
fn processor_time() -> Duration {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn hostile_luks1_headers_get_the_answer_that_they_deserve() {
    hostile("luks1-evil", |name| name.starts_with("valid"));
}

#[test]
fn malformed_luks2_headers_get_the_answer_that_they_deserve() {
    let Some(fixtures) = foreign::folder() else { return };
    let list = fs::read_to_string(fixtures.join("luks2-malformed/EXPECT.tsv")).unwrap();
    let expected: HashMap<&str, &str> = list.lines().filter_map(|line| line.split_once('\t')).collect();
    hostile("luks2-malformed", |name| match expected[name] {
        "R" | "T" => true,
        "F" => false,
        other => panic!("{name} is expected to be {other}"),
    });
}

const MOST_MEMORY: u64 = 64 << 20;
const MOST_TIME: Duration = Duration::from_millis(100);
