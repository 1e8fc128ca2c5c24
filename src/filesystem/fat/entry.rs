//! Entries of directories: sets of 32-byte slots.

use std::time::SystemTime;

use super::{
    super::{
        Kind,
        bytes::{index, put, short, u8_at, u16_at, u32_at, u64_at},
    },
    clock::Stamp,
    layout::Layout,
    names::{UpCase, as_short, short_checksum, show_short},
};

/// What an entry says of its file, beside the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) flags: u16,
    /// Zero where the file has no clusters.
    pub(super) first: u32,
    pub(super) size: u64,
    /// exFAT: how much of it was written; the rest reads as zeros. Elsewhere all of it.
    pub(super) valid: u64,
    /// exFAT: the clusters follow each other, and the table says nothing of them.
    pub(super) contiguous: bool,
    pub(super) created: SystemTime,
    pub(super) modified: SystemTime,
    pub(super) accessed: SystemTime,
}

impl Meta {
    pub(super) fn new(kind: Kind, now: SystemTime) -> Self {
        let flags = if kind == Kind::Directory { DIRECTORY } else { ARCHIVE };
        Self {
            flags,
            first: 0,
            size: 0,
            valid: 0,
            contiguous: false,
            created: now,
            modified: now,
            accessed: now,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        if self.flags & DIRECTORY == 0 { Kind::File } else { Kind::Directory }
    }
}

/// An entry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: u32,
    pub(super) slots: u32,
    pub(super) name: Vec<u16>,
    /// FAT's second name.
    pub(super) short: [u8; 11],
    pub(super) meta: Meta,
    /// Whether its checksum is that of its bytes.
    pub(super) is_whole: bool,
}

/// What the slots of a directory hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) entries: Vec<Entry>,
    /// Slots that hold nothing, in runs; those from `end` on excepted.
    pub(super) free: Vec<(u32, u32)>,
    /// Slots that make no sense.
    pub(super) garbage: Vec<u32>,
    /// From here on no slot was ever used.
    pub(super) end: u32,
    /// FAT: where `.` and `..` are.
    pub(super) dots: [Option<u32>; 2],
    /// exFAT: first cluster and length of the bitmap, and of the table of upper case with its checksum.
    pub(super) bitmap: Option<(u32, u64)>,
    pub(super) up_case: Option<(u32, u64, u32)>,
}

impl Scan {
    fn gap(&mut self, slot: u32) {
        match self.free.last_mut() {
            Some((start, count)) if *start + *count == slot => *count += 1,
            _ => self.free.push((slot, 1)),
        }
    }

    fn garbage(&mut self, slots: std::ops::Range<u32>) {
        self.garbage.extend(slots);
    }
}

/// Reads the slots of a directory.
pub(super) fn scan(bytes: &[u8], layout: &Layout, up_case: &UpCase) -> Scan {
    if layout.is_exfat() { scan_exfat(bytes, up_case) } else { scan_fat(bytes, layout) }
}

fn slot_of(bytes: &[u8], slot: u32) -> Option<&[u8]> {
    let at = index(slot).checked_mul(SLOT)?;
    bytes.get(at..at.checked_add(SLOT)?)
}

/// The long name before a short one, as far as it was read.
#[derive(Debug, Default)]
struct Long {
    start: u32,
    units: Vec<[u16; 13]>,
    /// The number that the next slot must bear.
    next: u8,
    checksum: u8,
}

fn scan_fat(bytes: &[u8], layout: &Layout) -> Scan {
    let mut scan = Scan { end: short(bytes.len() / SLOT), ..Scan::default() };
    let mut long: Option<Long> = None;
    for (slot, raw) in (0_u32..).zip(bytes.chunks_exact(SLOT)) {
        let begun = long.as_ref().map_or(slot, |long| long.start);
        let flags = u8_at(raw, 11);
        match u8_at(raw, 0) {
            0 => {
                scan.garbage(begun..slot);
                scan.end = slot;
                return scan;
            }
            DELETED => {
                scan.garbage(begun..slot);
                long = None;
                scan.gap(slot);
            }
            number if flags & 0x3f == LONG_NAME => {
                long = match long.take() {
                    Some(mut long)
                        if number == long.next && number > 0 && u8_at(raw, 13) == long.checksum =>
                    {
                        long.units.insert(0, long_part(raw));
                        long.next -= 1;
                        Some(long)
                    }
                    _ if number & 0x40 != 0 && matches!(number & 0x3f, 1..=20) => {
                        scan.garbage(begun..slot);
                        let next = (number & 0x3f) - 1;
                        Some(Long {
                            start: slot,
                            units: vec![long_part(raw)],
                            next,
                            checksum: u8_at(raw, 13),
                        })
                    }
                    _ => {
                        scan.garbage(begun..slot + 1);
                        None
                    }
                };
            }
            _ => {
                let name = raw.get(..11).unwrap_or_default();
                let whole =
                    long.take().filter(|long| long.next == 0 && long.checksum == short_checksum(name));
                let start = whole.as_ref().map_or(slot, |long| long.start);
                scan.garbage(begun..start);
                scan_short(&mut scan, layout, raw, (start, slot), whole);
            }
        }
    }
    if let Some(long) = long {
        scan.garbage(long.start..scan.end);
    }
    scan
}

