//! Signatures in OpenSSH's own form (`PROTOCOL.sshsig` and `PROTOCOL.key` in OpenSSH's source), with Ed25519 keys, so that
//! `ssh-keygen -Y verify` checks what is signed here and the other way round.
//!
//! Everything is parsed before anything of it is used. A private key is wiped from memory when it is dropped.

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

/// The one kind of key that is used here (RFC 8709).
const KEY_TYPE: &[u8] = b"ssh-ed25519";

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const KEY_MAGIC: &[u8] = b"openssh-key-v1\0";
const SIGNATURE_LABEL: &str = "SSH SIGNATURE";
const KEY_LABEL: &str = "OPENSSH PRIVATE KEY";

/// How long `ssh-keygen` makes the lines of an armour.
const LINE: usize = 70;

/// A public key as it goes over the wire: its kind, and what the kind wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey(Vec<u8>);

/// Why a private key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("it is no private key of OpenSSH")]
    Form,
    #[error("it is encrypted with a passphrase")]
    Encrypted,
    #[error("it is not an Ed25519 key")]
    Kind,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("it is no signature of OpenSSH")]
    Form,
    #[error("it was not made with an Ed25519 key")]
    Kind,
    #[error("it was made for another purpose")]
    Namespace,
    #[error("it is not a signature of this file: one of them was changed")]
    Wrong,
}

/// A private key that signs.
pub(super) struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl PublicKey {
    /// Reads a key in base64, as it stands in `.pub` files.
    pub(super) fn parse(kind: &str, base64: &str) -> Option<Self> {
        let key = STANDARD.decode(base64).ok()?;
        (Wire(&key).string()? == kind.as_bytes()).then_some(Self(key))
    }

    fn ed25519(bytes: &[u8]) -> Self {
        Self([string(KEY_TYPE), string(bytes)].concat())
    }

    /// The 32 bytes of an Ed25519 key.
    fn bytes(&self) -> Option<&[u8]> {
        let mut wire = Wire(&self.0);
        let bytes = (wire.string()? == KEY_TYPE).then(|| wire.string())??;
        (bytes.len() == 32 && wire.0.is_empty()).then_some(bytes)
    }
}

/// The fingerprint, as `ssh-keygen -l` shows it.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(digest(&SHA256, &self.0)))
    }
}

impl SigningKey {
    /// Reads a private key without a passphrase.
    pub(super) fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(unarmoured(KEY_LABEL, text).ok_or(KeyError::Form)?);
        let mut wire = Wire(bytes.strip_prefix(KEY_MAGIC).ok_or(KeyError::Form)?);
        let cipher = wire.string().ok_or(KeyError::Form)?;
        if cipher != b"none" {
            return Err(KeyError::Encrypted);
        }
        Self::read(&mut wire).ok_or(KeyError::Form)?
    }

    /// What follows the name of the cipher.
    fn read(wire: &mut Wire<'_>) -> Option<Result<Self, KeyError>> {
        let (_kdf, _options, 1, _public) = (wire.string()?, wire.string()?, wire.number()?, wire.string()?) else {
            return None;
        };
        let mut private = Wire(wire.string()?);
        if private.number()? != private.number()? {
            return None;
        }
        if private.string()? != KEY_TYPE {
            return Some(Err(KeyError::Kind));
        }
        let (public, private) = (private.string()?, private.string()?);
        let seed = private.strip_suffix(public)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
        Some(Ok(Self { pair, public: PublicKey::ed25519(public) }))
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a file for a purpose.
    pub(super) fn sign(&self, namespace: &str, message: &[u8]) -> String {
        let signature = self.pair.sign(&signed(namespace.as_bytes(), b"sha512", digest(&SHA512, message).as_ref()));
        let signature = [string(KEY_TYPE), string(signature.as_ref())].concat();
        let parts = [
            MAGIC.to_vec(),
            VERSION.to_be_bytes().to_vec(),
            string(&self.public.0),
            string(namespace.as_bytes()),
            string(b""),
            string(b"sha512"),
            string(&signature),
        ];
        armoured(SIGNATURE_LABEL, &parts.concat())
    }
}

/// Checks the signature of a file, and says whose it is. Whether that somebody may sign is for the caller to know.
pub(super) fn verify(armour: &str, namespace: &str, message: &[u8]) -> Result<PublicKey, SignatureError> {
    let bytes = unarmoured(SIGNATURE_LABEL, armour).ok_or(SignatureError::Form)?;
    let signature = Signature::read(&bytes).ok_or(SignatureError::Form)?;
    let key = signature.key.bytes().ok_or(SignatureError::Kind)?;
    if signature.namespace != namespace.as_bytes() {
        return Err(SignatureError::Namespace);
    }
    let hash = match signature.hash {
        b"sha512" => digest(&SHA512, message),
        b"sha256" => digest(&SHA256, message),
        _ => return Err(SignatureError::Form),
    };
    let signed = signed(signature.namespace, signature.hash, hash.as_ref());
    UnparsedPublicKey::new(&ED25519, key).verify(&signed, signature.bytes).map_err(|_| SignatureError::Wrong)?;
    Ok(signature.key)
}

