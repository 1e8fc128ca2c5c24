//! Where in a file or on a device a container lies.

use std::path::Path;

use clap::{Args, value_parser};

use strongroom::{text::path::shown, unlock::Part};

use crate::cli::size::parse_size;

/// Where in a file or on a device the container lies: it is all of it without these.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct PlaceOptions {
    /// The container lies in this partition of a disk image or a device
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..), conflicts_with = "offset")]
    pub(crate) partition: Option<u32>,
    /// The container begins at this byte
    #[arg(long, value_name = "BYTES", value_parser = parse_offset)]
    pub(crate) offset: Option<u64>,
}

impl PlaceOptions {
    /// Whether the container is not all of the file or device.
    pub(crate) const fn is_any(self) -> bool {
        self.partition.is_some() || self.offset.is_some()
    }

    /// As unlocking takes it.
    pub(crate) const fn part(self) -> Part {
        Part { partition: self.partition, offset: self.offset }
    }

    /// The option that says so, with a space before it; nothing for all of a file or device.
    pub(crate) fn option(self) -> String {
        match (self.partition, self.offset) {
            (_, Some(offset)) => format!(" --offset {offset}"),
            (Some(number), None) => format!(" --partition {number}"),
            (None, None) => String::new(),
        }
    }

    /// The container, where the file or device has this path, in a line of text.
    pub(crate) fn name(self, path: &Path) -> String {
        let path = shown(path);
        match (self.partition, self.offset) {
            (Some(number), _) => format!("partition {number} of {path}"),
            (None, Some(offset)) => format!("what begins at byte {offset} of {path}"),
            (None, None) => path,
        }
    }
}

/// Reads an offset: a size, or nothing.
fn parse_offset(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { parse_size(text).map_err(|error| error.to_string()) }
}
