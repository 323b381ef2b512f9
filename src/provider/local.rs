//! AES-256-GCM key versions in one file, sealed under a root key.
//!
//! [`LocalReader`] is the reading half: the keystore as it was when it was opened. It opens no file for writing, makes
//! nothing, and needs no random numbers; where there is no keystore there are no keys. [`Local`] is both halves; it makes
//! the keystore (and a root key, if none was given) when the first version is created.
//!
//! A key is named by keywheel's identity of it, and a version `KEY:NUMBER`. `kms_key_id` adopts a key by that name, within
//! its tenant. New versions are made in the same key; a ciphertext names its version, so that every version of a key that
//! is not disabled decrypts.
//!
//! The keystore only grows, but for one occasion: when the material of a version is destroyed, the file is written anew
//! without it, and put in the old one's place. Beside the material, a rotation leaves one short record, which is not worth
//! a compaction of its own.
//!
//! Must not know: policies, plans, the state database.

mod appender;
mod cipher;
mod error;
mod files;
mod header;
mod index;
mod keystore;
mod log;
mod observe;
mod record;
mod root_key;
mod seal;
mod version_ref;

use std::path::Path;

use async_trait::async_trait;
use serde_json::Value;

pub use root_key::VARIABLE;

use self::appender::Appender;
use self::index::{Action, Change, Index, is_usable};
use self::keystore::{Location, View};
use self::observe::{KEY_SPECS, KEY_USAGE, find, find_created, found, intent, observe, owned, primary};
use self::record::Marks;
use self::version_ref::{VersionRef, key_name, recorded_versions};
use super::{CreateVersion, ErrorKind, Found, KeyHandle, KeyManager, MAX_PLAINTEXT, Observe, Owned, ProviderError};
use crate::diagnostic::Finding;
use crate::document::{Capabilities, LocalConfig};
use crate::model::{EncryptionKey, LastUse, Observation, RotationStrategy, Timestamp, VersionState};

/// What the local provider can do.
pub const CAPABILITIES: Capabilities = Capabilities {
    available: true,
    strategies: &[RotationStrategy::NewVersion],
    rollback: true,
    needs_alias: false,
    regions: false,
    disable: true,
    destroy: true,
    last_use: false,
    destroys_by_itself: false,
    waiting_days: index::WAITING_DAYS,
};

/// What proofs encrypt.
const PROOF: &[u8] = b"keywheel proves that this version encrypts and decrypts";

/// The reading half: a keystore as it was when it was opened.
#[derive(Debug)]
pub struct LocalReader {
    index: Index,
    warning: Option<Finding>,
}

impl LocalReader {
    /// Reads the keystore of the repository whose folder is `base_dir`. Without a keystore there are no keys.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] for a missing or wrong root key and for a damaged file; [`ErrorKind::Denied`] for a file
    /// that may not be read.
    pub fn open(config: &LocalConfig, base_dir: &Path) -> Result<Self, ProviderError> {
        let location = Location::new(config, base_dir);
        let (index, warning) = keystore::read_index(&location).map_err(|error| error.during("open"))?;
        Ok(Self { index, warning })
    }

    /// What the person who runs keywheel should know: a root key that others can read.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        self.warning.iter().cloned().collect()
    }
}

#[async_trait]
impl Observe for LocalReader {
    async fn observe(&self, keys: &[KeyHandle]) -> Vec<Observation> {
        keys.iter().map(|handle| observe(&self.index, handle)).collect()
    }

    async fn owned(&self) -> Result<Vec<Owned>, ProviderError> {
        Ok(owned(&self.index))
    }

    async fn primary(&self, key: &KeyHandle) -> Result<Option<String>, ProviderError> {
        Ok(primary(&self.index, key).map(|version| version.to_string()))
    }

    async fn intent(&self, key: &KeyHandle) -> Result<Value, ProviderError> {
        Ok(intent(&self.index, key))
    }

    async fn find_created(&self, request: &CreateVersion) -> Result<Vec<Found>, ProviderError> {
        Ok(find_created(&self.index, request))
    }

    /// The keystore keeps no count of uses.
    async fn last_use(&self, _key: &KeyHandle, _version: &str) -> Result<Option<LastUse>, ProviderError> {
        Ok(None)
    }
}

