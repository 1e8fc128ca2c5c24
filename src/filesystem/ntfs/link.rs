//! Links, and what else a reparse point makes of a file.
//!
//! Windows writes where links lead with drive letters and without regard to case. A link shows as a relative one, which never leads
//! out of the volume. Where its target has a drive letter, that is taken for this volume's if the path exists here; else the
//! target is shown as text.

use super::{
    super::{
        Fault, Kind, Result,
        bytes::{u16_at, u32_at, u64_at},
    },
    file::{File, Nature, ROOT},
    names,
    volume::Volume,
};

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// As it is to be shown.
    Posix(Vec<u8>),
    /// A path of Windows, in UTF-16.
    Windows(Vec<u16>),
}

impl Link {
    pub(super) const fn weight(&self) -> usize {
        match self {
            Self::Posix(target) => target.len(),
            Self::Windows(target) => target.len().saturating_mul(2),
        }
    }
}

/// What a reparse point says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Link(Link),
    Special(Kind),
    /// What the record says is the file.
    Nothing,
    /// The content lies elsewhere.
    Foreign,
}

/// Reads a reparse point, of a file with these flags.
pub(super) fn parse(value: &[u8], flags: u32) -> Result<Parsed> {
    let tag = u32_at(value, 0);
    let end = usize::from(u16_at(value, 4)).saturating_add(8);
    let part = |start: usize, end: usize| value.get(start..end).ok_or(Fault::Damaged);
    let path = |buffer: usize| {
        let start = buffer.saturating_add(u16_at(value, 8).into());
        part(start, start.saturating_add(u16_at(value, 10).into())).map(names::units)
    };
    Ok(match tag {
        SYMLINK => Parsed::Link(Link::Windows(path(20)?.collect())),
        MOUNT_POINT => Parsed::Link(Link::Windows(path(16)?.collect())),
        LX_SYMLINK => Parsed::Link(Link::Posix(part(12, end)?.to_vec())),
        LX_FIFO => Parsed::Special(Kind::Pipe),
        AF_UNIX => Parsed::Special(Kind::Socket),
        tag if tag & !CLOUD_KINDS == CLOUD && flags & IS_ELSEWHERE == 0 => Parsed::Nothing,
        _ => Parsed::Foreign,
    })
}

/// What a file of Interix stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interix {
    Link(Link),
    /// With its number as the kernel's `new_encode_dev` packs it.
    Device(Kind, u32),
}

/// Reads the content of a file of the system. `None` where it is a file.
pub(super) fn interix(content: &[u8]) -> Option<Interix> {
    let (magic, rest) = content.split_at_checked(8)?;
    let device = || {
        let [major, minor] = [0, 8].map(|at| u32::try_from(u64_at(rest, at)).ok());
        let (major, minor) =
            (major.filter(|major| *major < 1 << 12)?, minor.filter(|minor| *minor < 1 << 20)?);
        (rest.len() == 16).then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
    };
    match magic {
        b"IntxLNK\x01" => Some(Interix::Link(Link::Posix(names::text(names::units(rest))))),
        b"IntxCHR\0" => Some(Interix::Device(Kind::CharacterDevice, device()?)),
        b"IntxBLK\0" => Some(Interix::Device(Kind::BlockDevice, device()?)),
        _ => None,
    }
}

/// A path of Windows.
#[derive(Debug, PartialEq, Eq)]
enum Path {
    /// From the link's folder, up so many times.
    Relative(usize, Vec<Vec<u16>>),
    /// From the root of the link's volume.
    Rooted(Vec<Vec<u16>>),
    /// With a drive letter and a colon.
    Drive(Vec<u16>, Vec<Vec<u16>>),
    /// On another machine, or another volume.
    Elsewhere(Vec<Vec<u16>>),
}

impl Path {
    fn parse(path: &[u16]) -> Self {
        let (path, is_native) = path.strip_prefix(NATIVE).map_or((path, false), |rest| (rest, true));
        let (up, parts) = parts(path);
        match path {
            [letter, COLON, ..] if u8::try_from(*letter).is_ok_and(|letter| letter.is_ascii_alphabetic()) => {
                let (_, parts) = self::parts(path.get(2..).unwrap_or_default());
                Self::Drive(vec![*letter, COLON], parts)
            }
            _ if is_native || path.starts_with(&[BACKSLASH, BACKSLASH]) => Self::Elsewhere(parts),
            [BACKSLASH, ..] => Self::Rooted(parts),
            _ => Self::Relative(up, parts),
        }
    }
}

/// The names in a path, without those that another one takes back, and how often it leads up before them.
fn parts(path: &[u16]) -> (usize, Vec<Vec<u16>>) {
    let (mut up, mut parts) = (0_usize, Vec::new());
    for part in path.split(|unit| *unit == BACKSLASH) {
        match part {
            [] | [DOT] => {}
            [DOT, DOT] if parts.pop().is_some() => {}
            [DOT, DOT] => up = up.saturating_add(1),
            part => parts.push(part.to_vec()),
        }
    }
    (up, parts)
}

