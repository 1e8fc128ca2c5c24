//! QR codes, for the terminal and as SVG. The crate's buffers are freed through our allocator, which wipes them; they are
//! not locked.

use std::fmt::Write;

use qrcode::{Color, QrCode};
use strongroom::error::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

/// A QR code with the quiet zone that readers need around it (ISO/IEC 18004, 6.3.8: four modules).
pub(crate) struct Picture {
    code: QrCode,
}

/// How dark modules are told from light ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Black on white by escape sequences, whatever the terminal's own colours are.
    Terminal,
    /// By the characters alone, for paper: dark is what is printed.
    Plain,
}

impl Picture {
    /// A code that says `text`, readable with a seventh of it lost (level M).
    pub(crate) fn of(text: &[u8]) -> Result<Self> {
        match QrCode::new(text) {
            Ok(code) => Ok(Self { code }),
            Err(error) => Err(Error::new(ErrorKind::Usage, format!("cannot make a QR code: {error}"))),
        }
    }

    /// Modules in a row and in a column, quiet zone included.
    fn size(&self) -> usize {
        self.code.width() + 2 * QUIET
    }

    /// Whether the module there is dark. Outside the code all is light.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < self.code.width());
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => self.code[(x, y)] == Color::Dark,
            _ => false,
        }
    }

    /// Lines of half-block characters, two modules high.
    pub(crate) fn blocks(&self, ink: Ink) -> Zeroizing<String> {
        let (begin, end) = match ink {
            Ink::Terminal => (BLACK_ON_WHITE, AS_BEFORE),
            Ink::Plain => ("", ""),
        };
        let mut text = Zeroizing::new(String::new());
        for y in (0..self.size()).step_by(2) {
            text.push_str(begin);
            text.extend((0..self.size()).map(|x| match (self.is_dark(x, y), self.is_dark(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            }));
            text.push_str(end);
            text.push('\n');
        }
        text
    }

    /// A picture for print, with `lines` below the code. They must need no escaping: digits, dashes, spaces.
    pub(crate) fn svg<'a>(&self, lines: impl Iterator<Item = &'a str>) -> Zeroizing<String> {
        let size = self.size();
        let mut text = Zeroizing::new(String::new());
        let mut below = Zeroizing::new(String::new());
        let mut height = size;
        for line in lines {
            height += LINE;
            // Writing to a string does not fail.
            let _ = writeln!(
                below,
                "<text x=\"{}\" y=\"{height}\" font-family=\"monospace\" font-size=\"2.5\" text-anchor=\"middle\">{line}</text>",
                size / 2
            );
        }
        height += QUIET;
        let _ = writeln!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {height}\" width=\"{size}mm\" height=\"{height}mm\">\n\
             <rect width=\"{size}\" height=\"{height}\" fill=\"#fff\"/>"
        );
        text.push_str("<path shape-rendering=\"crispEdges\" d=\"");
        for (x, y) in (0..size).flat_map(|y| (0..size).map(move |x| (x, y))) {
            if self.is_dark(x, y) {
                let _ = write!(text, "M{x} {y}h1v1h-1z");
            }
        }
        text.push_str("\"/>\n");
        text.push_str(&below);
        text.push_str("</svg>\n");
        text
    }
}

/// The light border, in modules.
const QUIET: usize = 4;
/// The height of a line of text in the picture, in modules.
const LINE: usize = 3;
/// From the fixed part of the palette: themes change the first 16 colours.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const AS_BEFORE: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "123453-000000-720885-123453-000000-720885-123453-000000-720885";

    /// What a reader sees in a picture of modules, eight pixels each.
    fn scanned(size: usize, is_dark: impl Fn(usize, usize) -> bool) -> String {
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(size * 8, size * 8, |x, y| {
            if is_dark(x / 8, y / 8) { 0 } else { 255 }
        });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "one code");
        grids[0].decode().unwrap().1
    }

    /// The modules that half-block characters show.
    fn modules(blocks: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in blocks.lines() {
            let (upper, lower) = line
                .chars()
                .map(|c| match c {
                    '█' => (true, true),
                    '▀' => (true, false),
                    '▄' => (false, true),
                    ' ' => (false, false),
                    other => panic!("{other:?}"),
                })
                .unzip();
            rows.extend::<[Vec<bool>; 2]>([upper, lower]);
        }
        rows
    }

    #[test]
    fn blocks_show_a_code_that_says_the_text() {
        let blocks = Picture::of(TEXT.as_bytes()).unwrap().blocks(Ink::Plain);
        let rows = modules(&blocks);
        assert_eq!(scanned(rows[0].len(), |x, y| rows[y][x]), TEXT);
    }

    #[test]
    fn a_terminal_gets_the_same_characters_in_black_on_white() {
        let picture = Picture::of(TEXT.as_bytes()).unwrap();
        let plain = picture.blocks(Ink::Plain);
        let coloured = picture.blocks(Ink::Terminal);
        let lines: Vec<_> = coloured.lines().collect();
        assert!(
            lines.iter().all(|line| line.starts_with("\x1b[38;5;16;48;5;231m") && line.ends_with("\x1b[0m"))
        );
        assert_eq!(coloured.replace(BLACK_ON_WHITE, "").replace(AS_BEFORE, ""), **plain);
    }

    #[test]
    fn the_quiet_zone_is_four_modules_wide() {
        let rows = modules(&Picture::of(TEXT.as_bytes()).unwrap().blocks(Ink::Plain));
        let size = rows[0].len();
        for (y, row) in rows.iter().enumerate() {
            for (x, dark) in row.iter().enumerate() {
                let in_border = [x, y].iter().any(|at| *at < QUIET || *at >= size - QUIET);
                assert!(!(in_border && *dark), "{x} {y}");
            }
        }
        assert!(rows[QUIET][QUIET], "a finder pattern stands in the corner");
    }

    #[test]
    fn svg_shows_the_same_code_and_the_lines_below() {
        let svg = Picture::of(TEXT.as_bytes()).unwrap().svg(["123453-000000", "720885"].into_iter());
        let path = svg.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut dark = std::collections::BTreeSet::new();
        for module in path.split("h1v1h-1z").filter(|module| !module.is_empty()) {
            let (x, y) = module.strip_prefix('M').unwrap().split_once(' ').unwrap();
            dark.insert((x.parse::<usize>().unwrap(), y.parse::<usize>().unwrap()));
        }
        let size = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(scanned(size, |x, y| dark.contains(&(x, y))), TEXT);
        assert!(svg.contains(">123453-000000</text>") && svg.contains(">720885</text>"));
    }
}
