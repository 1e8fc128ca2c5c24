//! LUKS headers on the command line: looked for, rebuilt, backed up, restored; and what stands in their place by then.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod luks_image;
mod place;

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, process::Command};

use luks_image::{COPY_LEN, DATA_OFFSET, luks1, luks2, luks2_of, make_checksum_right, metadata};
use place::{CHEAP, Place, is_skipped};
use rustix::process::geteuid;

const SECRET: &[u8] = b"secret";
const UUID: &str = luks_image::UUID;
const OTHER_UUID: &[u8; 36] = b"00000000-1111-4222-8333-444444444444";

fn place() -> Place {
    let place = Place::of_this_user();
    place.make_file("secret", SECRET);
    place.make_file("c2", luks2(SECRET));
    place.make_file("c1", luks1(SECRET));
    place
}

/// One partition, as a program leaves it that "initialises" a disk.
fn put_partition_table(bytes: &mut [u8]) {
    bytes[..512].fill(0);
    bytes[446..462].copy_from_slice(b"\0\x01\x01\0\x83\xfe\xff\xff\x01\0\0\0\xff\xbf\0\0");
    bytes[510..512].copy_from_slice(b"\x55\xaa");
}

/// The same by a program that leaves the bytes before the table, for a boot loader: `sfdisk`.
fn put_partition_table_alone(bytes: &mut [u8]) {
    bytes[440..444].copy_from_slice(b"disk");
    bytes[446..510].fill(0);
    bytes[446..462].copy_from_slice(b"\0\x01\x01\0\x83\xfe\xff\xff\x01\0\0\0\xff\xbf\0\0");
    bytes[510..512].copy_from_slice(b"\x55\xaa");
}

/// Another container of the same making.
fn stranger() -> Vec<u8> {
    let mut bytes = luks2(SECRET);
    for start in [0, COPY_LEN] {
        bytes[start + 168..start + 204].copy_from_slice(OTHER_UUID);
        make_checksum_right(&mut bytes[start..start + COPY_LEN]);
    }
    bytes
}

#[test]
fn a_scan_finds_luks_headers_at_any_offset_and_says_what_gets_at_them() {
    let place = place();
    for (name, format) in [("c1", "luks1"), ("c2", "luks2")] {
        let shifted = [vec![0; 5 * 512], place.bytes(name)].concat();
        place.make_file("disk", &shifted);
        let ended = place.strongroom("header repair --scan disk --yes");
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(
            ended.out.contains(&format!("offset 2560: {format} header of container {UUID}")),
            "{ended:?}"
        );
        assert!(ended.out.contains("strongroom mount disk MOUNTPOINT --offset 2560 opens it"), "{ended:?}");
        assert_eq!(place.bytes("disk"), shifted, "nothing is written");
        assert_eq!(place.done("key test disk --offset 2560 --password-file secret"), "keyslot 0 opens\n");
        let told = place.json("header repair --scan disk --yes");
        assert_eq!((&told["luks"][0]["offset"], &told["luks"][0]["format"]), (&2560.into(), &format.into()));
    }
    // The second copy is looked for as well: here its container begins before the file does.
    place.make_file("headless", &place.bytes("c2")[COPY_LEN - 512..]);
    let ended = place.strongroom("header repair --scan headless");
    assert!(ended.out.contains("offset 512: the second copy of a luks2 header"), "{ended:?}");
    assert!(!ended.errors.contains("only an older backup"), "{ended:?}");
}

#[test]
fn a_header_without_its_magic_is_found_and_rebuilt() {
    let place = place();
    for name in ["c1", "c2"] {
        let mut bytes = place.bytes(name);
        bytes[..6].fill(0);
        if name == "c2" {
            bytes[COPY_LEN..COPY_LEN + 6].fill(0);
        }
        place.make_file("wiped", &bytes);
        assert_eq!(place.strongroom("key test wiped --password-file secret").status, Some(4));
        let looked = place.strongroom("header repair --scan wiped");
        assert_eq!(looked.status, Some(0), "{looked:?}");
        assert!(looked.out.contains("without the bytes that tell it"), "{looked:?}");
        assert_eq!(place.bytes("wiped"), bytes, "nothing is written unasked");

        let rebuilt = place.strongroom("header repair --scan wiped --yes");
        assert_eq!(rebuilt.status, Some(0), "{rebuilt:?}");
        assert_eq!(place.done("key test wiped --password-file secret"), "keyslot 0 opens\n");
        let copies = place.json("info wiped")["headers"].as_array().unwrap().clone();
        assert!(copies.iter().all(|copy| copy["state"] == "current"), "{copies:?}");
        assert_eq!(place.bytes("wiped")[DATA_OFFSET..], bytes[DATA_OFFSET..]);
        // What was there is kept.
        assert!(rebuilt.errors.contains("is kept in"), "{rebuilt:?}");
        assert_eq!(place.bytes("wiped.replaced-at-0")[..512], bytes[..512]);
        fs::remove_file(place.path("wiped.replaced-at-0")).unwrap();
    }
}

