//! From a path to a container whose format is settled: for the time before a secret is asked for.

use std::{os::unix::fs::MetadataExt, path::Path};

use super::{FrontEnd, News, Question, Task, front::at};
use crate::{
    error::{Error, ErrorKind, Fact, Result},
    format::{
        Format, Probe,
        freeotfe::{self, FreeOtfe},
        native::left_behind,
        veracrypt::{self, EITHER, TRUECRYPT, VERACRYPT},
    },
    volume::{Container, by_signature, only_container, partition_range, range_from, scattered_image},
};

/// Where in a file or on a device a container lies: it is all of it where nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part {
    /// The number of its partition.
    pub partition: Option<u32>,
    /// The byte that it begins at.
    pub offset: Option<u64>,
}

impl Part {
    /// Whether anything is said.
    pub const fn is_any(self) -> bool {
        self.partition.is_some() || self.offset.is_some()
    }
}

/// A file that a header lies in, where one is named, and whose it is said to be; and where in its own file the container lies.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeaderFile<'a> {
    /// The file.
    pub path: Option<&'a Path>,
    /// The format that was named.
    pub format: Option<&'static dyn Format>,
    /// Where the container lies.
    pub part: Part,
}

/// What the user knows of a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Where it and its header lie, and its format.
    pub file: HeaderFile<'a>,
    /// What is known of one of TrueCrypt or VeraCrypt.
    pub hints: veracrypt::Hints,
    /// What is known of one of FreeOTFE, where anything is said of that.
    pub freeotfe: Option<freeotfe::Hints>,
}

impl Known<'_> {
    fn has_hints(&self) -> bool {
        self.hints != veracrypt::Hints::NONE
    }

    fn is_nothing(&self) -> bool {
        let HeaderFile { path, format, part } = self.file;
        path.is_none() && format.is_none() && !part.is_any() && !self.has_hints() && self.freeotfe.is_none()
    }
}

