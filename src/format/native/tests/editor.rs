//! Changing keyslots: what is written, in which order, and what stays when a write fails.

use super::*;
use crate::{
    crypto::secret::{RECOVERY_KEY_LEN, RecoveryKey},
    format::{Change, Header, NewKeyslot, Priority, Unlocked},
};

const BACKUP: u64 = MIN_CONTAINER_LEN - (1 << 20);
/// The uuid in a copy.
const UUID: usize = 48;
/// The MAC in a copy.
const MAC: usize = 4_032;

/// A recovery key made of one byte: needs no costly derivation.
fn key_of(byte: u8) -> Credentials {
    Credentials::Recovery(RecoveryKey::copy_of(&[byte; RECOVERY_KEY_LEN]).unwrap())
}

fn slot_of(credentials: &Credentials) -> NewKeyslot<'_> {
    NewKeyslot { slot: None, label: None, priority: Priority::Normal, cost: CHEAP.into(), credentials }
}

/// Counts up across all tests, so that no two salts are the same.
fn rng() -> &'static Counting {
    static RNG: Counting = Counting(AtomicU64::new(1 << 20));
    &RNG
}

/// A container whose keyslot 0 opens with `key_of(0)`.
fn container() -> MemoryStorage {
    let storage = MemoryStorage::default();
    storage.set_size(MIN_CONTAINER_LEN).unwrap();
    let new = new_container(CHEAP, Provision::Thick);
    NewHeader::new(&new, &key_of(0), rng()).unwrap().write(&storage).unwrap();
    storage
}

fn open(storage: &dyn Storage, byte: u8) -> Result<(Box<dyn Header>, Unlocked)> {
    let header = Native.read_header(storage)?;
    let unlocked = header.unlock(&key_of(byte), &Attempt::default())?;
    Ok((header, unlocked))
}

fn editor(storage: &dyn Storage) -> Box<dyn crate::format::Editor> {
    let (header, unlocked) = open(storage, 0).unwrap();
    header.editor(&unlocked).unwrap()
}

fn edited(storage: &dyn Storage, byte: u8) -> Box<dyn crate::format::Editor> {
    let mut editor = editor(storage);
    editor.add(&slot_of(&key_of(byte)), rng()).unwrap();
    editor
}

fn slots(storage: &dyn Storage) -> Vec<u32> {
    let slots = Native.read_header(storage).unwrap().describe().keyslots;
    slots.iter().map(|slot| slot.slot).collect()
}

