//! Names, and how objects are addressed where a person sees them: `TENANT/NAME`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a tenant, a policy or a key: 1 to 128 letters, digits, spaces and `._-`, without a space at either end,
/// so that it fits the tags of every key manager.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`] or an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or more than 128 characters.
    #[error("a name has 1 to 128 characters, this one has {0}")]
    Length(usize),
    /// A character outside letters, digits, space and `._-`.
    #[error("a name has letters, digits, spaces and `._-` only, not {0:?}")]
    Character(char),
    /// A space at the beginning or the end, or a name of dots alone.
    #[error("a name neither begins nor ends with a space, and is more than dots")]
    Edge,
    /// An address without exactly one `/`.
    #[error("{0:?} is not an address: write TENANT/NAME")]
    Address(String),
}

impl Name {
    /// The longest name, in characters: AWS tag values end at 256, of which `TENANT/NAME` takes two names at most.
    pub const MAX: usize = 128;

    /// Checks a text and makes it a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let length = text.chars().count();
        if length == 0 || length > Self::MAX {
            return Err(NameError::Length(length));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-');
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(c));
        }
        if text.starts_with(' ') || text.ends_with(' ') || text.chars().all(|c| c == '.') {
            return Err(NameError::Edge);
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": Self::MAX,
            "pattern": "^[A-Za-z0-9._-]([A-Za-z0-9 ._-]*[A-Za-z0-9._-])?$"
        })
    }
}

/// A policy or key as a person writes it: `TENANT/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The tenant.
    pub tenant_id: Name,
    /// The policy's or key's own name.
    pub name: Name,
}

impl Address {
    /// The address of `name` in `tenant_id`.
    #[must_use]
    pub fn new(tenant_id: Name, name: Name) -> Self {
        Self { tenant_id, name }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant_id, self.name)
    }
}

impl FromStr for Address {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (tenant_id, name) = text.split_once('/').ok_or_else(|| NameError::Address(text.to_owned()))?;
        Ok(Self { tenant_id: tenant_id.parse()?, name: name.parse()? })
    }
}

impl TryFrom<String> for Address {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// The kinds of object that a plan can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ObjectKind {
    /// `keywheel.yaml`.
    Config,
    /// A rule that holds for every tenant or for one.
    Guardrail,
    /// A time in which nothing starts.
    Freeze,
    /// A tenant.
    Tenant,
    /// A policy.
    RotationPolicy,
    /// A key.
    EncryptionKey,
}

impl ObjectKind {
    /// The word in the audit log's actions, such as `key.rotated`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Guardrail => "guardrail",
            Self::Freeze => "freeze",
            Self::Tenant => "tenant",
            Self::RotationPolicy => "policy",
            Self::EncryptionKey => "key",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Config => "Config",
            Self::Guardrail => "Guardrail",
            Self::Freeze => "Freeze",
            Self::Tenant => "Tenant",
            Self::RotationPolicy => "RotationPolicy",
            Self::EncryptionKey => "EncryptionKey",
        })
    }
}

/// One object of a plan, of the history or of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ObjectRef {
    /// What it is.
    pub kind: ObjectKind,
    /// Whose it is; absent for a rule of the whole repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Name>,
    /// Its own name.
    pub name: Name,
}

impl ObjectRef {
    /// `keywheel.yaml`: what holds for everybody.
    #[must_use]
    pub fn config() -> Self {
        Self { kind: ObjectKind::Config, tenant_id: None, name: Name("keywheel.yaml".to_owned()) }
    }

    /// The tenant itself.
    #[must_use]
    pub fn tenant(name: &Name) -> Self {
        Self { kind: ObjectKind::Tenant, tenant_id: Some(name.clone()), name: name.clone() }
    }

    /// The policy at `address`.
    #[must_use]
    pub fn policy(address: &Address) -> Self {
        Self {
            kind: ObjectKind::RotationPolicy,
            tenant_id: Some(address.tenant_id.clone()),
            name: address.name.clone(),
        }
    }

    /// The key at `address`.
    #[must_use]
    pub fn key(address: &Address) -> Self {
        Self { kind: ObjectKind::EncryptionKey, tenant_id: Some(address.tenant_id.clone()), name: address.name.clone() }
    }

    /// `TENANT/NAME`, where it has a tenant.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        Some(Address { tenant_id: self.tenant_id.clone()?, name: self.name.clone() })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tenant_id, self.kind) {
            (Some(_), ObjectKind::Tenant) | (None, _) => write!(f, "{}", self.name),
            (Some(tenant_id), _) => write!(f, "{tenant_id}/{}", self.name),
        }
    }
}
