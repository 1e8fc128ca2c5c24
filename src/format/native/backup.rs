//! Taking a copy of the header, and putting it back (`spec/native-v1.md`, section 11).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, ops::Range};

use super::{
    copies::{Copies, Place},
    copy::{HeaderCopy, lay_out},
    front::{Front, clear_front},
    header::NativeHeader,
    header_file::{HeaderFile, check_same_data},
    layout::{ALIGNMENT, COPY_LEN, COPY_LEN_U64, DATA_OFFSET, RECORD_MAGIC},
    remains::DamagedOther,
    resize::with_data,
    slots::outdated,
    superblock::{CopyIndex, Geometry},
    update::{bring_up_a, make_durable, write_both},
};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    format::{Header, HeaderBackup, HeaderInfo, HeaderRestore, OLDER_PASSWORDS, Unlocked, hyphenated},
    storage::Storage,
    text::in_quotes,
};

/// The header of a container, to be kept elsewhere. Taking it needs no secret.
#[derive(Debug)]
pub struct Backup {
    file: HeaderFile,
    a: Option<HeaderCopy>,
    b: Option<HeaderCopy>,
    /// Why the header that was taken may not be the container's newest.
    doubt: Option<String>,
}

impl Backup {
    /// Takes both copies, byte for byte; one that is not whole is left out (NAT-HF-07).
    ///
    /// # Errors
    /// `Busy` during a re-encryption. `Damaged` where the copies do not agree on whose header they are and where the data lies: without the key nobody knows
    /// which of them is right. `Unsupported` where one is of another time. What reading the header gives.
    pub fn take(container: &dyn Storage) -> Result<Self> {
        let header = NativeHeader::read(container)?;
        let doubt = header.doubt_in_use();
        let copies = header.copies;
        if let Some(error) = copies.unsupported() {
            return Err(error.clone().into());
        }
        // NAT-HF-07: only the header on the medium goes with the records of how far the work is.
        if copies.whole().any(|copy| copy.superblock.reencryption.is_some()) {
            return Err(Error::new(
                ErrorKind::Busy,
                "it is being re-encrypted, and only its own header fits its data until that is done",
            )
            .with_hint("make the backup after the re-encryption"));
        }
        let file = HeaderFile::of(copies.current());
        if copies.whole().any(|copy| HeaderFile::of(copy) != file) {
            let reason =
                "the header copies do not belong together, and only the password tells which is right";
            return Err(Error::new(ErrorKind::Damaged, reason)
                .with_hint("strongroom header repair asks for it; make the backup after that"));
        }
        let b = copies.backup_at(file.geometry.backup_offset).cloned();
        Ok(Self { file, a: copies.a.found.ok(), b, doubt })
    }

    /// The copies that were left out.
    pub fn left_out(&self) -> Vec<CopyIndex> {
        let missing = |copy: &Option<HeaderCopy>, index| copy.is_none().then_some(index);
        missing(&self.a, CopyIndex::A).into_iter().chain(missing(&self.b, CopyIndex::B)).collect()
    }

    /// Whether both copies are there and say the same.
    pub fn is_settled(&self) -> bool {
        self.a.as_ref().zip(self.b.as_ref()).is_some_and(|(a, b)| a.says_the_same_as(b))
    }

    /// The container's identity.
    pub fn uuid(&self) -> &[u8; 16] {
        &self.file.uuid
    }

    /// Writes the header file, syncs it and reads it back.
    pub fn write(&self, file: &dyn Storage) -> Result<()> {
        self.file.write(file, [self.a.as_ref(), self.b.as_ref()])
    }
}

/// A header about to be put in the place of what a container has.
#[derive(Debug)]
pub struct Restore {
    source: NativeHeader,
    present: Option<NativeHeader>,
    /// What stands where its copies will be.
    places: [Place; 2],
    /// Whether what stands between the first of them and the data has to go.
    has_litter: bool,
    /// Damaged copies there that may be newer.
    damaged: Vec<DamagedOther>,
    /// Why the header that is there speaks against it, where only the owner can say otherwise.
    mismatch: Option<Error>,
    /// Where the container lies now, as far as that shows without the key, if it was given another size since the header was made.
    now: Option<Now>,
    /// Why copy B may come to stand where the container has data.
    may_have_grown: Option<String>,
}

