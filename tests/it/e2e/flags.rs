//! Every pair of what guards an apply and what lifts a guard: a flag lifts its own guard, and weakens no other. And every
//! pair of flags: two that lift other guards do not lift a third one together.
//!
//! The table is made from the two lists: each test is one guard, against which every flag is tried, and every two that
//! lift something in one command. [`LIFTS`] are the only pairs of a flag and a guard in which something gets through.

use super::{NIGHTLY, NOON, Sandbox, with_keys};

const NIGHT: &str = "2026-03-02 02:00:10";
/// When the old version's time has come.
const RETAINED: &str = "2026-03-04 02:00:10";
const STATE: &str = "state: sqlite:../state.db\n";
const SLOT: &str = "rotation_time_of_day: \"02:00:00\"\n";

/// What lifts a guard, or may seem to: the type and the list are one, so that none is left out.
macro_rules! flags {
    ($($flag:ident)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Flag {
            $($flag,)+
        }

        const FLAGS: &[Flag] = &[$(Flag::$flag,)+];
    };
}

flags! { AllowDirty AllowOlder OverrideLimits EphemeralState AutoApprove LockTimeout Ref State SavedPlan Compromised }

/// What holds an apply, or a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    DirtyTree,
    Branch,
    OlderCommit,
    Unsigned,
    Limits,
    Removals,
    Destructions,
    EmptySource,
    Ci,
    Consent,
    Lock,
    PlanForReading,
    PlanOfTheRecord,
    PlanWithBase,
    Approvals,
    Guardrail,
    Shallow,
    AliasMoved,
    UnknownKeys,
    Switch,
    Suspended,
    Freeze,
    Window,
    Gap,
    Hold,
    Park,
}

/// Every pair in which the flag lets the guarded thing through, and why.
const LIFTS: &[(Flag, Guard, &str)] = &[
    (Flag::AllowDirty, Guard::DirtyTree, "its own guard"),
    (Flag::AllowDirty, Guard::Branch, "its own guard"),
    (Flag::AllowOlder, Guard::OlderCommit, "its own guard"),
    (Flag::AllowOlder, Guard::Shallow, "its own guard: nothing shows that the commit is not older"),
    (Flag::Ref, Guard::DirtyTree, "what is not committed is not applied"),
    (Flag::OverrideLimits, Guard::Limits, "its own guard"),
    (Flag::OverrideLimits, Guard::Removals, "its own guard"),
    (Flag::OverrideLimits, Guard::Destructions, "its own guard"),
    (Flag::EphemeralState, Guard::Ci, "its own guard"),
    (Flag::AutoApprove, Guard::Consent, "its own guard"),
    (Flag::SavedPlan, Guard::Consent, "whoever reviewed the plan consented"),
    (Flag::Compromised, Guard::Suspended, "the emergency lane"),
    (Flag::Compromised, Guard::Freeze, "the emergency lane"),
    (Flag::Compromised, Guard::Window, "the emergency lane"),
    (Flag::Compromised, Guard::Gap, "the emergency lane"),
    (Flag::Compromised, Guard::Hold, "the emergency lane"),
    (Flag::Compromised, Guard::Park, "the emergency lane"),
    (Flag::Compromised, Guard::DirtyTree, "work by hand is on what was applied"),
    (Flag::Compromised, Guard::Branch, "work by hand is on what was applied"),
    (Flag::Compromised, Guard::OlderCommit, "work by hand is on what was applied"),
    (Flag::Compromised, Guard::Unsigned, "work by hand is on what was applied"),
    (Flag::Compromised, Guard::Limits, "it is one key"),
    (Flag::Compromised, Guard::Removals, "it removes nothing"),
    (Flag::Compromised, Guard::Destructions, "it disables nothing"),
    (Flag::Compromised, Guard::EmptySource, "work by hand is on what was applied"),
    (Flag::Compromised, Guard::PlanForReading, "it is no plan"),
    (Flag::Compromised, Guard::PlanOfTheRecord, "it is no plan"),
    (Flag::Compromised, Guard::PlanWithBase, "it is no plan"),
    (Flag::Compromised, Guard::Approvals, "it disables nothing"),
    (Flag::Compromised, Guard::Guardrail, "work by hand is on what was applied"),
    (Flag::Compromised, Guard::Shallow, "work by hand is on what was applied"),
];

