//! Files: what a record and those that continue it say of one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    super::{
        Attributes, Fault, Kind, NodeId, Result, Rights,
        bytes::{long, u8_at, u32_at, u64_at},
    },
    directory::Index,
    link::{self, Link},
    record::{DATA, FILE_NAME, REPARSE_POINT, STANDARD_INFORMATION, number_of},
    stream::Stream,
    volume::{Piece, Volume},
};

/// A file, a directory, or what else has a record.
#[derive(Debug)]
pub(super) struct File {
    pub(super) number: u64,
    pub(super) sequence: u16,
    /// The directory of its first name.
    pub(super) parent: u64,
    pub(super) nature: Nature,
    links: u32,
    is_read_only: bool,
    times: [SystemTime; 4],
}

/// What it is.
#[derive(Debug)]
pub(super) enum Nature {
    File(Option<Stream>),
    /// A file whose content lies elsewhere, or in a way that is not known here.
    Foreign(Option<Stream>),
    Directory(Index),
    Link(Link),
    Special(Kind, u32),
}

impl File {
    pub(super) const fn kind(&self) -> Kind {
        match self.nature {
            Nature::File(_) | Nature::Foreign(_) => Kind::File,
            Nature::Directory(_) => Kind::Directory,
            Nature::Link(_) => Kind::Link,
            Nature::Special(kind, _) => kind,
        }
    }

    /// The index of a directory.
    pub(super) const fn directory(&self) -> Result<&Index> {
        match &self.nature {
            Nature::Directory(index) => Ok(index),
            _ => Err(Fault::NotDirectory),
        }
    }

    /// What a file holds.
    ///
    /// # Errors
    /// `Unsupported` where that cannot be told.
    pub(super) const fn content(&self) -> Result<Option<&Stream>> {
        match &self.nature {
            Nature::File(content) => Ok(content.as_ref()),
            Nature::Foreign(_) => Err(Fault::Unsupported),
            Nature::Directory(_) => Err(Fault::IsDirectory),
            Nature::Link(_) | Nature::Special(..) => Err(Fault::Invalid),
        }
    }

    fn weight(&self) -> usize {
        size_of::<Self>().saturating_add(match &self.nature {
            Nature::File(content) | Nature::Foreign(content) => content.as_ref().map_or(0, Stream::weight),
            Nature::Directory(index) => index.weight(),
            Nature::Link(link) => link.weight(),
            Nature::Special(..) => 0,
        })
    }
}

impl Volume {
    /// The file that a record begins.
    ///
    /// # Errors
    /// `Stale` where it begins none, `Damaged`, `Io`.
    pub(super) fn file(&self, number: u64) -> Result<Arc<File>> {
        if let Some(found) = self.files.find(number) {
            return Ok(found);
        }
        let file = Arc::new(self.load(number)?);
        self.files.keep(number, Arc::clone(&file), file.weight());
        Ok(file)
    }

    fn load(&self, number: u64) -> Result<File> {
        let record = self.record(number)?;
        if record.base != 0 {
            return Err(Fault::Stale);
        }
        let pieces = self.survey(number, &record)?;
        let information = Stream::open(self, number, STANDARD_INFORMATION, pieces.information)?;
        let information = self.whole(&information.ok_or(Fault::Damaged)?, LONGEST_INFORMATION)?;
        let flags = u32_at(&information, 32);
        let (links, parent) = self.names(number, &pieces.names)?;
        let reparse_point = Stream::open(self, number, REPARSE_POINT, pieces.reparse_point)?;
        let reparse_point =
            reparse_point.map(|value| self.whole(&value, LONGEST_REPARSE_POINT)).transpose()?;
        let known = reparse_point.as_deref().map(|value| link::parse(value, flags)).transpose()?;
        let nature = match known {
            Some(link::Parsed::Link(link)) => Nature::Link(link),
            Some(link::Parsed::Special(kind)) => Nature::Special(kind, 0),
            _ if record.is_directory => {
                let found = (pieces.index_root, pieces.index_blocks, pieces.index_bitmap);
                Nature::Directory(Index::open(self, number, found)?)
            }
            known => {
                let content = Stream::open(self, number, DATA, pieces.data)?;
                match known {
                    Some(link::Parsed::Foreign) => Nature::Foreign(content),
                    _ => self.nature(content, flags)?,
                }
            }
        };
        let times = [0, 8, 16, 24].map(|at| moment(u64_at(&information, at)));
        let links = if links == 0 { record.links.into() } else { links };
        let is_read_only = flags & READ_ONLY != 0;
        Ok(File { number, sequence: record.sequence, parent, nature, links, is_read_only, times })
    }

