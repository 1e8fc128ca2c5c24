//! Secrets as types: locked in memory, wiped on drop, no `Clone`, no `Display`, `Debug` prints the name only.

use std::{fmt, io};

use subtle::ConstantTimeEq;

use super::security_key::Answer;
pub use crate::sys::memory::LockedBytes;

/// Makes a secret type around [`LockedBytes`].
macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(LockedBytes);

        impl $name {
            /// Copies `bytes` into locked memory. The caller wipes its own copy.
            pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
                let mut locked = LockedBytes::zeroed(bytes.len())?;
                locked.as_mut_slice().copy_from_slice(bytes);
                Ok(Self(locked))
            }

            /// The bytes, for the primitive that needs them.
            pub fn expose(&self) -> &[u8] {
                self.0.as_slice()
            }

            /// The number of bytes.
            pub const fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether there are none.
            pub const fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl From<LockedBytes> for $name {
            fn from(bytes: LockedBytes) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> subtle::Choice {
                self.expose().ct_eq(other.expose())
            }
        }
    };
}

secret! {
    /// What the user typed, or the content of a password file: bytes as given, not normalised.
    Password
}
secret! {
    /// The random key that all keys of one volume come from (native: 64 bytes).
    VolumeKey
}
secret! {
    /// A key made from another: a subkey, the key of one keyslot.
    DerivedKey
}
secret! {
    /// The digest of one keyfile's whole content.
    KeyfileDigest
}
secret! {
    /// What a FIDO2 token makes of a keyslot's salt.
    HmacSecret
}
secret! {
    /// 256 random bits that the user keeps on paper. Needs no costly derivation: nobody guesses it.
    RecoveryKey
}

/// What the user presents to open a keyslot.
#[derive(Debug)]
pub enum Credentials {
    /// A password, keyfiles, or both.
    Password {
        /// The password; empty where keyfiles alone open the volume.
        password: Password,
        /// One digest a keyfile, in the order given.
        keyfiles: Vec<KeyfileDigest>,
    },
    /// A recovery key.
    Recovery(RecoveryKey),
    /// A FIDO2 token's answer to the challenge of a keyslot.
    SecurityKey(Answer),
}

impl Credentials {
    /// Whether both are the same password with the same keyfiles, in whatever order.
    pub fn is_same(&self, other: &Self) -> bool {
        let (Self::Password { password, keyfiles }, Self::Password { password: theirs, keyfiles: others }) =
            (self, other)
        else {
            return false;
        };
        let has = |all: &[KeyfileDigest], one: &KeyfileDigest| all.iter().any(|it| it.ct_eq(one).into());
        let same_files = keyfiles.len() == others.len() && keyfiles.iter().all(|one| has(others, one));
        same_files && bool::from(password.ct_eq(theirs))
    }
}

/// The size of a [`RecoveryKey`] in bytes.
pub const RECOVERY_KEY_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keyfiles_makes_no_other_credentials() {
        let of = |password: &[u8], keyfiles: &[&[u8]]| Credentials::Password {
            password: Password::copy_of(password).unwrap(),
            keyfiles: keyfiles.iter().map(|file| KeyfileDigest::copy_of(file).unwrap()).collect(),
        };
        assert!(of(b"a", &[b"1", b"2"]).is_same(&of(b"a", &[b"2", b"1"])));
        for other in [of(b"a", &[b"1"]), of(b"b", &[b"1", b"2"]), of(b"a", &[b"1", b"3"])] {
            assert!(!of(b"a", &[b"1", b"2"]).is_same(&other));
        }
    }

    #[test]
    fn debug_prints_the_name_only() {
        let password = Password::copy_of(b"correct horse").unwrap();
        assert_eq!(format!("{password:?}"), "Password");
    }
}
