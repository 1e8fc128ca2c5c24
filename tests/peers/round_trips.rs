//! A container of another program, with a file system in it: opened by strongroom, changed through its mount, and what was
//! changed is read by the other program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    guest::{Guest, assert_all_done},
    place::{PASSWORD, Place, everybody},
    programs,
    tcrypt::{Opening, make_by_tcplay},
};

const IMAGE: u64 = 3 << 20;

/// Those who mount: root, where this is root, with the kernel's driver; an ordinary user with strongroom's own.
fn places() -> Vec<Place> {
    everybody().into_iter().map(Place::of).collect()
}

/// The image of a file system with a file that stays and one that goes, owned by the user of the place.
fn make_image(place: &Place) -> PathBuf {
    place.shell(&format!(
        "mkdir seed
         seq 1 20000 > seed/stays
         seq 1 30000 > seed/goes
         mke2fs -q -t ext4 -b 4096 -E root_owner -d seed image {}k",
        IMAGE / 1024
    ));
    place.path("image")
}

/// Changes the file system of a container through strongroom's mount.
fn change(place: &Place, container: &Path, options: &str) {
    place.give(container);
    let arguments = format!("mount {} m --password-file password {options}", container.display());
    place.done(arguments.trim_end());
    place.shell("cd m; rm goes; mkdir folder; seq 5 50000 > folder/new; echo appended >> stays; cd ..; sync");
    place.done("unmount m");
    place.assert_clean();
}

/// What `sha256sum` prints of the files after the change.
fn expected_sums(place: &Place) -> String {
    place.shell(
        "(seq 1 20000; echo appended) | sha256sum
         seq 5 50000 | sha256sum",
    )
}

/// The same, of the files of an image that another program decrypted.
fn sums_of_image(place: &Place, content: &[u8]) -> String {
    place.make_file("decrypted", content);
    place.shell(
        "e2fsck -fn decrypted > e2fsck.output 2>&1 || { cat e2fsck.output >&2; exit 1; }
         debugfs -R 'stat goes' decrypted 2>&1 | grep -q 'File not found'
         debugfs -R 'cat stays' decrypted 2> debugfs.errors | sha256sum
         debugfs -R 'cat folder/new' decrypted 2> debugfs.errors | sha256sum",
    )
}

#[test]
fn qemu_reads_what_was_changed_in_its_container() {
    if !programs::is_there("qemu-img") {
        return;
    }
    for place in places() {
        let image = make_image(&place);
        let key = place.make_file("key", PASSWORD);
        for options in ["", ",cipher-alg=serpent-256,cipher-mode=xts,ivgen-alg=plain64"] {
            let container = place.path("qemu.img");
            programs::make_by_qemu(&image, &container, &key, options);
            change(&place, &container, "");
            let plain = programs::read_by_qemu(&container, &key, &place.path("plain"));
            assert_eq!(sums_of_image(&place, &plain), expected_sums(&place), "{options}");
            fs::remove_file(container).unwrap();
        }
    }
}

