//! The key manager as the engine sees it: each method one or more requests to the simulated one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::bugs::{self, Bug};
use super::cloud::{Cloud, State};
use super::world::{Call, Process, Side, Trouble, Weather, World, locked};
use super::{invariants, timeline};
use crate::model::{EncryptionKey, LastUse, Observation, ObservedKey, ObservedVersion, Timestamp, VersionState};
use crate::provider::{CreateVersion, ErrorKind, Found, KeyHandle, KeyManager, Observe, Owned, ProviderError};

pub struct Kms {
    pub world: Arc<World>,
    pub process: Arc<Process>,
}

impl Kms {
    /// A request that changes nothing.
    async fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        look: impl Fn(&Cloud, Weather) -> T + Send + Sync + 'static,
    ) -> Result<T, ProviderError> {
        let call = Call { name, to: Side::Provider, changes: false, repeats: true };
        let look = move |world: &Arc<World>| look(&locked(&world.cloud), world.weather());
        self.world.request(&self.process, call, look).await.map_err(|trouble| self.told(name, trouble))
    }

    /// A request that changes something: what it means to do is held against the journal when it is sent, and against
    /// what it finds where it lands.
    async fn act<T: Send + 'static>(
        &self,
        intent: invariants::Effect,
        act: impl Fn(&mut Cloud, &World) -> Result<T, ProviderError> + Send + Sync + 'static,
    ) -> Result<T, ProviderError> {
        let name = intent.operation();
        if self.world.weather().cursed.is_some_and(|cursed| intent.key_id() == Some(cursed)) {
            self.world.met("denied");
            return Err(ProviderError::new(ErrorKind::Denied, name, "the key policy does not allow it"));
        }
        let repeats = intent.operation() != "CreateKey";
        let call = Call { name, to: Side::Provider, changes: true, repeats };
        let sent_under = self.process.token.load(std::sync::atomic::Ordering::Relaxed);
        invariants::sent(&self.world, &intent, sent_under);
        let land = move |world: &Arc<World>| {
            invariants::before_effect(world, &intent, sent_under);
            let result = act(&mut locked(&world.cloud), world);
            invariants::after_effect(world);
            result
        };
        self.world.request(&self.process, call, land).await.map_err(|trouble| self.told(name, trouble))?
    }

    fn told(&self, operation: &'static str, trouble: Trouble) -> ProviderError {
        let kind = match trouble {
            Trouble::NoAnswer if self.world.has(Bug::NoAnswerIsFailure) => ErrorKind::Unreachable,
            Trouble::Garbled if self.world.has(Bug::NoAnswerIsFailure) => ErrorKind::Refused,
            Trouble::Unreachable => ErrorKind::Unreachable,
            Trouble::Throttled => ErrorKind::Throttled,
            Trouble::NoAnswer => ErrorKind::Unknown,
            Trouble::Garbled => ErrorKind::Malformed,
        };
        ProviderError::new(kind, operation, format!("{trouble:?}"))
    }

    fn alias(key: &KeyHandle) -> String {
        key.key.kms_alias.clone().unwrap_or_default()
    }
}

#[async_trait]
impl Observe for Kms {
    async fn observe(&self, keys: &[KeyHandle]) -> Vec<Observation> {
        let asked = keys.to_vec();
        let answer = self
            .read("DescribeKey", move |cloud, weather| {
                asked.iter().map(|key| observe(cloud, weather, key)).collect::<Vec<_>>()
            })
            .await;
        answer.unwrap_or_else(|error| vec![Observation::Unknown { why: error.to_string() }; keys.len()])
    }

    async fn owned(&self) -> Result<Vec<Owned>, ProviderError> {
        self.read("GetResources", |cloud, _| {
            let marked = cloud.versions.iter().filter(|(_, version)| version.rotation_id.is_some());
            let owned = marked.map(|(name, version)| Owned {
                provider_ref: name.clone(),
                lineage: None,
                key_id: version.key_id,
                tenant_id: version.tenant_id.clone(),
            });
            owned.collect()
        })
        .await
    }

    async fn primary(&self, key: &KeyHandle) -> Result<Option<String>, ProviderError> {
        if self.world.has(Bug::PromoteWithoutLooking) {
            return Ok(key.primary.clone());
        }
        let alias = Self::alias(key);
        self.read("DescribeKey", move |cloud, weather| cloud.read(&alias, weather)).await
    }

    async fn intent(&self, _key: &KeyHandle) -> Result<Value, ProviderError> {
        Ok(Value::Null)
    }

    async fn find_created(&self, request: &CreateVersion) -> Result<Vec<Found>, ProviderError> {
        let rotation_id = request.rotation_id;
        let mut found = self.read("GetResources", move |cloud, _| cloud.marked(rotation_id)).await?;
        if self.world.has(Bug::RetryWithoutProbing) {
            found.clear();
        }
        if self.world.has(Bug::TwinsForgotten) {
            found.truncate(1);
        }
        if found.len() > 1 {
            self.world.met("twin found");
        }
        Ok(found)
    }

