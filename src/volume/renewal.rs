//! Whether a header that another program changed under a mounted volume still opens that volume: `cryptsetup luksAddKey` is no damage.

use std::sync::Arc;

use crate::{
    format::{CopyState, Fact, Fingerprint, Format, Subject},
    storage::Storage,
};

/// What there is to say of a header that is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is whole, and that of the same volume key.
    Right,
    /// It is that of the same volume key, but something in it is damaged, or not written yet.
    Unfinished,
    /// It is another one, or none.
    Wrong,
}

/// What a header was when the volume was mounted, where its format tells that without a secret.
///
/// The digest of the volume key is among it, which matched the key that opened the volume: as long as it stays, so does the key.
#[derive(Debug)]
pub struct KnownHeader {
    storage: Arc<dyn Storage>,
    format: &'static dyn Format,
    known: Fingerprint,
}

impl KnownHeader {
    /// The header that `known` was taken of. `None` where its keyslots are under a MAC: nobody else changes those.
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        format: &'static dyn Format,
        known: Fingerprint,
    ) -> Option<Self> {
        known.state().is_none().then_some(Self { storage, format, known })
    }

    /// Reads it anew, and takes it for known from then on where it is right.
    pub fn judge(&mut self) -> Change {
        let Ok(header) = self.format.read_header(&*self.storage) else { return Change::Wrong };
        let Some(found) = header.fingerprint() else { return Change::Wrong };
        if !is_of_same_key(&self.known, &found) {
            return Change::Wrong;
        }
        let are_whole = header.describe().headers.iter().all(|copy| copy.state == CopyState::Current);
        if !are_whole || !are_keyslots_whole(&self.known, &found) || header.check_openable().is_err() {
            return Change::Unfinished;
        }
        self.known = found;
        Change::Right
    }

    /// Takes it for known as it is now: somebody was allowed to change it.
    pub fn renew(&mut self) {
        let header = self.format.read_header(&*self.storage).ok();
        if let Some(found) = header.and_then(|header| header.fingerprint()) {
            self.known = found;
        }
    }
}

/// Whether all that decides how the data are read is the same. A digest that is new belongs to a keyslot that is.
fn is_of_same_key(known: &Fingerprint, found: &Fingerprint) -> bool {
    let is_new_digest = |fact: &Fact| {
        fact.is_about(Subject::Digest) && !known.facts().iter().any(|old| old.object == fact.object)
    };
    let of_volume = |fact: &&Fact| !fact.is_about(Subject::Keyslot);
    let old = known.facts().iter().filter(of_volume);
    let new = found.facts().iter().filter(of_volume).filter(|fact| !is_new_digest(fact));
    known.uuid() == found.uuid() && old.eq(new)
}

/// Whether each keyslot that is the same one still holds what it held. One with another salt was made since.
fn are_keyslots_whole(known: &Fingerprint, found: &Fingerprint) -> bool {
    let of_keyslots = known.facts().iter().filter(|fact| fact.is_about(Subject::Keyslot));
    let mut objects: Vec<_> = of_keyslots.map(|fact| &*fact.object).collect();
    objects.dedup();
    objects.into_iter().all(|object| {
        let [old, new] = [known, found]
            .map(|of| of.facts().iter().filter(|fact| fact.object == object).collect::<Vec<_>>());
        let salt =
            |facts: &[&Fact]| facts.iter().find(|fact| fact.name == "salt").map(|fact| fact.digest.clone());
        new.is_empty() || salt(&old) != salt(&new) || old == new
    })
}
