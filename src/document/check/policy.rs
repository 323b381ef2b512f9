//! The sense of a policy.

use chrono::Duration;

use crate::diagnostic::Finding;
use crate::document::schema::Step;
use crate::document::subject::Subject;
use crate::document::validate::list;
use crate::document::{Capabilities, Inherited};
use crate::model::{Disposition, KmsProvider, RotationPolicy, RotationTrigger, Timestamp};
use crate::schedule::Timing;

/// The day on which windows are tried out, since 1970. They come back every week, so that any would do; a fixed one keeps
/// what is said of a commit from changing with the day.
const ANY_DAY: Duration = Duration::days(20_000);

/// Checks an effective policy.
pub(in crate::document) fn check(
    subject: &mut Subject<'_, '_>,
    policy: &RotationPolicy,
    capabilities: fn(KmsProvider) -> Capabilities,
) {
    trigger(subject, policy);
    limits(subject, policy);
    retention(subject, policy);
    if super::provider(subject, policy.kms_provider, capabilities) {
        provider(subject, policy, capabilities(policy.kms_provider));
    }
    notifications(subject, policy);
    if policy.previous_name.as_ref() == Some(&policy.policy_name) {
        subject.error(
            "policy/previous-name",
            "previous_name",
            "`previous_name` is the policy's own name",
            "remove it, or write the name that the policy had before",
        );
    }
    time(subject, policy);
}

/// What makes a key due, and whether what it needs for that is there.
fn trigger(subject: &mut Subject<'_, '_>, policy: &RotationPolicy) {
    let schedule = ["rotation_interval_days", "rotation_schedule"]
        .into_iter()
        .zip([policy.rotation_interval_days.is_some(), policy.rotation_schedule.is_some()])
        .filter_map(|(field, is_set)| is_set.then_some(field));
    let schedule: Vec<&str> = schedule.collect();
    let trigger = policy.rotation_trigger;
    if trigger == RotationTrigger::TimeBased {
        if schedule.len() > 1 {
            subject.error(
                "policy/interval-and-schedule",
                "rotation_schedule",
                "`rotation_interval_days` and `rotation_schedule` exclude each other",
                "keep one of them",
            );
        } else if schedule.is_empty() {
            let help = if policy.max_usage_count.is_some() {
                "add `rotation_interval_days: 90`, or write `rotation_trigger: usage_based`"
            } else {
                "add `rotation_interval_days: 90` or `rotation_schedule: \"0 2 1 * *\"`"
            };
            subject.error(
                "policy/no-schedule",
                "rotation_trigger",
                "nothing says when the keys rotate: `time_based` needs an interval or a schedule",
                help,
            );
        } else if schedule == ["rotation_schedule"] && is_own(subject, "rotation_time_of_day") {
            subject.warning(
                "policy/time-of-day-ignored",
                "rotation_time_of_day",
                "`rotation_time_of_day` does nothing beside `rotation_schedule`, which has its own time",
                "remove it",
            );
        }
    } else {
        for field in schedule {
            subject.error(
                "policy/schedule-ignored",
                field,
                format!("`{field}` does nothing where `rotation_trigger` is `{trigger}`"),
                "remove it, or write `rotation_trigger: time_based`",
            );
        }
    }
    if trigger == RotationTrigger::UsageBased && policy.max_usage_count.is_none() {
        subject.error(
            "policy/no-usage-limit",
            "rotation_trigger",
            "`usage_based` needs `max_usage_count`",
            "add `max_usage_count: 1000000`",
        );
    }
    if trigger == RotationTrigger::EventBased && policy.rotation_events.is_empty() {
        subject.error(
            "policy/no-events",
            "rotation_trigger",
            "`event_based` needs `rotation_events`",
            "add `rotation_events: [{type: aws.guardduty.finding}]`",
        );
    }
}

/// Limits that are out of order, or that the trigger switches off.
fn limits(subject: &mut Subject<'_, '_>, policy: &RotationPolicy) {
    if let (Some(warning), Some(limit)) = (policy.usage_threshold_warning, policy.max_usage_count)
        && warning >= limit
    {
        subject.error(
            "policy/usage-warning-too-late",
            "usage_threshold_warning",
            format!("a warning at {warning} uses comes too late: the key rotates at {limit}"),
            format!("write a number below {limit}"),
        );
    }
    let ignored: &[&str] = match policy.rotation_trigger {
        RotationTrigger::TimeBased => &[],
        RotationTrigger::UsageBased => &["rotation_events"],
        RotationTrigger::EventBased => &["max_usage_count"],
        RotationTrigger::Manual => &["max_usage_count", "rotation_events"],
    };
    for field in ignored.iter().filter(|field| is_own(subject, field)).copied().collect::<Vec<_>>() {
        subject.warning(
            "policy/limit-ignored",
            field,
            format!("`{field}` does nothing where `rotation_trigger` is `{}`", policy.rotation_trigger),
            "remove it, or write the trigger that it belongs to",
        );
    }
}

/// Does the document itself set the field?
fn is_own(subject: &Subject<'_, '_>, field: &str) -> bool {
    subject
        .document
        .fields
        .get(field)
        .is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()))
}

