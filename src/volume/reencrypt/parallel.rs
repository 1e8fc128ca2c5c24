//! A chunk shared by some threads.

use std::{io, thread};

use super::Tuning;

/// Calls `work` for pieces that together are `chunk`, with the offset of each, from as many threads as `tuning` says.
///
/// Pieces are multiples of 4096 bytes, the last one aside, and small enough to stay in a core's cache from reading to
/// writing. With one thread they come in order.
pub(super) fn for_each(
    chunk: &mut [u8],
    tuning: &Tuning,
    work: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let share = chunk.len().div_ceil(tuning.threads).next_multiple_of(PIECE_ALIGNMENT);
    let in_pieces = |share: &mut [u8], mut offset: u64| {
        for piece in share.chunks_mut(PIECE_LEN) {
            work(piece, offset)?;
            offset += PIECE_LEN as u64;
        }
        Ok(())
    };
    let mut shares = chunk.chunks_mut(share.max(1)).zip((0..).step_by(share.max(1)));
    let Some((first, _)) = shares.next() else { return Ok(()) };
    thread::scope(|scope| {
        let others: Vec<_> = shares
            .map(|(share, offset)| {
                let in_pieces = &in_pieces;
                thread::Builder::new().spawn_scoped(scope, move || in_pieces(share, offset))
            })
            .collect();
        // Every thread is waited for, whatever the others came to.
        let mut result = in_pieces(first, 0);
        for other in others {
            let joined = other.and_then(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread of the re-encryption failed")))
            });
            result = result.and(joined);
        }
        result
    })
}

/// The larger sector size, and the page.
const PIECE_ALIGNMENT: usize = 4096;
/// Read, decrypted, encrypted and written, this stays in a core's own cache.
const PIECE_LEN: usize = 128 << 10;
