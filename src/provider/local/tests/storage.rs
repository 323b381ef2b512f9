//! Root keys, file modes, full disks.

use futures::future::join_all;

use super::*;
use crate::confined::{Confinement, SmallDisk, is_confined};

/// The same keystore, with the root key wherever `change` puts it.
fn with(location: &Location, change: impl FnOnce(&mut RootKeySource)) -> Location {
    let mut location = location.clone();
    change(&mut location.root_key);
    location
}

#[tokio::test]
async fn the_first_version_makes_a_private_keystore_and_root_key_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let location = with(&location(folder.path()), |source| source.variable = None);
    let local = open(&location);
    assert_eq!(local.warnings(), []);
    rotate(&local, &mut handle()).await.unwrap();
    rotate(&local, &mut handle()).await.unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(location.keystore.parent().unwrap()), 0o700);
    assert_eq!(mode(&location.keystore), 0o600);
    assert_eq!(mode(&location.root_key.beside), 0o600);
    let names: Vec<_> = location.keystore.parent().unwrap().read_dir().unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(names.len(), 2, "nothing else is left behind: {names:?}");

    let codes: Vec<_> = local.warnings().into_iter().map(|warning| warning.code).collect();
    assert_eq!(codes, ["local/root-key-made"]);
    assert_eq!(open(&location).warnings(), [], "the next run has nothing to warn of");
}

#[tokio::test]
async fn another_root_key_is_told_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    rotate(&open(&location), &mut handle()).await.unwrap();

    let other = with(&location, |source| source.variable = Some(Zeroizing::new(ROOT_KEY.replace("00", "ff"))));
    let error = Local::at(other.clone(), now).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Storage);
    assert!(error.message.starts_with("the root key from KEYWHEEL_ROOT_KEY is not the one"), "{error}");
    assert!(error.help.unwrap().contains("give the root key that it was made with"));
    assert!(matches!(read(&other), Err(KeystoreError::WrongRootKey { .. })));

    let none = with(&location, |source| source.variable = None);
    let error = Local::at(none.clone(), now).unwrap_err();
    assert!(error.message.starts_with("there is no root key for the keystore"), "{error}");
    assert!(error.help.unwrap().contains("KEYWHEEL_ROOT_KEY"));
    assert!(matches!(read(&none), Err(KeystoreError::NoRootKey { .. })));
    assert!(!none.root_key.beside.exists(), "a root key is never made for a keystore that has one");
}

#[tokio::test]
async fn another_file_is_not_taken_for_a_keystore() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    fs::create_dir(location.keystore.parent().unwrap()).unwrap();
    for content in [b"".as_slice(), b"SQLite format 3\0", &[0; 4096]] {
        fs::write(&location.keystore, content).unwrap();
        assert!(matches!(read(&location), Err(KeystoreError::NotAKeystore { .. })));
        assert!(Local::at(location.clone(), now).is_err());
        assert_eq!(fs::read(&location.keystore).unwrap(), content);
    }
}

#[tokio::test]
async fn a_newer_format_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path());
    rotate(&open(&location), &mut handle()).await.unwrap();
    let mut bytes = fs::read(&location.keystore).unwrap();
    header::set_format_for_test(&mut bytes, 2);
    fs::write(&location.keystore, bytes).unwrap();
    assert!(matches!(read(&location), Err(KeystoreError::Newer { found: 2, known: 1, .. })));
}

/// Where [`fill_a_small_disk`] works, when it runs as a process of its own.
const FOLDER: &str = "KEYWHEEL_TEST_SMALL_DISK";

#[tokio::test]
async fn fill_a_small_disk() {
    // The test below runs it, in a process whose files cannot grow; elsewhere it has nothing to do.
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let made = fill(Path::new(&folder)).await;
    fs::write(Path::new(&folder).join("made"), made.to_string()).unwrap();
}

/// Makes keys until there is no room for another, and looks at what is left; gives how many were made.
async fn fill(folder: &Path) -> usize {
    let ballast = folder.join("ballast");
    let location = location(folder);
    let local = open(&location);
    let mut keys = Vec::new();
    let errors = loop {
        // Many at once, so that the append that does not fit holds whole records too.
        let attempts = (0..64).map(|_| async {
            let key = handle();
            local.create_version(&request(&key)).await.map(|_| key)
        });
        let (made, failed): (Vec<_>, Vec<_>) = join_all(attempts).await.into_iter().partition(Result::is_ok);
        keys.extend(made.into_iter().map(Result::unwrap));
        if !failed.is_empty() {
            break failed;
        }
        assert!(keys.len() < 10_000, "the disk never became full");
    };
    let length = local.appender.shared().view().extent.unwrap().length;
    assert_eq!(fs::metadata(&location.keystore).unwrap().len(), length, "what was written in part is taken back");
    for error in errors.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind, ErrorKind::Storage, "{error}");
        assert!(error.message.starts_with("cannot write to the keystore"), "{error}");
        assert!(error.help.unwrap().starts_with("free some space"));
    }
    let mut made: Vec<_> = keys.iter().map(|key| (key.key_id.unwrap(), None, 1)).collect();
    made.sort_unstable();
    assert_eq!(read(&location).unwrap(), made, "every version that was confirmed, and no other");

    if ballast.exists() {
        fs::remove_file(ballast).unwrap();
        rotate(&local, &mut handle()).await.unwrap();
        rotate(&local, &mut keys[0]).await.unwrap();
        assert_eq!(read(&location).unwrap().len(), made.len() + 1);
    }
    keys.len()
}

#[tokio::test]
async fn a_file_that_may_not_grow_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // 16 KiB at most for a file; the signal that goes with it is ignored, so that the write fails as on a full disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ && ulimit -f 32 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "provider::local::tests::storage::fill_a_small_disk"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");

    let made: usize = fs::read_to_string(folder.path().join("made")).unwrap().parse().unwrap();
    let location = location(folder.path());
    let seen = read(&location).unwrap();
    assert_eq!(seen.len(), made);
    rotate(&open(&location), &mut handle()).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_works_again_once_there_is_space() {
    let name = concat!(module_path!(), "::a_full_disk_loses_nothing_and_works_again_once_there_is_space");
    if !is_confined(Confinement::OwnMounts, name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let _disk = SmallDisk::at(folder.path(), "64k");
    fs::write(folder.path().join("ballast"), vec![0; 20_000]).unwrap();
    assert!(fill(folder.path()).await > 0);
}
