//! The outbox: what is told, and the sending of it.
//!
//! A message is claimed, sent, and then marked as sent. Whoever dies between the last two leaves a claim that lapses, and the
//! next sender sends the message again, under the same identity: each message comes at least once. Receivers are served side
//! by side, and the messages to one in their order, so that one that is dead or slow keeps nobody else waiting, and is
//! itself asked once, not for each message.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::diagnostic::Finding;
use crate::model::{Channel, Delivery, Name, Timestamp};
use crate::notify::webhook::SigningSecret;
use crate::notify::{Address, Again, Failure, Outgoing, Sender, slack, webhook};
use crate::plan;
use crate::store::{self, OutboxFilter, State, StoreError, Undelivered};

use super::load::load_with_record;
use super::{EngineError, Report, Workspace, clock};

/// How long an apply waits for receivers in all, after its work.
const AFTER_APPLY: Duration = Duration::from_secs(4);

/// How long the state database may take beyond that.
const TO_RECORD: Duration = Duration::from_secs(1);

/// How long one receiver may take for one message.
const EACH: Duration = Duration::from_secs(10);

/// For how long a message is its sender's.
const CLAIM: chrono::Duration = chrono::Duration::seconds(60);

/// How long a sender begins to send what it has claimed: the last one must have ended before the claim does.
const PAGE_WITHIN: Duration = Duration::from_secs(45);

/// How many messages are claimed at once; the receivers take turns in that.
const PAGE: u32 = 1000;

/// How long after each failed attempt the next one comes, in minutes; after the last one a message is given up. Those of
/// Standard Webhooks: about three days in all.
const DELAYS: [i64; 9] = [1, 5, 30, 2 * 60, 5 * 60, 10 * 60, 14 * 60, 20 * 60, 24 * 60];

/// The messages that match.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OutboxReport {
    /// The instant at which it was read.
    pub as_of: Timestamp,
    /// Messages of the whole outbox that no receiver has taken.
    pub undelivered: Undelivered,
    /// Are there more than the limit lets through?
    pub truncated: bool,
    /// The messages, the newest first, each as often as it has receivers.
    pub messages: Vec<Delivery>,
}

/// What became of the messages whose time had come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SendReport {
    /// How many receivers took theirs.
    pub sent: usize,
    /// Receivers that did not.
    pub failed: Vec<FailedReceiver>,
    /// Messages of the whole outbox that no receiver has taken.
    pub undelivered: Undelivered,
}

/// A receiver that did not take a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FailedReceiver {
    /// By which way.
    pub channel: Channel,
    /// The environment variable that holds its address.
    pub receiver: String,
    /// What happened.
    pub error: String,
}

/// The messages of the outbox.
///
/// # Errors
/// There is no state database, or it could not be read.
pub async fn outbox(
    workspace: &Workspace,
    state: Option<&str>,
    filter: &OutboxFilter,
) -> Result<OutboxReport, EngineError> {
    let (_, state, _) = load_with_record(workspace, state).await?.with_state()?;
    // One more than was asked for tells whether there are more.
    let one_more = OutboxFilter { limit: filter.limit.map(|limit| limit.saturating_add(1)), ..filter.clone() };
    let mut messages = state.outbox(&one_more).await?;
    let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
    let truncated = messages.len() > limit;
    messages.truncate(limit);
    Ok(OutboxReport { as_of: clock::now(), undelivered: state.undelivered().await?, truncated, messages })
}

