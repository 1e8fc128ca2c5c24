use std::path::PathBuf;

use clap::{Args, ValueHint};

#[derive(Debug, Args)]
pub(crate) struct EraseOptions {
    /// The container
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// The container's header lies in this file: erase it there
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) header: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Also where nothing shows that there is a container: overwrite the places where its header would be
    #[arg(long)]
    pub(crate) force: bool,
}

pub(crate) const ERASE_EXAMPLES: &str = "\
Examples:
  strongroom erase photos.vault
  strongroom erase /dev/sdX --yes";
