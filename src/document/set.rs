//! The third pass: what only the whole set can tell. Duplicates, references that lead nowhere, documents out of place.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::check;
use super::config::{AwsKmsAccount, Config};
use super::kind::Kind;
use super::read::{Document, Outline};
use super::schema::Step;
use super::subject::{about, span_of};
use super::validate::{list, suggest};
use super::{Keeper, Located};
use crate::diagnostic::{Finding, Related};
use crate::model::{
    Address, EncryptionKey, Freeze, Guardrail, KmsProvider, Name, ObjectKind, ObjectRef, RotationPolicy, Tenant,
    Timestamp,
};
use crate::schedule::{Timing, freeze_applies};

/// A document in its type, and as it was written.
pub(super) struct Item<'a, 't, T> {
    pub document: &'a Document<'t>,
    pub located: Box<Located<T>>,
}

/// The whole set.
pub(super) struct Set<'a, 't> {
    pub config: &'a Config,
    pub config_document: Option<&'a Document<'t>>,
    pub outlines: Vec<&'a Outline<'t>>,
    /// The folders under `policies/`.
    pub folders: BTreeSet<&'a Name>,
    /// Tenants with something unreadable: what is missing there may be in it.
    pub unreadable: BTreeSet<&'a Name>,
    /// Tenants with an error already.
    pub failing: BTreeSet<Name>,
    pub tenants: Vec<Item<'a, 't, Tenant>>,
    pub policies: Vec<Item<'a, 't, RotationPolicy>>,
    pub keys: Vec<Item<'a, 't, EncryptionKey>>,
    pub guardrails: Vec<Item<'a, 't, Guardrail>>,
    pub freezes: Vec<Item<'a, 't, Freeze>>,
}

/// The codes of what the set as a whole has wrong. Whether a tenant fails for other reasons decides about some of them,
/// and none of them about that.
pub(super) const CODES: [&str; 12] = [
    "set/alias-taken",
    DANGLING,
    DUPLICATE,
    "set/key-id-taken",
    "set/key-type-mismatch",
    "set/key-without-policy",
    POLICY_WITHOUT_KEYS,
    "set/previous-name-exists",
    "set/previous-name-twice",
    "set/provider-mismatch",
    "set/too-few-owners",
    UNKNOWN_TENANT,
];
pub(super) const DANGLING: &str = "set/dangling-policy";
pub(super) const DUPLICATE: &str = "set/duplicate";
pub(super) const POLICY_WITHOUT_KEYS: &str = "set/policy-without-keys";
pub(super) const UNKNOWN_TENANT: &str = "set/unknown-tenant";

/// Everything that the set as a whole has wrong.
pub(super) fn check(set: &Set<'_, '_>, now: Timestamp, keeper: &Keeper<'_>) -> Vec<Finding> {
    let mut findings = duplicates(set);
    references(set, &mut findings);
    renames(set, &mut findings);
    claims(set, keeper, &mut findings);
    named_tenants(set, &mut findings);
    freezes(set, now, &mut findings);
    owners(set, now, &mut findings);
    findings
}

/// A document whose kind or tenant does not belong where it stands.
pub(super) fn misplaced(document: &Document<'_>, is_config_file: bool) -> Option<Finding> {
    let kind = document.kind.as_str();
    let here = |code, message: String, help: String, field| {
        Some(about(document, Finding::error(code, message).help(help), &[Step::Field(field)]))
    };
    match (document.kind, &document.folder) {
        (Kind::Config, _) if is_config_file => None,
        (Kind::Test, _) => None,
        (_, _) if is_config_file => here(
            "set/misplaced",
            format!("a `{kind}` does not stand in `keywheel.yaml`"),
            "move it to a file under `policies/`".to_owned(),
            "kind",
        ),
        (Kind::Config, _) => here(
            "set/misplaced",
            "a `Config` stands in `keywheel.yaml` only".to_owned(),
            "move it to `keywheel.yaml` at the top of the repository".to_owned(),
            "kind",
        ),
        (Kind::Guardrail | Kind::Freeze, Some(_)) => here(
            "set/misplaced",
            format!("a `{kind}` does not stand in a tenant's folder: it holds for the whole repository"),
            "move it to `policies/guardrails.yaml`; its field `tenants` narrows it down".to_owned(),
            "kind",
        ),
        (Kind::Guardrail | Kind::Freeze, None) => None,
        (Kind::Tenant | Kind::RotationPolicy | Kind::EncryptionKey, None) => {
            let tenant = document.fields.get("tenant_id").and_then(|tenant| tenant.as_str()).unwrap_or("TENANT");
            here(
                "set/misplaced",
                format!("a `{kind}` stands in its tenant's folder"),
                format!("move it to a file in `policies/{tenant}/`"),
                "kind",
            )
        }
        (Kind::Tenant | Kind::RotationPolicy | Kind::EncryptionKey, Some(folder)) => {
            let tenant = document.fields.get("tenant_id").and_then(|tenant| tenant.as_str())?;
            if tenant == folder.as_str() {
                return None;
            }
            here(
                "set/tenant-mismatch",
                format!("the document of `{tenant}` stands in the folder of `{folder}`"),
                format!("write `tenant_id: {folder}`, or move the document to `policies/{tenant}/`"),
                "tenant_id",
            )
        }
    }
}

