//! Is the state what it must be? Against itself, and against the key managers. Nothing is written anywhere.
//!
//! What is wrong comes as findings, each with a stable code, the key that it is about and what to do. A key manager that
//! gave no answer is a finding too: unknown is not fine.

mod providers;
mod record;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::diagnostic::Finding;
use crate::model::{ObjectKind, ObjectRef, Phase, Timestamp};
use crate::plan;
use crate::store::{AuditCheck, BrokenLink, HistoryFilter, ReadState};

use super::load::load_with_record;
use super::providers::Observers;
use super::unlogged::{Unlogged, unlogged};
use super::{EngineError, Workspace, clock, planning};

/// What a check of the state found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VerifyReport {
    /// The instant at which it was read.
    pub as_of: Timestamp,
    /// Which database, without a password.
    pub state: String,
    /// Its identity.
    pub lineage: Uuid,
    /// How many keys were looked at.
    pub keys: usize,
    /// How many versions of theirs.
    pub versions: usize,
    /// How many rotations.
    pub rotations: usize,
    /// How many entries of the audit log.
    pub audit_entries: u64,
    /// Of how many keys the key managers gave an answer; none if they were not asked.
    pub answered: Option<usize>,
    /// Of how many they gave none.
    pub unanswered: usize,
    /// How many key managers did not say which keys carry keywheel's marks.
    pub unlisted: usize,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Is there something that no key manager answered for?
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        self.unanswered > 0 || self.unlisted > 0
    }
}

/// Checks the state against itself and, unless `offline`, against the key managers.
///
/// # Errors
/// There is no state database, or it could not be read. What is wrong with it is in the findings.
pub async fn verify_state(
    workspace: &Workspace,
    state: Option<&str>,
    offline: bool,
) -> Result<VerifyReport, EngineError> {
    let (desired, reader, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let versions = reader.all_versions().await?;
    let mut journals = BTreeMap::new();
    for rotation in &recorded.unfinished {
        journals.insert(rotation.id, reader.journal(rotation.id).await?);
    }
    let settled = HistoryFilter { phase: Some(Phase::Settled), ..HistoryFilter::default() };
    let settled = reader.history(&settled).await?;
    let AuditCheck { entries, broken, .. } = reader.verify_audit().await?;
    let mut findings = database(&*reader).await?;
    findings.extend(broken.map(broken_link));
    findings.extend(unlogged(&*reader, &recorded, &settled).await?.into_iter().map(not_logged));
    let (as_of, rotations) = (clock::now(), settled.len() + recorded.unfinished.len());
    let record =
        record::Record { recorded: &recorded, versions: &versions, journals: &journals, settled: &settled, now: as_of };
    findings.extend(record::check(&record));
    let (mut answered, mut unanswered, mut unlisted) = (None, 0, 0);
    if !offline {
        let config = plan::applied_config(&recorded).unwrap_or_else(|| desired.repository.config.clone());
        let observers = Observers::new(config.providers, desired.root.clone());
        let asked = providers::check(&observers, &*reader, &recorded, &desired.repository, &versions).await?;
        findings.extend(asked.findings);
        (answered, unanswered, unlisted) = (Some(asked.answered), asked.unanswered, asked.unlisted);
    }
    let location = planning::location(&desired.root, state.unwrap_or(&desired.repository.config.state))?;
    Ok(VerifyReport {
        as_of,
        state: location.to_string(),
        lineage: recorded.lineage.unwrap_or_default(),
        keys: recorded.keys.len(),
        versions: versions.len(),
        rotations,
        audit_entries: entries,
        answered,
        unanswered,
        unlisted,
        findings,
    })
}

async fn database(state: &dyn ReadState) -> Result<Vec<Finding>, EngineError> {
    let problems = state.problems().await?.into_iter().map(|problem| {
        Finding::error("verify/database", problem)
            .help("restore a backup (`keywheel state copy`), or find out who changed the database")
    });
    Ok(problems.collect())
}

fn not_logged(Unlogged { object, what }: Unlogged) -> Finding {
    Finding::error("verify/unlogged", what)
        .help("somebody took entries out of the log, or wrote the record: compare them with a backup, and with a signed checkpoint")
        .of(object)
}

fn broken_link(broken: BrokenLink) -> Finding {
    let chain = broken.tenant_id.as_ref().map_or("the repository", |tenant| tenant.as_str());
    let message = format!("entry {} of the audit log of {chain}: {}", broken.seq, broken.what);
    let finding = Finding::error("verify/audit", message)
        .help("somebody changed the log: compare it with a backup, and with a signed checkpoint");
    match broken.tenant_id {
        Some(tenant) => {
            finding.of(ObjectRef { kind: ObjectKind::Tenant, tenant_id: Some(tenant.clone()), name: tenant })
        }
        None => finding,
    }
}
