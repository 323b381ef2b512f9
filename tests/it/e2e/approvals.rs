//! Approvals: what takes away that something decrypts is applied with the signatures of several owners alone, made by real
//! `ssh-keygen` keys, and never with those of who wrote it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::{NOON, Sandbox, actions};
use crate::support::sandbox::Done;

const APPLY: &[&str] = &["apply", "--auto-approve"];
const OUT: &[&str] = &["plan", "--out", "plan.json"];
/// When the first version is to be disabled, three days after its rotation.
const RETAINED: &str = "2026-03-05 12:01:00";

/// A quarterly policy that disables its old versions.
pub(super) const DOCUMENTS: &str = "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Quarterly\n\
    key_type: phi_data\nrotation_interval_days: 90\nenable_rollback: false\nretain_old_keys_days: 3\n\
    old_key_disposition: disable\ndata_max_age_days: 3\n---\n\
    apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: patients\nkey_type: phi_data\n\
    rotation_policy: Quarterly\n";

/// A repository with owners, and their keys.
pub(super) struct House {
    pub(super) sandbox: Sandbox,
    keys: tempfile::TempDir,
}

impl House {
    /// Two approvals are asked for. `ada` (who commits), `ben` and `cleo` own tenant acme, `root` the repository, `eve` nothing.
    /// Its key was made at noon, and rotated by hand on the day after.
    fn new() -> Self {
        Self::with("approvals: {required: 2}\n", DOCUMENTS)
    }

    pub(super) fn with(config: &str, documents: &str) -> Self {
        let house = Self { sandbox: Sandbox::new(""), keys: tempfile::tempdir().unwrap() };
        for person in ["ada", "ben", "cleo", "root", "eve", "spare"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-C", "", "-N", "", "-f"]).arg(house.key(person));
            assert!(command.status().expect("ssh-keygen is not installed: tests/run installs it").success());
        }
        house.sandbox.write(
            "keywheel.yaml",
            &format!("apiVersion: keywheel/v1\nkind: Config\n{config}owners:\n{}", house.owner("root", "root", "")),
        );
        let owners: String = ["ada", "ben", "cleo"].map(|person| house.owner(person, person, "")).concat();
        house.tenant(&owners);
        house.sandbox.write("policies/acme/keys.yaml", documents);
        house.sandbox.commit_all("a house");
        house.sandbox.at(NOON, APPLY).exits(0);
        let rotate = ["rotate", "acme/patients", "--reason", "a test", "--auto-approve"];
        house.sandbox.at("2026-03-02 12:00:00", &rotate).exits(0);
        house
    }

    pub(super) fn tenant(&self, owners: &str) {
        let text = format!("apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: acme\nowners:\n{owners}");
        self.sandbox.write("policies/acme/tenant.yaml", &text);
    }

    /// An entry of `owners`.
    pub(super) fn owner(&self, person: &str, key: &str, more: &str) -> String {
        let public = fs::read_to_string(self.keys.path().join(format!("{key}.pub"))).unwrap();
        format!("- principal: {person}@example.org\n  signing_key: {}\n{more}", public.trim())
    }

    pub(super) fn key(&self, person: &str) -> PathBuf {
        self.keys.path().join(person)
    }

    pub(super) fn approve(&self, at: &str, person: &str) -> Done {
        let key = self.key(person);
        let key = key.to_str().unwrap();
        self.sandbox.at(at, &["approve", "plan.json", "--sign-with", key, "--auto-approve"]).exits(0)
    }

    pub(super) fn apply(&self, at: &str, status: i32) -> Done {
        self.sandbox.at(at, &["apply", "plan.json"]).exits(status)
    }

    /// Fails unless apply refuses the plan for want of approvals, changes nothing, and says each of these.
    fn refused(&self, at: &str, said: &[&str]) {
        let before = self.sandbox.state();
        let done = self.apply(at, 3).error("apply/approvals");
        let text = done.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for said in said {
            assert!(text.contains(said), "no {said:?}: {text}");
        }
        assert!(self.sandbox.state() == before, "something was changed");
        assert_eq!(self.first(), "deactivated");
    }

    /// The state of the key's first version.
    fn first(&self) -> Value {
        self.sandbox.sql("SELECT state FROM key_versions WHERE number = 1").remove(0)["state"].take()
    }
}