struct Signature<'a> {
    key: PublicKey,
    namespace: &'a [u8],
    hash: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Signature<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut wire = Wire(bytes.strip_prefix(MAGIC)?);
        if wire.number()? != VERSION {
            return None;
        }
        let key = PublicKey(wire.string()?.to_vec());
        let (namespace, _reserved, hash) = (wire.string()?, wire.string()?, wire.string()?);
        let mut signature = Wire(wire.string()?);
        let (kind, bytes) = (signature.string()?, signature.string()?);
        (wire.0.is_empty() && Wire(&key.0).string()? == kind).then_some(Self { key, namespace, hash, bytes })
    }
}

/// What is signed: never the message alone, so that a signature counts for one purpose only.
fn signed(namespace: &[u8], hash_name: &[u8], hash: &[u8]) -> Vec<u8> {
    [MAGIC.to_vec(), string(namespace), string(b""), string(hash_name), string(hash)].concat()
}

/// Bytes that are still to be read, in the form of RFC 4251 section 5.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}

/// Bytes with their length before them. Nothing that is written here is near 4 GiB.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

fn armoured(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, letter) in STANDARD.encode(bytes).chars().enumerate() {
        if index > 0 && index % LINE == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text + &format!("\n-----END {label}-----\n")
}

fn unarmoured(label: &str, text: &str) -> Option<Vec<u8>> {
    let inner = text.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let inner = inner.strip_suffix(&format!("-----END {label}-----"))?;
    let base64: Zeroizing<String> = Zeroizing::new(inner.chars().filter(|letter| !letter.is_whitespace()).collect());
    STANDARD.decode(base64.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody's key, and what `ssh-keygen -Y sign -n keywheel-audit` made of `hi` with it.
    const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
QyNTUxOQAAACAayav1/zzh5j7Z7u4kt3nye/MogY/n6wcloY/Z/kdg9QAAAJgcPb1OHD29\n\
TgAAAAtzc2gtZWQyNTUxOQAAACAayav1/zzh5j7Z7u4kt3nye/MogY/n6wcloY/Z/kdg9Q\n\
AAAEDZwwadPvf82FwJSZvu8U88OW9QVN8lcQ3syjQnQdycRBrJq/X/POHmPtnu7iS3efJ7\n\
8yiBj+frByWhj9n+R2D1AAAADmNpQGV4YW1wbGUub3JnAQIDBAUGBw==\n\
-----END OPENSSH PRIVATE KEY-----\n\
";
    const PUBLIC: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIBrJq/X/POHmPtnu7iS3efJ78yiBj+frByWhj9n+R2D1";
    const SIGNATURE: &str = "-----BEGIN SSH SIGNATURE-----\n\
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgGsmr9f884eY+2e7uJLd58nvzKI\n\
GP5+sHJaGP2f5HYPUAAAAOa2V5d2hlZWwtYXVkaXQAAAAAAAAABnNoYTUxMgAAAFMAAAAL\n\
c3NoLWVkMjU1MTkAAABA29QPyuH/06PBBt7I1CA0F/kQxjpavRiCbapDMqXLqhcSTnTUIk\n\
lwm44qW9oundEVjExUrM13ICnE9CG1az3OBg==\n\
-----END SSH SIGNATURE-----\n\
";

    #[test]
    fn what_ssh_keygen_signed_is_recognised() {
        let key = verify(SIGNATURE, "keywheel-audit", b"hi\n").unwrap();
        assert_eq!(Some(&key), PublicKey::parse("ssh-ed25519", PUBLIC).as_ref());
        assert_eq!(verify(SIGNATURE, "keywheel-audit", b"ho\n"), Err(SignatureError::Wrong));
        assert_eq!(verify(SIGNATURE, "git", b"hi\n"), Err(SignatureError::Namespace));
        assert_eq!(verify("hi", "keywheel-audit", b"hi\n"), Err(SignatureError::Form));
    }

    #[test]
    fn the_same_key_makes_the_same_signature_as_ssh_keygen() {
        let key = SigningKey::parse(KEY).unwrap();
        assert_eq!(key.sign("keywheel-audit", b"hi\n"), SIGNATURE);
        assert_eq!(Some(key.public()), PublicKey::parse("ssh-ed25519", PUBLIC).as_ref());
    }

    #[test]
    fn no_byte_of_a_signature_can_be_changed() {
        let bytes = unarmoured(SIGNATURE_LABEL, SIGNATURE).unwrap();
        let own = PublicKey::parse("ssh-ed25519", PUBLIC).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let verified = verify(&armoured(SIGNATURE_LABEL, &changed), "keywheel-audit", b"hi\n");
            assert_ne!(verified.as_ref(), Ok(&own), "byte {index}");
            let cut = verify(&armoured(SIGNATURE_LABEL, &bytes[..index]), "keywheel-audit", b"hi\n");
            assert_eq!(cut, Err(SignatureError::Form), "cut at {index}");
        }
    }

    #[test]
    fn a_key_that_is_cut_off_is_no_key() {
        let bytes = unarmoured(KEY_LABEL, KEY).unwrap();
        for length in 0..bytes.len() - 16 {
            assert!(SigningKey::parse(&armoured(KEY_LABEL, &bytes[..length])).is_err(), "{length}");
        }
    }
}
