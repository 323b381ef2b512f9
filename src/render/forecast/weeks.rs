//! The days of a forecast as columns of weeks, from Monday to Sunday.

use std::collections::BTreeMap;

use chrono::{Datelike as _, Days, NaiveDate};

use crate::plan::{Action, Forecast};

use super::is_loss;

/// Shades, the one for nothing included.
pub const LEVELS: usize = 5;

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub date: NaiveDate,
    pub rotations: usize,
    /// From 0, nothing, to the most.
    pub level: usize,
    /// Does something stop decrypting?
    pub loses: bool,
}

/// Every day, a column for each week.
pub struct Weeks {
    pub columns: Vec<[Option<Cell>; 7]>,
    /// The most rotations of a day.
    most: usize,
}

impl Weeks {
    pub fn of(forecast: &Forecast) -> Self {
        let days: BTreeMap<NaiveDate, _> = forecast.calendar.iter().map(|day| (day.date, &day.counts)).collect();
        let rotations = |date: &NaiveDate| days.get(date).and_then(|it| it.get(&Action::Rotate)).copied().unwrap_or(0);
        let most = days.keys().map(rotations).max().unwrap_or(0);
        let first = forecast.as_of.date_naive();
        // The last day is the one of the last instant that is covered.
        let last = (forecast.until - chrono::Duration::seconds(1)).date_naive().max(first);
        let mut columns: Vec<[Option<Cell>; 7]> = Vec::new();
        let mut date = first;
        while date <= last {
            let row = date.weekday().num_days_from_monday() as usize;
            if row == 0 || columns.is_empty() {
                columns.push([None; 7]);
            }
            let rotations = rotations(&date);
            let loses = days.get(&date).is_some_and(|counts| counts.keys().any(|action| is_loss(*action)));
            let cell = Cell { date, rotations, level: level(rotations, most), loses };
            if let Some(place) = columns.last_mut().and_then(|week| week.get_mut(row)) {
                *place = Some(cell);
            }
            let Some(next) = date.checked_add_days(Days::new(1)) else { break };
            date = next;
        }
        Self { columns, most }
    }

    pub fn has_loss(&self) -> bool {
        self.columns.iter().flatten().flatten().any(|cell| cell.loses)
    }

    /// What each level means: `1-3`; none for a level that no number of rotations has.
    pub fn scale(&self) -> [Option<String>; LEVELS] {
        let mut scale = [const { None }; LEVELS];
        for (index, range) in scale.iter_mut().enumerate() {
            let least = (0..=self.most).find(|number| level(*number, self.most) == index);
            let most = (0..=self.most).rev().find(|number| level(*number, self.most) == index);
            *range = least.zip(most).map(
                |(least, most)| {
                    if least == most { least.to_string() } else { format!("{least}-{most}") }
                },
            );
        }
        scale
    }
}

/// In four equal steps up to the most; nothing is a level of its own.
fn level(rotations: usize, most: usize) -> usize {
    (rotations * (LEVELS - 1)).div_ceil(most.max(1))
}