#[test]
fn what_stops_decrypting_is_approved_by_two_owners_who_did_not_write_it() {
    let house = House::new();
    let needed = "1 version of tenant acme would stop decrypting: 2 approvals by owners of tenant acme are needed";
    house.sandbox.at(RETAINED, OUT).exits(0).says(needed);
    let annotated = house.sandbox.at(RETAINED, &["plan", "--format", "github"]).exits(0).stdout;
    assert!(
        annotated.contains("file=keywheel.yaml,line=3,endLine=3,col=23,endColumn=24,title=plan/approvals::"),
        "{annotated}"
    );
    house.refused(
        RETAINED,
        &["2 approvals by owners of tenant acme", "there is none", "ben@example.org, cleo@example.org may approve"],
    );
    house.approve("2026-03-05 12:02:00", "ben");
    house.refused("2026-03-05 12:03:00", &["there is 1, of ben@example.org"]);
    // Whoever signs twice is one person.
    house.approve("2026-03-05 12:04:00", "ben");
    house.refused("2026-03-05 12:05:00", &["there is 1, of ben@example.org"]);
    let said = house.approve("2026-03-05 12:06:00", "cleo");
    assert!(said.stdout.contains("Signed with SHA256:") && said.stdout.contains("3 approvals"), "{}", said.stdout);
    let shown = house.sandbox.at("2026-03-05 12:06:30", &["show", "plan.json"]).exits(0);
    assert_eq!(shown.stdout.matches("approved with SHA256:").count(), 3, "{}", shown.stdout);
    let given = "Approved: 2 of 2 approvals by owners of tenant acme.";
    assert!(
        shown.stdout.contains(given) && shown.stdout.contains("It can be applied until 2026-03-12T"),
        "{}",
        shown.stdout
    );
    let expired = house.sandbox.at("2026-03-15 12:00:00", &["show", "plan.json"]).exits(0).stdout;
    assert!(expired.contains("It expired on 2026-03-12T") && !expired.contains("can be applied"), "{expired}");
    house.apply("2026-03-05 12:07:00", 0);
    assert_eq!(house.first(), "disabled");

    let entries =
        house.sandbox.sql("SELECT after, tenant_id, correlation_id FROM audit_log WHERE action = 'plan.approved'");
    let approved: Vec<Value> =
        entries.iter().map(|it| serde_json::from_str(it["after"].as_str().unwrap()).unwrap()).collect();
    let principals: Vec<_> = approved.iter().map(|it| &it["principal"]).collect();
    assert_eq!(principals, ["ben@example.org", "cleo@example.org"], "{approved:#?}");
    let plan: Value = serde_json::from_str(&house.sandbox.read("plan.json")).unwrap();
    let kept = |approval: &Value| {
        plan["approvals"].as_array().unwrap().iter().any(|it| it["signature"] == approval["signature"])
    };
    assert!(approved.iter().all(|it| it["digest"] == plan["digest"] && kept(it)), "{approved:#?}");
    assert!(entries.iter().all(|it| it["tenant_id"] == "acme"), "{entries:#?}");
    house.sandbox.at("2026-03-05 12:08:00", &["audit", "verify"]).exits(0);
}

#[test]
fn without_approvals_everything_else_is_applied_and_that_waits() {
    let house = House::new();
    let keys = format!("{DOCUMENTS}---\n{}", DOCUMENTS.split_once("---\n").unwrap().1.replace("patients", "archive"));
    house.sandbox.write("policies/acme/keys.yaml", &keys);
    house.sandbox.commit_all("one more key");
    let done = house.sandbox.at(RETAINED, &[APPLY, &["--format", "json"]].concat()).exits(0);
    let lines = done.json_lines();
    let plan = lines.iter().find(|line| line["type"] == "plan").unwrap();
    let plan = &plan["plan"];
    assert_eq!(actions(plan), ["create archive"], "{plan:#}");
    assert_eq!(plan["waiting"][0]["reason"]["code"], "approval", "{plan:#}");
    assert_eq!(house.first(), "deactivated");
    // A plan shows it as what would be done.
    let plan = house.sandbox.at(RETAINED, &["plan", "--format", "json"]).exits(0).json();
    assert_eq!(actions(&plan), ["disable patients"], "{plan:#}");
}

