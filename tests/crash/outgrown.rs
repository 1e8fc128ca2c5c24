//! Headers from before a growth, put back in every way: they do not write into what the container has gained.

use std::{ops::Range, sync::Arc};

use strongroom::{
    ErrorKind, Result,
    format::{
        Attempt, CopyState, Format, Header, HeaderRestore,
        native::{Backup, Native, Provision, Restore},
    },
    storage::{MemoryStorage, SimStorage, Storage},
};

use crate::{
    container::{
        COPY_LEN, Counting, GEOMETRY, content, copy_states, edit, key, open_for_writing, openers, slot,
        unlock,
    },
    resize::{before, grow},
};

const MORE: u64 = COPY_LEN + 32_768;
const NEW_LEN: u64 = GEOMETRY.container_len + MORE;
const NEW_BACKUP: u64 = GEOMETRY.backup_offset + MORE;
const END: Range<u64> = NEW_BACKUP..NEW_LEN;

/// What was there before the growth, and what is there now: with noise in all of what is new.
struct Grown {
    old: SimStorage,
    now: SimStorage,
    backup: MemoryStorage,
    content: Vec<u8>,
}

fn grown() -> Grown {
    let old = before(Provision::Quick);
    let backup = MemoryStorage::default();
    Backup::take(&old).unwrap().write(&backup).unwrap();
    let now = SimStorage::clone(&old);
    grow(&now, NEW_LEN).unwrap();
    let noise: Vec<u8> = (0..MORE).map(|at| (at * 11 + 3).to_le_bytes()[0] | 1).collect();
    now.write_all_at(&noise, GEOMETRY.backup_offset).unwrap();
    now.sync_data().unwrap();
    let content = content(&now, 0);
    Grown { old, now, backup, content }
}

impl Grown {
    /// The container now, with these bytes from before.
    fn with_old(&self, ranges: &[Range<u64>]) -> SimStorage {
        let medium = SimStorage::clone(&self.now);
        for range in ranges {
            let bytes = &self.old.live()[at(range.start)..at(range.end)];
            medium.write_all_at(bytes, range.start).unwrap();
        }
        medium.sync_data().unwrap();
        medium
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

fn spoil(medium: &SimStorage, range: Range<u64>, byte: u8) {
    medium.write_all_at(&vec![byte; at(range.end - range.start)], range.start).unwrap();
    medium.sync_data().unwrap();
}

/// It opens read-only, and refuses to be opened for writing; nothing has been written.
fn assert_refused(medium: &SimStorage, how: &str) {
    let there = medium.live();
    let refused = open_for_writing(medium, &[0]).err();
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Damaged), "{how}");
    assert!(unlock(medium, 0).is_ok(), "{how}");
    assert!(edit(medium, |editor| editor.remove(1, false).unwrap()).is_err(), "{how}");
    assert!(*medium.live() == *there, "{how}");
}

// proves: NAT-GEO-06, NAT-SIZE-05
#[test]
fn an_old_copy_a_beside_a_damaged_newer_copy_b_is_not_written_under() {
    let grown = grown();
    let starts = [0..4096, 0..COPY_LEN, 0..COPY_LEN + 8192, 0..GEOMETRY.data_offset];
    for start in starts {
        for byte in [0, 0xa5] {
            let blocks = (NEW_BACKUP..NEW_BACKUP + COPY_LEN).step_by(4096).map(|block| block..block + 4096);
            let halves = [END.start..END.start + COPY_LEN, END.start..END.start + 8192, END];
            for bad in blocks.chain(halves) {
                let medium = grown.with_old(std::slice::from_ref(&start));
                spoil(&medium, bad.clone(), byte);
                assert_refused(&medium, &format!("{start:?} old, {bad:?} filled with {byte:#x}"));
            }
        }
    }
}

// proves: NAT-SIZE-05
#[test]
fn an_old_header_that_the_records_date_shows_the_whole_volume() {
    let grown = grown();
    for start in [0..COPY_LEN, 0..GEOMETRY.data_offset] {
        let medium = grown.with_old(std::slice::from_ref(&start));
        spoil(&medium, NEW_BACKUP..NEW_BACKUP + 4096, 0);
        assert!(content(&medium, 0) == grown.content);
    }
}