fn duplicates(set: &Set<'_, '_>) -> Vec<Finding> {
    let mut first: HashMap<&ObjectRef, &Outline<'_>> = HashMap::with_capacity(set.outlines.len());
    let mut tenants: HashMap<&Name, &Outline<'_>> = HashMap::new();
    let mut findings = Vec::new();
    for outline in &set.outlines {
        let object = &outline.object;
        let earlier = match (object.kind, &object.tenant_id) {
            (ObjectKind::Tenant, Some(folder)) => tenants.insert(folder, outline),
            _ => first.insert(object, outline),
        };
        let Some(earlier) = earlier else { continue };
        let (message, help) = match object.kind {
            ObjectKind::Tenant => {
                (format!("the folder `{}` has two `Tenant` documents", object.name), "keep one of them")
            }
            kind => (format!("there are two {kind} documents named `{}`", object.name), "rename or remove one of them"),
        };
        let mut finding =
            outline.text.at(Finding::error(DUPLICATE, message).help(help), outline.span).of(object.clone());
        finding.related = Some(earlier.text.related(earlier.span, "the other is here"));
        findings.push(finding);
    }
    findings
}

/// Keys and the policies that they name.
fn references(set: &Set<'_, '_>, findings: &mut Vec<Finding>) {
    let mut names: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
    for outline in set.outlines.iter().filter(|outline| outline.object.kind == ObjectKind::RotationPolicy) {
        if let Some(tenant) = &outline.object.tenant_id {
            names.entry(tenant).or_default().insert(&outline.object.name);
        }
    }
    let policies: HashMap<(&Name, &Name), &Item<'_, '_, RotationPolicy>> = set
        .policies
        .iter()
        .map(|item| ((&item.located.value.tenant_id, &item.located.value.policy_name), item))
        .collect();
    let mut used: BTreeSet<(&Name, &Name)> = BTreeSet::new();
    for item in &set.keys {
        let key = &item.located.value;
        let tenant = &key.tenant_id;
        let Some(policy) = &key.rotation_policy else {
            let finding =
                Finding::warning("set/key-without-policy", format!("no policy rotates the key `{}`", key.key_name))
                    .help("add `rotation_policy: NAME`; without one it rotates by hand only");
            findings.push(about(item.document, finding, &[Step::Field("key_name")]));
            continue;
        };
        used.insert((tenant, policy));
        if let Some(policy) = policies.get(&(tenant, policy)) {
            findings.extend(mismatches(item, policy));
        } else if !names.get(tenant).is_some_and(|names| names.contains(policy)) && !set.unreadable.contains(tenant) {
            findings.push(dangling(item, policy, &names));
        }
    }
    for item in &set.policies {
        let policy = &item.located.value;
        let is_used = used.contains(&(&policy.tenant_id, &policy.policy_name));
        // A document with errors may be the key that names it.
        if !is_used && !set.failing.contains(&policy.tenant_id) {
            let finding =
                Finding::warning(POLICY_WITHOUT_KEYS, format!("no key names the policy `{}`", policy.policy_name))
                    .help(format!("write `rotation_policy: {}` in a key, or remove the policy", policy.policy_name));
            findings.push(about(item.document, finding, &[Step::Field("policy_name")]));
        }
    }
}

fn dangling(item: &Item<'_, '_, EncryptionKey>, policy: &Name, names: &BTreeMap<&Name, BTreeSet<&Name>>) -> Finding {
    let tenant = &item.located.value.tenant_id;
    let own = || names.get(tenant).into_iter().flatten().map(|name| name.as_str());
    let elsewhere = names.iter().find(|(_, names)| names.contains(policy)).map(|(tenant, _)| *tenant);
    let help = match (suggest(policy.as_str(), own()), elsewhere) {
        (Some(name), _) => format!("did you mean `{name}`?"),
        (None, Some(other)) => format!(
            "`{other}` has a policy of that name, but a key and its policy have one tenant: write one for `{tenant}`"
        ),
        (None, None) if own().next().is_none() => "write a RotationPolicy of that name".to_owned(),
        (None, None) => format!("the policies of `{tenant}` are {}", list(own().take(10))),
    };
    let finding = Finding::error(DANGLING, format!("`{tenant}` has no policy `{policy}`")).help(help);
    about(item.document, finding, &[Step::Field("rotation_policy")])
}

