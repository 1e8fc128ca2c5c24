//! Keyslots of the metadata.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use super::{
    error::HeaderError,
    json,
    limited::number64,
    metadata::{bytes, wrong},
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::{Argon2Cost, KdfCost},
    },
    format::{
        KeyslotInfo, Priority,
        luks::{
            af,
            cipher::Encryption,
            kdf::Kdf,
            keyslot::{Area, Keyslot, material_len},
        },
    },
    text::excerpt,
};

/// A keyslot, which this program may be able to open or not.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) index: u32,
    /// The size of the volume key in it, in bytes.
    pub(super) key_len: usize,
    pub(super) priority: Priority,
    /// Its area in bytes, where it has one.
    pub(super) place: Option<Range<u64>>,
    /// Whether it is of the type that the specification describes.
    pub(super) is_luks2: bool,
    /// What opens it, or why nothing does.
    pub(super) usable: Result<Keyslot, String>,
}

impl Slot {
    pub(super) fn parse(raw: &json::Keyslot, index: u32) -> Result<Self, HeaderError> {
        let name = index.to_string();
        let wrong = |field, value: &str| wrong("keyslot", &name, field, value);
        let key_len = usize::try_from(raw.key_size).ok().filter(|len| *len > 0);
        let key_len = key_len.ok_or_else(|| wrong("key_size", &raw.key_size.to_string()))?; // L2-SLOT-01
        let priority = match raw.priority {
            None | Some(1) => Priority::Normal,
            Some(0) => Priority::Ignore,
            Some(2) => Priority::Prefer,
            Some(other) => return Err(wrong("priority", &other.to_string())), // L2-SLOT-02
        };
        let place = place(&raw.area).map_err(|(field, value)| wrong(field, &value))?;
        let is_luks2 = raw.kind == "luks2";
        let usable = if is_luks2 {
            let place = place.clone().ok_or_else(|| wrong("area offset", "none"))?;
            usable(raw, index, key_len, priority, &place)?
        } else {
            Err(format!("it is of the type {}", excerpt(&raw.kind))) // L2-SLOT-06
        };
        Ok(Self { index, key_len, priority, place, is_luks2, usable })
    }

    /// What `info` shows.
    pub(super) fn describe(&self) -> KeyslotInfo {
        match &self.usable {
            Ok(slot) => slot.describe(),
            Err(_) => KeyslotInfo::unknown(self.index, Some(self.priority)),
        }
    }
}

/// The area's bytes, where it has both numbers.
fn place(area: &json::Area) -> Result<Option<Range<u64>>, (&'static str, String)> {
    let (Some(offset), Some(size)) = (&area.offset, &area.size) else { return Ok(None) };
    let start = number64(offset).ok_or_else(|| ("area offset", offset.clone()))?;
    let end = number64(size).and_then(|size| start.checked_add(size));
    Ok(Some(start..end.ok_or_else(|| ("area size", size.clone()))?))
}

/// A keyslot of the type luks2. The outer error is a header that is no header, the inner one a keyslot that is not for us.
fn usable(
    raw: &json::Keyslot,
    index: u32,
    key_len: usize,
    priority: Priority,
    place: &Range<u64>,
) -> Result<Result<Keyslot, String>, HeaderError> {
    let name = index.to_string();
    let wrong = |field, value: &str| wrong("keyslot", &name, field, value);
    let (Some(kdf), Some(af)) = (&raw.kdf, &raw.af) else { return Err(wrong("kdf or af", "none")) };
    if raw.area.kind != "raw" {
        return Err(wrong("area type", &raw.area.kind)); // L2-SLOT-03
    }
    if af.kind != "luks1" {
        return Err(wrong("af type", &af.kind)); // L2-SLOT-04
    }
    if af.stripes.map(usize::try_from) != Some(Ok(af::STRIPES)) {
        return Err(wrong("stripes", &af.stripes.unwrap_or_default().to_string())); // L2-SLOT-04
    }
    let Some(len) = material_len(key_len) else {
        return Ok(Err(format!("it holds a key of {key_len} bytes, which no cipher here takes")));
    };
    if place.end.saturating_sub(place.start) < len {
        return Err(wrong("area size", raw.area.size.as_deref().unwrap_or_default())); // L2-SLOT-05
    }
    let area_key_len = usize::try_from(raw.area.key_size.unwrap_or_default()).unwrap_or_default();
    let encryption = Encryption::parse(raw.area.encryption.as_deref().unwrap_or_default(), area_key_len);
    let Some(hash) = af.hash.as_deref().and_then(HashKind::from_name) else {
        return Ok(Err(format!("its splitter uses {}", excerpt(af.hash.as_deref().unwrap_or("no hash")))));
    };
    let encryption = match encryption {
        Ok(encryption) => encryption,
        Err(error) => return Ok(Err(error.to_string())), // L2-SLOT-06
    };
    let kdf = match parse_kdf(kdf) {
        Ok(kdf) => kdf,
        Err(Some(kind)) => return Ok(Err(format!("its key derivation is {kind}"))), // L2-SLOT-06
        Err(None) => return Err(wrong("kdf", &kdf.kind)),                           // L2-KDF-01
    };
    let area = Area { offset: place.start, encryption, hash, key_len, material: Vec::new() };
    Ok(Ok(Keyslot { index, priority: Some(priority), kdf, area }))
}

/// `Err(Some)` for one that is not known, `Err(None)` for one that misses what it needs.
fn parse_kdf(raw: &json::Kdf) -> Result<Kdf, Option<String>> {
    let cost = || -> Result<Argon2Cost, Option<String>> {
        let (memory_kib, passes) = (raw.memory.ok_or(None)?, raw.time.ok_or(None)?);
        Ok(Argon2Cost { memory_kib, passes, lanes: raw.cpus.ok_or(None)? })
    };
    let cost = match raw.kind.as_str() {
        "pbkdf2" => {
            let name = raw.hash.as_deref().ok_or(None)?;
            let hash = HashKind::from_name(name).ok_or_else(|| Some(format!("pbkdf2-{}", excerpt(name))))?;
            KdfCost::Pbkdf2 { hash, iterations: raw.iterations.ok_or(None)? }
        }
        "argon2i" => KdfCost::Argon2i(cost()?),
        "argon2id" => KdfCost::Argon2id(cost()?),
        kind => return Err(Some(excerpt(kind))),
    };
    Ok(Kdf { cost, salt: bytes(Some(&raw.salt)).ok_or(None)? })
}

/// L2-SLOT-07, -08: areas lie in the place for them and share no byte.
pub(super) fn check_places(slots: &[Slot], areas: Range<u64>) -> Result<(), HeaderError> {
    let mut places = Vec::new();
    for slot in slots {
        let Some(place) = &slot.place else { continue };
        if place.start < areas.start || place.end > areas.end {
            return Err(HeaderError::OutsideArea { slot: slot.index });
        }
        places.push((place.start, place.end, slot.index));
    }
    places.sort_unstable();
    for ((_, end, other), (start, _, slot)) in places.iter().zip(places.iter().skip(1)) {
        if start < end {
            return Err(HeaderError::Overlap { slot: *slot, other: *other });
        }
    }
    Ok(())
}
