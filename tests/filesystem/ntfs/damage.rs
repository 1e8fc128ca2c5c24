//! Damage by seed: nothing panics, no walk is endless, and what does not open is refused at once.

use super::*;
use crate::{look, worked};

/// A small volume with something of everything that is parsed.
fn image() -> Vec<u8> {
    let image = Image::new(3 << 20, "-c 512");
    let mounted = image.mount("noatime,compression");
    let m = &mounted.0;
    fs::create_dir(m.join("packed")).unwrap();
    set(&m.join("packed"), "ntfs_attrib", &0x800_u32.to_le_bytes());
    fs::write(m.join("packed/text"), "words ".repeat(20_000)).unwrap();
    fs::create_dir(m.join("many")).unwrap();
    for number in 0..150 {
        fs::write(m.join(format!("many/name {number}")), number.to_string()).unwrap();
    }
    let files = ["one", "other"].map(|name| fs::File::create(m.join(name)).unwrap());
    for number in 0..400_u64 {
        for file in &files {
            file.write_all_at(&[number as u8; 512], number * 1024).unwrap();
        }
    }
    fs::write(m.join("link"), "").unwrap();
    set_reparse_point(&m.join("link"), SYMLINK, &link_data(r"\??\C:\many\name 7", Some(0)));
    symlink("many", m.join("packed/interix")).unwrap();
    drop((files, mounted));
    image.bytes()
}

fn worked_since(start: Duration) -> Duration {
    worked().saturating_sub(start)
}

/// Looks at all that a volume shows, and asks what it tells of itself.
fn look_at(files: &NtfsFileSystem) -> usize {
    let _anything = (files.space(), files.is_hibernated());
    look(files)
}

#[test]
fn damage_is_refused_at_once_or_costs_the_file_that_has_it() {
    if !can_judge() {
        return;
    }
    let whole = image();
    let all = look_at(&open(whole.clone()).unwrap());
    assert!(all > 150, "{all}");
    // What is not zeros is what somebody reads.
    let used: Vec<usize> =
        (0..whole.len() / 512).filter(|at| whole[at * 512..][..512].iter().any(|byte| *byte != 0)).collect();
    let table = table_of(&whole) / 512;
    let (mut opened, mut slowest) = (0, Duration::ZERO);
    for seed in 0..crate::number("SEEDS", 300) {
        let (mut random, mut bytes) = (Random(seed ^ 0x4e54_4653), whole.clone());
        for _ in 0..=random.below(40) {
            let sector = match random.below(30) {
                0 => 0,
                1..10 => table + random.below(2 * 230) as usize,
                _ => used[random.below(used.len() as u64) as usize],
            };
            // Not the marks that would only be told as a sector that was half written.
            let place =
                sector * 512 + if sector == 0 { 11 + random.below(58) } else { random.below(510) } as usize;
            match random.below(4) {
                0 => bytes[place] ^= 1 << random.below(8),
                1 => bytes[place] = random.below(256) as u8,
                2 => bytes[place..(place + 8).min(sector * 512 + 510)].fill(0xff),
                _ => {
                    let from = used[random.below(used.len() as u64) as usize] * 512;
                    let copy = bytes[from..from + 64].to_vec();
                    let end = (place + 64).min(sector * 512 + 510);
                    bytes[place..end].copy_from_slice(&copy[..end - place]);
                }
            }
        }
        let disk = device(bytes);
        let start = worked();
        let result = NtfsFileSystem::open(&disk, false);
        let took = worked_since(start);
        slowest = slowest.max(took);
        assert!(took < LONGEST || result.is_ok(), "seed {seed}: refused after {took:?}");
        let Ok(files) = result else { continue };
        opened += 1;
        look_at(&files);
        assert!(worked_since(start) < Duration::from_secs(10), "seed {seed}: {:?}", worked_since(start));
    }
    println!("{opened} opened; the slowest took {slowest:?}");
    assert!(opened > 100);
}

/// A table of files that claims to lie everywhere, a directory whose nodes lead to each other, and a bitmap for all there can be.
#[test]
fn claims_of_any_size_cost_nothing() {
    if !can_judge() {
        return;
    }
    let whole = image();
    let files = open(whole.clone()).unwrap();
    let large = u64::MAX >> 2;
    let mut bytes = whole.clone();
    for path in ["one", "packed/text"] {
        let data = attribute_in(&bytes, record_or_part(&bytes, &files, path), 0x80);
        for field in [40, 48, 56] {
            bytes[data + field..data + field + 8].copy_from_slice(&large.to_le_bytes());
        }
    }
    let files = open(bytes).unwrap();
    let start = worked();
    for path in ["one", "packed/text"] {
        let node = at(&files, path).unwrap();
        assert_eq!(files.attributes(node).unwrap().size, large);
        assert_eq!(files.read(node, large - 5000, &mut [0; 4096]), Err(Fault::Damaged));
    }
    // The directory's blocks, all of which claim to be in use.
    let mut bytes = whole.clone();
    let files = open(whole).unwrap();
    let record = record_of(&bytes, &files, "many");
    let blocks = attribute_in(&bytes, record, 0xa0);
    for field in [40, 48, 56] {
        bytes[blocks + field..blocks + field + 8].copy_from_slice(&large.to_le_bytes());
    }
    let files = open(bytes).unwrap();
    let mut count = 0;
    let _damaged = files.list(at(&files, "many").unwrap(), 0, &mut |_| {
        count += 1;
        true
    });
    assert!((1..=150).contains(&count), "{count}");
    assert!(worked_since(start) < Duration::from_secs(2), "{:?}", worked_since(start));
}

/// The record with the first part of a file's content.
fn record_or_part(bytes: &[u8], files: &NtfsFileSystem, path: &str) -> usize {
    let base = record_of(bytes, files, path);
    let number = ((base - table_of(bytes)) / 1024) as u64;
    let is_it = |record: usize| {
        let reference =
            u64::from_le_bytes(bytes[record + 32..record + 40].try_into().unwrap()) & 0xffff_ffff_ffff;
        if record != base && reference != number || !bytes[record..].starts_with(b"FILE") {
            return false;
        }
        let mut at = record + usize::from(u16::from_le_bytes([bytes[record + 20], bytes[record + 21]]));
        while bytes[at..at + 4] != [0xff; 4] {
            let is_first = bytes[at + 16..at + 24] == [0; 8];
            if bytes[at..at + 4] == 0x80_u32.to_le_bytes() && bytes[at + 8] == 1 && is_first {
                return true;
            }
            at += u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        }
        false
    };
    let table = table_of(bytes);
    (0..400).map(|number| table + number * 1024).find(|record| is_it(*record)).unwrap()
}

const LONGEST: Duration = Duration::from_millis(100);
