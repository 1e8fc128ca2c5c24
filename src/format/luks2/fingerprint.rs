//! What a pin holds of the metadata.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    keyslot::Slot,
    metadata::{Digest, Metadata},
    segment::{Kind, Segment},
};
use crate::format::{
    Fingerprint, Subject,
    luks::fingerprint::{add_digest, add_keyslot, number},
};

/// Adds requirements, segments, digests and keyslots. Tokens do not count, as nothing here uses them.
pub(super) fn add(fingerprint: &mut Fingerprint, metadata: &Metadata) {
    let requirements: Vec<&[u8]> = metadata.requirements.iter().map(String::as_bytes).collect();
    fingerprint.add("", "requirements", &requirements);
    for segment in &metadata.segments {
        add_segment(fingerprint, segment);
    }
    for (index, digest) in &metadata.digests {
        add_key(fingerprint, *index, digest);
    }
    for slot in &metadata.slots {
        add_slot(fingerprint, slot, metadata);
    }
}

fn add_segment(fingerprint: &mut Fingerprint, segment: &Segment) {
    let object = format!("segment {}", segment.index);
    let offset = segment.offset.to_le_bytes();
    let size = segment.size.map_or_else(|| b"dynamic".to_vec(), |size| size.to_le_bytes().to_vec());
    fingerprint.add(&object, "place", &[&offset, &size]);
    let flags: Vec<&[u8]> = segment.flags.iter().map(String::as_bytes).collect();
    fingerprint.add(&object, "flags", &flags);
    match &segment.kind {
        Kind::Crypt(crypt) => {
            fingerprint.add(&object, "type", &[b"crypt"]);
            fingerprint.add(&object, "encryption", &[crypt.encryption.as_bytes()]);
            fingerprint.add(&object, "IV", &[&crypt.iv_tweak.to_le_bytes()]);
            fingerprint.add(&object, "sector size", &[&crypt.sector_size.bytes_u64().to_le_bytes()]);
            let integrity: Vec<&[u8]> = crypt.integrity.iter().map(String::as_bytes).collect();
            fingerprint.add(&object, "integrity", &integrity);
        }
        Kind::Other(kind) => fingerprint.add(&object, "type", &[kind.as_bytes()]),
    }
}

fn add_key(fingerprint: &mut Fingerprint, index: u32, digest: &Digest) {
    let object = Subject::Digest.object(index);
    match &digest.key {
        Ok(key) => add_digest(fingerprint, &object, key),
        Err(reason) => fingerprint.add(&object, "type", &[reason.as_bytes()]),
    }
    let segments: Vec<[u8; 4]> = digest.segments.iter().map(|segment| segment.to_le_bytes()).collect();
    let segments: Vec<&[u8]> = segments.iter().map(<[u8; 4]>::as_slice).collect();
    fingerprint.add(&object, "segments", &segments);
}

/// Which digest a keyslot is under counts as its own fact, so that a new keyslot changes no other object.
fn add_slot(fingerprint: &mut Fingerprint, slot: &Slot, metadata: &Metadata) {
    let object = Subject::Keyslot.object(slot.index);
    let digests = metadata.digests.iter().filter(|(_, digest)| digest.slots.contains(&slot.index));
    let digests: Vec<[u8; 4]> = digests.map(|(index, _)| index.to_le_bytes()).collect();
    let digests: Vec<&[u8]> = digests.iter().map(<[u8; 4]>::as_slice).collect();
    fingerprint.add(&object, "digest", &digests);
    match &slot.usable {
        Ok(keyslot) => {
            fingerprint.add(&object, "type", &[b"luks2"]);
            add_keyslot(fingerprint, keyslot);
        }
        Err(reason) => {
            let place = slot.place.clone().unwrap_or_default();
            let (start, end) = (place.start.to_le_bytes(), place.end.to_le_bytes());
            let key_len = number(slot.key_len);
            fingerprint.add(&object, "type", &[reason.as_bytes(), &key_len, &start, &end]);
        }
    }
}
