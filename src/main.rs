//! keywheel: keeps encryption keys rotated as the documents of a git repository say.

use std::process::ExitCode;

fn main() -> ExitCode {
    keywheel::cli::run()
}
