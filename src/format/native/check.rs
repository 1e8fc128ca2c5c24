//! Everything that can be found out about a header (`check`).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{collections::BTreeSet, ops::Range};

use super::{
    copies::{Copies, Place, read_what_can_be_read},
    copy::HeaderCopy,
    front::Front,
    header::name_of,
    keys,
    keyslot::{Keyslot, SlotKind},
    layout::{ALIGNMENT, COPY_LEN, RawKeyslot},
    ledger::Ledger,
    slots::{SLOTS_LEN, Slots, outdated},
    superblock::CopyIndex,
};
use crate::{
    crypto::{
        kdf::{CostError, KdfLimits},
        secret::VolumeKey,
    },
    error::{ErrorKind, Result},
    format::{Finding, Object, Priority, Provision, no_keyslot_left},
    storage::Storage,
};

/// What the header shows without a secret.
///
/// # Errors
/// `NotAContainer`, and what reading gave. A damaged header is a finding.
pub(super) fn check(storage: &dyn Storage) -> Result<Vec<Finding>> {
    let copies = match Copies::read(storage) {
        Ok(copies) => copies,
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported) => {
            return Ok(vec![Finding::error("header", error.to_string())]);
        }
        Err(error) => return Err(error),
    };
    let current = copies.current();
    let actual_len = storage.size()?;
    let superblock = &current.superblock;
    let slots = Slots::read(storage, &superblock.geometry);
    let newer = slots.as_ref().and_then(|slots| slots.newer_generation(superblock));
    let fate = if newer.is_some() { NOT_RENEWED } else { fate(&copies, actual_len) };
    let mut findings = vec![
        check_place(&copies, &copies.a, CopyIndex::A, fate),
        check_place(&copies, &copies.b, CopyIndex::B, fate),
    ];
    findings.extend(check_agreement(&copies));
    findings.extend(check_features(current));
    findings.extend(check_size(current, actual_len));
    if let Some(newer) = newer {
        let error = outdated(superblock.generation, newer);
        findings.push(Finding::error("header", error.reason())); // NAT-REENC-17
    }
    if current.superblock.reencryption.is_some() {
        let message = "a re-encryption is unfinished; if none is running, strongroom reencrypt continues it";
        findings.push(Finding::warning(Object::Data, message));
    } else if newer.is_none() {
        findings.extend(check_work_areas(current, slots.as_ref(), storage)?);
    }
    findings.extend(check_keyslots(current));
    Ok(findings)
}

/// What the header shows under its volume key.
pub(super) fn check_macs(copies: &Copies, actual_len: u64, key: &VolumeKey) -> Vec<Finding> {
    let of_this = copies.whole().filter(|copy| copy.is_of_same_container(copies.current()));
    let good = copies.whole().find(|copy| copy.check_mac(key).is_ok());
    let checked = of_this.map(|copy| {
        let name = format!("header copy {}", copy.superblock.index);
        match copy.check_mac(key) {
            Ok(()) => Finding::info(name, "authentic"),
            // Its MAC is that of the old volume key, which the authentic one wraps.
            Err(_) if good.is_some_and(|good| good.is_update_of(copy) && copy.is_linked_to(good, key)) => {
                Finding::warning(name, format!("from before a re-encryption; {}", fate(copies, actual_len)))
            }
            Err(_) if good.is_some() => Finding::error(name, format!("{UNLINKED}: {ASKS}")), // NAT-UPD-10
            Err(error) => Finding::error(name, error.reason()),
        }
    });
    checked.collect()
}

/// NAT-UPD-10, as far as it shows without the key: a re-encryption lies between them.
fn is_too_far(copy: &HeaderCopy, current: &HeaderCopy) -> bool {
    !copy.is_near(current)
}

const UNLINKED: &str = "made under another volume key, or changed by someone without the key";

/// How the records of a re-encryption are, which say what part of the data is under which key.
pub(super) fn check_records(ledger: &Result<Ledger>) -> Finding {
    const NAME: &str = "re-encryption records";
    if let Some(Err(error)) = ledger.as_ref().ok().map(Ledger::check_recoverable) {
        return Finding::error(NAME, error.reason()); // NAT-REENC-06, -07, -19
    }
    match ledger {
        Ok(ledger) if ledger.is_intact() => Finding::info(NAME, "whole in both work areas"),
        Ok(_) => Finding::warning(
            NAME,
            "one work area lacks the newest: without the other the volume would be lost; the next writable mount or \
             strongroom reencrypt writes it anew",
        ),
        Err(error) => Finding::error(NAME, error.reason()),
    }
}

