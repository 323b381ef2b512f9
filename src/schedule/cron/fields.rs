//! The five fields, read strictly, so that a mistake is named where it stands.

use super::{TimingProblem, problem};
use crate::model::count;

/// A field of an expression.
struct Field {
    name: &'static str,
    least: u8,
    greatest: u8,
    /// Words for the values from `least` on.
    words: &'static [&'static str],
    /// Is it one of the items that only this field has?
    special: fn(&Field, &str) -> bool,
    /// How its own items are written, for the help.
    example: &'static str,
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, greatest: 59, words: &[], special: |_, _| false, example: "`0`, `30`" },
    Field { name: "hour", least: 0, greatest: 23, words: &[], special: |_, _| false, example: "`2`, `2,14`" },
    Field {
        name: "day of month",
        least: 1,
        greatest: 31,
        words: &[],
        special: Field::is_special_day_of_month,
        example: "`1`, `1,15`, `L` (the last), `15W` (the weekday nearest to the 15th), `LW` (the last weekday)",
    },
    Field {
        name: "month",
        least: 1,
        greatest: 12,
        words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        special: |_, _| false,
        example: "`1`, `JAN`, `*/3` (January, April, July, October)",
    },
    Field {
        name: "day of week",
        least: 0,
        greatest: 7,
        words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        special: Field::is_special_day_of_week,
        example: "`MON`, `1-5`, `MON#1` (the first of the month), `FRIL` (the last of the month)",
    },
];

/// Refuses what is no expression of five fields.
pub(super) fn check(text: &str) -> Result<(), TimingProblem> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != FIELDS.len() || text.trim_start().starts_with('@') {
        let help = match nickname(text.trim()) {
            Some(written_out) => format!("write it out: `{written_out}`"),
            None => {
                "write minute, hour, day of month, month, day of week: `0 2 * * SUN` is Sundays at 02:00".to_owned()
            }
        };
        let message = format!("{text:?} has {}, and a schedule has five", count(parts.len(), "field"));
        return Err(problem("policy/cron-fields", message, help));
    }
    for (field, part) in FIELDS.iter().zip(&parts) {
        let upper = part.to_ascii_uppercase();
        for item in upper.split(',') {
            // `*` goes with nothing else.
            if !(field.has_item(item) || upper == "*") {
                let message = format!("{text:?} is not a cron expression: {item:?} is no {}", field.name);
                let help = format!(
                    "write a number from {} to {}, a range `a-b`, a step `*/n`, or a list of them: {}",
                    field.least, field.greatest, field.example
                );
                return Err(problem("policy/cron-syntax", message, help));
            }
        }
        if upper.split(',').any(|item| item == "L") && upper.split(',').any(|item| item == "LW") {
            let message = format!("{text:?} is not a cron expression: `L` and `LW` exclude each other");
            return Err(problem("policy/cron-syntax", message, "keep one of them"));
        }
    }
    Ok(())
}

/// Does it fire in some months alone, or on a fifth weekday? The dates of such a schedule come back after 28 years at the
/// earliest.
pub(in crate::schedule) fn is_irregular(text: &str) -> bool {
    text.contains('#') || text.split_whitespace().nth(3).is_some_and(|month| month != "*")
}

/// What a nickname of other crons stands for.
fn nickname(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * SUN",
        "@daily" | "@midnight" => "0 0 * * *",
        _ => return None,
    })
}

impl Field {
    /// `a`, `a-b`, `a-b/n`, `*/n`, or what only this field has.
    fn has_item(&self, item: &str) -> bool {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        if let Some(step) = step {
            let is_step = number(step).is_some_and(|step| (1..=self.greatest).contains(&step));
            return is_step && (range == "*" || self.is_range(range));
        }
        self.value(range).is_some() || self.is_range(range) || (self.special)(self, range)
    }

    fn is_range(&self, text: &str) -> bool {
        let Some((from, to)) = text.split_once('-') else { return false };
        // A week may end with its Sunday.
        let to = if to == "SUN" && self.greatest == 7 { Some(7) } else { self.value(to) };
        matches!((self.value(from), to), (Some(from), Some(to)) if from <= to)
    }

    fn value(&self, text: &str) -> Option<u8> {
        let word = || self.words.iter().position(|word| *word == text).and_then(|at| u8::try_from(at).ok());
        let value = number(text).or_else(|| word().map(|at| self.least + at))?;
        (self.least..=self.greatest).contains(&value).then_some(value)
    }

    fn is_special_day_of_month(&self, text: &str) -> bool {
        matches!(text, "L" | "LW") || text.strip_suffix('W').is_some_and(|day| self.value(day).is_some())
    }

    fn is_special_day_of_week(&self, text: &str) -> bool {
        let day = text.strip_suffix('L').or_else(|| {
            let (day, nth) = text.split_once('#')?;
            number(nth).filter(|nth| (1..=5).contains(nth)).map(|_| day)
        });
        day.is_some_and(|day| self.value(day).is_some())
    }
}

/// Digits alone: Rust's own parser takes a sign as well.
fn number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
