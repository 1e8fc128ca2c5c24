//! The block file over real FUSE mounts: what programs see is what a block device would show.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it skips, and fails where it cannot go on"
)]

mod devices;
mod place;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use devices::{container_size, crypt_device};
use place::{Place, can_mount, ended, wait_until};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use strongroom::{
    ErrorKind, Result,
    block::{BlockDevice, CryptDevice, ProtectedDevice},
    export::{Client, FuseExport, unmount_fuse},
    mapping::Holes,
    storage::{Limits, MemoryStorage, Storage},
    units::{Sector, SectorSize},
};
use tempfile::TempDir;

const SECTORS: u64 = 1024;
const SIZE: u64 = SECTORS * 4096;
const CLIENTS: [Client; 2] = [Client::Direct, Client::Cached];

/// A storage in memory that counts syncs and fails on demand.
#[derive(Debug)]
struct Medium {
    bytes: MemoryStorage,
    syncs: AtomicUsize,
    fails: AtomicBool,
    read_only: bool,
}

impl Medium {
    fn new(read_only: bool) -> Arc<Self> {
        let size = usize::try_from(container_size(SectorSize::B4096, SECTORS)).unwrap();
        let bytes = MemoryStorage::new(vec![0; size]);
        Arc::new(Self { bytes, syncs: AtomicUsize::new(0), fails: AtomicBool::new(false), read_only })
    }

    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(Errno::NXIO.into()) } else { Ok(()) }
    }
}

impl Storage for Medium {
    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check()?;
        self.bytes.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check()?;
        self.bytes.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.bytes.set_size(size)
    }
    fn punch_hole(&self, range: std::ops::Range<u64>) -> io::Result<()> {
        self.check()?;
        self.bytes.punch_hole(range)
    }
    fn limits(&self) -> Limits {
        Limits { read_only: self.read_only, ..self.bytes.limits() }
    }
}

/// A mounted volume of zeros.
struct Mounted {
    export: FuseExport,
    device: Arc<CryptDevice>,
    medium: Arc<Medium>,
    log: Arc<Mutex<Vec<String>>>,
    dir: TempDir,
}

impl Mounted {
    fn new(client: Client, holes: Holes) -> Self {
        Self::on(Medium::new(false), client, holes)
    }

    fn on(medium: Arc<Medium>, client: Client, holes: Holes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let device = Arc::new(crypt_device(medium.clone(), SectorSize::B4096, SECTORS, holes));
        if !medium.read_only {
            device.write_zeroes(Sector(0)..Sector(SECTORS)).unwrap();
        }
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let sink = Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
        let export = FuseExport::start(device.clone(), dir.path(), client, sink).unwrap();
        Self { export, device, medium, log, dir }
    }

    fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.export.path()).unwrap()
    }
}

/// Stops an export whose file nobody uses any more, but for what another test has just started: that has all files of this
/// process open until it is another program.
fn stop(export: &mut FuseExport) -> Result<()> {
    let mut stopped = Ok(());
    wait_until("the end of an export", || {
        stopped = export.stop(false);
        !stopped.as_ref().is_err_and(|error| error.kind() == ErrorKind::Busy)
    });
    stopped
}

fn errno(result: io::Result<impl Sized>) -> Option<Errno> {
    result.err().as_ref().and_then(Errno::from_io_error)
}

/// A fixed sequence of numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let start = self.below(251);
        (start..).take(len).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }
}

/// Random reads and writes, aligned and not, small and large, with and without `O_DIRECT`, against a model.
fn compare_with_model(path: &Path, seed: u64) {
    let cached = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let direct = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    let mut numbers = Numbers(seed);
    let mut model = vec![0_u8; usize::try_from(SIZE).unwrap()];
    for _ in 0..400 {
        let unit = [1, 512, 4096][usize::try_from(numbers.below(3)).unwrap()];
        let file = if unit >= 512 && numbers.below(2) == 0 { &direct } else { &cached };
        let longest = if numbers.below(8) == 0 { 2 << 20 } else { 20_000 };
        let offset = numbers.below(SIZE / unit) * unit;
        let len = ((numbers.below(longest) / unit + 1) * unit).min(SIZE - offset);
        let range = usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap();
        if numbers.below(2) == 0 {
            let data = numbers.bytes(range.len());
            file.write_all_at(&data, offset).unwrap();
            model[range].copy_from_slice(&data);
        } else {
            let mut found = vec![1; range.len()];
            file.read_exact_at(&mut found, offset).unwrap();
            assert!(found == model[range], "read of {len} at {offset}");
        }
    }
    cached.sync_all().unwrap();
    assert!(fs::read(path).unwrap() == model, "the block file differs from the model");
}

