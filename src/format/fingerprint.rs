//! What of a header is worth remembering outside its container, so that a changed one is noticed.

use serde::{Deserialize, Serialize};

use crate::crypto::hash::Sha256;

/// All of a header that decides how its volume is opened, as facts with a digest each.
///
/// What it does not hold may change: header copies, sequence ids, checksums and their salts, labels, tokens, flags that only
/// concern the kernel, the order in which keyslots are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    uuid: String,
    facts: Vec<Fact>,
    state: Option<State>,
}

/// How far a header under a MAC has come. No part of it ever falls, but that the record starts anew with each generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// Counts the updates of the header.
    pub sequence: u64,
    /// Counts the starts and ends of re-encryptions.
    pub generation: u32,
    /// Counts the records of the re-encryption that is under way; 0 where none is.
    pub record: u64,
}

/// One fact of a header: that it is still the same shows in its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about: `segment 0`, `keyslot 1`; nothing for the header as a whole.
    pub object: String,
    /// Which property of that.
    pub name: String,
    /// SHA-256 over both and the value, in hexadecimal.
    pub digest: String,
}

/// What several facts of a header can be about, each under a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A keyslot.
    Keyslot,
    /// What tells a volume key.
    Digest,
}

impl Subject {
    /// The object of facts about the one with this number, as pins hold it.
    pub(in crate::format) fn object(self, index: u32) -> String {
        format!("{}{index}", self.beginning())
    }

    const fn beginning(self) -> &'static str {
        match self {
            Self::Keyslot => "keyslot ",
            Self::Digest => "digest ",
        }
    }
}

impl Fact {
    /// Whether it is about one of these.
    pub fn is_about(&self, subject: Subject) -> bool {
        self.object.starts_with(subject.beginning())
    }
}

impl Fingerprint {
    /// Of the container with this UUID; `None` where it has none, and so cannot be told from others.
    pub(in crate::format) fn of(uuid: Option<String>, format: &str) -> Option<Self> {
        let mut fingerprint = Self { uuid: uuid?, facts: Vec::new(), state: None };
        fingerprint.add("", "format", &[format.as_bytes()]);
        Some(fingerprint)
    }

    /// Adds a fact whose value consists of `parts`.
    pub(in crate::format) fn add(&mut self, object: &str, name: &str, parts: &[&[u8]]) {
        let mut hash = Sha256::default();
        hash.update(FACT);
        for part in [object.as_bytes(), name.as_bytes()].iter().chain(parts) {
            update(&mut hash, part);
        }
        let digest = hex(&hash.finish());
        self.facts.push(Fact { object: object.to_owned(), name: name.to_owned(), digest });
    }

    /// Says that the header may change as long as these numbers do not fall: a MAC tells who changed it.
    pub(in crate::format) const fn with_state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// The container's identity, as its header says it.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The facts, in the order of the header.
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// What never falls, where the format has a MAC.
    pub const fn state(&self) -> Option<State> {
        self.state
    }

    /// SHA-256 over all facts, in hexadecimal.
    pub fn digest(&self) -> String {
        digest_of(&self.facts)
    }
}

/// SHA-256 over `facts`, in hexadecimal.
pub fn digest_of(facts: &[Fact]) -> String {
    let mut hash = Sha256::default();
    hash.update(WHOLE);
    for fact in facts {
        for part in [&fact.object, &fact.name, &fact.digest] {
            update(&mut hash, part.as_bytes());
        }
    }
    hex(&hash.finish())
}

/// Each part goes in behind its length, so that no two lists of parts look alike.
fn update(hash: &mut Sha256, part: &[u8]) {
    hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
    hash.update(part);
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What the digests of facts begin with. Another encoding needs another number.
const FACT: &[u8] = b"strongroom pin 1: fact";
/// What the digest of all facts begins with.
const WHOLE: &[u8] = b"strongroom pin 1: header";

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(parts: &[&[u8]]) -> String {
        let mut fingerprint = Fingerprint::of(Some("u".to_owned()), "luks2").unwrap();
        fingerprint.add("segment 0", "place", parts);
        fingerprint.digest()
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_counts() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"", b"abc"]), digest(&[b"abc"]));
        assert_eq!(digest(&[b"ab", b"c"]), digest(&[b"ab", b"c"]));
    }

    #[test]
    fn a_container_without_uuid_has_no_fingerprint() {
        assert_eq!(Fingerprint::of(None, "luks1"), None);
    }
}
