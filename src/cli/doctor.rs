//! `doctor`: which ways of mounting work here, and what opens the others.

use std::fmt::Write;

use rustix::{
    process::{Resource, getrlimit},
    system::uname,
};
use serde::Serialize;
use strongroom::{
    error::Result,
    mount::{Part, Ways, ways},
};

use super::{output::Console, size::show_size};

/// Looks, and tells.
pub(crate) fn run(console: Console) -> Result<()> {
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        kernel: uname().release().to_string_lossy().into_owned(),
        locked_memory: getrlimit(Resource::Memlock).current,
        ways: ways()?,
    };
    console.result(&report, describe)?;
    report.ways.check()
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    kernel: String,
    /// Bytes that may be locked, so that they never reach swap; `None` for any number.
    locked_memory: Option<u64>,
    #[serde(flatten)]
    ways: Ways,
}

fn describe(report: &Report) -> String {
    let ways = &report.ways;
    let mut text = String::new();
    let mut fixes: Vec<(&str, &str)> = Vec::new();
    let who = if ways.is_root { "root" } else { "an ordinary user" };
    // Writing to a string does not fail.
    let _ = writeln!(text, "strongroom {}, Linux {}, as {who}\n", report.version, report.kernel);
    let _ = writeln!(text, "FUSE: {}", state(&ways.fuse));
    fixes.extend(ways.fuse.fix.as_deref().map(|fix| ("anything", fix)));
    if !ways.is_root {
        let _ = writeln!(text, "udisks: {}", state(&ways.udisks));
        fixes.extend(ways.udisks.fix.as_deref().map(|fix| ("udisks", fix)));
        let _ = writeln!(text, "Sharing a mount (--share): {}", state(&ways.sharing));
        fixes.extend(ways.sharing.fix.as_deref().map(|fix| ("--share", fix)));
    }
    let _ = writeln!(text, "logind: {}", state(&ways.logind));
    fixes.extend(ways.logind.fix.as_deref().map(|fix| ("sleep and logout", fix)));
    match report.locked_memory.filter(|&most| most < ENOUGH_LOCKED) {
        Some(most) => {
            let _ = writeln!(text, "Locked memory: {} only, so keys may reach swap", show_size(most));
            fixes
                .push(("keys that never reach swap", "raise the limit memlock in /etc/security/limits.conf"));
        }
        None => text.push_str("Locked memory: enough\n"),
    }
    text.push('\n');
    let mut row = |cells: [&str; 3]| {
        let [filesystem, mount, create] = cells;
        let _ = writeln!(text, "{filesystem:<12} {mount:<32} {create}");
    };
    row(["FILE SYSTEM", "MOUNT", "CREATE"]);
    for way in &ways.filesystems {
        let mount = match way.driver {
            Some(driver) if way.mount.note.is_some() => format!("{driver}, but see below"),
            Some(driver) => format!("{driver}"),
            None => format!("no: {}", way.mount.note.as_deref().unwrap_or("there is no FUSE")),
        };
        row([way.filesystem, &mount, &state(&way.create)]);
    }
    row(["any", if ways.fuse.ok { "--block" } else { "no" }, "-"]);
    for way in &ways.filesystems {
        if let (Some(_), Some(note)) = (way.driver, &way.mount.note) {
            let _ = writeln!(text, "\n{}: {note}.", way.filesystem);
        }
    }
    for way in &ways.filesystems {
        for part in [&way.mount, &way.create] {
            fixes.extend(part.fix.as_deref().map(|fix| (way.filesystem, fix)));
        }
    }
    if !fixes.is_empty() {
        text.push_str("\nTo open or improve the rest:\n");
        for (what, fix) in fixes {
            let _ = writeln!(text, "  {what}: {fix}");
        }
    }
    text
}

fn state(part: &Part) -> String {
    match (part.ok, &part.note) {
        (true, _) => "yes".to_owned(),
        (false, Some(note)) => format!("no: {note}"),
        (false, None) => "no".to_owned(),
    }
}

/// What all secrets of a mount take, with room to spare.
const ENOUGH_LOCKED: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom::{
        error::ErrorKind,
        mount::{Means, Way},
    };

    #[test]
    fn what_does_not_work_comes_with_what_opens_it() {
        let yes = || Part { ok: true, note: None, fix: None };
        let no = |note: &str, fix: &str| Part { ok: false, note: Some(note.into()), fix: Some(fix.into()) };
        let filesystems = vec![
            Way { filesystem: "exfat", driver: Some(Means::Builtin), mount: yes(), create: yes() },
            Way {
                filesystem: "xfs",
                driver: None,
                mount: no("only root mounts it", "sudo it"),
                create: no("mkfs.xfs is not installed", "get xfsprogs"),
            },
        ];
        let mut report = Report {
            version: "1",
            kernel: "6".into(),
            locked_memory: Some(64 << 10),
            ways: Ways {
                is_root: false,
                fuse: yes(),
                udisks: no("it hides", "show it"),
                logind: no("it is silent", "wake it"),
                sharing: yes(),
                filesystems,
            },
        };
        let text = describe(&report);
        for line in [
            "exfat        builtin                          yes",
            "xfs          no: only root mounts it          no: mkfs.xfs is not installed",
            "Locked memory: 64 KiB only, so keys may reach swap",
            "udisks: no: it hides",
            "  udisks: show it",
            "Sharing a mount (--share): yes",
            "logind: no: it is silent",
            "  sleep and logout: wake it",
            "  xfs: sudo it",
            "  xfs: get xfsprogs",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        report.ways.fuse = no("/dev/fuse is missing", "modprobe fuse");
        assert!(describe(&report).contains("  anything: modprobe fuse"));
        assert_eq!(report.ways.check().unwrap_err().kind(), ErrorKind::Missing);
    }
}
