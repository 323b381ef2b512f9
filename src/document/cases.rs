//! Files of users' own cases: each test typed and placed, and the documents that it is about loaded as if they stood in
//! a repository.
//!
//! A document that stands in a test goes the very way of one in a file of its own, and its findings point into the test.
//!
//! Must not know: what a case expects, how a plan is made.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::kind::Kind;
use super::load::{self, ConfigPart, Parts, Purpose};
use super::read::{self, ReadFile};
use super::redact;
use super::schema::Step;
use super::text::Text;
use super::tree::{self, Node};
use super::validate;
use super::{Capabilities, Loaded, SourceFile};
use crate::diagnostic::{self, Finding, Place};
use crate::model::{KmsProvider, Name, ObjectRef, Test, Timestamp};

/// The files of the repository that a test may plan.
#[derive(Debug, Clone, Copy)]
pub struct TestSource<'s> {
    /// `keywheel.yaml`, if there is one.
    pub config: Option<&'s SourceFile>,
    /// Its path from the repository's top.
    pub config_path: &'s str,
    /// Every file under `policies/`.
    pub files: &'s [SourceFile],
}

/// One file of tests.
#[derive(Debug, Default)]
pub struct TestFile<'t> {
    /// Its tests that fit their schema.
    pub tests: Vec<GivenTest<'t>>,
    /// What is wrong with the others, and with the file.
    pub findings: Vec<Finding>,
}

/// A test, and the documents that stand in it.
#[derive(Debug)]
pub struct GivenTest<'t> {
    /// The test.
    pub test: Test,
    text: Text<'t>,
    root: Node<'t>,
}

/// Reads a file of tests.
#[must_use]
pub fn test_file(file: &SourceFile) -> TestFile<'_> {
    let mut read = TestFile::default();
    let text = match read::decode(file) {
        Ok(text) => text,
        Err(finding) => return TestFile { findings: vec![*finding], ..read },
    };
    let stream = tree::parse(text.text);
    read.findings.extend(stream.problems.into_iter().map(|problem| read::explain(&text, problem)));
    for root in stream.documents {
        match given(&text, &root) {
            Ok(given) => read.tests.push(given),
            Err(mut findings) => read.findings.append(&mut findings),
        }
    }
    read.findings.iter_mut().for_each(redact::finding);
    diagnostic::sort(&mut read.findings);
    read
}

fn given<'t>(text: &Text<'t>, root: &Node<'t>) -> Result<GivenTest<'t>, Vec<Finding>> {
    let kind = read::kind(text, root)?;
    if kind != Kind::Test {
        let finding = Finding::error("test/not-a-test", format!("a `{kind}` is no test", kind = kind.as_str()))
            .help("write `kind: Test`, with the document under `given.documents`; or move it out of this file");
        let span = root.get("kind").map_or(root.span, |kind| kind.span);
        return Err(vec![text.at(finding, span)]);
    }
    let mut fields = validate::validate(text, kind, root)?;
    fields.remove("apiVersion");
    fields.remove("kind");
    match Test::deserialize(fields).map(|test| GivenTest { test, text: text.clone(), root: root.clone() }) {
        Ok(given) => Ok(given),
        Err(error) => {
            let finding = Finding::error("schema/value", error.to_string()).help("correct the value");
            Err(vec![text.at(finding, root.span)])
        }
    }
}

impl<'t> GivenTest<'t> {
    /// Where the name of a case stands, by the case's number from 0.
    #[must_use]
    pub fn place(&self, case: usize) -> Place {
        let path = [Step::Field("cases"), Step::Index(case), Step::Field("name")];
        let (_, span) = validate::find(&self.root, &path).unwrap_or((&self.root, self.root.span));
        self.text.place(span)
    }

    /// The documents that are planned.
    #[must_use]
    pub fn given(
        &self,
        source: TestSource<'_>,
        capabilities: fn(KmsProvider) -> Capabilities,
        now: Timestamp,
    ) -> Loaded {
        self.load(source, &[], capabilities, now)
    }

    /// The documents that were applied last; none where the test names none.
    #[must_use]
    pub fn applied_before(
        &self,
        source: TestSource<'_>,
        capabilities: fn(KmsProvider) -> Capabilities,
        now: Timestamp,
    ) -> Option<Loaded> {
        let documents = self.nodes(&["recorded", "documents"]);
        (!documents.is_empty()).then(|| self.load(source, documents, capabilities, now))
    }

