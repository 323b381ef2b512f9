//! Evidence for an auditor: read from the record alone, tenant by tenant.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::document::packs;
use crate::model::{AuditEntry, Name, ObjectKind, Phase, Timestamp, Workflow};
use crate::plan::compliance::{DEFINITION, KeyEvidence, LIMITS, Past, PolicyEvidence, RuleEvidence, Turn, of_tenant};
use crate::store::{AuditCheck, AuditHead, AuditLink, BrokenLink, HistoryEntry, HistoryFilter, ReadState};

use super::load::load_with_record;
use super::{EngineError, Workspace, clock, leases, names};

/// Which report is meant.
#[derive(Debug, Clone, Default)]
pub struct ComplianceOptions {
    /// The framework, however it is spelled.
    pub framework: String,
    /// This tenant alone.
    pub tenant_id: Option<Name>,
    /// The first instant of the period; by default a year before its end.
    pub from: Option<Timestamp>,
    /// The first instant after it; by default now.
    pub until: Option<Timestamp>,
    /// Another state database than `keywheel.yaml` names.
    pub state: Option<String>,
}

/// The evidence.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ComplianceReport {
    /// The framework.
    pub framework: &'static str,
    /// The first instant of the period.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// When the record was read.
    pub as_of: Timestamp,
    /// The identity of the state database.
    pub lineage: Option<Uuid>,
    /// What was applied last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How the rate is reckoned.
    pub definition: &'static str,
    /// What the report cannot show.
    pub limits: &'static str,
    /// The numbers.
    pub summary: ComplianceSummary,
    /// The framework's rules, and what keeps them now.
    pub rules: Vec<RuleEvidence>,
    /// The policies that keys were under, and what they said when.
    pub policies: Vec<PolicyEvidence>,
    /// The keys that were under the framework's tag.
    pub keys: Vec<KeyEvidence>,
    /// The log that all of this rests on.
    pub audit: AuditEvidence,
}

/// The numbers of a report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct ComplianceSummary {
    /// Keys under the framework's tag in the period.
    pub keys: usize,
    /// Those of them without a gap.
    pub keys_without_gap: usize,
    /// Keys that were never under it, and that the report says nothing about.
    pub untagged_keys: usize,
    /// Days that keys were under it.
    pub key_days: f64,
    /// Days of those on which they were within.
    pub key_days_within: f64,
    /// The rate, in percent; absent where there are no such days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_percent: Option<f64>,
    /// Rotations that settled.
    pub rotations: usize,
    /// Rotations that failed.
    pub failed_rotations: usize,
    /// Gaps.
    pub gaps: usize,
}

/// The audit log, as it was read for a report.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AuditEvidence {
    /// How many entries were read.
    pub entries: u64,
    /// The end of each chain that was read: its number and its hash.
    pub heads: Vec<AuditHead>,
    /// Does every link hold?
    pub whole: bool,
    /// The first link that does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<BrokenLink>,
}

/// How many entries are read at once.
const PAGE: u32 = 1024;

/// Gathers the evidence, and writes nothing anywhere.
///
/// # Errors
/// There is no such framework, tenant or database, or the period is none.
pub async fn compliance(workspace: &Workspace, options: &ComplianceOptions) -> Result<ComplianceReport, EngineError> {
    let Some(framework) = packs::pack(&options.framework) else {
        let known = packs::tags().collect::<Vec<_>>().join(", ");
        let message = format!("{:?} is no framework that there is a pack for", options.framework);
        return Err(EngineError::new("compliance/framework", message).help(format!("there are {known}")));
    };
    let now = clock::now();
    let until = options.until.unwrap_or(now).min(now);
    let from = options.from.unwrap_or_else(|| until - chrono::Duration::days(365));
    if from >= until {
        return Err(EngineError::new("compliance/period", "the period ends before it begins, or has not begun")
            .help("--from is its first day, and --to the day after its last; what is to come is `keywheel forecast`"));
    }
    let (_, state, recorded) = load_with_record(workspace, options.state.as_deref()).await?.with_state()?;
    // What was removed since was there, and an auditor asks for what was.
    let forgotten = state.forgotten_keys().await?;
    let of_forgotten = forgotten.iter().map(|(record, _)| &record.key.tenant_id);
    let mut tenants: BTreeSet<Name> = leases::tenants(&recorded).chain(of_forgotten).cloned().collect();
    if let Some(tenant) = &options.tenant_id {
        if !tenants.contains(tenant) {
            return Err(names::unknown_tenant(tenant, tenants.iter()));
        }
        tenants = BTreeSet::from([tenant.clone()]);
    }
    let Told { mut of_tenants, of_all, log } = told(&*state, &tenants, options.tenant_id.as_ref()).await?;
    let mut report = ComplianceReport {
        framework: framework.tag,
        from,
        until,
        as_of: now,
        lineage: recorded.lineage,
        commit: recorded.last_applied.as_ref().map(|last| last.origin.commit.clone()),
        definition: DEFINITION,
        limits: LIMITS,
        summary: ComplianceSummary::default(),
        rules: Vec::new(),
        policies: Vec::new(),
        keys: Vec::new(),
        audit: AuditEvidence {
            entries: log.entries,
            heads: log.heads,
            whole: log.broken.is_none(),
            broken: log.broken,
        },
    };
    let mut rules: BTreeMap<String, RuleEvidence> = BTreeMap::new();
    for tenant in &tenants {
        let entries = of_tenants.remove(tenant).unwrap_or_default();
        let rotations = turns(&*state, tenant, entries.iter().chain(&of_all)).await?;
        let past = Past {
            framework,
            recorded: &recorded,
            forgotten: &forgotten,
            entries: &entries,
            rotations: &rotations,
            from,
            until,
            now,
        };
        let evidence = of_tenant(tenant, &past);
        report.summary.untagged_keys += evidence.untagged;
        report.keys.extend(evidence.keys);
        report.policies.extend(evidence.policies);
        for (code, rule) in evidence.rules {
            match rules.get_mut(&code) {
                None => drop(rules.insert(code, rule)),
                Some(all) => {
                    all.kept += rule.kept;
                    all.broken_by.extend(rule.broken_by);
                    all.waived.extend(rule.waived);
                }
            }
        }
    }
    report.rules = rules.into_values().collect();
    report.summary.count(&report.keys);
    Ok(report)
}

