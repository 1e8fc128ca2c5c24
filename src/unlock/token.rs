//! FIDO2 tokens: who is asked for the PIN and the touch.

use std::{cell::Cell, path::Path};

use super::{Advice, FrontEnd, Refusal, Secret, Task, Wanted, front::at};
use crate::{
    crypto::{
        rng::OsRng,
        secret::{Credentials, Password},
    },
    error::{Error, ErrorKind, Result},
    format::{Attempt, Header, Unlocked},
    token::{self, Authenticator, Holder, TokenError},
};

/// The tokens that are plugged in.
pub type Tokens = Vec<Box<dyn Authenticator>>;

/// Unlocks `header` with whichever token knows a credential of it.
///
/// # Errors
/// `NotFound` where no token is plugged in, `Credentials` where none belongs to this container; what the token said.
pub(super) fn unlock(
    front: &dyn FrontEnd,
    path: &Path,
    header: &dyn Header,
    attempt: &Attempt<'_>,
) -> Result<(Unlocked, Credentials)> {
    at(front, Task::Token, || {
        // Before the tokens: without such a keyslot they are of no interest.
        check_any(front, header, attempt)?;
        open(header, attempt, &token::plugged_in()?, &Person::new(front, path))
    })
}

/// Makes a credential for the container at `path` on the only token of `tokens`.
///
/// # Errors
/// `Usage` where there are several; what the token said.
pub fn enrol(front: &dyn FrontEnd, path: &Path, header: &dyn Header, tokens: &Tokens) -> Result<Credentials> {
    let uuid = header.describe().uuid.unwrap_or_default();
    at(front, Task::Token, || {
        let person = Person::new(front, path);
        let answer = token::enrol(token::the_only_one(tokens)?, &uuid, &person, &OsRng)?;
        Ok(Credentials::SecurityKey(answer))
    })
}

fn check_any(front: &dyn FrontEnd, header: &dyn Header, attempt: &Attempt<'_>) -> Result<()> {
    if header.challenges(attempt).is_empty() {
        let error = Error::new(ErrorKind::Credentials, "no keyslot takes a FIDO2 token");
        return Err(super::advised(front, error, &Advice::NoTokenKeyslot));
    }
    Ok(())
}

