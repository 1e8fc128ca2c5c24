//! Loop devices: a file as a block device (`loop(4)`).

#![allow(unsafe_code, reason = "the loop driver's ioctls; each block states its invariant")]

use std::{
    ffi::c_void,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{OFlags, major, minor},
    io::Errno,
    ioctl::{Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl},
};

use super::mount_table::Line;

/// How a file becomes a loop device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopOptions {
    /// The logical sector size: 512 to 4096.
    pub sector_size: u32,
    /// Refuse writes.
    pub read_only: bool,
}

/// An attached loop device. It is freed by the kernel when its last user closes it (autoclear), also after a crash.
#[derive(Debug)]
pub struct LoopDevice {
    file: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches `backing` to a free loop device, with direct I/O where the file allows it.
    ///
    /// # Errors
    /// `NotFound` where the system has no loop devices, `PermissionDenied` for ordinary users.
    pub fn attach(backing: &File, options: LoopOptions) -> io::Result<Self> {
        let control = open_control()?;
        for _ in 0..ATTEMPTS {
            // SAFETY: the control device is open; the ioctl takes no argument.
            let number = unsafe { ioctl(&control, GetFree)? };
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let file = OpenOptions::new()
                .read(true)
                .write(!options.read_only)
                .custom_flags(OFlags::CLOEXEC.bits().cast_signed())
                .open(&path)?;
            match configure(&file, backing, options) {
                Ok(()) => return Ok(Self { file, path }),
                // Somebody else took it meanwhile.
                Err(Errno::BUSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Its name under `/dev`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the kernel kept direct I/O on: it drops it silently where the file does not allow it.
    pub fn has_direct_io(&self) -> io::Result<bool> {
        Ok(status(&self.file)?.flags & FLAG_DIRECT_IO != 0)
    }

    /// Lets go of the file. While something else still uses the device, the kernel does it at that one's end.
    pub fn detach(self) -> io::Result<()> {
        clear(&self.file)
    }
}

/// Whether a file system, or another block device, claims the device `path` for itself: wherever it is mounted, also in mount
/// namespaces that nobody here sees.
pub fn is_claimed(path: &Path) -> io::Result<bool> {
    let flags = (OFlags::EXCL | OFlags::CLOEXEC).bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(_) => Ok(false),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Brings to the device `path` what the file system on it holds in memory, wherever that is mounted. What could not be written is
/// not told.
pub fn flush(path: &Path) -> io::Result<()> {
    let device = File::open(path)?;
    // SAFETY: BLKFLSBUF takes no argument.
    let request = unsafe { NoArg::<BLKFLSBUF>::new() };
    // SAFETY: the device is open for the whole call.
    unsafe { ioctl(&device, request)? };
    Ok(())
}

/// Has the loop device `path` take the size that its file has by now. For root.
///
/// # Errors
/// What the loop driver gave.
pub fn follow_size(path: &Path) -> io::Result<()> {
    let device = File::open(path)?;
    // SAFETY: LOOP_SET_CAPACITY takes no argument.
    let request = unsafe { NoArg::<LOOP_SET_CAPACITY>::new() };
    // SAFETY: the device is open for the whole call.
    unsafe { ioctl(&device, request)? };
    Ok(())
}

/// Whether loop devices can be had here.
///
/// # Errors
/// As [`LoopDevice::attach`].
pub fn check() -> io::Result<()> {
    open_control().map(|_| ())
}

/// Opening it also loads the module, where that is a module.
fn open_control() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/loop-control")
}

/// Detaches the loop device `path`, but only while `backing` is what lies behind it.
///
/// True where it was detached (or will be, when its last user closes it).
pub fn detach_stale(path: &Path, backing: &Path) -> io::Result<bool> {
    if backing_file(path).as_deref() != Some(backing) {
        return Ok(false);
    }
    clear(&File::open(path)?)?;
    Ok(true)
}

/// The file behind the loop device `path`; `None` where it is free.
pub fn backing_file(path: &Path) -> Option<PathBuf> {
    let text =
        fs::read_to_string(Path::new("/sys/block").join(path.file_name()?).join("loop/backing_file")).ok()?;
    let text = text.trim_end_matches('\n');
    Some(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(text)))
}

/// All loop devices, free ones among them.
pub fn devices() -> impl Iterator<Item = PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices
        .filter(|device| device.file_name().as_encoded_bytes().starts_with(b"loop"))
        .map(|device| Path::new("/dev").join(device.file_name()))
}

/// Those that show the file with this device and inode number, as far as its name still leads to it.
pub fn devices_on_file(file: (u64, u64)) -> impl Iterator<Item = PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<_> = table.split(|&byte| byte == b'\n').filter_map(Line::parse).collect();
    devices().filter(move |device| {
        let backing = backing_file(device).filter(|backing| !is_served_elsewhere(&mounts, backing, file.0));
        let found = backing.and_then(|backing| fs::metadata(backing).ok());
        found.is_some_and(|found| (found.dev(), found.ino()) == file)
    })
}

/// Those that show the block device with this number.
pub fn devices_on_device(number: u64) -> impl Iterator<Item = PathBuf> {
    let is_it = move |path: &Path| {
        // Elsewhere a server might be asked.
        let found = fs::metadata(path).ok().filter(|_| path.starts_with("/dev"));
        found.is_some_and(|found| found.file_type().is_block_device() && found.rdev() == number)
    };
    devices().filter(move |device| backing_file(device).is_some_and(|backing| is_it(&backing)))
}

/// Whether the file at `path` lies in a FUSE mount other than the file system with the number `device`. Its server is not asked, as it
/// may not answer.
fn is_served_elsewhere(mounts: &[Line], path: &Path, device: u64) -> bool {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.place));
    // Of several in one place the last one shows.
    let mount = above.max_by_key(|mount| mount.place.components().count());
    mount
        .is_some_and(|mount| mount.kind.starts_with("fuse") && mount.device != (major(device), minor(device)))
}

