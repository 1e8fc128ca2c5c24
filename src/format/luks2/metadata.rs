//! The metadata: JSON made into values that are well-formed and agree with each other.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{collections::BTreeMap, ops::Range};

use serde::Deserialize;

use super::{
    error::HeaderError,
    fault::fault,
    json::{self, Json},
    keyslot::{self, Slot},
    layout::BINARY_LEN,
    limited::{Texts, number, number64},
    segment::Segment,
};
use crate::{crypto::hash::HashKind, format::luks::digest::KeyDigest, text::excerpt};

/// What the JSON area says.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) slots: Vec<Slot>,
    pub(super) digests: BTreeMap<u32, Digest>,
    pub(super) segments: Vec<Segment>,
    pub(super) tokens: Vec<Token>,
    pub(super) flags: Vec<String>,
    pub(super) requirements: Vec<String>,
    /// The place of the keyslots' areas in bytes.
    pub(super) areas: Range<u64>,
    /// The data lie in another file.
    pub(super) is_detached: bool,
}

/// The digest of one volume key: which keyslots give that key, which segments are under it.
#[derive(Debug)]
pub(super) struct Digest {
    pub(super) slots: Vec<u32>,
    pub(super) segments: Vec<u32>,
    /// The digest itself, or why it cannot be used.
    pub(super) key: Result<KeyDigest, String>,
}

/// A token, which some other program may use to come by a password. Only shown.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) index: u32,
    pub(super) kind: String,
    pub(super) slots: Vec<u32>,
    /// The key in the kernel's keyring that a luks2-keyring token names.
    pub(super) key_description: Option<String>,
}

impl Metadata {
    /// Parses the text of a JSON area in a header copy of `header_len` bytes, whose data lie in another file, or not.
    pub(super) fn parse(text: &[u8], header_len: u64, is_detached: bool) -> Result<Self, HeaderError> {
        if text.first() != Some(&b'{') {
            return Err(HeaderError::JsonText); // L2-JSON-01
        }
        // L2-JSON-02, -03
        let json: Json = serde_json::from_slice(text).map_err(|error| fault(text, &error))?;
        let areas_end = config(&json.config, header_len)?;
        let areas_start = header_len.saturating_mul(2);

        let mut slots = Vec::new();
        for (&index, raw) in &json.keyslots.0 {
            slots.push(Slot::parse(raw, index)?);
        }
        keyslot::check_places(&slots, areas_start..areas_end)?;
        let mut segments = Vec::new();
        for (&index, raw) in &json.segments.0 {
            segments.push(Segment::parse(raw, index)?);
        }
        if !is_detached {
            check_data(&segments, areas_end)?;
        }
        let mut digests = BTreeMap::new();
        for (&index, raw) in &json.digests.0 {
            digests.insert(index, digest(raw, index, &slots, &segments)?);
        }
        check_digests(&slots, &digests)?;
        let mut tokens = Vec::new();
        let slot_numbers = numbers(&slots);
        for (&index, raw) in &json.tokens.0 {
            let slots = references("token", index, "keyslot", &raw.keyslots.0, &slot_numbers)?;
            let key_description = raw.key_description.as_str().filter(|_| raw.kind == KEYRING).map(excerpt);
            tokens.push(Token { index, kind: excerpt(&raw.kind), slots, key_description });
        }
        let list = |texts: &Texts<64>| texts.0.iter().map(|text| excerpt(text)).collect();
        let (flags, requirements) = (list(&json.config.flags), list(&json.config.requirements.mandatory));
        let areas = areas_start..areas_end;
        Ok(Self { slots, digests, segments, tokens, flags, requirements, areas, is_detached })
    }
}

impl Metadata {
    /// Whether the keyslot's digest has no segment: the key in it is not the volume's.
    pub(super) fn is_unbound(&self, slot: u32) -> bool {
        self.digests.values().any(|digest| digest.slots.contains(&slot) && digest.segments.is_empty())
    }

    /// The token that knows the secret of this keyslot, so that nobody types it. A recovery key of systemd's is typed, and the
    /// keyring holds what somebody has put there.
    pub(super) fn token_of(&self, slot: u32) -> Option<&Token> {
        let is_typed = |token: &&Token| matches!(token.kind.as_str(), "systemd-recovery" | KEYRING);
        self.tokens_of(slot).find(|token| !is_typed(token))
    }

    /// The same, or one for the kernel's keyring, of which nobody knows whether people have its secret too.
    pub(super) fn doubtful_token_of(&self, slot: u32) -> Option<&Token> {
        self.token_of(slot).or_else(|| self.tokens_of(slot).find(|token| token.kind == KEYRING))
    }

    fn tokens_of(&self, slot: u32) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(move |token| token.slots.contains(&slot))
    }
}

/// The type of a token that names a key in the kernel's keyring.
const KEYRING: &str = "luks2-keyring";

/// Checks the sizes (L2-CONFIG-01, -02); gives the end of the keyslots' areas.
fn config(config: &json::Config, header_len: u64) -> Result<u64, HeaderError> {
    let wrong = |field, value: &str| wrong("config", "", field, value);
    let binary_len = u64::try_from(BINARY_LEN).unwrap_or(u64::MAX);
    if number64(&config.json_size) != header_len.checked_sub(binary_len) {
        return Err(wrong("json_size", &config.json_size));
    }
    let len =
        number64(&config.keyslots_size).filter(|len| *len <= MAX_KEYSLOTS_LEN && len.is_multiple_of(4096));
    let len = len.ok_or_else(|| wrong("keyslots_size", &config.keyslots_size))?;
    Ok(header_len.saturating_mul(2).saturating_add(len))
}

