//! Every pair of what guards an apply and what lifts a guard: a flag lifts its own guard, and weakens no other.
//!
//! The table is made from the two lists: each test is one guard, against which every flag is tried. [`LIFTS`] are the only
//! pairs in which something gets through.

use super::{NIGHTLY, NOON, Sandbox, with_keys};

const NIGHT: &str = "2026-03-02 02:00:10";
const APPLY: [&str; 3] = ["apply", "--lock-timeout", "0s"];

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

flags! { AllowDirty AllowOlder OverrideLimits EphemeralState AutoApprove LockTimeout SavedPlan Compromised }

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
    Switch,
    Suspended,
    Freeze,
    Window,
    Hold,
    Park,
}

/// Every pair in which the flag lets the guarded thing through, and why.
const LIFTS: &[(Flag, Guard, &str)] = &[
    (Flag::AllowDirty, Guard::DirtyTree, "its own guard"),
    (Flag::AllowDirty, Guard::Branch, "its own guard"),
    (Flag::AllowOlder, Guard::OlderCommit, "its own guard"),
    (Flag::OverrideLimits, Guard::Limits, "its own guard"),
    (Flag::OverrideLimits, Guard::Removals, "its own guard"),
    (Flag::OverrideLimits, Guard::Destructions, "its own guard"),
    (Flag::EphemeralState, Guard::Ci, "its own guard"),
    (Flag::AutoApprove, Guard::Consent, "its own guard"),
    (Flag::SavedPlan, Guard::Consent, "whoever reviewed the plan consented"),
    (Flag::Compromised, Guard::Suspended, "the emergency lane"),
    (Flag::Compromised, Guard::Freeze, "the emergency lane"),
    (Flag::Compromised, Guard::Window, "the emergency lane"),
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
];

/// What becomes of guarded work.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// It is refused with this status and code.
    Refused(i32, &'static str),
    /// It ends well, and has not rotated the key that is due.
    Waits,
}

/// A repository in which a guard stands before work.
struct Scene {
    sandbox: Sandbox,
    instant: &'static str,
    variables: Vec<(&'static str, &'static str)>,
    answer: Answer,
}

impl Guard {
    fn scene(self) -> Scene {
        let refused = |sandbox, status, code| Scene {
            sandbox,
            instant: NIGHT,
            variables: Vec::new(),
            answer: Answer::Refused(status, code),
        };
        let waits = |sandbox| Scene { sandbox, instant: NIGHT, variables: Vec::new(), answer: Answer::Waits };
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
                let terms = "rotation_interval_days: 90\nenable_rollback: false\nretain_old_keys_days: 1\n\
                             old_key_disposition: disable\ndata_max_age_days: 1";
                let documents = NIGHTLY.replace("rotation_interval_days: 1", terms);
                let sandbox = applied("limits: {max_destructions: 0}\n", &documents);
                let by_hand = ["rotate", "acme/patients", "--reason", "a test", "--auto-approve"];
                sandbox.at(NOON, &by_hand).exits(0);
                Scene { instant: "2026-03-04 02:00:10", ..refused(sandbox, 3, "apply/limits") }
            }
            Self::EmptySource => {
                let sandbox = applied("", NIGHTLY);
                sandbox.git(&["rm", "-q", "policies/acme/keys.yaml"]);
                sandbox.commit_all("nothing is left");
                refused(sandbox, 3, "apply/limits")
            }
            Self::Ci => {
                let config = "state: sqlite:../state.db\n";
                let scene = refused(applied(config, NIGHTLY), 3, "apply/ephemeral-keystore");
                Scene { variables: vec![("CI", "true")], ..scene }
            }
            Self::Consent => refused(applied("", NIGHTLY), 1, "apply/no-approval"),
            Self::Lock => {
                let sandbox = applied("", NIGHTLY);
                sandbox.tamper("UPDATE leases SET who = 'grace@build-7', expires_at = '2099-01-01T00:00:00.000000Z'");
                refused(sandbox, 5, "state/locked")
            }
            Self::PlanForReading | Self::PlanOfTheRecord => refused(applied("", NIGHTLY), 4, "plan/stale"),
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
            Self::Hold => {
                let sandbox = applied("", NIGHTLY);
                for command in ["rotate", "rollback"] {
                    let by_hand = [command, "acme/patients", "--reason", "a test", "--auto-approve"];
                    sandbox.at("2026-03-01 12:10:00", &by_hand).exits(0);
                }
                waits(sandbox)
            }
            Self::Park => {
                let sandbox = applied("", NIGHTLY);
                sandbox.at(NOON, &["park", "acme/patients", "--reason", "a test", "--auto-approve"]).exits(0);
                waits(sandbox)
            }
        }
    }
}

/// Applied at noon, and due in the night.
fn applied(config: &str, documents: &str) -> Sandbox {
    let sandbox = Sandbox::with(config, documents);
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox
}

