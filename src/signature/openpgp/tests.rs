use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

const MESSAGE: &[u8] = include_bytes!("testdata/message");

/// A text that `gpg` made: testdata/make says how.
macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("testdata/", $name))
    };
}

fn key(text: &str) -> Certificate {
    Certificate::parse(text).unwrap()
}

fn at(day: &str) -> Timestamp {
    format!("{day}T12:00:00Z").parse().unwrap()
}

fn made(signature: &str, key: &Certificate) -> Result<Signed, SignatureError> {
    verify(signature, MESSAGE, [key].into_iter())
}

/// What stands of a signature at some instants.
fn stands(signature: &str, key: &Certificate, days: &[&str]) -> Result<(), Standing> {
    let days: Vec<_> = days.iter().map(|day| at(day)).collect();
    key.standing(&made(signature, key).unwrap(), &days)
}

#[test]
fn what_gpg_signed_with_each_kind_of_key_is_recognised() {
    for (key_text, signature) in [
        (text!("ada.key"), text!("ada-primary.sig")),
        (text!("ada.key"), text!("ada-subkey.sig")),
        (text!("ada.key"), text!("ada-sha512.sig")),
        (text!("rsa2048.key"), text!("rsa2048.sig")),
        (text!("nistp256.key"), text!("nistp256.sig")),
        (text!("nistp384.key"), text!("nistp384.sig")),
        (text!("nistp521.key"), text!("nistp521.sig")),
    ] {
        let key = key(key_text);
        let signed = made(signature, &key).unwrap();
        assert!(key.made(&signed) && signed.to_string() == key.to_string() && key.to_string().len() == 40);
        assert_eq!(key.standing(&signed, &[at("2026-03-01"), at("2030-01-01")]), Ok(()));
        let changed = [MESSAGE, b"!"].concat();
        assert_eq!(verify(signature, &changed, [&key].into_iter()), Err(SignatureError::Wrong));
    }
}

#[test]
fn a_signature_is_of_one_of_the_keys_that_are_known() {
    let (ada, bob) = (key(text!("ada.key")), key(text!("bob-expired.key")));
    let signed = verify(text!("ada-subkey.sig"), MESSAGE, [&bob, &ada].into_iter()).unwrap();
    assert!(ada.made(&signed) && !bob.made(&signed));
    let stranger = made(text!("ada-primary.sig"), &bob);
    assert_eq!(stranger, Err(SignatureError::Unknown(ada.to_string())));
    assert!(matches!(made(text!("ada-primary.sig"), &key(text!("rsa2048.key"))), Err(SignatureError::Unknown(_))));
}

#[test]
fn only_detached_signatures_of_strong_hashes_over_bytes_count() {
    let ada = key(text!("ada.key"));
    assert_eq!(made(text!("ada-sha1.sig"), &ada), Err(SignatureError::Weak));
    assert_eq!(made(text!("ada-text.sig"), &ada), Err(SignatureError::Form));
    let inline = text!("ada-inline.sig").replace("PGP MESSAGE", "PGP SIGNATURE");
    assert_eq!(made(&inline, &ada), Err(SignatureError::Form), "compressed, and read by nobody");
    let two = packets_of(text!("ada-primary.sig"), "PGP SIGNATURE").repeat(2);
    assert_eq!(made(&armoured("PGP SIGNATURE", &two), &ada), Err(SignatureError::Form));
    let long = format!("-----BEGIN PGP SIGNATURE-----\nComment: {}\n", "a".repeat(MAX_SIGNATURE));
    assert_eq!(
        made(&text!("ada-primary.sig").replace("-----BEGIN PGP SIGNATURE-----\n", &long), &ada),
        Err(SignatureError::Form)
    );
}

