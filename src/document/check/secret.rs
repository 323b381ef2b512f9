//! Secrets: they stand in the environment, and a document names them with `${NAME}` in a field that is declared secret.

use crate::diagnostic::Finding;
use crate::document::config::Config;
use crate::document::kind::Kind;
use crate::document::redact;
use crate::document::schema::Step;
use crate::document::subject::Subject;
use crate::document::tree::{Data, Node};
use crate::document::validate::list;
use crate::model::{NotificationSettings, Secret};

/// The field whose fields hold secrets.
const SETTINGS: &str = "notification_settings";

/// Those fields.
const SECRETS: [&str; 3] = ["slack_webhook", "webhook_url", "webhook_secret"];

/// Checks every scalar of a document, and the secrets that it inherits from `keywheel.yaml`. Without a config, which
/// variables a tenant may name is not judged.
pub(in crate::document) fn check(
    subject: &mut Subject<'_, '_>,
    config: Option<&Config>,
    inherited: Option<&NotificationSettings>,
) {
    let root = &subject.document.root;
    let mut found = Vec::new();
    walk(root, &mut Vec::new(), &mut |path, text| {
        let finding = if is_declared_secret(path) {
            declared(subject, config, text)
        } else if subject.document.kind == Kind::Config && matches!(path, [Step::Field("state" | "secrets"), ..]) {
            None
        } else {
            elsewhere(text)
        };
        found.extend(finding.map(|finding| (finding, path.to_vec())));
    });
    for (finding, path) in found {
        subject.add(finding, &path);
    }
    if let Some(settings) = inherited {
        let secrets = [&settings.slack_webhook, &settings.webhook_url, &settings.webhook_secret];
        for (field, secret) in SECRETS.into_iter().zip(secrets) {
            let finding =
                secret.as_ref().and_then(Secret::variable).and_then(|name| not_allowed(subject, config, name));
            if let Some(finding) = finding {
                subject.add(finding, &[Step::Field(SETTINGS), Step::Field(field)]);
            }
        }
    }
}

fn walk<'n>(node: &'n Node<'_>, path: &mut Vec<Step<'n>>, visit: &mut impl FnMut(&[Step<'n>], &'n str)) {
    match &node.data {
        Data::Scalar { text, .. } => visit(path, text),
        Data::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Index(index));
                walk(item, path, visit);
                path.pop();
            }
        }
        Data::Mapping(entries) => {
            for entry in entries {
                path.push(Step::Field(&entry.key));
                walk(&entry.value, path, visit);
                path.pop();
            }
        }
        Data::Broken => {}
    }
}

fn is_declared_secret(path: &[Step<'_>]) -> bool {
    let path = path.strip_prefix(&[Step::Field("defaults")]).unwrap_or(path);
    matches!(path, [Step::Field(SETTINGS), Step::Field(field)] if SECRETS.contains(field))
}

/// What a declared secret holds.
fn declared(subject: &Subject<'_, '_>, config: Option<&Config>, text: &str) -> Option<Finding> {
    if let Some(name) = Secret::from(text.to_owned()).variable() {
        return not_allowed(subject, config, name);
    }
    let help = "put it into an environment variable, write `${NAME}` here, and allow the name under `secrets` in `keywheel.yaml`; then replace the secret, which git's history keeps";
    if text.contains("${") {
        return Some(
            Finding::error("secret/not-whole", "a reference to a secret is the whole value of its field")
                .help("put the whole value into the environment variable, and write `${NAME}` alone"),
        );
    }
    Some(Finding::warning("secret/literal", "a secret stands in the document itself").help(help))
}

/// Is this variable one that the tenant may not name?
fn not_allowed(subject: &Subject<'_, '_>, config: Option<&Config>, name: &str) -> Option<Finding> {
    // In `keywheel.yaml` itself nobody is known yet; it is checked for each tenant that inherits it.
    let tenant = subject.document.folder.as_ref()?;
    // A `keywheel.yaml` that cannot be read is one mistake, not one for each document.
    let allowed = config?.secrets.get(tenant).map(Vec::as_slice).unwrap_or_default();
    if allowed.iter().any(|allowed| allowed == name) {
        return None;
    }
    let help = match allowed {
        [] => format!("add `secrets: {{{tenant}: [{name}]}}` to `keywheel.yaml`"),
        allowed => format!(
            "it may name {}; or add `{name}` to `secrets` in `keywheel.yaml`",
            list(allowed.iter().map(String::as_str))
        ),
    };
    Some(
        Finding::error("secret/not-allowed", format!("`keywheel.yaml` does not let `{tenant}` read `{name}`"))
            .help(help),
    )
}

/// What stands in a field that is not declared secret.
fn elsewhere(text: &str) -> Option<Finding> {
    let referred = text.match_indices("${").any(|(at, _)| {
        let rest = text.get(at..).unwrap_or_default();
        let end = rest.find('}').map_or(0, |end| end + 1);
        Secret::from(rest.get(..end).unwrap_or_default().to_owned()).variable().is_some()
    });
    if referred {
        let fields = list(SECRETS.into_iter());
        return Some(
            Finding::error(
                "secret/not-a-secret-field",
                "environment variables are read in fields that are declared secret, and nowhere else",
            )
            .help(format!("write the value itself; the secret fields are {fields}")),
        );
    }
    matches!(redact::patterns(text), std::borrow::Cow::Owned(_)).then(|| {
        Finding::warning("secret/literal", "this looks like a secret")
            .help("remove it from the document, then replace the secret, which git's history keeps")
    })
}
