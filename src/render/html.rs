//! The frame of every HTML page: one file that asks for nothing from anywhere, read on a screen by day and by night, and
//! printed.
//!
//! No script runs in it and no request leaves it, and its own Content-Security-Policy says so to the browser: a name in
//! a document that broke out of its place could still do nothing. Class names are the vocabulary that pages share:
//! `danger`, `warning`, `good`, `dim`, `chip`, `counts`, `meta`, `diff`, `mono`, `wide`.
//!
//! Must not know: what a page is about.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text::safe;

/// What the browser may load for a page: its own style and its empty icon, and nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A whole page. `body` begins with its `h1`.
#[must_use]
pub fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "keywheel " (env!("CARGO_PKG_VERSION")) };
                // Or a browser asks its server for one.
                link rel="icon" href="data:,";
                title { (safe(title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                footer { "keywheel " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
    .into_string()
}

/// Light and dark by the reader's setting, dark letters on white in print. Every pair of colours has a contrast of at
/// least 4.5:1 (WCAG 2.2, 1.4.3).
const STYLE: &str = include_str!("html/page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loads_nothing_and_runs_nothing() {
        let page = page("A plan", &html! { h1 { "A plan" } });
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{page}");
        for way_out in ["<script", "http://", "https://", "@import", "url(", "src="] {
            assert!(!page.contains(way_out), "{way_out}: {page}");
        }
    }

    #[test]
    fn a_title_from_a_document_stays_a_title() {
        let page = page("</title><script>alert(1)</script>\u{202e}", &html! {});
        assert!(page.contains("<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}</title>"), "{page}");
    }
}
