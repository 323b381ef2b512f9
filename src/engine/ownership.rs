//! Who changed what since the last apply, and were they its owners?
//!
//! Owners, and whether signatures are asked for, are those that were applied last: a change cannot appoint its own
//! judges. It can dismiss them: a key that the newest documents call revoked counts for nothing any more. Before the first apply nothing is trusted yet; trust begins with a commit that an owner signed whom its own
//! `keywheel.yaml` names.
//!
//! Only files that differ from what was applied last count: a change that was taken back harms nobody, and is the way
//! out of an unsigned one. Of those, every commit that changed them counts, not the last one alone: a signature on top
//! of an unsigned change would launder it.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::diagnostic::{Finding, Place};
use crate::document::{Config, Repository};
use crate::model::{Name, ObjectKind, Origin, Owner, Recorded, Severity, Tenant, Timestamp};
use crate::plan;
use crate::plan::approvals::{Approval, PURPOSE};
use crate::signature::{self, GIT, Key, SignatureError, Signed, Standing, openpgp};
use crate::source::{self, CommitSignature, Repo, Since};

use super::apply::short;
use super::{Desired, EngineError, ErrorKind, Workspace, clock, load};

/// What the signatures of the commits since the last apply say.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Changes that none of their owners signed.
    pub findings: Vec<Finding>,
    /// The owner who signed the newest commit.
    pub signer: Option<String>,
}

/// Whose a file is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// `keywheel.yaml`, and what holds for every tenant.
    Everybody,
    Tenant(String),
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everybody => f.write_str("the repository (`owners` in keywheel.yaml)"),
            Self::Tenant(tenant) => write!(f, "tenant {tenant}"),
        }
    }
}

fn whose(file: &str) -> Whose {
    let mut parts = file.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(source::POLICIES_FOLDER), Some(tenant), Some(_)) => Whose::Tenant(tenant.to_owned()),
        _ => Whose::Everybody,
    }
}

/// The owners, each with the key that is theirs.
pub(super) struct Owners {
    in_force: Lists,
    /// What the newest documents say of them: whom they call revoked, is, before that is applied.
    newest: Lists,
    today: NaiveDate,
}

type Lists = BTreeMap<Whose, Vec<(Owner, Key)>>;

/// Why a signature does not count for somebody's files.
pub(super) enum Refused {
    Unsigned,
    Broken(SignatureError),
    /// With its fingerprint.
    Unknown(String),
    Other {
        principal: String,
        of: Vec<String>,
    },
    Standing {
        principal: String,
        standing: Standing,
    },
}

impl Owners {
    /// Those that were applied last; before the first apply, those that the documents name.
    pub(super) fn in_force(desired: &Desired, recorded: &Recorded) -> Result<Self, EngineError> {
        let newest = lists(&desired.repository.config, tenants_of(&desired.repository))?;
        let in_force = match plan::applied_config(recorded) {
            Some(config) => lists(&config, applied_tenants(recorded)?)?,
            None => newest.clone(),
        };
        Ok(Self { in_force, newest, today: clock::now().date_naive() })
    }

    /// Those that documents name.
    pub(super) fn of(repository: &Repository) -> Result<Self, EngineError> {
        let lists = lists(&repository.config, tenants_of(repository))?;
        Ok(Self { newest: lists.clone(), in_force: lists, today: clock::now().date_naive() })
    }

    /// Whoever may change somebody's files: without owners of its own who can sign, a tenant's files are the repository's.
    pub(super) fn of_files(&self, whose: &Whose) -> &[(Owner, Key)] {
        let can_sign = |(owner, key): &(Owner, Key)| {
            let is_lost = self.said_of(whose).any(|(said, other)| said.revoked && other.to_string() == key.to_string());
            !is_lost && owner.valid_before.is_none_or(|last| self.today <= last)
        };
        let own = self.in_force.get(whose).filter(|own| own.iter().any(can_sign));
        own.or_else(|| self.in_force.get(&Whose::Everybody)).map_or(&[], Vec::as_slice)
    }

