//! Snapshots of plans as text.
