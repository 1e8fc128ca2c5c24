//! The command's side of re-encrypting a volume that is mounted: its server has the container, and does the work.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    mountinfo::MountTable,
    protocol::{self, Command, Outcome, Reencrypt},
    registry::{named, sessions_anywhere},
    session::CONTROL,
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::socket::connect,
    volume::{LiveStatus, StartHeader, Work},
};

/// The re-encryption of a mounted volume, in the hands of its server.
#[derive(Debug)]
pub struct MountedReencryption {
    control: PathBuf,
}

impl MountedReencryption {
    /// That of the volume that `path` names: by container, mount point or block file. `None` where it is not mounted.
    pub fn of(path: &Path) -> Option<Self> {
        let all = sessions_anywhere().into_iter().filter_map(|session| {
            let record = session.record.clone().filter(|record| record.ready && record.is_alive())?;
            Some((session, record))
        });
        let (session, _) =
            named(all.collect(), path, &MountTable::read().unwrap_or_default()).into_iter().next()?;
        Some(Self { control: session.directory.join(CONTROL) })
    }

    /// Starts it with a header that was made for it.
    ///
    /// # Errors
    /// `Busy` where one is under way or the header has changed since, `Permission` where the volume is read-only.
    pub fn start(&self, header: &StartHeader, work: Work) -> Result<LiveStatus> {
        self.order(Reencrypt::Start(work), Some((header.as_bytes(), header.volume_key().expose())))
    }

    /// Goes on with one that rests. `key` is the volume key.
    ///
    /// # Errors
    /// `Busy` where it runs, `NotFound` where none is under way, `Permission` where the volume is read-only.
    pub fn resume(&self, key: &[u8], work: Work) -> Result<LiveStatus> {
        self.order(Reencrypt::Resume(work), Some((&[], key)))
    }

    /// Has it rest, and waits until it does.
    pub fn pause(&self) -> Result<LiveStatus> {
        self.order(Reencrypt::Pause, None)
    }

    /// How it is.
    pub fn status(&self) -> Result<LiveStatus> {
        self.order(Reencrypt::Status, None)
    }

    fn order(&self, order: Reencrypt, parts: Option<(&[u8], &[u8])>) -> Result<LiveStatus> {
        match self.ask(order, parts) {
            Ok(Outcome::Reencryption(status)) => Ok(status),
            Ok(Outcome::Failed(failure)) => Err(failure.into()),
            Ok(other) => Err(no_answer(&format!("{other:?}"))),
            Err(error) => Err(no_answer(&error.kind().to_string())),
        }
    }

    fn ask(&self, order: Reencrypt, parts: Option<(&[u8], &[u8])>) -> io::Result<Outcome> {
        let stream = connect(&self.control)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        protocol::send(&stream, &Command::Reencrypt(order))?;
        let answer = protocol::receive(&stream)?;
        match (answer, parts) {
            (Outcome::Proceed, Some((bytes, key))) => {
                protocol::send_with_key(&stream, bytes, key)?;
                protocol::receive(&stream)
            }
            (answer, _) => Ok(answer),
        }
    }
}

fn no_answer(what: &str) -> Error {
    Error::new(ErrorKind::Io, format!("the server of the volume does not answer ({what})"))
        .with_hint("strongroom list shows whether it is still mounted")
}

/// Longer than a medium takes for one chunk and the syncs around it.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