/// Sends what is due now; also what was given up, if that is asked for.
///
/// # Errors
/// There is no state database, or it could not be written. A receiver that fails is in the report.
pub async fn send_outbox(
    workspace: &Workspace,
    state: Option<&str>,
    given_up_too: bool,
) -> Result<SendReport, EngineError> {
    let (desired, _, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let config = plan::applied_config(&recorded).unwrap_or_else(|| desired.repository.config.clone());
    let state = store::open_or_create(&desired.location(state)?).await?;
    // Whoever asks has mended something: nothing waits for its next attempt.
    state.revive(clock::now(), given_up_too).await?;
    Ok(deliver(state.as_ref(), &config.secrets, None).await?)
}

/// Sends what is due after an apply, whatever became of that, within a few seconds. What went wrong is a warning of its
/// report and nothing more.
pub(super) async fn after_apply(state: &dyn State, secrets: &Secrets, report: Option<&mut Report>) {
    let delivered = tokio::time::timeout(AFTER_APPLY + TO_RECORD, deliver(state, secrets, Some(AFTER_APPLY))).await;
    let warnings = match delivered {
        Ok(Ok(report)) => report.warnings(),
        Ok(Err(error)) => vec![unsent(format!("messages could not be sent: {error}"))],
        Err(_) => vec![unsent("messages could not be sent in time".to_owned())],
    };
    match report {
        Some(report) => report.warnings.extend(warnings),
        None => warnings.iter().for_each(|warning| tracing::warn!("{}", warning.message)),
    }
}

fn unsent(message: String) -> Finding {
    Finding::warning("outbox/not-sent", message)
        .help("the next apply sends them, and so does `keywheel outbox send`; `keywheel outbox list` shows them")
}

impl SendReport {
    fn warnings(&self) -> Vec<Finding> {
        let failed = self.failed.iter().map(|failed| unsent(failed.to_string()));
        let given_up = (self.undelivered.given_up > 0).then(|| {
            let message = format!("messages that were given up: {}", self.undelivered.given_up);
            Finding::warning("outbox/given-up", message).help(
                "`keywheel outbox list --undelivered` says why; once that is put right, `keywheel outbox send --given-up` \
                 tries them again",
            )
        });
        failed.chain(given_up).collect()
    }
}

impl std::fmt::Display for FailedReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} of ${{{}}}: {}", self.channel, self.receiver, self.error)
    }
}

/// The environment variables that each tenant may name.
pub(super) type Secrets = BTreeMap<Name, Vec<String>>;

/// What every delivery of one sending shares.
struct Sending<'a> {
    state: &'a dyn State,
    sender: Sender,
    secrets: &'a Secrets,
    lineage: Uuid,
    deadline: Option<Instant>,
}

/// A way that messages go.
type Way = (Channel, String, Option<String>, Option<Name>);

/// A receiver that failed, and when it is asked again.
#[derive(Debug, Clone)]
struct Stopped {
    failure: Failure,
    next_attempt_at: Option<Timestamp>,
}

/// Sends everything that is due, or what can be sent within so long.
async fn deliver(state: &dyn State, secrets: &Secrets, within: Option<Duration>) -> Result<SendReport, StoreError> {
    let deadline = within.map(|within| Instant::now() + within);
    let mut report = SendReport::default();
    let mut sending = None;
    // A receiver that failed is not asked for the next page either.
    let mut stopped: BTreeMap<Way, Stopped> = BTreeMap::new();
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let now = clock::now();
        let claimed = state.claim(now, now + CLAIM, PAGE).await?;
        if claimed.is_empty() {
            break;
        }
        let sending = match &mut sending {
            Some(sending) => sending,
            none => {
                let sender = Sender::new().map_err(|failure| StoreError::Other {
                    location: "the outbox".to_owned(),
                    message: failure.message,
                })?;
                let lineage = state.identity().await?.lineage;
                none.insert(Sending { state, sender, secrets, lineage, deadline })
            }
        };
        let mut ways: BTreeMap<Way, Vec<Delivery>> = BTreeMap::new();
        for delivery in claimed {
            ways.entry(way(&delivery)).or_default().push(delivery);
        }
        let known = &stopped;
        let sent = ways.into_iter().map(async |(way, deliveries)| {
            let before = known.get(&way).cloned();
            (way, sending.to_one(deliveries, before).await)
        });
        for (way, outcome) in join_all(sent).await {
            let ToOne { sent, failed, stopped: by } = outcome?;
            report.sent += sent;
            report.failed.extend(failed);
            stopped.extend(by.map(|by| (way, by)));
        }
    }
    report.undelivered = state.undelivered().await?;
    Ok(report)
}

/// What became of the messages of one page that go one way.
struct ToOne {
    /// How many were taken.
    sent: usize,
    failed: Option<FailedReceiver>,
    stopped: Option<Stopped>,
}

