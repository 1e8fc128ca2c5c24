//! The server's side of `reencrypt`: the new key comes over the control socket, the work is done in a thread beside the
//! users of the volume.

use std::os::unix::net::UnixStream;

use crate::{
    error::{Error, ErrorKind, Result},
    mount::protocol::{self, Outcome, Reencrypt},
    sys::memory::LockedBytes,
    volume::{LiveReencryption, StartHeader},
};

/// Carries out one order.
///
/// # Errors
/// As [`LiveReencryption`]'s methods; `Io` where the new key does not come after all.
pub(super) fn obey(
    order: Reencrypt,
    reencryption: &LiveReencryption,
    stream: &UnixStream,
) -> Result<Outcome> {
    match order {
        Reencrypt::Start(work) => {
            let (header, key) = receive(stream)?;
            reencryption.start(&StartHeader::from_parts(&header, key.into())?, work)?;
        }
        Reencrypt::Resume(work) => {
            let (_, key) = receive(stream)?;
            reencryption.resume(Some(key.into()), work)?;
        }
        Reencrypt::Pause => reencryption.pause(),
        Reencrypt::Status => {}
    }
    Ok(Outcome::Reencryption(reencryption.status()))
}

/// Tells the other end that its key is awaited, and takes it with what comes before it.
fn receive(stream: &UnixStream) -> Result<(Vec<u8>, LockedBytes)> {
    protocol::send(stream, &Outcome::Proceed)
        .and_then(|()| protocol::receive_with_key(stream))
        .map_err(|error| Error::new(ErrorKind::Io, format!("the new key did not come: {error}")))
}
