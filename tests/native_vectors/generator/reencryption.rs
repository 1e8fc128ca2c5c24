//! Containers that are being re-encrypted, and what can be wrong with them (section 8 of the specification).

use super::{
    COPY, DATA, Edit, Fixed, HeaderPart, Hmac, Mac, Made, Opens, PASSWORD, Sha512, Slot, Suite,
    XChaCha20Poly1305, Xts128, checksum_keeping_mac, data_key_of, header_files, hkdf, keyslot, put, seal,
    superblock, with_index,
};
use aes::cipher::{Array, KeyInit as _};
use chacha20poly1305::AeadInOut;

/// Two slots and a journal of 8 KiB.
pub(super) const AREA: usize = 16_384;
pub(super) const FRONT: usize = COPY;
pub(super) const DATA_OFFSET: usize = FRONT + AREA;
pub(super) const BACKUP: usize = DATA_OFFSET + DATA;
const TAIL: usize = BACKUP + COPY;
pub(super) const CONTAINER: usize = TAIL + AREA;
const SLOTS: usize = 8_192;

/// What is done to a header copy or a record before it is sealed.
type Change = fn(&mut [u8]);

/// One way to encrypt the data area.
pub(super) struct Scheme {
    pub(super) key: [u8; 64],
    pub(super) suite: u32,
    pub(super) sector: usize,
}

/// The newest record and the one before: counter, border, chunk length.
type Records = [(u64, u64, u64); 2];

const AT_REST: Records = [(4, 8_192, 0), (5, 8_192, 0)];
/// The newest chunk has two blocks, each with a hash in the checksum.
const JOURNALED: Records = [(5, 4_096, 4_096), (6, 8_192, 8_192)];

/// SHA-256 of nothing: the checksum of an idle record between two chunks.
const EMPTY: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

impl Scheme {
    /// Sections 5 and 7 for region 0: the key of suite 2 is half as long.
    pub(super) fn encrypt(&self, uuid: &[u8; 16], data: &mut [u8], holes: &[usize]) {
        let key = data_key_of(&self.key, uuid, self.suite, 0);
        let (data_key, tweak_key) = key.split_at(key.len() / 2);
        for (number, sector) in data.chunks_mut(self.sector).enumerate() {
            let tweak = (number as u128).to_le_bytes().into();
            if holes.contains(&(number * self.sector / 512)) {
                sector.fill(0);
            } else if self.suite == 1 {
                let half = |key: &[u8]| aes::Aes256::new(&Array::try_from(key).unwrap());
                Xts128::new(half(data_key), half(tweak_key)).encrypt_sector(sector, tweak);
            } else {
                let half = |key: &[u8]| aes::Aes128::new(&Array::try_from(key).unwrap());
                Xts128::new(half(data_key), half(tweak_key)).encrypt_sector(sector, tweak);
            }
        }
    }
}

