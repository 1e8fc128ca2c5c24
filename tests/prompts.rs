//! Prompts on a real terminal: no echo, both answers compared, and Ctrl-C leaves the terminal and the disk as they were.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use expectrl::{Eof, Expect, session::OsSession};
use tempfile::TempDir;

const STRONGROOM: &str = env!("CARGO_BIN_EXE_strongroom");
const PASSWORD: &str = "correct horse battery staple";
const CHEAP: &str = "--filesystem none --provision thin --kdf-memory 64M --kdf-passes 3 --kdf-lanes 1";
const CTRL_C: &str = "\x03";

/// A shell on a terminal of its own, in an empty directory.
struct Terminal {
    session: OsSession,
    directory: TempDir,
    seen: String,
}

impl Terminal {
    /// Runs strongroom with `arguments`, then says its exit status and how the terminal was left.
    fn start(arguments: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_in(directory: TempDir, arguments: &str) -> Self {
        // The shell outlives a Ctrl-C that the terminal sends to all of them. expectrl turns the echo off.
        let script =
            format!("trap : INT; stty echo; '{STRONGROOM}' {arguments}; echo \"status $?\"; stty -a");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).current_dir(directory.path()).env("TERM", "xterm");
        let mut session = OsSession::spawn(command).unwrap();
        session.set_expect_timeout(Some(Duration::from_secs(30)));
        Self { session, directory, seen: String::new() }
    }

    fn expect(&mut self, text: &str) {
        let found = self.session.expect(text).unwrap_or_else(|error| {
            panic!("{text:?} did not come ({error}) after {:?}", self.seen);
        });
        self.seen.push_str(&String::from_utf8_lossy(found.before()));
        self.seen.push_str(text);
    }

    fn answer(&mut self, question: &str, answer: &str) {
        self.expect(question);
        self.session.send_line(answer).unwrap();
    }

    /// Waits for the end; gives all that was shown.
    fn end(mut self, status: i32) -> String {
        self.expect(&format!("status {status}\r\n"));
        let rest = self.session.expect(Eof).unwrap();
        let modes = String::from_utf8_lossy(rest.as_bytes()).into_owned();
        let modes: Vec<_> = modes.split_whitespace().collect();
        for mode in ["echo", "icanon", "isig"] {
            assert!(modes.contains(&mode), "{mode} is off");
        }
        self.seen
    }

