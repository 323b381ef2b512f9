//! `keywheel approve`.

use std::path::PathBuf;

use clap::Args;

use crate::engine::{self, ApproveReport, Versioned};
use crate::plan::{PlanDocument, Saved};
use crate::render;

use super::apply::{ask, nobody_to_ask};
use super::args::{FormatArg, Global};
use super::error::CliError;
use super::exit::ExitStatus;
use super::out;
use super::output;
use super::plan;

/// Approve a saved plan: sign it, as an owner of what it changes
///
/// What takes away that something decrypts, and rotations beyond `approvals.rotations_over`, are applied only where
/// `approvals.required` owners have signed the plan (keywheel.yaml). The signature goes into FILE, over the plan's digest and
/// the time, by the key that signs your commits (git's gpg.format and user.signingKey): its agent, security key or passphrase
/// is asked for as ever. Whoever wrote the change does not count. An approval holds for 7 days.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Approve {
    /// A plan that `keywheel plan --out FILE` saved
    #[arg(value_name = "FILE")]
    plan: PathBuf,
    /// Sign with this key: the file of an SSH key, a public key whose private half an agent has, or an OpenPGP key's name
    #[arg(long, value_name = "KEY")]
    sign_with: Option<String>,
    /// Take the approvals of another copy of the same plan, and sign nothing
    #[arg(long, value_name = "COPY", conflicts_with_all = ["sign_with", "yes"])]
    take_from: Option<PathBuf>,
    /// Do not ask
    #[arg(long = "auto-approve")]
    yes: bool,
    #[command(flatten)]
    format: FormatArg,
}

const EXAMPLES: &str = "\
Examples:
  keywheel plan --out plan.json && keywheel approve plan.json
  keywheel approve plan.json --sign-with ~/.ssh/id_ed25519
  keywheel approve plan.json --take-from bobs-copy.json    two people, two copies
  keywheel apply plan.json";

impl Approve {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let saved = plan::read(&self.plan)?;
        let digest = saved.plan.digest.clone();
        if let Some(why) = &saved.plan.not_applicable {
            let message = format!("this plan was made {why}: it is to be read, and never applied");
            return Err(CliError::new("approve/not-applicable", message)
                .help("make a plan of what is so now: keywheel plan --out FILE"));
        }
        let (given, key) = if let Some(copy) = &self.take_from {
            let other = plan::read(copy)?;
            if other.plan.digest != digest {
                let message = format!("{} is another plan: {}", copy.display(), other.plan.digest);
                return Err(CliError::new("approve/another-plan", message).help("approvals are of one plan alone"));
            }
            if other.approvals.is_empty() {
                let message = format!("{} has no approvals to take", copy.display());
                return Err(
                    CliError::new("approve/none", message).help("its owner signs it first: keywheel approve COPY")
                );
            }
            (other.approvals, None)
        } else {
            if !self.is_meant(global, &saved)? {
                return Err(CliError::new("approve/cancelled", "nobody said yes: nothing was signed"));
            }
            let (approval, key) = engine::approve(&global.workspace(None), &digest, self.sign_with.as_deref())?;
            (vec![approval], Some(key))
        };
        // The approval is made; where the documents cannot be read, nobody says whose key that is.
        let workspace = global.workspace(None);
        let who = given.first().filter(|_| key.is_some());
        let who = who.and_then(|approval| engine::approver(&workspace, &digest, approval).ok().flatten());
        let document = PlanDocument::from(saved).approved(given);
        out::save(&self.plan, |writer| document.write(writer))?;
        let (principal, owner_of) = who.map_or((None, Vec::new()), |(principal, of)| (Some(principal), of));
        let approved = ApproveReport { digest, key, principal, owner_of, approvals: document.approvals().len() };
        if self.format.is_json() {
            output::json(&Versioned::new(approved))?;
            return Ok(ExitStatus::Done);
        }
        let by = match (&approved.key, &approved.principal) {
            (None, _) => "Taken".to_owned(),
            (Some(key), Some(principal)) => {
                format!("Signed with {key}, the key of {principal}, an owner of {}", approved.owner_of.join(", "))
            }
            (Some(key), None) => {
                format!("Signed with {key}, which is no owner's key by the documents here: it will not count")
            }
        };
        let (count, file) = (approved.approvals, self.plan.display());
        output::text(&format!("{by}. {file} has {count} {}.\n", if count == 1 { "approval" } else { "approvals" }))?;
        Ok(ExitStatus::Done)
    }

    /// Shows the plan, and asks: nobody signs what they have not seen.
    fn is_meant(&self, global: &Global, saved: &Saved) -> Result<bool, CliError> {
        if self.yes {
            return Ok(true);
        }
        if let Some(why) = nobody_to_ask(self.format) {
            return Err(CliError::new("approve/nobody-to-ask", format!("{why}, and --auto-approve is not given"))
                .help("read it first (`keywheel show FILE`), then say --auto-approve"));
        }
        output::text(&render::plan::draw(&saved.plan, global.view()))?;
        Ok(ask("Approve this plan?", &std::sync::atomic::AtomicBool::new(false)))
    }
}
