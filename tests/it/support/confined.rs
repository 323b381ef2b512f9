//! Tests of full disks and of files that may not be written: such a test runs itself once more, in a process for which
//! that is so. It takes namespaces and capabilities that are given up, and no privilege.
//!
//! Where the system forbids even that, the test is passed over aloud: `tests/run` says so at its end.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the second process.
const CONFINED: &str = "KEYWHEEL_TEST_CONFINED";

/// The file in which `tests/run` looks for what was passed over.
const NOT_TESTED: &str = "KEYWHEEL_NOT_TESTED";

/// What the second process is given.
#[derive(Debug, Clone, Copy)]
pub enum Confinement {
    /// Mounts of its own, gone when it ends.
    OwnMounts,
    /// Modes of files that hold for it, even if it is root's.
    Modes,
}

/// Is this process confined so that the test can do its work here? If not, that has been seen to: the test ran in a
/// process of its own and passed, or was passed over.
///
/// `test` is its whole name: `concat!(module_path!(), "::name")`.
pub fn is_confined(confinement: Confinement, test: &str) -> bool {
    if env::var_os(CONFINED).is_some() || confinement.holds_here() {
        return true;
    }
    let Some(launcher) = confinement.launchers().iter().find(|launcher| confinement.works_with(launcher)) else {
        not_tested(test, "this system gives a process no namespaces, or keeps it from giving up capabilities");
        return false;
    };
    let (_, test) = test.split_once("::").unwrap();
    let output = command(launcher)
        .arg(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(CONFINED, "yes")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = || format!("{test}, by {launcher:?}:\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // Of a name that is no test's, all none of them pass.
    assert!(output.status.success() && said.contains("test result: ok. 1 passed"), "{}", failed());
    false
}

impl Confinement {
    /// Nothing mounts for others to see, though it may.
    fn holds_here(self) -> bool {
        match self {
            Self::OwnMounts => false,
            Self::Modes => {
                let folder = tempfile::tempdir().unwrap();
                fs::write(folder.path().join("file"), "").unwrap();
                read_only(&folder.path().join("file"));
                OpenOptions::new().append(true).open(folder.path().join("file")).is_err()
            }
        }
    }

    /// How a process is started so, the ways that need less after those that need more.
    fn launchers(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::OwnMounts => &[&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]],
            Self::Modes => &[&[
                "setpriv",
                "--inh-caps=-dac_override,-dac_read_search",
                "--bounding-set=-dac_override,-dac_read_search",
            ]],
        }
    }

    fn works_with(self, launcher: &[&str]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let script = match self {
            Self::OwnMounts => "mount -t tmpfs -o size=64k tmpfs \"$1\"",
            Self::Modes => "touch \"$1/file\" && chmod 444 \"$1/file\" && ! echo >>\"$1/file\"",
        };
        let output = command(launcher).args(["sh", "-c", script, "sh"]).arg(folder.path()).output();
        output.is_ok_and(|output| output.status.success())
    }
}

fn command(launcher: &[&str]) -> Command {
    let (program, options) = launcher.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(options);
    command
}

/// Says that a test did nothing, to whoever watches and to `tests/run`.
pub fn not_tested(test: &str, why: &str) {
    let line = format!("NOT tested: {test} ({why})\n");
    eprint!("{line}");
    if let Some(list) = env::var_os(NOT_TESTED) {
        let mut list = OpenOptions::new().create(true).append(true).open(list).unwrap();
        list.write_all(line.as_bytes()).unwrap();
    }
}

/// Takes away the mode by which a file or folder may be written.
pub fn read_only(path: &Path) {
    let mut permissions = fs::metadata(path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(path, permissions).unwrap();
}

/// A very small disk at a folder, on which nothing else lies.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it, in a process that has mounts of its own.
    pub fn at(folder: &Path, size: &str) -> Self {
        let options = format!("size={size}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Self(folder.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a thread of SQLite may still be about to close the file.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}
