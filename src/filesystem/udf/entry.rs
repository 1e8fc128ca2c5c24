//! File entries (ECMA-167, 4/14.9 and 14.17; UDF 2.60, 2.3.6), and what they say of a file.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    super::{
        Attributes, Fault, Kind, NodeId, Result, Rights,
        bytes::{index, short, u8_at, u16_at, u32_at, u64_at},
        civil::moment,
    },
    extents::Extents,
    tag::{self, Place},
    volume::Volume,
};

/// The block that tells of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    bytes: &'a [u8],
    is_extended: bool,
    attributes: &'a [u8],
    /// Its extents, or its content.
    pub(super) allocation: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(super) fn parse(bytes: &'a [u8], place: Place) -> Result<Self> {
        let is_extended = match tag::kind(bytes, place.block) {
            Some(tag::FILE) => false,
            Some(tag::EXTENDED_FILE) => true,
            _ => return Err(Fault::Damaged),
        };
        // The other strategy is for media that are written once.
        if u16_at(bytes, 20) != USUAL_STRATEGY {
            return Err(Fault::Unsupported);
        }
        let lengths = if is_extended { 208 } else { 168_usize };
        let attributes_len = index(u32_at(bytes, lengths));
        let allocation_len = index(u32_at(bytes, lengths.saturating_add(4)));
        let rest = bytes.get(lengths.saturating_add(8)..).ok_or(Fault::Damaged)?;
        let (attributes, rest) = rest.split_at_checked(attributes_len).ok_or(Fault::Damaged)?;
        let allocation = rest.get(..allocation_len).ok_or(Fault::Damaged)?;
        Ok(Self { bytes, is_extended, attributes, allocation })
    }

    /// How its extents are told: shortly, at length, otherwise, or not, as the content stands there itself.
    pub(super) fn addresses(&self) -> u16 {
        self.flags() & 7
    }

    pub(super) fn size(&self) -> u64 {
        u64_at(self.bytes, 56)
    }

    fn flags(&self) -> u16 {
        u16_at(self.bytes, 34)
    }

    pub(super) fn kind(&self) -> Kind {
        match u8_at(self.bytes, 27) {
            4 => Kind::Directory,
            6 => Kind::BlockDevice,
            7 => Kind::CharacterDevice,
            9 => Kind::Pipe,
            10 => Kind::Socket,
            12 => Kind::Link,
            _ => Kind::File,
        }
    }

    /// What is known of the file. `block_len` is the unit in which its place on the medium is counted.
    pub(super) fn describe(&self, node: NodeId, block_len: u64) -> Attributes {
        let [recorded, accessed, modified, changed] =
            if self.is_extended { [72, 80, 92, 116] } else { [64, 72, 84, 96_usize] };
        let time = |at: usize| self.bytes.get(at..).and_then(time).unwrap_or(UNIX_EPOCH);
        let created = if self.is_extended { time(104) } else { time(modified) };
        let owner = |at: usize| Some(u32_at(self.bytes, at)).filter(|owner| *owner != u32::MAX);
        let kind = self.kind();
        Attributes {
            node,
            kind,
            size: if matches!(kind, Kind::File | Kind::Directory | Kind::Link) { self.size() } else { 0 },
            allocated: u64_at(self.bytes, recorded).saturating_mul(block_len),
            links: u32::from(u16_at(self.bytes, 48)).max(1),
            device: self.device(),
            rights: Rights::Posix {
                mode: mode(u32_at(self.bytes, 44), self.flags()),
                uid: owner(36).unwrap_or(NOBODY),
                gid: owner(40).unwrap_or(NOBODY),
            },
            modified: time(modified),
            changed: time(changed),
            accessed: time(accessed),
            created,
        }
    }

    /// The number of a device, as the kernel packs it (4/14.10.7).
    fn device(&self) -> u32 {
        let mut rest = self.attributes.get(24..).unwrap_or_default();
        for _ in 0..MOST_ATTRIBUTES {
            let Some((field, behind)) = rest.split_at_checked(index(u32_at(rest, 8))) else { return 0 };
            if field.len() < 12 {
                return 0;
            }
            if u32_at(field, 0) == DEVICE {
                let (major, minor) = (u32_at(field, 16), short(u32_at(field, 20)));
                return minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12;
            }
            rest = behind;
        }
        0
    }
}

