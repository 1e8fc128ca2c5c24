//! Recovery keys on paper: 17 groups of six digits (`spec/native-v1.md`, section 5.1).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, io};

use super::{
    hash::sha256,
    rng::Rng,
    secret::{LockedBytes, RECOVERY_KEY_LEN, RecoveryKey},
};

/// The groups of a recovery key as it is written: one for each 16 bits, and one over all of them.
pub const GROUPS: usize = KEY_GROUPS + 1;
/// The digits of one group.
pub const GROUP_DIGITS: usize = 6;
/// The digits of a recovery key as it is written.
pub const DIGITS: usize = GROUPS * GROUP_DIGITS;

/// A recovery key as it is written: 17 groups of six ASCII digits with dashes between them, in locked memory.
#[derive(Debug)]
pub struct RecoveryText(LockedBytes);

/// What is wrong with a recovery key that was typed or read. Names groups, counted from 1, never what stands in them.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A character that is neither digit nor dash nor white space.
    #[error("there is something other than digits near group {group}")]
    Character {
        /// The group that it stands in or before.
        group: usize,
    },
    /// Too few or too many digits, and a group with another number of them than six.
    #[error("group {group} has not six digits")]
    Ragged {
        /// The first such group.
        group: usize,
    },
    /// Too few or too many digits, in groups of six or in one piece.
    #[error("a recovery key has {DIGITS} digits, not {found}")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// Groups that cannot be right.
    #[error("{0}")]
    Groups(WrongGroups),
    /// Each group can be right, all of them together cannot: two were swapped, or one is of another key.
    #[error("the groups do not belong together: two are swapped, or one is from another key")]
    Check,
    /// No memory.
    #[error(transparent)]
    Memory(#[from] io::Error),
}

/// The groups that cannot be right, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongGroups(Vec<usize>);

impl fmt::Display for WrongGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        match numbers.as_slice() {
            [one] => write!(f, "group {one} is wrong"),
            _ => write!(f, "groups {} are wrong", numbers.join(", ")),
        }
    }
}

/// A new recovery key.
pub fn generate(rng: &dyn Rng) -> io::Result<RecoveryKey> {
    let mut key = LockedBytes::zeroed(RECOVERY_KEY_LEN)?;
    rng.fill(key.as_mut_slice())?;
    Ok(key.into())
}

impl RecoveryText {
    /// Writes a key down (NAT-REC-01, -02).
    ///
    /// # Errors
    /// `InvalidInput` where the key has not [`RECOVERY_KEY_LEN`] bytes.
    pub fn of(key: &RecoveryKey) -> io::Result<Self> {
        if key.len() != RECOVERY_KEY_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut text = LockedBytes::zeroed(TEXT_LEN)?;
        text.as_mut_slice().fill(b'-');
        let check = check_of(key.expose());
        let values = pairs(key.expose()).chain([check]);
        for (place, value) in text.as_mut_slice().chunks_mut(GROUP_DIGITS.saturating_add(1)).zip(values) {
            let mut rest = u32::from(value).saturating_mul(FACTOR);
            for digit in place.iter_mut().take(GROUP_DIGITS).rev() {
                *digit = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or_default());
                rest /= 10;
            }
        }
        Ok(Self(text))
    }

    /// The text: digits and dashes.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.0.as_slice()).unwrap_or_default()
    }

    /// The groups one by one, each of six digits.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.expose().split('-')
    }
}

/// Reads a key as it was written down; dashes and white space may stand anywhere (NAT-REC-03).
///
/// Keeps no copy of the text, and decides after the last byte only.
pub fn decode(text: &[u8]) -> Result<RecoveryKey, RecoveryError> {
    let digits = digits(text)?;
    let mut key = LockedBytes::zeroed(RECOVERY_KEY_LEN)?;
    let mut wrong = Vec::new();
    let mut check = None;
    let mut places = key.as_mut_slice().chunks_mut(2);
    for (number, group) in (1_usize..).zip(digits.as_slice().chunks(GROUP_DIGITS)) {
        let Some(value) = group_value(group) else {
            wrong.push(number);
            places.next();
            continue;
        };
        match places.next() {
            Some(place) => place.copy_from_slice(&value.to_le_bytes()),
            None => check = Some(value),
        }
    }
    if !wrong.is_empty() {
        return Err(RecoveryError::Groups(WrongGroups(wrong)));
    }
    if check != Some(check_of(key.as_slice())) {
        return Err(RecoveryError::Check);
    }
    Ok(key.into())
}

