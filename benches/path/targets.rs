//! What is compared: ours, the peers, and what bounds us. Each is a file or a directory to work on, taken down on drop.

use std::{
    any::Any,
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use super::program::{Mounted, Running, command, find, run, run_quietly, server};

/// Something to run jobs on. The fields are dropped in order: mounts before the programs behind them.
pub(super) struct Target {
    pub(super) name: &'static str,
    /// The file that jobs read and write; they make it where it is not there.
    pub(super) file: PathBuf,
    /// The directory to unpack in, where there is a file system.
    pub(super) directory: Option<PathBuf>,
    /// As whom jobs run.
    who: Who,
    /// This program, where `who` can run it.
    program: PathBuf,
    _mounts: Vec<Guard>,
    _server: Option<Running>,
}

impl Target {
    /// A command that runs as whoever may use the target.
    pub(super) fn command(&self, name: &str) -> Command {
        self.who.runs(command(name))
    }

    /// The same, for this program.
    pub(super) fn own_command(&self) -> Command {
        self.who.runs(Command::new(&self.program))
    }
}

/// As whom something is mounted and used: a FUSE mount lets in nobody else, root neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Root,
    /// `nobody`, by the number that all distributions give it.
    User,
}

impl Who {
    fn runs(self, mut command: Command) -> Command {
        if self == Self::User {
            // Root's home is closed to them.
            command.uid(USER).gid(USER).env("HOME", "/").env_remove("XDG_CONFIG_HOME");
        }
        command
    }

    fn owns(self, path: &Path) {
        if self == Self::User {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
    }
}

/// Takes something down when it is dropped.
type Guard = Box<dyn Any>;

/// The folders in which everything of one run lies.
pub(super) struct Workshop {
    /// On tmpfs: containers, images, what is unpacked.
    pub(super) store: PathBuf,
    /// Where mounting is usual: the mount points.
    mounts: PathBuf,
}

impl Drop for Workshop {
    fn drop(&mut self) {
        for mounted in Mounted::below(&self.mounts) {
            drop(Mounted(mounted));
        }
        fs::remove_dir_all(&self.mounts).ok();
        fs::remove_dir_all(&self.store).ok();
    }
}

impl Workshop {
    pub(super) fn new() -> Self {
        let name = format!("strongroom-bench-{}", std::process::id());
        let (store, mounts) = (Path::new("/dev/shm").join(&name), std::env::temp_dir().join(&name));
        fs::create_dir(&store).unwrap();
        fs::create_dir(&mounts).unwrap();
        fs::write(store.join("password"), "measure only").unwrap();
        // The build folder may be in a home that is closed to others.
        fs::copy(env!("CARGO_BIN_EXE_strongroom"), store.join("strongroom")).unwrap();
        fs::copy(std::env::current_exe().unwrap(), store.join("bench")).unwrap();
        for who in [Who::Root, Who::User] {
            let sessions = Self::sessions(&store, who);
            fs::create_dir(&sessions).unwrap();
            fs::set_permissions(&sessions, fs::Permissions::from_mode(0o700)).unwrap();
            who.owns(&sessions);
        }
        Self { store, mounts }
    }

    fn sessions(store: &Path, who: Who) -> PathBuf {
        store.join(format!("sessions of {who:?}"))
    }

    fn fresh(&self, name: &str, who: Who) -> PathBuf {
        let path = self.mounts.join(name);
        fs::create_dir(&path).unwrap();
        who.owns(&path);
        path
    }

    /// `strongroom`, with sessions of this run's own.
    fn strongroom(&self, who: Who) -> Command {
        let mut command = who.runs(Command::new(self.store.join("strongroom")));
        command.env("XDG_RUNTIME_DIR", Self::sessions(&self.store, who)).current_dir("/").arg("--quiet");
        command
    }

    /// A container at the least cost of a keyslot.
    fn container(&self, path: &Path, mebibytes: u64, filesystem: &str) {
        run(self
            .strongroom(Who::Root)
            .arg("create")
            .arg(path)
            .args(["--size", &format!("{mebibytes}M"), "--filesystem", filesystem])
            .args(["--provision", "quick", "--kdf-memory", "64M", "--kdf-passes", "3", "--kdf-lanes", "1"])
            .arg("--password-file")
            .arg(self.store.join("password")));
    }

    fn mount(&self, container: &Path, directory: &Path, options: &[&str], who: Who) -> Guard {
        let mut mount = self.strongroom(who);
        mount.arg("mount").args(options).arg(container).arg(directory);
        run(mount.arg("--password-file").arg(self.store.join("password")));
        let mut unmount = self.strongroom(who);
        unmount.args(["unmount", "--force"]).arg(directory);
        Box::new(TakenDown(unmount))
    }