/// The places and the generation of a container whose size was changed (NAT-SIZE-06).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Now {
    geometry: Geometry,
    generation: u32,
}

impl Now {
    /// What the header that is there says, or else the records in the work areas: they have been written since.
    fn of(present: Option<&NativeHeader>, source: &NativeHeader, copy: &HeaderCopy) -> Option<Self> {
        let base = &copy.superblock;
        let is_later = |generation: u32| {
            base.reencryption.is_none() && generation > base.generation && generation.is_multiple_of(2)
        };
        let copies = present.into_iter().flat_map(|header| header.copies.whole());
        let said = copies.map(|copy| &copy.superblock).filter(|there| {
            there.uuid == base.uuid && is_later(there.generation) && there.geometry != base.geometry
        });
        let said = said.map(|there| Self { geometry: there.geometry, generation: there.generation });
        let recorded = source.claims(base).filter(|(generation, _)| is_later(*generation));
        let recorded = recorded.filter_map(|(generation, data_len)| {
            let geometry = with_data(&base.geometry, data_len).filter(|there| *there != base.geometry)?;
            Some(Self { geometry, generation })
        });
        said.chain(recorded).max_by_key(|now| now.generation)
    }
}

/// A whole header copy of another container, which restoring would overwrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignCopy {
    /// Which copy.
    pub index: CopyIndex,
    /// That container's identity.
    pub uuid: [u8; 16],
    /// Its label.
    pub label: Option<String>,
}

impl ForeignCopy {
    pub(super) fn new(index: CopyIndex, copy: &HeaderCopy) -> Self {
        let superblock = &copy.superblock;
        Self { index, uuid: superblock.uuid, label: superblock.label.text().map(str::to_owned) }
    }
}

impl Restore {
    /// Compares a header file with the container that it is to be restored to (NAT-HF-08).
    ///
    /// # Errors
    /// `Usage` where it belongs to another container or to another state of its data, `Damaged` where the container is too
    /// short for it, `Unsupported` where the container bears a header of another time.
    pub fn from_file(container: &dyn Storage, file: &dyn Storage) -> Result<Self> {
        let source = NativeHeader::of_header_file(&HeaderFile::read(file)?, file)?;
        let mut restore = Self::from_header(container, source)?;
        let is_midway = |copy: &HeaderCopy| copy.superblock.reencryption.is_some();
        let is_resized = restore.now.is_some();
        let is_present_midway = restore.present_copies().any(is_midway);
        if is_midway(restore.source.copy_in_use()) {
            let reason = "it is from the middle of a re-encryption, and fits the data of that moment only";
            let midway = || Error::new(ErrorKind::Usage, reason).with_hint(MIDWAY);
            restore.mismatch.get_or_insert_with(midway);
        } else if is_present_midway {
            let reason = "a re-encryption is under way, and only the header on the medium fits the data";
            return Err(Error::new(ErrorKind::Usage, reason)
                .with_hint("strongroom header repair, or finish it first"));
        }
        if let Some(present) = restore.present.as_ref().filter(|_| !is_resized) {
            let wanted = restore.source.copy_in_use();
            let own = present.copies.whole().find(|copy| copy.is_of_same_container(wanted));
            let own = own.unwrap_or(present.copy_in_use());
            let mismatch = check_same_data(own, wanted).err();
            // Nothing but a header file of the same time can be of the same uuid and generation, and say other things.
            let is_other = !own.is_of_same_container(wanted)
                || own.superblock.generation != wanted.superblock.generation;
            if is_other && let Some(error) = mismatch {
                restore.mismatch = Some(Error::new(error.kind(), error.reason()).with_hint(BY_FORCE));
            } else if let Some(error) = mismatch {
                return Err(Error::new(error.kind(), error.reason()).with_hint("a header file fits only the data it was made with: strongroom header backup makes a current one"));
            }
        }
        Ok(restore)
    }

    /// The same for a header copy that was found in the container itself, whose present header may be another's.
    ///
    /// # Errors
    /// As [`Self::from_file`], but not for a present header of another container.
    pub fn from_copy(container: &dyn Storage, copy: &HeaderCopy) -> Result<Self> {
        Self::from_header(container, NativeHeader::of_copy(copy.clone(), container)?)
    }

