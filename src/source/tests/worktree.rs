//! The work tree and plain folders.

use super::*;

#[test]
fn a_clean_work_tree_is_its_commit() {
    let fixture = Fixture::new();
    let (clean, commit) = (fixture.worktree(), fixture.repo().read_ref("HEAD").unwrap());
    assert_eq!(clean.policies_tree, commit.policies_tree);
    assert_eq!(clean.config_blob, commit.config_blob);
    assert_eq!(clean.origin, commit.origin);
    assert_eq!(clean.dirty, Vec::<String>::new());
}

#[test]
fn each_kind_of_change_is_dirty_and_read_from_disk() {
    let fixture = Fixture::new();
    fixture.write("policies/acme/keys.yaml", "unstaged\n");
    fixture.write("policies/acme/tenant.yaml", "staged\n");
    fixture.write("policies/acme/added.yaml", "added\n");
    fixture.git(&["add", "policies/acme/tenant.yaml", "policies/acme/added.yaml"]);
    fixture.write("policies/acme/added.yaml", "added, then edited\n");
    fixture.write("policies/new/deep/untracked.yaml", "untracked\n");
    fixture.write("keywheel.yaml", "kind: Config\n");
    fs::remove_file(fixture.top.join("policies/zeta/tenant.yaml")).unwrap();
    fixture.write("README.md", "does not count\n");
    let snapshot = fixture.worktree();
    assert_eq!(
        snapshot.dirty,
        [
            "keywheel.yaml",
            "policies/acme/added.yaml",
            "policies/acme/keys.yaml",
            "policies/acme/tenant.yaml",
            "policies/new/deep/untracked.yaml",
            "policies/zeta/tenant.yaml",
        ]
    );
    assert_eq!(text(&snapshot, "policies/acme/keys.yaml"), "unstaged\n");
    assert_eq!(text(&snapshot, "policies/acme/tenant.yaml"), "staged\n");
    assert_eq!(text(&snapshot, "policies/acme/added.yaml"), "added, then edited\n");
    assert_eq!(text(&snapshot, "policies/new/deep/untracked.yaml"), "untracked\n");
    assert_eq!(snapshot.files.len(), 4);
    assert_eq!(&*snapshot.config.unwrap().content, b"kind: Config\n");
    assert_eq!(snapshot.policies_tree, fixture.would_be_tree());
    assert_eq!(snapshot.origin.unwrap().commit, fixture.id("HEAD"));
}

#[test]
fn what_is_staged_and_taken_back_on_disk_is_dirty_with_the_ids_of_the_disk() {
    let fixture = Fixture::new();
    fixture.write("policies/acme/keys.yaml", "staged\n");
    fixture.git(&["add", "policies"]);
    fixture.write("policies/acme/keys.yaml", "kind: EncryptionKey\n");
    fixture.git(&["rm", "--quiet", "--cached", "policies/zeta/tenant.yaml"]);
    let snapshot = fixture.worktree();
    assert_eq!(snapshot.dirty, ["policies/acme/keys.yaml", "policies/zeta/tenant.yaml"]);
    assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
    assert_eq!(snapshot.files.len(), 3);
}

#[test]
fn a_conflict_is_dirty_and_read_as_it_stands() {
    let fixture = Fixture::new();
    fixture.git(&["checkout", "--quiet", "-b", "side"]);
    fixture.write("policies/acme/keys.yaml", "side\n");
    fs::remove_file(fixture.top.join("policies/zeta/tenant.yaml")).unwrap();
    fixture.commit("side");
    fixture.git(&["checkout", "--quiet", "main"]);
    fixture.write("policies/acme/keys.yaml", "main\n");
    fixture.write("policies/zeta/tenant.yaml", "main\n");
    fixture.commit("main");
    assert!(!command(&fixture.top, &["merge", "--quiet", "side"]).output().unwrap().status.success());
    fs::remove_file(fixture.top.join("policies/zeta/tenant.yaml")).unwrap();
    let snapshot = fixture.worktree();
    assert_eq!(snapshot.dirty, ["policies/acme/keys.yaml", "policies/zeta/tenant.yaml"]);
    assert!(text(&snapshot, "policies/acme/keys.yaml").contains("<<<<<<<"));
    assert_eq!(paths(&snapshot), ["policies/acme/keys.yaml", "policies/acme/tenant.yaml"]);
}

