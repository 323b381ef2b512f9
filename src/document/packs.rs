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
        let cron = |text: &str| json!({ "rotation_schedule": text });
        let (two_years, by_hand) = ((days(730), days(731)), json!({ "rotation_trigger": "manual" }));
        let (plain, suspended) = (json!({}), json!({ "status": "suspended" }));
        // A year as people write it, the leap day included, and more.
        let (a_year, yearly) = ((days(366), days(367)), (cron("0 2 1 1 *"), cron("0 2 29 2 *")));
        let key = |usage: &str, spec: &str| json!({ "key_usage": usage, "key_spec": spec });
        let (signs, agrees) = (key("SIGN_VERIFY", "ECC_NIST_P256"), key("KEY_AGREEMENT", "ECC_NIST_P256"));
        let (mac, transports) = (key("GENERATE_VERIFY_MAC", "HMAC_256"), key("ENCRYPT_DECRYPT", "RSA_2048"));
        let retained =
            |disposition: &str, days: u32| json!({ "old_key_disposition": disposition, "retain_old_keys_days": days });
        let (kept, ends) = (retained("keep", 30), (retained("disable", 1095), retained("destroy", 1096)));
        let cases: [(&str, &Value, &Value, &Value); 24] = [
            ("guardrail/nist-800-57-5-3-6-encryption-cryptoperiod", &two_years.0, &two_years.1, &plain),
            ("guardrail/nist-800-57-5-3-6-encryption-cryptoperiod", &yearly.0, &yearly.1, &plain),
            ("guardrail/nist-800-57-5-3-6-recipient-usage", &ends.0, &ends.1, &plain),
            ("guardrail/nist-800-57-5-3-6-recipient-usage", &ends.0, &kept, &plain),
            ("guardrail/nist-800-57-5-3-6-recipient-usage", &ends.0, &ends.1, &mac),
            ("guardrail/nist-800-57-5-3-6-authentication-cryptoperiod", &two_years.0, &two_years.1, &mac),
            ("guardrail/nist-800-57-5-3-6-key-transport-cryptoperiod", &two_years.0, &two_years.1, &transports),
            ("guardrail/nist-800-57-5-3-6-key-agreement-cryptoperiod", &two_years.0, &two_years.1, &agrees),
            ("guardrail/nist-800-57-5-3-6-signature-cryptoperiod", &days(1095), &days(1096), &signs),
            ("guardrail/nist-800-57-5-3-6-signature-cryptoperiod", &yearly.0, &yearly.1, &signs),
            ("guardrail/nist-800-57-5-3-defined-cryptoperiod", &plain, &by_hand, &plain),
            ("guardrail/nist-800-57-5-3-defined-cryptoperiod", &plain, &suspended, &plain),
            ("guardrail/pci-dss-3-7-4-defined-cryptoperiod", &suspended, &by_hand, &plain),
            ("guardrail/pci-dss-3-7-4-a-year", &a_year.0, &a_year.1, &plain),
            ("guardrail/pci-dss-3-7-4-a-year", &yearly.0, &yearly.1, &plain),
            ("guardrail/pci-dss-3-7-4-in-force", &by_hand, &suspended, &plain),
            ("guardrail/hipaa-164-312-rotation-by-time", &plain, &by_hand, &plain),
            ("guardrail/hipaa-164-312-rotation-by-time", &plain, &suspended, &plain),
            ("guardrail/hipaa-164-312-a-year", &a_year.0, &a_year.1, &plain),
            ("guardrail/hipaa-164-312-a-year", &yearly.0, &yearly.1, &plain),
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
    }

    /// Of each kind of key, the one rule that a cryptoperiod of a hundred years breaks.
    #[test]
    fn each_kind_of_key_is_under_the_rule_of_its_kind_alone() {
        let for_ever = json!({ "rotation_interval_days": 36_500 });
        let rules: Vec<_> =
            pack("NIST-800-57").unwrap().rules.iter().filter(|(it, _)| code(it).ends_with("-cryptoperiod")).collect();
        let broken = |usage: Option<&str>, spec: Option<&str>| {
            let key = json!({ "key_usage": usage, "key_spec": spec });
            let broken = rules.iter().filter(|(_, rule)| judged(rule, &for_ever, &key) != Ok(true));
            broken
                .map(|(it, _)| it.name.as_str().trim_start_matches("NIST 800-57 5.3.6 ").to_owned())
                .collect::<Vec<_>>()
        };
        for (usage, spec, rule) in [
            (None, None, "encryption cryptoperiod"),
            (Some("ENCRYPT_DECRYPT"), None, "encryption cryptoperiod"),
            (None, Some("SYMMETRIC_DEFAULT"), "encryption cryptoperiod"),
            (Some("GENERATE_VERIFY_MAC"), Some("HMAC_384"), "authentication cryptoperiod"),
            (Some("ENCRYPT_DECRYPT"), Some("RSA_4096"), "key transport cryptoperiod"),
            (Some("ENCRYPT_DECRYPT"), Some("SM2"), "key transport cryptoperiod"),
            (Some("KEY_AGREEMENT"), Some("ECC_NIST_P384"), "key agreement cryptoperiod"),
            (Some("SIGN_VERIFY"), Some("RSA_2048"), "signature cryptoperiod"),
            (Some("SIGN_VERIFY"), Some("ML_DSA_65"), "signature cryptoperiod"),
        ] {
            assert_eq!(broken(usage, spec), [rule], "{usage:?} {spec:?}");
        }
        let recipients = rules_of_recipients();
        let kept_for_ever = json!({ "old_key_disposition": "keep" });
        for key in
            [json!({ "key_usage": "SIGN_VERIFY" }), json!({ "key_spec": "RSA_2048", "key_usage": "ENCRYPT_DECRYPT" })]
        {
            assert_eq!(judged(recipients, &kept_for_ever, &key), Ok(true), "it is of symmetric keys: {key}");
        }
    }

    fn rules_of_recipients() -> &'static Rule {
        let rules = &pack("NIST-800-57").unwrap().rules;
        &rules.iter().find(|(it, _)| code(it).ends_with("recipient-usage")).unwrap().1
    }

    fn judged(rule: &Rule, policy: &Value, key: &Value) -> Result<bool, Mistake> {
        let with = |mut base: Value, more: &Value| {
            base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            base
        };
        let mut base = json!({ "tenant_id": "acme", "policy_name": "P", "key_type": "phi_data" });
        if policy.get("rotation_schedule").is_none() && policy.get("rotation_trigger").is_none() {
            base["rotation_interval_days"] = json!(1);
        }
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
