//! Little-endian fields, and numbers made to fit.

/// The bytes at `at`; zeros past the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u16::from_le_bytes(*field))
}

/// The same for four bytes.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u32::from_le_bytes(*field))
}

/// The same for eight.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u64::from_le_bytes(*field))
}

/// The same for one.
pub(super) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

/// Puts a field in its place, where that is.
pub(super) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = at.checked_add(field.len()).and_then(|end| bytes.get_mut(at..end)) {
        place.copy_from_slice(field);
    }
}

/// The lower six bytes of a number, as fields of four and two have them.
pub(super) fn four_and_two(number: u64) -> ([u8; 4], [u8; 2]) {
    let [low @ .., fifth, sixth, _, _] = number.to_le_bytes();
    (low, [fifth, sixth])
}

/// A length or index; what does not fit is past every end.
pub(super) fn index(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

/// A length as a 64-bit quantity, which it always fits.
pub(super) const fn long(len: usize) -> u64 {
    len as u64
}

/// A number that was checked to fit, or the most that does.
pub(super) fn short(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}
