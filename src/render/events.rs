//! What goes on, line by line.

use crate::engine::Event;

use super::plan::{symbol, verb};
use super::style::{self, paint};
use super::text::safe;
use super::time;

/// The line of an event, where it is worth one.
#[must_use]
pub fn line(event: &Event) -> Option<String> {
    match event {
        Event::PhaseStarted { .. } | Event::Advanced { .. } | Event::ChangeStarted { .. } => None,
        Event::ChangeDone { object, action, version, duration_ms } => {
            // The end of an old version is about that one, and any other change about the one that is in use then.
            let which = if action.retirement().is_some() { "version" } else { "primary" };
            let version = version.as_deref().map(|version| format!(", {which} {}", safe(version))).unwrap_or_default();
            Some(format!("{} {object}: {} in {}{version}", symbol(*action), action.done(), time::took(*duration_ms)))
        }
        Event::ChangeFailed { object, action, error, .. } => {
            let failed = paint(style::ERROR, &format!("could not {}", verb(*action)));
            Some(format!("{} {object}: {failed}: {}", symbol(*action), safe(error)))
        }
        Event::Notice { message } => Some(safe(message).into_owned()),
    }
}

/// What a phase is called while it goes on.
#[must_use]
pub fn phase(phase: &str) -> String {
    match phase {
        "load" => "Reading documents".to_owned(),
        "observe" => "Asking the key managers".to_owned(),
        "plan" => "Planning".to_owned(),
        "apply" => "Applying".to_owned(),
        other => other.to_owned(),
    }
}
