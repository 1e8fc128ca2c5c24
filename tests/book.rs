//! The handbook and README: every command in them is run, on a terminal, as a reader would type it.
//!
//! Sizes are smaller than a reader's, and a loop device stands for the stick. What installs packages or builds is left to
//! `make fresh`, which runs it on fresh machines.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;
mod terminal;

use std::{fs, path::Path, process::Command};

use expectrl::Expect;
use place::{CHEAP, PASSWORD, Place, can_mount, leave_to_root};
use rustix::process::geteuid;
use terminal::Terminal;

/// Each page with commands in it, and how far things have come for its reader.
const PAGES: [(&str, Before); 10] = [
    ("README.md", Before::Nothing),
    ("docs/src/first-vault.md", Before::Nothing),
    ("docs/src/sharing.md", Before::Closed),
    ("docs/src/backups.md", Before::Closed),
    ("docs/src/keys.md", Before::Closed),
    ("docs/src/luks.md", Before::Nothing),
    ("docs/src/veracrypt.md", Before::Nothing),
    ("docs/src/scripts.md", Before::Mounted),
    ("docs/src/sticks.md", Before::Stick),
    ("docs/src/install.md", Before::Nothing),
];

/// What a reader has before the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A vault, and an empty folder `photos`.
    Closed,
    /// The same, mounted there.
    Mounted,
    /// A stick, and somebody who may become root.
    Stick,
}

#[test]
fn every_page_with_commands_is_known_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(root.join("docs/src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let page = format!("docs/src/{name}");
        let is_known = PAGES.iter().any(|(known, _)| *known == page);
        assert_eq!(!commands(&page).is_empty(), is_known, "{page}");
    }
}

#[test]
fn links_in_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for folder in ["", "docs/src", "spec"] {
        let documents = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        for document in documents.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
            let text = fs::read_to_string(&document).unwrap();
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                if path.contains("://") {
                    continue;
                }
                let target =
                    if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
                assert!(target.exists(), "{}: {link}", document.display());
                if !anchor.is_empty() {
                    assert!(anchors(&target).any(|known| known == anchor), "{}: {link}", document.display());
                }
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count} links are too few to be all");
}

#[test]
fn the_handbook_lists_all_of_its_pages() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src");
    let summary = fs::read_to_string(pages.join("SUMMARY.md")).unwrap();
    for page in fs::read_dir(&pages).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("]({name})")), "{name}");
    }
}

/// What the headings of a document are called in links.
fn anchors(document: &Path) -> impl Iterator<Item = String> {
    let text = fs::read_to_string(document).unwrap();
    let headings =
        text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').map(str::to_lowercase));
    let anchors = headings.map(|heading| {
        let kept = heading.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
        kept.map(|char| if char == ' ' { '-' } else { char }).collect()
    });
    anchors.collect::<Vec<_>>().into_iter()
}

#[test]
fn a_page_works_as_it_is_printed() {
    if !can_mount() {
        return;
    }
    for (page, before) in PAGES {
        let commands: Vec<String> =
            commands(page).into_iter().filter(|command| !is_building(command)).collect();
        if !commands.is_empty() {
            follow(page, before, &commands);
        }
    }
}

