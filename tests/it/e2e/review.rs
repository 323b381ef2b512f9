//! Reviews: `plan --base` on real repositories, with and without ages, and with nothing within reach.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::approvals::House;
use super::signed::Signed;
use super::{NIGHTLY, NOON, Sandbox, actions, with_keys};

/// A repository with documents on `main`, and a branch `feature` checked out.
fn branched(config: &str, documents: &str) -> Sandbox {
    let sandbox = Sandbox::with(config, documents);
    sandbox.git(&["branch", "-m", "main"]);
    sandbox.git(&["checkout", "-qb", "feature"]);
    sandbox
}

fn review(sandbox: &Sandbox) -> Value {
    sandbox.at(NOON, &["plan", "--base", "main", "--format", "json"]).exits(0).json()
}

/// What follows from the changes: `code: message`.
fn consequences(plan: &Value) -> Vec<String> {
    let all = plan["consequences"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter().map(|it| format!("{}: {}", it["code"].as_str().unwrap(), it["message"].as_str().unwrap())).collect()
}

fn quarterly(keys: usize) -> String {
    with_keys(keys).replace("rotation_interval_days: 1", "rotation_interval_days: 90")
}

#[test]
fn a_review_shows_what_is_added_removed_changed_and_renamed() {
    let sandbox = branched("", &with_keys(3));
    let edited = with_keys(3)
        .replace("rotation_interval_days: 1", "rotation_interval_days: 7")
        .replace("key_name: key-000", "key_name: first\nprevious_name: key-000")
        .replace("key_name: key-001", "key_name: new");
    sandbox.commit(&edited);
    let plan = review(&sandbox);
    assert_eq!(actions(&plan), ["update Nightly", "rename first", "forget key-001", "create new"]);
    let change = &plan["changes"][0];
    assert_eq!(
        (&change["before"], &change["after"]),
        (&json!({"rotation_interval_days": 1}), &json!({"rotation_interval_days": 7}))
    );
    assert_eq!(plan["base"]["reference"], "main");
    assert_eq!(plan["base"]["commit"], sandbox.git(&["rev-parse", "main"]).trim());
    assert_eq!(plan["not_applicable"], "with --base");
}

#[test]
fn what_others_merged_meanwhile_is_not_in_a_review() {
    let sandbox = branched("", NIGHTLY);
    sandbox.commit(&NIGHTLY.replace("phi_data", "pii_data"));
    sandbox.git(&["checkout", "-q", "main"]);
    sandbox.write("policies/globex/keys.yaml", &NIGHTLY.replace("acme", "globex"));
    sandbox.commit_all("another tenant");
    sandbox.git(&["checkout", "-q", "feature"]);
    assert_eq!(actions(&review(&sandbox)), ["update Nightly", "update patients"]);
}

#[test]
fn a_branch_without_common_history_is_compared_with_the_ref_itself() {
    let sandbox = branched("", NIGHTLY);
    sandbox.git(&["checkout", "-q", "--orphan", "fresh"]);
    sandbox.commit(&NIGHTLY.replace("interval_days: 1", "interval_days: 2"));
    let plan = review(&sandbox);
    assert_eq!(actions(&plan), ["update Nightly"]);
    assert_eq!(plan["diagnostics"][0]["code"], "review/no-common-history");
}

#[test]
fn the_work_tree_is_reviewed_as_it_lies_and_a_ref_as_it_was_committed() {
    let sandbox = branched("", NIGHTLY);
    sandbox.write("policies/acme/keys.yaml", &NIGHTLY.replace("interval_days: 1", "interval_days: 2"));
    assert_eq!(actions(&review(&sandbox)), ["update Nightly"]);
    let committed = sandbox.at(NOON, &["plan", "--base", "main", "--ref", "feature", "--format", "json"]);
    assert_eq!(actions(&committed.exits(0).json()), [""; 0]);
}

#[test]
fn without_ages_a_review_says_what_it_does_not_know() {
    let sandbox = branched("", &quarterly(2));
    sandbox.commit(&quarterly(2).replace("rotation_interval_days: 90", "rotation_interval_days: 30"));
    assert_eq!(
        consequences(&review(&sandbox)),
        [
            "due_at_once: interval 90 to 30 days: up to 3 keys become due at once, about 2 if their ages are spread evenly; \
             how many is known with --state",
            "rate: about 37 rotations a year instead of 13",
        ]
    );
}

#[test]
fn with_a_snapshot_a_review_knows_which_keys_become_due_and_when() {
    let sandbox = branched("", &quarterly(2));
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.at(NOON, &["state", "snapshot", "--out", "ages.json"]).exits(0);
    let windows = "rotation_interval_days: 30\nrotation_windows: [{start: \"01:00\", end: \"05:00\"}]";
    sandbox.commit(&quarterly(2).replace("rotation_interval_days: 90", windows));
    let at = |instant| {
        let arguments = ["plan", "--base", "main", "--state", "ages.json", "--format", "json"];
        consequences(&sandbox.at(instant, &arguments).exits(0).json())
    };
    let rate = "rate: about 37 rotations a year instead of 13";
    assert_eq!(
        at("2026-03-10 12:00:00"),
        [
            "next: interval 90 to 30 days: no key becomes due at once; the first is due on 2026-03-31T02:00:00Z instead of \
          2026-05-30T02:00:00Z",
            rate
        ]
    );
    assert_eq!(
        at("2026-04-15 12:00:00"),
        [
            "due_at_once: interval 90 to 30 days: 3 keys become due at once, 3 of them outside their window; the first can \
          start on 2026-04-16T01:00:00Z",
            rate
        ]
    );
    assert_eq!(
        at("2026-04-16 02:00:00"),
        ["due_at_once: interval 90 to 30 days: 3 keys become due at once; the first can start at the next apply", rate]
    );
}

#[test]
fn a_review_tells_what_apply_will_refuse_and_what_it_cannot_judge() {
    let sandbox = branched("limits: {max_rotations: 2}\n", &quarterly(2));
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.at(NOON, &["state", "snapshot", "--out", "ages.json"]).exits(0);
    sandbox.commit(&quarterly(2).replace("rotation_interval_days: 90", "rotation_interval_days: 1"));
    let with_ages = ["plan", "--base", "main", "--state", "ages.json", "--format", "json"];
    let plan = sandbox.at("2026-04-15 12:00:00", &with_ages).exits(0).json();
    let said = consequences(&plan);
    assert!(said[0].starts_with("due_at_once: interval 90 to 1 day: 3 keys become due at once"), "{said:?}");
    let over = "over_limit: apply refuses more than 2 rotations at once (limits.max_rotations)".to_owned();
    assert!(said.contains(&over), "{said:?}");

    // Four of eleven policies and keys are more than 30 percent; only a snapshot knows that they are eleven.
    let sandbox = branched("", &quarterly(9));
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.at(NOON, &["state", "snapshot", "--out", "ages.json"]).exits(0);
    let few = "apiVersion: keywheel/v1\nkind: Guardrail\nname: Small steps\nrule: plan.rotations <= 5\nmessage: small steps\n";
    sandbox.write("policies/guardrails.yaml", few);
    sandbox.commit(&quarterly(5));
    let without = sandbox.at(NOON, &["plan", "--base", "main", "--format", "json"]).exits(0).json();
    assert_eq!(without["refusals"], json!([]), "{without:#}");
    let not_judged = |plan: &Value| -> Vec<(String, String)> {
        let found = plan["diagnostics"].as_array().unwrap().iter().filter(|it| it["code"] == "review/not-judged");
        let of = |it: &Value, path: &str| it.pointer(path).unwrap().as_str().unwrap().to_owned();
        found.map(|it| (of(it, "/place/file"), of(it, "/message"))).collect()
    };
    let percent =
        "how many percent of all policies and keys are removed (limits.max_percent) is judged by apply, not here";
    let rotations = "the guardrail \"Small steps\" reads plan.rotations, and a review sees no rotations and no destructions: \
                     it is judged without them here, and with them by apply";
    let of = |file: &str, message: &str| (file.to_owned(), message.to_owned());
    let rotations = of("policies/guardrails.yaml", rotations);
    assert_eq!(not_judged(&without), [of("keywheel.yaml", percent), rotations.clone()]);
    let with = sandbox.at(NOON, &with_ages).exits(3).json();
    assert_eq!(with["refusals"][0]["code"], "limits/max-percent", "{with:#}");
    let message = "4 of 11 policies and keys in all would be removed, and max_percent allows 30 %";
    assert_eq!(with["refusals"][0]["message"], message);
    assert_eq!(not_judged(&with), [rotations]);
}

#[test]
fn an_altered_snapshot_is_refused_and_so_is_a_database() {
    let sandbox = branched("", NIGHTLY);
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.at(NOON, &["state", "snapshot", "--out", "ages.json"]).exits(0);
    let ages = sandbox.read("ages.json");
    sandbox.write("altered.json", &ages.replace("2026-03-01T12", "2025-03-01T12"));
    let refused = |state: &str| sandbox.at(NOON, &["plan", "--base", "main", "--state", state]).exits(1).stderr;
    assert!(refused("altered.json").contains("it was altered"));
    for state in ["sqlite:.keywheel/state.db", "postgres://127.0.0.1:9/keywheel", "${KEYWHEEL_STATE}"] {
        assert!(refused(state).contains("a review opens no database"), "{state}");
    }
}

#[test]
fn nothing_that_a_pull_request_writes_into_keywheel_yaml_is_contacted() {
    let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [kms, postgres, environment] = &listeners[..] else { unreachable!() };
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let aws = NIGHTLY
        .replace("key_type: phi_data\n", "key_type: phi_data\nkms_provider: aws_kms\n")
        .replace("rotation_policy:", "kms_alias: alias/p\nrotation_policy:");
    let mut sandbox = branched("", &aws);
    sandbox.set("KEYWHEEL_STATE", &format!("postgres://127.0.0.1:{}/keywheel", port(environment)));
    sandbox.set("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000");
    sandbox.set("AWS_SECRET_ACCESS_KEY", "not-to-be-used");
    let config = format!(
        "apiVersion: keywheel/v1\nkind: Config\nstate: postgres://127.0.0.1:{}/keywheel\nproviders:\n  aws_kms: \
         {{region: us-east-1, endpoint_url: \"http://127.0.0.1:{}\"}}\n",
        port(postgres),
        port(kms)
    );
    sandbox.write("keywheel.yaml", &config);
    sandbox.commit(&aws.replace("interval_days: 1", "interval_days: 2"));
    assert_eq!(actions(&review(&sandbox)), ["update keywheel.yaml", "update Nightly"]);
    assert!(!sandbox.path(".keywheel").exists(), "a review leaves nothing behind");
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody was contacted");
    }
}

