//! The outbox.

use std::collections::BTreeSet;

use serde_json::{Map, json};

use super::samples::{at, id, key, name};
use super::{lease, write};
use crate::model::{Channel, Delivery, Message, MessageKind, ObjectRef};
use crate::store::{OutboxFilter, State, StoreError, Undelivered, Write};

/// Message `number` of a tenant to a receiver, recorded at `number` seconds.
pub(crate) fn delivery(number: u64, tenant: &str, receiver: &str) -> Delivery {
    let recorded_at = at(i64::try_from(number).unwrap());
    Delivery {
        message: Message {
            id: id(number),
            kind: MessageKind::KeyParked,
            object: ObjectRef::key(&key(1, tenant, "patients").address()),
            text: format!("{tenant}/patients is parked: \u{fc} \"'<"),
            details: Map::from_iter([("failures".to_owned(), json!(8)), ("none".to_owned(), json!(null))]),
            at: recorded_at,
            correlation_id: "run-1".to_owned(),
        },
        channel: Channel::Webhook,
        receiver: receiver.to_owned(),
        signed_with: Some("SECRET".to_owned()),
        attempt: 0,
        next_attempt_at: Some(recorded_at),
        error: None,
        sent_at: None,
        given_up_at: None,
    }
}

fn outbox(delivery: &Delivery) -> Write {
    Write::Outbox(Box::new(delivery.clone()))
}

async fn all(state: &impl State) -> Vec<Delivery> {
    state.outbox(&OutboxFilter::default()).await.unwrap()
}

pub(crate) async fn a_message_is_put_into_the_outbox_once_for_each_receiver(state: &impl State) {
    let (one, other) = (delivery(1, "acme", "ONE"), delivery(1, "acme", "OTHER"));
    let slack = Delivery { channel: Channel::Slack, signed_with: None, ..one.clone() };
    let later = Delivery { next_attempt_at: Some(at(99)), ..one.clone() };
    write(state, &[outbox(&one), outbox(&one), outbox(&other)]).await;
    write(state, &[outbox(&later), outbox(&slack)]).await;
    assert_eq!(all(state).await, [slack, one, other]);
}

pub(crate) async fn a_message_that_was_sent_is_not_put_there_again(state: &impl State) {
    let message = delivery(1, "acme", "ONE");
    write(state, &[outbox(&message)]).await;
    let claimed = state.claim(at(5), at(65), 10).await.unwrap().remove(0);
    let sent = Delivery { next_attempt_at: None, sent_at: Some(at(6)), ..claimed };
    state.conclude(&[(1, sent.clone())]).await.unwrap();
    write(state, &[outbox(&message)]).await;
    assert_eq!(all(state).await, [sent]);
    assert_eq!(state.claim(at(999), at(1000), 10).await.unwrap(), []);
}

pub(crate) async fn a_message_stands_and_falls_with_what_it_tells(state: &impl State) {
    let held = lease(state).await;
    let taken_over = crate::store::Lease { token: held.token + 1, ..held.clone() };
    let refused = state.commit(&taken_over, &[outbox(&delivery(1, "acme", "ONE"))]).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    let twins = [key(1, "acme", "patients"), key(2, "acme", "patients")].map(|key| Write::Key(Box::new(key)));
    let [one, two] = twins;
    let refused = state.commit(&held, &[one, outbox(&delivery(1, "acme", "ONE")), two]).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(all(state).await, []);
}

pub(crate) async fn a_claimed_message_is_nobody_elses_until_the_claim_lapses(state: &impl State) {
    let messages: Vec<_> = (1..=4).map(|number| delivery(number, "acme", "ONE")).collect();
    write(state, &messages.iter().rev().map(outbox).collect::<Vec<_>>()).await;
    let numbers = |claimed: &[Delivery]| claimed.iter().map(|claimed| claimed.message.at).collect::<Vec<_>>();
    let first = state.claim(at(3), at(63), 2).await.unwrap();
    assert_eq!(numbers(&first), [at(1), at(2)], "the oldest first");
    assert_eq!((first[0].attempt, first[0].next_attempt_at), (1, Some(at(63))));
    let second = state.claim(at(3), at(63), 9).await.unwrap();
    assert_eq!(numbers(&second), [at(3)], "what is not due yet, and what is claimed, stays");
    let lapsed = state.claim(at(63), at(123), 9).await.unwrap();
    assert_eq!(numbers(&lapsed), [at(1), at(2), at(3), at(4)]);
    assert_eq!(lapsed.iter().map(|claimed| claimed.attempt).collect::<Vec<_>>(), [2, 2, 2, 1]);

    // The first sender comes back late: what it has to say is not about this attempt.
    let late = Delivery { sent_at: Some(at(64)), next_attempt_at: None, ..first[0].clone() };
    state.conclude(&[(1, late.clone())]).await.unwrap();
    assert_eq!(state.undelivered().await.unwrap(), Undelivered { waiting: 4, given_up: 0 });
    let failed = Delivery { error: Some("no answer".to_owned()), next_attempt_at: Some(at(500)), ..lapsed[0].clone() };
    state.conclude(&[(2, failed.clone())]).await.unwrap();
    assert_eq!(all(state).await.last(), Some(&failed));
}