/// What becomes of a copy that is not as good as the other: nothing is renewed where nothing may be written.
fn fate(copies: &Copies, actual_len: u64) -> &'static str {
    let superblock = &copies.current().superblock;
    let is_cut_off = actual_len < superblock.geometry.container_len;
    let is_of_this = |copy: &HeaderCopy| {
        copy.is_of_same_container(copies.current()) && !is_too_far(copy, copies.current())
    };
    let is_certain = copies.whole().all(is_of_this) && copies.damaged_other(copies.current()).is_none();
    let is_known = superblock.unknown_writing_features == 0 && copies.unsupported().is_none();
    let is_writable = !is_cut_off && is_known && is_certain;
    if is_writable { RENEWED } else { NOT_RENEWED }
}

/// One of the two places.
fn check_place(copies: &Copies, place: &Place, index: CopyIndex, fate: &str) -> Finding {
    let name = format!("header copy {index}");
    let at = place.offset;
    let current = copies.current();
    match &place.found {
        Ok(copy) if !copy.is_of_same_container(current) => {
            let whose = name_of(copy);
            Finding::error(name, format!("belongs to another container, {whose} (offset {at}): {ASKS}")) // NAT-UPD-09
        }
        Ok(copy) if is_too_far(copy, current) => {
            let (this, other) = (copy.superblock.generation, current.superblock.generation);
            Finding::error(name, format!("of generation {this}, the one in use has {other}: {ASKS}")) // NAT-UPD-10
        }
        Ok(copy) if current.is_update_of(copy) => {
            let (old, new) = (copy.superblock.sequence, current.superblock.sequence);
            let fate = if fate == RENEWED { RENEWED_IF_AUTHENTIC } else { fate };
            Finding::warning(name, format!("stale: sequence {old}, the other has {new}; {fate}"))
        }
        Ok(_) if place.is_unfinished => {
            let fate = if fate == RENEWED { RENEWED_IF_AUTHENTIC } else { fate };
            Finding::warning(
                name,
                format!("newer, and not finished, at offset {at}: it lacks its first bytes; {fate}"),
            )
        }
        Ok(copy) => {
            Finding::info(name, format!("whole at offset {at}, sequence {}", copy.superblock.sequence))
        }
        Err(error) if error.is_unsupported() => {
            Finding::error(name, format!("{error} (offset {at}); the container opens read-only"))
        }
        Err(error) => {
            if let Some(other) = place.damaged_other(current, index) {
                // NAT-UPD-08
                let message = format!("not whole at offset {at}: {error}; {other}: {ASKS}");
                return Finding::error(name, message);
            }
            let fate = if fate == RENEWED { RENEWED_IF_AUTHENTIC } else { fate };
            Finding::warning(name, format!("not whole at offset {at}: {error}; {fate}"))
        }
    }
}

/// Whole copies that do not say the same, and ones that stand where none belongs.
fn check_agreement(copies: &Copies) -> Vec<Finding> {
    let current = copies.current();
    let mut findings = Vec::new();
    for other in copies.whole().skip(1).filter(|other| other.is_of_same_container(current)) {
        let is_as_new = other.superblock.sequence == current.superblock.sequence;
        if is_as_new && !other.says_the_same_as(current) {
            let message = "both copies have the same sequence and say different things: the password tells which is \
                           authentic";
            findings.push(Finding::error("header", message));
        }
    }
    let places = [copies.a.offset, copies.b.offset];
    let strays = copies.whole().filter(|copy| !places.contains(&copy.offset()));
    findings.extend(strays.map(|copy| {
        let offset = copy.offset();
        if !copy.is_of_same_container(current) {
            let message =
                format!("a header copy of container {} lies at offset {offset}: {ASKS}", name_of(copy));
            return Finding::error("header", message); // NAT-UPD-09
        }
        Finding::warning(
            "header",
            format!("another whole copy lies at offset {offset}; its keyslots are not updated"),
        )
    }));
    findings
}

