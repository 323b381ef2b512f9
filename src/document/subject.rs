//! A document under examination: findings about its fields, each at the field's own place.

use std::collections::BTreeMap;

use super::defaults::Layer;
use super::read::Document;
use super::schema::Step;
use super::tree::{Entry, Span};
use super::validate;
use super::{Inherited, MAX_FINDINGS, Places};
use crate::diagnostic::{Finding, Place, Related};
use crate::model::Severity;

/// A document, the layers that it inherits from, and what was found so far.
pub(super) struct Subject<'a, 't> {
    pub document: &'a Document<'t>,
    pub inherited: &'a BTreeMap<String, Inherited>,
    pub layers: &'a [Layer<'a, 't>],
    pub findings: Vec<Finding>,
}

impl<'a, 't> Subject<'a, 't> {
    pub(super) fn new(
        document: &'a Document<'t>,
        inherited: &'a BTreeMap<String, Inherited>,
        layers: &'a [Layer<'a, 't>],
    ) -> Self {
        Self { document, inherited, layers, findings: Vec::new() }
    }

    /// An error about a top-level field.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        field: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Finding::error(code, message).help(help), &[Step::Field(field)]);
    }

    /// A warning about a top-level field.
    pub(super) fn warning(
        &mut self,
        code: &'static str,
        field: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Finding::warning(code, message).help(help), &[Step::Field(field)]);
    }

    /// A finding about what is at `path`, or, where the document does not say it, at its first line.
    pub(super) fn add(&mut self, finding: Finding, path: &[Step<'_>]) {
        if self.findings.len() >= MAX_FINDINGS {
            return;
        }
        let mut finding = about(self.document, finding, path);
        finding.related = self.origin(path);
        self.findings.push(finding);
    }

    /// Where an inherited field was set.
    fn origin(&self, path: &[Step<'_>]) -> Option<Related> {
        let Some(Step::Field(field)) = path.first() else { return None };
        let origin = self.inherited.get(*field)?;
        let layer = self.layers.iter().find(|layer| layer.origin == *origin)?;
        let inner: Vec<Step<'_>> = std::iter::once(Step::Field("defaults")).chain(path.iter().copied()).collect();
        let (_, span) = validate::find(&layer.document.root, &inner)?;
        Some(layer.document.text.related(span, format!("`{field}` is inherited from here")))
    }

    /// Has any of the findings the weight of an error?
    pub(super) fn failed(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// A finding about what is at `path` of a document, or, where the document does not say it, at its first line.
pub(super) fn about(document: &Document<'_>, finding: Finding, path: &[Step<'_>]) -> Finding {
    let mut finding = document.text.at(finding, span_of(document, path));
    finding.object.clone_from(&document.object);
    finding.tenant_id.clone_from(&document.folder);
    finding
}

/// Where a document says what is at `path`, or else its first line.
pub(super) fn span_of(document: &Document<'_>, path: &[Step<'_>]) -> Span {
    validate::find(&document.root, path).map_or_else(|| document.first_line(), |(_, span)| span)
}

/// The places of a document's top-level fields: of the value, or of the key where the value is a block.
pub(super) fn places(document: &Document<'_>) -> Places {
    document.root.entries().iter().map(|entry| (Box::from(&*entry.key), place(document, entry))).collect()
}

/// The places of the fields of `keywheel.yaml`, and of the fields of each: `limits`, `limits.max_rotations`.
pub(super) fn setting_places(document: &Document<'_>) -> Places {
    let mut places = Vec::new();
    for part in document.root.entries() {
        places.push((Box::from(&*part.key), place(document, part)));
        for field in part.value.entries() {
            places.push((format!("{}.{}", part.key, field.key).into(), place(document, field)));
        }
    }
    places.into_iter().collect()
}

fn place(document: &Document<'_>, entry: &Entry<'_>) -> Place {
    document.text.place(if validate::is_block(&entry.value) { entry.key_span } else { entry.value.span })
}
