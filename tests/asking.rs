//! Secrets asked for in a window: `pinentry`, by a script that plays it, for a user without a terminal.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};

use place::{CHEAP, PASSWORD, Place, signal, wait_until};
use rustix::process::Signal;

/// A user with a display and a `pinentry` that gives `answers`, one a question; `|` ends a line.
struct Desk {
    place: Place,
}

/// What a command came to.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    said: String,
}

const CANCEL: &str = "ERR 83886179 Operation cancelled <Pinentry>";

impl Desk {
    fn with(answers: &[&str]) -> Self {
        let place = Place::of_ordinary_user();
        place.copy_vector("password.img", "whole");
        place.make_file("answers", answers.join("\n"));
        let folder = place.folder().display().to_string();
        let script = format!(
            "#!/bin/sh\n\
             cd {folder}\n\
             env > environment; echo $$ > pid\n\
             echo OK Pleased to meet you\n\
             while read -r line; do\n\
               printf '%s\\n' \"$line\" >> seen\n\
               case $line in\n\
               GETPIN|CONFIRM|MESSAGE)\n\
                 echo >> count\n\
                 answer=$(sed -n \"$(wc -l < count)p\" answers)\n\
                 case $answer in\n\
                 DIE) exit;;\n\
                 WAIT) exec sleep 1000;;\n\
                 ENDLESS) exec tr '\\0' x < /dev/zero;;\n\
                 *) printf '%s\\n' \"$answer\" | tr '|' '\\n';;\n\
                 esac;;\n\
               SETKEYINFO*) echo ERR 83886355 Unknown command;;\n\
               *) echo OK;;\n\
               esac\n\
             done\n"
        );
        let program = place.make_file("pinentry", script);
        fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
        place.make_folder("config");
        place.make_folder("config/strongroom");
        place.make_file("config/strongroom/config.toml", format!("pinentry = \"{folder}/pinentry\"\n"));
        Self { place }
    }

    /// Calls strongroom without a terminal.
    fn call(&self, arguments: &str) -> Ended {
        let mut command = self.place.command("setsid");
        command.args(["--wait", "/bin/sh", "-c"]).arg(format!("./strongroom {arguments} 2>&1"));
        command.env("XDG_CONFIG_HOME", self.place.path("config")).env("DISPLAY", ":99").env("LEAK", "x");
        command.env("HOME", self.place.folder());
        let output = command.output().unwrap();
        Ended { status: output.status.code(), said: String::from_utf8(output.stdout).unwrap() }
    }

    /// What was sent to `pinentry` so far.
    fn seen(&self) -> String {
        fs::read_to_string(self.place.path("seen")).unwrap_or_default()
    }

    fn questions(&self, name: &str) -> usize {
        self.seen().lines().filter(|line| *line == name).count()
    }
}

fn data(answer: &str) -> String {
    format!("D {answer}|OK")
}

#[test]
fn who_has_a_display_and_no_terminal_is_asked_in_a_window() {
    let desk = Desk::with(&[&data(PASSWORD)]);
    let ended = desk.call("key test whole");
    assert_eq!((ended.status, ended.said.as_str()), (Some(0), "keyslot 0 opens\n"));
    let seen = desk.seen();
    for line in
        ["SETTITLE strongroom", "SETKEYINFO --clear", "SETDESC Password for whole", "SETPROMPT Password:"]
    {
        assert!(seen.lines().any(|sent| sent == line), "{line}: {seen}");
    }
    assert!(!seen.contains("horse") && !seen.contains("SETERROR"), "{seen}");
    let environment = fs::read_to_string(desk.place.path("environment")).unwrap();
    assert!(environment.contains("DISPLAY=:99\n") && !environment.contains("LEAK"), "{environment}");
}

#[test]
fn the_name_of_a_container_is_no_markup_in_a_window() {
    let desk = Desk::with(&[&data(PASSWORD)]);
    desk.place.copy_vector("password.img", "<b>bold");
    assert_eq!(desk.call("key test '<b>bold'").status, Some(0));
    let seen = desk.seen();
    assert!(seen.contains("SETDESC Password for \u{2039}b>bold\n"), "{seen}");
}

#[test]
fn a_wrong_password_is_asked_for_again_and_the_window_says_why() {
    let desk = Desk::with(&[&data("guess"), &data(PASSWORD)]);
    assert_eq!(desk.call("key test whole").status, Some(0));
    assert_eq!(desk.questions("GETPIN"), 2);
    assert_eq!(desk.seen().matches("SETERROR wrong password\n").count(), 1);
}

#[test]
fn who_closes_the_window_is_not_asked_again() {
    let desk = Desk::with(&[&data("guess"), CANCEL, &data(PASSWORD)]);
    let ended = desk.call("key test whole");
    assert_eq!((ended.status, ended.said.as_str()), (Some(130), "strongroom: error: cancelled\n"));
    assert_eq!((desk.questions("GETPIN"), desk.questions("MESSAGE")), (2, 0));
}

#[test]
fn after_the_last_try_the_window_tells_what_was_wrong() {
    let desk = Desk::with(&[&data("one"), &data("two"), "OK"]);
    let ended = desk.call("key test whole --tries 2");
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert_eq!((desk.questions("GETPIN"), desk.questions("MESSAGE")), (2, 1));
    assert!(desk.seen().contains("SETDESC cannot unlock whole: wrong password\n"), "{}", desk.seen());
}

