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

impl AsFd for Writers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// Whether one of these events is a write of another process.
fn names_others(mut events: &[u8]) -> bool {
    let own = std::process::id();
    let mut others = false;
    while events.len() >= size_of::<libc::fanotify_event_metadata>() {
        // SAFETY: there are as many bytes, as was just seen, and every pattern of them is a valid value.
        let event = unsafe { events.as_ptr().cast::<libc::fanotify_event_metadata>().read_unaligned() };
        if event.fd >= 0 {
            // SAFETY: the kernel opened it for this event alone. It gives none for events that carry a file handle.
            drop(unsafe { OwnedFd::from_raw_fd(event.fd) });
        }
        // An overflow of the queue names nobody.
        others |= event.mask & libc::FAN_MODIFY != 0 && u32::try_from(event.pid).ok() != Some(own);
        let len = usize::try_from(event.event_len).unwrap_or_default();
        match events.get(len..) {
            Some(rest) if len > 0 => events = rest,
            _ => break,
        }
    }
    others
}

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
