//! What must load without a word.

use keywheel::document::{self, Inherited};
use keywheel::model::{Address, RotationTrigger};
use keywheel::provider::capabilities;

use super::{KEY, POLICY, file, load, load_with_config, summary};

const CONFIG: &str = "apiVersion: keywheel/v1\nkind: Config\n";

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

#[test]
fn a_policy_and_its_key_load_without_a_finding() {
    let loaded = load(&[file("policies/acme/all.yaml", format!("{POLICY}---\n{KEY}"))]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    assert_eq!(loaded.repository.documents, 2);
    assert!(!loaded.repository.failed);
    assert!(loaded.repository.failed_tenants.is_empty());
    let policy = &loaded.repository.policies[&address("acme/quarterly")];
    assert_eq!(policy.value.rotation_interval_days, Some(90));
    assert_eq!((policy.place.line, policy.place.column), (1, 1));
    assert_eq!(
        (
            policy.fields.get("rotation_interval_days").unwrap().line,
            policy.fields.get("rotation_interval_days").unwrap().column
        ),
        (6, 25)
    );
    assert!(policy.inherited.is_empty());
    assert_eq!(loaded.repository.keys[&address("acme/backups")].place.line, 8);
}

#[test]
fn the_description_of_the_system_loads_as_it_is_printed() {
    let config = "apiVersion: keywheel/v1
kind: Config
state: sqlite:.keywheel/state.db
apply_from: refs/heads/main
limits: {max_rotations: 200, max_removals: 10, max_destructions: 10, max_percent: 30}
providers:
  aws_kms: {region: us-east-1, endpoint_url: null, consistency_delay: 5m, max_concurrent: 8}
  local: {keystore: .keywheel/keystore}
secrets:
  healthcare-org-123: [SLACK_WEBHOOK_URL]
";
    let policies = "# yaml-language-server: $schema=../../schema/keywheel.v1.json
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: healthcare-org-123
policy_name: Daily PHI Key Rotation
description: Rotate PHI encryption keys daily at 2 AM UTC
key_type: phi_data
kms_provider: aws_kms
status: active                       # active | suspended
rotation_trigger: time_based         # time_based | usage_based | event_based | manual
rotation_interval_days: 1            # or rotation_schedule, never both
rotation_time_of_day: \"02:00:00\"
timezone: UTC
enable_rollback: true
rollback_period_hours: 24
retain_old_keys_days: 30
compliance_tags: [HIPAA, SOC2]
notification_settings:
  email: [security@healthcare-org.com]
  slack_webhook: ${SLACK_WEBHOOK_URL}
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: healthcare-org-123
key_name: patient-data-encryption-key
key_type: phi_data
kms_provider: aws_kms
kms_region: us-east-1
kms_alias: alias/patient-data         # what applications use; a rotation re-points it
kms_key_id: arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9
rotation_policy: Daily PHI Key Rotation
";
    let loaded = load_with_config(config, &[file("policies/healthcare-org-123/phi.yaml", policies)]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    assert_eq!(loaded.repository.documents, 3);
}

#[test]
fn nothing_at_all_is_a_repository_too() {
    let loaded = load(&[]);
    assert!(loaded.findings.is_empty() && !loaded.repository.failed);
}

#[test]
fn empty_files_empty_documents_and_comments_are_no_documents() {
    let text = format!("---\n# nothing\n---\n{POLICY}---\n{KEY}...\n---\n");
    let files = [
        file("policies/acme/all.yaml", text),
        file("policies/acme/empty.yml", ""),
        file("policies/acme/note.yml", "# later\n"),
    ];
    let loaded = load(&files);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    assert_eq!(loaded.repository.documents, 2);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_read_over() {
    let text = format!("\u{feff}{POLICY}---\n{KEY}").replace('\n', "\r\n");
    let loaded = load(&[file("policies/acme/all.yaml", text)]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    let policy = &loaded.repository.policies[&address("acme/quarterly")];
    assert_eq!(
        (
            policy.fields.get("key_type").unwrap().line,
            policy.fields.get("key_type").unwrap().column,
            policy.fields.get("key_type").unwrap().length
        ),
        (5, 11, 11)
    );
}

#[test]
fn files_that_are_not_documents_are_nobodys() {
    let files = [
        file("policies/README.md", "# not: [yaml"),
        file("policies/acme/.draft.yaml", "[["),
        file("policies/.git/x.yaml", "[["),
        file("elsewhere/x.yaml", "[["),
        file("policies/acme/all.yaml", format!("{POLICY}---\n{KEY}")),
    ];
    let loaded = load(&files);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    assert_eq!(loaded.repository.documents, 2);
}

#[test]
fn the_nearer_default_wins_and_its_origin_is_known() {
    let config = format!(
        "{CONFIG}defaults:\n  timezone: Europe/Berlin\n  retain_old_keys_days: 60\n  compliance_tags: [SOC2]\n"
    );
    let tenant = "apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: acme\ndefaults: {retain_old_keys_days: 45, compliance_tags: [PCI]}\n";
    let policy = format!("{POLICY}compliance_tags: [HIPAA]\n---\n{KEY}");
    let loaded =
        load_with_config(&config, &[file("policies/acme/tenant.yaml", tenant), file("policies/acme/all.yaml", policy)]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    let policy = &loaded.repository.policies[&address("acme/quarterly")];
    assert_eq!(policy.value.timezone, "Europe/Berlin");
    assert_eq!(policy.value.retain_old_keys_days, 45);
    assert_eq!(policy.value.compliance_tags, ["HIPAA"]);
    assert_eq!(policy.inherited.get("timezone"), Some(&Inherited::Config));
    assert_eq!(policy.inherited.get("retain_old_keys_days"), Some(&Inherited::Tenant));
    assert_eq!(policy.inherited.get("compliance_tags"), None);
}

#[test]
fn a_nearer_schedule_drops_an_inherited_interval_and_the_other_way_round() {
    let config = format!("{CONFIG}defaults: {{rotation_interval_days: 30}}\n");
    let scheduled = POLICY.replace("rotation_interval_days: 90", "rotation_schedule: \"0 2 1 * *\"");
    let loaded = load_with_config(&config, &[file("policies/acme/all.yaml", format!("{scheduled}---\n{KEY}"))]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    assert_eq!(loaded.repository.policies[&address("acme/quarterly")].value.rotation_interval_days, None);

    let config = format!("{CONFIG}defaults: {{rotation_schedule: \"0 2 1 * *\"}}\n");
    let loaded = load_with_config(&config, &[file("policies/acme/all.yaml", format!("{POLICY}---\n{KEY}"))]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    assert_eq!(loaded.repository.policies[&address("acme/quarterly")].value.rotation_schedule, None);
}

#[test]
fn a_manual_policy_takes_no_interval_from_above() {
    let config = format!("{CONFIG}defaults: {{rotation_interval_days: 30}}\n");
    let manual = POLICY.replace("rotation_interval_days: 90", "rotation_trigger: manual");
    let loaded = load_with_config(&config, &[file("policies/acme/all.yaml", format!("{manual}---\n{KEY}"))]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    let policy = &loaded.repository.policies[&address("acme/quarterly")].value;
    assert_eq!((policy.rotation_trigger, policy.rotation_interval_days), (RotationTrigger::Manual, None));
}

#[test]
fn null_says_that_nothing_is_inherited() {
    let config = format!("{CONFIG}defaults: {{max_usage_count: 1000}}\n");
    let loaded = load_with_config(
        &config,
        &[file("policies/acme/all.yaml", format!("{POLICY}max_usage_count: null\n---\n{KEY}"))],
    );
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    assert_eq!(loaded.repository.policies[&address("acme/quarterly")].value.max_usage_count, None);
}

#[test]
fn a_key_policy_may_hold_any_json() {
    let key = format!(
        "{KEY}kms_provider: aws_kms\nkms_alias: alias/a\nkey_policy:\n  Version: \"2012-10-17\"\n  Statement:\n    - {{Limit: 1.5, Small: 1.0, Big: 1.5e300, Yes: true, Nothing: null, Like: \"${{aws:username}}\"}}\n"
    );
    let loaded = load(&[file("policies/acme/all.yaml", format!("{POLICY}kms_provider: aws_kms\n---\n{key}"))]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    let policy = loaded.repository.keys[&address("acme/backups")].value.key_policy.clone().unwrap();
    assert_eq!(policy["Statement"][0]["Limit"], 1.5);
}

/// A freeze for every tenant.
fn freeze(name: &str, from: &str, until: &str) -> String {
    format!("apiVersion: keywheel/v1\nkind: Freeze\nname: {name}\nreason: r\nfrom: \"{from}\"\nuntil: \"{until}\"\n")
}

#[test]
fn a_freeze_is_warned_of_until_it_is_over() {
    let daily = POLICY.replace("rotation_interval_days: 90", "rotation_interval_days: 1");
    let files = [
        file("policies/rules.yaml", freeze("holidays", "2026-12-20T00:00:00", "2027-01-05T00:00:00")),
        file("policies/acme/all.yaml", format!("{daily}---\n{KEY}")),
    ];
    let at = |now: &str| summary(&document::load(None, &files, capabilities, now.parse().unwrap()).findings);
    let warned = ["policy/freeze-delays policies/acme/all.yaml:6:25"];
    assert_eq!(at("2026-01-01T00:00:00Z"), warned);
    assert_eq!(at("2027-01-04T23:59:59Z"), warned);
    assert_eq!(at("2027-01-05T00:00:00Z"), [""; 0]);
}

#[test]
fn freezes_that_delay_a_rotation_only_together_are_both_warned_of() {
    let weekly = POLICY.replace("rotation_interval_days: 90", "rotation_interval_days: 7");
    let (one, two) = (
        freeze("one", "2026-12-20T00:00:00", "2026-12-25T00:00:00"),
        freeze("two", "2026-12-25T00:00:00", "2026-12-29T00:00:00"),
    );
    let warned = |rules: &str| {
        let files = [file("policies/rules.yaml", rules), file("policies/acme/all.yaml", format!("{weekly}---\n{KEY}"))];
        let findings = load(&files).findings;
        assert!(findings.iter().all(|finding| finding.code == "policy/freeze-delays"), "{findings:?}");
        findings.iter().map(|finding| finding.related.as_ref().unwrap().place.line).collect::<Vec<_>>()
    };
    assert_eq!(warned(&one), [0; 0]);
    assert_eq!(warned(&two), [0; 0]);
    // Each finding leads to the `until` of its own freeze.
    assert_eq!(warned(&format!("{one}---\n{two}")), [6, 13]);
}

#[test]
fn one_tenants_mistake_leaves_the_others_alone() {
    let other = |text: &str| text.replace("acme", "umbrella");
    let files = [
        file("policies/acme/all.yaml", format!("{POLICY}colour: red\n---\n{KEY}")),
        file("policies/umbrella/all.yaml", format!("{}---\n{}", other(POLICY), other(KEY))),
    ];
    let loaded = load(&files);
    assert_eq!(summary(&loaded.findings), ["schema/unknown-field policies/acme/all.yaml:7:1"]);
    let repository = &loaded.repository;
    assert!(!repository.failed);
    assert_eq!(repository.failed_tenants.iter().map(ToString::to_string).collect::<Vec<_>>(), ["acme"]);
    assert_eq!(repository.policies.keys().map(ToString::to_string).collect::<Vec<_>>(), ["umbrella/quarterly"]);
    assert_eq!(repository.keys.keys().map(ToString::to_string).collect::<Vec<_>>(), ["umbrella/backups"]);
}
