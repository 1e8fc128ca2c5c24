//! The control plane: containers on disk become volumes.

mod check;
mod container;
mod contents;
mod convert;
mod devices;
mod draft;
mod duplicate;
mod erase;
mod fill;
pub mod free_space;
mod grow;
mod header;
mod held_folder;
pub mod image;
mod label;
mod partitions;
mod pieces;
mod pieces_resize;
pub mod pin;
pub mod reencrypt;
mod renewal;
mod room;
mod within;

pub use crate::storage::pieces::{Pieces, Standing, piece_name};
pub use crate::storage::{
    FileStorage, Lack, Pulse, Request, Shortage, Stillness, follow_writeback,
    pieces::{COPY_NAME, HEADER_NAME},
    seal, watch_disks, while_moving,
};
pub use crate::{
    block::{BlockDevice, BlockError, ByteDevice, ShadowDevice},
    format::{native::StartHeader, signature, uuid_of},
};
pub use check::{check, check_condition, check_data, check_file_system, missing_end};
pub use container::{Access, Container, by_signature};
pub use contents::{
    EMPTY, ZEROS, recognise, recognise_data, remains, scattered_image, trace_at_start, way_in,
};
pub use convert::{Form, convert};
pub use devices::{DeviceName, device_kind};
pub use draft::{Draft, Occupant, occupant};
pub use duplicate::{Duplicate, duplicate_to, has_room_for, nameless_copy, room_taken};
pub use erase::erase;
pub use fill::{Progress, fill_around, fill_range, find_empty, prepare, prepare_storage};
pub use grow::{LiveVolume, can_grow, grow, prepare_growth, shrink};
pub use header::{
    Kept, backup_header, header_without_container, keep_bytes, keep_replaced, new_header_file,
    open_for_backup, plan_restore,
};
pub use held_folder::HeldFolder;
pub use partitions::{
    PartitionContents, only_container, partition_flaw, partition_of_container, partition_range,
    partitions_of, range_from,
};
pub use pieces::{
    NewPieces, check_pieces, container_file, file_of, glance, has_lost_its_headers, identity_of,
};
pub use pieces_resize::{grow_folder, shrink_folder};
pub use reencrypt::{LiveReencryption, LiveState, LiveStatus, Reencryption, Work};
pub use renewal::{Change, KnownHeader};
pub use room::{allocated, free_bytes};
pub use within::{Stranger, stranger_within};

