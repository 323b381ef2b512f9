//! FORECAST: what the calendar holds, if each thing is done when it can be.
//!
//! [`forecast`] lets time pass for every key: its rotations, each followed by the next, and what its policy asks of the
//! versions that they leave behind. Keys are followed side by side in the order of time, so that memory grows with keys
//! and days, and not with what happens in them.
//!
//! It rests on [`Timing`] and on [`retention`](super::retention), which plans rest on too: what is forecast for an
//! instant is what a plan for that instant has, if everything before was done when it could be.

mod book;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use chrono::{Duration, NaiveDate};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::document::{Capabilities, Limits, Repository};
use crate::model::{
    Address, Disposition, EncryptionKey, Freeze, KeyRecord, KeyState, KmsProvider, Name, PolicyStatus, Recorded,
    Retention, RotationPolicy, RotationStrategy, Timestamp, VersionRecord, VersionState,
};
use crate::schedule::{KeyHistory, Occurrence, Served, Timing, frozen_at};

use self::book::Book;
use super::due::{KeyTiming, history, instant};
use super::keys::continued_key;
use super::retention::{self, Retired};
use super::{Action, applied_config, burst, cost};

/// The farthest that is looked ahead: ten years.
pub const MAX_DAYS: u32 = 3_660;

/// How much may happen before the calendar ends early.
const MAX_ITEMS: usize = 2_000_000;

/// How many entries the calendar has; the others are counted.
const MAX_ENTRIES: usize = 10_000;

/// How many names an entry shows.
const NAMES: usize = 5;

/// How often an apply is supposed to run: what becomes due in between is begun by one and the same.
const APPLY_EVERY: Duration = Duration::minutes(15);

/// A burst that takes longer than this at the key manager's quotas is worth a word.
const LONG_BURST: Duration = Duration::minutes(1);

/// What a forecast is made of.
#[derive(Debug, Clone, Copy)]
pub struct ForecastInputs<'a> {
    /// What git desires.
    pub desired: &'a Repository,
    /// What the state database says.
    pub recorded: &'a Recorded,
    /// Old versions whose time comes before the end.
    pub retired: &'a Retired,
    /// What each provider can do.
    pub capabilities: fn(KmsProvider) -> Capabilities,
    /// Where it begins.
    pub now: Timestamp,
    /// How many days it covers.
    pub days: u32,
    /// This tenant alone.
    pub tenant: Option<&'a Name>,
    /// May anything be started (`KEY_ROTATION_ENABLED`)?
    pub rotation_enabled: bool,
}

/// What is to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Forecast {
    /// Where it begins.
    pub as_of: Timestamp,
    /// Where it ends: the first instant that it does not cover.
    pub until: Timestamp,
    /// Did it end early, because more happens than it can hold?
    pub cut: bool,
    /// Tenants that it leaves out, since their documents have errors.
    pub left_out: Vec<Name>,
    /// How many keys it is of.
    pub keys: usize,
    /// How many of them are not applied yet, and are reckoned as if they were made now.
    pub not_applied: usize,
    /// How often each thing happens.
    pub totals: BTreeMap<Action, usize>,
    /// What old versions cost more at its end than at its beginning, in US dollars a month at list prices; absent where
    /// no price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_a_month: Option<i64>,
    /// The days on which something happens, by UTC.
    pub calendar: Vec<Day>,
    /// What happens, in the order of time: one entry for all keys of a policy that are due at one instant.
    pub entries: Vec<Entry>,
    /// How many entries there are beyond those.
    pub entries_left_out: usize,
    /// What will go wrong, and what cannot be kept.
    pub problems: Vec<Problem>,
    /// Keys for which nothing comes.
    pub idle: Vec<Idle>,
}

/// A day on which something happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Day {
    /// The date, by UTC.
    pub date: NaiveDate,
    /// How often each thing happens.
    pub counts: BTreeMap<Action, usize>,
}

