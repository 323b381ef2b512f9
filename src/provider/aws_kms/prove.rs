//! Proofs: that a key does what it must, by using it.
//!
//! Every usage has a proof of its own. What is encrypted, signed or derived is a fixed text, never data. Invariant: an
//! answer counts only if AWS says that the expected key gave it.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    EncryptionAlgorithmSpec, KeyAgreementAlgorithmSpec, KeyUsageType, MacAlgorithmSpec, MessageType,
    SigningAlgorithmSpec,
};

use super::client::{Regional, Repeat};
use super::error::Failure;
use super::lookup::Described;
use super::operation::Operation;
use crate::provider::ErrorKind;

const TEXT: &[u8] = b"keywheel proves that this key works";

/// A name and value that a symmetric proof is bound to, and that AWS `CloudTrail` shows: whose proof it was.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub name: &'static str,
    pub value: String,
}

/// Uses the key that `through` (an ARN or an alias) leads to, and holds that it is `key`.
///
/// # Errors
/// [`ErrorKind::ProofFailed`] if the key does not do what it must, or another key answered.
pub(super) async fn works(
    regional: &Regional,
    through: &str,
    key: &Described,
    context: &Context,
) -> Result<(), Failure> {
    match key.usage() {
        None | Some(KeyUsageType::EncryptDecrypt) => encrypts(regional, through, key, context).await,
        Some(KeyUsageType::SignVerify) => signs(regional, through, key).await,
        Some(KeyUsageType::GenerateVerifyMac) => authenticates(regional, through, key).await,
        Some(KeyUsageType::KeyAgreement) => agrees(regional, through, key).await,
        Some(KeyUsageType::EncapsulateDecapsulate) => encapsulates(regional, through, key).await,
        Some(other) => {
            let message = format!("keywheel cannot prove a key for {}", other.as_str());
            Err(Failure::new(ErrorKind::Refused, Operation::DescribeKey, message))
        }
    }
}

async fn encrypts(regional: &Regional, through: &str, key: &Described, context: &Context) -> Result<(), Failure> {
    let algorithm = encryption_algorithm(key);
    let symmetric = algorithm == EncryptionAlgorithmSpec::SymmetricDefault;
    // Asymmetric encryption takes no context.
    let context = symmetric.then(|| [(context.name.to_owned(), context.value.clone())].into());
    let encrypted = regional
        .call(Operation::Encrypt, Repeat::Settling, || {
            let request = regional.kms.encrypt().key_id(through).plaintext(Blob::new(TEXT));
            let request = request.set_encryption_context(context.clone());
            request.encryption_algorithm(algorithm.clone()).send()
        })
        .await?;
    answered_by(Operation::Encrypt, encrypted.key_id(), through, key)?;
    let ciphertext = some(Operation::Encrypt, encrypted.ciphertext_blob, "CiphertextBlob")?;
    let decrypted = regional
        .call(Operation::Decrypt, Repeat::Settling, || {
            let request = regional.kms.decrypt().key_id(&key.arn).ciphertext_blob(ciphertext.clone());
            let request = request.set_encryption_context(context.clone());
            request.encryption_algorithm(algorithm.clone()).send()
        })
        .await?;
    answered_by(Operation::Decrypt, decrypted.key_id(), &key.arn, key)?;
    let plaintext = some(Operation::Decrypt, decrypted.plaintext, "Plaintext")?;
    holds(plaintext.as_ref() == TEXT, Operation::Decrypt, "what it encrypted decrypts to something else", key)
}

async fn signs(regional: &Regional, through: &str, key: &Described) -> Result<(), Failure> {
    let algorithm = some(Operation::Sign, signing_algorithm(key), "a signing algorithm")?;
    let signed = regional
        .call(Operation::Sign, Repeat::Settling, || {
            let request = regional.kms.sign().key_id(through).message(Blob::new(TEXT)).message_type(MessageType::Raw);
            request.signing_algorithm(algorithm.clone()).send()
        })
        .await?;
    answered_by(Operation::Sign, signed.key_id(), through, key)?;
    let signature = some(Operation::Sign, signed.signature, "Signature")?;
    let verified = regional
        .call(Operation::Verify, Repeat::Settling, || {
            let request = regional.kms.verify().key_id(&key.arn).message(Blob::new(TEXT));
            let request = request.message_type(MessageType::Raw).signature(signature.clone());
            request.signing_algorithm(algorithm.clone()).send()
        })
        .await?;
    holds(verified.signature_valid, Operation::Verify, "it does not verify its own signature", key)
}

async fn authenticates(regional: &Regional, through: &str, key: &Described) -> Result<(), Failure> {
    let algorithm = some(Operation::GenerateMac, mac_algorithm(key), "the key's spec")?;
    let made = regional
        .call(Operation::GenerateMac, Repeat::Settling, || {
            let request = regional.kms.generate_mac().key_id(through).message(Blob::new(TEXT));
            request.mac_algorithm(algorithm.clone()).send()
        })
        .await?;
    answered_by(Operation::GenerateMac, made.key_id(), through, key)?;
    let mac = some(Operation::GenerateMac, made.mac, "Mac")?;
    let verified = regional
        .call(Operation::VerifyMac, Repeat::Settling, || {
            let request = regional.kms.verify_mac().key_id(&key.arn).message(Blob::new(TEXT));
            request.mac_algorithm(algorithm.clone()).mac(mac.clone()).send()
        })
        .await?;
    holds(verified.mac_valid, Operation::VerifyMac, "it does not verify its own MAC", key)
}