fn bytes_at(storage: &MemoryStorage, offset: u64) -> Vec<u8> {
    let mut bytes = vec![0; COPY_LEN];
    storage.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// Rewrites both copies as the owner of the key would, after `change`.
fn reseal(storage: &MemoryStorage, change: impl Fn(&mut layout::RawCopy)) {
    let (_, unlocked) = open(storage, 0).unwrap();
    let key = &unlocked.volume_key;
    let old = HeaderCopy::parse(&bytes_at(storage, 0)).unwrap();
    let new = old.updated(change, key).unwrap();
    new.write(storage).unwrap();
    new.for_index(CopyIndex::B, key).unwrap().write(storage).unwrap();
}

#[test]
fn an_added_keyslot_takes_the_first_empty_place_and_opens() {
    let storage = container();
    let mut editor = editor(&storage);
    let far = key_of(1);
    let at_two =
        NewKeyslot { slot: Some(2), label: Some("bank"), priority: Priority::Prefer, ..slot_of(&far) };
    assert_eq!(editor.add(&at_two, rng()).unwrap(), 2);
    assert_eq!(editor.add(&slot_of(&key_of(2)), rng()).unwrap(), 1);
    assert_eq!(slots(&storage), [0], "nothing is written before the commit");
    editor.commit(&storage).unwrap();

    for (byte, slot) in [(0, 0), (1, 2), (2, 1)] {
        assert_eq!(open(&storage, byte).unwrap().1.keyslot, Some(slot));
    }
    let info = Native.read_header(&storage).unwrap().describe();
    assert_eq!(info.keyslots[2].label.as_deref(), Some("bank"));
    assert_eq!(info.keyslots[2].priority, Some(Priority::Prefer));
    assert!(info.headers.iter().all(|copy| copy.sequence == Some(2)));
}

#[test]
fn a_keyslot_in_use_is_not_added_over() {
    let storage = container();
    let error =
        editor(&storage).add(&NewKeyslot { slot: Some(0), ..slot_of(&key_of(1)) }, rng()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    let error =
        editor(&storage).add(&NewKeyslot { slot: Some(30), ..slot_of(&key_of(1)) }, rng()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn a_thirty_first_keyslot_finds_no_place() {
    let storage = container();
    let mut editor = editor(&storage);
    for byte in 1..30 {
        editor.add(&slot_of(&key_of(byte)), rng()).unwrap();
    }
    assert_eq!(editor.add(&slot_of(&key_of(30)), rng()).unwrap_err().kind(), ErrorKind::NoSpace);
    editor.commit(&storage).unwrap();
    assert_eq!(open(&storage, 29).unwrap().1.keyslot, Some(29));
}

#[test]
fn a_replaced_keyslot_opens_with_the_new_key_only() {
    let storage = container();
    let volume_key = open(&storage, 0).unwrap().1.volume_key.expose().to_vec();
    let mut editor = editor(&storage);
    editor.replace(0, &slot_of(&key_of(9)), rng()).unwrap();
    editor.commit(&storage).unwrap();
    assert_eq!(open(&storage, 0).unwrap_err().kind(), ErrorKind::Credentials);
    assert_eq!(open(&storage, 9).unwrap().1.volume_key.expose(), volume_key, "the data stays as it is");
}

#[test]
fn an_empty_keyslot_is_neither_replaced_nor_removed() {
    let storage = container();
    let mut editor = editor(&storage);
    let error = editor.replace(5, &slot_of(&key_of(1)), rng()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(editor.remove(5, true).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(editor.remove(30, true).unwrap_err().kind(), ErrorKind::Usage);
}

// proves: NAT-SB-11
#[test]
fn a_label_from_before_is_kept_and_no_such_label_is_chosen() {
    let storage = container();
    let credentials = key_of(0);
    let heart = "\u{2764}\u{fe0f}";
    let header = NativeHeader::read(&storage).unwrap();
    let unlocked = header.unlock(&credentials, &Attempt::default()).unwrap();
    let good = header.authentic(&unlocked.volume_key).unwrap();
    // As an earlier version sealed it: nothing in the slot's key depends on what is allowed now.
    let slot = NewKeyslot { slot: Some(1), label: Some(heart), ..slot_of(&credentials) };
    let slot =
        keyslot::seal(1, &slot, &good.superblock.uuid, &unlocked.volume_key, &Counting::default()).unwrap();
    let changed = good.updated(|raw| raw.keyslots[1] = slot, &unlocked.volume_key).unwrap();
    let key = &*unlocked.volume_key;
    update::write_update(&storage, good, key, &changed, key).unwrap();

    let header = Native.read_header(&storage).unwrap();
    assert_eq!(header.describe().keyslots[1].label.as_deref(), Some(heart));
    let mut editor = header.editor(&unlocked).unwrap();
    let rng = Counting::default();
    editor.replace(1, &NewKeyslot { label: Some(heart), ..slot_of(&credentials) }, &rng).unwrap();
    let refused = [
        editor.replace(0, &NewKeyslot { label: Some(heart), ..slot_of(&credentials) }, &rng),
        editor.add(&NewKeyslot { label: Some(heart), ..slot_of(&credentials) }, &rng).map(drop),
    ];
    assert!(
        refused.iter().all(|result| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Usage))
    );
}

#[test]
fn what_needs_no_secret_is_refused_without_one() {
    let header = Native.read_header(&container()).unwrap();
    let kind = |change| header.check_change(&change).map_err(|error| error.kind());
    let long = "x".repeat(65);
    for label in
        [long.as_str(), "\u{1b}[2J", "a\u{ad}", "\u{3164}", "\u{2764}\u{fe0f}", "\u{e0041}", "a\u{a0}b"]
    {
        let label = Some(label);
        assert_eq!(kind(Change::Add { slot: None, label }), Err(ErrorKind::Usage));
        assert_eq!(kind(Change::Replace { slot: 0, label }), Err(ErrorKind::Usage));
    }
    assert_eq!(kind(Change::Add { slot: Some(0), label: None }), Err(ErrorKind::Exists));
    assert_eq!(kind(Change::Replace { slot: 1, label: None }), Err(ErrorKind::Usage));
    assert_eq!(kind(Change::Remove { slot: 0, lock_out: false }), Err(ErrorKind::Usage));
    assert_eq!(kind(Change::Remove { slot: 0, lock_out: true }), Ok(()));
    assert_eq!(kind(Change::Add { slot: Some(29), label: Some("bank") }), Ok(()));
}

#[test]
fn a_removed_keyslot_is_nowhere_on_the_medium() {
    let storage = container();
    edited(&storage, 1).commit(&storage).unwrap();
    let slot = 4_096 + 2_048;
    let (salt, wrapped_key) = (slot + 32..slot + 64, slot + 152..slot + 216);
    let doomed = [salt, wrapped_key].map(|field| bytes_at(&storage, 0)[field].to_vec());
    let mut editor = editor(&storage);
    editor.remove(1, false).unwrap();
    editor.commit(&storage).unwrap();
    assert_eq!(open(&storage, 1).unwrap_err().kind(), ErrorKind::Credentials);
    let left = storage.to_vec();
    for secret in doomed {
        assert!(!left.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn the_last_keyslot_goes_only_with_the_will_to_lock_everybody_out() {
    let storage = container();
    let mut editor = editor(&storage);
    assert_eq!(editor.remove(0, false).unwrap_err().kind(), ErrorKind::Usage);
    editor.remove(0, true).unwrap();
    editor.commit(&storage).unwrap();
    assert_eq!(slots(&storage), [0_u32; 0]);
}

#[test]
fn a_keyslot_of_an_unknown_kind_does_not_count_as_one_that_remains() {
    let storage = container();
    reseal(&storage, |raw| raw.keyslots[7].kind = 77.into());
    assert_eq!(editor(&storage).remove(0, false).unwrap_err().kind(), ErrorKind::Usage);
    editor(&storage).remove(7, false).unwrap();
}

// proves: NAT-UPD-05
#[test]
fn what_this_version_does_not_know_is_carried_over_byte_for_byte() {
    let storage = container();
    reseal(&storage, |raw| {
        raw.superblock.features_ignorable = 0x8001.into();
        raw.keyslots[7].kind = 77.into();
        raw.keyslots[7].priority = 9.into();
        raw.keyslots[7].extra = [0xa5; 1_816];
    });
    let before = bytes_at(&storage, 0);
    edited(&storage, 1).commit(&storage).unwrap();
    for offset in [0, BACKUP] {
        let after = bytes_at(&storage, offset);
        let slot = 4_096 + 7 * 2_048;
        assert_eq!(after[slot..slot + 2_048], before[slot..slot + 2_048]);
        assert_eq!(after[40..48], before[40..48]);
    }
}

/// The offsets of the writes and the syncs between them.
fn writes(storage: &Recorded) -> Vec<Call> {
    let calls = storage.calls.lock().unwrap();
    let start = calls.iter().position(|call| matches!(call, Call::Write(_))).unwrap();
    calls[start..].to_vec()
}

fn recorded(bytes: &MemoryStorage) -> Recorded {
    let storage = Recorded::new(0, false);
    storage.memory.write_all_at(&bytes.to_vec(), 0).unwrap();
    storage
}

// proves: NAT-UPD-03
#[test]
fn an_update_writes_copy_a_only_as_what_copy_b_says() {
    // Whole copies stand by: the one in use is written again before the other is touched (NAT-UPD-07).
    // A copy that stands already is written in one go, another one in four (NAT-UPD-02).
    let written = |at, times| (0..times).flat_map(move |_| [Call::Write(at), Call::Sync]);
    let in_order = |again: u64, others: &[u64]| {
        let mut calls: Vec<Call> = written(again, 1).chain([Call::Read(again)]).collect();
        for &at in others {
            calls.extend([Call::Read(at)].into_iter().chain(written(at, 4)).chain([Call::Read(at)]));
        }
        calls
    };
    let b_first = in_order(0, &[BACKUP, 0]);
    let a_up_first = in_order(BACKUP, &[0, BACKUP, 0]);

    let old = container();
    let storage = recorded(&old);
    edited(&storage, 1).commit(&storage).unwrap();
    assert_eq!(writes(&storage), b_first, "two current copies");

    // What a power cut between the two writes leaves: copy B is the newer one.
    let stale = bytes_at(&old, 0);
    edited(&old, 1).commit(&old).unwrap();
    old.write_all_at(&stale, 0).unwrap();
    let storage = recorded(&old);
    edited(&storage, 2).commit(&storage).unwrap();
    assert_eq!(writes(&storage), a_up_first, "copy A stale");

    // Copy A whole to the eye, but not authentic: copy B is the only good one.
    let mut forged = bytes_at(&old, BACKUP);
    forged[136] = 0;
    let parsed = forged_checksum(&mut forged);
    assert!(parsed.is_ok(), "{parsed:?}");
    old.write_all_at(&forged, 0).unwrap();
    let storage = recorded(&old);
    edited(&storage, 2).commit(&storage).unwrap();
    assert_eq!(writes(&storage), a_up_first, "copy A without its MAC");
}

/// Makes the checksum of a changed copy right; its MAC stays wrong.
fn forged_checksum(copy: &mut [u8]) -> std::result::Result<HeaderCopy, HeaderError> {
    let mac = copy[MAC..4_096].to_vec();
    copy[4_000..4_096].fill(0);
    let sum = crate::crypto::hash::sha256(&[copy]);
    copy[4_000..4_032].copy_from_slice(&sum);
    copy[MAC..4_096].copy_from_slice(&mac);
    HeaderCopy::parse(copy)
}

// proves: NAT-UPD-06
#[test]
fn a_header_that_somebody_changed_meanwhile_is_left_alone() {
    let storage = container();
    let late = edited(&storage, 2);
    edited(&storage, 1).commit(&storage).unwrap();
    let before = storage.to_vec();
    assert_eq!(late.commit(&storage).unwrap_err().kind(), ErrorKind::Busy);
    assert!(storage.to_vec() == before);
}

// proves: NAT-UPD-06
#[test]
fn a_copy_of_another_container_is_left_alone() {
    let storage = container();
    let editor = edited(&storage, 1);
    let mut foreign = bytes_at(&storage, BACKUP);
    foreign[UUID] ^= 1;
    forged_checksum(&mut foreign).unwrap();
    storage.write_all_at(&foreign, BACKUP).unwrap();
    let before = storage.to_vec();
    let error = editor.commit(&storage).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(storage.to_vec() == before);
}

#[test]
fn a_header_at_the_end_of_its_sequence_is_not_updated() {
    let storage = container();
    reseal(&storage, |raw| raw.superblock.sequence = u64::MAX.into());
    let error = edited(&storage, 1).commit(&storage).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(open(&storage, 0).unwrap().1.keyslot, Some(0));
}

/// Memory that cannot be written at one offset: the first 4 KiB get through.
#[derive(Debug)]
struct Failing {
    memory: MemoryStorage,
    at: u64,
}

impl Storage for Failing {
    fn size(&self) -> io::Result<u64> {
        self.memory.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.memory.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut there = vec![0; buf.len()];
        self.memory.read_exact_at(&mut there, offset)?;
        if offset != self.at || there == buf {
            return self.memory.write_all_at(buf, offset);
        }
        self.memory.write_all_at(&buf[..buf.len().min(4_096)], offset)?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.memory.set_size(size)
    }
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.memory.punch_hole(range)
    }
    fn limits(&self) -> Limits {
        self.memory.limits()
    }
}

// proves: NAT-UPD-03
#[test]
fn a_failing_first_write_leaves_the_other_copy_alone() {
    let storage = Failing { memory: container(), at: BACKUP };
    let copy_a = bytes_at(&storage.memory, 0);
    let error = edited(&storage, 1).commit(&storage).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(bytes_at(&storage.memory, 0) == copy_a);
    assert_eq!(open(&storage, 1).unwrap_err().kind(), ErrorKind::Credentials);
    assert_eq!(open(&storage, 0).unwrap().1.keyslot, Some(0));
}

// proves: NAT-UPD-03
#[test]
fn a_failing_second_write_says_that_the_change_is_in_force() {
    let storage = Failing { memory: container(), at: 0 };
    let mut editor = editor(&storage);
    editor.replace(0, &slot_of(&key_of(1)), rng()).unwrap();
    let error = editor.commit(&storage).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.reason().contains("the change is in force"), "{error}");
    assert_eq!(open(&storage, 1).unwrap().1.keyslot, Some(0));
}
