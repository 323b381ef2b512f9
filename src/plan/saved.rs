//! The plan as a file: canonical JSON, its digest, and what `apply FILE` may take from it.
//!
//! Fields stand in the alphabet's order and maps are sorted, so that a plan has one form only; it is written and read
//! as a stream. A file is an approval, not instructions: [`intersect`] keeps of a fresh plan what the file has too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::diagnostic::Finding;
use crate::model::{Name, ObjectKind, ObjectRef, Timestamp};

use super::approvals::{Approval, LIFETIME, Need};
use super::{Action, Base, Change, Consequence, Drift, Plan, Precondition, Reason, Refusal, Sources, Waiting};

/// The version of the plan's JSON: a minor one adds fields, a major one may change them.
pub const FORMAT_VERSION: &str = "1.0";

/// The JSON document of a plan: what `plan --format json` prints and `plan --out` saves.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct PlanDocument {
    /// The signatures of those who approved it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    approvals: Vec<Approval>,
    /// The approvals without which it is not applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    approvals_needed: Vec<Need>,
    /// The instant that it was made for.
    as_of: Timestamp,
    /// The commit that the documents were compared with, where that was not the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Base>,
    /// The changes, in the order in which apply carries them out.
    changes: Vec<Change>,
    /// The commit that it was made from.
    commit: Option<String>,
    /// What follows from the changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    consequences: Vec<Consequence>,
    /// Findings of the documents, and what else is worth knowing.
    diagnostics: Vec<Finding>,
    /// SHA-256 over sources, lineage, changes and preconditions.
    digest: String,
    /// SHA-256 over this whole document with this field empty: what a reviewer read is what was made.
    document_digest: String,
    /// What was changed behind our back.
    drift: Vec<Drift>,
    /// After this instant it cannot be applied.
    expires_at: Timestamp,
    /// The version of this document's form.
    format_version: String,
    /// The keywheel that made it.
    keywheel_version: String,
    /// Tenants that were left out, with the reason.
    left_out: BTreeMap<Name, String>,
    /// The identity of the state database; null where there is none yet.
    lineage: Option<Uuid>,
    /// Why it cannot be applied, if so.
    not_applicable: Option<String>,
    /// Limits that it goes over.
    refusals: Vec<Refusal>,
    /// The trees that it was made from.
    sources: Sources,
    /// How many changes there are, by action, and how many wait or have drifted.
    summary: BTreeMap<String, usize>,
    /// The version of the tz database that its times were computed with.
    tz_version: String,
    /// What is due and waits.
    waiting: Vec<Waiting>,
}

impl From<Plan> for PlanDocument {
    fn from(plan: Plan) -> Self {
        let mut summary: BTreeMap<String, usize> =
            plan.summary().into_iter().map(|(action, count)| (action.as_str().to_owned(), count)).collect();
        summary.insert("waiting".to_owned(), plan.waiting.len());
        summary.insert("drift".to_owned(), plan.drift.len());
        let expires_at = plan.as_of.checked_add_signed(LIFETIME).unwrap_or(plan.as_of);
        let mut document = Self {
            document_digest: String::new(),
            approvals: Vec::new(),
            approvals_needed: plan.needs,
            as_of: plan.as_of,
            base: plan.base,
            changes: plan.changes,
            commit: plan.sources.commit.clone(),
            consequences: plan.consequences,
            diagnostics: plan.diagnostics,
            digest: plan.digest,
            drift: plan.drift,
            expires_at,
            format_version: FORMAT_VERSION.to_owned(),
            keywheel_version: env!("CARGO_PKG_VERSION").to_owned(),
            left_out: plan.left_out,
            lineage: plan.lineage,
            not_applicable: plan.not_applicable,
            refusals: plan.refusals,
            sources: plan.sources,
            summary,
            tz_version: plan.tz_version,
            waiting: plan.waiting,
        };
        document.document_digest = document.digest_of_all();
        document
    }
}

impl PlanDocument {
    /// The signatures of those who approved it.
    #[must_use]
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }

    /// Adds approvals; one that it has already is not added twice.
    #[must_use]
    pub fn approved(mut self, approvals: impl IntoIterator<Item = Approval>) -> Self {
        for approval in approvals {
            if !self.approvals.contains(&approval) {
                self.approvals.push(approval);
            }
        }
        self.document_digest.clear();
        self.document_digest = self.digest_of_all();
        self
    }

    /// It shows accidents and clumsy edits; nothing secret goes into it, so that it is no signature.
    fn digest_of_all(&self) -> String {
        let mut writer = Hashing(Context::new(&SHA256));
        // Plain data: it cannot fail, and what has no form matches nothing.
        let _ = serde_json::to_writer(&mut writer, self);
        finish(writer.0)
    }

    /// Writes it as canonical JSON, one line.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, mut writer: impl io::Write) -> io::Result<()> {
        serde_json::to_writer(&mut writer, self)?;
        writer.write_all(b"\n")
    }
}

