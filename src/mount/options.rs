//! Mount options that a user may ask for, as mount(8) writes them: an allow-list. What a driver or a file system cannot keep to is
//! refused, never ignored; what names a path or a device, and what could harm this machine, is in no list.

use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use super::{filesystem::Contents, ways::Means};
use crate::error::{Error, ErrorKind, Result};

/// Mount options, each of which some file system or driver here keeps to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountOptions {
    read_only: Option<bool>,
    general: Vec<General>,
    /// Those of one file system, whole: `compress=zstd:3`.
    particular: Vec<String>,
}

/// What any file system may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum General {
    NoAtime,
    RelAtime,
    StrictAtime,
    NoDirAtime,
    NoExec,
    Sync,
    DirSync,
    LazyTime,
}

impl General {
    /// Each with its name, and with the name of the option that takes it back.
    const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::NoAtime, "noatime", "atime"),
        (Self::RelAtime, "relatime", "norelatime"),
        (Self::StrictAtime, "strictatime", "nostrictatime"),
        (Self::NoDirAtime, "nodiratime", "diratime"),
        (Self::NoExec, "noexec", "exec"),
        (Self::Sync, "sync", "async"),
        (Self::DirSync, "dirsync", "nodirsync"),
        (Self::LazyTime, "lazytime", "nolazytime"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(general, ..)| *general == self).map_or("", |(_, name, _)| name)
    }

    const fn flag(self) -> MountFlags {
        match self {
            Self::NoAtime => MountFlags::NOATIME,
            Self::RelAtime => MountFlags::RELATIME,
            Self::StrictAtime => MountFlags::STRICTATIME,
            Self::NoDirAtime => MountFlags::NODIRATIME,
            Self::NoExec => MountFlags::NOEXEC,
            Self::Sync => MountFlags::SYNCHRONOUS,
            Self::DirSync => MountFlags::DIRSYNC,
            Self::LazyTime => MountFlags::LAZYTIME,
        }
    }

    /// Whether both say when the time of the last access is written.
    const fn excludes(self, other: Self) -> bool {
        const fn is_of_access(general: General) -> bool {
            matches!(general, General::NoAtime | General::RelAtime | General::StrictAtime)
        }
        is_of_access(self) && is_of_access(other)
    }

    /// strongroom's own file systems write no times of access at all.
    const fn is_kept_by(self, means: Means) -> bool {
        match means {
            Means::Kernel | Means::Udisks => true,
            Means::Builtin => {
                matches!(self, Self::NoAtime | Self::NoDirAtime | Self::NoExec | Self::Sync | Self::DirSync)
            }
        }
    }
}

impl MountOptions {
    /// Reads `noatime,compress=zstd`. The last of two that contradict each other counts.
    ///
    /// # Errors
    /// Why one of them is refused, with its name.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err("too long".to_owned());
        }
        let mut options = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            options.add(word)?;
        }
        Ok(options)
    }

    fn add(&mut self, word: &str) -> std::result::Result<(), String> {
        let name = word.split('=').next().unwrap_or_default();
        let general = General::ALL.iter().find(|(_, on, off)| [*on, *off].contains(&word));
        match word {
            "ro" => self.read_only = Some(true),
            "rw" => self.read_only = Some(false),
            // So it is always.
            "defaults" | "nodev" | "nosuid" => {}
            "dev" | "suid" => {
                return Err(format!("{word}: a volume must not bring devices or setuid programs"));
            }
            _ if let Some((general, on, _)) = general => {
                self.general.retain(|other| other != general && !other.excludes(*general));
                if word == *on {
                    self.general.push(*general);
                }
            }
            _ => {
                let mut known = PARTICULAR.iter().filter(|(known, ..)| *known == name).peekable();
                if known.peek().is_none() {
                    return Err(format!("{name}: not an option that strongroom passes on"));
                }
                let value = word.split_once('=').map(|(_, value)| value);
                if !known.any(|(_, takes, _)| takes(value)) {
                    return Err(format!("{word}: not a value of {name}"));
                }
                self.particular.retain(|other| other.split('=').next() != Some(name));
                self.particular.push(word.to_owned());
            }
        }
        Ok(())
    }

    /// These with `later` ones, which count where both contradict each other.
    #[must_use]
    pub fn and(mut self, later: &Self) -> Self {
        for word in later.words() {
            // It was read before.
            let _known = self.add(&word);
        }
        self
    }

    /// Whether writes are to be refused, or not, where that was said.
    pub const fn read_only(&self) -> Option<bool> {
        self.read_only
    }

    fn words(&self) -> Vec<String> {
        let access = self.read_only.map(|read_only| if read_only { "ro" } else { "rw" }.to_owned());
        access.into_iter().chain(self.asked()).collect()
    }

    /// What mount(2) takes as flags.
    pub(super) fn flags(&self) -> MountFlags {
        self.general.iter().map(|general| general.flag()).collect()
    }

    /// All but the access, as mount(8) takes them.
    pub(super) fn asked(&self) -> impl Iterator<Item = String> {
        let general = self.general.iter().map(|general| general.name().to_owned());
        general.chain(self.particular.iter().cloned())
    }

    /// What the kernel's file system takes as text.
    pub(super) fn particular(&self) -> &[String] {
        &self.particular
    }

    /// Whether no program may be run from there.
    pub(super) fn forbids_programs(&self) -> bool {
        self.general.contains(&General::NoExec)
    }

    /// Whether names, and what files hold, are on the medium when a program is answered.
    pub(super) fn promptness(&self) -> (bool, bool) {
        let has = |general| self.general.contains(&general);
        (has(General::Sync) || has(General::DirSync), has(General::Sync))
    }

    /// Whether space that is given back is to be passed on to the container.
    pub(super) fn discards(&self) -> bool {
        self.particular.iter().any(|word| word.starts_with("discard") && word != "discard=none")
    }

    /// Whether `means` keeps to all of them on this file system.
    ///
    /// # Errors
    /// `Unsupported`, naming the first that it does not keep to.
    pub(super) fn check(&self, contents: Contents, means: Means) -> Result<()> {
        if let Some(general) = self.general.iter().find(|general| !general.is_kept_by(means)) {
            return Err(unkept(general.name(), means).with_hint("leave it out, or mount it as root"));
        }
        let Some(word) = self.particular.iter().find(|word| !is_known_to(word, contents)) else {
            return match self.particular.first().filter(|_| means == Means::Builtin) {
                Some(word) => Err(unkept(word, means).with_hint("leave it out, or mount it as root")),
                None => Ok(()),
            };
        };
        let reason = format!("-o {word}: {contents} has no such option");
        Err(Error::new(ErrorKind::Unsupported, reason).with_hint("leave it out"))
    }
}

