//! What OpenPGP texts are made of (RFC 9580): armour, packets, public keys and signatures of version 4, and whether a
//! signature is one of some bytes by some key. Nothing here knows what a signature is good for.
//!
//! What is read may be hostile: every length is bounded before it is used, and what is not needed to check signatures
//! (compressed, encrypted and partial packets among them) is not read at all.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::Timestamp;

/// Tags of packets (section 5).
pub(super) const SIGNATURE: u8 = 2;
pub(super) const SECRET_KEY: u8 = 5;
pub(super) const PUBLIC_KEY: u8 = 6;
pub(super) const SECRET_SUBKEY: u8 = 7;
pub(super) const MARKER: u8 = 10;
pub(super) const TRUST: u8 = 12;
pub(super) const USER_ID: u8 = 13;
pub(super) const PUBLIC_SUBKEY: u8 = 14;
pub(super) const USER_ATTRIBUTE: u8 = 17;

/// The object identifiers of curves (section 9.2), and the bytes of one coordinate.
const ED25519_LEGACY: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0xDA, 0x47, 0x0F, 0x01];
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x23];

/// Sizes in bytes between which RSA keys count: 2048 and 8192 bits.
const RSA_SIZES: std::ops::RangeInclusive<usize> = 256..=1024;

/// What a text in armour holds (section 6). Its checksum is not looked at, as section 6.1 asks: a signature says more.
pub(super) fn unarmoured(label: &str, text: &str) -> Option<Vec<u8>> {
    let mut lines = text.trim().lines().map(str::trim_end);
    if lines.next()? != format!("-----BEGIN {label}-----") {
        return None;
    }
    while let Some(header) = lines.next().filter(|line| !line.is_empty()) {
        header.find(':')?;
    }
    let (mut base64, end) = (String::new(), format!("-----END {label}-----"));
    loop {
        match lines.next()? {
            line if line == end => break,
            checksum if checksum.len() == 5 && checksum.starts_with('=') => {}
            line => base64.push_str(line),
        }
    }
    if lines.next().is_some() {
        return None;
    }
    STANDARD.decode(base64).ok()
}

/// The packets in some bytes: tag and body.
pub(super) fn packets(bytes: &[u8], max: usize) -> Option<Vec<(u8, &[u8])>> {
    let (mut rest, mut packets) = (Reader(bytes), Vec::new());
    while !rest.0.is_empty() {
        let header = rest.byte()?;
        let (tag, length) = match header {
            // The form of before 1998 (section 4.2.2); without a length, a packet would be the rest of the file.
            0x80..=0xBF => match header & 3 {
                0 => ((header >> 2) & 0xF, u32::from(rest.byte()?)),
                1 => ((header >> 2) & 0xF, u32::from(rest.short()?)),
                2 => ((header >> 2) & 0xF, rest.number()?),
                _ => return None,
            },
            0xC0..=0xFF => match rest.byte()? {
                // In parts come only packets of data.
                224..=254 => return None,
                first => (header & 0x3F, rest.length(first)?),
            },
            _ => return None,
        };
        packets.push((tag, rest.take(usize::try_from(length).ok()?)?));
        if packets.len() > max {
            return None;
        }
    }
    Some(packets)
}

/// What names a key (section 5.5.4.2). SHA-1 names it here, and proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 20]);

/// A public key of version 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    body: Vec<u8>,
    pub created: Timestamp,
}

impl PublicKey {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let fits = reader.byte()? == 4 && u16::try_from(body.len()).is_ok();
        let created = instant(reader.number()?)?;
        fits.then(|| Self { body: body.to_vec(), created })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut bytes = [0; 20];
        for (byte, hashed) in bytes.iter_mut().zip(digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.hashed()).as_ref()) {
            *byte = *hashed;
        }
        Fingerprint(bytes)
    }

    /// How a key is written into what is signed (section 5.2.4).
    pub(super) fn hashed(&self) -> Vec<u8> {
        let length = u16::try_from(self.body.len()).unwrap_or(u16::MAX);
        [&[0x99][..], &length.to_be_bytes(), &self.body].concat()
    }

    /// Can its signatures be checked?
    pub(super) fn is_usable(&self) -> bool {
        self.material().is_some()
    }

    fn material(&self) -> Option<Material<'_>> {
        let mut reader = Reader(self.body.get(5..)?);
        let material = match reader.byte()? {
            1 | 3 => {
                let (n, e) = (reader.integer()?, reader.integer()?);
                RSA_SIZES.contains(&n.len()).then_some(Material::Rsa { n, e })?
            }
            19 => {
                let (curve, point) = (reader.curve()?, reader.integer()?);
                let (algorithm, hash, half): (&'static dyn VerificationAlgorithm, _, _) = match curve {
                    P256 => (&ECDSA_P256_SHA256_FIXED, Hash::Sha256, 32),
                    P384 => (&ECDSA_P384_SHA384_FIXED, Hash::Sha384, 48),
                    P521 => (&ECDSA_P521_SHA512_FIXED, Hash::Sha512, 66),
                    _ => return None,
                };
                let is_whole = point.first() == Some(&4) && point.len() == 1 + 2 * half;
                is_whole.then_some(Material::Curve { algorithm, hash, half, point })?
            }
            22 => {
                let (curve, point) = (reader.curve()?, reader.integer()?);
                let point = point.strip_prefix(&[0x40]).filter(|point| point.len() == 32)?;
                (curve == ED25519_LEGACY).then_some(Material::Edwards { is_legacy: true, point })?
            }
            27 => Material::Edwards { is_legacy: false, point: reader.take(32)? },
            _ => return None,
        };
        reader.0.is_empty().then_some(material)
    }
}

