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
        let rules = super::load(None, &[file], |_: KmsProvider| NOTHING, Timestamp::UNIX_EPOCH).repository.guardrails;
        let rules = rules.into_values().map(|located| located.value);
        rules.filter_map(|rule| Rule::new(&rule.rule).ok().map(|compiled| (rule, compiled))).collect()
    };
    SOURCES.iter().map(|(tag, _, text)| Pack { tag, rules: compiled(tag, text) }).collect()
});

/// A pack has rules alone, and no key of any provider.
const NOTHING: Capabilities = Capabilities {
    available: false,
    strategies: &[],
    rollback: false,
    needs_alias: false,
    regions: false,
    disable: false,
    destroy: false,
    last_use: false,
    destroys_by_itself: false,
};

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
    use super::*;

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
}
