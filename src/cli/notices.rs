//! Warnings that hold of this machine at every mount, and that a user reads once.
//!
//! Which were told is kept in `$XDG_STATE_HOME/strongroom/notices`, a line each. Nothing in it names a container.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use strongroom::text::in_one_line;

use super::{folders, output::Console};

/// Tells those of `notices` that this user was never told. JSON objects hold all of them, always.
pub(crate) fn tell_once(console: Console, notices: &[String]) {
    let file = told();
    let before = file.as_deref().map(read).unwrap_or_default();
    for notice in notices {
        let line = in_one_line(notice);
        if before.lines().any(|known| known == line) {
            console.warn_again(&line);
            continue;
        }
        // All of them tell of data that may be lost.
        console.alarm(&line);
        // Where it cannot be kept it is told again.
        let _ = file.as_deref().map(|file| remember(file, &line));
    }
}

/// Where it stands what was told; nowhere without a home.
fn told() -> Option<PathBuf> {
    Some(folders::of_user("XDG_STATE_HOME", ".local/state")?.join("strongroom/notices"))
}

/// What was told; nothing where that cannot be read, or is far too much.
fn read(file: &Path) -> String {
    let is_small = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST);
    is_small.then(|| fs::read_to_string(file).ok()).flatten().unwrap_or_default()
}

fn remember(file: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// Bytes that are looked at.
const MOST: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("state/strongroom/notices");
        assert_eq!(read(&file), "");
        remember(&file, "one").unwrap();
        remember(&file, "two").unwrap();
        assert_eq!(read(&file), "one\ntwo\n");
    }

    #[test]
    fn a_file_without_end_is_not_read() {
        assert_eq!(read(Path::new("/dev/zero")), "");
    }
}