    async fn last_use(&self, _key: &KeyHandle, version: &str) -> Result<Option<LastUse>, ProviderError> {
        // What counts from long ago is kept by this date alone, and by how long uses are known: neither is looked at then.
        let is_aged = self.world.has(Bug::DisableInsideRetention) || self.world.has(Bug::DestroyInsideRetention);
        let forgotten = is_aged || self.world.has(Bug::LastUseForgotten);
        let version = version.to_owned();
        self.read("GetKeyLastUsage", move |cloud, _| {
            let found = cloud.versions.get(&version)?;
            let used = cloud.last_used(&version).filter(|_| !forgotten);
            let tracked_since = found.created_at - if is_aged { bugs::LONG * 2 } else { chrono::Duration::zero() };
            Some(LastUse { tracked_since, at: used.map(timeline::at) })
        })
        .await
    }
}

fn refused(operation: &'static str, message: String) -> ProviderError {
    ProviderError::new(ErrorKind::Refused, operation, message)
}

#[async_trait]
impl KeyManager for Kms {
    async fn enable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        let version_ = version.to_owned();
        self.act(invariants::Effect::give_back(key, version), move |cloud, _| {
            let found = cloud.version_mut(&version_, "EnableKey")?;
            match found.state {
                State::Enabled | State::Disabled => found.state = State::Enabled,
                State::Pending(_) => return Err(refused("EnableKey", format!("{version_} waits for its destruction"))),
            }
            Ok(())
        })
        .await
    }

    async fn schedule_destruction(&self, key: &KeyHandle, version: &str) -> Result<Timestamp, ProviderError> {
        let version_ = version.to_owned();
        self.act(invariants::Effect::destroy(key, version), move |cloud, _| {
            let ends_at = timeline::true_now() + chrono::Duration::days(30);
            let found = cloud.version_mut(&version_, "ScheduleKeyDeletion")?;
            match found.state {
                State::Enabled => Err(refused("ScheduleKeyDeletion", format!("{version_} is not disabled"))),
                State::Disabled => {
                    found.state = State::Pending(ends_at);
                    Ok(ends_at)
                }
                State::Pending(until) => Ok(until),
            }
        })
        .await
    }

    async fn cancel_destruction(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        let version_ = version.to_owned();
        self.act(invariants::Effect::give_back(key, version), move |cloud, _| {
            let found = cloud.version_mut(&version_, "CancelKeyDeletion")?;
            if matches!(found.state, State::Pending(_)) {
                found.state = State::Disabled;
            }
            Ok(())
        })
        .await
    }

    async fn destroy(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        let version_ = version.to_owned();
        self.act(invariants::Effect::destroy(key, version), move |cloud, _| {
            // Once the waiting period has ended, the key manager has destroyed it by itself.
            match cloud.versions.get(&version_).map(|version| version.state) {
                None => Ok(()),
                Some(State::Pending(until)) if until <= timeline::true_now() => {
                    cloud.versions.remove(&version_);
                    Ok(())
                }
                Some(_) => Err(refused("DescribeKey", format!("{version_} is still there"))),
            }
        })
        .await
    }

    async fn create_version(&self, request: &CreateVersion) -> Result<Found, ProviderError> {
        let wanted = request.clone();
        self.act(invariants::Effect::create(request), move |cloud, world| {
            Ok(cloud.create(&wanted, world.weather(), !world.has(Bug::NoMark)))
        })
        .await
    }

    async fn verify(&self, request: &CreateVersion, version: &str) -> Result<(), ProviderError> {
        if self.world.has(Bug::PromoteBeforeVerify) {
            return Ok(());
        }
        let (request_, version_) = (request.clone(), version.to_owned());
        self.act(invariants::Effect::verify(request, version), move |cloud, _| {
            if let Some(old) = &request_.predecessor {
                let old = cloud.version(old, "DescribeKey")?.clone();
                let new = cloud.version_mut(&version_, "TagResource")?;
                (new.description, new.tags) = (old.description, old.tags);
            }
            let new = cloud.version_mut(&version_, "Encrypt")?;
            if !new.is_enabled() {
                return Err(ProviderError::new(ErrorKind::Refused, "Encrypt", format!("{version_} is disabled")));
            }
            new.proven = true;
            Ok(())
        })
        .await
    }

    async fn promote(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError> {
        // It has no condition of its own: the name is looked at, and then moved.
        let (alias, looked_at) = (Self::alias(key), Self::alias(key));
        let looked = self.world.has(Bug::PromoteWithoutLooking);
        let target = self.read("DescribeKey", move |cloud, weather| cloud.read(&looked_at, weather)).await?;
        match target.as_deref() {
            target if target == from || target == Some(version) || looked => {}
            target => {
                let message = format!("{alias} leads to {target:?}");
                return Err(ProviderError::new(ErrorKind::Conflict, "UpdateAlias", message));
            }
        }
        if self.world.has(Bug::AliasDeletedAndCreated) && from.is_some() {
            let gone = alias.clone();
            let effect = invariants::Effect::promote(key, from, version);
            self.act(effect, move |cloud, _| {
                cloud.delete_alias(&gone);
                Ok(())
            })
            .await?;
        }
        let to = version.to_owned();
        self.act(invariants::Effect::promote(key, from, version), move |cloud, _| {
            if !cloud.version(&to, "UpdateAlias")?.is_enabled() {
                return Err(ProviderError::new(ErrorKind::Refused, "UpdateAlias", format!("{to} is disabled")));
            }
            cloud.lead(&alias, &to);
            Ok(())
        })
        .await
    }

    async fn prove_primary(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError> {
        let (alias, from, version) = (Self::alias(key), from.map(str::to_owned), version.to_owned());
        // It is repeated until the alias is seen everywhere.
        self.read("Encrypt", move |cloud, _| {
            let failed = |message: String| Err(ProviderError::new(ErrorKind::ProofFailed, "Encrypt", message));
            if cloud.target(&alias) != Some(version.as_str()) {
                return failed(format!("{alias} leads to {:?}, not to {version}", cloud.target(&alias)));
            }
            for needed in from.iter().chain([&version]) {
                if !cloud.version(needed, "Decrypt")?.is_enabled() {
                    return failed(format!("{needed} is disabled"));
                }
            }
            Ok(())
        })
        .await?
    }

    async fn disable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        let (alias, version_) = (Self::alias(key), version.to_owned());
        self.act(invariants::Effect::disable(key, version), move |cloud, _| {
            if cloud.target(&alias) == Some(version_.as_str()) {
                return Err(ProviderError::new(ErrorKind::Refused, "DisableKey", format!("{version_} is in use")));
            }
            let found = cloud.version_mut(&version_, "DisableKey")?;
            if found.state == State::Enabled {
                (found.state, found.disabled_at) = (State::Disabled, Some(timeline::elapsed()));
            }
            Ok(())
        })
        .await
    }

    async fn update_settings(
        &self,
        key: &KeyHandle,
        former: Option<&EncryptionKey>,
        version: &str,
    ) -> Result<(), ProviderError> {
        let (document, former, version_) = (key.key.clone(), former.cloned(), version.to_owned());
        self.act(invariants::Effect::settings(key, version), move |cloud, _| {
            cloud.version_mut(&version_, "TagResource")?.set(&document, former.as_ref());
            Ok(())
        })
        .await
    }

    async fn encrypt(&self, _key: &KeyHandle, _plaintext: &[u8]) -> Result<Vec<u8>, ProviderError> {
        Err(ProviderError::new(ErrorKind::Refused, "Encrypt", "no application runs here"))
    }

    async fn decrypt(&self, _key: &KeyHandle, _ciphertext: &[u8]) -> Result<Vec<u8>, ProviderError> {
        Err(ProviderError::new(ErrorKind::Refused, "Decrypt", "no application runs here"))
    }
}