fn retention(subject: &mut Subject<'_, '_>, policy: &RotationPolicy) {
    let retained_hours = u64::from(policy.retain_old_keys_days) * 24;
    if policy.enable_rollback && retained_hours < u64::from(policy.rollback_period_hours) {
        let own = |field: &str| is_own(subject, field);
        let field = if own("retain_old_keys_days") || !own("rollback_period_hours") {
            "retain_old_keys_days"
        } else {
            "rollback_period_hours"
        };
        let days = u64::from(policy.rollback_period_hours).div_ceil(24);
        subject.error(
            "policy/retention-shorter-than-rollback",
            field,
            format!(
                "`retain_old_keys_days: {}` is shorter than `rollback_period_hours: {}`: an old version may be gone while it can be rolled back to",
                policy.retain_old_keys_days, policy.rollback_period_hours
            ),
            format!("write `retain_old_keys_days: {days}` or more, or a shorter `rollback_period_hours`"),
        );
    }
    match (policy.old_key_disposition, policy.destroy_after_disabled_days) {
        (Disposition::Destroy, None) => subject.error(
            "policy/destroy-without-delay",
            "old_key_disposition",
            "`destroy` needs `destroy_after_disabled_days`",
            "add `destroy_after_disabled_days: 30`: the days for which a version stays disabled first",
        ),
        (disposition @ (Disposition::Keep | Disposition::Disable), Some(_)) => subject.error(
            "policy/destroy-delay-ignored",
            "destroy_after_disabled_days",
            format!("`destroy_after_disabled_days` does nothing where `old_key_disposition` is `{disposition}`"),
            "remove it, or write `old_key_disposition: destroy`",
        ),
        _ => {}
    }
}

/// What the provider cannot do is refused here, not at two in the morning.
fn provider(subject: &mut Subject<'_, '_>, policy: &RotationPolicy, can: Capabilities) {
    let provider = policy.kms_provider;
    if let Some(strategy) = policy.rotation_strategy.filter(|strategy| !can.strategies.contains(strategy)) {
        let strategies = list(can.strategies.iter().map(|strategy| strategy.as_str()));
        subject.error(
            "policy/strategy-not-possible",
            "rotation_strategy",
            format!("`{provider}` cannot rotate by `{strategy}`"),
            format!("it can rotate by {strategies}; without the field it takes the first"),
        );
    }
    if policy.enable_rollback && !can.rollback {
        subject.error(
            "policy/rollback-not-possible",
            "enable_rollback",
            format!("`{provider}` cannot make a previous version primary again"),
            "write `enable_rollback: false`",
        );
    }
    let possible = match policy.old_key_disposition {
        Disposition::Keep => true,
        Disposition::Disable => can.disable,
        Disposition::Destroy => can.destroy,
    };
    if !possible {
        subject.error(
            "policy/disposition-not-possible",
            "old_key_disposition",
            format!("`{provider}` cannot `{}` an old version", policy.old_key_disposition),
            "write `old_key_disposition: keep`",
        );
    }
    let states_evidence = policy.data_max_age_days.is_some()
        || policy.waivers.iter().any(|waiver| waiver.rule == crate::model::Waiver::EVIDENCE);
    if possible && policy.old_key_disposition != Disposition::Keep && !can.last_use && !states_evidence {
        let finding = Finding::warning(
            "policy/no-evidence",
            format!(
                "`{provider}` does not know when a version was last used: nothing is disabled until something else shows \
                 that it is not needed"
            ),
        );
        let help = "state `data_max_age_days`, or record `keywheel attest TENANT/KEY VERSION rewrapped` once its data is \
                    re-encrypted";
        subject.add(finding.help(help), &[Step::Field("old_key_disposition")]);
    }
}

fn notifications(subject: &mut Subject<'_, '_>, policy: &RotationPolicy) {
    let Some(settings) = &policy.notification_settings else { return };
    for (index, address) in settings.email.iter().enumerate().filter(|(_, address)| !super::is_email(address)) {
        let finding = Finding::error(
            "policy/email",
            format!("`{}` is not an address of mail", crate::document::scalar::shorten(address)),
        )
        .help("write it as `name@example.org`");
        subject.add(finding, &[Step::Field("notification_settings"), Step::Field("email"), Step::Index(index)]);
    }
    if settings.webhook_secret.is_some() && settings.webhook_url.is_none() {
        let finding =
            Finding::warning("policy/webhook-secret-ignored", "`webhook_secret` does nothing without `webhook_url`")
                .help("add `webhook_url: ${NAME}`, or remove it");
        subject.add(finding, &[Step::Field("notification_settings"), Step::Field("webhook_secret")]);
    }
}

fn time(subject: &mut Subject<'_, '_>, policy: &RotationPolicy) {
    let (problems, refuse) = match Timing::new(policy) {
        // How windows and a schedule go together is no question while the schedule itself is in doubt.
        Ok(_) if subject.failed() => return,
        Ok(timing) => (timing.window_delay(Timestamp::UNIX_EPOCH + ANY_DAY).into_iter().collect(), false),
        Err(problems) => (problems, true),
    };
    for problem in problems {
        let help = match subject.inherited.get(problem.field) {
            Some(Inherited::Config) => format!("{} (in `keywheel.yaml`)", problem.help),
            Some(Inherited::Tenant) => format!("{} (in the tenant's `defaults`)", problem.help),
            None => problem.help,
        };
        let finding = if refuse {
            Finding::error(problem.code, problem.message)
        } else {
            Finding::warning(problem.code, format!("the windows are too rare: for example, {}", problem.message))
        };
        subject.add(finding.help(help), &[Step::Field(problem.field)]);
    }
}