#[test]
fn a_mistake_is_shown_where_it_stands_and_leaves_its_tenant_out() {
    let sandbox = Sandbox::new("");
    sandbox.write("policies/globex/keys.yaml", &NIGHTLY.replace("acme", "globex"));
    sandbox.write(
        "policies/initech/keys.yaml",
        &NIGHTLY.replace("acme", "initech").replace("rotation_interval_days: 1", "rotation_interval_days: 0"),
    );
    sandbox.commit(NIGHTLY);
    sandbox.git(&["branch", "-m", "main"]);
    sandbox.git(&["checkout", "-qb", "feature"]);
    sandbox.write(
        "policies/globex/keys.yaml",
        &NIGHTLY.replace("acme", "globex").replace("interval_days: 1", "interval_days: 9"),
    );
    sandbox.commit(&NIGHTLY.replace("rotation_policy: Nightly", "rotation_policy: Nihgtly"));
    let plan = sandbox.at(NOON, &["plan", "--base", "main", "--format", "json"]).exits(7).json();
    assert_eq!(actions(&plan), ["update Nightly"], "globex's");
    let errors: Vec<&Value> =
        plan["diagnostics"].as_array().unwrap().iter().filter(|finding| finding["severity"] == "error").collect();
    assert_eq!(errors.len(), 1, "what initech had before is not this change's: {errors:#?}");
    assert_eq!(errors[0]["code"], "set/dangling-policy");
    assert_eq!(errors[0]["place"]["file"], "policies/acme/keys.yaml");
    assert_eq!(plan["left_out"], json!({"acme": "its documents have errors"}));
}

