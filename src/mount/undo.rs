//! The undo stack: what was built up, to be taken down in reverse.
//!
//! Starting a session pushes each part as it comes to life. A start that fails drops the stack, and so does a panic; a
//! session that ends takes it down part by part, and stops at a part that is busy with all below it still working.

use std::fmt;

use crate::error::Result;

/// How firmly a part is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// Whole and in order, or not at all: a part in use answers `Busy` and stays.
    Clean,
    /// Now: what is in use is cut off.
    Forced,
}

/// One part of a session.
pub trait Part: fmt::Debug + Send {
    /// Its name in the log.
    fn name(&self) -> &'static str;

    /// Takes it down. After an error it is asked again later, so this must bear repetition.
    ///
    /// # Errors
    /// `Busy` where `how` is [`Undo::Clean`] and something uses it.
    fn undo(&mut self, how: Undo) -> Result<()>;
}

/// The parts of a session, the last one on top.
#[derive(Default)]
pub struct UndoStack {
    parts: Vec<Box<dyn Part>>,
    log: Option<Log>,
}

/// Where parts that fail to go are reported. No secret and no name from inside a volume goes there.
pub(super) type Log = std::sync::Arc<dyn Fn(&str) + Send + Sync>;

impl UndoStack {
    /// An empty stack that reports to `log`.
    pub fn new(log: Log) -> Self {
        Self { parts: Vec::new(), log: Some(log) }
    }

    /// Puts `part` on top.
    pub fn push(&mut self, part: impl Part + 'static) {
        self.parts.push(Box::new(part));
    }

    /// How many parts there are.
    pub fn height(&self) -> usize {
        self.parts.len()
    }

    /// Takes down what lies above the lowest `height` parts, by force where need be.
    pub fn undo_to(&mut self, height: usize) {
        let parts = self.parts.split_off(height.min(self.parts.len()));
        drop(Self { parts, log: self.log.clone() });
    }

    /// Takes everything down, from the top.
    ///
    /// # Errors
    /// The first failure. With [`Undo::Clean`] that part and all below stay. With [`Undo::Forced`] failures are logged,
    /// and every part is tried and dropped.
    pub fn undo(&mut self, how: Undo) -> Result<()> {
        self.undo_down_to(0, how)
    }

    /// The same for all but the lowest `kept` parts.
    ///
    /// # Errors
    /// As [`undo`](Self::undo).
    pub fn undo_down_to(&mut self, kept: usize, how: Undo) -> Result<()> {
        let mut first = None;
        while self.parts.len() > kept {
            let Some(mut part) = self.parts.pop() else { break };
            let Err(error) = part.undo(how) else { continue };
            if how == Undo::Clean {
                self.parts.push(part);
                return Err(error);
            }
            if let Some(log) = &self.log {
                log(&format!("{}: {error}", part.name()));
            }
            first.get_or_insert(error);
        }
        first.map_or(Ok(()), Err)
    }
}

impl Drop for UndoStack {
    fn drop(&mut self) {
        if self.undo(Undo::Clean).is_err() {
            // Its failures are in the log.
            let _ = self.undo(Undo::Forced);
        }
    }
}

impl fmt::Debug for UndoStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|part| part.name())).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::error::{Error, ErrorKind};

    #[derive(Debug)]
    struct Noted {
        name: &'static str,
        busy: bool,
        notes: Arc<Mutex<Vec<String>>>,
    }

    impl Part for Noted {
        fn name(&self) -> &'static str {
            self.name
        }

        fn undo(&mut self, how: Undo) -> Result<()> {
            self.notes.lock().unwrap().push(format!("{} {how:?}", self.name));
            if self.busy { Err(Error::new(ErrorKind::Busy, "in use")) } else { Ok(()) }
        }
    }

    fn stack(notes: &Arc<Mutex<Vec<String>>>, busy: &str) -> UndoStack {
        let logged = Arc::clone(notes);
        let mut stack = UndoStack::new(Arc::new(move |line| logged.lock().unwrap().push(line.to_owned())));
        for name in ["export", "loop", "mount"] {
            stack.push(Noted { name, busy: name == busy, notes: Arc::clone(notes) });
        }
        stack
    }

    #[test]
    fn parts_go_in_reverse() {
        let notes = Arc::default();
        stack(&notes, "").undo(Undo::Clean).unwrap();
        assert_eq!(*notes.lock().unwrap(), ["mount Clean", "loop Clean", "export Clean"]);
    }

    #[test]
    fn the_lowest_parts_can_be_kept() {
        let notes = Arc::default();
        let mut stack = stack(&notes, "");
        stack.undo_down_to(1, Undo::Clean).unwrap();
        assert_eq!(*notes.lock().unwrap(), ["mount Clean", "loop Clean"]);
        assert_eq!(format!("{stack:?}"), r#"["export"]"#);
    }

    #[test]
    fn a_busy_part_leaves_what_is_below_alone() {
        let notes = Arc::default();
        let mut stack = stack(&notes, "loop");
        assert_eq!(stack.undo(Undo::Clean).unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(*notes.lock().unwrap(), ["mount Clean", "loop Clean"]);
        assert_eq!(format!("{stack:?}"), r#"["export", "loop"]"#);
    }

    #[test]
    fn force_goes_on_past_a_failure_and_returns_it() {
        let notes = Arc::default();
        let error = stack(&notes, "mount").undo(Undo::Forced).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_eq!(*notes.lock().unwrap(), ["mount Forced", "mount: in use", "loop Forced", "export Forced"]);
    }

    #[test]
    fn what_lies_above_goes_by_itself() {
        let notes = Arc::default();
        let mut stack = stack(&notes, "mount");
        stack.undo_to(1);
        let gone = ["mount Clean", "mount Forced", "mount: in use", "loop Forced"];
        assert_eq!(*notes.lock().unwrap(), gone);
        assert_eq!((stack.height(), format!("{stack:?}").as_str()), (1, r#"["export"]"#));
    }

    #[test]
    fn a_dropped_stack_is_taken_down() {
        let notes = Arc::default();
        drop(stack(&notes, "export"));
        assert_eq!(
            *notes.lock().unwrap(),
            ["mount Clean", "loop Clean", "export Clean", "export Forced", "export: in use"]
        );
    }
}
