//! LUKS1 and LUKS2 of other programs, read by strongroom.

use std::{fs, path::Path};

use crate::{
    PASSWORD,
    combinations::{COMBINATIONS, Combination, RARE},
    guest::{Guest, assert_all_done},
    pattern, place_of_ordinary_user, programs, read_by_strongroom,
};

pub(crate) const DATA: usize = 1 << 20;

/// An empty file for a container, sparse.
fn make_sparse(path: &Path, combination: &Combination) {
    let size = combination.container_size(u64::try_from(DATA).unwrap());
    fs::File::create(path).unwrap().set_len(size).unwrap();
}

#[test]
fn strongroom_reads_what_dm_crypt_and_cryptsetup_wrote() {
    let (Some(mut guest), Some(place)) = (Guest::new(), place_of_ordinary_user()) else { return };
    let plain = pattern(DATA);
    fs::write(guest.path("plain"), &plain).unwrap();
    fs::write(guest.path("key"), PASSWORD).unwrap();
    for combination in COMBINATIONS.into_iter().chain(RARE) {
        make_sparse(&guest.path(&format!("{combination}.img")), &combination);
        let script = format!(
            "cryptsetup luksFormat --batch-mode --use-urandom {} {combination}.img key
             cryptsetup open --key-file key {combination}.img volume
             dd if=plain of=/dev/mapper/volume bs=64k conv=fsync status=none
             cryptsetup close volume",
            combination.cryptsetup_options()
        );
        guest.add(&combination.to_string(), &script);
    }
    assert_all_done(&guest.run());
    for combination in COMBINATIONS.into_iter().chain(RARE) {
        let container = place.path(&format!("{combination}.img"));
        programs::copy(&guest.path(&format!("{combination}.img")), &container);
        place.give(&container);
        assert!(read_by_strongroom(&place, &container, "", DATA) == plain, "{combination}: other data");
        fs::remove_file(container).unwrap();
    }
    place.assert_clean();
}

#[test]
fn strongroom_reads_what_qemu_wrote() {
    let Some(place) = place_of_ordinary_user() else { return };
    if !programs::is_there("qemu-img") {
        return;
    }
    let plain = pattern(DATA);
    let source = place.make_file("plain", &plain);
    let key = place.path("key");
    for options in [
        "",
        ",cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1",
        ",cipher-alg=serpent-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha512",
        ",cipher-alg=serpent-128,cipher-mode=cbc,ivgen-alg=plain64",
        ",cipher-alg=twofish-256,cipher-mode=xts,ivgen-alg=plain,hash-alg=ripemd160",
        ",cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=plain64",
    ] {
        let container = place.path("qemu.img");
        programs::make_by_qemu(&source, &container, &key, options);
        place.give(&container);
        assert!(read_by_strongroom(&place, &container, "", DATA) == plain, "qemu {options}: other data");
        fs::remove_file(container).unwrap();
    }
}

#[test]
fn strongroom_reads_what_cryptsetup_encrypted_by_itself() {
    let Some(place) = place_of_ordinary_user() else { return };
    if !programs::is_there("cryptsetup") {
        return;
    }
    let plain = pattern(DATA);
    let key = place.path("key");
    for options in [
        ["--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "4096"],
        ["--cipher", "aes-cbc-essiv:sha256", "--key-size", "256", "--sector-size", "512"],
    ] {
        let container = place.path("cryptsetup.img");
        programs::make_by_cryptsetup(&plain, &container, &key, &options);
        place.give(&container);
        assert!(read_by_strongroom(&place, &container, "", DATA) == plain, "{options:?}: other data");
        // The way back proves the way back of the other tests.
        assert!(programs::read_by_cryptsetup(&container, &key, false)[..DATA] == plain, "{options:?}");
    }
}

#[test]
fn sector_numbers_above_32_bits_are_as_dm_crypt_counts_them() {
    let (Some(mut guest), Some(place)) = (Guest::new(), place_of_ordinary_user()) else { return };
    // Half of the data before the sector with number 2^32, half behind it.
    let plain = pattern(64 << 10);
    let start = (1_u64 << 41) - (32 << 10);
    fs::write(guest.path("plain"), &plain).unwrap();
    fs::write(guest.path("key"), PASSWORD).unwrap();
    let ciphers =
        ["aes-xts-plain64", "aes-xts-plain", "aes-cbc-plain", "aes-cbc-essiv:sha256", "aes-lrw-benbi"];
    let name = |cipher: &str| format!("{}.img", cipher.replace(':', "-"));
    for cipher in ciphers {
        let container = name(cipher);
        fs::File::create(guest.path(&container)).unwrap().set_len((1 << 41) + (64 << 20)).unwrap();
        let script = format!(
            "cryptsetup luksFormat --batch-mode --use-urandom --type luks2 --cipher {cipher} --key-size {} \
                 --sector-size 512 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {container} key
             cryptsetup open --key-file key {container} volume
             dd if=plain of=/dev/mapper/volume bs=4k oflag=seek_bytes seek={start} conv=fsync status=none
             cryptsetup close volume",
            if cipher.contains("lrw") { 384 } else { 256 }
        );
        guest.add(&container, &script);
    }
    assert_all_done(&guest.run());
    for cipher in ciphers {
        let container = name(cipher);
        fs::rename(guest.path(&container), place.path(&container)).unwrap();
        place.give(&place.path(&container));
        place.done(&format!("mount --block --read-only {container} m --password-file password"));
        let mut dd = place.command("/bin/dd");
        let read = dd.arg("if=m/volume").arg("bs=64k").arg("count=1").arg("iflag=skip_bytes,fullblock");
        let content = read.arg(format!("skip={start}")).output().unwrap().stdout;
        place.done("unmount m");
        assert!(content == plain, "{cipher}: other data");
        fs::remove_file(place.path(&container)).unwrap();
    }
}
