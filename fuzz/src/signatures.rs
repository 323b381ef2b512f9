//! Keys and signatures of owners: `=== key` parts as `signing_key` has them, a `=== signature`, and the `=== message` that it is of.

use keywheel::model::{Owner, Timestamp};
use keywheel::signature::{self, Key};

/// A signature that holds is of one message and, where its key is known, of one key that says so.
pub fn run(input: &[u8]) -> bool {
    let (mut keys, mut texts, mut armour, mut message) = (Vec::new(), Vec::new(), "", &b""[..]);
    for (title, content) in super::parts(input) {
        let text = std::str::from_utf8(content).unwrap_or_default();
        match title {
            "key" => {
                if let Ok(key) = Key::parse(text) {
                    assert!(!key.to_string().is_empty());
                    keys.push(key);
                    texts.push(text);
                }
            }
            "signature" => armour = text,
            // Parts end with a line feed that is not theirs.
            "message" => message = content.strip_suffix(b"\n").unwrap_or(content),
            _ => {}
        }
    }
    let _ = signature::claimed(armour, signature::GIT, message);
    let Ok(signed) = signature::verify(armour, signature::GIT, message, &keys) else { return false };
    for other in [[message, b"!"].concat(), message.get(1..).unwrap_or(b"another").to_vec()] {
        assert!(signature::verify(armour, signature::GIT, &other, &keys).is_err(), "it is of two messages");
    }
    for (key, text) in keys.iter().zip(texts).filter(|(key, _)| key.made(&signed)) {
        let owner = |revoked| Owner {
            principal: "somebody".to_owned(),
            signing_key: text.to_owned(),
            revoked,
            valid_after: None,
            valid_before: None,
        };
        let stands = |revoked| signature::standing(&owner(revoked), key, &signed, &[Timestamp::UNIX_EPOCH]);
        let _ = stands(false);
        assert!(stands(true).is_err(), "what is revoked counts for nothing");
    }
    true
}