/// A new GPT takes the binary headers of both copies, and the first one's text.
#[test]
fn of_the_text_of_the_second_copy_alone_a_luks2_header_is_rebuilt() {
    let place = place();
    let whole = place.bytes("c2");
    for (uuid_is_left, lost) in [(true, 512..COPY_LEN + 4096), (false, 0..COPY_LEN + 4096)] {
        let mut bytes = whole.clone();
        bytes[lost].fill(0);
        place.make_file("text", &bytes);
        let looked = place.strongroom("header repair --scan text");
        assert_eq!(looked.status, Some(0), "{looked:?}");
        assert!(looked.out.contains("of which only the text is left"), "{looked:?}");
        assert!(looked.out.contains("strongroom header repair --scan text rebuilds it"), "{looked:?}");
        assert_eq!(place.bytes("text"), bytes, "nothing is written unasked");
        let rebuilt = place.strongroom("header repair --scan text --yes");
        assert_eq!(rebuilt.status, Some(0), "{rebuilt:?}");
        let told = place.json("info text");
        assert_eq!(told["uuid"] == UUID, uuid_is_left, "{told}");
        let copies = told["headers"].as_array().unwrap();
        assert!(copies.iter().all(|copy| copy["state"] == "current"), "{copies:?}");
        assert_eq!(place.done("key test text --password-file secret"), "keyslot 0 opens\n");
        assert_eq!(place.bytes("text")[2 * COPY_LEN..], whole[2 * COPY_LEN..], "the rest stays");
        place.shell("rm -f text.replaced*");
    }
    // In a partition of a disk it is that which is rebuilt.
    let mut bytes = whole;
    bytes[512..COPY_LEN + 4096].fill(0);
    let mut disk = vec![0; 1 << 20];
    put_partition_table(&mut disk);
    disk[454..458].copy_from_slice(&2048_u32.to_le_bytes());
    disk.extend(bytes);
    place.make_file("disk", &disk);
    let looked = place.strongroom("header repair --scan disk");
    assert!(looked.out.contains("header repair --scan disk --partition 1 rebuilds it"), "{looked:?}");
    place.done("header repair --scan disk --partition 1 --yes");
    assert_eq!(place.done("key test disk --partition 1 --password-file secret"), "keyslot 0 opens\n");
}

/// A container was made over all of a disk; an older one's header is still there, behind its header.
#[test]
fn what_may_lie_in_another_containers_data_is_only_to_be_read() {
    let place = place();
    let disk = [place.bytes("c2"), place.bytes("c1")].concat();
    let start = place.bytes("c2").len();
    place.make_file("disk", &disk);
    let found = place.done("header repair --scan disk");
    assert!(
        found.contains(&format!("--offset {start} --read-only opens it; it may lie in the data")),
        "{found}"
    );
    // A partition of its own is its own.
    let mut disk = [vec![0; 512], place.bytes("c2"), place.bytes("c1")].concat();
    put_partition_table(&mut disk);
    let sectors = u32::try_from(start / 512).unwrap();
    disk[458..462].copy_from_slice(&sectors.to_le_bytes());
    disk[462..478].copy_from_slice(b"\0\x01\x01\0\x83\xfe\xff\xff\0\0\0\0\xff\x01\0\0");
    disk[470..474].copy_from_slice(&(sectors + 1).to_le_bytes());
    disk[474..478].copy_from_slice(&u32::try_from(place.bytes("c1").len() / 512).unwrap().to_le_bytes());
    place.make_file("disk", &disk);
    let found = place.done("header repair --scan disk");
    assert!(found.contains(&format!("--offset {} opens it", start + 512)), "{found}");
}

