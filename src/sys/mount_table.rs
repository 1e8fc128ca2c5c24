//! Lines of the kernel's table of mounts (`proc_pid_mountinfo(5)`).

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The mount's number.
    pub number: u64,
    /// That of the mount that it lies in.
    pub parent: u64,
    /// The file system's device number, in its two parts.
    pub device: (u32, u32),
    /// The part of the file system that it shows: all of it (`/`), or a folder in it.
    pub root: PathBuf,
    /// Where it shows.
    pub place: PathBuf,
    /// The group to all others of which it gives what is mounted in it, and from which it takes.
    pub shared: Option<u64>,
    /// The group from which it takes only.
    pub master: Option<u64>,
    /// The file system's type: `ext4`, `fuse.ext4`.
    pub kind: String,
    /// What is mounted: a device, or the name that the file system gave itself.
    pub source: OsString,
    /// The file system's own options, between commas, escaped as they stand there.
    pub options: OsString,
}

impl Line {
    /// `36 35 98:0 /root /mnt rw,noatime shared:1 - ext3 /dev/root rw`, with any number of optional fields before the `-`.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let number = text(fields.next()?)?.parse().ok()?;
        let parent = text(fields.next()?)?.parse().ok()?;
        let (major, minor) = text(fields.next()?)?.split_once(':')?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        let (root, place) = (unescaped(fields.next()?).into(), unescaped(fields.next()?).into());
        let _options = fields.next()?;
        let (mut shared, mut master) = (None, None);
        loop {
            match fields.next()? {
                b"-" => break,
                field => match text(field)?.split_once(':') {
                    Some(("shared", group)) => shared = group.parse().ok(),
                    Some(("master", group)) => master = group.parse().ok(),
                    // Others say nothing that matters here.
                    _ => {}
                },
            }
        }
        let kind = text(fields.next()?)?.to_owned();
        let source = unescaped(fields.next()?);
        let options = OsStr::from_bytes(fields.next().unwrap_or_default()).to_owned();
        Some(Self { number, parent, device, root, place, shared, master, kind, source, options })
    }

    /// The folders that an overlay's options with these names tell, as they were named when it was mounted.
    pub fn folders(&self, names: &'static [&'static str]) -> impl Iterator<Item = PathBuf> {
        folders(&self.options, names)
    }
}

/// The same of options alone.
pub fn folders(options: &OsStr, names: &'static [&'static str]) -> impl Iterator<Item = PathBuf> {
    let options = options.as_bytes().split(|&byte| byte == b',');
    let folders =
        options.filter_map(|option| names.iter().find_map(|name| option.strip_prefix(name.as_bytes())));
    let folders = folders.flat_map(|folders| folders.split(|&byte| byte == b':'));
    folders.map(|folder| unescaped(folder).into())
}

/// Undoes the kernel's octal escapes: `\040` for a blank, `\011` tab, `\012` line feed, `\134` backslash.
pub fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = if first == b'\\' { tail.first_chunk::<3>().copied().and_then(octal) } else { None };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    OsString::from_vec(bytes)
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}
