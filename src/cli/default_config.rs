//! `knockx default-config`: the compiled-in defaults, comments and all.

use crate::config::layers::DEFAULTS;
use std::io::Write;
use std::process::ExitCode;

/// Print the default config with comments.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example: knockx default-config > knockx.toml")]
pub struct Args {}

/// Prints the file that is compiled in.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    // Written rather than printed: a reader such as `head` may close the pipe, which is no failure.
    match std::io::stdout().write_all(DEFAULTS.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
