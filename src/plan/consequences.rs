//! What follows from the changes of a review: how many keys become due, when the first can start, how long that takes at
//! the key manager's quotas, what it costs, and what will not decrypt any more.
//!
//! With ages, each key is asked for itself. Without them, keys are supposed to have rotated on time until now: where the
//! old schedule is an interval, a key's place in it is unknown, and the sentence says so instead of guessing.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Address, Disposition, EncryptionKey, KeyRecord, KeyState, Name, ObjectKind, ObjectRef, PolicyStatus, Recorded,
    RotationPolicy, RotationStrategy, RotationTrigger, Timestamp, count, days,
};
use crate::schedule::{Decision, Hold, KeyHistory, Served, Timing};

use super::due::{KeyTiming, history, instant};
use super::keys::continued_key;
use super::review::Review;
use super::{Action, Change, Consequence, burst, cost};

/// How many places in an interval are looked at where keys' ages are unknown.
const SAMPLES: i32 = 60;

/// The fields that decide when a key rotates.
const TIMING: [&str; 9] = [
    "status",
    "rotation_trigger",
    "rotation_interval_days",
    "rotation_schedule",
    "rotation_time_of_day",
    "timezone",
    "rotation_windows",
    "rotation_spread_minutes",
    "rotation_policy",
];

/// What follows from the changes of a review.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// In words, in the order of the changes.
    pub said: Vec<Consequence>,
    /// How many keys of a tenant become due at once, at the most.
    pub due: BTreeMap<Name, usize>,
    /// The tenants of which old versions will stop decrypting that would not have until now.
    pub ending: BTreeSet<Name>,
}

/// The consequences of every change.
pub(super) fn of(review: &Review<'_>, recorded: &Recorded, changes: &[Change]) -> Outlook {
    let world = World::new(review, recorded);
    let touched: BTreeSet<&ObjectRef> = changes.iter().map(|change| &change.object).collect();
    let mut outlook = Outlook::default();
    for change in changes {
        let mut said = Said { object: &change.object, outlook: &mut outlook };
        let Some(address) = change.object.address() else {
            if change.object.kind == ObjectKind::Freeze {
                world.freeze(change, &mut said);
            }
            continue;
        };
        match change.object.kind {
            ObjectKind::RotationPolicy => world.policy(&address, change, &mut said),
            ObjectKind::EncryptionKey => world.key(&address, change, &touched, &mut said),
            _ => {}
        }
    }
    outlook
}

/// What is said of one object.
struct Said<'a> {
    object: &'a ObjectRef,
    outlook: &'a mut Outlook,
}

impl Said<'_> {
    fn say(&mut self, code: &str, message: String) {
        self.outlook.said.push(Consequence { object: self.object.clone(), code: code.to_owned(), message });
    }

    fn count_due(&mut self, keys: usize) {
        if let Some(tenant) = self.object.tenant_id.clone().filter(|_| keys > 0) {
            *self.outlook.due.entry(tenant).or_default() += keys;
        }
    }
}

/// A key that is there before and after.
struct Continued<'a> {
    address: &'a Address,
    document: &'a EncryptionKey,
    record: &'a KeyRecord,
    /// The policy that it had.
    policy_before: Option<Address>,
}

struct World<'a> {
    review: &'a Review<'a>,
    recorded: &'a Recorded,
    before: KeyTiming<'a>,
    after: KeyTiming<'a>,
    /// The continued keys of each policy after the change.
    keys: BTreeMap<Address, Vec<Continued<'a>>>,
}

/// What becomes of keys by a change of when they rotate.
#[derive(Default)]
struct Effect<'a> {
    /// The keys that become due, as far as each one is known.
    due: Vec<&'a EncryptionKey>,
    outside_window: usize,
    frozen: usize,
    /// Is one of them free to start?
    now: bool,
    /// The first instant at which one that waits can start.
    first: Option<Timestamp>,
    /// The first rotation to come of those that do not become due: before and after.
    next: (Option<Timestamp>, Option<Timestamp>),
    /// Of keys whose age is unknown: how many there are, and in how many of [`SAMPLES`] cases one becomes due.
    unknown: usize,
    likely: usize,
    /// Are those cases places in an interval, rather than what a schedule of fixed days makes certain?
    is_range: bool,
}

