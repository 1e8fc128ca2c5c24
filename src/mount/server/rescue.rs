//! Copies of files that have lost their names, and of a folder of pieces, of what the server holds open.

use std::{
    ffi::OsString,
    fs::File,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use super::contact::Contact;
use crate::{
    error::{Error, ErrorKind, Result},
    mount::{
        protocol::{Failure, Outcome, Rescued, Save},
        rescued::{MOST_RESCUED, name_of_copy},
    },
    volume::{Container, HeldFolder, duplicate_to},
};

/// Copies that can be made: each of a file, in the first folder where that goes.
#[derive(Debug)]
pub(super) struct Rescue {
    pub(super) targets: Vec<LostFile>,
    /// A folder of pieces, instead.
    pub(super) folder: Option<LostFolder>,
}

/// A file to be copied.
#[derive(Debug)]
pub(super) struct LostFile {
    pub(super) file: File,
    /// The name that its user gave the copy.
    pub(super) wanted: Option<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
    pub(super) name: OsString,
}

impl Rescue {
    /// Makes them. Gives their names.
    ///
    /// # Errors
    /// What failed in the last folder; the copies before it stay.
    pub(super) fn make(&self) -> Result<Vec<PathBuf>> {
        if let Some(folder) = &self.folder {
            return Ok(vec![folder.copy()?]);
        }
        let copy = |LostFile { file, wanted, folders, name }: &LostFile| {
            if let Some(wanted) = wanted
                && duplicate_to(file, wanted, &mut |_, _| ControlFlow::Continue(())).is_ok()
            {
                return Ok(wanted.clone());
            }
            let mut result = Err(Error::new(ErrorKind::NoSpace, "there is no room for a copy"));
            for folder in folders {
                result = copy_beside(file, folder, name);
                if result.is_ok() {
                    break;
                }
            }
            result
        };
        self.targets.iter().map(copy).collect()
    }
}

/// The folder that something lies in, or of those above the first that is still there.
pub(super) fn standing(path: &Path) -> &Path {
    path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(path)
}

/// Copies `file` to `name.rescued` in `folder`, or to the first free name like that.
fn copy_beside(file: &File, folder: &Path, name: &OsString) -> Result<PathBuf> {
    for number in 1..=MOST_RESCUED {
        let target = folder.join(name_of_copy(name, number));
        match duplicate_to(file, &target, &mut |_, _| ControlFlow::Continue(())) {
            Err(error) if error.kind() == ErrorKind::Exists => {}
            Err(error) => return Err(error.during(format!("cannot write {}", target.display()))),
            Ok(()) => return Ok(target),
        }
    }
    Err(Error::new(
        ErrorKind::Exists,
        format!("there are already too many rescued copies in {}", folder.display()),
    ))
}

/// A folder that can be copied, and where.
#[derive(Debug)]
pub(super) struct LostFolder {
    held: HeldFolder,
    /// The names that are tried.
    targets: Vec<PathBuf>,
}

impl LostFolder {
    /// Where the folder with the header file `header` can be copied to: under the name that was asked for, else beside it, or in the
    /// user's home.
    ///
    /// # Errors
    /// `NoSpace` where there is no room.
    pub(super) fn find(held: HeldFolder, header: &Path, contact: &Contact) -> Result<Self> {
        let folder = header.parent().unwrap_or(header);
        let name = folder.file_name().unwrap_or_default();
        let has_room = |there: &Path| held.has_room_in(there).unwrap_or_default();
        let wanted = contact.wanted.clone().filter(|wanted| wanted.parent().is_some_and(has_room));
        let mut targets: Vec<_> = wanted.into_iter().collect();
        for there in std::iter::once(standing(folder)).chain(contact.home.as_deref()) {
            let free = (1..=MOST_RESCUED).map(|number| there.join(name_of_copy(name, number)));
            let free = free.into_iter().find(|target| target.symlink_metadata().is_err());
            targets.extend(free.filter(|_| has_room(there)));
        }
        if targets.is_empty() {
            let reason = format!("there is no room for a copy beside {}", folder.display());
            return Err(Error::new(ErrorKind::NoSpace, reason));
        }
        Ok(Self { held, targets })
    }

    /// Makes the copy. Gives its name.
    ///
    /// # Errors
    /// What failed at the last place.
    pub(super) fn copy(&self) -> Result<PathBuf> {
        let mut result = Err(Error::new(ErrorKind::NoSpace, "there is no room for a copy"));
        for target in &self.targets {
            let copied = self.held.duplicate_to(target);
            result = copied
                .map(|()| target.clone())
                .map_err(|error| error.during(format!("cannot write {}", target.display())));
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// Copies a folder of pieces, whose volume is down, for a command. Gives its answer.
pub(super) fn save_folder(container: &Container, save: &Save, lossy: Option<&Error>) -> Outcome {
    let (Some(held), Some(target)) = (HeldFolder::of(container), &save.target) else {
        return Outcome::Failed(Failure::from(&Error::new(ErrorKind::Usage, "there is no place for a copy")));
    };
    match held.duplicate_to(target) {
        Ok(()) => Outcome::Rescued(Rescued { copies: vec![target.clone()], lossy: lossy.map(Failure::from) }),
        Err(error) => {
            let reason = format!("cannot write {}: {}", target.display(), error.reason());
            let hint = "it is unmounted; where its pieces were lost it is still held: unmount it again with --save-as DIR";
            Outcome::Kept(Failure::from(&Error::new(error.kind(), reason).with_hint(hint)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_copy_that_fails_in_one_folder_goes_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let folders = vec!["/proc/self".into(), folder.path().to_path_buf()];
        let file = tempfile::tempfile().unwrap();
        let lost = LostFile { file, wanted: None, folders, name: "v".into() };
        let rescue = Rescue { targets: vec![lost], folder: None };
        assert_eq!(rescue.make().unwrap(), [folder.path().join("v.rescued")]);
    }

    #[test]
    fn a_rescued_copy_takes_the_next_free_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"ciphertext").unwrap();
        for expected in ["v.rescued", "v.rescued-2", "v.rescued-3"] {
            let copy = copy_beside(&file, folder.path(), &"v".into()).unwrap();
            assert_eq!(copy, folder.path().join(expected));
            assert_eq!(std::fs::read(copy).unwrap(), b"ciphertext");
        }
    }
}
