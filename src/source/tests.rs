//! Real repositories, made by the real `git`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A folder with a git repository in it.
struct Fixture {
    temp: TempDir,
    top: PathBuf,
}

impl Fixture {
    /// A repository on `main` without a commit.
    fn empty() -> Self {
        let temp = TempDir::new().unwrap();
        let top = temp.path().canonicalize().unwrap().join("work");
        fs::create_dir(&top).unwrap();
        run(&top, &["init", "--quiet", "--initial-branch=main"]);
        Self { temp, top }
    }

    /// A repository with settings, two tenants and one commit.
    fn new() -> Self {
        let fixture = Self::empty();
        fixture.write("keywheel.yaml", "apiVersion: keywheel/v1\nkind: Config\n");
        fixture.write("policies/acme/keys.yaml", "kind: EncryptionKey\n");
        fixture.write("policies/acme/tenant.yaml", "kind: Tenant\n");
        fixture.write("policies/zeta/tenant.yaml", "kind: Tenant\n");
        fixture.write("README.md", "not a policy\n");
        fixture.commit("first");
        fixture
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.top.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn git(&self, args: &[&str]) -> String {
        run(&self.top, args)
    }

    /// Commits everything, and gives the commit's id.
    fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.id("HEAD")
    }

    fn id(&self, revision: &str) -> String {
        self.git(&["rev-parse", revision])
    }

    fn repo(&self) -> Repo {
        Repo::discover(&self.top).unwrap()
    }

    fn worktree(&self) -> Snapshot {
        self.repo().read_worktree().unwrap()
    }

    /// The tree of `policies/` that `git add` of everything would make; the index stays as it was.
    fn would_be_tree(&self) -> Option<String> {
        let index = self.temp.path().join("scratch-index");
        fs::copy(self.top.join(".git/index"), &index).ok();
        let git = |args: &[&str]| {
            let mut command = command(&self.top, args);
            output(command.env("GIT_INDEX_FILE", &index), args)
        };
        git(&["add", "--all"]);
        let tree = git(&["write-tree"]);
        fs::remove_file(&index).unwrap();
        let listed = self.git(&["ls-tree", &tree, "policies"]);
        listed.split_whitespace().nth(2).map(str::to_owned)
    }

    /// A shallow clone of one commit, as CI systems make it.
    fn shallow_clone(&self) -> Fixture {
        let temp = TempDir::new().unwrap();
        let top = temp.path().canonicalize().unwrap().join("work");
        let url = format!("file://{}", self.top.display());
        run(temp.path(), &["clone", "--quiet", "--depth", "1", "--no-single-branch", &url, top.to_str().unwrap()]);
        Fixture { temp, top }
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "protocol.file.allow=always", "-c", "commit.gpgsign=false"]).args(args);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_AUTHOR_NAME", "Ada Author").env("GIT_AUTHOR_EMAIL", "ada@example.org");
    command.env("GIT_COMMITTER_NAME", "Carl Committer").env("GIT_COMMITTER_EMAIL", "carl@example.org");
    command.env("GIT_AUTHOR_DATE", "2026-01-01T10:00:00Z").env("GIT_COMMITTER_DATE", "2026-01-02T11:00:00+01:00");
    command
}

fn output(command: &mut Command, args: &[&str]) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn run(folder: &Path, args: &[&str]) -> String {
    output(&mut command(folder, args), args)
}

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.files.iter().map(|file| &*file.path).collect()
}

fn text<'a>(snapshot: &'a Snapshot, path: &str) -> &'a str {
    let file = snapshot.files.iter().find(|file| &*file.path == path).unwrap();
    std::str::from_utf8(&file.content).unwrap()
}

// -- commits

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

// -- kinds of repository

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
        .args(["--exact", "source::tests::git_dir_and_git_work_tree_are_respected"])
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

// -- what is not there

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

// -- the policy root in a folder

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

// -- what a tree can hold beside files

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

// -- the work tree

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
    let made = Command::new("mkfifo").arg(fixture.top.join("policies/acme/pipe.yaml")).status().unwrap();
    assert!(made.success());
    assert_eq!(fixture.worktree().files.len(), 3);
    assert_eq!(read_directory(&fixture.top).unwrap().files.len(), 3);
}

// -- histories

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

// -- properties

/// What a generated step does to a file.
#[derive(Debug, Clone)]
enum Edit {
    Write(Vec<u8>),
    Remove,
    Stage,
}

fn path() -> impl Strategy<Value = String> {
    let folder = prop::sample::select(vec!["a.d/", "a.b.d/", "a-b.d/", "ab.d/", "z.d/"]);
    let name = prop::sample::select(vec!["a", "a.yaml", "b", "a-b.yaml", "zz"]);
    (prop::collection::vec(folder, 0..3), name)
        .prop_map(|(folders, name)| format!("policies/{}{name}", folders.concat()))
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..12).prop_map(Edit::Write),
        1 => Just(Edit::Remove),
        1 => Just(Edit::Stage),
    ]
}

proptest! {
    // Each case runs a dozen git processes.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_has_the_ids_of_git_whatever_was_committed_edited_and_staged(
        committed in prop::collection::vec((path(), prop::collection::vec(any::<u8>(), 0..20)), 1..8),
        edits in prop::collection::vec((path(), edit()), 0..8),
        autocrlf in prop::sample::select(vec!["false", "input"]),
    ) {
        let fixture = Fixture::empty();
        fixture.git(&["config", "core.autocrlf", autocrlf]);
        for (path, content) in &committed {
            fixture.write(path, content);
        }
        fixture.commit("first");
        let clean = fixture.worktree();
        prop_assert_eq!(&clean.dirty, &Vec::<String>::new());
        prop_assert_eq!(&clean.policies_tree, &Some(fixture.id("HEAD:policies")));
        prop_assert_eq!(&clean.policies_tree, &fixture.repo().read_ref("HEAD").unwrap().policies_tree);
        for (path, edit) in &edits {
            match edit {
                Edit::Write(content) => fixture.write(path, content),
                Edit::Remove => drop(fs::remove_file(fixture.top.join(path))),
                Edit::Stage => drop(fixture.git(&["add", "--all"])),
            }
        }
        let expected = fixture.would_be_tree();
        match fixture.repo().read_worktree() {
            Ok(snapshot) => prop_assert_eq!(snapshot.policies_tree, expected),
            Err(e) => prop_assert!(false, "{}", e),
        }
    }
}
