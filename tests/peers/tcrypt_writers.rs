//! VeraCrypt and TrueCrypt volumes of strongroom, opened by cryptsetup in the guest, their file systems mounted there.

use std::fs;

use crate::{
    guest::{Guest, assert_all_done},
    pattern,
    place::Place,
    place_of_ordinary_user, programs,
    tcrypt::Opening,
};

/// A volume to be made: a chain in the order of encryption, a function, a PIM.
#[derive(Debug, Clone, Copy)]
struct Kind {
    cipher: &'static str,
    prf: &'static str,
    pim: u32,
    has_keyfiles: bool,
    is_truecrypt: bool,
}

const fn plain(cipher: &'static str, prf: &'static str, pim: u32) -> Kind {
    Kind { cipher, prf, pim, has_keyfiles: false, is_truecrypt: false }
}

const fn truecrypt(cipher: &'static str, prf: &'static str) -> Kind {
    Kind { is_truecrypt: true, ..plain(cipher, prf, 0) }
}

/// Every chain whose ciphers the guest's kernel has, every function that its cryptsetup has. Those with PIM 0 cost seconds.
const KINDS: [Kind; 20] = [
    plain("aes", "sha512", 1),
    plain("serpent", "sha256", 1),
    plain("twofish", "blake2s", 1),
    plain("camellia", "whirlpool", 1),
    plain("twofish-aes", "sha512", 1),
    plain("serpent-twofish-aes", "sha256", 1),
    plain("aes-serpent", "blake2s", 1),
    plain("aes-twofish-serpent", "whirlpool", 2),
    plain("serpent-twofish", "sha512", 1),
    plain("serpent-camellia", "sha256", 3),
    plain("aes", "sha512", 0),
    plain("aes", "sha256", 0),
    plain("aes", "blake2s", 0),
    plain("aes", "whirlpool", 0),
    Kind { has_keyfiles: true, ..plain("aes", "sha512", 1) },
    Kind { has_keyfiles: true, ..plain("serpent-twofish-aes", "sha256", 33) },
    truecrypt("aes", "ripemd160"),
    truecrypt("aes-twofish-serpent", "sha512"),
    truecrypt("serpent-twofish", "whirlpool"),
    Kind { has_keyfiles: true, ..truecrypt("twofish", "ripemd160") },
];

impl Kind {
    fn format(&self) -> &'static str {
        if self.is_truecrypt { "truecrypt" } else { "veracrypt" }
    }

    fn name(&self) -> String {
        let Self { cipher, prf, pim, has_keyfiles, .. } = self;
        let keyfiles = if *has_keyfiles { "-keyfiles" } else { "" };
        format!("{}-{cipher}-{prf}-{pim}{keyfiles}", self.format())
    }

    /// What opens it, for strongroom.
    fn options(&self) -> String {
        let keyfiles = if self.has_keyfiles { " --keyfile one --keyfile two" } else { "" };
        format!("--format {} --prf {} --pim {}{keyfiles}", self.format(), self.prf, self.pim)
    }

    /// The same, for cryptsetup.
    fn opening(&self) -> Opening {
        let keyfiles: &[_] = if self.has_keyfiles { &["two", "one"] } else { &[] };
        Opening {
            is_truecrypt: self.is_truecrypt,
            prf: self.prf,
            pim: self.pim,
            keyfiles,
            ..Opening::default()
        }
    }
}

/// A place with a file to be kept in volumes, and keyfiles.
fn prepare(place: &Place) {
    place.make_file("content", pattern(CONTENT));
    place.make_file("one", "what a keyfile may hold");
    place.make_file("two", pattern(3000));
}

/// Makes a volume with a file system, and puts the file there.
fn make(place: &Place, kind: &Kind) -> String {
    let name = format!("{}.img", kind.name());
    place.done(&format!(
        "create {name} --size 4M --filesystem ext4 --cipher {} {} --password-file password",
        kind.cipher,
        kind.options()
    ));
    fill(place, &name, &kind.options());
    name
}

/// Puts the file into a volume, through the mount.
fn fill(place: &Place, container: &str, options: &str) {
    place.done(&format!("mount {container} m --password-file password {options}"));
    place.shell("cp content m/content");
    place.done("unmount m");
}

/// A job that mounts the volume and compares the file.
fn compare(opening: &Opening, container: &str) -> String {
    format!(
        "{}
         e2fsck -fn /dev/mapper/volume
         mount -o ro /dev/mapper/volume /mnt
         cmp content /mnt/content
         umount /mnt
         cryptsetup close volume",
        opening.command(container)
    )
}

#[test]
fn cryptsetup_and_dm_crypt_read_the_file_systems_in_volumes_of_strongroom() {
    let (Some(mut guest), Some(place)) = (Guest::new(), place_of_ordinary_user()) else { return };
    prepare(&place);
    for file in ["content", "one", "two"] {
        programs::copy(&place.path(file), &guest.path(file));
    }
    for kind in KINDS {
        let container = make(&place, &kind);
        programs::copy(&place.path(&container), &guest.path(&container));
        fs::remove_file(place.path(&container)).unwrap();
        guest.add(&kind.name(), &compare(&kind.opening(), &container));
        // Where it costs little, the header at the end too.
        if kind.pim == 1 || kind.is_truecrypt {
            let opening = Opening { is_backup: true, ..kind.opening() };
            guest.add(&format!("{}-backup", kind.name()), &compare(&opening, &container));
        }
    }
    assert_all_done(&guest.run());
    place.assert_clean();
}

#[test]
fn cryptsetup_and_dm_crypt_read_hidden_and_outer_volume() {
    let (Some(mut guest), Some(place)) = (Guest::new(), place_of_ordinary_user()) else { return };
    prepare(&place);
    programs::copy(&place.path("content"), &guest.path("content"));
    place.make_file("hidden", HIDDEN_PASSWORD);
    let outer = plain("twofish-aes", "sha512", 1);
    let container = make(&place, &outer);
    place.done(&format!(
        "create {container} --hidden --size 2M --filesystem ext4 {} --password-file password \
         --new-password-file hidden --new-prf sha256 --new-pim 2",
        outer.options()
    ));
    let options = "--format veracrypt --hidden --prf sha256 --pim 2";
    place.done(&format!("mount {container} m --password-file hidden {options}"));
    place.shell("cp content m/content");
    place.done("unmount m");
    programs::copy(&place.path(&container), &guest.path(&container));
    let hidden = Opening {
        is_hidden: true,
        password: Some(HIDDEN_PASSWORD),
        prf: "sha256",
        pim: 2,
        ..Opening::default()
    };
    for (name, opening) in [("outer", outer.opening()), ("hidden", hidden)] {
        guest.add(name, &compare(&opening, &container));
        let backup = Opening { is_backup: true, ..opening };
        guest.add(&format!("{name}-backup"), &compare(&backup, &container));
    }
    assert_all_done(&guest.run());
    place.assert_clean();
}

const HIDDEN_PASSWORD: &str = "quite another pass phrase 9";
const CONTENT: usize = 300_000;
