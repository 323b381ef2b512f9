//! Input that is made to hurt, and secrets that must not show.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use keywheel::document::SourceFile;
use keywheel::provider::capabilities;
use keywheel::render::findings::draw;
use proptest::prelude::*;

use super::{EARLY, KEY, POLICY, file, load, load_with_config, summary};

const MIB: usize = 1 << 20;

/// Far more than any of these takes, and far less than what they would take if they did their worst.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_bomb_of_aliases_is_refused_before_it_grows() {
    let mut text = "apiVersion: keywheel/v1\nkind: RotationPolicy\na: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f"), ("h", "g"), ("i", "h")] {
        writeln!(text, "{name}: &{name} [{}]", vec![format!("*{of}"); 9].join(", ")).unwrap();
    }
    let start = Instant::now();
    let loaded = load(&[file("policies/acme/bomb.yaml", text)]);
    assert!(start.elapsed() < PATIENCE);
    let codes: Vec<&str> = loaded.findings.iter().map(|finding| finding.code.as_ref()).collect();
    assert_eq!(codes.iter().filter(|code| **code == "yaml/anchor").count(), 9);
    assert_eq!(codes.iter().filter(|code| **code == "yaml/alias").count(), 72);
}

#[test]
fn nesting_of_ten_thousand_levels_is_one_finding() {
    let flow = format!("{POLICY}compliance_tags: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    let mappings = format!("{POLICY}key_policy: {}{}\n", "{a: ".repeat(10_000), "}".repeat(10_000));
    let dashes = format!("{POLICY}compliance_tags:\n  {}x\n", "- ".repeat(10_000));
    let mut block = POLICY.to_owned();
    // Ten thousand levels of these would have 50 MB.
    (0..1_000).for_each(|level| writeln!(block, "{}a:", " ".repeat(level)).unwrap());
    let unclosed = format!("{POLICY}compliance_tags: {}\n", "[".repeat(10_000));
    for (what, text) in
        [("flow", flow), ("mappings", mappings), ("dashes", dashes), ("block", block), ("unclosed", unclosed)]
    {
        let start = Instant::now();
        let loaded = load(&[file("policies/acme/deep.yaml", text)]);
        assert!(start.elapsed() < PATIENCE, "{what}");
        let codes: Vec<&str> = loaded.findings.iter().map(|finding| finding.code.as_ref()).collect();
        assert_eq!(codes, ["yaml/too-deep"], "{what}");
    }
}

#[test]
fn a_document_above_one_mebibyte_is_refused_without_being_parsed() {
    // What would be a syntax error at once, were it parsed.
    let text = format!("{POLICY}---\n{}", "[".repeat(MIB + 1));
    let loaded = load(&[file("policies/acme/large.yaml", text)]);
    assert_eq!(summary(&loaded.findings), ["file/document-too-large policies/acme/large.yaml:7:1"]);
    let help = loaded.findings[0].help.as_deref().unwrap();
    assert!(help.contains("split it"), "{help}");
    assert!(loaded.findings[0].source_line.as_ref().is_none_or(|line| line.len() < 1000));
}

#[test]
fn a_scalar_up_to_the_limit_is_read_and_one_beyond_it_is_not() {
    let of = |length: usize| format!("{POLICY}description: {}\n---\n{KEY}", "x".repeat(length));
    let loaded = load(&[file("policies/acme/all.yaml", of(MIB - 1000))]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
    let loaded = load(&[file("policies/acme/all.yaml", of(MIB))]);
    assert_eq!(summary(&loaded.findings), ["file/document-too-large policies/acme/all.yaml:1:1"]);
}

#[test]
fn many_documents_of_a_sound_size_may_share_a_large_file() {
    let padding = "# ".to_owned() + &"x".repeat(MIB / 2) + "\n";
    let text = format!("{padding}{POLICY}---\n{padding}{KEY}---\n{padding}---\n{padding}");
    let loaded = load(&[file("policies/acme/all.yaml", text)]);
    assert_eq!(summary(&loaded.findings), Vec::<String>::new());
}

#[test]
fn a_file_above_its_limit_is_refused_by_its_size_alone() {
    let loaded = load(&[file("policies/acme/huge.yaml", vec![0xff; 17 * MIB])]);
    assert_eq!(summary(&loaded.findings), ["file/too-large policies/acme/huge.yaml:1:1"]);
}

#[test]
fn bytes_that_are_not_utf_8_are_named_with_their_place() {
    let text = [POLICY.as_bytes(), b"description: gr\xfc\xdfe\n"].concat();
    let loaded = load(&[file("policies/acme/latin1.yaml", &text)]);
    assert_eq!(summary(&loaded.findings), ["file/not-utf-8 policies/acme/latin1.yaml:7:16"]);
    assert_eq!(loaded.findings[0].source_line.as_deref(), Some("description: gr\u{fffd}"));
    let old = text.iter().map(|byte| if *byte == b'\n' { b'\r' } else { *byte }).collect::<Vec<u8>>();
    let loaded = load(&[file("policies/acme/old.yaml", old)]);
    assert_eq!(summary(&loaded.findings), ["file/not-utf-8 policies/acme/old.yaml:7:16"]);
    let utf16: Vec<u8> = "\u{feff}apiVersion".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let loaded = load(&[file("policies/acme/utf16.yaml", utf16)]);
    assert!(loaded.findings[0].help.as_ref().is_some_and(|help| help.contains("UTF-16")));
}

#[test]
fn symbolic_links_are_refused_whatever_they_point_to() {
    for (path, target) in [
        ("policies/acme/all.yaml", "../../../../etc/passwd"),
        ("policies/umbrella", "acme"),
        ("policies/acme/x", "all.yaml"),
    ] {
        let link = SourceFile { symlink: true, ..file(path, target) };
        let loaded = load(&[link]);
        assert_eq!(summary(&loaded.findings), [format!("file/symbolic-link {path}:1:1")]);
        assert!(loaded.findings[0].source_line.is_none(), "a target is not shown");
        assert!(loaded.repository.failed || !loaded.repository.failed_tenants.is_empty());
    }
}

#[test]
fn settings_that_were_cut_off_are_not_taken_for_the_usual_ones() {
    for text in ["", "# limits below\n", "---\n"] {
        let loaded = load_with_config(text, &[]);
        assert_eq!(summary(&loaded.findings), ["config/empty keywheel.yaml:1:1"]);
        assert!(loaded.repository.failed);
    }
}

#[test]
fn a_freeze_from_the_first_to_the_last_of_all_days_is_survived() {
    let freeze = "apiVersion: keywheel/v1\nkind: Freeze\nname: a\nreason: b\nfrom: \"0001-01-01T00:00:00\"\nuntil: \"9999-12-31T23:59:59\"\n";
    for schedule in ["rotation_interval_days: 1", "rotation_interval_days: 36500", "rotation_schedule: \"0 2 29 2 *\""]
    {
        let policy = POLICY.replace("rotation_interval_days: 90", schedule);
        let files = [file("policies/a.yaml", freeze), file("policies/acme/all.yaml", format!("{policy}---\n{KEY}"))];
        let start = Instant::now();
        let loaded = load(&files);
        assert!(start.elapsed() < PATIENCE, "{schedule}");
        assert!(loaded.findings.iter().all(|finding| finding.code == "policy/freeze-delays"), "{:?}", loaded.findings);
    }
}

#[test]
fn a_hundred_thousand_fields_take_no_quadratic_time() {
    let mut text = POLICY.to_owned();
    (0..50_000).for_each(|field| writeln!(text, "f{field}: 1").unwrap());
    (0..20_000).for_each(|field| writeln!(text, "f{field}: 1").unwrap());
    let start = Instant::now();
    let loaded = load(&[file("policies/acme/wide.yaml", text)]);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert!(!loaded.findings.is_empty());
}

#[test]
fn every_mistake_of_the_repository_is_shown_at_once() {
    let broken = "apiVersion: keywheel/v1\nkind: [\n";
    let files = [
        file("policies/acme/a.yaml", format!("{broken}---\n{POLICY}colour: red\nstatus: on\n---\n{KEY}")),
        file("policies/acme/b.yaml", b"\xff"),
        file("policies/umbrella/c.yaml", KEY.replace("acme", "umbrella").replace("quarterly", "missing")),
        file("policies/guardrails.yaml", "apiVersion: keywheel/v1\nkind: Guardrail\nname: a\n"),
    ];
    let loaded = load_with_config("apiVersion: keywheel/v1\nkind: Config\nlimit: {}\n", &files);
    assert_eq!(
        summary(&loaded.findings),
        [
            "schema/unknown-field keywheel.yaml:3:1",
            "yaml/syntax policies/acme/a.yaml:2:7",
            "schema/unknown-field policies/acme/a.yaml:10:1",
            "yaml/ambiguous-scalar policies/acme/a.yaml:11:9",
            "file/not-utf-8 policies/acme/b.yaml:1:1",
            "schema/missing-field policies/guardrails.yaml:1:1",
            "schema/missing-field policies/guardrails.yaml:1:1",
            "set/dangling-policy policies/umbrella/c.yaml:6:18",
        ]
    );
    assert!(loaded.repository.failed);
    assert_eq!(loaded.repository.failed_tenants.len(), 2);
}

/// Secrets in every place in which a person could leave one, each beside something that makes a finding there.
const CANARIES: [&str; 12] = [
    "notification_settings: {slack_webhook: https://hooks.slack.com/services/T0/B0/canary, colour: red}",
    "notification_settings:\n  slack_webhook: 'https://example.org/canary'\n  colour: red",
    "notification_settings:\n  slack_webhook:\n    - canary",
    "notification_settings:\n  webhook_secret: |\n    canary\n      canary [\n  colour: red",
    "notification_settings:\n  webhook_secret: \"canary",
    "notification_settings:\n  \"webhook_secret\": {canary: canary}",
    "notification_settings: {webhook_secret: [canary, {canary: 1}], x: *canary_free}",
    "description: [xoxb-1-canary, AKIA234canary567]",
    "status: https://hooks.slack.com/services/T0/B0/canary",
    "https://hooks.slack.com/services/T0/B0/canary: 1",
    "database_password: canary",
    "description: postgres://user:canary@db/x\ncolour: red",
];

#[test]
fn no_secret_shows_in_what_is_said_about_its_document() {
    for lines in CANARIES {
        let loaded = load(&[file("policies/acme/all.yaml", format!("{POLICY}{lines}\n---\n{KEY}"))]);
        assert!(!loaded.findings.is_empty(), "{lines}");
        let drawn = draw(&loaded.findings, false, 120);
        let json = serde_json::to_string(&loaded.findings).unwrap();
        for shown in [drawn, json] {
            assert!(!shown.replace("canary_free", "").contains("canary"), "{lines}\n{shown}");
        }
        let debug = format!("{:?}", loaded.repository.policies);
        assert!(!debug.contains("hooks.slack.com") && !debug.contains("example.org"), "{debug}");
    }
}

#[test]
fn a_password_in_the_settings_does_not_show() {
    let config = "apiVersion: keywheel/v1\nkind: Config\nstate: postgres://keywheel:canary@db/x\n";
    let loaded = load_with_config(config, &[]);
    assert_eq!(summary(&loaded.findings), ["config/state-password keywheel.yaml:3:8"]);
    assert!(!draw(&loaded.findings, false, 120).contains("canary"));
}

#[test]
fn a_text_that_is_full_of_what_may_be_secrets_takes_no_quadratic_time() {
    for piece in ["AKIA", "AKIA123 ", "://", "://a:", "hooks.slack.com/ ", "xoxb-", "${", "token: "] {
        let text =
            format!("{POLICY}description: \"{}\"\ncolour: red\n---\n{KEY}", piece.repeat(MIB / piece.len() - 1000));
        let start = Instant::now();
        let loaded = load(&[file("policies/acme/all.yaml", text)]);
        assert!(start.elapsed() < PATIENCE, "{piece}: {:?}", start.elapsed());
        assert!(!loaded.findings.is_empty());
    }
}

#[test]
fn the_name_of_a_variable_is_no_secret() {
    let text = format!("{POLICY}notification_settings: {{slack_webhook: \"${{HOOK}}\", colour: red}}\n---\n{KEY}");
    let loaded = load(&[file("policies/acme/all.yaml", text)]);
    assert!(
        loaded.findings.iter().all(|finding| finding.source_line.as_ref().is_some_and(|line| line.contains("${HOOK}")))
    );
}

#[test]
fn control_characters_of_a_document_do_not_reach_the_terminal() {
    let loaded = load(&[file("policies/acme/all.yaml", format!("{POLICY}\"co\\elour\": \"\\e[2J\"\nx\u{7f}y: 1\n"))]);
    let drawn = draw(&loaded.findings, false, 120);
    assert!(!drawn.contains(|c: char| c.is_control() && c != '\n'), "{drawn:?}");
}

#[test]
fn a_long_line_is_cut_around_the_mistake() {
    let text = format!(
        "{POLICY}compliance_tags: [{}, [x], {}]\n---\n{KEY}",
        "HIPAA, ".repeat(500).trim_end_matches(", "),
        "SOC2, ".repeat(5000)
    );
    let loaded = load(&[file("policies/acme/all.yaml", text)]);
    let finding = loaded.findings.first().unwrap();
    let line = finding.source_line.as_deref().unwrap();
    assert!(line.chars().count() <= 202, "{line}");
    let underlined = keywheel::document::underline(finding.place.as_ref().unwrap(), line);
    assert_eq!(&line[underlined], "[x]");
}

/// A whole repository in one text, with something of everything.
fn valid() -> String {
    format!(
        "# yaml-language-server: $schema=x\n{POLICY}rotation_windows:\n  - days: [sat, \"sun\"]\n    start: \"01:00\"\n    end: '05:00'\n\
         notification_settings: {{email: [a@example.org], slack_webhook: \"${{HOOK}}\"}}\ndescription: >-\n  folded\n  text\nwaivers:\n- \
         {{rule: a/b, until: \"2027-01-01\", reason: é, approver: c}}\n---\n{KEY}tags: {{a: b, \"c d\": ''}}\n"
    )
}

/// An edit of a text: where (as a share of its length), how much goes, what comes.
fn edits() -> impl Strategy<Value = Vec<(f64, usize, String)>> {
    let pieces = prop::sample::select(vec![
        "",
        " ",
        "\n",
        "\t",
        "\r",
        ":",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "#",
        " #",
        "&a",
        "*a",
        "!!x ",
        "---\n",
        "...\n",
        "%YAML 9\n",
        "|",
        ">",
        "~",
        "no",
        "0o7",
        "1e9",
        "\u{feff}",
        "\u{0}",
        "é",
        "\u{2028}",
        "? ",
        "<<: ",
        "@",
        "`",
        "\\",
        "x: 1\n",
        "  ",
        "kind: Config\n",
    ]);
    prop::collection::vec((0.0..1.0f64, 0usize..12, pieces.prop_map(str::to_owned)), 1..6)
}

fn edit(text: &str, edits: &[(f64, usize, String)]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (at, removed, added) in edits {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "any place will do"
        )]
        let at = ((bytes.len() as f64) * at) as usize;
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, added.bytes());
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_edit_of_a_good_document_gives_findings_with_places_inside_the_file(edits in edits()) {
        let bytes = edit(&valid(), &edits);
        let loaded = load(&[file("policies/acme/all.yaml", &bytes)]);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.split(['\n', '\r']).collect();
        for finding in &loaded.findings {
            let place = finding.place.as_ref().expect("every finding of a file has a place");
            prop_assert!(place.line >= 1 && place.column >= 1 && place.length >= 1, "{finding:?}");
            prop_assert!(place.line as usize <= lines.len(), "{finding:?}");
            let line = finding.source_line.as_deref().unwrap_or_default();
            if !keywheel::document::is_cut(place) && !finding.code.starts_with("file/") {
                prop_assert!(place.column as usize <= line.chars().count() + 1, "{finding:?}");
                prop_assert!((place.column + place.length) as usize <= line.chars().count().max(1) + 2, "{finding:?}");
            }
        }
        prop_assert!(!draw(&loaded.findings, true, 80).is_empty() || loaded.findings.is_empty());
        let again = keywheel::document::load(None, &[file("policies/acme/all.yaml", &bytes)], capabilities, EARLY);
        prop_assert_eq!(loaded.findings, again.findings);
    }
}
