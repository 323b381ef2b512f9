//! How long many rotations at once take at a key manager's quotas, each account and region for itself.
//!
//! The numbers are AWS's defaults ("Request quotas", AWS KMS Developer Guide, November 2026); an account may have been
//! given more. What has no quota that is published (the sealed file, Transit, a module of one's own) is not guessed at.
//!
//! Must not know: when anything is due.

use std::collections::BTreeMap;

use chrono::Duration;

use crate::document::Config;
use crate::model::{EncryptionKey, KmsProvider, Name, RotationStrategy};

/// Requests a second for each account and region, each operation for itself: `CreateKey`, `UpdateAlias` and
/// `RotateKeyOnDemand` have 5 by default. Every rotation needs one of them, and the others of the same rotation run
/// beside it or have more.
pub const AWS_ROTATIONS_PER_SECOND: u32 = 5;

/// Rotations on demand that one key can have in its life ("Resource quotas", not adjustable).
pub const AWS_ON_DEMAND_ROTATIONS: u32 = 25;

/// Where rotations share a quota: an account, as far as `keywheel.yaml` tells accounts apart, and a region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool {
    /// The key manager.
    pub provider: KmsProvider,
    /// The tenant that has an account of its own; none for the account that tenants share.
    pub tenant_id: Option<Name>,
    /// The region, where the key manager has regions and one is named.
    pub region: Option<String>,
}

impl Pool {
    /// Where a key's rotations count.
    #[must_use]
    pub fn of(key: &EncryptionKey, config: &Config) -> Self {
        let own = config.providers.aws_kms.tenants.get(&key.tenant_id);
        let aws = key.kms_provider == KmsProvider::AwsKms;
        let has_account = |own: &&_| {
            let crate::document::AwsKmsAccount { endpoint_url, profile, role_arn, .. } = own;
            endpoint_url.is_some() || profile.is_some() || role_arn.is_some()
        };
        let region = key
            .kms_region
            .clone()
            .or_else(|| own.and_then(|own| own.region.clone()))
            .or_else(|| config.providers.aws_kms.region.clone());
        Self {
            provider: key.kms_provider,
            tenant_id: own.filter(has_account).filter(|_| aws).map(|_| key.tenant_id.clone()),
            region: region.filter(|_| aws),
        }
    }
}

/// How many rotations a second a key manager lets one account start in one region; none where nothing is published, or
/// where it rotates by itself.
#[must_use]
pub fn rotations_per_second(provider: KmsProvider, strategy: RotationStrategy) -> Option<u32> {
    match (provider, strategy) {
        (KmsProvider::AwsKms, RotationStrategy::NewKey | RotationStrategy::NewVersion) => {
            Some(AWS_ROTATIONS_PER_SECOND)
        }
        _ => None,
    }
}

/// How long rotations that all become due at once take at the quotas: the longest of any account and region. None where
/// no quota is known for any of them.
#[must_use]
pub fn length<'a>(
    rotations: impl IntoIterator<Item = (&'a EncryptionKey, RotationStrategy)>,
    config: &Config,
) -> Option<Duration> {
    let mut pools: BTreeMap<(Pool, u32), i64> = BTreeMap::new();
    for (key, strategy) in rotations {
        if let Some(rate) = rotations_per_second(key.kms_provider, strategy) {
            *pools.entry((Pool::of(key, config), rate)).or_default() += 1;
        }
    }
    let seconds = |count: i64, rate: u32| Duration::seconds((count + i64::from(rate) - 1) / i64::from(rate));
    pools.into_iter().map(|((_, rate), count)| seconds(count, rate)).max()
}

/// A length of time, rounded up, in the largest unit of which it has two: `90 seconds`, `12 minutes`, `3 hours`.
#[must_use]
pub fn words(length: Duration) -> String {
    let seconds = length.num_seconds().max(0);
    let (size, unit) = match seconds {
        172_800.. => (86_400, "day"),
        7_200.. => (3_600, "hour"),
        120.. => (60, "minute"),
        _ => (1, "second"),
    };
    let count = (seconds + size - 1) / size;
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(tenant: &str, region: &str) -> EncryptionKey {
        serde_json::from_value(json!({
            "tenant_id": tenant, "key_name": "k", "key_type": "t", "kms_provider": "aws_kms", "kms_region": region,
        }))
        .unwrap()
    }

    #[test]
    fn five_rotations_a_second_fit_into_an_account_and_region() {
        let here = key("acme", "us-east-1");
        let burst = |count| length(std::iter::repeat_n((&here, RotationStrategy::NewKey), count), &Config::default());
        assert_eq!(burst(0), None);
        assert_eq!(burst(41), Some(Duration::seconds(9)));
        assert_eq!(burst(3600), Some(Duration::minutes(12)));
    }

    #[test]
    fn regions_and_accounts_do_not_share_a_quota() {
        let (here, there, other) = (key("acme", "us-east-1"), key("acme", "eu-west-1"), key("bank", "us-east-1"));
        let all = || [&here, &there, &other].into_iter().flat_map(|key| std::iter::repeat_n(key, 50));
        let burst = |config: &Config| length(all().map(|key| (key, RotationStrategy::NewKey)), config);
        assert_eq!(burst(&Config::default()), Some(Duration::seconds(20)));
        let own = json!({"providers": {"aws_kms": {"tenants": {"bank": {"role_arn": "arn:aws:iam::1:role/r"}}}}});
        assert_eq!(burst(&serde_json::from_value(own).unwrap()), Some(Duration::seconds(10)));
    }

    #[test]
    fn a_length_of_time_is_told_in_the_largest_unit_of_which_there_are_two() {
        let told = |seconds| words(Duration::seconds(seconds));
        assert_eq!([told(1), told(90), told(720), told(7_201)], ["1 second", "90 seconds", "12 minutes", "3 hours"]);
    }
}
