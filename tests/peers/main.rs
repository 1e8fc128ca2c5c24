//! Programs that others wrote open what strongroom makes, and strongroom opens what they make: cryptsetup, qemu-img and
//! dissect.fve on this machine, dm-crypt and cryptsetup in a guest under user-mode-linux.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod combinations;
mod fat;
mod guest;
mod luks;
mod luks_headers;
mod luks_keys;
mod luks_writers;
#[path = "../place/mod.rs"]
mod place;
mod programs;
mod round_trips;
mod tcrypt;
mod tcrypt_writers;

use std::path::Path;

use place::{PASSWORD, Place};

/// Bytes of which no two blocks are alike, so that a sector in the wrong place, or under the wrong number, shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        // Marsaglia's xorshift64*.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        content.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    content.truncate(length);
    content
}

/// What strongroom's block file of a container begins with, read by the user of the place.
fn read_by_strongroom(place: &Place, container: &Path, options: &str, length: usize) -> Vec<u8> {
    let container = container.to_str().unwrap();
    let arguments = format!("mount --block --read-only {container} m --password-file password {options}");
    place.done(arguments.trim_end());
    let mut head = place.command("/usr/bin/head");
    let content = head.arg(format!("--bytes={length}")).arg("m/volume").output().unwrap();
    place.done("unmount m");
    assert!(content.status.success(), "{container}: {}", String::from_utf8_lossy(&content.stderr));
    content.stdout
}

/// A place of an ordinary user with the password in a file that others read too.
fn place_of_ordinary_user() -> Option<Place> {
    place::can_mount().then(|| {
        let place = Place::of_ordinary_user();
        place.make_file("key", PASSWORD);
        place
    })
}