impl Volume {
    /// The extents of the file whose entry is at `place`, where its content does not stand in that.
    pub(super) fn file_of(&self, place: Place) -> Result<Extents> {
        let bytes = self.block(place)?;
        self.extents(place, &Entry::parse(&bytes, place)?)
    }
}

/// Three bits of five count (4/14.9.5).
fn mode(permissions: u32, flags: u16) -> u16 {
    let bits = permissions & 0o7 | permissions >> 2 & 0o70 | permissions >> 4 & 0o700;
    let special = [(0x40, 0o4000), (0x80, 0o2000), (0x100, 0o1000)];
    let special =
        special.into_iter().filter(|(flag, _)| flags & flag != 0).fold(0, |sum, (_, bit)| sum | bit);
    u16::try_from(bits).unwrap_or_default() | special
}

/// Twelve bytes (1/7.3): a clock in a zone, and the parts of its second.
fn time(bytes: &[u8]) -> Option<SystemTime> {
    let [
        zone_low,
        zone_high,
        year_low,
        year_high,
        month,
        day,
        hour,
        minute,
        second,
        hundredths,
        hundreds,
        single,
    ] = *bytes.first_chunk::<12>()?;
    let zone = u16::from_le_bytes([zone_low, zone_high]);
    // Twelve bits with a sign, in minutes.
    let minutes = i64::from(i16::from_le_bytes((zone << 4).to_le_bytes()) >> 4);
    let ahead = if minutes == NO_ZONE { 0 } else { minutes.checked_mul(60)? };
    let year = u32::try_from(i16::from_le_bytes([year_low, year_high])).ok()?;
    let part = |count: u8, unit: u32| u32::from(count.min(99)).saturating_mul(unit);
    let nanoseconds =
        part(hundredths, 10_000_000).checked_add(part(hundreds, 100_000))?.checked_add(part(single, 1000))?;
    moment([year, month.into(), day.into(), hour.into(), minute.into(), second.into()], ahead, nanoseconds)
}

const USUAL_STRATEGY: u16 = 4;
const NO_ZONE: i64 = -2047;
const DEVICE: u32 = 12;
const MOST_ATTRIBUTES: u32 = 64;
/// Whose a file is that names no owner, as the kernel shows it.
const NOBODY: u32 = 65_534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_three_bits_of_five() {
        // rwx for the owner, r-x for the group, nothing for others; with chattr and delete set.
        let permissions = 0b11111 << 10 | 0b00101 << 5;
        assert_eq!(mode(permissions, 0), 0o750);
        assert_eq!(mode(permissions, 0x140), 0o5750);
    }

    #[test]
    fn times_have_a_zone_of_twelve_bits() {
        let seconds = |zone: u16| {
            let [low, high] = (0x1000 | zone & 0xfff).to_le_bytes();
            let bytes = [low, high, 0xea, 7, 11, 30, 7, 15, 0, 1, 2, 3];
            time(&bytes).unwrap().duration_since(UNIX_EPOCH).unwrap()
        };
        assert_eq!(seconds(0).as_secs(), 1_796_022_900);
        assert_eq!(seconds(0).subsec_micros(), 10_203);
        assert_eq!(seconds(60).as_secs(), 1_796_022_900 - 3600);
        assert_eq!(seconds(0xfc4).as_secs(), 1_796_022_900 + 3600);
        assert_eq!(seconds(0x801).as_secs(), 1_796_022_900);
    }
}
