//! Plans: the state database opened read-only, the providers asked, the pure planner called.

use std::collections::BTreeMap;
use std::path::Path;

use crate::diagnostic::{Finding, Place};
use crate::document::{Located, Places, Repository};
use crate::model::{Address, Freeze, Guardrail, Name, ObjectKind, Recorded, Tenant, Timestamp};
use crate::plan::{self, Change, Inputs, Plan, Retired, Waiting};
use crate::provider::capabilities;
use crate::store::{Location, ReadState, StoreError};

use super::load::{Known, load_at, load_with_record};
use super::manual::{self, Request};
use super::observe::{KnownVersions, Observed, observe};
use super::providers::Observers;
use super::retire;
use super::{
    Desired, EngineError, ErrorKind, Event, PlanOptions, Planned, Progress, Workspace, alerts, clock, ownership,
};

/// The switch of the original: `false` starts nothing anywhere, and finishes what is begun.
const SWITCH: &str = "KEY_ROTATION_ENABLED";

/// Makes a plan, and writes nothing anywhere.
///
/// # Errors
/// See [`EngineError`].
pub async fn plan(
    workspace: &Workspace,
    options: &PlanOptions,
    progress: &dyn Progress,
) -> Result<Planned, EngineError> {
    make(workspace, options, progress, false).await
}

/// A plan whose drift covers every recorded version, not the primaries alone.
///
/// # Errors
/// See [`EngineError`].
pub async fn drift(
    workspace: &Workspace,
    options: &PlanOptions,
    progress: &dyn Progress,
) -> Result<Planned, EngineError> {
    make(workspace, options, progress, true).await
}

async fn make(
    workspace: &Workspace,
    options: &PlanOptions,
    progress: &dyn Progress,
    deep: bool,
) -> Result<Planned, EngineError> {
    progress.event(Event::PhaseStarted { phase: "load", total: None });
    let now = options.as_of.unwrap_or_else(clock::now);
    let Known { desired, state, recorded, .. } = load_at(workspace, options.state.as_deref(), now).await?;
    if desired.repository.failed {
        return Ok(Planned { plan: empty(&desired, options), desired });
    }
    let versions = match &state {
        Some(state) if deep => state.all_versions().await?,
        _ => Vec::new(),
    };
    let mut known = KnownBefore::default();
    for version in &versions {
        known.versions.entry(version.key_id).or_default().push(version.provider_ref.clone());
    }
    let config = plan::applied_config(&recorded).unwrap_or_else(|| desired.repository.config.clone());
    let mut plan = if options.refresh {
        let observers = Observers::new(config.providers, desired.root.clone());
        let (mut plan, observed) =
            fresh(&desired, &recorded, state.as_deref(), &observers, progress, now, known).await?;
        if deep {
            plan.drift.extend(plan::version_drift(&desired.repository, &recorded, &versions, &observed.keys));
        }
        plan
    } else {
        build(&desired, &recorded, &Observed::default(), &Retired::default(), now, false)?
    };
    plan.diagnostics.extend(ownership::examine(workspace, &desired, &recorded, now)?.findings);
    if !deep {
        let (documents, said) = (&desired.repository, &plan.diagnostics);
        let found = alerts::found(documents, &recorded, state.as_deref(), said, |_| true, now).await?;
        plan.diagnostics.extend(alerts::placed(found, documents));
    }
    plan.not_applicable = match options {
        PlanOptions { as_of: Some(_), .. } => Some("with --as-of".to_owned()),
        PlanOptions { refresh: false, .. } => Some("with --refresh=false".to_owned()),
        _ => None,
    };
    Ok(Planned { desired, plan })
}

