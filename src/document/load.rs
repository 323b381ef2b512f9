//! The passes in their order: files in parallel, then documents in parallel, then the whole set.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::check;
use super::defaults::{self, Layer};
use super::kind::Kind;
use super::read::{self, Document, ReadFile};
use super::redact;
use super::rules;
use super::set::{self, Item, Set};
use super::subject::{self, Subject};
use super::{Capabilities, Config, Inherited, Keeper, Loaded, Located, Repository, SourceFile};
use crate::diagnostic::{self, Finding, Place};
use crate::model::{
    Address, EncryptionKey, Freeze, Guardrail, KmsProvider, Name, NotificationSettings, RotationPolicy, Tenant,
    Timestamp,
};

/// What a set of documents is read for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// To be planned: tenants with an error are left out.
    Plan,
    /// To be compared: whatever has a type is kept. There are these folders too, of which no file is in the set.
    Compare(&'a BTreeSet<Name>),
}

/// See [`super::load_with_record`].
pub(super) fn load(
    config: Option<&SourceFile>,
    files: &[SourceFile],
    capabilities: fn(KmsProvider) -> Capabilities,
    now: Timestamp,
    keeper: &Keeper<'_>,
    purpose: Purpose<'_>,
) -> Loaded {
    let files: Vec<&SourceFile> = files.iter().collect();
    join(parts(config, &files), capabilities, now, keeper, purpose)
}

/// Reads every file by itself.
pub(super) fn parts<'t>(config: Option<&'t SourceFile>, files: &[&'t SourceFile]) -> Parts<'t> {
    let mut files: Vec<&SourceFile> = files.iter().copied().filter(|file| is_ours(file)).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let folders: Vec<Option<Name>> = files.iter().map(|file| Name::new(folder(file)?).ok()).collect();
    Parts {
        config: config.map(|file| ConfigPart { path: file.path.clone(), read: read::read(file, None) }),
        reads: files.par_iter().zip(&folders).map(|(file, folder)| read_file(file, folder.as_ref())).collect(),
        folders,
    }
}

/// The documents of a repository, each read by itself.
#[derive(Default)]
pub(super) struct Parts<'t> {
    /// `keywheel.yaml`, if there is one.
    pub config: Option<ConfigPart<'t>>,
    pub reads: Vec<ReadFile<'t>>,
    /// The tenant in whose folder each of them stands.
    pub folders: Vec<Option<Name>>,
}

/// `keywheel.yaml`, read.
pub(super) struct ConfigPart<'t> {
    pub path: Arc<str>,
    pub read: ReadFile<'t>,
}

