//! Commits: what is read, what is missing, what is refused.

use super::*;

#[test]
fn a_commit_gives_its_files_ids_and_people() {
    let fixture = Fixture::new();
    let snapshot = fixture.repo().read_ref("HEAD").unwrap();
    assert_eq!(paths(&snapshot), ["policies/acme/keys.yaml", "policies/acme/tenant.yaml", "policies/zeta/tenant.yaml"]);
    assert_eq!(text(&snapshot, "policies/acme/keys.yaml"), "kind: EncryptionKey\n");
    assert_eq!(&*snapshot.config.unwrap().content, b"apiVersion: keywheel/v1\nkind: Config\n");
    assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
    assert_eq!(snapshot.config_blob, Some(fixture.id("HEAD:keywheel.yaml")));
    let origin = snapshot.origin.unwrap();
    assert_eq!(origin.commit, fixture.id("HEAD"));
    assert_eq!(origin.author, "Ada Author <ada@example.org>");
    assert_eq!(origin.committer, "Carl Committer <carl@example.org>");
    assert_eq!(snapshot.commit_time.unwrap().to_rfc3339(), "2026-01-02T10:00:00+00:00");
    assert_eq!(snapshot.dirty, Vec::<String>::new());
}

#[test]
fn a_commit_is_read_without_a_look_at_the_work_tree() {
    let fixture = Fixture::new();
    fixture.write("policies/acme/keys.yaml", "edited\n");
    fixture.write("policies/acme/new.yaml", "new\n");
    fs::remove_dir_all(fixture.top.join("policies/zeta")).unwrap();
    fixture.git(&["add", "--all"]);
    let snapshot = fixture.repo().read_ref("main").unwrap();
    assert_eq!(text(&snapshot, "policies/acme/keys.yaml"), "kind: EncryptionKey\n");
    assert_eq!(snapshot.files.len(), 3);
    assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
}

#[test]
fn a_commit_is_found_by_branch_tag_id_and_ancestry() {
    let fixture = Fixture::new();
    let first = fixture.id("HEAD");
    fixture.git(&["tag", "--annotate", "v1", "--message", "one"]);
    fixture.git(&["branch", "old"]);
    fixture.write("policies/acme/keys.yaml", "second\n");
    fixture.commit("second");
    let repo = fixture.repo();
    for name in ["old", "refs/heads/old", "v1", &first, &first[..10], "HEAD~1", "main^"] {
        assert_eq!(repo.read_ref(name).unwrap().origin.unwrap().commit, first, "{name}");
    }
}

#[test]
fn a_detached_head_is_read_as_any_other() {
    let fixture = Fixture::new();
    let first = fixture.id("HEAD");
    fixture.commit("second");
    fixture.git(&["checkout", "--quiet", "--detach", &first]);
    assert_eq!(fixture.repo().read_ref("HEAD").unwrap().origin.unwrap().commit, first);
    assert_eq!(fixture.worktree().origin.unwrap().commit, first);
}

#[test]
fn names_with_any_characters_and_any_depth_are_read() {
    let fixture = Fixture::new();
    let deep = format!("policies/{}deep.yaml", "d/".repeat(300));
    fixture.write(&deep, "deep\n");
    fixture.write("policies/acme/größe ö.yaml", "wide\n");
    fixture.commit("more");
    let snapshot = fixture.repo().read_ref("HEAD").unwrap();
    assert_eq!(text(&snapshot, &deep), "deep\n");
    assert_eq!(text(&snapshot, "policies/acme/größe ö.yaml"), "wide\n");
    assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
}

#[test]
fn a_branch_without_a_commit_is_said_to_be_that() {
    let fixture = Fixture::empty();
    for name in ["HEAD", "main"] {
        let error = fixture.repo().read_ref(name).unwrap_err();
        assert_eq!(error.to_string(), "the branch main has no commit yet", "{name}");
    }
}

#[test]
fn before_the_first_commit_the_work_tree_is_all_changes() {
    let fixture = Fixture::empty();
    fixture.write("keywheel.yaml", "kind: Config\n");
    fixture.write("policies/acme/tenant.yaml", "kind: Tenant\n");
    fixture.git(&["add", "keywheel.yaml"]);
    let snapshot = fixture.worktree();
    assert_eq!(snapshot.origin, None);
    assert_eq!(snapshot.dirty, ["keywheel.yaml", "policies/acme/tenant.yaml"]);
    assert_eq!(paths(&snapshot), ["policies/acme/tenant.yaml"]);
    fixture.commit("first");
    assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
    assert_eq!(snapshot.config_blob, Some(fixture.id("HEAD:keywheel.yaml")));
}

