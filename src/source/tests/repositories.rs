//! The kinds of repository.

use super::*;

#[test]
fn a_repository_is_found_from_a_folder_inside_it() {
    let fixture = Fixture::new();
    let repo = Repo::discover(&fixture.top.join("policies/acme")).unwrap();
    assert_eq!(repo.root().unwrap().canonicalize().unwrap(), fixture.top);
    assert_eq!(repo.read_worktree().unwrap().files.len(), 3);
}

#[test]
fn a_bare_repository_has_commits_and_no_work_tree() {
    let fixture = Fixture::new();
    let bare = fixture.temp.path().join("bare.git");
    fixture.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    let repo = Repo::discover(&bare).unwrap();
    assert_eq!(repo.read_ref("HEAD").unwrap().files.len(), 3);
    assert_eq!(repo.root(), None);
    let error = repo.read_worktree().unwrap_err();
    assert!(matches!(error, SourceError::Bare { .. }), "{error}");
    assert!(error.help().contains("--ref"), "{}", error.help());
}

#[test]
fn a_linked_work_tree_has_a_head_and_changes_of_its_own() {
    let fixture = Fixture::new();
    let linked = fixture.temp.path().join("linked");
    fixture.git(&["worktree", "add", "--quiet", "-b", "side", linked.to_str().unwrap()]);
    fs::write(linked.join("policies/acme/keys.yaml"), "side\n").unwrap();
    run(&linked, &["commit", "--quiet", "--all", "--message", "side"]);
    fs::write(linked.join("policies/acme/more.yaml"), "untracked\n").unwrap();
    let snapshot = Repo::discover(&linked).unwrap().read_worktree().unwrap();
    assert_eq!(snapshot.origin.unwrap().commit, fixture.id("side"));
    assert_eq!(snapshot.dirty, ["policies/acme/more.yaml"]);
    assert_eq!(fixture.worktree().dirty, Vec::<String>::new());
}

#[test]
fn git_dir_and_git_work_tree_are_respected() {
    const CHILD: &str = "KEYWHEEL_TEST_START";
    if let Some(start) = std::env::var_os(CHILD) {
        let snapshot = Repo::discover(Path::new(&start)).unwrap().read_worktree().unwrap();
        assert_eq!(snapshot.dirty, ["policies/acme/keys.yaml"]);
        assert_eq!(text(&snapshot, "policies/acme/keys.yaml"), "elsewhere\n");
        return;
    }
    // The environment belongs to the whole process: the same test, in a process of its own.
    let fixture = Fixture::new();
    let elsewhere = fixture.temp.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fixture.git(&["--work-tree", elsewhere.to_str().unwrap(), "checkout", "--force", "HEAD", "--", "."]);
    fs::write(elsewhere.join("policies/acme/keys.yaml"), "elsewhere\n").unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "source::tests::repositories::git_dir_and_git_work_tree_are_respected"])
        .env(CHILD, fixture.temp.path())
        .env("GIT_DIR", fixture.top.join(".git"))
        .env("GIT_WORK_TREE", &elsewhere)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_folder_outside_any_repository_is_said_to_be_that() {
    let temp = TempDir::new().unwrap();
    let error = Repo::discover(temp.path()).err().unwrap();
    assert!(matches!(error, SourceError::NotARepository { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_repository_of_another_user_is_refused_with_the_way_out() {
    let message = "repository path '/srv/policies/' is not owned by current user";
    let raw = git2::Error::new(git2::ErrorCode::Owner, git2::ErrorClass::Config, message);
    let error = error::opening(Path::new("."), raw);
    assert!(error.help().contains("safe.directory /srv/policies`"), "{}", error.help());

    // Only root can make the real thing.
    let fixture = Fixture::new();
    let given_away = [".git", "."]
        .iter()
        .all(|path| std::os::unix::fs::chown(fixture.top.join(path), Some(65_534), Some(65_534)).is_ok());
    if given_away {
        let error = Repo::discover(&fixture.top).err().unwrap();
        assert!(matches!(error, SourceError::Owner { .. }), "{error}");
        assert!(error.help().contains(fixture.top.to_str().unwrap()), "{}", error.help());
    }
}

#[test]
fn a_partial_clone_without_its_blobs_is_refused_with_the_setting() {
    let fixture = Fixture::new();
    fixture.git(&["config", "uploadpack.allowFilter", "true"]);
    let partial = fixture.temp.path().join("partial");
    let url = format!("file://{}", fixture.top.display());
    let args = ["clone", "--quiet", "--no-checkout", "--filter=blob:none", &url, partial.to_str().unwrap()];
    run(fixture.temp.path(), &args);
    let missing = Repo::discover(&partial).unwrap().read_ref("HEAD").unwrap_err();
    assert!(matches!(missing, SourceError::MissingObject { .. }), "{missing}");
    // Older versions of git also set an extension, which libgit2 does not open.
    run(&partial, &["config", "extensions.partialClone", "origin"]);
    let unsupported = Repo::discover(&partial).err().unwrap();
    assert!(unsupported.to_string().contains("partial clone"), "{unsupported}");
    for error in [missing, unsupported] {
        assert!(error.help().contains("`--filter`"), "{}", error.help());
    }
}

#[test]
fn repositories_that_libgit2_cannot_read_are_named() {
    let refused = |args: &[&str]| {
        let temp = TempDir::new().unwrap();
        run(temp.path(), args);
        Repo::discover(temp.path()).err().unwrap().to_string()
    };
    assert!(refused(&["init", "--quiet", "--object-format=sha256"]).contains("other than SHA-1"));
    assert!(refused(&["init", "--quiet", "--ref-format=reftable"]).contains("reftable"));
}

#[test]
fn a_sparse_checkout_still_has_every_document() {
    let fixture = Fixture::new();
    fixture.git(&["sparse-checkout", "set", "--cone", "policies/acme"]);
    assert!(!fixture.top.join("policies/zeta").exists());
    let snapshot = fixture.worktree();
    assert_eq!(snapshot.files.len(), 3);
    assert_eq!(snapshot.dirty, Vec::<String>::new());
    assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
}

#[test]
fn a_sparse_index_is_refused_with_the_setting() {
    let fixture = Fixture::new();
    fixture.write("other/a/file", "x");
    fixture.commit("more");
    fixture.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "policies/acme"]);
    let error = fixture.repo().read_worktree().unwrap_err();
    assert!(error.help().contains("--no-sparse-index"), "{error}: {}", error.help());
    assert_eq!(fixture.repo().read_ref("HEAD").unwrap().files.len(), 3);
}

#[test]
fn a_missing_blob_is_named_with_its_file() {
    let fixture = Fixture::new();
    let id = fixture.id("HEAD:policies/acme/keys.yaml");
    fs::remove_file(fixture.top.join(".git/objects").join(&id[..2]).join(&id[2..])).unwrap();
    let error = fixture.repo().read_ref("HEAD").unwrap_err();
    assert_eq!(error.to_string(), format!("the object {id} of policies/acme/keys.yaml is missing from this clone"));
}
