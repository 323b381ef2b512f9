//! The local provider's keystore: records that are sealed rightly and say anything, and a file that was damaged.
//!
//! Parts are `record` (the bytes of one record, sealed here as the keystore's layout is documented), `raw` (bytes as they
//! are), `cut` (so many bytes of the end are missing) and `flip` (this bit is another). The sealing is written out here a
//! second time, so that a change of the layout shows as a corpus that does not open any more.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf;
use keywheel::document::LocalConfig;
use keywheel::model::{Address, EncryptionKey, Name};
use keywheel::provider::local::LocalReader;
use keywheel::provider::{ErrorKind, KeyHandle, Observe as _};
use serde_json::json;
use uuid::Uuid;

const SALT: [u8; 32] = [7; 32];
const ROOT_KEY: [u8; 32] = [b'k'; 32];
const ROOT_KEY_TEXT: &str = "6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b";

/// A keystore opens, or is said to be damaged; what opens is what its undamaged records say, or less of its end.
pub fn run(input: &[u8]) -> bool {
    let folder = Folder::new();
    let (sound, damaged) = assemble(input);
    let whole = folder.open(&sound);
    let rest = if damaged == sound { None } else { folder.open(&damaged) };
    // Records are sealed with their position: damage can hide the last ones, and never show others.
    if let (Some(whole), Some(rest)) = (&whole, &rest) {
        assert!(rest.len() <= whole.len(), "damage made a version: {rest:?} of {whole:?}");
        assert!(rest.iter().all(|version| whole.contains(version)), "damage changed a version: {rest:?} of {whole:?}");
    }
    whole.is_some_and(|versions| !versions.is_empty())
}

/// The file as its records make it, and as it was damaged afterwards.
fn assemble(input: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut file = SEALED.header.clone();
    let mut position = 0_u64;
    let mut damage: Vec<(bool, usize)> = Vec::new();
    let mut is_raw = false;
    for (title, content) in super::parts(input) {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        match title.split_once(' ').unwrap_or((title, "")) {
            ("record", _) => {
                file.extend(SEALED.seal(position, content));
                position += 1;
            }
            ("raw", _) => {
                file.extend_from_slice(content);
                is_raw = true;
            }
            ("cut", count) => damage.extend(count.parse().ok().map(|count| (true, count))),
            ("flip", bit) => damage.extend(bit.parse().ok().map(|bit| (false, bit))),
            _ => {}
        }
    }
    let mut damaged = file.clone();
    for (is_cut, number) in damage {
        if is_cut {
            damaged.truncate(damaged.len().saturating_sub(number));
        } else if let Some(byte) = damaged.get_mut(number / 8) {
            *byte ^= 1 << (number % 8);
        }
    }
    // Raw bytes are damage already: there is no sound file to compare with.
    if is_raw { (damaged.clone(), damaged) } else { (file, damaged) }
}

/// A folder in memory, where the machine has one, with the root key in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder");
        fs::write(folder.path().join("root.key"), ROOT_KEY_TEXT).expect("a root key");
        Self(folder)
    }

    /// Each version that it names; nothing if it does not open.
    fn open(&self, file: &[u8]) -> Option<Vec<String>> {
        let config = LocalConfig { keystore: "keystore".to_owned(), root_key_file: Some("root.key".to_owned()) };
        fs::write(self.0.path().join("keystore"), file).expect("a keystore");
        let reader = match LocalReader::open(&config, self.0.path()) {
            Ok(reader) => reader,
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Storage, "{error}");
                return None;
            }
        };
        let handle = handle();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let owned = reader.owned().await.expect("what is read is listed");
            let _ = reader.observe(std::slice::from_ref(&handle)).await;
            let primary = reader.primary(&handle).await.expect("what is read is looked up");
            assert!(primary.is_none_or(|primary| owned.iter().any(|version| version.provider_ref == primary)));
            Some(owned.iter().map(|version| format!("{version:?}")).collect())
        })
    }
}

/// A key that the corpus knows.
fn handle() -> KeyHandle {
    let tenant_id = Name::new("acme").expect("a name");
    let document =
        json!({"tenant_id": "acme", "key_name": "patients", "key_type": "phi_data", "kms_provider": "local"});
    let key: EncryptionKey = serde_json::from_value(document).expect("a key");
    let key_id = Uuid::from_bytes([b'k'; 16]);
    let address = Address::new(tenant_id, key.key_name.clone());
    KeyHandle { key_id: Some(key_id), address, key, versions: vec![format!("{key_id}:1")], primary: None }
}

/// The header and the key that this root key and salt give.
struct Sealed {
    header: Vec<u8>,
    key: LessSafeKey,
}

static SEALED: LazyLock<Sealed> = LazyLock::new(|| {
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, &SALT).extract(&ROOT_KEY);
    let derive = |info: &[u8]| {
        let mut key = [0; 32];
        root.expand(&[info], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key)).expect("32 bytes");
        key
    };
    let mut header = b"\x89KWKS\r\n\n\0\0\0\x01".to_vec();
    header.extend(SALT);
    header.extend(derive(b"keywheel keystore 1: key check"));
    let sum = digest(&SHA256, &header);
    header.extend(&sum.as_ref()[..16]);
    let key = UnboundKey::new(&AES_256_GCM, &derive(b"keywheel keystore 1: records")).expect("32 bytes");
    Sealed { header, key: LessSafeKey::new(key) }
});

impl Sealed {
    /// A frame: length, its complement, nonce, sealed record, tag.
    fn seal(&self, position: u64, record: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&position.to_be_bytes());
        let mut body = record.to_vec();
        let sealed = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(sealed, Aad::from(position.to_be_bytes()), &mut body)
            .expect("a short record");
        let length = u32::try_from(nonce.len() + body.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &(!length).to_be_bytes(), &nonce, &body].concat()
    }
}
