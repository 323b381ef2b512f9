//! What a machine shows people on the lines of a change: findings, refusals, tenants left out, and what destroys.
//!
//! [`Notice`] is the one list behind the annotations of GitHub, GitLab, SARIF and `JUnit`, so that all of them say the same.
//!
//! Must not know: how any of them writes it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{Context, SHA256};

use crate::diagnostic::{Finding, Place, Related};
use crate::document::CONFIG;
use crate::model::{Name, ObjectRef, Severity};
use crate::plan::{Change, Plan};

use super::plan::loss;

/// Where something is shown that stands in no file: none of the readers shows what has no place, and this file is for all.
static EVERYWHERE: LazyLock<Place> = LazyLock::new(|| Place::beginning(Arc::from(CONFIG)));

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice<'p> {
    /// What sort of thing it is.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// A stable code: `limits/max-rotations`.
    pub code: &'p str,
    /// One sentence, without anything that could draw over its neighbours.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where it stands, or what somebody would edit.
    pub place: &'p Place,
    /// The line there.
    pub source_line: Option<&'p str>,
    /// The other place that matters: the rule that is broken.
    pub related: Option<&'p Related>,
    /// Whose it is; none where it concerns all.
    pub tenant: Option<&'p Name>,
    /// What it is about.
    pub object: Option<&'p ObjectRef>,
    /// The same for the same thing in the next run, whatever line it moved to; no two of one list have the same.
    pub fingerprint: String,
}

/// What sort of thing a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A finding of the documents or of the plan.
    Finding,
    /// A limit that the plan goes over.
    Refusal,
    /// A tenant of which nothing was planned.
    LeftOut,
    /// A change after which something does not decrypt any more.
    Destruction,
}

/// What there is to show of a plan.
#[must_use]
pub fn of_plan(plan: &Plan) -> Vec<Notice<'_>> {
    let refusals = plan.refusals.iter().map(|refusal| Notice {
        help: Some(refusal.help.replace("DIGEST", &plan.digest)),
        place: refusal.place.as_ref().unwrap_or(&EVERYWHERE),
        ..bare(Kind::Refusal, Severity::Error, &refusal.code, refusal.message.clone())
    });
    let lost = plan.changes.iter().filter(|change| change.action.is_destructive()).map(destruction);
    let left_out = plan.left_out.iter().map(|(tenant, why)| {
        let first = plan.diagnostics.iter().find(|it| it.is_error() && it.tenant_id.as_ref() == Some(tenant));
        let message = format!("{tenant}: nothing of it was planned: {why}");
        Notice {
            tenant: Some(tenant),
            place: first.and_then(|finding| finding.place.as_ref()).unwrap_or(&EVERYWHERE),
            source_line: first.and_then(|finding| finding.source_line.as_deref()),
            ..bare(Kind::LeftOut, Severity::Error, "plan/left-out", message)
        }
    });
    numbered(refusals.chain(lost).chain(left_out).chain(plan.diagnostics.iter().map(finding)).collect())
}

/// What there is to show of findings alone.
#[must_use]
pub fn of_findings(findings: &[Finding]) -> Vec<Notice<'_>> {
    numbered(findings.iter().map(finding).collect())
}

fn finding(finding: &Finding) -> Notice<'_> {
    Notice {
        help: finding.help.clone(),
        place: finding.place.as_ref().unwrap_or(&EVERYWHERE),
        source_line: finding.source_line.as_deref(),
        related: finding.related.as_ref(),
        tenant: finding.tenant_id.as_ref(),
        object: finding.object.as_ref(),
        ..bare(Kind::Finding, finding.severity, &finding.code, finding.message.clone())
    }
}

fn destruction(change: &Change) -> Notice<'_> {
    let version = change.version.map(|number| format!(" version {number}")).unwrap_or_default();
    let (object, loss) = (&change.object, loss(change.action));
    Notice {
        tenant: object.tenant_id.as_ref(),
        object: Some(object),
        place: change.place.as_ref().unwrap_or(&EVERYWHERE),
        help: Some(change.reason.message.clone()),
        ..bare(Kind::Destruction, Severity::Warning, "plan/destruction", format!("{object}{version} {loss}"))
    }
}

fn bare(kind: Kind, severity: Severity, code: &str, message: String) -> Notice<'_> {
    Notice {
        kind,
        severity,
        code,
        message,
        help: None,
        place: &EVERYWHERE,
        source_line: None,
        related: None,
        tenant: None,
        object: None,
        fingerprint: String::new(),
    }
}

/// Gives each its fingerprint: over what it says and of what, not over its line; the second of two that say the same is
/// the second.
fn numbered(mut notices: Vec<Notice<'_>>) -> Vec<Notice<'_>> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for notice in &mut notices {
        let object = notice.object.map(ToString::to_string).unwrap_or_default();
        let tenant = notice.tenant.map_or("", Name::as_str);
        let said = [notice.code, &notice.place.file, tenant, &object, &notice.message].join("\0");
        let nth = seen.entry(said.clone()).and_modify(|count| *count += 1).or_insert(1);
        let mut digest = Context::new(&SHA256);
        digest.update(said.as_bytes());
        digest.update(&nth.to_be_bytes());
        notice.fingerprint = digest.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    }
    notices
}
