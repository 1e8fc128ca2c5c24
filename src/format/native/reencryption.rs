//! The superblock's section on a re-encryption that is under way: what is being left behind (section 8.1).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::{FromZeros, IntoBytes};

use super::{
    error::HeaderError,
    keys,
    layout::{RawReencryption, VOLUME_KEY_LEN},
    suite::Suite,
};
use crate::{
    crypto::{
        aead,
        rng::Rng,
        secret::{LockedBytes, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    units::SectorSize,
};

/// How the part of the data area is encrypted that is not re-encrypted yet, and its volume key under the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldVolume {
    /// Its cipher suite.
    pub suite: Suite,
    /// Its sector size.
    pub sector_size: SectorSize,
    nonce: [u8; aead::NONCE_LEN],
    wrapped_key: [u8; VOLUME_KEY_LEN],
    tag: [u8; aead::TAG_LEN],
}

/// What the wrapped key is bound to besides its own fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding<'a> {
    pub(super) uuid: &'a [u8; 16],
    pub(super) generation: u32,
}

impl OldVolume {
    /// NAT-REENC-02: the section is all zeros exactly where no re-encryption is under way.
    pub(super) fn parse(raw: &RawReencryption, is_under_way: bool) -> Result<Option<Self>, HeaderError> {
        let is_zero = raw.as_bytes().iter().all(|&byte| byte == 0);
        match (is_under_way, is_zero) {
            (false, true) => return Ok(None),
            (false, false) => return Err(HeaderError::Reserved { place: "superblock" }),
            (true, true) => {
                return Err(HeaderError::Field { field: "section on the re-encryption", value: 0 });
            }
            (true, false) => {}
        }
        let (suite, sector_size) = (raw.old_suite.get(), raw.old_sector_size.get());
        Ok(Some(Self {
            suite: Suite::from_number(suite).ok_or(HeaderError::Suite { suite })?,
            sector_size: native_sector_size(sector_size)
                .ok_or(HeaderError::Field { field: "old sector size", value: sector_size.into() })?,
            nonce: raw.nonce,
            wrapped_key: raw.wrapped_key,
            tag: raw.tag,
        }))
    }

    /// The section's bytes.
    pub(super) fn to_raw(old: Option<&Self>) -> RawReencryption {
        let Some(old) = old else { return RawReencryption::new_zeroed() };
        RawReencryption {
            old_suite: old.suite.number().into(),
            old_sector_size: u32::try_from(old.sector_size.bytes()).unwrap_or_default().into(),
            nonce: old.nonce,
            wrapped_key: old.wrapped_key,
            tag: old.tag,
        }
    }

    /// NAT-REENC-03: the old volume key under one that is made from the new.
    pub(super) fn wrap(
        suite: Suite,
        sector_size: SectorSize,
        binding: Binding<'_>,
        old_key: &VolumeKey,
        new_key: &VolumeKey,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let (wrapped_key, tag) = ([0; VOLUME_KEY_LEN], [0; aead::TAG_LEN]);
        let mut old = Self { suite, sector_size, nonce: [0; aead::NONCE_LEN], wrapped_key, tag };
        rng.fill(&mut old.nonce)?;
        let mut wrapped = LockedBytes::zeroed(VOLUME_KEY_LEN)?;
        if old_key.len() != VOLUME_KEY_LEN {
            return Err(Error::new(ErrorKind::Usage, format!("a volume key has {VOLUME_KEY_LEN} bytes")));
        }
        wrapped.as_mut_slice().copy_from_slice(old_key.expose());
        let key = keys::old_key_wrapper(new_key, binding.uuid)?;
        old.tag = aead::seal(&key, &old.nonce, &old.aad(binding), wrapped.as_mut_slice())?;
        old.wrapped_key.copy_from_slice(wrapped.as_slice());
        Ok(old)
    }

    /// The old volume key, opened with the new one.
    ///
    /// # Errors
    /// `Damaged` where it does not open: only who had the new key can have written such a header.
    pub(super) fn unwrap_key(&self, binding: Binding<'_>, new_key: &VolumeKey) -> Result<VolumeKey> {
        let mut key = LockedBytes::zeroed(VOLUME_KEY_LEN)?;
        key.as_mut_slice().copy_from_slice(&self.wrapped_key);
        let wrapper = keys::old_key_wrapper(new_key, binding.uuid)?;
        aead::open(&wrapper, &self.nonce, &self.aad(binding), key.as_mut_slice(), &self.tag).map_err(
            |_| Error::new(ErrorKind::Damaged, "the old volume key in the header does not open with the new"),
        )?;
        Ok(key.into())
    }

    fn aad(&self, binding: Binding<'_>) -> Vec<u8> {
        let sector_size = u32::try_from(self.sector_size.bytes()).unwrap_or_default();
        keys::old_key_aad(binding.uuid, binding.generation, self.suite.number(), sector_size)
    }
}

/// NAT-SB-08: 512 or 4096.
pub(super) fn native_sector_size(bytes: u32) -> Option<SectorSize> {
    match bytes {
        512 => Some(SectorSize::B512),
        4096 => Some(SectorSize::B4096),
        _ => None,
    }
}
