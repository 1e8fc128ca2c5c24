//! Signatures that stand behind the first bytes: at the end of a medium, or where a label's second half begins.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::io;

use super::{
    Owner, Signature, Test, has,
    table::{RAID, RAID_WAY, ZFS, ZFS_WAY},
    u32_at,
};
use crate::storage::Storage;

/// A place, as the size of the medium gives it; `None` where there is no room for it.
type PlaceOf = fn(u64) -> Option<u64>;

/// One more signature, and the places at which as many bytes are looked at.
#[derive(Debug)]
struct Far {
    places: &'static [PlaceOf],
    len: usize,
    signature: Signature,
}

/// What is known of a medium of whose start nothing is.
///
/// # Errors
/// What reading gave.
pub(super) fn recognise(storage: &dyn Storage) -> io::Result<Option<&'static Signature>> {
    let size = storage.size()?;
    for far in KNOWN {
        for offset in far.places.iter().filter_map(|place| place(size)) {
            let len = u64::try_from(far.len).unwrap_or(u64::MAX);
            if offset.checked_add(len).is_none_or(|end| end > size) {
                continue;
            }
            let mut bytes = vec![0; far.len];
            storage.read_exact_at(&mut bytes, offset)?;
            let is_there = match far.signature.test {
                Test::Magic(at, magic) => has(&bytes, at, magic),
                Test::Look(is_there) => is_there(&bytes),
            };
            if is_there {
                return Ok(Some(&far.signature));
            }
        }
    }
    Ok(None)
}

/// The superblock of version 0.90: `md_magic`, `major_version`, `minor_version`.
fn is_md_0_90(bytes: &[u8]) -> bool {
    has(bytes, 0, MD_MAGIC) && u32_at(bytes, 4) == Some(0) && u32_at(bytes, 8) == Some(90)
}

/// That of version 1.0: `magic`, `major_version`.
fn is_md_1_0(bytes: &[u8]) -> bool {
    has(bytes, 0, MD_MAGIC) && u32_at(bytes, 4) == Some(1)
}

/// The footer of full-disk encryption: magic, `major_version`, `minor_version`.
fn is_android_footer(bytes: &[u8]) -> bool {
    let version = bytes.get(4..8);
    has(bytes, 0, b"\xc4\xb1\xb5\xd0") && matches!(version, Some([1, 0, 0..=9, 0]))
}

/// Any uberblock of the ring, in either byte order.
fn has_uberblock(ring: &[u8]) -> bool {
    ring.chunks_exact(1024)
        .any(|block| has(block, 0, b"\x0c\xb1\xba\0\0\0\0\0") || has(block, 0, b"\0\0\0\0\0\xba\xb1\x0c"))
}

fn last_sector(size: u64) -> Option<u64> {
    size.checked_sub(512)
}

fn last_large_sector(size: u64) -> Option<u64> {
    (size & !4095).checked_sub(4096)
}

fn last_64k(size: u64) -> Option<u64> {
    (size & !0xffff).checked_sub(0x1_0000)
}

fn last_8k(size: u64) -> Option<u64> {
    Some((size.div_euclid(512).checked_sub(16)? & !7).saturating_mul(512))
}

fn last_16k(size: u64) -> Option<u64> {
    size.checked_sub(16 << 10)
}

/// The ring of uberblocks is the second half of each of the four labels, two at either end.
fn label_from_end(size: u64, number: u64) -> Option<u64> {
    (size & !LABEL_MASK).checked_sub(LABEL.saturating_mul(number)).map(|label| label.saturating_add(RING))
}

const MD_MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";
const LABEL: u64 = 256 << 10;
const LABEL_MASK: u64 = 0x3_ffff;
const RING: u64 = 128 << 10;

const fn signature(test: Test, name: &'static str, way_in: &'static str) -> Signature {
    Signature { test, owner: Owner::Other, name, way_in: Some(way_in) }
}

