//! Where the data lie, how they are encrypted, what may be written.

use super::*;

#[test]
fn each_chain_opens_with_the_first_of_its_keys() {
    // proves: VC-TRIAL-01
    // proves: VC-KEY-01
    for encryption in Encryption::all(Family::VeraCrypt) {
        let seal = Seal { chain: encryption.chain.name, ..NEW };
        let bytes = seal.container(Family::VeraCrypt, &plain(&header(Family::VeraCrypt)));
        let (info, unlocked) = unlock(VERACRYPT, bytes, seal.hints()).unwrap();
        assert_eq!(info.cipher, encryption.name());

        // As the format has it: every data key, then every tweak key; the last cipher is undone first.
        let count = encryption.chain.ciphers.len();
        let mut sector: Vec<u8> = (0..=255).cycle().take(512).collect();
        let expected = sector.clone();
        let key: Vec<u8> = (1..=192).collect();
        for (index, &cipher) in encryption.chain.ciphers.iter().enumerate() {
            let both = [&key[32 * index..][..32], &key[32 * (count + index)..][..32]].concat();
            let spec = crate::crypto::sector::SectorSpec {
                cipher,
                mode: crate::crypto::sector::Mode::Xts(crate::crypto::sector::IvMode::Plain64),
            };
            spec.keyed(&both, 0).unwrap().encrypt(&mut sector, SectorSize::B512, Sector(256));
        }
        // proves: VC-DATA-05
        let segment = segment(&unlocked);
        assert_eq!(segment.first_tweak, Sector(256));
        segment.cipher.decrypt(&mut sector, SectorSize::B512, segment.first_tweak);
        assert!(sector == expected, "{}", info.cipher);
    }
}

#[test]
fn old_modes_open_read_only_with_their_own_numbering() {
    // proves: VC-KEY-02
    // proves: VC-KEY-03
    // proves: VC-DATA-02
    // proves: VC-DATA-06
    // proves: VC-DATA-07
    for mode in [Mode::Lrw, Mode::Cbc] {
        for chain in ["aes", "twofish-aes", "aes-twofish-serpent"] {
            let seal = Seal { chain, mode, ..OLD };
            let bytes = seal.container(Family::TrueCrypt, &plain(&old_header()));
            let storage = MemoryStorage::new(bytes);
            let header = TRUECRYPT.read_header(&storage).unwrap();
            let unlocked = header.unlock(&credentials(PASSWORD), &Attempt::default()).unwrap();
            let info = header.describe_unlocked(&unlocked);
            assert_eq!(info.cipher, format!("{chain}-{}", mode.name()));
            assert_eq!((info.data_offset, info.data_size), (512, LEN - 512));
            assert_eq!(segment(&unlocked).first_tweak, Sector(0));
            let error = header.prepare_writing(&storage, &unlocked).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
    }
}

#[test]
fn the_hidden_volume_of_an_old_container_lies_before_its_header() {
    // proves: VC-DATA-02
    let mut hidden = old_header();
    hidden.hidden_size = 4096;
    let seal = Seal { mode: Mode::Lrw, place: Place::OldHidden, ..OLD };
    let bytes = seal.container(Family::TrueCrypt, &plain(&hidden));
    let (info, _) = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap();
    assert_eq!((info.data_offset, info.data_size), (LEN - 1536 - 4096, 4096));

    hidden.hidden_size = LEN;
    let error =
        unlock(TRUECRYPT, seal.container(Family::TrueCrypt, &plain(&hidden)), Hints::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
}

#[test]
fn data_that_cannot_be_are_refused() {
    // proves: VC-DATA-03
    for (start, len) in [
        (0, 65_536),
        (511, 65_536),
        (DATA.start + 1, 65_536),
        (DATA.start, 0),
        (DATA.start, 1),
        (DATA.start, 513),
        (u64::MAX - 511, 512),
        (u64::MAX - 511, u64::MAX - 511),
        (LEN, 512),
        (LEN + 512, 512),
    ] {
        let error = refusal(|header| (header.area_start, header.area_len) = (start, len));
        assert_eq!(error.kind(), ErrorKind::Damaged, "{start} {len}");
    }
}

#[test]
fn what_is_left_of_a_cut_off_container_opens_for_reading() {
    // proves: VC-DATA-04
    let mut bytes = OLD.container(Family::TrueCrypt, &plain(&header(Family::TrueCrypt)));
    bytes.truncate(usize::try_from(DATA.start).unwrap() + 1300);
    let storage = MemoryStorage::new(bytes);
    let header = TRUECRYPT.read_header(&storage).unwrap();
    let unlocked = header.unlock(&credentials(PASSWORD), &Attempt::default()).unwrap();
    assert_eq!(segment(&unlocked).sectors, 2);
    let error = header.prepare_writing(&storage, &unlocked).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(
        header
            .check_unlocked(&storage, &unlocked)
            .iter()
            .any(|finding| finding.object == "data" && finding.severity == Severity::Error)
    );
}

#[test]
fn a_volume_half_encrypted_in_place_is_not_written_to() {
    // proves: VC-DATA-07
    let mut header = header(Family::TrueCrypt);
    (header.flags, header.volume_size) = (IN_PLACE, 131_072);
    let storage = MemoryStorage::new(OLD.container(Family::TrueCrypt, &plain(&header)));
    let header = TRUECRYPT.read_header(&storage).unwrap();
    let unlocked = header.unlock(&credentials(PASSWORD), &Attempt::default()).unwrap();
    assert_eq!(header.prepare_writing(&storage, &unlocked).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_volume_smaller_than_the_encrypted_area_is_as_large_as_it_says() {
    // proves: VC-DATA-01
    let mut header = header(Family::TrueCrypt);
    for (volume_size, expected) in [(0, 65_536), (4096, 4096), (1 << 40, 65_536)] {
        header.volume_size = volume_size;
        let data = header.data(Place::System, LEN).unwrap();
        assert_eq!((data.start, data.len, data.is_cut_off()), (DATA.start, expected, false));
    }
}

#[test]
fn keys_whose_halves_are_the_same_are_refused() {
    // proves: VC-KEY-01
    let error = refusal(|header| header.keys.as_mut_slice().fill(7));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.reason().contains("halves"), "{error}");
}
