//! Documents: `keywheel.yaml` and files under `policies/`, each a part with its path as title.

use std::sync::Arc;

use keywheel::diagnostic::{Finding, Place};
use keywheel::document::{self, Loaded, Located, Repository, SourceFile};
use keywheel::model::Timestamp;
use keywheel::provider::capabilities;
use keywheel::render::findings;

/// More files than this show nothing that fewer do not.
const MAX_FILES: usize = 16;

/// Documents are read, each finding stands where it says, and the canonical layout means the same.
pub fn run(input: &[u8]) -> bool {
    let (config, files) = files(input);
    let loaded = load(config.as_ref(), &files);
    for finding in &loaded.findings {
        check(finding, &config.iter().chain(&files));
    }
    let _ = findings::draw(&loaded.findings, false, 80);

    let laid_out: Vec<SourceFile> = files.iter().map(lay_out).collect();
    // Where there are errors, quotes alone may mend one.
    let is_sound = !loaded.findings.iter().any(Finding::is_error);
    if is_sound {
        let again = load(config.as_ref().map(lay_out).as_ref(), &laid_out);
        same(&loaded.repository, &again.repository);
    }
    is_sound
}

fn files(input: &[u8]) -> (Option<SourceFile>, Vec<SourceFile>) {
    let file = |(title, content): (&str, &[u8])| {
        let (path, symlink) = title.strip_suffix('@').map_or((title, false), |path| (path, true));
        let path = if path.is_empty() { "policies/acme/all.yaml" } else { path };
        SourceFile { path: path.into(), content: content.into(), symlink }
    };
    let mut files: Vec<SourceFile> = super::parts(input).into_iter().take(MAX_FILES).map(file).collect();
    // No tree has two files of one name.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    let config = files.iter().position(|file| &*file.path == "keywheel.yaml").map(|at| files.remove(at));
    (config, files)
}

fn load(config: Option<&SourceFile>, files: &[SourceFile]) -> Loaded {
    document::load(config, files, capabilities, Timestamp::UNIX_EPOCH)
}

/// The file in its canonical layout, which is that of a second time too; as it is where it has none.
fn lay_out(file: &SourceFile) -> SourceFile {
    let with = |text: String| SourceFile { content: Arc::from(text.into_bytes()), ..file.clone() };
    if file.symlink {
        return file.clone();
    }
    let Ok(once) = document::format(file).map(with) else { return file.clone() };
    let twice = document::format(&once).map(with);
    let twice = twice.unwrap_or_else(|findings| panic!("what fmt wrote does not read: {findings:?}"));
    let text = |file: &SourceFile| String::from_utf8_lossy(&file.content).into_owned();
    assert_eq!(text(&once), text(&twice), "laying out what is laid out changes nothing");
    once
}

/// Does the finding stand in a file, and what it quotes in its line?
fn check<'f>(finding: &Finding, files: &(impl Iterator<Item = &'f SourceFile> + Clone)) {
    let related = finding.related.as_ref().map(|related| (&related.place, &related.source_line));
    let own = finding.place.as_ref().map(|place| (place, &finding.source_line));
    for (place, source_line) in own.into_iter().chain(related) {
        let file = files.clone().find(|file| file.path == place.file);
        let file = file.unwrap_or_else(|| panic!("no such file: {finding:?}"));
        stands_in(place, file, finding);
        if let Some(line) = source_line {
            let meant = document::underline(place, line);
            assert!(line.get(meant).is_some(), "not in its line: {finding:?}");
            assert!(!line.contains(['\n', '\r', '\u{1b}']), "not one line: {finding:?}");
        }
    }
}

fn stands_in(place: &Place, file: &SourceFile, finding: &Finding) {
    let text = String::from_utf8_lossy(&file.content);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let line = text.split('\n').nth(place.line.max(1) as usize - 1);
    let line = line.unwrap_or_else(|| panic!("after the end of the file: {finding:?}"));
    let columns = line.chars().count();
    let first = place.column as usize;
    assert!(place.line >= 1 && first >= 1 && place.length >= 1, "counted from 1: {finding:?}");
    // What is missing at the end of a line stands after its last character.
    assert!(first <= columns + 1, "after the end of the line of {columns}: {finding:?}");
    assert!(
        first + place.length as usize - 1 <= columns.max(first),
        "past the end of the line of {columns}: {finding:?}"
    );
}

/// Are the documents the same, wherever they stand?
fn same(one: &Repository, other: &Repository) {
    fn values<'r, K: 'r, T>(documents: impl IntoIterator<Item = (&'r K, &'r Located<T>)>) -> Vec<(&'r K, &'r T)>
    where
        T: 'r,
    {
        documents.into_iter().map(|(name, located)| (name, &located.value)).collect()
    }
    assert_eq!(one.config, other.config);
    assert_eq!(values(&one.tenants), values(&other.tenants));
    assert_eq!(values(&one.policies), values(&other.policies));
    assert_eq!(values(&one.keys), values(&other.keys));
    assert_eq!(values(&one.guardrails), values(&other.guardrails));
    assert_eq!(values(&one.freezes), values(&other.freezes));
    assert_eq!((&one.failed_tenants, one.failed), (&other.failed_tenants, other.failed));
    assert_eq!(one.documents, other.documents);
}