fn observe(cloud: &Cloud, weather: Weather, key: &KeyHandle) -> Observation {
    let primary = cloud.read(&Kms::alias(key), weather);
    let asked = key.key.kms_key_id.as_ref().filter(|_| key.primary.is_none());
    let named = asked.filter(|id| cloud.versions.contains_key(*id)).cloned();
    let mut refs: Vec<&String> = primary.iter().chain(&named).chain(&key.versions).collect();
    refs.sort();
    refs.dedup();
    let mut versions: Vec<ObservedVersion> = refs
        .into_iter()
        .filter_map(|provider_ref| {
            let version = cloud.versions.get(provider_ref).filter(|version| !version.is_gone())?;
            let state = match version.state {
                State::Disabled => VersionState::Disabled,
                State::Pending(_) => VersionState::PendingDestruction,
                State::Enabled if primary.as_ref() == Some(provider_ref) => VersionState::Active,
                State::Enabled => VersionState::Deactivated,
            };
            Some(ObservedVersion { provider_ref: provider_ref.clone(), state, created_at: Some(version.created_at) })
        })
        .collect();
    versions.sort_by_key(|version| version.created_at);
    let shown = primary.as_ref().or(named.as_ref()).and_then(|provider_ref| cloud.versions.get(provider_ref));
    let Some(shown) = shown else { return Observation::Missing };
    let mut settings: BTreeMap<String, String> =
        shown.tags.iter().map(|(name, value)| (format!("tag:{name}"), value.clone())).collect();
    settings.insert("description".to_owned(), shown.description.clone());
    Observation::Present(ObservedKey { primary, named, versions, settings })
}
