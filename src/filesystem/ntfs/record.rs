//! Records of the table of files, and the attributes in them.

use std::ops::Range;

use super::super::{
    Fault, Result,
    bytes::{index, u8_at, u16_at, u32_at, u64_at},
};

/// A record in use, with the ends of its sectors put back.
#[derive(Debug)]
pub(super) struct Record {
    raw: Box<[u8]>,
    attributes: Range<usize>,
    /// Counts how often the record was used for another file.
    pub(super) sequence: u16,
    /// Names, those for DOS too.
    pub(super) links: u16,
    pub(super) is_directory: bool,
    /// The record that this one continues; 0 for none.
    pub(super) base: u64,
}

impl Record {
    /// # Errors
    /// `Stale` for one that is not in use, `Damaged`.
    pub(super) fn parse(mut raw: Box<[u8]>, number: u64) -> Result<Self> {
        if !raw.starts_with(b"FILE") {
            return Err(Fault::Damaged);
        }
        put_back(&mut raw)?;
        let (start, used) = (index(u16_at(&raw, 20)), index(u32_at(&raw, 24)));
        // Records of NTFS 3.0 have the update sequence where 3.1 has the number.
        let has_number = u16_at(&raw, 4) >= 48;
        let is_own = !has_number || u64::from(u32_at(&raw, 44)) == number & 0xffff_ffff;
        if used > raw.len() || start > used || start < HEADER || !is_own {
            return Err(Fault::Damaged);
        }
        let flags = u16_at(&raw, 22);
        if flags & IN_USE == 0 {
            return Err(Fault::Stale);
        }
        let (sequence, links, base) = (u16_at(&raw, 16), u16_at(&raw, 18), number_of(u64_at(&raw, 32)));
        let is_directory = flags & DIRECTORY != 0;
        Ok(Self { raw, attributes: start..used, sequence, links, is_directory, base })
    }

    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    /// The attributes, in order. Behind one that makes no sense there are none.
    pub(super) fn attributes(&self) -> impl Iterator<Item = Result<Attribute<'_>>> {
        let mut rest = self.raw.get(self.attributes.clone()).unwrap_or_default();
        std::iter::from_fn(move || {
            let attribute = Attribute::split(&mut rest).transpose();
            if attribute.as_ref().is_some_and(Result::is_err) {
                rest = &[];
            }
            attribute
        })
    }

    /// The attribute with this type and number.
    pub(super) fn attribute(&self, kind: u32, instance: u16) -> Result<Attribute<'_>> {
        for attribute in self.attributes() {
            let attribute = attribute?;
            if attribute.kind == kind && attribute.instance == instance {
                return Ok(attribute);
            }
        }
        Err(Fault::Damaged)
    }
}

/// An attribute of a record.
#[derive(Debug)]
pub(super) struct Attribute<'a> {
    pub(super) kind: u32,
    /// In UTF-16.
    pub(super) name: &'a [u8],
    pub(super) flags: u16,
    /// Tells it apart from the others of its record.
    pub(super) instance: u16,
    pub(super) value: Value<'a>,
}

/// Where the value of an attribute lies.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// In the record.
    Inside(&'a [u8]),
    /// In clusters.
    Outside(Extent<'a>),
}

/// A part of a value that lies in clusters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent<'a> {
    /// The first and the last of the value's clusters that are told of here.
    pub(super) lowest: u64,
    pub(super) highest: u64,
    /// Of a compressed value, the power of two that is the number of clusters compressed together.
    pub(super) unit: u8,
    /// In bytes; told in the value's first part only.
    pub(super) sizes: Sizes,
    /// The list of runs.
    pub(super) packed: &'a [u8],
}

/// How long a value is, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) size: u64,
    /// What lies behind was never written, and reads as zeros.
    pub(super) written: u64,
    /// On the medium.
    pub(super) allocated: u64,
}

