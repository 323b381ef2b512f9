use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;

const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_772_000_000 + seconds, 0).unwrap()
}

fn policy(disposition: Disposition, retain: u32, destroy_after: Option<u32>, age: Option<u32>) -> RotationPolicy {
    let document =
        json!({"tenant_id": "acme", "policy_name": "Nightly", "key_type": "phi_data", "enable_rollback": false});
    RotationPolicy {
        old_key_disposition: disposition,
        retain_old_keys_days: retain,
        destroy_after_disabled_days: destroy_after,
        data_max_age_days: age,
        ..serde_json::from_value(document).unwrap()
    }
}

prop_compose! {
    fn any_policy()(
        disposition in select(Disposition::ALL),
        retain in 0_u32..60,
        destroy_after in 1_u32..60,
        age in option::of(1_u32..60),
    ) -> RotationPolicy {
        policy(disposition, retain, (disposition == Disposition::Destroy).then_some(destroy_after), age)
    }
}

fn any_day() -> impl Strategy<Value = Option<Timestamp>> {
    option::of((0_i64..100).prop_map(|day| at(day * DAY)))
}

prop_compose! {
    fn any_version()(
        state in select(VersionState::ALL),
        then in option::of(any_policy()),
        kept in any::<bool>(),
        orphan in any::<bool>(),
        deactivated_at in any_day(),
        disabled_at in any_day(),
        destroy_at in any_day(),
        rewrapped_at in any_day(),
        needed_at in any_day(),
    ) -> VersionRecord {
        let mut retention = then.as_ref().map(Retention::of);
        if let (true, Some(terms)) = (kept, &mut retention) {
            terms.kept_because = Some("asked for".to_owned());
        }
        let retain_until = deactivated_at.map(|at| retention.as_ref().map_or(at, |terms| terms.until(at)));
        VersionRecord {
            state, orphan, deactivated_at, retention, retain_until, disabled_at, destroy_at, rewrapped_at, needed_at,
            ..VersionRecord::new(Uuid::from_u128(1), Uuid::from_u128(2), 1, "key:1".to_owned(), at(0))
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_taken_away_before_its_time_or_against_anybodys_word(
        version in any_version(),
        now_policy in option::of(any_policy()),
        now in (0_i64..200).prop_map(|day| at(day * DAY)),
    ) {
        let Some(terms) = terms(&version, now_policy.as_ref()) else { return Ok(()) };
        let Some(due) = due(&version, &terms, now) else { return Ok(()) };
        let days = |days: u32| Duration::days(days.into());
        let needed = version.needed_at.is_some() && version.rewrapped_at <= version.needed_at;
        if due.action.is_destructive() {
            prop_assert!(!needed, "somebody needs it");
            let kept = version.retention.as_ref().is_some_and(|terms| terms.kept_because.is_some());
            prop_assert!(!kept || version.orphan, "somebody asked for it");
            if !version.orphan {
                let says = now_policy.as_ref().map(|policy| policy.old_key_disposition);
                let says = says.or(version.retention.as_ref().map(|terms| terms.old_key_disposition)).unwrap();
                prop_assert_ne!(says, Disposition::Keep, "nobody asked for it");
                prop_assert!(due.action == Action::Disable || says == Disposition::Destroy);
            }
        }
        match due.action {
            Action::Disable => {
                prop_assert_eq!(version.state, VersionState::Deactivated);
                let since = version.deactivated_at.unwrap();
                for terms in [version.retention.as_ref(), now_policy.as_ref().map(Retention::of).as_ref()].into_iter().flatten() {
                    prop_assert!(since + days(terms.retain_old_keys_days) <= now, "neither promise is broken");
                }
            }
            Action::ScheduleDestruction => {
                prop_assert_eq!(version.state, VersionState::Disabled);
                prop_assert!(version.disabled_at.unwrap() + days(1) <= now);
            }
            Action::Destroy => {
                prop_assert_eq!(version.state, VersionState::PendingDestruction);
                prop_assert!(version.destroy_at.unwrap() <= now, "its waiting period");
            }
            Action::Enable | Action::CancelDestruction => {
                prop_assert!(matches!(version.state, VersionState::Disabled | VersionState::PendingDestruction));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn what_is_shown_is_a_fact_and_never_a_lack_of_one(
        version in any_version(),
        now_policy in option::of(any_policy()),
        tracked in (0_i64..100).prop_map(|day| at(day * DAY)),
        used in any_day(),
        asked in any::<bool>(),
        now in (100_i64..200).prop_map(|day| at(day * DAY)),
    ) {
        let Some(terms) = terms(&version, now_policy.as_ref()) else { return Ok(()) };
        let last_use = asked.then_some(LastUse { tracked_since: tracked, at: used });
        if evidence(&version, &terms, now_policy.as_ref(), last_use.as_ref(), now).is_ok() {
            let since = version.deactivated_at.unwrap();
            let rewrapped = version.rewrapped_at.is_some_and(|at| at >= since);
            let old = terms.data_max_age_days.is_some_and(|days| since + Duration::days(days.into()) <= now);
            let quiet = Duration::days(i64::from(terms.retain_old_keys_days).max(1));
            let unused = last_use.is_some_and(|last| {
                last.tracked_since <= since && last.at.is_none_or(|used| used + quiet <= now)
            });
            prop_assert!(rewrapped || old || unused);
        }
    }
}

#[test]
fn a_waiver_counts_until_its_last_day_and_for_its_own_rule() {
    let waiver = |rule: &str| Waiver {
        rule: rule.to_owned(),
        until: at(10 * DAY).date_naive(),
        reason: "a test fleet".to_owned(),
        approver: "Ada".to_owned(),
    };
    let version = VersionRecord {
        deactivated_at: Some(at(0)),
        ..VersionRecord::new(Uuid::from_u128(1), Uuid::from_u128(2), 1, "key:1".to_owned(), at(0))
    };
    let shown = |rule: &str, now| {
        let policy = RotationPolicy { waivers: vec![waiver(rule)], ..policy(Disposition::Disable, 1, None, None) };
        evidence(&version, &Retention::of(&policy), Some(&policy), None, now)
    };
    assert!(shown(Waiver::EVIDENCE, at(10 * DAY)).unwrap().contains("Ada: a test fleet"));
    assert!(shown(Waiver::EVIDENCE, at(11 * DAY)).is_err());
    assert!(shown("hipaa/rotation-interval", at(5 * DAY)).is_err());
}

#[test]
fn a_later_policy_lengthens_and_never_shortens() {
    let version = |policy: &RotationPolicy| VersionRecord {
        retention: Some(Retention::of(policy)),
        ..VersionRecord::new(Uuid::from_u128(1), Uuid::from_u128(2), 1, "key:1".to_owned(), at(0))
    };
    let long = policy(Disposition::Destroy, 30, Some(20), Some(90));
    let short = policy(Disposition::Destroy, 3, Some(2), Some(9));
    for (then, now) in [(&long, &short), (&short, &long)] {
        let terms = terms(&version(then), Some(now)).unwrap();
        assert_eq!((terms.retain_old_keys_days, terms.destroy_after_disabled_days), (30, Some(20)));
        assert_eq!(terms.data_max_age_days, Some(90));
    }
    let silent = policy(Disposition::Destroy, 3, Some(2), None);
    assert_eq!(terms(&version(&long), Some(&silent)).unwrap().data_max_age_days, None, "nobody says so any more");
    assert_eq!(terms(&version(&long), None), version(&long).retention, "what was in force outlives the policy");
}
