//! From the text of a policy repository to typed documents, with a place for every mistake.
//!
//! [`load`] makes three passes and gives all findings of each: YAML and JSON schema; each document's own sense; the
//! whole set. A tenant with an error is left out of [`Repository`]'s maps and named in [`Repository::failed_tenants`].
//! [`schema`] is the JSON schema for editors, generated from the same types that documents are read into, [`format`] is
//! their canonical layout, and [`codes`] says what each finding's code means.
//!
//! The way of a text: `tree` reads YAML and refuses what is hostile in it, `validate` holds it against the schema, `read`
//! does both for a file; `defaults` merges, `check` looks at one document, `set` at all of them; `load` is the order of
//! that. Nothing of a file's text leaves this module but through `text`, where `redact` hides what could be a secret.
//!
//! What readers of YAML 1.1 and 1.2 understand differently (`no`, `02:00:00`, `010`, dates) is refused without quotes. To
//! take the meaning of YAML 1.2 in silence was rejected: editors and other tools would show the author another one.
//!
//! Must not know: git, the file system, the environment, any key manager (it is told their capabilities).

mod cases;
mod check;
mod codes;
mod config;
mod defaults;
mod format;
mod kind;
mod load;
pub mod packs;
mod reach;
mod read;
mod redact;
mod rules;
mod scalar;
mod schema;
mod set;
mod subject;
mod text;
mod tree;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use cases::{GivenTest, TestFile, TestSource, test_file};
pub use check::able_to_sign;
pub use codes::codes;
pub use config::{
    Approvals, AwsKmsAccount, AwsKmsConfig, Config, LONGEST_CALL, Limits, LocalConfig, Providers, parse_duration,
};
pub use format::format;
pub use kind::Kind;
use load::Purpose;
pub use reach::{Needles, Reach, concerning, reach, reach_of_findings};
pub use redact::patterns as without_secrets;
pub(crate) use rules::{Broken, broken_by};
pub use schema::schema;
pub use text::{CUT, CUT_CONTEXT, is_cut, underline};
pub(crate) use validate::suggest;

use crate::diagnostic::{Finding, Place};
use crate::model::{
    Address, EncryptionKey, Freeze, Guardrail, KmsProvider, Name, RotationPolicy, RotationStrategy, Tenant, Timestamp,
};

/// The findings of one file after which the rest of it is not looked at, so that hostile text cannot fill the memory
/// with them.
const MAX_FINDINGS: usize = 1000;

/// The file with the settings of a repository.
pub const CONFIG: &str = "keywheel.yaml";

/// One file of the repository at one commit.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path in the repository, with `/`.
    pub path: Arc<str>,
    /// Its bytes.
    pub content: Arc<[u8]>,
    /// Is it a symbolic link (its content is then the target)?
    pub symlink: bool,
}

/// What a provider can do; each provider declares it in its own file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Does this build of keywheel work with it at all?
    pub available: bool,
    /// The strategies that it can carry out, the default first.
    pub strategies: &'static [RotationStrategy],
    /// Can the previous version become primary again?
    pub rollback: bool,
    /// Must a key have an alias to rotate?
    pub needs_alias: bool,
    /// Has it regions?
    pub regions: bool,
    /// Can an old version be disabled?
    pub disable: bool,
    /// Can an old version be destroyed?
    pub destroy: bool,
    /// Can it say when a version was last used?
    pub last_use: bool,
    /// Does it destroy a version by itself once the waiting period has ended?
    pub destroys_by_itself: bool,
    /// How many days it waits from the scheduling of a destruction on, before it destroys.
    pub waiting_days: u32,
}

impl Capabilities {
    /// Those of a provider that this build does not work with.
    pub const NONE: Self = Self {
        available: false,
        strategies: &[],
        rollback: false,
        needs_alias: false,
        regions: false,
        disable: false,
        destroy: false,
        last_use: false,
        destroys_by_itself: false,
        waiting_days: 0,
    };
}

/// A document, where it stands, and where its effective values come from.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The document, every default resolved.
    pub value: T,
    /// The place of the whole document (its first line).
    pub place: Place,
    /// The places of its top-level fields.
    pub fields: Places,
    /// Effective fields that the document itself does not set, and who set them.
    pub inherited: BTreeMap<String, Inherited>,
}

