//! Plans as they occur.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Duration;
use keywheel::diagnostic::{Finding, Place, Related};
use keywheel::document::Approvals;
use keywheel::model::{Address, Name, ObjectRef, Timestamp};
use keywheel::plan::approvals::needs;
use keywheel::plan::forecast::{Day, Entry, Idle, Problem};
use keywheel::plan::{
    Action, Base, Change, Consequence, Drift, Forecast, Plan, Precondition, Reason, Refusal, Sources, Waiting, digest,
};
use serde_json::{Map, Value, json};

/// Every situation, by name.
pub fn all() -> Vec<(&'static str, Plan)> {
    vec![
        ("nothing", nothing()),
        ("one_change", one_change()),
        ("destruction", destruction()),
        ("as_of", as_of_another_instant()),
        ("refused", refused()),
        ("errors", errors()),
        ("review", review()),
        ("pull_request", pull_request()),
        ("guardrails", guardrails()),
        ("approvals", approvals()),
        ("alerts", alerts()),
    ]
}

/// Nothing to do.
pub fn nothing() -> Plan {
    Plan {
        as_of: as_of(),
        tz_version: "2025b".to_owned(),
        sources: Sources { commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()), ..Sources::default() },
        lineage: None,
        digest: String::new(),
        changes: Vec::new(),
        waiting: Vec::new(),
        drift: Vec::new(),
        refusals: Vec::new(),
        left_out: BTreeMap::new(),
        diagnostics: Vec::new(),
        not_applicable: None,
        base: None,
        consequences: Vec::new(),
        needs: Vec::new(),
    }
    .sealed()
}

/// One policy gets another interval.
pub fn one_change() -> Plan {
    Plan { changes: vec![shorter()], ..nothing() }.sealed()
}

/// Old versions come to their end.
pub fn destruction() -> Plan {
    let changes = vec![
        Change {
            version: Some(3),
            before: fields(&json!({ "provider_ref": "arn:aws:kms:us-east-1:123456789012:key/mrk-1" })),
            ..change(key("patient-data"), Action::Destroy, "its waiting period of 30 days passed on 2026-11-20")
        },
        Change { version: Some(4), ..change(key("patient-data"), Action::ScheduleDestruction, "disabled for 90 days") },
        Change {
            version: Some(7),
            ..change(key("billing"), Action::Disable, "retained for 30 days, and nothing used it")
        },
        change(key("ledger"), Action::Rotate, "due since 2026-11-23T02:00:00Z"),
    ];
    Plan { changes, ..nothing() }.sealed()
}

/// It was made for another instant, and is only read.
pub fn as_of_another_instant() -> Plan {
    Plan { not_applicable: Some("for another instant (--as-of)".to_owned()), ..one_change() }.sealed()
}

/// It goes over a limit.
pub fn refused() -> Plan {
    let refusals = vec![Refusal {
        code: "limits/max-rotations".to_owned(),
        message: "201 rotations in all, and max_rotations allows 200".to_owned(),
        help: "raise limits.max_rotations, or name this plan: --override-limits DIGEST --reason TEXT".to_owned(),
        place: Some(place("keywheel.yaml", 4, 26, 3)),
    }];
    Plan { refusals, changes: rotations(201), ..nothing() }.sealed()
}

/// Documents have errors; their tenant is left out.
pub fn errors() -> Plan {
    let line = "rotation_intervall_days: 30";
    let finding = Finding::error("schema/unknown-field", "unknown field `rotation_intervall_days`")
        .help("did you mean `rotation_interval_days`?")
        .at(place("policies/acme corp/phi.yaml", 12, 1, 23), Some(line.to_owned()));
    let mut warning = Finding::warning("key/overdue", "overdue by 3 days").of(key("patient-data"));
    warning.place = Some(place("policies/healthcare-org-123/keys.yaml", 3, 11, 12));
    let twice = Finding { place: Some(place("policies/acme corp/phi.yaml", 40, 1, 23)), ..finding.clone() };
    Plan {
        diagnostics: vec![
            Finding { tenant_id: Some(name("acme corp")), ..finding },
            Finding { tenant_id: Some(name("acme corp")), ..twice },
            warning,
            Finding::info("plan/not-acting-yet", "stored, and without effect: waivers (1)"),
        ],
        left_out: BTreeMap::from([(name("acme corp"), "its documents have errors".to_owned())]),
        waiting: vec![Waiting {
            object: key("billing"),
            action: Action::Rotate,
            version: None,
            reason: Reason::new("window", "due, and outside its rotation_windows"),
            starts_at: Some(as_of() + Duration::hours(20)),
        }],
        drift: vec![Drift {
            object: key("patient-data"),
            field: "description".to_owned(),
            reason: Reason::new("settings", "it was changed at the key manager, and is set again"),
            recorded: Some("Patients' records".to_owned()),
            observed: Some(String::new()),
        }],
        ..one_change()
    }
    .sealed()
}

