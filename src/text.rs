//! Text that others wrote, made fit to be shown: what stands in a header, what a program said, what a file is called.
//!
//! Whoever wrote it may want it to break a line, to command a terminal or to fill it, or to read as something else.

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

fn shown(character: char) -> String {
    let is_unfit = character.is_control() || breaks_or_turns(character);
    if is_unfit { character.escape_default().collect() } else { String::from(character) }
}

/// Separators of lines and paragraphs, and what turns the direction of writing (Unicode Standard Annex 9).
const fn breaks_or_turns(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The characters of a line.
const LINE: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_line_or_steer_a_terminal_is_escaped() {
        assert_eq!(in_one_line("a\nstrongroom: done\u{1b}[2J"), "a\\nstrongroom: done\\u{1b}[2J");
        assert_eq!(in_one_line("\u{202e}gpj.exe\u{2028}"), "\\u{202e}gpj.exe\\u{2028}");
        assert_eq!(in_one_line("Füße 🔒 'and' \\n"), "Füße 🔒 'and' \\n");
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
