//! Who may sign: an `allowed_signers` file, as `ssh-keygen(1)` describes it under ALLOWED SIGNERS.
//!
//! A line that cannot be understood stops the work: it may be the one that takes somebody's right away.

use chrono::{Local, NaiveDateTime, TimeZone as _};

use super::ssh::PublicKey;
use crate::model::Timestamp;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signer {
    /// Whom the key belongs to: a list of patterns.
    pub principals: String,
    key: PublicKey,
    /// What for; none means anything.
    namespaces: Option<String>,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
    /// The key signs certificates and no files.
    is_authority: bool,
}

/// Why a key may not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("its key is not among the allowed signers")]
    Unknown,
    #[error("its key is allowed for other purposes only (namespaces)")]
    Namespace,
    #[error("its key was not allowed then (valid-after, valid-before)")]
    Time,
}

/// Reads the file.
///
/// # Errors
/// The first line that cannot be understood, from 1.
pub(crate) fn parse(text: &str) -> Result<Vec<Signer>, usize> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| signer(line).ok_or(number)).collect()
}

/// The signer that a key belongs to, if it may sign for this purpose at this time.
pub(crate) fn allowed<'a>(
    signers: &'a [Signer],
    key: &PublicKey,
    namespace: &str,
    at: Timestamp,
) -> Result<&'a Signer, Refusal> {
    let mut refusal = Refusal::Unknown;
    for signer in signers.iter().filter(|signer| signer.key == *key && !signer.is_authority) {
        let for_this = signer.namespaces.as_ref().is_none_or(|patterns| matches_list(patterns, namespace));
        let then =
            signer.valid_after.is_none_or(|after| at >= after) && signer.valid_before.is_none_or(|before| at <= before);
        match (for_this, then) {
            (true, true) => return Ok(signer),
            (false, _) => refusal = Refusal::Namespace,
            (true, false) => refusal = Refusal::Time,
        }
    }
    Err(refusal)
}

/// `principals [options] keytype base64-key [comment]`.
fn signer(line: &str) -> Option<Signer> {
    let (principals, rest) = field(line)?;
    let (second, after) = field(rest)?;
    let (third, _) = field(after)?;
    let without_options = PublicKey::parse(second, third);
    let (options, key) = match without_options {
        Some(key) => ("", key),
        None => (second, PublicKey::parse(third, field(field(after)?.1)?.0)?),
    };
    let mut signer = Signer {
        principals: principals.trim_matches('"').to_owned(),
        key,
        namespaces: None,
        valid_after: None,
        valid_before: None,
        is_authority: false,
    };
    for option in split(options, ',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = || value.strip_prefix('"')?.strip_suffix('"');
        match name.to_ascii_lowercase().as_str() {
            "cert-authority" => signer.is_authority = true,
            "namespaces" => signer.namespaces = Some(value()?.to_owned()),
            "valid-after" => signer.valid_after = Some(instant(value()?)?),
            "valid-before" => signer.valid_before = Some(instant(value()?)?),
            _ => return None,
        }
    }
    Some(signer)
}

/// The next field, and the rest. Blanks within quotes do not end it.
fn field(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let first = split(text, ' ').next().filter(|first| !first.is_empty())?;
    Some((first, text.get(first.len()..)?))
}

/// The parts between separators outside quotes; a tab separates as a blank does.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |letter: char| {
        quoted ^= letter == '"';
        !quoted && (letter == separator || (separator == ' ' && letter == '\t'))
    })
}

/// `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, in local time unless a `Z` follows.
fn instant(text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').unwrap_or(text);
    let padded = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        14 => digits.to_owned(),
        _ => return None,
    };
    let at = NaiveDateTime::parse_from_str(&padded, "%Y%m%d%H%M%S").ok()?;
    if text.ends_with('Z') { Some(at.and_utc()) } else { Some(Local.from_local_datetime(&at).earliest()?.to_utc()) }
}

/// Does a list of patterns match? One with `!` before it takes away what others allow (PATTERNS in `ssh_config(5)`).
fn matches_list(patterns: &str, text: &str) -> bool {
    let mut allowed = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => allowed |= matches(pattern.as_bytes(), text.as_bytes()),
        }
    }
    allowed
}

/// `*` is any text and `?` any letter.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, text) || text.split_first().is_some_and(|(_, text)| matches(pattern, text))
        }
        (Some((b'?', pattern)), Some((_, text))) => matches(pattern, text),
        (Some((wanted, pattern)), Some((found, text))) => wanted == found && matches(pattern, text),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrJq/X/POHmPtnu7iS3efJ78yiBj+frByWhj9n+R2D1";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ask(line: &str, when: &str) -> Result<String, Refusal> {
        let (kind, base64) = KEY.split_once(' ').unwrap();
        let signers = parse(line).unwrap();
        let key = PublicKey::parse(kind, base64).unwrap();
        allowed(&signers, &key, "keywheel-audit", at(when)).map(|signer| signer.principals.clone())
    }

    #[test]
    fn a_key_signs_for_whom_it_belongs_to() {
        let now = "2026-03-01T12:00:00Z";
        assert_eq!(
            ask(&format!("# who\n\nada@example.org,*@ci {KEY} a comment"), now),
            Ok("ada@example.org,*@ci".to_owned())
        );
        assert_eq!(ask("", now), Err(Refusal::Unknown));
        assert_eq!(ask(&format!("ada cert-authority {KEY}"), now), Err(Refusal::Unknown));
        assert_eq!(ask(&format!("ada namespaces=\"git,keywheel-*\" {KEY}"), now), Ok("ada".to_owned()));
        assert_eq!(ask(&format!("ada namespaces=\"git\" {KEY}"), now), Err(Refusal::Namespace));
        assert_eq!(ask(&format!("ada namespaces=\"*,!keywheel-audit\" {KEY}"), now), Err(Refusal::Namespace));
        let two = format!("ada namespaces=\"git\" {KEY}\nada@ci {KEY}");
        assert_eq!(ask(&two, now), Ok("ada@ci".to_owned()), "one of two lines is enough");
    }

    #[test]
    fn a_key_signs_while_it_is_valid() {
        let line = format!("ada valid-after=\"20260101Z\",valid-before=\"202604010000Z\" {KEY}");
        assert_eq!(ask(&line, "2026-03-01T12:00:00Z"), Ok("ada".to_owned()));
        for outside in ["2025-12-31T23:59:59Z", "2026-04-01T00:00:01Z"] {
            assert_eq!(ask(&line, outside), Err(Refusal::Time));
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for line in ["ada", "ada ssh-ed25519 AAAA", "ada no-such-option ssh-ed25519 AAAA"] {
            assert_eq!(parse(&format!("# who\n{line}")), Err(2), "{line}");
        }
        assert_eq!(parse(&format!("ada valid-after=\"soon\" {KEY}")), Err(1));
        assert_eq!(parse(&format!("ada valid-for=\"ever\" {KEY}")), Err(1));
    }
}
