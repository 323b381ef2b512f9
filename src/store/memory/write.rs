//! Writing, and the leases that it needs: [`State`] for the memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::TimeDelta;

use super::{HeldLease, Memory, left_out, place};
use crate::model::{AuditEntry, Channel, Delivery, Timestamp, UsageCounter};
use crate::store::lease::BROKEN;
use crate::store::{Holder, Lease, LeaseScope, Migrated, ReadState, State, StoreError, Write};
#[async_trait]
impl State for Memory {
    async fn acquire(&self, scopes: &BTreeSet<LeaseScope>, holder: &Holder, seconds: u32) -> Result<Lease, StoreError> {
        let now = (self.clock)();
        let mut tables = self.tables();
        let overlapping = tables.leases.iter().filter(|(_, held)| !held.scopes.is_disjoint(scopes));
        let live =
            overlapping.filter(|(_, held)| self.promises.exclusive_leases && held.until.is_some_and(|at| at > now));
        let in_the_way = live.flat_map(|(_, held)| held.scopes.intersection(scopes).map(move |scope| (scope, held)));
        if let Some((scope, HeldLease { holder, since, until, .. })) = in_the_way.min_by_key(|(scope, _)| *scope) {
            let Holder { who, pid, operation, .. } = holder.clone();
            let (scope, since, until) = (scope.clone(), *since, until.unwrap_or(now));
            return Err(StoreError::Locked { scope, who, pid, operation, since, until });
        }
        if self.promises.fencing && self.promises.exclusive_leases {
            // What is left on these scopes was given back or has expired, and is lost as a whole.
            tables.leases.retain(|_, held| held.scopes.is_disjoint(scopes));
        }
        tables.last_token += 1;
        let token = tables.last_token;
        let until = Some(now + TimeDelta::seconds(i64::from(seconds)));
        tables.leases.insert(token, HeldLease { scopes: scopes.clone(), holder: holder.clone(), since: now, until });
        Ok(Lease::new(token, scopes.clone()))
    }

    async fn renew(&self, lease: &Lease, seconds: u32) -> Result<(), StoreError> {
        let now = (self.clock)();
        self.tables().held(lease)?.until = Some(now + TimeDelta::seconds(i64::from(seconds)));
        Ok(())
    }

    async fn narrow(&self, lease: &Lease, scopes: &BTreeSet<LeaseScope>) -> Result<Lease, StoreError> {
        if let Some(held) = self.tables().leases.get_mut(&lease.token) {
            held.scopes.retain(|scope| scopes.contains(scope));
        }
        Ok(lease.narrowed(scopes))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        if let Ok(held) = self.tables().held(lease) {
            held.until = None;
        }
        Ok(())
    }

    async fn break_lease(&self, token: i64, seconds: u32, entry: &AuditEntry) -> Result<Option<Timestamp>, StoreError> {
        let at_last = (self.clock)() + TimeDelta::seconds(i64::from(seconds));
        let mut tables = self.tables();
        let Some(mut held) = tables.leases.get(&token).filter(|held| held.until.is_some()).cloned() else {
            return Ok(None);
        };
        tables.leases.remove(&token);
        held.holder.operation.push_str(BROKEN);
        held.until = held.until.map(|until| until.min(at_last));
        let free_at = held.until;
        tables.last_token += 1;
        let new = tables.last_token;
        tables.leases.insert(new, held);
        tables.link(entry)?;
        Ok(free_at)
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        lease.covers(writes)?;
        let mut tables = self.tables();
        if self.promises.fencing {
            tables.held(lease)?;
        }
        let before = tables.clone();
        let written = writes.iter().try_for_each(|write| tables.write(self.promises, write));
        let written = written.and_then(|()| tables.references(writes));
        if written.is_err() {
            *tables = before;
        }
        written
    }

    async fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let mut tables = self.tables();
        let waits = |delivery: &Delivery| delivery.next_attempt_at.is_some_and(|at| at <= now);
        let mut waiting: Vec<_> = tables.outbox.values_mut().filter(|delivery| waits(delivery)).collect();
        waiting.sort_by_key(|delivery| (delivery.message.at, place(delivery)));
        let mut turns: BTreeMap<(Channel, String), u32> = BTreeMap::new();
        waiting.sort_by_cached_key(|delivery| {
            let turn = turns.entry((delivery.channel, delivery.receiver.clone())).or_default();
            *turn += 1;
            *turn
        });
        let claimed = waiting.into_iter().take(limit as usize).map(|delivery| {
            let delivery = Arc::make_mut(delivery);
            (delivery.attempt, delivery.next_attempt_at) = (delivery.attempt + 1, Some(until));
            delivery.clone()
        });
        let mut claimed: Vec<_> = claimed.collect();
        claimed.sort_by_key(|delivery| (delivery.message.at, place(delivery)));
        Ok(claimed)
    }

    async fn conclude(&self, concluded: &[(u32, Delivery)]) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let is_open = |known: &Delivery| known.sent_at.is_none() && known.given_up_at.is_none();
        for (claimed, delivery) in concluded {
            let known = tables.outbox.get_mut(&place(delivery));
            if let Some(known) = known.filter(|known| known.attempt == *claimed && is_open(known)) {
                *known = Arc::new(delivery.clone());
            }
        }
        Ok(())
    }

    async fn revive(&self, now: Timestamp, given_up: bool) -> Result<u64, StoreError> {
        let mut revived = 0;
        let unsent = |delivery: &&mut Arc<Delivery>| delivery.sent_at.is_none();
        for delivery in self.tables().outbox.values_mut().filter(unsent) {
            let was_given_up = delivery.given_up_at.is_some();
            let waits = delivery.error.is_some() && delivery.next_attempt_at.is_some_and(|at| at > now);
            if !(if was_given_up { given_up } else { waits }) {
                continue;
            }
            let delivery = Arc::make_mut(delivery);
            delivery.attempt = if was_given_up { 0 } else { delivery.attempt };
            (delivery.given_up_at, delivery.next_attempt_at) = (None, Some(now));
            revived += 1;
        }
        Ok(revived)
    }

    async fn report_usage(&self, counter: &UsageCounter) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let version = counter.key_version_id;
        if !tables.versions.contains_key(&version) {
            return Err(StoreError::Conflict { message: format!("there is no version {version}") });
        }
        let known = tables.usage.entry((version, counter.source.clone())).or_default();
        *known = counter.total.max(*known);
        let totals = tables.usage.iter().filter(|((of, _), _)| *of == version).map(|(_, total)| total);
        Ok(totals.fold(0, |sum, total| sum.saturating_add(*total)))
    }

    fn migrated(&self) -> Option<&Migrated> {
        None
    }

    async fn copy_from(&self, _lease: &Lease, _source: &dyn ReadState) -> Result<(), StoreError> {
        Err(left_out())
    }
}
