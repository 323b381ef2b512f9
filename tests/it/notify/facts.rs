//! Which facts become messages, and that each does once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{APPLY, NOON, SECRETS, TOLD, by_hand, kinds, messages, told};
use crate::e2e::aws_sandbox;
use crate::support::hostile::{Hostile, Reply, forward};
use crate::support::kms::Kms;
use crate::support::moto::Moto;
use crate::support::sandbox::Sandbox;

/// A repository with [`TOLD`]'s key in an emulator of AWS KMS; nothing is applied yet.
fn told_in_aws(endpoint: &str) -> Sandbox {
    let sandbox = aws_sandbox(endpoint);
    let config = sandbox.read("keywheel.yaml");
    sandbox.write("keywheel.yaml", &format!("{config}{SECRETS}"));
    let documents = TOLD
        .replace("key_type: phi_data\nrotation_i", "key_type: phi_data\nkms_provider: aws_kms\nrotation_i")
        .replace("rotation_policy:", "kms_provider: aws_kms\nkms_alias: alias/patients\nrotation_policy:");
    sandbox.commit(&documents);
    sandbox
}

#[test]
fn what_goes_well_is_told_to_nobody() {
    let sandbox = told();
    sandbox.at("2026-03-02 02:00:10", APPLY).exits(0);
    assert_eq!(kinds(&sandbox), [""; 0]);
}

#[test]
fn a_key_that_is_parked_is_told_once_to_each_receiver_however_many_applies_follow() {
    let sandbox = told();
    sandbox.at(NOON, &by_hand("park")).exits(0);
    for minute in 10..20 {
        sandbox.at(&format!("2026-03-01 12:{minute}:00"), APPLY).exits(0);
    }
    let text = "acme/patients is parked, and does not rotate until `keywheel resume`: an old client breaks";
    let told = [("key_parked".to_owned(), text.to_owned())];
    assert_eq!((messages(&sandbox, "webhook"), messages(&sandbox, "slack")), (told.to_vec(), told.to_vec()));
    let rows = sandbox.sql("SELECT DISTINCT tenant_id, receiver, signed_with FROM outbox ORDER BY receiver");
    let webhook = json!({"tenant_id": "acme", "receiver": "HOOK", "signed_with": "HOOK_SECRET"});
    assert_eq!(rows, [webhook, json!({"tenant_id": "acme", "receiver": "SLACK", "signed_with": null})]);
    // Parked anew is another fact.
    sandbox.at("2026-03-01 13:00:00", &by_hand("resume")).exits(0);
    sandbox.at("2026-03-01 13:01:00", &by_hand("park")).exits(0);
    assert_eq!(kinds(&sandbox), ["key_parked", "key_parked"]);
}

#[test]
fn an_emergency_is_told_with_its_incident() {
    let sandbox = told();
    let rest = ["--reason", "stolen laptop", "--auto-approve"];
    let emergency = [&["rotate", "acme/patients", "--compromised", "--incident", "INC-77"], &rest[..]].concat();
    sandbox.at("2026-03-02 02:00:10", &emergency).exits(0);
    let text = "acme/patients rotates at once: stolen laptop (incident INC-77); version 1 is marked compromised, and what \
                it encrypted still decrypts with it: encrypt that anew";
    let told = [("version_compromised".to_owned(), text.to_owned())];
    assert_eq!((messages(&sandbox, "webhook"), messages(&sandbox, "slack")), (told.to_vec(), told.to_vec()));
    let said = sandbox.sql("SELECT payload -> 'details' ->> 'incident' AS incident FROM outbox");
    assert_eq!(said[0], json!({"incident": "INC-77"}));
}

#[test]
fn a_key_that_is_held_after_a_rollback_is_told() {
    let sandbox = told();
    sandbox.at("2026-03-02 02:00:10", APPLY).exits(0);
    sandbox.at("2026-03-02 03:00:00", &by_hand("rollback")).exits(0);
    let text = "acme/patients was rolled back, and is held until `keywheel release`: an old client breaks";
    assert_eq!(messages(&sandbox, "slack"), [("key_held".to_owned(), text.to_owned())]);
}