use std::{
    fs::File,
    io::{self, PipeReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    block::{CryptDevice, LiveDevice, MovingDevice, ProtectedDevice},
    crypto::{rng::OsRng, secret::KeyfileDigest},
    error::{Error, ErrorKind, Result},
    format::{Header, HeaderInfo, Unlocked, native, veracrypt},
    mapping::Layout,
    storage::Storage,
    text::in_one_line,
};

/// An opened volume: plaintext sectors, and what is known of the container behind them.
#[derive(Debug)]
pub struct Volume {
    info: HeaderInfo,
    device: Arc<dyn BlockDevice>,
    protected: Option<Arc<ProtectedDevice>>,
    reencryption: Arc<LiveReencryption>,
    live: Option<LiveVolume>,
}

impl Volume {
    /// The volume of `container`, through what its keyslot gave. Read-only where the container was opened so.
    pub fn open(container: &Container, info: HeaderInfo, unlocked: &Unlocked) -> Self {
        let live = Arc::new(LiveDevice::new(device(container.storage(), unlocked.layout.clone())));
        let reencryption = LiveReencryption::new(
            container.storage(),
            Arc::clone(&live),
            &unlocked.layout,
            reencrypt::Tuning::default(),
        );
        let reencryption = Arc::new(reencryption);
        let is_fixed = matches!(unlocked.layout, Layout::Fixed(_));
        let growing = LiveVolume {
            storage: container.storage(),
            device: Arc::clone(&live),
            start: unlocked.layout.start(),
        };
        let Some(range) = unlocked.layout.current().protected() else {
            return Self {
                info,
                device: live,
                protected: None,
                reencryption,
                live: is_fixed.then_some(growing),
            };
        };
        let protected = Arc::new(ProtectedDevice::new(live, range.clone()));
        let device = Arc::clone(&protected) as Arc<dyn BlockDevice>;
        Self { info, device, protected: Some(protected), reencryption, live: None }
    }

    /// What `info` shows of the container.
    pub fn info(&self) -> &HeaderInfo {
        &self.info
    }

    /// What starts, pauses and resumes a re-encryption while the volume is used. It pauses when the last holder drops it.
    pub fn reencryption(&self) -> Arc<LiveReencryption> {
        Arc::clone(&self.reencryption)
    }

    /// What makes it larger while it is served. `None` where that cannot be: a hidden volume lies in it, or two keys are in use.
    pub fn live(&self) -> Option<LiveVolume> {
        self.live.clone()
    }

    /// The plaintext sectors.
    pub fn device(&self) -> Arc<dyn BlockDevice> {
        Arc::clone(&self.device)
    }

    /// Whether a hidden volume in it is protected.
    pub const fn is_protected(&self) -> bool {
        self.protected.is_some()
    }

    /// Becomes readable (end of file) when a write that would have touched a protected hidden volume was refused. `None`
    /// where none is protected.
    pub fn alarm(&self) -> Option<io::Result<PipeReader>> {
        self.protected.as_ref().map(|device| device.alarm())
    }
}

/// The sectors of a volume that lies in its container in this way.
pub fn device(storage: Arc<dyn Storage>, layout: Layout) -> Arc<dyn BlockDevice> {
    match layout {
        Layout::Fixed(mapping) => Arc::new(CryptDevice::new(storage, mapping)),
        Layout::Moving(moving) => {
            let sector_size = moving.new.sector_size();
            Arc::new(MovingDevice::new(storage, moving, sector_size))
        }
    }
}

/// Makes a container that is about to be written whole again: refuses one that must not be written, repairs header copies.
/// Says what it did, a line each. Where the container was opened read-only it does nothing.
///
/// # Errors
/// `Damaged` where the container is cut off, `Unsupported` where writing needs unknown features.
pub fn make_writable(container: &Container, header: &dyn Header, unlocked: &Unlocked) -> Result<Vec<String>> {
    if container.is_read_only() {
        return Ok(Vec::new());
    }
    let at_stake = header.at_stake();
    let mut said = Vec::new();
    if !at_stake.is_empty() {
        let beside = container.header_path().unwrap_or(container.path()).parent().map(Path::to_path_buf);
        let folders: Vec<_> = beside.into_iter().chain([PathBuf::new()]).collect();
        for Kept { file, .. } in keep_bytes(container, &at_stake, &folders, &OsRng)? {
            said.push(format!(
                "the damaged header copy may have been newer, and is kept in {}: if a password that was added last is missing, a header \
                 backup from after that has it",
                in_one_line(&file.display().to_string())
            ));
        }
    }
    let done = header.prepare_writing(&*container.storage(), unlocked)?;
    Ok(done.into_iter().chain(said).collect())
}

/// What keyfiles add to the password of a TrueCrypt or VeraCrypt container: one file, or each file in a folder that is not
/// hidden.
///
/// # Errors
/// `Usage` for a folder without such files, what reading gave.
pub fn pool_keyfiles(path: &Path) -> Result<Vec<KeyfileDigest>> {
    let files = if path.is_dir() { files_in(path)? } else { vec![path.to_path_buf()] };
    if files.is_empty() {
        let reason = format!("keyfile folder {} has no files in it", path.display());
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    let contribution = |path: &PathBuf| {
        let sums = File::open(path).and_then(veracrypt::pool_contribution);
        sums.map_err(|error| Error::from(error).during(cannot_read_keyfile(path)))
    };
    files.iter().map(contribution).collect()
}

/// The files of a folder, without those of folders in it.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot =
        |error| Error::from(error).during(format!("cannot read keyfile folder {}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// The digest of the whole content of a keyfile that may be in use: of a file of any length, of at most 64 MiB from where no
/// end may come.
///
/// # Errors
/// `Usage` where it is longer, what reading gave.
pub fn keyfile_digest(path: &Path) -> Result<KeyfileDigest> {
    bounded_digest(path, |file_len| file_len.max(MAX_KEYFILE_LEN)).map(|(digest, _)| digest)
}

/// The same of one that is to be used from now on.
///
/// # Errors
/// `Usage` where it is empty, or longer than 64 MiB; what reading gave.
pub fn new_keyfile_digest(path: &Path) -> Result<KeyfileDigest> {
    match bounded_digest(path, |_| MAX_KEYFILE_LEN)? {
        (_, 0) => Err(Error::usage("the keyfile is empty").during(cannot_read_keyfile(path))),
        (digest, _) => Ok(digest),
    }
}

/// The digest, and the length. `most` tells how many bytes are taken, from the length that the system gives.
fn bounded_digest(path: &Path, most: impl Fn(u64) -> u64) -> Result<(KeyfileDigest, u64)> {
    let cannot = |error: Error| error.during(cannot_read_keyfile(path));
    let file = File::open(path).map_err(|error| cannot(error.into()))?;
    let most = most(file.metadata().map_err(|error| cannot(error.into()))?.len());
    let mut content = file.take(most.saturating_add(1));
    let digest = native::keyfile_digest(&mut content).map_err(|error| cannot(error.into()))?;
    let len = most.saturating_add(1).saturating_sub(content.limit());
    if len > most { Err(cannot(Error::usage("it is longer than 64 MiB"))) } else { Ok((digest, len)) }
}

fn cannot_read_keyfile(path: &Path) -> String {
    format!("cannot read keyfile {}", path.display())
}

/// What is longer is no file that somebody keeps as a key, but a device, or a pipe that never ends.
const MAX_KEYFILE_LEN: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_empty_keyfile_opens_what_exists_and_locks_nothing_new() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(keyfile_digest(file.path()).is_ok());
        let error = new_keyfile_digest(file.path()).unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Usage, "the keyfile is empty"));
        fs::write(file.path(), b"x").unwrap();
        let [old, new] = [keyfile_digest, new_keyfile_digest].map(|digest| digest(file.path()).unwrap());
        assert_eq!(old.expose(), new.expose());
    }

    #[test]
    fn a_keyfile_without_an_end_is_refused_and_a_long_file_opens_what_exists() {
        for digest in [keyfile_digest, new_keyfile_digest] {
            let error = digest(Path::new("/dev/zero")).unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Usage, "it is longer than 64 MiB"));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_KEYFILE_LEN).unwrap();
        assert!(new_keyfile_digest(file.path()).is_ok());
        file.as_file().set_len(MAX_KEYFILE_LEN + 1).unwrap();
        assert!(keyfile_digest(file.path()).is_ok());
        assert_eq!(new_keyfile_digest(file.path()).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_keyfile_folder_stands_for_its_visible_files() {
        // proves: VC-KEYFILE-05
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(pool_keyfiles(folder.path()).unwrap_err().kind(), ErrorKind::Usage);
        fs::write(path(".hidden"), b"not this").unwrap();
        fs::create_dir(path("inner")).unwrap();
        fs::write(path("inner").join("deep"), b"nor this").unwrap();
        assert_eq!(pool_keyfiles(folder.path()).unwrap_err().kind(), ErrorKind::Usage);
        fs::write(path("a"), b"first").unwrap();
        fs::write(path("b"), b"second").unwrap();
        let mut found: Vec<_> =
            pool_keyfiles(folder.path()).unwrap().iter().map(|sums| sums.expose().to_vec()).collect();
        let mut expected: Vec<_> = [&b"first"[..], b"second"]
            .map(|content| veracrypt::pool_contribution(content).unwrap().expose().to_vec())
            .into();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);

        fs::write(path("c"), b"").unwrap();
        assert!(pool_keyfiles(folder.path()).unwrap_err().reason().contains("empty"));
    }
}
