//! The same list once more through the real command: mounted as an ordinary user, read from the block file.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use strongroom::format::FORMATS;

use crate::{
    foreign::Fixtures,
    place::{Ended, Place, can_mount},
};

/// One container of the list, as far as the command line is concerned.
#[derive(Debug, Clone, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "it is the list's shape")]
struct Case {
    id: String,
    file: String,
    format: String,
    password: Option<String>,
    #[serde(default)]
    keyfiles: Vec<String>,
    pim: Option<u32>,
    #[serde(default)]
    hidden: bool,
    #[serde(default)]
    backup_header: bool,
    prf: Option<String>,
    #[serde(default)]
    cipher: String,
    #[serde(default)]
    legacy: bool,
    #[serde(default)]
    system: bool,
    expect: Option<Expect>,
}

/// What is known of the plaintext; perhaps only what file system there is.
#[derive(Debug, Clone, Deserialize)]
struct Expect {
    length: Option<usize>,
    sha256: Option<String>,
    first_sector_sha256: Option<String>,
    filesystem: Option<String>,
}

impl Case {
    /// Whether the format, at this age or with this cipher, must be opened for reading only.
    fn is_read_only(&self) -> bool {
        self.legacy || self.cipher.ends_with("-ecb")
    }

    /// Whether it may have to be: a system's drive, of which the image has only a part.
    fn may_be_read_only(&self) -> bool {
        self.is_read_only() || self.system
    }

    /// Whether the cipher is one that nobody promises to open.
    fn may_be_refused(&self) -> bool {
        ["blowfish", "cast5", "des3_ede", "gost"].iter().any(|cipher| self.cipher.contains(cipher))
    }

    fn is_signed(&self) -> bool {
        self.format.starts_with("luks")
    }

    /// The options that say where and how the password opens it; with `has_hints` those too that only make it faster.
    fn options(&self, images: &Path, has_hints: bool) -> Vec<String> {
        let mut options = Vec::new();
        let mut option = |name: &str, value: &str| {
            options.push(name.to_owned());
            options.extend((!value.is_empty()).then(|| value.to_owned()));
        };
        for keyfile in &self.keyfiles {
            option("--keyfile", images.join(keyfile).to_str().unwrap());
        }
        if self.is_signed() {
            return options;
        }
        option("--format", &self.format);
        if let (Some(prf), true) = (&self.prf, has_hints) {
            option("--prf", prf);
        }
        if let Some(pim) = self.pim {
            option("--pim", &pim.to_string());
        }
        for (name, is_given) in
            [("--hidden", self.hidden), ("--backup-header", self.backup_header), ("--system", self.system)]
        {
            if is_given {
                option(name, "");
            }
        }
        options
    }
}

/// A place with the images, all the user's own.
struct Stage {
    place: Place,
    images: PathBuf,
}

impl Stage {
    fn new(fixtures: &Fixtures) -> Self {
        let place = Place::of_ordinary_user();
        let images = place.path("images");
        let copied = std::process::Command::new("cp")
            .args(["-r", "--sparse=always"])
            .arg(fixtures.image(""))
            .arg(&images)
            .status();
        assert!(copied.unwrap().success());
        let mut folders = vec![images.clone()];
        while let Some(folder) = folders.pop() {
            place.give(&folder);
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { place.give(&path) }
            }
        }
        Self { place, images }
    }

    /// Mounts the block file of a case on `mountpoint`, with this password and these options.
    fn mount(&self, case: &Case, mountpoint: &Path, password: Option<&str>, options: Vec<String>) -> Ended {
        let mut arguments = vec!["mount".to_owned(), "--block".to_owned(), "--tries=1".to_owned()];
        arguments.extend(options);
        match password {
            Some(password) => {
                // One newline is dropped.
                let name = mountpoint.with_extension("password");
                let file = self.place.make_file(name.to_str().unwrap(), format!("{password}\n"));
                arguments.extend(["--password-file".to_owned(), file.to_str().unwrap().to_owned()]);
            }
            None if case.is_signed() => {}
            None => arguments.push("--no-password".to_owned()),
        }
        let container = self.images.join(&case.file);
        arguments.extend([container, mountpoint.to_path_buf()].map(|path| path.to_str().unwrap().to_owned()));
        self.place.strongroom(&arguments.join(" "))
    }

    /// The whole decrypted volume, or why there is none.
    fn read(&self, case: &Case, number: usize, has_hints: bool) -> Result<Vec<u8>, Ended> {
        let mountpoint = self.place.make_folder(&format!("m{number}"));
        let mut options = case.options(&self.images, has_hints);
        let mut output = self.mount(case, &mountpoint, case.password.as_deref(), options.clone());
        if output.status == Some(4) && output.errors.contains("--read-only") {
            assert!(case.may_be_read_only(), "{}: {output:?}", case.id);
            options.push("--read-only".to_owned());
            output = self.mount(case, &mountpoint, case.password.as_deref(), options);
        } else if output.status == Some(0) {
            assert!(!case.is_read_only(), "{} opens for writing", case.id);
        }
        if output.status != Some(0) {
            return Err(output);
        }
        // Not even root looks into the user's mount.
        let mut cat = self.place.command("/bin/cat");
        let content = cat.arg(mountpoint.join("volume")).output().unwrap();
        assert!(content.status.success(), "{}: {}", case.id, String::from_utf8_lossy(&content.stderr));
        self.place.done(&format!("unmount {}", mountpoint.display()));
        Ok(content.stdout)
    }
}