    /// What is said of keys where it counts for somebody's files, by what is in force and by the newest documents. That a key is
    /// lost, the owners of the repository say for everybody; another tenant says it for its own files alone, or it could take
    /// everybody's rights away.
    fn said_of<'o>(&'o self, whose: &'o Whose) -> impl Iterator<Item = &'o (Owner, Key)> {
        let lists = [&self.in_force, &self.newest].into_iter();
        lists.flat_map(move |lists| [whose, &Whose::Everybody].into_iter().filter_map(|of| lists.get(of))).flatten()
    }

    fn all(&self) -> impl Iterator<Item = (&Whose, &Owner, &Key)> {
        self.in_force.iter().flat_map(|(whose, owners)| owners.iter().map(move |(owner, key)| (whose, owner, key)))
    }

    /// The owner who signed, if they may change these files.
    fn signer(
        &self,
        signature: Option<&CommitSignature>,
        whose: &Whose,
        instants: &[Timestamp],
    ) -> Result<&Owner, Refused> {
        let signature = signature.ok_or(Refused::Unsigned)?;
        self.owner(&self.verify(&signature.armour, GIT, &signature.signed)?, whose, instants)
    }

    /// The owner who signed a commit, whosever files they may change.
    fn signer_of(&self, change: &source::Change) -> Option<String> {
        let signature = change.signature.as_ref()?;
        let signed = self.verify(&signature.armour, GIT, &signature.signed).ok()?;
        let of =
            |(_, owner, key): &(&Whose, &Owner, &Key)| key.made(&signed) && !signature::is_revoked(owner, key, &signed);
        self.all().find(of).map(|(_, owner, _)| owner.principal.clone())
    }

    /// Who signed an approval, and what they own; none where its key is no owner's.
    pub(super) fn of_approval(&self, approval: &Approval, digest: &str) -> Option<(String, Vec<String>)> {
        let signed = self.verify(&approval.signature, PURPOSE, approval.statement(digest).as_bytes()).ok()?;
        let theirs: Vec<_> = self.all().filter(|(_, owner, key)| key.made(&signed) && !owner.revoked).collect();
        let (_, owner, _) = theirs.first()?;
        Some((owner.principal.clone(), theirs.iter().map(|(whose, ..)| whose.to_string()).collect()))
    }

    /// Whose signature it is, whatever they may.
    pub(super) fn verify(&self, armour: &str, purpose: &str, message: &[u8]) -> Result<Signed, Refused> {
        let keys = self.all().map(|(_, _, key)| key);
        signature::verify(armour, purpose, message, keys).map_err(|error| match error {
            SignatureError::OpenPgp(openpgp::SignatureError::Unknown(key)) => Refused::Unknown(key),
            error => Refused::Broken(error),
        })
    }

    /// The owner whose key signed, if they may change these files.
    pub(super) fn owner(&self, signed: &Signed, whose: &Whose, instants: &[Timestamp]) -> Result<&Owner, Refused> {
        if let Some((owner, _)) = self.said_of(whose).find(|(owner, key)| signature::is_revoked(owner, key, signed)) {
            return Err(Refused::Standing { principal: owner.principal.clone(), standing: Standing::Revoked });
        }
        let mut refused = None;
        // Also its own owners who cannot sign any more: why not is what they want to know.
        let own = self.in_force.get(whose).map_or(&[][..], Vec::as_slice);
        for (owner, key) in own.iter().chain(self.of_files(whose)).filter(|(_, key)| key.made(signed)) {
            match signature::standing(owner, key, signed, instants) {
                Ok(()) => return Ok(owner),
                Err(standing) => refused = Some(Refused::Standing { principal: owner.principal.clone(), standing }),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let others: Vec<_> = self.all().filter(|(_, _, key)| key.made(signed)).collect();
            match others.first() {
                Some((_, owner, _)) => Refused::Other {
                    principal: owner.principal.clone(),
                    of: others.iter().map(|(whose, _, _)| whose.to_string()).collect(),
                },
                None => Refused::Unknown(signed.to_string()),
            }
        }))
    }
}

fn lists(config: &Config, tenants: BTreeMap<Name, Tenant>) -> Result<Lists, EngineError> {
    let tenants = tenants.into_iter().map(|(name, tenant)| (Whose::Tenant(name.to_string()), tenant.owners));
    let all = tenants.chain([(Whose::Everybody, config.owners.clone())]);
    let read = |owner: Owner| match Key::parse(&owner.signing_key) {
        Ok(key) => Ok((owner, key)),
        Err(error) => {
            let message = format!("the key of {} cannot be read: {error}", owner.principal);
            Err(EngineError::new("signature/owner", message).kind(ErrorKind::Refused))
        }
    };
    let read = |(whose, owners): (Whose, Vec<Owner>)| {
        Ok((whose, owners.into_iter().map(read).collect::<Result<Vec<_>, EngineError>>()?))
    };
    all.map(read).collect()
}

