//! What `e2fsck` repairs unasked before ext is mounted, and what is left to the user.
//!
//! The kernel mounts all of it as it is, and what is half done takes what was whole with it. What keeps no journal (ext2, or `fuse2fs`, by which older versions of strongroom mount) leaves some things half done where it is
//! killed. `e2fsck -p` makes good nearly all of that. It stops at a file that has lost its name (`Unattached inode`), and at a
//! superblock of which a part was written: `fuse2fs` 1.47.0 writes it in pieces, its checksum last.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, ErrorKind, Fact, Result},
    mount::{
        filesystem::{Contents, Superblock},
        program::{self, Finished},
        session::Session,
    },
    text::{excerpt, path::command_word},
};

/// The program.
///
/// # Errors
/// `Missing`, naming the package.
pub(in crate::mount) fn program() -> Result<PathBuf> {
    program::require("e2fsck", "e2fsprogs")
}

/// Repairs what can be repaired without questions. A clean file system costs one look at its superblock.
///
/// # Errors
/// `Io` with what was found and how to repair it, `Missing`, `Interrupted`.
pub(in crate::mount) fn repair_unasked(session: &mut Session, block: &str, mountpoint: &Path) -> Result<()> {
    let program = program()?;
    let mut finished = preen(&program, session, block)?;
    let is_refused = is_left_damaged(&finished);
    if is_refused {
        // What it put right before it stopped is mostly what it stopped at: a second run then comes to the end.
        finished = preen(&program, session, block)?;
    }
    // e2fsck(8): 0 clean, 1 corrected, 2 corrected and the system should be restarted, which no volume needs.
    match finished.status {
        Some(0) if !is_refused => Ok(()),
        Some(0..=2) => {
            session.warnings.push("the file system was not unmounted cleanly; e2fsck repaired it".to_owned());
            Ok(())
        }
        _ => {
            let container = session.record().entry.container.clone();
            Err(refusal(&finished, block, &Way { e2fsck: &program, container: &container, mountpoint }))
        }
    }
}

/// Replays the journal on a block file whose writes stay in memory, and repairs what can be repaired without questions. What
/// is damaged beyond that is told, and shows as it is.
///
/// # Errors
/// `Io` where the journal was not replayed, `Missing`, `Interrupted`.
pub(in crate::mount) fn repair_in_memory(session: &mut Session, block: &str) -> Result<()> {
    let program = program()?;
    let mut finished = preen(&program, session, block)?;
    if is_left_damaged(&finished) {
        finished = preen(&program, session, block)?;
    }
    let path = session.directory.join(block);
    // What it wrote may be in the kernel's cache only, and memory may not suffice for it.
    File::open(&path)?.sync_all()?;
    let needs_recovery =
        matches!(Superblock::probe(&path)?.contents, Contents::Ext { needs_recovery: true, .. });
    if finished.status.is_none_or(|status| status & !7 != 0) || needs_recovery {
        return Err(failure(&finished));
    }
    if is_left_damaged(&finished) {
        let found = finding(&finished.output, block).unwrap_or_else(|| "e2fsck does not say how".to_owned());
        session.warnings.push(format!("the file system is damaged: {found}; it is shown as it is"));
    }
    Ok(())
}

fn preen(program: &Path, session: &Session, block: &str) -> Result<Finished> {
    let mut command = program::command(program);
    program::run(command.current_dir(&session.directory).args(["-p", block]), session.stop())
}

/// Bit 2 of the status: errors are left.
fn is_left_damaged(finished: &Finished) -> bool {
    finished.status.is_some_and(|status| status & 4 != 0)
}

fn refusal(finished: &Finished, block: &str, way: &Way<'_>) -> Error {
    let said = [&finished.errors, &finished.output];
    if said.iter().any(|said| said.contains(TOO_LARGE)) {
        // A limit that we inherited is no damage.
        return std::io::Error::from(rustix::io::Errno::FBIG).into();
    }
    if is_left_damaged(finished) {
        let found = finding(&finished.output, block).unwrap_or_else(|| "it does not say which".to_owned());
        let reason = format!("the file system needs a repair that e2fsck does not make unasked: {found}");
        return Error::new(ErrorKind::Io, reason).with_hint(way.out(&[]));
    }
    let error = failure(finished);
    let is_torn = said.iter().any(|said| said.contains(TORN));
    // e2fsck alone takes a copy of the superblock, which a volume of up to 128 MiB does not have.
    if is_torn { error.with_hint(way.out(&["debugfs -w -n -R dirty"])) } else { error }
}

/// A run that broke off.
fn failure(finished: &Finished) -> Error {
    let error = Error::new(ErrorKind::Io, format!("e2fsck failed: {}", finished.reason()));
    let is_too_old = [&finished.errors, &finished.output].iter().any(|said| said.contains(TOO_OLD));
    if is_too_old { error.with_fact(Fact::ProgramTooOld) } else { error }
}

