//! Policies and keys as people write them, with every default resolved by serde.
//!
//! One struct serves the document, its JSON schema, the recorded row and the plan's diff. The settings of
//! `keywheel.yaml` and of the tenant are merged in *before* a document becomes one of these, so a value here is always
//! the effective one.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{NaiveDate, NaiveTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Name, Secret};

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that documents, database and output share.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is none of {}", [$($text),+].join(", "))),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The key manager that holds a key.
    KmsProvider {
        /// AES-256-GCM key versions in a sealed file.
        Local = "local",
        /// AWS Key Management Service.
        AwsKms = "aws_kms",
        /// HashiCorp Vault's or OpenBao's Transit engine.
        VaultTransit = "vault_transit",
        /// A hardware security module behind PKCS#11.
        Pkcs11 = "pkcs11",
        /// Google Cloud KMS.
        GcpKms = "gcp_kms",
        /// Azure Key Vault.
        AzureKeyVault = "azure_key_vault",
    }
}
words! {
    /// What makes a key due.
    RotationTrigger {
        /// An interval or a cron schedule (and any usage limit or event that is set, whichever comes first).
        TimeBased = "time_based",
        /// `max_usage_count` alone.
        UsageBased = "usage_based",
        /// `rotation_events` alone.
        EventBased = "event_based",
        /// A person's `rotate` alone.
        Manual = "manual",
    }
}
words! {
    /// Whether a policy starts anything.
    PolicyStatus {
        /// It does.
        Active = "active",
        /// It starts no rotation, disabling or destruction; what has begun is finished.
        Suspended = "suspended",
    }
}
words! {
    /// How a new version is made.
    RotationStrategy {
        /// A successor key behind the same stable name.
        NewKey = "new_key",
        /// A new version inside the same key.
        NewVersion = "new_version",
        /// The provider rotates by itself; keywheel sets it up and watches.
        Managed = "managed",
    }
}
words! {
    /// What happens to an old version once its retention has passed.
    Disposition {
        /// It stays readable.
        Keep = "keep",
        /// It is disabled, and can be enabled again.
        Disable = "disable",
        /// It is disabled and, after `destroy_after_disabled_days`, destroyed.
        Destroy = "destroy",
    }
}
words! {
    /// The weight of a finding.
    Severity {
        /// It stops the work.
        Error = "error",
        /// It is shown.
        Warning = "warning",
        /// It is worth knowing.
        Info = "info",
    }
}
words! {
    /// A day of the week.
    Weekday {
        /// Monday.
        Mon = "mon",
        /// Tuesday.
        Tue = "tue",
        /// Wednesday.
        Wed = "wed",
        /// Thursday.
        Thu = "thu",
        /// Friday.
        Fri = "fri",
        /// Saturday.
        Sat = "sat",
        /// Sunday.
        Sun = "sun",
    }
}

/// A time of day, written `HH:MM:SS` (or `HH:MM`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(pub NaiveTime);

impl TryFrom<String> for TimeOfDay {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        NaiveTime::parse_from_str(&text, "%H:%M:%S")
            .or_else(|_| NaiveTime::parse_from_str(&text, "%H:%M"))
            .ok()
            .filter(|time| chrono::Timelike::nanosecond(time) == 0)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a time of day: write HH:MM:SS, from 00:00:00 to 23:59:59"))
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%H:%M:%S"))
    }
}

impl JsonSchema for TimeOfDay {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeOfDay".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$",
            "examples": ["02:00:00"]
        })
    }
}

