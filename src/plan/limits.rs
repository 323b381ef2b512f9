//! Limits that fail closed: how much one apply may do, over all tenants and in each.

use std::collections::BTreeMap;

use crate::document::{Limits, Repository};
use crate::model::{Name, Recorded};

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

/// Every limit that the changes go over.
pub(super) fn refusals(changes: &[Change], recorded: &Recorded, retired: &Retired, limits: &Limits) -> Vec<Refusal> {
    let mut all = Counts {
        recorded: recorded.policies.len() + recorded.keys.len(),
        versions: retired.existing.values().sum(),
        ..Counts::default()
    };
    let mut tenants: BTreeMap<&Name, Counts> = BTreeMap::new();
    for address in recorded.policies.keys().chain(recorded.keys.keys()) {
        tenants.entry(&address.tenant_id).or_default().recorded += 1;
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
    let mut refusals = over(all, limits, "in all");
    if refusals.is_empty() {
        refusals.extend(tenants.iter().flat_map(|(name, counts)| over(*counts, limits, &format!("of tenant {name}"))));
    }
    refusals
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
            "there is no document under policies/, and the state database has {} policies and {} keys",
            recorded.policies.len(),
            recorded.keys.len()
        ),
        help: "check the directory, the branch and the checkout; to remove everything on purpose, leave a tenant.yaml in place"
            .to_owned(),
    })
}

fn over(counts: Counts, limits: &Limits, whose: &str) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let Counts { rotations, removals, recorded, destructions, versions } = counts;
    if rotations > limits.max_rotations as usize {
        refusals.push(Refusal {
            code: "limits/max-rotations".to_owned(),
            message: format!("{rotations} rotations {whose}, and max_rotations allows {}", limits.max_rotations),
            help: raise("max_rotations"),
        });
    }
    if removals > limits.max_removals as usize {
        refusals.push(Refusal {
            code: "limits/max-removals".to_owned(),
            message: format!("{removals} removals {whose}, and max_removals allows {}", limits.max_removals),
            help: raise("max_removals"),
        });
    }
    if destructions > limits.max_destructions as usize {
        refusals.push(Refusal {
            code: "limits/max-destructions".to_owned(),
            message: format!(
                "{destructions} versions {whose} would be disabled or destroyed, and max_destructions allows {}",
                limits.max_destructions
            ),
            help: raise("max_destructions"),
        });
    }
    if versions >= PERCENT_FROM && destructions * 100 > versions * usize::from(limits.max_percent) {
        refusals.push(Refusal {
            code: "limits/max-percent".to_owned(),
            message: format!(
                "{destructions} of {versions} versions {whose} would be disabled or destroyed, and max_percent allows {} %",
                limits.max_percent
            ),
            help: raise("max_percent"),
        });
    }
    // As whole numbers, so that 3 of 10 are exactly 30 percent.
    if recorded >= PERCENT_FROM && removals * 100 > recorded * usize::from(limits.max_percent) {
        refusals.push(Refusal {
            code: "limits/max-percent".to_owned(),
            message: format!(
                "{removals} of {recorded} policies and keys {whose} would be removed, and max_percent allows {} %",
                limits.max_percent
            ),
            help: raise("max_percent"),
        });
    }
    refusals
}

fn raise(limit: &str) -> String {
    format!(
        "if this is what you mean, name this plan once: --override-limits DIGEST --reason TEXT. limits.{limit} in keywheel.yaml \
         counts from the apply after the one that raises it"
    )
}