    /// The memory that the servers of a user have of their own, in MiB: what is mapped of a container is the kernel's cache.
    pub(super) fn memory(&self, who: Who) -> f64 {
        let listed = run(self.strongroom(who).args(["list", "--json"]));
        let sessions: serde_json::Value = serde_json::from_slice(&listed).unwrap();
        let pids = sessions["mounts"].as_array().unwrap().iter().map(|mount| &mount["pid"]);
        let own = pids.map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let kibibytes = ["RssAnon:", "VmPTE:"].map(|name| field(name).trim().trim_end_matches(" kB"));
            kibibytes.iter().map(|number| number.parse::<f64>().unwrap() / 1024.0).sum()
        });
        own.fold(0.0, f64::max)
    }

    /// Our block file, as the loop device gets it.
    pub(super) fn our_block_file(&self) -> Target {
        let (container, directory) = (self.store.join("ours.vault"), self.fresh("ours", Who::Root));
        self.container(&container, BLOCK_MIB, "none");
        let mount = self.mount(&container, &directory, &["--block"], Who::Root);
        self.target("strongroom", directory.join("volume"), vec![mount])
    }

    /// The transport alone.
    pub(super) fn null_server(&self) -> Target {
        let directory = self.fresh("null", Who::Root);
        let mut server = server(&std::env::current_exe().unwrap());
        server.arg("--null").arg(&directory).arg((BLOCK_MIB << 20).to_string());
        let file = directory.join("volume");
        let server = Running::start(&mut server, || file.exists());
        let mounts: Vec<Guard> = vec![Box::new(Mounted(directory))];
        Target { _server: Some(server), ..self.target("null server", file, mounts) }
    }

    /// gocryptfs with its defaults; jobs work on one file in it.
    pub(super) fn gocryptfs(&self, who: Who) -> Target {
        let (cipher, directory) = (self.store.join("gocryptfs"), self.fresh("gocryptfs", who));
        fs::create_dir(&cipher).unwrap();
        who.owns(&cipher);
        let password = self.store.join("password");
        run(who
            .runs(command("gocryptfs"))
            .args(["-init", "-q", "-scryptn", "10", "-passfile"])
            .arg(&password)
            .arg(&cipher));
        let mut server = who.runs(server(&find("gocryptfs").unwrap()));
        server.args(["-fg", "-q", "-passfile"]).arg(&password).arg(&cipher).arg(&directory);
        let server = Running::start(&mut server, || Mounted::is_there(&directory));
        let mounts: Vec<Guard> = vec![Box::new(Mounted(directory.clone()))];
        let file = directory.join("file");
        let target = self.target("gocryptfs", file, mounts);
        Target { directory: Some(directory), who, _server: Some(server), ..target }
    }

    /// LUKS1 with aes-256-xts by QEMU's storage daemon, as a file over FUSE.
    pub(super) fn qemu(&self) -> Target {
        let (image, file) = (self.store.join("qemu.luks"), self.mounts.join("qemu"));
        fs::write(&file, "").unwrap();
        let secret = format!("secret,id=key,file={}", self.store.join("password").display());
        run(command("qemu-img")
            .args(["create", "-q", "-f", "luks", "--object", &secret, "-o"])
            .arg("key-secret=key,cipher-alg=aes-256,cipher-mode=xts,iter-time=10")
            .arg(&image)
            .arg(format!("{BLOCK_MIB}M")));
        let mut server = server(&find("qemu-storage-daemon").unwrap());
        server.args(["--object", &secret, "--blockdev"]);
        server.arg(format!("file,node-name=file,filename={}", image.display()));
        server.args(["--blockdev", "luks,node-name=plain,file=file,key-secret=key", "--export"]);
        server.arg(format!("fuse,id=export,node-name=plain,mountpoint={},writable=on", file.display()));
        let server = Running::start(&mut server, || Mounted::is_there(&file));
        let mounts: Vec<Guard> = vec![Box::new(Mounted(file.clone()))];
        Target { _server: Some(server), ..self.target("qemu-storage-daemon", file, mounts) }
    }

    /// A container with ext4 in it, made as for the plain image beside it.
    fn container_with_ext4(&self, container: &Path, mebibytes: u64) {
        let name = container.file_name().unwrap().to_string_lossy().into_owned();
        let directory = self.fresh(&format!("{name}.made"), Who::Root);
        self.container(container, mebibytes, "none");
        let mount = self.mount(container, &directory, &["--block"], Who::Root);
        make_ext4(&directory.join("volume"));
        drop(mount);
    }

    fn plain_image(&self, name: &str, mebibytes: u64) -> PathBuf {
        let path = self.store.join(name);
        fs::File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
        make_ext4(&path);
        path
    }

    /// The kernel's ext4 on our loop device.
    pub(super) fn our_ext4(&self) -> Target {
        self.kernel_ext4(&self.store)
    }

    /// The same, with the container where temporary files are: on a disk, mostly.
    pub(super) fn our_ext4_on_disk(&self) -> Target {
        self.kernel_ext4(&self.mounts)
    }

    fn kernel_ext4(&self, store: &Path) -> Target {
        let (container, directory) = (store.join("ext4.vault"), self.fresh("ext4", Who::Root));
        self.container_with_ext4(&container, EXT4_MIB);
        let mount = self.mount(&container, &directory, &["--driver", "kernel"], Who::Root);
        let file = directory.join("file");
        Target { directory: Some(directory), ..self.target("strongroom, ext4", file, vec![mount]) }
    }

    /// The kernel's ext4 on a loop device on a file, with direct I/O as far as it goes.
    pub(super) fn plain_ext4(&self) -> Target {
        let (image, directory) = (self.plain_image("plain.img", EXT4_MIB), self.fresh("plain", Who::Root));
        let device = run(command("losetup")
            .args(["--find", "--show", "--direct-io=on", "--sector-size", "4096"])
            .arg(image));
        let device = String::from_utf8(device).unwrap().trim().to_owned();
        let mut detach = command("losetup");
        detach.args(["--detach", &device]);
        let detach = Box::new(TakenDown(detach));
        run(command("mount").args(["-t", "ext4", &device]).arg(&directory));
        let file = directory.join("file");
        let mounts: Vec<Guard> = vec![Box::new(Mounted(directory.clone())), detach];
        Target { directory: Some(directory), ..self.target("plain loop, ext4", file, mounts) }
    }

    /// ext4 as ordinary users have it.
    pub(super) fn our_files(&self) -> Target {
        self.builtin_ext4(&self.store)
    }

    /// The same, with the container on a disk.
    pub(super) fn our_files_on_disk(&self) -> Target {
        self.builtin_ext4(&self.mounts)
    }

    fn builtin_ext4(&self, store: &Path) -> Target {
        let container = store.join("files.vault");
        self.container_with_ext4(&container, FILES_MIB);
        self.builtin(&container)
    }

    /// exFAT, made by us.
    pub(super) fn our_exfat(&self) -> Target {
        let container = self.store.join("exfat.vault");
        self.container(&container, FILES_MIB, "exfat");
        self.builtin(&container)
    }

    fn builtin(&self, container: &Path) -> Target {
        let (who, directory) = (Who::User, self.fresh("files", Who::User));
        who.owns(container);
        let mount = self.mount(container, &directory, &["--driver", "builtin"], who);
        let file = directory.join("file");
        let target = self.target("strongroom, builtin", file, vec![mount]);
        Target { directory: Some(directory), who, ..target }
    }

    /// `fuse2fs` on the plain image.
    pub(super) fn plain_fuse2fs(&self) -> Target {
        let (who, image) = (Who::User, self.plain_image("fuse2fs.img", FILES_MIB));
        let directory = self.fresh("fuse2fs.plain", who);
        who.owns(&image);
        let mut server = who.runs(server(&find("fuse2fs").unwrap()));
        server.arg("-f").arg(image).arg(&directory).args(["-o", "fakeroot"]);
        let server = Running::start(&mut server, || Mounted::is_there(&directory));
        let file = directory.join("file");
        let mounts: Vec<Guard> = vec![Box::new(Mounted(directory.clone()))];
        let target = self.target("plain image, fuse2fs", file, mounts);
        Target { directory: Some(directory), who, _server: Some(server), ..target }
    }

    fn target(&self, name: &'static str, file: PathBuf, mounts: Vec<Guard>) -> Target {
        let program = self.store.join("bench");
        Target { name, file, directory: None, who: Who::Root, program, _mounts: mounts, _server: None }
    }
}

fn make_ext4(device: &Path) {
    run(command("mkfs.ext4")
        .args([
            "-q",
            "-F",
            "-b",
            "4096",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0,root_owner=65534:65534",
        ])
        .arg(device));
}

/// Takes down by a command on drop.
struct TakenDown(Command);

impl Drop for TakenDown {
    fn drop(&mut self) {
        run_quietly(&mut self.0);
    }
}

const BLOCK_MIB: u64 = 512;
const EXT4_MIB: u64 = 1024;
/// Room for the file of 1 GiB.
const FILES_MIB: u64 = 1536;
const USER: u32 = 65534;