enum Material<'a> {
    Rsa {
        n: &'a [u8],
        e: &'a [u8],
    },
    /// A curve of NIST with the hash that is as long as it.
    Curve {
        algorithm: &'static dyn VerificationAlgorithm,
        hash: Hash,
        half: usize,
        point: &'a [u8],
    },
    /// Ed25519, as `GnuPG` numbered it first or as RFC 9580 does.
    Edwards {
        is_legacy: bool,
        point: &'a [u8],
    },
}

/// The hashes that count (section 9.5). MD5, SHA-1 and RIPEMD-160 do not: signatures of them can be moved elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(number: u8) -> Option<Self> {
        match number {
            8 => Some(Self::Sha256),
            9 => Some(Self::Sha384),
            10 => Some(Self::Sha512),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        }
    }
}

/// Why a signature is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Of a hash that does not count.
    Weak,
    /// Of a key, or a pair of key and hash, that is not checked.
    Kind,
    /// Of something else, or by somebody else.
    Wrong,
}

/// A signature of version 4 (section 5.2.3). What says anything about a key stands in its signed part; the other part
/// only says whose the signature may be.
#[derive(Debug, Clone)]
pub(super) struct Signature<'a> {
    /// What it is for (section 5.2.1).
    pub kind: u8,
    pub created: Timestamp,
    /// Seconds after which it no longer counts.
    pub lifetime: Option<u32>,
    /// Seconds after which the key that it is about no longer counts.
    pub key_lifetime: Option<u32>,
    /// What the key that it is about is for.
    pub key_flags: Option<u8>,
    /// Signatures within it.
    pub embedded: Vec<&'a [u8]>,
    algorithm: u8,
    hash: u8,
    issuer: Option<Fingerprint>,
    key_id: Option<[u8; 8]>,
    /// It and its signed part.
    signed: &'a [u8],
    values: &'a [u8],
}

/// What a signature is for, also where the rest of it cannot be read.
pub(super) fn kind(body: &[u8]) -> Option<u8> {
    match body {
        [3, 5, kind, ..] | [4..=6, kind, ..] => Some(*kind),
        _ => None,
    }
}