/// The plan of what a person asks of one key, and writes nothing anywhere.
///
/// # Errors
/// See [`EngineError`].
pub async fn plan_by_hand(
    workspace: &Workspace,
    address: &Address,
    request: &Request,
    state: Option<&str>,
    progress: &dyn Progress,
) -> Result<Plan, EngineError> {
    let (desired, state, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let desired = as_applied(desired, &recorded, address);
    let observers = Observers::new(desired.repository.config.providers.clone(), desired.root.clone());
    let known = KnownBefore::default();
    let (mut plan, _) = fresh(&desired, &recorded, Some(&*state), &observers, progress, clock::now(), known).await?;
    only(&mut plan, manual::change(&desired, &*state, &recorded, address, request).await?);
    let settings = plan::approvals::settings(&desired.repository, &recorded);
    plan.needs = plan::approvals::needs(&plan.changes, settings);
    plan.diagnostics = plan::approvals::findings(&plan.needs, &desired.repository);
    Ok(plan)
}

/// What is known before anybody is asked.
#[derive(Debug, Default)]
pub(super) struct KnownBefore {
    /// Versions that are looked at beside the primaries.
    pub versions: KnownVersions,
    /// Tenants that nothing is planned for, and why.
    pub left_out: BTreeMap<Name, String>,
    /// Nobody has approved anything: what needs that waits.
    pub unapproved: bool,
}

/// Asks the providers, and plans.
pub(super) async fn fresh(
    desired: &Desired,
    recorded: &Recorded,
    state: Option<&dyn ReadState>,
    observers: &Observers,
    progress: &dyn Progress,
    now: Timestamp,
    KnownBefore { mut versions, left_out, unapproved }: KnownBefore,
) -> Result<(Plan, Observed), EngineError> {
    let mut retired = retire::due_versions(state, desired, recorded, now).await?;
    retire::known_versions(&retired, recorded, &mut versions);
    let mut observed = observe(observers, &desired.repository, recorded, &versions, progress).await;
    observed.unreachable.extend(left_out);
    if !observed.owned.is_empty() {
        let some = observed.owned.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        return Err(EngineError::new(
            "state/unknown-keys",
            match observed.owned.len() {
                1 => format!("the state database is empty, and a key at the providers carries keywheel's marks: {some}"),
                many => format!("the state database is empty, and {many} keys at the providers carry keywheel's marks: {some}"),
            },
        )
        .kind(ErrorKind::Refused)
        .help("a lost or mistyped state database is not a first run: check `state` in keywheel.yaml, or restore its backup"));
    }
    let limits = plan::applied_config(recorded).map_or(desired.repository.config.limits, |config| config.limits);
    let most = limits.max_destructions as usize;
    let unknown = retire::last_uses(observers, desired, recorded, &observed, &mut retired, most, now).await;
    observed.findings.extend(unknown);
    Ok((build(desired, recorded, &observed, &retired, now, unapproved)?, observed))
}

fn build(
    desired: &Desired,
    recorded: &Recorded,
    observed: &Observed,
    retired: &Retired,
    now: Timestamp,
    unapproved_waits: bool,
) -> Result<Plan, EngineError> {
    let inputs = Inputs {
        desired: &desired.repository,
        sources: &desired.sources,
        recorded,
        observed: &observed.keys,
        retired,
        unreachable: &observed.unreachable,
        capabilities,
        now,
        rotation_enabled: rotation_enabled()?,
        unapproved_waits,
    };
    let mut plan = plan::plan(&inputs);
    plan.diagnostics.splice(0..0, desired.findings.iter().chain(&observed.findings).cloned());
    Ok(plan)
}

/// May anything be started?
///
/// # Errors
/// The switch is set to something that is neither on nor off.
pub(super) fn rotation_enabled() -> Result<bool, EngineError> {
    switch(std::env::var_os(SWITCH).as_deref().map(std::ffi::OsStr::to_string_lossy).as_deref())
}

/// An unreadable switch stops the work: it may have been meant to be off.
fn switch(value: Option<&str>) -> Result<bool, EngineError> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "1" | "yes" | "on") => Ok(true),
        Some("false" | "0" | "no" | "off") => Ok(false),
        Some(other) => {
            let message = match other.trim() {
                "" => format!("{SWITCH} is set to nothing, which is neither true nor false"),
                _ => format!("{SWITCH}={other:?} is neither true nor false"),
            };
            Err(EngineError::new("settings/switch", message)
                .help(format!("set {SWITCH}=true or {SWITCH}=false; unset, it is true")))
        }
    }
}

/// The plan of documents that cannot be planned at all: nothing but their findings.
fn empty(desired: &Desired, options: &PlanOptions) -> Plan {
    let repository = Repository::default();
    let (recorded, none, unreachable) = (Recorded::default(), BTreeMap::new(), BTreeMap::new());
    let mut plan = plan::plan(&Inputs {
        desired: &repository,
        sources: &desired.sources,
        recorded: &recorded,
        observed: &none,
        retired: &Retired::default(),
        unreachable: &unreachable,
        capabilities,
        now: options.as_of.unwrap_or_else(clock::now),
        rotation_enabled: false,
        unapproved_waits: false,
    });
    plan.changes.clear();
    plan.diagnostics.clone_from(&desired.findings);
    plan.not_applicable = Some("of documents with errors".to_owned());
    plan
}

