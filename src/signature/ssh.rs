//! Signatures in OpenSSH's own form (`PROTOCOL.sshsig`, `PROTOCOL.key` and `PROTOCOL.u2f` in OpenSSH's source), so that
//! `ssh-keygen -Y verify` checks what is signed here and the other way round. What is signed here is signed with Ed25519;
//! what is checked may also be ECDSA, RSA with SHA-2, or of a security key that somebody touched.
//!
//! Everything is parsed before anything of it is used. A private key is wiped from memory when it is dropped.

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, Ed25519KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

/// The kind of key that signs here (RFC 8709).
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
pub(crate) struct PublicKey(Vec<u8>);

/// Why a private key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("it is no private key of OpenSSH")]
    Form,
    #[error("it is encrypted with a passphrase")]
    Encrypted,
    #[error("it is not an Ed25519 key")]
    Kind,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It cannot be read.
    #[error("it is no signature of OpenSSH")]
    Form,
    /// Its key is of another kind.
    #[error(
        "it was made with a key of a kind that does not count: ssh-ed25519, ecdsa-sha2-nistp*, ssh-rsa and those of security keys (sk-) do"
    )]
    Kind,
    /// It is for something else.
    #[error("it was made for another purpose")]
    Namespace,
    /// It is of something else.
    #[error("it is not a signature of this file: one of them was changed")]
    Wrong,
}

/// A private key that signs.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl PublicKey {
    /// Reads a key in base64, as it stands in `.pub` files.
    pub(crate) fn parse(kind: &str, base64: &str) -> Option<Self> {
        let key = STANDARD.decode(base64).ok()?;
        (Wire(&key).string()? == kind.as_bytes()).then_some(Self(key))
    }

    fn ed25519(bytes: &[u8]) -> Self {
        Self([string(KEY_TYPE), string(bytes)].concat())
    }

    /// Can its signatures be checked?
    pub(crate) fn is_usable(&self) -> bool {
        self.material().is_some()
    }

    fn material(&self) -> Option<Material<'_>> {
        let mut wire = Wire(&self.0);
        let material = match wire.string()? {
            b"ssh-ed25519" => Material::Point(&ED25519, wire.ed25519()?),
            b"ecdsa-sha2-nistp256" => Material::Curve(&ECDSA_P256_SHA256_FIXED, 32, wire.point(b"nistp256", 32)?),
            b"ecdsa-sha2-nistp384" => Material::Curve(&ECDSA_P384_SHA384_FIXED, 48, wire.point(b"nistp384", 48)?),
            b"ecdsa-sha2-nistp521" => Material::Curve(&ECDSA_P521_SHA512_FIXED, 66, wire.point(b"nistp521", 66)?),
            b"ssh-rsa" => Material::Rsa { e: wire.number_of_any_size()?, n: wire.number_of_any_size()? },
            b"sk-ssh-ed25519@openssh.com" => {
                Material::Touched(Box::new(Material::Point(&ED25519, wire.ed25519()?)), wire.string()?)
            }
            b"sk-ecdsa-sha2-nistp256@openssh.com" => {
                let curve = Material::Curve(&ECDSA_P256_SHA256_FIXED, 32, wire.point(b"nistp256", 32)?);
                Material::Touched(Box::new(curve), wire.string()?)
            }
            _ => return None,
        };
        wire.0.is_empty().then_some(material)
    }
}

/// What a public key is made of.
enum Material<'a> {
    Point(&'static dyn VerificationAlgorithm, &'a [u8]),
    /// With the length of each half of a signature.
    Curve(&'static dyn VerificationAlgorithm, usize, &'a [u8]),
    Rsa {
        e: &'a [u8],
        n: &'a [u8],
    },
    /// A security key's, and the application that it was made for.
    Touched(Box<Material<'a>>, &'a [u8]),
}

/// The bit that says that somebody touched the security key.
const USER_PRESENT: u8 = 1;

