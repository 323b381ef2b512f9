//! What is to come: the documents and the record, and time that passes. No key manager is asked.

use std::collections::BTreeSet;

use chrono::Duration;

use crate::model::{Name, Timestamp};
use crate::plan::forecast::MAX_DAYS;
use crate::plan::{self, Forecast, ForecastInputs};
use crate::provider::capabilities;

use super::load::{Known, load_at};
use super::{EngineError, Workspace, clock, leases, names, planning, retire};

/// Which forecast is meant.
#[derive(Debug, Clone, Default)]
pub struct ForecastOptions {
    /// How many days it covers.
    pub days: u32,
    /// This tenant alone.
    pub tenant_id: Option<Name>,
    /// Another beginning than now.
    pub as_of: Option<Timestamp>,
    /// Another state database than `keywheel.yaml` names.
    pub state: Option<String>,
}

/// Makes a forecast, and writes nothing anywhere.
///
/// # Errors
/// The documents that hold for everybody have errors, nobody knows the tenant, or the record could not be read.
pub async fn forecast(workspace: &Workspace, options: &ForecastOptions) -> Result<Forecast, EngineError> {
    let now = options.as_of.unwrap_or_else(clock::now);
    let Known { desired, state, recorded, .. } = load_at(workspace, options.state.as_deref(), now).await?;
    if options.state.is_some() && state.is_none() {
        let message = "there is no state database where --state leads";
        let help = "check the path; without --state, keywheel.yaml says where it is";
        return Err(EngineError::new("state/missing", message).help(help));
    }
    if desired.repository.failed {
        let message = "keywheel.yaml or a document for all tenants has errors: what is to come cannot be told";
        return Err(EngineError::new("forecast/documents", message).help("`keywheel validate` shows them"));
    }
    if let Some(tenant) = &options.tenant_id {
        let documents = &desired.repository;
        let keys = documents.keys.keys().chain(documents.policies.keys()).map(|address| &address.tenant_id);
        let known = keys.chain(documents.tenants.keys()).chain(&documents.failed_tenants);
        let known: BTreeSet<&Name> = known.chain(leases::tenants(&recorded)).collect();
        if !known.contains(tenant) {
            return Err(names::unknown_tenant(tenant, known.into_iter()));
        }
    }
    let days = options.days.min(MAX_DAYS);
    let until = now + Duration::days(days.into());
    let retired = retire::due_versions(state.as_deref(), &desired, &recorded, until).await?;
    Ok(plan::forecast(&ForecastInputs {
        desired: &desired.repository,
        recorded: &recorded,
        retired: &retired,
        capabilities,
        now,
        days,
        tenant: options.tenant_id.as_ref(),
        rotation_enabled: planning::rotation_enabled()?,
    }))
}