/// Agrees on a secret with its own public key, which is a key of the right curve that is always at hand.
async fn agrees(regional: &Regional, through: &str, key: &Described) -> Result<(), Failure> {
    let operation = Operation::DeriveSharedSecret;
    let offered = key.metadata.key_agreement_algorithms().first();
    let algorithm = offered.cloned().unwrap_or(KeyAgreementAlgorithmSpec::Ecdh);
    let public = regional
        .call(Operation::GetPublicKey, Repeat::Settling, || regional.kms.get_public_key().key_id(&key.arn).send())
        .await?;
    let public = some(Operation::GetPublicKey, public.public_key, "PublicKey")?;
    let derive = async |through: &str| {
        let derived = regional
            .call(operation, Repeat::Settling, || {
                let request = regional.kms.derive_shared_secret().key_id(through);
                request.key_agreement_algorithm(algorithm.clone()).public_key(public.clone()).send()
            })
            .await?;
        some(operation, derived.shared_secret, "SharedSecret")
    };
    // Equal secrets say which key answered, also where an emulator only repeats the name that it was asked by.
    let (secret, own) = (derive(through).await?, derive(&key.arn).await?);
    if secret != own {
        let message = format!("{through} does not derive the secret that {} derives", key.arn);
        return Err(Failure::settling(operation, ErrorKind::ProofFailed, message));
    }
    holds(!secret.as_ref().is_empty(), operation, "it derives an empty secret", key)
}

async fn encapsulates(regional: &Regional, through: &str, key: &Described) -> Result<(), Failure> {
    let algorithm = some(Operation::Encapsulate, key.metadata.encapsulation_algorithms().first(), "an algorithm")?;
    let made = regional
        .call(Operation::Encapsulate, Repeat::Settling, || {
            regional.kms.encapsulate().key_id(through).encapsulation_algorithm(algorithm.clone()).send()
        })
        .await?;
    answered_by(Operation::Encapsulate, made.key_id(), through, key)?;
    let secret = some(Operation::Encapsulate, made.shared_secret, "SharedSecret")?;
    let sealed = some(Operation::Encapsulate, made.shared_secret_ciphertext_blob, "SharedSecretCiphertextBlob")?;
    let opened = regional
        .call(Operation::Decapsulate, Repeat::Settling, || {
            let request = regional.kms.decapsulate().key_id(&key.arn).encapsulation_algorithm(algorithm.clone());
            request.shared_secret_ciphertext_blob(sealed.clone()).send()
        })
        .await?;
    let equal = opened.shared_secret.is_some_and(|opened| opened.as_ref() == secret.as_ref());
    holds(equal, Operation::Decapsulate, "it opens its own capsule to another secret", key)
}

/// The strongest algorithm that every client of the key can be expected to have.
fn encryption_algorithm(key: &Described) -> EncryptionAlgorithmSpec {
    let offered = key.metadata.encryption_algorithms();
    let wanted = EncryptionAlgorithmSpec::RsaesOaepSha256;
    if offered.contains(&wanted) {
        return wanted;
    }
    offered.first().cloned().unwrap_or(EncryptionAlgorithmSpec::SymmetricDefault)
}

/// The first one that signs a raw message: the pre-hashed variant of Ed25519 takes a digest only.
fn signing_algorithm(key: &Described) -> Option<&SigningAlgorithmSpec> {
    key.metadata.signing_algorithms().iter().find(|offered| **offered != SigningAlgorithmSpec::Ed25519PhSha512)
}

/// An HMAC key has exactly one, which its spec names: `HMAC_256` makes `HMAC_SHA_256`.
fn mac_algorithm(key: &Described) -> Option<MacAlgorithmSpec> {
    let spec = key.metadata.key_spec.as_ref()?.as_str();
    Some(MacAlgorithmSpec::from(spec.replacen("HMAC_", "HMAC_SHA_", 1).as_str()))
}

fn some<T>(operation: Operation, value: Option<T>, name: &str) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::incomplete(operation, name))
}

fn holds(proven: bool, operation: Operation, otherwise: &str, key: &Described) -> Result<(), Failure> {
    if proven { Ok(()) } else { Err(Failure::unproven(operation, format!("{}: {otherwise}", key.arn))) }
}

/// Another key than the expected one may answer for a while after its alias moved.
fn answered_by(operation: Operation, answered: Option<&str>, through: &str, key: &Described) -> Result<(), Failure> {
    let answered = some(operation, answered, "the key's ARN")?;
    // Emulators give the bare id for some operations.
    if answered == key.arn || answered == key.key_id() {
        return Ok(());
    }
    let message = format!("{through} leads to {answered}, not to {}", key.arn);
    Err(Failure::settling(operation, ErrorKind::ProofFailed, message))
}
