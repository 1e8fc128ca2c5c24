//! The first files of a new volume: the root directory, lost+found, the journal, and what is reserved for descriptors.

use std::{collections::BTreeMap, ops::Range};

use super::{
    super::{
        super::{
            Fault, Result,
            bytes::{index, long, put, short},
        },
        checksum::crc32c_of,
        directory::TAIL,
        extents::{Extent, tree},
        inode::{EXTENTS, Inode, ROOT},
        names::{Named, fill, put_tail, seal_block},
        reserved::{DOUBLE, RESIZE_INODE, Reserved},
        stamp::{Time, seal},
        store::MARK,
        superblock::{Checksums, Superblock},
    },
    NewExt,
    places::Places,
    sizes::{FIRST_INODE, Sizes},
    superblock::JOURNAL_INODE,
};

/// Writes the blocks of the first files, and of the table that has their inodes, into `blocks`. Gives the journal's inode.
pub(super) fn fill_files(
    new: &NewExt<'_>,
    superblock: &Superblock,
    sizes: &Sizes,
    places: &Places,
    blocks: &mut BTreeMap<u64, Vec<u8>>,
) -> Result<Option<Inode>> {
    let maker = Maker { new, superblock, sizes, places };
    let mut inodes = vec![maker.root(blocks)?, maker.lost_and_found(blocks)?];
    inodes.extend(maker.reserved(blocks)?);
    let journal = if sizes.journal > 0 { Some(maker.journal(blocks)?) } else { None };
    inodes.extend(journal.clone());
    let table = places.layout.groups.first().ok_or(Fault::Damaged)?.inode_table;
    let block_len = index(sizes.block_len);
    for inode in inodes {
        let offset = index(inode.number - 1) * inode.raw.len();
        let block = blocks.entry(table + long(offset / block_len)).or_insert_with(|| vec![0; block_len]);
        let mut raw = inode.raw;
        seal(superblock, inode.number, &mut raw);
        put(block, offset % block_len, &raw);
    }
    Ok(journal)
}

struct Maker<'a> {
    new: &'a NewExt<'a>,
    superblock: &'a Superblock,
    sizes: &'a Sizes,
    places: &'a Places,
}

