//! What is said of a saved plan beyond what it would do: until when it can be applied, and who has approved it.

use std::collections::BTreeSet;

use crate::model::Timestamp;
use crate::plan::{Saved, approvals::Need};

use super::super::text::count;
use super::super::time;

/// A saved plan's expiry and approvals, in words.
pub(super) struct Envelope {
    /// Has its time passed?
    pub expired: bool,
    /// Until when it can be applied, or since when no more, as a sentence.
    pub expiry: String,
    /// How many approvals it has, of how many; none where it has none and needs none.
    pub approved: Option<String>,
    /// Which key gave each, and when. Whose that is, only the owners' documents say.
    pub given: Vec<String>,
}

impl Envelope {
    /// None for a plan that can only be read.
    pub(super) fn of(saved: &Saved, now: Timestamp) -> Option<Self> {
        let Saved { plan, expires_at, approvals } = saved;
        if plan.not_applicable.is_some() {
            return None;
        }
        let mut keys = BTreeSet::new();
        let mut given = Vec::new();
        for approval in approvals {
            given.push(match approval.claimed_key(&plan.digest) {
                Ok(key) => {
                    let said = format!("approved with {key} on {}", time::instant(approval.approved_at));
                    keys.insert(key);
                    said
                }
                Err(why) => format!("an approval does not hold: {why}"),
            });
        }
        let expired = now > *expires_at;
        let at = time::instant_and_relative(*expires_at, now);
        Some(Self {
            expired,
            expiry: if expired {
                format!("It expired on {at}, and is not applied any more: make a new one.")
            } else {
                format!("It can be applied until {at}.")
            },
            approved: approved(keys.len(), &plan.needs),
            given,
        })
    }
}

/// `1 of 2 approvals by owners of tenant acme`.
fn approved(given: usize, needs: &[Need]) -> Option<String> {
    match needs {
        [] if given == 0 => None,
        [] => Some(format!("{}, and it needs none", count(given, "approval"))),
        [need] => Some(format!("{given} of {}", need.asked())),
        several => {
            let asked: Vec<String> = several.iter().map(Need::asked).collect();
            Some(format!("{}, and it needs {}", count(given, "approval"), asked.join(", ")))
        }
    }
}
