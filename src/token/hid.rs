//! Tokens on USB, through `ctap-hid-fido2`. Only what that crate needs stands here.

use std::{
    fmt,
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use ctap_hid_fido2::{
    FidoKeyHid, HidInfo, HidParam, LibCfg,
    fidokey::{AssertionExtension, CredentialExtension, GetAssertionArgsBuilder, MakeCredentialArgsBuilder},
    get_fidokey_devices,
    public_key_credential_user_entity::PublicKeyCredentialUserEntity,
};
use zeroize::zeroize_stack;

use super::{Abilities, Authenticator, RELYING_PARTY, TokenError, none_found};
use crate::{
    crypto::{
        secret::{HmacSecret, Password},
        security_key::{CredentialId, HMAC_SECRET_LEN},
    },
    error::Result,
};

/// What the user of the machine may open, in the order in which the system names them.
pub(super) fn plugged_in() -> Result<Vec<Box<dyn Authenticator>>> {
    let devices = get_fidokey_devices();
    if devices.is_empty() {
        return Err(none_found());
    }
    let mut tokens: Vec<Box<dyn Authenticator>> = Vec::new();
    let mut failure = None;
    for device in devices {
        match HidToken::open(device) {
            Ok(token) => tokens.push(Box::new(token)),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if tokens.is_empty() => Err(error.into()),
        _ => Ok(tokens),
    }
}

/// A token behind `/dev/hidraw*`.
struct HidToken {
    name: String,
    abilities: Abilities,
    key: FidoKeyHid,
}

impl fmt::Debug for HidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HidToken({:?})", self.name)
    }
}

impl HidToken {
    fn open(device: HidInfo) -> Result<Self, TokenError> {
        if let HidParam::Path(path) = &device.param {
            check_access(Path::new(path))?;
        }
        // The crate would ask for the touch on standard output, where data goes.
        let config = LibCfg { enable_keep_alive_msg: false, ..LibCfg::init() };
        let key = FidoKeyHid::new(&[device.param], &config).map_err(|error| failed(&error))?;
        let info = key.get_info().map_err(|error| failed(&error))?;
        let has = |option: &str| info.options.iter().any(|(name, set)| name == option && *set);
        let abilities = Abilities {
            hmac_secret: info.extensions.iter().any(|name| name == "hmac-secret"),
            has_pin: has("clientPin"),
        };
        // The token names what it likes best first; old ones name none and know the first.
        let known = |version: &u32| u8::try_from(*version).ok().filter(|version| (1..=2).contains(version));
        let protocol = info.pin_uv_auth_protocols.iter().find_map(known).unwrap_or(1);
        Ok(Self {
            name: printable(&device.product_string),
            abilities,
            key: key.with_pin_protocol_version(protocol),
        })
    }

    /// What the token's refusal means. Where a PIN was wrong, it is asked how many tries are left.
    fn refused(&self, error: &impl fmt::Display) -> TokenError {
        match refusal(&error.to_string()) {
            TokenError::WrongPin { .. } => {
                let left = self.key.get_pin_retries().ok().and_then(|left| u32::try_from(left).ok());
                TokenError::WrongPin { tries_left: left }
            }
            other => other,
        }
    }
}

impl Authenticator for HidToken {
    fn name(&self) -> &str {
        &self.name
    }

    fn abilities(&self) -> Result<Abilities, TokenError> {
        Ok(self.abilities)
    }

