//! The rules that `src/lib.rs` states about the source tree, read from the source itself.
//!
//! A small reader of Rust's tokens is enough for that: it knows comments, literals, braces and `#[cfg(test)]`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, from the surface down. An import points to a line further down.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["server"],
    &["render"],
    &["engine"],
    &["source", "store", "provider", "notify"],
    &["plan"],
    &["rotation"],
    &["document"],
    &["guardrail"],
    &["schedule", "signature"],
    &["diagnostic"],
    &["model"],
    // For tests alone.
    &["confined"],
];

/// No I/O, no async, no clock, no randomness, no logging.
const PURE_CORE: &[&str] =
    &["model", "diagnostic", "document", "schedule", "guardrail", "signature", "plan", "rotation"];

/// What the pure core does without: crates and paths.
const IMPURE: &[&str] = &[
    "tokio",
    "tracing",
    "rand",
    "futures",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "Utc::now",
    "Local::now",
    "SystemTime::now",
    "Instant::now",
    "Uuid::now_v7",
    "Uuid::new_v4",
];

/// Each outside thing is known to one module.
const ONLY_IN: &[(&str, &str)] = &[
    ("git2", "source"),
    ("sqlx", "store"),
    ("hyper", "notify"),
    ("hyper_util", "notify"),
    ("hyper_rustls", "notify"),
    ("aws_config", "provider"),
    ("aws_sdk_kms", "provider"),
    ("aws_sdk_resourcegroupstagging", "provider"),
    ("clap", "cli"),
];

#[test]
fn imports_point_down() {
    check(|file, found| {
        let Some(from) = layer(&file.module) else {
            found(1, format!("the module `{}` is in no layer: add it to LAYERS in {}", file.module, file!()));
            return;
        };
        for (line, to) in file.imports() {
            if to == file.module {
                continue;
            }
            match layer(&to) {
                None => found(line, format!("`crate::{to}` is in no layer: import a module's item from that module")),
                Some(below) if below > from => {}
                Some(beside) if beside == from => {
                    found(line, format!("`{}` and `{to}` are one layer: they must not know each other", file.module));
                }
                Some(_) => found(line, format!("`{}` imports `{to}`, which stands above it", file.module)),
            }
        }
    });
}

#[test]
fn the_core_is_pure() {
    check(|file, found| {
        if file.is_test || !PURE_CORE.contains(&file.module.as_str()) {
            return;
        }
        for path in file.paths.iter().filter(|path| !path.in_test) {
            if let Some(impure) = IMPURE.iter().find(|impure| path.names(impure)) {
                found(path.line, format!("`{}` is pure: no `{impure}`", file.module));
            }
        }
        for token in file.tokens.iter().filter(|token| token.text == "async" && !token.in_test) {
            found(token.line, format!("`{}` is pure: no `async`", file.module));
        }
    });
}

#[test]
fn each_outside_thing_is_known_to_one_module() {
    check(|file, found| {
        for path in file.paths.iter().filter(|path| !path.in_test && !file.is_test) {
            for (outside, owner) in ONLY_IN.iter().filter(|(_, owner)| *owner != file.module) {
                if path.names(outside) {
                    found(path.line, format!("`{outside}` belongs to `{owner}`, not to `{}`", file.module));
                }
            }
        }
    });
}

#[test]
fn nothing_is_left_undone_and_no_lint_is_silenced_without_a_reason() {
    check(|file, found| {
        let texts: Vec<&str> = file.tokens.iter().map(|token| token.text.as_str()).collect();
        for (window, token) in texts.windows(3).zip(&file.tokens) {
            match window {
                ["todo" | "unimplemented" | "dbg", "!", _] => found(token.line, format!("`{}!`", window[0])),
                ["[", "allow", "("] => found(token.line, "`allow`: use `expect` with a reason".to_owned()),
                _ => {}
            }
        }
    });
}

