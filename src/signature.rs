//! WHO: whose key signed something.
//!
//! A [`Key`] is read from the text of an owner; [`verify`] says which of some keys made a signature, and nothing about
//! whether its owner may: validity and revocation are [`standing`].
//!
//! Must not know: git, files, a clock.

pub(crate) mod allowed_signers;
pub(crate) mod ssh;

use std::fmt;

use crate::model::{Owner, Timestamp};

/// What git's signatures of SSH keys are for (`gpg.format=ssh` in `git-config(1)`).
pub const GIT: &str = "git";

/// A public key of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(ssh::PublicKey);

/// Why a text is no key whose signatures can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is neither form.
    #[error("it is no SSH public key: `ssh-ed25519 AAAA...`, as it stands in a .pub file")]
    Form,
    /// It is an SSH key of another kind.
    #[error("it is an SSH key of a kind whose signatures are not checked: make one with ssh-keygen -t ed25519")]
    Kind,
    /// It is an OpenPGP key.
    #[error("signatures of OpenPGP keys are not checked: name an SSH key, and sign with gpg.format=ssh")]
    OpenPgp,
}

impl Key {
    /// Reads a public key as an owner's `signing_key` has it.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.trim_start().starts_with("-----BEGIN PGP") {
            return Err(KeyError::OpenPgp);
        }
        let mut words = text.split_whitespace();
        let (Some(kind), Some(base64)) = (words.next(), words.next()) else { return Err(KeyError::Form) };
        let key = ssh::PublicKey::parse(kind, base64).ok_or(KeyError::Form)?;
        if key.is_usable() { Ok(Self(key)) } else { Err(KeyError::Kind) }
    }
}

/// The fingerprint.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a signature shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct SignatureError(#[from] ssh::SignatureError);

/// Checks a signature of `message` made for a purpose, and gives the key that made it.
///
/// # Errors
/// It is no signature, of something else, or made for another purpose.
pub fn verify(armour: &str, namespace: &str, message: &[u8]) -> Result<Key, SignatureError> {
    Ok(Key(ssh::verify(armour, namespace, message)?))
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
}

/// May this owner's key sign at these instants? All of them count: a signer chooses the date of a commit, and nobody
/// chooses when it is applied.
///
/// # Errors
/// See [`Standing`].
pub fn standing(owner: &Owner, instants: &[Timestamp]) -> Result<(), Standing> {
    if owner.revoked {
        return Err(Standing::Revoked);
    }
    let mut days = instants.iter().map(Timestamp::date_naive);
    if days.clone().any(|day| owner.valid_after.is_some_and(|first| day < first)) {
        return Err(Standing::TooEarly);
    }
    if days.any(|day| owner.valid_before.is_some_and(|last| day > last)) {
        return Err(Standing::Expired);
    }
    Ok(())
}
