//! What people want in a simulated world: documents that change from round to round, and errands by hand. Each script
//! was played once without faults; a seed plays a part of it again, with them, and must come to the same end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::document::{self, Repository, SourceFile};
use crate::engine::Desired;
use crate::engine::fixture::{NOW, address, at};
use crate::engine::manual::{Fact, Request};
use crate::model::{Address, KeyState, Origin, Phase, VersionRecord};
use crate::plan::Sources;
use crate::provider::capabilities;
use crate::store::memory::Tables;

use super::timeline::{self, Dice};

/// How many scripts there are.
pub const SCRIPTS: u64 = 48;

/// The id and the alias of a key that was there before keywheel.
pub const LEGACY: (&str, &str) = ("5f0c2a3e-0d4b-4c1a-9a53-6c6567616379", "alias/legacy");

#[derive(Debug)]
pub struct Script {
    pub rounds: Vec<Round>,
    /// Do its policies have old versions destroyed, rather than kept?
    pub destroys_old_versions: bool,
    /// Until when applications use old versions that did not follow the stable names.
    pub straggles_until: Duration,
    /// When nothing may begin: from shortly after a round has begun.
    pub freezes: Vec<(Duration, Duration)>,
}

/// A commit of the documents, and what a person asks for once it is applied.
#[derive(Debug)]
pub struct Round {
    /// When, after [`NOW`].
    pub at: Duration,
    pub repository: Repository,
    pub errands: Vec<Errand>,
}

/// Something that a person asks for until it is done.
#[derive(Debug, Clone)]
pub struct Errand {
    pub key: Address,
    pub request: Request,
}

/// What the policies of a round say, and when nothing begins.
#[derive(Debug, Clone)]
struct Terms {
    interval: u32,
    /// What becomes of old versions, but for the default.
    disposition: Option<&'static str>,
    freezes: Vec<(Duration, Duration)>,
}

/// How far an errand has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    ToDo,
    UnderWay,
    Done,
}

/// The documents of one key.
#[derive(Debug, Clone)]
struct KeyText {
    tenant: &'static str,
    name: String,
    alias: String,
    policy: Option<&'static str>,
    more: String,
}

const HOUR: Duration = Duration::from_hours(1);

impl Script {
    pub fn of(number: u64) -> Self {
        let mut dice = Dice::new(number ^ 0x6b65_7977_6865_656c);
        let all = [("acme", "orders"), ("globex", "ledger"), ("acme", "patients")];
        let count = usize::try_from(1 + dice.below(3)).unwrap();
        let mut keys: Vec<KeyText> = all[..count].iter().map(|(tenant, name)| KeyText::new(tenant, name)).collect();
        let destroys_old_versions = dice.in_thousand(400);
        let mut terms = Terms {
            interval: 1,
            disposition: destroys_old_versions.then_some("destroy"),
            // What it delays in a round must not come of age in the middle of another.
            freezes: dice
                .in_thousand(300)
                .then(|| freeze(if destroys_old_versions { 143 } else { 39 }))
                .into_iter()
                .collect(),
        };
        // Made at noon; slots at two o'clock of the day after next and of the one after; errands between them.
        let mut rounds = vec![Round::new(Duration::ZERO, &keys, &terms)];
        edit(&mut dice, &mut keys, &mut terms);
        rounds.push(Round::new(39 * HOUR, &keys, &terms));
        let mut by_hand = Round::new(46 * HOUR, &keys, &terms);
        if keys[0].policy.is_some() {
            let key = address(&format!("{}/{}", keys[0].tenant, keys[0].name));
            by_hand.errands = errands(&mut dice, &key, terms.interval == 1);
        }
        rounds.push(by_hand);
        edit(&mut dice, &mut keys, &mut terms);
        rounds.push(Round::new(65 * HOUR, &keys, &terms));
        let mut straggles_until = Duration::ZERO;
        if destroys_old_versions {
            // Disabled a day after they were succeeded, scheduled two days later, and gone after the waiting period: each some
            // hours after its time, so that a round that takes long delays nothing beyond the next. A day after they were
            // disabled it is too early, and a round looks.
            rounds.extend([91, 117, 143].map(|hours| Round::new(hours * HOUR, &keys, &terms)));
            match dice.below(4) {
                // So long that only the round after these finds them out of use.
                0 => straggles_until = 100 * HOUR,
                // Somebody thinks better of it, while they wait for their destruction.
                1 => terms.disposition = Some("keep"),
                2 => terms.disposition = Some("disable"),
                _ => {}
            }
            rounds.extend([169, 169 + 31 * 24].map(|hours| Round::new(hours * HOUR, &keys, &terms)));
        }
        Self { rounds, destroys_old_versions, straggles_until, freezes: terms.freezes }
    }

