//! XChaCha20-Poly1305, which wraps the volume key in a keyslot.