impl<'a> Signature<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.byte()? != 4 {
            return None;
        }
        let (kind, algorithm, hash, length) = (reader.byte()?, reader.byte()?, reader.byte()?, reader.short()?);
        let hashed = reader.take(length.into())?;
        let signed = body.get(..6 + hashed.len())?;
        let length = reader.short()?;
        let unhashed = reader.take(length.into())?;
        let _start_of_digest = reader.short()?;
        let mut signature = Self {
            kind,
            created: Timestamp::MIN_UTC,
            lifetime: None,
            key_lifetime: None,
            key_flags: None,
            embedded: Vec::new(),
            algorithm,
            hash,
            issuer: None,
            key_id: None,
            signed,
            values: reader.0,
        };
        let mut created = None;
        for (header, value) in subpackets(unhashed)?.into_iter().chain(subpackets(hashed)?) {
            signature.says_whose(header, value)?;
        }
        for (header, value) in subpackets(hashed)? {
            match header & 0x7F {
                2 => created = Some(instant(Reader(value).number()?)?),
                3 => signature.lifetime = Some(Reader(value).number()?).filter(|seconds| *seconds > 0),
                9 => signature.key_lifetime = Some(Reader(value).number()?).filter(|seconds| *seconds > 0),
                27 => signature.key_flags = Some(value.first().copied().unwrap_or(0)),
                // These change nothing here: exportable, trust, preferences, features, revocation's reason, who else may.
                4..=7 | 11 | 12 | 16 | 21..=26 | 28..=30 | 32..=35 => {}
                // What must be understood, and is not, makes the whole void (section 5.2.3.7).
                _ if header & 0x80 != 0 => return None,
                _ => {}
            }
        }
        signature.created = created?;
        Some(signature)
    }

    fn says_whose(&mut self, header: u8, value: &'a [u8]) -> Option<()> {
        match (header & 0x7F, value) {
            (16, _) => self.key_id = Some(value.try_into().ok()?),
            (33, [4, fingerprint @ ..]) => self.issuer = Some(Fingerprint(fingerprint.try_into().ok()?)),
            (32, _) => self.embedded.push(value),
            _ => {}
        }
        Some(())
    }

    /// Does it say that it was made by this key?
    pub(super) fn is_by(&self, key: &Fingerprint) -> bool {
        match (self.issuer, self.key_id) {
            (Some(issuer), _) => issuer == *key,
            (None, Some(id)) => key.0.ends_with(&id),
            (None, None) => false,
        }
    }

    /// Who made it, in its own words.
    pub(super) fn issuer(&self) -> String {
        match (&self.issuer, &self.key_id) {
            (Some(issuer), _) => issuer.to_string(),
            (None, Some(id)) => hex(id),
            (None, None) => "a key that it does not name".to_owned(),
        }
    }

    /// When it no longer counts.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        after(self.created, self.lifetime)
    }

    /// Was it made by this key over these bytes?
    pub(super) fn check(&self, key: &PublicKey, message: &[u8]) -> Result<(), Refusal> {
        let hash = Hash::of(self.hash).ok_or(Refusal::Weak)?;
        let material = key.material().ok_or(Refusal::Kind)?;
        let length = u32::try_from(self.signed.len()).map_err(|_| Refusal::Wrong)?;
        let message = [message, self.signed, &[4, 0xFF], &length.to_be_bytes()].concat();
        match self.holds(&material, hash, &message) {
            Some(true) => Ok(()),
            Some(false) => Err(Refusal::Wrong),
            None => Err(Refusal::Kind),
        }
    }

    fn holds(&self, material: &Material<'_>, hash: Hash, message: &[u8]) -> Option<bool> {
        let mut values = Reader(self.values);
        let holds = match (self.algorithm, material) {
            (1 | 3, Material::Rsa { n, e }) => {
                let parameters = match hash {
                    Hash::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
                    Hash::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
                    Hash::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
                };
                let signature = values.padded(n.len())?;
                RsaPublicKeyComponents { n, e }.verify(parameters, message, &signature).is_ok()
            }
            (19, Material::Curve { algorithm, hash: wanted, half, point }) if hash == *wanted => {
                let signature = [values.padded(*half)?, values.padded(*half)?].concat();
                UnparsedPublicKey::new(*algorithm, point).verify(message, &signature).is_ok()
            }
            (22, Material::Edwards { is_legacy: true, point }) => {
                let signature = [values.padded(32)?, values.padded(32)?].concat();
                let hashed = digest(hash.algorithm(), message);
                UnparsedPublicKey::new(&ED25519, point).verify(hashed.as_ref(), &signature).is_ok()
            }
            (27, Material::Edwards { is_legacy: false, point }) => {
                let hashed = digest(hash.algorithm(), message);
                UnparsedPublicKey::new(&ED25519, point).verify(hashed.as_ref(), values.take(64)?).is_ok()
            }
            _ => return None,
        };
        Some(holds && values.0.is_empty())
    }
}

/// So many seconds later; none means never.
pub(super) fn after(start: Timestamp, seconds: Option<u32>) -> Option<Timestamp> {
    start.checked_add_signed(chrono::Duration::seconds(seconds?.into()))
}

/// In hexadecimal, as `gpg --list-keys` shows it.
impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn instant(seconds: u32) -> Option<Timestamp> {
    Timestamp::from_timestamp(seconds.into(), 0)
}

/// The parts of a signature's area (section 5.2.3.7): type, with the bit that says that it must be understood, and value.
fn subpackets(area: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let (mut rest, mut subpackets) = (Reader(area), Vec::new());
    while !rest.0.is_empty() {
        let first = rest.byte()?;
        let length = rest.length(first)?;
        let (header, value) = rest.take(usize::try_from(length).ok()?)?.split_first()?;
        subpackets.push((*header, value));
    }
    Some(subpackets)
}

/// Bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// The length that begins with this byte (section 4.2.1).
    fn length(&mut self, first: u8) -> Option<u32> {
        Some(match first {
            0..=191 => first.into(),
            255 => self.number()?,
            _ => ((u32::from(first) - 192) << 8) + u32::from(self.byte()?) + 192,
        })
    }

    /// A positive number (section 3.2), without zeros before it.
    fn integer(&mut self) -> Option<&'a [u8]> {
        let bits = self.short()?;
        let bytes = self.take(usize::from(bits).div_ceil(8))?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..).filter(|number| !number.is_empty())
    }

    /// A positive number in so many bytes.
    fn padded(&mut self, length: usize) -> Option<Vec<u8>> {
        let number = self.integer()?;
        let zeros = length.checked_sub(number.len())?;
        Some([vec![0; zeros].as_slice(), number].concat())
    }

    /// The object identifier of a curve.
    fn curve(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }
}
