//! The canonical layout of a file of documents. Comments stay, and what the documents mean stays.
//!
//! [`format`] reads the text with its comments ([`read`]), writes it anew ([`write`]), and then reads what it wrote: where
//! that would not mean the same, or a comment would be missing, the file stays as it is. So a mistake here can cost
//! beauty, never meaning.
//!
//! Must not know: what the fields of a document are for. Their order is all that it takes from the kind.

mod quote;
mod read;
#[cfg(test)]
mod tests;
mod write;

use serde_json::Value;

use super::read as load;
use super::{SourceFile, tree, validate};
use crate::diagnostic::Finding;

/// Lays out a file: fields in the order of the schema, two spaces for each level, quotes only where they are needed
/// (always around what readers of YAML disagree about), `---` between documents, one line break at the end.
///
/// Laying out what is laid out changes nothing. Fields stay in their order where it is not clear what a comment between
/// them belongs to.
///
/// # Errors
/// What is wrong with the YAML. Whether the documents fit their schema is not asked.
pub fn format(file: &SourceFile) -> Result<String, Vec<Finding>> {
    let text = load::decode(file).map_err(|finding| vec![*finding])?;
    let stream = tree::parse(text.text);
    if !stream.problems.is_empty() {
        return Err(stream.problems.into_iter().map(|problem| load::explain(&text, problem)).collect());
    }
    let source = text.text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    // A directive concerns the reader of the YAML, and no document has use for one.
    let has_directives = source.lines().any(|line| line.starts_with('%'));
    let Some(read) = read::read(&source).filter(|_| !has_directives) else { return Ok(text.text.to_owned()) };
    let laid_out = write::write(&read);
    Ok(if means_the_same(&source, &laid_out) { laid_out } else { text.text.to_owned() })
}

/// Do two texts hold the same documents and the same comments?
fn means_the_same(one: &str, other: &str) -> bool {
    let values = |text: &str| -> Option<Vec<Value>> {
        let stream = tree::parse(text);
        stream
            .problems
            .is_empty()
            .then(|| stream.documents.iter().map(|root| validate::to_json(root, &mut false)).collect())
    };
    let comments = |text: &str| {
        let mut comments = read::comments(text)?;
        comments.sort_unstable();
        Some(comments)
    };
    values(one).is_some_and(|it| Some(it) == values(other))
        && comments(one).is_some_and(|it| Some(it) == comments(other))
}
