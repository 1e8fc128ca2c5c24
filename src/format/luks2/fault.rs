//! Where JSON that is none, or not of this kind, goes wrong: in the words of the specification, and with nothing in them that
//! whoever wrote the header could have chosen freely.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use serde_json::error::Category;

use super::{
    error::HeaderError,
    limited::{NO_NUMBER, TOO_LONG, TWICE},
};
use crate::text::excerpt_within;

/// Says what is wrong with the JSON text that gave `error`.
pub(super) fn fault(text: &[u8], error: &serde_json::Error) -> HeaderError {
    let at = offset_of(text, error.line(), error.column());
    let reason = match error.classify() {
        Category::Eof => "it ends too early".to_owned(),
        Category::Syntax | Category::Io => format!("it is malformed near byte {at}"),
        Category::Data => {
            let before = text.get(..at).unwrap_or(text);
            described(&path_at(before), &error.to_string())
        }
    };
    HeaderError::Json { reason }
}

/// The offset in bytes of a line and a column as `serde_json` counts them: lines from 1 on, columns by the bytes before.
fn offset_of(text: &[u8], line: usize, column: usize) -> usize {
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    let before: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    before.saturating_add(column).min(text.len())
}

/// What `message`, of `serde_json`, says of the value at `path`. Of the message only its kind is used, and the name of a
/// missing or repeated field, which is one of ours.
fn described(path: &[String], message: &str) -> String {
    let named = |start: &str| message.strip_prefix(start)?.split('`').next();
    if let Some(field) = named("missing field `") {
        return format!("{} is missing", place(path, Some(field)));
    }
    if let Some(field) = named("duplicate field `") {
        // Its name was read once more, so it is in the path.
        let field = Some(field).filter(|field| path.last().is_none_or(|last| last != field));
        return format!("{} is there twice", place(path, field));
    }
    // Said of a section, for one of the objects in it.
    let of_section = [NO_NUMBER, TWICE].into_iter().find(|own| message.starts_with(own));
    if let (Some(what), Some(section)) = (of_section, path.first()) {
        return format!("{} {what}", shown_name(section));
    }
    let what = if message.starts_with(TOO_LONG) {
        TOO_LONG
    } else if message.starts_with("invalid value") {
        "is not in its range"
    } else {
        "is not of the type that it must have"
    };
    format!("{} {what}", place(path, None))
}

/// A path as the other errors name places: `keyslot 0: kdf.salt`, `config: json_size`, `segments`.
fn place(path: &[String], field: Option<&str>) -> String {
    let names: Vec<String> =
        path.iter().map(|name| shown_name(name)).chain(field.map(str::to_owned)).collect();
    match names.as_slice() {
        [] => "the outermost object".to_owned(),
        [all] => all.clone(),
        [section, name, fields @ ..] => match ONE_OF.iter().find(|(all, _)| all == section) {
            Some((_, one)) if fields.is_empty() => format!("{one} {name}"),
            Some((_, one)) => format!("{one} {name}: {}", fields.join(".")),
            None if fields.is_empty() => format!("{section}: {name}"),
            None => format!("{section}: {name}.{}", fields.join(".")),
        },
    }
}

/// A name of the text, without control characters, and cut where it is no name of the specification any more.
fn shown_name(name: &str) -> String {
    excerpt_within(name, LONGEST_NAME)
}

/// The names that lead to the last byte of `text`, the beginning of a JSON document: those of the objects that it lies in, and
/// its own. A closing bracket lies in what it closes.
fn path_at(text: &[u8]) -> Vec<String> {
    let Some((last, before)) = text.split_last() else { return Vec::new() };
    let mut levels: Vec<Level> = Vec::new();
    let mut bytes = before.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' => levels.push(Level { is_object: true, ..Level::default() }),
            b'[' => levels.push(Level::default()),
            b'}' | b']' => drop(levels.pop()),
            b',' => {
                if let Some(level) = levels.last_mut() {
                    level.name = None;
                }
            }
            b'"' => {
                let string = string(&mut bytes);
                if let Some(level) = levels.last_mut().filter(|level| level.is_object && level.name.is_none())
                {
                    level.name = Some(string);
                }
            }
            _ => {}
        }
    }
    // An object that ends here is complained of as a whole, whatever its last field was.
    if matches!(last, b'}' | b']')
        && let Some(level) = levels.last_mut()
    {
        level.name = None;
    }
    levels.into_iter().filter_map(|level| level.name).collect()
}

/// An object or a list that is not closed yet.
#[derive(Debug, Default)]
struct Level {
    is_object: bool,
    /// The name of the value that is being read.
    name: Option<String>,
}

/// The rest of a string, whose opening quote was taken; escapes as they stand.
fn string<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> String {
    let mut string = Vec::new();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => {
                string.push(byte);
                string.extend(bytes.next());
            }
            byte => string.push(byte),
        }
    }
    String::from_utf8_lossy(&string).into_owned()
}

/// What one object of a section is called.
const ONE_OF: [(&str, &str); 4] =
    [("keyslots", "keyslot"), ("tokens", "token"), ("segments", "segment"), ("digests", "digest")];
/// Characters of a name that are shown; the longest of the specification has 15.
const LONGEST_NAME: usize = 32;

#[cfg(test)]
mod tests {
    use crate::format::luks2::check_json;

