//! What must hold once everything is done, read from AWS KMS and the database directly.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::fleet::{Kind, Member, REGIONS};
use super::world::World;

impl World {
    /// Fails unless nothing was lost, nothing was made twice, and everybody agrees that nothing is left to do.
    pub fn check(&self, fleet: &[Member]) {
        let versions = self.sql(
            "SELECT v.provider_ref AS arn, v.rotation_id AS rotation, CASE WHEN v.orphan THEN 1 ELSE 0 END AS orphan,
                    v.state AS state, k.kms_provider AS provider, k.key_name AS name
             FROM key_versions AS v JOIN encryption_keys AS k ON k.id = v.key_id ORDER BY v.provider_ref",
        );
        self.each_key_in_aws_is_a_version(&versions);
        each_rotation_made_one(&versions);
        self.each_alias_leads_to_the_primary(fleet);
        let active = versions.iter().filter(|version| version["state"] == "active").count();
        assert_eq!(active, fleet.len(), "one version of each key is active: {versions:#?}");
        let open = "SELECT key_name, phase, open_step FROM rotations WHERE phase NOT IN ('settled', 'abandoned')";
        assert_eq!(self.sql(open), Vec::<Value>::new());
        self.unseal();
        self.ends(&["audit", "verify"]);
        self.ends(&["drift", "--detailed-exitcode"]);
        self.run(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    }

    /// None is an orphan that nobody knows, and none is recorded that is not there. Each carries its rotation's mark.
    fn each_key_in_aws_is_a_version(&self, versions: &[Value]) {
        let recorded: BTreeMap<&str, &Value> = versions
            .iter()
            .filter(|version| version["provider"] == "aws_kms")
            .map(|version| (version["arn"].as_str().unwrap(), version))
            .collect();
        let mut keys = BTreeSet::new();
        for region in REGIONS {
            let kms = self.kms(region);
            for arn in kms.keys() {
                let version = recorded.get(arn.as_str()).unwrap_or_else(|| panic!("nobody knows of {arn}"));
                let mark = kms.tags(&arn).into_iter().find(|(name, _)| name == "keywheel:rotation-id");
                let mark = mark.map_or(Value::Null, |(_, value)| Value::String(value));
                assert_eq!(version["rotation"], mark, "{version}");
                if version["orphan"] == 1 {
                    assert_eq!((&version["state"], kms.describe(&arn)["Enabled"] == false), (&"disabled".into(), true));
                }
                keys.insert(arn);
            }
        }
        assert_eq!(keys.len(), recorded.len(), "{keys:#?}\n{recorded:#?}");
    }

    /// Each version is where the record says, and went there no sooner than its terms allow.
    pub fn check_retired(&self, member: &Member) {
        let kms = self.kms(member.region);
        let versions = self.sql(
            "SELECT provider_ref AS arn, k.kms_provider AS provider, v.state AS state, deactivated_at, disabled_at, destroy_at,
                    destroyed_at
             FROM key_versions AS v JOIN encryption_keys AS k ON k.id = v.key_id",
        );
        let at = |version: &Value, field: &str| {
            // PostgreSQL writes `+00:00`.
            version[field].as_str().map(|text| text.parse::<DateTime<Utc>>().unwrap())
        };
        let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
        for version in &versions {
            let state = version["state"].as_str().unwrap();
            *ends.entry(state).or_default() += 1;
            if version["provider"] == "aws_kms" {
                let expected = match state {
                    "active" | "deactivated" => "Enabled",
                    "disabled" => "Disabled",
                    _ => "PendingDeletion",
                };
                assert_eq!(kms.describe(version["arn"].as_str().unwrap())["KeyState"], expected, "{version}");
            }
            let (deactivated, disabled) = (at(version, "deactivated_at"), at(version, "disabled_at"));
            let (destroy, destroyed) = (at(version, "destroy_at"), at(version, "destroyed_at"));
            let day = TimeDelta::days(1);
            assert!(disabled.is_none_or(|at| at >= deactivated.unwrap() + day), "{version}");
            // The emulator counts by a clock of its own.
            let counts = version["provider"] == "local";
            assert!(
                destroy.is_none_or(|at| !counts || at >= disabled.unwrap() + day + TimeDelta::days(30)),
                "{version}"
            );
            assert!(destroyed.is_none_or(|at| at >= destroy.unwrap()), "{version}");
        }
        for state in ["active", "disabled", "pending_destruction", "destroyed"] {
            assert!(ends.contains_key(state), "none is {state}: {ends:?}");
        }
    }

    fn each_alias_leads_to_the_primary(&self, fleet: &[Member]) {
        let primaries = self.sql(
            "SELECT k.key_name AS name, v.provider_ref AS arn FROM encryption_keys AS k
             JOIN key_versions AS v ON v.id = k.primary_version_id WHERE v.state = 'active'",
        );
        let primaries: BTreeMap<&str, &Value> =
            primaries.iter().map(|row| (row["name"].as_str().unwrap(), &row["arn"])).collect();
        assert_eq!(primaries.len(), fleet.len());
        for member in fleet.iter().filter(|member| member.kind != Kind::Local) {
            let led_to = self.kms(member.region).describe(&member.alias());
            assert_eq!(led_to["Arn"], *primaries[member.name.as_str()], "{}", member.name);
        }
    }
}

/// But for the twins that are recorded as such, no rotation has two versions.
fn each_rotation_made_one(versions: &[Value]) {
    let mut made = BTreeSet::new();
    for version in versions.iter().filter(|version| version["orphan"] == 0 && !version["rotation"].is_null()) {
        assert!(made.insert(version["rotation"].as_str().unwrap()), "a second version: {version}");
    }
}
