//! Block devices: containers on them, found by what their headers say (`UUID=...` and `LABEL=...` in a path's place), and what they are.

use std::{
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::Container;
use crate::{
    error::{Error, ErrorKind, Result},
    storage::{disk_of, folder_of},
    text::{excerpt, in_one_line},
};

/// What a container on a device is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceName {
    /// Its UUID, in any case.
    Uuid(String),
    /// Its label.
    Label(String),
}

impl DeviceName {
    /// What a user gave in a path's place. `None` for a path, and where a file is really called so.
    pub fn of(path: &Path) -> Option<Self> {
        let (kind, value) = path.to_str()?.split_once('=')?;
        let name = match kind {
            "UUID" => Self::Uuid(value.to_owned()),
            "LABEL" => Self::Label(value.to_owned()),
            _ => return None,
        };
        (!value.is_empty() && path.symlink_metadata().is_err()).then_some(name)
    }

    /// The block device whose container is called so.
    ///
    /// # Errors
    /// `NotFound` where none is, as far as the devices can be read; `Usage` where several are.
    pub fn find(&self) -> Result<PathBuf> {
        self.find_among(devices()?)
    }

    fn find_among(&self, devices: impl IntoIterator<Item = PathBuf>) -> Result<PathBuf> {
        let (mut found, mut unread) = (Vec::new(), 0_u32);
        for device in devices {
            match self.is_on(&device) {
                Ok(true) => found.push(device),
                Err(error) if error.kind() == ErrorKind::Permission => unread += 1,
                // Another container's damage, a drive without a medium.
                Ok(false) | Err(_) => {}
            }
        }
        let cannot = format!("cannot find {self}");
        match (&found[..], unread) {
            ([device], _) => Ok(device.clone()),
            ([], 0) => {
                Err(Error::new(ErrorKind::NotFound, "no device holds such a container").during(cannot))
            }
            ([], _) => {
                let reason = "no device that you may read holds such a container";
                Err(Error::new(ErrorKind::NotFound, reason)
                    .with_hint("devices are read as root: use sudo, or name the device")
                    .during(cannot))
            }
            (several, _) => {
                let names: Vec<_> = several.iter().map(|device| device.display().to_string()).collect();
                let reason = format!("several devices are called so: {}", names.join(", "));
                Err(Error::new(ErrorKind::Usage, reason).with_hint("name the device").during(cannot))
            }
        }
    }

    fn is_on(&self, device: &Path) -> Result<bool> {
        let info = Container::peek(device)?.header()?.describe();
        Ok(match self {
            Self::Uuid(wanted) => info.uuid.is_some_and(|uuid| uuid.eq_ignore_ascii_case(wanted)),
            Self::Label(wanted) => info.label.as_ref() == Some(wanted),
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = match self {
            Self::Uuid(value) => ("UUID", value),
            Self::Label(value) => ("LABEL", value),
        };
        write!(f, "{kind}={}", in_one_line(value))
    }
}

/// What a device is, as the kernel tells: its vendor and model, or the file behind a loop device. `None` where it does not tell.
pub fn device_kind(path: &Path) -> Option<String> {
    let number = fs::metadata(path).ok().filter(|found| found.file_type().is_block_device())?.rdev();
    let folder = folder_of(number).ok()?;
    let (part, disk) = disk_of(&folder).map_or(("", &*folder), |disk| ("a partition of ", disk));
    let read = |name: &str| fs::read_to_string(disk.join(name)).ok().map(|text| excerpt(text.trim()));
    let words: Vec<_> = ["device/vendor", "device/model"].into_iter().filter_map(read).collect();
    let model = words.join(" ");
    let kind =
        if model.is_empty() { format!("a loop device of {}", read("loop/backing_file")?) } else { model };
    Some(format!("{part}{kind}"))
}

/// Every block device that has a medium, by the kernel's list.
fn devices() -> io::Result<Vec<PathBuf>> {
    let mut devices = Vec::new();
    for entry in fs::read_dir("/sys/class/block")? {
        let entry = entry?;
        let size = fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        if size.trim().parse::<u64>().is_ok_and(|sectors| sectors > 0) {
            // The kernel writes a folder's slash as an exclamation mark.
            devices.push(Path::new("/dev").join(entry.file_name().to_string_lossy().replace('!', "/")));
        }
    }
    devices.sort();
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(name: &str, folder: &Path) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/native").join(name);
        let copy = folder.join(name);
        fs::copy(source, &copy).unwrap();
        copy
    }

    #[test]
    fn only_what_no_file_is_called_is_a_name() {
        let uuid = DeviceName::of(Path::new("UUID=ab-cd"));
        assert_eq!(uuid, Some(DeviceName::Uuid("ab-cd".into())));
        assert_eq!(DeviceName::of(Path::new("LABEL=my stick")), Some(DeviceName::Label("my stick".into())));
        for path in ["UUID=", "uuid=ab", "/dev/sda", "a=b", "./LABEL"] {
            assert_eq!(DeviceName::of(Path::new(path)), None, "{path}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LABEL=x");
        fs::write(&path, b"").unwrap();
        assert_eq!(DeviceName::of(&path), None);
    }

    #[test]
    fn one_container_is_found_and_of_two_none_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let first = vector("password.img", folder.path());
        let other = vector("keyfiles.img", folder.path());
        let empty = folder.path().join("empty");
        fs::write(&empty, b"").unwrap();
        let info = |path: &Path| Container::peek(path).unwrap().header().unwrap().describe();
        let uuid = info(&first).uuid.unwrap();
        let by_uuid = DeviceName::Uuid(uuid.to_uppercase());
        let all = || [empty.clone(), first.clone(), other.clone()];
        assert_eq!(by_uuid.find_among(all()).unwrap(), first);
        let copy = folder.path().join("copy");
        fs::copy(&first, &copy).unwrap();
        let two = by_uuid.find_among([first.clone(), copy]).unwrap_err();
        assert!(two.kind() == ErrorKind::Usage && two.reason().contains("copy"), "{two}");
        let none = DeviceName::Label("nobody\n".into()).find_among(all()).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
        assert!(!none.to_string().contains('\n'), "{none}");
    }
}
