//! A keystore as this process sees it: the index, the material, and which part of the file they come from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::KeystoreError;
use super::index::{Change, Index};
use super::log::{Extent, Log};
use super::record::{Event, Record};
use super::root_key::{RootKey, RootKeySource};
use super::seal::Material;
use super::version_ref::VersionRef;
use crate::diagnostic::Finding;
use crate::document::LocalConfig;
use crate::model::Timestamp;
use crate::provider::ProviderError;

/// Where a keystore is, and where its root key may be.
#[derive(Clone)]
pub(super) struct Location {
    /// The file.
    pub(super) keystore: PathBuf,
    /// The places of the root key.
    pub(super) root_key: RootKeySource,
}

impl Location {
    /// The keystore of a repository whose folder is `base_dir`.
    pub(super) fn new(config: &LocalConfig, base_dir: &Path) -> Self {
        let keystore = base_dir.join(&config.keystore);
        let file = config.root_key_file.as_ref().map(|file| base_dir.join(file));
        Self { root_key: RootKeySource::new(&keystore, file), keystore }
    }

    /// Is there a keystore?
    pub(super) fn exists(&self) -> Result<bool, KeystoreError> {
        match Extent::of(&self.keystore) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(KeystoreError::io("look at the keystore", &self.keystore)(error)),
        }
    }

    /// The root key of a keystore that exists.
    fn root_key(&self) -> Result<RootKey, KeystoreError> {
        let missing =
            || KeystoreError::NoRootKey { keystore: self.keystore.clone(), beside: self.root_key.beside.clone() };
        self.root_key.find()?.ok_or_else(missing)
    }
}

/// What a keystore holds, and how much of its file was read for it.
#[derive(Default)]
pub(super) struct View {
    /// Keys and versions.
    pub(super) index: Index,
    /// The material of every version that is not destroyed.
    pub(super) materials: BTreeMap<VersionRef, Material>,
    /// The part of the file that was read; none while there is no keystore.
    pub(super) extent: Option<Extent>,
}

impl View {
    /// What a change comes to, as [`Index::decide`] says; nothing for none.
    pub(super) fn judge(&self, change: Option<&Change>, now: Timestamp) -> Result<Option<u32>, ProviderError> {
        change.map_or(Ok(None), |change| self.index.decide(change, now))
    }

    /// Takes a record in, with its material.
    pub(super) fn take(&mut self, record: Record) -> Result<(), &'static str> {
        self.index.apply(&record)?;
        match record.event {
            Event::Created(_, material) => drop(self.materials.insert(record.version, material)),
            Event::Destroyed => drop(self.materials.remove(&record.version)),
            _ => {}
        }
        Ok(())
    }
}

/// Reads the index alone; without a keystore it is empty. No file is opened for writing, and the material is dropped
/// (and wiped) as it is read.
pub(super) fn read_index(location: &Location) -> Result<(Index, Option<Finding>), KeystoreError> {
    if !location.exists()? {
        return Ok((Index::default(), None));
    }
    let root_key = location.root_key()?;
    let mut index = Index::default();
    let mut log = Log::open(&location.keystore, &root_key)?;
    if log.replay(|record| index.apply(&record)).is_err() {
        // A writer that takes an unfinished append back can look like damage to somebody who reads at that moment:
        // only what does not read while writers wait is damaged.
        index = Index::default();
        log = Log::open(&location.keystore, &root_key)?;
        log.shared(|log| log.replay(|record| index.apply(&record)))?;
    }
    Ok((index, root_key.warning))
}

/// Reads everything, and leaves the log where the reading ended; without a keystore there is no log.
pub(super) fn read_all(location: &Location) -> Result<(View, Option<Log>, Option<Finding>), KeystoreError> {
    let mut view = View::default();
    if !location.exists()? {
        return Ok((view, None, None));
    }
    let root_key = location.root_key()?;
    let mut log = Log::open(&location.keystore, &root_key)?;
    log.shared(|log| {
        log.replay(|record| view.take(record))?;
        log.sync()
    })?;
    view.extent = Some(log.extent()?);
    Ok((view, Some(log), root_key.warning))
}

/// Makes an empty keystore, and a root key if there is none; gives the warning about that one.
pub(super) fn create(location: &Location) -> Result<Option<Finding>, KeystoreError> {
    let root_key = location.root_key.find_or_make()?;
    Log::create(&location.keystore, &root_key)?;
    Ok(root_key.warning)
}
