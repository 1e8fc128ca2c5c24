//! What `header repair --scan` says of each header that it finds: what opens its container, or gets at it.

use std::sync::Arc;

use strongroom::{
    error::Result,
    format::{
        CopyState, Format, Header, HeaderInfo,
        luks2::Luks2,
        native::{FoundCopy, NativeHeader, WayIn, hyphenated},
        scan::{Findings, FoundLuks},
    },
    storage::{Section, Storage},
    text::path::command_word,
    volume::{Container, by_signature, partitions_of, range_from, scattered_image},
};

use super::unmarked::command;
use crate::cli::args::PlaceOptions;

/// What was looked at.
#[derive(Debug)]
pub(super) struct Here<'a> {
    container: &'a Container,
    place: PlaceOptions,
    storage: &'a Arc<dyn Storage>,
    /// What is said of everything in a disk image that must be converted first.
    within_image: Option<String>,
    /// The LUKS containers that are here with whole headers: where each begins, and its data.
    luks: Vec<(u64, u64)>,
    /// The numbers of the partitions, and where they begin.
    partitions: Vec<(u32, u64)>,
}

impl<'a> Here<'a> {
    /// `place` says where in its file it begins.
    ///
    /// # Errors
    /// What reading gave.
    pub(super) fn new(
        container: &'a Container,
        place: PlaceOptions,
        storage: &'a Arc<dyn Storage>,
        found: &Findings,
    ) -> Result<Self> {
        let image = scattered_image(&**storage, container.path())?;
        let within_image = image
            .map(|(image, way)| format!("it is within {image}, in an order that only that knows: {way}"));
        let is_whole =
            |luks: &&FoundLuks| !luks.lacks_magic && luks.info.data_offset > 0 && luks.obstacle.is_none();
        let data = |luks: &FoundLuks| (luks.start, luks.start.saturating_add(luks.info.data_offset));
        let luks = found.luks.found.iter().filter(is_whole).map(data).collect();
        let partitions = partitions_of(storage)?
            .iter()
            .map(|found| (found.partition.number, found.partition.start))
            .collect();
        Ok(Self { container, place, storage, within_image, luks, partitions })
    }

    /// The command that mounts what starts at `start`.
    fn command(&self, start: u64) -> String {
        let offset = || self.container.section().map_or(0, |section| section.start).saturating_add(start);
        let place =
            if start == 0 { self.place } else { PlaceOptions { partition: None, offset: Some(offset()) } };
        command(self.container.path(), place)
    }

    /// What is opened by that command.
    fn section(&self, start: u64) -> Result<Section> {
        Ok(Section::new(Arc::clone(self.storage), range_from(&**self.storage, start)?)?)
    }

    /// What takes it out, where nothing opens it in its place.
    fn cut_out(&self, start: u64) -> String {
        let base = self.container.section().map_or(0, |section| section.start);
        let first = base.saturating_add(start).saturating_add(1);
        let path = command_word(self.container.path());
        format!("its container starts at byte {start}: tail -c +{first} {path} > NEW cuts it out")
    }

    /// The number of the partition that starts there.
    fn partition_at(&self, start: u64) -> Option<u32> {
        self.partitions.iter().find(|(_, begin)| *begin == start).map(|(number, _)| *number)
    }

    fn rebuild(&self, place: PlaceOptions) -> String {
        let path = command_word(self.container.path());
        format!("strongroom header repair --scan {path}{} rebuilds it", place.option())
    }

    /// The command that opens what starts at `start`, for reading only where writing to it may damage another container.
    fn opens(&self, start: u64) -> String {
        let command = self.command(start);
        match self.surrounding(start) {
            None => format!("{command} opens it"),
            Some(begin) => format!(
                "{command} --read-only opens it; it may lie in the data of the LUKS container at byte {begin}, which writing to it would \
                 damage"
            ),
        }
    }

    /// The command that opens what was found, or gets at it.
    pub(super) fn luks_advice(&self, found: &FoundLuks) -> Result<String> {
        let start = found.start;
        if let Some(advice) = &self.within_image {
            return Ok(advice.clone());
        }
        if let (Some(stranger), Some(uuid)) = (&found.stranger, &found.info.uuid) {
            let scan = format!("strongroom header repair --scan {}", command_word(self.container.path()));
            let way = if start == 0 { format!("{scan}: {}", choice(found)) } else { self.cut_out(start) };
            return Ok(format!(
                "one of its two header copies is of container {uuid}, the other of container {stranger}; {way}"
            ));
        }
        if found.info.data_offset == 0 {
            return Ok(format!(
                "a detached header: strongroom mount CONTAINER MOUNTPOINT --header {} opens the container that it belongs to",
                command_word(self.container.path())
            ));
        }
        if found.info.data_offset.saturating_add(start) >= self.storage.size()? {
            return Ok(
                "a header without data: its container lies elsewhere, or its end is missing here".to_owned()
            );
        }
        let (section, command) = (self.section(start)?, self.command(start));
        let own = by_signature(&section)?.filter(|format| format.name() == found.info.format);
        let own = own.map(|format| format.read_header(&section));
        // A header that is refused opens nothing.
        let opens = matches!(own, Some(Ok(_))) && !found.lacks_magic;
        let opens_as_luks2 = found.info.format == Luks2.name() && Luks2.read_header(&section).is_ok();
        if let (Some(obstacle), true) = (&found.obstacle, opens || opens_as_luks2) {
            return Ok(format!("its container starts at byte {start}, but {obstacle}"));
        }
        if start > 0 {
            return Ok(match (opens, opens_as_luks2) {
                (true, _) => format!("its container starts at byte {start}: {}", self.opens(start)),
                (false, true) => {
                    format!(
                        "its container starts at byte {start}: {command} --format luks2 --read-only opens it"
                    )
                }
                (false, false) => match self.partition_at(start).filter(|_| found.lacks_magic) {
                    Some(number) => self.rebuild(PlaceOptions { partition: Some(number), offset: None }),
                    None => self.cut_out(start),
                },
            });
        }
        let rebuild = self.rebuild(self.place);
        let is_whole = is_whole(&found.info);
        if !opens && !found.lacks_magic && is_whole {
            // Nothing of it is to be rebuilt.
            let refusal = own.and_then(std::result::Result::err);
            let refusal =
                refusal.map_or_else(|| "it does not open".to_owned(), |error| error.reason_with_way());
            return Ok(format!("it is in the right place, but {refusal}"));
        }
        Ok(if opens && is_whole {
            format!("it is in the right place: {command} opens it")
        } else if opens {
            format!("it is in the right place, but one copy is not whole: {command} opens it; {rebuild}")
        } else if opens_as_luks2 {
            format!("{command} --format luks2 --read-only opens it as it is; {rebuild}")
        } else {
            rebuild
        })
    }

