//! What every state database must do, whatever its dialect: one suite, and a macro that runs it against one.
//!
//! A check gets a state database with nothing in it and asserts through the traits alone.

mod care;
mod leases;
mod ledger;
mod outbox;
mod records;
mod retention;
pub(crate) mod samples;
mod usage;

pub(crate) use care::*;
pub(crate) use leases::*;
pub(crate) use ledger::*;
pub(crate) use outbox::*;
pub(crate) use records::*;
pub(crate) use retention::*;
pub(crate) use usage::*;

use std::collections::BTreeSet;

use super::lease::scope_of;
use super::{AuditFilter, HistoryFilter, Holder, Lease, LeaseScope, OutboxFilter, ReadState, State, StoreError, Write};
use crate::model::Name;

/// What to do about a schema that is not the first.
pub(crate) const OLDER_SCHEMAS: &str = "`plan` reads the schema before the newest, since it never migrates: with a new \
    migration, set OLDEST_READABLE to the schema before it, and let every query of a column or table that the older \
    schema lacks ask for what that one has (`found` in schema.rs says which it is); then this test passes";

/// The questions that a database does not answer, and what it says instead.
pub(crate) async fn unanswered(state: &dyn ReadState) -> Vec<(&'static str, StoreError)> {
    let (at, id) = (samples::at(0), samples::id(1));
    let answers = [
        ("recorded", state.recorded().await.err()),
        ("key", state.key(id).await.err()),
        ("versions", state.versions(id).await.err()),
        ("all_versions", state.all_versions().await.err()),
        ("old_versions", state.old_versions(at, true).await.err()),
        ("journal", state.journal(id).await.err()),
        ("history", state.history(&HistoryFilter::default()).await.err()),
        ("last_rotations", state.last_rotations(&[id], 1).await.err()),
        ("applied_plan", state.applied_plan("none").await.err()),
        ("audit", state.audit(&AuditFilter::default()).await.err()),
        ("audit_after", state.audit_after(None, 1).await.err()),
        ("leases", state.leases().await.err()),
        ("outbox", state.outbox(&OutboxFilter::default()).await.err()),
        ("undelivered", state.undelivered().await.err()),
        ("verify_audit", state.verify_audit().await.err()),
        ("identity", state.identity().await.err()),
        ("problems", state.problems().await.err()),
    ];
    answers.into_iter().filter_map(|(question, error)| Some((question, error?))).collect()
}

/// Makes one test of every check. `$open` is an async function that returns an empty state database and whatever must
/// live as long as it.
macro_rules! conformance {
    ($open:path) => {
        $crate::store::conformance::conformance! { @all $open => a_backup_shows_one_instant }
    };
    // For a database that is no file and cannot become one.
    ($open:path, without backups) => {
        $crate::store::conformance::conformance! { @all $open => }
    };
    (@all $open:path => $($more:ident)*) => {
        $crate::store::conformance::conformance! { $open =>
            an_empty_database_has_a_lineage_and_nothing_else
            what_is_written_is_read
            any_record_comes_back_equal
            a_literal_secret_is_never_stored
            a_name_is_free_once_its_object_was_removed
            a_forgotten_key_is_found_by_its_identity
            forgotten_keys_are_listed_with_when_the_longest_ago_first
            two_live_objects_of_one_name_are_refused
            a_removed_policy_unlinks_its_keys
            a_batch_has_the_effect_of_its_writes_one_by_one
            a_refused_batch_leaves_nothing
            a_second_unfinished_rotation_of_a_key_is_refused
            the_journal_keeps_the_order_in_which_it_was_written
            a_tampered_reference_is_refused
            history_is_filtered_by_each_field_and_by_all
            history_finds_a_key_by_its_present_and_its_earlier_name
            the_last_settled_rotations_of_some_keys_are_found_the_newest_first
            documents_are_replaced_and_removed
            old_versions_are_shown_once_their_retention_has_passed
            compromised_versions_are_shown_while_they_decrypt
            applied_plans_are_found_by_digest_and_the_last_one_is_known
            each_tenant_has_an_audit_chain_of_its_own
            any_audit_entry_keeps_the_chain_whole
            the_audit_log_is_filtered_and_read_in_pages
            a_message_is_put_into_the_outbox_once_for_each_receiver
            a_message_that_was_sent_is_not_put_there_again
            a_message_stands_and_falls_with_what_it_tells
            a_claimed_message_is_nobody_elses_until_the_claim_lapses
            many_messages_to_one_receiver_are_in_nobody_elses_way
            what_was_given_up_is_counted_and_can_be_tried_again
            the_outbox_is_filtered_by_each_field
            two_senders_at_once_do_not_get_the_same_message
            usage_is_the_highest_total_of_each_source_and_counts_for_the_primary
            usage_of_no_version_is_refused
            a_lease_is_held_by_one_until_it_is_given_back
            a_lease_is_listed_and_can_be_taken_away
            an_expired_lease_is_taken_over_with_a_higher_token
            a_lost_lease_writes_nothing
            a_lease_that_expired_unnoticed_still_counts
            work_on_different_tenants_does_not_meet
            whoever_overlaps_is_told_who_has_what
            a_lease_that_loses_one_of_its_scopes_is_lost_as_a_whole
            a_part_of_a_lease_can_be_given_back
            a_lease_writes_about_nothing_that_it_is_not_on
            a_token_is_higher_than_every_token_before
            a_lease_on_ten_thousand_tenants_is_taken_and_prolonged_in_no_time
            the_clock_is_the_databases_own
            a_sound_database_has_no_problems
            $($more)*
        }
    };
    ($open:path => $($check:ident)+) => {
        mod conformance {
            $(
                #[tokio::test]
                async fn $check() {
                    let (_guard, state) = $open().await;
                    $crate::store::conformance::$check(&state).await;
                }
            )+
        }
    };
}
pub(crate) use conformance;

pub(crate) fn holder(who: &str) -> Holder {
    Holder { who: who.to_owned(), pid: 42, operation: "apply".to_owned(), correlation_id: "run-1".to_owned() }
}

/// The tenants of the samples; the first is the repository as a whole.
pub(crate) const SAMPLES: &[&str] = &["", "acme", "globex", "other", "tenant"];

/// The repository ("") and tenants.
pub(crate) fn scopes(names: &[&str]) -> BTreeSet<LeaseScope> {
    let scope = |name: &&str| match *name {
        "" => LeaseScope::Repository,
        tenant => LeaseScope::Tenant(Name::new(tenant).unwrap()),
    };
    names.iter().map(scope).collect()
}

pub(crate) async fn lease(state: &impl State) -> Lease {
    state.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 60).await.unwrap()
}

/// Commits under a lease of its own, on what the writes are about.
pub(crate) async fn write(state: &impl State, writes: &[Write]) {
    let scopes = writes.iter().filter_map(scope_of).chain([LeaseScope::Repository]).collect();
    let lease = state.acquire(&scopes, &holder("alice@laptop"), 60).await.unwrap();
    state.commit(&lease, writes).await.unwrap();
    state.release(&lease).await.unwrap();
}