/// The cases of known formats with something expected of them, and a place for them.
fn stage() -> Option<(Stage, Vec<Case>)> {
    if !can_mount() {
        return None;
    }
    let fixtures = Fixtures::unpack()?;
    let list: Vec<Case> = serde_json::from_slice(&fs::read(fixtures.list()).unwrap()).unwrap();
    let known = |case: &Case| FORMATS.iter().any(|format| case.format == format.name());
    let cases: Vec<Case> =
        list.into_iter().filter(|case| case.expect.is_some()).filter(|case| known(case)).collect();
    assert!(!cases.is_empty(), "the list has no case of a known format");
    Some((Stage::new(&fixtures), cases))
}

/// Does something with each case, on all processors. Cases of one file follow each other: one writer at a time opens it.
fn for_each(cases: &[Case], act: impl Fn(usize, &Case) + Sync) {
    let mut files: BTreeMap<&str, Vec<(usize, &Case)>> = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        files.entry(&case.file).or_default().push((number, case));
    }
    let files = Mutex::new(files);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                loop {
                    let Some((_, cases)) = files.lock().unwrap().pop_first() else { return };
                    for (number, case) in cases {
                        act(number, case);
                    }
                }
            });
        }
    });
}

/// Compares a volume with all that is known of it.
fn check(case: &Case, content: &[u8]) {
    let expect = case.expect.as_ref().unwrap();
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    if let Some(length) = expect.length {
        assert_eq!(content.len(), length, "{}", case.id);
    }
    if let Some(first) = &expect.first_sector_sha256 {
        assert_eq!(digest(&content[..512]), *first, "{}: the first sector", case.id);
    }
    if let Some(sha256) = &expect.sha256 {
        assert_eq!(digest(content), *sha256, "{}", case.id);
    }
    let words = expect.filesystem.as_deref().unwrap_or_default().split(' ').collect::<Vec<_>>();
    if let ["FAT12", serial, ..] = words.as_slice() {
        // An extended BIOS parameter block: serial number, label, type.
        assert_eq!(&content[54..59], b"FAT12", "{}", case.id);
        let found = u32::from_le_bytes(content[39..43].try_into().unwrap());
        assert_eq!(format!("{found:08X}"), **serial, "{}", case.id);
    }
}

#[test]
fn an_ordinary_user_reads_each_container_through_the_block_file() {
    let Some((stage, cases)) = stage() else { return };
    let done = AtomicUsize::new(0);
    for_each(&cases, |number, case| {
        // A function that is not told is found, which takes longer.
        match stage.read(case, number, number % 10 != 0) {
            Ok(content) => check(case, &content),
            Err(output) => {
                assert!(case.may_be_refused(), "{}: {output:?}", case.id);
                assert_eq!(output.status, Some(4), "{}: {output:?}", case.id);
                assert!(output.errors.contains("not supported"), "{}: {output:?}", case.id);
                return;
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert!(done.load(Ordering::Relaxed) > 0, "nothing was opened");
    stage.place.assert_clean();
}

#[test]
fn a_wrong_password_ends_with_status_2_in_each_format() {
    let Some((stage, cases)) = stage() else { return };
    let mut formats = HashSet::new();
    let firsts: Vec<Case> =
        cases.iter().filter(|case| formats.insert(case.format.clone())).cloned().collect();
    for_each(&firsts, |number, case| {
        let mountpoint = stage.place.make_folder(&format!("m{number}"));
        let options = Case { keyfiles: Vec::new(), ..case.clone() }.options(&stage.images, true);
        let output = stage.mount(case, &mountpoint, Some("certainly not the password"), options);
        assert_eq!(output.status, Some(2), "{}: {output:?}", case.id);
    });
    stage.place.assert_clean();
}
