//! What stands above a token, with a token in software, down to the keyslots: both ends must agree.

use super::*;
use crate::{
    crypto::{
        kdf::Argon2Cost,
        rng::OsRng,
        secret::{Credentials, RecoveryKey},
    },
    format::{Attempt, Format, Header, KeyslotInfo, NewKeyslot, Priority, Unlocked, native::Native},
    software_token::{Person, SoftwareToken},
    storage::MemoryStorage,
};

const UUID: &str = "47e7dfdd-1bc1-415d-b521-a6e482731a70";
const PIN: &str = "4711";
const NO_COST: Argon2Cost = Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 };

/// A container that a password opens, and its tokens.
struct Vault {
    storage: MemoryStorage,
}

impl Vault {
    fn new() -> Self {
        let image = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/vectors/native/password.img");
        Self { storage: MemoryStorage::new(std::fs::read(image).unwrap()) }
    }

    fn header(&self) -> Box<dyn Header> {
        Native.read_header(&self.storage).unwrap()
    }

    fn unlock_with_password(&self) -> Unlocked {
        let password = Password::copy_of(b"correct horse battery staple").unwrap();
        let credentials = Credentials::Password { password, keyfiles: Vec::new() };
        self.header().unlock(&credentials, &Attempt::default()).unwrap()
    }

    /// Gives `token` a keyslot, and returns the slots.
    fn add(&self, token: &SoftwareToken, person: &Person) -> Vec<KeyslotInfo> {
        let answer = enrol(token, UUID, person, &OsRng).unwrap();
        let mut editor = self.header().editor(&self.unlock_with_password()).unwrap();
        let new = NewKeyslot {
            slot: None,
            label: None,
            priority: Priority::Normal,
            cost: NO_COST.into(),
            credentials: &Credentials::SecurityKey(answer),
        };
        editor.add(&new, &OsRng).unwrap();
        editor.commit(&self.storage).unwrap();
        editor.keyslots()
    }

