//! What the work areas tell of an old header, of a journal that was damaged, and at rest.

use super::*;
use crate::{
    crypto::{hash, kdf::hkdf_sha512},
    format::Finding,
    volume::pin::{Pins, Standing},
};

pub(super) const HEADER_LEN: usize = 65_536;
pub(super) const TAIL_LEN: usize = 1 << 20;
/// Where both areas begin in a container of these lengths.
pub(super) const AREAS: [usize; 2] = [HEADER_LEN, (1 << 20) + DATA_LEN + HEADER_LEN];
const AREA_LEN: usize = TAIL_LEN - HEADER_LEN;

pub(super) fn memory(bytes: Vec<u8>) -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new(bytes))
}

pub(super) fn bytes_of(storage: &Arc<dyn Storage>) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(storage.size().unwrap()).unwrap()];
    storage.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The image with copy A as it was before the re-encryption, and without copy B.
fn with_old_copy_a(image: &[u8], fixture: &Fixture) -> Vec<u8> {
    let mut image = image.to_vec();
    image[..HEADER_LEN].copy_from_slice(&fixture.bytes[..HEADER_LEN]);
    let copy_b = image.len() - TAIL_LEN;
    image[copy_b..copy_b + HEADER_LEN].fill(0);
    image
}

/// Somebody restores the first bytes from before the start, and copy B is lost: either all is under the old key still, or
/// the container is not written to.
pub(super) fn check_old_header(image: &[u8], fixture: &Fixture, plaintext: &[u8], what: &str) {
    let storage = memory(with_old_copy_a(image, fixture));
    let unlocked = unlock(&*storage, &fixture.old_key).unwrap();
    let header = Native.read_header(&*storage).unwrap();
    match header.prepare_writing(&*storage, &unlocked) {
        Ok(_) => {
            assert!(read_all(&storage, &unlocked.layout) == plaintext, "{what}: noise under an old header");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
            assert!(bytes_of(&storage) == with_old_copy_a(image, fixture), "{what}: refused, and written to");
        }
    }
}

/// The work areas hold the closing record and nothing else, and an old header is known by it.
pub(super) fn check_closed(storage: &Arc<dyn Storage>, fixture: &Fixture, what: &str) {
    let image = bytes_of(storage);
    let before = u32::from_le_bytes(fixture.bytes[184..188].try_into().unwrap());
    for area in AREAS {
        assert_eq!(&image[area..area + 16], b"SR re-encryption", "{what}");
        assert_eq!(image[area + 20..area + 24], (before + 2).to_le_bytes(), "{what}: the generation");
        assert!(image[area + 4096..area + AREA_LEN].iter().all(|&byte| byte == 0), "{what}: not erased");
    }
    let storage = memory(with_old_copy_a(&image, fixture));
    let unlocked = unlock(&*storage, &fixture.old_key).unwrap();
    let header = Native.read_header(&*storage).unwrap();
    let error = header.prepare_writing(&*storage, &unlocked).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{what}");
    assert!(error.reason().contains("out of date"), "{what}: {error}");
}

/// Steps a fresh re-encryption so often; then leaves it as a power cut would, or at rest.
fn worked(fixture: &Fixture, steps: usize, rests: bool) -> Arc<dyn Storage> {
    let storage = memory(fixture.bytes.clone());
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    for _ in 0..steps {
        assert_eq!(work.step().unwrap(), Step::Moved);
    }
    if rests {
        work.rest().unwrap();
    }
    storage
}

/// The counters in both slots of the front.
fn counters(image: &[u8]) -> [u64; 2] {
    [0, 4096].map(|slot| {
        let at = AREAS[0] + slot + 40;
        u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
    })
}

// proves: NAT-REENC-12
#[test]
fn without_its_newest_record_a_container_at_rest_says_the_same() {
    for case in CASES {
        let fixture = fixture(case);
        let storage = worked(&fixture, 2, true);
        let mut plaintext = fixture.plaintext.clone();
        let unlocked = unlock(&*storage, &fixture.new_key).unwrap();
        // A user writes into the chunk that was journaled last.
        let volume = device(Arc::clone(&storage), unlocked.layout);
        let size = volume.geometry().sector_size.bytes();
        volume.write(&vec![0x77; size], Sector((CHUNK_LEN / size + 1) as u64)).unwrap();
        volume.flush().unwrap();
        plaintext[CHUNK_LEN + size..CHUNK_LEN + 2 * size].fill(0x77);

        let mut image = bytes_of(&storage);
        let [even, odd] = counters(&image);
        let newest = if even > odd { 0 } else { 4096 };
        for area in AREAS {
            image[area + newest..area + newest + 4096].fill(0);
        }
        check(image, &fixture, &plaintext, &format!("{case:?}"));
    }
}

