//! A container that was made larger, and what a power cut leaves of that (section 6.1).

use sha2::{Digest, Sha256};

use super::{BACKUP, CONTAINER, COPY, DATA, Edit, Suite, put, with_index};

/// The container afterwards: copy B's new place lies behind the old end.
const LARGER: usize = CONTAINER + 2 * COPY;
const NEW_BACKUP: usize = LARGER - COPY;

pub(super) fn vectors(suite: &mut Suite) {
    let thin = &suite.bases["thin.img"];
    let keys = (thin.volume_key, thin.uuid);
    let mut copy = thin.bytes[..COPY].to_vec();
    put(&mut copy, 128, &2_u64.to_le_bytes());
    for (place, value) in [NEW_BACKUP - COPY, LARGER, NEW_BACKUP].into_iter().enumerate() {
        put(&mut copy, 160 + 8 * place, &(value as u64).to_le_bytes());
    }
    let (a, b) = (with_index(&copy, 0, &keys), with_index(&copy, 1, &keys));
    let mut plaintext = thin.plaintext.clone();
    plaintext.resize(plaintext.len() + NEW_BACKUP - COPY - DATA, 0);
    let sha256 = hex::encode(Sha256::digest(&plaintext));

    let edit = |offset: usize, bytes: &[u8]| Edit { offset: offset as u64, bytes: hex::encode(bytes) };
    let cleared = edit(BACKUP, &vec![0; COPY]);
    let mut signed = vec![0; COPY];
    signed[48..64].copy_from_slice(&keys.1);
    let grown = [
        (
            "grown",
            "a container that was made larger",
            vec![edit(0, &a), cleared.clone(), edit(NEW_BACKUP, &b)],
        ),
        (
            "grown-copy-a-older",
            "of a growth, copy B is at its new place, and copy A not written yet",
            vec![cleared.clone(), edit(NEW_BACKUP, &b)],
        ),
        (
            "grown-copy-a-zeros",
            "a container that was made larger and lost copy A",
            vec![edit(0, &vec![0; COPY]), cleared.clone(), edit(NEW_BACKUP, &b)],
        ),
        (
            "grown-copy-b-unfinished",
            "of a growth, copy B is at its new place but for its magic",
            vec![cleared.clone(), edit(NEW_BACKUP, &b), edit(NEW_BACKUP, &[0; 16])],
        ),
    ];
    let rules = ["NAT-GROW-01", "NAT-GROW-03"];
    for (name, comment, edits) in grown {
        let vector = suite.success(name, "thin.img", &rules, comment);
        (vector.length, vector.edit, vector.after) = (Some(LARGER as u64), edits, "whole".to_owned());
        vector.sha256 = Some(sha256.clone());
        if name == "grown" {
            vector.after = "unchanged".to_owned();
        }
    }
    let begun = [
        ("growth-copy-b-gone", "of a growth, copy B has gone from its old place", vec![cleared.clone()]),
        (
            "growth-copy-b-signed",
            "of a growth, copy B has its uuid at its new place",
            vec![cleared, edit(NEW_BACKUP, &signed)],
        ),
    ];
    for (name, comment, edits) in begun {
        let vector = suite.success(name, "thin.img", &["NAT-GROW-02", "NAT-GROW-03"], comment);
        (vector.length, vector.edit, vector.after) = (Some(LARGER as u64), edits, "whole".to_owned());
    }
}
