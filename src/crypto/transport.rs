//! How a secret travels to the desktop's keyring and back (Secret Service API 0.2,
//! `dh-ietf1024-sha256-aes128-cbc-pkcs7`): both ends agree on a key, and the bus between them sees what it encrypts.
//!
//! It keeps the secret from who only listens. The other end is not authenticated, and nothing tells that a message was changed.

use std::fmt;

use aes::{
    Aes128,
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};
use crypto_bigint::{
    Odd, U1024,
    modular::{FixedMontyForm, FixedMontyParams},
};
use zeroize::zeroize_stack;

use super::{
    kdf::hkdf_sha256,
    rng::Rng,
    secret::{DerivedKey, Password},
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::memory::{LockedBox, LockedBytes},
};

/// Bytes of a public number, and of a shared secret.
pub const PUBLIC_LEN: usize = 128;

/// Our half of an agreement on a key.
pub struct Exchange {
    exponent: LockedBytes,
    public: [u8; PUBLIC_LEN],
}

impl Exchange {
    /// Draws a secret number.
    ///
    /// # Errors
    /// Those of `rng`, and of locked memory.
    pub fn begin(rng: &dyn Rng) -> Result<Self> {
        let mut exponent = LockedBytes::zeroed(PUBLIC_LEN)?;
        rng.fill(exponent.as_mut_slice())?;
        let mut public = [0; PUBLIC_LEN];
        power(&U1024::from_u8(GENERATOR), exponent.as_slice(), &mut public);
        Ok(Self { exponent, public })
    }

    /// What the other end is told.
    pub const fn public(&self) -> &[u8; PUBLIC_LEN] {
        &self.public
    }

