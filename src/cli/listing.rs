//! `list`.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use strongroom::{
    error::Result,
    mount::{self, Entry, Lost, Other, Protection, Unwritten, WhenBusy},
    text::{in_one_line, path::command_word},
    units::typed_time,
};

use super::output::Console;

/// Tells of containers that were lost while they are mounted: whatever the user is doing, this does not wait.
pub(crate) fn warn_of_lost(console: Console, mounts: &[Entry]) {
    for entry in mounts {
        let told = |what: String, state: Option<Lost>| {
            let state = state?;
            let told = state.told();
            Some(match state {
                Lost::Overwritten => format!("{what} {told} while it is mounted"),
                state if state.is_unreachable() => format!("{what} {told}"),
                state => format!("{what} was {} while it is mounted", state.name()),
            })
        };
        let header = entry.header.as_ref();
        let header =
            header.and_then(|path| told(format!("the header file {}", path.display()), entry.header_state));
        let Some(told) = told(entry.lost_in_words("the"), entry.container_state).or(header) else {
            if entry.unwritten == Some(Unwritten::Lost) {
                let (container, place) = (entry.container.display(), command_word(&mount::name_for(entry)));
                console.alarm(&format!(
                    "not everything that was written is in {container}: copy what you need to another disk, then strongroom unmount {place} --force, and mount it again once it can be written"
                ));
            }
            continue;
        };
        let place = mount::name_for(entry);
        let states = [entry.container_state, entry.header_state];
        console.alarm(&if states.into_iter().flatten().any(Lost::is_overwritten) {
            format!(
                "{told}: copy what you can still read in {} to another place now, and compare it with a backup: some of it may be wrong",
                place.display()
            )
        } else {
            let copy = if entry.lost_pieces.is_some() { "DIR" } else { "FILE" };
            format!("{told}: strongroom unmount {} --save-as {copy} keeps it", command_word(&place))
        });
    }
}

/// Says that a volume is full, and what makes room.
pub(crate) fn tell_if_full(console: Console, entry: &Entry) {
    if let Some(full) = &entry.full {
        let place = entry.shown_at().unwrap_or_else(|| entry.container.clone());
        console.note(&in_one_line(&format!("{} is full: {}", place.display(), full.hint)));
    }
}

/// Shows what is mounted.
pub(crate) fn list(console: Console) -> Result<()> {
    mount::check_proc()?;
    let (mounts, others) = (mount::list(), mount::others());
    warn_of_lost(console, &mounts);
    if !console.is_json() {
        for entry in mounts.iter().filter(|entry| !entry.dead) {
            tell_if_full(console, entry);
        }
        for other in &others {
            let by = if other.is_own() { "you, from elsewhere" } else { &other.mounted_by };
            let (place, unmount) = (other.mountpoint.display(), &other.unmount);
            console.note(&in_one_line(&format!("mounted by {by}: {place} ({unmount})")));
        }
        if mounts.is_empty() {
            console.note(match &*others {
                [] => "nothing is mounted",
                others if others.iter().any(Other::is_own) => "nothing else of yours is mounted",
                _ => "you have nothing mounted",
            });
            return Ok(());
        }
    }
    console.result(&Mounts { mounts, others }, |list| table(&list.mounts))
}

#[derive(Debug, Serialize)]
struct Mounts {
    mounts: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Other>,
}

/// What stands for the mount point of a volume that does not show: after its end the server holds a lost container open.
fn no_place(entry: &Entry) -> &'static str {
    if entry.container_state.is_some_and(Lost::is_nameless) { "(not saved yet)" } else { "(detached)" }
}

/// The container's path, and how it lost it: `/home/a/v (deleted)`.
fn container_shown(entry: &Entry) -> String {
    let path = in_one_line(&entry.container.to_string_lossy());
    match (entry.container_state, entry.header_state, entry.unwritten) {
        (Some(state), ..) => format!("{path} ({})", state.name()),
        (None, Some(state), _) => format!("{path} (header {})", state.name()),
        (None, None, Some(unwritten)) => format!("{path} ({})", unwritten.name()),
        (None, None, None) if entry.silent => format!("{path} (its disk does not answer)"),
        (None, None, None) if entry.full.is_some() => format!("{path} (full)"),
        (None, None, None) => path,
    }
}

fn access_shown(entry: &Entry) -> String {
    if entry.dead {
        return "none: its server was killed; strongroom unmount cleans up".to_owned();
    }
    let access = match (entry.protection, entry.read_only) {
        (Some(Protection::Triggered), _) => "read-only: a write hit the hidden volume",
        (Some(Protection::Active), _) => "read-write, hidden volume protected",
        (None, true) => "read-only",
        (None, false) => "read-write",
    };
    if let Some(since) = entry.lost_at.as_ref().filter(|_| entry.driver != "kernel") {
        return format!("read-only since {since}, as a write was lost: unmount it, and mount it again");
    }
    let shared = entry.shared_with.as_ref().map(|share| format!(", shared with {}", share.told()));
    format!("{access}{}{}", shared.unwrap_or_default(), closing_shown(entry))
}

/// When a volume closes by itself: `, closes after 15m without use and at sleep`.
fn closing_shown(entry: &Entry) -> String {
    let idle = entry.idle.map(Duration::from_secs);
    let mut occasions: Vec<_> =
        idle.map(|idle| format!("after {} without use", typed_time(idle))).into_iter().collect();
    occasions.extend((!entry.close_at.is_none()).then(|| format!("at {}", entry.close_at)));
    if occasions.is_empty() {
        return String::new();
    }
    let force = if entry.when_busy == WhenBusy::Force { ", even if in use" } else { "" };
    let unheard =
        if entry.unheard { " (logind is not running: not before sleep, nor at logout)" } else { "" };
    format!(", closes {}{force}{unheard}", occasions.join(" and "))
}

fn table(mounts: &[Entry]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    table.set_header(["CONTAINER", "MOUNTED ON", "DRIVER", "ACCESS", "PROCESS", "SINCE"]);
    for entry in mounts {
        table.add_row([
            container_shown(entry),
            entry
                .shown_at()
                .map_or_else(|| no_place(entry).to_owned(), |place| in_one_line(&place.to_string_lossy())),
            entry.driver.clone(),
            access_shown(entry),
            entry.pid.to_string(),
            entry.mounted_at.clone(),
        ]);
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}
