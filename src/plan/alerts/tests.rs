//! Each alert, on both sides of its threshold.

use super::super::review::as_recorded;
use super::*;
use crate::document::{self, Capabilities, SourceFile};
use crate::model::{RotationCause, VersionRecord, Workflow};

const NOW: &str = "2026-11-24T12:00:00Z";

const DAILY: &str = "rotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at(NOW)
}

fn hours(number: i64) -> Duration {
    Duration::hours(number)
}

fn documents(text: &str) -> Repository {
    let file = SourceFile { path: "policies/acme/all.yaml".into(), content: text.as_bytes().into(), symlink: false };
    let loaded = document::load(
        None,
        &[file],
        |_| Capabilities { available: true, rollback: true, ..Capabilities::NONE },
        now(),
    );
    assert!(!loaded.repository.failed && loaded.repository.failed_tenants.is_empty(), "{:#?}", loaded.findings);
    loaded.repository
}

fn policy(name: &str, fields: &str) -> String {
    format!(
        "---\napiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: {name}\nkey_type: t\n{fields}\n"
    )
}

fn key(name: &str, fields: &str) -> String {
    format!(
        "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: {name}\nkey_type: t\n{fields}\n"
    )
}

/// One key under a policy, as it was applied.
struct Fleet {
    documents: Repository,
    recorded: Recorded,
    past: Past,
    compromised: Vec<VersionRecord>,
}

impl Fleet {
    fn new(text: &str) -> Self {
        let documents = documents(text);
        let recorded = as_recorded(&documents, &BTreeMap::new(), now());
        Self { documents, recorded, past: Past::new(), compromised: Vec::new() }
    }

    fn of(policy_fields: &str) -> Self {
        Self::new(&[policy("p", policy_fields), key("k", "rotation_policy: p")].concat())
    }

    fn key(&mut self) -> &mut KeyRecord {
        self.recorded.keys.values_mut().next().unwrap()
    }

    /// Its rotations, each so long ago, the newest first.
    fn rotated(mut self, slots: bool, ago: &[Duration]) -> Self {
        let key_id = self.key().id;
        let rotations: Vec<PastRotation> = ago
            .iter()
            .map(|ago| PastRotation {
                key_id,
                at: now() - *ago,
                slot: slots.then(|| now() - *ago),
                cause: if slots { RotationCause::Due } else { RotationCause::Manual },
            })
            .collect();
        let (newest, key) = (rotations[0], self.key());
        (key.last_rotation_at, key.last_slot) = (Some(newest.at), newest.slot);
        self.past.insert(key_id, rotations);
        self
    }

    fn look(&self) -> Vec<Finding> {
        self.look_again(&[])
    }

    fn look_again(&self, said: &[Finding]) -> Vec<Finding> {
        let wanted = to_look_up(&self.documents, &self.recorded, now());
        let past =
            self.past.iter().filter(|(id, _)| wanted.contains(id)).map(|(id, past)| (*id, past.clone())).collect();
        let Self { documents, recorded, compromised, .. } = self;
        alerts(&AlertInputs { documents, recorded, past: &past, compromised, said, now: now() }, |_| true)
    }

    fn codes(&self) -> Vec<String> {
        self.look().into_iter().map(|finding| finding.code.into_owned()).collect()
    }

    fn messages(&self) -> Vec<String> {
        self.look().into_iter().map(|finding| finding.message).collect()
    }
}

#[test]
fn a_fleet_in_order_has_no_alert() {
    let fleet = Fleet::of(DAILY).rotated(true, &[hours(10), hours(34), hours(58), hours(82), hours(106), hours(130)]);
    assert_eq!(fleet.codes(), [""; 0]);
}

#[test]
fn a_compromised_version_is_told_while_it_is_in_use_or_decrypts() {
    let mut fleet = Fleet::of(DAILY).rotated(true, &[hours(10)]);
    let key_id = fleet.key().id;
    let primary = VersionRecord::new(Uuid::from_u128(1), key_id, 1, "ref-1".to_owned(), now());
    fleet.key().primary_version = Some(primary.clone());
    let marked = |number: u32| VersionRecord {
        compromised_at: Some(at("2026-11-23T08:00:00Z")),
        ..VersionRecord::new(Uuid::from_u128(number.into()), key_id, number, format!("ref-{number}"), now())
    };
    fleet.compromised = vec![VersionRecord { compromised_at: Some(now()), ..primary.clone() }];
    let told = fleet.look();
    assert_eq!(fleet.codes(), ["alert/compromised"]);
    assert_eq!(
        told[0].message,
        "version 1 of acme/k is marked compromised since 2026-11-24T12:00:00Z, and is still the primary"
    );
    fleet.compromised = vec![marked(7)];
    assert_eq!(
        fleet.messages(),
        ["version 7 of acme/k is marked compromised since 2026-11-23T08:00:00Z, and still decrypts"]
    );
    fleet.compromised = vec![marked(7), marked(9)];
    assert_eq!(
        fleet.messages(),
        ["versions 7, 9 of acme/k are marked compromised since 2026-11-23T08:00:00Z, and still decrypt"]
    );
    // Of a key that is in no document nothing is said.
    fleet.compromised = vec![VersionRecord { key_id: Uuid::nil(), ..marked(7) }];
    assert_eq!(fleet.codes(), [""; 0]);
}