    /// The key that both ends have once the other one has told its public number, big-endian.
    ///
    /// # Errors
    /// `Usage` for a number with which everybody would know the key.
    pub fn agree(&self, theirs: &[u8]) -> Result<Transport> {
        let unusable = || Error::usage("the other end's public number is none");
        let zeros = theirs.iter().take_while(|byte| **byte == 0).count();
        let significant = theirs.get(zeros..).unwrap_or_default();
        let start = PUBLIC_LEN.checked_sub(significant.len()).ok_or_else(unusable)?;
        let mut padded = [0; PUBLIC_LEN];
        padded[start..].copy_from_slice(significant);
        let theirs = U1024::from_be_slice(&padded);
        if theirs <= U1024::ONE || theirs >= PRIME.wrapping_sub(&U1024::ONE) {
            return Err(unusable());
        }
        let mut shared = LockedBytes::zeroed(PUBLIC_LEN)?;
        power(&theirs, self.exponent.as_slice(), shared.as_mut_slice());
        Ok(Transport { key: hkdf_sha256(shared.as_slice(), &[], &[], KEY_LEN)? })
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

/// Writes `base` to the power of `exponent`, modulo the group's prime, into `out`.
fn power(base: &U1024, exponent: &[u8], out: &mut [u8]) {
    power_on_the_stack(base, exponent, out);
    zeroize_stack::<STACK_WIPED>();
}

#[inline(never)] // What it leaves on the stack is wiped.
fn power_on_the_stack(base: &U1024, exponent: &[u8], out: &mut [u8]) {
    let params = FixedMontyParams::new_vartime(PRIME);
    let power = FixedMontyForm::new(base, &params).pow(&U1024::from_be_slice(exponent)).retrieve();
    let limbs = power.as_limbs().iter().rev();
    for (bytes, limb) in out.chunks_mut(size_of::<u64>()).zip(limbs) {
        bytes.copy_from_slice(&limb.0.to_be_bytes());
    }
}

/// What both ends encrypt with.
#[derive(Debug)]
pub struct Transport {
    key: DerivedKey,
}

impl Transport {
    /// Encrypts a password under a fresh initialisation vector, which is given first.
    ///
    /// # Errors
    /// Those of `rng`, and of locked memory.
    pub fn seal(&self, password: &Password, rng: &dyn Rng) -> Result<([u8; BLOCK], Vec<u8>)> {
        let mut iv = [0; BLOCK];
        rng.fill(&mut iv)?;
        let padding = BLOCK - password.len() % BLOCK;
        let mut bytes = LockedBytes::zeroed(password.len() + padding)?;
        let (text, pad) = bytes.as_mut_slice().split_at_mut(password.len());
        text.copy_from_slice(password.expose());
        pad.fill(u8::try_from(padding).unwrap_or_default());
        let cipher = self.cipher()?;
        let mut before = iv;
        for block in bytes.as_mut_slice().as_chunks_mut::<BLOCK>().0 {
            xor(block, &before);
            cipher.encrypt_block(Array::cast_from_core_mut(block));
            before = *block;
        }
        zeroize_stack::<STACK_WIPED>();
        Ok((iv, bytes.as_slice().to_vec()))
    }

    /// Decrypts what the other end has encrypted.
    ///
    /// # Errors
    /// `Damaged` for what nobody encrypted with this key in this way.
    pub fn open(&self, iv: &[u8], ciphertext: &[u8]) -> Result<Password> {
        let damaged = || Error::new(ErrorKind::Damaged, "what the keyring sent cannot be decrypted");
        let mut before: [u8; BLOCK] = iv.try_into().map_err(|_| damaged())?;
        let mut bytes = LockedBytes::zeroed(ciphertext.len())?;
        bytes.as_mut_slice().copy_from_slice(ciphertext);
        let (blocks, rest) = bytes.as_mut_slice().as_chunks_mut::<BLOCK>();
        if !rest.is_empty() {
            return Err(damaged());
        }
        let cipher = self.cipher()?;
        for block in blocks {
            let next = *block;
            cipher.decrypt_block(Array::cast_from_core_mut(block));
            xor(block, &before);
            before = next;
        }
        zeroize_stack::<STACK_WIPED>();
        let text = unpadded(bytes.as_slice()).ok_or_else(damaged)?;
        Ok(Password::copy_of(text)?)
    }

    fn cipher(&self) -> Result<LockedBox<Aes128>> {
        let key: &[u8; KEY_LEN] =
            self.key.expose().try_into().map_err(|_| Error::usage("the key has another length"))?;
        Ok(LockedBox::new(|| Aes128::new(key.into()))?)
    }
}

/// The text before its padding (PKCS #7): as many bytes as each of them says.
fn unpadded(bytes: &[u8]) -> Option<&[u8]> {
    let padding = *bytes.last()?;
    let len = usize::from(padding);
    let (text, pad) = bytes.split_at_checked(bytes.len().checked_sub(len)?)?;
    ((1..=BLOCK).contains(&len) && pad.iter().all(|byte| *byte == padding)).then_some(text)
}

fn xor(block: &mut [u8; BLOCK], other: &[u8; BLOCK]) {
    for (byte, other) in block.iter_mut().zip(other) {
        *byte ^= other;
    }
}

/// The Second Oakley Group (RFC 2409, 6.2).
const PRIME: Odd<U1024> = Odd::<U1024>::from_be_hex(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
     EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED\
     EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
);
const GENERATOR: u8 = 2;
const KEY_LEN: usize = 16;
const BLOCK: usize = 16;
/// More than the powers of a number take that an exponentiation puts there.
const STACK_WIPED: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::rng::OsRng;

    /// Gives the same byte throughout.
    struct Same(u8);

    impl Rng for Same {
        fn fill(&self, buf: &mut [u8]) -> std::io::Result<()> {
            buf.fill(self.0);
            Ok(())
        }
    }

    fn password(text: &[u8]) -> Password {
        Password::copy_of(text).unwrap()
    }

    #[test]
    fn both_ends_agree_on_one_key() {
        let (ours, theirs) = (Exchange::begin(&OsRng).unwrap(), Exchange::begin(&OsRng).unwrap());
        let sender = ours.agree(theirs.public()).unwrap();
        let receiver = theirs.agree(ours.public()).unwrap();
        for text in [&b""[..], b"a", b"fifteen bytes..", b"sixteen bytes...", &[0xA5; 1000]] {
            let (iv, bytes) = sender.seal(&password(text), &OsRng).unwrap();
            assert_eq!(receiver.open(&iv, &bytes).unwrap().expose(), text);
            // One byte may be there by chance.
            assert!(text.len() < 8 || !bytes.windows(text.len()).any(|part| part == text));
        }
        let other = Exchange::begin(&OsRng).unwrap().agree(ours.public()).unwrap();
        let (iv, bytes) = sender.seal(&password(&[7; 100]), &OsRng).unwrap();
        assert!(other.open(&iv, &bytes).map_or(true, |text| text.expose() != [7; 100]));
    }

    /// Worked out by Python's integers, its `hmac`, and OpenSSL.
    #[test]
    fn the_key_and_the_ciphertext_are_those_of_other_implementations() {
        let (ours, theirs) = (Exchange::begin(&Same(1)).unwrap(), Exchange::begin(&Same(2)).unwrap());
        assert_eq!(hex::encode(&ours.public()[..16]), PUBLIC_START);
        let transport = ours.agree(theirs.public()).unwrap();
        assert_eq!(hex::encode(transport.key.expose()), AGREED);
        let (iv, bytes) = transport.seal(&password(b"correct horse battery"), &Same(3)).unwrap();
        assert_eq!((iv, &*hex::encode(bytes)), ([3; 16], SEALED));
    }

    const PUBLIC_START: &str = "81ad5ee9e59af2006d508ad46dc55c47";
    const AGREED: &str = "746a6a1f2f8e29f1e0f1fb88285c561a";
    const SEALED: &str = "e45f8a0e48a7101c15be2cb9daef153cee569c214baea1ebb0c4ec69617b76d0";

    #[test]
    fn a_number_that_gives_the_key_away_is_refused() {
        let ours = Exchange::begin(&OsRng).unwrap();
        let mut least = [0; PUBLIC_LEN + 5];
        let prime: [u8; PUBLIC_LEN] = hex::decode(PRIME.to_string()).unwrap().try_into().unwrap();
        let mut before_it = prime;
        before_it[PUBLIC_LEN - 1] -= 1;
        for theirs in [&[][..], &[0], &[1], &least, &prime, &before_it, &[9; PUBLIC_LEN + 1]] {
            assert_eq!(ours.agree(theirs).unwrap_err().kind(), ErrorKind::Usage, "{theirs:?}");
        }
        least[PUBLIC_LEN + 4] = 2;
        ours.agree(&least).unwrap();
    }

    #[test]
    fn what_was_not_encrypted_so_is_no_password() {
        let ours = Exchange::begin(&OsRng).unwrap();
        let transport = ours.agree(&[5]).unwrap();
        let (iv, bytes) = transport.seal(&password(b"correct horse"), &OsRng).unwrap();
        for (iv, bytes) in [(&iv[..15], &bytes[..]), (&iv, &bytes[..15]), (&iv, &[]), (&[], &[])] {
            assert_eq!(transport.open(iv, bytes).unwrap_err().kind(), ErrorKind::Damaged);
        }
        for (bytes, text) in [
            (&[1, 2, 3, 1][..], Some(&[1, 2, 3][..])),
            (&[2, 2], Some(&[])),
            (&[3, 2], None),
            (&[7, 0], None),
            (&[17; 32], None),
            (&[], None),
        ] {
            assert_eq!(unpadded(bytes), text);
        }
    }
}