    fn from_header(container: &dyn Storage, source: NativeHeader) -> Result<Self> {
        if HeaderFile::is_one(container)? {
            return Err(Error::new(ErrorKind::Usage, "it is a header file, not a container"));
        }
        let present = match NativeHeader::read(container) {
            Ok(header) => Some(header),
            Err(error) if matches!(error.kind(), ErrorKind::NotAContainer | ErrorKind::Damaged) => None,
            Err(error) => return Err(error),
        };
        if let Some(error) = present.as_ref().and_then(|header| header.copies.unsupported()) {
            return Err(error.clone().into());
        }
        let source = source.beside(container)?;
        let copy = source.copy_in_use();
        let now = Now::of(present.as_ref(), &source, copy);
        let geometry = now.map_or(copy.superblock.geometry, |now| now.geometry);
        let (expected, actual) = (geometry.container_len, container.size()?);
        if actual < expected {
            let reason = format!("the container is cut off: {actual} of {expected} bytes are there");
            return Err(Error::new(ErrorKind::Damaged, reason).with_hint(
                "make the container as long as it was, whatever is in the missing part, and try again",
            ));
        }
        // NAT-REENC-17; of two states of the work areas only the key tells which one the header goes with.
        let outdated = source.refuse_outdated(&copy.superblock).err().filter(|_| now.is_none());
        if let Some(error) = outdated.as_ref().filter(|_| copy.superblock.reencryption.is_none()) {
            return Err(Error::new(error.kind(), error.reason()).with_hint(error.hint().unwrap_or_default()));
        }
        if let Some(present) = &present {
            present.check_own()?; // NAT-HF-12
        }
        let indices = [CopyIndex::A, CopyIndex::B];
        let places = indices.map(|index| Place::read(container, index, index.offset_in(&geometry)));
        let damaged = indices.into_iter().zip(&places);
        let damaged = damaged.filter_map(|(index, place)| place.damaged_other(copy, index)).collect();
        let has_litter =
            container.windows().is_empty() && !Front::read(container, copy).litter(copy).is_empty();
        let mismatch = outdated.map(|error| Error::new(error.kind(), error.reason()).with_hint(MIDWAY));
        let [_, b] = &places;
        // NAT-GEO-06
        let surplus = actual.saturating_sub(expected);
        let is_doubtful = surplus >= ALIGNMENT && container.windows().is_empty() && !b.shows_a_header(copy);
        let may_have_grown = is_doubtful.then(|| no_trace_of_b(&geometry, surplus));
        Ok(Self { source, present, places, has_litter, damaged, mismatch, now, may_have_grown })
    }

    /// The header to be restored as the container lies now, its sequence number above `newest` (NAT-SIZE-06).
    ///
    /// # Errors
    /// `Damaged` where nothing that is there is authentic under `key`, and says what the container's size is.
    fn brought_up(&self, source: &HeaderCopy, newest: u64, key: &VolumeKey) -> Result<HeaderCopy> {
        let Some(now) = self.now else { return source.after(newest, |_| {}, key) };
        let Now { geometry, generation } = now;
        let says_so = |copy: &HeaderCopy| {
            let there = &copy.superblock;
            (there.geometry, there.generation) == (geometry, generation) && copy.check_mac(key).is_ok()
        };
        let is_known = self.present_copies().any(says_so)
            || self.source.resized_since(&source.superblock, key) == Some((generation, geometry));
        if !is_known {
            return Err(outdated(source.superblock.generation, generation));
        }
        source.after(newest, |raw| lay_out(raw, &geometry, generation), key)
    }

    /// Where its copies will be.
    fn geometry(&self) -> &Geometry {
        self.now.as_ref().map_or(&self.source.copy_in_use().superblock.geometry, |now| &now.geometry)
    }

    /// The header to be restored, to be described and unlocked.
    pub fn source(&self) -> &NativeHeader {
        &self.source
    }

    /// What the container's present header says of itself; `None` where none is whole.
    pub fn present(&self) -> Option<HeaderInfo> {
        self.present.as_ref().map(Header::describe)
    }

