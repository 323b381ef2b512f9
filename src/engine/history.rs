//! `history`: the rotations that were begun, the newest first, and what became of each.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::document::Repository;
use crate::model::{AppliedPlan, Recorded, Timestamp};
use crate::store::{HistoryEntry, HistoryFilter};

use super::load::{Known, load_with_record};
use super::{EngineError, Workspace, clock, names};

/// The rotations that match.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HistoryReport {
    /// The instant at which it was read.
    pub as_of: Timestamp,
    /// Where there is no state database yet; absent where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_database_at: Option<String>,
    /// Are there more than the limit lets through?
    pub truncated: bool,
    /// The rotations, the newest first.
    pub rotations: Vec<HistoryEntry>,
    /// The applies among theirs that something refused, and that were done all the same.
    pub overrides: Vec<Overridden>,
}

/// An apply that a person had done although a limit or an order of commits refused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Overridden {
    /// When it began.
    pub at: Timestamp,
    /// Which apply.
    pub correlation_id: String,
    /// Of which commit.
    pub commit: String,
    /// Why.
    pub reason: String,
}

/// The rotations that match.
///
/// # Errors
/// The documents or the state database cannot be read, `state` leads to none, or the filter names a tenant or key that nobody knows.
pub async fn history(
    workspace: &Workspace,
    state: Option<&str>,
    filter: &HistoryFilter,
) -> Result<HistoryReport, EngineError> {
    let loaded = load_with_record(workspace, state).await?;
    let no_database_at = loaded.before_the_first_apply()?;
    let Known { desired, state, recorded, .. } = loaded;
    let Some(state) = state else {
        known(&desired.repository, &recorded, filter)?;
        return Ok(HistoryReport { no_database_at, ..cut(Vec::new(), filter.limit, clock::now()) });
    };
    // One more than was asked for tells whether there are more.
    let one_more = HistoryFilter { limit: filter.limit.map(|limit| limit.saturating_add(1)), ..filter.clone() };
    let rotations = state.history(&one_more).await?;
    if rotations.is_empty() {
        known(&desired.repository, &recorded, filter)?;
    }
    let mut report = cut(rotations, filter.limit, clock::now());
    let runs: BTreeSet<&str> = report.rotations.iter().map(|rotation| rotation.correlation_id.as_str()).collect();
    let overridden = state.overridden().await?.into_iter().filter(|plan| runs.contains(plan.correlation_id.as_str()));
    report.overrides = overridden.filter_map(Overridden::of).collect();
    Ok(report)
}

impl Overridden {
    fn of(plan: AppliedPlan) -> Option<Self> {
        let AppliedPlan { origin, correlation_id, started_at: at, override_reason, .. } = plan;
        Some(Self { at, correlation_id, commit: origin.commit, reason: override_reason? })
    }
}

fn cut(mut rotations: Vec<HistoryEntry>, limit: Option<u32>, as_of: Timestamp) -> HistoryReport {
    let limit = limit.map_or(usize::MAX, |limit| limit as usize);
    let truncated = rotations.len() > limit;
    rotations.truncate(limit);
    HistoryReport { as_of, no_database_at: None, truncated, rotations, overrides: Vec::new() }
}

/// A filter that names what nobody knows is a mistake, and not an empty list. (A key that was forgotten has a history.)
fn known(desired: &Repository, recorded: &Recorded, filter: &HistoryFilter) -> Result<(), EngineError> {
    let keys = || recorded.keys.keys().chain(desired.keys.keys());
    if let Some(key) = &filter.key
        && !keys().any(|known| known == key)
    {
        return Err(names::unknown_address("key", key, keys()));
    }
    let tenants = || recorded.tenants().chain(desired.tenants.keys()).chain(keys().map(|key| &key.tenant_id));
    if let Some(tenant) = &filter.tenant_id
        && !tenants().any(|known| known == tenant)
    {
        return Err(names::unknown_tenant(tenant, tenants()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixture::{NOW, address, applied, at, documents, key, policy};
    use crate::model::{Phase, RotationCause, Workflow};

    fn entry(number: u128) -> HistoryEntry {
        HistoryEntry {
            rotation_id: uuid::Uuid::from_u128(number),
            key_id: uuid::Uuid::nil(),
            tenant_id: "acme".parse().unwrap(),
            key_name: "backups".parse().unwrap(),
            workflow: Workflow::Rotate,
            status: Phase::Settled,
            cause: RotationCause::Due,
            reason: "due".to_owned(),
            from_ref: None,
            to_ref: None,
            started_at: at(NOW),
            rotated_at: None,
            duration_ms: None,
            error: None,
            correlation_id: "run".to_owned(),
            commit: None,
        }
    }

    #[test]
    fn the_one_beyond_the_limit_is_told_of_and_not_shown() {
        let three = || vec![entry(3), entry(2), entry(1)];
        let report = cut(three(), Some(2), at(NOW));
        assert_eq!((report.rotations.len(), report.truncated), (2, true));
        assert_eq!(cut(three(), Some(3), at(NOW)).rotations.len(), 3);
        assert!(!cut(three(), None, at(NOW)).truncated);
    }

    #[test]
    fn a_key_with_a_slip_in_it_gets_the_name_that_was_meant() {
        let documents =
            documents("", &[policy("daily", "rotation_interval_days: 1"), key("backups", "daily")].concat());
        let of = |key: &str| HistoryFilter { key: Some(address(key)), ..HistoryFilter::default() };
        assert!(known(&documents, &applied(&documents), &of("acme/backups")).is_ok());
        let error = known(&documents, &applied(&documents), &of("acme/backup")).unwrap_err();
        assert_eq!((error.code, error.help.as_deref()), ("names/unknown", Some("did you mean \"acme/backups\"?")));
    }
}
