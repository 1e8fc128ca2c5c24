//! Headers that stand elsewhere than somebody looks, or are about to be put where something else lies: nothing is opened or
//! written there, and the place is named.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod luks_image;
mod place;

use std::fs;

use luks_image::{COPY_LEN, UUID, luks2};
use place::{PASSWORD, Place};
use strongroom::crypto::crc::crc32;

const VERACRYPT: &str = "--format veracrypt --prf sha512 --pim 1 --password-file password";
const NATIVE: &str = "--kdf-memory 64M --kdf-passes 3 --kdf-lanes 2 --password-file password -q";
const LEN: usize = 2 << 20;
const SECRET: &[u8] = b"secret";

fn with_veracrypt(name: &str) -> Place {
    let place = Place::of_this_user();
    make(&place, name);
    place
}

fn make(place: &Place, name: &str) {
    place.done(&format!("create {name} --size 2M --filesystem vfat --provision quick {VERACRYPT} -q"));
}

fn with_luks2() -> Place {
    let place = Place::of_this_user();
    place.make_file("secret", SECRET);
    place.make_file("c", luks2(SECRET));
    place.done("header backup c c.h -q");
    place
}

/// Bytes that look like nothing.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[5]
        })
        .collect()
}

// proves: VC-PLACE-04
/// Its backup header is where one of the whole medium would be.
#[test]
fn a_veracrypt_container_at_the_end_of_a_longer_medium_is_opened_where_it_begins_and_nowhere_else() {
    let place = with_veracrypt("c");
    place.make_file("new", "another one of more than twenty bytes");
    place.done(&format!("export c plain --yes {VERACRYPT} -q"));
    for front in [vec![0; 1 << 20], noise(3 << 20), noise(512)] {
        let start = front.len();
        let disk = [front, place.bytes("c")].concat();
        place.make_file("d", &disk);
        let hint = format!("--offset {start} opens it there");
        for command in [
            "key test d",
            "key test d --backup-header",
            "info d",
            "check d",
            "export d out --yes",
            "header backup d h",
            "header repair d --yes --force",
            "header repair d --backup-header --yes --force",
            "key change d --new-password-file new",
            "mount d m --block",
            "mount d m --block --read-only --backup-header",
        ] {
            let refused = place.strongroom(&format!("{command} {VERACRYPT}"));
            assert_eq!(refused.status, Some(4), "{start}: {command}: {refused:?}");
            assert!(
                (refused.out + &refused.errors).contains(&hint),
                "{start}: {command}: {:?}",
                refused.errors
            );
            assert!(place.bytes("d") == disk, "{start}: {command}");
        }
        let found = place.done(&format!("header repair --scan d {VERACRYPT}"));
        assert!(
            found.contains(&format!("offset {start}: veracrypt container, opened by its header")),
            "{found}"
        );
        let opens =
            format!("strongroom mount d MOUNTPOINT --offset {start} --format veracrypt --pim 1 opens it");
        assert!(found.contains(&opens), "{found}");
        place.done(&format!("export d out --yes --offset {start} {VERACRYPT} -q"));
        assert!(place.bytes("out") == place.bytes("plain"));
        fs::remove_file(place.path("out")).unwrap();

        // Only the copy is left.
        let mut harmed = disk.clone();
        harmed[start..start + 512].fill(0);
        place.make_file("d", &harmed);
        let found = place.done(&format!("header repair --scan d {VERACRYPT}"));
        let opens = format!("--offset {start} --format veracrypt --backup-header --pim 1 opens it");
        assert!(found.contains(&opens), "{found}");
        place.done(&format!("key test d --offset {start} --backup-header {VERACRYPT}"));
        place.done(&format!("header repair d --offset {start} --backup-header --yes {VERACRYPT} -q"));
        let repaired = place.bytes("d");
        assert!(repaired[..start] == disk[..start], "nothing before it is written");
        place.done(&format!("key test d --offset {start} {VERACRYPT}"));
        place.shell("rm -f d.replaced*");
    }
}

