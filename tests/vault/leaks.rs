//! Looks for what must not be there.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use strongroom::{
    crypto::secret::{Credentials, Password, VolumeKey},
    format::{
        Attempt, Format,
        native::{self, Native},
    },
    storage::FileStorage,
};

use crate::{place::PASSWORD, world::World};

const RUN: usize = 64;

/// The server may not be dumped or traced, writes no core, and its memory is nobody's to read.
pub(crate) fn assert_server_is_closed(world: &World) {
    let process = format!("/proc/{}", world.server());
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    // The kernel gives the files of a process that may not be dumped to root.
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("{process}/environ")).unwrap());
    assert_eq!(owner, 0);
    let locked = fs::read_to_string(format!("{process}/status")).unwrap();
    let locked = locked.lines().find(|line| line.starts_with("VmLck")).unwrap();
    assert!(!locked.contains(" 0 kB"), "no page of the server is locked");
    if !world.is_root() {
        assert_eq!(
            world.shell(&format!("head -c 1 {process}/environ 2> /dev/null || echo refused")),
            "refused\n"
        );
    }
}

/// No 64-byte run of a copied file, no run of a key, in the container, in the runtime folder or in a core file.
pub(crate) fn assert_nothing_in_clear(world: &World) {
    let mut runs = runs_of_files(&fs::read_to_string(world.path("files")).unwrap());
    assert!(runs.len() > 10_000, "only {} runs to look for", runs.len());
    for key in keys(&world.path("v.vault")) {
        for part in key.chunks_exact(16) {
            runs.entry(head(part)).or_default().push(part.to_vec());
        }
    }
    for place in places(world) {
        let Ok(bytes) = fs::read(&place) else { continue };
        for (offset, window) in bytes.windows(8).enumerate() {
            let Some(candidates) = runs.get(&head(window)) else { continue };
            let found = candidates.iter().find(|run| bytes[offset..].starts_with(run));
            assert!(found.is_none(), "{} holds {found:?} in clear at {offset}", place.display());
        }
    }
}

fn head(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// Runs at each 64th byte of each file, by their first eight bytes; those of fewer than 16 different bytes are left out.
fn runs_of_files(files: &str) -> HashMap<u64, Vec<Vec<u8>>> {
    let mut runs: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
    for content in files.lines().filter_map(|file| fs::read(file).ok()) {
        for run in content.chunks_exact(RUN) {
            let different: std::collections::HashSet<u8> = run.iter().copied().collect();
            let place = runs.entry(head(run)).or_default();
            if different.len() >= 16 && place.len() < 4 {
                place.push(run.to_vec());
            }
        }
    }
    runs
}

/// The volume key and the first data key.
fn keys(container: &Path) -> Vec<Vec<u8>> {
    let (volume_key, uuid) = volume_key(container);
    let data_key = native::data_key(&volume_key, &uuid, native::Suite::default(), 0).unwrap();
    vec![volume_key.expose().to_vec(), data_key.expose().to_vec()]
}

/// The volume key of a container that [`PASSWORD`] opens, and its uuid.
pub(crate) fn volume_key(container: &Path) -> (Arc<VolumeKey>, [u8; 16]) {
    let storage = FileStorage::new(fs::File::open(container).unwrap()).unwrap();
    let password = Password::copy_of(PASSWORD.as_bytes()).unwrap();
    let header = Native.read_header(&storage).unwrap();
    let unlocked = header
        .unlock(&Credentials::Password { password, keyfiles: Vec::new() }, &Attempt::default())
        .unwrap();
    let uuid = header.describe().uuid.unwrap().replace('-', "");
    (unlocked.volume_key, hex::decode(uuid).unwrap().try_into().unwrap())
}

/// The container and every plain file beside a mount: registry entries, logs, core files.
fn places(world: &World) -> Vec<std::path::PathBuf> {
    let mut places = vec![world.path("v.vault"), world.path("core"), "/core".into()];
    for session in fs::read_dir(world.runtime()).unwrap().map(|entry| entry.unwrap().path()) {
        let files = fs::read_dir(&session).unwrap().map(|entry| entry.unwrap().path());
        places.extend(files.filter(|path| path.is_file()));
    }
    places
}