/// Looks at every commit since the last apply.
///
/// # Errors
/// See [`EngineError`]. What was signed wrongly is a finding, and no error.
pub(super) fn examine(
    workspace: &Workspace,
    desired: &Desired,
    recorded: &Recorded,
    now: Timestamp,
) -> Result<Examined, EngineError> {
    let Some(origin) = &desired.origin else { return Ok(Examined::default()) };
    let applied = plan::applied_config(recorded);
    let is_first = applied.is_none();
    let config = applied.unwrap_or_else(|| desired.repository.config.clone());
    let owners = Owners::in_force(desired, recorded)?;
    if owners.all().next().is_none() && !config.require_signed {
        return Ok(Examined::default());
    }
    let repo = load::open(&workspace.dir)?;
    let commit = origin.commit.trim_end_matches("-dirty");
    let last = recorded.last_applied.as_ref().map(|last| last.origin.commit.trim_end_matches("-dirty"));
    let since = last.filter(|_| config.require_signed && !is_first).unwrap_or(commit);
    let changes = repo.changes(since, commit)?;
    let judge = Judge { owners: &owners, now, way_out: TAKE_BACK };
    let head = &changes.head;
    let signer = owners.signer_of(head);
    let mut findings = Vec::new();
    if config.require_signed {
        if origin.commit.ends_with("-dirty") {
            let message = format!("uncommitted changes are signed by nobody: {}", some(&desired.dirty));
            findings.push(Finding::error("signature/uncommitted", message).help("commit them, signed: git commit -S"));
        }
        if is_first {
            let what = format!("commit {} would be the first that is applied", short(&head.commit));
            findings.extend(judge.vouched(head, &Whose::Everybody, &what, &[]));
        }
        if changes.since == Since::Gone {
            let last = short(last.unwrap_or_default());
            let what = format!("commit {last}, which was applied last, is not in this repository");
            findings.extend(judge.vouched(head, &Whose::Everybody, &what, &[]));
        }
        for change in &changes.commits {
            for (whose, files) in by_owner(&change.files) {
                findings.extend(judge.signed(change, &whose, &files));
            }
        }
        for (whose, files) in by_owner(&changes.unexplained) {
            let what = format!(
                "{} differs from commit {}, which was applied last, and no commit since changed it: the history was rewritten",
                some(&files),
                short(last.unwrap_or_default())
            );
            findings.extend(judge.vouched(head, &whose, &what, &files));
        }
    }
    Ok(Examined { findings, signer })
}

/// What refuses an apply.
///
/// # Errors
/// A change is not signed by an owner of what it changes.
pub(super) fn signed(Examined { findings, .. }: &Examined) -> Result<(), EngineError> {
    let Some(first) = findings.first() else { return Ok(()) };
    let more = match findings.len() - 1 {
        0 => String::new(),
        more => format!(" ({more} more: `keywheel plan` shows all)"),
    };
    let error = EngineError::new("apply/unsigned", format!("{}{more}: nothing was applied", first.message));
    Err(error.kind(ErrorKind::Refused).help(first.help.clone().unwrap_or_default()))
}

/// Looks at every commit of a branch, as the owners and the settings where it began will once it is merged. Nothing that the
/// branch itself says of owners counts.
///
/// # Errors
/// The history cannot be read. What is signed wrongly is a warning: a git host may still make one commit of a branch.
pub(super) fn review(
    repo: &Repo,
    base: &str,
    head: &str,
    before: &Repository,
    now: Timestamp,
) -> Result<Vec<Finding>, EngineError> {
    if !before.config.require_signed {
        return Ok(Vec::new());
    }
    let owners = match Owners::of(before) {
        Ok(owners) => owners,
        Err(error) => return Ok(vec![Finding::warning(error.code, error.message)]),
    };
    let changes = repo.changes(base, head)?;
    let judge = Judge { owners: &owners, now, way_out: SIGN_FIRST };
    let mut findings = Vec::new();
    for change in &changes.commits {
        for (whose, files) in by_owner(&change.files) {
            findings.extend(judge.signed(change, &whose, &files));
        }
    }
    for (whose, files) in by_owner(&changes.unexplained) {
        let what = format!("{} differs from commit {}, and no commit since changed it", some(&files), short(base));
        findings.extend(judge.vouched(&changes.head, &whose, &what, &files));
    }
    for finding in &mut findings {
        finding.severity = Severity::Warning;
    }
    Ok(findings)
}

