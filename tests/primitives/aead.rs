//! XChaCha20-Poly1305.

use strongroom::crypto::{
    aead::{OpenError, open, seal},
    secret::DerivedKey,
};

use crate::{bytes, is_valid, wycheproof};

#[test]
fn xchacha20_poly1305_answers_every_wycheproof_case() {
    let Some(tests) = wycheproof("wycheproof-xchacha20_poly1305.json") else { return };
    let (mut opened, mut refused, mut other_nonce) = (0, 0, 0);
    for (_, test) in &tests {
        let Ok(nonce) = <[u8; 24]>::try_from(bytes(test, "iv")) else {
            // The type allows no other length: such a case is refused by the compiler.
            assert!(!is_valid(test));
            other_nonce += 1;
            continue;
        };
        let key = DerivedKey::copy_of(&bytes(test, "key")).unwrap();
        let (aad, ciphertext) = (bytes(test, "aad"), bytes(test, "ct"));
        let tag = <[u8; 16]>::try_from(bytes(test, "tag")).unwrap();
        let mut data = ciphertext.clone();
        let result = open(&key, &nonce, &aad, &mut data, &tag);
        if is_valid(test) {
            assert_eq!(result, Ok(()), "{test}");
            assert_eq!(data, bytes(test, "msg"), "{test}");
            assert_eq!(seal(&key, &nonce, &aad, &mut data).unwrap(), tag, "{test}");
            assert_eq!(data, ciphertext, "{test}");
            opened += 1;
        } else {
            assert_eq!(result, Err(OpenError::BadTag), "{test}");
            assert_eq!(data, ciphertext, "{test}");
            refused += 1;
        }
    }
    assert_eq!((opened, refused, other_nonce), (246, 60, 9));
}
