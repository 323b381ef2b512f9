//! What a person should look at, found in the record: failures, missed slots, keys that wait for a person, keys that end
//! soon, and rotations that are unlike those before them.
//!
//! [`alerts`] is pure. It looks at each key once; only of the keys that [`to_look_up`] names does it need the past, and of
//! those the last [`LOOKED_AT`] rotations. An alert never stops anything: it is a warning, or worth knowing.
//!
//! The thresholds: see [`EXPIRES_WITHIN`], [`RECENT`], [`KNOWN_FROM`], [`MORE_OFTEN`], [`LATER`] and [`OTHER_HOURS`]; that of
//! usage is its policy's `usage_threshold_warning`.
//!
//! Must not know: a clock, a database; how anything is drawn.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Duration, NaiveTime, Timelike};
use chrono_tz::Tz;
use uuid::Uuid;

use super::due::{KeyTiming, history, instant, usage_limit};
use super::{burst::words, keys::continued_key};
use crate::diagnostic::Finding;
use crate::document::Repository;
use crate::model::{
    Address, EncryptionKey, KeyRecord, KeyState, Name, ObjectRef, PastRotation, PolicyStatus, Recorded, RotationPolicy,
    RotationTrigger, Severity, Timestamp, VersionRecord, times,
};

/// A key that ends within so long is told of.
pub const EXPIRES_WITHIN: Duration = Duration::days(30);

/// A rotation that was unlike those before it is told of for so long.
pub const RECENT: Duration = Duration::days(7);

/// How many of a key's last rotations are looked at.
pub const LOOKED_AT: u32 = 20;

/// From so many rotations on a key has habits: between them are four intervals.
pub const KNOWN_FROM: usize = 5;

/// A rotation came much too early when the time since the one before was less than the usual time divided by this.
pub const MORE_OFTEN: i32 = 4;

/// A rotation that only a person begins is missed once the usual time has passed as often as this.
pub const LATER: i32 = 2;

/// Rotations at another hour are so far from every earlier one, around the clock, and from their slot.
pub const OTHER_HOURS: Duration = Duration::hours(3);

/// How many keys' past is looked up at most; of more keys, those whose rotation is the least usual come first.
pub const LOOKED_UP: usize = 1_000;

/// More alerts of one kind of one tenant are told as one.
const FOLDED_FROM: usize = 10;

/// How many objects are named where many are told as one.
const NAMED: usize = 3;

/// Every code of an alert, and what it means. A code never changes its meaning, so that it is safe to filter by.
pub const CODES: &[(&str, &str)] = &[
    (COMPROMISED, "A version of a key is marked compromised, and is neither disabled nor destroyed."),
    (EXPIRED, "The day after which a key should no longer be used has passed."),
    (EXPIRES, "A key ends within 30 days."),
    (EXPIRES_WITHOUT_POLICY, "A key ends within 30 days, and no active policy rotates it."),
    (HELD, "A key was rolled back, and does not rotate until `release`."),
    (KEY_WITHOUT_POLICY, "No policy rotates a key."),
    (OVERDUE, "A key missed a slot."),
    (PARKED, "A key does not rotate until `resume`."),
    (POLICY_WITHOUT_KEYS, "No key names an active policy."),
    (ROTATION_FAILED, "The last attempt to rotate a key failed."),
    (UNUSUAL_DELAY, "A key that only a person rotates was not rotated for twice as long as it usually takes."),
    (UNUSUAL_FREQUENCY, "A key was rotated after less than a quarter of the time that usually lies between."),
    (UNUSUAL_HOUR, "A key was rotated three hours or more away from the time of day of each earlier rotation."),
    (USAGE, "The primary version of a key was used as often as its policy's usage_threshold_warning says, or more."),
];

const COMPROMISED: &str = "alert/compromised";
const EXPIRED: &str = "alert/expired";
const EXPIRES: &str = "alert/expires";
const EXPIRES_WITHOUT_POLICY: &str = "alert/expires-without-policy";
const HELD: &str = "alert/held";
const KEY_WITHOUT_POLICY: &str = "alert/key-without-policy";
const OVERDUE: &str = "alert/overdue";
const PARKED: &str = "alert/parked";
const POLICY_WITHOUT_KEYS: &str = "alert/policy-without-keys";
const ROTATION_FAILED: &str = "alert/rotation-failed";
const UNUSUAL_DELAY: &str = "alert/unusual-delay";
const UNUSUAL_FREQUENCY: &str = "alert/unusual-frequency";
const UNUSUAL_HOUR: &str = "alert/unusual-hour";
const USAGE: &str = "alert/usage";

