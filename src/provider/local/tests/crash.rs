//! A file that was cut, changed or rearranged.

use super::*;

/// A keystore of four records (two versions, each promoted), and the length of the file after each.
async fn four_records(folder: &TempDir) -> (Location, KeyHandle, Vec<u64>) {
    let location = location(folder.path());
    let local = open(&location);
    let mut key = handle();
    let mut lengths = Vec::new();
    let length = || fs::metadata(&location.keystore).unwrap().len();
    for _ in 0..2 {
        let request = request(&key);
        let version = local.create_version(&request).await.unwrap().provider_ref;
        lengths.push(length());
        local.promote(&key, key.primary.as_deref(), &version).await.unwrap();
        lengths.push(length());
        key.versions.push(version.clone());
        key.primary = Some(version);
    }
    (location, key, lengths)
}

/// What the first so many of the four records say: the primary, and the number of versions.
fn after(records: usize) -> Option<(Option<u32>, u32)> {
    [None, Some((None, 1)), Some((Some(1), 1)), Some((Some(1), 2)), Some((Some(2), 2))][records]
}

fn seen(location: &Location) -> Option<(Option<u32>, u32)> {
    read(location).unwrap().first().map(|(_, primary, latest)| (*primary, *latest))
}

#[tokio::test]
async fn a_record_that_was_cut_anywhere_is_passed_over_by_a_reader_and_cut_off_by_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (location, key, lengths) = four_records(&folder).await;
    let whole = fs::read(&location.keystore).unwrap();
    for cut in header_length(&lengths)..lengths[3] {
        let torn = &whole[..usize::try_from(cut).unwrap()];
        let complete = lengths.iter().filter(|length| **length <= cut).count();
        fs::write(&location.keystore, torn).unwrap();

        assert_eq!(seen(&location), after(complete), "cut at {cut}");
        assert_eq!(fs::read(&location.keystore).unwrap(), torn, "a reader writes nothing");

        let local = open(&location);
        let fresh = KeyHandle { versions: vec![], primary: None, ..key.clone() };
        let made = local.create_version(&request(&fresh)).await.unwrap();
        let latest = after(complete).map_or(0, |(_, latest)| latest);
        assert_eq!(made.provider_ref, format!("{}:{}", key.key_id.unwrap(), latest + 1), "cut at {cut}");
        assert_eq!(read(&location).unwrap()[0].2, latest + 1);
    }
}

/// The length of a header, from the lengths of a file whose first and third records are equally long.
fn header_length(lengths: &[u64]) -> u64 {
    lengths[0] - (lengths[2] - lengths[1])
}

#[tokio::test]
async fn zeros_after_the_last_record_are_the_trace_of_an_append_too() {
    let folder = tempfile::tempdir().unwrap();
    let (location, key, lengths) = four_records(&folder).await;
    let whole = fs::read(&location.keystore).unwrap();
    for zeros in [1, 7, 8, 9, 100, 4096, 10_000] {
        let mut torn = whole.clone();
        torn.resize(whole.len() + zeros, 0);
        fs::write(&location.keystore, &torn).unwrap();
        assert_eq!(seen(&location), after(4), "{zeros} zeros");
        assert_eq!(fs::read(&location.keystore).unwrap(), torn);

        open(&location).create_version(&request(&key)).await.unwrap();
        assert_eq!(read(&location).unwrap()[0].2, 3);
        assert_eq!(fs::metadata(&location.keystore).unwrap().len(), lengths[3] + (lengths[2] - lengths[1]));
    }
}

#[tokio::test]
async fn zeros_before_the_last_record_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (location, _, lengths) = four_records(&folder).await;
    let whole = fs::read(&location.keystore).unwrap();
    let second = usize::try_from(lengths[0]).unwrap()..usize::try_from(lengths[1]).unwrap();
    for zeros in [second.start..second.start + 8, second] {
        let mut damaged = whole.clone();
        damaged[zeros].fill(0);
        fs::write(&location.keystore, &damaged).unwrap();
        assert!(matches!(read(&location), Err(KeystoreError::Damaged { record: 2, .. })));
        assert!(Local::at(location.clone(), now).is_err());
        assert_eq!(fs::read(&location.keystore).unwrap(), damaged);
    }
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_found_and_nothing_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (location, key, lengths) = four_records(&folder).await;
    let whole = fs::read(&location.keystore).unwrap();
    let header = header_length(&lengths);
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&location.keystore, &damaged).unwrap();

        let error = read(&location).unwrap_err();
        let position = lengths.iter().filter(|length| **length <= at as u64).count();
        match &error {
            KeystoreError::NotAKeystore { .. } => assert!(at < 8, "byte {at}: {error}"),
            KeystoreError::DamagedHeader { .. } => assert!((8..header).contains(&(at as u64)), "byte {at}: {error}"),
            KeystoreError::Damaged { record, offset, .. } => {
                assert_eq!(*record, position as u64 + 1, "byte {at}: {error}");
                assert_eq!(*offset, if position == 0 { header } else { lengths[position - 1] }, "byte {at}: {error}");
            }
            other => panic!("byte {at}: {other}"),
        }
        let refused = Local::at(location.clone(), now).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Storage);
        assert!(refused.help.is_some());
        assert_eq!(fs::read(&location.keystore).unwrap(), damaged, "byte {at}: the file was changed");
    }

    fs::write(&location.keystore, &whole).unwrap();
    open(&location).verify(&request(&key), key.primary.as_deref().unwrap()).await.unwrap();
}

#[tokio::test]
async fn records_cannot_be_left_out_doubled_or_reordered() {
    let folder = tempfile::tempdir().unwrap();
    let (location, _, lengths) = four_records(&folder).await;
    let whole = fs::read(&location.keystore).unwrap();
    let at: Vec<_> =
        std::iter::once(header_length(&lengths)).chain(lengths).map(|at| usize::try_from(at).unwrap()).collect();
    let record = |n: usize| &whole[at[n]..at[n + 1]];
    let header = &whole[..at[0]];

    let rearranged = [
        [header, record(1), record(2), record(3)].concat(),
        [header, record(0), record(2), record(3)].concat(),
        [header, record(0), record(0), record(1)].concat(),
        [header, record(2), record(1), record(0), record(3)].concat(),
        [&whole, record(3)].concat(),
    ];
    for bytes in rearranged {
        fs::write(&location.keystore, bytes).unwrap();
        assert!(matches!(read(&location), Err(KeystoreError::Damaged { .. })));
    }
}

#[tokio::test]
async fn damage_that_appears_while_the_keystore_is_in_use_is_found_at_the_next_change() {
    let folder = tempfile::tempdir().unwrap();
    let (location, mut key, _) = four_records(&folder).await;
    let local = open(&location);
    let mut bytes = fs::read(&location.keystore).unwrap();
    bytes.extend_from_slice(b"what another program wrote here");
    fs::write(&location.keystore, &bytes).unwrap();

    assert_eq!(rotate(&local, &mut key).await.unwrap_err().kind, ErrorKind::Storage);
    assert_eq!(fs::read(&location.keystore).unwrap(), bytes);
}
