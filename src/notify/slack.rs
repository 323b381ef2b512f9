//! What Slack gets: one line, by an incoming webhook (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
//!
//! The text is what people and providers wrote. It is escaped, so that it can neither mention nor link
//! (<https://docs.slack.dev/messaging/formatting-message-text>).

use serde_json::json;

use super::{Failure, Outgoing};
use crate::model::Message;

/// The most characters of a line; Slack asks for no more than 4,000, and escaping makes them more.
const LONGEST: usize = 2000;

/// A message as Slack gets it.
///
/// # Errors
/// The message has no form as JSON.
pub fn outgoing(message: &Message) -> Result<Outgoing, Failure> {
    let payload = json!({
        "text": format!("keywheel: {}", escaped(&message.text)),
        "mrkdwn": false,
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
    });
    let body = serde_json::to_vec(&payload).map_err(|error| Failure::nothing(format!("it has no form: {error}")))?;
    Ok(Outgoing { headers: Vec::new(), content_type: "application/json; charset=utf-8", body })
}

/// On one line, and without what Slack gives a meaning.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(LONGEST) {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slack_gives_a_meaning_is_escaped() {
        assert_eq!(escaped("<!channel> & <@U1> a\nb"), "&lt;!channel&gt; &amp; &lt;@U1&gt; a b");
        assert_eq!(escaped(&"é".repeat(3000)).chars().count(), LONGEST + 1);
    }
}
