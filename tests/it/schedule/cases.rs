//! What both implementations are asked.

use chrono::{DateTime, Duration, NaiveDateTime, Offset, TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};
use keywheel::model::{Address, RotationPolicy, Timestamp};
use keywheel::schedule::{Decision, KeyHistory, Served, Timing};
use serde_json::{Value, json};

use super::draw::Draw;

const DAY: i64 = 86_400;

/// Zones with a history: half-hour and two-hour changes, skipped dates, Ramadan, changes at midnight, double summer time.
const SPECIAL: &[&Tz] = &[
    &Tz::Africa__Cairo,
    &Tz::Africa__Casablanca,
    &Tz::Africa__El_Aaiun,
    &Tz::Africa__Monrovia,
    &Tz::America__Caracas,
    &Tz::America__Havana,
    &Tz::America__New_York,
    &Tz::America__Nuuk,
    &Tz::America__Sao_Paulo,
    &Tz::America__Scoresbysund,
    &Tz::America__St_Johns,
    &Tz::Antarctica__Casey,
    &Tz::Antarctica__Troll,
    &Tz::Antarctica__Vostok,
    &Tz::Asia__Amman,
    &Tz::Asia__Gaza,
    &Tz::Asia__Pyongyang,
    &Tz::Asia__Tehran,
    &Tz::Atlantic__Azores,
    &Tz::Australia__Lord_Howe,
    &Tz::Europe__Berlin,
    &Tz::Europe__Dublin,
    &Tz::Europe__Lisbon,
    &Tz::Europe__London,
    &Tz::Europe__Moscow,
    &Tz::Pacific__Apia,
    &Tz::Pacific__Enderbury,
    &Tz::Pacific__Kiritimati,
    &Tz::Pacific__Kwajalein,
    &Tz::UTC,
];

/// Schedules that are all accepted.
const SCHEDULES: &[&str] = &[
    "0 2 * * *",
    "30 2 * * *",
    "0 0 * * *",
    "0 0,12 * * *",
    "30 2,14 * * *",
    "15 1 * * SUN",
    "45 2 * * 1-5",
    "0 3 * * MON#1",
    "0 2 * * SUNL",
    "30 1 L * *",
    "0 0 LW * *",
    "59 23 15W * *",
    "30 2 1W,20W */3 *",
    "0 2 29 2 *",
    "0 2 13 * FRI",
    "10 2 31 * *",
    "0 1 1-7 10 SUN",
    "0 12 */10 * *",
];

/// One question.
pub struct Case {
    pub policy: Value,
    pub key: Address,
    pub history: KeyHistory,
    pub freezes: Vec<Value>,
    pub now: Timestamp,
    /// How many upcoming rotations are asked for.
    pub upcoming: usize,
}

impl Case {
    pub fn json(&self) -> Value {
        let seconds = |at: Option<Timestamp>| at.map(|at| at.timestamp());
        let last =
            self.history.last_rotation.map(|last| json!({"at": last.at.timestamp(), "slot": seconds(last.slot)}));
        json!({
            "policy": self.policy,
            "key": self.key.to_string(),
            "history": {
                "last_rotation": last,
                "version_created_at": seconds(self.history.version_created_at),
                "managed_since": seconds(self.history.managed_since),
            },
            "freezes": self.freezes,
            "now": self.now.timestamp(),
            "upcoming": self.upcoming,
        })
    }
}

/// Daily slots, one after the other, across a change of clocks.
pub fn slots(draw: &mut Draw, number: usize) -> Case {
    let zone = zone(draw, number);
    let change = change(draw, zone);
    let time = time_near(draw, zone, change);
    let now = change - Duration::seconds(draw.number(0, 3 * DAY));
    Case {
        policy: policy(&json!({"rotation_interval_days": 1, "rotation_time_of_day": time, "timezone": zone.name()})),
        key: key(draw),
        history: KeyHistory {
            last_rotation: Some(Served { at: now - Duration::days(1), slot: Some(now - Duration::days(1)) }),
            ..KeyHistory::default()
        },
        freezes: Vec::new(),
        now,
        upcoming: 5,
    }
}

/// Keys with every kind of past, by interval.
pub fn intervals(draw: &mut Draw, number: usize) -> Case {
    let zone = zone(draw, number);
    let change = change(draw, zone);
    let days = match draw.number(1, 10) {
        1..=3 => 1,
        4 => 2,
        5 => 7,
        6 => 30,
        7 => 90,
        8 => 365,
        _ => draw.number(1, 1_000),
    };
    let fields = json!({
        "rotation_interval_days": days,
        "rotation_time_of_day": time_near(draw, zone, change),
        "timezone": zone.name(),
    });
    with_past(draw, policy(&fields), change, days)
}