/// Takes an entry with a short name, which is the last slot of its set.
fn scan_short(scan: &mut Scan, layout: &Layout, raw: &[u8], (start, slot): (u32, u32), long: Option<Long>) {
    let flags = u8_at(raw, 11);
    let mut name: [u8; 11] = raw.first_chunk().copied().unwrap_or([b' '; 11]);
    match &name {
        b".          " => return scan.dots[0] = Some(slot),
        b"..         " => return scan.dots[1] = Some(slot),
        _ => {}
    }
    if flags & LABEL != 0 {
        return;
    }
    // These two alone Windows leaves free for others.
    let is_garbage = flags & 0xc0 != 0
        || name[0] == b' '
        || name.iter().any(|&byte| byte < 0x20 && byte != 0x05 || b"\"*/:<>?\\|".contains(&byte));
    if is_garbage {
        return scan.garbage(start..slot + 1);
    }
    let stored = name;
    if name[0] == 0x05 {
        name[0] = DELETED;
    }
    let units = long.map(|long| long.units.concat());
    let units = units.map(|units| units.iter().copied().take_while(|&unit| unit != 0).collect::<Vec<_>>());
    let is_usable = |units: &Vec<u16>| {
        !units.is_empty() && units.len() <= 255 && !units.iter().any(|&unit| unit < 0x20 || unit == 0x2f)
    };
    let shown = units.filter(is_usable).unwrap_or_else(|| show_short(&name, u8_at(raw, 12)));
    let high = if layout.width == super::layout::Width::Bits32 { u32::from(u16_at(raw, 20)) } else { 0 };
    let size = if flags & 0x10 == 0 { u64::from(u32_at(raw, 28)) } else { 0 };
    let stamp = |date: usize, time: Option<usize>, hundredths: u8| {
        let time = time.map_or(0, |time| u16_at(raw, time));
        Stamp { date: u16_at(raw, date), time, hundredths }.moment(0)
    };
    scan.entries.push(Entry {
        slot: start,
        slots: slot - start + 1,
        name: shown,
        short: stored,
        meta: Meta {
            flags: flags.into(),
            first: high << 16 | u32::from(u16_at(raw, 26)),
            size,
            valid: size,
            contiguous: false,
            created: stamp(16, Some(14), u8_at(raw, 13)),
            modified: stamp(24, Some(22), 0),
            accessed: stamp(18, None, 0),
        },
        is_whole: true,
    });
}

fn long_part(raw: &[u8]) -> [u16; 13] {
    let mut units = [0; 13];
    for (unit, at) in units.iter_mut().zip(LONG_PLACES) {
        *unit = u16_at(raw, at);
    }
    units
}

fn scan_exfat(bytes: &[u8], up_case: &UpCase) -> Scan {
    let mut scan = Scan { end: short(bytes.len() / SLOT), ..Scan::default() };
    let mut slot = 0;
    while let Some(raw) = slot_of(bytes, slot) {
        match u8_at(raw, 0) {
            0 => {
                scan.end = slot;
                return scan;
            }
            kind if kind & IN_USE == 0 => scan.gap(slot),
            EXFAT_BITMAP => {
                scan.bitmap.get_or_insert((u32_at(raw, 20), u64_at(raw, 24)));
            }
            EXFAT_UP_CASE => {
                scan.up_case.get_or_insert((u32_at(raw, 20), u64_at(raw, 24), u32_at(raw, 4)));
            }
            EXFAT_FILE => {
                let slots = u32::from(u8_at(raw, 1)) + 1;
                let at = index(slot) * SLOT;
                let set = bytes.get(at..at + index(slots) * SLOT);
                match set.and_then(|set| entry_exfat(set, slot, up_case)) {
                    Some(entry) => {
                        slot += entry.slots;
                        scan.entries.push(entry);
                        continue;
                    }
                    None => scan.garbage(slot..slot + 1),
                }
            }
            // A label, or something benign that is none of ours.
            kind if kind & 0x60 == 0x20 || kind == EXFAT_LABEL => {}
            _ => scan.garbage(slot..slot + 1),
        }
        slot += 1;
    }
    scan
}

