//! Containers with keyslots for FIDO2 tokens, and what can be wrong with them (section 3.4 of the specification).

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Fixed, Made, Opens, PASSWORD, Slot, Suite, make, put};

/// A FIDO2 token with one credential, in hexadecimal: its id, and `CredRandom` with and without user verification.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) credential: String,
    pub(crate) with_uv: String,
    pub(crate) without_uv: String,
}

impl Token {
    fn new(name: &str, id_len: usize) -> Self {
        let mut random = Fixed(format!("token {name}"), 0);
        let id = random.take::<1024>();
        Self {
            credential: hex::encode(&id[..id_len]),
            with_uv: hex::encode(random.take::<32>()),
            without_uv: hex::encode(random.take::<32>()),
        }
    }

    /// CTAP 2.1, 12.5: HMAC-SHA-256(CredRandom, salt).
    pub(crate) fn hmac_secret(&self, salt: &[u8], verified: bool) -> [u8; 32] {
        let key = hex::decode(if verified { &self.with_uv } else { &self.without_uv }).unwrap();
        Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(salt).finalize().into_bytes().into()
    }
}

/// Fills what a slot asks of `token`; gives the answer.
pub(super) fn ask(token: &Token, verified: bool, slot: &mut [u8; 2048], random: &mut Fixed) -> [u8; 32] {
    let hmac_salt = random.take::<32>();
    let id = hex::decode(&token.credential).unwrap();
    put(slot, 232, &u32::from(verified).to_le_bytes());
    put(slot, 236, &(id.len() as u16).to_le_bytes());
    put(slot, 240, &hmac_salt);
    put(slot, 272, &id);
    token.hmac_secret(&hmac_salt, verified)
}

/// The token of keyslot 1, which verifies nobody, and that of keyslot 2, with the longest credential id.
fn tokens() -> [Token; 2] {
    [Token::new("of slot 1", 64), Token::new("of slot 2", 1024)]
}

/// The token of keyslot 1 of `fido2.img`.
pub(crate) fn first_token() -> Token {
    let [token, _] = tokens();
    token
}

pub(super) fn base() -> Made {
    let [token, with_pin] = &tokens();
    let slot = |index, opens| Slot { index, priority: 1, label: "token", opens };
    let slots = [
        slot(0, Opens::Password(PASSWORD)),
        slot(1, Opens::Fido2(token, false)),
        slot(2, Opens::Fido2(with_pin, true)),
    ];
    make("fido2", 4096, 0, &[], &slots)
}

const BASE: &str = "fido2.img";
const HEADER: &str = "header failure";
const UNLOCK: &str = "unlock failure";

pub(super) fn vectors(suite: &mut Suite) {
    let [token, with_pin] = tokens();
    let rules = ["NAT-FIDO-04", "NAT-FIDO-05", "NAT-SLOT-03", "NAT-SLOT-06"];
    suite.success("fido2-token", BASE, &rules, "the token of keyslot 1").fido2 = Some(token.clone());
    let rules = ["NAT-FIDO-02", "NAT-FIDO-05", "NAT-FIDO-06"];
    let comment = "the token of keyslot 2, with its PIN; it does not know the credential of keyslot 1";
    suite.success("fido2-token-with-pin", BASE, &rules, comment).fido2 = Some(with_pin);
    suite.success("fido2-password", BASE, &["NAT-SLOT-03"], "the password of keyslot 0 beside them");

    let other = Token::new("of nobody", 64);
    let liar = Token { credential: token.credential.clone(), ..other.clone() };
    let strangers = [
        ("fido2-other-token", "NAT-FIDO-06", "no slot has its credential", other),
        ("fido2-other-random", "NAT-FIDO-05", "the right credential, other keys behind it", liar),
    ];
    for (name, rule, comment, token) in strangers {
        let vector = suite.failure(name, &[rule], UNLOCK, comment);
        (vector.base, vector.fido2) = (BASE.to_owned(), Some(token));
    }
    forgeries(suite, &token);
}

/// Name, offset within a copy, bytes there, expected answer, rule, and the token that is presented.
type Forgery<'a> = (&'static str, usize, &'static [u8], &'static str, &'static str, &'a Token);

fn forgeries(suite: &mut Suite, token: &Token) {
    // One that answers the same with as without a PIN: only the associated data tells the forgery.
    let indifferent = &Token { with_uv: token.without_uv.clone(), ..token.clone() };
    // Keyslot 1 begins at 6144.
    let forgeries: [Forgery<'_>; 13] = [
        ("flag-unknown", 6376, &[2], HEADER, "NAT-FIDO-01", token),
        ("flag-high", 6379, &[0x80], HEADER, "NAT-FIDO-01", token),
        ("verified", 6376, &[1], UNLOCK, "NAT-FIDO-05", token),
        ("verified-same-answer", 6376, &[1], UNLOCK, "NAT-FIDO-04", indifferent),
        ("length-0", 6380, &[0, 0], HEADER, "NAT-FIDO-02", token),
        ("length-1025", 6380, &[1, 4], HEADER, "NAT-FIDO-02", token),
        ("length-shorter", 6380, &[63, 0], HEADER, "NAT-FIDO-03", token),
        ("length-longer", 6380, &[65, 0], UNLOCK, "NAT-FIDO-02", token),
        ("reserved", 6382, &[1], HEADER, "NAT-SLOT-07", token),
        ("hmac-salt", 6384, &[0; 32], UNLOCK, "NAT-FIDO-05", token),
        ("reserved-tail", 8191, &[1], HEADER, "NAT-SLOT-07", token),
        ("kind", 6144, &[3], HEADER, "NAT-SLOT-07", token),
        ("passes", 6164, &[1], HEADER, "NAT-SLOT-10", token),
    ];
    for (name, offset, value, expect, rule, token) in forgeries {
        let edit = suite.edits_of(BASE, &[0, 1], offset, value, true);
        let comment = "both copies, checksums made right";
        let vector = suite.failure(&format!("forged-fido2-{name}"), &[rule], expect, comment);
        (vector.base, vector.edit, vector.fido2) = (BASE.to_owned(), edit, Some(token.clone()));
    }
}