/// Types the commands of a page one after the other; each must succeed.
fn follow(page: &str, before: Before, commands: &[String]) {
    if before == Before::Stick && !geteuid().is_root() {
        return leave_to_root("encrypting a whole stick");
    }
    let place = if before == Before::Stick { Place::of_this_user() } else { Place::of_ordinary_user() };
    place.make_folder("backup");
    if matches!(before, Before::Closed | Before::Mounted) {
        place.done(&format!(
            "create photos.vault --size 20M --provision quick {CHEAP} --password-file password"
        ));
        place.make_folder("photos");
    }
    if before == Before::Mounted {
        place.done("mount photos.vault photos --password-file password");
    }
    let stick = (before == Before::Stick).then(|| Stick::new(&place));
    let device = stick.as_ref().map_or("/dev/null", |stick| stick.device.as_str());
    let script = commands.iter().map(|command| format!("{}; echo \"ended $?\"\n", adapted(command, device)));
    let script = format!(
        "export HOME=$PWD PATH=$PWD:$PATH; stty echo\n{}echo 'all done'; read _",
        script.collect::<String>()
    );
    let mut terminal = Terminal::run(place, &script);
    let mut ended = commands.iter();
    loop {
        let line = terminal.expect_line(|line| is_question(line) || line.ends_with('\n') && is_end(line));
        let answer = match line.trim_end() {
            "all done" => break,
            "ended 0" => {
                ended.next();
                continue;
            }
            failed if is_end(failed) => {
                panic!("{page}: {}: {failed}: {}", ended.next().unwrap(), terminal.seen)
            }
            // The word that is wanted: "yes", or the name of a device.
            question if question.ends_with("to continue:") => question.rsplit('"').nth(1).unwrap().to_owned(),
            question if question.contains("type groups") => asked_groups(&terminal.seen, question),
            _ => PASSWORD.to_owned(),
        };
        terminal.session.send_line(answer).unwrap();
    }
    assert_eq!(ended.next(), None, "{page}");
    terminal.place.strongroom("unmount --all");
}

/// Whether a command asks this.
fn is_question(line: &str) -> bool {
    let questions = ["assword for ", "Repeat the password: ", "\" to continue: ", "type groups "];
    line.ends_with(": ") && questions.iter().any(|question| line.contains(question))
}

/// Whether a command, or all of them, ended so.
fn is_end(line: &str) -> bool {
    line.starts_with("ended ") || line.starts_with("all done")
}

/// The two groups of the recovery key that are asked for, as they were shown.
fn asked_groups(seen: &str, question: &str) -> String {
    let is_key = |line: &&str| line.len() >= 6 && line.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let key = seen.lines().map(str::trim).filter(is_key).collect::<Vec<_>>().join("-");
    let groups: Vec<&str> = key.split('-').collect();
    let asked = question.rsplit("type groups ").next().unwrap().trim_end_matches(':');
    let numbers = asked.split(" and ");
    numbers.map(|number| groups[number.parse::<usize>().unwrap() - 1]).collect::<Vec<_>>().join(" ")
}

/// The commands of a page: what follows a prompt in its consoles.
fn commands(page: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let mut commands = Vec::new();
    let mut in_console = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(kind) => in_console = kind == "console",
            None if in_console => commands.extend(line.strip_prefix("$ ").map(str::to_owned)),
            None => {}
        }
    }
    commands
}

/// Whether it sets up or builds: `make fresh` runs that.
fn is_building(command: &str) -> bool {
    ["sudo apt-get ", "git clone ", "make ", "sudo make "].iter().any(|start| command.starts_with(start))
}

/// The command as it can be run here: smaller, on this stick, and without `sudo`, as root follows the page with the stick.
fn adapted(command: &str, device: &str) -> String {
    let small = [
        ("--size 1G", "--size 20M"),
        ("--size 100M", "--size 20M"),
        ("photos.vault 20G", "photos.vault 40M"),
        ("/media/backup/", "backup/"),
    ];
    let command = small.iter().fold(command.to_owned(), |command, (from, to)| command.replace(from, to));
    // No driver of exFAT is on every machine.
    let command = command.replace("--filesystem exfat", "--filesystem ext4");
    command.replace("sudo ", "").replace("/dev/sdX", device)
}

/// A loop device that stands for a stick with a file system on it.
struct Stick {
    device: String,
}

impl Stick {
    fn new(place: &Place) -> Self {
        place.shell("truncate -s 64M image && /usr/sbin/mkfs.ext4 -q image");
        let device = place.shell("losetup --find --show image").trim().to_owned();
        Self { device }
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}
