//! The sense of `keywheel.yaml`.

use super::key::is_region;
use super::tenant;
use crate::diagnostic::Finding;
use crate::document::config::{Config, LONGEST_CALL, parse_duration};
use crate::document::scalar::shorten;
use crate::document::schema::Step;
use crate::document::subject::Subject;
use crate::model::Secret;

/// Checks the settings of a repository.
pub(in crate::document) fn check(subject: &mut Subject<'_, '_>, config: &Config) {
    state(subject, &config.state);
    if let Some(reference) = config.apply_from.as_deref().filter(|reference| !reference.starts_with("refs/")) {
        let help = format!("write the whole name: `refs/heads/{}`", shorten(reference));
        subject.error(
            "config/apply-from",
            "apply_from",
            format!("`{}` is not the name of a ref", shorten(reference)),
            help,
        );
    }
    tenant::defaults(subject, &config.defaults);
    tenant::owners(subject, &config.owners);
    if config.require_signed && !config.owners.iter().any(|owner| !owner.revoked) {
        subject.error(
            "config/no-owners",
            "require_signed",
            "`require_signed` asks for signatures of owners, and `owners` names nobody who may change this file",
            "name them: `owners: [{principal: alice@example.org, signing_key: ssh-ed25519 AAAA...}]`",
        );
    }
    if config.approvals.required > 0 && !config.require_signed {
        let message = "`approvals` never counts whoever wrote a change, and without `require_signed` anybody can write under \
                       another name";
        let finding = Finding::warning("config/approvals-unsigned", message).help("add `require_signed: true`");
        subject.add(finding, &[Step::Field("approvals")]);
    }
    for (tenant, names) in &config.secrets {
        for (index, name) in names.iter().enumerate() {
            if Secret::from(format!("${{{name}}}")).variable().is_none() {
                let help = match Secret::from(name.clone()).variable() {
                    Some(variable) => format!("write the name alone: `{variable}`"),
                    None => "write letters, digits and `_`, as in `SLACK_WEBHOOK_URL`".to_owned(),
                };
                let finding = Finding::error("config/variable-name", "this is not the name of an environment variable")
                    .help(help);
                subject.add(finding, &[Step::Field("secrets"), Step::Field(tenant.as_str()), Step::Index(index)]);
            }
        }
    }
    aws(subject, config);
}

fn state(subject: &mut Subject<'_, '_>, state: &str) {
    if Secret::from(state.to_owned()).variable().is_some() {
        return;
    }
    let (scheme, rest) = state.split_once(':').unwrap_or((state, ""));
    match scheme {
        "sqlite" if !rest.is_empty() => {}
        "postgres" | "postgresql" => {
            // Also where a password has an @ or a / in it, or stands behind the question mark.
            let user_info = rest.rsplit_once('@').map(|(user_info, _)| user_info);
            if user_info.is_some_and(|user_info| user_info.contains(':')) || rest.contains("password=") {
                subject.error(
                    "config/state-password",
                    "state",
                    "a database's password does not stand in `keywheel.yaml`",
                    "write `state: ${KEYWHEEL_STATE}`, and put the URL into that environment variable",
                );
            }
        }
        _ => subject.error(
            "config/state",
            "state",
            "this is not a state database",
            "write `sqlite:PATH`, or `${NAME}` of an environment variable that holds a `postgres://` URL",
        ),
    }
}

fn aws(subject: &mut Subject<'_, '_>, config: &Config) {
    const AWS: [Step<'static>; 2] = [Step::Field("providers"), Step::Field("aws_kms")];
    let aws = &config.providers.aws_kms;
    for (field, text, may_be_zero, longest) in [
        ("consistency_delay", &aws.consistency_delay, true, None),
        ("operation_timeout", &aws.operation_timeout, false, Some(LONGEST_CALL)),
        ("connect_timeout", &aws.connect_timeout, false, None),
    ] {
        let (problem, help) = match (parse_duration(text), longest) {
            (None, _) => ("is too long", "write a duration as `60s`"),
            (Some(duration), _) if duration.is_zero() && !may_be_zero => {
                ("cannot be nothing", "write a duration as `60s`")
            }
            (Some(duration), Some(longest)) if duration > longest => (
                "is longer than 60 s",
                "a call must end while its lock still counts: what takes longer is asked for again by the next apply",
            ),
            _ => continue,
        };
        let finding = Finding::error("config/duration", format!("`{field}` {problem}")).help(help);
        subject.add(finding, &[&AWS[..], &[Step::Field(field)]].concat());
    }
    account(subject, &AWS, aws.region.as_deref(), aws.endpoint_url.as_deref(), aws.role_arn.as_deref());
    for (tenant, own) in &aws.tenants {
        let path = [&AWS[..], &[Step::Field("tenants"), Step::Field(tenant.as_str())]].concat();
        account(subject, &path, own.region.as_deref(), own.endpoint_url.as_deref(), own.role_arn.as_deref());
    }
}

fn account(
    subject: &mut Subject<'_, '_>,
    path: &[Step<'_>],
    region: Option<&str>,
    endpoint: Option<&str>,
    role: Option<&str>,
) {
    let mut refuse = |field: &'static str, text: &str, what: &str, help: &str| {
        let finding = Finding::error("config/provider", format!("`{}` is not {what}", shorten(text))).help(help);
        subject.add(finding, &[path, &[Step::Field(field)]].concat());
    };
    if let Some(region) = region.filter(|region| !is_region(region)) {
        refuse("region", region, "a region of AWS", "write it as `us-east-1`");
    }
    if let Some(url) = endpoint.filter(|url| !is_http_url(url)) {
        refuse("endpoint_url", url, "a URL", "write it as `https://kms.us-east-1.amazonaws.com`");
    }
    if let Some(role) = role.filter(|role| !is_role(role)) {
        refuse("role_arn", role, "the ARN of a role", "write it as `arn:aws:iam::123456789012:role/keywheel`");
    }
}

fn is_http_url(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']) && !host.contains(char::is_whitespace))
}

fn is_role(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [scheme, partition, service, _, account, resource] = parts.as_slice() else { return false };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    *scheme == "arn" && partition.starts_with("aws") && *service == "iam" && is_account && resource.starts_with("role/")
}
