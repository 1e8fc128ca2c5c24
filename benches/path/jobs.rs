//! The work that is timed. Every job is bounded by time or by a fixed amount, and has a limit.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use strongroom::crypto::kdf::{Argon2Cost, argon2id};

use super::{
    program::{command, run, run_quietly, run_within},
    small,
    targets::Target,
};

/// A kind of work. Its result is better when it is higher, or, for times, when it is lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// 1 MiB at a time, four in flight, `O_DIRECT`; MiB/s.
    Read,
    /// The same, writing.
    Write,
    /// 4 KiB anywhere, 32 in flight, `O_DIRECT`; operations a second.
    RandomRead32,
    /// 4 KiB anywhere, one at a time, `O_DIRECT`; operations a second.
    RandomRead1,
    /// Unpacking the tree, and `sync -f`; seconds.
    Untar,
    /// 20,000 files of a few KiB made, read, and removed again; seconds.
    SmallFiles,
    /// 20,000 empty files made, and one sync at the end; seconds.
    Creates,
    /// The most memory of its own that our server had after any job; MiB.
    Memory,
    /// Writing through the page cache, and `fsync` at the end; MiB/s.
    BufferedWrite,
    /// Reading that back with every cache in between dropped; MiB/s.
    BufferedRead,
}

impl Job {
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Read | Self::Write | Self::BufferedWrite | Self::BufferedRead => "MiB/s",
            Self::RandomRead32 | Self::RandomRead1 => "IOPS",
            Self::Untar | Self::SmallFiles | Self::Creates => "s",
            Self::Memory => "MiB",
        }
    }

    /// Runs once and gives the result in its unit.
    pub(super) fn run(self, target: &Target, tree: &Tree) -> f64 {
        match self {
            Self::Read => fio(
                target,
                "read",
                &["--bs=1m", "--iodepth=4", "--ioengine=libaio", "--direct=1", TIMED, SHORT, SMALL],
            ),
            Self::Write => fio(
                target,
                "write",
                &["--bs=1m", "--iodepth=4", "--ioengine=libaio", "--direct=1", TIMED, SHORT, SMALL],
            ),
            Self::RandomRead32 => fio(
                target,
                "randread",
                &["--bs=4k", "--iodepth=32", "--ioengine=libaio", "--direct=1", TIMED, SHORT, SMALL],
            ),
            Self::RandomRead1 => {
                fio(target, "randread", &["--bs=4k", "--ioengine=psync", "--direct=1", TIMED, SHORT, SMALL])
            }
            Self::Untar => tree.unpack(target),
            Self::SmallFiles => {
                [small::FILL, small::READ, small::REMOVE].map(|what| small::run(target, what)).iter().sum()
            }
            Self::Creates => {
                let seconds = small::run(target, small::CREATE);
                small::run(target, small::REMOVE);
                seconds
            }
            Self::Memory => panic!("it is measured after each of the others"),
            Self::BufferedWrite => {
                fio(target, "write", &["--bs=1m", "--ioengine=psync", "--end_fsync=1", LONG, LARGE])
            }
            Self::BufferedRead => {
                drop_cache(target);
                fio(target, "read", &["--bs=1m", "--ioengine=psync", LONG, LARGE])
            }
        }
    }
}

/// The file is laid out before time is taken: `fio` does that by itself where it reads.
fn fio(target: &Target, what: &str, options: &[&str]) -> f64 {
    let mut fio = target.command("fio");
    fio.args(["--name=job", "--output-format=json", "--fallocate=none", "--randrepeat=0", "--norandommap"]);
    fio.arg(format!("--filename={}", target.file.display())).arg(format!("--rw={what}")).args(options);
    let output = run_within(&mut fio, LIMIT);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let start = text.find('{').unwrap_or_else(|| panic!("{fio:?} said {text} {errors}"));
    let result: serde_json::Value = serde_json::from_str(&text[start..]).unwrap();
    let direction = if what.ends_with("read") { "read" } else { "write" };
    let job = &result["jobs"][0];
    assert_eq!(job["error"], 0, "{fio:?}: {errors}");
    let part = &job[direction];
    if options[0] == "--bs=4k" {
        return part["iops"].as_f64().unwrap();
    }
    let mebibytes = part["io_bytes"].as_f64().unwrap() / f64::from(1 << 20);
    // With the `fsync` at the end, which fio's own rate leaves out.
    let seconds = part["runtime"].as_f64().unwrap() / 1000.0;
    let sync = job["sync"]["lat_ns"]["mean"].as_f64().unwrap_or(0.0)
        * job["sync"]["total_ios"].as_f64().unwrap_or(0.0)
        / 1e9;
    mebibytes / (seconds + if direction == "write" { sync } else { 0.0 })
}

/// Has the kernel forget what it holds of the file.
fn drop_cache(target: &Target) {
    run(target.command("sync").arg(&target.file));
    let file = format!("if={}", target.file.display());
    run(target.command("dd").args([&file, "iflag=nocache", "count=0", "status=none"]));
}

/// An archive like that of a project's sources.
pub(super) struct Tree(PathBuf);

impl Tree {
    /// 950 files of 136 KiB on average in 50 folders, 130 MB, packed.
    pub(super) fn new(workshop: &Path) -> Self {
        let sources = workshop.join("tree");
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for number in 0..950 {
            let folder = sources.join(format!("folder-{}", number % 50));
            fs::create_dir_all(&folder).unwrap();
            let words = random() % 35_000;
            let content: Vec<u8> = (0..words).flat_map(|_| random().to_le_bytes()).collect();
            fs::write(folder.join(format!("file-{number}")), content).unwrap();
        }
        let archive = workshop.join("tree.tar");
        run(command("tar").arg("-C").arg(workshop).arg("-cf").arg(&archive).arg("tree"));
        fs::remove_dir_all(sources).unwrap();
        Self(archive)
    }

    fn unpack(&self, target: &Target) -> f64 {
        let directory = target.directory.as_deref().unwrap();
        let start = Instant::now();
        run(target.command("tar").arg("-C").arg(directory).arg("-xf").arg(&self.0));
        run_quietly(target.command("sync").arg("-f").arg(directory));
        let seconds = start.elapsed().as_secs_f64();
        run(target.command("rm").arg("-r").arg(directory.join("tree")));
        run_quietly(target.command("sync").arg("-f").arg(directory));
        seconds
    }
}

/// Argon2id with 1 GiB, 4 passes and 4 lanes by this program; seconds.
pub(super) fn our_argon2id() -> f64 {
    let start = Instant::now();
    argon2id(b"password", b"saltsaltsaltsalt", &Argon2Cost { memory_kib: 1 << 20, passes: 4, lanes: 4 }, 32)
        .unwrap();
    start.elapsed().as_secs_f64()
}

/// The same by libargon2, whose command runs a thread a lane; seconds.
pub(super) fn libargon2() -> f64 {
    use std::process::{Command, Stdio};
    let program: Command = command("argon2");
    let start = Instant::now();
    let mut child = Command::new(program.get_program())
        .args(["saltsaltsaltsalt", "-id", "-t", "4", "-k", "1048576", "-p", "4", "-l", "32", "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"password").unwrap();
    assert!(child.wait().unwrap().success());
    start.elapsed().as_secs_f64()
}

const TIMED: &str = "--time_based";
/// `fio` takes 0.8 for 0, and then runs through the whole file.
const SHORT: &str = "--runtime=800ms";
const LONG: &str = "--runtime=6s";
const SMALL: &str = "--size=256m";
const LARGE: &str = "--size=1g";
pub(super) const LIMIT: Duration = Duration::from_secs(60);