/// When and how the keys that name it rotate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationPolicy {
    /// The tenant that owns the policy: the name of the folder that holds the document.
    pub tenant_id: Name,
    /// The policy's name, unique within its tenant.
    #[schemars(example = &"Daily PHI Key Rotation")]
    pub policy_name: Name,
    /// What the policy is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The class of data that the keys protect: `phi_data`, `pii_data`, `financial_data`, `system_data`, or your own.
    #[schemars(length(min = 1, max = 50), example = &"phi_data")]
    pub key_type: String,
    /// The key manager that holds the keys.
    #[serde(default = "RotationPolicy::default_provider")]
    pub kms_provider: KmsProvider,
    /// `active`, or `suspended`: start nothing, finish what has begun.
    #[serde(default = "RotationPolicy::default_status")]
    pub status: PolicyStatus,
    /// What makes a key due.
    #[serde(default = "RotationPolicy::default_trigger")]
    pub rotation_trigger: RotationTrigger,
    /// Days between two rotations, counted on the calendar of `timezone`. Exclusive with `rotation_schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500), example = 90)]
    pub rotation_interval_days: Option<u32>,
    /// A cron expression of five fields, with `L`, `#` and `W`. Exclusive with `rotation_interval_days`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128), example = &"0 2 * * MON#1")]
    pub rotation_schedule: Option<String>,
    /// The time of day, in `timezone`, at which a rotation by interval is due.
    #[serde(default = "RotationPolicy::default_time_of_day")]
    pub rotation_time_of_day: TimeOfDay,
    /// The IANA time zone of every local time in the policy.
    #[serde(default = "RotationPolicy::default_timezone")]
    #[schemars(length(min = 1, max = 50), example = &"Europe/Berlin")]
    pub timezone: String,
    /// Rotate once the primary version has been used this often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_usage_count: Option<u64>,
    /// Warn once the primary version has been used this often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub usage_threshold_warning: Option<u64>,
    /// Events that make a key due.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotation_events: Vec<RotationEvent>,
    /// How a new version is made; by default the provider's own way (`new_key` in AWS, `new_version` elsewhere).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_strategy: Option<RotationStrategy>,
    /// When a rotation may start. None means at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotation_windows: Vec<RotationWindow>,
    /// Spread the keys' rotations over this many minutes after the slot.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 1440))]
    pub rotation_spread_minutes: u32,
    /// May the latest rotation be rolled back?
    #[serde(default = "yes")]
    pub enable_rollback: bool,
    /// Hours after a rotation within which it may be rolled back.
    #[serde(default = "RotationPolicy::default_rollback_hours")]
    #[schemars(range(max = 8760))]
    pub rollback_period_hours: u32,
    /// Days for which an old version certainly stays readable after its deactivation.
    #[serde(default = "RotationPolicy::default_retention_days")]
    #[schemars(range(max = 36500))]
    pub retain_old_keys_days: u32,
    /// What happens to an old version once `retain_old_keys_days` have passed.
    #[serde(default = "RotationPolicy::default_disposition")]
    pub old_key_disposition: Disposition,
    /// With `old_key_disposition: destroy`: days of being disabled before a version is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub destroy_after_disabled_days: Option<u32>,
    /// Days after which nothing that a key encrypted is kept any more. It is evidence that an older version is not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub data_max_age_days: Option<u32>,
    /// Who hears of rotations and failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_settings: Option<NotificationSettings>,
    /// The frameworks whose rules the policy is held against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["HIPAA", "SOC2"])]
    pub compliance_tags: Vec<String>,
    /// The services that may use the keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorized_services: Vec<String>,
    /// The name that this policy had until now: a rename that keeps its history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_name: Option<Name>,
    /// Rules that may be broken until a date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
}

impl RotationPolicy {
    const fn default_provider() -> KmsProvider {
        KmsProvider::Local
    }
    const fn default_status() -> PolicyStatus {
        PolicyStatus::Active
    }
    const fn default_trigger() -> RotationTrigger {
        RotationTrigger::TimeBased
    }
    fn default_time_of_day() -> TimeOfDay {
        TimeOfDay(NaiveTime::MIN)
    }
    pub(super) fn default_timezone() -> String {
        "UTC".to_owned()
    }
    const fn default_rollback_hours() -> u32 {
        24
    }
    const fn default_retention_days() -> u32 {
        30
    }
    const fn default_disposition() -> Disposition {
        Disposition::Keep
    }
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An event that makes a key due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationEvent {
    /// The `CloudEvents` type that it matches.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 256), example = &"aws.guardduty.finding")]
    pub event_type: String,
    /// The `CloudEvents` source that it matches; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A span of local time, on some days of the week, within which a rotation may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationWindow {
    /// The days on which the window opens; absent means every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Weekday>,
    /// When it opens, in the policy's `timezone`.
    pub start: TimeOfDay,
    /// When it closes; at or before `start` means on the following day.
    pub end: TimeOfDay,
}

/// Who hears of rotations and failures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationSettings {
    /// Addresses that get mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["security@example.org"])]
    pub email: Vec<String>,
    /// A Slack webhook: `${NAME}` of an environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_webhook: Option<Secret>,
    /// Any webhook: `${NAME}` of an environment variable that holds its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
    /// What signs the messages to `webhook_url`: `${NAME}` of an environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<Secret>,
}

