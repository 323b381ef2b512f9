//! Records for tests: plain ones, and every one that can be.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::{
    Address, AuditEntry, Disposition, EncryptionKey, KeyRecord, KeyState, KmsProvider, Name, NotificationSettings,
    ObjectRef, Origin, Outcome, Phase, PolicyRecord, PolicyStatus, Retention, RotationCause, RotationEvent,
    RotationPolicy, RotationRecord, RotationStrategy, RotationTrigger, RotationWindow, Secret, Step, StepRecord,
    TimeOfDay, Timestamp, VersionRecord, VersionState, Waiver, Weekday, Workflow,
};

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// An instant, in seconds after the beginning of 2026-11-23 UTC.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_795_392_000 + seconds, 0).unwrap()
}

/// The identity of a number: the same for the same number.
pub(crate) fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x0190_0000_0000_7000, 0x8000_0000_0000_0000 | number)
}

pub(crate) fn origin() -> Origin {
    Origin {
        commit: "5f3c0de".to_owned(),
        author: "Alice <alice@example.org>".to_owned(),
        committer: "Bob <bob@example.org>".to_owned(),
        signer: None,
    }
}

pub(crate) fn policy(number: u64, tenant: &str, policy_name: &str) -> PolicyRecord {
    let document =
        json!({"tenant_id": tenant, "policy_name": policy_name, "key_type": "phi_data", "rotation_interval_days": 90});
    PolicyRecord {
        id: id(number),
        policy: serde_json::from_value(document).unwrap(),
        last_rotation_at: None,
        next_rotation_at: Some(at(86_400)),
        created_by: origin(),
        last_modified_by: origin(),
        created_by_token_id: None,
        last_modified_by_token_id: None,
        correlation_id: "run-1".to_owned(),
        revision: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

pub(crate) fn key(number: u64, tenant: &str, key_name: &str) -> KeyRecord {
    let document = json!({"tenant_id": tenant, "key_name": key_name, "key_type": "phi_data"});
    KeyRecord {
        id: id(number),
        key: serde_json::from_value(document).unwrap(),
        rotation_policy_id: None,
        state: KeyState::Active,
        state_reason: None,
        managed_since: at(0),
        adopted: false,
        primary_version: None,
        last_rotation_at: None,
        last_slot: None,
        next_rotation_at: None,
        failures: 0,
        retry_at: None,
        created_by: origin(),
        last_modified_by: origin(),
        correlation_id: "run-1".to_owned(),
        revision: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

pub(crate) fn version(number: u64, key_id: Uuid, generation: u32) -> VersionRecord {
    VersionRecord {
        state: VersionState::Active,
        activated_at: Some(at(0)),
        ..VersionRecord::new(id(number), key_id, generation, format!("key:{generation}"), at(0))
    }
}

pub(crate) fn rotation(number: u64, key: &KeyRecord, phase: Phase) -> RotationRecord {
    let finished = matches!(phase, Phase::Settled | Phase::Abandoned);
    RotationRecord {
        id: id(number),
        key_id: key.id,
        address: key.address(),
        workflow: Workflow::Rotate,
        phase,
        open_step: None,
        cause: RotationCause::Due,
        reason: "its slot has come".to_owned(),
        slot: None,
        from_ref: Some("key:1".to_owned()),
        to_ref: None,
        intent: json!({}),
        policy: None,
        error: None,
        attempt: 1,
        correlation_id: "run-1".to_owned(),
        commit: None,
        started_at: at(0),
        updated_at: at(0),
        finished_at: finished.then(|| at(2)),
    }
}

pub(crate) fn step(rotation_id: Uuid, step: Step, outcome: Outcome) -> StepRecord {
    StepRecord { rotation_id, step, outcome, attempt: 1, detail: None, at: at(1) }
}

pub(crate) fn audit(tenant: &str, action: &str) -> AuditEntry {
    AuditEntry {
        at: at(0),
        actor: "alice@example.org".to_owned(),
        commit: Some("5f3c0de".to_owned()),
        correlation_id: "run-1".to_owned(),
        action: action.to_owned(),
        object: ObjectRef::key(&Address::new(name(tenant), name("a key"))),
        before: None,
        after: Some(json!({"b": [1, 2], "a": "ü"})),
    }
}

pub(crate) fn any_name() -> impl Strategy<Value = Name> {
    "[A-Za-z0-9_-]([A-Za-z0-9 ._-]{0,30}[A-Za-z0-9_-])?".prop_map(|text| name(&text))
}

/// Any text but U+0000, for which PostgreSQL has no room.
fn any_text() -> impl Strategy<Value = String> {
    vec(any::<char>().prop_filter("U+0000", |char| *char != '\0'), 0..12).prop_map(String::from_iter)
}

/// Whole microseconds, from 1970 to the end of 9999.
fn any_instant() -> impl Strategy<Value = Timestamp> {
    (0_i64..253_402_300_800_000_000).prop_map(|micros| Timestamp::from_timestamp_micros(micros).unwrap())
}

fn any_date() -> impl Strategy<Value = NaiveDate> {
    any_instant().prop_map(|instant| instant.date_naive())
}

fn any_time_of_day() -> impl Strategy<Value = TimeOfDay> {
    (0_u32..86_400).prop_map(|s| TimeOfDay(NaiveTime::from_num_seconds_from_midnight_opt(s, 0).unwrap()))
}

fn any_id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any_text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_origin() -> impl Strategy<Value = Origin> {
    (any_text(), any_text(), any_text(), option::of(any_text()))
        .prop_map(|(commit, author, committer, signer)| Origin { commit, author, committer, signer })
}

fn any_secret() -> impl Strategy<Value = Secret> {
    "[A-Z_][A-Z0-9_]{0,10}".prop_map(Secret::Reference)
}

prop_compose! {
    fn any_notification_settings()(
        email in vec(any_text(), 0..3),
        slack_webhook in option::of(any_secret()),
        webhook_url in option::of(any_secret()),
        webhook_secret in option::of(any_secret()),
    ) -> NotificationSettings {
        NotificationSettings { email, slack_webhook, webhook_url, webhook_secret }
    }
}

fn any_windows() -> impl Strategy<Value = Vec<RotationWindow>> {
    let window = (vec(select(Weekday::ALL), 0..3), any_time_of_day(), any_time_of_day())
        .prop_map(|(days, start, end)| RotationWindow { days, start, end });
    vec(window, 0..3)
}

fn any_waivers() -> impl Strategy<Value = Vec<Waiver>> {
    let waiver = (any_text(), any_date(), any_text(), any_text()).prop_map(|(rule, until, reason, approver)| Waiver {
        rule,
        until,
        reason,
        approver,
    });
    vec(waiver, 0..3)
}

fn any_events() -> impl Strategy<Value = Vec<RotationEvent>> {
    vec(
        (any_text(), option::of(any_text())).prop_map(|(event_type, source)| RotationEvent { event_type, source }),
        0..3,
    )
}

/// SQLite's and PostgreSQL's integers are signed.
fn any_count() -> impl Strategy<Value = u64> {
    0..=u64::try_from(i64::MAX).unwrap()
}

prop_compose! {
    fn any_policy_times()(
        rotation_interval_days in option::of(any::<u32>()),
        rotation_schedule in option::of(any_text()),
        rotation_time_of_day in any_time_of_day(),
        timezone in any_text(),
        max_usage_count in option::of(any_count()),
        usage_threshold_warning in option::of(any_count()),
        rotation_events in any_events(),
        rotation_windows in any_windows(),
        rotation_spread_minutes in any::<u32>(),
        description in option::of(any_text()),
    )(
        rollback_period_hours in any::<u32>(),
        retain_old_keys_days in any::<u32>(),
        destroy_after_disabled_days in option::of(any::<u32>()),
        data_max_age_days in option::of(any::<u32>()),
        enable_rollback in any::<bool>(),
        rotation_strategy in option::of(select(RotationStrategy::ALL)),
        old_key_disposition in select(Disposition::ALL),
        rotation_trigger in select(RotationTrigger::ALL),
        kms_provider in select(KmsProvider::ALL),
        status in select(PolicyStatus::ALL),
        policy in Just(RotationPolicy {
            description, rotation_interval_days, rotation_schedule, rotation_time_of_day, timezone,
            max_usage_count, usage_threshold_warning, rotation_events, rotation_windows, rotation_spread_minutes,
            ..policy(0, "t", "p").policy
        }),
    ) -> RotationPolicy {
        RotationPolicy {
            kms_provider, status, rotation_trigger, rotation_strategy, enable_rollback, rollback_period_hours,
            retain_old_keys_days, old_key_disposition, destroy_after_disabled_days, data_max_age_days,
            ..policy
        }
    }
}

prop_compose! {
    fn any_policy_document()(
        policy in any_policy_times(),
        tenant_id in any_name(),
        policy_name in any_name(),
        key_type in any_text(),
        notification_settings in option::of(any_notification_settings()),
        compliance_tags in vec(any_text(), 0..3),
        authorized_services in vec(any_text(), 0..3),
        previous_name in option::of(any_name()),
        waivers in any_waivers(),
    ) -> RotationPolicy {
        RotationPolicy {
            tenant_id, policy_name, key_type, notification_settings, compliance_tags, authorized_services,
            previous_name, waivers, ..policy
        }
    }
}

prop_compose! {
    pub(crate) fn any_policy(number: u64)(
        policy in any_policy_document(),
        last_rotation_at in option::of(any_instant()),
        next_rotation_at in option::of(any_instant()),
        created_by in any_origin(),
        last_modified_by in any_origin(),
        created_by_token_id in option::of(any_id()),
        last_modified_by_token_id in option::of(any_id()),
        correlation_id in any_text(),
        revision in any_count(),
        created_at in any_instant(),
        updated_at in any_instant(),
    ) -> PolicyRecord {
        PolicyRecord {
            id: id(number), policy, last_rotation_at, next_rotation_at, created_by, last_modified_by,
            created_by_token_id, last_modified_by_token_id, correlation_id, revision, created_at, updated_at,
        }
    }
}

prop_compose! {
    fn any_key_document()(
        tenant_id in any_name(),
        key_name in any_name(),
        description in option::of(any_text()),
        key_type in any_text(),
        kms_provider in select(KmsProvider::ALL),
        kms_region in option::of(any_text()),
        kms_alias in option::of(any_text()),
        kms_key_id in option::of(any_text()),
        key_spec in option::of(any_text()),
        key_usage in option::of(any_text()),
        multi_region in any::<bool>(),
        expires_at in option::of(any_date()),
    )(
        rotation_policy in option::of(any_name()),
        previous_name in option::of(any_name()),
        key_policy in option::of(btree_map(any_text(), any_json(), 0..3)),
        tags in btree_map(any_text(), any_text(), 0..3),
        key in Just(EncryptionKey {
            tenant_id, key_name, description, key_type, kms_provider, kms_region, kms_alias, kms_key_id, key_spec,
            key_usage, multi_region, expires_at,
            rotation_policy: None, previous_name: None, key_policy: None, tags: BTreeMap::new(),
        }),
    ) -> EncryptionKey {
        EncryptionKey { rotation_policy, key_policy, tags, previous_name, ..key }
    }
}

prop_compose! {
    fn any_key_state()(
        state in select(&[KeyState::Pending, KeyState::Active, KeyState::Held, KeyState::Parked][..]),
        state_reason in option::of(any_text()),
        managed_since in any_instant(),
        adopted in any::<bool>(),
        last_rotation_at in option::of(any_instant()),
        last_slot in option::of(any_instant()),
        next_rotation_at in option::of(any_instant()),
        failures in any::<u32>(),
        retry_at in option::of(any_instant()),
    ) -> KeyRecord {
        KeyRecord {
            state, state_reason, managed_since, adopted, last_rotation_at, last_slot, next_rotation_at, failures, retry_at,
            ..key(0, "t", "k")
        }
    }
}

prop_compose! {
    /// A key; its version, if it has one, is `any_version` of the same number.
    pub(crate) fn any_key(number: u64)(
        key in any_key_document(),
        state in any_key_state(),
        primary_version in option::of(any_version(number, number)),
        created_by in any_origin(),
        last_modified_by in any_origin(),
        correlation_id in any_text(),
        revision in any_count(),
        created_at in any_instant(),
        updated_at in any_instant(),
    ) -> KeyRecord {
        KeyRecord {
            id: id(number), key, primary_version, created_by, last_modified_by, correlation_id, revision, created_at,
            updated_at, ..state
        }
    }
}

type Times = (Option<Timestamp>, Option<Timestamp>, Option<Timestamp>, Option<Timestamp>);

fn any_times() -> impl Strategy<Value = Times> {
    (option::of(any_instant()), option::of(any_instant()), option::of(any_instant()), option::of(any_instant()))
}

/// Boxed, like everything that is drawn inside of it: the strategies of a whole batch together would fill a thread's stack.
fn any_retention() -> BoxedStrategy<Retention> {
    let days = || option::of(any::<u32>());
    let terms = (select(Disposition::ALL), any::<u32>(), any::<u32>(), days(), days(), option::of(any_text()));
    terms
        .prop_map(|(old_key_disposition, retain, rollback, destroy_after, data_max_age_days, kept_because)| Retention {
            old_key_disposition,
            retain_old_keys_days: retain,
            rollback_period_hours: rollback,
            destroy_after_disabled_days: destroy_after,
            data_max_age_days,
            kept_because,
        })
        .boxed()
}

prop_compose! {
    pub(crate) fn any_version(number: u64, key_number: u64)(
        generation in 1..=u32::MAX,
        provider_ref in any_text(),
        state in select(VersionState::ALL),
        rotation_id in option::of(any_id()),
        orphan in any::<bool>(),
        times in any_times(),
        later in any_times(),
        until in (option::of(any_instant()), option::of(any_instant())),
        retention in option::of(any_retention()),
        created_at in any_instant(),
    ) -> VersionRecord {
        VersionRecord {
            id: id(number), key_id: id(key_number), number: generation, provider_ref, state, rotation_id, orphan,
            provider_created_at: times.0, activated_at: times.1, deactivated_at: times.2, compromised_at: times.3,
            disabled_at: later.0, destroy_at: later.1, destroyed_at: later.2, rewrapped_at: later.3,
            needed_at: until.0, retain_until: until.1,
            retention, created_at,
        }
    }
}

prop_compose! {
    pub(crate) fn any_rotation(number: u64, key_number: u64)(
        address in (any_name(), any_name()).prop_map(|(tenant_id, name)| Address::new(tenant_id, name)),
        words in (select(Workflow::ALL), option::of(select(Step::ALL)), select(RotationCause::ALL)),
        reason in any_text(),
        slot in option::of(any_instant()),
        refs in (option::of(any_text()), option::of(any_text())),
        intent in any_json(),
        policy in option::of(any_policy_document()),
        error in option::of(any_text()),
        attempt in any::<u32>(),
        correlation_id in any_text(),
        commit in option::of(any_text()),
        times in (any_instant(), any_instant(), option::of(any_instant())),
    ) -> RotationRecord {
        RotationRecord {
            id: id(number), key_id: id(key_number), address, workflow: words.0, phase: Phase::Created,
            open_step: words.1, cause: words.2, reason, slot, from_ref: refs.0, to_ref: refs.1, intent, policy, error,
            attempt, correlation_id, commit, started_at: times.0, updated_at: times.1, finished_at: times.2,
        }
    }
}

prop_compose! {
    pub(crate) fn any_step(rotation_number: u64)(
        step in select(Step::ALL),
        outcome in select(Outcome::ALL),
        attempt in any::<u32>(),
        detail in option::of(any_text()),
        at in any_instant(),
    ) -> StepRecord {
        StepRecord { rotation_id: id(rotation_number), step, outcome, attempt, detail, at }
    }
}

prop_compose! {
    pub(crate) fn any_audit_entry()(
        at in any_instant(),
        actor in any_text(),
        commit in option::of(any_text()),
        correlation_id in any_text(),
        action in any_text(),
        object in (option::of(any_name()), any_name()),
        before in option::of(any_json()),
        after in option::of(any_json()),
    ) -> AuditEntry {
        let object = ObjectRef { kind: crate::model::ObjectKind::RotationPolicy, tenant_id: object.0, name: object.1 };
        AuditEntry { at, actor, commit, correlation_id, action, object, before, after }
    }
}
