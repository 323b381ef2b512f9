//! AES-256-GCM key versions in a sealed file.

use crate::document::Capabilities;
use crate::model::RotationStrategy;

/// What the local provider can do.
pub const CAPABILITIES: Capabilities = Capabilities {
    available: true,
    strategies: &[RotationStrategy::NewVersion],
    rollback: true,
    needs_alias: false,
    regions: false,
    disable: true,
    destroy: true,
};
