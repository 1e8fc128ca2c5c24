//! Trees of files: one with everything in it, made by the kernel; the same as the kernel and as our driver show it.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    ffi::{OsStr, OsString},
    fs::{self, File},
    hash::{Hash, Hasher},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{
    Advice, AtFlags, CWD, FallocateFlags, FileType, Mode, SeekFrom, StatxFlags, Timespec, Timestamps,
    XattrFlags, fadvise, fallocate, lgetxattr, llistxattr, lsetxattr, major, makedev, minor, mknodat, seek,
    statx, utimensat,
};
use strongroom::filesystem::{Changes, Existing, ExtFileSystem, FileSystem, Kind, New, NodeId, Rights, Seek};

use crate::Random;

/// What is known of a file, in one line that can be compared.
type Tree = BTreeMap<Vec<u8>, String>;

/// Bytes that a seed gives again.
fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.below(256) as u8).collect()
}

/// Fills a new file system with about everything that it can hold.
pub(super) fn fill(root: &Path, names: usize) {
    let mut random = Random(5);
    let at = |name: &str| root.join(name);
    for (name, len) in
        [("empty", 0), ("tiny", 5), ("sixty", 60), ("hundred", 100), ("one50", 150), ("big", 3_000_001)]
    {
        fs::write(at(name), bytes(&mut random, len)).unwrap();
    }
    holes(root, &mut random);
    for len in [1, 59, 60, 61, 1000, 2000, 4000] {
        // A link longer than a block is refused.
        let _refused = symlink("l".repeat(len), at(&format!("link {len}")));
    }
    symlink("\u{e9}/\u{f6}", root.join(OsStr::from_bytes(b"l\xff\xfe"))).unwrap();
    fs::create_dir(at("d")).unwrap();
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o2755)).unwrap();
    std::os::unix::fs::chown(at("d"), Some(100_000), Some(70_000)).unwrap();
    fs::hard_link(at("tiny"), at("d/hard")).unwrap();
    drop(UnixListener::bind(at("socket")));
    let devices = [
        (FileType::Fifo, 0, 0),
        (FileType::CharacterDevice, 5, 1),
        (FileType::CharacterDevice, 300, 70_000),
        (FileType::BlockDevice, 259, 0x12345),
    ];
    for (number, (kind, high, low)) in devices.into_iter().enumerate() {
        let (path, mode) = (at(&format!("device {number}")), Mode::from_raw_mode(0o640));
        mknodat(CWD, path, kind, mode, makedev(high, low)).unwrap();
    }
    attributes(root, &mut random);
    for (number, seconds) in
        [0, -1, -(1 << 31), 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 33) + 5, 1_234_567_890]
            .into_iter()
            .enumerate()
    {
        let path = at(&format!("d/time {number}"));
        fs::write(&path, number.to_string()).unwrap();
        let stamp = |nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: stamp(123_456_789), last_modification: stamp(999_999_999) };
        utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
    }
    fs::create_dir(at("many")).unwrap();
    let name = |number: usize| {
        format!("many/{number} {}{}", "\u{e4}\u{e9}".repeat(number % 7), "n".repeat(number * 7 % 150))
    };
    for number in 0..names {
        fs::write(at(&name(number)), if number % 3 == 0 { "x" } else { "" }).unwrap();
    }
    for number in (0..names).step_by(7) {
        fs::remove_file(at(&name(number))).unwrap();
    }
    fs::create_dir_all(at("1/2/3/4/5/6/7/8/9/10/11/12")).unwrap();
    for number in 0..60 {
        fs::write(at(&format!("{number:03}{}", "L".repeat(252))), "long").unwrap();
        let folder = at(&format!("s{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("f"), bytes(&mut random, number * 37)).unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(b"x\\y\"' \n\t\xff\xc3")), "odd").unwrap();
}

