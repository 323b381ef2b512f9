//! Explanations as a person reads them.

use serde_json::json;

use super::*;
use crate::diagnostic::Place;
use crate::engine::{Due, HistoryEntry, Obstacle, Version};
use crate::model::{Name, ObjectRef, Phase, RotationCause, VersionState, Workflow};
use crate::plan::Reason;

const NOW: &str = "2026-03-26T12:11:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn drawn(explanation: Explanation, width: Option<usize>, full: bool) -> String {
    let explained = Explained { as_of: at(NOW), objects: vec![explanation] };
    let text = draw(&explained, View { width, full });
    for line in text.lines() {
        let line = anstream::adapter::strip_str(line).to_string();
        assert_eq!(line, line.trim_end(), "spaces at the end of a line");
        assert!(columns(&line) <= width.unwrap_or(usize::MAX), "too wide: {line}");
    }
    anstream::adapter::strip_str(&text).to_string()
}

fn field(name: &str, value: Value, origin: FieldOrigin, line: u32) -> Field {
    let place = (line > 0).then(|| place(line));
    Field { name: name.to_owned(), value, applied: None, origin, place }
}

fn place(line: u32) -> Place {
    Place { file: "policies/acme/keys.yaml".into(), line, column: 1, length: 1 }
}

fn upcoming_at(instant: &str, local: &str, zone: &str, keys: usize) -> Upcoming {
    let key_name = (keys == 1).then(|| "patients".parse().unwrap());
    Upcoming { at: at(instant), local: local.to_owned(), zone: zone.to_owned(), keys, key_name }
}

/// A policy with an edit, long values, and rotations around a change of clocks.
fn policy() -> Explanation {
    let address = "acme/Nightly".parse().unwrap();
    let description =
        "Rotate the patients' keys each night at two, so that no version encrypts more than one day of data";
    let edited =
        Field { applied: Some(json!(1)), ..field("rotation_interval_days", json!(2), FieldOrigin::Document, 7) };
    Explanation {
        object: ObjectRef::policy(&address),
        applied: Applied::Edited,
        place: Some(place(1)),
        fields: vec![
            field("description", json!(description), FieldOrigin::Document, 5),
            edited,
            field("timezone", json!("Europe/Berlin"), FieldOrigin::Config, 0),
            field("retain_old_keys_days", json!(60), FieldOrigin::Tenant, 0),
            field("rotation_strategy", json!("new_version"), FieldOrigin::Provider, 0),
            field("enable_rollback", json!(true), FieldOrigin::Default, 0),
            field("compliance_tags", json!(["HIPAA", "SOC2"]), FieldOrigin::Document, 11),
            field("max_usage_count", json!(null), FieldOrigin::Default, 0),
            field("waivers", json!(null), FieldOrigin::Default, 0),
        ],
        timezone: Some("Europe/Berlin".to_owned()),
        due: Due { is_due: false, reason: Reason::new("not_due", "none of its 3 keys is due"), counted_from: None },
        upcoming: vec![
            upcoming_at("2026-03-27T01:00:00Z", "2026-03-27T02:00:00+01:00", "CET", 1),
            upcoming_at("2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00", "CEST", 3),
        ],
        upcoming_once: None,
        keys: Vec::new(),
        new_keys: vec!["scans".parse().unwrap(), "x-rays".parse().unwrap()],
        versions: Vec::new(),
        rotations: Vec::new(),
        obstacles: Vec::new(),
    }
}

fn version(number: u32, state: VersionState) -> Version {
    Version {
        number,
        provider_ref: format!("arn:aws:kms:us-east-1:123456789012:key/{number:08}"),
        state,
        orphan: false,
        created_at: Some(at("2026-03-20T12:00:00Z")),
        activated_at: Some(at("2026-03-20T12:00:00Z")),
        deactivated_at: (state == VersionState::Deactivated).then(|| at("2026-03-24T01:05:00Z")),
        disabled_at: None,
        destroy_at: None,
        compromised_at: None,
    }
}

