//! Signed checkpoints of the audit log: what a chain alone cannot show, that its end was cut off or that all of it was
//! rewritten, shows against the heads that were signed and kept elsewhere.
//!
//! A checkpoint is a file of canonical JSON (RFC 8785) and, beside it, a signature of its bytes as `ssh-keygen -Y sign`
//! makes it. Its own instant is what a signer's validity is judged by: it is signed with the rest.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::model::{Phase, Timestamp};
use crate::signature::allowed_signers as signers;
use crate::signature::ssh::{self, SigningKey};
use crate::store::{AuditCheck, AuditHead, BrokenLink, HistoryFilter, ReadState};

use super::load::load_with_record;
use super::unlogged::{Unlogged, unlogged};
use super::{EngineError, ErrorKind, Workspace, clock};

/// What a signature is for, so that one of another purpose does not count.
const NAMESPACE: &str = "keywheel-audit";

/// The only form of the file so far.
const FORMAT: &str = "keywheel-audit-checkpoint/1";

/// The heads of all chains at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    format: String,
    lineage: Uuid,
    at: Timestamp,
    entries: u64,
    heads: Vec<AuditHead>,
}

/// A checkpoint that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckpointReport {
    /// The file.
    pub file: PathBuf,
    /// Its signature.
    pub signature: PathBuf,
    /// The database's identity.
    pub lineage: Uuid,
    /// The instant that it shows.
    pub at: Timestamp,
    /// How many entries the log had.
    pub entries: u64,
    /// The end of each chain.
    pub heads: Vec<AuditHead>,
    /// The fingerprint of the key that signed it.
    pub key: String,
}

/// Whether the audit log is whole, and whether it goes on from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditVerified {
    /// The chains.
    #[serde(flatten)]
    pub log: AuditCheck,
    /// What is recorded as done and stands nowhere in the log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unlogged: Vec<Unlogged>,
    /// The checkpoint that it was held against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointCheck>,
}

/// The log held against a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckpointCheck {
    /// The instant that it shows.
    pub at: Timestamp,
    /// Who signed it, as the allowed signers say.
    pub signer: String,
    /// The fingerprint of the key.
    pub key: String,
    /// How many entries the log had then.
    pub entries: u64,
    /// Each chain that does not go on from it: where, and what became of it.
    pub lost: Vec<BrokenLink>,
}

impl AuditVerified {
    /// Is everything as it was written?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.log.broken.is_none()
            && self.unlogged.is_empty()
            && self.checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.lost.is_empty())
    }
}

/// A checkpoint, and who may have signed it.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// The file; its signature is beside it, as `FILE.sig`.
    pub checkpoint: &'a Path,
    /// The `allowed_signers` file.
    pub allowed_signers: &'a Path,
}

