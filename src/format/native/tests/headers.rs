//! Header files, restoring, repairing and scanning. (Every stop of a restore: `tests/crash`.)

use super::*;
use crate::{
    crypto::secret::{RECOVERY_KEY_LEN, RecoveryKey},
    format::{CopyState, Header, HeaderRestore, NewKeyslot, Priority, Severity, Unlocked},
    storage::{Overlay, SimStorage},
};

const GEOMETRY: Geometry =
    Geometry { data_offset: 81_920, data_len: 32_768, container_len: 262_144, backup_offset: 131_072 };
const BACKUP: usize = 131_072;

fn key(number: u8) -> Credentials {
    Credentials::Recovery(RecoveryKey::copy_of(&[number; RECOVERY_KEY_LEN]).unwrap())
}

/// A container that recovery key 0 opens. Another number makes another container.
fn container(number: u64) -> MemoryStorage {
    // No two of these are alike, as those of real ones are not.
    let digest = crate::crypto::hash::sha256(&[&number.to_le_bytes()]);
    container_of(number, digest[..16].try_into().unwrap())
}

/// The same with this uuid, and a volume key that depends on the number.
fn container_of(number: u64, uuid: [u8; 16]) -> MemoryStorage {
    let rng = Counting(AtomicU64::new(number * 1000 + 500));
    let new = NewContainer { uuid, geometry: GEOMETRY, ..new_container(CHEAP, Provision::Quick) };
    let storage = MemoryStorage::new(vec![0; GEOMETRY.container_len.try_into().unwrap()]);
    NewHeader::new(&new, &key(0), &rng).unwrap().write(&storage).unwrap();
    storage
}

fn open(storage: &dyn Storage, number: u8) -> (NativeHeader, Unlocked) {
    let header = NativeHeader::read(storage).unwrap();
    let unlocked = header.unlock(&key(number), &Attempt::default()).unwrap();
    (header, unlocked)
}

/// Whether recovery key `number` opens it.
fn opens(storage: &dyn Storage, number: u8) -> bool {
    NativeHeader::read(storage).and_then(|header| header.unlock(&key(number), &Attempt::default())).is_ok()
}

/// Lets recovery key `new` take the place of `old`.
fn change_key(storage: &dyn Storage, old: u8, new: u8) {
    let (header, unlocked) = open(storage, old);
    let mut editor = header.editor(&unlocked).unwrap();
    let credentials = key(new);
    let slot = NewKeyslot {
        slot: None,
        label: None,
        priority: Priority::Normal,
        cost: CHEAP.into(),
        credentials: &credentials,
    };
    editor.replace(0, &slot, &Counting(AtomicU64::new(77))).unwrap();
    editor.commit(storage).unwrap();
}

fn backup(container: &dyn Storage) -> MemoryStorage {
    let file = MemoryStorage::default();
    Backup::take(container).unwrap().write(&file).unwrap();
    file
}

fn overwrite(storage: &dyn Storage, offset: usize, len: usize) {
    storage.write_all_at(&vec![0; len], offset as u64).unwrap();
}

fn restore(container: &dyn Storage, file: &dyn Storage, number: u8) -> Result<()> {
    let restore = Restore::from_file(container, file)?;
    if let Some(refusal) = restore.refusal() {
        return Err(crate::Error::new(refusal.kind(), refusal.reason()));
    }
    let unlocked = restore.source().unlock(&key(number), &Attempt::default())?;
    restore.write(container, &unlocked)
}

fn states(storage: &dyn Storage) -> Vec<(CopyState, Option<u64>)> {
    let headers = NativeHeader::read(storage).unwrap().describe().headers;
    headers.into_iter().map(|copy| (copy.state, copy.sequence)).collect()
}

// proves: NAT-HF-03 NAT-HF-07
#[test]
fn a_backup_holds_both_copies_byte_for_byte() {
    let container = container(0);
    let (bytes, file) = (container.to_vec(), backup(&container).to_vec());
    assert_eq!(file.len() as u64, HEADER_FILE_LEN);
    assert!(file[4096..4096 + COPY_LEN] == bytes[..COPY_LEN]);
    assert!(file[4096 + COPY_LEN..] == bytes[BACKUP..BACKUP + COPY_LEN]);
}

// proves: NAT-HF-07
#[test]
fn a_copy_that_is_not_whole_is_left_out_of_a_backup() {
    let container = container(0);
    overwrite(&container, 5000, 1);
    container.write_all_at(&[1], 5000).unwrap();
    let taken = Backup::take(&container).unwrap();
    assert_eq!(taken.left_out(), [CopyIndex::A]);
    assert!(!taken.is_settled());
    let file = backup(&container);
    assert!(file.to_vec()[4096..4096 + COPY_LEN].iter().all(|&byte| byte == 0));
    overwrite(&container, BACKUP, COPY_LEN);
    restore(&container, &file, 0).unwrap();
    assert_eq!(states(&container), [(CopyState::Current, Some(2)); 2]);
}

// proves: NAT-HF-07
#[test]
fn copies_of_two_containers_make_no_backup() {
    let (first, second) = (container(0), container(1));
    first.write_all_at(&second.to_vec()[BACKUP..BACKUP + COPY_LEN], BACKUP as u64).unwrap();
    let error = Backup::take(&first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.hint().unwrap().contains("header repair"));
}

// proves: NAT-HF-08
#[test]
fn a_restored_header_beats_the_newer_one_and_its_copies() {
    let container = container(0);
    let file = backup(&container);
    change_key(&container, 0, 1);
    assert!(opens(&container, 1) && !opens(&container, 0));
    restore(&container, &file, 0).unwrap();
    assert!(opens(&container, 0) && !opens(&container, 1));
    assert_eq!(states(&container), [(CopyState::Current, Some(3)); 2]);
}

// proves: NAT-HF-08
#[test]
fn a_backup_of_another_container_is_refused_and_nothing_is_written() {
    let (first, second) = (container(0), container(1));
    let before = first.to_vec();
    let error = restore(&first, &backup(&second), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.reason().contains("belongs to container"), "{error}");
    assert!(first.to_vec() == before);
}

// proves: NAT-HF-08
#[test]
fn a_backup_of_another_layout_is_refused() {
    let present = container(0);
    let file = backup(&present);
    let (header, unlocked) = open(&present, 0);
    let good = header.authentic(&unlocked.volume_key).unwrap();
    let changed = good.updated(|raw| raw.superblock.sector_size = 512.into(), &unlocked.volume_key).unwrap();
    let key = &*unlocked.volume_key;
    update::write_update(&present, good, key, &changed, key).unwrap();
    let error = restore(&present, &file, 0).unwrap_err();
    assert_eq!((error.kind(), error.reason().contains("since")), (ErrorKind::Usage, true), "{error}");
}

