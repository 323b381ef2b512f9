//! Apply: lock, finish what an earlier run left, plan, ask, do what the plan says, report.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::diagnostic::Finding;
use crate::document::Config;
use crate::model::{Address, AppliedPlan, KmsProvider, Name, Origin, Recorded, Timestamp};
use crate::plan::{self, Action, Change, Drift, Plan, Refusal, Saved, Stale};
use crate::store::{self, LeaseScope, Location, Migrated, State, StoreError};

use super::admission::{committed, not_older, on_branch, safe_state};
use super::execute::{execute, resume};
use super::journal::Journal;
use super::leases::{self, Held};
use super::load::{Known, load_with_record};
use super::manual::Request;
use super::messages::{Receivers, impossible, overdue, unanswered, unapproved};
use super::ownership::Authors;
use super::providers::Managers;
use super::recovery::{self, Keeper};
use super::run::{Override, Run, Scope};
use super::workflow::Context;
use super::{
    ApplyOptions, Desired, EngineError, ErrorKind, Event, NotStarted, Progress, Report, Workspace, approval, clock,
    outbox, ownership, planning, records,
};

/// Asks a person (or a flag) whether a plan may be applied.
pub type Approve<'a> = dyn Fn(&Plan) -> Result<bool, EngineError> + Send + Sync + 'a;

/// Which changes of the fresh plan are meant.
#[derive(Debug)]
pub(super) enum Wanted {
    /// All of them.
    Everything {
        /// Who wrote what is new.
        authors: Authors,
        /// An older commit that a person let through.
        older: Option<Override>,
    },
    /// One change that a person asks for.
    One(Box<Change>),
}

/// Applies a workspace. None means that the person said no.
///
/// # Errors
/// See [`EngineError`]; what was done before is recorded.
pub async fn apply(
    workspace: &Workspace,
    options: &ApplyOptions,
    approve: &Approve<'_>,
    progress: &dyn Progress,
) -> Result<Option<Report>, EngineError> {
    // Read-only until nothing refuses any more: a refused first apply leaves no database behind.
    let Known { mut desired, recorded, .. } = committed(workspace, options).await?;
    if desired.repository.failed {
        return Err(EngineError::new(
            "apply/documents",
            "keywheel.yaml or a document for all tenants has errors: nothing was applied",
        )
        .help("`keywheel validate` shows them"));
    }
    let config = plan::applied_config(&recorded).unwrap_or_else(|| desired.repository.config.clone());
    safe_state(&desired, options)?;
    on_branch(workspace, &desired, &config, options)?;
    not_older(workspace, &desired, &recorded, options)?;
    let examined = ownership::examine(workspace, &desired, &recorded, clock::now())?;
    ownership::signed(&examined)?;
    if let Some(origin) = &mut desired.origin {
        origin.signer = examined.signer;
    }
    let state = open(&desired, options, progress).await?;
    clocks_agree(state.as_ref()).await?;
    let saved = options.saved.iter().flat_map(|saved| &saved.plan.changes);
    let needed = saved.filter_map(|change| change.object.tenant_id.clone()).collect();
    let everything = leases::Wanted { needed, ..leases::Wanted::everything(&desired.repository, &recorded) };
    let outcome = locked(state.clone(), everything, "apply", options, progress, async |state, held| {
        run(&desired, options, &config, state, held, approve, progress, async |_, recorded| {
            // Somebody may have applied a newer commit while this one waited for the lock.
            let older = not_older(workspace, &desired, recorded, options)?;
            ownership::signed(&ownership::examine(workspace, &desired, recorded, clock::now())?)?;
            // Without a plan that somebody approved, nobody asks who wrote it.
            let authors = match options.saved {
                Some(_) => approval::authors(workspace, &desired, recorded)?,
                None => Authors::default(),
            };
            Ok(Wanted::Everything { authors, older })
        })
        .await
    })
    .await;
    // Whose secrets may be named is for what is applied to say.
    let applied = matches!(&outcome, Ok(Some(_)));
    let secrets = if applied { &desired.repository.config.secrets } else { &config.secrets };
    tell(state, secrets, options, outcome).await
}

