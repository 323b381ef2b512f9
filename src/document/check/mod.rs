//! The second pass: each document's own sense, with what it inherits.
//!
//! Must not know: any other document of the set.

mod config;
mod key;
mod policy;
mod secret;
mod tenant;

pub(super) use config::check as config;
pub(super) use key::{alias_of_id, check as key};
pub(super) use policy::check as policy;
pub(super) use secret::check as secrets;
pub use tenant::able_to_sign;
pub(super) use tenant::{check as tenant, freeze};

use super::subject::Subject;
use crate::document::Capabilities;
use crate::model::KmsProvider;

/// Refuses a provider that this build cannot work with; says whether it can.
fn provider(
    subject: &mut Subject<'_, '_>,
    provider: KmsProvider,
    capabilities: fn(KmsProvider) -> Capabilities,
) -> bool {
    if capabilities(provider).available {
        return true;
    }
    let available: Vec<&str> =
        KmsProvider::ALL.iter().filter(|it| capabilities(**it).available).map(|it| it.as_str()).collect();
    let help = format!("use {}", super::validate::list(available.into_iter()));
    let message = format!("this build of keywheel cannot work with `{provider}` yet");
    subject.error("provider/not-available", "kms_provider", message, help);
    false
}

/// The smallest likeness to an address of mail: something, one `@`, a domain, no spaces (RFC 5321 allows more than
/// anybody uses; the mail server has the last word).
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let plain =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@');
    let labels = |domain: &str| {
        domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
    };
    text.len() <= 254 && plain(local) && plain(domain) && labels(domain)
}
