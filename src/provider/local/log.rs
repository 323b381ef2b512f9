//! The sealed file: a [`header`], and records that are only ever appended.
//!
//! ```text
//! length (4) | its complement (4) | nonce (12) | sealed record | tag (16)
//! ```
//!
//! A record's position, counted from 0, is its associated data: records cannot be reordered, doubled, or taken out of
//! the middle. Nonces are random rather than that position, because a torn record and the one that is later written in
//! its place would share a nonce.
//!
//! # Invariant
//! Whatever holds a complete record is never removed; the material of a destroyed version alone is taken out, by putting
//! another file in this one's place. Only a tail that cannot hold one (shorter than its length says,
//! or nothing but zeros) is the trace of an append that was never confirmed; a writer cuts it off, and a reader passes
//! it over. Anything else that does not read is [`KeystoreError::Damaged`].

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::KeystoreError;
use super::record::{self, Record};
use super::root_key::RootKey;
use super::seal::{CipherFailed, OVERHEAD, SealKey};
use super::version_ref::VersionRef;
use super::{files, header};

/// A length and its complement.
const FRAME_LEN: usize = 8;
const MAX_SEALED: usize = record::MAX_LEN + OVERHEAD;

/// How long to wait for the lock of another process: well above what a batch of appends takes on a slow disk.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// How often to try meanwhile. The standard library's waiting lock has no deadline.
const LOCK_RETRY: Duration = Duration::from_micros(500);

/// A keystore that is open for reading, and how far it has been read.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    key: Arc<SealKey>,
    /// How many records were read or appended.
    records: u64,
    /// The length of the header and those records.
    length: u64,
}

/// Which file a path leads to, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    device: u64,
    inode: u64,
    /// In bytes.
    pub(super) length: u64,
}

impl Extent {
    /// What `path` leads to now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }

    /// Is it the same file, whatever its length?
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<&fs::Metadata> for Extent {
    fn from(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), length: metadata.len() }
    }
}

/// What follows the last complete record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    Clean,
    /// The trace of an append that was never confirmed.
    Torn,
}

impl Log {
    /// Opens a keystore for reading, at its first record.
    pub(super) fn open(path: &Path, root_key: &RootKey) -> Result<Self, KeystoreError> {
        let file = File::open(path).map_err(KeystoreError::io("open the keystore", path))?;
        let mut header = Vec::with_capacity(header::LEN);
        (&file)
            .take(header::LEN as u64)
            .read_to_end(&mut header)
            .map_err(KeystoreError::io("read the keystore", path))?;
        let key = Arc::new(header::check(path, &header, root_key)?);
        Ok(Self { path: path.to_owned(), file, key, records: 0, length: header::LEN as u64 })
    }

    /// Makes an empty keystore, unless another process was faster.
    pub(super) fn create(path: &Path, root_key: &RootKey) -> Result<(), KeystoreError> {
        let header = header::make(root_key)?;
        files::create(path, |file| file.write_all(&header))
            .map(drop)
            .map_err(KeystoreError::io("make the keystore", path))
    }

    /// Makes sure that what was read is durable: its writer may have died before syncing it.
    pub(super) fn sync(&self) -> Result<(), KeystoreError> {
        self.file.sync_data().map_err(KeystoreError::io("sync", &self.path))
    }

    /// The file, as far as it was read.
    pub(super) fn extent(&self) -> Result<Extent, KeystoreError> {
        let metadata = self.file.metadata().map_err(KeystoreError::io("look at the keystore", &self.path))?;
        Ok(Extent { length: self.length, ..Extent::from(&metadata) })
    }

