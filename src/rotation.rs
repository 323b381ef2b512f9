//! HOW: the whole state machine of a rotation, in two matches.
//!
//! ```text
//! planned -> creating -> created -> verified -> promoted -> settled
//!                \          \          \
//!                 `----------`----------`-> abandoned (before promotion only)
//!
//! retiring -> settled       an old version is disabled, enabled or destroyed
//!         `-> abandoned
//! ```
//!
//! [`next_step`] says what to do from a status; [`record`] says what a status becomes by an event, or that the event is
//! illegal there. The journal holds one entry before and one after each step; a step with an entry before and none
//! after is *unknown*, and is probed at the provider before it is repeated.
//!
//! Must not know: a clock, a provider, a database. It decides from data alone.

use chrono::Duration;

use crate::model::{Outcome, Phase, RotationRecord, Step, Workflow};

/// How far a workflow has come, and the step that was started without a known outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status {
    /// The phase.
    pub phase: Phase,
    /// The step that was started, if its outcome is not known.
    pub open_step: Option<Step>,
}

impl Status {
    /// The status of a new workflow.
    pub const NEW: Self = Self { phase: Phase::Planned, open_step: None };

    /// The status of a new workflow that changes the state of an old version.
    pub const RETIRING: Self = Self { phase: Phase::Retiring, open_step: None };

    /// The status that a record has.
    #[must_use]
    pub const fn of(record: &RotationRecord) -> Self {
        Self { phase: record.phase, open_step: record.open_step }
    }

    /// Is there nothing left to do?
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(self.phase, Phase::Settled | Phase::Abandoned)
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Write the step's intent, then do it.
    Do(Step),
    /// The step may have had its effect: ask the provider before anything else.
    Probe(Step),
    /// Nothing: settled or abandoned.
    Nothing,
}

/// What happened to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Which step.
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
}

/// An event that cannot happen in a status: a bug, or a journal that somebody edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rotation that is {} cannot record that {} {}", .status.phase, .event.step, .event.outcome)]
pub struct IllegalEvent {
    /// The status.
    pub status: Status,
    /// The event.
    pub event: Event,
}

/// What to do from a status.
#[must_use]
pub const fn next_step(status: Status) -> Next {
    match (status.open_step, status.phase) {
        (_, Phase::Settled | Phase::Abandoned) => Next::Nothing,
        (Some(step), _) => Next::Probe(step),
        (None, Phase::Planned | Phase::Creating) => Next::Do(Step::Create),
        (None, Phase::Created) => Next::Do(Step::Verify),
        (None, Phase::Verified) => Next::Do(Step::Promote),
        (None, Phase::Promoted) => Next::Do(Step::Settle),
        (None, Phase::Retiring) => Next::Do(Step::Retire),
    }
}

/// What a status becomes by an event.
///
/// # Errors
/// [`IllegalEvent`] carries both.
pub const fn record(status: Status, event: Event) -> Result<Status, IllegalEvent> {
    use Outcome::{Failed, Started, Succeeded, Unknown};
    let Status { phase, open_step } = status;
    let Event { step, outcome } = event;
    let (phase, open_step) = match (phase, open_step, step, outcome) {
        // A step is started when it is its turn, and only once at a time.
        (Phase::Planned | Phase::Creating, None, Step::Create, Started) => (Phase::Creating, Some(step)),
        (Phase::Created, None, Step::Verify, Started)
        | (Phase::Verified, None, Step::Promote, Started)
        | (Phase::Promoted, None, Step::Settle, Started)
        | (Phase::Retiring, None, Step::Retire, Started) => (phase, Some(step)),
        // Success moves on by one phase.
        (Phase::Creating, Some(Step::Create), Step::Create, Succeeded) => (Phase::Created, None),
        (Phase::Created, Some(Step::Verify), Step::Verify, Succeeded) => (Phase::Verified, None),
        (Phase::Verified, Some(Step::Promote), Step::Promote, Succeeded) => (Phase::Promoted, None),
        (Phase::Promoted, Some(Step::Settle), Step::Settle, Succeeded)
        | (Phase::Retiring, Some(Step::Retire), Step::Retire, Succeeded) => (Phase::Settled, None),
        // A failure is certain: the step had no effect, and may be tried again.
        (_, Some(Step::Create), Step::Create, Failed)
        | (_, Some(Step::Verify), Step::Verify, Failed)
        | (_, Some(Step::Promote), Step::Promote, Failed)
        | (_, Some(Step::Settle), Step::Settle, Failed)
        | (_, Some(Step::Retire), Step::Retire, Failed) => (phase, None),
        // An unknown outcome leaves the step open, to be probed.
        (_, Some(Step::Create), Step::Create, Unknown)
        | (_, Some(Step::Verify), Step::Verify, Unknown)
        | (_, Some(Step::Promote), Step::Promote, Unknown)
        | (_, Some(Step::Settle), Step::Settle, Unknown)
        | (_, Some(Step::Retire), Step::Retire, Unknown) => (phase, open_step),
        _ => return Err(IllegalEvent { status, event }),
    };
    Ok(Status { phase, open_step })
}

/// What a workflow begins with: a rollback makes no version, and begins with one that was made long ago.
#[must_use]
pub const fn beginning(workflow: Workflow) -> Status {
    match workflow {
        Workflow::Create | Workflow::Rotate => Status::NEW,
        Workflow::Rollback => Status { phase: Phase::Created, open_step: None },
        Workflow::Disable
        | Workflow::Enable
        | Workflow::ScheduleDestruction
        | Workflow::CancelDestruction
        | Workflow::Destroy => Status::RETIRING,
    }
}

