//! ISO 9660 and UDF: what genisoimage, xorriso and mkudffs made shows as it was in the folder that it was made of; and damage.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use strongroom::filesystem::{Fault, FileSystem, IsoFileSystem, Kind, NodeId, Rights, Seek, UdfFileSystem};
use tempfile::TempDir;

use crate::{Random, disk::Disk, look, worked};

/// A folder `tree`, and what is made of it.
struct Source(TempDir);

impl Source {
    fn new() -> Self {
        let source = Self(tempfile::tempdir().unwrap());
        let tree = source.tree();
        fs::create_dir_all(tree.join("a/b/c/d/e/f/g/h/i/j")).unwrap();
        fs::write(tree.join("a/b/c/d/e/f/g/h/i/j/deep.txt"), "deep").unwrap();
        let large: Vec<u8> = (0..3_000_001_u32).flat_map(u32::to_le_bytes).take(3_000_001).collect();
        fs::write(tree.join("large.bin"), large).unwrap();
        fs::write(tree.join("empty"), "").unwrap();
        fs::write(tree.join("Größe in €.txt"), "wide").unwrap();
        fs::create_dir(tree.join("many")).unwrap();
        for number in 0..700 {
            fs::write(tree.join(format!("many/a file with number {number}.txt")), number.to_string())
                .unwrap();
        }
        source
    }

