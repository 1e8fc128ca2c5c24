//! What `df` and `mount` show of a container that the server mounts.

use std::path::{Path, PathBuf};

use crate::{
    export::VOLUME_FILE,
    mount::session::{SOURCE, Session},
};

/// It tells such mounts from all others.
pub(super) fn source_of(session: &Session) -> PathBuf {
    Path::new(SOURCE).join(source_name(&session.record().entry.container))
}

/// The container's name without what could be taken for another option of the mount, or is too long for a file of its own.
fn source_name(container: &Path) -> String {
    let name = container.file_name().unwrap_or_default().to_string_lossy();
    let is_harmless = |c: char| c.is_alphanumeric() || "._-+@".contains(c);
    let name = name.replace(|c| !is_harmless(c), "_");
    if name.is_empty() || name.len() > 255 { VOLUME_FILE.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_lends_its_name_to_the_mount_where_that_does_no_harm() {
        for (container, expected) in [
            ("/home/anna/photos.vault", "photos.vault"),
            ("/home/anna/my photos,suid,dev.vault", "my_photos_suid_dev.vault"),
            ("/home/anna/a\\,b\n", "a__b_"),
            ("/home/anna/Füße", "Füße"),
            ("/", "volume"),
        ] {
            assert_eq!(source_name(Path::new(container)), expected);
        }
    }
}
