//! Real repositories, made by the real `git`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::*;

mod commits;
mod history;
mod properties;
mod repositories;
mod worktree;

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

    /// A tree with the same tree in it under several names.
    fn tree_of_copies(&self, tree: &str, names: &[&str]) -> String {
        let listed: String = names.iter().flat_map(|name| ["040000 tree ", tree, "\t", name, "\n"]).collect();
        self.write(".git/listed", listed);
        let args = ["mktree"];
        output(command(&self.top, &args).stdin(fs::File::open(self.top.join(".git/listed")).unwrap()), &args)
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
