//! `stick`.

use std::path::PathBuf;

use clap::{Args, ValueHint, value_parser};
use strongroom::format::veracrypt::{MAX_PIM, Prf};

use super::{CostOptions, FileSystemChoice, NewFormat, ProvisionChoice, SecretOptions, opaque};
use crate::cli::size::{StickSize, parse_stick_size};

#[derive(Debug, Args)]
pub(crate) struct StickOptions {
    /// Where the stick is mounted
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) mountpoint: PathBuf,
    /// Size of the vault (10G or 10GiB is 10·2^30 bytes, 10GB is 10·10^9), or max: nearly all of the free space. What is
    /// too large for a file of FAT32 becomes a folder of pieces; in other formats it takes 4 GiB at most
    #[arg(short, long, value_name = "SIZE|max", value_parser = parse_stick_size)]
    pub(crate) size: StickSize,
    /// Name of the vault, without its ending: letters, digits, dots, dashes and underscores
    #[arg(long, default_value = "private", value_parser = parse_name)]
    pub(crate) name: String,
    /// Container format; veracrypt can also be opened on Windows and macOS, by VeraCrypt
    #[arg(long, value_enum, default_value_t = NewFormat::Native, value_name = "FORMAT")]
    pub(crate) format: NewFormat,
    /// File system to make inside; exfat is at home on every machine and knows no owners
    #[arg(long, value_enum, default_value_t = FileSystemChoice::Exfat, value_name = "TYPE")]
    pub(crate) filesystem: FileSystemChoice,
    /// The program to put on the stick [default: the one that runs now]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) program: Option<PathBuf>,
    /// How the stick's space is allocated
    #[arg(long, value_enum, default_value_t = ProvisionChoice::Thick, value_name = "HOW")]
    pub(crate) provision: ProvisionChoice,
    /// A name for the container, readable without the password (64 bytes at most; LUKS2 47, LUKS1 has none)
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Hash that derives the VeraCrypt header key from the password [default: sha512]
    #[arg(long, value_name = "NAME", value_parser = opaque::prf_parser())]
    pub(crate) prf: Option<Prf>,
    /// The PIM of a VeraCrypt header; 0 is the usual one
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=i64::from(MAX_PIM)))]
    pub(crate) pim: Option<u32>,
    #[command(flatten)]
    pub(crate) cost: CostOptions,
    #[command(flatten)]
    pub(crate) secrets: SecretOptions,
}

/// A name that every file system and every shell takes as it is.
fn parse_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && text.len() <= MAX_NAME_LEN && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("takes up to 64 letters, digits, dots, dashes and underscores, and begins with a letter or a digit"
        .to_owned())
}

const MAX_NAME_LEN: usize = 64;

pub(crate) const EXAMPLES: &str = "\
Examples:
  strongroom stick /media/anna/STICK --size max
  strongroom stick /media/anna/STICK --size 8G --program target/dist/strongroom-static
  strongroom stick /media/anna/STICK --size max --format veracrypt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain() {
        for name in ["private", "2026.photos_of-us", "a"] {
            assert_eq!(parse_name(name).as_deref(), Ok(name));
        }
        for name in ["", ".hidden", "-n", "a b", "a/b", "a'b", "$HOME", "bücher", &"a".repeat(65)] {
            parse_name(name).unwrap_err();
        }
    }
}
