//! A snapshot of the state: what a review needs of it, for a machine that must not reach the database.

use crate::plan::StateSnapshot;

use super::load::load_with_record;
use super::{EngineError, Workspace, clock};

/// What the state database knows of the keys' ages.
///
/// # Errors
/// There is no state database, or it could not be read.
pub async fn snapshot_state(workspace: &Workspace, state: Option<&str>) -> Result<StateSnapshot, EngineError> {
    let (_, reader, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let versions = reader.all_versions().await?;
    Ok(StateSnapshot::of(&recorded, &versions, clock::now()))
}
