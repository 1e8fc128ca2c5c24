//! New volumes: one that fills a container, and one that hides in it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{ops::Range, sync::Arc};

use super::{
    Chain, Encryption, Family, Mode, Opened, Place, VolumeHeader,
    layout::{HEADER_LEN, KEYS_LEN, SLOT_LEN, UNIT},
    prf::Prf,
    seal::{Locking, Sealed},
};
use crate::{
    crypto::{
        kdf::KdfCost,
        rng::Rng,
        secret::{Credentials, LockedBytes, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{Blueprint, Extent, KdfBounds, KeyfileRole, NewHeader, Provision, Room, Wishes},
    mapping::Layout,
    storage::Storage,
    units::SectorSize,
};

/// What a new volume is encrypted with.
#[derive(Debug, Clone, Copy)]
struct Making {
    family: Family,
    encryption: Encryption,
    prf: Prf,
    pim: u32,
}

impl Making {
    /// # Errors
    /// `Usage` for what the program does not have.
    fn new(family: Family, wishes: &Wishes<'_>) -> Result<Self> {
        let title = family.title();
        let name = wishes.cipher.unwrap_or("aes");
        let name = name.strip_suffix("-xts-plain64").unwrap_or(name);
        let chain = Chain::of_family(name, family).ok_or_else(|| {
            Error::usage(format!("{title} has no cipher {name}")).with_hint(
                "chains are named in encryption order: aes, serpent, twofish-aes, aes-twofish-serpent",
            )
        })?;
        if wishes.label.is_some_and(|label| !label.is_empty()) {
            return Err(Error::usage(format!(
                "{title} containers have no labels: everything in them is encrypted"
            )));
        }
        if wishes.sector_size.is_some_and(|size| size != SectorSize::B512) {
            return Err(Error::usage(format!("{title} encrypts in units of 512 bytes")));
        }
        if wishes.key_bits.is_some() || wishes.hash.is_some() {
            let error = Error::usage(format!("{title}'s keys have one size"));
            return Err(error.with_hint("--prf names the hash that derives the header key"));
        }
        if wishes.is_detached {
            return Err(Error::usage(format!("{title} containers bear their headers")));
        }
        if wishes.provision == Provision::Thin {
            return Err(Error::usage(
                "a thin container shows which sectors are in use, and so whether there is a hidden volume",
            ));
        }
        let prf = wishes.prf.unwrap_or(Prf::Sha512);
        check_prf(family, prf)?;
        prf.cost(family, false, wishes.pim)?
            .ok_or_else(|| Error::usage(format!("{title} has no {}", prf.name())))?;
        Ok(Self { family, encryption: Encryption { chain, mode: Mode::Xts }, prf, pim: wishes.pim })
    }

    /// A header with new keys for a volume in these bytes of its container (VC-WRITE-01, -04).
    fn header(self, data: &Range<u64>, is_hidden: bool, rng: &dyn Rng) -> Result<VolumeHeader> {
        let mut keys = LockedBytes::zeroed(KEYS_LEN)?;
        rng.fill(keys.as_mut_slice())?;
        let len = data.end.saturating_sub(data.start);
        Ok(VolumeHeader {
            family: self.family,
            version: VERSION,
            minimum: minimum(self.family),
            times: [0; 2],
            hidden_size: if is_hidden { len } else { 0 },
            volume_size: len,
            area_start: data.start,
            area_len: len,
            flags: 0,
            sector_size: SectorSize::B512,
            keys,
        })
    }

    fn seal(
        self,
        data: &Range<u64>,
        place: Place,
        credentials: &Credentials,
        rng: &dyn Rng,
    ) -> Result<(Opened, [Sealed; 2])> {
        let header = self.header(data, place.is_hidden(), rng)?;
        let locking = Locking { credentials, prf: self.prf, pim: self.pim };
        let sealed = Sealed::pair(&header, self.encryption, &locking, rng)?;
        let offset = if place.is_hidden() { SLOT_LEN } else { 0 };
        let opened = Opened {
            place,
            offset,
            encryption: self.encryption,
            prf: self.prf,
            pim: self.pim,
            header,
            protected: None,
            original_is_lost: false,
        };
        Ok((opened, sealed))
    }
}

/// A new volume of which all is settled but the secret.
#[derive(Debug)]
pub struct VolumeBlueprint {
    making: Making,
    place: Place,
    extent: Extent,
}

impl VolumeBlueprint {
    /// A volume that fills a container.
    ///
    /// # Errors
    /// `Usage` for what the program does not have.
    pub(super) fn outer(family: Family, room: Room, wishes: &Wishes<'_>) -> Result<Self> {
        let making = Making::new(family, wishes)?;
        let container_len = match room {
            Room::Container(len) => len,
            Room::Data(len) => len.min(MOST).next_multiple_of(UNIT).saturating_add(OVERHEAD).max(LEAST),
        };
        let container_len = container_len.saturating_sub(container_len.checked_rem(UNIT).unwrap_or(0));
        if container_len < LEAST {
            return Err(Error::usage(format!(
                "a {} container needs at least {} KiB",
                family.title(),
                LEAST.div_euclid(1024)
            )));
        }
        if container_len > MOST {
            return Err(Error::usage(format!("a {} container holds at most 1 PiB", family.title())));
        }
        let data = HEADERS_LEN..container_len.saturating_sub(HEADERS_LEN);
        Ok(Self { making, place: Place::Normal, extent: Extent { container_len, data } })
    }

    /// A hidden volume of `size` bytes, or as large a one as fits, in the container of `outer`, whose file system uses
    /// nothing from byte `free_from` of the container on, up to where a hidden volume may end (VC-HID-01, -02, -03).
    ///
    /// # Errors
    /// `Usage` for what the outer volume's program does not have, `NoSpace` where it does not fit, `Unsupported` where `outer` cannot hold one.
    pub fn hidden(
        outer: &Opened,
        container_len: u64,
        free_from: u64,
        size: Option<u64>,
        wishes: &Wishes<'_>,
    ) -> Result<Self> {
        let making = Making::new(outer.header.family, wishes)?;
        outer.check_outer(container_len)?;
        let room = |reserve: u64| {
            let end = container_len.saturating_sub(HEADERS_LEN).saturating_sub(reserve);
            end.checked_sub(free_from.max(HEADERS_LEN).next_multiple_of(ALIGNMENT))
        };
        let too_small = |most: u64| {
            let reason =
                format!("{most} bytes are free at the end of the outer file system for a hidden volume");
            Error::new(ErrorKind::NoSpace, reason).with_hint(
                "a smaller --size, fewer files in the outer volume, or one with exFAT or FAT in it, which begin at the start",
            )
        };
        let large = room(RESERVE).map(|room| room.saturating_sub(room.checked_rem(ALIGNMENT).unwrap_or(0)));
        let size = match size {
            Some(size) => size.saturating_sub(size.checked_rem(UNIT).unwrap_or(0)),
            None => large
                .filter(|&room| room >= SMALL)
                .unwrap_or(room(SMALL_RESERVE).unwrap_or(0).min(SMALL.saturating_sub(ALIGNMENT))),
        };
        let reserve = if size < SMALL { SMALL_RESERVE } else { RESERVE };
        let most = room(reserve).unwrap_or(0);
        if size < LEAST_HIDDEN || size > most {
            return Err(too_small(most));
        }
        let end = container_len.saturating_sub(HEADERS_LEN).saturating_sub(reserve);
        let data = end.saturating_sub(size)..end;
        Ok(Self { making, place: Place::Hidden, extent: Extent { container_len, data } })
    }

    /// Up to which byte of the container the free space has to reach: no hidden volume ends behind it.
    pub const fn hidden_limit(container_len: u64) -> u64 {
        container_len.saturating_sub(HEADERS_LEN).saturating_sub(SMALL_RESERVE)
    }
}

impl Blueprint for VolumeBlueprint {
    fn uuid(&self) -> Option<String> {
        None
    }

    fn extent(&self) -> Extent {
        self.extent.clone()
    }

    fn sector_size(&self) -> SectorSize {
        SectorSize::B512
    }

    fn keyfile_role(&self) -> KeyfileRole {
        KeyfileRole::Pool
    }

    fn kdf_bounds(&self) -> Option<KdfBounds> {
        None
    }

    fn make_header(
        &self,
        credentials: &Credentials,
        _: Option<KdfCost>,
        rng: &dyn Rng,
    ) -> Result<Box<dyn NewHeader>> {
        let (opened, sealed) = self.making.seal(&self.extent.data, self.place, credentials, rng)?;
        Ok(Box::new(NewVolume::new(opened, sealed, self.extent.container_len, rng)?))
    }
}

/// Header and backup header of a new volume, with what stands around them.
#[derive(Debug)]
struct NewVolume {
    opened: Opened,
    sealed: [Sealed; 2],
    container_len: u64,
    volume_key: Arc<VolumeKey>,
    /// For the slots at the start and those at the end. None for a hidden volume, which finds them filled.
    noise: Option<[Vec<u8>; 2]>,
}

impl NewVolume {
    fn new(opened: Opened, sealed: [Sealed; 2], container_len: u64, rng: &dyn Rng) -> Result<Self> {
        let volume_key = Arc::new(opened.to_key()?);
        // VC-WRITE-04: a volume whose keys must not be used is not made.
        opened.unlock(container_len)?;
        let noise =
            if opened.place.is_hidden() { None } else { Some([slots_of_noise(rng)?, slots_of_noise(rng)?]) };
        Ok(Self { opened, sealed, container_len, volume_key, noise })
    }
}

impl NewHeader for NewVolume {
    fn volume_key(&self) -> Arc<VolumeKey> {
        Arc::clone(&self.volume_key)
    }

    fn layout(&self) -> Result<Layout> {
        Ok(self.opened.unlock(self.container_len)?.layout)
    }

    /// All slots first, then the backup header, then the header: VC-WRITE-07.
    fn write(&self, storage: &dyn Storage) -> Result<()> {
        let tail = self.container_len.saturating_sub(HEADERS_LEN);
        if let Some([start, end]) = &self.noise {
            storage.write_all_at(end, tail)?;
            storage.write_all_at(start, 0)?;
            storage.sync_data()?;
        }
        let [header, backup] = &self.sealed;
        backup.write(storage, tail.saturating_add(self.opened.offset))?;
        header.write(storage, self.opened.offset)
    }

    fn write_file(&self, _: &dyn Storage) -> Result<()> {
        Err(Error::usage(format!("{} containers bear their headers", self.opened.header.family.title())))
    }
}

/// Two slots full of bytes that look like a header, as every slot without one does (VC-WRITE-08): what a random key makes of
/// random bytes is random.
pub(super) fn slots_of_noise(rng: &dyn Rng) -> Result<Vec<u8>> {
    let mut noise = vec![0; usize::try_from(HEADERS_LEN).unwrap_or_default()];
    rng.fill(&mut noise)?;
    Ok(noise)
}

/// Refuses functions that no program makes headers with any more (VC-WRITE-06).
fn check_prf(family: Family, prf: Prf) -> Result<()> {
    match (family, prf) {
        (Family::VeraCrypt, Prf::Ripemd160 | Prf::Sha1) => {
            Err(Error::usage(format!("VeraCrypt 1.26.7 and later open no header with {}", prf.name())))
        }
        (Family::TrueCrypt, Prf::Sha1) => Err(Error::usage("TrueCrypt 5 and later make no header with sha1")),
        _ => Ok(()),
    }
}

/// The program that a new header asks for (VC-WRITE-01).
const fn minimum(family: Family) -> u16 {
    match family {
        Family::VeraCrypt => 0x010b,
        Family::TrueCrypt => 0x0700,
    }
}

/// The version that is written (VC-WRITE-01).
const VERSION: u16 = 5;
/// What the headers take at each end, in bytes.
pub(super) const HEADERS_LEN: u64 = SLOT_LEN * 2;
const OVERHEAD: u64 = HEADERS_LEN * 2;
/// The smallest container, and the largest, in bytes.
const LEAST: u64 = OVERHEAD + 9 * 4096;
const MOST: u64 = 1 << 50;
/// The smallest hidden volume, in bytes.
const LEAST_HIDDEN: u64 = 9 * 4096;
/// What is left free behind a hidden volume for the outer file system, in bytes: VC-HID-01.
pub(super) const RESERVE: u64 = 131_072;
/// The same behind one smaller than [`SMALL`].
pub(super) const SMALL_RESERVE: u64 = 4096;
pub(super) const SMALL: u64 = 2 << 20;
/// Where a hidden volume of the largest size begins is a multiple of this.
const ALIGNMENT: u64 = 4096;
const _: () = assert!(HEADER_LEN == 512, "a header is one unit");
