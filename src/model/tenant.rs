//! Tenants as people write them, and who may change what is theirs.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Name;

/// Who may change a tenant's documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The person's or machine's principal, as in git's allowed signers.
    #[schemars(length(min = 1, max = 256), example = &"alice@example.org")]
    pub principal: String,
    /// The public key that signs for the principal: an SSH key as it stands in its `.pub` file, or an OpenPGP key as a block of
    /// text (`signing_key: |`), as `gpg --armor --export KEY` prints it. When an OpenPGP key was revoked, or given another
    /// date, print and name it anew.
    #[schemars(length(min = 1, max = 65536), example = &"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrJq/X/POHmPtnu7iS3efJ78yiBj+frByWhj9n+R2D1")]
    pub signing_key: String,
    /// Nothing that this key signed counts, whenever it was signed: it was lost, or somebody else has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// The first day on which the key counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    pub valid_after: Option<NaiveDate>,
    /// The last day on which the key counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    pub valid_before: Option<NaiveDate>,
}

/// A tenant: its owners, and the defaults of its documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The tenant: the name of the folder that holds the document.
    pub tenant_id: Name,
    /// Who the tenant is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who may change the tenant's documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
    /// Policy fields that the tenant's policies take where they say nothing themselves.
    #[serde(
        default,
        skip_serializing_if = "serde_json::Map::is_empty",
        serialize_with = "super::secret::serialize_redacted"
    )]
    #[schemars(with = "super::policy::PolicyDefaults")]
    pub defaults: serde_json::Map<String, Value>,
}
