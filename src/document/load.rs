//! The passes in their order: files in parallel, then documents in parallel, then the whole set.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::defaults::{self, Layer};
use super::kind::Kind;
use super::read::{self, Document, ReadFile};
use super::subject::{self, Subject};
use super::{Capabilities, Config, Inherited, Loaded, Located, Repository, SourceFile};
use crate::diagnostic::{self, Finding, Place};
use crate::model::{EncryptionKey, Freeze, Guardrail, KmsProvider, Name, RotationPolicy, Tenant};

/// See [`super::load`].
pub(super) fn load(
    config: Option<&SourceFile>,
    files: &[SourceFile],
    capabilities: fn(KmsProvider) -> Capabilities,
) -> Loaded {
    let mut findings = Vec::new();
    let config_file = config.map(|file| read::read(file, None)).unwrap_or_default();
    let mut reads: Vec<ReadFile<'_>> = files.par_iter().filter_map(read_policy_file).collect();

    let mut documents = config_file.count;
    findings.extend(config_file.findings);
    for read in &mut reads {
        documents += read.count;
        findings.append(&mut read.findings);
    }
    let config_document = config_file.documents.iter().find(|document| document.kind == Kind::Config);
    let config: Config = config_document
        .and_then(|document| serde_json::from_value(Value::Object(document.fields.clone())).ok())
        .unwrap_or_default();

    let all: Vec<&Document<'_>> = reads.iter().flat_map(|read| &read.documents).collect();
    let world = World { config: &config, config_document, tenants: tenants(&all), capabilities };
    let built: Vec<(Built, Vec<Finding>)> = all.par_iter().map(|document| build(document, &world)).collect();

    let mut set = Set::default();
    for (built, found) in built {
        findings.extend(found);
        match built {
            Built::Tenant(it) => set.tenants.push(it),
            Built::Policy(it) => set.policies.push(it),
            Built::Key(it) => set.keys.push(it),
            Built::Guardrail(it) => set.guardrails.push(it),
            Built::Freeze(it) => set.freezes.push(it),
            Built::Nothing => {}
        }
    }
    finish(config.clone(), set, documents, findings)
}

/// What every document is judged by.
struct World<'a, 't> {
    config: &'a Config,
    config_document: Option<&'a Document<'t>>,
    tenants: BTreeMap<&'a Name, &'a Document<'t>>,
    capabilities: fn(KmsProvider) -> Capabilities,
}

/// One document in its type.
enum Built {
    Tenant(Located<Tenant>),
    Policy(Located<RotationPolicy>),
    Key(Located<EncryptionKey>),
    Guardrail(Located<Guardrail>),
    Freeze(Located<Freeze>),
    /// It has errors.
    Nothing,
}

/// Every document in its type.
#[derive(Default)]
struct Set {
    tenants: Vec<Located<Tenant>>,
    policies: Vec<Located<RotationPolicy>>,
    keys: Vec<Located<EncryptionKey>>,
    guardrails: Vec<Located<Guardrail>>,
    freezes: Vec<Located<Freeze>>,
}

/// Reads a file under `policies/`; none where it is nothing of ours.
fn read_policy_file(file: &SourceFile) -> Option<ReadFile<'_>> {
    let path = file.path.strip_prefix("policies/")?;
    if path.split('/').any(|part| part.starts_with('.')) {
        return None;
    }
    let is_yaml = path.ends_with(".yaml") || path.ends_with(".yml");
    if !is_yaml && !file.symlink {
        return None;
    }
    let Some((folder, _)) = path.split_once('/') else { return Some(read::read(file, None)) };
    match Name::new(folder) {
        Ok(folder) => Some(read::read(file, Some(&folder))),
        Err(error) => {
            let place = Place { file: file.path.clone(), line: 1, column: 1, length: 1 };
            let finding =
                Finding::error("set/tenant-folder", format!("the folder `{folder}` cannot be a tenant: {error}"))
                    .help("rename the folder")
                    .at(place, None);
            Some(ReadFile { findings: vec![finding], ..ReadFile::default() })
        }
    }
}