    /// Header copies of other containers that would be overwritten.
    pub fn foreign(&self) -> Vec<ForeignCopy> {
        let source = self.source.copy_in_use();
        let foreign = |index| {
            // Also where no reader would look for it (NAT-HF-08).
            let [a, b] = &self.places;
            let place = if index == CopyIndex::A { a } else { b };
            let copy = place.found.as_ref().ok().filter(|copy| !copy.is_of_same_container(source))?;
            Some(ForeignCopy::new(index, copy))
        };
        [CopyIndex::A, CopyIndex::B].into_iter().filter_map(foreign).collect()
    }

    /// Whether every present copy of this container is authentic under the volume key of the header to be restored; `None`
    /// where there is none. One that is not was forged, or has another volume key, and restoring may lose the data.
    pub fn is_present_authentic(&self, unlocked: &Unlocked) -> Option<bool> {
        let source = self.source.copy_in_use();
        let mut own = self.present_copies().filter(|copy| copy.is_of_same_container(source));
        let first = own.next()?;
        Some(std::iter::once(first).chain(own).all(|copy| copy.check_mac(&unlocked.volume_key).is_ok()))
    }

    /// The newest header of this container that is there and is authentic.
    fn newest_present(&self, source: &HeaderCopy, key: &VolumeKey) -> Option<&HeaderCopy> {
        let own = self.present_copies().filter(|copy| copy.is_of_same_container(source));
        own.filter(|copy| copy.check_mac(key).is_ok()).max_by_key(|copy| copy.superblock.sequence)
    }

    /// The keyslots of the header to be restored that the one which is there does not have, by their salts: what opened them was
    /// changed or removed since, where that one is newer.
    fn brought_back(&self, unlocked: &Unlocked) -> Vec<u32> {
        self.compared(unlocked).map(|(source, present)| missing_in(present, source)).unwrap_or_default()
    }

    /// Whether other passwords open the one than the other.
    fn changes_passwords(&self, unlocked: &Unlocked) -> bool {
        self.compared(unlocked).is_some_and(|(source, present)| {
            !missing_in(present, source).is_empty() || !missing_in(source, present).is_empty()
        })
    }

    /// The header to be restored, and the newest that is there.
    fn compared(&self, unlocked: &Unlocked) -> Option<(&HeaderCopy, &HeaderCopy)> {
        let source = self.source.authentic(&unlocked.volume_key).ok()?;
        Some((source, self.newest_present(source, &unlocked.volume_key)?))
    }

    /// What is lost where the header that is there is newer and lacks keyslots of the one to be restored.
    fn brings_back(&self, unlocked: &Unlocked) -> Option<String> {
        let (_, present) =
            self.compared(unlocked).filter(|(source, present)| present.is_update_of(source))?;
        let slots = self.brought_back(unlocked);
        // Where no keyslot is left at all, a backup is the way out.
        (!slots.is_empty() && !present.keyslots.is_empty()).then(|| removed_since(&slots))
    }

    /// What the records in the work areas say against the header to be restored.
    fn records_against(&self, unlocked: &Unlocked) -> Option<String> {
        let source = self.source.authentic(&unlocked.volume_key).ok()?;
        self.source.records_against(source, &unlocked.volume_key)
    }

