//! Histories and branches.

use super::*;

#[test]
fn a_full_clone_knows_every_ancestry() {
    let fixture = Fixture::new();
    let first = fixture.id("HEAD");
    fixture.git(&["checkout", "--quiet", "-b", "side"]);
    let side = fixture.commit("side");
    fixture.git(&["checkout", "--quiet", "main"]);
    let second = fixture.commit("second");
    let repo = fixture.repo();
    let contains = |ancestor: &str, descendant: &str| repo.contains(ancestor, descendant).unwrap();
    assert!(!repo.is_shallow());
    assert_eq!(contains(&first, &second), Ancestry::Yes);
    assert_eq!(contains(&second, &second), Ancestry::Yes);
    assert_eq!(contains(&second, &first), Ancestry::No);
    assert_eq!(contains(&side, &second), Ancestry::No);
    assert_eq!(contains("0123456789abcdef0123456789abcdef01234567", &second), Ancestry::No);
}

#[test]
fn a_shallow_clone_says_what_it_cannot_know() {
    let origin = Fixture::new();
    let first = origin.id("HEAD");
    origin.commit("second");
    let clone = origin.shallow_clone();
    let cloned = clone.id("HEAD");
    let newest = clone.commit("third");
    let repo = clone.repo();
    assert!(repo.is_shallow());
    assert_eq!(repo.contains(&cloned, &newest).unwrap(), Ancestry::Yes);
    assert_eq!(repo.contains(&newest, &cloned).unwrap(), Ancestry::No);
    assert_eq!(repo.contains(&first, &newest).unwrap(), Ancestry::Unknown);
    assert_eq!(repo.read_ref("HEAD").unwrap().files.len(), 3);
    let error = repo.read_ref("HEAD~2").unwrap_err();
    assert!(error.help().contains("fetch-depth: 0"), "{}", error.help());
}

#[test]
fn an_unrelated_history_in_a_shallow_clone_is_known_to_its_root() {
    let origin = Fixture::new();
    origin.commit("second");
    let clone = origin.shallow_clone();
    let cloned = clone.id("HEAD");
    clone.git(&["checkout", "--quiet", "--orphan", "island"]);
    let island = clone.commit("island");
    assert_eq!(clone.repo().contains(&cloned, &island).unwrap(), Ancestry::No);
}

#[test]
fn a_commit_is_on_a_branch_or_it_is_not() {
    let fixture = Fixture::new();
    let first = fixture.id("HEAD");
    fixture.commit("second");
    fixture.git(&["checkout", "--quiet", "-b", "side", &first]);
    let side = fixture.commit("side");
    let repo = fixture.repo();
    let yes = OnBranch::Yes { via: "refs/heads/main".into() };
    assert_eq!(repo.on_branch(&first, "refs/heads/main").unwrap(), yes);
    assert_eq!(repo.on_branch(&first, "main").unwrap(), yes);
    let no = OnBranch::No { looked_at: vec!["refs/heads/main".into()] };
    assert_eq!(repo.on_branch(&side, "refs/heads/main").unwrap(), no);
    let error = repo.on_branch(&side, "refs/heads/trunk").unwrap_err();
    assert!(error.help().contains("origin/trunk"), "{}", error.help());
}

#[test]
fn a_detached_checkout_is_on_the_branch_of_its_remote() {
    let origin = Fixture::new();
    let first = origin.id("HEAD");
    origin.commit("second");
    let clone = origin.temp.path().join("ci");
    origin.git(&["clone", "--quiet", ".", clone.to_str().unwrap()]);
    run(&clone, &["checkout", "--quiet", "--detach", &first]);
    run(&clone, &["branch", "--quiet", "--delete", "--force", "main"]);
    let repo = Repo::discover(&clone).unwrap();
    let on_branch = repo.on_branch(&first, "refs/heads/main").unwrap();
    assert_eq!(on_branch, OnBranch::Yes { via: "refs/remotes/origin/main".into() });
}

#[test]
fn a_shallow_checkout_is_on_the_branch_whose_tip_it_is_and_otherwise_refused() {
    let origin = Fixture::new();
    origin.git(&["checkout", "--quiet", "-b", "release"]);
    let released = origin.commit("released");
    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["merge", "--quiet", "--no-ff", "release", "--message", "merged"]);
    let clone = origin.shallow_clone();
    clone.git(&["checkout", "--quiet", "--detach"]);
    let repo = clone.repo();
    let tip = clone.id("HEAD");
    assert!(matches!(repo.on_branch(&tip, "refs/heads/main").unwrap(), OnBranch::Yes { .. }));
    let error = repo.on_branch(&released, "refs/heads/main").unwrap_err();
    assert!(matches!(error, SourceError::Shallow { .. }), "{error}");
    assert!(error.help().contains("GIT_DEPTH: 0"), "{}", error.help());
}

#[test]
fn an_error_becomes_a_finding_with_its_reason() {
    let reason = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "permission denied");
    let finding = error::io(Path::new("policies/a.yaml"), reason).finding();
    assert_eq!(finding.code, "source/io");
    assert_eq!(finding.message, "cannot read policies/a.yaml: permission denied");
    assert!(finding.help.is_some());
}
