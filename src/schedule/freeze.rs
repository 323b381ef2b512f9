//! Freezes: spans in which nothing starts, from a local time of their own zone until another.

use chrono_tz::Tz;

use super::slots::resolve;
use super::{TimingProblem, parse_zone};
use crate::model::{Address, Freeze, Timestamp};

/// A span of time: from its first instant to the first that is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Span {
    pub(super) const ALWAYS: Self = Self { from: Timestamp::MIN_UTC, until: Timestamp::MAX_UTC };

    pub(super) fn contains(self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

/// When a freeze holds. One whose zone is unknown, which validation refuses, holds always: what is meant to stop the work
/// stops it.
pub(super) fn span(freeze: &Freeze) -> Span {
    match freeze.timezone.parse::<Tz>() {
        Ok(zone) => Span { from: resolve(freeze.from, zone), until: resolve(freeze.until, zone) },
        Err(_) => Span::ALWAYS,
    }
}

/// Checks a freeze: a known zone, an end after its beginning.
#[must_use]
pub fn check_freeze(freeze: &Freeze) -> Vec<TimingProblem> {
    let mut problems = Vec::new();
    if let Err(problem) = parse_zone(&freeze.timezone) {
        problems.push(TimingProblem { code: "freeze/unknown-timezone", ..problem });
    }
    if freeze.until <= freeze.from {
        problems.push(TimingProblem {
            code: "freeze/ends-before-it-begins",
            field: "until",
            message: format!("the freeze ends at {} and begins at {}", freeze.until, freeze.from),
            help: "let `until` be later than `from`".to_owned(),
        });
    }
    problems
}

/// The freeze that holds an instant, and when it ends; of several the one that ends last.
#[must_use]
pub fn frozen_at<'a>(freezes: &[&'a Freeze], now: Timestamp) -> Option<(&'a Freeze, Timestamp)> {
    let spans = freezes.iter().map(|freeze| (*freeze, span(freeze)));
    spans.filter(|(_, span)| span.contains(now)).map(|(freeze, span)| (freeze, span.until)).max_by_key(|(_, end)| *end)
}

/// Does a freeze concern a key (or policy) of this tenant and class of data?
#[must_use]
pub fn freeze_applies(freeze: &Freeze, key: &Address, key_type: &str) -> bool {
    freeze.selects(&key.tenant_id, key_type)
}