pub(super) fn uuid(random: &mut Fixed) -> [u8; 16] {
    let mut uuid = random.take::<16>();
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// The header as it was before the re-encryption: generation 0, under the old volume key. Both copies.
fn header_before(name: &str) -> ([Vec<u8>; 2], Made) {
    let made = moving(name, [(1, 512), (2, 4096)], 0, &[], AT_REST);
    let mut random = Fixed(name.to_owned(), 0);
    let uuid = uuid(&mut random);
    let old = Scheme { key: random.take::<64>(), suite: 1, sector: 512 };
    let mut random = Fixed(format!("{name}, before"), 0);
    let copy = header(&old, &uuid, 0, &mut random);
    ([0, 1].map(|index| with_index(&copy, index, &(old.key, uuid))), made)
}

pub(super) fn header(made: &Scheme, uuid: &[u8; 16], provision: u32, random: &mut Fixed) -> Vec<u8> {
    let mut copy = superblock(uuid, made.sector as u32, provision, "moving");
    put(&mut copy, 140, &made.suite.to_le_bytes());
    for (place, value) in [DATA_OFFSET, DATA, CONTAINER, BACKUP].into_iter().enumerate() {
        put(&mut copy, 152 + 8 * place, &(value as u64).to_le_bytes());
    }
    let slot = Slot { index: 0, priority: 1, label: "main", opens: Opens::Password(PASSWORD) };
    put(&mut copy, 4096, &keyslot(&slot, uuid, &made.key, random));
    copy
}

/// Section 8.1: the old volume key under the new.
fn wrap_old_key(copy: &mut [u8], uuid: &[u8; 16], old: &Scheme, new_key: &[u8; 64], random: &mut Fixed) {
    copy[24] |= 1;
    put(copy, 128, &2_u64.to_le_bytes());
    put(copy, 184, &1_u32.to_le_bytes());
    put(copy, 192, &old.suite.to_le_bytes());
    put(copy, 196, &(old.sector as u32).to_le_bytes());
    let nonce = random.take::<24>();
    put(copy, 200, &nonce);
    let label = b"strongroom/v1/old-volume-key";
    let key: [u8; 32] = hkdf(new_key, uuid, label)[..32].try_into().unwrap();
    let aad = [label.as_slice(), uuid, &1_u32.to_le_bytes(), &copy[192..200]].concat();
    let mut wrapped = old.key;
    let tag = XChaCha20Poly1305::new(&key.into())
        .encrypt_inout_detached(&nonce.into(), &aad, wrapped.as_mut_slice().into())
        .unwrap();
    put(copy, 224, &wrapped);
    put(copy, 288, &tag);
}

/// Section 8.2: a record under the right MAC, changed by `change` before that.
pub(super) fn record(
    made: &Made,
    (counter, border, chunk): (u64, u64, u64),
    change: impl Fn(&mut [u8]),
) -> Vec<u8> {
    let mut bytes = vec![0; 4_096];
    put(&mut bytes, 0, b"SR re-encryption");
    put(&mut bytes, 16, &1_u32.to_le_bytes());
    put(&mut bytes, 20, &1_u32.to_le_bytes());
    put(&mut bytes, 24, &made.uuid);
    for (place, value) in [counter, border, chunk].into_iter().enumerate() {
        put(&mut bytes, 40 + 8 * place, &value.to_le_bytes());
    }
    change(&mut bytes);
    let key = hkdf(&made.volume_key, &made.uuid, b"strongroom/v1/reencryption-record");
    let mac = Hmac::<Sha512>::new_from_slice(&key).unwrap().chain_update(&bytes[..4_032]).finalize();
    put(&mut bytes, 4_032, &mac.into_bytes());
    bytes
}

/// NAT-REENC-18: HMAC-SHA-512 over the POLYVAL of each block, its first half.
fn chunk_checksum(volume_key: &[u8; 64], uuid: &[u8; 16], ciphertext: &[u8]) -> Vec<u8> {
    let block_key = hkdf(volume_key, uuid, b"strongroom/v1/reencryption-block");
    let hashes: Vec<u8> =
        ciphertext.chunks(4_096).flat_map(|block| polyval(&block_key[..16], block)).collect();
    let key = hkdf(volume_key, uuid, b"strongroom/v1/reencryption-chunk");
    let mac = Hmac::<Sha512>::new_from_slice(&key).unwrap().chain_update(hashes).finalize();
    mac.into_bytes()[..32].to_vec()
}

/// RFC 8452, section 3, bit by bit.
fn polyval(key: &[u8], text: &[u8]) -> [u8; 16] {
    let number = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().unwrap());
    let key = number(key);
    let sum = text.chunks(16).fold(0, |sum: u128, block| {
        let sum = sum ^ number(block);
        // sum * key * x^-128: from the lowest bit of the key on, one division by x after each.
        (0..128).fold(0_u128, |product, bit| {
            let product = if key >> bit & 1 == 1 { product ^ sum } else { product };
            product >> 1 ^ if product & 1 == 1 { 0xe1 << 120 } else { 0 }
        })
    });
    sum.to_le_bytes()
}

/// `holes`: 512-byte blocks that are holes, in runs of whole old sectors in the old part, of new ones in the new part.
fn moving(name: &str, schemes: [(u32, usize); 2], provision: u32, holes: &[usize], records: Records) -> Made {
    let mut random = Fixed(name.to_owned(), 0);
    let uuid = uuid(&mut random);
    let [old, new] = schemes.map(|(suite, sector)| Scheme { key: random.take::<64>(), suite, sector });
    let mut copy = header(&new, &uuid, provision, &mut random);
    wrap_old_key(&mut copy, &uuid, &old, &new.key, &mut random);

    let mut plaintext: Vec<u8> = (0..DATA).map(|i| (i * 5 + i / 4096 + 3) as u8).collect();
    let (mut old_data, mut new_data) = (plaintext.clone(), plaintext.clone());
    old.encrypt(&uuid, &mut old_data, holes);
    new.encrypt(&uuid, &mut new_data, holes);
    for &hole in holes {
        plaintext[hole * 512..][..512].fill(0);
    }
    let border = records[1].1 as usize;
    let mut data = [&new_data[..border], &old_data[border..]].concat();

    let keys = (new.key, uuid);
    let bytes = vec![0; CONTAINER];
    let mut made = Made { bytes, uuid, volume_key: new.key, plaintext };
    put(&mut made.bytes, 0, &with_index(&copy, 0, &keys));
    put(&mut made.bytes, BACKUP, &with_index(&copy, 1, &keys));
    for (counter, border, chunk) in records {
        let ciphertext = &new_data[border as usize..][..chunk as usize];
        let bytes = record(&made, (counter, border, chunk), |record| {
            if chunk > 0 {
                put(record, 64, &chunk_checksum(&made.volume_key, &made.uuid, ciphertext));
            }
        });
        let slot = 4_096 * (counter % 2) as usize;
        put(&mut made.bytes, FRONT + slot, &bytes);
        put(&mut made.bytes, TAIL + slot, &bytes);
        let journal = if counter % 2 == 0 { FRONT } else { TAIL } + SLOTS;
        put(&mut made.bytes, journal, ciphertext);
        // In the place of the newest record's chunk stands anything.
        if chunk > 0 && counter == records[1].0 {
            data[border as usize..][..chunk as usize].fill(0xa5);
        }
    }
    put(&mut made.bytes, DATA_OFFSET, &data);
    made
}