// proves: NAT-HF-08
#[test]
fn a_container_too_short_for_the_backup_is_refused() {
    let whole = container(0);
    let file = backup(&whole);
    let cut = MemoryStorage::new(whole.to_vec()[..200_000].to_vec());
    assert_eq!(restore(&cut, &file, 0).unwrap_err().kind(), ErrorKind::Damaged);
}

// proves: NAT-HF-08
#[test]
fn a_wrong_key_restores_nothing() {
    let container = container(0);
    let file = backup(&container);
    change_key(&container, 0, 1);
    let before = container.to_vec();
    assert_eq!(restore(&container, &file, 1).unwrap_err().kind(), ErrorKind::Credentials);
    assert!(container.to_vec() == before);
}

// proves: NAT-HF-08
#[test]
fn a_forged_backup_restores_nothing() {
    let container = container(0);
    let mut file = backup(&container).to_vec();
    // The label of both copies, their checksums made right: what someone without the key can do.
    for start in [4096, 4096 + COPY_LEN] {
        file[start + 64] ^= 1;
        let mut copy = file[start..start + COPY_LEN].to_vec();
        copy[4000..4096].fill(0);
        file[start + 4000..start + 4032].copy_from_slice(&crate::crypto::hash::sha256(&[&copy]));
    }
    let before = container.to_vec();
    let error = restore(&container, &MemoryStorage::new(file), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered);
    assert!(container.to_vec() == before);
}