impl<'a> Attribute<'a> {
    /// Takes the first one off; `None` at their end.
    fn split(rest: &mut &'a [u8]) -> Result<Option<Self>> {
        if rest.len() < 8 || u32_at(rest, 0) == END {
            return Ok(None);
        }
        let len = index(u32_at(rest, 4));
        let split = rest.split_at_checked(len).filter(|_| len >= LEAST_INSIDE && len.is_multiple_of(8));
        let (raw, behind) = split.ok_or(Fault::Damaged)?;
        *rest = behind;
        let part = |at: usize, len: usize| {
            let end = at.checked_add(len).ok_or(Fault::Damaged)?;
            raw.get(at..end).ok_or(Fault::Damaged)
        };
        let name_len = index(u8_at(raw, 9)).saturating_mul(2);
        let name = if name_len == 0 { &[] } else { part(index(u16_at(raw, 10)), name_len)? };
        let flags = u16_at(raw, 12);
        let value = match u8_at(raw, 8) {
            0 => Value::Inside(part(index(u16_at(raw, 20)), index(u32_at(raw, 16)))?),
            1 if len >= LEAST_OUTSIDE => Value::Outside(extent(raw, flags)?),
            _ => return Err(Fault::Damaged),
        };
        Ok(Some(Self { kind: u32_at(raw, 0), name, flags, instance: u16_at(raw, 14), value }))
    }
}

fn extent(raw: &[u8], flags: u16) -> Result<Extent<'_>> {
    let start = index(u16_at(raw, 32));
    let packed = raw.get(start..).filter(|_| start >= LEAST_OUTSIDE).ok_or(Fault::Damaged)?;
    let is_packed = flags & (COMPRESSED | SPARSE) != 0 && start >= LEAST_OUTSIDE.saturating_add(8);
    let sizes = Sizes {
        size: u64_at(raw, 48),
        written: u64_at(raw, 56),
        allocated: u64_at(raw, if is_packed { 64 } else { 40 }),
    };
    Ok(Extent { lowest: u64_at(raw, 16), highest: u64_at(raw, 24), unit: u8_at(raw, 34), sizes, packed })
}

/// Each 512 bytes of a structure end with the number of their writing; what belongs there stands in an array.
pub(super) fn put_back(raw: &mut [u8]) -> Result<()> {
    let (start, count) = (index(u16_at(raw, 4)), index(u16_at(raw, 6)));
    let pieces = raw.len() / STRIDE;
    let end = start.saturating_add(count.saturating_mul(2));
    if count != pieces.saturating_add(1) || end > STRIDE.saturating_sub(2) {
        return Err(Fault::Damaged);
    }
    let sequence = raw.get(start..end).ok_or(Fault::Damaged)?.to_vec();
    let (number, words) = sequence.split_at_checked(2).ok_or(Fault::Damaged)?;
    for (piece, word) in raw.chunks_exact_mut(STRIDE).zip(words.chunks_exact(2)) {
        let (_, tail) = piece.split_at_mut_checked(STRIDE.saturating_sub(2)).ok_or(Fault::Damaged)?;
        if tail != number {
            return Err(Fault::Damaged);
        }
        tail.copy_from_slice(word);
    }
    Ok(())
}

/// The number of the record in a reference to a file.
pub(super) const fn number_of(reference: u64) -> u64 {
    reference & 0xffff_ffff_ffff
}

/// How often that record had been used when the reference was made; 0 where it does not say.
pub(super) fn sequence_of(reference: u64) -> u16 {
    u16::try_from(reference >> 48).unwrap_or_default()
}

/// Types of attributes.
pub(super) const STANDARD_INFORMATION: u32 = 0x10;
pub(super) const ATTRIBUTE_LIST: u32 = 0x20;
pub(super) const FILE_NAME: u32 = 0x30;
pub(super) const DATA: u32 = 0x80;
pub(super) const INDEX_ROOT: u32 = 0x90;
pub(super) const INDEX_ALLOCATION: u32 = 0xa0;
pub(super) const BITMAP: u32 = 0xb0;
pub(super) const REPARSE_POINT: u32 = 0xc0;
const END: u32 = 0xffff_ffff;

/// Of an attribute's flags.
pub(super) const COMPRESSED: u16 = 0xff;
pub(super) const ENCRYPTED: u16 = 0x4000;
pub(super) const SPARSE: u16 = 0x8000;

/// Of a record's flags.
const IN_USE: u16 = 1;
const DIRECTORY: u16 = 2;

/// The header of a record without its update sequence, of an attribute whose value lies in the record, and of another.
const HEADER: usize = 42;
const LEAST_INSIDE: usize = 24;
const LEAST_OUTSIDE: usize = 64;
/// The bytes that one word of an update sequence protects, whatever the size of sectors.
const STRIDE: usize = 512;