#[test]
fn cryptsetup_reads_what_was_changed_in_its_container() {
    if !programs::is_there("cryptsetup") {
        return;
    }
    for place in places() {
        let image = fs::read(make_image(&place)).unwrap();
        let key = place.make_file("key", PASSWORD);
        let container = place.path("cryptsetup.img");
        let options = ["--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "4096"];
        programs::make_by_cryptsetup(&image, &container, &key, &options);
        change(&place, &container, "");
        let mut plain = programs::read_by_cryptsetup(&container, &key, false);
        plain.truncate(image.len());
        assert_eq!(sums_of_image(&place, &plain), expected_sums(&place));
    }
}

#[test]
fn dm_crypt_reads_what_was_changed_in_its_container() {
    let Some(mut guest) = Guest::new() else { return };
    let places = places();
    fs::write(guest.path("key"), PASSWORD).unwrap();
    let kinds = [
        ("twofish", "--type luks2 --cipher twofish-xts-plain64 --sector-size 4096"),
        ("camellia", "--type luks1 --cipher camellia-cbc-essiv:sha256"),
    ];
    for (number, place) in places.iter().enumerate() {
        let image = make_image(place);
        fs::copy(&image, guest.path(&format!("image{number}"))).unwrap();
        for (name, options) in kinds {
            let container = format!("{name}{number}.img");
            fs::File::create(guest.path(&container)).unwrap().set_len(IMAGE + (17 << 20)).unwrap();
            let script = format!(
                "cryptsetup luksFormat --batch-mode --use-urandom {options} --key-size 256 \
                     --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {container} key
                 cryptsetup open --key-file key {container} volume
                 dd if=image{number} of=/dev/mapper/volume bs=64k conv=fsync status=none
                 cryptsetup close volume"
            );
            guest.add(&container, &script);
        }
    }
    assert_all_done(&guest.run());
    for (number, place) in places.iter().enumerate() {
        for (name, _) in kinds {
            let container = format!("{name}{number}.img");
            let ours = place.path(&container);
            programs::copy(&guest.path(&container), &ours);
            change(place, &ours, "");
            programs::copy(&ours, &guest.path(&container));
            guest.add(
                &container,
                &read_in_guest(&format!("cryptsetup open --key-file key {container} volume")),
            );
        }
    }
    let answers = guest.run();
    assert_all_done(&answers);
    for answer in answers.values() {
        assert_eq!(answer.output, expected_sums(&places[0]));
    }
}

/// A job that prints the sums of the files as the guest's kernel reads them.
fn read_in_guest(open: &str) -> String {
    format!(
        "{open}
         e2fsck -fn /dev/mapper/volume > /tmp/e2fsck 2>&1 || {{ cat /tmp/e2fsck; exit 1; }}
         mount -o ro /dev/mapper/volume /mnt
         test ! -e /mnt/goes
         sha256sum < /mnt/stays
         sha256sum < /mnt/folder/new
         umount /mnt
         cryptsetup close volume"
    )
}
#[test]
fn dm_crypt_reads_what_was_changed_in_truecrypt_and_veracrypt_volumes() {
    let Some(mut guest) = Guest::new() else { return };
    let places = places();
    let kinds = [
        ("truecrypt", "sha512", "SHA512", "AES-256-XTS,TWOFISH-256-XTS,SERPENT-256-XTS"),
        ("truecrypt", "ripemd160", "RIPEMD160", "SERPENT-256-XTS"),
        ("veracrypt", "sha256", "SHA256-VC", "TWOFISH-256-XTS,AES-256-XTS"),
    ];
    let opening = |format, prf| Opening { is_truecrypt: format == "truecrypt", prf, ..Opening::default() };
    for (number, place) in places.iter().enumerate() {
        fs::copy(make_image(place), guest.path(&format!("image{number}"))).unwrap();
        for (format, prf, their_prf, chain) in kinds {
            let container = format!("{format}-{prf}-{number}.img");
            fs::File::create(guest.path(&container)).unwrap().set_len(IMAGE + (1 << 20)).unwrap();
            let script = make_by_tcplay(&container, their_prf, chain)
                + &opening(format, prf).command(&container)
                + &format!(
                    "
                     dd if=image{number} of=/dev/mapper/volume bs=64k conv=fsync status=none
                     cryptsetup close volume"
                );
            guest.add(&container, &script);
        }
    }
    assert_all_done(&guest.run());
    for (number, place) in places.iter().enumerate() {
        for (format, prf, ..) in kinds {
            let container = format!("{format}-{prf}-{number}.img");
            let ours = place.path(&container);
            programs::copy(&guest.path(&container), &ours);
            change(place, &ours, &format!("--format {format} --prf {prf}"));
            programs::copy(&ours, &guest.path(&container));
            guest.add(&container, &read_in_guest(&opening(format, prf).command(&container)));
        }
    }
    let answers = guest.run();
    assert_all_done(&answers);
    for answer in answers.values() {
        assert_eq!(answer.output, expected_sums(&places[0]));
    }
}