/// Keys with every kind of past, by cron.
pub fn crons(draw: &mut Draw, number: usize) -> Case {
    let zone = zone(draw, number);
    let change = change(draw, zone);
    let near = time_near(draw, zone, change);
    let (hour, minute) = (&near[0..2], &near[3..5]);
    let schedule = if draw.percent(40) { format!("{minute} {hour} * * *") } else { draw.pick(SCHEDULES).to_owned() };
    with_past(draw, policy(&json!({"rotation_schedule": schedule, "timezone": zone.name()})), change, 7)
}

/// Windows, freezes and spread around a change of clocks.
pub fn openings(draw: &mut Draw, number: usize) -> Case {
    let zone = zone(draw, number);
    let change = change(draw, zone);
    let days = draw.number(1, 20);
    let mut fields = json!({
        "timezone": zone.name(),
        "rotation_spread_minutes": if draw.percent(60) { draw.number(1, 1_440) } else { 0 },
        "rotation_windows": if draw.percent(80) { windows(draw, zone, change) } else { Vec::new() },
    });
    if draw.percent(80) {
        fields["rotation_interval_days"] = json!(days);
        fields["rotation_time_of_day"] = json!(time_near(draw, zone, change));
    } else {
        fields["rotation_schedule"] = json!(draw.pick(&SCHEDULES[..8]));
    }
    let mut case = with_past(draw, policy(&fields), change, days);
    for name in ["first", "second", "third"] {
        if draw.percent(35) {
            case.freezes.push(freeze(draw, name, case.now));
        }
    }
    case
}

/// A cron expression, of which about half have a mistake in them.
pub fn schedule(draw: &mut Draw) -> String {
    let mut fields = [
        draw.pick(&["0", "30", "5,35", "*/20", "*", "59"]).to_owned(),
        draw.pick(&["2", "0,12", "1,23", "*/12", "1-2", "6,18", "0,13", "23", "*"]).to_owned(),
        many(draw, &["*", "1", "L", "LW", "15W", "1W", "31W", "29", "31", "*/2", "1-7", "10-20/5", "30"]),
        many(draw, &["*", "2", "FEB", "4,6,9,11", "JAN-MAR", "*/3", "10-12", "dec"]),
        many(
            draw,
            &[
                "*", "0", "7", "MON", "fri", "1-5", "SAT-SUN", "MON#1", "5#5", "FRIL", "0L", "7#2", "*/2", "SUN-TUE",
                "*/7",
            ],
        ),
    ];
    if draw.percent(30) {
        let wrong = draw.pick(&[
            "?", "+MON", "MON", "JAN", "L", "W", "60", "24", "32", "13", "8", "0", "5-1", "1/2", "/2", "*/0", "*,1",
            "", "1,,2", "#1", "MON#6", "MON#0", "LMON", "W15", "15WW", "1-5L", "-1", "+1", "1-2-3", "*/*", "1.5",
            "SUNDAY", "LL", "L,LW",
        ]);
        fields[usize::try_from(draw.number(0, 4)).unwrap()] = wrong.to_owned();
    }
    fields.join(" ")
}

/// Mostly one of the items, at times a list of two.
fn many(draw: &mut Draw, items: &[&str]) -> String {
    let one = draw.pick(items);
    match draw.pick(items) {
        other if draw.percent(15) && one != "*" && other != "*" => format!("{one},{other}"),
        _ => one.to_owned(),
    }
}

/// A key that has rotated, or not, some intervals before an instant around a change of clocks.
fn with_past(draw: &mut Draw, policy: Value, change: Timestamp, days: i64) -> Case {
    let key = key(draw);
    let now = change + Duration::seconds(draw.number(-3 * DAY, 3 * DAY));
    let ago = |draw: &mut Draw, intervals: i64| now - Duration::seconds(draw.number(0, intervals * days * DAY + DAY));
    let mut history = KeyHistory::default();
    match draw.number(1, 10) {
        // By hand, by usage, by an event.
        1..=2 => history.last_rotation = Some(Served { at: ago(draw, 2), slot: None }),
        // Under another policy, perhaps.
        3 => {
            let slot = ago(draw, 3);
            history.last_rotation =
                Some(Served { at: slot + Duration::seconds(draw.number(0, DAY)), slot: Some(slot) });
        }
        // By schedule, more or less late.
        4..=7 => {
            let from = ago(draw, 3);
            history = by_schedule(draw, &policy, &key, from, now);
        }
        // Never.
        8 => history.managed_since = Some(ago(draw, 2)),
        _ => {
            let managed_since = ago(draw, 1);
            history.managed_since = Some(managed_since);
            let age = if draw.percent(50) { draw.number(0, 4 * days * DAY) } else { draw.number(0, days * DAY) };
            history.version_created_at = Some(managed_since - Duration::seconds(age));
        }
    }
    Case { policy, key, history, freezes: Vec::new(), now, upcoming: 2 }
}

