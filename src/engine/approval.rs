//! Has a plan the approvals that its changes need?
//!
//! Owners, and how many of them are asked, are those that were applied last. An approval counts once for each person,
//! while it is not older than a plan may get, and not where its signer wrote what is approved.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;

use crate::document::Repository;
use crate::model::{Address, ObjectRef, Recorded, Timestamp};
use crate::plan::approvals::{Approval, LIFETIME, Need, PURPOSE, needs, settings};
use crate::plan::{Action, Change, Plan, Refusal, instant};
use crate::store::Write;

use super::ownership::{Authors, Owners, Refused, Whose, some};
use super::run::Scope;
use super::{Desired, EngineError, Workspace};

/// The code of the refusal of a plan without enough approvals.
pub(super) const MISSING: &str = "approvals/missing";

/// The farthest that a signer's clock may be ahead.
const MAX_CLOCK_SKEW: Duration = Duration::minutes(5);

/// An approval that counts.
#[derive(Debug)]
pub(super) struct Counted {
    object: ObjectRef,
    principal: String,
    key: String,
    approval: Approval,
}

impl Counted {
    /// Its entry in the audit log of the tenant whose changes it approves.
    pub(super) fn audit(&self, scope: &Scope<'_>, digest: &str) -> Write {
        let Self { object, principal, key, approval } = self;
        let after = serde_json::json!({
            "digest": digest,
            "principal": principal,
            "key": key,
            "approved_at": approval.approved_at,
            "signature": approval.signature,
        });
        scope.audit("plan.approved".to_owned(), object, None, Some(after))
    }
}

/// Whose changes are to be approved by somebody else; nobody's where nothing needs approval.
pub(super) fn authors(workspace: &Workspace, desired: &Desired, recorded: &Recorded) -> Result<Authors, EngineError> {
    if settings(&desired.repository, recorded).required == 0 {
        return Ok(Authors::default());
    }
    Authors::since(workspace, desired, recorded)
}

/// What is missing, as refusals, and the approvals that count.
pub(super) fn judge(
    desired: &Desired,
    recorded: &Recorded,
    plan: &Plan,
    digest: &str,
    given: &[Approval],
    mut authors: Authors,
    now: Timestamp,
) -> Result<(Vec<Refusal>, Vec<Counted>), EngineError> {
    let needs = needs(&plan.changes, settings(&desired.repository, recorded));
    if needs.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let is_asked = |change: &&Change| change.action.is_destructive() || change.action == Action::Rotate;
    for change in plan.changes.iter().filter(is_asked) {
        let Some(key) = change.object.address().and_then(|address| recorded.keys.get(&address)) else { continue };
        let policy = key.key.rotation_policy.clone();
        let policy = policy.map(|policy| Address::new(key.key.tenant_id.clone(), policy));
        if let Some(policy) = policy.and_then(|address| recorded.policies.get(&address)) {
            authors.add(Whose::Tenant(key.key.tenant_id.to_string()), &policy.last_modified_by);
        }
    }
    let owners = Owners::in_force(desired, recorded)?;
    let judge = Judge { desired: &desired.repository, owners: &owners, authors: &authors, digest, now };
    let (mut refusals, mut counted) = (Vec::new(), Vec::new());
    for need in &needs {
        let (found, not_counted) = judge.count(need, given);
        if found.len() < need.required {
            refusals.push(judge.refusal(need, &found, &not_counted));
        }
        counted.extend(found.into_values());
    }
    Ok((refusals, counted))
}

struct Judge<'a> {
    desired: &'a Repository,
    owners: &'a Owners,
    authors: &'a Authors,
    digest: &'a str,
    now: Timestamp,
}

