//! `resize` to a smaller size.

use strongroom::{
    error::Result,
    format::{Format, Header, Unlocked, native::Native},
    mount::GrownFilesystem,
    volume::{Container, shrink, shrink_folder},
};

use super::{Resizing, opened_anew, report};
use crate::cli::{args::ResizeOptions, mounting::make_whole, output::Console, pin, progress::spin};

/// Makes a container smaller that nobody has mounted, where nothing in it needs what goes.
pub(super) fn make_smaller(
    console: Console,
    options: &ResizeOptions,
    (container, header, unlocked): (&Container, &dyn Header, &Unlocked),
    size: u64,
) -> Result<()> {
    make_whole(console, &options.container, container, (header, unlocked))?;
    let shrinkage = header.shrinkage(unlocked, size)?;
    let format = header.describe().format;
    spin(console, "making it smaller", || {
        let (layout, is_known_free) = (unlocked.layout.clone(), options.container_only);
        if container.pieces().is_none() {
            return shrink(container, layout, &*shrinkage, is_known_free);
        }
        shrink_folder(container, (&unlocked.volume_key, layout), &*shrinkage, is_known_free)
    })?;
    if container.pieces().is_some() {
        opened_anew(console, &options.container, &unlocked.volume_key)?;
    } else if format == Native.name() {
        pin::advance(console, &*container.storage(), &unlocked.volume_key);
    }
    let done = Resizing {
        format,
        container_size: shrinkage.container_len(),
        data_size: shrinkage.data_len(),
        is_changed: true,
    };
    report(console, &options.container, done, &GrownFilesystem::None);
    Ok(())
}