/// Where the state database is that `text` names; a relative path starts at `root`.
///
/// # Errors
/// `${NAME}` names a variable that is not set, or the location has no known form.
pub(super) fn location(root: &Path, text: &str) -> Result<Location, EngineError> {
    let resolved = match text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        None => text.to_owned(),
        Some(name) => std::env::var(name).map_err(|_| {
            EngineError::new(
                "state/variable",
                format!("the environment variable {name}, which `state` names, is not set"),
            )
            .help(format!("set {name} to sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE"))
        })?,
    };
    let location =
        Location::parse(&resolved, root).map_err(|error| EngineError::new("state/location", error.to_string()))?;
    if location.has_password() && resolved == text {
        return Err(EngineError::new(
            "state/password",
            format!("the password of {location} stands where others read it"),
        )
        .help("name an environment variable that holds the URL: ${KEYWHEEL_STATE}"));
    }
    Ok(location)
}

/// Opens a state database for reading. None where there is no database yet.
///
/// # Errors
/// See [`StoreError`].
pub(super) async fn open_state(location: &Location) -> Result<Option<Box<dyn ReadState>>, EngineError> {
    match crate::store::open_read_only(location).await {
        Ok(state) => Ok(Some(state)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The record in the place of the documents, with one key of it: what a person's request is about.
pub(super) fn as_applied(desired: Desired, recorded: &Recorded, key: &Address) -> Desired {
    let mut repository = applied_repository(&desired.repository, recorded);
    repository.keys.retain(|address, _| address == key);
    let origin = recorded.last_applied.as_ref().map(|last| last.origin.clone()).or(desired.origin);
    Desired { repository, findings: Vec::new(), origin, ..desired }
}

/// The documents as they were applied last; `keywheel.yaml` is the desired one before the first apply.
pub(super) fn applied_repository(desired: &Repository, recorded: &Recorded) -> Repository {
    let place = Place { file: "(as applied)".into(), line: 1, column: 1, length: 1 };
    let mut repository = Repository {
        config: plan::applied_config(recorded).unwrap_or_else(|| desired.config.clone()),
        ..Repository::default()
    };
    for (address, record) in &recorded.policies {
        repository.policies.insert(address.clone(), located(record.policy.clone(), &place));
    }
    for (address, record) in &recorded.keys {
        repository.keys.insert(address.clone(), located(record.key.clone(), &place));
    }
    for (object, record) in &recorded.documents {
        let (name, spec) = (object.name.clone(), record.spec.clone());
        match object.kind {
            ObjectKind::Tenant => {
                if let Ok(tenant) = serde_json::from_value::<Tenant>(spec) {
                    repository.tenants.insert(name, located(tenant, &place));
                }
            }
            ObjectKind::Freeze => {
                if let Ok(freeze) = serde_json::from_value::<Freeze>(spec) {
                    repository.freezes.insert(name, located(freeze, &place));
                }
            }
            ObjectKind::Guardrail => {
                if let Ok(guardrail) = serde_json::from_value::<Guardrail>(spec) {
                    repository.guardrails.insert(name, located(guardrail, &place));
                }
            }
            ObjectKind::Config | ObjectKind::RotationPolicy | ObjectKind::EncryptionKey => {}
        }
    }
    repository.documents = recorded.policies.len() + recorded.keys.len() + recorded.documents.len();
    repository
}

fn located<T>(value: T, place: &Place) -> Located<T> {
    Located { value, place: place.clone(), fields: Places::default(), inherited: BTreeMap::new() }
}

/// Narrows a plan to one change. What the key waits for is kept, so that a person sees it.
pub(super) fn only(plan: &mut Plan, change: Change) {
    let about = |waiting: &Waiting| {
        waiting.object == change.object && waiting.version.is_none_or(|it| Some(it) != change.version)
    };
    plan.waiting.retain(about);
    plan.drift.retain(|drift| drift.object == change.object);
    plan.refusals.clear();
    plan.needs.clear();
    plan.changes = vec![change];
    plan.diagnostics = Vec::<Finding>::new();
    plan.digest = plan::digest(&plan.sources, plan.lineage, &plan.changes);
}

/// Who runs this: `user@host`.
pub(super) fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .map_or_else(|| "localhost".to_owned(), |name| name.trim().to_owned());
    format!("{user}@{host}")
}