/// What the run stopped at: the last thing it told of, without the block file's name before it.
pub(in crate::mount) fn finding(output: &str, block: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for line in output.lines().take_while(|line| !line.contains(STOPPED)).map(str::trim) {
        match line.strip_prefix(block).and_then(|line| line.strip_prefix(": ")) {
            Some(told) => found = Some(told.to_owned()),
            None => found = found.map(|told| format!("{told} {line}").trim_end().to_owned()),
        }
    }
    // File names are in it.
    found.map(|told| excerpt(&told))
}

/// What a user types to repair a volume.
struct Way<'a> {
    e2fsck: &'a Path,
    container: &'a Path,
    mountpoint: &'a Path,
}

impl Way<'_> {
    /// The commands, with `first` before `e2fsck`, for a shell. By their paths, as an ordinary user's `PATH` does not lead
    /// to them.
    fn out(&self, first: &[&str]) -> String {
        let (container, mountpoint) = (command_word(self.container), command_word(self.mountpoint));
        let volume = command_word(&self.mountpoint.join(crate::export::VOLUME_FILE));
        let folder = self.e2fsck.parent().unwrap_or(Path::new("/usr/sbin")).display();
        let tools = first.iter().chain(&["e2fsck -fy"]).map(|tool| format!("{folder}/{tool} {volume}"));
        let tools = tools.collect::<Vec<_>>().join("; ");
        format!(
            "repair it (files that lost their names end up in lost+found, which --owner me shows), with the same options as this mount: \
             strongroom mount --block {container} {mountpoint}; {tools}; strongroom unmount {mountpoint}"
        )
    }
}

/// What e2fsck says where it goes no further without asking. The option that it then tells to leave out is ours.
const STOPPED: &str = "UNEXPECTED INCONSISTENCY";
/// What the C library says of a write beyond the limit on file sizes (`EFBIG`).
const TOO_LARGE: &str = "File too large";
/// What e2fsck says of features that came after it.
const TOO_OLD: &str = "newer version of e2fsck";
const TORN: &str = "Superblock checksum does not match";

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "block/volume";

    fn finished(status: i32, output: &str, errors: &str) -> Finished {
        Finished { status: Some(status), output: output.into(), errors: errors.into() }
    }

    fn way() -> Way<'static> {
        Way {
            e2fsck: Path::new("/usr/sbin/e2fsck"),
            container: Path::new("/home/anna/my v.vault"),
            mountpoint: Path::new("/home/anna/m"),
        }
    }

    #[test]
    fn a_limit_on_file_sizes_is_not_taken_for_damage() {
        let error = refusal(&finished(4, "", "Error writing block 9 (File too large).  \n"), BLOCK, &way());
        assert_eq!(error.reason(), "file too large");
    }

    #[test]
    fn what_the_run_stopped_at_is_told() {
        let output = "block/volume contains a file system with errors, check forced.\n\
                      block/volume: Entry '39' in /b (13) references inode 84 found in group 0's unused inodes area.  \n\
                      FIXED.\n\
                      block/volume: Directory ??? has the casefold flag, but the\ncasefold feature is not enabled.  \n\n\n\
                      block/volume: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\n\t(i.e., without -a or -p options)\n";
        let error = refusal(&finished(4, output, ""), BLOCK, &way());
        let told = "the file system needs a repair that e2fsck does not make unasked: \
                    Directory ??? has the casefold flag, but the casefold feature is not enabled.";
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Io, told));
    }

    #[test]
    fn a_name_in_it_cannot_steer_a_terminal() {
        let output = format!("{BLOCK}: Entry '\u{1b}[2J' in /\n{BLOCK}: {STOPPED}\n");
        assert_eq!(finding(&output, BLOCK).unwrap(), r"Entry '\u{1b}[2J' in /");
        assert_eq!(finding("", BLOCK), None);
    }

    #[test]
    fn the_way_out_can_be_pasted() {
        let hint = refusal(&finished(4, "", ""), BLOCK, &way()).hint().unwrap().to_owned();
        let commands = "strongroom mount --block '/home/anna/my v.vault' /home/anna/m; \
                        /usr/sbin/e2fsck -fy /home/anna/m/volume; strongroom unmount /home/anna/m";
        assert!(hint.ends_with(commands), "{hint}");
    }

    #[test]
    fn a_torn_superblock_is_made_whole_first() {
        let said =
            "e2fsck: Superblock checksum does not match superblock while trying to open block/volume\n";
        let error = refusal(&finished(8, "", said), BLOCK, &way());
        let commands = "/usr/sbin/debugfs -w -n -R dirty /home/anna/m/volume; /usr/sbin/e2fsck -fy";
        assert!(error.hint().unwrap().contains(commands), "{error:?}");
        let other =
            refusal(&finished(8, "", "e2fsck: No such device while trying to open it\n"), BLOCK, &way());
        assert_eq!((other.kind(), other.hint()), (ErrorKind::Io, None));
    }
}