/// Changes are to be signed, and one is not.
fn signed_from_now_on() -> Sandbox {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrJq/X/POHmPtnu7iS3efJ78yiBj+frByWhj9n+R2D1";
    let owner = format!("owners: [{{principal: ada@example.org, signing_key: {KEY}}}]\n");
    let sandbox = applied(&owner, NIGHTLY);
    sandbox.write("keywheel.yaml", &format!("apiVersion: keywheel/v1\nkind: Config\nrequire_signed: true\n{owner}"));
    sandbox.commit_all("signed from now on");
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.commit(&NIGHTLY.replace("rotation_interval_days: 1", "rotation_interval_days: 2"));
    sandbox
}

impl Scene {
    /// The work with a flag.
    fn command(&self, guard: Guard, flag: Option<Flag>) -> Vec<String> {
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        if flag == Some(Flag::Compromised) {
            let mut command = text(&["rotate", "acme/patients", "--compromised", "--incident", "INC-1"]);
            command.extend(text(&["--reason", "a leak", "--lock-timeout", "0s"]));
            command.extend(text(if guard == Guard::Consent { &[] } else { &["--auto-approve"] }));
            return command;
        }
        let mut command = text(&APPLY);
        if guard == Guard::PlanForReading {
            command.push(self.plan(&["--as-of", "2026-03-02T02:00:10Z"]));
        } else if guard == Guard::PlanOfTheRecord {
            command.push(self.plan(&["--refresh=false"]));
        } else if flag == Some(Flag::SavedPlan) {
            command.push(self.plan(&[]));
        }
        if guard != Guard::Consent || flag == Some(Flag::AutoApprove) {
            command.push("--auto-approve".to_owned());
        }
        command.extend(match flag {
            None | Some(Flag::AutoApprove | Flag::SavedPlan | Flag::Compromised) => Vec::new(),
            Some(Flag::AllowDirty) => text(&["--allow-dirty"]),
            Some(Flag::AllowOlder) => text(&["--allow-older", "a test"]),
            Some(Flag::EphemeralState) => text(&["--ephemeral-state"]),
            Some(Flag::LockTimeout) => text(&["--lock-timeout", "1s"]),
            Some(Flag::OverrideLimits) => {
                let plan = self.run(&text(&["plan", "--format", "json"])).json();
                text(&["--override-limits", plan["digest"].as_str().unwrap(), "--reason", "a test"])
            }
        });
        if flag == Some(Flag::LockTimeout) {
            command.drain(1..3);
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

/// Tries every flag against a guard.
fn stands(guard: Guard) {
    let mut scene = guard.scene();
    let lifts = |flag: Flag| LIFTS.iter().any(|(lifting, lifted, _)| (*lifting, *lifted) == (flag, guard));
    let holding = FLAGS.iter().copied().filter(|flag| !lifts(*flag)).map(Some);
    for flag in std::iter::once(None).chain(holding) {
        if flag == Some(Flag::SavedPlan) {
            // A plan is applied once, and what waits was applied by the flags before.
            scene = guard.scene();
        }
        let command = scene.command(guard, flag);
        let before = scene.sandbox.state();
        let done = scene.run(&command);
        let said = format!("{guard:?} with {flag:?}: {command:?}\n{}\n{}", done.stdout, done.stderr);
        match scene.answer {
            Answer::Refused(status, code) => {
                assert_eq!(done.status, Some(status), "{said}");
                assert!(done.stderr.contains(&format!("error[{code}]: ")), "no {code}: {said}");
                assert!(scene.sandbox.state() == before, "the state or a key was changed: {said}");
            }
            // The switch says so by itself where somebody asks for a rotation by hand.
            Answer::Waits if flag == Some(Flag::Compromised) => {
                assert_eq!(done.status, Some(3), "{said}");
                assert!(scene.sandbox.state() == before, "the state or a key was changed: {said}");
            }
            Answer::Waits => {
                assert_eq!(done.status, Some(0), "{said}");
                let rotated = "SELECT id FROM rotations WHERE cause IN ('due', 'overdue', 'compromised')";
                assert!(scene.sandbox.sql(rotated).is_empty(), "a key was rotated: {said}");
            }
        }
    }
    for flag in FLAGS.iter().copied().filter(|flag| lifts(*flag)) {
        // What one let through is not there for the next.
        let scene = guard.scene();
        let command = scene.command(guard, Some(flag));
        let done = scene.run(&command);
        assert_eq!(done.status, Some(0), "{guard:?} with {flag:?}: {command:?}\n{}\n{}", done.stdout, done.stderr);
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
    the_switch_is_turned_by_no_flag: Switch,
    a_suspension_is_lifted_by_nothing_else: Suspended,
    a_freeze_is_lifted_by_nothing_else: Freeze,
    a_window_is_opened_by_nothing_else: Window,
    a_hold_is_ended_by_nothing_else: Hold,
    a_parked_key_is_resumed_by_nothing_else: Park,
}
