//! Has servers look what has become of their containers, for commands that tell of it.

use std::{
    io,
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    protocol::{self, Command, Outcome},
    registry::Record,
    session::CONTROL,
};
use crate::sys::socket::connect;

/// Has the servers of these sessions look, all at a time, and waits a moment for them. What is in their records is of now then, but
/// for those that have other things to do.
pub(super) fn have_looked<'a>(
    sessions: impl IntoIterator<Item = (&'a Path, &'a Record)>,
    interrupted: &AtomicBool,
) {
    let can_answer = |record: &Record| {
        let server = record.server;
        record.ready && record.is_alive() && !server.is_ending() && !server.is_stopped()
    };
    let sessions = sessions.into_iter().filter(|(_, record)| can_answer(record));
    let asked: Vec<_> = sessions.filter_map(|(directory, _)| ask(directory).ok()).collect();
    let deadline = Instant::now() + PATIENCE;
    for stream in asked {
        let is_behind = || {
            let _ = stream.set_read_timeout(Some(TICK));
            let answer = protocol::receive::<Outcome>(&stream);
            answer.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        while is_behind() && Instant::now() < deadline && !interrupted.load(Ordering::Relaxed) {}
    }
}

fn ask(directory: &Path) -> io::Result<UnixStream> {
    let stream = connect(&directory.join(CONTROL))?;
    stream.set_write_timeout(Some(TICK))?;
    protocol::send(&stream, &Command::Look)?;
    Ok(stream)
}

/// Longer than a server waits for its medium.
const PATIENCE: Duration = Duration::from_millis(2500);
const TICK: Duration = Duration::from_millis(100);