impl Material<'_> {
    /// Is this blob a signature of the message? `kind` is the algorithm that the signature says it is of.
    fn verifies(&self, kind: &[u8], message: &[u8], signature: &[u8], rest: &[u8]) -> Option<bool> {
        match self {
            Self::Point(algorithm, key) => {
                rest.is_empty().then(|| UnparsedPublicKey::new(*algorithm, key).verify(message, signature).is_ok())
            }
            Self::Curve(algorithm, half, key) => {
                let mut wire = Wire(signature);
                let (r, s) = (wire.padded(*half)?, wire.padded(*half)?);
                let whole = [r, s].concat();
                let fits = wire.0.is_empty() && rest.is_empty();
                fits.then(|| UnparsedPublicKey::new(*algorithm, key).verify(message, &whole).is_ok())
            }
            Self::Rsa { e, n } => {
                let algorithm = match kind {
                    b"rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                    b"rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                    _ => return None,
                };
                rest.is_empty().then(|| RsaPublicKeyComponents { n, e }.verify(algorithm, message, signature).is_ok())
            }
            Self::Touched(key, application) => {
                let (flags, counter) = rest.split_first()?;
                let touched =
                    [digest(&SHA256, application).as_ref(), &[*flags], counter, digest(&SHA256, message).as_ref()]
                        .concat();
                let signed = counter.len() == 4 && key.verifies(kind, &touched, signature, b"")?;
                Some(signed && flags & USER_PRESENT != 0)
            }
        }
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
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
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

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a file for a purpose.
    pub(crate) fn sign(&self, namespace: &str, message: &[u8]) -> String {
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
pub(crate) fn verify(armour: &str, namespace: &str, message: &[u8]) -> Result<PublicKey, SignatureError> {
    let bytes = unarmoured(SIGNATURE_LABEL, armour).ok_or(SignatureError::Form)?;
    let signature = Signature::read(&bytes).ok_or(SignatureError::Form)?;
    let material = signature.key.material().ok_or(SignatureError::Kind)?;
    if signature.namespace != namespace.as_bytes() {
        return Err(SignatureError::Namespace);
    }
    let hash = match signature.hash {
        b"sha512" => digest(&SHA512, message),
        b"sha256" => digest(&SHA256, message),
        _ => return Err(SignatureError::Form),
    };
    let signed = signed(signature.namespace, signature.hash, hash.as_ref());
    match material.verifies(signature.kind, &signed, signature.bytes, signature.rest) {
        Some(true) => Ok(signature.key),
        Some(false) => Err(SignatureError::Wrong),
        None => Err(SignatureError::Form),
    }
}

struct Signature<'a> {
    key: PublicKey,
    namespace: &'a [u8],
    hash: &'a [u8],
    /// The algorithm.
    kind: &'a [u8],
    bytes: &'a [u8],
    /// What a security key adds.
    rest: &'a [u8],
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
        let of = Wire(&key.0).string()?;
        // RSA keys have one name and their signatures others, which leave SHA-1 out (RFC 8332).
        let fits = if of == b"ssh-rsa" { matches!(kind, b"rsa-sha2-512" | b"rsa-sha2-256") } else { of == kind };
        let rest = signature.0;
        (wire.0.is_empty() && fits).then_some(Self { key, namespace, hash, kind, bytes, rest })
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

    /// The 32 bytes of an Ed25519 key.
    fn ed25519(&mut self) -> Option<&'a [u8]> {
        self.string().filter(|bytes| bytes.len() == 32)
    }

    /// A point of a curve, not compressed (RFC 5656 section 3.1).
    fn point(&mut self, curve: &[u8], half: usize) -> Option<&'a [u8]> {
        let point = (self.string()? == curve).then(|| self.string())??;
        (point.first() == Some(&4) && point.len() == 1 + 2 * half).then_some(point)
    }

    /// A positive number, without the zeros before it.
    fn number_of_any_size(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..).filter(|number| !number.is_empty())
    }

    /// A positive number in so many bytes.
    fn padded(&mut self, length: usize) -> Option<Vec<u8>> {
        let number = self.number_of_any_size()?;
        let zeros = length.checked_sub(number.len())?;
        Some([vec![0; zeros].as_slice(), number].concat())
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