#[test]
fn a_failed_rotation_is_told_with_its_error_and_when_it_is_tried_again() {
    let mut fleet = Fleet::of(DAILY);
    fleet.key().failures = 3;
    fleet.key().retry_at = Some(now() + hours(1));
    assert_eq!(
        fleet.messages(),
        ["the rotation of acme/k failed 3 times in a row; it is tried again from 2026-11-24T13:00:00Z on"]
    );
    // One that failed and is to be gone on with at once.
    let mut fleet = Fleet::of(DAILY);
    let id = fleet.key().id;
    let mut begun: crate::model::RotationRecord = begun(id);
    begun.error = Some("AccessDenied".to_owned());
    fleet.recorded.unfinished.push(begun.clone());
    assert_eq!(fleet.messages(), ["the rotation of acme/k failed; the next apply tries it again: AccessDenied"]);
    begun.error = None;
    fleet.recorded.unfinished = vec![begun];
    assert_eq!(fleet.codes(), [""; 0], "it may be going on");
}

#[test]
fn a_key_is_overdue_once_a_second_slot_has_passed() {
    let last_slot = |text: &str| {
        let mut fleet = Fleet::of(DAILY);
        (fleet.key().last_rotation_at, fleet.key().last_slot) = (Some(at(text)), Some(at(text)));
        fleet
    };
    assert_eq!(last_slot("2026-11-23T02:00:00Z").codes(), [""; 0]);
    let overdue = last_slot("2026-11-22T02:00:00Z");
    assert_eq!(overdue.codes(), [OVERDUE]);
    assert_eq!(overdue.messages(), ["acme/k is overdue by 34 hours: its slot of 2026-11-23T02:00:00Z was missed"]);
}

#[test]
fn of_a_parked_or_held_key_nothing_else_is_said_about_its_rotation() {
    for (state, code) in [(KeyState::Parked, PARKED), (KeyState::Held, HELD)] {
        let mut fleet = Fleet::of(DAILY);
        let key = fleet.key();
        (key.state, key.state_reason, key.failures) = (state, Some("five failures".to_owned()), 5);
        key.last_rotation_at = Some(now() - Duration::days(9));
        assert_eq!(fleet.codes(), [code]);
        assert!(fleet.messages()[0].ends_with(": five failures"), "{:?}", fleet.messages());
    }
}

#[test]
fn a_policy_that_rotates_nothing_is_told_unless_it_is_suspended() {
    assert_eq!(Fleet::new(&policy("p", DAILY)).codes(), [POLICY_WITHOUT_KEYS]);
    assert_eq!(Fleet::new(&policy("p", &format!("{DAILY}\nstatus: suspended"))).codes(), [""; 0]);
}

#[test]
fn a_key_without_a_policy_is_told_and_as_it_ends_for_that() {
    assert_eq!(Fleet::new(&key("k", "")).codes(), [KEY_WITHOUT_POLICY]);
    let ends = |day: &str| Fleet::new(&key("k", &format!("expires_at: \"{day}\""))).codes();
    assert_eq!(ends("2026-12-25"), [KEY_WITHOUT_POLICY], "31 days");
    assert_eq!(ends("2026-12-24"), [EXPIRES_WITHOUT_POLICY], "30 days");
    assert_eq!(ends("2026-11-24"), [EXPIRES_WITHOUT_POLICY], "today is its last day");
    assert_eq!(ends("2026-11-23"), [EXPIRED]);
}

