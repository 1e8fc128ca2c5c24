//! File systems of our own. FAT and exFAT: random operations against a model, power cuts at any write, and what both fsck programs say.
//!
//! `SEEDS`, `OPS`, `CUTS`, `SEED` and `KIND` in the environment ask for more, or for one that failed; `SECONDS` ends the runs of ext.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it skips, and fails where it cannot go on"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::unreadable_literal,
    clippy::too_many_lines,
    clippy::decimal_bitwise_operands,
    clippy::range_plus_one,
    reason = "small numbers out of a generator; one long walk through all operations"
)]

mod disk;
mod ext;
mod new;
mod ntfs;
use disk::{Disk, cut};
use std::{collections::BTreeMap, env, fs, ops::Range, process::Command};
use strongroom::filesystem::{Changes, FatFileSystem, Fault, FileSystem, Kind, New, NodeId};

/// Numbers that a seed gives again.
pub(crate) struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0;
        (x ^ (x >> 29)).wrapping_mul(0xbf58476d1ce4e5b9) >> 11
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
#[derive(Clone, PartialEq, Debug)]
enum Thing {
    File(Vec<u8>),
    Dir,
}
type Tree = BTreeMap<String, Thing>;

#[derive(Clone, Copy)]
struct Case {
    mkfs: &'static [&'static str],
    size: u64,
    fsck: &'static str,
}
const CASES: &[(&str, Case)] = &[
    ("fat12", Case { mkfs: &["mkfs.vfat", "-F", "12", "-s", "1"], size: 1 << 20, fsck: "fsck.vfat" }),
    ("fat12s8", Case { mkfs: &["mkfs.vfat", "-F", "12", "-s", "8"], size: 12 << 20, fsck: "fsck.vfat" }),
    ("fat16", Case { mkfs: &["mkfs.vfat", "-F", "16", "-s", "1"], size: 4 << 20, fsck: "fsck.vfat" }),
    ("fat16s8", Case { mkfs: &["mkfs.vfat", "-F", "16", "-s", "8"], size: 20 << 20, fsck: "fsck.vfat" }),
    ("fat32", Case { mkfs: &["mkfs.vfat", "-F", "32", "-s", "1"], size: 36 << 20, fsck: "fsck.vfat" }),
    ("fat32small", Case { mkfs: &["mkfs.vfat", "-F", "32", "-s", "2"], size: 3 << 20, fsck: "fsck.vfat" }),
    ("exfat", Case { mkfs: &["mkfs.exfat", "-c", "4K"], size: 16 << 20, fsck: "fsck.exfat" }),
    ("exfat1k", Case { mkfs: &["mkfs.exfat", "-c", "1K"], size: 8 << 20, fsck: "fsck.exfat" }),
    ("exfat32k", Case { mkfs: &["mkfs.exfat", "-c", "32K"], size: 24 << 20, fsck: "fsck.exfat" }),
    ("fat12full", Case { mkfs: &["mkfs.vfat", "-F", "12", "-s", "1"], size: 160 << 10, fsck: "fsck.vfat" }),
    ("exfatfull", Case { mkfs: &["mkfs.exfat", "-c", "4K", "-b", "4K"], size: 1 << 20, fsck: "fsck.exfat" }),
];
fn format(case: &Case) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(case.size).unwrap();
    let out = Command::new(case.mkfs[0]).args(&case.mkfs[1..]).arg(file.path()).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    fs::read(file.path()).unwrap()
}
/// What fsck says of an image: nothing to repair.
fn fsck(case: &Case, image: &[u8], what: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), image).unwrap();
    let out = Command::new(case.fsck).arg("-n").arg(file.path()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        let (_, kept) = file.keep().unwrap();
        panic!("{what}: {} says of {}: {said}", case.fsck, kept.display());
    }
}

/// Whether the programs that judge are installed.
fn can_judge() -> bool {
    let missing = ["mkfs.vfat", "mkfs.exfat"].into_iter().find(|name| {
        ["/sbin", "/usr/sbin"].iter().all(|folder| !std::path::Path::new(folder).join(name).exists())
    });
    let Some(missing) = missing else { return true };
    assert!(env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "{missing} is missing");
    println!("skipped: {missing} is not installed");
    false
}

