//! What every key manager must do: the contract of `keywheel::provider`, as a suite that each provider runs.
//!
//! A provider's own test makes a [`Fixture`] and calls [`suite`]. Each law starts with keys of its own, so that nothing
//! needs to be cleaned up between two of them.

use keywheel::engine::clock::new_id;
use keywheel::model::{Observation, ObservedKey, VersionState};
use keywheel::provider::{CreateVersion, ErrorKind, Found, KeyHandle, KeyManager, MAX_PLAINTEXT};
use uuid::Uuid;

/// What the suite must be told about a provider.
pub struct Fixture {
    /// A handle of a key that does not exist yet, for a key name: recorded (with a `key_id`), without versions.
    pub new_key: fn(&str) -> KeyHandle,
    /// What a document writes as `kms_key_id` to adopt the key of this version.
    pub kms_key_id: fn(&str) -> String,
    /// Does a disabled version refuse to decrypt? False for emulators that let it.
    pub enforces_states: bool,
}

/// Every law, one after the other.
pub async fn suite(manager: &dyn KeyManager, fixture: &Fixture) {
    a_key_is_missing_before_its_first_version(manager, fixture).await;
    a_new_version_is_marked_and_not_primary(manager, fixture).await;
    a_rotation_is_found_by_its_own_mark_alone(manager, fixture).await;
    a_promoted_version_is_primary_and_proven(manager, fixture).await;
    what_is_encrypted_decrypts_to_the_same(manager, fixture).await;
    what_is_not_a_ciphertext_of_the_key_is_refused(manager, fixture).await;
    a_rotation_keeps_old_data_readable(manager, fixture).await;
    a_rollback_keeps_newer_data_readable(manager, fixture).await;
    a_disabled_version_stays_disabled(manager, fixture).await;
    a_version_retires_step_by_step_and_comes_back(manager, fixture).await;
    the_primary_never_retires(manager, fixture).await;
    an_existing_key_is_found_by_the_documents_id(manager, fixture).await;
    one_key_never_hides_another(manager, fixture).await;
    every_version_is_owned(manager, fixture).await;
}

async fn a_key_is_missing_before_its_first_version(manager: &dyn KeyManager, fixture: &Fixture) {
    let key = (fixture.new_key)("missing");
    assert_eq!(manager.observe(std::slice::from_ref(&key)).await, [Observation::Missing]);
    assert_eq!(manager.primary(&key).await, Ok(None));
    assert_eq!(manager.find_created(&request(manager, &key).await).await, Ok(vec![]));
    assert!(manager.encrypt(&key, b"plaintext").await.is_err());
}

async fn a_new_version_is_marked_and_not_primary(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("marked");
    let request = request(manager, &key).await;
    let made = manager.create_version(&request).await.unwrap();
    assert_eq!(refs(&manager.find_created(&request).await.unwrap()), [made.provider_ref.as_str()]);
    assert_eq!(manager.primary(&key).await, Ok(None));

    key.versions.push(made.provider_ref.clone());
    let observed = present(manager, &key).await;
    assert_eq!(observed.primary, None);
    assert_eq!(states(&observed).len(), 1);
    assert_ne!(states(&observed)[0], VersionState::Active);
    assert_eq!(observed.versions[0].provider_ref, made.provider_ref);
    assert_eq!(observed.versions[0].created_at, made.created_at);
    assert!(made.created_at.is_some());
}

async fn a_rotation_is_found_by_its_own_mark_alone(manager: &dyn KeyManager, fixture: &Fixture) {
    let key = (fixture.new_key)("found");
    let request = request(manager, &key).await;
    let first = manager.create_version(&request).await.unwrap();
    let second = manager.create_version(&request).await.unwrap();
    assert_ne!(first.provider_ref, second.provider_ref);
    let found = manager.find_created(&request).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found[0].created_at <= found[1].created_at, "the oldest comes first");

    let other = CreateVersion { rotation_id: new_id(), ..request };
    assert_eq!(manager.find_created(&other).await, Ok(vec![]));
}

async fn a_promoted_version_is_primary_and_proven(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("promoted");
    let version = make(manager, &mut key).await;
    manager.promote(&key, None, &version).await.unwrap();
    assert_eq!(manager.primary(&key).await, Ok(Some(version.clone())));
    manager.prove_primary(&key, None, &version).await.unwrap();
    manager.promote(&key, None, &version).await.expect("promoting twice is promoting once");

    key.primary = Some(version.clone());
    let observed = present(manager, &key).await;
    assert_eq!(observed.primary, Some(version.clone()));
    assert_eq!(states(&observed), [VersionState::Active]);
    manager.update_settings(&key, Some(&key.key), &version).await.unwrap();
    manager.update_settings(&key, Some(&key.key), &version).await.expect("the same settings twice are no change");
}