    /// A round's documents as they are handed to an apply.
    pub fn desired(&self, round: usize) -> Desired {
        let sources = Sources { commit: Some(format!("c{round}")), ..Sources::default() };
        let author = "Alice <alice@example.org>".to_owned();
        let origin = Origin { commit: format!("c{round}"), author: author.clone(), committer: author, signer: None };
        Desired {
            root: root(),
            repository: self.rounds[round].repository.clone(),
            findings: Vec::new(),
            sources,
            origin: Some(origin),
            dirty: Vec::new(),
        }
    }
}

/// A directory for what an apply keeps when its database fails in the wrong moment.
fn root() -> PathBuf {
    thread_local! {
        static ROOT: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    ROOT.with(|root| root.path().to_owned())
}

/// What a pull request changes, if it changes anything.
fn edit(dice: &mut Dice, keys: &mut Vec<KeyText>, terms: &mut Terms) {
    let is_there = |name: &str| keys.iter().any(|key| key.name == name);
    match dice.below(9) {
        0 => keys[0].more = "description: what orders are sealed with\ntags: {team: sales}".to_owned(),
        1 if !is_there("extra") => keys.push(KeyText::new("acme", "extra")),
        2 if keys.len() > 1 => drop(keys.pop()),
        3 if !is_there("renamed") => {
            let before = std::mem::replace(&mut keys[0].name, "renamed".to_owned());
            keys[0].more = format!("previous_name: {before}");
        }
        4 => keys[0].alias = "alias/elsewhere".to_owned(),
        5 => terms.interval = 2,
        6 => keys[0].policy = None,
        7 if !is_there("legacy") => {
            let mut legacy = KeyText::new("acme", "legacy");
            legacy.more = format!("kms_key_id: {}\ndescription: older than keywheel", super::cloud::arn(LEGACY.0));
            keys.push(legacy);
        }
        _ => {}
    }
}

/// A freeze that begins when the round of an hour is under way, and ends before anybody gives up.
fn freeze(hours: u32) -> (Duration, Duration) {
    let minutes = |minutes| hours * HOUR + Duration::from_mins(minutes);
    (minutes(2), minutes(62))
}

fn errands(dice: &mut Dice, key: &Address, has_old_version: bool) -> Vec<Errand> {
    let reason = |what: &str| format!("by hand: {what}");
    let attest = |fact| vec![Request::Attest { version: OLDEST, fact, reason: reason("attest") }];
    let requests = match dice.below(9) {
        7 if has_old_version => attest(Fact::Needed),
        8 if has_old_version => attest(Fact::Rewrapped),
        0 => vec![Request::Rotate { reason: reason("rotate") }],
        1 => vec![Request::Compromised { reason: reason("compromised"), incident: "42".to_owned() }],
        2 => vec![Request::Rollback { reason: reason("roll back") }],
        3 => vec![Request::Rollback { reason: reason("roll back") }, Request::Release { reason: reason("release") }],
        4 => vec![Request::Park { reason: reason("park") }, Request::Resume { reason: reason("resume") }],
        5 => vec![Request::Rotate { reason: reason("rotate") }, Request::Rollback { reason: reason("roll back") }],
        _ => vec![],
    };
    requests.into_iter().map(|request| Errand { key: key.clone(), request }).collect()
}

/// Stands for the number of the key's first version, which is not the same in every run: twins have numbers too.
const OLDEST: u32 = 0;

impl Errand {
    /// What is asked for, as things stand.
    pub fn request(&self, tables: &Tables) -> Request {
        let mut request = self.request.clone();
        if let (Request::Attest { version, .. }, Some(oldest)) = (&mut request, self.oldest(tables)) {
            *version = oldest.number;
        }
        request
    }

    fn oldest<'a>(&self, tables: &'a Tables) -> Option<&'a VersionRecord> {
        let key = tables.keys().find(|key| key.address() == self.key)?;
        let versions = tables.versions.values().map(|version| &**version);
        versions.filter(|version| version.key_id == key.id && !version.orphan).min_by_key(|version| version.number)
    }

    /// What the record shows of it.
    pub fn progress(&self, tables: &Tables) -> Progress {
        let state = tables.keys().find(|key| key.address() == self.key).map(|key| key.state);
        let is = |wanted| if state == Some(wanted) { Progress::ToDo } else { Progress::Done };
        match &self.request {
            Request::Rotate { reason } | Request::Compromised { reason, .. } | Request::Rollback { reason } => {
                let asked = tables.rotations.values().filter(|rotation| rotation.address == self.key);
                let mut phases = asked.filter(|rotation| rotation.reason.starts_with(reason)).map(|found| found.phase);
                match phases.find(|phase| *phase != Phase::Abandoned) {
                    None => Progress::ToDo,
                    Some(Phase::Settled) => Progress::Done,
                    Some(_) => Progress::UnderWay,
                }
            }
            Request::Park { .. } if state == Some(KeyState::Parked) => Progress::Done,
            Request::Park { .. } => Progress::ToDo,
            Request::Attest { fact, .. } => {
                let said = self.oldest(tables).and_then(|version| match fact {
                    Fact::Needed => version.needed_at,
                    Fact::Rewrapped => version.rewrapped_at,
                });
                if said.is_some() { Progress::Done } else { Progress::ToDo }
            }
            Request::Release { .. } => is(KeyState::Held),
            Request::Resume { .. } => is(KeyState::Parked),
            other => unreachable!("no script asks for {other:?}"),
        }
    }
}