#[test]
fn an_overdue_key_is_told_once_for_the_slot_that_it_missed_whatever_holds_it_back() {
    let freeze = "apiVersion: keywheel/v1\nkind: Freeze\nname: closing\nfrom: \"2026-03-02T00:00:00\"\n\
                  until: \"2026-03-09T00:00:00\"\nreason: the books are closed\n";
    let sandbox = told();
    sandbox.write("policies/freezes.yaml", freeze);
    sandbox.commit_all("freeze");
    sandbox.at("2026-03-02 12:00:00", APPLY).exits(0);
    assert_eq!(kinds(&sandbox), [""; 0], "its slot has passed, and it waits: no slot is missed yet");
    // A plan tells nobody.
    sandbox.at("2026-03-03 02:01:00", &["plan"]).exits(0);
    assert_eq!(kinds(&sandbox), [""; 0]);
    for day in 3..=6 {
        sandbox.at(&format!("2026-03-0{day} 12:00:00"), APPLY).exits(0);
    }
    let text = "acme/patients is overdue: its slot of 2026-03-02T02:00:00Z was missed; it waits: due, and frozen by \"closing\"";
    assert_eq!(messages(&sandbox, "webhook"), [("key_overdue".to_owned(), text.to_owned())]);
    // Another slot is another fact, and an apply that is about to rotate the key says so.
    sandbox.at("2026-03-09 12:00:00", APPLY).exits(0);
    sandbox.at("2026-03-12 12:00:00", APPLY).exits(0);
    let said = messages(&sandbox, "webhook");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].1.ends_with("was missed; this apply is about to rotate it"), "{said:?}");
}

#[test]
fn a_tenant_whose_documents_have_errors_still_hears_of_its_overdue_keys() {
    let sandbox = told();
    sandbox.commit(&format!("{TOLD}unknown_field: 1\n"));
    sandbox.at("2026-03-04 12:00:00", APPLY).exits(7);
    assert_eq!(kinds(&sandbox), ["key_overdue"]);
}

#[test]
fn each_failed_run_is_told_and_then_that_the_key_is_parked() {
    let moto = Moto::start();
    let (proxy, broken) = Hostile::that_breaks("Encrypt", Reply::error(400, "AccessDeniedException"), moto.endpoint());
    let sandbox = told_in_aws(proxy.endpoint());
    sandbox.at(NOON, APPLY).exits(0);
    broken.store(true, Ordering::SeqCst);
    sandbox.at("2026-03-02 02:00:10", &by_hand("rotate")).exits(7);
    let said = messages(&sandbox, "webhook");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].1.starts_with("the rotation of acme/patients failed (1 in a row): "), "{said:?}");
    for hour in ["03", "05", "08", "14", "21"] {
        sandbox.at(&format!("2026-03-02 {hour}:00:00"), APPLY).exits(7);
    }
    for hour in ["08", "21"] {
        sandbox.at(&format!("2026-03-03 {hour}:00:00"), APPLY).exits(7);
    }
    sandbox.at("2026-03-03 22:00:00", APPLY).exits(0);
    let mut said = kinds(&sandbox);
    said.sort_unstable();
    let mut expected = vec!["rotation_failed"; 8];
    expected.insert(0, "key_parked");
    assert_eq!(said, expected);
    // A message is there if and only if its fact is: both carry the instant of their transaction's run.
    let parked = sandbox.sql(
        "SELECT count(*) AS n FROM outbox, audit_log WHERE audit_log.action = 'key.parked'
         AND payload ->> 'kind' = 'key_parked' AND payload ->> 'correlation_id' = audit_log.correlation_id",
    );
    assert_eq!(parked, [json!({"n": 2})]);
}