async fn what_is_encrypted_decrypts_to_the_same(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("encrypts");
    rotate(manager, &mut key).await;
    for plaintext in [b"x".as_slice(), b"patient data", &[0; MAX_PLAINTEXT]] {
        let ciphertext = manager.encrypt(&key, plaintext).await.unwrap();
        assert_eq!(manager.decrypt(&key, &ciphertext).await.unwrap(), plaintext);
        assert_ne!(manager.encrypt(&key, plaintext).await.unwrap(), ciphertext, "no two ciphertexts are equal");
    }
    assert!(manager.encrypt(&key, &[0; MAX_PLAINTEXT + 1]).await.is_err());
}

async fn what_is_not_a_ciphertext_of_the_key_is_refused(manager: &dyn KeyManager, fixture: &Fixture) {
    let (mut key, mut other) = ((fixture.new_key)("one"), (fixture.new_key)("other"));
    rotate(manager, &mut key).await;
    rotate(manager, &mut other).await;
    let ciphertext = manager.encrypt(&key, b"plaintext").await.unwrap();

    let mut changed = ciphertext.clone();
    *changed.last_mut().unwrap() ^= 1;
    for (handle, bytes) in [(&key, changed.as_slice()), (&key, b"not a ciphertext"), (&other, &ciphertext)] {
        let error = manager.decrypt(handle, bytes).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
    }
}

async fn a_rotation_keeps_old_data_readable(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("rotated");
    let first = rotate(manager, &mut key).await;
    let old = manager.encrypt(&key, b"old").await.unwrap();
    let second = rotate(manager, &mut key).await;
    let new = manager.encrypt(&key, b"new").await.unwrap();
    assert_ne!(first, second);
    assert_eq!(manager.primary(&key).await, Ok(Some(second.clone())));
    assert_eq!(manager.decrypt(&key, &old).await.unwrap(), b"old");
    assert_eq!(manager.decrypt(&key, &new).await.unwrap(), b"new");

    let observed = present(manager, &key).await;
    assert_eq!(observed.versions.iter().map(|version| &version.provider_ref).collect::<Vec<_>>(), [&first, &second]);
    assert_eq!(states(&observed)[1], VersionState::Active);
    assert_ne!(states(&observed)[0], VersionState::Active);
}

async fn a_rollback_keeps_newer_data_readable(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("rolled-back");
    let first = rotate(manager, &mut key).await;
    let second = rotate(manager, &mut key).await;
    let newer = manager.encrypt(&key, b"newer").await.unwrap();

    manager.promote(&key, Some(&second), &first).await.unwrap();
    assert_eq!(manager.primary(&key).await, Ok(Some(first.clone())));
    manager.prove_primary(&key, Some(&second), &first).await.unwrap();
    assert!(manager.prove_primary(&key, Some(&first), &second).await.is_err(), "it is not primary any more");
    assert_eq!(manager.decrypt(&key, &newer).await.unwrap(), b"newer");
}

async fn a_disabled_version_stays_disabled(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("disabled");
    let first = rotate(manager, &mut key).await;
    let old = manager.encrypt(&key, b"old").await.unwrap();
    rotate(manager, &mut key).await;
    let new = manager.encrypt(&key, b"new").await.unwrap();

    manager.disable(&key, &first).await.unwrap();
    manager.disable(&key, &first).await.expect("disabling twice is disabling once");
    assert_eq!(states(&present(manager, &key).await), [VersionState::Disabled, VersionState::Active]);
    assert_eq!(manager.decrypt(&key, &new).await.unwrap(), b"new");
    if fixture.enforces_states {
        assert_eq!(manager.decrypt(&key, &old).await.unwrap_err().kind, ErrorKind::Refused);
    }
}

async fn a_version_retires_step_by_step_and_comes_back(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("retired");
    let first = rotate(manager, &mut key).await;
    let old = manager.encrypt(&key, b"old").await.unwrap();
    rotate(manager, &mut key).await;
    let state = async || states(&present(manager, &key).await)[0];

    assert!(manager.schedule_destruction(&key, &first).await.is_err(), "it is not disabled");
    manager.enable(&key, &first).await.expect("what is enabled is enabled");
    manager.disable(&key, &first).await.unwrap();
    manager.enable(&key, &first).await.unwrap();
    assert_eq!(manager.decrypt(&key, &old).await.unwrap(), b"old");

    manager.disable(&key, &first).await.unwrap();
    manager.cancel_destruction(&key, &first).await.expect("what is not scheduled is not scheduled");
    let ends = manager.schedule_destruction(&key, &first).await.unwrap();
    assert_eq!(state().await, VersionState::PendingDestruction);
    assert_eq!(manager.schedule_destruction(&key, &first).await.unwrap(), ends, "the period does not begin anew");
    let days = (ends - present(manager, &key).await.versions[0].created_at.unwrap()).num_days();
    assert!((29..=31).contains(&days), "{days}");
    assert!(manager.destroy(&key, &first).await.is_err(), "its waiting period has not ended");
    if fixture.enforces_states {
        assert_eq!(manager.decrypt(&key, &old).await.unwrap_err().kind, ErrorKind::Refused);
        assert!(manager.enable(&key, &first).await.is_err(), "its destruction is cancelled first");
    }
    manager.cancel_destruction(&key, &first).await.unwrap();
    assert_eq!(state().await, VersionState::Disabled);
    manager.enable(&key, &first).await.unwrap();
    assert_eq!(manager.decrypt(&key, &old).await.unwrap(), b"old");
}

