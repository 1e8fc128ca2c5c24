//! A container that was made larger, what a power cut leaves of that, and headers from before (section 6.1).

use sha2::{Digest, Sha256};

use super::{
    COPY, DATA, Edit, Fixed, Made, Suite, put,
    reencryption::{AREA, BACKUP, CONTAINER, DATA_OFFSET, FRONT, Scheme, header, record, uuid},
    with_index,
};

/// The container afterwards: copy B's new place lies behind the old end.
const LARGER: usize = CONTAINER + COPY + 2 * AREA;
const NEW_BACKUP: usize = LARGER - COPY - AREA;
const NEW_TAIL: usize = LARGER - AREA;
const NEW_DATA: usize = NEW_BACKUP - DATA_OFFSET;
const THIN: u32 = 2;

/// The header before and after, and what both are sealed with.
struct Headers {
    old: [Vec<u8>; 2],
    new: [Vec<u8>; 2],
    scheme: Scheme,
    uuid: [u8; 16],
}

fn headers() -> Headers {
    let mut random = Fixed("resized".to_owned(), 0);
    let uuid = uuid(&mut random);
    let scheme = Scheme { key: random.take::<64>(), suite: 1, sector: 4096 };
    let copy = header(&scheme, &uuid, THIN, &mut random);
    let mut larger = copy.clone();
    put(&mut larger, 128, &2_u64.to_le_bytes());
    for (place, value) in [NEW_DATA, LARGER, NEW_BACKUP].into_iter().enumerate() {
        put(&mut larger, 160 + 8 * place, &(value as u64).to_le_bytes());
    }
    put(&mut larger, 184, &2_u32.to_le_bytes());
    let sealed = |copy: &[u8]| [0, 1].map(|index| with_index(copy, index, &(scheme.key, uuid)));
    Headers { old: sealed(&copy), new: sealed(&larger), uuid, scheme }
}

/// The old size, with a growth begun: all of the new copy B but its magic is there.
fn growing() -> Made {
    let Headers { old: [a, b], new: [_, new_b], scheme, uuid } = headers();
    let mut bytes = vec![0; LARGER];
    let plaintext: Vec<u8> = (0..DATA).map(|i| (i * 5 + i / 4096) as u8).collect();
    let mut data = plaintext.clone();
    scheme.encrypt(&uuid, &mut data, &[]);
    for (offset, part) in [(0, &a), (DATA_OFFSET, &data), (BACKUP, &b), (NEW_BACKUP, &new_b)] {
        put(&mut bytes, offset, part);
    }
    bytes[NEW_BACKUP..NEW_BACKUP + 16].fill(0);
    Made { bytes, uuid, volume_key: scheme.key, plaintext }
}

/// Done, and something written to what is new.
fn grown() -> Made {
    let Headers { new: [a, b], scheme, uuid, .. } = headers();
    let mut made = Made { bytes: vec![0; LARGER], uuid, volume_key: scheme.key, plaintext: Vec::new() };
    made.plaintext = (0..NEW_DATA).map(|i| (i * 5 + i / 4096) as u8).collect();
    let mut data = made.plaintext.clone();
    scheme.encrypt(&uuid, &mut data, &[]);
    let size = size_record(&made);
    for (offset, part) in [(0, &a), (FRONT, &size), (DATA_OFFSET, &data), (NEW_BACKUP, &b), (NEW_TAIL, &size)]
    {
        put(&mut made.bytes, offset, part);
    }
    made
}

/// NAT-SIZE-04: a closing record with the new data length.
fn size_record(made: &Made) -> Vec<u8> {
    record(made, (2, NEW_DATA as u64, 0), |bytes| put(bytes, 20, &2_u32.to_le_bytes()))
}

