//! Containers that are folders of pieces: how they are found, locked and made.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Advice, OFlags, fadvise};

use super::{Access, Container};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    format::{Extent, Finding, HeaderInfo, Unlocked, hyphenated, native},
    storage::{
        FileStorage, Shortage, Storage,
        pieces::{
            BlockError, COPY_NAME, DirFolder, Fault, Folder, Geometry, HEADER_NAME, PieceError, Pieces,
            Shape, Survey, mend, most_open, piece_name,
        },
    },
};

/// The header file of the folder of pieces at `path`, or the header file itself; `None` where there is none.
pub fn container_file(path: &Path) -> Option<PathBuf> {
    if !path.is_dir() {
        let is_one = path.file_name().is_some_and(|name| name == HEADER_NAME) && is_header_file(path);
        return is_one.then(|| path.to_path_buf());
    }
    [HEADER_NAME, COPY_NAME]
        .iter()
        .any(|name| is_header_file(&path.join(name)))
        .then(|| path.join(HEADER_NAME))
}

/// Whether a folder holds pieces, and no header file that would make a container of them.
pub fn has_lost_its_headers(path: &Path) -> bool {
    container_file(path).is_none() && is_header_file(&path.join(piece_name(0)))
}

/// The file that stands for the container at `path`: of a folder of pieces its header file, else what is there.
pub fn file_of(path: &Path) -> PathBuf {
    container_file(path).unwrap_or_else(|| path.to_path_buf())
}

/// The device and inode number of that file.
///
/// # Errors
/// What asking gave.
pub fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(file_of(path)).map(|found| (found.dev(), found.ino()))
}

fn is_header_file(path: &Path) -> bool {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path);
    let mut head = [0; 16];
    file.is_ok_and(|file| {
        file.metadata().is_ok_and(|found| found.is_file()) && file.read_exact_at(&mut head, 0).is_ok()
    }) && Geometry::is_block(&head)
}

/// The open files of a container that is a folder.
#[derive(Debug)]
pub(super) struct PieceFolder {
    pieces: Arc<Pieces>,
    folder: Arc<DirFolder>,
    header: Arc<FileStorage>,
    copy: Arc<FileStorage>,
}