impl ComplianceSummary {
    fn count(&mut self, keys: &[KeyEvidence]) {
        let hundredths = |number: f64| (number * 100.0).round() / 100.0;
        self.keys = keys.len();
        self.keys_without_gap = keys.iter().filter(|key| key.gaps.is_empty()).count();
        self.key_days = hundredths(keys.iter().map(|key| key.days).sum());
        self.key_days_within = hundredths(keys.iter().map(|key| key.days_within).sum());
        self.rate_percent =
            (self.key_days > 0.0).then(|| (self.key_days_within / self.key_days * 10_000.0).floor() / 100.0);
        let rotations = || keys.iter().flat_map(|key| &key.rotations).filter(|turn| turn.workflow == Workflow::Rotate);
        self.rotations = rotations().filter(|turn| turn.result == Phase::Settled).count();
        self.failed_rotations = rotations().filter(|turn| turn.result == Phase::Abandoned).count();
        self.gaps = keys.iter().map(|key| key.gaps.len()).sum();
    }
}

/// What the log tells of policies, of which policy a key has, of what stops keys, and of approvals.
struct Told {
    /// Each tenant's entries, in the order of its chain.
    of_tenants: BTreeMap<Name, Vec<AuditEntry>>,
    /// Approvals by owners of the repository, which are of no tenant alone.
    of_all: Vec<AuditEntry>,
    /// Whether what was read is whole.
    log: AuditCheck,
}

/// Reads the log and checks every link of it; of all tenants, or of one with the repository's own chain.
async fn told(state: &dyn ReadState, tenants: &BTreeSet<Name>, only: Option<&Name>) -> Result<Told, EngineError> {
    let mut told = Told { of_tenants: BTreeMap::new(), of_all: Vec::new(), log: AuditCheck::default() };
    let mut last: Option<(String, u64)> = None;
    loop {
        let after = last.as_ref().map(|(tenant, seq)| (tenant.as_str(), *seq));
        let page = state.audit_after(after, PAGE).await?;
        let Some(end) = page.last() else { return Ok(told) };
        let chain = end.object.tenant_id.as_ref().map_or("", |tenant| tenant.as_str());
        last = Some((chain.to_owned(), end.seq));
        for link in page {
            let tenant = link.object.tenant_id.clone();
            if only.is_none_or(|only| tenant.as_ref().is_none_or(|tenant| tenant == only)) {
                told.log.read(&link);
            }
            match tenant {
                _ if !counts(&link) => {}
                None => told.of_all.push(entry(link)),
                Some(tenant) if tenants.contains(&tenant) => {
                    told.of_tenants.entry(tenant).or_default().push(entry(link));
                }
                Some(_) => {}
            }
        }
    }
}

fn counts(link: &AuditLink) -> bool {
    let touches = |field: &str| link.before.as_ref().is_some_and(|before| before.get(field).is_some());
    match link.object.kind {
        ObjectKind::RotationPolicy => true,
        ObjectKind::EncryptionKey => {
            let stops = ["key.parked", "key.resumed", "key.rolled_back", "key.released"];
            touches("rotation_policy") || touches("key_name") || stops.contains(&link.action.as_str())
        }
        _ => link.action == "plan.approved",
    }
}

fn entry(link: AuditLink) -> AuditEntry {
    let AuditLink { at, actor, commit, correlation_id, action, object, before, after, .. } = link;
    AuditEntry { at, actor, commit, correlation_id, action, object, before, after }
}

/// The rotations of a tenant, the oldest first, with who approved them.
async fn turns<'a>(
    state: &dyn ReadState,
    tenant: &Name,
    entries: impl Iterator<Item = &'a AuditEntry>,
) -> Result<Vec<Turn>, EngineError> {
    let mut approvers: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for entry in entries.filter(|entry| entry.action == "plan.approved") {
        let principal = entry.after.as_ref().and_then(|after| after.get("principal")?.as_str());
        approvers.entry(&entry.correlation_id).or_default().extend(principal.map(str::to_owned));
    }
    let filter = HistoryFilter { tenant_id: Some(tenant.clone()), leads: true, ..HistoryFilter::default() };
    let mut history = state.history(&filter).await?;
    history.retain(|entry| matches!(entry.workflow, Workflow::Rotate | Workflow::Rollback));
    history.reverse();
    let turn = |entry: HistoryEntry| Turn {
        approvers: approvers.get(entry.correlation_id.as_str()).cloned().unwrap_or_default(),
        rotation_id: entry.rotation_id,
        key_id: entry.key_id,
        key_name: entry.key_name,
        workflow: entry.workflow,
        result: entry.status,
        cause: entry.cause,
        reason: entry.reason,
        started_at: entry.started_at,
        ended_at: entry.rotated_at,
        duration_ms: entry.duration_ms,
        from_ref: entry.from_ref,
        to_ref: entry.to_ref,
        commit: entry.commit,
        correlation_id: entry.correlation_id,
        error: entry.error,
    };
    Ok(history.into_iter().map(turn).collect())
}