fn check_features(current: &HeaderCopy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bits = current.superblock.unknown_writing_features;
    if bits != 0 {
        let message = format!("has features unknown here that writing needs ({bits:#x}): it opens read-only");
        findings.push(Finding::warning("header", message));
    }
    let bits = current.ignorable_features();
    if bits != 0 {
        findings.push(Finding::info(
            "header",
            format!("has features unknown here that may be ignored ({bits:#x})"),
        ));
    }
    findings
}

/// NAT-GEO-06: the size as the header says against the size as it is.
fn check_size(current: &HeaderCopy, actual: u64) -> Option<Finding> {
    let expected = current.superblock.geometry.container_len;
    if actual < expected {
        let message = format!("cut off: {actual} of {expected} bytes are there");
        return Some(Finding::error("container", message));
    }
    let surplus = actual.saturating_sub(expected);
    (surplus > 0).then(|| Finding::info("container", format!("{surplus} bytes after its end are ignored")))
}

/// Work areas are zero but for what a re-encryption writes, and the closing record that it leaves.
fn check_work_areas(
    current: &HeaderCopy,
    slots: Option<&Slots>,
    storage: &dyn Storage,
) -> Result<Vec<Finding>> {
    // NAT-HF-09, NAT-REENC-20: a thick container that is to show no header has random bytes there.
    if !storage.windows().is_empty() && current.superblock.provision == Provision::Thick {
        return Ok(Vec::new());
    }
    let geometry = &current.superblock.geometry;
    let copy_len = u64::try_from(COPY_LEN).unwrap_or(u64::MAX);
    let tail = geometry.backup_offset.saturating_add(copy_len)..geometry.container_len;
    let mut findings = Vec::new();
    if current.superblock.generation > 0 && slots.is_some_and(Slots::is_empty) {
        let left_out = if storage.windows().is_empty() { "" } else { ", or --no-trace" };
        findings.push(Finding::warning(
            "work areas",
            format!(
                "no record of the last re-encryption is there: an earlier strongroom ended it{left_out}; otherwise this header is \
                 newer than the data, and they read as noise under it"
            ),
        ));
    }
    let areas = [("front work area", copy_len..geometry.data_offset), ("tail work area", tail)];
    for (number, (name, mut area)) in areas.into_iter().enumerate() {
        if slots.is_some_and(|slots| slots.is_closed(number, &current.superblock)) {
            area.start = area.start.saturating_add(ALIGNMENT);
        } else if slots.is_some_and(|slots| slots.raw_in(number).next().is_some()) {
            // Whose they are is told under the key, or that only the key tells.
            area.start = area.start.saturating_add(SLOTS_LEN);
        }
        let is_detached = !storage.windows().is_empty();
        let strange = (number == 0 && !is_detached).then(|| Front::read(storage, current).litter(current));
        if let Some(offset) = strange.iter().flatten().next() {
            let message = format!(
                "not empty at offset {offset}: if copy A loses its start as well, copy B alone is not taken for the container's; \
                 strongroom header backup, then header restore, clears it"
            );
            findings.push(Finding::warning(name, message)); // NAT-RD-07
        } else if !is_zero(storage, &looked_at(&area))? {
            findings.push(Finding::info(
                name,
                "not empty: it holds what a re-encryption left, or another program",
            ));
        }
    }
    Ok(findings)
}

/// The part of an area that is read for a finding.
fn looked_at(area: &Range<u64>) -> Range<u64> {
    area.start..area.end.min(area.start.saturating_add(LOOKED_AT))
}

/// Whether the bytes are all zero, as far as they are there.
pub(super) fn is_zero(storage: &dyn Storage, area: &Range<u64>) -> Result<bool> {
    let end = area.end.min(storage.size()?);
    let mut chunk = vec![0; COPY_LEN];
    let mut offset = area.start;
    while offset < end {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(COPY_LEN).min(COPY_LEN);
        let bytes = chunk.get_mut(..left).unwrap_or_default();
        read_what_can_be_read(storage, bytes, offset);
        if bytes.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        offset = offset.saturating_add(u64::try_from(left).unwrap_or(u64::MAX));
    }
    Ok(true)
}

