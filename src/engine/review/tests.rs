//! What a review finds by reading as little as it can is what it finds by reading everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use git2::{IndexEntry, IndexTime, Oid, Repository, Signature};
use proptest::prelude::*;

use super::*;
use crate::source::{Repo, Snapshot};

type Files = BTreeMap<String, String>;

/// A document, by the numbers that its names have in short lists.
#[derive(Debug, Clone)]
enum Spec {
    Policy { name: usize, days: u32, aws: bool, previous: Option<usize>, style: usize },
    Key { name: usize, policy: Option<usize>, alias: Option<usize>, previous: Option<usize>, style: usize },
    Tenant { days: u32 },
    Broken { name: usize },
    Garbage,
}

const TENANTS: [&str; 3] = ["acme", "bank co", "umbrella"];
const POLICIES: [&str; 4] = ["yearly", "each day", "old one", "new one"];
const KEYS: [&str; 4] = ["one", "two three", "four", "five"];

/// A name as somebody might write it.
fn written(name: &str, style: usize) -> String {
    match style % 5 {
        0 => format!("\"{name}\""),
        1 => format!("'{name}'"),
        2 => name.replace(' ', "\n    "),
        3 => format!("\"\\x{:02x}{}\"", name.as_bytes()[0], &name[1..]),
        _ => name.to_owned(),
    }
}

fn text(tenant: &str, spec: &Spec) -> String {
    let head = |kind| format!("---\napiVersion: keywheel/v1\nkind: {kind}\ntenant_id: {tenant}\n");
    match spec {
        Spec::Policy { name, days, aws, previous, style } => {
            let name = written(POLICIES[*name], *style);
            let provider = if *aws { "aws_kms" } else { "local" };
            let days = if *days == 0 { String::new() } else { format!("rotation_interval_days: {days}\n") };
            let previous =
                previous.map_or(String::new(), |previous| format!("previous_name: {}\n", POLICIES[previous]));
            format!(
                "{}policy_name: {name}\nkey_type: t\nkms_provider: {provider}\n{days}{previous}",
                head("RotationPolicy")
            )
        }
        Spec::Key { name, policy, alias, previous, style } => {
            let name = written(KEYS[*name], *style);
            let policy = policy
                .map_or(String::new(), |policy| format!("rotation_policy: {}\n", written(POLICIES[policy], style / 5)));
            let provider = if alias.is_some() { "aws_kms" } else { "local" };
            let alias =
                alias.map_or(String::new(), |alias| format!("kms_region: eu-west-1\nkms_alias: alias/{alias}\n"));
            let previous = previous.map_or(String::new(), |previous| format!("previous_name: {}\n", KEYS[previous]));
            format!(
                "{}key_name: {name}\nkey_type: t\nkms_provider: {provider}\n{policy}{alias}{previous}",
                head("EncryptionKey")
            )
        }
        Spec::Tenant { days } => format!("{}defaults: {{rotation_interval_days: {days}}}\n", head("Tenant")),
        Spec::Broken { name } => format!("{}key_name: {}\nkey_tpye: t\n", head("EncryptionKey"), KEYS[*name]),
        Spec::Garbage => "---\nnot: [a document\n".to_owned(),
    }
}

/// A document as it stands in one of four files of a tenant: with names that no other file has, and right for the most part.
fn sound(tenant: usize, file: usize) -> impl Strategy<Value = Spec> {
    prop_oneof![
        4 => (0..3u32, 0..5usize)
            .prop_map(move |(days, style)| Spec::Policy { name: file, days, aws: false, previous: None, style }),
        4 => (prop::option::weighted(0.9, 0..4usize), 0..25usize)
            .prop_map(move |(policy, style)| Spec::Key { name: file, policy, alias: None, previous: None, style }),
        3 => (0..25usize).prop_map(move |style| {
            Spec::Key { name: file, policy: None, alias: Some(tenant * 4 + file), previous: None, style }
        }),
        2 => (1..3u32).prop_map(|days| Spec::Tenant { days }),
    ]
}

