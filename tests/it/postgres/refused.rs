//! Databases that cannot be used: the message says why, and never the password.

use std::process::Command;

use super::{APPLY, discreet, documents, sandbox};
use crate::support::postgres::{PASSWORD, Server, database, free_port, own, url};
use crate::support::sandbox::Sandbox;

/// Fails unless plan and apply are both refused with these words.
fn refused(sandbox: &Sandbox, words: &str) {
    for arguments in [&["plan", "-vv"][..], APPLY] {
        let done = discreet(sandbox.keywheel(arguments).env("RUST_LOG", "trace").exits(1)).error("state/unreachable");
        assert!(done.stderr.contains(words), "no {words:?} in\n{}", done.stderr);
    }
}

#[test]
fn what_cannot_be_reached_is_named_without_its_password() {
    let database = database();
    let wrong = database.url.replace(PASSWORD, &PASSWORD.to_uppercase());
    refused(&sandbox(&wrong, 1), "password authentication failed");
    refused(&sandbox(&url(database.port, "typing_mistake"), 1), "\"typing_mistake\" does not exist: create it first");
    refused(&sandbox(&url(free_port(), "keywheel"), 1), "Connection refused");
}

#[test]
fn a_password_that_stands_where_others_read_it_is_refused() {
    let database = database();
    let in_the_file = Sandbox::with(&format!("state: {}\n", database.url), &documents(1));
    discreet(in_the_file.keywheel(&["plan"]).exits(1)).error("config/state-password");
    let on_the_command_line = sandbox(&database.url, 1);
    let run = on_the_command_line.keywheel(&["plan", "--state", &database.url]);
    discreet(run.exits(1)).error("state/password");
}

#[test]
fn a_url_without_a_password_may_stand_in_the_file() {
    let database = database();
    let plain = database.url.replace(&format!(":{PASSWORD}"), "");
    let sandbox = Sandbox::with(&format!("state: {plain}\n"), &documents(1));
    sandbox.keywheel(APPLY).env("PGPASSWORD", PASSWORD).exits(0);
    assert_eq!(database.query("SELECT count(*) FROM encryption_keys").unwrap(), "1");
}

#[test]
fn a_standby_is_planned_from_and_not_applied_to() {
    let primary = Server::start("");
    let sandbox = sandbox(&primary.url("postgres"), 1);
    sandbox.keywheel(APPLY).exits(0);
    let standby = primary.standby();
    let url = standby.url("postgres");
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).env("KEYWHEEL_STATE", &url).exits(0).says("No changes");
    sandbox.keywheel(APPLY).env("KEYWHEEL_STATE", &url).exits(1).error("state/read-only");
}

#[test]
fn tls_is_as_strict_as_the_url_says() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
    };
    for authority in ["ours", "theirs"] {
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={authority} \
             -keyout {authority}.key -out {authority}.crt"
        ));
    }
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -addext \
         subjectAltName=DNS:localhost -keyout server.key -out server.csr",
    );
    openssl(
        "x509 -req -in server.csr -CA ours.crt -CAkey ours.key -CAcreateserial -days 30 -copy_extensions copyall \
         -out server.crt",
    );
    own(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let server = Server::start(&format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
        file("server.crt"),
        file("server.key")
    ));
    let host = |name: &str| server.url("postgres").replace("127.0.0.1", name);
    let url = |name: &str, parameters: &str| format!("{}?{parameters}", host(name));
    let verified = format!("sslmode=verify-full&sslrootcert={}", file("ours.crt"));
    let applied = sandbox(&url("localhost", &verified), 1);
    applied.keywheel(APPLY).exits(0);

    let another_authority = format!("sslmode=verify-full&sslrootcert={}", file("theirs.crt"));
    refused(&sandbox(&url("localhost", &another_authority), 1), "UnknownIssuer");
    // The certificate is not for this address.
    refused(&sandbox(&url("127.0.0.1", &verified), 1), "certificate not valid for name");
    let authority_alone = format!("sslmode=verify-ca&sslrootcert={}", file("ours.crt"));
    applied.keywheel(&["plan"]).env("KEYWHEEL_STATE", &url("127.0.0.1", &authority_alone)).exits(0);
}
