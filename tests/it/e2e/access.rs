//! Who may change whose documents, and what: every cell of the table, with the real binary and commits signed by real keys.
//! And what holds whoever asks: tenants do not reach each other, and whatever was done names its run and its actor.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::signed::Signed;
use super::{NIGHTLY, NOON, Sandbox};

const APPLY: &[&str] = &["apply", "--auto-approve"];

/// Who commits: whose key signs, if any.
const WHO: &[(&str, Option<&str>)] = &[
    ("the owner of acme", Some("ada")),
    ("the owner of globex", Some("bob")),
    ("the owner of the repository", Some("root")),
    ("an owner of acme whose key is revoked", Some("lost")),
    ("a stranger", Some("eve")),
    ("somebody who does not sign", None),
];

/// Writes a change into the work tree.
type Change = fn(&Signed);

/// What is changed, and whose signature lets it through; none where no single person's does.
const WHAT: &[(&str, Option<&str>, Change)] = &[
    ("a policy of acme", Some("ada"), |it| {
        it.edit("acme", "rotation_interval_days: 1", "rotation_interval_days: 9");
    }),
    ("a new key of acme", Some("ada"), |it| {
        it.add("acme", &it.another_key("acme"));
    }),
    ("a key of acme that leaves", Some("ada"), |it| {
        it.write("policies/acme/keys.yaml", NIGHTLY.split_once("---").unwrap().0);
    }),
    ("all documents of acme that leave", Some("ada"), |it| {
        it.remove("policies/acme/keys.yaml");
    }),
    ("the owners of acme", Some("ada"), |it| {
        it.write("policies/acme/tenant.yaml", &it.tenant("acme", "eve", ""));
    }),
    ("a policy of globex", Some("bob"), |it| {
        it.edit("globex", "rotation_interval_days: 1", "rotation_interval_days: 9");
    }),
    ("the owners of globex", Some("bob"), |it| {
        it.write("policies/globex/tenant.yaml", &it.tenant("globex", "eve", ""));
    }),
    ("a key that goes from acme to globex", None, |it| {
        it.add("globex", &it.another_key("globex"));
        it.write("policies/acme/keys.yaml", NIGHTLY.split_once("---").unwrap().0);
    }),
    ("a rule for every tenant", Some("root"), |it| {
        it.write("policies/guardrails.yaml", RULE);
    }),
    ("who owns the repository", Some("root"), |it| {
        it.write("keywheel.yaml", &it.config("require_signed: true\n").replace("root@", "me@"));
    }),
    ("whether signatures are asked for", Some("root"), |it| {
        it.write("keywheel.yaml", &it.config("require_signed: false\n"));
    }),
    ("the limits", Some("root"), |it| {
        it.write("keywheel.yaml", &it.config("require_signed: true\nlimits: {max_removals: 9}\n"));
    }),
    ("a tenant's account", Some("root"), |it| {
        it.write("keywheel.yaml", &it.config(ACCOUNT));
    }),
    ("a new tenant", Some("root"), |it| {
        it.write("policies/initech/tenant.yaml", &it.tenant("initech", "eve", ""));
    }),
];

const RULE: &str =
    "apiVersion: keywheel/v1\nkind: Guardrail\nname: A year\nrule: plan.rotations <= 1000\nmessage: too many\n";
const ACCOUNT: &str = "require_signed: true\nproviders: {aws_kms: {tenants: {acme: {role_arn: \"arn:aws:iam::123456789012:role/keywheel\"}}}}\n";

