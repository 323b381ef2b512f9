//! The canonical layout.

use keywheel::document;

use super::{KEY, POLICY, file, load, summary};

fn laid_out(text: &str) -> String {
    document::format(&file("policies/acme/all.yaml", text)).unwrap()
}

#[test]
fn fields_come_in_the_order_of_the_schema_and_quotes_where_they_are_needed() {
    let text = "\
# yaml-language-server: $schema=../../schema/keywheel.v1.json
kind:   RotationPolicy
apiVersion: 'keywheel/v1'
rotation_windows:
- {days: [ \"sat\" , sun], start: '01:00', end: 05:00}
policy_name:   \"quarterly\"  # four times a year
# the class of data
key_type: system_data
tenant_id:
    acme
rotation_interval_days: 90
description: \"no\"
";
    assert_eq!(
        laid_out(text),
        "\
# yaml-language-server: $schema=../../schema/keywheel.v1.json
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: quarterly # four times a year
description: \"no\"
# the class of data
key_type: system_data
rotation_interval_days: 90
rotation_windows:
  - {days: [sat, sun], start: \"01:00\", end: \"05:00\"}
"
    );
}

#[test]
fn comments_and_empty_lines_stay_where_they_belong() {
    let text = "\
# The house's policies.


apiVersion: keywheel/v1
kind: RotationPolicy

# -- who
tenant_id: acme
policy_name: quarterly # four times
key_type: system_data
notification_settings:   # who hears of it
    # the team
    email:
      - a@example.org   # on call
      # the manager
      - b@example.org
      # nobody else

    # not yet: slack_webhook
rotation_interval_days: 90
# the end
---
# a key
apiVersion: keywheel/v1
kind: EncryptionKey
";
    assert_eq!(
        laid_out(text),
        "\
# The house's policies.

apiVersion: keywheel/v1
kind: RotationPolicy

# -- who
tenant_id: acme
policy_name: quarterly # four times
key_type: system_data
notification_settings: # who hears of it
  # the team
  email:
    - a@example.org # on call
    # the manager
    - b@example.org
    # nobody else

  # not yet: slack_webhook
rotation_interval_days: 90
# the end
---
# a key
apiVersion: keywheel/v1
kind: EncryptionKey
"
    );
}

#[test]
fn texts_of_several_lines_keep_their_lines() {
    let text = "a: |\n    one\n      two\n\n    three\nb: >-\n    folded\n    text\n\n    more\nc: |+\n  kept\n\n\nd: \"one\\ntwo\"\ne: 'it''s'\nf: plain over\n  two lines\n";
    assert_eq!(
        laid_out(text),
        "a: |\n  one\n    two\n\n  three\nb: >-\n  folded\n  text\n\n  more\nc: |+\n  kept\n\n\nd: \"one\\ntwo\"\ne: it's\nf: plain over two lines\n"
    );
}

#[test]
fn a_collection_in_brackets_stays_so_while_it_fits_on_a_line() {
    assert_eq!(laid_out("a: [1,\n  2]\nb: { }\nc: []\n"), "a: [1, 2]\nb: {}\nc: []\n");
    assert_eq!(laid_out("a: [1, # one\n  2]\n"), "a:\n  - 1 # one\n  - 2\n");
    let long = format!("a: [{}]\n", ["abcdefghijklmnopqrst"; 6].join(", "));
    assert_eq!(laid_out(&long), format!("a:\n{}", "  - abcdefghijklmnopqrst\n".repeat(6)));
}

#[test]
fn documents_are_separated_and_nothing_empty_is_left() {
    assert_eq!(laid_out("---\na: 1\n...\n---\n---\n# b\nb: 2\n\n\n"), "a: 1\n---\n# b\nb: 2\n");
    assert_eq!(laid_out("\u{feff}a: 1\r\nb: 2"), "a: 1\nb: 2\n");
    assert_eq!(laid_out("# only\n# comments"), "# only\n# comments\n");
    assert_eq!(laid_out(""), "");
}

#[test]
fn fields_keep_their_order_where_a_comment_could_belong_to_two_of_them() {
    for text in [
        "# about this document, or about its kind?\nkind: RotationPolicy\napiVersion: keywheel/v1\n",
        "kind: RotationPolicy\n# a group of fields\n\napiVersion: keywheel/v1\n",
        "kind: RotationPolicy\napiVersion: keywheel/v1\n# the end\n",
    ] {
        assert_eq!(laid_out(text), text);
    }
}

#[test]
fn what_is_not_yaml_is_not_laid_out() {
    let findings = document::format(&file("policies/acme/all.yaml", format!("{POLICY}a: &x 1\nb: [\n"))).unwrap_err();
    assert_eq!(
        summary(&findings),
        ["yaml/anchor policies/acme/all.yaml:7:4", "yaml/syntax policies/acme/all.yaml:8:4"]
    );
}

#[test]
fn a_text_with_directives_stays_as_it_is() {
    let text = "%YAML 1.2\n---\na:   1\n";
    assert_eq!(laid_out(text), text);
}

#[test]
fn a_document_that_was_laid_out_loads_as_before() {
    let text = format!("{POLICY}notification_settings:\n    email: ['a@example.org']\n---\n{KEY}");
    let before = load(&[file("policies/acme/all.yaml", &text)]);
    let after = load(&[file("policies/acme/all.yaml", laid_out(&text))]);
    let values =
        |loaded: &document::Loaded| loaded.repository.policies.values().map(|it| it.value.clone()).collect::<Vec<_>>();
    assert_eq!(values(&before), values(&after));
}