/// Lets a container be what it is known to be. Where nothing in it says what it is, the front end is asked whether to try it as one of
/// TrueCrypt or VeraCrypt.
///
/// # Errors
/// `Usage` for what is said of another format: [`Fact::VeraCryptOnly`] and [`Fact::FreeOtfeOnly`] tell which.
pub fn settle_format(front: &dyn FrontEnd, container: &mut Container, known: &Known<'_>) -> Result<()> {
    let of_freeotfe = known.freeotfe.is_some();
    let named = match known.file.format {
        None if of_freeotfe && is_opaque(front, container)? => Some(&FreeOtfe as &'static dyn Format),
        named => named,
    };
    if let Some(format) = named {
        let name = format.name();
        if known.has_hints() && ![VERACRYPT.name(), TRUECRYPT.name()].contains(&name) {
            return Err(not_for(Fact::VeraCryptOnly(name)));
        }
        if of_freeotfe && name != freeotfe::NAME {
            return Err(not_for(Fact::FreeOtfeOnly(name)));
        }
        refuse_other(container, format, known)?;
        container.assume(format);
        return Ok(());
    }
    let refuse = |fact: fn(&'static str) -> Fact| {
        container.format().map_or_else(|_| Ok(()), |format| Err(not_for(fact(format.name()))))
    };
    if of_freeotfe {
        return refuse(Fact::FreeOtfeOnly);
    }
    // A drive with an encrypted system has a partition table, or what else its boot loader needs.
    let is_opaque = is_opaque(front, container)? || (known.hints.system && container.format().is_err());
    let shall_try = match (is_opaque, known.has_hints()) {
        (false, true) => return refuse(Fact::VeraCryptOnly),
        (false, false) => false,
        (true, true) => true,
        // What is left of a container is named before anything is guessed.
        (true, false) => {
            left_behind(&*container.storage())?.is_none()
                && front.agrees(&Question::TryOpaque(container.path()))?
        }
    };
    if shall_try {
        container.assume(&EITHER);
    }
    Ok(())
}

/// Refuses a format where the header of another shows: of one whose headers show themselves, if none can be read; of one whose do not,
/// if that header is whole and no other place is named.
fn refuse_other(container: &Container, named: &dyn Format, known: &Known<'_>) -> Result<()> {
    let storage = container.storage();
    let shown = by_signature(&*storage)?.filter(|shown| shown.name() != named.name());
    let Some(shown) = shown else { return Ok(()) };
    let (is_meant, hint) = if named.probe(&*storage)? == Probe::Opaque {
        // A copy may be left of what stood there before.
        let is_place_named = known.hints.backup_header || known.hints.hidden || known.hints.system;
        (is_place_named || shown.read_header(&*storage).is_err(), OR_A_COPY)
    } else {
        (named.read_header(&*storage).is_ok(), "leave --format out")
    };
    if is_meant {
        return Ok(());
    }
    let reason = format!("it is a {} container, and none of the format {}", shown.name(), named.name());
    Err(Error::new(ErrorKind::Usage, reason)
        .with_hint(hint)
        .during(format!("cannot open {}", container.path().display())))
}

const OR_A_COPY: &str = "leave --format out; what stood there before may have left a copy: --backup-header";

fn not_for(fact: Fact) -> Error {
    Error::new(ErrorKind::Usage, "what was said of it does not apply to its format").with_fact(fact)
}

/// Whether nothing in the container says what it is. Reads its beginning for the first time.
///
/// # Errors
/// What reading gave.
pub fn is_opaque(front: &dyn FrontEnd, container: &Container) -> Result<bool> {
    at(front, Task::Look(container.path()), || container.is_opaque())
}

/// Lets a container be the one partition of it that holds a container, where nothing was said about the place, and tells that.
///
/// # Errors
/// What reading gave.
pub fn find_partition(front: &dyn FrontEnd, container: &mut Container, known: &Known<'_>) -> Result<()> {
    if let Some(number) = take_only_partition(front, container, known)? {
        front.tell(&News::OnlyPartition { path: container.path(), number });
    }
    Ok(())
}

/// The same without a word. Gives the partition's number.
///
/// # Errors
/// What reading gave.
pub fn take_only_partition(
    front: &dyn FrontEnd,
    container: &mut Container,
    known: &Known<'_>,
) -> Result<Option<u32>> {
    if container.pieces().is_some() || !known.is_nothing() {
        return Ok(None);
    }
    let storage = container.storage();
    let found = at(front, Task::Look(container.path()), || only_container(&storage))?;
    let Some(found) = found else { return Ok(None) };
    let Some(range) = found.partition.range(storage.size()?) else { return Ok(None) };
    container.narrow(range)?;
    Ok(Some(found.partition.number))
}

/// Lets `container` take its header from the file that is named, if one is, which `open` opens.
///
/// # Errors
/// `Usage` where that is the container itself; those of `open`.
pub fn attach(
    container: &mut Container,
    header: HeaderFile<'_>,
    open: impl FnOnce(&Path) -> Result<Container>,
) -> Result<()> {
    let HeaderFile { path: Some(header), format, .. } = header else { return Ok(()) };
    if format.is_some_and(|format| format.name() == freeotfe::NAME) {
        // Any file could be its header: only the user knows.
        container.assume(&FreeOtfe);
    }
    let attached = if is_same_file(container, header) {
        Err(Error::new(ErrorKind::Usage, "it is the container itself"))
    } else {
        open(header).and_then(|file| container.attach_header(&file))
    };
    attached.map_err(|error| error.during(format!("cannot open header file {}", header.display())))
}

/// Lets a container be a part of the file.
///
/// # Errors
/// `Usage` where the file has no such part; `Unsupported` where it would be written to within a disk image whose sectors lie in
/// another order.
pub fn narrow(container: &mut Container, part: Part) -> Result<()> {
    let storage = container.storage();
    let range = match (part.partition, part.offset) {
        (Some(number), _) => partition_range(&*storage, number)?,
        (None, Some(offset)) => range_from(&*storage, offset)?,
        (None, None) => return Ok(()),
    };
    if let Some((image, way)) = scattered_image(&*storage, container.path())?
        && !container.is_read_only()
    {
        let reason = format!("it is {image}: nothing is written to a part of it");
        return Err(Error::new(ErrorKind::Unsupported, reason).with_hint(way));
    }
    container.narrow(range)
}

fn is_same_file(container: &Container, path: &Path) -> bool {
    let number = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let [ours, theirs] = [container.file().metadata(), std::fs::metadata(path)].map(|it| it.map(number).ok());
    ours.is_some() && ours == theirs
}
