//! To be written.

use std::process::ExitCode;

/// To be written.
#[derive(Debug, Default, clap::Args)]
pub struct Args {}

/// To be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let _ = args;
    anyhow::bail!("not built yet")
}
