//! Saved plans. Nobody guesses a SHA-256, so that an input is also read with the digests that it should have.

use aws_lc_rs::digest::{SHA256, digest};
use keywheel::plan::{self, Change, PlanDocument, Saved, Sources};
use keywheel::render::{self, View};
use serde_json::Value;
use uuid::Uuid;

/// What parses is written again as the same plan, and no byte of it can be changed for another meaning.
pub fn run(input: &[u8]) -> bool {
    let _ = plan::parse(input);
    let Some(sealed) = seal(input) else { return false };
    // Another major version, of which nothing else is known.
    let Ok(saved) = plan::parse(sealed.as_slice()) else { return false };
    let plan = &saved.plan;
    for width in [None, Some(0), Some(80)] {
        for full in [false, true] {
            let shown = render::plan::draw(plan, View { width, full });
            assert!(is_harmless(&shown), "a plan moves the cursor: {shown:?}");
        }
    }
    for approval in &saved.approvals {
        let _ = approval.claimed_key(&plan.digest);
    }
    let written = write(saved.clone());
    let again = plan::parse(written.as_slice()).expect("what was written is read");
    assert_eq!(again.plan, *plan);
    assert_eq!(write(again), written, "a plan has one form");

    // Where to damage it follows from the input, so that the fuzzer can choose.
    let seed = input.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    for bit in 0..8 {
        let mut damaged = sealed.clone();
        let at = seed.wrapping_add(bit * damaged.len() / 8) % damaged.len();
        damaged[at] ^= 1 << bit;
        if let Ok(read) = plan::parse(damaged.as_slice()) {
            assert_eq!(read, saved, "byte {at} means something and is not in the digests");
        }
    }
    true
}

/// Is there no control character in it but line feeds and those of colours?
fn is_harmless(shown: &str) -> bool {
    let mut parts = shown.split("\u{1b}[");
    let plain = |text: &str| !text.contains(|c: char| c.is_control() && c != '\n');
    let colour = |part: &str| part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m');
    parts.next().is_none_or(plain) && parts.all(|part| colour(part) && plain(part))
}

/// The plan with its digests; none if it is no plan at all.
fn seal(input: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(input).ok()?;
    let sources: Sources = field(&value, "sources")?;
    let lineage: Option<Uuid> = field(&value, "lineage")?;
    let changes: Vec<Change> = field(&value, "changes")?;
    let fields = value.as_object_mut()?;
    fields.insert("digest".to_owned(), plan::digest(&sources, lineage, &changes).into());
    fields.insert("document_digest".to_owned(), "".into());
    let document: PlanDocument = serde_json::from_value(value).ok()?;
    let mut value = serde_json::to_value(&document).ok()?;
    let hash = digest(&SHA256, &serde_json::to_vec(&document).ok()?);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    value.as_object_mut()?.insert("document_digest".to_owned(), format!("sha256:{hex}").into());
    serde_json::to_vec(&value).ok()
}

fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Option<T> {
    serde_json::from_value(value.get(name).cloned().unwrap_or_default()).ok()
}

fn write(saved: Saved) -> Vec<u8> {
    let mut bytes = Vec::new();
    PlanDocument::from(saved).write(&mut bytes).expect("memory takes everything");
    bytes
}
