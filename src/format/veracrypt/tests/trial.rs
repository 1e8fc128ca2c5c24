//! What is tried, where, and how long.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::*;

#[test]
fn each_place_opens_where_the_hints_name_it_and_by_itself_where_they_should() {
    // proves: VC-PLACE-01
    // proves: VC-PLACE-03
    for (place, hints, also_without) in [
        (Place::Normal, Hints::NONE, true),
        (Place::Hidden, Hints { hidden: true, ..Hints::NONE }, true),
        (Place::Backup, Hints { backup_header: true, ..Hints::NONE }, false),
        (Place::HiddenBackup, Hints { backup_header: true, hidden: true, ..Hints::NONE }, false),
        (Place::System, Hints { system: true, ..Hints::NONE }, false),
    ] {
        let seal = Seal { place, ..OLD };
        let bytes = seal.container(Family::TrueCrypt, &plain(&header(Family::TrueCrypt)));
        let (info, _) = unlock(TRUECRYPT, bytes.clone(), hints).unwrap();
        assert_eq!(info.headers.last().map(|copy| copy.offset), place.offset(LEN), "{place:?}");
        assert_eq!(unlock(TRUECRYPT, bytes.clone(), Hints::NONE).is_ok(), also_without, "{place:?}");
        let quick = Hints { prf: Some(Prf::Ripemd160), ..Hints::NONE };
        assert_eq!(unlock(TRUECRYPT, bytes, quick).is_ok(), place != Place::System, "{place:?}");
    }
}

#[test]
fn a_wrong_password_names_what_was_not_tried() {
    // proves: VC-CIPHER-03
    // proves: VC-TRIAL-05
    let bytes = OLD.container(Family::TrueCrypt, &[5; PLAIN_LEN]);
    let error = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(error.reason().contains("Blowfish"), "{error}");
    let bytes = NEW.container(Family::VeraCrypt, &[5; PLAIN_LEN]);
    let error = unlock(VERACRYPT, bytes, NEW.hints()).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("--prf argon2id")), "{error:?}");
}

#[test]
fn a_cipher_with_small_blocks_is_named_and_refused() {
    // proves: VC-CIPHER-03
    use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
    let mut bytes = vec![9; usize::try_from(LEN).unwrap()];
    let key = pbkdf2(crate::crypto::hash::HashKind::Sha1, PASSWORD, &[9; SALT_LEN], 2000, 192).unwrap();
    let key = key.expose();
    let cipher = cast5::Cast5::new_from_slice(&key[32..48]).unwrap();
    let mut before: [u8; 8] = key[..8].try_into().unwrap();
    let place = &mut bytes[SALT_LEN..HEADER_LEN];
    for (block, plain) in place.chunks_mut(8).zip(plain(&old_header()).chunks(8)) {
        let mut chained = Array(std::array::from_fn(|index| plain[index] ^ before[index]));
        cipher.encrypt_block(&mut chained);
        before = chained.0;
        block.copy_from_slice(&std::array::from_fn::<u8, 8, _>(|index| before[index] ^ key[8 + index]));
    }
    let error = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.reason().contains("CAST5"), "{error}");
}