#[test]
fn an_expired_key_never_counts_whatever_date_its_signature_bears() {
    let bob = key(text!("bob-expired.key"));
    for signature in [text!("bob-primary.sig"), text!("bob-subkey.sig")] {
        assert_eq!(stands(signature, &bob, &["2026-01-15", "2026-01-31"]), Ok(()));
        assert_eq!(stands(signature, &bob, &["2026-01-15", "2026-02-02"]), Err(Standing::Expired));
        assert_eq!(stands(signature, &bob, &["2026-02-02", "2026-01-15"]), Err(Standing::Expired));
    }
    let renewed = key(text!("bob-renewed.key"));
    assert_eq!(stands(text!("bob-primary.sig"), &renewed, &["2026-02-02"]), Ok(()), "the newest says what holds");
    assert_eq!(stands(text!("bob-primary.sig"), &renewed, &["2026-06-02"]), Err(Standing::Expired));
    let carol = key(text!("carol-expired-subkey.key"));
    assert_eq!(stands(text!("carol-subkey.sig"), &carol, &["2026-01-31"]), Ok(()));
    assert_eq!(stands(text!("carol-subkey.sig"), &carol, &["2026-02-02"]), Err(Standing::Expired));
}

#[test]
fn a_signature_may_end_before_its_key_and_none_is_older_than_its_key() {
    let ada = key(text!("ada.key"));
    assert_eq!(stands(text!("ada-ends.sig"), &ada, &["2026-03-09"]), Ok(()));
    assert_eq!(stands(text!("ada-ends.sig"), &ada, &["2026-03-12"]), Err(Standing::Expired));
    assert_eq!(stands(text!("ada-early.sig"), &ada, &["2026-03-01"]), Err(Standing::TooEarly));
    assert_eq!(stands(text!("ada-primary.sig"), &ada, &["2025-12-31"]), Err(Standing::TooEarly));
}

#[test]
fn a_revoked_key_or_subkey_never_counts() {
    let days = &["2026-01-15", "2026-02-02"];
    let revoked = key(text!("ada-revoked.key"));
    for signature in [text!("ada-primary.sig"), text!("ada-subkey.sig")] {
        assert_eq!(stands(signature, &revoked, days), Err(Standing::Revoked));
    }
    let revoked = key(text!("ada-revoked-subkey.key"));
    assert_eq!(stands(text!("ada-subkey.sig"), &revoked, days), Err(Standing::Revoked));
    assert_eq!(stands(text!("ada-primary.sig"), &revoked, days), Ok(()));
    // The same signature by what another document knows about the key.
    let signed = made(text!("ada-subkey.sig"), &key(text!("ada.key"))).unwrap();
    assert!(revoked.revokes(&signed));
}

#[test]
fn a_text_that_is_no_usable_key_says_why() {
    for (text, why) in [
        (text!("private.key"), KeyError::Private),
        (text!("two.key"), KeyError::Several),
        (text!("brainpool.key"), KeyError::Kind),
        (text!("dave-no-signer.key"), KeyError::NoSigner),
        (text!("erin-sha1.key"), KeyError::Unsigned),
        (text!("ada-primary.sig"), KeyError::Form),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----", KeyError::Form),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----", KeyError::Form),
    ] {
        assert_eq!(Certificate::parse(text).unwrap_err(), why, "{text}");
    }
    // Secret packets under a public label.
    let secret = packets_of(text!("private.key"), "PGP PRIVATE KEY BLOCK");
    assert_eq!(Certificate::parse(&armoured(LABEL, &secret)).unwrap_err(), KeyError::Private);
    let many = format!("{}{}", text!("ada.key"), "\n".repeat(MAX_KEY));
    assert_eq!(Certificate::parse(&many).unwrap_err(), KeyError::Long);
    let many = [packets_of(text!("ada.key"), LABEL), [0xB4, 0].repeat(MAX_PACKETS)].concat();
    assert_eq!(Certificate::parse(&armoured(LABEL, &many)).unwrap_err(), KeyError::Form);
}