/// Something that happens to keys of one policy at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    /// When it can start.
    pub at: Timestamp,
    /// `rotate`, `disable`, `schedule_destruction` or `destroy`; now and then `enable` or `cancel_destruction`.
    pub action: Action,
    /// Whose keys.
    pub tenant_id: Name,
    /// By which policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<Name>,
    /// How many keys rotate, or how many versions change.
    pub count: usize,
    /// How many keys those are.
    pub key_count: usize,
    /// The first few keys.
    pub keys: Vec<Name>,
    /// What it makes old versions cost more, in US dollars a month at list prices; absent where no price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_a_month: Option<i64>,
    /// The slot that a rotation serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<Timestamp>,
    /// What a rotation waits for at its slot: `window`, `spread`, `minimum_gap`, or a freeze.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// The first slot that passes unserved before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_since: Option<Timestamp>,
    /// Does it happen only if nothing has used the version, which its key manager alone can say by then?
    pub if_unused: bool,
}

/// Something that will not go as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// A stable code: `forecast/limit`, `forecast/approvals`, `forecast/burst`, `forecast/clash`, `forecast/window-too-short`,
    /// `forecast/slot-missed`, `forecast/frozen`, `forecast/no-evidence`.
    pub code: String,
    /// When it happens first.
    pub at: Timestamp,
    /// How often it happens.
    pub times: usize,
    /// What happens, the first time.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Keys for which nothing comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Idle {
    /// Why: `no_policy`, `suspended`, `parked`, `held`, `not_scheduled`, `never_open`, `switched_off`.
    pub code: String,
    /// The same in words.
    pub message: String,
    /// How many.
    pub count: usize,
    /// The first few, as `TENANT/KEY`.
    pub keys: Vec<String>,
}

/// One key on its way through time.
struct Course<'a> {
    address: &'a Address,
    key: &'a EncryptionKey,
    policy: Option<(&'a Name, &'a RotationPolicy)>,
    timing: Option<&'a Timing>,
    freezes: Vec<&'a Freeze>,
    strategy: RotationStrategy,
    capabilities: Capabilities,
    history: KeyHistory,
    /// How many rotations its primary has behind it.
    rotations: u64,
    /// Does it rotate, and do its old versions go?
    rotates: bool,
    retires: bool,
    next: Option<Occurrence>,
    /// Old versions, by when something comes to them; the number keeps two of one instant apart.
    old: BTreeMap<(Timestamp, u64), Old>,
    /// The terms of every version to come.
    terms: Retention,
    /// How often something was planned for an old version.
    planned: u64,
    /// When a version could be disabled for which nothing will ever show that it is not needed.
    unshown: Option<Timestamp>,
}

/// An old version, and what comes to it next.
struct Old {
    version: VersionRecord,
    action: Action,
    if_unused: bool,
    /// Its own terms; none where they are those of every version to come.
    terms: Option<Box<Retention>>,
}

/// Something that happens to one key.
struct Item {
    at: Timestamp,
    action: Action,
    occurrence: Option<Occurrence>,
    if_unused: bool,
    usd: Option<i64>,
}

/// Lets time pass.
#[must_use]
pub fn forecast(inputs: &ForecastInputs<'_>) -> Forecast {
    let timings = KeyTiming::new(inputs.desired);
    let until = inputs.now + Duration::days(inputs.days.min(MAX_DAYS).into());
    let mut book = Book::new(inputs, until);
    let mut courses: Vec<Course<'_>> = Vec::new();
    for (address, key) in &inputs.desired.keys {
        let is_meant = inputs.tenant.is_none_or(|tenant| *tenant == address.tenant_id);
        if !is_meant || inputs.desired.failed_tenants.contains(&address.tenant_id) {
            continue;
        }
        let record = continued_key(inputs.desired, inputs.recorded, address, &key.value).map(|(_, record)| record);
        if record.is_some_and(|record| record.state == KeyState::Forgotten) {
            continue;
        }
        book.forecast.keys += 1;
        book.forecast.not_applied += usize::from(record.is_none());
        courses.push(Course::begin(inputs, &timings, address, &key.value, record, &mut book));
    }
    let mut clock: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    let at = |course: &Course<'_>| course.at().filter(|at| *at < until);
    clock.extend(courses.iter().enumerate().filter_map(|(index, course)| Some(Reverse((at(course)?, index)))));
    let mut items = 0;
    while let Some(Reverse((now, index))) = clock.pop() {
        let Some(course) = courses.get_mut(index) else { continue };
        items += 1;
        if items > MAX_ITEMS {
            book.forecast.cut = true;
            book.forecast.until = now;
            break;
        }
        if let Some(item) = course.step() {
            book.write(course, item);
        }
        if let Some(next) = at(course) {
            clock.push(Reverse((next, index)));
        }
    }
    for course in &courses {
        book.unshown(course);
    }
    book.close()
}

