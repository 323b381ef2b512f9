//! EVIDENCE: how keys stood to what a framework asks of them, over a period that has passed.
//!
//! [`of_tenant`] goes through the past of one tenant: which policy was in force when ([`timeline`]), which rotations
//! there were, and where a key was without one for longer than its policy allowed. Only what was applied counts, as
//! the audit log and the history have it; nothing is taken from the documents of today.
//!
//! What it shows supports a claim of compliance. It is not one: no framework is met by rotation alone.

mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Duration, NaiveDate, NaiveTime};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::document::packs::{Pack, pack};
use crate::guardrail::{Facts, Mistake, Subject, code};
use crate::model::{
    AuditEntry, KeyRecord, KeyState, KmsProvider, Name, ObjectKind, Phase, PolicyStatus, Recorded, RotationCause,
    RotationPolicy, RotationTrigger, Timestamp, Waiver, Workflow, count,
};
use crate::schedule::{KeyHistory, Served, Timing};

use self::timeline::{Links, Names, Policies, Span, Version};

/// How late a rotation may be before it is a gap: applies run every so often, and a key waits for its turn.
pub const GRACE: Duration = Duration::days(1);

/// How the rate is reckoned, as every form of the report says it.
pub const DEFINITION: &str = "A key is within while a policy with the framework's tag is in force that makes it due by time, and the key is at most a \
     day behind what that policy asks. The rate is the share of that time in all time for which keys were under a policy with the \
     tag; both are given in days of one key.";

/// What a report cannot show.
pub const LIMITS: &str = "This report supports an assessment; it does not make one. It shows what keywheel recorded of the keys in its care: not keys that it \
     does not know, not what applications did with data, and not controls other than the rotation and retention of keys. What the \
     record says rests on the audit log, whose heads and verification stand in it.";

/// What is read of the past.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// The framework.
    pub framework: &'static Pack,
    /// What the state database says now.
    pub recorded: &'a Recorded,
    /// The keys that were forgotten, each with when.
    pub forgotten: &'a [(KeyRecord, Timestamp)],
    /// Entries of the tenant's audit chain about policies, about which policy a key has, about holds and approvals, in their order.
    pub entries: &'a [AuditEntry],
    /// The tenant's rotations and rollbacks, the oldest first.
    pub rotations: &'a [Turn],
    /// The first instant of the period.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// A rotation or a rollback, as the history has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Turn {
    /// Its identity.
    pub rotation_id: Uuid,
    /// The key's identity.
    pub key_id: Uuid,
    /// The key's name when it was rotated.
    pub key_name: Name,
    /// `rotate` or `rollback`.
    pub workflow: Workflow,
    /// How it ended: `settled`, `abandoned`, or how far it has come.
    pub result: Phase,
    /// Why.
    pub cause: RotationCause,
    /// Why, in words.
    pub reason: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// From the beginning to the end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// The primary before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_ref: Option<String>,
    /// The primary after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ref: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The apply.
    pub correlation_id: String,
    /// Who approved the plan.
    pub approvers: BTreeSet<String>,
    /// The error that it met last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The evidence of one tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TenantEvidence {
    /// Its keys that were under the framework's tag in the period.
    pub keys: Vec<KeyEvidence>,
    /// How many of its keys were not.
    pub untagged: usize,
    /// The policies that they were under.
    pub policies: Vec<PolicyEvidence>,
    /// The framework's rules, by code.
    pub rules: BTreeMap<String, RuleEvidence>,
}

/// The evidence of one key.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct KeyEvidence {
    /// Whose it is.
    pub tenant_id: Name,
    /// Its name.
    pub key_name: Name,
    /// Its identity, kept through renames.
    pub key_id: Uuid,
    /// The class of data that it protects.
    pub key_type: String,
    /// Where it is.
    pub kms_provider: KmsProvider,
    /// What applications call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_alias: Option<String>,
    /// When it came under keywheel's care.
    pub managed_since: Timestamp,
    /// When it left keywheel's care; nothing is said of it after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
    /// Its state now.
    pub state: KeyState,
    /// When it was under a policy with the framework's tag, and which.
    pub in_force: Vec<InForce>,
    /// Its rotations in the period.
    pub rotations: Vec<Turn>,
    /// Where it was behind, or nothing made it due.
    pub gaps: Vec<Gap>,
    /// How long it was under the tag, in days.
    pub days: f64,
    /// How long of that it was within.
    pub days_within: f64,
}

