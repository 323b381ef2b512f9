//! The key managers. Two traits: [`Observe`] only reads, and is all that a plan gets; [`KeyManager`] acts.
//!
//! Each provider lives in its own file, declares what it can do ([`capabilities`]), and passes one conformance suite.
//! A version is named by a *provider ref*: in AWS the key's ARN, in `local` `KEY:VERSION`.
//!
//! Must not know: the state database, git, plans, who asked.

pub mod aws_kms;
pub mod local;

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use crate::document::Capabilities;
use crate::model::{Address, EncryptionKey, KmsProvider, LastUse, Name, Observation, Timestamp};

/// What each provider can do.
#[must_use]
pub fn capabilities(provider: KmsProvider) -> Capabilities {
    match provider {
        KmsProvider::Local => local::CAPABILITIES,
        KmsProvider::AwsKms => aws_kms::CAPABILITIES,
        KmsProvider::VaultTransit | KmsProvider::Pkcs11 | KmsProvider::GcpKms | KmsProvider::AzureKeyVault => {
            Capabilities::NONE
        }
    }
}

/// One key, as a provider needs to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyHandle {
    /// keywheel's identity of the key; the name of the key in `local`. None for a key that is not recorded yet.
    pub key_id: Option<Uuid>,
    /// What a person calls it, for messages.
    pub address: Address,
    /// The document: region, alias, `kms_key_id`, spec, tags.
    pub key: EncryptionKey,
    /// The provider refs of its recorded versions, the oldest first.
    pub versions: Vec<String>,
    /// The recorded primary.
    pub primary: Option<String>,
}

/// A version to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateVersion {
    /// The key. Its `key_id` is set.
    pub key: KeyHandle,
    /// The rotation that makes it; the version carries it as a mark that [`KeyManager::find_created`] looks for.
    pub rotation_id: Uuid,
    /// The state database's identity, which the version carries too.
    pub lineage: Uuid,
    /// The version that it succeeds, whose spec, usage, key policy, tags, grants, description and regions it takes
    /// over; none for the first.
    pub predecessor: Option<String>,
    /// What [`KeyManager::intent`] noted before the first attempt.
    pub intent: Value,
}

/// A version that a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the provider calls it.
    pub provider_ref: String,
    /// When it was made, by the provider's clock.
    pub created_at: Option<Timestamp>,
}

/// A key at the provider that carries keywheel's marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// What the provider calls it.
    pub provider_ref: String,
    /// The state database that it belongs to.
    pub lineage: Option<Uuid>,
    /// The key that it is a version of.
    pub key_id: Option<Uuid>,
    /// The tenant that it belongs to.
    pub tenant_id: Option<Name>,
}

/// The reading half of a provider: all that a plan may use.
///
/// # Guarantees
/// No method changes anything at the provider.
#[async_trait]
pub trait Observe: Send + Sync {
    /// What the provider holds for each key, in the order of `keys`.
    ///
    /// A key without an answer is [`Observation::Unknown`] with the reason; one key's trouble never hides another's.
    /// For a key with `kms_key_id` that has no recorded primary, [`crate::model::ObservedKey::named`] is what that id,
    /// ARN or alias leads to; later nobody asks.
    async fn observe(&self, keys: &[KeyHandle]) -> Vec<Observation>;

    /// Every key that carries keywheel's marks, whichever state database they name: a lost database is not a first run.
    ///
    /// # Errors
    /// The list could not be read to its end.
    async fn owned(&self) -> Result<Vec<Owned>, ProviderError>;

    /// Where the stable name leads now; none if it does not exist.
    ///
    /// # Errors
    /// The provider gave no usable answer.
    async fn primary(&self, key: &KeyHandle) -> Result<Option<String>, ProviderError>;

    /// What a later probe needs to tell this rotation's effect from another's. It is stored with the intent.
    ///
    /// # Errors
    /// The provider gave no usable answer.
    async fn intent(&self, key: &KeyHandle) -> Result<Value, ProviderError>;

    /// The versions that carry a rotation's mark, the oldest first. None is left out because the provider contradicts
    /// itself about it: that is an error.
    ///
    /// # Errors
    /// The provider gave no usable answer; then nothing may be concluded.
    async fn find_created(&self, request: &CreateVersion) -> Result<Vec<Found>, ProviderError>;

    /// When a version was last used, successfully; none where the provider does not know, which is no evidence of anything.
    ///
    /// # Errors
    /// The provider gave no usable answer.
    async fn last_use(&self, key: &KeyHandle, version: &str) -> Result<Option<LastUse>, ProviderError>;
}

/// The acting half of a provider.
///
/// # Guarantees
/// When a method returns `Ok`, its effect is durable at the provider. When it returns an error for which
/// [`ProviderError::is_unknown`] holds, the effect may have happened.
///
/// # Assumes
/// The caller has made its intent durable before the call.
#[async_trait]
pub trait KeyManager: Observe {
    /// Makes one version, marked with `rotation_id`. It is not primary, and nobody uses it yet.
    ///
    /// Not idempotent: after an unknown outcome call [`Observe::find_created`] first. Never retried inside.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn create_version(&self, request: &CreateVersion) -> Result<Found, ProviderError>;

    /// Gives the new version everything that applications rely on (grants, replicas, aliases' regions), and proves it:
    /// encrypt and decrypt, sign and verify, or generate and verify a MAC; and, where the provider promises it, decrypt
    /// through it what the predecessor encrypted. Idempotent.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn verify(&self, request: &CreateVersion, version: &str) -> Result<(), ProviderError>;

