//! Users' own cases: what a plan of given documents and a given record must look like at a given instant.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy::words;
use super::{Address, KeyState, Severity, Timestamp, VersionState};

/// Cases over one set of documents and one record, each at an instant of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What is tested.
    #[schemars(length(min = 1, max = 256), example = &"Card data keys")]
    pub name: String,
    /// Why it matters, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The documents that are planned; absent means all of this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [{"files": ["policies/acme-payments"]}]))]
    pub given: Option<Given>,
    /// What the state database says; absent means that nothing was ever applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [{"keys": [recorded_key_example()]}]))]
    pub recorded: Option<GivenRecord>,
    /// The cases.
    #[schemars(length(min = 1), extend("examples" = [[case_example()]]))]
    pub cases: Vec<Case>,
}

/// Documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Files and folders of this repository, as paths from its top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [["keywheel.yaml", "policies/acme-payments"]]))]
    pub files: Vec<String>,
    /// Documents that stand here. Which tenant's they are is what their `tenant_id` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [[document_example()]]))]
    pub documents: Vec<BTreeMap<String, Value>>,
}

/// What the state database says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenRecord {
    /// Documents as they were applied last, where that is not as they are given: each takes the place of the given one with
    /// its kind and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [[document_example()]]))]
    pub documents: Vec<BTreeMap<String, Value>>,
    /// The keys that were made or adopted before. A key with a document and without an entry is new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [[recorded_key_example()]]))]
    pub keys: Vec<RecordedKey>,
}

/// A key of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordedKey {
    /// The key, as `TENANT/NAME`.
    #[schemars(with = "String", regex(pattern = ADDRESS), example = &"acme-payments/card-vault")]
    pub key: Address,
    /// When it was last rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2026-09-01T02:00:00Z")]
    pub rotated_at: Option<Timestamp>,
    /// When the material of its primary version was made; by default when it was last rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2026-09-01T02:00:00Z")]
    pub created_at: Option<Timestamp>,
    /// When it came under keywheel's care; by default when its material was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2026-01-01T00:00:00Z")]
    pub managed_since: Option<Timestamp>,
    /// Its state.
    #[serde(default = "RecordedKey::default_state")]
    pub state: KeyState,
    /// How often its primary version was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &900_000)]
    pub usage_count: Option<u64>,
    /// Its versions before the primary one that are not destroyed, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [[{"deactivated_at": "2026-09-01T02:00:00Z"}]]))]
    pub old_versions: Vec<RecordedVersion>,
}

impl RecordedKey {
    const fn default_state() -> KeyState {
        KeyState::Active
    }
}

/// An old version of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordedVersion {
    /// Its state.
    #[serde(default = "RecordedVersion::default_state")]
    pub state: VersionState,
    /// When it stopped being primary.
    #[schemars(example = &"2026-09-01T02:00:00Z")]
    pub deactivated_at: Timestamp,
    /// When it was disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2026-10-01T02:00:00Z")]
    pub disabled_at: Option<Timestamp>,
    /// When its waiting period ends, once its destruction is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2026-11-01T02:00:00Z")]
    pub destroy_at: Option<Timestamp>,
    /// When a person recorded that nothing is encrypted under it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2026-09-15T09:00:00Z")]
    pub rewrapped_at: Option<Timestamp>,
    /// When it was last used, by what the key manager says; absent means that it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2026-08-31T23:59:00Z")]
    pub last_used_at: Option<Timestamp>,
}

impl RecordedVersion {
    const fn default_state() -> VersionState {
        VersionState::Deactivated
    }
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is expected, in words.
    #[schemars(length(min = 1, max = 256), example = &"rotates after ninety days")]
    pub name: String,
    /// The instant that is planned for.
    #[schemars(example = &"2026-12-05T02:00:00Z")]
    pub now: Timestamp,
    /// Keys of the record that are as they stand here in this case; each takes the place of the shared entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [[recorded_key_example()]]))]
    pub keys: Vec<RecordedKey>,
    /// What the plan must hold.
    #[schemars(extend("examples" = [{"changes": [expected_change_example()]}]))]
    pub expect: Expectation,
}

words! {
    /// How much of a plan a case speaks of.
    Matching {
        /// Each list that stands there is the whole of the plan's: nothing else may be in it.
        Exact = "exact",
        /// There may be more, except beside an empty list.
        Subset = "subset",
    }
}