/// A policy in force for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InForce {
    /// From when on.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Which policy.
    pub policy_name: Name,
}

/// A span in which a key was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Gap {
    /// `late`, `suspended` or `unscheduled`.
    pub code: String,
    /// From when on.
    pub from: Timestamp,
    /// Until when; the end of the period where it went on.
    pub until: Timestamp,
    /// What it was.
    pub message: String,
    /// What was so meanwhile: it was parked, held, or failed.
    pub meanwhile: Vec<String>,
}

/// A policy, and what it said when.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PolicyEvidence {
    /// Whose it is.
    pub tenant_id: Name,
    /// Its name.
    pub policy_name: Name,
    /// What it said, the oldest first.
    pub versions: Vec<PolicyVersion>,
    /// The waivers that held in the period.
    pub waivers: Vec<WaiverEvidence>,
}

/// What a policy said from an instant on.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PolicyVersion {
    /// When it was applied.
    pub from: Timestamp,
    /// Which commit said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Who applied it.
    pub actor: String,
    /// When keys were due, in words.
    pub asks: String,
    /// Was it in force?
    pub status: PolicyStatus,
}

/// A waiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WaiverEvidence {
    /// The rule that may be broken.
    pub rule: String,
    /// When it was applied.
    pub from: Timestamp,
    /// Its last day.
    #[schemars(with = "String")]
    pub until: NaiveDate,
    /// Why.
    pub reason: String,
    /// Who agreed.
    pub approver: String,
    /// When it was taken out before its last day was over, itself or with its policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
}

/// A rule of the framework, and what keeps it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuleEvidence {
    /// Its code.
    pub code: String,
    /// What it asks, with its section.
    pub message: String,
    /// How many policies or keys keep it.
    pub kept: usize,
    /// Those that do not.
    pub broken_by: Vec<String>,
    /// Those that do not, and have a waiver.
    pub waived: Vec<String>,
}

/// The evidence of one tenant's past.
#[must_use]
pub fn of_tenant(tenant: &Name, past: &Past<'_>) -> TenantEvidence {
    let Past { framework, recorded, forgotten, entries, from, until, .. } = *past;
    let is_tagged = |policy: &RotationPolicy| {
        let packs = policy.compliance_tags.iter().filter_map(|tag| pack(tag));
        packs.into_iter().any(|pack| pack.tag == framework.tag)
    };
    let policies = Policies::of(entries);
    let links = Links::of(entries);
    let mut evidence = TenantEvidence::default();
    let mut used: BTreeSet<Name> = BTreeSet::new();
    let live = recorded.keys.values().map(|record| (record, None));
    let all = live.chain(forgotten.iter().map(|(record, removed_at)| (record, Some(*removed_at))));
    let mut lives: Vec<Life<'_>> = all
        .filter(|(record, _)| record.key.tenant_id == *tenant)
        .map(|(record, removed_at)| Life::of(record, removed_at, &links))
        .collect();
    lives.sort_by_key(|life| (&life.record.key.key_name, life.removed_at.is_none(), life.removed_at));
    for life in lives {
        let managed = Span { from: life.record.managed_since, until: life.removed_at.unwrap_or(Timestamp::MAX_UTC) };
        let Some(managed) = managed.and(Span { from, until }) else { continue };
        let mut spans: Vec<(Span, Name, &RotationPolicy)> = Vec::new();
        for (had, policy) in links.policies(&life.names, life.record.key.rotation_policy.as_ref()) {
            let Some(span) = had.and(managed) else { continue };
            let versions = policies.during(&policy, span);
            spans.extend(versions.filter(|(_, said)| is_tagged(said)).map(|(span, said)| (span, policy.clone(), said)));
        }
        if spans.is_empty() {
            evidence.untagged += 1;
            continue;
        }
        used.extend(spans.iter().map(|(_, policy, _)| policy.clone()));
        evidence.keys.push(key(&life, &spans, past));
    }
    for name in used {
        evidence.policies.push(policy(tenant, &name, &policies, past));
    }
    rules(tenant, past, &is_tagged, &mut evidence);
    evidence
}

