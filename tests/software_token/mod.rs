//! A FIDO2 token in software, for tests of what stands above [`Authenticator`]: in the library, the command line and the
//! vectors. It computes *hmac-secret* as CTAP 2.1, 12.5, says: `CredRandom` for each credential, one with and one without user
//! verification, and HMAC-SHA-256(CredRandom, salt). The encrypted channel to the token is left out.

#![allow(dead_code, reason = "each test crate uses its part")]
#![allow(unreachable_pub, reason = "a module of several crates")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use strongroom::{
    crypto::{
        secret::{HmacSecret, Password},
        security_key::CredentialId,
    },
    token::{Abilities, Authenticator, Holder, TokenError},
};

/// The tries that a token grants before it locks itself.
const PIN_TRIES: u32 = 8;

/// A credential and its two keys.
#[derive(Debug, Clone)]
struct Credential {
    id: CredentialId,
    with_uv: [u8; 32],
    without_uv: [u8; 32],
}

/// What a token holds and does. Clones are the same token, plugged in twice.
#[derive(Debug, Clone)]
pub struct SoftwareToken {
    name: &'static str,
    seed: &'static str,
    pin: Option<&'static str>,
    pub has_hmac_secret: bool,
    /// Nobody touches it.
    pub is_left_alone: bool,
    credentials: Rc<RefCell<Vec<Credential>>>,
    tries_left: Rc<Cell<u32>>,
    /// How often it was touched.
    pub touches: Rc<Cell<u32>>,
}

impl SoftwareToken {
    /// A token without credentials; everything that it will make up comes from `seed`.
    pub fn new(seed: &'static str, pin: Option<&'static str>) -> Self {
        Self {
            name: "Software Token",
            seed,
            pin,
            has_hmac_secret: true,
            is_left_alone: false,
            credentials: Rc::default(),
            tries_left: Rc::new(Cell::new(PIN_TRIES)),
            touches: Rc::default(),
        }
    }

    /// As the callers of [`Authenticator`] want it.
    pub fn boxed(&self) -> Box<dyn Authenticator> {
        Box::new(self.clone())
    }

    fn touch(&self) -> Result<(), TokenError> {
        if self.is_left_alone {
            return Err(TokenError::NotTouched);
        }
        self.touches.set(self.touches.get() + 1);
        Ok(())
    }

    /// Whether the user is verified now.
    fn verify(&self, pin: Option<&Password>) -> Result<bool, TokenError> {
        let Some(pin) = pin else { return Ok(false) };
        if self.tries_left.get() == 0 {
            return Err(TokenError::PinBlocked);
        }
        if self.pin.map(str::as_bytes) != Some(pin.expose()) {
            self.tries_left.set(self.tries_left.get() - 1);
            return Err(TokenError::WrongPin { tries_left: Some(self.tries_left.get()) });
        }
        self.tries_left.set(PIN_TRIES);
        Ok(true)
    }

    fn random(&self, what: &str) -> [u8; 32] {
        let count = self.credentials.borrow().len();
        Sha256::digest(format!("{} {count} {what}", self.seed)).into()
    }
}

impl Authenticator for SoftwareToken {
    fn name(&self) -> &str {
        self.name
    }

    fn abilities(&self) -> Result<Abilities, TokenError> {
        Ok(Abilities { hmac_secret: self.has_hmac_secret, has_pin: self.pin.is_some() })
    }

    fn make_credential(&self, user: &str, pin: Option<&Password>) -> Result<CredentialId, TokenError> {
        // CTAP 2.1, 6.1.2, step 6: a token with a PIN makes no credential without.
        if !self.verify(pin)? && self.pin.is_some() {
            return Err(TokenError::PinRequired);
        }
        self.touch()?;
        let id = [&self.random("id")[..], user.as_bytes()].concat();
        let id = CredentialId::new(&id).unwrap();
        let made = Credential {
            id: id.clone(),
            with_uv: self.random("CredRandomWithUV"),
            without_uv: self.random("CredRandomWithoutUV"),
        };
        self.credentials.borrow_mut().push(made);
        Ok(id)
    }

    fn knows(&self, credential: &CredentialId) -> Result<bool, TokenError> {
        Ok(self.credentials.borrow().iter().any(|known| known.id == *credential))
    }

    fn hmac_secret(
        &self,
        credential: &CredentialId,
        salt: &[u8; 32],
        pin: Option<&Password>,
    ) -> Result<HmacSecret, TokenError> {
        let verified = self.verify(pin)?;
        self.touch()?;
        let credentials = self.credentials.borrow();
        let known =
            credentials.iter().find(|known| known.id == *credential).ok_or(TokenError::UnknownCredential)?;
        let key = if verified { &known.with_uv } else { &known.without_uv };
        let output = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(salt).finalize().into_bytes();
        Ok(HmacSecret::copy_of(&output)?)
    }
}

/// A person who knows some PINs, which are given one after the other.
#[derive(Debug, Default)]
pub struct Person {
    pins: RefCell<Vec<&'static str>>,
    /// What was answered to wrong PINs.
    pub refusals: RefCell<Vec<String>>,
    /// How often the person was asked to touch a token.
    pub asked_to_touch: Cell<u32>,
}

impl Person {
    pub fn knowing(pins: &[&'static str]) -> Self {
        Self { pins: RefCell::new(pins.iter().rev().copied().collect()), ..Self::default() }
    }
}

impl Holder for Person {
    fn pin(&self, _token: &str, refusal: Option<TokenError>) -> strongroom::Result<Password> {
        self.refusals.borrow_mut().extend(refusal.as_ref().map(ToString::to_string));
        match (self.pins.borrow_mut().pop(), refusal) {
            (Some(pin), _) => Ok(Password::copy_of(pin.as_bytes())?),
            (None, refusal) => Err(refusal.unwrap_or(TokenError::PinRequired).into()),
        }
    }

    fn touch(&self, _token: &str) {
        self.asked_to_touch.set(self.asked_to_touch.get() + 1);
    }
}
