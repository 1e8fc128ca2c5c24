//! What is in the folder of a container in pieces, and what is wrong with it.

use std::{ffi::OsStr, fmt, io, path::PathBuf};

use super::{COPY_NAME, HEADER_NAME, PieceError, Pieces};

/// Something that is wrong with a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A piece that cannot be read, and why.
    Piece(PieceError),
    /// This piece and perhaps others after it, behind the container's end.
    Behind(u32),
    /// A file that looks as if a program that synchronises folders had put it beside a file of the folder.
    Beside(PathBuf),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Piece(error) => error.fmt(f),
            Self::Behind(index) => write!(
                f,
                "piece {}, or more, lies behind the end: a change of size was interrupted, and resize with the same size ends it",
                super::piece_name(*index)
            ),
            Self::Beside(name) => write!(
                f,
                "{} lies beside the files of the container: perhaps a program that synchronises folders has put it there, because two machines had written to it",
                crate::text::path::shown(name)
            ),
        }
    }
}

/// What is wrong with a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// At most [`MOST_FAULTS`](Self::MOST_FAULTS) of them.
    pub faults: Vec<Fault>,
    /// How many more there are.
    pub more: u32,
}

impl Survey {
    /// So many faults are kept.
    pub const MOST_FAULTS: usize = 100;

    fn add(&mut self, fault: Fault) {
        if self.faults.len() < Self::MOST_FAULTS {
            self.faults.push(fault);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

impl Pieces {
    /// Looks for pieces that are missing, and files that lie beside them, by their names alone; where there are few pieces, looks
    /// at each one.
    ///
    /// # Errors
    /// What reading the folder gave.
    pub fn glance(&self) -> io::Result<Survey> {
        self.look(self.geometry().pieces() <= FEW)
    }

    /// The same, and opens each piece.
    ///
    /// # Errors
    /// What reading the folder, or a piece, gave.
    pub fn survey(&self) -> io::Result<Survey> {
        self.look(true)
    }

    fn look(&self, opens: bool) -> io::Result<Survey> {
        let mut survey = Survey::default();
        // What is wrong with pieces comes first: it must not be lost among many others.
        let (mut beside, mut behind) = (Vec::new(), None);
        let mut present = super::Bits::none(self.geometry().pieces());
        self.folder.each_name(&mut |name| match self.kind_of(name) {
            Kind::Piece(index) => present.add(index),
            Kind::Behind(index) => behind = Some(behind.map_or(index, |first: u32| first.min(index))),
            Kind::Beside if beside.len() < Survey::MOST_FAULTS => {
                beside.push(Fault::Beside(PathBuf::from(name)));
            }
            Kind::Beside => survey.more = survey.more.saturating_add(1),
            Kind::Other => {}
        })?;
        for index in 0..self.geometry().pieces() {
            if !present.has(index) {
                if self.has_made(index) {
                    survey.add(Fault::Piece(PieceError::Missing(index)));
                }
            } else if opens && let Err(error) = self.open_file(index) {
                match error.downcast::<PieceError>() {
                    Ok(fault) => survey.add(Fault::Piece(fault)),
                    Err(error) => return Err(error),
                }
            }
        }
        behind.map(Fault::Behind).into_iter().chain(beside).for_each(|fault| survey.add(fault));
        Ok(survey)
    }

    /// Calls `tell` with the number of each piece that the folder has.
    pub(super) fn each_piece(&self, tell: &mut dyn FnMut(u32)) -> io::Result<()> {
        self.folder.each_name(&mut |name| {
            if let Kind::Piece(index) = self.kind_of(name) {
                tell(index);
            }
        })
    }

    pub(super) fn kind_of(&self, name: &OsStr) -> Kind {
        let Some(text) = name.to_str() else {
            let is_like = name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
            return if is_like { Kind::Beside } else { Kind::Other };
        };
        if text == HEADER_NAME || text == COPY_NAME {
            return Kind::Other;
        }
        let digits = text.get(..8).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let index = digits.and_then(|digits| digits.parse::<u32>().ok());
        match index {
            // That is its name: eight digits, and nothing behind them.
            Some(index) if index < self.geometry().pieces() && text.len() == 8 => Kind::Piece(index),
            Some(index) if text.len() == 8 => Kind::Behind(index),
            // What a power cut left of a piece that was being made.
            Some(_) if text.get(8..) == Some(".new") => Kind::Other,
            Some(_) => Kind::Beside,
            // What this program itself keeps beside a file that it replaces.
            None if OWN
                .iter()
                .any(|own| text.strip_prefix(HEADER_NAME).is_some_and(|rest| rest.starts_with(own))) =>
            {
                Kind::Other
            }
            None if text.starts_with(HEADER_NAME) => Kind::Beside,
            None => Kind::Other,
        }
    }
}

/// What the name of a file in the folder says.
pub(super) enum Kind {
    Piece(u32),
    Behind(u32),
    Beside,
    Other,
}

/// What stands behind the name of a header file that was kept, and of one that is being made.
const OWN: [&str; 5] = [".replaced", ".rescued", ".new", ".copy.replaced", ".copy.new"];

/// So many pieces can be looked at without anybody noticing.
const FEW: u32 = 256;