fn resolve(f: &FatFileSystem, path: &str) -> Result<NodeId, Fault> {
    let mut at = NodeId::ROOT;
    for part in path.split('/').filter(|p| !p.is_empty()) {
        let found = f.lookup(at, part.as_ref());
        if at != NodeId::ROOT {
            f.forget(at, 1);
        }
        at = found?.attributes.node;
    }
    Ok(at)
}
fn done(f: &FatFileSystem, id: NodeId) {
    if id != NodeId::ROOT {
        f.forget(id, 1);
    }
}
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap()
}

fn read_tree(f: &FatFileSystem) -> Tree {
    let mut tree = Tree::new();
    let mut stack = vec![(String::new(), NodeId::ROOT)];
    while let Some((prefix, id)) = stack.pop() {
        let mut found = Vec::new();
        let mut cursor = 0;
        loop {
            let mut more = false;
            f.list(id, cursor, &mut |l| {
                if found.len() % 7 == 6 && !more {
                    cursor = l.next;
                    found.push((l.name.to_str().unwrap().to_owned(), l.kind));
                    more = true;
                    return false;
                }
                cursor = l.next;
                found.push((l.name.to_str().unwrap().to_owned(), l.kind));
                true
            })
            .unwrap();
            if !more {
                break;
            }
        }
        for (name, kind) in found {
            let p = format!("{prefix}/{name}");
            let child = f.lookup(id, name.as_ref()).unwrap_or_else(|e| panic!("{p}: {e}"));
            assert!(child.is_exact);
            let node = child.attributes.node;
            if kind == Kind::Directory {
                assert!(tree.insert(p.clone(), Thing::Dir).is_none());
                stack.push((p, node));
                continue;
            }
            let size = child.attributes.size;
            let mut content = vec![0xEE; size as usize + 3];
            let n = f.read(node, 0, &mut content).unwrap_or_else(|e| panic!("{p}: {e}"));
            content.truncate(n);
            assert_eq!(n as u64, size);
            assert!(tree.insert(p, Thing::File(content)).is_none());
            f.forget(node, 1);
        }
        done(f, id);
    }
    tree
}
fn compare(model: &Tree, real: &Tree, what: &str) {
    for (p, t) in model {
        match real.get(p) {
            None => panic!("{what}: {p} is missing"),
            Some(r) if r != t => {
                if let (Thing::File(a), Thing::File(b)) = (t, r) {
                    let at = a.iter().zip(b).position(|(x, y)| x != y);
                    panic!("{what}: {p} differs: {} {} at {at:?}", a.len(), b.len());
                }
                panic!("{what}: {p} is another kind")
            }
            _ => {}
        }
    }
    for p in real.keys() {
        assert!(model.contains_key(p), "{what}: {p} is too much");
    }
}
fn name(r: &mut Random) -> String {
    let n = r.below(24);
    match r.below(10) {
        0 => format!("FILE{n}.TXT"),
        1 => format!("lower{n}.c"),
        2 => format!("Ein längerer Name mit Ümläuten {n}.jpeg"),
        3 => format!("😀𝄞{n}"),
        4 => format!("{}{n:03}", "x".repeat(252)),
        5 => format!(".hidden{n}"),
        6 => format!("a b c.{n}.tar.gz"),
        7 => format!("日本{n}"),
        8 => format!("{}{n}.x", "long name ".repeat(n as usize % 10 + 1)),
        _ => format!("n{n}"),
    }
}
struct Sync {
    position: usize,
    tree: Tree,
    op: usize,
}
struct Touch {
    op: usize,
    path: String,
    replace: bool,
}
struct Run {
    f: FatFileSystem,
    model: Tree,
    disk: Disk,
    r: Random,
    dirs: Vec<String>,
    open: Vec<(NodeId, Vec<u8>)>,
    full: u64,
    ops: usize,
    syncs: Vec<Sync>,
    touched: Vec<Touch>,
    op_starts: Vec<usize>,
    trace: bool,
}

