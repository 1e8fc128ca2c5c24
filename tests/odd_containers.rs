//! What people really have: containers in partitions, headers that spell names as others do, keyslots that take long,
//! passwords that nobody can type.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use place::{CHEAP, PASSWORD, Place, everybody};

const LUKS1: &str = "create c --format luks1 --size 8M --provision quick --filesystem none --kdf-iterations 1000 \
                     --password-file password";
const START: u64 = 1 << 20;
/// In sectors of 512 bytes, half a mebibyte.
const KIB: usize = 1 << 10;

/// A disk with two partitions of Linux: the container `c` in the first one, and 1 MiB of nothing known behind it.
fn put_into_partition(place: &Place) -> u64 {
    let container = place.bytes("c");
    let len = u64::try_from(container.len()).unwrap();
    let mut disk = vec![0x33; usize::try_from(START + len + (2 << 20)).unwrap()];
    disk[..512].fill(0);
    let sectors = |bytes: u64| u32::try_from(bytes / 512).unwrap().to_le_bytes();
    for (entry, (start, len)) in [(446, (START, len)), (462, (START + len, 1 << 20))] {
        disk[entry + 4] = 0x83;
        disk[entry + 8..entry + 12].copy_from_slice(&sectors(start));
        disk[entry + 12..entry + 16].copy_from_slice(&sectors(len));
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[usize::try_from(START).unwrap()..][..container.len()].copy_from_slice(&container);
    place.make_file("disk", disk);
    len
}

#[test]
fn a_container_in_a_partition_is_told_opened_and_never_left() {
    for who in everybody() {
        let place = Place::of(who);
        place.done(LUKS1);
        let len = put_into_partition(&place);
        let before = place.bytes("disk");

        let listing = place.json("info disk");
        assert_eq!(listing["partitions"][0]["format"], "luks1");
        assert_eq!(listing["partitions"][0]["start"], START);
        let text = place.done("info disk");
        assert!(text.contains("partition 1 at byte 1048576 holds a LUKS1 header: --partition 1"), "{text}");
        let refused = place.strongroom("key test disk --password-file password");
        assert_eq!(refused.status, Some(4), "{refused:?}");
        assert!(refused.errors.contains("--partition 1 opens it"), "{refused:?}");
        assert!(!refused.errors.contains("header restore"), "{refused:?}");
        let none = place.strongroom("info disk --partition 3");
        assert_eq!((none.status, none.errors.contains("it has no partition 3")), (Some(1), true), "{none:?}");

        place.done("key test disk --partition 1 --password-file password");
        let info = place.json(&format!("info disk --offset {START}"));
        assert_eq!(info["container_size"], len, "no larger than its partition");
        let found = place.strongroom("mount disk m --block --password-file password");
        assert!(found.status == Some(0) && found.errors.contains("opening partition 1 of disk"), "{found:?}");
        place.shell(
            "yes 0123456789 | head -c 6M > filling; dd if=filling of=m/volume conv=notrunc,fsync status=none",
        );
        place.shell("printf other > other");
        let add = "key add disk --password-file password --new-password-file other --kdf-iterations 1000";
        assert_ne!(place.strongroom(add).status, Some(0), "all of the disk is not what is mounted");
        place.done(&format!("{add} --partition 1"));
        place.done("unmount disk");

        place.done("key test disk --offset 1M --password-file other");
        place.done("mount disk m --block --offset 1M --read-only --password-file other");
        place.shell("cmp -n 6291456 filling m/volume");
        place.done("unmount m");
        let after = place.bytes("disk");
        let outside = |bytes: &[u8]| {
            let start = usize::try_from(START).unwrap();
            (bytes[..start].to_vec(), bytes[start + usize::try_from(len).unwrap()..].to_vec())
        };
        assert!(outside(&before) == outside(&after), "nothing outside the partition was written");
        place.assert_clean();
    }
}

/// An entry of an MBR: its kind, and where it is in sectors of 512 bytes.
fn put_mbr_entry(disk: &mut [u8], table: usize, entry: usize, kind: u8, first: usize, sectors: usize) {
    let at = table * 512 + 446 + 16 * entry;
    disk[at + 4] = kind;
    for (at, number) in [(at + 8, first), (at + 12, sectors)] {
        disk[at..at + 4].copy_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
    }
    disk[table * 512 + 510..table * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
}

/// A primary partition at 1 MiB, and from 6 MiB on an extended one with two logical ones, 10 MiB each.
fn logical_partitions(disk: &mut [u8]) {
    put_mbr_entry(disk, 0, 0, 0x83, 2 * KIB, 4 * KIB);
    put_mbr_entry(disk, 0, 1, 0x0f, 12 * KIB, 50 * KIB);
    put_mbr_entry(disk, 12 * KIB, 0, 0x83, 2 * KIB, 20 * KIB);
    put_mbr_entry(disk, 12 * KIB, 1, 0x05, 24 * KIB, 22 * KIB);
    put_mbr_entry(disk, 36 * KIB, 0, 0x83, 2 * KIB, 20 * KIB);
}

/// A GPT with three partitions, of which the second and the third have 10 MiB.
fn gpt(disk: &mut [u8], sector: usize) {
    let mut entries = vec![0; 128 * 128];
    for (number, (start, len)) in [(1, 4), (6, 10), (17, 10)].into_iter().enumerate() {
        let entry = &mut entries[number * 128..][..128];
        entry[..16].copy_from_slice(b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4");
        let [first, end] = [start, start + len].map(|mib: usize| (mib << 20) / sector);
        put_u64(entry, 32, first);
        put_u64(entry, 40, end - 1);
    }
    let mut header = vec![0; 92];
    header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
    put_u64(&mut header, 24, 1);
    put_u64(&mut header, 72, 2);
    header[80] = 128;
    header[84] = 128;
    header[88..].copy_from_slice(&crc32(&entries).to_le_bytes());
    let sum = crc32(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    disk[sector..][..92].copy_from_slice(&header);
    disk[2 * sector..][..entries.len()].copy_from_slice(&entries);
}

fn put_u64(bytes: &mut [u8], at: usize, number: usize) {
    bytes[at..at + 8].copy_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1));
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), bit))
}