/// Opens the state database to write it. That its schema was an older one is said, with where the copy of before is; and
/// that something waits to be taken back.
async fn open(
    desired: &Desired,
    options: &ApplyOptions,
    progress: &dyn Progress,
) -> Result<Arc<dyn State>, EngineError> {
    let location = desired.location(options.state.as_deref())?;
    let state = store::open_until(&location, &options.interrupt).await?;
    for file in recovery::waiting(&folders(&location, desired)) {
        let file = file.display();
        let message =
            format!("{file} has what an apply could not record: `keywheel state recover {file}` takes it back");
        progress.event(Event::Notice { message });
    }
    if let Some(Migrated { from, to, backup }) = state.migrated() {
        let backup = backup.display();
        let message =
            format!("the state database came from schema {from} to {to}; as it was before, it is in {backup}");
        progress.event(Event::Notice { message });
    }
    Ok(state)
}

/// The farthest that the machine's clock may be from the database's.
const MAX_CLOCK_SKEW: chrono::Duration = chrono::Duration::seconds(60);

pub(super) async fn clocks_agree(state: &dyn State) -> Result<(), EngineError> {
    let skew = clock::now() - state.now().await?;
    if skew.abs() <= MAX_CLOCK_SKEW {
        return Ok(());
    }
    Err(EngineError::new(
        "apply/clock",
        format!(
            "this machine's clock is {} {} that of the state database",
            plan::burst::words(skew.abs()),
            if skew > chrono::Duration::zero() { "ahead of" } else { "behind" }
        ),
    )
    .kind(ErrorKind::Refused)
    .help("set the clock: what is due cannot be told from a wrong one"))
}

/// Does something under a lease, and gives it back whatever happens.
pub(super) async fn locked<T>(
    state: Arc<dyn State>,
    wanted: leases::Wanted,
    operation: &str,
    options: &ApplyOptions,
    progress: &dyn Progress,
    work: impl AsyncFnOnce(Arc<dyn State>, Held) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    #[cfg(debug_assertions)]
    let state = super::fault_points::state(state);
    let patience = std::time::Duration::from_secs(u64::from(options.lock_timeout));
    let held = leases::acquire(&*state, wanted, operation, patience, &options.interrupt, progress).await?;
    let lease = held.lease.clone();
    let outcome = work(state.clone(), held).await;
    // Whatever became of the work is what there is to say; a lock that stays frees itself.
    if let Err(error) = state.release(&lease).await {
        progress
            .event(Event::Notice { message: format!("the lock could not be given back, and frees itself: {error}") });
    }
    outcome
}

/// One change of one key that a person asks for, of what has been applied.
///
/// # Errors
/// See [`EngineError`].
pub async fn manual(
    workspace: &Workspace,
    address: &Address,
    request: &Request,
    options: &ApplyOptions,
    approve: &Approve<'_>,
    progress: &dyn Progress,
) -> Result<Option<Report>, EngineError> {
    let (desired, _, recorded) = load_with_record(workspace, options.state.as_deref()).await?.with_state()?;
    let config = plan::applied_config(&recorded).unwrap_or_else(|| desired.repository.config.clone());
    safe_state(&desired, options)?;
    let state = open(&desired, options, progress).await?;
    clocks_agree(state.as_ref()).await?;
    if matches!(request, Request::Forget { .. }) {
        super::manual::has_left(workspace, &desired, &recorded, address)?;
    }
    // It works on what has been applied: the record stands in for the documents.
    let mut desired = planning::as_applied(desired, &recorded, address);
    if matches!(request, Request::Forget { .. }) {
        // Its key manager is not asked: it may be gone with the key.
        desired.repository.keys.clear();
    }
    let tenant = leases::Wanted::tenant(&address.tenant_id);
    let outcome = locked(state.clone(), tenant, request.word(), options, progress, async |state, held| {
        run(&desired, options, &config, state, held, approve, progress, async |state, recorded| {
            let change = super::manual::change(&desired, state, recorded, address, request).await?;
            Ok(Wanted::One(Box::new(change)))
        })
        .await
    })
    .await;
    tell(state, &config.secrets, options, outcome).await
}

