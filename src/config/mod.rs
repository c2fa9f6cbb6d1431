//! Configuration: `raw` is what was written, [`Config`] is what it means.
//!
//! [`layers`], each over the one before: the compiled-in `config/default.toml`, the file given by
//! `--config` or `KNOCKX_CONFIG`, the environment. This module alone reads the environment, and
//! only in [`load`]; it opens nothing else. Invariant: a [`Config`] that exists was checked whole.

pub mod error;
pub mod layers;
mod raw;
mod value;
mod types;
mod network_types;
mod choices;
mod resolve;
mod catalog;
mod fallbacks;
mod database;
mod plans;
pub mod mail;
pub mod oidc;
mod production;
pub mod display;
pub mod report;
mod restart;
mod hot_restart;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use mail::Mail;
pub use oidc::Oidc;
pub use resolve::load_from;
pub use restart::waiting_for_restart;

use crate::upstream::catalog::Catalog;
use domain::id::PlanId;
use domain::plan::{Plan, Window};
use domain::secret::Secret;
use ipnet::IpNet;
use quota::redis::connection::RedisUrls;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use store::location::{Database, Durability, PostgresServer};

/// Everything a running gateway needs to know, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub environment: Environment,
    pub listener: Listener,
    /// The address under which callers reach the gateway, without a slash at its end; `None` = not known.
    pub public_url: Option<String>,
    /// Address of `/metrics` and the debug routes; `None` = not served.
    pub admin_addr: Option<SocketAddr>,
    /// Additional `Host` names, with a dot, that the admin port accepts.
    pub admin_names: Vec<String>,
    pub database: Database,
    pub journal: Journal,
    /// Redis of gateways that share counters; `None` = one gateway with its own.
    pub redis: Option<Redis>,
    /// `None` = made once and kept in the data directory; a store on a server needs one.
    pub secret_key: Option<Secret>,
    pub limits: Limits,
    /// Written into the store at start.
    pub plans: Vec<Plan>,
    /// Upstreams that can be used, and the models that at least one of them has.
    pub catalog: Catalog,
    /// Upstreams left out of `catalog` because their key is not set.
    pub missing_keys: Vec<MissingKey>,
    pub cors: Cors,
    pub accounts: Accounts,
    /// `None` = users log in with passwords alone.
    pub oidc: Option<Oidc>,
    /// `None` = no mails are sent.
    pub mail: Option<Mail>,
    pub billing: Billing,
    pub log: Log,
    /// The first admin, made when there is none.
    pub first_admin: Option<FirstAdmin>,
    /// Accepted settings without effect, logged once at start.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    Development,
    Production,
}

/// Settings of the public port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub addr: SocketAddr,
    /// Request head larger than this: 431. Bytes.
    pub header_bytes: usize,
    /// A request head must be complete within this time: 408.
    pub header_timeout: Duration,
    /// An idle kept-alive connection is closed after this time.
    pub keepalive: Duration,
    /// A request body must be complete within this time: 408.
    pub body_timeout: Duration,
    /// A request body must come this fast once it has had a while, in bytes per second: 408. 0 = however slow.
    pub body_rate: u64,
    /// A reply that the caller does not read for this time ends as a hang-up.
    pub write_timeout: Duration,
    /// More connections than this are closed on arrival.
    pub max_connections: usize,
    /// More connections than this of one address are closed on arrival.
    pub connections_per_address: usize,
    /// Bodies that are held whole may take this much together. Bytes.
    pub buffered_bytes: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins that browsers may call `/v1` from; `None` = any.
    pub data_cors: Option<Vec<String>>,
    /// `None` = the port is plain.
    pub tls: Option<TlsFiles>,
}

/// PEM files of the public port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's own certificate first, then those between it and its authority.
    pub certificate: String,
    pub key: String,
}

/// Redis, where gateways share their counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    pub urls: RedisUrls,
    /// A call that its gateway has not renewed for this long is charged with all it holds.
    pub lease: Duration,
    /// No call is admitted while more charges than this wait for the ledger.
    pub max_backlog: u64,
    /// Time between two comparisons of counters and ledger.
    pub compare: Duration,
    /// The folder where charges wait while Redis does not take them.
    pub spool: PathBuf,
}

