//! Directory records (ECMA-119, 9.1), and the walk over those of a directory.

use super::{
    super::{
        Fault, Result,
        bytes::{index, long, u8_at, u16_at, u32_at},
    },
    Iso,
};

/// A file as its directory has it. One that is longer than a section can be has several records, one after the other.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where its first record is, in bytes of the volume.
    pub(super) position: u64,
    /// Where the records of the next file begin, in bytes of the directory.
    pub(super) next: u64,
    /// Where its bytes are: a start and a length each, in bytes.
    pub(super) sections: Vec<(u64, u64)>,
    pub(super) is_directory: bool,
    /// Whether its blocks lie between those of others, which is not read here.
    pub(super) is_interleaved: bool,
    pub(super) time: [u8; 7],
    pub(super) name: Vec<u8>,
    pub(super) system_use: Vec<u8>,
}

impl Entry {
    /// Whether it stands for the directory itself, or for the one above.
    pub(super) fn is_dot(&self) -> bool {
        matches!(*self.name, [0 | 1])
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.sections.iter().fold(0, |sum, (_, len)| sum.saturating_add(*len))
    }
}

/// One record.
struct Record<'a> {
    len: usize,
    block: u64,
    bytes: u64,
    flags: u8,
    is_interleaved: bool,
    time: [u8; 7],
    name: &'a [u8],
    system_use: &'a [u8],
}

impl<'a> Record<'a> {
    fn parse(rest: &'a [u8]) -> Option<Self> {
        let len = usize::from(u8_at(rest, 0));
        let raw = rest.get(..len).filter(|raw| raw.len() > NAME)?;
        let name_len = usize::from(u8_at(raw, NAME.checked_sub(1)?));
        let name = raw.get(NAME..NAME.checked_add(name_len)?).filter(|name| !name.is_empty())?;
        // Padded to an even length.
        let behind = NAME.checked_add(name_len | 1)?;
        Some(Self {
            len,
            block: u64::from(u32_at(raw, 2)).checked_add(u8_at(raw, 1).into())?,
            bytes: u32_at(raw, 10).into(),
            flags: u8_at(raw, 25),
            is_interleaved: u16_at(raw, 26) != 0,
            time: raw.get(18..)?.first_chunk().copied()?,
            name,
            system_use: raw.get(behind..).unwrap_or_default(),
        })
    }
}

impl Iso {
    /// Shows `each` the files of the directory that begins at `start`, from byte `from` of it on, until that answers false.
    pub(super) fn walk(
        &self,
        (start, len): (u64, u64),
        from: u64,
        each: &mut dyn FnMut(Entry) -> Result<bool>,
    ) -> Result<()> {
        let end = start.checked_add(len).filter(|end| *end <= self.device.size()).ok_or(Fault::Damaged)?;
        let mut at = start.saturating_add(from);
        let mut sector = Sector::default();
        while at < end {
            let Some(entry) = self.entry(at, end, &mut sector)? else {
                at = next_sector(at);
                continue;
            };
            at = entry.next;
            let entry = Entry { next: at.saturating_sub(start), ..entry };
            if !each(entry)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The file whose first record is at `position`. `None` where the records of this sector are over. Its `next` counts from the
    /// start of the volume.
    pub(super) fn entry(&self, position: u64, end: u64, sector: &mut Sector) -> Result<Option<Entry>> {
        let mut at = position;
        let mut entry: Option<Entry> = None;
        while at < end {
            let within = index(at % SECTOR);
            let bytes = sector.holding(self, at)?;
            let rest = bytes.get(within..).unwrap_or_default();
            if u8_at(rest, 0) == 0 {
                if entry.is_none() {
                    return Ok(None);
                }
                at = next_sector(at);
                continue;
            }
            let record = Record::parse(rest).ok_or(Fault::Damaged)?;
            let start = record.block.checked_mul(self.block_len).ok_or(Fault::Damaged)?;
            at = at.saturating_add(long(record.len));
            let has_more = record.flags & HAS_MORE != 0;
            let section = (start, record.bytes);
            match &mut entry {
                None => {
                    entry = Some(Entry {
                        position,
                        next: at,
                        sections: vec![section],
                        is_directory: record.flags & IS_DIRECTORY != 0,
                        is_interleaved: record.is_interleaved,
                        time: record.time,
                        name: record.name.to_vec(),
                        system_use: record.system_use.to_vec(),
                    });
                }
                Some(entry) => {
                    if entry.name != record.name || entry.sections.len() >= MOST_SECTIONS {
                        return Err(Fault::Damaged);
                    }
                    entry.sections.push(section);
                    entry.next = at;
                }
            }
            if !has_more {
                return Ok(entry);
            }
        }
        // The last section is missing.
        if entry.is_some() { Err(Fault::Damaged) } else { Ok(None) }
    }
}

/// The sector that was read last.
#[derive(Debug, Default)]
pub(super) struct Sector {
    start: u64,
    bytes: Vec<u8>,
}

impl Sector {
    /// The bytes of the sector that holds this byte of the volume.
    fn holding(&mut self, iso: &Iso, at: u64) -> Result<&[u8]> {
        let start = at.saturating_sub(at % SECTOR);
        if self.bytes.is_empty() || self.start != start {
            self.bytes.resize(index(SECTOR), 0);
            let read = iso.device.read_at(&mut self.bytes, start);
            if read.is_err() {
                self.bytes.clear();
            }
            read?;
            self.start = start;
        }
        Ok(&self.bytes)
    }
}

const fn next_sector(at: u64) -> u64 {
    at.saturating_add(SECTOR).saturating_sub(at % SECTOR)
}

/// In which records are whole (ECMA-119, 6.8.1.1).
pub(super) const SECTOR: u64 = 2048;
/// Where a record has its name.
const NAME: usize = 33;
const IS_DIRECTORY: u8 = 0x02;
const HAS_MORE: u8 = 0x80;
/// A file of 1 TiB in sections of 4 GiB.
const MOST_SECTIONS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8], behind: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; NAME];
        bytes[2..6].copy_from_slice(&7_u32.to_le_bytes());
        bytes[10..14].copy_from_slice(&1234_u32.to_le_bytes());
        bytes[32] = u8::try_from(name.len()).unwrap();
        bytes.extend(name);
        if name.len().is_multiple_of(2) {
            bytes.push(0);
        }
        bytes.extend(behind);
        bytes[0] = u8::try_from(bytes.len()).unwrap();
        bytes
    }

    #[test]
    fn a_record_has_its_name_and_what_others_put_behind_it() {
        for name in [&b"A"[..], b"AB", b"ABC.TXT;1"] {
            let bytes = record(name, b"NM12");
            let record = Record::parse(&bytes).unwrap();
            assert_eq!(
                (record.name, record.system_use, record.block, record.bytes),
                (name, &b"NM12"[..], 7, 1234)
            );
        }
    }

    #[test]
    fn a_record_that_is_cut_off_is_none() {
        let bytes = record(b"NAME", b"");
        for len in 0..bytes.len() {
            assert!(Record::parse(&bytes[..len]).is_none(), "{len}");
        }
        let mut long_name = bytes.clone();
        long_name[32] = 200;
        assert!(Record::parse(&long_name).is_none());
    }
}