pub(super) fn bases() -> [(&'static str, Made); 2] {
    [("growing.img", growing()), ("grown.img", grown())]
}

pub(super) fn vectors(suite: &mut Suite) {
    interrupted(suite);
    headers_from_before(suite);
}

fn edit(offset: usize, bytes: &[u8]) -> Edit {
    Edit { offset: offset as u64, bytes: hex::encode(bytes) }
}

fn interrupted(suite: &mut Suite) {
    let made = growing();
    let mut plaintext = made.plaintext.clone();
    plaintext.resize(NEW_DATA, 0);
    let larger = hex::encode(Sha256::digest(&plaintext));
    let size = size_record(&made);
    let gone = || edit(BACKUP, &[0; 16]);
    let come = || edit(NEW_BACKUP, &headers().new[1][..16]);
    let rules = ["NAT-SIZE-01", "NAT-SIZE-02", "NAT-SIZE-03"];

    let comment = "of a growth, the new copy B stands at the new end but for its magic: the old size";
    suite.success("growth-prepared", "growing.img", &rules, comment).after = "unchanged".to_owned();
    let comment = "the same with the old copy B damaged: the new one counts, and the growth is ended";
    let vector = suite.success("growth-prepared-copy-b-damaged", "growing.img", &["NAT-RD-08"], comment);
    (vector.edit, vector.after) = (vec![edit(BACKUP + 2000, &[0xa5; 512])], "whole".to_owned());
    vector.sha256 = Some(larger.clone());
    let steps = [
        ("growth-copy-b-going", "the old copy B has lost its magic", vec![gone()]),
        ("growth-copy-b-come", "the new copy B is whole", vec![gone(), come()]),
        ("growth-tail-recorded", "the tail has the record", vec![gone(), come(), edit(NEW_TAIL, &size)]),
        (
            "growth-recorded",
            "both areas have the record",
            vec![gone(), come(), edit(NEW_TAIL, &size), edit(FRONT, &size)],
        ),
        (
            "growth-cleared",
            "the old end is cleared",
            vec![gone(), come(), edit(NEW_TAIL, &size), edit(FRONT, &size), edit(BACKUP, &vec![0; COPY])],
        ),
    ];
    for (name, comment, edits) in steps {
        let comment = format!("of a growth, {comment}: the new size, and who opens it for writing ends it");
        let vector = suite.success(name, "growing.img", &["NAT-SIZE-03", "NAT-SIZE-04"], &comment);
        (vector.edit, vector.after) = (edits, "whole".to_owned());
        vector.sha256 = Some(larger.clone());
    }
}

/// The whole volume of a container whose first bytes are `plaintext`, with this ciphertext behind them.
fn decrypted(made: &Made, behind: &[u8]) -> Vec<u8> {
    let xts = super::cipher(&made.volume_key, &made.uuid);
    let mut plaintext = made.plaintext[..DATA].to_vec();
    for (sector, bytes) in (DATA / 4096..).zip(behind.chunks(4096)) {
        let mut bytes = bytes.to_vec();
        if bytes.iter().any(|&byte| byte != 0) {
            xts.decrypt_sector(&mut bytes, (sector as u128).to_le_bytes().into());
        }
        plaintext.extend(bytes);
    }
    plaintext
}

fn headers_from_before(suite: &mut Suite) {
    let made = grown();
    let old = headers().old;
    let all = hex::encode(Sha256::digest(&made.plaintext));
    let part = hex::encode(Sha256::digest(&made.plaintext[..DATA]));
    let old_a = || edit(0, &old[0][..4096]);
    let bad_sector = || edit(NEW_BACKUP, &[0; 4096]);
    let front = || edit(FRONT, &[0; 4096]);

    let comment = "a container that was made larger";
    suite.success("grown", "grown.img", &["NAT-SIZE-01", "NAT-SIZE-04"], comment).after =
        "unchanged".to_owned();
    let zeros = vec![0; COPY];
    let mended = [
        ("grown-copy-a-zeros", "it lost copy A", vec![edit(0, &zeros)]),
        ("grown-copy-b-zeros", "it lost copy B", vec![edit(NEW_BACKUP, &zeros)]),
        ("grown-old-copy-a", "copy A is one from before", vec![old_a()]),
        ("grown-old-front", "all before the data is from before", vec![old_a(), front()]),
    ];
    for (name, comment, edits) in mended {
        let comment = format!("a container that was made larger; {comment}");
        let vector = suite.success(name, "grown.img", &["NAT-SIZE-03", "NAT-UPD-04"], &comment);
        vector.edit = edits;
    }
    let both = "both copies are from before, the new copy B stands at the end: it counts, as the newest";
    let vector = suite.success("grown-old-copies", "grown.img", &["NAT-RD-02"], both);
    (vector.edit, vector.after) = (vec![old_a(), front(), edit(BACKUP, &old[1])], "whole".to_owned());
    let mut data = made.bytes[DATA_OFFSET + DATA..NEW_BACKUP].to_vec();
    // What stands there instead of data goes.
    data[..COPY].fill(0);
    vector.sha256 = Some(hex::encode(Sha256::digest(decrypted(&made, &data))));

    let refused = [
        (
            "grown-old-copy-a-bad-copy-b",
            "copy A is one from before, copy B has a bad sector: the records show that it is old",
            vec![old_a(), bad_sector()],
            &all,
            "NAT-SIZE-05",
        ),
        (
            "grown-old-front-bad-copy-b",
            "all before the data is from before, copy B has a bad sector: the record in the tail shows it",
            vec![old_a(), front(), bad_sector()],
            &all,
            "NAT-SIZE-05",
        ),
        (
            "grown-old-front-no-end",
            "all before the data is from before, and nothing is left at the end: where copy B was, nothing shows a header",
            vec![old_a(), front(), edit(NEW_BACKUP, &vec![0; COPY + AREA])],
            &part,
            "NAT-GEO-06",
        ),
    ];
    for (name, comment, edits, sha256, rule) in refused {
        let vector = suite.failure(name, &[rule], "header failure", comment);
        (vector.base, vector.edit) = ("grown.img".to_owned(), edits.clone());
        let vector = suite.success(
            &format!("{name}-read-only"),
            "grown.img",
            &[rule],
            &format!("{comment}, opened read-only"),
        );
        (vector.read_only, vector.after, vector.edit) = (true, "unchanged".to_owned(), edits);
        vector.sha256 = Some(sha256.clone());
    }
}
