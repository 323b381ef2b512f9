//! What holds for every policy, past and instant.

use chrono::{NaiveDate, NaiveTime, TimeZone};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::slots::{later, resolve};
use super::*;

const SCHEDULES: &[&str] =
    &["0 2 * * *", "30 2,14 * * *", "0 0 1 * *", "0 3 * * MON#1", "15 1 L * *", "0 2 15W * SUN", "0 2 29 2 *"];

fn zone() -> impl Strategy<Value = &'static str> {
    (0..chrono_tz::TZ_VARIANTS.len()).prop_map(|number| chrono_tz::TZ_VARIANTS[number].name())
}

fn time_of_day() -> impl Strategy<Value = NaiveTime> {
    (0u32..86_400).prop_map(|second| NaiveTime::from_num_seconds_from_midnight_opt(second, 0).unwrap())
}

/// From 1970 to 2099, to the millisecond.
fn instant() -> impl Strategy<Value = Timestamp> {
    (0i64..4_000_000_000_000).prop_map(|milliseconds| chrono::Utc.timestamp_millis_opt(milliseconds).unwrap())
}

fn window() -> impl Strategy<Value = serde_json::Value> {
    let days = subsequence(vec!["mon", "tue", "wed", "thu", "fri", "sat", "sun"], 0..=7);
    (days, time_of_day(), time_of_day()).prop_filter_map("a window has a length", |(days, start, end)| {
        let text = |time: NaiveTime| time.format("%H:%M:%S").to_string();
        (start != end).then(|| serde_json::json!({"days": days, "start": text(start), "end": text(end)}))
    })
}

fn timing_of_any_kind() -> impl Strategy<Value = Timing> {
    let schedule = prop_oneof![
        (1u32..=36_500).prop_map(|days| serde_json::json!({"rotation_interval_days": days})),
        (1u32..=3).prop_map(|days| serde_json::json!({"rotation_interval_days": days})),
        select(SCHEDULES).prop_map(|schedule| serde_json::json!({"rotation_schedule": schedule})),
    ];
    let windows = prop_oneof![Just(Vec::new()), proptest::collection::vec(window(), 1..3)];
    (schedule, zone(), time_of_day(), windows, prop_oneof![Just(0u32), 0u32..=1_440]).prop_map(
        |(mut fields, zone, time, windows, spread)| {
            fields["timezone"] = zone.into();
            fields["rotation_time_of_day"] = time.format("%H:%M:%S").to_string().into();
            fields["rotation_windows"] = windows.into();
            fields["rotation_spread_minutes"] = spread.into();
            timing(&fields.to_string())
        },
    )
}

/// The past of a key that was rotated, adopted or made up to about two years before an instant.
fn past(now: Timestamp) -> impl Strategy<Value = KeyHistory> {
    let before = move || (0i64..60_000_000).prop_map(move |seconds| now - Duration::seconds(seconds));
    let rotation = (before(), prop::option::of(0i64..100_000))
        .prop_map(|(at, late)| Served { at, slot: late.map(|late| at - Duration::seconds(late)) });
    (prop::option::of(rotation), prop::option::of(before()), before()).prop_map(
        |(last_rotation, version_created_at, managed_since)| KeyHistory {
            last_rotation,
            version_created_at,
            managed_since: Some(managed_since),
        },
    )
}

fn frozen(now: Timestamp) -> impl Strategy<Value = Vec<Freeze>> {
    let one = (-3_000_000i64..3_000_000, 60i64..3_000_000).prop_map(move |(begins, lasts)| {
        let from = (now + Duration::seconds(begins)).naive_utc();
        Freeze {
            from,
            until: from + Duration::seconds(lasts),
            ..freeze("f", "2026-01-01T00:00:00", "2026-01-02T00:00:00")
        }
    });
    proptest::collection::vec(one, 0..3)
}