fn holes(root: &Path, random: &mut Random) {
    let file = File::create(root.join("holes")).unwrap();
    for number in 0..40 {
        let len = 1 + random.below(9000) as usize;
        file.write_all_at(&bytes(random, len), number * 70_000 + random.below(5000)).unwrap();
    }
    file.set_len(40 * 70_000 + 12_345).unwrap();
    File::create(root.join("far")).unwrap().write_all_at(b"far", 5 << 30).unwrap();
    let file = File::create(root.join("fragments")).unwrap();
    for number in (0..1500).step_by(2) {
        file.write_all_at(b"piece", number * 4096).unwrap();
        if number % 100 == 0 {
            file.sync_all().unwrap();
        }
    }
    // ext2 and ext3 have neither of these.
    let file = File::create(root.join("reserved")).unwrap();
    if fallocate(&file, FallocateFlags::empty(), 0, 500_000).is_ok() {
        file.write_all_at(b"written", 100_000).unwrap();
        fallocate(&file, FallocateFlags::KEEP_SIZE, 500_000, 300_000).unwrap();
    }
    let file = File::options().write(true).open(root.join("big")).unwrap();
    let punched = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let _unsupported = fallocate(file, punched, 1_000_000, 500_000);
}

fn attributes(root: &Path, random: &mut Random) {
    let set = |name: &str, attribute: &str, value: &[u8]| {
        lsetxattr(root.join(name), attribute, value, XattrFlags::empty())
    };
    for (number, name) in ["tiny", "d", "big", "empty", "sixty", "hundred"].into_iter().enumerate() {
        set(name, "user.comment", "c".repeat(number).as_bytes()).unwrap();
        set(name, "trusted.t", b"\0\x01\x02").unwrap();
        set(name, "security.s", b"s").unwrap();
        for more in 0..(number % 2 * 8) {
            set(name, &format!("user.k{more}"), &bytes(random, 60)).unwrap();
        }
    }
    for len in [3000, 20_000, 65_536] {
        // Only `ea_inode` has room for the last two.
        let _too_large = set("one50", &format!("user.large{len}"), &bytes(random, len));
    }
    let list = |entries: &[(u16, u16, u32)]| {
        let entry = |(tag, may, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [2_u32.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat()
    };
    let all = u32::MAX;
    let access = list(&[(1, 6, all), (2, 6, 1234), (4, 4, all), (8, 4, 77), (16, 7, all), (32, 4, all)]);
    set("tiny", "system.posix_acl_access", &access).unwrap();
    let default = list(&[(1, 7, all), (2, 7, 99), (4, 5, all), (16, 7, all), (32, 5, all)]);
    set("d", "system.posix_acl_default", &default).unwrap();
}

/// Changes a file system at random. Gives the files that it leaves open, without a name.
pub(super) fn stir(root: &Path, seed: u64, operations: usize) -> Vec<File> {
    let mut random = Random(seed);
    let (mut files, mut folders, mut held): (Vec<_>, _, _) =
        (Vec::new(), vec![root.to_path_buf()], Vec::new());
    for step in 0..operations {
        let folder = folders[random.below(folders.len() as u64) as usize].clone();
        let new = |kind: &str| folder.join(format!("{kind}{step}"));
        let chosen = (!files.is_empty()).then(|| random.below(files.len() as u64) as usize);
        match (random.below(14), chosen) {
            (0..4, _) => {
                // Blocks that begin as those of a journal do are written there with another beginning.
                let len = random.below(40_000) as usize;
                let marked = [&b"\xc0\x3b\x39\x98"[..], &bytes(&mut random, 1020)].concat();
                let content = if random.below(3) == 0 {
                    marked.repeat(1 + len / 4000)
                } else {
                    bytes(&mut random, len)
                };
                fs::write(new("f"), content).unwrap();
                files.push(new("f"));
            }
            (4, _) => {
                fs::create_dir(new("d")).unwrap();
                folders.push(new("d"));
            }
            (5, Some(at)) => fs::remove_file(files.swap_remove(at)).unwrap(),
            (6, Some(at)) => {
                fs::rename(&files[at], new("r")).unwrap();
                files[at] = new("r");
            }
            (7, Some(at)) => {
                let file = File::options().write(true).open(&files[at]).unwrap();
                file.set_len(random.below(60_000)).unwrap();
            }
            (8, Some(at)) => {
                let (name, len) = (format!("user.x{}", random.below(5)), random.below(300) as usize);
                let _no_room = lsetxattr(&files[at], name, &bytes(&mut random, len), XattrFlags::empty());
            }
            (9, _) if folders.len() > 3 => {
                let gone = folders.pop().unwrap();
                fs::remove_dir_all(&gone).unwrap();
                files.retain(|file| !file.starts_with(&gone));
                folders.retain(|folder| !folder.starts_with(&gone));
            }
            (10, Some(at)) => {
                held.push(File::open(&files[at]).unwrap());
                fs::remove_file(files.swap_remove(at)).unwrap();
            }
            (11, Some(at)) => {
                fs::hard_link(&files[at], new("l")).unwrap();
                files.push(new("l"));
            }
            (12, _) => symlink("t".repeat(1 + random.below(200) as usize), new("s")).unwrap(),
            (13, Some(at)) if random.below(3) == 0 => File::open(&files[at]).unwrap().sync_all().unwrap(),
            _ => {}
        }
    }
    held
}

/// The kernel and our driver show the same, to the last nanosecond.
pub(super) fn assert_same(files: &ExtFileSystem, mounted: &Path, what: &str) {
    let (ours, theirs) = (by_us(files), by_the_kernel(mounted));
    for path in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        assert_eq!(ours.get(path), theirs.get(path), "{what}: {}", String::from_utf8_lossy(path));
    }
    assert!(ours.len() > 1, "{what}");
    let (space, told) = (files.space(), rustix::fs::statvfs(mounted).unwrap());
    assert_eq!(u64::from(space.unit), told.f_bsize, "{what}");
    assert_eq!((space.total, space.nodes), (told.f_blocks, told.f_files), "{what}");
}

fn by_us(files: &ExtFileSystem) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![(Vec::new(), NodeId::ROOT)];
    while let Some((path, node)) = folders.pop() {
        let found = files.attributes(node).unwrap();
        let Rights::Posix { mode, uid, gid } = found.rights else { panic!("it has owners") };
        let mut attributes = BTreeMap::new();
        for name in
            files.extended_names(node).unwrap().split(|byte| *byte == 0).filter(|name| !name.is_empty())
        {
            attributes.insert(name.to_vec(), files.extended(node, OsStr::from_bytes(name)).unwrap());
        }
        let content = match found.kind {
            Kind::Directory => {
                for (name, child) in listed(files, node) {
                    let looked_up = files
                        .lookup(node, &name)
                        .unwrap_or_else(|fault| panic!("{}: {fault}", name.display()));
                    assert_eq!(looked_up.attributes.node, child);
                    folders.push(([&path[..], b"/", name.as_bytes()].concat(), child));
                }
                files.lookup(node, OsStr::new("no such name")).unwrap_err();
                String::new()
            }
            Kind::File => {
                let seek = |at, what| files.seek(node, at, what).ok();
                let read = |at, buffer: &mut [u8]| files.read(node, at, buffer).unwrap();
                content(found.size, |at| seek(at, Seek::Data), |at| seek(at, Seek::Hole), read)
            }
            Kind::Link => OsStr::from_bytes(&files.target(node).unwrap()).display().to_string(),
            _ => found.device.to_string(),
        };
        let times = [found.modified, found.changed, found.accessed, found.created].map(nanoseconds);
        let numbers = (u32::from(mode), uid, gid, found.links, found.size, found.allocated / 512);
        tree.insert(path, line(found.kind, &numbers, times, &attributes, &content));
    }
    tree
}

