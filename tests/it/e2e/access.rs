//! Who may change whose documents, and what: every cell of the table, with the real binary and commits signed by real keys.
//! And what holds whoever asks: tenants do not reach each other, and whatever was done names its run and its actor.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::approvals::{DOCUMENTS as RETIRING, House};
use super::signed::Signed;
use super::{NIGHTLY, NOON, Sandbox};

const APPLY: &[&str] = &["apply", "--auto-approve"];

/// Who commits: whose key signs, if any.
const WHO: &[(&str, Option<&str>)] = &[
    ("the owner of acme", Some("ada")),
    ("the owner of globex", Some("bob")),
    ("the owner of the repository", Some("root")),
    ("an owner of acme whose key is revoked", Some("lost")),
    ("an owner of acme whose key has expired", Some("old")),
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
    ("how many approve", Some("root"), |it| {
        it.write("keywheel.yaml", &it.config("require_signed: true\napprovals: {required: 0}\n"));
    }),
    ("which variables a tenant may read", Some("root"), |it| {
        it.write("keywheel.yaml", &it.config(&format!("{STRICT}secrets: {{acme: [ACME_HOOK]}}\n")));
    }),
    ("a freeze for every tenant", Some("root"), |it| {
        it.write("policies/freezes.yaml", FREEZE);
    }),
    ("a weaker rule for every tenant", Some("root"), |it| {
        it.write("policies/house.yaml", &HOUSE.replace("1000", "100000"));
    }),
    ("a rule for every tenant that leaves", Some("root"), |it| {
        it.remove("policies/house.yaml");
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
const HOUSE: &str =
    "apiVersion: keywheel/v1\nkind: Guardrail\nname: House\nrule: plan.rotations <= 1000\nmessage: too many\n";
const FREEZE: &str = "apiVersion: keywheel/v1\nkind: Freeze\nname: Night\nreason: none\nfrom: \"2026-12-20T00:00:00\"\nuntil: \"2026-12-21T00:00:00\"\n";
/// What holds before any of them.
const STRICT: &str = "require_signed: true\napprovals: {required: 1}\n";
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
    signed.key("old", "ed25519");
    let entry = |person: &str, more: &str| {
        format!("- principal: {person}@example.org\n  signing_key: {}\n  {more}\n", signed.public(person))
    };
    let more = [entry("lost", "revoked: true"), entry("old", "valid_before: \"2026-02-28\"")].concat();
    signed.write("policies/acme/tenant.yaml", &signed.tenant("acme", "ada", &more));
    signed.commit(Some("ada"), "hers is lost");
    signed.write("policies/house.yaml", HOUSE);
    signed.write("keywheel.yaml", &signed.config(STRICT));
    signed.commit(Some("root"), "a strict house");
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

/// A change that waits to be applied: what it is, who wrote it, whose key signed it, and the file.
const CHANGES: &[(&str, &str, Option<&str>, &str)] = &[
    ("ada's own", "ada", None, "policies/acme/keys.yaml"),
    ("eve's, with ben's signature", "eve", Some("ben"), "policies/acme/keys.yaml"),
    ("cleo's", "cleo", None, "policies/acme/keys.yaml"),
    ("dan's, who owns globex", "dan", None, "policies/acme/keys.yaml"),
    ("root's, of the repository", "root", None, "keywheel.yaml"),
    ("cleo's, of the repository", "cleo", None, "keywheel.yaml"),
];

/// Whose approval counts for which of them, in their order. Ada wrote the policy itself, and approves nothing of it.
const APPROVERS: &[(&str, [bool; 6])] = &[
    ("ada", [false; 6]),
    ("ben", [true, false, true, true, true, true]),
    ("cleo", [true, true, false, true, true, false]),
    ("dan", [false; 6]),
    ("root", [false; 6]),
    ("eve", [false; 6]),
];

#[test]
fn who_may_approve_whose_change() {
    let house = House::with("approvals: {required: 1}\n", RETIRING);
    let sandbox = &house.sandbox;
    let key = |person: &str| house.key(if person == "dan" { "spare" } else { person });
    let of_globex = house.owner("dan", "spare", "");
    sandbox.write(
        "policies/globex/tenant.yaml",
        &format!("apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: globex\nowners:\n{of_globex}"),
    );
    sandbox.commit_all("another tenant");
    sandbox.at("2026-03-03 12:00:00", APPLY).exits(0);
    let (base, state) = (sandbox.git(&["rev-parse", "HEAD"]), sandbox.path(".keywheel"));
    let kept = tempfile::tempdir().unwrap();
    copy(&state, kept.path());
    let retained = "2026-03-05 12:01:00";
    let first = || sandbox.sql("SELECT state FROM key_versions WHERE number = 1").remove(0)["state"].take();
    let mut wrong = Vec::new();
    for (index, (what, author, signer, file)) in CHANGES.iter().enumerate() {
        let text = sandbox.read(file);
        let edited = match *file {
            "keywheel.yaml" => format!("{text}limits: {{max_removals: 9}}\n"),
            _ => text.replacen("key_type: phi_data\n", "key_type: phi_data\ndescription: Edited\n", 1),
        };
        sandbox.write(file, &edited);
        sandbox.git(&["add", "-A"]);
        let (author, sign) =
            (format!("{author} <{author}@example.org>"), format!("commit.gpgsign={}", signer.is_some()));
        let signing = format!("user.signingkey={}", key(signer.unwrap_or("eve")).display());
        let as_author =
            ["-c", "gpg.format=ssh", "-c", &signing, "-c", &sign, "commit", "-qm", what, "--author", &author];
        sandbox.git(&as_author);
        sandbox
            .at(retained, &["plan", "--out", "plan.json"])
            .exits(0)
            .says("1 approval by owners of tenant acme is needed");
        let plan = sandbox.read("plan.json");
        for (who, counts) in APPROVERS {
            sandbox.write("plan.json", &plan);
            let with = key(who);
            let approve = ["approve", "plan.json", "--sign-with", with.to_str().unwrap(), "--auto-approve"];
            sandbox.at(retained, &approve).exits(0);
            let before = sandbox.state();
            let done = sandbox.at("2026-03-05 12:02:00", &["apply", "plan.json"]).ends();
            let is_approved = done.status == Some(0) && first() == "disabled";
            let is_refused =
                done.status == Some(3) && done.stderr.contains("error[apply/approvals]") && sandbox.state() == before;
            if (is_approved, is_refused) != (counts[index], !counts[index]) {
                let should = if counts[index] { "may" } else { "may not" };
                wrong.push(format!("{who} {should} approve {what}: ended with {:?}: {}", done.status, done.stderr));
            }
            fs::remove_dir_all(&state).unwrap();
            copy(kept.path(), &state);
        }
        sandbox.git(&["reset", "-q", "--hard", &base]);
    }
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_done_by_hand_goes_by_what_was_applied_whoever_changed_the_documents() {
    let signed = Signed::new();
    let base = signed.sandbox.git(&["rev-parse", "HEAD"]);
    let mut versions = 1;
    for (who, signer) in [("a stranger", Some("eve")), ("nobody", None), ("another tenant's owner", Some("bob"))] {
        signed.change("acme", 9, signer);
        signed.sandbox.at(NOON, APPLY).exits(3).error("apply/unsigned");
        for command in ["park", "resume", "rotate"] {
            let command = [command, "acme/patients", "--reason", "a test", "--auto-approve"];
            signed.sandbox.at(NOON, &command).exits(0);
        }
        versions += 1;
        let told = signed.sandbox.sql(
            "SELECT (SELECT rotation_interval_days FROM key_rotation_policies WHERE tenant_id = 'acme') AS days, \
             (SELECT count(*) FROM key_versions v JOIN encryption_keys k ON k.id = v.key_id WHERE k.tenant_id = 'acme') AS versions",
        );
        assert_eq!(told, [json!({ "days": 1, "versions": versions })], "{who} changed the policy by hand's way");
        signed.sandbox.git(&["reset", "-q", "--hard", &base]);
    }
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
