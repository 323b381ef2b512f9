//! The simulated key manager: keys behind aliases, as AWS KMS has them, which shows what was done only after a while.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::timeline;
use super::world::{LONGEST_LAG, Weather};
use crate::model::{EncryptionKey, Name, Timestamp};
use crate::provider::{CreateVersion, ErrorKind, Found, ProviderError};

#[derive(Debug, Clone, Default)]
pub struct Cloud {
    pub versions: BTreeMap<String, Version>,
    /// Where each alias led, and since when, the newest last.
    aliases: BTreeMap<String, Vec<(Duration, String)>>,
    /// How many keys were ever made.
    made: u64,
    /// Applications that did not follow the stable names use what these led to before, until then.
    pub straggles_until: Duration,
}

/// A key of the key manager: one version.
#[derive(Debug, Clone)]
pub struct Version {
    pub tenant_id: Option<Name>,
    pub key_id: Option<Uuid>,
    pub rotation_id: Option<Uuid>,
    pub created_at: Timestamp,
    /// From here on it is found by its tags.
    listed_from: Duration,
    pub state: State,
    /// When it was disabled, and its destruction was scheduled, if it was in use before.
    pub disabled_at: Option<Duration>,
    /// Was it used to the proof?
    pub proven: bool,
    /// Did an alias ever lead to it? Then applications have encrypted with it.
    pub used: bool,
    pub description: String,
    pub tags: BTreeMap<String, String>,
}

/// What the key manager says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Enabled,
    Disabled,
    /// It is destroyed when this time has come.
    Pending(Timestamp),
}

impl Cloud {
    /// A key that is nobody's yet.
    pub fn foreign(&mut self, name: &str, alias: Option<&str>) -> String {
        let provider_ref = arn(name);
        let version = Version {
            tenant_id: None,
            key_id: None,
            rotation_id: None,
            created_at: timeline::true_now(),
            listed_from: timeline::elapsed(),
            state: State::Enabled,
            disabled_at: None,
            proven: true,
            used: alias.is_some(),
            description: String::new(),
            tags: BTreeMap::new(),
        };
        self.versions.insert(provider_ref.clone(), version);
        if let Some(alias) = alias {
            self.lead(alias, &provider_ref);
        }
        provider_ref
    }

    /// `CreateKey`: each request makes another one.
    pub fn create(&mut self, request: &CreateVersion, weather: Weather, marked: bool) -> Found {
        let lag = timeline::dice(|dice| {
            let seconds = if dice.in_thousand(weather.stale) { dice.below(LONGEST_LAG.as_secs()) } else { 0 };
            Duration::from_secs(seconds)
        });
        // Twins of one request are listed together: a probe that finds one of them looks no further.
        let now = timeline::true_now();
        let mut twins = self.versions.values().filter(|version| version.rotation_id == Some(request.rotation_id));
        let twin = twins.find_map(|twin| (twin.created_at == now).then_some(twin.listed_from));
        self.made += 1;
        let provider_ref = arn(&format!("{}-{}", request.key.address.name, self.made));
        let version = Version {
            tenant_id: Some(request.key.address.tenant_id.clone()),
            key_id: request.key.key_id,
            rotation_id: Some(request.rotation_id).filter(|_| marked),
            created_at: timeline::true_now(),
            listed_from: twin.unwrap_or_else(|| timeline::elapsed() + lag),
            state: State::Enabled,
            disabled_at: None,
            proven: false,
            used: false,
            description: request.key.key.description.clone().unwrap_or_default(),
            tags: request.key.key.tags.clone(),
        };
        let created_at = Some(version.created_at);
        self.versions.insert(provider_ref.clone(), version);
        Found { provider_ref, created_at }
    }

