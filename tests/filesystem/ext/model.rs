//! A file system in memory, changed as the one on the disk is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use strongroom::filesystem::{
    Attributes, Changes, Existing, ExtFileSystem, Fault, FileSystem, Kind, New, NodeId, Rights,
};

use crate::Random;

/// A file, by its number in the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) content: Vec<u8>,
    mode: u16,
    uid: u32,
    gid: u32,
    device: u32,
    links: u32,
    modified: Option<SystemTime>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    names: BTreeMap<Vec<u8>, usize>,
    /// The operation that last changed what it holds.
    pub(super) touched: usize,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<usize, Node>,
    next: usize,
    step: usize,
}

/// What is seen of a file but for its content: that may be of a later moment, as may be times.
pub(super) type Shape = BTreeMap<Vec<u8>, (String, u64)>;

impl Model {
    pub(super) fn shape(&self) -> Shape {
        let mut shape = Shape::new();
        self.walk(|path, _, node| {
            let size = if node.kind == Kind::Directory { 0 } else { node.content.len() as u64 };
            shape.insert(
                path.to_vec(),
                (look(node.kind, node.mode, node.uid, node.gid, node.links, &node.attributes), size),
            );
        });
        shape
    }

    pub(super) fn walk(&self, mut take: impl FnMut(&[u8], usize, &Node)) {
        let mut folders = vec![(Vec::new(), 0)];
        while let Some((path, number)) = folders.pop() {
            let node = &self.nodes[&number];
            take(&path, number, node);
            for (name, child) in &node.names {
                folders.push(([&path[..], b"/", name].concat(), *child));
            }
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.next += 1;
        self.nodes.insert(self.next, node);
        self.next
    }
}

fn look(
    kind: Kind,
    mode: u16,
    uid: u32,
    gid: u32,
    links: u32,
    attributes: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> String {
    let shown: Vec<_> = attributes
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name), value.len(), value.first()))
        .collect();
    format!("{kind:?} {mode:o} {uid} {gid} {links} {shown:?}")
}

/// The same of the disk.
pub(super) fn shape_of(files: &ExtFileSystem) -> Shape {
    let mut shape = Shape::new();
    each(files, |path, found, node| {
        let size = if found.kind == Kind::Directory { 0 } else { found.size };
        shape.insert(path.to_vec(), (look_of(files, found, node), size));
    });
    shape
}

fn look_of(files: &ExtFileSystem, found: &Attributes, node: NodeId) -> String {
    let Rights::Posix { mode, uid, gid } = found.rights else { panic!("it has owners") };
    look(found.kind, mode, uid, gid, found.links, &attributes(files, node))
}

fn attributes(files: &ExtFileSystem, node: NodeId) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let names = files.extended_names(node).unwrap();
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| (name.to_vec(), files.extended(node, OsStr::from_bytes(name)).unwrap())).collect()
}

pub(super) fn each(files: &ExtFileSystem, mut take: impl FnMut(&[u8], &Attributes, NodeId)) {
    let mut folders = vec![(Vec::new(), NodeId::ROOT)];
    while let Some((path, node)) = folders.pop() {
        let found = files.attributes(node).unwrap();
        take(&path, &found, node);
        if found.kind != Kind::Directory {
            continue;
        }
        let mut names = Vec::new();
        files
            .list(node, 0, &mut |entry| {
                names.push((entry.name.as_bytes().to_vec(), entry.node));
                true
            })
            .unwrap();
        for (name, child) in names {
            // What `mke2fs` and the kernel make is none of the model's.
            if !(path.is_empty() && (name == b"lost+found" || name == b"kernel")) {
                folders.push(([&path[..], b"/", &name].concat(), child));
            }
        }
    }
}

