//! How talking to a token fails.

use std::{io, path::PathBuf};

use crate::error::{Error, ErrorKind};

/// Why a token did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It lacks the extension that keyslots are made of.
    #[error("the FIDO2 token does not support hmac-secret")]
    NoHmacSecret,
    /// It wants a PIN and got none.
    #[error("the FIDO2 token asks for a PIN")]
    PinRequired,
    /// The PIN is wrong.
    #[error("wrong PIN for the FIDO2 token{}", tries(*.tries_left))]
    WrongPin {
        /// How often it may still be wrong, where the token tells.
        tries_left: Option<u32>,
    },
    /// Wrong PINs in a row: the token takes none before it is plugged in anew.
    #[error("too many wrong PINs: the FIDO2 token takes none for now")]
    PinPaused,
    /// Too many wrong PINs: the token is of no use any more.
    #[error("too many wrong PINs: the FIDO2 token has locked itself")]
    PinBlocked,
    /// Nobody touched it in time, or the user refused.
    #[error("the FIDO2 token was not touched in time")]
    NotTouched,
    /// The credential is another token's.
    #[error("no keyslot takes this FIDO2 token")]
    UnknownCredential,
    /// The device may not be opened.
    #[error("no permission to use the FIDO2 token {}", .path.display())]
    NoPermission {
        /// The device.
        path: PathBuf,
    },
    /// A PIN that is no text.
    #[error("the PIN is not UTF-8")]
    NotText,
    /// Anything else.
    #[error("the FIDO2 token failed: {0}")]
    Failed(String),
    /// No memory for the answer.
    #[error(transparent)]
    Memory(#[from] io::Error),
}

fn tries(left: Option<u32>) -> String {
    match left {
        None => String::new(),
        Some(1) => ", 1 try left".to_owned(),
        Some(count) => format!(", {count} tries left"),
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        let (kind, hint) = match error {
            TokenError::NoHmacSecret => (ErrorKind::Unsupported, Some("use a token with FIDO2 hmac-secret")),
            TokenError::PinRequired => {
                (ErrorKind::Credentials, Some("make the keyslot anew with key add --fido2"))
            }
            TokenError::WrongPin { .. } | TokenError::NotTouched => (ErrorKind::Credentials, None),
            TokenError::PinPaused => {
                (ErrorKind::Credentials, Some("take it out, plug it in again and give the right PIN"))
            }
            TokenError::PinBlocked => {
                (ErrorKind::Credentials, Some("use a password, another token or the recovery key"))
            }
            TokenError::UnknownCredential => {
                (ErrorKind::Credentials, Some("plug in the token that the keyslot was made with"))
            }
            TokenError::NoPermission { .. } => (ErrorKind::Permission, Some(UDEV_RULE)),
            TokenError::NotText => (ErrorKind::Usage, None),
            TokenError::Failed(_) => (ErrorKind::Io, Some("take it out, plug it in and try again")),
            TokenError::Memory(error) => return error.into(),
        };
        let error = Self::caused_by(kind, error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// What gives the user at the machine access where the distribution's rules do not.
const UDEV_RULE: &str = "put this line into /etc/udev/rules.d/70-fido2.rules and plug the token in again: \
     SUBSYSTEM==\"hidraw\", ENV{ID_FIDO_TOKEN}==\"1\", TAG+=\"uaccess\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_pin_tells_the_tries_left() {
        let text = |tries_left| TokenError::WrongPin { tries_left }.to_string();
        assert_eq!(text(None), "wrong PIN for the FIDO2 token");
        assert_eq!(text(Some(1)), "wrong PIN for the FIDO2 token, 1 try left");
        assert_eq!(text(Some(7)), "wrong PIN for the FIDO2 token, 7 tries left");
    }

    #[test]
    fn a_device_that_may_not_be_opened_names_the_udev_rule() {
        let error = Error::from(TokenError::NoPermission { path: "/dev/hidraw3".into() });
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert_eq!(error.to_string(), "no permission to use the FIDO2 token /dev/hidraw3");
        assert!(error.hint().unwrap().contains("TAG+=\"uaccess\""));
    }
}
