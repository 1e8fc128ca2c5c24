//! Passwords that are not what somebody thinks they are: bytes that no keyboard gives, letters that two systems write in two
//! ways.

use std::path::Path;

use strongroom::{
    crypto::secret::Credentials,
    error::{Error, ErrorKind},
    format::KeyfileRole,
};

/// Why nobody can type a new password; `None` where somebody can.
pub(crate) fn untypeable(password: &[u8]) -> Option<String> {
    let what = if ends_as_on_windows(password) {
        "ends with a carriage return, as files with Windows line ends do"
    } else if is_utf16(password) {
        "is UTF-16"
    } else if has_mark(password) {
        "begins with a byte order mark"
    } else {
        match std::str::from_utf8(password) {
            Err(_) => "is not UTF-8",
            Ok(text) if text.contains('\0') => "holds a zero byte",
            Ok(text) if text.contains('\t') => "holds a tab",
            Ok(text) if text.contains(['\n', '\r']) => "has more than one line",
            Ok(text) if text.chars().any(char::is_control) => "holds control characters",
            Ok(text) if text.contains(is_invisible) => {
                "holds characters that do not show, such as a no-break space"
            }
            Ok(_) => return None,
        }
    };
    Some(format!("this password {what}: nobody can type it at a prompt, so keep the file"))
}

/// Adds to the failure of a password what may be wrong with it, where its bytes tell.
pub(crate) fn advise(error: Error, credentials: &Credentials, role: KeyfileRole, is_keyfile: bool) -> Error {
    let Credentials::Password { password, keyfiles } = credentials else { return error };
    if error.kind() != ErrorKind::Credentials || is_keyfile {
        return error;
    }
    match hint(password.expose(), role, keyfiles.is_empty()) {
        Some(hint) => error.with_first_hint(hint),
        None => error,
    }
}

/// Adds what is left where a container that has no keyfiles beside passwords does not open with the file at `path`, whose last byte,
/// a newline, does not count in a password, and counts in what cryptsetup calls a key file.
pub(crate) fn advise_whole_file(error: Error, path: &Path) -> Error {
    if error.kind() != ErrorKind::Credentials {
        return error;
    }
    error.with_first_hint(format!(
        "one newline at the end of {} was dropped; where the file is a key file of cryptsetup, use --keyfile in place of --password-file",
        path.display()
    ))
}

fn hint(password: &[u8], role: KeyfileRole, is_alone: bool) -> Option<&'static str> {
    if password.is_empty() {
        return is_alone.then_some("the password is empty");
    }
    if ends_as_on_windows(password) {
        return Some(
            "the password ends with a carriage return, as files with Windows line ends do; try it without",
        );
    }
    if is_utf16(password) {
        return Some("the password is UTF-16, as some programs on Windows write it; save the file as UTF-8");
    }
    if has_mark(password) {
        return Some("the password begins with a byte order mark, as some editors write it; try it without");
    }
    if role == KeyfileRole::Pool && (OLD_LIMIT + 1..=LIMIT).contains(&password.len()) {
        return Some("TrueCrypt and old VeraCrypt took the first 64 bytes of a password only; try those");
    }
    let Ok(text) = std::str::from_utf8(password) else {
        return Some(
            "the password is not UTF-8: try it in UTF-8; if it is a keyfile, name it with --keyfile",
        );
    };
    if text.contains(['\n', '\r']) {
        return Some("the password has more than one line; only one newline at its end is dropped");
    }
    if text.contains(is_invisible) {
        return Some(
            "the password holds characters that do not show, such as a no-break space; type it anew, or try it without",
        );
    }
    if text.trim() != text {
        return Some("the password begins or ends with a space or tab; try it without");
    }
    text.chars().any(may_be_composed).then_some(
        "letters with accents can be written in two ways (one character, or a letter and a mark); try the other",
    )
}

fn ends_as_on_windows(password: &[u8]) -> bool {
    password.ends_with(b"\r")
}

fn has_mark(password: &[u8]) -> bool {
    password.starts_with(b"\xef\xbb\xbf")
}

fn is_utf16(password: &[u8]) -> bool {
    password.starts_with(b"\xff\xfe") || password.starts_with(b"\xfe\xff")
}

/// Whether nobody sees a character: spaces that look like a common one, signs of no width, marks of direction.
const fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{a0}' | '\u{ad}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{feff}'
    )
}

