//! Keyfiles: what they add to a password, or what stands in its place.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{FrontEnd, Task, front::at};
use crate::{
    crypto::secret::{KeyfileDigest, Password},
    error::{Error, ErrorKind, Result},
    format::KeyfileRole,
    volume::{keyfile_digest, new_keyfile_digest, pool_keyfiles},
};

/// Whether they have been in use, or are to be from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A container that exists was made with them.
    Old,
    /// A new secret is made with them: they must not be empty.
    New,
}

/// Whether one of the keyfiles at `paths` is all that opens a container to which a keyfile is `role`.
pub fn is_all(role: KeyfileRole, paths: &[PathBuf]) -> bool {
    role == KeyfileRole::WholeSecret && !paths.is_empty()
}

/// The digests of the keyfiles, in the order given. One may be a pipe that has nothing to say, or never ends.
///
/// # Errors
/// `Usage`, naming the file; `Interrupted`.
pub fn digests(
    front: &dyn FrontEnd,
    role: KeyfileRole,
    paths: &[PathBuf],
    of: Use,
) -> Result<Vec<KeyfileDigest>> {
    let mut digests = Vec::new();
    for path in paths {
        let read = at(front, Task::Read(path), || match (role, of) {
            (KeyfileRole::Pool, _) => pool_keyfiles(path),
            (_, Use::Old) => keyfile_digest(path).map(|digest| vec![digest]),
            (_, Use::New) => new_keyfile_digest(path).map(|digest| vec![digest]),
        });
        digests.extend(read.map_err(|error| as_usage(error, cannot_read(path)))?);
    }
    Ok(digests)
}

/// The one keyfile that is the whole secret: every byte of it counts. `beside_password` where a password is named too.
///
/// # Errors
/// `Usage`; `Interrupted`.
pub fn whole(front: &dyn FrontEnd, paths: &[PathBuf], beside_password: bool) -> Result<Password> {
    let ([path], false) = (paths, beside_password) else {
        let reason = "this container is opened by one keyfile or by a password, not by both";
        return Err(Error::new(ErrorKind::Usage, reason).during("cannot take the keyfile"));
    };
    let read = at(front, Task::Read(path), || {
        let content = read_bytes(File::open(path)?, MAX_LEN + 1)?;
        if content.len() > MAX_LEN {
            return Err(Error::new(ErrorKind::Usage, "it is longer than 8 MiB"));
        }
        Ok(Password::copy_of(&content)?)
    });
    read.map_err(|error| as_usage(error, cannot_read(path)))
}

/// Reads to the end, or `most` bytes.
///
/// # Errors
/// What reading gave.
pub fn read_bytes(mut source: impl Read, most: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; most]);
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(len);
    Ok(buffer)
}

/// A source that the user named wrongly is wrong usage, whatever the system said about it.
pub fn as_usage(error: Error, action: String) -> Error {
    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::OutOfMemory) {
        return error;
    }
    let usage = Error::new(ErrorKind::Usage, error.reason()).during(action);
    match error.hint() {
        Some(hint) => usage.with_hint(hint),
        None => usage,
    }
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read keyfile {}", path.display())
}

/// The longest keyfile that can be a whole secret, in bytes; cryptsetup's limit.
const MAX_LEN: usize = 8 << 20;
