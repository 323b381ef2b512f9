//! Where a state database is: `sqlite:PATH`.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a state database is. Shown without any password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An SQLite file.
    Sqlite(PathBuf),
}

/// Why a text is not the location of a state database. No message repeats a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// A PostgreSQL URL.
    #[error("PostgreSQL is not in this version: write sqlite:PATH")]
    PostgreSql,
    /// Another scheme, or none.
    #[error("{0:?} is no state database: write sqlite:PATH, such as sqlite:.keywheel/state.db")]
    Scheme(String),
    /// `sqlite:` without a path.
    #[error("sqlite: needs a path, such as sqlite:.keywheel/state.db")]
    NoPath,
    /// A database that would be gone at the end of the process.
    #[error("a state database in memory would be forgotten at once: write sqlite:PATH")]
    Memory,
    /// `sqlite:PATH?...`.
    #[error("sqlite:PATH takes no parameters after a question mark")]
    Parameters,
}

impl Location {
    /// Is it a file inside a directory, once `..` and symbolic links are followed?
    #[must_use]
    pub fn is_file_below(&self, directory: &Path) -> bool {
        match self {
            Self::Sqlite(path) => is_below(path, directory),
        }
    }

    /// Reads `sqlite:PATH`, `sqlite://PATH` or `sqlite:///PATH`; a relative path starts at `base_dir`.
    ///
    /// # Errors
    /// [`LocationError`] says what it is instead.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, LocationError> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(LocationError::Scheme(text.to_owned()));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => {}
            "postgres" | "postgresql" => return Err(LocationError::PostgreSql),
            // What follows an unknown scheme may have a password in it.
            _ => return Err(LocationError::Scheme(format!("{scheme}:"))),
        }
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match path {
            "" => Err(LocationError::NoPath),
            ":memory:" => Err(LocationError::Memory),
            path if path.contains('?') => Err(LocationError::Parameters),
            // Joining an absolute path gives that path.
            path => Ok(Self::Sqlite(base_dir.join(path))),
        }
    }
}

/// Is a path inside a directory, once `..` and symbolic links are followed?
#[must_use]
pub fn is_below(path: &Path, directory: &Path) -> bool {
    followed(path).starts_with(followed(directory))
}

/// Where a path leads, as far as it exists.
fn followed(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = |ancestor: &Path| Some(ancestor.canonicalize().ok()?.join(path.strip_prefix(ancestor).ok()?));
    path.ancestors().find_map(existing).unwrap_or_else(|| path.clone())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, LocationError> {
        Location::parse(text, Path::new("/repo")).map(|location| location.to_string())
    }

    #[test]
    fn a_relative_path_starts_at_the_base_directory() {
        assert_eq!(parse("sqlite:.keywheel/state.db").unwrap(), "sqlite:/repo/.keywheel/state.db");
        assert_eq!(parse("sqlite://state.db").unwrap(), "sqlite:/repo/state.db");
        assert_eq!(parse("SQLite:state.db").unwrap(), "sqlite:/repo/state.db");
    }

    #[test]
    fn an_absolute_path_stays() {
        assert_eq!(parse("sqlite:///var/lib/keywheel.db").unwrap(), "sqlite:/var/lib/keywheel.db");
        assert_eq!(parse("sqlite:/var/lib/keywheel.db").unwrap(), "sqlite:/var/lib/keywheel.db");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_beside_a_directory_is_not_in_it_however_its_path_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path().join("repo");
        std::fs::create_dir(&repo).unwrap();
        std::os::unix::fs::symlink(folder.path(), repo.join("outside")).unwrap();
        for (path, is_below) in
            [("state.db", true), (".keywheel/state.db", true), ("../state.db", false), ("outside/state.db", false)]
        {
            let location = Location::parse(&format!("sqlite:{path}"), &repo).unwrap();
            assert_eq!(location.is_file_below(&repo), is_below, "{path}");
        }
    }

    #[test]
    fn what_is_no_sqlite_file_is_named() {
        assert_eq!(parse("sqlite:"), Err(LocationError::NoPath));
        assert_eq!(parse("sqlite://"), Err(LocationError::NoPath));
        assert_eq!(parse("sqlite::memory:"), Err(LocationError::Memory));
        assert_eq!(parse("sqlite:state.db?mode=ro"), Err(LocationError::Parameters));
        assert_eq!(parse(".keywheel/state.db"), Err(LocationError::Scheme(".keywheel/state.db".to_owned())));
    }

    #[test]
    fn no_message_repeats_a_password() {
        for text in
            ["postgres://me:s3cret@db/keywheel", "postgresql://me:s3cret@db", "mysql://me:s3cret@db", "me:s3cret@db"]
        {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
        assert_eq!(
            parse("postgres://db").unwrap_err().to_string(),
            "PostgreSQL is not in this version: write sqlite:PATH"
        );
    }
}
