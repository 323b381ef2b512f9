//! What `encrypt` gives out: a ciphertext that names the version it was made under.
//!
//! ```text
//! format (1 byte: 1) | key (16 bytes, a UUID) | version (4 bytes, big-endian) | nonce (12) | ciphertext | tag (16)
//! ```
//!
//! Everything before the nonce is authenticated with it, so that a ciphertext cannot be passed off as another version's.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::seal::{CipherFailed, Material, OVERHEAD, SealKey};
use super::version_ref::VersionRef;

/// The first byte of every ciphertext of this form.
const FORMAT: u8 = 1;
/// The length of what names the version.
const PREFIX_LEN: usize = 1 + 16 + 4;

/// Encrypts under a version.
pub(super) fn encrypt(version: VersionRef, material: &Material, plaintext: &[u8]) -> Result<Vec<u8>, CipherFailed> {
    let prefix = prefix(version);
    let mut ciphertext = Vec::with_capacity(PREFIX_LEN + plaintext.len() + OVERHEAD);
    ciphertext.extend_from_slice(&prefix);
    SealKey::new(material.expose())?.seal(&prefix, plaintext, &mut ciphertext)?;
    Ok(ciphertext)
}

/// The version that a ciphertext names; none if it is no ciphertext of this form.
pub(super) fn version_of(ciphertext: &[u8]) -> Option<VersionRef> {
    let (format, rest) = ciphertext.split_first()?;
    let (key, rest) = rest.split_first_chunk::<16>()?;
    let (number, _) = rest.split_first_chunk::<4>()?;
    let version = VersionRef { key: Uuid::from_bytes(*key), number: u32::from_be_bytes(*number) };
    (*format == FORMAT).then_some(version)
}

/// Decrypts what [`encrypt`] made under `version`. None: it was changed, or is another version's.
pub(super) fn decrypt(version: VersionRef, material: &Material, ciphertext: &[u8]) -> Option<Vec<u8>> {
    let (prefix, sealed) = ciphertext.split_first_chunk::<PREFIX_LEN>()?;
    if version_of(prefix) != Some(version) {
        return None;
    }
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let plaintext = SealKey::new(material.expose()).ok()?.open(prefix, &mut sealed)?;
    Some(plaintext.to_vec())
}

fn prefix(version: VersionRef) -> [u8; PREFIX_LEN] {
    let mut prefix = [0; PREFIX_LEN];
    let parts = std::iter::once(FORMAT).chain(version.key.into_bytes()).chain(version.number.to_be_bytes());
    prefix.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ciphertext_names_its_version_and_opens_under_it_alone() {
        let version = VersionRef { key: Uuid::from_u128(5), number: 258 };
        let other = VersionRef { number: 259, ..version };
        let material = Material::copy_of(&[1; 32]);
        let ciphertext = encrypt(version, &material, b"patient data").unwrap();

        assert_eq!(version_of(&ciphertext), Some(version));
        assert_eq!(decrypt(version, &material, &ciphertext).unwrap(), b"patient data");
        assert_eq!(decrypt(other, &material, &ciphertext), None);

        let mut relabelled = ciphertext.clone();
        relabelled[20] = 3;
        assert_eq!(version_of(&relabelled), Some(other));
        assert_eq!(decrypt(other, &material, &relabelled), None);
    }

    #[test]
    fn other_bytes_are_no_ciphertext() {
        assert_eq!(version_of(b""), None);
        assert_eq!(version_of(&[1; 20]), None);
        assert_eq!(version_of(&[2; 60]), None);
    }
}
