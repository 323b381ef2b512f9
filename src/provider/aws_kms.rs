//! AWS Key Management Service.

use crate::document::Capabilities;
use crate::model::RotationStrategy;

/// What keywheel can do in AWS KMS.
pub const CAPABILITIES: Capabilities = Capabilities {
    available: true,
    strategies: &[RotationStrategy::NewKey],
    rollback: true,
    needs_alias: true,
    regions: true,
    disable: true,
    destroy: true,
};
