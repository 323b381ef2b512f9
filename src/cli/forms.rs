//! `--format` of commands whose result has many readers: people, pull requests, CI systems.

use clap::{Args, ValueEnum};

use crate::diagnostic::Finding;
use crate::model::Timestamp;
use crate::plan::{Plan, Saved};
use crate::render::{View, github, gitlab, junit, notices, plan, sarif};

use super::error::CliError;
use super::output;

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A person at a terminal
    Text,
    /// A program
    Json,
    /// A comment on a pull request, which the next run replaces
    Markdown,
    /// A page to read and to print
    Html,
    /// Code scanning
    Sarif,
    /// CI systems that show test results
    Junit,
    /// The annotations of GitHub Actions
    Github,
    /// The code quality report of GitLab
    Gitlab,
}

/// `--format` of a plan, and of a check.
#[derive(Debug, Clone, Copy, Args)]
pub struct FormArg {
    /// Write the result to standard output as text, json, markdown (a pull request's comment), html, sarif, junit, github
    /// (annotations of GitHub Actions) or gitlab (a code quality report)
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub format: Form,
}

impl FormArg {
    /// Is it JSON?
    pub fn is_json(self) -> bool {
        self.format == Form::Json
    }

    /// Prints a plan in any form but JSON, which its saved form is.
    pub fn print(self, plan: &Plan, view: View) -> Result<(), CliError> {
        self.print_any(plan, None, view)
    }

    /// The same of a saved plan, as it stands at an instant.
    pub fn print_saved(self, saved: &Saved, now: Timestamp, view: View) -> Result<(), CliError> {
        self.print_any(&saved.plan, Some((saved, now)), view)
    }

    fn print_any(self, plan: &Plan, saved: Option<(&Saved, Timestamp)>, view: View) -> Result<(), CliError> {
        let notices = || notices::of_plan(plan);
        let text = match (self.format, saved) {
            (Form::Text | Form::Json, None) => return output::text(&plan::draw(plan, view)),
            (Form::Text | Form::Json, Some((saved, now))) => {
                return output::text(&plan::draw_saved(saved, now, view));
            }
            (Form::Markdown, None) => plan::markdown::draw(plan),
            (Form::Markdown, Some((saved, now))) => plan::markdown::draw_saved(saved, now),
            (Form::Html, None) => plan::page::draw(plan),
            (Form::Html, Some((saved, now))) => plan::page::draw_saved(saved, now),
            (Form::Sarif, _) => sarif::draw(&notices(), Some(plan)),
            (Form::Junit, _) => junit::draw(&notices(), Some(plan)),
            (Form::Github, _) => github::draw(&notices()),
            (Form::Gitlab, _) => gitlab::draw(&notices()),
        };
        output::bytes(text.as_bytes())
    }

    /// What a check of documents found, for any reader but people at a terminal and programs that read JSON.
    pub fn of_check(self, findings: &[Finding], documents: usize) -> Option<String> {
        let notices = || notices::of_findings(findings);
        Some(match self.format {
            Form::Text | Form::Json => return None,
            Form::Markdown => plan::markdown::draw_check(findings, documents),
            Form::Html => plan::page::draw_check(findings, documents),
            Form::Sarif => sarif::draw(&notices(), None),
            Form::Junit => junit::draw(&notices(), None),
            Form::Github => github::draw(&notices()),
            Form::Gitlab => gitlab::draw(&notices()),
        })
    }
}
