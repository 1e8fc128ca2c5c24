//! A new header: its JSON, the place of the keyslots' areas.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use serde_json::json;

use super::{
    Luks2,
    copy::{CopyIndex, HeaderCopy, Identity},
    edit::{digest_json, keyslot_json},
    metadata::MAX_KEYSLOTS_LEN,
};
use crate::{
    crypto::{hash::HashKind, kdf::KdfKind, rng::Rng},
    error::{Error, Result},
    format::{
        Priority, Room, Wishes,
        luks::{
            cipher::Encryption,
            create::{Creation, Settled},
            digest::KeyDigest,
            keyslot::{Keyslot, new_area_len},
            version::Version,
        },
    },
    storage::Storage,
};

impl Creation for Luks2 {
    const KDF_KINDS: &'static [KdfKind] = &[KdfKind::Argon2id, KdfKind::Argon2i, KdfKind::Pbkdf2];
    const PRIORITY: Option<Priority> = Some(Priority::Normal);

    type NewHeader = HeaderCopy;

    /// L2-WRITE-01.
    fn settle(room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Settled> {
        let label = wishes.label.unwrap_or_default();
        if label.len() > MAX_LABEL_LEN || label.chars().any(char::is_control) {
            return Err(Error::usage("a LUKS2 label takes 47 bytes without control characters"));
        }
        let encryption = Encryption::wished(wishes.cipher, wishes.key_bits)?;
        let least = new_area_len(encryption.key_len)?;
        let usual = Luks2::USUAL_AREAS;
        let areas_len = wishes.keyslots_len.unwrap_or(usual.end.saturating_sub(usual.start));
        if areas_len < least || areas_len > MAX_KEYSLOTS_LEN || !areas_len.is_multiple_of(4096) {
            return Err(Error::usage(
                "the room for keyslots is a multiple of 4 KiB, for at least one, and at most 128 MiB",
            ));
        }
        let areas = usual.start..usual.start.saturating_add(areas_len);
        Settled::new(room, wishes, encryption, wishes.sector_size, areas, rng)
    }

    fn digest_len(hash: HashKind) -> usize {
        hash.digest_len()
    }

    fn new_header(
        settled: &Settled,
        slot: &Keyslot,
        digest: &KeyDigest,
        rng: &dyn Rng,
    ) -> Result<Self::NewHeader> {
        let json = json!({
            "keyslots": {"0": keyslot_json(slot, new_area_len(settled.encryption.key_len)?)},
            "tokens": {},
            "segments": {"0": {
                "type": "crypt",
                "offset": settled.extent.data.start.to_string(),
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": settled.encryption.name,
                "sector_size": settled.sector_size.bytes_u64(),
            }},
            "digests": {"0": digest_json(digest)},
            "config": {
                "json_size": (HEADER_LEN.saturating_sub(4096)).to_string(),
                "keyslots_size": settled.areas_len().to_string(),
            },
        });
        let identity = Identity { label: &settled.label, uuid: &settled.uuid };
        HeaderCopy::new(&identity, HEADER_LEN, &json, rng)
    }

    fn write_header(header: &Self::NewHeader, storage: &dyn Storage) -> Result<()> {
        header.write_as(CopyIndex::Second, storage)?;
        header.write_as(CopyIndex::First, storage)
    }
}

/// The size of a copy of a new header, as cryptsetup writes it, in bytes.
const HEADER_LEN: u64 = 16 << 10;
/// The field has 48 bytes, and a zero byte ends it.
const MAX_LABEL_LEN: usize = 47;
