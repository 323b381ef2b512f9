//! What a webhook gets: a `CloudEvents` 1.0 JSON document, signed as Standard Webhooks 1.0.0 says
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! A receiver knows a message that comes twice by its `webhook-id`, which is also the event's `id`.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Failure, Outgoing};
use crate::model::{Message, Timestamp};

/// What a secret begins with that is written in Base64.
const PREFIX: &str = "whsec_";

/// The fewest bytes of a secret that the specification allows.
const SHORTEST: usize = 24;

/// What messages are signed with.
pub struct SigningSecret(Zeroizing<Vec<u8>>);

impl SigningSecret {
    /// Reads a secret: `whsec_` and Base64, or any other text as it is.
    ///
    /// # Errors
    /// It is not Base64, or too short. The text is not in the error.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let bytes = match text.strip_prefix(PREFIX) {
            Some(encoded) => BASE64_STANDARD
                .decode(encoded)
                .map_err(|_| Failure::nothing(format!("what follows {PREFIX} in it is not Base64")))?,
            None => text.as_bytes().to_vec(),
        };
        let bytes = Zeroizing::new(bytes);
        if bytes.len() < SHORTEST {
            return Err(Failure::nothing(format!(
                "it has {} bytes, and a secret has at least {SHORTEST}",
                bytes.len()
            )));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(redacted)")
    }
}

/// A message as a receiver gets it at an instant, from the state database `lineage`.
///
/// # Errors
/// The message has no form as JSON.
pub fn outgoing(
    message: &Message,
    lineage: Uuid,
    secret: Option<&SigningSecret>,
    now: Timestamp,
) -> Result<Outgoing, Failure> {
    let event = json!({
        "specversion": "1.0",
        "id": message.id,
        "source": format!("urn:keywheel:{lineage}"),
        "type": format!("keywheel.{}", message.kind),
        "subject": format!("{} {}", message.object.kind, message.object),
        "time": message.at,
        "datacontenttype": "application/json",
        "data": {
            "kind": message.kind,
            "tenant_id": message.object.tenant_id,
            "name": message.object.name,
            "text": message.text,
            "details": message.details,
            "correlation_id": message.correlation_id,
        },
    });
    let body = serde_json::to_vec(&event).map_err(|error| Failure::nothing(format!("it has no form: {error}")))?;
    let (id, timestamp) = (message.id.to_string(), now.timestamp().to_string());
    let mut headers = vec![("webhook-id", id.clone()), ("webhook-timestamp", timestamp.clone())];
    if let Some(SigningSecret(secret)) = secret {
        let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body] {
            signing.update(part);
        }
        headers.push(("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(signing.sign()))));
    }
    let header = |(name, value): (&'static str, String)| {
        let value = HeaderValue::from_str(&value).map_err(|_| Failure::nothing("a header has no form"))?;
        Ok((HeaderName::from_static(name), value))
    };
    let headers = headers.into_iter().map(header).collect::<Result<_, Failure>>()?;
    Ok(Outgoing { headers, content_type: "application/cloudevents+json; charset=utf-8", body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_base64_after_its_prefix_and_otherwise_as_it_is() {
        let bytes = |text: &str| SigningSecret::parse(text).map(|secret| secret.0.to_vec());
        // The secret of the specification's example.
        let example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(bytes(example).unwrap(), BASE64_STANDARD.decode(&example[6..]).unwrap());
        assert_eq!(bytes("0123456789abcdef01234567\n").unwrap(), b"0123456789abcdef01234567");
        for text in ["", "short-secret", "whsec_c2hvcnQtc2VjcmV0", "whsec_no base64"] {
            let error = SigningSecret::parse(text).unwrap_err();
            assert!(!error.message.contains("short-secret") && !error.message.contains("no base64"), "{error}");
        }
    }
}