#[test]
fn the_block_file_follows_the_model_cached_and_not() {
    if !can_mount() {
        return;
    }
    for (seed, client) in (1..).zip(CLIENTS) {
        let mut mounted = Mounted::new(client, Holes::AreCiphertext);
        compare_with_model(&mounted.export.path(), seed);
        let through_fuse = fs::read(mounted.export.path()).unwrap();
        stop(&mut mounted.export).unwrap();
        let mut at_rest = vec![0; usize::try_from(SIZE).unwrap()];
        mounted.device.read(&mut at_rest, Sector(0)).unwrap();
        assert!(at_rest == through_fuse, "what was written did not reach the container");
        assert!(mounted.log.lock().unwrap().is_empty());
    }
}

#[test]
fn the_file_looks_like_a_private_file_of_the_volumes_size() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Client::Direct, Holes::AreCiphertext);
    let found = fs::metadata(mounted.export.path()).unwrap();
    assert_eq!((found.len(), found.mode() & 0o7777, found.nlink()), (SIZE, 0o600, 1));
    let names: Vec<_> =
        fs::read_dir(mounted.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["volume"]);
    assert_eq!(errno(fs::metadata(mounted.dir.path().join("other"))), Some(Errno::NOENT));
    assert_eq!(errno(File::create(mounted.dir.path().join("other"))), Some(Errno::PERM));
    assert_eq!(errno(fs::remove_file(mounted.export.path())), Some(Errno::PERM));
}

#[test]
fn the_threads_that_answer_interrupt_a_loop_device_and_no_other_client() {
    if !can_mount() {
        return;
    }
    for (client, is_batch) in [(Client::LoopDevice, false), (Client::Direct, true), (Client::Cached, true)] {
        let dir = tempfile::tempdir().unwrap();
        let server = serving(dir.path(), client);
        let policies = policies(&server);
        kill(server);
        unmount_fuse(dir.path(), false).unwrap();
        assert!(!policies.is_empty(), "none that answer");
        // SCHED_OTHER and SCHED_BATCH of linux/sched.h.
        let expected = if is_batch { "3" } else { "0" };
        assert!(policies.iter().all(|policy| policy == expected), "{client:?}: {policies:?}");
    }
}

#[test]
fn fsync_reaches_the_medium_cached_and_not() {
    if !can_mount() {
        return;
    }
    for client in CLIENTS {
        let mounted = Mounted::new(client, Holes::AreCiphertext);
        let file = mounted.open();
        file.write_all_at(b"kept", 5000).unwrap();
        let before = mounted.medium.syncs.load(Ordering::SeqCst);
        file.sync_data().unwrap();
        assert_eq!(mounted.medium.syncs.load(Ordering::SeqCst), before + 1);
        let mut sector = vec![0; 4096];
        mounted.device.read(&mut sector, Sector(1)).unwrap();
        assert_eq!(&sector[904..908], b"kept");
    }
}

#[test]
fn a_failing_medium_gives_eio_is_logged_once_and_the_server_lives() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Client::Direct, Holes::AreCiphertext);
    let file = mounted.open();
    mounted.medium.fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(errno(file.read_at(&mut [0; 10], 0)), Some(Errno::IO));
        assert_eq!(errno(file.write_at(&[0; 4096], 0)), Some(Errno::IO));
        assert_eq!(errno(file.sync_all()), Some(Errno::IO));
    }
    mounted.medium.fails.store(false, Ordering::SeqCst);
    assert_eq!(file.write_at(&[1; 10], 0).unwrap(), 10);
    let log = mounted.log.lock().unwrap();
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log[0].starts_with("reading the volume failed: container: No such device"), "{log:?}");
}

#[test]
fn a_write_to_a_protected_place_fails_with_all_after_it_and_is_told_at_the_end() {
    if !can_mount() {
        return;
    }
    for client in CLIENTS {
        let dir = tempfile::tempdir().unwrap();
        let medium = Medium::new(false);
        let inner = crypt_device(medium.clone(), SectorSize::B4096, SECTORS, Holes::AreCiphertext);
        inner.write_zeroes(Sector(0)..Sector(SECTORS)).unwrap();
        let device = Arc::new(ProtectedDevice::new(Arc::new(inner), Sector(900)..Sector(1000)));
        let mut export = FuseExport::start(device, dir.path(), client, Arc::new(|_: &str| {})).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(export.path()).unwrap();
        // Either may be told at once, or by the kernel's cache when it is synced.
        let write = |offset| file.write_all_at(&[7; 8192], offset).and_then(|()| file.sync_all());
        write(0).unwrap();
        let before = medium.bytes.to_vec();
        assert_eq!(errno(write(899 * 4096)), Some(Errno::IO));
        assert_eq!(errno(write(4096)), Some(Errno::IO));
        drop(file);
        let error = stop(&mut export).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.reason().contains("to protect the hidden volume"), "{error}");
        assert!(medium.bytes.to_vec() == before, "something was written");
    }
}

