//! Directories: file identifiers one after the other (ECMA-167, 4/14.4), and links, whose content names a path (4/14.16).

use std::{collections::HashMap, ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

use super::{
    super::{
        Fault, Kind, Listed, NodeId, Result,
        bytes::{index, long, u8_at, u16_at},
        ntfs::text,
    },
    Node, Udf, number,
    tag::{self, Place},
};

/// The files of a directory, by the names that show.
pub(super) type Index = HashMap<Box<[u8]>, Place>;

/// One name of a directory.
struct Name {
    shown: Vec<u8>,
    place: Place,
    is_directory: bool,
    /// Where the next one begins, in bytes of the directory.
    next: u64,
}

impl Udf {
    /// The place to which a name in a directory leads.
    pub(super) fn find(&self, folder: &Node, name: &[u8]) -> Result<Place> {
        if folder.attributes.kind != Kind::Directory {
            return Err(Fault::NotDirectory);
        }
        if name.len() > LONGEST {
            return Err(Fault::NameTooLong);
        }
        if folder.attributes.size > MOST_INDEXED {
            let mut found = None;
            self.walk(folder, 0, &mut |entry| {
                found = (*entry.shown == *name).then_some(entry.place);
                Ok(found.is_none())
            })?;
            return found.ok_or(Fault::NotFound);
        }
        let key = folder.attributes.node.0;
        let index = match self.indexes.find(key) {
            Some(index) => index,
            None => self.index(folder)?,
        };
        index.get(name).copied().ok_or(Fault::NotFound)
    }

    fn index(&self, folder: &Node) -> Result<Arc<Index>> {
        let (mut index, mut weight) = (Index::new(), 0_usize);
        self.walk(folder, 0, &mut |entry| {
            weight = weight.saturating_add(entry.shown.len()).saturating_add(ENTRY_WEIGHT);
            index.entry(entry.shown.into()).or_insert(entry.place);
            Ok(true)
        })?;
        let index = Arc::new(index);
        self.indexes.keep(folder.attributes.node.0, Arc::clone(&index), weight);
        Ok(index)
    }

    /// Shows the files of a directory from a cursor on.
    pub(super) fn list(
        &self,
        folder: &Node,
        cursor: u64,
        take: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<()> {
        if folder.attributes.kind != Kind::Directory {
            return Err(Fault::NotDirectory);
        }
        self.walk(folder, cursor, &mut |entry| {
            let node = if entry.place == self.volume.root { NodeId::ROOT } else { number(entry.place) };
            // A link is told by its own entry alone.
            let kind = if entry.is_directory { Kind::Directory } else { self.kind_of(node) };
            Ok(take(&Listed { name: OsStr::from_bytes(&entry.shown), node, kind, next: entry.next }))
        })
    }

    fn kind_of(&self, node: NodeId) -> Kind {
        self.node(node).map_or(Kind::File, |node| node.attributes.kind)
    }

    /// Calls `each` with the names of a directory that show, from byte `from` of it on, until that answers false.
    fn walk(&self, folder: &Node, from: u64, each: &mut dyn FnMut(Name) -> Result<bool>) -> Result<()> {
        let size = folder.attributes.size;
        let mut window = Window::default();
        let mut at = from;
        while at < size {
            let head = window.bytes(self, folder, at, HEADER)?;
            let (name_len, use_len) = (usize::from(u8_at(head, 19)), usize::from(u16_at(head, 36)));
            let (marks, id) = (u8_at(head, 18), u16_at(head, 0));
            let (_, place) = tag::long_address(head, 20);
            if id != tag::FILE_IDENTIFIER {
                return Err(Fault::Damaged);
            }
            let name_at = HEADER.saturating_add(use_len);
            let len = name_at.saturating_add(name_len);
            let whole = window.bytes(self, folder, at, len)?;
            let shown = whole.get(name_at..).and_then(name);
            at = at.saturating_add(long(len.next_multiple_of(4)));
            if marks & (IS_DELETED | IS_ABOVE) != 0 {
                continue;
            }
            let Some(shown) = shown else { continue };
            let entry = Name { shown, place, is_directory: marks & IS_DIRECTORY != 0, next: at };
            if !each(entry)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Where a link leads, by its content.
    pub(super) fn link(&self, node: &Node) -> Result<Vec<u8>> {
        let size = node.attributes.size;
        if size > LONGEST_LINK {
            return Err(Fault::Damaged);
        }
        let mut bytes = vec![0; index(size)];
        self.content(node, 0, &mut bytes)?;
        Ok(target(&bytes))
    }
}

/// The target that a link's components make.
fn target(mut rest: &[u8]) -> Vec<u8> {
    let mut target = Vec::new();
    while let [kind, len, _, _, behind @ ..] = rest {
        let Some((part, behind)) = behind.split_at_checked(usize::from(*len)) else { break };
        rest = behind;
        if *kind == 2 || *kind == 1 && part.is_empty() {
            target = b"/".to_vec();
            continue;
        }
        let part = match *kind {
            3 => b"..".to_vec(),
            4 => b".".to_vec(),
            5 => unpacked(part).unwrap_or_default(),
            _ => continue,
        };
        if !target.is_empty() && !target.ends_with(b"/") {
            target.push(b'/');
        }
        target.extend(part);
    }
    target
}

/// A name as it shows; `None` where there can be none.
fn name(packed: &[u8]) -> Option<Vec<u8>> {
    let shown = unpacked(packed)?;
    let is_possible = !matches!(&*shown, [] | b"." | b"..")
        && shown.len() <= LONGEST_SHOWN
        && !shown.iter().any(|byte| matches!(byte, 0 | b'/'));
    is_possible.then_some(shown)
}

/// OSTA's compressed Unicode (UDF 2.60, 2.1.1): a byte for each character, or two.
fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    let (kind, units) = packed.split_first()?;
    match kind {
        8 => Some(text(units.iter().map(|unit| u16::from(*unit)))),
        16 => {
            let units = units.chunks_exact(2).filter_map(<[u8]>::first_chunk);
            Some(text(units.map(|unit| u16::from_be_bytes(*unit))))
        }
        _ => None,
    }
}

/// A part of a directory that was read.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// So many bytes of a directory, all of them.
    fn bytes(&mut self, udf: &Udf, folder: &Node, at: u64, len: usize) -> Result<&[u8]> {
        let end =
            at.checked_add(long(len)).filter(|end| *end <= folder.attributes.size).ok_or(Fault::Damaged)?;
        let is_in = at >= self.start && end <= self.start.saturating_add(long(self.bytes.len()));
        if !is_in {
            let most = folder.attributes.size.saturating_sub(at).min(WINDOW.max(long(len)));
            self.bytes.resize(index(most), 0);
            let read = udf.content(folder, at, &mut self.bytes);
            if read.as_ref().map_or(true, |read| *read < self.bytes.len()) {
                self.bytes.clear();
                return Err(read.err().unwrap_or(Fault::Damaged));
            }
            self.start = at;
        }
        let within = index(at.saturating_sub(self.start));
        self.bytes.get(within..within.saturating_add(len)).ok_or(Fault::Damaged)
    }
}

const HEADER: usize = 38;
/// Of a name's marks.
const IS_DIRECTORY: u8 = 0x02;
const IS_DELETED: u8 = 0x04;
const IS_ABOVE: u8 = 0x08;
/// In UTF-16 on the volume, and as it shows.
pub(super) const LONGEST: usize = 255;
const LONGEST_SHOWN: usize = 255;
const LONGEST_LINK: u64 = 4096 * 4;
const WINDOW: u64 = 64 << 10;
/// Longer directories are walked through for each name.
const MOST_INDEXED: u64 = 8 << 20;
/// What an entry takes besides its name, in bytes.
const ENTRY_WEIGHT: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_two_widths() {
        assert_eq!(name(b"\x08caf\xe9").unwrap(), "café".as_bytes());
        assert_eq!(name(b"\x10\x20\xac\xd8\x3d\xde\x00").unwrap(), "€😀".as_bytes());
        for impossible in [&b""[..], b"\x08", b"\x08..", b"\x08a/b", b"\x08a\0", b"\xfe\x01\x02"] {
            assert_eq!(name(impossible), None, "{impossible:?}");
        }
    }

    #[test]
    fn a_link_is_made_of_its_components() {
        for (content, shown) in [
            (&b"\x03\0\0\0\x05\x04\0\0\x08bin"[..], &b"../bin"[..]),
            (b"\x02\0\0\0\x05\x04\0\0\x08etc\x05\x02\0\0\x08x", b"/etc/x"),
            (b"\x04\0\0\0", b"."),
            (b"\x05\xff\0\0\x08cut", b""),
        ] {
            assert_eq!(target(content), shown, "{content:?}");
        }
    }
}
