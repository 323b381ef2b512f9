//! What was in force when, as the audit log has it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::{AuditEntry, Name, ObjectKind, RotationPolicy, Timestamp};

/// From an instant until another, which it does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Span {
    /// Is this instant in it?
    pub fn holds(self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }

    /// What both hold.
    pub fn and(self, other: Self) -> Option<Self> {
        let both = Self { from: self.from.max(other.from), until: self.until.min(other.until) };
        (both.from < both.until).then_some(both)
    }
}

/// What a policy said, and who said so.
#[derive(Debug)]
pub struct Version {
    pub span: Span,
    pub policy: RotationPolicy,
    pub commit: Option<String>,
    pub actor: String,
}

/// Every policy of a tenant, with what it said when.
#[derive(Debug, Default)]
pub struct Policies(BTreeMap<Name, Vec<Version>>);

impl Policies {
    /// Entries come in the order of their chain.
    pub fn of(entries: &[AuditEntry]) -> Self {
        let mut now: BTreeMap<Name, Map<String, Value>> = BTreeMap::new();
        let mut policies = Self::default();
        for entry in entries.iter().filter(|entry| entry.object.kind == ObjectKind::RotationPolicy) {
            let name = &entry.object.name;
            policies.end(name, entry.at);
            let former =
                entry.before.as_ref().and_then(|before| before.get("policy_name")?.as_str()?.parse::<Name>().ok());
            let former = former.filter(|former| former != name);
            if let Some(fields) = former.as_ref().and_then(|former| now.remove(former)) {
                policies.end(former.as_ref().unwrap_or(name), entry.at);
                now.insert(name.clone(), fields);
            }
            let Some(Value::Object(after)) = &entry.after else {
                now.remove(name);
                continue;
            };
            let fields = now.entry(name.clone()).or_default();
            for (field, value) in after {
                if value.is_null() {
                    fields.remove(field)
                } else {
                    fields.insert(field.clone(), value.clone())
                };
            }
            fields.insert("tenant_id".to_owned(), entry.object.tenant_id.as_ref().map(Name::as_str).into());
            fields.insert("policy_name".to_owned(), name.as_str().into());
            if let Ok(policy) = serde_json::from_value(Value::Object(fields.clone())) {
                policies.0.entry(name.clone()).or_default().push(Version {
                    span: Span { from: entry.at, until: Timestamp::MAX_UTC },
                    policy,
                    commit: entry.commit.clone(),
                    actor: entry.actor.clone(),
                });
            }
        }
        policies
    }

    fn end(&mut self, name: &Name, at: Timestamp) {
        if let Some(last) = self.0.get_mut(name).and_then(|versions| versions.last_mut()) {
            last.span.until = last.span.until.min(at);
        }
    }

    /// What a policy said, the oldest first.
    pub fn versions(&self, name: &Name) -> impl Iterator<Item = &Version> {
        self.0.get(name).into_iter().flatten()
    }

    /// What a policy said within a span.
    pub fn during(&self, name: &Name, span: Span) -> impl Iterator<Item = (Span, &RotationPolicy)> {
        self.versions(name).filter_map(move |version| Some((version.span.and(span)?, &version.policy)))
    }
}

/// Which policy each key had, and what it was called.
#[derive(Debug, Default)]
pub struct Links {
    /// By the key's name: when its policy changed, and which one it had before.
    changes: BTreeMap<Name, Vec<(Timestamp, Option<Name>)>>,
    /// By the key's name: when it was given it, and the one that it had before.
    former: BTreeMap<Name, Vec<(Timestamp, Name)>>,
}

/// What a key was called when. A name may be another key's before and after.
#[derive(Debug, PartialEq, Eq)]
pub struct Names(Vec<(Name, Span)>);

impl Names {
    /// Was the key called so at this instant?
    pub fn at(&self, name: &Name, at: Timestamp) -> bool {
        self.0.iter().any(|(called, span)| called == name && span.holds(at))
    }
}

impl Links {
    /// Entries come in the order of their chain.
    pub fn of(entries: &[AuditEntry]) -> Self {
        let mut links = Self::default();
        for entry in entries.iter().filter(|entry| entry.object.kind == ObjectKind::EncryptionKey) {
            let before = |field: &str| entry.before.as_ref().and_then(|before| before.get(field));
            let name = |value: &Value| value.as_str().and_then(|text| text.parse::<Name>().ok());
            let own = &entry.object.name;
            if let Some(former) = before("key_name").and_then(name).filter(|former| former != own) {
                links.former.entry(own.clone()).or_default().push((entry.at, former));
            }
            if let Some(policy) = before("rotation_policy") {
                links.changes.entry(own.clone()).or_default().push((entry.at, name(policy)));
            }
        }
        links
    }

    /// Every name that a key of this last name has had in its life.
    pub fn names(&self, last: &Name, life: Span) -> Names {
        let mut names = Vec::new();
        let (mut name, mut called) = (last.clone(), life);
        loop {
            let renamed = self.former.get(&name).into_iter().flatten().rev().find(|(at, _)| called.holds(*at));
            let Some((at, former)) = renamed else {
                names.push((name, called));
                return Names(names);
            };
            names.push((name, Span { from: *at, until: called.until }));
            (name, called.until) = (former.clone(), *at);
        }
    }

    /// The policies that a key has had under its names, the oldest first; `last` is the one that it had at the end.
    pub fn policies(&self, names: &Names, last: Option<&Name>) -> Vec<(Span, Name)> {
        let of_name = |(name, called): &(Name, Span)| {
            let called = *called;
            self.changes.get(name).into_iter().flatten().filter(move |(at, _)| called.holds(*at))
        };
        let mut changes: Vec<_> = names.0.iter().flat_map(of_name).collect();
        changes.sort();
        let mut had: Vec<(Span, Name)> = Vec::new();
        let (mut until, mut policy) = (Timestamp::MAX_UTC, last.cloned());
        for (at, before) in changes.into_iter().rev() {
            had.extend(policy.map(|policy| (Span { from: *at, until }, policy)));
            (until, policy) = (*at, before.clone());
        }
        had.extend(policy.map(|policy| (Span { from: Timestamp::MIN_UTC, until }, policy)));
        had.reverse();
        had
    }
}

#[cfg(test)]
mod tests;
