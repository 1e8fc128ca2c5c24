//! The program that a desktop starts over D-Bus where somebody double-clicks a vault. Each file is opened by a command of its own, as
//! where the desktop has no bus.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::process::setsid;
use strongroom::{
    error::{Error, ErrorKind, Result},
    mount::{self, Application, Wish},
};

use super::{ask, interrupt, unmounting::mountpoints};

/// Answers the desktop until nobody has called for a while.
///
/// # Errors
/// `Usage` where the name is none of ours; those of [`mount::serve_application`].
pub(crate) fn run(name: Option<&OsString>) -> Result<()> {
    let name = NAMES.into_iter().find(|known| name.is_some_and(|name| name == known));
    let name = name.ok_or_else(|| Error::usage(format!("the name is one of {}", NAMES.join(", "))))?;
    // A bus that somebody started on a terminal is no reason to ask there. Whoever leads a session already has left it.
    let _ = setsid();
    let mut desktop = Desktop { is_opaque: name == VERACRYPT, begun: Begun::default() };
    interrupt::at_liberty(|| mount::serve_application(name, &mut desktop))
}

/// What the bus calls this by; a name follows.
pub(crate) const WORD: &str = "__desktop";

/// The names by which a desktop calls us: what it opens, and what of that shows no signature.
const NAMES: [&str; 2] = ["org.strongroom.Strongroom", VERACRYPT];
const VERACRYPT: &str = "org.strongroom.Strongroom.VeraCrypt";
/// What the desktop entry has besides opening.
const CLOSE_ALL: &str = "close-all";

struct Desktop {
    /// Whether what is opened is VeraCrypt's.
    is_opaque: bool,
    begun: Begun,
}

impl Application for Desktop {
    fn fulfil(&mut self, wish: Wish) -> Result<()> {
        match wish {
            Wish::Open(paths) => {
                self.begun.admit(&paths).and_then(|()| paths.into_iter().try_for_each(|path| self.open(path)))
            }
            Wish::Activate => self.begun.begin(PathBuf::new(), show),
            Wish::Action(action) if action == CLOSE_ALL => {
                self.begun.begin(PathBuf::from(CLOSE_ALL), close_all)
            }
            Wish::Action(_) => Err(Error::usage("there is no such action")),
        }
    }

    fn is_busy(&mut self) -> bool {
        !self.begun.lock().is_empty()
    }
}

impl Desktop {
    fn open(&self, path: PathBuf) -> Result<()> {
        let mut command = ourselves();
        command.args(["open", "--show"]);
        if self.is_opaque {
            command.args(["--format", "veracrypt"]);
        }
        command.arg("--").arg(&path);
        self.begun.begin(path, move || wait_for(command))
    }
}

/// What was begun and has not come to its end, by the file that it is about.
#[derive(Debug, Clone, Default)]
struct Begun(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Begun {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails where all of this cannot be begun: what a call asks for is done as a whole or not at all.
    fn admit(&self, whole: &[PathBuf]) -> Result<()> {
        let mut begun = self.lock().clone();
        begun.extend(whole.iter().cloned());
        if begun.len() > MOST_BEGUN {
            return Err(Error::new(ErrorKind::Busy, format!("{MOST_BEGUN} at most are opened at once")));
        }
        Ok(())
    }

    /// Has a thread do it, unless the same was begun already: whoever clicks again has the window before him.
    fn begin(&self, what: PathBuf, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.admit(slice::from_ref(&what))?;
        if !self.lock().insert(what.clone()) {
            return Ok(());
        }
        let end = End { begun: self.clone(), what };
        let run = move || {
            let _end = end;
            work();
        };
        thread::Builder::new().name("wish".to_owned()).spawn(run)?;
        Ok(())
    }
}

/// Takes out what was begun when this is dropped.
struct End {
    begun: Begun,
    what: PathBuf,
}

impl Drop for End {
    fn drop(&mut self) {
        self.begun.lock().remove(&self.what);
    }
}

/// This program, without a terminal.
fn ourselves() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("strongroom").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// It tells its user in a window what goes wrong.
fn wait_for(mut command: Command) {
    if let Err(error) = command.status() {
        ask::tell(true, true, &format!("strongroom: error: cannot start: {error}"));
    }
}

/// Shows the folder of what was opened last, or says how something is opened.
fn show() {
    let shown = match mountpoints().pop() {
        Some(folder) => mount::show_folder(&folder).map_err(|error| error.to_string()),
        None => Err("No vault is open. Double-click one in your file manager.".to_owned()),
    };
    if let Err(told) = shown {
        ask::tell(true, true, &told);
    }
}

/// Closes all vaults, and says which stay open.
fn close_all() {
    let closed = ourselves().args(["close", "--all"]).stderr(Stdio::piped()).output();
    match closed {
        Ok(closed) if closed.status.success() => {}
        Ok(closed) => ask::tell(true, true, &without_prefixes(&String::from_utf8_lossy(&closed.stderr))),
        Err(error) => ask::tell(true, true, &format!("strongroom: error: cannot start: {error}")),
    }
}

/// What a command said on standard error, as a window shows it.
fn without_prefixes(said: &str) -> String {
    let lines = said.lines().map(|line| {
        let prefixes = ["strongroom: error: ", "strongroom: hint: ", "strongroom: warning: "];
        prefixes.into_iter().find_map(|prefix| line.strip_prefix(prefix)).unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// So much is done at once: each may wait for a password.
const MOST_BEGUN: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_was_begun_is_not_begun_again_and_not_too_much_at_once() {
        let all = Begun::default();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let begin = |name: &str| {
            let wait = Arc::clone(&wait);
            all.begin(PathBuf::from(name), move || assert!(wait.lock().unwrap().recv().is_err()))
        };
        for number in 0..MOST_BEGUN {
            begin(&number.to_string()).unwrap();
            begin(&number.to_string()).unwrap();
        }
        assert_eq!(all.lock().len(), MOST_BEGUN);
        assert_eq!(begin("more").unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(all.lock().len(), MOST_BEGUN);
        drop(go);
        while !all.lock().is_empty() {
            thread::yield_now();
        }
        begin("more").unwrap();
        let some: Vec<_> = (0..MOST_BEGUN).map(|number| PathBuf::from(number.to_string())).collect();
        assert_eq!(all.admit(&some).unwrap_err().kind(), ErrorKind::Busy);
        all.admit(&some[1..]).unwrap();
    }

    #[test]
    fn a_window_shows_no_prefixes() {
        let said = "strongroom: error: cannot\nstrongroom: hint: do\nunmounted m\n";
        assert_eq!(without_prefixes(said), "cannot\ndo\nunmounted m");
    }
}
