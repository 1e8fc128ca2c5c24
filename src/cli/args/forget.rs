//! What `forget` takes.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

use super::PlaceOptions;
use strongroom::unlock::HeaderFile;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["container", "all"]))]
pub(crate) struct ForgetOptions {
    /// The container, or its UUID where it is gone
    #[arg(value_hint = ValueHint::AnyPath, value_name = "CONTAINER|UUID")]
    pub(crate) container: Option<PathBuf>,
    /// Forget the passwords of all containers
    #[arg(short, long, conflicts_with_all = ["header", "partition", "offset"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
    /// Read the container's header from this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) header: Option<PathBuf>,
}

impl ForgetOptions {
    /// Where the header lies, if that is elsewhere.
    pub(crate) fn header_file(&self) -> HeaderFile<'_> {
        HeaderFile { path: self.header.as_deref(), format: None, part: self.place.part() }
    }
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  strongroom open photos.vault --remember       keeps the password in your keyring
  strongroom forget photos.vault                takes it away again
  strongroom forget --all";
