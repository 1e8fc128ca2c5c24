//! Where `mount` and `open` mount: where they are told, or on a folder in the user's home that is made for it and goes with the volume.

use std::{
    ffi::OsStr,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use strongroom::{
    error::{Error, ErrorKind, Result},
    mount::{is_made_mountpoint, make_mountpoint, remove_made_mountpoint},
    sys::{process::is_root, user::caller_of_root},
};

use super::folders;

/// The folder to mount on.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    made: bool,
    is_named: bool,
}

impl Place {
    /// The folder that was asked for, or `~/NAME` for a container called NAME. One that is there already is taken as it is.
    ///
    /// # Errors
    /// `Usage` where there is no home, or no name.
    pub(crate) fn new(asked: Option<&Path>, container: &Path) -> Result<Self> {
        if let Some(path) = asked {
            return Ok(Self { path: path.to_path_buf(), made: false, is_named: true });
        }
        let (Some(home), Some(name)) = (folders::home(), container.file_stem()) else {
            return Err(Error::new(ErrorKind::Usage, "no mount point given, and no home to make one in")
                .with_hint("strongroom mount CONTAINER MOUNTPOINT"));
        };
        Ok(Self { is_named: false, ..Self::made(home.join(name)) })
    }

    /// The folder `path`, which was asked for, and is made where it is not there.
    pub(crate) fn made(path: PathBuf) -> Self {
        let made = !path.is_dir() || is_made_mountpoint(&path);
        Self { path, made, is_named: true }
    }

    /// `~/Vaults/NAME` for a container called NAME. Where one of `taken` is that, another vault bears the same name, and a number is
    /// added: `~/Vaults/NAME-2`.
    ///
    /// # Errors
    /// `Usage` where there is no home, no name, or root's home for somebody else; what making `~/Vaults` gave.
    pub(crate) fn among_vaults(container: &Path, taken: &[PathBuf]) -> Result<Self> {
        let (Some(vaults), Some(name)) = (folders::vaults(), container.file_stem()) else {
            return Err(Error::new(ErrorKind::Usage, "no directory given, and no home to make one in")
                .with_hint(ELSEWHERE));
        };
        let name = folder_name(name);
        if is_root() && caller_of_root().is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "only root can look into root's home: name a directory",
            )
            .with_hint("sudo strongroom open CONTAINER --at ~/DIR"));
        }
        if !vaults.is_dir() {
            let made = DirBuilder::new().mode(0o700).create(&vaults);
            made.map_err(|error| {
                let action = format!("cannot make the folder {}", vaults.display());
                Error::from(error).during(action).with_hint(ELSEWHERE)
            })?;
        }
        let numbered = |number: u32| vaults.join(format!("{name}-{number}"));
        let mut paths = std::iter::once(vaults.join(&name)).chain((2..).map(numbered));
        let free = paths.find(|path| !taken.contains(path)).unwrap_or(vaults);
        Ok(Self { is_named: false, ..Self::made(free) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is made for the mount.
    pub(crate) fn is_made(&self) -> bool {
        self.made
    }

    /// Whether the user asked for this one.
    pub(crate) fn is_named(&self) -> bool {
        self.is_named
    }

    /// Does `work` with the folder there. Where that fails it is taken away again.
    ///
    /// # Errors
    /// As [`make_mountpoint`], and what `work` gives.
    pub(crate) fn with<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.made {
            return work();
        }
        make_mountpoint(&self.path).map_err(|error| error.with_hint("name another directory"))?;
        work().inspect_err(|_| remove_made_mountpoint(&self.path))
    }

    /// Tries `work` with the folder there, and takes it away again: nothing has been asked yet.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub(crate) fn try_out(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.with(work)?;
        if self.made {
            remove_made_mountpoint(&self.path);
        }
        Ok(())
    }
}

/// A container's name as that of a folder which everybody can show and type: `_` stands for what nobody can.
fn folder_name(name: &OsStr) -> String {
    if name == "." {
        return "_".to_owned();
    }
    let name = name.to_string_lossy();
    name.chars().map(|c| if c.is_control() || c == char::REPLACEMENT_CHARACTER { '_' } else { c }).collect()
}

const ELSEWHERE: &str = "strongroom open CONTAINER --at DIR";

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_folder_bears_a_name_that_can_be_shown() {
        for (name, expected) in [
            (&b"photos"[..], "photos"),
            ("f\u{f6}tos 2".as_bytes(), "f\u{f6}tos 2"),
            (b"f\xf6tos", "f_tos"),
            (b"two\nlines\x1b[31m", "two_lines_[31m"),
            (b".", "_"),
            (b".hidden", ".hidden"),
        ] {
            assert_eq!(folder_name(OsStr::from_bytes(name)), expected);
        }
    }
}