    /// The same with what only POSIX has.
    fn of_posix() -> Self {
        let source = Self::new();
        let tree = source.tree();
        symlink("../large.bin", tree.join("many/link")).unwrap();
        symlink("/etc/../passwd/.", tree.join("absolute")).unwrap();
        fs::write(tree.join("n".repeat(240)), "long name").unwrap();
        fs::write(tree.join("beyond 😀"), "two units").unwrap();
        fs::write(tree.join("back\\slash;1."), "odd name").unwrap();
        fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(tree.join("large.bin"), fs::Permissions::from_mode(0o600)).unwrap();
        source.shell("mkfifo tree/pipe; touch -d 2001-02-03T04:05:06Z tree/empty; touch -d 1969-12-30T00:00:00Z tree/many");
        if rustix::process::geteuid().is_root() {
            source.shell("mknod tree/device c 5 44; chown 1234:5678 tree/large.bin");
        }
        source
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn shell(&self, script: &str) {
        let path = format!("PATH=$PATH:/sbin:/usr/sbin; set -e; {script}");
        let output = Command::new("sh").args(["-c", &path]).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    }

    /// What a command made of the tree in the file `image`.
    fn image(&self, command: &str) -> Vec<u8> {
        // A fresh Debian has no locale, and genisoimage takes names to be in that of its user.
        self.shell(&format!("LC_ALL=C.UTF-8; export LC_ALL; {command}"));
        fs::read(self.0.path().join("image")).unwrap()
    }
}

fn iso(image: Vec<u8>) -> Result<IsoFileSystem, Fault> {
    IsoFileSystem::open(&Disk::new(image).device())
}

fn udf(image: Vec<u8>) -> Result<UdfFileSystem, Fault> {
    UdfFileSystem::open(&Disk::new(image).device())
}

/// Whether the programs are here that make such images.
fn can_make() -> bool {
    let missing = ["genisoimage", "xorriso", "mkudffs"].into_iter().find(|name| {
        !["/bin", "/sbin", "/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(name).exists())
    });
    let Some(missing) = missing else { return true };
    assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "no {missing}");
    println!("skipped: {missing} is not installed");
    false
}

/// The names of a directory, with what they lead to.
fn names(files: &dyn FileSystem, folder: NodeId) -> BTreeMap<Vec<u8>, (NodeId, Kind)> {
    let (mut found, mut cursor) = (BTreeMap::new(), 0);
    loop {
        let mut taken = 0;
        files
            .list(folder, cursor, &mut |listed| {
                // As the kernel asks: some at a time.
                if taken == 7 {
                    return false;
                }
                taken += 1;
                cursor = listed.next;
                assert!(found.insert(listed.name.as_bytes().to_vec(), (listed.node, listed.kind)).is_none());
                true
            })
            .unwrap();
        if taken < 7 {
            return found;
        }
    }
}

fn content(files: &dyn FileSystem, node: NodeId, size: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; size as usize + 1];
    let len = files.read(node, 0, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

/// Compares a folder with what a volume shows of it. With `is_posix` also rights, owners and all kinds of files. Gives how many files
/// there were.
fn compare(files: &dyn FileSystem, folder: NodeId, there: &Path, is_posix: bool) -> usize {
    let mut shown = names(files, folder);
    // Where genisoimage puts directories that lie too deep; none of them shows there.
    if let Some((moved, _)) = shown.remove(&b"rr_moved"[..]) {
        assert!(names(files, moved).is_empty());
    }
    let expected: Vec<_> = {
        let mut names: Vec<_> =
            fs::read_dir(there).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        names
    };
    let shown_names: Vec<_> = shown.keys().map(Vec::as_slice).collect();
    assert_eq!(
        shown_names,
        expected.iter().map(|name| name.as_bytes()).collect::<Vec<_>>(),
        "{}",
        there.display()
    );
    let mut count = 0;
    for name in &expected {
        let path = there.join(name);
        let about = fs::symlink_metadata(&path).unwrap();
        let found = files.lookup(folder, name).unwrap().attributes;
        let (node, kind) = shown[name.as_bytes()];
        assert_eq!((found.node, found.kind), (node, kind), "{}", path.display());
        let at = path.display();
        count += 1;
        match kind {
            Kind::Directory => count += compare(files, node, &path, is_posix),
            Kind::Link => assert_eq!(
                files.target(node).unwrap(),
                fs::read_link(&path).unwrap().as_os_str().as_bytes(),
                "{at}"
            ),
            Kind::File => {
                assert_eq!(found.size, about.len(), "{at}");
                assert!(content(files, node, found.size) == fs::read(&path).unwrap(), "{at}");
                if found.size > 5000 {
                    let mut part = [0; 1000];
                    assert_eq!(files.read(node, 4000, &mut part).unwrap(), 1000);
                    assert!(part[..] == fs::read(&path).unwrap()[4000..5000], "{at}");
                }
            }
            Kind::Pipe => assert!(about.file_type().is_fifo(), "{at}"),
            Kind::CharacterDevice => {
                assert!(about.file_type().is_char_device() && found.device == 0x052c, "{at}: {found:?}");
            }
            other => panic!("{at}: {other:?}"),
        }
        if is_posix {
            let mode = (about.mode() & 0o7777) as u16;
            assert_eq!(found.rights, Rights::Posix { mode, uid: about.uid(), gid: about.gid() }, "{at}");
        }
        let distance = |time: std::time::SystemTime| {
            about.modified().unwrap().duration_since(time).unwrap_or_else(|error| error.duration())
        };
        assert!(distance(found.modified) < Duration::from_secs(2), "{at}: {:?}", found.modified);
    }
    count
}

#[test]
fn rock_ridge_shows_what_was_put_in() {
    if !can_make() {
        return;
    }
    let source = Source::of_posix();
    for command in [
        "genisoimage -quiet -R -J -joliet-long -o image tree",
        "genisoimage -quiet -R -o image tree",
        "xorriso -as mkisofs -quiet -R -J -joliet-long -o image tree",
        "xorriso -as mkisofs -quiet -R -D -o image tree",
    ] {
        let long = source.tree().join("long link");
        if command.starts_with("xorriso") && fs::symlink_metadata(&long).is_err() {
            // Of which genisoimage 1.1.11 makes what it cannot read itself.
            symlink(format!("{}/{}/../z", "x".repeat(200), "y".repeat(200)), long).unwrap();
        }
        let files = iso(source.image(&format!("{command} 2>/dev/null"))).unwrap();
        assert!(files.has_rock_ridge());
        let count = compare(&files, NodeId::ROOT, &source.tree(), true);
        assert!(count > 700, "{command}: {count}");
        assert!(files.space().total > 1000 && files.space().free == 0);
    }
}

#[test]
fn joliet_shows_names_in_unicode() {
    if !can_make() {
        return;
    }
    let source = Source::new();
    for command in [
        "genisoimage -quiet -J -joliet-long -D -o image tree",
        "xorriso -as mkisofs -quiet --norock -J -joliet-long -D -o image tree",
    ] {
        let files = iso(source.image(&format!("{command} 2>/dev/null"))).unwrap();
        assert!(compare(&files, NodeId::ROOT, &source.tree(), false) > 700, "{command}");
        let large = files.lookup(NodeId::ROOT, "large.bin".as_ref()).unwrap().attributes;
        assert_eq!(large.rights, Rights::Mark { read_only: true });
        assert_eq!(files.seek(large.node, 5, Seek::Hole).unwrap(), large.size);
        assert_eq!(files.lookup(NodeId::ROOT, "LARGE.BIN".as_ref()).unwrap_err(), Fault::NotFound);
        assert_eq!(files.write(large.node, 0, b"x").unwrap_err(), Fault::ReadOnly);
    }
}

#[test]
fn plain_names_are_small_and_have_no_version() {
    if !can_make() {
        return;
    }
    let source = Source(tempfile::tempdir().unwrap());
    fs::create_dir_all(source.tree().join("folder")).unwrap();
    for name in ["readme.txt", "noext", "folder/inner.bin"] {
        fs::write(source.tree().join(name), name).unwrap();
    }
    let files = iso(source.image("genisoimage -quiet -o image tree 2>/dev/null")).unwrap();
    assert_eq!(compare(&files, NodeId::ROOT, &source.tree(), false), 4);
}

#[test]
fn a_file_in_several_sections_is_one() {
    if !can_make() {
        return;
    }
    let source = Source(tempfile::tempdir().unwrap());
    fs::create_dir(source.tree()).unwrap();
    let (first, second) = (vec![1; 5000], vec![2; 7000]);
    fs::write(source.tree().join("aaa"), &first).unwrap();
    fs::write(source.tree().join("bbb"), &second).unwrap();
    let mut image = source.image("genisoimage -quiet -o image tree 2>/dev/null");
    let record = |image: &[u8], name: &[u8]| image.windows(6).position(|bytes| bytes == name).unwrap() - 33;
    let (one, other) = (record(&image, b"AAA.;1"), record(&image, b"BBB.;1"));
    // More is to come, under the same name.
    image[one + 25] |= 0x80;
    image[other + 33..][..6].copy_from_slice(b"AAA.;1");
    let files = iso(image).unwrap();
    assert_eq!(names(&files, NodeId::ROOT).len(), 1);
    let found = files.lookup(NodeId::ROOT, "aaa".as_ref()).unwrap().attributes;
    assert_eq!(found.size, 12_000);
    let mut bytes = [0; 2000];
    files.read(found.node, 4000, &mut bytes).unwrap();
    assert!(bytes[..1000] == first[..1000] && bytes[1000..] == second[..1000]);
}

#[test]
fn udf_shows_what_was_put_in() {
    if !can_make() {
        return;
    }
    let source = Source::new();
    let image = source.image("genisoimage -quiet -udf -R -J -joliet-long -o image tree 2>/dev/null");
    let device = Disk::new(image.clone()).device();
    assert!(UdfFileSystem::is_there(&device));
    let files = udf(image).unwrap();
    assert!(compare(&files, NodeId::ROOT, &source.tree(), false) > 700);
    let plain = source.image("genisoimage -quiet -R -o image tree 2>/dev/null");
    assert!(!UdfFileSystem::is_there(&Disk::new(plain).device()));
    assert_eq!(
        udf(source.image("rm image; truncate -s 40M image; mkudffs --media-type=cdr image >/dev/null"))
            .unwrap_err(),
        Fault::Unsupported
    );
}

#[test]
fn udf_opens_on_each_medium_that_mkudffs_makes() {
    if !can_make() {
        return;
    }
    let source = Source(tempfile::tempdir().unwrap());
    for (options, unit) in [
        ("-b 512 --media-type=hd", 512),
        ("-b 2048 --media-type=hd --udfrev=0x0102", 2048),
        ("-b 4096 --media-type=hd --udfrev=0x0201", 4096),
        ("--media-type=dvdram", 2048),
        ("--media-type=cdrw", 2048),
        ("--media-type=bdr", 2048),
    ] {
        let image =
            source.image(&format!("rm -f image; truncate -s 40M image; mkudffs {options} image >/dev/null"));
        match udf(image) {
            Ok(files) => {
                assert_eq!(files.space().unit, unit, "{options}");
                let found = names(&files, NodeId::ROOT);
                assert!(found.keys().all(|name| name == b"lost+found"), "{options}: {found:?}");
            }
            // Written session by session.
            Err(fault) => assert_eq!((fault, options), (Fault::Unsupported, "--media-type=bdr")),
        }
    }
}

#[test]
fn damage_is_refused_at_once_or_costs_the_file_that_has_it() {
    if !can_make() {
        return;
    }
    let source = Source(tempfile::tempdir().unwrap());
    fs::create_dir_all(source.tree().join("a/b/c/d/e/f/g/h/i")).unwrap();
    for number in 0..60 {
        fs::write(source.tree().join(format!("a/b/name of {number}")), vec![7; number * 100]).unwrap();
    }
    symlink("a/b/c/../d", source.tree().join("a/link")).unwrap();
    let rounds = crate::number("SEEDS", 400);
    for (command, open) in [
        (
            "genisoimage -quiet -R -J -o image tree",
            (|image| iso(image).map(|files| look(&files))) as fn(Vec<u8>) -> Result<usize, Fault>,
        ),
        ("genisoimage -quiet -udf -o image tree", |image| udf(image).map(|files| look(&files))),
    ] {
        let whole = source.image(&format!("{command} 2>/dev/null"));
        assert!(open(whole.clone()).unwrap() > 60);
        // What is not zeros is what somebody reads.
        let used: Vec<usize> = (0..whole.len() / 512)
            .filter(|at| whole[at * 512..][..512].iter().any(|byte| *byte != 0))
            .collect();
        let (mut opened, mut slowest) = (0, Duration::ZERO);
        for seed in 0..rounds {
            let (mut random, mut image) = (Random(seed), whole.clone());
            for _ in 0..=random.below(12) {
                let sector = used[random.below(used.len() as u64) as usize];
                let at = sector * 512 + random.below(512) as usize;
                image[at] = match random.below(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => image[at] ^ (1 << random.below(8)),
                    _ => random.below(256) as u8,
                };
            }
            let start = worked();
            let seen = open(image);
            slowest = slowest.max(worked().saturating_sub(start));
            match seen {
                Ok(_) => opened += 1,
                Err(fault) => {
                    assert!(matches!(fault, Fault::Damaged | Fault::Unsupported), "{seed}: {fault:?}");
                }
            }
        }
        assert!(opened > rounds / 4, "{command}: {opened}");
        assert!(slowest < Duration::from_secs(2), "{command}: {slowest:?}");
        for len in [0, 32_768, 40_000, whole.len() / 2] {
            let _refused_or_cut_off = open(whole[..len].to_vec());
        }
    }
}