/// A copy that was put back in part: the header is from after the end, the data are not.
// proves: NAT-REENC-21
#[test]
fn a_header_from_after_the_end_is_not_written_under_beside_data_from_the_middle() {
    for case in CASES {
        let fixture = fixture(case);
        let finished = memory(fixture.bytes.clone());
        let mut work = Reencryption::start(Arc::clone(&finished), &fixture.start_header(), TUNING).unwrap();
        while work.step().unwrap() != Step::AtTheEnd {}
        work.finish().unwrap();
        let after = bytes_of(&finished);
        for (rests, copies) in [(true, 0..2), (false, 0..2), (true, 0..1), (true, 1..2)] {
            let mut image = bytes_of(&worked(&fixture, 1, rests));
            for copy in [0, image.len() - TAIL_LEN].get(copies.clone()).unwrap() {
                image[*copy..copy + HEADER_LEN].copy_from_slice(&after[*copy..copy + HEADER_LEN]);
            }
            let what = format!("{case:?}, copies {copies:?}, rests: {rests}");
            let storage = memory(image.clone());
            let unlocked = unlock(&*storage, &fixture.new_key).unwrap();
            let header = Native.read_header(&*storage).unwrap();
            let error = header.prepare_writing(&*storage, &unlocked).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
            assert!(error.reason().contains("from after a re-encryption"), "{what}: {error}");
            assert!(header.warnings(&unlocked).contains(&error.reason().to_owned()), "{what}");
            assert!(bytes_of(&storage) == image, "{what}: refused, and written to");
        }
    }
}

// proves: NAT-REENC-19
#[test]
fn a_damaged_journal_is_never_copied_to_its_place() {
    let fixture = fixture(CASES[0]);
    let storage = worked(&fixture, 1, false);
    let mut whole = bytes_of(&storage);
    let [even, odd] = counters(&whole);
    let journal = AREAS[usize::from(odd > even)] + 8192;
    let chunk = 1 << 20..(1 << 20) + CHUNK_LEN;
    assert!(
        whole[journal..journal + CHUNK_LEN] != whole[chunk.clone()],
        "the next step puts it in its place"
    );
    whole.copy_within(journal..journal + CHUNK_LEN, chunk.start);

    // Its place is whole: nothing is lost, whatever the journal holds.
    let mut image = whole.clone();
    image[journal + 77] ^= 1;
    check(image.clone(), &fixture, &fixture.plaintext, "the journal alone");
    // Neither is: the volume is not written to.
    image[chunk.start + 99] ^= 1;
    let storage = memory(image.clone());
    let unlocked = unlock(&*storage, &fixture.new_key).unwrap();
    let header = Native.read_header(&*storage).unwrap();
    let error = header.prepare_writing(&*storage, &unlocked).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.reason().contains("lost its journal"), "{error}");
    // Everybody who looks is told, and no password is changed either.
    assert_eq!(header.warnings(&unlocked), [error.reason()]);
    let findings = header.check_unlocked(&*storage, &unlocked);
    assert!(findings.contains(&Finding::error("re-encryption records", error.reason())), "{findings:?}");
    assert_eq!(header.editor(&unlocked).unwrap_err().reason(), error.reason());
    assert!(bytes_of(&storage) == image, "refused, and written to");
    let volume = device(Arc::clone(&storage), unlocked.layout);
    volume.read(&mut vec![0; 4096], Sector(0)).unwrap_err();
    // The rest can be read.
    let mut rest = vec![0; DATA_LEN - CHUNK_LEN];
    volume.read(&mut rest, Sector((CHUNK_LEN / 4096) as u64)).unwrap();
    assert!(rest == fixture.plaintext[CHUNK_LEN..]);
}

/// A container in which the worker moves two chunks on whenever somebody reads a journal, so often.
#[derive(Debug)]
struct GoingOn {
    storage: Arc<dyn Storage>,
    work: Mutex<(Reencryption, usize)>,
}

