//! Unlocking the vectors of the specification for a front end that answers from a script.

use std::path::{Path, PathBuf};

use super::{
    scripted::{Script, Scripted},
    *,
};
use crate::{
    format::{Format, native::Native},
    storage::MemoryStorage,
    volume::{Access, Container, pin::Pins},
};

const PASSWORD: &str = "correct horse battery staple";

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/native").join(name)
}

fn header(name: &str) -> Box<dyn Header> {
    Native.read_header(&MemoryStorage::new(std::fs::read(vector(name)).unwrap())).unwrap()
}

fn wish(means: Means<'_>) -> Wish<'_> {
    Wish {
        means,
        keyslot: None,
        most: Most::default(),
        known: Known::default(),
        pin: PinWish::default(),
        remembering: Remembering::default(),
    }
}

fn password() -> Means<'static> {
    Means::Password { keyfiles: &[], is_named: false }
}

fn unlock(front: &Scripted, header: &dyn Header, wish: &Wish<'_>) -> Result<Unlocked> {
    Unlocking { front, path: Path::new("vault"), header, wish }.unlock()
}

#[test]
fn the_right_password_is_asked_for_once() {
    let front = Scripted::answering([PASSWORD]);
    assert_eq!(unlock(&front, &*header("password.img"), &wish(password())).unwrap().keyslot, Some(0));
    assert_eq!(front.seen(), ["password", "keyslot 0"]);
}

#[test]
fn a_wrong_password_is_asked_for_again_with_what_was_wrong() {
    let front = Scripted::answering(["guess", PASSWORD]);
    unlock(&front, &*header("password.img"), &wish(password())).unwrap();
    assert_eq!(front.seen(), ["password", "password: wrong password", "keyslot 0"]);
}

#[test]
fn after_the_last_try_the_bytes_of_the_password_are_looked_at() {
    let front = Scripted::answering(["one", "two", "three\r"]);
    let error = unlock(&front, &*header("password.img"), &wish(password())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert_eq!(error.to_string(), "cannot unlock vault: wrong password");
    assert!(error.hint().unwrap().contains("CarriageReturn"), "{error:?}");
    assert_eq!(front.seen().len(), 3);
}

#[test]
fn what_a_source_gives_is_tried_once() {
    let front = Scripted::new(Script { tries: 1, answers: &["guess", PASSWORD], ..Script::default() });
    let error = unlock(&front, &*header("password.img"), &wish(password())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert_eq!(front.seen(), ["password"]);
}

#[test]
fn who_cancels_is_not_asked_again() {
    let front = Scripted::answering([]);
    let error = unlock(&front, &*header("password.img"), &wish(password())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(front.seen(), ["password"]);
    let front = Scripted::answering(["guess"]);
    let error = unlock(&front, &*header("password.img"), &wish(password())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

#[test]
fn a_recovery_key_is_not_asked_for_where_none_opens_anything() {
    let front = Scripted::answering([PASSWORD]);
    let error = unlock(&front, &*header("password.img"), &wish(Means::RecoveryKey)).unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Credentials, Some("NoRecoveryKey")));
    assert!(front.seen().is_empty());
}

#[test]
fn digits_that_are_no_recovery_key_are_asked_for_again_before_a_key_is_derived() {
    let front = Scripted::answering(["123", "", "1234"]);
    let error = unlock(&front, &*header("recovery.img"), &wish(Means::RecoveryKey)).unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Credentials, Some("RecoveryKeyForm")));
    assert_eq!(
        front.seen(),
        [
            "recovery key",
            "recovery key: a recovery key has 102 digits, not 3",
            "recovery key: a recovery key has 102 digits, not 0"
        ]
    );
}

#[test]
fn a_header_that_is_not_as_pinned_is_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let pins = Pins::new(folder.path().to_path_buf());
    let mut wish = wish(password());
    wish.pin = PinWish { choice: Some(PinChoice::Require), pins: Some(pins.clone()) };
    let front = Scripted::answering([PASSWORD, PASSWORD, PASSWORD]);
    let whole = header("password.img");
    let error = unlock(&front, &*whole, &wish).unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::NotFound, Some("NotPinned")));
    assert!(front.seen().is_empty());

    wish.pin.choice = Some(PinChoice::FirstUse);
    unlock(&front, &*whole, &wish).unwrap();
    assert!(front.seen().last().unwrap().starts_with("Pinned"));
    wish.pin.choice = None;
    unlock(&front, &*whole, &wish).unwrap();
    assert_eq!(front.seen(), ["password", "keyslot 0"]);
}