/// The status that a journal leads to.
///
/// # Errors
/// [`IllegalEvent`] is the first entry that cannot have been written there.
pub fn replay(workflow: Workflow, journal: impl IntoIterator<Item = Event>) -> Result<Status, IllegalEvent> {
    journal.into_iter().try_fold(beginning(workflow), record)
}

/// Gives a workflow up. That is possible before promotion only (a version that retires has none), and not while a step's
/// outcome is unknown.
///
/// # Errors
/// The status, if it is too late or too early.
pub const fn abandon(status: Status) -> Result<Status, Status> {
    match (status.phase, status.open_step) {
        (Phase::Planned | Phase::Creating | Phase::Created | Phase::Verified | Phase::Retiring, None) => {
            Ok(Status { phase: Phase::Abandoned, open_step: None })
        }
        _ => Err(status),
    }
}

/// How many runs in a row may fail before a key is parked.
pub const RETRY_BUDGET: u32 = 8;

/// How long a key that failed in so many runs in a row is left alone: the first failure is tried again by the next run,
/// then 5 minutes, doubling up to 6 hours.
#[must_use]
pub fn retry_delay(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::zero(),
        Some(doublings) => Duration::minutes((5_i64 << doublings.min(8)).min(6 * 60)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The steps of a rotation, in their order.
    const ROTATION: &[Step] = &[Step::Create, Step::Verify, Step::Promote, Step::Settle];

    fn go(status: Status, step: Step, outcome: Outcome) -> Result<Status, IllegalEvent> {
        record(status, Event { step, outcome })
    }

    #[test]
    fn four_steps_lead_from_planned_to_settled() {
        let mut status = Status::NEW;
        for step in ROTATION {
            assert_eq!(next_step(status), Next::Do(*step));
            status = go(status, *step, Outcome::Started).unwrap();
            assert_eq!(next_step(status), Next::Probe(*step), "a started step is unknown until its outcome is written");
            status = go(status, *step, Outcome::Succeeded).unwrap();
        }
        assert_eq!(status.phase, Phase::Settled);
        assert_eq!(next_step(status), Next::Nothing);
    }

    #[test]
    fn a_journal_leads_to_its_status_or_to_its_first_wrong_entry() {
        let event = |step, outcome| Event { step, outcome };
        let made = [event(Step::Create, Outcome::Started), event(Step::Create, Outcome::Succeeded)];
        assert_eq!(replay(Workflow::Rotate, made), Ok(Status { phase: Phase::Created, open_step: None }));
        assert_eq!(replay(Workflow::Rotate, []), Ok(Status::NEW));
        let wrong = replay(Workflow::Rollback, made).unwrap_err();
        assert_eq!((wrong.event, wrong.status), (made[0], beginning(Workflow::Rollback)), "a rollback makes nothing");
    }

    #[test]
    fn an_unknown_outcome_leaves_the_step_open() {
        let creating = go(Status::NEW, Step::Create, Outcome::Started).unwrap();
        assert_eq!(go(creating, Step::Create, Outcome::Unknown), Ok(creating));
        assert_eq!(abandon(creating), Err(creating), "what may have happened is not given up");
    }

    #[test]
    fn a_certain_failure_may_be_tried_again_or_given_up() {
        let creating = go(Status::NEW, Step::Create, Outcome::Started).unwrap();
        let failed = go(creating, Step::Create, Outcome::Failed).unwrap();
        assert_eq!(next_step(failed), Next::Do(Step::Create));
        assert_eq!(abandon(failed).map(|status| status.phase), Ok(Phase::Abandoned));
    }

    #[test]
    fn after_promotion_there_is_no_way_back() {
        let promoted = Status { phase: Phase::Promoted, open_step: None };
        assert_eq!(abandon(promoted), Err(promoted));
    }

    #[test]
    fn a_version_retires_in_one_step_or_is_left_as_it_is() {
        let started = go(Status::RETIRING, Step::Retire, Outcome::Started).unwrap();
        assert_eq!(next_step(started), Next::Probe(Step::Retire));
        assert_eq!(go(started, Step::Retire, Outcome::Succeeded).unwrap().phase, Phase::Settled);
        let failed = go(started, Step::Retire, Outcome::Failed).unwrap();
        assert_eq!(abandon(failed).map(|status| status.phase), Ok(Phase::Abandoned));
        for step in ROTATION {
            assert!(go(Status::RETIRING, *step, Outcome::Started).is_err(), "it makes no version, and moves no name");
        }
        assert!(go(Status::NEW, Step::Retire, Outcome::Started).is_err());
    }

    #[test]
    fn the_delay_grows_up_to_six_hours() {
        let minutes: Vec<i64> = (0..12).map(|failures| retry_delay(failures).num_minutes()).collect();
        assert_eq!(minutes, [0, 0, 5, 10, 20, 40, 80, 160, 320, 360, 360, 360]);
        assert_eq!(retry_delay(u32::MAX), Duration::hours(6));
    }

    proptest! {
        #[test]
        fn no_sequence_of_events_skips_a_step(events in prop::collection::vec((0usize..5, 0usize..4), 0..64)) {
            let mut status = Status::NEW;
            let mut succeeded = Vec::new();
            for (step, outcome) in events {
                let event = Event { step: Step::ALL[step], outcome: Outcome::ALL[outcome] };
                if let Ok(next) = record(status, event) {
                    if event.outcome == Outcome::Succeeded {
                        prop_assert_eq!(status.open_step, Some(event.step), "only a started step succeeds");
                        succeeded.push(event.step);
                    }
                    status = next;
                }
            }
            prop_assert!(ROTATION.starts_with(&succeeded), "{:?}", succeeded);
            prop_assert_eq!(status.phase == Phase::Settled, succeeded.len() == 4);
        }
    }
}
