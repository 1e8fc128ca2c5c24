//! NTFS as `mkfs.ntfs` makes it, and as it may be besides.

use super::*;

/// An NTFS file system of `sectors` (all that fit, where none are named) with files of these sizes in it.
pub(super) fn made(len: usize, options: &[&str], sectors: &str, fill: &[usize]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), len);
    let name = path.to_str().unwrap();
    let arguments: Vec<&str> = ["-F", "-Q", "-q"]
        .into_iter()
        .chain(options.iter().copied())
        .chain([name])
        .chain((!sectors.is_empty()).then_some(sectors))
        .collect();
    if !run("mkfs.ntfs", &arguments) {
        return None;
    }
    for (number, len) in fill.iter().enumerate() {
        let source = folder.path().join(format!("file{number}"));
        fs::write(&source, vec![0xa5; *len]).unwrap();
        run("ntfscp", &["-f", "-q", name, source.to_str().unwrap(), &format!("file{number}")]);
    }
    Some(fs::read(&path).unwrap())
}

/// What `ntfscluster` prints.
fn ntfscluster(bytes: &[u8], arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("/usr/bin/ntfscluster").arg("-f").args(arguments).arg(&path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether `ntfscluster` knows a file in some clusters: it goes through all files, not through the bitmap.
fn is_in_use(bytes: &[u8], clusters: std::ops::Range<usize>) -> bool {
    let range = format!("{}-{}", clusters.start, clusters.end - 1);
    !ntfscluster(bytes, &["-c", &range]).contains("no inode found")
}

struct Numbers {
    cluster: usize,
    clusters: usize,
    table: usize,
    mirror: usize,
    record: usize,
}

impl Numbers {
    fn of(bytes: &[u8]) -> Self {
        let number = |at: usize, len: usize| {
            bytes[at..at + len].iter().rev().fold(0, |number, byte| (number << 8) | usize::from(*byte))
        };
        let per_cluster = match number(13, 1) {
            few @ 0..=0x80 => few,
            many => 1 << (0x100 - many),
        };
        let cluster = number(11, 2) * per_cluster;
        let record = match number(64, 1) {
            few @ 0..=0x80 => few * cluster,
            many => 1 << (0x100 - many),
        };
        let clusters = number(40, 8) / per_cluster;
        Self { cluster, clusters, table: number(48, 8) * cluster, mirror: number(56, 8), record }
    }
}

// proves: VC-HID-02
#[test]
fn the_tail_of_ntfs_starts_behind_the_last_cluster_in_use() {
    let cases: [(usize, &[&str]); 7] = [
        (12 * MIB, &["-c", "512"]),
        (20 * MIB, &["-c", "4096"]),
        (20 * MIB + 1536, &["-c", "8192"]),
        (40 * MIB, &["-c", "65536"]),
        (96 * MIB, &["-c", "1048576"]),
        (20 * MIB, &["-s", "2048", "-c", "4096"]),
        (20 * MIB, &["-s", "4096"]),
    ];
    for (len, options) in cases {
        for fill in [&[][..], &[MIB, 700, 3], &[len / 3, len / 4]] {
            let Some(bytes) = made(len, options, "", fill) else { return };
            let Numbers { cluster, clusters, mirror, .. } = Numbers::of(&bytes);
            let device = device(bytes.clone());
            let found = |limit: usize| {
                let found = free_tail(&device, u64::try_from(limit).unwrap()).unwrap();
                assert_eq!(found.file_system, FileSystem::Ntfs);
                usize::try_from(found.start).unwrap()
            };
            for limit in [len - 131_072, len / 2 - MIB, len / 3] {
                let (start, end) = (found(limit), limit.div_ceil(cluster).min(clusters));
                assert!(start == limit || start.is_multiple_of(cluster), "{options:?}: {start}");
                let first = start.div_ceil(cluster);
                assert!(
                    first >= end || !is_in_use(&bytes, first..end),
                    "{options:?} {fill:?}: {first}..{end}"
                );
                assert!(is_in_use(&bytes, first - 1..first), "{options:?} {fill:?}: {first}");
            }
            // The last sector has the copy of the first one.
            assert_eq!(found(len), len);
            // In the middle lies the copy of the first records.
            assert!(found(len - 131_072) > mirror * cluster, "{options:?}");
        }
    }
}

// proves: VC-HID-04
#[test]
fn a_copy_of_the_boot_sector_in_the_midst_of_the_volume_is_in_use() {
    let Some(bytes) = made(20 * MIB, &["-c", "4096"], "20480", &[]) else { return };
    let end = 20_480 * 512;
    assert_eq!(bytes[..512], bytes[end - 512..end], "the copy");
    assert_eq!(tail(&bytes, 1 << 40).unwrap().start, u64::try_from(end).unwrap());
    // At the volume's end, as usual, it is behind all that is asked for.
    let limit = u64::try_from(end - 4096).unwrap();
    let whole = tail(&bytes[..end], limit).unwrap();
    assert!(whole.start < limit, "{whole:?}");
}

/// Where a record's attribute of some type stands, its sectors' ends being as they lie there.
fn attribute(bytes: &[u8], record: u64, kind: u32) -> usize {
    let Numbers { table, record: len, .. } = Numbers::of(bytes);
    let start = table + usize::try_from(record).unwrap() * len;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut at = start + usize::from(bytes[start + 20]);
    while u32_at(at) != kind {
        assert!(u32_at(at) != u32::MAX, "no attribute {kind:#x} in {record}");
        at += usize::try_from(u32_at(at + 4)).unwrap();
    }
    at
}

// proves: VC-HID-02
#[test]
fn an_ntfs_that_was_not_left_clean_is_refused() {
    let Some(mut bytes) = made(8 * MIB, &["-c", "4096"], "", &[]) else { return };
    let information = attribute(&bytes, 3, 0x70);
    let information = information + usize::from(bytes[information + 20]);
    for (flag, word) in
        [(0x1_u16, "clean"), (0x2, "0x2"), (0x4000, "0x4000"), (0x8000, "0x8000"), (0x100, "0x100")]
    {
        bytes[information + 10..][..2].copy_from_slice(&flag.to_le_bytes());
        let error = tail(&bytes, 1 << 40).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.reason().contains(word), "{error}");
    }
    for flag in [0, 0x8, 0x10, 0x80_u16] {
        bytes[information + 10..][..2].copy_from_slice(&flag.to_le_bytes());
        tail(&bytes, 1 << 40).unwrap();
    }
    bytes[information + 8] = 1;
    assert!(tail(&bytes, 1 << 40).unwrap_err().reason().contains("NTFS 1.1"));
}

/// A restart page of the log; `users` is its list of those who have it open.
fn restart(position: u64, users: u16, flags: u16) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(b"RSTR");
    for (at, value) in [(4, 30), (6, 9), (16, 4096), (20, 4096), (24, 48), (26, 1), (28, 1_u16)] {
        page[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    page[48..56].copy_from_slice(&position.to_le_bytes());
    for (at, value) in [(56, 1), (58, 0xffff), (60, users), (62, flags)] {
        page[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    seal(&mut page, 30);
    page
}

/// Puts a number at the end of each 512 bytes, and what was there into the array at `offset`.
fn seal(structure: &mut [u8], offset: usize) {
    structure[offset..offset + 2].copy_from_slice(&[7, 0]);
    for piece in 0..structure.len() / 512 {
        let tail = piece * 512 + 510;
        structure.copy_within(tail..tail + 2, offset + 2 + piece * 2);
        structure[tail..tail + 2].copy_from_slice(&[7, 0]);
    }
}

// proves: VC-HID-02
#[test]
fn a_log_that_tells_of_what_was_not_done_is_refused() {
    let Some(mut bytes) = made(8 * MIB, &["-c", "4096"], "", &[]) else { return };
    let text = ntfscluster(&bytes, &["-I", "2"]);
    // Its first cluster stands behind a zero, in the line of its only run.
    let runs: Vec<Vec<usize>> = text
        .lines()
        .map(|line| line.split_whitespace().map_while(|word| word.parse().ok()).collect())
        .filter(|numbers: &Vec<usize>| numbers.len() == 3)
        .collect();
    let log = runs[0][1] * 4096;
    assert!(bytes[log..log + 8192].iter().all(|&byte| byte == 0xff), "{text}: an empty log");
    let torn = |mut page: Vec<u8>| {
        page[1022] ^= 1;
        page
    };
    let [closed, left, open] = [(0xffff, 0), (0, 2), (0, 0)];
    let page = |position, (users, flags)| restart(position, users, flags);
    let cases = [
        (page(9, closed), page(9, closed), true),
        (page(9, left), page(9, left), true),
        (page(9, open), page(9, open), false),
        (page(9, open), page(9, left), false),
        (page(9, left), page(9, open), false),
        (page(10, open), page(9, left), false),
        (page(9, open), page(10, left), true),
        (torn(page(10, open)), page(9, left), true),
        (torn(page(10, left)), page(9, open), false),
        (page(9, open), vec![0xff; 4096], false),
        (vec![0; 4096], vec![0; 4096], false),
        (vec![0xff; 4096], vec![0; 4096], false),
    ];
    for (number, (first, second, is_clean)) in cases.into_iter().enumerate() {
        bytes[log..][..4096].copy_from_slice(&first);
        bytes[log + 4096..][..4096].copy_from_slice(&second);
        match tail(&bytes, 1 << 40) {
            Ok(_) => assert!(is_clean, "case {number}"),
            Err(error) => {
                assert!(
                    !is_clean && error.reason().contains("not unmounted cleanly"),
                    "case {number}: {error}"
                );
            }
        }
    }
    // Windows 8 and later write version 2.0 while the volume is in use, and 1.1 again when it is left.
    for (state, is_clean) in [(open, false), (left, true)] {
        let mut page = page(9, state);
        (page[26], page[28]) = (0, 2);
        bytes[log..][..4096].copy_from_slice(&page);
        bytes[log + 4096..][..4096].copy_from_slice(&page);
        assert_eq!(tail(&bytes, 1 << 40).is_ok(), is_clean);
    }
    let mut newer = page(9, left);
    newer[28] = 3;
    bytes[log..][..4096].copy_from_slice(&newer);
    assert!(tail(&bytes, 1 << 40).unwrap_err().reason().contains("version 3.1"));
}

const CLUSTER: usize = 512;
const CLUSTERS: usize = 5000;

/// A small NTFS of clusters of 512 bytes, made by hand: the table from cluster 8 on, the log from 40 on.
#[derive(Clone)]
struct Small {
    bytes: Vec<u8>,
}

impl Small {
    /// With these attributes in the bitmap's record.
    fn new(bitmap: &[Vec<u8>]) -> Self {
        let mut bytes = vec![0; (CLUSTERS + 1) * CLUSTER];
        bytes[3..11].copy_from_slice(b"NTFS    ");
        (bytes[12], bytes[13], bytes[48], bytes[56], bytes[64]) = (2, 1, 8, 60, 0xf6);
        bytes[40..48].copy_from_slice(&u64::try_from(CLUSTERS).unwrap().to_le_bytes());
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let mut small = Self { bytes };
        small.record(0, &[outside(&[(16, 8)], 16 * CLUSTER)]);
        small.record(2, &[outside(&[(16, 40)], 16 * CLUSTER)]);
        small.record(3, &[inside(0x70, &[0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0])]);
        small.record(6, bitmap);
        small.bytes[40 * CLUSTER..56 * CLUSTER].fill(0xff);
        small
    }

    fn record(&mut self, number: usize, attributes: &[Vec<u8>]) {
        let mut raw = vec![0; 1024];
        raw[..4].copy_from_slice(b"FILE");
        (raw[4], raw[6], raw[20], raw[22], raw[29], raw[44]) = (48, 3, 56, 1, 4, number.try_into().unwrap());
        let body: Vec<u8> = attributes.iter().flatten().copied().chain([0xff; 4]).collect();
        raw[56..56 + body.len()].copy_from_slice(&body);
        raw[24..26].copy_from_slice(&u16::try_from(56 + body.len()).unwrap().to_le_bytes());
        seal(&mut raw, 48);
        self.bytes[8 * CLUSTER + number * 1024..][..1024].copy_from_slice(&raw);
    }

    /// The first cluster of the tail before a cluster.
    fn tail(&self, limit: usize) -> usize {
        let found = tail(&self.bytes, u64::try_from(limit * CLUSTER).unwrap()).unwrap().start;
        usize::try_from(found).unwrap().div_ceil(CLUSTER)
    }

    #[track_caller]
    fn refuses(&self, word: &str) {
        let error = tail(&self.bytes, u64::MAX).unwrap_err();
        assert!(error.reason().contains(word), "{word}: {error}");
    }
}

/// An attribute with its value in the record.
fn inside(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut raw = vec![0; (24 + value.len()).next_multiple_of(8)];
    let len = raw.len();
    (raw[0], raw[20]) = (kind, 24);
    put(&mut raw, 4, len);
    put(&mut raw, 16, value.len());
    raw[24..24 + value.len()].copy_from_slice(value);
    raw
}

/// The content in clusters: how many, and how far behind those before.
fn outside(runs: &[(u8, i8)], len: usize) -> Vec<u8> {
    let packed: Vec<u8> =
        runs.iter().flat_map(|&(len, step)| [0x11, len, step.to_le_bytes()[0]]).chain([0]).collect();
    let mut raw = vec![0; (64 + packed.len()).next_multiple_of(8)];
    let clusters: usize = runs.iter().map(|run| usize::from(run.0)).sum();
    let whole = raw.len();
    (raw[0], raw[8], raw[32]) = (0x80, 1, 64);
    for (at, value) in [(4, whole), (24, clusters - 1), (40, clusters * CLUSTER), (48, len), (56, len)] {
        put(&mut raw, at, value);
    }
    raw[64..64 + packed.len()].copy_from_slice(&packed);
    raw
}

fn put(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
}

/// A bitmap in which one cluster is in use.
fn bits(cluster: usize) -> Vec<u8> {
    let mut bits = vec![0; BITMAP_LEN];
    bits[cluster / 8] |= 1 << (cluster % 8);
    bits
}

const BITMAP_LEN: usize = CLUSTERS.div_ceil(8);

#[test]
fn a_bitmap_within_its_record_is_read() {
    for (cluster, end) in [(700, 701), (4999, 5000), (3, 68)] {
        // The copy of the first records, in 60 to 67, counts whatever the bitmap says.
        let small = Small::new(&[inside(0x80, &bits(cluster))]);
        // The boot sector's copy follows, and that is the volume's end.
        assert_eq!(small.tail(CLUSTERS + 1), CLUSTERS + 1);
        assert_eq!(small.tail(CLUSTERS), end);
    }
}

#[test]
fn a_bitmap_in_pieces_is_read_in_their_order() {
    let small = Small::new(&[outside(&[(1, 90), (1, -20)], BITMAP_LEN)]);
    for (cluster, end) in [(4095, 4096), (4096, 4097), (4999, 5000), (60, 68)] {
        let mut small = small.clone();
        let bits = bits(cluster);
        small.bytes[90 * CLUSTER..][..CLUSTER].copy_from_slice(&bits[..CLUSTER]);
        small.bytes[70 * CLUSTER..][..BITMAP_LEN - CLUSTER].copy_from_slice(&bits[CLUSTER..]);
        assert_eq!(small.tail(CLUSTERS), end);
        // Only what lies before the limit is looked at.
        assert_eq!(small.tail(4000), 68);
    }
}

#[test]
fn what_ntfs_may_not_say_is_refused() {
    let whole = || outside(&[(2, 90)], BITMAP_LEN);
    let patched = |at: usize, bytes: &[u8]| {
        let mut attribute = whole();
        attribute[at..at + bytes.len()].copy_from_slice(bytes);
        attribute
    };
    assert_eq!(Small::new(&[whole()]).tail(CLUSTERS), 68);
    let list = || inside(0x20, &[0; 8]);
    let cases: [(&str, Vec<Vec<u8>>); 17] = [
        ("no content", vec![]),
        ("too many pieces", vec![list()]),
        ("too many pieces", vec![list(), outside(&[(1, 90)], BITMAP_LEN)]),
        ("a cluster list is malformed", vec![patched(64, &[0x01, 2, 0])]),
        ("a cluster list is malformed", vec![patched(64, &[0x10, 2, 0])]),
        ("a cluster list is malformed", vec![patched(64, &[0x91, 2, 0])]),
        ("a cluster list is malformed", vec![patched(64, &[0x11, 0x80, 0])]),
        ("not there", vec![patched(64, &[0x11, 2, 0x80])]),
        ("not there", vec![patched(64, &[0x21, 2, 0x87, 0x13])]),
        ("another number of clusters", vec![patched(24, &[0])]),
        ("another number of clusters", vec![patched(16, &[1])]),
        ("longer than its clusters", vec![outside(&[(2, 90)], 1025)]),
        ("too short", vec![patched(48, &[0x70])]),
        ("too short", vec![patched(56, &[0x70])]),
        ("compressed", vec![patched(13, &[0x80])]),
        ("compressed", vec![patched(12, &[1])]),
        ("impossible length", vec![patched(4, &[71])]),
    ];
    for (word, attributes) in cases {
        Small::new(&attributes).refuses(word);
    }
    let boot: [(&str, usize, &[u8]); 10] = [
        ("sectors", 11, &[0, 1]),
        ("sectors", 510, &[0]),
        ("clusters", 13, &[3]),
        ("clusters", 13, &[0xf0]),
        ("larger than the volume", 40, &[0x8a]),
        ("number of clusters", 40, &[0; 8]),
        ("not there", 48, &[0x88, 0x13]),
        ("not there", 56, &[0x88, 0x13]),
        ("size of records", 64, &[0xf7]),
        ("record 0", 48, &[9]),
    ];
    for (word, at, patch) in boot {
        let mut small = Small::new(&[whole()]);
        small.bytes[at..at + patch.len()].copy_from_slice(patch);
        small.refuses(word);
    }
    let records: [(&str, usize, u8); 7] = [
        ("only partly written", 510, 8),
        ("update sequence", 6, 2),
        ("record 6", 0, b'B'),
        ("record 6", 22, 0),
        ("record 6", 32, 1),
        ("record 6", 44, 5),
        ("record 6", 25, 5),
    ];
    for (word, at, value) in records {
        let mut small = Small::new(&[whole()]);
        small.bytes[8 * CLUSTER + 6 * 1024 + at] = value;
        small.refuses(word);
    }
}

/// The table of files has to be where its own first record has it.
#[test]
fn a_table_that_lies_elsewhere_by_its_own_account_is_refused() {
    let mut small = Small::new(&[inside(0x80, &bits(3))]);
    small.record(0, &[outside(&[(16, 9)], 16 * CLUSTER)]);
    small.refuses("not where the boot sector says");
}

#[test]
fn hostile_numbers_in_the_records_of_ntfs_are_answered() {
    let small = Small::new(&[outside(&[(1, 90), (1, -20)], BITMAP_LEN)]);
    let table = 8 * CLUSTER;
    let records = [0, 2, 3, 6].map(|record| table + record * 1024);
    each_value_is_answered(small.bytes, records.into_iter().flat_map(|record| record..record + 160));
}
