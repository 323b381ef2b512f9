//! WHO: whose key signed something.
//!
//! A [`Key`] is read from the text of an owner, an SSH key or an OpenPGP one; [`verify`] says which key made a signature,
//! and nothing about whether its owner may: validity and revocation are [`standing`].
//!
//! Must not know: git, files, a clock.

pub(crate) mod allowed_signers;
pub(crate) mod openpgp;
pub(crate) mod ssh;

use std::fmt;

use crate::model::{Owner, Timestamp};

/// What git's signatures of SSH keys are for (`gpg.format=ssh` in `git-config(1)`).
pub const GIT: &str = "git";

/// A public key of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Ssh(ssh::PublicKey),
    OpenPgp(Box<openpgp::Certificate>),
}

/// Why a text is no key whose signatures can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is neither form.
    #[error(
        "it is no public key: `ssh-ed25519 AAAA...` as it stands in a .pub file, or the block that `gpg --armor --export` prints"
    )]
    Form,
    /// It is secret.
    #[error("it is a private key, which others may have read by now: revoke it, and name the public key of a new one")]
    Private,
    /// It is an SSH key of another kind.
    #[error("it is an SSH key of a kind whose signatures are not checked: make one with ssh-keygen -t ed25519")]
    Kind,
    /// It is an OpenPGP key that is of no use.
    #[error(transparent)]
    OpenPgp(#[from] openpgp::KeyError),
}

impl Key {
    /// Reads a public key as an owner's `signing_key` has it.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        if text.trim_start().starts_with("-----BEGIN PGP") {
            return Ok(Self(Kind::OpenPgp(Box::new(openpgp::Certificate::parse(text)?))));
        }
        let mut words = text.split_whitespace();
        let (Some(kind), Some(base64)) = (words.next(), words.next()) else { return Err(KeyError::Form) };
        let key = ssh::PublicKey::parse(kind, base64).ok_or(KeyError::Form)?;
        if key.is_usable() { Ok(Self(Kind::Ssh(key))) } else { Err(KeyError::Kind) }
    }

    /// Did it make this signature? Of an OpenPGP key this says whose it is: the part of it that signed may be none that may.
    pub fn made(&self, signed: &Signed) -> bool {
        match (&self.0, &signed.0) {
            (Kind::Ssh(key), By::Ssh(by)) => key == by,
            (Kind::OpenPgp(certificate), By::OpenPgp(signed)) => certificate.made(signed),
            (Kind::Ssh(_), By::OpenPgp(_)) | (Kind::OpenPgp(_), By::Ssh(_)) => false,
        }
    }
}

/// The fingerprint.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Ssh(key) => key.fmt(f),
            Kind::OpenPgp(certificate) => certificate.fmt(f),
        }
    }
}

/// Why a signature shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is one of SSH.
    #[error(transparent)]
    Ssh(#[from] ssh::SignatureError),
    /// It is one of OpenPGP.
    #[error(transparent)]
    OpenPgp(#[from] openpgp::SignatureError),
}

/// A signature that holds: whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed(By);

#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Ssh(ssh::PublicKey),
    OpenPgp(openpgp::Signed),
}

/// The fingerprint of the key that made it.
impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            By::Ssh(key) => key.fmt(f),
            By::OpenPgp(signed) => signed.fmt(f),
        }
    }
}

/// Checks a signature of `message` made for a purpose, and says which key made it. An SSH signature holds its key; an
/// OpenPGP one names it, and its key is looked for among those that are known. It names no purpose either: there, what is
/// signed must say by itself what it is, as commits and the statements of approvals do.
///
/// # Errors
/// It is no signature, of something else, made for another purpose, or by an OpenPGP key that is not known.
pub fn verify<'k>(
    armour: &str,
    namespace: &str,
    message: &[u8],
    known: impl IntoIterator<Item = &'k Key>,
) -> Result<Signed, SignatureError> {
    if !armour.trim_start().starts_with("-----BEGIN PGP") {
        return Ok(Signed(By::Ssh(ssh::verify(armour, namespace, message)?)));
    }
    let certificates = known.into_iter().filter_map(|key| match &key.0 {
        Kind::OpenPgp(certificate) => Some(certificate.as_ref()),
        Kind::Ssh(_) => None,
    });
    Ok(Signed(By::OpenPgp(openpgp::verify(armour, message, certificates)?)))
}

/// The fingerprint of the key that a signature says it is of, where no keys are at hand: an SSH signature is checked all
/// the same, and an OpenPGP one is read.
///
/// # Errors
/// As [`verify`].
pub fn claimed(armour: &str, namespace: &str, message: &[u8]) -> Result<String, SignatureError> {
    match verify(armour, namespace, message, []) {
        Err(SignatureError::OpenPgp(openpgp::SignatureError::Unknown(key))) => Ok(key),
        verified => verified.map(|signed| signed.to_string()),
    }
}

/// Why an owner's key does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Standing {
    /// It never counts.
    #[error("is revoked")]
    Revoked,
    /// Its first day is later.
    #[error("was not valid yet")]
    TooEarly,
    /// Its last day has passed.
    #[error("has expired")]
    Expired,
    /// It is an OpenPGP key, and signed with a part of it that is for something else, or that this text of it lacks.
    #[error("does not let the part of it sign that did")]
    NotForSigning,
}

/// May this owner's key, which made a signature, sign at these instants? All of them count: a signer chooses the date of a
/// commit, and nobody chooses when it is applied.
///
/// # Errors
/// See [`Standing`].
pub fn standing(owner: &Owner, key: &Key, signed: &Signed, instants: &[Timestamp]) -> Result<(), Standing> {
    if is_revoked(owner, key, signed) {
        return Err(Standing::Revoked);
    }
    let mut days = instants.iter().map(Timestamp::date_naive);
    if days.clone().any(|day| owner.valid_after.is_some_and(|first| day < first)) {
        return Err(Standing::TooEarly);
    }
    if days.any(|day| owner.valid_before.is_some_and(|last| day > last)) {
        return Err(Standing::Expired);
    }
    match (&key.0, &signed.0) {
        (Kind::OpenPgp(certificate), By::OpenPgp(signed)) => certificate.standing(signed, instants),
        _ => Ok(()),
    }
}

/// Is it said here that the key that made a signature is revoked, by its owner's entry or by the key itself?
pub fn is_revoked(owner: &Owner, key: &Key, signed: &Signed) -> bool {
    let says_so = match (&key.0, &signed.0) {
        (Kind::OpenPgp(certificate), By::OpenPgp(signed)) => certificate.revokes(signed),
        _ => false,
    };
    says_so || owner.revoked && key.made(signed)
}
