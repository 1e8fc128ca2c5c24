//! Operations at random, on the disk and on a tree in memory.

use std::env;

use strongroom::filesystem::{Changes, FatFileSystem, Fault, FileSystem, Kind, New, NodeId};

use super::{
    judge::Case,
    tree::{Thing, Tree, forget, is_within, read_tree},
};
use crate::{Random, disk::Disk};

/// A run: the disk's file system, and the model beside it.
pub(super) struct Run {
    pub(super) files: FatFileSystem,
    pub(super) model: Tree,
    pub(super) disk: Disk,
    pub(super) random: Random,
    /// The folders of the model; the root has the empty path.
    folders: Vec<String>,
    /// Files that were removed while they were open, and what they hold.
    unlinked: Vec<(NodeId, Vec<u8>)>,
    /// How often there was no space.
    pub(super) full: u64,
    /// What each operation did, the first one at 0.
    pub(super) operations: Vec<Operation>,
    pub(super) syncs: Vec<Sync>,
    is_traced: bool,
}

/// What a power cut needs to know of an operation.
pub(super) struct Operation {
    /// The disk's writes before it.
    pub(super) start: usize,
    /// The paths that it changes.
    pub(super) touched: Vec<Touched>,
}

pub(super) struct Touched {
    pub(super) path: String,
    /// Another file takes its place: one of both is there at any moment.
    pub(super) is_replaced: bool,
}

/// A moment at which all was on the disk.
pub(super) struct Sync {
    /// The disk's writes before it.
    pub(super) position: usize,
    pub(super) tree: Tree,
    /// How many operations had begun.
    pub(super) operations: usize,
}

impl Run {
    /// Of an image; `is_logged` where it is to be cut at some write.
    pub(super) fn new(image: Vec<u8>, seed: u64, is_logged: bool) -> Self {
        let disk = if is_logged { Disk::logged(image) } else { Disk::new(image) };
        let files = Case::open(&disk);
        let model = read_tree(&files);
        Self {
            syncs: vec![Sync { position: 0, tree: model.clone(), operations: 0 }],
            files,
            model,
            disk,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            folders: vec![String::new()],
            unlinked: Vec::new(),
            full: 0,
            operations: Vec::new(),
            is_traced: env::var_os("TRACE").is_some(),
        }
    }

    /// Does one operation. What the disk answers is what the model says.
    pub(super) fn step(&mut self) {
        self.operations.push(Operation { start: self.disk.position(), touched: Vec::new() });
        match self.random.below(100) {
            0..22 => self.create(Kind::File),
            22..30 => self.create(Kind::Directory),
            30..52 => self.write(),
            52..60 => self.truncate(),
            60..72 => self.remove(),
            72..88 => self.rename(),
            88..93 => self.sync(),
            93..97 => self.end_unlinked(),
            _ => self.read(),
        }
    }

    /// Closes the file system and opens it again.
    pub(super) fn remount(&mut self) {
        for (id, _) in self.unlinked.drain(..) {
            self.files.release(id);
            self.files.forget(id, 1);
        }
        self.files.close().unwrap();
        self.files = Case::open(&self.disk);
        self.note_sync();
    }

    fn create(&mut self, kind: Kind) {
        let folder = self.folder();
        if kind == Kind::Directory && folder.matches('/').count() > 4 {
            return;
        }
        let name = self.name();
        let path = format!("{folder}/{name}");
        self.touch(&path, false);
        let id = self.resolve(&folder);
        let made = self.files.make(id, name.as_ref(), &New::empty(kind));
        forget(&self.files, id);
        self.trace(|| format!("create {path} {kind:?} {:?}", made.is_ok()));
        match made {
            Ok(found) => {
                self.files.forget(found.attributes.node, 1);
                let thing = if kind == Kind::Directory {
                    self.folders.push(path.clone());
                    Thing::Folder
                } else {
                    Thing::File(Vec::new())
                };
                assert_eq!(self.model.insert(path, thing), None);
            }
            Err(Fault::Exists) => assert!(self.model.contains_key(&path), "{path}"),
            Err(Fault::NoSpace) => self.full += 1,
            other => panic!("create {path}: {other:?}"),
        }
    }