#[test]
fn a_version_that_was_made_twice_is_told_and_kept_out_of_use() {
    let moto = Moto::start();
    let (endpoint, repeats) = (moto.endpoint().to_owned(), Arc::new(AtomicBool::new(false)));
    let is_repeating = repeats.clone();
    let proxy = Hostile::start(move |request| {
        if request.operation == "CreateKey" && is_repeating.load(Ordering::SeqCst) {
            // Somebody between repeats the request, and no answer comes back.
            forward(&endpoint, request);
            return Reply::ActAndHangup(endpoint.clone());
        }
        Reply::Forward(endpoint.clone())
    });
    let sandbox = told_in_aws(proxy.endpoint());
    sandbox.at(NOON, APPLY).exits(0);
    repeats.store(true, Ordering::SeqCst);
    sandbox.at("2026-03-02 02:00:10", &by_hand("rotate")).exits(0);
    let twin = sandbox.sql("SELECT provider_ref, state FROM key_versions WHERE orphan = 1");
    assert_eq!((twin.len(), &twin[0]["state"]), (1, &json!("disabled")), "{twin:?}");
    let reference = twin[0]["provider_ref"].as_str().unwrap();
    let text =
        format!("a version of acme/patients was made twice: {reference} is disabled and kept, and nothing uses it");
    assert_eq!(messages(&sandbox, "webhook"), [("version_orphaned".to_owned(), text)]);
}

#[test]
fn a_key_that_cannot_be_made_is_told_once_a_day() {
    let moto = Moto::start();
    let endpoint = moto.endpoint().to_owned();
    let proxy = Hostile::start(move |request| match request.operation.as_str() {
        "CreateKey" => Reply::error(400, "AccessDeniedException"),
        _ => Reply::Forward(endpoint.clone()),
    });
    let sandbox = told_in_aws(proxy.endpoint());
    for at in ["2026-03-01 12:00:00", "2026-03-01 13:00:00", "2026-03-02 12:00:00"] {
        let run = sandbox.at(at, APPLY).ends();
        assert_eq!(run.status, Some(7), "{}\n{}", run.stdout, run.stderr);
    }
    assert_eq!(kinds(&sandbox), ["creation_failed", "creation_failed"]);
}

#[test]
fn an_edit_that_the_key_manager_refuses_is_told_once_a_day_until_it_is_made() {
    let moto = Moto::start();
    let refusal = Reply::error(400, "AccessDeniedException");
    let (proxy, broken) = Hostile::that_breaks("UpdateKeyDescription", refusal, moto.endpoint());
    let sandbox = told_in_aws(proxy.endpoint());
    sandbox.at(NOON, APPLY).exits(0);
    broken.store(true, Ordering::SeqCst);
    sandbox.commit(&format!("{}description: of the clinic\n", sandbox.read("policies/acme/keys.yaml")));
    for hour in 13..16 {
        sandbox.at(&format!("2026-03-01 {hour}:00:00"), APPLY).exits(7);
    }
    for channel in ["webhook", "slack"] {
        let said = messages(&sandbox, channel);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, "change_failed");
        assert!(said[0].1.starts_with("acme/patients could not be updated: "), "{said:?}");
    }
    sandbox.at("2026-03-02 01:00:00", APPLY).exits(7);
    broken.store(false, Ordering::SeqCst);
    sandbox.at("2026-03-02 01:10:00", APPLY).exits(0);
    assert_eq!(kinds(&sandbox), ["change_failed", "change_failed"]);
}

