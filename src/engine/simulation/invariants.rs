//! What must hold: at each effect at the key manager, at each commit, and once everything is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::timeline;
use super::world::{World, locked};
use crate::model::{
    Address, KeyRecord, KeyState, MessageKind, ObjectRef, Outcome, Phase, RotationCause, RotationRecord, Step,
    Timestamp, VersionState, Workflow,
};
use crate::provider::{CreateVersion, KeyHandle};
use crate::store::memory::Tables;
use crate::store::{Lease, LeaseRecord, LeaseScope, ReadState, Write};

pub const INTENT_FIRST: &str = "an intent is in the journal before its effect";
pub const FENCED: &str = "a worker that lost its lease writes nothing";
pub const ONE_HOLDER: &str = "a lease is held by one worker at a time";
pub const NO_LATE_CALL: &str = "no call lands after its worker's lease was taken over";
pub const PROVEN: &str = "what is promoted was proven";
pub const LEADS: &str = "the stable name always leads to one enabled version";
pub const KNOWN_TARGET: &str = "the stable name leads to the primary, or to what is being promoted";
pub const READABLE: &str = "whatever a version encrypted decrypts";
pub const UNNEEDED: &str = "an old version is disabled only where something shows that nothing needs it";
pub const FROZEN: &str = "nothing begins in a freeze";
pub const TOLD: &str = "a message is written with what it tells of, and only with that";
pub const SUBSET: &str = "of a saved plan nothing is done that it does not have";
pub const RETAINED_LONG: &str = "an old version is disabled, and destroyed, only after its time";
pub const LEFT_ALONE: &str = "a name that somebody else moved is left alone";
pub const OWN_TENANT: &str = "the work of a tenant touches no version of another";
pub const ONCE_A_SLOT: &str = "a slot is served once, but for what was rolled back";
pub const ONE_UNFINISHED: &str = "a key is in at most one unfinished rotation";
pub const EVERY_STEP: &str = "a settled rotation has gone through every step";
pub const FORWARD: &str = "the last rotation only moves forward, but for a rollback";
pub const AUDITED: &str = "each end of a rotation is in the audit log once, in a whole chain";
pub const ALL_KNOWN: &str = "at rest every version is recorded, and a twin is out of use";
pub const AGREED: &str = "at rest the record and the key manager agree";
pub const ARMED: &str = "at rest every key knows when it is due next";
pub const RECOVERS: &str = "once nothing goes wrong any more, a few runs finish everything";
pub const SAME_END: &str = "the end is that of a run in which nothing went wrong";

/// The day that the scripts' policies retain an old version, and the two that they let it be disabled before it is destroyed.
const RETAINED: Duration = Duration::from_hours(24);
const DISABLED: Duration = Duration::from_hours(48);

/// What announces a change of an adopted or edited key at its key manager, and the end of a twin.
const SETTINGS: &str = "key.settings_requested";
const TWIN: &str = "version.disable_requested";

/// What two clocks may differ by.
const SLACK: Duration = Duration::from_mins(2);

/// How long after it was judged an old version's change may begin: a stall, and some calls.
const UNDER_WAY: Duration = Duration::from_mins(6);

/// What the invariants remember of the past.
#[derive(Debug, Default)]
pub struct Watch {
    /// The newest fencing token that anybody was given on a scope, and the newest that was given because another had
    /// expired.
    newest: BTreeMap<LeaseScope, i64>,
    taken_over: BTreeMap<LeaseScope, i64>,
    last_rotations: BTreeMap<Uuid, Timestamp>,
    /// What was announced in the audit log before it was to be done: under which token, about which key, what, and of
    /// which version.
    announced: BTreeSet<(i64, ObjectRef, String, Option<String>)>,
    /// The workflows that are in the journal.
    begun: BTreeSet<Uuid>,
    /// Names that somebody else moved: when, and where they led before.
    pub foreign: BTreeMap<String, (Duration, String)>,
}

