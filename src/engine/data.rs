//! `data encrypt` and `data decrypt`: any number of bytes under any key, for trying keys out and for checking that old
//! data is still readable.
//!
//! *Envelope.* A fresh data key of 32 bytes for each message, wrapped by one call of the provider (whose own limit is
//! [`MAX_PLAINTEXT`](crate::provider::MAX_PLAINTEXT)). The message is sealed in chunks by AES-256-GCM; the nonce counts
//! the chunks and marks the last, so that none can be moved, repeated or cut off. The header is bound to every chunk.
//! Counting nonces are safe because the data key is used for one message only.
//!
//! The text form is `keywheel:v1:` and base64, one line: it survives a copy through a terminal.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::document::Config;
use crate::model::{Address, KeyRecord, Recorded, VersionRecord, VersionState};
use crate::plan;
use crate::provider::ProviderError;
use crate::store::ReadState;

use super::load::load_with_record;
use super::observe::{KnownVersions, handle};
use super::providers::Managers;
use super::{EngineError, Workspace};

/// What every sealed message begins with.
const PREFIX: &str = "keywheel:v1:";

/// The plaintext of one chunk. A chunk is checked before any of it is used, so it bounds what is held unchecked.
const CHUNK: usize = 64 * 1024;

/// The length of a chunk's tag.
const TAG: usize = 16;

/// Marks the last chunk in its nonce.
const LAST: u32 = 1 << 31;

/// Encrypts under the primary of a key.
///
/// # Errors
/// There is no such key, or its provider refuses.
pub async fn encrypt(
    workspace: &Workspace,
    state: Option<&str>,
    address: &Address,
    plaintext: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let (record, managers, versions) = find(workspace, state, async |_, recorded| {
        recorded.keys.get(address).cloned().ok_or_else(|| {
            EngineError::new("data/unknown-key", format!("{address} is not a key that was applied"))
                .help("`keywheel status` lists the keys")
        })
    })
    .await?;
    let manager = managers.of(&record.key).await?;
    let handle = handle(address, &record.key, Some(&record), &known(&record, &versions));
    let leads_to = manager.primary(&handle).await?;
    if leads_to != handle.primary {
        let show = |reference: &Option<String>| reference.clone().unwrap_or_else(|| "nothing".to_owned());
        let message = format!("{address} leads to {}, and not to {}", show(&leads_to), show(&handle.primary));
        return Err(EngineError::new("data/moved", message).help("`keywheel drift` shows what else differs"));
    }
    let mut data_key = Zeroizing::new([0; 32]);
    rand::fill(data_key.as_mut_slice()).map_err(|_| broken("this system gave no random numbers"))?;
    let wrapped = manager.encrypt(&handle, data_key.as_slice()).await?;
    let sealed = seal(record.id.as_bytes(), &wrapped, &data_key, plaintext)?;
    Ok(format!("{PREFIX}{}\n", STANDARD.encode(sealed)).into_bytes())
}

/// Decrypts what [`encrypt`] made. The message names its key; `address`, if given, must be that one.
///
/// # Errors
/// It is no such message, it was altered or cut off, or its key's provider refuses.
pub async fn decrypt(
    workspace: &Workspace,
    state: Option<&str>,
    address: Option<&Address>,
    sealed: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let message = Message::parse(sealed)?;
    let (record, managers, versions) = find(workspace, state, async |state, _| {
        // A key that left keywheel's care still decrypts what it encrypted.
        state.key(Uuid::from_bytes(message.key_id)).await?.ok_or_else(|| {
            EngineError::new(
                "data/unknown-key",
                "this was encrypted under a key that this state database does not know",
            )
            .help("use the state database and repository that it was encrypted with")
        })
    })
    .await?;
    let own = record.address();
    if let Some(address) = address.filter(|address| **address != own) {
        return Err(EngineError::new(
            "data/other-key",
            format!("this was encrypted under {own}, and not under {address}"),
        )
        .help(format!("`keywheel data decrypt {own}`")));
    }
    let manager = managers.of(&record.key).await?;
    let known = known(&record, &versions);
    let unwrapped = manager.decrypt(&handle(&own, &record.key, Some(&record), &known), &message.wrapped).await;
    let unwrapped = unwrapped.map_err(|error| can_be_enabled(&own, &versions, error))?;
    let data_key: Zeroizing<[u8; 32]> = Zeroizing::new(unwrapped.try_into().map_err(|_| altered())?);
    open(&message, &data_key)
}

/// The error of a version that keywheel disabled, with the command that enables it.
fn can_be_enabled(key: &Address, versions: &[VersionRecord], error: ProviderError) -> EngineError {
    let is_off = |version: &&VersionRecord| {
        matches!(version.state, VersionState::Disabled | VersionState::PendingDestruction)
            && error.to_string().contains(&version.provider_ref)
    };
    match versions.iter().find(is_off).map(|version| version.number) {
        Some(number) => EngineError::from(error)
            .help(format!("`keywheel enable {key} {number} --reason TEXT` makes it decrypt again")),
        None => error.into(),
    }
}

impl From<ProviderError> for EngineError {
    fn from(error: ProviderError) -> Self {
        let engine = Self::new("provider/error", error.to_string());
        match error.help {
            Some(help) => engine.help(help),
            None => engine,
        }
    }
}

fn known(record: &KeyRecord, versions: &[VersionRecord]) -> KnownVersions {
    let refs = versions.iter().map(|version| version.provider_ref.clone());
    KnownVersions::from([(record.id, refs.collect())])
}