impl Sending<'_> {
    /// Sends messages that go one way, in their order, until the receiver fails, or none if it has failed before.
    async fn to_one(&self, mut deliveries: Vec<Delivery>, mut stopped: Option<Stopped>) -> Result<ToOne, StoreError> {
        let until = Instant::now() + PAGE_WITHIN;
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        let (mut sent, mut failed) = (0, None);
        while !deliveries.is_empty() && stopped.is_none() {
            let within = until.saturating_duration_since(Instant::now()).min(EACH);
            if within.is_zero() {
                break;
            }
            let rest = deliveries.split_off(together(&deliveries));
            let tried = std::mem::replace(&mut deliveries, rest);
            let outcome = self.attempt(&tried, within).await;
            let now = clock::now();
            match &outcome {
                Ok(()) => sent += tried.len(),
                Err(failure) => {
                    failed = tried.first().map(|first| FailedReceiver::new(first, failure));
                    stopped = Stopped::by(&tried, failure, now);
                }
            }
            let concluded = |delivery: Delivery| (delivery.attempt, after(delivery, &outcome, now));
            self.state.conclude(&tried.into_iter().map(concluded).collect::<Vec<_>>()).await?;
        }
        let now = clock::now();
        let untried = |delivery: Delivery| (delivery.attempt, without_attempt(delivery, stopped.as_ref(), now));
        if !deliveries.is_empty() {
            self.state.conclude(&deliveries.into_iter().map(untried).collect::<Vec<_>>()).await?;
        }
        Ok(ToOne { sent, failed, stopped })
    }

    /// Sends messages that go together.
    async fn attempt(&self, deliveries: &[Delivery], within: Duration) -> Result<(), Failure> {
        let Some(first) = deliveries.first() else { return Ok(()) };
        let address = Address::parse(&self.variable(first, &first.receiver)?)
            .map_err(|failure| of_variable(&first.receiver, &failure))?;
        let what = match first.channel {
            Channel::Slack => slack::outgoing(deliveries.iter().map(|delivery| &delivery.message)),
            Channel::Webhook => self.signed(first),
        };
        self.sender
            .send(&address, what?, within)
            .await
            .map_err(|failure| Failure { message: format!("{}: {}", address.host(), failure.message), ..failure })
    }

    fn signed(&self, delivery: &Delivery) -> Result<Outgoing, Failure> {
        let secret = delivery.signed_with.as_ref().map(|name| {
            let text = self.variable(delivery, name)?;
            SigningSecret::parse(&text).map_err(|failure| of_variable(name, &failure))
        });
        webhook::outgoing(&delivery.message, self.lineage, secret.transpose()?.as_ref(), clock::now())
    }

    /// What an environment variable holds that the message's tenant may name.
    fn variable(&self, delivery: &Delivery, name: &str) -> Result<String, Failure> {
        let tenant = delivery.message.object.tenant_id.as_ref();
        let allowed = tenant.and_then(|tenant| self.secrets.get(tenant)).map(Vec::as_slice).unwrap_or_default();
        if !allowed.iter().any(|allowed| allowed == name) {
            let why = Failure::nothing("`secrets` in keywheel.yaml does not let the tenant name it");
            return Err(of_variable(name, &why));
        }
        let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        // The next machine that sends may have it.
        value.ok_or_else(|| of_variable(name, &Failure::later("it is not set in the environment")))
    }
}

fn of_variable(name: &str, failure: &Failure) -> Failure {
    Failure { message: format!("${{{name}}}: {}", failure.message), again: failure.again }
}

/// The way that a message goes. What is wrong with one way, or with what one tenant may name, is not held against another.
fn way(delivery: &Delivery) -> Way {
    let tenant_id = delivery.message.object.tenant_id.clone();
    (delivery.channel, delivery.receiver.clone(), delivery.signed_with.clone(), tenant_id)
}

/// How many of these messages, the first ones, go together.
fn together(deliveries: &[Delivery]) -> usize {
    match deliveries.first().map(|delivery| delivery.channel) {
        Some(Channel::Slack) => slack::together(deliveries.iter().map(|delivery| &delivery.message)),
        Some(Channel::Webhook) | None => 1,
    }
}

impl FailedReceiver {
    fn new(delivery: &Delivery, failure: &Failure) -> Self {
        Self { channel: delivery.channel, receiver: delivery.receiver.clone(), error: failure.message.clone() }
    }
}

impl Stopped {
    /// None if the failure was about what was sent.
    fn by(tried: &[Delivery], failure: &Failure, now: Timestamp) -> Option<Self> {
        if failure.again == Again::NotThis {
            return None;
        }
        let next_attempt_at = tried.iter().filter_map(|delivery| next_attempt(delivery, failure, now)).min();
        Some(Self { failure: failure.clone(), next_attempt_at })
    }
}

/// What became of a message that was tried.
fn after(delivery: Delivery, outcome: &Result<(), Failure>, now: Timestamp) -> Delivery {
    match outcome {
        Ok(()) => Delivery { next_attempt_at: None, error: None, sent_at: Some(now), ..delivery },
        Err(failure) => {
            let next_attempt_at = next_attempt(&delivery, failure, now);
            let given_up_at = next_attempt_at.is_none().then_some(now);
            Delivery { error: Some(failure.message.clone()), next_attempt_at, given_up_at, ..delivery }
        }
    }
}