impl Run {
    fn new(image: Vec<u8>, seed: u64, logged: bool) -> Self {
        let disk = if logged { Disk::logged(image) } else { Disk::new(image) };
        let (f, repair) = FatFileSystem::open(&disk.device(), false).unwrap();
        assert!(repair.is_empty());
        let model = read_tree(&f);
        Run {
            syncs: vec![Sync { position: 0, tree: model.clone(), op: 0 }],
            f,
            model,
            disk,
            r: Random(seed.wrapping_mul(0x9e3779b97f4a7c15) | 1),
            dirs: vec![String::new()],
            open: vec![],
            full: 0,
            ops: 0,
            touched: vec![],
            op_starts: vec![],
            trace: env::var("TRACE").is_ok(),
        }
    }
    fn dir(&mut self) -> String {
        let i = self.r.below(self.dirs.len() as u64) as usize;
        self.dirs[i].clone()
    }
    fn any(&mut self) -> Option<String> {
        if self.model.is_empty() {
            return None;
        }
        let i = self.r.below(self.model.len() as u64) as usize;
        self.model.keys().nth(i).cloned()
    }
    fn file(&mut self) -> Option<String> {
        for _ in 0..8 {
            if let Some(p) = self.any()
                && matches!(self.model[&p], Thing::File(_))
            {
                return Some(p);
            }
        }
        None
    }
    fn touch(&mut self, path: &str, replace: bool) {
        self.touched.push(Touch { op: self.ops, path: path.to_owned(), replace });
    }
    fn step(&mut self) {
        self.op_starts.push(self.disk.position());
        let max = if self.disk.len() > 8 << 20 { 200_000 } else { 40_000 };
        match self.r.below(100) {
            0..22 => self.create(Kind::File),
            22..30 => self.create(Kind::Directory),
            30..52 => {
                let Some(p) = self.file() else { return };
                let size = {
                    let Thing::File(c) = &self.model[&p] else { return };
                    c.len() as u64
                };
                let offset = match self.r.below(4) {
                    0 => size,
                    1 => self.r.below(size + 1),
                    2 => self.r.below(max),
                    _ => 0,
                };
                let most = if self.r.below(4) == 0 { max / 2 } else { 6000 };
                let len = (1 + self.r.below(most)) as usize;
                let data: Vec<u8> = {
                    let s = self.r.next();
                    (0..len).map(|i| (s.wrapping_add(i as u64).wrapping_mul(0x9e37) >> 7) as u8).collect()
                };
                self.touch(&p, false);
                let id = resolve(&self.f, &p).unwrap();
                let got = self.f.write(id, offset, &data);
                done(&self.f, id);
                if self.trace {
                    println!("{} write {p} {offset} {len} {got:?}", self.ops);
                }
                match got {
                    Ok(()) => {
                        let Some(Thing::File(c)) = self.model.get_mut(&p) else { return };
                        let end = offset as usize + len;
                        if c.len() < end {
                            c.resize(end, 0);
                        }
                        c[offset as usize..end].copy_from_slice(&data);
                    }
                    Err(Fault::NoSpace) => self.full += 1,
                    other => panic!("write {p}: {other:?}"),
                }
            }
            52..60 => {
                let Some(p) = self.file() else { return };
                let size = self.r.below(max);
                let size = if self.r.below(3) == 0 { 0 } else { size };
                self.touch(&p, false);
                let id = resolve(&self.f, &p).unwrap();
                let got = self.f.set_attributes(id, &Changes { size: Some(size), ..Changes::default() });
                done(&self.f, id);
                if self.trace {
                    println!("{} truncate {p} {size} {:?}", self.ops, got.is_ok());
                }
                match got {
                    Ok(a) => {
                        assert_eq!(a.size, size);
                        let Some(Thing::File(c)) = self.model.get_mut(&p) else { return };
                        c.resize(size as usize, 0);
                    }
                    Err(Fault::NoSpace) => self.full += 1,
                    other => panic!("truncate: {other:?}"),
                }
            }
            60..72 => {
                let Some(p) = self.any() else { return };
                let kind = if self.model[&p] == Thing::Dir { Kind::Directory } else { Kind::File };
                let (d, n) = split(&p);
                self.touch(&p, false);
                let held = if kind == Kind::File && self.r.below(5) == 0 && self.open.len() < 5 {
                    let id = resolve(&self.f, &p).unwrap();
                    self.f.open(id).unwrap();
                    Some(id)
                } else {
                    None
                };
                let id = resolve(&self.f, d).unwrap();
                let got = self.f.remove(id, n.as_ref(), kind);
                done(&self.f, id);
                if self.trace {
                    println!("{} remove {p} {got:?}", self.ops);
                }
                let full = kind == Kind::Directory
                    && self
                        .model
                        .range(format!("{p}/")..)
                        .next()
                        .is_some_and(|(k, _)| k.starts_with(&format!("{p}/")));
                if full {
                    assert_eq!(got, Err(Fault::NotEmpty));
                    return;
                }
                got.unwrap();
                let gone = self.model.remove(&p).unwrap();
                if let (Some(id), Thing::File(c)) = (held, gone) {
                    self.open.push((id, c));
                }
                self.dirs.retain(|x| *x != p);
            }
            72..88 => self.rename(),
            88..93 => {
                self.f.sync().unwrap();
                if self.trace {
                    println!("{} sync at {}", self.ops, self.disk.position());
                }
                self.syncs.push(Sync {
                    position: self.disk.position(),
                    tree: self.model.clone(),
                    op: self.ops,
                });
            }
            93..97 => {
                if let Some((id, mut c)) = self.open.pop() {
                    if self.r.below(2) == 0 {
                        let data = vec![7; 3000];
                        if self.f.write(id, c.len() as u64, &data).is_ok() {
                            c.extend(data);
                        }
                    }
                    let mut got = vec![0; c.len() + 1];
                    let n = self.f.read(id, 0, &mut got).unwrap();
                    got.truncate(n);
                    assert_eq!(got, c, "open unlinked");
                    self.f.release(id);
                    self.f.forget(id, 1);
                }
            }
            _ => {
                let Some(p) = self.file() else { return };
                let id = resolve(&self.f, &p).unwrap();
                let Thing::File(c) = &self.model[&p] else { return };
                let offset = self.r.below(c.len() as u64 + 1) as usize;
                let mut got = vec![1; 5000];
                let n = self.f.read(id, offset as u64, &mut got).unwrap();
                assert_eq!(&got[..n], &c[offset..(offset + 5000).min(c.len())]);
                done(&self.f, id);
            }
        }
    }
    fn create(&mut self, kind: Kind) {
        let d = self.dir();
        if kind == Kind::Directory && d.matches('/').count() > 4 {
            return;
        }
        let n = name(&mut self.r);
        let p = format!("{d}/{n}");
        self.touch(&p, false);
        let id = resolve(&self.f, &d).unwrap();
        let got = self.f.make(id, n.as_ref(), &New::empty(kind));
        done(&self.f, id);
        if self.trace {
            println!("{} create {p} {:?} {:?}", self.ops, kind, got.is_ok());
        }
        match got {
            Ok(found) => {
                assert!(!self.model.contains_key(&p));
                self.f.forget(found.attributes.node, 1);
                if kind == Kind::Directory {
                    self.dirs.push(p.clone());
                    self.model.insert(p, Thing::Dir);
                } else {
                    self.model.insert(p, Thing::File(vec![]));
                }
            }
            Err(Fault::Exists) => assert!(self.model.contains_key(&p), "{p}"),
            Err(Fault::NoSpace) => self.full += 1,
            other => panic!("create {p}: {other:?}"),
        }
    }
    fn rename(&mut self) {
        let Some(from) = self.any() else { return };
        let to = if self.r.below(3) == 0 {
            let Some(t) = self.any() else { return };
            t
        } else {
            let d = self.dir();
            format!("{d}/{}", name(&mut self.r))
        };
        let replace = self.r.below(4) != 0;
        let exists = self.model.contains_key(&to);
        self.touch(&from, false);
        self.touch(&to, exists && replace && matches!(self.model[&from], Thing::File(_)));
        let ((fd, fname), (td, tname)) = (split(&from), split(&to));
        let (a, b) = (resolve(&self.f, fd).unwrap(), resolve(&self.f, td).unwrap());
        let got = self.f.rename((a, fname.as_ref()), (b, tname.as_ref()), replace);
        done(&self.f, a);
        done(&self.f, b);
        if self.trace {
            println!("{} rename {from} -> {to} {got:?}", self.ops);
        }
        let within = to.starts_with(&format!("{from}/"));
        let source = self.model[&from].clone();
        let want = if from == to {
            Ok(())
        } else if exists && !replace {
            Err(Fault::Exists)
        } else if let Some(t) = self.model.get(&to) {
            match (&source, t) {
                (Thing::Dir, Thing::File(_)) => Err(Fault::NotDirectory),
                (Thing::File(_), Thing::Dir) => Err(Fault::IsDirectory),
                (Thing::Dir, Thing::Dir) if self.model.keys().any(|k| k.starts_with(&format!("{to}/"))) => {
                    Err(Fault::NotEmpty)
                }
                (Thing::Dir, Thing::Dir) if within => Err(Fault::Invalid),
                _ => Ok(()),
            }
        } else if within {
            Err(Fault::Invalid)
        } else {
            Ok(())
        };
        if got == Err(Fault::NoSpace) {
            self.full += 1;
            return;
        }
        assert_eq!(got, want, "rename {from} {to}");
        if got.is_err() || from == to {
            return;
        }
        let moved: Vec<String> = self
            .model
            .keys()
            .filter(|k| **k == from || k.starts_with(&format!("{from}/")))
            .cloned()
            .collect();
        self.model.remove(&to);
        for k in moved {
            let t = self.model.remove(&k).unwrap();
            let new = format!("{to}{}", &k[from.len()..]);
            self.model.insert(new, t);
        }
        self.dirs.retain(|x| *x != to);
        for x in &mut self.dirs {
            if *x == from || x.starts_with(&format!("{from}/")) {
                *x = format!("{to}{}", &x[from.len()..]);
            }
        }
    }
    fn remount(&mut self) {
        for (id, _) in self.open.drain(..) {
            self.f.release(id);
            self.f.forget(id, 1);
        }
        self.f.close().unwrap();
        let (f, repair) = FatFileSystem::open(&self.disk.device(), false).unwrap();
        assert!(repair.is_empty());
        self.f = f;
        self.syncs.push(Sync { position: self.disk.position(), tree: self.model.clone(), op: self.ops });
    }
}
/// Writes noise where nothing lies.
fn fill_free_space(files: &dyn FileSystem, disk: &Disk, what: &str) {
    let (device, mut filled) = (disk.device(), 0);
    let fill = &mut |free: Range<u64>| {
        let len = usize::try_from(free.end - free.start).unwrap();
        device.write_at(&vec![0xa5; len], free.start).unwrap();
        filled += free.end - free.start;
        Ok(())
    };
    files.free_space(fill).unwrap();
    let space = files.space();
    assert_eq!(filled, space.free * u64::from(space.unit), "{what}");
}
fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}
fn cases() -> Vec<(&'static str, Case)> {
    let only = env::var("KIND").unwrap_or_default();
    CASES.iter().filter(|(n, _)| only.is_empty() || *n == only).copied().collect()
}