    /// Writes both copies under a sequence number above every authentic one that is there (NAT-HF-08).
    ///
    /// # Errors
    /// What writing gave; the error says whether the restored header is in force.
    pub fn write(&self, container: &dyn Storage, unlocked: &Unlocked) -> Result<()> {
        let key = &unlocked.volume_key;
        let source = self.source.authentic(key)?;
        self.source.check_work(source, key)?;
        let newer = self.source.newer_slots(source);
        let is_authentic =
            |copy: &&HeaderCopy| copy.is_of_same_container(source) && copy.check_mac(key).is_ok();
        let newest = self.present_copies().filter(is_authentic).map(|copy| copy.superblock.sequence).max();
        let new = self.brought_up(source, newest.unwrap_or(0), key)?;

        clear_front(container, source)?;
        // NAT-UPD-03: the newest authentic copy stays until the other place holds the new one. Without any, NAT-UPD-01.
        let authentic = |index| self.present_copy(index).filter(is_authentic);
        let kept = match (authentic(CopyIndex::A), authentic(CopyIndex::B)) {
            (Some(a), Some(b)) if b.is_update_of(a) => Some(b),
            (a, b) => a.or(b),
        };
        // What a scan found in its place may be the last one, and no header to a reader.
        let kept = kept.or(Some(source).filter(|copy| copy.stands_in(container)));
        if let (Some(present), Some(kept)) = (&self.present, kept) {
            make_durable(container, &present.copies, kept)?;
        }
        if let Some(kept) = kept {
            bring_up_a(container, self.present.as_ref().map(|present| &present.copies), kept, key)?;
        }
        write_both(container, &new, key)?;
        // Records that would make it an old header: its own say how far the data are.
        for &slot in &newer {
            container.write_all_at(&[0; RECORD_MAGIC.len()], slot)?;
        }
        container.sync_data()?;
        if Copies::read(container)?.current().says_the_same_as(&new) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "the header that was written is not found again"))
    }

    fn present_copies(&self) -> impl Iterator<Item = &HeaderCopy> {
        self.present.iter().flat_map(|header| header.copies.whole())
    }

    /// The whole copy that stands where one of the new ones will.
    fn present_copy(&self, index: CopyIndex) -> Option<&HeaderCopy> {
        let copies = &self.present.as_ref()?.copies;
        match index {
            CopyIndex::A => copies.a.found.as_ref().ok(),
            CopyIndex::B => copies.backup_at(self.geometry().backup_offset),
        }
    }
}

impl HeaderBackup for Backup {
    fn uuid(&self) -> Option<String> {
        Some(hyphenated(self.uuid()))
    }

    fn left_out(&self) -> Vec<String> {
        self.left_out().iter().map(ToString::to_string).collect()
    }

    fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    fn closed(&self) -> Option<&str> {
        let mut copies = self.a.iter().chain(&self.b);
        copies
            .all(|copy| copy.keyslots.is_empty())
            .then_some("no keyslot is left: no password or keyfile can open it")
    }

    fn is_settled(&self) -> bool {
        self.is_settled()
    }

    fn write(&self, file: &dyn Storage) -> Result<()> {
        self.write(file)?;
        // As restoring reads it.
        NativeHeader::of_header_file(&HeaderFile::read(file)?, file).map(drop).map_err(|error| {
            Error::new(error.kind(), format!("the backup could not be restored: {}", error.reason()))
        })
    }
}

impl HeaderRestore for Restore {
    fn source(&self) -> &dyn Header {
        self.source()
    }

    fn present(&self) -> Option<HeaderInfo> {
        self.present()
    }

    fn takes_secret(&self) -> bool {
        true
    }

    fn is_recognised(&self) -> bool {
        let source = self.source.copy_in_use();
        let shows = |place: &Place| match &place.found {
            Ok(copy) => copy.is_of_same_container(source),
            Err(_) => place.shows_uuid_of(source),
        };
        self.places.iter().any(shows) || self.source.has_records_of(source)
    }

    fn overwritten(&self) -> usize {
        COPY_LEN
    }

    fn loses(&self, unlocked: Option<&Unlocked>) -> Option<String> {
        if let Some(foreign) = self.foreign().first() {
            return Some(foreign.to_string());
        }
        if let Some(mismatch) = &self.mismatch {
            return Some(mismatch.reason().to_owned());
        }
        if let Some(said) = &self.may_have_grown {
            return Some(said.clone());
        }
        // Where no copy is whole, a backup is the way out, whatever was changed since it was made.
        if let Some(damaged) = self.damaged.first().filter(|_| self.present.is_some()) {
            return Some(newer_than_restored(damaged));
        }
        let unlocked = unlocked?;
        if let Some(said) = self.records_against(unlocked) {
            return Some(said);
        }
        if self.is_present_authentic(unlocked)? {
            self.brings_back(unlocked)
        } else {
            Some(OTHER_KEY.to_owned())
        }
    }

    fn refusal(&self) -> Option<&Error> {
        self.mismatch.as_ref()
    }

    fn places(&self) -> Vec<Range<u64>> {
        let place = |offset: u64| offset..offset.saturating_add(COPY_LEN_U64);
        let geometry = self.geometry();
        let front = COPY_LEN_U64..geometry.data_offset.min(DATA_OFFSET);
        let front = self.has_litter.then_some(front);
        [place(0), place(geometry.backup_offset)].into_iter().chain(front).collect()
    }

