//! Extended attributes: in the inode, in a block of their own, or large ones each in an inode.

use std::sync::Arc;

use super::{
    super::{
        Fault, Result,
        bytes::{index, long, u8_at, u16_at, u32_at},
    },
    acl,
    checksum::crc32c_of,
    inode::{ATTRIBUTE_VALUE, Inode},
    store::Block,
    volume::Volume,
};

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Stands for the first part of the name.
    pub(super) prefix: u8,
    pub(super) name: &'a [u8],
    pub(super) value: Value<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Here(&'a [u8]),
    /// In an inode, so many bytes.
    Inode(u32, u32),
}

impl Volume {
    /// The block of an inode's attributes, checked; none where it has none.
    pub(super) fn attribute_block(&self, inode: &Inode) -> Result<Option<Arc<Block>>> {
        let number = inode.attribute_block;
        if number == 0 {
            return Ok(None);
        }
        if !self.superblock.has_blocks(number, 1) {
            return Err(Fault::Damaged);
        }
        let block = self.store.block(number)?;
        let seed = self.seed();
        block.checked(|bytes| is_block_right(seed, number, bytes))?;
        Ok(Some(block))
    }

    /// The value of the attribute with this whole name.
    pub(super) fn attribute(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        let (prefix, name) = split(name).ok_or(Fault::Unsupported)?;
        let mut found = None;
        self.attributes(inode, &mut |entry| {
            let is_it = entry.prefix == prefix && entry.name == name;
            if is_it {
                found = Some(self.value(entry.value));
            }
            Ok(!is_it)
        })?;
        let value = found.ok_or(Fault::NoAttribute)??;
        if acl::is_list(prefix) { acl::shown(&value).ok_or(Fault::Damaged) } else { Ok(value) }
    }

    /// The whole names of all attributes, each with a zero behind it.
    pub(super) fn attribute_names(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        self.attributes(inode, &mut |entry| {
            if let Some((_, prefix, _)) = PREFIXES.iter().find(|(number, _, _)| *number == entry.prefix) {
                names.extend_from_slice(prefix.as_bytes());
                names.extend_from_slice(entry.name);
                names.push(0);
            }
            Ok(true)
        })?;
        Ok(names)
    }

    /// Shows each attribute, until `take` answers false.
    fn attributes(&self, inode: &Inode, take: &mut dyn FnMut(Entry<'_>) -> Result<bool>) -> Result<()> {
        if let Some(body) = body(inode)
            && !walk(body, 0, body, &mut |entry| take(entry))?
        {
            return Ok(());
        }
        if let Some(block) = self.attribute_block(inode)? {
            walk(&block.bytes, BLOCK_HEADER, &block.bytes, &mut |entry| take(entry))?;
        }
        Ok(())
    }

    fn value(&self, value: Value<'_>) -> Result<Vec<u8>> {
        match value {
            Value::Here(value) => Ok(value.to_vec()),
            Value::Inode(number, len) => {
                let inode = self.inode(number)?;
                let len = index(len);
                if !inode.has(ATTRIBUTE_VALUE) || len > LONGEST || inode.size < long(len) {
                    return Err(Fault::Damaged);
                }
                let mut value = vec![0; len];
                self.read(&inode, 0, &mut value)?;
                Ok(value)
            }
        }
    }
}

/// What of a small file is not in the sixty bytes of its inode.
pub(super) fn inline_rest(inode: &Inode) -> Result<&[u8]> {
    let mut found: &[u8] = &[];
    if let Some(body) = body(inode) {
        walk(body, 0, body, &mut |entry| {
            if let (SYSTEM, b"data", Value::Here(value)) = (entry.prefix, entry.name, entry.value) {
                found = value;
            }
            Ok(true)
        })?;
    }
    Ok(found)
}

/// The attributes in an inode, behind their mark.
pub(super) fn body(inode: &Inode) -> Option<&[u8]> {
    let rest = inode.rest();
    if u32_at(rest, 0) == MAGIC { rest.get(4..) } else { None }
}

/// Shows the entries that begin at `start`; their values lie in `values`. Whether `take` saw all.
pub(super) fn walk<'a>(
    bytes: &'a [u8],
    start: usize,
    values: &'a [u8],
    take: &mut dyn FnMut(Entry<'a>) -> Result<bool>,
) -> Result<bool> {
    let mut at = start;
    // An entry has sixteen bytes at least, so that this ends; four zeros, or the end, end the list.
    while let Some(head) = bytes.get(at..).filter(|rest| u32_at(rest, 0) != 0) {
        let name_len = index(u8_at(head, 0));
        let name = head.get(ENTRY..).and_then(|rest| rest.get(..name_len)).ok_or(Fault::Damaged)?;
        let (offset, owner, len) = (index(u16_at(head, 2)), u32_at(head, 4), u32_at(head, 8));
        let value = if owner == 0 {
            let value = values.get(offset..).and_then(|rest| rest.get(..index(len)));
            Value::Here(value.ok_or(Fault::Damaged)?)
        } else {
            Value::Inode(owner, len)
        };
        if !take(Entry { prefix: u8_at(head, 1), name, value })? {
            return Ok(false);
        }
        at = at.saturating_add(ENTRY).saturating_add(name_len.next_multiple_of(4));
    }
    Ok(true)
}

/// The number of a name's prefix, and the rest of the name. A prefix that is a whole name leaves nothing.
pub(super) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(number, prefix, is_whole)| {
        let rest = name.strip_prefix(prefix.as_bytes())?;
        (rest.is_empty() == is_whole).then_some((number, rest))
    })
}

fn is_block_right(seed: Option<u32>, number: u64, bytes: &[u8]) -> bool {
    let is_marked = u32_at(bytes, 0) == MAGIC && u32_at(bytes, 8) == 1;
    let Some(seed) = seed else { return is_marked };
    let (before, after) = (bytes.get(..0x10).unwrap_or_default(), bytes.get(0x14..).unwrap_or_default());
    is_marked && crc32c_of(seed, &[&number.to_le_bytes(), before, &[0; 4], after]) == u32_at(bytes, 0x10)
}

pub(super) const MAGIC: u32 = 0xea02_0000;
/// Bytes of an entry before its name.
pub(super) const ENTRY: usize = 16;
/// Bytes of a block before the first entry.
pub(super) const BLOCK_HEADER: usize = 32;
/// The longest value that the system's calls can pass on.
pub(super) const LONGEST: usize = 64 << 10;
/// What an inode's own data is called, which is no attribute to anybody else.
const SYSTEM: u8 = 7;
/// The prefixes that have meaning here, and whether each is a whole name.
const PREFIXES: [(u8, &str, bool); 5] = [
    (1, "user.", false),
    (acl::ACCESS, "system.posix_acl_access", true),
    (acl::DEFAULT, "system.posix_acl_default", true),
    (4, "trusted.", false),
    (6, "security.", false),
];