    fn files(&self) -> Vec<String> {
        names_in(self.directory.path())
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Where the container `whole` is that [`PASSWORD`] opens.
fn with_container() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let vector = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/native/password.img");
    fs::copy(vector, directory.path().join("whole")).unwrap();
    directory
}

#[test]
fn create_asks_twice_and_shows_neither_answer() {
    let mut terminal = Terminal::start(&format!("create new --size 4M {CHEAP}"));
    terminal.answer("New password for new: ", PASSWORD);
    terminal.answer("The same again: ", PASSWORD);
    terminal.expect("created new");
    assert_eq!(terminal.files(), ["new"]);
    let seen = terminal.end(0);
    assert!(!seen.contains("horse"), "{seen}");
}

#[test]
fn a_password_that_is_typed_ahead_shows_neither() {
    let mut terminal = Terminal::start(&format!("create new --size 4M {CHEAP}"));
    terminal.answer("New password for new: ", &format!("{PASSWORD}\n{PASSWORD}"));
    terminal.expect("created new");
    let seen = terminal.end(0);
    assert!(!seen.contains("horse"), "{seen}");
}

#[test]
fn answers_that_differ_make_nothing() {
    let mut terminal = Terminal::start(&format!("create new --size 4M {CHEAP}"));
    terminal.answer("New password for new: ", PASSWORD);
    terminal.answer("The same again: ", "correct horse battery stable");
    terminal.expect("strongroom: error: cannot take the password: the two differ\r\n");
    assert!(terminal.files().is_empty());
    terminal.end(1);
}

#[test]
fn an_empty_password_is_refused() {
    let mut terminal = Terminal::start(&format!("create new --size 4M {CHEAP}"));
    terminal.answer("New password for new: ", "");
    terminal.expect("strongroom: error: cannot take the password: nothing was entered\r\n");
    assert!(terminal.files().is_empty());
    terminal.end(1);
}

#[test]
fn a_weak_password_gets_one_line() {
    let mut terminal = Terminal::start(&format!("create new --size 4M {CHEAP}"));
    terminal.answer("New password for new: ", "password");
    terminal.answer("The same again: ", "password");
    terminal.expect("strongroom: warning: this password is weak: this is a top-10 common password\r\n");
    terminal.expect("created new");
    terminal.end(0);
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let mut terminal = Terminal::start_in(with_container(), "key test whole");
    terminal.expect("Password for whole: ");
    terminal.session.send(&b"caf\xff\n"[..]).unwrap();
    terminal.expect(
        "strongroom: error: cannot take the password: the terminal sent bytes that are not UTF-8\r\n",
    );
    terminal.end(1);
}

#[test]
fn ctrl_c_at_the_first_prompt_leaves_nothing() {
    let mut terminal = Terminal::start(&format!("create new --size 4M {CHEAP}"));
    terminal.expect("New password for new: ");
    terminal.session.send(CTRL_C).unwrap();
    terminal.expect("strongroom: error: interrupted\r\n");
    assert!(terminal.files().is_empty());
    terminal.end(130);
}

#[test]
fn ctrl_c_at_the_second_prompt_leaves_nothing() {
    let mut terminal = Terminal::start(&format!("create new --size 4M {CHEAP}"));
    terminal.answer("New password for new: ", PASSWORD);
    terminal.expect("The same again: ");
    terminal.session.send("correct").unwrap();
    terminal.session.send(CTRL_C).unwrap();
    terminal.expect("strongroom: error: interrupted\r\n");
    assert!(terminal.files().is_empty());
    let seen = terminal.end(130);
    assert!(!seen.contains("correct"), "{seen}");
}

#[test]
fn ctrl_c_while_deriving_the_key_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("password"), PASSWORD).unwrap();
    let costly = "--kdf-memory 256M --kdf-passes 64 --kdf-lanes 1";
    let arguments = format!("--verbose create new --size 4M {costly} --password-file password");
    let mut terminal = Terminal::start_in(directory, &arguments);
    terminal.expect("strongroom: keyslot 0 costs 256 MiB of memory, 64 passes, 1 lane\r\n");
    terminal.session.send(CTRL_C).unwrap();
    // Not `cannot create new`: the derivation did not come to its end.
    terminal.expect("strongroom: error: interrupted\r\n");
    assert_eq!(terminal.files(), ["password"]);
    terminal.end(130);
}

#[test]
fn ctrl_c_while_filling_leaves_nothing() {
    let arguments = "create new --size 2G --filesystem none --kdf-memory 64M --kdf-passes 3 --kdf-lanes 1";
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("password"), PASSWORD).unwrap();
    let mut terminal = Terminal::start_in(directory, &format!("{arguments} --password-file password"));
    terminal.expect("filling");
    terminal.session.send(CTRL_C).unwrap();
    terminal.expect("strongroom: error: cannot create new: interrupted\r\n");
    assert_eq!(terminal.files(), ["password"]);
    terminal.end(130);
}

#[test]
fn sigterm_at_a_prompt_leaves_the_terminal_sane() {
    let directory = with_container();
    let script = format!("timeout --foreground -s TERM 1 '{STRONGROOM}' key test whole");
    let mut terminal = Terminal::start_in(directory, &format!("--version; {script}"));
    terminal.expect("Password for whole: ");
    terminal.expect("strongroom: error: interrupted\r\n");
    // What timeout(1) says of a command that it had to end.
    terminal.end(124);
}

#[test]
fn a_wrong_password_may_be_corrected() {
    let mut terminal = Terminal::start_in(with_container(), "key test whole");
    terminal.answer("Password for whole: ", "wrong");
    terminal.expect("strongroom: no keyslot opens with this password\r\n");
    terminal.answer("Password for whole: ", PASSWORD);
    terminal.expect("keyslot 0 opens\r\n");
    terminal.end(0);
}