#[test]
fn random_operations_match_the_model() {
    if !can_judge() {
        return;
    }
    let (seeds, ops, first) = (number("SEEDS", 2), number("OPS", 600), number("SEED", 0));
    for (kind, case) in cases() {
        let blank = format(&case);
        let mut full = 0;
        for seed in first..first + seeds {
            let mut run = Run::new(blank.clone(), seed, false);
            for op in 0..ops {
                run.step();
                run.ops += 1;
                if op % 300 == 299 {
                    let what = format!("{kind} seed {seed} op {op}");
                    compare(&run.model, &read_tree(&run.f), &what);
                    if run.r.below(2) == 0 {
                        run.remount();
                        compare(&run.model, &read_tree(&run.f), &what);
                        fsck(
                            &case,
                            &{
                                run.f.close().unwrap();
                                run.disk.image()
                            },
                            &what,
                        );
                        run.remount();
                    }
                }
            }
            run.remount();
            let what = format!("{kind} seed {seed} end");
            fill_free_space(&run.f, &run.disk, &what);
            run.remount();
            compare(&run.model, &read_tree(&run.f), &what);
            run.f.close().unwrap();
            fsck(&case, &run.disk.image(), &format!("{kind} seed {seed}"));
            full += run.full;
        }
        println!("{kind}: {seeds} x {ops}, no space {full}");
    }
}
#[test]
fn power_cuts_lose_nothing_that_was_synced() {
    if !can_judge() {
        return;
    }
    let (seeds, ops, cuts, first) =
        (number("SEEDS", 1), number("OPS", 250), number("CUTS", 40), number("SEED", 0));
    for (kind, case) in cases() {
        let blank = format(&case);
        let mut repaired = 0;
        for seed in first..first + seeds {
            let mut run = Run::new(blank.clone(), seed + 1000, true);
            for _ in 0..ops {
                run.step();
                run.ops += 1;
                if run.r.below(200) == 0 {
                    run.remount();
                }
            }
            let log = run.disk.log();
            let mut r = Random(seed | 99);
            for c in 0..cuts {
                let (at, reorder) = (r.below(log.len() as u64 + 1) as usize, c % 2 == 1);
                let what = format!("{kind} seed {seed} cut {at} reorder {reorder}");
                let image = cut(&blank, &log, at, reorder.then_some(&mut r));
                let disk = Disk::new(image);
                let (f, repair) =
                    FatFileSystem::open(&disk.device(), false).unwrap_or_else(|e| panic!("{what}: {e}"));
                repaired += u64::from(!repair.is_empty());
                let tree = read_tree(&f);
                let sync = run.syncs.iter().rev().find(|s| s.position <= at).unwrap();
                // The operation in flight at `at`.
                let op = run.op_starts.partition_point(|p| *p <= at);
                let touched: Vec<&Touch> =
                    run.touched.iter().filter(|t| t.op >= sync.op && t.op <= op).collect();
                for (p, t) in &sync.tree {
                    let hit: Vec<&&Touch> = touched
                        .iter()
                        .filter(|t| t.path == *p || p.starts_with(&format!("{}/", t.path)))
                        .collect();
                    if hit.is_empty() {
                        assert_eq!(tree.get(p), Some(t), "{what}: {p}");
                    } else if hit.iter().all(|t| t.replace && t.path == *p) {
                        assert!(tree.contains_key(p), "{what}: {p} was replaced, and is gone");
                    }
                }
                f.close().unwrap();
                fsck(&case, &disk.image(), &format!("{what} after {repair:?}"));
            }
        }
        println!("{kind}: {} cuts, {repaired} repaired", seeds * cuts);
    }
}

