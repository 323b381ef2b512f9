//! AWS Key Management Service.

use crate::document::Capabilities;
use crate::model::RotationStrategy;

/// What keywheel can do in AWS KMS.
pub const CAPABILITIES: Capabilities = Capabilities {
    available: true,
    strategies: &[RotationStrategy::NewKey],
    rollback: true,
    needs_alias: true,
    regions: true,
    disable: true,
    destroy: true,
};
use super::*;
use crate::document::AwsKmsConfig;
#[derive(Debug)]
pub struct AwsKms;
impl AwsKms {
    pub async fn connect(_: &AwsKmsConfig, _: Option<&Name>, _: Option<&str>) -> Result<Self, ProviderError> {
        Err(ProviderError::new(ErrorKind::Refused, "connect", "stub"))
    }
}
#[async_trait]
impl Observe for AwsKms {
    async fn observe(&self, _: &[KeyHandle]) -> Vec<Observation> {
        vec![]
    }
    async fn owned(&self) -> Result<Vec<Owned>, ProviderError> {
        Ok(vec![])
    }
    async fn primary(&self, _: &KeyHandle) -> Result<Option<String>, ProviderError> {
        Ok(None)
    }
    async fn intent(&self, _: &KeyHandle) -> Result<Value, ProviderError> {
        Ok(Value::Null)
    }
    async fn find_created(&self, _: &CreateVersion) -> Result<Vec<Found>, ProviderError> {
        Ok(vec![])
    }
}
#[async_trait]
impl KeyManager for AwsKms {
    async fn create_version(&self, _: &CreateVersion) -> Result<Found, ProviderError> {
        unreachable!()
    }
    async fn verify(&self, _: &CreateVersion, _: &str) -> Result<(), ProviderError> {
        unreachable!()
    }
    async fn promote(&self, _: &KeyHandle, _: Option<&str>, _: &str) -> Result<(), ProviderError> {
        unreachable!()
    }
    async fn prove_primary(&self, _: &KeyHandle, _: Option<&str>, _: &str) -> Result<(), ProviderError> {
        unreachable!()
    }
    async fn disable(&self, _: &KeyHandle, _: &str) -> Result<(), ProviderError> {
        unreachable!()
    }
    async fn update_settings(&self, _: &KeyHandle, _: &str) -> Result<(), ProviderError> {
        unreachable!()
    }
    async fn encrypt(&self, _: &KeyHandle, _: &[u8]) -> Result<Vec<u8>, ProviderError> {
        unreachable!()
    }
    async fn decrypt(&self, _: &KeyHandle, _: &[u8]) -> Result<Vec<u8>, ProviderError> {
        unreachable!()
    }
}