/// What a call means to do.
#[derive(Debug, Clone)]
pub struct Effect {
    kind: Kind,
    key_id: Option<Uuid>,
    address: Address,
    alias: Option<String>,
    /// When it was sent.
    sent: Duration,
}

#[derive(Debug, Clone)]
enum Kind {
    Create { rotation_id: Uuid },
    Verify { rotation_id: Uuid, version: String },
    Promote { version: String },
    Disable { version: String },
    Settings { version: String },
    GiveBack { version: String },
    Destroy { version: String },
}

impl Effect {
    fn of(key: &KeyHandle, kind: Kind) -> Self {
        let (address, alias) = (key.address.clone(), key.key.kms_alias.clone());
        Self { kind, key_id: key.key_id, address, alias, sent: timeline::elapsed() }
    }

    pub fn create(request: &CreateVersion) -> Self {
        Self::of(&request.key, Kind::Create { rotation_id: request.rotation_id })
    }

    pub fn verify(request: &CreateVersion, version: &str) -> Self {
        Self::of(&request.key, Kind::Verify { rotation_id: request.rotation_id, version: version.to_owned() })
    }

    pub fn promote(key: &KeyHandle, _from: Option<&str>, version: &str) -> Self {
        Self::of(key, Kind::Promote { version: version.to_owned() })
    }

    pub fn disable(key: &KeyHandle, version: &str) -> Self {
        Self::of(key, Kind::Disable { version: version.to_owned() })
    }

    pub fn settings(key: &KeyHandle, version: &str) -> Self {
        Self::of(key, Kind::Settings { version: version.to_owned() })
    }

    pub fn give_back(key: &KeyHandle, version: &str) -> Self {
        Self::of(key, Kind::GiveBack { version: version.to_owned() })
    }

    pub fn destroy(key: &KeyHandle, version: &str) -> Self {
        Self::of(key, Kind::Destroy { version: version.to_owned() })
    }

    pub const fn key_id(&self) -> Option<Uuid> {
        self.key_id
    }

    pub const fn operation(&self) -> &'static str {
        match self.kind {
            Kind::Create { .. } => "CreateKey",
            Kind::Verify { .. } => "TagResource",
            Kind::Promote { .. } => "UpdateAlias",
            Kind::Disable { .. } => "DisableKey",
            Kind::Settings { .. } => "UpdateKeyDescription",
            Kind::GiveBack { .. } => "EnableKey",
            Kind::Destroy { .. } => "ScheduleKeyDeletion",
        }
    }
}

/// A lease was given, with these before it.
pub fn acquired(world: &World, lease: &Lease, before: &[LeaseRecord]) {
    let mut watch = locked(&world.watch);
    for scope in lease.scopes.iter() {
        watch.newest.insert(scope.clone(), lease.token);
        let Some(other) = before.iter().find(|before| before.scopes().any(|held| held == *scope)) else { continue };
        if other.expired {
            world.met("takeover");
            watch.taken_over.insert(scope.clone(), lease.token);
        } else {
            world.violated(ONE_HOLDER, format!("{} is given while {} has not expired", lease.token, other.token));
        }
    }
}

/// A call is about to be sent: what it means to do is durable by now.
pub fn sent(world: &World, effect: &Effect, sent_under: i64) {
    let tables = world.memory.tables();
    let watch = locked(&world.watch);
    let announced = |action: &str, version: Option<&String>| {
        let (key, version) = (ObjectRef::key(&effect.address), version.cloned());
        watch.announced.contains(&(sent_under, key, action.to_owned(), version))
    };
    let started = |rotation_id: Uuid, step: Step| journal_has(&tables, rotation_id, step, Outcome::Started);
    let has_intent = match &effect.kind {
        Kind::Create { rotation_id } => started(*rotation_id, Step::Create),
        Kind::Verify { rotation_id, .. } => started(*rotation_id, Step::Verify),
        Kind::Promote { version } => {
            let mut rotations = tables.rotations.values();
            let promoted = rotations
                .any(|rotation| rotation.to_ref.as_ref() == Some(version) && started(rotation.id, Step::Promote));
            // A key that gets another alias keeps its primary.
            promoted || announced(SETTINGS, None)
        }
        // A twin is put out of use by the probe of the step that made it.
        Kind::Disable { version } => retiring(&tables, version) || announced(TWIN, Some(version)),
        Kind::GiveBack { version } | Kind::Destroy { version } => retiring(&tables, version),
        // A key that is adopted has no row yet, and names its version.
        Kind::Settings { version } => announced(SETTINGS, Some(version).filter(|_| effect.key_id.is_none())),
    };
    if !has_intent {
        world.violated(INTENT_FIRST, format!("{}: {:?}", effect.operation(), effect.kind));
    }
}