fn tenants<'a, 't>(all: &[&'a Document<'t>]) -> BTreeMap<&'a Name, &'a Document<'t>> {
    let tenants = all.iter().filter(|document| document.kind == Kind::Tenant);
    tenants.filter_map(|document| Some((document.folder.as_ref()?, *document))).collect()
}

/// The second pass over one document.
fn build(document: &Document<'_>, world: &World<'_, '_>) -> (Built, Vec<Finding>) {
    let mut fields = document.fields.clone();
    let mut layers = Vec::new();
    let mut inherited = BTreeMap::new();
    if document.kind == Kind::RotationPolicy {
        let tenant = document.folder.as_ref().and_then(|folder| world.tenants.get(folder));
        layers.extend(tenant.map(|document| Layer { document, origin: Inherited::Tenant }));
        layers.extend(world.config_document.map(|document| Layer { document, origin: Inherited::Config }));
        inherited = defaults::merge(&mut fields, &layers);
    }
    let mut subject = Subject::new(document, &inherited, &layers);
    let _ = (world.config, world.capabilities);
    let fields = Value::Object(fields);
    let built = match document.kind {
        Kind::Config => None,
        Kind::Tenant => typed(&mut subject, fields).map(Built::Tenant),
        Kind::RotationPolicy => typed(&mut subject, fields).map(Built::Policy),
        Kind::EncryptionKey => typed(&mut subject, fields).map(Built::Key),
        Kind::Guardrail => typed(&mut subject, fields).map(Built::Guardrail),
        Kind::Freeze => typed(&mut subject, fields).map(Built::Freeze),
    };
    (built.unwrap_or(Built::Nothing), subject.findings)
}

/// The document in its type. The schema has accepted it, so that an error here is a value which the schema cannot judge.
fn typed<T: DeserializeOwned>(subject: &mut Subject<'_, '_>, fields: Value) -> Option<Located<T>> {
    match serde_json::from_value(fields) {
        Ok(value) => Some(Located {
            value,
            place: subject.document.place(),
            fields: subject::places(subject.document),
            inherited: subject.inherited.clone(),
        }),
        Err(error) => {
            let message = super::redact::patterns(&error.to_string()).into_owned();
            subject.add(Finding::error("schema/value", message).help("correct the value"), &[]);
            None
        }
    }
}

fn finish(config: Config, set: Set, documents: usize, mut findings: Vec<Finding>) -> Loaded {
    let mut repository = Repository { config, documents, ..Repository::default() };
    for finding in findings.iter().filter(|finding| finding.is_error()) {
        match &finding.tenant_id {
            Some(tenant) => {
                repository.failed_tenants.insert(tenant.clone());
            }
            None => repository.failed = true,
        }
    }
    let failed = repository.failed_tenants.clone();
    let sound = |tenant: &Name| !failed.contains(tenant);
    repository.tenants = set
        .tenants
        .into_iter()
        .filter(|it| sound(&it.value.tenant_id))
        .map(|it| (it.value.tenant_id.clone(), it))
        .collect();
    repository.policies = set
        .policies
        .into_iter()
        .filter(|it| sound(&it.value.tenant_id))
        .map(|it| (address(&it.value.tenant_id, &it.value.policy_name), it))
        .collect();
    repository.keys = set
        .keys
        .into_iter()
        .filter(|it| sound(&it.value.tenant_id))
        .map(|it| (address(&it.value.tenant_id, &it.value.key_name), it))
        .collect();
    repository.guardrails = set.guardrails.into_iter().map(|it| (it.value.name.clone(), it)).collect();
    repository.freezes = set.freezes.into_iter().map(|it| (it.value.name.clone(), it)).collect();
    diagnostic::sort(&mut findings);
    Loaded { repository, findings }
}

fn address(tenant_id: &Name, name: &Name) -> crate::model::Address {
    crate::model::Address::new(tenant_id.clone(), name.clone())
}
