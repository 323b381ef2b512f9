//! The engine on a real git repository, SQLite and the local provider.

use std::sync::Mutex;

use keywheel::engine::{self, ApplyOptions, Event, PlanOptions, Progress, Report, Selection, Workspace};
use keywheel::plan::Action;
use keywheel::store::{self, Location};

use crate::support::sandbox::Sandbox;

/// Keeps every event.
#[derive(Default)]
struct Events(Mutex<Vec<Event>>);

impl Progress for Events {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

const POLICY: &str = "
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: Daily
key_type: phi_data
rotation_interval_days: 1
rotation_time_of_day: \"02:00:00\"
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: patients
key_type: phi_data
rotation_policy: Daily
";

struct Fixture(Sandbox);

impl Fixture {
    fn new(documents: &str) -> Self {
        Self(Sandbox::with("", documents))
    }

    fn workspace(&self) -> Workspace {
        Workspace { dir: self.0.dir(), selection: Selection::WorkTree }
    }

    async fn plan(&self) -> keywheel::plan::Plan {
        let options = PlanOptions { refresh: true, as_of: None, state: None };
        engine::plan(&self.workspace(), &options, &Events::default()).await.unwrap().plan
    }

    async fn apply(&self) -> Report {
        engine::apply(&self.workspace(), &ApplyOptions::default(), &|_| Ok(true), &Events::default())
            .await
            .unwrap()
            .unwrap()
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let state = self.0.path(".keywheel");
        for entry in std::fs::read_dir(state).into_iter().flatten().flatten() {
            files.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()));
        }
        files.sort();
        files
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_recorded_and_a_second_plan_has_no_changes() {
    let fixture = Fixture::new(POLICY);
    let plan = fixture.plan().await;
    assert_eq!(fixture.files(), [], "a plan makes no state");
    let summary = plan.summary();
    assert_eq!(summary.get(&Action::Create), Some(&3), "{:#?}", plan.changes);
    let report = fixture.apply().await;
    assert_eq!(report.failed, [], "{report:#?}");
    let before = fixture.files();
    let plan = fixture.plan().await;
    assert!(plan.is_empty() && plan.drift.is_empty(), "{plan:#?}");
    assert_eq!(fixture.files(), before, "a plan writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_before_a_rotation_decrypts_after_it() {
    let fixture = Fixture::new(POLICY);
    fixture.apply().await;
    let address = "acme/patients".parse().unwrap();
    let workspace = fixture.workspace();
    let sealed = engine::data::encrypt(&workspace, None, &address, b"a patient").await.unwrap();
    let approve = |plan: &keywheel::plan::Plan| Ok(plan.rotations().count() == 1);
    let (options, events) = (ApplyOptions::default(), Events::default());
    let request = engine::Request::Rotate { reason: "a test".to_owned() };
    let report = engine::manual(&workspace, &address, &request, &options, &approve, &events).await.unwrap().unwrap();
    assert_eq!((report.done.get(&Action::Rotate), report.failed.len()), (Some(&1), 0), "{report:#?}");
    assert_eq!(report.policies[0].rotated_keys, 1);
    assert_eq!(engine::data::decrypt(&workspace, None, Some(&address), &sealed).await.unwrap(), b"a patient");
    let state = store::open_read_only(&Location::Sqlite(workspace.dir.join(".keywheel/state.db"))).await.unwrap();
    let recorded = state.recorded().await.unwrap();
    let versions = state.versions(recorded.keys[&address].id).await.unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(recorded.keys[&address].primary_version.as_ref().map(|version| version.number), Some(2));
    assert!(fixture.plan().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dirty_tree_is_refused_and_nothing_is_made() {
    let fixture = Fixture::new(POLICY);
    fixture.0.write("policies/acme/keys.yaml", &format!("{POLICY}# edited\n"));
    let refused =
        engine::apply(&fixture.workspace(), &ApplyOptions::default(), &|_| Ok(true), &Events::default()).await;
    assert_eq!(refused.unwrap_err().code, "apply/dirty");
    assert_eq!(fixture.files(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_everything_is_stopped_by_the_limits() {
    let fixture = Fixture::new(POLICY);
    fixture.apply().await;
    std::fs::remove_dir_all(fixture.0.path("policies")).unwrap();
    fixture.0.commit_all("oops");
    let before = fixture.files();
    let refused =
        engine::apply(&fixture.workspace(), &ApplyOptions::default(), &|_| Ok(true), &Events::default()).await;
    let error = refused.unwrap_err();
    assert_eq!((error.code, error.kind), ("apply/limits", engine::ErrorKind::Refused));
    assert_eq!(fixture.plan().await.refusals[0].code, "limits/empty-source");
    assert_eq!(fixture.files().len(), before.len());
}