fn listed(files: &ExtFileSystem, node: NodeId) -> Vec<(OsString, NodeId)> {
    let (mut names, mut cursor) = (Vec::new(), 0);
    loop {
        let (from, mut more) = (cursor, 0);
        let take = &mut |entry: &strongroom::filesystem::Listed<'_>| {
            names.push((entry.name.to_owned(), entry.node));
            (cursor, more) = (entry.next, more + 1);
            more < 17
        };
        files.list(node, from, take).unwrap();
        if more < 17 {
            return names;
        }
    }
}

fn by_the_kernel(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![(Vec::new(), root.to_path_buf())];
    while let Some((path, real)) = folders.pop() {
        let found = fs::symlink_metadata(&real).unwrap();
        let kind = kind(found.file_type());
        let mut names = vec![0; 1 << 16];
        let len = llistxattr(&real, &mut names[..]).unwrap();
        let mut attributes = BTreeMap::new();
        for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 1 << 16];
            let len = lgetxattr(&real, OsStr::from_bytes(name), &mut value[..]).unwrap();
            attributes.insert(name.to_vec(), value[..len].to_vec());
        }
        let content = match kind {
            Kind::Directory => {
                for entry in fs::read_dir(&real).unwrap().map(io::Result::unwrap) {
                    folders.push(([&path[..], b"/", entry.file_name().as_bytes()].concat(), entry.path()));
                }
                String::new()
            }
            Kind::File => {
                let file = File::open(&real).unwrap();
                // Under another name it may have been read: blocks that were reserved count as data then.
                fadvise(&file, 0, None, Advice::DontNeed).unwrap();
                let read = |at, buffer: &mut [u8]| file.read_at(buffer, at).unwrap();
                content(
                    found.size(),
                    |at| seek(&file, SeekFrom::Data(at)).ok(),
                    |at| seek(&file, SeekFrom::Hole(at)).ok(),
                    read,
                )
            }
            Kind::Link => fs::read_link(&real).unwrap().display().to_string(),
            _ => {
                let (high, low) = (major(found.rdev()), minor(found.rdev()));
                (low & 0xff | high << 8 | (low & !0xff) << 12).to_string()
            }
        };
        let created = statx(CWD, &real, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).unwrap().stx_btime;
        let time =
            |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let times = [
            time(found.mtime(), found.mtime_nsec()),
            time(found.ctime(), found.ctime_nsec()),
            time(found.atime(), found.atime_nsec()),
            time(created.tv_sec, created.tv_nsec.into()),
        ];
        let mode = found.mode() & 0o7777;
        let links = u32::try_from(found.nlink()).unwrap();
        let numbers = (mode, found.uid(), found.gid(), links, found.size(), found.blocks());
        tree.insert(path, line(kind, &numbers, times, &attributes, &content));
    }
    tree
}

