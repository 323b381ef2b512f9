//! Named cases, then properties. `tests/it/schedule.rs` holds the same rules against a second implementation.

mod delays;
mod holds;
mod local_times;
mod past;
mod properties;
mod refusals;

use super::*;

/// A policy with some fields of its own, as JSON.
fn policy(fields: &str) -> RotationPolicy {
    let mut policy = serde_json::json!({"tenant_id": "t", "policy_name": "p", "key_type": "phi_data"});
    for (name, value) in serde_json::from_str::<serde_json::Value>(fields).unwrap().as_object().unwrap() {
        policy[name] = value.clone();
    }
    serde_json::from_value(policy).unwrap()
}

fn timing(fields: &str) -> Timing {
    Timing::new(&policy(fields)).unwrap()
}

fn freeze(name: &str, from: &str, until: &str) -> Freeze {
    serde_json::from_value(serde_json::json!({"name": name, "reason": "audit", "from": from, "until": until})).unwrap()
}

fn at(text: &str) -> Timestamp {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn key() -> Address {
    "t/k".parse().unwrap()
}

fn rotated(instant: &str, slot: Option<&str>) -> KeyHistory {
    KeyHistory { last_rotation: Some(Served { at: at(instant), slot: slot.map(at) }), ..KeyHistory::default() }
}

fn decide(timing: &Timing, history: &KeyHistory, now: &str) -> Decision {
    timing.decide(&key(), history, &[], at(now))
}

fn not_due(instant: &str) -> Decision {
    Decision::NotDue { slot: at(instant), starts_at: Some(at(instant)) }
}

fn waiting(slot: &str, hold: Hold, starts_at: &str) -> Decision {
    Decision::Waiting { slot: at(slot), hold, starts_at: Some(at(starts_at)) }
}

fn due(slot: &str) -> Decision {
    Decision::Due { slot: at(slot), overdue_since: None }
}

fn overdue(slot: &str, since: &str) -> Decision {
    Decision::Due { slot: at(slot), overdue_since: Some(at(since)) }
}
