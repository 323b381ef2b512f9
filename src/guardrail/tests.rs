//! Rules as people write them, rightly and wrongly, and as somebody would who means harm.

use proptest::prelude::*;

use super::*;

#[test]
fn a_rule_is_judged_for_what_it_speaks_of() {
    let subject = |text| Rule::new(text).unwrap().subject;
    assert_eq!(subject("policy.rotation_interval_days <= 90"), Subject::Policy);
    assert_eq!(subject("policy == null || key.multi_region"), Subject::Key);
    assert_eq!(subject("plan.rotations < 10 || now.getHours() < 6"), Subject::Plan);
}

#[test]
fn what_is_no_rule_is_told_with_its_column() {
    let mistake = |text: &str| Rule::new(text).unwrap_err();
    assert_eq!(mistake("policy.rotation_interval <= 90").help, "did you mean `policy.rotation_interval_days`?");
    assert!(
        mistake("has(policy.rotaton_trigger)")
            .message
            .starts_with("`policy` has no field `rotaton_trigger`, at column")
    );
    assert!(mistake("polcy.status == 'active'").message.contains("`polcy`"));
    assert!(mistake("policy.status ==").message.contains("no expression in CEL, at column"));
    assert!(mistake("has(dyn(policy).typo)").message.ends_with("uses `policy` as a whole, at column 9"));
    assert!(mistake("[key].all(it, has(it.typo))").message.contains("as a whole"));
    let nested = mistake("!has(policy.notification_settings.slack_webhok)");
    assert!(nested.message.starts_with("`policy.notification_settings` has no field `slack_webhok`, at column"));
    assert_eq!(nested.help, "did you mean `policy.notification_settings.slack_webhook`?");
    for (rule, meant) in [
        ("!policy.waivers.exists(w, has(w.untill))", "w.until"),
        ("policy.waivers[0].aprover == 'x'", "policy.waivers[...].approver"),
        ("policy.rotation_windows.all(w, w.strat < '03:00')", "w.start"),
    ] {
        assert_eq!(mistake(rule).help, format!("did you mean `{meant}`?"), "{rule}");
    }
    assert!(Rule::new("key.tags.team == 'a' && key.tags.all(tag, tag != '')").is_ok(), "tags have any name");
    assert!(mistake("true").message.contains("no policy, key or plan"));
    assert!(mistake("plan.rotations < 1 && key.multi_region").help.contains("two rules"));
    let nested = "policy.compliance_tags.all(a, policy.compliance_tags.all(b, a == b))";
    assert!(mistake(nested).message.contains("loop inside a loop"), "{:?}", mistake(nested));
}

#[test]
fn what_would_be_too_deep_for_the_parser_is_refused_before_it_is_parsed() {
    for (open, close) in [("(", ")"), ("[", "]"), ("!", ""), ("-", ""), ("policy.a+", "")] {
        let text = format!("{}1{}", open.repeat(300), close.repeat(300));
        assert!(Rule::new(&text).is_err(), "{open}");
    }
    assert!(Rule::new(&"a".repeat(5000)).unwrap_err().message.contains("bytes"));
}

#[test]
fn a_rule_over_the_plan_counts() {
    let rule = Rule::new("plan.rotations <= 2 && plan.destructions == 0").unwrap();
    let facts = Facts::new(Timestamp::UNIX_EPOCH);
    let judged = |rotations, destructions| {
        rule.is_kept(&facts.plan(&PlanFacts { rotations, destructions, ..PlanFacts::default() }))
    };
    assert_eq!(judged(2, 0), Ok(true));
    assert_eq!(judged(3, 0), Ok(false));
    assert_eq!(judged(0, 1), Ok(false));
    let neither = Rule::new("plan.rotations").unwrap();
    let why = neither.is_kept(&facts.plan(&PlanFacts::default())).unwrap_err();
    assert!(why.message.contains("neither true nor false"), "{why:?}");
}

