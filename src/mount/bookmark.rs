//! A bookmark in the file chooser of GTK, for as long as a volume is open.
//!
//! The file is the user's: a line is added at its end, and exactly that line is taken away again, whatever others made of the rest.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::session::Session;
use crate::{error::Result, text::in_one_line};

/// A line that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    #[serde(with = "crate::text::path")]
    file: PathBuf,
    line: String,
}

impl Bookmark {
    /// Adds a bookmark for the folder `place` to `file`. `None` where the user has one for it already: that stays his.
    ///
    /// # Errors
    /// `InvalidData` where the file is none of bookmarks; what the system gave.
    pub(super) fn add(file: &Path, place: &Path) -> io::Result<Option<Self>> {
        let address = address_of(place);
        // Where it is a link, to a folder of dotfiles say, that stays.
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
        let mut text = read(&file)?;
        if text.lines().any(|line| line.split(' ').next() == Some(&*address)) {
            return Ok(None);
        }
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let line = format!("{address} {}", in_one_line(&name));
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line);
        text.push('\n');
        write(&file, &text)?;
        Ok(Some(Self { file, line }))
    }

    /// Takes it away again. Where the user has changed or removed it, nothing is.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(super) fn remove(&self) -> io::Result<()> {
        let text = read(&self.file)?;
        let mut is_found = false;
        let is_kept = |line: &&str| {
            let is_ours = !is_found && line.trim_end_matches('\n') == self.line;
            is_found |= is_ours;
            !is_ours
        };
        let kept: String = text.split_inclusive('\n').filter(is_kept).collect();
        if is_found { write(&self.file, &kept) } else { Ok(()) }
    }
}

/// A bookmark that goes when this is dropped.
#[derive(Debug)]
pub(super) struct Kept(Bookmark);

impl Kept {
    /// Adds one for the volume of `session` to `file`, where that is named. Without it the volume is as good.
    ///
    /// # Errors
    /// That the session's record cannot be written.
    pub(super) fn put(file: Option<&Path>, session: &mut Session) -> Result<Option<Self>> {
        let Some(file) = file else { return Ok(None) };
        match Bookmark::add(file, session.record().place()) {
            Ok(bookmark) => {
                let kept = bookmark.clone().map(Self);
                session.note(|record| record.bookmark = bookmark)?;
                Ok(kept)
            }
            Err(error) => {
                session.warnings.push(format!("cannot add a bookmark to {}: {error}", file.display()));
                Ok(None)
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // One that leads nowhere is in nobody's way.
        let _ = self.0.remove();
    }
}

/// `file:///home/a/my%20vault`, by RFC 3986.
fn address_of(place: &Path) -> String {
    let escape = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
            char::from(*byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    let path: String = place.as_os_str().as_bytes().iter().map(escape).collect();
    format!("file://{path}")
}

fn read(file: &Path) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = match OpenOptions::new().read(true).custom_flags(flags).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    if !opened.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    opened.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).map_or(true, |len| len > MOST_BYTES) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(text)
}

/// Puts `text` in place of what the file holds, whole or not at all.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = folder.join(format!(".strongroom-{}.new", std::process::id()));
    let written = write_new(&new, file, text).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // Of what was never made nothing is left.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(new: &Path, file: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(file).map_or(0o600, |found| found.permissions().mode() & 0o777);
    // One that bears this name was left by a process that was killed.
    let _ = fs::remove_file(new);
    let mut written: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    written.write_all(text.as_bytes())?;
    written.set_permissions(Permissions::from_mode(mode))?;
    written.sync_all()
}

/// More than anybody has of bookmarks.
const MOST_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn exactly_the_line_that_was_added_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gtk-3.0/bookmarks");
        let place = Path::new("/home/a/my vault");
        let bookmark = Bookmark::add(&file, place).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "file:///home/a/my%20vault my vault\n");
        // What the user does meanwhile stays.
        fs::write(&file, "file:///z\nfile:///home/a/my%20vault my vault\nfile:///a A\n").unwrap();
        bookmark.remove().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "file:///z\nfile:///a A\n");
        bookmark.remove().unwrap();
        fs::write(&file, "file:///home/a/my%20vault Mine").unwrap();
        assert_eq!(Bookmark::add(&file, place).unwrap(), None);
        bookmark.remove().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "file:///home/a/my%20vault Mine");
        Bookmark::add(&file, Path::new("/b")).unwrap().unwrap().remove().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "file:///home/a/my%20vault Mine\n");
    }

    #[test]
    fn a_link_and_a_mode_stay_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("dotfile"), folder.path().join("bookmarks"));
        fs::write(&real, "").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o644)).unwrap();
        symlink(&real, &link).unwrap();
        let bookmark = Bookmark::add(&link, Path::new("/a\nb\u{fc}")).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "file:///a%0Ab%C3%BC a\\nb\u{fc}\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o644);
        bookmark.remove().unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_file_of_bookmarks_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Bookmark::add(folder.path(), Path::new("/a")).is_err());
        let binary = folder.path().join("binary");
        fs::write(&binary, [0xff; 9]).unwrap();
        assert_eq!(Bookmark::add(&binary, Path::new("/a")).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read(&binary).unwrap(), [0xff; 9]);
    }
}