#[test]
fn an_adoption_that_fails_is_told() {
    let moto = Moto::start();
    let refusal = Reply::error(400, "AccessDeniedException");
    let (proxy, broken) = Hostile::that_breaks("UpdateKeyDescription", refusal, moto.endpoint());
    let arn = Kms::new(moto.endpoint()).create("alias/patients", &json!({"Description": "somebody's"}));
    let sandbox = told_in_aws(proxy.endpoint());
    broken.store(true, Ordering::SeqCst);
    let documents = sandbox.read("policies/acme/keys.yaml");
    sandbox.commit(&format!("{documents}description: of the clinic\nkms_key_id: {arn}\n"));
    sandbox.at(NOON, APPLY).exits(7);
    let said = messages(&sandbox, "webhook");
    assert!(said.len() == 1 && said[0].1.starts_with("acme/patients could not be adopted: "), "{said:?}");
    assert_eq!(said[0].0, "change_failed");
}

#[test]
fn a_document_that_asks_for_what_cannot_be_is_told_once_a_day() {
    let moto = Moto::start();
    let sandbox = told_in_aws(moto.endpoint());
    let nothing = "kms_key_id: arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-0000-4000-8000-000000000000";
    sandbox.commit(&format!("{}{nothing}\n", sandbox.read("policies/acme/keys.yaml")));
    for hour in 13..16 {
        sandbox.at(&format!("2026-03-01 {hour}:00:00"), APPLY).exits(7);
    }
    let said = messages(&sandbox, "slack");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, "change_failed");
    assert!(said[0].1.starts_with("acme/patients cannot become what its document says: "), "{said:?}");
    sandbox.at("2026-03-02 01:00:00", APPLY).exits(7);
    assert_eq!(kinds(&sandbox), ["change_failed", "change_failed"]);
}

#[test]
fn a_role_is_assumed_once_in_a_run_and_what_is_refused_later_harms_no_rotation() {
    let (moto, refuses) = (Moto::start(), Arc::new(AtomicBool::new(false)));
    let has_looked = Arc::new(AtomicBool::new(false));
    let (endpoint, is_refusing, looking) = (moto.endpoint().to_owned(), refuses.clone(), has_looked.clone());
    // Whoever looks and whoever acts share what the role gives.
    let proxy = Hostile::start(move |request| {
        if !request.operation.is_empty() {
            looking.store(true, Ordering::SeqCst);
        }
        let acts = request.body_has("AssumeRole") && looking.load(Ordering::SeqCst);
        if acts && is_refusing.load(Ordering::SeqCst) {
            let refusal =
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
            return Reply::Answer(403, "text/xml", refusal.to_owned());
        }
        Reply::Forward(endpoint.clone())
    });
    let sandbox = told_in_aws(proxy.endpoint());
    let role = "connect_timeout: 1s, role_arn: \"arn:aws:iam::111122223333:role/keywheel\"";
    sandbox.write("keywheel.yaml", &sandbox.read("keywheel.yaml").replace("connect_timeout: 1s", role));
    sandbox.commit_all("a role");
    sandbox.at(NOON, APPLY).exits(0);
    refuses.store(true, Ordering::SeqCst);
    has_looked.store(false, Ordering::SeqCst);
    sandbox.at("2026-03-02 02:10:00", &by_hand("rotate")).exits(0);
    assert!(has_looked.load(Ordering::SeqCst), "nobody looked");
    assert_eq!(messages(&sandbox, "webhook"), [], "nothing failed");
}

#[test]
fn a_dead_key_manager_is_told_once_a_day_to_whom_the_policies_of_its_keys_name() {
    let moto = Moto::start();
    let sandbox = told_in_aws(moto.endpoint());
    let documents = sandbox.read("policies/acme/keys.yaml");
    let key = documents.split_once("---").unwrap().1.to_owned();
    let more = (1..5).map(|number| format!("---{}", key.replace("patients", &format!("key-{number}"))));
    sandbox.commit(&format!("{documents}{}", more.collect::<String>()));
    sandbox.at(NOON, APPLY).exits(0);
    drop(moto);
    for hour in 13..16 {
        sandbox.at(&format!("2026-03-01 {hour}:00:00"), APPLY).exits(7);
    }
    for channel in ["webhook", "slack"] {
        let said = messages(&sandbox, channel);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, "provider_unreachable");
        let text = "aws_kms in us-east-1 gave no usable answer about 5 keys of tenant acme (key-1, key-2, key-3, ...), and \
                    nothing is known of what is due there: ";
        assert!(said[0].1.starts_with(text), "{said:?}");
    }
    let object = sandbox.sql("SELECT DISTINCT payload ->> '$.object.kind' AS kind, tenant_id FROM outbox");
    assert_eq!(object, [json!({"kind": "Tenant", "tenant_id": "acme"})]);
    sandbox.at("2026-03-02 01:00:00", APPLY).exits(7);
    assert_eq!(kinds(&sandbox), ["provider_unreachable", "provider_unreachable"]);
}

