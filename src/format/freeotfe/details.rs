//! What a critical data block says, decrypted: bytes in, types out.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::fmt;

use crate::{
    crypto::secret::LockedBytes,
    error::{Error, ErrorKind},
};

/// What the volume details block of a header says. (CDB layouts 1 to 5)
pub struct Details {
    /// The layout, 1 to 5.
    pub version: u8,
    /// Whether sectors are numbered from the start of the volume's file, and not from that of the data.
    pub counts_from_file: bool,
    /// The size of the data in bytes.
    pub data_len: u64,
    /// The key of the data.
    pub key: LockedBytes,
    /// How the IVs of sectors are made.
    pub sector_iv: SectorIv,
    /// What is added to each of them.
    pub volume_iv: VolumeIv,
    /// When the header was last written: year, month, day. Layout 5.
    pub written: Option<(u16, u8, u8)>,
}

/// How the IV of a sector is made. (Sector IV generation method)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorIv {
    /// Zeros.
    None,
    /// The low 32 bits of its number, little-endian.
    Number32,
    /// Its number, 64 bits, little-endian.
    Number64,
    /// The hash of the low 32 bits.
    Hashed32,
    /// The hash of the 64 bits.
    Hashed64,
    /// The number encrypted under the hash of the key.
    Essiv,
}

/// What is added (XOR) to the IV of every sector: a block, or nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VolumeIv {
    bytes: [u8; 16],
    len: usize,
}

impl VolumeIv {
    /// Its bytes, 16 at most: more than a block count for nothing.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn of(iv: &[u8]) -> Self {
        let mut bytes = [0; 16];
        for (byte, &value) in bytes.iter_mut().zip(iv) {
            *byte = value;
        }
        Self { bytes, len: iv.len().min(16) }
    }
}

impl fmt::Debug for VolumeIv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeIv({} bytes)", self.len)
    }
}

/// What can be wrong with a header that the password decrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DetailsError {
    /// A layout that is not known.
    #[error("the header has layout {0}, which is not known")]
    Version(u8),
    /// The block ends within a field.
    #[error("the password is right, but the header ends within {0}")]
    CutShort(&'static str),
    /// A number of bits that makes no whole bytes.
    #[error("the password is right, but {what} in the header has {bits} bits")]
    Bits {
        /// The field.
        what: &'static str,
        /// What the header says.
        bits: u32,
    },
    /// The key is not one of the cipher that the header is encrypted with.
    #[error("the password is right, but the key in the header has {found} bytes, not {expected}")]
    Key {
        /// The bytes found.
        found: usize,
        /// What the cipher takes.
        expected: usize,
    },
    /// A way to make IVs that is not known.
    #[error("the header makes the IVs of sectors in way {0}, which is not known")]
    SectorIv(u8),
    /// No sector at all.
    #[error("the password is right, but the header says that the data have {0} bytes")]
    DataLen(u64),
    /// No memory for the key.
    #[error("no memory for the keys")]
    Memory,
}

impl From<DetailsError> for Error {
    fn from(error: DetailsError) -> Self {
        match error {
            DetailsError::Version(_) | DetailsError::SectorIv(_) => {
                Self::caused_by(ErrorKind::Unsupported, error).with_hint("LibreCrypt on Windows may open it")
            }
            DetailsError::Memory => Self::caused_by(ErrorKind::OutOfMemory, error),
            _ => Self::caused_by(ErrorKind::Damaged, error),
        }
    }
}

impl Details {
    /// Parses a volume details block, all that stands behind the check.
    ///
    /// # Errors
    /// The first that is found wrong.
    pub fn parse(block: &[u8]) -> Result<Self, DetailsError> {
        let mut rest = Rest(block);
        let version = rest.u8("its layout")?;
        if !(1..=5).contains(&version) {
            return Err(DetailsError::Version(version)); // FO-DET-01
        }
        let flags = rest.u32("the flags")?;
        let data_len = rest.u64("the size of the data")?;
        if data_len < 512 || i64::try_from(data_len).is_err() {
            return Err(DetailsError::DataLen(data_len)); // FO-DET-03
        }
        let key = rest.bits("the key")?;
        rest.u8("the drive letter")?;
        let volume_iv = if version >= 2 { rest.bits("the volume's IV")? } else { &[] }; // FO-DET-05
        let flags = if version == 1 { low_flags(data_len) } else { flags };
        let sector_iv = match version {
            1 | 2 => SectorIv::of_flags(flags)?,
            _ => SectorIv::of_code(rest.u8("the way to make IVs")?)?,
        };
        let written = match version {
            5 => Some((rest.u16("the date")?, rest.u8("the date")?, rest.u8("the date")?)),
            _ => None,
        };
        let mut locked = LockedBytes::zeroed(key.len()).map_err(|_| DetailsError::Memory)?;
        locked.as_mut_slice().copy_from_slice(key);
        Ok(Self {
            version,
            counts_from_file: flags & COUNTS_FROM_FILE != 0,
            data_len,
            key: locked,
            sector_iv,
            volume_iv: VolumeIv::of(volume_iv),
            written,
        })
    }
}

/// FO-DET-02. The programs that wrote layout 1 took the flags of a volume from another place than they had put them: from the
/// fifth byte of the size of its data.
const fn low_flags(data_len: u64) -> u32 {
    let [_, _, _, _, flags, ..] = data_len.to_be_bytes();
    u32::from_be_bytes([0, 0, 0, flags])
}

impl SectorIv {
    /// FO-DET-04. Before layout 3 two flags say it.
    const fn of_flags(flags: u32) -> Result<Self, DetailsError> {
        match (flags & USES_NUMBER != 0, flags & HASHES_NUMBER != 0) {
            (false, false) => Ok(Self::None),
            (true, false) => Ok(Self::Number64),
            (true, true) => Ok(Self::Hashed64),
            (false, true) => {
                let [.., code] = flags.to_be_bytes();
                Err(DetailsError::SectorIv(code))
            }
        }
    }

    /// FO-DET-04.
    const fn of_code(code: u8) -> Result<Self, DetailsError> {
        match code {
            0 => Ok(Self::None),
            1 => Ok(Self::Number32),
            2 => Ok(Self::Number64),
            3 => Ok(Self::Hashed32),
            4 => Ok(Self::Hashed64),
            5 => Ok(Self::Essiv),
            other => Err(DetailsError::SectorIv(other)),
        }
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Details(layout {})", self.version)
    }
}

/// What of a block is not parsed yet. Numbers are big-endian.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DetailsError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DetailsError::CutShort(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DetailsError> {
        self.take(N, what)?.try_into().map_err(|_| DetailsError::CutShort(what))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, DetailsError> {
        self.array(what).map(u8::from_be_bytes)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, DetailsError> {
        self.array(what).map(u16::from_be_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, DetailsError> {
        self.array(what).map(u32::from_be_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, DetailsError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Bytes, before which stands how many bits they have.
    fn bits(&mut self, what: &'static str) -> Result<&'a [u8], DetailsError> {
        let bits = self.u32(what)?;
        let len = usize::try_from(bits / 8).ok().filter(|_| bits.is_multiple_of(8));
        self.take(len.ok_or(DetailsError::Bits { what, bits })?, what)
    }
}

/// Flag 0 before layout 3.
const USES_NUMBER: u32 = 1;
/// Flag 1.
const COUNTS_FROM_FILE: u32 = 1 << 1;
/// Flag 3 before layout 3.
const HASHES_NUMBER: u32 = 1 << 3;