impl<'a> Course<'a> {
    fn begin(
        inputs: &ForecastInputs<'a>,
        timings: &'a KeyTiming<'a>,
        address: &'a Address,
        key: &'a EncryptionKey,
        record: Option<&KeyRecord>,
        book: &mut Book<'a>,
    ) -> Self {
        let policy = key.rotation_policy.as_ref().and_then(|name| {
            let address = Address::new(address.tenant_id.clone(), name.clone());
            Some((name, timings.of(&address), &inputs.desired.policies.get(&address)?.value))
        });
        let capabilities = (inputs.capabilities)(key.kms_provider);
        let made_now = KeyHistory { managed_since: Some(inputs.now), ..KeyHistory::default() };
        let idle = idle(inputs, policy.map(|(_, _, policy)| policy), record);
        let strategy = policy.and_then(|(_, _, policy)| policy.rotation_strategy);
        let mut course = Self {
            address,
            key,
            policy: policy.map(|(name, _, policy)| (name, policy)),
            timing: policy.and_then(|(_, timing, _)| timing),
            freezes: timings.freezes(address, &key.key_type),
            strategy: strategy.or(capabilities.strategies.first().copied()).unwrap_or(RotationStrategy::NewVersion),
            capabilities,
            history: record.map_or(made_now, history),
            rotations: record
                .and_then(|record| record.primary_version.as_ref())
                .map_or(0, |version| u64::from(version.number).saturating_sub(1)),
            rotates: idle.is_none(),
            retires: idle.is_none_or(|(code, _)| matches!(code, "held" | "no_policy")),
            next: None,
            old: BTreeMap::new(),
            terms: policy.map_or_else(Retention::keep, |(_, _, policy)| Retention::of(policy)),
            planned: 0,
            unshown: None,
        };
        // A key that failed is tried again later.
        let from = record.and_then(|record| record.retry_at).map_or(inputs.now, |at| at.max(inputs.now));
        course.look_ahead(from);
        if let Some((code, message)) = idle {
            book.idle(code, message, address);
        } else if course.next.is_none() {
            let decision = course.timing.map(|timing| timing.decide(address, &course.history, &course.freezes, from));
            if matches!(decision, None | Some(crate::schedule::Decision::Unscheduled)) {
                book.idle("not_scheduled", "nothing in their policy makes them due by time", address);
            } else {
                book.idle("never_open", "no window opens for them within two years", address);
            }
        }
        let versions = record.and_then(|record| inputs.retired.versions.get(&record.id));
        for version in versions.into_iter().flatten() {
            course.keep(version, inputs.now);
        }
        course
    }

    /// When something happens next.
    fn at(&self) -> Option<Timestamp> {
        let old = self.old.first_key_value().map(|((at, _), _)| *at);
        let next = self.next.as_ref().map(|next| next.at);
        match (next, old) {
            (Some(next), Some(old)) => Some(next.min(old)),
            (next, old) => next.or(old),
        }
    }

    /// Lets the next thing happen.
    fn step(&mut self) -> Option<Item> {
        let rotation = self.next.as_ref().map(|next| next.at);
        let old = self.old.first_key_value().map(|((at, _), _)| *at);
        if old.is_some_and(|old| rotation.is_none_or(|rotation| old < rotation)) {
            return self.retire();
        }
        let occurrence = self.next.take()?;
        let at = occurrence.at;
        self.history.last_rotation = Some(Served { at, slot: Some(occurrence.slot) });
        let usd = cost::a_month(self.key.kms_provider, self.strategy, 1, Some(self.rotations));
        self.rotations += 1;
        let nobodys = VersionRecord::new(Uuid::nil(), Uuid::nil(), 0, String::new(), at);
        let version = VersionRecord { state: VersionState::Deactivated, deactivated_at: Some(at), ..nobodys };
        self.plan(version, None, at);
        self.look_ahead(at);
        Some(Item { at, action: Action::Rotate, occurrence: Some(occurrence), if_unused: false, usd: usd.map(signed) })
    }

    fn look_ahead(&mut self, now: Timestamp) {
        let timing = self.timing.filter(|_| self.rotates);
        self.next = timing.and_then(|timing| timing.next(self.address, &self.history, &self.freezes, now));
    }

