//! `resize`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{KeyslotOptions, UnlockOptions};
use crate::cli::size::{NewSize, parse_new_size};

#[derive(Debug, Args)]
pub(crate) struct ResizeOptions {
    /// The container, a file or a device, mounted or not
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) container: PathBuf,
    /// Its new size (20G or 20GiB is 20·2^30 bytes, 20GB is 20·10^9), also a smaller one; or by how much it grows (+5G), or max: all of
    /// the device, or nearly all of the free space beside the file
    #[arg(value_name = "SIZE|+SIZE|max", value_parser = parse_new_size)]
    pub(crate) size: NewSize,
    /// Leave the file system inside as it is
    #[arg(long)]
    pub(crate) container_only: bool,
    /// Grow over what lies behind the container, whatever that is
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  strongroom resize photos.vault 20G
  strongroom resize work.luks +5G
  strongroom resize photos.hc 20G --format veracrypt
  strongroom resize /dev/sdx1 max

An ext4 file system grows with its container, mounted by strongroom itself, by root or not at all;
while root has them mounted, so do XFS and btrfs. Mounted otherwise, the volume grows at once and
the file system once it is unmounted, by the same command. In containers of VeraCrypt and TrueCrypt,
where a hidden volume may lie in what is free, nothing is moved for that, and XFS and btrfs grow
only while they are mounted.

A native or LUKS file becomes smaller while it is not mounted, as far as the file system inside ends
before. Of ext4: mount --block, then e2fsck -f and resize2fs DIR/volume SIZE.
A folder of pieces gets another size while it is not mounted.";
