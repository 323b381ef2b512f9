//! How far a change reaches: which of the files that it leaves alone must be read, so that a check of few files finds what a
//! check of all of them would.
//!
//! What is wrong with a document by itself stands in its own file. What the set has wrong joins documents by a name: a
//! policy's and a key's, within a tenant; a tenant's, in `keywheel.yaml` and the files that hold for all; an alias's or a
//! provider key's, across all tenants. So a file matters if it may have one of the names that the change is about
//! ([`Needles`] can be wrong in one direction only), or if a mistake makes everything of a tenant matter.
//!
//! # Invariant
//! Once [`reach`] and [`reach_of_findings`] ask for nothing more, [`concerning`] gives of a part of the repository what it gives of the whole. A
//! property test compares the two on random repositories and edits.

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;

use super::set::{self, CODES, DANGLING, DUPLICATE, POLICY_WITHOUT_KEYS, UNKNOWN_TENANT};
use super::{Config, Loaded, Located, Repository};
use crate::diagnostic::{Finding, Place};
use crate::model::{EncryptionKey, KmsProvider, Name};

/// What of the unchanged files is still to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// All of them.
    pub everything: bool,
    /// Which folders there are with documents in them.
    pub folders: bool,
    /// Everything in these folders.
    pub whole: BTreeSet<Name>,
    /// In these folders, whatever may have one of these names in it.
    pub named: BTreeMap<Name, BTreeSet<String>>,
    /// In every folder, whatever may have one of these names in it.
    pub everywhere: BTreeSet<String>,
}

/// Compares what was read of the earlier and the later documents: the changed files, those that hold for all tenants, and
/// whatever was asked for until now.
#[must_use]
pub fn reach(before: &Loaded, after: &Loaded, changed: &BTreeSet<String>) -> Reach {
    let mut reach = Reach::default();
    let sides = [before, after];
    if rules(&before.repository) != rules(&after.repository)
        || sides.iter().any(|side| {
            side.findings.iter().any(|it| it.is_error() && it.tenant_id.is_none() && it.code != UNKNOWN_TENANT)
        })
    {
        reach.everything = true;
        return reach;
    }
    // Of two documents with one name, one is not in the maps: what it names, and what it claims, is not known here.
    let is_changed = |place: &Place| changed.contains(&*place.file);
    let is_duplicate = |finding: &Finding| {
        let places = finding.place.iter().chain(finding.related.as_ref().map(|related| &related.place));
        finding.code == DUPLICATE && places.into_iter().any(is_changed)
    };
    if sides.iter().any(|side| side.findings.iter().any(is_duplicate)) {
        reach.everything = true;
        return reach;
    }
    for name in changed.iter().filter_map(|file| folder(file)) {
        // It may stand in any file, and every policy is merged with it.
        reach.named.entry(name).or_default().insert("Tenant".to_owned());
    }
    for side in sides {
        let Repository { policies, keys, .. } = &side.repository;
        for (address, policy) in policies.iter().filter(|(_, policy)| is_changed(&policy.place)) {
            let names = reach.named.entry(address.tenant_id.clone()).or_default();
            names.insert(address.name.to_string());
            names.extend(policy.value.previous_name.as_ref().map(Name::to_string));
        }
        for (address, key) in keys {
            let EncryptionKey { tenant_id, rotation_policy, previous_name, .. } = &key.value;
            let names = reach.named.entry(tenant_id.clone()).or_default();
            if is_changed(&key.place) {
                names.insert(address.name.to_string());
                names.extend(previous_name.as_ref().map(Name::to_string));
            }
            // Who may approve what becomes of it.
            names.extend((side.repository.config.approvals.required > 0).then(|| "Tenant".to_owned()));
            // Whoever was read for a name brings another one along; and what it names may have other keys.
            names.extend(rotation_policy.as_ref().map(Name::to_string));
        }
        // Of a document with a mistake nobody knows what it would have been to the others.
        let is_mistake = |finding: &&Finding| {
            let is_here = finding.place.as_ref().is_some_and(is_changed);
            finding.is_error() && is_here && !CODES.contains(&finding.code.as_ref())
        };
        let mistakes = side.findings.iter().filter(is_mistake);
        reach.whole.extend(mistakes.filter_map(|finding| finding.tenant_id.clone()));
    }
    let tenants = |side: &Loaded| -> BTreeMap<Name, String> {
        let tenants = side.repository.tenants.iter();
        tenants.map(|(name, tenant)| (name.clone(), serde_json::to_string(&tenant.value).unwrap_or_default())).collect()
    };
    let (then, now) = (tenants(before), tenants(after));
    reach.whole.extend(then.keys().chain(now.keys()).filter(|name| then.get(*name) != now.get(*name)).cloned());
    let claimed: BTreeSet<_> = before.repository.keys.values().flat_map(claims).collect();
    let added = after.repository.keys.values().filter(|key| changed.contains(&*key.place.file)).flat_map(claims);
    reach.everywhere.extend(added.filter(|claim| !claimed.contains(claim)).map(|claim| claim.name.to_owned()));
    reach
}

/// What must be read before the findings of a change are told, once [`reach`] asks for nothing more: a policy without keys
/// is one only if all of its tenant's documents have been read, and none of them has a mistake.
#[must_use]
pub fn reach_of_findings(before: &Loaded, after: &Loaded, changed: &BTreeSet<String>) -> Reach {
    let mut reach = Reach::default();
    for finding in shown(&after.findings, &before.findings, changed) {
        match finding.code.as_ref() {
            UNKNOWN_TENANT => reach.folders = true,
            POLICY_WITHOUT_KEYS => reach.whole.extend(finding.tenant_id.clone()),
            DANGLING => {
                reach.whole.extend(finding.tenant_id.clone());
                // Its help names the tenant that has a policy of this name.
                let object = finding.object.as_ref().and_then(crate::model::ObjectRef::address);
                let key = object.and_then(|address| after.repository.keys.get(&address));
                reach.everywhere.extend(key.and_then(|key| key.value.rotation_policy.as_ref()).map(Name::to_string));
            }
            _ => {}
        }
    }
    reach
}

