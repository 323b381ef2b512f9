//! `keywheel fmt`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::document::{self, SourceFile};
use crate::render::findings;
use crate::render::style::{self, paint};
use crate::render::text::count;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;

/// Lay out documents in the canonical form; comments stay, and so does the meaning
///
/// Without PATHS it takes keywheel.yaml and everything under policies/.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  keywheel fmt
  keywheel fmt --check                     for CI: status 1 if a file is not laid out
  keywheel fmt policies/healthcare-org-123")]
pub struct Fmt {
    /// Write nothing, name the files that are not laid out, and exit with 1 if there are any
    #[arg(long)]
    check: bool,
    /// Files, and folders with everything in them
    #[arg(value_name = "PATHS")]
    paths: Vec<PathBuf>,
}

impl Fmt {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let (mut changed, mut broken) = (0, Vec::new());
        let mut text = String::new();
        let files = self.files(&global.dir)?;
        for path in &files {
            let content = fs::read(path).map_err(|error| CliError::file("read", path, &error))?;
            let shown = path.strip_prefix("./").unwrap_or(path).to_string_lossy().into_owned();
            let file =
                SourceFile { path: shown.as_str().into(), content: Arc::from(content.as_slice()), symlink: false };
            match document::format(&file) {
                Err(mut findings) => broken.append(&mut findings),
                Ok(laid_out) if laid_out.as_bytes() == content => {}
                Ok(laid_out) => {
                    changed += 1;
                    text += &format!("{shown}\n");
                    if !self.check {
                        replace(path, &laid_out)?;
                    }
                }
            }
        }
        output::text(&text)?;
        if !broken.is_empty() {
            output::note(&findings::draw(&broken, true, output::error_columns()));
            return Ok(ExitStatus::Error);
        }
        let (done, of) = (count(changed, "file"), count(files.len(), "file"));
        match (changed, self.check) {
            (0, _) => output::note(&format!("{} {of} laid out already.", paint(style::GOOD, "Nothing to do:"))),
            (_, false) => output::note(&format!("{done} of {of} laid out anew.")),
            (_, true) => output::note(&format!("{done} of {of} not laid out: `keywheel fmt` does it.")),
        }
        Ok(ExitStatus::Error.when(self.check && changed > 0))
    }

    /// The files that are meant, each once, sorted.
    fn files(&self, root: &Path) -> Result<Vec<PathBuf>, CliError> {
        let mut files = Vec::new();
        if self.paths.is_empty() {
            let documents = [root.join("keywheel.yaml"), root.join("policies")];
            for path in documents.iter().filter(|path| path.exists()) {
                collect(path, &mut files)?;
            }
        }
        for path in &self.paths {
            collect(path, &mut files)?;
        }
        files.sort();
        files.dedup();
        Ok(files)
    }
}

/// A file, or every `.yaml` and `.yml` file of a folder. Symbolic links in folders are not followed.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::file("read", path, &error);
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let is_yaml = entry.path().extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && is_yaml {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Replaces a file at once, so that no reader and no crash sees half of it. It keeps its permissions, and a symbolic link
/// to it stays one.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::file("write", path, &error);
    let path = &path.canonicalize().map_err(failed)?;
    let permissions = fs::metadata(path).map_err(failed)?.permissions();
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(path)).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().set_permissions(permissions).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