/// Sends what is in the outbox, once the work is done and the lock is free, and whatever became of the work.
async fn tell(
    state: Arc<dyn State>,
    secrets: &outbox::Secrets,
    options: &ApplyOptions,
    mut outcome: Result<Option<Report>, EngineError>,
) -> Result<Option<Report>, EngineError> {
    #[cfg(debug_assertions)]
    let state = super::fault_points::state(state);
    let locked = outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Locked);
    // Somebody who interrupts does not want to wait for receivers either.
    if !locked && !options.interrupt.load(std::sync::atomic::Ordering::Relaxed) {
        let report = outcome.as_mut().ok().and_then(Option::as_mut);
        outbox::after_apply(state.as_ref(), secrets, report).await;
    }
    outcome
}

#[expect(clippy::too_many_arguments, reason = "they are the parts of one run, joined here and nowhere else")]
pub(super) async fn run(
    desired: &Desired,
    options: &ApplyOptions,
    config: &Config,
    state: Arc<dyn State>,
    Held { lease, asked, mut left_out }: Held,
    approve: &Approve<'_>,
    progress: &dyn Progress,
    wanted: impl AsyncFnOnce(&dyn State, &Recorded) -> Result<Wanted, EngineError>,
) -> Result<Option<Report>, EngineError> {
    let (started_at, started) = (clock::now(), Instant::now());
    let origin = desired.origin.clone().unwrap_or_default();
    let managers = Managers::new(config.providers.clone(), desired.root.clone(), options.interrupt.clone());
    let lineage = state.identity().await?.lineage;
    let correlation_id = clock::new_id().to_string();
    let location = desired.location(options.state.as_deref())?;
    let kept = Arc::new(Mutex::new(Keeper::new(lineage, &correlation_id, folders(&location, desired))));
    let (journal, writer) = Journal::start(state.clone(), lease, asked, kept.clone());
    let recorded = state.recorded().await?;
    let context = Context {
        journal: journal.clone(),
        lineage,
        actor: planning::who(),
        correlation_id,
        interrupt: options.interrupt.clone(),
        receivers: Arc::new(Receivers::new(&desired.repository, &recorded)),
        consistency_delay: crate::document::parse_duration(&config.providers.aws_kms.consistency_delay)
            .unwrap_or_default(),
    };
    let mut run = Run::new(Scope { context: &context, managers: &managers, progress, origin: origin.clone() });
    let outcome = async {
        resume(&mut run, desired, state.as_ref(), &recorded).await;
        let recorded = state.recorded().await?;
        if journal.lease().scopes.contains(&LeaseScope::Repository) {
            for tenant_id in leases::tenants(&recorded).filter(|tenant_id| !context.covers(tenant_id)) {
                left_out.entry(tenant_id.clone()).or_insert_with(|| "it was applied meanwhile".to_owned());
            }
        }
        let observers = managers.observers();
        let known = planning::KnownBefore { left_out, unapproved: options.saved.is_none(), ..Default::default() };
        let (mut plan, observed) =
            planning::fresh(desired, &recorded, Some(&*state), &observers, progress, clock::now(), known).await?;
        let mut missing = Vec::new();
        let authors = match wanted(state.as_ref(), &recorded).await? {
            Wanted::One(change) => {
                planning::only(&mut plan, *change);
                in_order(&plan, desired)?;
                Authors::default()
            }
            Wanted::Everything { authors, older } => {
                run.overrides.extend(older);
                // Whatever comes of the plan: a key that it leaves alone is no less overdue.
                let mut told = overdue(&context, desired, &recorded, &plan, clock::now());
                told.extend(unanswered(&context, &managers, desired, &observed));
                told.extend(unapproved(&context, desired, &recorded, &plan));
                told.extend(impossible(&context, desired, &refused_changes(&plan)));
                journal.write(told).await?;
                if let Some(saved) = &options.saved {
                    let resumed = state.applied_plan(&saved.plan.digest).await?;
                    (plan, missing) = common_part(saved, plan, resumed.as_ref())?;
                }
                authors
            }
        };
        let digest = options.saved.as_ref().map_or(&plan.digest, |saved| &saved.plan.digest).clone();
        let given = options.saved.as_ref().map_or(&options.approvals, |saved| &saved.approvals);
        let (unapproved, approvals) =
            approval::judge(desired, &recorded, &plan, &digest, given, authors, clock::now())?;
        plan.refusals.extend(unapproved);
        run.approvals = approvals;
        let lifted = overridden(&plan, options);
        if plan.refusals.is_empty() || lifted.is_some() {
            run.overrides.extend(lifted);
            let mut needed = leases::of_plan(&journal.lease(), &plan);
            // What was finished before the plan has dates to bring up to date too.
            let outdated = records::outdated(desired, &recorded).into_iter();
            needed.extend(outdated.map(|(tenant_id, _)| LeaseScope::Tenant(tenant_id)));
            journal.narrow(&*state, &needed).await?;
            // A plan without changes is shown too: what waits, and what drifted.
            if !approve(&plan)? && !plan.is_empty() {
                return Ok(None);
            }
            let applied = applied_plan(&context, digest, origin, started_at, &run.overrides);
            execute(&mut run, desired, &recorded, &observed, &plan, state.as_ref(), applied).await?;
        } else {
            // Shown in full, then refused.
            let _ = approve(&plan);
            return Err(refused(&plan, options));
        }
        Ok(Some((plan, missing)))
    }
    .await;
    let report = outcome.map(|done| done.map(|(plan, missing)| run.report(&plan, missing, started_at, started)));
    drop(context);
    writer.stop(journal).await;
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    recovery::say(report, &kept)
}

