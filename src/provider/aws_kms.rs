//! AWS Key Management Service: a version is a KMS key, named by its ARN, and the stable name is an alias.
//!
//! A rotation makes a successor key, gives it all that applications rely on, proves it, and moves the alias
//! (`new_key`). `CreateKey` has no token against doing it twice: the key carries its rotation's id as a tag from the first
//! instant, the request is sent once, and after an unknown outcome the tag is looked for.
//!
//! - `client`: credentials, region, endpoint, quotas, and the one place that repeats a request
//! - `operation`: the operations' names and quotas
//! - `error`: what AWS's answers mean
//! - `lookup`, `marks`: reading one key, and finding keys by tag
//! - `successor`, `alias`, `prove`: making a version, moving the name, proving both
//! - `settings`: description and tags
//! - `retirement`: the end of a version: disabled, scheduled for deletion, gone; and when it was last used
//!
//! *Observing* asks `DescribeKey` once for each key, by its alias: that answer says at one instant where the alias leads,
//! and the state, spec and description of the key there. `ListAliases` gives 100 aliases a page, but of the state
//! nothing, so that it would be asked besides and not instead; its pages come one after the other, are of different
//! instants, and hold every alias of the account; and it is a permission for all of them. `DescribeKey` has a quota of
//! 2,000 a second: what limits a plan of 10,000 keys is `max_concurrent`.
//!
//! AWS KMS is eventually consistent: what was made a moment ago may be unknown for seconds. Requests about such things
//! are repeated for as long as one call may take ([`crate::document::AwsKmsConfig::operation_timeout`]).

mod alias;
mod client;
mod error;
mod lookup;
mod marks;
mod operation;
mod prove;
mod retirement;
mod settings;
mod successor;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{EncryptionAlgorithmSpec, KeySpec, KeyState, KeyUsageType};
use futures::stream::{self, StreamExt};
use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

use self::client::{Account, Regional, Repeat};
use self::error::{Again, Failure};
use self::lookup::Described;
use self::operation::Operation;
use self::prove::Context;
use crate::document::{AwsKmsConfig, Capabilities};
use crate::model::{
    EncryptionKey, LastUse, Name, Observation, ObservedKey, ObservedVersion, RotationStrategy, Timestamp, VersionState,
};
use crate::provider::{
    CreateVersion, ErrorKind, Found, KeyHandle, KeyManager, MAX_PLAINTEXT, Observe, Owned, ProviderError, tag,
};

/// What keywheel can do in AWS KMS.
pub const CAPABILITIES: Capabilities = Capabilities {
    available: true,
    strategies: &[RotationStrategy::NewKey],
    rollback: true,
    needs_alias: true,
    regions: true,
    disable: true,
    destroy: true,
    last_use: true,
    destroys_by_itself: true,
    waiting_days: retirement::WAITING_DAYS,
};

/// AWS KMS in one account and region.
pub struct AwsKms {
    account: Account,
}

impl AwsKms {
    /// Connects to the account of `tenant` (of every tenant without one of its own, if none is named) in `region` (by
    /// default that of the settings, then of the standard AWS environment).
    ///
    /// It finds credentials, which can mean a request to STS for a role, and sends nothing to AWS KMS.
    ///
    /// # Errors
    /// There is no region, or there are no usable credentials.
    pub async fn connect(
        config: &AwsKmsConfig,
        tenant: Option<&Name>,
        region: Option<&str>,
    ) -> Result<Self, ProviderError> {
        Ok(Self { account: Account::connect(config, tenant, region).await? })
    }

    /// The same, which sends nothing more, and waits for nothing, once the flag is set. What is under way comes to its end.
    #[must_use]
    pub fn until(mut self, interrupt: Arc<AtomicBool>) -> Self {
        self.account.interrupt = interrupt;
        self
    }

    /// Through a connection that somebody else has made, which no quota slows down: what is not AWS answers there.
    #[doc(hidden)]
    #[must_use]
    pub fn through(sdk: aws_config::SdkConfig, patience: std::time::Duration) -> Self {
        Self { account: Account::through(sdk, patience) }
    }