impl Maker<'_> {
    fn root(&self, blocks: &mut BTreeMap<u64, Vec<u8>>) -> Result<Inode> {
        let run = &self.places.root;
        let mut inode = self.directory(ROOT, 0o755, run)?;
        inode.set_links(3);
        inode.set_owner(self.new.owner.0);
        inode.set_group(self.new.owner.1);
        let lost_and_found = Named { name: b"lost+found", inode: short(FIRST_INODE), code: DIRECTORY };
        self.names(&inode, run.start, &[dot(ROOT), dots(ROOT), lost_and_found], blocks);
        Ok(inode)
    }

    fn lost_and_found(&self, blocks: &mut BTreeMap<u64, Vec<u8>>) -> Result<Inode> {
        let run = &self.places.lost_and_found;
        let inode = self.directory(short(FIRST_INODE), 0o700, run)?;
        for place in run.clone() {
            let first = [dot(inode.number), dots(ROOT)];
            self.names(&inode, place, if place == run.start { &first } else { &[] }, blocks);
        }
        Ok(inode)
    }

    /// The journal, with nothing in it.
    fn journal(&self, blocks: &mut BTreeMap<u64, Vec<u8>>) -> Result<Inode> {
        let runs = &self.places.journal;
        let mut inode = self.extents(JOURNAL_INODE, 0o100_600, runs, blocks)?;
        inode.set_links(1);
        let mut head = vec![0; index(self.sizes.block_len)];
        put(&mut head, 0, &MARK);
        // The second kind of superblock; block length, length, first block, first transaction; nothing begun; one user.
        for (at, field) in [
            (0x4, 4),
            (0xc, self.sizes.block_len),
            (0x10, short(self.sizes.journal)),
            (0x14, 1),
            (0x18, 1),
            (0x40, 1),
        ] {
            put(&mut head, at, &field.to_be_bytes());
        }
        blocks.insert(runs.first().ok_or(Fault::Damaged)?.start, head);
        Ok(inode)
    }

    /// What is reserved for descriptors.
    fn reserved(&self, blocks: &mut BTreeMap<u64, Vec<u8>>) -> Result<Option<Inode>> {
        let Some(top) = self.places.reserved else { return Ok(None) };
        let reserved = Reserved::of(self.superblock).ok_or(Fault::TooLarge)?;
        blocks.extend(reserved.places().map(|place| (place, reserved.copies_of(place))));
        blocks.insert(top, reserved.list());
        let mut inode = self.inode(RESIZE_INODE, 0o100_600)?;
        inode.set_links(1);
        let count = u64::from(self.sizes.block_len / 4);
        inode.set_size((count * count + count + 12) * u64::from(self.sizes.block_len));
        let mut root = [0; 60];
        put(&mut root, DOUBLE * 4, &short(top).to_le_bytes());
        inode.set_root(&root);
        inode.set_allocated(self.superblock, reserved.allocated())?;
        Ok(Some(inode))
    }

    fn directory(&self, number: u32, mode: u16, run: &Range<u64>) -> Result<Inode> {
        let mut inode =
            self.extents(number, 0o40_000 | mode, std::slice::from_ref(run), &mut BTreeMap::new())?;
        inode.set_links(2);
        Ok(inode)
    }

    /// A file of these blocks.
    fn extents(
        &self,
        number: u32,
        mode: u16,
        runs: &[Range<u64>],
        blocks: &mut BTreeMap<u64, Vec<u8>>,
    ) -> Result<Inode> {
        let (mut inode, block_len) = (self.inode(number, mode)?, u64::from(self.sizes.block_len));
        let mut extents = Vec::new();
        let mut first = 0;
        for run in runs {
            let blocks = run.end - run.start;
            extents.push(Extent { first, blocks, place: run.start, is_written: true });
            first += blocks;
        }
        let place = self.places.journal_leaf.unwrap_or_default();
        let (root, leaf) = tree(extents, place, index(block_len), self.seed_of(&inode))?;
        inode.set_root(&root);
        inode.set_flags(EXTENTS);
        inode.set_size(first * block_len);
        inode.set_allocated(self.superblock, (first + u64::from(leaf.is_some())) * block_len)?;
        if let Some(leaf) = leaf {
            blocks.insert(place, leaf);
        }
        Ok(inode)
    }

    fn inode(&self, number: u32, mode: u16) -> Result<Inode> {
        let mut inode = Inode::new(self.superblock, number, 0)?;
        inode.set_mode(mode);
        for which in [Time::Accessed, Time::Changed, Time::Modified, Time::Created] {
            inode.set_time(which, self.new.now);
        }
        Ok(inode)
    }

    fn names(&self, inode: &Inode, place: u64, entries: &[Named<'_>], blocks: &mut BTreeMap<u64, Vec<u8>>) {
        let mut block = vec![0; index(self.sizes.block_len)];
        let end = block.len() - TAIL;
        fill(&mut block, end, entries);
        put_tail(&mut block);
        if let Some(seed) = self.seed_of(inode) {
            seal_block(seed, &mut block);
        }
        blocks.insert(place, block);
    }

    fn seed_of(&self, inode: &Inode) -> Option<u32> {
        let Checksums::All(seed) = self.superblock.checksums else { return None };
        Some(crc32c_of(seed, &[&inode.number.to_le_bytes(), &inode.generation.to_le_bytes()]))
    }
}

const fn dot(inode: u32) -> Named<'static> {
    Named { name: b".", inode, code: DIRECTORY }
}

const fn dots(inode: u32) -> Named<'static> {
    Named { name: b"..", inode, code: DIRECTORY }
}

/// What an entry says of a directory.
const DIRECTORY: u8 = 2;
