//! Configuration: [`raw`] is what was written, [`Config`] is what it means.
//!
//! Layers, each over the one before: the compiled-in `config/default.toml`, the file given by
//! `--config` or `KNOCKX_CONFIG`, the environment. This module alone reads the environment.

pub mod raw;

use crate::account::plan::{Plan, Window};
use crate::upstream::catalog::{Catalog, Secret};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a running gateway needs to know, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub environment: Environment,
    pub listener: Listener,
    /// Where `/metrics` and the debug routes are served; `None` = nowhere.
    pub admin_addr: Option<SocketAddr>,
    pub database: Database,
    /// `None` = made once and kept in the data folder.
    pub secret_key: Option<Secret>,
    pub limits: Limits,
    /// Written into the store at start.
    pub plans: Vec<Plan>,
    pub catalog: Catalog,
    pub cors: Cors,
    pub log: Log,
    /// The first admin, made when there is none.
    pub first_admin: Option<FirstAdmin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    Development,
    Production,
}

/// The public port.
#[derive(Debug, Clone)]
pub struct Listener {
    pub addr: SocketAddr,
    /// Request head larger than this: 431. Bytes.
    pub header_bytes: usize,
    /// A new connection must send its first request head within this time: 408.
    pub header_timeout: Duration,
    /// An idle kept-alive connection is closed after this time.
    pub keepalive: Duration,
    /// A request body must be complete within this time: 408.
    pub body_timeout: Duration,
    /// A reply that the caller does not read for this time ends as a hang-up.
    pub write_timeout: Duration,
    /// More connections than this are closed on arrival.
    pub max_connections: usize,
    /// Origins that browsers may call `/v1` from; `None` = any.
    pub data_cors: Option<Vec<String>>,
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// The file and its folder, which also holds the lock and the generated secret.
    Sqlite { path: PathBuf, durability: Durability },
}

/// What a committed transaction survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A killed process (`synchronous=NORMAL`).
    Process,
    /// A power cut too (`synchronous=FULL`).
    Power,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Request bodies on the data plane, in bytes.
    pub body_bytes: usize,
    /// One event of an upstream's stream, in bytes.
    pub event_bytes: usize,
    /// A non-stream reply of an upstream, in bytes.
    pub reply_bytes: usize,
    /// The short-term bucket of plans that do not set their own.
    pub window: Window,
    /// Tokens a stream reserves at a time.
    pub slice_tokens: u64,
    /// SSE comment after this much upstream silence; `None` = never.
    pub keepalive_comment: Option<Duration>,
    /// How long open streams may finish after SIGTERM.
    pub shutdown_grace: Duration,
    /// Caller records kept in memory.
    pub cached_callers: usize,
    /// Longest a call may run.
    pub call_timeout: Duration,
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

#[derive(Debug, Clone)]
pub struct FirstAdmin {
    pub email: String,
    pub password: Secret,
}
