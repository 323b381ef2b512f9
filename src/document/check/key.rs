//! The sense of a key.

use crate::diagnostic::Finding;
use crate::document::Capabilities;
use crate::document::scalar::shorten;
use crate::document::schema::Step;
use crate::document::subject::Subject;
use crate::document::validate::{list, suggest};
use crate::model::{EncryptionKey, KmsProvider};

/// The longest alias of AWS KMS (API reference, `CreateAlias`).
const MAX_ALIAS: usize = 256;

/// The most tags of a key in AWS KMS (quotas of AWS KMS), less the four that keywheel adds.
const MAX_TAGS: usize = 50 - 4;

/// The longest key policy of AWS KMS, in bytes (API reference, `PutKeyPolicy`).
const MAX_KEY_POLICY: usize = 32 * 1024;

/// The longest description of AWS KMS (API reference, `CreateKey`).
const MAX_DESCRIPTION: usize = 8192;

/// What AWS KMS makes, and what each may be used for, the default first (developer guide, "Key spec reference").
const AWS_SPECS: [(&str, &[&str]); 17] = [
    ("SYMMETRIC_DEFAULT", &["ENCRYPT_DECRYPT"]),
    ("RSA_2048", &["ENCRYPT_DECRYPT", "SIGN_VERIFY"]),
    ("RSA_3072", &["ENCRYPT_DECRYPT", "SIGN_VERIFY"]),
    ("RSA_4096", &["ENCRYPT_DECRYPT", "SIGN_VERIFY"]),
    ("ECC_NIST_P256", &["SIGN_VERIFY", "KEY_AGREEMENT"]),
    ("ECC_NIST_P384", &["SIGN_VERIFY", "KEY_AGREEMENT"]),
    ("ECC_NIST_P521", &["SIGN_VERIFY", "KEY_AGREEMENT"]),
    ("ECC_NIST_EDWARDS25519", &["SIGN_VERIFY"]),
    ("ECC_SECG_P256K1", &["SIGN_VERIFY"]),
    ("HMAC_224", &["GENERATE_VERIFY_MAC"]),
    ("HMAC_256", &["GENERATE_VERIFY_MAC"]),
    ("HMAC_384", &["GENERATE_VERIFY_MAC"]),
    ("HMAC_512", &["GENERATE_VERIFY_MAC"]),
    ("ML_DSA_44", &["SIGN_VERIFY"]),
    ("ML_DSA_65", &["SIGN_VERIFY"]),
    ("ML_DSA_87", &["SIGN_VERIFY"]),
    ("SM2", &["ENCRYPT_DECRYPT", "SIGN_VERIFY", "KEY_AGREEMENT"]),
];

/// What the local provider makes.
const LOCAL_SPECS: [(&str, &[&str]); 1] = [("SYMMETRIC_DEFAULT", &["ENCRYPT_DECRYPT"])];

/// Checks a key.
pub(in crate::document) fn check(
    subject: &mut Subject<'_, '_>,
    key: &EncryptionKey,
    capabilities: fn(KmsProvider) -> Capabilities,
) {
    if super::provider(subject, key.kms_provider, capabilities) {
        let can = capabilities(key.kms_provider);
        place(subject, key, can);
        match key.kms_provider {
            KmsProvider::AwsKms => aws(subject, key),
            KmsProvider::Local => {
                kind(subject, key, &LOCAL_SPECS);
                for (field, is_set) in
                    [("key_policy", key.key_policy.is_some()), ("kms_key_id", key.kms_key_id.is_some())]
                {
                    if is_set {
                        subject.error(
                            "key/field-not-possible",
                            field,
                            format!("`{field}` means nothing to the provider `local`"),
                            "remove it",
                        );
                    }
                }
            }
            KmsProvider::VaultTransit | KmsProvider::Pkcs11 | KmsProvider::GcpKms | KmsProvider::AzureKeyVault => {}
        }
    }
    reserved_tags(subject, key);
    if key.previous_name.as_ref() == Some(&key.key_name) {
        subject.error(
            "key/previous-name",
            "previous_name",
            "`previous_name` is the key's own name",
            "remove it, or write the name that the key had before",
        );
    }
}

/// Region and alias, as far as providers have them.
fn place(subject: &mut Subject<'_, '_>, key: &EncryptionKey, can: Capabilities) {
    let provider = key.kms_provider;
    if !can.regions {
        for (field, is_set) in [("kms_region", key.kms_region.is_some()), ("multi_region", key.multi_region)] {
            if is_set {
                subject.error("key/no-regions", field, format!("`{provider}` has no regions"), "remove it");
            }
        }
    }
    if can.needs_alias && key.kms_alias.is_none() && key.rotation_policy.is_some() {
        subject.error(
            "key/no-alias",
            "rotation_policy",
            format!("a key of `{provider}` cannot rotate without an alias: a rotation re-points it to the new key"),
            format!("add `kms_alias: alias/{}`, and let applications use it", alias_from(key.key_name.as_str())),
        );
    }
}

