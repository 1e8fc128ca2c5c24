//! Trees of many kinds, written by ntfs-3g: each file, name, time and link is as it shows them.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    time::SystemTime,
};

use super::*;

/// Name, bytes of the image, and what mkfs.ntfs is told.
const LAYOUTS: &[(&str, u64, &str)] = &[
    ("the smallest clusters", 48 << 20, "-c 512"),
    ("clusters of 1 KiB", 48 << 20, "-c 1024"),
    ("the usual clusters", 64 << 20, "-c 4096"),
    ("clusters of 8 KiB", 64 << 20, "-c 8192"),
    ("clusters of 64 KiB", 96 << 20, "-c 65536"),
    ("the largest clusters", 512 << 20, "-c 2097152"),
    ("sectors of 4 KiB", 64 << 20, "-s 4096 -c 4096"),
    ("sectors of 1 KiB", 64 << 20, "-s 1024 -c 2048"),
];

/// A file as it shows.
#[derive(Debug, PartialEq)]
struct Shown {
    kind: Kind,
    content: Vec<u8>,
    links: u64,
    modified: SystemTime,
}

type Tree = BTreeMap<OsString, Shown>;

#[test]
fn trees_are_as_ntfs_3g_shows_them() {
    if !can_judge() {
        return;
    }
    let seeds = crate::number("SEEDS", 1);
    for (name, size, options) in LAYOUTS {
        for seed in 0..seeds {
            let image = Image::new(*size, options);
            let mounted = image.mount("noatime,compression");
            Writer {
                root: mounted.0.clone(),
                random: Random(seed.wrapping_add(size.wrapping_mul(31)) ^ 0x4d),
            }
            .write();
            drop(mounted);
            compare(&image, &format!("{name}, seed {seed}"));
        }
    }
}

#[test]
fn ten_thousand_names_and_files_in_thousands_of_pieces_are_as_ntfs_3g_shows_them() {
    if !can_judge() {
        return;
    }
    let image = Image::new(96 << 20, "-c 512");
    let mounted = image.mount("noatime");
    let many = mounted.0.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..10_000 {
        fs::File::create(many.join(format!("file number {number} ΑΩ.txt"))).unwrap();
    }
    // Each piece of one lies between pieces of the other.
    let files = ["one", "other"].map(|name| fs::File::create(mounted.0.join(name)).unwrap());
    for number in 0..6000_u64 {
        for (file, byte) in files.iter().zip([1_u8, 2]) {
            file.write_all_at(&[byte ^ number as u8; 512], number * 512 * (1 + number % 3)).unwrap();
        }
    }
    let linked = mounted.0.join("linked");
    fs::write(&linked, "many names").unwrap();
    for number in 0..300 {
        fs::hard_link(&linked, mounted.0.join(format!("{} {number}", "name ".repeat(20)))).unwrap();
    }
    drop((files, mounted));
    for name in ["one", "linked"] {
        let said = image.shell(&format!("ntfsinfo -v -f -F /{name} image"));
        assert!(said.contains("ATTRIBUTE_LIST"), "{name}: {said}");
    }
    compare(&image, "many");
    let files = image.open();
    for name in ["file number 10000 ΑΩ.txt", "FILE number 1 ΑΩ.txt", "file number 1 αω.txt", "", "zzz", "a"]
    {
        assert_eq!(files.lookup(at(&files, "many").unwrap(), name.as_ref()), Err(Fault::NotFound), "{name}");
    }
}

/// Compares what both show of an image.
fn compare(image: &Image, what: &str) {
    let mounted = image.mount("ro,noatime");
    let mut wanted = Tree::new();
    read_mounted(&mounted.0, OsStr::new(""), &mut wanted);
    drop(mounted);
    let files = image.open();
    let mut found = Tree::new();
    read_ours(&files, NodeId::ROOT, OsStr::new(""), &mut found);
    for (path, wanted) in &wanted {
        let Some(found) = found.get(path) else { panic!("{what}: {} is missing", path.display()) };
        if found != wanted {
            let at = wanted.content.iter().zip(&found.content).position(|(one, other)| one != other);
            let brief =
                |it: &Shown| format!("{:?} {} {} {:?}", it.kind, it.content.len(), it.links, it.modified);
            panic!("{what}: {} is {} instead of {}, at {at:?}", path.display(), brief(found), brief(wanted));
        }
    }
    for path in found.keys() {
        assert!(wanted.contains_key(path), "{what}: {} is too much", path.display());
    }
    assert!(wanted.len() > 200, "{what}: only {} files", wanted.len());
}

fn joined(folder: &OsStr, name: &OsStr) -> OsString {
    let mut path = folder.to_owned();
    path.push("/");
    path.push(name);
    path
}

fn read_mounted(folder: &Path, path: &OsStr, tree: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (place, path) = (entry.path(), joined(path, &entry.file_name()));
        let about = fs::symlink_metadata(&place).unwrap();
        let (kind, content) = if about.is_dir() {
            (Kind::Directory, Vec::new())
        } else if about.is_symlink() {
            (Kind::Link, fs::read_link(&place).unwrap().as_os_str().as_bytes().to_vec())
        } else {
            (Kind::File, fs::read(&place).unwrap())
        };
        let links = if kind == Kind::Directory { 0 } else { about.nlink() };
        tree.insert(path.clone(), Shown { kind, content, links, modified: about.modified().unwrap() });
        if kind == Kind::Directory {
            read_mounted(&place, &path, tree);
        }
    }
}