#[test]
fn files_that_cannot_hold_documents_count_for_the_tree_alone() {
    let fixture = Fixture::new();
    fixture.write("policies/acme/README.md", "words\n");
    fixture.write("policies/acme/picture.png", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
    let dirty = fixture.worktree();
    fixture.commit("more");
    for snapshot in [dirty, fixture.worktree(), read_directory(&fixture.top).unwrap()] {
        assert_eq!(snapshot.files.len(), 3);
        assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
    }
}

#[cfg(unix)]
#[test]
fn an_executable_bit_is_a_change() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let path = fixture.top.join("policies/acme/keys.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let snapshot = fixture.worktree();
    assert_eq!(snapshot.dirty, ["policies/acme/keys.yaml"]);
    assert_eq!(snapshot.policies_tree, fixture.would_be_tree());
    fixture.git(&["config", "core.filemode", "false"]);
    assert_eq!(fixture.worktree().dirty, Vec::<String>::new());
}

#[test]
fn what_is_staged_outside_a_sparse_checkout_counts() {
    let fixture = Fixture::new();
    fixture.write("policies/zeta/tenant.yaml", "staged\n");
    fixture.git(&["add", "--all"]);
    fixture.git(&["update-index", "--skip-worktree", "policies/zeta/tenant.yaml"]);
    fs::remove_file(fixture.top.join("policies/zeta/tenant.yaml")).unwrap();
    let snapshot = fixture.worktree();
    assert_eq!(snapshot.dirty, ["policies/zeta/tenant.yaml"]);
    assert_eq!(text(&snapshot, "policies/zeta/tenant.yaml"), "staged\n");
}

#[test]
fn settings_that_are_a_folder_are_refused() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.top.join("keywheel.yaml")).unwrap();
    fixture.write("keywheel.yaml/nested.yaml", "x\n");
    let dirty = fixture.repo().read_worktree().unwrap_err();
    fixture.commit("folder");
    for error in [dirty, fixture.repo().read_ref("HEAD").unwrap_err(), read_directory(&fixture.top).unwrap_err()] {
        assert_eq!(error.to_string(), "keywheel.yaml is a folder, not a file");
    }
}

#[test]
fn ignored_files_are_neither_read_nor_dirty() {
    let fixture = Fixture::new();
    fixture.write(".gitignore", "*.bak\n/policies/scratch/\n");
    fixture.commit("ignore");
    fixture.write("policies/acme/keys.yaml.bak", "old\n");
    fixture.write("policies/scratch/draft.yaml", "draft\n");
    let snapshot = fixture.worktree();
    assert_eq!(snapshot.files.len(), 3);
    assert_eq!(snapshot.dirty, Vec::<String>::new());
}

