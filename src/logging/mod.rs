//! Logging: one subscriber for the process, with a filter that a reload can change.
//!
//! Nothing here should see a secret: [`domain::secret::Secret`] prints as `***`, and prompts
//! and answers are never given to `tracing`. What looks like a key is masked in every line all the same.

mod masking;

use crate::config::{Log, LogFormat};
use masking::Masked;
use std::io::IsTerminal;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// Changes the log filter of a running process.
#[derive(Debug, Clone)]
pub struct FilterHandle(reload::Handle<EnvFilter, Registry>);

/// The log cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{0}` is not a valid log filter")]
    BadFilter(String),
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Starts logging to standard error, so that standard output is left to what a command prints.
pub fn init(log: &Log) -> Result<FilterHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&log.filter)?);
    let on_terminal = std::io::stderr().is_terminal();
    let otherwise = if on_terminal { LogFormat::Pretty } else { LogFormat::Json };
    let lines = fmt::layer().with_writer(|| Masked(std::io::stderr())).with_ansi(on_terminal);
    let lines = match log.format.unwrap_or(otherwise) {
        LogFormat::Pretty => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(FilterHandle(handle))
}

impl FilterHandle {
    /// Replaces the filter.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let parsed = parse(filter)?;
        self.0.reload(parsed).map_err(|_| LogError::BadFilter(filter.to_owned()))
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(in_full(filter)).map_err(|_| LogError::BadFilter(filter.to_owned()))
}

/// The crates of the gateway, which `knockx` stands for in a filter.
const OURS: [&str; 7] = ["knockx", "journal", "mock_xai", "quota", "store", "system", "wire"];

/// The filter with bare levels and `knockx` written out: both mean the gateway's own crates. Libraries print
/// requests with keys, prompts and responses at `debug`, so they stay at `warn`, pingora is silent, and only a
/// directive that names one makes it log more.
fn in_full(filter: &str) -> String {
    let mut full = vec!["pingora=off".to_owned()];
    let ours = |level: &str| OURS.map(|name| format!("{name}={level}"));
    for directive in filter.split(',').map(str::trim) {
        match directive.parse::<LevelFilter>() {
            Ok(level) => {
                full.push(level.min(LevelFilter::WARN).to_string());
                full.extend(ours(&level.to_string()));
            }
            Err(_) => match directive.strip_prefix("knockx") {
                Some(level) if level.starts_with('=') => full.extend(ours(&level[1..])),
                Some(path) => full.push(of_crate(path).unwrap_or_else(|| directive.to_owned())),
                None => full.push(directive.to_owned()),
            },
        }
    }
    full.join(",")
}

/// The directive for `::quota=debug`, where the module is a crate of its own: `quota=debug`.
fn of_crate(path: &str) -> Option<String> {
    let below = path.strip_prefix("::")?;
    let name = below.split(['=', ':']).next()?;
    OURS[1..].contains(&name).then(|| below.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged under a filter.
    fn logged(filter: &str, json: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let out = lines.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || Masked(out.clone()));
        let layer = if json { layer.json().boxed() } else { layer.boxed() };
        let subscriber = Registry::default().with(parse(filter).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_crate_that_logs_is_known() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
        for entry in std::fs::read_dir(crates).unwrap() {
            let folder = entry.unwrap().path();
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            let name = folder.file_name().unwrap().to_str().unwrap().replace('-', "_");
            assert!(!manifest.contains("\ntracing") || OURS.contains(&&*name), "{name} logs");
        }
    }

    #[test]
    fn libraries_say_more_only_when_they_are_named() {
        let all = || {
            tracing::debug!(target: "knockx::gateway", "ours");
            tracing::debug!(target: "quota::redis", "of a crate of ours");
            tracing::debug!(target: "pingora_core::protocols", "of pingora");
            tracing::warn!(target: "pingora_core::protocols", "warned by pingora");
            tracing::debug!(target: "hyper_util::client", "of hyper");
            tracing::trace!(target: "h2::codec", "of h2");
            tracing::warn!(target: "sqlx::query", "warned by sqlx");
        };
        for filter in ["debug", "trace", "DEBUG", "knockx=debug,debug"] {
            let said = logged(filter, false, all);
            for shown in ["ours", "of a crate of ours", "warned by sqlx"] {
                assert!(said.contains(shown), "{filter}: {said}");
            }
            for silent in ["of pingora", "warned by pingora", "of hyper", "of h2"] {
                assert!(!said.contains(silent), "{filter}: {said}");
            }
        }
        let said = logged("info,pingora_core=debug,hyper_util=debug", false, all);
        assert!(said.contains("of pingora") && said.contains("of hyper"), "{said}");
        assert!(!said.contains("ours"), "{said}");
        for (filter, shown) in [
            ("warn,knockx::quota=debug", "of a crate of ours"),
            ("warn,knockx::quota::redis=debug", "of a crate of ours"),
            ("warn,knockx::gateway=debug", "ours\n"),
        ] {
            let said = logged(filter, false, all);
            assert!(said.contains(shown) && !said.contains("of hyper"), "{filter}: {said}");
        }
        assert_eq!(logged("off", false, all), "");
    }

    #[test]
    fn keys_are_masked_in_every_line() {
        let key = "sk-kx-0123456789abcdef_secretsecretsecret";
        for json in [false, true] {
            let said = logged("debug", json, || {
                tracing::debug!(path = format!("/v1/{key}"), refusal = ?Some(key), "GET {key}");
            });
            assert!(!said.contains("secret") && !said.contains("0123456789"), "{said}");
            assert!(said.contains("sk-kx-***"), "{said}");
        }
    }
}