/// A parked key of a policy in UTC, with a past.
fn key() -> Explanation {
    let address: crate::model::Address = "acme/patients".parse().unwrap();
    let key_name: Name = address.name.clone();
    let orphan = Version { orphan: true, activated_at: None, ..version(2, VersionState::Disabled) };
    let compromised =
        Version { compromised_at: Some(at("2026-03-25T00:00:00Z")), ..version(1, VersionState::Deactivated) };
    let rotation = HistoryEntry {
        rotation_id: uuid::Uuid::nil(),
        key_id: uuid::Uuid::nil(),
        tenant_id: address.tenant_id.clone(),
        key_name,
        workflow: Workflow::Rotate,
        status: Phase::Abandoned,
        cause: RotationCause::Overdue,
        reason: "overdue by 1 day: its slot of 2026-03-21T01:00:00Z was missed, this serves the one of 2026-03-22"
            .to_owned(),
        from_ref: None,
        to_ref: None,
        started_at: at("2026-03-22T01:05:00Z"),
        rotated_at: None,
        duration_ms: Some(43),
        error: Some("CreateKey: access denied".to_owned()),
        correlation_id: "one".to_owned(),
        commit: None,
    };
    let obstacle = |code, message: &str, until: Option<&str>, help: Option<&str>| Obstacle {
        reason: Reason::new(code, message),
        until: until.map(at),
        help: help.map(str::to_owned),
    };
    Explanation {
        object: ObjectRef::key(&address),
        applied: Applied::Errors,
        place: None,
        fields: vec![field("key_name", json!("patients"), FieldOrigin::Record, 0)],
        timezone: Some("UTC".to_owned()),
        due: Due {
            is_due: true,
            reason: Reason::new("overdue", "overdue by 5 days"),
            counted_from: Some("the slot of 2026-03-20T01:00:00Z, which its last rotation served".to_owned()),
        },
        upcoming: vec![upcoming_at(NOW, "2026-03-26T12:11:00+00:00", "UTC", 1)],
        upcoming_once: Some("it is resumed".to_owned()),
        keys: Vec::new(),
        new_keys: Vec::new(),
        versions: vec![version(3, VersionState::Active), orphan, compromised],
        rotations: vec![rotation],
        obstacles: vec![
            obstacle("documents", "documents have errors", None, Some("`keywheel validate` shows the errors")),
            obstacle(
                "freeze",
                "the freeze \"Audit\" holds: the auditors are here, and nothing is to change under their eyes",
                Some("2026-04-01T00:00:00Z"),
                None,
            ),
        ],
    }
}

