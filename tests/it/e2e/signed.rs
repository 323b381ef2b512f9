//! `require_signed`: real git repositories whose commits are signed by real `ssh-keygen` keys, and who may change what.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{NIGHTLY, NOON, Sandbox};

const APPLY: &[&str] = &["apply", "--auto-approve"];

/// A repository in which changes are signed, and the keys of the people around it.
pub(super) struct Signed {
    pub(super) sandbox: Sandbox,
    keys: tempfile::TempDir,
}

/// Who the repository's own files belong to, and each tenant's.
const OWNERS: &[(&str, &str)] = &[("root", "root"), ("acme", "ada"), ("globex", "bob")];

impl Signed {
    /// Applied once; then everybody's changes count only where they are signed by their owners.
    pub(super) fn new() -> Self {
        let signed = Self { sandbox: Sandbox::new(""), keys: tempfile::tempdir().unwrap() };
        for person in ["root", "ada", "bob", "eve"] {
            signed.key(person, "ed25519");
        }
        signed.sandbox.write("keywheel.yaml", &signed.config("require_signed: true\n"));
        for (tenant, owner) in &OWNERS[1..] {
            signed.sandbox.write(&format!("policies/{tenant}/tenant.yaml"), &signed.tenant(tenant, owner, ""));
            signed.sandbox.write(&format!("policies/{tenant}/keys.yaml"), &NIGHTLY.replace("acme", tenant));
        }
        signed.commit(Some("root"), "trust begins here");
        signed.sandbox.at(NOON, APPLY).exits(0);
        signed
    }

    pub(super) fn config(&self, more: &str) -> String {
        let key = self.public("root");
        format!(
            "apiVersion: keywheel/v1\nkind: Config\n{more}owners: [{{principal: root@example.org, signing_key: {key}}}]\n"
        )
    }

    pub(super) fn tenant(&self, tenant: &str, owner: &str, more: &str) -> String {
        let key = self.public(owner);
        format!(
            "apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: {tenant}\nowners:\n- principal: {owner}@example.org\n  \
             signing_key: {key}\n{more}"
        )
    }