/// Findings about documents that say the same of the same object.
const SAME: &[(&str, &str)] =
    &[(KEY_WITHOUT_POLICY, "set/key-without-policy"), (POLICY_WITHOUT_KEYS, "set/policy-without-keys")];

/// The last rotations of keys, by key, the newest first.
pub type Past = BTreeMap<Uuid, Vec<PastRotation>>;

/// Everything that alerts depend on.
#[derive(Debug, Clone, Copy)]
pub struct AlertInputs<'a> {
    /// The documents that count: git's for a plan, those in force for a status.
    pub documents: &'a Repository,
    /// What the state database says.
    pub recorded: &'a Recorded,
    /// The past of the keys that [`to_look_up`] names.
    pub past: &'a Past,
    /// The versions that are marked compromised and decrypt all the same.
    pub compromised: &'a [VersionRecord],
    /// What was found already, and is not said again.
    pub said: &'a [Finding],
    /// The instant that they speak of.
    pub now: Timestamp,
}

/// The keys whose past is needed: those that rotated lately and not by their schedule, and those that nothing but a person
/// rotates.
#[must_use]
pub fn to_look_up(documents: &Repository, recorded: &Recorded, now: Timestamp) -> Vec<Uuid> {
    let mut found: Vec<(bool, Duration, Uuid)> = Vec::new();
    for record in recorded.keys.values() {
        let Some(last) = record.last_rotation_at else { continue };
        let ago = now - last;
        let unscheduled = record.last_slot.is_none_or(|slot| last - slot >= OTHER_HOURS);
        if ago <= RECENT && unscheduled {
            found.push((false, ago, record.id));
        } else if !rotates_by_time(policy_of(documents, &record.key)) {
            found.push((true, -ago, record.id));
        }
    }
    found.sort_unstable();
    found.into_iter().take(LOOKED_UP).map(|(.., id)| id).collect()
}

/// What a person should look at, of the objects that it concerns: of each tenant and kind, in the order of names.
#[must_use]
pub fn alerts(inputs: &AlertInputs<'_>, concerns: impl Fn(&ObjectRef) -> bool) -> Vec<Finding> {
    let timings = KeyTiming::new(inputs.documents);
    let errors: BTreeMap<Uuid, &str> = (inputs.recorded.unfinished.iter())
        .filter_map(|rotation| Some((rotation.key_id, rotation.error.as_deref()?)))
        .collect();
    let mut compromised: BTreeMap<Uuid, Vec<&VersionRecord>> = BTreeMap::new();
    for version in inputs.compromised {
        compromised.entry(version.key_id).or_default().push(version);
    }
    let mut found = Vec::new();
    let mut used: BTreeSet<(&Name, &Name)> = BTreeSet::new();
    for (address, located) in &inputs.documents.keys {
        let key = &located.value;
        used.extend(key.rotation_policy.as_ref().map(|policy| (&address.tenant_id, policy)));
        let record = continued_key(inputs.documents, inputs.recorded, address, key).map(|(_, record)| record);
        let looked_at = Key {
            address,
            document: key,
            policy: policy_of(inputs.documents, key),
            record,
            timings: &timings,
            now: inputs.now,
        };
        let marked = record.and_then(|record| compromised.get(&record.id));
        found.extend(marked.and_then(|versions| looked_at.compromised(versions)));
        looked_at.standing(&errors, &mut found);
        found.extend(record.and_then(|record| looked_at.usage(inputs.recorded.usage_of(record))));
        looked_at.end(&mut found);
        let past = record.and_then(|record| inputs.past.get(&record.id));
        looked_at.habits(past.map_or(&[][..], Vec::as_slice), &mut found);
    }
    for (address, policy) in &inputs.documents.policies {
        if policy.value.status == PolicyStatus::Active && !used.contains(&(&address.tenant_id, &address.name)) {
            let message = format!("no key names policy {address}: it rotates nothing");
            let alert = Alert::warning(POLICY_WITHOUT_KEYS, ObjectRef::policy(address), message, "rotate nothing");
            found.push(alert.help("let a key name it (rotation_policy), or remove it"));
        }
    }
    let said: BTreeSet<(&str, &ObjectRef)> =
        inputs.said.iter().filter_map(|finding| Some((finding.code.as_ref(), finding.object.as_ref()?))).collect();
    found.retain(|alert| {
        let same = SAME.iter().find(|(code, _)| *code == alert.code).map(|(_, same)| *same);
        concerns(&alert.object) && !same.is_some_and(|same| said.contains(&(same, &alert.object)))
    });
    folded(found)
}

