//! Keys and rotations as a person reads them.

use std::collections::BTreeMap;

use chrono::Duration;
use uuid::Uuid;

use super::*;
use crate::engine::{HistoryEntry, PrimaryVersion, Undelivered};
use crate::model::{KmsProvider, RotationCause, Workflow};
use crate::plan::Reason;

const PLAIN: View = View { width: None, full: false };

#[test]
fn keys_stand_in_a_table_with_what_needs_a_person_below() {
    insta::assert_snapshot!(plain(&draw(&report(), PLAIN)), @"
    KEY                                             STATE   VERSION  AGE    LAST ROTATION  NEXT ROTATION  POLICY
    healthcare-org-123/patient-data-encryption-key  active  7        1 day  1 day ago      in 21 hours    Daily PHI Key Rotation
    healthcare-org-123/card-vault                   parked  7        1 day  1 day ago      -              Daily PHI Key Rotation (suspended)
    ! healthcare-org-123/card-vault is parked: AccessDenied, five times [alert/parked]
    ! version 2 of healthcare-org-123/card-vault will be destroyed on 2026-12-23T05:20:00Z (in 30 days): `keywheel enable`
      cancels it
    ! 1 message given up: `keywheel outbox list --undelivered` says why

    2 keys of 12: 1 active, 1 parked; as of 2026-11-23T05:20:00Z
    ");
}

#[test]
fn a_narrow_terminal_keeps_the_table_within_its_width() {
    let text = plain(&draw(&report(), View { width: Some(80), full: false }));
    let rows: Vec<&str> = text.lines().take_while(|line| !line.starts_with('!')).collect();
    assert!(rows.iter().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn an_empty_record_says_what_to_do() {
    let empty = StatusReport {
        keys: Vec::new(),
        total: 0,
        not_applied: 2,
        undelivered: Undelivered::default(),
        summary: BTreeMap::new(),
        findings: Vec::new(),
        pending_destructions: Vec::new(),
        ..report()
    };
    insta::assert_snapshot!(plain(&draw(&empty, PLAIN)), @"
    No key was applied yet: `keywheel plan` shows what an apply would do.

    0 keys; as of 2026-11-23T05:20:00Z
    ");
    let nowhere = StatusReport { no_database_at: Some("sqlite:/repo/state.db".to_owned()), ..empty };
    let text = plain(&draw(&nowhere, PLAIN));
    assert!(
        text.starts_with("No key was applied yet, and there is no state database at sqlite:/repo/state.db: "),
        "{text}"
    );
}

#[test]
fn a_narrow_terminal_keeps_the_full_history_within_its_width() {
    let rotations = vec![rotation(true), rotation(false)];
    let report =
        HistoryReport { as_of: now(), no_database_at: None, truncated: false, rotations, overrides: Vec::new() };
    let text = plain(&history(&report, View { width: Some(80), full: true }));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn a_history_shows_what_failed_and_why() {
    let rotations = vec![rotation(true), rotation(false)];
    let report =
        HistoryReport { as_of: now(), no_database_at: None, truncated: true, rotations, overrides: Vec::new() };
    insta::assert_snapshot!(plain(&history(&report, PLAIN)), @"
    STARTED               KEY                                             WHAT      STATUS     TOOK   CAUSE  CORRELATION ID
    2026-11-23T05:20:00Z  healthcare-org-123/patient-data-encryption-key  rotation  settled    2.3 s  due    01a20700-1cf2
    2026-11-23T05:20:00Z  healthcare-org-123/patient-data-encryption-key  rotation  abandoned  -      due    01a20700-1cf2

    ! 2026-11-23T05:20:00Z  healthcare-org-123/patient-data-encryption-key: due since 2026-11-23T02:00:00Z
        error: AccessDeniedException: not authorized to perform kms:CreateKey

    There are more: raise --limit to see them.
    ");
}

#[test]
fn the_full_history_shows_versions_reasons_and_overrides() {
    let overrides = Overridden {
        at: now(),
        correlation_id: "01a20700-1cf2".to_owned(),
        commit: "6f9e3efd".to_owned(),
        reason: "the auditor asked for it".to_owned(),
    };
    let overrides = vec![overrides];
    let rotations = vec![rotation(true)];
    let report = HistoryReport { as_of: now(), no_database_at: None, truncated: false, rotations, overrides };
    insta::assert_snapshot!(plain(&history(&report, View { full: true, ..PLAIN })), @"
    STARTED               KEY                                             WHAT      STATUS   TOOK   CAUSE  CORRELATION ID
    2026-11-23T05:20:00Z  healthcare-org-123/patient-data-encryption-key  rotation  settled  2.3 s  due    01a20700-1cf2

      2026-11-23T05:20:00Z  healthcare-org-123/patient-data-encryption-key: due since 2026-11-23T02:00:00Z
        key:6 -> key:7

    ! 2026-11-23T05:20:00Z  the apply 01a20700-1cf2 was refused, and done all the same: the auditor asked for it
    ");
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn now() -> Timestamp {
    "2026-11-23T05:20:00Z".parse().unwrap()
}

fn report() -> StatusReport {
    let parked = StatusEntry {
        state: Standing::Parked,
        reason: Some(Reason::new("parked", "AccessDenied, five times")),
        suspended: true,
        next_rotation_at: None,
        ..entry("card-vault")
    };
    let keys = vec![entry("patient-data-encryption-key"), parked];
    StatusReport {
        as_of: now(),
        tz_version: "2025b",
        applied: None,
        no_database_at: None,
        rotation_enabled: true,
        summary: BTreeMap::from([(Standing::Active, 1), (Standing::Parked, 1)]),
        total: 12,
        not_applied: 0,
        undelivered: Undelivered { waiting: 2, given_up: 1 },
        pending_destructions: vec![PendingDestruction {
            destroy_at: "2026-12-23T05:20:00Z".parse().unwrap(),
            tenant_id: "healthcare-org-123".parse().unwrap(),
            key_name: "card-vault".parse().unwrap(),
            version: 2,
        }],
        keys,
        findings: vec![Finding::warning(
            "alert/parked",
            "healthcare-org-123/card-vault is parked: AccessDenied, five times",
        )],
    }
}

fn entry(name: &str) -> StatusEntry {
    StatusEntry {
        tenant_id: "healthcare-org-123".parse().unwrap(),
        key_name: name.parse().unwrap(),
        key_type: "phi_data".to_owned(),
        kms_provider: KmsProvider::Local,
        state: Standing::Active,
        reason: None,
        rotation_policy: Some("Daily PHI Key Rotation".parse().unwrap()),
        suspended: false,
        primary_version: Some(PrimaryVersion {
            number: 7,
            provider_ref: "key:7".to_owned(),
            created_at: now() - Duration::days(1),
            age_days: 1,
            usage_count: None,
        }),
        last_rotation_at: Some(now() - Duration::hours(27)),
        next_rotation_at: Some(now() + Duration::hours(21)),
        unfinished: None,
    }
}

fn rotation(settled: bool) -> HistoryEntry {
    HistoryEntry {
        rotation_id: Uuid::nil(),
        key_id: Uuid::nil(),
        tenant_id: "healthcare-org-123".parse().unwrap(),
        key_name: "patient-data-encryption-key".parse().unwrap(),
        workflow: Workflow::Rotate,
        status: if settled { Phase::Settled } else { Phase::Abandoned },
        cause: RotationCause::Due,
        reason: "due since 2026-11-23T02:00:00Z".to_owned(),
        from_ref: Some("key:6".to_owned()),
        to_ref: settled.then(|| "key:7".to_owned()),
        started_at: now(),
        rotated_at: None,
        duration_ms: settled.then_some(2_345),
        error: (!settled).then(|| "AccessDeniedException: not authorized to perform kms:CreateKey".to_owned()),
        correlation_id: "01a20700-1cf2".to_owned(),
        commit: None,
    }
}
