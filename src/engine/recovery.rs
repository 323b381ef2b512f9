//! What is known when the state database is lost in the middle of an apply, and how it comes back into the record.
//!
//! A step at a key manager whose outcome cannot be journalled is not forgotten: a [`Keeper`] writes it into a file. Without
//! that file nothing is lost either, because the intent is durable and the next apply asks the key manager; with it, the
//! record gets what was seen, who did it and when. [`recover_state`] takes back what still fits, and is done once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::diagnostic::Finding;
use crate::model::{
    Address, AuditEntry, KeyRecord, ObjectRef, Outcome, Phase, Recorded, RotationRecord, StepRecord, Timestamp,
    Workflow,
};
use crate::rotation::{Event, Status, record};
use crate::store::{self, Holder, State, Write};

use super::load::load_with_record;
use super::state_copy::under_lease;
use super::{EngineError, ErrorKind, Report, Workspace, clock, leases, planning};

/// The only form of the file so far.
const FORMAT: &str = "keywheel-recovery/1";

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    /// SHA-256 of the rest as canonical JSON (RFC 8785), in hexadecimal.
    digest: String,
    lost: Lost,
}

/// What a run could not make durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lost {
    pub lineage: Uuid,
    /// The run.
    pub correlation_id: String,
    /// Who ran it.
    pub actor: String,
    pub at: Timestamp,
    /// The writes of each rotation, which belong into one transaction.
    pub rotations: Vec<Vec<Write>>,
}

/// A recovery: what the file has, and what became of each part.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RecoveryReport {
    /// The file; once it is taken, its name ends in `.taken`.
    pub file: PathBuf,
    /// When the database was lost.
    pub lost_at: Timestamp,
    /// The run that lost it.
    pub correlation_id: String,
    /// Who ran it.
    pub actor: String,
    /// Each rotation.
    pub rotations: Vec<LostRotation>,
}

/// A rotation whose last step was not journalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LostRotation {
    /// The key.
    #[schemars(with = "String")]
    pub key: Address,
    /// The rotation.
    pub rotation_id: Uuid,
    /// Which workflow.
    pub workflow: Workflow,
    /// How far it had come.
    pub reached: Phase,
    /// The version that it had made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the record knows by now.
    pub verdict: Verdict,
}

/// What the record knows of something that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The rotation is where it was: it is written.
    Fits,
    /// Somebody went on with it since, and found it by asking: nothing is to be done.
    Known,
    /// The record has no such rotation: it is older than the file.
    Unknown,
}

/// Asks a person (or a flag) whether a recovery may be written.
pub type ApproveRecovery<'a> = dyn Fn(&RecoveryReport) -> Result<bool, EngineError> + Send + Sync + 'a;

/// Keeps what a run cannot record in a file, as soon as that is known.
#[derive(Debug)]
pub(super) struct Keeper {
    lost: Lost,
    folders: Vec<PathBuf>,
    /// The file, once there is something to keep; or why there is none.
    file: io::Result<PathBuf>,
}

impl Keeper {
    /// That of a run which has lost nothing yet. What it loses goes into the first of these folders that takes it.
    pub(super) fn new(lineage: Uuid, correlation_id: &str, folders: impl Into<Vec<PathBuf>>) -> Self {
        let lost = Lost {
            lineage,
            correlation_id: correlation_id.to_owned(),
            actor: planning::who(),
            at: clock::now(),
            rotations: Vec::new(),
        };
        Self { lost, folders: folders.into(), file: Err(io::ErrorKind::NotFound.into()) }
    }

    /// Keeps those of these transactions that tell what a key manager has done, beside those before.
    pub(super) fn keep<'a>(&mut self, transactions: impl Iterator<Item = &'a [Write]>) {
        let known = self.lost.rotations.len();
        self.lost.rotations.extend(transactions.filter(|writes| is_worth_keeping(writes)).map(<[Write]>::to_vec));
        if self.lost.rotations.len() > known {
            self.lost.at = clock::now();
            self.file = write_into(&self.lost, &self.folders);
        }
    }
}

/// Does a transaction that failed tell what a key manager has done?
fn is_worth_keeping(writes: &[Write]) -> bool {
    writes.iter().any(|write| matches!(write, Write::Step(step) if step.outcome == Outcome::Succeeded))
}

