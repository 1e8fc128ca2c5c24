//! A folder of pieces against a plain array, with faults of every kind, and with the power cut at each step.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;

const BLOCK: usize = 4096;
const MIB: u64 = 1 << 20;

fn geometry(pieces: u64) -> Geometry {
    geometry_of_set(pieces, 2)
}

fn geometry_of_set(pieces: u64, set: u8) -> Geometry {
    let tail_offset = MIB + pieces * (MIB - 4096) - 8192;
    let shape = Shape {
        uuid: [1; 16],
        set: [set; 16],
        container_len: tail_offset + MIB,
        front_len: MIB,
        tail_offset,
        piece_len: MIB,
    };
    Geometry::new(shape).unwrap()
}

fn key(byte: u8) -> DerivedKey {
    DerivedKey::copy_of(&[byte; 64]).unwrap()
}

/// A generator that is the same each time (Numerical Recipes' constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn folder(path: &Path) -> Arc<dyn Folder> {
    Arc::new(DirFolder::open(path, true).unwrap())
}

fn open(path: &Path) -> io::Result<Pieces> {
    open_in(folder(path), 3)
}

fn open_in(folder: Arc<dyn Folder>, most: usize) -> io::Result<Pieces> {
    let (header, copy) = (folder.open(HEADER_NAME)?, folder.open(COPY_NAME)?);
    Pieces::open(folder, header, copy, most)
}

/// A new folder in which pieces are made when they are written.
fn create(path: &Path, pieces: u64) -> Pieces {
    let made = Pieces::create(geometry(pieces), folder(path), 3).unwrap();
    made.seal(key(1)).unwrap();
    made
}

fn unlocked(path: &Path) -> Pieces {
    let pieces = open(path).unwrap();
    pieces.unlock(key(1)).unwrap();
    pieces
}

fn fault_of(error: io::Error) -> PieceError {
    error.downcast().unwrap()
}

fn read(pieces: &Pieces, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    pieces.read_exact_at(&mut bytes, offset).map(|()| bytes)
}

#[test]
fn a_folder_is_the_array_that_its_parts_make() {
    let place = tempfile::tempdir().unwrap();
    let mut pieces = create(place.path(), 7);
    let mut model = vec![0_u8; usize::try_from(pieces.size().unwrap()).unwrap()];
    let mut dice = Dice(1);
    for round in 0..400 {
        let len = usize::try_from(dice.below(if round % 9 == 0 { 2_500_000 } else { 9000 })).unwrap();
        let offset = usize::try_from(dice.below(u64::try_from(model.len() - len).unwrap())).unwrap();
        let at = u64::try_from(offset).unwrap();
        match dice.below(10) {
            0..5 => {
                let bytes = vec![u8::try_from(round % 255 + 1).unwrap(); len];
                pieces.write_all_at(&bytes, at).unwrap();
                model[offset..offset + len].copy_from_slice(&bytes);
            }
            5 => {
                pieces.punch_hole(at..at + u64::try_from(len).unwrap()).unwrap();
                model[offset..offset + len].fill(0);
            }
            6 if round % 4 == 0 => {
                pieces.sync_data().unwrap();
                drop(pieces);
                pieces = unlocked(place.path());
            }
            _ => assert!(read(&pieces, at, len).unwrap() == model[offset..offset + len], "{round}"),
        }
        assert!(pieces.open.len() <= 4);
    }
    assert!(read(&pieces, 0, model.len()).unwrap() == model);
    pieces.sync_data().unwrap();
    // PCS-GEO-06: the parts joined are the container.
    let mut joined = fs::read(place.path().join(HEADER_NAME)).unwrap()[3 * BLOCK..].to_vec();
    for index in 0..7 {
        joined.extend_from_slice(&fs::read(place.path().join(piece_name(index))).unwrap()[BLOCK..]);
    }
    joined.extend_from_slice(&fs::read(place.path().join(COPY_NAME)).unwrap()[3 * BLOCK..]);
    assert!(joined == model);
    assert_eq!(pieces.survey().unwrap(), Survey::default());
}