// proves: NAT-RD-02, NAT-SIZE-03
#[test]
fn a_newer_copy_b_that_is_whole_counts_whatever_was_put_back_before_it() {
    let grown = grown();
    let old_b = GEOMETRY.backup_offset..GEOMETRY.backup_offset + COPY_LEN;
    let starts: [Vec<Range<u64>>; 3] =
        [4096, COPY_LEN, GEOMETRY.data_offset].map(|end| std::iter::once(0..end).collect());
    let both = vec![0..GEOMETRY.data_offset, old_b];
    for ranges in starts.iter().chain([&both]) {
        let medium = grown.with_old(ranges);
        let there = content(&medium, 0);
        assert_eq!(there.len(), grown.content.len(), "{ranges:?}");
        open_for_writing(&medium, &[0]).unwrap();
        assert_eq!(copy_states(&medium), [CopyState::Current; 2], "{ranges:?}");
        assert_eq!(openers(&medium, &[0, 1]), [0, 1], "{ranges:?}");
        // Where the old copy B lay there are data: of those nothing is cleared.
        let kept = content(&medium, 0);
        let data = at(GEOMETRY.data_len)..;
        if ranges.len() == 1 {
            assert!(kept == grown.content, "{ranges:?}");
        } else {
            let behind = at(GEOMETRY.data_len + COPY_LEN)..;
            assert!(
                kept[data][..at(COPY_LEN)] != there[at(GEOMETRY.data_len)..][..at(COPY_LEN)],
                "{ranges:?}"
            );
            assert!(kept[behind.clone()] == grown.content[behind], "{ranges:?}");
        }
    }
}

/// As `header restore` does once its user has agreed.
fn restore(medium: &SimStorage, backup: &MemoryStorage) -> Result<()> {
    let restore = Restore::from_file(medium, backup)?;
    let unlocked = restore.source().unlock(&key(0), &Attempt::default())?;
    restore.check(Some(&unlocked))?;
    restore.write(medium, &unlocked)
}

// proves: NAT-SIZE-06, NAT-HF-08
#[test]
fn an_old_backup_brings_back_its_keyslots_and_leaves_the_size() {
    let grown = grown();
    let place = |offset: u64| offset..offset + COPY_LEN;
    let lost: [&[Range<u64>]; 5] = [
        &[],
        &[place(0)],
        &[place(NEW_BACKUP)],
        &[place(0), place(NEW_BACKUP)],
        // Of the records only that in the front is left.
        &[place(0), END],
    ];
    for ranges in lost {
        let medium = SimStorage::clone(&grown.now);
        edit(&medium, |editor| {
            editor.replace(1, &slot(None, &key(2)), &Counting::default()).unwrap();
        })
        .unwrap();
        for range in ranges {
            spoil(&medium, range.clone(), 0);
        }
        restore(&medium, &grown.backup).unwrap_or_else(|error| panic!("{ranges:?}: {error}"));
        assert_eq!(openers(&medium, &[0, 1, 2]), [0, 1], "{ranges:?}");
        assert!(content(&medium, 0) == grown.content, "{ranges:?}");
        open_for_writing(&medium, &[0]).unwrap();
        assert_eq!(copy_states(&medium), [CopyState::Current; 2], "{ranges:?}");
    }
}

// proves: NAT-HF-08
#[test]
fn an_old_backup_takes_its_owners_word_where_nothing_tells_the_size() {
    let grown = grown();
    let medium = SimStorage::clone(&grown.now);
    spoil(&medium, 0..GEOMETRY.data_offset, 0);
    spoil(&medium, END, 0);
    let restore = Restore::from_file(&medium, &grown.backup).unwrap();
    let unlocked = restore.source().unlock(&key(0), &Attempt::default()).unwrap();
    let lost = restore.loses(Some(&unlocked)).unwrap();
    assert!(lost.contains("if it has grown since"), "{lost}");
}

// proves: NAT-HF-06, NAT-HF-12
#[test]
fn an_old_header_file_opens_nothing_for_writing() {
    let grown = grown();
    let over = |medium: &SimStorage| {
        let file = Arc::new(MemoryStorage::new(grown.backup.to_vec()));
        Native.attach(Arc::new(SimStorage::clone(medium)), file).map(Option::unwrap)
    };
    assert_eq!(over(&grown.now).unwrap_err().kind(), ErrorKind::Usage);
    let medium = SimStorage::clone(&grown.now);
    spoil(&medium, 0..COPY_LEN, 0);
    spoil(&medium, NEW_BACKUP..NEW_BACKUP + COPY_LEN, 0);
    let attached = over(&medium).unwrap();
    let header = Native.read_header(&*attached).unwrap();
    let unlocked = header.unlock(&key(0), &Attempt::default()).unwrap();
    assert_eq!(header.prepare_writing(&*attached, &unlocked).unwrap_err().kind(), ErrorKind::Damaged);
}

// proves: NAT-GEO-06
#[test]
fn a_cut_off_update_of_copy_b_before_a_surplus_is_healed() {
    let medium = before(Provision::Quick);
    medium.set_size(NEW_LEN).unwrap();
    let place = GEOMETRY.backup_offset;
    for torn in [16, 4096 - 64] {
        let torn_medium = SimStorage::clone(&medium);
        // The first steps of an update: its uuid stays, or the rest of it.
        let uuid = torn_medium.live()[at(place) + 48..at(place) + 64].to_vec();
        spoil(&torn_medium, place..place + torn, 0);
        torn_medium.write_all_at(&uuid, place + 48).unwrap();
        open_for_writing(&torn_medium, &[0]).unwrap();
        assert_eq!(copy_states(&torn_medium), [CopyState::Current; 2]);
    }
    spoil(&medium, place..place + COPY_LEN, 0);
    assert_refused(&medium, "no trace of copy B");
}
