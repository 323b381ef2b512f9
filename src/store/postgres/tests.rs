//! What is PostgreSQL's own: connections, the schema, errors. What every state database does is in the conformance suite.

mod copied;
mod integrity;
mod lost;
mod migrated;
mod session;
mod trouble;

#[path = "../../../tests/it/support/cut.rs"]
mod cut;
#[path = "../../../tests/it/support/postgres.rs"]
mod server;

use self::server::Database;
use super::{Postgres, Writing, open_or_create};
use crate::store::conformance::conformance;
use crate::store::{Location, PostgresUrl};

conformance!(super::empty);

fn location(url: &str) -> PostgresUrl {
    match Location::parse(url, std::path::Path::new("/")) {
        Ok(Location::Postgres(url)) => url,
        other => panic!("{other:?}"),
    }
}

/// An empty state database in a database of its own.
async fn empty() -> (Database, Postgres<Writing>) {
    let database = server::database();
    let state = open_or_create(&location(&database.url)).await.unwrap();
    (database, state)
}