    /// The given documents, with those of `instead` in the place of their namesakes.
    fn load(
        &self,
        source: TestSource<'_>,
        instead: &[Node<'t>],
        capabilities: fn(KmsProvider) -> Capabilities,
        now: Timestamp,
    ) -> Loaded {
        let mut wrong = Vec::new();
        let (config, files) = self.chosen(source, &mut wrong);
        let mut parts = load::parts(config, &files);
        for node in self.nodes(&["given", "documents"]) {
            self.add(&mut parts, node);
        }
        let mut replacing = Parts::default();
        for node in instead {
            self.add(&mut replacing, node);
        }
        let names: BTreeSet<ObjectRef> =
            replacing.reads.iter().flat_map(|read| &read.outlines).map(|outline| outline.object.clone()).collect();
        for read in &mut parts.reads {
            read.documents.retain(|document| !document.object.as_ref().is_some_and(|object| names.contains(object)));
            read.outlines.retain(|outline| !names.contains(&outline.object));
        }
        parts.config = replacing.config.or(parts.config);
        parts.reads.append(&mut replacing.reads);
        parts.folders.append(&mut replacing.folders);
        let mut loaded = load::join(parts, capabilities, now, &|_, _| None, Purpose::Plan);
        loaded.findings.append(&mut wrong);
        loaded
    }

    /// The files of the repository that the test is about.
    fn chosen<'s>(
        &self,
        source: TestSource<'s>,
        wrong: &mut Vec<Finding>,
    ) -> (Option<&'s SourceFile>, Vec<&'s SourceFile>) {
        let Some(given) = &self.test.given else { return (source.config, source.files.iter().collect()) };
        let is_in = |path: &str, chosen: &str| {
            let chosen = chosen.strip_prefix("./").unwrap_or(chosen).trim_end_matches('/');
            path.strip_prefix(chosen).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        for (index, chosen) in given.files.iter().enumerate() {
            let known = source.files.iter().map(|file| file.path.as_ref());
            let known = known.chain(source.config.map(|_| source.config_path));
            if !known.into_iter().any(|path| is_in(path, chosen)) {
                let path = [Step::Field("given"), Step::Field("files"), Step::Index(index)];
                let finding = Finding::error("test/no-such-file", format!("there are no documents at `{chosen}`"))
                    .help(
                        "write the path of a file or folder from the top of the repository, such as `policies/my-team`",
                    );
                let span = validate::find(&self.root, &path).map_or(self.root.span, |(_, span)| span);
                wrong.push(self.text.at(finding, span));
            }
        }
        let is_chosen = |path: &str| given.files.iter().any(|chosen| is_in(path, chosen));
        let config = source.config.filter(|_| is_chosen(source.config_path));
        (config, source.files.iter().filter(|file| is_chosen(&file.path)).collect())
    }

    fn nodes(&self, path: &[&str]) -> &[Node<'t>] {
        let path: Vec<Step<'_>> = path.iter().map(|field| Step::Field(field)).collect();
        validate::find(&self.root, &path).map_or(&[], |(node, _)| node.items())
    }

    /// Adds a document that stands in the test, as if it stood where it belongs.
    fn add<'p>(&self, parts: &mut Parts<'p>, node: &Node<'t>)
    where
        't: 'p,
    {
        let owner = node.get("tenant_id").and_then(Node::text).and_then(|name| Name::new(name).ok());
        let kind = read::kind(&self.text, node);
        let of_a_tenant = matches!(kind, Ok(Kind::Tenant | Kind::RotationPolicy | Kind::EncryptionKey));
        let folder = owner.filter(|_| of_a_tenant);
        let mut read = ReadFile { count: 1, ..ReadFile::default() };
        match kind {
            Ok(kind) => read::document(&mut read, &self.text, kind, folder.as_ref(), node.clone()),
            Err(findings) => read.findings.extend(findings),
        }
        for finding in &mut read.findings {
            finding.tenant_id.clone_from(&folder);
        }
        if kind_of(&read) == Some(Kind::Config) {
            parts.config = Some(ConfigPart { path: self.text.path.clone(), read });
        } else {
            parts.reads.push(read);
            parts.folders.push(folder);
        }
    }
}

fn kind_of(read: &ReadFile<'_>) -> Option<Kind> {
    read.documents.first().map(|document| document.kind)
}
