//! Where a state database is: `sqlite:PATH` or `postgres://USER@HOST/DATABASE`.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a state database is. Shown without any password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(PostgresUrl),
}

/// The URL of a PostgreSQL database. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    url: String,
    shown: String,
    has_password: bool,
    folder: PathBuf,
}

/// Why a text is not the location of a state database. No message repeats a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Another scheme.
    #[error(
        "{0:?} is no state database: write sqlite:PATH, such as sqlite:.keywheel/state.db, or \
         postgres://USER@HOST/DATABASE"
    )]
    Scheme(String),
    /// No scheme. The text is not repeated: a variable that was set wrongly may hold nothing but a password.
    #[error(
        "a state database has a scheme: write sqlite:PATH, such as sqlite:.keywheel/state.db, or \
         postgres://USER@HOST/DATABASE"
    )]
    NoScheme,
    /// A PostgreSQL URL without a host.
    #[error("the PostgreSQL URL names no host: write postgres://USER@HOST/DATABASE")]
    NoHost,
    /// A PostgreSQL URL that cannot be taken apart in one way only.
    #[error(
        "the PostgreSQL URL is ambiguous: in a user's name or password, write @ as %40, / as %2F, ? as %3F, # as %23"
    )]
    Ambiguous,
    /// A PostgreSQL URL with a port that is none.
    #[error("the PostgreSQL URL names a port that is not a number up to 65535")]
    Port,
    /// A PostgreSQL URL with a parameter that has no effect.
    #[error("the PostgreSQL URL has an unknown parameter {0:?}: known are {known}", known = PARAMETERS.join(", "))]
    UnknownParameter(String),
    /// A PostgreSQL URL with a value of `sslmode` that libpq does not know.
    #[error("the PostgreSQL URL has an unknown `sslmode`: known are {known}", known = SSL_MODES.join(", "))]
    SslMode,
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
            Self::Postgres(_) => false,
        }
    }

    /// Where files are kept that belong to the database: beside its own file, or in `.keywheel` of the repository.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self {
            Self::Sqlite(path) => path.parent().unwrap_or(path),
            Self::Postgres(url) => url.folder(),
        }
    }

    /// Is there a password in it?
    #[must_use]
    pub fn has_password(&self) -> bool {
        matches!(self, Self::Postgres(url) if url.has_password)
    }

    /// Reads `sqlite:PATH`, `sqlite://PATH` or `sqlite:///PATH` (a relative path starts at `base_dir`), or a
    /// `postgres://` URL.
    ///
    /// # Errors
    /// [`LocationError`] says what it is instead.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, LocationError> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(LocationError::NoScheme);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => {}
            "postgres" | "postgresql" => return PostgresUrl::parse(rest, base_dir).map(Self::Postgres),
            // What follows an unknown scheme may have a password in it, and so may what is none.
            scheme if scheme.chars().all(|c| c.is_ascii_lowercase()) => {
                return Err(LocationError::Scheme(format!("{scheme}:")));
            }
            _ => return Err(LocationError::NoScheme),
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

/// The parameters of a URL that have an effect, as libpq names them.
const PARAMETERS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
];

/// The values of `sslmode`.
const SSL_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Those that are shown.
const SHOWN_PARAMETERS: &[&str] = &["host", "hostaddr", "port", "dbname", "user", "sslmode", "sslrootcert"];

impl PostgresUrl {
    /// The whole URL, for the one place that connects to it. Never print it.
    pub(super) fn expose(&self) -> &str {
        &self.url
    }

    /// Where files are kept on this machine that belong to the database.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads what follows `postgres:`.
    fn parse(rest: &str, base_dir: &Path) -> Result<Self, LocationError> {
        let rest = rest.strip_prefix("//").ok_or(LocationError::NoHost)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        // Such a character stands in a password that was meant to be before it.
        if tail.contains(['@', '#']) {
            return Err(LocationError::Ambiguous);
        }
        let (user_info, address) =
            authority.rsplit_once('@').map_or((None, authority), |(user_info, address)| (Some(user_info), address));
        let user = user_info.map(|user_info| user_info.split_once(':').map_or(user_info, |(user, _)| user));
        let mut has_password = user_info.is_some_and(|user_info| user_info.contains(':'));
        // An IPv6 address has colons of its own, inside brackets.
        if let Some((_, port)) = address.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'))
            && port.parse::<u16>().is_err()
        {
            return Err(LocationError::Port);
        }
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let mut shown_parameters = Vec::new();
        let mut has_host = !address.is_empty();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !PARAMETERS.contains(&name) {
                return Err(LocationError::UnknownParameter(name.to_owned()));
            }
            if name == "sslmode" && !SSL_MODES.contains(&value) {
                return Err(LocationError::SslMode);
            }
            has_password |= name == "password";
            has_host |= matches!(name, "host" | "hostaddr");
            if SHOWN_PARAMETERS.contains(&name) {
                shown_parameters.push(parameter);
            }
        }
        if !has_host {
            return Err(LocationError::NoHost);
        }
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let question = if shown_parameters.is_empty() { "" } else { "?" };
        let shown = format!("postgres://{user}{address}{path}{question}{}", shown_parameters.join("&"));
        Ok(Self { url: format!("postgres://{rest}"), shown, has_password, folder: base_dir.join(".keywheel") })
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
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({})", self.shown)
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
        assert_eq!(parse(".keywheel/state.db"), Err(LocationError::NoScheme));
    }

    #[test]
    fn a_postgresql_url_is_shown_without_its_password() {
        for (text, shown) in [
            ("postgres://db/keywheel", "postgres://db/keywheel"),
            ("postgresql://me:s3cret@db:5433/keywheel", "postgres://me@db:5433/keywheel"),
            ("postgres://me:s3cret@x@db/keywheel", "postgres://me@db/keywheel"),
            ("postgres://me@[::1]/k?password=s3cret&sslmode=require", "postgres://me@[::1]/k?sslmode=require"),
            ("postgres:///k?host=/run/postgresql&options=-cs3cret", "postgres:///k?host=/run/postgresql"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(shown));
            let location = Location::parse(text, Path::new("/repo")).unwrap();
            assert!(!format!("{location:?}").contains("s3cret"), "{location:?}");
            let has_password = text.contains("s3cret") && !text.contains("options");
            assert_eq!(location.has_password(), has_password, "{text}");
        }
    }

    #[test]
    fn a_postgresql_url_that_makes_no_sense_is_refused() {
        for text in ["postgres:", "postgres:db", "postgres://", "postgres:///keywheel", "postgres://me:s3cret@/k"] {
            assert_eq!(parse(text), Err(LocationError::NoHost), "{text}");
        }
        for text in ["postgres://me:1/s3cret@db/k", "postgres://me:1?s3cret@db/k", "postgres://me:1#s3cret@db/k"] {
            assert_eq!(parse(text), Err(LocationError::Ambiguous), "{text}");
        }
        assert_eq!(parse("postgres://db:s3cret/k"), Err(LocationError::Port));
        let unknown = parse("postgres://db/k?passwd=s3cret").unwrap_err();
        assert_eq!(unknown, LocationError::UnknownParameter("passwd".to_owned()));
    }

    #[test]
    fn no_message_repeats_a_password() {
        for text in [
            "postgres://me:s3cret@db:x/keywheel",
            "postgresql://me:1/s3cret@db",
            "postgres://db?passwd=s3cret",
            "mysql://me:s3cret@db",
            "me:s3cret@db",
            "s3cret",
            "s3cret@db:5432/keywheel",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }
}