#[test]
fn line_ends_are_those_that_would_be_committed() {
    let fixture = Fixture::new();
    fixture.write("policies/acme/kept.yaml", "carriage\r\nreturns\r\n");
    fixture.commit("with carriage returns");
    fixture.git(&["config", "core.autocrlf", "true"]);
    fixture.write("policies/acme/keys.yaml", "one\r\ntwo\r\n");
    fixture.write("policies/acme/kept.yaml", "carriage\r\nreturns\r\nmore\r\n");
    fixture.write("policies/acme/new.yaml", "new\r\n");
    let snapshot = fixture.worktree();
    assert_eq!(text(&snapshot, "policies/acme/keys.yaml"), "one\ntwo\n");
    assert_eq!(text(&snapshot, "policies/acme/new.yaml"), "new\n");
    assert_eq!(text(&snapshot, "policies/acme/kept.yaml"), "carriage\r\nreturns\r\nmore\r\n");
    assert_eq!(snapshot.policies_tree, fixture.would_be_tree());

    fixture.commit("converted");
    fs::remove_dir_all(fixture.top.join("policies")).unwrap();
    fixture.git(&["checkout", "--quiet", "."]);
    let on_disk = fs::read_to_string(fixture.top.join("policies/acme/keys.yaml")).unwrap();
    assert_eq!(on_disk, "one\r\ntwo\r\n");
    let clean = fixture.worktree();
    assert_eq!(clean.dirty, Vec::<String>::new());
    assert_eq!(text(&clean, "policies/acme/keys.yaml"), "one\ntwo\n");
}

#[test]
fn gitattributes_count_as_they_do_for_git_add() {
    let fixture = Fixture::new();
    fixture.write(".gitattributes", "*.yaml text\nraw.yaml -text\n");
    fixture.write("policies/acme/keys.yaml", "a\r\n");
    fixture.write("policies/acme/raw.yaml", "a\r\n");
    let snapshot = fixture.worktree();
    assert_eq!(text(&snapshot, "policies/acme/keys.yaml"), "a\n");
    assert_eq!(text(&snapshot, "policies/acme/raw.yaml"), "a\r\n");
    assert_eq!(snapshot.policies_tree, fixture.would_be_tree());
}

#[cfg(unix)]
#[test]
fn reading_writes_nothing_into_the_repository() {
    use std::os::unix::fs::MetadataExt;
    fn everything(folder: &Path, found: &mut Vec<(PathBuf, u64, i64, i64)>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            found.push((entry.path(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
            if metadata.is_dir() {
                everything(&entry.path(), found);
            }
        }
        found.sort();
    }
    let fixture = Fixture::new();
    let content = fs::read(fixture.top.join("policies/acme/tenant.yaml")).unwrap();
    fixture.write("policies/acme/keys.yaml", "edited\n");
    fixture.write("policies/acme/copy.yaml", content);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    everything(&fixture.top, &mut before);
    fixture.worktree();
    fixture.repo().read_ref("HEAD").unwrap();
    everything(&fixture.top, &mut after);
    assert_eq!(before, after);
}

#[test]
fn a_plain_folder_is_read_with_the_ids_that_git_would_give() {
    let fixture = Fixture::new();
    let plain = fixture.temp.path().join("plain");
    fs::create_dir(&plain).unwrap();
    fixture.git(&["--work-tree", plain.to_str().unwrap(), "checkout", "--force", "HEAD", "--", "."]);
    let snapshot = read_directory(&plain).unwrap();
    assert_eq!(snapshot.origin, None);
    assert_eq!(paths(&snapshot), paths(&fixture.repo().read_ref("HEAD").unwrap()));
    assert_eq!(snapshot.policies_tree, Some(fixture.id("HEAD:policies")));
    assert_eq!(snapshot.config_blob, Some(fixture.id("HEAD:keywheel.yaml")));
    let nothing = read_directory(&plain.join("policies")).unwrap_err();
    assert!(matches!(nothing, SourceError::NoPolicies { .. }), "{nothing}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_passed_over() {
    let fixture = Fixture::new();
    let pipe = |path: &str| assert!(Command::new("mkfifo").arg(fixture.top.join(path)).status().unwrap().success());
    pipe("policies/acme/pipe.yaml");
    assert_eq!(fixture.worktree().files.len(), 3);
    fs::remove_file(fixture.top.join("policies/zeta/tenant.yaml")).unwrap();
    pipe("policies/zeta/tenant.yaml");
    assert_eq!(fixture.worktree().files.len(), 2);
    assert_eq!(read_directory(&fixture.top).unwrap().files.len(), 2);
}