#[test]
fn who_has_no_home_opens_without_pins_and_cannot_ask_for_one() {
    let mut wish = wish(password());
    let front = Scripted::answering([PASSWORD]);
    unlock(&front, &*header("password.img"), &wish).unwrap();
    wish.pin.choice = Some(PinChoice::FirstUse);
    assert_eq!(unlock(&front, &*header("password.img"), &wish).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_keyslot_that_is_to_be_kept_may_be_given_up() {
    let header = header("password.img");
    let keyslots = header.describe().keyslots;
    let wish = wish(password());
    let ask = |answers: &[&str]| {
        let front = Scripted::new(Script { tries: 3, answers, ..Script::default() });
        let unlocking = Unlocking { front: &front, path: Path::new("vault"), header: &*header, wish: &wish };
        (unlocking.unlock_kept(&keyslots[0]), front.seen())
    };
    assert!(ask(&[""]).0.unwrap().is_none());
    let (kept, seen) = ask(&["guess", PASSWORD]);
    assert!(matches!(kept.unwrap(), Some(Credentials::Password { .. })));
    assert_eq!(seen, ["keyslot 0 (\"main\")", "keyslot 0 (\"main\"): wrong password"]);
    assert_eq!(ask(&["one", "two", "three"]).0.unwrap_err().kind(), ErrorKind::Credentials);
}

/// A file that shows nothing, as a container of VeraCrypt does.
fn noise(folder: &Path) -> Container {
    let path = folder.join("noise");
    let mut bytes = vec![0; 1 << 20];
    crate::crypto::rng::Rng::fill(&crate::crypto::rng::OsRng, &mut bytes).unwrap();
    std::fs::write(&path, bytes).unwrap();
    Container::open(&path, Access::ReadOnly).unwrap()
}

#[test]
fn what_shows_nothing_is_tried_only_where_the_front_end_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let mut container = noise(folder.path());
    let no = Scripted::answering([]);
    opening::settle_format(&no, &mut container, &Known::default()).unwrap();
    assert!(no.seen()[0].starts_with("TryOpaque"));
    let error = container.format().unwrap_err();
    assert_eq!(
        (error.kind(), error.fact()),
        (ErrorKind::NotAContainer, Some(crate::error::Fact::NoSignature))
    );

    let yes = Scripted::new(Script { agrees: true, ..Script::default() });
    opening::settle_format(&yes, &mut container, &Known::default()).unwrap();
    assert_eq!(container.format().unwrap().name(), "veracrypt");
}

#[test]
fn what_is_said_of_another_format_is_refused_by_its_kind() {
    let mut container = Container::open(&vector("password.img"), Access::ReadOnly).unwrap();
    let front = Scripted::answering([]);
    let hints = veracrypt::Hints { hidden: true, ..veracrypt::Hints::NONE };
    let known = Known { hints, ..Known::default() };
    let error = opening::settle_format(&front, &mut container, &known).unwrap_err();
    assert_eq!(error.fact(), Some(crate::error::Fact::VeraCryptOnly("native")));
    let known = Known { freeotfe: Some(crate::format::freeotfe::Hints::USUAL), ..Known::default() };
    let error = opening::settle_format(&front, &mut container, &known).unwrap_err();
    assert_eq!(error.fact(), Some(crate::error::Fact::FreeOtfeOnly("native")));
    assert!(front.seen().is_empty());
}