impl<'a> World<'a> {
    fn new(review: &'a Review<'a>, recorded: &'a Recorded) -> Self {
        let mut keys: BTreeMap<Address, Vec<Continued<'a>>> = BTreeMap::new();
        for (address, key) in &review.head.keys {
            let Some((_, record)) = continued_key(review.head, recorded, address, &key.value) else { continue };
            let Some(policy) = policy_of(&key.value) else { continue };
            let policy_before = policy_of(&record.key);
            keys.entry(policy).or_default().push(Continued { address, document: &key.value, record, policy_before });
        }
        Self { review, recorded, before: KeyTiming::new(review.base), after: KeyTiming::new(review.head), keys }
    }

    fn policy(&self, address: &Address, change: &Change, said: &mut Said<'_>) {
        let after = self.review.head.policies.get(address).map(|policy| &policy.value);
        let Some(after) = after else { return self.removed_policy(address, said) };
        let keys = self.keys.get(address).map_or(&[][..], Vec::as_slice);
        let before = change.before.as_ref().and_then(|_| {
            let name = change.before.as_ref()?.get("policy_name").and_then(|name| name.as_str()?.parse().ok());
            let earlier = name.map_or_else(|| address.clone(), |name| Address::new(address.tenant_id.clone(), name));
            self.review.base.policies.get(&earlier).map(|policy| &policy.value)
        });
        self.suspension(before, after, keys.len(), said);
        if touches(change, &TIMING) || change.action == Action::Create {
            self.timing(keys, before, after, said);
        }
        if let Some(before) = before {
            self.retention(before, after, keys, said);
        }
    }

    fn removed_policy(&self, address: &Address, said: &mut Said<'_>) {
        let Some(record) = self.recorded.policies.get(address) else { return };
        let orphaned = self.recorded.keys.iter().filter(|(_, key)| key.rotation_policy_id == Some(record.id));
        // A key that is renamed, or follows another policy, goes on.
        let orphaned = orphaned.filter(|(address, _)| {
            self.review.head.keys.get(*address).is_some_and(|key| key.value.rotation_policy.is_none())
        });
        match orphaned.count() {
            0 => {}
            n => said.say("unlinked", format!("{} rotated by nothing from then on", subject(n))),
        }
    }

    fn suspension(&self, before: Option<&RotationPolicy>, after: &RotationPolicy, keys: usize, said: &mut Said<'_>) {
        let was_active = before.is_some_and(|before| before.status == PolicyStatus::Active);
        if was_active && after.status == PolicyStatus::Suspended && keys > 0 {
            let message =
                format!("{} not rotated and no old version is disabled, until it is active again", subject(keys));
            said.say("suspended", message);
        }
    }

    fn key(&self, address: &Address, change: &Change, touched: &BTreeSet<&ObjectRef>, said: &mut Said<'_>) {
        let Some(document) = self.review.head.keys.get(address).map(|key| &key.value) else { return };
        let policy = policy_of(document).and_then(|policy| self.review.head.policies.get_key_value(&policy));
        if change.action == Action::Create {
            let strategy = policy.map_or(RotationStrategy::NewKey, |(_, policy)| self.strategy(&policy.value));
            if let Some(dollars) = cost::a_month(document.kms_provider, RotationStrategy::NewKey, 1, None) {
                let more = match strategy {
                    RotationStrategy::NewKey if policy.is_some() => {
                        ", and as much for each old version while it is kept"
                    }
                    _ => "",
                };
                said.say("cost", format!("about +{dollars} USD a month{more}"));
            }
            return;
        }
        // What its policy's own change says covers it.
        let Some((policy, document)) = policy.filter(|(policy, _)| !touched.contains(&ObjectRef::policy(policy)))
        else {
            return;
        };
        if touches(change, &["rotation_policy"]) {
            let keys = self.keys.get(policy).map_or(&[][..], Vec::as_slice);
            let own = keys.iter().position(|key| key.address == address);
            let own = own.and_then(|index| keys.get(index..=index)).unwrap_or_default();
            self.timing(own, None, &document.value, said);
        }
    }

    /// Keys that time made due until now, and does not any more.
    fn unscheduled(
        &self,
        keys: &[Continued<'a>],
        before: Option<&RotationPolicy>,
        after: &RotationPolicy,
        said: &mut Said<'_>,
    ) {
        let by_time = |policy: &RotationPolicy| {
            policy.status == PolicyStatus::Active && policy.rotation_trigger == RotationTrigger::TimeBased
        };
        if by_time(after) {
            return;
        }
        let was = |key: &&Continued<'_>| {
            let earlier = key.policy_before.as_ref().and_then(|policy| self.review.base.policies.get(policy));
            before.or_else(|| earlier.map(|policy| &policy.value)).is_some_and(by_time)
        };
        let number = keys.iter().filter(was).count();
        if number == 0 {
            return;
        }
        let instead = match after.rotation_trigger {
            RotationTrigger::UsageBased => "only what is reported of their use makes them due",
            RotationTrigger::EventBased => "only events make them due",
            RotationTrigger::TimeBased | RotationTrigger::Manual => "nothing but a person's `rotate` rotates them",
        };
        let due = if number == 1 { "becomes" } else { "become" };
        let message = format!("{} no longer {due} due by time: {instead}", count(number, "key"));
        said.say("unscheduled", message);
    }