/// The size of the JSON area that a text says it stands in, in bytes; `None` where it says none.
pub(super) fn json_len(text: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Told {
        config: Config,
    }
    #[derive(Deserialize)]
    struct Config {
        json_size: String,
    }
    number64(&serde_json::from_slice::<Told>(text).ok()?.config.json_size)
}

/// L2-CONFIG-03: the data of segments in use begin behind the areas, or (offset 0) in another file.
fn check_data(segments: &[Segment], areas_end: u64) -> Result<(), HeaderError> {
    let mut in_use = segments.iter().filter(|segment| !segment.is_backup());
    if in_use.any(|segment| segment.offset != 0 && segment.offset < areas_end) {
        return Err(HeaderError::OverlapsData);
    }
    Ok(())
}

fn digest(
    raw: &json::Digest,
    index: u32,
    slots: &[Slot],
    segments: &[Segment],
) -> Result<Digest, HeaderError> {
    let slot_numbers = references("digest", index, "keyslot", &raw.keyslots.0, &numbers(slots))?;
    let segment_numbers: Vec<u32> = segments.iter().map(|segment| segment.index).collect();
    let segments = references("digest", index, "segment", &raw.segments.0, &segment_numbers)?;
    let mut lens = slots.iter().filter(|slot| slot_numbers.contains(&slot.index)).map(|slot| slot.key_len);
    let key_len = lens.next();
    if key_len.is_some_and(|len| lens.any(|other| other != len)) {
        return Err(HeaderError::KeyLengths { digest: index }); // L2-KEY-04
    }
    let key = match (raw.kind.as_str(), key_len) {
        ("pbkdf2", Some(key_len)) => key_digest(raw, index, key_len)?,
        // No key has this length, so it opens nothing; it still tells whose header this is.
        ("pbkdf2", None) => key_digest(raw, index, 0).unwrap_or_else(|_| Err("it has no keyslot".to_owned())),
        (kind, _) => Err(format!("digest {index} is of the unknown type {}", excerpt(kind))),
    };
    Ok(Digest { slots: slot_numbers, segments, key })
}

/// L2-DIGEST-02
fn key_digest(
    raw: &json::Digest,
    index: u32,
    key_len: usize,
) -> Result<Result<KeyDigest, String>, HeaderError> {
    let name = index.to_string();
    let wrong = |field, value: &str| wrong("digest", &name, field, value);
    let hash_name = raw.hash.as_deref().unwrap_or_default();
    let Some(hash) = HashKind::from_name(hash_name) else {
        return Ok(Err(format!(
            "digest {index} is made with {}, which is not supported",
            excerpt(hash_name)
        )));
    };
    let iterations = raw.iterations.filter(|count| *count > 0).ok_or_else(|| wrong("iterations", "none"))?;
    let salt = bytes(raw.salt.as_deref()).ok_or_else(|| wrong("salt", "no Base64 of 8 to 128 bytes"))?;
    let digest = bytes(raw.value.as_deref()).filter(|digest| (16..=64).contains(&digest.len()));
    let digest = digest.ok_or_else(|| wrong("digest", "no Base64 of 16 to 64 bytes"))?;
    Ok(Ok(KeyDigest { hash, iterations, salt, digest, key_len }))
}

/// L2-DIGEST-01: each keyslot under one digest; one of a type that is not known may be under none.
fn check_digests(slots: &[Slot], digests: &BTreeMap<u32, Digest>) -> Result<(), HeaderError> {
    for slot in slots {
        let number = slot.index;
        match digests.values().filter(|digest| digest.slots.contains(&number)).count() {
            0 if slot.is_luks2 => return Err(HeaderError::NoDigest { slot: number }),
            0 | 1 => {}
            _ => return Err(HeaderError::SeveralDigests { slot: number }),
        }
    }
    Ok(())
}

fn numbers(slots: &[Slot]) -> Vec<u32> {
    slots.iter().map(|slot| slot.index).collect()
}

/// The numbers that `names` stand for, each of them there (L2-JSON-04).
fn references(
    object: &'static str,
    name: u32,
    kind: &'static str,
    names: &[String],
    there: &[u32],
) -> Result<Vec<u32>, HeaderError> {
    let find = |missing: &String| {
        number(missing).filter(|index| there.contains(index)).ok_or_else(|| HeaderError::Dangling {
            object,
            name,
            kind,
            missing: excerpt(missing),
        })
    };
    names.iter().map(find).collect()
}

/// The 8 to 128 bytes that a Base64 text stands for.
pub(super) fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
    use base64ct::{Base64, Encoding};
    let mut buffer = [0; 128];
    let bytes = Base64::decode(text?, &mut buffer).ok()?;
    (bytes.len() >= 8).then(|| bytes.to_vec())
}

/// An object with a value that it cannot have.
pub(super) fn wrong(object: &'static str, name: &str, field: &'static str, value: &str) -> HeaderError {
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    HeaderError::Value { object, name, field, value: excerpt(value) }
}

/// The largest place for keyslots' areas in bytes.
pub(super) const MAX_KEYSLOTS_LEN: u64 = 128 << 20;
