//! FreeOTFE, and LibreCrypt (once DoxBox) after it, as `spec/profiles/freeotfe.md` says; the code cites its rules (`FO-...`).
//!
//! Nothing in a volume is in the clear, not even what it was encrypted with: only a password tells, and only where the salt's
//! length and the iterations are known as well.

mod cipher;
mod details;
mod opened;
#[cfg(test)]
mod tests;
mod trial;

use std::{io, ops::Range, sync::Arc};

pub use self::{
    cipher::{Cipher, Mode},
    details::{Details, DetailsError, SectorIv},
};
use self::{opened::Opened, trial::Cdb};
use crate::{
    crypto::secret::{Credentials, VolumeKey},
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Change, Editor, Erasure, Finding, Format, Header, HeaderBackup, HeaderInfo, Probe, Unlocked,
    },
    storage::{Apart, Storage},
};

/// What the user knows of a volume that says nothing of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// The length of the salt in bits.
    pub salt_bits: u32,
    /// The iterations of the key derivation.
    pub iterations: u32,
    /// The header lies in a file of its own, and the volume has none before its data.
    pub without_cdb: bool,
    /// Where the volume begins in its file, in bytes.
    pub origin: u64,
}

impl Hints {
    /// What the programs take where they are told nothing (FO-KDF-04).
    pub const USUAL: Self = Self { salt_bits: 256, iterations: 2048, without_cdb: false, origin: 0 };
}

impl Default for Hints {
    fn default() -> Self {
        Self::USUAL
    }
}

/// Volumes of FreeOTFE and LibreCrypt.
#[derive(Debug, Clone, Copy)]
pub struct FreeOtfe;

impl Format for FreeOtfe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, _: &dyn Storage) -> Result<Probe> {
        Ok(Probe::Opaque) // FO-PROBE-01
    }

    fn read_header(&self, storage: &dyn Storage) -> Result<Box<dyn Header>> {
        let place = storage.header().unwrap_or(storage);
        let is_detached = storage.header().is_some();
        Ok(Box::new(Locked { cdb: read_cdb(place)?, container_len: Some(storage.size()?), is_detached }))
    }

    /// Called only where the user says that it is a volume of this kind: any file is as good as another.
    fn attach(
        &self,
        container: Arc<dyn Storage>,
        file: Arc<dyn Storage>,
    ) -> Result<Option<Arc<dyn Storage>>> {
        read_cdb(&*file)?;
        Ok(Some(Arc::new(Apart::new(container, file))))
    }

    /// A header alone, which the programs call a keyfile, has this size and no other (FO-CDB-04).
    fn read_header_file(&self, file: &dyn Storage) -> Result<Option<Box<dyn Header>>> {
        if file.header().is_some() || file.size()? != CDB_BYTES {
            return Ok(None);
        }
        Ok(Some(Box::new(Locked { cdb: read_cdb(file)?, container_len: None, is_detached: true })))
    }

    fn take_backup(&self, _: &dyn Storage) -> Result<Box<dyn HeaderBackup>> {
        Err(Error::new(ErrorKind::Unsupported, "strongroom does not back up FreeOTFE headers")
            .with_hint("LibreCrypt does it on Windows; a copy of the volume's first 512 bytes is the same"))
    }

    fn traces(&self, len: u64) -> Vec<Range<u64>> {
        std::iter::once(0..CDB_BYTES.min(len)).collect()
    }

    fn erasure(&self, storage: &dyn Storage) -> Result<Erasure> {
        let len = storage.header().unwrap_or(storage).size()?;
        Ok(Erasure { spare: Vec::new(), last: 0..CDB_BYTES.min(len), rest: Vec::new() })
    }

    fn check(&self, storage: &dyn Storage) -> Result<Vec<Finding>> {
        self.read_header(storage)?;
        Ok(vec![Finding::info("header", "encrypted: only the password shows whether it is whole")])
    }
}

/// The critical data block at the start of a volume, or of a file of its own (FO-CDB-01).
fn read_cdb(storage: &dyn Storage) -> Result<[u8; CDB_LEN]> {
    let mut cdb = [0; CDB_LEN];
    storage.read_exact_at(&mut cdb, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::new(
            ErrorKind::NotAContainer,
            "it is shorter than a header of FreeOTFE, which has 512 bytes",
        ),
        _ => Error::from(error).during("cannot read the header"),
    })?;
    Ok(cdb)
}

/// A header, still encrypted.
#[derive(Debug)]
struct Locked {
    cdb: [u8; CDB_LEN],
    /// `None` where the header is alone.
    container_len: Option<u64>,
    is_detached: bool,
}

impl Header for Locked {
    /// Before it is unlocked nothing is known.
    fn describe(&self) -> HeaderInfo {
        HeaderInfo::unknown(NAME, self.container_len.unwrap_or(CDB_BYTES))
    }

    fn is_opaque(&self) -> bool {
        true
    }

    fn describe_unlocked(&self, unlocked: &Unlocked) -> HeaderInfo {
        match Opened::of_key(&unlocked.volume_key) {
            Ok(opened) => opened.describe(self),
            Err(_) => self.describe(),
        }
    }

    fn unlock(&self, credentials: &Credentials, attempt: &Attempt<'_>) -> Result<Unlocked> {
        let Credentials::Password { password, keyfiles } = credentials else {
            return Err(Error::new(ErrorKind::Credentials, "only a password opens a FreeOTFE volume"));
        };
        if !keyfiles.is_empty() {
            let reason = "no keyfile joins the password of a FreeOTFE volume";
            return Err(Error::usage(reason).with_hint(
                "what FreeOTFE calls a keyfile is a separate header: give it with --header FILE",
            ));
        }
        // What is described of an opened header is keyslot 0.
        if attempt.keyslot.is_some_and(|slot| slot != 0) {
            return Err(Error::usage("FreeOTFE volumes have no keyslots"));
        }
        if attempt.freeotfe.without_cdb && !self.is_detached {
            return Err(Error::usage("without a header at its start, a volume opens by a header file")
                .with_hint("name it with --header FILE"));
        }
        let cdb = Cdb::new(&self.cdb, attempt.freeotfe)?;
        trial::run(&cdb, password.expose(), attempt)?.unlock(self)
    }

    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked> {
        Opened::of_key(&key)?.unlock(self)
    }

    fn check_unlocked(&self, _: &dyn Storage, unlocked: &Unlocked) -> Vec<Finding> {
        match Opened::of_key(&unlocked.volume_key) {
            Ok(opened) => opened.findings(self),
            Err(error) => vec![Finding::error("header", error.reason())],
        }
    }

    fn prepare_writing(&self, _: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>> {
        Opened::of_key(&unlocked.volume_key)?.check_writable(self)?;
        Ok(Vec::new())
    }

    fn check_change(&self, _: &Change<'_>) -> Result<()> {
        Err(no_editor())
    }

    fn editor(&self, _: &Unlocked) -> Result<Box<dyn Editor>> {
        Err(no_editor())
    }
}

fn no_editor() -> Error {
    Error::new(ErrorKind::Unsupported, "strongroom reads FreeOTFE headers but never writes them")
        .with_hint("LibreCrypt changes passwords and makes keyfiles on Windows")
}

/// The size of a critical data block in bytes.
const CDB_LEN: usize = 512;
/// The same as an offset.
const CDB_BYTES: u64 = 512;
/// The format's name.
pub const NAME: &str = "freeotfe";
