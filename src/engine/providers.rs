//! Which client serves which key: one for each account and region, made when it is first needed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::OnceCell;

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

/// The connections of one run. Each place is connected to once, whoever needs it first; and one that could not be, or
/// that gave no answer, is left alone for the rest of the run: its silence is waited for once, and not once for each key.
struct Connections {
    providers: Providers,
    root: PathBuf,
    /// Set once nothing more is to be waited for.
    interrupt: Arc<AtomicBool>,
    places: Mutex<HashMap<ProviderPlace, Arc<Connection>>>,
}

#[derive(Default)]
struct Connection {
    aws: OnceCell<Result<Arc<AwsKms>, ProviderError>>,
    left_alone: OnceLock<ProviderError>,
}

impl Connections {
    fn new(providers: Providers, root: PathBuf) -> Self {
        Self { providers, root, interrupt: Arc::default(), places: Mutex::default() }
    }

    fn to(&self, place: &ProviderPlace) -> Arc<Connection> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry(place.clone()).or_default().clone()
    }

    async fn aws(&self, place: &ProviderPlace) -> Result<Arc<AwsKms>, ProviderError> {
        let connection = self.to(place);
        if let Some(error) = connection.left_alone.get() {
            return Err(error.clone());
        }
        let connect = async || {
            let (tenant, region) = (place.tenant_id.as_ref(), place.region.as_deref());
            let connected = AwsKms::connect(&self.providers.aws_kms, tenant, region).await?;
            Ok(Arc::new(connected.until(self.interrupt.clone())))
        };
        connection.aws.get_or_init(connect).await.clone()
    }
}

/// The reading halves: all that a plan gets.
pub struct Observers(Arc<Connections>);

impl Observers {
    /// The observers of a repository's settings; relative paths start at `root`.
    #[must_use]
    pub fn new(providers: Providers, root: PathBuf) -> Self {
        Self(Arc::new(Connections::new(providers, root)))
    }

    /// The settings.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.0.providers
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
                let reader = LocalReader::open(&self.0.providers.local, &self.0.root)?;
                let warnings = reader.warnings();
                (Arc::new(reader), warnings)
            }
            KmsProvider::AwsKms => (self.0.aws(place).await?, Vec::new()),
            other => return Err(unavailable(other)),
        };
        #[cfg(debug_assertions)]
        let observer = super::fault_points::observer(observer);
        Ok((observer, warnings))
    }
}

/// The acting halves: what apply gets.
pub struct Managers {
    connections: Arc<Connections>,
    /// There is one keystore.
    local: OnceLock<Result<Arc<Local>, ProviderError>>,
}

impl Managers {
    /// The managers of a repository's settings; relative paths start at `root`. Once the flag is set they wait for
    /// nothing: not for their turn, and not to try again.
    #[must_use]
    pub fn new(providers: Providers, root: PathBuf, interrupt: Arc<AtomicBool>) -> Self {
        let connections = Connections { interrupt, ..Connections::new(providers, root) };
        Self { connections: Arc::new(connections), local: OnceLock::new() }
    }

    /// The reading halves of the same connections.
    #[must_use]
    pub fn observers(&self) -> Observers {
        Observers(self.connections.clone())
    }

    /// Where a key is.
    #[must_use]
    pub fn place(&self, key: &EncryptionKey) -> ProviderPlace {
        place(&self.connections.providers, key)
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
        let Connections { providers, root, .. } = &*self.connections;
        let manager: Arc<dyn KeyManager> = match key.kms_provider {
            KmsProvider::Local => {
                let open = || Local::open(&providers.local, root, clock::now).map(Arc::new);
                self.local.get_or_init(open).clone()?
            }
            KmsProvider::AwsKms => self.connections.aws(&self.place(key)).await?,
            other => return Err(unavailable(other)),
        };
        #[cfg(debug_assertions)]
        let manager = super::fault_points::manager(manager);
        Ok(manager)
    }

    /// Nobody answers at a place: nobody is asked there for the rest of the run.
    pub(super) fn leave_alone(&self, place: &ProviderPlace, error: &str) {
        let message = format!("its key manager gave no answer before in this run ({error})");
        let error = ProviderError::new(ErrorKind::Unreachable, "not asked", message).help("the next apply asks again");
        let _ = self.connections.to(place).left_alone.set(error);
    }

    /// What a person should know once the work is done: a root key was made for trying out, say.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        self.local.get().and_then(|local| local.as_ref().ok()).map(|local| local.warnings()).unwrap_or_default()
    }
}

fn unavailable(provider: KmsProvider) -> ProviderError {
    ProviderError::new(ErrorKind::Refused, "connect", format!("this keywheel does not work with {provider} yet"))
}
