//! Log lines on standard error: quiet by default, `-v` and `RUST_LOG` for more.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::args::{Format, Global};

/// Libraries that write requests, and with them credentials, into their finer log lines: no setting shows those.
const CAPPED: &[&str] = &[
    "aws_config",
    "aws_credential_types",
    "aws_runtime",
    "aws_sdk_kms",
    "aws_sdk_resourcegroupstagging",
    "aws_sdk_sts",
    "aws_sigv4",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "h2",
    "hyper",
    "hyper_util",
];

/// Begins to log. `RUST_LOG` wins over `-v`.
pub fn start(global: &Global) {
    let level = match global.verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let named = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let capped = |filter| {
        CAPPED.iter().filter_map(|target| format!("{target}=info").parse().ok()).fold(filter, EnvFilter::add_directive)
    };
    let default = || {
        // Libraries' own chatter only where every detail was asked for.
        let others = if global.verbose > 2 { LevelFilter::DEBUG } else { LevelFilter::ERROR };
        let filter = EnvFilter::default()
            .add_directive(others.into())
            .add_directive(format!("keywheel={level}").parse().unwrap_or_else(|_| level.into()));
        if global.verbose > 2 { capped(filter) } else { filter }
    };
    let filter = named.and_then(|text| EnvFilter::try_new(text).ok()).map_or_else(default, capped);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A subscriber that is there already (in a test) stays.
    let _ = match global.log_format {
        Format::Json => builder.json().try_init(),
        Format::Text => builder
            .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never)
            .with_target(false)
            .try_init(),
    };
}