/// Reads a set that begins with a file's slot. Its parts decide whether it is one; the checksum only whether it is whole.
fn entry_exfat(set: &[u8], slot: u32, up_case: &UpCase) -> Option<Entry> {
    let stream = set.get(SLOT..).filter(|stream| u8_at(stream, 0) == EXFAT_STREAM)?;
    let name_len = usize::from(u8_at(stream, 3));
    let parts = name_len.div_ceil(15);
    if name_len == 0 || set.len() / SLOT < 2 + parts {
        return None;
    }
    let mut name = Vec::with_capacity(name_len);
    for part in set.chunks_exact(SLOT).skip(2).take(parts) {
        if u8_at(part, 0) != EXFAT_NAME {
            return None;
        }
        name.extend((0..15).map(|index| u16_at(part, 2 + index * 2)));
    }
    // What follows the name must be secondary, and in use.
    if set.chunks_exact(SLOT).skip(1).any(|part| u8_at(part, 0) & 0xc0 != 0xc0) {
        return None;
    }
    name.truncate(name_len);
    let is_bad = |&unit: &u16| unit < 0x20 || unit == 0x2f;
    if name.iter().any(is_bad) || up_case.hash(&name) != u16_at(stream, 4) {
        return None;
    }
    let flags = u8_at(stream, 1);
    let size = u64_at(stream, 24);
    let stamp = |at: usize, hundredths: Option<usize>, zone: usize| {
        let hundredths = hundredths.map_or(0, |at| u8_at(set, at));
        let stamp = Stamp { time: u16_at(set, at), date: u16_at(set, at + 2), hundredths };
        stamp.moment(ahead(u8_at(set, zone)))
    };
    Some(Entry {
        slot,
        slots: short(set.len() / SLOT),
        name,
        short: [0; 11],
        meta: Meta {
            flags: u16_at(set, 4),
            first: u32_at(stream, 20),
            size,
            valid: u64_at(stream, 8).min(size),
            contiguous: flags & 0x02 != 0,
            created: stamp(8, Some(20), 22),
            modified: stamp(12, Some(21), 23),
            accessed: stamp(16, None, 24),
        },
        is_whole: set_checksum(set) == u16_at(set, 2) && u64_at(stream, 8) <= size,
    })
}

/// Seconds that a clock is ahead of UTC, by exFAT's byte for it; where that says nothing, none.
fn ahead(zone: u8) -> i64 {
    if zone & 0x80 == 0 {
        return 0;
    }
    let quarters = i64::from(zone & 0x7f);
    (if quarters >= 64 { quarters - 128 } else { quarters }) * 900
}

