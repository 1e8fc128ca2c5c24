//! HMAC-SHA-512.

use strongroom::crypto::hash::{equal, hmac_sha512};

use crate::{bytes, is_valid, wycheproof};

#[test]
fn hmac_sha512_answers_every_wycheproof_case() {
    let Some(tests) = wycheproof("wycheproof-hmac_sha512.json") else { return };
    let (mut matching, mut differing) = (0, 0);
    for (group, test) in &tests {
        let bits = usize::try_from(group["tagSize"].as_u64().unwrap()).unwrap();
        let mac = hmac_sha512(&bytes(test, "key"), &[&bytes(test, "msg")]);
        assert_eq!(equal(&mac[..bits / 8], &bytes(test, "tag")), is_valid(test), "{test}");
        if is_valid(test) { matching += 1 } else { differing += 1 }
    }
    assert_eq!((matching, differing), (66, 108));
}