    /// Keeps writers away while `read` runs.
    pub(super) fn shared<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, KeystoreError>,
    ) -> Result<T, KeystoreError> {
        wait_for_lock(&self.path, || self.file.try_lock_shared())?;
        let result = read(self);
        // Closing the file unlocks it too, if this should fail.
        let _ = self.file.unlock();
        result
    }

    /// Gives the records that follow to `take`, which says what is wrong with one that makes no sense.
    pub(super) fn replay(&mut self, take: impl FnMut(Record) -> Result<(), &'static str>) -> Result<(), KeystoreError> {
        self.read_on(take).map(drop)
    }

    fn read_on(&mut self, mut take: impl FnMut(Record) -> Result<(), &'static str>) -> Result<Tail, KeystoreError> {
        let failed = || KeystoreError::io("read the keystore", &self.path);
        let end = self.file.metadata().map_err(failed())?.len();
        (&self.file).seek(SeekFrom::Start(self.length)).map_err(failed())?;
        let mut reader = BufReader::with_capacity(256 * 1024, &self.file);
        let mut buffer = Zeroizing::new([0_u8; MAX_SEALED]);
        loop {
            let left = end.saturating_sub(self.length);
            if left == 0 {
                return Ok(Tail::Clean);
            }
            if left < FRAME_LEN as u64 {
                return Ok(Tail::Torn);
            }
            let mut frame = [0; FRAME_LEN];
            reader.read_exact(&mut frame).map_err(failed())?;
            let Some(sealed) = sealed_length(frame).and_then(|length| buffer.get_mut(..length)) else {
                if frame == [0; FRAME_LEN] && is_zero(&mut reader).map_err(failed())? {
                    return Ok(Tail::Torn);
                }
                return Err(self.damaged("has an impossible length"));
            };
            let frame_and_sealed = (FRAME_LEN + sealed.len()) as u64;
            if left < frame_and_sealed {
                return Ok(Tail::Torn);
            }
            reader.read_exact(sealed).map_err(failed())?;
            let Some(plaintext) = self.key.open(&self.records.to_be_bytes(), sealed) else {
                return Err(self.damaged("is not as it was written"));
            };
            let record = Record::decode(plaintext).map_err(|_| self.damaged("is of an unknown kind"))?;
            take(record).map_err(|what| self.damaged(what))?;
            self.records += 1;
            self.length += frame_and_sealed;
        }
    }

    /// The next record is damaged.
    fn damaged(&self, what: &'static str) -> KeystoreError {
        KeystoreError::Damaged { keystore: self.path.clone(), record: self.records + 1, offset: self.length, what }
    }

    /// The same keystore, open for writing too.
    pub(super) fn into_writer(self) -> Result<Writer, KeystoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(|error| KeystoreError::gone_or("open the keystore for writing", &self.path, error))?;
        Ok(Writer(Self { file, ..self }))
    }
}

/// A keystore that is open for reading and writing. Only [`Writer::lock`] leads to the methods that write.
pub(super) struct Writer(Log);

impl Writer {
    /// Keeps every other process away until the result is dropped.
    pub(super) fn lock(&mut self) -> Result<Locked<'_>, KeystoreError> {
        wait_for_lock(&self.0.path, || self.0.file.try_lock())?;
        Ok(Locked(&mut self.0))
    }
}

/// A keystore under its exclusive lock.
pub(super) struct Locked<'a>(&'a mut Log);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing the file unlocks it too, if this should fail.
        let _ = self.0.file.unlock();
    }
}

