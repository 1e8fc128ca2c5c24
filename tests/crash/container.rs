//! Small containers that cost nothing to open: their keyslots take recovery keys, before which no Argon2id stands.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use strongroom::{
    Result,
    block::ByteDevice,
    crypto::{
        kdf::Argon2Cost,
        rng::Rng,
        secret::{Credentials, RECOVERY_KEY_LEN, RecoveryKey},
    },
    format::{
        Attempt, CopyState, Editor, Format, Header, NewKeyslot, Priority, Unlocked,
        native::{Geometry, Label, Native, NewContainer, NewHeader, Provision, Suite},
    },
    mapping::Layout,
    storage::{SimStorage, Storage},
    units::{Sector, SectorSize},
    volume,
};

/// Both work areas have 16 KiB, the data area eight sectors of 4 KiB.
pub(crate) const GEOMETRY: Geometry = Geometry {
    data_offset: COPY_LEN + 16_384,
    data_len: 32_768,
    container_len: 2 * COPY_LEN + 2 * 16_384 + 32_768,
    backup_offset: COPY_LEN + 16_384 + 32_768,
};

pub(crate) const COPY_LEN: u64 = 65_536;

/// What is known beforehand is the same in every run.
#[derive(Debug, Default)]
pub(crate) struct Counting(AtomicU64);

impl Rng for Counting {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        for byte in buf {
            let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = (next ^ next >> 31).to_le_bytes()[3];
        }
        Ok(())
    }
}

/// The credentials of number `number`.
pub(crate) fn key(number: u8) -> Credentials {
    Credentials::Recovery(RecoveryKey::copy_of(&[number; RECOVERY_KEY_LEN]).unwrap())
}

/// A keyslot that key `number` opens.
pub(crate) fn slot(slot: Option<u32>, credentials: &Credentials) -> NewKeyslot<'_> {
    let cost = Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 };
    NewKeyslot { slot, label: None, priority: Priority::Normal, cost: cost.into(), credentials }
}

/// A header that this key opens, not written yet. Each key has a container of its own.
pub(crate) fn new_header(number: u8, provision: Provision, sector_size: SectorSize) -> NewHeader {
    let new = NewContainer {
        uuid: [number | 0xa0; 16],
        label: Label::default(),
        suite: Suite::Aes256Xts,
        sector_size,
        provision,
        geometry: GEOMETRY,
        cost: Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 },
    };
    NewHeader::new(&new, &key(number), &Counting::default()).unwrap()
}

/// A container that key 0 opens, with [`plaintext`] in it.
pub(crate) fn container() -> SimStorage {
    container_with(0, Provision::Quick, SectorSize::B4096)
}

/// A container that this key opens, with [`plaintext`] in it; a thin one has holes: the third sector of 4 KiB, and the last
/// four.
pub(crate) fn container_with(number: u8, provision: Provision, sector_size: SectorSize) -> SimStorage {
    let storage = Arc::new(SimStorage::new(vec![0; usize::try_from(GEOMETRY.container_len).unwrap()]));
    new_header(number, provision, sector_size).write(&*storage).unwrap();
    let (_, unlocked) = unlock(&storage, number).unwrap();
    let device = volume::device(Arc::clone(&storage) as Arc<dyn Storage>, unlocked.layout);
    let bytes = ByteDevice::new(Arc::clone(&device));
    for (index, block) in (0..).zip(plaintext().chunks(4096)) {
        if provision != Provision::Thin || !matches!(index, 2 | 4..) {
            bytes.write_at(block, index * 4096).unwrap();
        }
    }
    device.flush().unwrap();
    drop((bytes, device));
    Arc::into_inner(storage).unwrap()
}

/// What stands in the volume: no two sectors alike.
pub(crate) fn plaintext() -> Vec<u8> {
    (0..GEOMETRY.data_len).map(|at| (at * 7 + at / 4096 * 13).to_le_bytes()[0]).collect()
}

/// Opens a container with the key of this number, writing nothing.
pub(crate) fn unlock(storage: &SimStorage, number: u8) -> Result<(Box<dyn Header>, Unlocked)> {
    let header = Native.read_header(storage)?;
    let unlocked = header.unlock(&key(number), &Attempt::default())?;
    Ok((header, unlocked))
}

/// Opens a container with the first of these keys that opens it, and brings its header copies up to date.
pub(crate) fn open_for_writing(storage: &SimStorage, numbers: &[u8]) -> Result<(Box<dyn Header>, Unlocked)> {
    let header = Native.read_header(storage)?;
    let opened: Vec<_> =
        numbers.iter().map(|&number| header.unlock(&key(number), &Attempt::default())).collect();
    let unlocked = opened.into_iter().reduce(Result::or).unwrap()?;
    header.prepare_writing(storage, &unlocked)?;
    let header = Native.read_header(storage)?;
    Ok((header, unlocked))
}

/// Changes keyslots as the owner of key 0 does.
pub(crate) fn edit(storage: &SimStorage, change: impl FnOnce(&mut dyn Editor)) -> Result<()> {
    let (header, unlocked) = open_for_writing(storage, &[0])?;
    let mut editor = header.editor(&unlocked)?;
    change(&mut *editor);
    editor.commit(storage)
}

/// Which of `numbers` open the container.
pub(crate) fn openers(storage: &SimStorage, numbers: &[u8]) -> Vec<u8> {
    let Ok(header) = Native.read_header(storage) else { return Vec::new() };
    let opens = |number| header.unlock(&key(number), &Attempt::default()).is_ok();
    numbers.iter().copied().filter(|&number| opens(number)).collect()
}

/// The whole volume, opened with the key of this number.
pub(crate) fn content(storage: &SimStorage, number: u8) -> Vec<u8> {
    read_all(storage, unlock(storage, number).unwrap().1.layout)
}

/// The whole volume that lies so.
pub(crate) fn read_all(storage: &SimStorage, layout: Layout) -> Vec<u8> {
    let device = volume::device(Arc::new(storage.clone()), layout);
    let mut bytes = vec![0; usize::try_from(device.geometry().bytes()).unwrap()];
    device.read(&mut bytes, Sector(0)).unwrap();
    bytes
}

/// How both copies are.
pub(crate) fn copy_states(storage: &SimStorage) -> Vec<CopyState> {
    let info = Native.read_header(storage).unwrap().describe();
    info.headers.iter().map(|copy| copy.state).collect()
}
