use std::{
    fmt,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use super::{Outcome, Pace, Reencryption, Tuning};
use crate::{
    block::{BlockDevice, CryptDevice, LiveDevice},
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    format::native::{StartHeader, Trace, UnderWay},
    mapping::Layout,
    storage::Storage,
    volume::pin::Pins,
};

/// The re-encryption of a volume that is being served: starts, pauses and resumes a thread that moves the border under its
/// users.
///
/// Every call is short but for [`pause`](Self::pause), which waits for the chunk at hand. Dropped, it pauses.
pub struct LiveReencryption {
    storage: Arc<dyn Storage>,
    device: Arc<LiveDevice>,
    tuning: Tuning,
    shared: Arc<Shared>,
    /// Held while a worker is started or waited for: there is never more than one.
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// How the work is to be done that a caller orders.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Work {
    /// How many bytes a second at most.
    pub max_rate: Option<u64>,
    /// What it leaves in the work areas at the end.
    #[serde(default)]
    pub trace: Trace,
    /// The folder with the pins of the user who ordered it: the container's, if there is one, follows what is written.
    #[serde(default, with = "crate::text::path::optional")]
    pub pins: Option<PathBuf>,
}

/// What worker and callers share.
#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    progress: Mutex<LiveProgress>,
}

#[derive(Debug)]
struct LiveProgress {
    state: LiveState,
    done: u64,
    total: u64,
    /// When this run began, and at how many bytes.
    since: Option<(Instant, u64)>,
    error: Option<String>,
    /// The new volume key, once somebody has brought it.
    key: Option<Arc<VolumeKey>>,
}

/// How a re-encryption is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveState {
    /// None is under way.
    None,
    /// The border moves.
    Running,
    /// Under way, and nobody moves the border.
    Paused,
    /// All is new.
    Done,
    /// Stopped at an error. Nothing is lost; some sectors may be closed to writers until it is resumed.
    Failed,
}

/// What can be told of a re-encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveStatus {
    /// How it is.
    pub state: LiveState,
    /// The bytes of the volume that are new.
    pub done: u64,
    /// The bytes of the volume.
    pub total: u64,
    /// Bytes a second since it was last started or resumed; 0 while it does not run.
    pub rate: u64,
    /// Why it stopped, where it failed.
    pub error: Option<String>,
}

impl LiveReencryption {
    /// For the volume behind `device`, which lies on `storage` as `layout` says.
    pub(in crate::volume) fn new(
        storage: Arc<dyn Storage>,
        device: Arc<LiveDevice>,
        layout: &Layout,
        tuning: Tuning,
    ) -> Self {
        let (state, done) = match layout {
            Layout::Fixed(_) => (LiveState::None, 0),
            Layout::Moving(moving) => (LiveState::Paused, moving.border),
        };
        let total = device.geometry().bytes();
        let progress = LiveProgress { state, done, total, since: None, error: None, key: None };
        let shared = Shared { stop: AtomicBool::new(false), progress: Mutex::new(progress) };
        Self { storage, device, tuning, shared: Arc::new(shared), worker: Mutex::new(None) }
    }

    /// Writes the header with which a re-encryption starts, and lets the border move.
    ///
    /// # Errors
    /// `Busy` where one is under way or the header has changed since this one was made, `Permission` where the volume is
    /// read-only.
    pub fn start(&self, header: &StartHeader, order: Work) -> Result<()> {
        let mut worker = self.idle_worker()?;
        if !matches!(self.progress().state, LiveState::None | LiveState::Done) {
            return Err(Error::new(
                ErrorKind::Busy,
                "a re-encryption of this container is under way already",
            ));
        }
        header.write(&*self.storage)?;
        // Whatever happens from here on, one is under way.
        self.shared.change(|progress| {
            (progress.state, progress.done) = (LiveState::Paused, 0);
            progress.key = Some(Arc::clone(header.volume_key()));
        });
        *worker = Some(self.spawn(Arc::clone(header.volume_key()), order)?);
        Ok(())
    }

