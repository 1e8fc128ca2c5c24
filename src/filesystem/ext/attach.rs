//! Extended attributes, changed.
//!
//! All of an inode's are read, one is changed, and what changed is written anew: those in the inode, or those in the block.

use super::{
    super::{
        Existing, Fault, Kind, Result,
        bytes::{index, put, u16_at, u32_at},
    },
    acl::{self, List},
    attribute::{BLOCK_HEADER, ENTRY, Entry, LONGEST, MAGIC, Value, body, split, walk},
    checksum::crc32c_of,
    features::EXT_ATTR,
    inode::{Inode, OLD_LEN},
    space::Held,
    volume::Volume,
};

/// One of them, with what it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Owned {
    prefix: u8,
    /// Before the name: that is how they are sorted.
    len: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Owned {
    fn new(prefix: u8, name: &[u8], value: &[u8]) -> Self {
        Self { prefix, len: name.len(), name: name.to_vec(), value: value.to_vec() }
    }

    fn is(&self, prefix: u8, name: &[u8]) -> bool {
        self.prefix == prefix && self.name == name
    }

    /// Bytes that it takes, in two places.
    fn len(&self) -> usize {
        let entry = ENTRY.saturating_add(self.name.len()).next_multiple_of(4);
        entry.saturating_add(self.value.len().next_multiple_of(4))
    }

    /// The sum over its name and value.
    fn hash(&self) -> u32 {
        let name = self.name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(name, |hash, word| {
            let word = word.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte));
            hash.rotate_left(16) ^ word
        })
    }
}

/// Whether attributes have room in so many bytes, with the zeros behind the last entry.
fn fit(attributes: &[Owned], room: usize) -> bool {
    attributes.iter().fold(4_usize, |len, attribute| len.saturating_add(attribute.len())) <= room
}

/// Writes entries from `start` on, and values from the end. Their places are told from `origin` on.
fn lay(bytes: &mut [u8], start: usize, origin: usize, attributes: &[Owned]) {
    let (mut at, mut end) = (start, bytes.len());
    for attribute in attributes {
        end = end.saturating_sub(attribute.value.len().next_multiple_of(4));
        let place = if attribute.value.is_empty() { 0 } else { end.saturating_sub(origin) };
        let name_len = u8::try_from(attribute.name.len()).unwrap_or(u8::MAX);
        put(bytes, at, &[name_len, attribute.prefix]);
        put(bytes, at.saturating_add(2), &u16::try_from(place).unwrap_or(u16::MAX).to_le_bytes());
        let len = u32::try_from(attribute.value.len()).unwrap_or(u32::MAX);
        put(bytes, at.saturating_add(8), &len.to_le_bytes());
        put(bytes, at.saturating_add(12), &attribute.hash().to_le_bytes());
        put(bytes, at.saturating_add(ENTRY), &attribute.name);
        put(bytes, end, &attribute.value);
        at = at.saturating_add(ENTRY.saturating_add(attribute.name.len()).next_multiple_of(4));
    }
}

/// Where the attributes in an inode stand; nowhere in small ones.
fn body_start(inode: &Inode) -> Option<usize> {
    let extra = index(u16_at(&inode.raw, 0x80));
    let start = OLD_LEN.checked_add(extra)?;
    (inode.raw.len() > OLD_LEN && extra >= 4 && start.checked_add(8)? <= inode.raw.len()).then_some(start)
}

fn collect(found: &mut Vec<Owned>, entry: Entry<'_>) -> Result<bool> {
    let Value::Here(value) = entry.value else { return Err(Fault::Unsupported) };
    found.push(Owned::new(entry.prefix, entry.name, value));
    Ok(true)
}

