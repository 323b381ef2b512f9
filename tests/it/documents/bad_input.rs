//! Bad input and what must be said about it: the code, the place, and the way out.

use keywheel::document::SourceFile;

use super::{KEY, POLICY, file, load, load_with_config};

/// A mistake, and the one finding that it must make.
struct Bad {
    what: &'static str,
    config: Option<String>,
    files: Vec<SourceFile>,
    code: &'static str,
    /// `LINE:COLUMN` of the last file, or `FILE:LINE:COLUMN`.
    at: &'static str,
    /// A part of the help.
    help: &'static str,
    /// The code of another error that the same mistake must make.
    also: Option<&'static str>,
}

impl Bad {
    fn and(self, code: &'static str) -> Self {
        Self { also: Some(code), ..self }
    }
}

/// A mistake in a tenant's file.
fn bad(what: &'static str, text: String, code: &'static str, at: &'static str, help: &'static str) -> Bad {
    Bad { what, config: None, files: vec![file("policies/acme/all.yaml", text)], code, at, help, also: None }
}

/// A mistake between files.
fn set(what: &'static str, files: &[(&str, String)], code: &'static str, at: &'static str, help: &'static str) -> Bad {
    Bad {
        what,
        config: None,
        files: files.iter().map(|(path, text)| file(path, text)).collect(),
        code,
        at,
        help,
        also: None,
    }
}

/// A mistake in `keywheel.yaml`, whose third line it is.
fn config(what: &'static str, line: &str, code: &'static str, at: &'static str, help: &'static str) -> Bad {
    Bad {
        what,
        config: Some(format!("apiVersion: keywheel/v1\nkind: Config\n{line}\n")),
        files: Vec::new(),
        code,
        at,
        help,
        also: None,
    }
}

/// [`POLICY`] with more lines, from the seventh.
fn policy(lines: &str) -> String {
    format!("{POLICY}{lines}\n")
}

/// [`POLICY`] with a part of it replaced.
fn policy_but(part: &str, other: &str) -> String {
    assert!(POLICY.contains(part));
    POLICY.replace(part, other)
}

/// [`KEY`] with more lines, from the seventh, and its policy after it.
fn key(lines: &str) -> String {
    format!("{KEY}{lines}\n---\n{POLICY}")
}

/// A key in AWS with more lines, from the eighth, and its policy after it.
fn aws_key(lines: &str) -> String {
    format!("{KEY}kms_provider: aws_kms\n{lines}\n---\n{POLICY}kms_provider: aws_kms\n")
}

fn tenant(lines: &str) -> String {
    format!("apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: acme\n{lines}\n")
}

fn freeze(lines: &str) -> String {
    format!("apiVersion: keywheel/v1\nkind: Freeze\nname: holidays\nreason: nobody is there\n{lines}\n")
}

