//! SARIF 2.1.0 (OASIS), as code scanning reads it.
//!
//! Columns are counted in Unicode code points from 1, and a region ends before its `endColumn`. The other place of a
//! finding, such as the rule that is broken, is a related location.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::diagnostic::Place;
use crate::document;
use crate::model::Severity;
use crate::plan::Plan;

use super::notices::Notice;
use super::text::safe_lines;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A log of one run; `plan` is what the notices are of, where they are not of documents alone.
#[must_use]
pub fn draw(notices: &[Notice<'_>], plan: Option<&Plan>) -> String {
    let mut rules: BTreeMap<&str, &Notice<'_>> = BTreeMap::new();
    for notice in notices {
        rules.entry(notice.code).or_insert(notice);
    }
    let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(index, code)| (*code, index)).collect();
    let results: Vec<Value> =
        notices.iter().map(|notice| result(notice, index.get(notice.code).copied().unwrap_or_default())).collect();
    let mut properties = Map::new();
    if let Some(plan) = plan {
        properties.insert("planDigest".to_owned(), json!(plan.digest));
        properties.insert("asOf".to_owned(), json!(plan.as_of));
        if let Some(commit) = &plan.sources.commit {
            properties.insert("commit".to_owned(), json!(commit));
        }
    }
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "keywheel",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|(code, first)| rule(code, first)).collect::<Vec<_>>(),
            }},
            "automationDetails": { "id": if plan.is_some() { "keywheel/plan/" } else { "keywheel/validate/" } },
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "SRCROOT": { "description": { "text": "the policy repository" } } },
            "properties": properties,
            "results": results,
        }],
    });
    format!("{log}\n")
}

fn rule(code: &str, first: &Notice<'_>) -> Value {
    let words = code.rsplit('/').next().unwrap_or(code).replace(['-', '_'], " ");
    let help = first.help.as_deref().map_or_else(|| format!("{code}: `keywheel validate` shows it in full"), plain);
    json!({
        "id": code,
        "shortDescription": { "text": words },
        "help": { "text": help },
        "defaultConfiguration": { "level": level(first.severity) },
    })
}

fn result(notice: &Notice<'_>, rule: usize) -> Value {
    let mut text = plain(&notice.message);
    if let Some(help) = &notice.help {
        let _ = write!(text, "\n{}", plain(help));
    }
    let mut location = json!({ "physicalLocation": physical(notice.place, notice.source_line) });
    if let (Some(object), Some(location)) = (notice.object, location.as_object_mut()) {
        location.insert(
            "logicalLocations".to_owned(),
            json!([{ "fullyQualifiedName": object.to_string(), "kind": object.kind.to_string() }]),
        );
    }
    let mut result = json!({
        "ruleId": notice.code,
        "ruleIndex": rule,
        "level": level(notice.severity),
        "message": { "text": text },
        "locations": [location],
        "partialFingerprints": { "keywheelNotice/v1": notice.fingerprint },
    });
    if let (Some(related), Some(result)) = (notice.related, result.as_object_mut()) {
        let location = json!({
            "physicalLocation": physical(&related.place, related.source_line.as_deref()),
            "message": { "text": plain(&related.message) },
        });
        result.insert("relatedLocations".to_owned(), json!([location]));
    }
    result
}

fn physical(place: &Place, source_line: Option<&str>) -> Value {
    let mut physical = json!({
        "artifactLocation": artifact(&place.file),
        "region": {
            "startLine": place.line,
            "startColumn": place.column,
            "endLine": place.line,
            "endColumn": place.column.saturating_add(place.length),
        },
    });
    // Of a long line keywheel has a part only, which would be a wrong snippet of the whole.
    if let (Some(line), Some(object)) = (source_line, physical.as_object_mut())
        && !document::is_cut(place)
    {
        object.insert(
            "contextRegion".to_owned(),
            json!({ "startLine": place.line, "endLine": place.line, "snippet": { "text": line } }),
        );
    }
    physical
}

fn artifact(path: &str) -> Value {
    json!({ "uri": uri(path), "uriBaseId": "SRCROOT" })
}

/// A path as a relative reference (RFC 3986): what is not unreserved is percent-encoded, byte by byte.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

/// A message: SARIF reads `[text](1)` as a link, and `{0}` as a placeholder (2.1.0, sections 3.11.5 and 3.11.6).
fn plain(text: &str) -> String {
    safe_lines(text).replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace('{', "{{").replace('}', "}}")
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}