/// Where what could not be recorded is kept: a full disk of the database need not be that of the repository.
fn folders(location: &Location, desired: &Desired) -> [PathBuf; 3] {
    [location.folder().to_owned(), desired.root.join(".keywheel"), std::env::temp_dir()]
}

/// A key that is not as recorded is not touched by hand either: the version that would be made could not be promoted. A
/// primary that cannot be used is what a person may well want to rotate away from.
fn in_order(plan: &Plan, desired: &Desired) -> Result<(), EngineError> {
    if !plan.changes.iter().any(|change| matches!(change.action, Action::Rotate | Action::Rollback)) {
        return Ok(());
    }
    let refused = |message: String, help: String| {
        Err(EngineError::new("manual/drift", message).kind(ErrorKind::Refused).help(help))
    };
    if let Some(moved) = plan.drift.iter().find(|it| it.is_blocking() && it.reason.code != "primary_unusable") {
        let name = |reference: &Option<String>| reference.clone().unwrap_or_else(|| "nothing".to_owned());
        let (recorded, observed) = (name(&moved.recorded), name(&moved.observed));
        let (object, why) = (&moved.object, &moved.reason.message);
        let message = format!("{object}: {why} (it leads to {observed}, and the record says {recorded})");
        return refused(message, way_back(moved, desired));
    }
    match plan.unanswered().next() {
        None => Ok(()),
        Some(unknown) => refused(
            format!("{}: {}", unknown.object, unknown.reason.message),
            "ask again once its key manager answers".to_owned(),
        ),
    }
}

/// How a person brings a key's stable name back to where the record says that it leads.
fn way_back(moved: &Drift, desired: &Desired) -> String {
    let key = moved.object.address().and_then(|address| desired.repository.keys.get(&address)).map(|key| &key.value);
    let Some((key, recorded)) = key.zip(moved.recorded.as_ref()) else {
        let otherwise = || "`keywheel drift` shows what differs; bring them to agree, and ask again".to_owned();
        return moved.next_step().unwrap_or_else(otherwise);
    };
    let lead = match (key.kms_provider, &key.kms_alias) {
        (KmsProvider::AwsKms, Some(alias)) => {
            let command = if moved.observed.is_some() { "update-alias" } else { "create-alias" };
            let region = key.kms_region.as_ref().map(|region| format!(" --region {region}")).unwrap_or_default();
            format!(
                "find out who moved it, and lead it back: `aws kms {command} --alias-name {alias} --target-key-id \
                 {recorded}{region}`; then ask again"
            )
        }
        (KmsProvider::Local, _) => format!(
            "the keystore is not the one that the state database belongs to, or an older copy of it: put back the one whose \
             newest version is {recorded}, and ask again"
        ),
        _ => format!("find out who moved it, and lead it back to {recorded} at its key manager; then ask again"),
    };
    let object = &moved.object;
    format!("{lead}. After an older backup of the state database: `keywheel state reclaim {object} --reason WHY`")
}