#[test]
fn what_waits_for_approval_is_told_once_and_not_once_it_was_approved() {
    let receiver = "key_type: phi_data\nnotification_settings: {slack_webhook: \"${SLACK}\"}\nrotation_interval_days";
    let documents = DOCUMENTS.replace("key_type: phi_data\nrotation_interval_days", receiver);
    let house = || House::with("approvals: {required: 2}\nsecrets: {acme: [SLACK]}\n", &documents);
    let told = |house: &House| {
        let query = "SELECT payload ->> 'text' AS text FROM outbox WHERE payload ->> 'kind' = 'approval_needed'";
        house.sandbox.sql(query).into_iter().map(|mut row| row["text"].take()).collect::<Vec<_>>()
    };
    let approved = |house: &House| {
        house.sandbox.at("2026-03-05 13:00:00", OUT).exits(0);
        house.approve("2026-03-05 13:01:00", "ben");
        house.approve("2026-03-05 13:01:00", "cleo");
        house.apply("2026-03-05 13:02:00", 0);
        assert_eq!(house.first(), "disabled");
    };
    let text = "version 1 of acme/patients waits to be disabled: it needs 2 approvals by owners of tenant acme: keywheel \
                plan --out FILE, keywheel approve FILE, keywheel apply FILE";
    let waiting = house();
    for minute in 10..15 {
        waiting.sandbox.at(&format!("2026-03-05 12:{minute}:00"), APPLY).exits(0);
        assert_eq!(told(&waiting), [text]);
    }
    approved(&waiting);
    waiting.sandbox.at("2026-03-05 14:00:00", APPLY).exits(0);
    assert_eq!(told(&waiting), [text]);

    let in_time = house();
    approved(&in_time);
    in_time.sandbox.at("2026-03-05 14:00:00", APPLY).exits(0);
    assert_eq!(told(&in_time), [""; 0]);
}

#[test]
fn no_override_stands_in_for_an_approval() {
    let house = House::with("approvals: {required: 1}\nlimits: {max_destructions: 0}\n", DOCUMENTS);
    house.sandbox.at(RETAINED, OUT).exits(3);
    let plan: Value = serde_json::from_str(&house.sandbox.read("plan.json")).unwrap();
    let digest = plan["digest"].as_str().unwrap();
    let overridden = ["apply", "plan.json", "--override-limits", digest, "--reason", "agreed"];
    house.sandbox.at(RETAINED, &overridden).exits(3).error("apply/approvals");
    assert_eq!(house.first(), "deactivated");
    // Nor does an approval lift a limit.
    house.approve(RETAINED, "ben");
    house.apply(RETAINED, 3).error("apply/limits");
    house.sandbox.at(RETAINED, &overridden).exits(0);
    assert_eq!(house.first(), "disabled");
}

#[test]
fn signatures_that_do_not_count_are_named_with_why() {
    let house = House::new();
    house.sandbox.at(RETAINED, OUT).exits(0);
    for person in ["ada", "root", "eve"] {
        house.approve(RETAINED, person);
    }
    let why = [
        "ada@example.org wrote commit",
        "root@example.org is an owner of the repository",
        "is no owner's key",
        "there is none",
    ];
    house.refused(RETAINED, &why);
    // An approval of one plan is none of another.
    let approvals = serde_json::from_str::<Value>(&house.sandbox.read("plan.json")).unwrap()["approvals"].take();
    house.sandbox.write("keywheel-notes.txt", "");
    let attest = ["attest", "acme/patients", "1", "rewrapped", "--reason", "checked", "--auto-approve"];
    house.sandbox.at("2026-03-05 12:02:00", &attest).exits(0);
    house.sandbox.at("2026-03-05 12:03:00", &["plan", "--out", "other.json"]).exits(0);
    let take = ["approve", "other.json", "--take-from", "plan.json"];
    house.sandbox.at("2026-03-05 12:03:00", &take).exits(1).error("approve/another-plan");
    assert_eq!(approvals.as_array().unwrap().len(), 3);
}

#[test]
fn an_altered_approval_is_noticed() {
    let house = House::new();
    house.sandbox.at(RETAINED, OUT).exits(0);
    house.approve(RETAINED, "ben");
    let altered = house
        .sandbox
        .read("plan.json")
        .replace("\"approved_at\":\"2026-03-05T12:01", "\"approved_at\":\"2026-03-05T12:00");
    assert_ne!(altered, house.sandbox.read("plan.json"));
    house.sandbox.write("plan.json", &altered);
    house.sandbox.at(RETAINED, &["apply", "plan.json"]).exits(4).error("plan/file");
}

