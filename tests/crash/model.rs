//! What a volume may read as: for each 512 bytes what was flushed last, and what was written since.

use std::io;

use strongroom::{Result, block::ByteDevice};

/// The unit of the model: the smaller of both sector sizes.
pub(crate) const UNIT: usize = 512;

/// The larger of both sector sizes.
const BLOCK: usize = 4096;

/// The content of a volume as its user knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Model {
    units: Vec<Unit>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Unit {
    /// One of these is durable. More than one after a flush that failed, and after a crash.
    settled: Vec<Vec<u8>>,
    /// Written since, in order.
    written: Vec<Vec<u8>>,
}

impl Model {
    /// A volume that durably holds `bytes`.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let unit = |bytes: &[u8]| Unit { settled: vec![bytes.to_vec()], written: Vec::new() };
        Self { units: bytes.chunks(UNIT).map(unit).collect() }
    }

    /// Writes 512 bytes of `fill` as a user; from the call on they may be there.
    pub(crate) fn write(&mut self, volume: &ByteDevice, unit: usize, fill: u8) -> Result<()> {
        let bytes = vec![fill; UNIT];
        self.units[unit].written.push(bytes.clone());
        let result = volume.write_at(&bytes, (unit * UNIT) as u64);
        if result.is_err() {
            self.units[unit].become_uncertain();
        }
        Ok(result.map_err(io::Error::other)?)
    }

    /// Flushes as a user; from the return on what was written is there.
    ///
    /// Who is told that a flush failed knows nothing of what it covered, and no later flush tells.
    pub(crate) fn flush(&mut self, volume: &ByteDevice) -> Result<()> {
        let result = volume.flush();
        for unit in &mut self.units {
            match unit.written.pop() {
                Some(last) if result.is_ok() => *unit = Unit { settled: vec![last], written: Vec::new() },
                last => {
                    unit.settled.extend(last);
                    unit.become_uncertain();
                }
            }
        }
        Ok(result.map_err(io::Error::other)?)
    }

    /// The user's program is gone, and with it all that it had not flushed, or not.
    pub(crate) fn crash(&mut self) {
        self.units.iter_mut().for_each(Unit::become_uncertain);
    }

    /// Asserts that each unit reads as it may. Where writes may be torn within a sector, those with anything in them that is
    /// not flushed are not looked at.
    pub(crate) fn check(&self, found: &[u8], is_clean: bool, how: &str) {
        assert_eq!(found.len(), self.units.len() * UNIT, "{how}");
        for (block, units) in self.units.chunks(BLOCK / UNIT).enumerate() {
            let is_certain = units.iter().all(|unit| unit.settled.len() == 1 && unit.written.is_empty());
            if !is_clean && !is_certain {
                continue;
            }
            for (index, unit) in units.iter().enumerate() {
                let start = block * BLOCK + index * UNIT;
                let found = &found[start..start + UNIT];
                let is_right = unit.settled.iter().chain(&unit.written).any(|bytes| bytes == found);
                assert!(is_right, "byte {start} reads as {:x?}: {how}", &found[..16]);
            }
        }
    }
}

impl Unit {
    fn become_uncertain(&mut self) {
        let written = std::mem::take(&mut self.written);
        self.settled.extend(written);
    }
}