    /// The versions that carry a rotation's mark and are listed by now, the oldest first.
    pub fn marked(&self, rotation_id: Uuid) -> Vec<Found> {
        let now = timeline::elapsed();
        let marked = self.versions.iter().filter(|(_, version)| version.rotation_id == Some(rotation_id));
        let mut found: Vec<Found> = marked
            .filter(|(_, version)| version.listed_from <= now)
            .map(|(name, version)| Found { provider_ref: name.clone(), created_at: Some(version.created_at) })
            .collect();
        found.sort_by_key(|found| found.created_at);
        found
    }

    /// Where an alias leads.
    pub fn target(&self, alias: &str) -> Option<&str> {
        self.aliases.get(alias)?.last().map(|(_, target)| target.as_str())
    }

    /// Where somebody who reads an alias is told that it leads: now and then where it led a moment ago.
    pub fn read(&self, alias: &str, weather: Weather) -> Option<String> {
        let stale = timeline::dice(|dice| dice.in_thousand(weather.stale).then(|| Duration::from_secs(dice.below(20))));
        let at = timeline::elapsed().saturating_sub(stale.unwrap_or_default());
        let led = self.aliases.get(alias)?;
        led.iter().rev().find(|(since, _)| *since <= at).map(|(_, target)| target.clone())
    }

    /// Since when every alias that once led to a version has led to something else, but for those that were left behind
    /// with it; none if no alias was ever led away from it.
    pub fn left(&self, version: &str) -> Option<Duration> {
        let left = self.aliases.values().filter_map(|led| {
            let last = led.iter().rposition(|(_, target)| target == version)?;
            led.get(last + 1).map(|(since, _)| *since)
        });
        left.max()
    }

    /// When a version was used last: since when nobody uses it any more. None if nobody ever did.
    pub fn last_used(&self, version: &str) -> Option<Duration> {
        let found = self.versions.get(version).filter(|found| found.used)?;
        let now = timeline::elapsed();
        self.left(version)
            .map_or(Some(now), |left| Some(left.max(self.straggles_until.min(found.disabled_at.unwrap_or(now)))))
    }

    /// `CreateAlias` and `UpdateAlias`.
    pub fn lead(&mut self, alias: &str, target: &str) {
        self.aliases.entry(alias.to_owned()).or_default().push((timeline::elapsed(), target.to_owned()));
        if let Some(version) = self.versions.get_mut(target) {
            version.used = true;
        }
    }

    /// Only somebody who plants a mistake deletes an alias.
    pub fn delete_alias(&mut self, alias: &str) {
        self.aliases.remove(alias);
    }

    pub fn version(&self, provider_ref: &str, operation: &'static str) -> Result<&Version, ProviderError> {
        self.versions.get(provider_ref).ok_or_else(|| not_found(provider_ref, operation))
    }

    pub fn version_mut(&mut self, provider_ref: &str, operation: &'static str) -> Result<&mut Version, ProviderError> {
        self.versions.get_mut(provider_ref).ok_or_else(|| not_found(provider_ref, operation))
    }
}

impl Version {
    pub fn is_enabled(&self) -> bool {
        self.state == State::Enabled
    }

    /// Has its waiting period ended?
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Pending(until) if until <= timeline::true_now())
    }

    /// Makes description and tags those of a document, as far as an earlier one did not leave them to somebody else.
    pub fn set(&mut self, document: &EncryptionKey, former: Option<&EncryptionKey>) {
        match (&document.description, former.and_then(|former| former.description.as_ref())) {
            (Some(text), _) => self.description.clone_from(text),
            (None, Some(former)) if *former == self.description => self.description.clear(),
            (None, _) => {}
        }
        for (name, value) in former.into_iter().flat_map(|former| &former.tags) {
            if self.tags.get(name) == Some(value) {
                self.tags.remove(name);
            }
        }
        self.tags.extend(document.tags.clone());
    }
}

/// What the key manager calls a key.
pub fn arn(name: &str) -> String {
    format!("arn:aws:kms:us-east-1:111122223333:key/{name}")
}

fn not_found(provider_ref: &str, operation: &'static str) -> ProviderError {
    ProviderError::new(ErrorKind::NotFound, operation, format!("there is no {provider_ref}"))
}
