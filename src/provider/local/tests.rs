//! What must hold of the keystore whatever happens to its file, its disk and its neighbours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::error::KeystoreError;
use super::root_key::RootKeySource;
use super::*;
use crate::model::{Address, EncryptionKey, Name};

mod crash;
mod sharing;
mod storage;

const ROOT_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// The clock of these tests stands still.
fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn new_id() -> Uuid {
    static IDS: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(IDS.fetch_add(1, Ordering::Relaxed).into())
}

/// A keystore in a folder of its own, with a root key that was given.
fn location(folder: &Path) -> Location {
    let keystore = folder.join("kw").join("keystore");
    let beside = keystore.with_file_name("root.key");
    let variable = Some(Zeroizing::new(ROOT_KEY.to_owned()));
    Location { keystore, root_key: RootKeySource { variable, file: None, beside } }
}

fn open(location: &Location) -> Local {
    Local::at(location.clone(), now).unwrap()
}

/// What a reader sees: the name and primary of each key, and how many versions it has.
fn read(location: &Location) -> Result<Vec<(Uuid, Option<u32>, u32)>, KeystoreError> {
    let (index, _) = keystore::read_index(location)?;
    Ok(index.iter().map(|(name, key)| (name, key.primary, key.latest())).collect())
}

fn handle() -> KeyHandle {
    handle_of("healthcare-org-123")
}

fn handle_of(tenant: &str) -> KeyHandle {
    let tenant_id = Name::new(tenant).unwrap();
    let key: EncryptionKey = serde_json::from_value(json!({
        "tenant_id": tenant_id, "key_name": "patient-data", "key_type": "phi_data", "kms_provider": "local",
    }))
    .unwrap();
    let address = Address::new(tenant_id, key.key_name.clone());
    KeyHandle { key_id: Some(new_id()), address, key, versions: vec![], primary: None }
}

fn request(handle: &KeyHandle) -> CreateVersion {
    CreateVersion {
        key: handle.clone(),
        rotation_id: new_id(),
        lineage: Uuid::from_u128(1),
        predecessor: handle.primary.clone(),
        intent: Value::Null,
    }
}

/// Makes a version, proves it, makes it primary and proves that.
async fn rotate(local: &Local, handle: &mut KeyHandle) -> Result<String, ProviderError> {
    let request = request(handle);
    let version = local.create_version(&request).await?.provider_ref;
    local.verify(&request, &version).await?;
    let from = local.primary(handle).await?;
    local.promote(handle, from.as_deref(), &version).await?;
    local.prove_primary(handle, from.as_deref(), &version).await?;
    handle.versions.push(version.clone());
    handle.primary = Some(version.clone());
    Ok(version)
}

#[tokio::test]
async fn a_promotion_from_another_primary_than_expected_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(&location(folder.path()));
    let mut key = handle();
    let first = rotate(&local, &mut key).await.unwrap();
    let second = rotate(&local, &mut key).await.unwrap();
    let third = local.create_version(&request(&key)).await.unwrap().provider_ref;

    let error = local.promote(&key, Some(&first), &third).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert_eq!(error.message, "the primary version is 2, not 1");
    assert_eq!(local.primary(&key).await, Ok(Some(second)));
}

#[tokio::test]
async fn a_disabled_version_is_not_promoted_and_the_primary_is_not_disabled() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(&location(folder.path()));
    let mut key = handle();
    let first = rotate(&local, &mut key).await.unwrap();
    let second = rotate(&local, &mut key).await.unwrap();

    assert_eq!(local.disable(&key, &second).await.unwrap_err().kind, ErrorKind::Refused);
    local.disable(&key, &first).await.unwrap();
    assert_eq!(local.promote(&key, Some(&second), &first).await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(local.verify(&request(&key), &first).await.unwrap_err().kind, ErrorKind::Refused);
}

#[tokio::test]
async fn a_tenant_cannot_reach_the_key_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(&location(folder.path()));
    let mut theirs = handle();
    let version = rotate(&local, &mut theirs).await.unwrap();
    let ciphertext = local.encrypt(&theirs, b"patient data").await.unwrap();

    let mut ours = handle_of("fintech-org-456");
    ours.key.kms_key_id = theirs.key_id.map(|id| id.to_string());
    assert_eq!(local.observe(&[ours.clone()]).await, [Observation::Missing]);
    ours.versions.push(version.clone());
    ours.primary = Some(version.clone());
    assert_eq!(local.observe(&[ours.clone()]).await, [Observation::Missing]);
    assert_eq!(local.decrypt(&ours, &ciphertext).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(local.encrypt(&ours, b"x").await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(local.create_version(&request(&ours)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(local.disable(&ours, &version).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_key_that_a_document_adopts_is_not_made_if_it_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(&location(folder.path()));
    let mut key = handle();
    key.key.kms_key_id = Some(new_id().to_string());
    assert_eq!(local.observe(&[key.clone()]).await, [Observation::Missing]);
    assert_eq!(local.create_version(&request(&key)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(local.owned().await, Ok(vec![]));
}

#[tokio::test]
async fn only_aes_256_gcm_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(&location(folder.path()));
    for spec in ["AES_256", "SYMMETRIC_DEFAULT"] {
        let mut key = handle();
        key.key.key_spec = Some(spec.to_owned());
        rotate(&local, &mut key).await.unwrap();
        let observed = local.observe(&[key]).await;
        let [Observation::Present(observed)] = observed.as_slice() else { panic!("{observed:?}") };
        assert_eq!(observed.settings["key_spec"], spec, "the document's word for it is no drift");
    }
    let (mut spec, mut usage) = (handle(), handle());
    spec.key.key_spec = Some("RSA_2048".to_owned());
    usage.key.key_usage = Some("SIGN_VERIFY".to_owned());
    for key in [spec, usage] {
        assert_eq!(local.create_version(&request(&key)).await.unwrap_err().kind, ErrorKind::Refused);
    }
}

#[tokio::test]
async fn without_a_keystore_every_change_but_the_first_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(&location(folder.path()));
    let key = handle();
    let version = format!("{}:1", key.key_id.unwrap());
    assert_eq!(local.promote(&key, None, &version).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(local.disable(&key, &version).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(local.verify(&request(&key), &version).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "none of it makes a keystore");
}
