//! A folder in which the real command is called: as the user of this process, or as an ordinary one.

#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Place {
    folder: tempfile::TempDir,
    ids: Option<(u32, u32)>,
}

/// Whether volumes can be mounted here. Where not, says why in one line; panics there with `STRONGROOM_REQUIRE=1`.
pub(crate) fn can_mount() -> bool {
    let missing = ["/dev/fuse", "/usr/bin/fusermount3", "/usr/bin/fuse2fs"]
        .into_iter()
        .find(|path| !Path::new(path).exists());
    if let Some(missing) = missing {
        assert!(
            std::env::var_os("STRONGROOM_REQUIRE").is_none(),
            "{missing} is missing, and mount tests are required"
        );
        eprintln!("skipped: {missing} is missing, nothing can be mounted");
        return false;
    }
    if rustix::process::geteuid().is_root() {
        // udev gives this mode on real machines; a bare container may not have run it.
        std::fs::set_permissions("/dev/fuse", std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    true
}

/// The ordinary user of these tests, made where there is none.
fn ordinary_user() -> (u32, u32) {
    let id = |flag: &str| Command::new("id").args([flag, "strongroom-test"]).output().unwrap();
    if !id("-u").status.success() {
        let made =
            Command::new("/usr/sbin/useradd").args(["--no-create-home", "strongroom-test"]).status().unwrap();
        // Another test may have been faster.
        assert!(made.success() || id("-u").status.success(), "useradd failed");
    }
    let number = |flag| String::from_utf8(id(flag).stdout).unwrap().trim().parse().unwrap();
    (number("-u"), number("-g"))
}

impl Place {
    /// A place of the user who runs the tests.
    pub(crate) fn of_this_user() -> Self {
        Self::new(None)
    }

    /// A place of an ordinary user: another one where root runs the tests.
    pub(crate) fn of_ordinary_user() -> Self {
        Self::new(rustix::process::geteuid().is_root().then(ordinary_user))
    }

    fn new(ids: Option<(u32, u32)>) -> Self {
        let folder = tempfile::Builder::new().prefix("strongroom-test-").tempdir_in("/tmp").unwrap();
        let place = Self { folder, ids };
        place.give(place.folder.path());
        // By another process: a copy that is open here for writing while another test forks could not be run (ETXTBSY).
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_strongroom")).arg(place.path("strongroom")).status();
        assert!(copied.unwrap().success());
        place
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the user of this place the owner.
    pub(crate) fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.ids {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Makes a folder of the user.
    pub(crate) fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        self.give(&path);
        path
    }

    /// Makes a file of the user.
    pub(crate) fn make_file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        self.give(&path);
        path
    }

    /// A command that runs here as the user, without this process's environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs strongroom with these arguments.
    pub(crate) fn call(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.command(&self.path("strongroom")).args(arguments).output().unwrap()
    }

    /// Runs strongroom with these arguments, split at spaces.
    pub(crate) fn strongroom(&self, arguments: &str) -> Output {
        self.call(arguments.split(' '))
    }

    /// The same, and it must succeed.
    pub(crate) fn done(&self, arguments: &str) -> String {
        let output = self.strongroom(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "strongroom {arguments}: {:?}: {errors}", output.status.code());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a shell script in the folder as the user; only he can look into his mounts. Gives its output.
    pub(crate) fn shell(&self, script: &str) -> String {
        let output = self.command(Path::new("/bin/sh")).args(["-euc", script]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The first mount in this folder that `list` shows.
    pub(crate) fn listed(&self) -> serde_json::Value {
        let list: serde_json::Value = serde_json::from_str(&self.done("list --json")).unwrap();
        let mounts = list["mounts"].as_array().unwrap();
        let ours = mounts.iter().find(|mount| {
            mount["container"].as_str().unwrap().starts_with(self.folder.path().to_str().unwrap())
        });
        ours.cloned().unwrap_or(serde_json::Value::Null)
    }

    /// Nothing of this place is left on the machine.
    pub(crate) fn assert_clean(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder.path().to_str().unwrap()), "{mounts}");
        assert_eq!(self.listed(), serde_json::Value::Null);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a failed assertion: nothing may hold the folder.
        let list = self.call(["list", "--json"]).stdout;
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap_or_default();
        let containers = list["mounts"].as_array().into_iter().flatten();
        for container in containers.filter_map(|mount| mount["container"].as_str()) {
            if Path::new(container).starts_with(self.folder.path()) {
                drop(self.call(["unmount", container, "--force"]));
            }
        }
    }
}