    /// The same of a copy of a native header.
    pub(super) fn native_advice(&self, found: &FoundCopy) -> Result<String> {
        let (size, start, len) =
            (self.storage.size()?, found.container_start(), found.copy.superblock.geometry.container_len);
        if let Some(advice) = &self.within_image {
            return Ok(advice.clone());
        }
        if found.is_in_place(size) {
            return Ok(match NativeHeader::read(&**self.storage) {
                Ok(header) => self.advice_in_place(found, &header),
                Err(_) => MATCHES.to_owned(),
            });
        }
        let short = start.saturating_add(i128::from(len)).saturating_sub(i128::from(size));
        Ok(match u64::try_from(start) {
            Err(_) => format!("the first {} bytes of its container are missing here", start.unsigned_abs()),
            Ok(0) => format!(
                "it is in the right place, but {} bytes at the end are missing",
                len.saturating_sub(size)
            ),
            Ok(start) if short > 0 => {
                format!("its container starts at byte {start}, and its last {short} bytes are missing here")
            }
            Ok(start) => match NativeHeader::read(&self.section(start)?) {
                Ok(header) => {
                    format!("its container starts at byte {start}{}", self.way_in(&header, start))
                }
                Err(_) => format!(
                    "its container starts at byte {start}: strongroom header repair --scan {} --offset {} rebuilds its header there, after \
                     asking",
                    command_word(self.container.path()),
                    found.offset
                ),
            },
        })
    }

    /// What is said of a copy beside a header that can be read.
    fn advice_in_place(&self, found: &FoundCopy, header: &NativeHeader) -> String {
        let (info, uuid) = (header.describe(), hyphenated(&found.copy.superblock.uuid));
        let is_whole = is_whole(&info);
        let (path, place) = (command_word(self.container.path()), self.place.option());
        let repair = format!("strongroom header repair {path}{place}");
        if let Some(current) = info.uuid.filter(|current| *current != uuid) {
            return format!(
                "it is in the right place, but the header that counts here is of container {current}; {repair} tells more, and asks"
            );
        }
        let other =
            if is_whole { "" } else { &format!("; the other copy is not as good: {repair} rebuilds it") };
        format!("{MATCHES}{}{other}", self.way_in(header, 0))
    }

    /// Where the LUKS container begins in whose data something starts at `start`. It is what counts, as a rule, and the other one is what
    /// was there before.
    fn surrounding(&self, start: u64) -> Option<u64> {
        let is_apart = |begin| self.partitions.iter().any(|(_, other)| *other > begin && *other <= start);
        let is_around = |luks: &&(u64, u64)| luks.1 <= start && !is_apart(luks.0);
        self.luks.iter().find(is_around).map(|(begin, _)| *begin)
    }

    /// What mounting the container that starts at `start` would say, in the words of an advice.
    fn way_in(&self, header: &NativeHeader, start: u64) -> String {
        let command = self.command(start);
        match header.way_in() {
            WayIn::ByRecords if self.surrounding(start).is_none() => format!(
                ": {command} opens it, for writing only if the password shows that the records in its work areas are its own"
            ),
            WayIn::Writable | WayIn::ByRecords => format!(": {}", self.opens(start)),
            WayIn::ReadOnly => format!(": {command} --read-only opens it, and nothing may be written"),
            WayIn::ReadOnlyAtMost => {
                format!(
                    ": it is an old header, under which nothing may be written; {command} --read-only opens it only if the \
                         re-encryption of which it speaks has ended"
                )
            }
            WayIn::Closed => ", but no keyslot is left that opens it".to_owned(),
        }
    }
}

/// What chooses one of two copies that belong to different containers.
pub(super) fn choice(found: &FoundLuks) -> String {
    let offsets: Vec<_> = found.info.headers.iter().map(|copy| format!("--offset {}", copy.offset)).collect();
    format!("{} takes that one for both, and keeps the other in a file", offsets.join(" or "))
}

/// Whether all copies of a header are as good as the one that counts.
pub(super) fn is_whole(header: &HeaderInfo) -> bool {
    header.headers.iter().all(|copy| copy.state == CopyState::Current)
}

const MATCHES: &str = "it is in the right place and matches this container";
