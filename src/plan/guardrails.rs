//! Guardrails over the plan, and those that were applied last: a change is judged by the rules that it finds in force, not
//! by those alone that it brings along.

use std::collections::BTreeSet;

use crate::diagnostic::{Finding, Place};
use crate::document::{Broken, Located, Repository, broken_by};
use crate::guardrail::{Facts, PlanFacts, Rule, Subject, code};
use crate::model::{Address, Guardrail, ObjectKind, Recorded, Severity, Timestamp};

use super::{Action, Change, Refusal};

/// What the changes break: refusals, and what is worth a word.
pub(super) fn judge(
    desired: &Repository,
    recorded: &Recorded,
    changes: &[Change],
    now: Timestamp,
) -> (Vec<Refusal>, Vec<Finding>) {
    let (mut refusals, mut findings) = (Vec::new(), Vec::new());
    let wanted: Vec<&Guardrail> = desired.guardrails.values().map(|it| &it.value).collect();
    let documents = recorded.documents.values().filter(|it| it.object.kind == ObjectKind::Guardrail);
    let applied: Vec<Guardrail> = documents.filter_map(|it| serde_json::from_value(it.spec.clone()).ok()).collect();
    let replaced: Vec<&Guardrail> = applied.iter().filter(|applied| !wanted.contains(applied)).collect();
    if wanted.is_empty() && replaced.is_empty() {
        return (refusals, findings);
    }
    let (facts, plan) = (Facts::new(now), of_plan(changes));
    let is_replaced = replaced.iter().map(|guardrail| (*guardrail, true));
    for (guardrail, replaced) in wanted.iter().map(|guardrail| (*guardrail, false)).chain(is_replaced) {
        // One of the documents that is no rule is an error of theirs.
        let Ok(rule) = Rule::new(&guardrail.rule) else { continue };
        let broken = match rule.subject {
            Subject::Plan => over_plan(&rule, &facts, &plan).map(|how| (how, None)),
            Subject::Policy | Subject::Key if replaced => by_change(guardrail, &rule, &facts, desired, changes),
            Subject::Policy | Subject::Key => None,
        };
        let Some((how, document)) = broken else { continue };
        let message = format!("{}: {how}", guardrail.message);
        // A rule that this commit takes away stands nowhere any more, and what breaks it does.
        let stands = desired.guardrails.get(&guardrail.name).map(|it| place(it, "rule"));
        let place = stands.or(document);
        if guardrail.severity == Severity::Error {
            let help = if replaced && rule.subject == Subject::Plan {
                format!(
                    "this commit changes the guardrail {:?} too, which counts as it was applied last: make what is new in a later \
                     commit, and rotate by hand what is due, until the plan keeps it",
                    guardrail.name.as_str()
                )
            } else if replaced {
                format!(
                    "this commit changes the guardrail {:?} too, and is judged by it as it was applied last: apply that \
                     change first, by itself",
                    guardrail.name.as_str()
                )
            } else {
                guardrail.help.clone().unwrap_or_else(|| "make smaller changes, one after the other".to_owned())
            };
            refusals.push(Refusal { code: code(guardrail), message, help, place });
        } else {
            let mut finding = Finding::warning("guardrail/plan", message);
            finding.code = code(guardrail).into();
            finding.severity = guardrail.severity;
            finding.help.clone_from(&guardrail.help);
            finding.place = place;
            findings.push(finding);
        }
    }
    (refusals, findings)
}

fn of_plan(changes: &[Change]) -> PlanFacts {
    let owned = |change: &&Change| matches!(change.object.kind, ObjectKind::RotationPolicy | ObjectKind::EncryptionKey);
    let count = |is: fn(&Change) -> bool| changes.iter().filter(owned).filter(|change| is(change)).count();
    PlanFacts {
        changes: changes.len(),
        creations: count(|it| it.action == Action::Create),
        rotations: count(|it| it.action == Action::Rotate),
        removals: count(|it| matches!(it.action, Action::Remove | Action::Forget)),
        destructions: count(|it| it.action.is_destructive()),
        tenants: changes.iter().filter_map(|it| it.object.tenant_id.as_ref()).collect::<BTreeSet<_>>().len(),
    }
}

fn over_plan(rule: &Rule, facts: &Facts, plan: &PlanFacts) -> Option<String> {
    match rule.is_kept(&facts.plan(plan)) {
        Ok(true) => None,
        Ok(false) => {
            let PlanFacts { changes, creations, rotations, removals, destructions, tenants } = plan;
            let value = |field: &str| match field {
                "creations" => creations,
                "rotations" => rotations,
                "removals" => removals,
                "destructions" => destructions,
                "tenants" => tenants,
                _ => changes,
            };
            let said = rule.fields.iter().map(|(_, field)| format!("plan.{field} is {}", value(field)));
            Some(said.collect::<Vec<_>>().join(", "))
        }
        Err(why) => Some(format!("it cannot be judged: {}", why.message)),
    }
}

/// The first document that a change edits and that does not keep a rule: what of it, and where that stands.
fn by_change(
    guardrail: &Guardrail,
    rule: &Rule,
    facts: &Facts,
    desired: &Repository,
    changes: &[Change],
) -> Option<(String, Option<Place>)> {
    changes.iter().find_map(|change| {
        let address = change.object.address()?;
        let (key, policy) = match (rule.subject, change.object.kind) {
            (Subject::Policy, ObjectKind::RotationPolicy) => (None, Some(desired.policies.get(&address)?)),
            (Subject::Key, ObjectKind::EncryptionKey) => {
                let key = desired.keys.get(&address)?;
                let policy = key.value.rotation_policy.clone();
                let policy =
                    policy.and_then(|name| desired.policies.get(&Address::new(address.tenant_id.clone(), name)));
                (Some(key), policy)
            }
            _ => return None,
        };
        let (document, of_policy) = (key.map(|key| &key.value), policy.map(|policy| &policy.value));
        let (key_type, given) = match (document, of_policy) {
            (Some(key), policy) => (&key.key_type, facts.key(key, policy)),
            (None, Some(policy)) => (&policy.key_type, facts.policy(policy)),
            (None, None) => return None,
        };
        if !guardrail.selects(&address.tenant_id, key_type) {
            return None;
        }
        let kept = rule.is_kept(&given);
        if kept == Ok(true) {
            return None;
        }
        let Broken { values, field } = broken_by(rule, document, of_policy);
        let field = field.unwrap_or_default();
        let place = key.map(|key| place(key, field)).or_else(|| policy.map(|policy| place(policy, field)));
        Some(match kept {
            Err(why) => (format!("for {} it cannot be judged: {}", change.object, why.message), place),
            Ok(_) => (format!("of {} {values}", change.object), place),
        })
    })
}

/// Where a document has a field, or else where it begins.
fn place<T>(document: &Located<T>, field: &str) -> Place {
    document.fields.get(field).unwrap_or(&document.place).clone()
}
