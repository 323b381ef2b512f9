//! Documents as people write them, good and bad, through the library's `load`.

use keywheel::diagnostic::Finding;
use keywheel::document::{self, Loaded, SourceFile};
use keywheel::model::Timestamp;
use keywheel::provider::capabilities;

mod bad_input;
mod good_input;
mod hostile_input;
mod layout;
mod schema_file;

/// A policy that is right, without its last line break.
const POLICY: &str = "\
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: quarterly
key_type: system_data
rotation_interval_days: 90
";

/// A key that is right, and names [`POLICY`].
const KEY: &str = "\
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: backups
key_type: system_data
rotation_policy: quarterly
";

/// Before any freeze.
const EARLY: Timestamp = Timestamp::UNIX_EPOCH;

fn file(path: &str, content: impl AsRef<[u8]>) -> SourceFile {
    SourceFile { path: path.into(), content: content.as_ref().into(), symlink: false }
}

fn load(files: &[SourceFile]) -> Loaded {
    document::load(None, files, capabilities, EARLY)
}

fn load_with_config(config: &str, files: &[SourceFile]) -> Loaded {
    document::load(Some(&file("keywheel.yaml", config)), files, capabilities, EARLY)
}

/// `CODE FILE:LINE:COLUMN` of each finding.
fn summary(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| match &finding.place {
            Some(place) => format!("{} {}:{}:{}", finding.code, place.file, place.line, place.column),
            None => finding.code.to_string(),
        })
        .collect()
}
