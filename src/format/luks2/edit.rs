//! Objects of the JSON area as this program writes them.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use crate::{
    crypto::kdf::KdfCost,
    format::{
        Priority,
        luks::{af, digest::KeyDigest, kdf::Kdf, keyslot::Keyslot},
    },
};

/// A keyslot whose area takes `area_len` bytes.
pub(super) fn keyslot_json(slot: &Keyslot, area_len: u64) -> Value {
    let area = &slot.area;
    let mut json = json!({
        "type": "luks2",
        "key_size": area.key_len,
        "af": {"type": "luks1", "stripes": af::STRIPES, "hash": area.hash.name()},
        "area": {
            "type": "raw",
            "offset": area.offset.to_string(),
            "size": area_len.to_string(),
            "encryption": area.encryption.name,
            "key_size": area.encryption.key_len,
        },
        "kdf": kdf_json(&slot.kdf),
    });
    let priority = match slot.priority {
        Some(Priority::Ignore) => Some(0),
        Some(Priority::Prefer) => Some(2),
        // What goes without saying cryptsetup leaves out too.
        Some(Priority::Normal) | None => None,
    };
    if let (Some(priority), Some(object)) = (priority, json.as_object_mut()) {
        object.insert("priority".to_owned(), json!(priority));
    }
    json
}

fn kdf_json(kdf: &Kdf) -> Value {
    let salt = Base64::encode_string(&kdf.salt);
    match kdf.cost {
        KdfCost::Pbkdf2 { hash, iterations } => {
            json!({"type": "pbkdf2", "hash": hash.name(), "iterations": iterations, "salt": salt})
        }
        KdfCost::Argon2i(cost) | KdfCost::Argon2id(cost) => {
            let kind = if matches!(kdf.cost, KdfCost::Argon2i(_)) { "argon2i" } else { "argon2id" };
            json!({
                "type": kind, "time": cost.passes, "memory": cost.memory_kib, "cpus": cost.lanes, "salt": salt,
            })
        }
    }
}

/// The digest of a new container: of its one keyslot and its one segment.
pub(super) fn digest_json(digest: &KeyDigest) -> Value {
    json!({
        "type": "pbkdf2",
        "keyslots": ["0"],
        "segments": ["0"],
        "hash": digest.hash.name(),
        "iterations": digest.iterations,
        "salt": Base64::encode_string(&digest.salt),
        "digest": Base64::encode_string(&digest.digest),
    })
}
