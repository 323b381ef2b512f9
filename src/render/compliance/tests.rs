//! Every fact of the evidence stands in every form that has room for it, and no text gets out of its place.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::engine::{AuditEvidence, ComplianceSummary};
use crate::model::{KeyState, KmsProvider, Name, PolicyStatus, RotationCause, Timestamp};
use crate::plan::compliance::{DEFINITION, LIMITS, PolicyEvidence, PolicyVersion};
use crate::store::AuditHead;

const PLAIN: View = View { width: None, full: true };

fn at(day: &str) -> Timestamp {
    format!("{day}T02:00:00Z").parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn in_force(policy: &str, from: &str, until: &str) -> InForce {
    InForce { from: at(from), until: at(until), policy_name: name(policy) }
}

/// A key that was renamed and moved to another policy, with a gap, a rotation that was approved, one that failed and a rollback.
/// `text` stands wherever text can.
fn records(text: &str) -> KeyEvidence {
    let turn = |number: u128, on: &str| Turn {
        rotation_id: Uuid::from_u128(number),
        key_id: Uuid::from_u128(1),
        key_name: name("patients"),
        workflow: Workflow::Rotate,
        result: Phase::Settled,
        cause: RotationCause::Due,
        reason: format!("the reason of {number} {text}"),
        started_at: at(on),
        ended_at: Some(at(on)),
        duration_ms: Some(4_321),
        from_ref: Some("key:6".to_owned()),
        to_ref: Some("key:7".to_owned()),
        commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        correlation_id: format!("run-{number}"),
        approvers: [format!("{text} ben@example.org")].into(),
        error: None,
    };
    let failed = Turn {
        result: Phase::Abandoned,
        to_ref: None,
        error: Some(format!("{text} AccessDenied")),
        approvers: [].into(),
        ..turn(2, "2026-04-02")
    };
    let rolled_back = Turn { workflow: Workflow::Rollback, cause: RotationCause::Manual, ..turn(3, "2026-04-05") };
    let renamed = Turn { key_name: name("records"), ..turn(4, "2026-05-07") };
    let gap = Gap {
        code: "late".to_owned(),
        from: at("2026-04-01"),
        until: at("2026-04-10"),
        message: format!("it was due on 2026-03-31 {text}"),
        meanwhile: vec!["it was parked".to_owned(), "2 rotations failed".to_owned()],
    };
    KeyEvidence {
        tenant_id: name("acme"),
        key_name: name("records"),
        key_id: Uuid::from_u128(1),
        key_type: format!("phi_data {text}"),
        kms_provider: KmsProvider::Local,
        kms_alias: Some(format!("alias/records {text}")),
        managed_since: at("2026-03-01"),
        removed_at: None,
        state: KeyState::Active,
        in_force: vec![in_force("Monthly", "2026-03-01", "2026-05-01"), in_force("Weekly", "2026-05-01", "2026-06-01")],
        rotations: vec![turn(1, "2026-03-31"), failed, rolled_back, renamed],
        gaps: vec![gap],
        days: 92.0,
        days_within: 83.0,
    }
}

/// A policy that was suspended, with a waiver that was taken out.
fn monthly(text: &str) -> PolicyEvidence {
    let version = PolicyVersion {
        from: at("2026-03-02"),
        commit: Some("fedcba9876543210fedcba9876543210fedcba98".to_owned()),
        actor: format!("ci@runner {text}"),
        asks: format!("every 30 days {text}"),
        status: PolicyStatus::Suspended,
    };
    let waiver = WaiverEvidence {
        rule: format!("guardrail/hipaa-a-year {text}"),
        from: at("2026-03-03"),
        until: "2026-12-31".parse().unwrap(),
        reason: format!("a device without a clock {text}"),
        approver: format!("cleo@example.org {text}"),
        removed_at: Some(at("2026-03-11")),
    };
    PolicyEvidence {
        tenant_id: name("acme"),
        policy_name: name("Monthly"),
        versions: vec![version],
        waivers: vec![waiver],
    }
}

/// All of it.
fn year(text: &str) -> ComplianceReport {
    let records = records(text);
    let removed = KeyEvidence {
        key_name: name("archive"),
        key_id: Uuid::from_u128(9),
        removed_at: Some(at("2026-04-20")),
        state: KeyState::Forgotten,
        in_force: vec![in_force("Monthly", "2026-03-01", "2026-04-20")],
        rotations: Vec::new(),
        gaps: Vec::new(),
        days: 50.0,
        days_within: 50.0,
        ..records.clone()
    };
    let rule = RuleEvidence {
        code: "guardrail/hipaa".to_owned(),
        message: format!("HIPAA asks for it {text}"),
        kept: 7,
        broken_by: vec![format!("acme/Yearly {text}")],
        waived: vec![format!("acme/Pumps until 2026-12-31 {text}")],
    };
    ComplianceReport {
        framework: "HIPAA",
        from: at("2026-03-01"),
        until: at("2026-06-01"),
        as_of: at("2026-06-02"),
        lineage: None,
        commit: Some("aaaabbbbccccddddeeeeffff0000111122223333".to_owned()),
        definition: DEFINITION,
        limits: LIMITS,
        summary: ComplianceSummary {
            keys: 2,
            keys_without_gap: 1,
            untagged_keys: 5,
            key_days: 142.0,
            key_days_within: 133.0,
            rate_percent: Some(93.66),
            rotations: 2,
            failed_rotations: 1,
            gaps: 1,
        },
        rules: vec![rule],
        policies: vec![monthly(text)],
        keys: vec![records, removed],
        audit: AuditEvidence {
            entries: 41,
            heads: vec![
                AuditHead { tenant_id: None, seq: 12, hash: "d".repeat(64) },
                AuditHead { tenant_id: Some(name("acme")), seq: 29, hash: "e".repeat(64) },
            ],
            whole: true,
            broken: None,
        },
    }
}

fn forms(report: &ComplianceReport) -> BTreeMap<&'static str, String> {
    let text = anstream::adapter::strip_str(&draw(report, PLAIN)).to_string();
    let forms = [
        ("text", text),
        ("markdown", markdown::draw(report).replace('\\', "")),
        ("html", page::draw(report)),
        ("csv", csv::draw(report)),
    ];
    // However wide a line is.
    let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    forms.map(|(form, text)| (form, flat(text))).into()
}

