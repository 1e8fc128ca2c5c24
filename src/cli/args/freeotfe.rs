//! What the user knows of volumes of FreeOTFE and LibreCrypt.

use clap::{Args, value_parser};
use strongroom::format::freeotfe::Hints;

/// Options that only volumes of FreeOTFE and LibreCrypt have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "FreeOTFE and LibreCrypt")]
pub(crate) struct FreeOtfeOptions {
    /// The length of the salt [default: 256]
    #[arg(long, value_name = "BITS", value_parser = parse_salt_length)]
    pub(crate) salt_length: Option<u32>,
    /// The iterations of the key derivation [default: 2048]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub(crate) key_iterations: Option<u32>,
    /// The volume has no header before its data; --header names the file that has it
    #[arg(long, requires = "header")]
    pub(crate) no_cdb: bool,
}

impl FreeOtfeOptions {
    /// As the format takes them.
    pub(crate) fn hints(self) -> Hints {
        Hints {
            salt_bits: self.salt_length.unwrap_or(Hints::USUAL.salt_bits),
            iterations: self.key_iterations.unwrap_or(Hints::USUAL.iterations),
            without_cdb: self.no_cdb,
            ..Hints::USUAL
        }
    }

    /// Whether any is given: the user knows what the container is.
    pub(crate) fn is_any(self) -> bool {
        self != Self::default()
    }
}

fn parse_salt_length(text: &str) -> Result<u32, String> {
    let bits: u32 = text.parse().map_err(|_| "not a number of bits".to_owned())?;
    if bits <= 512 && bits.is_multiple_of(8) {
        Ok(bits)
    } else {
        Err("must be a multiple of 8, and 512 at most".to_owned())
    }
}