#[test]
fn a_header_file_is_no_place_to_restore_to() {
    let file = backup(&container(0));
    let other = MemoryStorage::new(file.to_vec());
    assert_eq!(Restore::from_file(&other, &file).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn restoring_where_no_header_is_left_brings_the_container_back() {
    let container = container(0);
    let (before, file) = (container.to_vec(), backup(&container));
    overwrite(&container, 0, COPY_LEN);
    overwrite(&container, BACKUP, COPY_LEN);
    let restore = Restore::from_file(&container, &file).unwrap();
    assert!(restore.present().is_none());
    let unlocked = restore.source().unlock(&key(0), &Attempt::default()).unwrap();
    assert_eq!(restore.is_present_authentic(&unlocked), None);
    restore.write(&container, &unlocked).unwrap();
    assert!(opens(&container, 0));
    assert!(container.to_vec()[COPY_LEN..BACKUP] == before[COPY_LEN..BACKUP]);
}

// proves: NAT-HF-05
#[test]
fn a_detached_header_is_changed_and_healed_in_its_file_alone() {
    let whole = container(0);
    let (header_file, container) = (Arc::new(backup(&whole)), Arc::new(whole));
    overwrite(&*container, 0, COPY_LEN);
    overwrite(&*container, BACKUP, COPY_LEN);
    let before = container.to_vec();
    let file = HeaderFile::read(&*header_file).unwrap();
    file.check_against(&*container, &*header_file).unwrap();
    let overlay: Overlay = file
        .over(Arc::clone(&container) as Arc<dyn Storage>, Arc::clone(&header_file) as Arc<dyn Storage>)
        .unwrap();
    let preamble = header_file.to_vec()[..4096].to_vec();

    change_key(&overlay, 0, 1);
    assert!(opens(&overlay, 1) && !opens(&overlay, 0));
    header_file.write_all_at(&[0; 16], 4096).unwrap();
    let (header, unlocked) = open(&overlay, 1);
    let done = header.prepare_writing(&overlay, &unlocked).unwrap();
    assert_eq!(done, ["header copy A was missing and has been rewritten from the other"]);
    assert_eq!(states(&overlay), [(CopyState::Current, Some(2)); 2]);

    assert!(container.to_vec() == before, "the container was written to");
    assert_eq!(header_file.to_vec()[..4096], preamble);
    assert!(HeaderFile::read(&*header_file).is_ok());
}

// proves: NAT-HF-06
#[test]
fn a_header_file_does_not_open_a_container_with_another_header() {
    let (first, second) = (container(0), container(1));
    let file = backup(&second);
    let error = HeaderFile::read(&file).unwrap().check_against(&first, &file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    // Its own older state opens it: that is how a backup is looked into.
    let file = backup(&first);
    change_key(&first, 0, 1);
    HeaderFile::read(&file).unwrap().check_against(&first, &file).unwrap();
}

// proves: NAT-HF-04
#[test]
fn a_header_file_of_parts_of_two_containers_is_damaged() {
    let (first, second) = (backup(&container(0)), backup(&container(1)));
    first.write_all_at(&second.to_vec()[4096..4096 + COPY_LEN], 4096).unwrap();
    let error = HeaderFile::read(&first).unwrap_err();
    assert_eq!((error.kind(), error.reason().contains("parts")), (ErrorKind::Damaged, true));
}

// proves: NAT-HF-10
#[test]
fn a_copy_of_another_container_is_replaced_only_when_that_is_asked_for() {
    let (first, second) = (container(0), container(1));
    let foreign = second.to_vec()[BACKUP..BACKUP + COPY_LEN].to_vec();
    first.write_all_at(&foreign, BACKUP as u64).unwrap();
    let (header, unlocked) = open(&first, 0);
    let error = header.prepare_writing(&first, &unlocked).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let uuid = |storage: &MemoryStorage| {
        hyphenated(&NativeHeader::read(storage).unwrap().copy_in_use().superblock.uuid)
    };
    for named in [uuid(&first), uuid(&second)] {
        assert!(error.reason().contains(&named), "{error}");
    }
    assert_eq!(header.warnings(&unlocked), [error.reason()]);
    assert_eq!(header.editor(&unlocked).unwrap_err().kind(), ErrorKind::Damaged);

    let faults = header.faults(&unlocked).unwrap();
    let [CopyFault { index: CopyIndex::B, fault: Fault::Foreign(_), .. }] = faults.as_slice() else {
        panic!("{faults:?}");
    };
    assert!(faults[0].needs_consent());
    header.repair(&first, &unlocked, &faults).unwrap();
    assert_eq!(states(&first), [(CopyState::Current, Some(1)); 2]);
}

// proves: NAT-HF-10
#[test]
fn a_forged_newer_copy_is_replaced_only_when_that_is_asked_for() {
    let container = container(0);
    let mut copy = container.to_vec()[..COPY_LEN].to_vec();
    copy[128] = 9;
    let mac: Vec<u8> = copy[4032..4096].to_vec();
    copy[4000..4096].fill(0);
    let sum = crate::crypto::hash::sha256(&[&copy]);
    copy[4000..4032].copy_from_slice(&sum);
    copy[4032..4096].copy_from_slice(&mac);
    container.write_all_at(&copy, 0).unwrap();

    let (header, unlocked) = open(&container, 0);
    assert_eq!(header.prepare_writing(&container, &unlocked).unwrap_err().kind(), ErrorKind::Tampered);
    let faults = header.faults(&unlocked).unwrap();
    assert_eq!(faults, [CopyFault { index: CopyIndex::A, fault: Fault::Newer, offset: 0 }]);
    header.repair(&container, &unlocked, &faults).unwrap();
    assert_eq!(states(&container), [(CopyState::Current, Some(1)); 2]);
}

/// What someone without the key makes of a whole copy: its checksum is right, its MAC is not.
fn forged(copy: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut copy = copy.to_vec();
    change(&mut copy);
    let mac = copy[4032..4096].to_vec();
    copy[4000..4096].fill(0);
    let sum = crate::crypto::hash::sha256(&[&copy]);
    copy[4000..4032].copy_from_slice(&sum);
    copy[4032..4096].copy_from_slice(&mac);
    copy
}

// proves: NAT-RD-03
#[test]
fn forged_copies_behind_the_authentic_one_do_not_hide_it() {
    let mut bytes = container(0).to_vec();
    bytes[..COPY_LEN].fill(0);
    let whole = bytes[BACKUP..BACKUP + COPY_LEN].to_vec();
    for _ in 0..12 {
        let offset = bytes.len() as u64;
        bytes.extend(forged(&whole, |copy| {
            copy[168..176].copy_from_slice(&(offset + COPY_LEN as u64).to_le_bytes());
            copy[176..184].copy_from_slice(&offset.to_le_bytes());
            copy[4096 + 160] ^= 1;
        }));
    }
    let storage = MemoryStorage::new(bytes);
    let (header, unlocked) = open(&storage, 0);
    assert_eq!(header.prepare_writing(&storage, &unlocked).unwrap_err().kind(), ErrorKind::Damaged);
    // Once its owner has put copy A back, nothing leads to the forged ones.
    let faults = header.faults(&unlocked).unwrap();
    assert!(!header.strays(&unlocked).unwrap().is_empty());
    header.repair(&storage, &unlocked, &faults).unwrap();
    let (header, unlocked) = open(&storage, 0);
    header.prepare_writing(&storage, &unlocked).unwrap();
    assert_eq!(states(&storage), [(CopyState::Current, Some(1)); 2]);
}

// proves: NAT-UPD-10, NAT-HF-10
#[test]
fn a_whole_copy_under_another_key_is_written_over_only_when_that_is_asked_for() {
    for is_older in [false, true] {
        let container = container(0);
        let (header, unlocked) = open(&container, 0);
        let good = header.authentic(&unlocked.volume_key).unwrap();
        let other = forged(&container.to_vec()[BACKUP..BACKUP + COPY_LEN], |copy| copy[64] = b'X');
        container.write_all_at(&other, BACKUP as u64).unwrap();
        if is_older {
            good.after(1, |_| {}, &unlocked.volume_key).unwrap().write(&container).unwrap();
        }
        let before = container.to_vec();

        let (header, unlocked) = open(&container, 0);
        let error = header.prepare_writing(&container, &unlocked).unwrap_err();
        assert!(error.reason().contains("made under another volume key"), "{}", error.reason());
        assert!(header.editor(&unlocked).is_err() && header.renew(&container, &unlocked.volume_key).is_err());
        assert_eq!(header.warnings(&unlocked).len(), 1);
        assert!(
            header
                .check_unlocked(&container, &unlocked)
                .iter()
                .any(|finding| finding.severity == Severity::Error)
        );
        assert!(container.to_vec() == before);

        let faults = header.faults(&unlocked).unwrap();
        assert_eq!(faults.iter().map(|fault| &fault.fault).collect::<Vec<_>>(), [&Fault::Unlinked]);
        assert!(faults.iter().all(|fault| fault.needs_consent() && fault.lost().is_some()));
        header.repair(&container, &unlocked, &faults).unwrap();
        let (header, unlocked) = open(&container, 0);
        header.prepare_writing(&container, &unlocked).unwrap();
    }
}

// proves: NAT-UPD-11, NAT-HF-10
#[test]
fn records_under_another_key_are_replaced_only_when_that_is_asked_for() {
    let container = container(0);
    let uuid = container.to_vec()[48..64].to_vec();
    let record = [&b"SR re-encryption"[..], &[1, 0, 0, 0, 0, 0, 0, 0], &uuid, &[2]].concat();
    for area in [COPY_LEN, BACKUP + COPY_LEN] {
        container.write_all_at(&record, area as u64).unwrap();
        let before = container.to_vec();
        let (header, unlocked) = open(&container, 0);
        let error = header.prepare_writing(&container, &unlocked).unwrap_err();
        assert!(error.reason().contains(&format!("work area at offset {area}")), "{}", error.reason());
        assert!(header.editor(&unlocked).is_err() && header.warnings(&unlocked).len() == 1);
        assert!(container.to_vec() == before);

        let (slots, _) = header.alien_work(&unlocked).unwrap().unwrap();
        assert_eq!(slots.as_slice(), std::slice::from_ref(&(area as u64..area as u64 + 8192)));
        header.replace_alien_work(&container, &unlocked).unwrap();
        let (header, unlocked) = open(&container, 0);
        header.prepare_writing(&container, &unlocked).unwrap();
        assert!(header.alien_work(&unlocked).unwrap().is_none());
        assert!(container.to_vec()[area..area + 8192].iter().all(|&byte| byte == 0));
    }
}

// proves: NAT-RD-05
#[test]
fn an_older_copy_that_opens_is_named_and_does_not_open() {
    let before = container(0).to_vec();
    let storage = container(0);
    change_key(&storage, 0, 1);
    storage.write_all_at(&before[BACKUP..BACKUP + COPY_LEN], BACKUP as u64).unwrap();
    let refused = |storage: &MemoryStorage| {
        let header = NativeHeader::read(storage).unwrap();
        header.unlock(&key(0), &Attempt::default()).unwrap_err()
    };
    // Its owner changed the key.
    let error = refused(&storage);
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(error.reason().contains("older (sequence 1, the one in use has 2)"), "{error}");
    assert!(!error.hint().unwrap().contains("repair"));
    // Somebody without the key shuts its owner out.
    let lockout = forged(&before[..COPY_LEN], |copy| {
        copy[128] = 9;
        copy[4096 + 160] ^= 1;
    });
    storage.write_all_at(&lockout, 0).unwrap();
    let error = refused(&storage);
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(error.hint().unwrap().contains(&format!("--scan --offset {BACKUP} ")), "{error:?}");
    assert!(!opens(&storage, 0));
}

/// Versions before this one wrote a copy in one go, so that a power cut could leave what damage leaves now.
// proves: NAT-UPD-08
#[test]
fn a_torn_update_of_an_older_version_takes_one_question() {
    let storage = container(0);
    let before = storage.to_vec();
    change_key(&storage, 0, 1);
    let after = storage.to_vec();
    let mut torn = before;
    torn[BACKUP..BACKUP + 512].copy_from_slice(&after[BACKUP..BACKUP + 512]);
    let storage = MemoryStorage::new(torn);
    let (header, unlocked) = open(&storage, 0);
    assert_eq!(states(&storage), [(CopyState::Current, Some(1)), (CopyState::Damaged, Some(2))]);
    let error = header.prepare_writing(&storage, &unlocked).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.reason().contains("sequence 2, copy A has 1"), "{error}");
    assert_eq!(header.warnings(&unlocked), [error.reason()]);
    let faults = header.faults(&unlocked).unwrap();
    let expected = Fault::DamagedOther(DamagedOther {
        index: CopyIndex::B,
        offset: GEOMETRY.backup_offset,
        sequence: Some(2),
        whole: 1,
        foreign: None,
        uuid: NativeHeader::read(&storage).unwrap().copy_in_use().superblock.uuid,
    });
    assert_eq!(faults, [CopyFault { index: CopyIndex::B, fault: expected, offset: BACKUP as u64 }]);
    assert!(faults[0].needs_consent());
    header.repair(&storage, &unlocked, &faults).unwrap();
    assert_eq!(states(&storage), [(CopyState::Current, Some(1)); 2]);
    let (header, unlocked) = open(&storage, 0);
    header.prepare_writing(&storage, &unlocked).unwrap();
}

/// Bytes of a copy that say something: all fields of the superblock, and some of keyslot 0.
fn telling_bytes() -> impl Iterator<Item = usize> {
    (0..200).chain(4000..4096).chain([4096, 4100, 4130, 4300])
}

fn flip(storage: &dyn Storage, at: usize, bits: u8) {
    let mut byte = [0];
    storage.read_exact_at(&mut byte, at as u64).unwrap();
    storage.write_all_at(&[byte[0] ^ bits], at as u64).unwrap();
}

// proves: NAT-UPD-08 NAT-RD-07
#[test]
fn whatever_byte_of_a_newer_copy_is_damaged_the_older_one_is_not_healed_over_it() {
    for (newer, older) in [(0, BACKUP), (BACKUP, 0)] {
        let container = container(0);
        let old = container.to_vec();
        change_key(&container, 0, 1);
        container.write_all_at(&old[older..older + COPY_LEN], older as u64).unwrap();
        for (at, bits) in telling_bytes().flat_map(|at| [(at, 0x20), (at, 1), (at, 2)]) {
            let storage = MemoryStorage::new(container.to_vec());
            flip(&storage, newer + at, bits);
            let before = storage.to_vec();
            let Ok(header) = NativeHeader::read(&storage) else {
                panic!("byte {at} keeps it from being read")
            };
            let Ok(unlocked) = header.unlock(&key(0), &Attempt::default()) else { continue };
            let refused = header.prepare_writing(&storage, &unlocked);
            assert!(refused.is_err(), "byte {at} of the copy at {newer}");
            assert!(
                header.editor(&unlocked).is_err() && header.renew(&storage, &unlocked.volume_key).is_err()
            );
            assert!(storage.to_vec() == before, "byte {at}: something was written");
            assert!(!header.warnings(&unlocked).is_empty(), "byte {at} opens read-only without a word");
        }
    }
}

// proves: NAT-UPD-04 NAT-UPD-08
#[test]
fn whatever_byte_of_a_copy_is_damaged_beside_its_twin_it_is_healed() {
    let container = container(0);
    let whole = container.to_vec();
    for (copy, at) in [0, BACKUP].into_iter().flat_map(|copy| telling_bytes().map(move |at| (copy, at))) {
        // A sequence that is higher is that of another state, as far as anybody can see.
        if at == 128 {
            flip(&container, copy + at, 1);
        } else if !(129..136).contains(&at) {
            flip(&container, copy + at, 0x21);
        }
        let (header, unlocked) = open(&container, 0);
        header.prepare_writing(&container, &unlocked).unwrap_or_else(|error| panic!("byte {at}: {error}"));
        assert!(container.to_vec() == whole, "byte {at} of the copy at {copy}");
    }
    // What a medium loses at once is more.
    for (copy, start, len) in
        [(0, 0, 512), (0, 0, 4096), (BACKUP, 512, 3072), (0, 3584, 512), (0, 4096, 4096)]
    {
        container.write_all_at(&vec![0xee; len], (copy + start) as u64).unwrap();
        let (header, unlocked) = open(&container, 0);
        header
            .prepare_writing(&container, &unlocked)
            .unwrap_or_else(|error| panic!("{len} from {start}: {error}"));
        assert!(container.to_vec() == whole, "{len} bytes from {start} of the copy at {copy}");
    }
}

/// Another label stands for whatever a re-encryption changes besides keyslots.
// proves: NAT-UPD-02 NAT-UPD-08
#[test]
fn a_copy_that_a_power_cut_leaves_without_its_magic_is_healed_whatever_the_update_changed() {
    let container = container(0);
    let old = container.to_vec();
    let (_, unlocked) = open(&container, 0);
    let copy = HeaderCopy::parse(&old[..COPY_LEN]).unwrap();
    let new = copy.updated(|raw| raw.superblock.label[0] ^= 1, &unlocked.volume_key).unwrap();
    new.for_index(CopyIndex::B, &unlocked.volume_key).unwrap().write(&container).unwrap();
    let cut = |place: usize, kept: usize| {
        let storage = MemoryStorage::new(container.to_vec());
        overwrite(&storage, place + kept, 16 - kept);
        storage
    };
    // Its last byte is zero.
    for kept in 0..15 {
        // Copy A is the older one, and goes; copy B is the newer one, and is not finished: it is completed.
        for (place, healed) in [(0, 2), (BACKUP, 2)] {
            let storage = cut(place, kept);
            let (header, unlocked) = open(&storage, 0);
            header.prepare_writing(&storage, &unlocked).unwrap_or_else(|error| panic!("{kept}: {error}"));
            assert_eq!(states(&storage), [(CopyState::Current, Some(healed)); 2], "{kept} bytes at {place}");
        }
        // Copy A is the newer one, which no power cut leaves.
        let storage = MemoryStorage::new(old.clone());
        new.write(&storage).unwrap();
        flip(&storage, kept, 0x10);
        let (header, unlocked) = open(&storage, 0);
        assert!(header.prepare_writing(&storage, &unlocked).is_err(), "a newer copy A, damaged at {kept}");
    }
}

// proves: NAT-UPD-08 NAT-HF-08
#[test]
fn a_backup_that_is_older_than_a_damaged_copy_loses_it() {
    let container = container(0);
    let (old, file) = (container.to_vec(), backup(&container));
    change_key(&container, 0, 1);
    let newest = backup(&container);
    container.write_all_at(&old[BACKUP..BACKUP + COPY_LEN], BACKUP as u64).unwrap();
    flip(&container, 3, 1);
    for (file, number, is_older) in [(file, 0, true), (newest, 1, false)] {
        let restore = Restore::from_file(&container, &file).unwrap();
        let unlocked = restore.source().unlock(&key(number), &Attempt::default()).unwrap();
        let lost = crate::format::HeaderRestore::loses(&restore, Some(&unlocked));
        assert_eq!(lost.is_some_and(|lost| lost.contains("header copy A that is there")), is_older);
    }
}

// proves: NAT-ERASE-01
#[test]
fn erasing_beside_a_damaged_copy_a_lets_copy_b_show_to_the_last() {
    let storage = container(0);
    storage.write_all_at(&[7], 300).unwrap();
    for is_overwritten in [true, false] {
        if is_overwritten {
            overwrite(&storage, 0, COPY_LEN);
        }
        let erasure = Native.erasure(&storage).unwrap();
        for place in &erasure.spare {
            let noise = vec![0x5a; usize::try_from(place.end - place.start).unwrap()];
            storage.write_all_at(&noise, place.start).unwrap();
        }
        assert!(opens(&storage, 0));
        assert_eq!(erasure.last, BACKUP as u64 + 4096..(BACKUP + COPY_LEN) as u64);
    }
}

/// What a medium does to a copy: where, how many bytes, and what with.
const ORDINARY_DAMAGE: [(usize, usize, u8); 9] = [
    (3, 1, 0x5a),
    (4005, 1, 0x5a),
    (0, 512, 0xe1),
    (0, 512, 0),
    (0, 4096, 0xe1),
    (3584, 512, 0xe1),
    (4096, 512, 0xe1),
    (61_440, 512, 0xe1),
    (61_440, 4096, 0xe1),
];

/// Damages a copy so that it is not whole.
fn damage(storage: &dyn Storage, copy: usize, (start, len, byte): (usize, usize, u8)) {
    storage.write_all_at(&vec![byte; len], (copy + start) as u64).unwrap();
}

/// The copy at `place` of a container, put into another one.
fn splice(from: &MemoryStorage, to: &MemoryStorage, place: usize) {
    to.write_all_at(&from.to_vec()[place..place + COPY_LEN], place as u64).unwrap();
}

// proves: NAT-UPD-08 NAT-UPD-09 NAT-RD-07
#[test]
fn a_damaged_copy_of_this_container_is_not_healed_over_from_another_one() {
    let ours = container(0);
    let uuid = NativeHeader::read(&ours).unwrap().copy_in_use().superblock.uuid;
    // Another container, and the same one after a re-encryption of its own.
    for (other, is_same) in [(container(1), false), (container_of(2, uuid), true)] {
        if is_same {
            for _ in 0..2 {
                change_key(&other, 0, 0);
            }
        }
        for (foreign, own) in [(0, BACKUP), (BACKUP, 0)] {
            for change in ORDINARY_DAMAGE {
                let storage = MemoryStorage::new(ours.to_vec());
                splice(&other, &storage, foreign);
                damage(&storage, own, change);
                let before = storage.to_vec();
                let what = format!("copy at {foreign} of another, that at {own} damaged: {change:?}");
                let opened = NativeHeader::read(&storage);
                if let Ok(header) = opened {
                    let unlocked = header.unlock(&key(0), &Attempt::default()).unwrap();
                    let refused = header.prepare_writing(&storage, &unlocked);
                    assert!(refused.is_err(), "{what}");
                    assert!(header.editor(&unlocked).is_err(), "{what}");
                    assert!(header.renew(&storage, &unlocked.volume_key).is_err(), "{what}");
                    assert!(!header.warnings(&unlocked).is_empty(), "{what}");
                    let faults = header.faults(&unlocked).unwrap();
                    assert!(faults.iter().all(CopyFault::needs_consent) && faults.len() == 1, "{what}");
                } else {
                    assert!(own == 0, "{what}: not even read-only");
                }
                assert!(storage.to_vec() == before, "{what}: written");
            }
        }
    }
}

/// A smaller container's copy A tells of another place, so that the damaged copy B of ours is found only by searching.
// proves: NAT-UPD-08 NAT-RD-02
#[test]
fn a_damaged_copy_that_only_a_search_finds_forbids_writing() {
    for change in ORDINARY_DAMAGE {
        let storage = container(0);
        let (header, unlocked) = open(&container(1), 0);
        let good = header.authentic(&unlocked.volume_key).unwrap();
        let moved = good.updated(
            |raw| {
                raw.superblock.data_len = 4096.into();
                raw.superblock.backup_offset = (81_920 + 4096).into();
            },
            &unlocked.volume_key,
        );
        damage(&storage, BACKUP, change);
        storage.write_all_at(moved.unwrap().as_bytes(), 0).unwrap();
        let header = NativeHeader::read(&storage).unwrap();
        assert!(header.copies.damaged_other(header.copy_in_use()).is_some(), "{change:?}");
    }
}

// proves: NAT-UPD-08
#[test]
fn a_removed_key_does_not_come_back_where_the_superblock_of_the_newer_copy_is_lost() {
    let container = container(0);
    let old = container.to_vec();
    change_key(&container, 0, 1);
    for (byte, len) in [(0xe1, 4096), (0xe1, 512), (0, 4096), (0, 512)] {
        let storage = MemoryStorage::new(container.to_vec());
        storage.write_all_at(&old[BACKUP..BACKUP + COPY_LEN], BACKUP as u64).unwrap();
        damage(&storage, 0, (0, len, byte));
        let before = storage.to_vec();
        // Nothing of copy B stands there, so it does not open at all.
        assert!(NativeHeader::read(&storage).is_err());
        assert!(storage.to_vec() == before);
        splice(&MemoryStorage::new(old.clone()), &storage, 0);
        storage.write_all_at(&container.to_vec()[BACKUP..BACKUP + COPY_LEN], BACKUP as u64).unwrap();
        damage(&storage, BACKUP, (0, len, byte));
        let (header, unlocked) = open(&storage, 0);
        assert!(header.prepare_writing(&storage, &unlocked).is_err(), "{len} of {byte}");
    }
}

/// Adds recovery key `new` as keyslot 1 by means of `old`.
fn add_key(storage: &dyn Storage, old: u8, new: u8) {
    let (header, unlocked) = open(storage, old);
    let mut editor = header.editor(&unlocked).unwrap();
    let credentials = key(new);
    let slot = NewKeyslot {
        slot: Some(1),
        label: None,
        priority: Priority::Normal,
        cost: CHEAP.into(),
        credentials: &credentials,
    };
    editor.add(&slot, &Counting(AtomicU64::new(4711))).unwrap();
    editor.commit(storage).unwrap();
}

/// A container before and after its recovery key 1 was removed from keyslot 1; key 0 opens both.
fn with_a_removed_key() -> (Vec<u8>, MemoryStorage) {
    let storage = container(0);
    add_key(&storage, 0, 1);
    let before = storage.to_vec();
    let (header, unlocked) = open(&storage, 0);
    let mut editor = header.editor(&unlocked).unwrap();
    editor.remove(1, false).unwrap();
    editor.commit(&storage).unwrap();
    (before, storage)
}

// proves: NAT-RD-08
#[test]
fn an_old_copy_a_beside_a_newer_copy_b_without_its_magic_brings_no_removed_key_back() {
    let (before, after) = with_a_removed_key();
    for missing in [0..16, 0..1, 3..4, 7..15] {
        let storage = MemoryStorage::new(after.to_vec());
        splice(&MemoryStorage::new(before.clone()), &storage, 0);
        overwrite(&storage, BACKUP + missing.start, missing.len());
        assert_eq!(states(&storage), [(CopyState::Stale, Some(2)), (CopyState::Damaged, Some(3))]);
        assert!(!opens(&storage, 1), "{missing:?}");
        let (header, unlocked) = open(&storage, 0);
        let done = header.prepare_writing(&storage, &unlocked).unwrap();
        assert!(
            done.iter().any(|line| line == "header copy B was not finished and has been completed"),
            "{done:?}"
        );
        assert!(storage.to_vec() == after.to_vec(), "{missing:?}");
    }
    // What somebody without the key made counts no more than with its magic.
    let storage = MemoryStorage::new(after.to_vec());
    splice(&MemoryStorage::new(before), &storage, 0);
    let mut forged =
        HeaderCopy::parse(&storage.to_vec()[BACKUP..BACKUP + COPY_LEN]).unwrap().without_mac(CopyIndex::B);
    forged.superblock.magic = [0; 16];
    storage.write_all_at(zerocopy::IntoBytes::as_bytes(&forged), BACKUP as u64).unwrap();
    let (header, unlocked) = open(&storage, 0);
    assert_eq!(header.prepare_writing(&storage, &unlocked).unwrap_err().kind(), ErrorKind::Tampered);
}

// proves: NAT-UPD-08
#[test]
fn a_removed_key_does_not_come_back_where_the_newer_copy_has_an_empty_keyslot() {
    let (before, after) = with_a_removed_key();
    // What is lost of the newer copy: where, how much, and what is there instead.
    let losses: [&[(usize, usize, u8)]; 6] = [
        &[(0, 4096, 0)],
        &[(128, 8, 0), (4000, 32, 0)],
        &[(0, 512, 0), (3584, 512, 0)],
        &[(0, 4096, 0xe1), (6148, 1, 0)],
        &[(0, 4096, 0), (6148, 1, 0)],
        &[(0, 4096, 0xe1)],
    ];
    for (newer, older) in [(0, BACKUP), (BACKUP, 0)] {
        for loss in losses {
            let storage = MemoryStorage::new(after.to_vec());
            splice(&MemoryStorage::new(before.clone()), &storage, older);
            for &change in loss {
                damage(&storage, newer, change);
            }
            let lost = storage.to_vec();
            for number in [0, 1] {
                let (header, unlocked) = open(&storage, number);
                let error = header.prepare_writing(&storage, &unlocked).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Damaged, "{loss:?} of the copy at {newer}");
                assert!(!header.warnings(&unlocked).is_empty());
                assert!(header.faults(&unlocked).unwrap()[0].needs_consent());
            }
            assert!(storage.to_vec() == lost);
        }
    }
    // Whole blocks of zeros are what a medium loses, also where the twin has keys in them.
    for (copy, len) in [(0, 65_536), (0, 4096), (0, 8192), (0, 20_480), (BACKUP, 4096), (BACKUP, 65_536)] {
        let storage = MemoryStorage::new(before.clone());
        overwrite(&storage, copy, len);
        let (header, unlocked) = open(&storage, 1);
        header
            .prepare_writing(&storage, &unlocked)
            .unwrap_or_else(|error| panic!("{len} at {copy}: {error}"));
        assert!(storage.to_vec() == before);
    }
}

// proves: NAT-HF-08
#[test]
fn a_backup_with_more_keyslots_than_the_header_is_not_restored_without_a_word() {
    let (before, after) = with_a_removed_key();
    let (older, newest) = (backup(&MemoryStorage::new(before)), backup(&after));
    let restored = |file: &MemoryStorage| {
        let restore = Restore::from_file(&after, file).unwrap();
        let unlocked = restore.source().unlock(&key(0), &Attempt::default()).unwrap();
        (restore.loses(Some(&unlocked)), HeaderRestore::warnings(&restore, Some(&unlocked)))
    };
    let (lost, warnings) = restored(&older);
    assert!(lost.unwrap().contains("no longer has keyslot 1 of this one"));
    assert_eq!(warnings, [crate::format::OLDER_PASSWORDS]);
    // Nothing is brought back where both have the same keyslots.
    assert_eq!(restored(&newest), (None, Vec::new()));
}

/// Where the front begins, and a byte further on in it.
const FRONT: usize = 65_536;
const IN_FRONT: usize = 70_000;

/// Opens for writing, and gives what that said.
fn heal(storage: &dyn Storage) -> Vec<String> {
    let (header, unlocked) = open(storage, 0);
    header.prepare_writing(storage, &unlocked).unwrap()
}

// proves: NAT-RD-07
#[test]
fn whatever_the_front_holds_copy_b_counts_where_copy_a_has_its_magic_and_uuid() {
    let storage = container(0);
    storage.write_all_at(&[0xe1; 512], IN_FRONT as u64).unwrap();
    let whole = storage.to_vec();
    for change in [(4005, 1, 0x5a), (3584, 512, 0xe1), (4096, 4096, 0xe1), (61_440, 512, 0)] {
        damage(&storage, 0, change);
        heal(&storage);
        assert!(storage.to_vec() == whole, "{change:?}");
    }
    damage(&storage, 0, (0, 512, 0xe1));
    let error = NativeHeader::read(&storage).unwrap_err();
    assert!(error.reason().contains("written at offset 69632"), "{error}");
    // What a check says beforehand.
    let findings = check::check(&MemoryStorage::new(whole)).unwrap();
    let front = findings.iter().find(|finding| finding.object == "front work area").unwrap();
    assert_eq!(front.severity, Severity::Warning);
}

// proves: NAT-RD-07
#[test]
fn a_sector_of_copy_a_that_repeats_a_boot_sectors_signature_is_a_damaged_one() {
    let storage = container(0);
    let whole = storage.to_vec();
    storage.write_all_at(&[0x55, 0xaa].repeat(256), 0).unwrap();
    heal(&storage);
    assert!(storage.to_vec() == whole);
    overwrite(&storage, 0, 510);
    storage.write_all_at(&[0x55, 0xaa], 510).unwrap();
    assert_eq!(NativeHeader::read(&storage).unwrap_err().kind(), ErrorKind::NotAContainer);
}

// proves: NAT-HF-08
#[test]
fn a_header_that_is_restored_where_none_was_clears_the_front() {
    let storage = container(0);
    let file = backup(&storage);
    for (start, end) in [(0, 81_920), (BACKUP, BACKUP + COPY_LEN)] {
        storage.write_all_at(&vec![0xe1; end - start], start as u64).unwrap();
    }
    let taken = Restore::from_file(&storage, &file).unwrap();
    assert_eq!(HeaderRestore::places(&taken).last(), Some(&(65_536..81_920)), "what goes is kept");
    restore(&storage, &file, 0).unwrap();
    assert!(storage.to_vec()[FRONT..81_920].iter().all(|&byte| byte == 0));
    damage(&storage, 0, (0, 512, 0xe1));
    heal(&storage);
    assert_eq!(states(&storage), [(CopyState::Current, Some(2)); 2]);
}

// proves: NAT-REENC-20
#[test]
fn a_closing_that_was_cut_off_is_finished_when_the_container_is_next_written() {
    let storage = container(0);
    let (header, unlocked) = open(&storage, 0);
    let key = &*unlocked.volume_key;
    let good = header.authentic(key).unwrap();
    let ended = good.updated(|raw| raw.superblock.generation = 2.into(), key).unwrap();
    update::write_update(&storage, good, key, &ended, key).unwrap();
    let ledger = ledger::Ledger::new(&ended.superblock, key).unwrap();
    ledger.close(&storage, 2, record::Trace::Leave, &Counting::default()).unwrap();
    let closed = storage.to_vec();
    assert_eq!(heal(&storage), Vec::<String>::new());
    // The journals, as they are where the last zeros did not all get there.
    for place in [FRONT + 8192, BACKUP + COPY_LEN + 8192] {
        storage.write_all_at(&[0xe1; 5000], place as u64).unwrap();
    }
    assert_eq!(heal(&storage), ["what an ended re-encryption had left in the work areas has been cleared"]);
    assert!(storage.to_vec() == closed);
    // What only passes for a closing record has nothing cleared.
    flip(&storage, FRONT + 4095, 1);
    flip(&storage, BACKUP + COPY_LEN + 4095, 1);
    storage.write_all_at(&[0xe1; 512], IN_FRONT as u64).unwrap();
    let before = storage.to_vec();
    let (header, unlocked) = open(&storage, 0);
    assert!(header.prepare_writing(&storage, &unlocked).is_err());
    assert!(storage.to_vec() == before);
}

// proves: NAT-HF-11
#[test]
fn a_damaged_preamble_that_names_another_container_is_not_made_anew() {
    let bytes = backup(&container(0)).to_vec();
    let other = container(1).to_vec();
    let spliced = |damage: usize| {
        let file = MemoryStorage::new(bytes.clone());
        file.write_all_at(&other[..COPY_LEN], 4096).unwrap();
        overwrite(&file, 4096 + COPY_LEN, COPY_LEN);
        flip(&file, damage, 1);
        HeaderFile::read(&file)
    };
    // The checksum; the magic, of which the rest stands; the uuid itself.
    for damage in [4090, 3, 30] {
        let error = spliced(damage).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.reason().contains("do not belong together"), "{error}");
        assert!(error.hint().unwrap().contains("another copy of the header file"), "{error:?}");
    }
}