impl Locked<'_> {
    /// The file, as far as it was read.
    pub(super) fn extent(&self) -> Result<Extent, KeystoreError> {
        self.0.extent()
    }

    /// How long the file is, as far as it was read.
    pub(super) fn length(&self) -> u64 {
        self.0.length
    }

    /// Has another file been put in the place of this one, or is it shorter than it was?
    pub(super) fn check_still_in_place(&self) -> Result<(), KeystoreError> {
        let Log { path, length, .. } = &*self.0;
        let now = Extent::of(path).map_err(|error| KeystoreError::gone_or("look at the keystore", path, error))?;
        if now.is_same_file(&self.extent()?) && now.length >= *length {
            return Ok(());
        }
        Err(KeystoreError::Replaced { keystore: path.clone() })
    }

    /// Is there anything that was not read?
    pub(super) fn has_more(&self) -> Result<bool, KeystoreError> {
        let metadata = self.0.file.metadata().map_err(KeystoreError::io("look at the keystore", &self.0.path))?;
        Ok(metadata.len() > self.0.length)
    }

    /// The records are durable, and make no sense all the same.
    pub(super) fn in_doubt(&self, what: &'static str) -> KeystoreError {
        KeystoreError::InDoubt { keystore: self.0.path.clone(), source: io::Error::other(what) }
    }

    /// Reads what other processes have appended, and cuts off the trace of an append that was never confirmed.
    pub(super) fn catch_up(
        &mut self,
        take: impl FnMut(Record) -> Result<(), &'static str>,
    ) -> Result<(), KeystoreError> {
        let before = self.0.length;
        let tail = self.0.read_on(take)?;
        if tail == Tail::Torn {
            self.0
                .file
                .set_len(self.0.length)
                .map_err(KeystoreError::io("cut an unfinished record off", &self.0.path))?;
        }
        if tail == Tail::Torn || self.0.length > before {
            self.0.sync()?;
        }
        Ok(())
    }

    /// Appends records. Once this returns they are durable; after an error none of them is there, except after
    /// [`KeystoreError::InDoubt`].
    pub(super) fn append(&mut self, frames: &Frames) -> Result<(), KeystoreError> {
        let Log { path, file, length, .. } = &mut *self.0;
        let written = file.write_all_at(&frames.bytes, *length).and_then(|()| file.sync_data());
        if let Err(source) = written {
            // Whatever part was written goes, so that the file is again as it was.
            return Err(match file.set_len(*length).and_then(|()| file.sync_data()) {
                Ok(()) => KeystoreError::Io { action: "write to the keystore", path: path.clone(), source },
                Err(_) => KeystoreError::InDoubt { keystore: path.clone(), source },
            });
        }
        *length += frames.len();
        self.0.records += frames.records;
        Ok(())
    }

    /// Seals records for the places after the last one.
    pub(super) fn seal<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> Result<Frames, KeystoreError> {
        let mut frames = Frames { bytes: Vec::new(), records: 0 };
        for record in records {
            seal_at(&self.0.key, self.0.records + frames.records, record, &mut frames.bytes)?;
            frames.records += 1;
        }
        Ok(frames)
    }

    /// Puts another file in this one's place, with the same records but for the material of some versions, and with more
    /// records at its end. Once this returns it is durable; after an error nothing has changed, except after
    /// [`KeystoreError::InDoubt`].
    ///
    /// Who waits for the lock of the old file finds, when it has it, that another one is in its place. What the disk keeps
    /// of the old file's blocks, and copies of it, are out of reach.
    pub(super) fn rewrite(&mut self, erased: &BTreeSet<VersionRef>, more: &[Record]) -> Result<(), KeystoreError> {
        let (records, length, path) = (self.0.records, self.0.length, self.0.path.clone());
        let failed = |error| KeystoreError::Io { action: "rewrite the keystore", path: path.clone(), source: error };
        let mut new = files::Replacement::beside(&path).map_err(failed)?;
        let mut header = [0; header::LEN];
        self.0.file.read_exact_at(&mut header, 0).map_err(failed)?;
        new.write_all(&header).map_err(failed)?;
        let key = self.0.key.clone();
        let (mut position, mut written) = (0, header.len() as u64);
        let mut put = |record: &Record| {
            let mut frame = Vec::new();
            seal_at(&key, position, record, &mut frame)?;
            position += 1;
            written += frame.len() as u64;
            new.write_all(&frame).map_err(failed)
        };
        let mut trouble = Ok(());
        (self.0.records, self.0.length) = (0, header::LEN as u64);
        let replayed = self.0.replay(|record| {
            let record = if erased.contains(&record.version) { record.without_material() } else { record };
            if trouble.is_ok() {
                trouble = put(&record);
            }
            Ok(())
        });
        (self.0.records, self.0.length) = (records, length);
        replayed.and(trouble)?;
        more.iter().try_for_each(&mut put)?;
        new.put_in_place().map_err(failed)?;
        let in_doubt = |source| KeystoreError::InDoubt { keystore: path.clone(), source };
        files::sync_folder(&path).map_err(in_doubt)?;
        self.0.file = OpenOptions::new().read(true).write(true).open(&path).map_err(in_doubt)?;
        (self.0.records, self.0.length) = (position, written);
        Ok(())
    }
}

/// Appends a record, sealed for its place.
fn seal_at(key: &SealKey, position: u64, record: &Record, bytes: &mut Vec<u8>) -> Result<(), KeystoreError> {
    let plaintext = record.encode();
    let sealed = u32::try_from(plaintext.len() + OVERHEAD).map_err(|_| CipherFailed)?;
    bytes.extend_from_slice(&sealed.to_be_bytes());
    bytes.extend_from_slice(&(!sealed).to_be_bytes());
    Ok(key.seal(&position.to_be_bytes(), &plaintext, bytes)?)
}

/// Sealed records, ready to be appended.
pub(super) struct Frames {
    bytes: Vec<u8>,
    records: u64,
}

impl Frames {
    /// How much longer the file becomes, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The length of a sealed record, if the frame says one that is possible.
fn sealed_length(frame: [u8; FRAME_LEN]) -> Option<usize> {
    let (length, complement) = frame.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length);
    let complement = u32::from_be_bytes(*complement.first_chunk()?);
    (complement == !length).then_some(usize::try_from(length).ok()?)
}

/// Is there nothing but zeros to the end?
fn is_zero(reader: &mut impl Read) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(true),
            read if chunk.iter().take(read).all(|byte| *byte == 0) => {}
            _ => return Ok(false),
        }
    }
}

/// Tries a lock until it is free, or patience ends.
fn wait_for_lock(path: &Path, try_lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), KeystoreError> {
    let mut waited = Duration::ZERO;
    loop {
        match try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => return Err(KeystoreError::io("lock the keystore", path)(source)),
            Err(TryLockError::WouldBlock) if waited >= LOCK_PATIENCE => {
                return Err(KeystoreError::Busy { keystore: path.to_owned(), seconds: LOCK_PATIENCE.as_secs() });
            }
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(LOCK_RETRY);
                waited += LOCK_RETRY;
            }
        }
    }
}
