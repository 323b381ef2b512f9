//! Compliance packs: rules of published standards, written as those of a house are.
//!
//! They are Guardrail documents, read by the same code as those of a repository. Each says its section, and whether its number is the standard's or the house's. A `compliance_tags` entry of a policy
//! switches a pack on for that policy and its keys. That a pack is kept supports a claim of compliance; it is not one.

use std::sync::LazyLock;

use super::{Capabilities, SourceFile};
use crate::guardrail::Rule;
use crate::model::{Guardrail, KmsProvider, Timestamp};

/// A pack.
#[derive(Debug)]
pub struct Pack {
    /// Its tag, as it is usually written.
    pub tag: &'static str,
    /// Its rules, compiled.
    pub rules: Vec<(Guardrail, Rule)>,
}

/// The packs: tag, other spellings without punctuation, rules.
const SOURCES: [(&str, &[&str], &str); 5] = [
    ("NIST-800-57", &["NIST80057", "NISTSP80057", "SP80057"], include_str!("packs/nist-800-57.yaml")),
    ("PCI-DSS", &["PCIDSS", "PCI", "PCIDSS4", "PCIDSS40", "PCIDSS401"], include_str!("packs/pci-dss.yaml")),
    ("HIPAA", &["HIPAA"], include_str!("packs/hipaa.yaml")),
    ("SOC2", &["SOC2", "SOC2TYPE1", "SOC2TYPE2"], include_str!("packs/soc2.yaml")),
    ("ISO27001", &["ISO27001", "ISOIEC27001", "ISO270012022"], include_str!("packs/iso27001.yaml")),
];

static PACKS: LazyLock<Vec<Pack>> = LazyLock::new(|| {
    let compiled = |tag: &str, text: &str| -> Vec<(Guardrail, Rule)> {
        let path = format!("policies/{tag}.yaml").into();
        let file = SourceFile { path, content: text.as_bytes().into(), symlink: false };
        let rules = super::load(None, &[file], |_: KmsProvider| Capabilities::NONE, Timestamp::UNIX_EPOCH)
            .repository
            .guardrails;
        let rules = rules.into_values().map(|located| located.value);
        rules.filter_map(|rule| Rule::new(&rule.rule).ok().map(|compiled| (rule, compiled))).collect()
    };
    SOURCES.iter().map(|(tag, _, text)| Pack { tag, rules: compiled(tag, text) }).collect()
});

/// The pack that a tag switches on, however it is spelled.
#[must_use]
pub fn pack(tag: &str) -> Option<&'static Pack> {
    let plain: String = tag.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_uppercase()).collect();
    let index = SOURCES.iter().position(|(_, spellings, _)| spellings.contains(&plain.as_str()))?;
    PACKS.get(index)
}

/// The tags of all packs.
pub fn tags() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|(tag, ..)| *tag)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::guardrail::{Facts, Mistake, Subject, code};
    use crate::model::{EncryptionKey, RotationPolicy};

    #[test]
    fn every_rule_of_every_pack_is_read_and_compiled() {
        for ((tag, spellings, text), pack) in SOURCES.iter().zip(PACKS.iter()) {
            let rules = text.lines().filter(|line| line.starts_with("name:")).count();
            assert!(rules > 0 && pack.rules.len() == rules, "{tag}: {} of {rules}", pack.rules.len());
            for spelling in *spellings {
                assert_eq!(super::pack(spelling).unwrap().tag, *tag);
            }
            assert_eq!(super::pack(tag).unwrap().tag, *tag);
        }
    }

    /// Each rule, with what a policy and a key say that just keep it, and what they say that break it.
    #[test]
    fn every_rule_of_every_pack_is_kept_and_broken_at_its_limit() {
        let days = |days: u32| json!({ "rotation_interval_days": days });
        let (two_years, by_hand) = ((days(730), days(731)), json!({ "rotation_trigger": "manual" }));
        let (signs, suspended) = (json!({ "key_usage": "SIGN_VERIFY" }), json!({ "status": "suspended" }));
        let (plain, a_year) = (json!({}), (days(365), days(366)));
        let cases: [(&str, &Value, &Value, &Value); 14] = [
            ("guardrail/nist-800-57-5-3-6-cryptoperiod", &two_years.0, &two_years.1, &plain),
            ("guardrail/nist-800-57-5-3-6-signature-cryptoperiod", &days(1095), &days(1096), &signs),
            ("guardrail/nist-800-57-5-3-defined-cryptoperiod", &plain, &by_hand, &plain),
            ("guardrail/nist-800-57-5-3-defined-cryptoperiod", &plain, &suspended, &plain),
            ("guardrail/pci-dss-3-7-4-defined-cryptoperiod", &suspended, &by_hand, &plain),
            ("guardrail/pci-dss-3-7-4-a-year", &a_year.0, &a_year.1, &plain),
            ("guardrail/pci-dss-3-7-4-in-force", &by_hand, &suspended, &plain),
            ("guardrail/hipaa-164-312-rotation-by-time", &plain, &by_hand, &plain),
            ("guardrail/hipaa-164-312-rotation-by-time", &plain, &suspended, &plain),
            ("guardrail/hipaa-164-312-a-year", &a_year.0, &a_year.1, &plain),
            ("guardrail/soc2-cc6-1-rotation-by-time", &plain, &by_hand, &plain),
            ("guardrail/soc2-cc6-1-rotation-by-time", &plain, &suspended, &plain),
            ("guardrail/iso27001-a-8-24-rotation-by-time", &plain, &by_hand, &plain),
            ("guardrail/iso27001-a-8-24-rotation-by-time", &plain, &suspended, &plain),
        ];
        let rules: Vec<_> = PACKS.iter().flat_map(|pack| &pack.rules).collect();
        for (name, kept, broken, key) in cases {
            let (_, rule) = rules.iter().find(|(guardrail, _)| code(guardrail) == name).expect(name);
            assert_eq!(judged(rule, kept, key), Ok(true), "{name} {kept}");
            assert_eq!(judged(rule, broken, key), Ok(false), "{name} {broken}");
        }
        let untested = rules.iter().find(|(guardrail, _)| cases.iter().all(|case| case.0 != code(guardrail)));
        assert!(untested.is_none(), "{untested:?}");
        let (_, encrypts) =
            rules.iter().find(|(it, _)| code(it) == "guardrail/nist-800-57-5-3-6-cryptoperiod").unwrap();
        assert_eq!(judged(encrypts, &days(1000), &signs), Ok(true), "a key that signs is under the other rule");
    }

    fn judged(rule: &Rule, policy: &Value, key: &Value) -> Result<bool, Mistake> {
        let with = |mut base: Value, more: &Value| {
            base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            base
        };
        let base = json!({ "tenant_id": "acme", "policy_name": "P", "key_type": "phi_data" });
        let policy: RotationPolicy = serde_json::from_value(with(base, policy)).unwrap();
        let base = json!({ "tenant_id": "acme", "key_name": "k", "key_type": "phi_data", "rotation_policy": "P" });
        let key: EncryptionKey = serde_json::from_value(with(base, key)).unwrap();
        let facts = Facts::new(Timestamp::UNIX_EPOCH);
        match rule.subject {
            Subject::Key => rule.is_kept(&facts.key(&key, Some(&policy))),
            _ => rule.is_kept(&facts.policy(&policy)),
        }
    }
}
