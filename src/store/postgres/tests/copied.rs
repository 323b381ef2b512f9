//! A state that moves from SQLite to PostgreSQL and back.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::cut::{Cut, Proxy};
use super::{empty, location, server};
use crate::model::{AppliedPlan, DocumentRecord, ObjectKind, ObjectRef, Phase};
use crate::store::conformance::samples::{
    any_audit_entry, any_key, any_policy, any_rotation, any_step, any_version, at, audit, id, key, name, origin,
    policy, rotation,
};
use crate::store::conformance::{lease, write};
use crate::store::postgres::open_or_create;
use crate::store::sqlite::{self, Sqlite};
use crate::store::{ReadState, State, StoreError, Write, tables};

async fn empty_sqlite() -> (tempfile::TempDir, Sqlite<sqlite::Writing>) {
    let folder = tempfile::tempdir().unwrap();
    let state = sqlite::open_or_create(&folder.path().join("state.db")).await.unwrap();
    (folder, state)
}

/// Something in every table that keywheel writes, tombstones too.
async fn fill(state: &impl State) {
    let mut runner = TestRunner::deterministic();
    for round in 0..20 {
        let mut draw = |number: u64| {
            let mut policy = any_policy(number).new_tree(&mut runner).unwrap().current();
            let mut key = any_key(number).new_tree(&mut runner).unwrap().current();
            key.rotation_policy_id = Some(policy.id);
            // Drawn names may meet.
            policy.policy.policy_name = name(&format!("policy {number}"));
            key.key.key_name = name(&format!("key {number}"));
            let version = any_version(number, number).new_tree(&mut runner).unwrap().current();
            let version = key.primary_version.clone().unwrap_or(version);
            let rotation = any_rotation(number, number).new_tree(&mut runner).unwrap().current();
            let steps = proptest::collection::vec(any_step(number), 0..4).new_tree(&mut runner).unwrap().current();
            let audit = any_audit_entry().prop_map(|entry| Write::Audit(Box::new(entry)));
            let mut writes = vec![
                Write::Policy(Box::new(policy)),
                Write::Key(Box::new(key)),
                Write::Version(Box::new(version)),
                Write::Rotation(Box::new(rotation)),
                audit.new_tree(&mut runner).unwrap().current(),
            ];
            writes.extend(steps.into_iter().map(Write::Step));
            writes
        };
        write(state, &draw(round)).await;
    }
    write(state, &[Write::RemovePolicy { id: id(1), at: at(5) }, Write::ForgetKey { id: id(2), at: at(6) }]).await;
    let object = ObjectRef { kind: ObjectKind::Tenant, tenant_id: Some(name("acme")), name: name("acme") };
    let spec = serde_json::json!({"owners": ["ü@example.org"], "none": null, "number": 1.5e300});
    let document = DocumentRecord { object, spec, revision: 1, last_modified_by: origin() };
    write(state, &[Write::Document(Box::new(document))]).await;
    // Two that began at the same instant: which was last is known by their order alone.
    for digest in ["b", "a"] {
        let plan = AppliedPlan {
            digest: digest.to_owned(),
            origin: origin(),
            correlation_id: "run-1".to_owned(),
            started_at: at(7),
            finished_at: None,
            override_reason: None,
        };
        write(state, &[Write::AppliedPlan(Box::new(plan))]).await;
    }
}

/// Fails unless both hold the same, byte by byte.
async fn same(one: &dyn ReadState, other: &dyn ReadState) {
    assert_eq!(one.identity().await.unwrap(), other.identity().await.unwrap());
    for table in tables::all() {
        let contents = [tables::content(one, &table).await.unwrap(), tables::content(other, &table).await.unwrap()];
        assert_eq!(contents[0], contents[1], "{}", table.name());
    }
    let check = one.verify_audit().await.unwrap();
    assert_eq!(check.broken, None);
    assert_eq!(check, other.verify_audit().await.unwrap());
    assert_eq!(one.recorded().await.unwrap(), other.recorded().await.unwrap());
}

async fn copy(from: &dyn ReadState, to: &impl State) -> Result<(), StoreError> {
    let lease = lease(to).await;
    let copied = to.copy_from(&lease, from).await;
    to.release(&lease).await.unwrap();
    copied
}

