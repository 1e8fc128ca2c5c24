//! Credentials from a front end: what is read, and what is asked for.

use std::path::Path;

use super::{
    Advice, FrontEnd, Means, Refusal, Secret, TRIES, Wanted, advised,
    keyfiles::{self, Use},
};
use crate::{
    crypto::{
        recovery::{self, RecoveryError},
        secret::{Credentials, Password, RecoveryKey},
    },
    error::{Error, ErrorKind, Result},
    format::KeyfileRole,
};

/// Who is asked, and for which container.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) front: &'a dyn FrontEnd,
    pub(super) path: &'a Path,
}

/// What opens the container at `path`, to which a keyfile is `role`: by `means`, which are no token.
///
/// # Errors
/// `Usage` for sources that give nothing, or too much; `Credentials` for what is no recovery key; `Interrupted`.
pub fn credentials(
    front: &dyn FrontEnd,
    path: &Path,
    means: &Means<'_>,
    role: KeyfileRole,
) -> Result<Credentials> {
    let asking = Asking { front, path };
    match *means {
        Means::Password { keyfiles, is_named } => {
            if let Some(secret) = means.secret(role) {
                let keyfiles = keyfiles::digests(front, role, keyfiles, Use::Old)?;
                return Ok(Credentials::Password { password: asking.ask(secret, None)?, keyfiles });
            }
            let password = keyfiles::whole(front, keyfiles, is_named)?;
            Ok(Credentials::Password { password, keyfiles: Vec::new() })
        }
        Means::RecoveryKey => asking.recovery_key(None).map(Credentials::Recovery),
        Means::Token => Err(Error::usage("a FIDO2 token opens keyslots alone")),
    }
}

impl Asking<'_> {
    pub(super) fn ask(&self, secret: Secret<'_>, refusal: Option<Refusal<'_>>) -> Result<Password> {
        self.front.ask(&Wanted { secret, container: self.path, refusal })
    }

    /// Asks for the secret once more after `refusal`. Keyfiles stay: one may be a pipe.
    pub(super) fn again(
        &self,
        secret: Secret<'_>,
        refusal: Refusal<'_>,
        credentials: &mut Credentials,
    ) -> Result<()> {
        match credentials {
            Credentials::Password { password, .. } => *password = self.ask(secret, Some(refusal))?,
            other => *other = Credentials::Recovery(self.recovery_key(Some(refusal))?),
        }
        Ok(())
    }

    /// Asks until it is a recovery key, as its digits tell.
    fn recovery_key(&self, refusal: Option<Refusal<'_>>) -> Result<RecoveryKey> {
        let secret = Secret::RecoveryKey;
        let mut tries_left = self.front.tries(&secret).min(TRIES);
        let mut answer = self.ask(secret, refusal)?;
        loop {
            tries_left = tries_left.saturating_sub(1);
            match recovery::decode(answer.expose()) {
                Ok(key) => return Ok(key),
                Err(error) if tries_left > 0 && !matches!(error, RecoveryError::Memory(_)) => {
                    answer = self.ask(secret, Some(Refusal::NoRecoveryKey(&error)))?;
                }
                Err(error) => return Err(self.no_key(error)),
            }
        }
    }

    pub(super) fn no_key(&self, error: RecoveryError) -> Error {
        if let RecoveryError::Memory(error) = error {
            return error.into();
        }
        let error = Error::new(ErrorKind::Credentials, error.to_string());
        advised(self.front, error.during("cannot take the recovery key"), &Advice::RecoveryKeyForm)
    }
}