/// The slots of a new entry. Of exFAT's, `update` sets what the file is.
pub(super) fn encode(
    name: &[u16],
    short_name: [u8; 11],
    meta: &Meta,
    layout: &Layout,
    up_case: &UpCase,
) -> Vec<u8> {
    let mut set = Vec::new();
    if layout.is_exfat() {
        let parts = name.len().div_ceil(15);
        set.resize((2 + parts) * SLOT, 0);
        put(&mut set, 0, &[EXFAT_FILE, u8::try_from(parts + 1).unwrap_or(u8::MAX)]);
        put(&mut set, SLOT, &[EXFAT_STREAM, 1, 0, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        put(&mut set, SLOT + 4, &up_case.hash(name).to_le_bytes());
        for (number, part) in name.chunks(15).enumerate() {
            let at = (2 + number) * SLOT;
            put(&mut set, at, &[EXFAT_NAME, 0]);
            for (index, unit) in part.iter().enumerate() {
                put(&mut set, at + 2 + index * 2, &unit.to_le_bytes());
            }
        }
    } else {
        if as_short(name) != Some(short_name) {
            let checksum = short_checksum(&short_name);
            let parts: Vec<&[u16]> = name.chunks(13).collect();
            for (number, part) in (1_u8..=20).zip(&parts).collect::<Vec<_>>().into_iter().rev() {
                let is_last = usize::from(number) == parts.len();
                set.extend(long_slot(number | if is_last { 0x40 } else { 0 }, part, checksum));
            }
        }
        let at = set.len();
        set.resize(at + SLOT, 0);
        put(&mut set, at, &short_name);
    }
    update(&mut set, meta, layout);
    set
}

/// How many slots `encode` makes.
pub(super) fn slots_for(name: &[u16], short_name: [u8; 11], layout: &Layout) -> u32 {
    short(if layout.is_exfat() {
        2 + name.len().div_ceil(15)
    } else if as_short(name) == Some(short_name) {
        1
    } else {
        1 + name.len().div_ceil(13)
    })
}

fn long_slot(number: u8, part: &[u16], checksum: u8) -> [u8; SLOT] {
    let mut raw = [0; SLOT];
    put(&mut raw, 0, &[number]);
    put(&mut raw, 11, &[LONG_NAME, 0, checksum]);
    let padded = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
    for (unit, at) in padded.zip(LONG_PLACES) {
        put(&mut raw, at, &unit.to_le_bytes());
    }
    raw
}

/// Puts what `meta` says into the slots of an entry; names and what is not known here stay.
pub(super) fn update(set: &mut [u8], meta: &Meta, layout: &Layout) {
    let [created, modified, accessed] = [meta.created, meta.modified, meta.accessed].map(Stamp::of);
    if !layout.is_exfat() {
        let Some(at) = set.len().checked_sub(SLOT) else { return };
        let [low, high] = [&meta.first.to_le_bytes()[..2], &meta.first.to_le_bytes()[2..]];
        let size = if meta.kind() == Kind::File { short(meta.size) } else { 0 };
        put(set, at + 11, &[meta.flags.to_le_bytes()[0]]);
        put(set, at + 13, &[created.hundredths]);
        put(set, at + 14, &created.time.to_le_bytes());
        put(set, at + 16, &created.date.to_le_bytes());
        put(set, at + 18, &accessed.date.to_le_bytes());
        if layout.width == super::layout::Width::Bits32 {
            put(set, at + 20, high);
        }
        put(set, at + 22, &modified.time.to_le_bytes());
        put(set, at + 24, &modified.date.to_le_bytes());
        put(set, at + 26, low);
        put(set, at + 28, &size.to_le_bytes());
        return;
    }
    put(set, 4, &meta.flags.to_le_bytes());
    for (at, stamp) in [(8, created), (12, modified), (16, accessed)] {
        put(set, at, &stamp.time.to_le_bytes());
        put(set, at + 2, &stamp.date.to_le_bytes());
    }
    // In UTC, and saying so.
    put(set, 20, &[created.hundredths, modified.hundredths, 0x80, 0x80, 0x80]);
    let flags = 1 | if meta.contiguous && meta.first != 0 { 2 } else { 0 };
    put(set, SLOT + 1, &[flags]);
    put(set, SLOT + 8, &meta.valid.to_le_bytes());
    put(set, SLOT + 20, &meta.first.to_le_bytes());
    put(set, SLOT + 24, &meta.size.to_le_bytes());
    let checksum = set_checksum(set);
    put(set, 2, &checksum.to_le_bytes());
}

/// Whether the slots of an entry hold none.
pub(super) fn is_free(set: &[u8], layout: &Layout) -> bool {
    let first = u8_at(set, 0);
    if layout.is_exfat() { first & IN_USE == 0 } else { matches!(first, 0 | DELETED) }
}

/// Takes the mark away that tells, of two entries of one file, the one to stay. Gives the bytes that changed, with their places.
pub(super) fn unmark(set: &mut [u8], layout: &Layout) -> Vec<(usize, Vec<u8>)> {
    let at = if layout.is_exfat() { 4 } else { set.len().saturating_sub(SLOT) + 11 };
    let flags = u8_at(set, at);
    if u16::from(flags) & DIRECTORY != 0 {
        return Vec::new();
    }
    let flags = flags & !ARCHIVE.to_le_bytes()[0];
    put(set, at, &[flags]);
    let mut changes = vec![(at, vec![flags])];
    if layout.is_exfat() {
        let checksum = set_checksum(set).to_le_bytes();
        put(set, 2, &checksum);
        changes.push((2, checksum.to_vec()));
    }
    changes
}

/// `.` and `..` of a FAT directory.
pub(super) fn dots(own: u32, parent: u32, meta: &Meta, layout: &Layout) -> Vec<u8> {
    let dot = |name: &[u8; 11], first: u32| {
        let mut raw = vec![0; SLOT];
        put(&mut raw, 0, name);
        update(&mut raw, &Meta { first, flags: DIRECTORY, ..*meta }, layout);
        raw
    };
    [dot(b".          ", own), dot(b"..         ", parent)].concat()
}

fn set_checksum(set: &[u8]) -> u16 {
    let counted = set.iter().enumerate().filter(|(at, _)| *at != 2 && *at != 3);
    counted.fold(0_u16, |sum, (_, &byte)| sum.rotate_right(1).wrapping_add(byte.into()))
}

/// The bytes of a slot.
pub(super) const SLOT: usize = 32;
pub(super) const READ_ONLY: u16 = 0x01;
pub(super) const DIRECTORY: u16 = 0x10;
pub(super) const ARCHIVE: u16 = 0x20;
/// What makes a slot free: FAT puts it in the first byte; exFAT takes the first bit away.
pub(super) const DELETED: u8 = 0xe5;
pub(super) const IN_USE: u8 = 0x80;
const LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;
const LONG_PLACES: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
const EXFAT_BITMAP: u8 = 0x81;
const EXFAT_UP_CASE: u8 = 0x82;
const EXFAT_LABEL: u8 = 0x83;
const EXFAT_FILE: u8 = 0x85;
const EXFAT_STREAM: u8 = 0xc0;
const EXFAT_NAME: u8 = 0xc1;
