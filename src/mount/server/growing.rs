//! The server's side of `resize` while the volume is mounted: the command has made the container larger, and brings the key.

use std::{
    os::unix::net::UnixStream,
    sync::{Arc, Weak, atomic::Ordering},
    thread,
};

use super::{Server, events::has_gone};
use crate::{
    error::{Error, ErrorKind, Result},
    export::VOLUME_FILE,
    filesystem::{Fault, FileSystem, Ungrown},
    mount::{
        protocol::{self, Failure, Outcome},
        session::Session,
    },
    sys::{loopdev, memory::LockedBytes},
};

impl Server {
    /// Shows the volume as large as its header says by now, to whatever is above it.
    ///
    /// # Errors
    /// `Unsupported` where this volume cannot grow while it is mounted; what reading the header gave. It has its old size then.
    pub(super) fn grow(&self, stream: &UnixStream) -> Result<Outcome> {
        let cannot = || {
            Error::new(ErrorKind::Unsupported, "this volume cannot grow while it is mounted")
                .with_hint("unmount it; the same command ends it then")
        };
        let live = self.live.as_ref().ok_or_else(cannot)?;
        let key = receive(stream)?;
        let unlocked = self.container.header()?.unlock_with_key(key.into())?;
        let size = live.grow(unlocked.layout)?;
        let is_seen = match show(&self.session) {
            Ok(is_seen) => is_seen,
            Err(error) => {
                (self.log)(&format!("what the driver sees keeps its old size: {}", error.reason()));
                false
            }
        };
        Ok(Outcome::Grown { size, is_seen })
    }

    /// Makes the file system that is served here as large as the volume, beside everything else, and answers then. Whoever asked and
    /// waits no longer has stopped it, as the server's end does.
    pub(super) fn grow_files(&self, stream: UnixStream) {
        let Some(files) = self.session.files.as_ref().and_then(Weak::upgrade) else {
            let none = Error::new(ErrorKind::Unsupported, "the server has no file system of its own");
            let _ = protocol::send(&stream, &Outcome::Failed(Failure::from(&none)));
            return;
        };
        let (stop, log) = (Arc::clone(self.session.stop()), Arc::clone(&self.log));
        let work = move || {
            let grown = files.grow(&|| stop.load(Ordering::Relaxed) || has_gone(&stream));
            let answer = answer(&*files, grown);
            drop(files);
            let outcome = answer.unwrap_or_else(|error| {
                log(&format!("the file system did not become as large as the volume: {}", error.reason()));
                Outcome::Failed(Failure::from(&error))
            });
            // Whoever asked may have gone.
            let _ = protocol::send(&stream, &outcome);
        };
        // Where there can be no thread, the connection's end tells.
        let _refused = thread::Builder::new().name("growth".to_owned()).spawn(work);
    }
}

fn answer(files: &dyn FileSystem, grown: std::result::Result<(), Ungrown>) -> Result<Outcome> {
    let filesystem = files.name().to_owned();
    match grown {
        Ok(()) => Ok(Outcome::FilesGrown { filesystem, left: None }),
        Err(Ungrown::Unfit(why)) => Ok(Outcome::FilesGrown { filesystem, left: Some(why.to_owned()) }),
        Err(Ungrown::Fault(Fault::Unsupported)) => {
            Ok(Outcome::FilesGrown { filesystem, left: Some(String::new()) })
        }
        Err(Ungrown::Interrupted) => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
        Err(Ungrown::Fault(fault)) => Err(Error::new(ErrorKind::Io, fault.to_string())),
    }
}

/// Gives the block file, and the loop device of our own on it, the new size. Says whether there was any.
fn show(session: &Session) -> Result<bool> {
    let record = session.record();
    let Some(block) = &session.block else { return Ok(false) };
    block.follow(&record.block_directory.join(VOLUME_FILE))?;
    let Some(device) = &record.loop_device else { return Ok(true) };
    loopdev::follow_size(device)?;
    Ok(true)
}

/// Tells the other end that its key is awaited, and takes it.
fn receive(stream: &UnixStream) -> Result<LockedBytes> {
    protocol::send(stream, &Outcome::Proceed)
        .and_then(|()| protocol::receive_with_key(stream))
        .map(|(_, key)| key)
        .map_err(|error| Error::new(ErrorKind::Io, format!("the key did not come: {error}")))
}