/// A key and its policy must speak of the same provider and class of data.
fn mismatches(key: &Item<'_, '_, EncryptionKey>, policy: &Item<'_, '_, RotationPolicy>) -> Vec<Finding> {
    let (its, theirs) = (&key.located.value, &policy.located.value);
    let fields = [
        ("kms_provider", "set/provider-mismatch", its.kms_provider.as_str(), theirs.kms_provider.as_str()),
        ("key_type", "set/key-type-mismatch", its.key_type.as_str(), theirs.key_type.as_str()),
    ];
    fields
        .into_iter()
        .filter(|(_, _, its, theirs)| its != theirs)
        .map(|(field, code, its, theirs)| {
            let message = format!(
                "`{field}` of the key is `{its}`, that of its policy `{}` is `{theirs}`",
                policy.located.value.policy_name
            );
            let finding = Finding::error(code, message).help("make them the same, or let the key name another policy");
            let at = if key.document.fields.contains_key(field) { field } else { "rotation_policy" };
            let mut finding = about(key.document, finding, &[Step::Field(at)]);
            finding.related = Some(related(policy.document, field, "the policy is here"));
            finding
        })
        .collect()
}

fn related(document: &Document<'_>, field: &str, message: &str) -> Related {
    document.text.related(span_of(document, &[Step::Field(field)]), message)
}

/// `previous_name`: the old name must be gone, and only one object may have had it.
fn renames(set: &Set<'_, '_>, findings: &mut Vec<Finding>) {
    let policies = set.policies.iter().map(|item| {
        let policy = &item.located.value;
        (ObjectKind::RotationPolicy, &policy.tenant_id, &policy.policy_name, &policy.previous_name, item.document)
    });
    let keys = set.keys.iter().map(|item| {
        let key = &item.located.value;
        (ObjectKind::EncryptionKey, &key.tenant_id, &key.key_name, &key.previous_name, item.document)
    });
    let renamed: Vec<_> = policies
        .chain(keys)
        .filter_map(|(kind, tenant, name, previous, document)| {
            let previous = previous.as_ref().filter(|previous| *previous != name)?;
            Some((ObjectRef { kind, tenant_id: Some(tenant.clone()), name: previous.clone() }, document))
        })
        .collect();
    if renamed.is_empty() {
        return;
    }
    let outlines: HashMap<&ObjectRef, &Outline<'_>> =
        set.outlines.iter().map(|outline| (&outline.object, *outline)).collect();
    let mut claimed: HashMap<&ObjectRef, &Document<'_>> = HashMap::new();
    let path = [Step::Field("previous_name")];
    for (previous, document) in &renamed {
        let name = &previous.name;
        if let Some(outline) = outlines.get(previous) {
            let finding =
                Finding::error("set/previous-name-exists", format!("`{name}` is still there, so nothing was renamed"))
                    .help("remove the old document, or remove `previous_name`");
            let mut finding = about(document, finding, &path);
            finding.related = Some(outline.text.related(outline.span, "it is here"));
            findings.push(finding);
        }
        if let Some(other) = claimed.insert(previous, document) {
            let finding =
                Finding::error("set/previous-name-twice", format!("two documents say that they were `{name}`"))
                    .help("only one of them can have its history: remove `previous_name` from the other");
            let mut finding = about(document, finding, &path);
            finding.related = Some(related(other, "previous_name", "the other is here"));
            findings.push(finding);
        }
    }
}

/// What only one key may have: an alias or a key id, in one account and region.
#[derive(PartialEq, Eq, Hash)]
struct Claim<'a> {
    provider: KmsProvider,
    account: AwsKmsAccount,
    region: Option<&'a str>,
    name: &'a str,
}