/// A document as an edit may leave it.
fn any() -> impl Strategy<Value = Spec> {
    let previous = || prop::option::weighted(0.1, 0..4usize);
    prop_oneof![
        8 => (0..4usize, 0..3u32, prop::bool::weighted(0.2), previous(), 0..5usize)
            .prop_map(|(name, days, aws, previous, style)| Spec::Policy { name, days, aws, previous, style }),
        16 => (0..4usize, prop::option::weighted(0.8, 0..4usize), prop::option::weighted(0.3, 0..12usize), previous(), 0..25usize)
            .prop_map(|(name, policy, alias, previous, style)| Spec::Key { name, policy, alias, previous, style }),
        4 => (1..3u32).prop_map(|days| Spec::Tenant { days }),
        2 => (0..4usize).prop_map(|name| Spec::Broken { name }),
        1 => Just(Spec::Garbage),
    ]
}

/// One file of the repository before: a policy and a key of its own, or less.
fn file() -> impl Strategy<Value = (String, Option<String>)> {
    (0..TENANTS.len(), 0..4usize).prop_flat_map(|(tenant, file)| {
        (sound(tenant, file), sound(tenant, file), any(), prop::bool::weighted(0.06)).prop_map(
            move |(one, two, odd, is_odd)| {
                let mut specs = vec![one];
                specs.extend(Some(two).filter(|two| std::mem::discriminant(two) != std::mem::discriminant(&specs[0])));
                specs.extend(Some(odd).filter(|_| is_odd));
                let text = specs.iter().map(|spec| text(TENANTS[tenant], spec)).collect();
                (format!("policies/{}/{file}.yaml", TENANTS[tenant]), Some(text))
            },
        )
    })
}

/// One file after: written anew, in the form of another tenant now and then, or gone.
fn edit() -> impl Strategy<Value = (String, Option<String>)> {
    let documents = prop::option::weighted(0.85, prop::collection::vec(any(), 1..4));
    (0..TENANTS.len(), 0..4usize, documents, prop::bool::weighted(0.05)).prop_map(
        |(tenant, file, documents, is_moved)| {
            let owner = TENANTS[if is_moved { (tenant + 1) % TENANTS.len() } else { tenant }];
            let text = documents.map(|specs| specs.iter().map(|spec| text(owner, spec)).collect());
            (format!("policies/{}/{file}.yaml", TENANTS[tenant]), text)
        },
    )
}

/// What holds for all tenants.
fn rules() -> impl Strategy<Value = (String, Option<String>)> {
    const CONFIG: &str = "apiVersion: keywheel/v1\nkind: Config\n";
    const FREEZE: &str = "apiVersion: keywheel/v1\nkind: Freeze\nname: f\nreason: r\nfrom: \"2026-01-01T00:00:00\"\n";
    prop_oneof![
        Just(("keywheel.yaml".to_owned(), None)),
        Just(("keywheel.yaml".to_owned(), Some(format!("{CONFIG}limits: {{max_removals: 1}}\n")))),
        Just(("keywheel.yaml".to_owned(), Some(format!("{CONFIG}defaults: {{rotation_interval_days: 5}}\n")))),
        Just(("keywheel.yaml".to_owned(), Some(format!("{CONFIG}secrets: {{umbrella: [A]}}\n")))),
        Just((
            "policies/all.yaml".to_owned(),
            Some(format!("{FREEZE}until: \"2027-06-01T00:00:00\"\ntenants: [umbrella]\n"))
        )),
        Just((
            "policies/all.yaml".to_owned(),
            Some(format!("{FREEZE}until: \"2026-02-01T00:00:00\"\ntenants: [nobody]\n"))
        )),
    ]
}

fn changed_by(mut files: Files, edits: Vec<(String, Option<String>)>) -> Files {
    for (path, text) in edits {
        match text {
            Some(text) => files.insert(path, text),
            None => files.remove(&path),
        };
    }
    files
}

/// Are there two documents of one name?
fn has_duplicates(files: &Files) -> bool {
    let files: Vec<SourceFile> = (files.iter())
        .map(|(path, text)| SourceFile { path: path.as_str().into(), content: text.as_bytes().into(), symlink: false })
        .collect();
    let loaded = document::load(None, &files, capabilities, Timestamp::UNIX_EPOCH);
    loaded.findings.iter().any(|finding| finding.code == "set/duplicate")
}

