//! The local provider on a real disk, through its public face.

use keywheel::document::LocalConfig;
use keywheel::engine::clock::{new_id, now};
use keywheel::model::{Address, EncryptionKey, Name, Observation};
use keywheel::provider::local::{Local, LocalReader};
use keywheel::provider::{KeyHandle, Observe};

use crate::conformance::{self, Fixture};

fn new_key(name: &str) -> KeyHandle {
    let tenant_id = Name::new("healthcare-org-123").unwrap();
    let key: EncryptionKey = serde_json::from_value(serde_json::json!({
        "tenant_id": tenant_id, "key_name": name, "key_type": "phi_data", "kms_provider": "local",
    }))
    .unwrap();
    let address = Address::new(tenant_id, key.key_name.clone());
    KeyHandle { key_id: Some(new_id()), address, key, versions: vec![], primary: None }
}

const FIXTURE: Fixture =
    Fixture { new_key, kms_key_id: |version| version.split(':').next().unwrap().to_owned(), enforces_states: true };

#[tokio::test]
async fn it_keeps_the_contract_of_every_provider() {
    let folder = tempfile::tempdir().unwrap();
    let local = Local::open(&LocalConfig::default(), folder.path(), now).unwrap();
    conformance::suite(&local, &FIXTURE).await;
}

#[tokio::test]
async fn a_reader_sees_what_a_writer_made_and_makes_nothing_itself() {
    let folder = tempfile::tempdir().unwrap();
    let config = LocalConfig::default();
    let mut key = new_key("patient-data");

    let reader = LocalReader::open(&config, folder.path()).unwrap();
    assert_eq!(reader.observe(std::slice::from_ref(&key)).await, [Observation::Missing]);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);

    let local = Local::open(&config, folder.path(), now).unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "opening makes nothing either");
    let version = conformance::rotate(&local, &mut key).await;

    let reader = LocalReader::open(&config, folder.path()).unwrap();
    assert_eq!(reader.primary(&key).await, Ok(Some(version)));
    assert_eq!(reader.owned().await, local.owned().await);
    assert_eq!(reader.observe(std::slice::from_ref(&key)).await, local.observe(&[key]).await);
}
