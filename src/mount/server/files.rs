//! Whether the container, and its header file, still bear their names, and nobody else writes to them: looked at by a thread
//! of its own, because a name may lie on a medium that does not answer.

use std::{
    fs,
    io::{self, PipeReader, PipeWriter, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
    thread::gettid,
};

use super::folder::{self, FolderWatch};
use crate::{
    mount::{
        session::locked,
        whereabouts::{Body, Lost, NamedFile, lies_in_memory},
    },
    volume::{Container, KnownHeader},
};

/// Where the files of a container are, as far as anybody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The container.
    pub container: Place,
    /// Its header file, where the header is detached.
    pub header: Option<Place>,
    /// Its pieces that were lost, where it is a folder of them.
    pub pieces: Option<folder::Loss>,
}

impl Found {
    /// How the container was lost: its file, or pieces of it.
    pub(super) fn state(&self) -> Option<Lost> {
        let pieces = self.pieces.as_ref().map(|pieces| pieces.lost);
        match (self.container.lost, pieces) {
            (Some(lost), Some(pieces)) if pieces.is_overwritten() => Some(lost.and_overwritten()),
            (lost, pieces) => lost.or(pieces),
        }
    }
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its name, or its last one.
    pub path: PathBuf,
    /// How it lost it.
    pub lost: Option<Lost>,
    /// Whether it stays without its descriptor: another name leads to it, or it is on a medium that is not mounted.
    pub is_linked: bool,
    /// The loop device by which its user knows it.
    pub device: Option<PathBuf>,
    /// Where the container's data are.
    pub body: Body,
}

impl Place {
    fn of(file: &NamedFile) -> Self {
        let stays = match file.lost() {
            None => false,
            Some(lost) if lost.is_unreachable() => !lies_in_memory(file.file()),
            Some(_) => file.file().metadata().is_ok_and(|found| found.nlink() > 0),
        };
        let (path, device) = (file.path().to_path_buf(), file.device().map(Path::to_path_buf));
        Self { path, lost: file.lost(), is_linked: stays, device, body: file.body() }
    }

    /// The name by which its user knows it.
    pub(super) fn shown(&self) -> &Path {
        self.device.as_deref().unwrap_or(&self.path)
    }

    /// Whether it is gone with its descriptor, or has another name at most.
    pub(super) fn is_nameless(&self) -> bool {
        match self.lost {
            Some(lost) if lost.is_unreachable() => !self.is_linked,
            lost => lost.is_some_and(Lost::is_nameless),
        }
    }
}

/// The thread that looks, as the server sees it.
#[derive(Debug)]
pub(super) struct FileWatch {
    shared: Arc<Shared>,
    wake: PipeWriter,
    news: PipeReader,
}

#[derive(Debug)]
struct Shared {
    found: Mutex<Looked>,
    has_looked: Condvar,
    /// Whether a command of ours may write to the files.
    is_lent: AtomicBool,
    /// Whether one might since the headers were compared last.
    was_lent: AtomicBool,
    /// The thread that looks; 0 before it has begun.
    thread: AtomicI32,
}

#[derive(Debug)]
struct Looked {
    found: Found,
    /// How many looks were asked for.
    asked: u64,
    /// How many of these the last look came after.
    answered: u64,
}

impl FileWatch {
    /// Starts to watch. `shown` is what the container is called where it has no name.
    pub(super) fn start(container: &Container, shown: &Path) -> io::Result<Self> {
        let file = match container.file_behind() {
            Some(file) => NamedFile::behind(file.try_clone()?, shown)?,
            None => NamedFile::new(container.file().try_clone()?, shown)?.with_body(Body::of(container)),
        };
        Self::start_with(file, container, shown)
    }

    /// The same for a container that was moved to a copy without a name: only that has all of it.
    pub(super) fn start_moved(container: &Container, shown: &Path) -> io::Result<Self> {
        Self::start_with(NamedFile::moved(container.file().try_clone()?, shown)?, container, shown)
    }