    const WHOLE: &str = r#"{"keyslots":{"0":{"type":"luks2","key_size":32,"area":{"type":"raw","offset":"32768","size":"131072","encryption":"aes-xts-plain64","key_size":32},"kdf":{"type":"pbkdf2","salt":"AAAAAAAAAAAAAAAAAAAAAA==","hash":"sha256","iterations":1000},"af":{"type":"luks1","stripes":4000,"hash":"sha256"}}},"tokens":{},"segments":{"0":{"type":"crypt","offset":"1048576","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}},"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"AAAAAAAAAAAAAAAAAAAAAA==","digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}},"config":{"json_size":"12288","keyslots_size":"131072"}}"#;

    /// What is said where one part of the text is another.
    fn said(from: &str, to: &str) -> String {
        assert_eq!(WHOLE.matches(from).count(), 1, "{from}");
        check_json(WHOLE.replace(from, to).as_bytes(), 16 << 10).unwrap_err().to_string()
    }

    #[test]
    fn the_text_of_these_tests_is_whole() {
        assert_eq!(check_json(WHOLE.as_bytes(), 16 << 10), Ok(()));
    }

    #[test]
    fn each_fault_is_told_in_one_line_with_object_and_field() {
        for (from, to, expected) in [
            (
                r#""key_size":32,"area""#,
                r#""key_size":"32","area""#,
                "keyslot 0: key_size is not of the type that it must have",
            ),
            (r#""key_size":32,"area""#, r#""key_size":-1,"area""#, "keyslot 0: key_size is not in its range"),
            (r#""key_size":32,"area""#, r#""area""#, "keyslot 0: key_size is missing"),
            (
                r#""key_size":32,"area""#,
                r#""key_size":32,"key_size":32,"area""#,
                "keyslot 0: key_size is there twice",
            ),
            (
                r#""offset":"32768""#,
                r#""offset":[32768]"#,
                "keyslot 0: area.offset is not of the type that it must have",
            ),
            (
                r#""offset":"32768""#,
                "\n\"offset\" :\n 32768",
                "keyslot 0: area.offset is not of the type that it must have",
            ),
            (r#""salt":"AAAAAAAAAAAAAAAAAAAAAA==","hash""#, r#""hash""#, "keyslot 0: kdf.salt is missing"),
            (
                r#""kdf":{"type":"pbkdf2","#,
                r#""kdf":{"type":null,"#,
                "keyslot 0: kdf.type is not of the type that it must have",
            ),
            (
                r#"{"0":{"type":"luks2""#,
                r#"{"32":{"type":"luks2""#,
                "keyslots has a name that is no number in its range",
            ),
            (r#""tokens":{}"#, r#""tokens":{"00":{}}"#, "tokens has a name that is no number in its range"),
            (
                r#""tokens":{}"#,
                r#""tokens":{"0":{"type":"a","keyslots":[]},"0":{"type":"a","keyslots":[]}}"#,
                "tokens has two objects of one name",
            ),
            (r#""tokens":{}"#, r#""tokens":[]"#, "tokens is not of the type that it must have"),
            (r#""tokens":{}"#, r#""tokens":{"7":{"type":"a"}}"#, "token 7: keyslots is missing"),
            (r#""tokens":{}"#, r#""tokens":{"7":3}"#, "token 7 is not of the type that it must have"),
            (r#""tokens":{},"#, "", "tokens is missing"),
            (
                r#""sector_size":512"#,
                r#""sector_size":5.5"#,
                "segment 0: sector_size is not of the type that it must have",
            ),
            (
                r#""keyslots":["0"]"#,
                r#""keyslots":[0]"#,
                "digest 0: keyslots is not of the type that it must have",
            ),
            (
                r#""json_size":"12288""#,
                r#""json_size":12288"#,
                "config: json_size is not of the type that it must have",
            ),
            (r#""json_size":"12288","#, "", "config: json_size is missing"),
            (
                r#""config":{"json_size":"12288","keyslots_size":"131072"}"#,
                r#""config":7"#,
                "config is not of the type that it must have",
            ),
            (r#""keyslots_size":"131072"}}"#, r#""keyslots_size":"131072"}"#, "it ends too early"),
            (r#"{"keyslots""#, r"{keyslots", "it is malformed near byte 2"),
        ] {
            assert_eq!(said(from, to), format!("the header's JSON: {expected}"), "{from} -> {to}");
        }
    }

    #[test]
    fn a_list_that_is_too_long_is_named() {
        let list = vec![r#""0""#; 33].join(",");
        assert_eq!(
            said(r#""keyslots":["0"]"#, &format!(r#""keyslots":[{list}]"#)),
            "the header's JSON: digest 0: keyslots is too long a list"
        );
    }

    #[test]
    fn nothing_of_the_text_is_shown_raw_or_at_length() {
        let hostile = "\u{1b}[2J\u{202e}".repeat(1000);
        for (from, to) in [
            (r#""key_size":32,"area""#, format!(r#""key_size":"{}","area""#, hostile.escape_default())),
            (r#""config":{"#, format!(r#""config":{{"flags":{{"{}":"x"}},"#, "A".repeat(100_000))),
            (r#""tokens":{}"#, format!(r#""tokens":{{"{}":{{}}}}"#, "\\u001b[2J\\n".repeat(3000))),
            (r#""tokens":{}"#, r#""tokens":"a`, expected\n at line 1 column 1""#.to_owned()),
            (r#""tokens":{}"#, format!(r#""tokens":{{"0":{{"{}":3}}}}"#, "\u{7f}".repeat(3000))),
        ] {
            let told = said(from, &to);
            assert!(told.len() < 120 && !told.contains(char::is_control), "{told:?}");
            assert!(!told.contains("expected") && !told.contains("column"), "{told}");
        }
    }
}
