//! `keywheel audit`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::engine::{self, Against, AuditFilter, Versioned, clock};
use crate::model::{Address, Name, Timestamp};
use crate::render;

use super::args::{FormatArg, Global, LimitArg, Since, StateArg, instant};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Read the audit log, check that nobody has changed it, and ask why a key is as it is
///
/// Every change has an entry: who, when, at which commit, what was before and after. Entries are chained by their hashes,
/// one chain for each tenant, so that an edit of one is found.
#[derive(Debug, Args)]
pub struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Show entries, the newest first
    #[command(
        after_long_help = "Examples:\n  keywheel audit list --tenant healthcare-org-123 --since 30d\n  keywheel audit list --object healthcare-org-123/patient-data-encryption-key --format json"
    )]
    List {
        /// Only of this tenant
        #[arg(long, value_name = "TENANT")]
        tenant: Option<Name>,
        /// Only about this policy or key
        #[arg(long, value_name = "TENANT/NAME")]
        object: Option<Address>,
        /// Only those since: a span such as 30d, an instant or a date
        #[arg(long, value_name = "WHEN")]
        since: Option<Since>,
        #[command(flatten)]
        limit: LimitArg,
        #[command(flatten)]
        state: StateArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Write the heads of all chains into a file, signed with an SSH key
    ///
    /// A chain shows any edit, and not that its end was cut off or that all of it was made anew. Against heads that were signed
    /// and kept elsewhere, `audit verify --checkpoint` shows that too. A checkpoint that is there is replaced, if the log goes on
    /// from it. The file is canonical JSON, and its signature is in FILE.sig, as `ssh-keygen -Y sign` writes it.
    #[command(
        after_long_help = "Examples:\n  keywheel audit checkpoint --sign-with ~/.ssh/keywheel-checkpoint --out checkpoints/audit.json\n  git -C checkpoints add audit.json audit.json.sig && git -C checkpoints commit -m \"audit checkpoint\" && git -C checkpoints push\n  ssh-keygen -Y verify -f allowed_signers -I ci@example.org -n keywheel-audit -s audit.json.sig < audit.json\n\nKeep it where whoever can write the database cannot: another git repository, with a branch that nobody may force.\nThe key is one of its own, without a passphrase: ssh-keygen -t ed25519 -N '' -f keywheel-checkpoint"
    )]
    Checkpoint {
        /// The file; the signature is FILE.sig
        #[arg(long, value_name = "FILE", default_value = "audit-checkpoint.json")]
        out: PathBuf,
        /// A private Ed25519 key of OpenSSH without a passphrase, which nobody else can read
        #[arg(long, value_name = "PATH", env = "KEYWHEEL_CHECKPOINT_KEY")]
        sign_with: PathBuf,
        #[command(flatten)]
        state: StateArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Check every chain; exits with 1 and names the first broken link if one was changed
    ///
    /// What is recorded must stand in the log, too: a rotation that was settled without an entry shows that the end of a chain
    /// was cut off.
    #[command(
        after_long_help = "Examples:\n  keywheel audit verify\n  keywheel audit verify --checkpoint checkpoints/audit.json --allowed-signers allowed_signers"
    )]
    Verify {
        /// Also check that the log goes on from this signed checkpoint (its signature is FILE.sig)
        #[arg(long, value_name = "FILE", requires = "allowed_signers")]
        checkpoint: Option<PathBuf>,
        /// Who may have signed it, as `ssh-keygen(1)` describes the file
        #[arg(long, value_name = "FILE", requires = "checkpoint")]
        allowed_signers: Option<PathBuf>,
        #[command(flatten)]
        state: StateArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Print every entry as a `CloudEvents` JSON line, chain by chain
    #[command(after_long_help = "Example:\n  keywheel audit export > audit.jsonl")]
    Export {
        #[command(flatten)]
        state: StateArg,
    },
    /// Tell which version of a key was primary at an instant, and which change and policy made it so
    #[command(
        after_long_help = "Example:\n  keywheel audit why healthcare-org-123/patient-data-encryption-key --at 2026-03-01T12:00:00Z"
    )]
    Why {
        /// The key, as TENANT/NAME
        #[arg(value_name = "TENANT/KEY")]
        key: Address,
        /// The instant or date; now by default
        #[arg(long, value_name = "TIME", value_parser = instant)]
        at: Option<Timestamp>,
        #[command(flatten)]
        state: StateArg,
        #[command(flatten)]
        format: FormatArg,
    },
}

impl Audit {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let workspace = global.workspace(None);
        match &self.command {
            AuditCommand::List { tenant, object, since, limit, state, format } => {
                let filter = AuditFilter {
                    tenant_id: tenant.clone(),
                    object: object.clone(),
                    since: since.map(|since| since.at(clock::now())),
                    limit: Some(limit.limit),
                    ..AuditFilter::default()
                };
                let report = block_on(engine::audit(&workspace, state.state.as_deref(), &filter))?;
                if format.is_json() {
                    output::json(&Versioned::new(&report))?;
                } else {
                    output::text(&render::audit::list(&report, global.view()))?;
                }
            }
            AuditCommand::Checkpoint { out, sign_with, state, format } => {
                let work = engine::checkpoint(&workspace, state.state.as_deref(), sign_with, out);
                let report = block_on(work)?;
                if format.is_json() {
                    output::json(&Versioned::new(&report))?;
                } else {
                    output::text(&render::audit::checkpoint(&report, global.view()))?;
                }
            }
            AuditCommand::Verify { checkpoint, allowed_signers, state, format } => {
                let against = checkpoint.as_deref().zip(allowed_signers.as_deref());
                let against = against.map(|(checkpoint, allowed_signers)| Against { checkpoint, allowed_signers });
                let check = block_on(engine::verify_audit(&workspace, state.state.as_deref(), against))?;
                if format.is_json() {
                    output::json(&Versioned::new(&check))?;
                } else {
                    output::text(&render::audit::check(&check, global.view()))?;
                }
                return Ok(ExitStatus::Error.when(!check.is_whole()));
            }
            AuditCommand::Export { state } => {
                let mut out = std::io::BufWriter::new(std::io::stdout().lock());
                let failed = |error: std::io::Error| CliError::new("cli/output", format!("cannot write: {error}"));
                block_on(engine::export_audit(&workspace, state.state.as_deref(), |event| {
                    writeln!(out, "{event}").map_err(failed)
                }))?;
                out.flush().map_err(failed)?;
            }
            AuditCommand::Why { key, at, state, format } => {
                let at = at.unwrap_or_else(clock::now);
                let why = block_on(engine::why(&workspace, state.state.as_deref(), key, at))?;
                if format.is_json() {
                    output::json(&Versioned::new(&why))?;
                } else {
                    output::text(&render::audit::why(&why, global.view()))?;
                }
            }
        }
        Ok(ExitStatus::Done)
    }
}