#[test]
fn an_unknown_reference_is_answered_with_the_nearest_one() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "feature/rotate-daily"]);
    let error = fixture.repo().read_ref("feature/rotate-dayly").unwrap_err();
    assert_eq!(error.help(), "did you mean \"feature/rotate-daily\"?");
    let error = fixture.repo().read_ref("0123456789abcdef0123456789abcdef01234567").unwrap_err();
    assert!(error.help().contains("git fetch"), "{}", error.help());
    for nonsense in ["", "a b", "..", "HEAD~99", "@{-9}", "main..HEAD"] {
        let error = fixture.repo().read_ref(nonsense).unwrap_err();
        assert_eq!(error.code(), "source/revision", "{nonsense:?}: {error}");
    }
}

#[test]
fn a_branch_that_only_the_remote_has_is_suggested() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "release"]);
    let error = fixture.shallow_clone().repo().read_ref("release").unwrap_err();
    assert_eq!(error.help(), "did you mean \"origin/release\"?");
    // One that was never fetched is not another one.
    let error = fixture.shallow_clone().repo().read_ref("origin/trunk").unwrap_err();
    assert!(error.help().contains("fetch-depth: 0"), "{}", error.help());
}

#[test]
fn a_reference_to_something_else_than_a_commit_is_refused() {
    let fixture = Fixture::new();
    let error = fixture.repo().read_ref("HEAD:policies").unwrap_err();
    assert_eq!(error.to_string(), "\"HEAD:policies\" is a tree, not a commit");
}

#[test]
fn a_repository_without_policies_is_said_to_be_that() {
    let fixture = Fixture::empty();
    fixture.write("README.md", "nothing else\n");
    fixture.commit("first");
    for error in [fixture.repo().read_ref("HEAD").unwrap_err(), fixture.repo().read_worktree().unwrap_err()] {
        assert!(matches!(error, SourceError::NoPolicies { .. }), "{error}");
        assert!(error.help().contains("--dir"), "{}", error.help());
    }
}

#[test]
fn settings_without_policies_are_an_empty_set() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.top.join("policies")).unwrap();
    let removed = fixture.worktree();
    assert_eq!((removed.files.len(), removed.policies_tree, removed.dirty.len()), (0, None, 3));
    fixture.commit("removed");
    let snapshot = fixture.repo().read_ref("HEAD").unwrap();
    assert_eq!((snapshot.files.len(), snapshot.policies_tree), (0, None));
}

#[test]
fn the_policy_root_can_be_a_folder_of_the_repository() {
    let fixture = Fixture::new();
    fixture.write("infra/keys/keywheel.yaml", "kind: Config\n");
    fixture.write("infra/keys/policies/inner/tenant.yaml", "kind: Tenant\n");
    fixture.commit("inner");
    fixture.write("infra/keys/policies/inner/new.yaml", "new\n");
    fixture.write("policies/acme/keys.yaml", "dirty, and none of ours\n");
    let repo = fixture.repo().rooted_at(&fixture.top.join("infra/keys")).unwrap();
    assert_eq!(repo.prefix(), "infra/keys");
    let snapshot = repo.read_ref("HEAD").unwrap();
    assert_eq!(paths(&snapshot), ["policies/inner/tenant.yaml"]);
    assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:infra/keys/policies")));
    let snapshot = repo.read_worktree().unwrap();
    assert_eq!(paths(&snapshot), ["policies/inner/new.yaml", "policies/inner/tenant.yaml"]);
    assert_eq!(snapshot.dirty, ["policies/inner/new.yaml"]);
    assert!(matches!(repo.read_ref("HEAD~1"), Err(SourceError::NoPolicies { .. })));

    let bare = fixture.temp.path().join("bare.git");
    fixture.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    let repo = Repo::discover(&bare).unwrap().rooted_at(Path::new("./infra/keys/")).unwrap();
    assert_eq!(paths(&repo.read_ref("HEAD").unwrap()), ["policies/inner/tenant.yaml"]);
}