// proves: NAT-HF-12
#[test]
fn nothing_is_written_under_a_header_file_beside_the_containers_own_header() {
    let container = Arc::new(container(0));
    let file = Arc::new(backup(&*container));
    let parsed = HeaderFile::read(&*file).unwrap();
    let overlay = || parsed.over(Arc::clone(&container) as Arc<dyn Storage>, Arc::clone(&file) as _).unwrap();
    let refused = || {
        let (header, unlocked) = open(&overlay(), 0);
        let errors = [
            header.prepare_writing(&overlay(), &unlocked).map(drop),
            header.editor(&unlocked).map(drop),
            header.faults(&unlocked).map(drop),
            Restore::from_file(&overlay(), &*file).map(drop),
        ];
        errors.map(|error| error.map_err(|error| error.kind()))
    };
    assert_eq!(refused(), [Err(ErrorKind::Usage); 4], "both copies");
    overwrite(&*container, 0, COPY_LEN);
    assert_eq!(refused(), [Err(ErrorKind::Usage); 4], "copy B alone");
    overwrite(&*container, BACKUP, COPY_LEN);
    assert_eq!(refused(), [Ok(()); 4], "none");
}

// proves: NAT-HF-12
#[test]
fn an_own_copy_that_opens_nothing_shuts_nobody_out_unless_it_is_newer() {
    for is_newer in [false, true] {
        for is_appended in [false, true] {
            let container = Arc::new(container(0));
            let file = Arc::new(backup(&*container));
            if is_newer {
                change_key(&*container, 0, 1);
            }
            // Something else in the place of copy A (NAT-RD-07), or more behind the end than is searched (NAT-RD-03).
            if is_appended {
                overwrite(&*container, 0, COPY_LEN);
                container.set_size(GEOMETRY.container_len + (4 << 20)).unwrap();
            } else {
                damage(&*container, 0, (0, COPY_LEN, 0xe1));
            }
            assert_eq!(NativeHeader::read(&*container).unwrap_err().kind(), ErrorKind::NotAContainer);
            let parsed = HeaderFile::read(&*file).unwrap();
            let overlay =
                parsed.over(Arc::clone(&container) as Arc<dyn Storage>, Arc::clone(&file) as _).unwrap();
            let (header, unlocked) = open(&overlay, 0);
            let before = container.to_vec();
            let opened = header.prepare_writing(&overlay, &unlocked);
            assert!(container.to_vec() == before, "written to");
            if is_newer {
                let error = opened.unwrap_err();
                assert!(error.hint().unwrap().contains("header repair --scan"), "{error:?}");
            } else {
                assert_eq!(opened.unwrap(), [] as [String; 0]);
                header.editor(&unlocked).unwrap();
            }
        }
    }
}

