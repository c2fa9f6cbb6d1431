//! Logging: one subscriber for the process, with a filter that a reload can change.
//!
//! Nothing here sees a secret: [`crate::upstream::catalog::Secret`] prints as `***`, and prompts
//! and answers are never given to `tracing`.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// Changes the log filter of a running process.
#[derive(Debug, Clone)]
pub struct FilterHandle(reload::Handle<EnvFilter, Registry>);

/// The log cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{0}` is not a log filter")]
    BadFilter(String),
    #[error("logging was set up before in this process")]
    AlreadySet,
}

/// Starts logging to standard error, so that standard output is left to what a command prints.
pub fn init(log: &Log) -> Result<FilterHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&log.filter)?);
    let on_terminal = std::io::stderr().is_terminal();
    let otherwise = if on_terminal { LogFormat::Pretty } else { LogFormat::Json };
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(on_terminal);
    let lines = match log.format.unwrap_or(otherwise) {
        LogFormat::Pretty => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(FilterHandle(handle))
}

impl FilterHandle {
    /// Puts another filter in force.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let parsed = parse(filter)?;
        self.0.reload(parsed).map_err(|_| LogError::BadFilter(filter.to_owned()))
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|_| LogError::BadFilter(filter.to_owned()))
}
