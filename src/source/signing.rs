//! How git is told to sign: what signs commits here signs approvals too.

use std::path::Path;

/// What git's configuration says about signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// `gpg.format`: `ssh`, or `openpgp`, which is git's default.
    pub format: String,
    /// `user.signingKey`: a file, a public key, or an OpenPGP key's name.
    pub key: Option<String>,
    /// `gpg.ssh.program`, or `gpg.program`.
    pub program: Option<String>,
}

/// Reads the configuration of the repository that `dir` lies in, or, outside one, that of the user.
#[must_use]
pub fn signing(dir: &Path) -> Signing {
    let repository = super::open(dir).ok();
    let config = repository.and_then(|it| it.config().ok()).or_else(|| git2::Config::open_default().ok());
    let config = config.and_then(|mut config| config.snapshot().ok());
    let get = |name: &str| config.as_ref()?.get_string(name).ok().filter(|value| !value.is_empty());
    let format = get("gpg.format").unwrap_or_else(|| "openpgp".to_owned());
    let program = if format == "ssh" {
        get("gpg.ssh.program")
    } else {
        get("gpg.openpgp.program").or_else(|| get("gpg.program"))
    };
    let path = config.as_ref().and_then(|config| config.get_path("user.signingkey").ok());
    let path = path.filter(|path| path.exists()).and_then(|path| path.to_str().map(str::to_owned));
    Signing { key: path.or_else(|| get("user.signingkey")), program, format }
}