/// A run: the disk's file system, and the model beside it.
pub(super) struct Run {
    pub(super) files: Arc<ExtFileSystem>,
    pub(super) model: Model,
    pub(super) random: Random,
    held: Vec<(NodeId, usize)>,
    /// How long files may be.
    pub(super) reach: u64,
    pub(super) full: usize,
    has_extents: bool,
    /// Names in one directory become many.
    names: u64,
}

/// Where a name would be: its directory, on the disk and in the model.
struct Place {
    node: NodeId,
    number: usize,
    name: Vec<u8>,
}

impl Run {
    pub(super) fn new(files: ExtFileSystem, seed: u64, has_extents: bool) -> Self {
        let (files, mut model) = (Arc::new(files), Model::default());
        let found = files.attributes(NodeId::ROOT).unwrap();
        let Rights::Posix { mode, uid, gid } = found.rights else { panic!() };
        let root = Node { mode, uid, gid, links: found.links, ..node(Kind::Directory) };
        model.nodes.insert(0, root);
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self { files, model, random, held: Vec::new(), reach: 200_000, full: 0, has_extents, names: 40 }
    }

    pub(super) fn crowd(&mut self) {
        self.names = 3000;
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.below(n)
    }

    fn name(&mut self) -> Vec<u8> {
        let n = self.below(self.names);
        match self.below(5) {
            0 => format!("{n:04}{}", "x".repeat(251)).into_bytes(),
            1 => format!("a name \u{e4}\u{f6} {n}").into_bytes(),
            2 => [&b"\xff\xfe"[..], n.to_string().as_bytes()].concat(),
            3 => format!("{}{n}", "long ".repeat(n as usize % 20)).into_bytes(),
            _ => format!("n{n}").into_bytes(),
        }
    }

    /// A directory at random.
    fn folder(&mut self) -> (NodeId, usize) {
        let (mut node, mut number) = (NodeId::ROOT, 0);
        for _ in 0..self.below(4) {
            let folders: Vec<_> = self.model.nodes[&number]
                .names
                .iter()
                .filter(|(_, child)| self.model.nodes[child].kind == Kind::Directory)
                .map(|(name, child)| (name.clone(), *child))
                .collect();
            if folders.is_empty() {
                break;
            }
            let (name, child) = folders[self.random.below(folders.len() as u64) as usize].clone();
            let found = self.files.lookup(node, OsStr::from_bytes(&name)).unwrap();
            self.done(node);
            (node, number) = (found.attributes.node, child);
        }
        (node, number)
    }

    fn done(&self, node: NodeId) {
        if node != NodeId::ROOT {
            self.files.forget(node, 1);
        }
    }

    /// A place at random, where there may be something or not.
    fn place(&mut self) -> Place {
        let (node, number) = self.folder();
        let there: Vec<_> = self.model.nodes[&number].names.keys().cloned().collect();
        let name = if there.is_empty() || self.below(2) == 0 {
            self.name()
        } else {
            there[self.below(there.len() as u64) as usize].clone()
        };
        Place { node, number, name }
    }

    fn there(&self, place: &Place) -> Option<usize> {
        self.model.nodes[&place.number].names.get(&place.name).copied()
    }

    /// A file at random that has a name; or one that is held open without.
    fn target(&mut self, kinds: &[Kind]) -> Option<(NodeId, usize, bool)> {
        if !self.held.is_empty() && self.below(6) == 0 {
            let at = self.below(self.held.len() as u64) as usize;
            let (node, number) = self.held[at];
            return kinds.contains(&self.model.nodes[&number].kind).then_some((node, number, false));
        }
        for _ in 0..6 {
            let place = self.place();
            let found = self.there(&place).filter(|child| kinds.contains(&self.model.nodes[child].kind));
            if let Some(child) = found {
                let looked_up = self.files.lookup(place.node, OsStr::from_bytes(&place.name)).unwrap();
                self.done(place.node);
                return Some((looked_up.attributes.node, child, true));
            }
            self.done(place.node);
        }
        None
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        // Some begin as a block of a journal does.
        let start = if self.below(4) == 0 { &b"\xc0\x3b\x39\x98"[..] } else { b"" };
        let tint = self.below(255) as u8 + 1;
        start
            .iter()
            .copied()
            .chain((0..len).map(|at| (at as u8).wrapping_mul(31) ^ tint))
            .take(len as usize)
            .collect()
    }