/// Both halves. Everything it answers is durable, and up to date with what other processes have written.
pub struct Local {
    appender: Appender,
}

impl Local {
    /// Opens the keystore of the repository whose folder is `base_dir`. Where there is none, it is made with the first
    /// version. `clock` dates what is made, in whole microseconds: this provider's clock is keywheel's own.
    ///
    /// # Errors
    /// As for [`LocalReader::open`].
    pub fn open(config: &LocalConfig, base_dir: &Path, clock: fn() -> Timestamp) -> Result<Self, ProviderError> {
        Self::at(Location::new(config, base_dir), clock)
    }

    fn at(location: Location, clock: fn() -> Timestamp) -> Result<Self, ProviderError> {
        let appender = Appender::start(location, clock).map_err(|error| error.during("open"))?;
        Ok(Self { appender })
    }

    /// What the person who runs keywheel should know, so far: that a root key was made, or that others can read it.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        self.appender.shared().warnings()
    }

    /// Asks the keystore as it is now.
    async fn read<T>(&self, operation: &'static str, ask: impl FnOnce(&View) -> T) -> Result<T, ProviderError> {
        self.appender.refresh(operation).await?;
        Ok(ask(&self.appender.shared().view()))
    }

    async fn change(
        &self,
        operation: &'static str,
        key: &KeyHandle,
        action: Action,
    ) -> Result<Option<u32>, ProviderError> {
        let name = key_name(key).ok_or_else(|| unnamed(operation, key))?;
        self.appender.change(Change { key: name, tenant_id: key.address.tenant_id.clone(), action }).await
    }
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

#[async_trait]
impl Observe for Local {
    async fn observe(&self, keys: &[KeyHandle]) -> Vec<Observation> {
        let observed = self
            .read("observe", |view| keys.iter().map(|handle| observe(&view.index, handle)).collect::<Vec<_>>())
            .await;
        observed.unwrap_or_else(|error| vec![Observation::Unknown { why: error.to_string() }; keys.len()])
    }

    async fn owned(&self) -> Result<Vec<Owned>, ProviderError> {
        self.read("owned", |view| owned(&view.index)).await
    }

    async fn primary(&self, key: &KeyHandle) -> Result<Option<String>, ProviderError> {
        let version = self.read("primary", |view| primary(&view.index, key)).await?;
        Ok(version.map(|version| version.to_string()))
    }

    async fn intent(&self, key: &KeyHandle) -> Result<Value, ProviderError> {
        self.read("intent", |view| intent(&view.index, key)).await
    }

    async fn find_created(&self, request: &CreateVersion) -> Result<Vec<Found>, ProviderError> {
        self.read("find_created", |view| find_created(&view.index, request)).await
    }

    /// The keystore keeps no count of uses.
    async fn last_use(&self, _key: &KeyHandle, _version: &str) -> Result<Option<LastUse>, ProviderError> {
        Ok(None)
    }
}

#[async_trait]
impl KeyManager for Local {
    async fn create_version(&self, request: &CreateVersion) -> Result<Found, ProviderError> {
        const OPERATION: &str = "create_version";
        let handle = &request.key;
        check_spec(OPERATION, handle)?;
        let marks = Marks {
            key_id: handle.key_id.ok_or_else(|| unnamed(OPERATION, handle))?,
            rotation_id: request.rotation_id,
            lineage: request.lineage,
            tenant_id: handle.address.tenant_id.clone(),
        };
        let recorded = recorded_versions(handle).filter(|version| key_name(handle) == Some(version.key));
        let known = recorded.map(|version| version.number).max().unwrap_or(0);
        let number = self.change(OPERATION, handle, Action::Create { marks, known }).await?;
        let view = self.appender.shared().view();
        let made = find(&view.index, handle).and_then(|(name, key)| Some(found(name, key.version(number?)?)));
        made.ok_or_else(|| ProviderError::new(ErrorKind::Unknown, OPERATION, "the new version is not to be found"))
    }

    async fn verify(&self, request: &CreateVersion, version: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "verify";
        let handle = &request.key;
        self.read(OPERATION, |view| {
            prove(OPERATION, view, handle, version_of(OPERATION, handle, version)?)?;
            prove_predecessor(OPERATION, view, handle, request.predecessor.as_deref())
        })
        .await?
    }

