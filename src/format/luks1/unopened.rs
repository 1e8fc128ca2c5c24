//! A whole header that names what is not supported here: it is shown, and opens nothing.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::FromBytes;

use super::{
    Luks1,
    layout::{ACTIVE, HEADER_LEN, RawHeader},
    parse::{HeaderError, data_offset},
};
use crate::{
    crypto::secret::{Credentials, VolumeKey},
    error::{Error, Result},
    format::{
        Attempt, Change, CopyInfo, CopyState, Detail, Editor, Header, HeaderInfo, KeyfileRole, KeyslotInfo,
        Unlocked,
        luks::{UNIT, cipher::CipherError, version::Version},
    },
    storage::Storage,
    text::excerpt,
};

/// What can be told of it, and why it is not opened.
#[derive(Debug)]
pub(super) struct UnopenedHeader {
    info: HeaderInfo,
    reason: HeaderError,
}

impl UnopenedHeader {
    /// The header in these bytes, where `reason` is that it names something that is not supported, and not that it is damaged.
    pub(super) fn new(bytes: &[u8; HEADER_LEN], container_len: u64, reason: HeaderError) -> Option<Self> {
        let is_whole = matches!(
            reason,
            HeaderError::Hash { .. }
                | HeaderError::Cipher(
                    CipherError::Unknown { .. }
                        | CipherError::SmallBlocks { .. }
                        | CipherError::Authenticated { .. }
                        | CipherError::Null { .. }
                )
        );
        let raw = RawHeader::ref_from_bytes(bytes).ok().filter(|_| is_whole)?;
        let (name, mode) = (shown(&raw.cipher_name), shown(&raw.cipher_mode));
        let keyslots = raw.keyslots.iter().zip(0_u32..).filter(|(slot, _)| slot.state.get() == ACTIVE);
        let offset = data_offset(raw);
        let info = HeaderInfo {
            version: 1,
            uuid: Some(shown(&raw.uuid)).filter(|uuid| !uuid.is_empty()),
            cipher: if mode.is_empty() { name } else { format!("{name}-{mode}") },
            key_bits: raw.key_len.get().saturating_mul(8),
            data_offset: offset,
            data_size: container_len.saturating_sub(offset).div_euclid(UNIT).saturating_mul(UNIT),
            headers: vec![CopyInfo { offset: 0, state: CopyState::Current, sequence: None }],
            keyslots: keyslots.map(|(_, slot)| KeyslotInfo::unknown(slot, None)).collect(),
            details: vec![
                Detail::new("Hash", shown(&raw.hash)),
                Detail::new("Not supported", reason.to_string()),
            ],
            ..HeaderInfo::unknown(Luks1::NAME, container_len)
        };
        Some(Self { info, reason })
    }

    fn refusal(&self) -> Error {
        self.reason.clone().into()
    }
}

impl Header for UnopenedHeader {
    fn describe(&self) -> HeaderInfo {
        self.info.clone()
    }

    fn keyfile_role(&self) -> KeyfileRole {
        KeyfileRole::WholeSecret
    }

    fn check_openable(&self) -> Result<()> {
        Err(self.refusal())
    }

    fn unlock(&self, _: &Credentials, _: &Attempt<'_>) -> Result<Unlocked> {
        Err(self.refusal())
    }

    fn unlock_with_key(&self, _: VolumeKey) -> Result<Unlocked> {
        Err(self.refusal())
    }

    fn prepare_writing(&self, _: &dyn Storage, _: &Unlocked) -> Result<Vec<String>> {
        Err(self.refusal())
    }

    fn check_change(&self, _: &Change<'_>) -> Result<()> {
        Err(self.refusal())
    }

    fn editor(&self, _: &Unlocked) -> Result<Box<dyn Editor>> {
        Err(self.refusal())
    }
}

/// A name, fit to be shown.
fn shown(field: &[u8]) -> String {
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    excerpt(&String::from_utf8_lossy(text))
}