    /// One operation.
    pub(super) fn step(&mut self) {
        self.model.step += 1;
        match self.below(22) {
            0..4 => self.make(),
            4 => self.link(),
            5 | 6 => self.remove(),
            7 => self.rename(),
            8 => self.exchange(),
            9..13 => self.write(),
            13 => self.resize(),
            14 => self.clear(),
            15 => self.reserve(),
            16 => self.set(),
            17 | 18 => self.attribute(),
            19 => self.hold(),
            20 => self.let_go(),
            _ => self.check_some(),
        }
    }

    /// Whether it was done, where it could have been; a full disk is no fault.
    fn agree<T>(&mut self, done: Result<T, Fault>, expected: Result<(), Fault>, what: &str) -> Option<T> {
        match (done, expected) {
            (Ok(done), Ok(())) => Some(done),
            (Err(Fault::NoSpace), Ok(())) => {
                self.full += 1;
                None
            }
            (Err(fault), Err(expected)) if fault == expected => None,
            (done, expected) => panic!("{what}: {:?}, not {expected:?}", done.err()),
        }
    }

    fn make(&mut self) {
        let place = self.place();
        let kind = match self.below(12) {
            0..7 => Kind::File,
            7 | 8 => Kind::Directory,
            9 => Kind::Link,
            10 => Kind::Pipe,
            _ => Kind::CharacterDevice,
        };
        let len = [1, 30, 59, 60, 61, 900][self.below(6) as usize];
        let target = if kind == Kind::Link { self.bytes(len) } else { Vec::new() };
        let target: Vec<u8> = target.iter().map(|byte| byte | 1).collect();
        let device =
            if kind == Kind::CharacterDevice { [0x0501, 0x10_0234][self.below(2) as usize] } else { 0 };
        let mode = if kind == Kind::Link { 0o777 } else { self.below(0o1000) as u16 };
        let (uid, gid) = (self.below(70_000) as u32, self.below(70_000) as u32);
        let new = New { kind, mode, umask: 0o022, uid, gid, device, target: &target };
        let expected = if self.there(&place).is_some() { Err(Fault::Exists) } else { Ok(()) };
        let answer = self.files.make(place.node, OsStr::from_bytes(&place.name), &new);
        if let Some(found) = self.agree(answer, expected, "make") {
            self.done(found.attributes.node);
            let parent = self.model.nodes.get_mut(&place.number).unwrap();
            let is_group = parent.mode & 0o2000 != 0;
            let gid = if is_group { parent.gid } else { gid };
            if kind == Kind::Directory {
                parent.links += 1;
            }
            let mode = match kind {
                Kind::Link => mode,
                Kind::Directory if is_group => mode & !0o022 | 0o2000,
                _ => mode & !0o022,
            };
            let links = if kind == Kind::Directory { 2 } else { 1 };
            let touched = self.model.step;
            let entry = Node { mode, uid, gid, device, links, content: target, touched, ..node(kind) };
            let number = self.model.add(entry);
            self.model.nodes.get_mut(&place.number).unwrap().names.insert(place.name, number);
        }
        self.done(place.node);
    }

    fn link(&mut self) {
        let Some((node, number, _)) = self.target(&[Kind::File, Kind::Link]) else { return };
        let place = self.place();
        let is_gone = self.model.nodes[&number].links == 0;
        let expected = match (is_gone, self.there(&place)) {
            (true, _) => Err(Fault::NotFound),
            (_, Some(_)) => Err(Fault::Exists),
            _ => Ok(()),
        };
        let linked = self.files.link(node, place.node, OsStr::from_bytes(&place.name));
        if self.agree(linked, expected, "link").is_some() {
            self.done(node);
            self.model.nodes.get_mut(&number).unwrap().links += 1;
            self.model.nodes.get_mut(&place.number).unwrap().names.insert(place.name, number);
        }
        self.finish(node, number);
        self.done(place.node);
    }