    fn make_credential(&self, user: &str, pin: Option<&Password>) -> Result<CredentialId, TokenError> {
        let user = PublicKeyCredentialUserEntity::new(
            Some(user.as_bytes()),
            Some(RELYING_PARTY),
            Some(RELYING_PARTY),
        );
        let builder = MakeCredentialArgsBuilder::new(RELYING_PARTY, CHALLENGE)
            .user_entity(&user)
            .extensions(&[CredentialExtension::HmacSecret(Some(true))]);
        let builder = match pin {
            Some(pin) => builder.pin(text(pin)?),
            None => builder.without_pin_and_uv(),
        };
        let made =
            self.key.make_credential_with_args(&builder.build()).map_err(|error| self.refused(&error))?;
        // Some tokens say yes to the request, and no to the extension.
        if !made.extensions.iter().any(|e| matches!(e, CredentialExtension::HmacSecret(Some(true)))) {
            return Err(TokenError::NoHmacSecret);
        }
        CredentialId::new(&made.credential_descriptor.id)
            .ok_or_else(|| TokenError::Failed("its credential id is longer than 1024 bytes".to_owned()))
    }

    fn knows(&self, credential: &CredentialId) -> Result<bool, TokenError> {
        let arguments = GetAssertionArgsBuilder::new(RELYING_PARTY, CHALLENGE)
            .credential_id(credential.as_bytes())
            .without_pin_and_uv()
            .without_up()
            .build();
        match self.key.get_assertion_with_args(&arguments) {
            Ok(_) => Ok(true),
            Err(error) => match self.refused(&error) {
                TokenError::UnknownCredential => Ok(false),
                other => Err(other),
            },
        }
    }

    fn hmac_secret(
        &self,
        credential: &CredentialId,
        salt: &[u8; HMAC_SECRET_LEN],
        pin: Option<&Password>,
    ) -> Result<HmacSecret, TokenError> {
        let builder = GetAssertionArgsBuilder::new(RELYING_PARTY, CHALLENGE)
            .credential_id(credential.as_bytes())
            .extensions(&[AssertionExtension::HmacSecret(Some(*salt))]);
        let builder = match pin {
            Some(pin) => builder.pin(text(pin)?),
            None => builder.without_pin_and_uv(),
        };
        let secret = self.ask(builder);
        // What the crate leaves on the stack; its heap is wiped by our allocator.
        zeroize_stack::<STACK_WIPED>();
        secret
    }
}

impl HidToken {
    /// In a frame of its own, which can be wiped afterwards.
    #[inline(never)]
    fn ask(&self, builder: GetAssertionArgsBuilder<'_>) -> Result<HmacSecret, TokenError> {
        let assertions =
            self.key.get_assertion_with_args(&builder.build()).map_err(|error| self.refused(&error))?;
        let outputs = assertions.iter().flat_map(|assertion| &assertion.extensions);
        let output = outputs.filter_map(|extension| match extension {
            AssertionExtension::HmacSecret(Some(output)) => Some(output),
            _ => None,
        });
        let output = output.take(1).next().ok_or(TokenError::NoHmacSecret)?;
        Ok(HmacSecret::copy_of(output)?)
    }
}

/// Says what the crate does not: that the device is there and only the permission is missing.
fn check_access(device: &Path) -> Result<(), TokenError> {
    OpenOptions::new().read(true).write(true).open(device).map(drop).map_err(|e| not_opened(&e, device))
}

fn not_opened(error: &io::Error, device: &Path) -> TokenError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => TokenError::NoPermission { path: PathBuf::from(device) },
        _ => TokenError::Failed(format!("cannot open {}", device.display())),
    }
}

fn failed(error: &impl fmt::Display) -> TokenError {
    refusal(&error.to_string())
}

fn text(pin: &Password) -> Result<&str, TokenError> {
    std::str::from_utf8(pin.expose()).map_err(|_| TokenError::NotText)
}

/// A device's own name, which may be anything.
fn printable(name: &str) -> String {
    let name: String = name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect();
    if name.trim().is_empty() { "FIDO2 token".to_owned() } else { name.trim().to_owned() }
}

