//! Trying keyslots until one gives the volume key.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{digest::KeyDigest, kdf::Budget, keyslot::Keyslot};
use crate::{
    crypto::secret::{Credentials, VolumeKey},
    error::{Error, ErrorKind, Result},
    format::{Attempt, Priority, empty_keyslot, tried_by_number},
};

/// Tries the keyslots that may be tried, those with the highest priority first; each with the digest of its volume key.
///
/// # Errors
/// `Credentials` where none opens, `Usage` where the one asked for is empty, or what kept the last one from being tried.
pub(in crate::format) fn open_any<'a>(
    slots: impl Iterator<Item = (&'a Keyslot, &'a KeyDigest)>,
    credentials: &Credentials,
    attempt: &Attempt,
) -> Result<(VolumeKey, u32)> {
    let password = password(credentials)?;
    let may_try = |slot: &Keyslot| match attempt.keyslot {
        Some(number) => slot.index == number,
        None => slot.priority != Some(Priority::Ignore),
    };
    let (mut slots, others): (Vec<_>, Vec<_>) = slots.partition(|(slot, _)| may_try(slot));
    slots.sort_by_key(|(slot, _)| (slot.priority != Some(Priority::Prefer), slot.index));
    if slots.is_empty() {
        return Err(match (attempt.keyslot, others.first()) {
            (Some(number), _) => empty_keyslot(number),
            (None, Some((ignored, _))) => tried_by_number(ignored.index),
            (None, None) => Error::new(ErrorKind::Credentials, "no keyslot takes a password"),
        });
    }
    let mut budget = Budget::new(&attempt.limits);
    let mut failure = None;
    let overwritten =
        slots.iter().find(|(slot, _)| slot.is_overwritten()).map(|(slot, _)| slot.overwritten());
    for (slot, digest) in slots {
        match try_slot(slot, digest, password, attempt, &mut budget) {
            Ok(Some(key)) => return Ok((key, slot.index)),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| {
        let wrong = "wrong password or keyfile";
        let damage = overwritten.map_or_else(String::new, |damage| format!("; {damage}"));
        Error::new(ErrorKind::Credentials, format!("{wrong}{damage}"))
    }))
}

fn try_slot(
    slot: &Keyslot,
    digest: &KeyDigest,
    password: &[u8],
    attempt: &Attempt,
    budget: &mut Budget,
) -> Result<Option<VolumeKey>> {
    let key = slot.open(password, &attempt.limits, budget)?;
    Ok(digest.matches(&key, &attempt.limits)?.then_some(key))
}

/// The one secret that a LUKS keyslot takes: a password, or the content of a keyfile in its place.
pub(super) fn password(credentials: &Credentials) -> Result<&[u8]> {
    match credentials {
        Credentials::Password { password, keyfiles } if keyfiles.is_empty() => Ok(password.expose()),
        Credentials::Password { .. } => {
            Err(Error::new(ErrorKind::Credentials, "a LUKS keyslot takes a password or a keyfile, not both"))
        }
        Credentials::Recovery(_) => {
            Err(Error::new(ErrorKind::Credentials, "LUKS containers have no recovery keys"))
        }
        Credentials::SecurityKey(_) => Err(Error::new(
            ErrorKind::Credentials,
            "tokens of LUKS containers are shown, and not used in this version",
        )),
    }
}
