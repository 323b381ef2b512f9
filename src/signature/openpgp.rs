//! Signatures of OpenPGP keys (RFC 9580), as `gpg` makes them and git puts them into commits.
//!
//! A [`Certificate`] is a primary key with what it says about itself and its subkeys; [`verify`] finds the key among some
//! that made a signature, and [`Certificate::standing`] says whether that key was one that may sign at some instants.
//! There is no web of trust: a key counts because a document names it, so that only what the key says of itself is read.
//! It is strict where `gpg` is lenient, for a signer chooses the date of a signature: a key that has expired or was
//! revoked never counts, whatever date its signatures bear.
//!
//! Why not a crate: rPGP would bring 96 more, a second cryptography library among them, `rsa` with its open advisory
//! (RUSTSEC-2023-0071), and ciphers and compression that nobody here wants within reach of a hostile text; and it leaves to its caller what is in
//! this file, which bindings, dates and revocations hold. Sequoia's licence is not among those that are allowed here.

mod packet;

use super::Standing;
use crate::model::Timestamp;

use packet::{Fingerprint, PublicKey, Refusal, Signature};

/// The longest text of a key: the minimal export of any key that signs is far below it.
const MAX_KEY: usize = 64 << 10;
/// The longest text of a signature: one of RSA with 8192 bits has less than 2 KiB.
const MAX_SIGNATURE: usize = 16 << 10;
/// The most packets of a key: signatures of others, which a key server collects, count among them.
const MAX_PACKETS: usize = 256;

/// What signatures are for (section 5.2.1).
const BINARY: u8 = 0x00;
const CERTIFICATIONS: std::ops::RangeInclusive<u8> = 0x10..=0x13;
const SUBKEY_BINDING: u8 = 0x18;
const PRIMARY_KEY_BINDING: u8 = 0x19;
const DIRECT_KEY: u8 = 0x1F;
const KEY_REVOCATION: u8 = 0x20;
const SUBKEY_REVOCATION: u8 = 0x28;

/// The flag of keys that sign data (section 5.2.3.29).
const SIGNS: u8 = 0x02;

/// A primary key and its subkeys, by what the primary key says about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    primary: Component,
    subkeys: Vec<Component>,
}

/// A key of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Component {
    key: PublicKey,
    fingerprint: Fingerprint,
    expires: Option<Timestamp>,
    may_sign: bool,
    is_revoked: bool,
    /// When the signature that says this was made; none where there is none.
    said_at: Option<Timestamp>,
}

/// Why a text is no key of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("it is no OpenPGP public key: name what `gpg --armor --export KEY` prints, as a block (`signing_key: |`)")]
    Form,
    /// It is more than a key needs.
    #[error(
        "it has more than 64 KiB or 256 packets: name what `gpg --armor --export-options export-minimal --export KEY` prints"
    )]
    Long,
    /// It is secret.
    #[error(
        "it is a private key, and now many may have read it: revoke it, and name the public one (gpg --armor --export KEY)"
    )]
    Private,
    /// There are several.
    #[error("there is more than one OpenPGP key in it: give each owner one")]
    Several,
    /// Its primary key is of a kind that is not checked.
    #[error(
        "it is an OpenPGP key of a kind whose signatures are not checked: version 4 with Ed25519, NIST P-256, P-384 or P-521, or RSA of 2048 to 8192 bits is"
    )]
    Kind,
    /// Nothing says what it is for.
    #[error(
        "it is an OpenPGP key that has not signed itself with SHA-256, SHA-384 or SHA-512: renew that with `gpg --quick-set-expire KEY`"
    )]
    Unsigned,
    /// It is for other things.
    #[error("it is an OpenPGP key of which no part may sign: add a subkey with `gpg --quick-add-key KEY ed25519 sign`")]
    NoSigner,
}

/// Why a signature shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It cannot be read.
    #[error("it is no single detached signature of OpenPGP")]
    Form,
    /// Its hash no longer counts.
    #[error("it was made with a hash that does not count: SHA-256, SHA-384 and SHA-512 do")]
    Weak,
    /// Its key is of another kind.
    #[error("it was made with a kind of key or hash that is not checked")]
    Kind,
    /// Its key is not among those that are known.
    #[error("it was made with the OpenPGP key {0}, which is not known")]
    Unknown(String),
    /// It is of something else.
    #[error("it is not a signature of this file: one of them was changed")]
    Wrong,
}

/// A signature that holds: who made it, and when by its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    primary: PublicKey,
    by: Fingerprint,
    made_at: Timestamp,
    ends: Option<Timestamp>,
}

