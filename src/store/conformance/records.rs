//! Policies, keys, versions and rotations.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::samples::{
    any_key, any_policy, any_rotation, any_step, any_version, at, id, key, name, policy, rotation, step, version,
};
use super::{lease, write};
use crate::model::{
    Address, NotificationSettings, Outcome, Phase, Recorded, RotationCause, Secret, Step, StepRecord, Workflow,
};
use crate::store::{ReadState, State, StoreError, Write};

pub(crate) async fn an_empty_database_has_a_lineage_and_nothing_else(state: &impl State) {
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.lineage.map(|lineage| lineage.get_version_num()), Some(4));
    assert_eq!(recorded, Recorded { lineage: recorded.lineage, ..Recorded::default() });
}

pub(crate) async fn what_is_written_is_read(state: &impl State) {
    let policy = policy(1, "acme", "Daily");
    let mut key = key(2, "acme", "patients");
    key.rotation_policy_id = Some(policy.id);
    key.primary_version = Some(version(3, key.id, 1));
    let rotation = rotation(4, &key, Phase::Created);
    // In an order in which every reference points at what comes later.
    write(
        state,
        &[
            Write::Rotation(Box::new(rotation.clone())),
            Write::Key(Box::new(key.clone())),
            Write::Version(Box::new(version(3, key.id, 1))),
            Write::Policy(Box::new(policy.clone())),
        ],
    )
    .await;
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.policies.into_values().collect::<Vec<_>>(), [policy]);
    assert_eq!(recorded.keys.get(&key.address()), Some(&key));
    assert_eq!(recorded.unfinished, [rotation]);
    assert_eq!(state.versions(key.id).await.unwrap(), [version(3, key.id, 1)]);
    assert_eq!(state.all_versions().await.unwrap(), [version(3, key.id, 1)]);
}

/// Draws a value of a strategy; the same ones in each run.
fn draw<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).unwrap().current()
}

pub(crate) async fn any_record_comes_back_equal(state: &impl State) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let policy = draw(&mut runner, any_policy(1));
        let mut key = draw(&mut runner, any_key(2));
        key.rotation_policy_id = Some(policy.id);
        let version = key.primary_version.clone().unwrap_or_else(|| draw(&mut runner, any_version(2, 2)));
        let rotation = draw(&mut runner, any_rotation(3, 2));
        let mut writes = vec![
            Write::Policy(Box::new(policy.clone())),
            Write::Key(Box::new(key.clone())),
            Write::Version(Box::new(version.clone())),
            Write::Rotation(Box::new(rotation.clone())),
        ];
        let steps = draw(&mut runner, vec(any_step(3), 0..4));
        let journal_before = state.journal(rotation.id).await.unwrap();
        writes.extend(steps.iter().cloned().map(Write::Step));
        write(state, &writes).await;

        let recorded = state.recorded().await.unwrap();
        assert_eq!(recorded.policies.into_values().collect::<Vec<_>>(), [policy]);
        assert_eq!(recorded.keys.into_values().collect::<Vec<_>>(), [key]);
        assert_eq!(state.versions(id(2)).await.unwrap(), [version]);
        assert_eq!(recorded.unfinished, [rotation]);
        assert_eq!(state.journal(id(3)).await.unwrap(), [journal_before, steps].concat());
    }
}

pub(crate) async fn a_literal_secret_is_never_stored(state: &impl State) {
    let mut policy = policy(1, "acme", "Daily");
    let webhook = Secret::from("https://hooks.example.org/s3cret".to_owned());
    policy.policy.notification_settings =
        Some(NotificationSettings { slack_webhook: Some(webhook), ..NotificationSettings::default() });
    write(state, &[Write::Policy(Box::new(policy.clone()))]).await;
    let recorded = state.recorded().await.unwrap();
    let read = recorded.policies.into_values().next().unwrap().policy.notification_settings.unwrap();
    assert_eq!(read.slack_webhook, Some(Secret::Literal("(redacted)".to_owned())));
}

