//! The question before a whole device becomes a container: what it is, and what is on it now.

use std::path::Path;

use strongroom::{
    error::Result,
    volume::{Container, PartitionContents, device_kind, partitions_of},
};

use super::{ask, size::show_size};

/// Shows what the device at `path` is and `holds`, and lets the user type its name. One that is empty is only asked for where somebody
/// can answer.
///
/// # Errors
/// `Usage` where the answer is another one, or where there is nobody to ask; what looking gave.
pub(super) fn confirm(path: &Path, size: u64, holds: Option<&str>) -> Result<()> {
    if holds.is_none() && !ask::is_possible() {
        return Ok(());
    }
    let kind = device_kind(path).map(|kind| format!("{kind}, ")).unwrap_or_default();
    let question = match holds {
        None => format!("{} ({kind}{}, empty) will become a container.", path.display(), show_size(size)),
        Some(what) => {
            let partitions = partitions_of(&Container::peek(path)?.storage()).unwrap_or_default();
            format!(
                "{} ({kind}{what}) will be overwritten; everything on it will be lost.{}",
                path.display(),
                partitions.iter().map(partition_shown).collect::<String>()
            )
        }
    };
    ask::confirm_by(&question, &name_of(path))
}

fn partition_shown(found: &PartitionContents) -> String {
    format!(" Its {} ({}).", found.describe(), show_size(found.partition.len))
}

/// What the kernel calls the device, whatever link names it: what is typed is what goes.
fn name_of(path: &Path) -> String {
    let found = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    found.file_name().unwrap_or(found.as_os_str()).to_string_lossy().into_owned()
}