#[test]
fn at_the_end_reads_are_short_and_writes_find_no_space() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Client::Direct, Holes::AreCiphertext);
    let file = mounted.open();
    assert_eq!(file.write_at(&[7; 100], SIZE - 60).unwrap(), 60);
    assert_eq!(errno(file.write_at(&[7; 100], SIZE)), Some(Errno::NOSPC));
    assert_eq!(errno(file.write_at(&[7; 100], SIZE + 5000)), Some(Errno::NOSPC));
    let mut found = [0; 100];
    assert_eq!(file.read_at(&mut found, SIZE - 60).unwrap(), 60);
    assert_eq!(found[..60], [7; 60]);
    assert_eq!(file.read_at(&mut found, SIZE).unwrap(), 0);
    assert_eq!(file.metadata().unwrap().len(), SIZE);
}

#[test]
fn the_size_and_the_owner_cannot_be_changed() {
    if !can_mount() {
        return;
    }
    for client in CLIENTS {
        let mounted = Mounted::new(client, Holes::AreCiphertext);
        let file = mounted.open();
        file.write_all_at(b"still here", 0).unwrap();
        assert_eq!(errno(file.set_len(SIZE + 1)), Some(Errno::INVAL));
        assert_eq!(errno(file.set_len(0)), Some(Errno::INVAL));
        file.set_len(SIZE).unwrap();
        let truncating = OpenOptions::new().write(true).truncate(true).open(mounted.export.path());
        assert_eq!(truncating.unwrap().metadata().unwrap().len(), SIZE);
        let mut found = [0; 10];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(&found, b"still here");
        assert_eq!(
            errno(fs::set_permissions(mounted.export.path(), Permissions::from_mode(0o644))),
            Some(Errno::PERM)
        );
        assert_eq!(errno(chown(mounted.export.path(), Some(12), None)), Some(Errno::PERM));
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
}

#[test]
fn fallocate_zeroes_and_punches_only_where_that_gives_space_back() {
    if !can_mount() {
        return;
    }
    for (client, holes) in [
        (Client::Direct, Holes::AreCiphertext),
        (Client::Direct, Holes::ReadAsZeros),
        (Client::Cached, Holes::ReadAsZeros),
    ] {
        let mounted = Mounted::new(client, holes);
        let file = mounted.open();
        file.write_all_at(&vec![5; 40_000], 0).unwrap();
        let keep = FallocateFlags::KEEP_SIZE;
        let punched = fallocate(&file, FallocateFlags::PUNCH_HOLE | keep, 100, 20_000);
        let expected = if holes == Holes::ReadAsZeros { Ok(()) } else { Err(Errno::OPNOTSUPP) };
        assert_eq!(punched, expected);
        fallocate(&file, FallocateFlags::ZERO_RANGE | keep, 100, 20_000).unwrap();
        let mut found = vec![1; 40_000];
        file.read_exact_at(&mut found, 0).unwrap();
        let mut wanted = vec![5; 40_000];
        wanted[100..20_100].fill(0);
        assert!(found == wanted);
        fallocate(&file, keep, 0, SIZE).unwrap();
        assert_eq!(fallocate(&file, keep, 0, SIZE + 1), Err(Errno::NOSPC));
        assert_eq!(fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096), Err(Errno::OPNOTSUPP));
    }
}

#[test]
fn the_volume_is_all_data() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Client::Direct, Holes::ReadAsZeros);
    let mut file = mounted.open();
    assert_eq!(file.seek(SeekFrom::End(-1)).unwrap(), SIZE - 1);
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(4097)), Ok(4097));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(4097)), Ok(SIZE));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(SIZE)), Err(Errno::NXIO));
}

#[test]
fn a_read_only_volume_is_read_only_at_every_level() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::on(Medium::new(true), Client::Cached, Holes::ReadAsZeros);
    assert_eq!(fs::metadata(mounted.export.path()).unwrap().mode() & 0o7777, 0o400);
    assert_eq!(errno(OpenOptions::new().write(true).open(mounted.export.path())), Some(Errno::ROFS));
    assert_eq!(fs::read(mounted.export.path()).unwrap().len() as u64, SIZE);
}