#[test]
fn what_tells_of_no_container_is_erased_by_force_only() {
    let place = place();
    let noise: Vec<u8> =
        (0..1 << 20).map(|index: u32| index.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    place.make_file("noise", &noise);
    for format in ["native", "luks1", "luks2"] {
        let refused = place.strongroom(&format!("erase noise --yes --format {format}"));
        assert_eq!(refused.status, Some(4), "{format}: {refused:?}");
        assert!(
            refused.errors.contains(&format!("nothing shows a container of the format {format}")),
            "{refused:?}"
        );
        assert_eq!(place.bytes("noise"), noise);
    }
    // Nobody can tell FreeOTFE from VeraCrypt, which has another header at the end.
    place.done("erase noise --yes --format freeotfe -q");
    let left = place.bytes("noise");
    for place in [0..512, (1 << 20) - (128 << 10)..(1 << 20)] {
        assert!(left[place.clone()] != noise[place.clone()], "{place:?}");
    }
    // What shows goes first, and then what was named.
    place.done("erase c2 --yes --force --format freeotfe -q");
    assert_eq!(place.strongroom("key test c2 --password-file secret").status, Some(4));
}

#[test]
fn beside_a_whole_second_copy_a_partition_table_goes_by_force_only() {
    for put in [put_partition_table, put_partition_table_alone] {
        let place = place();
        place.done("header backup c2 h -q");
        let mut bytes = place.bytes("c2");
        put(&mut bytes);
        place.make_file("c2", &bytes);
        for command in ["info c2", "mount c2 m --block --password-file secret", "header repair c2"] {
            let ended = place.strongroom(command);
            assert_eq!(ended.status, Some(if command == "info c2" { 0 } else { 4 }), "{command}: {ended:?}");
            let told = [&*ended.out, &*ended.errors].concat();
            assert!(
                told.contains("partition table") && told.contains("--format luks2"),
                "{command}: {ended:?}"
            );
        }
        let looked = place.strongroom("header repair --scan c2");
        assert_eq!(looked.status, Some(0), "{looked:?}");
        assert!(looked.out.contains("--format luks2 --read-only opens it as it is"), "{looked:?}");
        assert_eq!(place.done("key test c2 --format luks2 --password-file secret"), "keyslot 0 opens\n");
        let refused = place
            .strongroom("key change c2 --format luks2 --password-file secret --new-password-file secret");
        assert_ne!(refused.status, Some(0), "{refused:?}");
        let refused = place.strongroom("mount c2 m --block --format luks2 --password-file secret");
        assert!(
            refused.errors.contains("partition table is in the place of its first header copy"),
            "{refused:?}"
        );
        assert_eq!(place.bytes("c2"), bytes);
        for command in [
            "header repair --scan c2 --yes",
            "header repair c2 --format luks2 --password-file secret --yes",
            "header restore c2 h --yes",
        ] {
            let refused = place.strongroom(command);
            assert_eq!(refused.status, Some(5), "{command}: {refused:?}");
            assert!(refused.errors.contains("--force"), "{command}: {refused:?}");
            assert_eq!(place.bytes("c2"), bytes);
            let forced = place.strongroom(&format!("{command} --force"));
            assert_eq!(forced.status, Some(0), "{command}: {forced:?}");
            assert!(forced.errors.contains("is kept in"), "{command}: {forced:?}");
            assert_eq!(place.done("key test c2 --password-file secret"), "keyslot 0 opens\n");
            place.make_file("c2", &bytes);
        }
    }
}

#[test]
fn a_partition_table_within_a_luks1_header_is_told_as_that() {
    let place = place();
    place.done("header backup c1 h -q");
    let mut bytes = place.bytes("c1");
    put_partition_table_alone(&mut bytes);
    place.make_file("c1", &bytes);
    let info = place.strongroom("info c1");
    assert!(info.out.contains("partition table") && info.out.contains("a LUKS1 header"), "{info:?}");
    let refused = place.strongroom("header restore c1 h --yes");
    assert!(refused.status == Some(5) && refused.errors.contains("partition table"), "{refused:?}");
    assert_eq!(place.bytes("c1"), bytes);
}

/// A second copy of another container, newer than the first: as an image that was written over a part of a disk leaves it.
#[test]
fn of_copies_of_two_containers_none_goes_before_one_is_chosen() {
    let place = place();
    let (own, mut other) = (place.bytes("c2"), stranger());
    other[COPY_LEN + 16..COPY_LEN + 24].copy_from_slice(&6_u64.to_be_bytes());
    make_checksum_right(&mut other[COPY_LEN..][..COPY_LEN]);
    let mut mixed = own.clone();
    mixed[COPY_LEN..][..COPY_LEN].copy_from_slice(&other[COPY_LEN..][..COPY_LEN]);
    place.make_file("c2", &mixed);
    let other_uuid = str::from_utf8(OTHER_UUID).unwrap();

    let told = place.strongroom("header repair --scan c2");
    assert!(told.out.contains(UUID) && told.out.contains(other_uuid), "{told:?}");
    assert!(told.out.contains("--offset 0 or --offset 16384"), "{told:?}");
    let checked = place.strongroom("check c2");
    assert!(checked.status != Some(0) && checked.out.contains("belongs to another container"), "{checked:?}");
    for command in
        ["header repair --scan c2 --yes", "header repair --scan c2 --yes --force", "header backup c2 h"]
    {
        let refused = place.strongroom(command);
        assert!(refused.status != Some(0), "{command}: {refused:?}");
        assert!(refused.errors.contains("two containers") || refused.errors.contains("different containers"));
        assert_eq!(place.bytes("c2"), mixed, "{command}");
        assert!(!place.path("h").exists());
    }
    for (offset, uuid, left) in [("0", UUID, other_uuid), ("16384", other_uuid, UUID)] {
        let refused = place.strongroom(&format!("header repair --scan c2 --offset {offset} --yes"));
        assert!(refused.status == Some(5) && refused.errors.contains("--force"), "{refused:?}");
        assert!(refused.errors.contains(left), "{refused:?}");
        assert_eq!(place.bytes("c2"), mixed);
        let forced = place.strongroom(&format!("header repair --scan c2 --offset {offset} --yes --force"));
        assert_eq!(forced.status, Some(0), "{forced:?}");
        let info = place.json("info c2");
        assert_eq!(info["uuid"], uuid);
        assert!(info["headers"].as_array().unwrap().iter().all(|copy| copy["state"] == "current"), "{info}");
        assert_eq!(place.bytes("c2.replaced-at-0")[..2 * COPY_LEN], mixed[..2 * COPY_LEN], "both are kept");
        fs::remove_file(place.path("c2.replaced-at-0")).unwrap();
        place.make_file("c2", &mixed);
    }
    // The password of the older one is not just wrong.
    let mut locked = mixed.clone();
    locked[16..24].copy_from_slice(&9_u64.to_be_bytes());
    make_checksum_right(&mut locked[..COPY_LEN]);
    place.make_file("c2", &locked);
    place.make_file("wrong", "wrong");
    let wrong = place.strongroom("key test c2 --password-file wrong");
    assert!(wrong.errors.contains(other_uuid) && wrong.errors.contains("--scan"), "{wrong:?}");
}

#[test]
fn a_detached_header_goes_over_no_data() {
    let place = place();
    let mut header = luks2(SECRET);
    let mut metadata = luks_image::metadata(&luks_image::KEY);
    metadata["segments"]["0"]["offset"] = "0".into();
    luks_image::set_metadata(&mut header, &metadata);
    header.truncate(DATA_OFFSET);
    place.make_file("h", &header);
    let begins_with_zeros = [vec![0; 3 << 20], vec![0x5a; 1 << 20]].concat();
    for data in [begins_with_zeros, vec![0x5a; 4 << 20], vec![0x5a; 64 << 10]] {
        place.make_file("data", &data);
        for options in ["--yes", "--yes --force"] {
            let refused = place.strongroom(&format!("header restore data h {options}"));
            assert_eq!(refused.status, Some(1), "{refused:?}");
            assert!(refused.errors.contains("--header"), "{refused:?}");
            assert_eq!(place.bytes("data"), data);
        }
    }
    // A header file takes it.
    place.make_file("file", vec![0; DATA_OFFSET]);
    place.done("header restore file h --yes");
    assert_eq!(place.done("key test file --password-file secret"), "keyslot 0 opens\n");
    let told = place.strongroom("header repair --scan h");
    assert!(told.out.contains("MOUNTPOINT --header h"), "{told:?}");
}

#[test]
fn nothing_is_written_within_a_disk_image_that_must_be_converted() {
    let place = place();
    let mut image = [vec![0; 5 * 512], place.bytes("c2")].concat();
    for (at, magic, name) in
        [(0, &b"QFI\xfb"[..], "qcow2"), (64, b"\x7f\x10\xda\xbe", "VDI"), (0, b"KDMV", "VMDK")]
    {
        image[..2560].fill(0);
        image[at..at + magic.len()].copy_from_slice(magic);
        place.make_file("disk", &image);
        let told = place.strongroom("header repair --scan disk");
        assert!(told.out.contains(name) && told.out.contains("qemu-img convert -O raw disk"), "{told:?}");
        assert!(!told.out.contains("opens it"), "{told:?}");
        for command in [
            "mount disk m --block --offset 2560",
            "key add disk --offset 2560",
            "header repair disk --offset 2560",
        ] {
            let refused = place.strongroom(&format!("{command} --password-file secret"));
            assert_eq!(refused.status, Some(4), "{command}: {refused:?}");
            assert!(refused.errors.contains("qemu-img convert"), "{command}: {refused:?}");
        }
        assert_eq!(place.bytes("disk"), image);
    }
}

#[test]
fn a_scan_that_was_agreed_to_and_lacks_the_password_has_not_succeeded() {
    let place = place();
    place.done(&format!(
        "create n --size 3M --provision quick {CHEAP} --password-file secret --filesystem none -q"
    ));
    let mut bytes = place.bytes("n");
    bytes[..4096].fill(0);
    place.make_file("n", &bytes);
    for options in ["--yes", "--yes --force"] {
        let refused = place.strongroom(&format!("header repair --scan n --offset 2097152 {options}"));
        assert!(refused.status == Some(1) && refused.errors.contains("password"), "{refused:?}");
        assert_eq!(place.bytes("n"), bytes);
    }
}

#[test]
fn a_backup_has_the_good_copy_in_both_places_and_can_be_restored() {
    let place = place();
    let mut bytes = place.bytes("c2");
    put_partition_table(&mut bytes);
    place.make_file("c2", &bytes);
    place.done("header backup c2 h --format luks2 -q");
    assert!(place.bytes("h").starts_with(b"LUKS\xba\xbe\0\x02"));
    assert_eq!(place.done("key test h --password-file secret"), "keyslot 0 opens\n");
    // The copy that is left shows that it belongs here, and yet the partition table is somebody's.
    let refused = place.strongroom("header restore c2 h --yes");
    assert_eq!(refused.status, Some(5), "{refused:?}");
    assert!(refused.errors.contains("which would be overwritten"), "{refused:?}");
    assert_eq!(place.bytes("c2"), bytes);
    place.done("header restore c2 h --yes --force");
    assert_eq!(place.done("key test c2 --password-file secret"), "keyslot 0 opens\n");
    // What restoring replaced goes back by the command that was told.
    place.shell("dd if=c2.replaced-at-0 of=c2 bs=1M seek=0 oflag=seek_bytes conv=notrunc status=none");
    assert_eq!(place.bytes("c2"), bytes);
}

#[test]
fn header_files_of_every_format_are_tested_and_listed_and_not_mounted() {
    let place = place();
    place.copy_vector("password.img", "native");
    for (name, password) in [("c1", "secret"), ("c2", "secret"), ("native", "password")] {
        place.done(&format!("header backup {name} {name}.h -q"));
        let test = format!("key test {name}.h --password-file {password}");
        assert_eq!(place.done(&test), "keyslot 0 opens\n");
        assert_eq!(
            place.strongroom(&format!("key test {name}.h --password-file password{name}")).status,
            Some(1)
        );
        let slots = place.json(&format!("key list {name}.h"));
        assert_eq!(slots["keyslots"], place.json(&format!("key list {name}"))["keyslots"]);
        assert_eq!(place.json(&format!("info {name}.h"))["header_file"], true);
        let refused = place.strongroom(&format!("mount {name}.h m --block --password-file {password}"));
        assert_eq!(refused.status, Some(4), "{refused:?}");
        assert!(refused.errors.contains("a header without its container"), "{refused:?}");
        assert!(refused.errors.contains("--header"), "{refused:?}");
    }
}

#[test]
fn the_header_of_another_container_is_restored_by_force_only_and_the_old_one_is_kept() {
    let place = place();
    let key = b"another key, which is 32 bytes..";
    place.make_file("other", luks2_of(&metadata(key), key, SECRET));
    place.done("header backup other other.h -q");
    // A UUID can be changed; the key tells whose header it is.
    place.make_file("renamed", stranger());
    place.done("header restore renamed other.h --yes --force -q");
    place.make_file("renamed", stranger());
    place.done("header backup c2 c2.h -q");
    place.done("header restore renamed c2.h --yes -q");
    let before = place.bytes("c2");
    let refused = place.strongroom("header restore c2 other.h --yes");
    assert_eq!(refused.status, Some(5), "{refused:?}");
    assert!(refused.errors.contains("its header has another volume key"), "{refused:?}");
    assert_eq!(place.bytes("c2"), before);

    let restored = place.json("header restore c2 other.h --yes --force");
    assert_eq!(restored["replaced"][0]["file"], "c2.replaced");
    assert_ne!(place.bytes("c2"), before);
    place.done("header restore c2 c2.replaced --yes --force");
    assert_eq!(place.json("info c2")["uuid"], UUID);
    assert_eq!(place.done("key test c2 --password-file secret"), "keyslot 0 opens\n");
    assert!(place.files().contains(&"c2.replaced-2".to_owned()));
}

#[test]
fn known_data_are_overwritten_by_force_only() {
    let place = place();
    place.done("header backup c2 h -q");
    let mut disk = vec![0; 2 << 20];
    put_partition_table(&mut disk);
    let mut ext = vec![0; 2 << 20];
    ext[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    for bytes in [disk, ext] {
        place.make_file("data", &bytes);
        let refused = place.strongroom("header restore data h --yes");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("which would be overwritten"), "{refused:?}");
        assert_eq!(place.bytes("data"), bytes);
    }
    place.make_file("zeros", vec![0; 2 << 20]);
    place.done("header restore zeros h --yes");
}

#[test]
fn a_file_behind_a_loop_device_is_not_restored_to() {
    if !geteuid().is_root() {
        is_skipped("only root makes loop devices");
        return;
    }
    let place = place();
    place.done("header backup c2 h -q");
    let device = Command::new("losetup").args(["-f", "--show"]).arg(place.path("c2")).output().unwrap();
    if !device.status.success() {
        is_skipped("there is no loop device to be had");
        return;
    }
    let device = String::from_utf8(device.stdout).unwrap();
    let refused = place.strongroom("header restore c2 h --yes --force");
    assert!(Command::new("losetup").arg("-d").arg(device.trim()).status().unwrap().success());
    assert_eq!(refused.status, Some(5), "{refused:?}");
    assert!(refused.errors.contains(device.trim()), "{refused:?}");
}

/// Each is named, with the program that opens it; none is told to put a header over it.
#[test]
fn what_is_something_else_is_never_told_to_restore_a_header() {
    let place = place();
    let noise: Vec<u8> = (1_u32..=100_000).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    for (at, magic, name, program) in [
        (3, &b"-FVE-FS-"[..], "BitLocker", "--type bitlk"),
        (0, b"\x03\xd9\xa2\x9a\x67\xfb\x4b\xb5", "KeePass", "KeePassXC"),
        (88, b"CS", "FileVault", "--type fvault2"),
        (0, b"encrcdsa", "DMG", "hdiutil"),
        (0, b"conectix", "VHD", "qemu-img"),
        (64, b"\x7f\x10\xda\xbe", "VDI", "qemu-img"),
        (0, b"Salted__", "openssl", "openssl enc -d"),
        (512, b"LABELONE", "LVM", "vgchange"),
        (0, b"age-encryption.org/v1", "age", "age -d"),
        (0, b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
        (0, b"scrypt\0", "scrypt", "scrypt dec file"),
        (0, b"\x3a\xff\x26\xed\x01\0", "Android", "simg2img file"),
        (0, b"cryfs.config;", "CryFS", "cryfs FOLDER"),
        (0, b"PGPdMAIN", "PGP", "Symantec"),
        (0, b"NXSB", "no known header", "--format veracrypt"),
    ] {
        let mut bytes = noise.clone();
        bytes[at..at + magic.len()].copy_from_slice(magic);
        place.make_file("file", &bytes);
        for command in
            ["info file", "mount file m --password-file secret", "header repair file --password-file secret"]
        {
            let ended = place.strongroom(command);
            assert_eq!(ended.status, Some(4), "{name}: {ended:?}");
            assert!(ended.errors.contains(name) && ended.errors.contains(program), "{name}: {ended:?}");
            assert!(!ended.errors.contains("header restore"), "{name}: {ended:?}");
        }
    }
}

/// A folder is what other programs encrypt file by file.
#[test]
fn a_folder_that_another_program_encrypts_is_named_with_that_program() {
    let place = place();
    for (mark, name, way) in [
        ("gocryptfs.conf", "a folder encrypted by gocryptfs", "gocryptfs 'my files' MOUNTPOINT"),
        ("cryfs.config", "a folder encrypted by CryFS", "cryfs 'my files' MOUNTPOINT"),
        (".encfs6.xml", "a folder encrypted by EncFS", "encfs 'my files' MOUNTPOINT"),
        ("masterkey.cryptomator", "a Cryptomator vault", "Cryptomator opens it"),
    ] {
        let folder = place.make_folder("my files");
        std::fs::write(folder.join(mark), "x").unwrap();
        let ended = place.strongroom("info 'my files'");
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(ended.status, Some(4), "{ended:?}");
        assert!(ended.errors.contains(&format!("not a container; this is {name}")), "{ended:?}");
        assert!(ended.errors.contains(way), "{ended:?}");
    }
}

/// What a message tells to run can be run, whatever the file is called.
#[test]
fn a_path_in_a_command_that_is_told_is_one_word() {
    let place = place();
    let shifted = [vec![0; 2048], place.bytes("c2")].concat();
    place.make_file("old disk", shifted);
    let told = place.done("header repair --scan 'old disk'");
    assert!(told.contains("strongroom mount 'old disk' MOUNTPOINT --offset 2048 opens it"), "{told}");
}

#[test]
fn a_path_that_is_no_text_is_whole_in_the_command_that_a_scan_tells() {
    let place = place();
    let shifted = [vec![0; 2048], place.bytes("c2")].concat();
    fs::write(place.path("").join(OsStr::from_bytes(b"caf\xe9 1")), shifted).unwrap();
    let scan = "header repair --scan \"$(printf 'caf\\351 1')\"";
    let command = r"strongroom mount $'caf\xe9 1' MOUNTPOINT --offset 2048";
    let told = place.done(scan);
    assert!(told.contains(command), "{told}");
    let told = place.json(scan);
    let advice = told["luks"][0]["advice"].as_str().unwrap();
    assert!(advice.contains(command), "{told}");
}

#[test]
fn a_backup_of_the_other_version_is_named_and_restored_by_force_only() {
    let place = place();
    for (name, other) in [("c1", "c2"), ("c2", "c1")] {
        let before = place.bytes(name);
        place.done(&format!("header backup {other} {other}.h -q"));
        let refused = place.strongroom(&format!("header restore {name} {other}.h --yes"));
        assert_eq!(refused.status, Some(1), "{refused:?}");
        let (luks, own) = (other.replace('c', "luks"), name.replace('c', "luks"));
        let reason = format!("it is the header of a {luks} container, and this one bears that of {own}");
        assert!(refused.errors.contains(&reason), "{refused:?}");
        assert!(refused.errors.contains("--force"), "{refused:?}");
        assert!(place.bytes(name) == before);
    }
    // The other one's data begin behind the end of this one.
    let longer = [place.bytes("c1"), vec![0; 1 << 20]].concat();
    place.make_file("c1", &longer);
    let forced = place.strongroom("header restore c1 c2.h --yes --force");
    assert_eq!(forced.status, Some(0), "{forced:?}");
    assert!(forced.errors.contains("was there is kept in"), "{forced:?}");
    assert_eq!(place.json("info c1")["format"], "luks2");
    place.done("key test c1 --password-file secret");
}

#[test]
fn a_backup_that_is_damaged_does_not_send_its_owner_for_a_backup() {
    let place = place();
    place.done("header backup c2 c2.h -q");
    let mut backup = place.bytes("c2.h");
    backup[5000] ^= 1;
    backup[COPY_LEN + 5000] ^= 1;
    place.make_file("c2.h", &backup);
    let refused = place.strongroom("header restore c2 c2.h --yes");
    assert_eq!(refused.status, Some(4), "{refused:?}");
    assert!(!refused.errors.contains("restore the container from a backup"), "{refused:?}");
    assert!(refused.errors.contains("nothing was written"), "{refused:?}");
}

#[test]
fn a_scan_tells_what_rebuilds_a_header_without_one_of_its_copies() {
    let place = place();
    for at in [0, COPY_LEN] {
        let mut harmed = luks2(SECRET);
        harmed[at..at + 512].fill(0);
        place.make_file("c2", &harmed);
        let told = place.strongroom("header repair --scan c2");
        assert!(told.out.contains("strongroom header repair --scan c2 rebuilds it"), "{at}: {told:?}");
        assert!(!told.out.contains("starts with the second"), "{at}: {told:?}");
    }
}

#[test]
fn a_backup_that_no_password_opens_is_not_praised() {
    let place = place();
    let mut harmed = luks2(SECRET);
    harmed[luks_image::AREA_OFFSET..][..4096].fill(0);
    place.make_file("c2", &harmed);
    let kept = place.strongroom("header backup c2 c2.h");
    assert_eq!(kept.status, Some(0), "{kept:?}");
    assert!(kept.errors.contains("no password or keyfile can open it"), "{kept:?}");
    assert!(!kept.errors.contains("it opens with") && !kept.out.contains("it opens with"), "{kept:?}");
}

#[test]
fn a_format_that_is_named_erases_nothing_else_and_what_shows_is_erased_with_it() {
    let place = place();
    place.done(&format!(
        "create n --size 3M --provision quick {CHEAP} --password-file secret --filesystem none -q"
    ));
    let mut disk = vec![0; 2 << 20];
    put_partition_table(&mut disk);
    place.make_file("disk", &disk);
    let mut ext = vec![0; 2 << 20];
    ext[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    place.make_file("ext", &ext);
    place.make_file("text", "not a container, but a letter to a friend, of some length\n".repeat(9000));
    for (name, formats) in [
        ("n", &["luks1", "luks2", "veracrypt", "freeotfe"][..]),
        ("c1", &["luks2", "native", "veracrypt", "freeotfe"]),
        ("c2", &["luks1", "native", "veracrypt", "freeotfe"]),
        ("disk", &["luks1", "luks2", "native", "veracrypt", "freeotfe"]),
        ("ext", &["luks1", "luks2", "native", "veracrypt", "freeotfe"]),
        ("text", &["luks1", "luks2", "native", "veracrypt", "freeotfe"]),
    ] {
        let before = place.bytes(name);
        for format in formats {
            let refused = place.strongroom(&format!("erase {name} --yes --format {format}"));
            assert!(refused.status != Some(0), "{name} {format}: {refused:?}");
            assert!(refused.errors.contains("--force"), "{name} {format}: {refused:?}");
            assert_eq!(place.bytes(name), before, "{name} {format}");
        }
    }
    for (name, format) in [("n", "veracrypt"), ("c1", "freeotfe"), ("c2", "veracrypt")] {
        place.done(&format!("erase {name} --yes --force --format {format} -q"));
        let test = place.strongroom(&format!("key test {name} --password-file secret"));
        assert!(test.status != Some(0), "{name}: {test:?}");
        let scan = place.strongroom(&format!("header repair --scan {name}"));
        assert!(!scan.out.contains("header"), "{name}: {scan:?}");
    }
    place.make_file("c2", luks2(SECRET));
    place.done("erase c2 --yes --format luks2 -q");
}

/// What stands at the start counts, whatever is left of the container that was there before.
#[test]
fn the_copy_of_an_older_container_goes_over_a_newer_one_by_force_only() {
    let place = place();
    place.done(&format!(
        "create n --size 3M --provision quick {CHEAP} --password-file secret --filesystem none -q"
    ));
    let older = place.bytes("n");
    let noise: Vec<u8> = (1_u32..=1 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    for (what, newer) in [("luks2", place.bytes("c2")), ("luks1", place.bytes("c1")), ("noise", noise)] {
        let mut bytes = older.clone();
        bytes[..1 << 20].copy_from_slice(&newer[..1 << 20]);
        place.make_file("n", &bytes);
        let scan = place.json("header repair --scan n");
        let copy = scan["copies"][0]["offset"].as_u64().unwrap();
        for command in [
            "header repair --scan n --yes --password-file secret".to_owned(),
            format!("header repair --scan n --offset {copy} --yes --password-file secret"),
        ] {
            let refused = place.strongroom(&command);
            assert!(!refused.out.contains("the header is whole"), "{what}: {refused:?}");
            assert_eq!(place.bytes("n"), bytes, "{what}: {command}: {refused:?}");
        }
        let forced = place.strongroom(&format!(
            "header repair --scan n --offset {copy} --yes --force --password-file secret"
        ));
        assert_eq!(forced.status, Some(0), "{what}: {forced:?}");
        assert!(forced.errors.contains("is kept in"), "{what}: {forced:?}");
        assert_eq!(place.done("key test n --password-file secret"), "keyslot 0 opens\n");
    }
}

/// The tools that write one leave the bytes before the table.
#[test]
fn a_gpt_over_a_luks_container_is_told_as_that() {
    let place = place();
    for name in ["c1", "c2"] {
        let mut bytes = place.bytes(name);
        put_partition_table_alone(&mut bytes);
        bytes[450] = 0xee;
        bytes[512..1024].fill(0);
        bytes[512..520].copy_from_slice(b"EFI PART");
        place.make_file(name, &bytes);
        for command in ["info", "check", "mount"] {
            let rest = if command == "mount" { "m --block --password-file secret" } else { "" };
            let ended = place.strongroom(&format!("{command} {name} {rest}"));
            let told = [&*ended.out, &*ended.errors].concat();
            assert!(told.contains("partition table"), "{name}: {ended:?}");
            assert!(!told.contains("from a backup"), "{name}: {ended:?}");
        }
        assert_eq!(place.bytes(name), bytes);
    }
}

/// It would be read for hours.
#[test]
fn holes_are_passed_over_by_a_scan() {
    let place = place();
    let file = fs::File::options().read(true).write(true).create_new(true).open(place.path("thin")).unwrap();
    if file.set_len(4 << 40).is_err() {
        is_skipped("this file system has no such large files");
        return;
    }
    std::os::unix::fs::FileExt::write_all_at(&file, &place.bytes("c2"), (3 << 40) + 512).unwrap();
    let found = place.json("header repair --scan thin");
    assert_eq!(found["luks"][0]["offset"], (3_u64 << 40) + 512);
}

#[test]
fn a_header_that_is_refused_as_it_is_is_not_said_to_be_rebuilt() {
    let place = place();
    let mut bytes = place.bytes("c2");
    let mut metadata = luks_image::metadata(&luks_image::KEY);
    metadata["config"]["keyslots_size"] = (8_u64 << 20).to_string().into();
    luks_image::set_metadata(&mut bytes, &metadata);
    place.make_file("c2", &bytes);
    assert_eq!(place.strongroom("key test c2 --password-file secret").status, Some(4));
    let told = place.strongroom("header repair --scan c2 --yes");
    assert!(told.out.contains("overlap") && !told.out.contains("rebuilds"), "{told:?}");
    assert_eq!(place.bytes("c2"), bytes);
}