#[test]
fn a_shallow_clone_is_told_to_fetch_the_history() {
    let sandbox = branched("", NIGHTLY);
    sandbox.commit(&NIGHTLY.replace("interval_days: 1", "interval_days: 2"));
    sandbox.git(&["checkout", "-q", "main"]);
    sandbox.write("policies/globex/keys.yaml", &NIGHTLY.replace("acme", "globex"));
    sandbox.commit_all("another tenant");
    let clone = sandbox.dir().with_file_name("clone");
    let origin = format!("file://{}", sandbox.dir().display());
    sandbox.git(&["clone", "-q", "--depth", "1", "--no-single-branch", &origin, clone.to_str().unwrap()]);
    let done = sandbox
        .keywheel(&["plan", "-C", clone.to_str().unwrap(), "--base", "origin/main", "--ref", "origin/feature"])
        .exits(1);
    assert!(done.stderr.contains("shallow clone"), "{}", done.stderr);
}

#[test]
fn a_review_says_what_it_was_compared_with_and_what_follows() {
    let sandbox = branched("", &quarterly(1));
    sandbox.commit(
        &quarterly(1).replace("rotation_interval_days: 90", "rotation_interval_days: 30\nold_key_disposition: disable"),
    );
    let text = sandbox.at(NOON, &["plan", "--base", "main"]).exits(0).stdout;
    for expected in [
        "Compared with main, commit",
        "=> interval 90 to 30 days: up to 2 keys become due at once",
        "=> the old versions of 2 keys are disabled 30 days after they were replaced",
        "Plan: 1 to update.",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn a_review_tells_how_long_a_burst_at_aws_takes_and_what_it_costs() {
    let aws = |days: &str| {
        let policy = NIGHTLY
            .split_once("---")
            .unwrap()
            .0
            .replace("key_type: phi_data\n", "key_type: phi_data\nkms_provider: aws_kms\n")
            .replace("rotation_interval_days: 1", days);
        let key = |number| {
            format!(
                "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: key-{number}\nkey_type: phi_data\n\
                 kms_provider: aws_kms\nkms_region: us-east-1\nkms_alias: alias/key-{number}\nrotation_policy: Nightly\n"
            )
        };
        (0..41).fold(policy, |documents, number| documents + &key(number))
    };
    let sandbox = branched("", &aws("rotation_interval_days: 90"));
    sandbox.commit(&aws("rotation_interval_days: 30"));
    assert_eq!(
        consequences(&review(&sandbox)),
        [
            "due_at_once: interval 90 to 30 days: up to 41 keys become due at once, about 27 if their ages are spread evenly; \
             how many is known with --state",
            "burst: at AWS's quotas the burst takes at most 9 seconds",
            "cost: up to +41 USD a month while old versions are kept, which this policy never ends",
            "rate: about 499 rotations a year instead of 167",
        ]
    );
}

#[test]
fn the_trees_of_a_review_are_those_that_a_commit_of_the_same_files_has() {
    let sandbox = branched("", NIGHTLY);
    sandbox.write("policies/globex/keys.yaml", &NIGHTLY.replace("acme", "globex"));
    std::fs::remove_file(sandbox.path("policies/acme/keys.yaml")).unwrap();
    sandbox.write("policies/acme/others/keys.yaml", NIGHTLY);
    let dirty = review(&sandbox);
    sandbox.commit_all("the same");
    let clean = review(&sandbox);
    assert_eq!(dirty["sources"]["policies_tree"], sandbox.git(&["rev-parse", "HEAD:policies"]).trim());
    assert_eq!((&dirty["changes"], &dirty["digest"]), (&clean["changes"], &clean["digest"]));
    assert_eq!(actions(&clean), ["create Nightly", "create patients"], "of globex; acme's only moved");
}

#[test]
fn each_kind_of_edit_has_its_consequence() {
    let sandbox = branched("", NIGHTLY);
    let policy =
        |fields: &str| NIGHTLY.replace("rotation_interval_days: 1", &format!("rotation_interval_days: 1\n{fields}"));
    let other = "---\napiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Weekly\nkey_type: phi_data\nrotation_schedule: \"0 2 * * MON\"\n";
    for (documents, expected) in [
        (
            policy("status: suspended"),
            "suspended: 1 key is not rotated and no old version is disabled, until it is active again",
        ),
        (
            policy("old_key_disposition: destroy\ndestroy_after_disabled_days: 15"),
            "destroys: the old versions of 1 key are disabled 30 days after they were replaced, and destroyed 15 days later: what \
             they encrypted is lost",
        ),
        (
            policy("enable_rollback: false"),
            "rollback: a rotation cannot be rolled back any more (until now for 24 hours)",
        ),
        (
            NIGHTLY.split_once("---").unwrap().1.replace("rotation_policy: Nightly\n", ""),
            "unlinked: 1 key is rotated by nothing from then on",
        ),
        (NIGHTLY.replace("interval_days: 1", "interval_days: 7"), "rate: about 53 rotations a year instead of 365"),
        (NIGHTLY.replace("rotation_policy: Nightly", "rotation_policy: Weekly") + other, ""),
    ] {
        sandbox.commit(&documents);
        let found = consequences(&review(&sandbox));
        let is_as_expected = if expected.is_empty() { found.is_empty() } else { found.iter().any(|it| it == expected) };
        assert!(is_as_expected, "{expected}\n{found:#?}\n{documents}");
    }
    sandbox.commit(NIGHTLY);
    let freeze = "apiVersion: keywheel/v1\nkind: Freeze\nname: Year end\nreason: change freeze\nfrom: \"2026-12-20T00:00:00\"\nuntil: \"2027-01-05T00:00:00\"\n";
    sandbox.write("policies/guardrails.yaml", freeze);
    assert_eq!(
        consequences(&review(&sandbox)),
        ["frozen: nothing starts for 1 key from 2026-12-20 00:00 until 2027-01-05 00:00 (UTC)"]
    );
}

#[test]
fn a_key_that_moves_to_a_stricter_policy_may_become_due() {
    let weekly = NIGHTLY.replace("interval_days: 1", "interval_days: 7");
    let sandbox = branched("", &weekly);
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.at(NOON, &["state", "snapshot", "--out", "ages.json"]).exits(0);
    let daily =
        weekly.split_once("---").unwrap().0.replace("Nightly", "Daily").replace("interval_days: 7", "interval_days: 1");
    sandbox.commit(&format!("{}---{daily}", weekly.replace("rotation_policy: Nightly", "rotation_policy: Daily")));
    let arguments = ["plan", "--base", "main", "--state", "ages.json", "--format", "json"];
    let plan = sandbox.at("2026-03-03 12:00:00", &arguments).exits(0).json();
    assert_eq!(actions(&plan), ["create Daily", "link patients"]);
    assert_eq!(consequences(&plan), ["due_at_once: 1 key becomes due at once; the first can start at the next apply"]);
}

#[test]
fn no_long_value_keeps_another_field_of_a_change_out_of_the_comment() {
    let rule = |description: &str, days: u32| {
        format!(
            "apiVersion: keywheel/v1\nkind: Guardrail\nname: Yearly\ndescription: {description:?}\n\
             rule: \"!has(policy.rotation_interval_days) || policy.rotation_interval_days <= {days}\"\nmessage: once a year\n"
        )
    };
    let sandbox = Sandbox::with("", NIGHTLY);
    sandbox.write("policies/guardrails.yaml", &rule("short", 365));
    sandbox.commit_all("a rule");
    for long in ["x ".repeat(4000), "y\n".repeat(4000), "z".repeat(9000)] {
        sandbox.write("policies/guardrails.yaml", &rule(long.trim_end(), 36500));
        sandbox.commit_all("looser");
        let comment = sandbox.keywheel(&["plan", "--base", "HEAD~1", "--format", "markdown"]).exits(0).stdout;
        assert!(comment.contains("<= 36500") && comment.contains("<= 365"), "{comment}");
        assert!(comment.len() < 20_000 && comment.contains('…'), "{}", comment.len());
        sandbox.git(&["reset", "-q", "--hard", "HEAD~1"]);
    }
}

/// The findings of a review with these codes: `severity code file message`.
fn findings(plan: &Value, group: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let told = |it: &Value| {
        format!(
            "{} {} {}: {}",
            text(&it["severity"]),
            text(&it["code"]),
            text(&it["place"]["file"]),
            text(&it["message"])
        )
    };
    let all = plan["diagnostics"].as_array().unwrap().iter();
    all.filter(|it| text(&it["code"]).starts_with(group)).map(told).collect()
}

#[test]
fn commits_that_none_of_their_owners_signed_are_warned_of_before_the_merge() {
    let signed = Signed::new();
    let sandbox = &signed.sandbox;
    // No database is asked: the owners are those of the commit where the branch began.
    std::fs::remove_dir_all(sandbox.path(".keywheel")).unwrap();
    sandbox.git(&["checkout", "-qb", "feature"]);
    signed.change("acme", 7, Some("ada"));
    signed.change("globex", 7, Some("bob"));
    assert_eq!(findings(&review(sandbox), "signature/"), [""; 0]);
    signed.change("globex", 8, None);
    signed.change("acme", 8, Some("bob"));
    let found = findings(&review(sandbox), "signature/");
    let short = |back: &str| sandbox.git(&["rev-parse", "--short=12", back]);
    let unsigned = format!(
        "warning signature/unsigned policies/globex/keys.yaml: commit {} of Ada <ada@example.org> changed \
         policies/globex/keys.yaml, and is not signed",
        short("HEAD~1")
    );
    assert!(found.contains(&unsigned), "{found:#?}");
    assert!(found[0].starts_with("warning signature/not-an-owner policies/acme/keys.yaml"), "{found:#?}");
    assert_eq!(found.len(), 2, "{found:#?}");
    let text = sandbox.at(NOON, &["plan", "--base", "main"]).exits(0).stdout;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in
        ["the owners of tenant globex are bob@example.org", "a squash or a rebase at the git host", "commit --amend"]
    {
        assert!(text.contains(said), "no {said}: {text}");
    }
    assert!(!sandbox.path(".keywheel").exists());
}

#[test]
fn a_branch_appoints_none_of_its_own_judges() {
    let signed = Signed::new();
    let sandbox = &signed.sandbox;
    sandbox.git(&["checkout", "-qb", "feature"]);
    sandbox.write("policies/acme/tenant.yaml", &signed.tenant("acme", "eve", ""));
    signed.commit(Some("eve"), "I own this");
    signed.change("acme", 7, Some("eve"));
    sandbox.write("keywheel.yaml", &signed.config("require_signed: false\n"));
    signed.commit(None, "and nobody signs");
    let found = findings(&review(sandbox), "signature/");
    assert_eq!(found.iter().filter(|it| it.contains("signature/unknown-key policies/acme/")).count(), 2, "{found:#?}");
    assert_eq!(found.iter().filter(|it| it.contains("signature/unsigned keywheel.yaml")).count(), 1, "{found:#?}");
    // Where nobody was asked to sign, nobody is now.
    sandbox.git(&["reset", "-q", "--hard", "main"]);
    sandbox.write("keywheel.yaml", &signed.config(""));
    signed.commit(Some("root"), "no signatures any more");
    sandbox.git(&["checkout", "-q", "-B", "main"]);
    sandbox.git(&["checkout", "-q", "-B", "feature"]);
    signed.change("acme", 7, None);
    assert_eq!(findings(&review(sandbox), "signature/"), [""; 0]);
}

#[test]
fn what_will_need_approvals_is_told_before_the_merge() {
    let documents = |interval: u32, more: &str| {
        with_keys(3).replace(
            "rotation_interval_days: 1\n",
            &format!("rotation_interval_days: {interval}\nenable_rollback: false\n{more}"),
        )
    };
    let house = House::with("approvals: {required: 2, rotations_over: 3}\n", &documents(90, ""));
    let sandbox = &house.sandbox;
    sandbox.git(&["checkout", "-qb", "feature"]);
    sandbox.commit(&documents(30, "old_key_disposition: disable\ndata_max_age_days: 3\n"));
    // The settings of before count.
    let config = sandbox.read("keywheel.yaml").replace("required: 2", "required: 0");
    sandbox.write("keywheel.yaml", &config);
    sandbox.commit_all("nobody is asked");
    let rotations =
        "if all become due at once, 4 rotations of tenant acme are more than `approvals.rotations_over` allows";
    let ending = "old versions of tenant acme will stop decrypting";
    let asked = "2 approvals by owners of tenant acme are needed then";
    let mut found = findings(&review(sandbox), "plan/approvals");
    found.sort();
    assert_eq!(
        found,
        [format!("info plan/approvals -: {rotations}: {asked}"), format!("info plan/approvals -: {ending}: {asked}")]
    );
    // Three are as many as may go without, and what stays readable needs nobody.
    sandbox.git(&["reset", "-q", "--hard", "main"]);
    sandbox.commit(&documents(30, "").replacen("rotation_policy: Nightly\n", "", 1));
    assert_eq!(findings(&review(sandbox), "plan/approvals"), [""; 0]);
    // One owner is too few for two approvals.
    sandbox.git(&["reset", "-q", "--hard", "main"]);
    house.tenant(&house.owner("ben", "ben", ""));
    sandbox.commit_all("he is alone");
    sandbox.git(&["checkout", "-q", "-B", "main"]);
    sandbox.git(&["checkout", "-q", "-B", "feature"]);
    sandbox.commit(&documents(90, "old_key_disposition: disable\ndata_max_age_days: 3\n"));
    let found = findings(&review(sandbox), "plan/approvals");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("warning plan/approvals") && found[0].ends_with("and 1 of them can sign"),
        "{found:#?}"
    );
}

#[test]
fn keys_that_time_makes_due_no_longer_are_told_and_a_base_with_errors_is_no_empty_one() {
    let sandbox = branched("limits: {max_removals: 1}\n", &with_keys(3));
    let by_hand = "rotation_trigger: manual\n";
    sandbox.commit(&with_keys(3).replace("rotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"\n", by_hand));
    let plan = review(&sandbox);
    let told = "unscheduled: 4 keys no longer become due by time: nothing but a person's `rotate` rotates them";
    assert_eq!(consequences(&plan), [told]);
    assert!(
        plan["changes"][0]["reason"]["message"].as_str().unwrap().contains("no interval any more, which was 1 day")
    );
    // A single key that moves to such a policy.
    let moved = NIGHTLY.replacen("rotation_policy: Nightly", "rotation_policy: By hand", 1);
    let other = "---\napiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: By hand\nkey_type: phi_data\nrotation_trigger: manual\n";
    sandbox.git(&["reset", "-q", "--hard", "main"]);
    sandbox.commit(NIGHTLY);
    sandbox.git(&["branch", "-f", "main"]);
    sandbox.commit(&format!("{moved}{other}"));
    let plan = review(&sandbox);
    assert!(
        consequences(&plan).iter().any(|it| it.starts_with("unscheduled: 1 key no longer becomes due")),
        "{plan:#}"
    );
    // What a limit asks for is not named by the digest of a review.
    sandbox.git(&["reset", "-q", "--hard", "main"]);
    sandbox.commit(&with_keys(3));
    sandbox.git(&["branch", "-f", "main"]);
    sandbox.commit(NIGHTLY);
    let refused = sandbox.at(NOON, &["plan", "--base", "main"]).exits(3);
    assert!(refused.stdout.contains("the plan that apply shows then"), "{}", refused.stdout);
    assert!(!refused.stdout.contains("--override-limits sha256"), "{}", refused.stdout);
    // The base is broken, and its repair is no new key.
    sandbox.git(&["reset", "-q", "--hard", "main"]);
    sandbox.commit(&NIGHTLY.replace("rotation_interval_days", "rotation_intervall_days"));
    sandbox.git(&["branch", "-f", "main"]);
    sandbox.commit(NIGHTLY);
    let plan = review(&sandbox);
    assert!(plan["diagnostics"].as_array().unwrap().iter().any(|it| it["code"] == "review/base-errors"), "{plan:#}");
}
