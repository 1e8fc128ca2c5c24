//! The table of UEFI (UEFI specification 2.10, 5.3).

use super::{Partition, PartitionTable, Scheme, read_at, u32_at, u64_at};
use crate::{
    crypto::crc::crc32, error::Result, format::uuid::hyphenated, storage::Storage, units::SectorSize,
};

/// The table, from the copy at the end where the first one is damaged or gone.
pub(super) fn read(
    storage: &dyn Storage,
    size: u64,
    sector_size: SectorSize,
) -> Result<Option<PartitionTable>> {
    let sector = sector_size.bytes_u64();
    let Some(last) = size.checked_div(sector).and_then(|sectors| sectors.checked_sub(1)) else {
        return Ok(None);
    };
    let table =
        |partitions, flaw| Some(PartitionTable { scheme: Scheme::Gpt, sector_size, partitions, flaw });
    if let Some(partitions) = read_copy(storage, size, sector_size, 1)? {
        return Ok(table(partitions, None));
    }
    Ok(read_copy(storage, size, sector_size, last)?.and_then(|partitions| {
        table(partitions, Some("its first copy is damaged; the one at the end is whole"))
    }))
}

fn read_copy(
    storage: &dyn Storage,
    size: u64,
    sector_size: SectorSize,
    block: u64,
) -> Result<Option<Vec<Partition>>> {
    let sector = sector_size.bytes_u64();
    let Some(offset) = block.checked_mul(sector) else { return Ok(None) };
    let Some(bytes) = read_at(storage, size, offset, sector_size.bytes())? else { return Ok(None) };
    let Some(header) = Header::parse(&bytes, block) else { return Ok(None) };
    let Some(offset) = header.entries_block.checked_mul(sector) else { return Ok(None) };
    let Some(entries) = read_at(storage, size, offset, header.entries_len)? else { return Ok(None) };
    if crc32(&entries) != header.entries_sum {
        return Ok(None);
    }
    let numbered = entries.chunks_exact(header.entry_len).zip(1..);
    Ok(Some(numbered.filter_map(|(entry, number)| partition(entry, number, sector)).collect()))
}

/// What a header says, after its checksum was found right.
#[derive(Debug)]
struct Header {
    entries_block: u64,
    entry_len: usize,
    /// Of all entries together; bounded.
    entries_len: usize,
    entries_sum: u32,
}

impl Header {
    fn parse(sector: &[u8], block: u64) -> Option<Self> {
        let len = usize::try_from(u32_at(sector, 12)?).ok()?;
        if !sector.starts_with(b"EFI PART") || len < LEAST_HEADER_LEN || u64_at(sector, 24)? != block {
            return None;
        }
        let mut header = sector.get(..len)?.to_vec();
        header.get_mut(16..20)?.fill(0);
        if crc32(&header) != u32_at(sector, 16)? {
            return None;
        }
        let entry_len = usize::try_from(u32_at(sector, 84)?).ok()?;
        let count = usize::try_from(u32_at(sector, 80)?).ok()?;
        let entries_len = count.checked_mul(entry_len)?;
        let is_sound = entry_len >= ENTRY_LEN && entry_len.is_multiple_of(ENTRY_LEN) && entries_len > 0;
        (is_sound && entries_len <= MOST_ENTRIES_LEN).then_some(Self {
            entries_block: u64_at(sector, 72)?,
            entry_len,
            entries_len,
            entries_sum: u32_at(sector, 88)?,
        })
    }
}

/// `None` for an entry that is not used, or makes no sense.
fn partition(entry: &[u8], number: u32, sector: u64) -> Option<Partition> {
    let kind: &[u8; 16] = entry.first_chunk()?;
    if kind == &[0; 16] {
        return None;
    }
    let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
    let sectors = last.checked_sub(first)?.checked_add(1)?;
    let (start, len) = (first.checked_mul(sector)?, sectors.checked_mul(sector)?);
    start.checked_add(len)?;
    let guid = guid(kind);
    let known = KINDS.iter().find(|(code, _)| *code == guid).map(|(_, name)| (*name).to_owned());
    let name = name(entry.get(56..128)?);
    Some(Partition { number, start, len, kind: known.unwrap_or(guid), name })
}

/// The first three fields are little-endian.
fn guid(bytes: &[u8; 16]) -> String {
    let mut bytes = *bytes;
    let (first, rest) = bytes.split_at_mut(4);
    let (second, rest) = rest.split_at_mut(2);
    let (third, _) = rest.split_at_mut(2);
    for field in [first, second, third] {
        field.reverse();
    }
    hyphenated(&bytes)
}

fn name(utf16: &[u8]) -> Option<String> {
    let units =
        utf16.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    let name: String = char::decode_utf16(units).map(|letter| letter.unwrap_or('\u{fffd}')).collect();
    (!name.is_empty()).then_some(name)
}

const LEAST_HEADER_LEN: usize = 92;
const ENTRY_LEN: usize = 128;
/// Usual are 16 KiB: 128 entries.
const MOST_ENTRIES_LEN: usize = 1 << 20;

const KINDS: [(&str, &str); 15] = [
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux"),
    ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "LUKS"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux boot"),
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft data"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"),
    ("de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery"),
    ("48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+"),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS"),
];