    /// An AWS that is out of reach is so for every key: nobody waits for it thousands of times.
    async fn observe_or_say_why(&self, key: &KeyHandle, out_of_reach: &OnceLock<String>) -> Observation {
        if let Some(why) = out_of_reach.get() {
            return Observation::Unknown { why: why.clone() };
        }
        self.observe_key(key).await.unwrap_or_else(|failure| {
            let why = in_words(&failure.error);
            if failure.error.concerns_every_key() {
                out_of_reach.get_or_init(|| why.clone());
            }
            Observation::Unknown { why }
        })
    }

    async fn observe_key(&self, key: &KeyHandle) -> Result<Observation, Failure> {
        let home = self.account.home();
        let led_to = match &key.key.kms_alias {
            Some(alias) => alias::target(&home, alias).await?,
            None => None,
        };
        // Only adoption asks where the document's id leads; of a recorded key it may be a version of long ago.
        let asked = key.key.kms_key_id.as_ref().filter(|_| key.primary.is_none() || key.key.kms_alias.is_none());
        let named = match asked {
            Some(id) if led_to.as_ref().is_some_and(|key| key.arn == *id || key.key_id() == id) => led_to.clone(),
            Some(id) => lookup::describe_if_there(&home, id).await?,
            None => None,
        };
        // Without an alias, the key's own id is the name that applications use.
        let primary = match (&key.key.kms_alias, &named, &key.primary) {
            (Some(_), ..) => led_to,
            (None, Some(named), _) => Some(named.clone()),
            (None, None, Some(recorded)) => lookup::describe_if_there(&home, recorded).await?,
            (None, None, None) => None,
        };
        let mut versions: BTreeMap<String, Described> = BTreeMap::new();
        for known in [&primary, &named].into_iter().flatten() {
            versions.insert(known.arn.clone(), known.clone());
        }
        for version in &key.versions {
            if !versions.contains_key(version)
                && let Some(described) = lookup::describe_if_there(&home, version).await?
            {
                versions.insert(described.arn.clone(), described);
            }
        }
        let settings = match primary.as_ref().or(named.as_ref()).or_else(|| versions.values().next()) {
            Some(found) => settings::observed(&home, found, !key.key.tags.is_empty()).await?,
            None => return Ok(Observation::Missing),
        };
        Ok(Observation::Present(ObservedKey {
            versions: observed_versions(versions, primary.as_ref(), &key.versions),
            primary: primary.map(|primary| primary.arn),
            named: named.map(|named| named.arn),
            settings,
        }))
    }

    /// What `data encrypt` and `data decrypt` work with: a symmetric key.
    async fn symmetric(&self, key: &KeyHandle, operation: Operation) -> Result<Described, Failure> {
        let name = stable_name(key, operation)?;
        let described = lookup::describe(&self.account.home(), name, Repeat::Safe).await?;
        let usage = described.usage().map_or("ENCRYPT_DECRYPT", KeyUsageType::as_str);
        let spec = described.metadata.key_spec.as_ref().map_or("SYMMETRIC_DEFAULT", KeySpec::as_str);
        if (usage, spec) != ("ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT") {
            let message = format!("{} is a key for {usage} ({spec}), not for symmetric encryption", key.address);
            return Err(Failure::new(ErrorKind::Refused, operation, message)
                .help("use it through AWS's own tools; keywheel encrypts with symmetric keys only"));
        }
        Ok(described)
    }