    async fn promote(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "promote";
        let number = version_of(OPERATION, key, version)?.number;
        let from = from.map(|from| version_of(OPERATION, key, from)).transpose()?.map(|from| from.number);
        self.change(OPERATION, key, Action::Promote { from, number }).await.map(drop)
    }

    async fn prove_primary(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "prove_primary";
        self.read(OPERATION, |view| {
            let version = version_of(OPERATION, key, version)?;
            if primary(&view.index, key) != Some(version) {
                let message = format!("the primary version is not {version}");
                return Err(ProviderError::new(ErrorKind::ProofFailed, OPERATION, message));
            }
            prove(OPERATION, view, key, version)?;
            prove_predecessor(OPERATION, view, key, from)
        })
        .await?
    }

    async fn disable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "disable";
        let number = version_of(OPERATION, key, version)?.number;
        self.change(OPERATION, key, Action::Disable { number }).await.map(drop)
    }

    async fn enable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "enable";
        let number = version_of(OPERATION, key, version)?.number;
        self.change(OPERATION, key, Action::Enable { number }).await.map(drop)
    }

    async fn schedule_destruction(&self, key: &KeyHandle, version: &str) -> Result<Timestamp, ProviderError> {
        const OPERATION: &str = "schedule_destruction";
        let number = version_of(OPERATION, key, version)?.number;
        self.change(OPERATION, key, Action::ScheduleDestruction { number }).await?;
        let view = self.appender.shared().view();
        let scheduled = find(&view.index, key).and_then(|(_, key)| key.version(number)?.destroy_at);
        scheduled
            .ok_or_else(|| ProviderError::new(ErrorKind::Unknown, OPERATION, "the waiting period is not to be found"))
    }

    async fn cancel_destruction(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "cancel_destruction";
        let number = version_of(OPERATION, key, version)?.number;
        self.change(OPERATION, key, Action::CancelDestruction { number }).await.map(drop)
    }

    async fn destroy(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "destroy";
        let number = version_of(OPERATION, key, version)?.number;
        self.change(OPERATION, key, Action::Destroy { number }).await.map(drop)
    }

    /// The keystore has neither description nor tags, so that there is nothing to update.
    async fn update_settings(
        &self,
        key: &KeyHandle,
        _former: Option<&EncryptionKey>,
        version: &str,
    ) -> Result<(), ProviderError> {
        const OPERATION: &str = "update_settings";
        check_spec(OPERATION, key)?;
        let version = version_of(OPERATION, key, version)?;
        self.read(OPERATION, |view| usable(OPERATION, view, key, version).map(drop)).await?
    }

    async fn encrypt(&self, key: &KeyHandle, plaintext: &[u8]) -> Result<Vec<u8>, ProviderError> {
        const OPERATION: &str = "encrypt";
        if plaintext.len() > MAX_PLAINTEXT {
            let message = format!("{} bytes are too many for one call, which takes {MAX_PLAINTEXT}", plaintext.len());
            return Err(ProviderError::new(ErrorKind::Refused, OPERATION, message));
        }
        self.read(OPERATION, |view| {
            let missing = || ProviderError::new(ErrorKind::NotFound, OPERATION, "the key has no primary version");
            encrypt(OPERATION, view, primary(&view.index, key).ok_or_else(missing)?, plaintext)
        })
        .await?
    }

    async fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<Vec<u8>, ProviderError> {
        self.read("decrypt", |view| decrypt("decrypt", view, key, ciphertext)).await?
    }
}

/// The version that a provider ref names, if it is one of this key.
fn version_of(operation: &'static str, handle: &KeyHandle, text: &str) -> Result<VersionRef, ProviderError> {
    let refuse = |message: String| ProviderError::new(ErrorKind::NotFound, operation, message);
    let version: VersionRef = text.parse().map_err(|error| refuse(format!("{text:?} is {error}")))?;
    if key_name(handle) != Some(version.key) {
        return Err(refuse(format!("{version} is not a version of {}", handle.address)));
    }
    Ok(version)
}

