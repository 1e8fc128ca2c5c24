//! How records name files, and how these names are shown.

use super::{super::ntfs::text, record::Entry, rock::Rock};

/// Whose names count in a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Those of ISO 9660: capitals, a dot, a version.
    Plain,
    /// Those of Joliet, in UCS-2.
    Joliet,
    /// Those of Rock Ridge, which are bytes.
    Rock,
}

impl Names {
    /// The name that shows. `None` where there can be none.
    pub(super) fn shown(self, entry: &Entry, rock: &Rock) -> Option<Vec<u8>> {
        let name = match (self, &rock.name) {
            (Self::Rock, Some(name)) => name.clone(),
            (Self::Joliet, _) => joliet(&entry.name),
            _ => plain(&entry.name),
        };
        let is_possible = !matches!(&*name, [] | b"." | b"..")
            && name.len() <= LONGEST
            && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
        is_possible.then_some(name)
    }
}

/// Without the version, and in small letters, as the kernel shows it.
fn plain(name: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(b";1").unwrap_or(name);
    let name = name.strip_suffix(b".").unwrap_or(name);
    let shown = name.iter().map(|byte| match byte {
        b';' | b'/' => b'.',
        other => other.to_ascii_lowercase(),
    });
    shown.collect()
}

/// Without the version, as the kernel shows it.
fn joliet(name: &[u8]) -> Vec<u8> {
    let units = name.chunks_exact(2).filter_map(<[u8]>::first_chunk);
    let shown = text(units.map(|unit| u16::from_be_bytes(*unit)));
    let mut shown = &*shown;
    if shown.len() > 2 {
        shown = shown.strip_suffix(b";1").unwrap_or(shown);
    }
    while let [before @ .., b'.'] = shown
        && !before.is_empty()
    {
        shown = before;
    }
    shown.to_vec()
}

/// In bytes.
pub(super) const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_do_not_show() {
        for (name, shown) in [
            (&b"README.TXT;1"[..], &b"readme.txt"[..]),
            (b"README.;1", b"readme"),
            (b"DIR", b"dir"),
            (b"A;2", b"a.2"),
        ] {
            assert_eq!(plain(name), shown);
        }
        let ucs2 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        for (name, shown) in [("Größe 😀.txt;1", "Größe 😀.txt"), ("dots...", "dots"), ("a", "a")] {
            assert_eq!(joliet(&ucs2(name)), shown.as_bytes());
        }
    }
}