    fn warnings(&self, unlocked: Option<&Unlocked>) -> Vec<String> {
        let mut warnings: Vec<String> = self.foreign().iter().map(ToString::to_string).collect();
        warnings.extend(self.mismatch.iter().map(|mismatch| mismatch.reason().to_owned()));
        warnings.extend(self.may_have_grown.clone());
        warnings.extend(self.damaged.iter().map(newer_than_restored));
        warnings.extend(match unlocked.and_then(|unlocked| self.is_present_authentic(unlocked)) {
            Some(true) => unlocked
                .is_some_and(|unlocked| self.changes_passwords(unlocked))
                .then(|| OLDER_PASSWORDS.to_owned()),
            Some(false) => Some(OTHER_KEY.to_owned()),
            None => None,
        });
        warnings.extend(unlocked.and_then(|unlocked| self.records_against(unlocked)));
        warnings
    }

    fn check(&self, unlocked: Option<&Unlocked>) -> Result<()> {
        let Some(unlocked) = unlocked else { return Ok(()) };
        let key = &unlocked.volume_key;
        let source = self.source.authentic(key)?;
        self.source.check_work(source, key)?;
        self.brought_up(source, 0, key).map(drop)
    }

    fn write(&self, container: &dyn Storage, unlocked: Option<&Unlocked>) -> Result<()> {
        let unlocked = unlocked.ok_or_else(|| {
            Error::new(ErrorKind::Credentials, "the header to be restored was not unlocked")
        })?;
        self.write(container, unlocked)
    }
}

/// NAT-GEO-06: copy B would be written where the container may have data, if it has grown.
fn no_trace_of_b(geometry: &Geometry, surplus: u64) -> String {
    format!(
        "nothing at offset {} shows that header copy B was there, and {surplus} bytes follow the end of the container that this header \
         describes: if it has grown since, copy B will overwrite data",
        geometry.backup_offset
    )
}

/// NAT-UPD-08: what is said of a damaged copy that the restored header takes the place of.
fn newer_than_restored(damaged: &DamagedOther) -> String {
    let DamagedOther { index, sequence, whole, .. } = damaged;
    if let Some(containers) = damaged.containers() {
        return format!(
            "header copy {index} that is there is damaged, and was of another container: {containers}; what is left of it goes"
        );
    }
    let newer = if damaged.is_newer() { "is newer" } else { "may be newer" };
    let sequence = sequence.map(|sequence| format!("sequence {sequence}, ")).unwrap_or_default();
    format!(
        "header copy {index} that is there is damaged, and {newer} than the header to be restored ({sequence}that one has \
         {whole}): password changes in it are lost, and removed passwords work again"
    )
}

/// The keyslots of `copy` that `other` does not have, by their salts.
fn missing_in(other: &HeaderCopy, copy: &HeaderCopy) -> Vec<u32> {
    let salt = |copy: &HeaderCopy, index: u32| copy.raw_keyslot(index).map(|slot| slot.salt);
    let kept: Vec<_> = other.keyslots.iter().map(|slot| salt(other, slot.index)).collect();
    let slots = copy.keyslots.iter().map(|slot| slot.index);
    slots.filter(|&index| !kept.contains(&salt(copy, index))).collect()
}

/// What is said of the keyslots that a newer header does not have any more.
fn removed_since(slots: &[u32]) -> String {
    let numbers = slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let keyslots = if slots.len() == 1 { "keyslot" } else { "keyslots" };
    format!(
        "the header that is there is newer, and no longer has {keyslots} {numbers} of this one: what was changed or removed since would \
         work again"
    )
}

const BY_FORCE: &str = "strongroom info on both says which is which; if the backup is right: header restore --force, which keeps what was there in a file";
const MIDWAY: &str = "if it is the newest header of the container: header restore --force puts it back where the re-encryption's records go with it";
const OTHER_KEY: &str = "the header that is there is not under the same key: somebody changed it, or the data is lost with this one";

impl fmt::Display for ForeignCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label =
            self.label.as_ref().map(|label| format!(", label {}", in_quotes(label))).unwrap_or_default();
        let uuid = hyphenated(&self.uuid);
        write!(
            f,
            "header copy {} belongs to another container ({uuid}{label}), which opens no more without it",
            self.index
        )
    }
}
