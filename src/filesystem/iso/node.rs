//! Files by number, and what directories hold.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    super::{Attributes, Fault, Kind, Listed, NodeId, Result, Rights, bytes::short},
    Iso, Sector, clock,
    record::Entry,
    rock::{Rock, kind_bits},
};

/// What is known of a file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) attributes: Attributes,
    pub(super) sections: Vec<(u64, u64)>,
    pub(super) target: Vec<u8>,
    /// Whether its bytes stand as they are.
    pub(super) is_readable: bool,
}

impl Node {
    /// Where a directory is, and its length.
    fn directory(&self) -> Result<(u64, u64)> {
        let place = self.sections.first().copied();
        place.filter(|_| self.attributes.kind == Kind::Directory).ok_or(Fault::NotDirectory)
    }
}

/// Is shown the name, number and kind of a file, and where to go on behind it, and tells whether more is wanted.
type Each<'a> = &'a mut dyn FnMut(&[u8], NodeId, Kind, u64) -> Result<bool>;

/// The files of a directory, by the names that show.
pub(super) type Index = HashMap<Box<[u8]>, NodeId>;

impl Iso {
    /// The record of a directory for itself, with which it begins.
    pub(super) fn dot(&self, start: u64) -> Result<Entry> {
        let end = start.saturating_add(super::SECTOR);
        let entry = self.entry(start, end, &mut Sector::default())?.ok_or(Fault::Damaged)?;
        let is_itself = entry.sections.first().is_some_and(|(place, _)| *place == start);
        if *entry.name == [0] && entry.is_directory && is_itself { Ok(entry) } else { Err(Fault::Damaged) }
    }

    /// The file with this number.
    pub(super) fn node(&self, number: NodeId) -> Result<Arc<Node>> {
        let (place, is_directory) = if number == NodeId::ROOT { (self.root, true) } else { split(number) };
        if let Some(found) = self.nodes.find(number.0) {
            return Ok(found);
        }
        let entry = if is_directory {
            self.dot(place)?
        } else {
            let end = self.device.size();
            self.entry(place, end, &mut Sector::default())?.ok_or(Fault::Stale)?
        };
        if entry.is_directory != is_directory {
            return Err(Fault::Stale);
        }
        let rock = self.rock(&entry)?;
        let node = Arc::new(described(number, entry, rock));
        let weight = node.target.len().saturating_add(node.sections.len().saturating_mul(16));
        self.nodes.keep(number.0, Arc::clone(&node), weight.saturating_add(size_of::<Node>()));
        Ok(node)
    }

    /// The number that a name in a directory leads to.
    pub(super) fn find(&self, folder: &Node, name: &[u8]) -> Result<NodeId> {
        let (start, len) = folder.directory()?;
        if name.len() > super::names::LONGEST {
            return Err(Fault::NameTooLong);
        }
        if len > MOST_INDEXED {
            let mut found = None;
            self.each_shown((start, len), 0, &mut |shown, number, _, _| {
                found = (*shown == *name).then_some(number);
                Ok(found.is_none())
            })?;
            return found.ok_or(Fault::NotFound);
        }
        let index = match self.indexes.find(start) {
            Some(index) => index,
            None => self.index((start, len))?,
        };
        index.get(name).copied().ok_or(Fault::NotFound)
    }

    fn index(&self, (start, len): (u64, u64)) -> Result<Arc<Index>> {
        let (mut index, mut weight) = (Index::new(), 0_usize);
        self.each_shown((start, len), 0, &mut |shown, number, _, _| {
            weight = weight.saturating_add(shown.len()).saturating_add(ENTRY_WEIGHT);
            // The first of two that are called the same is the one that shows.
            index.entry(shown.into()).or_insert(number);
            Ok(true)
        })?;
        let index = Arc::new(index);
        self.indexes.keep(start, Arc::clone(&index), weight);
        Ok(index)
    }

