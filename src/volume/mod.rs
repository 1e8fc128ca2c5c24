//! The control plane: containers on disk become volumes.

mod check;
mod container;
mod draft;
mod erase;
mod fill;

pub use check::{check, check_data};
pub use container::{Access, Container};
pub use draft::{Draft, Occupant, occupant};
pub use erase::erase;
pub use fill::{Progress, prepare};

use std::{fs::File, path::Path, sync::Arc};

use crate::{
    block::{BlockDevice, CryptDevice},
    crypto::secret::KeyfileDigest,
    error::{Error, Result},
    format::{Header, HeaderInfo, Unlocked, native},
};

/// An opened volume: plaintext sectors, and what is known of the container behind them.
#[derive(Debug)]
pub struct Volume {
    info: HeaderInfo,
    device: Arc<dyn BlockDevice>,
}

impl Volume {
    /// The volume of `container`, through what its keyslot gave. Read-only where the container was opened so.
    pub fn open(container: &Container, info: HeaderInfo, unlocked: &Unlocked) -> Self {
        let device = CryptDevice::new(container.storage(), unlocked.mapping.clone());
        Self { info, device: Arc::new(device) }
    }

    /// What `info` shows of the container.
    pub fn info(&self) -> &HeaderInfo {
        &self.info
    }

    /// The plaintext sectors.
    pub fn device(&self) -> Arc<dyn BlockDevice> {
        Arc::clone(&self.device)
    }
}

/// Makes a container that is about to be written whole again: refuses one that must not be written, repairs header copies.
/// Says what it did, a line each. Does nothing where the container was opened read-only.
///
/// # Errors
/// `Damaged` where the container is cut off, `Unsupported` where writing needs unknown features.
pub fn make_writable(container: &Container, header: &dyn Header, unlocked: &Unlocked) -> Result<Vec<String>> {
    if container.is_read_only() {
        return Ok(Vec::new());
    }
    header.prepare_writing(&*container.storage(), unlocked)
}

/// The digest of a keyfile's whole content, whatever its length.
pub fn keyfile_digest(path: &Path) -> Result<KeyfileDigest> {
    let digest = File::open(path).and_then(native::keyfile_digest);
    digest.map_err(|error| Error::from(error).during(format!("cannot read keyfile {}", path.display())))
}
