//! Whether other processes write to a file: fanotify(7) tells the process with each write.
//!
//! The owner of a file may watch it without any right (since Linux 5.13). The kernel then hides who wrote, but for the one
//! fact that is needed here: that it was the watching process itself.

#![allow(unsafe_code, reason = "events are bytes; each block states its invariant")]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

use super::fanotify;

/// Tells of writes to one file: `write(2)` and its kin, truncation, `fallocate(2)`. Not of those through a mapping.
#[derive(Debug)]
pub struct Writers {
    events: OwnedFd,
}

impl Writers {
    /// Watches `file` from now on.
    ///
    /// # Errors
    /// `ENOSYS`, `EPERM` where the kernel does not let this user; `ENODEV`, `EXDEV`, `EOPNOTSUPP` where the file system knows no
    /// file handles, as FUSE does not.
    pub fn watch(file: &File) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(Self { events: fanotify::watch(Path::new(&path), 0, libc::FAN_MODIFY)? })
    }

    /// Whether another process has written since the last call. Does not wait.
    ///
    /// Writes of this process wake whoever polls, too; the kernel joins them into one event until this is called.
    pub fn have_others_written(&self) -> bool {
        let mut others = false;
        fanotify::take(&self.events, |events| others |= names_others(events));
        others
    }
}

/// Tells of writes to the files in one folder.
#[derive(Debug)]
pub struct FolderWriters {
    events: OwnedFd,
}

impl FolderWriters {
    /// Watches the files in `folder`, which is open, from now on.
    ///
    /// # Errors
    /// As [`Writers::watch`].
    pub fn watch(folder: BorrowedFd<'_>) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        Ok(Self { events: fanotify::watch_in(Path::new(&path), libc::FAN_MODIFY)? })
    }

    /// Calls `tell` with the name of each file that another process has written to since the last call; `None` for one that the kernel
    /// does not name. Does not wait.
    pub fn each_written_by_others(&self, mut tell: impl FnMut(Option<&[u8]>)) {
        fanotify::take(&self.events, |events| {
            each_event(events, &mut |event| {
                if event.is_of_others() {
                    tell(event.name());
                }
            });
        });
    }
}

impl AsFd for FolderWriters {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl AsFd for Writers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// Whether one of these events is a write of another process.
fn names_others(events: &[u8]) -> bool {
    let mut others = false;
    each_event(events, &mut |event| others |= event.is_of_others());
    others
}

/// One event, and what the kernel says besides.
struct Event<'a> {
    head: libc::fanotify_event_metadata,
    /// Records of a kind (8 bits), a spare byte and a length (16 bits), each with what is in it.
    rest: &'a [u8],
}

impl<'a> Event<'a> {
    /// Whether it is a write of another process.
    fn is_of_others(&self) -> bool {
        // An overflow of the queue names nobody.
        self.head.mask & libc::FAN_MODIFY != 0
            && u32::try_from(self.head.pid).ok() != Some(std::process::id())
    }

    /// The name of the file in its folder, where it is told.
    #[allow(clippy::host_endian_bytes, reason = "the kernel of this machine wrote them")]
    fn name(&self) -> Option<&'a [u8]> {
        let mut rest = self.rest;
        while let &[kind, _, low, high, ..] = rest {
            let len = usize::from(u16::from_ne_bytes([low, high]));
            let record = rest.get(..len).filter(|record| record.len() >= HANDLE)?;
            if kind == libc::FAN_EVENT_INFO_TYPE_DFID_NAME {
                // The number of the file system, and the length and the kind of a handle, the handle, the name up to its NUL.
                let handle = record.get(12..16)?.try_into().ok().map(u32::from_ne_bytes)?;
                let name = record.get(HANDLE.checked_add(usize::try_from(handle).ok()?)?..)?;
                return name.split(|&byte| byte == 0).next();
            }
            rest = rest.get(len..)?;
        }
        None
    }
}

