//! What is written down of a forecast while time passes: entries, days, and what will not go as it should.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::document::{Approvals, Config};
use crate::model::{Address, EncryptionKey, Name, RotationStrategy, Timestamp, count};
use crate::schedule::Hold;

use super::{
    APPLY_EVERY, Action, Course, Day, Entry, Forecast, ForecastInputs, Idle, Item, LONG_BURST, Limits, MAX_ENTRIES,
    NAMES, Problem, applied_config, burst, instant,
};

/// The forecast under construction.
pub(super) struct Book<'a> {
    pub forecast: Forecast,
    config: Config,
    limits: Limits,
    usd: Option<i64>,
    days: BTreeMap<NaiveDate, BTreeMap<Action, usize>>,
    /// The entries of the instant that is written.
    at: Timestamp,
    now: BTreeMap<Group<'a>, (Entry, &'a Name)>,
    /// What one apply has to do.
    apply: Apply<'a>,
    problems: BTreeMap<(&'static str, String), Problem>,
    idle: BTreeMap<&'static str, Idle>,
}

/// What keys of one instant have in common that stand in one entry.
type Group<'a> = (Action, &'a Name, Option<&'a Name>, bool, Option<(Timestamp, Option<Timestamp>, Option<Hold>)>);

/// What becomes due between two applies.
#[derive(Default)]
struct Apply<'a> {
    from: Timestamp,
    rotations: Vec<(&'a EncryptionKey, RotationStrategy)>,
    /// Versions of each tenant that stop decrypting.
    destructions: BTreeMap<&'a Name, usize>,
    /// The policies with windows, and when those close that are open.
    closes: BTreeMap<(&'a Name, &'a Name), Timestamp>,
}

impl<'a> Book<'a> {
    pub(super) fn new(inputs: &ForecastInputs<'a>, until: Timestamp) -> Self {
        let config = applied_config(inputs.recorded).unwrap_or_else(|| inputs.desired.config.clone());
        Self {
            forecast: Forecast {
                as_of: inputs.now,
                until,
                cut: false,
                left_out: inputs
                    .desired
                    .failed_tenants
                    .iter()
                    .filter(|name| inputs.tenant.is_none_or(|tenant| tenant == *name))
                    .cloned()
                    .collect(),
                keys: 0,
                not_applied: 0,
                totals: BTreeMap::new(),
                usd_a_month: None,
                calendar: Vec::new(),
                entries: Vec::new(),
                entries_left_out: 0,
                problems: Vec::new(),
                idle: Vec::new(),
            },
            limits: config.limits,
            config,
            usd: None,
            days: BTreeMap::new(),
            at: inputs.now,
            now: BTreeMap::new(),
            apply: Apply { from: inputs.now, ..Apply::default() },
            problems: BTreeMap::new(),
            idle: BTreeMap::new(),
        }
    }

    /// Writes down what happens. Time never goes back.
    pub(super) fn write(&mut self, course: &Course<'a>, item: Item) {
        let Item { at, action, occurrence, if_unused, usd } = item;
        if at > self.at {
            self.end_instant();
            self.at = at;
        }
        if at - self.apply.from >= APPLY_EVERY {
            self.end_apply();
            let every = APPLY_EVERY.num_seconds();
            let from = Timestamp::from_timestamp(at.timestamp().div_euclid(every) * every, 0).unwrap_or(at);
            self.apply = Apply { from: from.max(self.forecast.as_of), ..Apply::default() };
        }
        *self.forecast.totals.entry(action).or_default() += 1;
        *self.days.entry(at.date_naive()).or_default().entry(action).or_default() += 1;
        if let Some(usd) = usd {
            self.usd = Some(self.usd.unwrap_or(0).saturating_add(usd));
        }
        let tenant = &course.address.tenant_id;
        let policy = course.policy.map(|(name, _)| name);
        match action {
            Action::Rotate => {
                self.apply.rotations.push((course.key, course.strategy));
                if let (Some(policy), Some((_, document))) = (policy, course.policy)
                    && !document.rotation_windows.is_empty()
                {
                    let closes = course.timing.and_then(|timing| timing.closes_at(&course.freezes, at));
                    let closes = closes.unwrap_or(Timestamp::MAX_UTC);
                    let earliest = self.apply.closes.entry((tenant, policy)).or_insert(closes);
                    *earliest = (*earliest).min(closes);
                }
            }
            Action::Disable | Action::ScheduleDestruction => *self.apply.destructions.entry(tenant).or_default() += 1,
            _ => {}
        }
        if let (Some(occurrence), Some(policy)) = (&occurrence, policy) {
            self.delays(tenant, policy, occurrence);
        }
        let (slot, missed_since, hold) = match occurrence {
            Some(it) => (Some(it.slot), it.overdue_since, it.hold),
            None => (None, None, None),
        };
        let group = (action, tenant, policy, if_unused, slot.map(|slot| (slot, missed_since, hold.clone())));
        let name = &course.address.name;
        let new = || Entry {
            at,
            action,
            tenant_id: tenant.clone(),
            policy_name: policy.cloned(),
            count: 0,
            key_count: 0,
            keys: Vec::new(),
            usd_a_month: None,
            slot,
            held_by: hold.map(|hold| word(&hold)),
            missed_since,
            if_unused,
        };
        let (entry, last) = self.now.entry(group).or_insert_with(|| (new(), name));
        // Whatever happens to one key at one instant is written in a row.
        if entry.count == 0 || *last != name {
            entry.key_count += 1;
            *last = name;
            if entry.keys.len() < NAMES {
                entry.keys.push(name.clone());
            }
        }
        entry.count += 1;
        if let Some(usd) = usd {
            entry.usd_a_month = Some(entry.usd_a_month.unwrap_or(0).saturating_add(usd));
        }
    }

