//! The root key, under which a keystore is sealed: found, or made for trying keywheel out.
//!
//! It is looked for in the environment variable [`VARIABLE`], then in the configured file, then beside the keystore.
//! What is set and cannot be used is an error; the next place is not tried, so that a typing mistake never ends in a
//! keystore under a root key that nobody chose.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use zeroize::Zeroizing;

use super::error::KeystoreError;
use super::files;
use super::seal::{KEY_LEN, Material};
use crate::diagnostic::Finding;

/// The environment variable that holds the root key.
pub const VARIABLE: &str = "KEYWHEEL_ROOT_KEY";

/// The name of a root key that keywheel made, beside the keystore.
const MADE_NAME: &str = "root.key";

/// A root key is at most 64 characters of text; a file may have some white space around it.
const MAX_FILE_LEN: usize = 1024;

/// A root key, and where it came from.
pub(super) struct RootKey {
    /// The key itself.
    pub(super) bytes: Material,
    /// Where it came from, for messages.
    pub(super) origin: String,
    /// What the person who runs keywheel should know about it.
    pub(super) warning: Option<Finding>,
}

/// Where a keystore's root key may be.
#[derive(Clone)]
pub(super) struct RootKeySource {
    /// The value of [`VARIABLE`], if it is set.
    pub(super) variable: Option<Zeroizing<String>>,
    /// The file that the configuration names.
    pub(super) file: Option<PathBuf>,
    /// Where one is that keywheel made.
    pub(super) beside: PathBuf,
}

impl RootKeySource {
    /// The places for a keystore, with the variable as this process has it.
    pub(super) fn new(keystore: &Path, file: Option<PathBuf>) -> Self {
        let variable = match env::var(VARIABLE) {
            Ok(text) => Some(Zeroizing::new(text)),
            // It is set, and cannot be a root key: the empty text is refused as such.
            Err(env::VarError::NotUnicode(_)) => Some(Zeroizing::new(String::new())),
            Err(env::VarError::NotPresent) => None,
        };
        Self { variable, file, beside: keystore.with_file_name(MADE_NAME) }
    }

    /// The root key, if there is one.
    pub(super) fn find(&self) -> Result<Option<RootKey>, KeystoreError> {
        if let Some(text) = &self.variable {
            let origin = VARIABLE.to_owned();
            let Some(bytes) = decode(text) else { return Err(KeystoreError::BadRootKey { origin }) };
            return Ok(Some(RootKey { bytes, origin, warning: None }));
        }
        match &self.file {
            Some(file) => match read(file)? {
                Some(root_key) => Ok(Some(root_key)),
                None => Err(KeystoreError::NoRootKeyFile { file: file.clone() }),
            },
            None => read(&self.beside),
        }
    }

    /// The root key; a new one beside the keystore, with a warning, if there is none.
    pub(super) fn find_or_make(&self) -> Result<RootKey, KeystoreError> {
        if let Some(root_key) = self.find()? {
            return Ok(root_key);
        }
        let text = Zeroizing::new(STANDARD.encode(Material::random()?.expose()));
        let made = files::create(&self.beside, |file| file.write_all(text.as_bytes()))
            .map_err(KeystoreError::io("make the root key", &self.beside))?;
        // Whoever was first has made the root key: it is read back from where everybody reads it.
        let root_key = read(&self.beside)?.ok_or_else(|| KeystoreError::NoRootKeyFile { file: self.beside.clone() })?;
        let warning = made.then(|| {
            Finding::warning("local/root-key-made", format!("made a root key, {}", self.beside.display())).help(format!(
                "good for trying keywheel out; otherwise keep the root key apart from the keystore, in {VARIABLE} or \
                 in a file that `root_key_file` names, and back it up: without it no key can be read"
            ))
        });
        Ok(RootKey { warning: warning.or(root_key.warning), ..root_key })
    }
}