    fn start_with(container_file: NamedFile, container: &Container, shown: &Path) -> io::Result<Self> {
        let mut files = vec![container_file];
        if let Some(header) = container.header_file() {
            files.push(NamedFile::new(header.try_clone()?, shown)?);
        }
        let storages = container.files().map(Arc::clone);
        let files: Vec<_> =
            files.into_iter().zip(storages).map(|(file, headers)| file.with_headers(headers)).collect();
        // Only that file has a header which is watched.
        let files = with_known(files, container.known_header());
        let folder = FolderWatch::start(container);
        let found = found(&files, folder.as_ref());
        let shared = Arc::new(Shared {
            found: Mutex::new(Looked { found, asked: 0, answered: 0 }),
            has_looked: Condvar::new(),
            is_lent: AtomicBool::new(false),
            was_lent: AtomicBool::new(false),
            thread: AtomicI32::new(0),
        });
        let (woken, wake) = io::pipe()?;
        let (news, tell) = io::pipe()?;
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || watch((files, folder), &theirs, woken, tell))?;
        Ok(Self { shared, wake, news })
    }

    /// Becomes readable when something has changed.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// What was found last. Takes the news.
    pub(super) fn found(&mut self) -> Found {
        // There is a byte for each change, and the last says all.
        while is_readable(&[self.news.as_fd()], Some(Duration::ZERO)).contains(&true) {
            if !matches!(self.news.read(&mut [0; 64]), Ok(1..)) {
                break;
            }
        }
        locked(&self.shared.found).found.clone()
    }

    /// Has it look soon, without waiting for it: mounts have changed.
    pub(super) fn nudge(&mut self) {
        // A thread that has ended looks no more.
        let _ = self.wake.write_all(&[0]);
    }

    /// What others write from now on is not held against them. What they wrote before is.
    pub(super) fn lend(&mut self) {
        self.look();
        self.shared.was_lent.store(true, Ordering::SeqCst);
        self.shared.is_lent.store(true, Ordering::SeqCst);
        // A comparison that has begun ends before they write.
        self.look();
    }

    /// What they write from now on is. What they have written must have come in before.
    pub(super) fn take_back(&mut self) {
        self.look();
        self.shared.is_lent.store(false, Ordering::SeqCst);
        // What they left is what the headers are compared with.
        self.look();
    }

    /// Has it look now. Where the medium does not answer soon, that is what was found last.
    pub(super) fn look(&mut self) -> Found {
        let mine = {
            let mut looked = locked(&self.shared.found);
            looked.asked += 1;
            looked.asked
        };
        let start = Instant::now();
        if self.wake.write_all(&[0]).is_ok() {
            loop {
                let is_behind = |looked: &mut Looked| looked.answered < mine;
                let looked = locked(&self.shared.found);
                let waited = self.shared.has_looked.wait_timeout_while(looked, PATIENCE, is_behind);
                let has_answered = waited.is_ok_and(|(_, limit)| !limit.timed_out());
                // What it does not know by then may be lost: on a busy machine it waits for a processor, and not for its medium.
                if has_answered || start.elapsed() >= BUSY || !self.is_runnable() {
                    break;
                }
            }
        }
        self.found()
    }

    /// Whether it has not come to an end with what it was asked for.
    pub(super) fn is_behind(&self) -> bool {
        let looked = locked(&self.shared.found);
        looked.answered < looked.asked
    }

    /// Whether the thread would go on if it had a processor.
    fn is_runnable(&self) -> bool {
        let thread = self.shared.thread.load(Ordering::SeqCst);
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
        thread == 0 || stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('R'))
    }
}

