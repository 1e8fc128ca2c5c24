//! Paths in JSON, any path without loss, and in the commands that messages tell.
//!
//! JSON is text and a path is bytes. Where a path is not UTF-8, each byte that is part of no character is written as the
//! character U+0000 and the byte's two hexadecimal digits. No path holds a zero byte, so nothing else looks like that, and a
//! path that is UTF-8 is written as it is.
//!
//! For fields of types with serde: `#[serde(with = "crate::text::path")]`, `serialize_with` for a borrowed path, and
//! [`optional`] for one that may be absent.

use std::{
    ffi::OsString,
    fmt::Write,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::in_one_line;

/// The path as text that [`unescape`] turns back into it.
///
/// ```
/// # use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};
/// use strongroom::text::path::escape;
/// assert_eq!(escape(Path::new("Füße.img")), "Füße.img");
/// assert_eq!(escape(Path::new(OsStr::from_bytes(b"caf\xe9.img"))), "caf\0e9.img");
/// ```
pub fn escape(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\0{byte:02x}");
        }
    }
    text
}

/// The path that [`escape`] made this text of; `None` for text that it does not make.
pub fn unescape(text: &str) -> Option<PathBuf> {
    let mut pieces = text.split('\0');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|byte| *byte >= 0x80)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// The path in a line of text: what would end the line, or turn it around, is escaped.
pub fn shown(path: &Path) -> String {
    in_one_line(&path.display().to_string())
}

/// The path as a word of a command that a message names: a shell takes it for the one path that it is.
///
/// ```
/// # use std::path::Path;
/// use strongroom::text::path::command_word;
/// assert_eq!(command_word(Path::new("/srv/vault.img")), "/srv/vault.img");
/// assert_eq!(command_word(Path::new("my vault")), "'my vault'");
/// ```
pub fn command_word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    // It would be taken for an option.
    let start = if bytes.starts_with(b"-") { "./" } else { "" };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(byte);
    let text = path.to_str().filter(|text| !text.chars().any(super::is_unfit));
    match text {
        Some(text) if !bytes.is_empty() && bytes.iter().all(is_plain) => format!("{start}{text}"),
        Some(text) => format!("'{start}{}'", text.replace('\'', "'\\''")),
        None => {
            let escaped: String = bytes.iter().map(|byte| byte.escape_ascii().to_string()).collect();
            format!("$'{start}{escaped}'")
        }
    }
}

/// For `serialize_with` and `with`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(path: &impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&escape(path.as_ref()))
}

/// For `deserialize_with` and `with`.
///
/// # Errors
/// The deserializer's, and where [`escape`] makes no such text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    unescape(&String::deserialize(deserializer)?)
        .ok_or_else(|| D::Error::custom("a path with a wrong escape"))
}

/// The same for a path that may be absent: `null` then.
pub mod optional {
    use super::{Deserialize, Deserializer, Error, Path, PathBuf, Serialize, Serializer, escape, unescape};

    /// For `serialize_with` and `with`.
    ///
    /// # Errors
    /// The serializer's.
    #[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub fn serialize<S: Serializer>(
        path: &Option<impl AsRef<Path>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| escape(path.as_ref())).serialize(serializer)
    }

    /// For `deserialize_with` and `with`.
    ///
    /// # Errors
    /// As [`deserialize`](super::deserialize).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        let wrong = || D::Error::custom("a path with a wrong escape");
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| unescape(&text).ok_or_else(wrong)).transpose()
    }
}

/// The same for a list of paths.
pub mod list {
    use super::{Deserialize, Deserializer, Error, PathBuf, Serializer, escape, unescape};

    /// For `serialize_with` and `with`.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| escape(path)))
    }

    /// For `deserialize_with` and `with`.
    ///
    /// # Errors
    /// As [`deserialize`](super::deserialize).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        let wrong = || D::Error::custom("a path with a wrong escape");
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| unescape(text).ok_or_else(wrong)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_word_of_a_command_is_what_a_shell_reads_back() {
        for (path, word) in [
            (&b"plain/path-1.img"[..], "plain/path-1.img"),
            (b"my vault", "'my vault'"),
            (b"it's", "'it'\\''s'"),
            ("Füße".as_bytes(), "'Füße'"),
            (b"-x", "./-x"),
            (b"a$(b)", "'a$(b)'"),
            (b"caf\xe9 '", "$'caf\\xe9 \\''"),
            (b"a\nb", "$'a\\nb'"),
            ("a\u{202e}b".as_bytes(), "$'a\\xe2\\x80\\xaeb'"),
            (b"", "''"),
        ] {
            assert_eq!(command_word(Path::new(OsStr::from_bytes(path))), word);
            let printed =
                std::process::Command::new("bash").arg("-c").arg(format!("printf %s {word}")).output();
            let printed = printed.unwrap().stdout;
            assert_eq!(printed.strip_prefix(b"./-").map_or(&*printed, |_| &printed[2..]), path);
        }
    }

    #[test]
    fn every_path_comes_back_from_its_text() {
        let all: Vec<u8> = (1..=255).collect();
        for bytes in [
            &b""[..],
            b"plain",
            b"\xe9",
            b"a\xe9\xe9b",
            b"\\xe9 %e9 \\u0000e9",
            "Füße\u{202e}".as_bytes(),
            &all,
        ] {
            let path = Path::new(OsStr::from_bytes(bytes));
            let text = escape(path);
            assert_eq!(unescape(&text).as_deref(), Some(path));
            assert_eq!(text.contains('\0'), std::str::from_utf8(bytes).is_err());
        }
    }

    #[test]
    fn text_with_a_wrong_escape_is_no_path() {
        for text in ["\0", "\0e", "\0+9", "\0g0", "\u{0}61", "\u{0}00", "a\0é"] {
            assert_eq!(unescape(text), None, "{text:?}");
        }
    }
}