/// Why a file is not a plan that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ParsePlanError {
    /// It cannot be read, or is not JSON of this form.
    #[error("this is not a saved plan: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another major version wrote it.
    #[error("this plan has format {found}, and this keywheel reads 1.x")]
    Format {
        /// The format that it has.
        found: String,
    },
    /// Its content does not have its digests.
    #[error("this plan's content does not have the digests that it claims: it was altered")]
    Altered,
}

/// A plan that was saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// The plan.
    pub plan: Plan,
    /// After this instant it cannot be applied.
    pub expires_at: Timestamp,
    /// The signatures of those who approved it, not checked yet.
    pub approvals: Vec<Approval>,
}

/// Its document as it was saved.
impl From<Saved> for PlanDocument {
    fn from(Saved { plan, expires_at, approvals }: Saved) -> Self {
        Self { expires_at, ..Self::from(plan) }.approved(approvals)
    }
}

/// Reads a saved plan, and checks its digests.
///
/// # Errors
/// See [`ParsePlanError`].
pub fn parse(reader: impl io::Read) -> Result<Saved, ParsePlanError> {
    let mut document: PlanDocument = serde_json::from_reader(io::BufReader::new(reader))?;
    if document.format_version.split('.').next() != Some("1") {
        return Err(ParsePlanError::Format { found: document.format_version });
    }
    let document_digest = std::mem::take(&mut document.document_digest);
    if digest(&document.sources, document.lineage, &document.changes) != document.digest
        || document.digest_of_all() != document_digest
    {
        return Err(ParsePlanError::Altered);
    }
    let plan = Plan {
        as_of: document.as_of,
        tz_version: document.tz_version,
        sources: document.sources,
        lineage: document.lineage,
        digest: document.digest,
        changes: document.changes,
        waiting: document.waiting,
        drift: document.drift,
        refusals: document.refusals,
        needs: document.approvals_needed,
        left_out: document.left_out,
        diagnostics: document.diagnostics,
        not_applicable: document.not_applicable,
        base: document.base,
        consequences: document.consequences,
    };
    Ok(Saved { plan, expires_at: document.expires_at, approvals: document.approvals })
}

/// What a change is, without why: two plans mean the same change when these are equal.
#[derive(Serialize, PartialEq)]
struct Essence<'a> {
    action: Action,
    after: &'a Option<Map<String, Value>>,
    before: &'a Option<Map<String, Value>>,
    object: &'a ObjectRef,
    precondition: &'a Precondition,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
}

impl<'a> From<&'a Change> for Essence<'a> {
    fn from(change: &'a Change) -> Self {
        let Change { object, action, version, before, after, precondition, reason: _, place: _ } = change;
        Self { action: *action, after, before, object, precondition, version: *version }
    }
}

/// The identity of a plan: SHA-256 over the trees, the lineage, and each change with its precondition. The commit and
/// the instant are not in it, so that it survives a merge and means the same a minute later.
#[must_use]
pub fn digest(sources: &Sources, lineage: Option<Uuid>, changes: &[Change]) -> String {
    let mut context = Context::new(&SHA256);
    add(&mut context, &(&sources.policies_tree, &sources.config_blob, lineage));
    for change in changes {
        add(&mut context, &Essence::from(change));
    }
    finish(context)
}

/// A digest as files have it.
pub(super) fn finish(context: Context) -> String {
    let digest = context.finish();
    let hex: String = digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("sha256:{hex}")
}

fn add(context: &mut Context, value: &impl Serialize) {
    // Plain data with sorted maps: it cannot fail, and one without a form would only ever match itself.
    context.update(&serde_json::to_vec(value).unwrap_or_default());
    context.update(b"\n");
}

/// Hashes what is written to it.
struct Hashing(Context);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What of a saved plan cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// The whole file is of other documents, another database or another time: nothing may be done.
    Foreign {
        /// What differs.
        reason: Reason,
    },
    /// These changes are not in the fresh plan any more.
    Changes(Vec<(ObjectRef, Action, Reason)>),
}