async fn the_primary_never_retires(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("in-use");
    let primary = rotate(manager, &mut key).await;
    for error in [
        manager.disable(&key, &primary).await.unwrap_err(),
        manager.schedule_destruction(&key, &primary).await.unwrap_err(),
        manager.destroy(&key, &primary).await.unwrap_err(),
    ] {
        assert!(!error.is_unknown(), "{error}");
    }
    manager.prove_primary(&key, None, &primary).await.unwrap();
}

async fn an_existing_key_is_found_by_the_documents_id(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("adopted");
    let version = rotate(manager, &mut key).await;
    let ciphertext = manager.encrypt(&key, b"before").await.unwrap();

    // Another document of the same tenant, as somebody would write it whose state database knows nothing of the key.
    let mut adopting = KeyHandle { key_id: Some(new_id()), versions: vec![], primary: None, ..key };
    adopting.key.kms_key_id = Some((fixture.kms_key_id)(&version));
    let unrecorded = KeyHandle { key_id: None, ..adopting.clone() };
    assert_eq!(present(manager, &unrecorded).await.named, Some(version.clone()));
    assert_eq!(present(manager, &adopting).await.named, Some(version.clone()));

    adopting.versions.push(version.clone());
    adopting.primary = Some(version.clone());
    let successor = rotate(manager, &mut adopting).await;
    assert_ne!(successor, version);
    assert_eq!(manager.decrypt(&adopting, &ciphertext).await.unwrap(), b"before");
}

async fn one_key_never_hides_another(manager: &dyn KeyManager, fixture: &Fixture) {
    let (mut one, absent, mut two) =
        ((fixture.new_key)("first"), (fixture.new_key)("absent"), (fixture.new_key)("last"));
    let (first, last) = (rotate(manager, &mut one).await, rotate(manager, &mut two).await);
    let observed = manager.observe(&[one, absent, two]).await;
    let primaries: Vec<_> = observed
        .iter()
        .map(|observation| match observation {
            Observation::Present(key) => key.primary.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(primaries, [Some(first), None, Some(last)]);
    assert_eq!(observed[1], Observation::Missing);
    assert_eq!(manager.observe(&[]).await, []);
}

async fn every_version_is_owned(manager: &dyn KeyManager, fixture: &Fixture) {
    let mut key = (fixture.new_key)("owned");
    let lineage = new_id();
    let request = CreateVersion { lineage, ..request(manager, &key).await };
    let version = manager.create_version(&request).await.unwrap().provider_ref;
    key.versions.push(version.clone());
    let owned = manager.owned().await.unwrap();
    let entry = owned.iter().find(|owned| owned.provider_ref == version).expect("the version is listed");
    assert_eq!((entry.lineage, entry.key_id), (Some(lineage), key.key_id));
}

/// A request for the next version, as the engine makes it.
async fn request(manager: &dyn KeyManager, key: &KeyHandle) -> CreateVersion {
    CreateVersion {
        key: key.clone(),
        rotation_id: new_id(),
        lineage: Uuid::from_u128(1),
        predecessor: key.primary.clone(),
        intent: manager.intent(key).await.unwrap(),
    }
}

/// Makes the next version, proves it and records it in the handle.
async fn make(manager: &dyn KeyManager, key: &mut KeyHandle) -> String {
    let request = request(manager, key).await;
    let Found { provider_ref, .. } = manager.create_version(&request).await.unwrap();
    manager.verify(&request, &provider_ref).await.unwrap();
    manager.verify(&request, &provider_ref).await.expect("proving twice is proving once");
    key.versions.push(provider_ref.clone());
    provider_ref
}

/// A whole rotation, as the engine does it.
pub async fn rotate(manager: &dyn KeyManager, key: &mut KeyHandle) -> String {
    let version = make(manager, key).await;
    let from = manager.primary(key).await.unwrap();
    assert_eq!(from, key.primary);
    manager.promote(key, from.as_deref(), &version).await.unwrap();
    manager.prove_primary(key, from.as_deref(), &version).await.unwrap();
    key.primary = Some(version.clone());
    version
}

async fn present(manager: &dyn KeyManager, key: &KeyHandle) -> ObservedKey {
    match manager.observe(std::slice::from_ref(key)).await.as_slice() {
        [Observation::Present(observed)] => observed.clone(),
        other => panic!("{} is not there: {other:?}", key.address),
    }
}

fn states(observed: &ObservedKey) -> Vec<VersionState> {
    observed.versions.iter().map(|version| version.state).collect()
}

fn refs(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.provider_ref.as_str()).collect()
}
