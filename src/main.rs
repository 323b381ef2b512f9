//! keywheel: keeps encryption keys rotated as the documents of a git repository say.

use std::process::ExitCode;

/// Documents are read, and key managers asked, on many threads that allocate much: the system's allocator on Linux made a
/// plan a third slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keywheel::cli::run()
}
