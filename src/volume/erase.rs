//! Making a container unreadable for good.

use std::ops::Range;

use crate::{
    crypto::{hash, rng::Rng},
    error::{Error, ErrorKind, Result},
    format::{Erasure, FORMATS, Probe},
    storage::{CHUNK_LEN, Storage, chunks},
};

/// Overwrites what `erasure` names with random bytes, twice, each time synced and read back; then looks whether a header
/// is still found.
///
/// The keyslots go first, the spare copies before the last one, and what shows that there is a container goes last. So
/// after a power cut at any moment the container opens as before, or shows as damaged, or is gone; and where it is gone,
/// no keyslot is left.
///
/// # Errors
/// What writing gave, and `Io` where the medium does not hold what was written. The error says whether the keyslots are
/// gone.
pub fn erase(storage: &dyn Storage, erasure: &Erasure, rng: &dyn Rng) -> Result<()> {
    // What is to go is the header, wherever it lies.
    let storage = storage.header().unwrap_or(storage);
    for keyslots in [erasure.spare.as_slice(), std::slice::from_ref(&erasure.last)] {
        overwrite(storage, keyslots, rng).map_err(|error| {
            let reason = format!("the keyslots are not all gone: {}", error.reason());
            Error::new(error.kind(), reason).with_hint(WAY_OUT)
        })?;
    }
    overwrite(storage, &erasure.rest, rng).and_then(|()| look_for_header(storage)).map_err(|error| {
        let reason = format!("the keyslots are gone, but not what lay around them: {}", error.reason());
        Error::new(error.kind(), reason).with_hint(WAY_OUT)
    })
}

/// Random bytes over `places`, more than once.
fn overwrite(storage: &dyn Storage, places: &[Range<u64>], rng: &dyn Rng) -> Result<()> {
    for _ in 0..PASSES {
        let mut written = Vec::new();
        let mut chunk = vec![0; CHUNK_LEN];
        for (offset, len) in places.iter().cloned().flat_map(chunks) {
            let noise = &mut chunk[..len];
            rng.fill(noise)?;
            storage.write_all_at(noise, offset)?;
            written.push((offset, len, hash::sha256(&[noise])));
        }
        storage.sync_data()?;
        for (offset, len, digest) in written {
            let found = &mut chunk[..len];
            storage.read_exact_at(found, offset)?;
            if hash::sha256(&[found]) != digest {
                return Err(Error::new(ErrorKind::Io, "the medium does not hold what was written"));
            }
        }
    }
    Ok(())
}

fn look_for_header(storage: &dyn Storage) -> Result<()> {
    for format in FORMATS {
        // What is not given shows no header: a piece, say, that may never have been made.
        if format.probe(storage).is_ok_and(|probe| probe == Probe::Match) {
            return Err(Error::new(ErrorKind::Io, "a header is still found"));
        }
    }
    Ok(())
}

/// Once would do on media that write in place; the second pass costs nothing.
const PASSES: usize = 2;
const WAY_OUT: &str = "erase it again, or destroy the medium";
