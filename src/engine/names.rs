//! What was probably meant by a name that nobody knows.

use crate::document::suggest;
use crate::model::{Address, Name};

use super::EngineError;

/// The error for a tenant, policy or key that is in neither the documents nor the record.
pub(super) fn unknown<'n>(
    code: &'static str,
    message: String,
    wanted: &str,
    known: impl Iterator<Item = &'n str>,
    otherwise: &str,
) -> EngineError {
    let help = match suggest(wanted, known) {
        Some(name) => format!("did you mean {name:?}?"),
        None => otherwise.to_owned(),
    };
    EngineError::new(code, message).help(help)
}

/// [`unknown`] for a tenant.
pub(super) fn unknown_tenant<'n>(tenant: &Name, known: impl Iterator<Item = &'n Name>) -> EngineError {
    let message = format!("there is no tenant {tenant}");
    let otherwise = "`keywheel status` lists the keys of every tenant";
    unknown("names/unknown-tenant", message, tenant.as_str(), known.map(Name::as_str), otherwise)
}

/// [`unknown`] for a policy or key.
pub(super) fn unknown_address<'n>(
    what: &str,
    address: &Address,
    known: impl Iterator<Item = &'n Address>,
) -> EngineError {
    let known: Vec<String> = known.map(Address::to_string).collect();
    let message = format!("there is no {what} {address}");
    let otherwise = "`keywheel status` lists every key with its policy";
    unknown("names/unknown", message, &address.to_string(), known.iter().map(String::as_str), otherwise)
}
