//! `require_signed` and approvals with OpenPGP keys: commits and plans signed by real `gpg`, in a home of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{NIGHTLY, NOON, Sandbox};

const APPLY: &[&str] = &["apply", "--auto-approve"];

/// When keys were made, and when what a person signs says that it was.
const MADE: &str = "20260101T000000!";
const NOW: &str = "20260301T110000!";
const BEFORE_THE_END: &str = "20260115T000000!";

/// People with keys, and a repository in which changes are signed: the repository's files by `root`, tenant acme's by `ada`,
/// `old` (whose key has ended) and `lost` (who revoked hers), globex's by `bob`. `eve` owns nothing.
struct Pgp {
    sandbox: Sandbox,
    home: tempfile::TempDir,
}

impl Drop for Pgp {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.home.path()).status();
    }
}

impl Pgp {
    fn new(config: &str) -> Self {
        // An agent's socket has a short path.
        let home = tempfile::Builder::new().prefix("kw").tempdir_in("/tmp").unwrap();
        let pgp = Self { sandbox: Sandbox::new(""), home };
        for person in ["root", "ada", "bob", "eve", "lost"] {
            pgp.key(person, "never");
        }
        pgp.key("old", "2026-02-01");
        pgp.gpg(MADE, &["--quick-add-key", &pgp.fingerprint("ada"), "ed25519", "sign", "never"]);
        pgp.sandbox.write(
            "keywheel.yaml",
            &format!(
                "apiVersion: keywheel/v1\nkind: Config\nrequire_signed: true\n{config}owners:\n{}",
                pgp.owner("root")
            ),
        );
        let tenant = |tenant: &str, owners: String| {
            let text = format!("apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: {tenant}\nowners:\n{owners}");
            pgp.sandbox.write(&format!("policies/{tenant}/tenant.yaml"), &text);
            pgp.sandbox.write(&format!("policies/{tenant}/keys.yaml"), &NIGHTLY.replace("acme", tenant));
        };
        tenant("acme", ["ada", "old"].map(|person| pgp.owner(person)).concat() + &pgp.revoked("lost"));
        tenant("globex", pgp.owner("bob"));
        pgp.commit("root", NOW, "trust begins here");
        pgp.sandbox.at(NOON, APPLY).exits(0);
        pgp
    }

    fn gpg(&self, at: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.program(at)).args(arguments).output().unwrap();
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `gpg` at an instant, as git calls it.
    fn program(&self, at: &str) -> PathBuf {
        let path = self.home.path().join(format!("gpg-{}", at.trim_end_matches('!')));
        if !path.exists() {
            let home = self.home.path().display();
            let script = format!(
                "#!/bin/sh\nunset LD_PRELOAD\nexport GNUPGHOME='{home}'\nexec gpg --no-permission-warning --batch --yes \
                 --pinentry-mode loopback --passphrase '' --faked-system-time '{at}' \"$@\"\n"
            );
            fs::write(&path, script).expect("the script is written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        path
    }

    fn key(&self, person: &str, ends: &str) {
        let name = format!("{person} <{person}@example.org>");
        self.gpg(MADE, &["--quick-gen-key", &name, "ed25519", "sign,cert", ends]);
    }

    fn fingerprints(&self, person: &str) -> Vec<String> {
        let listed = self.gpg(MADE, &["--list-keys", "--with-colons", &format!("{person}@example.org")]);
        let fingerprints = listed.lines().filter(|line| line.starts_with("fpr:"));
        fingerprints.map(|line| line.split(':').nth(9).unwrap().to_owned()).collect()
    }

    fn fingerprint(&self, person: &str) -> String {
        self.fingerprints(person).remove(0)
    }

    /// An entry of `owners`, with the key as gpg prints it.
    fn owner(&self, person: &str) -> String {
        owner(person, &self.gpg(NOW, &["--armor", "--export", &self.fingerprint(person)]))
    }

    /// The same with the key's own revocation, of which the home in which it signs knows nothing.
    fn revoked(&self, person: &str) -> String {
        let fingerprint = self.fingerprint(person);
        let revocation = self.home.path().join(format!("openpgp-revocs.d/{fingerprint}.rev"));
        let revocation = fs::read_to_string(revocation).unwrap().replace(":-----BEGIN", "-----BEGIN");
        let elsewhere = self.home.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("key"), self.gpg(NOW, &["--armor", "--export", &fingerprint])).unwrap();
        fs::write(elsewhere.join("revocation"), revocation).unwrap();
        let there =
            |arguments: &[&str]| self.gpg(NOW, &[&["--homedir", elsewhere.to_str().unwrap()], arguments].concat());
        for file in ["key", "revocation"] {
            there(&["--import", elsewhere.join(file).to_str().unwrap()]);
        }
        owner(person, &there(&["--armor", "--export", &fingerprint]))
    }

    fn commit(&self, signer: &str, at: &str, message: &str) {
        self.commit_with(&self.fingerprint(signer), at, message);
    }

    fn commit_with(&self, key: &str, at: &str, message: &str) {
        let (program, key) = (format!("gpg.program={}", self.program(at).display()), format!("user.signingkey={key}!"));
        self.sandbox.git(&["add", "-A"]);
        // Nobody's words but the signer's count here: the author is no owner.
        let author = "--author=Gil <gil@example.org>";
        self.sandbox.git(&["-c", &program, "-c", &key, "-c", "commit.gpgsign=true", "commit", author, "-qm", message]);
    }

    /// Changes how often acme's keys rotate.
    fn edit(&self, days: u32) {
        let days = format!("rotation_interval_days: {days}");
        self.sandbox.write("policies/acme/keys.yaml", &NIGHTLY.replace("rotation_interval_days: 1", &days));
    }

    /// Fails unless plan shows this finding and apply changes nothing; then the commit is taken back.
    fn refused(&self, code: &str, why: &str) {
        let shown = self.sandbox.at(NOON, &["plan"]).exits(3).says(&format!("error[{code}]"));
        let said = shown.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(why), "no {why:?}: {said}");
        let before = self.sandbox.state();
        self.sandbox.at(NOON, APPLY).exits(3).error("apply/unsigned");
        assert!(self.sandbox.state() == before, "something was changed");
        self.sandbox.git(&["reset", "-q", "--hard", "HEAD~1"]);
    }
}

