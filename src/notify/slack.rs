//! What Slack gets: a line a message, by an incoming webhook (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
//!
//! The text is what people and providers wrote. It is escaped, so that it can neither mention nor link
//! (<https://docs.slack.dev/messaging/formatting-message-text>).

use serde_json::json;

use super::{Failure, Outgoing};
use crate::model::Message;

/// The most characters of a line.
const LONGEST: usize = 1000;

/// The most characters that are posted at once: Slack asks for no more than 4,000, and escaping makes them more.
const TOGETHER: usize = 3000;

/// How many of these messages are posted at once, one a line: a day on which everything fails must not become as many posts.
#[must_use]
pub fn together<'m>(messages: impl Iterator<Item = &'m Message>) -> usize {
    let lengths = messages.map(|message| message.text.chars().count().min(LONGEST));
    let totals = lengths.scan(0, |total, length| {
        *total += length;
        Some(*total)
    });
    totals.take_while(|total| *total <= TOGETHER).count().max(1)
}

/// Messages as Slack gets them.
///
/// # Errors
/// They have no form as JSON.
pub fn outgoing<'m>(messages: impl Iterator<Item = &'m Message>) -> Result<Outgoing, Failure> {
    let lines: Vec<String> = messages.map(|message| format!("keywheel: {}", escaped(&message.text))).collect();
    let payload = json!({
        "text": lines.join("\n"),
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