/// The findings that concern a change: all of those in a file that it touches or that holds for every tenant, and elsewhere
/// those that were not there before. Of two keys that claim one name, the later ones only, wherever they stand: who had it
/// before is not looked up for every key of a file.
#[must_use]
pub fn concerning(after: &[Finding], before: &[Finding], changed: &BTreeSet<String>) -> Vec<Finding> {
    shown(after, before, changed).cloned().collect()
}

fn shown<'f>(
    after: &'f [Finding],
    before: &'f [Finding],
    changed: &'f BTreeSet<String>,
) -> impl Iterator<Item = &'f Finding> {
    let known: BTreeSet<_> = before.iter().map(identity).collect();
    after.iter().filter(move |finding| {
        let file = finding.place.as_ref().map_or("", |place| &place.file);
        let is_claim = matches!(finding.code.as_ref(), "set/alias-taken" | "set/key-id-taken");
        let is_here = !is_claim && (changed.contains(file) || folder(file).is_none());
        is_here || !known.contains(&identity(finding))
    })
}

/// What a finding is, wherever in its file it stands.
fn identity(finding: &Finding) -> impl Ord + '_ {
    let Finding { code, severity, message, place, object, tenant_id, .. } = finding;
    (code, severity, message, place.as_ref().map(|place| &place.file), object, tenant_id)
}

/// The tenant in whose folder a file stands; none for one that holds for all.
fn folder(file: &str) -> Option<Name> {
    let (folder, _) = file.strip_prefix("policies/")?.split_once('/')?;
    Name::new(folder).ok()
}

/// What every document is judged by, wherever it stands.
fn rules(repository: &Repository) -> impl PartialEq + '_ {
    let Config { state: _, apply_from: _, limits: _, approvals, providers, defaults, secrets, require_signed, owners } =
        &repository.config;
    let guardrails: Vec<_> = repository.guardrails.values().map(|it| &it.value).collect();
    let freezes: Vec<_> = repository.freezes.values().map(|it| &it.value).collect();
    (approvals, providers, defaults, secrets, require_signed, owners, guardrails, freezes)
}

/// A name at a key manager that a key takes for itself, and where it says so.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Claim<'a> {
    key: (&'a Name, &'a Name),
    file: &'a str,
    provider: KmsProvider,
    region: Option<&'a str>,
    name: &'a str,
}

fn claims(key: &Located<EncryptionKey>) -> impl Iterator<Item = Claim<'_>> {
    let document = &key.value;
    set::claimed_names(document).map(move |(name, region, _)| Claim {
        key: (&document.tenant_id, &document.key_name),
        file: &key.place.file,
        provider: document.kms_provider,
        region: region.or(document.kms_region.as_deref()),
        name,
    })
}

/// Names to look for in the text of files, without reading it as YAML.
///
/// YAML can write a name in many ways. A line may be folded at a space, and a quote may be doubled: both are looked for. Any
/// other way takes a backslash, so that a text with one may have any name.
#[derive(Debug)]
pub struct Needles {
    /// None where there are too many names to be looked for.
    automaton: Option<AhoCorasick>,
    has_spaces: bool,
}

impl Needles {
    /// Names to look for.
    #[must_use]
    pub fn new(names: &BTreeSet<String>) -> Self {
        let one_space = |name: &String| name.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut forms: BTreeSet<String> = names.iter().map(one_space).collect();
        let doubled: Vec<String> =
            forms.iter().filter(|name| name.contains('\'')).map(|name| name.replace('\'', "''")).collect();
        forms.extend(doubled);
        let has_spaces = forms.iter().any(|name| name.contains(' '));
        Self { automaton: AhoCorasick::new(&forms).ok(), has_spaces }
    }

    /// May a text have one of the names in it? Not, if the answer is false.
    #[must_use]
    pub fn may_be_in(&self, text: &[u8]) -> bool {
        let Some(automaton) = &self.automaton else { return true };
        if text.contains(&b'\\') {
            return true;
        }
        if self.has_spaces { automaton.is_match(&with_one_space(text)) } else { automaton.is_match(text) }
    }
}

/// The text with one space for each run of white space.
fn with_one_space(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' if out.last() == Some(&b' ') => {}
            b' ' | b'\t' | b'\r' | b'\n' => out.push(b' '),
            byte => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be_in(name: &str, text: &str) -> bool {
        Needles::new(&BTreeSet::from([name.to_owned()])).may_be_in(text.as_bytes())
    }

    #[test]
    fn a_name_is_found_however_yaml_writes_it() {
        let name = "Daily PHI Rotation";
        for text in [
            "policy_name: Daily PHI Rotation\n",
            "policy_name: \"Daily PHI Rotation\"",
            "policy_name: Daily\n    PHI\r\n  Rotation",
            "policy_name: >-\n  Daily\n  PHI Rotation\n",
            "policy_name: \"Daily\\x20PHI Rotation\"",
            "policy_name: \"Daily \\\n  PHI Rotation\"",
        ] {
            assert!(may_be_in(name, text), "{text}");
        }
        assert!(!may_be_in(name, "policy_name: Daily PII Rotation"));
        assert!(may_be_in("it's", "kms_alias: 'it''s'") && may_be_in("it's", "kms_alias: it's"));
    }
}