#[test]
fn where_the_first_bytes_of_a_veracrypt_container_are_missing_that_is_said_with_what_brings_it_back() {
    let place = with_veracrypt("c");
    place.make_file("d", &place.bytes("c")[1024..]);
    let before = place.bytes("d");
    for command in ["key test d", "header repair d --yes --force", "mount d m --block --read-only"] {
        let refused = place.strongroom(&format!("{command} {VERACRYPT}"));
        assert_eq!(refused.status, Some(4), "{command}: {refused:?}");
        assert!(refused.errors.contains("the first 1024 bytes of the container are missing"), "{refused:?}");
        assert!(place.bytes("d") == before);
    }
    let told = place.done(&format!("header repair --scan d {VERACRYPT}"));
    assert!(told.contains("(head -c 1024 /dev/zero; cat d) > NEW"), "{told}");
    place.shell("(head -c 1024 /dev/zero; cat d) > NEW");
    place.done(&format!("key test NEW --backup-header {VERACRYPT}"));
}

/// What lies in the volume tells that it is here: the copy at the end was written after the container had been made longer.
#[test]
fn a_copy_at_the_end_of_a_container_that_was_made_longer_opens_where_its_data_are_known() {
    let place = with_veracrypt("c");
    let longer = [place.bytes("c"), vec![0; 1 << 20]].concat();
    place.make_file("c", longer);
    place.make_file("new", "another one of more than twenty bytes");
    place.done(&format!("key change c --new-password-file new {VERACRYPT} -q"));
    let new = VERACRYPT.replace("password-file password", "password-file new");
    // VeraCrypt itself would have put it at the very end.
    place.shell("dd if=c of=c bs=512 count=1 skip=3840 seek=5888 conv=notrunc status=none");
    place.done(&format!("key test c --backup-header {new}"));
    place.shell("dd if=/dev/zero of=c bs=512 count=1 conv=notrunc status=none");
    place.done(&format!("key test c --backup-header {new}"));
    place.done(&format!("header repair c --backup-header --yes {new} -q"));
    place.done(&format!("key test c {new}"));
}

/// What follows a container in the same file or on the same disk is another's.
#[test]
fn no_command_writes_behind_a_veracrypt_container() {
    // proves: VC-PLACE-06
    let place = with_veracrypt("c");
    make(&place, "behind");
    place.done(&format!("header backup c h {VERACRYPT} -q"));
    place.make_file("new", "another one of more than twenty bytes");
    let behind = place.bytes("behind");
    place.make_file("both", [place.bytes("c"), behind.clone()].concat());
    let len = behind.len();
    let stays = |what: &str| {
        assert!(place.bytes("both")[len..] == behind, "{what}");
        place.shell("head -c 2M both > front");
    };
    let new = VERACRYPT.replace("password-file password", "password-file new");
    let done = place.strongroom(&format!("key change both --new-password-file new {VERACRYPT}"));
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(done.errors.contains("2097152 bytes lie behind the container and stay as they are"), "{done:?}");
    stays("key change");
    place.done(&format!("key test front --backup-header {new}"));
    place.done(&format!("header repair both --yes {new} -q"));
    stays("header repair");
    let refused = place.strongroom(&format!("header restore both h --yes {VERACRYPT}"));
    assert!(refused.errors.contains("a container of 2097152 bytes, and this one has 4194304"), "{refused:?}");
    for force in ["--force", ""] {
        place.done(&format!("header restore both h --yes {force} {VERACRYPT} -q"));
        stays("header restore");
    }
    place.done(&format!("key test front --backup-header {VERACRYPT}"));

    let told = place.done(&format!("check both {VERACRYPT}"));
    assert!(told.contains("resize does not take it unasked"), "{told}");
    for size in ["max", "4M", "+2M"] {
        let size = if size == "max" { "4194304" } else { size };
        let refused = place.strongroom(&format!("resize both {size} {VERACRYPT}"));
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(
            refused.errors.contains("2097152 bytes behind its end (byte 2097152) would be overwritten"),
            "{refused:?}"
        );
        stays("resize");
    }
    place.done(&format!("resize both 4M --force {VERACRYPT} -q"));
    place.done(&format!("key test both --backup-header {VERACRYPT}"));
    // The places that are named are those of the file.
    place.make_file("d", [vec![0; 1 << 20], place.bytes("c"), behind].concat());
    let refused = place.strongroom(&format!("resize d max --offset 1048576 {VERACRYPT}"));
    assert!(refused.errors.contains("2097152 bytes behind its end (byte 3145728)"), "{refused:?}");
    let done =
        place.strongroom(&format!("key change d --offset 1048576 --new-password-file new {VERACRYPT}"));
    assert!(done.errors.contains("its backup header is at byte 3014656"), "{done:?}");
}