#[test]
fn a_piece_is_made_when_it_is_written_and_what_was_never_made_is_zeros() {
    let place = tempfile::tempdir().unwrap();
    let pieces = create(place.path(), 5);
    assert_eq!(read(&pieces, 2 * MIB, 8192).unwrap(), [0; 8192]);
    pieces.punch_hole(MIB..pieces.geometry().data().end).unwrap();
    assert_eq!(pieces.made(), 0);
    pieces.write_all_at(&[7; 100], 3 * MIB).unwrap();
    assert_eq!(pieces.made(), 1);
    assert_eq!(fs::metadata(place.path().join("00000002")).unwrap().len(), MIB);
    pieces.sync_data().unwrap();
    let pieces = unlocked(place.path());
    assert_eq!(read(&pieces, 3 * MIB, 100).unwrap(), [7; 100]);
    assert_eq!(read(&pieces, 2 * MIB, 100).unwrap(), [0; 100]);
}

#[test]
fn past_the_end_nothing_is_read_or_written() {
    let place = tempfile::tempdir().unwrap();
    let pieces = create(place.path(), 2);
    let end = pieces.size().unwrap();
    assert_eq!(read(&pieces, end - 1, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(read(&pieces, u64::MAX, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(pieces.write_all_at(&[1; 2], end - 1).unwrap_err().kind(), io::ErrorKind::WriteZero);
    assert!(pieces.punch_hole(0..end + 1).is_err() && pieces.set_size(end + 4096).is_err());
    pieces.set_size(end).unwrap();
    assert_eq!(pieces.place_in_header(5), Some((HEADER_NAME, 3 * 4096 + 5)));
    assert_eq!(pieces.place_in_header(MIB), None);
    assert_eq!(pieces.place_in_header(end - MIB + 7), Some((COPY_NAME, 3 * 4096 + 7)));
}

#[test]
fn before_the_key_no_hole_is_read_and_nothing_is_made() {
    let place = tempfile::tempdir().unwrap();
    let made = create(place.path(), 5);
    made.write_all_at(&[7; 100], MIB).unwrap();
    made.sync_data().unwrap();
    let locked = open(place.path()).unwrap();
    assert_eq!(read(&locked, MIB, 100).unwrap(), [7; 100]);
    assert_eq!(fault_of(read(&locked, 3 * MIB, 1).unwrap_err()), PieceError::Untold(2));
    assert_eq!(fault_of(locked.write_all_at(&[1], 3 * MIB).unwrap_err()), PieceError::Untold(2));
    assert_eq!(fault_of(locked.unlock(key(2)).unwrap_err()), PieceError::Forged);
    assert_eq!(fault_of(read(&locked, 3 * MIB, 1).unwrap_err()), PieceError::Untold(2));
    locked.unlock(key(1)).unwrap();
    assert_eq!(read(&locked, 3 * MIB, 1).unwrap(), [0]);
}

#[test]
fn a_missing_a_cut_and_a_foreign_piece_are_named_and_never_read() {
    let place = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let pieces = create(place.path(), 6);
    for index in 0..6 {
        pieces.write_all_at(&[7; 100], MIB + index * MIB).unwrap();
    }
    pieces.sync_data().unwrap();
    drop(pieces);
    let path = |index| place.path().join(piece_name(index));
    fs::remove_file(path(0)).unwrap();
    fs::File::options().write(true).open(path(1)).unwrap().set_len(1000).unwrap();
    fs::copy(path(4), path(2)).unwrap();
    let foreign = Pieces::create(geometry_of_set(6, 3), folder(other.path()), 3).unwrap();
    foreign.make_all(false, &mut |_| Ok(())).unwrap();
    fs::copy(other.path().join(piece_name(3)), path(3)).unwrap();
    let mut long = fs::read(path(4)).unwrap();
    long.push(0);
    fs::write(path(4), long).unwrap();
    fs::write(place.path().join("00000005 (conflicted copy)"), b"x").unwrap();
    fs::write(place.path().join("header.sync-conflict-1"), b"x").unwrap();
    fs::write(place.path().join("desktop.ini"), b"x").unwrap();
    fs::write(place.path().join("00000005.new"), b"x").unwrap();

    let foreign = |index, reason: &str| PieceError::Foreign { index, reason: reason.to_owned() };
    let expected = [
        PieceError::Missing(0),
        PieceError::Length { index: 1, len: 1000, expected: MIB },
        foreign(2, "it is piece 00000004"),
        foreign(3, "it belongs to another container"),
        PieceError::Length { index: 4, len: MIB + 1, expected: MIB },
    ];
    let pieces = unlocked(place.path());
    for (index, expected) in expected.iter().enumerate() {
        let at = MIB + u64::try_from(index).unwrap() * (MIB - 4096);
        assert_eq!(&fault_of(read(&pieces, at, 10).unwrap_err()), expected);
        assert_eq!(&fault_of(pieces.write_all_at(&[1], at).unwrap_err()), expected);
    }
    assert!(read(&pieces, 6 * MIB, 100).unwrap() == [7; 100]);
    let survey = pieces.survey().unwrap();
    assert_eq!(pieces.glance().unwrap(), survey);
    let named: Vec<_> = survey
        .faults
        .iter()
        .filter_map(|fault| match fault {
            Fault::Piece(error) => Some(error.clone()),
            Fault::Behind(_) | Fault::Beside(_) => None,
        })
        .collect();
    assert_eq!(named, expected);
    let mut beside: Vec<_> = survey
        .faults
        .iter()
        .filter(|fault| matches!(fault, Fault::Beside(_)))
        .map(ToString::to_string)
        .collect();
    beside.sort();
    assert!(
        beside.len() == 2
            && beside[0].starts_with("00000005 (conflicted copy)")
            && beside[1].starts_with("header.sync"),
        "{beside:?}"
    );
}

#[test]
fn a_folder_of_which_all_is_made_needs_no_key_and_misses_what_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let pieces = Pieces::create(geometry(4), folder(place.path()), 3).unwrap();
    let mut told = 0;
    pieces
        .make_all(true, &mut |_| {
            told += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!((told, pieces.made()), (4, 4));
    drop(pieces);
    fs::remove_file(place.path().join(piece_name(2))).unwrap();
    let pieces = open(place.path()).unwrap();
    assert!(pieces.is_complete());
    pieces.write_all_at(&[5; 8192], 2 * MIB - 8192).unwrap();
    assert_eq!(read(&pieces, 2 * MIB - 8192, 8192).unwrap(), [5; 8192]);
    assert_eq!(fault_of(read(&pieces, 3 * MIB, 10).unwrap_err()), PieceError::Missing(2));
    pieces.unlock(key(9)).unwrap();
    assert_eq!(fault_of(read(&pieces, 3 * MIB, 10).unwrap_err()), PieceError::Missing(2));
}

#[test]
fn one_damaged_map_or_one_damaged_block_does_no_harm_or_is_named() {
    let place = tempfile::tempdir().unwrap();
    let pieces = create(place.path(), 4);
    pieces.write_all_at(&[7; 100], MIB).unwrap();
    pieces.sync_data().unwrap();
    drop(pieces);
    let damage = |name: &str, at: usize| {
        let path = place.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for name in [HEADER_NAME, COPY_NAME] {
        damage(name, BLOCK + 40);
        assert_eq!(read(&unlocked(place.path()), MIB, 100).unwrap(), [7; 100]);
        damage(name, BLOCK + 40);
    }
    damage(HEADER_NAME, BLOCK + 40);
    damage(COPY_NAME, BLOCK + 40);
    let pieces = open(place.path()).unwrap();
    assert_eq!(fault_of(pieces.unlock(key(1)).unwrap_err()), PieceError::NoMap);
    damage(COPY_NAME, 100);
    let error = fault_of(open(place.path()).unwrap_err());
    assert_eq!(error, PieceError::Block(COPY_NAME, BlockError::Damaged));
}

#[test]
fn a_header_file_that_is_gone_or_damaged_is_made_anew_from_the_other() {
    let place = tempfile::tempdir().unwrap();
    let pieces = create(place.path(), 4);
    pieces.write_all_at(&[7; 100], MIB).unwrap();
    pieces.write_all_at(&[5; 100], 0).unwrap();
    pieces.write_all_at(&[6; 100], pieces.geometry().data().end).unwrap();
    pieces.sync_data().unwrap();
    drop(pieces);
    assert_eq!(mend(&*folder(place.path())).unwrap(), None);
    for name in [HEADER_NAME, COPY_NAME] {
        let path = place.path().join(name);
        let whole = fs::read(&path).unwrap();
        for damage in 0..4 {
            match damage {
                0 => fs::remove_file(&path).unwrap(),
                1 => fs::write(&path, b"").unwrap(),
                2 => fs::write(&path, vec![0; BLOCK]).unwrap(),
                _ => fs::write(&path, [&vec![9; BLOCK], &whole[BLOCK..]].concat()).unwrap(),
            }
            let expected = if damage == 0 { io::ErrorKind::NotFound } else { io::ErrorKind::InvalidData };
            assert_eq!(open(place.path()).unwrap_err().kind(), expected, "{damage}");
            assert_eq!(mend(&*folder(place.path())).unwrap(), Some(name), "{damage}");
            assert_eq!(read(&unlocked(place.path()), MIB, 100).unwrap(), [7; 100]);
            let found = fs::read(&path).unwrap();
            // What it held of the container is gone with it, but for damage to the first block alone.
            let held =
                if damage == 3 { whole[3 * BLOCK..].to_vec() } else { vec![0; whole.len() - 3 * BLOCK] };
            assert!(found[..3 * BLOCK] == whole[..3 * BLOCK] && found[3 * BLOCK..] == held, "{damage}");
        }
        fs::write(&path, whole).unwrap();
    }
    for name in [HEADER_NAME, COPY_NAME] {
        fs::write(place.path().join(name), b"").unwrap();
    }
    assert_eq!(
        fault_of(mend(&*folder(place.path())).unwrap_err()),
        PieceError::Block(HEADER_NAME, BlockError::Damaged)
    );
}

#[test]
fn a_piece_that_came_from_elsewhere_is_taken_as_it_is_and_not_written_over_unseen() {
    let place = tempfile::tempdir().unwrap();
    let pieces = create(place.path(), 4);
    let copy = tempfile::tempdir().unwrap();
    for name in [HEADER_NAME, COPY_NAME] {
        fs::copy(place.path().join(name), copy.path().join(name)).unwrap();
    }
    let other = unlocked(copy.path());
    other.write_all_at(&[9; 8192], MIB).unwrap();
    other.sync_data().unwrap();
    fs::copy(copy.path().join(piece_name(0)), place.path().join(piece_name(0))).unwrap();
    pieces.write_all_at(&[7; 4096], MIB).unwrap();
    assert_eq!(read(&pieces, MIB + 4096, 4096).unwrap(), [9; 4096]);
}

#[test]
fn what_is_closed_to_make_room_is_synced_and_its_failure_told_once() {
    let sim = Sim::new();
    let pieces = Pieces::create(geometry(6), Arc::new(sim.clone()), 2).unwrap();
    pieces.seal(key(1)).unwrap();
    pieces.write_all_at(&[7; 4096], MIB).unwrap();
    pieces.sync_data().unwrap();
    for index in 0..2 {
        pieces.write_all_at(&[8; 4096], MIB + index * MIB).unwrap();
    }
    sim.0.lock().unwrap().failing_sync = true;
    // Both that are open were changed, so one must be synced before a third is opened. Making it fails, closing does not.
    let failed = pieces.write_all_at(&[8; 4096], 3 * MIB).unwrap_err();
    assert_eq!(failed.to_string(), "failing");
    sim.0.lock().unwrap().failing_sync = false;
    pieces.write_all_at(&[8; 4096], 3 * MIB).unwrap();
    pieces.sync_data().unwrap();
    let after = sim.crash(&mut Dice(0), 0);
    let pieces = open_in(Arc::new(after), 2).unwrap();
    pieces.unlock(key(1)).unwrap();
    for index in 0..3 {
        assert_eq!(read(&pieces, MIB + index * MIB, 4096).unwrap(), [8; 4096], "{index}");
    }
}

#[test]
fn threads_that_write_to_one_new_piece_make_it_once() {
    let place = tempfile::tempdir().unwrap();
    let pieces = create(place.path(), 40);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let pieces = &pieces;
            scope.spawn(move || {
                for index in 0..39 {
                    let at = MIB + index * (MIB - 4096) + u64::from(thread) * 4096;
                    pieces.write_all_at(&[thread + 1; 4096], at).unwrap();
                    if index % 7 == 0 {
                        pieces.sync_data().unwrap();
                    }
                }
            });
        }
    });
    for index in 0..39 {
        for thread in 0..4_u8 {
            let at = MIB + index * (MIB - 4096) + u64::from(thread) * 4096;
            assert_eq!(read(&pieces, at, 4096).unwrap(), [thread + 1; 4096]);
        }
    }
}

/// What every block of the container may hold after a power cut now: what was written since it was synced last, or then.
struct Allowed(BTreeMap<u64, Vec<u8>>);

#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_synced() {
    let mut cuts = 0;
    for seed in 0..3 {
        for cut in 0.. {
            let sim = Sim::new();
            let done = Pieces::create(geometry(5), Arc::new(sim.clone()), 2).and_then(|pieces| {
                pieces.seal(key(1))?;
                Ok(pieces)
            });
            let pieces = done.unwrap();
            sim.0.lock().unwrap().left = Some(cut);
            let mut allowed = Allowed(BTreeMap::new());
            let ended = work(&pieces, &mut allowed, seed);
            sim.0.lock().unwrap().left = None;
            for fate in 0..4 {
                let after = sim.crash(&mut Dice(seed * 1000 + cut + fate), fate);
                check(&after, &allowed, (seed, cut, fate));
            }
            cuts += 1;
            if ended.is_ok() {
                break;
            }
        }
    }
    assert!(cuts > 150, "{cuts} cuts");
}

/// Writes and syncs, until it is done or the power goes.
fn work(pieces: &Pieces, allowed: &mut Allowed, seed: u64) -> io::Result<()> {
    let mut dice = Dice(seed);
    for round in 1..14_u8 {
        let blocks = pieces.geometry().data().end / 4096 + 3;
        let block = if dice.below(8) == 0 { dice.below(blocks) } else { dice.below(5) * 255 + 256 };
        allowed.0.entry(block).or_insert_with(|| vec![0]).push(round);
        pieces.write_all_at(&[round; BLOCK], block * 4096)?;
        if dice.below(3) == 0 {
            pieces.sync_data()?;
            for values in allowed.0.values_mut() {
                values.drain(..values.len() - 1);
            }
        }
    }
    Ok(())
}

fn check(sim: &Sim, allowed: &Allowed, case: (u64, u64, u64)) {
    let pieces = open_in(Arc::new(sim.clone()), 2).unwrap();
    pieces.unlock(key(1)).unwrap();
    assert_eq!(pieces.survey().unwrap(), Survey::default(), "{case:?}");
    let mut now = BTreeMap::new();
    for (block, values) in &allowed.0 {
        let bytes = read(&pieces, block * 4096, BLOCK).unwrap();
        let value = bytes[0];
        assert!(bytes.iter().all(|byte| *byte == value), "{case:?}: block {block} is torn");
        assert!(values.contains(&value), "{case:?}: block {block} is {value}, not one of {values:?}");
        now.insert(*block, value);
    }
    // It goes on: what is synced now stays, with all that was there.
    pieces.write_all_at(&[99; BLOCK], 4 * MIB).unwrap();
    now.insert(MIB, 99);
    pieces.sync_data().unwrap();
    let after = sim.crash(&mut Dice(0), 0);
    let pieces = open_in(Arc::new(after), 2).unwrap();
    pieces.unlock(key(1)).unwrap();
    now.remove(&MIB);
    assert_eq!(read(&pieces, 4 * MIB, BLOCK).unwrap(), [99; BLOCK], "{case:?}");
    for (block, value) in now.into_iter().filter(|(block, _)| block * 4096 != 4 * MIB) {
        assert_eq!(read(&pieces, block * 4096, BLOCK).unwrap(), [value; BLOCK], "{case:?}");
    }
}

/// As the volume layer does it: pieces are made before, and go afterwards.
fn change_size(old: &Pieces, to: &Geometry) -> io::Result<()> {
    old.remove_behind()?;
    if to == old.geometry() {
        return old.settle_last(to);
    }
    let new = old.of_size(to.data().end, to.container_len(), key(1))?.unwrap();
    let is_larger = to.container_len() > old.geometry().container_len();
    if is_larger {
        new.settle_last(old.geometry())?;
        if old.is_complete() {
            new.make_new(old.geometry(), &mut |_| Ok(()))?;
        }
    }
    new.put_in_force(old, &full_of(NEW_TAIL))?;
    if is_larger {
        return Ok(());
    }
    new.remove_behind()?;
    new.settle_last(old.geometry())
}

/// What stands before the data, or behind them.
fn full_of(byte: u8) -> Vec<u8> {
    vec![byte; MIB_LEN]
}

const MIB_LEN: usize = 1 << 20;
const FRONT: u8 = 5;
const OLD_TAIL: u8 = 6;
const NEW_TAIL: u8 = 8;
/// In which blocks of the data something is written.
const WRITTEN: [u64; 4] = [0, 700, 1016, 1017];

#[test]
fn a_power_cut_at_any_step_of_a_change_of_size_leaves_the_old_size_or_the_new_one() {
    let longer = geometry(4).resized(geometry(4).data().end + 4096, geometry(4).container_len() + 4096);
    let mut cuts = 0;
    for (from, to, is_complete) in [
        (geometry(4), geometry(7), false),
        (geometry(4), geometry(7), true),
        (geometry(7), geometry(4), false),
        (geometry(7), geometry(4), true),
        (geometry(4), longer.unwrap(), false),
        (longer.unwrap(), geometry(4), false),
    ] {
        for cut in 0.. {
            let sim = written(from, is_complete);
            let pieces = open_in(Arc::new(sim.clone()), 2).unwrap();
            pieces.unlock(key(1)).unwrap();
            sim.0.lock().unwrap().left = Some(cut);
            let ended = change_size(&pieces, &to);
            sim.0.lock().unwrap().left = None;
            for fate in 0..4 {
                let how = format!("{} to {}, cut {cut}, fate {fate}", from.pieces(), to.pieces());
                let after = sim.crash(&mut Dice(cut + fate), fate);
                let sizes = if ended.is_ok() { vec![to] } else { vec![from, to] };
                // Who only reads takes it as it is.
                assert_holds(&after, &sizes, &how);
                mend(&after).unwrap();
                let size = assert_holds(&after, &sizes, &how);
                let again = open_in(Arc::new(after.clone()), 2).unwrap();
                assert!(!again.limits().read_only, "{how}");
                again.unlock(key(1)).unwrap();
                assert_eq!(*again.geometry(), size);
                change_size(&again, &to).unwrap();
                assert_holds(&after, &[to], &how);
                let ended = open_in(Arc::new(after), 2).unwrap();
                ended.unlock(key(1)).unwrap();
                assert_eq!(ended.survey().unwrap(), Survey::default(), "{how}");
            }
            cuts += 1;
            if ended.is_ok() {
                break;
            }
        }
    }
    assert!(cuts > 100, "{cuts} cuts");
}

/// A folder of this size with something in it.
fn written(size: Geometry, is_complete: bool) -> Sim {
    let sim = Sim::new();
    let pieces = Pieces::create(size, Arc::new(sim.clone()), 2).unwrap();
    if is_complete {
        pieces.make_all(false, &mut |_| Ok(())).unwrap();
    } else {
        pieces.seal(key(1)).unwrap();
    }
    pieces.write_all_at(&full_of(FRONT), 0).unwrap();
    pieces.write_all_at(&full_of(OLD_TAIL), size.data().end).unwrap();
    for block in WRITTEN {
        pieces.write_all_at(&[7; BLOCK], MIB + block * 4096).unwrap();
    }
    // Behind the end of a smaller one, in its last piece and after that.
    for at in [geometry(4).data().end, 5 * MIB].into_iter().filter(|at| at + 4096 <= size.data().end) {
        pieces.write_all_at(&[9; BLOCK], at).unwrap();
    }
    pieces.sync_data().unwrap();
    sim
}

/// Whether a folder has one of these sizes, and all that it should hold. Gives its size.
fn assert_holds(sim: &Sim, sizes: &[Geometry], how: &str) -> Geometry {
    let pieces = open_in(Arc::new(sim.clone()), 2).unwrap();
    pieces.unlock(key(1)).unwrap();
    let size = *pieces.geometry();
    assert!(sizes.contains(&size), "{how}");
    let is_known = |fault: &Fault| matches!(fault, Fault::Behind(_));
    assert!(pieces.survey().unwrap().faults.iter().all(is_known), "{how}: {:?}", pieces.survey());
    assert!(read(&pieces, 0, MIB_LEN).unwrap() == full_of(FRONT), "{how}");
    let tail = read(&pieces, size.data().end, MIB_LEN).unwrap();
    let is_new = tail == full_of(NEW_TAIL);
    assert!(is_new || tail == full_of(OLD_TAIL), "{how}");
    let data_blocks = (size.data().end - MIB) / 4096;
    for block in 0..data_blocks {
        let bytes = read(&pieces, MIB + block * 4096, BLOCK).unwrap();
        let is_lost_with_the_end = bytes == [9; BLOCK] && !is_new;
        let expected = if WRITTEN.contains(&block) { 7 } else { 0 };
        assert!(bytes == [expected; BLOCK] || is_lost_with_the_end, "{how}: block {block} is {}", bytes[0]);
    }
    size
}

#[test]
fn a_power_cut_while_empty_pieces_are_dropped_leaves_them_as_zeros() {
    let mut most = 0;
    for is_complete in [false, true] {
        for cut in 0.. {
            let sim = written(geometry(7), is_complete);
            let pieces = open_in(Arc::new(sim.clone()), 2).unwrap();
            pieces.unlock(key(1)).unwrap();
            pieces.punch_hole(5 * MIB..5 * MIB + 4096).unwrap();
            sim.0.lock().unwrap().left = Some(cut);
            let ended = pieces.drop_empty(&mut |_| Ok(()));
            sim.0.lock().unwrap().left = None;
            for fate in 0..4 {
                let how = format!("cut {cut}, fate {fate}");
                let after = sim.crash(&mut Dice(cut + fate), fate);
                assert_holds(&after, &[geometry(7)], &how);
                let again = open_in(Arc::new(after), 2).unwrap();
                again.unlock(key(1)).unwrap();
                again.drop_empty(&mut |_| Ok(())).unwrap();
                assert_eq!(again.survey().unwrap(), Survey::default(), "{how}");
                assert!(again.made() < 7 && !again.is_complete(), "{how}: {}", again.made());
                again.write_all_at(&[7; BLOCK], MIB + 300 * 4096).unwrap();
            }
            if let Ok(dropped) = ended {
                most = most.max(dropped);
                break;
            }
        }
    }
    assert!(most >= 2, "{most}");
}

#[test]
fn a_header_file_that_came_before_its_copy_is_not_taken_back_to_the_old_size() {
    let sim = written(geometry(4), false);
    let copy = sim.0.lock().unwrap().names[COPY_NAME];
    let kept = sim.0.lock().unwrap().files[&copy].clone();
    let pieces = open_in(Arc::new(sim.clone()), 2).unwrap();
    pieces.unlock(key(1)).unwrap();
    change_size(&pieces, &geometry(7)).unwrap();
    let mut state = sim.0.lock().unwrap();
    let copy = state.names[COPY_NAME];
    state.files.insert(copy, kept);
    drop(state);
    assert_eq!(mend(&sim).unwrap(), None);
    assert_eq!(fault_of(open_in(Arc::new(sim), 2).unwrap_err()), PieceError::Apart);
}

/// A folder in memory whose power can be cut.
#[derive(Debug, Clone)]
struct Sim(Arc<Mutex<SimState>>);

#[derive(Debug, Default)]
struct SimState {
    files: BTreeMap<u64, SimContent>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    /// So many operations until the power goes.
    left: Option<u64>,
    failing_sync: bool,
}

#[derive(Debug, Clone, Default)]
struct SimContent {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Len(usize),
    Write(usize, Vec<u8>),
}

#[derive(Debug, Clone)]
enum NameChange {
    Make(String, u64),
    Remove(String),
    Rename(String, String),
}

fn apply(bytes: &mut Vec<u8>, change: &Pending) {
    match change {
        Pending::Len(len) => bytes.resize(*len, 0),
        Pending::Write(at, new) => {
            if bytes.len() < at + new.len() {
                bytes.resize(at + new.len(), 0);
            }
            bytes[*at..at + new.len()].copy_from_slice(new);
        }
    }
}

fn apply_name(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Make(name, id) => {
            names.insert(name.clone(), *id);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

impl SimState {
    fn tick(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::other("the power is cut")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Sim {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// What is left after a power cut. `fate`: 0 loses all that was not synced, 1 keeps it, others are by chance.
    fn crash(&self, dice: &mut Dice, fate: u64) -> Self {
        let state = self.0.lock().unwrap();
        let mut stays = || match fate {
            0 => false,
            1 => true,
            _ => dice.below(2) == 0,
        };
        let mut files = BTreeMap::new();
        for (id, content) in &state.files {
            let mut bytes = content.durable.clone();
            for change in &content.pending {
                match change {
                    // A block is written whole or not at all, each by itself.
                    Pending::Write(at, new) => {
                        for (number, block) in new.chunks(BLOCK).enumerate() {
                            if stays() {
                                apply(&mut bytes, &Pending::Write(at + number * BLOCK, block.to_vec()));
                            }
                        }
                    }
                    Pending::Len(_) => {
                        if stays() {
                            apply(&mut bytes, change);
                        }
                    }
                }
            }
            files.insert(*id, SimContent { live: bytes.clone(), durable: bytes, pending: Vec::new() });
        }
        let mut names = state.durable_names.clone();
        for change in &state.name_changes {
            if !stays() {
                break;
            }
            apply_name(&mut names, change);
        }
        let durable_names = names.clone();
        Self(Arc::new(Mutex::new(SimState { files, names, durable_names, ..SimState::default() })))
    }
}

#[derive(Debug)]
struct SimFile(Sim, u64);

impl SimFile {
    fn change(&self, change: Pending) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        state.tick()?;
        let content = state.files.get_mut(&self.1).unwrap();
        apply(&mut content.live, &change);
        content.pending.push(change);
        Ok(())
    }
}

impl Storage for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.0.0.lock().unwrap().files[&self.1].live.len()).unwrap())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.0.0.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        let bytes = state.files[&self.1].live.get(at..at + buf.len());
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.change(Pending::Write(usize::try_from(offset).unwrap(), buf.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        state.tick()?;
        if state.failing_sync {
            return Err(io::Error::other("failing"));
        }
        let content = state.files.get_mut(&self.1).unwrap();
        content.durable.clone_from(&content.live);
        content.pending.clear();
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.change(Pending::Len(usize::try_from(size).unwrap()))
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.write_all_at(&vec![0; usize::try_from(range.end - range.start).unwrap()], range.start)
    }

    fn limits(&self) -> Limits {
        Limits { read_only: false, can_punch: true, can_resize: true }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Folder for Sim {
    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        let id = *self.0.lock().unwrap().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile(self.clone(), id)))
    }

    fn make(&self, name: &str, len: u64, _: bool) -> io::Result<Arc<dyn Storage>> {
        let mut state = self.0.lock().unwrap();
        state.tick()?;
        let known = state.names.get(name).copied();
        let id = known.unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
        if known.is_none() {
            let change = NameChange::Make(name.to_owned(), id);
            apply_name(&mut state.names, &change);
            state.name_changes.push(change);
        }
        let content = state.files.entry(id).or_default();
        for len in [0, usize::try_from(len).unwrap()] {
            apply(&mut content.live, &Pending::Len(len));
            content.pending.push(Pending::Len(len));
        }
        drop(state);
        Ok(Arc::new(SimFile(self.clone(), id)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.tick()?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        apply_name(&mut state.names, &change);
        state.name_changes.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.tick()?;
        let change = NameChange::Remove(name.to_owned());
        apply_name(&mut state.names, &change);
        state.name_changes.push(change);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.tick()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        let state = self.0.lock().unwrap();
        Ok(state.names.get(name).map(|id| {
            let len = u64::try_from(state.files[id].live.len()).unwrap();
            Identity { number: (0, *id), len, written: (0, 0), links: 1, takes: len }
        }))
    }

    fn each_name(&self, tell: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        self.0.lock().unwrap().names.keys().for_each(|name| tell(OsStr::new(name)));
        Ok(())
    }
}