/// An effect is about to happen at the key manager.
pub fn before_effect(world: &World, effect: &Effect, sent_under: i64) {
    let tables = world.memory.tables();
    let cloud = locked(&world.cloud);
    let watch = locked(&world.watch);
    let operation = effect.operation();
    let tenant_id = &effect.address.tenant_id;
    let taken_over = watch.taken_over.get(&LeaseScope::Tenant(tenant_id.clone()));
    if let Some(newest) = taken_over.filter(|newest| **newest > sent_under) {
        world.violated(NO_LATE_CALL, format!("{operation} under lease {sent_under}, and {newest} has it"));
    }
    let touched = match &effect.kind {
        Kind::Create { .. } => None,
        Kind::Verify { version, .. }
        | Kind::Promote { version }
        | Kind::Disable { version }
        | Kind::Settings { version }
        | Kind::GiveBack { version }
        | Kind::Destroy { version } => cloud.versions.get(version).map(|found| (version, found)),
    };
    let Some((name, version)) = touched else { return };
    if version.tenant_id.as_ref().is_some_and(|owner| owner != tenant_id) {
        world.violated(OWN_TENANT, format!("{operation} of {name} for {tenant_id}"));
    }
    match &effect.kind {
        Kind::Promote { .. } => {
            if !version.proven {
                world.violated(PROVEN, name.clone());
            }
            let moved = effect.alias.as_ref().and_then(|alias| watch.foreign.get(alias));
            // What was moved while the name was being looked at cannot be known.
            let seen = effect.sent.saturating_sub(Duration::from_secs(90));
            if let Some((_, before)) = moved.filter(|(at, _)| *at < seen) {
                world.violated(LEFT_ALONE, format!("{operation} to {name}, and somebody moved it from {before}"));
            }
        }
        Kind::Disable { .. } if version.used => {
            let retained = cloud.left(name);
            let long = retained.is_some_and(|since| timeline::elapsed() + SLACK >= since + RETAINED);
            if !(world.destroys_old_versions && long) {
                world.violated(RETAINED_LONG, format!("{name} left the stable name at {retained:?}"));
            }
            let used = cloud.last_used(name);
            let quiet = used.is_none_or(|used| timeline::elapsed() + SLACK >= used + RETAINED);
            let mut records = tables.versions.values().filter(|record| record.provider_ref == *name);
            let rewrapped =
                records.any(|record| record.rewrapped_at.is_some_and(|at| used.map(timeline::at) <= Some(at)));
            if !quiet && !rewrapped {
                world.violated(UNNEEDED, format!("{name} was used at {used:?}"));
            }
        }
        Kind::Destroy { .. } if version.used => {
            let long = version.disabled_at.is_some_and(|since| timeline::elapsed() + SLACK >= since + DISABLED);
            if version.is_enabled() || !long {
                world.violated(RETAINED_LONG, format!("{name} was disabled at {:?}", version.disabled_at));
            }
        }
        _ => {}
    }
}

/// An effect has happened at the key manager.
pub fn after_effect(world: &World) {
    names(world, &world.memory.tables());
}

