//! What can go wrong with a keystore and its root key, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::root_key::VARIABLE;
use super::seal::CipherFailed;
use crate::provider::{ErrorKind, ProviderError};

/// Why the keystore cannot be used. None of it loses a key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeystoreError {
    /// No root key was given, and there are keys already.
    #[error("there is no root key for the keystore {}", keystore.display())]
    NoRootKey {
        /// The keystore.
        keystore: PathBuf,
        /// Where a root key that keywheel made would be.
        beside: PathBuf,
    },
    /// The root key's text is not one.
    #[error("{origin} does not hold a root key")]
    BadRootKey {
        /// Where the text came from.
        origin: String,
    },
    /// The configured file does not exist.
    #[error("the root key file {} does not exist", file.display())]
    NoRootKeyFile {
        /// The file that `root_key_file` names.
        file: PathBuf,
    },
    /// The keystore was sealed under another root key.
    #[error("the root key from {origin} is not the one that the keystore {} is sealed under", keystore.display())]
    WrongRootKey {
        /// The keystore.
        keystore: PathBuf,
        /// Where the root key came from.
        origin: String,
    },
    /// The file is something else.
    #[error("{} is not a keystore", keystore.display())]
    NotAKeystore {
        /// The file.
        keystore: PathBuf,
    },
    /// A newer keywheel wrote it.
    #[error("the keystore {} has format {found}, and this keywheel knows format {known}", keystore.display())]
    Newer {
        /// The keystore.
        keystore: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this build knows.
        known: u32,
    },
    /// The header is not as it was written.
    #[error("the keystore {} is damaged in its header", keystore.display())]
    DamagedHeader {
        /// The keystore.
        keystore: PathBuf,
    },
    /// A record is not as it was written.
    #[error("the keystore {} is damaged at byte {offset}: record {record} {what}", keystore.display())]
    Damaged {
        /// The keystore.
        keystore: PathBuf,
        /// The record, from 1.
        record: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Another process holds the lock for too long.
    #[error("another process has kept the keystore {} locked for {seconds} seconds", keystore.display())]
    Busy {
        /// The keystore.
        keystore: PathBuf,
        /// How long this one waited.
        seconds: u64,
    },
    /// It was there, and is not any more.
    #[error("the keystore {} has disappeared", keystore.display())]
    Gone {
        /// The keystore.
        keystore: PathBuf,
    },
    /// Another file is in its place, or it has become shorter.
    #[error("the keystore {} has been replaced", keystore.display())]
    Replaced {
        /// The keystore.
        keystore: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Records were written, could not be made durable, and could not be taken back.
    #[error("the keystore {} may or may not have kept the change: {source}", keystore.display())]
    InDoubt {
        /// The keystore.
        keystore: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No random numbers.
    #[error(transparent)]
    Cipher(#[from] CipherFailed),
}

impl KeystoreError {
    /// A closure for `map_err`: the system refused `action` with `path`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// The system refused `action` with a keystore that was there; that it is gone has a name of its own.
    pub(super) fn gone_or(action: &'static str, keystore: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Gone { keystore: keystore.to_owned() },
            _ => Self::Io { action, path: keystore.to_owned(), source },
        }
    }

    /// The error as the contract of the providers has it.
    pub(super) fn during(&self, operation: &'static str) -> ProviderError {
        let kind = match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            Self::InDoubt { .. } => ErrorKind::Unknown,
            Self::Busy { .. } => ErrorKind::Throttled,
            _ => ErrorKind::Storage,
        };
        let error = ProviderError::new(kind, operation, self.to_string());
        match self.help() {
            Some(help) => error.help(help),
            None => error,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Self::NoRootKey { beside, .. } => format!(
                "set {VARIABLE} to the root key (base64 or hex of 32 bytes), name a file with it as `root_key_file` in \
                 keywheel.yaml, or restore {}; without it the keys cannot be read by anybody",
                beside.display()
            ),
            Self::BadRootKey { .. } => {
                "a root key is 32 random bytes in base64 or hex; `openssl rand -base64 32` makes one".to_owned()
            }
            Self::NoRootKeyFile { file } => format!(
                "restore the file; for a keystore that does not exist yet, make one: `umask 077; openssl rand -base64 32 \
                 > {}`",
                file.display()
            ),
            Self::WrongRootKey { origin, .. } => format!(
                "the file is undamaged: give the root key that it was made with, instead of the one from {origin} \
                 ({VARIABLE} comes before `root_key_file`, and that before a root.key beside the keystore)"
            ),
            Self::NotAKeystore { .. } => {
                "let `providers.local.keystore` in keywheel.yaml name the keystore, or a path where no file is yet"
                    .to_owned()
            }
            Self::Newer { .. } => "use the newer keywheel that wrote it".to_owned(),
            Self::DamagedHeader { keystore } | Self::Damaged { keystore, .. } => format!(
                "nothing was changed; keep this file and put a copy from a backup in its place: {}",
                keystore.display()
            ),
            Self::Busy { .. } => "wait for the other keywheel to finish, or end it if it is stuck".to_owned(),
            Self::Gone { .. } => {
                "put the file back; keywheel does not start a new one in the middle of its work".to_owned()
            }
            Self::Io { source, path, .. } => return io_help(source, path),
            Self::InDoubt { source, keystore } => return io_help(source, keystore),
            Self::Replaced { .. } | Self::Cipher(_) => return None,
        };
        Some(help)
    }
}

/// What to do about the system's refusals that a person can do something about.
fn io_help(source: &io::Error, path: &Path) -> Option<String> {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Some(format!("free some space for {} and repeat; no key was lost", path.display()))
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some(format!("let the user that runs keywheel, and nobody else, read and write {}", path.display()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> ProviderError {
        KeystoreError::io("write to the keystore", Path::new("kw/keystore"))(kind.into()).during("promote")
    }

    #[test]
    fn what_the_system_refuses_is_named_with_its_file_and_what_to_do() {
        let denied = io(io::ErrorKind::PermissionDenied);
        assert_eq!(denied.kind, ErrorKind::Denied);
        assert_eq!(denied.to_string(), "promote: cannot write to the keystore kw/keystore: permission denied");
        assert!(denied.help.unwrap().contains("kw/keystore"));

        let full = io(io::ErrorKind::StorageFull);
        assert_eq!(full.kind, ErrorKind::Storage);
        assert_eq!(full.help.unwrap(), "free some space for kw/keystore and repeat; no key was lost");
    }

    #[test]
    fn only_an_append_that_could_not_be_taken_back_is_unknown() {
        let source = io::ErrorKind::StorageFull.into();
        let in_doubt = KeystoreError::InDoubt { keystore: "kw/keystore".into(), source }.during("create_version");
        assert!(in_doubt.is_unknown());
        assert!(!io(io::ErrorKind::StorageFull).is_unknown());
    }
}