fn claims(set: &Set<'_, '_>, keeper: &Keeper<'_>, findings: &mut Vec<Finding>) {
    let mut claims: HashMap<Claim<'_>, Vec<(&Item<'_, '_, EncryptionKey>, &'static str)>> = HashMap::new();
    for item in &set.keys {
        for (name, region, field) in claimed_names(&item.located.value) {
            let key = &item.located.value;
            let account = if key.kms_provider == KmsProvider::AwsKms {
                account(set.config, &key.tenant_id)
            } else {
                AwsKmsAccount::default()
            };
            let default_region =
                set.config.providers.aws_kms.tenants.get(&key.tenant_id).and_then(|own| own.region.as_deref()).or(set
                    .config
                    .providers
                    .aws_kms
                    .region
                    .as_deref());
            let region = region
                .or(key.kms_region.as_deref())
                .or(default_region)
                .filter(|_| key.kms_provider == KmsProvider::AwsKms);
            let claimants = claims.entry(Claim { provider: key.kms_provider, account, region, name }).or_default();
            if claimants.iter().all(|(other, _)| !std::ptr::eq(*other, item)) {
                claimants.push((item, field));
            }
        }
    }
    for (claim, claimants) in claims.into_iter().filter(|(_, claimants)| claimants.len() > 1) {
        findings.extend(contested(claim.name, &claimants, keeper));
    }
}

/// The names at the provider that a key takes for itself: the name, the region if the name says it, and the field.
pub(super) fn claimed_names(key: &EncryptionKey) -> impl Iterator<Item = (&str, Option<&str>, &'static str)> {
    let alias = key.kms_alias.as_deref().map(|alias| (alias, None, "kms_alias"));
    let id = key.kms_key_id.as_deref().map(|id| {
        let name = check::alias_of_id(id).unwrap_or_else(|| id.rsplit('/').next().unwrap_or(id));
        let region = id.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
        (name, region, "kms_key_id")
    });
    alias.into_iter().chain(id)
}

/// The account that a tenant's keys are in, without the region.
fn account(config: &Config, tenant: &Name) -> AwsKmsAccount {
    let shared = &config.providers.aws_kms;
    let own = shared.tenants.get(tenant);
    let pick =
        |own: Option<&Option<String>>, shared: &Option<String>| own.cloned().flatten().or_else(|| shared.clone());
    AwsKmsAccount {
        region: None,
        endpoint_url: pick(own.map(|own| &own.endpoint_url), &shared.endpoint_url),
        profile: pick(own.map(|own| &own.profile), &shared.profile),
        role_arn: pick(own.map(|own| &own.role_arn), &shared.role_arn),
    }
}

