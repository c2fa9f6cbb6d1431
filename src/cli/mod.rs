//! The commands. Each file is one command: its arguments, and `run`.
//!
//! An error is one plain sentence on standard error and exit code 1; never a backtrace.

pub mod config_arg;
pub mod serve;
pub mod demo;
pub mod simulate;
pub mod check;
pub mod migrate;
pub mod default_config;
pub mod healthcheck;
pub mod user;
pub mod key;
pub mod usage;
pub mod journal;
mod runtime;
mod session;

use clap::{Parser, Subcommand};
use config_arg::ConfigArg;
use jiff::Timestamp;
use runtime::Runtime;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// An OpenAI-compatible gateway for Grok with exact quotas and a durable ledger.
#[derive(Debug, Parser)]
#[command(name = "knockx", version, about)]
#[command(
    after_help = "Examples: knockx demo     a complete gateway with a simulated Grok\n         \
    knockx          the same as `knockx serve`: the gateway as configured"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Config file; may also follow the command. Defaults to the file named by `KNOCKX_CONFIG`.
    #[arg(id = "config_before", long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Simulate(simulate::Args),
    Check(check::Args),
    Migrate(migrate::Args),
    DefaultConfig(default_config::Args),
    Healthcheck(healthcheck::Args),
    User(user::Args),
    Key(key::Args),
    Usage(usage::Args),
    Journal(journal::Args),
}

/// Reads the address of an argument. The standard library's error does not say what an address looks like.
fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8000")
}

/// Reads the time of an argument, with an error that shows what it looks like.
fn timestamp(text: &str) -> Result<Timestamp, &'static str> {
    text.parse().map_err(|_| "expected a time such as 2027-01-01T00:00:00Z")
}

impl Cli {
    /// Runs the chosen command to its end.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let runtime = match Runtime::new() {
            Ok(runtime) => runtime,
            Err(e) => {
                return fail(&anyhow::Error::new(e).context("cannot start the async runtime"));
            }
        };
        let command = self.command();
        let done = command.and_then(|command| runtime.block_on(dispatch(command)));
        done.unwrap_or_else(|e| fail(&e))
    }

    /// Returns the command, with a `--config` given before it moved into its arguments.
    fn command(self) -> anyhow::Result<Command> {
        let mut command = self.command.unwrap_or_else(|| Command::Serve(serve::Args::default()));
        let Some(file) = self.config else { return Ok(command) };
        match command.config_mut() {
            Some(ConfigArg { config: Some(_) }) => {
                anyhow::bail!("--config is given twice; pass it once, before or after the command")
            }
            Some(arg) => arg.config = Some(file),
            None => anyhow::bail!("this command does not read a config file; remove --config"),
        }
        Ok(command)
    }
}

impl Command {
    /// The command's `--config` argument; `None` if the command reads no config file.
    fn config_mut(&mut self) -> Option<&mut ConfigArg> {
        match self {
            Self::Serve(args) => Some(&mut args.config),
            Self::Check(args) => Some(&mut args.config),
            Self::Migrate(args) => Some(&mut args.config),
            Self::Healthcheck(args) => Some(&mut args.config),
            Self::User(args) => Some(&mut args.common.config),
            Self::Key(args) => Some(&mut args.common.config),
            Self::Usage(args) => Some(&mut args.common.config),
            Self::Journal(args) => Some(&mut args.common.config),
            Self::Demo(_) | Self::Simulate(_) | Self::DefaultConfig(_) => None,
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        // Boxed: it holds the configuration and all parts.
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Simulate(args) => simulate::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::DefaultConfig(args) => default_config::run(&args),
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::User(args) => user::run(args).await,
        Command::Key(args) => key::run(args).await,
        Command::Usage(args) => usage::run(args).await,
        Command::Journal(args) => journal::run(&args),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("knockx: {}", sentence(error));
    ExitCode::FAILURE
}

/// The error and its causes; one that the error has in its own words already is not said again.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |message, cause| {
        match message.as_str() {
            "" => cause,
            message if message.ends_with(&cause) => message.to_owned(),
            message => format!("{message}: {cause}"),
        }
    })
}
