//! The foreign containers of the fixtures, unpacked for one test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use strongroom::{
    crypto::secret::{Credentials, KeyfileDigest, Password},
    format::{
        Attempt, Header, KeyfileRole, Probe, named,
        veracrypt::{Chain, Hints, Prf, pool_contribution},
    },
    storage::MemoryStorage,
    volume::{Access, Container},
};

/// One container of the list.
#[derive(Debug, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "they are the list's")]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) file: String,
    pub(crate) format: String,
    pub(crate) password: Option<String>,
    #[serde(default)]
    pub(crate) keyfiles: Vec<String>,
    #[serde(default)]
    pub(crate) pim: u32,
    #[serde(default)]
    pub(crate) hidden: bool,
    #[serde(default)]
    pub(crate) backup_header: bool,
    #[serde(default)]
    pub(crate) system: bool,
    pub(crate) prf: Option<String>,
    pub(crate) cipher: Option<String>,
    pub(crate) expect: Option<Expect>,
    /// What the keyfiles hold.
    #[serde(skip)]
    keyfile_contents: Vec<Vec<u8>>,
    /// Whether trying a password takes well under a second.
    #[serde(skip)]
    pub(crate) is_cheap: bool,
}

/// What is known of a container's plaintext.
#[derive(Debug, Deserialize)]
pub(crate) struct Expect {
    /// Not known of every case.
    pub(crate) length: Option<usize>,
    pub(crate) sha256: Option<String>,
    pub(crate) first_sector_sha256: Option<String>,
    /// What the volume holds, as its finder wrote it: `FAT12` with the volume's serial number, and what else there is to say.
    pub(crate) filesystem: Option<String>,
}

impl Expect {
    /// The serial number of a FAT12 file system, where there is one.
    pub(crate) fn fat12_serial(&self) -> Option<u32> {
        let words = self.filesystem.as_deref()?.strip_prefix("FAT12 ")?;
        u32::from_str_radix(words.split(' ').next()?, 16).ok()
    }

    /// Of some containers nothing is known but that they open.
    pub(crate) fn says_anything(&self) -> bool {
        self.length.is_some()
            || self.sha256.is_some()
            || self.first_sector_sha256.is_some()
            || self.filesystem.is_some()
    }
}

impl Case {
    /// Opens the container, as what its format is found or said to be.
    pub(crate) fn open(&self, path: &Path, access: Access) -> Container {
        let mut container = Container::open(path, access).unwrap();
        if self.is_opaque() {
            container.assume_named(&self.format).unwrap();
        }
        container
    }

    /// Whether the ciphers of a container without a signature are among those that there are here.
    pub(crate) fn is_supported(&self) -> bool {
        !self.is_opaque() || self.cipher.as_deref().is_none_or(|name| Chain::from_name(name).is_some())
    }

    /// Whether nothing but the password tells what it is.
    pub(crate) fn is_opaque(&self) -> bool {
        let nothing = MemoryStorage::new(Vec::new());
        named(&self.format).unwrap().probe(&nothing).unwrap() == Probe::Opaque
    }

    /// What the user would know, the function included.
    pub(crate) fn attempt(&self) -> Attempt<'static> {
        let known = if self.is_opaque() { self.prf.as_deref() } else { None };
        let prf = known.map(|name| Prf::from_name(name).unwrap_or_else(|| panic!("{}: {name}", self.id)));
        let (hidden, backup_header, system) = (self.hidden, self.backup_header, self.system);
        Attempt { hints: Hints { prf, pim: self.pim, hidden, backup_header, system }, ..Attempt::default() }
    }

    /// What opens the container: one secret, or a password and what each keyfile adds to it.
    pub(crate) fn credentials(&self, header: &dyn Header) -> Credentials {
        let password = |secret: &[u8]| Password::copy_of(secret).unwrap();
        if header.keyfile_role() == KeyfileRole::Pool {
            let contribution = |content: &Vec<u8>| pool_contribution(content.as_slice()).unwrap();
            return Credentials::Password {
                password: password(self.password.as_deref().unwrap_or_default().as_bytes()),
                keyfiles: self.keyfile_contents.iter().map(contribution).collect::<Vec<KeyfileDigest>>(),
            };
        }
        let secret = match (&self.password, self.keyfile_contents.as_slice()) {
            (Some(password), []) => password.as_bytes(),
            (None, [keyfile]) => keyfile,
            other => panic!("{}: no such combination: {other:?}", self.id),
        };
        Credentials::Password { password: password(secret), keyfiles: Vec::new() }
    }
}

pub(crate) fn wrong_credentials() -> Credentials {
    let password = Password::copy_of(b"certainly not the password").unwrap();
    Credentials::Password { password, keyfiles: Vec::new() }
}

/// The images, in a folder that goes when this does.
#[derive(Debug)]
pub(crate) struct Fixtures {
    folder: tempfile::TempDir,
    list: PathBuf,
}

impl Fixtures {
    /// Unpacks the images.
    ///
    /// `None`, and one line that says so, where the fixtures are absent. Panics there with `STRONGROOM_REQUIRE=1`.
    pub(crate) fn unpack() -> Option<Self> {
        let fixtures = folder()?;
        let folder = tempfile::Builder::new().prefix("strongroom-interop-").tempdir().unwrap();
        let unpacked = Command::new("tar")
            .arg("xSf")
            .arg(fixtures.join("images.tar.xz"))
            .arg("-C")
            .arg(folder.path())
            .status();
        assert!(unpacked.unwrap().success(), "tar and xz are needed to unpack the fixtures");
        Some(Self { folder, list: fixtures.join("cases.json") })
    }

    /// The cases of the formats that are known, each with its keyfiles read.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let list: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&self.list).unwrap()).unwrap();
        let known =
            |case: &serde_json::Value| case["format"].as_str().is_some_and(|name| named(name).is_some());
        let cases = list.into_iter().filter(known).map(serde_json::from_value);
        let mut cases: Vec<Case> = cases.collect::<Result<_, _>>().unwrap();
        for case in &mut cases {
            let read = |name: &String| fs::read(self.image(name)).unwrap();
            case.keyfile_contents = case.keyfiles.iter().map(read).collect();
            case.is_cheap = is_cheap(case, &self.image(&case.file));
        }
        cases
    }

    /// The list.
    pub(crate) fn list(&self) -> &Path {
        &self.list
    }

    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.folder.path().join("images").join(name)
    }
}

/// Whether one attempt takes well under a second.
fn is_cheap(case: &Case, path: &Path) -> bool {
    if case.is_opaque() {
        return case.format == "truecrypt";
    }
    let info = case.open(path, Access::ReadOnly).header().unwrap().describe();
    info.keyslots.iter().all(|slot| slot.kdf.iterations.is_some_and(|count| count < 100_000))
}

/// The folder of the fixtures.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = env::var_os("STRONGROOM_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    if folder.exists() {
        return Some(folder);
    }
    assert_ne!(env::var("STRONGROOM_REQUIRE").as_deref(), Ok("1"), "{} is missing", folder.display());
    println!("skipped: {} is not there", folder.display());
    None
}
