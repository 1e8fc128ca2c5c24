//! The control plane: containers on disk become volumes.

mod container;

pub use container::{Access, Container};

use std::sync::Arc;

use crate::{
    block::BlockDevice,
    error::Result,
    format::{HeaderInfo, Unlocked},
};

/// An opened volume: plaintext sectors, and what is known of the container behind them.
#[derive(Debug)]
pub struct Volume {
    info: HeaderInfo,
    device: Arc<dyn BlockDevice>,
}

impl Volume {
    /// The volume of `container`, through what its keyslot gave.
    pub fn open(container: &Container, info: HeaderInfo, unlocked: &Unlocked) -> Result<Self> {
        let _ = (container, info, unlocked);
        Err(crate::Error::new(crate::ErrorKind::Unsupported, "being built"))
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
