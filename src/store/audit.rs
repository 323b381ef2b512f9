//! The chain of the audit log: how a link is made, and how a chain is checked.
//!
//! Each tenant has a chain of its own, and the repository as a whole has one. A link's hash is SHA-256 over the hash
//! before it (as its 64 hexadecimal digits; zeros before the first) followed by the link's other columns as canonical
//! JSON (RFC 8785). So whoever changes, inserts or removes a link has to rewrite every link after it. That the end of
//! a chain was cut off, a chain cannot show: for that its head must be kept elsewhere.
//!
//! Must not know: SQL, connections, any clock.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows::{AuditRow, Json, Moment, TenantOrAll};
use crate::model::{AuditEntry, Name, ObjectKind, ObjectRef, Timestamp};

/// What a check of the audit log found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditCheck {
    /// How many links were checked.
    pub entries: u64,
    /// The end of each chain, as far as it is whole.
    pub heads: Vec<AuditHead>,
    /// The first broken link, if there is one; the check ended there.
    pub broken: Option<BrokenLink>,
}

/// An entry in its place in a chain.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AuditLink {
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who: a person, a CI job, a token, `keywheel`.
    pub actor: String,
    /// The commit in force.
    pub commit: Option<String>,
    /// The apply that it belongs to.
    pub correlation_id: String,
    /// What was done: `key.rotated`, say.
    pub action: String,
    /// To what.
    pub object: ObjectRef,
    /// The changed fields before.
    pub before: Option<Value>,
    /// The changed fields after.
    pub after: Option<Value>,
    /// Its hash, in hexadecimal: of the hash before it and of all of the above.
    pub hash: String,
}

impl From<AuditRow> for AuditLink {
    fn from(row: AuditRow) -> Self {
        Self {
            seq: row.seq,
            at: row.at.0,
            actor: row.actor,
            commit: row.commit_id,
            correlation_id: row.correlation_id,
            action: row.action,
            object: ObjectRef { kind: row.object_kind, tenant_id: row.tenant_id.0, name: row.object_name },
            before: row.before.map(|json| json.0),
            after: row.after.map(|json| json.0),
            hash: row.hash,
        }
    }
}

impl From<AuditLink> for AuditRow {
    fn from(link: AuditLink) -> Self {
        Self {
            tenant_id: TenantOrAll(link.object.tenant_id),
            seq: link.seq,
            at: Moment(link.at),
            actor: link.actor,
            commit_id: link.commit,
            correlation_id: link.correlation_id,
            action: link.action,
            object_kind: link.object.kind,
            object_name: link.object.name,
            before: link.before.map(Json),
            after: link.after.map(Json),
            hash: link.hash,
        }
    }
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// Whose chain; none is the repository's own.
    pub tenant_id: Option<Name>,
    /// How many links it has.
    pub seq: u64,
    /// The hash of the last one, in hexadecimal.
    pub hash: String,
}

/// A link that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BrokenLink {
    /// In whose chain; none is the repository's own.
    pub tenant_id: Option<Name>,
    /// Its place in the chain.
    pub seq: u64,
    /// What is wrong with it.
    pub what: String,
}

impl AuditHead {
    /// The head of an empty chain.
    pub(super) fn start(tenant_id: Option<Name>) -> Self {
        Self { tenant_id, seq: 0, hash: "0".repeat(64) }
    }

    /// Makes the next link, which is the head from now on.
    pub(super) fn append(&mut self, entry: &AuditEntry) -> Result<AuditRow, serde_json::Error> {
        let mut row = AuditRow {
            tenant_id: TenantOrAll(self.tenant_id.clone()),
            seq: self.seq + 1,
            at: Moment(entry.at),
            actor: entry.actor.clone(),
            commit_id: entry.commit.clone(),
            correlation_id: entry.correlation_id.clone(),
            action: entry.action.clone(),
            object_kind: entry.object.kind,
            object_name: entry.object.name.clone(),
            before: entry.before.clone().map(Json),
            after: entry.after.clone().map(Json),
            hash: String::new(),
        };
        row.hash = link_hash(&self.hash, &row)?;
        self.seq = row.seq;
        self.hash.clone_from(&row.hash);
        Ok(row)
    }
}

impl AuditCheck {
    /// Checks the next link of those that were read, as [`AuditCheck::take`] does.
    pub fn read(&mut self, link: &AuditLink) {
        self.take(&link.clone().into());
    }

    /// Checks the next link; links come by chain and place. After a broken one, nothing more is looked at.
    pub(super) fn take(&mut self, row: &AuditRow) {
        if self.broken.is_some() {
            return;
        }
        let tenant_id = &row.tenant_id.0;
        let mut head = match self.heads.pop_if(|head| head.tenant_id == *tenant_id) {
            Some(head) => head,
            None => AuditHead::start(tenant_id.clone()),
        };
        match check(&head, row) {
            Ok(()) => {
                head.seq = row.seq;
                head.hash.clone_from(&row.hash);
                self.entries += 1;
            }
            Err((seq, what)) => self.broken = Some(BrokenLink { tenant_id: tenant_id.clone(), seq, what }),
        }
        if head.seq > 0 {
            self.heads.push(head);
        }
    }
}

/// Does the link go on from the head? If not: which link is broken, and how.
fn check(head: &AuditHead, row: &AuditRow) -> Result<(), (u64, String)> {
    let next = head.seq + 1;
    if row.seq != next {
        return Err((next, format!("it is missing: the chain goes on with link {}", row.seq)));
    }
    match link_hash(&head.hash, row) {
        Ok(hash) if hash == row.hash => Ok(()),
        Ok(_) => Err((next, "its content and its hash do not belong together: one of them was changed".to_owned())),
        Err(error) => Err((next, format!("its content has no canonical form: {error}"))),
    }
}

/// A link's content: its columns without the hash. Serialising it canonically sorts the fields.
#[derive(Serialize)]
struct Content<'a> {
    tenant_id: &'a TenantOrAll,
    seq: u64,
    at: Moment,
    actor: &'a str,
    commit_id: Option<&'a str>,
    correlation_id: &'a str,
    action: &'a str,
    object_kind: ObjectKind,
    object_name: &'a Name,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
}

fn link_hash(previous: &str, row: &AuditRow) -> Result<String, serde_json::Error> {
    let content = Content {
        tenant_id: &row.tenant_id,
        seq: row.seq,
        at: row.at,
        actor: &row.actor,
        commit_id: row.commit_id.as_deref(),
        correlation_id: &row.correlation_id,
        action: &row.action,
        object_kind: row.object_kind,
        object_name: &row.object_name,
        before: row.before.as_ref().map(|json| &json.0),
        after: row.after.as_ref().map(|json| &json.0),
    };
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(previous.as_bytes());
    hash.update(&serde_json_canonicalizer::to_vec(&content)?);
    Ok(hash.finish().as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
