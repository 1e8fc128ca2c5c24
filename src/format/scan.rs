//! Looking for headers of every format that has a signature, on all of a medium, in one pass.

use std::{ops::ControlFlow, sync::Arc};

pub use super::luks::scan::{FoundLuks, Headless, LuksScan, rebuild};
use super::native;
use crate::{error::Result, storage::Storage};

/// What a scan found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Copies of native headers, and how the reading went.
    pub native: native::Scan,
    /// LUKS headers.
    pub luks: LuksScan,
}

/// Reads all of `storage` and looks at each multiple of 512 bytes. What cannot be read is passed over.
///
/// `progress` is called with the bytes done and the bytes in all.
///
/// # Errors
/// `Interrupted` where `progress` breaks off; where the storage does not tell its size.
pub fn scan(
    storage: &Arc<dyn Storage>,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Findings> {
    let mut findings = Findings::default();
    let unreadable = native::each_sector(&**storage, progress, &mut |sector, offset| {
        findings.native.look_at(&**storage, sector, offset);
        findings.luks.look_at(storage, sector, offset);
    })?;
    findings.native.unreadable = unreadable;
    findings.luks.finish(storage);
    Ok(findings)
}
