//! Many tasks in one process, and many processes on one file. The lock belongs to an open file, so that two [`Local`]s
//! in one process meet as two processes do.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_rotate_their_own_keys_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    let local = Arc::new(open(&location));
    let tasks = (0..256).map(|_| {
        let local = Arc::clone(&local);
        tokio::spawn(async move {
            let mut key = handle();
            for _ in 0..3 {
                rotate(&local, &mut key).await.unwrap();
            }
            key.key_id.unwrap()
        })
    });
    let mut names = BTreeSet::new();
    for task in tasks.collect::<Vec<_>>() {
        names.insert(task.await.unwrap());
    }
    let seen = read(&location).unwrap();
    assert_eq!(seen, names.into_iter().map(|name| (name, Some(3), 3)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_that_make_versions_of_one_key_get_different_ones() {
    let folder = tempfile::tempdir().unwrap();
    let local = Arc::new(open(&location(folder.path())));
    let key = handle();
    let tasks = (0..256).map(|_| {
        let (local, request) = (Arc::clone(&local), request(&key));
        tokio::spawn(async move {
            let made = local.create_version(&request).await.unwrap();
            assert_eq!(local.find_created(&request).await, Ok(vec![made.clone()]));
            made.provider_ref
        })
    });
    let mut versions = BTreeSet::new();
    for task in tasks.collect::<Vec<_>>() {
        versions.insert(task.await.unwrap());
    }
    assert_eq!(versions.len(), 256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_append_to_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    let locals: Vec<_> = (0..2).map(|_| Arc::new(open(&location))).collect();
    let tasks = locals.iter().flat_map(|local| (0..8).map(move |_| Arc::clone(local))).map(|local| {
        tokio::spawn(async move {
            for _ in 0..10 {
                rotate(&local, &mut handle()).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(read(&location).unwrap().len(), 2 * 8 * 10);
    assert_eq!(locals[0].owned().await, locals[1].owned().await);
}

#[tokio::test]
async fn what_another_process_did_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    let (one, other) = (open(&location), open(&location));
    let mut key = handle();
    let first = rotate(&one, &mut key).await.unwrap();
    assert_eq!(other.primary(&key).await, Ok(Some(first.clone())), "also where there was no keystore before");

    let ciphertext = one.encrypt(&key, b"patient data").await.unwrap();
    let second = rotate(&other, &mut key).await.unwrap();
    assert_eq!(one.primary(&key).await, Ok(Some(second.clone())));
    assert_eq!(one.decrypt(&key, &other.encrypt(&key, b"new").await.unwrap()).await.unwrap(), b"new");
    assert_eq!(other.decrypt(&key, &ciphertext).await.unwrap(), b"patient data");

    let third = one.create_version(&request(&key)).await.unwrap().provider_ref;
    other.promote(&key, Some(&second), &third).await.unwrap();
    assert_eq!(one.promote(&key, Some(&second), &first).await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_keystore_that_was_restored_from_a_backup_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    let local = open(&location);
    let mut key = handle();
    let first = rotate(&local, &mut key).await.unwrap();
    let backup = folder.path().join("backup");
    fs::copy(&location.keystore, &backup).unwrap();
    let late = rotate(&local, &mut key).await.unwrap();

    fs::rename(&backup, &location.keystore).unwrap();
    assert_eq!(local.primary(&key).await, Ok(Some(first.clone())));
    assert_eq!(local.verify(&request(&key), &late).await.unwrap_err().kind, ErrorKind::NotFound);

    let error = local.create_version(&request(&key)).await.unwrap_err();
    assert_eq!(error.message, "version 2 is recorded, and the keystore knows 1 at most", "no number comes twice");
    key.versions.pop();
    key.primary = Some(first);
    rotate(&local, &mut key).await.unwrap();
    assert_eq!(read(&location).unwrap(), [(key.key_id.unwrap(), Some(2), 2)]);
}

#[tokio::test]
async fn a_change_goes_to_the_file_that_the_path_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    let local = open(&location);
    let mut key = handle();
    rotate(&local, &mut key).await.unwrap();

    let copy = folder.path().join("copy");
    fs::copy(&location.keystore, &copy).unwrap();
    fs::rename(&copy, &location.keystore).unwrap();
    rotate(&local, &mut key).await.unwrap();
    assert_eq!(read(&location).unwrap(), [(key.key_id.unwrap(), Some(2), 2)]);

    let before = fs::read(&location.keystore).unwrap();
    let mut other = handle();
    rotate(&local, &mut other).await.unwrap();
    fs::write(&location.keystore, before).unwrap();
    assert_eq!(local.observe(&[other]).await, [Observation::Missing], "the same file, as it was before");
    rotate(&local, &mut key).await.unwrap();
    assert_eq!(read(&location).unwrap(), [(key.key_id.unwrap(), Some(3), 3)]);
}

#[tokio::test]
async fn a_reader_never_takes_an_append_that_is_taken_back_for_damage() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    rotate(&open(&location), &mut handle()).await.unwrap();
    let seen = read(&location).unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (done, path) = (Arc::clone(&done), location.keystore.clone());
        move || {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            let length = file.metadata().unwrap().len();
            // A length, its complement, and a record that is not written yet.
            let unfinished = [&[0, 0, 0, 40, 255, 255, 255, 215], [7; 40].as_slice()].concat();
            while !done.load(Ordering::SeqCst) {
                file.lock().unwrap();
                file.write_all_at(&unfinished, length).unwrap();
                std::thread::yield_now();
                file.set_len(length).unwrap();
                file.unlock().unwrap();
            }
        }
    });
    for _ in 0..500 {
        assert_eq!(read(&location).unwrap(), seen);
    }
    done.store(true, Ordering::SeqCst);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_keystore_that_disappears_is_not_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    let local = open(&location);
    let mut key = handle();
    rotate(&local, &mut key).await.unwrap();
    let unused = open(&location);
    fs::remove_file(&location.keystore).unwrap();

    for local in [&local, &unused, &unused] {
        let error = rotate(local, &mut handle()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Storage);
        assert!(error.message.ends_with("has disappeared"), "{error}");
    }
    let observed = local.observe(&[key]).await;
    let [Observation::Unknown { why }] = observed.as_slice() else { panic!("{observed:?}") };
    assert!(why.ends_with("has disappeared"), "{why}");
    assert!(!location.keystore.exists());
}