#[test]
fn a_policy_fits_a_narrow_terminal() {
    insta::assert_snapshot!(drawn(policy(), Some(80), false), @"
    RotationPolicy acme/Nightly  edited since it was applied: was -> will be
    policies/acme/keys.yaml:1

      description             Rotate the patients' keys   line 5
                              each night at two, so that
                              no version encrypts more
                              than one day of data
      rotation_interval_days  1 -> 2                      line 7
      timezone                Europe/Berlin               defaults of keywheel.yaml
      retain_old_keys_days    60                          defaults of the tenant
      rotation_strategy       new_version                 of the key manager
      enable_rollback         true                        default
      compliance_tags         [HIPAA, SOC2]               line 11
      not set: max_usage_count, waivers

    Due? no: none of its 3 keys is due

    Next rotations (UTC, and local time in Europe/Berlin)

      2026-03-27T01:00:00Z  Fri 2026-03-27 02:00 CET   in 12 hours  patients
      2026-03-29T01:00:00Z  Sun 2026-03-29 03:00 CEST  in 2 days    3 keys

    Its keys that are not applied yet

      scans, x-rays

    What would stop a rotation now? nothing that is on record
      no key manager was asked: `keywheel drift` asks
    ");
}

#[test]
fn a_policy_uses_a_wide_terminal() {
    insta::assert_snapshot!(drawn(policy(), Some(120), false), @"
    RotationPolicy acme/Nightly  edited since it was applied: was -> will be
    policies/acme/keys.yaml:1

      description             Rotate the patients' keys each night at two, so that no version  line 5
                              encrypts more than one day of data
      rotation_interval_days  1 -> 2                                                           line 7
      timezone                Europe/Berlin                                                    defaults of keywheel.yaml
      retain_old_keys_days    60                                                               defaults of the tenant
      rotation_strategy       new_version                                                      of the key manager
      enable_rollback         true                                                             default
      compliance_tags         [HIPAA, SOC2]                                                    line 11
      not set: max_usage_count, waivers

    Due? no: none of its 3 keys is due

    Next rotations (UTC, and local time in Europe/Berlin)

      2026-03-27T01:00:00Z  Fri 2026-03-27 02:00 CET   in 12 hours  patients
      2026-03-29T01:00:00Z  Sun 2026-03-29 03:00 CEST  in 2 days    3 keys

    Its keys that are not applied yet

      scans, x-rays

    What would stop a rotation now? nothing that is on record
      no key manager was asked: `keywheel drift` asks
    ");
}

#[test]
fn a_version_that_goes_says_when_and_how_to_keep_it() {
    let doomed = Version {
        disabled_at: Some(at("2026-03-24T12:11:00Z")),
        destroy_at: Some(at("2026-04-25T12:11:00Z")),
        ..version(1, VersionState::PendingDestruction)
    };
    let text = drawn(Explanation { versions: vec![doomed], ..key() }, Some(80), false);
    let lines: Vec<&str> = text.lines().skip_while(|line| *line != "Its versions").skip(2).take(5).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
      1  pending destruction  primary since 2026-03-20T12:00:00Z (6 days ago)
         disabled 2026-03-24T12:11:00Z (2 days ago): it decrypts nothing
         will be destroyed on 2026-04-25T12:11:00Z (in 30 days): `keywheel enable`
         cancels it
         arn:aws:kms:us-east-1:123456789012:key/00000001
    ");
}

#[test]
fn a_long_value_is_one_line_where_lines_may_be_of_any_length() {
    let text = drawn(policy(), None, false);
    assert!(text.lines().any(|line| line.contains("each night at two") && line.ends_with("one day of data  line 5")));
}

#[test]
fn a_key_tells_its_past_and_what_stops_it() {
    insta::assert_snapshot!(drawn(key(), Some(80), false), @r#"
    EncryptionKey acme/patients  as last applied: documents have errors

      key_name  patients  as last applied

    Due? yes: overdue by 5 days
              counted from the slot of 2026-03-20T01:00:00Z, which its last rotation
              served

    Next rotations, once it is resumed (UTC)

      2026-03-26T12:11:00Z  now

    Its versions

      3  active       primary since 2026-03-20T12:00:00Z (6 days ago)
         arn:aws:kms:us-east-1:123456789012:key/00000003
      2  disabled     made 2026-03-20T12:00:00Z (6 days ago)
         an orphan: made, and never used
         arn:aws:kms:us-east-1:123456789012:key/00000002
      1  deactivated  deactivated 2026-03-24T01:05:00Z (2 days ago)
         compromised 2026-03-25T00:00:00Z (1 day ago)
         arn:aws:kms:us-east-1:123456789012:key/00000001

    What happened to it

      2026-03-22T01:05:00Z  rotation: abandoned in 43 ms
          overdue by 1 day: its slot of 2026-03-21T01:00:00Z was missed, this serves
          the one of 2026-03-22
          CreateKey: access denied

    What would stop a rotation now?

      ! documents have errors
        `keywheel validate` shows the errors
      ! the freeze "Audit" holds: the auditors are here, and nothing is to change
        under their eyes, until 2026-04-01T00:00:00Z (in 5 days)
    "#);
}

#[test]
fn nothing_in_the_way_is_said() {
    let drawn = drawn(policy(), Some(80), false);
    // A key may be disabled at the key manager, which nobody asks here.
    let last = "What would stop a rotation now? nothing that is on record\n  no key manager was asked: `keywheel drift` asks\n";
    assert!(drawn.ends_with(last), "{drawn}");
}

#[test]
fn an_empty_value_keeps_its_line() {
    let mut policy = policy();
    policy.fields = vec![field("description", json!(""), FieldOrigin::Document, 5)];
    assert!(drawn(policy, Some(80), false).contains("  description    line 5\n"));
}

#[test]
fn of_a_long_past_the_newest_fifty_versions_are_shown_or_all_of_them() {
    let long = || {
        let versions = (1..=60).rev().map(|number| version(number, VersionState::Deactivated)).collect();
        Explanation { versions, ..key() }
    };
    let short = drawn(long(), Some(80), false);
    assert!(short.contains("key/00000011\n") && !short.contains("key/00000010\n"));
    assert!(short.contains("and 10 older versions: -v shows all"));
    assert!(drawn(long(), Some(80), true).contains("key/00000001\n"));
}