fn unkept(word: &str, means: Means) -> Error {
    Error::new(ErrorKind::Unsupported, format!("-o {word}: the {means} driver does not keep to it"))
}

/// Whether the file system takes it with this value.
fn is_known_to(word: &str, contents: Contents) -> bool {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let of = contents.kernel_name().unwrap_or_default();
    PARTICULAR
        .iter()
        .any(|(known, takes, file_systems)| *known == name && takes(value) && file_systems.contains(&of))
}

impl TryFrom<String> for MountOptions {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<MountOptions> for String {
    fn from(options: MountOptions) -> Self {
        options.words().join(",")
    }
}

/// Says whether an option takes a value, or none.
type Takes = fn(Option<&str>) -> bool;

/// The options of single file systems that do no harm, each with those that have it, by the kernel's names.
const PARTICULAR: [(&str, Takes, &[&str]); 29] = [
    ("acl", is_none, &["ext4", "btrfs"]),
    ("noacl", is_none, &["ext4", "btrfs"]),
    ("autodefrag", is_none, &["btrfs"]),
    ("noautodefrag", is_none, &["btrfs"]),
    ("commit", is_number, &["ext4", "btrfs"]),
    ("compress", is_compression, &["btrfs"]),
    ("compress-force", is_compression, &["btrfs"]),
    ("discard", is_none, &["ext4", "xfs", "btrfs", "vfat", "exfat", "ntfs3"]),
    ("discard", is_discard, &["btrfs"]),
    ("dmask", is_mask, &["vfat", "exfat", "ntfs3"]),
    ("errors", is_errors, &["ext4"]),
    ("fmask", is_mask, &["vfat", "exfat", "ntfs3"]),
    ("flush", is_none, &["vfat"]),
    ("flushoncommit", is_none, &["btrfs"]),
    ("gid", is_number, &["vfat", "exfat", "ntfs3"]),
    ("inode32", is_none, &["xfs"]),
    ("inode64", is_none, &["xfs"]),
    ("largeio", is_none, &["xfs"]),
    ("nodiscard", is_none, &["ext4", "xfs", "btrfs"]),
    ("nossd", is_none, &["btrfs"]),
    ("prealloc", is_none, &["ntfs3"]),
    ("quiet", is_none, &["vfat"]),
    ("shortname", is_shortname, &["vfat"]),
    ("ssd", is_none, &["btrfs"]),
    ("sys_tz", is_none, &["exfat"]),
    ("tz", is_utc, &["vfat"]),
    ("uid", is_number, &["vfat", "exfat", "ntfs3"]),
    ("umask", is_mask, &["vfat", "exfat", "ntfs3"]),
    ("windows_names", is_none, &["ntfs3"]),
];

fn is_none(value: Option<&str>) -> bool {
    value.is_none()
}

fn is_number(value: Option<&str>) -> bool {
    value.is_some_and(|value| {
        value.bytes().all(|byte| byte.is_ascii_digit())
            && value.parse::<u32>().is_ok_and(|number| number <= i32::MAX.unsigned_abs())
    })
}

/// Octal, as umask(1) takes it.
fn is_mask(value: Option<&str>) -> bool {
    value.is_some_and(|value| {
        (1..=4).contains(&value.len()) && value.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
    })
}

fn is_compression(value: Option<&str>) -> bool {
    let Some(value) = value else { return true };
    let (kind, level) = value.split_once(':').map_or((value, None), |(kind, level)| (kind, Some(level)));
    let has_levels = ["zlib", "zstd"].contains(&kind);
    match level {
        Some(level) => has_levels && level.parse::<u8>().is_ok_and(|level| (1..=15).contains(&level)),
        None => has_levels || kind == "lzo",
    }
}

fn is_discard(value: Option<&str>) -> bool {
    matches!(value, Some("sync" | "async"))
}

/// Not `panic`: a damaged volume would bring the machine down.
fn is_errors(value: Option<&str>) -> bool {
    matches!(value, Some("continue" | "remount-ro"))
}

fn is_shortname(value: Option<&str>) -> bool {
    matches!(value, Some("lower" | "win95" | "winnt" | "mixed"))
}

fn is_utc(value: Option<&str>) -> bool {
    value == Some("UTC")
}

const MOST_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const EXT: Contents = Contents::Ext { needs_recovery: false };