fn read_ours(files: &NtfsFileSystem, folder: NodeId, path: &OsStr, tree: &mut Tree) {
    // The listing is broken off and taken up again, at another place each time.
    let (mut entries, mut cursor, mut step) = (Vec::new(), 0, 1);
    loop {
        let before = entries.len();
        files
            .list(folder, cursor, &mut |listed| {
                entries.push((listed.name.to_owned(), listed.node, listed.kind));
                cursor = listed.next;
                entries.len() - before < step
            })
            .unwrap();
        if entries.len() == before {
            break;
        }
        step = step % 97 + 3;
    }
    for (name, node, kind) in entries {
        let path = joined(path, &name);
        let found = files.lookup(folder, &name).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        let about = found.attributes;
        assert_eq!((about.node, about.kind, found.is_exact), (node, kind, true), "{}", path.display());
        assert_eq!(files.attributes(node).unwrap(), about);
        let content = match kind {
            Kind::Directory => Vec::new(),
            Kind::Link => files.target(node).unwrap(),
            _ => read_in_parts(files, node, about.size, &path),
        };
        let links = if kind == Kind::Directory { 0 } else { about.links.into() };
        tree.insert(path.clone(), Shown { kind, content, links, modified: about.modified });
        if kind == Kind::Directory {
            read_ours(files, node, &path, tree);
        }
    }
}

/// Reads a file in parts of changing length, and once more across one of their borders.
fn read_in_parts(files: &NtfsFileSystem, node: NodeId, size: u64, path: &OsStr) -> Vec<u8> {
    let (mut content, mut len) = (Vec::new(), 777);
    loop {
        let mut part = vec![0xee; len];
        let count = files
            .read(node, content.len() as u64, &mut part)
            .unwrap_or_else(|fault| panic!("{}: {fault} at {}", path.display(), content.len()));
        content.extend(&part[..count]);
        if count < len {
            break;
        }
        len = len * 3 % 300_007 + 1;
    }
    assert_eq!(content.len() as u64, size, "{}", path.display());
    let middle = content.len() / 2;
    let mut part = vec![0xee; 5000.min(content.len() - middle)];
    assert_eq!(files.read(node, middle as u64, &mut part), Ok(part.len()));
    assert!(content[middle..].starts_with(&part), "{}", path.display());
    content
}

/// Writes a tree that has something of everything.
struct Writer {
    root: PathBuf,
    random: Random,
}

impl Writer {
    fn write(&mut self) {
        let mut folders = vec![self.root.clone()];
        for number in 0..12 {
            let parent = folders[self.random.below(folders.len() as u64) as usize].clone();
            let folder =
                parent.join(format!("{} {number}", ["folder", "Ordner", "フォルダ", "📁"][number % 4]));
            fs::create_dir(&folder).unwrap();
            if number % 3 == 0 {
                // What is made in it from now on is compressed, where clusters are small enough.
                set(&folder, "ntfs_attrib", &0x800_u32.to_le_bytes());
            }
            folders.push(folder);
        }
        let mut files = Vec::new();
        for number in 0..220 {
            let folder = &folders[self.random.below(folders.len() as u64) as usize];
            let name = match number % 20 {
                0 => format!("{number}{}", "é".repeat(200)),
                1 => format!("{number} {}", "x".repeat(250)),
                2 => format!("{number} 😀 \\ : ? * | \" < >"),
                3 => format!("{number} trailing. "),
                _ => format!("file {number}.bin"),
            };
            let path = folder.join(name);
            let content = self.content();
            fs::write(&path, content).unwrap();
            files.push(path);
        }
        for _ in 0..150 {
            let path = files[self.random.below(files.len() as u64) as usize].clone();
            self.change(&path);
        }
        for (number, folder) in folders.iter().enumerate() {
            symlink(format!("../target {number} ä"), folder.join("link")).unwrap();
            fs::hard_link(&files[number * 3], folder.join("one more name")).unwrap();
            fs::rename(&files[100 + number], folder.join("moved")).unwrap();
            fs::remove_file(&files[150 + number]).unwrap();
        }
    }

    /// From the least that does not lie in its record to some hundred clusters; some that packs well, some not.
    fn content(&mut self) -> Vec<u8> {
        let most = [1, 700, 1100, 5000, 70_000, 400_000][self.random.below(6) as usize];
        let len = self.random.below(most) as usize;
        self.bytes(len)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 3000);
        while bytes.len() < len {
            let count = self.random.below(3000) as usize;
            match self.random.below(4) {
                0 => bytes.resize(bytes.len() + count * 8, 0),
                1 => bytes.extend(b"the same words again and again, ".iter().cycle().take(count * 4)),
                2 => bytes.extend((0..count).map(|_| b'a' + self.random.below(4) as u8)),
                _ => bytes.extend((0..count).map(|_| self.random.below(256) as u8)),
            }
        }
        bytes.truncate(len);
        bytes
    }

    /// Overwrites, lengthens with a hole, or cuts off.
    fn change(&mut self, path: &Path) {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let len = self.random.below(60_000) as usize;
        let size = file.metadata().unwrap().len();
        match self.random.below(4) {
            0 => file.set_len(self.random.below(size + 1)).unwrap(),
            1 => file.set_len(size + self.random.below(300_000)).unwrap(),
            2 => file.write_all_at(&self.bytes(len), self.random.below(size + 1)).unwrap(),
            _ => file.write_all_at(&self.bytes(len), size + self.random.below(200_000)).unwrap(),
        }
    }
}
