//! The other programs on this machine.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::place::is_skipped;

/// Whether a program is there. Where not, says so in one line; panics there with `STRONGROOM_REQUIRE=1`.
pub(crate) fn is_there(program: &str) -> bool {
    let folders = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    found || is_skipped(&format!("{program} is not installed; make setup brings it"))
}

/// A folder of the build, as cargo has it.
pub(crate) fn build_folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// Runs a program, which must succeed, and gives its output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    attempt(program, arguments).unwrap_or_else(|errors| panic!("{program} {arguments:?}: {errors}"))
}

/// Runs a program and gives its output; what it said of errors where it failed.
fn attempt(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    let output = command.args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8(output.stdout).unwrap())
}

/// Copies a file, sparse as it is.
pub(crate) fn copy(from: &Path, to: &Path) {
    run("cp", &["--sparse=always", from.to_str().unwrap(), to.to_str().unwrap()]);
}

/// cryptsetup, with as little delay as it allows.
pub(crate) fn cryptsetup(arguments: &[&str]) -> String {
    run("cryptsetup", &[&["--batch-mode", "--disable-locks"], arguments].concat())
}

/// What opens a LUKS1 container for qemu.
pub(crate) fn qemu_source(container: &Path) -> String {
    format!("driver=luks,key-secret=key,file.filename={}", container.display())
}

pub(crate) fn qemu_secret(key: &Path) -> String {
    format!("secret,id=key,file={}", key.display())
}

/// The data of a LUKS1 container, by qemu-img.
pub(crate) fn read_by_qemu(container: &Path, key: &Path, plain: &Path) -> Vec<u8> {
    let (secret, source) = (qemu_secret(key), qemu_source(container));
    let plain_name = plain.to_str().unwrap();
    run("qemu-img", &["convert", "--object", &secret, "--image-opts", &source, "-O", "raw", plain_name]);
    std::fs::read(plain).unwrap()
}

/// A LUKS1 container with this content, by qemu-img. `options` are its cipher and mode.
pub(crate) fn make_by_qemu(plain: &Path, container: &Path, key: &Path, options: &str) {
    let secret = qemu_secret(key);
    // Its costs cannot be set, only how long it measures: the least.
    let options = format!("key-secret=key,iter-time=10{options}");
    let names = (plain.to_str().unwrap(), container.to_str().unwrap());
    let arguments =
        ["convert", "--object", &secret, "-f", "raw", "-O", "luks", "-o", &options, names.0, names.1];
    // On a busy machine it fails at measuring, a third of the time.
    for _ in 0..20 {
        match attempt("qemu-img", &arguments) {
            Ok(_) => return,
            Err(errors) => assert!(errors.contains("CPU usage"), "qemu-img {arguments:?}: {errors}"),
        }
    }
    panic!("qemu-img cannot measure how fast it is, in 20 attempts");
}

/// The data of an AES container, by cryptsetup: a copy is decrypted in place.
pub(crate) fn read_by_cryptsetup(container: &Path, key: &Path, is_luks1: bool) -> Vec<u8> {
    let copy = container.with_extension("copy");
    let header = container.with_extension("header");
    self::copy(container, &copy);
    let (copy_name, header_name) = (copy.to_str().unwrap(), header.to_str().unwrap());
    if is_luks1 {
        cryptsetup(&["convert", "--type", "luks2", copy_name]);
    }
    let key = key.to_str().unwrap();
    let decrypt = ["reencrypt", "--decrypt", "--force-offline-reencrypt", "--header", header_name];
    cryptsetup(&[&decrypt[..], &["--key-file", key, copy_name]].concat());
    let content = std::fs::read(&copy).unwrap();
    for file in [copy, header] {
        std::fs::remove_file(file).unwrap();
    }
    content
}

/// An AES container of LUKS2 with this content, by cryptsetup. `options` are cipher, key and sector size.
pub(crate) fn make_by_cryptsetup(plain: &[u8], container: &Path, key: &Path, options: &[&str]) {
    std::fs::write(container, plain).unwrap();
    let size = u64::try_from(plain.len()).unwrap() + (16 << 20);
    std::fs::OpenOptions::new().write(true).open(container).unwrap().set_len(size).unwrap();
    let encrypt = ["reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", "16M"];
    let cost = ["--pbkdf", "argon2id", "--pbkdf-memory", "32", "--pbkdf-force-iterations", "4"];
    let names = ["--pbkdf-parallel", "1", "--key-file", key.to_str().unwrap(), container.to_str().unwrap()];
    cryptsetup(&[&encrypt[..], &cost, options, &names].concat());
}

/// The Python that has dissect.fve.
pub(crate) fn python() -> Option<PathBuf> {
    let python = build_folder().join("peers/python/bin/python");
    (python.exists() || is_skipped("dissect.fve is not installed; make setup brings it")).then_some(python)
}

/// The data of an AES container, by dissect.fve.
pub(crate) fn read_by_dissect(python: &Path, container: &Path, key: &Path, length: usize) -> Vec<u8> {
    const SCRIPT: &str = "
import sys
from pathlib import Path
from dissect.fve.luks import LUKS
container, key, length = sys.argv[1:]
with open(container, 'rb') as file:
    luks = LUKS(file)
    luks.unlock_with_key_file(Path(key))
    sys.stdout.buffer.write(luks.open().read(int(length)))
";
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).arg(container).arg(key).arg(length.to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", container.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}
