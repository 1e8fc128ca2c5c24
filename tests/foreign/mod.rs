//! The foreign containers of the fixtures, unpacked for one test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use strongroom::{
    crypto::secret::{Credentials, Password},
    format::FORMATS,
};

/// One container of the list.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) file: String,
    password: Option<String>,
    #[serde(default)]
    keyfiles: Vec<String>,
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
    pub(crate) length: usize,
    pub(crate) sha256: String,
    pub(crate) first_sector_sha256: Option<String>,
}

impl Case {
    /// What opens the container: here always one secret, a password or the content of one keyfile.
    pub(crate) fn credentials(&self) -> Credentials {
        let secret = match (&self.password, self.keyfile_contents.as_slice()) {
            (Some(password), []) => password.as_bytes(),
            (None, [keyfile]) => keyfile,
            other => panic!("{}: no such combination: {other:?}", self.id),
        };
        Credentials::Password { password: Password::copy_of(secret).unwrap(), keyfiles: Vec::new() }
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
        let known = |case: &serde_json::Value| FORMATS.iter().any(|format| case["format"] == format.name());
        let cases = list.into_iter().filter(known).map(serde_json::from_value);
        let mut cases: Vec<Case> = cases.collect::<Result<_, _>>().unwrap();
        for case in &mut cases {
            let read = |name: &String| fs::read(self.image(name)).unwrap();
            case.keyfile_contents = case.keyfiles.iter().map(read).collect();
            case.is_cheap = self.is_cheap(&case.file);
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

    fn is_cheap(&self, file: &str) -> bool {
        let container =
            strongroom::volume::Container::open(&self.image(file), strongroom::volume::Access::ReadOnly);
        let info = container.unwrap().header().unwrap().describe();
        info.keyslots.iter().all(|slot| slot.kdf.iterations.is_some_and(|count| count < 100_000))
    }
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
