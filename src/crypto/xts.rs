//! AES-XTS (IEEE 1619), batched over the `aes` crate.
