//! Numbers of things as a sentence has them.

/// `1 key`, `2 keys`, `5,000 policies`.
#[must_use]
pub fn count(number: usize, word: &str) -> String {
    match (number, word.strip_suffix('y')) {
        (1, _) => format!("1 {word}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{} {stem}ies", thousands(number)),
        _ => format!("{} {word}s", thousands(number)),
    }
}

/// `1 day`, `30 days`.
#[must_use]
pub fn days(number: u32) -> String {
    count(number as usize, "day")
}

/// `once`, `3 times`.
#[must_use]
pub fn times(number: u64) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

/// A number with a comma between thousands.
#[must_use]
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!([days(0), days(1), days(30)], ["0 days", "1 day", "30 days"]);
        assert_eq!([count(1, "policy"), count(2, "policy"), count(2, "key")], ["1 policy", "2 policies", "2 keys"]);
        assert_eq!(count(5_000, "rotation"), "5,000 rotations");
        assert_eq!([thousands(123), thousands(1_234_567)], ["123", "1,234,567"]);
        assert_eq!([times(1), times(3)], ["once", "3 times"]);
    }
}