pub(crate) async fn a_name_is_free_once_its_object_was_removed(state: &impl State) {
    write(
        state,
        &[
            Write::Policy(Box::new(policy(1, "acme", "Daily"))),
            Write::Key(Box::new(key(2, "acme", "patients"))),
            Write::RemovePolicy { id: id(1), at: at(5) },
            Write::ForgetKey { id: id(2), at: at(5) },
            Write::Policy(Box::new(policy(3, "acme", "Daily"))),
            Write::Key(Box::new(key(4, "acme", "patients"))),
        ],
    )
    .await;
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.policies.into_values().map(|record| record.id).collect::<Vec<_>>(), [id(3)]);
    assert_eq!(recorded.keys.into_values().map(|record| record.id).collect::<Vec<_>>(), [id(4)]);
}

pub(crate) async fn two_live_objects_of_one_name_are_refused(state: &impl State) {
    let lease = lease(state).await;
    for (first, second) in [
        (Write::Policy(Box::new(policy(1, "acme", "Daily"))), Write::Policy(Box::new(policy(2, "acme", "Daily")))),
        (Write::Key(Box::new(key(1, "acme", "patients"))), Write::Key(Box::new(key(2, "acme", "patients")))),
    ] {
        let refused = state.commit(&lease, &[first, second]).await;
        let Err(StoreError::Conflict { message }) = refused else { panic!("{refused:?}") };
        assert!(message.contains("of this name already"), "{message}");
    }
}

pub(crate) async fn a_removed_policy_unlinks_its_keys(state: &impl State) {
    let mut key = key(2, "acme", "patients");
    key.rotation_policy_id = Some(id(1));
    let link = Write::Key(Box::new(key.clone()));
    let make = Write::Policy(Box::new(policy(1, "acme", "Daily")));
    let remove = Write::RemovePolicy { id: id(1), at: at(5) };
    write(state, &[make, link, remove]).await;
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.policies.len(), 0);
    assert_eq!(recorded.keys[&key.address()].rotation_policy_id, None);
}

/// What the traits show of policies, keys, versions and rotations, without the database's identity.
async fn shown(state: &impl ReadState) -> (Recorded, Vec<String>) {
    let recorded = Recorded { lineage: None, ..state.recorded().await.unwrap() };
    let mut rest = vec![format!("{:?}", state.all_versions().await.unwrap())];
    for number in 0..4 {
        rest.push(format!("{:?}", state.journal(id(number)).await.unwrap()));
    }
    rest.push(format!("{:?}", state.history(&crate::store::HistoryFilter::default()).await.unwrap()));
    (recorded, rest)
}

/// Writes on a few objects with a few names, so that they meet.
fn any_writes() -> impl Strategy<Value = Vec<Write>> {
    let number = 0_u64..3;
    let names = prop::sample::select(&["a", "b", "c"][..]);
    let one = prop_oneof![
        (number.clone(), names.clone()).prop_map(|(n, text)| Write::Policy(Box::new(policy(n, "acme", text)))),
        number.clone().prop_map(|n| Write::RemovePolicy { id: id(n), at: at(9) }),
        (number.clone(), names, prop::option::of(number.clone())).prop_map(|(n, text, policy)| {
            let mut key = key(n, "acme", text);
            key.rotation_policy_id = policy.map(id);
            Write::Key(Box::new(key))
        }),
        number.clone().prop_map(|n| Write::ForgetKey { id: id(n), at: at(9) }),
        (number.clone(), any_version(0, 0), 1_u32..3).prop_map(|(n, mut version, generation)| {
            (version.id, version.key_id, version.number) = (id(n), id(n), generation);
            Write::Version(Box::new(version))
        }),
        (number.clone(), number.clone(), prop::sample::select(Phase::ALL))
            .prop_map(|(n, of, phase)| { Write::Rotation(Box::new(rotation(n, &key(of, "acme", "a"), phase))) }),
        (number, prop::sample::select(Step::ALL))
            .prop_map(|(n, which)| { Write::Step(StepRecord { ..step(id(n), which, Outcome::Started) }) }),
    ];
    prop::collection::vec(one, 1..12)
}