/// A batch was written.
pub fn committed(world: &World, lease: &Lease, writes: &[Write]) {
    let tables = world.memory.tables();
    let mut watch = locked(&world.watch);
    for (scope, newest) in lease.scopes.iter().filter_map(|scope| watch.newest.get_key_value(scope)) {
        if lease.token != *newest {
            world.violated(FENCED, format!("a commit under {}, and {newest} is the newest on {scope}", lease.token));
        }
    }
    let mut rolled_back = false;
    for write in writes {
        if let Write::Rotation(rotation) = write {
            rolled_back |= rotation.workflow == Workflow::Rollback;
            rotation_written(world, &tables, rotation);
            if watch.begun.insert(rotation.id) {
                begun(world, rotation);
            }
        }
        if let Write::Audit(entry) = write
            && matches!(entry.action.as_str(), SETTINGS | TWIN)
        {
            let of = entry.after.as_ref().and_then(|after| Some(after.get("provider_ref")?.as_str()?.to_owned()));
            watch.announced.insert((lease.token, entry.object.clone(), entry.action.clone(), of));
        }
    }
    told(world, &tables, writes);
    let parked = |write: &Write| matches!(write, Write::Key(key) if key.state == KeyState::Parked && key.failures > 0);
    if writes.iter().any(parked) {
        world.met("key parked");
    }
    for write in writes {
        if let Write::Key(key) = write
            && let Some(last) = key.last_rotation_at
        {
            let before = watch.last_rotations.insert(key.id, last);
            // The clocks of two machines differ by as much as is allowed.
            let slack = chrono::Duration::minutes(2);
            if !rolled_back && before.is_some_and(|before| last + slack < before) {
                world.violated(FORWARD, format!("{} went back to {last}", key.address()));
            }
        }
    }
    drop(watch);
    names(world, &tables);
}

/// A workflow that was not there before.
fn begun(world: &World, rotation: &RotationRecord) {
    let holds = match rotation.workflow {
        Workflow::Rotate => rotation.cause != RotationCause::Compromised,
        Workflow::Disable | Workflow::ScheduleDestruction | Workflow::Destroy => true,
        _ => false,
    };
    // By the clock of whoever began it: a rotation is judged in the same moment, an old version's change some calls before.
    let slack = if rotation.workflow == Workflow::Rotate { Duration::ZERO } else { UNDER_WAY };
    let frozen = |(from, until): &(Duration, Duration)| {
        (timeline::at(*from + slack)..timeline::at(*until)).contains(&rotation.started_at)
    };
    if let Some((from, until)) = world.freezes.iter().find(|freeze| holds && frozen(freeze)) {
        let (workflow, address) = (rotation.workflow, &rotation.address);
        world.violated(FROZEN, format!("the {workflow} of {address} begins between {from:?} and {until:?}"));
    }
}

/// Holds the messages of a transaction against the facts of it.
fn told(world: &World, tables: &Tables, writes: &[Write]) {
    let mut facts = BTreeSet::new();
    let mut messages = BTreeSet::new();
    // Of a key without a policy nobody wants to hear.
    let heard =
        |is_it: &dyn Fn(&KeyRecord) -> bool| tables.keys().any(|key| is_it(&key) && key.key.rotation_policy.is_some());
    for write in writes {
        match write {
            Write::Rotation(rotation) if rotation.phase == Phase::Settled => {
                let kind = match rotation.workflow {
                    Workflow::Rollback => MessageKind::KeyHeld,
                    Workflow::Disable => MessageKind::VersionDisabled,
                    Workflow::ScheduleDestruction => MessageKind::VersionDestructionScheduled,
                    Workflow::Destroy => MessageKind::VersionDestroyed,
                    _ => continue,
                };
                if heard(&|key| key.id == rotation.key_id) {
                    facts.insert((kind.as_str(), rotation.id.to_string()));
                }
            }
            Write::Version(version) if version.orphan && heard(&|key| key.id == version.key_id) => {
                facts.insert((MessageKind::VersionOrphaned.as_str(), version.provider_ref.clone()));
            }
            Write::Audit(entry)
                if entry.action == "key.parked" && heard(&|key| ObjectRef::key(&key.address()) == entry.object) =>
            {
                facts.insert((MessageKind::KeyParked.as_str(), entry.object.to_string()));
            }
            Write::Outbox(delivery) => {
                let message = &delivery.message;
                let named = |detail: &str| message.details.get(detail).and_then(|value| value.as_str());
                let of = match message.kind {
                    MessageKind::KeyParked => message.object.to_string(),
                    MessageKind::VersionOrphaned => named("provider_ref").unwrap_or_default().to_owned(),
                    MessageKind::KeyHeld
                    | MessageKind::VersionDisabled
                    | MessageKind::VersionDestructionScheduled
                    | MessageKind::VersionDestroyed => named("rotation_id").unwrap_or_default().to_owned(),
                    // A failure is no record of its own, and that a key is overdue is found by looking.
                    _ => continue,
                };
                messages.insert((message.kind.as_str(), of));
            }
            _ => {}
        }
    }
    if let Some((kind, of)) = facts.symmetric_difference(&messages).next() {
        let missing = facts.contains(&(*kind, of.clone()));
        world.violated(TOLD, format!("{kind} of {of} is {}", if missing { "not told" } else { "told, and not so" }));
    }
    if !facts.is_empty() {
        world.met("fact told");
    }
}