impl PieceFolder {
    /// The folder that an open file is the header file of; `None` where it is none.
    pub(super) fn of(header: &Arc<FileStorage>) -> Result<Option<Self>> {
        let mut head = [0; 16];
        let is_file = header.file().metadata()?.is_file();
        if !is_file || header.read_exact_at(&mut head, 0).is_err() || !Geometry::is_block(&head) {
            return Ok(None);
        }
        let is_writable = !header.limits().read_only;
        let folder = DirFolder::around(header.file(), HEADER_NAME, is_writable).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(
                ErrorKind::NotAContainer,
                format!("it is a part of a folder of pieces, which opens by the folder, and whose header file is {HEADER_NAME} in it"),
            ),
            _ => error.into(),
        })?;
        let copy = folder.open_file(COPY_NAME).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::new(ErrorKind::Damaged, format!("{COPY_NAME} is missing")).with_hint(MENDED)
            }
            _ => error.into(),
        })?;
        let folder = Arc::new(folder);
        let pieces = Pieces::open(
            Arc::clone(&folder) as Arc<dyn Folder>,
            Arc::clone(header) as Arc<dyn Storage>,
            Arc::clone(&copy) as Arc<dyn Storage>,
            most_open(),
        );
        let pieces = Arc::new(pieces.map_err(of_pieces)?);
        Ok(Some(Self { pieces, folder, header: Arc::clone(header), copy }))
    }

    /// Makes the header files of a new container in the empty folder at `path`, and gives them to whom they should belong.
    ///
    /// # Errors
    /// `Usage` where no such container can be; what making them gave.
    pub(super) fn create(path: &Path, new: &NewPieces<'_>, give: &dyn Fn(&File)) -> Result<Self> {
        let geometry = new.geometry()?;
        let folder = Arc::new(DirFolder::open(path, true)?);
        drop(Pieces::create(geometry, Arc::clone(&folder) as Arc<dyn Folder>, most_open())?);
        let (header, copy) = (folder.open_file(HEADER_NAME)?, folder.open_file(COPY_NAME)?);
        give(header.file());
        give(copy.file());
        folder.resemble(header.file())?;
        let pieces = Pieces::begin(
            geometry,
            Arc::clone(&folder) as Arc<dyn Folder>,
            (Arc::clone(&header) as Arc<dyn Storage>, Arc::clone(&copy) as Arc<dyn Storage>),
            most_open(),
        );
        Ok(Self { pieces: Arc::new(pieces), folder, header, copy })
    }

    /// Goes on with a folder that was begun in this way, or begins it.
    ///
    /// # Errors
    /// `Exists` where it was begun in another way; as [`create`](Self::create).
    pub(super) fn take_up(path: &Path, new: &NewPieces<'_>, give: &dyn Fn(&File)) -> Result<Self> {
        let folder = Arc::new(DirFolder::open(path, true)?);
        let (Ok(header), Ok(copy)) = (folder.open_file(HEADER_NAME), folder.open_file(COPY_NAME)) else {
            return Self::create(path, new, give);
        };
        let Ok(geometry) = Pieces::geometry_of(&*header, &*copy) else {
            // A header file is written before the first piece is made.
            return Self::create(path, new, give);
        };
        if new.geometry()? != geometry.with_set(new.set) {
            return Err(Error::new(ErrorKind::Exists, "it was begun in another way"));
        }
        folder.resemble(header.file())?;
        let files = (Arc::clone(&header) as Arc<dyn Storage>, Arc::clone(&copy) as Arc<dyn Storage>);
        let pieces = Pieces::begin(geometry, Arc::clone(&folder) as Arc<dyn Folder>, files, most_open());
        pieces.take_up().map_err(of_pieces)?;
        Ok(Self { pieces: Arc::new(pieces), folder, header, copy })
    }

    /// Has what is read next come from the medium.
    pub(super) fn forget_cached(&self) {
        for index in 0..self.pieces.geometry().pieces() {
            if let Ok(piece) = self.folder.open_file(&piece_name(index)) {
                let _ = fadvise(piece.file(), 0, None, Advice::DontNeed);
            }
        }
    }

    pub(super) const fn directory(&self) -> &Arc<DirFolder> {
        &self.folder
    }

    pub(super) const fn pieces(&self) -> &Arc<Pieces> {
        &self.pieces
    }

    pub(super) const fn header(&self) -> &Arc<FileStorage> {
        &self.header
    }

    pub(super) const fn copy(&self) -> &Arc<FileStorage> {
        &self.copy
    }

    pub(super) fn allow_in_place(&self) {
        self.folder.allow_in_place();
    }

    pub(super) fn go_past_cache(&self) {
        self.folder.go_past_cache();
    }

    pub(super) fn endure(&self, shortage: &Arc<Shortage>) {
        self.copy.endure(Arc::clone(shortage));
        self.folder.endure(shortage);
    }
}

/// What a new folder of pieces is to be like.
#[derive(Debug, Clone, Copy)]
pub struct NewPieces<'a> {
    /// The container's identity.
    pub uuid: [u8; 16],
    /// Random bytes that tell this folder from every other.
    pub set: [u8; 16],
    /// Where its data lie.
    pub extent: &'a Extent,
    /// The size of a piece's file in bytes.
    pub piece_len: u64,
}

impl NewPieces<'_> {
    /// How it will lie in its folder.
    ///
    /// # Errors
    /// `Usage` where it cannot.
    pub fn geometry(&self) -> Result<Geometry> {
        let shape = Shape {
            uuid: self.uuid,
            set: self.set,
            container_len: self.extent.container_len,
            front_len: self.extent.data.start,
            tail_offset: self.extent.data.end,
            piece_len: self.piece_len,
        };
        Geometry::new(shape).ok_or_else(|| {
            Error::usage("that is too many pieces, or pieces of a size that cannot be").with_hint(
                "a piece has at least 1 MiB, in units of 4 KiB, and a container has at most 1048576 of them",
            )
        })
    }
}