fn commit(git: &Repository, files: &Files, parents: &[Oid]) -> Oid {
    let mut index = git2::Index::new().unwrap();
    git.set_index(&mut index).unwrap();
    let nothing = IndexTime::new(0, 0);
    for (path, text) in files {
        let entry = IndexEntry {
            ctime: nothing,
            mtime: nothing,
            dev: 0,
            ino: 0,
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: Oid::ZERO_SHA1,
            flags: 0,
            flags_extended: 0,
            path: path.clone().into_bytes(),
        };
        index.add_frombuffer(&entry, text.as_bytes()).unwrap();
    }
    let tree = git.find_tree(index.write_tree_to(git).unwrap()).unwrap();
    let ada = Signature::new("Ada", "ada@example.org", &git2::Time::new(0, 0)).unwrap();
    let parents: Vec<_> = parents.iter().map(|id| git.find_commit(*id).unwrap()).collect();
    git.commit(None, &ada, &ada, "x", &tree, &parents.iter().collect::<Vec<_>>()).unwrap()
}

/// The same by reading every file.
fn full(repo: &Repo, base: &str, head: &str, now: Timestamp) -> Compared {
    let read = |commit: &str| repo.read_ref(commit).unwrap();
    let (base, head) = (read(base), read(head));
    let contents = |snapshot: &Snapshot| -> BTreeMap<String, std::sync::Arc<[u8]>> {
        snapshot.files.iter().map(|file| (file.path.to_string(), file.content.clone())).collect()
    };
    let (then, later) = (contents(&base), contents(&head));
    let changed = then.keys().chain(later.keys()).filter(|path| then.get(*path) != later.get(*path)).cloned().collect();
    let check = |snapshot: &Snapshot| {
        let Snapshot { config, files, .. } = snapshot;
        document::load_to_compare(config.as_ref(), files, &BTreeSet::new(), capabilities, now)
    };
    Compared { before: check(&base), after: check(&head), changed }
}

fn judged(compared: &Compared, now: Timestamp) -> plan::Plan {
    let Compared { before, after, changed } = compared;
    plan::review(&Review {
        base: &before.repository,
        head: &after.repository,
        findings: &document::concerning(&after.findings, &before.findings, changed),
        sources: &Sources::default(),
        compared_with: &Base { reference: "main".to_owned(), commit: String::new() },
        ages: None,
        capabilities,
        now,
    })
}

fn compared_both_ways(dir: &Path, base: &Files, head: &Files) -> (plan::Plan, plan::Plan) {
    let git = Repository::init_bare(dir).unwrap();
    let base = commit(&git, base, &[]);
    let head = commit(&git, head, &[base]);
    let repo = Repo::discover(dir).unwrap();
    let (base, head) = (base.to_string(), head.to_string());
    let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
    let little = compare(&repo.compare(&base, Some(&head)).unwrap(), now).unwrap();
    (judged(&little, now), judged(&full(&repo, &base, &head, now), now))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_review_of_what_changed_is_a_review_of_everything(
        files in prop::collection::vec(file(), 2..12),
        all in prop::collection::vec(rules(), 0..2),
        edits in prop::collection::vec(edit(), 0..3),
        edits_for_all in prop::collection::vec(rules(), 1..2),
        is_for_all in prop::bool::weighted(0.15),
    ) {
        let start = Files::from([("policies/README.md".to_owned(), "# Policies\n".to_owned())]);
        let base = changed_by(changed_by(start, files), all);
        let edits = if is_for_all { [edits, edits_for_all].concat() } else { edits };
        let head = changed_by(base.clone(), edits);
        let dir = tempfile::tempdir().unwrap();
        let (little, full) = compared_both_ways(dir.path(), &base, &head);
        prop_assert_eq!(&little.diagnostics, &full.diagnostics, "base {:#?}\nhead {:#?}", base, head);
        prop_assert_eq!(&little.left_out, &full.left_out);
        // Which of two documents of one name counts is settled by the files that were read.
        if !has_duplicates(&base) {
            prop_assert_eq!(&little, &full, "base {:#?}\nhead {:#?}", base, head);
        }
    }
}

