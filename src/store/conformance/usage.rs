//! Usage counters.

use std::collections::BTreeMap;

use super::samples::{at, id, key, version};
use super::write;
use crate::model::{KeyRecord, UsageCounter};
use crate::store::{State, StoreError, Write};

fn counter(version: u64, source: &str, total: u64) -> UsageCounter {
    UsageCounter { key_version_id: id(version), source: source.to_owned(), total, reported_at: at(5) }
}

pub(crate) async fn usage_is_the_highest_total_of_each_source_and_counts_for_the_primary(state: &impl State) {
    let (first, second) = (version(10, id(1), 1), version(11, id(1), 2));
    let led_to = |to: &crate::model::VersionRecord| KeyRecord {
        primary_version: Some(to.clone()),
        ..key(1, "acme", "patients")
    };
    let [one, other] = [&first, &second].map(|version| Write::Version(Box::new(version.clone())));
    write(state, &[Write::Key(Box::new(led_to(&first))), one, other]).await;
    assert_eq!(state.recorded().await.unwrap().usage, BTreeMap::new());
    // Twice, late, and from two sides.
    for (total, sum) in [(40, 40), (40, 40), (30, 40), (50, 50)] {
        assert_eq!(state.report_usage(&counter(10, "billing", total)).await.unwrap(), sum);
    }
    assert_eq!(state.report_usage(&counter(10, "archive", 7)).await.unwrap(), 57);
    assert_eq!(state.report_usage(&counter(11, "archive", 3)).await.unwrap(), 3);
    assert_eq!(state.recorded().await.unwrap().usage, BTreeMap::from([(id(10), 57)]));
    write(state, &[Write::Key(Box::new(led_to(&second)))]).await;
    assert_eq!(state.recorded().await.unwrap().usage, BTreeMap::from([(id(11), 3)]));
    // Whatever is counted, a sum is a number.
    let most = i64::MAX.unsigned_abs();
    for source in ["one", "two", "three"] {
        state.report_usage(&counter(11, source, most)).await.unwrap();
    }
    assert_eq!(state.recorded().await.unwrap().usage, BTreeMap::from([(id(11), u64::MAX)]));
    write(state, &[Write::ForgetKey { id: id(1), at: at(9) }]).await;
    assert_eq!(state.recorded().await.unwrap().usage, BTreeMap::new());
}

pub(crate) async fn usage_of_no_version_is_refused(state: &impl State) {
    let refused = state.report_usage(&counter(99, "billing", 1)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
}