/// Two refs are compared, and each change has what follows from it.
pub fn review() -> Plan {
    let follows = |code: &str, message: &str| Consequence {
        object: policy("Quarterly"),
        code: code.to_owned(),
        message: message.to_owned(),
    };
    Plan {
        base: Some(Base {
            reference: "origin/main".to_owned(),
            commit: "fedcba9876543210fedcba9876543210fedcba98".to_owned(),
        }),
        not_applicable: Some("as a review, without a state database".to_owned()),
        changes: vec![
            shorter(),
            Change {
                after: fields(&json!({
                    "key_type": "phi_data", "kms_provider": "aws_kms", "rotation_policy": "Quarterly",
                    "description": "Claims that come in by fax,\nscanned and kept for ten years\n"
                })),
                ..change(key("claims-archive"), Action::Create, "a new aws_kms key under policy Quarterly")
            },
            change(policy("Old"), Action::Remove, "its document is gone: 3 keys are unlinked, nothing is destroyed"),
        ],
        consequences: vec![
            follows("due_at_once", "41 keys become due at once, the first at 2026-11-24T02:00:00Z"),
            follows("outside_window", "3 of them are outside their window until 2026-11-28T22:00:00Z"),
            follows("burst", "at AWS's quota of 5 calls a second the burst takes 12 minutes"),
            follows("cost", "about 41 USD a month more while old versions are retained"),
        ],
        ..nothing()
    }
    .sealed()
}

/// What a reviewer meets: a review of something dangerous that goes over a limit.
pub fn pull_request() -> Plan {
    let review = review();
    let mut changes = review.changes;
    changes.extend(destruction().changes.into_iter().take(1));
    changes.extend(rotations(12));
    Plan {
        changes,
        diagnostics: vec![
            Finding::warning(
                "retention/short",
                "old versions are kept for 30 days, and HIPAA asks for records of 6 years",
            )
            .help("raise retain_old_keys_days, or say why in a waiver")
            .at(place("policies/healthcare-org-123/phi.yaml", 14, 1, 24), Some("retain_old_keys_days: 30".to_owned())),
        ],
        waiting: errors().waiting,
        not_applicable: None,
        ..review
    }
    .sealed()
}

/// Guardrails that something does not keep: a policy, a policy that was not asked to, one with a waiver, and the plan.
pub fn guardrails() -> Plan {
    let of_policy = |finding: Finding, line, field: &str, rule_line, rule: &str| {
        let length = u32::try_from(field.len()).unwrap();
        let finding = finding.of(policy("Quarterly"));
        let finding =
            finding.at(place("policies/healthcare-org-123/phi.yaml", line, 1, length), Some(field.to_owned()));
        let related = Related {
            place: place("policies/guardrails.yaml", rule_line, 7, u32::try_from(rule.len()).unwrap()),
            message: "the guardrail is here".to_owned(),
            source_line: Some(format!("rule: {rule}")),
        };
        Finding { related: Some(related), ..finding }
    };
    let broken = Finding { code: Cow::Borrowed("guardrail/a-quarter"), ..Finding::error("", BROKEN) }.help(BROKEN_HELP);
    let warned = "long intervals are spread: rotation_spread_minutes is not set";
    let warned = Finding { code: Cow::Borrowed("guardrail/spread"), ..Finding::warning("", warned) };
    let waived = "old versions are kept for a month: retain_old_keys_days is 7, which is waived until 2026-12-31 by Ada: a test fleet";
    Plan {
        diagnostics: vec![
            of_policy(broken, 9, "rotation_interval_days: 180", 5, "policy.rotation_interval_days <= 90"),
            of_policy(warned, 3, "policy_name: Quarterly", 11, "has(policy.rotation_spread_minutes)"),
            of_policy(
                Finding::info("guardrail/waived", waived),
                12,
                "retain_old_keys_days: 7",
                17,
                "policy.retain_old_keys_days >= 30",
            ),
        ],
        refusals: vec![Refusal {
            code: "guardrail/small-steps".to_owned(),
            message: "one step at a time: plan.rotations is 12".to_owned(),
            help: "make smaller changes, one after the other".to_owned(),
            place: Some(place("policies/guardrails.yaml", 23, 7, 20)),
        }],
        left_out: BTreeMap::from([(name("healthcare-org-123"), "its documents have errors".to_owned())]),
        changes: rotations(12),
        ..nothing()
    }
    .sealed()
}