/// What an override lifts of a plan: every refusal of the plan that it names, or nothing.
fn overridden(plan: &Plan, options: &ApplyOptions) -> Option<Override> {
    let (_, reason) = options.override_limits.as_ref().filter(|(digest, _)| *digest == plan.digest)?;
    let refused: Vec<String> = plan.refusals.iter().map(|refusal| refusal.message.clone()).collect();
    let is_lifted = !refused.is_empty() && plan.refusals.iter().all(Refusal::is_liftable);
    is_lifted.then(|| Override { refused, reason: reason.clone() })
}

fn refused(plan: &Plan, options: &ApplyOptions) -> EngineError {
    let what = plan.refusals.iter().map(|refusal| refusal.message.as_str()).collect::<Vec<_>>().join("; ");
    let help = plan.refusals.first().map(|refusal| refusal.help.replace("DIGEST", &plan.digest)).unwrap_or_default();
    let unapproved = plan.refusals.iter().any(|refusal| refusal.code == approval::MISSING);
    let code = if unapproved { "apply/approvals" } else { "apply/limits" };
    let other = options.override_limits.as_ref().filter(|(digest, _)| *digest != plan.digest).map(|(digest, _)| {
        format!("; --override-limits names another plan, {digest}, and this one is {}", plan.digest)
    });
    EngineError::new(code, format!("nothing was applied: {what}{}", other.unwrap_or_default()))
        .kind(ErrorKind::Refused)
        .help(help)
}

/// What a saved plan allows of the fresh one.
fn common_part(
    saved: &Saved,
    fresh: Plan,
    bound: Option<&AppliedPlan>,
) -> Result<(Plan, Vec<NotStarted>), EngineError> {
    let stale = |code, message: String| {
        EngineError::new(code, message).kind(ErrorKind::Stale).help("make a new plan, and have it reviewed")
    };
    if bound.is_some_and(|run| run.finished_at.is_some()) {
        return Err(stale("plan/spent", "this plan was applied already: a plan is applied once".to_owned()));
    }
    match plan::intersect(saved, fresh, bound.is_some()) {
        Ok((plan, None)) => Ok((plan, Vec::new())),
        Ok((plan, Some(Stale::Changes(changes)))) => {
            let missing =
                changes.into_iter().map(|(object, action, reason)| NotStarted { object, action, reason }).collect();
            Ok((plan, missing))
        }
        Ok((_, Some(Stale::Foreign { reason }))) | Err(Stale::Foreign { reason }) => {
            Err(stale("plan/stale", reason.message))
        }
        Err(Stale::Changes(_)) => Err(stale("plan/stale", "this plan is stale".to_owned())),
    }
}

fn applied_plan(
    context: &Context,
    digest: String,
    origin: Origin,
    started_at: Timestamp,
    overrides: &[Override],
) -> AppliedPlan {
    let reasons: Vec<&str> = overrides.iter().map(|overridden| overridden.reason.as_str()).collect();
    AppliedPlan {
        digest,
        origin,
        correlation_id: context.correlation_id.clone(),
        started_at,
        finished_at: None,
        override_reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
    }
}

pub(super) fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// What the plan has errors about, in tenants that were not left out as a whole.
fn refused_changes(plan: &Plan) -> Vec<Finding> {
    let left_out = |tenant: &Name| plan.left_out.contains_key(tenant);
    let tenant = |finding: &Finding| finding.object.as_ref().and_then(|object| object.tenant_id.clone());
    let errors = plan.diagnostics.iter().filter(|finding| finding.is_error());
    errors.filter(|finding| tenant(finding).is_some_and(|tenant| !left_out(&tenant))).cloned().collect()
}

/// Keys that wait for a person, but for those that a person has just led elsewhere.
fn blocked(plan: &Plan) -> Vec<Drift> {
    let led_elsewhere = |drift: &Drift| {
        plan.changes
            .iter()
            .any(|change| change.object == drift.object && matches!(change.action, Action::Rotate | Action::Rollback))
    };
    plan.drift.iter().filter(|drift| drift.is_blocking() && !led_elsewhere(drift)).cloned().collect()
}

