//! Limits that fail closed: how much one apply may do, over all tenants and in each.

use std::collections::BTreeMap;

use crate::document::{Limits, Repository};
use crate::model::{Name, Recorded, count};

use super::{Action, Change, Refusal, Retired};

/// Below so many recorded objects a percentage says nothing: one key of two is half of the fleet.
const PERCENT_FROM: usize = 10;

/// What the changes of one tenant, or of all, come to.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    rotations: usize,
    removals: usize,
    recorded: usize,
    /// Versions that stop decrypting, for now or for good.
    destructions: usize,
    /// Versions that are not destroyed yet.
    versions: usize,
}

/// How many policies and keys each tenant has in the record: what a percentage of removals is of.
pub(super) fn existing(recorded: &Recorded) -> BTreeMap<Name, usize> {
    let mut existing = BTreeMap::new();
    for address in recorded.policies.keys().chain(recorded.keys.keys()) {
        // One look for each of a fleet's keys, and a copy of the name for each tenant only.
        match existing.get_mut(&address.tenant_id) {
            Some(count) => *count += 1,
            None => drop(existing.insert(address.tenant_id.clone(), 1)),
        }
    }
    existing
}

/// Every limit that the changes go over.
///
/// `existing` is what [`existing`] counts. `desired` says where their fields stand: those in force were applied last, and it is these that somebody would edit.
pub(super) fn refusals(
    changes: &[Change],
    desired: &Repository,
    existing: &BTreeMap<Name, usize>,
    retired: &Retired,
    limits: &Limits,
) -> Vec<Refusal> {
    let mut all =
        Counts { recorded: existing.values().sum(), versions: retired.existing.values().sum(), ..Counts::default() };
    let mut tenants: BTreeMap<&Name, Counts> = BTreeMap::new();
    for (tenant_id, recorded) in existing {
        tenants.entry(tenant_id).or_default().recorded = *recorded;
    }
    for (tenant_id, versions) in &retired.existing {
        tenants.entry(tenant_id).or_default().versions = *versions;
    }
    for change in changes {
        let mut unused = Counts::default();
        let tenant = match &change.object.tenant_id {
            Some(tenant_id) => tenants.entry(tenant_id).or_default(),
            None => &mut unused,
        };
        match change.action {
            Action::Rotate => {
                all.rotations += 1;
                tenant.rotations += 1;
            }
            Action::Remove | Action::Forget => {
                all.removals += 1;
                tenant.removals += 1;
            }
            // The last step of a destruction was counted when it was scheduled.
            Action::Disable | Action::ScheduleDestruction => {
                all.destructions += 1;
                tenant.destructions += 1;
            }
            _ => {}
        }
    }
    let mut over = over(all, limits, "in all");
    if over.is_empty() {
        over = tenants
            .iter()
            .flat_map(|(name, counts)| self::over(*counts, limits, &format!("of tenant {name}")))
            .collect();
    }
    over.into_iter().map(|(limit, message)| refusal(limit, message, desired)).collect()
}

fn refusal(limit: &str, message: String, desired: &Repository) -> Refusal {
    Refusal {
        code: format!("limits/{}", limit.replace('_', "-")),
        message,
        help: format!(
            "if this is what you mean, name this plan once: --override-limits DIGEST --reason TEXT. limits.{limit} in \
             keywheel.yaml counts from the apply after the one that raises it"
        ),
        place: Some(desired.setting(&format!("limits.{limit}"))),
    }
}

/// An empty folder against a record that is not empty: a wrong path or branch, not a wish.
pub(super) fn empty_source(desired: &Repository, recorded: &Recorded) -> Option<Refusal> {
    let Repository { tenants, policies, keys, guardrails, freezes, failed_tenants, .. } = desired;
    let is_empty = tenants.is_empty()
        && policies.is_empty()
        && keys.is_empty()
        && guardrails.is_empty()
        && freezes.is_empty()
        && failed_tenants.is_empty();
    (is_empty && !recorded.is_empty()).then(|| Refusal {
        code: super::EMPTY_SOURCE.to_owned(),
        message: format!(
            "there is no document under policies/, and the state database has {} and {}",
            count(recorded.policies.len(), "policy"),
            count(recorded.keys.len(), "key")
        ),
        help: "check the directory, the branch and the checkout; to remove everything on purpose, leave a tenant.yaml in place"
            .to_owned(),
        place: None,
    })
}

/// The limits that are gone over, and by how much.
fn over(counts: Counts, limits: &Limits, whose: &str) -> Vec<(&'static str, String)> {
    let Counts { rotations, removals, recorded, destructions, versions } = counts;
    let Limits { max_rotations, max_removals, max_destructions, max_percent } = *limits;
    let mut over = Vec::new();
    if rotations > max_rotations as usize {
        let message = format!("{} {whose}, and max_rotations allows {max_rotations}", count(rotations, "rotation"));
        over.push(("max_rotations", message));
    }
    if removals > max_removals as usize {
        let message = format!("{} {whose}, and max_removals allows {max_removals}", count(removals, "removal"));
        over.push(("max_removals", message));
    }
    if destructions > max_destructions as usize {
        let message = format!(
            "{} {whose} would be disabled or destroyed, and max_destructions allows {max_destructions}",
            count(destructions, "version")
        );
        over.push(("max_destructions", message));
    }
    if versions >= PERCENT_FROM && destructions * 100 > versions * usize::from(max_percent) {
        let message = format!(
            "{destructions} of {versions} versions {whose} would be disabled or destroyed, and max_percent allows \
             {max_percent} %"
        );
        over.push(("max_percent", message));
    }
    // As whole numbers, so that 3 of 10 are exactly 30 percent.
    if recorded >= PERCENT_FROM && removals * 100 > recorded * usize::from(max_percent) {
        let message = format!(
            "{removals} of {recorded} policies and keys {whose} would be removed, and max_percent allows {max_percent} %"
        );
        over.push(("max_percent", message));
    }
    over
}