/// What to do about a commit that is merged and counts.
const TAKE_BACK: &str = "bring these files back to what was applied last, apply, and make the change again in a commit that \
                         one of them signed (git commit -S); of a squash or a merge at a git host, the host's own key is the signer";

/// What to do about one that is not merged yet.
const SIGN_FIRST: &str = "merged as it is, apply refuses it: let one of them sign it before (git rebase --exec 'git commit --amend \
                          --no-edit -S' BASE). It is a warning, since a squash or a rebase at the git host makes new commits, which \
                          the host's own key signs: that counts only where an owner has that key";

struct Judge<'a> {
    owners: &'a Owners,
    now: Timestamp,
    /// What to do about a commit that none of its owners signed.
    way_out: &'static str,
}

impl Judge<'_> {
    /// A commit that changed somebody's files is signed by one of its owners.
    fn signed(&self, change: &source::Change, whose: &Whose, files: &[String]) -> Option<Finding> {
        let refused = self.ask(change, whose)?;
        let what = format!("commit {} of {} changed {}", short(&change.commit), change.author, some(files));
        Some(self.finding(&refused, &what, "and is", whose, files, self.way_out))
    }

    /// The newest commit stands for what no commit shows.
    fn vouched(&self, head: &source::Change, whose: &Whose, what: &str, files: &[String]) -> Option<Finding> {
        let refused = self.ask(head, whose)?;
        let subject = format!("and the newest commit, {} of {}, is", short(&head.commit), head.author);
        let way_out = "one of them stands for the whole by signing the newest commit: git commit --allow-empty -S";
        Some(self.finding(&refused, what, &subject, whose, files, way_out))
    }

    fn ask(&self, change: &source::Change, whose: &Whose) -> Option<Refused> {
        // A commit whose date cannot be told is of no time at which a key was valid.
        let instants = [change.committed_at.unwrap_or(Timestamp::MIN_UTC), self.now];
        self.owners.signer(change.signature.as_ref(), whose, &instants).err()
    }

    fn finding(
        &self,
        refused: &Refused,
        what: &str,
        subject: &str,
        whose: &Whose,
        files: &[String],
        way_out: &str,
    ) -> Finding {
        let (code, why) = match refused {
            Refused::Unsigned => ("signature/unsigned", "not signed".to_owned()),
            Refused::Broken(error) => ("signature/broken", format!("signed, but that does not hold: {error}")),
            Refused::Unknown(key) => ("signature/unknown-key", format!("signed with {key}, which is no owner's key")),
            Refused::Other { principal, of } => (
                "signature/not-an-owner",
                format!("signed by {principal}, an owner of {}, and not of {whose}", of.join(", ")),
            ),
            Refused::Standing { principal, standing } => {
                ("signature/owners-key", format!("signed by {principal}, whose key {standing}"))
            }
        };
        let owners: Vec<String> =
            self.owners.of_files(whose).iter().map(|(owner, _)| owner.principal.clone()).collect();
        let help = match owners.as_slice() {
            [] => format!("{whose} has no owners: name them in `owners` of keywheel.yaml or of the tenant"),
            owners => format!("the owners of {whose} are {}: {way_out}", some(owners)),
        };
        let mut finding = Finding::error(code, format!("{what}, {subject} {why}")).help(help);
        if let Whose::Tenant(tenant) = whose {
            finding.tenant_id = tenant.parse().ok();
        }
        match files.first() {
            Some(file) => finding.at(Place { file: file.as_str().into(), line: 1, column: 1, length: 1 }, None),
            None => finding,
        }
    }
}

fn by_owner(files: &[String]) -> BTreeMap<Whose, Vec<String>> {
    let mut groups: BTreeMap<Whose, Vec<String>> = BTreeMap::new();
    for file in files {
        groups.entry(whose(file)).or_default().push(file.clone());
    }
    groups
}