/// The places of a document's top-level fields.
#[derive(Debug, Clone, Default)]
pub struct Places(Box<[(Box<str>, Place)]>);

impl Places {
    /// Where a field stands, if the document has it.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Place> {
        self.0.iter().find(|(name, _)| **name == *field).map(|(_, place)| place)
    }
}

impl FromIterator<(Box<str>, Place)> for Places {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Place)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

/// Who set a field that the document does not set itself. A field in neither map has the built-in default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherited {
    /// `defaults` of `keywheel.yaml`.
    Config,
    /// `defaults` of the tenant.
    Tenant,
}

/// The documents of a repository at one commit: what git desires.
#[derive(Debug, Clone, Default)]
pub struct Repository {
    /// `keywheel.yaml`.
    pub config: Config,
    /// Where its fields stand, those of `limits` and the like as `limits.max_rotations`.
    pub config_fields: Places,
    /// Tenants by name.
    pub tenants: BTreeMap<Name, Located<Tenant>>,
    /// Policies by address.
    pub policies: BTreeMap<Address, Located<RotationPolicy>>,
    /// Keys by address.
    pub keys: BTreeMap<Address, Located<EncryptionKey>>,
    /// Guardrails by name.
    pub guardrails: BTreeMap<Name, Located<Guardrail>>,
    /// Freezes by name.
    pub freezes: BTreeMap<Name, Located<Freeze>>,
    /// Tenants with an error: nothing of theirs may be planned.
    pub failed_tenants: BTreeSet<Name>,
    /// An error that concerns the whole repository (`keywheel.yaml`, a guardrail): nothing may be planned at all.
    pub failed: bool,
    /// How many documents there are.
    pub documents: usize,
}

impl Repository {
    /// Where somebody would change a setting of `keywheel.yaml`, such as `limits.max_rotations`: its own line, or that of
    /// the part that lacks it, or else the beginning of the file.
    #[must_use]
    pub fn setting(&self, field: &str) -> Place {
        let part = field.split('.').next().and_then(|part| self.config_fields.get(part));
        let place = self.config_fields.get(field).or(part).cloned();
        place.unwrap_or_else(|| Place::beginning(Arc::from(CONFIG)))
    }
}

/// A repository, and everything that was found in it.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The documents.
    pub repository: Repository,
    /// The findings, sorted by place.
    pub findings: Vec<Finding>,
}

/// Reads `keywheel.yaml` (if there is one) and every document under `policies/`.
///
/// Never fails: what cannot be read is a finding. `now` decides only which freezes are over, and no longer warned of.
#[must_use]
pub fn load(
    config: Option<&SourceFile>,
    files: &[SourceFile],
    capabilities: fn(KmsProvider) -> Capabilities,
    now: Timestamp,
) -> Loaded {
    load::load(config, files, capabilities, now, &|_, _| None, Purpose::Plan)
}

/// [`load`] with a record to ask. Who has a contested alias in the record keeps it, and the others' tenants fail;
/// without an answer all of them do, so that nobody can take an alias from another by a document alone.
#[must_use]
pub fn load_with_record(
    config: Option<&SourceFile>,
    files: &[SourceFile],
    capabilities: fn(KmsProvider) -> Capabilities,
    now: Timestamp,
    keeper: &Keeper<'_>,
) -> Loaded {
    load::load(config, files, capabilities, now, keeper, Purpose::Plan)
}

/// [`load`] for a comparison: the documents of tenants with errors are in [`Repository`]'s maps too, as far as each of
/// them could be read. `files` may be a part of the repository; `folders` are the tenants that it has beside them.
#[must_use]
pub fn load_to_compare(
    config: Option<&SourceFile>,
    files: &[SourceFile],
    folders: &BTreeSet<Name>,
    capabilities: fn(KmsProvider) -> Capabilities,
    now: Timestamp,
) -> Loaded {
    load::load(config, files, capabilities, now, &|_, _| None, Purpose::Compare(folders))
}

/// Of the keys that claim one alias or one provider key (the first argument), which has it in the record, if one has.
pub type Keeper<'k> = dyn Fn(&str, &[&EncryptionKey]) -> Option<usize> + 'k;

/// `keywheel.yaml` alone, for what must be known before the documents are read; none where it cannot be read.
#[must_use]
pub fn config(file: Option<&SourceFile>) -> Option<Config> {
    load::config(file)
}
