//! Prompts on a real terminal: no echo, both answers compared, and Ctrl-C leaves the terminal and the disk as they were.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;
mod terminal;

use std::time::{Duration, Instant};

use expectrl::Expect;
use place::{CHEAP, PASSWORD, Place, signal};
use rustix::process::Signal;
use terminal::Terminal;

/// Makes a small container quickly.
fn create(what: &str) -> String {
    format!("create {what} --size 4M --filesystem none --provision thin {CHEAP}")
}

const CTRL_C: &str = "\x03";

/// Where the container `whole` is that [`PASSWORD`] opens.
fn with_container() -> Place {
    let place = Place::of_this_user();
    place.copy_vector("password.img", "whole");
    place
}

#[test]
fn create_asks_twice_and_shows_neither_answer() {
    let mut terminal = Terminal::start(&create("new"));
    terminal.answer("New password for new: ", PASSWORD);
    terminal.answer("Repeat the password: ", PASSWORD);
    terminal.expect("created new");
    assert_eq!(terminal.place.files(), ["new"]);
    let seen = terminal.end(0);
    assert!(!seen.contains("horse"), "{seen}");
}

#[test]
fn a_password_that_is_typed_ahead_shows_neither() {
    let mut terminal = Terminal::start(&create("new"));
    terminal.answer("New password for new: ", &format!("{PASSWORD}\n{PASSWORD}"));
    terminal.expect("created new");
    let seen = terminal.end(0);
    assert!(!seen.contains("horse"), "{seen}");
}

#[test]
fn answers_that_differ_are_asked_for_again() {
    let mut terminal = Terminal::start(&create("new"));
    terminal.answer("New password for new: ", PASSWORD);
    terminal.answer("Repeat the password: ", "correct horse battery stable");
    terminal.expect("strongroom: the passwords do not match; try again\r\n");
    terminal.answer("New password for new: ", PASSWORD);
    terminal.answer("Repeat the password: ", PASSWORD);
    terminal.expect("created new");
    terminal.end(0);
}

#[test]
fn answers_that_differ_three_times_make_nothing() {
    let mut terminal = Terminal::start(&create("new"));
    for _ in 0..3 {
        terminal.answer("New password for new: ", PASSWORD);
        terminal.answer("Repeat the password: ", "correct horse battery stable");
    }
    terminal.expect("strongroom: error: cannot create new: the passwords do not match\r\n");
    assert!(terminal.place.files().is_empty());
    terminal.end(1);
}

#[test]
fn an_empty_password_is_refused() {
    let mut terminal = Terminal::start(&create("new"));
    terminal.answer("New password for new: ", "");
    terminal.expect("strongroom: error: cannot create new: no password entered\r\n");
    assert!(terminal.place.files().is_empty());
    terminal.end(1);
}

#[test]
fn a_weak_password_gets_one_line() {
    let mut terminal = Terminal::start(&create("new"));
    terminal.answer("New password for new: ", "password");
    terminal.answer("Repeat the password: ", "password");
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
    let mut terminal = Terminal::start(&create("new"));
    terminal.expect("New password for new: ");
    terminal.session.send(CTRL_C).unwrap();
    terminal.expect("strongroom: error: interrupted\r\n");
    assert!(terminal.place.files().is_empty());
    terminal.end(130);
}

#[test]
fn ctrl_c_at_the_second_prompt_leaves_nothing() {
    let mut terminal = Terminal::start(&create("new"));
    terminal.answer("New password for new: ", PASSWORD);
    terminal.expect("Repeat the password: ");
    terminal.session.send("correct").unwrap();
    terminal.session.send(CTRL_C).unwrap();
    terminal.expect("strongroom: error: interrupted\r\n");
    assert!(terminal.place.files().is_empty());
    let seen = terminal.end(130);
    assert!(!seen.contains("correct"), "{seen}");
}