#[test]
fn a_key_that_ends_is_worth_knowing_where_a_policy_rotates_it_and_a_warning_where_that_is_suspended() {
    let ends = |status: &str| {
        let text = [
            policy("p", &format!("{DAILY}\nstatus: {status}")),
            key("k", "rotation_policy: p\nexpires_at: \"2026-12-24\""),
        ];
        let found = Fleet::new(&text.concat()).look();
        (found[0].code.clone().into_owned(), found[0].severity)
    };
    assert_eq!(ends("active"), (EXPIRES.to_owned(), Severity::Info));
    assert_eq!(ends("suspended"), (EXPIRES_WITHOUT_POLICY.to_owned(), Severity::Warning));
}

#[test]
fn usage_is_told_from_the_warning_on_until_it_makes_the_key_due() {
    let told = |fields: &str, used: u64| {
        let mut fleet = Fleet::of(&format!("{DAILY}\nusage_threshold_warning: 900\n{fields}"));
        let id = fleet.key().id;
        fleet.key().primary_version = Some(VersionRecord::new(id, id, 1, String::new(), now()));
        fleet.recorded.usage.insert(id, used);
        fleet.look().into_iter().map(|finding| (finding.code.into_owned(), finding.message)).collect::<Vec<_>>()
    };
    let usage = |message: &str| vec![("alert/usage".to_owned(), format!("acme/k was used {message}"))];
    let limited = "max_usage_count: 1000";
    assert_eq!(told(limited, 899), []);
    assert_eq!(told(limited, 900), usage("900 times, 900 or more, and it rotates at 1000"));
    assert_eq!(told(limited, 999), usage("999 times, 900 or more, and it rotates at 1000"));
    // Then it is due, and the plan says that.
    assert_eq!(told(limited, 1000), []);
    let suspended = format!("{limited}\nstatus: suspended");
    let message = "1000 times, 900 or more, and its policy, which is suspended, rotates it at 1000";
    assert_eq!(told(&suspended, 1000), usage(message));
    assert_eq!(told("", 5000), usage("5000 times, 900 or more, and no max_usage_count rotates it"));
}

#[test]
fn what_another_finding_says_is_not_said_again() {
    let fleet = Fleet::new(&[policy("p", DAILY), key("k", "")].concat());
    assert_eq!(fleet.codes(), [KEY_WITHOUT_POLICY, POLICY_WITHOUT_KEYS]);
    let object = |finding: &Finding| finding.object.clone().unwrap();
    let [of_key, of_policy] = &fleet.look()[..] else { panic!() };
    let said = [
        Finding::warning("set/key-without-policy", "").of(object(of_key)),
        Finding::warning("set/policy-without-keys", "").of(object(of_policy)),
    ];
    assert_eq!(fleet.look_again(&said), []);
    // Of another object it says nothing.
    let other = [Finding::warning("set/key-without-policy", "").of(object(of_policy))];
    assert_eq!(fleet.look_again(&other).len(), 2);
}

/// Rotations by hand, one every so many hours, the newest so long ago.
fn every(number: usize, interval: Duration, newest: Duration) -> Vec<Duration> {
    (0..i32::try_from(number).unwrap()).map(|place| newest + interval * place).collect()
}

#[test]
fn a_rotation_is_much_more_often_than_usual_below_a_quarter_of_the_usual_time() {
    let usual = Duration::days(8);
    let after = |last: Duration, earlier: usize| {
        let mut ago = vec![Duration::zero()];
        ago.extend(every(earlier, usual, last));
        Fleet::of("rotation_trigger: manual").rotated(false, &ago)
    };
    // At the same time of day, so that its hour is usual.
    assert_eq!(after(hours(48), 5).codes(), [""; 0], "a quarter");
    let found = after(hours(24), 5);
    assert_eq!(found.codes(), [UNUSUAL_FREQUENCY]);
    assert_eq!(
        found.messages(),
        ["acme/k was rotated on 2026-11-24T12:00:00Z (manual), 24 hours after the rotation before; usual are 8 days"]
    );
    assert_eq!(after(hours(24), 4).codes(), [""; 0], "too few rotations make no habit");
}

#[test]
fn what_was_unusual_is_told_for_a_week() {
    let ago = |newest: Duration| {
        let mut ago = vec![newest];
        ago.extend(every(5, Duration::days(8), newest + hours(24)));
        Fleet::of("rotation_trigger: manual").rotated(false, &ago).codes()
    };
    assert_eq!(ago(Duration::days(7)), [UNUSUAL_FREQUENCY]);
    assert_eq!(ago(Duration::days(7) + hours(1)), [""; 0]);
}

