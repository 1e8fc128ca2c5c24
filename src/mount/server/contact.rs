//! Whom a server tells what cannot wait: the terminal from which the volume was mounted, and its user's desktop.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
};

use rustix::fs::OFlags;

use crate::{
    mount::{
        notices::{Notices, Topic, Urgency},
        protocol::{Order, Terminal},
        undo::Log,
    },
    text::in_one_line,
};

/// Whom to tell, and where a copy may go.
#[derive(Debug)]
pub(super) struct Contact {
    /// The terminal from which the volume was mounted.
    terminal: Option<Terminal>,
    /// The user's desktop.
    pub notices: Option<Arc<Notices>>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The name of the copy that a command asked for which the volume outlived.
    pub wanted: Option<PathBuf>,
}

impl Contact {
    /// Those whom the order names.
    pub(super) fn of(order: &Order) -> Self {
        let name = order.container.file_name().unwrap_or(order.container.as_os_str()).to_string_lossy();
        let notices = order.bus.clone().and_then(|bus| Notices::start(bus, &name)).map(Arc::new);
        Self { terminal: order.terminal.clone(), notices, home: order.home.clone(), wanted: None }
    }

    /// Warns whoever can be reached.
    pub(super) fn tell(&self, log: &Log, line: &str) {
        self.warn(log, line, Topic::Other);
    }

    /// Warns of a volume that is to close by itself.
    pub(super) fn tell_of_closing(&self, log: &Log, line: &str) {
        self.warn(log, line, Topic::Closing);
    }

    /// Tells what is no warning. It does not break into what is on a terminal.
    pub(super) fn inform(&self, log: &Log, line: &str) {
        log(line);
        self.show(line, Topic::Closing, Urgency::Low);
    }

    fn warn(&self, log: &Log, line: &str, topic: Topic) {
        log(line);
        if let Some(terminal) = &self.terminal {
            terminal.tell(line);
        }
        self.show(line, topic, Urgency::High);
    }

    fn show(&self, line: &str, topic: Topic, urgency: Urgency) {
        if let Some(notices) = &self.notices {
            notices.show(line, topic, urgency);
        }
    }
}

impl Terminal {
    /// Writes a line to the terminal from which the volume was mounted, if it still is its user's, and he lets himself be
    /// written to (`mesg y`).
    pub(super) fn tell(&self, line: &str) {
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
        let Ok(mut terminal) = OpenOptions::new().write(true).custom_flags(flags).open(&self.path) else {
            return;
        };
        let is_same = terminal.metadata().is_ok_and(|found| {
            found.file_type().is_char_device() && found.uid() == self.owner && found.mode() & 0o020 != 0
        });
        if is_same {
            // Nobody waits for a terminal that is stopped.
            let _ = write!(terminal, "\r\nstrongroom: warning: {}\r\n", in_one_line(line));
        }
    }
}
