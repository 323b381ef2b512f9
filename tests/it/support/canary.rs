//! Secrets that a test gives away knowingly, and every form in which one of them could show.

use std::fs;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Shorter ones stand in a text by chance.
const SHORTEST: usize = 8;

/// One secret.
pub struct Canary {
    /// Where it entered.
    pub name: String,
    /// What it looks like, with the name of the form.
    forms: Vec<(&'static str, String)>,
}

impl Canary {
    /// A secret of these bytes.
    pub fn new(name: impl Into<String>, secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        assert!(secret.len() >= SHORTEST);
        let each = |form: &dyn Fn(u8) -> String| secret.iter().map(|byte| form(*byte)).collect::<String>();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let percent = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let listed = |separator: &str| secret.iter().map(u8::to_string).collect::<Vec<_>>().join(separator);
        let mut forms = vec![
            ("as it is", latin(secret)),
            ("backwards", latin(&secret.iter().rev().copied().collect::<Vec<_>>())),
            ("hex", each(&|byte| format!("{byte:02x}"))),
            ("hex in capitals", each(&|byte| format!("{byte:02X}"))),
            ("percent-encoded", each(&percent)),
            ("percent-encoded in small letters", each(&percent).to_lowercase()),
            ("percent-encoded throughout", each(&|byte| format!("%{byte:02X}"))),
            ("a list of numbers", listed(", ")),
            ("a JSON list of numbers", listed(",")),
            ("as Rust escapes it", secret.escape_ascii().to_string()),
        ];
        for shift in 0..3 {
            forms.push(("base64", within(&STANDARD.encode([&vec![0; shift], secret].concat()), shift, secret.len())));
            forms
                .push(("base64url", within(&URL_SAFE.encode([&vec![0; shift], secret].concat()), shift, secret.len())));
        }
        if let Ok(text) = std::str::from_utf8(secret) {
            let json = |text: &str| {
                let quoted = serde_json::to_string(text).unwrap();
                quoted[1..quoted.len() - 1].to_owned()
            };
            forms.push(("a JSON string", latin(json(text).as_bytes())));
            forms.push(("JSON in JSON", latin(json(&json(text)).as_bytes())));
        }
        forms.retain(|(_, form)| form.len() >= SHORTEST);
        forms.sort_by(|a, b| a.1.cmp(&b.1));
        forms.dedup_by(|a, b| a.1 == b.1);
        Self { name: name.into(), forms }
    }

    /// The form in which it stands among these bytes, and what stands around it there.
    pub fn found_in(&self, bytes: &Searched) -> Option<(&'static str, String)> {
        let (form, at) = self.forms.iter().find_map(|(form, text)| Some((*form, bytes.0.find(text.as_str())?)))?;
        let around: String = bytes.0[..at].chars().rev().take(600).collect();
        let before: String = around.chars().rev().collect();
        Some((form, format!("{before}{}", bytes.0[at..].chars().take(300).collect::<String>())))
    }
}

/// Bytes to look through, one character each, as text is what the standard library finds fast.
pub struct Searched(String);

impl Searched {
    /// These bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(latin(bytes))
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The characters of a base64 text that say nothing but `length` bytes from `start` on.
fn within(text: &str, start: usize, length: usize) -> String {
    text[(start * 8).div_ceil(6)..(start + length) * 8 / 6].to_owned()
}

/// Every key that a keystore of the local provider keeps, unsealed as its layout is documented.
pub fn materials(keystore: &Path, root_key: &[u8; 32]) -> Vec<Vec<u8>> {
    const HEADER: usize = 8 + 4 + 32 + 32 + 16;
    /// Kind, key, version, time, key id, rotation id, lineage.
    const BEFORE: usize = 1 + 16 + 4 + 8 + 3 * 16;
    let file = fs::read(keystore).unwrap();
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, &file[12..44]).extract(root_key);
    let mut key = [0; 32];
    root.expand(&[b"keywheel keystore 1: records"], hkdf::HKDF_SHA256).unwrap().fill(&mut key).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let (mut at, mut position, mut materials) = (HEADER, 0_u64, Vec::new());
    while at < file.len() {
        let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let mut sealed = file[at + 8..at + 8 + length].to_vec();
        let (nonce, body) = sealed.split_first_chunk_mut::<12>().unwrap();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let record = key.open_in_place(nonce, Aad::from(position.to_be_bytes()), body).unwrap();
        if record[0] == 1 {
            materials.push(record[BEFORE..BEFORE + 32].to_vec());
        }
        (at, position) = (at + 8 + length, position + 1);
    }
    materials
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = "p@ss/wörd\"123";
    let canary = Canary::new("a password", secret);
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let forms = [
        secret.to_owned(),
        format!("\\x{hex}"),
        STANDARD.encode(format!("x{secret}y")),
        URL_SAFE.encode(format!("xy{secret}z")),
        "p%40ss%2Fw%C3%B6rd%22123".to_owned(),
        serde_json::json!({"a": secret}).to_string(),
        serde_json::json!({"a": serde_json::json!({"a": secret}).to_string()}).to_string(),
        format!("{:?}", secret.as_bytes()),
    ];
    for form in forms {
        assert!(canary.found_in(&Searched::new(format!("before {form} after").as_bytes())).is_some(), "{form}");
    }
    assert!(canary.found_in(&Searched::new(b"something else")).is_none());
}
