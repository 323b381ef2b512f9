//! Approvals: which changes need them, and what an approver signs.
//!
//! What takes away that something decrypts, and more rotations than a repository is used to, are done only where several
//! owners have signed the digest of the plan that they are in. How many are needed counts as it was applied last: a
//! change does not lower its own bar.

use std::collections::BTreeMap;

use chrono::{Duration, SecondsFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::diagnostic::Finding;
use crate::document::{Approvals, Repository, able_to_sign};
use crate::model::{Name, ObjectKind, Recorded, Timestamp, count};
use crate::signature::{self, SignatureError};

use super::consequences::Outlook;
use super::{Action, Change, Reason, Waiting, applied_config};

/// What approvals are signed for: SSH signatures say it.
pub const PURPOSE: &str = "keywheel-plan";

/// How long an approval counts: as long as the plan that it is of may be applied.
pub const LIFETIME: Duration = Duration::days(7);

/// The code of the finding that says what will have to be approved.
pub const NEEDED: &str = "plan/approvals";

/// How approvals are given.
const HOW: &str = "save the plan, have it approved, and apply that: keywheel plan --out FILE, keywheel approve FILE, keywheel apply FILE";

/// The code of what waits until it is approved.
pub(crate) const WAITS: &str = "approval";

/// An owner's signature over a plan's digest. Whose it is, the key that made it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// When it was signed, as the signer says; it is part of what was signed.
    pub approved_at: Timestamp,
    /// The signature over the plan's digest and that instant, as `ssh-keygen -Y sign` or `gpg` writes it.
    #[schemars(length(max = 16384))]
    pub signature: String,
}

impl Approval {
    /// The fingerprint of the key that signed a plan's digest, as far as can be told without the owners' keys.
    ///
    /// # Errors
    /// The signature does not hold.
    pub fn claimed_key(&self, digest: &str) -> Result<String, SignatureError> {
        signature::claimed(&self.signature, PURPOSE, self.statement(digest).as_bytes())
    }

    /// The text that is signed.
    #[must_use]
    pub fn statement(&self, digest: &str) -> String {
        statement(digest, self.approved_at)
    }
}

/// The text that an approver signs.
#[must_use]
pub fn statement(digest: &str, approved_at: Timestamp) -> String {
    let approved_at = approved_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("keywheel approval of a plan, version 1\nplan: {digest}\napproved_at: {approved_at}\n")
}

/// Approvals that changes need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Need {
    /// The tenant whose owners approve; absent where the owners of the repository do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Name>,
    /// How many of them.
    pub required: usize,
    /// Versions that stop decrypting.
    destructions: usize,
    /// Rotations, where there are more than may go without approval.
    rotations: usize,
}

impl Need {
    /// What is to be approved: `2 versions of tenant acme would stop decrypting`.
    #[must_use]
    pub fn what(&self) -> String {
        let whose = self.tenant_id.as_ref().map_or_else(|| "in all".to_owned(), |tenant| format!("of tenant {tenant}"));
        let rotations =
            || format!("{} {whose} are more than `approvals.rotations_over` allows", count(self.rotations, "rotation"));
        let destructions = || format!("{} {whose} would stop decrypting", count(self.destructions, "version"));
        match (self.destructions, self.rotations) {
            (0, _) => rotations(),
            (_, 0) => destructions(),
            _ => format!("{}, and {}", destructions(), rotations()),
        }
    }

    /// `2 approvals by owners of tenant acme`.
    #[must_use]
    pub fn asked(&self) -> String {
        let approvals = count(self.required, "approval");
        match &self.tenant_id {
            Some(tenant) => format!("{approvals} by owners of tenant {tenant}"),
            None => format!("{approvals} by owners of the repository"),
        }
    }

    /// `2 approvals by owners of tenant acme are needed`.
    fn is_needed(&self) -> String {
        format!("{} {} needed", self.asked(), if self.required == 1 { "is" } else { "are" })
    }

    /// `1 version of tenant acme would stop decrypting: 2 approvals by owners of tenant acme are needed`.
    #[must_use]
    pub fn says(&self) -> String {
        format!("{}: {}", self.what(), self.is_needed())
    }

    /// The setting of `keywheel.yaml` that asks for it.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        if self.destructions > 0 { "approvals.required" } else { "approvals.rotations_over" }
    }

    /// Is a change one of those that need it?
    fn is_about(&self, change: &Change) -> bool {
        let is_whose = self.tenant_id.is_none() || self.tenant_id == change.object.tenant_id;
        is_whose && (self.destructions > 0 && destroys(change) || self.rotations > 0 && rotates(change))
    }
}

/// The last step of a destruction was approved when it was scheduled.
const fn destroys(change: &Change) -> bool {
    matches!(change.action, Action::Disable | Action::ScheduleDestruction)
}

fn rotates(change: &Change) -> bool {
    change.action == Action::Rotate
}

/// The settings in force: those that were applied last.
#[must_use]
pub fn settings(desired: &Repository, recorded: &Recorded) -> Approvals {
    applied_config(recorded).map_or(desired.config.approvals, |config| config.approvals)
}

