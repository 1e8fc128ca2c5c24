//! The volume that segments make in a container, as far as that takes no secret.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::segment::{Crypt, Plan, Segment};
use crate::{
    error::{Error, ErrorKind, Result},
    format::luks::{cipher::Encryption, way_in},
    units::SectorSize,
};

/// One segment of a volume, its place and its cipher settled.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) segment: &'a Segment,
    pub(super) sector_size: SectorSize,
    /// Its first sector in the volume.
    pub(super) first: u64,
    pub(super) sectors: u64,
    pub(super) encryption: Encryption,
    pub(super) iv_tweak: u64,
}

/// The segments one after the other in a container of `container_len` bytes (L2-DATA-01 to -03).
///
/// # Errors
/// `Damaged` where they are not all there, or nobody could number their sectors; `Unsupported`.
pub(super) fn pieces<'a>(plan: &Plan<'a>, container_len: u64) -> Result<Vec<Piece<'a>>> {
    let damaged = |reason: &str| Error::new(ErrorKind::Damaged, reason);
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let mut next = 0_u64;
    for &(segment, crypt) in &plan.segments {
        let sector_size = crypt.sector_size;
        if pieces.first().is_some_and(|first| first.sector_size != sector_size) {
            let reason = "its segments have sectors of different sizes";
            return Err(Error::new(ErrorKind::Unsupported, reason).with_hint(way_in::KERNEL));
        }
        let sectors = sectors(segment, crypt, container_len)?;
        let units = sectors.checked_shl(sector_size.shift().saturating_sub(UNIT_SHIFT));
        if units.and_then(|units| crypt.iv_tweak.checked_add(units)).is_none() {
            return Err(damaged("its sector numbers need more than 64 bits"));
        }
        let encryption = Encryption::parse(&crypt.encryption, plan.key.key_len)?;
        let first = next;
        next = next
            .checked_add(sectors)
            .ok_or_else(|| damaged("its data ends beyond what 64 bits can count"))?;
        pieces.push(Piece { segment, sector_size, first, sectors, encryption, iv_tweak: crypt.iv_tweak });
    }
    Ok(pieces)
}

/// How many whole sectors a segment has.
///
/// # Errors
/// `Damaged` where it ends after the container, or has none.
fn sectors(segment: &Segment, crypt: &Crypt, container_len: u64) -> Result<u64> {
    let left = container_len.saturating_sub(segment.offset);
    let size = segment.size.unwrap_or(left);
    let sectors = size >> crypt.sector_size.shift();
    if size > left || sectors == 0 {
        let all = segment.size.map_or_else(String::new, |size| format!(" of {size}"));
        let reason =
            format!("segment {} is cut off: {left}{all} bytes of it are in the container", segment.index);
        return Err(Error::new(ErrorKind::Damaged, reason)); // L2-DATA-02
    }
    if segment.size.is_some_and(|size| !size.is_multiple_of(crypt.sector_size.bytes_u64())) {
        let reason = format!("segment {} is no whole number of sectors", segment.index);
        return Err(Error::new(ErrorKind::Damaged, reason)); // L2-DATA-02
    }
    Ok(sectors)
}

/// IVs count units of 512 bytes.
const UNIT_SHIFT: u32 = 9;
