//! Header files: a header outside its container (section 11).

use super::{
    BACKUP, CONTAINER, COPY, DATA, Edit, Fixed, HeaderPart, Made, Suite, Vector, checksum_keeping_mac, put,
    seal,
};
use sha2::{Digest, Sha256};

const PREAMBLE: usize = 4_096;
const FILE: usize = PREAMBLE + 2 * COPY;
/// Where the copies lie in the file.
const COPIES: [usize; 2] = [PREAMBLE, PREAMBLE + COPY];

fn preamble_checksum(preamble: &mut [u8]) {
    let sum = Sha256::digest(&preamble[..4_064]);
    put(preamble, 4_064, &sum);
}

/// The preamble of a container of this length, with its data offset, data length and backup offset.
pub(super) fn preamble(uuid: &[u8; 16], geometry: [usize; 4]) -> Vec<u8> {
    let mut preamble = vec![0; PREAMBLE];
    put(&mut preamble, 0, b"\x89STRONGHEAD\r\n\x1a\n\0");
    put(&mut preamble, 16, &1_u32.to_le_bytes());
    put(&mut preamble, 20, &4_096_u32.to_le_bytes());
    put(&mut preamble, 24, uuid);
    for (place, value) in geometry.into_iter().enumerate() {
        put(&mut preamble, 40 + 8 * place, &(value as u64).to_le_bytes());
    }
    preamble_checksum(&mut preamble);
    preamble
}

/// Takes the header out of a container: the header file, and the container with random bytes in its places.
pub(super) fn detach(whole: Made) -> (Made, Made) {
    let mut file = preamble(&whole.uuid, [CONTAINER, COPY, DATA, BACKUP]);
    let mut bytes = whole.bytes;
    file.extend_from_slice(&bytes[..COPY]);
    file.extend_from_slice(&bytes[BACKUP..]);
    let mut random = Fixed("places".to_owned(), 0);
    put(&mut bytes, 0, &random.take::<COPY>());
    put(&mut bytes, BACKUP, &random.take::<COPY>());
    let made = |bytes| Made {
        bytes,
        uuid: whole.uuid,
        volume_key: whole.volume_key,
        plaintext: whole.plaintext.clone(),
    };
    (made(file), made(bytes))
}

/// The fields of the preamble: name, offset, length, and what a reader says of another value under a right checksum.
const FIELDS: &[(&str, usize, usize, &str, &str)] = &[
    ("magic", 1, 1, "no match", "NAT-HF-01"),
    ("version", 16, 4, "unsupported", "NAT-HF-01"),
    ("length", 20, 4, "header failure", "NAT-HF-01"),
    ("uuid", 24, 16, "header failure", "NAT-HF-04"),
    ("container-length", 40, 8, "header failure", "NAT-HF-02"),
    ("data-offset", 48, 8, "header failure", "NAT-HF-02"),
    ("data-length", 56, 8, "header failure", "NAT-HF-02"),
    ("backup-offset", 64, 8, "header failure", "NAT-HF-02"),
    ("reserved", 2_000, 1, "header failure", "NAT-HF-02"),
];

fn detached(edit: Vec<Edit>) -> HeaderPart {
    HeaderPart { base: "detached.header".to_owned(), length: None, edit }
}

fn at(offset: usize, bytes: &[u8]) -> Edit {
    Edit { offset: offset as u64, bytes: hex::encode(bytes) }
}

impl Suite {
    fn detached_success(
        &mut self,
        name: &str,
        rules: &[&str],
        edit: Vec<Edit>,
        comment: &str,
    ) -> &mut Vector {
        let vector = self.success(name, "detached.img", rules, comment);
        vector.header = Some(detached(edit));
        vector
    }

    fn detached_failure(
        &mut self,
        name: &str,
        rules: &[&str],
        expect: &str,
        edit: Vec<Edit>,
        comment: &str,
    ) -> &mut Vector {
        let vector = self.failure(name, rules, expect, comment);
        (vector.base, vector.header) = ("detached.img".to_owned(), Some(detached(edit)));
        vector
    }