/// Asks one token after the other that knows a credential, until a keyslot opens.
fn open(
    header: &dyn Header,
    attempt: &Attempt<'_>,
    tokens: &[Box<dyn Authenticator>],
    holder: &dyn Holder,
) -> Result<(Unlocked, Credentials)> {
    let challenges = header.challenges(attempt);
    let mut failure = TokenError::UnknownCredential.into();
    for (token, challenge) in token::matching(tokens, &challenges)? {
        let credentials = Credentials::SecurityKey(token::answer(token, challenge, holder)?);
        match header.unlock(&credentials, attempt) {
            Ok(unlocked) => return Ok((unlocked, credentials)),
            Err(error) if error.kind() == ErrorKind::Credentials => failure = error,
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

/// Whoever the front end speaks for.
struct Person<'a> {
    front: &'a dyn FrontEnd,
    path: &'a Path,
    asked: Cell<u32>,
}

impl<'a> Person<'a> {
    fn new(front: &'a dyn FrontEnd, path: &'a Path) -> Self {
        Self { front, path, asked: Cell::new(0) }
    }
}

impl Holder for Person<'_> {
    fn pin(&self, token: &str, refusal: Option<TokenError>) -> Result<Password> {
        let secret = Secret::TokenPin(token);
        // Wrong PINs lock the token: a file is not asked twice, a person only so often.
        let refusal = match refusal {
            Some(refusal) if self.asked.get() >= self.front.tries(&secret) => return Err(refusal.into()),
            refusal => refusal,
        };
        self.asked.set(self.asked.get().saturating_add(1));
        let refusal = refusal.as_ref().map(Refusal::Pin);
        self.front.ask(&Wanted { secret, container: self.path, refusal })
    }

    fn touch(&self, token: &str) {
        self.front.touch(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::kdf::Argon2Cost,
        format::{Format, NewKeyslot, Priority, native::Native},
        software_token::SoftwareToken,
        storage::MemoryStorage,
        unlock::scripted::{Script, Scripted},
    };

    const PIN: &str = "4711";

    fn container() -> MemoryStorage {
        let image = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/vectors/native/password.img");
        MemoryStorage::new(std::fs::read(image).unwrap())
    }

    /// A container with a keyslot for `token`, beside the one for the password.
    fn container_for(token: &SoftwareToken) -> Box<dyn Header> {
        let storage = container();
        let header = Native.read_header(&storage).unwrap();
        let password = Password::copy_of(b"correct horse battery staple").unwrap();
        let credentials = Credentials::Password { password, keyfiles: Vec::new() };
        let unlocked = header.unlock(&credentials, &Attempt::default()).unwrap();
        let front = Scripted::answering([PIN]);
        let answer = token::enrol(token, "uuid", &Person::new(&front, Path::new("vault")), &OsRng).unwrap();
        let new = NewKeyslot {
            slot: None,
            label: None,
            priority: Priority::Normal,
            cost: Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 }.into(),
            credentials: &Credentials::SecurityKey(answer),
        };
        let mut editor = header.editor(&unlocked).unwrap();
        editor.add(&new, &OsRng).unwrap();
        editor.commit(&storage).unwrap();
        Native.read_header(&storage).unwrap()
    }

    fn open_with(header: &dyn Header, token: &SoftwareToken, front: &Scripted) -> Result<u32> {
        let person = Person::new(front, Path::new("vault"));
        let (unlocked, _) = open(header, &Attempt::default(), &[token.boxed()], &person)?;
        Ok(unlocked.keyslot.unwrap())
    }

    #[test]
    fn the_front_end_is_asked_for_the_pin_and_told_of_the_touch() {
        let token = SoftwareToken::new("a", Some(PIN));
        let header = container_for(&token);
        let front = Scripted::answering([PIN]);
        assert_eq!(open_with(&*header, &token, &front).unwrap(), 1);
        assert_eq!(front.seen(), ["PIN of Software Token", "touch Software Token"]);
    }

    #[test]
    fn a_wrong_pin_from_a_source_costs_one_try_only() {
        let token = SoftwareToken::new("a", Some(PIN));
        let header = container_for(&token);
        let front = Scripted::new(Script { tries: 1, answers: &["1234", PIN], ..Script::default() });
        let error = open_with(&*header, &token, &front).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.to_string(), "wrong PIN for the FIDO2 token, 7 tries left");
        assert_eq!(open_with(&*header, &token, &front).unwrap(), 1);
    }

    #[test]
    fn a_person_hears_how_many_tries_the_token_leaves() {
        let token = SoftwareToken::new("a", Some(PIN));
        let header = container_for(&token);
        let front = Scripted::answering(["1234", PIN]);
        assert_eq!(open_with(&*header, &token, &front).unwrap(), 1);
        let (asked, touch) = ("PIN of Software Token", "touch Software Token");
        let again = "PIN of Software Token: wrong PIN for the FIDO2 token, 7 tries left";
        assert_eq!(front.seen(), [asked, touch, again, touch]);
    }

    #[test]
    fn a_token_without_a_pin_asks_for_none() {
        let token = SoftwareToken::new("a", None);
        let header = container_for(&token);
        assert_eq!(open_with(&*header, &token, &Scripted::answering([])).unwrap(), 1);
    }

    #[test]
    fn another_token_does_not_open_it() {
        let header = container_for(&SoftwareToken::new("a", None));
        let error =
            open_with(&*header, &SoftwareToken::new("b", None), &Scripted::answering([])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.hint(), Some("plug in the token that the keyslot was made with"));
    }

    #[test]
    fn a_container_without_such_a_keyslot_is_told_before_tokens_are_looked_for() {
        let header = Native.read_header(&container()).unwrap();
        let front = Scripted::answering([]);
        let error = unlock(&front, Path::new("vault"), &*header, &Attempt::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.to_string(), "no keyslot takes a FIDO2 token");
        assert_eq!(error.hint(), Some("NoTokenKeyslot"));
    }
}
