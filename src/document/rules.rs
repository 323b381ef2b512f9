//! Guardrails, compliance packs and waivers: what the documents are judged by beyond what they mean.
//!
//! Each policy, and each key with its policy, is held to the guardrails of the repository that select it and to the packs
//! that the policy's `compliance_tags` switch on. A waiver of the policy turns what is broken into a note until its last
//! day. Rules over a plan are only compiled here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::packs::{self, Pack};
use super::read::Document;
use super::schema::Step;
use super::set::{Item, Set};
use super::subject::{about, span_of};
use super::validate::{list, suggest};
use crate::diagnostic::Finding;
use crate::guardrail::{self, Facts, Mistake, Rule, Subject};
use crate::model::{EncryptionKey, Guardrail, Name, RotationPolicy, Timestamp, Waiver};

/// A rule, and where it stands.
struct Judge<'s, 't> {
    guardrail: &'s Guardrail,
    rule: &'s Rule,
    code: String,
    /// None for a pack's.
    document: Option<&'s Document<'t>>,
}

/// What a document is judged as.
struct Judged<'s, 't> {
    document: &'s Document<'t>,
    tenant_id: &'s Name,
    key_type: &'s str,
    key: Option<&'s EncryptionKey>,
    policy: Option<&'s RotationPolicy>,
}

/// Holds every policy and key to the rules, and says which rules are none.
pub(super) fn check(set: &Set<'_, '_>, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let compiled: Vec<_> = set.guardrails.iter().filter_map(|item| compile(item, &mut findings)).collect();
    let rules: Vec<Judge<'_, '_>> = compiled
        .iter()
        .map(|(item, rule)| {
            let guardrail = &item.located.value;
            Judge { guardrail, rule, code: guardrail::code(guardrail), document: Some(item.document) }
        })
        .collect();
    same_code(&rules, &mut findings);
    // They are read as documents themselves: not where nobody asks for one.
    let asks = |policy: &RotationPolicy| !(policy.compliance_tags.is_empty() && policy.waivers.is_empty());
    let wanted = set.policies.iter().any(|item| asks(&item.located.value));
    let packs: BTreeMap<&str, Vec<Judge<'_, '_>>> = (wanted.then(packs::tags).into_iter().flatten())
        .filter_map(packs::pack)
        .map(|pack| {
            let judges = pack.rules.iter().map(|(guardrail, rule)| Judge {
                guardrail,
                rule,
                code: guardrail::code(guardrail),
                document: None,
            });
            (pack.tag, judges.collect())
        })
        .collect();
    let mut known: BTreeSet<&str> =
        rules.iter().chain(packs.values().flatten()).map(|rule| rule.code.as_str()).collect();
    known.insert(Waiver::EVIDENCE);
    let policies: BTreeMap<_, _> = set
        .policies
        .iter()
        .map(|item| &item.located.value)
        .map(|policy| ((&policy.tenant_id, &policy.policy_name), policy))
        .collect();
    for item in &set.policies {
        tags(item, &mut findings);
        waivers(item, &known, now, &mut findings);
    }
    let judge = |facts: &mut Facts, judged: Judged<'_, '_>| judge(&judged, &rules, &packs, facts, now);
    let of_policies = set.policies.par_iter().map(|item| {
        let policy = &item.located.value;
        let (tenant_id, key_type) = (&policy.tenant_id, policy.key_type.as_str());
        Judged { document: item.document, tenant_id, key_type, key: None, policy: Some(policy) }
    });
    let of_keys = set.keys.par_iter().filter_map(|item| {
        let key = &item.located.value;
        let policy = key.rotation_policy.as_ref().map(|name| policies.get(&(&key.tenant_id, name)).copied());
        // One that names a policy that is not there is told of elsewhere.
        let policy = policy.map_or(Some(None), |policy| policy.map(Some))?;
        let (tenant_id, key_type) = (&key.tenant_id, key.key_type.as_str());
        Some(Judged { document: item.document, tenant_id, key_type, key: Some(key), policy })
    });
    if !rules.is_empty() || !packs.is_empty() {
        let found = of_policies.chain(of_keys).map_init(|| Facts::new(now), judge).flatten_iter();
        findings.par_extend(found);
    }
    findings
}

