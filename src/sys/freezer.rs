//! Processes that a control group has frozen: no signal but a kill reaches them, and in the first version of control groups not even
//! that.

use std::{fs, path::PathBuf};

use super::control_group::{Version, groups_of};

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
        groups_of(&pid.to_string(), "freezer").into_iter().find_map(|groups| match groups.version {
            Version::One => by_controller(&groups.folders),
            Version::Two => by_group(&groups.folders),
        })
    }

    /// The command that thaws it.
    pub fn way_out(&self) -> String {
        format!("echo {} > {}", self.thawed, self.control.display())
    }
}

/// In the second version: the group that was told to freeze, or lies in one that was.
fn by_group(folders: &[PathBuf]) -> Option<Freezer> {
    let events = fs::read_to_string(folders.first()?.join("cgroup.events")).ok()?;
    events.lines().find(|line| *line == "frozen 1")?;
    let control = told(folders, "cgroup.freeze", "1")?;
    Some(Freezer { control, thawed: "0", lets_kill: true })
}

/// The same in the first.
fn by_controller(folders: &[PathBuf]) -> Option<Freezer> {
    let state = fs::read_to_string(folders.first()?.join("freezer.state")).ok()?;
    if state.trim_end() == "THAWED" {
        return None;
    }
    let control = told(folders, "freezer.self_freezing", "1")?.with_file_name("freezer.state");
    Some(Freezer { control, thawed: "THAWED", lets_kill: false })
}

/// The file `name` of the first of these groups that says `value`.
fn told(folders: &[PathBuf], name: &str, value: &str) -> Option<PathBuf> {
    let mut files = folders.iter().map(|folder| folder.join(name));
    files.find(|file| fs::read_to_string(file).is_ok_and(|text| text.trim_end() == value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_frozen_by_itself_or_by_one_above_it() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("a/b");
        fs::create_dir_all(&own).unwrap();
        let groups = [own.clone(), root.path().join("a"), root.path().to_path_buf()];
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("a/cgroup.freeze", "1\n");
        write("a/b/cgroup.freeze", "0\n");
        write("a/b/cgroup.events", "populated 1\nfrozen 0\n");
        assert_eq!(by_group(&groups), None);
        write("a/b/cgroup.events", "populated 1\nfrozen 1\n");
        let way_out = format!("echo 0 > {}/a/cgroup.freeze", root.path().display());
        assert_eq!(by_group(&groups).unwrap().way_out(), way_out);

        write("a/b/freezer.state", "THAWED\n");
        assert_eq!(by_controller(&groups), None);
        write("a/b/freezer.state", "FROZEN\n");
        write("a/b/freezer.self_freezing", "1\n");
        let found = by_controller(&groups).unwrap();
        assert_eq!(found.way_out(), format!("echo THAWED > {}/freezer.state", own.display()));
        assert!(!found.lets_kill);
    }

    #[test]
    fn who_runs_is_not_frozen() {
        assert_eq!(Freezer::of(i32::try_from(std::process::id()).unwrap()), None);
    }
}
