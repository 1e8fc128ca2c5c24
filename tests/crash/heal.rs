//! Healing on opening for writing: whatever is wrong with one header copy, no stop makes it worse.

use std::{fs, path::Path};

use sha2::{Digest, Sha256};
use strongroom::{
    Result,
    crypto::secret::{Credentials, Password},
    format::{Attempt, CopyState, Format, native::Native},
    storage::SimStorage,
};

use crate::{
    container::{copy_states, read_all},
    harness::{Case, prove},
};

/// A vector of `spec/vectors/native` whose opening heals.
struct Sick {
    name: String,
    image: Vec<u8>,
    base: Vec<u8>,
    password: String,
    sha256: String,
}

impl Sick {
    /// `None` where the vector shows something else.
    fn read(path: &Path) -> Option<Self> {
        let vector: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        let text = |key: &str| vector[key].as_str().unwrap().to_owned();
        let takes_password = vector["keyfiles"].as_array().unwrap().is_empty();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // Whichever bit is flipped, the copy is damaged: `torn-copy-a` stands for all of them.
        if text("after") != "base" || !takes_password || name.starts_with("flip-") {
            return None;
        }
        let base = fs::read(path.with_file_name(text("base"))).unwrap();
        let number = |value: &toml::Value| usize::try_from(value.as_integer().unwrap()).unwrap();
        let mut image = base.clone();
        image.resize(vector.get("length").map_or(base.len(), number), 0);
        for edit in vector.get("edit").and_then(toml::Value::as_array).into_iter().flatten() {
            let (start, bytes) =
                (number(&edit["offset"]), hex::decode(edit["bytes"].as_str().unwrap()).unwrap());
            image[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        (image != base).then(|| Self {
            name,
            image,
            base,
            password: text("password"),
            sha256: text("sha256"),
        })
    }

    /// Opens with the password, heals, and gives the digest of the volume.
    fn open(&self, storage: &SimStorage, for_writing: bool) -> Result<String> {
        let password = Password::copy_of(self.password.as_bytes()).unwrap();
        let header = Native.read_header(storage)?;
        let credentials = Credentials::Password { password, keyfiles: Vec::new() };
        let unlocked = header.unlock(&credentials, &Attempt::default())?;
        if for_writing {
            header.prepare_writing(storage, &unlocked)?;
        }
        Ok(hex::encode(Sha256::digest(read_all(storage, unlocked.layout))))
    }

    fn check(&self, case: &Case<()>) {
        let how = format!("{}: {}", self.name, case.how);
        for for_writing in [false, true] {
            let medium = SimStorage::clone(&case.medium);
            let found = self.open(&medium, for_writing).unwrap_or_else(|error| panic!("{how}: {error}"));
            assert_eq!(found, self.sha256, "{how}");
            assert!(!for_writing || *medium.live() == self.base, "{how}");
        }
        if case.done {
            assert_eq!(copy_states(&case.medium), [CopyState::Current; 2], "{how}");
        }
    }
}

// proves: NAT-UPD-04 NAT-UPD-07
#[test]
fn healing_that_crashes_leaves_a_container_that_opens_and_heals() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/native");
    let vectors = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let vectors = vectors.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let sick: Vec<Sick> = vectors.filter_map(|path| Sick::read(&path)).collect();
    assert!(sick.len() > 20, "only {} vectors heal", sick.len());
    for sick in sick {
        let heal = |storage: &SimStorage| sick.open(storage, true).map(drop);
        prove(&SimStorage::new(sick.image.clone()), &heal, &heal, &|case| sick.check(case));
    }
}