pub(crate) async fn a_batch_has_the_effect_of_its_writes_one_by_one(state: &impl State) {
    let mut runner = TestRunner::deterministic();
    let lease = lease(state).await;
    // Every reference has something to point at, so that single writes fail for no other reason than batches.
    let mut setup = Vec::new();
    for number in 0..3 {
        let name = format!("set up {number}");
        setup.push(Write::Policy(Box::new(policy(number, "acme", &name))));
        setup.push(Write::Key(Box::new(key(number, "acme", &name))));
        setup.push(Write::Rotation(Box::new(rotation(number, &key(number, "acme", &name), Phase::Settled))));
    }
    state.commit(&lease, &setup).await.unwrap();
    let mut compared = 0;
    for _ in 0..150 {
        let writes = draw(&mut runner, any_writes());
        let before = shown(state).await;
        if state.commit(&lease, &writes).await.is_err() {
            assert_eq!(shown(state).await, before, "a refused batch left something: {writes:?}");
            continue;
        }
        // Once more, one by one: every write but a step says what is to be, so that repeating all of them in their
        // order ends in the same state unless the batch had another order.
        let batch = shown(state).await;
        let repeated: Vec<_> = writes.iter().filter(|write| !matches!(write, Write::Step(_))).collect();
        let mut refused = false;
        for write in repeated {
            refused |= state.commit(&lease, std::slice::from_ref(write)).await.is_err();
        }
        if !refused {
            compared += 1;
            assert_eq!(shown(state).await, batch, "{writes:?}");
        }
        state.commit(&lease, &setup).await.ok();
    }
    assert!(compared > 20, "only {compared} batches could be compared");
}

pub(crate) async fn a_refused_batch_leaves_nothing(state: &impl State) {
    let lease = lease(state).await;
    let key = key(2, "acme", "patients");
    let before = state.recorded().await.unwrap();
    // The last write of the batch breaks a rule: the version's key does not exist.
    let writes = [Write::Key(Box::new(key)), Write::Version(Box::new(version(3, id(99), 1)))];
    let refused = state.commit(&lease, &writes).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(state.recorded().await.unwrap(), before);
    // And the database goes on working.
    state.commit(&lease, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await.unwrap();
}

pub(crate) async fn a_second_unfinished_rotation_of_a_key_is_refused(state: &impl State) {
    let key = key(1, "acme", "patients");
    let unfinished = |number| Write::Rotation(Box::new(rotation(number, &key, Phase::Planned)));
    let lease = lease(state).await;
    state.commit(&lease, &[Write::Key(Box::new(key.clone())), unfinished(2)]).await.unwrap();
    let refused = state.commit(&lease, &[unfinished(3)]).await;
    let Err(StoreError::Conflict { message }) = refused else { panic!("{refused:?}") };
    assert!(message.contains("unfinished rotation"), "{message}");
    // Once the first is settled, there may be another.
    let settled = Write::Rotation(Box::new(rotation(2, &key, Phase::Settled)));
    state.commit(&lease, &[settled, unfinished(3)]).await.unwrap();
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.unfinished_of(key.id).map(|rotation| rotation.id), Some(id(3)));
}

pub(crate) async fn the_journal_keeps_the_order_in_which_it_was_written(state: &impl State) {
    let key = key(1, "acme", "patients");
    let (mine, other) = (rotation(2, &key, Phase::Settled), rotation(3, &key, Phase::Settled));
    let mut expected = Vec::new();
    let mut writes = vec![
        Write::Key(Box::new(key)),
        Write::Rotation(Box::new(mine.clone())),
        Write::Rotation(Box::new(other.clone())),
    ];
    for which in [Step::Settle, Step::Create, Step::Promote, Step::Create] {
        for outcome in [Outcome::Started, Outcome::Failed] {
            // All at the same instant: the order is that of writing, not of time.
            expected.push(step(mine.id, which, outcome));
            writes.push(Write::Step(step(mine.id, which, outcome)));
            writes.push(Write::Step(step(other.id, Step::Verify, outcome)));
        }
    }
    write(state, &writes).await;
    write(state, &[Write::Step(step(mine.id, Step::Settle, Outcome::Succeeded))]).await;
    expected.push(step(mine.id, Step::Settle, Outcome::Succeeded));
    assert_eq!(state.journal(mine.id).await.unwrap(), expected);
    assert_eq!(state.journal(other.id).await.unwrap().len(), 8);
}

