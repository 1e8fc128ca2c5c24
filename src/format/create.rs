//! New containers, whatever their format: wishes become a [`Blueprint`], which with a secret becomes a [`NewHeader`].

use std::{fmt, ops::Range, sync::Arc};

use super::{KeyfileRole, veracrypt::Prf};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::{KdfCost, KdfKind},
        rng::Rng,
        secret::{Credentials, VolumeKey},
    },
    error::Result,
    mapping::Layout,
    storage::Storage,
    units::SectorSize,
};

/// What the user wants of a new container. What is left open the format settles.
#[derive(Debug, Clone, Default)]
pub struct Wishes<'a> {
    /// A name for it.
    pub label: Option<&'a str>,
    /// How sectors are encrypted, by a name that the format knows.
    pub cipher: Option<&'a str>,
    /// The bits of the data key, both halves where it has two.
    pub key_bits: Option<u32>,
    /// The size of one sector.
    pub sector_size: Option<SectorSize>,
    /// The hash of the header, for formats whose headers name one.
    pub hash: Option<HashKind>,
    /// What makes the header's key of the password, for formats of the VeraCrypt family.
    pub prf: Option<Prf>,
    /// The PIM for that; 0 is the usual one.
    pub pim: u32,
    /// The room for keyslots in bytes, for formats that leave a choice.
    pub keyslots_len: Option<u64>,
    /// How the data area comes to be.
    pub provision: Provision,
    /// The header goes into a file of its own, and none into the container.
    pub is_detached: bool,
}

/// How much room there is, or is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The container has so many bytes; less than a sector of them may be left unused.
    Container(u64),
    /// The volume has at least so many bytes, and the container as many as that takes.
    Data(u64),
}

/// How the space of a container comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provision {
    /// Filled with random bytes.
    #[default]
    Thick,
    /// Allocated, not filled.
    Quick,
    /// Sectors take space when they are written; unwritten ones read as zeros.
    Thin,
}

impl Provision {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thick => "thick",
            Self::Quick => "quick",
            Self::Thin => "thin",
        }
    }
}

/// Which bytes of a container are data; the header has the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The container's size.
    pub container_len: u64,
    /// Where the data area lies.
    pub data: Range<u64>,
}

impl Extent {
    /// The data area's size in bytes.
    pub const fn data_len(&self) -> u64 {
        self.data.end.saturating_sub(self.data.start)
    }
}

/// A new container of which all is settled but the secret.
pub trait Blueprint: fmt::Debug {
    /// The container's identity in the usual hyphenated form, where the format has one.
    fn uuid(&self) -> Option<String>;

    /// Where the data will lie.
    fn extent(&self) -> Extent;

    /// The size of one sector of the volume.
    fn sector_size(&self) -> SectorSize;

    /// What a keyfile is to this format.
    fn keyfile_role(&self) -> KeyfileRole;

    /// Which key derivations the first keyslot may have; `None` where the format settles the costs itself.
    fn kdf_bounds(&self) -> Option<KdfBounds>;

    /// Makes the volume key and the header around it. Runs the key derivation; writes nothing. `cost` is within
    /// [`kdf_bounds`](Self::kdf_bounds), and `None` where these are.
    ///
    /// # Errors
    /// `Usage` where costs or credentials are not for this format, `OutOfMemory`.
    fn make_header(
        &self,
        credentials: &Credentials,
        cost: Option<KdfCost>,
        rng: &dyn Rng,
    ) -> Result<Box<dyn NewHeader>>;
}

/// A header that was made and not written yet.
pub trait NewHeader: fmt::Debug {
    /// The volume key, as [`Unlocked`](super::Unlocked) gives it to the process that serves the volume.
    fn volume_key(&self) -> Arc<VolumeKey>;

    /// How the volume will lie in the container.
    ///
    /// # Errors
    /// `Damaged` where the volume key gives a data key that must not be used: make another header.
    fn layout(&self) -> Result<Layout>;

    /// Writes the header into a container whose data area is prepared, so that the container is recognised only when it is
    /// whole; synced when it returns.
    ///
    /// # Errors
    /// What writing gave.
    fn write(&self, storage: &dyn Storage) -> Result<()>;

    /// Writes a whole header file: the header of a container that bears none itself. Synced when it returns.
    ///
    /// # Errors
    /// What writing gave.
    fn write_file(&self, file: &dyn Storage) -> Result<()>;
}

/// Which key derivations the keyslots of a format take, and within which bounds new ones are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KdfBounds {
    /// Those that are taken; the first is the usual one.
    pub kinds: &'static [KdfKind],
    /// The hash of PBKDF2 where no other is asked for.
    pub hash: HashKind,
    /// Whether another may be asked for.
    pub takes_hash: bool,
    /// The bytes that are derived: PBKDF2 takes longer for more.
    pub key_len: usize,
    /// Argon2's memory in KiB, least and most.
    pub memory_kib: (u32, u32),
    /// Argon2's passes, fewest and most.
    pub passes: (u32, u32),
    /// Argon2's lanes, fewest and most.
    pub lanes: (u32, u32),
    /// PBKDF2's iterations, fewest and most.
    pub iterations: (u32, u32),
}