/// Behind a lost partition table: what is left of a header shows a container as well as a whole one does.
#[test]
fn no_header_goes_over_a_container_farther_on_whose_own_header_is_damaged() {
    let place = with_luks2();
    let whole = place.bytes("c");
    let mut other = luks2(b"other");
    for start in [0, COPY_LEN] {
        other[start + 168..start + 176].copy_from_slice(b"38632274");
        luks_image::make_checksum_right(&mut other[start..start + COPY_LEN]);
    }
    let zeroed = |mut bytes: Vec<u8>| {
        bytes[..COPY_LEN].fill(0);
        bytes
    };
    let wiped = |mut bytes: Vec<u8>| {
        bytes[..6].fill(0);
        bytes[COPY_LEN..COPY_LEN + 6].fill(0);
        bytes
    };
    for there in [other.clone(), zeroed(other.clone()), wiped(other.clone())] {
        let disk = [vec![0; 512 << 10], there, vec![0; 1 << 20]].concat();
        place.make_file("d", &disk);
        let refused = place.strongroom("header restore d c.h --yes");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("--offset 524288"), "{refused:?}");
        assert!(place.bytes("d") == disk);
    }
    // Where a container of another format shows, that to which the header belongs is named all the same.
    place.done(&format!("create n --size 4M --filesystem none --provision quick {NATIVE}"));
    place.make_file("d", [vec![0; 1 << 20], wiped(whole), vec![0; 1 << 20], place.bytes("n")].concat());
    let refused = place.strongroom("header restore d c.h --yes");
    assert!(refused.errors.contains("--offset 1048576"), "{refused:?}");
    assert!(!refused.errors.contains("--force"), "{refused:?}");
}

#[test]
fn what_puts_a_header_back_that_was_kept_names_its_place() {
    let place = with_luks2();
    place.make_file("d", [vec![0; 1 << 20], place.bytes("c")].concat());
    let restored = place.strongroom("header restore d c.h --yes --offset 1048576");
    assert_eq!(restored.status, Some(0), "{restored:?}");
    assert!(
        restored.errors.contains("strongroom header restore --offset 1048576 puts it back"),
        "{restored:?}"
    );
}

#[test]
fn what_shows_no_end_is_erased_where_it_may_end_and_nothing_more_is_claimed() {
    let place = with_veracrypt("c");
    let whole = place.bytes("c");
    let mut luks = luks2(SECRET);
    luks.extend(noise(1 << 20));
    for behind in [vec![0; 1 << 20], vec![b'a'; 1 << 20], luks2(SECRET), luks] {
        let longer = [whole.clone(), behind].concat();
        place.make_file("longer", &longer);
        let refused = place.strongroom("erase longer --yes --format veracrypt");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        let says =
            ["it ends before, where a header is that opens it", "a luks2 header stands at byte 2097152"];
        assert!(says.iter().any(|said| refused.errors.contains(said)), "{refused:?}");
        assert!(place.bytes("longer") == longer);
    }
    place.make_file("longer", [whole.clone(), noise(1 << 20)].concat());
    for (name, options) in [("longer", ""), ("c", "--force")] {
        let erased = place.strongroom(&format!("erase {name} --yes --format veracrypt {options}"));
        assert_eq!(erased.status, Some(0), "{erased:?}");
        assert!(!erased.errors.contains("no password will ever"), "{erased:?}");
        assert!(erased.errors.contains("if it ended before the file or device does"), "{erased:?}");
    }
}

#[test]
fn a_native_container_grows_over_nothing_unasked() {
    let place = Place::of_this_user();
    for provision in ["thick", "thin", "quick"] {
        place.done(&format!("create n --size 4M --filesystem none --provision {provision} {NATIVE}"));
        for behind in [noise(4 << 20), vec![b'a'; 4 << 20]] {
            let both = [place.bytes("n"), behind].concat();
            place.make_file("both", &both);
            let refused = place.strongroom("resize both 8M --password-file password");
            assert_eq!(refused.status, Some(5), "{refused:?}");
            assert!(refused.errors.contains("4194304 bytes behind its end"), "{refused:?}");
            assert!(place.bytes("both") == both);
        }
        place.shell("cp n both; truncate -s 8M both");
        place.done("resize both 8M --password-file password -q");
        fs::remove_file(place.path("n")).unwrap();
    }
}

