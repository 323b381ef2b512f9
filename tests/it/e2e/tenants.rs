//! Two pieces of work at once: on different tenants neither waits for the other, on one tenant they exclude each other.

use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::providers::documents;
use super::{Moto, NIGHTLY, Sandbox, aws};
use crate::support::hostile::{Hostile, Reply};
use crate::support::postgres::{Database, database};

const APPLY: &[&str] = &["apply", "--auto-approve", "--lock-timeout", "0s", "--format", "json"];
const ROTATE_ACME: &[&str] = &["rotate", "acme/key-0", "--reason", "a test", "--auto-approve", "--lock-timeout", "0s"];
const ROTATE_GLOBEX: &[&str] =
    &["rotate", "globex/patients", "--reason", "a test", "--auto-approve", "--lock-timeout", "0s"];

/// The keys of acme are in an AWS KMS that makes the next key only when it is told to; globex has local keys.
struct TwoTenants {
    sandbox: Sandbox,
    is_slow: Arc<Mutex<bool>>,
    comes: Receiver<()>,
    go_on: Sender<()>,
    _moto: Moto,
    _database: Option<Database>,
}

impl TwoTenants {
    fn begin(database: Option<Database>) -> Self {
        let moto = Moto::start();
        let ((has_come, comes), (go_on, may_go_on)) = (channel(), channel());
        let (is_slow, may_go_on, endpoint) =
            (Arc::new(Mutex::new(false)), Mutex::new(may_go_on), moto.endpoint().to_owned());
        let slow = is_slow.clone();
        let hostile = Hostile::start(move |request| {
            if request.operation == "CreateKey" && std::mem::take(&mut *slow.lock().unwrap()) {
                has_come.send(()).unwrap();
                may_go_on.lock().unwrap().recv().unwrap();
            }
            Reply::Forward(endpoint.clone())
        });
        let config = aws(hostile.endpoint()).replace("operation_timeout: 9s", "operation_timeout: 60s");
        let mut sandbox = Sandbox::new(&format!("state: ${{KEYWHEEL_STATE}}\n{config}"));
        let url = database.as_ref().map_or("sqlite:.keywheel/state.db", |database| &database.url);
        sandbox.set("KEYWHEEL_STATE", url);
        sandbox.set("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000");
        sandbox.set("AWS_SECRET_ACCESS_KEY", "not-a-secret");
        let begun = Self { sandbox, is_slow, comes, go_on, _moto: moto, _database: database };
        begun.document(1, 1);
        begun.sandbox.keywheel(APPLY).exits(0);
        begun
    }

    /// So many keys of each tenant.
    fn document(&self, acme: usize, globex: usize) {
        let local = NIGHTLY.replace("tenant_id: acme", "tenant_id: globex");
        let key = local.split_once("---").unwrap().1;
        let more = (1..globex).map(|number| format!("---{}", key.replace("patients", &format!("key-{number}"))));
        self.sandbox.write("policies/acme/keys.yaml", &documents(acme));
        self.sandbox.write("policies/globex/keys.yaml", &(local.clone() + &more.collect::<String>()));
        self.sandbox.commit_all("documents");
    }

    /// Starts a command, and comes back when it waits for AWS KMS.
    fn starts(&self, arguments: &[&str]) -> Child {
        *self.is_slow.lock().unwrap() = true;
        let mut run = self.sandbox.keywheel(arguments);
        let child = run.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.comes.recv().unwrap();
        child
    }

