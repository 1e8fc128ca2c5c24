#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test stops at the first thing that is not as it must be"
)]

use super::*;
use crate::{crypto::crc::crc32, storage::MemoryStorage};

const LINUX: [u8; 16] = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";

/// A medium of so many sectors with a GPT of these partitions, each a first and a last block.
fn gpt(sector: usize, sectors: usize, partitions: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; sector * sectors];
    let mut entries = vec![0; 128 * 128];
    for (entry, (first, last)) in entries.chunks_mut(128).zip(partitions) {
        entry[..16].copy_from_slice(&LINUX);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
        entry[56..60].copy_from_slice(b"h\0\xe9\0");
    }
    let last = sectors - 1;
    let len = entries.len().div_ceil(sector);
    for (block, array) in [(1, 2), (last, last - len)] {
        bytes[array * sector..][..entries.len()].copy_from_slice(&entries);
        let at = block * sector;
        let mut header = [0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        header[24..32].copy_from_slice(&(block as u64).to_le_bytes());
        header[72..80].copy_from_slice(&(array as u64).to_le_bytes());
        header[80..84].copy_from_slice(&128_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
        let sum = crc32(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        bytes[at..at + 92].copy_from_slice(&header);
    }
    bytes
}

/// Puts a table of these entries (kind, start, sectors) at an offset.
fn put_mbr(bytes: &mut [u8], at: usize, entries: &[(u8, u32, u32)]) {
    bytes[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
    for (entry, (kind, start, sectors)) in bytes[at + 446..at + 510].chunks_mut(16).zip(entries) {
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    }
}

fn table(bytes: &[u8]) -> Option<PartitionTable> {
    read(&MemoryStorage::new(bytes.to_vec())).unwrap()
}

fn places(table: &PartitionTable) -> Vec<(u32, u64, u64)> {
    table.partitions.iter().map(|found| (found.number, found.start, found.len)).collect()
}

#[test]
fn gpt_is_read_with_either_size_of_sector_and_from_either_copy() {
    for sector in [512, 4096] {
        let whole = gpt(sector, 300, &[(64, 99), (100, 100)]);
        let len = sector as u64;
        let expected = vec![(1, 64 * len, 36 * len), (2, 100 * len, len)];
        let found = table(&whole).unwrap();
        assert_eq!((found.scheme, found.sector_size.bytes(), found.flaw), (Scheme::Gpt, sector, None));
        assert_eq!(places(&found), expected);
        let first = &found.partitions[0];
        assert_eq!((first.kind.as_str(), first.name.as_deref()), ("Linux", Some("h\u{e9}")));

        for damaged in [sector, sector * 2 + 40] {
            let mut bytes = whole.clone();
            bytes[damaged] ^= 1;
            let found = table(&bytes).unwrap();
            assert_eq!(places(&found), expected);
            assert!(found.flaw.unwrap().contains("first copy is damaged"));
            let end = bytes.len() - sector;
            bytes[end] ^= 1;
            assert_eq!(table(&bytes), None);
        }
    }
}

#[test]
fn a_gpt_entry_that_makes_no_sense_is_left_out_and_numbers_stay() {
    let found =
        table(&gpt(512, 300, &[(64, 63), (64, u64::MAX), (70, 80), (u64::MAX / 2, u64::MAX / 2)])).unwrap();
    assert_eq!(places(&found), [(3, 70 * 512, 11 * 512)]);
}

#[test]
fn a_gpt_of_more_entries_than_any_has_is_not_read() {
    let mut bytes = gpt(512, 300, &[(64, 99)]);
    for at in [512, 299 * 512] {
        bytes[at + 80..at + 84].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[at + 16..at + 20].fill(0);
        let sum = crc32(&bytes[at..at + 92]);
        bytes[at + 16..at + 20].copy_from_slice(&sum.to_le_bytes());
    }
    assert_eq!(table(&bytes), None);
}

#[test]
fn primary_and_logical_partitions_have_the_numbers_of_linux() {
    let mut bytes = vec![0; 512 * 100];
    put_mbr(&mut bytes, 0, &[(0x83, 2, 8), (0x0f, 20, 60), (0, 0, 0), (0x07, 90, 10)]);
    put_mbr(&mut bytes, 20 * 512, &[(0x83, 1, 9), (0x05, 20, 20)]);
    put_mbr(&mut bytes, 40 * 512, &[(0xe8, 2, 7)]);
    let found = table(&bytes).unwrap();
    assert_eq!(found.scheme, Scheme::Mbr);
    assert_eq!(
        places(&found),
        [(1, 1024, 4096), (4, 90 * 512, 5120), (5, 21 * 512, 9 * 512), (6, 42 * 512, 7 * 512)]
    );
    assert_eq!(found.partition(6).unwrap().kind, "LUKS");
    assert_eq!(found.flaw, None);
}

#[test]
fn a_chain_of_logical_partitions_that_bites_its_tail_ends() {
    let mut bytes = vec![0; 512 * 100];
    put_mbr(&mut bytes, 0, &[(0x05, 20, 60)]);
    put_mbr(&mut bytes, 20 * 512, &[(0x83, 1, 9), (0x05, 20, 20)]);
    put_mbr(&mut bytes, 40 * 512, &[(0x83, 1, 9), (0x05, 20, 20)]);
    let found = table(&bytes).unwrap();
    assert_eq!(places(&found), [(5, 21 * 512, 9 * 512), (6, 41 * 512, 9 * 512)]);
    assert!(found.flaw.unwrap().contains("no end"));
    bytes[40 * 512 + 510] = 0;
    assert!(table(&bytes).unwrap().flaw.unwrap().contains("breaks off"));
}

#[test]
fn a_table_in_units_of_4096_bytes_is_told_by_what_it_points_at() {
    let mut bytes = vec![0; 4096 * 100];
    put_mbr(&mut bytes, 0, &[(0x83, 8, 80)]);
    assert_eq!(places(&table(&bytes).unwrap()), [(1, 8 * 512, 80 * 512)]);
    bytes[8 * 4096..][..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    let found = table(&bytes).unwrap();
    assert_eq!(places(&found), [(1, 8 * 4096, 80 * 4096)]);
    assert_eq!(found.sector_size.bytes(), 4096);
}

#[test]
fn a_boot_sector_of_a_file_system_is_no_table_and_the_first_bytes_of_a_header_before_one_are_nothing() {
    let mut bytes = vec![0; 512 * 100];
    put_mbr(&mut bytes, 0, &[(0x83, 2, 8)]);
    let whole = table(&bytes);
    let none = None;
    for (at, magic, expected) in [
        (3, &b"NTFS    "[..], &none),
        (82, b"FAT32   ", &none),
        (0, b"XFSB", &none),
        (0, b"LUKS\xba\xbe\0\x01", &whole),
        (0, b"LUKS\xba\xbe\0\x02", &whole),
    ] {
        let mut bytes = bytes.clone();
        bytes[at..at + magic.len()].copy_from_slice(magic);
        assert_eq!(&table(&bytes), expected, "{magic:?}");
    }
    assert_eq!(table(&bytes[..512]).map(|found| found.partitions.len()), Some(1));
    assert_eq!(table(&bytes[..511]), None);
    put_mbr(&mut bytes, 0, &[(0xee, 1, u32::MAX)]);
    assert_eq!(table(&bytes), None, "a GPT of which nothing is left");
}

#[test]
fn a_partition_ends_where_its_medium_does() {
    let partition = Partition { number: 1, start: 1024, len: 4096, kind: String::new(), name: None };
    assert_eq!(partition.range(8192), Some(1024..5120));
    assert!(!partition.is_cut_off(5120) && partition.is_cut_off(5119));
    assert_eq!(partition.range(2048), Some(1024..2048));
    assert_eq!(partition.range(1024), None);
}
