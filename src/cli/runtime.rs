//! The async runtime, made only by commands that talk to a database or a key manager.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::CliError;

/// Runs `work` to its end.
pub fn block_on<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, CliError>
where
    CliError: From<E>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new("cli/runtime", format!("cannot start threads: {error}")))?;
    Ok(runtime.block_on(work)?)
}

/// Sets `interrupt` at the first Ctrl-C (or SIGTERM), so that what has begun is finished and recorded; the second one
/// ends the process, which loses nothing either: the journal says how far each key has come.
pub fn stop_on_signal(interrupt: Arc<AtomicBool>, tell: impl Fn() + Send + 'static) {
    tokio::spawn(async move {
        signal().await;
        interrupt.store(true, Ordering::SeqCst);
        tell();
        signal().await;
        std::process::exit(130);
    });
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