pub(crate) async fn a_tampered_reference_is_refused(state: &impl State) {
    let lease = lease(state).await;
    let orphan = step(id(77), Step::Create, Outcome::Started);
    let mut key = key(1, "acme", "patients");
    key.rotation_policy_id = Some(id(78));
    for write in [Write::Step(orphan), Write::Key(Box::new(key))] {
        let refused = state.commit(&lease, &[write]).await;
        let Err(StoreError::Conflict { message }) = refused else { panic!("{refused:?}") };
        assert!(message.contains("not recorded"), "{message}");
    }
}

pub(crate) async fn history_is_filtered_by_each_field_and_by_all(state: &impl State) {
    use crate::store::HistoryFilter;
    let keys = [key(1, "acme", "patients"), key(2, "globex", "patients")];
    let mut writes: Vec<_> = keys.iter().map(|key| Write::Key(Box::new(key.clone()))).collect();
    for number in 0..6_u64 {
        let of = &keys[usize::try_from(number % 2).unwrap()];
        let mut rotation = rotation(10 + number, of, if number < 4 { Phase::Settled } else { Phase::Abandoned });
        rotation.started_at = at(i64::try_from(number).unwrap() * 10);
        rotation.finished_at = Some(rotation.started_at + chrono::TimeDelta::milliseconds(1_500));
        rotation.correlation_id = format!("run-{}", number / 3);
        writes.push(Write::Rotation(Box::new(rotation)));
    }
    write(state, &writes).await;
    let found = async |filter: HistoryFilter| -> Vec<u64> {
        let history = state.history(&filter).await.unwrap();
        history.iter().map(|entry| entry.rotation_id.as_u64_pair().1 & 0xff).collect()
    };
    let all = HistoryFilter::default;
    assert_eq!(found(all()).await, [15, 14, 13, 12, 11, 10]);
    assert_eq!(found(HistoryFilter { limit: Some(2), ..all() }).await, [15, 14]);
    assert_eq!(found(HistoryFilter { tenant_id: Some(name("acme")), ..all() }).await, [14, 12, 10]);
    assert_eq!(found(HistoryFilter { key: Some(keys[1].address()), ..all() }).await, [15, 13, 11]);
    assert_eq!(found(HistoryFilter { phase: Some(Phase::Abandoned), ..all() }).await, [15, 14]);
    assert_eq!(found(HistoryFilter { since: Some(at(30)), ..all() }).await, [15, 14, 13]);
    assert_eq!(found(HistoryFilter { correlation_id: Some("run-0".to_owned()), ..all() }).await, [12, 11, 10]);
    let every_field = HistoryFilter {
        tenant_id: Some(name("acme")),
        key: Some(keys[0].address()),
        phase: Some(Phase::Settled),
        leads: true,
        since: Some(at(1)),
        correlation_id: Some("run-0".to_owned()),
        limit: Some(5),
    };
    assert_eq!(found(every_field).await, [12]);
    let entry = state.history(&all()).await.unwrap().remove(0);
    assert_eq!((entry.duration_ms, entry.status), (Some(1_500), Phase::Abandoned));
}

