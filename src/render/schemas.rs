//! The JSON schemas of the documents and of every JSON output, generated from the types.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::document;
use crate::engine::{
    ApproveReport, AuditReport, AuditVerified, BackupReport, CheckpointReport, ComplianceReport, CopyReport, Explained,
    HistoryReport, LockReport, MigrateReport, OutboxReport, ReclaimReport, RecoveryReport, SendReport, StatusReport,
    TestReport, UsageReport, VerifyReport, Versioned, Why,
};
use crate::plan::{Forecast, PlanDocument, StateSnapshot};

use super::drift::DriftDocument;
use super::findings;
use super::json::{StreamLine, VersionDocument};

/// Every schema, by the name of its file under `schema/`.
#[must_use]
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("keywheel.v1.json", document::schema()),
        ("apply-line.v1.json", output::<StreamLine<'_>>()),
        ("approve.v1.json", output::<Versioned<ApproveReport>>()),
        ("audit-checkpoint.v1.json", output::<Versioned<CheckpointReport>>()),
        ("audit-list.v1.json", output::<Versioned<AuditReport>>()),
        ("audit-verify.v1.json", output::<Versioned<AuditVerified>>()),
        ("audit-why.v1.json", output::<Versioned<Why>>()),
        ("compliance-report.v1.json", output::<Versioned<ComplianceReport>>()),
        ("drift.v1.json", output::<Versioned<DriftDocument>>()),
        ("explain.v1.json", output::<Versioned<Explained>>()),
        ("forecast.v1.json", output::<Versioned<Forecast>>()),
        ("history.v1.json", output::<Versioned<HistoryReport>>()),
        ("lock-list.v1.json", output::<Versioned<LockReport>>()),
        ("outbox-list.v1.json", output::<Versioned<OutboxReport>>()),
        ("outbox-send.v1.json", output::<Versioned<SendReport>>()),
        ("plan.v1.json", output::<PlanDocument>()),
        ("state-backup.v1.json", output::<Versioned<BackupReport>>()),
        ("state-copy.v1.json", output::<Versioned<CopyReport>>()),
        ("state-migrate.v1.json", output::<Versioned<MigrateReport>>()),
        ("state-reclaim.v1.json", output::<Versioned<ReclaimReport>>()),
        ("state-recover.v1.json", output::<Versioned<RecoveryReport>>()),
        ("state-snapshot.v1.json", output::<StateSnapshot>()),
        ("state-verify.v1.json", output::<Versioned<VerifyReport>>()),
        ("status.v1.json", output::<Versioned<StatusReport>>()),
        ("test.v1.json", output::<Versioned<TestReport>>()),
        ("usage-report.v1.json", output::<Versioned<UsageReport>>()),
        ("validate.v1.json", output::<findings::Report<'_>>()),
        ("version.v1.json", output::<VersionDocument>()),
    ]
}

/// A schema as it stands in its file.
#[must_use]
pub fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

/// The schema of something that is written: a field with a default is always there.
fn output<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}