/// The log of leases and charges of a gateway with counters of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    pub folder: PathBuf,
    pub durability: Durability,
    /// Bytes that may wait for the ledger.
    pub max_backlog_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Request bodies on the data plane, in bytes.
    pub body_bytes: usize,
    /// Largest event of an upstream's stream, in bytes.
    pub event_bytes: usize,
    /// A non-stream reply of an upstream, in bytes.
    pub reply_bytes: usize,
    /// The short-term bucket of plans that do not set their own.
    pub window: Window,
    /// Tokens a stream reserves at a time.
    pub slice_tokens: u64,
    /// Output tokens that an answer is taken to come to, where neither its caller limits it nor enough
    /// answers have been seen.
    pub expected_output_tokens: u64,
    /// Tokens that a call is taken to be billed beyond what its reply shows, for its reasoning and for the
    /// upstream's tools each, until many calls have shown what it is.
    pub expected_hidden_tokens: u64,
    /// Time that a call waits for running calls of its user to return tokens; zero = no wait.
    pub admission_wait: Duration,
    /// A stream whose upstream has not begun is begun with an SSE comment after this time; `None` = never.
    pub early_keepalive: Option<Duration>,
    /// SSE comment after this much upstream silence; `None` = never.
    pub keepalive_comment: Option<Duration>,
    /// Time during which calls are still accepted after SIGTERM, until balancers notice.
    pub shutdown_delay: Duration,
    /// Time for open streams to finish after that.
    pub shutdown_grace: Duration,
    /// Caller records kept in memory.
    pub cached_callers: usize,
    /// Longest a call may run.
    pub call_timeout: Duration,
    /// Time for which a response is drained after its client disconnected, for the usage that it reports.
    pub drain: Duration,
}

/// Settings of registration and log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// True if registration is open.
    pub registration: bool,
    /// The plan of newly registered users; `None` = there is no plan, so registration fails.
    pub default_plan: Option<PlanId>,
    /// Lifetime of an access token.
    pub access_token: Duration,
    /// Lifetime of a session that is not refreshed.
    pub refresh_token: Duration,
    /// Wrong passwords for one account from one address before tries from there have to wait.
    pub account_tries: u32,
    /// Wrong passwords from one address before tries have to wait.
    pub address_tries: u32,
    /// Registrations from one address before further ones have to wait.
    pub address_registrations: u32,
    /// Changes that one account makes to its keys, profile and plan before further ones have to wait.
    pub account_changes: u32,
    /// True if users have to verify their e-mail address before they get a key or call.
    pub require_verified_email: bool,
}

/// Approval of plan changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Billing {
    /// A user changes plan immediately.
    Open,
    /// An admin approves each change.
    Manual,
}

/// Browser access to the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    SameOrigin,
    Any,
    Origins(Vec<String>),
}

#[derive(Debug, Clone)]
pub struct Log {
    /// `None` = pretty on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    /// A `tracing` filter, such as `info,knockx=debug`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Pretty,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstAdmin {
    pub email: String,
    pub password: Secret,
}

/// An upstream without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingKey {
    pub upstream: String,
    /// The variables that may hold it.
    pub variables: Vec<String>,
}

/// There is nothing to send calls to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no upstream is usable: {0}; to try the gateway without an upstream key, run `knockx demo`"
)]
pub struct NoUpstream(String);

/// Loads the defaults, the file (`KNOCKX_CONFIG` when `file` is `None`) and the environment.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let environment = environment();
    let named = environment.get("KNOCKX_CONFIG").filter(|name| !name.is_empty()).map(Path::new);
    let Some(path) = file.or(named) else { return load_from(None, &environment) };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { file: name.clone(), source })?;
    load_from(Some((&name, &text)), &environment)
}

/// The environment's say in logging, and nothing else: for commands that bring their own settings.
#[must_use]
pub fn logging_variables() -> layers::Environment {
    let mut variables = environment();
    variables.retain(|name, _| matches!(name.as_str(), "LOG_FORMAT" | "RUST_LOG"));
    variables
}

/// The process's environment variables, without those that are not UTF-8.
fn environment() -> layers::Environment {
    let utf8 = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(utf8).collect()
}

impl Config {
    /// Checks that an upstream is configured: `serve` needs one, other commands do not.
    pub fn require_upstream(&self) -> Result<(), NoUpstream> {
        if !self.catalog.upstreams.is_empty() {
            return Ok(());
        }
        let advice = self.missing_keys.iter().map(MissingKey::to_string).collect::<Vec<_>>();
        let none_listed = || "add [[upstreams]] to the config file".to_owned();
        let advice = if advice.is_empty() { none_listed() } else { advice.join("; ") };
        Err(NoUpstream(advice))
    }
}

impl std::fmt::Display for MissingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "set {} for the upstream `{}`", self.variables.join(" or "), self.upstream)
    }
}
