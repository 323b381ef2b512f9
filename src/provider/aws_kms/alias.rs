//! The stable name: where an alias leads, and moving it.
//!
//! Invariant: an alias is moved by `UpdateAlias` alone, never deleted and made again, so that there is no instant at which
//! it leads nowhere. The home region's alias moves last: once it has moved, all have.

use aws_sdk_kms::types::{KeySpec, KeyUsageType};

use super::client::{Account, Regional, Repeat};
use super::error::Failure;
use super::lookup::{self, Described};
use super::operation::Operation;
use crate::provider::ErrorKind;

/// The key that an alias leads to; none if there is no such alias.
pub(super) async fn target(regional: &Regional, alias: &str) -> Result<Option<Described>, Failure> {
    lookup::describe_if_there(regional, alias).await
}

/// Makes the alias lead from `from` (nothing: there is no alias yet) to `version`, in every region that has it.
pub(super) async fn lead(account: &Account, alias: &str, from: Option<&str>, version: &str) -> Result<(), Failure> {
    let home = account.home();
    let to = lookup::describe(&home, version, Repeat::Settling).await?;
    enabled(&to)?;
    let Some(from) = from else {
        return create(&home, alias, &to).await;
    };
    let old = lookup::describe(&home, from, Repeat::Safe).await?;
    if (kind(&old), old.usage()) != (kind(&to), to.usage()) {
        return Err(refused(format!(
            "{} is a key for {}, and {} one for {}: an alias moves between keys of the same kind and usage only",
            from,
            words(&old),
            version,
            words(&to)
        )));
    }
    // Every region is looked at before the name moves in the first: a move that stops half-way splits the name.
    let mut moves = Vec::new();
    for region in old.replica_regions() {
        let regional = account.region(region);
        let Some(found) = target(&regional, alias).await? else { continue };
        if ![old.key_id(), to.key_id()].contains(&found.key_id()) {
            return Err(elsewhere(Operation::UpdateAlias, alias, &found));
        }
        let replica = lookup::describe(&regional, to.key_id(), Repeat::Settling).await?;
        enabled(&replica)?;
        moves.push((regional, replica));
    }
    if moves.is_empty() {
        return update(&home, alias, old.key_id(), &to).await;
    }
    // An interrupt comes too late: a name that leads to two versions is worse than a wait.
    for (regional, replica) in &moves {
        update(&regional.determined(), alias, old.key_id(), replica).await?;
    }
    update(&home.determined(), alias, old.key_id(), &to).await
}

/// `UpdateAlias` itself accepts a key that is disabled, and applications would then fail.
fn enabled(key: &Described) -> Result<(), Failure> {
    if key.is_enabled() {
        return Ok(());
    }
    let state = key.metadata.key_state.as_ref().map_or("not enabled", |state| state.as_str());
    Err(refused(format!("{} is {state}: a stable name leads to an enabled key only", key.arn)))
}

/// In every region of `version`, does the alias lead to it, where there is one?
pub(super) async fn leads_everywhere(account: &Account, alias: &str, version: &Described) -> Result<(), Failure> {
    for region in version.replica_regions() {
        if let Some(found) = target(&account.region(region), alias).await?
            && found.key_id() != version.key_id()
        {
            let message = format!("in {region}, {alias} leads to {}, not to {}", found.arn, version.arn);
            return Err(Failure::settling(Operation::DescribeKey, ErrorKind::ProofFailed, message));
        }
    }
    Ok(())
}

/// Moves it also where it seems to lead there already: what `DescribeKey` says may be of a moment ago.
async fn update(regional: &Regional, alias: &str, from: &str, to: &Described) -> Result<(), Failure> {
    match target(regional, alias).await? {
        Some(found) if [from, to.key_id()].contains(&found.key_id()) => {}
        Some(found) => return Err(elsewhere(Operation::UpdateAlias, alias, &found)),
        None => {
            let message = format!("{alias} does not exist any more in {}", regional.region);
            return Err(Failure::new(ErrorKind::NotFound, Operation::UpdateAlias, message)
                .help("somebody deleted it: find out why, and create it again if applications need it"));
        }
    }
    let send = || regional.kms.update_alias().alias_name(alias).target_key_id(to.key_id()).send();
    regional.call(Operation::UpdateAlias, Repeat::Settling, send).await?;
    lookup::seen(regional, Operation::UpdateAlias, alias, |found| found.key_id() == to.key_id()).await
}

async fn create(regional: &Regional, alias: &str, to: &Described) -> Result<(), Failure> {
    let send = || regional.kms.create_alias().alias_name(alias).target_key_id(to.key_id()).send();
    let Err(failure) = regional.call(Operation::CreateAlias, Repeat::Settling, send).await else {
        return lookup::seen(regional, Operation::CreateAlias, alias, |found| found.key_id() == to.key_id()).await;
    };
    if failure.kind() != ErrorKind::Conflict {
        return Err(failure);
    }
    // It is there: made by an attempt before, or by somebody else.
    let found = lookup::describe(regional, alias, Repeat::Settling).await?;
    if found.key_id() == to.key_id() { Ok(()) } else { Err(elsewhere(Operation::CreateAlias, alias, &found)) }
}

fn elsewhere(operation: Operation, alias: &str, found: &Described) -> Failure {
    Failure::new(ErrorKind::Conflict, operation, format!("{alias} leads to {}, which is neither version", found.arn))
        .help("somebody moved it: find out who, and lead it back before the next rotation")
}

fn refused(message: String) -> Failure {
    Failure::new(ErrorKind::Refused, Operation::UpdateAlias, message)
}

/// The kinds between which AWS moves no alias (`UpdateAlias` in the AWS KMS API Reference).
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Symmetric,
    Hmac,
    Asymmetric,
}

fn kind(key: &Described) -> Kind {
    match &key.metadata.key_spec {
        None | Some(KeySpec::SymmetricDefault) => Kind::Symmetric,
        Some(KeySpec::Hmac224 | KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512) => Kind::Hmac,
        Some(_) => Kind::Asymmetric,
    }
}

fn words(key: &Described) -> String {
    let spec = key.metadata.key_spec.as_ref().map_or("SYMMETRIC_DEFAULT", KeySpec::as_str);
    let usage = key.usage().map_or("ENCRYPT_DECRYPT", KeyUsageType::as_str);
    format!("{usage} ({spec})")
}
