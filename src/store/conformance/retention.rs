//! Which old versions a plan is shown.

use std::collections::BTreeMap;

use super::samples::{at, key, version};
use super::{Write, write};
use crate::model::{Disposition, Retention, VersionRecord, VersionState};
use crate::store::State;

pub(crate) async fn old_versions_are_shown_once_their_retention_has_passed(state: &impl State) {
    use Disposition::{Disable, Keep};
    use VersionState::{Active, Deactivated, Destroyed, Disabled, PendingDestruction};
    let key = key(1, "acme", "patients");
    let forgotten = super::samples::key(2, "acme", "gone");
    let old = |number: u32, state, disposition, until| {
        let terms = Retention { old_key_disposition: disposition, ..Retention::keep() };
        VersionRecord {
            state,
            deactivated_at: Some(at(0)),
            retention: Some(terms),
            retain_until: Some(at(until)),
            ..version(10 + u64::from(number), key.id, number)
        }
    };
    let versions = [
        old(1, Deactivated, Disable, 100),
        old(2, Deactivated, Disable, 101),
        old(3, Deactivated, Keep, 100),
        old(4, Disabled, Keep, 500),
        old(5, PendingDestruction, Disable, 500),
        old(6, Destroyed, Disable, 0),
        old(7, Active, Disable, 0),
        VersionRecord { orphan: true, ..old(8, Disabled, Disable, 0) },
        VersionRecord { orphan: true, ..old(9, PendingDestruction, Disable, 0) },
        VersionRecord { key_id: forgotten.id, ..old(10, Disabled, Disable, 0) },
    ];
    let mut writes = vec![Write::Key(Box::new(key.clone())), Write::Key(Box::new(forgotten.clone()))];
    writes.extend(versions.iter().map(|version| Write::Version(Box::new(version.clone()))));
    writes.push(Write::ForgetKey { id: forgotten.id, at: at(1) });
    write(state, &writes).await;

    let shown = async |now, kept| {
        let found = state.old_versions(at(now), kept).await.unwrap();
        let existing = found.existing;
        (found.versions.iter().map(|version| version.number).collect::<Vec<_>>(), existing)
    };
    let acme = BTreeMap::from([("acme".parse().unwrap(), 8)]);
    assert_eq!(shown(99, false).await, (vec![4, 5, 9], acme.clone()));
    assert_eq!(shown(100, false).await, (vec![1, 4, 5, 9], acme.clone()), "at the very instant");
    assert_eq!(shown(100, true).await, (vec![1, 3, 4, 5, 9], acme.clone()), "also those that are kept");
    assert_eq!(shown(101, false).await, (vec![1, 2, 4, 5, 9], acme));
    let found = state.old_versions(at(101), false).await.unwrap();
    assert_eq!(found.versions[0], versions[0]);
}

pub(crate) async fn compromised_versions_are_shown_while_they_decrypt(state: &impl State) {
    use VersionState::{Active, Deactivated, Destroyed, Disabled, PendingDestruction};
    let (key, forgotten) = (key(1, "acme", "patients"), super::samples::key(2, "acme", "gone"));
    let marked = |number: u32, state| VersionRecord {
        state,
        compromised_at: Some(at(5)),
        ..version(10 + u64::from(number), key.id, number)
    };
    let versions = [
        marked(1, Deactivated),
        marked(2, Disabled),
        marked(3, PendingDestruction),
        marked(4, Destroyed),
        VersionRecord { compromised_at: None, ..marked(5, Deactivated) },
        VersionRecord { key_id: forgotten.id, ..marked(6, Deactivated) },
        marked(7, Active),
    ];
    let mut writes = vec![Write::Key(Box::new(key.clone())), Write::Key(Box::new(forgotten.clone()))];
    writes.extend(versions.iter().map(|version| Write::Version(Box::new(version.clone()))));
    writes.push(Write::ForgetKey { id: forgotten.id, at: at(1) });
    write(state, &writes).await;
    assert_eq!(state.compromised().await.unwrap(), [versions[0].clone(), versions[6].clone()]);
}