fn rotation_written(world: &World, tables: &Tables, rotation: &RotationRecord) {
    let of_the_key = || tables.rotations.values().filter(|other| other.key_id == rotation.key_id);
    // What was rolled back serves no slot any more: once the key is released, it is due again.
    let rolled_back = of_the_key()
        .filter(|other| other.workflow == Workflow::Rollback && other.phase == Phase::Settled)
        .filter_map(|other| other.finished_at)
        .max();
    let alike = of_the_key().filter(|other| match rotation.phase {
        Phase::Settled => {
            let serves = other.phase == Phase::Settled && other.workflow == Workflow::Rotate;
            let counts = rolled_back.is_none_or(|at| other.started_at > at);
            rotation.workflow == Workflow::Rotate
                && serves
                && counts
                && other.slot.is_some()
                && other.slot == rotation.slot
        }
        Phase::Abandoned => false,
        _ => !matches!(other.phase, Phase::Settled | Phase::Abandoned),
    });
    if alike.count() > 1 {
        let broken = if rotation.phase == Phase::Settled { ONCE_A_SLOT } else { ONE_UNFINISHED };
        world.violated(broken, format!("{} {:?}", rotation.address, rotation.slot));
    }
    if rotation.phase != Phase::Settled {
        return;
    }
    world.met(match rotation.workflow {
        Workflow::Create => "creation settled",
        Workflow::Rotate => "rotation settled",
        Workflow::Rollback => "rollback settled",
        Workflow::Disable => "old version disabled",
        Workflow::ScheduleDestruction => "destruction scheduled",
        Workflow::Destroy => "old version destroyed",
        Workflow::Enable | Workflow::CancelDestruction => "old version given back",
    });
    let steps: &[Step] = match rotation.workflow {
        Workflow::Create | Workflow::Rotate => &[Step::Create, Step::Verify, Step::Promote, Step::Settle],
        Workflow::Rollback => &[Step::Verify, Step::Promote, Step::Settle],
        _ => &[Step::Retire],
    };
    for step in steps {
        if !journal_has(tables, rotation.id, *step, Outcome::Succeeded) {
            world.violated(EVERY_STEP, format!("{} of {}", step, rotation.address));
        }
    }
}