#[test]
fn a_rotation_that_has_lost_its_key_is_told_once_a_day() {
    let sandbox = told();
    sandbox.at("2026-03-02 02:00:10", APPLY).exits(0);
    sandbox.tamper("UPDATE encryption_keys SET state = 'forgotten', removed_at = created_at");
    sandbox.tamper("UPDATE rotations SET phase = 'created', finished_at = NULL WHERE workflow = 'rotate'");
    sandbox.commit(TOLD.split_once("---").unwrap().0);
    for minute in 10..13 {
        sandbox.at(&format!("2026-03-02 12:{minute}:00"), APPLY).exits(7);
    }
    let text = "what an earlier run left of acme/patients could not be finished: an unfinished rotation of acme/patients has \
                no key in the record";
    assert_eq!(messages(&sandbox, "webhook"), [("rotation_failed".to_owned(), text.to_owned())]);
}

#[test]
fn the_end_of_an_old_version_is_told_step_by_step() {
    let terms = "rotation_interval_days: 90\nenable_rollback: false\nretain_old_keys_days: 3\ndata_max_age_days: 3\n\
                 old_key_disposition: destroy\ndestroy_after_disabled_days: 2";
    let documents = TOLD.replace("rotation_interval_days: 1", terms);
    let sandbox = Sandbox::with(SECRETS, &documents);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at("2026-03-02 12:00:00", &by_hand("rotate")).exits(0);
    for at in ["2026-03-05 12:01:00", "2026-03-07 12:02:00", "2026-04-06 12:03:00", "2026-04-06 12:10:00"] {
        sandbox.at(at, APPLY).exits(0);
    }
    let said = messages(&sandbox, "webhook");
    let kinds: Vec<&str> = said.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["version_disabled", "version_destruction_scheduled", "version_destroyed"]);
    assert!(said[0].1.starts_with("version 1 of acme/patients is disabled, and decrypts nothing: "), "{said:?}");
    assert!(said[1].1.starts_with("version 1 of acme/patients will be destroyed at 2026-04-06T12:02:"), "{said:?}");
}

#[test]
fn a_secret_that_somebody_wrote_into_a_reason_is_not_told() {
    let sandbox = told();
    let reason = "see https://hooks.slack.com/services/T0/B0/canary and xoxb-1-canary";
    sandbox.at(NOON, &["park", "acme/patients", "--reason", reason, "--auto-approve"]).exits(0);
    let payloads = sandbox.sql("SELECT payload FROM outbox");
    assert_eq!(payloads.len(), 2);
    assert!(payloads.iter().all(|row| !row.to_string().contains("canary")), "{payloads:?}");
}

#[test]
fn a_policy_without_receivers_tells_nobody() {
    let silent: String = TOLD.lines().filter(|line| !line.contains("HOOK") && !line.contains("SLACK")).fold(
        String::new(),
        |text, line| match line {
            "notification_settings:" => text,
            line => format!("{text}{line}\n"),
        },
    );
    let sandbox = Sandbox::with("", &silent);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at(NOON, &by_hand("park")).exits(0);
    assert_eq!(kinds(&sandbox), [""; 0]);
}
