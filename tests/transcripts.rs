//! Every message that needs no mount, frozen: `tests/cmd/*.trycmd` run in a directory with containers whole and broken.
//!
//! `TRYCMD=overwrite cargo test --test transcripts` writes down what the program says now; read the difference.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use place::{CHEAP, Ended, Place, vector};
use serde::Deserialize;

#[test]
fn the_program_says_what_its_transcripts_say() {
    let place = furnished();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd/*.trycmd");
    std::env::set_current_dir(place.folder()).unwrap();
    let transcripts = trycmd::TestCases::new();
    transcripts.env("COLUMNS", "100").case(cases).run();
}

#[test]
fn the_short_help_of_what_everybody_uses_fits_on_a_page() {
    let place = Place::of_this_user();
    for command in ["create", "mount", "open", "stick"] {
        let lines = place.shell(&format!("COLUMNS=80 ./strongroom {command} -h")).lines().count();
        assert!(lines <= 66, "{command}: {lines}");
    }
}

#[test]
fn a_flipped_bit_in_both_copies_is_exit_status_4() {
    for (name, ended) in tests_of_vectors("flip-", "-both") {
        assert_eq!(ended.status, Some(4), "{name}: {ended:?}");
        assert!(ended.errors.starts_with("strongroom: error: cannot "), "{name}: {ended:?}");
    }
}

#[test]
fn a_flipped_bit_in_one_copy_leaves_the_other_to_open() {
    for (name, ended) in tests_of_vectors("flip-", "-a") {
        assert_eq!(ended.status, Some(0), "{name}: {ended:?}");
        assert_eq!(ended.out, "keyslot 0 opens\n", "{name}");
    }
}

#[test]
fn the_manual_holds_every_command_and_exit_status() {
    let page = Place::of_this_user().done("man");
    for command in [
        "create",
        "mount",
        "unmount",
        "list",
        "info",
        "key list",
        "header backup",
        "header restore",
        "header repair",
        "key test",
        "key add",
        "key change",
        "key remove",
        "import",
        "export",
        "stick",
        "check",
        "erase",
        "doctor",
        "benchmark",
        "completions",
        "man",
    ] {
        assert!(page.contains(&format!(".SS \"strongroom {command}\"")), "{command}");
    }
    for status in ["0", "1", "2", "3", "4", "5", "6", "7", "130"] {
        assert!(page.contains(&format!(".TP\n\\fB{status}\\fR\n")), "{status}");
    }
    assert!(!page.contains("__"));
}

#[test]
fn every_promised_shell_has_completions() {
    let place = Place::of_this_user();
    for shell in ["bash", "zsh", "fish", "elvish"] {
        let script = place.done(&format!("completions {shell}"));
        assert!(script.contains("unmount") && script.contains("password-file"), "{shell}");
    }
}

/// What begins with no dash is a file: bash completes those by itself where a script offers nothing.
#[test]
fn bash_offers_options_only_to_who_begins_one() {
    let place = Place::of_this_user();
    place.make_file("script", place.done("completions bash"));
    let offered = |words: &str| {
        let script = format!(
            ". ./script; COMP_WORDS=(strongroom {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _strongroom_or_mounted strongroom \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; printf '%s ' \"${{COMPREPLY[@]}}\""
        );
        let ended = place.command("/bin/bash").args(["-c", &script]).output().unwrap();
        String::from_utf8(ended.stdout).unwrap()
    };
    assert_eq!(offered("mount ''").trim(), "");
    assert_eq!(offered("header backup v ''").trim(), "");
    assert!(offered("mount --rec").contains("--recovery-key"));
    assert!(offered("mo").contains("mount"));
    assert!(offered("create --format ve").contains("veracrypt"));
}

#[test]
fn bash_offers_the_keyslots_that_there_are_with_their_labels() {
    let place = Place::of_this_user();
    place.copy_vector("password.img", "my v.vault");
    place.make_file("new", "basil quartz ember thimble gravel\n");
    place.done(&format!(
        "key add 'my v.vault' {CHEAP} --label 'anna & co' --password-file password --new-password-file new --slot 10"
    ));
    assert_eq!(place.done("key list 'my v.vault' --names"), "0\tpassword, main\n10\tpassword, anna & co\n");
    // What takes its password to look into has no names for whoever completes a line.
    place.make_file("random", vec![7; 1 << 20]);
    assert_eq!(place.done("key list random --names --format veracrypt"), "");
    place.make_file("script", place.done("completions bash"));
    place.make_folder("key");
    let offered = |words: &str| {
        let script = format!(
            ". ./script; COMP_WORDS=(./strongroom {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _strongroom_or_mounted; printf '[%s]' \"${{COMPREPLY[@]}}\""
        );
        let ended = place.command("/bin/bash").args(["-c", &script]).output().unwrap();
        String::from_utf8(ended.stdout).unwrap()
    };
    // As they stand on the line, quoted.
    let vault = "'my\\ v.vault'";
    let both = "[0 (password, main)][10 (password, anna & co)]";
    assert_eq!(offered(&format!("key remove {vault} --slot ''")), both);
    assert_eq!(offered(&format!("key remove {vault} --unlock-slot = ''")), both);
    assert_eq!(offered(&format!("open {vault} --slot =")), both);
    assert_eq!(offered(&format!("key change {vault} --slot 1")), "[10]");
    assert_eq!(offered("open nothing.vault --slot ''"), "[]");
}

#[test]
fn a_password_comes_over_a_descriptor_or_standard_input() {
    let place = furnished();
    for source in ["--password-fd 3 3< password", "--password-file - < password"] {
        assert_eq!(place.done(&format!("key test whole.vault {source}")), "keyslot 0 opens\n");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::of_this_user();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = place.command(place.path("strongroom")).arg("man").stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_full_standard_output_is_an_error() {
    let ended = Place::of_this_user().strongroom("man > /dev/full");
    assert_eq!(ended.status, Some(6));
    assert_eq!(ended.errors, "strongroom: error: cannot write to standard output: no space left on device\n");
}

#[cfg(feature = "fido2")]
#[test]
fn a_token_that_is_not_there_is_told_before_the_password_is_asked() {
    if fs::read_dir("/sys/class/hidraw").is_ok_and(|devices| devices.count() > 0) {
        println!("skipped: there is a HID device, which may be a token");
        return;
    }
    let place = furnished();
    for (command, what) in [
        ("key test fido2.vault --security-key", "cannot unlock fido2.vault"),
        ("key add whole.vault --fido2 --password-file nowhere", "cannot add a keyslot to whole.vault"),
    ] {
        let refused = place.strongroom(command);
        assert_eq!(refused.status, Some(4), "{command}");
        let expected = format!(
            "strongroom: error: {what}: no FIDO2 token found\nstrongroom: hint: plug it in and try again\n"
        );
        assert_eq!(refused.errors, expected, "{command}");
    }
}

/// The recovery key of `recovery.vault`, as section 5.1 of the specification prints it.
const RECOVERY_KEY: &str = "\
312576-091322-274384-285648
125158-296032-091322-091179
274417-285538-090761-141361
276320-327987-324951-718586
457666
";

/// A place with the files that the transcripts name.
fn furnished() -> Place {
    let place = Place::of_this_user();
    let write = |name: &str, bytes: &[u8]| drop(place.make_file(name, bytes));
    write("wrong-password", b"incorrect horse\n");
    write("empty-password", b"\n");
    write("long-password", &vec![b'x'; (1 << 20) + 1]);
    write("keyfile", b"the content of a keyfile");
    write("new-password", b"clamp orbit velvet mossy tundra wagon\n");
    write("recovery-key", RECOVERY_KEY.as_bytes());
    write("wrong-recovery-key", RECOVERY_KEY.replace("274384", "274385").as_bytes());
    write("other-recovery-key", "000000-".repeat(16).as_bytes());
    write("zeros.vault", &vec![0; 3 << 20]);
    write("noise.vault", &noise(3 << 20));
    write("password-of-129-bytes", &[b'a'; 129]);
    write("empty.vault", b"");
    write("photos.txt", b"holiday\n");
    write("doomed.txt", b"not a container\n");
    place.make_folder("not-empty");
    write("not-empty/photo", b"kept");
    place.make_folder("empty");
    for (name, vector) in [
        ("whole.vault", "password"),
        ("keyfiles.vault", "keyfiles"),
        ("recovery.vault", "recovery-key"),
        ("fido2.vault", "fido2-token"),
        ("damaged-a.vault", "copy-a-zeros"),
        ("damaged-both.vault", "flip-data-offset-both"),
        ("tampered.vault", "forged-mac-both"),
        ("cut-off.vault", "cut-off"),
        ("future.vault", "flip-version-both"),
        ("new-version.vault", "forged-version-both"),
        ("costly.vault", "forged-memory-1-tib"),
        ("doomed.vault", "password"),
        ("doomed-damaged.vault", "flip-data-offset-both"),
        ("doomed-future.vault", "forged-version-both"),
    ] {
        write(name, &Vector::read(vector).image());
        // What `check` says of them must not hang on the umask of whoever runs this.
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    furnish_headers(&place);
    place
}

/// Headers outside their containers, and containers that lost theirs. The transcripts of `header` change them.
fn furnish_headers(place: &Place) {
    let write = |name: &str, bytes: &[u8]| drop(place.make_file(name, bytes));
    let whole = Vector::read("password").image();
    for (name, source) in [("detached.vault", "detached.img"), ("detached.header", "detached.header")] {
        place.copy_vector(source, name);
    }
    for (name, vector) in [
        ("album.vault", "password"),
        ("torn.vault", "copy-a-zeros"),
        ("broken.vault", "flip-data-offset-both"),
        ("shared.vault", "copy-b-of-another-container"),
    ] {
        write(name, &Vector::read(vector).image());
    }
    write("random.vault", &noise(1 << 20));
    // As large as VeraCrypt's.
    write("noise.header", &noise(131_072));
    let mut formatted = noise(1 << 20);
    formatted[1024..2048].fill(0);
    formatted[1080..1082].copy_from_slice(&[0x53, 0xef]);
    write("formatted.vault", &formatted);
    write("shifted.vault", &[&[0; 5 * 512][..], &whole, &[0; 512][..]].concat());
    write("headless.vault", &whole[8192..]);
    // A file system was made over the start, and the image has grown: copy B is too far from the end to be looked for.
    let mut grown = whole;
    grown[..65_536].fill(0);
    grown[1080..1082].copy_from_slice(&[0x53, 0xef]);
    grown.resize(4 << 20, 0);
    write("grown.vault", &grown);
}

/// Bytes without a pattern, the same on each run (xorshift64).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// What `key test` says of the vectors with these names.
fn tests_of_vectors(start: &str, end: &str) -> Vec<(String, Ended)> {
    let place = Place::of_this_user();
    let names = vectors().into_iter().filter(|name| name.starts_with(start) && name.ends_with(end));
    let tested = names.map(|name| {
        place.make_file("container", Vector::read(&name).image());
        (name, place.strongroom("key test container --password-file password"))
    });
    tested.collect()
}

/// A vector of the native format: an image, and what is changed in it.
#[derive(Debug, Deserialize)]
struct Vector {
    base: String,
    length: Option<u64>,
    #[serde(default)]
    edit: Vec<Edit>,
}

#[derive(Debug, Deserialize)]
struct Edit {
    offset: usize,
    bytes: String,
}

impl Vector {
    fn read(name: &str) -> Self {
        let text = fs::read_to_string(vector(&format!("{name}.toml"))).unwrap();
        toml::from_str(&text).unwrap()
    }

    fn image(&self) -> Vec<u8> {
        let mut image = fs::read(vector(&self.base)).unwrap();
        if let Some(length) = self.length {
            image.resize(usize::try_from(length).unwrap(), 0);
        }
        for edit in &self.edit {
            let bytes = hex::decode(&edit.bytes).unwrap();
            image[edit.offset..edit.offset + bytes.len()].copy_from_slice(&bytes);
        }
        image
    }
}

fn vectors() -> Vec<String> {
    let names = fs::read_dir(vector("")).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let is_vector = path.extension().is_some_and(|extension| extension == "toml");
        is_vector.then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
    });
    let names: Vec<_> = names.collect();
    assert!(names.len() > 50, "the vectors are gone");
    names
}