#[test]
fn two_people_approve_two_copies() {
    let house = House::new();
    house.sandbox.at(RETAINED, OUT).exits(0);
    fs::copy(house.sandbox.path("plan.json"), house.sandbox.path("copy.json")).unwrap();
    house.sandbox.at(RETAINED, &["approve", "plan.json", "--take-from", "copy.json"]).exits(1).error("approve/none");
    house.approve(RETAINED, "ben");
    fs::rename(house.sandbox.path("plan.json"), house.sandbox.path("bens.json")).unwrap();
    fs::rename(house.sandbox.path("copy.json"), house.sandbox.path("plan.json")).unwrap();
    house.approve(RETAINED, "cleo");
    house.sandbox.at(RETAINED, &["approve", "plan.json", "--take-from", "bens.json"]).exits(0).says("2 approvals");
    house.apply("2026-03-05 12:03:00", 0);
    assert_eq!(house.first(), "disabled");
}

#[test]
fn a_key_that_is_revoked_or_past_its_last_day_approves_nothing() {
    let house = House::new();
    let owners = [
        house.owner("ben", "ben", "  revoked: true\n"),
        house.owner("cleo", "cleo", "  valid_before: \"2026-03-05\"\n"),
        house.owner("dan", "spare", ""),
    ];
    house.tenant(&owners.concat());
    house.sandbox.commit_all("owners");
    house.sandbox.at("2026-03-03 12:00:00", APPLY).exits(0);
    house.sandbox.at(RETAINED, OUT).exits(0);
    house.approve(RETAINED, "ben");
    house.approve(RETAINED, "cleo");
    house.approve(RETAINED, "spare");
    // Signed on its last day, and applied on the next.
    house.refused(
        "2026-03-06 00:01:00",
        &[
            "the key of ben@example.org is revoked",
            "the key of cleo@example.org has expired",
            "there is 1, of dan@example.org",
        ],
    );
    house.apply("2026-03-05 23:59:00", 0);
    assert_eq!(house.first(), "disabled");
}

#[test]
fn how_many_are_asked_counts_as_it_was_applied_last() {
    let house = House::new();
    let config = house.sandbox.read("keywheel.yaml").replace("required: 2", "required: 0");
    house.sandbox.write("keywheel.yaml", &config);
    house.sandbox.commit_all("nobody is asked");
    house.sandbox.at(RETAINED, OUT).exits(0).says("2 approvals by owners of tenant acme are needed");
    house.refused(RETAINED, &["there is none"]);
    house.sandbox.at(RETAINED, APPLY).exits(0);
    assert_eq!(house.first(), "deactivated", "the apply that lowers the bar does not use it");
    house.sandbox.at("2026-03-05 12:05:00", APPLY).exits(0);
    assert_eq!(house.first(), "disabled");
}

#[test]
fn more_rotations_than_usual_are_approved_too() {
    let keys: String = (0..3)
        .map(|number| {
            format!("---\n{}", DOCUMENTS.split_once("---\n").unwrap().1.replace("patients", &format!("key-{number}")))
        })
        .collect();
    let keys = format!("{DOCUMENTS}{keys}").replace("old_key_disposition: disable\ndata_max_age_days: 3\n", "");
    let house = House::with("approvals: {required: 1, rotations_over: 3}\n", &keys);
    let rotations = || {
        house.sandbox.sql("SELECT count(*) AS count FROM rotations WHERE workflow = 'rotate'").remove(0)["count"].take()
    };
    house.sandbox.at("2026-05-31 12:00:00", APPLY).exits(0);
    assert_eq!(rotations(), json!(1), "all four wait, but for what a person did by hand");
    let needed = "4 rotations of tenant acme are more than `approvals.rotations_over` allows";
    house.sandbox.at("2026-05-31 12:00:00", OUT).exits(0).says(needed);
    house.approve("2026-05-31 12:01:00", "cleo");
    house.apply("2026-05-31 12:02:00", 0);
    assert_eq!(rotations(), json!(5));
    // Three are as many as may go without.
    let rotate = ["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"];
    house.sandbox.at("2026-08-29 12:00:00", &rotate).exits(0);
    house.sandbox.at("2026-08-29 12:01:00", APPLY).exits(0);
    assert_eq!(rotations(), json!(9));
}

