//! The part of a keyslot that only slots of kind 4 have: which credential of a FIDO2 token, and what to ask of it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32},
};

use super::layout::KEYSLOT_EXTRA_LEN;
use crate::crypto::security_key::{Challenge, CredentialId, HMAC_SECRET_LEN, MAX_CREDENTIAL_ID_LEN};

/// Section 3.2.1, in the keyslot's last [`KEYSLOT_EXTRA_LEN`] bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFido2 {
    /// Bit 0: the user was verified.
    flags: U32,
    /// The size of the credential id.
    credential_len: U16,
    /// Zero.
    reserved_a: [u8; 2],
    /// What the token is asked with.
    hmac_salt: [u8; HMAC_SECRET_LEN],
    /// The credential id, padded with zeros.
    credential: [u8; MAX_CREDENTIAL_ID_LEN],
    /// Zero.
    reserved_b: [u8; 752],
}

const _: () = assert!(size_of::<RawFido2>() == KEYSLOT_EXTRA_LEN);

/// The user was verified by the token.
const VERIFIED: u32 = 1;

/// Reads what the slot asks of its token; else gives the field that is wrong (NAT-FIDO-01 to -03).
pub(super) fn parse(extra: &[u8; KEYSLOT_EXTRA_LEN]) -> Result<Challenge, &'static str> {
    let raw = RawFido2::read_from_bytes(extra).map_err(|_| "FIDO2 part")?;
    if raw.flags.get() & !VERIFIED != 0 {
        return Err("FIDO2 flags"); // NAT-FIDO-01
    }
    let (id, padding) = raw
        .credential
        .split_at_checked(usize::from(raw.credential_len.get()))
        .ok_or("credential id length")?; // NAT-FIDO-02
    let credential = CredentialId::new(id).ok_or("credential id length")?; // NAT-FIDO-02
    if raw.reserved_a.iter().chain(padding).chain(&raw.reserved_b).any(|&byte| byte != 0) {
        return Err("FIDO2 padding"); // NAT-FIDO-03
    }
    Ok(Challenge { credential, salt: raw.hmac_salt, verified: raw.flags.get() & VERIFIED != 0 })
}

/// Writes what a new slot asks of its token.
pub(super) fn write(challenge: &Challenge, extra: &mut [u8; KEYSLOT_EXTRA_LEN]) {
    let mut raw = RawFido2::new_zeroed();
    let id = challenge.credential.as_bytes();
    raw.flags = if challenge.verified { VERIFIED } else { 0 }.into();
    raw.credential_len = u16::try_from(id.len()).unwrap_or_default().into();
    raw.hmac_salt = challenge.salt;
    for (place, byte) in raw.credential.iter_mut().zip(id) {
        *place = *byte;
    }
    extra.copy_from_slice(raw.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests know their own bytes")]

    use super::*;

    fn challenge(len: usize, verified: bool) -> Challenge {
        Challenge { credential: CredentialId::new(&vec![0xC5; len]).unwrap(), salt: [0x5A; 32], verified }
    }

    fn written(len: usize) -> [u8; KEYSLOT_EXTRA_LEN] {
        let mut extra = [0xEE; KEYSLOT_EXTRA_LEN];
        write(&challenge(len, true), &mut extra);
        extra
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (len, verified) in [(1, false), (48, true), (MAX_CREDENTIAL_ID_LEN, true)] {
            let mut extra = [0xEE; KEYSLOT_EXTRA_LEN];
            write(&challenge(len, verified), &mut extra);
            assert_eq!(parse(&extra), Ok(challenge(len, verified)));
        }
    }

    #[test]
    fn every_byte_that_must_be_zero_is_looked_at() {
        let used = |place: usize| place < 6 || (8..40 + 48).contains(&place);
        for place in (0..KEYSLOT_EXTRA_LEN).filter(|place| !used(*place)) {
            let mut extra = written(48);
            extra[place] = 1;
            assert_eq!(parse(&extra), Err("FIDO2 padding"), "byte {place}");
        }
    }

    #[test]
    fn a_length_beyond_the_field_is_refused() {
        for len in [0_u16, 1025, u16::MAX] {
            let mut extra = written(48);
            extra[4..6].copy_from_slice(&len.to_le_bytes());
            assert_eq!(parse(&extra), Err("credential id length"), "{len}");
        }
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        for bit in 1..32 {
            let mut extra = written(48);
            extra[..4].copy_from_slice(&(1_u32 << bit).to_le_bytes());
            assert_eq!(parse(&extra), Err("FIDO2 flags"), "bit {bit}");
        }
    }
}
