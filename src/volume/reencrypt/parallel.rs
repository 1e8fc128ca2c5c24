//! A chunk shared by some threads.

use std::{io, sync::mpsc, thread};

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
            result = result.and(joined(other));
        }
        result
    })
}

/// The same, and calls `then` for each piece after its work, in order, on the caller's thread. That one works on no piece itself, unless
/// it is the only one: what `then` does can only be done in one order, and takes as long as all the rest.
pub(super) fn for_each_then(
    chunk: &mut [u8],
    tuning: &Tuning,
    work: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
    mut then: impl FnMut(&[u8]),
) -> io::Result<()> {
    let workers = tuning.threads.saturating_sub(1);
    let count = chunk.len().div_ceil(PIECE_LEN);
    let pieces = chunk.chunks_mut(PIECE_LEN).zip((0..).step_by(PIECE_LEN));
    if workers == 0 {
        for (piece, offset) in pieces {
            work(piece, offset)?;
            then(piece);
        }
        return Ok(());
    }
    let mut shares: Vec<Vec<(&mut [u8], u64)>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, piece) in pieces.enumerate() {
        if let Some(share) = shares.get_mut(number % workers) {
            share.push(piece);
        }
    }
    thread::scope(|scope| {
        let (threads, done): (Vec<_>, Vec<_>) = shares
            .into_iter()
            .map(|share| {
                let (tell, told) = mpsc::channel::<&[u8]>();
                let work = &work;
                let in_pieces = move || {
                    for (piece, offset) in share {
                        work(piece, offset)?;
                        // Where nobody listens any more another thread has failed.
                        let _ = tell.send(piece);
                    }
                    Ok(())
                };
                (thread::Builder::new().spawn_scoped(scope, in_pieces), told)
            })
            .unzip();
        for told in done.iter().cycle().take(count) {
            let Ok(piece) = told.recv() else { break };
            then(piece);
        }
        // Every thread is waited for, whatever the others came to.
        let results: Vec<_> = threads.into_iter().map(joined).collect();
        results.into_iter().collect()
    })
}

/// What a thread came to.
fn joined(thread: io::Result<thread::ScopedJoinHandle<'_, io::Result<()>>>) -> io::Result<()> {
    let panicked = |_| Err(io::Error::other("a thread of the re-encryption failed"));
    thread?.join().unwrap_or_else(panicked)
}

/// The larger sector size, and the page.
const PIECE_ALIGNMENT: usize = 4096;
/// Read, decrypted, encrypted and written, this stays in a core's own cache.
const PIECE_LEN: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(threads: usize) -> Tuning {
        Tuning { chunk_len: 1 << 20, threads }
    }

    #[test]
    fn what_follows_the_work_sees_every_piece_in_order_whatever_the_threads() {
        for threads in 1..=5 {
            for len in [0, 1, PIECE_LEN, PIECE_LEN + 1, 5 * PIECE_LEN + 4096] {
                let mut chunk = vec![0; len];
                let mut seen = Vec::new();
                let mark = |piece: &mut [u8], offset: u64| {
                    piece.fill(u8::try_from(offset / PIECE_LEN as u64 + 1).unwrap());
                    Ok(())
                };
                for_each_then(&mut chunk, &tuning(threads), mark, |piece| seen.extend_from_slice(piece))
                    .unwrap();
                assert!(
                    seen == chunk && chunk.is_sorted() && !chunk.contains(&0),
                    "{threads} threads, {len}"
                );
            }
        }
    }

    #[test]
    fn a_piece_that_fails_ends_it_with_its_error() {
        for threads in 1..=3 {
            let mut chunk = vec![0; 6 * PIECE_LEN];
            let fails = |_: &mut [u8], offset: u64| {
                if offset == 3 * PIECE_LEN as u64 { Err(io::Error::other("this one")) } else { Ok(()) }
            };
            let mut seen = 0;
            let ended = for_each_then(&mut chunk, &tuning(threads), fails, |_| seen += 1);
            assert_eq!(ended.unwrap_err().to_string(), "this one");
            assert!(seen >= 3 || threads > 2, "{seen}");
        }
    }
}
