//! Which client serves which key: one for each account and region, made when it is first needed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;

use crate::diagnostic::Finding;
use crate::document::Providers;
use crate::model::{EncryptionKey, KmsProvider};
use crate::provider::aws_kms::AwsKms;
use crate::provider::local::{Local, LocalReader};
use crate::provider::{ErrorKind, KeyManager, Observe, ProviderError, ProviderPlace};

use super::clock;

/// Where a key is.
#[must_use]
pub fn place(providers: &Providers, key: &EncryptionKey) -> ProviderPlace {
    let mut place = ProviderPlace { provider: key.kms_provider, tenant_id: None, region: None };
    if key.kms_provider == KmsProvider::AwsKms {
        let account = providers.aws_kms.tenants.get(&key.tenant_id);
        place.tenant_id = account.map(|_| key.tenant_id.clone());
        let region = key.kms_region.as_ref().or_else(|| account.and_then(|account| account.region.as_ref()));
        place.region = region.or(providers.aws_kms.region.as_ref()).cloned();
    }
    place
}

/// The reading halves: all that a plan gets.
#[derive(Debug)]
pub struct Observers {
    providers: Providers,
    root: PathBuf,
}

impl Observers {
    /// The observers of a repository's settings; relative paths start at `root`.
    #[must_use]
    pub fn new(providers: Providers, root: PathBuf) -> Self {
        Self { providers, root }
    }

    /// The settings.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// The client for a place, and what a person should know of it.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn at(&self, place: &ProviderPlace) -> Result<(Arc<dyn Observe>, Vec<Finding>), ProviderError> {
        #[cfg(test)]
        if let Some(simulated) = super::simulation::manager() {
            return Ok((simulated, Vec::new()));
        }
        let (observer, warnings): (Arc<dyn Observe>, _) = match place.provider {
            KmsProvider::Local => {
                let reader = LocalReader::open(&self.providers.local, &self.root)?;
                let warnings = reader.warnings();
                (Arc::new(reader), warnings)
            }
            KmsProvider::AwsKms => (Arc::new(aws(&self.providers, place).await?), Vec::new()),
            other => return Err(unavailable(other)),
        };
        #[cfg(debug_assertions)]
        let observer = super::fault_points::observer(observer);
        Ok((observer, warnings))
    }
}

/// The acting halves: what apply gets.
pub struct Managers {
    providers: Providers,
    root: PathBuf,
    made: Mutex<HashMap<ProviderPlace, Arc<dyn KeyManager>>>,
    /// The local one, which alone may have something to say afterwards.
    local: OnceLock<Arc<Local>>,
}

impl Managers {
    /// The managers of a repository's settings; relative paths start at `root`.
    #[must_use]
    pub fn new(providers: Providers, root: PathBuf) -> Self {
        Self { providers, root, made: Mutex::default(), local: OnceLock::new() }
    }

    /// Where a key is.
    #[must_use]
    pub fn place(&self, key: &EncryptionKey) -> ProviderPlace {
        place(&self.providers, key)
    }

    /// The client of a key.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn of(&self, key: &EncryptionKey) -> Result<Arc<dyn KeyManager>, ProviderError> {
        #[cfg(test)]
        if let Some(simulated) = super::simulation::manager() {
            return Ok(simulated);
        }
        let place = self.place(key);
        let mut made = self.made.lock().await;
        if let Some(manager) = made.get(&place) {
            return Ok(manager.clone());
        }
        let manager: Arc<dyn KeyManager> = match place.provider {
            KmsProvider::Local => {
                let local = Arc::new(Local::open(&self.providers.local, &self.root, clock::now)?);
                self.local.get_or_init(|| local.clone());
                local
            }
            KmsProvider::AwsKms => Arc::new(aws(&self.providers, &place).await?),
            other => return Err(unavailable(other)),
        };
        #[cfg(debug_assertions)]
        let manager = super::fault_points::manager(manager);
        made.insert(place, manager.clone());
        Ok(manager)
    }

    /// What a person should know once the work is done: a root key was made for trying out, say.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        self.local.get().map(|local| local.warnings()).unwrap_or_default()
    }
}

async fn aws(providers: &Providers, place: &ProviderPlace) -> Result<AwsKms, ProviderError> {
    AwsKms::connect(&providers.aws_kms, place.tenant_id.as_ref(), place.region.as_deref()).await
}

fn unavailable(provider: KmsProvider) -> ProviderError {
    ProviderError::new(ErrorKind::Refused, "connect", format!("this keywheel does not work with {provider} yet"))
}