fn alias_from(name: &str) -> String {
    name.chars().map(|c| if is_alias_character(c) { c } else { '-' }).collect()
}

fn is_alias_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-')
}

fn aws(subject: &mut Subject<'_, '_>, key: &EncryptionKey) {
    if let Some(alias) = &key.kms_alias {
        aws_alias(subject, alias);
    }
    if let Some(region) = &key.kms_region
        && !is_region(region)
    {
        subject.error(
            "key/region",
            "kms_region",
            format!("`{}` is not a region of AWS", shorten(region)),
            "write it as `us-east-1`",
        );
    }
    if let Some(id) = &key.kms_key_id {
        aws_key_id(subject, key, id);
    }
    kind(subject, key, &AWS_SPECS);
    aws_tags(subject, key);
    if let Some(policy) = &key.key_policy {
        let bytes = serde_json::to_string(policy).map_or(0, |text| text.len());
        if bytes > MAX_KEY_POLICY {
            subject.error(
                "key/key-policy-too-long",
                "key_policy",
                format!("the key policy has {bytes} bytes as JSON, AWS KMS takes {MAX_KEY_POLICY}"),
                "shorten it",
            );
        }
        for field in ["Version", "Statement"].into_iter().filter(|field| !policy.contains_key(*field)) {
            subject.error(
                "key/key-policy",
                "key_policy",
                format!("a key policy of AWS KMS has a `{field}`"),
                format!("add `{field}`, or remove `key_policy` to take AWS's default"),
            );
        }
    }
    let length = key.description.as_ref().map_or(0, |text| text.chars().count());
    if length > MAX_DESCRIPTION {
        subject.error(
            "key/description-too-long",
            "description",
            format!("the description has {length} characters, AWS KMS takes {MAX_DESCRIPTION}"),
            "shorten it",
        );
    }
}

fn aws_alias(subject: &mut Subject<'_, '_>, alias: &str) {
    let shown = shorten(alias);
    let Some(name) = alias.strip_prefix("alias/") else {
        let help = format!("write `kms_alias: alias/{}`", alias_from(alias.trim_start_matches('/')));
        return subject.error(
            "key/alias",
            "kms_alias",
            format!("`{shown}` is not an alias of AWS KMS: it begins with `alias/`"),
            help,
        );
    };
    if name.starts_with("aws/") {
        return subject.error(
            "key/alias",
            "kms_alias",
            format!("`{shown}` belongs to AWS"),
            "choose a name that does not begin with `alias/aws/`",
        );
    }
    if name.is_empty() || !name.chars().all(is_alias_character) {
        subject.error(
            "key/alias",
            "kms_alias",
            format!("`{shown}` is not an alias of AWS KMS"),
            "after `alias/` write letters, digits, `/`, `_` and `-`",
        );
    } else if alias.len() > MAX_ALIAS {
        subject.error(
            "key/alias",
            "kms_alias",
            format!("the alias has {} characters, AWS KMS takes {MAX_ALIAS}", alias.len()),
            "shorten it",
        );
    }
}

/// The form of a region's name, not which exist: AWS adds some each year.
pub(super) fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let letters = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    let number = parts.next_back().is_some_and(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()));
    let words: Vec<&str> = parts.collect();
    number && words.len() >= 2 && words.into_iter().all(letters)
}

/// What an ARN of AWS KMS says.
struct Arn<'a> {
    region: &'a str,
    resource: &'a str,
}

/// `arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE`
fn arn(text: &str) -> Option<Arn<'_>> {
    let mut parts = text.splitn(6, ':');
    let (scheme, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (scheme == "arn" && partition.starts_with("aws") && service == "kms" && is_account)
        .then_some(Arn { region, resource })
}

/// The alias that a `kms_key_id` names, if it names one (`alias/NAME` or its ARN).
pub(in crate::document) fn alias_of_id(id: &str) -> Option<&str> {
    let resource = arn(id).map_or(id, |arn| arn.resource);
    resource.starts_with("alias/").then_some(resource)
}

/// A UUID, or the id of a multi-region key (`mrk-` and 32 digits).
fn is_key_id(text: &str) -> bool {
    let hexadecimal =
        |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(rest) = text.strip_prefix("mrk-") {
        return hexadecimal(rest, 32);
    }
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| hexadecimal(part, length))
}