impl Signed {
    fn write(&self, path: &str, text: &str) {
        self.sandbox.write(path, text);
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.sandbox.path(path)).unwrap();
    }

    fn edit(&self, tenant: &str, from: &str, to: &str) {
        let path = format!("policies/{tenant}/keys.yaml");
        self.write(&path, &self.sandbox.read(&path).replace(from, to));
    }

    fn add(&self, tenant: &str, document: &str) {
        let path = format!("policies/{tenant}/keys.yaml");
        self.write(&path, &format!("{}---{document}", self.sandbox.read(&path)));
    }

    #[expect(clippy::unused_self, reason = "it is one of the steps of a change")]
    fn another_key(&self, tenant: &str) -> String {
        NIGHTLY.split_once("---").unwrap().1.replace("acme", tenant).replace("patients", "archive")
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn who_may_change_what_of_whom() {
    let signed = Signed::new();
    signed.key("lost", "ed25519");
    let lost = format!("- principal: lost@example.org\n  signing_key: {}\n  revoked: true\n", signed.public("lost"));
    signed.write("policies/acme/tenant.yaml", &signed.tenant("acme", "ada", &lost));
    signed.commit(Some("ada"), "hers is lost");
    signed.applies();
    let (base, state) = (signed.sandbox.git(&["rev-parse", "HEAD"]), signed.sandbox.path(".keywheel"));
    let kept = tempfile::tempdir().unwrap();
    copy(&state, kept.path());
    let mut wrong = Vec::new();
    for (what, may, change) in WHAT {
        for (who, signer) in WHO {
            change(&signed);
            signed.commit(*signer, what);
            let before = signed.sandbox.state();
            let done = signed.sandbox.at(NOON, APPLY).ends();
            let is_allowed = done.status == Some(0) && signed.sandbox.state() != before;
            let is_refused = done.status == Some(3)
                && done.stderr.contains("error[apply/unsigned]")
                && signed.sandbox.state() == before;
            let expected = may.is_some() && *may == *signer;
            if is_allowed != expected || is_refused == expected {
                let should = if expected { "may" } else { "may not" };
                wrong.push(format!("{who} {should} change {what}: ended with {:?}: {}", done.status, done.stderr));
            }
            signed.sandbox.git(&["reset", "-q", "--hard", &base]);
            fs::remove_dir_all(&state).unwrap();
            copy(kept.path(), &state);
        }
    }
    assert!(wrong.is_empty(), "{} of {} cells:\n{}", wrong.len(), WHO.len() * WHAT.len(), wrong.join("\n"));
}

/// What a document of globex says that would reach into acme, and the finding that it gets.
const REACHES: &[(&str, &str, &str)] = &[
    ("the policy of another tenant", "rotation_policy: Nightly\n", "set/dangling-policy"),
    ("the tenant of another folder", "TENANT", "set/tenant-mismatch"),
    (
        "the alias of another tenant",
        "kms_provider: aws_kms\nkms_region: us-east-1\nkms_alias: alias/of-acme\n",
        "set/alias-taken",
    ),
    (
        "the provider key of another tenant",
        "kms_provider: aws_kms\nkms_region: us-east-1\nkms_alias: alias/mine\nkms_key_id: arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-4b5a-4678-9abc-def012345678\n",
        "set/key-id-taken",
    ),
];

#[test]
fn no_document_reaches_into_another_tenant() {
    let acme = "apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: theirs\nkey_type: phi_data\n\
                kms_provider: aws_kms\nkms_region: us-east-1\nkms_alias: alias/of-acme\n\
                kms_key_id: arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-4b5a-4678-9abc-def012345678\n";
    for (what, fields, code) in REACHES {
        let sandbox = Sandbox::with("secrets: {acme: [ACME_HOOK]}\n", &format!("{NIGHTLY}---\n{acme}"));
        let tenant = if *fields == "TENANT" { "acme" } else { "globex" };
        let fields = fields.replace("TENANT", "");
        let key = format!(
            "apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: {tenant}\nkey_name: mine\nkey_type: phi_data\n{fields}"
        );
        sandbox.write("policies/globex/keys.yaml", &key);
        sandbox.commit_all(what);
        let found = sandbox.at(NOON, &["validate", "--format", "json"]).exits(1).json();
        let found: Vec<&str> =
            found["diagnostics"].as_array().unwrap().iter().filter_map(|it| it["code"].as_str()).collect();
        assert!(found.contains(code), "{what}: {found:?}");
    }
}

#[test]
fn a_secret_of_one_tenant_is_named_by_no_other() {
    let sandbox = Sandbox::with("secrets: {acme: [ACME_HOOK]}\n", NIGHTLY);
    let policy = "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: globex\npolicy_name: Mine\nkey_type: phi_data\n\
                  rotation_interval_days: 9\nnotification_settings: {slack_webhook: \"${ACME_HOOK}\"}\n";
    sandbox.write("policies/globex/keys.yaml", policy);
    sandbox.commit_all("their webhook");
    let found = sandbox.at(NOON, &["validate", "--format", "json"]).ends();
    assert!(found.stdout.contains("ACME_HOOK") && found.status == Some(1), "{}", found.stdout);
}

#[test]
fn whatever_is_done_names_its_run_and_who_asked() {
    let mut sandbox = Sandbox::with(
        "",
        &format!("{NIGHTLY}---{}", NIGHTLY.replace("acme", "globex")).replace("---\n\napi", "---\napi"),
    );
    sandbox.write("policies/globex/keys.yaml", &NIGHTLY.replace("acme", "globex"));
    sandbox.write("policies/acme/keys.yaml", NIGHTLY);
    sandbox.commit_all("two tenants");
    sandbox.at(NOON, APPLY).exits(0);
    let night = sandbox.at("2026-03-02 02:00:10", &[APPLY, &["--format", "json"]].concat()).exits(0).report();
    sandbox.set("USER", "mallory");
    let by_hand = |sandbox: &Sandbox, command: &str| {
        sandbox.at("2026-03-02 12:00:00", &[command, "acme/patients", "--reason", "a test", "--auto-approve"]).exits(0);
    };
    for command in ["rotate", "rollback", "release", "park", "resume"] {
        by_hand(&sandbox, command);
    }
    let rotations = sandbox.sql(
        "SELECT r.correlation_id AS run, r.cause AS cause, (SELECT count(*) FROM audit_log a WHERE a.correlation_id = r.correlation_id \
         AND a.action IN ('key.created', 'key.rotated', 'key.rolled_back')) AS told, (SELECT count(*) FROM applied_plans p WHERE \
         p.correlation_id = r.correlation_id) AS plans FROM rotations r",
    );
    assert_eq!(
        rotations.len(),
        6,
        "two were made, two rotated by the clock, one rotated and rolled back by hand: {rotations:#?}"
    );
    for rotation in &rotations {
        assert_eq!(rotation["run"].as_str().unwrap().len(), 36, "{rotation:#}");
        assert!(rotation["told"].as_u64() > Some(0) && rotation["plans"] == 1, "{rotation:#}");
    }
    let by_the_clock: Vec<&Value> = rotations.iter().filter(|it| it["cause"] == "due").map(|it| &it["run"]).collect();
    assert_eq!(by_the_clock, [&night["correlation_id"], &night["correlation_id"]]);
    let by_mallory = sandbox.sql("SELECT action FROM audit_log WHERE actor = 'mallory@laptop' ORDER BY seq");
    let by_mallory: Vec<&str> = by_mallory.iter().filter_map(|it| it["action"].as_str()).collect();
    assert_eq!(by_mallory, ["key.rotated", "key.rolled_back", "key.released", "key.parked", "key.resumed"]);
    let others = sandbox.sql("SELECT DISTINCT tenant_id FROM audit_log WHERE actor = 'mallory@laptop'");
    assert_eq!(others[0]["tenant_id"], "acme");
}
