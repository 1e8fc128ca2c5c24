//! The container, lent to a command that changes its header or its size.

use std::os::unix::net::UnixStream;

use super::Server;
use crate::{
    error::{Error, ErrorKind, Result},
    mount::protocol::{self, Outcome},
    volume::LiveState,
};

impl Server {
    /// Lends the container, lock and all, until the other end closes the connection. Nothing here waits for that: where the
    /// volume is taken down meanwhile, the lock ends with the loan.
    pub(super) fn lend(&mut self, stream: &UnixStream) -> Result<()> {
        if self.container.is_read_only() {
            return Err(Error::new(ErrorKind::Busy, "it is mounted read-only").with_hint("unmount it first"));
        }
        if self.watch.is_lent() {
            return Err(lent_already());
        }
        if self.reencryption.status().state == LiveState::Running {
            return Err(Error::new(ErrorKind::Busy, "it is being re-encrypted")
                .with_hint("wait until it is done, or use strongroom reencrypt --stop"));
        }
        let borrower = stream.try_clone()?;
        self.files.lend();
        let sent = protocol::send(stream, &Outcome::Lent)
            .and_then(|()| protocol::send_container(stream, &self.container));
        if sent.is_err() {
            self.files.take_back();
        }
        sent?;
        self.watch.lend_to(borrower);
        Ok(())
    }
}

pub(super) fn lent_already() -> Error {
    Error::new(ErrorKind::Busy, "another command is changing the header").with_hint("try again")
}
