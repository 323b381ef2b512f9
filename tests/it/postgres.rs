//! The binary with its state in PostgreSQL: the main story, poolers, restarts, lost answers, TLS.

use crate::support::postgres::PASSWORD;
use crate::support::sandbox::{Done, Sandbox};

mod copied;
mod gone;
mod killed;
mod lost;
mod pooled;
mod refused;
mod story;

const APPLY: &[&str] = &["apply", "--auto-approve"];

/// Local keys under one policy, due each night at two.
fn documents(keys: usize) -> String {
    let policy = "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Nightly\n\
                  key_type: phi_data\nrotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"\n";
    let key = |number| {
        format!(
            "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: key-{number:03}\n\
             key_type: phi_data\nrotation_policy: Nightly\n"
        )
    };
    (0..keys).fold(policy.to_owned(), |documents, number| documents + &key(number))
}

/// A repository with so many keys, and its state where the environment says.
fn sandbox(url: &str, keys: usize) -> Sandbox {
    let mut sandbox = Sandbox::with("state: ${KEYWHEEL_STATE}\n", &documents(keys));
    sandbox.set("KEYWHEEL_STATE", url);
    sandbox
}

/// Fails if a run said the password.
fn discreet(done: Done) -> Done {
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(!said.contains(PASSWORD), "{said}");
    done
}
