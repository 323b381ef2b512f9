//! The sense of a tenant's own document, and of a freeze.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::diagnostic::Finding;
use crate::document::schema::Step;
use crate::document::subject::Subject;
use crate::model::{Freeze, Owner, Tenant, Timestamp};
use crate::schedule;
use crate::signature::Key;

/// Checks a tenant.
pub(in crate::document) fn check(subject: &mut Subject<'_, '_>, tenant: &Tenant) {
    defaults(subject, &tenant.defaults);
    owners(subject, &tenant.owners);
}

/// Checks who may change documents.
pub(super) fn owners(subject: &mut Subject<'_, '_>, owners: &[Owner]) {
    let mut keys: Vec<(Key, &Owner)> = Vec::new();
    for (index, owner) in owners.iter().enumerate() {
        let mut about_key = |code, message: String, help: String| {
            let finding = Finding::error(code, message).help(help);
            subject.add(finding, &[Step::Field("owners"), Step::Index(index), Step::Field("signing_key")]);
        };
        match Key::parse(&owner.signing_key) {
            Err(error) => {
                let message = format!("the key of {} cannot be used", owner.principal);
                about_key("tenant/owner-key", message, error.to_string());
            }
            Ok(key) => {
                // One signature would count for two people.
                let same = |(other, of): &&(Key, &Owner)| *other == key && !is_same_person(of, owner);
                if let Some((_, other)) = keys.iter().find(same) {
                    let message = format!("the key of {} is that of {} too", owner.principal, other.principal);
                    let help = "a key is one person's: take out one of the two".to_owned();
                    about_key("tenant/owner-key-twice", message, help);
                }
                keys.push((key, owner));
            }
        }
        if let (Some(after), Some(before)) = (owner.valid_after, owner.valid_before)
            && before < after
        {
            let finding = Finding::error("tenant/owner-dates", "the owner's key ends before it begins")
                .help("make `valid_before` the later day");
            subject.add(finding, &[Step::Field("owners"), Step::Index(index), Step::Field("valid_before")]);
        }
    }
}

fn is_same_person(one: &Owner, other: &Owner) -> bool {
    one.principal.eq_ignore_ascii_case(&other.principal)
}

/// How many people can sign, by what is said of their keys: those that are not revoked, here or by the owners of the
/// repository, and whose last day is not over.
pub fn able_to_sign(owners: &[Owner], of_all: &[Owner], now: Timestamp) -> usize {
    let key = |owner: &Owner| Key::parse(&owner.signing_key).ok();
    let lost: Vec<Key> = owners.iter().chain(of_all).filter(|owner| owner.revoked).filter_map(key).collect();
    let today = now.date_naive();
    let able = owners.iter().filter(|owner| {
        owner.valid_before.is_none_or(|last| today <= last) && key(owner).is_some_and(|key| !lost.contains(&key))
    });
    able.map(|owner| owner.principal.to_lowercase()).collect::<BTreeSet<_>>().len()
}

/// Checks what any `defaults` can have wrong by itself.
pub(super) fn defaults(subject: &mut Subject<'_, '_>, defaults: &serde_json::Map<String, Value>) {
    let is_set = |field: &str| defaults.get(field).is_some_and(|value| !value.is_null());
    if is_set("rotation_interval_days") && is_set("rotation_schedule") {
        let finding = Finding::error(
            "policy/interval-and-schedule",
            "`rotation_interval_days` and `rotation_schedule` exclude each other",
        )
        .help("keep one of them");
        subject.add(finding, &[Step::Field("defaults"), Step::Field("rotation_schedule")]);
    }
}

/// Checks a freeze.
pub(in crate::document) fn freeze(subject: &mut Subject<'_, '_>, freeze: &Freeze) {
    for problem in schedule::check_freeze(freeze) {
        subject.error(problem.code, problem.field, problem.message, problem.help);
    }
}
