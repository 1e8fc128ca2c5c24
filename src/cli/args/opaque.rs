//! What the user knows of containers that say nothing of themselves.

use clap::{
    Args, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
    value_parser,
};
use strongroom::format::{
    Format, named,
    veracrypt::{Hints, MAX_PIM, Prf},
};

/// The formats that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OpenFormat {
    /// Recognised by its signature
    #[default]
    Auto,
    /// strongroom's own
    Native,
    /// LUKS, version 1
    Luks1,
    /// LUKS, version 2
    Luks2,
    /// VeraCrypt
    #[value(name = "veracrypt")]
    VeraCrypt,
    /// TrueCrypt
    #[value(name = "truecrypt")]
    TrueCrypt,
    /// FreeOTFE and LibreCrypt
    #[value(name = "freeotfe", alias = "librecrypt")]
    FreeOtfe,
}

/// Options that only TrueCrypt and VeraCrypt containers have.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "TrueCrypt and VeraCrypt")]
pub(crate) struct HintOptions {
    /// Try only this hash; much faster
    #[arg(long, value_name = "NAME", value_parser = prf_parser())]
    pub(crate) prf: Option<Prf>,
    /// The container's PIM; 0 is the usual one
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=i64::from(MAX_PIM)))]
    pub(crate) pim: Option<u32>,
    /// Open the hidden volume
    #[arg(long)]
    pub(crate) hidden: bool,
    /// Use the copy of the header at the container's end
    #[arg(long)]
    pub(crate) backup_header: bool,
    /// The container is a drive with an encrypted operating system
    #[arg(long, conflicts_with_all = ["hidden", "backup_header"])]
    pub(crate) system: bool,
}

impl OpenFormat {
    /// The format, where one is named.
    pub(crate) fn named(self) -> Option<&'static dyn Format> {
        named(match self {
            Self::Auto => return None,
            Self::Native => "native",
            Self::Luks1 => "luks1",
            Self::Luks2 => "luks2",
            Self::VeraCrypt => "veracrypt",
            Self::TrueCrypt => "truecrypt",
            Self::FreeOtfe => "freeotfe",
        })
    }
}

impl HintOptions {
    /// As the format takes them.
    pub(crate) fn hints(self) -> Hints {
        let Self { prf, pim, hidden, backup_header, system } = self;
        Hints { prf, pim: pim.unwrap_or_default(), hidden, backup_header, system }
    }
}

/// Names of functions.
pub(super) fn prf_parser() -> impl TypedValueParser<Value = Prf> {
    let values = Prf::ALL.map(|prf| PossibleValue::new(prf.name()).aliases(prf.aliases().iter().copied()));
    PossibleValuesParser::new(values)
        .try_map(|name| Prf::from_name(&name).ok_or_else(|| format!("there is no function {name}")))
}