    async fn decrypt_symmetric(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<Vec<u8>, Failure> {
        let primary = self.symmetric(key, Operation::Decrypt).await?;
        let home = self.account.home();
        let send = || home.kms.decrypt().ciphertext_blob(Blob::new(ciphertext)).send();
        let answer = home.call(Operation::Decrypt, Repeat::Safe, send).await?;
        // A symmetric ciphertext says itself which key it is of; it must be one of this document's.
        let plaintext = answer.plaintext.map(|plaintext| Zeroizing::new(plaintext.into_inner()));
        let by = answer.key_id.ok_or_else(|| Failure::incomplete(Operation::Decrypt, "the key's ARN"))?;
        if by != primary.arn && by != primary.key_id() && !key.versions.contains(&by) {
            let message = format!("it was encrypted under {by}, which is no version of {}", key.address);
            return Err(Failure::new(ErrorKind::Refused, Operation::Decrypt, message)
                .help("decrypt it as what it is: name the key that it belongs to"));
        }
        let plaintext = plaintext.ok_or_else(|| Failure::incomplete(Operation::Decrypt, "Plaintext"))?;
        Ok(plaintext.to_vec())
    }

    /// Uses the old version, as far as it is in use: a disabled one has been given up by whoever disabled it.
    async fn old_works(&self, home: &Regional, old: &Described, context: &Context) -> Result<(), Failure> {
        if old.is_enabled() {
            return prove::works(home, &old.arn, old, context).await;
        }
        let state = old.metadata.key_state.as_ref().map_or("unknown", KeyState::as_str);
        tracing::warn!(key = old.arn, state, "the old version is not enabled: that it still decrypts is not proven");
        Ok(())
    }

    async fn proven_primary(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), Failure> {
        let home = self.account.home();
        let name = stable_name(key, Operation::Encrypt)?;
        let context = Context { name: tag::KEY_ID, value: key.key_id.map(|id| id.to_string()).unwrap_or_default() };
        let primary = lookup::describe(&home, version, Repeat::Settling).await?;
        let deadline = Instant::now() + self.account.patience;
        for attempt in 1.. {
            let proof = async {
                prove::works(&home, name, &primary, &context).await?;
                match &key.key.kms_alias {
                    Some(alias) => alias::leads_everywhere(&self.account, alias, &primary).await,
                    None => Ok(()),
                }
            };
            let Err(failure) = proof.await else { break };
            if failure.again != Again::Settling || !home.pause(attempt, deadline).await {
                return Err(failure);
            }
        }
        match from {
            Some(from) if from != version => {
                let old = lookup::describe(&home, from, Repeat::Safe).await?;
                self.old_works(&home, &old, &context).await
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Observe for AwsKms {
    async fn observe(&self, keys: &[KeyHandle]) -> Vec<Observation> {
        let out_of_reach = OnceLock::new();
        let answers: Vec<_> = keys.iter().map(|key| self.observe_or_say_why(key, &out_of_reach)).collect();
        stream::iter(answers).buffered(self.account.max_concurrent).collect().await
    }

    async fn owned(&self) -> Result<Vec<Owned>, ProviderError> {
        Ok(marks::owned(&self.account).await?)
    }

    async fn primary(&self, key: &KeyHandle) -> Result<Option<String>, ProviderError> {
        let name = key.key.kms_alias.as_ref().or(key.key.kms_key_id.as_ref()).or(key.primary.as_ref());
        let Some(name) = name else { return Ok(None) };
        Ok(alias::target(&self.account.home(), name).await?.map(|key| key.arn))
    }

    /// Nothing: the rotation's id is in the key's tags.
    async fn intent(&self, _key: &KeyHandle) -> Result<Value, ProviderError> {
        Ok(Value::Null)
    }

    async fn find_created(&self, request: &CreateVersion) -> Result<Vec<Found>, ProviderError> {
        Ok(marks::made_by(&self.account, request.rotation_id).await?)
    }

    async fn last_use(&self, _key: &KeyHandle, version: &str) -> Result<Option<LastUse>, ProviderError> {
        Ok(retirement::last_use(&self.account.home(), version).await?)
    }
}

#[async_trait]
impl KeyManager for AwsKms {
    async fn create_version(&self, request: &CreateVersion) -> Result<Found, ProviderError> {
        let made = successor::create(&self.account, request).await?;
        Ok(Found { created_at: made.created_at(), provider_ref: made.arn })
    }

    async fn verify(&self, request: &CreateVersion, version: &str) -> Result<(), ProviderError> {
        let home = self.account.home();
        let context = Context { name: tag::ROTATION_ID, value: request.rotation_id.to_string() };
        let new = lookup::describe(&home, version, Repeat::Settling).await?;
        if let Some(predecessor) = &request.predecessor {
            let old = lookup::describe(&home, predecessor, Repeat::Safe).await?;
            successor::take_over(&self.account, &old, &new).await?;
            self.old_works(&home, &old, &context).await?;
        }
        Ok(prove::works(&home, &new.arn, &new, &context).await?)
    }

    async fn promote(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError> {
        let Some(alias) = &key.key.kms_alias else {
            let message = format!("{} has no kms_alias that could lead to another key", key.address);
            return Err(ProviderError::new(ErrorKind::Refused, Operation::UpdateAlias.name(), message)
                .help("give the key an alias, let applications use it, and write it as `kms_alias`"));
        };
        Ok(alias::lead(&self.account, alias, from, version).await?)
    }

    async fn prove_primary(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError> {
        Ok(self.proven_primary(key, from, version).await?)
    }

    async fn disable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        Ok(retirement::disable(&self.account, key.key.kms_alias.as_deref(), version).await?)
    }

    async fn enable(&self, _key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        Ok(retirement::enable(&self.account, version).await?)
    }

    async fn schedule_destruction(&self, key: &KeyHandle, version: &str) -> Result<Timestamp, ProviderError> {
        Ok(retirement::schedule(&self.account, key.key.kms_alias.as_deref(), version).await?)
    }

    async fn cancel_destruction(&self, _key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        Ok(retirement::cancel(&self.account, version).await?)
    }

    /// AWS KMS deletes the key by itself: this makes sure that it has.
    async fn destroy(&self, _key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        Ok(retirement::is_gone(&self.account, version).await?)
    }

    async fn update_settings(
        &self,
        key: &KeyHandle,
        former: Option<&EncryptionKey>,
        version: &str,
    ) -> Result<(), ProviderError> {
        Ok(settings::restore(&self.account.home(), &key.key, former, version).await?)
    }

    async fn encrypt(&self, key: &KeyHandle, plaintext: &[u8]) -> Result<Vec<u8>, ProviderError> {
        let operation = Operation::Encrypt;
        if plaintext.len() > MAX_PLAINTEXT {
            let message = format!("{} bytes are more than the {MAX_PLAINTEXT} of one call", plaintext.len());
            return Err(ProviderError::new(ErrorKind::Refused, operation.name(), message));
        }
        self.symmetric(key, operation).await?;
        let (home, name) = (self.account.home(), stable_name(key, operation)?);
        let send = || {
            let request = home.kms.encrypt().key_id(name).plaintext(Blob::new(plaintext));
            request.encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault).send()
        };
        let answer = home.call(operation, Repeat::Safe, send).await?;
        let ciphertext = answer.ciphertext_blob.ok_or_else(|| Failure::incomplete(operation, "CiphertextBlob"))?;
        Ok(ciphertext.into_inner())
    }

    async fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<Vec<u8>, ProviderError> {
        Ok(self.decrypt_symmetric(key, ciphertext).await?)
    }
}

/// The name that applications use: the alias, or the key's own id where it has none.
fn stable_name(key: &KeyHandle, operation: Operation) -> Result<&str, Failure> {
    let name = key.key.kms_alias.as_ref().or(key.key.kms_key_id.as_ref()).or(key.primary.as_ref());
    let nameless = || Failure::new(ErrorKind::NotFound, operation, format!("{} has no key yet", key.address));
    name.map(String::as_str).ok_or_else(nameless)
}

/// The versions, the oldest first; of two that AWS dates alike, the one recorded first.
fn observed_versions(
    versions: BTreeMap<String, Described>,
    primary: Option<&Described>,
    recorded: &[String],
) -> Vec<ObservedVersion> {
    let mut versions: Vec<Described> = versions.into_values().collect();
    let place = |arn: &str| recorded.iter().position(|known| known == arn).unwrap_or(usize::MAX);
    versions.sort_by_cached_key(|version| (version.created_at(), place(&version.arn), version.arn.clone()));
    let at = primary.and_then(|primary| versions.iter().position(|version| version.arn == primary.arn));
    let observed = versions.into_iter().enumerate().map(|(index, version)| ObservedVersion {
        state: state(&version, at.map(|primary| index.cmp(&primary))),
        created_at: version.created_at(),
        provider_ref: version.arn,
    });
    observed.collect()
}

/// A version's state, from its own at AWS and where it stands to the primary (nothing: there is none).
fn state(version: &Described, to_primary: Option<std::cmp::Ordering>) -> VersionState {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match version.metadata.key_state {
        Some(KeyState::Enabled | KeyState::Updating) => match to_primary {
            Some(Equal) => VersionState::Active,
            Some(Less) => VersionState::Deactivated,
            Some(Greater) | None => VersionState::PreActivation,
        },
        Some(KeyState::Creating | KeyState::PendingImport) => VersionState::PreActivation,
        Some(KeyState::Disabled) => VersionState::Disabled,
        Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => VersionState::PendingDestruction,
        // Unavailable: its custom key store is not connected. A state that is not known yet is not usable either.
        _ => VersionState::Suspended,
    }
}

fn in_words(error: &ProviderError) -> String {
    match &error.help {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}