/// A key from when it was first applied until it was forgotten.
struct Life<'a> {
    record: &'a KeyRecord,
    removed_at: Option<Timestamp>,
    names: Names,
}

impl<'a> Life<'a> {
    fn of(record: &'a KeyRecord, removed_at: Option<Timestamp>, links: &Links) -> Self {
        let life = Span { from: record.created_at, until: removed_at.unwrap_or(Timestamp::MAX_UTC) };
        Self { record, removed_at, names: links.names(&record.key.key_name, life) }
    }
}

fn key(life: &Life<'_>, spans: &[(Span, Name, &RotationPolicy)], past: &Past<'_>) -> KeyEvidence {
    let Life { record, removed_at, names } = life;
    let turns: Vec<&Turn> = past.rotations.iter().filter(|turn| turn.key_id == record.id).collect();
    let ages = ages(record, &turns, past.until);
    let mut gaps: Vec<Gap> = Vec::new();
    let (mut days, mut behind) = (Duration::zero(), Duration::zero());
    for (span, name, policy) in spans {
        days += span.until - span.from;
        for gap in behind_in(*span, name, policy, &ages) {
            behind += gap.until - gap.from;
            match gaps.last_mut() {
                Some(last) if last.code == gap.code && last.until == gap.from => last.until = gap.until,
                _ => gaps.push(gap),
            }
        }
    }
    for gap in &mut gaps {
        gap.meanwhile = meanwhile(gap, names, &turns, past);
    }
    let in_period = |turn: &&&Turn| turn.started_at >= past.from && turn.started_at < past.until;
    let mut in_force: Vec<InForce> = Vec::new();
    for (span, name, _) in spans {
        match in_force.last_mut() {
            Some(last) if last.until == span.from && last.policy_name == *name => last.until = span.until,
            _ => in_force.push(InForce { from: span.from, until: span.until, policy_name: name.clone() }),
        }
    }
    KeyEvidence {
        tenant_id: record.key.tenant_id.clone(),
        key_name: record.key.key_name.clone(),
        key_id: record.id,
        key_type: record.key.key_type.clone(),
        kms_provider: record.key.kms_provider,
        kms_alias: record.key.kms_alias.clone(),
        managed_since: record.managed_since,
        removed_at: *removed_at,
        state: record.state,
        in_force,
        rotations: turns.iter().filter(in_period).map(|turn| (*turn).clone()).collect(),
        gaps,
        days: in_days(days),
        days_within: in_days(days - behind),
    }
}

fn in_days(span: Duration) -> f64 {
    let seconds = i32::try_from(span.num_seconds()).unwrap_or(i32::MAX);
    // To the second, in the third decimal of a day and a half.
    (f64::from(seconds) / 864.0).round() / 100.0
}

/// Since when a key has had the age that it has: from each rotation to the next, with the history that counts meanwhile.
fn ages(record: &KeyRecord, turns: &[&Turn], until: Timestamp) -> Vec<(Span, KeyHistory)> {
    let made = KeyHistory {
        last_rotation: None,
        // What is known of a version that was replaced is when it came under care.
        version_created_at: record
            .primary_version
            .as_ref()
            .filter(|_| turns.iter().all(|turn| turn.result != Phase::Settled))
            .and_then(|version| version.provider_created_at),
        managed_since: Some(record.managed_since),
    };
    // A rollback brings the age before back, too.
    let mut stack = vec![made];
    let mut ages: Vec<(Timestamp, KeyHistory)> = vec![(Timestamp::MIN_UTC, made)];
    for turn in turns.iter().filter(|turn| turn.result == Phase::Settled) {
        let at = turn.ended_at.unwrap_or(turn.started_at);
        match turn.workflow {
            Workflow::Rotate => {
                let last_rotation = Some(Served { at: turn.started_at, slot: None });
                stack.push(KeyHistory { last_rotation, ..made });
            }
            Workflow::Rollback if stack.len() > 1 => drop(stack.pop()),
            _ => continue,
        }
        ages.push((at, stack.last().copied().unwrap_or(made)));
    }
    let ends = ages.iter().skip(1).map(|(from, _)| *from).chain([until]);
    ages.iter().zip(ends).map(|((from, history), until)| (Span { from: *from, until }, *history)).collect()
}