/// The meaning of a status (CTAP 2.1, 8.2), which the crate tells in a text only.
fn refusal(text: &str) -> TokenError {
    match status(text) {
        Some(0x22 | 0x2E) => TokenError::UnknownCredential,
        Some(0x05 | 0x27 | 0x2D | 0x2F | 0x3A | 0x3B) => TokenError::NotTouched,
        Some(0x31) => TokenError::WrongPin { tries_left: None },
        Some(0x32) => TokenError::PinBlocked,
        Some(0x34) => TokenError::PinPaused,
        Some(0x36) => TokenError::PinRequired,
        Some(status) => TokenError::Failed(format!("status {status:#04x}")),
        None => TokenError::Failed("it cannot be talked to".to_owned()),
    }
}

/// The two hexadecimal digits behind `response_status err = 0x`.
fn status(text: &str) -> Option<u8> {
    let (_, rest) = text.split_once("response_status err = 0x")?;
    let digits = rest.find(|c: char| !c.is_ascii_hexdigit()).map_or(rest, |end| rest.split_at(end).0);
    u8::from_str_radix(digits, 16).ok()
}

/// What the token signs. Nobody looks at the signature: the keyslot's own tag tells whether the answer is right.
const CHALLENGE: &[u8] = b"strongroom";
const STACK_WIPED: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_from_what_the_crate_says() {
        assert_eq!(status("response_status err = 0x31 CTAP2_ERR_PIN_INVALID   PIN Invalid."), Some(0x31));
        assert_eq!(status("response_status err = 0x2E CTAP2_ERR_NO_CREDENTIALS    No ..."), Some(0x2E));
        assert_eq!(status("response_status err = 0x9"), Some(9));
        assert_eq!(status("read err = 0xFE"), None);
        assert_eq!(status("Failed to open device."), None);
    }

    #[test]
    fn each_refusal_has_its_meaning() {
        let of = |status: u8| refusal(&format!("response_status err = 0x{status:02X} NAME Text."));
        assert!(matches!(of(0x2E), TokenError::UnknownCredential));
        assert!(matches!(of(0x2F), TokenError::NotTouched));
        assert!(matches!(of(0x31), TokenError::WrongPin { tries_left: None }));
        assert!(matches!(of(0x32), TokenError::PinBlocked));
        assert!(matches!(of(0x34), TokenError::PinPaused));
        assert!(matches!(of(0x36), TokenError::PinRequired));
        assert_eq!(of(0x2B).to_string(), "the FIDO2 token failed: status 0x2b");
        assert_eq!(refusal("write error").to_string(), "the FIDO2 token failed: it cannot be talked to");
    }

    #[test]
    fn a_device_of_another_user_is_told_from_one_that_is_gone() {
        let device = Path::new("/dev/hidraw0");
        let denied = not_opened(&io::ErrorKind::PermissionDenied.into(), device);
        assert!(matches!(denied, TokenError::NoPermission { path } if path == device));
        let gone = not_opened(&io::ErrorKind::NotFound.into(), device);
        assert_eq!(gone.to_string(), "the FIDO2 token failed: cannot open /dev/hidraw0");
    }

    #[test]
    fn a_device_that_is_not_there_is_no_panic() {
        let device = HidInfo {
            pid: 1,
            vid: 1,
            product_string: String::new(),
            info: String::new(),
            param: HidParam::Path("/dev/hidraw-none".to_owned()),
        };
        assert!(matches!(HidToken::open(device), Err(TokenError::Failed(_))));
    }

    #[test]
    fn a_file_that_is_no_token_is_refused() {
        let device = HidInfo {
            pid: 1,
            vid: 1,
            product_string: String::new(),
            info: String::new(),
            param: HidParam::Path("/dev/null".to_owned()),
        };
        assert!(matches!(HidToken::open(device), Err(TokenError::Failed(_))));
    }

    #[test]
    fn a_token_s_name_cannot_command_the_terminal() {
        assert_eq!(printable("Key \u{1b}[2J 5\u{202e}"), "Key [2J 5");
        assert_eq!(printable(" \n"), "FIDO2 token");
    }
}