impl Storage for GoingOn {
    fn size(&self) -> io::Result<u64> {
        self.storage.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (work, left) = &mut *self.work.lock().unwrap();
        if *left > 0 && AREAS.iter().any(|area| offset == *area as u64 + 8192) {
            *left -= 1;
            assert_eq!([work.step().unwrap(), work.step().unwrap()], [Step::Moved; 2]);
        }
        self.storage.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_size(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn punch_hole(&self, _: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn limits(&self) -> Limits {
        Limits { read_only: true, can_punch: false, can_resize: false }
    }
}

#[test]
fn who_looks_while_the_worker_goes_on_sees_a_record_and_its_chunk() {
    let fixture = fixture(CASES[0]);
    let storage = memory(fixture.bytes.clone());
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    assert_eq!(work.step().unwrap(), Step::Moved);
    let going_on = GoingOn { storage, work: Mutex::new((work, 3)) };
    let unlocked = unlock(&going_on, &fixture.new_key).unwrap();
    assert_eq!(going_on.work.lock().unwrap().1, 0);
    let Layout::Moving(moving) = unlocked.layout else { panic!("it is under way") };
    let journaled = moving.journaled.unwrap();
    assert!(journaled.mapping.is_some(), "the chunk from {} on was not found", journaled.range.start);
    assert_eq!(journaled.range.start, 6 * CHUNK_LEN as u64);
}

// proves: NAT-REENC-06 NAT-REENC-17
#[test]
fn a_header_from_the_middle_of_a_reencryption_that_has_ended_reads_all_and_writes_nothing() {
    let fixture = fixture(CASES[0]);
    let storage = worked(&fixture, 2, true);
    let middle = bytes_of(&storage);
    let key = Arc::new(VolumeKey::copy_of(&fixture.new_key).unwrap());
    let mut work = Reencryption::resume(Arc::clone(&storage), key, TUNING).unwrap();
    assert_eq!(work.run(&mut Pace::new(None), &mut unseen).unwrap(), Outcome::Finished);
    let copy_b = middle.len() - TAIL_LEN;
    let mut image = bytes_of(&storage);
    for at in [0, copy_b] {
        image[at..at + HEADER_LEN].copy_from_slice(&middle[at..at + HEADER_LEN]);
    }
    let storage = memory(image.clone());
    let unlocked = unlock(&*storage, &fixture.new_key).unwrap();
    assert!(read_all(&storage, &unlocked.layout) == fixture.plaintext, "its volume key is the new one");
    let header = Native.read_header(&*storage).unwrap();
    let error = header.prepare_writing(&*storage, &unlocked).unwrap_err();
    assert!(error.reason().contains("under way in it has ended since"), "{error}");
    assert_eq!(header.warnings(&unlocked), [format!("{}; the volume reads as it is", error.reason())]);
    assert!(bytes_of(&storage) == image, "refused, and written to");
    // Without the closing record of its own key nothing tells what is under which.
    for area in AREAS {
        image[area + 4040] ^= 1;
    }
    let error = unlock(&*memory(image), &fixture.new_key).unwrap_err();
    assert!(error.reason().contains("which part of the volume it fits is not known"), "{error}");
}

/// The fields of a record, as they stand in the clear.
#[derive(Debug)]
struct Fields {
    counter: u64,
    border: u64,
    chunk_len: u64,
    has_checksum: bool,
}

/// What stands in the four slots of this generation.
fn records_of(image: &[u8], generation: u32) -> Vec<Fields> {
    let mut found = Vec::new();
    for at in AREAS.iter().flat_map(|area| [*area, area + 4096]) {
        let field =
            |offset: usize| u64::from_le_bytes(image[at + offset..at + offset + 8].try_into().unwrap());
        if &image[at..at + 16] == b"SR re-encryption" && image[at + 20..at + 24] == generation.to_le_bytes() {
            let has_checksum = image[at + 64..at + 96] != [0; 32];
            found.push(Fields { counter: field(40), border: field(48), chunk_len: field(56), has_checksum });
        }
    }
    found
}

// proves: NAT-REENC-18
#[test]
fn a_program_from_before_there_were_checksums_never_takes_an_older_record_for_the_newest() {
    let fixture = fixture(CASES[1]);
    let whole = Crashing::new(fixture.bytes.clone(), usize::MAX);
    let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&whole);
    let mut work = Reencryption::start(storage, &fixture.start_header(), TUNING).unwrap();
    work.run(&mut Pace::new(None), &mut unseen).unwrap();
    for cut in 0..whole.used(usize::MAX) {
        let crashed = Crashing::new(fixture.bytes.clone(), cut);
        let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&crashed);
        let _ = Reencryption::start(storage, &fixture.start_header(), TUNING)
            .and_then(|mut work| work.run(&mut Pace::new(None), &mut unseen));
        let records = records_of(&crashed.image(cut as u64), 1);
        let Some(newest) = records.iter().max_by_key(|record| record.counter) else { continue };
        // It counts the records without a checksum alone.
        for record in records.iter().filter(|record| !record.has_checksum) {
            let says_the_same = record.border == newest.border && newest.chunk_len == 0;
            assert!(says_the_same, "cut {cut}: {record:?} for {newest:?}");
        }
    }
    let counted = |rests| {
        let records = records_of(&bytes_of(&worked(&fixture, 3, rests)), 1);
        records.iter().filter(|record| !record.has_checksum).count()
    };
    assert_eq!((counted(true), counted(false)), (4, 0), "it goes on from rest, and from nowhere else");
}

/// Records as an earlier program wrote them: without checksums, under the right MAC.
fn strip_checksums(image: &mut [u8], key: &[u8]) {
    let label = b"strongroom/v1/reencryption-record";
    let key = hkdf_sha512(key, &image[48..64], label, 64).unwrap();
    for at in AREAS.iter().flat_map(|area| [*area, area + 4096]) {
        image[at + 64..at + 96].fill(0);
        let mac = hash::hmac_sha512(key.expose(), &[&image[at..at + 4032]]);
        image[at + 4032..at + 4096].copy_from_slice(&mac);
    }
}

#[test]
fn a_container_that_an_earlier_program_left_in_the_middle_goes_on() {
    let fixture = fixture(CASES[0]);
    let mut image = bytes_of(&worked(&fixture, 2, false));
    strip_checksums(&mut image, &fixture.new_key);
    check(image, &fixture, &fixture.plaintext, "two chunks, journaled");
}

#[test]
fn nothing_is_left_where_no_trace_is_wanted() {
    let fixture = fixture(CASES[0]);
    let storage = memory(fixture.bytes.clone());
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    work.leave(Trace::Remove);
    work.run(&mut Pace::new(None), &mut unseen).unwrap();
    let image = bytes_of(&storage);
    let uuid = &image[48..64];
    for area in AREAS {
        // The container is thick: random bytes, as where nobody ever wrote.
        let area = &image[area..area + AREA_LEN];
        assert!(!area.windows(16).any(|bytes| bytes == uuid || bytes == b"SR re-encryption"));
        assert!(area.chunks(4096).all(|block| block.iter().any(|&byte| byte != 0)));
    }
}

#[test]
fn a_pin_remembers_how_far_a_reencryption_was() {
    let fixture = fixture(CASES[0]);
    let state_after = |steps| {
        let storage = worked(&fixture, steps, true);
        let unlocked = unlock(&*storage, &fixture.new_key).unwrap();
        Native.read_header(&*storage).unwrap().fingerprint_unlocked(&unlocked).unwrap()
    };
    let (before, after) = (state_after(1), state_after(2));
    let folder = tempfile::tempdir().unwrap();
    let pins = Pins::new(folder.path().join("pins"));
    pins.store(&before, folder.path()).unwrap();
    assert_eq!(pins.compare(Some(&after), folder.path()).unwrap(), Standing::Same);
    pins.advance(&after).unwrap();
    let Standing::Changed(changes) = pins.compare(Some(&before), folder.path()).unwrap() else {
        panic!("records of before are taken");
    };
    assert!(changes[0].starts_with("it is an old one: its re-encryption record is "), "{changes:?}");
    // It moves on, and never back.
    pins.advance(&before).unwrap();
    assert_eq!(pins.compare(Some(&after), folder.path()).unwrap(), Standing::Same);
    assert!(matches!(pins.compare(Some(&before), folder.path()).unwrap(), Standing::Changed(_)));
}
