//! Operations: each is done in whole, or not at all. Here those on names.

use std::time::SystemTime;

use super::{
    super::{
        Fault, Kind, New, Result,
        bytes::{index, long, put},
    },
    directory::{Located, check_directory},
    extents::empty_root,
    features::{DIR_NLINK, EXTENT},
    inode::{EXTENTS, Inode, is_nameable},
    names::Named,
    stamp::Time,
    volume::Volume,
};

impl Volume {
    /// Does something in whole: where it fails, everything is as it was. Where the room that was given back a moment ago is needed,
    /// that is made sure of first.
    pub(super) fn operation<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        self.store.medium.check()?;
        self.relieve()?;
        match self.attempt(&mut work) {
            Err(Fault::NoSpace) if !self.space.is_empty() => {
                self.commit()?;
                self.attempt(&mut work)
            }
            done => done,
        }
    }

    fn attempt<T>(&mut self, work: &mut impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        self.store.begin();
        let (blocks, inodes) = (self.superblock.free_blocks, self.superblock.free_inodes);
        let (freed, orphans, features) = (self.space.len(), self.orphans.clone(), self.superblock.features);
        let done = work(self);
        if done.is_err() {
            self.store.take_back();
            self.keep_freed(freed);
            self.superblock.free_blocks = blocks;
            self.superblock.free_inodes = inodes;
            self.superblock.features = features;
            self.orphans = orphans;
        }
        self.store.begin();
        done
    }

    /// A directory that names may be put into and taken from.
    fn changing_directory(&self, number: u32) -> Result<Inode> {
        let directory = self.inode(number)?;
        check_directory(&directory)?;
        if directory.links == 0 {
            return Err(Fault::NotFound);
        }
        check_changeable(&directory)?;
        Ok(directory)
    }

    /// Makes a file.
    pub(super) fn make(&mut self, parent: u32, name: &[u8], new: &New<'_>) -> Result<u32> {
        let mut directory = self.changing_directory(parent)?;
        check_name(name)?;
        if self.locate(&directory, name)?.is_some() {
            return Err(Fault::Exists);
        }
        let is_directory = new.kind == Kind::Directory;
        if is_directory {
            self.add_link(&mut directory)?;
        }
        let number = self.take_inode(parent, is_directory)?;
        let generation = self.next_generation();
        let mut inode = Inode::new(&self.superblock, number, generation)?;
        let now = SystemTime::now();
        for time in [Time::Accessed, Time::Changed, Time::Modified, Time::Created] {
            inode.set_time(time, now);
        }
        let has_blocks = matches!(new.kind, Kind::File | Kind::Directory | Kind::Link);
        let is_short = new.kind == Kind::Link && new.target.len() < inode.root().len();
        if has_blocks && !is_short && self.superblock.features.has(EXTENT) {
            inode.set_flags(EXTENTS);
            inode.set_root(&empty_root());
        }
        inode.set_mode(kind_bits(new.kind) | new.mode & 0o7777);
        inode.set_owner(new.uid);
        inode.set_group(new.gid);
        if directory.mode & SET_GROUP != 0 {
            inode.set_group(directory.gid);
            if is_directory {
                inode.set_mode(inode.mode | SET_GROUP);
            }
        }
        inode.set_links(if is_directory { 2 } else { 1 });
        self.inherit(&mut inode, &directory, new.umask)?;
        match new.kind {
            Kind::Directory => self.begin_directory(&mut inode, parent)?,
            Kind::Link => self.put_target(&mut inode, new.target, is_short)?,
            Kind::CharacterDevice | Kind::BlockDevice => inode.set_root(&device_root(new.device)),
            _ => {}
        }
        self.put_inode(&inode)?;
        let code = self.code(new.kind);
        self.add_name(&mut directory, &Named { name, inode: number, code })?;
        self.touch_directory(&mut directory, now)?;
        Ok(number)
    }

    fn put_target(&mut self, inode: &mut Inode, target: &[u8], is_short: bool) -> Result<()> {
        if target.is_empty() {
            return Err(Fault::NotFound);
        }
        if target.len() >= index(self.superblock.block_len).min(4096) {
            return Err(Fault::NameTooLong);
        }
        if !is_short {
            return self.write_part(inode, 0, target);
        }
        let mut root = [0; 60];
        put(&mut root, 0, target);
        inode.set_root(&root);
        inode.set_size(long(target.len()));
        Ok(())
    }

    fn touch_directory(&mut self, directory: &mut Inode, now: SystemTime) -> Result<()> {
        directory.set_time(Time::Modified, now);
        directory.set_time(Time::Changed, now);
        self.put_inode(directory)
    }

    fn touch_both(&mut self, from: u32, to: u32, now: SystemTime) -> Result<()> {
        for number in [from, to] {
            let mut directory = self.inode(number)?;
            self.touch_directory(&mut directory, now)?;
        }
        Ok(())
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        self.generation
    }

    /// One name more, of a directory those of the directories in it.
    fn add_link(&self, inode: &mut Inode) -> Result<()> {
        let is_directory = inode.kind()? == Kind::Directory;
        match inode.links {
            // Too many to be counted.
            1 if is_directory => {}
            links if links < MOST_LINKS => inode.set_links(links + 1),
            _ if is_directory && self.superblock.features.has(DIR_NLINK) => inode.set_links(1),
            _ => return Err(Fault::TooManyLinks),
        }
        Ok(())
    }

    /// Gives a file one more name.
    pub(super) fn link(&mut self, number: u32, parent: u32, name: &[u8]) -> Result<()> {
        let mut directory = self.changing_directory(parent)?;
        check_name(name)?;
        let mut inode = self.inode(number)?;
        let kind = inode.kind()?;
        if kind == Kind::Directory {
            return Err(Fault::NotPermitted);
        }
        if inode.links == 0 {
            return Err(Fault::NotFound);
        }
        check_changeable(&inode)?;
        if self.locate(&directory, name)?.is_some() {
            return Err(Fault::Exists);
        }
        self.add_link(&mut inode)?;
        let now = SystemTime::now();
        inode.set_time(Time::Changed, now);
        self.put_inode(&inode)?;
        let code = self.code(kind);
        self.add_name(&mut directory, &Named { name, inode: number, code })?;
        self.touch_directory(&mut directory, now)
    }

    /// Takes a name away, and tells whose it was where that has no name any more.
    pub(super) fn unlink(&mut self, parent: u32, name: &[u8], kind: Kind) -> Result<Option<u32>> {
        let mut directory = self.changing_directory(parent)?;
        let located = self.locate(&directory, name)?.ok_or(Fault::NotFound)?;
        let mut inode = self.inode(self.nameable(located.inode)?)?;
        self.check_goes(&inode, kind)?;
        self.remove_name(&directory, located)?;
        let now = SystemTime::now();
        let gone = self.drop_link(&mut inode, &mut directory, now)?;
        self.touch_directory(&mut directory, now)?;
        Ok(gone)
    }

    /// Whether a name may be taken from a file in favour of one of this kind: a directory must be empty.
    fn check_goes(&self, inode: &Inode, kind: Kind) -> Result<()> {
        check_changeable(inode)?;
        match (kind == Kind::Directory, inode.kind()? == Kind::Directory) {
            (true, false) => Err(Fault::NotDirectory),
            (false, true) => Err(Fault::IsDirectory),
            (true, true) if !self.is_empty(inode)? => Err(Fault::NotEmpty),
            _ => Ok(()),
        }
    }

    fn nameable(&self, number: u32) -> Result<u32> {
        if is_nameable(&self.superblock, number) { Ok(number) } else { Err(Fault::Damaged) }
    }

    /// One name less. A directory goes with its only one, and its parent has one less too.
    fn drop_link(&mut self, inode: &mut Inode, parent: &mut Inode, now: SystemTime) -> Result<Option<u32>> {
        if inode.kind()? == Kind::Directory {
            inode.set_links(0);
            lose_directory(parent);
        } else {
            inode.set_links(inode.links.checked_sub(1).ok_or(Fault::Damaged)?);
        }
        inode.set_time(Time::Changed, now);
        if inode.links == 0 {
            self.add_orphan(inode)?;
        }
        self.put_inode(inode)?;
        Ok((inode.links == 0).then_some(inode.number))
    }

    /// Gives a file another name. Tells which file has none any more.
    pub(super) fn rename(
        &mut self,
        (from, old): (u32, &[u8]),
        (to, new): (u32, &[u8]),
        replace: bool,
    ) -> Result<Option<u32>> {
        let source = self.changing_directory(from)?;
        let target = self.changing_directory(to)?;
        check_name(new)?;
        let moved = self.locate(&source, old)?.ok_or(Fault::NotFound)?;
        let mut inode = self.inode(self.nameable(moved.inode)?)?;
        check_changeable(&inode)?;
        let kind = inode.kind()?;
        let is_directory = kind == Kind::Directory;
        let there = self.locate(&target, new)?;
        if there.is_some() && !replace {
            return Err(Fault::Exists);
        }
        if there.is_some_and(|there| there.inode == moved.inode) {
            return Ok(None);
        }
        if is_directory && from != to {
            self.check_not_within(to, moved.inode)?;
        }
        let now = SystemTime::now();
        let mut gone = None;
        if let Some(there) = there {
            gone = self.displace(to, (kind, moved.inode), there, now)?;
        } else {
            let mut target = self.inode(to)?;
            let code = self.code(kind);
            self.add_name(&mut target, &Named { name: new, inode: moved.inode, code })?;
            self.put_inode(&target)?;
        }
        // The new name may have moved the old one.
        let source = self.inode(from)?;
        let moved = self.locate(&source, old)?.ok_or(Fault::Damaged)?;
        self.remove_name(&source, moved)?;
        if is_directory && from != to {
            self.set_parent(&inode, to)?;
            self.move_link(from, to)?;
        }
        inode.set_time(Time::Changed, now);
        self.put_inode(&inode)?;
        self.touch_both(from, to, now)?;
        Ok(gone)
    }

    /// Has a name lead to another file, and its own one go.
    fn displace(
        &mut self,
        directory: u32,
        (kind, number): (Kind, u32),
        there: Located,
        now: SystemTime,
    ) -> Result<Option<u32>> {
        let mut parent = self.inode(directory)?;
        let mut old = self.inode(self.nameable(there.inode)?)?;
        self.check_goes(&old, kind)?;
        self.redirect(&parent, there, number, kind)?;
        let gone = self.drop_link(&mut old, &mut parent, now)?;
        self.put_inode(&parent)?;
        Ok(gone)
    }

    /// The directory that moved counts where it is now.
    fn move_link(&mut self, from: u32, to: u32) -> Result<()> {
        let mut source = self.inode(from)?;
        lose_directory(&mut source);
        self.put_inode(&source)?;
        let mut target = self.inode(to)?;
        self.add_link(&mut target)?;
        self.put_inode(&target)
    }

    /// Has two names lead to each other's files.
    pub(super) fn exchange(&mut self, (from, old): (u32, &[u8]), (to, new): (u32, &[u8])) -> Result<()> {
        let (source, target) = (self.changing_directory(from)?, self.changing_directory(to)?);
        let one = self.locate(&source, old)?.ok_or(Fault::NotFound)?;
        let other = self.locate(&target, new)?.ok_or(Fault::NotFound)?;
        if one.inode == other.inode {
            return Ok(());
        }
        let mut first = self.inode(self.nameable(one.inode)?)?;
        let mut second = self.inode(self.nameable(other.inode)?)?;
        check_changeable(&first)?;
        check_changeable(&second)?;
        let (first_kind, second_kind) = (first.kind()?, second.kind()?);
        let now = SystemTime::now();
        if from != to {
            for (inode, kind, home, away) in
                [(&first, first_kind, from, to), (&second, second_kind, to, from)]
            {
                if kind == Kind::Directory {
                    self.check_not_within(away, inode.number)?;
                    self.set_parent(inode, away)?;
                    self.move_link(home, away)?;
                }
            }
        }
        self.redirect(&source, one, second.number, second_kind)?;
        self.redirect(&target, other, first.number, first_kind)?;
        first.set_time(Time::Changed, now);
        second.set_time(Time::Changed, now);
        self.put_inode(&first)?;
        self.put_inode(&second)?;
        self.touch_both(from, to, now)
    }

    /// A directory does not go into itself, or into one below it.
    fn check_not_within(&self, directory: u32, moved: u32) -> Result<()> {
        let mut at = directory;
        for _ in 0..DEEPEST {
            if at == moved {
                return Err(Fault::Invalid);
            }
            if at == super::inode::ROOT {
                return Ok(());
            }
            let inode = self.inode(at)?;
            check_directory(&inode)?;
            at = self.nameable(self.parent_of(&inode)?)?;
        }
        Err(Fault::Damaged)
    }
}