/// A disk with this partition table, and the container `c` in these places.
fn partitioned(place: &Place, table: impl Fn(&mut [u8]), starts: &[usize]) -> Vec<u8> {
    let mut disk = vec![0; 48 << 20];
    table(&mut disk);
    let container = place.bytes("c");
    for start in starts {
        disk[*start..][..container.len()].copy_from_slice(&container);
    }
    place.make_file("disk", &disk);
    disk
}

/// The number of a partition, where it starts, and what writes the table.
type Table<'a> = (u32, usize, &'a dyn Fn(&mut [u8]));

#[test]
fn logical_partitions_and_those_of_gpt_have_their_numbers_and_nothing_outside_them_is_written() {
    let place = Place::of_this_user();
    place.done(LUKS1);
    let gpt512 = |disk: &mut [u8]| gpt(disk, 512);
    let gpt4096 = |disk: &mut [u8]| gpt(disk, 4096);
    let tables: [Table; 4] = [
        (6, 19 << 20, &logical_partitions),
        (3, 17 << 20, &gpt512),
        (2, 6 << 20, &gpt512),
        (3, 17 << 20, &gpt4096),
    ];
    for (number, start, table) in tables {
        let end = start + (10 << 20);
        let before = partitioned(&place, table, &[start]);
        let listing = place.json("info disk");
        let entries = listing["partitions"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["format"] == "luks1").unwrap();
        assert_eq!((&entry["number"], &entry["start"]), (&number.into(), &start.into()), "{listing}");

        let found = place.strongroom("mount disk m --block --password-file password");
        assert_eq!(found.status, Some(0), "{found:?}");
        assert!(found.errors.contains(&format!("opening partition {number} of disk")), "{found:?}");
        place.shell("yes | dd of=m/volume bs=1M iflag=fullblock conv=notrunc,fsync status=none 2>&1 || true");
        place.done("unmount disk");
        place.done(&format!("header backup disk h --partition {number} -q"));
        place.done(&format!("header restore disk h --partition {number} --yes -q"));
        let after = place.bytes("disk");
        assert!(before[..start] == after[..start] && before[end..] == after[end..], "partition {number}");
        assert!(before[end - 512..end] != after[end - 512..end], "the volume ends where the partition does");
        place.shell("rm -f h disk.replaced*");
    }

    partitioned(&place, gpt512, &[6 << 20, 17 << 20]);
    let refused = place.strongroom("mount disk m --block --password-file password");
    assert_eq!(refused.status, Some(4), "{refused:?}");
    for told in ["partition 2 at byte 6291456", "partition 3 at byte 17825792"] {
        assert!(refused.errors.contains(told), "{refused:?}");
    }
    place.done("key test disk --partition 3 --password-file password");
    place.assert_clean();
}

