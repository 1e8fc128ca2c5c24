//! What is told of passwords that are not what somebody thinks they are.

use strongroom::unlock::Oddity;

/// Why nobody can type a new password.
pub(crate) fn untypeable(oddity: Oddity) -> String {
    let what = match oddity {
        Oddity::CarriageReturn => "ends with a carriage return, as files with Windows line ends do",
        Oddity::Utf16 => "is UTF-16",
        Oddity::ByteOrderMark => "begins with a byte order mark",
        Oddity::NotUtf8 => "is not UTF-8",
        Oddity::Zero => "holds a zero byte",
        Oddity::Tab => "holds a tab",
        Oddity::Lines => "has more than one line",
        Oddity::Control => "holds control characters",
        Oddity::Invisible => "holds characters that do not show, such as a no-break space",
        Oddity::Empty => "is empty",
        Oddity::BeyondOldLimit => "has more than 64 bytes",
        Oddity::OuterSpace => "begins or ends with a space or tab",
        Oddity::TwoSpellings => "holds letters that can be written in two ways",
    };
    format!("this password {what}: nobody can type it at a prompt, so keep the file")
}

/// What to try where a password did not open a container.
pub(crate) const fn way_out(oddity: Oddity) -> &'static str {
    match oddity {
        Oddity::Empty => "the password is empty",
        Oddity::CarriageReturn => {
            "the password ends with a carriage return, as files with Windows line ends do; try it without"
        }
        Oddity::Utf16 => {
            "the password is UTF-16, as some programs on Windows write it; save the file as UTF-8"
        }
        Oddity::ByteOrderMark => {
            "the password begins with a byte order mark, as some editors write it; try it without"
        }
        Oddity::BeyondOldLimit => {
            "TrueCrypt and old VeraCrypt took the first 64 bytes of a password only; try those"
        }
        Oddity::NotUtf8 => {
            "the password is not UTF-8: try it in UTF-8; if it is a keyfile, name it with --keyfile"
        }
        Oddity::Lines => "the password has more than one line; only one newline at its end is dropped",
        Oddity::Zero | Oddity::Tab | Oddity::Control | Oddity::Invisible => {
            "the password holds characters that do not show, such as a no-break space; type it anew, or try it without"
        }
        Oddity::OuterSpace => "the password begins or ends with a space or tab; try it without",
        Oddity::TwoSpellings => {
            "letters with accents can be written in two ways (one character, or a letter and a mark); try the other"
        }
    }
}