/// A guardrail with its rule; none if that is no rule.
fn compile<'s, 'a, 't>(
    item: &'s Item<'a, 't, Guardrail>,
    findings: &mut Vec<Finding>,
) -> Option<(&'s Item<'a, 't, Guardrail>, Rule)> {
    let guardrail = &item.located.value;
    match Rule::new(&guardrail.rule) {
        Ok(rule)
            if rule.subject == Subject::Plan && !(guardrail.tenants.is_empty() && guardrail.key_types.is_empty()) =>
        {
            let finding = Finding::error("guardrail/selector", "a rule over the plan selects tenants or key types")
                .help("a plan is judged as a whole: take out `tenants` and `key_types`");
            findings.push(about(item.document, finding, &[Step::Field("rule")]));
            None
        }
        Ok(rule) => Some((item, rule)),
        Err(mistake) => {
            let finding = Finding::error("guardrail/rule", mistake.message).help(mistake.help);
            findings.push(about(item.document, finding, &[Step::Field("rule")]));
            None
        }
    }
}

/// Two rules that a waiver could not tell apart.
fn same_code(rules: &[Judge<'_, '_>], findings: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for rule in rules {
        if let (false, Some(document)) = (seen.insert(&rule.code), rule.document) {
            let message = format!("another guardrail goes by {} too", rule.code);
            let finding = Finding::error("guardrail/same-code", message).help("give one of them another name");
            findings.push(about(document, finding, &[Step::Field("name")]));
        }
    }
}

fn tags(item: &Item<'_, '_, RotationPolicy>, findings: &mut Vec<Finding>) {
    for tag in &item.located.value.compliance_tags {
        if packs::pack(tag).is_none() {
            let help = match suggest(tag, packs::tags()) {
                Some(tag) => format!("did you mean `{tag}`?"),
                None => format!("there are packs for {}", list(packs::tags())),
            };
            let message = format!("no compliance pack goes by `{tag}`: nothing is checked for it");
            let finding = Finding::warning("policy/unknown-compliance-tag", message).help(help);
            findings.push(about(item.document, finding, &[Step::Field("compliance_tags")]));
        }
    }
}

fn waivers(item: &Item<'_, '_, RotationPolicy>, known: &BTreeSet<&str>, now: Timestamp, findings: &mut Vec<Finding>) {
    for waiver in &item.located.value.waivers {
        let finding = if !known.contains(waiver.rule.as_str()) {
            let help = match suggest(&waiver.rule, known.iter().copied()) {
                Some(rule) => format!("did you mean `{rule}`?"),
                None => "write the code in brackets of the finding that is waived".to_owned(),
            };
            Finding::error("policy/unknown-waiver", format!("there is no rule `{}` to waive", waiver.rule)).help(help)
        } else if now.date_naive() > waiver.until {
            let message = format!("the waiver of {} by {} ended on {}", waiver.rule, waiver.approver, waiver.until);
            Finding::error("policy/ended-waiver", message)
                .help("take it out: if the rule is broken still, that is said then; or have it granted anew")
        } else {
            continue;
        };
        findings.push(about(item.document, finding, &[Step::Field("waivers")]));
    }
}

fn judge(
    judged: &Judged<'_, '_>,
    rules: &[Judge<'_, '_>],
    packs: &BTreeMap<&str, Vec<Judge<'_, '_>>>,
    facts: &Facts,
    now: Timestamp,
) -> Vec<Finding> {
    let subject = if judged.key.is_some() { Subject::Key } else { Subject::Policy };
    let tags = judged.policy.map(|policy| policy.compliance_tags.as_slice()).unwrap_or_default();
    let switched_on: BTreeSet<&str> =
        tags.iter().filter_map(|tag| packs::pack(tag)).map(|Pack { tag, .. }| *tag).collect();
    let of_packs = switched_on.into_iter().filter_map(|tag| packs.get(tag)).flatten();
    let selects = |rule: &&Judge<'_, '_>| {
        rule.rule.subject == subject && rule.guardrail.selects(judged.tenant_id, judged.key_type)
    };
    let mut selected = rules.iter().chain(of_packs).filter(selects).peekable();
    if selected.peek().is_none() {
        return Vec::new();
    }
    let given = match (judged.key, judged.policy) {
        (Some(key), policy) => facts.key(key, policy),
        (None, Some(policy)) => facts.policy(policy),
        (None, None) => return Vec::new(),
    };
    let broken = selected.filter_map(|rule| match rule.rule.is_kept(&given) {
        Ok(true) => None,
        kept => Some(broken(judged, rule, kept.err(), now)),
    });
    broken.collect()
}

