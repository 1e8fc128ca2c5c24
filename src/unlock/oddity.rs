//! Passwords that are not what somebody thinks they are: bytes that no keyboard gives, letters that two systems write in two
//! ways.

use crate::{crypto::secret::Credentials, format::KeyfileRole};

/// What is odd about the bytes of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// There are none.
    Empty,
    /// A carriage return ends it, as files with Windows line ends do.
    CarriageReturn,
    /// It is UTF-16.
    Utf16,
    /// It begins with a byte order mark.
    ByteOrderMark,
    /// Only the first 64 bytes of it counted once.
    BeyondOldLimit,
    /// It is not UTF-8.
    NotUtf8,
    /// It holds a zero byte.
    Zero,
    /// It holds a tab.
    Tab,
    /// It has more than one line.
    Lines,
    /// It holds control characters.
    Control,
    /// It holds characters that do not show.
    Invisible,
    /// White space begins or ends it.
    OuterSpace,
    /// Some of its letters can be written in two ways.
    TwoSpellings,
}

impl Oddity {
    /// Why nobody can type a new password; `None` where somebody can.
    pub fn that_nobody_types(password: &[u8]) -> Option<Self> {
        if let Some(oddity) = of_encoding(password) {
            return Some(oddity);
        }
        let Ok(text) = std::str::from_utf8(password) else { return Some(Self::NotUtf8) };
        let has = |is_odd: fn(char) -> bool| text.chars().any(is_odd);
        match () {
            () if has(|letter| letter == '\0') => Some(Self::Zero),
            () if has(|letter| letter == '\t') => Some(Self::Tab),
            () if has(|letter| matches!(letter, '\n' | '\r')) => Some(Self::Lines),
            () if has(char::is_control) => Some(Self::Control),
            () if has(is_invisible) => Some(Self::Invisible),
            () => None,
        }
    }

    /// What may be why `credentials` did not open a container to which a keyfile is `role`.
    pub fn of(credentials: &Credentials, role: KeyfileRole) -> Option<Self> {
        let Credentials::Password { password, keyfiles } = credentials else { return None };
        Self::of_wrong(password.expose(), role, keyfiles.is_empty())
    }

    fn of_wrong(password: &[u8], role: KeyfileRole, is_alone: bool) -> Option<Self> {
        if password.is_empty() {
            return is_alone.then_some(Self::Empty);
        }
        if let Some(oddity) = of_encoding(password) {
            return Some(oddity);
        }
        if role == KeyfileRole::Pool && (OLD_LIMIT + 1..=LIMIT).contains(&password.len()) {
            return Some(Self::BeyondOldLimit);
        }
        let Ok(text) = std::str::from_utf8(password) else { return Some(Self::NotUtf8) };
        if text.contains(['\n', '\r']) {
            return Some(Self::Lines);
        }
        if text.contains(is_invisible) {
            return Some(Self::Invisible);
        }
        if text.trim() != text {
            return Some(Self::OuterSpace);
        }
        text.chars().any(may_be_composed).then_some(Self::TwoSpellings)
    }
}

/// What another system's way to write text leaves.
fn of_encoding(password: &[u8]) -> Option<Oddity> {
    if password.ends_with(b"\r") {
        return Some(Oddity::CarriageReturn);
    }
    if password.starts_with(b"\xff\xfe") || password.starts_with(b"\xfe\xff") {
        return Some(Oddity::Utf16);
    }
    password.starts_with(b"\xef\xbb\xbf").then_some(Oddity::ByteOrderMark)
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
        for (password, oddity) in [
            (&b"secret\r"[..], Oddity::CarriageReturn),
            (b"\xef\xbb\xbfsecret", Oddity::ByteOrderMark),
            (b"\xff\xfes\0", Oddity::Utf16),
            ("pass\u{a0}word".as_bytes(), Oddity::Invisible),
            ("pass\u{200b}".as_bytes(), Oddity::Invisible),
            (b"sec\0ret", Oddity::Zero),
            (b"sec\tret", Oddity::Tab),
            (b"secret\n", Oddity::Lines),
            (b"sec\x1bret", Oddity::Control),
            (b"sec\xe9ret", Oddity::NotUtf8),
        ] {
            assert_eq!(Oddity::that_nobody_types(password), Some(oddity));
        }
        for password in ["", "correct horse battery", "pässwörd", "секрет", " lead and trail "] {
            assert_eq!(Oddity::that_nobody_types(password.as_bytes()), None, "{password}");
        }
    }

    #[test]
    fn a_failure_is_answered_by_what_the_bytes_tell() {
        let part = KeyfileRole::PartOfSecret;
        for (password, role, oddity) in [
            (&b"secret\r"[..], part, Oddity::CarriageReturn),
            (b"\xef\xbb\xbfsecret", part, Oddity::ByteOrderMark),
            (b"\xff\xfes\0e\0", part, Oddity::Utf16),
            ("pass\u{202e}word".as_bytes(), part, Oddity::Invisible),
            ("päss".as_bytes(), part, Oddity::TwoSpellings),
            ("pa\u{308}ss".as_bytes(), part, Oddity::TwoSpellings),
            ("한글".as_bytes(), part, Oddity::TwoSpellings),
            ("пароль йод".as_bytes(), part, Oddity::TwoSpellings),
            (&[b'x'; 65], KeyfileRole::Pool, Oddity::BeyondOldLimit),
            (b"", part, Oddity::Empty),
            (b"caf\xe9 noir", part, Oddity::NotUtf8),
            (b"secret\n", part, Oddity::Lines),
            (b"secret ", part, Oddity::OuterSpace),
        ] {
            assert_eq!(Oddity::of_wrong(password, role, true), Some(oddity), "{password:?}");
        }
        for password in ["secret", "größer", "straße", "пароль", "日本"] {
            let expected = password == "größer";
            assert_eq!(Oddity::of_wrong(password.as_bytes(), part, true).is_some(), expected, "{password}");
        }
        assert_eq!(Oddity::of_wrong(&[b'x'; 129], KeyfileRole::Pool, true), None, "it is too long for any");
        assert_eq!(Oddity::of_wrong(&[b'x'; 65], part, true), None);
        assert_eq!(Oddity::of_wrong(b"", part, false), None, "keyfiles stand beside it");
    }
}