#[test]
fn whoever_last_changed_a_policy_does_not_approve_its_rotations_either() {
    let keys: String = (0..3)
        .map(|number| {
            format!("---\n{}", DOCUMENTS.split_once("---\n").unwrap().1.replace("patients", &format!("key-{number}")))
        })
        .collect();
    let keys = format!("{DOCUMENTS}{keys}").replace("old_key_disposition: disable\ndata_max_age_days: 3\n", "");
    let house = House::with("approvals: {required: 1, rotations_over: 1}\n", &keys);
    // Ada shortens the interval; that is applied by itself, and what follows from it waits.
    house
        .sandbox
        .write("policies/acme/keys.yaml", &keys.replace("rotation_interval_days: 90", "rotation_interval_days: 2"));
    house.sandbox.commit_all("sooner");
    house.sandbox.at(RETAINED, APPLY).exits(0);
    let saved = house.sandbox.at(RETAINED, OUT).exits(0);
    assert!(saved.stderr.contains("keywheel approve plan.json"), "{}", saved.stderr);
    house.approve(RETAINED, "ada");
    let refused = house.apply(RETAINED, 3);
    assert!(refused.stderr.contains("ada@example.org wrote commit"), "{}", refused.stderr);
    house.approve(RETAINED, "ben");
    house.apply(RETAINED, 0);
}

#[test]
fn a_change_that_lets_one_person_do_everything_alone_says_so() {
    let house = House::new();
    house.sandbox.git(&["branch", "-f", "before"]);
    let config = house.sandbox.read("keywheel.yaml");
    let told = |wanted: &str| {
        house.sandbox.commit_all("looser");
        let review = house.sandbox.at(NOON, &["plan", "--base", "before", "--format", "json"]).exits(0).json();
        for document in [review, house.sandbox.at(NOON, &["plan", "--format", "json"]).exits(0).json()] {
            let found = document["diagnostics"].as_array().unwrap().iter().find(|it| it["code"] == "plan/fewer-eyes");
            let message = found.map_or("", |it| it["message"].as_str().unwrap());
            assert!(message.contains(wanted) && found.is_some() != wanted.is_empty(), "{message} for {wanted:?}");
        }
        house.sandbox.git(&["reset", "-q", "--hard", "before"]);
    };
    house.sandbox.write("keywheel.yaml", &config.replace("required: 2", "required: 0"));
    told("nothing needs approvals any more");
    house.sandbox.write("keywheel.yaml", &config.replace("required: 2", "required: 1"));
    told("1 approval suffices where 2 were asked for");
    house.sandbox.write("keywheel.yaml", &config.replace("required: 2", "required: 3"));
    told("");
    house.tenant(&["ada", "eve"].map(|person| house.owner(person, person, "")).concat());
    told("the owners of tenant acme change");
}

#[test]
fn whoever_approves_is_told_whether_their_key_is_an_owners() {
    let house = House::new();
    house.sandbox.at(RETAINED, OUT).exits(0);
    house
        .approve(RETAINED, "ben")
        .says("the key of ben@example.org, an owner of tenant acme. plan.json has 1 approval");
    house.approve(RETAINED, "eve").says("which is no owner's key by the documents here: it will not count");
}

#[test]
fn without_signed_commits_nobody_knows_who_wrote_a_change_and_that_is_said() {
    let house = House::new();
    house.sandbox.at(NOON, &["validate"]).exits(0).says("config/approvals-unsigned");
    let config = house.sandbox.read("keywheel.yaml").replace("approvals:", "require_signed: true\napprovals:");
    house.sandbox.write("keywheel.yaml", &config);
    let said = house.sandbox.at(NOON, &["validate"]).exits(0);
    assert!(!said.stdout.contains("config/approvals-unsigned"), "{}", said.stdout);
}

#[test]
fn what_is_only_to_be_read_is_not_approved_and_nobody_is_asked_blindly() {
    let house = House::new();
    house.sandbox.at(RETAINED, &[OUT, &["--as-of", "2026-03-20"]].concat()).exits(0);
    let key = house.key("ben");
    let key = key.to_str().unwrap();
    let approve = ["approve", "plan.json", "--sign-with", key];
    house.sandbox.at(RETAINED, &[&approve[..], &["--auto-approve"]].concat()).exits(1).error("approve/not-applicable");
    house.sandbox.at(RETAINED, OUT).exits(0);
    house.sandbox.at(RETAINED, &approve).exits(1).error("approve/nobody-to-ask");
    let nobody = ["approve", "plan.json", "--sign-with", "/nobody/has/this.pub", "--auto-approve"];
    house.sandbox.at(RETAINED, &nobody).exits(1).error("approve/signature");
    assert!(!house.sandbox.read("plan.json").contains("SSH SIGNATURE"), "nothing was signed");
}

