//! A new header: geometry, volume key, first keyslot, both copies.

use std::sync::Arc;

use super::{
    copy::HeaderCopy,
    data,
    header_file::HeaderFile,
    keyslot,
    layout::{ALIGNMENT, DATA_OFFSET, MAX_DATA_LEN, TAIL_LEN, VOLUME_KEY_LEN},
    suite::Suite,
    superblock::{CopyIndex, Geometry, Label, Superblock},
};
use crate::{
    crypto::{
        kdf::{Argon2Cost, KdfCost},
        rng::Rng,
        secret::{Credentials, LockedBytes, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{
        self, Blueprint, Extent, KdfBounds, KeyfileRole, NewKeyslot, Priority, Provision, Room, Wishes,
        hyphenated, new_uuid,
    },
    mapping::Layout,
    storage::Storage,
    units::SectorSize,
};

/// The smallest container, in bytes: header, 64 KiB of data, tail.
pub const MIN_CONTAINER_LEN: u64 = DATA_OFFSET + 64 * 1024 + TAIL_LEN;

/// What a new container is to be.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// Its identity: RFC 9562, version 4.
    pub uuid: [u8; 16],
    /// The user's name for it.
    pub label: Label,
    /// How sectors are encrypted.
    pub suite: Suite,
    /// The size of one sector: 512 or 4096.
    pub sector_size: SectorSize,
    /// How the data area comes to be.
    pub provision: Provision,
    /// Where everything lies.
    pub geometry: Geometry,
    /// The costs of the first keyslot.
    pub cost: Argon2Cost,
}

/// A header that was made and not written yet.
#[derive(Debug)]
pub struct NewHeader {
    a: HeaderCopy,
    b: HeaderCopy,
    /// The volume key.
    pub volume_key: Arc<VolumeKey>,
}

impl Geometry {
    /// The geometry of a new container of `container_len` bytes; a rest of less than 4 KiB is left unused.
    ///
    /// # Errors
    /// `Usage` where it is smaller than [`MIN_CONTAINER_LEN`] or larger than the format allows.
    pub fn for_container(container_len: u64) -> Result<Self> {
        let container_len = container_len / ALIGNMENT * ALIGNMENT;
        if container_len < MIN_CONTAINER_LEN {
            let reason = format!("a container needs at least {} KiB", MIN_CONTAINER_LEN / 1024);
            return Err(Error::new(ErrorKind::Usage, reason));
        }
        let backup_offset = container_len - TAIL_LEN;
        let data_len = backup_offset - DATA_OFFSET;
        if data_len > MAX_DATA_LEN {
            return Err(Error::new(ErrorKind::Usage, "a container holds at most 4 PiB"));
        }
        Ok(Self { data_offset: DATA_OFFSET, data_len, container_len, backup_offset })
    }

    /// The geometry of the smallest new container whose data area holds `data_len` bytes.
    ///
    /// # Errors
    /// `Usage` where that is more than the format allows.
    pub fn for_data(data_len: u64) -> Result<Self> {
        let around = DATA_OFFSET + TAIL_LEN;
        let padded = data_len.min(MAX_DATA_LEN + 1).next_multiple_of(ALIGNMENT);
        Self::for_container((padded + around).max(MIN_CONTAINER_LEN))
    }
}

/// NAT-KEY-01: the volume key is 64 bytes of the generator's.
pub(super) fn new_volume_key(rng: &dyn Rng) -> Result<VolumeKey> {
    let mut key = LockedBytes::zeroed(VOLUME_KEY_LEN)?;
    rng.fill(key.as_mut_slice())?;
    Ok(key.into())
}

impl NewHeader {
    /// Makes the volume key and keyslot 0. Runs the key derivation; writes nothing.
    ///
    /// # Errors
    /// `Usage` where the costs are below the least that a keyslot takes, or above what a reader accepts.
    pub fn new(container: &NewContainer, credentials: &Credentials, rng: &dyn Rng) -> Result<Self> {
        let volume_key = new_volume_key(rng)?;
        let slot = NewKeyslot {
            slot: Some(0),
            label: None,
            priority: Priority::Normal,
            cost: container.cost.into(),
            credentials,
        };
        let slot = keyslot::seal(0, &slot, &container.uuid, &volume_key, rng)?;
        let superblock = Superblock {
            index: CopyIndex::A,
            uuid: container.uuid,
            label: container.label.clone(),
            sequence: 1,
            suite: container.suite,
            sector_size: container.sector_size,
            provision: container.provision,
            geometry: container.geometry,
            generation: 0,
            reencryption: None,
            unknown_writing_features: 0,
        };
        let a = HeaderCopy::seal(&superblock, &[slot], &volume_key)?;
        let b = a.for_index(CopyIndex::B, &volume_key)?;
        Ok(Self { a, b, volume_key: Arc::new(volume_key) })
    }

    /// How the volume will lie in the container.
    ///
    /// # Errors
    /// `Damaged` where the volume key gives a data key that must not be used (NAT-KEY-08): make another header.
    pub fn layout(&self) -> Result<Layout> {
        data::layout(&self.a.superblock, &self.volume_key, None)
    }

    /// Writes a whole header file: the header of a container that bears none itself (NAT-HF-09).
    pub fn write_file(&self, file: &dyn Storage) -> Result<()> {
        HeaderFile::of(&self.a).write(file, [Some(&self.a), Some(&self.b)])
    }

    /// Writes copy B, then copy A: the container is recognised only when it is whole (NAT-UPD-01).
    pub fn write(&self, storage: &dyn Storage) -> Result<()> {
        self.b.write(storage)?;
        self.a.write(storage)
    }
}

impl format::NewHeader for NewHeader {
    fn volume_key(&self) -> Arc<VolumeKey> {
        Arc::clone(&self.volume_key)
    }

    fn layout(&self) -> Result<Layout> {
        self.layout()
    }

    fn write(&self, storage: &dyn Storage) -> Result<()> {
        self.write(storage)?;
        Ok(storage.sync_data()?)
    }

    fn write_file(&self, file: &dyn Storage) -> Result<()> {
        self.write_file(file)
    }
}

/// A new container of which all is settled but the secret and its costs.
#[derive(Debug)]
pub(super) struct NativeBlueprint {
    uuid: [u8; 16],
    label: Label,
    suite: Suite,
    sector_size: SectorSize,
    provision: Provision,
    geometry: Geometry,
}

impl NativeBlueprint {
    /// Settles what `wishes` leave open.
    ///
    /// # Errors
    /// `Usage` for what the format cannot have.
    pub(super) fn new(room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Self> {
        let sector_size = wishes.sector_size.unwrap_or(SectorSize::B4096);
        if !matches!(sector_size, SectorSize::B512 | SectorSize::B4096) {
            return Err(refused("its sectors have 512 or 4096 bytes"));
        }
        if wishes.hash.is_some() {
            return Err(refused("its hashes are fixed"));
        }
        Ok(Self {
            uuid: new_uuid(rng)?,
            label: keyslot::checked_label(wishes.label)?,
            suite: suite(wishes)?,
            sector_size,
            provision: wishes.provision,
            geometry: match room {
                Room::Container(len) => Geometry::for_container(len)?,
                Room::Data(len) => Geometry::for_data(len)?,
            },
        })
    }
}

/// The suite of that name; the bits of its key go without saying.
fn suite(wishes: &Wishes<'_>) -> Result<Suite> {
    let named = |name| Suite::ALL.into_iter().find(|suite| suite.name() == name);
    let suite = wishes.cipher.map_or(Some(Suite::default()), named);
    let suite = suite.ok_or_else(|| refused("its ciphers are aes-256-xts and aes-128-xts"))?;
    if wishes.key_bits.is_some_and(|bits| bits != suite.key_bits()) {
        return Err(refused(&format!("the key of {} has {} bits", suite.name(), suite.key_bits())));
    }
    Ok(suite)
}

fn refused(reason: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("the native format does not have this: {reason}"))
}

impl Blueprint for NativeBlueprint {
    fn uuid(&self) -> Option<String> {
        Some(hyphenated(&self.uuid))
    }

    fn extent(&self) -> Extent {
        (&self.geometry).into()
    }

    fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    fn keyfile_role(&self) -> KeyfileRole {
        KeyfileRole::PartOfSecret
    }

    fn kdf_bounds(&self) -> Option<KdfBounds> {
        Some(keyslot::kdf_bounds())
    }

    fn make_header(
        &self,
        credentials: &Credentials,
        cost: Option<KdfCost>,
        rng: &dyn Rng,
    ) -> Result<Box<dyn format::NewHeader>> {
        let container = NewContainer {
            uuid: self.uuid,
            label: self.label.clone(),
            suite: self.suite,
            sector_size: self.sector_size,
            provision: self.provision,
            geometry: self.geometry,
            cost: cost.map_or(Ok(keyslot::NO_COST), keyslot::argon2id_cost)?,
        };
        Ok(Box::new(NewHeader::new(&container, credentials, rng)?))
    }
}