#[tokio::test]
async fn everything_moves_to_postgresql_and_back() {
    let (_folder, from) = empty_sqlite().await;
    fill(&from).await;
    let (database, to) = empty().await;
    copy(&from, &to).await.unwrap();
    same(&from, &to).await;

    // What keywheel does not write yet moves too, from the types of one to those of the other.
    database
        .query(
            "INSERT INTO outbox VALUES (gen_random_uuid(), 'slack', 'HOOK', 'acme', '{\"b\": [1.50], \"a\": null}', NULL, now());
             INSERT INTO usage_counters SELECT id, 'a', 7, now() FROM key_versions LIMIT 1;
             INSERT INTO events VALUES ('/a', '1', 't', 'acme', NULL, '\"\u{fc}\"', now());
             INSERT INTO api_tokens VALUES (gen_random_uuid(), 'acme', 'ci', 'x', '[]', now())",
        )
        .unwrap();
    let (_folder, back) = empty_sqlite().await;
    copy(&to, &back).await.unwrap();
    same(&to, &back).await;
}

#[tokio::test]
async fn work_goes_on_in_the_copy_where_it_ended() {
    let (_folder, from) = empty_sqlite().await;
    let key = key(1, "acme", "patients");
    let rotation = rotation(2, &key, Phase::Created);
    let step = |detail: &str| {
        let (step, outcome) = (crate::model::Step::Create, crate::model::Outcome::Started);
        let step = crate::store::conformance::samples::step(id(2), step, outcome);
        Write::Step(crate::model::StepRecord { detail: Some(detail.to_owned()), ..step })
    };
    let link = || Write::Audit(Box::new(audit("acme", "key.created")));
    write(&from, &[Write::Key(Box::new(key)), Write::Rotation(Box::new(rotation)), step("one"), link()]).await;
    let (_database, to) = empty().await;
    copy(&from, &to).await.unwrap();
    write(&to, &[step("two"), link()]).await;
    let (_folder, back) = empty_sqlite().await;
    copy(&to, &back).await.unwrap();
    write(&back, &[step("three"), link()]).await;
    let journal = back.journal(id(2)).await.unwrap();
    let details: Vec<_> = journal.into_iter().map(|step| step.detail.unwrap()).collect();
    assert_eq!(details, ["one", "two", "three"]);
    let check = back.verify_audit().await.unwrap();
    assert_eq!((check.entries, check.broken), (3, None));
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_not_written() {
    let (_folder, from) = empty_sqlite().await;
    fill(&from).await;
    let (_database, postgres) = empty().await;
    let (_other, sqlite) = empty_sqlite().await;
    let there = [Write::Policy(Box::new(policy(99, "acme", "Daily")))];
    write(&postgres, &there).await;
    write(&sqlite, &there).await;
    for refused in [copy(&from, &postgres).await, copy(&from, &sqlite).await] {
        let Err(StoreError::Conflict { message }) = refused else { panic!("{refused:?}") };
        assert!(message.contains("key_rotation_policies"), "{message}");
    }
    assert_eq!(postgres.recorded().await.unwrap().policies.len(), 1);
    assert_eq!(sqlite.recorded().await.unwrap().policies.len(), 1);
    assert_ne!(from.identity().await.unwrap(), postgres.identity().await.unwrap());
}

#[tokio::test]
async fn a_copy_whose_commit_is_cut_is_made_once() {
    let (_folder, from) = empty_sqlite().await;
    fill(&from).await;
    let database = server::database();
    let proxy = Proxy::start(database.port);
    let url = server::url(proxy.port, &database.name) + "?sslmode=disable";
    let to = open_or_create(&location(&url)).await.unwrap();
    let lease = lease(&to).await;
    proxy.cut([Cut::Before, Cut::After].map(Some));
    to.copy_from(&lease, &from).await.unwrap();
    assert_eq!(proxy.count(), 2);
    same(&from, &to).await;
}

#[tokio::test]
async fn the_tables_of_a_copy_have_every_column_of_the_schema() {
    let (database, _state) = empty().await;
    let sql = "SELECT table_name || '.' || column_name FROM information_schema.columns
               WHERE table_schema = 'public' AND table_name NOT IN ('meta', 'leases', 'lease_scopes', 'batches')";
    let schema = database.query(sql).unwrap();
    let mut schema: Vec<_> = schema.lines().map(str::to_owned).collect();
    let tables = tables::all();
    let columns = |table: &tables::Table| {
        let name = table.name();
        table.columns.iter().map(move |(column, _)| format!("{name}.{column}")).collect::<Vec<_>>()
    };
    let mut copied: Vec<_> = tables.iter().flat_map(columns).collect();
    schema.sort();
    copied.sort();
    assert_eq!(copied, schema);
}