#[test]
fn a_pinentry_that_is_none_is_an_error_with_a_way_out() {
    let half = format!("D {PASSWORD}");
    for (answer, told) in [
        ("DIE", "pinentry failed: it ended without an answer"),
        ("ENDLESS", "pinentry failed: it sends a line without end"),
        ("secret", "pinentry failed: it does not speak the protocol"),
        (&*format!("{half}|secret"), "pinentry failed: it does not speak the protocol"),
        ("ERR 83918950 Inappropriate ioctl for device", "pinentry failed: Inappropriate ioctl for device"),
    ] {
        let desk = Desk::with(&[answer, "OK"]);
        let ended = desk.call("key test whole");
        assert_eq!(ended.status, Some(6), "{answer}: {ended:?}");
        assert!(ended.said.contains(told) && ended.said.contains("--ask terminal"), "{answer}: {ended:?}");
        assert!(!ended.said.contains("secret") && !ended.said.contains("horse"), "{ended:?}");
    }
    let desk = Desk::with(&[]);
    fs::remove_file(desk.place.path("pinentry")).unwrap();
    let ended = desk.call("key test whole");
    assert!(ended.status == Some(4) && ended.said.contains("cannot start /"), "{ended:?}");
}

#[test]
fn nobody_is_asked_without_a_display_or_where_a_program_listens() {
    let desk = Desk::with(&[&data(PASSWORD)]);
    for arguments in ["key test whole --json", "key test whole --ask terminal"] {
        let ended = desk.call(arguments);
        assert!(ended.status == Some(1) && ended.said.contains("there is no terminal"), "{ended:?}");
    }
    let ended = desk.place.strongroom("key test whole");
    assert!(ended.status == Some(1) && ended.errors.contains("there is no terminal"), "{ended:?}");
    assert_eq!(desk.seen(), "");
    // Unless that is said.
    assert_eq!(desk.call("key test whole --json --ask pinentry").status, Some(0));
}

#[test]
fn a_new_password_is_asked_for_twice_and_may_hold_anything() {
    let both = data("100%25 s%C3%BCre");
    let desk = Desk::with(&[&data("one"), &data("other"), &both, &both, &both, &data("one")]);
    let create = format!("create new.vault --size 4M --filesystem none --provision thin {CHEAP}");
    let ended = desk.call(&create);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(desk.questions("GETPIN"), 4);
    assert!(desk.seen().contains("SETERROR the passwords do not match; try again\n"), "{}", desk.seen());
    assert_eq!(desk.call("key test new.vault --tries 1").status, Some(0));
    desk.place.make_file("password", "100% s\u{fc}re\n");
    desk.place.done("key test new.vault --password-file password");
}

#[test]
fn a_question_is_answered_by_a_button() {
    let desk = Desk::with(&["ERR 83886194 Not confirmed", "OK", "OK"]);
    fs::remove_file(desk.place.path("answers")).unwrap();
    desk.place.make_file("answers", format!("{0}\nERR 83886194 no\nOK\n{0}\nOK\n", data(PASSWORD)));
    let remove = "key remove whole --slot 0 --force";
    let ended = desk.call(remove);
    assert!(
        ended.status == Some(1) && ended.said.contains("not confirmed; nothing was changed"),
        "{ended:?}"
    );
    assert_eq!(desk.questions("CONFIRM"), 1);
    desk.place.done("key test whole --password-file password");
    assert_eq!(desk.call(remove).status, Some(0));
    assert_eq!(desk.place.strongroom("key test whole --password-file password").status, Some(4));
}

#[test]
fn what_a_double_click_comes_to_shows_in_a_window_where_nothing_is_asked() {
    let desk = Desk::with(&["OK"]);
    desk.place.make_file("text.vault", "This is no vault, whatever it is called.\n");
    let ended = desk.call("open --show text.vault");
    assert_eq!(ended.status, Some(4), "{ended:?}");
    assert_eq!((desk.questions("MESSAGE"), desk.questions("GETPIN")), (1, 0));
    assert!(desk.seen().contains("SETDESC cannot open text.vault: not a container; this is a text file%0A"));
    // A script that was given the password is not held up by a window.
    assert_eq!(desk.call("key test whole --password-file text.vault").status, Some(2));
    assert_eq!(desk.questions("MESSAGE"), 1);
}

#[test]
fn the_window_goes_when_the_command_is_ended() {
    let desk = Desk::with(&["WAIT"]);
    let mut command = desk.place.command("setsid");
    command.args(["./strongroom", "key", "test", "whole"]).env("DISPLAY", ":99");
    command.env("XDG_CONFIG_HOME", desk.place.path("config"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the question", || desk.questions("GETPIN") == 1);
    let window = fs::read_to_string(desk.place.path("pid")).unwrap();
    let window = format!("/proc/{}", window.trim());
    wait_until("the window", || {
        fs::read_to_string(format!("{window}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    signal(child.id().into(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_until("the window's end", || {
        // Whoever takes over orphans may not have looked at it yet.
        let status = fs::read_to_string(format!("{window}/stat"));
        !Path::new(&window).exists() || status.is_ok_and(|status| status.contains(") Z "))
    });
}