/// Who wrote what differs from what was applied last: their principals, in lower case, and the commit.
#[derive(Debug, Default)]
pub(super) struct Authors(BTreeMap<Whose, BTreeMap<String, String>>);

impl Authors {
    /// The commits since the last apply; before the first, the newest one stands for all.
    pub(super) fn since(workspace: &Workspace, desired: &Desired, recorded: &Recorded) -> Result<Self, EngineError> {
        let mut authors = Self::default();
        let Some(origin) = &desired.origin else { return Ok(authors) };
        let owners = Owners::in_force(desired, recorded)?;
        let commit = origin.commit.trim_end_matches("-dirty");
        let last = recorded.last_applied.as_ref().map(|last| last.origin.commit.trim_end_matches("-dirty"));
        let changes = load::open(&workspace.dir)?.changes(last.unwrap_or(commit), commit)?;
        for change in &changes.commits {
            authors.wrote(&owners, change, &change.files);
        }
        authors.wrote(&owners, &changes.head, &changes.unexplained);
        if last.is_none() || changes.since == Since::Gone {
            authors.wrote(&owners, &changes.head, &[source::CONFIG_FILE.to_owned()]);
        }
        Ok(authors)
    }

    fn wrote(&mut self, owners: &Owners, change: &source::Change, files: &[String]) {
        let signature = change.signature.as_ref();
        let signed = signature.and_then(|it| owners.verify(&it.armour, GIT, &it.signed).ok());
        let signers = owners.all().filter(|(_, _, key)| signed.as_ref().is_some_and(|signed| key.made(signed)));
        let signers: Vec<_> = signers.map(|(_, owner, _)| owner.principal.clone()).collect();
        for whose in by_owner(files).into_keys() {
            let wrote = self.0.entry(whose).or_default();
            for principal in signers.iter().map(String::as_str).chain(address(&change.author)) {
                wrote.insert(principal.to_lowercase(), short(&change.commit).to_owned());
            }
        }
    }

    /// Adds whoever wrote the commit that something was last changed by.
    pub(super) fn add(&mut self, whose: Whose, origin: &Origin) {
        let wrote = self.0.entry(whose).or_default();
        for principal in origin.signer.as_deref().into_iter().chain(address(&origin.author)) {
            wrote.entry(principal.to_lowercase()).or_insert_with(|| short(&origin.commit).to_owned());
        }
    }

    /// The commit by which a principal changed somebody's files, or what holds for everybody. What is everybody's
    /// is changed by whoever changes anything.
    pub(super) fn commit_of(&self, whose: &Whose, principal: &str) -> Option<&str> {
        let principal = principal.to_lowercase();
        let counts = |other: &Whose| *whose == Whose::Everybody || *other == Whose::Everybody || other == whose;
        let wrote = self.0.iter().filter(|(other, _)| counts(other));
        wrote.filter_map(|(_, wrote)| wrote.get(&principal)).map(String::as_str).next()
    }
}

/// The address of `Ada Lovelace <ada@example.org>`.
fn address(author: &str) -> Option<&str> {
    Some(author.rsplit_once('<')?.1.trim_end_matches('>'))
}

/// The first few, and how many more there are.
pub(super) fn some(all: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn tenants_of(repository: &Repository) -> BTreeMap<Name, Tenant> {
    repository.tenants.iter().map(|(name, tenant)| (name.clone(), tenant.value.clone())).collect()
}

/// The tenants as they were applied last. One that cannot be read may have owners: it stops the work.
fn applied_tenants(recorded: &Recorded) -> Result<BTreeMap<Name, Tenant>, EngineError> {
    let tenants = recorded.documents.iter().filter(|(object, _)| object.kind == ObjectKind::Tenant);
    let read = |name: &Name, spec: &serde_json::Value| match serde_json::from_value::<Tenant>(spec.clone()) {
        Ok(tenant) => Ok((name.clone(), tenant)),
        Err(error) => {
            let message = format!("tenant {name}, as it was applied last, cannot be read: {error}");
            Err(EngineError::new("signature/tenant", message).kind(ErrorKind::Refused))
        }
    };
    tenants.map(|(object, record)| read(&object.name, &record.spec)).collect()
}