    /// What a rotation waits for, and what that makes it miss.
    fn delays(&mut self, tenant: &Name, policy: &Name, it: &super::Occurrence) {
        if let Some(Hold::Freeze(name)) = &it.hold {
            let message =
                format!("rotations wait from {} until {}: frozen by {name:?}", instant(it.slot), instant(it.at));
            let help = "where that is too late, rotate by hand before the freeze, or let it end earlier";
            self.problem("forecast/frozen", name.clone(), it.at, message, help);
        }
        if let Some(missed) = it.overdue_since {
            let message = format!(
                "{tenant}/{policy} misses its slot of {}, and rotates at {} for that of {}",
                instant(missed),
                instant(it.at),
                instant(it.slot)
            );
            let help = "let its windows open once in each interval, or make the interval longer";
            self.problem("forecast/slot-missed", format!("{tenant}/{policy}"), it.at, message, help);
        }
    }

    fn problem(&mut self, code: &'static str, of: String, at: Timestamp, message: String, help: &str) {
        let new = || Problem { code: code.to_owned(), at, times: 0, message, help: help.to_owned() };
        self.problems.entry((code, of)).or_insert_with(new).times += 1;
    }

    /// Nothing will ever show that these versions are not needed.
    pub(super) fn unshown(&mut self, course: &Course<'_>) {
        let (Some(at), Some((policy, document))) = (course.unshown, course.policy) else { return };
        if at >= self.forecast.until {
            return;
        }
        let whose = format!("{}/{policy}", course.address.tenant_id);
        let message = format!(
            "{whose} asks to {} old versions, and nothing will show that they are not needed: {} does not say when one was \
             used last",
            document.old_key_disposition, course.key.kms_provider
        );
        let help =
            "say how old data gets (data_max_age_days), record what was re-encrypted (keywheel attest), or waive it";
        self.problem("forecast/no-evidence", whose, at, message, help);
    }

    pub(super) fn idle(&mut self, code: &'static str, message: &str, key: &Address) {
        let new = || Idle { code: code.to_owned(), message: message.to_owned(), count: 0, keys: Vec::new() };
        let idle = self.idle.entry(code).or_insert_with(new);
        idle.count += 1;
        if idle.keys.len() < NAMES {
            idle.keys.push(key.to_string());
        }
    }

    fn end_instant(&mut self) {
        for (entry, _) in std::mem::take(&mut self.now).into_values() {
            if self.forecast.entries.len() < MAX_ENTRIES {
                self.forecast.entries.push(entry);
            } else {
                self.forecast.entries_left_out += 1;
            }
        }
    }