impl Certificate {
    /// Reads the armour of a public key.
    ///
    /// # Errors
    /// See [`KeyError`]. A key that has expired or is revoked is read: nothing that it signed counts.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        if text.len() > MAX_KEY {
            return Err(KeyError::Long);
        }
        let bytes = packet::unarmoured("PGP PUBLIC KEY BLOCK", text).ok_or(KeyError::Form)?;
        let packets = packet::packets(&bytes, MAX_PACKETS).ok_or(KeyError::Form)?;
        let certificate = Self::read(&packets)?;
        if certificate.primary.said_at.is_none() {
            return Err(KeyError::Unsigned);
        }
        let may_sign = certificate.components().any(|component| component.may_sign);
        if may_sign { Ok(certificate) } else { Err(KeyError::NoSigner) }
    }

    fn read(packets: &[(u8, &[u8])]) -> Result<Self, KeyError> {
        if packets.iter().any(|(tag, _)| matches!(*tag, packet::SECRET_KEY | packet::SECRET_SUBKEY)) {
            return Err(KeyError::Private);
        }
        let [(packet::PUBLIC_KEY, body), rest @ ..] = packets else { return Err(KeyError::Form) };
        let primary = PublicKey::parse(body).filter(PublicKey::is_usable).ok_or(KeyError::Kind)?;
        let mut certificate = Self { primary: Component::new(primary), subkeys: Vec::new() };
        let mut subject = Subject::Primary;
        for (tag, body) in rest {
            match *tag {
                packet::SIGNATURE => certificate.hear(&subject, body),
                packet::USER_ID => subject = Subject::Identity(identity(0xB4, body)),
                packet::USER_ATTRIBUTE => subject = Subject::Identity(identity(0xD1, body)),
                packet::PUBLIC_SUBKEY => {
                    subject = Subject::Subkey;
                    match PublicKey::parse(body) {
                        Some(key) => certificate.subkeys.push(Component::new(key)),
                        None => subject = Subject::Unread,
                    }
                }
                packet::MARKER | packet::TRUST => {}
                packet::PUBLIC_KEY => return Err(KeyError::Several),
                _ => return Err(KeyError::Form),
            }
        }
        Ok(certificate)
    }

    /// Takes in what a signature says, if it is the primary key's own.
    fn hear(&mut self, subject: &Subject, body: &[u8]) {
        // A revocation is believed as it stands, also one by somebody else or of a kind that is not checked: whoever could
        // write a false one here could as well take the key out of the document.
        match (packet::kind(body), subject) {
            (Some(KEY_REVOCATION), _) => self.primary.is_revoked = true,
            (Some(SUBKEY_REVOCATION), Subject::Subkey) => {
                if let Some(subkey) = self.subkeys.last_mut() {
                    subkey.is_revoked = true;
                }
            }
            _ => {}
        }
        let Some(signature) = Signature::parse(body) else { return };
        let primary = &self.primary;
        if !signature.is_by(&primary.fingerprint) {
            return;
        }
        let key = primary.key.hashed();
        match (signature.kind, subject) {
            (DIRECT_KEY, Subject::Primary) if signature.check(&primary.key, &key).is_ok() => {
                self.primary.learn(&signature, signature.key_flags.is_none_or(signs));
            }
            (kind, Subject::Identity(identity)) if CERTIFICATIONS.contains(&kind) => {
                let signed = [key, identity.clone()].concat();
                if signature.check(&primary.key, &signed).is_ok() {
                    self.primary.learn(&signature, signature.key_flags.is_none_or(signs));
                }
            }
            (SUBKEY_BINDING, Subject::Subkey) => {
                let Some(subkey) = self.subkeys.last_mut() else { return };
                let signed = [key, subkey.key.hashed()].concat();
                if signature.check(&self.primary.key, &signed).is_ok() {
                    let agrees = |body: &&[u8]| agrees(body, &subkey.key, &signed);
                    let may_sign = signature.key_flags.is_some_and(signs) && signature.embedded.iter().any(agrees);
                    subkey.learn(&signature, may_sign);
                }
            }
            _ => {}
        }
    }

    /// May the key that made this signature sign, at these instants and when it says that it did?
    ///
    /// # Errors
    /// See [`Standing`].
    pub(crate) fn standing(&self, signed: &Signed, instants: &[Timestamp]) -> Result<(), Standing> {
        if self.revokes(signed) {
            return Err(Standing::Revoked);
        }
        let by = self.components().find(|component| component.fingerprint == signed.by);
        let by = by.filter(|component| component.may_sign).ok_or(Standing::NotForSigning)?;
        let mut instants = instants.iter().copied().chain([signed.made_at]);
        if instants.clone().any(|at| at < by.key.created) {
            return Err(Standing::TooEarly);
        }
        let ends = [self.primary.expires, by.expires, signed.ends].into_iter().flatten().min();
        if instants.any(|at| ends.is_some_and(|end| at >= end)) {
            return Err(Standing::Expired);
        }
        Ok(())
    }

    /// Is it a key that made this signature?
    pub(crate) fn made(&self, signed: &Signed) -> bool {
        self.primary.key == signed.primary
    }

    /// Does it say that the key that made this signature is revoked?
    pub(crate) fn revokes(&self, signed: &Signed) -> bool {
        let is_by = |component: &&Component| component.fingerprint == signed.by;
        self.made(signed) && (self.primary.is_revoked || self.components().filter(is_by).any(|it| it.is_revoked))
    }

    fn components(&self) -> impl Iterator<Item = &Component> {
        std::iter::once(&self.primary).chain(&self.subkeys)
    }
}

