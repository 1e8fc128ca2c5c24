//! Borrowing the container of a mounted volume from its server, which has the lock on it.

use std::{
    io,
    ops::Range,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    protocol::{self, Command, Outcome},
    registry::{Entry, Record, living},
    session::CONTROL,
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::socket::{connect, receive_descriptors},
    text::path::command_word,
    volume::Container,
};

/// The container of a mounted volume, open for writing under its server's lock.
///
/// The server goes on with the volume, and lends to nobody else before this is dropped. It is for the header: the data area
/// is the server's.
#[derive(Debug)]
pub struct Loan {
    container: Container,
    /// The server takes its end as the end of the loan.
    _connection: UnixStream,
}

impl Loan {
    /// The container.
    pub const fn container(&self) -> &Container {
        &self.container
    }

    /// Takes it for a container of the format of this name, whatever its bytes look like.
    ///
    /// # Errors
    /// `Unsupported` where there is none.
    pub fn assume_named(&mut self, name: &str) -> Result<()> {
        self.container.assume_named(name)
    }
}

/// Whether a volume of the caller's, by whose server the container at `path` is held, can lend it. False where none holds
/// it. For the time before a password is asked for; [`borrow`] looks again.
///
/// # Errors
/// `Busy` where it is mounted read-only, or another command has it.
pub fn can_borrow(path: &Path, section: Option<&Range<u64>>) -> Result<bool> {
    Ok(lender(path, section)?.is_some())
}

/// Borrows the container at `path` from the server of the mounted volume. `None` where none holds it, or not any more.
///
/// # Errors
/// `Busy` where it is mounted read-only, where another command has it, or while it is being re-encrypted.
pub fn borrow(path: &Path, section: Option<&Range<u64>>) -> Result<Option<Loan>> {
    let Some((directory, record)) = lender(path, section)? else { return Ok(None) };
    match ask(&directory.join(CONTROL), path, section) {
        Ok(Answer::Lent(loan)) => Ok(Some(loan)),
        Ok(Answer::Refused(error)) => Err(error),
        Err(_) if !record.is_alive() => Ok(None),
        Err(error) => {
            let reason = format!("the server of the mounted volume does not answer ({})", error.kind());
            Err(Error::new(ErrorKind::Busy, reason).with_hint("try again, or unmount it first"))
        }
    }
}

/// What a server says when it is asked.
enum Answer {
    Lent(Loan),
    Refused(Error),
}

fn ask(control: &Path, path: &Path, section: Option<&Range<u64>>) -> io::Result<Answer> {
    let connection = connect(control)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    protocol::send(&connection, &Command::Lend)?;
    match protocol::receive(&connection)? {
        Outcome::Lent => {}
        Outcome::Failed(failure) => return Ok(Answer::Refused(failure.into())),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    let container = protocol::opened(receive_descriptors(&connection)?, path, None, section.cloned());
    Ok(match container {
        Ok(container) => Answer::Lent(Loan { container, _connection: connection }),
        Err(error) => Answer::Refused(error),
    })
}

/// The living session that holds the container, this part of the file, and may lend it.
fn lender(path: &Path, section: Option<&Range<u64>>) -> Result<Option<(PathBuf, Record)>> {
    let Some((directory, record)) = living(path, section) else { return Ok(None) };
    if !record.ready {
        return Err(Error::new(ErrorKind::Busy, "another command is working on it").with_hint("try again"));
    }
    if record.entry.read_only {
        return Err(mounted_read_only(&record.entry));
    }
    Ok(Some((directory, record)))
}

fn mounted_read_only(entry: &Entry) -> Error {
    let place = entry.mountpoint.as_deref().or_else(|| entry.block.as_deref().and_then(Path::parent));
    let place = place.unwrap_or(&entry.container);
    Error::new(ErrorKind::Busy, format!("it is mounted read-only on {}", place.display()))
        .with_hint(format!("strongroom unmount {}", command_word(place)))
}

/// Longer than a server takes for another command that it has just begun.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