// proves: NAT-HF-06
#[test]
fn a_header_file_is_refused_beside_another_containers_copy_wherever_the_end_is() {
    let (first, second) = (container(0), container(1));
    let file = backup(&second);
    overwrite(&first, 0, COPY_LEN);
    first.set_size(GEOMETRY.container_len + (4 << 20)).unwrap();
    let error = HeaderFile::read(&file).unwrap().check_against(&first, &file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    // Nor is it restored there without a word.
    let restore = Restore::from_file(&first, &file).unwrap();
    let unlocked = restore.source().unlock(&key(0), &Attempt::default()).unwrap();
    let lost = HeaderRestore::loses(&restore, Some(&unlocked)).unwrap();
    assert!(lost.contains("copy B belongs to another container"), "{lost}");
}

// proves: NAT-HF-11
#[test]
fn a_damaged_preamble_is_made_anew_once_a_copy_is_authentic() {
    let whole = container(0);
    let bytes = backup(&whole).to_vec();
    overwrite(&whole, 0, COPY_LEN);
    overwrite(&whole, BACKUP, COPY_LEN);
    let container = Arc::new(whole);
    for (start, len, kept) in [(0, 512, bytes.len()), (100, 1, bytes.len()), (0, 4096, 4096 + COPY_LEN)] {
        let file = Arc::new(MemoryStorage::new(bytes[..kept].to_vec()));
        damage(&*file, 0, (start, len, 0xe1));
        let damaged = file.to_vec();
        let parsed = HeaderFile::read(&*file).unwrap();
        let overlay =
            parsed.over(Arc::clone(&container) as Arc<dyn Storage>, Arc::clone(&file) as _).unwrap();
        let (header, unlocked) = open(&overlay, 0);
        assert!(file.to_vec() == damaged, "reading has written");
        let done = header.prepare_writing(&overlay, &unlocked).unwrap();
        assert!(done.last().unwrap().contains("start of the header file"), "{done:?}");
        assert!(file.to_vec() == bytes, "{len} bytes at {start}");
    }
    assert!(HeaderFile::find(&*container).unwrap().is_none());
}

// proves: NAT-HF-08 NAT-HF-10
#[test]
fn the_backup_of_a_spliced_container_is_restored_by_force_and_nothing_else_is() {
    let (ours, other) = (container(0), container(1));
    let file = backup(&ours);
    splice(&other, &ours, 0);
    damage(&ours, BACKUP, (61_440, 512, 0xe1));
    let restore = Restore::from_file(&ours, &file).unwrap();
    let refusal = restore.refusal().unwrap();
    assert_eq!(
        (refusal.kind(), refusal.hint().unwrap().contains("header restore --force")),
        (ErrorKind::Usage, true)
    );
    let unlocked = restore.source().unlock(&key(0), &Attempt::default()).unwrap();
    restore.write(&ours, &unlocked).unwrap();
    let (header, unlocked) = open(&ours, 0);
    header.prepare_writing(&ours, &unlocked).unwrap();
    assert_eq!(header.copy_in_use().superblock.uuid, HeaderFile::read(&file).unwrap().uuid);
}

// proves: NAT-HF-08
#[test]
fn a_backup_that_a_removed_key_opens_is_not_restored_without_a_word() {
    let container = container(0);
    let file = backup(&container);
    let loses = |number: u8| {
        let restore = Restore::from_file(&container, &file).unwrap();
        let unlocked = restore.source().unlock(&key(number), &Attempt::default()).unwrap();
        HeaderRestore::loses(&restore, Some(&unlocked))
    };
    assert_eq!(loses(0), None);
    change_key(&container, 0, 1);
    assert!(loses(0).unwrap().contains("would work again"));
}

fn scanned(storage: &dyn Storage) -> Scan {
    scan(storage, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_scan_finds_a_shifted_container_and_tells_where_it_starts() {
    let shift = 3 * 512;
    let mut bytes = vec![0; shift];
    bytes.extend(container(0).to_vec());
    let storage = MemoryStorage::new(bytes);
    let found = scanned(&storage);
    let places: Vec<_> = found.whole.iter().map(|copy| (copy.offset, copy.container_start())).collect();
    assert_eq!(places, [(1536, 1536), (1536 + BACKUP as u64, 1536)]);
    assert!(!found.whole[0].is_in_place(storage.size().unwrap()));
}

#[test]
fn a_scan_finds_the_copy_whose_first_bytes_are_gone() {
    let storage = MemoryStorage::new(container(0).to_vec()[4096..].to_vec());
    let found = scanned(&storage);
    assert_eq!(found.whole.len(), 1);
    assert_eq!(found.whole[0].container_start(), -4096);
}

#[test]
fn a_copy_that_only_a_scan_finds_restores_the_header() {
    let container = container(0);
    overwrite(&container, 0, COPY_LEN);
    container.set_size(GEOMETRY.container_len + (3 << 20)).unwrap();
    assert_eq!(NativeHeader::read(&container).unwrap_err().kind(), ErrorKind::NotAContainer);
    let found = scanned(&container);
    assert!(found.whole[0].is_in_place(container.size().unwrap()));
    let restore = Restore::from_copy(&container, &found.whole[0].copy).unwrap();
    let unlocked = restore.source().unlock(&key(0), &Attempt::default()).unwrap();
    restore.write(&container, &unlocked).unwrap();
    assert!(opens(&container, 0));
}

#[test]
fn a_medium_full_of_signatures_is_looked_at_only_so_far() {
    let mut bytes = vec![0; 4 << 20];
    for place in bytes.chunks_mut(512) {
        place[..16].copy_from_slice(b"\x89STRONGROOM\r\n\x1a\n\0");
    }
    let found = scanned(&MemoryStorage::new(bytes));
    assert_eq!((found.whole.len(), found.broken, found.is_cut_short), (0, 4096, true));
}

/// A medium with a block of 4 KiB, at this offset, that cannot be read before it was written.
#[derive(Debug)]
struct BadBlock(MemoryStorage, Mutex<Option<u64>>);

impl BadBlock {
    fn new(bytes: Vec<u8>, offset: u64) -> Self {
        Self(MemoryStorage::new(bytes), Mutex::new(Some(offset)))
    }
}

impl Storage for BadBlock {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bad = *self.1.lock().unwrap();
        if bad.is_some_and(|bad| offset < bad + 4096 && offset + buf.len() as u64 > bad) {
            return Err(io::Error::other("bad block"));
        }
        self.0.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.1.lock().unwrap().take_if(|bad| (offset..offset + buf.len() as u64).contains(bad));
        self.0.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.0.punch_hole(range)
    }
    fn limits(&self) -> Limits {
        self.0.limits()
    }
}

#[test]
fn a_scan_goes_on_behind_what_cannot_be_read() {
    let mut bytes = vec![0; (1 << 20) + 8192];
    bytes.extend(container(0).to_vec());
    let found = scanned(&BadBlock::new(bytes, 1 << 20));
    assert_eq!((found.whole.len(), found.unreadable), (2, 4096));
}

// proves: NAT-RD-01
#[test]
fn a_copy_on_a_bad_block_leaves_the_other_to_open_and_is_written_anew() {
    for (bad, copy) in [(0, "A"), (8192, "A"), (BACKUP as u64 + 4096, "B")] {
        let storage = BadBlock::new(container(0).to_vec(), bad);
        let (header, unlocked) = open(&storage, 0);
        let done = header.prepare_writing(&storage, &unlocked).unwrap();
        assert_eq!(done, [format!("header copy {copy} was damaged and has been rewritten from the other")]);
        assert_eq!(states(&storage), [(CopyState::Current, Some(1)); 2]);
    }
}

#[test]
fn a_medium_that_gives_neither_copy_is_an_input_error() {
    let mut bytes = container(0).to_vec();
    bytes[BACKUP..BACKUP + 16].fill(0);
    let error = NativeHeader::read(&BadBlock::new(bytes, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn a_scan_that_is_stopped_is_an_interruption() {
    let error = scan(&container(0), &mut |_, _| std::ops::ControlFlow::Break(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

#[test]
fn a_backup_is_refused_where_the_medium_does_not_keep_it() {
    let taken = Backup::take(&container(0)).unwrap();
    let file = Recorded::new(HEADER_FILE_LEN, true);
    assert_eq!(taken.write(&file).unwrap_err().kind(), ErrorKind::Io);
    assert!(taken.write(&SimStorage::new(Vec::new())).is_ok());
}