/// One finding for each key that does not have the name: the record decides, and without it, nobody has it. Within one
/// tenant it is enough to name the later ones.
fn contested(
    name: &str,
    claimants: &[(&Item<'_, '_, EncryptionKey>, &'static str)],
    keeper: &Keeper<'_>,
) -> Vec<Finding> {
    let keys: Vec<&EncryptionKey> = claimants.iter().map(|(item, _)| &item.located.value).collect();
    let kept = keeper(name, &keys);
    let one_tenant = keys.iter().all(|key| keys.first().is_some_and(|first| first.tenant_id == key.tenant_id));
    let owner = kept.or(one_tenant.then_some(0));
    let mut findings = Vec::new();
    for (index, (item, field)) in claimants.iter().enumerate().filter(|(index, _)| owner != Some(*index)) {
        let other = owner.unwrap_or(usize::from(index == 0));
        let Some((other, other_field)) = claimants.get(other) else { continue };
        let code = if *field == "kms_alias" { "set/alias-taken" } else { "set/key-id-taken" };
        let message = format!("two keys claim `{name}` in one account and region");
        let finding = Finding::error(code, message)
            .help("a provider key belongs to one key of one tenant: give this one another, or remove it");
        let mut finding = about(item.document, finding, &[Step::Field(field)]);
        // A tenant does not get to read another's documents: only the place is shown.
        let mut other_place = related(other.document, other_field, "the other is here");
        if other.document.folder != item.document.folder {
            other_place.source_line = None;
        }
        finding.related = Some(other_place);
        findings.push(finding);
    }
    findings
}

/// Freezes that hold a policy's rotations back until the next ones are due. Of one that is over nothing is said.
fn freezes(set: &Set<'_, '_>, now: Timestamp, findings: &mut Vec<Finding>) {
    for item in set.policies.iter().filter(|_| !set.freezes.is_empty()) {
        let policy = &item.located.value;
        let address = Address::new(policy.tenant_id.clone(), policy.policy_name.clone());
        let Ok(timing) = Timing::new(policy) else { continue };
        let concerns = |freeze: &&Freeze| freeze_applies(freeze, &address, &policy.key_type);
        let concerned: Vec<&Freeze> = set.freezes.iter().map(|it| &it.located.value).filter(concerns).collect();
        for (freeze, problem) in timing.freeze_delays(&concerned, now) {
            let finding = Finding::warning(problem.code, problem.message).help(problem.help);
            let mut finding = about(item.document, finding, &[Step::Field(problem.field)]);
            let document = set.freezes.iter().find(|it| std::ptr::eq(&raw const it.located.value, freeze));
            finding.related = document.map(|it| related(it.document, "until", "the freeze is here"));
            findings.push(finding);
        }
    }
}

/// Names whose changes could never be approved, since they have too few owners: found out now, and not on the day.
fn owners(set: &Set<'_, '_>, now: Timestamp, findings: &mut Vec<Finding>) {
    let approvals = set.config.approvals;
    let required = approvals.required as usize;
    let mut short = |document, field, able: usize, so: String| {
        let asked =
            if required == 1 { "1 approval is asked for" } else { &format!("{required} approvals are asked for") };
        let can = match able {
            0 => "no owner named here can sign any more".to_owned(),
            1 => "1 owner named here can sign".to_owned(),
            more => format!("{more} owners named here can sign"),
        };
        let finding = Finding::warning("set/too-few-owners", format!("{asked}, and {can}: {so}"));
        let help = "name more `owners` of the tenant, or of keywheel.yaml for tenants without their own, whose keys are neither \
                    revoked nor past `valid_before`; whoever writes a change does not count";
        findings.push(about(document, finding.help(help), &[Step::Field(field)]));
    };
    let of_all = &set.config.owners;
    let mut with_own: BTreeSet<&Name> = BTreeSet::new();
    for Item { document, located } in &set.tenants {
        let Tenant { tenant_id, owners, .. } = &located.value;
        if owners.is_empty() {
            continue;
        }
        with_own.insert(tenant_id);
        let able = check::able_to_sign(owners, of_all, now);
        if able < required {
            short(document, "owners", able, format!("nothing of {tenant_id} could be approved"));
        }
    }
    let able = check::able_to_sign(of_all, of_all, now);
    let Some(document) = set.config_document.filter(|_| able < required) else { return };
    let tenants: BTreeSet<&Name> = set.keys.iter().map(|item| &item.located.value.tenant_id).collect();
    let without: Vec<&str> = tenants.difference(&with_own).map(|name| name.as_str()).collect();
    let field = if of_all.is_empty() { "approvals" } else { "owners" };
    if !without.is_empty() {
        let shown = without.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let more = match without.len().saturating_sub(3) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        short(document, field, able, format!("nothing of {shown}{more} could be approved"));
    } else if approvals.rotations_over.is_some() && tenants.len() > 1 {
        short(
            document,
            field,
            able,
            "more rotations of all tenants together than `rotations_over` could not be approved".to_owned(),
        );
    }
}

/// Tenants that a freeze, a guardrail or `keywheel.yaml` names must exist: a misspelled one would guard nobody.
fn named_tenants(set: &Set<'_, '_>, findings: &mut Vec<Finding>) {
    let known = || set.folders.iter().map(|folder| folder.as_str());
    let unknown = |finding: fn(&'static str, String) -> Finding, tenant: &Name| {
        let help = suggest(tenant.as_str(), known()).map_or_else(
            || format!("there is no folder `policies/{tenant}/`"),
            |name| format!("did you mean `{name}`?"),
        );
        finding(UNKNOWN_TENANT, format!("there is no tenant `{tenant}`")).help(help)
    };
    let guardrails = set.guardrails.iter().map(|item| (item.document, &item.located.value.tenants));
    let freezes = set.freezes.iter().map(|item| (item.document, &item.located.value.tenants));
    for (document, tenants) in guardrails.chain(freezes) {
        for (index, tenant) in tenants.iter().enumerate().filter(|(_, tenant)| !set.folders.contains(tenant)) {
            findings.push(about(
                document,
                unknown(Finding::error, tenant),
                &[Step::Field("tenants"), Step::Index(index)],
            ));
        }
    }
    let Some(document) = set.config_document else { return };
    let secrets = set.config.secrets.keys().map(|tenant| (tenant, vec![Step::Field("secrets")]));
    let accounts = set.config.providers.aws_kms.tenants.keys();
    let accounts =
        accounts.map(|tenant| (tenant, vec![Step::Field("providers"), Step::Field("aws_kms"), Step::Field("tenants")]));
    for (tenant, mut path) in secrets.chain(accounts).filter(|(tenant, _)| !set.folders.contains(tenant)) {
        path.push(Step::Field(tenant.as_str()));
        findings.push(about(document, unknown(Finding::warning, tenant), &path));
    }
}
