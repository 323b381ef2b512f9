//! The binary as a user runs it: help, exit statuses, streams, files.

mod json;
mod out;
mod prompt;
mod test;
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::sandbox::Sandbox;

const COMMANDS: &[&[&str]] = &[
    &["init"],
    &["validate"],
    &["test"],
    &["fmt"],
    &["schema"],
    &["plan"],
    &["show"],
    &["apply"],
    &["rotate"],
    &["status"],
    &["history"],
    &["explain"],
    &["drift"],
    &["data", "encrypt"],
    &["data", "decrypt"],
    &["completions"],
    &["man"],
    &["version"],
];

#[test]
fn every_command_explains_itself_with_an_example() {
    let sandbox = Sandbox::empty();
    for command in COMMANDS {
        let help = sandbox.keywheel(&[command, &["--help"][..]].concat()).exits(0).stdout;
        let name = command.join(" ");
        assert!(help.contains(&format!("Usage: keywheel {name}")), "{name}: {help}");
        assert!(help.contains("Example") && help.contains("keywheel "), "{name} has no example: {help}");
    }
}

#[test]
fn the_help_names_every_exit_status() {
    let help = Sandbox::empty().keywheel(&["--help"]).exits(0).stdout;
    for status in 0..=7 {
        assert!(help.contains(&format!("\n  {status}  ")), "{status}: {help}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command_with_the_exit_statuses() {
    let sandbox = Sandbox::empty();
    sandbox.keywheel(&["man", "pages"]).exits(0);
    let page = |name: &str| fs::read_to_string(sandbox.path(&format!("pages/{name}.1"))).unwrap();
    assert!(page("keywheel").contains("Exit status"), "{}", page("keywheel"));
    for command in COMMANDS {
        assert!(page(&format!("keywheel-{}", command.join("-"))).contains("NAME"), "{command:?}");
    }
}

#[test]
fn a_wrong_command_line_is_status_1() {
    let sandbox = Sandbox::empty();
    let wrong: &[&[&str]] = &[
        &[],
        &["rotation"],
        &["plan", "--nonsense"],
        &["explain", "no-slash"],
        &["plan", "--as-of", "soon"],
        &["apply", "--override-limits", "sha256:0"],
        &["rotate", "a/b"],
        &["history", "--limit", "0"],
    ];
    for arguments in wrong {
        let run = sandbox.keywheel(arguments).ends();
        assert_eq!(run.status, Some(1), "{arguments:?}: {}", run.stderr);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn status_says_what_another_state_database_is_called_there() {
    let sandbox = Sandbox::empty();
    for database in ["sqlite:x.db", "postgres://host/db", "${STATE}"] {
        let run = sandbox.keywheel(&["status", "--state", database]).exits(1);
        assert!(run.stderr.contains("another state database is --state-url here"), "{}", run.stderr);
    }
    let run = sandbox.keywheel(&["status", "--state", "actve"]).exits(1);
    assert!(run.stderr.contains("active") && !run.stderr.contains("state-url"), "{}", run.stderr);
}

#[test]
fn completions_know_the_commands() {
    let sandbox = Sandbox::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(sandbox.keywheel(&["completions", shell]).exits(0).stdout.contains("explain"), "{shell}");
    }
}

#[test]
fn what_init_writes_is_valid_and_laid_out_and_stays_when_it_runs_again() {
    let sandbox = Sandbox::empty();
    let first = sandbox.keywheel(&["init", "--tenant", "healthcare-org-123"]).exits(0).stdout;
    // What a stranger proposes runs nowhere but where nothing is to be had.
    let workflow = |name: &str| std::fs::read_to_string(sandbox.path(&format!(".github/workflows/{name}"))).unwrap();
    let review = workflow("keywheel-review.yaml");
    assert!(review.contains("ubuntu-latest") && !review.contains("id-token") && !review.contains("self-hosted"));
    assert!(!workflow("keywheel-apply.yaml").contains("pull_request"));
    assert!(first.contains("+ keywheel.yaml") && first.contains("keywheel apply"), "{first}");
    assert!(sandbox.keywheel(&["validate"]).exits(0).stdout.contains("Valid."));
    let check = sandbox.keywheel(&["fmt", "--check"]).ends();
    assert_eq!((check.status, check.stdout.as_str()), (Some(0), ""), "{}", check.stderr);

    let edited = "# mine\napiVersion: keywheel/v1\nkind: Config\n";
    fs::write(sandbox.path("keywheel.yaml"), edited).unwrap();
    let second = sandbox.keywheel(&["init", "--tenant", "healthcare-org-123"]).exits(0).stdout;
    assert!(second.contains("nothing was written"), "{second}");
    assert_eq!(fs::read_to_string(sandbox.path("keywheel.yaml")).unwrap(), edited);
    assert_eq!(fs::read_to_string(sandbox.path(".gitignore")).unwrap().matches(".keywheel").count(), 1);
}

#[test]
fn the_quick_start_encrypts_rotates_and_decrypts() {
    let sandbox = Sandbox::with_policies();
    let applied = sandbox.keywheel(&["apply", "--auto-approve"]).exits(0);
    assert!(applied.stdout.contains("Plan: 4 to create."), "{}", applied.stdout);
    assert!(applied.stderr.contains("data encrypt my-team/first-key"), "{}", applied.stderr);

    let secret = "attending physician: Dr. Vega\n";
    let encrypted = sandbox.keywheel(&["data", "encrypt", "my-team/first-key"]).input(secret.as_bytes()).exits(0);
    assert!(!encrypted.stdout.contains("Vega"));
    let rotated = sandbox
        .keywheel(&["rotate", "my-team/first-key", "--reason", "trying it out", "--auto-approve"])
        .exits(0)
        .stdout;
    assert!(rotated.contains("my-team/Quarterly  success"), "{rotated}");
    let decrypted =
        sandbox.keywheel(&["data", "decrypt", "my-team/first-key"]).input(encrypted.stdout.as_bytes()).ends();
    assert_eq!(decrypted.stdout, secret, "{}", decrypted.stderr);

    let again = sandbox.keywheel(&["apply", "--auto-approve"]).exits(0).stdout;
    assert!(again.contains("No changes."), "{again}");
    assert!(sandbox.keywheel(&["history", "-v"]).exits(0).stdout.contains("trying it out"));
}

#[test]
fn a_plan_tells_changes_by_its_exit_status_only_when_asked() {
    let sandbox = Sandbox::with_policies();
    sandbox.keywheel(&["plan"]).exits(0);
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(2);
    sandbox.keywheel(&["apply", "--auto-approve"]).exits(0);
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0);
    sandbox.keywheel(&["drift", "--detailed-exitcode"]).exits(0);
    // In half a year the key is due.
    let later = sandbox.keywheel(&["plan", "--detailed-exitcode", "--as-of", "2099-01-01"]).exits(2);
    assert!(later.stdout.contains("Plan: 1 to rotate."), "{}", later.stdout);
}

#[test]
fn a_saved_plan_is_shown_applied_once_and_never_when_it_was_altered() {
    let sandbox = Sandbox::with_policies();
    let saved = sandbox.keywheel(&["plan", "--out", "plan.json"]).ends();
    assert!(saved.stderr.contains("keywheel apply plan.json"), "{}", saved.stderr);
    let shown = sandbox.keywheel(&["show", "plan.json"]).exits(0).stdout;
    let (before, after) = shown.split_once("It can be applied until ").unwrap();
    let (_, after) = after.split_once("\n\n").unwrap();
    assert_eq!(format!("{before}{after}"), saved.stdout, "but for when it expires");

    let plan = fs::read_to_string(sandbox.path("plan.json")).unwrap();
    fs::write(sandbox.path("altered.json"), plan.replace("\"create\"", "\"forget\"")).unwrap();
    for arguments in [["show", "altered.json"], ["apply", "altered.json"]] {
        let refused = sandbox.keywheel(&arguments).exits(4);
        assert!(refused.stderr.contains("error[plan/file]") && refused.stderr.contains("help: "), "{}", refused.stderr);
    }

    sandbox.keywheel(&["apply", "plan.json"]).exits(0);
    sandbox.keywheel(&["apply", "plan.json"]).exits(4);
}

#[test]
fn nothing_is_applied_where_nobody_can_be_asked() {
    let sandbox = Sandbox::with_policies();
    for arguments in [&["apply"][..], &["apply", "--format", "json"], &["rotate", "my-team/first-key", "--reason", "x"]]
    {
        let refused = sandbox.keywheel(arguments).exits(1);
        assert!(refused.stderr.contains("error[apply/no-approval]"), "{}", refused.stderr);
        assert!(refused.stdout.is_empty(), "{}", refused.stdout);
    }
    assert!(!sandbox.path(".keywheel").exists());
}

#[test]
fn documents_with_mistakes_show_all_of_them_and_end_with_1() {
    let sandbox = Sandbox::with_policies();
    let path = sandbox.path("policies/my-team/keys.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("rotation_interval_days", "rotation_intervall_days")).unwrap();
    let found = sandbox.keywheel(&["validate"]).exits(1);
    assert!(found.stdout.contains("policies/my-team/keys.yaml:"), "{}", found.stdout);
    assert!(found.stdout.contains("rotation_interval_days"), "{}", found.stdout);
    // The tenant is left out of the plan, and the plan says so.
    let plan = sandbox.keywheel(&["plan"]).exits(7);
    assert!(plan.stdout.contains("Left out: 1 tenant"), "{}", plan.stdout);
}

#[test]
fn the_documents_of_this_repository_and_of_every_example_are_laid_out_and_sound() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(here.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let examples = examples.filter(|folder| folder.join("keywheel.yaml").is_file());
    let repositories: Vec<PathBuf> = examples.chain([here.to_owned()]).collect();
    assert!(repositories.len() > 1, "there are no examples");
    for dir in repositories {
        for command in [&["fmt", "--check"][..], &["validate"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_keywheel")).current_dir(&dir).args(command).output().unwrap();
            assert!(output.status.success(), "{}: {command:?}: {output:?}", dir.display());
        }
    }
}

#[test]
fn the_manual_is_one_page_on_standard_output_or_a_page_for_each_command_in_a_folder() {
    let sandbox = Sandbox::with_policies();
    let page = sandbox.keywheel(&["man"]).exits(0).stdout;
    assert!(page.contains(".TH keywheel"), "{}", page);
    assert!(!sandbox.path("keywheel.1").exists());
    sandbox.keywheel(&["man", "pages"]).exits(0);
    assert!(sandbox.path("pages/keywheel-apply.1").exists());
    let (help, same) =
        (sandbox.keywheel(&["help", "plan"]).exits(0).stdout, sandbox.keywheel(&["plan", "--help"]).exits(0).stdout);
    assert_eq!(help, same);
}

#[test]
fn fmt_rewrites_what_is_not_laid_out_and_keeps_comments() {
    let sandbox = Sandbox::with_policies();
    let path = sandbox.path("policies/my-team/tenant.yaml");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(&path, before.replace("timezone: UTC", "timezone:    UTC # ours")).unwrap();
    let check = sandbox.keywheel(&["fmt", "--check"]).ends();
    assert_eq!((check.status, check.stdout.as_str()), (Some(1), "policies/my-team/tenant.yaml\n"));
    sandbox.keywheel(&["fmt"]).exits(0);
    assert!(fs::read_to_string(&path).unwrap().contains("timezone: UTC # ours"));
    sandbox.keywheel(&["fmt", "--check"]).exits(0);
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let sandbox = Sandbox::with_policies();
    let colored = |arguments: &[&str]| sandbox.keywheel(arguments).ends().stdout.contains('\u{1b}');
    assert!(!colored(&["plan"]));
    assert!(!colored(&["plan", "--color", "never"]));
    assert!(colored(&["plan", "--color", "always"]));
    assert!(!sandbox.keywheel(&["plan"]).command.env("NO_COLOR", "1").output().unwrap().stdout.contains(&0x1b));
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    let sandbox = Sandbox::with_policies();
    for arguments in [&["schema"][..], &["plan"], &["validate"], &["status", "--format", "json"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = sandbox.keywheel(arguments).command.stdout(Stdio::from(writer)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&run.stderr), "", "{arguments:?}");
        assert_eq!(run.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_plan_that_nobody_saw_is_not_applied() {
    let sandbox = Sandbox::with_policies();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run = sandbox.keywheel(&["apply", "--auto-approve"]).command.stdout(Stdio::from(writer)).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(stderr.contains("error[apply/not-shown]") && !stderr.contains("panicked"), "{stderr}");
    assert!(sandbox.keywheel(&["status"]).exits(0).stdout.contains("No key was applied yet"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_behind_standard_output_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = Sandbox::with_policies().keywheel(&["plan"]).command.stdout(Stdio::from(full)).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stderr).contains("error[cli/output]"));
}

#[test]
fn a_slip_in_a_name_gets_the_name_that_was_meant() {
    let sandbox = Sandbox::with_policies();
    let run = sandbox.keywheel(&["explain", "my-team/frist-key"]).exits(1);
    assert!(run.stderr.contains("my-team/first-key"), "{}", run.stderr);
}

#[test]
fn explain_says_where_a_value_comes_from_and_what_would_stop_a_rotation() {
    let sandbox = Sandbox::with_policies();
    let before = sandbox.keywheel(&["explain", "my-team/first-key"]).exits(0).stdout;
    assert!(before.contains("not applied yet"), "{before}");
    sandbox.keywheel(&["apply", "--auto-approve"]).exits(0);
    let policy = sandbox.keywheel(&["explain", "my-team/Quarterly"]).exits(0).stdout;
    assert!(policy.contains("policies/my-team/keys.yaml:"), "{policy}");
    assert!(policy.contains("defaults of the tenant") && policy.contains("  default\n"), "{policy}");
    assert!(policy.contains("What would stop a rotation now? nothing"), "{policy}");
    let off = sandbox
        .keywheel(&["explain", "my-team/first-key"])
        .command
        .env("KEY_ROTATION_ENABLED", "false")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&off.stdout).contains("KEY_ROTATION_ENABLED=false"));
}