fn check_keyslots(current: &HeaderCopy) -> Vec<Finding> {
    let slots: Vec<(&Keyslot, &RawKeyslot)> = current
        .keyslots
        .iter()
        .filter_map(|slot| {
            let raw = current.raw_keyslots().get(usize::try_from(slot.index).ok()?)?;
            Some((slot, raw))
        })
        .collect();
    let mut findings = Vec::new();
    let mut known = slots.iter().filter(|(slot, _)| slot.kind.is_known());
    let is_any_tried = known.any(|(slot, raw)| refusal(slot, raw).is_none());
    if slots.is_empty() {
        findings.push(Finding::error("keyslots", no_keyslot_left().reason()));
    } else if !slots.iter().any(|(slot, _)| slot.kind.is_known()) {
        findings.push(Finding::error("keyslots", "none that can be opened: nobody opens the container"));
    } else if slots.iter().all(|(slot, _)| slot.describe().priority == Some(Priority::Ignore)) {
        findings.push(Finding::warning("keyslots", "each is tried only when it is asked for by number"));
    }
    for (position, (slot, raw)) in slots.iter().enumerate() {
        let before = slots.get(..position).unwrap_or_default();
        findings.extend(check_keyslot(slot, raw, is_any_tried));
        if slot.kind.is_known() {
            findings.extend(repeated_fields(slot, raw, before));
        }
    }
    findings
}

/// Costs that nobody pays who was not told to.
fn refusal(slot: &Keyslot, raw: &RawKeyslot) -> Option<CostError> {
    slot.describe().kdf.memory.and_then(|_| KdfLimits::default().check(&keys::slot_cost(raw)).err())
}

/// One keyslot, and whether another one, or this, is tried.
fn check_keyslot(slot: &Keyslot, raw: &RawKeyslot, is_any_tried: bool) -> Vec<Finding> {
    let name = || format!("keyslot {}", slot.index);
    let info = slot.describe();
    if let SlotKind::Other(kind) = slot.kind {
        let message = format!("of a kind that this strongroom does not open ({}, number {kind})", info.kind);
        return vec![Finding::info(name(), message)];
    }
    let mut findings = Vec::new();
    if info.priority == Some(Priority::Ignore) {
        findings.push(Finding::info(name(), "tried only when it is asked for by number"));
    }
    if let Some(refusal) = refusal(slot, raw) {
        let message = format!("{refusal}: it is not tried");
        findings.push(if is_any_tried {
            Finding::warning(name(), message)
        } else {
            Finding::error(name(), message)
        });
    } else if info.weak {
        let message = "guessing its password is cheaper than with a keyslot made today; strongroom key change renews it";
        findings.push(Finding::warning(name(), message));
    }
    for (field, bytes) in random_fields(raw) {
        let different = bytes.iter().collect::<BTreeSet<_>>().len();
        // Of so many random bytes nearly all differ: by chance this comes up in one of 10^8 keyslots.
        if different < bytes.len().div_ceil(2) {
            let message =
                format!("its {field} is not random: {different} different bytes of {}", bytes.len());
            findings.push(Finding::error(name(), message));
        }
    }
    findings
}