/// The root key in a file; none if there is no file.
fn read(path: &Path) -> Result<Option<RootKey>, KeystoreError> {
    let failed = || KeystoreError::io("read the root key", path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed()(error)),
    };
    let mode = file.metadata().map_err(failed())?.mode();
    // The full capacity at once: growing would leave copies of the text behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_LEN));
    let origin = path.display().to_string();
    match file.take(MAX_FILE_LEN as u64).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(KeystoreError::BadRootKey { origin }),
        Err(error) => return Err(failed()(error)),
    }
    let Some(bytes) = decode(&text) else { return Err(KeystoreError::BadRootKey { origin }) };
    let warning = (mode & 0o077 != 0).then(|| {
        let mode = mode & 0o777;
        Finding::warning("local/root-key-readable", format!("the root key {origin} has mode {mode:04o}"))
            .help(format!("let nobody else read it: `chmod 600 {origin}`"))
    });
    Ok(Some(RootKey { bytes, origin, warning }))
}

/// 32 bytes in hex, or in base64 with or without padding; white space around it does not count.
fn decode(text: &str) -> Option<Material> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let text = text.trim_ascii();
    if text.len() == 2 * KEY_LEN {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        return Some(Material::copy_of(&bytes));
    }
    // Base64 decodes in steps of three bytes, so that the buffer is a little larger than the key.
    let mut buffer = Zeroizing::new([0; KEY_LEN + 4]);
    let length = BASE64.decode_slice(text, buffer.as_mut_slice()).ok()?;
    buffer.get(..length)?.try_into().ok().map(Material::copy_of)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HEX: &str = "000102030405060708090A0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn source(folder: &Path, variable: Option<&str>, file: Option<&str>) -> RootKeySource {
        RootKeySource {
            variable: variable.map(|text| Zeroizing::new(text.to_owned())),
            file: file.map(|name| folder.join(name)),
            beside: folder.join(MADE_NAME),
        }
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_root_key_reads_from_hex_and_from_base64() {
        for text in [HEX, BASE64, BASE64.trim_end_matches('='), &format!(" {BASE64}\r\n")] {
            let bytes = decode(text).unwrap_or_else(|| panic!("{text}"));
            assert!(bytes.expose().iter().copied().eq(0..32), "{text}");
        }
    }

    #[test]
    fn any_other_text_is_refused() {
        let long = format!("{BASE64}{BASE64}");
        for text in ["", "secret", &HEX[1..], &HEX.replace('0', "g"), &BASE64[4..], &BASE64.replace('A', "-"), &long] {
            assert!(decode(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_variable_comes_before_the_file_and_the_file_before_one_that_was_made() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("configured"), BASE64, 0o600);
        write(&folder.path().join(MADE_NAME), HEX, 0o600);

        let origin = |variable, file| source(folder.path(), variable, file).find().unwrap().unwrap().origin;
        assert_eq!(origin(Some(HEX), Some("configured")), "KEYWHEEL_ROOT_KEY");
        assert!(origin(None, Some("configured")).ends_with("/configured"));
        assert!(origin(None, None).ends_with("/root.key"));
    }

    #[test]
    fn what_is_set_and_unusable_is_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("text"), "not a key", 0o600);
        fs::write(folder.path().join("bytes"), [0xff; 32]).unwrap();
        write(&folder.path().join(MADE_NAME), HEX, 0o600);

        let make = |variable, file| source(folder.path(), variable, file).find_or_make().err().unwrap();
        assert!(matches!(make(Some(""), None), KeystoreError::BadRootKey { origin } if origin == VARIABLE));
        assert!(matches!(make(None, Some("text")), KeystoreError::BadRootKey { .. }));
        assert!(matches!(make(None, Some("bytes")), KeystoreError::BadRootKey { .. }));
        assert!(matches!(make(None, Some("absent")), KeystoreError::NoRootKeyFile { .. }));
    }

    #[test]
    fn one_that_is_made_is_private_and_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path(), None, None);
        assert!(source.find().unwrap().is_none());

        let made = source.find_or_make().unwrap();
        assert_eq!(made.warning.as_ref().unwrap().code, "local/root-key-made");
        assert_eq!(fs::metadata(&source.beside).unwrap().permissions().mode() & 0o777, 0o600);

        let again = source.find_or_make().unwrap();
        assert_eq!(again.bytes.expose(), made.bytes.expose());
        assert_eq!(again.warning, None);
    }

    #[test]
    fn one_that_others_can_read_is_used_with_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("configured"), BASE64, 0o640);
        let root_key = source(folder.path(), None, Some("configured")).find().unwrap().unwrap();
        let warning = root_key.warning.unwrap();
        assert_eq!(warning.code, "local/root-key-readable");
        assert!(warning.message.ends_with("/configured has mode 0640"), "{}", warning.message);
    }
}
