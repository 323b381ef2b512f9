//! The kinds of document, and the names of their fields.

use std::sync::LazyLock;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::config::Config;
use crate::model::{EncryptionKey, Freeze, Guardrail, ObjectKind, RotationPolicy, Tenant, Test};

/// The value of `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `keywheel.yaml`.
    Config,
    /// A rule over policies, keys and plans.
    Guardrail,
    /// A time in which nothing starts.
    Freeze,
    /// A tenant.
    Tenant,
    /// A policy.
    RotationPolicy,
    /// A key.
    EncryptionKey,
    /// Cases for `keywheel test`; nothing of it is ever planned.
    Test,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Config,
        Self::Guardrail,
        Self::Freeze,
        Self::Tenant,
        Self::RotationPolicy,
        Self::EncryptionKey,
        Self::Test,
    ];

    /// The word that stands in a document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "Config",
            Self::Guardrail => "Guardrail",
            Self::Freeze => "Freeze",
            Self::Tenant => "Tenant",
            Self::RotationPolicy => "RotationPolicy",
            Self::EncryptionKey => "EncryptionKey",
            Self::Test => "Test",
        }
    }

    /// The field that holds the document's own name.
    #[must_use]
    pub const fn name_field(self) -> Option<&'static str> {
        match self {
            Self::Config => None,
            Self::Guardrail | Self::Freeze | Self::Test => Some("name"),
            Self::Tenant => Some("tenant_id"),
            Self::RotationPolicy => Some("policy_name"),
            Self::EncryptionKey => Some("key_name"),
        }
    }

    /// What a plan calls it; a config and a test are no objects of a plan.
    #[must_use]
    pub const fn object(self) -> Option<ObjectKind> {
        match self {
            Self::Config | Self::Test => None,
            Self::Guardrail => Some(ObjectKind::Guardrail),
            Self::Freeze => Some(ObjectKind::Freeze),
            Self::Tenant => Some(ObjectKind::Tenant),
            Self::RotationPolicy => Some(ObjectKind::RotationPolicy),
            Self::EncryptionKey => Some(ObjectKind::EncryptionKey),
        }
    }

    /// The names of its fields in the order of the documentation, after `apiVersion` and `kind`.
    #[must_use]
    pub fn fields(self) -> &'static [&'static str] {
        static FIELDS: LazyLock<[&[&str]; 7]> = LazyLock::new(|| {
            [
                fields_of::<Config>(),
                fields_of::<Guardrail>(),
                fields_of::<Freeze>(),
                fields_of::<Tenant>(),
                fields_of::<RotationPolicy>(),
                fields_of::<EncryptionKey>(),
                fields_of::<Test>(),
            ]
        });
        FIELDS.get(self as usize).copied().unwrap_or_default()
    }
}

impl std::str::FromStr for Kind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// The fields of a struct in their order, which serde tells every deserializer and the JSON schema forgets.
pub(super) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // It ends with an error by design: nothing is read.
    let _ = T::deserialize(FieldNames(&mut fields));
    fields
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("names only"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
