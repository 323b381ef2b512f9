//! `keywheel apply`.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use clap::Args;

use crate::engine::{self, ApplyOptions, EngineError, Progress, Report};
use crate::model::{Address, ObjectKind};
use crate::plan::{Action, Change, Plan, PlanDocument};
use crate::render::{self, View};

use super::args::{FormatArg, Global, StateArg, reason, seconds};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::progress::{JsonLines, TextProgress};
use super::runtime::{block_on, stop_on_signal};

/// Make it so: apply policy changes, then rotate every key that is due
///
/// Without FILE it plans, shows the plan, and asks. With FILE, a plan that was saved and reviewed, it plans afresh and does what
/// is in both. What was interrupted before is finished first. Every step is recorded before it is made.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Apply {
    /// A plan that `keywheel plan --out FILE` saved
    #[arg(value_name = "FILE", conflicts_with = "reference")]
    plan: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    auto_approve: bool,
    /// Apply the documents of this commit, branch or tag instead of the work tree
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Apply uncommitted changes too, or a commit that is not on `apply_from`
    #[arg(long)]
    allow_dirty: bool,
    /// Apply a commit older than the last applied one, and record why
    #[arg(long, value_name = "REASON", value_parser = reason)]
    allow_older: Option<String>,
    /// Apply the plan with this digest although it goes over a limit
    #[arg(long, value_name = "DIGEST", requires = "reason")]
    override_limits: Option<String>,
    /// Why limits are overridden; it is recorded
    #[arg(long, value_name = "TEXT", requires = "override_limits", value_parser = reason)]
    reason: Option<String>,
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

const EXAMPLES: &str = "\
Examples:
  keywheel apply                           show the plan, ask, apply
  keywheel apply --auto-approve            for CI, after the merge
  keywheel plan --out plan.json && keywheel apply plan.json
  keywheel apply --auto-approve --format json | jq -c 'select(.type == \"change_failed\")'";

/// `--lock-timeout`.
#[derive(Debug, Clone, Copy, Args)]
pub struct LockArg {
    /// How long to wait for somebody else's lock; then an apply leaves out the tenants that are locked. The lock of a
    /// process that died frees itself within 90 seconds
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = seconds)]
    pub lock_timeout: u32,
}

impl Apply {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let saved = self.plan.as_deref().map(super::plan::read).transpose()?;
        let otherwise = "review a saved plan and apply that (`keywheel plan --out FILE`, `keywheel apply FILE`), or give \
                         --auto-approve";
        let run = Run::new(global.view(), self.format, self.auto_approve || saved.is_some(), otherwise)?;
        let override_limits = self.override_limits.clone().zip(self.reason.clone());
        let options = ApplyOptions {
            state: self.state.state.clone(),
            allow_dirty: self.allow_dirty,
            allow_older: self.allow_older.clone(),
            override_limits,
            ephemeral_state: self.ephemeral_state,
            lock_timeout: self.lock.lock_timeout,
            saved,
            approvals: Vec::new(),
            interrupt: Arc::clone(&run.interrupt),
        };
        let workspace = global.workspace(self.reference.as_deref());
        let approve = |plan: &Plan| run.approve(plan);
        run.finish(block_on(async {
            run.stop_on_signal();
            engine::apply(&workspace, &options, &approve, run.progress()).await
        }))
    }
}

/// One run of `apply` or `rotate`: what is shown, what is asked, how it ends.
pub struct Run {
    view: View,
    json: bool,
    approved: bool,
    /// Set by Ctrl-C.
    pub interrupt: Arc<AtomicBool>,
    text: TextProgress,
    lines: JsonLines,
    seen: Mutex<Seen>,
}

/// What the plan told.
#[derive(Default)]
struct Seen {
    had_changes: bool,
    /// A key that the first apply of this database makes.
    first_key: Option<Address>,
}

impl Run {
    /// Begins a run; `otherwise` is what to do where it cannot ask.
    ///
    /// # Errors
    /// There is nobody to ask, and nobody said yes beforehand.
    pub fn new(view: View, format: FormatArg, approved: bool, otherwise: &str) -> Result<Self, CliError> {
        let json = format.is_json();
        if let Some(why) = nobody_to_ask(format).filter(|_| !approved) {
            return Err(
                CliError::new("apply/no-approval", format!("{why}, and --auto-approve is not given")).help(otherwise)
            );
        }
        if json {
            // The first line of the stream, so that a reader knows what follows.
            output::json(&render::json::StreamVersion::default())?;
        }
        Ok(Self {
            view,
            json,
            approved,
            interrupt: Arc::default(),
            text: TextProgress::new(),
            lines: JsonLines,
            seen: Mutex::default(),
        })
    }