/// One alert, before many of a kind are told as one.
struct Alert {
    code: &'static str,
    severity: Severity,
    object: ObjectRef,
    message: String,
    /// What is said of many: the words after `12 keys of acme`.
    of_many: &'static str,
    help: Option<&'static str>,
}

impl Alert {
    fn warning(code: &'static str, object: ObjectRef, message: String, of_many: &'static str) -> Self {
        Self { code, severity: Severity::Warning, object, message, of_many, help: None }
    }

    fn help(self, help: &'static str) -> Self {
        Self { help: Some(help), ..self }
    }

    fn finding(self) -> Finding {
        let finding = Finding { severity: self.severity, ..Finding::warning(self.code, self.message) }.of(self.object);
        match self.help {
            Some(help) => finding.help(help),
            None => finding,
        }
    }
}

/// A key that is looked at.
struct Key<'a> {
    address: &'a Address,
    document: &'a EncryptionKey,
    policy: Option<&'a RotationPolicy>,
    record: Option<&'a KeyRecord>,
    timings: &'a KeyTiming<'a>,
    now: Timestamp,
}

impl Key<'_> {
    fn alert(&self, code: &'static str, message: String, of_many: &'static str) -> Alert {
        Alert::warning(code, ObjectRef::key(self.address), message, of_many)
    }

    /// Parked, held, failing, overdue: the first that is so. Each of them is why the next is so, too.
    fn standing(&self, errors: &BTreeMap<Uuid, &str>, found: &mut Vec<Alert>) {
        let (Some(record), address) = (self.record, self.address) else { return };
        let because = record.state_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let since = instant(record.updated_at);
        match record.state {
            KeyState::Parked => {
                let message = format!("{address} is parked since {since}, and does not rotate{because}");
                found.push(self.alert(PARKED, message, "are parked").help("`keywheel resume` lets it rotate again"));
            }
            KeyState::Held => {
                let message = format!("{address} was rolled back, and does not rotate{because}");
                found.push(self.alert(HELD, message, "are held").help("`keywheel release` lets it rotate again"));
            }
            KeyState::Pending | KeyState::Active => {
                let error = errors.get(&record.id).copied();
                if record.failures > 0 || error.is_some() {
                    found.push(self.failed(record, error));
                } else if record.state == KeyState::Active {
                    found.extend(self.overdue(record));
                }
            }
            KeyState::Forgotten => {}
        }
    }

    /// What is in the wrong hands is still in use, or still reads what it encrypted.
    fn compromised(&self, versions: &[&VersionRecord]) -> Option<Alert> {
        let (address, since) = (self.address, versions.iter().filter_map(|version| version.compromised_at).min()?);
        let primary = self.record?.primary_version.as_ref()?;
        let old: Vec<String> =
            versions.iter().filter(|it| it.id != primary.id).map(|version| version.number.to_string()).collect();
        let (which, is, decrypt) = match old.as_slice() {
            [one] => (format!("version {one}"), "is", "decrypts"),
            several => (format!("versions {}", several.join(", ")), "are", "decrypt"),
        };
        let many = "have a version that is marked compromised and still decrypts";
        if old.len() < versions.len() {
            let number = primary.number;
            let message = format!(
                "version {number} of {address} is marked compromised since {}, and is still the primary",
                instant(since)
            );
            let help =
                "`keywheel apply` finishes a rotation that was begun; otherwise `keywheel rotate --compromised` again";
            return Some(self.alert(COMPROMISED, message, many).help(help));
        }
        let since = instant(since);
        let message = format!("{which} of {address} {is} marked compromised since {since}, and still {decrypt}");
        let help = "encrypt anew what it encrypted, and record that (`keywheel attest`); a policy with `old_key_disposition: \
                    disable` disables it then";
        Some(self.alert(COMPROMISED, message, many).help(help))
    }

    fn failed(&self, record: &KeyRecord, error: Option<&str>) -> Alert {
        let times = match record.failures {
            0 | 1 => String::new(),
            times => format!(" {times} times in a row"),
        };
        let again = match record.retry_at.filter(|at| *at > self.now) {
            Some(at) => format!("it is tried again from {} on", instant(at)),
            None => "the next apply tries it again".to_owned(),
        };
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        let message = format!("the rotation of {} failed{times}; {again}{error}", self.address);
        self.alert(ROTATION_FAILED, message, "failed to rotate").help("`keywheel history` shows what happened")
    }

    fn overdue(&self, record: &KeyRecord) -> Option<Alert> {
        let policy = self.policy?;
        let address = Address::new(policy.tenant_id.clone(), policy.policy_name.clone());
        let missed = self.timings.of(&address)?.overdue_since(&history(record), self.now)?;
        let suspended = if policy.status == PolicyStatus::Suspended { ", and its policy is suspended" } else { "" };
        let message = format!(
            "{} is overdue by {}: its slot of {} was missed{suspended}",
            self.address,
            words(self.now - missed),
            instant(missed)
        );
        Some(self.alert(OVERDUE, message, "are overdue").help("`keywheel explain` says what holds it back"))
    }

    /// How often it was used, from what its policy warns of on. Beyond the limit it is due, and that is not said twice.
    fn usage(&self, used: u64) -> Option<Alert> {
        let policy = self.policy?;
        let warning = policy.usage_threshold_warning.filter(|warning| used >= *warning)?;
        let limit = usage_limit(policy);
        if limit.is_some_and(|limit| used >= limit) && policy.status == PolicyStatus::Active {
            return None;
        }
        let next = match limit {
            Some(limit) if policy.status == PolicyStatus::Suspended => {
                format!("its policy, which is suspended, rotates it at {limit}")
            }
            Some(limit) => format!("it rotates at {limit}"),
            None => "no max_usage_count rotates it".to_owned(),
        };
        let message = format!("{} was used {}, {warning} or more, and {next}", self.address, times(used));
        Some(self.alert(USAGE, message, "were used as often as their policies warn of"))
    }

    /// Its last day, and whether anything rotates it.
    fn end(&self, found: &mut Vec<Alert>) {
        let (address, today) = (self.address, self.now.date_naive());
        let is_rotated = self.policy.is_some_and(|policy| policy.status == PolicyStatus::Active);
        match self.document.expires_at {
            Some(last) if last < today => {
                let message = format!("{address} should not be used any more: its last day was {last}");
                found.push(self.alert(EXPIRED, message, "are past their last day"));
            }
            Some(last) if last - today <= EXPIRES_WITHIN && is_rotated => {
                let message = format!("{address} ends on {last}, in {}", words(last - today));
                found.push(Alert { severity: Severity::Info, ..self.alert(EXPIRES, message, "end within 30 days") });
            }
            Some(last) if last - today <= EXPIRES_WITHIN => {
                let message =
                    format!("{address} ends on {last}, in {}, and no active policy rotates it", words(last - today));
                let many = "end within 30 days, and no active policy rotates them";
                found.push(self.alert(EXPIRES_WITHOUT_POLICY, message, many).help("give it a policy, or a successor"));
            }
            _ if self.document.rotation_policy.is_none() => {
                let message = format!("no policy rotates {address}");
                let help = "add `rotation_policy: NAME`; without one it rotates by hand only";
                found.push(self.alert(KEY_WITHOUT_POLICY, message, "have no policy").help(help));
            }
            _ => {}
        }
    }

    /// Its last rotation, or the time since, held against its own past.
    fn habits(&self, past: &[PastRotation], found: &mut Vec<Alert>) {
        let Some((newest, earlier)) = past.split_first() else { return };
        let (address, ago) = (self.address, self.now - newest.at);
        let between: Vec<Duration> =
            past.windows(2).filter_map(|pair| Some(pair.first()?.at - pair.last()?.at)).collect();
        if !rotates_by_time(self.policy) && past.len() >= KNOWN_FROM {
            let usual = median(&between);
            if ago > usual * LATER {
                let message = format!(
                    "{address} was not rotated for {}, and usually is after {}: nothing but a person rotates it",
                    words(ago),
                    words(usual)
                );
                found.push(self.alert(UNUSUAL_DELAY, message, "were not rotated for twice as long as usual"));
            }
        }
        // What a schedule asked for is no surprise.
        if ago > RECENT || earlier.len() < KNOWN_FROM || newest.slot.is_some_and(|slot| newest.at - slot < OTHER_HOURS)
        {
            return;
        }
        let cause = newest.cause;
        if let Some((last, before)) = between.split_first()
            && newest.slot.is_none()
            && *last * MORE_OFTEN < median(before)
        {
            let message = format!(
                "{address} was rotated on {} ({cause}), {} after the rotation before; usual are {}",
                instant(newest.at),
                words(*last),
                words(median(before))
            );
            found.push(self.alert(UNUSUAL_FREQUENCY, message, "were rotated much sooner than usual"));
        }
        let zone = self.policy.and_then(|policy| policy.timezone.parse().ok()).unwrap_or(Tz::UTC);
        let clock = |at: Timestamp| at.with_timezone(&zone).time();
        if earlier.iter().all(|rotation| apart(clock(newest.at), clock(rotation.at)) >= OTHER_HOURS) {
            let message = format!(
                "{address} was rotated at {} in {zone} ({}, {cause}), hours away from each of the {} rotations before",
                clock(newest.at).format("%H:%M"),
                instant(newest.at),
                earlier.len()
            );
            found.push(self.alert(UNUSUAL_HOUR, message, "were rotated at another time of day than ever"));
        }
    }
}