pub(crate) async fn many_messages_to_one_receiver_are_in_nobody_elses_way(state: &impl State) {
    let many = (1..=40).map(|number| delivery(number, "acme", "ONE"));
    let slack = Delivery { channel: Channel::Slack, signed_with: None, ..delivery(43, "acme", "ONE") };
    let few = [delivery(41, "acme", "OTHER"), delivery(42, "globex", "OTHER"), slack];
    write(state, &many.chain(few).map(|delivery| outbox(&delivery)).collect::<Vec<_>>()).await;
    let numbers = async || {
        let claimed = state.claim(at(50), at(110), 6).await.unwrap();
        claimed.iter().map(|claimed| claimed.message.at).collect::<Vec<_>>()
    };
    // Whoever is newer is claimed with them, and each receiver's messages in their order.
    assert_eq!(numbers().await, [1, 2, 3, 41, 42, 43].map(at));
    assert_eq!(numbers().await, [4, 5, 6, 7, 8, 9].map(at));
}

pub(crate) async fn what_was_given_up_is_counted_and_can_be_tried_again(state: &impl State) {
    write(state, &[1, 2].map(|number| outbox(&delivery(number, "acme", "ONE")))).await;
    let claimed = state.claim(at(5), at(65), 1).await.unwrap().remove(0);
    let gone = Some("answered 410".to_owned());
    let given_up = Delivery { next_attempt_at: None, given_up_at: Some(at(6)), error: gone, ..claimed };
    state.conclude(&[(1, given_up.clone())]).await.unwrap();
    assert_eq!(state.undelivered().await.unwrap(), Undelivered { waiting: 1, given_up: 1 });
    assert_eq!(state.revive(at(7), true).await.unwrap(), 1);
    assert_eq!(state.revive(at(7), true).await.unwrap(), 0);
    let again = Delivery { given_up_at: None, attempt: 0, next_attempt_at: Some(at(7)), ..given_up };
    assert_eq!(all(state).await.last(), Some(&again));
}

pub(crate) async fn the_outbox_is_filtered_by_each_field(state: &impl State) {
    let messages = [delivery(1, "acme", "ONE"), delivery(2, "globex", "ONE"), delivery(3, "acme", "ONE")];
    write(state, &messages.each_ref().map(outbox)).await;
    let claimed = state.claim(at(1), at(61), 1).await.unwrap().remove(0);
    state.conclude(&[(1, Delivery { next_attempt_at: None, sent_at: Some(at(2)), ..claimed })]).await.unwrap();
    let found = async |filter: OutboxFilter| {
        let found = state.outbox(&filter).await.unwrap();
        found.iter().map(|delivery| delivery.message.at).collect::<Vec<_>>()
    };
    let none = OutboxFilter::default;
    assert_eq!(found(none()).await, [at(3), at(2), at(1)], "the newest first");
    assert_eq!(found(OutboxFilter { tenant_id: Some(name("acme")), ..none() }).await, [at(3), at(1)]);
    assert_eq!(found(OutboxFilter { undelivered: true, ..none() }).await, [at(3), at(2)]);
    assert_eq!(found(OutboxFilter { limit: Some(1), ..none() }).await, [at(3)]);
}

pub(crate) async fn two_senders_at_once_do_not_get_the_same_message(state: &impl State) {
    write(state, &(1..=40).map(|number| outbox(&delivery(number, "acme", "ONE"))).collect::<Vec<_>>()).await;
    let claims = (0..8).map(|_| state.claim(at(50), at(110), 5));
    let claimed: Vec<_> = futures::future::join_all(claims).await.into_iter().flat_map(Result::unwrap).collect();
    let different: BTreeSet<_> = claimed.iter().map(|delivery| delivery.message.id).collect();
    assert_eq!(different.len(), claimed.len());
    assert!(claimed.iter().all(|delivery| delivery.attempt == 1));
}