impl Volume {
    /// Where a link leads, as it is shown.
    pub(super) fn target(&self, file: &File, link: &Link) -> Vec<u8> {
        let path = match link {
            Link::Posix(target) => return target.clone(),
            Link::Windows(path) => Path::parse(path),
        };
        let shown = |parts: Vec<Vec<u16>>| parts.into_iter().map(|part| names::text(part.into_iter()));
        let depth = self.depth(file);
        let (up, parts): (usize, Vec<Vec<u8>>) = match path {
            Path::Relative(up, parts) => (up.min(depth), shown(parts).collect()),
            Path::Rooted(parts) => (depth, shown(parts).collect()),
            Path::Drive(drive, parts) => match self.resolve(&parts) {
                Some(found) => (depth, found),
                None => (0, shown([drive].into_iter().chain(parts).collect()).collect()),
            },
            Path::Elsewhere(parts) => (0, shown(parts).collect()),
        };
        let ups = std::iter::repeat_n(b"..".to_vec(), up);
        let parts = ups.chain(parts.into_iter().filter(|part| names::is_possible(part)));
        let target = parts.collect::<Vec<_>>().join(&b'/');
        if target.is_empty() { b".".to_vec() } else { target }
    }

    /// How many folders lie between a file and the root.
    fn depth(&self, file: &File) -> usize {
        let mut parent = file.parent;
        for depth in 0..MOST_LEVELS {
            if parent == ROOT {
                return depth;
            }
            let Ok(folder) = self.file(parent) else { break };
            parent = folder.parent;
        }
        0
    }

    /// The names on a path from the root, as they are here. `None` where there is no such file, or only by way of a link.
    fn resolve(&self, parts: &[Vec<u16>]) -> Option<Vec<Vec<u8>>> {
        let (mut folder, mut found) = (self.file(ROOT).ok()?, Vec::new());
        if parts.len() > MOST_LEVELS {
            return None;
        }
        for part in parts {
            let Nature::Directory(index) = &folder.nature else { return None };
            let (next, name) = self.find(index, &|name| self.case.folded(part, name)).ok()?;
            found.push(names::text(names::units(&name)));
            folder = next;
        }
        Some(found)
    }
}

/// What reparse points are.
const MOUNT_POINT: u32 = 0xa000_0003;
const SYMLINK: u32 = 0xa000_000c;
const LX_SYMLINK: u32 = 0xa000_001d;
const AF_UNIX: u32 = 0x8000_0023;
const LX_FIFO: u32 = 0x8000_0024;
/// A folder that is kept in step with a server, in one of sixteen ways.
const CLOUD: u32 = 0x9000_001a;
const CLOUD_KINDS: u32 = 0xf000;
/// Of a file's flags: offline, or to be fetched where it is opened or read.
const IS_ELSEWHERE: u32 = 0x1000 | 0x4_0000 | 0x40_0000;

const BACKSLASH: u16 = 0x5c;
const COLON: u16 = 0x3a;
const DOT: u16 = 0x2e;
/// `\??\`, before names of the kernel's.
const NATIVE: &[u16] = &[BACKSLASH, 0x3f, 0x3f, BACKSLASH];
const MOST_LEVELS: usize = 512;
/// Content of a file of Interix.
pub(super) const LONGEST_INTERIX: u64 = 8 + 2 * 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(&text.encode_utf16().collect::<Vec<_>>())
    }

    fn names(parts: &[&str]) -> Vec<Vec<u16>> {
        parts.iter().map(|part| part.encode_utf16().collect()).collect()
    }

    #[test]
    fn paths_of_windows_are_told_apart() {
        assert_eq!(path(r"..\a\.\b"), Path::Relative(1, names(&["a", "b"])));
        assert_eq!(path(r"a\..\..\..\b"), Path::Relative(2, names(&["b"])));
        assert_eq!(path(r"\a\b\"), Path::Rooted(names(&["a", "b"])));
        assert_eq!(path(r"\??\C:\Users\..\..\x"), Path::Drive("C:".encode_utf16().collect(), names(&["x"])));
        assert_eq!(path(r"\??\UNC\server\share"), Path::Elsewhere(names(&["UNC", "server", "share"])));
        assert_eq!(path(r"\\server\share"), Path::Elsewhere(names(&["server", "share"])));
        assert_eq!(path(""), Path::Relative(0, Vec::new()));
    }

    #[test]
    fn what_is_not_in_the_file_is_not_read_as_if_it_were() {
        let with = |tag: u32, flags| parse(&[&tag.to_le_bytes()[..], &[0; 12]].concat(), flags).unwrap();
        // WOF, deduplication, hierarchical storage, one that nobody knows.
        for tag in [0x8000_0017, 0x8000_0013, 0xc000_0004, 0x1234_5678] {
            assert_eq!(with(tag, 0), Parsed::Foreign, "{tag:x}");
        }
        assert_eq!(with(0x9000_701a, 0), Parsed::Nothing);
        assert_eq!(with(0x9000_701a, 0x40_0000), Parsed::Foreign);
        assert_eq!(parse(&[0x0c, 0, 0, 0xa0, 0, 0, 0, 0, 0, 0, 9, 0], 0), Err(Fault::Damaged));
    }

    #[test]
    fn files_of_interix_are_links_and_devices() {
        let link = b"IntxLNK\x01d\0/\0f\0";
        assert_eq!(interix(link), Some(Interix::Link(Link::Posix(b"d/f".to_vec()))));
        let device =
            [b"IntxBLK\0".to_vec(), 8_u64.to_le_bytes().into(), 300_u64.to_le_bytes().into()].concat();
        assert_eq!(interix(&device), Some(Interix::Device(Kind::BlockDevice, 0x10_082c)));
        assert_eq!(interix(&device[..20]), None);
        assert_eq!(interix(b"IntxXXX\0........"), None);
    }
}