fn policy_of<'a>(documents: &'a Repository, key: &EncryptionKey) -> Option<&'a RotationPolicy> {
    let address = Address::new(key.tenant_id.clone(), key.rotation_policy.clone()?);
    documents.policies.get(&address).map(|policy| &policy.value)
}

fn rotates_by_time(policy: Option<&RotationPolicy>) -> bool {
    policy.is_some_and(|policy| {
        policy.status == PolicyStatus::Active && policy.rotation_trigger == RotationTrigger::TimeBased
    })
}

/// The middle one; of an even number the longer of the two in the middle.
fn median(spans: &[Duration]) -> Duration {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// How far two times of day are apart, the shorter way around the clock.
fn apart(one: NaiveTime, other: NaiveTime) -> Duration {
    let seconds = i64::from(one.num_seconds_from_midnight()) - i64::from(other.num_seconds_from_midnight());
    let around = seconds.rem_euclid(86_400);
    Duration::seconds(around.min(86_400 - around))
}

/// The alerts as findings; many of one kind of one tenant as one.
fn folded(alerts: Vec<Alert>) -> Vec<Finding> {
    let mut kinds: BTreeMap<(Option<Name>, &'static str), Vec<Alert>> = BTreeMap::new();
    for alert in alerts {
        kinds.entry((alert.object.tenant_id.clone(), alert.code)).or_default().push(alert);
    }
    let mut findings = Vec::new();
    for ((tenant_id, code), alerts) in kinds {
        let count = alerts.len();
        let (Some(tenant_id), Some(first), true) = (tenant_id, alerts.first(), count > FOLDED_FROM) else {
            findings.extend(alerts.into_iter().map(Alert::finding));
            continue;
        };
        let what = if code == POLICY_WITHOUT_KEYS { "policies" } else { "keys" };
        let names: Vec<&str> = alerts.iter().take(NAMED).map(|alert| alert.object.name.as_str()).collect();
        let message = format!("{count} {what} of {tenant_id} {}: {}, ...", first.of_many, names.join(", "));
        let object = ObjectRef::tenant(&tenant_id);
        findings
            .push(Alert { code, severity: first.severity, object, message, of_many: "", help: first.help }.finding());
    }
    findings
}
