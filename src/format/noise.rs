//! Ciphertext told from other bytes.

/// Whether bytes may be ciphertext. Of 512 random bytes, about 221 differ from each other; fewer than 150 do so once in 2^147 times.
pub fn looks_random(sector: &[u8]) -> bool {
    let mut seen = [false; 256];
    for &byte in sector {
        if let Some(seen) = seen.get_mut(usize::from(byte)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count() >= LEAST_VALUES
}

const LEAST_VALUES: usize = 150;