    /// Ends the run at Ctrl-C with everything recorded. To be called inside the runtime.
    pub fn stop_on_signal(&self) {
        stop_on_signal(Arc::clone(&self.interrupt), move || {
            output::note("stopping: what has begun is finished first (press Ctrl-C again to end at once)");
        });
    }

    /// Where events go.
    pub fn progress(&self) -> &dyn Progress {
        if self.json { &self.lines } else { &self.text }
    }

    /// Shows the plan, and asks unless somebody said yes beforehand. A refused plan is shown and not asked about.
    ///
    /// # Errors
    /// The plan could not be shown: what nobody saw is not applied.
    pub fn approve(&self, plan: &Plan) -> Result<bool, EngineError> {
        self.text.clear();
        let shown = if self.json {
            output::json_line(&render::json::StreamPlan::new(PlanDocument::from(plan.clone())))
        } else {
            output::shown(&(render::plan::draw(plan, self.view) + "\n"))
        };
        if !shown.is_ok_and(|shown| shown) {
            return Err(EngineError::new(
                "apply/not-shown",
                "the plan could not be shown on standard output: nothing was changed",
            ));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.had_changes = !plan.is_empty();
        seen.first_key = first_key(plan);
        drop(seen);
        if !plan.refusals.is_empty() || self.approved || plan.is_empty() {
            return Ok(true);
        }
        Ok(!self.interrupt.load(Ordering::SeqCst) && self.ask())
    }

    fn ask(&self) -> bool {
        ask("Apply these changes?", &self.interrupt)
    }

    /// Prints what was done, and says how to exit.
    ///
    /// # Errors
    /// The engine's.
    pub fn finish(&self, outcome: Result<Option<Report>, CliError>) -> Result<ExitStatus, CliError> {
        self.text.clear();
        let outcome = outcome.and_then(|report| {
            report.ok_or_else(|| CliError::new("apply/cancelled", "nobody said yes: nothing was changed"))
        });
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                if self.json {
                    output::json(&error.stream_line())?;
                }
                return Err(error);
            }
        };
        let status = ExitStatus::Stale
            .when(!report.stale.is_empty())
            .or(ExitStatus::Partly.when(render::report::is_partial(&report)));
        if self.json {
            output::json(&render::json::StreamReport::new(&report))?;
            return Ok(status);
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A plan without changes has said so itself.
        if !seen.had_changes && status == ExitStatus::Done && report.done.is_empty() && report.warnings.is_empty() {
            return Ok(status);
        }
        output::text(&render::report::draw(&report, self.view))?;
        if let Some(key) = seen.first_key.as_ref().filter(|_| status == ExitStatus::Done) {
            output::note(&render::report::next_steps(&program(), key));
        }
        Ok(status)
    }
}

/// Why there is nobody to ask.
pub fn nobody_to_ask(format: FormatArg) -> Option<&'static str> {
    if format.is_json() {
        return Some("--format json asks nobody");
    }
    (!std::io::stdin().is_terminal()).then_some("standard input is no terminal: there is nobody to ask")
}

/// Asks a person on the terminal. An interrupt is a no.
pub fn ask(question: &str, interrupt: &AtomicBool) -> bool {
    output::note(&format!("{question} Only `yes` is accepted."));
    let (sender, answer) = mpsc::sync_channel(1);
    // A thread, since a read from a terminal cannot be stopped and Ctrl-C must be.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let _ = sender.send(read.is_ok() && line.trim() == "yes");
    });
    loop {
        match answer.recv_timeout(Duration::from_millis(50)) {
            Ok(answer) => return answer,
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            Err(mpsc::RecvTimeoutError::Timeout) if interrupt.load(Ordering::SeqCst) => return false,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}

/// A key to try out, if this plan is the first of its database (`keywheel.yaml` itself is new then): one that may rotate
/// at any time, where there is such a key.
fn first_key(plan: &Plan) -> Option<Address> {
    let made = |kind: ObjectKind| {
        plan.changes.iter().filter(move |change| change.action == Action::Create && change.object.kind == kind)
    };
    made(ObjectKind::Config).next()?;
    let field = |change: &Change, name: &str| change.after.as_ref().and_then(|after| after.get(name)).cloned();
    let has_windows = |key: &&Change| {
        let policy = field(key, "rotation_policy");
        made(ObjectKind::RotationPolicy).any(|change| {
            change.object.tenant_id == key.object.tenant_id
                && policy.as_ref().and_then(|name| name.as_str()) == Some(change.object.name.as_str())
                && field(change, "rotation_windows").is_some()
        })
    };
    let free = made(ObjectKind::EncryptionKey).find(|key| !has_windows(key));
    free.or_else(|| made(ObjectKind::EncryptionKey).next())?.object.address()
}

/// The program as it was called, so that what is suggested can be typed.
fn program() -> String {
    std::env::args().next().filter(|name| !name.contains(' ')).unwrap_or_else(|| "keywheel".to_owned())
}