/// When a message is tried again; none if it is given up.
fn next_attempt(delivery: &Delivery, failure: &Failure, now: Timestamp) -> Option<Timestamp> {
    let tried = usize::try_from(delivery.attempt).unwrap_or(usize::MAX);
    let delay = chrono::Duration::minutes(*DELAYS.get(tried.saturating_sub(1))?);
    match failure.again {
        Again::Later => now.checked_add_signed(delay),
        Again::After(rest) => now.checked_add_signed(delay.max(chrono::Duration::from_std(rest).unwrap_or(delay))),
        Again::NotThis | Again::Nothing => None,
    }
}

/// A message that was claimed and not tried: there was no time left, or the receiver has just failed with another one and
/// is not asked again now.
fn without_attempt(delivery: Delivery, stopped: Option<&Stopped>, now: Timestamp) -> Delivery {
    let untried = Delivery { attempt: delivery.attempt.saturating_sub(1), ..delivery };
    let Some(Stopped { failure, next_attempt_at }) = stopped else {
        return Delivery { next_attempt_at: Some(now), ..untried };
    };
    let error = Some(failure.message.clone());
    if failure.again == Again::Nothing {
        return Delivery { error, next_attempt_at: None, given_up_at: Some(now), ..untried };
    }
    // Where the other one was tried for the last time, this one goes on alone.
    let next_attempt_at = next_attempt_at.or_else(|| now.checked_add_signed(CLAIM));
    Delivery { next_attempt_at, error, ..untried }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::delivery;

    fn failed(attempt: u32, again: Again) -> Delivery {
        let tried = Delivery { attempt, ..delivery(1, "acme", "ONE") };
        after(tried, &Err(Failure { message: "no".to_owned(), again }), Timestamp::UNIX_EPOCH)
    }

    fn minutes(delivery: &Delivery) -> Option<i64> {
        delivery.next_attempt_at.map(|at| at.timestamp() / 60)
    }

    #[test]
    fn the_delay_grows_to_a_day_and_after_the_tenth_attempt_a_message_is_given_up() {
        let delays: Vec<_> = (1..=10).map(|attempt| minutes(&failed(attempt, Again::Later))).collect();
        let expected = [1, 5, 30, 120, 300, 600, 840, 1200, 1440].map(Some);
        assert_eq!(delays, expected.into_iter().chain([None]).collect::<Vec<_>>());
        assert!(failed(10, Again::Later).given_up_at.is_some());
    }

    #[test]
    fn a_receiver_is_left_alone_for_as_long_as_it_asks_and_never_for_less_than_the_delay() {
        assert_eq!(minutes(&failed(1, Again::After(Duration::from_hours(1)))), Some(60));
        assert_eq!(minutes(&failed(3, Again::After(Duration::ZERO))), Some(30));
    }

    #[test]
    fn what_is_refused_for_good_is_given_up_at_once() {
        for again in [Again::Nothing, Again::NotThis] {
            let given_up = failed(1, again);
            assert_eq!((given_up.next_attempt_at, given_up.given_up_at), (None, Some(Timestamp::UNIX_EPOCH)));
        }
    }

    #[test]
    fn a_message_beside_one_that_failed_waits_with_it_and_was_not_tried() {
        let now = Timestamp::UNIX_EPOCH;
        let claimed = || Delivery { attempt: 1, ..delivery(2, "acme", "ONE") };
        let stopped =
            |again, next_attempt_at| Stopped { failure: Failure { message: "no".to_owned(), again }, next_attempt_at };
        let in_an_hour = now + chrono::Duration::hours(1);
        let waits = without_attempt(claimed(), Some(&stopped(Again::Later, Some(in_an_hour))), now);
        assert_eq!((waits.attempt, waits.next_attempt_at), (0, Some(in_an_hour)));
        // The other one was given up after its last attempt: that is no reason to give up this one.
        let waits = without_attempt(claimed(), Some(&stopped(Again::Later, None)), now);
        assert!(waits.next_attempt_at.is_some() && waits.given_up_at.is_none());
        let gone = without_attempt(claimed(), Some(&stopped(Again::Nothing, None)), now);
        assert!(gone.next_attempt_at.is_none() && gone.given_up_at.is_some());
        let at_once = without_attempt(claimed(), None, now);
        assert_eq!((at_once.attempt, at_once.next_attempt_at, at_once.error), (0, Some(now), None));
    }
}
