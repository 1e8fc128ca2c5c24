//! What is compared: ours, the peers, and what bounds us. Each is a file or a directory to work on, taken down on drop.

use std::{
    any::Any,
    fs,
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
    _mounts: Vec<Guard>,
    _server: Option<Running>,
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
        Self { store, mounts }
    }

    fn fresh(&self, name: &str) -> PathBuf {
        let path = self.mounts.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// `strongroom`, with sessions of this run's own.
    fn strongroom(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.env("XDG_RUNTIME_DIR", &self.store).arg("--quiet");
        command
    }

    /// A container without a file system, at the least cost of a keyslot.
    fn container(&self, name: &str, mebibytes: u64) -> PathBuf {
        let path = self.store.join(name);
        run(self
            .strongroom()
            .arg("create")
            .arg(&path)
            .args(["--size", &format!("{mebibytes}M")])
            .args([
                "--filesystem",
                "none",
                "--provision",
                "quick",
                "--kdf-memory",
                "64M",
                "--kdf-passes",
                "3",
                "--kdf-lanes",
                "1",
                "--password-file",
            ])
            .arg(self.store.join("password")));
        path
    }

    fn mount(&self, container: &Path, directory: &Path, options: &[&str]) -> Guard {
        let mut mount = self.strongroom();
        mount.arg("mount").args(options).arg(container).arg(directory);
        run(mount.arg("--password-file").arg(self.store.join("password")));
        let mut unmount = self.strongroom();
        unmount.args(["unmount", "--force"]).arg(directory);
        Box::new(TakenDown(unmount))
    }

    /// Our block file, as the loop device gets it.
    pub(super) fn our_block_file(&self) -> Target {
        let (container, directory) = (self.container("ours.vault", BLOCK_MIB), self.fresh("ours"));
        let mount = self.mount(&container, &directory, &["--block"]);
        target("strongroom", directory.join("volume"), vec![mount])
    }

    /// The transport alone.
    pub(super) fn null_server(&self) -> Target {
        let directory = self.fresh("null");
        let mut server = server(&std::env::current_exe().unwrap());
        server.arg("--null").arg(&directory).arg((BLOCK_MIB << 20).to_string());
        let file = directory.join("volume");
        let server = Running::start(&mut server, || file.exists());
        let mounts: Vec<Guard> = vec![Box::new(Mounted(directory))];
        Target { _server: Some(server), ..target("null server", file, mounts) }
    }

    /// gocryptfs with its defaults; jobs work on one file in it.
    pub(super) fn gocryptfs(&self) -> Target {
        let (cipher, directory) = (self.store.join("gocryptfs"), self.fresh("gocryptfs"));
        fs::create_dir(&cipher).unwrap();
        let password = self.store.join("password");
        run(command("gocryptfs")
            .args(["-init", "-q", "-scryptn", "10", "-passfile"])
            .arg(&password)
            .arg(&cipher));
        let mut server = server(&find("gocryptfs").unwrap());
        server.args(["-fg", "-q", "-passfile"]).arg(&password).arg(&cipher).arg(&directory);
        let server = Running::start(&mut server, || Mounted::is_there(&directory));
        let mounts: Vec<Guard> = vec![Box::new(Mounted(directory.clone()))];
        let file = directory.join("file");
        Target { directory: Some(directory), _server: Some(server), ..target("gocryptfs", file, mounts) }
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
        Target { _server: Some(server), ..target("qemu-storage-daemon", file, mounts) }
    }

    /// A container with ext4 in it, made as for the plain image beside it.
    fn container_with_ext4(&self, name: &str, mebibytes: u64) -> PathBuf {
        let (container, directory) = (self.container(name, mebibytes), self.fresh(&format!("{name}.made")));
        let mount = self.mount(&container, &directory, &["--block"]);
        make_ext4(&directory.join("volume"));
        drop(mount);
        container
    }

    fn plain_image(&self, name: &str, mebibytes: u64) -> PathBuf {
        let path = self.store.join(name);
        fs::File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
        make_ext4(&path);
        path
    }

    /// The kernel's ext4 on our loop device.
    pub(super) fn our_ext4(&self) -> Target {
        let (container, directory) = (self.container_with_ext4("ext4.vault", EXT4_MIB), self.fresh("ext4"));
        let mount = self.mount(&container, &directory, &["--driver", "kernel"]);
        let file = directory.join("file");
        Target { directory: Some(directory), ..target("strongroom, ext4", file, vec![mount]) }
    }

    /// The kernel's ext4 on a loop device on a file, with direct I/O as far as it goes.
    pub(super) fn plain_ext4(&self) -> Target {
        let (image, directory) = (self.plain_image("plain.img", EXT4_MIB), self.fresh("plain"));
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
        Target { directory: Some(directory), ..target("plain loop, ext4", file, mounts) }
    }

    /// ext4 as ordinary users have it.
    pub(super) fn our_files(&self) -> Target {
        let (container, directory) =
            (self.container_with_ext4("files.vault", FUSE2FS_MIB), self.fresh("files"));
        let mount = self.mount(&container, &directory, &["--driver", "builtin"]);
        target("strongroom, builtin", directory.join("file"), vec![mount])
    }

    /// `fuse2fs` on the plain image.
    pub(super) fn plain_fuse2fs(&self) -> Target {
        let (image, directory) = (self.plain_image("fuse2fs.img", FUSE2FS_MIB), self.fresh("fuse2fs.plain"));
        let mut server = server(&find("fuse2fs").unwrap());
        server.arg("-f").arg(image).arg(&directory).args(["-o", "fakeroot"]);
        let server = Running::start(&mut server, || Mounted::is_there(&directory));
        let file = directory.join("file");
        let mounts: Vec<Guard> = vec![Box::new(Mounted(directory))];
        Target { _server: Some(server), ..target("plain image, fuse2fs", file, mounts) }
    }
}

fn target(name: &'static str, file: PathBuf, mounts: Vec<Guard>) -> Target {
    Target { name, file, directory: None, _mounts: mounts, _server: None }
}

fn make_ext4(device: &Path) {
    run(command("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
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
const FUSE2FS_MIB: u64 = 1536;
