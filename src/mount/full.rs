//! A volume whose own file system is full: not the disk that its container lies on.

use std::path::Path;

use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

use super::filesystem::Contents;
use crate::{
    error::Result,
    filesystem::Space,
    sys::process::may_resize_ext,
    text::path::command_word,
    volume::{ByteDevice, Container, Volume},
};

/// What `list` shows of a volume that is full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Full {
    /// The bytes that anybody may still take.
    pub available: u64,
    /// What makes room in it.
    pub hint: String,
}

/// How much room there is in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes.
    pub total: u64,
    /// Those that anybody may take.
    pub available: u64,
    /// Whether no file more can be made, whatever room there is.
    has_no_nodes: bool,
}

impl Room {
    /// That of a file system that is served here.
    pub(super) const fn of(space: Space) -> Self {
        let unit = space.unit as u64;
        Self {
            total: space.total.saturating_mul(unit),
            available: space.available.saturating_mul(unit),
            has_no_nodes: space.nodes > 0 && space.free_nodes == 0,
        }
    }

    /// That of the file system that is mounted on `place`.
    pub(super) fn at(place: &Path) -> Result<Self> {
        let found = statvfs(place).map_err(std::io::Error::from)?;
        Ok(Self {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            available: found.f_bavail.saturating_mul(found.f_frsize),
            has_no_nodes: found.f_files > 0 && found.f_favail == 0,
        })
    }

    /// Whether it is full. A file that did not fit leaves more room than one that just fits, so a program that was `refused` counts
    /// for more. Nobody fills a small volume by accident without being refused.
    pub(super) const fn is_full(self, refused: bool) -> bool {
        let little = if refused { (self.total / 20, MUCH) } else { (self.total / 200, LITTLE) };
        let least = if little.0 < little.1 { little.0 } else { little.1 };
        (refused || self.total >= TINY) && (self.available <= least || self.has_no_nodes)
    }
}

const TINY: u64 = 16 << 20;
const LITTLE: u64 = 64 << 20;
const MUCH: u64 = 1 << 30;

/// Who has a volume mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    /// The kernel, which has it as a block device.
    Kernel,
    /// The server itself.
    Server,
    /// Another program.
    Other,
}

/// What makes room in a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// `resize`, with these options; while it is mounted by one of these, or not.
    Resize { options: String, live: Vec<Host> },
    /// A larger device, and `resize` then.
    Device,
    /// Another container.
    Copy,
}

impl Remedy {
    /// That of a volume in `container`, which can grow or not.
    ///
    /// # Errors
    /// What reading the volume gave.
    pub(super) fn of(container: &Container, can_grow: bool, volume: &Volume) -> Result<Self> {
        let contents = Contents::of(&ByteDevice::new(volume.device()))?;
        let stays = matches!(contents, Contents::Fat | Contents::Exfat | Contents::Unknown);
        if stays || !can_grow {
            return Ok(Self::Copy);
        }
        let is_folder = container.pieces().is_some();
        if !is_folder && !container.storage().limits().can_resize {
            let is_file = container.file().metadata().is_ok_and(|found| found.is_file());
            return Ok(if is_file { Self::Copy } else { Self::Device });
        }
        let mut live = match contents {
            Contents::Ext { .. } if may_resize_ext() => vec![Host::Kernel, Host::Server],
            Contents::Ext { .. } => vec![Host::Server],
            Contents::Xfs | Contents::Btrfs => vec![Host::Kernel],
            _ => Vec::new(),
        };
        if is_folder || volume.live().is_none() {
            live.clear();
        }
        let format = container.assumed().map(|format| format!(" --format {}", format.name()));
        let detached = container.header_path().map(|path| format!(" --header {}", command_word(path)));
        Ok(Self::Resize { options: [format, detached].into_iter().flatten().collect(), live })
    }

    /// What is said of it, where `host` has the volume mounted.
    pub(super) fn told(&self, container: &Path, host: Host) -> String {
        let name = command_word(container);
        match self {
            Self::Resize { options, live } if live.contains(&host) => {
                format!("strongroom resize {name} +SIZE{options} makes it larger")
            }
            Self::Resize { options, .. } => {
                format!("unmount it, and strongroom resize {name} +SIZE{options} makes it larger")
            }
            Self::Device => {
                format!("where the device is larger, strongroom resize {name} max takes all of it")
            }
            Self::Copy => "to have more room, make a larger container and copy the files".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn room(total: u64, available: u64) -> Room {
        Room { total, available, has_no_nodes: false }
    }

    #[test]
    fn little_is_relative_and_more_counts_where_a_program_was_refused() {
        for (total, available, is_full, is_full_refused) in [
            (1 << 30, 0, true, true),
            (1 << 30, 5 << 20, true, true),
            (1 << 30, 6 << 20, false, true),
            (1 << 30, 52 << 20, false, false),
            (1 << 40, 64 << 20, true, true),
            (1 << 40, 65 << 20, false, true),
            (1 << 40, 1 << 30, false, true),
            (1 << 40, (1 << 30) + 1, false, false),
            (8 << 20, 0, false, true),
            (8 << 20, 1 << 20, false, false),
        ] {
            let room = room(total, available);
            assert_eq!((room.is_full(false), room.is_full(true)), (is_full, is_full_refused), "{room:?}");
        }
    }

    #[test]
    fn a_file_system_without_inodes_left_is_full_whatever_room_it_has() {
        let space = Space {
            unit: 4096,
            total: 1 << 20,
            free: 1 << 19,
            available: 1 << 19,
            nodes: 9,
            free_nodes: 0,
            name_max: 255,
        };
        assert!(Room::of(space).is_full(false));
        assert!(!Room::of(Space { free_nodes: 1, ..space }).is_full(false));
        assert!(!Room::of(Space { nodes: 0, ..space }).is_full(false));
    }

    #[test]
    fn a_command_that_is_told_can_be_pasted() {
        let container = Path::new("/home/a/my photos.hc");
        let told = |live: &[Host], host| {
            let remedy = Remedy::Resize { options: " --format veracrypt".to_owned(), live: live.to_vec() };
            remedy.told(container, host)
        };
        let command = "strongroom resize '/home/a/my photos.hc' +SIZE --format veracrypt makes it larger";
        for host in [Host::Kernel, Host::Server] {
            assert_eq!(told(&[Host::Server, host], host), command);
            assert_eq!(told(&[], host), format!("unmount it, and {command}"));
        }
        assert_eq!(told(&[Host::Kernel], Host::Other), format!("unmount it, and {command}"));
    }
}
