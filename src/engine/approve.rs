//! Signs a plan, with what signs an owner's commits: `ssh-keygen`, an agent, a security key, or `gpg`.
//!
//! The private key is never read here, and neither is its passphrase.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chrono::SubsecRound as _;
use schemars::JsonSchema;
use serde::Serialize;

use crate::plan::approvals::{Approval, PURPOSE, statement};
use crate::source::{self, Signing};

use super::load::load;
use super::ownership::Owners;
use super::{EngineError, Workspace, clock};

/// A saved plan with more approvals than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApproveReport {
    /// The plan's digest, which was signed.
    pub digest: String,
    /// The fingerprint of the key that signed; absent where approvals were taken from a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whose key that is, by the documents at hand; absent where it is no owner's. Whether it counts is for `apply` to say, which
    /// goes by the owners that were applied last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// What they own: the tenants, or the repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_of: Vec<String>,
    /// How many approvals the plan has now.
    pub approvals: usize,
}

/// Whose key has signed, and what they own, by the documents at hand.
///
/// # Errors
/// The documents cannot be read.
pub fn approver(
    workspace: &Workspace,
    digest: &str,
    approval: &Approval,
) -> Result<Option<(String, Vec<String>)>, EngineError> {
    let desired = load(workspace)?;
    Ok(Owners::of(&desired.repository)?.of_approval(approval, digest))
}

/// Signs the digest of a plan. Gives the approval, and the fingerprint of the key that made it.
///
/// # Errors
/// There is no key, the program that signs failed, or nobody could check what it made.
pub fn approve(
    workspace: &Workspace,
    digest: &str,
    sign_with: Option<&str>,
) -> Result<(Approval, String), EngineError> {
    let mut signing = source::signing(&workspace.dir);
    if let Some(key) = sign_with {
        let is_ssh = is_public_key(key) || Path::new(key).exists();
        if is_ssh != (signing.format == "ssh") {
            signing.program = None;
            signing.format = String::from(if is_ssh { "ssh" } else { "openpgp" });
        }
        signing.key = Some(key.to_owned());
    }
    let approved_at = clock::now().trunc_subsecs(0);
    let statement = statement(digest, approved_at);
    let signature = match signing.format.as_str() {
        "ssh" => ssh(&signing, &statement)?,
        "openpgp" => openpgp(&signing, &statement)?,
        other => return Err(failed(format!("gpg.format is {other:?}: approvals are signed with ssh or openpgp"))),
    };
    let approval = Approval { approved_at, signature };
    let key =
        approval.claimed_key(digest).map_err(|error| failed(format!("what was signed cannot be checked: {error}")))?;
    Ok((approval, key))
}

/// As git takes it: `ssh-ed25519 AAAA...`, with `key::` in front or not.
fn is_public_key(text: &str) -> bool {
    text.starts_with("key::") || text.starts_with("ssh-") || text.starts_with("sk-") || text.starts_with("ecdsa-")
}

fn ssh(signing: &Signing, statement: &str) -> Result<String, EngineError> {
    let Some(key) = &signing.key else {
        return Err(failed("no key is named".to_owned()));
    };
    let mut command = Command::new(signing.program.as_deref().unwrap_or("ssh-keygen"));
    command.args(["-q", "-Y", "sign", "-n", PURPOSE]);
    // A public key alone: its private half is with the agent.
    let public = match key.strip_prefix("key::").or_else(|| is_public_key(key).then_some(key)) {
        None => None,
        Some(public) => {
            let file = tempfile::NamedTempFile::new().and_then(|mut file| {
                file.write_all(public.as_bytes())?;
                file.flush()?;
                Ok(file)
            });
            Some(file.map_err(|error| failed(format!("a file for the public key could not be made: {error}")))?)
        }
    };
    match &public {
        Some(file) => command.arg("-U").arg("-f").arg(file.path()),
        None => command.arg("-f").arg(PathBuf::from(key)),
    };
    run(command, statement)
}

fn openpgp(signing: &Signing, statement: &str) -> Result<String, EngineError> {
    let mut command = Command::new(signing.program.as_deref().unwrap_or("gpg"));
    command.args(["--detach-sign", "--armor"]);
    if let Some(key) = &signing.key {
        command.args(["--local-user", key]);
    }
    run(command, statement)
}

/// Gives the statement to a program, and takes its signature. What it says to the person goes to the terminal.
fn run(mut command: Command, statement: &str) -> Result<String, EngineError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed_to = |error: std::io::Error| failed(format!("{program} cannot be run: {error}"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed_to)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ended early says why itself.
        let _ = input.write_all(statement.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed_to)?;
    if !output.status.success() {
        return Err(failed(format!("{program} did not sign ({})", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| failed(format!("{program} made no armoured signature")))
}

fn failed(message: String) -> EngineError {
    EngineError::new("approve/signature", message).help(
        "name the key that signs your commits: --sign-with ~/.ssh/id_ed25519, or once and for all: git config gpg.format ssh, \
         git config user.signingKey ~/.ssh/id_ed25519.pub",
    )
}