    /// Lets AWS KMS answer, and the command end.
    fn ends(&self, child: Child) {
        self.go_on.send(()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
    }

    fn status(&self) -> Value {
        self.sandbox.keywheel(&["status", "--format", "json"]).exits(0).json()
    }

    /// The number of the primary version of each key.
    fn versions(&self) -> Vec<(String, u64)> {
        let status = self.status();
        let version = |key: &Value| {
            let name = format!("{}/{}", key["tenant_id"].as_str().unwrap(), key["key_name"].as_str().unwrap());
            (name, key["primary_version"]["number"].as_u64().unwrap())
        };
        let mut versions: Vec<_> = status["keys"].as_array().unwrap().iter().map(version).collect();
        versions.sort();
        versions
    }
}

fn an_apply_that_waits_for_one_tenant_lets_others_be_worked_on(two: &TwoTenants) {
    two.document(2, 1);
    let apply = two.starts(APPLY);
    let locks = two.sandbox.keywheel(&["lock", "list", "--format", "json"]).exits(0).json();
    assert_eq!((&locks["locks"][0]["tenants"], &locks["locks"][0]["repository"]), (&json!(["acme"]), &json!(true)));
    two.sandbox.keywheel(ROTATE_GLOBEX).exits(0);
    // Its own tenant is its own, and there is one apply.
    two.sandbox.keywheel(ROTATE_ACME).exits(5).error("state/locked");
    two.sandbox.keywheel(APPLY).exits(5);
    two.ends(apply);
    let versions = [("acme/key-0", 1), ("acme/key-1", 1), ("globex/patients", 2)];
    assert_eq!(two.versions(), versions.map(|(name, number)| (name.to_owned(), number)));
    two.sandbox.keywheel(ROTATE_ACME).exits(0);
}

fn an_apply_leaves_out_a_tenant_that_somebody_works_on(two: &TwoTenants) {
    two.document(2, 2);
    two.sandbox.keywheel(&["plan", "--out", "plan.json"]).exits(0);
    let rotate = two.starts(ROTATE_ACME);
    let history =
        |two: &TwoTenants| two.sandbox.keywheel(&["history", "--format", "json"]).exits(0).json()["rotations"].clone();
    let before = history(two);
    // What was reviewed as a whole is not done in part.
    two.sandbox.keywheel(&["apply", "plan.json", "--lock-timeout", "0s"]).exits(5).error("state/locked");
    assert_eq!(history(two), before);

    let report = two.sandbox.keywheel(APPLY).exits(7).report();
    let why = report["left_out"]["acme"].as_str().unwrap();
    assert!(why.contains("ada@laptop") && why.contains("rotate"), "{report:#}");
    let names: Vec<_> = two.versions().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["acme/key-0", "globex/key-1", "globex/patients"]);
    let unfinished = history(two).as_array().unwrap().iter().filter(|entry| entry["rotated_at"].is_null()).count();
    assert_eq!(unfinished, 1, "the other one's rotation is theirs to finish");
    two.sandbox.keywheel(ROTATE_GLOBEX).exits(0);
    two.ends(rotate);
    two.sandbox.keywheel(APPLY).exits(0);
    let versions = [("acme/key-0", 2), ("acme/key-1", 1), ("globex/key-1", 1), ("globex/patients", 2)];
    assert_eq!(two.versions(), versions.map(|(name, number)| (name.to_owned(), number)));
    two.sandbox.keywheel(&["audit", "verify"]).exits(0);
}

#[test]
fn an_apply_that_waits_for_one_tenant_lets_others_be_worked_on_in_sqlite() {
    an_apply_that_waits_for_one_tenant_lets_others_be_worked_on(&TwoTenants::begin(None));
}

#[test]
fn an_apply_that_waits_for_one_tenant_lets_others_be_worked_on_in_postgres() {
    an_apply_that_waits_for_one_tenant_lets_others_be_worked_on(&TwoTenants::begin(Some(database())));
}

#[test]
fn an_apply_leaves_out_a_tenant_that_somebody_works_on_in_sqlite() {
    an_apply_leaves_out_a_tenant_that_somebody_works_on(&TwoTenants::begin(None));
}

#[test]
fn an_apply_leaves_out_a_tenant_that_somebody_works_on_in_postgres() {
    an_apply_leaves_out_a_tenant_that_somebody_works_on(&TwoTenants::begin(Some(database())));
}