    pub(super) fn key(&self, person: &str, kind: &str) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", kind, "-C", "", "-N", "", "-f"]).arg(self.path(person));
        assert!(command.status().expect("ssh-keygen is not installed: tests/run installs it").success());
    }

    fn path(&self, person: &str) -> PathBuf {
        self.keys.path().join(person)
    }

    pub(super) fn public(&self, person: &str) -> String {
        fs::read_to_string(self.keys.path().join(format!("{person}.pub"))).unwrap().trim().to_owned()
    }

    /// Runs git as a person who signs whatever they commit.
    fn git(&self, signer: Option<&str>, arguments: &[&str]) {
        let sign = signer.map_or("commit.gpgsign=false".to_owned(), |_| "commit.gpgsign=true".to_owned());
        let key = signer.map_or(PathBuf::new(), |signer| self.path(signer));
        let key = format!("user.signingkey={}", key.display());
        self.sandbox.git(&[&["-c", "gpg.format=ssh", "-c", &sign, "-c", &key][..], arguments].concat());
    }

    pub(super) fn commit(&self, signer: Option<&str>, message: &str) {
        self.sandbox.git(&["add", "-A"]);
        self.git(signer, &["commit", "-qm", message]);
    }

    /// Changes how often a tenant's keys rotate.
    pub(super) fn change(&self, tenant: &str, days: u32, signer: Option<&str>) {
        let days = format!("rotation_interval_days: {days}");
        let documents = NIGHTLY.replace("acme", tenant).replace("rotation_interval_days: 1", &days);
        self.sandbox.write(&format!("policies/{tenant}/keys.yaml"), &documents);
        self.commit(signer, &format!("{tenant}: {days}"));
    }

    pub(super) fn applies(&self) {
        self.sandbox.at(NOON, APPLY).exits(0);
    }

    /// Fails unless plan shows this finding, and apply is refused for it and changes nothing. Gives what apply said.
    fn refused(&self, code: &str) -> String {
        self.sandbox.at(NOON, &["plan"]).exits(3).says(&format!("error[{code}]"));
        let before = self.sandbox.state();
        let done = self.sandbox.at(NOON, APPLY).exits(3).error("apply/unsigned");
        assert!(self.sandbox.state() == before, "something was changed: {}", done.stderr);
        done.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn an_owner_changes_their_tenants_documents() {
    let signed = Signed::new();
    signed.change("acme", 7, Some("ada"));
    signed.applies();
    signed.change("globex", 7, Some("bob"));
    signed.change("acme", 14, Some("ada"));
    signed.applies();
    let signers = signed.sandbox.sql("SELECT DISTINCT last_modified_by_signer FROM key_rotation_policies");
    assert!(format!("{signers:?}").contains("ada@example.org"), "{signers:?}");
}

#[test]
fn a_change_that_nobody_signed_is_refused_with_all_its_names() {
    let signed = Signed::new();
    signed.change("acme", 7, None);
    let said = signed.refused("signature/unsigned");
    let commit = &signed.sandbox.git(&["rev-parse", "HEAD"])[..12];
    for name in [commit, "policies/acme/keys.yaml", "ada@example.org", "not signed"] {
        assert!(said.contains(name), "no {name}: {said}");
    }
}

#[test]
fn a_stranger_and_another_tenants_owner_change_nothing() {
    let signed = Signed::new();
    signed.change("acme", 7, Some("eve"));
    let said = signed.refused("signature/unknown-key");
    assert!(said.contains("SHA256:"), "{said}");
    signed.sandbox.git(&["reset", "-q", "--hard", "HEAD~1"]);
    signed.change("acme", 7, Some("bob"));
    let said = signed.refused("signature/not-an-owner");
    assert!(said.contains("bob@example.org, an owner of tenant globex, and not of tenant acme"), "{said}");
    signed.sandbox.git(&["reset", "-q", "--hard", "HEAD~1"]);
    // Not even whom keywheel.yaml belongs to.
    signed.change("acme", 7, Some("root"));
    signed.refused("signature/not-an-owner");
}

#[test]
fn what_holds_for_everybody_belongs_to_the_owners_of_the_repository() {
    let signed = Signed::new();
    signed.sandbox.write("keywheel.yaml", &signed.config("require_signed: false\n"));
    signed.commit(Some("ada"), "no signatures any more");
    signed.refused("signature/not-an-owner");
    signed.sandbox.git(&["reset", "-q", "--hard", "HEAD~1"]);
    signed.sandbox.write("policies/freezes.yaml", "apiVersion: keywheel/v1\nkind: Freeze\nname: Night\nreason: none\nfrom: \"2026-12-20T00:00:00\"\nuntil: \"2026-12-21T00:00:00\"\n");
    signed.commit(None, "a freeze");
    signed.refused("signature/unsigned");
    signed.sandbox.git(&["reset", "-q", "--soft", "HEAD~1"]);
    signed.commit(Some("root"), "a freeze");
    signed.applies();
}

#[test]
fn no_tenant_takes_the_rights_of_others_away() {
    let signed = Signed::new();
    let lost = |person: &str| {
        format!("- principal: {person}@example.org\n  signing_key: {}\n  revoked: true\n", signed.public(person))
    };
    let more = [lost("root"), lost("ada")].concat();
    signed.sandbox.write("policies/globex/tenant.yaml", &signed.tenant("globex", "bob", &more));
    signed.commit(Some("bob"), "their keys are lost, I say");
    signed.applies();
    signed.change("acme", 7, Some("ada"));
    signed.applies();
    // The owners of the repository say it for everybody.
    let config = signed.config("require_signed: true\n").replace("owners: [", "owners:\n- ").replace("}]", "}");
    signed.sandbox.write("keywheel.yaml", &format!("{config}{}", lost("ada")));
    signed.commit(Some("root"), "hers is lost");
    signed.applies();
    signed.change("acme", 14, Some("ada"));
    assert!(signed.refused("signature/owners-key").contains("is revoked"));
}

#[test]
fn a_new_tenant_is_added_by_the_owners_of_the_repository() {
    let signed = Signed::new();
    signed.sandbox.write("policies/initech/tenant.yaml", &signed.tenant("initech", "eve", ""));
    signed.commit(Some("eve"), "a tenant of my own");
    signed.refused("signature/unknown-key");
    signed.sandbox.git(&["reset", "-q", "--soft", "HEAD~1"]);
    signed.commit(Some("root"), "a tenant of hers");
    signed.applies();
    signed.change("initech", 7, Some("eve"));
    signed.applies();
}

#[test]
fn nobody_makes_themselves_an_owner() {
    let signed = Signed::new();
    // One commit appoints her, the next is hers: the owners of before judge both.
    signed.sandbox.write("policies/acme/tenant.yaml", &signed.tenant("acme", "eve", ""));
    signed.commit(Some("eve"), "I own this");
    signed.change("acme", 7, Some("eve"));
    signed.refused("signature/unknown-key");
}

#[test]
fn an_unsigned_change_is_not_laundered_by_a_signed_one() {
    let signed = Signed::new();
    signed.change("acme", 7, None);
    signed.change("acme", 14, Some("ada"));
    signed.refused("signature/unsigned");
    // The way out: back to what was applied last, by whomever; then once more, signed.
    signed.change("acme", 1, None);
    signed.applies();
    signed.change("acme", 14, Some("ada"));
    signed.applies();
}

#[test]
fn a_key_counts_between_its_days_and_not_once_it_is_revoked() {
    let signed = Signed::new();
    let dates = [
        ("  valid_before: \"2026-02-28\"\n", "whose key has expired"),
        ("  valid_after: \"2026-03-02\"\n", "whose key was not valid yet"),
        ("  revoked: true\n", "whose key is revoked"),
    ];
    for (more, why) in dates {
        signed.sandbox.write("policies/acme/tenant.yaml", &signed.tenant("acme", "ada", more));
        // That her only key is lost, somebody else says.
        signed.commit(Some(if more.contains("revoked") { "root" } else { "ada" }), "its days");
        signed.applies_whatever_was_said();
        signed.change("acme", 7, Some("ada"));
        let said = signed.refused("signature/owners-key");
        assert!(said.contains(why), "{said}");
        signed.start_again();
    }
}

#[test]
fn a_key_that_is_called_lost_counts_for_nothing_from_that_commit_on_whatever_it_signed_before() {
    let signed = Signed::new();
    // Whoever has the stolen key signs, and then its loss is found out.
    signed.change("acme", 3650, Some("ada"));
    let lost = signed.tenant("acme", "ada", "  revoked: true\n");
    signed.sandbox.write("policies/acme/tenant.yaml", &lost);
    signed.commit(Some("root"), "hers is lost");
    assert!(signed.refused("signature/owners-key").contains("whose key is revoked"));
    // Nor does it speak for itself.
    signed.start_again();
    signed.sandbox.write("policies/acme/tenant.yaml", &lost);
    signed.commit(Some("ada"), "mine is lost");
    assert!(signed.refused("signature/owners-key").contains("whose key is revoked"));
}

#[test]
fn a_tenant_whose_owners_can_sign_no_more_is_the_repositorys() {
    let signed = Signed::new();
    signed
        .sandbox
        .write("policies/acme/tenant.yaml", &signed.tenant("acme", "ada", "  valid_before: \"2026-03-01\"\n"));
    signed.commit(Some("ada"), "until today");
    signed.applies();
    signed.change("acme", 7, Some("root"));
    let today = signed.sandbox.at(NOON, APPLY).exits(3).error("apply/unsigned");
    assert!(today.stderr.contains("an owner of the repository"), "{}", today.stderr);
    signed.sandbox.at("2026-03-02 12:00:00", APPLY).exits(0);
}

impl Signed {
    /// As a machine without the guard would: the record is what it is now.
    fn applies_whatever_was_said(&self) {
        self.sandbox.at(NOON, APPLY).exits(0);
    }

    /// The same with another history and another database.
    fn start_again(&self) {
        fs::remove_dir_all(self.sandbox.path(".keywheel")).unwrap();
        self.sandbox.write("policies/acme/tenant.yaml", &self.tenant("acme", "ada", ""));
        self.sandbox.write("policies/acme/keys.yaml", NIGHTLY);
        self.commit(Some("root"), "trust begins again");
        self.sandbox.at(NOON, APPLY).exits(0);
    }
}

#[test]
fn a_date_in_the_past_makes_no_expired_key_valid() {
    let signed = Signed::new();
    signed
        .sandbox
        .write("policies/acme/tenant.yaml", &signed.tenant("acme", "ada", "  valid_before: \"2026-03-01\"\n"));
    signed.commit(Some("ada"), "until today");
    signed.applies();
    // Whoever has the key writes any date; the day of the apply is the machine's.
    signed.change("acme", 7, Some("ada"));
    let done = signed.sandbox.at("2026-03-02 12:00:00", APPLY).exits(3).error("apply/unsigned");
    assert!(done.stderr.contains("has expired"), "{}", done.stderr);
}

#[test]
fn every_kind_of_key_that_git_signs_with_counts() {
    let signed = Signed::new();
    for (days, kind) in (2..).zip(["ecdsa", "rsa"]) {
        signed.key(kind, kind);
        signed.sandbox.write("policies/acme/tenant.yaml", &signed.tenant("acme", kind, ""));
        let before = if days == 2 { "ada" } else { "ecdsa" };
        signed.commit(Some(before), "another key");
        signed.applies();
        signed.change("acme", days, Some(kind));
        signed.applies();
    }
}

#[test]
fn a_commit_that_was_altered_after_it_was_signed_is_refused() {
    let signed = Signed::new();
    signed.change("acme", 7, Some("ada"));
    let commit = signed.sandbox.git(&["cat-file", "commit", "HEAD"]);
    signed.sandbox.write("altered.json", &format!("{}\n", commit.replace("acme:", "acme, approved:")));
    let altered = signed.sandbox.git(&["hash-object", "-t", "commit", "-w", "altered.json"]);
    signed.sandbox.git(&["reset", "-q", "--hard", altered.trim()]);
    let said = signed.refused("signature/broken");
    assert!(said.contains("one of them was changed"), "{said}");
}

#[test]
fn a_signed_tag_is_no_signature_of_the_commit() {
    let signed = Signed::new();
    signed.change("acme", 7, None);
    signed.git(Some("ada"), &["tag", "-s", "-m", "looks good", "v1"]);
    signed.refused("signature/unsigned");
}

#[test]
fn a_merge_answers_for_what_it_makes_and_its_sides_for_theirs() {
    let signed = Signed::new();
    let branch = |name: &str, tenant: &str, days: u32, signer: Option<&str>| {
        signed.sandbox.git(&["checkout", "-q", "-b", name, "main"]);
        signed.change(tenant, days, signer);
        signed.sandbox.git(&["checkout", "-q", "main"]);
    };
    branch("good", "acme", 7, Some("ada"));
    signed.change("globex", 7, Some("bob"));
    // The merge itself changes nothing: nobody need sign it.
    signed.git(None, &["merge", "-q", "--no-ff", "-m", "merge", "good"]);
    signed.applies();
    branch("bad", "acme", 30, None);
    signed.git(Some("ada"), &["merge", "-q", "--no-ff", "-m", "merge", "bad"]);
    signed.refused("signature/unsigned");
    signed.sandbox.git(&["reset", "-q", "--hard", "HEAD~1"]);
    // A merge that brings in what neither side had.
    branch("harmless", "globex", 14, Some("bob"));
    signed.git(None, &["merge", "-q", "--no-ff", "--no-commit", "harmless"]);
    signed.change("acme", 60, None);
    let said = signed.refused("signature/unsigned");
    assert!(said.contains("policies/acme/keys.yaml"), "{said}");
}

#[test]
fn a_merge_that_throws_a_signed_change_away_is_the_mergers() {
    let signed = Signed::new();
    signed.sandbox.git(&["checkout", "-q", "-b", "old"]);
    signed.sandbox.git(&["commit", "-q", "--allow-empty", "-m", "nothing"]);
    signed.sandbox.git(&["checkout", "-q", "main"]);
    signed.change("acme", 7, Some("ada"));
    signed.applies();
    signed.git(None, &["merge", "-q", "-s", "ours", "--no-ff", "-m", "nothing of it", "old"]);
    signed.applies();
    // The other way round: what was signed and applied is gone, and both sides are as they were.
    signed.sandbox.git(&["checkout", "-q", "old"]);
    signed.git(None, &["merge", "-q", "-s", "ours", "--no-ff", "-m", "back", "main"]);
    signed.sandbox.git(&["checkout", "-q", "-B", "main"]);
    let said = signed.refused("signature/unsigned");
    assert!(said.contains("policies/acme/keys.yaml"), "{said}");
}

#[test]
fn a_squash_is_signed_by_whoever_squashes() {
    let signed = Signed::new();
    signed.sandbox.git(&["checkout", "-q", "-b", "work"]);
    signed.change("acme", 7, Some("ada"));
    signed.change("acme", 14, Some("ada"));
    signed.sandbox.git(&["checkout", "-q", "main"]);
    signed.sandbox.git(&["merge", "-q", "--squash", "work"]);
    signed.git(None, &["commit", "-qm", "squashed"]);
    signed.refused("signature/unsigned");
    signed.git(Some("ada"), &["commit", "-q", "--amend", "-m", "squashed"]);
    signed.applies();
}

#[test]
fn a_history_that_was_rewritten_needs_an_owner_to_stand_for_it() {
    let signed = Signed::new();
    signed.change("acme", 7, Some("ada"));
    signed.applies();
    // The branch goes back, and on elsewhere: no commit shows that the signed change is gone.
    signed.sandbox.git(&["reset", "-q", "--hard", "HEAD~1"]);
    signed.change("globex", 7, Some("bob"));
    let said = signed.refused("signature/not-an-owner");
    assert!(said.contains("the history was rewritten"), "{said}");
    signed.git(Some("ada"), &["commit", "-q", "--allow-empty", "-m", "so be it"]);
    signed.applies();
}

#[test]
fn a_history_without_the_commit_of_before_needs_an_owner_of_the_repository() {
    let signed = Signed::new();
    signed.change("acme", 7, Some("ada"));
    signed.applies();
    let files = ["keywheel.yaml", "policies", ".gitignore"];
    fs::remove_dir_all(signed.sandbox.path(".git")).unwrap();
    signed.sandbox.git(&["init", "-q"]);
    signed.sandbox.git(&[&["add"][..], &files].concat());
    signed.git(Some("ada"), &["commit", "-qm", "imported"]);
    let said = signed.refused("signature/not-an-owner");
    assert!(said.contains("is not in this repository"), "{said}");
    signed.git(Some("root"), &["commit", "-q", "--allow-empty", "-m", "so be it"]);
    signed.applies();
}

#[test]
fn the_first_commit_is_signed_by_one_of_its_own_owners() {
    let signed = Signed { sandbox: Sandbox::new(""), keys: tempfile::tempdir().unwrap() };
    signed.key("root", "ed25519");
    signed.sandbox.write("keywheel.yaml", &signed.config("require_signed: true\n"));
    signed.sandbox.write("policies/acme/keys.yaml", NIGHTLY);
    signed.commit(None, "first");
    signed.sandbox.at(NOON, APPLY).exits(3).error("apply/unsigned");
    assert!(!signed.sandbox.database().exists());
    signed.git(Some("root"), &["commit", "-q", "--amend", "-m", "first"]);
    signed.applies();
}

#[test]
fn a_document_that_moves_is_a_change_of_both_tenants() {
    let signed = Signed::new();
    signed.sandbox.git(&["mv", "policies/acme/keys.yaml", "policies/globex/more.yaml"]);
    let text = signed
        .sandbox
        .read("policies/globex/more.yaml")
        .replace("acme", "globex")
        .replace("Nightly", "Other")
        .replace("patients", "moved");
    signed.sandbox.write("policies/globex/more.yaml", &text);
    signed.commit(Some("bob"), "this is mine now");
    let said = signed.refused("signature/not-an-owner");
    assert!(said.contains("policies/acme/keys.yaml"), "{said}");
}

#[test]
fn one_key_is_one_persons() {
    let signed = Signed::new();
    let again = format!("- principal: dave@example.org\n  signing_key: {}\n", signed.public("ada"));
    signed.sandbox.write("policies/acme/tenant.yaml", &(signed.tenant("acme", "ada", "") + &again));
    let said = signed.sandbox.at(NOON, &["validate"]).exits(1);
    let said = format!("{}{}", said.stdout, said.stderr);
    assert!(said.contains("tenant/owner-key-twice") && said.contains("that of ada@example.org too"), "{said}");
}

#[test]
fn owners_that_cannot_sign_are_found_at_validation() {
    let sandbox = Sandbox::with("require_signed: true\n", NIGHTLY);
    sandbox.keywheel(&["validate"]).exits(1).says("config/no-owners");
    for (key, why) in [
        ("ssh-ed25519 AAAA", "it is no public key"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "of a kind whose signatures are not checked"),
        ("\"-----BEGIN PGP PUBLIC KEY BLOCK-----\"", "it is no OpenPGP public key"),
    ] {
        let owner = format!("owners: [{{principal: ada@example.org, signing_key: {key}}}]\n");
        sandbox.write("keywheel.yaml", &format!("apiVersion: keywheel/v1\nkind: Config\n{owner}"));
        let said = sandbox.keywheel(&["validate"]).exits(1).says("tenant/owner-key");
        assert!(said.stdout.contains(why) || said.stderr.contains(why), "{}{}", said.stdout, said.stderr);
    }
}
