//! FIDO2 tokens: what keyslots need of them. Everything but the talk over USB stands above [`Authenticator`].

mod error;
#[cfg(feature = "fido2")]
mod hid;
#[cfg(not(feature = "fido2"))]
mod hid {
    //! A build without the crate that talks to tokens.

    use super::Authenticator;
    use crate::error::{Error, ErrorKind, Result};

    pub(super) fn plugged_in() -> Result<Vec<Box<dyn Authenticator>>> {
        Err(Error::new(ErrorKind::Missing, "this strongroom was built without FIDO2")
            .with_hint("build it with the feature fido2"))
    }
}
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::error::TokenError;
use crate::{
    crypto::{
        rng::Rng,
        secret::{HmacSecret, Password},
        security_key::{Answer, Challenge, CredentialId, HMAC_SECRET_LEN},
    },
    error::{Error, ErrorKind, Result},
};

/// The relying party that our credentials belong to. It is not a web site, and no browser asks a token for it.
pub const RELYING_PARTY: &str = "strongroom";

/// A FIDO2 token that can be talked to. What takes a touch waits for it, up to the token's own limit (some 30 seconds).
pub trait Authenticator: fmt::Debug {
    /// What it calls itself.
    fn name(&self) -> &str;

    /// What it can do.
    fn abilities(&self) -> Result<Abilities, TokenError>;

    /// Makes a credential that can compute *hmac-secret* and is not kept on the token. Takes a touch.
    ///
    /// `user` is the container's uuid, in text: at most 64 bytes.
    fn make_credential(&self, user: &str, pin: Option<&Password>) -> Result<CredentialId, TokenError>;

    /// Whether the credential is one of this token. Takes no touch and no PIN.
    fn knows(&self, credential: &CredentialId) -> Result<bool, TokenError>;

    /// *hmac-secret* of one salt (CTAP 2.1, 12.5): HMAC-SHA-256 under a key of the credential, another one with a PIN than
    /// without. Takes a touch.
    fn hmac_secret(
        &self,
        credential: &CredentialId,
        salt: &[u8; HMAC_SECRET_LEN],
        pin: Option<&Password>,
    ) -> Result<HmacSecret, TokenError>;
}

/// What a token can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// The extension *hmac-secret*.
    pub hmac_secret: bool,
    /// A PIN has been set.
    pub has_pin: bool,
}

/// The person who holds the token.
pub trait Holder {
    /// Asks for the PIN of the token called `token`; after a wrong one, with what the token said to it.
    ///
    /// # Errors
    /// Whatever ends the matter; `refusal` turned into an error where there is nobody to be asked again.
    fn pin(&self, token: &str, refusal: Option<TokenError>) -> Result<Password>;

    /// Says that the token called `token` waits for a touch.
    fn touch(&self, token: &str);
}

/// The FIDO2 tokens of this machine that this user may talk to.
///
/// # Errors
/// `NotFound` where none is plugged in, `Permission` where none may be opened, `Missing` in a build without FIDO2.
pub fn plugged_in() -> Result<Vec<Box<dyn Authenticator>>> {
    hid::plugged_in()
}

/// The only token of `tokens`: a new credential must not land on the wrong one.
///
/// # Errors
/// `Usage` where there are several.
pub fn the_only_one(tokens: &[Box<dyn Authenticator>]) -> Result<&dyn Authenticator> {
    match tokens {
        [] => Err(none_found()),
        [token] => Ok(&**token),
        _ => {
            let names: Vec<_> = tokens.iter().map(|token| token.name()).collect();
            let reason = format!("there are {} FIDO2 tokens: {}", tokens.len(), names.join(", "));
            Err(Error::new(ErrorKind::Usage, reason).with_hint("keep only the one that you mean"))
        }
    }
}

/// Makes a credential for the container `uuid`, and asks the first answer of it. Takes two touches, and the PIN where the token
/// has one: whoever finds the token can do nothing with it.
///
/// # Errors
/// `Unsupported` where the token has no *hmac-secret*; what [`TokenError`] turns into.
pub fn enrol(token: &dyn Authenticator, uuid: &str, holder: &dyn Holder, rng: &dyn Rng) -> Result<Answer> {
    let abilities = token.abilities()?;
    if !abilities.hmac_secret {
        return Err(TokenError::NoHmacSecret.into());
    }
    let mut salt = [0; HMAC_SECRET_LEN];
    rng.fill(&mut salt)?;
    let (credential, pin) =
        with_pin(token, abilities.has_pin, holder, |pin| token.make_credential(uuid, pin))?;
    let challenge = Challenge { credential, salt, verified: pin.is_some() };
    holder.touch(token.name());
    let secret = token.hmac_secret(&challenge.credential, &salt, pin.as_ref())?;
    Ok(Answer { challenge, secret })
}

/// Which of the challenges which token can answer, in the order of the challenges. Takes no touch.
///
/// # Errors
/// `Credentials` where no token knows any of the credentials.
pub fn matching<'a>(
    tokens: &'a [Box<dyn Authenticator>],
    challenges: &'a [Challenge],
) -> Result<Vec<(&'a dyn Authenticator, &'a Challenge)>> {
    let mut matches = Vec::new();
    for challenge in challenges {
        for token in tokens {
            if token.knows(&challenge.credential)? {
                matches.push((&**token, challenge));
            }
        }
    }
    if matches.is_empty() {
        return Err(TokenError::UnknownCredential.into());
    }
    Ok(matches)
}

/// Has a token answer a challenge. Takes a touch, and the PIN where it was given when the slot was made.
pub fn answer(token: &dyn Authenticator, challenge: &Challenge, holder: &dyn Holder) -> Result<Answer> {
    let (secret, _) = with_pin(token, challenge.verified, holder, |pin| {
        token.hmac_secret(&challenge.credential, &challenge.salt, pin)
    })?;
    Ok(Answer { challenge: challenge.clone(), secret })
}

/// Does something that takes a touch, and a PIN where `needs_pin`, which is asked for anew where it was wrong.
fn with_pin<T>(
    token: &dyn Authenticator,
    needs_pin: bool,
    holder: &dyn Holder,
    action: impl Fn(Option<&Password>) -> Result<T, TokenError>,
) -> Result<(T, Option<Password>)> {
    let ask = |refusal| if needs_pin { holder.pin(token.name(), refusal).map(Some) } else { Ok(None) };
    let mut pin = ask(None)?;
    loop {
        holder.touch(token.name());
        match action(pin.as_ref()) {
            Ok(done) => return Ok((done, pin)),
            Err(refusal @ TokenError::WrongPin { .. }) => pin = ask(Some(refusal))?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn none_found() -> Error {
    Error::new(ErrorKind::NotFound, "no FIDO2 token found").with_hint("plug it in and try again")
}