#[test]
fn a_key_that_a_person_rotates_is_missed_after_twice_the_usual_time() {
    let after = |fields: &str, ago: Duration, number: usize| {
        Fleet::of(fields).rotated(false, &every(number, Duration::days(30), ago)).codes()
    };
    assert_eq!(after("rotation_trigger: manual", Duration::days(60), 5), [""; 0]);
    assert_eq!(after("rotation_trigger: manual", Duration::days(61), 5), [UNUSUAL_DELAY]);
    assert_eq!(after("rotation_trigger: manual", Duration::days(61), 4), [""; 0], "too few rotations make no habit");
    // Whether a key is late is its schedule's to say, where it has one.
    assert_eq!(after("rotation_interval_days: 365", Duration::days(61), 5), [""; 0]);
}

#[test]
fn another_hour_is_three_hours_from_each_earlier_one_around_the_clock() {
    // By its schedule at noon, and then once by hand.
    let by_hand = |hours_before_noon: i64| {
        let mut ago = vec![hours(hours_before_noon)];
        ago.extend(every(5, hours(24), hours(24)));
        let mut fleet = Fleet::of("rotation_trigger: manual").rotated(false, &ago);
        fleet.key().last_slot = None;
        fleet.codes()
    };
    assert_eq!(by_hand(2), [""; 0]);
    assert_eq!(by_hand(3), [UNUSUAL_HOUR]);
    assert_eq!(by_hand(12), [UNUSUAL_HOUR]);
    assert_eq!(apart("23:30:00".parse().unwrap(), "01:00:00".parse().unwrap()), Duration::minutes(90));
}

#[test]
fn a_scheduled_rotation_is_unusual_only_where_it_is_hours_after_its_slot() {
    let late_by = |late: Duration| {
        let mut ago = vec![hours(1)];
        ago.extend(every(5, hours(24), hours(34)));
        let mut fleet = Fleet::of(DAILY).rotated(true, &ago);
        let slot = now() - hours(1) - late;
        fleet.key().last_slot = Some(slot);
        fleet.past.values_mut().next().unwrap()[0].slot = Some(slot);
        fleet.codes()
    };
    assert_eq!(late_by(Duration::minutes(179)), [""; 0]);
    assert_eq!(late_by(hours(3)), [UNUSUAL_HOUR]);
}

#[test]
fn more_than_ten_of_a_kind_are_told_as_one_and_each_tenant_for_itself() {
    let many = |count: usize| (0..count).map(|number| key(&format!("k{number:02}"), "")).collect::<String>();
    assert_eq!(Fleet::new(&many(10)).codes().len(), 10);
    let folded = Fleet::new(&many(11)).look();
    assert_eq!(folded.len(), 1);
    assert_eq!(folded[0].message, "11 keys of acme have no policy: k00, k01, k02, ...");
    assert_eq!(folded[0].object, Some(ObjectRef::tenant(&"acme".parse().unwrap())));
}

#[test]
fn the_past_is_looked_up_of_few_keys_only() {
    let scheduled = Fleet::of(DAILY).rotated(true, &[hours(1)]);
    assert!(to_look_up(&scheduled.documents, &scheduled.recorded, now()).is_empty());
    let mut by_hand = Fleet::of(DAILY).rotated(false, &[hours(1)]);
    let id = by_hand.key().id;
    assert_eq!(to_look_up(&by_hand.documents, &by_hand.recorded, now()), [id]);
    let long_ago = Fleet::of(DAILY).rotated(false, &[Duration::days(8)]);
    assert!(to_look_up(&long_ago.documents, &long_ago.recorded, now()).is_empty());
}

#[test]
fn every_code_is_listed_once_and_in_order() {
    let codes: Vec<&str> = CODES.iter().map(|(code, _)| *code).collect();
    let sorted: BTreeSet<&str> = codes.iter().copied().collect();
    assert_eq!(codes, sorted.into_iter().collect::<Vec<_>>());
    let source = include_str!("../alerts.rs");
    assert_eq!(source.matches("= \"alert/").count(), codes.len());
}

fn begun(key_id: Uuid) -> crate::model::RotationRecord {
    crate::model::RotationRecord {
        id: Uuid::from_u128(9),
        key_id,
        address: "acme/k".parse().unwrap(),
        workflow: Workflow::Rotate,
        phase: crate::model::Phase::Creating,
        open_step: None,
        cause: RotationCause::Due,
        reason: String::new(),
        slot: None,
        from_ref: None,
        to_ref: None,
        intent: serde_json::Value::Null,
        policy: None,
        error: None,
        attempt: 1,
        correlation_id: String::new(),
        commit: None,
        started_at: now(),
        updated_at: now(),
        finished_at: None,
    }
}