/// The number of the file system that holds the file behind the loop device `path`, whatever that file is called by now. `None` where
/// it is free, or where the caller may not ask.
pub fn backing_device(path: &Path) -> Option<(u32, u32)> {
    let info = status(&File::open(path).ok()?).ok()?;
    Some((major(info.device), minor(info.device)))
}

/// Whether `file` is what lies behind an open loop device, or a partition of it; also where the kernel does not say so.
pub fn is_behind(device: &File, file: &fs::Metadata) -> bool {
    let Ok(info) = status(device) else { return true };
    let number = |device| (major(device), minor(device));
    (number(info.device), info.inode) == (number(file.dev()), file.ino())
}

fn status(device: &File) -> io::Result<LoopInfo> {
    // SAFETY: LOOP_GET_STATUS64 fills a `loop_info64`, which is what `LoopInfo` lays out.
    let getter = unsafe { Getter::<LOOP_GET_STATUS64, LoopInfo>::new() };
    // SAFETY: the device is open, and the getter holds room for the whole structure.
    Ok(unsafe { ioctl(device, getter)? })
}

fn configure(device: &File, backing: &File, options: LoopOptions) -> Result<(), Errno> {
    let mut flags = FLAG_AUTOCLEAR | FLAG_DIRECT_IO;
    if options.read_only {
        flags |= FLAG_READ_ONLY;
    }
    let descriptor = u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let info = LoopInfo { flags, ..LoopInfo::default() };
    let config = LoopConfig { descriptor, block_size: options.sector_size, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads a `loop_config`, which is what `LoopConfig` lays out.
    let setter = unsafe { Setter::<LOOP_CONFIGURE, LoopConfig>::new(config) };
    // SAFETY: both descriptors are open for the whole call.
    unsafe { ioctl(device, setter) }
}

fn clear(device: &File) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    let request = unsafe { NoArg::<LOOP_CLR_FD>::new() };
    // SAFETY: the device is open for the whole call.
    match unsafe { ioctl(device, request) } {
        // Free already: its last user has gone.
        Ok(()) | Err(Errno::NXIO) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Default for LoopInfo {
    fn default() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config` of `linux/loop.h` (Linux 5.8).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct LoopConfig {
    descriptor: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `LOOP_CTL_GET_FREE`: the number of a free device, made where there is none.
struct GetFree;

// SAFETY: the ioctl takes no argument, changes no memory of ours and returns the number.
unsafe impl Ioctl for GetFree {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(number: IoctlOutput, _: *mut c_void) -> rustix::io::Result<IoctlOutput> {
        Ok(number)
    }
}

const ATTEMPTS: u32 = 16;

// linux/fs.h
const BLKFLSBUF: Opcode = 0x1261;
// linux/loop.h
const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
const FLAG_READ_ONLY: u32 = 1;
const FLAG_AUTOCLEAR: u32 = 4;
const FLAG_DIRECT_IO: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn a_file_in_a_fuse_mount_is_asked_for_only_by_that_mounts_number() {
        let table = "21 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     36 21 0:44 / /run/s/block rw - fuse.s s rw\n\
                     37 21 0:45 / /data rw - fuse.sshfs h rw\n\
                     38 21 0:46 / /data rw - btrfs /dev/vdb rw";
        let mounts: Vec<_> = table.lines().filter_map(|line| Line::parse(line.as_bytes())).collect();
        let is_elsewhere = |path: &str, device| {
            is_served_elsewhere(&mounts, Path::new(path), rustix::fs::makedev(0, device))
        };
        assert!(is_elsewhere("/run/s/block/volume", 45) && !is_elsewhere("/run/s/block/volume", 44));
        // The files of btrfs have numbers that the table does not tell.
        assert!(!is_elsewhere("/data/x", 47) && !is_elsewhere("/home/x", 47));
    }

    #[test]
    fn a_name_that_is_no_loop_device_has_no_backing_file() {
        assert_eq!(backing_file(Path::new("/dev/no-such-loop")), None);
    }
}
