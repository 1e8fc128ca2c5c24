//! What opens a LUKS container that is not opened here: hints in which CONTAINER and NAME stand for what the user knows.

/// What the kernel may have, and this program has not.
pub(in crate::format) const KERNEL: &str =
    "as root, cryptsetup open CONTAINER NAME opens it, if the kernel has what it takes";
/// What protects so little that it is better left.
pub(in crate::format) const TO_COPY: &str =
    "as root, cryptsetup open CONTAINER NAME opens it: copy its files to a new container";
/// What came after this program, or is for another one.
pub(in crate::format) const NEWER: &str =
    "a newer cryptsetup, or the program that made it, may open it: as root, cryptsetup open CONTAINER NAME";
/// What a drive encrypts by itself.
pub(in crate::format) const OPAL: &str =
    "cryptsetup 2.7 or newer opens it, on that drive alone: as root, cryptsetup open DEVICE NAME";
/// What stands in sectors that only the drive shows.
pub(in crate::format) const DRIVE_TAGS: &str =
    "cryptsetup 2.8 or newer opens it, on that drive alone: as root, cryptsetup open DEVICE NAME";
/// A re-encryption that cryptsetup has begun in a header of the second version.
pub(in crate::format) const REENCRYPTION: &str =
    "cryptsetup ends it, as root: cryptsetup reencrypt --resume-only CONTAINER";
/// The same by the program of old.
pub(in crate::format) const OLD_REENCRYPTION: &str = "cryptsetup ends it, as root: cryptsetup reencrypt CONTAINER, in the folder with the LUKS-*.log file that \
     it left there (before 2.5: cryptsetup-reencrypt)";
/// Where the header is damaged, of which the data know nothing.
pub(in crate::format) const HEADER_ALONE: &str = "the data may be whole: strongroom header repair --scan CONTAINER says what is left of the header; where that is nothing, strongroom \
     header restore puts a backup of it back";