/// Where a key was behind one version of its policy.
fn behind_in(span: Span, name: &Name, policy: &RotationPolicy, ages: &[(Span, KeyHistory)]) -> Vec<Gap> {
    let gap = |code: &str, span: Span, message: String| Gap {
        code: code.to_owned(),
        from: span.from,
        until: span.until,
        message,
        meanwhile: Vec::new(),
    };
    if policy.status == PolicyStatus::Suspended {
        return vec![gap("suspended", span, format!("policy {name} was suspended"))];
    }
    let timing = Timing::new(policy).ok();
    let mut gaps = Vec::new();
    for (age, history) in ages {
        let Some(both) = span.and(*age) else { continue };
        match timing.as_ref().and_then(|timing| timing.first_due(history)) {
            None => {
                gaps.push(gap("unscheduled", both, format!("policy {name} made it due by nothing but {}", by(policy))));
            }
            Some(due) => {
                let late =
                    Span { from: due.checked_add_signed(GRACE).unwrap_or(Timestamp::MAX_UTC), until: both.until };
                if let Some(late) = late.and(both) {
                    gaps.push(gap("late", late, format!("it was due on {}", super::instant(due))));
                }
            }
        }
    }
    gaps
}

const fn by(policy: &RotationPolicy) -> &'static str {
    match policy.rotation_trigger {
        RotationTrigger::UsageBased => "its use",
        RotationTrigger::EventBased => "events",
        _ => "a person's hand",
    }
}

/// What else was so while a key was behind.
fn meanwhile(gap: &Gap, names: &Names, turns: &[&Turn], past: &Past<'_>) -> Vec<String> {
    let within = |at: Timestamp| at < gap.until && at >= gap.from;
    let mut said = Vec::new();
    let failed = turns.iter().filter(|turn| turn.result != Phase::Settled && within(turn.started_at)).count();
    if failed > 0 {
        said.push(format!("{} failed", count(failed, "rotation")));
    }
    let states =
        |entry: &&AuditEntry| entry.object.kind == ObjectKind::EncryptionKey && names.at(&entry.object.name, entry.at);
    // What began before and ended within it, or after it, was so meanwhile.
    let mut stopped: Option<&str> = None;
    let mut tell = |stopped: Option<&str>| {
        said.extend(stopped.filter(|word| !said.iter().any(|it| it == word)).map(str::to_owned));
    };
    for entry in past.entries.iter().filter(states).filter(|entry| entry.at < gap.until) {
        let now = match entry.action.as_str() {
            "key.parked" => Some("it was parked"),
            "key.rolled_back" => Some("it was held after a rollback"),
            "key.resumed" | "key.released" => None,
            _ => continue,
        };
        if entry.at >= gap.from {
            tell(stopped);
        }
        stopped = now;
    }
    tell(stopped);
    said
}

fn policy(tenant: &Name, name: &Name, policies: &Policies, past: &Past<'_>) -> PolicyEvidence {
    let period = Span { from: past.from, until: past.until };
    let versions = policies.versions(name).filter(|version| version.span.and(period).is_some());
    let versions = versions.map(|version| PolicyVersion {
        from: version.span.from,
        commit: version.commit.clone(),
        actor: version.actor.clone(),
        asks: asks(&version.policy),
        status: version.policy.status,
    });
    PolicyEvidence {
        tenant_id: tenant.clone(),
        policy_name: name.clone(),
        versions: versions.collect(),
        waivers: waivers(policies.versions(name), period),
    }
}

