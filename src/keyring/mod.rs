//! The desktop's keyring, where a user may have the password of a vault remembered. Everything but the talk over the bus stands
//! above [`Keyring`].

mod secret_service;

use std::fmt;

pub use self::secret_service::SecretService;
use crate::{crypto::secret::Password, error::Result};

/// What keeps passwords for a user. A vault goes by the UUID in its header.
pub trait Keyring: fmt::Debug {
    /// Whether it has a password of this vault. Nobody is asked to unlock anything.
    ///
    /// # Errors
    /// `Missing` where there is no keyring; `Permission` for root; `Io` where it does not answer.
    fn has(&self, uuid: &str) -> Result<bool>;

    /// The password of this vault, if it has one. The user may be asked to unlock the keyring.
    ///
    /// # Errors
    /// As [`has`](Self::has); `Permission` where it stays locked; `Damaged` where what it gives is no password.
    fn password(&self, uuid: &str) -> Result<Option<Password>>;

    /// Keeps a password of this vault, in the place of the one before. `label` is what the user finds it by.
    ///
    /// # Errors
    /// As [`password`](Self::password).
    fn keep(&self, uuid: &str, label: &str, password: &Password) -> Result<()>;

    /// Forgets the passwords of this vault, or of all. Gives how many there were.
    ///
    /// # Errors
    /// As [`password`](Self::password).
    fn forget(&self, uuid: Option<&str>) -> Result<usize>;
}
