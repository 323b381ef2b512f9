//! What may be applied: a clean commit, on the branch that is allowed, no older than the last one, with a state that stays.

use crate::document::Config;
use crate::model::{KmsProvider, Origin, Recorded};
use crate::source::{Ancestry, OnBranch, SourceError};
use crate::store::is_below;

use super::apply::short;
use super::load::{self, Known, load_with_record};
use super::run::Override;
use super::{ApplyOptions, Desired, EngineError, ErrorKind, Selection, Workspace};

/// The documents of the commit that is applied. A work tree with changes is refused, unless told otherwise.
pub(super) async fn committed(workspace: &Workspace, options: &ApplyOptions) -> Result<Known, EngineError> {
    let state = options.state.as_deref();
    let known = match load_with_record(workspace, state).await {
        // A bare repository has no work tree to be dirty.
        Err(error) if error.code == "source/bare" => {
            let head = Workspace { selection: Selection::Ref("HEAD".to_owned()), ..workspace.clone() };
            load_with_record(&head, state).await?
        }
        other => other?,
    };
    let desired = &known.desired;
    let Some(origin) = &desired.origin else {
        return Err(EngineError::new(
            "apply/no-commit",
            "there is no git commit here: apply records which commit it applied",
        )
        .help("`git init`, commit the documents, and apply again"));
    };
    if desired.dirty.is_empty() {
        return Ok(known);
    }
    if !options.allow_dirty {
        let files = desired.dirty.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = desired.dirty.len().saturating_sub(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(EngineError::new("apply/dirty", format!("uncommitted changes in {files}{more}"))
            .kind(ErrorKind::Refused)
            .help("commit or stash them, or apply them as they are with --allow-dirty"));
    }
    let origin = Origin { commit: format!("{}-dirty", origin.commit), ..origin.clone() };
    Ok(Known { desired: Desired { origin: Some(origin), ..known.desired }, ..known })
}

/// A state file inside the checkout of a CI job dies with the machine, and with it what is known of real keys.
pub(super) fn safe_state(desired: &Desired, options: &ApplyOptions) -> Result<(), EngineError> {
    let in_ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let cloud = desired.repository.keys.values().find(|key| key.value.kms_provider != KmsProvider::Local);
    if !in_ci || options.ephemeral_state {
        return Ok(());
    }
    let state_goes = desired.location(options.state.as_deref())?.is_file_below(&desired.root);
    let uses_keystore = desired.repository.keys.values().any(|key| key.value.kms_provider == KmsProvider::Local);
    let keystore = desired.root.join(&desired.repository.config.providers.local.keystore);
    if uses_keystore && !state_goes && is_below(&keystore, &desired.root) {
        let message = "CI is set, and the keystore is a file in the checkout: the keys would go with it, and the state \
                       database would still name them";
        return Err(EngineError::new("apply/ephemeral-keystore", message).kind(ErrorKind::Refused).help(
            "set providers.local.keystore in keywheel.yaml to a path outside the checkout, on storage that stays; or say \
             --ephemeral-state if losing the keys is fine",
        ));
    }
    let (Some(key), true) = (cloud, state_goes) else { return Ok(()) };
    Err(EngineError::new(
        "apply/ephemeral-state",
        format!("CI is set, and the state database is a file in the checkout: with it would go what is known of the keys in {}", key.value.kms_provider),
    )
    .kind(ErrorKind::Refused)
    .help("keep the file outside the checkout, on storage that stays; or say --ephemeral-state if losing it is fine"))
}

/// Is the commit on the branch that `apply_from` allows?
pub(super) fn on_branch(
    workspace: &Workspace,
    desired: &Desired,
    config: &Config,
    options: &ApplyOptions,
) -> Result<(), EngineError> {
    let (Some(branch), Some(origin), false) = (&config.apply_from, &desired.origin, options.allow_dirty) else {
        return Ok(());
    };
    match load::open(&workspace.dir)?.on_branch(&origin.commit, branch)? {
        OnBranch::Yes { .. } => Ok(()),
        OnBranch::No { looked_at } => Err(EngineError::new(
            "apply/not-on-branch",
            format!("commit {} is not on {branch}, the only branch that apply_from allows", short(&origin.commit)),
        )
        .kind(ErrorKind::Refused)
        .help(format!("merge it first; these refs were looked at: {}; or say --allow-dirty", looked_at.join(", ")))),
    }
}

/// Is the commit no older than the one that was applied last, or was that allowed?
pub(super) fn not_older(
    workspace: &Workspace,
    desired: &Desired,
    recorded: &Recorded,
    options: &ApplyOptions,
) -> Result<Option<Override>, EngineError> {
    let (Some(origin), Some(last)) = (&desired.origin, &recorded.last_applied) else { return Ok(None) };
    let last = last.origin.commit.trim_end_matches("-dirty");
    let commit = origin.commit.trim_end_matches("-dirty");
    if last == commit || last.is_empty() {
        return Ok(None);
    }
    let refused =
        |is: &str| format!("commit {} {is} older than {}, which was applied last", short(commit), short(last));
    let allowed = |is: &str| options.allow_older.clone().map(|reason| Override { refused: vec![refused(is)], reason });
    match load::open(&workspace.dir)?.contains(commit, last) {
        Ok(Ancestry::Yes) => allowed("is").map(Some).ok_or_else(|| {
            EngineError::new("apply/older", refused("is"))
                .kind(ErrorKind::Refused)
                .help("check out the newer commit; or, to go back on purpose, say --allow-older REASON")
        }),
        Ok(Ancestry::Unknown) | Err(SourceError::UnknownRevision { shallow: true, .. }) => allowed("may be")
            .map(Some)
            .ok_or_else(|| SourceError::Shallow { ancestor: last.to_owned(), descendant: commit.to_owned() }.into()),
        // Another history (a force push, a squash that dropped the commit) is not an older one.
        Ok(Ancestry::No) | Err(SourceError::UnknownRevision { .. }) => Ok(None),
        Err(error) => allowed("may be").map(Some).ok_or_else(|| error.into()),
    }
}
