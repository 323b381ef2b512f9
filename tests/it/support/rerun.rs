//! A test in a process of its own, with an environment of its own.
//!
//! keywheel reads the standard AWS environment, and a test must neither inherit the developer's nor change the one that
//! other tests share. So a test starts itself once more, as a child with exactly the variables that it names.

use std::env;
use std::future::Future;
use std::process::Command;

/// Tells the child which test it is.
const CHILD: &str = "KEYWHEEL_TEST_CHILD";
/// Tells the child of a test against an emulator of AWS where that is.
const ENDPOINT: &str = "KEYWHEEL_TEST_ENDPOINT";

/// Is this the child that `name` started?
pub fn is_child(name: &str) -> bool {
    env::var(CHILD).as_deref() == Ok(name)
}

/// The child's part: runs the test.
pub fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// Runs the test `name` with AWS credentials in a process of its own. `start` starts an emulator of AWS and says at which
/// endpoint it is, which `test` is given.
pub fn against<S, F: Future<Output = ()>>(
    name: &str,
    start: impl FnOnce() -> (S, String),
    test: impl FnOnce(String) -> F,
) {
    if is_child(name) {
        return block_on(test(env::var(ENDPOINT).unwrap()));
    }
    let (_server, endpoint) = start();
    let variables = [
        (ENDPOINT, endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    with_variables(name, &variables);
}

/// The parent's part: runs the test `name` (as `cargo test -- --list` shows it) again with these variables, and fails if
/// it does.
pub fn with_variables(name: &str, variables: &[(&str, &str)]) {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    let foreign = |name: &str| name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy");
    for (variable, _) in env::vars().filter(|(variable, _)| foreign(variable)) {
        child.env_remove(variable);
    }
    child.env("HOME", home.path()).env("AWS_EC2_METADATA_DISABLED", "true").env(CHILD, name);
    let output = child.envs(variables.iter().copied()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} failed\n{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "there is no test {name}\n{stdout}");
}
