//! What a new connection asks the kernel for, whatever it serves.

use std::io;

use fuser::{InitFlags, KernelConfig};

use crate::sys::fuse_mount::MAX_READ;

/// Asks for requests as large, as many and as parallel as can be had, and for what `wanted` names besides.
///
/// # Errors
/// Where the FUSE library refuses its own limit.
pub(super) fn negotiate(config: &mut KernelConfig, wanted: &[InitFlags]) -> io::Result<()> {
    for &flag in EVERYONES.iter().chain(wanted) {
        // An older kernel knows fewer; each of them only makes things faster.
        let _unknown_here = config.add_capabilities(flag);
    }
    config.set_max_write(MAX_READ).map_err(|most| limit(most.into()))?;
    if let Err(most) = config.set_max_readahead(MAX_READ) {
        config.set_max_readahead(most).map_err(|most| limit(most.into()))?;
    }
    config.set_max_background(MAX_BACKGROUND).map_err(|least| limit(least.into()))?;
    config.set_congestion_threshold(MAX_BACKGROUND).map_err(|least| limit(least.into()))?;
    Ok(())
}

fn limit(nearest: u64) -> io::Error {
    io::Error::other(format!("the FUSE library's limit is {nearest}"))
}

const EVERYONES: [InitFlags; 5] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_PARALLEL_DIROPS,
];
/// Requests that the kernel may have on their way in the background (read-ahead, asynchronous direct I/O).
const MAX_BACKGROUND: u16 = 64;