#[test]
fn a_policy_root_outside_the_repository_is_refused() {
    let fixture = Fixture::new();
    let error = fixture.repo().rooted_at(fixture.temp.path()).err().unwrap();
    assert!(matches!(error, SourceError::OutsideRepository { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_given_as_one_and_not_followed() {
    let fixture = Fixture::new();
    std::os::unix::fs::symlink("/etc/passwd", fixture.top.join("policies/acme/link.yaml")).unwrap();
    let dirty = fixture.worktree();
    fixture.commit("link");
    for snapshot in [dirty, fixture.worktree(), read_directory(&fixture.top).unwrap()] {
        let link = snapshot.files.iter().find(|file| &*file.path == "policies/acme/link.yaml").unwrap();
        assert!(link.symlink);
        assert_eq!(&*link.content, b"/etc/passwd");
        assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
    }
}

#[cfg(unix)]
#[test]
fn a_policies_folder_that_is_a_symbolic_link_is_refused() {
    let fixture = Fixture::new();
    fs::rename(fixture.top.join("policies"), fixture.top.join("real")).unwrap();
    std::os::unix::fs::symlink("real", fixture.top.join("policies")).unwrap();
    let dirty = fixture.repo().read_worktree().unwrap_err();
    fixture.commit("link");
    for error in [dirty, fixture.repo().read_ref("HEAD").unwrap_err(), read_directory(&fixture.top).unwrap_err()] {
        assert_eq!(error.to_string(), "policies is a symbolic link, not a folder");
    }
}

#[test]
fn a_submodule_under_policies_is_refused_staged_committed_or_just_cloned_there() {
    let inner = Fixture::new();
    let fixture = Fixture::new();
    let url = format!("file://{}", inner.top.display());
    let refused = |result: Result<Snapshot, SourceError>| {
        let error = result.unwrap_err();
        assert!(matches!(&error, SourceError::Submodule { path } if path == "policies/inner"), "{error}");
    };
    fixture.git(&["clone", "--quiet", &url, "policies/inner"]);
    refused(fixture.repo().read_worktree());
    fixture.git(&["submodule", "--quiet", "add", &url, "policies/inner"]);
    refused(fixture.repo().read_worktree());
    fixture.commit("submodule");
    refused(fixture.repo().read_worktree());
    refused(fixture.repo().read_ref("HEAD"));
}

#[test]
fn a_pointer_of_git_lfs_is_refused_with_the_way_out() {
    let fixture = Fixture::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n";
    fixture.write("policies/acme/keys.yaml", pointer);
    fixture.commit("lfs");
    let error = fixture.repo().read_ref("HEAD").unwrap_err();
    assert!(matches!(&error, SourceError::Lfs { path } if path == "policies/acme/keys.yaml"), "{error}");
    assert!(error.help().contains(".gitattributes"), "{}", error.help());
}

#[test]
fn a_huge_file_is_refused_by_its_size_alone() {
    let fixture = Fixture::new();
    let file = fs::File::create(fixture.top.join("policies/acme/huge.yaml")).unwrap();
    file.set_len(MAX_FILE_SIZE + 1).unwrap();
    let refused = |result: Result<Snapshot, SourceError>| {
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "policies/acme/huge.yaml has 64 MiB, and a file of more than 64 MiB is not read");
    };
    refused(fixture.repo().read_worktree());
    refused(read_directory(&fixture.top));
    fixture.commit("huge");
    refused(fixture.repo().read_ref("HEAD"));
}

#[test]
fn a_tree_that_repeats_itself_without_end_is_refused() {
    let fixture = Fixture::new();
    let mut tree = fixture.id("HEAD:policies/acme");
    for _ in 0..8 {
        tree = fixture.tree_of_copies(&tree, &["a", "b", "c", "d", "e", "f", "g", "h"]);
    }
    tree = fixture.tree_of_copies(&tree, &["policies"]);
    let commit = fixture.git(&["commit-tree", &tree, "-m", "bomb"]);
    let error = fixture.repo().read_ref(&commit).unwrap_err();
    assert!(error.to_string().contains("500,000"), "{error}");
}

#[test]
fn an_endlessly_deep_tree_is_refused() {
    let fixture = Fixture::new();
    fixture.write(&format!("policies/{}deep.yaml", "d/".repeat(600)), "deep\n");
    fixture.commit("deep");
    for error in [fixture.repo().read_ref("HEAD").unwrap_err(), read_directory(&fixture.top).unwrap_err()] {
        assert!(error.to_string().contains("1,024 bytes"), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_name_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let fixture = Fixture::new();
    fs::write(fixture.top.join("policies").join(std::ffi::OsStr::from_bytes(b"a\xff.yaml")), "x").unwrap();
    let dirty = fixture.repo().read_worktree().unwrap_err();
    fixture.commit("bytes");
    for error in [dirty, fixture.repo().read_ref("HEAD").unwrap_err(), read_directory(&fixture.top).unwrap_err()] {
        assert_eq!(error.code(), "source/file-name", "{error}");
    }
}