#[test]
fn the_reader_knows_groups_comments_literals_and_tests() {
    let text = r##"
        //! crate::commented
        /* crate::also /* nested */ crate::commented */
        use crate::model::{Name, Address};
        use crate::{plan::{self, Plan}, store as s, provider};
        use super::sibling;
        const A: &str = "crate::quoted \" crate::quoted";
        const B: &str = r#"crate::raw " crate::raw"#;
        const C: (char, char) = ('"', '\'');
        fn f<'a>(x: &'a str) { std::env::var(x); crate::engine::run(); }
        use std::{fs, io::{self, Read}};
        #[cfg(test)]
        mod tests { use super::*; use super::super::cli; use std::process; }
    "##;
    let file = SourceText::new("render", 1, false, text);
    let imports: BTreeSet<String> = file.imports().into_iter().map(|(_, to)| to).collect();
    let expected = ["cli", "engine", "model", "plan", "provider", "sibling", "store"];
    assert_eq!(imports.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let named = |name: &str| file.paths.iter().find(|path| path.names(name)).map(|path| (path.line, path.in_test));
    assert_eq!(named("std::env"), Some((10, false)));
    assert_eq!(named("std::fs"), Some((11, false)));
    assert_eq!(named("std::process"), Some((13, true)));
    assert_eq!(named("std::net"), None);
}

/// Runs a rule over every file of `src/`, and fails with all that it found.
fn check(rule: impl Fn(&SourceText, &mut dyn FnMut(u32, String))) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    assert!(files.len() > 10, "src/ was not found");
    let mut report = String::new();
    for path in files {
        let relative = path.strip_prefix(root).unwrap();
        let Some((module, depth, is_test)) = module_of(relative) else { continue };
        let file = SourceText::new(&module, depth, is_test, &fs::read_to_string(&path).unwrap());
        rule(&file, &mut |line, message| writeln!(report, "{}:{line}: {message}", relative.display()).unwrap());
    }
    assert!(report.is_empty(), "\n{report}");
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