#[test]
fn a_second_document_of_one_name_hides_no_claim_of_the_first() {
    let key = |name, alias| Spec::Key { name, policy: None, alias, previous: None, style: 4 };
    let base = Files::from([("policies/bank co/0.yaml".to_owned(), text("bank co", &key(0, Some(1))))]);
    let twice = [key(2, Some(1)), key(2, None)].iter().map(|spec| text("acme", spec)).collect();
    let head = changed_by(base.clone(), vec![("policies/acme/0.yaml".to_owned(), Some(twice))]);
    let (little, full) = compared_both_ways(tempfile::tempdir().unwrap().path(), &base, &head);
    assert_eq!(little.left_out.len(), 2, "{:#?}", little.diagnostics);
    assert_eq!(little, full);
}

/// The plan of an edit of one file, which must be that of reading everything.
fn reviewed(base: &Files, path: &str, text: String) -> plan::Plan {
    let head = changed_by(base.clone(), vec![(path.to_owned(), Some(text))]);
    let (little, full) = compared_both_ways(tempfile::tempdir().unwrap().path(), base, &head);
    assert_eq!(little, full);
    little
}

#[test]
fn an_alias_that_another_tenant_has_is_found_in_a_file_that_did_not_change() {
    let key = |alias| Spec::Key { name: 0, policy: None, alias: Some(alias), previous: None, style: 4 };
    let base = Files::from([("policies/bank co/0.yaml".to_owned(), text("bank co", &key(1)))]);
    let plan = reviewed(&base, "policies/acme/0.yaml", text("acme", &key(1)));
    assert_eq!(plan.left_out.len(), 2, "{:#?}", plan.diagnostics);
}

#[test]
fn the_defaults_of_a_tenant_change_policies_in_files_that_did_not() {
    let policy = Spec::Policy { name: 0, days: 0, aws: false, previous: None, style: 4 };
    let base = Files::from([
        ("policies/acme/0.yaml".to_owned(), text("acme", &policy)),
        ("policies/acme/tenant.yaml".to_owned(), text("acme", &Spec::Tenant { days: 1 })),
    ]);
    let plan = reviewed(&base, "policies/acme/tenant.yaml", text("acme", &Spec::Tenant { days: 2 }));
    assert_eq!(plan.changes.len(), 2, "the tenant and its policy: {:#?}", plan.changes);
}

#[test]
fn files_that_a_change_does_not_reach_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let git = Repository::init_bare(dir.path()).unwrap();
    let policy = |name| Spec::Policy { name, days: 2, aws: false, previous: None, style: 4 };
    let key = |name, policy| Spec::Key { name, policy: Some(policy), alias: None, previous: None, style: 24 };
    let file = |tenant: &str, specs: &[Spec]| specs.iter().map(|spec| text(tenant, spec)).collect::<String>();
    let mut files = Files::new();
    for tenant in TENANTS {
        files.insert(format!("policies/{tenant}/policies.yaml"), file(tenant, &[policy(0)]));
        files.insert(format!("policies/{tenant}/keys.yaml"), file(tenant, &[key(0, 0)]));
        files.insert(format!("policies/{tenant}/others.yaml"), file(tenant, &[policy(2), key(3, 2)]));
    }
    let base = commit(&git, &files, &[]);
    let edited = files["policies/acme/policies.yaml"].replace("days: 2", "days: 1");
    files.insert("policies/acme/policies.yaml".to_owned(), edited);
    let head = commit(&git, &files, &[base]);
    let repo = Repo::discover(dir.path()).unwrap();
    let compared =
        compare(&repo.compare(&base.to_string(), Some(&head.to_string())).unwrap(), Timestamp::UNIX_EPOCH).unwrap();
    let read = compared.after.repository;
    assert_eq!((read.policies.len(), read.keys.len()), (1, 1), "the policy, and the key that names it");
}
