//! Exit statuses: what each means, and which wins where several apply.

use std::process::ExitCode;

use crate::engine::ErrorKind;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done, or nothing to do.
    Done = 0,
    /// An error, or a wrong command line.
    Error = 1,
    /// There are changes (`--detailed-exitcode`).
    Changes = 2,
    /// A limit or a guardrail refused.
    Refused = 3,
    /// The saved plan is stale, or another's.
    Stale = 4,
    /// Somebody else holds the lock.
    Locked = 5,
    /// There is drift and no change (`--detailed-exitcode`).
    Drift = 6,
    /// Some of it was done.
    Partly = 7,
}

/// What `--help` and the man page say about them.
pub const HELP: &str = "\
Exit status:
  0  done, or nothing to do
  1  an error, or a wrong command line
  2  there are changes (with --detailed-exitcode)
  3  refused by a limit or a rule of safety
  4  the saved plan is stale, or of another repository or database
  5  locked: another apply is at work
  6  drift, and no change (with --detailed-exitcode)
  7  partly done: keys failed or need a person, or tenants with errors were left out
Where several apply, the first of 1, 5, 4, 3, 7, 6, 2 is given.";

impl ExitStatus {
    /// The first one wins.
    const PRECEDENCE: [Self; 8] =
        [Self::Error, Self::Locked, Self::Stale, Self::Refused, Self::Partly, Self::Drift, Self::Changes, Self::Done];

    /// The status where both apply.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::PRECEDENCE.into_iter().find(|status| *status == self || *status == other).unwrap_or(self)
    }

    /// This status where `condition` holds, and [`ExitStatus::Done`] elsewhere.
    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::Done }
    }
}

impl From<ErrorKind> for ExitStatus {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Error => Self::Error,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Stale => Self::Stale,
            ErrorKind::Locked => Self::Locked,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_graver_status_wins_whichever_comes_first() {
        use ExitStatus::{Changes, Done, Drift, Error, Locked, Partly, Refused, Stale};
        let order = [Error, Locked, Stale, Refused, Partly, Drift, Changes, Done];
        for (index, graver) in order.iter().enumerate() {
            for lighter in &order[index..] {
                assert_eq!(graver.or(*lighter), *graver);
                assert_eq!(lighter.or(*graver), *graver);
            }
        }
    }
}