// proves: VC-BACKUP-03
#[test]
fn a_veracrypt_header_is_restored_to_its_own_container_or_by_force() {
    let place = with_veracrypt("c");
    make(&place, "other");
    place.done(&format!("header backup c h {VERACRYPT} -q"));
    place.make_file("noise", noise(LEN));
    let mut longer = [place.bytes("c"), vec![0; 1 << 20]].concat();
    longer[..512].fill(0);
    longer[131_072..262_144].fill(7);
    place.make_file("longer", longer);
    for (name, status, reason) in [
        ("noise", 5, "if it is another container, its data are lost"),
        ("other", 5, "if it is another container, its data are lost"),
        ("longer", 4, "it is the header of a container of 2097152 bytes, and this one has 3145728"),
    ] {
        let before = place.bytes(name);
        let refused = place.strongroom(&format!("header restore {name} h --yes {VERACRYPT}"));
        assert_eq!(refused.status, Some(status), "{name}: {refused:?}");
        assert!(refused.errors.contains(reason), "{name}: {refused:?}");
        assert!(place.bytes(name) == before, "{name}");
    }
    place.done(&format!("header restore c h --yes {VERACRYPT} -q"));
    // Both headers are gone, and what lies in the volume shows.
    place.shell(
        "for at in 0 30; do dd if=/dev/urandom of=c bs=65536 seek=$at count=2 conv=notrunc status=none; done",
    );
    assert_eq!(place.strongroom(&format!("key test c {VERACRYPT}")).status, Some(2));
    place.done(&format!("header restore c h --yes {VERACRYPT} -q"));
    place.done(&format!("key test c {VERACRYPT}"));
    let forced = place.strongroom(&format!("header restore noise h --yes --force {VERACRYPT}"));
    assert_eq!(forced.status, Some(0), "{forced:?}");
    assert!(forced.errors.contains("its data are lost"), "{forced:?}");
}

#[test]
fn a_backup_of_a_veracrypt_header_is_tested_by_itself_and_not_mounted() {
    let place = with_veracrypt("c");
    place.done(&format!("header backup c h {VERACRYPT} -q"));
    assert_eq!(place.done(&format!("key test h {VERACRYPT}")), "the container opens\n");
    assert!(place.done(&format!("key list h {VERACRYPT}")).contains("pbkdf2-sha512"));
    place.make_file("password", "not the password, but as long as one");
    assert_eq!(place.strongroom(&format!("key test h {VERACRYPT}")).status, Some(2));
    place.make_file("password", PASSWORD);
    let refused = place.strongroom(&format!("mount h m {VERACRYPT}"));
    assert_eq!(refused.status, Some(4), "{refused:?}");
    assert!(refused.errors.contains("a header without its container"), "{refused:?}");
    assert!(refused.errors.contains("header restore puts it into its container"), "{refused:?}");
}