/// Writes a signed checkpoint of the audit log. One that is there is replaced, if the log goes on from it.
///
/// # Errors
/// The log is broken, the key cannot be used, or the file that is there shows another log.
pub async fn checkpoint(
    workspace: &Workspace,
    state: Option<&str>,
    key: &Path,
    file: &Path,
) -> Result<CheckpointReport, EngineError> {
    let key = signing_key(key)?;
    let (_, state, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let log = state.verify_audit().await?;
    if let Some(broken) = log.broken {
        let message = format!("the audit log is broken at entry {}: {}", broken.seq, broken.what);
        return Err(EngineError::new("audit/broken", message)
            .kind(ErrorKind::Refused)
            .help("`keywheel audit verify` shows it; a checkpoint would vouch for it, so none is written"));
    }
    let lineage = recorded.lineage.unwrap_or_default();
    if let Some(bytes) = existing(file)? {
        let earlier = parse(file, &bytes)?;
        if let Some(lost) = goes_on(&*state, lineage, &log, &earlier).await?.first() {
            let message =
                format!("{} is a checkpoint that this log does not go on from: {}", file.display(), lost.what);
            return Err(EngineError::new("audit/checkpoint-lost", message)
                .kind(ErrorKind::Refused)
                .help("it may be the only evidence: keep it, and find out what became of the log"));
        }
    }
    let AuditCheck { entries, heads, .. } = log;
    let checkpoint = Checkpoint { format: FORMAT.to_owned(), lineage, at: clock::now(), entries, heads };
    let unwritable = |error: String| EngineError::new("audit/checkpoint-file", error).help("choose another --out");
    let mut bytes =
        serde_json_canonicalizer::to_vec(&checkpoint).map_err(|error| unwritable(format!("no form: {error}")))?;
    bytes.push(b'\n');
    let signature = signature_of(file);
    replace(&signature, key.sign(NAMESPACE, &bytes).as_bytes())
        .and_then(|()| replace(file, &bytes))
        .map_err(|error| unwritable(format!("cannot write {}: {error}", file.display())))?;
    let Checkpoint { lineage, at, entries, heads, .. } = checkpoint;
    Ok(CheckpointReport {
        file: file.to_owned(),
        signature,
        lineage,
        at,
        entries,
        heads,
        key: key.public().to_string(),
    })
}

/// Checks every chain, and that the log goes on from a checkpoint.
///
/// # Errors
/// There is no state database, it could not be read, or the checkpoint does not count: not signed, or not by somebody who
/// may. What is wrong with the log is no error.
pub async fn verify_audit(
    workspace: &Workspace,
    named: Option<&str>,
    against: Option<Against<'_>>,
) -> Result<AuditVerified, EngineError> {
    let trusted = against.map(signed).transpose()?;
    let (desired, state, recorded) = load_with_record(workspace, named).await?.with_state()?;
    let log = state.verify_audit().await?;
    if log.entries == 0 && log.broken.is_none() && trusted.is_none() && recorded.is_unused() {
        let message = format!("{} has no entry: nothing was checked", desired.location(named)?);
        return Err(EngineError::new("audit/empty", message).help(
            "a database that was in use has entries: check `state` in keywheel.yaml, or restore a backup (`keywheel state copy`)",
        ));
    }
    let settled = HistoryFilter { phase: Some(Phase::Settled), leads: true, ..HistoryFilter::default() };
    let unlogged = unlogged(&*state, &recorded, &state.history(&settled).await?).await?;
    let Some((checkpoint, signer, key)) = trusted else {
        return Ok(AuditVerified { log, unlogged, checkpoint: None });
    };
    let lost = goes_on(&*state, recorded.lineage.unwrap_or_default(), &log, &checkpoint).await?;
    let Checkpoint { at, entries, .. } = checkpoint;
    Ok(AuditVerified { log, unlogged, checkpoint: Some(CheckpointCheck { at, signer, key, entries, lost }) })
}

/// Every chain of a checkpoint that the log does not go on from.
async fn goes_on(
    state: &dyn ReadState,
    lineage: Uuid,
    log: &AuditCheck,
    checkpoint: &Checkpoint,
) -> Result<Vec<BrokenLink>, EngineError> {
    if checkpoint.lineage != lineage {
        let message =
            format!("the checkpoint is of the state database {}, and this one is {lineage}", checkpoint.lineage);
        return Err(EngineError::new("audit/checkpoint-foreign", message).help(
            "name the database that it was made of, with --state; a database that was made anew has another log",
        ));
    }
    let mut lost = Vec::new();
    for head in &checkpoint.heads {
        let tenant = head.tenant_id.as_ref().map_or("", |tenant| tenant.as_str());
        let found = state.audit_after(Some((tenant, head.seq.saturating_sub(1))), 1).await?.pop();
        let found = found.filter(|link| link.object.tenant_id == head.tenant_id && link.seq == head.seq);
        let end = log.heads.iter().find(|end| end.tenant_id == head.tenant_id);
        let (seq, what) = match (found, end) {
            (Some(link), _) if link.hash == head.hash => continue,
            (Some(_), _) => (head.seq, "it is another entry than was signed: the chain was rewritten".to_owned()),
            // The check ended at a broken link: where the chains end is not known.
            (None, _) if log.broken.is_some() => (head.seq, "the entry is not there".to_owned()),
            (None, Some(end)) => (
                end.seq + 1,
                format!(
                    "the chain was cut off: it had {} entries when it was signed, and ends at {}",
                    head.seq, end.seq
                ),
            ),
            (None, None) => (1, format!("the whole chain is missing: it had {} entries when it was signed", head.seq)),
        };
        lost.push(BrokenLink { tenant_id: head.tenant_id.clone(), seq, what });
    }
    Ok(lost)
}

/// A checkpoint whose signature counts, who signed it, and with which key.
fn signed(against: Against<'_>) -> Result<(Checkpoint, String, String), EngineError> {
    let Against { checkpoint: file, allowed_signers } = against;
    let bytes = read(file)?;
    let signature_file = signature_of(file);
    let signature = String::from_utf8_lossy(&read(&signature_file)?).into_owned();
    let refused = |message: String| {
        EngineError::new("audit/checkpoint-signature", message)
            .help("take the checkpoint and its signature from where they were kept; nothing is concluded from this one")
    };
    let key = ssh::verify(&signature, NAMESPACE, &bytes)
        .map_err(|error| refused(format!("{} does not count: {error}", signature_file.display())))?;
    let checkpoint = parse(file, &bytes)?;
    let text = String::from_utf8_lossy(&read(allowed_signers)?).into_owned();
    let signers = signers::parse(&text).map_err(|line| {
        let message = format!("{}:{line}: the line is not understood", allowed_signers.display());
        EngineError::new("audit/allowed-signers", message)
            .help("write it as `man ssh-keygen` says under ALLOWED SIGNERS")
    })?;
    let signer = signers::allowed(&signers, &key, NAMESPACE, checkpoint.at)
        .map_err(|refusal| refused(format!("{} ({key}) does not count: {refusal}", signature_file.display())))?;
    Ok((checkpoint, signer.principals.clone(), key.to_string()))
}

fn parse(file: &Path, bytes: &[u8]) -> Result<Checkpoint, EngineError> {
    let refused = |why: String| {
        EngineError::new("audit/checkpoint-form", format!("{} is no checkpoint: {why}", file.display()))
            .help("name a file that `keywheel audit checkpoint` wrote")
    };
    let checkpoint: Checkpoint = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
    if checkpoint.format == FORMAT {
        Ok(checkpoint)
    } else {
        Err(refused(format!("its format is {:?}", checkpoint.format)))
    }
}

fn signing_key(file: &Path) -> Result<SigningKey, EngineError> {
    const ONE_OF_ITS_OWN: &str = "make a key for this alone, without a passphrase: ssh-keygen -t ed25519 -N '' -f FILE, and keep it where secrets are kept";
    let refused =
        |why: &str| EngineError::new("audit/checkpoint-key", format!("the key {} cannot sign: {why}", file.display()));
    let text = Zeroizing::new(read(file)?);
    if text.starts_with(b"ssh-") {
        return Err(refused("it is the public half").help("name the file beside it, without .pub"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(file).map_err(|error| unreadable(file, &error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(refused("others can read it")
                .kind(ErrorKind::Refused)
                .help("chmod 600, once you are sure that nobody has"));
        }
    }
    let text = std::str::from_utf8(&text).map_err(|_| refused("it is no text").help(ONE_OF_ITS_OWN))?;
    SigningKey::parse(text).map_err(|error| refused(&error.to_string()).help(ONE_OF_ITS_OWN))
}

fn signature_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

fn existing(file: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(file, &error)),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, EngineError> {
    fs::read(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &io::Error) -> EngineError {
    EngineError::new("audit/checkpoint-file", format!("cannot read {}: {error}", file.display()))
        .help("check the path; the signature of FILE is FILE.sig")
}

/// Puts a whole file in the place of another.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(bytes)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // It is for others to see.
        new.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    new.as_file().sync_all()?;
    new.persist(file).map(drop).map_err(|error| error.error)
}
