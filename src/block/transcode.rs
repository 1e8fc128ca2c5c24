use std::ops::Range;

use super::{
    byte_count,
    crypt::{decrypt_around_holes, is_zero, pieces},
};
use crate::{
    mapping::{Holes, Mapping},
    units::{Sector, SectorSize},
};

/// Turns ciphertext under one mapping of a volume into ciphertext under another, in memory.
#[derive(Debug, Clone)]
pub struct Transcoder {
    old: Mapping,
    new: Mapping,
}

impl Transcoder {
    /// From `old` to `new`, which map the same bytes.
    pub const fn new(old: Mapping, new: Mapping) -> Self {
        Self { old, new }
    }

    /// The larger of both sector sizes: what [`Self::transcode`] takes whole numbers of.
    pub const fn unit(&self) -> SectorSize {
        if self.old.sector_size().shift() > self.new.sector_size().shift() {
            self.old.sector_size()
        } else {
            self.new.sector_size()
        }
    }

    /// Transcodes `data`, whole units, the first of which stands at byte `offset` of the volume.
    ///
    /// In a thin volume a unit of zeros stays what it is. In any other unit holes become encrypted zeros.
    pub fn transcode(&self, data: &mut [u8], offset: u64) {
        let (mut rest, mut offset) = (data, offset);
        while !rest.is_empty() {
            let skipped = self.run(rest, true);
            let (_, after) = rest.split_at_mut(skipped);
            let len = self.run(after, false);
            let (run, after) = after.split_at_mut(len);
            offset += byte_count(skipped);
            self.decrypt(run, offset);
            self.encrypt(run, offset);
            offset += byte_count(len);
            rest = after;
        }
    }

    /// Whether `data`, whole units of ciphertext, is nothing but holes.
    pub fn is_hole(&self, data: &[u8]) -> bool {
        self.run(data, true) == data.len()
    }

    /// The runs of `data`, whole units of ciphertext, that are not holes, in order.
    pub fn written_runs(&self, data: &[u8]) -> Vec<Range<usize>> {
        let (mut runs, mut start) = (Vec::new(), 0);
        while start < data.len() {
            start += self.run(&data[start..], true);
            let len = self.run(&data[start..], false);
            if len > 0 {
                runs.push(start..start + len);
            }
            start += len;
        }
        runs
    }

    /// How many bytes from the start on are in units that are holes, or are not.
    fn run(&self, data: &[u8], hole: bool) -> usize {
        match self.old.holes() {
            Holes::AreCiphertext if hole => 0,
            Holes::AreCiphertext => data.len(),
            Holes::ReadAsZeros => {
                let units = data.chunks(self.unit().bytes());
                units.take_while(|unit| is_zero(unit) == hole).map(<[u8]>::len).sum()
            }
        }
    }

    fn decrypt(&self, data: &mut [u8], offset: u64) {
        let mut rest = data;
        for piece in pieces(&self.old, sector(&self.old, offset), sectors(&self.old, rest.len())) {
            let (part, after) = rest.split_at_mut(piece.len());
            match self.old.holes() {
                Holes::AreCiphertext => {
                    piece.segment.cipher.decrypt(part, piece.sector_size, piece.tweak(0));
                }
                Holes::ReadAsZeros => decrypt_around_holes(part, &piece),
            }
            rest = after;
        }
    }

    fn encrypt(&self, data: &mut [u8], offset: u64) {
        let mut rest = data;
        for piece in pieces(&self.new, sector(&self.new, offset), sectors(&self.new, rest.len())) {
            let (part, after) = rest.split_at_mut(piece.len());
            piece.segment.cipher.encrypt(part, piece.sector_size, piece.tweak(0));
            rest = after;
        }
    }
}

const fn sector(mapping: &Mapping, offset: u64) -> Sector {
    Sector(offset >> mapping.sector_size().shift())
}

const fn sectors(mapping: &Mapping, len: usize) -> u64 {
    byte_count(len) >> mapping.sector_size().shift()
}