fn owner(person: &str, key: &str) -> String {
    let key: String = key.lines().map(|line| format!("    {line}\n")).collect();
    format!("- principal: {person}@example.org\n  signing_key: |\n{key}")
}

#[test]
fn commits_that_gpg_signed_count_as_those_of_ssh_do() {
    let pgp = Pgp::new("");
    let [primary, subkey] = <[String; 2]>::try_from(pgp.fingerprints("ada")).unwrap();
    for (days, key) in [(7, &primary), (14, &subkey)] {
        pgp.edit(days);
        pgp.commit_with(key, NOW, "by its owner");
        pgp.sandbox.at(NOON, APPLY).exits(0);
    }
    let signers =
        pgp.sandbox.sql("SELECT last_modified_by_signer AS signer FROM key_rotation_policies WHERE tenant_id = 'acme'");
    assert_eq!(signers[0]["signer"], "ada@example.org");

    pgp.edit(21);
    pgp.commit("bob", NOW, "by another tenant's owner");
    pgp.refused("signature/not-an-owner", "bob@example.org, an owner of tenant globex, and not of tenant acme");
    pgp.edit(21);
    pgp.commit("eve", NOW, "by a stranger");
    pgp.refused("signature/unknown-key", &pgp.fingerprint("eve"));
    pgp.edit(21);
    pgp.sandbox.commit_all("by nobody");
    pgp.refused("signature/unsigned", "not signed");
    pgp.edit(21);
    pgp.commit("old", BEFORE_THE_END, "by a key that has ended since");
    pgp.refused("signature/owners-key", "old@example.org, whose key has expired");
    pgp.edit(21);
    pgp.commit("lost", BEFORE_THE_END, "by a key that was revoked since");
    pgp.refused("signature/owners-key", "lost@example.org, whose key is revoked");
    // What was signed is another commit.
    pgp.edit(21);
    pgp.commit("ada", NOW, "by its owner");
    let commit = pgp.sandbox.git(&["cat-file", "commit", "HEAD"]) + "\n";
    pgp.sandbox.write(".git/altered", &commit.replace("by its owner", "by somebody"));
    let altered = pgp.sandbox.git(&["hash-object", "-t", "commit", "-w", ".git/altered"]);
    pgp.sandbox.git(&["reset", "-q", "--hard", altered.trim()]);
    pgp.refused("signature/broken", "one of them was changed");
}

#[test]
fn gpg_approves_plans_too() {
    let pgp = Pgp::new("approvals: {required: 1, rotations_over: 1}\n");
    let second = NIGHTLY.split_once("---").unwrap().1.replace("patients", "archive");
    pgp.sandbox.write("policies/acme/keys.yaml", &format!("{NIGHTLY}---{second}"));
    pgp.commit("ada", NOW, "one more key");
    pgp.sandbox.at(NOON, APPLY).exits(0);
    let due = "2026-03-02 12:00:00";
    let rotations = || {
        pgp.sandbox.sql("SELECT count(*) AS count FROM rotations WHERE workflow = 'rotate'").remove(0)["count"].take()
    };
    // One of globex is due too, and needs nobody: two of acme's do.
    pgp.sandbox.at(due, &["plan", "--out", "plan.json"]).exits(0).says("2 rotations of tenant acme");
    pgp.sandbox.git(&["config", "gpg.program", pgp.program("20260302T110000!").to_str().unwrap()]);
    let approve = |person: &str| {
        let key = pgp.fingerprint(person);
        pgp.sandbox
            .at(due, &["approve", "plan.json", "--sign-with", &key, "--auto-approve"])
            .exits(0)
            .says("Signed with ");
    };
    approve("bob");
    let refused = pgp.sandbox.at(due, &["apply", "plan.json"]).exits(3).error("apply/approvals");
    assert!(refused.stderr.contains("bob@example.org is an owner of tenant globex"), "{}", refused.stderr);
    approve("ada");
    pgp.sandbox.at("2026-03-02 12:01:00", &["apply", "plan.json"]).exits(0);
    assert_eq!(rotations(), 3);
    let approved = pgp.sandbox.sql("SELECT after FROM audit_log WHERE action = 'plan.approved'");
    let approved: Value = serde_json::from_str(approved[0]["after"].as_str().unwrap()).unwrap();
    assert_eq!(approved["principal"], "ada@example.org");
}