    /// The preamble with `value` at `offset` and its checksum made right.
    fn preamble(&self, offset: usize, value: &[u8]) -> Vec<Edit> {
        let mut preamble = self.bases["detached.header"].bytes[..PREAMBLE].to_vec();
        put(&mut preamble, offset, value);
        preamble_checksum(&mut preamble);
        vec![at(offset, value), at(4_064, &preamble[4_064..])]
    }
}

pub(super) fn vectors(suite: &mut Suite) {
    openings(suite);
    fields(suite);
    mismatches(suite);
}

fn openings(suite: &mut Suite) {
    let rules = ["NAT-HF-03", "NAT-HF-05", "NAT-HF-09"];
    suite.detached_success(
        "detached",
        &rules,
        Vec::new(),
        "the header in a file; random bytes in its places",
    );
    let zeros = vec![0; COPY];
    for (copy, letter) in ["a", "b"].into_iter().enumerate() {
        let edit = vec![at(COPIES[copy], &zeros)];
        let comment = "one copy in the header file overwritten; it is healed there";
        suite.detached_success(&format!("detached-copy-{letter}-zeros"), &["NAT-HF-05"], edit, comment);
    }
    let edit = vec![at(COPIES[0], &zeros)];
    let comment = "copy A overwritten; the container is far longer than its header says";
    let vector =
        suite.detached_success("detached-copy-a-zeros-longer", &["NAT-HF-05"], edit.clone(), comment);
    (vector.length, vector.after) = (Some(CONTAINER as u64 + (3 << 20)), "whole".to_owned());
    let comment = "copy A overwritten; the container ends before the place of copy B; opened read-only";
    let vector = suite.detached_success("detached-copy-a-zeros-cut-off", &["NAT-HF-05"], edit, comment);
    (vector.length, vector.read_only, vector.after) = (Some(BACKUP as u64), true, "unchanged".to_owned());
    let edit = vec![at(COPIES[0], &zeros), at(COPIES[1], &zeros)];
    suite.detached_failure(
        "detached-both-zeros",
        &["NAT-HF-05"],
        "no match",
        edit,
        "both copies overwritten",
    );
    let vector =
        suite.detached_success("detached-surplus", &["NAT-HF-03"], Vec::new(), "bytes behind the file");
    vector.after = "unchanged".to_owned();
    vector.header.as_mut().unwrap().length = Some(FILE as u64 + 5_000);
    for (name, length, what) in
        [("", FILE - 1, "the last byte is missing"), ("-copy-b", COPIES[1], "the file ends before copy B")]
    {
        let comment = format!("{what}; copy B is healed there");
        let name = format!("detached-cut-off{name}");
        let vector = suite.detached_success(&name, &["NAT-HF-03", "NAT-HF-11"], Vec::new(), &comment);
        vector.header.as_mut().unwrap().length = Some(length as u64);
    }
    let comment = "the file ends within copy A";
    let vector = suite.detached_failure(
        "detached-cut-off-both",
        &["NAT-HF-03"],
        "header failure",
        Vec::new(),
        comment,
    );
    vector.header.as_mut().unwrap().length = Some(COPIES[1] as u64 - 1);
    let comment = "the container is cut off, not the header file; opened for writing";
    let vector = suite.detached_failure(
        "detached-container-cut-off",
        &["NAT-GEO-06"],
        "header failure",
        Vec::new(),
        comment,
    );
    vector.length = Some(CONTAINER as u64 - 4_096);
    let comment = "a container without its header";
    suite.detached_failure("detached-without-file", &["NAT-HF-05"], "no match", Vec::new(), comment).header =
        None;
    let comment = "a header file in the place of a container";
    let vector = suite.failure("header-file-alone", &["NAT-HF-01"], "no match", comment);
    vector.base = "detached.header".to_owned();
    // Copy B of the smallest container lies where copy B of a header file does.
    let made = &suite.bases["detached.header"];
    let mut copy = made.bytes[COPIES[1]..].to_vec();
    for (place, value) in [COPY, 4_096, FILE, COPIES[1]].into_iter().enumerate() {
        put(&mut copy, 152 + 8 * place, &(value as u64).to_le_bytes());
    }
    seal(&mut copy, &made.volume_key, &made.uuid);
    let comment = "a header file whose copy B stands where that of the smallest container does";
    let vector = suite.failure("header-file-like-a-container", &["NAT-HF-01"], "no match", comment);
    (vector.base, vector.edit) = ("detached.header".to_owned(), vec![at(COPIES[1], &copy)]);
}

