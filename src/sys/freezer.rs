//! Processes that a control group has frozen: no signal but a kill reaches them, and in the first version of control groups not even
//! that.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The control group that has frozen a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freezer {
    /// The file that thaws it.
    control: PathBuf,
    /// What is to be written there.
    thawed: &'static str,
    /// Whether a kill ends the process all the same.
    pub lets_kill: bool,
}

impl Freezer {
    /// That of the process `pid`, if it is frozen.
    pub fn of(pid: i32) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        groups.lines().find_map(|line| {
            let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
            let group = group.trim_start_matches('/');
            match controllers {
                "" => UNIFIED.iter().find_map(|root| by_group(Path::new(root), group)),
                controllers if controllers.split(',').any(|name| name == "freezer") => {
                    by_controller(Path::new(FREEZER), group)
                }
                _ => None,
            }
        })
    }

    /// The command that thaws it.
    pub fn way_out(&self) -> String {
        format!("echo {} > {}", self.thawed, self.control.display())
    }
}

/// In the second version: the group that was told to freeze, or lies in one that was.
fn by_group(root: &Path, group: &str) -> Option<Freezer> {
    let own = root.join(group);
    let events = fs::read_to_string(own.join("cgroup.events")).ok()?;
    events.lines().find(|line| *line == "frozen 1")?;
    let control = told(root, &own, "cgroup.freeze", "1")?;
    Some(Freezer { control, thawed: "0", lets_kill: true })
}

/// The same in the first.
fn by_controller(root: &Path, group: &str) -> Option<Freezer> {
    let own = root.join(group);
    let state = fs::read_to_string(own.join("freezer.state")).ok()?;
    if state.trim_end() == "THAWED" {
        return None;
    }
    let control = told(root, &own, "freezer.self_freezing", "1")?.with_file_name("freezer.state");
    Some(Freezer { control, thawed: "THAWED", lets_kill: false })
}

/// The file `name` of `own`, or of the next group above it, that says `value`.
fn told(root: &Path, own: &Path, name: &str, value: &str) -> Option<PathBuf> {
    let above = own.ancestors().take_while(|group| group.starts_with(root));
    let mut files = above.map(|group| group.join(name));
    files.find(|file| fs::read_to_string(file).is_ok_and(|text| text.trim_end() == value))
}

const FREEZER: &str = "/sys/fs/cgroup/freezer";
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_frozen_by_itself_or_by_one_above_it() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("a/b");
        fs::create_dir_all(&own).unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("a/cgroup.freeze", "1\n");
        write("a/b/cgroup.freeze", "0\n");
        write("a/b/cgroup.events", "populated 1\nfrozen 0\n");
        assert_eq!(by_group(root.path(), "a/b"), None);
        write("a/b/cgroup.events", "populated 1\nfrozen 1\n");
        let way_out = format!("echo 0 > {}/a/cgroup.freeze", root.path().display());
        assert_eq!(by_group(root.path(), "a/b").unwrap().way_out(), way_out);

        write("a/b/freezer.state", "THAWED\n");
        assert_eq!(by_controller(root.path(), "a/b"), None);
        write("a/b/freezer.state", "FROZEN\n");
        write("a/b/freezer.self_freezing", "1\n");
        let found = by_controller(root.path(), "a/b").unwrap();
        assert_eq!(found.way_out(), format!("echo THAWED > {}/freezer.state", own.display()));
        assert!(!found.lets_kill);
    }

    #[test]
    fn who_runs_is_not_frozen() {
        assert_eq!(Freezer::of(i32::try_from(std::process::id()).unwrap()), None);
    }
}