#[test]
fn the_third_wrong_password_is_the_last() {
    let mut terminal = Terminal::start_in(with_container(), "key test whole");
    for _ in 0..3 {
        terminal.answer("Password for whole: ", "wrong");
    }
    terminal.expect("strongroom: error: cannot unlock whole: no keyslot opens with this password\r\n");
    let seen = terminal.end(2);
    assert!(!seen.contains("wrong"), "{seen}");
}

#[test]
fn one_try_is_one_try() {
    let mut terminal = Terminal::start_in(with_container(), "key test whole --tries 1");
    terminal.answer("Password for whole: ", "wrong");
    terminal.expect("strongroom: error: cannot unlock whole: no keyslot opens with this password\r\n");
    terminal.end(2);
}

#[test]
fn overwriting_takes_a_yes_written_out() {
    let question = "whole (a file of 144 KiB) will be overwritten and is lost. Type yes to go on: ";
    let mut terminal =
        Terminal::start_in(with_container(), &format!("create whole --size 4M --force {CHEAP}"));
    let before = fs::read(terminal.directory.path().join("whole")).unwrap();
    terminal.answer(question, "y");
    terminal.expect("strongroom: error: cannot create whole: not confirmed; nothing was changed\r\n");
    assert_eq!(fs::read(terminal.directory.path().join("whole")).unwrap(), before);
    terminal.end(5);
}

#[test]
fn erasing_takes_the_word_itself() {
    let question = "whole (label \"vector 🔒\", 144 KiB, 1 keyslot) will be erased: nobody opens it again, with any password. \
                    Type erase to go on: ";
    let mut terminal = Terminal::start_in(with_container(), "erase whole");
    let before = fs::read(terminal.directory.path().join("whole")).unwrap();
    terminal.answer(question, "yes");
    terminal.expect("strongroom: error: cannot erase whole: not confirmed; nothing was changed\r\n");
    assert_eq!(fs::read(terminal.directory.path().join("whole")).unwrap(), before);
    terminal.end(1);

    let mut terminal = Terminal::start_in(with_container(), "erase whole");
    terminal.answer(question, "erase");
    terminal.expect("erased whole");
    terminal.end(0);
}

#[test]
fn an_overwritten_file_is_whole_the_old_or_the_new() {
    let mut terminal =
        Terminal::start_in(with_container(), &format!("create whole --size 4M --force {CHEAP}"));
    terminal.answer("Type yes to go on: ", "yes");
    terminal.expect("New password for whole: ");
    assert_eq!(fs::metadata(terminal.directory.path().join("whole")).unwrap().len(), 147_456);
    terminal.session.send_line(PASSWORD).unwrap();
    terminal.answer("The same again: ", PASSWORD);
    terminal.expect("created whole");
    assert_eq!(fs::metadata(terminal.directory.path().join("whole")).unwrap().len(), 4 << 20);
    assert_eq!(terminal.files(), ["whole"]);
    terminal.end(0);
}

#[test]
fn without_a_terminal_the_way_out_is_told() {
    let directory = with_container();
    for (arguments, message) in [
        (
            &["key", "test", "whole"][..],
            "strongroom: error: cannot ask for the password: there is no terminal\n\
             strongroom: hint: give --password-file, --password-fd or --password-command\n",
        ),
        (
            &["create", "whole", "--size", "4M", "--force", "--password-file", "/dev/null"],
            "strongroom: error: cannot create whole: it would be overwritten, and there is no terminal to ask on\n\
             strongroom: hint: --yes answers for you\n",
        ),
        (
            &["erase", "whole"],
            "strongroom: error: cannot erase whole: there is no terminal to ask on\n\
             strongroom: hint: --yes answers for you\n",
        ),
    ] {
        // A session of its own has no terminal, whatever the test runs on.
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(STRONGROOM).args(arguments);
        let output = command.current_dir(directory.path()).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
    }
}