    fn options(text: &str) -> MountOptions {
        MountOptions::parse(text).unwrap()
    }

    #[test]
    fn what_is_not_in_the_list_is_refused_by_its_name() {
        for (text, name) in [
            ("noatime,suid", "suid"),
            ("dev", "dev"),
            ("journal_path=/dev/sda1", "journal_path"),
            ("logdev=/dev/sda1", "logdev"),
            ("errors=panic", "errors=panic"),
            ("user_id=0", "user_id"),
            ("compress=zstd:99", "compress=zstd:99"),
            ("uid=-1", "uid=-1"),
            ("uid=+1", "uid=+1"),
            ("umask=9", "umask=9"),
            ("noatime=1", "noatime"),
        ] {
            let refusal = MountOptions::parse(text).unwrap_err();
            assert!(refusal.starts_with(&format!("{name}:")), "{text}: {refusal}");
        }
        assert!(MountOptions::parse(&"ro,".repeat(1000)).is_err());
    }

    #[test]
    fn the_last_of_two_that_contradict_each_other_counts() {
        for (text, expected) in [
            ("noatime,relatime", "relatime"),
            ("noatime,atime", ""),
            ("ro,rw", "rw"),
            ("noexec,exec,sync", "sync"),
            ("commit=5,commit=30", "commit=30"),
            ("compress=lzo,nodev,defaults,,nosuid", "compress=lzo"),
        ] {
            assert_eq!(String::from(options(text)), expected, "{text}");
        }
        assert_eq!(String::from(options("ro,noatime").and(&options("rw,strictatime"))), "rw,strictatime");
    }

    #[test]
    fn every_option_goes_to_the_server_and_back() {
        let text = "ro,noexec,sync,uid=1000,umask=022";
        let sent = serde_json::to_string(&options(text)).unwrap();
        assert_eq!(serde_json::from_str::<MountOptions>(&sent).unwrap(), options(text));
        assert!(serde_json::from_str::<MountOptions>("\"suid\"").is_err());
    }

    #[test]
    fn what_a_driver_or_a_file_system_does_not_keep_to_is_refused() {
        for (text, contents, means, is_kept) in [
            ("noatime,lazytime,discard,commit=9", EXT, Means::Kernel, true),
            ("noatime,sync,noexec,ro", EXT, Means::Builtin, true),
            ("relatime", Contents::Fat, Means::Builtin, false),
            ("uid=1000", Contents::Fat, Means::Builtin, false),
            ("uid=1000", Contents::Fat, Means::Kernel, true),
            ("uid=1000", EXT, Means::Kernel, false),
            ("compress=zstd", EXT, Means::Kernel, false),
            ("compress=zstd,lazytime", Contents::Btrfs, Means::Udisks, true),
            ("compress=zstd", Contents::Xfs, Means::Udisks, false),
            ("compress=zstd,discard=async", Contents::Btrfs, Means::Kernel, true),
            ("discard=async", EXT, Means::Kernel, false),
        ] {
            let checked = options(text).check(contents, means);
            assert_eq!(checked.is_ok(), is_kept, "{text} {contents} {means}");
        }
        let refused = options("lazytime").check(EXT, Means::Builtin).unwrap_err();
        assert!(refused.reason().contains("-o lazytime: the builtin driver") && refused.hint().is_some());
    }

    #[test]
    fn flags_are_those_of_the_kernel() {
        assert_eq!(options("noatime,dirsync").flags(), MountFlags::NOATIME | MountFlags::DIRSYNC);
        assert_eq!(options("sync").promptness(), (true, true));
        assert_eq!(options("dirsync").promptness(), (true, false));
        assert!(options("discard").discards() && !options("nodiscard").discards());
    }
}
