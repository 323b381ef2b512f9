//! What the commands share that ask something of one key by hand.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use crate::engine::{self, ApplyOptions, Request};
use crate::model::Address;
use crate::plan::approvals::Approval;
use crate::plan::{Plan, PlanDocument};
use crate::render;

use super::apply::{LockArg, Run};
use super::args::{FormatArg, Global, StateArg, reason};
use super::error::CliError;
use super::exit::ExitStatus;
use super::out;
use super::output;
use super::progress::TextProgress;
use super::runtime::block_on;

/// A key, a reason, and how to go about it.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// The key, as TENANT/NAME
    #[arg(value_name = "TENANT/KEY")]
    key: Address,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Do not ask
    #[arg(long)]
    auto_approve: bool,
    /// Work on cloud keys from CI although the state file is lost with the machine
    #[arg(long)]
    ephemeral_state: bool,
    #[command(flatten)]
    lock: LockArg,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl ManualArgs {
    /// Shows what is asked for, and does it.
    pub fn run(&self, global: &Global, request: &Request) -> Result<ExitStatus, CliError> {
        self.approved(global, request, Vec::new())
    }

    /// The same, where a plan of it was approved.
    pub fn approved(
        &self,
        global: &Global,
        request: &Request,
        approvals: Vec<Approval>,
    ) -> Result<ExitStatus, CliError> {
        let otherwise = "on a terminal it shows what it would do, and asks; elsewhere give --auto-approve";
        let run = Run::new(global.view(), self.format, self.auto_approve, otherwise)?;
        let options = ApplyOptions {
            state: self.state.state.clone(),
            ephemeral_state: self.ephemeral_state,
            lock_timeout: self.lock.lock_timeout,
            approvals,
            interrupt: Arc::clone(&run.interrupt),
            ..ApplyOptions::default()
        };
        let workspace = global.workspace(None);
        let approve = |plan: &Plan| run.approve(plan);
        run.finish(block_on(async {
            run.stop_on_signal();
            engine::manual(&workspace, &self.key, request, &options, &approve, run.progress()).await
        }))
    }

    /// Saves the plan of it, and does nothing.
    pub fn save(&self, global: &Global, request: &Request, path: &Path) -> Result<ExitStatus, CliError> {
        out::check(Some(path))?;
        let workspace = global.workspace(None);
        let plan = block_on(engine::plan_by_hand(
            &workspace,
            &self.key,
            request,
            self.state.state.as_deref(),
            &TextProgress::new(),
        ))?;
        let document = PlanDocument::from(plan.clone());
        out::save(path, |writer| document.write(writer))?;
        if self.format.is_json() {
            output::json(&document)?;
        } else {
            output::text(&render::plan::draw(&plan, global.view()))?;
            output::note(&format!("\nSaved to {path}, to be approved: keywheel approve {path}", path = path.display()));
        }
        Ok(ExitStatus::Done)
    }
}