#[test]
fn too_few_owners_who_can_sign_are_told_of_before_where_they_are_named() {
    let house = House::with("approvals: {required: 3}\n", DOCUMENTS);
    let told = |at: &str| {
        let said = house.sandbox.at(at, &["validate", "--format", "json"]).exits(0).json();
        let found =
            said["diagnostics"].as_array().unwrap().iter().find(|it| it["code"] == "set/too-few-owners").cloned();
        found.map_or_else(
            || "nothing".to_owned(),
            |it| {
                let place = &it["place"];
                format!("{}:{} {}", place["file"].as_str().unwrap(), place["line"], it["message"].as_str().unwrap())
            },
        )
    };
    let owners = |all: &[(&str, &str, &str)]| {
        house.tenant(&all.iter().map(|(person, key, more)| house.owner(person, key, more)).collect::<String>());
    };
    assert_eq!(told(NOON), "nothing");
    let two = "policies/acme/tenant.yaml:4 3 approvals are asked for, and 2 owners named here can sign: nothing of acme could be approved";
    let (ada, ben) = (("ada", "ada", ""), ("ben", "ben", ""));
    owners(&[ada, ben]);
    assert_eq!(told(NOON), two);
    house.sandbox.at(NOON, &["plan"]).exits(0).says("set/too-few-owners").says("2 owners named here can sign");
    owners(&[ada, ben, ("cleo", "cleo", "  revoked: true\n")]);
    assert_eq!(told(NOON), two, "a lost key is nobody's");
    owners(&[ada, ben, ("Ben", "spare", "")]);
    assert_eq!(told(NOON), two, "whoever has two keys is one person");
    owners(&[ada, ben, ("cleo", "cleo", "  valid_before: \"2026-03-20\"\n")]);
    assert_eq!(told("2026-03-20 23:00:00"), "nothing", "on its last day it signs");
    assert_eq!(told("2026-03-21 00:00:10"), two);
    owners(&[ada, ben, ("cleo", "cleo", "  valid_after: \"2026-03-20\"\n")]);
    assert_eq!(told(NOON), "nothing", "it will sign");
    // What the owners of the repository say of a key counts for every tenant.
    owners(&[ada, ben, ("cleo", "cleo", "")]);
    let config = house.sandbox.read("keywheel.yaml");
    house.sandbox.write("keywheel.yaml", &(config.clone() + &house.owner("cleo", "cleo", "  revoked: true\n")));
    assert_eq!(told(NOON), two);
    house.sandbox.write("keywheel.yaml", &config);
    // A tenant without owners of its own is the repository's.
    house.tenant("");
    house.sandbox.write("policies/acme/tenant.yaml", "apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: acme\n");
    let one = "3 approvals are asked for, and 1 owner named here can sign: nothing of acme could be approved";
    assert_eq!(told(NOON), format!("keywheel.yaml:4 {one}"));
    // So are rotations of several tenants together.
    let three = [ada, ben, ("cleo", "cleo", "")];
    owners(&three);
    for file in ["tenant", "keys"] {
        let text = house.sandbox.read(&format!("policies/acme/{file}.yaml")).replace("acme", "globex");
        house.sandbox.write(&format!("policies/globex/{file}.yaml"), &text);
    }
    assert_eq!(told(NOON), "nothing");
    house.sandbox.write("keywheel.yaml", &config.replace("required: 3", "required: 3, rotations_over: 9"));
    assert!(
        told(NOON).contains("1 owner named here can sign: more rotations of all tenants together"),
        "{}",
        told(NOON)
    );
}

#[test]
fn an_approval_counts_for_seven_days_from_when_it_was_given() {
    let house = House::new();
    house.sandbox.at(RETAINED, OUT).exits(0);
    house.approve("2026-03-05 12:30:00", "ben");
    house.approve("2026-02-26 12:00:00", "cleo");
    let why =
        ["is of the future, 2026-03-05T12:30:00Z", "is of 2026-02-26T12:00:00Z, more than 7 days ago", "there is none"];
    house.refused("2026-03-05 12:02:00", &why);
    // Clocks differ by minutes.
    house.approve("2026-03-05 12:06:00", "ben");
    house.refused("2026-03-05 12:02:00", &["there is 1, of ben@example.org"]);
    house.approve("2026-02-26 12:10:00", "cleo");
    house.apply("2026-03-05 12:02:00", 0);
    assert_eq!(house.first(), "disabled");
}