fn line(
    kind: Kind,
    numbers: &(u32, u32, u32, u32, u64, u64),
    times: [i128; 4],
    attributes: &BTreeMap<Vec<u8>, Vec<u8>>,
    content: &str,
) -> String {
    let names: Vec<_> = attributes.keys().map(|name| String::from_utf8_lossy(name)).collect();
    format!("{kind:?} {numbers:?} {times:?} {names:?} {:x} {content}", hash(attributes))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Where a file has data, and what they are.
fn content(
    size: u64,
    data: impl Fn(u64) -> Option<u64>,
    hole: impl Fn(u64) -> Option<u64>,
    read: impl Fn(u64, &mut [u8]) -> usize,
) -> String {
    // Before anything is read: the kernel counts blocks that were reserved as data once it has them in memory.
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(start) = data(at) {
        at = hole(start).unwrap();
        parts.push((start, at));
    }
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 70_001];
    for &(start, end) in &parts {
        let mut place = start;
        while place < end.min(size) {
            let count = read(place, &mut buffer).min(usize::try_from(end - place).unwrap_or(usize::MAX));
            buffer[..count].hash(&mut hasher);
            place += count as u64;
        }
    }
    let mut last = vec![0xee; 5000];
    let count = read(size.saturating_sub(4097), &mut last);
    format!("{:x} {:x} {:x}", hash(&parts), hasher.finish(), hash(&(count, &last[..count])))
}

fn nanoseconds(time: SystemTime) -> i128 {
    let count = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap();
    time.duration_since(UNIX_EPOCH).map_or_else(|before| -count(before.duration()), count)
}