fn fields(suite: &mut Suite) {
    for &(name, offset, len, forged, rule) in FIELDS {
        let mut value = suite.bases["detached.header"].bytes[offset..offset + len].to_vec();
        value[0] ^= 1;
        let (is_magic, name) = (name == "magic", format!("preamble-{name}"));
        let edit = vec![at(offset, &value)];
        let comment = "one bit of the preamble; it is made anew from the copies";
        suite.detached_success(&format!("flip-{name}"), &["NAT-HF-11"], edit, comment);
        let edit = suite.preamble(offset, &value);
        let comment = "the same bit, the checksum made right";
        if !is_magic {
            suite.detached_failure(&format!("forged-{name}"), &[rule], forged, edit, comment);
        }
    }
    let mut random = Fixed("preamble".to_owned(), 0);
    let sector = random.take::<512>();
    let places = [("first", 0), ("last", PREAMBLE - 512)];
    for (name, offset) in places {
        let comment = "a bad sector of the preamble; it is made anew from the copies";
        let edit = vec![at(offset, &sector)];
        suite.detached_success(&format!("preamble-{name}-sector"), &["NAT-HF-11"], edit, comment);
    }
    let comment = "the same, and copy A is gone";
    let edit = vec![at(0, &sector), at(COPIES[0], &[0; COPY])];
    suite.detached_success("preamble-first-sector-and-copy-a", &["NAT-HF-11"], edit, comment);
    let no_copy = vec![at(COPIES[0], &[0; COPY]), at(COPIES[1], &[0; COPY])];
    let comment = "one bit of the preamble, and no copy is whole";
    let edit = [vec![at(2_000, &[1])], no_copy].concat();
    suite.detached_failure("preamble-and-copies", &["NAT-HF-02"], "header failure", edit, comment);
    // Values that a container could have, but not this one.
    let moved = (BACKUP as u64 - 4_096).to_le_bytes();
    let values = [("data-length", 56, 12_288_u64.to_le_bytes()), ("backup-offset", 64, moved)];
    for (name, offset, value) in values {
        let mut edit = suite.preamble(offset, &value);
        if name == "backup-offset" {
            edit = suite.preamble(56, &[12_288_u64.to_le_bytes(), moved].concat());
        }
        let comment = "a geometry that is none of the copies'";
        let name = format!("other-preamble-{name}");
        suite.detached_failure(&name, &["NAT-HF-04"], "header failure", edit, comment);
    }
}