/// What breaks the first guardrail of [`guardrails`], and what to do about it.
pub const BROKEN: &str = "keys rotate once a quarter: rotation_interval_days is 180";
pub const BROKEN_HELP: &str = "lower it to 90, or have it waived";

/// Something needs approvals, one tenant could give none, and a third thing waits for its own.
pub fn approvals() -> Plan {
    let mut needed = Finding::info(
        "plan/approvals",
        "1 version of tenant healthcare-org-123 would stop decrypting: 2 approvals by owners of tenant healthcare-org-123 are needed",
    )
    .help("save the plan, have it approved, and apply that: keywheel plan --out FILE, keywheel approve FILE, keywheel apply FILE")
    .at(place("keywheel.yaml", 7, 13, 1), None);
    needed.tenant_id = Some(name("healthcare-org-123"));
    let too_few = "2 approvals are asked for, and there are fewer owners of acme: nothing could be approved";
    let too_few = Finding::warning("plan/too-few-owners", too_few).help("name more `owners` of the tenant");
    let destroyed = destruction().changes;
    Plan {
        diagnostics: vec![needed, too_few.at(place("policies/acme/tenant.yaml", 4, 1, 6), None)],
        needs: needs(&destroyed, Approvals { required: 2, rotations_over: None }),
        changes: destroyed,
        waiting: vec![Waiting {
            object: key("archive"),
            action: Action::ScheduleDestruction,
            version: Some(2),
            reason: Reason::new(
                "approval",
                "it needs 2 approvals by owners of tenant healthcare-org-123: keywheel approve FILE",
            ),
            starts_at: None,
        }],
        ..nothing()
    }
    .sealed()
}

/// What a person should look at.
pub fn alerts() -> Plan {
    let at_its_document = |finding: Finding, line| Finding {
        place: Some(place("policies/healthcare-org-123/keys.yaml", line, 1, 24)),
        ..finding.of(key("patient-data"))
    };
    let parked = "healthcare-org-123/patient-data is parked, and does not rotate until `keywheel resume`";
    let expires = "healthcare-org-123/patient-data ends on 2026-12-01T00:00:00Z, in 8 days";
    let no_keys = Finding::info("alert/policy-without-keys", "no key names the policy healthcare-org-123/Quarterly");
    Plan {
        diagnostics: vec![
            at_its_document(
                Finding::warning("alert/parked", parked).help("keywheel resume healthcare-org-123/patient-data"),
                8,
            ),
            at_its_document(Finding::warning("alert/expires", expires), 8),
            no_keys.of(policy("Quarterly")),
        ],
        ..nothing()
    }
    .sealed()
}

/// More than anybody reads: every kind of change, 5,000 of them.
pub fn thousands() -> Plan {
    let updates = (0..2_000).map(|n| Change { object: policy(&format!("policy-{n:04}")), ..shorter() });
    let lost = (0..500).map(|n| Change {
        version: Some(1),
        ..change(key(&format!("old-{n:04}")), Action::Destroy, "its waiting period of 30 days passed on 2026-11-20")
    });
    Plan { changes: updates.chain(rotations(2_500)).chain(lost).collect(), ..nothing() }.sealed()
}

fn rotations(number: usize) -> Vec<Change> {
    let rotate = |n| change(key(&format!("key-{n:04}")), Action::Rotate, "due since 2026-11-23T02:00:00Z");
    (0..number).map(rotate).collect()
}