#[test]
fn what_cannot_be_judged_is_told_in_the_words_of_its_cause() {
    let policy = serde_json::from_value(serde_json::json!({
        "tenant_id": "t", "policy_name": "p", "key_type": "t", "rotation_interval_days": 30,
    }));
    let (policy, facts): (RotationPolicy, _) = (policy.unwrap(), Facts::new(Timestamp::UNIX_EPOCH));
    let why = |text: &str| Rule::new(text).unwrap().is_kept(&facts.policy(&policy)).unwrap_err();
    let missing = why("policy.max_usage_count < 5");
    assert_eq!(missing.message, "max_usage_count is not set");
    assert_eq!(missing.help, "a rule that may meet a document without it asks `has(policy.max_usage_count)` first");
    assert_eq!(why("policy.rotation_interval_days / 0 == 1").message, "it divides by zero");
    assert_eq!(why("policy.rotation_interval_days % 0 == 1").message, "it divides by zero");
    let large = why("policy.rotation_interval_days * 9223372036854775807 > 1");
    assert_eq!(large.message, "a number in it becomes too large");
    for text in
        ["policy.rotation_interval_days / 0 == 1", "policy.key_type.matches('(') && true", "policy.key_type + 1 == 2"]
    {
        assert!(!why(text).help.contains("has("), "{text}: {:?}", why(text));
    }
}

#[test]
fn a_rule_may_ask_for_the_instant() {
    let rule = Rule::new(
        "plan.rotations == 0 || (now.getHours('Europe/Berlin') >= 2 && now < timestamp('2026-12-20T00:00:00Z'))",
    );
    let kept = |now: &str| {
        let facts = Facts::new(now.parse().unwrap());
        rule.as_ref().unwrap().is_kept(&facts.plan(&PlanFacts { rotations: 1, ..PlanFacts::default() }))
    };
    assert_eq!(kept("2026-12-01T01:00:00Z"), Ok(true));
    assert_eq!(kept("2026-12-01T00:59:59Z"), Ok(false));
    assert_eq!(kept("2026-12-20T01:00:00Z"), Ok(false));
}

#[test]
fn the_longest_interval_is_measured_however_it_is_written() {
    let facts = Facts::new(Timestamp::UNIX_EPOCH);
    let kept = |text: &str, more: &str| {
        let base = r#"{"tenant_id": "acme", "policy_name": "P", "key_type": "phi_data""#;
        let policy: RotationPolicy = serde_json::from_str(&format!("{base}, {more}}}")).unwrap();
        Rule::new(text).unwrap().is_kept(&facts.policy(&policy)).unwrap()
    };
    for (schedule, days) in [
        (r#""rotation_interval_days": 90"#, 90),
        (r#""rotation_schedule": "0 2 * * *""#, 1),
        (r#""rotation_schedule": "0 2,14 * * *""#, 1),
        (r#""rotation_schedule": "0 2 * * MON""#, 7),
        (r#""rotation_schedule": "0 2 1 * *""#, 31),
        // From the last of March until that of May, and so on.
        (r#""rotation_schedule": "0 2 31 * *""#, 61),
        (r#""rotation_schedule": "0 2 L * *""#, 31),
        (r#""rotation_schedule": "0 2 1 1,7 *""#, 184),
        (r#""rotation_schedule": "0 2 1 1 *""#, 366),
        (r#""rotation_schedule": "0 2 29 2 *""#, 1461),
        (r#""rotation_schedule": "0 2 * 2 MON#5""#, 10_227),
    ] {
        let limit = |most: u32| kept(&format!("policy.longest_interval_days <= {most}"), schedule);
        assert!(limit(days) && !limit(days - 1), "{schedule} is {days} days");
    }
    let by_use = r#""rotation_trigger": "usage_based", "max_usage_count": 9"#;
    assert!(kept("!has(policy.longest_interval_days)", by_use));
    assert!(kept("!has(policy.longest_interval_days)", r#""rotation_trigger": "manual""#));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z0-9.()\\[\\]{}!&|?:<>=+*/%'\", -]{0,80}") {
        let rules = [text.clone(), format!("plan.changes == ({text})"), format!("[plan].all(x, {text})")];
        for rule in rules.iter().filter_map(|text| Rule::new(text).ok()) {
            let _ = rule.is_kept(&Facts::new(Timestamp::UNIX_EPOCH).plan(&PlanFacts::default()));
        }
    }
}