/// The digits of `text`, exactly [`DIGITS`] of them.
fn digits(text: &[u8]) -> Result<LockedBytes, RecoveryError> {
    let mut digits = LockedBytes::zeroed(DIGITS)?;
    let mut places = digits.as_mut_slice().iter_mut();
    let mut found = 0_usize;
    // Where the group began that a dash or white space ends next, and the first that ended elsewhere than after six digits.
    let (mut start, mut ragged) = (0, None);
    for &byte in text {
        if byte.is_ascii_digit() {
            found = found.saturating_add(1);
            if let Some(place) = places.next() {
                *place = byte;
            }
        } else if byte == b'-' || byte.is_ascii_whitespace() {
            if !found.is_multiple_of(GROUP_DIGITS) {
                ragged.get_or_insert(group_at(start));
            }
            start = found;
        } else {
            return Err(RecoveryError::Character { group: group_at(found) });
        }
    }
    match ragged {
        _ if found == DIGITS => Ok(digits),
        Some(group) => Err(RecoveryError::Ragged { group }),
        None => Err(RecoveryError::Length { found }),
    }
}

/// The number of the group that the digit after `digits` others belongs to.
fn group_at(digits: usize) -> usize {
    digits.checked_div(GROUP_DIGITS).unwrap_or_default().saturating_add(1)
}

/// The 16 bits of one group; `None` where no 16 bits give it (NAT-REC-01).
fn group_value(group: &[u8]) -> Option<u16> {
    let number = group.iter().fold(0_u32, |number, digit| {
        number.saturating_mul(10).saturating_add(u32::from(digit.saturating_sub(b'0')))
    });
    if !number.is_multiple_of(FACTOR) {
        return None;
    }
    u16::try_from(number.checked_div(FACTOR)?).ok()
}

/// The value of the last group: the first two bytes of a digest of the key (NAT-REC-02).
fn check_of(key: &[u8]) -> u16 {
    let digest = sha256(&[CHECK_LABEL, key]);
    pairs(&digest).next().unwrap_or_default()
}

/// Every two bytes as a little-endian number.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair))
}