    /// The end of a [`target`](Self::target).
    fn finish(&self, node: NodeId, number: usize) {
        if !self.held.contains(&(node, number)) || self.model.nodes[&number].links > 0 {
            self.done(node);
        }
    }

    fn remove(&mut self) {
        let place = self.place();
        let there = self.there(&place);
        let is_directory = there.is_some_and(|there| self.model.nodes[&there].kind == Kind::Directory);
        let kind = match self.below(8) {
            0 if is_directory => Kind::File,
            0 => Kind::Directory,
            _ if is_directory => Kind::Directory,
            _ => Kind::File,
        };
        let expected = match there {
            None => Err(Fault::NotFound),
            Some(_) if is_directory && kind == Kind::File => Err(Fault::IsDirectory),
            Some(_) if !is_directory && kind == Kind::Directory => Err(Fault::NotDirectory),
            Some(there) if !self.model.nodes[&there].names.is_empty() => Err(Fault::NotEmpty),
            Some(_) => Ok(()),
        };
        let removed = self.files.remove(place.node, OsStr::from_bytes(&place.name), kind);
        if self.agree(removed, expected, "remove").is_some() {
            let number = self.model.nodes.get_mut(&place.number).unwrap().names.remove(&place.name).unwrap();
            self.lose(number, place.number);
        }
        self.done(place.node);
    }

    /// A name less.
    fn lose(&mut self, number: usize, parent: usize) {
        if self.model.nodes[&number].kind == Kind::Directory {
            self.model.nodes.get_mut(&parent).unwrap().links -= 1;
            self.model.nodes.get_mut(&number).unwrap().links = 0;
        } else {
            self.model.nodes.get_mut(&number).unwrap().links -= 1;
        }
        let is_held = self.held.iter().any(|(_, held)| *held == number);
        if self.model.nodes[&number].links == 0 && !is_held {
            self.model.nodes.remove(&number);
        }
    }

    fn is_within(&self, number: usize, moved: usize) -> bool {
        number == moved || self.model.nodes[&moved].names.values().any(|child| self.is_within(number, *child))
    }

    fn rename(&mut self) {
        let (from, to) = (self.place(), self.place());
        let replace = self.below(3) > 0;
        let kind = |run: &Self, number: usize| run.model.nodes[&number].kind == Kind::Directory;
        let expected = match (self.there(&from), self.there(&to)) {
            (None, _) => Err(Fault::NotFound),
            (Some(_), Some(_)) if !replace => Err(Fault::Exists),
            (Some(moved), Some(other)) if moved == other => Ok(()),
            (Some(moved), _) if kind(self, moved) && self.is_within(to.number, moved) => Err(Fault::Invalid),
            (Some(moved), Some(other)) if kind(self, moved) != kind(self, other) => {
                Err(if kind(self, moved) { Fault::NotDirectory } else { Fault::IsDirectory })
            }
            (Some(_), Some(other)) if !self.model.nodes[&other].names.is_empty() => Err(Fault::NotEmpty),
            _ => Ok(()),
        };
        let (old, new) = (OsStr::from_bytes(&from.name), OsStr::from_bytes(&to.name));
        let renamed = self.files.rename((from.node, old), (to.node, new), replace);
        if self.agree(renamed, expected, "rename").is_some() && self.there(&from) != self.there(&to) {
            let moved = self.model.nodes.get_mut(&from.number).unwrap().names.remove(&from.name).unwrap();
            let names = &mut self.model.nodes.get_mut(&to.number).unwrap().names;
            let other = names.insert(to.name.clone(), moved);
            if let Some(other) = other {
                self.lose(other, to.number);
            }
            if kind(self, moved) {
                self.model.nodes.get_mut(&from.number).unwrap().links -= 1;
                self.model.nodes.get_mut(&to.number).unwrap().links += 1;
            }
        }
        self.done(from.node);
        self.done(to.node);
    }

