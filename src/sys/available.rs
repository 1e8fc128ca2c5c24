//! Memory that this process can get: what the machine has to give, less where a control group allows less.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

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
    let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
    find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo")).into_iter()
}

/// By the texts of `/proc/self/cgroup` (cgroups(7)) and `/proc/self/mountinfo`.
fn find(memberships: &str, mounts: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = match controllers.split(',').any(|controller| controller == "memory") {
            true => Version::One,
            false if number == "0" && controllers.is_empty() => Version::Two,
            false => continue,
        };
        let Some((root, top)) = mounts.lines().find_map(|line| hierarchy(line, version)) else { continue };
        // In a container the mount shows a part of the tree, and paths may begin outside it.
        let below = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
        let is_plain = |part: &Component<'_>| matches!(part, Component::Normal(_));
        let own = if below.components().all(|part| is_plain(&part)) {
            below.components().fold(top.clone(), |folder, part| folder.join(part))
        } else {
            top.clone()
        };
        let ancestors = own.ancestors().take_while(|folder| folder.starts_with(&top));
        found.extend(ancestors.map(|folder| Group { folder: folder.to_path_buf(), version }));
    }
    found
}

/// The root and the mount point of a hierarchy that has the memory controller, or may have it.
fn hierarchy(line: &str, version: Version) -> Option<(PathBuf, PathBuf)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, top) = (fields.next()?, fields.next()?);
    let mut fields = file_system.split(' ');
    let (kind, options) = (fields.next()?, fields.nth(1)?);
    let is_it = match version {
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
        Version::Two => kind == "cgroup2",
    };
    is_it.then(|| (PathBuf::from(root), PathBuf::from(top)))
}

/// The interface of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
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
    fn the_groups_of_both_versions_are_found_with_those_around_them() {
        let mounts = "\
            30 20 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n\
            31 20 0:27 / /sys/fs/cgroup/cpu rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
            32 20 0:28 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        let folders = |memberships: &str, mounts: &str| {
            let found = find(memberships, mounts).into_iter();
            found.map(|group| group.folder.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let one = "9:cpu,cpuacct:/a\n4:memory:/a/b\n0::/\n";
        assert_eq!(
            folders(one, mounts),
            [
                "/sys/fs/cgroup/memory/a/b",
                "/sys/fs/cgroup/memory/a",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/unified"
            ]
        );
        let two = "0::/user.slice/x:y.scope\n";
        let mounted = "25 20 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            folders(two, mounted),
            ["/sys/fs/cgroup/user.slice/x:y.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"]
        );
        // As in a container: the mount shows the container's own group.
        let inside = "25 20 0:23 /docker/1234 /sys/fs/cgroup ro - cgroup cgroup rw,memory\n";
        assert_eq!(folders("4:memory:/docker/1234\n", inside), ["/sys/fs/cgroup"]);
        assert_eq!(folders("0::/../other\n", mounted), ["/sys/fs/cgroup"]);
        assert!(folders("garbage\n::\n", "garbage\n - cgroup2\n").is_empty());
    }

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
