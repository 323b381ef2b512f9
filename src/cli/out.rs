//! `--out FILE`: where a plan or a snapshot is saved, and what it may take the place of.
//!
//! A file of another kind is never replaced: a path that was mistyped may be the keystore's. What is written is whole before
//! it takes its place, so that a full disk leaves what was there. A symbolic link is followed; a device, a pipe and an open
//! descriptor are written to, as the shell's `> FILE` does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::CliError;

/// Symbolic links are followed so often, as by Linux; more are a ring.
const MOST_LINKS: usize = 40;

/// Where something is saved.
enum Place {
    /// Nothing is there yet, or a file that may be replaced.
    File(PathBuf),
    /// What takes bytes and keeps none of them.
    Stream(PathBuf),
}

/// Would [`save`] write there? Asked before the work whose result is saved.
pub fn check(path: Option<&Path>) -> Result<(), CliError> {
    path.map_or(Ok(()), |path| place(path).map(drop))
}

/// Saves a plan or a snapshot.
///
/// # Errors
/// Something else is there, or it cannot be written.
pub fn save(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    match place(path)? {
        Place::File(target) => replace(&target, write),
        Place::Stream(target) => {
            OpenOptions::new().append(true).open(target).map(BufWriter::new).and_then(|mut writer| {
                write(&mut writer)?;
                writer.flush()
            })
        }
    }
    .map_err(|error| CliError::file("write", path, &error))
}

fn replace(target: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // There is no secret in it: who may read it is the umask's to say.
        new.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut writer = BufWriter::new(new.tempfile_in(folder)?);
    write(&mut writer)?;
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    if let Ok(there) = fs::metadata(target) {
        file.as_file().set_permissions(there.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(target).map(drop).map_err(|error| error.error)
}

fn place(path: &Path) -> Result<Place, CliError> {
    let failed = |error: io::Error| CliError::file("write", path, &error);
    let (target, is_descriptor) = follow(path).map_err(failed)?;
    if is_in_git(&target).map_err(failed)? {
        return Err(refused(path, "lies in a `.git` folder, which is git's").help("name a path outside of it"));
    }
    let there = match fs::metadata(&target) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::File(target)),
        Err(error) => return Err(failed(error)),
    };
    if there.is_dir() {
        return Err(refused(path, "is a folder").help(format!("name a file in it: {}", path.join("FILE").display())));
    }
    if is_descriptor || !there.is_file() {
        return Ok(Place::Stream(target));
    }
    if there.len() == 0 || is_keywheels(&target).map_err(failed)? {
        return Ok(Place::File(target));
    }
    Err(refused(path, "is there already, and is neither a saved plan nor a snapshot: it is left as it is")
        .help("name another path, or remove the file first if nobody needs it"))
}

fn refused(path: &Path, why: &str) -> CliError {
    CliError::new("cli/file-kept", format!("{} {why}", path.display()))
}

/// Where the links lead, whether anything is there or not; and whether that is a descriptor of this process, which need not
/// have a name of its own.
fn follow(path: &Path) -> io::Result<(PathBuf, bool)> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        if is_descriptor(&target) {
            return Ok((target, true));
        }
        match fs::symlink_metadata(&target) {
            Ok(there) if there.is_symlink() => {
                let link = fs::read_link(&target)?;
                target = target.parent().unwrap_or(Path::new("")).join(link);
            }
            Ok(_) => return Ok((target, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((target, false)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn is_descriptor(path: &Path) -> bool {
    let Some(folder) = path.parent() else { return false };
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    folder == Path::new("/dev/fd") || (folder.starts_with("/proc") && folder.ends_with("fd"))
}

fn is_in_git(target: &Path) -> io::Result<bool> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::canonicalize(folder) {
        Ok(folder) => Ok(folder.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git"))),
        // Writing says so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Is it a plan or a snapshot, of whatever keywheel?
fn is_keywheels(file: &Path) -> io::Result<bool> {
    /// What both begin with.
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "as_of")]
        _as_of: IgnoredAny,
        #[serde(rename = "digest")]
        _digest: IgnoredAny,
        #[serde(rename = "format_version")]
        _format_version: IgnoredAny,
        #[serde(rename = "keywheel_version")]
        _keywheel_version: IgnoredAny,
    }
    match serde_json::from_reader::<_, Head>(BufReader::new(File::open(file)?)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_io() => Err(error.into()),
        Err(_) => Ok(false),
    }
}
