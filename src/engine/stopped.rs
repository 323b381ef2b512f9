//! Why work on a key stopped before its end.

use crate::model::Timestamp;
use crate::provider::{ErrorKind, ProviderError};
use crate::schedule::Hold;
use crate::store::StoreError;

/// Why a rotation stopped before its end.
#[derive(Debug)]
pub(super) struct Stopped {
    pub error: String,
    pub help: Option<String>,
    /// Will the next apply go on with it?
    pub resumable: bool,
    pub retry_at: Option<Timestamp>,
    /// Is it worth telling to whom the policy names? Not what only waits, nor what cannot be recorded.
    pub is_news: bool,
    /// Did the key manager have too much to do? That is no failure of the key.
    pub throttled: bool,
    /// Did nobody answer there?
    pub out_of_reach: bool,
}

impl Stopped {
    pub(super) fn new(error: impl Into<String>) -> Self {
        let error = error.into();
        Self {
            error,
            help: None,
            resumable: true,
            retry_at: None,
            is_news: true,
            throttled: false,
            out_of_reach: false,
        }
    }

    /// What was planned may not begin now.
    pub(super) fn held(hold: &Hold, until: Option<Timestamp>) -> Self {
        let error = match hold {
            Hold::Freeze(name) => format!("frozen by {name:?} since it was planned"),
            _ => "its window has closed since it was planned".to_owned(),
        };
        Self { resumable: false, retry_at: until, is_news: false, ..Self::new(error) }
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        let help = "nothing was called that is not in the journal; the next apply goes on from there";
        Self { help: Some(help.to_owned()), is_news: false, ..Self::new(error.to_string()) }
    }
}

impl From<&ProviderError> for Stopped {
    fn from(error: &ProviderError) -> Self {
        let (throttled, out_of_reach) = (error.kind == ErrorKind::Throttled, error.out_of_reach);
        // That nobody answers there is told of once, and not for each key.
        let is_news = !throttled && !out_of_reach;
        Self { help: error.help.clone(), is_news, throttled, out_of_reach, ..Self::new(error.to_string()) }
    }
}
