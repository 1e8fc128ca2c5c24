//! The control groups of a process (cgroups(7)).

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use super::mount_table::Line;

/// The interface of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller, or for several.
    One,
    /// One for all.
    Two,
}

/// The group of a process in one hierarchy, and those around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// Their interface.
    pub version: Version,
    /// Their folders, as far as they can be seen from here: its own first.
    pub folders: Vec<PathBuf>,
}

/// The groups of the process `pid` (a number, or `self`) in the hierarchies that have this controller, or may have it.
pub fn groups_of(pid: &str, controller: &str) -> Vec<Groups> {
    let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    find(&memberships, &fs::read("/proc/self/mountinfo").unwrap_or_default(), controller)
}

/// By the text of `/proc/PID/cgroup`, and by the table of mounts.
fn find(memberships: &str, mounts: &[u8], controller: &str) -> Vec<Groups> {
    let mounts: Vec<_> = mounts.split(|&byte| byte == b'\n').filter_map(Line::parse).collect();
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = match controllers.split(',').any(|name| name == controller) {
            true => Version::One,
            false if number == "0" && controllers.is_empty() => Version::Two,
            false => continue,
        };
        let is_it = |mount: &&Line| is_hierarchy(mount, version, controller);
        let Some(Line { root, place: top, .. }) = mounts.iter().find(is_it) else { continue };
        // In a container the mount shows a part of the tree, and paths may begin outside it.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let is_plain = |part: &Component<'_>| matches!(part, Component::Normal(_));
        let own = if below.components().all(|part| is_plain(&part)) {
            below.components().fold(top.clone(), |folder, part| folder.join(part))
        } else {
            top.clone()
        };
        let folders = own.ancestors().take_while(|folder| folder.starts_with(top));
        found.push(Groups { version, folders: folders.map(Path::to_path_buf).collect() });
    }
    found
}

/// Whether a mount shows a hierarchy that has the controller, or may have it.
fn is_hierarchy(mount: &Line, version: Version, controller: &str) -> bool {
    let options = mount.options.to_string_lossy();
    match version {
        Version::One => mount.kind == "cgroup" && options.split(',').any(|option| option == controller),
        Version::Two => mount.kind == "cgroup2",
    }
}

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
            let found = find(memberships, mounts.as_bytes(), "memory").into_iter();
            let folders = found.flat_map(|groups| groups.folders);
            folders.map(|folder| folder.to_str().unwrap().to_owned()).collect::<Vec<_>>()
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
}
