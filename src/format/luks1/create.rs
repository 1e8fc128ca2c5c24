//! A new header: its bytes, the places of the eight keyslots.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::{FromZeros, IntoBytes};

use super::{
    Luks1,
    editor::{describe, raw_slot_mut},
    layout::{ACTIVE, DIGEST_LEN, FIRST_AREA, FREE, KEYSLOTS, RawHeader, VERSION},
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::{KdfCost, KdfKind},
        rng::Rng,
    },
    error::{Error, Result},
    format::{
        Priority, Room, Wishes,
        luks::{
            MAGIC, UNIT, af,
            backup::write_checked_as,
            cipher::Encryption,
            cost::checked_cost,
            create::{Creation, Settled},
            digest::KeyDigest,
            keyslot::{Keyslot, new_area_len},
        },
    },
    storage::Storage,
    units::SectorSize,
};

impl Creation for Luks1 {
    const KDF_KINDS: &'static [KdfKind] = &[KdfKind::Pbkdf2];
    const PRIORITY: Option<Priority> = None;

    type NewHeader = Box<RawHeader>;

    /// L1-WRITE-02.
    fn settle(room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Settled> {
        if wishes.label.is_some_and(|label| !label.is_empty()) {
            return Err(Error::usage("LUKS1 has no labels").with_hint("luks2 and native have them"));
        }
        if wishes.sector_size.is_some_and(|size| size != SectorSize::B512) {
            return Err(
                Error::usage("LUKS1 has sectors of 512 bytes only").with_hint("luks2 and native have others")
            );
        }
        let encryption = Encryption::wished(wishes.cipher, wishes.key_bits)?;
        let end = new_area_len(encryption.key_len)?.saturating_mul(SLOTS).saturating_add(FIRST_AREA);
        let areas = FIRST_AREA..end.next_multiple_of(DATA_ALIGNMENT);
        Settled::new(room, wishes, encryption, Some(SectorSize::B512), areas, rng)
    }

    /// The header's hash is that of the one derivation too (L1-WRITE-05).
    fn checked_cost(cost: KdfCost, header_hash: HashKind) -> Result<KdfCost> {
        match checked_cost(cost, Self::KDF_KINDS)? {
            KdfCost::Pbkdf2 { hash, .. } if hash == header_hash => Ok(cost),
            _ => Err(Error::usage(format!(
                "its keyslots take PBKDF2 with {}, the header's hash",
                header_hash.name()
            ))),
        }
    }

    fn digest_len(_: HashKind) -> usize {
        DIGEST_LEN
    }

    fn new_header(
        settled: &Settled,
        slot: &Keyslot,
        digest: &KeyDigest,
        _: &dyn Rng,
    ) -> Result<Self::NewHeader> {
        let encryption = &settled.encryption;
        let area_units = new_area_len(encryption.key_len)? / UNIT;
        let units =
            |bytes: u64| u32::try_from(bytes / UNIT).map_err(|_| Error::usage("the header is too large"));
        let (name, mode) = encryption.name.split_once('-').unwrap_or((&encryption.name, ""));

        let mut raw = Box::new(RawHeader::new_zeroed());
        raw.magic = MAGIC;
        raw.version = VERSION;
        put(&mut raw.cipher_name, name.as_bytes())?;
        put(&mut raw.cipher_mode, mode.as_bytes())?;
        put(&mut raw.hash, settled.hash.name().as_bytes())?;
        raw.payload_offset.set(units(settled.extent.data.start)?);
        raw.key_len.set(u32::try_from(encryption.key_len).map_err(|_| Error::usage("the key is too long"))?);
        put(&mut raw.digest, &digest.digest)?;
        put(&mut raw.digest_salt, &digest.salt)?;
        raw.digest_iterations.set(digest.iterations);
        put(&mut raw.uuid, settled.uuid.as_bytes())?;
        let mut next = FIRST_AREA / UNIT;
        for place in &mut raw.keyslots {
            place.state.set(FREE);
            place.area_offset.set(u32::try_from(next).map_err(|_| Error::usage("the header is too large"))?);
            place.stripes.set(u32::try_from(af::STRIPES).unwrap_or_default());
            next = next.saturating_add(area_units);
        }
        describe(&mut raw, slot.index, slot)?;
        raw_slot_mut(&mut raw, slot.index)?.state.set(ACTIVE);
        Ok(raw)
    }

    fn write_header(header: &Self::NewHeader, storage: &dyn Storage) -> Result<()> {
        write_header(storage, header)
    }
}

/// Writes the header over what stands there, syncs and reads it back.
///
/// # Errors
/// What writing gave; `Io` where something else is read back.
pub(super) fn write_header(storage: &dyn Storage, header: &RawHeader) -> Result<()> {
    write_checked_as("the header that was written", storage, header.as_bytes(), 0)
}

/// Puts bytes into a field, zeros behind them.
fn put(field: &mut [u8], bytes: &[u8]) -> Result<()> {
    let place =
        field.get_mut(..bytes.len()).ok_or_else(|| Error::usage("a name is too long for the header"))?;
    place.copy_from_slice(bytes);
    Ok(())
}

const SLOTS: u64 = 8;
const _: () = assert!(KEYSLOTS == 8, "the two agree");
/// What cryptsetup aligns the data to, in bytes.
const DATA_ALIGNMENT: u64 = 1 << 20;