/// A disk on which only the second copy of the GPT is left: partition 1 begins at 32 KiB.
fn put_backup_gpt(disk: &mut [u8]) {
    let (sectors, entries_at) = (disk.len() / 512, disk.len() - 33 * 512);
    let mut entries = vec![0; 128 * 128];
    entries[..16].copy_from_slice(b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4");
    entries[32] = 64;
    let mut header = vec![0; 92];
    header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
    let number = |bytes: &mut [u8], at: usize, number: usize| {
        bytes[at..at + 8].copy_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
    };
    number(&mut entries, 40, sectors - 40);
    number(&mut header, 24, sectors - 1);
    number(&mut header, 72, entries_at / 512);
    header[80] = 128;
    header[84] = 128;
    header[88..].copy_from_slice(&crc32(&entries).to_le_bytes());
    let sum = crc32(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    disk[entries_at..][..entries.len()].copy_from_slice(&entries);
    let last = disk.len() - 512;
    disk[last..][..92].copy_from_slice(&header);
}

#[test]
fn no_header_goes_over_a_partition_or_a_container_that_begins_behind_the_start() {
    let place = with_luks2();
    let container = place.bytes("c");
    let mut nothing_in_it = vec![0; (96 << 10) + container.len()];
    put_backup_gpt(&mut nothing_in_it);
    let shifted = |by: usize| [vec![0; by], container.clone()].concat();
    for (disk, option) in [
        (nothing_in_it, "--partition 1"),
        (shifted(4096), "--offset 4096"),
        (shifted(32 << 10), "--offset 32768"),
    ] {
        place.make_file("d", &disk);
        let refused = place.strongroom("header restore d c.h --yes");
        assert_eq!(refused.status, Some(5), "{option}: {refused:?}");
        assert!(refused.errors.contains(&format!("if the header belongs there: {option};")), "{refused:?}");
        assert!(place.bytes("d") == disk, "{option}");

        let restored = place.strongroom(&format!("header restore d c.h --yes {option}"));
        assert_eq!(restored.status, Some(0), "{option}: {restored:?}");
        place.done(&format!("key test d {option} --password-file secret"));
        let mut forced = place.strongroom("header restore d c.h --yes --force");
        if option == "--partition 1" {
            // By now the partition bears it.
            assert_eq!(forced.status, Some(1), "{forced:?}");
            forced = place.strongroom("header restore d c.h --yes --force --offset 0");
        }
        assert_eq!(forced.status, Some(0), "{forced:?}");
        assert!(forced.errors.contains(&format!("belongs there: {option}")), "{forced:?}");
        place.shell("rm -f d.replaced*");
    }
}

/// What is written at the end of a container lies inside another one, or the same one farther on.
#[test]
fn no_copy_of_a_header_goes_into_a_container_that_begins_before_it() {
    let place = Place::of_this_user();
    place.done(&format!("create n --size 4M --filesystem none --provision thick {NATIVE}"));
    place.done("header backup n n.h -q");
    for start in [63 * 512, 2048, 1 << 20] {
        let disk = [vec![0; start], place.bytes("n")].concat();
        place.make_file("d", &disk);
        let refused = place.strongroom("header restore d n.h --yes --password-file password");
        assert_eq!(refused.status, Some(5), "{start}: {refused:?}");
        let reason = format!("a native header stands at byte {start}");
        assert!(refused.errors.contains(&reason), "{start}: {refused:?}");
        let way = format!("if the header belongs there: --offset {start};");
        assert!(refused.errors.contains(&way), "{start}: {refused:?}");
        assert!(place.bytes("d") == disk, "{start}");
        let there = format!("header restore d n.h --yes --offset {start} --password-file password");
        assert_eq!(place.strongroom(&there).status, Some(0), "{start}");
    }
    // What is forced is told in full.
    let forced = place.strongroom("header restore d n.h --yes --force --password-file password");
    let second = (4 << 20) - (1 << 20);
    let places = format!("its first 65536 bytes, and 65536 from byte {second} will be overwritten");
    assert!(forced.errors.contains(&places), "{forced:?}");
    assert!(forced.errors.contains(&format!("its container reaches to byte {second}")), "{forced:?}");
}

/// Bytes, and where they stand.
type Patches = &'static [(usize, &'static [u8])];

#[test]
fn no_header_goes_over_a_file_system_a_table_or_swap_space_that_begins_behind_the_start() {
    let place = with_luks2();
    place.done(&format!("create n --size 4M --filesystem none --provision thick {NATIVE}"));
    place.done("header backup n n.h -q");
    let ext4: Patches = &[(1080, &[0x53, 0xef]), (1024 + 0x60, &[0x40, 0, 0, 0])];
    let cases: [(&str, Patches); 5] = [
        ("an ext4 file system", ext4),
        ("a btrfs file system", &[(0x1_0040, b"_BHRfS_M")]),
        ("swap space", &[(4086, b"SWAPSPACE2")]),
        ("an LVM physical volume", &[(512, b"LABELONE")]),
        ("a BitLocker volume", &[(3, b"-FVE-FS-")]),
    ];
    for (name, patches) in cases {
        for start in [1 << 20, 63 * 512, 8192] {
            let mut disk = vec![0; 5 << 20];
            for (at, bytes) in patches {
                disk[start + at..][..bytes.len()].copy_from_slice(bytes);
            }
            place.make_file("d", &disk);
            let native = place.strongroom("header restore d n.h --yes --password-file password");
            // The LUKS header takes less than a MiB here.
            let luks = place.strongroom("header restore d c.h --yes");
            for refused in [Some(native), Some(luks).filter(|_| start < 1 << 20)].into_iter().flatten() {
                assert_eq!(refused.status, Some(5), "{name} at {start}: {refused:?}");
                let reason = format!("{name} begins at byte {start}");
                assert!(refused.errors.contains(&reason), "{name} at {start}: {refused:?}");
                assert!(!refused.errors.contains("belongs there"), "{refused:?}");
                assert!(!refused.errors.contains("was there is kept"), "{refused:?}");
            }
        }
    }
    // Files are no part of a disk: their few bytes are there by chance.
    let mut disk = vec![0; 5 << 20];
    disk[8192..8196].copy_from_slice(b"\x1f\x8b\x08\0");
    place.make_file("d", &disk);
    assert_eq!(place.strongroom("header restore d c.h --yes").status, Some(0));
}

