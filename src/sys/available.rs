//! Memory that this process can get: what the machine has to give, less where a control group allows less.

use std::{fs, path::PathBuf};

use super::control_group::{Groups, Version, groups_of};

/// What can be taken up now without swapping and without the kernel ending somebody, in bytes; no limit where it does not
/// tell.
pub fn memory() -> u64 {
    let machine = meminfo("MemAvailable:").unwrap_or(u64::MAX);
    groups().filter_map(|group| group.left()).fold(machine, u64::min)
}

/// What can be taken up at all, in bytes: the machine's memory, or the least limit of the control groups around this process.
pub fn whole_memory() -> u64 {
    let machine = meminfo("MemTotal:").unwrap_or(u64::MAX);
    limit().map_or(machine, |limit| limit.min(machine))
}

/// The least memory that a control group around this process allows it, in bytes. `None` where none limits it.
pub fn limit() -> Option<u64> {
    groups().filter_map(|group| group.limit()).min()
}

/// Whether a control group allows this process less than the machine has.
pub fn is_limited() -> bool {
    let machine = meminfo("MemTotal:").unwrap_or(u64::MAX);
    limit().is_some_and(|limit| limit < machine)
}

fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The groups that limit the memory of this process: its own, and those around it, as far as they can be seen from here.
fn groups() -> impl Iterator<Item = Group> {
    let hierarchies = groups_of("self", "memory").into_iter();
    hierarchies.flat_map(|Groups { version, folders }| {
        folders.into_iter().map(move |folder| Group { folder, version })
    })
}

/// A control group.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    version: Version,
}

impl Group {
    /// Its limit, in bytes.
    fn limit(&self) -> Option<u64> {
        let limit = self.number(match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        });
        // The first version says "none" with the largest number of pages.
        limit.filter(|&limit| limit < NO_LIMIT)
    }

    /// What is left of it. The cache of files can go at any time.
    fn left(&self) -> Option<u64> {
        let limit = self.limit()?;
        let used = self.number(match self.version {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        })?;
        let cached = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let names = match self.version {
            Version::One => ["total_inactive_file ", "total_active_file "],
            Version::Two => ["inactive_file ", "active_file "],
        };
        let lines = cached.lines().filter_map(|line| names.iter().find_map(|name| line.strip_prefix(name)));
        let cached = lines.filter_map(|number| number.trim().parse().ok()).fold(0, u64::saturating_add);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    }

    fn number(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(name)).ok()?.trim().parse().ok()
    }
}

const NO_LIMIT: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_the_limit_without_what_cannot_go() {
        let folder = tempfile::tempdir().unwrap();
        let group = |version| Group { folder: folder.path().to_path_buf(), version };
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!((group(Version::Two).limit(), group(Version::One).left()), (None, None));
        write("memory.max", "max\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!((group(Version::Two).limit(), group(Version::One).limit()), (None, None));

        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        write("memory.stat", "anon 1\nactive_file 7\ninactive_file 300\ntotal_inactive_file 200\n");
        assert_eq!((group(Version::Two).limit(), group(Version::Two).left()), (Some(1000), Some(407)));
        write("memory.limit_in_bytes", "2000\n");
        write("memory.usage_in_bytes", "700\n");
        assert_eq!((group(Version::One).limit(), group(Version::One).left()), (Some(2000), Some(1500)));
    }

    #[test]
    fn this_machine_has_memory_to_give() {
        assert!(memory() > 0 && whole_memory() >= memory() / 2);
    }
}