impl Judge<'_> {
    /// The approvals that count, by principal, and why the others do not.
    fn count(&self, need: &Need, given: &[Approval]) -> (BTreeMap<String, Counted>, Vec<String>) {
        let (mut found, mut not_counted) = (BTreeMap::new(), Vec::new());
        for approval in given {
            match self.approver(need, approval) {
                Ok((principal, key)) => {
                    let approval = approval.clone();
                    let object = need.tenant_id.as_ref().map_or_else(ObjectRef::config, ObjectRef::tenant);
                    found.insert(principal.to_lowercase(), Counted { object, principal, key, approval });
                }
                Err(why) => not_counted.push(why),
            }
        }
        (found, not_counted)
    }

    /// The owner who signed, and the key.
    fn approver(&self, need: &Need, approval: &Approval) -> Result<(String, String), String> {
        let at = approval.approved_at;
        let signed = self.owners.verify(&approval.signature, PURPOSE, approval.statement(self.digest).as_bytes());
        let signed = signed.map_err(|refused| match refused {
            Refused::Broken(why) => format!("that of {} does not hold: {why}", instant(at)),
            refused => not_an_owners(refused),
        })?;
        let fingerprint = signed.to_string();
        if at - self.now > MAX_CLOCK_SKEW {
            return Err(format!("that of {fingerprint} is of the future, {}", instant(at)));
        }
        if self.now - at > LIFETIME {
            return Err(format!(
                "that of {fingerprint} is of {}, more than {} days ago",
                instant(at),
                LIFETIME.num_days()
            ));
        }
        let whose = whose(need);
        let owner = self.owners.owner(&signed, &whose, &[at, self.now]).map_err(not_an_owners)?;
        match self.authors.commit_of(&whose, &owner.principal) {
            Some(commit) => Err(format!("{} wrote commit {commit}, which it is about", owner.principal)),
            None => Ok((owner.principal.clone(), fingerprint)),
        }
    }

    fn refusal(&self, need: &Need, found: &BTreeMap<String, Counted>, not_counted: &[String]) -> Refusal {
        let whose = whose(need);
        let there_are = match found.len() {
            0 => "there is none".to_owned(),
            count => {
                let names: Vec<_> = found.values().map(|counted| counted.principal.clone()).collect();
                format!("there {} {count}, of {}", if count == 1 { "is" } else { "are" }, names.join(", "))
            }
        };
        let not_counted = match not_counted {
            [] => String::new(),
            all => format!(" (not counted: {})", all.join("; ")),
        };
        let owners: BTreeSet<&str> =
            self.owners.of_files(&whose).iter().map(|(owner, _)| owner.principal.as_str()).collect();
        let is_free = |principal: &&&str| self.authors.commit_of(&whose, principal).is_none();
        let may: Vec<String> = owners.iter().filter(is_free).map(|principal| (*principal).to_owned()).collect();
        let wait_for = if may.is_empty() { "nobody".to_owned() } else { some(&may) };
        let mut help = format!(
            "{wait_for} may approve: keywheel plan --out FILE, keywheel approve FILE by each of them, keywheel apply FILE"
        );
        if may.len() < need.required {
            help = format!(
                "only {wait_for} may approve, and that is not enough: {whose} needs more owners, in a commit that is applied \
                 before; whoever wrote what is approved does not count"
            );
        }
        Refusal {
            code: MISSING.to_owned(),
            message: format!("{}, which needs {}, and {there_are}{not_counted}", need.what(), need.asked()),
            help,
            place: Some(self.desired.setting(need.setting())),
        }
    }
}

fn not_an_owners(refused: Refused) -> String {
    match refused {
        Refused::Other { principal, of } => format!("{principal} is an owner of {}", of.join(", ")),
        Refused::Standing { principal, standing } => format!("the key of {principal} {standing}"),
        Refused::Unknown(key) => format!("{key} is no owner's key"),
        Refused::Unsigned | Refused::Broken(_) => "it is not signed".to_owned(),
    }
}

fn whose(need: &Need) -> Whose {
    need.tenant_id.as_ref().map_or(Whose::Everybody, |tenant| Whose::Tenant(tenant.to_string()))
}
