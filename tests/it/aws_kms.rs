//! AWS KMS over HTTP: against a real moto server, and against endpoints that misbehave.
//!
//! moto lets a disabled key encrypt and decrypt, so that nothing is concluded from it about what key states do: that is
//! in `localstack`.

use keywheel::document::AwsKmsConfig;
use keywheel::engine::clock::new_id;
use keywheel::model::{Address, EncryptionKey, Name, Observation, ObservedKey};
use keywheel::provider::aws_kms::AwsKms;
use keywheel::provider::{CreateVersion, KeyHandle, KeyManager};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::conformance::{self, Fixture};
use crate::support::moto;

mod credentials;
mod hostile;
mod localstack;
mod observing;
mod succession;

const REGION: &str = "us-east-1";

#[test]
fn it_keeps_the_contract_of_every_provider() {
    moto::test("aws_kms::it_keeps_the_contract_of_every_provider", |endpoint| async move {
        let fixture = Fixture { new_key, kms_key_id: str::to_owned, enforces_states: false };
        conformance::suite(&connect(&endpoint).await, &fixture).await;
    });
}

/// Settings that reach an emulator, with short times.
fn config(endpoint: &str) -> AwsKmsConfig {
    AwsKmsConfig {
        region: Some(REGION.to_owned()),
        endpoint_url: Some(endpoint.to_owned()),
        operation_timeout: "3s".to_owned(),
        connect_timeout: "1s".to_owned(),
        ..AwsKmsConfig::default()
    }
}

async fn connect(endpoint: &str) -> AwsKms {
    AwsKms::connect(&config(endpoint), None, None).await.unwrap()
}

fn new_key(name: &str) -> KeyHandle {
    handle(name, &json!({}))
}

/// A recorded key without versions, with further fields of its document.
fn handle(name: &str, fields: &Value) -> KeyHandle {
    let tenant_id = Name::new("healthcare-org-123").unwrap();
    let mut document = json!({
        "tenant_id": tenant_id, "key_name": name, "key_type": "phi_data", "kms_provider": "aws_kms",
        "kms_alias": format!("alias/{name}"),
    });
    document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let key: EncryptionKey = serde_json::from_value(document).unwrap();
    let address = Address::new(tenant_id, key.key_name.clone());
    KeyHandle { key_id: Some(new_id()), address, key, versions: vec![], primary: None }
}

/// A request for the next version.
fn request(key: &KeyHandle) -> CreateVersion {
    CreateVersion {
        key: key.clone(),
        rotation_id: new_id(),
        lineage: Uuid::from_u128(1),
        predecessor: key.primary.clone(),
        intent: Value::Null,
    }
}

async fn present(manager: &dyn KeyManager, key: &KeyHandle) -> ObservedKey {
    match manager.observe(std::slice::from_ref(key)).await.as_slice() {
        [Observation::Present(observed)] => observed.clone(),
        other => panic!("{} is not there: {other:?}", key.address),
    }
}

/// AWS's own client, for what a test arranges or looks at beside keywheel.
async fn aws(endpoint: &str, region: &str) -> aws_sdk_kms::Client {
    let loader = aws_config::defaults(aws_config::BehaviorVersion::latest()).endpoint_url(endpoint);
    let sdk = loader.region(aws_config::Region::new(region.to_owned())).load().await;
    aws_sdk_kms::Client::new(&sdk)
}

/// moto takes the bare id alone.
async fn schedule_deletion(own: &aws_sdk_kms::Client, arn: &str) {
    let id = arn.rsplit('/').next().unwrap();
    own.schedule_key_deletion().key_id(id).pending_window_in_days(7).send().await.unwrap();
}
