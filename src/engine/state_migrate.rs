//! The state database comes to the newest schema, at a time that a person chooses.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use crate::store;

use super::load::load_with_record;
use super::{EngineError, Workspace};

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MigrateReport {
    /// Which database, without a password.
    pub state: String,
    /// The migration; none if the schema was the newest already.
    pub migrated: Option<Migration>,
}

/// A schema that became another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Migration {
    /// The schema before.
    pub from: i64,
    /// The schema now.
    pub to: i64,
    /// The copy of the database as it was before.
    pub backup: PathBuf,
}

/// Brings a state database to the newest schema; before that it is copied.
///
/// # Errors
/// There is no state database, its copy could not be written, or it could not be migrated: then it is as it was.
pub async fn migrate_state(workspace: &Workspace, state: Option<&str>) -> Result<MigrateReport, EngineError> {
    let (desired, ..) = load_with_record(workspace, state).await?.with_state()?;
    let location = desired.location(state)?;
    let opened = store::open_or_create(&location).await?;
    let migrated = opened.migrated().cloned();
    let migrated = migrated.map(|store::Migrated { from, to, backup }| Migration { from, to, backup });
    Ok(MigrateReport { state: location.to_string(), migrated })
}

#[cfg(test)]
mod tests {
    use super::super::{Selection, Workspace};
    use super::{Migration, migrate_state};
    use crate::store::sqlite::planted;
    use crate::store::{Location, open_or_create, open_read_only};

    #[tokio::test]
    async fn an_older_database_is_copied_and_becomes_the_newest_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("keywheel.yaml"),
            "apiVersion: keywheel/v1\nkind: Config\nstate: sqlite:s.db\n",
        )
        .unwrap();
        let file = Location::Sqlite(folder.path().join("s.db"));
        let before = open_or_create(&file).await.unwrap().recorded().await.unwrap();
        let newest = planted::migration("CREATE TABLE extra (x TEXT) STRICT");
        let workspace = Workspace { dir: folder.path().to_owned(), selection: Selection::WorkTree };
        let done = migrate_state(&workspace, None).await.unwrap().migrated.unwrap();
        let backup = folder.path().join(format!("s.db.schema-{}", newest - 1));
        assert_eq!(done, Migration { from: newest - 1, to: newest, backup: backup.clone() });
        for file in [Location::Sqlite(backup), file] {
            assert_eq!(open_read_only(&file).await.unwrap().recorded().await.unwrap(), before);
        }
        assert_eq!(migrate_state(&workspace, None).await.unwrap().migrated, None, "it is the newest by now");
    }
}
