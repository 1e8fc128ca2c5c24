//! A container that was re-encrypted before: what the work areas hold of that, and what of a re-encryption that was another's.

use super::{
    records::{AREAS, HEADER_LEN, TAIL_LEN, bytes_of, memory},
    *,
};
use crate::format::{
    Header as _, HeaderRestore as _,
    native::{Backup, Restore},
};

/// How the re-encryption before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// With the closing record.
    Closed,
    /// Cut off before the work areas were overwritten, as by the first programs too: the records are there.
    Left,
    /// The same by the first programs: the last chunk's record stands in slot 0, before the idle one at the end.
    Unretired,
    /// Cut off while the closing record was written: it is torn in the tail.
    TornInOne,
    /// The same; it is torn in both work areas.
    TornInBoth,
    /// Cut off while the first programs overwrote them with zeros: what a power cut leaves of a sector is all or nothing.
    HalfErased,
    /// By the first programs, or with nothing left in the container.
    Erased,
}

impl Before {
    const ALL: [Self; 7] = [
        Self::Closed,
        Self::Left,
        Self::Unretired,
        Self::TornInOne,
        Self::TornInBoth,
        Self::HalfErased,
        Self::Erased,
    ];
}

/// Also gives the container as it was before the last step.
fn work_to_the_end(fixture: &Fixture) -> (Arc<dyn Storage>, Reencryption, Vec<u8>) {
    let storage = memory(fixture.bytes.clone());
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    let mut before = bytes_of(&storage);
    while work.step().unwrap() != Step::AtTheEnd {
        before = bytes_of(&storage);
    }
    work.rest().unwrap();
    (storage, work, before)
}

/// The container after a whole re-encryption, and a start header for the next one.
fn next(fixture: &Fixture, before: Before) -> Fixture {
    let (storage, mut work, in_the_last_chunk) = work_to_the_end(fixture);
    let at_the_end = bytes_of(&storage);
    work.finish().unwrap();
    let mut bytes = bytes_of(&storage);
    for area in AREAS {
        let slots = area..area + 8192;
        match before {
            Before::Closed => {}
            Before::Left => bytes[slots.clone()].copy_from_slice(&at_the_end[slots]),
            Before::Unretired => {
                bytes[slots.clone()].copy_from_slice(&at_the_end[slots]);
                bytes[area..area + 4096].copy_from_slice(&in_the_last_chunk[area..area + 4096]);
            }
            Before::TornInOne if area == AREAS[0] => {}
            Before::TornInOne | Before::TornInBoth => {
                bytes[area + 4096..area + 8192].copy_from_slice(&at_the_end[area + 4096..area + 8192]);
                bytes[area + 4095] ^= 1;
            }
            Before::HalfErased => {
                bytes[slots.clone()].copy_from_slice(&at_the_end[slots]);
                for slot in [area, area + 4096] {
                    bytes[slot + 3584..slot + 4096].fill(0);
                }
            }
            Before::Erased => bytes[slots].fill(0),
        }
    }
    start_of(bytes, fixture)
}

/// The same container, with a start header for a re-encryption under a fresh key.
fn start_of(bytes: Vec<u8>, last: &Fixture) -> Fixture {
    let storage = memory(bytes.clone());
    let is_first = bytes == last.bytes;
    let old_key = if is_first { last.old_key.clone() } else { last.new_key.clone() };
    let header = NativeHeader::read(&*storage).unwrap();
    let unlocked = unlock(&*storage, &old_key).unwrap();
    let credentials =
        Credentials::Password { password: Password::copy_of(b"open sesame").unwrap(), keyfiles: Vec::new() };
    let cost = Argon2Cost { memory_kib: MIN_MEMORY_KIB, passes: MIN_PASSES, lanes: 1 };
    let slot = NewKeyslot {
        slot: None,
        label: None,
        priority: Priority::Normal,
        cost: cost.into(),
        credentials: &credentials,
    };
    let start = StartHeader::new(&header, &unlocked, header.target(), &[slot], &OsRng).unwrap();
    let (new_key, start) = (start.volume_key().expose().to_vec(), start.as_bytes().to_vec());
    Fixture { bytes, plaintext: last.plaintext.clone(), old_key, new_key, start }
}

fn can_be_written(image: &[u8], key: &[u8]) -> Result<Vec<String>> {
    let storage = memory(image.to_vec());
    let unlocked = unlock(&*storage, key)?;
    let done = Native.read_header(&*storage)?.prepare_writing(&*storage, &unlocked);
    assert!(done.is_ok() || bytes_of(&storage) == image, "refused, and written to");
    done
}

// proves: NAT-UPD-11 NAT-REENC-10
#[test]
fn a_power_cut_in_the_next_reencryption_shuts_nobody_out() {
    for before in Before::ALL {
        let fixture = next(&fixture(CASES[0]), before);
        assert_eq!(
            can_be_written(&fixture.bytes, &fixture.old_key).unwrap(),
            [] as [String; 0],
            "{before:?}"
        );
        let mut cuts = 0;
        let whole = Crashing::new(fixture.bytes.clone(), usize::MAX);
        run_to_the_end(&(Arc::clone(&whole) as Arc<dyn Storage>), &fixture).unwrap();
        let total = whole.used(usize::MAX);
        // What was there before shows at the start alone.
        let is_first = before == Before::Closed;
        let end = if is_first { total.saturating_sub(30)..total } else { 0..0 };
        let seeds = if is_first { 4 } else { 2 };
        for left in (0..total.min(60)).chain(end) {
            let power = Crashing::new(fixture.bytes.clone(), left);
            run_to_the_end(&(Arc::clone(&power) as Arc<dyn Storage>), &fixture).unwrap_err();
            for seed in 0..seeds {
                let what = format!("{before:?}, cut at {left}, seed {seed}");
                check(power.image(seed), &fixture, &fixture.plaintext, &what);
            }
            cuts += 1;
        }
        assert!(cuts >= 60, "{cuts}");
    }
}

