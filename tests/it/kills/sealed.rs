//! What applications made with a key, at every stage of a campaign, and need to read for ever.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fleet::{Kind, Member};
use super::world::World;

/// A ciphertext, a MAC or a signature, and what it is of.
pub struct Sealed {
    member: Member,
    /// The key behind the alias at that moment; for the keystore, the key's name.
    key: String,
    text: String,
    made: String,
}

impl World {
    /// Uses each key as applications do, by its alias, where there is one already.
    pub fn seal(&mut self, fleet: &[Member]) {
        for member in fleet {
            let text = format!("patient {}", self.sealed.len());
            if let Some((key, made)) = self.use_key(member, &text) {
                self.sealed.push(Sealed { member: member.clone(), key, text, made });
            }
        }
    }

    fn use_key(&self, member: &Member, text: &str) -> Option<(String, String)> {
        if member.kind == Kind::Local {
            let address = format!("acme/{}", member.name);
            let done = self.run(&["data", "encrypt", &address]).input(text.as_bytes()).ends();
            return (done.status == Some(0)).then_some((address, done.stdout));
        }
        let (alias, plain) = (member.alias(), STANDARD.encode(text));
        let (operation, request, field) = match member.kind {
            Kind::Mac => ("GenerateMac", json!({"KeyId": alias, "Message": plain, "MacAlgorithm": MAC}), "Mac"),
            Kind::Signing => ("Sign", json!({"KeyId": alias, "Message": plain, "SigningAlgorithm": SIGN}), "Signature"),
            Kind::Symmetric | Kind::Local => ("Encrypt", json!({"KeyId": alias, "Plaintext": plain}), "CiphertextBlob"),
        };
        let (status, answer) = self.kms(member.region).send(operation, &request);
        if status != 200 {
            assert_eq!(answer["__type"], "NotFoundException", "{}: {answer}", member.name);
            return None;
        }
        let key = self.kms(member.region).describe(&alias)["Arn"].as_str().unwrap().to_owned();
        Some((key, answer[field].as_str().unwrap().to_owned()))
    }

    /// Everything that was ever made with any key is still good.
    pub fn unseal(&self) {
        for Sealed { member, key, text, made } in &self.sealed {
            let kms = self.kms(member.region);
            let message = STANDARD.encode(text);
            let good = match member.kind {
                Kind::Local => self.run(&["data", "decrypt"]).input(made.as_bytes()).exits(0).stdout == *text,
                Kind::Symmetric => kms.decrypt(made) == *text,
                Kind::Mac => {
                    let request = json!({"KeyId": key, "Message": message, "Mac": made, "MacAlgorithm": MAC});
                    kms.call("VerifyMac", &request)["MacValid"] == Value::Bool(true)
                }
                Kind::Signing => {
                    let request =
                        json!({"KeyId": key, "Message": message, "Signature": made, "SigningAlgorithm": SIGN});
                    kms.call("Verify", &request)["SignatureValid"] == Value::Bool(true)
                }
            };
            assert!(good, "{text}, of {} under {key}", member.name);
        }
    }
}

const MAC: &str = "HMAC_SHA_256";
const SIGN: &str = "ECDSA_SHA_256";