    fn exchange(&mut self) {
        let (from, to) = (self.place(), self.place());
        let (Some(one), Some(other)) = (self.there(&from), self.there(&to)) else {
            self.done(from.node);
            return self.done(to.node);
        };
        let kind = |number: usize| self.model.nodes[&number].kind == Kind::Directory;
        let is_circle = from.number != to.number
            && (kind(one) && self.is_within(to.number, one)
                || kind(other) && self.is_within(from.number, other));
        let expected = if is_circle && one != other { Err(Fault::Invalid) } else { Ok(()) };
        let is_folder = (kind(one), kind(other));
        let (old, new) = (OsStr::from_bytes(&from.name), OsStr::from_bytes(&to.name));
        let done = self.files.exchange((from.node, old), (to.node, new));
        if self.agree(done, expected, "exchange").is_some() {
            self.model.nodes.get_mut(&from.number).unwrap().names.insert(from.name, other);
            self.model.nodes.get_mut(&to.number).unwrap().names.insert(to.name, one);
            let mut count = |number: usize, more: bool, less: bool| {
                let node = self.model.nodes.get_mut(&number).unwrap();
                node.links = node.links + u32::from(more) - u32::from(less);
            };
            count(from.number, is_folder.1, is_folder.0);
            count(to.number, is_folder.0, is_folder.1);
        }
        self.done(from.node);
        self.done(to.node);
    }

    fn touch(&mut self, number: usize) -> &mut Node {
        let step = self.model.step;
        let node = self.model.nodes.get_mut(&number).unwrap();
        node.touched = step;
        node
    }

    fn write(&mut self) {
        let Some((node, number, _)) = self.target(&[Kind::File]) else { return };
        let size = self.model.nodes[&number].content.len() as u64;
        let offset = match self.below(4) {
            0 => size,
            1 => self.below(size + 1),
            2 => self.below(16) * 4096,
            _ => self.below(self.reach),
        };
        let len = 1 + match self.below(4) {
            0 => self.below(100),
            1 => self.below(40_000),
            2 => 4095,
            _ => self.below(5000),
        };
        let data = self.bytes(len);
        let written = self.files.write(node, offset, &data);
        let content = &mut self.touch(number).content;
        let (offset, end) = (offset as usize, offset as usize + data.len());
        let mut new = content.clone();
        new.resize(new.len().max(end), 0);
        new[offset..end].copy_from_slice(&data);
        if self.agree(written, Ok(()), "write").is_some() {
            self.touch(number).content = new;
        } else {
            self.reload(node, number);
        }
        self.finish(node, number);
    }

    /// What was half done on a full disk is as the disk has it.
    fn reload(&mut self, node: NodeId, number: usize) {
        let size = self.files.attributes(node).unwrap().size;
        let mut content = vec![0; size as usize];
        assert_eq!(self.files.read(node, 0, &mut content).unwrap() as u64, size);
        self.touch(number).content = content;
    }

    fn resize(&mut self) {
        let Some((node, number, _)) = self.target(&[Kind::File]) else { return };
        let old = self.model.nodes[&number].content.len() as u64;
        let size = if self.below(2) == 0 { self.below(old + 1) } else { self.below(self.reach) };
        let done = self.files.set_attributes(node, &Changes { size: Some(size), ..Changes::default() });
        if self.agree(done, Ok(()), "resize").is_some() {
            self.touch(number).content.resize(size as usize, 0);
        }
        self.finish(node, number);
    }