fn case() -> impl Strategy<Value = (Timing, Timestamp, KeyHistory, Vec<Freeze>)> {
    (timing_of_any_kind(), instant()).prop_flat_map(|(timing, now)| (Just(timing), Just(now), past(now), frozen(now)))
}

fn starts_at(decision: &Decision) -> Option<Timestamp> {
    match decision {
        Decision::NotDue { starts_at, .. } | Decision::Waiting { starts_at, .. } => *starts_at,
        Decision::Due { .. } | Decision::Unscheduled => None,
    }
}

proptest! {
    #[test]
    fn a_later_local_time_never_means_an_earlier_instant(
        zone in zone(), day in 0i64..48_000, time in time_of_day(), seconds in 0i64..200_000,
    ) {
        let zone: Tz = zone.parse().unwrap();
        let local = NaiveDate::from_ymd_opt(1970, 1, 2).unwrap().and_time(time) + Duration::days(day);
        let later = local + Duration::seconds(seconds);
        prop_assert!(resolve(local, zone) <= resolve(later, zone), "{zone}: {local} and {later}");
    }

    #[test]
    fn an_instant_is_no_earlier_than_the_first_that_its_local_time_means(zone in zone(), at in instant()) {
        let zone: Tz = zone.parse().unwrap();
        let local = at.with_timezone(&zone).naive_local();
        let first = resolve(local, zone);
        prop_assert!(first <= at && at - first < Duration::hours(25), "{zone}: {at} is {local}, which is {first}");
    }

    #[test]
    fn every_date_has_one_slot_and_it_follows_that_of_the_date_before(
        zone in zone(), day in 0i64..48_000, time in time_of_day(),
    ) {
        let zone: Tz = zone.parse().unwrap();
        let cadence = Cadence { rule: Rule::Interval { days: 1, time }, zone };
        let date = NaiveDate::from_ymd_opt(1970, 1, 2).unwrap() + Duration::days(day);
        let slot = Slot::new(date.and_time(time), zone);
        let next = Slot::new(later(date, 1).and_time(time), zone);
        let served = Served { at: slot.at, slot: Some(slot.at) };
        // Only a date that its zone skips shares its slot with another, whose time of day is midnight.
        let followed_by = cadence.after_rotation(served).unwrap();
        prop_assert!(followed_by == next || slot.at == next.at, "{zone}: {slot:?} is followed by {followed_by:?}");
        prop_assert!(slot.at <= next.at);
        prop_assert_eq!(cadence.latest(slot, next.at - slots::MOMENT).at, slot.at);
    }

    #[test]
    fn a_key_is_due_at_the_instant_that_is_named_and_not_before(
        (timing, now, history, freezes) in case(), share in 0.0f64..1.0,
    ) {
        let freezes: Vec<&Freeze> = freezes.iter().collect();
        let decide = |now| timing.decide(&key(), &history, &freezes, now);
        if let Some(start) = starts_at(&decide(now)) {
            prop_assert!(start > now);
            prop_assert!(matches!(decide(start), Decision::Due { .. }), "at {start}: {:?}", decide(start));
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any instant between will do")]
            let between = now + Duration::milliseconds(((start - now).num_milliseconds() as f64 * share) as i64);
            for before in [between, start - slots::MOMENT] {
                prop_assert!(!matches!(decide(before), Decision::Due { .. }), "already at {before}");
                prop_assert_eq!(starts_at(&decide(before)), Some(start), "another start as of {}", before);
            }
        }
    }

    #[test]
    fn what_starts_does_so_in_a_window_outside_of_freezes_and_after_the_minimum_gap(
        (timing, now, history, freezes) in case(),
    ) {
        let freezes: Vec<&Freeze> = freezes.iter().collect();
        let upcoming = timing.upcoming(&key(), &history, &freezes, now, 4);
        let gap = timing.cadence.as_ref().unwrap().minimum_gap();
        for at in &upcoming {
            prop_assert_eq!(timing.open_at(&freezes, *at), Ok(()));
        }
        let last = history.last_rotation.map(|last| last.at);
        let all: Vec<Timestamp> = last.into_iter().chain(upcoming).collect();
        prop_assert!(all.windows(2).all(|pair| pair[0] + gap <= pair[1]), "{all:?}");
    }

    #[test]
    fn a_key_is_overdue_since_one_instant_whatever_holds_it_back((timing, now, history, freezes) in case()) {
        let freezes: Vec<&Freeze> = freezes.iter().collect();
        let since = timing.overdue_since(&history, now);
        prop_assert!(since.is_none_or(|since| since <= now));
        match timing.decide(&key(), &history, &freezes, now) {
            Decision::Due { overdue_since, .. } => prop_assert_eq!(since, overdue_since),
            Decision::NotDue { .. } | Decision::Unscheduled => prop_assert_eq!(since, None),
            Decision::Waiting { .. } => {}
        }
        // It stays so until the key rotates.
        if since.is_some() && history.managed_since.is_some_and(|managed| managed <= now) {
            prop_assert_eq!(timing.overdue_since(&history, now + Duration::days(400)), since);
        }
    }

    #[test]
    fn missed_slots_are_one_rotation((timing, now, history, _) in case()) {
        let decide = |history: &KeyHistory| timing.decide(&key(), history, &[], now);
        if let Decision::Due { slot, .. } = decide(&history) {
            prop_assert!(slot <= now);
            let after = KeyHistory { last_rotation: Some(Served { at: now, slot: Some(slot) }), ..history };
            let decision = decide(&after);
            match &decision {
                Decision::NotDue { slot: next, .. } => prop_assert!(*next > now),
                // A slot that passed while its own rotation was late.
                Decision::Waiting { hold, .. } => prop_assert!(matches!(hold, Hold::MinimumGap), "{decision:?}"),
                _ => prop_assert!(false, "{decision:?}"),
            }
        }
    }

    #[test]
    fn nothing_panics_whatever_the_clocks_and_records_say(
        timing in timing_of_any_kind(), stamps in proptest::array::uniform5(any::<i64>()), nanos in 0u32..1_000_000_000,
        absent in any::<u8>(), local in any::<i32>(),
    ) {
        let stamp = |number: i64| {
            chrono::DateTime::from_timestamp(number, nanos)
                .unwrap_or(if number < 0 { Timestamp::MIN_UTC } else { Timestamp::MAX_UTC })
        };
        let [at, slot, created, managed, now] = stamps.map(stamp);
        let history = KeyHistory {
            last_rotation: (absent & 1 == 0).then(|| Served { at, slot: (absent & 2 == 0).then_some(slot) }),
            version_created_at: (absent & 4 == 0).then_some(created),
            managed_since: (absent & 8 == 0).then_some(managed),
        };
        let edge = if local < 0 { chrono::NaiveDateTime::MIN } else { chrono::NaiveDateTime::MAX };
        let from = edge.checked_add_signed(Duration::seconds(-i64::from(local))).unwrap_or(edge);
        let freeze = Freeze {
            from, until: chrono::NaiveDateTime::MAX, ..freeze("f", "2026-01-01T00:00:00", "2026-01-02T00:00:00")
        };
        for freezes in [&[][..], &[&freeze]] {
            let _ = timing.decide(&key(), &history, freezes, now);
            let _ = timing.open_at(freezes, now);
            let _ = timing.overdue_since(&history, now);
            let _ = (timing.window_delay(now), timing.freeze_delays(freezes, now));
            let _ = timing.upcoming(&key(), &history, freezes, now, 3);
        }
    }

    #[test]
    fn no_text_of_a_schedule_panics_and_what_is_accepted_fires(text in "[0-9*,/#LW?+A-Z -]{0,24}|\\PC{0,40}") {
        if let Ok(schedule) = cron::Schedule::new(&text) {
            let from = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap().and_time(NaiveTime::MIN);
            let next = schedule.after(from).unwrap();
            prop_assert_eq!(schedule.before(next + Duration::seconds(1)), Some(next));
        }
    }
}
