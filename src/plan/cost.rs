//! What old versions cost at their key manager while they are kept.
//!
//! The numbers are AWS's list prices ("AWS KMS pricing", November 2026), of keys alone: requests come to cents, and what
//! an agreement says is not known here. A key manager of one's own, or the sealed file, has no such price.

use crate::model::{Disposition, KmsProvider, RotationPolicy, RotationStrategy};

/// A customer managed key or a replica of one, US dollars a month, disabled ones too. A key that is pending deletion
/// costs nothing.
pub const AWS_KEY_MONTH: u64 = 1;

/// Rotations *inside* one AWS key that add [`AWS_KEY_MONTH`] each; later ones add nothing.
pub const AWS_PRICED_ROTATIONS: u64 = 2;

/// What `versions` old versions of different keys add, in US dollars a month; none where no price is known. With
/// `before`, so many rotations inside each key were made already.
#[must_use]
pub fn a_month(provider: KmsProvider, strategy: RotationStrategy, versions: u64, before: Option<u64>) -> Option<u64> {
    match (provider, strategy) {
        (KmsProvider::AwsKms, RotationStrategy::NewKey) => Some(versions.saturating_mul(AWS_KEY_MONTH)),
        (KmsProvider::AwsKms, RotationStrategy::NewVersion | RotationStrategy::Managed) => {
            let priced = before.is_none_or(|before| before < AWS_PRICED_ROTATIONS);
            Some(if priced { versions.saturating_mul(AWS_KEY_MONTH) } else { 0 })
        }
        _ => None,
    }
}

/// For how many days a policy's old versions cost something; none means for good.
#[must_use]
pub fn days(policy: &RotationPolicy, strategy: RotationStrategy) -> Option<u32> {
    // Material inside a key is never taken away by itself.
    let leaves = policy.old_key_disposition == Disposition::Destroy && strategy == RotationStrategy::NewKey;
    let disabled = policy.destroy_after_disabled_days.filter(|_| leaves)?;
    Some(policy.retain_old_keys_days.saturating_add(disabled))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_successor_is_a_key_of_its_own_and_the_third_rotation_inside_a_key_is_free() {
        let aws = |strategy, before| a_month(KmsProvider::AwsKms, strategy, 41, before);
        assert_eq!(aws(RotationStrategy::NewKey, Some(9)), Some(41));
        assert_eq!(aws(RotationStrategy::NewVersion, Some(1)), Some(41));
        assert_eq!(aws(RotationStrategy::NewVersion, Some(2)), Some(0));
        assert_eq!(a_month(KmsProvider::Local, RotationStrategy::NewVersion, 41, None), None);
    }

    #[test]
    fn old_versions_cost_until_their_destruction_is_scheduled() {
        let policy = |more: serde_json::Value| {
            let mut fields = json!({"tenant_id": "t", "policy_name": "p", "key_type": "k", "retain_old_keys_days": 30});
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<RotationPolicy>(fields).unwrap()
        };
        let destroys = policy(json!({"old_key_disposition": "destroy", "destroy_after_disabled_days": 15}));
        assert_eq!(days(&destroys, RotationStrategy::NewKey), Some(45));
        assert_eq!(days(&destroys, RotationStrategy::NewVersion), None);
        assert_eq!(days(&policy(json!({"old_key_disposition": "disable"})), RotationStrategy::NewKey), None);
    }
}
