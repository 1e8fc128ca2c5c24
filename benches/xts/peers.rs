//! AES-256-XTS of other libraries over runs of sectors, each sector with its own IV, as a volume needs it.

#[cfg(peers)]
use std::ptr;

#[cfg(peers)]
use aws_lc_sys::{
    EVP_CIPHER_CTX, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new, EVP_Cipher, EVP_CipherInit_ex, EVP_aes_256_xts,
};
use openssl::{cipher::Cipher, cipher_ctx::CipherCtx, version};

/// The system's OpenSSL, or another one by `LD_LIBRARY_PATH`.
pub(super) struct OpenSsl {
    context: CipherCtx,
    encrypts: bool,
}

impl OpenSsl {
    pub(super) fn new(key: &[u8], encrypts: bool) -> Self {
        let mut context = CipherCtx::new().unwrap();
        if encrypts {
            context.encrypt_init(Some(Cipher::aes_256_xts()), Some(key), None).unwrap();
        } else {
            context.decrypt_init(Some(Cipher::aes_256_xts()), Some(key), None).unwrap();
        }
        Self { context, encrypts }
    }

    pub(super) fn version() -> &'static str {
        version::version()
    }

    /// Whether it has only the code for AES-NI: that for VAES came with 3.5 at the latest.
    pub(super) fn is_3_0() -> bool {
        version::number() < 0x3010_0000
    }

    pub(super) fn crypt(&mut self, data: &mut [u8], sector_size: usize, first: u64) {
        for (number, sector) in (first..).zip(data.chunks_exact_mut(sector_size)) {
            let iv = u128::from(number).to_le_bytes();
            if self.encrypts {
                self.context.encrypt_init(None, None, Some(&iv)).unwrap();
            } else {
                self.context.decrypt_init(None, None, Some(&iv)).unwrap();
            }
            self.context.cipher_update_inplace(sector, sector_size).unwrap();
        }
    }
}

/// aws-lc, built by the crate of that name.
#[cfg(peers)]
pub(super) struct AwsLc(*mut EVP_CIPHER_CTX);

#[cfg(peers)]
#[allow(unsafe_code, reason = "the crate with a safe interface has no XTS")]
impl AwsLc {
    pub(super) fn new(key: &[u8; 64], encrypts: bool) -> Self {
        // SAFETY: takes nothing; null is refused below.
        let context = unsafe { EVP_CIPHER_CTX_new() };
        assert!(!context.is_null());
        // SAFETY: a static cipher.
        let cipher = unsafe { EVP_aes_256_xts() };
        // SAFETY: a live context, the 64 bytes of key that this cipher reads, and no IV yet.
        let done = unsafe {
            EVP_CipherInit_ex(context, cipher, ptr::null_mut(), key.as_ptr(), ptr::null(), encrypts.into())
        };
        assert_eq!(done, 1);
        Self(context)
    }

    pub(super) fn crypt(&mut self, data: &mut [u8], sector_size: usize, first: u64) {
        for (number, sector) in (first..).zip(data.chunks_exact_mut(sector_size)) {
            let iv = u128::from(number).to_le_bytes();
            // SAFETY: a live context, whose cipher reads an IV of 16 bytes; -1 leaves the direction as it is.
            let set = unsafe {
                EVP_CipherInit_ex(self.0, ptr::null(), ptr::null_mut(), ptr::null(), iv.as_ptr(), -1)
            };
            // SAFETY: reads and writes the sector, in place.
            let done = unsafe { EVP_Cipher(self.0, sector.as_mut_ptr(), sector.as_ptr(), sector.len()) };
            assert_eq!((set, done), (1, 1));
        }
    }
}

#[cfg(peers)]
#[allow(unsafe_code, reason = "frees what was made by another language")]
impl Drop for AwsLc {
    fn drop(&mut self) {
        // SAFETY: the context is live, and nobody uses it again.
        unsafe { EVP_CIPHER_CTX_free(self.0) };
    }
}