impl Run<'_> {
    fn report(self, plan: &Plan, stale: Vec<NotStarted>, started_at: Timestamp, started: Instant) -> Report {
        Report {
            digest: plan.digest.clone(),
            correlation_id: self.scope.context.correlation_id.clone(),
            policies: self.policies(),
            done: self.done,
            failed: self.failed,
            not_started: self.not_started,
            stale,
            left_out: plan.left_out.clone(),
            errors: refused_changes(plan),
            blocked: blocked(plan),
            unanswered: plan.unanswered().cloned().collect(),
            warnings: self.scope.managers.warnings(),
            interrupted: self.scope.context.interrupt.load(std::sync::atomic::Ordering::Relaxed),
            started_at,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Locked { .. } | StoreError::Busy { .. } => ErrorKind::Locked,
            _ => ErrorKind::Error,
        };
        let (code, help) = match &error {
            StoreError::Missing { .. } => ("state/missing", "`keywheel apply` makes it"),
            StoreError::Folder { .. } => ("state/folder", "name a file in it: sqlite:FOLDER/state.db"),
            StoreError::Corrupt { .. } => {
                ("state/corrupt", "restore the file from a backup; do not start with an empty one")
            }
            StoreError::Unreachable { .. } => (
                "state/unreachable",
                "check the URL that `state` leads to, and that its server is there; then apply again",
            ),
            StoreError::Newer { .. } => ("state/newer", "use the keywheel that wrote it, or a newer one"),
            StoreError::ReadOnly { .. } => (
                "state/read-only",
                "check the owner and mode of the file and of its directory; in PostgreSQL, the rights of the role",
            ),
            StoreError::Full { .. } => ("state/full", "make room; nothing was lost, and apply goes on from there"),
            StoreError::Locked { .. } => (
                "state/locked",
                "wait for it, with --lock-timeout 5m say; a dead holder's lock frees itself within 90 seconds. `keywheel lock \
                     list` shows who has it, and `keywheel lock break ID` takes it from somebody who will not come back",
            ),
            StoreError::Busy { .. } => {
                ("state/busy", "another program holds the database: let it end, and apply again")
            }
            StoreError::LeaseLost { .. } => ("state/lease-lost", "another worker took over; apply again"),
            StoreError::NoBackup { .. } => {
                ("state/no-backup", "choose another name or folder, or make room; nothing was changed")
            }
            StoreError::Conflict { .. } => ("state/conflict", "apply again"),
            StoreError::Other { .. } => ("state/error", "apply again; `keywheel status` shows what is recorded"),
        };
        Self::new(code, error.to_string()).kind(kind).help(help)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::store::sqlite::planted;

    /// What a person is told.
    #[derive(Default)]
    struct Notices(Mutex<Vec<String>>);

    impl Progress for Notices {
        fn event(&self, event: Event) {
            if let Event::Notice { message } = event {
                self.0.lock().unwrap().push(message);
            }
        }
    }

    #[tokio::test]
    async fn an_apply_that_migrates_says_where_the_copy_of_before_is() {
        let folder = tempfile::tempdir().unwrap();
        let documents = super::super::fixture::documents("state: sqlite:s.db\n", "");
        let desired = Desired {
            root: folder.path().to_owned(),
            repository: documents,
            findings: Vec::new(),
            sources: plan::Sources::default(),
            origin: None,
            dirty: Vec::new(),
        };
        let notices = Notices::default();
        let options = ApplyOptions::default();
        open(&desired, &options, &notices).await.unwrap();
        assert!(notices.0.lock().unwrap().is_empty(), "a new database has nothing to keep");
        let newest = planted::migration("CREATE TABLE extra (x TEXT) STRICT");
        open(&desired, &options, &notices).await.unwrap();
        let before = newest - 1;
        let backup = folder.path().join(format!("s.db.schema-{before}"));
        assert!(backup.is_file());
        let said = format!(
            "the state database came from schema {before} to {newest}; as it was before, it is in {}",
            backup.display()
        );
        assert_eq!(*notices.0.lock().unwrap(), [said]);
    }
}
