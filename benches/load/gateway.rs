//! The gateway: its configuration, its users, its process.

use crate::backing::Backing;
use crate::cores::{Cores, Side};
use crate::servers::{Server, answers, free_port};
use anyhow::{Context, bail};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A gateway that can be started: its program, data and environment.
pub struct Gateway {
    pub name: &'static str,
    binary: PathBuf,
    config: PathBuf,
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// The keys of its callers.
    pub keys: Vec<String>,
}

impl Gateway {
    /// One with its own counters and SQLite in `folder`.
    pub fn embedded(
        name: &'static str,
        binary: &Path,
        folder: PathBuf,
        upstream: SocketAddr,
    ) -> anyhow::Result<Self> {
        let database = format!("sqlite:{}", folder.join("knockx.db").display());
        Self::new(name, binary, folder, upstream, vec![("DATABASE_URL", database)])
    }

    /// One that counts in Redis and stores in Postgres.
    pub fn shared(
        name: &'static str,
        binary: &Path,
        folder: PathBuf,
        upstream: SocketAddr,
        backing: &Backing,
    ) -> anyhow::Result<Self> {
        let environment = vec![
            ("DATABASE_URL", backing.database_url()),
            ("REDIS_URL", backing.redis_url()),
            ("SECRET_KEY", "load-0123456789-load-0123456789-load".to_owned()),
        ];
        Self::new(name, binary, folder, upstream, environment)
    }

    fn new(
        name: &'static str,
        binary: &Path,
        folder: PathBuf,
        upstream: SocketAddr,
        environment: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let config = folder.join("knockx.toml");
        let text = include_str!("knockx.toml").replace("{upstream}", &upstream.to_string());
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        Ok(Self { name, binary: binary.into(), config, folder, environment, keys: Vec::new() })
    }

    /// Adds variables to its environment.
    pub fn with(mut self, more: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.environment.extend(more);
        self
    }

    /// Adds users, each with a key, while the gateway does not run.
    pub fn add_callers(&mut self, count: usize) -> anyhow::Result<()> {
        for number in 0..count {
            let email = format!("load.{number}@example.com");
            let added = self.ask(&["user", "add", &email, "--plan", "load", "--json"])?;
            let key = key_in(&added).context("`knockx user add` printed no key")?;
            self.keys.push(key);
        }
        Ok(())
    }

    /// Starts it.
    pub fn start(&self, cores: &Cores) -> anyhow::Result<Server> {
        let addr = free_port()?;
        let mut command = self.command();
        command.arg("serve").arg("--config").arg(&self.config);
        command.env("PORT", addr.port().to_string());
        let ready = |addr| answers(addr, "/health/ready");
        Server::start(cores, Side::Measured, self.name, command, addr, ready)
    }

    /// Runs one of the operator's commands and returns its output.
    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command();
        command.args(words).arg("--config").arg(&self.config);
        let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Nothing of the caller's own configuration reaches the gateway.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for name in ["DATABASE_URL", "REDIS_URL", "SECRET_KEY"] {
            command.env_remove(name);
        }
        command.current_dir(&self.folder).env("HOST", "127.0.0.1").env("ADMIN_PORT", "0");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The first API key in a command's output.
fn key_in(text: &str) -> Option<String> {
    let from = &text[text.find("sk-kx-")?..];
    let end = from.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    Some(from[..end.unwrap_or(from.len())].to_owned())
}