/// What makes one repository of its parts.
pub(super) fn join(
    parts: Parts<'_>,
    capabilities: fn(KmsProvider) -> Capabilities,
    now: Timestamp,
    keeper: &Keeper<'_>,
    purpose: Purpose<'_>,
) -> Loaded {
    let Parts { config, mut reads, folders } = parts;
    let (config, config_file) = config.map(|part| (part.path, part.read)).unzip();
    let config_file = config_file.unwrap_or_default();

    let mut findings = config_file.findings;
    let documents = config_file.count + reads.iter().map(|read| read.count).sum::<usize>();
    for read in &mut reads {
        findings.append(&mut read.findings);
    }
    let config_document = config_file.documents.iter().find(|document| document.kind == Kind::Config);
    if let Some(path) = config.as_ref().filter(|_| config_file.count == 0 && findings.is_empty()) {
        // As if it were cut off: limits that nobody can read are not taken for the usual ones.
        let place = Place::beginning(path.clone());
        let finding = Finding::error("config/empty", "`keywheel.yaml` is empty");
        findings.push(
            finding.help("write `apiVersion: keywheel/v1` and `kind: Config`, or remove the file").at(place, None),
        );
    }
    let second = config_file.documents.iter().filter(|document| document.kind == Kind::Config).nth(1);
    findings.extend(second.map(|second| {
        subject::about(
            second,
            Finding::error("set/duplicate", "`keywheel.yaml` has two `Config` documents").help("keep one of them"),
            &[],
        )
    }));
    findings.extend(config_file.documents.iter().filter_map(|document| set::misplaced(document, true)));
    let read_config = config_document.and_then(|document| read_config(document, &mut findings));
    let config_is_known = config.is_none() || read_config.is_some();
    let config = read_config.unwrap_or_default();

    let all: Vec<&Document<'_>> = reads.iter().flat_map(|read| &read.documents).collect();
    let world =
        World { config: config_is_known.then_some(&config), config_document, tenants: tenants(&all), capabilities };
    let built: Vec<(Built<'_, '_>, Vec<Finding>)> = all.par_iter().map(|document| build(document, &world)).collect();

    let elsewhere = match purpose {
        Purpose::Plan => None,
        Purpose::Compare(folders) => Some(folders),
    };
    let elsewhere = elsewhere.into_iter().flatten();
    let unreadable = reads.iter().zip(&folders).filter(|(read, _)| read.unreadable);
    let mut set = Set {
        config: &config,
        config_document,
        outlines: reads.iter().flat_map(|read| &read.outlines).collect(),
        folders: folders.iter().flatten().chain(elsewhere).collect(),
        unreadable: unreadable.filter_map(|(_, folder)| folder.as_ref()).collect(),
        failing: BTreeSet::new(),
        tenants: Vec::new(),
        policies: Vec::new(),
        keys: Vec::new(),
        guardrails: Vec::new(),
        freezes: Vec::new(),
    };
    for (built, mut found) in built {
        findings.append(&mut found);
        match built {
            Built::Tenant(item) => set.tenants.push(item),
            Built::Policy(item) => set.policies.push(item),
            Built::Key(item) => set.keys.push(item),
            Built::Guardrail(item) => set.guardrails.push(item),
            Built::Freeze(item) => set.freezes.push(item),
            Built::Nothing => {}
        }
    }
    set.failing = failing(&findings).0;
    findings.append(&mut set::check(&set, now, keeper));
    findings.append(&mut rules::check(&set, now));
    let Set { tenants, policies, keys, guardrails, freezes, .. } = set;
    let (tenants, policies, keys) = (plain(tenants), plain(policies), plain(keys));
    let (guardrails, freezes) = (plain(guardrails), plain(freezes));
    // What the documents were read into is the larger part of the memory, and needed no more.
    drop(reads);
    let (failed_tenants, failed) = failing(&findings);
    let sound = |tenant: &Name| matches!(purpose, Purpose::Compare(_)) || !failed_tenants.contains(tenant);
    let tenants = tenants.into_iter().filter(|tenant| sound(&tenant.value.tenant_id));
    let policies = policies.into_iter().filter(|policy| sound(&policy.value.tenant_id));
    let keys = keys.into_iter().filter(|key| sound(&key.value.tenant_id));
    let repository = Repository {
        tenants: tenants.map(|it| (it.value.tenant_id.clone(), *it)).collect(),
        policies: policies.map(|it| (policy_address(&it.value), *it)).collect(),
        keys: keys.map(|it| (key_address(&it.value), *it)).collect(),
        guardrails: guardrails.into_iter().map(|it| (it.value.name.clone(), *it)).collect(),
        freezes: freezes.into_iter().map(|it| (it.value.name.clone(), *it)).collect(),
        failed_tenants,
        failed,
        documents,
        config: config.clone(),
        config_fields: config_document.map(subject::setting_places).unwrap_or_default(),
    };
    findings.iter_mut().for_each(redact::finding);
    diagnostic::sort(&mut findings);
    Loaded { repository, findings }
}

/// See [`super::config`].
pub(super) fn config(file: Option<&SourceFile>) -> Option<Config> {
    let Some(file) = file else { return Some(Config::default()) };
    let read = read::read(file, None);
    let document = read.documents.iter().find(|document| document.kind == Kind::Config)?;
    read_config(document, &mut Vec::new())
}

/// Tenants with an error, and whether an error concerns everybody.
fn failing(findings: &[Finding]) -> (BTreeSet<Name>, bool) {
    let errors = || findings.iter().filter(|finding| finding.is_error());
    let tenants = errors().filter_map(|finding| finding.tenant_id.clone()).collect();
    (tenants, errors().any(|finding| finding.tenant_id.is_none()))
}

/// The documents in their types alone.
fn plain<T>(items: Vec<Item<'_, '_, T>>) -> Vec<Box<Located<T>>> {
    items.into_iter().map(|item| item.located).collect()
}

fn policy_address(policy: &RotationPolicy) -> Address {
    Address::new(policy.tenant_id.clone(), policy.policy_name.clone())
}

fn key_address(key: &EncryptionKey) -> Address {
    Address::new(key.tenant_id.clone(), key.key_name.clone())
}

/// Is it a YAML file under `policies/`, or a link that could stand for one? Hidden files are nobody's.
fn is_ours(file: &SourceFile) -> bool {
    file.path.strip_prefix("policies/").is_some_and(|path| {
        let is_yaml = path
            .rsplit_once('.')
            .is_some_and(|(_, extension)| ["yaml", "yml"].iter().any(|known| extension.eq_ignore_ascii_case(known)));
        (is_yaml || file.symlink) && !path.split('/').any(|part| part.starts_with('.'))
    })
}

/// The folder under `policies/` that a file stands in.
fn folder(file: &SourceFile) -> Option<&str> {
    file.path.strip_prefix("policies/")?.split_once('/').map(|(folder, _)| folder)
}

fn read_file<'t>(file: &'t SourceFile, tenant: Option<&Name>) -> ReadFile<'t> {
    let error = folder(file).and_then(|folder| Name::new(folder).err());
    let Some(error) = error else { return read::read(file, tenant) };
    let place = Place::beginning(file.path.clone());
    let finding = Finding::error("set/tenant-folder", format!("the folder of this file cannot be a tenant: {error}"))
        .help("rename the folder")
        .at(place, None);
    ReadFile { findings: vec![finding], ..ReadFile::default() }
}