/// Where the stable names lead, and that what was in use can be read.
fn names(world: &World, tables: &Tables) {
    let cloud = locked(&world.cloud);
    let watch = locked(&world.watch);
    for (name, version) in &cloud.versions {
        if version.used && !version.is_enabled() && !world.destroys_old_versions {
            world.violated(READABLE, format!("{name} is not enabled"));
        }
    }
    for key in tables.keys() {
        let (Some(alias), Some(primary)) = (&key.key.kms_alias, &key.primary_version) else { continue };
        let Some(target) = cloud.target(alias) else {
            world.violated(LEADS, format!("{alias} leads nowhere"));
            continue;
        };
        if cloud.versions.get(target).is_none_or(|version| !version.is_enabled()) {
            world.violated(LEADS, format!("{alias} leads to {target}, which is not enabled"));
        }
        let promoting = tables.unfinished().filter(|rotation| rotation.key_id == key.id);
        let mut known = promoting.filter_map(|rotation| rotation.to_ref.as_deref()).chain([&*primary.provider_ref]);
        if !known.any(|known| known == target) && !watch.foreign.contains_key(alias) {
            world.violated(KNOWN_TARGET, format!("{alias} leads to {target}, and {} is primary", primary.provider_ref));
        }
    }
}

/// Everything is quiet: nothing is under way, and nothing goes wrong any more.
pub fn at_rest(world: &World) {
    let check = futures::FutureExt::now_or_never(world.memory.verify_audit()).unwrap().unwrap();
    if let Some(broken) = check.broken {
        world.violated(AUDITED, broken.what);
    }
    let tables = world.memory.tables();
    let cloud = locked(&world.cloud);
    for key in tables.keys() {
        at_rest_with(world, &tables, &key, cloud.target(key.key.kms_alias.as_deref().unwrap_or_default()));
    }
    for (name, made) in cloud.versions.iter().filter(|(_, version)| version.key_id.is_some()) {
        let recorded: Vec<_> = tables.versions.values().filter(|version| version.provider_ref == *name).collect();
        match recorded.as_slice() {
            [version] if version.orphan && (made.is_enabled() || version.state != VersionState::Disabled) => {
                world.violated(ALL_KNOWN, format!("the twin {name} is in use"));
            }
            [_] => {}
            others => world.violated(ALL_KNOWN, format!("{name} is recorded {} times", others.len())),
        }
    }
    let settled = tables.rotations.values().filter(|rotation| rotation.phase == Phase::Settled);
    for rotation in settled.filter(|rotation| rotation.workflow.leads()) {
        let id = rotation.id.to_string();
        let ends = tables.audited().filter(|(.., after)| {
            let of = after.and_then(|after| after.get("rotation_id")?.as_str());
            of == Some(&id)
        });
        let ends = ends.count();
        if ends != 1 {
            world.violated(AUDITED, format!("the end of {} is there {ends} times", rotation.address));
        }
    }
}

fn at_rest_with(world: &World, tables: &Tables, key: &KeyRecord, target: Option<&str>) {
    let primary = key.primary_version.as_ref();
    if primary.map(|version| version.provider_ref.as_str()) != target {
        world.violated(
            AGREED,
            format!("{} is recorded with {primary:?}, and its name leads to {target:?}", key.address()),
        );
    }
    let versions = tables.versions.values().filter(|version| version.key_id == key.id);
    let active = versions.filter(|version| version.state == VersionState::Active).count();
    if active != 1 || primary.is_some_and(|version| version.state != VersionState::Active) {
        world.violated(AGREED, format!("{} has {active} active versions", key.address()));
    }
    let scheduled = key.key.rotation_policy.is_some() && key.state == KeyState::Active;
    if scheduled && key.next_rotation_at.is_none() {
        world.violated(ARMED, key.address().to_string());
    }
}

fn journal_has(tables: &Tables, rotation_id: Uuid, step: Step, outcome: Outcome) -> bool {
    let mut steps = tables.steps.iter().rev();
    steps.any(|entry| entry.rotation_id == rotation_id && entry.step == step && entry.outcome == outcome)
}

/// Is the end of a version in the journal as an intent?
fn retiring(tables: &Tables, version: &str) -> bool {
    let mut rotations = tables.rotations.values();
    rotations.any(|rotation| {
        rotation.to_ref.as_deref() == Some(version) && journal_has(tables, rotation.id, Step::Retire, Outcome::Started)
    })
}