impl KeyText {
    fn new(tenant: &'static str, name: &str) -> Self {
        let alias = format!("alias/{name}");
        Self { tenant, name: name.to_owned(), alias, policy: Some("Daily"), more: String::new() }
    }

    fn text(&self) -> String {
        let Self { tenant, name, alias, policy, more } = self;
        let policy = policy.map(|policy| format!("rotation_policy: {policy}")).unwrap_or_default();
        format!(
            "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: {tenant}\nkey_name: {name}\n\
             key_type: system_data\nkms_provider: aws_kms\nkms_region: us-east-1\nkms_alias: {alias}\n{policy}\n{more}\n"
        )
    }
}

impl Round {
    fn new(after: Duration, keys: &[KeyText], terms: &Terms) -> Self {
        let mut folders: BTreeMap<&str, String> = BTreeMap::new();
        for tenant in ["acme", "globex"] {
            folders.insert(tenant, policy(tenant, terms));
        }
        for key in keys {
            folders.entry(key.tenant).or_default().push_str(&key.text());
        }
        let file = |path: String, text: &str| SourceFile {
            path: path.into(),
            content: text.as_bytes().into(),
            symlink: false,
        };
        let config = file(
            "keywheel.yaml".to_owned(),
            "apiVersion: keywheel/v1\nkind: Config\nlimits: {max_percent: 100, max_destructions: 100}\n\
             secrets: {acme: [SLACK], globex: [SLACK]}\n",
        );
        let mut files: Vec<_> =
            folders.iter().map(|(tenant, text)| file(format!("policies/{tenant}/all.yaml"), text)).collect();
        if !terms.freezes.is_empty() {
            files.push(file("policies/freezes.yaml".to_owned(), &freezes(&terms.freezes)));
        }
        let loaded = document::load(Some(&config), &files, capabilities, at(NOW));
        assert!(!loaded.findings.iter().any(crate::diagnostic::Finding::is_error), "{:#?}", loaded.findings);
        Self { at: after, repository: loaded.repository, errands: Vec::new() }
    }
}

fn freezes(freezes: &[(Duration, Duration)]) -> String {
    let local = |elapsed| timeline::at(elapsed).format("%Y-%m-%dT%H:%M:%S").to_string();
    let document = |(number, (from, until)): (usize, &(Duration, Duration))| {
        format!(
            "---\napiVersion: keywheel/v1\nkind: Freeze\nname: closing {number}\nreason: the books are closed\n\
             from: \"{}\"\nuntil: \"{}\"\n",
            local(*from),
            local(*until)
        )
    };
    freezes.iter().enumerate().map(document).collect()
}

fn policy(tenant: &str, terms: &Terms) -> String {
    let interval = terms.interval;
    let wait = if terms.disposition == Some("destroy") { "destroy_after_disabled_days: 2\n" } else { "" };
    let disposition = terms.disposition.map_or_else(String::new, |disposition| {
        format!("old_key_disposition: {disposition}\nretain_old_keys_days: 1\n{wait}")
    });
    format!(
        "---\napiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: {tenant}\npolicy_name: Daily\n\
         key_type: system_data\nkms_provider: aws_kms\nrotation_interval_days: {interval}\n\
         rotation_time_of_day: \"02:00:00\"\n{disposition}notification_settings: {{slack_webhook: \"${{SLACK}}\"}}\n"
    )
}
