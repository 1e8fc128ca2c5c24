//! Text that others wrote, made fit to be shown: what stands in a header, what a program said, what a file is called.
//!
//! Whoever wrote it may want it to break a line, to command a terminal or to fill it, or to read as something else.

pub mod path;

/// The text in one line, whatever is in it: control characters, line breaks and those that turn the direction of writing are
/// escaped.
///
/// ```
/// assert_eq!(strongroom::text::in_one_line("a\n\u{1b}[2J"), "a\\n\\u{1b}[2J");
/// ```
pub fn in_one_line(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// The same, and no longer than a line should be: what is too long ends with `…`.
pub fn excerpt(text: &str) -> String {
    excerpt_within(text, LINE)
}

/// The same with at most `most` characters, escapes counted as they show, and `…` behind them.
pub fn excerpt_within(text: &str, most: usize) -> String {
    let mut excerpt = String::new();
    let mut left = most;
    for character in text.chars() {
        let shown = shown(character);
        let Some(rest) = left.checked_sub(shown.chars().count()) else {
            excerpt.push('…');
            break;
        };
        left = rest;
        excerpt.push_str(&shown);
    }
    excerpt
}

/// The text between quotation marks, as a label is shown: also what nobody can see, or could take for a space, is escaped.
///
/// ```
/// assert_eq!(strongroom::text::in_quotes("a\u{3164}b"), "\"a\\u{3164}b\"");
/// ```
pub fn in_quotes(text: &str) -> String {
    format!("\"{}\"", clear(text).replace('"', "\\\""))
}

/// The same without the quotation marks.
pub fn clear(text: &str) -> String {
    let shown = |character: char| {
        if is_clear(character) { String::from(character) } else { character.escape_unicode().collect() }
    };
    text.chars().map(shown).collect()
}

/// Whether a character shows as what it is, wherever it stands: neither control, format, private use nor unassigned, no space
/// but the usual one, and nothing that Unicode lets programs leave out (`Default_Ignorable_Code_Point`) or that is blank.
pub fn is_clear(character: char) -> bool {
    let is_ignorable = matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}');
    let is_blank = character == '\u{2800}';
    !is_ignorable && !is_blank && is_printable(character)
}

/// Whether the standard library prints a character as it is, where it stands behind another. It escapes what Unicode has as
/// control, format, surrogate, private use, unassigned, and separators but the space.
fn is_printable(character: char) -> bool {
    let escaped: String = ['x', character].iter().collect::<String>().escape_debug().collect();
    matches!(character, '"' | '\'' | '\\') || escaped.chars().eq(['x', character])
}

fn shown(character: char) -> String {
    if is_unfit(character) { character.escape_default().collect() } else { String::from(character) }
}

/// What must not stand in a line as it is.
fn is_unfit(character: char) -> bool {
    character.is_control() || breaks_or_turns(character)
}

/// Separators of lines and paragraphs, and what turns the direction of writing (Unicode Standard Annex 9).
const fn breaks_or_turns(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The characters of a line.
const LINE: usize = 160;

/// Bytes as people read them: exact where that is short (`10 GiB`), else with one decimal, rounded down: a container never holds
/// more than is said.
pub fn size(bytes: u64) -> String {
    let units = (1_u32..).zip(['K', 'M', 'G', 'T', 'P', 'E']);
    let sized = units.map(|(power, letter)| (1_u64 << (10 * power), letter));
    let Some((unit, letter)) = sized.take_while(|(unit, _)| bytes >= *unit).last() else {
        return format!("{bytes} bytes");
    };
    let (whole, rest) = (bytes / unit, bytes % unit);
    if rest == 0 {
        return format!("{whole} {letter}iB");
    }
    let tenth = u128::from(rest) * 10 / u128::from(unit);
    format!("{whole}.{tenth} {letter}iB")
}

/// The same with the number of bytes where the size is not exact: `10 GiB`, `9.9 GiB (10737418239 bytes)`.
pub fn exact_size(bytes: u64) -> String {
    let size = size(bytes);
    if size.contains('.') { format!("{size} ({bytes} bytes)") } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_exactly_or_with_one_decimal_rounded_down() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(10 << 30), "10 GiB");
        assert_eq!(size((1 << 30) - 1), "1023.9 MiB");
        assert_eq!(size(u64::MAX), "15.9 EiB");
        assert_eq!(exact_size(10 << 30), "10 GiB");
        assert_eq!(exact_size((1 << 30) - 1), "1023.9 MiB (1073741823 bytes)");
    }

    #[test]
    fn what_would_break_a_line_or_steer_a_terminal_is_escaped() {
        assert_eq!(in_one_line("a\nstrongroom: done\u{1b}[2J"), "a\\nstrongroom: done\\u{1b}[2J");
        assert_eq!(in_one_line("\u{202e}gpj.exe\u{2028}"), "\\u{202e}gpj.exe\\u{2028}");
        assert_eq!(in_one_line("Füße 🔒 'and' \\n"), "Füße 🔒 'and' \\n");
    }

    #[test]
    fn a_label_shows_what_nobody_sees() {
        for unseen in [
            '\u{ad}',
            '\u{34f}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{e0041}',
            '\u{e000}',
            '\u{378}',
            '\u{a0}',
            '\u{2800}',
            '\u{7f}',
            '\u{202e}',
            '\u{200d}',
            '\u{10ffff}',
        ] {
            assert!(!is_clear(unseen), "{unseen:?}");
            let escaped: String = unseen.escape_unicode().collect();
            assert_eq!(in_quotes(&format!("a{unseen}b")), format!("\"a{escaped}b\""));
        }
        let clear = "Füße 🔒 e\u{301} 中文 עברית 'and' \\n a b";
        assert_eq!(in_quotes(clear), format!("\"{clear}\""));
        assert_eq!(in_quotes("a\"b"), "\"a\\\"b\"");
    }

    #[test]
    fn an_excerpt_is_bounded_as_it_shows() {
        assert_eq!(excerpt_within("abc", 3), "abc");
        assert_eq!(excerpt_within("abcd", 3), "abc…");
        // An escape counts with all of its characters, and is not cut in two.
        assert_eq!(excerpt_within("ab\u{1b}", 7), "ab…");
        for text in ["x".repeat(5000), "\u{202e}".repeat(5000)] {
            assert!(excerpt(&text).chars().count() <= LINE + 1);
        }
    }
}