/// A directory has one directory less in it.
fn lose_directory(parent: &mut Inode) {
    if parent.links > 2 {
        parent.set_links(parent.links - 1);
    }
}

pub(super) fn check_changeable(inode: &Inode) -> Result<()> {
    if inode.has(IMMUTABLE | APPENDED) { Err(Fault::NotPermitted) } else { Ok(()) }
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > super::directory::LONGEST_NAME {
        return Err(Fault::NameTooLong);
    }
    if super::directory::is_possible(name) { Ok(()) } else { Err(Fault::Invalid) }
}

const fn kind_bits(kind: Kind) -> u16 {
    match kind {
        Kind::Pipe => 0x1000,
        Kind::CharacterDevice => 0x2000,
        Kind::Directory => 0x4000,
        Kind::BlockDevice => 0x6000,
        Kind::File => 0x8000,
        Kind::Link => 0xa000,
        Kind::Socket => 0xc000,
    }
}

/// Where an inode keeps the number of a device: small ones in the older way, which the oldest readers know.
fn device_root(device: u32) -> [u8; 60] {
    let mut root = [0; 60];
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    if major < 256 && minor < 256 {
        put(&mut root, 0, &(major << 8 | minor).to_le_bytes());
    } else {
        put(&mut root, 4, &device.to_le_bytes());
    }
    root
}

/// The bit by which files belong to the group of their directory.
const SET_GROUP: u16 = 0o2000;
const MOST_LINKS: u16 = 65_000;
/// Directories above each other, at most.
const DEEPEST: u32 = 1 << 16;
/// A file that is not to be changed, and one that is only to be added to.
pub(super) const IMMUTABLE: u32 = 0x10;
const APPENDED: u32 = 0x20;