/// A table at the start, whose partition 1 begins at 32 KiB.
fn put_mbr(disk: &mut [u8]) {
    let sectors = u32::try_from(disk.len() / 512 - 64).unwrap();
    disk[446..510].fill(0);
    disk[450] = 0x83;
    disk[454..458].copy_from_slice(&64_u32.to_le_bytes());
    disk[458..462].copy_from_slice(&sectors.to_le_bytes());
    disk[510..512].copy_from_slice(b"\x55\xaa");
}

#[test]
fn over_a_table_of_partitions_the_refusal_names_the_partition_and_where_it_bears_the_header_force_changes_nothing()
 {
    let place = with_luks2();
    place.done(&format!("create n --size 4M --filesystem none --provision thick {NATIVE}"));
    place.done("header backup n n.h -q");
    for (name, restore) in
        [("c", "header restore d c.h --yes"), ("n", "header restore d n.h --yes --password-file password")]
    {
        let mut disk = [vec![0; 32 << 10], place.bytes(name)].concat();
        put_mbr(&mut disk);
        place.make_file("d", &disk);
        for command in [restore.to_owned(), format!("{restore} --force")] {
            let refused = place.strongroom(&command);
            assert_eq!(refused.status, Some(1), "{command}: {refused:?}");
            assert!(
                refused.errors.contains("partition 1 holds the container that this header belongs to"),
                "{refused:?}"
            );
            assert!(refused.errors.contains("--partition 1 restores it there"), "{refused:?}");
            assert!(place.bytes("d") == disk, "{command}");
        }
        // Its header is lost: only the table shows where it belongs.
        disk[32 << 10..].fill(0);
        place.make_file("d", &disk);
        let refused = place.strongroom(restore);
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("if the header belongs there: --partition 1"), "{refused:?}");
        assert!(place.bytes("d") == disk);
        let restored = place.strongroom(&format!("{restore} --partition 1"));
        assert_eq!(restored.status, Some(0), "{restored:?}");
    }
}

/// A disk that was "initialised": the copy at the end opens the volume, and the table may be of something new.
#[test]
fn under_a_new_table_a_veracrypt_volume_is_read_and_its_header_made_anew_by_force_only() {
    // proves: VC-PLACE-05
    let place = Place::of_this_user();
    make(&place, "c");
    let mut disk = place.bytes("c");
    put_mbr(&mut disk);
    place.make_file("c", &disk);
    let found = place.done(&format!("header repair --scan c {VERACRYPT}"));
    assert!(found.contains("--backup-header --pim 1 --read-only opens it"), "{found}");
    assert!(!found.contains("--pim 1 opens it"), "{found}");
    assert!(found.contains("--backup-header --pim 1 makes its header anew"), "{found}");
    let refused = place.strongroom(&format!("mount c m --block --backup-header {VERACRYPT}"));
    assert!(refused.errors.contains("a partition table is in the place of its header"), "{refused:?}");
    let repair = format!("header repair c --backup-header --yes {VERACRYPT}");
    assert_eq!(place.strongroom(&repair).status, Some(5));
    assert!(place.bytes("c") == disk);
    let forced = place.strongroom(&format!("{repair} --force"));
    assert_eq!(forced.status, Some(0), "{forced:?}");
    place.done(&format!("key test c {VERACRYPT}"));

    // What shows no signature that is known, and is no header either.
    disk[..65_536].fill(0);
    disk[1024..1026].copy_from_slice(b"BD");
    place.make_file("c", &disk);
    let refused = place.strongroom(&format!("resize c +2M --backup-header {VERACRYPT}"));
    assert!(
        refused.errors.contains("something that is no header is in the place of its header"),
        "{refused:?}"
    );
    assert!(place.bytes("c") == disk);
    disk[1024..1026].fill(0);
    place.make_file("c", &disk);
    let refused = place.strongroom(&format!("resize c +2M --backup-header {VERACRYPT}"));
    assert!(refused.errors.contains("only the backup header opens"), "{refused:?}");
}