    /// Points the stable name at `version`, in every region. Idempotent, and done even where the name seems to lead there:
    /// what can be read may be of a moment ago. The caller has read [`Observe::primary`] and found `from` or `version`.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn promote(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError>;

    /// Proves through the stable name that `version` encrypts, and that what `from` encrypted still decrypts.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn prove_primary(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError>;

    /// Disables a version that is not primary, in every region. Idempotent.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn disable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError>;

    /// Enables a disabled version, in every region. Idempotent.
    ///
    /// # Errors
    /// See [`ProviderError`]; a version whose destruction is scheduled is refused.
    async fn enable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError>;

    /// Schedules the destruction of a disabled version, with the longest waiting period that the provider has. Gives the
    /// end of that period. Idempotent: a second call leaves the first one's period as it is.
    ///
    /// # Errors
    /// See [`ProviderError`]; a version that is not disabled is refused.
    async fn schedule_destruction(&self, key: &KeyHandle, version: &str) -> Result<Timestamp, ProviderError>;

    /// Cancels a scheduled destruction: the version is disabled again. Idempotent.
    ///
    /// # Errors
    /// See [`ProviderError`]; a version that is destroyed is [`ErrorKind::NotFound`].
    async fn cancel_destruction(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError>;

    /// Destroys the material of a version whose waiting period has ended, or makes sure that the provider has. Idempotent.
    ///
    /// # Errors
    /// See [`ProviderError`]; before the end of the period it is refused.
    async fn destroy(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError>;

    /// Makes the primary's description and tags those of the document. Idempotent.
    ///
    /// `former` is the document that was applied last. What it set and the document does not is taken away, if it still
    /// is as `former` set it; whatever else is there belongs to somebody else, and stays.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn update_settings(
        &self,
        key: &KeyHandle,
        former: Option<&EncryptionKey>,
        version: &str,
    ) -> Result<(), ProviderError>;

    /// Encrypts under the primary, through the stable name. The answer is the provider's own ciphertext, at most
    /// [`MAX_PLAINTEXT`] bytes of plaintext.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn encrypt(&self, key: &KeyHandle, plaintext: &[u8]) -> Result<Vec<u8>, ProviderError>;

    /// Decrypts what any version of the key encrypted.
    ///
    /// # Errors
    /// See [`ProviderError`].
    async fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<Vec<u8>, ProviderError>;
}

/// The largest plaintext of one call: AWS KMS's limit for `Encrypt` with a symmetric key, kept for every provider.
pub const MAX_PLAINTEXT: usize = 4096;

/// What went wrong at a provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct ProviderError {
    /// What kind of trouble it is; it decides what happens next.
    pub kind: ErrorKind,
    /// What was attempted, in the provider's own word: `CreateKey`.
    pub operation: &'static str,
    /// What the provider said, without anything secret.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Did nobody answer? Not even to say that something is wrong.
    pub out_of_reach: bool,
}

/// The kinds of trouble with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection, or it broke before the request was sent.
    Unreachable,
    /// The request was sent and no usable answer came: it may have had its effect.
    Unknown,
    /// Credentials are missing, expired or not allowed to do this.
    Denied,
    /// Too many requests, and it did not get better within the call's time.
    Throttled,
    /// No such key or alias.
    NotFound,
    /// The key's state, kind or usage does not allow it.
    Refused,
    /// It exists already.
    Conflict,
    /// The answer is not the provider's.
    Malformed,
    /// A proof failed: the version does not do what it must.
    ProofFailed,
    /// The stored keys cannot be read: a wrong root key, a damaged file, a full disk.
    Storage,
}

/// What a provider said, without what a terminal would obey and a database refuses: a control character is shown as its
/// escape.
fn readable(message: String) -> String {
    // Those that set the direction of text are no control characters to Unicode.
    let is_unsafe = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !message.contains(is_unsafe) {
        return message;
    }
    let shown = message.chars().map(|c| if is_unsafe(c) { c.escape_unicode().collect() } else { c.to_string() });
    shown.collect()
}

impl ProviderError {
    /// A new error. What it says may come from anybody.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, message: readable(message.into()), help: None, out_of_reach: false }
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(readable(help.into()));
        self
    }

    /// Because nobody answered.
    #[must_use]
    pub fn out_of_reach(mut self) -> Self {
        self.out_of_reach = true;
        self
    }

    /// Would a question about another key of the same place fare the same? Where nobody answers, or is full, it would;
    /// an answer that speaks of trouble can mean this one key.
    #[must_use]
    pub fn concerns_every_key(&self) -> bool {
        self.out_of_reach || self.kind == ErrorKind::Throttled
    }

    /// May the call have had its effect?
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.kind, ErrorKind::Unknown | ErrorKind::Malformed)
    }

    /// Is it worth trying again later, as things are?
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Unknown | ErrorKind::Throttled | ErrorKind::Malformed)
    }
}

/// The tags that every version made by keywheel carries.
pub mod tag {
    /// The rotation that made it.
    pub const ROTATION_ID: &str = "keywheel:rotation-id";
    /// The tenant.
    pub const TENANT_ID: &str = "keywheel:tenant-id";
    /// The key that it is a version of.
    pub const KEY_ID: &str = "keywheel:key-id";
    /// The state database that knows it.
    pub const LINEAGE: &str = "keywheel:lineage";
}

/// The account and region, or the file, that a key is in: keys with the same place share one client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderPlace {
    /// The provider.
    pub provider: KmsProvider,
    /// The tenant, where it has an account of its own.
    pub tenant_id: Option<Name>,
    /// The region, where the provider has regions.
    pub region: Option<String>,
}