    /// Goes on with one that is paused or has failed. `key` is the volume key; not needed where this process had it before.
    ///
    /// # Errors
    /// `Busy` where it runs, `NotFound` where none is under way, `Tampered` where the key is another's, `Usage` without a
    /// key, `Permission` where the volume is read-only.
    pub fn resume(&self, key: Option<VolumeKey>, order: Work) -> Result<()> {
        let mut worker = self.idle_worker()?;
        if matches!(self.progress().state, LiveState::None | LiveState::Done) {
            return Err(Error::new(ErrorKind::NotFound, "no re-encryption of this container is under way"));
        }
        let key = key.map(Arc::new).or_else(|| self.progress().key.clone());
        let key = key.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "going on with the re-encryption needs the volume's password")
        })?;
        *worker = Some(self.spawn(Arc::clone(&key), order)?);
        self.shared.change(|progress| progress.key = Some(key));
        Ok(())
    }

    /// Has the border rest, and waits until every sector may be written again. Does nothing where it rests.
    pub fn pause(&self) {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.stop.store(true, Ordering::Release);
        if let Some(worker) = worker.take() {
            // A worker that panicked has said so as it went.
            let _ = worker.join();
        }
    }

    /// How far it is.
    pub fn status(&self) -> LiveStatus {
        let progress = self.progress();
        let rate = progress.since.filter(|_| progress.state == LiveState::Running).map(|(since, at)| {
            let millis = since.elapsed().as_millis().max(1);
            let bytes = u128::from(progress.done.saturating_sub(at)) * 1000 / millis;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        });
        LiveStatus {
            state: progress.state,
            done: progress.done,
            total: progress.total,
            rate: rate.unwrap_or(0),
            error: progress.error.clone(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, LiveProgress> {
        self.shared.locked()
    }

    /// The place of the worker, where none works.
    fn idle_worker(&self) -> Result<MutexGuard<'_, Option<JoinHandle<()>>>> {
        if self.storage.limits().read_only {
            return Err(Error::new(ErrorKind::Permission, "the volume is read-only"));
        }
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.as_ref().is_some_and(|worker| !worker.is_finished()) {
            return Err(Error::new(ErrorKind::Busy, "a re-encryption is already running"));
        }
        if let Some(ended) = worker.take() {
            let _ = ended.join();
        }
        Ok(worker)
    }

    /// Puts a device with two keys under the users of the volume, and a worker beside them.
    fn spawn(&self, key: Arc<VolumeKey>, order: Work) -> Result<JoinHandle<()>> {
        let under_way = UnderWay::read(&*self.storage, Arc::clone(&key))?;
        let sector_size = self.device.geometry().sector_size;
        let mut work = Reencryption::with(Arc::clone(&self.storage), under_way, self.tuning, sector_size)?;
        work.leave(order.trace);
        // The device before may read from the journal, and has closed those sectors to writers; reading the state has put
        // them in place, so that both devices show the same.
        self.device.replace(work.device())?;
        self.shared.stop.store(false, Ordering::Release);
        self.shared.change(|progress| {
            (progress.state, progress.done, progress.error) = (LiveState::Running, work.done(), None);
            progress.since = Some((Instant::now(), work.done()));
        });
        let mut worker = Worker {
            work,
            storage: Arc::clone(&self.storage),
            device: Arc::clone(&self.device),
            shared: Arc::clone(&self.shared),
            pin: order.pins.map(|folder| (Pins::new(folder), key)),
        };
        worker.move_pin();
        let spawned = thread::Builder::new()
            .name("reencrypt".to_owned())
            .spawn(move || worker.run(Pace::new(order.max_rate)));
        spawned.map_err(|error| {
            self.shared.change(|progress| progress.state = LiveState::Paused);
            Error::from(error)
        })
    }
}

impl Drop for LiveReencryption {
    fn drop(&mut self) {
        self.pause();
    }
}

impl fmt::Debug for LiveReencryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveReencryption").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Shared {
    /// A panicking holder leaves what it had changed, each field by itself.
    fn locked(&self) -> MutexGuard<'_, LiveProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut LiveProgress)) {
        change(&mut self.locked());
    }
}

/// What moves the border, in a thread of its own.
struct Worker {
    work: Reencryption,
    storage: Arc<dyn Storage>,
    device: Arc<LiveDevice>,
    shared: Arc<Shared>,
    /// The user's pins, and the key that shows which header is authentic.
    pin: Option<(Pins, Arc<VolumeKey>)>,
}

impl Worker {
    fn run(&mut self, mut pace: Pace) {
        let shared = Arc::clone(&self.shared);
        let outcome = self.work.run(&mut pace, &mut |done, _| {
            shared.change(|progress| progress.done = done);
            if shared.stop.load(Ordering::Acquire) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let outcome = outcome.and_then(|outcome| {
            if outcome == Outcome::Finished {
                // The old keys go with the device that had them.
                let device = CryptDevice::new(Arc::clone(&self.storage), self.work.new.clone());
                self.device.replace(Arc::new(device))?;
            }
            Ok(outcome)
        });
        self.move_pin();
        let done = self.work.done();
        shared.change(|progress| {
            progress.done = done;
            match outcome {
                Ok(Outcome::Finished) => (progress.state, progress.key) = (LiveState::Done, None),
                Ok(Outcome::Paused) => progress.state = LiveState::Paused,
                Err(error) => {
                    (progress.state, progress.error) = (LiveState::Failed, Some(error.to_string()));
                }
            }
        });
    }
}

impl Worker {
    /// Lets the pin follow what was written: header and records.
    fn move_pin(&self) {
        if let Some((pins, key)) = &self.pin {
            // Failing, it moves on when the container is opened the next time; nobody is here to be told.
            let _ = pins.advance_to(&*self.storage, key);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.change(|progress| {
            if progress.state == LiveState::Running {
                let error = "a fault in the program stopped the re-encryption".to_owned();
                (progress.state, progress.error) = (LiveState::Failed, Some(error));
            }
        });
    }
}
