//! Text of documents and key managers that tries to get out of its place.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use keywheel::model::ObjectRef;
use keywheel::plan::{Action, Base, Change, Consequence, Drift, Forecast, Plan, Reason, Refusal, Waiting};
use keywheel::render::forecast;
use keywheel::render::plan::markdown::BUDGET;

use super::forms;
use super::situations::{self, Sealed, as_of, change, fields, finding, key, name, nothing, place, policy};
use crate::support::python::Script;

/// What means something to one of the readers.
const PIECES: &[&str] = &[
    "</details>",
    "<details open>",
    "</summary>",
    "-->",
    "<!--",
    "<!-- keywheel:plan:x -->",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "|",
    "\n",
    "\n\n",
    "\r\n",
    "```",
    "````",
    "`",
    "``",
    "~~~",
    "*",
    "**",
    "_",
    "__",
    "#",
    "\n# ",
    "\n## Key rotation plan: no changes\n",
    "> ",
    "- ",
    "\n- [x] ",
    "1. ",
    "[a](https://evil.example)",
    "![a](https://evil.example/p.png)",
    "https://evil.example",
    "www.evil.example",
    "evil@evil.example",
    "@org/team",
    "@somebody",
    "#123",
    "GH-123",
    "org/repo#5",
    "!45",
    "~label",
    "%1",
    "$7",
    "&9",
    "&amp;",
    "&lt;",
    "\\",
    "\\`",
    "\\|",
    "<",
    ">",
    "&",
    "\"",
    "'",
    "]]>",
    "<![CDATA[",
    "\u{0}",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{fffe}",
    "%0A",
    "::error::x",
    ":",
    ",",
    "\n::set-output name=x::y",
    "\n/close\n",
    "{0}",
    "{{",
    "[text](1)",
    "\t",
    "  \n",
    "鍵",
    "🔑",
    "\u{300}",
    "a",
    " ",
    "$x^2$",
    "<a href=\"//evil\">",
    "javascript:alert(1)",
    "\n    ",
    "\n---\n",
    "\n===\n",
    ":warning:",
    "[^1]",
    "\n[x]: /evil\n",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![8 => prop::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A plan that says `text` wherever it can.
fn saying(text: &str) -> Plan {
    let new = json!({ "description": text, "list": [text, { "nested": text }], "key_type": text });
    let old = json!({ "description": "before", "list": [text], "key_type": "x", "provider_ref": text });
    let update = |object: ObjectRef, action| Change {
        before: fields(&old),
        after: fields(&new),
        ..change(object, action, text)
    };
    Plan {
        base: Some(Base { reference: text.to_owned(), commit: text.to_owned() }),
        not_applicable: Some(text.to_owned()),
        changes: vec![
            update(policy("www.p-1"), Action::Update),
            Change { before: None, ..update(key("GH-1"), Action::Create) },
            update(key("k"), Action::Destroy),
            change(key("r"), Action::Rotate, text),
        ],
        consequences: ["p", "k", "r"]
            .map(|of| Consequence { object: key(of), code: text.into(), message: text.into() })
            .into(),
        waiting: vec![Waiting {
            object: key("w"),
            action: Action::Rotate,
            version: None,
            reason: Reason::new("x", text),
            starts_at: Some(as_of()),
        }],
        drift: vec![Drift {
            object: key("d"),
            field: text.to_owned(),
            reason: Reason::new("x", text),
            recorded: Some(text.to_owned()),
            observed: None,
        }],
        refusals: vec![Refusal {
            code: text.to_owned(),
            message: text.to_owned(),
            help: text.to_owned(),
            place: Some(place(text, 1, 1, 1)),
        }],
        left_out: [(name("t"), text.to_owned())].into(),
        diagnostics: vec![finding(text)],
        ..nothing()
    }
    .sealed()
}

#[test]
fn nothing_breaks_out_of_its_place() {
    let mut runner = TestRunner::deterministic();
    let alone = PIECES.iter().map(|piece| (*piece).to_owned());
    let twice = PIECES.iter().map(|piece| format!("{piece}x{piece}"));
    let mixed: Vec<String> = (0..150).map(|_| text().new_tree(&mut runner).unwrap().current()).collect();
    stay_in_their_places(alone.chain(twice).chain(mixed), saying);
}

#[test]
fn a_plan_without_a_base_says_why_it_is_only_read() {
    stay_in_their_places(PIECES.iter().map(|piece| (*piece).to_owned()), |text| Plan { base: None, ..saying(text) });
}

/// Whatever the texts are, every form has the elements, headings, cases and results that harmless text has.
fn stay_in_their_places(texts: impl Iterator<Item = String>, plan: fn(&str) -> Plan) {
    let mut review = Script::start("review.py");
    let mut look = |form: &str, text: &str| review.ask(&json!({ "form": form, "text": text }));
    let shapes: Vec<Value> = forms(&plan("word")).iter().map(|(form, text)| look(form, text)).collect();
    for text in texts.filter(|text| !text.trim().is_empty()) {
        for ((form, drawn), harmless) in forms(&plan(&text)).iter().zip(&shapes) {
            let opinion = look(form, drawn);
            assert_eq!(opinion["problems"], json!([]), "{text:?} as {form}:\n{drawn}");
            assert_eq!(opinion["shape"], harmless["shape"], "{text:?} as {form}:\n{drawn}");
        }
    }
}

/// A forecast that says `text` wherever it can.
fn forecast(text: &str) -> Forecast {
    let mut forecast = situations::forecast();
    for entry in &mut forecast.entries {
        entry.held_by = Some(text.to_owned());
    }
    for problem in &mut forecast.problems {
        (problem.message, problem.help) = (text.to_owned(), text.to_owned());
    }
    for idle in &mut forecast.idle {
        (idle.message, idle.keys) = (text.to_owned(), vec![text.to_owned()]);
    }
    forecast
}

#[test]
fn nothing_breaks_out_of_its_place_in_a_forecast() {
    let mut review = Script::start("review.py");
    let mut look = |form: &str, text: &str| review.ask(&json!({ "form": form, "text": text }));
    let drawn = |text: &str| {
        let forecast = forecast(text);
        [("document", forecast::markdown::draw(&forecast)), ("html", forecast::page::draw(&forecast))]
    };
    let shapes: Vec<Value> = drawn("word").iter().map(|(form, text)| look(form, text)).collect();
    for text in PIECES.iter().filter(|text| !text.trim().is_empty()) {
        for ((form, drawn), harmless) in drawn(text).iter().zip(&shapes) {
            let opinion = look(form, drawn);
            assert_eq!(opinion["problems"], json!([]), "{text:?} as {form}:\n{drawn}");
            assert_eq!(opinion["shape"], harmless["shape"], "{text:?} as {form}:\n{drawn}");
        }
    }
}

#[test]
fn nothing_makes_an_event_of_its_own_in_a_calendar() {
    let mut reader = Script::start("calendar_file.py");
    let harmless = reader.ask(&json!(forecast::calendar::draw(&forecast("word"))));
    for text in PIECES
        .iter()
        .chain(&["\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nSUMMARY:all is well\r\n", "\nATTACH:https://evil.example\n"])
    {
        let drawn = forecast::calendar::draw(&forecast(text));
        let read = reader.ask(&json!(drawn));
        let seen = |calendar: &Value, of: &str| -> Vec<Value> {
            calendar["events"].as_array().unwrap().iter().map(|event| event[of].clone()).collect()
        };
        for of in ["uid", "at", "properties"] {
            assert_eq!(seen(&read, of), seen(&harmless, of), "{text:?}:\n{drawn}");
        }
        assert!(!drawn.contains(['\u{0}', '\u{1b}', '\u{202e}']), "{text:?}:\n{drawn}");
    }
}

#[test]
fn a_comment_of_immense_texts_is_within_its_budget() {
    for piece in ["x", "<", "鍵", "`", "\n", "@a", "a b "] {
        let plan = saying(&piece.repeat(40_000));
        let many = Plan { diagnostics: vec![finding(&piece.repeat(3_000)); 300], ..plan };
        let comment = keywheel::render::plan::markdown::draw(&many);
        assert!(comment.len() <= BUDGET, "{piece:?}: {}", comment.len());
    }
}