/// The approvals that changes need.
#[must_use]
pub fn needs(changes: &[Change], settings: Approvals) -> Vec<Need> {
    let mut counts: BTreeMap<&Name, (usize, usize)> = BTreeMap::new();
    for change in changes {
        let Some(tenant_id) = &change.object.tenant_id else { continue };
        let (destructions, rotations) = counts.entry(tenant_id).or_default();
        *destructions += usize::from(destroys(change));
        *rotations += usize::from(rotates(change));
    }
    needed(counts.into_iter(), settings)
}

/// The same, of destructions and rotations that were counted.
fn needed<'a>(counts: impl Iterator<Item = (&'a Name, (usize, usize))>, settings: Approvals) -> Vec<Need> {
    if settings.required == 0 {
        return Vec::new();
    }
    let need = |tenant_id: Option<Name>, (destructions, rotations): (usize, usize)| Need {
        tenant_id,
        required: settings.required as usize,
        destructions,
        rotations,
    };
    let over = |rotations: usize| settings.rotations_over.is_some_and(|most| rotations > most as usize);
    let tenants: Vec<Need> = counts.map(|(tenant_id, counts)| need(Some(tenant_id.clone()), counts)).collect();
    let all = need(None, (0, tenants.iter().map(|tenant| tenant.rotations).sum()));
    let one_is_over = tenants.iter().any(|tenant| over(tenant.rotations));
    let mut needs: Vec<Need> = Vec::new();
    if over(all.rotations) && !one_is_over {
        needs.push(all);
    }
    for mut tenant in tenants {
        if !over(tenant.rotations) {
            tenant.rotations = 0;
        }
        if tenant.destructions > 0 || tenant.rotations > 0 {
            needs.push(tenant);
        }
    }
    needs
}

/// Says what will have to be approved.
#[must_use]
pub fn findings(needs: &[Need], desired: &Repository) -> Vec<Finding> {
    let say = |need: &Need| {
        let mut finding = Finding::info(NEEDED, need.says()).help(HOW).at(desired.setting(need.setting()), None);
        finding.tenant_id.clone_from(&need.tenant_id);
        finding
    };
    needs.iter().map(say).collect()
}

/// Says what a change in git will need approvals for once it is applied: whose keys become due at once, and how many at the
/// most, and whose old versions stop decrypting from then on.
pub(super) fn foreseen(base: &Repository, outlook: &Outlook, now: Timestamp) -> Vec<Finding> {
    let settings = base.config.approvals;
    let rotations = needed(outlook.due.iter().map(|(tenant, count)| (tenant, (0, *count))), settings);
    let rotations = rotations.into_iter().map(|need| (format!("if all become due at once, {}", need.what()), need));
    let ending = needed(outlook.ending.iter().map(|tenant| (tenant, (1, 0))), settings);
    let ending = ending.into_iter().map(|need| {
        let whose = need.tenant_id.as_ref().map_or_else(String::new, ToString::to_string);
        (format!("old versions of tenant {whose} will stop decrypting"), need)
    });
    let say = |(what, need): (String, Need)| {
        let of_all = &base.config.owners;
        let tenant = need.tenant_id.as_ref().and_then(|tenant| base.tenants.get(tenant));
        let owners = tenant.map(|tenant| &tenant.value.owners).filter(|own| !own.is_empty()).unwrap_or(of_all);
        let mut finding = match able_to_sign(owners, of_all, now) {
            able if able < need.required => {
                let can = if able == 1 { "1 of them can sign".to_owned() } else { format!("{able} of them can sign") };
                let message = format!("{what}: {}, and {can}", need.is_needed());
                Finding::warning("plan/approvals", message)
                    .help("name more `owners`, in a commit that is applied before")
            }
            _ => Finding::info("plan/approvals", format!("{what}: {} then", need.is_needed())).help(HOW),
        };
        finding.tenant_id.clone_from(&need.tenant_id);
        finding
    };
    rotations.chain(ending).map(say).collect()
}

/// Says aloud where a change lets go of what keeps one person from doing everything alone: fewer approvals, commits that nobody
/// signs, other owners.
pub(super) fn loosened(changes: &[Change]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for change in changes {
        let (Some(before), Some(after)) = (&change.before, &change.after) else { continue };
        let mut say = |message: String, help: &str| {
            let mut finding = Finding::warning("plan/fewer-eyes", message).help(help).of(change.object.clone());
            finding.tenant_id.clone_from(&change.object.tenant_id);
            findings.push(finding);
        };
        let by_git = "who may merge this decides that: protect the branch (CODEOWNERS, required reviews)";
        if change.object.kind == ObjectKind::Config {
            let asked = |side: &Map<String, Value>| -> Approvals {
                side.get("approvals").and_then(|it| serde_json::from_value(it.clone()).ok()).unwrap_or_default()
            };
            let (was, is) = (asked(before), asked(after));
            let most = |approvals: Approvals| approvals.rotations_over.unwrap_or(u32::MAX);
            if before.contains_key("approvals") && (is.required < was.required || most(is) > most(was)) {
                let message = match is.required {
                    0 => "once this is applied, nothing needs approvals any more".to_owned(),
                    fewer if fewer < was.required => {
                        let suffice =
                            if fewer == 1 { "1 approval suffices" } else { &format!("{fewer} approvals suffice") };
                        format!("once this is applied, {suffice} where {} were asked for", was.required)
                    }
                    _ => "once this is applied, more rotations go without approvals".to_owned(),
                };
                say(message, by_git);
            }
            if before.get("require_signed") == Some(&Value::Bool(true)) {
                say("once this is applied, commits that nobody signed are applied".to_owned(), by_git);
            }
        }
        if before.contains_key("owners") {
            let whose = change.object.tenant_id.as_ref();
            let whose = whose.map_or_else(|| "the repository".to_owned(), |tenant| format!("tenant {tenant}"));
            say(format!("the owners of {whose} change: they sign and approve from then on"), by_git);
        }
    }
    findings
}