impl Volume {
    /// Sets the attribute with this whole name, or takes it away. An access list is set with what it means for the mode.
    pub(super) fn set_attribute(
        &mut self,
        inode: &mut Inode,
        name: &[u8],
        value: Option<&[u8]>,
        existing: Existing,
    ) -> Result<()> {
        let (prefix, rest) = split(name).ok_or(Fault::Unsupported)?;
        if !acl::is_list(prefix) {
            return self.put_attribute(inode, (prefix, rest), value, existing);
        }
        let list = match value {
            Some(value) if value.len() <= 4 => None,
            Some(value) => Some(List::parse(value).ok_or(Fault::Invalid)?),
            None => None,
        };
        match (prefix, &list) {
            (acl::DEFAULT, Some(_)) if inode.kind()? != Kind::Directory => return Err(Fault::NotPermitted),
            (acl::ACCESS, Some(list)) => inode.set_mode(inode.mode & !0o777 | list.mode()),
            _ => {}
        }
        let list = list.filter(|list| prefix == acl::DEFAULT || !list.is_plain());
        if list.is_none() && self.attribute(inode, name) == Err(Fault::NoAttribute) {
            return Ok(());
        }
        self.put_attribute(inode, (prefix, rest), list.map(|list| list.stored()).as_deref(), Existing::Any)
    }