/// Looks when the kernel tells of a change, when it is asked, and now and then. Ends with the other end of `woken`.
fn watch(
    (mut files, mut folder): (Vec<NamedFile>, Option<FolderWatch>),
    shared: &Shared,
    mut woken: PipeReader,
    mut tell: PipeWriter,
) {
    shared.thread.store(gettid().as_raw_pid(), Ordering::SeqCst);
    if !files.iter().any(NamedFile::is_watched) {
        // Nothing can come; who asks is answered.
        compare(&mut files, shared, true);
        let mut answered = 0;
        while matches!(woken.read(&mut [0; 64]), Ok(1..)) {
            let asked = locked(&shared.found).asked;
            let has_changed = compare(&mut files, shared, asked > answered);
            answered = asked;
            note((&files, folder.as_ref()), shared, asked);
            if has_changed && tell.write_all(&[0]).is_err() {
                return;
            }
        }
        return;
    }
    // Nobody is asked time and again who may be far away, or hang.
    let is_remote = files.iter().any(NamedFile::is_remote);
    let mut events = subscribe(&files);
    let (mut step, mut answered) = (Step::Look, 0);
    // Which pieces are looked at. Whoever mounts has just seen all of their names, and does not wait for more.
    let (mut all, mut is_new) = (true, true);
    loop {
        let mut has_changed = false;
        // What is changed in a header is told by these, too.
        let allowed = shared.is_lent.load(Ordering::SeqCst);
        for file in &mut files {
            has_changed |= file.note_writes(allowed);
        }
        if step == Step::Look {
            let asked = locked(&shared.found).asked;
            has_changed |= compare(&mut files, shared, asked > answered);
            all |= asked > answered;
            is_new &= asked <= 1;
            answered = asked;
        }
        if let Some(folder) = &mut folder {
            let most = if is_new { BRIEFLY } else { folder::MOST };
            has_changed |= folder.look((all && step == Step::Look).then_some(most));
        }
        all &= step != Step::Look;
        for file in &mut files {
            // What cannot be asked now is asked the next time.
            has_changed |= step == Step::Look && file.look().unwrap_or_default();
        }
        note((&files, folder.as_ref()), shared, answered);
        if has_changed {
            if tell.write_all(&[0]).is_err() {
                return;
            }
            // Other folders are above it now. What happened meanwhile the next look finds.
            events = subscribe(&files);
            step = Step::Look;
            continue;
        }
        let pause = match (&events, is_remote) {
            _ if step == Step::Rest => Some(REST),
            _ if is_new && folder.is_some() => Some(SOON),
            (_, true) => None,
            (Some(_), false) => Some(LOOK),
            (None, false) => Some(LOOK_WITHOUT_EVENTS),
        };
        let writers = files.iter().filter_map(NamedFile::writers).map(AsFd::as_fd);
        let writers = writers.chain(folder.as_ref().and_then(FolderWatch::writers));
        let of_pieces = folder.as_ref().and_then(FolderWatch::names);
        let quiet = writers.chain(of_pieces).filter(|_| step != Step::Rest);
        let names = events.as_ref().map(AsFd::as_fd);
        let descriptors: Vec<_> = [woken.as_fd()].into_iter().chain(names).chain(quiet).collect();
        let ready = is_readable(&descriptors, pause);
        if ready.first() == Some(&true) && !matches!(woken.read(&mut [0; 64]), Ok(1..)) {
            return;
        }
        let has_event = events.is_some() && ready.get(1) == Some(&true);
        if let Some(events) = events.as_ref().filter(|_| has_event) {
            drain(events);
        }
        step = match ready.iter().position(|&is_ready| is_ready) {
            Some(0) => Step::Look,
            _ if has_event => Step::Look,
            // Mostly the server's own.
            Some(_) => Step::Rest,
            None if step == Step::Rest => Step::Listen,
            None => {
                // Somebody may have changed a name on another machine, or by another mount.
                (all, is_new) = (true, false);
                Step::Look
            }
        };
    }
}

/// Compares the headers with what they were. True where there is news. What a command may write, or was allowed to, is none.
fn compare(files: &mut [NamedFile], shared: &Shared, is_asked: bool) -> bool {
    if shared.is_lent.load(Ordering::SeqCst) {
        return false;
    }
    if shared.was_lent.swap(false, Ordering::SeqCst) {
        files.iter_mut().for_each(NamedFile::allow_changes);
        return false;
    }
    let mut has_changed = false;
    for file in files {
        has_changed |= file.compare(is_asked);
    }
    has_changed
}

/// The last of these files is the one in which the header lies.
fn with_known(mut files: Vec<NamedFile>, known: Option<KnownHeader>) -> Vec<NamedFile> {
    if let Some(last) = files.pop() {
        files.push(last.with_known(known));
    }
    files
}

/// What the thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Looks for the names, and takes what is known of writes.
    Look,
    /// Takes what is known of writes, and does not listen for more of them for a moment.
    Rest,
    /// Takes what is known of writes.
    Listen,
}

fn note((files, folder): (&[NamedFile], Option<&FolderWatch>), shared: &Shared, answered: u64) {
    let mut looked = locked(&shared.found);
    looked.found = found(files, folder);
    looked.answered = answered;
    drop(looked);
    shared.has_looked.notify_all();
}

fn found(files: &[NamedFile], folder: Option<&FolderWatch>) -> Found {
    let mut places = files.iter().map(Place::of);
    let container = places.next().unwrap_or_else(|| Place {
        path: PathBuf::new(),
        lost: None,
        is_linked: false,
        device: None,
        body: Body::Itself,
    });
    Found { container, header: places.next(), pieces: folder.and_then(FolderWatch::loss) }
}

/// The events that may mean another name: of each file itself, and of every folder above it. `None` where the kernel gives
/// this user no more of them.
fn subscribe(files: &[NamedFile]) -> Option<OwnedFd> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    for file in files.iter().filter(|file| file.is_watched()) {
        let itself = format!("/proc/self/fd/{}", file.file().as_raw_fd());
        let changes = WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        inotify::add_watch(&events, itself, changes).ok()?;
        for folder in file.path().ancestors().skip(1) {
            // A folder that cannot be read cannot be watched; the look that comes now and then finds it renamed.
            let flags = WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
            let _ = inotify::add_watch(&events, folder, flags);
        }
        if file.lost().is_some_and(Lost::is_nameless) {
            // It may be put back.
            let flags =
                WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD;
            let _ = inotify::add_watch(&events, file.path().parent().unwrap_or(file.path()), flags);
        }
    }
    Some(events)
}