    /// Lets the next thing happen to an old version.
    fn retire(&mut self) -> Option<Item> {
        let ((at, _), Old { mut version, action, if_unused, terms }) = self.old.pop_first()?;
        let destroyed_later = at.checked_add_signed(Duration::days(self.capabilities.waiting_days.into()));
        match action {
            Action::Disable => (version.state, version.disabled_at) = (VersionState::Disabled, Some(at)),
            Action::ScheduleDestruction => {
                (version.state, version.destroy_at) = (VersionState::PendingDestruction, destroyed_later);
            }
            Action::CancelDestruction => (version.state, version.destroy_at) = (VersionState::Disabled, None),
            Action::Enable => (version.state, version.disabled_at) = (VersionState::Deactivated, None),
            _ => version.state = VersionState::Destroyed,
        }
        self.plan(version, terms, at);
        // A key whose deletion is scheduled costs nothing any more; material inside a key never leaves by itself.
        let usd = (action == Action::ScheduleDestruction)
            .then(|| cost::a_month(self.key.kms_provider, RotationStrategy::NewKey, 1, None))
            .flatten();
        Some(Item { at, action, occurrence: None, if_unused, usd: usd.map(|usd| -signed(usd)) })
    }

    /// A version that is old already.
    fn keep(&mut self, version: &VersionRecord, now: Timestamp) {
        let Some(terms) = retention::terms(version, self.policy.map(|(_, policy)| policy)) else { return };
        self.plan(version.clone(), Some(Box::new(terms)), now);
    }

    /// What comes to an old version next, from `now` on.
    fn plan(&mut self, version: VersionRecord, own: Option<Box<Retention>>, now: Timestamp) {
        let terms = own.as_deref().unwrap_or(&self.terms);
        let is_kept = version.state == VersionState::Deactivated && terms.old_key_disposition == Disposition::Keep;
        if is_kept || !self.retires {
            return;
        }
        let Some(due) = retention::next(&version, terms) else { return };
        let mut at = due.at.max(now);
        let mut if_unused = false;
        if due.action == Action::Disable {
            let policy = self.policy.map(|(_, policy)| policy);
            let shown = |at| retention::evidence(&version, terms, policy, None, at).is_ok();
            if !shown(at) {
                let old_enough = terms
                    .data_max_age_days
                    .and_then(|days| version.deactivated_at?.checked_add_signed(Duration::try_days(days.into())?));
                match old_enough.filter(|at| shown(*at)) {
                    Some(later) => at = later,
                    None if self.capabilities.last_use => if_unused = true,
                    None => {
                        self.unshown = Some(self.unshown.map_or(at, |first| first.min(at)));
                        return;
                    }
                }
            }
        }
        let by_itself = due.action == Action::Destroy && self.capabilities.destroys_by_itself;
        if let Some(at) = if by_itself { Some(at) } else { self.opens(at) } {
            self.planned += 1;
            self.old.insert((at, self.planned), Old { version, action: due.action, if_unused, terms: own });
        }
    }

    /// The first instant from `at` on at which windows and freezes let an old version go.
    fn opens(&self, at: Timestamp) -> Option<Timestamp> {
        if let Some(timing) = self.timing {
            return timing.open_at(&self.freezes, at).map_or_else(|(_, until)| until, |()| Some(at));
        }
        let mut at = at;
        while let Some((_, until)) = frozen_at(&self.freezes, at) {
            at = until;
        }
        Some(at)
    }
}

/// Why nothing is started for a key, if so.
fn idle(
    inputs: &ForecastInputs<'_>,
    policy: Option<&RotationPolicy>,
    record: Option<&KeyRecord>,
) -> Option<(&'static str, &'static str)> {
    if !inputs.rotation_enabled {
        return Some(("switched_off", "KEY_ROTATION_ENABLED=false starts nothing"));
    }
    match record.map(|record| record.state) {
        Some(KeyState::Parked) => return Some(("parked", "parked until `resume`")),
        Some(KeyState::Held) => return Some(("held", "rolled back, and held until `release`")),
        _ => {}
    }
    match policy {
        None => Some(("no_policy", "no policy rotates them")),
        Some(policy) if policy.status == PolicyStatus::Suspended => Some(("suspended", "their policy is suspended")),
        Some(_) => None,
    }
}

fn signed(dollars: u64) -> i64 {
    i64::try_from(dollars).unwrap_or(i64::MAX)
}
