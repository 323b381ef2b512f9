//! The header of a keystore: its format, its salt, and how a wrong root key is told from damage.
//!
//! ```text
//! magic (8) | format (4) | salt (32) | key check (32) | checksum (16)
//! ```
//!
//! The root key and the salt give, by HKDF-SHA256 (RFC 5869), the key check and the key that seals the records. The
//! checksum is the beginning of the SHA-256 of what is before it: with a wrong checksum the header is damaged, and with
//! a right one and a wrong check it belongs to another root key. The layout is that of every format, so that damage is
//! never taken for a newer one.

use std::path::Path;

use aws_lc_rs::{digest, hkdf, rand};
use zeroize::Zeroizing;

use super::error::KeystoreError;
use super::root_key::RootKey;
use super::seal::{CipherFailed, KEY_LEN, SealKey};

/// Not text, and with both kinds of line end, so that a transfer that takes it for text shows.
const MAGIC: [u8; 8] = *b"\x89KWKS\r\n\n";
const FORMAT: u32 = 1;
const SALT_LEN: usize = 32;
const CHECKSUM_LEN: usize = 16;
const CHECKED_LEN: usize = 8 + 4 + SALT_LEN + KEY_LEN;
/// The length of a header, in bytes.
pub(super) const LEN: usize = CHECKED_LEN + CHECKSUM_LEN;

/// A new header, with a salt of its own.
pub(super) fn make(root_key: &RootKey) -> Result<Vec<u8>, CipherFailed> {
    let mut salt = [0; SALT_LEN];
    rand::fill(&mut salt).map_err(|_| CipherFailed)?;
    let mut header = Vec::with_capacity(LEN);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&FORMAT.to_be_bytes());
    header.extend_from_slice(&salt);
    header.extend_from_slice(Derived::new(&salt, root_key)?.check.as_slice());
    header.extend_from_slice(&checksum(&header));
    Ok(header)
}

/// Tells damage from a wrong root key, and gives the key of the records.
pub(super) fn check(path: &Path, header: &[u8], root_key: &RootKey) -> Result<SealKey, KeystoreError> {
    let keystore = || path.to_owned();
    let not_one = || KeystoreError::NotAKeystore { keystore: keystore() };
    let (magic, rest) = header.split_first_chunk::<8>().ok_or_else(not_one)?;
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(not_one)?;
    if *magic != MAGIC {
        return Err(not_one());
    }
    let damaged = || KeystoreError::DamagedHeader { keystore: keystore() };
    let found = u32::from_be_bytes(*format);
    let (salt, rest) = rest.split_first_chunk::<SALT_LEN>().ok_or_else(damaged)?;
    let (check, sum) = rest.split_first_chunk::<KEY_LEN>().ok_or_else(damaged)?;
    if sum != checksum(header.get(..CHECKED_LEN).ok_or_else(damaged)?) {
        return Err(damaged());
    }
    if found != FORMAT {
        return Err(KeystoreError::Newer { keystore: keystore(), found, known: FORMAT });
    }
    let derived = Derived::new(salt, root_key)?;
    if derived.check.as_slice() != check {
        return Err(KeystoreError::WrongRootKey { keystore: keystore(), origin: root_key.origin.clone() });
    }
    Ok(SealKey::new(&derived.records)?)
}

/// What the root key and a salt give.
struct Derived {
    records: Zeroizing<[u8; KEY_LEN]>,
    check: [u8; KEY_LEN],
}

impl Derived {
    fn new(salt: &[u8; SALT_LEN], root_key: &RootKey) -> Result<Self, CipherFailed> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(root_key.bytes.expose());
        let fill = |info: &[u8], out: &mut [u8; KEY_LEN]| {
            root.expand(&[info], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(out)).map_err(|_| CipherFailed)
        };
        let mut derived = Self { records: Zeroizing::new([0; KEY_LEN]), check: [0; KEY_LEN] };
        fill(b"keywheel keystore 1: records", &mut derived.records)?;
        fill(b"keywheel keystore 1: key check", &mut derived.check)?;
        Ok(derived)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    sum.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    sum
}

/// Makes an undamaged header of another format.
#[cfg(test)]
pub(super) fn set_format_for_test(keystore: &mut [u8], format: u32) {
    keystore[8..12].copy_from_slice(&format.to_be_bytes());
    let sum = checksum(&keystore[..CHECKED_LEN]);
    keystore[CHECKED_LEN..LEN].copy_from_slice(&sum);
}
