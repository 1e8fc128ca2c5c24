//! The server's side of `resize` while the volume is mounted: the command has made the container larger, and brings the key.

use std::os::unix::net::UnixStream;

use super::Server;
use crate::{
    error::{Error, ErrorKind, Result},
    export::VOLUME_FILE,
    mount::{
        protocol::{self, Outcome},
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
