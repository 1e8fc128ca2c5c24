//! What no header is written over without being asked about, or forced to.

use std::{ops::Range, path::Path};

use strongroom::{
    error::{Error, ErrorKind, Result},
    format::{
        Format, HeaderRestore,
        luks1::Luks1,
        luks2::Luks2,
        native::Native,
        signature::{self, Owner},
    },
    storage::Storage,
    volume::{Container, Stranger, partition_of_container, recognise_data, stranger_within, trace_at_start},
};

use crate::cli::args::PlaceOptions;

/// How far somebody agreed beforehand, who is not asked then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consent {
    /// To what is plainly meant (`--yes`).
    pub(super) is_agreed: bool,
    /// Also over what is another's (`--force`).
    pub(super) is_forced: bool,
}

impl Consent {
    /// Whether nobody is asked, and nobody said that another's may go.
    pub(super) const fn is_short(self) -> bool {
        self.is_agreed && !self.is_forced
    }
}

/// What is about to be written.
#[derive(Debug)]
pub(super) struct Overwriting<'a> {
    pub(super) path: &'a Path,
    pub(super) container: &'a Container,
    /// What is left of a header of this format is no data.
    pub(super) format: &'a str,
    pub(super) ranges: &'a [Range<u64>],
    /// Whether something there shows whose the header is.
    pub(super) is_known: bool,
}

impl Overwriting<'_> {
    /// Refuses to overwrite a file system, a partition table, a header of another format or what else is known, at the start or where
    /// it begins farther on.
    ///
    /// # Errors
    /// `Exists`; what reading gave.
    pub(super) fn check(&self, consent: Consent) -> Result<()> {
        if !consent.is_short() {
            return Ok(());
        }
        let known = known_data(&*self.container.storage(), self.format)?;
        let known = known.map(|lost| format!("this is {lost}"));
        let (what, option) = match (known, strangers(self.container, self.ranges, self.is_known)?) {
            (None, None) => return Ok(()),
            (Some(known), None) => (known, None),
            (None, Some(Stranger { what, option })) => (what, option),
            (Some(known), Some(Stranger { what, option })) => (format!("{known} ({what})"), option),
        };
        let error = needs_force(self.path, format!("{what}, which would be overwritten"));
        // What knows whose the header is knows its place.
        let option = option.filter(|_| !self.is_known || self.format == "veracrypt");
        Err(match option {
            Some(option) => error.with_first_hint(format!("if the header belongs there: {option}")),
            None => error,
        })
    }
}

/// Refuses a header for all of a medium where a partition of it bears the header of the same container. Force changes nothing: whoever
/// means it names the place.
///
/// # Errors
/// `Usage`; what reading gave.
pub(super) fn refuse_elsewhere(
    path: &Path,
    container: &Container,
    place: PlaceOptions,
    uuid: Option<&str>,
) -> Result<()> {
    let Some(uuid) = uuid.filter(|_| !place.is_any() && container.header_path().is_none()) else {
        return Ok(());
    };
    let Some(number) = partition_of_container(&container.storage(), uuid)? else { return Ok(()) };
    let reason = format!("partition {number} holds the container that this header belongs to ({uuid})");
    Err(Error::new(ErrorKind::Usage, reason)
        .during(format!("cannot replace the header of {}", path.display()))
        .with_hint(format!(
            "--partition {number} restores it there; --offset 0 means the start of the disk nevertheless"
        )))
}

/// Refuses to overwrite what could be random bytes without being asked about or forced to, where no header is left.
pub(super) fn refuse_noise(
    path: &Path,
    container: &Container,
    restore: &dyn HeaderRestore,
    consent: Consent,
) -> Result<()> {
    if !consent.is_short() || restore.present().is_some() || !container.shows_nothing()? {
        return Ok(());
    }
    let reason = "it may be a VeraCrypt or TrueCrypt container, which shows no header and would be lost";
    Err(needs_force(path, reason))
}

/// What of another begins in the bytes that will be written. A header file holds nothing else.
pub(super) fn strangers(
    container: &Container,
    ranges: &[Range<u64>],
    is_known: bool,
) -> Result<Option<Stranger>> {
    match container.header_path() {
        Some(_) => Ok(None),
        None => stranger_within(&container.storage(), ranges, is_known),
    }
}

/// What is known of the data where a header of `format` belongs, and is none of that format.
pub(super) fn known_data(storage: &dyn Storage, format: &str) -> Result<Option<&'static str>> {
    // With a detached header it is the header file that is written to.
    let place = storage.header().unwrap_or(storage);
    let head = signature::read_head(place)?;
    let is_own = match signature::recognise(&head).map(|found| found.owner) {
        Some(Owner::Native) => format == Native.name(),
        Some(Owner::Luks) => [Luks1.name(), Luks2.name()].contains(&format),
        _ => false,
    };
    if is_own {
        return Ok(None);
    }
    Ok(recognise_data(place)?.or_else(|| trace_at_start(place)))
}

/// Where `--yes` alone does not do, for the reason given.
pub(super) fn needs_force(path: &Path, reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Exists, reason)
        .during(format!("cannot replace the header of {}", path.display()))
        .with_hint("--force with --yes overwrites it; without both you are asked")
}