fn shorter() -> Change {
    Change {
        before: fields(&json!({
            "compliance_tags": ["HIPAA", "SOC2"], "description": "Rotate keys", "rotation_interval_days": 90,
            "max_usage_count": null
        })),
        after: fields(&json!({
            "compliance_tags": ["HIPAA", "PCI-DSS"], "rotation_interval_days": 30, "max_usage_count": 1_000_000,
            "description": "Rotate every key that protects records of patients, often enough for everyone"
        })),
        ..change(policy("Quarterly"), Action::Update, "90 to 30 days")
    }
}

/// A change with a reason alone.
pub fn change(object: ObjectRef, action: Action, why: &str) -> Change {
    Change::new(object, action, Reason::new("test", why), Precondition::default())
}

/// The fields of a change.
pub fn fields(value: &Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

/// A finding with this text wherever it has any.
pub fn finding(text: &str) -> Finding {
    let finding = Finding { code: Cow::Owned(text.to_owned()), ..Finding::error("", text) };
    let finding = finding.help(text).at(place(text, 1, 1, 1), Some(text.to_owned()));
    let place = place(text, 2, 1, 1);
    Finding {
        related: Some(Related { place, message: text.to_owned(), source_line: Some(text.to_owned()) }),
        ..finding
    }
}

/// A place that a document names.
pub fn place(file: &str, line: u32, column: u32, length: u32) -> Place {
    Place { file: Arc::from(file), line, column, length }
}

/// The instant of all of them.
pub fn as_of() -> Timestamp {
    "2026-11-23T05:20:00Z".parse().unwrap()
}

/// A policy.
pub fn policy(policy: &str) -> ObjectRef {
    ObjectRef::policy(&Address::new(name("healthcare-org-123"), name(policy)))
}

/// A key.
pub fn key(key: &str) -> ObjectRef {
    ObjectRef::key(&Address::new(name("healthcare-org-123"), name(key)))
}

/// A name.
pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// With the digest that belongs to it.
pub trait Sealed {
    fn sealed(self) -> Self;
}

impl Sealed for Plan {
    fn sealed(self) -> Self {
        let digest = digest(&self.sources, self.lineage, &self.changes);
        Self { digest, ..self }
    }
}

/// A quarter with a problem, an old version that goes, and names that would like to be something else.
pub fn forecast() -> Forecast {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let entry = |day: u32, action, count| Entry {
        at: at(&format!("2026-12-{day:02}T02:00:00Z")),
        action,
        tenant_id: "acme".parse().unwrap(),
        policy_name: Some("Nightly".parse().unwrap()),
        count,
        key_count: count,
        keys: vec!["patients".parse().unwrap()],
        usd_a_month: (day == 20).then_some(20),
        slot: None,
        held_by: (action == Action::Rotate).then(|| "freeze \"</td><script>alert(1)</script>\"".to_owned()),
        missed_since: None,
        if_unused: action == Action::Disable,
    };
    let day = |day: u32, action, count| Day {
        date: at(&format!("2026-12-{day:02}T00:00:00Z")).date_naive(),
        counts: [(action, count)].into(),
    };
    Forecast {
        as_of: at("2026-11-24T12:00:00Z"),
        until: at("2027-02-22T12:00:00Z"),
        cut: false,
        left_out: vec!["globex".parse().unwrap()],
        keys: 41,
        not_applied: 1,
        totals: [(Action::Rotate, 40), (Action::Disable, 1)].into(),
        usd_a_month: Some(40),
        calendar: (1..=20)
            .map(|number| day(number, Action::Rotate, number as usize))
            .chain([day(21, Action::Disable, 1)])
            .collect(),
        entries: (1..=20)
            .map(|number| entry(number, Action::Rotate, number as usize))
            .chain([entry(21, Action::Disable, 1)])
            .collect(),
        entries_left_out: 3,
        problems: vec![Problem {
            code: "forecast/limit".to_owned(),
            at: at("2026-12-20T02:00:00Z"),
            times: 2,
            message: "351 rotations are due within 15 minutes: that apply is refused <b>".to_owned(),
            help: "spread them".to_owned(),
        }],
        idle: vec![Idle {
            code: "parked".to_owned(),
            message: "parked until `resume`".to_owned(),
            count: 1,
            keys: vec!["acme/archive".to_owned()],
        }],
    }
}
