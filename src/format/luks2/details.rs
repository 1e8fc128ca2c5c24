//! What `info` shows of a header beyond what all formats have.

use super::{
    keyslot::Slot,
    metadata::Metadata,
    segment::{Kind, Segment},
};
use crate::{format::Detail, text::excerpt};

/// The rest of what `luksDump` shows.
pub(super) fn details(metadata: &Metadata, subsystem: &str) -> Vec<Detail> {
    let mut details = Vec::new();
    if !subsystem.is_empty() {
        details.push(Detail::new("Subsystem", subsystem));
    }
    if !metadata.flags.is_empty() {
        details.push(Detail::new("Flags", metadata.flags.join(" ")));
    }
    if !metadata.requirements.is_empty() {
        details.push(Detail::new("Requirements", metadata.requirements.join(" ")));
    }
    details.extend(metadata.segments.iter().map(describe_segment));
    details.extend(metadata.slots.iter().map(describe_slot));
    for token in &metadata.tokens {
        let description = token.key_description.iter().map(|text| format!(", key {text:?}"));
        let value =
            format!("{}, keyslots {}{}", token.kind, list(&token.slots), description.collect::<String>());
        details.push(Detail::new(format!("Token {}", token.index), value));
    }
    for (index, digest) in &metadata.digests {
        let key = match &digest.key {
            Ok(key) => format!("pbkdf2-{}, {} iterations", key.hash.name(), key.iterations),
            Err(reason) => format!("not usable: {reason}"),
        };
        let value = format!("{key}, keyslots {}, segments {}", list(&digest.slots), list(&digest.segments));
        details.push(Detail::new(format!("Digest {index}"), value));
    }
    details
}

fn describe_segment(segment: &Segment) -> Detail {
    let mut parts = Vec::new();
    match &segment.kind {
        Kind::Crypt(crypt) => {
            parts.push(excerpt(&crypt.encryption));
            parts.push(format!("sectors of {} bytes", crypt.sector_size));
            parts.push(format!("IV from {}", crypt.iv_tweak));
            parts.extend(crypt.integrity.as_ref().map(|kind| format!("integrity {kind}")));
        }
        Kind::Other(kind) => parts.push(kind.clone()),
    }
    let size = segment.size.map_or_else(|| "to the end".to_owned(), |size| format!("{size} bytes"));
    parts.push(format!("{size} at offset {}", segment.offset));
    parts.extend(segment.flags.iter().cloned());
    Detail::new(format!("Segment {}", segment.index), parts.join(", "))
}

fn describe_slot(slot: &Slot) -> Detail {
    let value = match &slot.usable {
        Ok(keyslot) => {
            let area = &keyslot.area;
            let bits = area.encryption.key_len.saturating_mul(8);
            format!(
                "{}, {bits}-bit key, stripes by {}, at offset {}",
                area.encryption.name,
                area.hash.name(),
                area.offset
            )
        }
        Err(reason) => format!("not usable: {reason}"),
    };
    Detail::new(format!("Keyslot {}", slot.index), value)
}

fn list(numbers: &[u32]) -> String {
    if numbers.is_empty() {
        return "none".to_owned();
    }
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}