impl Component {
    fn new(key: PublicKey) -> Self {
        let fingerprint = key.fingerprint();
        Self { key, fingerprint, expires: None, may_sign: false, is_revoked: false, said_at: None }
    }

    /// The newest of the signatures about a key says what holds.
    fn learn(&mut self, signature: &Signature<'_>, may_sign: bool) {
        if self.said_at.is_some_and(|before| signature.created < before) {
            return;
        }
        self.said_at = Some(signature.created);
        let expires = packet::after(self.key.created, signature.key_lifetime);
        self.expires = [expires, signature.ends()].into_iter().flatten().min();
        self.may_sign = may_sign && self.key.is_usable();
    }
}

/// What the signatures that follow are about.
enum Subject {
    Primary,
    /// As it is written into what is signed.
    Identity(Vec<u8>),
    /// The last one.
    Subkey,
    /// A key of another version.
    Unread,
}

fn identity(header: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&[header][..], &length.to_be_bytes(), body].concat()
}

fn signs(flags: u8) -> bool {
    flags & SIGNS != 0
}

/// Does a subkey say itself that it belongs to its primary key? Else anybody could take a signing key for their own.
fn agrees(body: &[u8], subkey: &PublicKey, signed: &[u8]) -> bool {
    let signature = Signature::parse(body).filter(|signature| signature.kind == PRIMARY_KEY_BINDING);
    signature.is_some_and(|signature| signature.check(subkey, signed).is_ok())
}

/// Checks a detached signature of a message, and says which of these keys made it. Whether that key may is
/// [`Certificate::standing`].
///
/// # Errors
/// See [`SignatureError`].
pub(crate) fn verify<'k>(
    armour: &str,
    message: &[u8],
    known: impl Iterator<Item = &'k Certificate>,
) -> Result<Signed, SignatureError> {
    let bytes = Some(armour).filter(|armour| armour.len() <= MAX_SIGNATURE);
    let bytes = bytes.and_then(|armour| packet::unarmoured("PGP SIGNATURE", armour)).ok_or(SignatureError::Form)?;
    let packets = packet::packets(&bytes, 1).ok_or(SignatureError::Form)?;
    let [(packet::SIGNATURE, body)] = packets.as_slice() else { return Err(SignatureError::Form) };
    let signature = Signature::parse(body).filter(|signature| signature.kind == BINARY).ok_or(SignatureError::Form)?;
    let mut refusal = SignatureError::Unknown(signature.issuer());
    for certificate in known {
        for component in certificate.components().filter(|component| signature.is_by(&component.fingerprint)) {
            // A subkey that its primary key did not bind is nobody's.
            if component.said_at.is_none() {
                continue;
            }
            refusal = match signature.check(&component.key, message) {
                Ok(()) => {
                    let (made_at, ends) = (signature.created, signature.ends());
                    let primary = certificate.primary.key.clone();
                    return Ok(Signed { primary, by: component.fingerprint, made_at, ends });
                }
                Err(Refusal::Weak) => SignatureError::Weak,
                Err(Refusal::Kind) => SignatureError::Kind,
                Err(Refusal::Wrong) => SignatureError::Wrong,
            };
        }
    }
    Err(refusal)
}

/// The fingerprint of the primary key, as `gpg --list-keys` shows it.
impl std::fmt::Display for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.primary.fingerprint.fmt(f)
    }
}

/// The fingerprint of the primary key.
impl std::fmt::Display for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.primary.fingerprint().fmt(f)
    }
}

#[cfg(test)]
mod tests;
