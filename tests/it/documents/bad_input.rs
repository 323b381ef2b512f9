//! Bad input and what must be said about it: the code, the place, and the way out. The table is `bad_input.txt`.

use keywheel::diagnostic::Finding;
use keywheel::document::{self, SourceFile};
use keywheel::provider::capabilities;

use super::{EARLY, KEY, POLICY, file};

/// A mistake, and the one finding that it must make.
struct Bad {
    what: &'static str,
    config: Option<SourceFile>,
    files: Vec<SourceFile>,
    code: &'static str,
    /// `FILE:LINE:COLUMN`.
    at: String,
    /// A part of the help.
    help: &'static str,
    /// The code of another error that the same mistake makes.
    also: Option<&'static str>,
}

/// Reads the table.
fn table() -> Vec<Bad> {
    let text = include_str!("bad_input.txt");
    text.split("\n== ").skip(1).map(read_case).collect()
}

fn read_case(text: &'static str) -> Bad {
    let (title, rest) = text.split_once('\n').unwrap();
    let (base, what) = title.split_once(": ").unwrap();
    let (body, expected) = rest.rsplit_once("=> ").unwrap();
    let (code, rest) = expected.lines().next().unwrap().split_once(" at ").unwrap();
    let (at, help) = rest.split_once(": ").unwrap();
    let (code, also) = match code.split_once(" (and ") {
        Some((code, also)) => (code, also.strip_suffix(')')),
        None => (code, None),
    };
    let body = fill_in(body);
    let config =
        (base == "config").then(|| file("keywheel.yaml", format!("apiVersion: keywheel/v1\nkind: Config\n{body}")));
    let files = match base {
        "config" => Vec::new(),
        "repository" => body
            .split(">> ")
            .skip(1)
            .filter_map(|part| part.split_once('\n'))
            .map(|(path, text)| file(path, text))
            .collect(),
        _ => vec![file("policies/acme/all.yaml", complete(base, &body))],
    };
    let last = files.last().map_or("keywheel.yaml", |file| file.path.as_ref());
    let at = format!("{last}:{at}");
    Bad { what, config, files, code, at, help, also }
}

/// The whole file that a text is a part of.
fn complete(base: &str, body: &str) -> String {
    match base {
        "document" => body.to_owned(),
        "policy" => format!("{POLICY}{body}"),
        "key" => format!("{KEY}{body}---\n{POLICY}"),
        "aws key" => format!("{KEY}kms_provider: aws_kms\n{body}---\n{POLICY}kms_provider: aws_kms\n"),
        "tenant" => format!("apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: acme\n{body}"),
        _ => panic!("no base {base:?}"),
    }
}

/// Replaces `{policy}`, `{key}`, `{policy of TENANT}`, `{key of TENANT}` and `{x times 99}`.
fn fill_in(body: &str) -> String {
    let mut text = body.replace("{policy}\n", POLICY).replace("{key}\n", KEY);
    for tenant in ["umbrella", "zeta"] {
        text = text.replace(&format!("{{policy of {tenant}}}\n"), &POLICY.replace("acme", tenant));
        text = text.replace(&format!("{{key of {tenant}}}\n"), &KEY.replace("acme", tenant));
    }
    while let Some((before, rest)) = text.split_once(" times ") {
        let (before, letter) = before.rsplit_once('{').unwrap();
        let (count, after) = rest.split_once('}').unwrap();
        text = format!("{before}{}{after}", letter.repeat(count.parse().unwrap()));
    }
    text
}

/// What is wrong with what was found, if anything is.
fn judge(case: &Bad) -> Result<(), String> {
    let loaded = document::load(case.config.as_ref(), &case.files, capabilities, EARLY);
    let fits = |finding: &&Finding| {
        let place = finding.place.as_ref();
        finding.code == case.code
            && place.is_some_and(|place| format!("{}:{}:{}", place.file, place.line, place.column) == case.at)
            && finding.help.as_ref().is_some_and(|help| help.contains(case.help))
    };
    let explain = |why: &str| {
        let drawn = keywheel::render::findings::draw(&loaded.findings, false, 120);
        Err(format!("{}: {why}\nexpected {} at {}: {}\n{drawn}", case.what, case.code, case.at, case.help))
    };
    let Some(expected) = loaded.findings.iter().find(fits) else { return explain("it was not found") };
    let unexpected =
        |finding: &Finding| finding.is_error() && !fits(&finding) && case.also != Some(finding.code.as_ref());
    if loaded.findings.iter().any(unexpected) {
        return explain("something else was found");
    }
    let stops = loaded.repository.failed || !loaded.repository.failed_tenants.is_empty();
    if expected.is_error() && !stops {
        return explain("it stops nobody");
    }
    if !document::codes().iter().any(|(code, _)| *code == case.code) {
        return explain("its code is not documented");
    }
    Ok(())
}

#[test]
fn each_mistake_is_named_with_its_code_its_place_and_the_way_out() {
    let table = table();
    assert!(table.len() > 150, "the table has {} mistakes only", table.len());
    let wrong: Vec<String> = table.iter().filter_map(|case| judge(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