#[test]
fn after_a_failed_write_nothing_is_written() {
    if !can_judge() {
        return;
    }
    for (kind, case) in cases() {
        let disk = Disk::new(format(&case));
        let (files, _) = FatFileSystem::open(&disk.device(), false).unwrap();
        let made =
            files.make(NodeId::ROOT, "kept".as_ref(), &New::empty(Kind::File)).unwrap().attributes.node;
        files.write(made, 0, &[7; 5000]).unwrap();
        files.sync().unwrap();
        disk.fail_after(0);
        assert_eq!(files.write(made, 0, &[8; 5000]), Err(Fault::Io), "{kind}");
        disk.fail_after(1 << 40);
        let before = disk.image();
        assert_eq!(
            files.make(NodeId::ROOT, "late".as_ref(), &New::empty(Kind::File)),
            Err(Fault::Io),
            "{kind}"
        );
        assert_eq!((files.sync(), files.close()), (Err(Fault::Io), Err(Fault::Io)), "{kind}");
        assert!(disk.image() == before, "{kind}");
    }
}

#[test]
fn hostile_bytes_end_every_walk() {
    if !can_judge() {
        return;
    }
    for (kind, case) in cases().into_iter().filter(|(_, case)| case.size <= 8 << 20) {
        let mut run = Run::new(format(&case), 5, false);
        for _ in 0..150 {
            run.step();
            run.ops += 1;
        }
        run.f.sync().unwrap();
        let image = run.disk.image();
        let mut random = Random(77);
        for round in 0..number("ROUNDS", 60) {
            let mut bytes = image.clone();
            // Metadata lies at the beginning.
            let end = u64::try_from(bytes.len()).unwrap().min(if round % 2 == 0 { 1 << 16 } else { 1 << 30 });
            for _ in 0..1 + random.below(200) {
                let at = usize::try_from(random.below(end)).unwrap();
                bytes[at] = u8::try_from(random.below(256)).unwrap();
            }
            let disk = Disk::new(bytes);
            let started = std::time::Instant::now();
            for read_only in [true, false] {
                let Ok((files, _)) = FatFileSystem::open(&disk.device(), read_only) else { continue };
                walk(&files);
                if let Ok(found) = files.make(NodeId::ROOT, "new".as_ref(), &New::empty(Kind::File)) {
                    let _may_be_refused = files.write(found.attributes.node, 3000, &[1; 3000]);
                }
                let _may_be_refused = files.close();
            }
            assert!(started.elapsed().as_secs() < 20, "{kind} round {round}");
        }
    }
}

/// Reads all that can be read, a few thousand files at most.
fn walk(files: &FatFileSystem) {
    let mut stack = vec![(NodeId::ROOT, 0)];
    let mut left = 2000;
    while let Some((id, depth)) = stack.pop() {
        let mut names = Vec::new();
        let _damaged = files.list(id, 0, &mut |listed| {
            names.push((listed.name.to_owned(), listed.kind));
            names.len() < 500
        });
        for (name, kind) in names {
            left -= 1;
            let Ok(found) = files.lookup(id, &name) else { continue };
            let node = found.attributes.node;
            match kind {
                Kind::Directory if depth < 12 && left > 0 => stack.push((node, depth + 1)),
                _ => {
                    let mut buffer = vec![0; 4096];
                    let _damaged = files.read(node, found.attributes.size / 2, &mut buffer);
                }
            }
        }
    }
}