/// What a plan must hold. A list that is absent is not looked at; an empty one says that there is nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// How much of the plan the lists speak of.
    #[serde(default = "Expectation::default_matching")]
    pub matching: Matching,
    /// The changes, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [[expected_change_example()]]))]
    pub changes: Option<Vec<ExpectedChange>>,
    /// What is due and has to wait, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [[{
        "action": "rotate", "object": "key acme-payments/card-vault", "reason": "frozen",
        "starts_at": "2027-01-04T23:00:00Z",
    }]]))]
    pub waiting: Option<Vec<ExpectedWait>>,
    /// What is found fault with, in any order. Without this list, an error in the documents fails the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [[{"code": "policy/retention-too-short"}]]))]
    pub findings: Option<Vec<ExpectedFinding>>,
    /// The codes of the limits that the plan goes over. Without this list, one that it goes over fails the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["limits/max-rotations"]]))]
    pub refusals: Option<Vec<String>>,
}

impl Expectation {
    const fn default_matching() -> Matching {
        Matching::Exact
    }
}

/// The actions of a plan, in the order in which apply carries them out. A test holds them against the planner's own.
pub const ACTIONS: [&str; 23] = [
    "finish",
    "create",
    "update",
    "rename",
    "suspend",
    "reactivate",
    "remove",
    "adopt",
    "link",
    "unlink",
    "forget",
    "restore",
    "release",
    "park",
    "resume",
    "rollback",
    "rotate",
    "attest",
    "enable",
    "cancel_destruction",
    "disable",
    "schedule_destruction",
    "destroy",
];

/// A key, as a case writes it.
pub(crate) const ADDRESS: &str = "^[^/]+/[^/]+$";

/// The objects of a plan, as a case writes them.
pub(crate) const OBJECT: &str = "^((key|policy) [^/]+/[^/]+|(tenant|guardrail|freeze|config) [^/]+)$";

/// A change of a plan. What is absent is not compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedChange {
    /// What is done.
    #[schemars(extend("enum" = ACTIONS))]
    pub action: String,
    /// To what: `key TENANT/NAME`, `policy TENANT/NAME`, `tenant NAME`, `guardrail NAME`, `freeze NAME` or `config keywheel.yaml`.
    #[schemars(regex(pattern = OBJECT), example = &"key acme-payments/card-vault")]
    pub object: String,
    /// The code of its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"due")]
    pub reason: Option<String>,
    /// A part of its reason in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"90 days")]
    pub message: Option<String>,
    /// The number of the version that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = &1)]
    pub version: Option<u32>,
    /// Fields, and their values after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [{"rotation_interval_days": 30}]))]
    pub fields: Option<BTreeMap<String, Value>>,
}

/// Something that is due and has to wait. What is absent is not compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedWait {
    /// What would be done.
    #[schemars(extend("enum" = ACTIONS))]
    pub action: String,
    /// To what: `key TENANT/NAME`.
    #[schemars(regex(pattern = OBJECT), example = &"key acme-payments/card-vault")]
    pub object: String,
    /// The code of what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"frozen")]
    pub reason: Option<String>,
    /// A part of what it waits for in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Year-end change freeze")]
    pub message: Option<String>,
    /// The number of the version that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = &1)]
    pub version: Option<u32>,
    /// When it can start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2027-01-04T23:00:00Z")]
    pub starts_at: Option<Timestamp>,
}

/// A finding. What is absent is not compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFinding {
    /// Its code.
    #[schemars(length(min = 1), example = &"policy/retention-too-short")]
    pub code: String,
    /// Its severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What it is about: `policy TENANT/NAME`, `key TENANT/NAME`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = OBJECT), example = &"policy acme-payments/Quarterly")]
    pub object: Option<String>,
    /// A part of its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shorter than")]
    pub message: Option<String>,
}

fn recorded_key_example() -> Value {
    json!({"key": "acme-payments/card-vault", "rotated_at": "2026-09-01T02:00:00Z"})
}

fn expected_change_example() -> Value {
    json!({"action": "rotate", "object": "key acme-payments/card-vault", "reason": "due"})
}

fn case_example() -> Value {
    json!({
        "name": "rotates after ninety days",
        "now": "2026-12-05T02:00:00Z",
        "expect": {"changes": [expected_change_example()]},
    })
}

fn document_example() -> Value {
    json!({
        "apiVersion": super::API_VERSION, "kind": "RotationPolicy", "tenant_id": "acme-payments",
        "policy_name": "Quarterly", "rotation_interval_days": 90,
    })
}