/// Says at the end of a run what it could not record, and where that is.
pub(super) fn say(
    outcome: Result<Option<Report>, EngineError>,
    Keeper { lost, file, .. }: &Keeper,
) -> Result<Option<Report>, EngineError> {
    if lost.rotations.is_empty() {
        return outcome;
    }
    let rotations = match lost.rotations.len() {
        1 => "1 rotation".to_owned(),
        several => format!("{several} rotations"),
    };
    let (message, help) = match file {
        Ok(file) => {
            let file = file.display();
            (
                format!("what key managers had done in {rotations} could not be recorded, and is in {file}"),
                format!(
                    "once the database is back: `keywheel state recover {file}`; the next apply would find it, too, by asking"
                ),
            )
        }
        Err(error) => (
            format!("what key managers had done in {rotations} could not be recorded, nor written to a file: {error}"),
            "nothing is lost: once the database is back, the next apply asks the key managers".to_owned(),
        ),
    };
    match outcome {
        Ok(Some(mut report)) => {
            report.warnings.push(Finding::warning("state/recovery", message).help(help));
            Ok(Some(report))
        }
        Ok(None) => Ok(None),
        Err(error) => Err(EngineError { message: format!("{}; {message}", error.message), help: Some(help), ..error }),
    }
}

fn write_into(lost: &Lost, folders: &[PathBuf]) -> io::Result<PathBuf> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    let name = format!("recovery-{}.json", lost.correlation_id);
    for folder in folders {
        match write_file(lost, &folder.join(&name)) {
            Ok(()) => return Ok(folder.join(&name)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn write_file(lost: &Lost, path: &Path) -> io::Result<()> {
    let file = File { format: FORMAT.to_owned(), digest: digest_of(lost)?, lost: lost.clone() };
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    // For its owner alone, as the database is.
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut new, &file)?;
    new.write_all(b"\n")?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    // The name is durable once its folder is.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

fn digest_of(lost: &Lost) -> io::Result<String> {
    let canonical = serde_json_canonicalizer::to_vec(lost)?;
    Ok(digest(&SHA256, &canonical).as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The files in these folders that nobody has taken back yet.
pub(super) fn waiting(folders: &[PathBuf]) -> BTreeSet<PathBuf> {
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok());
    let entries = entries.flatten().flatten().map(|entry| entry.path());
    let is_one = |path: &PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("recovery-") && path.extension().is_some_and(|extension| extension == "json")
    };
    entries.filter(is_one).collect()
}

/// Takes back what a run could not record: what still fits, after somebody said yes. None means that they said no.
///
/// # Errors
/// The file is not one, was changed, or is of another database; or the record knows nothing of it.
pub async fn recover_state(
    workspace: &Workspace,
    state: Option<&str>,
    path: &Path,
    approve: &ApproveRecovery<'_>,
) -> Result<Option<RecoveryReport>, EngineError> {
    let lost = read(path)?;
    let (desired, ..) = load_with_record(workspace, state).await?.with_state()?;
    let state = store::open_or_create(&desired.location(state)?).await?;
    let lineage = state.identity().await?.lineage;
    if lineage != lost.lineage {
        let message =
            format!("{} is of the state database {}, and this one is {lineage}", path.display(), lost.lineage);
        return Err(EngineError::new("state/recovery-foreign", message)
            .kind(ErrorKind::Refused)
            .help("name the database that it is of, with --state"));
    }
    let holder = leases::holder("state recover");
    under_lease(state.clone(), &holder, async |lease| {
        let (mut report, writes) = judge(&*state, path, lost).await?;
        let has = |verdict| report.rotations.iter().any(|rotation| rotation.verdict == verdict);
        if has(Verdict::Unknown) && !has(Verdict::Fits) {
            let message =
                format!("the record has no rotation that {} is about: it is older than the file", path.display());
            return Err(EngineError::new("state/recovery-unknown", message)
                .kind(ErrorKind::Refused)
                .help("restore a newer backup; `keywheel state verify` names what the record does not know"));
        }
        if !writes.is_empty() {
            if !approve(&report)? {
                return Ok(None);
            }
            let writes: Vec<_> = writes.into_iter().chain([audit(&report, &holder)]).collect();
            state.commit(&lease, &writes).await?;
        }
        if !report.rotations.iter().any(|rotation| rotation.verdict == Verdict::Unknown) {
            report.file = taken(path)?;
        }
        Ok(Some(report))
    })
    .await
}

fn read(path: &Path) -> Result<Lost, EngineError> {
    let refused = |why: String| {
        EngineError::new("state/recovery-file", format!("{} is no recovery file: {why}", path.display()))
            .help("name a file that a failed apply has named, as it was written")
    };
    let bytes = fs::read(path).map_err(|error| refused(error.to_string()))?;
    let file: File = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
    if file.format != FORMAT {
        return Err(refused(format!("its format is {:?}", file.format)));
    }
    match digest_of(&file.lost) {
        Ok(digest) if digest == file.digest => Ok(file.lost),
        _ => Err(refused("it was changed after it was written".to_owned())),
    }
}

/// What the record knows of each rotation, and the writes of those that are where they were.
async fn judge(state: &dyn State, path: &Path, lost: Lost) -> Result<(RecoveryReport, Vec<Write>), EngineError> {
    let recorded = state.recorded().await?;
    let keys: BTreeMap<Uuid, &KeyRecord> = recorded.keys.values().map(|key| (key.id, key)).collect();
    let Lost { correlation_id, actor, at, .. } = lost;
    let (mut rotations, mut fitting) = (Vec::new(), Vec::new());
    for writes in lost.rotations {
        let Some(after) = writes.iter().find_map(|write| match write {
            Write::Rotation(rotation) => Some((**rotation).clone()),
            _ => None,
        }) else {
            continue;
        };
        if !writes.iter().all(|write| is_of(&after, write)) {
            let message =
                format!("{} has more than what belongs to the {} of {}", path.display(), after.workflow, after.address);
            return Err(EngineError::new("state/recovery-file", message).kind(ErrorKind::Refused).help(
                "no apply writes such a file: ask who made it; `keywheel apply` finds out by itself what was done",
            ));
        }
        let verdict = if goes_on(&recorded, &keys, &after, &writes, at) {
            Verdict::Fits
        } else if recorded.unfinished.iter().any(|rotation| rotation.id == after.id)
            || !state.journal(after.id).await?.is_empty()
        {
            Verdict::Known
        } else {
            Verdict::Unknown
        };
        rotations.push(LostRotation {
            key: after.address,
            rotation_id: after.id,
            workflow: after.workflow,
            reached: after.phase,
            version: after.to_ref,
            verdict,
        });
        if verdict == Verdict::Fits {
            fitting.extend(writes);
        }
    }
    Ok((RecoveryReport { file: path.to_owned(), lost_at: at, correlation_id, actor, rotations }, fitting))
}

/// Does a write belong to a rotation: to itself, its key, and that key's tenant? Whoever can write the file can give it
/// its digest, and whoever says yes to it reads of rotations alone.
fn is_of(rotation: &RotationRecord, write: &Write) -> bool {
    let tenant = &rotation.address.tenant_id;
    match write {
        Write::Rotation(other) => (other.id, other.key_id) == (rotation.id, rotation.key_id),
        Write::Step(step) => step.rotation_id == rotation.id,
        Write::Key(key) => key.id == rotation.key_id && key.key.tenant_id == *tenant,
        Write::ForgetKey { id, .. } => *id == rotation.key_id,
        Write::Version(version) => version.key_id == rotation.key_id,
        Write::Audit(entry) => entry.object.tenant_id.as_ref() == Some(tenant),
        Write::Outbox(delivery) => delivery.message.object.tenant_id.as_ref() == Some(tenant),
        Write::Policy(_)
        | Write::RemovePolicy { .. }
        | Write::Document(_)
        | Write::RemoveDocument(_)
        | Write::AppliedPlan(_) => false,
    }
}

/// Is the rotation where it was, so that what was lost goes on from there, and nobody has gone on with it or changed its key?
fn goes_on(
    recorded: &Recorded,
    keys: &BTreeMap<Uuid, &KeyRecord>,
    after: &RotationRecord,
    writes: &[Write],
    lost_at: Timestamp,
) -> bool {
    let Some(before) = recorded.unfinished.iter().find(|rotation| rotation.id == after.id) else { return false };
    let steps = writes.iter().filter_map(|write| match write {
        Write::Step(StepRecord { step, outcome, .. }) => Some(Event { step: *step, outcome: *outcome }),
        _ => None,
    });
    let mut steps = steps;
    let leads_to = steps.try_fold(Status::of(before), record);
    let key_is_as_it_was = writes.iter().all(|write| match write {
        Write::Key(key) => {
            keys.get(&key.id).is_some_and(|now| now.revision == key.revision || now.revision + 1 == key.revision)
        }
        _ => true,
    });
    before.updated_at <= lost_at && leads_to == Ok(Status::of(after)) && key_is_as_it_was
}

fn audit(report: &RecoveryReport, holder: &Holder) -> Write {
    let fits = report.rotations.iter().filter(|rotation| rotation.verdict == Verdict::Fits);
    let rotations: Vec<_> = fits.map(|rotation| rotation.rotation_id).collect();
    Write::Audit(Box::new(AuditEntry {
        at: clock::now(),
        actor: holder.who.clone(),
        commit: None,
        correlation_id: holder.correlation_id.clone(),
        action: "state.recovered".to_owned(),
        object: ObjectRef::config(),
        before: None,
        after: Some(json!({ "lost_by": report.correlation_id, "lost_at": report.lost_at, "rotations": rotations })),
    }))
}

/// Marks a file as taken back, so that no apply names it any more.
fn taken(path: &Path) -> Result<PathBuf, EngineError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".taken");
    let taken = PathBuf::from(name);
    fs::rename(path, &taken).map_err(|error| {
        let message = format!("it is recorded, and {} could not be renamed: {error}", path.display());
        EngineError::new("state/recovery-file", message).help("remove the file; taking it back again changes nothing")
    })?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::store::conformance::samples::{any_key, any_rotation, any_step, any_version};

    fn lost(rotations: Vec<Vec<Write>>) -> Lost {
        let at = clock::now();
        Lost { lineage: Uuid::nil(), correlation_id: "run-1".to_owned(), actor: "ada@laptop".to_owned(), at, rotations }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let mut runner = TestRunner::deterministic();
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let writes = vec![
                Write::Key(Box::new(any_key(1).new_tree(&mut runner).unwrap().current())),
                Write::Version(Box::new(any_version(1, 1).new_tree(&mut runner).unwrap().current())),
                Write::Rotation(Box::new(any_rotation(1, 1).new_tree(&mut runner).unwrap().current())),
                Write::Step(any_step(1).new_tree(&mut runner).unwrap().current()),
            ];
            let lost = lost(vec![writes]);
            // The first folder is none: the next one takes it.
            let nowhere = folder.path().join("file");
            fs::write(&nowhere, "").unwrap();
            let file = write_into(&lost, &[nowhere, folder.path().to_owned()]).unwrap();
            assert_eq!(read(&file).unwrap(), lost);
            assert_eq!(waiting(&[folder.path().to_owned()]), BTreeSet::from([file]));
        }
    }

    #[test]
    fn what_belongs_to_a_rotation_is_its_own_key_and_nothing_else() {
        let mut runner = TestRunner::deterministic();
        let rotation = any_rotation(1, 1).new_tree(&mut runner).unwrap().current();
        let of = |key: KeyRecord| Write::Key(Box::new(key));
        let mut own = any_key(1).new_tree(&mut runner).unwrap().current();
        own.id = rotation.key_id;
        own.key.tenant_id = rotation.address.tenant_id.clone();
        assert!(is_of(&rotation, &of(own.clone())));
        assert!(is_of(&rotation, &Write::ForgetKey { id: own.id, at: clock::now() }));
        assert!(!is_of(&rotation, &of(KeyRecord { id: Uuid::from_u128(99), ..own.clone() })), "another key");
        own.key.tenant_id = "somebody-else".parse().unwrap();
        assert!(!is_of(&rotation, &of(own)), "the same key, in another tenant");
        let foreign = Uuid::from_u128(99);
        assert!(!is_of(&rotation, &Write::ForgetKey { id: foreign, at: clock::now() }));
        assert!(!is_of(&rotation, &Write::RemovePolicy { id: foreign, at: clock::now() }));
        let tenant = ObjectRef::tenant(&"acme".parse().unwrap());
        assert!(!is_of(&rotation, &Write::RemoveDocument(tenant)));
    }

    #[test]
    fn a_file_that_was_changed_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = write_into(&lost(Vec::new()), &[folder.path().to_owned()]).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("ada@laptop", "eve@laptop")).unwrap();
        assert_eq!(read(&file).unwrap_err().code, "state/recovery-file");
    }
}