    fn clear(&mut self) {
        let Some((node, number, _)) = self.target(&[Kind::File]) else { return };
        let start = self.below(self.reach);
        let end = start + 1 + self.below(60_000);
        let (is_kept, grows) = (self.below(2) == 0, self.below(2) == 0);
        let grows = grows && is_kept;
        let done = self.files.clear(node, start..end, is_kept, grows);
        let expected = if is_kept && !self.has_extents { Err(Fault::Unsupported) } else { Ok(()) };
        let is_full = matches!(done, Err(Fault::NoSpace));
        if self.agree(done, expected, "clear").is_some() {
            let content = &mut self.touch(number).content;
            if grows {
                content.resize(content.len().max(end as usize), 0);
            }
            let end = content.len().min(end as usize);
            if let Some(part) = content.get_mut(start as usize..end) {
                part.fill(0);
            }
        } else if is_full {
            self.reload(node, number);
        }
        self.finish(node, number);
    }

    fn reserve(&mut self) {
        let Some((node, number, _)) = self.target(&[Kind::File]) else { return };
        let start = self.below(self.reach);
        let end = start + 1 + self.below(100_000);
        let grows = self.below(2) == 0;
        let done = self.files.reserve(node, start..end, grows);
        let expected = if self.has_extents { Ok(()) } else { Err(Fault::Unsupported) };
        let is_full = matches!(done, Err(Fault::NoSpace));
        if self.agree(done, expected, "reserve").is_some() && grows {
            let content = &mut self.touch(number).content;
            content.resize(content.len().max(end as usize), 0);
        } else if is_full {
            self.reload(node, number);
        }
        self.finish(node, number);
    }

    fn set(&mut self) {
        let kinds = [Kind::File, Kind::Directory, Kind::Pipe];
        let Some((node, number, _)) = self.target(&kinds) else { return };
        let (mode, uid, gid) =
            (self.below(0o10000) as u16, self.below(80_000) as u32, self.below(80_000) as u32);
        let time = UNIX_EPOCH + Duration::new(self.below(1 << 33), self.below(1_000_000_000) as u32);
        let changes = Changes {
            mode: Some(mode),
            uid: Some(uid),
            gid: Some(gid),
            modified: Some(time),
            accessed: Some(time),
            ..Changes::default()
        };
        let done = self.files.set_attributes(node, &changes);
        if self.agree(done, Ok(()), "set").is_some() {
            let node = self.model.nodes.get_mut(&number).unwrap();
            (node.mode, node.uid, node.gid, node.modified) = (mode, uid, gid, None);
            if let Some(list) = node.attributes.get_mut(&b"system.posix_acl_access"[..]) {
                list[6] = (mode >> 6 & 7) as u8;
                list[30] = (mode >> 3 & 7) as u8;
                list[38] = (mode & 7) as u8;
            }
        }
        self.finish(node, number);
    }

    fn attribute(&mut self) {
        let Some((node, number, _)) = self.target(&[Kind::File, Kind::Directory]) else { return };
        let name = match self.below(8) {
            0 => b"security.s".to_vec(),
            1 => b"system.posix_acl_access".to_vec(),
            n => format!("user.{}{}", "n".repeat(n as usize), self.below(4)).into_bytes(),
        };
        let is_list = name.starts_with(b"system.");
        let len = [0, 1, 10, 50, 200, 700][self.below(6) as usize];
        let value = match (self.below(3) > 0, is_list) {
            (false, _) => None,
            (true, true) => Some(list(self.below(512) as u16)),
            (true, false) => Some(self.bytes(len)),
        };
        let has = self.model.nodes[&number].attributes.contains_key(&name);
        let existing = [Existing::Any, Existing::Needed, Existing::Refused][self.below(3) as usize];
        let expected = match (existing, has, &value) {
            _ if is_list => Ok(()),
            (Existing::Refused, true, _) => Err(Fault::Exists),
            (Existing::Needed, false, _) | (_, false, None) => Err(Fault::NoAttribute),
            _ => Ok(()),
        };
        let done = self.files.set_extended(node, OsStr::from_bytes(&name), value.as_deref(), existing);
        if self.agree(done, expected, "attribute").is_some() {
            let node = self.model.nodes.get_mut(&number).unwrap();
            if let Some(value) = &value
                && is_list
            {
                let bits = |at: usize| u16::from(value[at]);
                node.mode = node.mode & !0o777 | bits(6) << 6 | bits(30) << 3 | bits(38);
            }
            match value {
                Some(value) => node.attributes.insert(name, value),
                None => node.attributes.remove(&name),
            };
        }
        self.finish(node, number);
    }

