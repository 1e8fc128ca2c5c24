//! What is wrong with a folder of pieces.

use std::io;

use super::{BlockError, COPY_NAME, HEADER_NAME, piece_name};

/// What is wrong with a piece that was to be read or written, or with the map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// It was made, and is not there.
    #[error("piece {} is missing", piece_name(*.0))]
    Missing(u32),
    /// Its file is another container's, or another piece, or damaged.
    #[error("piece {} is not what was made under this name: {reason}", piece_name(*.index))]
    Foreign {
        /// The piece.
        index: u32,
        /// What is found there.
        reason: String,
    },
    /// Its file is shorter or longer than it was made.
    #[error("piece {} has {len} bytes instead of {expected}", piece_name(*.index))]
    Length {
        /// The piece.
        index: u32,
        /// The bytes that it has.
        len: u64,
        /// The bytes that it was made with.
        expected: u64,
    },
    /// It is not there, and whether it was ever made only the key tells.
    #[error("whether piece {} was ever made is not known before the container is unlocked", piece_name(*.0))]
    Untold(u32),
    /// No map is whole.
    #[error("both piece maps are damaged")]
    NoMap,
    /// The maps were made under another key, or changed by somebody who has none.
    #[error("the piece maps are not authentic: somebody without the password has changed them")]
    Forged,
    /// A header file does not begin as one.
    #[error("{0}: {1}")]
    Block(&'static str, BlockError),
    /// The header file and its copy belong to two folders.
    #[error("{HEADER_NAME} and {COPY_NAME} are not of one folder")]
    Apart,
}

impl From<PieceError> for io::Error {
    fn from(error: PieceError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
