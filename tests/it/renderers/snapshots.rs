//! What each form says of each situation, word by word.

use keywheel::render::plan::markdown::{BUDGET, MARKER};

use super::{forms, situations};

#[test]
fn every_form_of_every_situation() {
    for (situation, plan) in situations::all() {
        for (form, text) in forms(&plan) {
            // The style of a page is not what it says.
            let text = match text.split_once("</style>") {
                Some((_, body)) if form == "html" => body.replace('>', ">\n"),
                _ => text.replace(env!("CARGO_PKG_VERSION"), "VERSION"),
            };
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(format!("{situation}.{form}"), text);
            });
        }
    }
}

#[test]
fn five_thousand_changes_fit_a_comment_and_what_is_left_out_is_counted() {
    let [_, (_, comment), (_, page), ..] = forms(&situations::thousands());
    assert!(comment.len() <= BUDGET, "{}", comment.len());
    assert!(comment.len() > BUDGET * 9 / 10, "{} of {BUDGET}: there was room", comment.len());
    assert!(comment.starts_with(MARKER), "{comment:.200}");
    let shown = |line: &str| comment.lines().filter(|text| text.starts_with(line)).count();
    let left_out: Vec<usize> = comment
        .lines()
        .filter_map(|line| {
            line.trim_start_matches("> ").strip_prefix("… and ")?.strip_suffix(" more that this has no room for.")
        })
        .map(|number| number.replace(',', "").parse().unwrap())
        .collect();
    let shown = shown("> - `") + shown("**update**") + shown("| `");
    assert_eq!(shown + left_out.iter().sum::<usize>(), 5_000, "{shown} {left_out:?}");
    let lines: Vec<&str> = comment.lines().collect();
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        let ends = [&lines[..20], &["(...)"], &lines[lines.len() - 24..]].concat().join("\n");
        insta::assert_snapshot!("thousands.markdown", ends.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    });
    for name in ["old-0000", "old-0499", "policy-1999", "key-2499"] {
        assert!(page.contains(name), "the page leaves out {name}");
    }
}
