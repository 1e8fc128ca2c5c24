//! The table of all signatures, in the order that [the module](super) explains.

use super::{
    FileSystem, Owner, Signature, Test, is_apple, is_bzip2, is_cryptomator, is_ecryptfs, is_encfs,
    is_encrypted_qcow2, is_encrypted_system, is_ext, is_ext3, is_ext4, is_fat, is_gocryptfs, is_luks,
    is_luks1, is_minix, is_native, is_nilfs2, is_openpgp, is_partitioned, is_stratis, is_sun, is_swap,
};
use crate::format::folder;

/// What a table of UEFI is called.
pub const GPT: &str = "a GPT partition table";
/// What a table in the first sector is called.
pub const PARTITION_TABLE: &str = "a partition table";
/// What is left of LUKS2 where its first header is gone.
pub const SECOND_LUKS: &str = "the second header of a LUKS2 container";
const LVM: &str = "an LVM physical volume";
const LVM_WAY: &str = "as root: losetup -f --show FILE (not for a device), then vgchange -ay";
pub(super) const RAID: &str = "a member of a RAID";
pub(super) const RAID_WAY: &str =
    "as root: losetup -f --show FILE (not for a device), then mdadm --assemble --scan";
pub(super) const ZFS: &str = "a member of a ZFS pool";
pub(super) const ZFS_WAY: &str = "as root: zpool import -d FILE finds the pool";
const QCOW2: &str = "a qcow2 disk image, which must be converted to a raw one";
const TO_RAW: &str = "qemu-img convert -O raw FILE NEW makes a raw image of it";
const KEEPASS: &str = "a KeePass database";
const KEEPASS_WAY: &str = "KeePassXC opens it";
const GUNZIP: &str = "what is in it comes out first: gunzip -c FILE > NEW";
const GPG_WAY: &str = "gpg -d FILE opens it";
const AGE: &str = "a file encrypted by age";
const AGE_WAY: &str = "age -d FILE opens it";
const OPENSSL: &str = "a file encrypted by openssl enc";
const BITLOCKER: &str = "a BitLocker volume";
const BITLOCKER_WAY: &str = "cryptsetup open --type bitlk FILE NAME opens it";

/// A whole disk, whatever its partitions are.
pub const ENCRYPTED_SYSTEM: &str = "a disk whose system TrueCrypt or VeraCrypt has encrypted";
const ENCRYPTED_SYSTEM_WAY: &str =
    "the header is that of all of the disk: --format veracrypt --system opens it";

const OCFS2: &str = "an OCFS2 file system";
const REISERFS: &str = "a ReiserFS file system";