#[test]
fn either_format_opens_both_families() {
    for (seal, family) in [(OLD, Family::TrueCrypt), (NEW, Family::VeraCrypt)] {
        let bytes = seal.container(family, &plain(&header(family)));
        assert_eq!(unlock(EITHER, bytes, seal.hints()).unwrap().0.format, family.name());
    }
    let old = OLD.container(Family::TrueCrypt, &plain(&header(Family::TrueCrypt)));
    let error = unlock(VERACRYPT, old.clone(), NEW.hints()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    let error = unlock(TRUECRYPT, old, NEW.hints()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "TrueCrypt has no PIM");
}

#[test]
fn a_function_that_the_place_does_not_have_is_a_wrong_option() {
    for (format, hints) in [
        (TRUECRYPT, Hints { prf: Some(Prf::Streebog), ..Hints::NONE }),
        (VERACRYPT, Hints { prf: Some(Prf::Argon2id), system: true, ..Hints::NONE }),
    ] {
        let error = unlock(format, OLD.container(Family::TrueCrypt, &[5; PLAIN_LEN]), hints).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[test]
fn argon2ids_memory_is_bounded_before_anything_runs() {
    // proves: VC-TRIAL-04
    let header = VERACRYPT.read_header(&MemoryStorage::new(vec![7; 65_536])).unwrap();
    let hints = Hints { prf: Some(Prf::Argon2id), pim: 1, ..Hints::NONE };
    let kind = |limits| {
        let attempt = Attempt { limits, hints, ..Attempt::default() };
        header.unlock(&credentials(PASSWORD), &attempt).unwrap_err().kind()
    };
    assert_eq!(kind(KdfLimits { memory_kib: 65_535, ..KdfLimits::default() }), ErrorKind::Unsupported);
    assert_eq!(kind(KdfLimits { available_kib: 65_535, ..KdfLimits::default() }), ErrorKind::OutOfMemory);
    assert_eq!(kind(KdfLimits { memory_kib: 65_536, ..KdfLimits::default() }), ErrorKind::Credentials);
}

#[test]
fn argon2id_opens_with_a_pim_where_it_is_named() {
    // proves: VC-TRIAL-03
    let seal = Seal { prf: Prf::Argon2id, ..NEW };
    let bytes = seal.container(Family::VeraCrypt, &plain(&header(Family::VeraCrypt)));
    let named = Hints { prf: Some(Prf::Argon2id), ..seal.hints() };
    let (info, _) = unlock(VERACRYPT, bytes.clone(), named).unwrap();
    assert_eq!(info.keyslots[0].kdf.name, "argon2id");
    let error = unlock(VERACRYPT, bytes, seal.hints()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
}

/// Counts what it is told, and ends the trial with the derivation of this number.
#[derive(Debug)]
struct Witness {
    last: usize,
    told: Mutex<Vec<(&'static str, usize, usize)>>,
    expected: Mutex<Vec<Duration>>,
    asked: AtomicUsize,
}

impl Monitor for Witness {
    fn derives(&self, name: &'static str, number: usize, total: usize) {
        self.told.lock().unwrap().push((name, number, total));
    }

    fn expects(&self, left: Duration) {
        self.expected.lock().unwrap().push(left);
    }

    fn is_over(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.told.lock().unwrap().len() >= self.last
    }
}

fn watched(last: usize, pim: u32) -> (Error, Witness) {
    let header = VERACRYPT.read_header(&MemoryStorage::new(vec![7; 65_536])).unwrap();
    let witness =
        Witness { last, told: Mutex::default(), expected: Mutex::default(), asked: AtomicUsize::new(0) };
    let hints = Hints { pim, ..Hints::NONE };
    let attempt = Attempt { hints, monitor: Some(&witness), ..Attempt::default() };
    let error = header.unlock(&credentials(PASSWORD), &attempt).unwrap_err();
    (error, witness)
}

#[test]
fn the_monitor_is_told_of_each_derivation_once() {
    // proves: VC-TRIAL-01
    // proves: VC-TRIAL-02
    let (error, witness) = watched(usize::MAX, 1);
    assert_eq!(error.kind(), ErrorKind::Credentials);
    let mut told = witness.told.into_inner().unwrap();
    told.sort_by_key(|(_, number, _)| *number);
    // One place has room in the container; Argon2id is not tried with a PIM.
    let expected = ["sha512", "sha256", "blake2s", "whirlpool", "streebog", "ripemd160"];
    assert_eq!(told.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), expected);
    assert_eq!(told.iter().map(|(_, number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(told.iter().all(|(.., total)| *total == 6));
    assert!(!witness.expected.into_inner().unwrap().is_empty());
}

#[test]
fn the_monitor_ends_the_trial_in_the_middle_of_a_derivation() {
    // proves: VC-TRIAL-06
    let start = std::time::Instant::now();
    // Two thousand million iterations.
    let (error, witness) = watched(1, MAX_PIM);
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(witness.asked.into_inner() > 0);
}