fn run_to_the_end(storage: &Arc<dyn Storage>, fixture: &Fixture) -> Result<Outcome> {
    Reencryption::start(Arc::clone(storage), &fixture.start_header(), TUNING)?
        .run(&mut Pace::new(None), &mut unseen)
}

// proves: NAT-UPD-11 NAT-REENC-20
#[test]
fn a_power_cut_at_an_end_without_a_trace_shuts_nobody_out() {
    for case in [CASES[0], CASES[1]] {
        let fixture = fixture(case);
        let run = |storage: Arc<dyn Storage>| {
            let mut work = Reencryption::start(storage, &fixture.start_header(), TUNING)?;
            work.leave(Trace::Remove);
            work.run(&mut Pace::new(None), &mut unseen)
        };
        let whole = Crashing::new(fixture.bytes.clone(), usize::MAX);
        run(Arc::clone(&whole) as Arc<dyn Storage>).unwrap();
        let total = whole.used(usize::MAX);
        for left in total - 20..total {
            let power = Crashing::new(fixture.bytes.clone(), left);
            run(Arc::clone(&power) as Arc<dyn Storage>).unwrap_err();
            for seed in 0..16 {
                can_be_written(&power.image(seed), &fixture.new_key)
                    .unwrap_or_else(|error| panic!("{case:?}, cut at {left}, seed {seed}: {error}"));
            }
        }
    }
}

/// The image with the header copies of another one.
fn under_header_of(image: &[u8], header: &[u8], copies: [bool; 2]) -> Vec<u8> {
    let mut image = image.to_vec();
    let places = [0, image.len() - TAIL_LEN];
    for (place, is_there) in places.into_iter().zip(copies) {
        let place = place..place + HEADER_LEN;
        if is_there {
            image[place.clone()].copy_from_slice(&header[place]);
        } else {
            image[place].fill(0);
        }
    }
    image
}

// proves: NAT-UPD-11
#[test]
fn a_newer_header_of_another_reencryption_is_not_written_under() {
    let first = fixture(CASES[0]);
    let second = next(&first, Before::Closed);
    let third = {
        let storage = memory(second.bytes.clone());
        run_to_the_end(&storage, &second).unwrap();
        bytes_of(&storage)
    };
    // A copy of the container, which was re-encrypted on its own.
    let other = start_of(first.bytes.clone(), &first);
    let clone = next(&other, Before::Closed);
    let middle = {
        let storage = memory(first.bytes.clone());
        let mut work = Reencryption::start(Arc::clone(&storage), &first.start_header(), TUNING).unwrap();
        for _ in 0..3 {
            assert_eq!(work.step().unwrap(), Step::Moved);
        }
        work.rest().unwrap();
        bytes_of(&storage)
    };
    let cases = [
        ("generation 4 on data of generation 2", &second.bytes, &third, &second.new_key),
        ("a clone's generation 2 on data of the middle", &middle, &clone.bytes, &other.new_key),
    ];
    for (what, data, header, key) in cases {
        for copies in [[true, true], [true, false], [false, true]] {
            let image = under_header_of(data, header, copies);
            let error = can_be_written(&image, key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{what}, {copies:?}: {error}");
            assert!(error.reason().contains("do not belong to this header"), "{what}, {copies:?}: {error}");
            let storage = memory(image);
            let unlocked = unlock(&*storage, key).unwrap();
            let header = Native.read_header(&*storage).unwrap();
            assert!(header.editor(&unlocked).is_err() && !header.warnings(&unlocked).is_empty(), "{what}");
        }
    }
}

// proves: NAT-HF-08
#[test]
fn a_header_file_from_the_middle_is_restored_by_force_where_its_records_are() {
    let fixture = fixture(CASES[0]);
    let storage = memory(fixture.bytes.clone());
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    for _ in 0..3 {
        assert_eq!(work.step().unwrap(), Step::Moved);
    }
    work.rest().unwrap();
    let middle = bytes_of(&storage);
    let file = MemoryStorage::default();
    Backup::take(&*memory(fixture.bytes.clone())).unwrap().write(&file).unwrap();
    let mut header = file.to_vec();
    header[4096..][..HEADER_LEN].copy_from_slice(&middle[..HEADER_LEN]);
    let backup = middle.len() - TAIL_LEN;
    header[4096 + HEADER_LEN..].copy_from_slice(&middle[backup..][..HEADER_LEN]);
    let file = MemoryStorage::new(header);

    let key = || VolumeKey::copy_of(&fixture.new_key).unwrap();
    for (what, is_old) in [("both copies lost", false), ("copies from before the start", true)] {
        let container = memory(under_header_of(&middle, &fixture.bytes, [is_old; 2]));
        let restore = Restore::from_file(&*container, &file).unwrap();
        assert!(restore.refusal().unwrap().hint().unwrap().contains("--force"), "{what}");
        let unlocked = restore.source().unlock_with_key(key()).unwrap();
        restore.write(&*container, &unlocked).unwrap();
        check(bytes_of(&container), &fixture, &fixture.plaintext, what);
    }
    let mut image = under_header_of(&middle, &middle, [false; 2]);
    for area in AREAS {
        image[area..area + 8192].fill(0);
    }
    let restore = Restore::from_file(&*memory(image), &file).unwrap();
    assert_eq!(restore.source().unlock_with_key(key()).unwrap_err().kind(), ErrorKind::Damaged);
}
