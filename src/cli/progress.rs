//! Long work on a terminal: a bar with rate and time left, or a spinner.

use std::{
    fmt,
    ops::ControlFlow,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use strongroom::format::Monitor;

use super::{interrupt, output::Console};

/// The one that is drawn now, so that it can be wiped from another thread.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// What the spinner says, where the work has said more than its name.
static SAID: Mutex<Option<String>> = Mutex::new(None);

/// When the work will have ended, as far as it has said.
static END: Mutex<Option<Instant>> = Mutex::new(None);

/// Has the spinner say which of many derivations runs, and how long all of them take at most.
#[derive(Debug)]
pub(crate) struct TrialProgress;

impl Monitor for TrialProgress {
    fn derives(&self, name: &'static str, number: usize, total: usize) {
        let text = format!("trying {name} ({number} of {total})");
        if let Some(bar) = &*lock(&DRAWN) {
            bar.set_message(text.clone());
        }
        *lock(&SAID) = Some(text);
    }

    fn expects(&self, left: Duration) {
        *lock(&END) = Instant::now().checked_add(left);
    }

    fn is_over(&self) -> bool {
        interrupt::is_requested()
    }
}

/// Progress over a number of bytes. Drawn on standard error where it is a terminal, and gone when dropped.
#[derive(Debug)]
pub(crate) struct ByteProgress {
    bar: Option<ProgressBar>,
}

impl ByteProgress {
    /// Starts `what` ("filling"); the total comes with the first step.
    pub(crate) fn start(console: Console, what: &'static str) -> Self {
        let bar = console.shows_progress().then(|| {
            let bar = ProgressBar::new(0).with_style(style(BYTES)).with_message(what);
            remember(&bar);
            bar
        });
        Self { bar }
    }

    /// Shows how far the work is; `Break` once the user asked to stop.
    pub(crate) fn step(&self, done: u64, total: u64) -> ControlFlow<()> {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        }
        if interrupt::is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        clear();
    }
}

/// Progress over a number of steps that take about equally long. Drawn as [`ByteProgress`] is.
#[derive(Debug)]
pub(crate) struct StepProgress {
    bar: Option<ProgressBar>,
}

impl StepProgress {
    /// Starts with `total` steps ahead.
    pub(crate) fn start(console: Console, total: u64) -> Self {
        let bar = console.shows_progress().then(|| {
            let bar = ProgressBar::new(total).with_style(style(STEPS));
            remember(&bar);
            bar
        });
        Self { bar }
    }

    /// Shows what is being done now, and how many steps are behind.
    pub(crate) fn show(&self, done: u64, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(what.to_owned());
        }
    }
}

impl Drop for StepProgress {
    fn drop(&mut self) {
        clear();
    }
}

/// Runs `work`; from the second second on a spinner says what is being done.
pub(crate) fn spin<T>(console: Console, what: &'static str, work: impl FnOnce() -> T) -> T {
    if !console.shows_progress() {
        return work();
    }
    // What other work has said does not count.
    *lock(&SAID) = None;
    *lock(&END) = None;
    let (finished, waiting) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let spinner = std::thread::Builder::new().spawn_scoped(scope, move || {
            if waiting.recv_timeout(PATIENCE).is_ok() {
                return;
            }
            let message = lock(&SAID).take().unwrap_or_else(|| what.to_owned());
            let style = style(SPINNER).with_key("left", |_: &ProgressState, out: &mut dyn fmt::Write| {
                // Nobody reads what cannot be drawn.
                let _ = out.write_str(&time_left(*lock(&END), Instant::now()));
            });
            let spinner = ProgressBar::new_spinner().with_style(style).with_message(message);
            remember(&spinner);
            spinner.enable_steady_tick(Duration::from_millis(100));
            // Ends with the message, or with the sender when `work` panics.
            let _ = waiting.recv();
            clear();
        });
        // Where no thread can be had, nothing spins.
        drop(spinner);
        let result = work();
        let _ = finished.send(());
        result
    })
}

/// What the spinner says of the time left until `end`: nothing where that is not known, or turned out to be wrong.
fn time_left(end: Option<Instant>, now: Instant) -> String {
    match end.map(|end| end.saturating_duration_since(now)) {
        None | Some(Duration::ZERO) => String::new(),
        // Whole seconds, up: the last one is not none.
        Some(left) => {
            let seconds = left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0));
            format!(", {:#} left at most", HumanDuration(Duration::from_secs(seconds)))
        }
    }
}

/// Wipes what is drawn.
pub(crate) fn clear() {
    if let Some(bar) = lock(&DRAWN).take() {
        bar.finish_and_clear();
    }
}

fn remember(bar: &ProgressBar) {
    *lock(&DRAWN) = Some(bar.clone());
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A template that is a constant here; the default style stands in for one that is wrong.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Less than this is not worth a word.
const PATIENCE: Duration = Duration::from_secs(2);
const BYTES: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
const STEPS: &str = "[{bar:30}] {percent:>3}% {msg}";
const SPINNER: &str = "{spinner} {msg} ({elapsed}{left})";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_told_in_whole_seconds_and_only_while_it_is_known() {
        let now = Instant::now();
        let told = |millis| time_left(Some(now + Duration::from_millis(millis)), now);
        assert_eq!(told(12_000), ", 12s left at most");
        assert_eq!(told(1_200), ", 2s left at most");
        assert_eq!(told(1), ", 1s left at most");
        assert_eq!(told(90_000), ", 2m left at most");
        assert_eq!(told(0), "");
        assert_eq!(time_left(None, now), "");
        assert_eq!(time_left(Some(now), now + Duration::from_secs(1)), "");
    }
}
