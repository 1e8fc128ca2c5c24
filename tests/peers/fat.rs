//! FAT, with the kernel's own driver as the judge: what that wrote strongroom reads and changes, and the kernel reads it again.

use std::fs;

use crate::{
    guest::{Guest, assert_all_done},
    place::CHEAP,
    place_of_ordinary_user, programs,
};

/// Writes files into the folder `$1`: long names, names beyond ASCII, many of them, holes, what was renamed, replaced and removed.
const WRITE: &str = r#"
cd "$1" && mkdir -p "$2/Fotos vom Meer/2026" && cd "$2"
seq 20000 > "Fotos vom Meer/2026/Größe 😀.jpeg"
for number in $(seq 120); do echo $number > "a file with number $number.txt"; done
mkdir x && cp "a file with number 7.txt" x/SHORT.TXT && cp "a file with number 8.txt" x/mixed.Txt
mv "Fotos vom Meer" moved && rm "a file with number 11"?.txt && mv "a file with number 1.txt" "a file with number 2.txt"
seq 3000 > replaced && seq 9000 > new && mv new replaced
for number in $(seq 30); do seq 500 > piece$number; done && rm piece?[02468] && seq 60000 > "in pieces" && rm piece*
truncate -s 100000 longer && echo end >> longer && : > empty && mkdir emptied && touch emptied/gone && rm emptied/gone
find . -exec touch -d "2026-03-04 05:06:08 UTC" {} +
"#;

/// The bytes, sizes and times of all files in the folder `$1`.
const TELL: &str = r#"cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum && TZ=UTC find . -type f -printf "%s %TY-%Tm-%Td %TH:%TM %p\n" | sort && find . -type d | sort"#;

#[test]
fn the_kernel_and_strongroom_read_and_change_each_others_fat() {
    let (Some(mut guest), Some(place)) = (Guest::new(), place_of_ordinary_user()) else { return };
    fs::write(guest.path("write.sh"), WRITE).unwrap();
    fs::write(guest.path("tell.sh"), TELL).unwrap();
    let mount = "modprobe vfat; mount -t vfat -o loop,utf8=1,tz=UTC";
    for (kind, size, options) in KINDS {
        fs::File::create(guest.path(&format!("{kind}.img"))).unwrap().set_len(size).unwrap();
        guest.add(
            kind,
            &format!(
                "mkfs.vfat {options} {kind}.img && {mount} {kind}.img /mnt
                 bash write.sh /mnt kernel && bash tell.sh /mnt > {kind}.kernel && umount /mnt"
            ),
        );
    }
    assert_all_done(&guest.run());
    for name in ["write.sh", "tell.sh"] {
        place.make_file(name, fs::read(guest.path(name)).unwrap());
    }
    place.make_folder("w");
    for (kind, ..) in KINDS {
        let image = place.path("image");
        programs::copy(&guest.path(&format!("{kind}.img")), &image);
        place.give(&image);
        place.done(&format!("import image {kind}.vault --password-file password {CHEAP}"));
        place.done(&format!("mount {kind}.vault m --password-file password"));
        let told = |place: &crate::place::Place| place.shell("PATH=$PATH:/usr/bin; bash tell.sh m");
        assert_eq!(
            told(&place),
            fs::read_to_string(guest.path(&format!("{kind}.kernel"))).unwrap(),
            "{kind}"
        );
        place.shell("bash write.sh m ours && cd m/kernel && rm -r moved && mv replaced ../ours && seq 7000 >> longer && rmdir emptied");
        fs::write(guest.path(&format!("{kind}.ours")), told(&place)).unwrap();
        place.done("unmount m");
        place.done(&format!("mount --block --read-only {kind}.vault m --password-file password"));
        place.shell("rm -f w/written; cp m/volume w/written");
        place.done("unmount m");
        programs::copy(&place.path("w/written"), &guest.path(&format!("{kind}.img")));
        guest.add(
            kind,
            &format!(
                "fsck.vfat -n {kind}.img && {mount},ro {kind}.img /mnt
                 bash tell.sh /mnt > {kind}.again && cmp {kind}.again {kind}.ours && umount /mnt"
            ),
        );
    }
    assert_all_done(&guest.run());
    place.assert_clean();
}

/// Each kind of FAT, with the options of mkfs.vfat that make it.
const KINDS: [(&str, u64, &str); 4] = [
    ("fat12", 6 << 20, "-F 12"),
    ("fat16", 24 << 20, "-F 16 -s 1"),
    ("fat16large", 96 << 20, "-F 16 -s 32"),
    ("fat32", 80 << 20, "-F 32 -s 1"),
];