/// What breaks a rule.
pub(crate) struct Broken<'r> {
    /// The values that it reads: `rotation_interval_days is 90`.
    pub values: String,
    /// The field of the document that is judged at which to look: the first that it sets.
    pub field: Option<&'r str>,
}

/// What of a key, or else of a policy, a rule reads.
pub(crate) fn broken_by<'r>(
    rule: &'r Rule,
    key: Option<&EncryptionKey>,
    policy: Option<&RotationPolicy>,
) -> Broken<'r> {
    let own = if key.is_some() { Subject::Key } else { Subject::Policy };
    let of_key = key.and_then(|key| serde_json::to_value(key).ok()).unwrap_or_default();
    let of_policy = policy.map(guardrail::policy_fields).unwrap_or_default();
    let written = match key {
        Some(key) => serde_json::to_value(key),
        None => serde_json::to_value(policy),
    }
    .unwrap_or_default();
    let said = |(subject, field): &(Subject, String)| {
        let value = if *subject == Subject::Key { &of_key } else { &of_policy }.get(field);
        let value = value.filter(|value| !value.is_null()).map_or_else(|| "not set".to_owned(), ToString::to_string);
        format!("{field} is {}", super::scalar::shorten(&value))
    };
    let is_set = |field: &str| written.get(field).is_some_and(|value| !value.is_null());
    // What it is reckoned from is what can be changed.
    let source = if is_set("rotation_schedule") { "rotation_schedule" } else { "rotation_interval_days" };
    let fields = rule.fields.iter().filter(|(subject, _)| *subject == own).map(|(_, field)| field.as_str());
    let mut fields = fields.map(|field| if field == guardrail::LONGEST_INTERVAL { source } else { field });
    let field = fields.clone().find(|field| is_set(field)).or_else(|| fields.next());
    Broken { values: rule.fields.iter().map(said).collect::<Vec<_>>().join(", "), field }
}

/// What is said of a rule that a document does not keep, or that cannot be judged for it.
fn broken(judged: &Judged<'_, '_>, rule: &Judge<'_, '_>, why: Option<Mistake>, now: Timestamp) -> Finding {
    let Broken { values, field } = broken_by(rule.rule, judged.key, judged.policy);
    let guardrail = rule.guardrail;
    let waiver = judged.policy.into_iter().flat_map(|policy| &policy.waivers);
    let waiver = waiver.into_iter().find(|waiver| waiver.rule == rule.code && now.date_naive() <= waiver.until);
    let mut finding = match (why, waiver) {
        (Some(why), _) => {
            let message = format!("{:?} cannot be judged: {}", guardrail.name.as_str(), why.message);
            Finding::error("guardrail/not-judged", message).help(why.help)
        }
        (None, Some(waiver)) => {
            let Waiver { until, approver, reason, .. } = waiver;
            let message =
                format!("{}: {values}, which is waived until {until} by {approver}: {reason}", guardrail.message);
            Finding::info("guardrail/waived", message)
        }
        (None, None) => {
            // A rule such as `policy != null` reads no field.
            let values = if values.is_empty() { values } else { format!(": {values}") };
            let mut finding = Finding::error("guardrail/broken", format!("{}{values}", guardrail.message));
            finding.code = Cow::Owned(rule.code.clone());
            finding.severity = guardrail.severity;
            finding.help.clone_from(&guardrail.help);
            finding
        }
    };
    let steps: Vec<Step<'_>> = field.map(Step::Field).into_iter().collect();
    finding = about(judged.document, finding, &steps);
    finding.related = rule
        .document
        .map(|document| document.text.related(span_of(document, &[Step::Field("rule")]), "the guardrail is here"));
    finding
}