pub(crate) async fn the_last_settled_rotations_of_some_keys_are_found_the_newest_first(state: &impl State) {
    let keys = [1, 2, 3].map(|number| key(number, "acme", &format!("key-{number}")));
    let mut writes: Vec<_> = keys.iter().map(|key| Write::Key(Box::new(key.clone()))).collect();
    for number in 0..12_u64 {
        let of = &keys[usize::try_from(number % 3).unwrap()];
        let mut rotation = rotation(10 + number, of, Phase::Settled);
        rotation.started_at = at(i64::try_from(number).unwrap() * 10);
        rotation.slot = (number == 9).then(|| at(5));
        // Of the first key: settled, settled, abandoned, settled. Of the second a rollback is the newest.
        if number == 6 {
            rotation.phase = Phase::Abandoned;
        } else if number == 10 {
            rotation.workflow = Workflow::Rollback;
        }
        writes.push(Write::Rotation(Box::new(rotation)));
    }
    write(state, &writes).await;
    let found = async |ids: &[Uuid], each| -> Vec<(Uuid, i64)> {
        let found = state.last_rotations(ids, each).await.unwrap();
        found.into_iter().map(|past| (past.key_id, (past.at - at(0)).num_seconds())).collect()
    };
    let [one, two, _] = [keys[0].id, keys[1].id, keys[2].id];
    assert_eq!(found(&[two, one], 2).await, [(two, 70), (two, 40), (one, 90), (one, 30)]);
    assert_eq!(found(&[one], 20).await, [(one, 90), (one, 30), (one, 0)]);
    assert_eq!(found(&[], 20).await, []);
    let newest = state.last_rotations(&[one], 1).await.unwrap().remove(0);
    assert_eq!((newest.slot, newest.cause), (Some(at(5)), RotationCause::Due));
}

pub(crate) async fn history_finds_a_key_by_its_present_and_its_earlier_name(state: &impl State) {
    use crate::store::HistoryFilter;
    let mut key = key(1, "acme", "earlier");
    write(state, &[Write::Key(Box::new(key.clone())), Write::Rotation(Box::new(rotation(2, &key, Phase::Settled)))])
        .await;
    key.key.key_name = name("present");
    write(state, &[Write::Key(Box::new(key))]).await;
    for text in ["earlier", "present"] {
        let filter = HistoryFilter { key: Some(Address::new(name("acme"), name(text))), ..HistoryFilter::default() };
        assert_eq!(state.history(&filter).await.unwrap().len(), 1, "{text}");
    }
}

pub(crate) async fn a_forgotten_key_is_found_by_its_identity(state: &impl State) {
    let key = key(1, "acme", "patients");
    write(state, &[Write::Key(Box::new(key.clone()))]).await;
    assert_eq!(state.key(key.id).await.unwrap().as_ref(), Some(&key));
    write(state, &[Write::ForgetKey { id: key.id, at: at(9) }]).await;
    assert!(state.recorded().await.unwrap().keys.is_empty());
    let found = state.key(key.id).await.unwrap().unwrap();
    assert_eq!((found.id, found.address()), (key.id, key.address()));
    assert_eq!(state.key(uuid::Uuid::nil()).await.unwrap(), None);
}

pub(crate) async fn forgotten_keys_are_listed_with_when_the_longest_ago_first(state: &impl State) {
    let (mut patients, cards, lives) = (key(2, "acme", "patients"), key(1, "acme", "cards"), key(4, "acme", "lives"));
    patients.primary_version = Some(version(3, patients.id, 1));
    let all = [&patients, &cards, &lives].map(|key| Write::Key(Box::new(key.clone())));
    write(state, &[&all[..], &[Write::Version(Box::new(version(3, patients.id, 1)))]].concat()).await;
    assert_eq!(state.forgotten_keys().await.unwrap(), []);
    let forget = |id, when| Write::ForgetKey { id, at: at(when) };
    write(state, &[forget(cards.id, 9), forget(patients.id, 8)]).await;
    // A name that is taken again is another key's.
    write(state, &[Write::Key(Box::new(key(5, "acme", "patients")))]).await;
    let found = state.forgotten_keys().await.unwrap();
    let told: Vec<_> = found.iter().map(|(record, removed_at)| (record.id, *removed_at)).collect();
    assert_eq!(told, [(patients.id, at(8)), (cards.id, at(9))]);
    assert_eq!(found[0].0.key, patients.key);
    assert_eq!(found[0].0.primary_version, patients.primary_version);
}
