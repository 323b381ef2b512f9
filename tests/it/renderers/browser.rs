//! The page, and the comment, as Chromium shows them: what a reader sees first, by day and by night, on a telephone, on
//! paper.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use keywheel::render::plan::{markdown, page};
use serde_json::{Value, json};

use super::situations;
use crate::support::python::{Script, python};

/// The height of a window on a small laptop: what is above it is seen without scrolling.
const FOLD: f64 = 800.0;

#[test]
fn a_page_is_pleasant_wherever_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut browser = Script::start("browser.py");
    for (situation, plan) in situations::all() {
        let file = folder.path().join(format!("{situation}.html"));
        std::fs::write(&file, page::draw(&plan)).unwrap();
        let mut backs = Vec::new();
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")] {
            let seen = browser.ask(&json!({
                "page": file, "width": width, "height": FOLD, "scheme": scheme, "look_at": ["h1", "#destruction", "#refused"]
            }));
            let at = format!("{situation}, {width} wide, {scheme}");
            is_quiet(&seen, &file, &at);
            assert!(seen["contrast"].as_f64().unwrap() >= 4.5, "{at}: {} {}", seen["contrast"], seen["palest"]);
            let text = seen["text"].as_str().unwrap();
            for change in plan.changes.iter().take(3) {
                assert!(
                    text.contains(&change.object.to_string()) || plan.changes.len() > 25,
                    "{at}: {}",
                    change.object
                );
            }
            let loses = plan.changes.iter().any(|change| change.action.is_destructive());
            let destruction = &seen["places"]["#destruction"];
            assert_eq!(destruction.is_object(), loses, "{at}");
            if loses {
                assert!(destruction["top"].as_f64().unwrap() < FOLD - 100.0, "{at}: {destruction}");
            }
            backs.push(seen["back"].clone());
        }
        assert_ne!(backs[0], backs[1], "{situation}: night is as bright as day");
    }
}

#[test]
fn on_paper_nothing_is_folded_away() {
    let folder = tempfile::tempdir().unwrap();
    let (file, paper) = (folder.path().join("plan.html"), folder.path().join("plan.pdf"));
    std::fs::write(&file, page::draw(&situations::refused())).unwrap();
    let mut browser = Script::start("browser.py");
    let on_screen = browser.ask(&json!({ "page": file, "scheme": "dark" }));
    assert!(!on_screen["text"].as_str().unwrap().contains("key-0200"), "201 rows are folded on a screen");
    let printed = browser.ask(&json!({ "page": file, "scheme": "dark", "media": "print", "print": paper }));
    assert!(printed["text"].as_str().unwrap().contains("key-0200"), "a fold cannot be opened on paper");
    assert_eq!(printed["back"], "rgb(255, 255, 255)");
    assert!(std::fs::read(paper).unwrap().starts_with(b"%PDF"));
}

#[test]
fn a_forecast_is_pleasant_wherever_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut browser = Script::start("browser.py");
    let forecast = situations::forecast();
    let (file, paper) = (folder.path().join("forecast.html"), folder.path().join("forecast.pdf"));
    std::fs::write(&file, keywheel::render::forecast::page::draw(&forecast)).unwrap();
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")] {
        let ask = json!({ "page": file, "width": width, "height": FOLD, "scheme": scheme, "look_at": [".heat", "section.warning"] });
        let seen = browser.ask(&ask);
        let at = format!("{width} wide, {scheme}");
        is_quiet(&seen, &file, &at);
        assert!(seen["contrast"].as_f64().unwrap() >= 4.5, "{at}: {} {}", seen["contrast"], seen["palest"]);
        let top = |of: &str| seen["places"][of]["top"].as_f64().unwrap();
        assert!(top("section.warning") < top(".heat"), "what goes wrong comes first: {}", seen["places"]);
        assert!(width == 400 || top(".heat") < FOLD - 100.0, "{at}: {}", seen["places"]);
    }
    let printed = browser.ask(&json!({ "page": file, "media": "print", "print": paper }));
    assert_eq!(printed["back"], "rgb(255, 255, 255)");
    assert!(std::fs::read(paper).unwrap().starts_with(b"%PDF"));
}

#[test]
fn a_comment_shows_what_is_lost_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut browser = Script::start("browser.py");
    for width in [900, 400] {
        let file = folder.path().join("comment.html");
        std::fs::write(&file, rendered(&markdown::draw(&situations::pull_request()))).unwrap();
        let seen = browser.ask(&json!({ "page": file, "width": width, "height": FOLD, "look_at": [".caution", "h3"] }));
        is_quiet(&seen, &file, &format!("{width} wide"));
        let top = |of: &str| seen["places"][of]["top"].as_f64().unwrap();
        assert!(top(".caution") < FOLD - 100.0 && top(".caution") < top("h3"), "{}", seen["places"]);
        assert!(!seen["text"].as_str().unwrap().contains("keywheel:plan"), "the marker is for machines");
    }
}

#[test]
fn the_comment_among_the_examples_is_what_keywheel_writes() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci/pull-request-comment.md");
    let written = markdown::draw(&situations::pull_request());
    assert!(
        std::fs::read_to_string(&example).unwrap_or_default() == written,
        "write it to {}, and make its picture with tests/oracle/comment.py:\n{written}",
        example.display()
    );
    let picture = std::fs::metadata(example.with_extension("png")).unwrap();
    assert!(picture.len() < 150_000, "{}", picture.len());
}

/// No message on the console, nothing asked for but the file, nothing wider than the window.
fn is_quiet(seen: &Value, file: &Path, at: &str) {
    assert_eq!(seen["console"], json!([]), "{at}");
    let asked_for: Vec<&str> = seen["asked_for"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let own = format!("file://{}", file.display());
    assert!(asked_for.iter().all(|url| *url == own || *url == "data:,"), "{at}: {asked_for:?}");
    assert!(seen["width"].as_i64() <= seen["seen_width"].as_i64(), "{at}: {}", seen["sticks_out"]);
}

/// The comment as a page.
fn rendered(comment: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/comment.py");
    let mut process = Command::new(python())
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(comment.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
