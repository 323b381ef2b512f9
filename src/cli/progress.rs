//! What a person sees while work goes on: bars on a terminal, plain lines elsewhere, JSON lines for programs.

use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::{Event, Progress};
use crate::render::events;

use super::output;

/// Nothing is shown.
#[derive(Debug)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}

/// One JSON line on standard output for each event.
#[derive(Debug)]
pub struct JsonLines;

impl Progress for JsonLines {
    fn event(&self, event: Event) {
        // Work that has begun is finished, whether or not anybody still reads.
        let _ = output::json_line(&event);
    }
}

/// On a terminal one bar for the phase that goes on, and lines above it for what is done; elsewhere lines alone.
#[derive(Debug)]
pub struct TextProgress {
    bars: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl TextProgress {
    /// Bars where standard error is a terminal.
    pub fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal(), bar: Mutex::new(None) }
    }

    /// Takes the bar away, before something else is written to the terminal.
    pub fn clear(&self) {
        self.replace(None);
    }

    fn replace(&self, bar: Option<ProgressBar>) {
        if let Some(old) = std::mem::replace(&mut *self.current(), bar) {
            old.finish_and_clear();
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        // A panic while the bar was held cannot have broken it.
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for TextProgress {
    fn event(&self, event: Event) {
        match &event {
            Event::PhaseStarted { phase, total } if self.bars => self.replace(Some(start(phase, *total))),
            Event::Advanced { by, .. } => {
                if let Some(bar) = self.current().as_ref() {
                    bar.inc(*by as u64);
                }
            }
            _ => {
                let Some(line) = events::line(&event) else { return };
                match self.current().as_ref() {
                    Some(bar) => bar.suspend(|| output::note(&line)),
                    None => output::note(&line),
                }
            }
        }
    }
}

impl Drop for TextProgress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How long a phase goes on before it is worth a bar: what is over at once should not flicker.
const PATIENCE: Duration = Duration::from_millis(120);

fn start(phase: &str, total: Option<usize>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total as u64), "{msg} {bar:30} {human_pos}/{human_len} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(events::phase(phase));
    bar.enable_steady_tick(PATIENCE);
    bar
}
