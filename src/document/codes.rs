//! Every code that a finding about documents can have, and what it means.

/// The codes and their meanings, sorted as the documentation lists them. A code never changes its meaning, so that it
/// is safe to filter by.
#[must_use]
pub fn codes() -> &'static [(&'static str, &'static str)] {
    CODES
}

const CODES: &[(&str, &str)] = &[
    ("file/document-too-large", "A document has more than 1 MiB."),
    ("file/not-utf-8", "A file is not UTF-8."),
    ("file/symbolic-link", "A symbolic link stands where a document could be."),
    ("file/too-large", "A file has more than 16 MiB."),
    ("file/too-many-findings", "A file has so many mistakes that the rest of it was not looked at."),
    ("yaml/syntax", "The text is not YAML."),
    ("yaml/duplicate-key", "A mapping has a key twice."),
    ("yaml/anchor", "An anchor, which documents do not use."),
    ("yaml/alias", "An alias, which documents do not use."),
    ("yaml/merge-key", "A merge key, which documents do not use."),
    ("yaml/tag", "A tag, which documents do not use."),
    ("yaml/key", "A key that is empty, a list or a mapping."),
    ("yaml/too-deep", "More than 64 levels of nesting."),
    ("yaml/ambiguous-scalar", "A value without quotes that readers of YAML 1.1 and 1.2 understand differently."),
    ("yaml/not-a-number", "An infinity, or not a number."),
    ("schema/api-version", "An `apiVersion` of another version."),
    ("schema/unknown-kind", "A `kind` that does not exist."),
    ("schema/unknown-field", "A field that does not exist here."),
    ("schema/missing-field", "A field that must be there is not."),
    ("schema/type", "A value of another type."),
    ("schema/unknown-value", "A word that is none of those which the field takes."),
    ("schema/constant", "A value that is not the only one which the field takes."),
    ("schema/form", "A text of another form: a date, a time, a duration, a name."),
    ("schema/length", "A text or a list that is too long or too short."),
    ("schema/out-of-range", "A number that is too large or too small."),
    ("schema/value", "A value that the field cannot hold, for another reason."),
    ("policy/interval-and-schedule", "An interval and a schedule exclude each other."),
    ("policy/schedule-ignored", "An interval or schedule beside a trigger that is not `time_based`."),
    ("policy/no-schedule", "`time_based` without an interval or a schedule."),
    ("policy/no-usage-limit", "`usage_based` without `max_usage_count`."),
    ("policy/no-events", "`event_based` without `rotation_events`."),
    ("policy/limit-ignored", "A limit or events that the trigger switches off."),
    ("policy/time-of-day-ignored", "`rotation_time_of_day` beside a schedule, which has its own."),
    ("policy/usage-warning-too-late", "The warning comes at or after the rotation."),
    ("policy/retention-shorter-than-rollback", "An old version may be gone while it can still be rolled back to."),
    ("policy/destroy-without-delay", "`destroy` without `destroy_after_disabled_days`."),
    ("policy/destroy-delay-ignored", "`destroy_after_disabled_days` without `destroy`."),
    ("policy/strategy-not-possible", "A strategy that the provider does not have."),
    ("policy/rollback-not-possible", "A rollback that the provider cannot do."),
    ("policy/no-evidence", "Nothing will ever show that an old version is not needed, so that none is disabled."),
    ("policy/disposition-not-possible", "A disposition that the provider cannot carry out."),
    ("policy/email", "Not an address of mail."),
    ("policy/webhook-secret-ignored", "`webhook_secret` without `webhook_url`."),
    ("policy/previous-name", "`previous_name` is the policy's own name."),
    ("policy/unknown-timezone", "A time zone that the IANA database does not have."),
    ("policy/cron-fields", "A schedule that has not five fields."),
    ("policy/cron-syntax", "Not a cron expression."),
    ("policy/cron-never-fires", "A schedule that never fires."),
    ("policy/cron-too-often", "A schedule that fires more often than keys may rotate."),
    ("policy/window-empty", "A window of no length."),
    ("policy/window-delays", "Windows hold a rotation back until the next one is due (a warning)."),
    ("policy/freeze-delays", "A freeze holds a rotation back until the next one is due (a warning)."),
    ("policy/unknown-compliance-tag", "A compliance tag that no pack goes by (a warning)."),
    ("policy/unknown-waiver", "A waiver of a rule that there is not."),
    ("policy/ended-waiver", "A waiver whose last day is over."),
    ("guardrail/rule", "A rule that is no expression in CEL, or speaks of something that there is not."),
    ("guardrail/selector", "A rule over the plan that selects tenants or key types."),
    ("guardrail/same-code", "Two guardrails whose names make one code."),
    ("guardrail/broken", "A rule that a document breaks: the guardrail's own name stands in place of `broken`."),
    ("guardrail/not-judged", "A rule that cannot be judged for a document."),
    ("guardrail/waived", "A broken rule that a waiver holds for (a note)."),
    ("freeze/unknown-timezone", "A time zone that the IANA database does not have."),
    ("freeze/ends-before-it-begins", "A freeze that ends before it begins."),
    ("provider/not-available", "A provider that this build cannot work with."),
    ("key/no-alias", "A key that rotates by a new key behind its alias has no alias."),
    ("key/alias", "Not an alias of AWS KMS, or one of AWS's own."),
    ("key/region", "Not a region of AWS, or another than the key's ARN says."),
    ("key/no-regions", "A region, or a multi-region key, where the provider has none."),
    ("key/key-id", "Not an id, ARN or alias of a key in AWS KMS, or of one that AWS manages."),
    ("key/field-not-possible", "A field that means nothing to the provider."),
    ("key/spec", "A key spec that the provider does not have."),
    ("key/usage", "A key usage that does not go with the key spec."),
    ("key/key-policy", "A key policy without its `Version` or `Statement`."),
    ("key/key-policy-too-long", "A key policy that is longer than AWS KMS takes."),
    ("key/description-too-long", "A description that is longer than AWS KMS takes."),
    ("key/tag", "A tag that AWS KMS does not take, or whose name is reserved."),
    ("key/previous-name", "`previous_name` is the key's own name."),
    ("tenant/owner-dates", "An owner's key ends before it begins."),
    ("tenant/owner-key", "An owner's key is none whose signatures can be checked."),
    ("tenant/owner-key-twice", "Two owners have one key: one signature would count for both."),
    ("secret/literal", "A secret stands in the document itself (a warning)."),
    ("secret/not-whole", "A reference to a secret is a part of its field only."),
    ("secret/not-a-secret-field", "`${NAME}` in a field that is not declared secret."),
    ("secret/not-allowed", "A variable that `keywheel.yaml` does not let the tenant read."),
    ("config/empty", "`keywheel.yaml` has no document."),
    ("config/state", "Not a state database."),
    ("config/state-password", "A database's password stands in `keywheel.yaml`."),
    ("config/apply-from", "Not the whole name of a ref."),
    ("config/approvals-unsigned", "Approvals are asked for, and not that commits are signed (a warning)."),
    ("config/no-owners", "Signatures are asked for, and nobody is named who may give them for this file."),
    (
        "config/duration",
        "A duration that is too long, or nothing; a call to a key manager that may take longer than its lock is good for.",
    ),
    ("config/variable-name", "Not the name of an environment variable."),
    ("config/provider", "A region, endpoint or role that is none."),
    ("set/duplicate", "Two documents of one kind and name."),
    ("set/misplaced", "A document of this kind does not stand in this file."),
    ("set/tenant-folder", "A folder whose name cannot be a tenant's."),
    ("set/tenant-mismatch", "A document in another tenant's folder."),
    ("set/unknown-tenant", "A tenant that has no folder."),
    ("set/dangling-policy", "A key names a policy that nobody defines."),
    ("set/provider-mismatch", "A key and its policy name different providers."),
    ("set/key-type-mismatch", "A key and its policy name different classes of data."),
    ("set/policy-without-keys", "No key names the policy (a warning)."),
    ("set/key-without-policy", "The key names no policy (a warning)."),
    ("set/alias-taken", "Two keys claim one alias in one account and region."),
    ("set/key-id-taken", "Two keys claim one provider key."),
    ("set/previous-name-exists", "The old name of a renamed object is still there."),
    ("set/too-few-owners", "Fewer owners can sign than approvals are asked for (a warning)."),
    ("set/previous-name-twice", "Two objects claim one old name."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The text of every source file below a folder, but this one and tests.
    fn sources(folder: &Path, texts: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, texts);
            } else if !path.ends_with("codes.rs") && !path.ends_with("tests.rs") {
                *texts += &std::fs::read_to_string(&path).unwrap();
            }
        }
    }

    #[test]
    fn each_code_that_is_used_is_listed_and_each_that_is_listed_is_used() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut text = std::fs::read_to_string(src.join("schedule.rs")).unwrap();
        sources(&src.join("schedule"), &mut text);
        sources(&src.join("document"), &mut text);
        let groups: BTreeSet<&str> = CODES.iter().filter_map(|(code, _)| code.split('/').next()).collect();
        let is_code = |text: &str| {
            let word = |c: char| c.is_ascii_lowercase() || matches!(c, '-' | '8');
            text.split_once('/')
                .is_some_and(|(group, rest)| groups.contains(group) && !rest.is_empty() && rest.chars().all(word))
        };
        let used: BTreeSet<&str> = text.split('"').filter(|text| is_code(text)).collect();
        let listed: BTreeSet<&str> = CODES.iter().map(|(code, _)| *code).collect();
        assert_eq!(used, listed);
        assert_eq!(listed.len(), CODES.len(), "a code is listed twice");
    }
}