#[test]
fn an_open_file_makes_stop_busy_and_a_lazy_stop_cuts_it_off() {
    if !can_mount() {
        return;
    }
    for client in CLIENTS {
        let mut mounted = Mounted::new(client, Holes::AreCiphertext);
        let file = mounted.open();
        file.write_all_at(&[3; 5000], 0).unwrap();
        let error = mounted.export.stop(false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert!(mounted.export.is_alive());
        file.write_all_at(&[4; 5000], 5000).unwrap();
        mounted.export.stop(true).unwrap();
        assert!(!mounted.export.is_alive());
        assert!(file.write_all_at(&[5; 5000], 0).and_then(|()| file.sync_all()).is_err());
        assert_eq!(Arc::strong_count(&mounted.device), 1, "the device is still held");
        let mut found = vec![0; 12288];
        mounted.device.read(&mut found, Sector(0)).unwrap();
        assert!(found[..5000] == [3; 5000] && found[5000..10_000] == [4; 5000]);
    }
}

#[test]
fn an_unmount_from_outside_ends_the_session_and_is_noticed() {
    if !can_mount() {
        return;
    }
    let mut mounted = Mounted::new(Client::Direct, Holes::AreCiphertext);
    assert!(mounted.export.is_alive());
    unmount_fuse(mounted.dir.path(), false).unwrap();
    let end = mounted.export.end();
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit)), Ok(1));
    assert!(!mounted.export.is_alive());
    mounted.export.stop(false).unwrap();
    assert_eq!(Arc::strong_count(&mounted.device), 1);
    let error = unmount_fuse(mounted.dir.path(), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[test]
fn dropping_an_export_unmounts_it() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Client::Direct, Holes::AreCiphertext);
    let held = mounted.open();
    let Mounted { export, device, dir, .. } = mounted;
    drop(export);
    assert_eq!(Arc::strong_count(&device), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    drop(held);
}

#[test]
fn a_directory_that_is_not_there_is_not_found() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let device = Arc::new(crypt_device(Medium::new(false), SectorSize::B4096, SECTORS, Holes::ReadAsZeros));
    let started = FuseExport::start(device, &dir.path().join("none"), Client::Direct, Arc::new(|_: &str| ()));
    assert_eq!(started.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn parts_of_one_sector_written_by_many_processes_threads_are_all_kept() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Client::Direct, Holes::AreCiphertext);
    thread::scope(|scope| {
        for writer in 0..8_u8 {
            let file = mounted.open();
            scope.spawn(move || {
                let offset = u64::from(writer) * 512;
                for round in 0..200_u8 {
                    file.write_all_at(&[round; 512], offset).unwrap();
                    let mut found = [0; 512];
                    file.read_exact_at(&mut found, offset).unwrap();
                    assert_eq!(found, [round; 512]);
                }
            });
        }
    });
}

#[test]
fn a_mount_whose_server_was_killed_can_be_taken_away() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    kill(serving(dir.path(), Client::Direct));
    assert_eq!(errno(fs::read_dir(dir.path())), Some(Errno::NOTCONN));
    unmount_fuse(dir.path(), false).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_ordinary_user_can_do_all_this() {
    // Where an ordinary user runs the tests, all the others here are his.
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::of_ordinary_user();
    // By its process: in a table of mounts of our own, a chroot's program has a name that leads nowhere.
    place.copy_program(Path::new(&format!("/proc/{}/exe", std::process::id())), "tests");
    let mut command = place.command(place.path("tests"));
    let tested = ended(command.arg("--test-threads=1").env("TMPDIR", place.folder()));
    assert_eq!(tested.status, Some(0), "{}", tested.out);
}

/// This test program in a process of its own, serving a volume on `dir`.
fn serving(dir: &Path, client: Client) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "serve_until_killed", "--ignored", "--nocapture"]);
    command.env("STRONGROOM_TEST_DIR", dir).env("STRONGROOM_TEST_CLIENT", format!("{client:?}"));
    let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("serving")));
    server
}

fn kill(mut server: Child) {
    server.kill().unwrap();
    server.wait().unwrap();
}

/// The scheduling policies of the threads that answer (`proc_pid_stat(5)`, field 41).
fn policies(server: &Child) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    let answering = stats.filter(|stat| stat.contains("(fuser-"));
    answering.map(|stat| stat.rsplit(") ").next().unwrap().split(' ').nth(38).unwrap().to_owned()).collect()
}

#[test]
#[ignore = "the killed server's part"]
fn serve_until_killed() {
    let dir = PathBuf::from(std::env::var_os("STRONGROOM_TEST_DIR").unwrap());
    let device = Arc::new(crypt_device(Medium::new(false), SectorSize::B4096, SECTORS, Holes::ReadAsZeros));
    let name = std::env::var("STRONGROOM_TEST_CLIENT").unwrap();
    let clients = [Client::LoopDevice, Client::Direct, Client::Cached];
    let client = clients.into_iter().find(|client| format!("{client:?}") == name).unwrap();
    let export = FuseExport::start(device, &dir, client, Arc::new(|_: &str| ())).unwrap();
    println!("serving {}", export.path().display());
    thread::park();
}