/// A version that encrypts and decrypts, of a key that the handle's tenant owns.
fn usable(
    operation: &'static str,
    view: &View,
    handle: &KeyHandle,
    version: VersionRef,
) -> Result<VersionState, ProviderError> {
    let key = view.index.get(version.key, &handle.address.tenant_id);
    match key.and_then(|key| key.version(version.number)).map(|version| version.state) {
        None => Err(ProviderError::new(ErrorKind::NotFound, operation, format!("there is no version {version}"))),
        Some(state) if is_usable(state) => Ok(state),
        Some(VersionState::Destroyed) => {
            let message = format!("the version {version} is destroyed: what it encrypted is lost");
            Err(ProviderError::new(ErrorKind::Refused, operation, message))
        }
        Some(state) => {
            let message = format!("the version {version} is {state}");
            Err(ProviderError::new(ErrorKind::Refused, operation, message)
                .help("`keywheel enable` makes it decrypt again"))
        }
    }
}

fn encrypt(
    operation: &'static str,
    view: &View,
    version: VersionRef,
    plaintext: &[u8],
) -> Result<Vec<u8>, ProviderError> {
    let material = view.materials.get(&version);
    let ciphertext = material.and_then(|material| cipher::encrypt(version, material, plaintext).ok());
    ciphertext.ok_or_else(|| ProviderError::new(ErrorKind::Storage, operation, "the cipher failed"))
}

fn decrypt(
    operation: &'static str,
    view: &View,
    handle: &KeyHandle,
    ciphertext: &[u8],
) -> Result<Vec<u8>, ProviderError> {
    let refuse = |message: &str| ProviderError::new(ErrorKind::Refused, operation, message);
    let version =
        cipher::version_of(ciphertext).ok_or_else(|| refuse("this is no ciphertext of the local provider"))?;
    if key_name(handle) != Some(version.key) {
        return Err(refuse("the ciphertext was made under another key"));
    }
    usable(operation, view, handle, version)?;
    let plaintext = view.materials.get(&version).and_then(|material| cipher::decrypt(version, material, ciphertext));
    plaintext.ok_or_else(|| refuse("the ciphertext was changed after it was made"))
}

/// Proves that a version encrypts, and that what it encrypts decrypts through the key.
fn prove(operation: &'static str, view: &View, handle: &KeyHandle, version: VersionRef) -> Result<(), ProviderError> {
    usable(operation, view, handle, version)?;
    let ciphertext = encrypt(operation, view, version, PROOF)?;
    if decrypt(operation, view, handle, &ciphertext)? == PROOF {
        return Ok(());
    }
    let message = format!("what the version {version} encrypted does not decrypt to the same");
    Err(ProviderError::new(ErrorKind::ProofFailed, operation, message))
}

/// Proves that what the predecessor encrypted still decrypts. One that is disabled decrypts nothing, by intent.
fn prove_predecessor(
    operation: &'static str,
    view: &View,
    handle: &KeyHandle,
    predecessor: Option<&str>,
) -> Result<(), ProviderError> {
    let Some(predecessor) = predecessor else { return Ok(()) };
    let version = version_of(operation, handle, predecessor)?;
    match usable(operation, view, handle, version) {
        Err(error) if error.kind == ErrorKind::Refused => Ok(()),
        _ => prove(operation, view, handle, version),
    }
}

fn check_spec(operation: &'static str, handle: &KeyHandle) -> Result<(), ProviderError> {
    let refuse =
        |message: String, help: &str| Err(ProviderError::new(ErrorKind::Refused, operation, message).help(help));
    match (&handle.key.key_spec, &handle.key.key_usage) {
        (Some(spec), _) if !KEY_SPECS.contains(&spec.as_str()) => refuse(
            format!("the local provider has no key spec {spec}"),
            "leave `key_spec` out: the keys are AES-256-GCM",
        ),
        (_, Some(usage)) if usage != KEY_USAGE => refuse(
            format!("the local provider has no key usage {usage}"),
            "leave `key_usage` out: the keys encrypt and decrypt",
        ),
        _ => Ok(()),
    }
}

/// A key that keywheel has not recorded yet has no name in the keystore.
fn unnamed(operation: &'static str, handle: &KeyHandle) -> ProviderError {
    ProviderError::new(ErrorKind::NotFound, operation, format!("{} has no identity yet", handle.address))
}

#[cfg(test)]
mod tests;