/// The waivers that held at any time of a period, each from when it was applied.
fn waivers<'a>(versions: impl Iterator<Item = &'a Version>, period: Span) -> Vec<WaiverEvidence> {
    let mut stood: Vec<(&Waiver, Span)> = Vec::new();
    for Version { span, policy, .. } in versions {
        for waiver in &policy.waivers {
            match stood.iter_mut().find(|(known, stood)| *known == waiver && stood.until == span.from) {
                Some((_, stood)) => stood.until = span.until,
                None => stood.push((waiver, *span)),
            }
        }
    }
    let held = stood.into_iter().filter_map(|(waiver, stood)| {
        let next_day = waiver.until.succ_opt().map(|day| day.and_time(NaiveTime::MIN).and_utc());
        let valid = Span { until: next_day.unwrap_or(Timestamp::MAX_UTC), ..stood };
        valid.and(stood)?.and(period)?;
        Some(WaiverEvidence {
            rule: waiver.rule.clone(),
            from: stood.from,
            until: waiver.until,
            reason: waiver.reason.clone(),
            approver: waiver.approver.clone(),
            removed_at: Some(stood.until).filter(|removed_at| *removed_at < valid.until),
        })
    });
    held.collect()
}

/// When a policy makes keys due, in words.
fn asks(policy: &RotationPolicy) -> String {
    match (policy.rotation_trigger, policy.rotation_interval_days, &policy.rotation_schedule) {
        (RotationTrigger::TimeBased, Some(1), _) => "every day".to_owned(),
        (RotationTrigger::TimeBased, Some(days), _) => format!("every {days} days"),
        (RotationTrigger::TimeBased, None, Some(schedule)) => format!("{schedule} ({})", policy.timezone),
        _ => format!("by {}", by(policy)),
    }
}

/// What keeps the framework's rules now, of what was applied last.
fn rules(tenant: &Name, past: &Past<'_>, is_tagged: &dyn Fn(&RotationPolicy) -> bool, evidence: &mut TenantEvidence) {
    let facts = Facts::new(past.now);
    let policies = past.recorded.policies.values().map(|record| &record.policy);
    let policies: Vec<_> = policies.filter(|policy| policy.tenant_id == *tenant && is_tagged(policy)).collect();
    for (guardrail, rule) in &past.framework.rules {
        let code = code(guardrail);
        let new = || RuleEvidence {
            code: code.clone(),
            // Its message is what is said where it is broken.
            message: match &guardrail.description {
                Some(description) => format!("{}: {description}", guardrail.name),
                None => guardrail.name.to_string(),
            },
            kept: 0,
            broken_by: Vec::new(),
            waived: Vec::new(),
        };
        let entry = evidence.rules.entry(code.clone()).or_insert_with(new);
        let mut judged = |kept: Result<bool, Mistake>, name: String, policy: &RotationPolicy| {
            let today = past.now.date_naive();
            let waiver = policy.waivers.iter().find(|waiver| waiver.rule == code && today <= waiver.until);
            match (kept, waiver) {
                (Ok(true), _) => entry.kept += 1,
                (_, Some(waiver)) => entry.waived.push(format!("{name} until {} by {}", waiver.until, waiver.approver)),
                _ => entry.broken_by.push(name),
            }
        };
        for policy in &policies {
            match rule.subject {
                Subject::Policy => {
                    judged(rule.is_kept(&facts.policy(policy)), format!("{tenant}/{}", policy.policy_name), policy);
                }
                Subject::Key => {
                    let keys = past.recorded.keys.iter().filter(|(address, record)| {
                        address.tenant_id == *tenant && record.key.rotation_policy.as_ref() == Some(&policy.policy_name)
                    });
                    for (address, record) in keys {
                        judged(rule.is_kept(&facts.key(&record.key, Some(policy))), address.to_string(), policy);
                    }
                }
                Subject::Plan => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
