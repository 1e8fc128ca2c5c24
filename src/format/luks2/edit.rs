//! Objects of the JSON area as this program writes them.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use base64ct::{Base64, Encoding};
use serde_json::{Map, Value, json};

use crate::{
    crypto::kdf::KdfCost,
    error::{Error, ErrorKind, Result},
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

/// Puts a keyslot into the tree, under a digest (L2-EDIT-06: nothing else in it changes).
pub(super) fn add_keyslot(tree: &mut Value, slot: u32, object: Value, digest: u32) -> Result<()> {
    let name = slot.to_string();
    member(tree, "keyslots")?.insert(name.clone(), object);
    let digests = member(tree, "digests")?;
    let digest = digests.get_mut(&digest.to_string()).ok_or_else(odd)?;
    digest.get_mut("keyslots").and_then(Value::as_array_mut).ok_or_else(odd)?.push(Value::String(name));
    Ok(())
}

/// Gives a keyslot what `object` says; what else stands in it stays, and so do its digest and the tokens that name it.
pub(super) fn replace_keyslot(tree: &mut Value, slot: u32, object: Value) -> Result<()> {
    let old = member(tree, "keyslots")?.get_mut(&slot.to_string()).and_then(Value::as_object_mut);
    let (old, Value::Object(new)) = (old.ok_or_else(odd)?, object) else { return Err(odd()) };
    old.remove("priority");
    old.extend(new);
    Ok(())
}

/// Takes a keyslot out of the tree, and its number out of digests and tokens, which stay.
pub(super) fn remove_keyslot(tree: &mut Value, slot: u32) -> Result<()> {
    let name = slot.to_string();
    member(tree, "keyslots")?.remove(&name).ok_or_else(odd)?;
    for kind in ["digests", "tokens"] {
        for object in member(tree, kind)?.values_mut() {
            if let Some(list) = object.get_mut("keyslots").and_then(Value::as_array_mut) {
                list.retain(|other| other.as_str() != Some(&name));
            }
        }
    }
    Ok(())
}

fn member<'a>(tree: &'a mut Value, name: &str) -> Result<&'a mut Map<String, Value>> {
    tree.get_mut(name).and_then(Value::as_object_mut).ok_or_else(odd)
}

/// What parsing has refused before.
fn odd() -> Error {
    Error::new(ErrorKind::Damaged, "the header's JSON is not what it was read as")
}
