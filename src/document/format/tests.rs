//! Properties of the layout, on texts that nobody would write and YAML allows.

use proptest::prelude::*;

use super::*;

/// Documents as the YAML of the house has them, and some as only the rules of YAML allow them.
const SAMPLES: [&str; 6] = [
    "apiVersion: keywheel/v1\nkind: RotationPolicy\npolicy_name: a\ntenant_id: b\nwaivers:\n- rule: x\n  until: \"2027-01-01\"\n- rule: y\nemail: [a, {b: c}, []]\n",
    "a:\n  b:\n    c: |\n      text\n       more\n\n    d: >\n      folded\n      text\n  e: [x,\n   y]\nf:\n- - 1\n  - 2\n-\n  - 3\n- g: 1\n  h: 2\n",
    "kind: EncryptionKey\ntags: {a: \"1\", b: 'it''s', \"c d\": ~}\nkey_name: \"x: y\"\ndescription: plain over\n  two lines\n",
    "- a\n- b: |+\n    kept\n\n- c: >+\n    kept\n\n- \"multi\n  line\"\n- 'x\n\n  y'\n",
    "a: 1\n---\nb: 2\n...\n---\n{c: 3}\n---\n- d\n",
    "? a\n: b\nc: ? d\n",
];

/// A line or a piece of one, and where it goes.
fn insertions() -> impl Strategy<Value = Vec<(f64, String, bool)>> {
    let pieces = prop::sample::select(vec![
        "# c",
        "  # in",
        "    # further in",
        "#",
        "#!x",
        "",
        " # beside",
        " # > beside -",
        "x: 1",
        "  y: 2",
        "- z",
        "  - w",
        "---",
        "...",
        "k: |2-\n    t\n",
        "k: >-\n\n  t\n\n  u\n",
        "k: |\n\n\n",
        "k: \"\\x41\\n\"",
        "k: ''",
        "k: 010",
        "k: 02:00",
        "k: -",
        "k: [ ]",
        "k: {a: [b, {c: d}]}",
        "\t",
        " ",
        "k: é ü",
        "k: a  b",
        "k:\n  # c\n  v",
        "k: >2\n    t\n   u\n",
    ]);
    prop::collection::vec((0.0..1.0f64, pieces.prop_map(str::to_owned), any::<bool>()), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn laying_out_twice_is_laying_out_once_and_nothing_is_lost(sample in 0..SAMPLES.len(), insertions in insertions()) {
        let mut lines: Vec<String> = SAMPLES[sample].lines().map(str::to_owned).collect();
        for (at, piece, beside) in insertions {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "any place will do")]
            let at = (lines.len() as f64 * at) as usize;
            match lines.get_mut(at).filter(|_| beside) {
                Some(line) => *line += &piece,
                None => lines.insert(at, piece),
            }
        }
        let text = lines.join("\n") + "\n";
        check(&text)?;
    }
}

/// Without directives, what is laid out always means the same, so that nothing ever has to stay as it was.
fn check(text: &str) -> Result<(), TestCaseError> {
    let stream = tree::parse(text);
    if !stream.problems.is_empty() || text.lines().any(|line| line.starts_with('%')) {
        return Ok(());
    }
    let Some(read) = read::read(text) else { return Err(TestCaseError::fail(format!("{text:?} is not read"))) };
    let once = write::write(&read);
    prop_assert!(means_the_same(text, &once), "from {text:?} to {once:?}");
    let Some(read) = read::read(&once) else { return Err(TestCaseError::fail(format!("{once:?} is not read"))) };
    let twice = write::write(&read);
    prop_assert_eq!(&twice, &once, "from {:?}", text);
    let has_block_texts = once.contains(": |") || once.contains(": >") || once.contains("- |") || once.contains("- >");
    prop_assert!(has_block_texts || !once.contains("\n\n\n"), "{once:?}");
    Ok(())
}
