use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{OpenFormat, PlaceOptions};

#[derive(Debug, Args)]
pub(crate) struct EraseOptions {
    /// The container
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// The container's header lies in this file: erase it there
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) header: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
    /// Container format; TrueCrypt, VeraCrypt and FreeOTFE cannot be found by a signature
    #[arg(long, value_enum, default_value_t = OpenFormat::Auto, value_name = "FORMAT")]
    pub(crate) format: OpenFormat,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Even if nothing shows that this is a container: overwrite wherever its header would be
    #[arg(long)]
    pub(crate) force: bool,
}

pub(crate) const ERASE_EXAMPLES: &str = "\
Examples:
  strongroom erase photos.vault
  strongroom erase /dev/sdX --yes";
