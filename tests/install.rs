//! What `make install` installs: where it goes, and whether the system's own programs take it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_strongroom");
/// The names that a desktop calls it by.
const NAMES: [&str; 2] = ["org.strongroom.Strongroom", "org.strongroom.Strongroom.VeraCrypt"];

/// Runs a target of the Makefile with the program of the tests.
fn make(target: &str, variables: &[String]) {
    let made = Command::new("make")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-o", PROGRAM, target, &format!("BINARY={PROGRAM}")])
        .args(variables)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// What a program says of a file; `None` where it is not installed.
fn judged(program: &str, arguments: &[&Path]) -> Option<Output> {
    let mut command = Command::new(program);
    let output = command.args(arguments).env("SYSTEMD_LOG_LEVEL", "warning").output();
    if output.is_err() {
        // Which of them a machine has is left to it.
        eprintln!("left out: {program} is not installed");
    }
    output.ok()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() && !path.is_symlink() { files_below(&path) } else { vec![path] })
        .collect()
}

#[test]
fn the_system_finds_what_is_installed_and_uninstall_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let variables = [format!("DESTDIR={}", root.path().display()), "PREFIX=/usr/local".to_owned()];
    make("install", &variables);
    let at = |path: &str| root.path().join(path);
    assert_eq!(
        fs::read_link(at("usr/sbin/mount.strongroom")).unwrap(),
        Path::new("/usr/local/bin/strongroom")
    );
    for unit in ["system", "user"] {
        let text =
            fs::read_to_string(at(&format!("usr/local/lib/systemd/{unit}/strongroom@.service"))).unwrap();
        assert!(
            text.contains("ExecStart=/usr/sbin/mount.strongroom %f none") && !text.contains("@PROGRAM@"),
            "{text}"
        );
    }
    for file in [
        "applications/org.strongroom.Strongroom.desktop",
        "mime/packages/strongroom.xml",
        "icons/hicolor/scalable/apps/strongroom.svg",
    ] {
        assert!(at("usr/local/share").join(file).is_file(), "{file}");
    }
    for name in NAMES {
        let service = at(&format!("usr/local/share/dbus-1/services/{name}.service"));
        let service = fs::read_to_string(service).unwrap();
        let expected =
            format!("[D-BUS Service]\nName={name}\nExec=/usr/local/bin/strongroom __desktop {name}\n");
        assert_eq!(service, expected);
        // It answers to that: what stops it is that it has no desktop here.
        let called = Command::new(PROGRAM).args(["__desktop", name]).env_clear().output().unwrap();
        assert!([Some(2), Some(7)].contains(&called.status.code()), "{called:?}");
    }
    make("uninstall", &variables);
    let left = files_below(root.path());
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn programs_of_the_system_take_units_types_and_entries() {
    let root = tempfile::tempdir().unwrap();
    make("install", &[format!("PREFIX={}", root.path().display())]);
    let at = |path: &str| root.path().join(path);
    for unit in ["system", "user"] {
        let template = at(&format!("share/systemd/{unit}/strongroom@.service"));
        let instance = template.with_file_name("strongroom@srv-photos.vault.service");
        fs::copy(&template, &instance).unwrap();
        let words = [Path::new("verify"), Path::new("--man=no"), &instance];
        let words = if unit == "user" { [Path::new("--user"), words[0], words[2]] } else { words };
        if let Some(verified) = judged("systemd-analyze", &words) {
            let told = String::from_utf8_lossy(&verified.stderr);
            let own: Vec<_> = told.lines().filter(|line| line.contains("strongroom@")).collect();
            assert!(own.is_empty(), "{own:?}");
        }
    }
    for entry in NAMES {
        let entry = at(&format!("share/applications/{entry}.desktop"));
        let text = fs::read_to_string(&entry).unwrap();
        assert!(text.contains("\nDBusActivatable=true\n"), "{text}");
        if let Some(validated) = judged("desktop-file-validate", &[&entry]) {
            assert!(validated.status.success() && validated.stdout.is_empty(), "{validated:?}");
        }
    }
    let types = at("share/mime/packages/strongroom.xml");
    if let Some(well_formed) = judged("xmllint", &[Path::new("--noout"), &types]) {
        assert!(well_formed.status.success(), "{well_formed:?}");
    }
    if judged("update-mime-database", &[&at("share/mime")]).is_some_and(|updated| updated.status.success()) {
        let globs = fs::read_to_string(at("share/mime/globs2")).unwrap();
        for known in ["application/x-veracrypt-volume:*.hc", "application/x-strongroom-vault:*.vault"] {
            assert!(globs.contains(known), "{globs}");
        }
        let magic = fs::read(at("share/mime/magic")).unwrap();
        for signature in [&b"\x89STRONGROOM\r\n\x1a\n"[..], b"LUKS\xba\xbe"] {
            assert!(magic.windows(signature.len()).any(|bytes| bytes == signature), "{signature:?}");
        }
    }
}
