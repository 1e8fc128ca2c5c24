//! A disk in memory that keeps every write and flush, so that it can be cut at any of them.

use std::{
    fmt, io,
    ops::Range,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use strongroom::{
    block::{BlockDevice, BlockError, ByteDevice, Geometry},
    units::{Sector, SectorSize},
};

use crate::Random;

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Write(usize, Vec<u8>),
    Flush,
}

#[derive(Default)]
struct State {
    image: Vec<u8>,
    log: Option<Vec<Event>>,
    /// Writes until one fails; none where this is `None`.
    fails_after: Option<u64>,
    /// The same of reads, of which one fails.
    read_fails_after: Option<u64>,
    is_slow: bool,
    /// Bytes that show, where that is not all.
    shown: Option<usize>,
}

#[derive(Default, Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    pub(crate) fn new(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { image, ..State::default() })))
    }

    pub(crate) fn logged(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { image, log: Some(Vec::new()), ..State::default() })))
    }

    pub(crate) fn device(&self) -> Arc<ByteDevice> {
        Arc::new(ByteDevice::new(Arc::new(self.clone())))
    }

    pub(crate) fn position(&self) -> usize {
        self.0.lock().unwrap().log.as_ref().map_or(0, Vec::len)
    }

    pub(crate) fn log(&self) -> Vec<Event> {
        self.0.lock().unwrap().log.clone().unwrap_or_default()
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        self.0.lock().unwrap().image.clone()
    }

    pub(crate) fn len(&self) -> usize {
        let state = self.0.lock().unwrap();
        state.shown.unwrap_or(state.image.len())
    }

    /// Has so many bytes show from now on.
    pub(crate) fn show(&self, len: usize) {
        self.0.lock().unwrap().shown = Some(len);
    }

    pub(crate) fn fail_after(&self, writes: u64) {
        self.0.lock().unwrap().fails_after = Some(writes);
    }

    pub(crate) fn fail_one_read_after(&self, reads: u64) {
        self.0.lock().unwrap().read_fails_after = Some(reads);
    }

    /// Flushes take their time.
    pub(crate) fn slow_down(&self) {
        self.0.lock().unwrap().is_slow = true;
    }

    fn change(&self, at: usize, bytes: &[u8]) -> Result<(), BlockError> {
        let mut state = self.0.lock().unwrap();
        match &mut state.fails_after {
            Some(0) => return Err(io::Error::other("the medium failed").into()),
            Some(left) => *left -= 1,
            None => {}
        }
        state.image[at..at + bytes.len()].copy_from_slice(bytes);
        if let Some(log) = &mut state.log {
            log.push(Event::Write(at, bytes.to_vec()));
        }
        Ok(())
    }
}

fn place(sector: Sector) -> usize {
    usize::try_from(sector.0).unwrap() * 512
}

impl BlockDevice for Disk {
    fn geometry(&self) -> Geometry {
        let sectors = u64::try_from(self.len() / 512).unwrap();
        Geometry { sector_size: SectorSize::B512, sectors, read_only: false, can_discard: false }
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        let (at, mut state) = (place(first), self.0.lock().unwrap());
        state.read_fails_after = match state.read_fails_after {
            Some(0) => {
                state.read_fails_after = None;
                return Err(io::Error::other("the medium failed").into());
            }
            left => left.map(|left| left - 1),
        };
        buf.copy_from_slice(&state.image[at..at + buf.len()]);
        Ok(())
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        self.change(place(first), buf)
    }

    fn flush(&self) -> Result<(), BlockError> {
        if self.0.lock().unwrap().is_slow {
            thread::sleep(Duration::from_micros(300));
        }
        if let Some(log) = &mut self.0.lock().unwrap().log {
            log.push(Event::Flush);
        }
        Ok(())
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        self.change(place(range.start), &vec![0; place(range.end) - place(range.start)])
    }

    fn discard(&self, _: Range<Sector>) -> Result<(), BlockError> {
        Ok(())
    }
}

/// What a power cut before event `at` leaves; of what was written since the last flush any sectors, where the medium reorders.
pub(crate) fn cut(blank: &[u8], log: &[Event], at: usize, reorders: Option<&mut Random>) -> Vec<u8> {
    cut_units(blank, log, at, reorders, 512)
}

/// The same for a medium that writes so many bytes in whole, or not.
pub(crate) fn cut_units(
    blank: &[u8],
    log: &[Event],
    at: usize,
    reorders: Option<&mut Random>,
    unit: usize,
) -> Vec<u8> {
    let mut image = blank.to_vec();
    let flushed =
        log[..at].iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |last| last + 1);
    let mut random = reorders;
    for (number, event) in log[..at].iter().enumerate() {
        let Event::Write(place, bytes) = event else { continue };
        for (sector, part) in bytes.chunks(unit).enumerate() {
            if number >= flushed
                && let Some(random) = random.as_deref_mut()
                && random.below(2) == 0
            {
                continue;
            }
            let place = place + sector * unit;
            image[place..place + part.len()].copy_from_slice(part);
        }
    }
    image
}