fn each_event(mut events: &[u8], tell: &mut dyn FnMut(&Event<'_>)) {
    const HEAD: usize = size_of::<libc::fanotify_event_metadata>();
    while events.len() >= HEAD {
        // SAFETY: there are as many bytes, as was just seen, and every pattern of them is a valid value.
        let head = unsafe { events.as_ptr().cast::<libc::fanotify_event_metadata>().read_unaligned() };
        if head.fd >= 0 {
            // SAFETY: the kernel opened it for this event alone. It gives none for events that carry a file handle.
            drop(unsafe { OwnedFd::from_raw_fd(head.fd) });
        }
        let len = usize::try_from(head.event_len).unwrap_or_default();
        tell(&Event { head, rest: events.get(HEAD..len).unwrap_or_default() });
        match events.get(len..) {
            Some(rest) if len > 0 => events = rest,
            _ => break,
        }
    }
}

/// Where the handle stands in a record: behind its head, the number of the file system, and the head of the handle.
const HANDLE: usize = 20;

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::Path, process::Command};

    use super::*;

    fn watched() -> Option<(tempfile::NamedTempFile, Writers)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        match Writers::watch(file.as_file()) {
            Ok(writers) => Some((file, writers)),
            Err(error) => {
                assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none(), "{error}");
                eprintln!("skipped: no fanotify here: {error}");
                None
            }
        }
    }

    fn run(script: &str, file: &Path) {
        let done = Command::new("/bin/sh").arg("-c").arg(script).arg("sh").arg(file).status().unwrap();
        assert!(done.success(), "{script}");
    }

    #[test]
    fn writes_of_this_process_are_nobody_elses() {
        let Some((mut file, writers)) = watched() else { return };
        for _ in 0..1000 {
            file.write_all(b"own").unwrap();
        }
        file.as_file().set_len(10).unwrap();
        fs::write(file.path(), "own as well").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| fs::write(file.path(), "of another thread").unwrap());
        });
        assert!(!writers.have_others_written());
    }

    #[test]
    fn each_way_to_write_from_another_process_is_noticed_once() {
        let Some((mut file, writers)) = watched() else { return };
        for script in [
            r#"printf x | dd of="$1" conv=notrunc status=none"#,
            r#": > "$1""#,
            r#"printf x >> "$1""#,
            r#"truncate -s 8192 "$1""#,
            r#"cp /etc/passwd "$1""#,
        ] {
            file.write_all(b"own before").unwrap();
            run(script, file.path());
            file.write_all(b"own after").unwrap();
            assert!(writers.have_others_written(), "{script}");
            assert!(!writers.have_others_written(), "{script}");
        }
    }

    #[test]
    fn writes_to_the_files_of_a_folder_are_told_by_name_and_own_ones_not() {
        let folder = tempfile::tempdir().unwrap();
        let open = File::open(folder.path()).unwrap();
        let Ok(writers) = FolderWriters::watch(open.as_fd()) else {
            assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none(), "writers do not show here");
            return;
        };
        fs::write(folder.path().join("00000001"), "own").unwrap();
        run(
            r#"printf x >> "$1/00000002"; truncate -s 9 "$1/3"; cat "$1/00000001" > /dev/null"#,
            folder.path(),
        );
        fs::write(folder.path().join("00000002"), "own").unwrap();
        let mut told = Vec::new();
        writers.each_written_by_others(|name| told.push(name.map(<[u8]>::to_vec)));
        assert_eq!(told, [Some(b"00000002".to_vec()), Some(b"3".to_vec())]);
        writers.each_written_by_others(|name| panic!("{name:?}"));
    }

    #[test]
    fn who_reads_or_touches_a_file_does_not_write_to_it() {
        let Some((file, writers)) = watched() else { return };
        run(
            r#"cat "$1" > /dev/null; touch "$1"; chmod 640 "$1"; cp "$1" "$1.copy"; rm "$1.copy"; ln "$1" "$1.l""#,
            file.path(),
        );
        run(r#"exec 3<>"$1"; exec 3>&-; mv "$1.l" "$1.m"; rm "$1.m""#, file.path());
        assert!(!writers.have_others_written());
    }
}