/// Locks the copy of the header file, where `path` is the header file of a folder of pieces, and before anything else: who has one of
/// the two may go on where the other one is gone. Where it is to be written, makes the one anew that is missing or damaged.
pub(super) fn lock_copy(path: &Path, access: Access) -> Result<Option<File>> {
    if path.file_name().is_none_or(|name| name != HEADER_NAME) {
        return Ok(None);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if ![HEADER_NAME, COPY_NAME].iter().any(|name| is_header_file(&parent.join(name))) {
        return Ok(None);
    }
    let is_writable = access == Access::ReadWrite;
    let folder = DirFolder::open(parent, is_writable)?;
    let lock = |name| match folder.open_file(name) {
        Ok(storage) => Container::lock(storage.file(), access).map(|()| Some(storage)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    };
    let copy = lock(COPY_NAME)?;
    if !is_writable {
        return copy.map(|copy| Ok(copy.file().try_clone()?)).transpose();
    }
    // Nobody else may be about to make it anew.
    let header = lock(HEADER_NAME)?;
    if let Some(present) = header.as_ref().or(copy.as_ref()) {
        folder.resemble(present.file())?;
    }
    mend(&folder).map_err(of_pieces)?;
    drop(header);
    if let Some(copy) = copy {
        return Ok(Some(copy.file().try_clone()?));
    }
    let made = folder.open_file(COPY_NAME)?;
    Container::lock(made.file(), access)?;
    Ok(Some(made.file().try_clone()?))
}

/// Has the map be read under the volume key.
pub(super) fn unlock(pieces: &Pieces, info: &HeaderInfo, unlocked: &Unlocked) -> Result<()> {
    let geometry = pieces.geometry();
    let data = info.data_offset..info.data_offset.saturating_add(info.data_size);
    let is_same = info.uuid.as_ref() == Some(&hyphenated(geometry.uuid()))
        && info.container_size == geometry.container_len()
        && data == geometry.data();
    if !is_same {
        let reason = "its header speaks of another container than the folder of pieces that it is in";
        return Err(Error::new(ErrorKind::Damaged, reason));
    }
    let key = native::piece_map_key(&unlocked.volume_key, geometry.uuid())?;
    pieces.unlock(key).map_err(of_pieces)
}

/// Has a new folder's map be sealed under the volume key, so that pieces are made when they are written, unless all are made.
pub(super) fn seal(pieces: &Pieces, volume_key: &VolumeKey) -> Result<()> {
    if pieces.is_complete() {
        return Ok(());
    }
    let key = native::piece_map_key(volume_key, pieces.geometry().uuid())?;
    Ok(pieces.seal(key)?)
}

/// Looks for what is wrong with the pieces, by their names: `Damaged` where some cannot be read, or else what lies beside them, a
/// line each.
///
/// # Errors
/// `Damaged`; what reading the folder gave.
pub fn glance(container: &Container) -> Result<Vec<String>> {
    let Some(pieces) = container.pieces() else { return Ok(Vec::new()) };
    let survey = pieces.glance()?;
    let told = told(&survey);
    if survey.faults.iter().any(|fault| matches!(fault, Fault::Piece(_))) {
        let reason = told.into_iter().take(TOLD).collect::<Vec<_>>().join("; ");
        return Err(Error::new(ErrorKind::Damaged, reason).with_hint(
            "bring the pieces back (a program that synchronises folders may not be done yet); --read-only reads the rest",
        ));
    }
    Ok(told)
}

/// Opens each piece; what is wrong with one is a finding. Before the container is unlocked, goes by what the piece map claims.
///
/// # Errors
/// What reading the folder gave.
pub fn check_pieces(container: &Container) -> Result<Vec<Finding>> {
    let Some(pieces) = container.pieces() else { return Ok(Vec::new()) };
    let survey = pieces.survey()?;
    let mut findings: Vec<_> = survey
        .faults
        .iter()
        .map(|fault| match fault {
            Fault::Piece(_) => Finding::error("pieces", fault.to_string()),
            Fault::Behind(_) | Fault::Beside(_) => Finding::warning("pieces", fault.to_string()),
        })
        .collect();
    if survey.more > 0 {
        findings.push(Finding::error("pieces", format!("{} more faults like these", survey.more)));
    }
    let (made, all) = (pieces.made(), pieces.geometry().pieces());
    findings.push(Finding::info("pieces", format!("{made} of {all} were made")));
    Ok(findings)
}

fn told(survey: &Survey) -> Vec<String> {
    let mut told: Vec<_> = survey.faults.iter().map(ToString::to_string).collect();
    if survey.more > 0 {
        told.push(format!("{} more faults like these", survey.more));
    }
    told
}

/// Says what is wrong with a folder as an error of the right kind.
pub(super) fn of_pieces(error: io::Error) -> Error {
    match error.downcast::<PieceError>() {
        Ok(fault @ PieceError::Forged) => Error::caused_by(ErrorKind::Tampered, fault),
        Ok(fault @ PieceError::Block(_, BlockError::Version(_))) => {
            Error::caused_by(ErrorKind::Unsupported, fault).with_hint("a newer strongroom may open it")
        }
        Ok(fault @ PieceError::Block(..)) => Error::caused_by(ErrorKind::Damaged, fault).with_hint(MENDED),
        Ok(fault) => Error::caused_by(ErrorKind::Damaged, fault),
        Err(error) => error.into(),
    }
}

const MENDED: &str =
    "where one of the two header files is whole, opening the container for writing makes the other anew";
/// So many faults are told in one line.
const TOLD: usize = 4;
