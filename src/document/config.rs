//! `keywheel.yaml`: where state lives, providers, limits, defaults. A file with `apiVersion` and `kind` alone is
//! complete.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Name, Owner};

/// The settings of a repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the state database is: `sqlite:PATH` (relative to the repository), a `postgres://` URL without a password,
    /// or `${NAME}` of an environment variable that holds either.
    #[schemars(example = &"sqlite:.keywheel/state.db", example = &"${KEYWHEEL_STATE}")]
    pub state: String,
    /// The only ref whose commits may be applied; absent means any.
    #[schemars(example = &"refs/heads/main")]
    pub apply_from: Option<String>,
    /// How much one apply may do.
    pub limits: Limits,
    /// What owners approve before it is applied.
    pub approvals: Approvals,
    /// The key managers.
    pub providers: Providers,
    /// Policy fields that every policy takes where neither it nor its tenant says anything.
    #[serde(serialize_with = "crate::model::serialize_redacted")]
    #[schemars(with = "crate::model::PolicyDefaults")]
    pub defaults: serde_json::Map<String, Value>,
    /// The environment variables that a tenant's documents may name as `${NAME}`.
    #[schemars(example = BTreeMap::from([("healthcare-org-123", ["SLACK_WEBHOOK_URL"])]))]
    pub secrets: BTreeMap<Name, Vec<String>>,
    /// Must every change of a tenant's documents be signed by one of its owners?
    pub require_signed: bool,
    /// Who may change this file, what holds for every tenant, and the documents of a tenant without owners.
    pub owners: Vec<Owner>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state: "sqlite:.keywheel/state.db".to_owned(),
            apply_from: None,
            limits: Limits::default(),
            approvals: Approvals::default(),
            providers: Providers::default(),
            defaults: serde_json::Map::new(),
            secrets: BTreeMap::new(),
            require_signed: false,
            owners: Vec::new(),
        }
    }
}

/// How much one apply may do, over all tenants and in each. What goes beyond is refused with status 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Rotations that one apply may begin.
    pub max_rotations: u32,
    /// Policies and keys that one apply may remove.
    pub max_removals: u32,
    /// Versions that one apply may disable or destroy.
    pub max_destructions: u32,
    /// The share of the recorded policies or keys, in percent, that may be removed or destroyed; it counts from 10 of them up.
    #[schemars(range(min = 0, max = 100))]
    pub max_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_rotations: 200, max_removals: 10, max_destructions: 10, max_percent: 30 }
    }
}

/// What owners approve before it is applied, each by a signature over the plan (`keywheel approve`): whatever takes away that
/// something decrypts, and rotations beyond a number. The authors of the change do not count among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Approvals {
    /// How many owners approve; with 0, nothing needs approval.
    #[schemars(range(min = 0, max = 100))]
    pub required: u32,
    /// More rotations than this in one apply need approval too, of one tenant or of all; absent means that none do.
    #[schemars(range(min = 1))]
    pub rotations_over: Option<u32>,
}

/// The key managers' settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Providers {
    /// AWS Key Management Service.
    pub aws_kms: AwsKmsConfig,
    /// The sealed file.
    pub local: LocalConfig,
}

/// AWS KMS: the account that every tenant uses, and those of single tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AwsKmsConfig {
    /// The region of keys that name none; by default the standard AWS environment's.
    #[schemars(example = &"us-east-1")]
    pub region: Option<String>,
    /// Another endpoint than AWS's own.
    pub endpoint_url: Option<String>,
    /// The profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
    /// How long an unknown creation is looked for before it is repeated, as `5m`, `30s` or `0s`.
    #[schemars(pattern(r"^[0-9]+(ms|s|m|h)$"))]
    pub consistency_delay: String,
    /// How long one call may take, with its retries: 60 seconds at the most, so that it ends while the lock that it was
    /// begun under still counts.
    #[schemars(pattern(r"^[0-9]+(ms|s|m|h)$"))]
    pub operation_timeout: String,
    /// How long a connection may take to open.
    #[schemars(pattern(r"^[0-9]+(ms|s|m|h)$"))]
    pub connect_timeout: String,
    /// Calls under way at once, for each account and region.
    #[schemars(range(min = 1, max = 256))]
    pub max_concurrent: u32,
    /// Accounts of single tenants; a field that is absent here is taken from above.
    pub tenants: BTreeMap<Name, AwsKmsAccount>,
}

impl Default for AwsKmsConfig {
    fn default() -> Self {
        Self {
            region: None,
            endpoint_url: None,
            profile: None,
            role_arn: None,
            consistency_delay: "5m".to_owned(),
            operation_timeout: "60s".to_owned(),
            connect_timeout: "5s".to_owned(),
            max_concurrent: 8,
            tenants: BTreeMap::new(),
        }
    }
}

/// One tenant's account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AwsKmsAccount {
    /// The region of keys that name none.
    pub region: Option<String>,
    /// Another endpoint than AWS's own.
    pub endpoint_url: Option<String>,
    /// The profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
}

/// The sealed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Where the sealed keys are, relative to the repository.
    pub keystore: String,
    /// A file with the root key, relative to the repository. The environment variable `KEYWHEEL_ROOT_KEY` comes first;
    /// with neither, a root key is made beside the keystore on first use, for trying it out.
    pub root_key_file: Option<String>,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self { keystore: ".keywheel/keystore".to_owned(), root_key_file: None }
    }
}

/// The longest that a call to a key manager may take. A call begins while at least this much is left of the lease.
pub const LONGEST_CALL: Duration = Duration::from_mins(1);

/// Reads a duration as the documents write it: `5m`, `30s`, `500ms`, `2h`. None where it has another form or would be
/// longer than a year.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    const LONGEST: u64 = 366 * 24 * 3600 * 1000;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match text.get(digits.len()..)? {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(milliseconds).filter(|total| *total <= LONGEST).map(Duration::from_millis)
}
