//! AES-256-GCM with a random nonce for each message, as records and ciphertexts both use it.
//!
//! A sealed message is `nonce (12 bytes) | ciphertext | tag (16 bytes)`.
//!
//! NIST SP 800-38D section 8.3 allows at most 2^32 messages under one key with random nonces, so that the chance of two
//! equal nonces stays below 2^-32. A keystore never comes near that many records. For a key version it is a bound on
//! its use: rotate it before it has encrypted 2^32 messages.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroize;

/// The length of a key, in bytes.
pub(super) const KEY_LEN: usize = 32;
/// How much longer a sealed message is than its plaintext, in bytes.
pub(super) const OVERHEAD: usize = NONCE_LEN + 16;

/// The random generator failed, or the cipher refused its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cipher failed")]
pub(super) struct CipherFailed;

/// The secret bytes of one key version. They are wiped when dropped, and never move: a move copies the pointer alone.
pub(super) struct Material(Box<[u8; KEY_LEN]>);

impl Material {
    /// New random material.
    pub(super) fn random() -> Result<Self, CipherFailed> {
        let mut material = Self(Box::new([0; KEY_LEN]));
        aws_lc_rs::rand::fill(material.0.as_mut_slice()).map_err(|_| CipherFailed)?;
        Ok(material)
    }

    /// A copy of these bytes.
    pub(super) fn copy_of(bytes: &[u8; KEY_LEN]) -> Self {
        let mut material = Self(Box::new([0; KEY_LEN]));
        material.0.copy_from_slice(bytes);
        material
    }

    /// The bytes, for the cipher and for the record that stores them. Never print them.
    pub(super) fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl Drop for Material {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Material(redacted)")
    }
}

/// A key, ready to seal and open.
pub(super) struct SealKey(RandomizedNonceKey);

impl SealKey {
    /// The key with these bytes.
    pub(super) fn new(bytes: &[u8; KEY_LEN]) -> Result<Self, CipherFailed> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| CipherFailed)
    }

    /// Appends the sealed form of `plaintext` to `out`, bound to `associated`.
    pub(super) fn seal(&self, associated: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), CipherFailed> {
        let start = out.len();
        // The whole length at once: growing later would leave copies of the plaintext behind.
        out.reserve(plaintext.len() + OVERHEAD);
        out.extend_from_slice(&[0; NONCE_LEN]);
        out.extend_from_slice(plaintext);
        let message = out.get_mut(start..).and_then(|message| message.split_first_chunk_mut::<NONCE_LEN>());
        let (nonce, body) = message.ok_or(CipherFailed)?;
        let (random, tag) = self.0.seal_in_place_separate_tag(Aad::from(associated), body).map_err(|_| CipherFailed)?;
        *nonce = *random.as_ref();
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens a sealed message in place. None: it was changed, cut, moved, or sealed under another key.
    pub(super) fn open<'a>(&self, associated: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (nonce, body) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_in_place(nonce, Aad::from(associated), body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::new(&[byte; KEY_LEN]).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_under_the_same_key_and_association_alone() {
        let mut sealed = b"before".to_vec();
        key(1).seal(b"place 1", b"plaintext", &mut sealed).unwrap();
        assert_eq!(sealed.len(), 6 + 9 + OVERHEAD);
        let sealed = &sealed[6..];

        assert_eq!(key(1).open(b"place 1", &mut sealed.to_vec()).unwrap(), b"plaintext");
        assert!(key(2).open(b"place 1", &mut sealed.to_vec()).is_none());
        assert!(key(1).open(b"place 2", &mut sealed.to_vec()).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert!(key(1).open(b"place 1", &mut changed).is_none(), "byte {at}");
            assert!(key(1).open(b"place 1", &mut sealed[..at].to_vec()).is_none(), "length {at}");
        }
    }

    #[test]
    fn two_seals_of_one_plaintext_differ() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        key(1).seal(b"", b"plaintext", &mut one).unwrap();
        key(1).seal(b"", b"plaintext", &mut two).unwrap();
        assert_ne!(one, two);
    }

    #[test]
    fn material_is_not_in_its_debug_output() {
        assert_eq!(format!("{:?}", Material::copy_of(&[7; KEY_LEN])), "Material(redacted)");
    }
}