    /// What one apply would be refused for, and how long it takes.
    fn end_apply(&mut self) {
        let Apply { from, rotations, destructions, closes } = std::mem::take(&mut self.apply);
        let mut tenants: BTreeMap<&Name, usize> = BTreeMap::new();
        for (key, _) in &rotations {
            *tenants.entry(&key.tenant_id).or_default() += 1;
        }
        let limits = self.limits;
        self.limit(("rotation", ""), "max_rotations", from, &tenants, limits.max_rotations);
        self.limit(
            ("version", " to disable or destroy"),
            "max_destructions",
            from,
            &destructions,
            limits.max_destructions,
        );
        self.approvals(from, &rotations, &destructions);
        let long = |rotations: &[(&'a EncryptionKey, RotationStrategy)]| {
            burst::length(rotations.iter().copied(), &self.config).filter(|it| *it > LONG_BURST)
        };
        let Some(length) = long(&rotations) else { return };
        let (count, words) = (rotations.len(), burst::words(length));
        let mut policies: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, strategy) in &rotations {
            policies.entry((&key.tenant_id, &key.rotation_policy)).or_default().push((*key, *strategy));
        }
        if policies.len() > 1 && policies.values().all(|rotations| long(rotations).is_none()) {
            let named = policies.keys().filter_map(|(tenant, policy)| Some(format!("{tenant}/{}", policy.as_ref()?)));
            let message = format!(
                "{count} rotations of {} policies ({}) are due from {} on, and together take {words} at AWS's quotas",
                policies.len(),
                some(named, policies.len()),
                instant(from)
            );
            let help = "let them come at different times of day (rotation_time_of_day), or spread them";
            self.problem("forecast/clash", String::new(), from, message, help);
        } else {
            let message =
                format!("{count} rotations that are due from {} on take {words} at AWS's quotas", instant(from));
            let help = "spread them (rotation_spread_minutes), or have the quotas raised";
            self.problem("forecast/burst", String::new(), from, message, help);
        }
        for ((tenant, policy), closes) in closes {
            if closes < from + length {
                let message = format!(
                    "the window of {tenant}/{policy} closes at {}, before {count} rotations that take {words} from {} on",
                    instant(closes),
                    instant(from)
                );
                let help =
                    "what does not fit waits for the next window: open it for longer, or spread less work into it";
                self.problem("forecast/window-too-short", format!("{tenant}/{policy}"), from, message, help);
            }
        }
    }

    /// What an apply without a plan lets wait until somebody has approved a plan of it.
    fn approvals(
        &mut self,
        at: Timestamp,
        rotations: &[(&'a EncryptionKey, RotationStrategy)],
        destructions: &BTreeMap<&Name, usize>,
    ) {
        let Approvals { required, rotations_over } = self.config.approvals;
        if required == 0 {
            return;
        }
        let by = match required {
            1 => "an owner has".to_owned(),
            more => format!("{more} owners have"),
        };
        let help = "plan it with --out then, and have the plan approved (keywheel approve)";
        let versions: usize = destructions.values().sum();
        if versions > 0 {
            let message = format!(
                "versions to disable or destroy from {} on wait until {by} approved a plan of that: {versions}",
                instant(at)
            );
            self.problem("forecast/approvals", "destructions".to_owned(), at, message, help);
        }
        if rotations_over.is_some_and(|most| rotations.len() > most as usize) {
            let message = format!(
                "{} rotations due from {} on wait until {by} approved a plan of that",
                rotations.len(),
                instant(at)
            );
            self.problem("forecast/approvals", "rotations".to_owned(), at, message, help);
        }
    }

    /// An apply over a limit is refused as a whole.
    fn limit(
        &mut self,
        (what, how): (&str, &str),
        limit: &'static str,
        at: Timestamp,
        tenants: &BTreeMap<&Name, usize>,
        most: u32,
    ) {
        let number: usize = tenants.values().sum();
        if number <= most as usize {
            return;
        }
        let are = if number == 1 { "is" } else { "are" };
        let message = format!(
            "{}{how} {are} due within {} minutes from {} on, and limits.{limit} allows {most}: that apply is refused",
            count(number, what),
            APPLY_EVERY.num_minutes(),
            instant(at)
        );
        let help = "raise the limit before, or spread what is due; an override names that plan alone";
        self.problem("forecast/limit", limit.to_owned(), at, message, help);
    }

    pub(super) fn close(mut self) -> Forecast {
        self.end_instant();
        self.end_apply();
        let mut problems: Vec<Problem> = self.problems.into_values().collect();
        problems.sort_by(|a, b| (a.at, &a.code, &a.message).cmp(&(b.at, &b.code, &b.message)));
        Forecast {
            usd_a_month: self.usd,
            calendar: self.days.into_iter().map(|(date, counts)| Day { date, counts }).collect(),
            problems,
            idle: self.idle.into_values().collect(),
            ..self.forecast
        }
    }
}

/// The first few names of several.
fn some(names: impl Iterator<Item = String>, all: usize) -> String {
    let shown = names.take(NAMES).collect::<Vec<_>>().join(", ");
    if all > NAMES { format!("{shown} and {} more", all - NAMES) } else { shown }
}

/// What something waits for, in a word, or the freeze's name.
fn word(hold: &Hold) -> String {
    match hold {
        Hold::Spread => "spread".to_owned(),
        Hold::MinimumGap => "minimum_gap".to_owned(),
        Hold::Window => "window".to_owned(),
        Hold::Freeze(name) => format!("freeze {name:?}"),
        Hold::FirstSlotAfterAdoption => "adopted_overdue".to_owned(),
    }
}