    /// Shows the files of a directory from a cursor on.
    pub(super) fn list(
        &self,
        folder: &Node,
        cursor: u64,
        take: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<()> {
        self.each_shown(folder.directory()?, cursor, &mut |name, node, kind, next| {
            Ok(take(&Listed { name: OsStr::from_bytes(name), node, kind, next }))
        })
    }

    /// Calls `each` with the name, number and kind of each file of a directory that shows, and with where to go on behind it.
    fn each_shown(&self, place: (u64, u64), from: u64, each: Each<'_>) -> Result<()> {
        self.walk(place, from, &mut |entry| {
            let rock = self.rock(&entry)?;
            let name = self.names.shown(&entry, &rock).filter(|_| !entry.is_dot() && !rock.is_moved);
            let Some(name) = name else { return Ok(true) };
            let number = self.number(&entry, &rock)?;
            each(&name, number, kind(&entry, &rock), entry.next)
        })
    }

    /// A directory is known by where it begins, another file by its record.
    fn number(&self, entry: &Entry, rock: &Rock) -> Result<NodeId> {
        let moved = rock.child.map(|block| u64::from(block).saturating_mul(self.block_len));
        let start =
            moved.or_else(|| entry.is_directory.then(|| entry.sections.first().map(|(at, _)| *at))?);
        match start {
            Some(start) if start == self.root => Ok(NodeId::ROOT),
            Some(start) => joined(start, true),
            None => joined(entry.position, false),
        }
    }
}

fn joined(place: u64, is_directory: bool) -> Result<NodeId> {
    let number = place.checked_mul(2).and_then(|number| number.checked_add(is_directory.into()));
    // Nothing lies before the descriptors.
    number.filter(|number| *number > NodeId::ROOT.0).map(NodeId).ok_or(Fault::Damaged)
}

const fn split(number: NodeId) -> (u64, bool) {
    (number.0 / 2, number.0 % 2 == 1)
}

fn kind(entry: &Entry, rock: &Rock) -> Kind {
    if entry.is_directory || rock.child.is_some() {
        return Kind::Directory;
    }
    match rock.rights.map_or(0, |(mode, ..)| kind_bits(mode)) {
        0o120_000 => Kind::Link,
        0o010_000 => Kind::Pipe,
        0o140_000 => Kind::Socket,
        0o020_000 => Kind::CharacterDevice,
        0o060_000 => Kind::BlockDevice,
        _ => Kind::File,
    }
}

fn described(number: NodeId, entry: Entry, rock: Rock) -> Node {
    let kind = kind(&entry, &rock);
    let recorded = clock::short(entry.time).unwrap_or(UNIX_EPOCH);
    let or_recorded = |time: Option<SystemTime>| time.unwrap_or(recorded);
    let rights = rock.rights.map_or(Rights::Mark { read_only: true }, |(mode, _, uid, gid)| Rights::Posix {
        mode: u16::try_from(mode & 0o7777).unwrap_or_default(),
        uid,
        gid,
    });
    let size = match kind {
        Kind::File | Kind::Directory => entry.size(),
        Kind::Link => u64::try_from(rock.target.len()).unwrap_or_default(),
        _ => 0,
    };
    let attributes = Attributes {
        node: number,
        kind,
        size,
        allocated: size.next_multiple_of(super::SECTOR),
        links: rock.rights.map_or(1, |(_, links, ..)| links.max(1)),
        device: rock.device.map_or(0, device),
        rights,
        modified: or_recorded(rock.modified),
        changed: or_recorded(rock.changed.or(rock.modified)),
        accessed: or_recorded(rock.accessed.or(rock.modified)),
        created: or_recorded(rock.created.or(rock.modified)),
    };
    let is_readable = !entry.is_interleaved && !rock.is_packed;
    Node { attributes, sections: entry.sections, target: rock.target, is_readable }
}

/// As the kernel packs it. Where the upper part is none, all of it is in the lower one (P1282, 4.1.2).
fn device((high, low): (u32, u32)) -> u32 {
    let (major, minor) = if high == 0 && low > 0xff { (low >> 8, low & 0xff) } else { (high, low) };
    let minor = short(minor);
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

/// Longer directories are walked through for each name.
const MOST_INDEXED: u64 = 8 << 20;
/// What an entry takes besides its name, in bytes.
const ENTRY_WEIGHT: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_where_things_are() {
        for (place, is_directory) in [(32768, true), (40961, false)] {
            assert_eq!(split(joined(place, is_directory).unwrap()), (place, is_directory));
        }
        assert_eq!(joined(0, true), Err(Fault::Damaged));
        assert_eq!(joined(u64::MAX, false), Err(Fault::Damaged));
    }

    #[test]
    fn device_numbers_come_in_two_ways() {
        assert_eq!(device((0, 0x0501)), 0x0501);
        assert_eq!(device((5, 1)), 0x0501);
        assert_eq!(device((5, 0x123)), 0x0010_0523);
    }
}