/// The record of a key, its clients, and its versions.
async fn find(
    workspace: &Workspace,
    state: Option<&str>,
    pick: impl AsyncFnOnce(&dyn ReadState, &Recorded) -> Result<KeyRecord, EngineError>,
) -> Result<(KeyRecord, Managers, Vec<VersionRecord>), EngineError> {
    let (desired, state, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let record = pick(state.as_ref(), &recorded).await?;
    let versions = state.versions(record.id).await?;
    let config: Config = plan::applied_config(&recorded).unwrap_or_else(|| desired.repository.config.clone());
    Ok((record, Managers::new(config.providers, desired.root, Arc::default()), versions))
}

/// A sealed message, taken apart.
struct Message {
    /// Everything before the chunks; bound to each of them.
    header: Vec<u8>,
    key_id: [u8; 16],
    wrapped: Vec<u8>,
    chunks: Vec<u8>,
}

impl Message {
    fn parse(sealed: &[u8]) -> Result<Self, EngineError> {
        let none = || {
            EngineError::new("data/not-sealed", "this was not made by `keywheel data encrypt`")
                .help(format!("give the whole line, which begins with {PREFIX}"))
        };
        let text = std::str::from_utf8(sealed).map_err(|_| none())?.trim();
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX).ok_or_else(none)?).map_err(|_| altered())?;
        let (key_id, rest) = bytes.split_first_chunk::<16>().ok_or_else(altered)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(altered)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (wrapped, chunks) = rest.split_at_checked(length).ok_or_else(altered)?;
        let header = bytes.get(..16 + 2 + length).ok_or_else(altered)?.to_vec();
        Ok(Self { header, key_id: *key_id, wrapped: wrapped.to_vec(), chunks: chunks.to_vec() })
    }
}

fn seal(key_id: &[u8; 16], wrapped: &[u8], data_key: &[u8; 32], plaintext: &[u8]) -> Result<Vec<u8>, EngineError> {
    let length = u16::try_from(wrapped.len()).map_err(|_| broken("the provider's ciphertext is too long"))?;
    let header = [key_id, length.to_be_bytes().as_slice(), wrapped].concat();
    let key = sealing_key(data_key)?;
    let mut sealed = header.clone();
    // An empty message has one chunk too, or its end could be cut off unseen.
    let count = plaintext.len().div_ceil(CHUNK).max(1);
    for index in 0..count {
        let end = plaintext.len().min((index + 1) * CHUNK);
        let mut chunk = plaintext.get(index * CHUNK..end).unwrap_or_default().to_vec();
        key.seal_in_place_append_tag(nonce(index, index + 1 == count)?, Aad::from(&header), &mut chunk)
            .map_err(|_| broken("the message could not be sealed"))?;
        sealed.append(&mut chunk);
    }
    Ok(sealed)
}

fn open(message: &Message, data_key: &[u8; 32]) -> Result<Vec<u8>, EngineError> {
    let key = sealing_key(data_key)?;
    let mut plaintext = Vec::with_capacity(message.chunks.len());
    let mut rest = message.chunks.as_slice();
    let mut index = 0;
    loop {
        let (chunk, others) = rest.split_at(rest.len().min(CHUNK + TAG));
        let mut chunk = chunk.to_vec();
        let last = others.is_empty();
        let opened =
            key.open_in_place(nonce(index, last)?, Aad::from(&message.header), &mut chunk).map_err(|_| altered())?;
        plaintext.extend_from_slice(opened);
        if last {
            return Ok(plaintext);
        }
        rest = others;
        index += 1;
    }
}

fn sealing_key(data_key: &[u8; 32]) -> Result<LessSafeKey, EngineError> {
    let key = UnboundKey::new(&AES_256_GCM, data_key).map_err(|_| broken("the data key was refused"))?;
    Ok(LessSafeKey::new(key))
}

fn nonce(index: usize, last: bool) -> Result<Nonce, EngineError> {
    let index =
        u32::try_from(index).ok().filter(|index| index & LAST == 0).ok_or_else(|| broken("the message is too long"))?;
    let mut nonce = [0; 12];
    let counter = if last { index | LAST } else { index };
    for (place, byte) in nonce.iter_mut().rev().zip(counter.to_be_bytes().into_iter().rev()) {
        *place = byte;
    }
    Ok(Nonce::assume_unique_for_key(nonce))
}

fn altered() -> EngineError {
    EngineError::new("data/altered", "this message was altered or cut off")
        .help("give the whole line, as it was printed")
}

fn broken(message: &str) -> EngineError {
    EngineError::new("data/failed", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(length: usize) -> (Vec<u8>, Message) {
        let plaintext: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let sealed = seal(&[7; 16], b"wrapped", &[1; 32], &plaintext).unwrap();
        let text = format!("{PREFIX}{}\n", STANDARD.encode(&sealed));
        (plaintext, Message::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn messages_of_every_length_around_a_chunk_come_back() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let (plaintext, message) = round_trip(length);
            assert_eq!(open(&message, &[1; 32]).unwrap(), plaintext, "{length}");
        }
    }

    #[test]
    fn a_message_that_was_cut_off_between_two_chunks_is_refused() {
        let (_, mut message) = round_trip(2 * CHUNK);
        message.chunks.truncate(CHUNK + TAG);
        assert_eq!(open(&message, &[1; 32]).unwrap_err().code, "data/altered");
    }

    #[test]
    fn chunks_that_changed_places_are_refused() {
        let (_, mut message) = round_trip(3 * CHUNK);
        message.chunks.rotate_left(CHUNK + TAG);
        assert_eq!(open(&message, &[1; 32]).unwrap_err().code, "data/altered");
    }
}