/// What a medium holds, or a partition of one. All three lists are in the order in which they are looked for.
pub(super) static ON_MEDIA: &[Signature] = &[
    // These leave the first sector as it was.
    other(512, b"EFI PART", GPT),
    other(4096, b"EFI PART", GPT),
    foreign(512, b"LABELONE", LVM, LVM_WAY),
    foreign(1024, b"LABELONE", LVM, LVM_WAY),
    foreign(1536, b"LABELONE", LVM, LVM_WAY),
    foreign(4096, b"\xfc\x4e\x2b\xa9", RAID, RAID_WAY),
    // In the first sector.
    Signature {
        test: Test::Look(is_native),
        owner: Owner::Native,
        name: "a strongroom container",
        way_in: None,
    },
    looked(is_luks1, "a LUKS1 header"),
    Signature { test: Test::Look(is_luks), owner: Owner::Luks, name: "a LUKS header", way_in: None },
    foreign(0, b"LABELONE", LVM, LVM_WAY),
    foreign(0, b"\xfc\x4e\x2b\xa9", RAID, RAID_WAY),
    file_system(Test::Magic(0, b"XFSB"), FileSystem::Xfs, "an XFS file system"),
    file_system(Test::Magic(3, b"EXFAT   "), FileSystem::Exfat, "an exFAT file system"),
    file_system(Test::Magic(3, b"NTFS    "), FileSystem::Ntfs, "an NTFS file system"),
    foreign(3, b"-FVE-FS-", BITLOCKER, BITLOCKER_WAY),
    // BitLocker To Go has a boot sector of FAT.
    foreign(
        424,
        b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01",
        BITLOCKER,
        BITLOCKER_WAY,
    ),
    foreign(
        3,
        b"PGPGUARD",
        "a disk encrypted by PGP Whole Disk Encryption",
        "Symantec Encryption Desktop opens it",
    ),
    foreign(3, b"LOCOS94 ", "a BestCrypt container", "BestCrypt opens it"),
    foreign(32, b"NXSB", "an APFS container", "apfs-fuse opens it, also where FileVault has encrypted it"),
    foreign(0, b"integrt\0", "a dm-integrity volume", "integritysetup open FILE NAME opens it"),
    foreign(0, b"verity\0\0", "a dm-verity hash tree", "veritysetup opens the volume that it belongs to"),
    other(0, b"hsqs", "a SquashFS image"),
    other(0, b"-rom1fs-", "a romfs image"),
    other(0, b"\x45\x3d\xcd\x28", "a cramfs image"),
    other(0, b"\x28\xcd\x3d\x45", "a cramfs image"),
    other(0, b"\x31\x18\x10\x06", "a UBIFS volume"),
    other(0, b"UBI#", "a UBI device"),
    other(0, b"dmvdo001", "a VDO device"),
    other(0, b"SnAp", "a store of dm-snapshot"),
    other(0, b"RDSK", "an Amiga disk"),
    other(64, b"\x57\x45\x56\x82", "a BSD disklabel"),
    other(512, b"\x57\x45\x56\x82", "a BSD disklabel"),
    file_system(Test::Look(is_fat), FileSystem::Fat, "a FAT file system"),
    // Behind it.
    file_system(Test::Look(is_ext4), FileSystem::Ext, "an ext4 file system"),
    file_system(Test::Look(is_ext3), FileSystem::Ext, "an ext3 file system"),
    file_system(Test::Look(is_ext), FileSystem::Ext, "an ext2 file system"),
    other(1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    other(1024, b"H+\0\x04", "an HFS+ file system"),
    other(1024, b"HX\0\x05", "an HFS+ file system"),
    other(1024, b"\xe2\xe1\xf5\xe0", "an EROFS image"),
    other(4086, b"SWAPSPACE2", "swap space"),
    foreign(
        4120,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        "a bcache device",
        "as root: bcache-super-show FILE tells more, and the kernel opens it when the device is registered",
    ),
    foreign(
        4120,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        "a bcachefs file system",
        "as root: bcachefs unlock FILE, where it is encrypted, then mount -t bcachefs",
    ),
    foreign(0x4018, b"version\0", ZFS, ZFS_WAY),
    other(4092, b"\x83\x74\x02\x6d", "a DRBD device"),
    other(4120, b"\xc6\x85\x73\xf6", "a bcachefs file system"),
    other(1024, b"OCFSV2", OCFS2),
    other(2048, b"OCFSV2", OCFS2),
    other(4096, b"OCFSV2", OCFS2),
    other(8192, b"OCFSV2", OCFS2),
    other(0x255c, b"\x54\x19\x01\0", "a UFS1 file system"),
    other(0x255c, b"\x19\x01\x54\x19", "a UFS2 file system"),
    other(0x2034, b"ReIsErFs", REISERFS),
    other(0x8000, b"JFS1", "a JFS file system"),
    file_system(Test::Magic(0x8001, b"CD001"), FileSystem::Iso, "an ISO 9660 file system"),
    file_system(Test::Magic(0x8001, b"BEA01"), FileSystem::Udf, "a UDF file system"),
    other(65_526, b"SWAPSPACE2", "swap space"),
    other(0x1_0000, b"\x01\x16\x19\x70", "a GFS2 file system"),
    other(0x1_0000, b"ReIsEr4", "a Reiser4 file system"),
    other(0x1_0034, b"ReIsErFs", REISERFS),
    other(0x1_0034, b"ReIsEr2Fs", REISERFS),
    other(0x1_0034, b"ReIsEr3Fs", REISERFS),
    other(0x1_055c, b"\x54\x19\x01\0", "a UFS1 file system"),
    other(0x1_055c, b"\x19\x01\x54\x19", "a UFS2 file system"),
    file_system(Test::Magic(0x1_0040, b"_BHRfS_M"), FileSystem::Btrfs, "a btrfs file system"),
    // Few bytes, and nothing before them.
    looked(is_nilfs2, "a NILFS2 file system"),
    looked(is_minix, "a minix file system"),
    looked(is_sun, "a Sun disklabel"),
    looked(is_apple, "an Apple partition map"),
    looked(is_stratis, "a Stratis device"),
    looked(is_swap, "swap space"),
];

/// Files. What is a file system besides is no file.
pub(super) static FILES: &[Signature] = &[
    Signature {
        test: Test::Look(is_encrypted_qcow2),
        owner: Owner::Image,
        name: "a qcow2 disk image, encrypted with LUKS",
        way_in: Some(
            "qemu-img convert --object secret,id=s,file=PASSWORD --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=FILE -O raw NEW decrypts it",
        ),
    },
    image(0, b"QFI\xfb", QCOW2),
    image(0, b"KDMV", "a VMDK disk image, which must be converted to a raw one"),
    image(0, b"COWD", "a VMDK disk image, which must be converted to a raw one"),
    image(0, b"# Disk DescriptorFile", "the description of a VMDK disk image"),
    image(0, b"vhdxfile", "a VHDX disk image, which must be converted to a raw one"),
    image(0, b"conectix", "a VHD disk image, which must be converted to a raw one"),
    image(64, b"\x7f\x10\xda\xbe", "a VDI disk image, which must be converted to a raw one"),
    image(0, b"QED\0", "a QED disk image, which must be converted to a raw one"),
    image(0, b"WithouFreSpacExt", "a Parallels disk image, which must be converted to a raw one"),
    image_by(
        0,
        b"EVF\x09\x0d\x0a\xff\0",
        "an EnCase disk image",
        "ewfmount FILE DIR shows the raw image in it",
    ),
    foreign(
        0,
        b"encrcdsa",
        "an encrypted disk image of macOS (DMG)",
        "hdiutil attach FILE opens it on a Mac",
    ),
    image_by(0, b"sprs", "a sparse disk image of macOS", "hdiutil attach FILE opens it on a Mac"),
    foreign(0, b"\x03\xd9\xa2\x9a\x67\xfb\x4b\xb5", KEEPASS, KEEPASS_WAY),
    foreign(0, b"\x03\xd9\xa2\x9a\x66\xfb\x4b\xb5", KEEPASS, KEEPASS_WAY),
    foreign(0, b"\x03\xd9\xa2\x9a\x65\xfb\x4b\xb5", KEEPASS, KEEPASS_WAY),
    foreign(0, b"Salted__", OPENSSL, "openssl enc -d opens it, with the cipher and options it was made with"),
    foreign(
        0,
        b"U2FsdGVkX1",
        OPENSSL,
        "openssl enc -d -a opens it, with the cipher and options it was made with",
    ),
    foreign(0, b"TFVLU7q+", "a LUKS container in base64", "base64 -d FILE > NEW makes a container of it"),
    foreign(0, b"AES\x01", "a file encrypted by AES Crypt", "aescrypt -d FILE opens it"),
    foreign(0, b"AES\x02", "a file encrypted by AES Crypt", "aescrypt -d FILE opens it"),
    foreign(0, b"AES\x03", "a file encrypted by AES Crypt", "aescrypt -d FILE opens it"),
    foreign(0, b"$ANSIBLE_VAULT;", "a file encrypted by ansible-vault", "ansible-vault view FILE opens it"),
    foreign(0, b"age-encryption.org/", AGE, AGE_WAY),
    foreign(0, b"-----BEGIN AGE ENCRYPTED FILE", AGE, AGE_WAY),
    foreign(0, b"-----BEGIN PGP MESSAGE", "a file encrypted by GnuPG", GPG_WAY),
    looked_foreign(is_openpgp, "a file encrypted by GnuPG", GPG_WAY),
    foreign(0, b"scrypt\0", "a file encrypted by scrypt", "scrypt dec FILE NEW decrypts it"),
    foreign(
        0,
        b"\xc0\xb9\x07\x2e\x4f\x93\xf1\x46\xa0\x15\x79\x2c\xa1\xd9\xe8\x21",
        "a file encrypted by AxCrypt",
        "AxCrypt opens it",
    ),
    foreign(0, b"PGPdMAIN", "a PGP virtual disk", "Symantec Encryption Desktop opens it"),
    looked_foreign(
        is_ecryptfs,
        "a file encrypted by eCryptfs",
        "as root, mount -t ecryptfs opens the folder that it lies in",
    ),
    foreign(0, b"cryfs.config;", "the configuration of a CryFS folder", folder::CRYFS),
    looked_foreign(is_gocryptfs, "the configuration of a gocryptfs folder", folder::GOCRYPTFS),
    looked_foreign(is_encfs, "the configuration of an EncFS folder", folder::ENCFS),
    looked_foreign(is_cryptomator, "the key file of a Cryptomator vault", folder::CRYPTOMATOR),
    foreign(0, b"eyJraWQiOiJtYXN0ZXJrZXlmaWxl", "a part of a Cryptomator vault", folder::CRYPTOMATOR),
    image_by(
        0,
        b"\x3a\xff\x26\xed\x01\0",
        "an Android sparse image",
        "simg2img FILE NEW makes a raw image of it",
    ),
    foreign(0, b"PK\x03\x04", "a zip archive", "7z x FILE opens it, also where it is encrypted"),
    foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x FILE opens it, also where it is encrypted"),
    foreign(0, b"Rar!\x1a\x07", "a rar archive", "unrar x FILE opens it, also where it is encrypted"),
    foreign(0, b"\xfd7zXZ\0", "an xz archive", "what is in it comes out first: xz -dc FILE > NEW"),
    foreign(0, b"\x1f\x8b\x08\0", "a gzip archive", GUNZIP),
    foreign(0, b"\x1f\x8b\x08\x08", "a gzip archive", GUNZIP),
    foreign(0, b"\x28\xb5\x2f\xfd", "a zstd archive", "what is in it comes out first: unzstd FILE -o NEW"),
    looked_foreign(is_bzip2, "a bzip2 archive", "what is in it comes out first: bunzip2 -c FILE > NEW"),
    foreign(0, b"PWS3", "a Password Safe database", "Password Safe or Password Gorilla opens it"),
    other(257, b"ustar", "a tar archive"),
    other(0, b"-----BEGIN ", "a text file"),
    other(0, b"\x7fELF", "a program"),
    other(0, b"%PDF-", "a PDF document"),
    other(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
    other(0, b"SQLite format 3\0", "an SQLite database"),
    other(0, b"\x89PNG", "a picture"),
    other(0, b"\xff\xd8\xff\xe0", "a picture"),
    other(0, b"\xff\xd8\xff\xe1", "a picture"),
];

/// What is of a medium again, where nothing else is there.
pub(super) static LAST: &[Signature] = &[
    looked_foreign(is_encrypted_system, ENCRYPTED_SYSTEM, ENCRYPTED_SYSTEM_WAY),
    // File systems and boot loaders may look like it.
    Signature { test: Test::Look(is_partitioned), owner: Owner::Other, name: PARTITION_TABLE, way_in: None },
    // What stands before it counts, where that is anything.
    second_luks(0x4000, b"SKUL\xba\xbe"),
    second_luks(0x8000, b"SKUL\xba\xbe"),
    second_luks(0x1_0000, b"SKUL\xba\xbe"),
];

const fn other(offset: usize, magic: &'static [u8], name: &'static str) -> Signature {
    Signature { test: Test::Magic(offset, magic), owner: Owner::Other, name, way_in: None }
}

const fn looked(is_there: fn(&[u8]) -> bool, name: &'static str) -> Signature {
    Signature { test: Test::Look(is_there), owner: Owner::Other, name, way_in: None }
}

const fn second_luks(offset: usize, magic: &'static [u8]) -> Signature {
    Signature { test: Test::Magic(offset, magic), owner: Owner::Luks, name: SECOND_LUKS, way_in: None }
}

const fn looked_foreign(is_there: fn(&[u8]) -> bool, name: &'static str, way_in: &'static str) -> Signature {
    Signature { test: Test::Look(is_there), owner: Owner::Other, name, way_in: Some(way_in) }
}

/// What another program opens.
const fn foreign(offset: usize, magic: &'static [u8], name: &'static str, way_in: &'static str) -> Signature {
    Signature { test: Test::Magic(offset, magic), owner: Owner::Other, name, way_in: Some(way_in) }
}

/// A disk image of which qemu-img makes a raw one.
const fn image(offset: usize, magic: &'static [u8], name: &'static str) -> Signature {
    image_by(offset, magic, name, TO_RAW)
}

const fn image_by(
    offset: usize,
    magic: &'static [u8],
    name: &'static str,
    way_in: &'static str,
) -> Signature {
    Signature { test: Test::Magic(offset, magic), owner: Owner::Image, name, way_in: Some(way_in) }
}

const fn file_system(test: Test, found: FileSystem, name: &'static str) -> Signature {
    let way_in = Some("it is not encrypted: mount(8) shows what is in it");
    Signature { test, owner: Owner::FileSystem(found), name, way_in }
}
