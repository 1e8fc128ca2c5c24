//! What a server hears of the machine and of its user, from threads that listen for it.
//!
//! They are handed no key, and nobody waits for them: what they hear comes over a pipe.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use zbus::block_on;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The machine goes to sleep once everybody has let it, or after so long.
    Sleep(Duration),
    /// It is awake again.
    Awake,
    /// It ends, in the same way.
    Shutdown(Duration),
    /// The user's screen was locked.
    Locked,
    /// It is not locked any more.
    Unlocked,
}

/// Where the server hears it. Once this is dropped, those who listen for it end.
#[derive(Debug)]
pub(super) struct Ear {
    is_over: Arc<AtomicBool>,
    pipe: PipeReader,
    news: Receiver<News>,
}

/// What tells it.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    is_over: Arc<AtomicBool>,
    bell: Arc<PipeWriter>,
    sender: Sender<News>,
}

impl Ear {
    /// An ear, and what it hears.
    ///
    /// # Errors
    /// That no pipe could be had.
    pub(super) fn open() -> io::Result<(Self, Teller)> {
        let (pipe, bell) = io::pipe()?;
        let (sender, news) = mpsc::channel();
        let is_over = Arc::<AtomicBool>::default();
        let teller = Teller { is_over: Arc::clone(&is_over), bell: Arc::new(bell), sender };
        Ok((Self { is_over, pipe, news }, teller))
    }

    /// Becomes readable when there is news.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Takes the next news. Called once for each time that [`bell`](Self::bell) rang; `None` once nobody tells anything any more.
    pub(super) fn next(&mut self) -> Option<News> {
        self.pipe.read_exact(&mut [0]).ok()?;
        self.news.try_recv().ok()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Teller {
    /// Where nobody hears it any more, the server is ending.
    pub(super) fn tell(&self, news: News) {
        if self.sender.send(news).is_err() || (&*self.bell).write_all(&[0]).is_err() {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Has a thread listen, and listen again some time after each end, as long as somebody hears what it tells.
    ///
    /// # Errors
    /// That no thread could be had.
    pub(super) fn listen(
        self,
        name: &str,
        mut follow: impl AsyncFnMut(&Self) -> zbus::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let run = move || {
            let mut pause = SHORTEST;
            loop {
                let begun = Instant::now();
                // Why it ended is nobody's concern: a volume does without.
                let _ended = block_on(follow(&self));
                if self.is_over() {
                    return;
                }
                pause = if begun.elapsed() > LONGEST { SHORTEST } else { (pause * 2).min(LONGEST) };
                thread::sleep(pause);
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }
}

/// How soon it is tried again where nobody is there.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
