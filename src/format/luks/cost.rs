//! What the key derivation of a new keyslot may cost.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    crypto::{
        hash::HashKind,
        kdf::{KdfCost, KdfKind, KdfLimits},
    },
    error::{Error, ErrorKind, Result},
    format::KdfBounds,
};

/// The bounds of both versions; these differ in what they take.
pub(in crate::format) fn kdf_bounds(kinds: &'static [KdfKind], hash: HashKind, key_len: usize) -> KdfBounds {
    let limits = KdfLimits::default();
    KdfBounds {
        kinds,
        hash,
        takes_hash: true,
        key_len,
        memory_kib: (LEAST_MEMORY_KIB, u32::try_from(limits.memory_kib).unwrap_or(u32::MAX)),
        passes: (LEAST_PASSES, limits.passes),
        lanes: (1, MOST_LANES),
        iterations: (LEAST_ITERATIONS, limits.iterations),
    }
}

/// Refuses costs outside the bounds, and a derivation that the format does not have (L1-WRITE-05, L2-WRITE-03).
pub(in crate::format) fn checked_cost(cost: KdfCost, kinds: &[KdfKind]) -> Result<KdfCost> {
    let kind = match cost {
        KdfCost::Argon2id(_) => KdfKind::Argon2id,
        KdfCost::Argon2i(_) => KdfKind::Argon2i,
        KdfCost::Pbkdf2 { .. } => KdfKind::Pbkdf2,
    };
    if !kinds.contains(&kind) {
        return Err(Error::usage(format!("its keyslots do not take {}", kind.name())));
    }
    let limits = KdfLimits::default();
    let too_much = |error| Error::caused_by(ErrorKind::Usage, error);
    match cost {
        KdfCost::Argon2id(cost) | KdfCost::Argon2i(cost) => {
            if cost.memory_kib < LEAST_MEMORY_KIB
                || cost.passes < LEAST_PASSES
                || !(1..=MOST_LANES).contains(&cost.lanes)
            {
                return Err(Error::usage("a keyslot takes at least 32 KiB and 4 passes, in 1 to 4 lanes"));
            }
            limits.check_time(&cost).map_err(too_much)?;
        }
        KdfCost::Pbkdf2 { iterations, .. } => {
            if iterations < LEAST_ITERATIONS {
                return Err(Error::usage("a keyslot takes at least 1000 iterations"));
            }
            limits.check_iterations(iterations).map_err(too_much)?;
        }
    }
    Ok(cost)
}

const LEAST_MEMORY_KIB: u32 = 32;
const LEAST_PASSES: u32 = 4;
const MOST_LANES: u32 = 4;
const LEAST_ITERATIONS: u32 = 1000;