/// At rest, suite 2 and a later generation: the same without records.
fn moved(name: &str) -> Made {
    let mut random = Fixed(name.to_owned(), 0);
    let uuid = uuid(&mut random);
    let scheme = Scheme { key: random.take::<64>(), suite: 2, sector: 512 };
    let mut copy = header(&scheme, &uuid, 0, &mut random);
    put(&mut copy, 184, &6_u32.to_le_bytes());
    let plaintext: Vec<u8> = (0..DATA).map(|i| (i * 3 + i / 512) as u8).collect();
    let mut data = plaintext.clone();
    scheme.encrypt(&uuid, &mut data, &[]);
    let keys = (scheme.key, uuid);
    let mut bytes = vec![0; CONTAINER];
    put(&mut bytes, 0, &with_index(&copy, 0, &keys));
    put(&mut bytes, DATA_OFFSET, &data);
    put(&mut bytes, BACKUP, &with_index(&copy, 1, &keys));
    Made { bytes, uuid, volume_key: scheme.key, plaintext }
}

/// The images of this chapter.
pub(super) fn bases() -> [(&'static str, Made); 5] {
    let thin_holes: Vec<usize> = [2].into_iter().chain(8..16).chain(24..32).collect();
    [
        ("suite-2.img", moved("suite-2")),
        ("moving-before.header", file_before()),
        ("moving.img", moving("moving", [(1, 512), (2, 4096)], 0, &[], AT_REST)),
        ("journaled.img", moving("journaled", [(2, 4096), (1, 4096)], 0, &[], JOURNALED)),
        ("moving-thin.img", moving("moving-thin", [(1, 4096), (1, 512)], 2, &thin_holes, JOURNALED)),
    ]
}

/// The header from before in a file, as who has a detached one may have kept it.
fn file_before() -> Made {
    let (copies, made) = header_before("moving");
    let mut bytes = header_files::preamble(&made.uuid, [CONTAINER, DATA_OFFSET, DATA, BACKUP]);
    bytes.extend(copies.concat());
    Made { bytes, ..made }
}

fn edit(offset: usize, bytes: &[u8]) -> Edit {
    Edit { offset: offset as u64, bytes: hex::encode(bytes) }
}

/// A record in its slot of both areas. What lies between its fields and its MAC is zero on the medium, too.
fn placed(bytes: &[u8]) -> Vec<Edit> {
    [FRONT, TAIL].into_iter().flat_map(|area| placed_in(area, bytes)).collect()
}

fn placed_in(area: usize, bytes: &[u8]) -> Vec<Edit> {
    let at = area + 4_096 * usize::from(bytes[40] % 2);
    vec![edit(at, &bytes[..128]), edit(at + 4_032, &bytes[4_032..])]
}

/// Takes the magic of both header copies away, as what was written over them would.
fn without_header() -> Vec<Edit> {
    vec![edit(0, &[0; 16]), edit(BACKUP, &[0; 16])]
}

/// Both copies after `change`, sealed by the owner of the key.
fn resealed(made: &Made, change: impl Fn(&mut [u8])) -> Vec<Edit> {
    let copies = [0, BACKUP].map(|start| {
        let mut copy = made.bytes[start..start + COPY].to_vec();
        change(&mut copy);
        seal(&mut copy, &made.volume_key, &made.uuid);
        // The keyslots stay, and would make the vector long.
        edit(start, &copy[..4_096])
    });
    copies.to_vec()
}

/// Both slots of one work area, written over.
fn wiped(area: usize) -> Edit {
    edit(area, &[0; SLOTS])
}

/// Every vector of this chapter.
pub(super) fn vectors(suite: &mut Suite) {
    openings(suite);
    headers(suite);
    records(suite);
    losses(suite);
    journals(suite);
    earlier_programs(suite);
    old_headers(suite);
}

fn openings(suite: &mut Suite) {
    let comment = "suite 2, 512-byte sectors, generation 6, no re-encryption under way";
    suite.success("suite-2", "suite-2.img", &["NAT-DATA-06", "NAT-SB-08", "NAT-REENC-01"], comment);
    let rules = ["NAT-REENC-03", "NAT-REENC-05", "NAT-REENC-06", "NAT-REENC-08"];
    let comment = "8 KiB under suite 2 with 4096-byte sectors, 8 KiB under suite 1 with 512; at rest";
    suite.success("moving", "moving.img", &rules, comment).after = "unchanged".to_owned();
    for (name, base, comment) in [
        ("journaled", "journaled.img", "a chunk in the journal of the front, anything in its place"),
        ("journaled-thin", "moving-thin.img", "the same, thin, with holes on both sides and in the journal"),
    ] {
        suite.success(name, base, &["NAT-REENC-06", "NAT-REENC-08"], comment).after = "whole".to_owned();
        let name = format!("{name}-read-only");
        let vector = suite.success(&name, base, &["NAT-REENC-15"], comment);
        (vector.read_only, vector.after) = (true, "unchanged".to_owned());
    }
}

/// Name, base, change, answer, rule, comment.
const HEADER_FAULTS: [(&str, &str, Change, &str, &str, &str); 9] = [
    (
        "moving-zero-section",
        "moving.img",
        |copy| copy[192..304].fill(0),
        "header failure",
        "NAT-REENC-02",
        "the bit is set, and the section is zeros",
    ),
    (
        "section-without-bit",
        "suite-2.img",
        |copy| copy[250] = 1,
        "header failure",
        "NAT-REENC-02",
        "the section is not zeros, and the bit is not set",
    ),
    (
        "moving-even-generation",
        "moving.img",
        |copy| copy[184] = 2,
        "header failure",
        "NAT-REENC-01",
        "the bit is set, and the generation is even",
    ),
    (
        "odd-generation",
        "suite-2.img",
        |copy| copy[184] = 7,
        "header failure",
        "NAT-REENC-01",
        "the bit is not set, and the generation is odd",
    ),
    (
        "moving-old-suite-9",
        "moving.img",
        |copy| copy[192] = 9,
        "unsupported",
        "NAT-REENC-02",
        "an old suite of another time",
    ),
    (
        "moving-old-sector-1024",
        "moving.img",
        |copy| put(copy, 196, &1024_u32.to_le_bytes()),
        "header failure",
        "NAT-REENC-02",
        "an old sector size that is none",
    ),
    (
        "moving-small-front",
        "moving.img",
        |copy| put(copy, 152, &(COPY as u64 + 8_192).to_le_bytes()),
        "header failure",
        "NAT-REENC-04",
        "no room for a journal",
    ),
    (
        "moving-wrapped-key",
        "moving.img",
        |copy| copy[230] ^= 1,
        "header failure",
        "NAT-REENC-03",
        "the wrapped old key changed by the owner of the new",
    ),
    (
        "moving-other-generation",
        "moving.img",
        |copy| copy[184] = 3,
        "header failure",
        "NAT-REENC-03",
        "the wrapped old key is bound to the generation",
    ),
];

/// Headers that say what cannot be.
fn headers(suite: &mut Suite) {
    for (name, base, change, expect, rule, comment) in HEADER_FAULTS {
        let edits = resealed(&suite.bases[base], change);
        let vector = suite.failure(name, &[rule], expect, comment);
        (vector.base, vector.edit) = (base.to_owned(), edits);
    }
    let made = &suite.bases["moving.img"];
    let edits = [0, BACKUP].map(|start| {
        let mut copy = made.bytes[start..start + COPY].to_vec();
        copy[230] ^= 1;
        checksum_keeping_mac(&mut copy);
        edit(start, &copy[..4_096])
    });
    let comment = "the wrapped old key changed by someone without the key, checksums made right";
    let vector = suite.failure("moving-forged-wrapped-key", &["NAT-SUM-02"], "digest failure", comment);
    (vector.base, vector.edit) = ("moving.img".to_owned(), edits.to_vec());
}

/// Records with a higher counter that do not count, in both work areas of a container at rest.
fn records(suite: &mut Suite) {
    let newer = (6, 12_288, 0);
    let cases: [(&str, (u64, u64, u64), Change); 13] = [
        ("magic", newer, |record| record[3] ^= 1),
        ("version", newer, |record| record[16] = 2),
        ("generation", newer, |record| record[20] = 0),
        ("uuid", newer, |record| record[24] ^= 1),
        ("border-unaligned", (6, 12_800, 0), |_| ()),
        ("border-past-the-end", (6, 20_480, 0), |_| ()),
        ("chunk-past-the-end", (6, 12_288, 8_192), |_| ()),
        ("chunk-overflow", (6, 8_192, u64::MAX - 4_095), |_| ()),
        // Alone the journal is 8 KiB, so 12 KiB fit the data area and not the journal.
        ("chunk-beyond-the-journal", (6, 4_096, 12_288), |_| ()),
        ("reserved", newer, |record| record[100] = 1),
        ("checksum-of-no-chunk", newer, |record| record[64] = 1),
        ("counter-0", (0, 12_288, 0), |_| ()),
        ("forged", newer, |_| ()),
    ];
    let rules = ["NAT-REENC-05"];
    for (name, values, change) in cases {
        let mut bytes = record(&suite.bases["moving.img"], values, change);
        let mut comment = "by the owner's hand, a newer record that does not count; the one before does";
        if name == "forged" {
            (bytes[4_040], comment) = (bytes[4_040] ^ 1, "a newer record forged by someone without the key");
        }
        let vector = suite.success(&format!("record-{name}"), "moving.img", &rules, comment);
        (vector.edit, vector.after) = (placed(&bytes), "unchanged".to_owned());
    }
    // In slot 0, where it does not belong; both idle records stand.
    let bytes = record(&suite.bases["moving.img"], (7, 12_288, 0), |_| ());
    let comment = "by the owner's hand, a newer record in the wrong slot; the other does count";
    let vector = suite.success("record-slot", "moving.img", &rules, comment);
    vector.edit = [FRONT, TAIL]
        .into_iter()
        .flat_map(|at| [edit(at, &bytes[..128]), edit(at + 4_032, &bytes[4_032..])])
        .collect();
    vector.after = "unchanged".to_owned();
    contradictions(suite);
    // Between two chunks of a program that works.
    let bytes = record(&suite.bases["moving.img"], (6, 8_192, 0), |record| put(record, 64, &EMPTY));
    let comment = "the newest record is idle and bears the checksum of nothing";
    let rules = ["NAT-REENC-05", "NAT-REENC-08", "NAT-REENC-18"];
    let vector = suite.success("moving-at-work", "moving.img", &rules, comment);
    (vector.edit, vector.after) = (placed(&bytes), "whole".to_owned());
}

/// Two records with the same counter.
fn contradictions(suite: &mut Suite) {
    let made = &suite.bases["moving.img"];
    let [front, tail] = [8_192, 12_288].map(|border| record(made, (6, border, 0), |_| ()));
    let edits = [placed_in(FRONT, &front), placed_in(TAIL, &tail)].concat();
    let comment = "by the owner's hand, two newest records that contradict each other; opened for writing";
    let vector = suite.failure("record-contradiction", &["NAT-REENC-06"], "header failure", comment);
    (vector.base, vector.edit) = ("moving.img".to_owned(), edits.clone());
    let comment = "the same, opened read-only: that of the front counts";
    let vector = suite.success("record-contradiction-read-only", "moving.img", &["NAT-REENC-06"], comment);
    (vector.edit, vector.read_only, vector.after) = (edits, true, "unchanged".to_owned());
}

/// The newest record's chunk, where the journal or the place of it is not as the record's checksum says.
fn journals(suite: &mut Suite) {
    let rules = ["NAT-REENC-19"];
    let damage = edit(FRONT + SLOTS + 100, &[0x5a; 16]);
    let comment = "the journal was written over, its records are whole; opened for writing";
    let vector = suite.failure("journaled-damaged", &rules, "header failure", comment);
    (vector.base, vector.edit) = ("journaled.img".to_owned(), vec![damage.clone()]);
    let comment = "the same, opened read-only: the chunk cannot be read";
    let vector = suite.failure("journaled-damaged-read-only", &rules, "payload failure", comment);
    (vector.base, vector.edit, vector.read_only) = ("journaled.img".to_owned(), vec![damage.clone()], true);
    // The journal of record 6 is that of the front.
    let chunk = suite.bases["journaled.img"].bytes[FRONT + SLOTS..][..8_192].to_vec();
    let edits = vec![damage, edit(DATA_OFFSET + 8_192, &chunk)];
    let comment = "the journal was written over, and the chunk is in its place already";
    let vector = suite.success("journaled-in-place", "journaled.img", &rules, comment);
    (vector.edit, vector.after) = (edits.clone(), "whole".to_owned());
    let vector = suite.success("journaled-in-place-read-only", "journaled.img", &rules, comment);
    (vector.edit, vector.read_only, vector.after) = (edits, true, "unchanged".to_owned());
    let comment = "the records beside the journal were written over, the journal is whole";
    let vector = suite.success("journaled-no-front", "journaled.img", &rules, comment);
    (vector.edit, vector.after) = (vec![wiped(FRONT)], "whole".to_owned());
    let comment = "the same, thin: holes count in the journal as the zeros that they are";
    let vector = suite.success("journaled-thin-no-front", "moving-thin.img", &rules, comment);
    (vector.edit, vector.after) = (vec![wiped(FRONT)], "whole".to_owned());
}

/// Records as programs wrote them before there were checksums, and rested with one idle record.
fn earlier_programs(suite: &mut Suite) {
    let plain = |values: Records| values.map(|values| record(&suite.bases["journaled.img"], values, |_| ()));
    let journaled: Vec<Edit> = plain(JOURNALED).iter().flat_map(|record| placed(record)).collect();
    let comment = "an earlier program's records, without checksums: a chunk in the journal";
    let rules = ["NAT-REENC-07", "NAT-REENC-18"];
    let vector = suite.success("earlier-journaled", "journaled.img", &rules, comment);
    (vector.edit, vector.after) = (journaled.clone(), "whole".to_owned());
    let wipe = |area| [journaled.clone(), vec![wiped(area)]].concat();
    let comment = "the same, the tail, without the journal, written over";
    let vector = suite.success("earlier-journaled-no-tail", "journaled.img", &["NAT-REENC-07"], comment);
    (vector.edit, vector.after) = (wipe(TAIL), "whole".to_owned());
    let rules = ["NAT-REENC-07"];
    let comment = "the same, the front, with the journal, written over; opened for writing";
    let vector = suite.failure("earlier-journaled-no-front", &rules, "header failure", comment);
    (vector.base, vector.edit) = ("journaled.img".to_owned(), wipe(FRONT));
    let comment = "the same, opened read-only: the chunk cannot be read";
    let vector = suite.failure("earlier-journaled-no-front-read-only", &rules, "payload failure", comment);
    (vector.base, vector.edit, vector.read_only) = ("journaled.img".to_owned(), wipe(FRONT), true);

    let bytes = record(&suite.bases["moving.img"], (4, 4_096, 4_096), |_| ());
    let comment = "an earlier program at rest: the record before the newest has a chunk";
    let vector = suite.success("earlier-moving", "moving.img", &["NAT-REENC-08"], comment);
    (vector.edit, vector.after) = (placed(&bytes), "whole".to_owned());
    let comment = "at rest, the newest record zeroed in both areas: the one before says the same";
    let rules = ["NAT-REENC-08", "NAT-REENC-12"];
    let vector = suite.success("moving-rolled-back", "moving.img", &rules, comment);
    vector.edit = [FRONT, TAIL].map(|area| edit(area + 4_096, &[0; 4_096])).to_vec();
    vector.after = "unchanged".to_owned();
}

/// Headers that the work areas show to be from before.
fn old_headers(suite: &mut Suite) {
    let of = |suite: &Suite, base: &str, generation: u8, values: (u64, u64, u64)| {
        record(&suite.bases[base], values, |record| record[20] = generation)
    };
    let closing = (4, 16_384, 0);
    let rules = ["NAT-REENC-17", "NAT-REENC-20"];
    // Name, base, a record of this generation with these values, and whether it makes the header an old one.
    let cases = [
        ("closed", "suite-2.img", 6, closing, false, "the closing record of the header's own generation"),
        ("closed-before", "suite-2.img", 4, closing, false, "the closing record of an earlier re-encryption"),
        ("prepared", "suite-2.img", 7, (1, 0, 0), false, "a re-encryption was prepared, and not begun"),
        ("begun", "suite-2.img", 7, (2, 0, 0), true, "a re-encryption has begun since"),
        ("ended", "suite-2.img", 8, closing, true, "a re-encryption has ended since"),
        ("prepared-again", "suite-2.img", 9, (1, 0, 0), true, "one ended, and another was prepared"),
        ("moving-ended", "moving.img", 2, (6, 16_384, 0), true, "this re-encryption has ended since"),
    ];
    let made: Vec<_> = cases.map(|case| of(suite, case.1, case.2, case.3)).into_iter().collect();
    for ((name, base, _, _, is_old, comment), bytes) in cases.into_iter().zip(made) {
        let one_area = placed_in(TAIL, &bytes);
        for (name, edits) in [(format!("old-{name}"), placed(&bytes)), (format!("old-{name}-tail"), one_area)]
        {
            if is_old {
                let comment = format!("{comment}: an old header, opened for writing");
                let vector = suite.failure(&name, &rules, "header failure", &comment);
                (vector.base, vector.edit) = (base.to_owned(), edits.clone());
            }
            let read_only = if is_old { "-read-only" } else { "" };
            let vector = suite.success(&format!("{name}{read_only}"), base, &rules, comment);
            (vector.edit, vector.read_only, vector.after) = (edits, is_old, "unchanged".to_owned());
        }
    }
    let mut bytes = of(suite, "suite-2.img", 8, closing);
    bytes[24] ^= 1;
    let comment = "a record of another container: the header may be another's; opened for writing";
    let vector = suite.failure("records-of-another", &["NAT-UPD-11"], "header failure", comment);
    (vector.base, vector.edit) = ("suite-2.img".to_owned(), placed_in(TAIL, &bytes));
    let comment = "the same, opened read-only";
    let rules = ["NAT-UPD-11", "NAT-REENC-17"];
    let vector = suite.success("records-of-another-read-only", "suite-2.img", &rules, comment);
    (vector.edit, vector.read_only, vector.after) = (placed(&bytes), true, "unchanged".to_owned());
    let mut bytes = of(suite, "suite-2.img", 6, closing);
    bytes[4_040] ^= 1;
    for (name, edits) in [("alien-records", placed(&bytes)), ("alien-records-tail", placed_in(TAIL, &bytes))]
    {
        let comment = "a record of the header's generation, under another volume key; opened for writing";
        let vector = suite.failure(name, &["NAT-UPD-11"], "header failure", comment);
        (vector.base, vector.edit) = ("suite-2.img".to_owned(), edits.clone());
        let name = format!("{name}-read-only");
        let vector = suite.success(&name, "suite-2.img", &["NAT-UPD-11"], "the same, opened read-only");
        (vector.edit, vector.read_only, vector.after) = (edits, true, "unchanged".to_owned());
    }
    copies_from_before(suite);
    unfinished(suite);
    earlier_records(suite);
    written_anew(suite);
}

/// A header from after the end of a re-encryption, and records that say less.
fn unfinished(suite: &mut Suite) {
    let rules = ["NAT-REENC-21"];
    let of = |suite: &Suite, values: (u64, u64, u64)| {
        record(&suite.bases["suite-2.img"], values, |record| record[20] = 5)
    };
    let (middle, ended) = (of(suite, (4, 8_192, 0)), of(suite, (4, 16_384, 0)));
    let comment = "records of the generation before say that half of it is done; opened for writing";
    let vector = suite.failure("unfinished", &rules, "header failure", comment);
    (vector.base, vector.edit) = ("suite-2.img".to_owned(), placed(&middle));
    let comment = "the same, in one work area";
    let vector = suite.failure("unfinished-tail", &rules, "header failure", comment);
    (vector.base, vector.edit) = ("suite-2.img".to_owned(), placed_in(TAIL, &middle));
    let comment = "the same, opened read-only";
    let vector = suite.success("unfinished-read-only", "suite-2.img", &rules, comment);
    (vector.edit, vector.read_only, vector.after) = (placed(&middle), true, "unchanged".to_owned());
    let comment = "records of the generation before say that all of it is done: they were not closed yet";
    let vector = suite.success("finished", "suite-2.img", &rules, comment);
    (vector.edit, vector.after) = (placed(&ended), "unchanged".to_owned());
    let newest = of(suite, (5, 16_384, 0));
    let comment = "the newest record says that all of it is done, and the one before less";
    let vector = suite.success("finished-newest", "suite-2.img", &rules, comment);
    (vector.edit, vector.after) = ([placed(&middle), placed(&newest)].concat(), "unchanged".to_owned());
}

/// Records of a lower generation than the header's: of its own past, or of another one.
fn earlier_records(suite: &mut Suite) {
    let rules = ["NAT-UPD-11"];
    let forge = |mut bytes: Vec<u8>| {
        bytes[4_040] ^= 1;
        bytes
    };
    let of = |suite: &Suite, generation: u8, values: (u64, u64, u64)| {
        record(&suite.bases["suite-2.img"], values, |record| record[20] = generation)
    };
    let closing = |suite: &Suite, generation| forge(of(suite, generation, (4, 16_384, 0)));
    let mut half_erased = of(suite, 5, (4, 16_384, 0));
    half_erased[3_584..].fill(0);
    let cases = [
        (
            "closed",
            placed(&closing(suite, 4)),
            "the closing record of a re-encryption before, under another key",
        ),
        ("closed-tail", placed_in(TAIL, &closing(suite, 4)), "the same, in one work area"),
        ("under-way", placed(&closing(suite, 5)), "a record of the generation before, under another key"),
    ];
    for (name, edits, comment) in cases {
        let name = format!("earlier-records-{name}");
        let vector =
            suite.failure(&name, &rules, "header failure", &format!("{comment}; opened for writing"));
        (vector.base, vector.edit) = ("suite-2.img".to_owned(), edits.clone());
        let name = format!("{name}-read-only");
        let vector = suite.success(&name, "suite-2.img", &rules, "the same, opened read-only");
        (vector.edit, vector.read_only, vector.after) = (edits, true, "unchanged".to_owned());
    }
    let torn = [placed(&closing(suite, 4)), placed(&of(suite, 5, (5, 16_384, 0)))].concat();
    let comment = "a record of a lower generation, torn, beside one under the header's key";
    let vector = suite.success("earlier-records-torn", "suite-2.img", &rules, comment);
    (vector.edit, vector.after) = (torn, "unchanged".to_owned());
    let comment = "a record of the generation before, half overwritten with zeros";
    let vector = suite.success("earlier-records-half-erased", "suite-2.img", &rules, comment);
    (vector.edit, vector.after) = (placed(&half_erased), "unchanged".to_owned());

    // Under way: what was there before the start is under the old key.
    let made = &suite.bases["moving.img"];
    let mut random = Fixed("moving".to_owned(), 0);
    let old = Made {
        bytes: Vec::new(),
        uuid: uuid(&mut random),
        volume_key: random.take::<64>(),
        plaintext: Vec::new(),
    };
    assert_eq!(old.uuid, made.uuid, "the old key is taken after the uuid");
    let closing = record(&old, (4, 16_384, 0), |record| record[20] = 0);
    let newest = record(made, (5, 8_192, 0), |_| ());
    let first = |bytes: &[u8]| [edit(TAIL, bytes), edit(TAIL + 4_096, &[0; 4_096])].to_vec();
    assert_eq!(made.bytes[TAIL + 4_096..][..4_032], newest[..4_032], "the newest record is in slot 1");
    let comment =
        "under way; one work area holds nothing but a record under the old key, from before the start";
    let vector = suite.success("earlier-records-old-key", "moving.img", &rules, comment);
    (vector.edit, vector.after) = (first(&closing), "whole".to_owned());
    let comment = "the same, under a key that is neither the new nor the old one; opened for writing";
    let vector = suite.failure("earlier-records-no-key", &rules, "header failure", comment);
    (vector.base, vector.edit) = ("moving.img".to_owned(), first(&forge(closing)));
}

/// Copy A is damaged, and the front has what no re-encryption leaves there.
fn written_anew(suite: &mut Suite) {
    let rules = ["NAT-RD-07"];
    let damaged = edit(4_001, &[0x5a]);
    let unsigned = vec![damaged.clone(), edit(0, &[0x5a])];
    for (name, at) in [("front", FRONT), ("front-slot-1", FRONT + 4_500), ("journal", FRONT + SLOTS + 100)] {
        let comment = "a damaged copy A, and one byte behind it that a new user has written";
        let vector = suite.failure(&format!("{name}-written-anew"), &rules, "no match", comment);
        (vector.base, vector.edit) =
            ("suite-2.img".to_owned(), [unsigned.clone(), vec![edit(at, &[1])]].concat());
        let comment =
            "a damaged copy A with magic and uuid, and one byte behind it that nobody can have written anew";
        let vector = suite.success(&format!("{name}-behind-magic"), "suite-2.img", &rules, comment);
        (vector.edit, vector.after) = (vec![damaged.clone(), edit(at, &[1])], "whole".to_owned());
    }
    let comment = "a copy A without its magic, and zeros behind it";
    let vector = suite.success("front-zeros", "suite-2.img", &rules, comment);
    vector.edit = unsigned.clone();
    let comment = "a copy A without its magic, and the records and the journal of a re-encryption behind it";
    let vector = suite.success("journaled-damaged-copy-a", "journaled.img", &rules, comment);
    (vector.edit, vector.after) = (unsigned, "whole".to_owned());
}

/// The header from before, put back or kept in a file.
fn copies_from_before(suite: &mut Suite) {
    let rules = ["NAT-REENC-17"];
    let ([a, _], _) = header_before("moving");
    let edits = vec![edit(0, &a[..6_144]), edit(BACKUP, &[0; COPY])];
    let comment = "copy A from before the start put back, and copy B lost";
    let vector = suite.failure("old-copy-a-alone", &rules, "header failure", comment);
    (vector.base, vector.edit) = ("moving.img".to_owned(), edits);
    let comment = "copy A from before the start put back; copy B, which is newer, lacks its magic, and counts all the same";
    let vector = suite.success("old-copy-a-unfinished-copy-b", "moving.img", &["NAT-RD-08"], comment);
    vector.edit = vec![edit(0, &a[..6_144]), edit(BACKUP, &[0; 16])];
    // Copy B has the new key, and the same password opens it.
    let comment = "copy A from before the start put back; copy B, which is newer, opens and heals it";
    let vector = suite.success("old-copy-a", "moving.img", &["NAT-RD-04", "NAT-UPD-04"], comment);
    vector.edit = vec![edit(0, &a[..6_144])];
    let comment = "the same; copy A, which has another sector size, has begun to go";
    let rules = ["NAT-UPD-02", "NAT-UPD-08"];
    let vector = suite.success("old-copy-a-with-half-its-magic", "moving.img", &rules, comment);
    vector.edit = vec![edit(0, &a[..6_144]), edit(7, &[0; 9])];

    let rules = ["NAT-REENC-17"];
    let header =
        || Some(HeaderPart { base: "moving-before.header".to_owned(), length: None, edit: Vec::new() });
    let comment = "a detached header from before a re-encryption that is under way";
    let vector = suite.failure("old-detached", &rules, "header failure", comment);
    (vector.base, vector.header, vector.edit) = ("moving.img".to_owned(), header(), without_header());
    let bytes = record(&suite.bases["moving.img"], (6, 16_384, 0), |record| record[20] = 2);
    let comment = "a detached header from before a re-encryption that has ended";
    let vector = suite.failure("old-detached-ended", &rules, "header failure", comment);
    (vector.base, vector.header) = ("moving.img".to_owned(), header());
    vector.edit = [without_header(), vec![wiped(FRONT), wiped(TAIL)], placed(&bytes)].concat();
}

/// What power cuts and other programs leave of the work areas.
fn losses(suite: &mut Suite) {
    let rules = ["NAT-REENC-06", "NAT-REENC-08"];
    for (name, area) in [("front", FRONT), ("tail", TAIL)] {
        let comment = "the newest record, idle, torn in one work area";
        let vector = suite.success(&format!("moving-torn-record-{name}"), "moving.img", &rules, comment);
        vector.edit = vec![edit(area + 4_096 + 40, &[0; 512])];
        let comment = "one work area written over while at rest";
        let vector = suite.success(&format!("moving-no-{name}"), "moving.img", &rules, comment);
        (vector.edit, vector.after) = (vec![wiped(area)], "whole".to_owned());
        let comment = "the newest record, with a chunk, torn in one work area";
        let vector = suite.success(
            &format!("journaled-torn-record-{name}"),
            "journaled.img",
            &["NAT-REENC-06", "NAT-REENC-07"],
            comment,
        );
        (vector.edit, vector.after) = (vec![edit(area + 40, &[0; 512])], "whole".to_owned());
    }
    let comment = "the tail, without the journal, written over";
    let vector = suite.success("journaled-no-tail", "journaled.img", &["NAT-REENC-07"], comment);
    (vector.edit, vector.after) = (vec![wiped(TAIL)], "whole".to_owned());

    for base in ["moving", "journaled"] {
        for read_only in [false, true] {
            let name = format!("{base}-no-records{}", if read_only { "-read-only" } else { "" });
            let comment = "nothing tells any more how far it was";
            let vector = suite.failure(&name, &["NAT-REENC-06"], "header failure", comment);
            (vector.base, vector.read_only) = (format!("{base}.img"), read_only);
            vector.edit = vec![wiped(FRONT), wiped(TAIL)];
        }
    }
}