const CHECK_LABEL: &[u8] = b"strongroom/v1/recovery-check";
/// Every group is a multiple of this: one wrong digit, or two neighbours swapped, gives none.
const FACTOR: u32 = 11;
const KEY_GROUPS: usize = RECOVERY_KEY_LEN / 2;
const TEXT_LEN: usize = DIGITS + GROUPS - 1;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests know their own texts"
    )]

    use super::*;

    fn byte(place: usize) -> u8 {
        u8::try_from(place).unwrap().wrapping_mul(37).wrapping_add(5)
    }

    fn key() -> RecoveryKey {
        RecoveryKey::copy_of(&std::array::from_fn::<u8, RECOVERY_KEY_LEN, _>(byte)).unwrap()
    }

    fn text() -> String {
        RecoveryText::of(&key()).unwrap().expose().to_owned()
    }

    fn groups() -> Vec<String> {
        text().split('-').map(str::to_owned).collect()
    }

    /// Asserts that `text` is refused, and gives the message.
    fn refusal(text: &str) -> String {
        decode(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_key_is_written_as_17_groups_of_six_digits() {
        let groups = groups();
        assert_eq!(groups.len(), GROUPS);
        assert!(groups.iter().all(|group| group.len() == 6 && group.bytes().all(|b| b.is_ascii_digit())));
        assert_eq!(groups[0], format!("{:06}", u32::from(u16::from_le_bytes([5, 42])) * 11));
        assert_eq!(RecoveryText::of(&key()).unwrap().groups().count(), GROUPS);
    }

    // proves: NAT-REC-03
    #[test]
    fn dashes_and_white_space_may_stand_anywhere() {
        let digits = groups().concat();
        let by_four: Vec<&str> =
            digits.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).unwrap()).collect();
        for text in [text(), digits.clone(), format!("  {}\r\n", groups().join(" \n\t-")), by_four.join(" ")]
        {
            assert_eq!(decode(text.as_bytes()).unwrap().expose(), key().expose());
        }
    }

    // proves: NAT-REC-01
    #[test]
    fn every_wrong_digit_is_found_in_its_group() {
        let right = text();
        for (place, digit) in right.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
            for other in (b'0'..=b'9').filter(|other| *other != digit) {
                let mut wrong = right.clone().into_bytes();
                wrong[place] = other;
                let message = decode(&wrong).unwrap_err().to_string();
                assert_eq!(message, format!("group {} is wrong", place / 7 + 1));
            }
        }
    }

    // proves: NAT-REC-01
    #[test]
    fn two_neighbouring_digits_swapped_are_found_in_their_group() {
        let right = text().into_bytes();
        let mut found = 0;
        for place in 0..right.len() - 1 {
            let mut wrong = right.clone();
            wrong.swap(place, place + 1);
            let same_group = right[place] != b'-' && right[place + 1] != b'-';
            if same_group && wrong != right {
                found += 1;
                let message = decode(&wrong).unwrap_err().to_string();
                assert_eq!(message, format!("group {} is wrong", place / 7 + 1));
            }
        }
        assert!(found > 50, "{found}");
    }

    // proves: NAT-REC-02
    #[test]
    fn two_groups_swapped_are_found() {
        let mut found = 0;
        for (a, b) in (0..GROUPS).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let mut groups = groups();
            groups.swap(a, b);
            found += 1;
            assert!(matches!(decode(groups.join("-").as_bytes()), Err(RecoveryError::Check)), "{a} {b}");
        }
        assert_eq!(found, 136);
    }

    #[test]
    fn all_wrong_groups_are_named_at_once() {
        let mut groups = groups();
        for wrong in [2, 16] {
            groups[wrong] = "000001".to_owned();
        }
        assert_eq!(refusal(&groups.join("-")), "groups 3, 17 are wrong");
    }

    #[test]
    fn a_group_above_16_bits_is_wrong() {
        let mut groups = groups();
        groups[0] = (11 * 65_536).to_string();
        assert_eq!(refusal(&groups.join("-")), "group 1 is wrong");
        groups[0] = "999999".to_owned();
        assert_eq!(refusal(&groups.join("-")), "group 1 is wrong");
    }

    #[test]
    fn a_missing_or_doubled_digit_is_found_in_its_group() {
        let mut groups = groups();
        groups[4].pop();
        assert_eq!(refusal(&groups.join(" ")), "group 5 has not six digits");
        groups[4].push_str("77");
        assert_eq!(refusal(&groups.join(" ")), "group 5 has not six digits");
    }

    #[test]
    fn a_missing_group_is_told_by_the_number_of_digits() {
        assert_eq!(refusal(&groups()[1..].join("-")), "a recovery key has 102 digits, not 96");
        assert_eq!(refusal(""), "a recovery key has 102 digits, not 0");
        assert_eq!(refusal(&"1".repeat(1_000_000)), "a recovery key has 102 digits, not 1000000");
    }

    #[test]
    fn a_letter_is_told_by_its_group_and_not_shown() {
        let text = text().replacen('-', "x", 1);
        assert_eq!(refusal(&text), "there is something other than digits near group 2");
    }

    #[test]
    fn a_key_of_another_length_is_not_written() {
        let short = RecoveryKey::copy_of(&[7; 31]).unwrap();
        assert_eq!(RecoveryText::of(&short).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn random_keys_survive_writing_and_reading() {
        for _ in 0..64 {
            let key = generate(&crate::crypto::rng::OsRng).unwrap();
            let text = RecoveryText::of(&key).unwrap();
            assert_eq!(decode(text.expose().as_bytes()).unwrap().expose(), key.expose());
        }
    }
}