#[test]
fn a_subkey_that_does_not_agree_signs_nothing() {
    let bytes = packets_of(text!("ada.key"), LABEL);
    let packets = packet::packets(&bytes, MAX_PACKETS).unwrap();
    // The signature of the subkey stands within the binding, under the number 32; under another one it says nothing.
    let mut without = Vec::new();
    for (tag, body) in &packets {
        let mut body = body.to_vec();
        if packet::kind(&body) == Some(SUBKEY_BINDING)
            && let Some(position) = body.windows(4).position(|bytes| bytes == [32, 4, PRIMARY_KEY_BINDING, 22])
        {
            body[position] = 20;
        }
        without.extend(packet_of(*tag, &body));
    }
    assert_ne!(without, packets.iter().flat_map(|(tag, body)| packet_of(*tag, body)).collect::<Vec<_>>());
    let key = key(&armoured(LABEL, &without));
    assert_eq!(stands(text!("ada-subkey.sig"), &key, &["2026-03-01"]), Err(Standing::NotForSigning));
    assert_eq!(stands(text!("ada-primary.sig"), &key, &["2026-03-01"]), Ok(()));
}

#[test]
fn a_subkey_of_another_key_is_not_taken_in() {
    let (ada, bob) = (packets_of(text!("ada.key"), LABEL), packets_of(text!("bob-renewed.key"), LABEL));
    let ada = packet::packets(&ada, MAX_PACKETS).unwrap();
    let subkey = ada.iter().skip_while(|(tag, _)| *tag != packet::PUBLIC_SUBKEY);
    let stolen = [bob, subkey.flat_map(|(tag, body)| packet_of(*tag, body)).collect()].concat();
    let bob = key(&armoured(LABEL, &stolen));
    assert!(matches!(made(text!("ada-subkey.sig"), &bob), Err(SignatureError::Unknown(_))));
}

#[test]
fn no_byte_of_a_signature_can_be_changed_for_another_meaning() {
    let ada = key(text!("ada.key"));
    let bytes = packets_of(text!("ada-primary.sig"), "PGP SIGNATURE");
    let own = made(text!("ada-primary.sig"), &ada).unwrap();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[index] ^= 1 << bit;
            // What is not signed itself may be changed, and then says the same or nothing.
            if let Ok(signed) = made(&armoured("PGP SIGNATURE", &changed), &ada) {
                assert_eq!(signed, own, "bit {bit} of byte {index}");
            }
        }
        assert!(made(&armoured("PGP SIGNATURE", &bytes[..index]), &ada).is_err());
    }
}

const LABEL: &str = "PGP PUBLIC KEY BLOCK";

fn packets_of(text: &str, label: &str) -> Vec<u8> {
    packet::unarmoured(label, text).unwrap()
}

fn packet_of(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[0xC0 | tag, 0xFF][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn armoured(label: &str, bytes: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n\n{}\n-----END {label}-----\n", STANDARD.encode(bytes))
}

proptest! {
    #[test]
    fn a_key_that_was_changed_gains_nothing(changes in prop::collection::vec((0_usize..2000, any::<u8>()), 1..4), cut in 0_usize..2000) {
        for text in [text!("ada.key"), text!("bob-expired.key"), text!("carol-expired-subkey.key"), text!("ada-revoked.key")] {
            let original = key(text);
            let mut bytes = packets_of(text, LABEL);
            for (index, byte) in &changes {
                let index = index % bytes.len();
                bytes[index] = *byte;
            }
            if cut % 4 == 0 {
                bytes.truncate(cut % bytes.len());
            }
            let Ok(changed) = Certificate::parse(&armoured(LABEL, &bytes)) else { continue };
            prop_assert_eq!(&changed.primary.key, &original.primary.key);
            for subkey in changed.subkeys.iter().filter(|subkey| subkey.may_sign) {
                let before = original.subkeys.iter().find(|before| before.key == subkey.key);
                prop_assert!(before.is_some_and(|before| before.may_sign && before.expires == subkey.expires));
            }
            prop_assert!(changed.primary.expires == original.primary.expires);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(-----BEGIN PGP (PUBLIC KEY BLOCK|SIGNATURE)-----\n)?(Comment: a\n)?\n?[A-Za-z0-9+/=\n]{0,300}(-----END PGP PUBLIC KEY BLOCK-----)?", bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Certificate::parse(&text);
        let _ = Certificate::parse(&armoured(LABEL, &bytes));
        let ada = key(text!("ada.key"));
        prop_assert!(made(&text, &ada).is_err());
        prop_assert!(made(&armoured("PGP SIGNATURE", &bytes), &ada).is_err());
    }
}