fn kind(kind: fs::FileType) -> Kind {
    match kind {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_file() => Kind::File,
        kind if kind.is_symlink() => Kind::Link,
        kind if kind.is_fifo() => Kind::Pipe,
        kind if kind.is_socket() => Kind::Socket,
        kind if kind.is_char_device() => Kind::CharacterDevice,
        _ => Kind::BlockDevice,
    }
}

/// Spoils an image in some places: all over it, in its first blocks, or in its superblock.
pub(super) fn damage(image: &mut [u8], random: &mut Random) {
    let len = image.len() as u64;
    let reach = [len, 1 << 16, 1 << 11, len / 8][random.below(4) as usize];
    for _ in 0..=random.below(40) {
        let at = random.below(reach - 16) as usize;
        match random.below(4) {
            0 => image[at] = random.below(256) as u8,
            1 => image[at] ^= 1 << random.below(8),
            2 => image[at..at + 4].fill(0xff),
            _ => {
                let from = random.below(len - 16) as usize;
                image.copy_within(from..from + 16, at);
            }
        }
    }
}

/// Walks as a user would: everything may fail.
pub(super) fn walk(files: &ExtFileSystem) {
    let mut folders = vec![(NodeId::ROOT, 0)];
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..3000 {
        let Some((node, depth)) = folders.pop() else { return };
        let Ok(found) = files.attributes(node) else { continue };
        for name in files.extended_names(node).unwrap_or_default().split(|byte| *byte == 0) {
            let _ = files.extended(node, OsStr::from_bytes(name));
        }
        let _ = (files.target(node), files.seek(node, 0, Seek::Data), files.seek(node, 0, Seek::Hole));
        for at in [0, found.size / 2, found.size.saturating_sub(70_000)] {
            let _ = files.read(node, at, &mut buffer);
        }
        let mut names = Vec::new();
        let _ = files.list(node, 0, &mut |entry| {
            names.push((entry.name.to_owned(), entry.node));
            names.len() < 500
        });
        for (name, child) in names {
            let _ = files.lookup(node, &name);
            if depth < 20 {
                folders.push((child, depth + 1));
            }
        }
    }
}

/// Changes as a user would: everything may fail.
pub(super) fn change(files: &ExtFileSystem, random: &mut Random) {
    let mut folders = vec![NodeId::ROOT];
    let mut known = vec![NodeId::ROOT];
    for _ in 0..40 {
        let folder = folders[random.below(folders.len() as u64) as usize];
        let mut names = Vec::new();
        let from = random.below(4) * (u64::MAX >> 3);
        let _ = files.list(folder, from, &mut |entry| {
            names.push(entry.name.to_owned());
            names.len() < 30
        });
        for name in &names {
            if let Ok(found) = files.lookup(folder, name) {
                known.push(found.attributes.node);
                if found.attributes.kind == Kind::Directory {
                    folders.push(found.attributes.node);
                }
            }
        }
        let node = known[random.below(known.len() as u64) as usize];
        let name = OsString::from(format!("new {}", random.below(20)));
        let old = names.get(random.below(30) as usize).unwrap_or(&name);
        let offset = random.below(1 << 20);
        let value = [7; 100];
        let _ = match random.below(12) {
            0 => files.make(folder, &name, &New::empty(Kind::File)).map(drop),
            1 => files.make(folder, &name, &New::empty(Kind::Directory)).map(drop),
            2 => files.remove(folder, old, Kind::File),
            3 => files.remove(folder, old, Kind::Directory),
            4 => files.rename((folder, old), (NodeId::ROOT, &name), true),
            5 => files.link(node, folder, &name).map(drop),
            6 => files.set_attributes(node, &Changes { size: Some(offset), ..Changes::default() }).map(drop),
            7 => files.clear(node, offset / 2..offset, false, false),
            8 => files.reserve(node, offset..offset + 30_000, true),
            9 => files.set_extended(node, OsStr::new("user.x"), Some(&value), Existing::Any),
            10 => files.sync(),
            _ => files.write(node, offset, &[1; 9000]),
        };
    }
    for node in known {
        files.forget(node, u64::MAX);
    }
    let _ = files.close();
}