/// A past in which the key took a slot, which keywheel itself says it had.
fn by_schedule(draw: &mut Draw, policy: &Value, key: &Address, from: Timestamp, now: Timestamp) -> KeyHistory {
    let policy: RotationPolicy = serde_json::from_value(policy.clone()).unwrap();
    let timing = Timing::new(&policy).unwrap();
    let before = KeyHistory { managed_since: Some(from), ..KeyHistory::default() };
    match timing.decide(key, &before, &[], now) {
        Decision::Due { slot, .. } | Decision::Waiting { slot, .. } => {
            let at = slot
                + Duration::seconds(if draw.percent(50) { draw.number(0, 600) } else { draw.number(0, 20 * 3_600) });
            KeyHistory { last_rotation: Some(Served { at, slot: Some(slot) }), ..before }
        }
        Decision::Unscheduled | Decision::NotDue { .. } => before,
    }
}

fn policy(fields: &Value) -> Value {
    let mut policy =
        json!({"tenant_id": "t", "policy_name": "p", "key_type": "phi_data", "rotation_time_of_day": "00:00:00"});
    for (name, value) in fields.as_object().unwrap() {
        policy[name] = value.clone();
    }
    policy
}

fn key(draw: &mut Draw) -> Address {
    format!("tenant-{}/key {}", draw.number(1, 9), draw.number(1, 9_999)).parse().unwrap()
}

/// Every zone in turn, and as often one that has a history.
fn zone(draw: &mut Draw, number: usize) -> Tz {
    if number.is_multiple_of(2) { TZ_VARIANTS[number / 2 % TZ_VARIANTS.len()] } else { *draw.pick(SPECIAL) }
}

/// The first instant after a change of clocks, mostly; any instant from 1970 to 2099 else.
fn change(draw: &mut Draw, zone: Tz) -> Timestamp {
    let year = i64::from(i32::try_from(draw.number(0, 128)).unwrap());
    let begin = 20 * DAY + year * 365 * DAY;
    let anywhere = instant(begin + draw.number(0, 365 * DAY));
    if draw.percent(20) {
        return anywhere;
    }
    let offset = |seconds: i64| zone.offset_from_utc_datetime(&instant(seconds).naive_utc()).fix();
    let days: Vec<i64> =
        (0..400).map(|day| begin + day * DAY).filter(|day| offset(*day) != offset(day + DAY)).collect();
    let Some(mut before) = days.get(usize::try_from(draw.number(0, 7)).unwrap() % days.len().max(1)).copied() else {
        return anywhere;
    };
    let mut after = before + DAY;
    while after - before > 1 {
        let middle = i64::midpoint(before, after);
        if offset(middle) == offset(before) { before = middle } else { after = middle }
    }
    instant(after)
}

/// A time of day, most often one that the clocks skip or show twice there.
fn time_near(draw: &mut Draw, zone: Tz, change: Timestamp) -> String {
    let local = match draw.number(1, 10) {
        1 => NaiveDateTime::default(),
        2 => NaiveDateTime::default() + Duration::seconds(draw.number(0, DAY - 1)),
        3 => NaiveDateTime::default() + Duration::minutes(draw.number(0, 1_439)),
        4 => (change - Duration::seconds(1)).with_timezone(&zone).naive_local() + Duration::seconds(1),
        5 => change.with_timezone(&zone).naive_local(),
        6 => change.with_timezone(&zone).naive_local() - Duration::seconds(1),
        7..=8 => change.with_timezone(&zone).naive_local() + Duration::seconds(draw.number(-3_600, 3_600)),
        _ => change.with_timezone(&zone).naive_local() + Duration::minutes(15 * draw.number(-8, 8)),
    };
    let time = local.time();
    format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
}

fn windows(draw: &mut Draw, zone: Tz, change: Timestamp) -> Vec<Value> {
    let count = draw.number(1, 3);
    let mut windows = Vec::new();
    let mut last_end: Option<String> = None;
    for _ in 0..count {
        let days: Vec<&str> = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
            .into_iter()
            .filter(|_| draw.percent(if count == 1 { 20 } else { 40 }))
            .collect();
        // At times they touch.
        let start = last_end.clone().filter(|_| draw.percent(40)).unwrap_or_else(|| time_near(draw, zone, change));
        let end = time_near(draw, zone, change);
        if start != end {
            last_end = Some(end.clone());
            windows.push(json!({"days": days, "start": start, "end": end}));
        }
    }
    windows
}

fn freeze(draw: &mut Draw, name: &str, now: Timestamp) -> Value {
    let zone = zone(draw, 1);
    let length = match draw.number(1, 40) {
        1 => draw.number(1, 900) * DAY,
        2..=16 => draw.number(1, 40) * DAY,
        _ => draw.number(60, 2 * DAY),
    };
    let from = now.with_timezone(&zone).naive_local() + Duration::seconds(draw.number(-length, 3 * DAY));
    let until = from + Duration::seconds(length);
    json!({
        "name": name, "reason": "r", "timezone": zone.name(),
        "from": from.format("%Y-%m-%dT%H:%M:%S").to_string(), "until": until.format("%Y-%m-%dT%H:%M:%S").to_string(),
    })
}

fn instant(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(seconds, 0).unwrap()
}
