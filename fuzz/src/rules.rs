//! Guardrails: each line is a rule in CEL.

use std::time::{Duration, Instant};

use keywheel::guardrail::{Facts, PlanFacts, Rule, Subject};
use keywheel::model::{EncryptionKey, RotationPolicy, Timestamp};
use serde_json::json;

/// Judging one rule for one document takes so long at the most, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(5);

/// A rule is none, or it is kept, broken or cannot be judged, in little time; and what it reads is there to be read.
pub fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let (policy, key) = documents();
    let facts = Facts::new(Timestamp::UNIX_EPOCH);
    let mut taken = false;
    for line in text.lines().take(8) {
        let began = Instant::now();
        if let Ok(rule) = Rule::new(line) {
            taken = true;
            assert!(rule.subject != Subject::Plan || rule.fields.iter().all(|(subject, _)| *subject == Subject::Plan));
            let given = match rule.subject {
                Subject::Policy => facts.policy(&policy),
                Subject::Key => facts.key(&key, Some(&policy)),
                Subject::Plan => facts.plan(&PlanFacts { changes: 3, rotations: 2, ..PlanFacts::default() }),
            };
            if let Err(why) = rule.is_kept(&given) {
                assert!(!why.message.is_empty() && !why.help.is_empty());
            }
        }
        assert!(began.elapsed() < LONG, "too long: {line}");
    }
    taken
}

fn documents() -> (RotationPolicy, EncryptionKey) {
    let policy = json!({
        "tenant_id": "acme", "policy_name": "Nightly", "key_type": "phi_data", "rotation_interval_days": 30,
        "compliance_tags": ["HIPAA"], "notification_settings": {"email": ["a@example.org"]},
        "rotation_windows": [{"days": ["sat"], "start": "22:00:00", "end": "04:00:00"}],
        "waivers": [{"rule": "guardrail/x", "reason": "y", "approver": "z", "until": "2027-01-01"}],
    });
    let key = json!({
        "tenant_id": "acme", "key_name": "patients", "key_type": "phi_data", "kms_provider": "aws_kms",
        "kms_alias": "alias/patients", "rotation_policy": "Nightly", "tags": {"team": "a"},
    });
    let (policy, key) = (serde_json::from_value(policy), serde_json::from_value(key));
    (policy.expect("a policy"), key.expect("a key"))
}