fn drain(events: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    while matches!(reader.next(), Ok(_) | Err(Errno::INTR)) {}
}

/// Which of the descriptors can be read, once one can or `limit` has passed.
fn is_readable(descriptors: &[BorrowedFd<'_>], limit: Option<Duration>) -> Vec<bool> {
    let mut polled: Vec<_> =
        descriptors.iter().map(|&descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)).collect();
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    if poll(&mut polled, limit.as_ref()).is_err() {
        return vec![false; descriptors.len()];
    }
    polled.iter().map(|descriptor| !descriptor.revents().is_empty()).collect()
}

/// How long a look is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for one that waits for a processor only.
const BUSY: Duration = Duration::from_secs(60);
/// How long the writes of a busy server are not listened for: each would wake this thread.
const REST: Duration = Duration::from_secs(1);
/// How long a new server looks at pieces before somebody waits for that, and when it goes on.
const BRIEFLY: Duration = Duration::from_millis(5);
const SOON: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(60);
const LOOK_WITHOUT_EVENTS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Access;

    fn watched() -> (tempfile::TempDir, PathBuf, FileWatch) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("d/v");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "container").unwrap();
        let container = Container::open(&path, Access::ReadWrite).unwrap();
        let watch = FileWatch::start(&container, &path).unwrap();
        (folder, path, watch)
    }

    fn place(path: PathBuf, lost: Option<Lost>) -> Place {
        Place { path, lost, is_linked: false, device: None, body: Body::Itself }
    }

    fn has_news(watch: &FileWatch) -> bool {
        is_readable(&[watch.news()], Some(Duration::from_secs(20))) == [true]
    }

    #[test]
    fn a_file_that_is_deleted_and_a_folder_that_is_renamed_are_told_at_once() {
        let (folder, path, mut watch) = watched();
        let renamed = folder.path().canonicalize().unwrap().join("e");
        fs::rename(path.parent().unwrap(), &renamed).unwrap();
        assert!(has_news(&watch));
        assert_eq!(watch.found().container, place(renamed.join("v"), None));
        fs::remove_file(renamed.join("v")).unwrap();
        assert!(has_news(&watch));
        let expected = place(renamed.join("v"), Some(Lost::Deleted));
        assert_eq!(watch.found().container, expected);
        fs::write(renamed.join("v"), "another").unwrap();
        assert!(has_news(&watch));
        assert_eq!(watch.found().container.lost, Some(Lost::Replaced));
    }

    fn write_from_another_process(path: &Path) {
        let script = r#"printf x | dd of="$1" conv=notrunc status=none"#;
        let written = std::process::Command::new("/bin/sh").args(["-c", script, "sh"]).arg(path).status();
        assert!(written.unwrap().success());
    }

    #[test]
    fn a_file_that_another_process_writes_to_is_told_at_once_but_not_while_it_is_lent() {
        let (_folder, path, mut watch) = watched();
        if NamedFile::new(fs::File::open(&path).unwrap(), &path).unwrap().writers().is_none() {
            assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none(), "writers do not show here");
            eprintln!("skipped: no fanotify here");
            return;
        }
        watch.lend();
        write_from_another_process(&path);
        watch.take_back();
        fs::write(&path, "by itself").unwrap();
        assert_eq!(watch.look().container.lost, None);
        write_from_another_process(&path);
        assert!(has_news(&watch));
        assert_eq!(
            watch.found().container,
            Place { is_linked: true, ..place(path, Some(Lost::Overwritten)) }
        );
    }

    #[test]
    fn a_file_that_another_process_makes_longer_is_not_overwritten() {
        let (_folder, path, mut watch) = watched();
        let grow = |how: &str| {
            let done = std::process::Command::new("/bin/sh").args(["-c", how, "sh"]).arg(&path).status();
            assert!(done.unwrap().success());
        };
        for how in
            [r#"truncate -s 8192 "$1""#, r#"fallocate -l 16384 "$1""#, r#"printf 'behind its end' >> "$1""#]
        {
            grow(how);
            assert_eq!(watch.look().container.lost, None, "{how}");
        }
        if NamedFile::new(fs::File::open(&path).unwrap(), &path).unwrap().writers().is_some() {
            grow(r#"truncate -s 4096 "$1""#);
            assert_eq!(watch.look().container.lost, Some(Lost::Overwritten));
        }
    }

    #[test]
    fn a_look_that_is_asked_for_is_of_now() {
        let (_folder, path, mut watch) = watched();
        assert_eq!(watch.look().container.lost, None);
        fs::remove_file(&path).unwrap();
        assert_eq!(watch.look().container.lost, Some(Lost::Deleted));
        assert_eq!(watch.look().header, None);
    }
}