/// Takes out what needs approvals, and lets it wait: what is left of the plan needs nobody's.
pub(super) fn withhold(changes: &mut Vec<Change>, needs: &[Need], waiting: &mut Vec<Waiting>) {
    changes.retain(|change| {
        let Some(need) = needs.iter().find(|need| need.is_about(change)) else { return true };
        let message =
            format!("it needs {}: keywheel plan --out FILE, keywheel approve FILE, keywheel apply FILE", need.asked());
        waiting.push(Waiting {
            object: change.object.clone(),
            action: change.action,
            version: change.version,
            reason: Reason::new(WAITS, message),
            starts_at: None,
        });
        false
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectRef;
    use crate::plan::Precondition;

    fn changes(tenant: &str, action: Action, count: u32) -> Vec<Change> {
        let address = format!("{tenant}/key").parse().unwrap();
        let reason = Reason::new("due", "it is due");
        let change = Change::new(ObjectRef::key(&address), action, reason, Precondition::default());
        let change = |number| Change { version: Some(number), ..change.clone() };
        (0..count).map(change).collect()
    }

    fn what(changes: &[Change], required: u32, rotations_over: Option<u32>) -> Vec<String> {
        needs(changes, Approvals { required, rotations_over })
            .iter()
            .map(|need| format!("{}; {}", need.what(), need.asked()))
            .collect()
    }

    #[test]
    fn each_tenant_whose_versions_stop_decrypting_needs_approvals_of_its_own() {
        let all = [
            changes("acme", Action::Disable, 1),
            changes("acme", Action::ScheduleDestruction, 1),
            changes("globex", Action::Disable, 1),
            changes("initech", Action::Destroy, 1),
            changes("initech", Action::Rotate, 100),
        ]
        .concat();
        let two = [
            "2 versions of tenant acme would stop decrypting; 2 approvals by owners of tenant acme",
            "1 version of tenant globex would stop decrypting; 2 approvals by owners of tenant globex",
        ];
        assert_eq!(what(&all, 2, None), two);
        assert_eq!(what(&all, 0, Some(1)), [""; 0]);
    }

    #[test]
    fn rotations_need_approvals_from_one_more_than_the_limit() {
        let both =
            |acme, globex| [changes("acme", Action::Rotate, acme), changes("globex", Action::Rotate, globex)].concat();
        assert_eq!(what(&both(2, 1), 1, Some(3)), [""; 0]);
        let all = "4 rotations in all are more than `approvals.rotations_over` allows; 1 approval by owners of the repository";
        assert_eq!(what(&both(3, 1), 1, Some(3)), [all]);
        let acme = "4 rotations of tenant acme are more than `approvals.rotations_over` allows; 1 approval by owners of tenant acme";
        assert_eq!(what(&both(4, 3), 1, Some(3)), [acme]);
    }

    #[test]
    fn what_is_withheld_waits_and_nothing_else_does() {
        let mut all = [
            changes("acme", Action::Disable, 2),
            changes("acme", Action::Rotate, 1),
            changes("globex", Action::Rotate, 1),
        ]
        .concat();
        let (needs, mut waiting) = (needs(&all, Approvals { required: 1, rotations_over: Some(5) }), Vec::new());
        withhold(&mut all, &needs, &mut waiting);
        assert!(all.iter().all(|change| change.action == Action::Rotate), "{all:#?}");
        assert_eq!(waiting.len(), 2);
        assert!(waiting.iter().all(|it| it.action == Action::Disable && it.reason.code == WAITS), "{waiting:#?}");
    }

    #[test]
    fn another_plan_or_another_second_is_another_statement() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let one = statement("sha256:00", at("2026-11-24T02:00:00Z"));
        assert_eq!(one, "keywheel approval of a plan, version 1\nplan: sha256:00\napproved_at: 2026-11-24T02:00:00Z\n");
        assert_ne!(one, statement("sha256:01", at("2026-11-24T02:00:00Z")));
        assert_ne!(one, statement("sha256:00", at("2026-11-24T02:00:01Z")));
    }
}