/// Keeps of `fresh` what `saved` has too, and names what `saved` has and `fresh` lacks. Work that has become due since
/// is left for the next plan. With `resumed`, what is missing was done by the earlier run of the same file.
///
/// # Errors
/// [`Stale::Foreign`]: nothing of the file may be done.
pub fn intersect(saved: &Saved, fresh: Plan, resumed: bool) -> Result<(Plan, Option<Stale>), Stale> {
    let (expires_at, saved) = (saved.expires_at, &saved.plan);
    let foreign = |code: &str, message: String| Err(Stale::Foreign { reason: Reason::new(code, message) });
    if let Some(why) = &saved.not_applicable {
        return foreign("not_applicable", format!("this plan was made {why}, and can only be read"));
    }
    if saved.sources.policies_tree != fresh.sources.policies_tree
        || saved.sources.config_blob != fresh.sources.config_blob
    {
        return foreign(
            "documents",
            format!(
                "this plan is of other documents: it was made from commit {}, and the files under policies/ or keywheel.yaml \
                 differ since",
                saved.sources.commit.as_deref().unwrap_or("(none)")
            ),
        );
    }
    // A plan that was made before there was a database holds for one in which nothing was applied yet.
    let is_first = saved.lineage.is_none() && (resumed || begins(&fresh));
    if saved.lineage != fresh.lineage && !is_first {
        return foreign("lineage", "this plan is of another state database".to_owned());
    }
    if saved.tz_version != fresh.tz_version {
        return foreign(
            "tz_version",
            format!(
                "this plan was made with tz database {}, and this keywheel has {}",
                saved.tz_version, fresh.tz_version
            ),
        );
    }
    if fresh.as_of > expires_at {
        return foreign("expired", format!("this plan expired at {}", super::due::instant(expires_at)));
    }
    let wanted: BTreeMap<_, Essence<'_>> =
        saved.changes.iter().map(|change| (change.identity(), Essence::from(change))).collect();
    let mut kept = fresh;
    kept.changes.retain(|change| wanted.get(&change.identity()).is_some_and(|saved| *saved == change.into()));
    let present: BTreeSet<_> = kept.changes.iter().map(Change::identity).collect();
    let missing: Vec<_> = saved
        .changes
        .iter()
        .filter(|change| !resumed && change.action != Action::Finish && !present.contains(&change.identity()))
        .map(|change| {
            let reason = Reason::new("moved", "it was done already, or its object changed since the plan was made");
            (change.object.clone(), change.action, reason)
        })
        .collect();
    Ok((kept, (!missing.is_empty()).then_some(Stale::Changes(missing))))
}

/// Is it the first plan of its database? `keywheel.yaml` itself is new then, whether or not there is such a file.
fn begins(plan: &Plan) -> bool {
    plan.changes.iter().any(|change| change.object.kind == ObjectKind::Config && change.action == Action::Create)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(lineage: Option<Uuid>, kinds: &[ObjectKind]) -> Plan {
        let changes: Vec<Change> = kinds
            .iter()
            .map(|kind| {
                let object = ObjectRef { kind: *kind, tenant_id: None, name: "x".parse().unwrap() };
                let reason = Reason::new("new", "it is new");
                let change = Change::new(object, Action::Create, reason, Precondition::default());
                Change { after: Some(Map::new()), ..change }
            })
            .collect();
        Plan {
            as_of: Timestamp::UNIX_EPOCH,
            tz_version: "2025b".to_owned(),
            sources: Sources::default(),
            lineage,
            digest: digest(&Sources::default(), lineage, &changes),
            changes,
            waiting: Vec::new(),
            drift: Vec::new(),
            refusals: Vec::new(),
            left_out: BTreeMap::new(),
            diagnostics: Vec::new(),
            not_applicable: None,
            base: None,
            consequences: Vec::new(),
            needs: Vec::new(),
        }
    }

    fn applies(saved: &Plan, fresh: Plan) -> Result<usize, Stale> {
        let expires_at = Timestamp::UNIX_EPOCH + LIFETIME;
        let saved = Saved { plan: saved.clone(), expires_at, approvals: Vec::new() };
        intersect(&saved, fresh, false).map(|(plan, _)| plan.changes.len())
    }

    #[test]
    fn a_plan_from_before_the_database_applies_to_the_new_one_and_to_no_other() {
        let (one, other) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let all = [ObjectKind::Config, ObjectKind::Freeze];
        assert_eq!(applies(&plan(None, &all), plan(one, &all)), Ok(2));
        // Something was applied to this one before.
        let foreign = applies(&plan(None, &all), plan(one, &[ObjectKind::Freeze]));
        assert!(matches!(foreign, Err(Stale::Foreign { reason }) if reason.code == "lineage"));
        let foreign = applies(&plan(one, &all), plan(other, &all));
        assert!(matches!(foreign, Err(Stale::Foreign { reason }) if reason.code == "lineage"));
    }
}