    /// Unlocks with what is plugged in; gives the keyslot.
    fn unlock(&self, tokens: &[&SoftwareToken], person: &Person, attempt: &Attempt) -> Result<u32> {
        let tokens: Vec<_> = tokens.iter().map(|token| token.boxed()).collect();
        let header = self.header();
        let challenges = header.challenges(attempt);
        let mut last = None;
        for (token, challenge) in matching(&tokens, &challenges)? {
            let credentials = Credentials::SecurityKey(answer(token, challenge, person)?);
            match header.unlock(&credentials, attempt) {
                Ok(unlocked) => return Ok(unlocked.keyslot.unwrap()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap())
    }
}

#[track_caller]
fn assert_refused(result: Result<impl fmt::Debug>, kind: ErrorKind, text: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
}

#[test]
fn a_token_opens_the_keyslot_that_was_made_with_it() {
    let (vault, token, person) = (Vault::new(), SoftwareToken::new("a", None), Person::default());
    let slots = vault.add(&token, &person);
    assert_eq!(slots[1].kind, "fido2");
    assert_eq!((slots[1].kdf.name, slots[1].kdf.memory, slots[1].weak), ("hkdf-sha512", None, false));
    assert_eq!(vault.unlock(&[&token], &person, &Attempt::default()).unwrap(), 1);
}

#[test]
fn enrolling_takes_two_touches_and_unlocking_one() {
    let (vault, token, person) = (Vault::new(), SoftwareToken::new("a", None), Person::default());
    vault.add(&token, &person);
    assert_eq!((token.touches.get(), person.asked_to_touch.get()), (2, 2));
    vault.unlock(&[&token], &person, &Attempt::default()).unwrap();
    assert_eq!((token.touches.get(), person.asked_to_touch.get()), (3, 3));
}

#[test]
fn a_token_with_a_pin_needs_it_to_open() {
    let (vault, token) = (Vault::new(), SoftwareToken::new("a", Some(PIN)));
    vault.add(&token, &Person::knowing(&[PIN]));
    let unlock = |pins: &[&'static str]| {
        let person = Person::knowing(pins);
        let opened = vault.unlock(&[&token], &person, &Attempt::default());
        (opened, person.refusals.take())
    };
    assert_eq!(unlock(&[PIN]).0.unwrap(), 1);
    let (opened, refusals) = unlock(&["0000", PIN]);
    assert_eq!(opened.unwrap(), 1);
    assert_eq!(refusals, ["wrong PIN for the FIDO2 token, 7 tries left"]);
    let text = "wrong PIN for the FIDO2 token, 7 tries left";
    assert_refused(unlock(&["0000"]).0, ErrorKind::Credentials, text);
}

#[test]
fn the_answer_with_a_pin_is_another_than_without() {
    let token = SoftwareToken::new("a", Some(PIN));
    let pin = Password::copy_of(PIN.as_bytes()).unwrap();
    let credential = token.make_credential(UUID, Some(&pin)).unwrap();
    let with = token.hmac_secret(&credential, &[1; 32], Some(&pin)).unwrap();
    let without = token.hmac_secret(&credential, &[1; 32], None).unwrap();
    assert_ne!(with.expose(), without.expose());
}

#[test]
fn a_pin_that_is_wrong_too_often_locks_the_token() {
    let token = SoftwareToken::new("a", Some(PIN));
    let person = Person::knowing(&["0"; 9]);
    let enrolled = enrol(&token, UUID, &person, &OsRng);
    assert_refused(
        enrolled,
        ErrorKind::Credentials,
        "too many wrong PINs: the FIDO2 token has locked itself",
    );
    assert_eq!(person.refusals.borrow().len(), 8);
}

#[test]
fn another_token_is_told_without_a_touch() {
    let (vault, token, person) = (Vault::new(), SoftwareToken::new("a", None), Person::default());
    vault.add(&token, &person);
    let other = SoftwareToken::new("b", None);
    let opened = vault.unlock(&[&other], &person, &Attempt::default());
    assert_refused(opened, ErrorKind::Credentials, "no keyslot takes this FIDO2 token");
    assert_eq!(other.touches.get(), 0);
}

#[test]
fn of_several_keyslots_and_tokens_those_that_belong_together_are_found() {
    let vault = Vault::new();
    let tokens = ["a", "b", "c"].map(|seed| SoftwareToken::new(seed, None));
    for token in &tokens {
        vault.add(token, &Person::default());
    }
    let all: Vec<_> = tokens.iter().collect();
    for (token, slot) in tokens.iter().zip(1..) {
        let person = Person::default();
        assert_eq!(vault.unlock(&[token], &person, &Attempt::default()).unwrap(), slot);
        assert_eq!(person.asked_to_touch.get(), 1);
        let attempt = Attempt { keyslot: Some(slot), ..Attempt::default() };
        assert_eq!(vault.unlock(&all, &person, &attempt).unwrap(), slot);
    }
    let none = Attempt { keyslot: Some(0), ..Attempt::default() };
    assert!(vault.header().challenges(&none).is_empty(), "keyslot 0 takes a password");
}

#[test]
fn an_answer_to_another_challenge_opens_nothing() {
    let (vault, token, person) = (Vault::new(), SoftwareToken::new("a", None), Person::default());
    vault.add(&token, &person);
    let mut challenge = vault.header().challenges(&Attempt::default()).remove(0);
    challenge.salt[0] ^= 1;
    let credentials = Credentials::SecurityKey(answer(&token, &challenge, &person).unwrap());
    let opened = vault.header().unlock(&credentials, &Attempt::default());
    assert_refused(opened, ErrorKind::Credentials, "no keyslot opens with this FIDO2 token");
}

#[test]
fn a_wrong_answer_to_the_right_challenge_opens_nothing() {
    let (vault, token, person) = (Vault::new(), SoftwareToken::new("a", None), Person::default());
    vault.add(&token, &person);
    let challenge = vault.header().challenges(&Attempt::default()).remove(0);
    let secret = HmacSecret::copy_of(&[7; 32]).unwrap();
    let credentials = Credentials::SecurityKey(Answer { challenge, secret });
    let opened = vault.header().unlock(&credentials, &Attempt::default());
    assert_refused(opened, ErrorKind::Credentials, "no keyslot opens with this FIDO2 token");
}

#[test]
fn a_recovery_key_with_the_bytes_of_the_answer_opens_nothing() {
    let (vault, token, person) = (Vault::new(), SoftwareToken::new("a", None), Person::default());
    vault.add(&token, &person);
    let challenge = vault.header().challenges(&Attempt::default()).remove(0);
    let answer = answer(&token, &challenge, &person).unwrap();
    let key = RecoveryKey::copy_of(answer.secret.expose()).unwrap();
    let opened = vault.header().unlock(&Credentials::Recovery(key), &Attempt::default());
    assert_refused(opened, ErrorKind::Credentials, "no keyslot takes a recovery key");
}

#[test]
fn a_token_without_hmac_secret_is_refused_before_it_is_touched() {
    let mut token = SoftwareToken::new("a", None);
    token.has_hmac_secret = false;
    let enrolled = enrol(&token, UUID, &Person::default(), &OsRng);
    assert_refused(enrolled, ErrorKind::Unsupported, "the FIDO2 token does not support hmac-secret");
    assert_eq!(token.touches.get(), 0);
}

#[test]
fn a_token_that_nobody_touches_is_an_error() {
    let mut token = SoftwareToken::new("a", None);
    token.is_left_alone = true;
    let enrolled = enrol(&token, UUID, &Person::default(), &OsRng);
    assert_refused(enrolled, ErrorKind::Credentials, "the FIDO2 token was not touched in time");
}

#[test]
fn a_new_credential_needs_to_know_which_token_is_meant() {
    let token = SoftwareToken::new("a", None);
    assert_eq!(the_only_one(&[token.boxed()]).unwrap().name(), "Software Token");
    assert_refused(the_only_one(&[]).map(|_| ()), ErrorKind::NotFound, "no FIDO2 token found");
    let two = the_only_one(&[token.boxed(), token.boxed()]).map(|_| ());
    assert_refused(two, ErrorKind::Usage, "there are 2 FIDO2 tokens: Software Token, Software Token");
}