#[test]
fn a_key_whose_first_day_is_to_come_approves_nothing_before_it() {
    let house = House::new();
    let owners = [
        house.owner("ben", "ben", ""),
        house.owner("cleo", "cleo", "  valid_after: \"2026-03-06\"\n"),
        house.owner("dan", "spare", ""),
    ];
    house.tenant(&owners.concat());
    house.sandbox.commit_all("owners");
    house.sandbox.at("2026-03-03 12:00:00", APPLY).exits(0);
    house.sandbox.at(RETAINED, OUT).exits(0);
    house.approve(RETAINED, "ben");
    house.approve(RETAINED, "cleo");
    let early = ["the key of cleo@example.org was not valid yet", "there is 1, of ben@example.org"];
    house.refused(RETAINED, &early);
    // That it is valid by now does not help what was signed before.
    house.refused("2026-03-06 12:00:00", &early);
    house.approve("2026-03-06 12:00:00", "cleo");
    house.apply("2026-03-06 12:01:00", 0);
    assert_eq!(house.first(), "disabled");
}

#[test]
fn the_owners_of_the_repository_approve_for_a_tenant_without_its_own() {
    let house = House::with("approvals: {required: 1}\n", DOCUMENTS);
    fs::remove_file(house.sandbox.path("policies/acme/tenant.yaml")).unwrap();
    house.sandbox.commit_all("nobody in particular");
    house.sandbox.at("2026-03-03 12:00:00", APPLY).exits(0);
    let needed = "1 version of tenant acme would stop decrypting: 1 approval by owners of tenant acme is needed";
    house.sandbox.at(RETAINED, OUT).exits(0).says(needed);
    house.approve(RETAINED, "ben");
    house.refused(RETAINED, &["is no owner's key", "root@example.org may approve"]);
    house.approve(RETAINED, "root");
    house.apply("2026-03-05 12:02:00", 0);
    assert_eq!(house.first(), "disabled");
    let told = house.sandbox.sql(
        "SELECT tenant_id, json_extract(after, '$.principal') AS principal FROM audit_log WHERE action = 'plan.approved'",
    );
    assert_eq!(told, [json!({ "tenant_id": "acme", "principal": "root@example.org" })]);
}

#[test]
fn an_orphan_is_destroyed_by_hand_with_approvals_of_that_very_plan() {
    let house = House::new();
    house.sandbox.at(RETAINED, OUT).exits(0);
    for person in ["ben", "cleo"] {
        house.approve(RETAINED, person);
    }
    house.apply(RETAINED, 0);
    // A twin that a lost answer left behind is recorded like this.
    house.sandbox.tamper("UPDATE key_versions SET orphan = 1 WHERE number = 1");
    let destroy = |at: &str, more: &[&str]| {
        let command = ["destroy", "acme/patients", "1", "--reason", "a twin"];
        house.sandbox.at(at, &[&command, more].concat())
    };
    destroy("2026-03-05 13:00:00", &["--auto-approve"]).exits(3).error("apply/approvals");
    // The approvals of what disabled it are none of this.
    destroy("2026-03-05 13:00:00", &["--auto-approve", "--approved", "plan.json"]).exits(3).error("apply/approvals");
    let before = house.sandbox.state();
    let needed = "1 version of tenant acme would stop decrypting: 2 approvals by owners of tenant acme are needed";
    destroy("2026-03-05 13:01:00", &["--out", "plan.json"]).exits(0).says(needed);
    assert!(house.sandbox.state() == before, "a plan writes nothing");
    for person in ["ben", "cleo"] {
        house.approve("2026-03-05 13:02:00", person);
    }
    house.apply("2026-03-05 13:03:00", 4);
    assert_eq!(house.first(), "disabled", "an apply is of the documents, and this is in none of them");
    destroy("2026-03-05 13:04:00", &["--auto-approve", "--approved", "plan.json"]).exits(0);
    assert_eq!(house.first(), "pending_destruction");
    let approved = house.sandbox.sql("SELECT count(*) AS count FROM audit_log WHERE action = 'plan.approved'");
    assert_eq!(approved[0]["count"], 4);
}