fn check(cases: Vec<Bad>) {
    let mut wrong = Vec::new();
    for case in cases {
        let loaded = match &case.config {
            Some(config) => load_with_config(config, &case.files),
            None => load(&case.files),
        };
        let last = case.files.last().map_or("keywheel.yaml", |file| file.path.as_ref());
        let last = if case.config.is_some() { "keywheel.yaml" } else { last };
        let at = if case.at.contains('/') { case.at.to_owned() } else { format!("{last}:{}", case.at) };
        let fits = |finding: &&keywheel::diagnostic::Finding| {
            finding.code == case.code
                && finding
                    .place
                    .as_ref()
                    .is_some_and(|place| format!("{}:{}:{}", place.file, place.line, place.column) == at)
                && finding.help.as_ref().is_some_and(|help| help.contains(case.help))
        };
        let expected = loaded.findings.iter().find(fits);
        let others = loaded
            .findings
            .iter()
            .filter(|finding| finding.is_error() && !fits(finding) && case.also != Some(finding.code.as_ref()))
            .count();
        let marked = loaded.repository.failed || !loaded.repository.failed_tenants.is_empty();
        let stops = expected.is_none_or(|finding| !finding.is_error() || marked);
        if expected.is_none() || others > 0 || !stops {
            wrong.push(format!(
                "{}\n  expected {} {at} ({})\n  found {:#?}",
                case.what, case.code, case.help, loaded.findings
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn yaml_that_is_not_what_it_seems() {
    check(vec![
        bad(
            "a bracket that is never closed",
            policy("compliance_tags: [HIPAA"),
            "yaml/syntax",
            "7:18",
            "close the bracket",
        ),
        bad(
            "a quote that is never closed",
            policy("description: \"never closed"),
            "yaml/syntax",
            "7:14",
            "close the quote",
        ),
        bad(
            "a tab as indentation",
            policy("notification_settings:\n\temail: [a@example.org]"),
            "yaml/syntax",
            "8:2",
            "spaces",
        ),
        bad("a colon inside a plain value", policy("description: one: two"), "yaml/syntax", "7:17", "quoted"),
        bad("a field without its colon", policy("status active\ntimezone: UTC"), "yaml/syntax", "7:1", "name: value"),
        bad("a bracket too many", policy("compliance_tags: [HIPAA]]"), "yaml/syntax", "7:25", "remove this bracket"),
        bad("an unknown escape", policy("description: \"C:\\windows\""), "yaml/syntax", "7:14", "backslash"),
        bad("a value that begins with an at sign", policy("description: @home"), "yaml/syntax", "7:14", "quoted"),
        bad("a field twice", policy("key_type: phi_data"), "yaml/duplicate-key", "7:1", "keep one"),
        bad(
            "a field twice in a flow",
            policy("notification_settings: {email: [], email: []}"),
            "yaml/duplicate-key",
            "7:36",
            "keep one",
        ),
        bad("an anchor", policy("compliance_tags: &tags [HIPAA]"), "yaml/anchor", "7:18", "`defaults`"),
        bad("an alias without an anchor", policy("description: *nothing"), "yaml/alias", "7:14", "`defaults`"),
        bad(
            "a merge key",
            policy("notification_settings:\n  <<: {email: []}"),
            "yaml/merge-key",
            "8:3",
            "the fields themselves",
        ),
        bad("a tag", policy("description: !!str text"), "yaml/tag", "7:14", "remove the tag"),
        bad("a tag of one's own", policy("description: !secret text"), "yaml/tag", "7:14", "remove the tag"),
        bad("a list as a key", policy("[a, b]: c"), "yaml/key", "7:1", "one word"),
        bad("a mapping as a key", policy("? {a: b}\n: c"), "yaml/key", "7:3", "one word"),
        bad("an empty key", policy(": c"), "yaml/key", "7:1", "name before the colon"),
        bad(
            "a time without quotes",
            policy("rotation_time_of_day: 02:00:00"),
            "yaml/ambiguous-scalar",
            "7:23",
            "quote it: `\"02:00:00\"`",
        ),
        bad(
            "a time without seconds and quotes",
            policy("rotation_time_of_day: 02:00"),
            "yaml/ambiguous-scalar",
            "7:23",
            "quote it: `\"02:00\"`",
        ),
        bad("no for false", policy("enable_rollback: no"), "yaml/ambiguous-scalar", "7:18", "write `false`"),
        bad("On for true", policy("enable_rollback: On"), "yaml/ambiguous-scalar", "7:18", "write `true`"),
        bad(
            "off where text belongs",
            policy("description: off"),
            "yaml/ambiguous-scalar",
            "7:14",
            "quote it: `\"off\"`",
        ),
        bad("Norway", policy("compliance_tags: [NO]"), "yaml/ambiguous-scalar", "7:19", "quote it: `\"NO\"`"),
        bad("an octal number", policy("retain_old_keys_days: 010"), "yaml/ambiguous-scalar", "7:23", "`10`"),
        bad(
            "an octal number of YAML 1.2",
            policy("retain_old_keys_days: 0o17"),
            "yaml/ambiguous-scalar",
            "7:23",
            "without the leading zero",
        ),
        bad(
            "a number with underscores",
            policy("max_usage_count: 1_000_000"),
            "yaml/ambiguous-scalar",
            "7:18",
            "`1000000`",
        ),
        bad(
            "a date without quotes",
            key("expires_at: 2027-01-31"),
            "yaml/ambiguous-scalar",
            "7:13",
            "quote it: `\"2027-01-31\"`",
        ),
        bad(
            "a version that is a date",
            aws_key("kms_alias: alias/a\nkey_policy: {Version: 2012-10-17, Statement: []}"),
            "yaml/ambiguous-scalar",
            "9:23",
            "quote it",
        ),
        bad(
            "a number that is none",
            policy("retain_old_keys_days: .nan"),
            "yaml/not-a-number",
            "7:23",
            "write a number",
        ),
        bad("infinity", policy("max_usage_count: .inf"), "yaml/not-a-number", "7:18", "write a number"),
    ]);
}

#[test]
fn documents_that_do_not_fit_their_schema() {
    check(vec![
        bad("a list as a document", "- apiVersion: keywheel/v1\n".to_owned(), "schema/type", "1:1", "kind: ..."),
        bad("a word as a document", "hello\n".to_owned(), "schema/type", "1:1", "apiVersion: keywheel/v1"),
        bad(
            "no apiVersion",
            policy_but("apiVersion: keywheel/v1\n", ""),
            "schema/missing-field",
            "1:1",
            "add `apiVersion: keywheel/v1`",
        ),
        bad(
            "a misspelled apiVersion",
            policy_but("apiVersion", "apiversion"),
            "schema/missing-field",
            "1:1",
            "is called `apiVersion`",
        ),
        bad(
            "another apiVersion",
            policy_but("keywheel/v1", "keywheel/v2"),
            "schema/api-version",
            "1:13",
            "`apiVersion: keywheel/v1`",
        ),
        bad("no kind", policy_but("kind: RotationPolicy\n", ""), "schema/missing-field", "1:1", "one of `Guardrail`"),
        bad(
            "a misspelled kind",
            policy_but("RotationPolicy", "RotationPolice"),
            "schema/unknown-kind",
            "2:7",
            "did you mean `RotationPolicy`?",
        ),
        bad(
            "an unknown kind",
            policy_but("RotationPolicy", "Deployment"),
            "schema/unknown-kind",
            "2:7",
            "write one of",
        ),
        bad(
            "a misspelled field",
            policy("rotation_intervall_days: 3"),
            "schema/unknown-field",
            "7:1",
            "`rotation_interval_days` is here already",
        ),
        bad(
            "a misspelled field that is missing",
            policy("timezon: UTC"),
            "schema/unknown-field",
            "7:1",
            "did you mean `timezone`?",
        ),
        bad(
            "a field in camel case",
            policy("timeZone: UTC"),
            "schema/unknown-field",
            "7:1",
            "did you mean `timezone`?",
        ),
        bad("a field of nothing known", policy("colour: red"), "schema/unknown-field", "7:1", "the fields here are"),
        bad(
            "an unknown field inside",
            policy("notification_settings: {emails: [a@example.org]}"),
            "schema/unknown-field",
            "7:25",
            "did you mean `email`?",
        ),
        bad(
            "a missing field",
            policy_but("key_type: system_data\n", ""),
            "schema/missing-field",
            "1:1",
            "add `key_type: phi_data`",
        ),
        bad(
            "a missing field inside",
            policy("rotation_windows:\n  - start: \"01:00\""),
            "schema/missing-field",
            "8:5",
            "add `end: \"02:00:00\"`",
        ),
        bad("a number as a name", policy_but("quarterly", "90"), "schema/type", "4:14", "quote it: `\"90\"`"),
        bad("null where text belongs", policy_but("quarterly", "~"), "schema/type", "4:14", "write a value"),
        bad("nothing where text belongs", policy("timezone:"), "schema/type", "7:1", "write a value"),
        bad("a list where text belongs", policy("timezone: [UTC]"), "schema/type", "7:11", "write one value"),
        bad(
            "text where a number belongs",
            policy("retain_old_keys_days: thirty"),
            "schema/type",
            "7:23",
            "from 0 to 36500",
        ),
        bad("a number in quotes", policy("retain_old_keys_days: \"30\""), "schema/type", "7:23", "remove the quotes"),
        bad("a fraction", policy("retain_old_keys_days: 1.5"), "schema/type", "7:23", "whole number"),
        bad("a whole number as a fraction", policy("retain_old_keys_days: 30.0"), "schema/type", "7:23", "write `30`"),
        bad("true in quotes", policy("enable_rollback: \"true\""), "schema/type", "7:18", "remove the quotes"),
        bad(
            "a number where true or false belongs",
            policy("enable_rollback: 1"),
            "schema/type",
            "7:18",
            "write `true` or `false`",
        ),
        bad(
            "text where a list belongs",
            policy("compliance_tags: HIPAA"),
            "schema/type",
            "7:18",
            "`compliance_tags: [HIPAA]`",
        ),
        bad("a list where a mapping belongs", policy("notification_settings: [a]"), "schema/type", "7:24", "`email`"),
        bad(
            "a text of mail where a mapping belongs",
            policy("notification_settings: a@example.org"),
            "schema/type",
            "7:24",
            "`email`",
        ),
        bad("a misspelled word", policy("status: actve"), "schema/unknown-value", "7:9", "did you mean `active`?"),
        bad(
            "an unknown word",
            policy("old_key_disposition: burn"),
            "schema/unknown-value",
            "7:22",
            "`keep`, `disable` and `destroy`",
        ),
        bad(
            "a word in capitals",
            policy("kms_provider: AWS_KMS"),
            "schema/unknown-value",
            "7:15",
            "did you mean `aws_kms`?",
        ),
        bad(
            "a day that does not exist",
            policy("rotation_windows: [{days: [fryday], start: \"01:00\", end: \"02:00\"}]"),
            "schema/unknown-value",
            "7:28",
            "`fri`",
        ),
        bad(
            "a number that is too small",
            policy("destroy_after_disabled_days: 0"),
            "schema/out-of-range",
            "7:30",
            "from 1 to 36500",
        ),
        bad("a negative number", policy("retain_old_keys_days: -1"), "schema/out-of-range", "7:23", "from 0 to 36500"),
        bad(
            "a number that is too large",
            policy("rotation_spread_minutes: 1441"),
            "schema/out-of-range",
            "7:26",
            "1440",
        ),
        bad(
            "a number beyond every type",
            policy("max_usage_count: 99999999999999999999999"),
            "schema/out-of-range",
            "7:18",
            "smaller",
        ),
        bad(
            "a number beyond even that",
            policy("max_usage_count: 99999999999999999999999999999999999999999999999999"),
            "schema/type",
            "7:18",
            "smaller",
        ),
        bad("an empty name", policy_but("quarterly", "\"\""), "schema/length", "4:14", "from 1 to 128"),
        bad(
            "a name that is too long",
            policy_but("quarterly", &"q".repeat(129)),
            "schema/length",
            "4:14",
            "from 1 to 128",
        ),
        bad(
            "a name with a slash",
            policy_but("quarterly", "per/quarter"),
            "schema/form",
            "4:14",
            "letters, digits, spaces",
        ),
        bad(
            "a name with a space at its end",
            policy_but("quarterly", "\"quarterly \""),
            "schema/form",
            "4:14",
            "letters, digits, spaces",
        ),
        bad(
            "a time that does not exist",
            policy("rotation_time_of_day: \"24:00:00\""),
            "schema/form",
            "7:23",
            "\"02:00:00\"",
        ),
        bad("a time in the American way", policy("rotation_time_of_day: 2 AM"), "schema/form", "7:23", "\"02:00:00\""),
        bad("a date that does not exist", key("expires_at: \"2027-02-30\""), "schema/form", "7:13", "\"2026-12-31\""),
        bad("a date in another order", key("expires_at: 31.12.2027"), "schema/form", "7:13", "\"2026-12-31\""),
        bad(
            "a waiver without an end",
            policy("waivers: [{rule: a/b, reason: c, approver: d}]"),
            "schema/missing-field",
            "7:11",
            "until",
        ),
        bad(
            "a waiver until no date",
            policy("waivers: [{rule: a/b, reason: c, approver: d, until: later}]"),
            "schema/form",
            "7:54",
            "a date",
        ),
        bad("a tag that is a number", key("tags: {cost-centre: 42}"), "schema/type", "7:21", "quote it: `\"42\"`"),
        bad(
            "a field that nobody inherits, in defaults",
            tenant("defaults: {policy_name: x}"),
            "schema/unknown-field",
            "4:12",
            "fields here are",
        ),
        bad(
            "a bad number in defaults",
            tenant("defaults:\n  rotation_interval_days: 0"),
            "schema/out-of-range",
            "5:27",
            "from 1 to 36500",
        ),
    ]);
}

#[test]
fn policies_that_make_no_sense() {
    let triggered = |trigger: &str, lines: &str| {
        policy_but("rotation_interval_days: 90", &format!("rotation_trigger: {trigger}")) + lines + "\n"
    };
    check(vec![
        bad(
            "an interval and a schedule",
            policy("rotation_schedule: \"0 2 1 * *\""),
            "policy/interval-and-schedule",
            "7:20",
            "keep one",
        ),
        bad(
            "an interval by hand",
            policy("rotation_trigger: manual"),
            "policy/schedule-ignored",
            "6:25",
            "`rotation_trigger: time_based`",
        ),
        bad(
            "a schedule by usage",
            triggered("usage_based", "max_usage_count: 10\nrotation_schedule: \"0 2 1 * *\""),
            "policy/schedule-ignored",
            "8:20",
            "remove it",
        ),
        bad(
            "an interval by event",
            policy("rotation_trigger: event_based\nrotation_events: [{type: a.b}]"),
            "policy/schedule-ignored",
            "6:25",
            "remove it",
        ),
        bad(
            "neither interval nor schedule",
            policy_but("rotation_interval_days: 90\n", ""),
            "policy/no-schedule",
            "1:1",
            "rotation_interval_days: 90",
        ),
        bad(
            "time-based without a time",
            triggered("time_based", ""),
            "policy/no-schedule",
            "6:19",
            "rotation_schedule",
        ),
        bad(
            "a limit of uses and no time",
            triggered("time_based", "max_usage_count: 5"),
            "policy/no-schedule",
            "6:19",
            "`rotation_trigger: usage_based`",
        ),
        bad("usage without a limit", triggered("usage_based", ""), "policy/no-usage-limit", "6:19", "max_usage_count"),
        bad("events without events", triggered("event_based", ""), "policy/no-events", "6:19", "rotation_events"),
        bad(
            "a limit that manual switches off",
            triggered("manual", "max_usage_count: 5"),
            "policy/limit-ignored",
            "7:18",
            "remove it",
        ),
        bad(
            "events that usage switches off",
            triggered("usage_based", "max_usage_count: 5\nrotation_events: [{type: a.b}]"),
            "policy/limit-ignored",
            "8:18",
            "remove it",
        ),
        bad(
            "a time of day beside a schedule",
            policy_but(
                "rotation_interval_days: 90",
                "rotation_schedule: \"0 2 1 * *\"\nrotation_time_of_day: \"03:00:00\"",
            ),
            "policy/time-of-day-ignored",
            "7:23",
            "remove it",
        ),
        bad(
            "a warning that comes too late",
            policy("max_usage_count: 100\nusage_threshold_warning: 100"),
            "policy/usage-warning-too-late",
            "8:26",
            "below 100",
        ),
        bad(
            "a retention within the rollback",
            policy("retain_old_keys_days: 1\nrollback_period_hours: 48"),
            "policy/retention-shorter-than-rollback",
            "7:23",
            "`retain_old_keys_days: 2`",
        ),
        bad(
            "a rollback beyond the default retention",
            policy("rollback_period_hours: 8000"),
            "policy/retention-shorter-than-rollback",
            "7:24",
            "334",
        ),
        bad(
            "destruction without a delay",
            policy("old_key_disposition: destroy"),
            "policy/destroy-without-delay",
            "7:22",
            "destroy_after_disabled_days: 30",
        ),
        bad(
            "a delay without destruction",
            policy("destroy_after_disabled_days: 30"),
            "policy/destroy-delay-ignored",
            "7:30",
            "old_key_disposition: destroy",
        ),
        bad(
            "a strategy that the provider lacks",
            policy("rotation_strategy: new_key"),
            "policy/strategy-not-possible",
            "7:20",
            "`new_version`",
        ),
        bad(
            "a strategy that AWS lacks here",
            policy("kms_provider: aws_kms\nrotation_strategy: managed"),
            "policy/strategy-not-possible",
            "8:20",
            "`new_key`",
        ),
        bad(
            "a provider of another build",
            policy("kms_provider: pkcs11"),
            "provider/not-available",
            "7:15",
            "`local` and `aws_kms`",
        ),
        bad(
            "an address without a domain",
            policy("notification_settings: {email: [security]}"),
            "policy/email",
            "7:33",
            "name@example.org",
        ),
        bad(
            "an address with spaces",
            policy("notification_settings:\n  email:\n    - a@example.org\n    - not an@address.org"),
            "policy/email",
            "10:7",
            "name@example.org",
        ),
        bad(
            "a signature for nothing",
            policy("notification_settings: {webhook_secret: hunter2}"),
            "policy/webhook-secret-ignored",
            "7:41",
            "webhook_url",
        ),
        bad("a policy that was itself", policy("previous_name: quarterly"), "policy/previous-name", "7:16", "before"),
        bad(
            "an owner's key that ends before it begins",
            tenant(
                "owners: [{principal: a, signing_key: b, valid_after: \"2027-01-01\", valid_before: \"2026-01-01\"}]",
            ),
            "tenant/owner-dates",
            "4:82",
            "the later day",
        ),
        bad(
            "an interval and a schedule in defaults",
            tenant("defaults:\n  rotation_interval_days: 3\n  rotation_schedule: \"0 2 1 * *\""),
            "policy/interval-and-schedule",
            "6:22",
            "keep one",
        ),
    ]);
}

#[test]
fn keys_that_make_no_sense() {
    let at = |id: &str| aws_key(&format!("kms_alias: alias/a\nkms_key_id: {id}"));
    check(vec![
        bad("a key in AWS without an alias", aws_key(""), "key/no-alias", "6:18", "kms_alias: alias/backups"),
        bad(
            "an alias without its prefix",
            aws_key("kms_alias: backups"),
            "key/alias",
            "8:12",
            "`kms_alias: alias/backups`",
        ),
        bad("an alias of AWS", aws_key("kms_alias: alias/aws/s3"), "key/alias", "8:12", "does not begin"),
        bad(
            "an alias with other characters",
            aws_key("kms_alias: alias/back ups"),
            "key/alias",
            "8:12",
            "letters, digits",
        ),
        bad("an alias that is only a prefix", aws_key("kms_alias: alias/"), "key/alias", "8:12", "letters, digits"),
        bad(
            "an alias that is too long",
            aws_key(&format!("kms_alias: alias/{}", "a".repeat(251))),
            "schema/length",
            "8:12",
            "256",
        ),
        bad(
            "a region of nowhere",
            aws_key("kms_alias: alias/a\nkms_region: Virginia"),
            "key/region",
            "9:13",
            "`us-east-1`",
        ),
        bad("a region where there are none", key("kms_region: us-east-1"), "key/no-regions", "7:13", "remove it"),
        bad(
            "a multi-region key where there are none",
            key("multi_region: true"),
            "key/no-regions",
            "7:15",
            "remove it",
        ),
        bad("a key id that is none", at("backups"), "key/key-id", "9:13", "its ARN"),
        bad("the ARN of a bucket", at("arn:aws:s3:::bucket"), "key/key-id", "9:13", "its ARN"),
        bad(
            "an ARN without an account",
            at("arn:aws:kms:us-east-1::key/0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9"),
            "key/key-id",
            "9:13",
            "its ARN",
        ),
        bad("a key that AWS manages", at("alias/aws/s3"), "key/key-id", "9:13", "of your own"),
        bad(
            "an ARN of another region",
            aws_key(
                "kms_alias: alias/a\nkms_region: eu-west-1\nkms_key_id: arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9",
            ),
            "key/region",
            "10:13",
            "the same",
        ),
        bad(
            "a misspelled spec",
            aws_key("kms_alias: alias/a\nkey_spec: RSA_2084"),
            "key/spec",
            "9:11",
            "did you mean `RSA_2048`?",
        ),
        bad(
            "a spec of the past",
            aws_key("kms_alias: alias/a\nkey_spec: DES"),
            "key/spec",
            "9:11",
            "`SYMMETRIC_DEFAULT`",
        ),
        bad(
            "a usage that does not fit",
            aws_key("kms_alias: alias/a\nkey_spec: HMAC_256\nkey_usage: SIGN_VERIFY"),
            "key/usage",
            "10:12",
            "`key_usage: GENERATE_VERIFY_MAC`",
        ),
        bad(
            "a spec that needs a usage",
            aws_key("kms_alias: alias/a\nkey_spec: ECC_NIST_P256"),
            "key/usage",
            "9:11",
            "`key_usage: SIGN_VERIFY` or `key_usage: KEY_AGREEMENT`",
        ),
        bad("RSA in the local provider", key("key_spec: RSA_2048"), "key/spec", "7:11", "`SYMMETRIC_DEFAULT`"),
        bad(
            "a usage that the local provider lacks",
            key("key_usage: SIGN_VERIFY"),
            "key/usage",
            "7:12",
            "`key_usage: ENCRYPT_DECRYPT`",
        ),
        bad(
            "adoption by the local provider",
            key("kms_key_id: alias/x"),
            "key/field-not-possible",
            "7:13",
            "remove it",
        ),
        bad(
            "a key policy without a statement",
            aws_key("kms_alias: alias/a\nkey_policy: {Version: \"2012-10-17\"}"),
            "key/key-policy",
            "9:13",
            "add `Statement`",
        ),
        bad("a tag of AWS", key("tags: {\"aws:owner\": me}"), "key/tag", "7:21", "another name"),
        bad("a tag of keywheel", key("tags:\n  keywheel:key-id: x"), "key/tag", "8:20", "another name"),
        bad(
            "a tag with other characters",
            aws_key("kms_alias: alias/a\ntags: {team: \"a#b\"}"),
            "key/tag",
            "9:14",
            "other characters",
        ),
        bad(
            "a tag that is too long",
            aws_key(&format!("kms_alias: alias/a\ntags: {{team: {}}}", "a".repeat(257))),
            "key/tag",
            "9:14",
            "shorten",
        ),
        bad("a key that was itself", key("previous_name: backups"), "key/previous-name", "7:16", "before"),
        bad("a provider of another build", key("kms_provider: gcp_kms"), "provider/not-available", "7:15", "`aws_kms`")
            .and("set/provider-mismatch"),
    ]);
}

#[test]
fn secrets_in_the_wrong_place() {
    let webhook = "notification_settings:\n  slack_webhook: https://hooks.slack.com/services/T0/B0/canary";
    check(vec![
        bad("a webhook in the document", policy(webhook), "secret/literal", "8:18", "`${NAME}`"),
        bad(
            "any literal in a secret field",
            policy("notification_settings: {webhook_url: \"https://example.org/in\"}"),
            "secret/literal",
            "7:38",
            "allow the name",
        ),
        bad(
            "a token in a description",
            policy("description: use xoxb-1234-canary"),
            "secret/literal",
            "7:14",
            "replace the secret",
        ),
        bad(
            "a reference in a field that is not secret",
            policy("description: ${SLACK_WEBHOOK_URL}"),
            "secret/not-a-secret-field",
            "7:14",
            "`slack_webhook`",
        ),
        bad(
            "a reference inside a text",
            policy("authorized_services: [\"a ${HOME} b\"]"),
            "secret/not-a-secret-field",
            "7:23",
            "the value itself",
        ),
        bad(
            "a reference as a part of a secret",
            policy("notification_settings: {webhook_url: \"https://x/${TOKEN}\"}"),
            "secret/not-whole",
            "7:38",
            "alone",
        ),
        bad(
            "a variable that nobody allowed",
            policy("notification_settings: {slack_webhook: \"${HOOK}\"}"),
            "secret/not-allowed",
            "7:40",
            "secrets: {acme: [HOOK]}",
        ),
        bad(
            "a variable that nobody allowed, in defaults",
            tenant("defaults: {notification_settings: {slack_webhook: \"${HOOK}\"}}"),
            "secret/not-allowed",
            "4:51",
            "secrets: {acme: [HOOK]}",
        ),
    ]);
}

#[test]
fn settings_that_make_no_sense() {
    check(vec![
        config(
            "a misspelled setting",
            "apply_form: refs/heads/main",
            "schema/unknown-field",
            "3:1",
            "did you mean `apply_from`?",
        ),
        config(
            "a misspelled setting inside",
            "limits: {max_rotation: 5}",
            "schema/unknown-field",
            "3:10",
            "did you mean `max_rotations`?",
        ),
        config("a percentage above all", "limits: {max_percent: 101}", "schema/out-of-range", "3:23", "from 0 to 100"),
        config(
            "a duration without a unit",
            "providers: {aws_kms: {consistency_delay: \"5\"}}",
            "schema/form",
            "3:42",
            "`5m`",
        ),
        config(
            "a duration that is a number",
            "providers: {aws_kms: {consistency_delay: 300}}",
            "schema/type",
            "3:42",
            "quote it",
        ),
        config(
            "a duration of nothing",
            "providers: {aws_kms: {operation_timeout: 0s}}",
            "config/duration",
            "3:42",
            "`60s`",
        ),
        config(
            "a duration beyond all",
            "providers: {aws_kms: {connect_timeout: 99999999999999999999h}}",
            "config/duration",
            "3:40",
            "`60s`",
        ),
        config("a state of nothing known", "state: mysql://localhost/x", "config/state", "3:8", "`sqlite:PATH`"),
        config("a state without a path", "state: \"sqlite:\"", "config/state", "3:8", "`sqlite:PATH`"),
        config(
            "a password",
            "state: postgres://keywheel:canary@db/keywheel",
            "config/state-password",
            "3:8",
            "${KEYWHEEL_STATE}",
        ),
        config("a branch that is not a ref", "apply_from: main", "config/apply-from", "3:13", "`refs/heads/main`"),
        config(
            "a variable with its dollar",
            "secrets: {acme: [\"${HOOK}\"]}",
            "config/variable-name",
            "3:18",
            "`HOOK`",
        ),
        config(
            "a variable with a dash",
            "secrets: {acme: [SLACK-HOOK]}",
            "config/variable-name",
            "3:18",
            "`SLACK_WEBHOOK_URL`",
        ),
        config(
            "a region of nowhere",
            "providers: {aws_kms: {region: Frankfurt}}",
            "config/provider",
            "3:31",
            "`us-east-1`",
        ),
        config(
            "an endpoint that is no URL",
            "providers: {aws_kms: {endpoint_url: localhost:4566}}",
            "config/provider",
            "3:37",
            "https://",
        ),
        config(
            "a role that is none",
            "providers: {aws_kms: {tenants: {acme: {role_arn: keywheel}}}}",
            "config/provider",
            "3:50",
            "role/keywheel",
        ),
        config(
            "secrets of an unknown tenant",
            "secrets: {acme: [HOOK]}",
            "set/unknown-tenant",
            "3:17",
            "policies/acme/",
        ),
        config(
            "a reference outside a secret field",
            "apply_from: ${BRANCH}",
            "secret/not-a-secret-field",
            "3:13",
            "the value itself",
        )
        .and("config/apply-from"),
        config(
            "an interval and a schedule in defaults",
            "defaults: {rotation_interval_days: 3, rotation_schedule: \"0 2 1 * *\"}",
            "policy/interval-and-schedule",
            "3:58",
            "keep one",
        ),
        config(
            "another kind",
            "---\napiVersion: keywheel/v1\nkind: Freeze\nname: a\nreason: b\nfrom: \"2026-01-01T00:00:00\"\nuntil: \"2026-01-02T00:00:00\"",
            "set/misplaced",
            "5:7",
            "under `policies/`",
        ),
        config("settings twice", "---\napiVersion: keywheel/v1\nkind: Config", "set/duplicate", "4:1", "keep one"),
        config("a file that is not YAML", "limits: [", "yaml/syntax", "3:9", "close the bracket"),
    ]);
}

#[test]
fn sets_that_do_not_hold_together() {
    let acme = "policies/acme/all.yaml";
    let both = || format!("{POLICY}---\n{KEY}");
    let umbrella = |text: &str| text.replace("acme", "umbrella");
    let second = |text: &str| text.replace("backups", "archives");
    let aliased = |text: &str| format!("{text}kms_provider: aws_kms\nkms_alias: alias/shared\n");
    let aws_policy = format!("{POLICY}kms_provider: aws_kms\n");
    let end = "from: \"2026-12-20T00:00:00\"\nuntil: \"2027-01-05T00:00:00\"\n";
    check(vec![
        set(
            "two policies of one name",
            &[(acme, both()), ("policies/acme/more.yaml", POLICY.to_owned())],
            "set/duplicate",
            "4:14",
            "rename or remove",
        ),
        set(
            "two keys of one name",
            &[(acme, both()), ("policies/acme/sub/more.yaml", KEY.to_owned())],
            "set/duplicate",
            "4:11",
            "rename or remove",
        ),
        set(
            "two tenant documents",
            &[(acme, both()), ("policies/acme/t1.yaml", tenant("")), ("policies/acme/t2.yaml", tenant(""))],
            "set/duplicate",
            "3:12",
            "keep one",
        ),
        set(
            "two freezes of one name",
            &[("policies/a.yaml", freeze(end)), ("policies/b.yaml", freeze(end))],
            "set/duplicate",
            "3:7",
            "rename or remove",
        ),
        set(
            "a policy that nobody defines",
            &[(acme, KEY.to_owned())],
            "set/dangling-policy",
            "6:18",
            "RotationPolicy of that name",
        ),
        set(
            "a misspelled policy",
            &[(acme, both().replace("rotation_policy: quarterly", "rotation_policy: quartely"))],
            "set/dangling-policy",
            "13:18",
            "did you mean `quarterly`?",
        ),
        set(
            "a policy of another tenant",
            &[
                ("policies/umbrella/all.yaml", umbrella(POLICY)),
                ("policies/zeta/all.yaml", KEY.replace("acme", "zeta")),
            ],
            "set/dangling-policy",
            "6:18",
            "`umbrella` has a policy of that name",
        ),
        set(
            "another provider than its policy's",
            &[(acme, format!("{aws_policy}---\n{KEY}"))],
            "set/provider-mismatch",
            "14:18",
            "make them the same",
        ),
        set(
            "another class of data than its policy's",
            &[(acme, both().replacen("system_data", "phi_data", 1))],
            "set/key-type-mismatch",
            "12:11",
            "make them the same",
        ),
        set(
            "a policy without keys",
            &[(acme, POLICY.to_owned())],
            "set/policy-without-keys",
            "4:14",
            "rotation_policy: quarterly",
        ),
        set(
            "a key without a policy",
            &[(acme, KEY.replace("rotation_policy: quarterly\n", ""))],
            "set/key-without-policy",
            "4:11",
            "rotation_policy",
        ),
        set(
            "one alias twice",
            &[(acme, format!("{aws_policy}---\n{}---\n{}", aliased(KEY), aliased(&second(KEY))))],
            "set/alias-taken",
            "25:12",
            "give this one another",
        ),
        set(
            "one alias of two tenants",
            &[
                (acme, format!("{aws_policy}---\n{}", aliased(KEY))),
                ("policies/umbrella/all.yaml", umbrella(&format!("{aws_policy}---\n{}", aliased(KEY)))),
            ],
            "set/alias-taken",
            "16:12",
            "one tenant",
        )
        .and("set/alias-taken"),
        set(
            "one provider key twice",
            &[(
                acme,
                format!(
                    "{aws_policy}---\n{}kms_key_id: 0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9\n---\n{}kms_key_id: arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9\nkms_region: us-east-1\n",
                    aliased(KEY) + "kms_region: us-east-1\n",
                    aliased(&second(KEY)).replace("shared", "other")
                ),
            )],
            "set/key-id-taken",
            "28:13",
            "give this one another",
        ),
        set(
            "a document in another tenant's folder",
            &[("policies/umbrella/all.yaml", both())],
            "set/tenant-mismatch",
            "3:12",
            "policies/acme/",
        )
        .and("set/tenant-mismatch"),
        set(
            "a policy outside every folder",
            &[("policies/all.yaml", POLICY.to_owned())],
            "set/misplaced",
            "2:7",
            "policies/acme/",
        ),
        set(
            "a freeze in a tenant's folder",
            &[("policies/acme/freeze.yaml", freeze(end))],
            "set/misplaced",
            "2:7",
            "policies/guardrails.yaml",
        ),
        set(
            "settings in a tenant's folder",
            &[("policies/acme/config.yaml", "apiVersion: keywheel/v1\nkind: Config\n".to_owned())],
            "set/misplaced",
            "2:7",
            "keywheel.yaml",
        ),
        set(
            "a folder that cannot be a tenant",
            &[("policies/a:b/all.yaml", both())],
            "set/tenant-folder",
            "1:1",
            "rename the folder",
        ),
        set(
            "a new name while the old is there",
            &[(acme, format!("{}---\n{}previous_name: backups\n", both(), second(KEY)))],
            "set/previous-name-exists",
            "21:16",
            "remove the old document",
        ),
        set(
            "one old name for two",
            &[(acme, format!("{}previous_name: old\n---\n{}previous_name: old\n", both(), second(KEY)))],
            "set/previous-name-twice",
            "22:16",
            "remove `previous_name`",
        ),
        set(
            "a freeze of an unknown tenant",
            &[(acme, both()), ("policies/guardrails.yaml", freeze(&format!("{end}tenants: [acne]")))],
            "set/unknown-tenant",
            "7:11",
            "did you mean `acme`?",
        ),
        set(
            "a guardrail of an unknown tenant",
            &[(
                "policies/guardrails.yaml",
                "apiVersion: keywheel/v1\nkind: Guardrail\nname: a\nrule: \"true\"\nmessage: m\ntenants: [zeta]\n"
                    .to_owned(),
            )],
            "set/unknown-tenant",
            "6:11",
            "policies/zeta/",
        ),
        set(
            "a freeze from no date",
            &[("policies/guardrails.yaml", freeze("from: tomorrow\nuntil: \"2027-01-05T00:00:00\""))],
            "schema/form",
            "5:7",
            "\"2026-12-31T00:00:00\"",
        ),
    ]);
}