/// Fields that are the same as in a keyslot before: each writing of a slot takes fresh ones.
fn repeated_fields(slot: &Keyslot, raw: &RawKeyslot, before: &[(&Keyslot, &RawKeyslot)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (other, other_raw) in before.iter().filter(|(other, _)| other.kind.is_known()) {
        for ((name, field), (_, other_field)) in random_fields(raw).into_iter().zip(random_fields(other_raw))
        {
            if field == other_field {
                let message =
                    format!("its {name} is that of keyslot {}: it was copied, or is not random", other.index);
                findings.push(Finding::error(format!("keyslot {}", slot.index), message));
            }
        }
    }
    findings
}

/// What must look random in a keyslot.
fn random_fields(raw: &RawKeyslot) -> [(&'static str, &[u8]); 4] {
    [("salt", &raw.salt), ("nonce", &raw.nonce), ("wrapped key", &raw.wrapped_key), ("tag", &raw.tag)]
}

/// How far into a work area is looked: an honest one has less than 1 MiB.
const LOOKED_AT: u64 = 16 << 20;
/// What is done about copies that leave it open which header counts.
const ASKS: &str = "the container opens read-only, and strongroom header repair asks which one counts";
const RENEWED: &str = "the next writable mount renews it";
/// Only the password tells.
const RENEWED_IF_AUTHENTIC: &str = "the next writable mount renews it, if the other one is authentic";
const NOT_RENEWED: &str = "nothing renews it as long as the container cannot be mounted for writing";

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may stop")]
mod tests {
    use super::{super::layout::RawCopy, *};
    use crate::{
        crypto::secret::{Credentials, LockedBytes, Password},
        format::{Attempt, Header, Severity, native::NativeHeader},
        storage::MemoryStorage,
    };

    const WHOLE: &[u8] = include_bytes!("../../../spec/vectors/native/password.img");
    const COPY_B: usize = 81_920;

    fn some_key() -> VolumeKey {
        LockedBytes::zeroed(64).unwrap().into()
    }

    /// A container whose copies say what `change` makes of them.
    fn changed(change: impl Fn(&mut RawCopy)) -> Vec<u8> {
        let mut image = WHOLE.to_vec();
        let base = HeaderCopy::parse(&WHOLE[..COPY_LEN]).unwrap();
        let new = base.updated(change, &some_key()).unwrap();
        for (index, offset) in [(CopyIndex::A, 0), (CopyIndex::B, COPY_B)] {
            let copy = new.for_index(index, &some_key()).unwrap();
            image[offset..offset + COPY_LEN].copy_from_slice(copy.as_bytes());
        }
        image
    }

    /// The findings above `Info`, as `object: message`. The keyslot of the vector is weak, which is left out.
    fn complaints(image: Vec<u8>) -> Vec<String> {
        let findings = check(&MemoryStorage::new(image)).unwrap();
        let bad = findings.into_iter().filter(|finding| finding.severity > Severity::Info);
        bad.map(|finding| format!("{}: {}", finding.object, finding.message))
            .filter(|text| !text.contains("cheaper than"))
            .collect()
    }

    #[test]
    fn a_whole_container_gives_no_complaint() {
        assert_eq!(complaints(changed(|_| ())), Vec::<String>::new());
    }

    #[test]
    fn fields_that_are_not_random_are_named() {
        let complaints = complaints(changed(|raw| {
            raw.keyslots[0].salt = [0; 32];
            raw.keyslots[0].nonce = std::array::from_fn(|index| [7, 8, 9][index % 3]);
        }));
        assert_eq!(
            complaints,
            [
                "keyslot 0: its salt is not random: 1 different bytes of 32",
                "keyslot 0: its nonce is not random: 3 different bytes of 24"
            ]
        );
    }

    #[test]
    fn fields_that_stand_in_two_keyslots_are_named() {
        let complaints = complaints(changed(|raw| {
            raw.keyslots[3] = raw.keyslots[0];
            raw.keyslots[3].index = 3.into();
            raw.keyslots[3].tag[0] ^= 1;
        }));
        let named = ["salt", "nonce", "wrapped key"];
        let expected = named.map(|field| {
            format!("keyslot 3: its {field} is that of keyslot 0: it was copied, or is not random")
        });
        assert_eq!(complaints, expected);
    }

    #[test]
    fn costs_that_no_reader_pays_are_named() {
        let complaints = complaints(changed(|raw| raw.keyslots[0].memory_kib = (1 << 30).into()));
        assert_eq!(
            complaints,
            ["keyslot 0: asks for 1 TiB of memory; the limit is 4 GiB of memory: it is not tried"]
        );
    }

    #[test]
    fn a_header_without_a_keyslot_is_an_error() {
        let image = changed(|raw| {
            raw.keyslots[0] = zerocopy::FromZeros::new_zeroed();
        });
        assert_eq!(
            complaints(image),
            ["keyslots: it has no keyslot left: no password or keyfile can open it"]
        );
    }

    #[test]
    fn copies_of_one_sequence_that_differ_are_an_error() {
        let mut image = changed(|_| ());
        let other = changed(|raw| raw.superblock.label[0] = b'x');
        image[COPY_B..COPY_B + COPY_LEN].copy_from_slice(&other[COPY_B..COPY_B + COPY_LEN]);
        let complaints = complaints(image);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("header: both copies have the same sequence and say different"));
    }

    #[test]
    fn an_older_copy_is_a_warning() {
        let mut image = changed(|_| ());
        image[COPY_B..COPY_B + COPY_LEN].copy_from_slice(&WHOLE[COPY_B..COPY_B + COPY_LEN]);
        let expected = "header copy B: stale: sequence 1, the other has 2; the next writable mount renews it, if the other one is authentic";
        assert_eq!(complaints(image), [expected]);
    }

    #[test]
    fn nothing_is_said_to_be_renewed_in_a_container_that_no_mount_writes() {
        let mut image = changed(|_| ());
        image.truncate(COPY_B);
        let found = complaints(image);
        let copy = "header copy B: not whole at offset 81920: no header; nothing renews it as long as the container cannot \
                    be mounted for writing";
        assert_eq!(found, [copy, "container: cut off: 81920 of 147456 bytes are there"]);
    }

    #[test]
    fn work_areas_that_hold_something_are_told() {
        let image = changed(|raw| {
            raw.superblock.data_offset = 69_632.into();
            raw.superblock.data_len = 12_288.into();
        });
        let told = |image: Vec<u8>| {
            let findings = check(&MemoryStorage::new(image)).unwrap();
            findings.iter().any(|finding| finding.object == "front work area")
        };
        let mut empty = image.clone();
        empty[COPY_LEN..69_632].fill(0);
        assert!(!told(empty));
        assert!(told(image), "the vector has ciphertext there");
    }

    #[test]
    fn bytes_after_the_end_are_told() {
        let mut image = changed(|_| ());
        image.resize(image.len() + 4096, 0);
        let findings = check(&MemoryStorage::new(image)).unwrap();
        assert!(findings.contains(&Finding::info("container", "4096 bytes after its end are ignored")));
    }

    #[test]
    fn a_copy_under_another_key_is_an_error() {
        let copies = Copies::read(&MemoryStorage::new(changed(|_| ()))).unwrap();
        let authentic = check_macs(&copies, u64::MAX, &some_key());
        assert_eq!(authentic.iter().map(|finding| finding.severity).max(), Some(Severity::Info));
        let mut key = LockedBytes::zeroed(64).unwrap();
        key.as_mut_slice()[0] = 1;
        let forged = check_macs(&copies, u64::MAX, &key.into());
        assert_eq!(forged.len(), 2);
        assert!(forged.iter().all(|finding| finding.severity == Severity::Error));
    }

    /// At rest in the middle of a re-encryption: both work areas, of 16 KiB, hold the newest record.
    const MOVING: &[u8] = include_bytes!("../../../spec/vectors/native/moving.img");

    fn unlocked_findings(image: &[u8]) -> Vec<Finding> {
        let header = NativeHeader::read(&MemoryStorage::new(image.to_vec())).unwrap();
        let whole = NativeHeader::read(&MemoryStorage::new(MOVING.to_vec())).unwrap();
        let password = Password::copy_of(b"correct horse battery staple").unwrap();
        let credentials = Credentials::Password { password, keyfiles: Vec::new() };
        header.check_unlocked(
            &MemoryStorage::new(image.to_vec()),
            &whole.unlock(&credentials, &Attempt::default()).unwrap(),
        )
    }

    fn severity_of_records(image: &[u8]) -> Severity {
        let findings = unlocked_findings(image);
        findings.iter().find(|finding| finding.object == "re-encryption records").unwrap().severity
    }

    #[test]
    fn a_record_that_one_work_area_lacks_is_a_warning() {
        assert_eq!(severity_of_records(MOVING), Severity::Info);
        for area in [COPY_LEN, MOVING.len() - 16_384] {
            let mut image = MOVING.to_vec();
            image[area..area + 8192].fill(0xff);
            assert_eq!(severity_of_records(&image), Severity::Warning);
        }
    }

    #[test]
    fn records_that_are_lost_in_both_work_areas_are_an_error() {
        let mut image = MOVING.to_vec();
        for area in [COPY_LEN, MOVING.len() - 16_384] {
            image[area..area + 8192].fill(0xff);
        }
        assert_eq!(severity_of_records(&image), Severity::Error);
    }
}
