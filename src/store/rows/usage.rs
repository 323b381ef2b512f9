//! `usage_counters`.

/// A total as a column holds it; more than fits is as much as fits.
pub(in crate::store) fn integer(total: u64) -> i64 {
    i64::try_from(total).unwrap_or(i64::MAX)
}

/// Totals of one version from all its sources.
#[derive(Debug, Default)]
pub(in crate::store) struct UsageSum(u64);

impl UsageSum {
    /// Adds a column's value.
    pub(in crate::store) fn add(&mut self, total: i64) {
        self.0 = self.0.saturating_add(u64::try_from(total).unwrap_or(0));
    }

    pub(in crate::store) const fn get(&self) -> u64 {
        self.0
    }
}