#[test]
fn every_fact_stands_in_every_form() {
    const ALL: &[&str] = &["text", "markdown", "html", "csv"];
    const WIDE: &[&str] = &["markdown", "html", "csv"];
    const READ: &[&str] = &["text", "markdown", "html"];
    let forms = forms(&year("x"));
    let facts: &[(&str, &[&str])] = &[
        ("HIPAA", ALL),
        ("93.66 %", ALL),
        ("133.00 of 142.00", READ),
        ("2 keys, 1 of them without a gap", READ),
        ("2 rotations, 1 failed, 1 gap", READ),
        ("5 keys without the tag", READ),
        ("aaaabbbbcccc", ALL),
        ("acme/records", ALL),
        ("acme/archive", ALL),
        ("removed at 2026-04-20T02:00:00Z", READ),
        ("2026-04-20T02:00:00Z", &["csv"]),
        // Gaps.
        ("late", ALL),
        ("2026-04-01T02:00:00Z", ALL),
        ("2026-04-10T02:00:00Z", ALL),
        ("it was due on 2026-03-31 x", ALL),
        ("it was parked", ALL),
        ("2 rotations failed", ALL),
        // Rotations.
        ("2026-03-31T02:00:00Z", WIDE),
        ("0123456789ab", WIDE),
        ("x ben", WIDE),
        ("ben@example.org", &["html", "csv"]),
        ("4321", WIDE),
        ("run-1", WIDE),
        ("the reason of 1 x", WIDE),
        ("key:6", WIDE),
        ("key:7", WIDE),
        ("rollback of patients", &["markdown", "html"]),
        ("rotation of patients", READ),
        ("rotation of records", &["markdown", "html"]),
        // What failed.
        ("abandoned", ALL),
        ("x AccessDenied", ALL),
        ("2026-04-02T02:00:00Z", ALL),
        // Policies.
        ("under Weekly from 2026-05-01T02:00:00Z until 2026-06-01T02:00:00Z", &["markdown", "html"]),
        ("Weekly", WIDE),
        ("every 30 days x", WIDE),
        ("suspended", WIDE),
        ("fedcba987654", WIDE),
        ("ci@runner", &["html"]),
        // Waivers.
        ("guardrail/hipaa-a-year x", ALL),
        ("a device without a clock x", ALL),
        ("cleo@example.org", &["text", "html", "csv"]),
        ("2026-12-31", ALL),
        ("taken out at 2026-03-11T02:00:00Z", ALL),
        // Rules.
        ("HIPAA asks for it x", ALL),
        ("kept by 7, not by acme/Yearly x, waived for acme/Pumps until 2026-12-31 x", READ),
        ("7 kept, 1 broken, 1 waived", &["csv"]),
        ("acme/Yearly x", ALL),
        // The log.
        ("41 entries, every link verified", READ),
        ("verified", ALL),
        ("12 entries", &["markdown", "csv"]),
        (&"d".repeat(64), WIDE),
        (&"e".repeat(64), WIDE),
        ("does not make one", &["markdown", "html"]),
    ];
    let missing: Vec<_> = facts
        .iter()
        .flat_map(|(fact, within)| within.iter().map(move |form| (*form, *fact)))
        .filter(|(form, fact)| !forms[form].contains(fact))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}\n{forms:#?}");
}