static KNOWN: &[Far] = &[
    Far { places: &[last_64k], len: 12, signature: signature(Test::Look(is_md_0_90), RAID, RAID_WAY) },
    Far { places: &[last_8k], len: 8, signature: signature(Test::Look(is_md_1_0), RAID, RAID_WAY) },
    Far {
        places: &[last_sector, last_large_sector],
        len: 512,
        signature: signature(
            Test::Magic(0, b"GEOM::ELI"),
            "a GELI provider of FreeBSD",
            "geli attach opens it on FreeBSD",
        ),
    },
    Far {
        places: &[last_sector],
        len: 512,
        signature: signature(
            Test::Magic(0, b"koly"),
            "a disk image of macOS (DMG)",
            "hdiutil attach FILE opens it on a Mac; 7z x FILE or dmg2img FILE unpacks it",
        ),
    },
    Far {
        places: &[last_sector],
        len: 512,
        signature: signature(
            Test::Magic(504, b"cdsaencr"),
            "an encrypted disk image of macOS (DMG)",
            "hdiutil attach FILE opens it on a Mac",
        ),
    },
    Far {
        places: &[last_sector],
        len: 512,
        signature: signature(
            Test::Magic(0, b"conectix"),
            "a VHD disk image of fixed size",
            "what is in it begins at its first byte: qemu-img convert -f vpc -O raw FILE NEW leaves the last sector out",
        ),
    },
    Far {
        places: &[last_16k],
        len: 512,
        signature: signature(
            Test::Look(is_android_footer),
            "the encrypted storage of an Android device",
            "that device alone opens it, as a rule: its chip has a part of the key",
        ),
    },
    Far {
        places: &[
            |_| Some(RING),
            |_| Some(LABEL.saturating_add(RING)),
            |size| label_from_end(size, 2),
            |size| label_from_end(size, 1),
        ],
        len: 128 << 10,
        signature: signature(Test::Look(has_uberblock), ZFS, ZFS_WAY),
    },
];

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn name(patch: Option<(usize, &[u8])>) -> Option<&'static str> {
        // No multiple of 64 KiB.
        let mut bytes = vec![0; (2 << 20) + 5120];
        if let Some((at, patch)) = patch {
            bytes[at..at + patch.len()].copy_from_slice(patch);
        }
        recognise(&MemoryStorage::new(bytes)).unwrap().map(|found| found.name)
    }

    #[test]
    fn what_stands_behind_the_start_is_found_in_its_place_and_nowhere_else() {
        let size = (2 << 20) + 5120;
        let uberblock = b"\x0c\xb1\xba\0\0\0\0\0";
        for (at, magic, expected) in [
            ((2 << 20) - 65_536, &b"\xfc\x4e\x2b\xa9\0\0\0\0\x5a\0\0\0"[..], RAID),
            // ((4106 - 16) & !7) * 512
            (4088 * 512, b"\xfc\x4e\x2b\xa9\x01\0\0\0", RAID),
            (size - 512, b"GEOM::ELI\0", "a GELI provider of FreeBSD"),
            (size - 512, b"koly\0", "a disk image of macOS (DMG)"),
            (size - 8, b"cdsaencr", "an encrypted disk image of macOS (DMG)"),
            (size - 512, b"conectix", "a VHD disk image of fixed size"),
            (size - 16_384, b"\xc4\xb1\xb5\xd0\x01\0\x03\0", "the encrypted storage of an Android device"),
            (131_072, uberblock, ZFS),
            (131_072 + 17 * 1024, uberblock, ZFS),
            (393_216, b"\0\0\0\0\0\xba\xb1\x0c", ZFS),
            ((2 << 20) - 131_072, uberblock, ZFS),
            ((2 << 20) - 393_216, uberblock, ZFS),
        ] {
            assert_eq!(name(Some((at, magic))), Some(expected), "at {at}");
            assert_eq!(name(Some((at - 1, magic))), None, "before {at}");
        }
        assert_eq!(name(None), None);
    }

    #[test]
    fn a_medium_too_small_for_a_place_is_nothing_known() {
        for len in [0, 1, 511, 512, 4096, 65_536, 262_144] {
            assert!(recognise(&MemoryStorage::new(vec![0; len])).unwrap().is_none());
        }
    }
}
