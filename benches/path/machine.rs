//! What the numbers were made on and with.

use std::{fs, process::Command};

use super::program::find;

/// Facts in pairs of a name and a value.
pub(super) struct Machine(pub(super) Vec<(&'static str, String)>);

impl Machine {
    pub(super) fn examine() -> Self {
        Self(vec![
            ("date", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            (
                "commit",
                first_line("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
            ),
            ("processor", format!("{}, {} in use", field("/proc/cpuinfo", "model name"), processors())),
            ("memory", field("/proc/meminfo", "MemTotal")),
            ("kernel", first_line("uname", &["-srm"])),
            ("load when it began", load()),
            ("fio", first_line("fio", &["--version"])),
            ("gocryptfs", first_line("gocryptfs", &["-version"])),
            ("qemu-storage-daemon", first_line("qemu-storage-daemon", &["--version"])),
            ("fuse2fs", first_line("dpkg-query", &["-W", "-f", "${Version}", "fuse2fs"])),
            ("libargon2", first_line("dpkg-query", &["-W", "-f", "${Version}", "argon2"])),
        ])
    }
}

/// The load averages, and how many processes run of how many.
pub(super) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(4).collect::<Vec<_>>().join(" ")
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The first value of a file of `name : value` lines.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// What a program says first, on either output.
fn first_line(name: &str, arguments: &[&str]) -> String {
    let Some(program) = find(name) else { return "not installed".to_owned() };
    let Ok(output) = Command::new(program).args(arguments).output() else { return "?".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}