#[test]
fn a_scan_with_a_format_finds_headers_that_show_nothing_and_says_what_opens_them() {
    let place = Place::of_this_user();
    place.done(
        "create c --format veracrypt --prf sha512 --pim 1 --size 4M --provision quick --filesystem none \
         --password-file password",
    );
    put_into_partition(&place);
    let scan = "header repair --scan disk --format veracrypt --prf sha512 --pim 1 --password-file";
    let found = place.strongroom(&format!("{scan} password"));
    assert_eq!(found.status, Some(0), "{found:?}");
    let command = "strongroom mount disk MOUNTPOINT --partition 1 --format veracrypt --pim 1 opens it";
    assert!(found.out.contains("offset 1048576: veracrypt container"), "{found:?}");
    assert!(found.out.contains(command), "{found:?}");
    place
        .done("key test disk --partition 1 --format veracrypt --prf sha512 --pim 1 --password-file password");

    // The first header is gone: its copy at the partition's end is found.
    place.shell("dd if=/dev/urandom of=disk bs=1M seek=1 count=1 conv=notrunc iflag=fullblock status=none");
    let found = place.json(&format!("{scan} password"));
    assert_eq!(found["unmarked"][0]["place"], "backup header");
    place.make_file("other", "another password than that one");
    let lost = place.strongroom(&format!("{scan} other"));
    assert_eq!(lost.status, Some(4), "{lost:?}");
    assert!(lost.errors.contains("the password opens none of VeraCrypt or TrueCrypt"), "{lost:?}");
    let unasked = place.strongroom("header repair --scan disk");
    assert!(unasked.errors.contains("were not looked for"), "{unasked:?}");
}

#[test]
fn names_that_dm_crypt_takes_open_and_are_shown_as_they_stand_there() {
    let place = Place::of_this_user();
    for (mode, hash) in [
        ("xts-plain64:sha256", "sha256"),
        ("xts-plain64", "SHA256"),
        ("xts-plain64", "sha2-256"),
        ("XTS-PLAIN64:x:y", "SHA2-256"),
    ] {
        place.done(LUKS1);
        let file = OpenOptions::new().write(true).open(place.path("c")).unwrap();
        for (offset, name) in [(40, mode), (72, hash)] {
            let mut field = [0; 32];
            field[..name.len()].copy_from_slice(name.as_bytes());
            file.write_all_at(&field, offset).unwrap();
        }
        place.done("key test c --password-file password");
        assert_eq!(place.json("info c")["cipher"], format!("aes-{mode}"));
        place.shell("rm c");
    }
}

#[test]
fn new_passwords_that_nobody_can_type_are_warned_of_and_failures_say_what_may_be_wrong() {
    let place = Place::of_this_user();
    place.make_file("windows", format!("{PASSWORD}\r\n"));
    place.make_file("accents", "pässword of größer letters\n");
    let create = format!("create v --size 4M --filesystem none --provision thin {CHEAP}");
    let made = place.strongroom(&format!("{create} --password-file windows"));
    assert_eq!(made.status, Some(0), "{made:?}");
    assert_eq!(made.errors.matches("warning").count(), 1, "{made:?}");
    assert!(made.errors.contains("ends with a carriage return"), "{made:?}");
    place.shell("rm v");
    let made = place.strongroom(&format!("{create} --password-file password"));
    assert_eq!((made.status, made.errors.contains("nobody can type")), (Some(0), false), "{made:?}");
    for (file, hint) in [("windows", "carriage return"), ("accents", "two ways")] {
        let failed = place.strongroom(&format!("key test v --password-file {file}"));
        assert_eq!(failed.status, Some(2), "{failed:?}");
        assert!(failed.errors.contains("hint: ") && failed.errors.contains(hint), "{failed:?}");
    }
    place.make_file("nothing", "");
    let failed = place.strongroom("key test v --password-file nothing");
    assert!(failed.errors.contains("--keyfile /dev/null"), "{failed:?}");
}

#[test]
fn what_shows_what_it_is_is_not_opened_as_what_shows_nothing() {
    let place = Place::of_this_user();
    place.done(&format!(
        "create w.hc --size 4M --filesystem none --provision quick {CHEAP} --password-file password"
    ));
    for format in ["veracrypt", "truecrypt", "freeotfe"] {
        let refused = place.strongroom(&format!("key test w.hc --format {format} --password-file password"));
        assert_eq!(refused.status, Some(1), "{format}: {refused:?}");
        assert!(refused.errors.contains("it is a native container"), "{format}: {refused:?}");
    }
}
