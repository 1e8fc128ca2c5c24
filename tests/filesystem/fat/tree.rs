//! All that a volume holds, by path: how the model keeps it, and how it is read from the disk.

use std::collections::BTreeMap;

use strongroom::filesystem::{FatFileSystem, FileSystem, Kind, Listed, NodeId};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Thing {
    File(Vec<u8>),
    Folder,
}

pub(super) type Tree = BTreeMap<String, Thing>;

/// Whether `path` lies in the folder `folder`.
pub(super) fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Reads all of it.
pub(super) fn read_tree(files: &FatFileSystem) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![(String::new(), NodeId::ROOT)];
    while let Some((folder, id)) = folders.pop() {
        for (name, kind) in list(files, id) {
            let path = format!("{folder}/{name}");
            let child = files.lookup(id, name.as_ref()).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(child.is_exact, "{path}");
            let node = child.attributes.node;
            let thing = if kind == Kind::Directory {
                folders.push((path.clone(), node));
                Thing::Folder
            } else {
                let content = content(files, node, child.attributes.size, &path);
                files.forget(node, 1);
                Thing::File(content)
            };
            assert!(tree.insert(path.clone(), thing).is_none(), "{path} is there twice");
        }
        forget(files, id);
    }
    tree
}

/// Lets go of a node that was looked up; nobody looks up the root.
pub(super) fn forget(files: &FatFileSystem, id: NodeId) {
    if id != NodeId::ROOT {
        files.forget(id, 1);
    }
}

/// The names in a folder, seven at a time: each list goes on where the one before ended.
fn list(files: &FatFileSystem, id: NodeId) -> Vec<(String, Kind)> {
    let (mut found, mut cursor) = (Vec::new(), 0);
    loop {
        let (start, before) = (cursor, found.len());
        let take = &mut |entry: &Listed<'_>| {
            cursor = entry.next;
            found.push((entry.name.to_str().unwrap().to_owned(), entry.kind));
            found.len() < before + 7
        };
        files.list(id, start, take).unwrap();
        if found.len() < before + 7 {
            return found;
        }
    }
}

/// A file's bytes. There are no more of them than its size says.
fn content(files: &FatFileSystem, node: NodeId, size: u64, path: &str) -> Vec<u8> {
    let mut content = vec![0xee; size as usize + 3];
    let read = files.read(node, 0, &mut content).unwrap_or_else(|error| panic!("{path}: {error}"));
    content.truncate(read);
    assert_eq!(read as u64, size, "{path}");
    content
}

/// Says where they differ.
pub(super) fn assert_equal(model: &Tree, disk: &Tree, what: &str) {
    for (path, wanted) in model {
        match (wanted, disk.get(path)) {
            (_, None) => panic!("{what}: {path} is missing"),
            (Thing::File(wanted), Some(Thing::File(found))) => {
                let differs = wanted.iter().zip(found).position(|(one, other)| one != other);
                let lengths = (wanted.len(), found.len());
                assert!(wanted == found, "{what}: {path} differs at {differs:?}, lengths {lengths:?}");
            }
            (Thing::Folder, Some(Thing::Folder)) => {}
            _ => panic!("{what}: {path} is of another kind"),
        }
    }
    let stray = disk.keys().find(|path| !model.contains_key(*path));
    assert_eq!(stray, None, "{what}");
}