    fn hold(&mut self) {
        let Some((node, number, is_named)) = self.target(&[Kind::File]) else { return };
        if is_named && self.held.len() < 4 {
            self.files.open(node).unwrap();
            self.held.push((node, number));
        }
        if is_named {
            self.done(node);
        }
    }

    fn let_go(&mut self) {
        let Some((node, number)) = self.held.pop() else { return };
        self.files.release(node);
        let is_held = self.held.iter().any(|(_, held)| *held == number);
        if self.model.nodes[&number].links == 0 && !is_held {
            self.model.nodes.remove(&number);
        }
    }

    pub(super) fn let_all_go(&mut self) {
        while !self.held.is_empty() {
            self.let_go();
        }
    }

    /// One file or directory is as the model has it.
    fn check_some(&mut self) {
        let Some((node, number, _)) = self.target(&[Kind::File]) else { return };
        let mut content = vec![0xee; self.model.nodes[&number].content.len() + 3];
        let count = self.files.read(node, 0, &mut content).unwrap();
        content.truncate(count);
        assert!(content == self.model.nodes[&number].content, "a file of {count} bytes differs");
        self.finish(node, number);
    }

    /// All of it is.
    pub(super) fn check(&self, what: &str) {
        assert_same(&self.files, &self.model, &BTreeSet::new(), what);
    }
}

/// The disk has what the model has; of some files it does not matter what they hold.
pub(super) fn assert_same(files: &ExtFileSystem, model: &Model, stirred: &BTreeSet<usize>, what: &str) {
    let (ours, expected) = (shape_of(files), model.shape());
    for (path, look) in &expected {
        assert_eq!(ours.get(path), Some(look), "{what}: {}", String::from_utf8_lossy(path));
    }
    assert_eq!(ours.len(), expected.len(), "{what}");
    let mut nodes = BTreeMap::new();
    each(files, |path, _, node| {
        nodes.insert(path.to_vec(), node);
    });
    model.walk(|path, number, node| {
        if stirred.contains(&number) {
            return;
        }
        let mut content = vec![0xee; node.content.len() + 3];
        let count = match node.kind {
            Kind::File => files.read(nodes[path], 0, &mut content).unwrap(),
            Kind::Link => {
                content = files.target(nodes[path]).unwrap();
                content.len()
            }
            _ => return,
        };
        content.truncate(count);
        let at = content.iter().zip(&node.content).position(|(ours, theirs)| ours != theirs);
        let is_same = content == node.content;
        assert!(is_same, "{what}: {} differs: {count} bytes, from {at:?} on", String::from_utf8_lossy(path));
    });
}

fn list(mode: u16) -> Vec<u8> {
    let entry = |tag: u16, may: u16, id: u32| {
        [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let all = u32::MAX;
    let entries = [
        entry(1, mode >> 6 & 7, all),
        entry(2, 5, 1000),
        entry(4, 4, all),
        entry(0x10, mode >> 3 & 7, all),
        entry(0x20, mode & 7, all),
    ];
    [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
}

const fn node(kind: Kind) -> Node {
    Node {
        kind,
        content: Vec::new(),
        mode: 0,
        uid: 0,
        gid: 0,
        device: 0,
        links: 0,
        modified: None,
        attributes: BTreeMap::new(),
        names: BTreeMap::new(),
        touched: 0,
    }
}