#[test]
fn a_container_that_begins_elsewhere_is_erased_there() {
    let place = Place::of_this_user();
    place.done(&format!("create n --size 4M --filesystem none --provision thick {NATIVE}"));
    let disk = [vec![0; 3 << 20], place.bytes("n")].concat();
    place.make_file("d", &disk);
    let refused = place.strongroom("erase d --yes");
    assert_eq!(refused.status, Some(4), "{refused:?}");
    assert!(refused.errors.contains("begins elsewhere"), "{refused:?}");
    assert!(place.bytes("d") == disk);
    // Behind it lies somebody's.
    let more = [disk.clone(), vec![7; 1 << 20]].concat();
    place.make_file("more", &more);
    let refused = place.strongroom(&format!("erase more --yes --offset {}", 3 << 20));
    assert_eq!(refused.status, Some(5), "{refused:?}");
    assert!(refused.errors.contains("1048576 bytes lie behind the container"), "{refused:?}");
    assert!(place.bytes("more") == more);
    place.done(&format!("erase d --yes --offset {}", 3 << 20));
    assert_eq!(
        place.strongroom(&format!("key test d --offset {} --password-file password", 3 << 20)).status,
        Some(4)
    );
}

#[test]
fn a_scan_of_a_disk_says_nothing_untrue_of_a_whole_container_in_a_partition() {
    let place = Place::of_this_user();
    place.done(&format!("create n --size 4M --filesystem none --provision thick {NATIVE}"));
    let mut disk = [vec![0; 32 << 10], place.bytes("n")].concat();
    put_mbr(&mut disk);
    place.make_file("d", &disk);
    let looked = place.strongroom("header repair --scan d");
    assert_eq!(looked.status, Some(0), "{looked:?}");
    assert!(!looked.errors.contains("--offset names"), "{looked:?}");
    disk[(32 << 10) + 100] ^= 1;
    place.make_file("d", &disk);
    let looked = place.strongroom("header repair --scan d --partition 1");
    assert!(looked.out.contains("strongroom header repair d --partition 1 rebuilds it"), "{looked:?}");
    place.done("header repair d --partition 1 --password-file password -q");
    // Told is where the container begins, not where the copy stands.
    disk[32 << 10..][..64 << 10].fill(0);
    place.make_file("d", &disk);
    let found = place.json("header repair --scan d");
    let copy = &found["copies"][0]["offset"];
    let restored = place.strongroom(&format!(
        "header repair --scan d --offset {copy} --yes --force --password-file password"
    ));
    assert_eq!(restored.status, Some(0), "{restored:?}");
    assert!(
        restored.errors.contains("restored the header of what begins at byte 32768 of d"),
        "{restored:?}"
    );
}

#[test]
fn what_restores_a_partitions_header_names_the_partition() {
    let place = with_luks2();
    let mut disk = [vec![0; 32 << 10], place.bytes("c"), vec![0; 64 << 10]].concat();
    put_backup_gpt(&mut disk);
    place.make_file("d", &disk);
    let restored = place.strongroom("header restore d c.h --yes --partition 1");
    assert!(restored.errors.contains("restored the header of partition 1 of d from c.h"), "{restored:?}");
    let erased = place.strongroom("erase d --yes --offset 32768");
    assert!(erased.errors.contains("erased what begins at byte 32768 of d:"), "{erased:?}");
}

#[test]
fn a_backup_in_the_place_of_its_container_is_not_overwritten() {
    let place = with_luks2();
    let before = place.bytes("c.h");
    let refused = place.strongroom("header restore c.h c --yes");
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.errors.contains("it is a header without its container"), "{refused:?}");
    assert!(refused.errors.contains("the container comes first"), "{refused:?}");
    assert!(place.bytes("c.h") == before);
}

#[test]
fn members_of_a_pool_or_a_raid_are_overwritten_by_force_only() {
    let place = with_luks2();
    let len = place.bytes("c").len().next_multiple_of(1 << 20) + 4096;
    let end = len & !0xffff;
    for (at, magic, name) in [
        (132 << 10, &b"\x0c\xb1\xba\0\0\0\0\0"[..], "ZFS pool"),
        (end - 65_536, b"\xfc\x4e\x2b\xa9\0\0\0\0\x5a\0\0\0", "RAID"),
        (len - 8192, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "RAID"),
    ] {
        let mut bytes = vec![0; len];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        place.make_file("member", &bytes);
        let refused = place.strongroom("header restore member c.h --yes");
        assert_eq!(refused.status, Some(5), "{name}: {refused:?}");
        assert!(refused.errors.contains(name), "{name}: {refused:?}");
        assert!(place.bytes("member") == bytes);
        let named = place.strongroom("info member");
        assert!(named.errors.contains(name) && named.errors.contains("as root"), "{name}: {named:?}");
    }
}

