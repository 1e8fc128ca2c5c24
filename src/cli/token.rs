//! FIDO2 tokens at the command line: who is asked for the PIN and the touch.

use std::{cell::Cell, path::Path};

use strongroom::{
    crypto::{
        rng::OsRng,
        secret::{Credentials, Password},
    },
    error::{Error, ErrorKind, Result},
    format::{Attempt, Header, Unlocked},
    token::{self, Authenticator, Holder, TokenError},
};

use super::{interrupt, output::Console, secrets::PinSource, unlock::TRIES};

/// The tokens that are plugged in.
pub(crate) type Tokens = Vec<Box<dyn Authenticator>>;

/// Unlocks `header` with whichever token knows a credential of it.
///
/// # Errors
/// `NotFound` where no token is plugged in, `Credentials` where none belongs to this container; what the token said.
pub(crate) fn unlock(
    console: Console,
    path: &Path,
    header: &dyn Header,
    attempt: &Attempt,
    pin: PinSource<'_>,
    tries: u32,
) -> Result<(Unlocked, Credentials)> {
    let person = Person { console, pin, tries_left: Cell::new(tries) };
    interrupt::at_liberty(|| {
        // Before the tokens: without such a keyslot they are of no interest.
        check_any(header, attempt)?;
        open(header, attempt, &token::plugged_in()?, &person)
    })
    .map_err(|error| error.during(format!("cannot unlock {}", path.display())))
}

/// The tokens that are plugged in, looked for before anything is asked.
///
/// # Errors
/// `NotFound` where there is none, `Permission` where none may be used.
pub(crate) fn plugged_in() -> Result<Tokens> {
    token::plugged_in()
}

/// Makes a credential for the container on the only token of `tokens`.
///
/// # Errors
/// `Usage` where there are several; what the token said.
pub(crate) fn enrol(
    console: Console,
    header: &dyn Header,
    tokens: &Tokens,
    pin: PinSource<'_>,
) -> Result<Credentials> {
    let person = Person { console, pin, tries_left: Cell::new(TRIES) };
    let uuid = header.describe().uuid.unwrap_or_default();
    interrupt::at_liberty(|| {
        let answer = token::enrol(token::the_only_one(tokens)?, &uuid, &person, &OsRng)?;
        Ok(Credentials::SecurityKey(answer))
    })
}

fn check_any(header: &dyn Header, attempt: &Attempt) -> Result<()> {
    if header.challenges(attempt).is_empty() {
        return Err(Error::new(ErrorKind::Credentials, "no keyslot takes a FIDO2 token")
            .with_hint("strongroom key add --fido2 makes one"));
    }
    Ok(())
}

/// Asks one token after the other that knows a credential, until a keyslot opens.
fn open(
    header: &dyn Header,
    attempt: &Attempt,
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

/// Whoever sits at the terminal, or the source that speaks for them.
struct Person<'a> {
    console: Console,
    pin: PinSource<'a>,
    tries_left: Cell<u32>,
}

impl Holder for Person<'_> {
    fn pin(&self, token: &str, refusal: Option<TokenError>) -> Result<Password> {
        if let Some(refusal) = refusal {
            // Wrong PINs lock the token: a file is not asked twice, a person only so often.
            if !self.pin.is_prompt() || self.tries_left.get() == 0 {
                return Err(refusal.into());
            }
            self.console.note(&format!("strongroom: {refusal}"));
        }
        self.tries_left.set(self.tries_left.get().saturating_sub(1));
        self.pin.read(token)
    }

    fn touch(&self, token: &str) {
        self.console.note(&format!("strongroom: touch the FIDO2 token ({token})"));
    }
}

#[cfg(test)]
mod tests {
    use strongroom::{
        crypto::kdf::Argon2Cost,
        format::{Format, NewKeyslot, Priority, native::Native},
        storage::MemoryStorage,
    };

    use super::*;
    use crate::{
        cli::args::{OutputOptions, SecretOptions},
        software_token::SoftwareToken,
    };

    const PIN: &str = "4711";

    fn person(secrets: &SecretOptions) -> Person<'_> {
        let quiet = OutputOptions { json: false, quiet: true, verbose: false };
        Person { console: Console::new(quiet), pin: secrets.pin(), tries_left: Cell::new(TRIES) }
    }

    fn pin_from(command: &str) -> SecretOptions {
        SecretOptions { password_command: Some(command.to_owned()), ..SecretOptions::default() }
    }

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
        let secrets = pin_from("echo 4711");
        let answer = token::enrol(token, "uuid", &person(&secrets), &OsRng).unwrap();
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

    fn open_with(header: &dyn Header, token: &SoftwareToken, command: &str) -> Result<u32> {
        let secrets = pin_from(command);
        let (unlocked, _) = open(header, &Attempt::default(), &[token.boxed()], &person(&secrets))?;
        Ok(unlocked.keyslot.unwrap())
    }

    #[test]
    fn the_pin_comes_from_the_password_s_source() {
        let token = SoftwareToken::new("a", Some(PIN));
        let header = container_for(&token);
        assert_eq!(open_with(&*header, &token, "echo 4711").unwrap(), 1);
    }

    #[test]
    fn a_wrong_pin_from_a_source_costs_one_try_only() {
        let token = SoftwareToken::new("a", Some(PIN));
        let header = container_for(&token);
        let error = open_with(&*header, &token, "echo 1234").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.to_string(), "wrong PIN for the FIDO2 token, 7 tries left");
        assert_eq!(open_with(&*header, &token, "echo 4711").unwrap(), 1);
    }

    #[test]
    fn a_token_without_a_pin_asks_for_none() {
        let token = SoftwareToken::new("a", None);
        let header = container_for(&token);
        assert_eq!(open_with(&*header, &token, "exit 1").unwrap(), 1);
    }

    #[test]
    fn another_token_does_not_open_it() {
        let header = container_for(&SoftwareToken::new("a", None));
        let error = open_with(&*header, &SoftwareToken::new("b", None), "exit 1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.hint(), Some("plug in the token that the keyslot was made with"));
    }

    #[test]
    fn a_container_without_such_a_keyslot_is_told_before_tokens_are_looked_for() {
        let header = Native.read_header(&container()).unwrap();
        let error = check_any(&*header, &Attempt::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.to_string(), "no keyslot takes a FIDO2 token");
    }
}
