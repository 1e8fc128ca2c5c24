//! A shell on a terminal of its own: what a person sees, and types.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]
#![allow(dead_code, reason = "each crate of tests uses a part of it")]

use std::{process::Stdio, time::Duration};

use expectrl::{Eof, Expect, NBytes, session::OsSession};

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

    /// Waits until `is_one` of what the present line shows so far, with its end where that came, and gives the line.
    pub(crate) fn expect_line(&mut self, is_one: impl Fn(&str) -> bool) -> String {
        let mut line = Vec::new();
        loop {
            // Byte by byte: nothing that comes after the line is taken as seen.
            let found = self.session.expect(NBytes(1)).unwrap_or_else(|error| {
                panic!("nothing more came ({error}) after {:?}", self.seen);
            });
            line.extend_from_slice(found.get(0).unwrap());
            let shown = String::from_utf8_lossy(&line);
            let has_come = is_one(&shown);
            if has_come || line.ends_with(b"\n") {
                self.seen.push_str(&shown);
                if has_come {
                    return shown.into_owned();
                }
                line.clear();
            }
        }
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