    /// Who becomes due, and what that brings with it.
    fn timing(
        &self,
        keys: &[Continued<'a>],
        before: Option<&RotationPolicy>,
        after: &RotationPolicy,
        said: &mut Said<'_>,
    ) {
        if after.status == PolicyStatus::Suspended {
            return;
        }
        self.unscheduled(keys, before, after, said);
        let interval = interval_change(before, after);
        let active = keys.iter().filter(|key| key.record.state == KeyState::Active);
        let mut effect = Effect::default();
        let mut certain: BTreeMap<Option<&Address>, (usize, bool)> = BTreeMap::new();
        for key in active {
            if key.record.primary_version.is_some() {
                self.ask(key, &mut effect);
            } else if self.review.ages.is_none() {
                // Keys of the same past policy and the same unknown age have the same answer.
                effect.unknown += 1;
                let (likely, is_range) =
                    *certain.entry(key.policy_before.as_ref()).or_insert_with(|| self.suppose(key));
                effect.likely += likely;
                effect.is_range |= is_range;
                if likely > 0 {
                    effect.due.push(key.document);
                }
            }
        }
        self.say_due(&effect, &interval, said);
        said.count_due(effect.due.len());
        if !effect.due.is_empty() {
            self.say_burst(&effect, after, said);
        } else if let (Some(then), Some(now)) = effect.next
            && then != now
        {
            let message = format!(
                "{interval}no key becomes due at once; the first is due on {} instead of {}",
                instant(now),
                instant(then)
            );
            said.say("next", message);
        }
        if let Some((from, to)) =
            before.and_then(|before| before.rotation_interval_days).zip(after.rotation_interval_days)
            && from != to
            && !keys.is_empty()
        {
            let a_year = |days: u32| (keys.len() * 365).div_ceil(days.max(1) as usize);
            let message = format!("about {} a year instead of {}", count(a_year(to), "rotation"), a_year(from));
            said.say("rate", message);
        }
    }

    /// What the change does to a key whose past is known.
    fn ask(&self, key: &Continued<'a>, effect: &mut Effect<'a>) {
        let now = self.review.now;
        let history = history(key.record);
        let before = key.policy_before.as_ref().and_then(|policy| {
            let active = self.review.base.policies.get(policy)?.value.status == PolicyStatus::Active;
            let freezes = self.before.freezes(key.address, &key.record.key.key_type);
            Some(self.before.of(policy).filter(|_| active)?.decide(key.address, &history, &freezes, now))
        });
        let freezes = self.after.freezes(key.address, &key.document.key_type);
        let Some(timing) = policy_of(key.document).and_then(|policy| self.after.of(&policy)) else { return };
        let after = timing.decide(key.address, &history, &freezes, now);
        if is_due(&after) && !before.as_ref().is_some_and(is_due) {
            effect.due.push(key.document);
            match &after {
                Decision::Waiting { hold, starts_at, .. } => {
                    effect.outside_window += usize::from(*hold == Hold::Window);
                    effect.frozen += usize::from(matches!(hold, Hold::Freeze(_)));
                    effect.first = earlier(effect.first, *starts_at);
                }
                _ => effect.now = true,
            }
        } else {
            let starts = |decision: &Decision| match decision {
                Decision::NotDue { starts_at, .. } => *starts_at,
                _ => None,
            };
            effect.next.0 = earlier(effect.next.0, before.as_ref().and_then(starts));
            effect.next.1 = earlier(effect.next.1, starts(&after));
        }
    }

    /// In how many of [`SAMPLES`] cases a key becomes due that has rotated on time until now; and whether the cases are
    /// places in an interval.
    fn suppose(&self, key: &Continued<'_>) -> (usize, bool) {
        let all = usize::try_from(SAMPLES).unwrap_or_default();
        let now = self.review.now;
        let Some(after) = policy_of(key.document).and_then(|policy| self.after.of(&policy)) else { return (0, false) };
        let before = key.policy_before.as_ref().and_then(|policy| {
            let document = &self.review.base.policies.get(policy)?.value;
            Some((document, self.before.of(policy)?))
        });
        let due = |timing: &Timing, history: &KeyHistory| is_due(&timing.decide(key.address, history, &[], now));
        let long_ago = now - chrono::Duration::days(3650);
        let Some((document, before)) = before else {
            // Nothing rotated it: it may be of any age.
            let history = KeyHistory { managed_since: Some(long_ago), ..KeyHistory::default() };
            return (if due(after, &history) { all } else { 0 }, true);
        };
        let was_active = document.status == PolicyStatus::Active;
        if let Some(days) = document.rotation_interval_days.filter(|_| was_active) {
            let cases = (0..SAMPLES).filter(|case| {
                let age = chrono::Duration::days(i64::from(days)) * *case / SAMPLES;
                let at = Served { at: now - age, slot: None };
                let history = KeyHistory { last_rotation: Some(at), ..KeyHistory::default() };
                due(after, &history) && !due(before, &history)
            });
            return (cases.count(), true);
        }
        let history = KeyHistory { managed_since: Some(long_ago), ..KeyHistory::default() };
        match before.decide(key.address, &history, &[], now) {
            Decision::Due { slot, .. } | Decision::Waiting { slot, .. } if was_active => {
                let at = Served { at: slot, slot: Some(slot) };
                let history = KeyHistory { last_rotation: Some(at), ..KeyHistory::default() };
                (if due(after, &history) { all } else { 0 }, false)
            }
            _ => (if due(after, &history) { all } else { 0 }, true),
        }
    }

    fn say_due(&self, effect: &Effect<'_>, interval: &str, said: &mut Said<'_>) {
        let known = effect.due.len().saturating_sub(if effect.likely > 0 { effect.unknown } else { 0 });
        if effect.likely > 0 {
            let at_most = effect.due.len();
            let samples = usize::try_from(SAMPLES).unwrap_or(1);
            let about = known + (effect.likely + samples / 2) / samples;
            let message = match (effect.is_range, about) {
                (true, about) if about < at_most => format!(
                    "{interval}up to {} at once, about {about} if their ages are spread evenly; how many is known with --state",
                    becomes_due(at_most)
                ),
                (true, _) => {
                    format!("{interval}up to {} at once; how many is known with --state", becomes_due(at_most))
                }
                (false, _) => {
                    format!("{interval}{} at once, if they were rotated on time until now", becomes_due(at_most))
                }
            };
            return said.say("due_at_once", message);
        }
        if effect.due.is_empty() {
            return;
        }
        let mut message = format!("{interval}{} at once", becomes_due(effect.due.len()));
        if effect.outside_window > 0 {
            message = format!("{message}, {} of them outside their window", effect.outside_window);
        }
        if effect.frozen > 0 {
            message = format!("{message}, {} of them frozen", effect.frozen);
        }
        message = match (effect.now, effect.first) {
            (true, _) => format!("{message}; the first can start at the next apply"),
            (false, Some(first)) => format!("{message}; the first can start on {}", instant(first)),
            (false, None) => format!("{message}; none of them can start within two years"),
        };
        said.say("due_at_once", message);
    }

    fn say_burst(&self, effect: &Effect<'_>, after: &RotationPolicy, said: &mut Said<'_>) {
        let strategy = self.strategy(after);
        let rotations = effect.due.iter().map(|key| (*key, strategy));
        let (at_most, about) = if effect.likely > 0 { ("at most ", "up to") } else { ("", "about") };
        if let Some(length) = burst::length(rotations, &self.review.head.config) {
            said.say("burst", format!("at AWS's quotas the burst takes {at_most}{}", burst::words(length)));
        }
        let keys = u64::try_from(effect.due.len()).unwrap_or(u64::MAX);
        if let Some(dollars) = cost::a_month(after.kms_provider, strategy, keys, None).filter(|dollars| *dollars > 0) {
            let until = match cost::days(after, strategy) {
                Some(kept) => format!("for the {} that old versions are kept", days(kept)),
                None => "while old versions are kept, which this policy never ends".to_owned(),
            };
            said.say("cost", format!("{about} +{dollars} USD a month {until}"));
        }
        if let Some(limit) =
            Some(self.review.base.config.limits.max_rotations as usize).filter(|limit| effect.due.len() > *limit)
        {
            let message =
                format!("apply refuses more than {} at once (limits.max_rotations)", count(limit, "rotation"));
            said.say("over_limit", message);
        }
    }

    /// What a policy's change means for old versions: those that it takes away, and those that nobody can go back to.
    fn retention(&self, before: &RotationPolicy, after: &RotationPolicy, keys: &[Continued<'_>], said: &mut Said<'_>) {
        let weight = |policy: &RotationPolicy| policy.old_key_disposition;
        if keys.is_empty() {
            return;
        }
        let retained: u32 = keys
            .iter()
            .filter_map(|key| key.record.primary_version.as_ref())
            .map(|version| version.number.saturating_sub(1))
            .sum();
        let whose = match (self.review.ages, retained) {
            (Some(_), 1) => "the 1 old version that exists, and later ones,".to_owned(),
            (Some(_), n) => format!("the {} that exist, and later ones,", count(n as usize, "old version")),
            (None, _) => format!("the old versions of {}", count(keys.len(), "key")),
        };
        let kept = days(after.retain_old_keys_days);
        if weight(before) == Disposition::Keep && weight(after) != Disposition::Keep {
            said.outlook.ending.extend(said.object.tenant_id.clone());
        }
        match (weight(before), weight(after)) {
            (Disposition::Keep, Disposition::Disable) => said.say(
                "disables",
                format!(
                    "{whose} are disabled {kept} after they were replaced: what they encrypted does not decrypt then"
                ),
            ),
            (Disposition::Keep | Disposition::Disable, Disposition::Destroy) => {
                let disabled = days(after.destroy_after_disabled_days.unwrap_or(0));
                let message = format!(
                    "{whose} are disabled {kept} after they were replaced, and destroyed {disabled} later: what they \
                     encrypted is lost"
                );
                said.say("destroys", message);
            }
            (Disposition::Disable | Disposition::Destroy, Disposition::Keep) => {
                said.say("keeps", format!("{whose} are kept, and disabled ones are enabled again"));
            }
            _ if weight(after) != Disposition::Keep && after.retain_old_keys_days < before.retain_old_keys_days => {
                let message = format!(
                    "versions that are replaced from now on stay readable for {kept} instead of {}",
                    before.retain_old_keys_days
                );
                said.say("retention", message);
            }
            _ => {}
        }
        let hours = |policy: &RotationPolicy| if policy.enable_rollback { policy.rollback_period_hours } else { 0 };
        let in_hours = |hours: u32| count(hours as usize, "hour");
        if hours(after) < hours(before) {
            let message = match hours(after) {
                0 => format!("a rotation cannot be rolled back any more (until now for {})", in_hours(hours(before))),
                after => format!("a rotation can be rolled back for {} instead of {}", in_hours(after), hours(before)),
            };
            said.say("rollback", message);
        }
    }

    /// Whom a new or changed freeze holds back.
    fn freeze(&self, change: &Change, said: &mut Said<'_>) {
        let Some(freeze) = self.review.head.freezes.get(&change.object.name).map(|freeze| &freeze.value) else {
            return;
        };
        let concerned = self.review.head.keys.iter().filter(|(address, key)| {
            key.value.rotation_policy.is_some() && crate::schedule::freeze_applies(freeze, address, &key.value.key_type)
        });
        let message = format!(
            "nothing starts for {} from {} until {} ({})",
            count(concerned.count(), "key"),
            freeze.from.format("%Y-%m-%d %H:%M"),
            freeze.until.format("%Y-%m-%d %H:%M"),
            freeze.timezone
        );
        said.say("frozen", message);
    }

    fn strategy(&self, policy: &RotationPolicy) -> RotationStrategy {
        let own_way = || (self.review.capabilities)(policy.kms_provider).strategies.first().copied();
        policy.rotation_strategy.or_else(own_way).unwrap_or(RotationStrategy::NewVersion)
    }
}

fn policy_of(key: &EncryptionKey) -> Option<Address> {
    Some(Address::new(key.tenant_id.clone(), key.rotation_policy.clone()?))
}

fn touches(change: &Change, fields: &[&str]) -> bool {
    change.before.as_ref().is_some_and(|before| fields.iter().any(|field| before.contains_key(*field)))
}

fn is_due(decision: &Decision) -> bool {
    matches!(decision, Decision::Due { .. } | Decision::Waiting { .. })
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// `interval 90 to 30 days: `, where that is what changed.
fn interval_change(before: Option<&RotationPolicy>, after: &RotationPolicy) -> String {
    match (before.and_then(|before| before.rotation_interval_days), after.rotation_interval_days) {
        (Some(before), Some(after)) if before != after => format!("interval {before} to {}: ", days(after)),
        _ => String::new(),
    }
}

fn becomes_due(keys: usize) -> String {
    format!("{} {} due", count(keys, "key"), if keys == 1 { "becomes" } else { "become" })
}

fn subject(keys: usize) -> String {
    format!("{} {}", count(keys, "key"), if keys == 1 { "is" } else { "are" })
}
