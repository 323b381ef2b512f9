//! How often keys were used, as text.

use crate::engine::UsageReport;
use crate::model::times;

/// What a report of usage has led to.
#[must_use]
pub fn reported(report: &UsageReport) -> String {
    let UsageReport { object, version, usage_count, .. } = report;
    let next = match (report.max_usage_count, report.usage_threshold_warning) {
        _ if !report.is_primary => "it is not the primary any more, and its use makes nothing due".to_owned(),
        (Some(limit), _) if *usage_count >= limit => {
            format!("its policy rotates at {limit}: the next apply does, as soon as nothing holds it")
        }
        (Some(limit), _) => format!("its policy rotates at {limit}"),
        (None, Some(warning)) => format!("its policy warns from {warning} on, and rotates at no count"),
        (None, None) => "its policy has neither max_usage_count nor usage_threshold_warning".to_owned(),
    };
    format!("Version {version} of {object} was used {} in all; {next}.\n", times(*usage_count))
}