/// Whether a character is a mark on the one before, or one that can be taken apart into a letter and marks (Unicode's
/// normal forms C and D).
fn may_be_composed(letter: char) -> bool {
    match letter {
        'Æ' | 'Ð' | '×' | 'Ø' | 'Þ' | 'ß' | 'æ' | 'ð' | '÷' | 'ø' | 'þ' => false,
        'À'..='ž' => !matches!(
            letter,
            'Đ' | 'đ' | 'Ħ' | 'ħ' | 'ı' | 'ĸ' | 'Ł' | 'ł' | 'Ŋ' | 'ŋ' | 'Œ' | 'œ' | 'Ŧ' | 'ŧ'
        ),
        // Marks; Vietnamese and other letters with two of them; Greek; Cyrillic; Japanese with its marks; Korean.
        '\u{300}'..='\u{36f}'
        | '\u{1e00}'..='\u{1fff}'
        | 'Ơ'
        | 'ơ'
        | 'Ư'
        | 'ư'
        | 'Ǎ'..='ǰ'
        | 'Ș'..='ț'
        | 'Ά'..='ΐ'
        | 'Ϊ'..='ΰ'
        | 'ϊ'..='ώ'
        | 'Ѐ'
        | 'Ё'
        | 'Ѓ'
        | 'Ї'
        | 'Ќ'..='Ў'
        | 'Й'
        | 'й'
        | 'ѐ'
        | 'ё'
        | 'ѓ'
        | 'ї'
        | 'ќ'..='ў'
        | '\u{3099}'
        | '\u{309a}'
        | 'が'..='ぽ'
        | 'ガ'..='ポ'
        | 'ヴ'
        | '가'..='힣'
        | '\u{1100}'..='\u{11ff}' => true,
        _ => false,
    }
}

/// The longest passwords of old VeraCrypt and of today's, in bytes.
const OLD_LIMIT: usize = 64;
const LIMIT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_no_keyboard_gives_are_named() {
        for (password, what) in [
            (&b"secret\r"[..], "ends with a carriage return"),
            (b"\xef\xbb\xbfsecret", "begins with a byte order mark"),
            (b"\xff\xfes\0", "is UTF-16"),
            ("pass\u{a0}word".as_bytes(), "do not show"),
            ("pass\u{200b}".as_bytes(), "do not show"),
            (b"sec\0ret", "holds a zero byte"),
            (b"sec\tret", "holds a tab"),
            (b"secret\n", "has more than one line"),
            (b"sec\x1bret", "holds control characters"),
            (b"sec\xe9ret", "is not UTF-8"),
        ] {
            let warning = untypeable(password).unwrap();
            assert!(warning.contains(what), "{warning}");
        }
        for password in ["", "correct horse battery", "pässwörd", "секрет", " lead and trail "] {
            assert_eq!(untypeable(password.as_bytes()), None, "{password}");
        }
    }

    #[test]
    fn a_failure_is_answered_by_what_the_bytes_tell() {
        let of = |password: &[u8], role| hint(password, role, true).unwrap_or_default();
        let part = KeyfileRole::PartOfSecret;
        assert!(of(b"secret\r", part).contains("carriage return"));
        assert!(of(b"\xef\xbb\xbfsecret", part).contains("byte order mark"));
        assert!(of(b"\xff\xfes\0e\0", part).contains("UTF-8"));
        assert!(of("pass\u{202e}word".as_bytes(), part).contains("do not show"));
        assert!(of("päss".as_bytes(), part).contains("two ways"));
        assert!(of("pa\u{308}ss".as_bytes(), part).contains("two ways"));
        assert!(of("한글".as_bytes(), part).contains("two ways"));
        assert!(of("пароль йод".as_bytes(), part).contains("two ways"));
        assert!(of(&[b'x'; 65], KeyfileRole::Pool).contains("64 bytes"));
        assert!(of(b"", part).contains("empty"));
        assert!(of(b"caf\xe9 noir", part).contains("UTF-8"));
        assert!(of(b"secret\n", part).contains("more than one line"));
        assert!(of(b"secret ", part).contains("space"));
        for password in ["secret", "größer", "straße", "пароль", "日本"] {
            let expected = password == "größer";
            assert_eq!(hint(password.as_bytes(), part, true).is_some(), expected, "{password}");
        }
        assert_eq!(hint(&[b'x'; 129], KeyfileRole::Pool, true), None, "it is too long for any");
        assert_eq!(hint(&[b'x'; 65], part, true), None);
        assert_eq!(hint(b"", part, false), None, "keyfiles stand beside it");
    }
}