    /// The list of a file, where it has one.
    pub(super) fn access_list(&self, inode: &Inode, is_default: bool) -> Result<Option<List>> {
        let name: &[u8] = if is_default { DEFAULT_LIST } else { ACCESS_LIST };
        match self.attribute(inode, name) {
            Ok(value) => List::parse(&value).map(Some).ok_or(Fault::Damaged),
            Err(Fault::NoAttribute) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Sets the bits of `chmod`, in the access list as well.
    pub(super) fn set_mode_bits(&mut self, inode: &mut Inode, mode: u16) -> Result<()> {
        inode.set_mode(inode.mode & 0xf000 | mode & 0o7777);
        if inode.kind()? == Kind::Link {
            return Ok(());
        }
        if let Some(mut list) = self.access_list(inode, false)? {
            list.set_mode(mode);
            self.put_attribute(inode, (acl::ACCESS, b""), Some(&list.stored()), Existing::Any)?;
        }
        Ok(())
    }

    /// Gives a new file what its directory's default list says, and the mode that follows; without one `umask` takes its bits away.
    pub(super) fn inherit(&mut self, inode: &mut Inode, parent: &Inode, umask: u16) -> Result<()> {
        let kind = inode.kind()?;
        if kind == Kind::Link {
            return Ok(());
        }
        let Some(default) = self.access_list(parent, true)? else {
            inode.set_mode(inode.mode & !(umask & 0o777));
            return Ok(());
        };
        let mut list = default.clone();
        list.set_mode(list.mode() & inode.mode);
        inode.set_mode(inode.mode & !0o777 | list.mode());
        if kind == Kind::Directory {
            self.put_attribute(inode, (acl::DEFAULT, b""), Some(&default.stored()), Existing::Any)?;
        }
        if !list.is_plain() {
            self.put_attribute(inode, (acl::ACCESS, b""), Some(&list.stored()), Existing::Any)?;
        }
        Ok(())
    }

    fn put_attribute(
        &mut self,
        inode: &mut Inode,
        (prefix, name): (u8, &[u8]),
        value: Option<&[u8]>,
        existing: Existing,
    ) -> Result<()> {
        if name.len() > LONGEST_NAME {
            return Err(Fault::NameTooLong);
        }
        if value.is_some_and(|value| value.len() > LONGEST) {
            return Err(Fault::NoSpace);
        }
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        if let Some(body) = body(inode) {
            walk(body, 0, body, &mut |entry| collect(&mut inner, entry))?;
        }
        if let Some(block) = self.attribute_block(inode)? {
            walk(&block.bytes, BLOCK_HEADER, &block.bytes, &mut |entry| collect(&mut outer, entry))?;
        }
        let is_it = |attribute: &Owned| attribute.is(prefix, name);
        match (inner.iter().chain(&outer).any(is_it), existing, value) {
            (true, Existing::Refused, _) => return Err(Fault::Exists),
            (false, Existing::Needed, _) | (false, _, None) => return Err(Fault::NoAttribute),
            _ => {}
        }
        let before = outer.clone();
        inner.retain(|attribute| !is_it(attribute));
        outer.retain(|attribute| !is_it(attribute));
        if let Some(value) = value {
            self.need(EXT_ATTR)?;
            let room =
                body_start(inode).map_or(0, |start| inode.raw.len().saturating_sub(start).saturating_sub(4));
            inner.push(Owned::new(prefix, name, value));
            if !fit(&inner, room) {
                outer.extend(inner.pop());
            }
        }
        inner.sort();
        outer.sort();
        if !fit(&outer, index(self.superblock.block_len).saturating_sub(BLOCK_HEADER)) {
            return Err(Fault::NoSpace);
        }
        put_body(inode, &inner);
        if before == outer { Ok(()) } else { self.put_attribute_block(inode, &outer) }
    }

    /// Writes the block of attributes: a new one where others share it.
    fn put_attribute_block(&mut self, inode: &mut Inode, attributes: &[Owned]) -> Result<()> {
        let is_shared = self.attribute_block(inode)?.is_some_and(|block| u32_at(&block.bytes, 4) > 1);
        if is_shared || attributes.is_empty() {
            self.drop_attribute_block(inode)?;
        }
        if attributes.is_empty() {
            return Ok(());
        }
        if inode.attribute_block == 0 {
            let (number, _) = self.take_blocks(self.home_of(inode), 1)?;
            self.store.fresh(number);
            inode.set_attribute_block(number);
            self.count(inode, 1, true)?;
        }
        let (number, seed) = (inode.attribute_block, self.seed());
        let bytes = self.store.change(number)?;
        bytes.fill(0);
        for (at, field) in [(0, MAGIC), (4, 1), (8, 1)] {
            put(bytes, at, &field.to_le_bytes());
        }
        lay(bytes, BLOCK_HEADER, 0, attributes);
        let hash = attributes.iter().try_fold(0_u32, |hash, attribute| match attribute.hash() {
            0 => None,
            own => Some(hash.rotate_left(16) ^ own),
        });
        put(bytes, 0xc, &hash.unwrap_or_default().to_le_bytes());
        seal(seed, number, bytes);
        Ok(())
    }

    /// Lets go of an inode's block of attributes, which goes with the last that shares it.
    pub(super) fn drop_attribute_block(&mut self, inode: &mut Inode) -> Result<()> {
        let Some(block) = self.attribute_block(inode)? else { return Ok(()) };
        let (number, shared) = (inode.attribute_block, u32_at(&block.bytes, 4));
        drop(block);
        inode.set_attribute_block(0);
        self.count(inode, 1, false)?;
        if shared <= 1 {
            return self.free_blocks(number, 1, Held::Metadata);
        }
        let seed = self.seed();
        let bytes = self.store.change(number)?;
        put(bytes, 4, &(shared - 1).to_le_bytes());
        seal(seed, number, bytes);
        Ok(())
    }
}

fn put_body(inode: &mut Inode, attributes: &[Owned]) {
    let Some(start) = body_start(inode) else { return };
    let Some(rest) = inode.raw.get_mut(start..) else { return };
    rest.fill(0);
    if !attributes.is_empty() {
        put(rest, 0, &MAGIC.to_le_bytes());
        lay(rest, 4, 4, attributes);
    }
}

fn seal(seed: Option<u32>, number: u64, bytes: &mut [u8]) {
    if let Some(seed) = seed {
        put(bytes, 0x10, &[0; 4]);
        let sum = crc32c_of(seed, &[&number.to_le_bytes(), bytes]);
        put(bytes, 0x10, &sum.to_le_bytes());
    }
}

const LONGEST_NAME: usize = 255;
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";
