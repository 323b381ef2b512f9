//! Scalars: what a plain one means in YAML 1.2's core schema, and where older readers of YAML see something else.

use granit_parser::ErrorKind;

/// The meaning of a scalar in YAML 1.2's core schema (YAML 1.2.2, section 10.3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Core {
    Null,
    Boolean(bool),
    /// A whole number, which JSON can carry exactly.
    Integer(i128),
    /// Any other number. JSON has neither NaN nor infinities.
    Float(f64),
    /// Text; also every quoted scalar.
    Text,
    /// Plain text or a number that readers of YAML 1.1 take for something else.
    Ambiguous(Ambiguity),
}

/// What a reader of YAML 1.1 sees in a plain scalar that YAML 1.2 reads otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ambiguity {
    /// `yes`, `on`, `no`, `off`.
    Boolean(bool),
    /// `02:00:00`: a number of base 60.
    Sexagesimal,
    /// `010`: a number of base 8.
    Octal,
    /// `1_000` or `0b1`.
    Number,
    /// `2026-01-31`.
    Date,
}

/// Reads a plain scalar.
pub(super) fn resolve(text: &str) -> Core {
    let Some(first) = text.bytes().next() else { return Core::Null };
    match first {
        b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'y' | b'Y' | b'o' | b'O' => word(text),
        b'0'..=b'9' | b'+' | b'-' | b'.' => number(text),
        _ => Core::Text,
    }
}

fn word(text: &str) -> Core {
    match text {
        "~" | "null" | "Null" | "NULL" => Core::Null,
        "true" | "True" | "TRUE" => Core::Boolean(true),
        "false" | "False" | "FALSE" => Core::Boolean(false),
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Core::Ambiguous(Ambiguity::Boolean(true)),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => Core::Ambiguous(Ambiguity::Boolean(false)),
        _ => Core::Text,
    }
}

fn number(text: &str) -> Core {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if decimal {
        if digits.len() > 1 && digits.starts_with('0') {
            return Core::Ambiguous(Ambiguity::Octal);
        }
        return integer(text, digits, 10, negative);
    }
    if text.len() == digits.len() {
        if let Some(hex) = digits.strip_prefix("0x").filter(|hex| is_all(hex, |byte| byte.is_ascii_hexdigit())) {
            return integer(text, hex, 16, false);
        }
        if digits.strip_prefix("0o").is_some_and(|octal| is_all(octal, |byte| matches!(byte, b'0'..=b'7'))) {
            return Core::Ambiguous(Ambiguity::Octal);
        }
    }
    match digits {
        ".inf" | ".Inf" | ".INF" => return Core::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        ".nan" | ".NaN" | ".NAN" if text.len() == digits.len() => return Core::Float(f64::NAN),
        _ => {}
    }
    if is_core_float(digits) {
        return text.parse().map_or(Core::Text, Core::Float);
    }
    ambiguous_number(text, digits).map_or(Core::Text, Core::Ambiguous)
}

fn integer(text: &str, digits: &str, radix: u32, negative: bool) -> Core {
    match i128::from_str_radix(digits, radix) {
        Ok(number) => Core::Integer(if negative { -number } else { number }),
        Err(_) => text.parse().map_or(Core::Text, Core::Float),
    }
}

fn is_all(text: &str, allowed: fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(allowed)
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_core_float(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (digits.get(..at).unwrap_or(""), digits.get(at + 1..)),
        None => (digits, None),
    };
    let exponent_fits = exponent
        .is_none_or(|power| is_all(power.strip_prefix(['-', '+']).unwrap_or(power), |byte| byte.is_ascii_digit()));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    exponent_fits && digits_only(whole) && digits_only(fraction) && !(whole.is_empty() && fraction.is_empty())
}

/// The forms of YAML 1.1's types that are plain text in YAML 1.2 (yaml.org/type, of 2005).
fn ambiguous_number(text: &str, digits: &str) -> Option<Ambiguity> {
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let of = |allowed: &[u8]| digits.bytes().all(|byte| byte.is_ascii_digit() || allowed.contains(&byte));
    if of(b":_.") && digits.contains(':') {
        let mut parts = digits.split(':');
        let leading = parts.next().is_some_and(|part| !part.is_empty());
        let base_60 =
            parts.all(|part| !part.is_empty() && part.split('.').next().is_some_and(|whole| whole.len() <= 2));
        return (leading && base_60).then_some(Ambiguity::Sexagesimal);
    }
    if of(b"_.") && digits.contains('_') {
        return Some(Ambiguity::Number);
    }
    if digits.strip_prefix("0b").is_some_and(|bits| is_all(bits, |byte| matches!(byte, b'0' | b'1' | b'_'))) {
        return Some(Ambiguity::Number);
    }
    (text.len() == digits.len() && is_date(digits)).then_some(Ambiguity::Date)
}

/// `2026-01-31`, and whatever follows it with a `T`, a `t` or a space.
fn is_date(text: &str) -> bool {
    let day = text.split(['T', 't', ' ']).next().unwrap_or(text);
    let mut parts = day.split('-');
    let mut part = |lengths: std::ops::RangeInclusive<usize>| {
        parts.next().is_some_and(|part| lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    part(4..=4) && part(1..=2) && part(1..=2) && parts.next().is_none()
}

/// A text short enough and tame enough to be quoted in a message.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or("");
    let short: String = line.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() == text.len() { short } else { format!("{short}…") }
}

/// What a syntax error means to somebody who writes policies, and what to do.
pub(super) fn explain_syntax(kind: &ErrorKind) -> (String, &'static str) {
    let help = match kind {
        ErrorKind::TabInIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "indent with spaces, not with tabs",
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => "close the quote",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator => "close the bracket, and separate the items with commas",
        ErrorKind::UnexpectedEofImplicitFlowMapping => "write an item between the two commas, or remove one",
        ErrorKind::MisplacedFlowCollectionEnd | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            "remove this bracket, or open it before"
        }
        ErrorKind::MappingValueNotAllowed
        | ErrorKind::InvalidColonPlacement
        | ErrorKind::SimpleKeyExpected
        | ErrorKind::InvalidSimpleKey => {
            "a field is `name: value`; a value that contains `: ` is quoted, and fields of one level are indented alike"
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::BlockSequenceEntryNotAllowed => {
            "indent the fields of one level alike, with two spaces more for each level"
        }
        ErrorKind::UnexpectedCharacter { .. } => "a value that begins with a special character is quoted",
        ErrorKind::UnknownQuotedScalarEscape
        | ErrorKind::InvalidQuotedScalarHexEscape
        | ErrorKind::InvalidUnicodeEscape => "write the backslash twice, or use single quotes",
        ErrorKind::BomInsideDocument => "remove the byte order mark: it may only be the first character of a file",
        ErrorKind::CommentNotSeparated => "write a space before `#`, or quote the value",
        ErrorKind::ExpectedDocumentStart | ErrorKind::InvalidDocumentEnd => "separate documents with a line `---`",
        _ => "correct the YAML here",
    };
    (format!("this is not YAML: {kind}"), help)
}