    /// A file of the system may stand for what Windows has no name for (Interix, which ntfs-3g writes).
    fn nature(&self, content: Option<Stream>, flags: u32) -> Result<Nature> {
        let Some(content) = content else { return Ok(Nature::File(None)) };
        let has_room = (8..=link::LONGEST_INTERIX).contains(&content.size());
        if flags & SYSTEM == 0 || !has_room || !content.is_plain() {
            return Ok(Nature::File(Some(content)));
        }
        let value = self.whole(&content, link::LONGEST_INTERIX)?;
        Ok(match link::interix(&value) {
            Some(link::Interix::Link(link)) => Nature::Link(link),
            Some(link::Interix::Device(kind, device)) => Nature::Special(kind, device),
            None => Nature::File(Some(content)),
        })
    }

    /// How many names a file has, not counting those for DOS, and the directory of the first.
    fn names(&self, number: u64, names: &[Piece]) -> Result<(u32, u64)> {
        let (mut count, mut parent) = (0_u32, None);
        for piece in names.iter().take(MOST_NAMES) {
            let name = Stream::open(self, number, FILE_NAME, vec![*piece])?.ok_or(Fault::Damaged)?;
            let name = name.inside().ok_or(Fault::Damaged)?;
            if u8_at(name, NAMESPACE) != DOS {
                count = count.saturating_add(1);
                parent = parent.or(Some(number_of(u64_at(name, 0))));
            }
        }
        Ok((count, parent.unwrap_or(number)))
    }

    /// What is shown of a file.
    pub(super) fn describe(&self, file: &File) -> Attributes {
        let kind = file.kind();
        let sizes =
            |content: &Option<Stream>| content.as_ref().map_or((0, 0), |it| (it.size(), it.allocated()));
        let (size, allocated) = match &file.nature {
            Nature::File(content) | Nature::Foreign(content) => sizes(content),
            Nature::Directory(index) => index.sizes(),
            Nature::Link(link) => (long(self.target(file, link).len()), 0),
            Nature::Special(..) => (0, 0),
        };
        let [created, modified, changed, accessed] = file.times;
        Attributes {
            node: node(file.number),
            kind,
            size,
            allocated,
            links: if kind == Kind::Directory { 2 } else { file.links },
            device: if let Nature::Special(_, device) = file.nature { device } else { 0 },
            rights: Rights::Mark { read_only: kind == Kind::File && file.is_read_only },
            modified,
            changed,
            accessed,
            created,
        }
    }
}

/// The file system's own files, and what is kept free for more of them, have no node.
pub(super) const fn node(number: u64) -> NodeId {
    if number == ROOT { NodeId::ROOT } else { NodeId(number) }
}

/// The record behind a node.
pub(super) fn number(node: NodeId) -> Result<u64> {
    match node {
        NodeId::ROOT => Ok(ROOT),
        NodeId(number) if is_users(number) => Ok(number),
        _ => Err(Fault::Stale),
    }
}

/// Whether a record is not one of the file system's own.
pub(super) const fn is_users(number: u64) -> bool {
    number >= FIRST_OF_USERS
}

/// From units of 100 ns since 1601.
fn moment(units: u64) -> SystemTime {
    let since = units.cast_signed().saturating_sub(UNTIL_1970);
    let (seconds, rest) = (since.unsigned_abs() / PER_SECOND, since.unsigned_abs() % PER_SECOND);
    let span = Duration::new(seconds, u32::try_from(rest.saturating_mul(100)).unwrap_or_default());
    let moment = if since < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
    moment.unwrap_or(UNIX_EPOCH)
}

/// Records.
pub(super) const ROOT: u64 = 5;
const FIRST_OF_USERS: u64 = 16;

/// Of a file's flags.
const READ_ONLY: u32 = 0x1;
const SYSTEM: u32 = 0x4;

/// In the value of a name, and in the key of one: which names it is among.
pub(super) const NAMESPACE: usize = 65;
pub(super) const DOS: u8 = 2;

/// Windows makes up to 1024.
const MOST_NAMES: usize = 1100;
const LONGEST_INFORMATION: u64 = 4096;
const LONGEST_REPARSE_POINT: u64 = 17 << 10;
const PER_SECOND: u64 = 10_000_000;
const UNTIL_1970: i64 = 116_444_736_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_1601_and_may_lie_before_1970() {
        assert_eq!(moment(116_444_736_000_000_000), UNIX_EPOCH);
        assert_eq!(moment(116_444_736_000_000_001), UNIX_EPOCH + Duration::from_nanos(100));
        assert_eq!(moment(116_444_735_999_999_999), UNIX_EPOCH - Duration::from_nanos(100));
        assert_eq!(moment(0), UNIX_EPOCH - Duration::from_secs(11_644_473_600));
        for extreme in [u64::MAX, i64::MAX.cast_unsigned(), i64::MIN.cast_unsigned()] {
            let _no_panic = moment(extreme);
        }
    }
}