    fn write(&mut self) {
        let Some(path) = self.file() else { return };
        let size = self.content(&path).len() as u64;
        let offset = match self.random.below(4) {
            0 => size,
            1 => self.random.below(size + 1),
            2 => self.random.below(self.reach()),
            _ => 0,
        };
        let most = if self.random.below(4) == 0 { self.reach() / 2 } else { 6000 };
        let data = self.noise(most);
        self.touch(&path, false);
        let id = self.resolve(&path);
        let written = self.files.write(id, offset, &data);
        forget(&self.files, id);
        self.trace(|| format!("write {path} {offset} {} {written:?}", data.len()));
        match written {
            Ok(()) => {
                let (content, end) = (self.content(&path), offset as usize + data.len());
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(&data);
            }
            Err(Fault::NoSpace) => self.full += 1,
            other => panic!("write {path}: {other:?}"),
        }
    }

    fn truncate(&mut self) {
        let Some(path) = self.file() else { return };
        let size = self.random.below(self.reach());
        let size = if self.random.below(3) == 0 { 0 } else { size };
        self.touch(&path, false);
        let id = self.resolve(&path);
        let changed = self.files.set_attributes(id, &Changes { size: Some(size), ..Changes::default() });
        forget(&self.files, id);
        self.trace(|| format!("truncate {path} {size} {}", changed.is_ok()));
        match changed {
            Ok(attributes) => {
                assert_eq!(attributes.size, size);
                self.content(&path).resize(size as usize, 0);
            }
            Err(Fault::NoSpace) => self.full += 1,
            other => panic!("truncate {path}: {other:?}"),
        }
    }

    /// Removes something; a file, now and then, while it is open.
    fn remove(&mut self) {
        let Some(path) = self.any() else { return };
        let kind = if self.model[&path] == Thing::Folder { Kind::Directory } else { Kind::File };
        self.touch(&path, false);
        let is_open = kind == Kind::File && self.random.below(5) == 0 && self.unlinked.len() < 5;
        let open = is_open.then(|| {
            let id = self.resolve(&path);
            self.files.open(id).unwrap();
            id
        });
        let (folder, name) = split(&path);
        let id = self.resolve(folder);
        let removed = self.files.remove(id, name.as_ref(), kind);
        forget(&self.files, id);
        self.trace(|| format!("remove {path} {removed:?}"));
        if self.has_entries(&path) {
            assert_eq!(removed, Err(Fault::NotEmpty), "{path}");
            return;
        }
        removed.unwrap();
        if let (Some(id), Some(Thing::File(content))) = (open, self.model.remove(&path)) {
            self.unlinked.push((id, content));
        }
        self.folders.retain(|folder| *folder != path);
    }

    fn rename(&mut self) {
        let Some(from) = self.any() else { return };
        let to = if self.random.below(3) == 0 { self.any() } else { None };
        let to = to.unwrap_or_else(|| format!("{}/{}", self.folder(), self.name()));
        let replaces = self.random.below(4) != 0;
        let is_replaced = replaces && self.model.contains_key(&to) && self.model[&from] != Thing::Folder;
        self.touch(&from, false);
        self.touch(&to, is_replaced);
        let ((folder, name), (new_folder, new_name)) = (split(&from), split(&to));
        let (old, new) = (self.resolve(folder), self.resolve(new_folder));
        let renamed = self.files.rename((old, name.as_ref()), (new, new_name.as_ref()), replaces);
        forget(&self.files, old);
        forget(&self.files, new);
        self.trace(|| format!("rename {from} -> {to} {renamed:?}"));
        if renamed == Err(Fault::NoSpace) {
            self.full += 1;
            return;
        }
        assert_eq!(renamed, self.wanted_of_rename(&from, &to, replaces), "rename {from} {to}");
        if renamed.is_ok() && from != to {
            self.move_in_model(&from, &to);
        }
    }

    /// What a rename is to answer, as `rename(2)` says.
    fn wanted_of_rename(&self, from: &str, to: &str, replaces: bool) -> Result<(), Fault> {
        if from == to {
            return Ok(());
        }
        let target = self.model.get(to);
        if target.is_some() && !replaces {
            return Err(Fault::Exists);
        }
        match (&self.model[from], target) {
            (Thing::Folder, Some(Thing::File(_))) => Err(Fault::NotDirectory),
            (Thing::File(_), Some(Thing::Folder)) => Err(Fault::IsDirectory),
            (Thing::Folder, Some(Thing::Folder)) if self.has_entries(to) => Err(Fault::NotEmpty),
            _ if is_within(to, from) => Err(Fault::Invalid),
            _ => Ok(()),
        }
    }