/// The top module of a file, how deep the file's own module is below the crate, and whether it holds tests alone. None
/// for the crate's roots.
fn module_of(path: &Path) -> Option<(String, usize, bool)> {
    let mut names: Vec<&str> = path.iter().skip(1).map(|name| name.to_str().unwrap()).collect();
    let file = names.pop()?.strip_suffix(".rs")?;
    if names.is_empty() && matches!(file, "lib" | "main") {
        return None;
    }
    if file != "mod" {
        names.push(file);
    }
    Some(((*names.first()?).to_owned(), names.len(), names.contains(&"tests")))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// One file, as far as the rules need it.
struct SourceText {
    module: String,
    /// How many modules the file's own is below the crate.
    depth: usize,
    is_test: bool,
    tokens: Vec<Token>,
    paths: Vec<CodePath>,
}

/// An identifier or a single character of punctuation.
#[derive(Clone)]
struct Token {
    line: u32,
    text: String,
    /// Is it inside `#[cfg(test)]`?
    in_test: bool,
    /// How many inline modules it is in.
    inline: usize,
}

/// A path as it is written, with each member of a group on its own.
struct CodePath {
    line: u32,
    names: Vec<String>,
    in_test: bool,
    inline: usize,
}

impl CodePath {
    /// Does it name this? A crate or `std::fs` at its beginning, `Utc::now` wherever it ends.
    fn names(&self, wanted: &str) -> bool {
        let wanted: Vec<&str> = wanted.split("::").collect();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        // One name alone may be a variable.
        if wanted.len() == 1 {
            names.len() > 1 && names[0] == wanted[0]
        } else {
            names.starts_with(&wanted) || names.ends_with(&wanted)
        }
    }
}

impl SourceText {
    fn new(module: &str, depth: usize, is_test: bool, text: &str) -> Self {
        let tokens = tokens(text);
        let mut paths = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let begins = is_name(&tokens[at].text) && (at == 0 || tokens[at - 1].text != ":");
            at = if begins { read_path(&tokens, at, &[], &mut paths) } else { at + 1 };
        }
        Self { module: module.to_owned(), depth, is_test, tokens, paths }
    }

    /// The modules at the top of the crate that the file names, through `crate::` or enough `super::`.
    fn imports(&self) -> Vec<(u32, String)> {
        let mut imports = Vec::new();
        for path in &self.paths {
            let supers = path.names.iter().take_while(|name| *name == "super").count();
            let below_crate = match path.names.first().map(String::as_str) {
                Some("crate") => &path.names[1..],
                Some("super") if supers >= self.depth + path.inline => &path.names[supers..],
                _ => continue,
            };
            if let Some(name) = below_crate.first().filter(|name| *name != "self") {
                imports.push((path.line, name.clone()));
            }
        }
        imports
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads the path that begins at a token, with its groups, and gives the token after it.
fn read_path(tokens: &[Token], mut at: usize, before: &[String], paths: &mut Vec<CodePath>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut names = before.to_vec();
    let first = &tokens[at];
    while is_name(text(at)) || text(at) == "*" {
        names.push(text(at).to_owned());
        at += 1;
        if text(at) != ":" || text(at + 1) != ":" {
            break;
        }
        at += 2;
        if text(at) == "{" {
            at += 1;
            while at < tokens.len() && text(at) != "}" {
                at = if is_name(text(at)) || text(at) == "*" { read_path(tokens, at, &names, paths) } else { at + 1 };
                if text(at) == "as" {
                    at += 2;
                }
            }
            return at + 1;
        }
    }
    paths.push(CodePath { line: first.line, names, in_test: first.in_test, inline: first.inline });
    at.max(1)
}

/// The tokens of a file, without comments and literals.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut blocks: Vec<(bool, bool)> = Vec::new(); // of tests, a module
    let mut pending_test = false;
    let (mut rest, mut line) = (text, 1);
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest).or_else(|| c.is_whitespace().then(|| c.len_utf8()));
        let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(skipped.unwrap_or(word.max(c.len_utf8())));
        if skipped.is_none() {
            let last = |back: usize| tokens.len().checked_sub(back).map_or("", |at| tokens[at].text.as_str());
            match token {
                "{" => blocks.push((std::mem::take(&mut pending_test), last(2) == "mod")),
                "}" => drop(blocks.pop()),
                ";" => pending_test = false,
                "]" if [last(6), last(5), last(4), last(3), last(2), last(1)]
                    == ["#", "[", "cfg", "(", "test", ")"] =>
                {
                    pending_test = true;
                }
                _ => {}
            }
            tokens.push(Token {
                line,
                text: token.to_owned(),
                in_test: pending_test || blocks.iter().any(|(test, _)| *test),
                inline: blocks.iter().filter(|(_, module)| *module).count(),
            });
        }
        line += u32::try_from(token.matches('\n').count()).unwrap();
        rest = after;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the comment, literal or lifetime that a text begins with.
fn literal_or_comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        let (mut depth, mut at) = (0, 0);
        while at < text.len() {
            let ahead = &text.as_bytes()[at..];
            match ahead {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        return Some(at);
    }
    let raw = text.trim_start_matches(['b', 'c']).strip_prefix('r');
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(body) = raw[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let closed = body.find(&end).map_or(body.len(), |at| at + end.len());
            return Some(text.len() - body.len() + closed);
        }
    }
    let plain = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let prefix = text.len() - plain.len();
    if let Some(body) = plain.strip_prefix('"') {
        return Some(prefix + 1 + until_quote(body, '"'));
    }
    if let Some(body) = plain.strip_prefix('\'') {
        let mut chars = body.chars();
        let (first, second) = (chars.next(), chars.next());
        if first == Some('\\') || second == Some('\'') {
            return Some(prefix + 1 + until_quote(body, '\''));
        }
        let name = body.find(|c: char| !is_word(c)).unwrap_or(body.len());
        return Some(prefix + 1 + name);
    }
    None
}

/// The length up to and with the closing quote.
fn until_quote(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    body.len()
}