/// The command that puts back what was overwritten is run by a shell as it stands.
#[test]
fn the_command_that_puts_back_takes_a_path_for_a_path() {
    let place = with_luks2();
    for name in ["my disk's $(touch PWNED).img", "a\nb\u{202e}c", "-f"] {
        place.make_file(name, noise(LEN));
        let before = place.bytes(name);
        place.make_file("name", name);
        let restored = place.strongroom("header restore \"./$(cat name)\" c.h --yes --force");
        assert_eq!(restored.status, Some(0), "{name:?}: {restored:?}");
        assert!(!restored.errors.contains('\u{202e}'), "{name:?}: {restored:?}");
        let kept: Vec<_> = restored.errors.lines().filter(|line| line.contains(" is kept in ")).collect();
        let [kept] = kept.as_slice() else { panic!("{name:?}: {restored:?}") };
        let command = &kept[kept.find("dd if=").unwrap()..kept.rfind(" puts it back").unwrap()];
        assert!(place.bytes(name) != before);
        // As one would in a terminal.
        let put_back =
            place.command("bash").args(["-c", &format!("{command} status=none")]).output().unwrap();
        assert!(put_back.status.success(), "{command}: {put_back:?}");
        assert!(place.bytes(name) == before, "{name:?}: {command}");
        assert!(!place.path("PWNED").exists());
    }
}

#[test]
fn a_scan_says_what_is_missing_and_never_that_there_is_no_header() {
    let place = with_luks2();
    let container = place.bytes("c");
    place.make_file("headless", &container[512..]);
    let told = place.strongroom("header repair --scan headless");
    assert_eq!(told.status, Some(4), "{told:?}");
    assert!(told.errors.contains("the first 512 bytes of its LUKS2 container are missing"), "{told:?}");
    assert!(!told.errors.contains("none of LUKS") && !told.errors.contains("VeraCrypt"), "{told:?}");
    place.shell("(head -c 512 /dev/zero; cat headless) > NEW");
    place.done("header repair --scan NEW --yes -q");
    assert_eq!(place.json("info NEW")["uuid"], UUID);
    place.done("key test NEW --password-file secret");

    place.make_file("cut", &container[..COPY_LEN + 4096]);
    let told = place.strongroom("header repair --scan cut");
    assert!(told.errors.contains("no whole header"), "{told:?}");
    place.make_file("cut", &container[..400_000]);
    let told = place.strongroom("info cut");
    assert!(told.errors.contains("it ends at byte 400000: it was cut short"), "{told:?}");
    assert!(!told.out.contains("renew keyslot"), "{told:?}");
    let unaligned = [vec![0; 777], container].concat();
    place.make_file("unaligned", unaligned);
    let told = place.strongroom("header repair --scan unaligned");
    assert!(told.errors.contains("a multiple of 512"), "{told:?}");
    place.done("key test unaligned --offset 777 --password-file secret");
}

/// The old copy B lies where that of a container in the partition would be.
#[test]
fn the_end_of_an_older_container_in_a_partition_is_no_container() {
    let place = Place::of_this_user();
    for provision in ["thin", "thick"] {
        place.done(&format!("create n --size 4M --filesystem none --provision {provision} {NATIVE}"));
        let mut disk = place.bytes("n");
        disk[..512].fill(0);
        disk[446..462].copy_from_slice(b"\0\x20\x21\0\x83\xfe\xff\xff\0\x08\0\0\0\x18\0\0");
        disk[510..512].copy_from_slice(b"\x55\xaa");
        place.make_file("n", &disk);
        let told = place.strongroom("info n");
        assert!(told.out.contains("partition 1 at byte 1048576 holds nothing known"), "{told:?}");
        let refused = place.strongroom("mount n m --block --password-file password");
        assert_eq!(refused.status, Some(4), "{provision}: {refused:?}");
        assert!(refused.errors.contains("is left from before"), "{provision}: {refused:?}");
        let inside = place.strongroom("mount n m --block --partition 1 --password-file password");
        assert_eq!(inside.status, Some(4), "{provision}: {inside:?}");
        for ended in [told, refused, inside] {
            assert!(!ended.errors.contains("header restore"), "{provision}: {ended:?}");
        }
        fs::remove_file(place.path("n")).unwrap();
    }
}
