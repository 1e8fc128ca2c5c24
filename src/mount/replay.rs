//! A look at a file system that was not unmounted cleanly: its journal is replayed in memory, and nothing is written.

use std::sync::Arc;

use super::{
    driver::{Driver, e2fsck_program},
    session::Session,
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::available,
    volume::{
        BlockDevice, ShadowDevice,
        free_space::{Condition, condition},
        signature::FileSystem,
    },
};

/// What a mount does about how the last use of the file system ended.
#[derive(Debug)]
pub(super) struct Replay {
    device: Arc<dyn BlockDevice>,
    found: Option<(FileSystem, Condition)>,
    /// Whether something may be left as it is.
    only_reads: bool,
    shadow: Option<Arc<ShadowDevice>>,
}

/// The device that is to be mounted, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Below {
    pub(super) device: Arc<dyn BlockDevice>,
    pub(super) shadow: Option<Arc<ShadowDevice>>,
    pub(super) condition: Option<Condition>,
}

impl Replay {
    /// What is to be done for a mount by `driver`.
    pub(super) fn plan(device: Arc<dyn BlockDevice>, read_only: bool, driver: Driver) -> Self {
        // What cannot be read, or is not understood, the driver will tell.
        let found = condition(&*device).ok().flatten();
        if !read_only {
            return Self { device, found, only_reads: false, shadow: None };
        }
        let is_needed = match found {
            Some((FileSystem::Ext, Condition::Unclean)) => false,
            Some((FileSystem::Ext | FileSystem::Xfs | FileSystem::Btrfs, condition)) => {
                condition != Condition::Clean
            }
            // The log of one that is not understood, perhaps.
            None => true,
            Some(_) => false,
        };
        let can_replay = is_needed && driver != Driver::Builtin;
        let shadow = can_replay.then(|| Arc::new(ShadowDevice::new(Arc::clone(&device), most_bytes())));
        Self { device, found, only_reads: true, shadow }
    }

    /// The same for ext where the server replays the journal by itself. What no journal tells of is repaired in memory, if the
    /// program for that is there.
    pub(super) fn plan_repair(device: Arc<dyn BlockDevice>, read_only: bool) -> Self {
        let found = if read_only { condition(&*device).ok().flatten() } else { None };
        if found != Some((FileSystem::Ext, Condition::Unclean)) || e2fsck_program().is_err() {
            return Self { device, found: None, only_reads: read_only, shadow: None };
        }
        let shadow = Some(Arc::new(ShadowDevice::new(Arc::clone(&device), most_bytes())));
        Self { device, found, only_reads: true, shadow }
    }

    /// Has `raise` make the file system visible: with its journal replayed in memory where there is one, and where that does
    /// not go, as it is. Tells in the session's warnings what shows and what does not.
    ///
    /// # Errors
    /// Those of `raise`.
    pub(super) fn raise<T>(
        &self,
        session: &mut Session,
        mut raise: impl FnMut(Below, &mut Session) -> Result<T>,
    ) -> Result<T> {
        let condition = self.found.map(|(_, condition)| condition);
        let as_it_is = Below { device: Arc::clone(&self.device), shadow: None, condition };
        let Some(shadow) = &self.shadow else {
            let raised = raise(as_it_is, session)?;
            session.warnings.extend(self.found.filter(|_| self.only_reads).and_then(left_as_it_is));
            return Ok(raised);
        };
        let (height, warnings) = (session.parts.height(), session.warnings.len());
        let device = Arc::clone(shadow) as Arc<dyn BlockDevice>;
        let replayed = Below { device, shadow: Some(Arc::clone(shadow)), condition };
        let why = match raise(replayed, session) {
            Ok(raised) if !shadow.is_full() => {
                session.warnings.extend(shadow.is_changed().then(|| made_whole(condition)));
                return Ok(raised);
            }
            Ok(_) => too_much(shadow),
            Err(_) if shadow.is_full() => too_much(shadow),
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Damaged) => error,
            Err(error) => return Err(error),
        };
        take_down(session, (height, warnings))?;
        let raised = raise(as_it_is, session)?;
        if condition != Some(Condition::Clean) {
            session.warnings.push(not_replayed(why.reason()));
        }
        Ok(raised)
    }
}

/// Takes an attempt at a mount down again: what it put on the session's stack, and its warnings.
pub(super) fn take_down(session: &mut Session, (height, warnings): (usize, usize)) -> Result<()> {
    session.parts.undo_to(height);
    session.warnings.truncate(warnings);
    session.note(|record| {
        (record.block_mount, record.mount) = (None, None);
        record.loop_device = None;
    })
}

/// What is to be said of a journal that was not replayed.
pub(super) fn not_replayed(why: &str) -> String {
    format!(
        "the file system was not unmounted cleanly, and its journal could not be replayed in memory ({why}): {UNSEEN}"
    )
}

/// What is to be said of a file system that shows as it was left.
pub(super) fn left_as_it_is((file_system, condition): (FileSystem, Condition)) -> Option<String> {
    match condition {
        Condition::Clean => None,
        Condition::Journal => {
            Some(format!("the {} file system was not unmounted cleanly: {UNSEEN}", file_system.name()))
        }
        Condition::Unclean => Some(format!(
            "the {} file system was not unmounted cleanly: what was written last may be damaged or missing; check it",
            file_system.name()
        )),
    }
}

pub(super) fn made_whole(condition: Option<Condition>) -> String {
    let what =
        if condition == Some(Condition::Unclean) { "it was repaired" } else { "its journal was replayed" };
    format!("the file system was not unmounted cleanly: {what} in memory, and the container is unchanged")
}

fn too_much(shadow: &ShadowDevice) -> Error {
    Error::new(ErrorKind::OutOfMemory, format!("it needs more than {} MiB", shadow.limit() >> 20))
}

/// The most that a replay may take of memory: less where there is little.
fn most_bytes() -> u64 {
    MOST_BYTES.min(available::memory() / 4)
}

const UNSEEN: &str = "the latest changes do not show; mount it, or a copy of it, for writing once";
const MOST_BYTES: u64 = 256 << 20;