/// A rule that may be broken until a date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The code of the rule.
    #[schemars(length(min = 1, max = 128))]
    pub rule: String,
    /// The last day on which it holds.
    #[schemars(with = "String", extend("format" = "date"))]
    pub until: NaiveDate,
    /// Why.
    #[schemars(length(min = 1))]
    pub reason: String,
    /// Who agreed.
    #[schemars(length(min = 1))]
    pub approver: String,
}

impl Waiver {
    /// The rule that an old version is disabled only where something shows that nothing needs it.
    pub const EVIDENCE: &'static str = "retention/evidence";
}

/// One logical key of one tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptionKey {
    /// The tenant that owns the key: the name of the folder that holds the document.
    pub tenant_id: Name,
    /// The key's name, unique within its tenant.
    #[schemars(example = &"patient-data-encryption-key")]
    pub key_name: Name,
    /// What the key is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The class of data that the key protects.
    #[schemars(length(min = 1, max = 50), example = &"phi_data")]
    pub key_type: String,
    /// The key manager that holds it.
    #[serde(default = "RotationPolicy::default_provider")]
    pub kms_provider: KmsProvider,
    /// The provider's region, where it has regions; by default the one of `keywheel.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"us-east-1")]
    pub kms_region: Option<String>,
    /// The stable name that applications use; a rotation re-points it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), example = &"alias/patient-data")]
    pub kms_alias: Option<String>,
    /// Present: adopt this key (an id, an ARN or an alias). Absent: create one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
    /// The name of the policy, in the same tenant, by which it rotates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_policy: Option<Name>,
    /// The cryptographic kind of a key that is created, in AWS's words; by default `SYMMETRIC_DEFAULT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"SYMMETRIC_DEFAULT")]
    pub key_spec: Option<String>,
    /// What a key that is created may do, in AWS's words; by default `ENCRYPT_DECRYPT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"ENCRYPT_DECRYPT")]
    pub key_usage: Option<String>,
    /// The key policy of a key that is created, as the provider's own document; by default the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_policy: Option<BTreeMap<String, Value>>,
    /// Tags of a key that is created.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Make a multi-region key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multi_region: bool,
    /// The day after which the key should no longer be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    pub expires_at: Option<NaiveDate>,
    /// The name that this key had until now: a rename that keeps its history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_name: Option<Name>,
}

/// The policy fields that `keywheel.yaml` and a tenant may set for the policies below them, in the schema's form.
#[derive(Debug)]
pub struct PolicyDefaults;

/// The fields of [`RotationPolicy`] that belong to one policy and cannot be inherited.
pub const NOT_INHERITED: &[&str] =
    &["tenant_id", "policy_name", "description", "key_type", "status", "previous_name", "waivers"];

impl JsonSchema for PolicyDefaults {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PolicyDefaults".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut policy = <RotationPolicy as JsonSchema>::json_schema(generator).to_value();
        if let Some(properties) = policy.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, property| {
                if let Some(property) = property.as_object_mut() {
                    property.remove("default");
                }
                !NOT_INHERITED.contains(&name.as_str())
            });
        }
        schemars::json_schema!({
            "type": "object",
            "description": "Policy fields that the policies below take where they say nothing themselves.",
            "properties": policy.get("properties").cloned().unwrap_or_default(),
            "additionalProperties": false
        })
    }
}