/// What becomes of guarded work.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// It is refused with this status and code.
    Refused(i32, &'static str),
    /// It ends well, and has not rotated the key that is due.
    Waits,
    /// It leaves the key alone and ends with 7; a rotation by hand is refused with this status and code.
    LeavesAlone(i32, &'static str),
}

/// A repository in which a guard stands before work.
struct Scene {
    sandbox: Sandbox,
    instant: &'static str,
    variables: Vec<(&'static str, &'static str)>,
    answer: Answer,
}

impl Guard {
    /// Is it about how a saved plan was made?
    const fn is_of_a_plan(self) -> bool {
        matches!(self, Self::PlanForReading | Self::PlanOfTheRecord | Self::PlanWithBase)
    }

    fn scene(self) -> Scene {
        match self {
            Self::DirtyTree => {
                let sandbox = applied("", NIGHTLY);
                sandbox.write("policies/acme/keys.yaml", &with_keys(1));
                refused(sandbox, 3, "apply/dirty")
            }
            Self::Branch => {
                let sandbox = applied("apply_from: refs/heads/main\n", NIGHTLY);
                sandbox.git(&["checkout", "-qb", "mine"]);
                sandbox.commit(&with_keys(1));
                refused(sandbox, 3, "apply/not-on-branch")
            }
            Self::OlderCommit => {
                let sandbox = applied("", NIGHTLY);
                sandbox.commit(&with_keys(1));
                sandbox.at("2026-03-01 13:00:00", &["apply", "--auto-approve"]).exits(0);
                sandbox.git(&["checkout", "-q", "--detach", "HEAD~1"]);
                refused(sandbox, 3, "apply/older")
            }
            Self::Unsigned => {
                let sandbox = signed_from_now_on();
                refused(sandbox, 3, "apply/unsigned")
            }
            Self::Limits => refused(applied("limits: {max_rotations: 1}\n", &with_keys(1)), 3, "apply/limits"),
            Self::Removals => {
                let sandbox = applied("limits: {max_removals: 0}\n", &with_keys(1));
                sandbox.commit(NIGHTLY);
                refused(sandbox, 3, "apply/limits")
            }
            Self::Destructions => {
                let sandbox = with_an_old_version("limits: {max_destructions: 0}\n");
                Scene { instant: RETAINED, ..refused(sandbox, 3, "apply/limits") }
            }
            Self::Shallow => {
                let sandbox = applied("", NIGHTLY);
                sandbox.commit(&with_keys(1));
                // What a CI job checks out by default: the newest commit alone.
                let clone = sandbox.dir().with_file_name("clone");
                let origin = format!("file://{}", sandbox.dir().display());
                sandbox.git(&["clone", "-q", "--depth", "1", &origin, clone.to_str().unwrap()]);
                std::fs::remove_dir_all(sandbox.path(".git")).unwrap();
                std::fs::rename(clone.join(".git"), sandbox.path(".git")).unwrap();
                refused(sandbox, 1, "source/shallow")
            }
            Self::EmptySource => {
                let sandbox = applied("", NIGHTLY);
                sandbox.git(&["rm", "-q", "policies/acme/keys.yaml"]);
                sandbox.commit_all("nothing is left");
                refused(sandbox, 3, "apply/limits")
            }
            Self::Ci => {
                let scene = refused(applied(STATE, NIGHTLY), 3, "apply/ephemeral-keystore");
                Scene { variables: vec![("CI", "true")], ..scene }
            }
            Self::Consent => refused(applied("", NIGHTLY), 1, "apply/no-approval"),
            Self::Lock => {
                let sandbox = applied("", NIGHTLY);
                sandbox.tamper("UPDATE leases SET who = 'grace@build-7', expires_at = '2099-01-01T00:00:00.000000Z'");
                refused(sandbox, 5, "state/locked")
            }
            _ if self.is_of_a_plan() => refused(applied("", NIGHTLY), 4, "plan/stale"),
            _ => self.scene_of_a_key(),
        }
    }

    /// Of what holds a key, when everything else is in order.
    fn scene_of_a_key(self) -> Scene {
        match self {
            Self::Approvals => {
                let owners = format!("approvals: {{required: 1}}\nowners:\n{}{}", owner("ada", ADA), owner("ben", BEN));
                let sandbox = with_an_old_version(&owners);
                Scene { instant: RETAINED, ..waits(sandbox) }
            }
            Self::Guardrail => {
                let sandbox = applied("", NIGHTLY);
                let rule = "apiVersion: keywheel/v1\nkind: Guardrail\nname: seldom\n\
                            rule: policy.rotation_interval_days >= 180\nmessage: nobody rotates that often\n";
                sandbox.write("policies/guardrails.yaml", rule);
                sandbox.commit_all("a rule");
                leaves_alone(sandbox, 0, "")
            }
            Self::AliasMoved => {
                let sandbox = applied("", NIGHTLY);
                let recorded = std::fs::read(sandbox.database()).unwrap();
                by_hand(&sandbox, NOON, &["rotate"]);
                // The record does not know of it: somebody else has done it.
                std::fs::write(sandbox.database(), recorded).unwrap();
                leaves_alone(sandbox, 3, "manual/drift")
            }
            Self::UnknownKeys => {
                let sandbox = applied("", NIGHTLY);
                std::fs::remove_file(sandbox.database()).unwrap();
                // The first one makes an empty database before it asks the key managers.
                sandbox.at(NIGHT, &["apply", "--auto-approve"]).exits(3);
                refused(sandbox, 3, "state/unknown-keys")
            }
            Self::Switch => Scene { variables: vec![("KEY_ROTATION_ENABLED", "false")], ..waits(applied("", NIGHTLY)) },
            Self::Suspended => {
                let suspended = "key_type: phi_data\nstatus: suspended\nrotation_i";
                waits(applied("", &NIGHTLY.replace("key_type: phi_data\nrotation_i", suspended)))
            }
            Self::Freeze => {
                let sandbox = Sandbox::new("");
                let freeze = "apiVersion: keywheel/v1\nkind: Freeze\nname: closing\nfrom: \"2026-03-02T00:00:00\"\n\
                              until: \"2026-03-31T00:00:00\"\nreason: the books are closed\n";
                sandbox.write("policies/freezes.yaml", freeze);
                sandbox.commit(NIGHTLY);
                sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
                waits(sandbox)
            }
            Self::Window => {
                let window = "rotation_windows:\n  - {start: \"12:00\", end: \"13:00\"}\nrotation_time";
                waits(applied("", &NIGHTLY.replace("rotation_time", window)))
            }
            Self::Gap => {
                let often = "rotation_trigger: usage_based\nmax_usage_count: 10\n";
                let sandbox = applied("", &NIGHTLY.replace("rotation_interval_days: 1\n", often).replace(SLOT, ""));
                let later = "2026-03-02 02:00:00";
                by_hand(&sandbox, later, &["rotate"]);
                let report = ["usage", "report", "acme/patients", "--source", "billing", "--total", "10"];
                sandbox.at(later, &report).exits(0);
                waits(sandbox)
            }
            Self::Hold => {
                let sandbox = applied("", NIGHTLY);
                by_hand(&sandbox, "2026-03-01 12:10:00", &["rotate", "rollback"]);
                waits(sandbox)
            }
            Self::Park => {
                let sandbox = applied("", NIGHTLY);
                by_hand(&sandbox, NOON, &["park"]);
                waits(sandbox)
            }
            other => unreachable!("{other:?} holds no key"),
        }
    }
}

fn refused(sandbox: Sandbox, status: i32, code: &'static str) -> Scene {
    Scene { answer: Answer::Refused(status, code), ..waits(sandbox) }
}

const fn waits(sandbox: Sandbox) -> Scene {
    Scene { sandbox, instant: NIGHT, variables: Vec::new(), answer: Answer::Waits }
}

fn leaves_alone(sandbox: Sandbox, status: i32, code: &'static str) -> Scene {
    Scene { answer: Answer::LeavesAlone(status, code), ..waits(sandbox) }
}

/// Applied at noon, and due in the night.
fn applied(config: &str, documents: &str) -> Sandbox {
    let sandbox = Sandbox::with(config, documents);
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox
}

/// Work by hand on the key of [`NIGHTLY`].
fn by_hand(sandbox: &Sandbox, instant: &str, commands: &[&str]) {
    for command in commands {
        sandbox.at(instant, &[command, "acme/patients", "--reason", "a test", "--auto-approve"]).exits(0);
    }
}

/// A key whose old version is to be disabled.
fn with_an_old_version(config: &str) -> Sandbox {
    let terms = "rotation_interval_days: 90\nenable_rollback: false\nretain_old_keys_days: 1\n\
                 old_key_disposition: disable\ndata_max_age_days: 1";
    let sandbox = applied(config, &NIGHTLY.replace("rotation_interval_days: 1", terms));
    by_hand(&sandbox, NOON, &["rotate"]);
    sandbox
}

const ADA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrJq/X/POHmPtnu7iS3efJ78yiBj+frByWhj9n+R2D1";
const BEN: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHzPwUYaR222vxkuVrzmJlAu2Q9WRpR/dH7IMtDHA4uX";

fn owner(name: &str, key: &str) -> String {
    format!("- {{principal: {name}@example.org, signing_key: {key}}}\n")
}

/// Changes are to be signed, and one is not.
fn signed_from_now_on() -> Sandbox {
    let owner = format!("owners:\n{}", owner("ada", ADA));
    let sandbox = applied(&owner, NIGHTLY);
    sandbox.write("keywheel.yaml", &format!("apiVersion: keywheel/v1\nkind: Config\nrequire_signed: true\n{owner}"));
    sandbox.commit_all("signed from now on");
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.commit(&NIGHTLY.replace("rotation_interval_days: 1", "rotation_interval_days: 2"));
    sandbox
}

impl Scene {
    /// The work with flags.
    fn command(&self, guard: Guard, flags: &[Flag]) -> Vec<String> {
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut command = if flags.contains(&Flag::Compromised) {
            text(&["rotate", "acme/patients", "--compromised", "--incident", "INC-1", "--reason", "a leak"])
        } else {
            text(&["apply"])
        };
        match guard {
            _ if flags.contains(&Flag::Compromised) => {}
            Guard::PlanForReading => command.push(self.plan(&["--as-of", "2026-03-02T02:00:10Z"])),
            Guard::PlanOfTheRecord => command.push(self.plan(&["--refresh=false"])),
            Guard::PlanWithBase => command.push(self.plan(&["--base", "HEAD"])),
            _ if flags.contains(&Flag::SavedPlan) => command.push(self.plan(&[])),
            _ => {}
        }
        if guard != Guard::Consent || flags.contains(&Flag::AutoApprove) {
            command.push("--auto-approve".to_owned());
        }
        let patience = if flags.contains(&Flag::LockTimeout) { "1s" } else { "0s" };
        command.extend(text(&["--lock-timeout", patience]));
        for flag in flags {
            command.extend(match flag {
                Flag::AutoApprove | Flag::LockTimeout | Flag::SavedPlan | Flag::Compromised => Vec::new(),
                Flag::AllowDirty => text(&["--allow-dirty"]),
                Flag::AllowOlder => text(&["--allow-older", "a test"]),
                Flag::EphemeralState => text(&["--ephemeral-state"]),
                Flag::Ref => text(&["--ref", "HEAD"]),
                Flag::State if guard == Guard::Ci => text(&["--state", "sqlite:../state.db"]),
                Flag::State => text(&["--state", "sqlite:.keywheel/state.db"]),
                Flag::OverrideLimits => {
                    let plan = self.run(&text(&["plan", "--format", "json"]));
                    // Where nothing can be planned there is no digest either.
                    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap_or_default();
                    text(&["--override-limits", plan["digest"].as_str().unwrap_or("none"), "--reason", "a test"])
                }
            });
        }
        command
    }

    /// Saves a plan.
    fn plan(&self, options: &[&str]) -> String {
        let options = options.iter().map(|word| (*word).to_owned());
        let done = self
            .run(&["plan", "--out", "../plan.json"].map(str::to_owned).into_iter().chain(options).collect::<Vec<_>>());
        assert!(matches!(done.status, Some(0 | 3 | 7)), "{}\n{}", done.stdout, done.stderr);
        "../plan.json".to_owned()
    }

    fn run(&self, command: &[String]) -> crate::support::sandbox::Done {
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let mut run = self.sandbox.at(self.instant, &words);
        for (name, value) in &self.variables {
            run = run.env(name, value);
        }
        run.ends()
    }
}

/// Do two flags that each lift some guard stand in one command? A rotation by hand is no apply, and a saved plan has its
/// own commit.
fn go_together(one: Flag, other: Flag) -> bool {
    let either = |flag| one == flag || other == flag;
    let lifts_nothing = |flag| matches!(flag, Flag::AutoApprove | Flag::LockTimeout | Flag::State);
    if lifts_nothing(one) || lifts_nothing(other) || either(Flag::SavedPlan) && either(Flag::Ref) {
        return false;
    }
    !either(Flag::Compromised) || either(Flag::EphemeralState)
}

/// Tries every flag against a guard, alone and with every other.
fn stands(guard: Guard) {
    let lifts = |flag: Flag| LIFTS.iter().any(|(lifting, lifted, _)| (*lifting, *lifted) == (flag, guard));
    // A saved plan has its own commit, and none is made of keys that the database does not know.
    let fits = |flag: Flag| match flag {
        Flag::Ref => !guard.is_of_a_plan(),
        Flag::SavedPlan => guard != Guard::UnknownKeys,
        _ => true,
    };
    let holding: Vec<Flag> = FLAGS.iter().copied().filter(|flag| !lifts(*flag) && fits(*flag)).collect();
    let mut tried: Vec<Vec<Flag>> = vec![Vec::new()];
    tried.extend(holding.iter().map(|flag| vec![*flag]));
    for (index, one) in holding.iter().enumerate() {
        let others = holding.iter().skip(index + 1).filter(|other| go_together(*one, **other));
        tried.extend(others.map(|other| vec![*one, *other]));
    }
    // A plan is applied once, and what waits is applied by whatever comes before: those with one go first.
    let mut scene = guard.scene();
    for flags in tried {
        if flags.contains(&Flag::SavedPlan) && !matches!(scene.answer, Answer::Refused(..)) {
            scene = guard.scene();
        }
        holds(&scene, guard, &flags);
    }
    for flag in FLAGS.iter().copied().filter(|flag| lifts(*flag)) {
        // What one let through is not there for the next.
        let scene = guard.scene();
        let command = scene.command(guard, &[flag]);
        let done = scene.run(&command);
        assert_eq!(done.status, Some(0), "{guard:?} with {flag:?}: {command:?}\n{}\n{}", done.stdout, done.stderr);
    }
}

/// The guard holds against these flags.
fn holds(scene: &Scene, guard: Guard, flags: &[Flag]) {
    let command = scene.command(guard, flags);
    let before = scene.sandbox.state();
    let done = scene.run(&command);
    let said = format!("{guard:?} with {flags:?}: {command:?}\n{}\n{}", done.stdout, done.stderr);
    let by_hand = flags.contains(&Flag::Compromised);
    let refused = |status: i32, code: &str| {
        assert_eq!(done.status, Some(status), "{said}");
        assert!(done.stderr.contains(&format!("error[{code}")), "no {code}: {said}");
        assert!(scene.sandbox.state() == before, "the state or a key was changed: {said}");
    };
    let rotates_nothing = |status: i32| {
        assert_eq!(done.status, Some(status), "{said}");
        let rotated = "SELECT id FROM rotations WHERE cause IN ('due', 'overdue', 'usage', 'compromised')";
        assert!(scene.sandbox.sql(rotated).is_empty(), "a key was rotated: {said}");
    };
    match scene.answer {
        // A database that knows no key has none to rotate.
        Answer::Refused(..) if by_hand && guard == Guard::UnknownKeys => refused(1, "manual/unknown-key"),
        Answer::Refused(status, code) => refused(status, code),
        // What is not approved waits; a plan that has it, and that nobody approved, is not applied.
        Answer::Waits if guard == Guard::Approvals && flags.contains(&Flag::SavedPlan) => refused(3, "apply/approvals"),
        // The switch says so by itself where somebody asks for a rotation by hand.
        Answer::Waits if by_hand => refused(3, ""),
        Answer::LeavesAlone(status, code) if by_hand => refused(status, code),
        Answer::Waits => rotates_nothing(0),
        Answer::LeavesAlone(..) => rotates_nothing(7),
    }
}

/// Work by hand, each where it would be done: the words of the command, and when.
fn work_by_hand() -> Vec<(Sandbox, Vec<&'static str>, &'static str)> {
    // Outside of the checkout, so that CI throws the keystore away alone; and where a plain client finds it.
    let beside = |sandbox: Sandbox| {
        std::os::unix::fs::symlink("../../state.db", sandbox.database()).unwrap();
        sandbox
    };
    let rotated = || {
        let sandbox = beside(applied(STATE, NIGHTLY));
        by_hand(&sandbox, "2026-03-01 12:10:00", &["rotate"]);
        sandbox
    };
    let held = rotated();
    by_hand(&held, "2026-03-01 12:10:00", &["rollback"]);
    let parked = beside(applied(STATE, NIGHTLY));
    by_hand(&parked, NOON, &["park"]);
    let disabled = || {
        let sandbox = beside(with_an_old_version(STATE));
        sandbox.at(RETAINED, &["apply", "--auto-approve"]).exits(0);
        sandbox
    };
    let twin = disabled();
    twin.tamper("UPDATE key_versions SET orphan = 1 WHERE number = 1");
    vec![
        (rotated(), vec!["rollback", "acme/patients"], "2026-03-01 12:20:00"),
        (held, vec!["release", "acme/patients"], "2026-03-01 12:20:00"),
        (parked, vec!["resume", "acme/patients"], "2026-03-01 12:20:00"),
        (disabled(), vec!["enable", "acme/patients", "1"], RETAINED),
        (twin, vec!["destroy", "acme/patients", "1"], RETAINED),
    ]
}

#[test]
fn work_by_hand_is_held_by_consent_a_lock_and_what_ci_throws_away_and_no_two_flags_lift_another_guard() {
    const HOLD: &str = "UPDATE leases SET who = 'grace@build-7', expires_at = '2099-01-01T00:00:00.000000Z'";
    const FREE: &str = "UPDATE leases SET expires_at = NULL";
    let [consent, ephemeral, patience]: [&[&str]; 3] =
        [&["--auto-approve"], &["--ephemeral-state"], &["--lock-timeout", "1s"]];
    for (sandbox, words, instant) in work_by_hand() {
        let name = words[0];
        let words = [words, vec!["--reason", "a test"]].concat();
        let refused = |more: &[&[&str]], variables: &[(&str, &str)], status, code| {
            let mut run = sandbox.at(instant, &[words.clone(), more.concat()].concat());
            for (variable, value) in variables {
                run = run.env(variable, value);
            }
            let before = sandbox.state();
            run.exits(status).error(code);
            assert!(sandbox.state() == before, "{name} with {more:?}: the state or a key was changed");
        };
        let ci: &[(&str, &str)] = &[("CI", "true")];
        let off: &[(&str, &str)] = &[("KEY_ROTATION_ENABLED", "false")];
        refused(&[], &[], 1, "apply/no-approval");
        refused(&[ephemeral, patience], ci, 1, "apply/no-approval");
        refused(&[consent], ci, 3, "apply/ephemeral-keystore");
        refused(&[consent, patience], ci, 3, "apply/ephemeral-keystore");
        if matches!(name, "rollback" | "destroy") {
            refused(&[consent, ephemeral], off, 3, "manual/switched-off");
        }
        sandbox.tamper(HOLD);
        refused(&[consent, ephemeral, &["--lock-timeout", "0s"]], ci, 5, "state/locked");
        refused(&[consent, patience], &[], 5, "state/locked");
        sandbox.tamper(FREE);
        let all = [words.clone(), [consent, ephemeral, patience].concat()].concat();
        sandbox.at(instant, &all).env("CI", "true").exits(0);
    }
}

/// One test of every guard: a guard without one does not compile.
macro_rules! guards {
    ($($test:ident: $guard:ident,)+) => {
        $(
            #[test]
            fn $test() {
                stands(Guard::$guard);
            }
        )+

        #[test]
        fn every_exception_is_about_a_guard_that_is_tried() {
            let tried = [$(Guard::$guard),+];
            assert!(LIFTS.iter().all(|(_, guard, why)| tried.contains(guard) && !why.is_empty()));
            // Every guard has a test: this match names them all.
            for guard in tried {
                match guard { $(Guard::$guard => {})+ }
            }
        }
    };
}

guards! {
    a_dirty_tree_is_let_through_by_nothing_else: DirtyTree,
    a_branch_is_let_through_by_nothing_else: Branch,
    an_older_commit_is_let_through_by_nothing_else: OlderCommit,
    an_unsigned_commit_is_let_through_by_nothing: Unsigned,
    limits_are_lifted_by_nothing_else: Limits,
    removals_are_let_through_by_nothing_else: Removals,
    destructions_are_let_through_by_nothing_else: Destructions,
    an_empty_folder_is_let_through_by_nothing: EmptySource,
    a_state_that_is_lost_with_ci_is_let_through_by_nothing_else: Ci,
    consent_is_given_by_nothing_else: Consent,
    a_lock_is_broken_by_no_flag: Lock,
    a_plan_for_reading_is_applied_with_no_flag: PlanForReading,
    a_plan_that_asked_nobody_is_applied_with_no_flag: PlanOfTheRecord,
    a_plan_of_another_base_is_applied_with_no_flag: PlanWithBase,
    approvals_are_replaced_by_no_flag: Approvals,
    a_guardrail_is_lifted_by_nothing_else: Guardrail,
    a_history_that_is_cut_off_is_trusted_with_nothing_else: Shallow,
    a_name_that_somebody_else_moved_is_left_alone_with_every_flag: AliasMoved,
    keys_that_the_database_does_not_know_stop_it_with_every_flag: UnknownKeys,
    the_switch_is_turned_by_no_flag: Switch,
    a_suspension_is_lifted_by_nothing_else: Suspended,
    a_freeze_is_lifted_by_nothing_else: Freeze,
    a_window_is_opened_by_nothing_else: Window,
    a_minimum_gap_is_lifted_by_nothing_else: Gap,
    a_hold_is_ended_by_nothing_else: Hold,
    a_parked_key_is_resumed_by_nothing_else: Park,
}