fn read_config(document: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Config> {
    let inherited = BTreeMap::new();
    let mut subject = Subject::new(document, &inherited, &[]);
    let config = typed::<Config>(&mut subject, &document.fields).map(|located| located.value);
    if let Some(config) = &config {
        check::config(&mut subject, config);
        check::secrets(&mut subject, Some(config), None);
    }
    findings.append(&mut subject.findings);
    config
}

/// What every document is judged by.
struct World<'a, 't> {
    /// None where it cannot be read.
    config: Option<&'a Config>,
    config_document: Option<&'a Document<'t>>,
    tenants: BTreeMap<&'a Name, &'a Document<'t>>,
    capabilities: fn(KmsProvider) -> Capabilities,
}

fn tenants<'a, 't>(all: &[&'a Document<'t>]) -> BTreeMap<&'a Name, &'a Document<'t>> {
    let tenants = all.iter().filter(|document| document.kind == Kind::Tenant);
    tenants.filter_map(|document| Some((document.folder.as_ref()?, *document))).collect()
}

/// One document in its type.
enum Built<'a, 't> {
    Tenant(Item<'a, 't, Tenant>),
    Policy(Item<'a, 't, RotationPolicy>),
    Key(Item<'a, 't, EncryptionKey>),
    Guardrail(Item<'a, 't, Guardrail>),
    Freeze(Item<'a, 't, Freeze>),
    /// It has no type that it could be given.
    Nothing,
}

/// The second pass over one document.
fn build<'a, 't>(document: &'a Document<'t>, world: &World<'a, 't>) -> (Built<'a, 't>, Vec<Finding>) {
    if let Some(finding) = set::misplaced(document, false) {
        return (Built::Nothing, vec![finding]);
    }
    let mut fields = Cow::Borrowed(&document.fields);
    let mut layers = Vec::new();
    let mut inherited = BTreeMap::new();
    if document.kind == Kind::RotationPolicy {
        let tenant = document.folder.as_ref().and_then(|folder| world.tenants.get(folder));
        layers.extend(tenant.map(|document| Layer { document, origin: Inherited::Tenant }));
        layers.extend(world.config_document.map(|document| Layer { document, origin: Inherited::Config }));
        inherited = defaults::merge(fields.to_mut(), &layers);
    }
    if document.kind != Kind::Config && redact::has_secrets(&fields) {
        // It is warned of, and goes no further: neither into a plan nor into the state database nor to a key manager.
        redact::values(fields.to_mut());
    }
    let mut subject = Subject::new(document, &inherited, &layers);
    let built = match document.kind {
        Kind::Config | Kind::Test => None,
        Kind::Tenant => typed(&mut subject, &fields).map(|located| {
            check::tenant(&mut subject, &located.value);
            Built::Tenant(Item { document, located: Box::new(located) })
        }),
        Kind::RotationPolicy => typed(&mut subject, &fields).map(|located| {
            check::policy(&mut subject, &located.value, world.capabilities);
            Built::Policy(Item { document, located: Box::new(located) })
        }),
        Kind::EncryptionKey => typed(&mut subject, &fields).map(|located| {
            check::key(&mut subject, &located.value, world.capabilities);
            Built::Key(Item { document, located: Box::new(located) })
        }),
        Kind::Guardrail => {
            typed(&mut subject, &fields).map(|located| Built::Guardrail(Item { document, located: Box::new(located) }))
        }
        Kind::Freeze => typed(&mut subject, &fields).map(|located| {
            check::freeze(&mut subject, &located.value);
            Built::Freeze(Item { document, located: Box::new(located) })
        }),
    };
    let shared_settings = match &built {
        Some(Built::Policy(item)) => inherited_settings(item, &inherited),
        _ => None,
    };
    check::secrets(&mut subject, world.config, shared_settings);
    (built.unwrap_or(Built::Nothing), subject.findings)
}

/// The notification settings that a policy takes from `keywheel.yaml`. Those of its tenant are checked there.
fn inherited_settings<'l>(
    item: &'l Item<'_, '_, RotationPolicy>,
    inherited: &BTreeMap<String, Inherited>,
) -> Option<&'l NotificationSettings> {
    let from_config = inherited.get("notification_settings") == Some(&Inherited::Config);
    item.located.value.notification_settings.as_ref().filter(|_| from_config)
}

/// The document in its type. The schema has accepted it, so an error here is a value that no schema can judge.
fn typed<T: DeserializeOwned>(subject: &mut Subject<'_, '_>, fields: &Map<String, Value>) -> Option<Located<T>> {
    match T::deserialize(fields) {
        Ok(value) => Some(Located {
            value,
            place: subject.document.place(),
            fields: subject::places(subject.document),
            inherited: subject.inherited.clone(),
        }),
        Err(error) => {
            let message = redact::patterns(&error.to_string()).into_owned();
            subject.add(Finding::error("schema/value", message).help("correct the value"), &[]);
            None
        }
    }
}
