//! Any tree and any edits have the ids that git gives them.

use proptest::prelude::*;

use super::*;

/// What a generated step does to a file.
#[derive(Debug, Clone)]
enum Edit {
    Write(Vec<u8>),
    Remove,
    Stage,
}

fn path() -> impl Strategy<Value = String> {
    let folder = prop::sample::select(vec!["a.d/", "a.b.d/", "a-b.d/", "ab.d/", "z.d/"]);
    let name = prop::sample::select(vec!["a", "a.yaml", "b", "a-b.yaml", "zz"]);
    (prop::collection::vec(folder, 0..3), name)
        .prop_map(|(folders, name)| format!("policies/{}{name}", folders.concat()))
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..12).prop_map(Edit::Write),
        1 => Just(Edit::Remove),
        1 => Just(Edit::Stage),
    ]
}

proptest! {
    // Each case runs a dozen git processes.
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_has_the_ids_of_git_whatever_was_committed_edited_and_staged(
        committed in prop::collection::vec((path(), prop::collection::vec(any::<u8>(), 0..20)), 1..8),
        edits in prop::collection::vec((path(), edit()), 0..8),
        autocrlf in prop::sample::select(vec!["false", "input"]),
    ) {
        let fixture = Fixture::empty();
        fixture.git(&["config", "core.autocrlf", autocrlf]);
        for (path, content) in &committed {
            fixture.write(path, content);
        }
        fixture.commit("first");
        let clean = fixture.worktree();
        prop_assert_eq!(&clean.dirty, &Vec::<String>::new());
        prop_assert_eq!(&clean.policies_tree, &Some(fixture.id("HEAD:policies")));
        prop_assert_eq!(&clean.policies_tree, &fixture.repo().read_ref("HEAD").unwrap().policies_tree);
        for (path, edit) in &edits {
            match edit {
                Edit::Write(content) => fixture.write(path, content),
                Edit::Remove => drop(fs::remove_file(fixture.top.join(path))),
                Edit::Stage => drop(fixture.git(&["add", "--all"])),
            }
        }
        let expected = fixture.would_be_tree();
        match fixture.repo().read_worktree() {
            Ok(snapshot) => prop_assert_eq!(snapshot.policies_tree, expected),
            Err(e) => prop_assert!(false, "{}", e),
        }
    }
}