fn mismatches(suite: &mut Suite) {
    let foreign = suite.bases["thin.img"].bytes[..COPY].to_vec();
    let comment = "copy A is that of another container";
    suite.detached_failure(
        "detached-foreign-copy",
        &["NAT-HF-04"],
        "header failure",
        vec![at(PREAMBLE, &foreign)],
        comment,
    );

    let comment = "a header file on a container with another header";
    let vector =
        suite.detached_failure("detached-on-another", &["NAT-HF-06"], "mismatch", Vec::new(), comment);
    vector.base = "thin.img".to_owned();

    // The container has its header still, and the header file is a backup of it.
    let own = &suite.bases["detached.header"].bytes;
    let own = vec![at(0, &own[COPIES[0]..COPIES[1]]), at(BACKUP, &own[COPIES[1]..])];
    let comment = "a backup used as detached header; opened for writing";
    let rules = ["NAT-HF-06", "NAT-HF-12"];
    let vector = suite.detached_failure("detached-beside-own", &rules, "mismatch", Vec::new(), comment);
    vector.edit = own.clone();
    let comment = "the same, opened read-only";
    let vector = suite.detached_success("detached-beside-own-read-only", &rules, Vec::new(), comment);
    (vector.edit, vector.read_only, vector.after) = (own.clone(), true, "unchanged".to_owned());
    // Something else stands in the place of copy A, so that copy B opens nothing.
    let other = at(100, &[0x5a]);
    let comment = "a backup of a container whose copy B alone is left and does not count, and is no newer";
    let vector = suite.detached_success("detached-beside-left-behind", &["NAT-HF-12"], Vec::new(), comment);
    (vector.edit, vector.after) = (vec![other.clone(), own[1].clone()], "unchanged".to_owned());
    let made = &suite.bases["detached.header"];
    let mut newer = made.bytes[COPIES[1]..].to_vec();
    put(&mut newer, 128, &7_u64.to_le_bytes());
    seal(&mut newer, &made.volume_key, &made.uuid);
    let comment = "the same; copy B is newer than the header file; opened for writing";
    let vector = suite.detached_failure(
        "detached-beside-newer-left-behind",
        &["NAT-HF-12"],
        "mismatch",
        Vec::new(),
        comment,
    );
    vector.edit = vec![other, at(BACKUP, &newer)];
    // A newer copy A in the container, of which one bit is damaged, and nothing else of its own.
    let made = &suite.bases["detached.header"];
    let mut copy = made.bytes[COPIES[0]..COPIES[1]].to_vec();
    put(&mut copy, 128, &7_u64.to_le_bytes());
    seal(&mut copy, &made.volume_key, &made.uuid);
    copy[4_001] ^= 1;
    let comment = "a damaged copy in the container itself that was newer; opened for writing";
    let vector =
        suite.detached_failure("detached-beside-damaged", &["NAT-HF-12"], "mismatch", Vec::new(), comment);
    vector.edit = vec![at(0, &copy)];

    for (name, offset, value) in
        [("sector-size", 144, 512_u32), ("suite", 140, 2), ("provision", 148, 2), ("generation", 184, 2)]
    {
        let made = &suite.bases["detached.header"];
        let edit = [0, BACKUP].into_iter().zip(COPIES).map(|(place, start)| {
            let mut copy = made.bytes[start..start + COPY].to_vec();
            put(&mut copy, offset, &value.to_le_bytes());
            seal(&mut copy, &made.volume_key, &made.uuid);
            at(place, &copy)
        });
        let edit: Vec<Edit> = edit.collect();
        let comment = "a header file from before the container's data was changed";
        let name = format!("detached-other-{name}");
        let vector = suite.detached_failure(&name, &["NAT-HF-06"], "mismatch", Vec::new(), comment);
        vector.edit = edit;
    }

    // Someone without the key changed copy A of the header file; the other one opens.
    let mut copy = suite.bases["detached.header"].bytes[COPIES[0]..COPIES[1]].to_vec();
    copy[64] ^= 1;
    checksum_keeping_mac(&mut copy);
    let comment = "copy A changed, its checksum made right; copy B opens";
    let edit = vec![at(PREAMBLE, &copy)];
    let rules = ["NAT-UPD-10", "NAT-HF-05", "NAT-RD-06"];
    suite.detached_failure("detached-forged-copy-a", &rules, "header failure", edit.clone(), comment);
    let vector = suite.detached_success("detached-forged-copy-a-read-only", &rules, edit, comment);
    (vector.read_only, vector.after) = (true, "unchanged".to_owned());
}
