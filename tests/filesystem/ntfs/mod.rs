//! NTFS: what ntfs-3g wrote is read as it reads it, with clusters of each size; what it cannot show; and damage.

mod damage;
mod tree;

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use rustix::{
    fs::{XattrFlags, setxattr},
    process::geteuid,
};
use strongroom::{
    block::ByteDevice,
    filesystem::{Fault, FileSystem, Kind, NodeId, NtfsFileSystem, Seek},
};
use tempfile::TempDir;

use crate::{Random, disk::Disk};

/// An image, and a place to mount it on.
struct Image {
    folder: TempDir,
}

/// A mount that goes with it, and who serves it.
struct Mounted(PathBuf, Child);

impl Image {
    fn new(size: u64, options: &str) -> Self {
        let image = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(image.path("m")).unwrap();
        fs::File::create(image.path("image")).unwrap().set_len(size).unwrap();
        image.shell(&format!("mkfs.ntfs -q -F -Q {options} image"));
        image
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shell(&self, script: &str) -> String {
        let path = format!("PATH=$PATH:/sbin:/usr/sbin; set -e; {script}");
        let output = Command::new("sh").args(["-c", &path]).current_dir(&self.folder).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Has ntfs-3g mount it, for as long as the answer lives.
    fn mount(&self, options: &str) -> Mounted {
        let (image, place) = (self.path("image"), self.path("m"));
        let options = format!("no_detach,{options}");
        let mut server = Command::new("ntfs-3g")
            .arg("-o")
            .arg(options)
            .args([&image, &place])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let device = |path: &Path| fs::metadata(path).map(|about| about.dev()).ok();
        let outside = device(self.folder.path());
        while device(&place) == outside {
            assert_eq!(server.try_wait().unwrap(), None, "ntfs-3g ended");
            sleep(Duration::from_millis(5));
        }
        Mounted(place, server)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path("image")).unwrap()
    }

    fn open(&self) -> NtfsFileSystem {
        open(self.bytes()).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
        // It writes the last of it when the kernel has let go.
        let _ = self.1.wait();
    }
}

fn device(image: Vec<u8>) -> Arc<ByteDevice> {
    Disk::new(image).device()
}

fn open(image: Vec<u8>) -> Result<NtfsFileSystem, Fault> {
    NtfsFileSystem::open(&device(image), false)
}

/// Whether ntfs-3g judges here.
fn can_judge() -> bool {
    let has = |name: &str| {
        ["/bin", "/sbin", "/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(name).exists())
    };
    let missing = if !geteuid().is_root() {
        "only root mounts with ntfs-3g"
    } else if !Path::new("/dev/fuse").exists() {
        "there is no /dev/fuse"
    } else if !has("mkfs.ntfs") || !has("ntfs-3g") {
        "ntfs-3g is not installed"
    } else {
        return true;
    };
    assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "{missing}");
    println!("skipped: {missing}");
    false
}

/// The node at a path.
fn at(files: &dyn FileSystem, path: &str) -> Result<NodeId, Fault> {
    path.split('/').filter(|name| !name.is_empty()).try_fold(NodeId::ROOT, |folder, name| {
        files.lookup(folder, name.as_ref()).map(|found| found.attributes.node)
    })
}

/// All of a file.
fn content(files: &dyn FileSystem, path: &str) -> Result<Vec<u8>, Fault> {
    let node = at(files, path)?;
    let mut bytes = vec![0xee; files.attributes(node)?.size as usize + 1];
    let len = files.read(node, 0, &mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

fn names(files: &dyn FileSystem, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    files
        .list(at(files, path).unwrap(), 0, &mut |listed| {
            names.push(listed.name.to_string_lossy().into_owned());
            true
        })
        .unwrap();
    names.sort();
    names
}

fn set(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, format!("system.{name}"), value, XattrFlags::empty())
        .unwrap_or_else(|errno| panic!("{} {name}: {errno}", path.display()));
}

/// Makes a file a reparse point.
fn set_reparse_point(path: &Path, tag: u32, data: &[u8]) {
    let len = u16::try_from(data.len()).unwrap();
    let value = [&tag.to_le_bytes()[..], &len.to_le_bytes(), &[0; 2], data].concat();
    set(path, "ntfs_reparse_data", &value);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A symbolic link of Windows, or a junction, which has no flags.
fn link_data(target: &str, flags: Option<u32>) -> Vec<u8> {
    let name = utf16(target);
    let len = u16::try_from(name.len()).unwrap();
    let ends = [0, len, len + 2, 0].map(u16::to_le_bytes).concat();
    let flags = flags.map_or(Vec::new(), |flags| flags.to_le_bytes().into());
    [ends, flags, name, vec![0; 4]].concat()
}

const SYMLINK: u32 = 0xa000_000c;
const JUNCTION: u32 = 0xa000_0003;

#[test]
fn links_of_windows_show_as_relative_ones_that_stay_in_the_volume() {
    if !can_judge() {
        return;
    }
    let image = Image::new(8 << 20, "-c 4096");
    let mounted = image.mount("noatime");
    let m = &mounted.0;
    fs::create_dir_all(m.join("Users/Ada/Deep")).unwrap();
    fs::write(m.join("Users/Ada/File"), "ada").unwrap();
    let links: &[(&str, u32, &str, Option<u32>, &str)] = &[
        ("beside", SYMLINK, r"Users\Ada\File", Some(1), "Users/Ada/File"),
        ("Users/up", SYMLINK, r"..\Users\.\Ada", Some(1), "../Users/Ada"),
        ("Users/Ada/out", SYMLINK, r"..\..\..\..\etc\passwd", Some(1), "../../etc/passwd"),
        ("Users/Ada/back", SYMLINK, r"Deep\..\..\..\..\etc", Some(1), "../../etc"),
        ("Users/rooted", SYMLINK, r"\Users\Ada", Some(1), "../Users/Ada"),
        ("Users/Ada/drive", SYMLINK, r"\??\D:\users\ADA\file", Some(0), "../../Users/Ada/File"),
        ("Users/Ada/gone", SYMLINK, r"\??\D:\users\bert", Some(0), "D:/users/bert"),
        ("share", SYMLINK, r"\??\UNC\server\share\..\..\..\x", Some(0), "x"),
        ("nowhere", SYMLINK, r"\\server\share", Some(0), "server/share"),
        ("Users/junction", JUNCTION, r"\??\C:\Users\Ada", None, "../Users/Ada"),
        ("Users/itself", JUNCTION, r"\??\C:\", None, ".."),
        (
            "volume",
            JUNCTION,
            r"\??\Volume{01234567-89ab-cdef-0123-456789abcdef}\",
            None,
            "Volume{01234567-89ab-cdef-0123-456789abcdef}",
        ),
        // The target is a link itself, which nobody follows here.
        ("through", JUNCTION, r"\??\C:\Users\junction\Deep", None, "C:/Users/junction/Deep"),
    ];
    for (path, tag, target, flags, _) in links {
        if *tag == JUNCTION {
            fs::create_dir(m.join(path)).unwrap();
        } else {
            fs::write(m.join(path), "").unwrap();
        }
        set_reparse_point(&m.join(path), *tag, &link_data(target, *flags));
    }
    fs::write(m.join("linux"), "").unwrap();
    set_reparse_point(&m.join("linux"), 0xa000_001d, b"\x02\0\0\0Users/Ada");
    drop(mounted);
    let files = image.open();
    for (path, _, _, _, wanted) in links.iter().chain([&("linux", 0, "", None, "Users/Ada")]) {
        let node = at(&files, path).unwrap();
        let target = files.target(node).unwrap();
        assert_eq!(String::from_utf8_lossy(&target), *wanted, "{path}");
        let attributes = files.attributes(node).unwrap();
        assert_eq!((attributes.kind, attributes.size), (Kind::Link, wanted.len() as u64), "{path}");
        assert_eq!(files.read(node, 0, &mut [0; 8]), Err(Fault::Invalid), "{path}");
    }
    let mut kinds = Vec::new();
    files
        .list(at(&files, "Users").unwrap(), 0, &mut |listed| {
            kinds.push((listed.name.to_str().unwrap().to_owned(), listed.kind));
            true
        })
        .unwrap();
    kinds.sort_by(|one, other| one.0.cmp(&other.0));
    let wanted = [
        ("Ada", Kind::Directory),
        ("itself", Kind::Link),
        ("junction", Kind::Link),
        ("rooted", Kind::Link),
        ("up", Kind::Link),
    ];
    assert_eq!(kinds, wanted.map(|(name, kind)| (name.to_owned(), kind)));
}

#[test]
fn what_cannot_be_read_for_what_it_is_is_refused() {
    if !can_judge() {
        return;
    }
    let image = Image::new(8 << 20, "-c 4096");
    let mounted = image.mount("noatime");
    let m = &mounted.0;
    // Compressed by a filter, deduplicated, kept by a server, and a tag that nobody knows.
    let tags = [0x8000_0017, 0x8000_0013, 0x9000_601a, 0x8000_1234];
    for tag in tags {
        let path = m.join(format!("{tag:x}"));
        fs::write(&path, vec![7; 10_000]).unwrap();
        if tag == 0x9000_601a {
            set(&path, "ntfs_attrib", &0x40_1000_u32.to_le_bytes());
        }
        set_reparse_point(&path, tag, &[0; 32]);
    }
    fs::write(m.join("plain"), vec![7; 10_000]).unwrap();
    drop(mounted);
    let files = image.open();
    for tag in tags {
        let node = at(&files, &format!("{tag:x}")).unwrap();
        let attributes = files.attributes(node).unwrap();
        assert_eq!((attributes.kind, attributes.size), (Kind::File, 10_000), "{tag:x}");
        assert_eq!(files.read(node, 0, &mut [0; 8]), Err(Fault::Unsupported), "{tag:x}");
        assert_eq!(files.seek(node, 0, Seek::Data), Err(Fault::Unsupported), "{tag:x}");
    }
    assert_eq!(content(&files, "plain").unwrap(), vec![7; 10_000]);
    // Encrypted: its flag stands in the attribute.
    let mut bytes = image.bytes();
    let record = record_of(&bytes, &files, "plain");
    let data = attribute_in(&bytes, record, 0x80);
    bytes[data + 12..data + 14].copy_from_slice(&0x4000_u16.to_le_bytes());
    let files = open(bytes).unwrap();
    assert_eq!(content(&files, "plain"), Err(Fault::Unsupported));
}

/// Where a file's record stands in an image whose table of files lies in one piece.
fn record_of(bytes: &[u8], files: &NtfsFileSystem, path: &str) -> usize {
    let node = at(files, path).unwrap().0 as usize;
    let number = if node == 1 { 5 } else { node };
    table_of(bytes) + number * 1024
}

/// Where the table of files stands.
fn table_of(bytes: &[u8]) -> usize {
    let (sector, cluster) = (u16::from_le_bytes([bytes[11], bytes[12]]), bytes[13]);
    u64::from_le_bytes(bytes[48..56].try_into().unwrap()) as usize
        * usize::from(sector)
        * usize::from(cluster)
}

/// Where an attribute begins.
fn attribute_in(bytes: &[u8], record: usize, kind: u32) -> usize {
    let mut at = record + usize::from(u16::from_le_bytes([bytes[record + 20], bytes[record + 21]]));
    while bytes[at..at + 4] != kind.to_le_bytes() {
        at += u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    at
}

#[test]
fn second_names_streams_and_the_volumes_own_files_do_not_show() {
    if !can_judge() {
        return;
    }
    let image = Image::new(8 << 20, "-c 4096");
    let mounted = image.mount("noatime,streams_interface=windows");
    let m = &mounted.0;
    fs::create_dir(m.join("A folder with a long name")).unwrap();
    fs::write(m.join("A file with a long name.text"), "long").unwrap();
    set(&m.join("A folder with a long name"), "ntfs_dos_name", b"AFOLDE~1");
    set(&m.join("A file with a long name.text"), "ntfs_dos_name", b"AFILEW~1.TEX");
    fs::hard_link(m.join("A file with a long name.text"), m.join("other")).unwrap();
    fs::write(m.join("other:stream"), "hidden").unwrap();
    fs::write(m.join("case"), "lower").unwrap();
    fs::write(m.join("Case"), "title").unwrap();
    fs::write(m.join("read-only"), "").unwrap();
    set(&m.join("read-only"), "ntfs_attrib", &1_u32.to_le_bytes());
    drop(mounted);
    let files = image.open();
    let wanted =
        ["A file with a long name.text", "A folder with a long name", "Case", "case", "other", "read-only"];
    assert_eq!(names(&files, ""), wanted);
    for name in [
        "AFOLDE~1",
        "AFILEW~1.TEX",
        "$MFT",
        "$Extend",
        "$Bitmap",
        ".",
        "other:stream",
        "CASE",
        "a file with a long name.text",
    ] {
        assert_eq!(at(&files, name), Err(Fault::NotFound), "{name}");
    }
    assert_eq!(
        (content(&files, "case").unwrap(), content(&files, "Case").unwrap()),
        (b"lower".into(), b"title".into())
    );
    let file = files.attributes(at(&files, "other").unwrap()).unwrap();
    assert_eq!((file.links, file.size), (2, 4), "not counting the name for DOS");
    let is_marked = |name: &str| {
        let rights = files.attributes(at(&files, name).unwrap()).unwrap().rights;
        rights == strongroom::filesystem::Rights::Mark { read_only: true }
    };
    assert!(is_marked("read-only") && !is_marked("other"));
    for number in [0, 2, 3, 5, 6, 11, 15] {
        assert_eq!(files.attributes(NodeId(number)), Err(Fault::Stale), "{number}");
    }
    assert_eq!(files.lookup(NodeId::ROOT, "x".repeat(256).as_ref()), Err(Fault::NameTooLong));
}

/// Half of a pair of surrogates cannot be written by any program here, so the image is changed.
#[test]
fn names_that_are_no_text_are_shown_and_found() {
    if !can_judge() {
        return;
    }
    let image = Image::new(4 << 20, "-c 4096");
    let mounted = image.mount("noatime");
    fs::create_dir(mounted.0.join("d")).unwrap();
    fs::write(mounted.0.join("d/Xunique"), "found").unwrap();
    drop(mounted);
    let (mut bytes, before) = (image.bytes(), utf16("Xunique"));
    let places: Vec<_> =
        (0..bytes.len() - before.len()).filter(|at| bytes[*at..].starts_with(&before)).collect();
    assert!(places.len() >= 2, "{places:?}");
    for place in places {
        bytes[place..place + 2].copy_from_slice(&0xd83d_u16.to_le_bytes());
    }
    let files = open(bytes).unwrap();
    let folder = at(&files, "d").unwrap();
    let mut shown = Vec::new();
    files
        .list(folder, 0, &mut |listed| {
            shown.push(listed.name.to_owned());
            true
        })
        .unwrap();
    let [name] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!(name.as_encoded_bytes(), b"\xed\xa0\xbdunique");
    let found = files.lookup(folder, name).unwrap().attributes;
    let mut bytes = [0; 8];
    assert_eq!(files.read(found.node, 0, &mut bytes), Ok(5));
    assert_eq!(&bytes[..5], b"found");
}

#[test]
fn the_copy_stands_in_for_a_damaged_first_record_and_the_usual_case_for_its_table() {
    if !can_judge() {
        return;
    }
    let image = Image::new(16 << 20, "-c 4096");
    let mounted = image.mount("noatime");
    for number in 0..300 {
        fs::write(mounted.0.join(format!("Größe {number}")), number.to_string()).unwrap();
    }
    drop(mounted);
    let whole = image.bytes();
    let table = table_of(&whole);
    let check = |bytes: Vec<u8>| {
        let files = open(bytes).unwrap();
        assert_eq!(names(&files, "").len(), 300);
        assert_eq!(content(&files, "Größe 123").unwrap(), b"123");
    };
    for record in [0, 10] {
        for (place, byte) in [(0, b'X'), (24, 0xff), (510, 0x55)] {
            let mut bytes = whole.clone();
            bytes[table + record * 1024 + place] ^= byte;
            check(bytes);
        }
    }
    let mut bytes = whole;
    bytes[table] = 0;
    let mirror = u64::from_le_bytes(bytes[56..64].try_into().unwrap()) as usize * 4096;
    bytes[mirror] = 0;
    assert_eq!(open(bytes).unwrap_err(), Fault::Damaged);
}

#[test]
fn a_volume_that_windows_sleeps_on_is_told() {
    if !can_judge() {
        return;
    }
    let image = Image::new(4 << 20, "-c 4096");
    for (content, is_hibernated) in [(&b"wake"[..], false), (b"HIBRxxxx", true), (&[0; 9000], false)] {
        let mounted = image.mount("noatime,remove_hiberfile");
        fs::write(mounted.0.join("HiberFil.sys"), content).unwrap();
        drop(mounted);
        assert_eq!(image.open().is_hibernated(), is_hibernated, "{content:?}");
        fs::remove_file(image.mount("noatime,remove_hiberfile").0.join("HiberFil.sys")).ok();
    }
}

#[test]
fn space_and_holes_are_as_the_bitmap_and_the_runs_say() {
    if !can_judge() {
        return;
    }
    let image = Image::new(16 << 20, "-c 4096");
    let mounted = image.mount("noatime");
    let holed = fs::File::create(mounted.0.join("holed")).unwrap();
    holed.write_all_at(&[1; 8192], 0).unwrap();
    holed.write_all_at(&[2; 8192], 1 << 20).unwrap();
    holed.set_len(2 << 20).unwrap();
    drop(holed);
    symlink("holed", mounted.0.join("link")).unwrap();
    let space = rustix::fs::statvfs(&mounted.0).unwrap();
    drop(mounted);
    let files = image.open();
    let (found, usual) = (files.space(), 4096);
    assert_eq!((found.unit, found.total.abs_diff(space.f_blocks) <= 1), (usual, true));
    assert_eq!(found.free, space.f_bfree);
    let node = at(&files, "holed").unwrap();
    let seek = |offset, what| files.seek(node, offset, what);
    assert_eq!((seek(0, Seek::Data), seek(0, Seek::Hole)), (Ok(0), Ok(8192)));
    assert_eq!(seek(8192, Seek::Data), Ok(1 << 20));
    assert_eq!(seek(1 << 20, Seek::Hole), Ok((1 << 20) + 8192));
    assert_eq!(seek((1 << 20) + 8192, Seek::Data), Err(Fault::PastEnd));
    assert_eq!(seek(2 << 20, Seek::Hole), Err(Fault::PastEnd));
    assert!(files.attributes(node).unwrap().allocated < 100_000);
    assert_eq!(files.target(at(&files, "link").unwrap()).unwrap(), b"holed");
    assert_eq!(files.write(node, 0, b"x"), Err(Fault::ReadOnly));
}