#[test]
fn ctrl_c_while_deriving_the_key_leaves_nothing() {
    let costly = "--kdf-memory 256M --kdf-passes 64 --kdf-lanes 1";
    let mut terminal =
        Terminal::start(&format!("--verbose create new --size 4M {costly} --password-file password"));
    terminal.expect("strongroom: keyslot 0 costs 256 MiB of memory, 64 passes, 1 lane\r\n");
    terminal.session.send(CTRL_C).unwrap();
    // Not `cannot create new`: the derivation did not come to its end.
    terminal.expect("strongroom: error: interrupted\r\n");
    assert!(terminal.place.files().is_empty());
    terminal.end(130);
}

#[test]
fn ctrl_c_while_filling_leaves_nothing() {
    let mut terminal =
        Terminal::start(&format!("create new --size 2G --filesystem none {CHEAP} --password-file password"));
    terminal.expect("filling");
    terminal.session.send(CTRL_C).unwrap();
    terminal.expect("strongroom: error: cannot create new: interrupted\r\n");
    assert!(terminal.place.files().is_empty());
    terminal.end(130);
}

#[test]
fn sigterm_at_a_prompt_leaves_the_terminal_sane() {
    let command = "--version; sh -c 'echo \"process $$ asks\"; exec ./strongroom key test whole'";
    let mut terminal = Terminal::start_in(with_container(), command);
    terminal.expect(" asks\r\n");
    let process =
        terminal.seen.rsplit_once("process ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    terminal.expect("Password for whole: ");
    signal(process, Signal::TERM);
    terminal.expect("strongroom: error: interrupted\r\n");
    terminal.end(130);
}

#[test]
fn a_wrong_password_may_be_corrected() {
    let mut terminal = Terminal::start_in(with_container(), "key test whole");
    terminal.answer("Password for whole: ", "wrong");
    terminal.expect("strongroom: wrong password\r\n");
    terminal.answer("Password for whole: ", PASSWORD);
    terminal.expect("keyslot 0 opens\r\n");
    terminal.end(0);
}

#[test]
fn the_third_wrong_password_is_the_last() {
    let mut terminal = Terminal::start_in(with_container(), "key test whole");
    for _ in 0..3 {
        terminal.answer("Password for whole: ", "incorrect");
    }
    terminal.expect("strongroom: error: cannot unlock whole: wrong password\r\n");
    let seen = terminal.end(2);
    assert!(!seen.contains("incorrect"), "{seen}");
}

#[test]
fn one_try_is_one_try() {
    let mut terminal = Terminal::start_in(with_container(), "key test whole --tries 1");
    terminal.answer("Password for whole: ", "wrong");
    terminal.expect("strongroom: error: cannot unlock whole: wrong password\r\n");
    terminal.end(2);
}

#[test]
fn overwriting_takes_a_yes_written_out() {
    let question = "whole (strongroom container \"vector 🔒\", 144 KiB) will be overwritten; everything in it will be lost. Type \"yes\" to continue: ";
    let mut terminal = Terminal::start_in(with_container(), &create("whole --force"));
    let before = terminal.place.bytes("whole");
    terminal.answer(question, "y");
    terminal.answer("Type all of \"yes\" to continue, or press Enter to stop: ", "");
    terminal.expect("strongroom: error: cannot create whole: not confirmed; nothing was changed\r\n");
    assert_eq!(terminal.place.bytes("whole"), before);
    terminal.end(1);
}

#[test]
fn erasing_takes_the_word_itself() {
    let question = "whole (label \"vector 🔒\", 144 KiB, 1 keyslot) will be erased. No password will ever open it again. \
                    Type \"erase\" to continue: ";
    let mut terminal = Terminal::start_in(with_container(), "erase whole");
    let before = terminal.place.bytes("whole");
    terminal.answer(question, "yes");
    terminal.expect("strongroom: error: cannot erase whole: not confirmed; nothing was changed\r\n");
    assert_eq!(terminal.place.bytes("whole"), before);
    terminal.end(1);

    let mut terminal = Terminal::start_in(with_container(), "erase whole");
    terminal.answer(question, "erase");
    terminal.expect("erased whole");
    terminal.end(0);
}

#[test]
fn an_overwritten_file_is_whole_the_old_or_the_new() {
    let mut terminal = Terminal::start_in(with_container(), &create("whole --force"));
    terminal.answer("Type \"yes\" to continue: ", "yes");
    terminal.expect("New password for whole: ");
    assert_eq!(terminal.place.bytes("whole").len(), 147_456);
    terminal.session.send_line(PASSWORD).unwrap();
    terminal.answer("Repeat the password: ", PASSWORD);
    terminal.expect("created whole");
    assert_eq!(terminal.place.bytes("whole").len(), 4 << 20);
    assert_eq!(terminal.place.files(), ["whole"]);
    terminal.end(0);
}

#[test]
fn without_a_terminal_the_way_out_is_told() {
    let place = with_container();
    for (arguments, message) in [
        (
            "key test whole",
            "strongroom: error: cannot ask for the password: there is no terminal\n\
             strongroom: hint: give --password-file, --password-fd or --password-command\n",
        ),
        (
            "create whole --size 4M --force --password-file /dev/null",
            "strongroom: error: cannot create whole: it would be overwritten, and there is no terminal to ask on\n\
             strongroom: hint: --yes skips the question\n",
        ),
        (
            "erase whole",
            "strongroom: error: cannot erase whole: there is no terminal to ask on\n\
             strongroom: hint: --yes skips the question\n",
        ),
    ] {
        let refused = place.strongroom(arguments);
        assert_eq!((refused.status, refused.errors.as_str()), (Some(1), message));
    }
}

const NEW_PASSWORD: &str = "clamp orbit velvet mossy tundra wagon";
#[test]
fn a_changed_password_is_asked_for_once_and_its_successor_twice() {
    let mut terminal = Terminal::start_in(with_container(), &format!("key change whole {CHEAP}"));
    terminal.answer("Password for whole: ", "wrong");
    terminal.answer("Password for whole: ", PASSWORD);
    terminal.answer("New password for whole: ", NEW_PASSWORD);
    terminal.answer("Repeat the password: ", NEW_PASSWORD);
    terminal.expect("changed keyslot 0 of whole\r\n");
    terminal.place.make_file("new", NEW_PASSWORD);
    assert_eq!(terminal.place.done("key test whole --password-file new"), "keyslot 0 opens\n");
    let seen = terminal.end(0);
    assert!(!seen.contains("horse") && !seen.contains("velvet"), "{seen}");
}

#[test]
fn new_passwords_that_differ_change_nothing() {
    let mut terminal = Terminal::start_in(with_container(), &format!("key add whole {CHEAP}"));
    let before = terminal.place.bytes("whole");
    terminal.answer("Password for whole: ", PASSWORD);
    for _ in 0..3 {
        terminal.answer("New password for whole: ", NEW_PASSWORD);
        terminal.answer("Repeat the password: ", PASSWORD);
    }
    terminal.expect("strongroom: error: cannot add a keyslot to whole: the passwords do not match\r\n");
    assert_eq!(terminal.place.bytes("whole"), before);
    terminal.end(1);
}

#[test]
fn ctrl_c_at_the_new_password_changes_nothing() {
    let mut terminal = Terminal::start_in(with_container(), &format!("key change whole {CHEAP}"));
    let before = terminal.place.bytes("whole");
    terminal.answer("Password for whole: ", PASSWORD);
    terminal.expect("New password for whole: ");
    terminal.session.send(CTRL_C).unwrap();
    terminal.expect("strongroom: error: interrupted\r\n");
    assert_eq!(terminal.place.bytes("whole"), before);
    terminal.end(130);
}

#[test]
fn removing_a_keyslot_takes_a_yes_written_out() {
    let place = with_container();
    place.make_file("new", NEW_PASSWORD);
    let add = format!("key add whole --label bank {CHEAP} --password-file password --new-password-file new");
    let remove = "key remove whole --slot 1 --password-file password";
    let mut terminal = Terminal::start_in(
        place,
        &format!("{add}; ./strongroom {remove}; echo \"first $?\"; ./strongroom {remove}"),
    );
    let question = "Keyslot 1 (password, \"bank\") of whole will be removed. Type \"yes\" to continue: ";
    terminal.answer(question, "no");
    terminal.expect("cannot remove a keyslot from whole: not confirmed; nothing was changed\r\n");
    terminal.expect("first 1\r\n");
    terminal.answer(question, "Y");
    terminal.answer("Type all of \"yes\" to continue, or press Enter to stop: ", "yes");
    terminal.expect("removed keyslot 1 from whole; 1 keyslot left\r\n");
    terminal.end(0);
}

#[test]
fn the_last_keyslot_is_called_so_before_it_goes() {
    let mut terminal = Terminal::start_in(with_container(), "key remove whole --force");
    terminal.answer("Password for whole: ", PASSWORD);
    terminal.answer("nobody will be able to open the container", "yes");
    terminal.expect("removed keyslot 0 from whole; 0 keyslots left\r\n");
    assert_eq!(terminal.place.done("key list whole"), "      none\n");
    terminal.end(0);
}

/// The groups of the recovery key that a terminal showed, a line each.
fn shown_key(seen: &str) -> Vec<String> {
    let is_key = |line: &str| line.len() >= 6 && line.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    seen.lines().map(|line| line.trim().to_owned()).filter(|line| is_key(line)).collect()
}

/// Has `key add` make a recovery key, up to the question for it.
fn with_new_recovery_key(options: &str) -> Terminal {
    let arguments = format!("key add whole --password-file password --recovery {options}");
    let mut terminal = Terminal::start_in(with_container(), &arguments);
    terminal.expect("Write it down, four groups to a line. To check, type groups ");
    terminal
}

/// The two groups that the terminal asks for, as they were shown.
fn asked_groups(terminal: &mut Terminal) -> String {
    let key = shown_key(&terminal.seen).join("-");
    terminal.expect(": ");
    let question = terminal.seen.rsplit("type groups ").next().unwrap();
    let numbers = question.trim_end_matches([' ', ':']).split(" and ");
    let groups: Vec<&str> = key.split('-').collect();
    numbers.map(|number| groups[number.parse::<usize>().unwrap() - 1]).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_recovery_key_opens_once_it_was_typed_back() {
    let mut terminal = with_new_recovery_key("--no-qr");
    let lines = shown_key(&terminal.seen);
    assert_eq!(lines.len(), 5, "{}", terminal.seen);
    assert!(!terminal.place.done("key list whole").contains("recovery-key"));
    let groups = asked_groups(&mut terminal);
    terminal.session.send_line(groups).unwrap();
    terminal.expect("added keyslot 1 to whole");

    terminal.place.make_file("key", lines.join(" "));
    let opened = terminal.place.done("key test whole --recovery-key --password-file key");
    assert_eq!(opened, "keyslot 1 opens\n");
    terminal.end(0);
}

#[test]
fn a_recovery_key_that_is_not_typed_back_changes_nothing() {
    let mut terminal = with_new_recovery_key("--no-qr --svg key.svg");
    let before = terminal.place.bytes("whole");
    for tries_left in [2, 1, 0] {
        let right = asked_groups(&mut terminal);
        let wrong = right.replace(|c: char| c.is_ascii_digit(), "0");
        terminal.session.send_line(wrong).unwrap();
        if tries_left > 0 {
            terminal.expect("That does not match; try again.");
            terminal.expect("type groups ");
        }
    }
    terminal.expect("those groups do not match the recovery key; nothing was changed");
    terminal.expect("status 2\r\n");
    assert_eq!(terminal.place.bytes("whole"), before);
    assert!(!terminal.place.files().contains(&"key.svg".to_owned()));
}

#[test]
fn a_terminal_gets_the_recovery_key_as_a_qr_code_in_black_on_white() {
    let terminal = with_new_recovery_key("");
    let lines = terminal.seen.lines().filter(|line| line.starts_with("\x1b[38;5;16;48;5;231m"));
    assert_eq!(lines.count(), 23, "{}", terminal.seen);
}

#[test]
fn a_recovery_key_is_asked_for_again_until_it_is_one() {
    let place = Place::of_this_user();
    place.copy_vector("recovery.img", "paper");
    let key = "312576 091322 274384 285648 125158 296032 091322 091179 274417 285538 090761 141361 276320 \
               327987 324951 718586 457666";
    let mut terminal = Terminal::start_in(place, "key test paper --recovery-key");
    terminal.answer("Recovery key for paper: ", &key.replace("274384", "274385"));
    terminal.expect("strongroom: group 3 is wrong\r\n");
    terminal.answer("Recovery key for paper: ", key);
    terminal.expect("keyslot 1 opens");
    let seen = terminal.end(0);
    assert!(!seen.contains("285648"), "{seen}");
}

/// A file that could be a container of VeraCrypt's.
fn noise() -> Place {
    let place = Place::of_this_user();
    let noise: Vec<u8> =
        (1_u32..=300_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]).collect();
    place.make_file("noise.hc", noise);
    place
}

#[test]
fn a_file_without_a_header_is_tried_only_where_the_user_agrees() {
    // proves: VC-PROBE-01
    let mut terminal = Terminal::start_in(noise(), "key test noise.hc");
    terminal.answer("Type \"yes\" to continue: ", "no");
    let seen = terminal.end(4);
    assert!(seen.contains("no known header") && !seen.contains("Password"), "{seen}");

    let mut terminal = Terminal::start_in(noise(), "key test noise.hc --tries 1");
    terminal.answer("Type \"yes\" to continue: ", "yes");
    terminal.expect("Password for noise.hc: ");
    terminal.session.send(CTRL_C).unwrap();
    terminal.end(130);
    for option in ["--format truecrypt", "--hidden", "--prf sha512"] {
        let mut terminal = Terminal::start_in(noise(), &format!("key test noise.hc {option}"));
        terminal.expect("Password for noise.hc: ");
        terminal.session.send(CTRL_C).unwrap();
        terminal.end(130);
    }
}

#[test]
fn a_trial_says_what_it_tries_and_ctrl_c_ends_it() {
    // More iterations than anybody waits for.
    let mut terminal = Terminal::start_in(noise(), "key test noise.hc --format veracrypt --pim 2000000");
    terminal.answer("Password for noise.hc: ", PASSWORD);
    terminal.expect("trying ");
    // Not one of them has ended, and still it is known that nobody should wait.
    terminal.expect(" left at most)");
    // Hours, days, weeks: it depends on how busy the machine is.
    let is_long =
        ["h", "d", "w", "M", "y"].map(|unit| terminal.seen.ends_with(&format!("{unit} left at most)")));
    assert!(is_long.contains(&true), "{}", terminal.seen);
    let start = Instant::now();
    terminal.session.send(CTRL_C).unwrap();
    terminal.end(130);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_keyfile_may_be_all_that_opens_a_vault() {
    let place = with_container();
    place.make_file("kf", "a keyfile");
    place.done(&format!("key add whole {CHEAP} --password-file password --new-keyfile kf --new-no-password"));
    place.done("key remove whole --slot 0 --password-file password --yes");
    let mut terminal = Terminal::start_in(place, "key test whole; ./strongroom key test whole --keyfile kf");
    terminal.expect("cannot unlock whole: every keyslot needs a keyfile\r\n");
    terminal.answer("Password for whole (press Enter if the keyfile alone opens it): ", "");
    terminal.expect("keyslot 1 opens\r\n");
    terminal.end(0);
}
