//! A shell on a terminal of its own: what a person sees, and types.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]
#![allow(dead_code, reason = "each crate of tests uses a part of it")]

use std::{process::Stdio, time::Duration};

use expectrl::{Eof, Expect, Regex, session::OsSession};

use crate::place::Place;

/// A shell on a terminal of its own, in a place.
pub(crate) struct Terminal {
    pub(crate) session: OsSession,
    pub(crate) place: Place,
    /// All that was shown so far.
    pub(crate) seen: String,
}

impl Terminal {
    /// Runs strongroom with `arguments`, then says its exit status and how the terminal was left.
    pub(crate) fn start(arguments: &str) -> Self {
        Self::start_in(Place::of_this_user(), arguments)
    }

    pub(crate) fn start_in(place: Place, arguments: &str) -> Self {
        // The shell outlives a Ctrl-C that the terminal sends to all of them. expectrl turns the echo off.
        Self::run(
            place,
            &format!("trap : INT; stty echo; ./strongroom {arguments}; echo \"status $?\"; stty -a"),
        )
    }

    /// Runs a shell script.
    pub(crate) fn run(place: Place, script: &str) -> Self {
        let mut command = place.command("/bin/sh");
        command.args(["-c", script]).env("TERM", "xterm").stdin(Stdio::inherit());
        let mut session = OsSession::spawn(command).unwrap();
        session.set_expect_timeout(Some(Duration::from_secs(120)));
        Self { session, place, seen: String::new() }
    }

    pub(crate) fn expect(&mut self, text: &str) {
        let found = self.session.expect(text).unwrap_or_else(|error| {
            panic!("{text:?} did not come ({error}) after {:?}", self.seen);
        });
        self.seen.push_str(&String::from_utf8_lossy(found.before()));
        self.seen.push_str(text);
    }

    /// Waits for the first text that the pattern matches, and gives it.
    pub(crate) fn expect_one_of(&mut self, pattern: &str) -> String {
        let found = self.session.expect(Regex(pattern)).unwrap_or_else(|error| {
            panic!("{pattern:?} did not come ({error}) after {:?}", self.seen);
        });
        let text = String::from_utf8_lossy(found.get(0).unwrap()).into_owned();
        self.seen.push_str(&String::from_utf8_lossy(found.before()));
        self.seen.push_str(&text);
        text
    }

    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        self.expect(question);
        self.session.send_line(answer).unwrap();
    }

    /// Waits for the end; gives all that was shown.
    pub(crate) fn end(mut self, status: i32) -> String {
        self.expect(&format!("status {status}\r\n"));
        let rest = self.session.expect(Eof).unwrap();
        let modes = String::from_utf8_lossy(rest.as_bytes()).into_owned();
        let modes: Vec<_> = modes.split_whitespace().collect();
        for mode in ["echo", "icanon", "isig"] {
            assert!(modes.contains(&mode), "{mode} is off");
        }
        self.seen
    }
}
