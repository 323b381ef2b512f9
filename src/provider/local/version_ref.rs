//! How a version of the local provider is named: `KEY:NUMBER`.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::provider::KeyHandle;

/// One version of one key. Written `KEY:NUMBER`, it is the *provider ref* of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct VersionRef {
    /// The key's name in the keystore.
    pub(super) key: Uuid,
    /// Counts the versions of a key, from 1.
    pub(super) number: u32,
}

/// A text that is not `KEY:NUMBER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a version of the local provider (KEY:NUMBER)")]
pub(super) struct NotAVersionRef;

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, self.number)
    }
}

impl FromStr for VersionRef {
    type Err = NotAVersionRef;
    fn from_str(text: &str) -> Result<Self, NotAVersionRef> {
        let (key, number) = text.split_once(':').ok_or(NotAVersionRef)?;
        let key = key.parse().map_err(|_| NotAVersionRef)?;
        let number = number.parse().map_err(|_| NotAVersionRef)?;
        Ok(Self { key, number })
    }
}

/// The name in the keystore of the key that `handle` means.
///
/// A key that was adopted keeps the name that it had: its recorded versions say so, and before any is recorded the
/// document's `kms_key_id`. Every other key is named by keywheel's identity of it.
pub(super) fn key_name(handle: &KeyHandle) -> Option<Uuid> {
    let recorded = recorded_versions(handle).next().map(|version| version.key);
    recorded.or_else(|| adopted_name(handle)).or(handle.key_id)
}

/// The versions that the state database knows, its primary first.
pub(super) fn recorded_versions(handle: &KeyHandle) -> impl Iterator<Item = VersionRef> {
    handle.primary.iter().chain(&handle.versions).filter_map(|text| text.parse().ok())
}

/// The name in the keystore of the key that the document adopts.
pub(super) fn adopted_name(handle: &KeyHandle) -> Option<Uuid> {
    handle.key.kms_key_id.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_reads_back_as_it_is_written() {
        let version = VersionRef { key: Uuid::from_u128(7), number: 12 };
        assert_eq!(version.to_string(), "00000000-0000-0000-0000-000000000007:12");
        assert_eq!(version.to_string().parse(), Ok(version));
        for text in ["", "x", "00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-000000000007:-1"] {
            assert_eq!(text.parse::<VersionRef>(), Err(NotAVersionRef), "{text}");
        }
        assert!("arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c".parse::<VersionRef>().is_err());
    }
}