#[test]
fn a_broken_log_and_an_empty_period_are_said_in_every_form() {
    let mut broken = year("x");
    broken.audit.whole = false;
    broken.audit.broken =
        Some(crate::store::BrokenLink { tenant_id: None, seq: 5, what: "one of them was changed".to_owned() });
    for (form, text) in forms(&broken) {
        assert!(text.to_uppercase().contains("BROKEN") && !text.contains("every link verified"), "{form}: {text}");
    }
    let empty = ComplianceReport { keys: Vec::new(), summary: ComplianceSummary::default(), ..year("x") };
    for (form, text) in forms(&empty).into_iter().filter(|(form, _)| *form != "csv") {
        assert!(text.contains("No key was under a policy with the tag HIPAA"), "{form}: {text}");
        assert!(text.contains("no rate"), "{form}: {text}");
    }
}

/// What means something to one of the readers.
const HOSTILE: &[&str] = &[
    "=HYPERLINK(\"http://evil.example\")",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    "\r\n=1+1",
    "a\n=1+1",
    "a,b;c\td",
    "\"quoted\" and \"",
    "a | b",
    "\n\n## Another heading\n\n",
    "\n- an item",
    "\n| a | b | c | d | e |\n",
    "`code` ``` ~~~",
    "**bold** _it_ [a](https://evil.example) ![b](https://evil.example/c.png)",
    "<script>alert(1)</script>",
    "</td></tr></table><h1>x</h1>",
    "<!-- comment",
    "&lt;b&gt; & \" '",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{0}",
];

/// The elements of a page, in their order.
fn elements(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|element| element.split(['>', ' ']).next().unwrap_or_default()).collect()
}

#[test]
fn no_text_gets_out_of_its_place() {
    let harmless = year("word");
    let rows = |text: &str| -> Vec<::csv::StringRecord> {
        let mut reader = ::csv::ReaderBuilder::new().flexible(false).from_reader(text.as_bytes());
        reader.records().map(|record| record.unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
    };
    let lines = |text: &str| -> Vec<String> {
        // How a line begins, and how many cells it has.
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        text.lines().map(|line| format!("{:.3} {}", line.replace(['w', 'x'], ""), cells(line))).collect()
    };
    let kinds = |rows: &[::csv::StringRecord]| rows.iter().map(|row| row[0].to_owned()).collect::<Vec<_>>();
    let (table, page, list) = (csv::draw(&harmless), page::draw(&harmless), markdown::draw(&harmless));
    for text in HOSTILE {
        let hostile = year(text);
        let found = rows(&csv::draw(&hostile));
        assert_eq!(kinds(&found), kinds(&rows(&table)), "{text:?}");
        for cell in found.iter().flatten() {
            let first = cell.trim_start().chars().next();
            assert!(!first.is_some_and(|first| "=+-@".contains(first)), "{text:?}: a spreadsheet runs {cell:?}");
            assert!(!cell.contains(['\n', '\r']), "{text:?}: {cell:?}");
        }
        assert_eq!(elements(&page::draw(&hostile)), elements(&page), "{text:?}");
        let drawn = markdown::draw(&hostile);
        assert_eq!(lines(&drawn).len(), lines(&list).len(), "{text:?}: {drawn}");
        let headings =
            |text: &str| text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(headings(&drawn), headings(&list), "{text:?}");
        let cells = |text: &str| lines(text).iter().filter(|line| line.starts_with('|')).cloned().collect::<Vec<_>>();
        assert_eq!(cells(&drawn), cells(&list), "{text:?}: {drawn}");
        assert!(
            !drawn.replace("\\]", "").contains("](") && !drawn.contains("<script") && !drawn.contains('\u{1b}'),
            "{text:?}: {drawn}"
        );
        let shown = anstream::adapter::strip_str(&draw(&hostile, PLAIN)).to_string();
        let plain = anstream::adapter::strip_str(&draw(&harmless, PLAIN)).to_string();
        assert_eq!(shown.lines().count(), plain.lines().count(), "{text:?}: {shown}");
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{0}']), "{text:?}: {shown}");
    }
}
