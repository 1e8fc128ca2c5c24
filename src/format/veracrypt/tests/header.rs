//! Headers: their fields, damage, copies.

use super::*;

#[test]
fn a_header_is_read_as_it_was_written() {
    // proves: VC-HDR-01
    // proves: VC-DATA-01
    for (format, seal, family) in [(TRUECRYPT, OLD, Family::TrueCrypt), (VERACRYPT, NEW, Family::VeraCrypt)] {
        let header = header(family);
        let (info, unlocked) = unlock(format, seal.container(family, &plain(&header)), seal.hints()).unwrap();
        assert_eq!((info.format, info.version), (family.name(), u32::from(header.version)));
        assert_eq!((info.data_offset, info.data_size), (DATA.start, 65_536));
        assert_eq!((segment(&unlocked).storage_offset, segment(&unlocked).sectors), (DATA.start, 128));
        let parsed = VolumeHeader::parse(&plain(&header)).unwrap().unwrap();
        assert_eq!(plain(&parsed), plain(&header));
    }
}

#[test]
fn damage_is_told_from_a_wrong_password() {
    // proves: VC-HDR-02
    // proves: VC-HDR-03
    // proves: VC-HDR-07
    // proves: VC-TRIAL-05
    let whole = plain(&header(Family::TrueCrypt));
    // In bytes of the decrypted header.
    for (at, expected) in [
        (0, HeaderError::Start),
        (250, HeaderError::Keys),
        (30, HeaderError::Fields),
        (188, HeaderError::Fields),
    ] {
        let mut plain = whole;
        plain[at] ^= 1;
        let error = unlock(TRUECRYPT, OLD.container(Family::TrueCrypt, &plain), Hints::NONE).unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (ErrorKind::Damaged, expected.to_string().as_str()),
            "{at}"
        );
    }
    // On the medium a cipher block is lost with each byte.
    for (at, expected) in [(64, HeaderError::Start), (120, HeaderError::Fields), (300, HeaderError::Keys)] {
        let mut bytes = OLD.container(Family::TrueCrypt, &whole);
        bytes[at] ^= 1;
        let error = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap_err();
        assert_eq!(error.reason(), expected.to_string(), "{at}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--backup-header")), "{error}");
    }
    let mut bytes = OLD.container(Family::TrueCrypt, &whole);
    bytes[3] ^= 1;
    let error = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials, "a damaged salt cannot be told");
}

#[test]
fn a_damaged_header_does_not_hide_its_copy() {
    let plain = plain(&header(Family::TrueCrypt));
    let mut bytes = OLD.container(Family::TrueCrypt, &plain);
    Seal { place: Place::Backup, ..OLD }.put(Family::TrueCrypt, &plain, &mut bytes);
    bytes[70] ^= 1;
    let quick = Hints { prf: Some(Prf::Ripemd160), ..Hints::NONE };
    let (info, _) = unlock(TRUECRYPT, bytes, quick).unwrap();
    assert_eq!(info.headers.last().unwrap().offset, LEN - 131_072);
}

#[test]
fn versions_that_are_not_known_are_refused_by_number() {
    // proves: VC-HDR-04
    // proves: VC-HDR-05
    for (version, minimum, reason) in [
        (0, 0x0600, "the header has version 0"),
        (6, 0x0600, "the header has version 6"),
        (5, 0x0800, "the container asks for version 8.00 of its program"),
    ] {
        let error = refusal(|header| (header.version, header.minimum) = (version, minimum));
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Unsupported, reason));
    }
}

#[test]
fn sectors_of_version_5_have_the_sizes_that_there_are() {
    // proves: VC-HDR-06
    let with_size = |version: u8, size: u32| {
        let mut plain = plain(&header(Family::VeraCrypt));
        plain[5] = version;
        plain[64..68].copy_from_slice(&size.to_be_bytes());
        let checksum = crate::crypto::crc::crc32(&plain[..188]);
        plain[188..192].copy_from_slice(&checksum.to_be_bytes());
        VolumeHeader::parse(&plain)
    };
    for (version, size, expected) in [
        (5, 0, SectorSize::B512),
        (5, 512, SectorSize::B512),
        (5, 1024, SectorSize::B1024),
        (5, 2048, SectorSize::B2048),
        (5, 4096, SectorSize::B4096),
        (4, 4097, SectorSize::B512),
    ] {
        assert_eq!(with_size(version, size).unwrap().unwrap().sector_size, expected, "{version} {size}");
    }
    for size in [1, 256, 513, 8192, u32::MAX] {
        assert_eq!(with_size(5, size).unwrap_err(), HeaderError::SectorSize(size));
    }
}

#[test]
fn the_copy_of_a_hidden_volumes_header_opens_by_itself_with_one_function() {
    // proves: VC-PLACE-03
    // proves: VC-TRIAL-07
    let plain = plain(&header(Family::VeraCrypt));
    let alone = Seal { place: Place::HiddenBackup, ..NEW }.container(Family::VeraCrypt, &plain);
    let hidden = Hints { hidden: true, ..NEW.hints() };
    let by_function = Hints { prf: Some(Prf::Sha512), ..hidden };
    let places = |bytes: &[u8]| {
        let (info, _) = unlock(VERACRYPT, bytes.to_vec(), by_function).unwrap();
        info.headers.iter().map(|copy| (copy.offset, copy.state)).collect::<Vec<_>>()
    };
    assert_eq!(places(&alone), [(65_536, CopyState::Damaged), (LEN - 65_536, CopyState::Current)]);
    let mut both = alone.clone();
    Seal { place: Place::Hidden, ..NEW }.put(Family::VeraCrypt, &plain, &mut both);
    assert_eq!(places(&both), [(65_536, CopyState::Current)]);
    // Every function would take twice as long there: the copy is named.
    let error = unlock(VERACRYPT, alone, hidden).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(error.hint().is_some_and(|hint| hint.contains("--backup-header")), "{error:?}");
}

#[test]
fn an_original_that_does_not_open_is_told() {
    // proves: VC-TRIAL-07
    let plain = plain(&header(Family::VeraCrypt));
    let copy = Seal { place: Place::Backup, ..NEW };
    let alone = copy.container(Family::VeraCrypt, &plain);
    let mut both = alone.clone();
    NEW.put(Family::VeraCrypt, &plain, &mut both);
    let by_function = Hints { prf: Some(Prf::Sha512), ..NEW.hints() };
    let by_copy = Hints { backup_header: true, ..NEW.hints() };
    let backup_at = LEN - 131_072;
    for (bytes, hints, expected) in [
        (&alone, by_function, vec![(0, CopyState::Damaged), (backup_at, CopyState::Current)]),
        (&alone, by_copy, vec![(0, CopyState::Damaged), (backup_at, CopyState::Current)]),
        (&both, by_function, vec![(0, CopyState::Current)]),
        (&both, by_copy, vec![(backup_at, CopyState::Current)]),
    ] {
        let (info, unlocked) = unlock(VERACRYPT, bytes.clone(), hints).unwrap();
        let found: Vec<_> = info.headers.iter().map(|copy| (copy.offset, copy.state)).collect();
        assert_eq!(found, expected, "{hints:?}");
        let storage = MemoryStorage::new(bytes.clone());
        let header = VERACRYPT.read_header(&storage).unwrap();
        let warns = header
            .check_unlocked(&storage, &unlocked)
            .iter()
            .any(|finding| finding.object == "header" && finding.severity == Severity::Warning);
        assert_eq!(warns, expected.len() == 2, "{hints:?}");
    }
}