    fn move_in_model(&mut self, from: &str, to: &str) {
        let renamed = |path: &str| format!("{to}{}", &path[from.len()..]);
        let is_moved = |path: &str| path == from || is_within(path, from);
        self.model.remove(to);
        let moved: Vec<_> = self.model.keys().filter(|path| is_moved(path)).cloned().collect();
        for path in moved {
            let thing = self.model.remove(&path).unwrap();
            self.model.insert(renamed(&path), thing);
        }
        self.folders.retain(|folder| folder != to);
        for folder in self.folders.iter_mut().filter(|folder| is_moved(folder)) {
            *folder = renamed(folder);
        }
    }

    fn sync(&mut self) {
        self.files.sync().unwrap();
        self.trace(|| "sync".to_owned());
        self.note_sync();
    }

    /// A file that has no name any more can be written and read until it is closed.
    fn end_unlinked(&mut self) {
        let Some((id, mut content)) = self.unlinked.pop() else { return };
        let more = [7; 3000];
        if self.random.below(2) == 0 && self.files.write(id, content.len() as u64, &more).is_ok() {
            content.extend(more);
        }
        let mut found = vec![0; content.len() + 1];
        let read = self.files.read(id, 0, &mut found).unwrap();
        assert_eq!(found[..read], content, "without a name");
        self.files.release(id);
        self.files.forget(id, 1);
    }

    fn read(&mut self) {
        let Some(path) = self.file() else { return };
        let id = self.resolve(&path);
        let len = self.content(&path).len();
        let offset = self.random.below(len as u64 + 1) as usize;
        let mut found = vec![1; 5000];
        let read = self.files.read(id, offset as u64, &mut found).unwrap();
        assert_eq!(found[..read], self.content(&path)[offset..len.min(offset + 5000)], "{path}");
        forget(&self.files, id);
    }

    /// A folder at random.
    fn folder(&mut self) -> String {
        let number = self.random.below(self.folders.len() as u64) as usize;
        self.folders[number].clone()
    }

    /// A file or a folder.
    fn any(&mut self) -> Option<String> {
        if self.model.is_empty() {
            return None;
        }
        let number = self.random.below(self.model.len() as u64) as usize;
        self.model.keys().nth(number).cloned()
    }

    /// A file, if one is found soon.
    fn file(&mut self) -> Option<String> {
        (0..8).find_map(|_| self.any().filter(|path| self.model[path] != Thing::Folder))
    }

    /// A name: few of them, so that they meet; short, long, hidden, and beyond the letters of old.
    fn name(&mut self) -> String {
        let n = self.random.below(24);
        match self.random.below(10) {
            0 => format!("FILE{n}.TXT"),
            1 => format!("lower{n}.c"),
            2 => format!("Ein l\u{e4}ngerer Name mit \u{dc}ml\u{e4}uten {n}.jpeg"),
            3 => format!("\u{1f600}\u{1d11e}{n}"),
            4 => format!("{}{n:03}", "x".repeat(252)),
            5 => format!(".hidden{n}"),
            6 => format!("a b c.{n}.tar.gz"),
            7 => format!("\u{65e5}\u{672c}{n}"),
            8 => format!("{}{n}.x", "long name ".repeat(n as usize % 10 + 1)),
            _ => format!("n{n}"),
        }
    }

    /// Bytes, `most` at most.
    fn noise(&mut self, most: u64) -> Vec<u8> {
        let (len, start) = (1 + self.random.below(most), self.random.next());
        (0..len).map(|at| (start.wrapping_add(at).wrapping_mul(0x9e37) >> 7) as u8).collect()
    }

    /// How long files become.
    fn reach(&self) -> u64 {
        if self.disk.len() > 8 << 20 { 200_000 } else { 40_000 }
    }

    fn content(&mut self, path: &str) -> &mut Vec<u8> {
        let Some(Thing::File(content)) = self.model.get_mut(path) else { panic!("{path} is no file") };
        content
    }

    fn has_entries(&self, folder: &str) -> bool {
        self.model.keys().any(|path| is_within(path, folder))
    }

    /// The node at `path`, to be forgotten.
    fn resolve(&self, path: &str) -> NodeId {
        let mut at = NodeId::ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let found = self.files.lookup(at, part.as_ref());
            forget(&self.files, at);
            at = found.unwrap_or_else(|error| panic!("{path}: {error}")).attributes.node;
        }
        at
    }

    fn touch(&mut self, path: &str, is_replaced: bool) {
        let touched = Touched { path: path.to_owned(), is_replaced };
        self.operations.last_mut().unwrap().touched.push(touched);
    }

    fn note_sync(&mut self) {
        let (position, tree) = (self.disk.position(), self.model.clone());
        self.syncs.push(Sync { position, tree, operations: self.operations.len() });
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{} at write {}: {}", self.operations.len(), self.disk.position(), what());
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap()
}