fn aws_key_id(subject: &mut Subject<'_, '_>, key: &EncryptionKey, id: &str) {
    let help =
        "write the key's id (`0f1e2d3c-...`), its ARN (`arn:aws:kms:REGION:ACCOUNT:key/ID`) or an alias (`alias/NAME`)";
    let parsed = arn(id);
    let resource = parsed.as_ref().map_or(id, |arn| arn.resource);
    let fits = match (resource.strip_prefix("key/"), resource.strip_prefix("alias/")) {
        (Some(key_id), _) => parsed.is_some() && is_key_id(key_id),
        (_, Some(alias)) if alias.starts_with("aws/") => {
            let message = format!("`{}` is managed by AWS, which alone rotates it", shorten(id));
            return subject.error("key/key-id", "kms_key_id", message, "name a key of your own");
        }
        (_, Some(alias)) => !alias.is_empty() && alias.chars().all(is_alias_character),
        (None, None) => is_key_id(resource),
    };
    if !fits {
        return subject.error("key/key-id", "kms_key_id", format!("`{}` is not a key of AWS KMS", shorten(id)), help);
    }
    if let (Some(arn), Some(region)) = (parsed, &key.kms_region)
        && arn.region != region
    {
        let message = format!("the key is in `{}`, and `kms_region` says `{}`", shorten(arn.region), shorten(region));
        subject.error("key/region", "kms_key_id", message, "make them the same");
    }
}

/// Kind and usage, and whether they go together.
fn kind(subject: &mut Subject<'_, '_>, key: &EncryptionKey, specs: &[(&str, &[&str])]) {
    let spec = key.key_spec.as_deref().unwrap_or("SYMMETRIC_DEFAULT");
    let usage = key.key_usage.as_deref().unwrap_or("ENCRYPT_DECRYPT");
    let provider = key.kms_provider;
    let Some((_, usages)) = specs.iter().find(|(name, _)| *name == spec) else {
        let names = || specs.iter().map(|(name, _)| *name);
        let help = suggest(spec, names())
            .map_or_else(|| format!("write one of {}", list(names())), |name| format!("did you mean `{name}`?"));
        return subject.error(
            "key/spec",
            "key_spec",
            format!("`{provider}` has no key spec `{}`", shorten(spec)),
            help,
        );
    };
    if usages.contains(&usage) {
        return;
    }
    let help = format!(
        "write {}",
        usages.iter().map(|usage| format!("`key_usage: {usage}`")).collect::<Vec<_>>().join(" or ")
    );
    let message = if key.key_usage.is_some() {
        format!("a key of spec `{spec}` cannot be used for `{}`", shorten(usage))
    } else {
        format!("a key of spec `{spec}` needs a `key_usage`")
    };
    let field = if key.key_usage.is_some() { "key_usage" } else { "key_spec" };
    subject.error("key/usage", field, message, help);
}

/// Prefixes of tags that are not the user's.
fn reserved_tags(subject: &mut Subject<'_, '_>, key: &EncryptionKey) {
    for name in key.tags.keys() {
        let lower = name.to_ascii_lowercase();
        let owner = match lower.split_once(':') {
            Some(("aws", _)) => "AWS",
            Some(("keywheel", _)) => "keywheel",
            _ => continue,
        };
        let finding = Finding::error("key/tag", format!("tags that begin as `{}` belong to {owner}", shorten(name)))
            .help("choose another name");
        subject.add(finding, &[Step::Field("tags"), Step::Name(name)]);
    }
}

/// The limits of AWS KMS for tags (API reference, `Tag`; quotas).
fn aws_tags(subject: &mut Subject<'_, '_>, key: &EncryptionKey) {
    if key.tags.len() > MAX_TAGS {
        subject.error(
            "key/tag",
            "tags",
            format!("the key has {} tags", key.tags.len()),
            format!("keep at most {MAX_TAGS}: AWS KMS takes 50, and keywheel adds four"),
        );
    }
    let allowed = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c));
    for (name, value) in &key.tags {
        let message = if name.is_empty() || name.chars().count() > 128 {
            "the name of a tag has 1 to 128 characters"
        } else if value.chars().count() > 256 {
            "the value of a tag has at most 256 characters"
        } else if !allowed(name) || !allowed(value) {
            "a tag has letters, digits, spaces and `_.:/=+-@` only"
        } else {
            continue;
        };
        subject.add(
            Finding::error("key/tag", message).help("shorten it, or leave other characters out"),
            &[Step::Field("tags"), Step::Field(name)],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_taken_apart() {
        let arn = arn("arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-0000-4000-8000-000000000000").unwrap();
        assert_eq!((arn.region, arn.resource), ("us-east-1", "key/0f1e2d3c-0000-4000-8000-000000000000"));
        assert!(super::arn("arn:aws:s3:::bucket").is_none());
    }

    #[test]
    fn a_key_id_names_an_alias_or_not() {
        assert_eq!(alias_of_id("alias/a"), Some("alias/a"));
        assert_eq!(alias_of_id("arn:aws:kms:us-east-1:123456789012:alias/a"), Some("alias/a"));
        assert_eq!(alias_of_id("0f1e2d3c-0000-4000-8000-000000000000"), None);
    }

    #[test]
    fn regions_are_known_by_their_form() {
        for region in ["us-east-1", "eu-central-1", "us-gov-west-1", "ap-southeast-7"] {
            assert!(is_region(region), "{region}");
        }
        for region in ["", "us-east", "US-EAST-1", "us_east_1", "us-east-1a", "-1"] {
            assert!(!is_region(region), "{region}");
        }
    }
}
