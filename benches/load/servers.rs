//! The programs of one comparison, started on free loopback ports and stopped at the end.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that runs until dropped.
pub struct Server {
    pub name: &'static str,
    pub addr: SocketAddr,
    /// From the start of the process until it said that it is ready.
    pub ready_after: Duration,
    child: Child,
}

/// A folder that is gone when dropped.
pub struct Folder(pub PathBuf);

/// The gateway's program and what it needs to run.
pub struct Gateway {
    binary: PathBuf,
    config: PathBuf,
    folder: PathBuf,
    /// The key that callers use.
    pub key: String,
}

const PATIENCE: Duration = Duration::from_mins(1);

/// Starts the simulator.
pub fn simulator(binary: &Path) -> anyhow::Result<Server> {
    let addr = free_port()?;
    let mut command = Command::new(binary);
    command.args(["simulate", "--listen", &addr.to_string()]);
    start("simulator", command, addr, "/sim/stats")
}

/// Starts nginx in front of `upstream`, its files in `folder`.
pub fn nginx(folder: &Path, upstream: SocketAddr) -> anyhow::Result<Server> {
    let addr = free_port()?;
    let config = include_str!("nginx.conf")
        .replace("{upstream}", &upstream.to_string())
        .replace("{listen}", &addr.to_string());
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file).args(["-e", "stderr"]);
    start("nginx", command, addr, "/sim/stats")
}

impl Gateway {
    /// Writes the config and makes a user with a key, the gateway not running.
    pub fn prepare(binary: &Path, folder: &Path, upstream: SocketAddr) -> anyhow::Result<Self> {
        let config = folder.join("knockx.toml");
        let text = include_str!("knockx.toml").replace("{upstream}", &upstream.to_string());
        fs::write(&config, text)?;
        let mut gateway =
            Self { binary: binary.into(), config, folder: folder.into(), key: String::new() };
        let email = "load@example.com";
        let added = gateway.ask(&["user", "add", email, "--plan", "load", "--json"])?;
        gateway.key = match key_in(&added) {
            Some(key) => key,
            None => key_in(&gateway.ask(&["key", "add", email, "--json"])?)
                .context("neither `knockx user add` nor `knockx key add` printed a key")?,
        };
        Ok(gateway)
    }

    /// Starts the gateway.
    pub fn start(&self) -> anyhow::Result<Server> {
        let addr = free_port()?;
        let mut command = self.command();
        command.arg("serve").arg("--config").arg(&self.config);
        command.env("PORT", addr.port().to_string());
        start("knockx", command, addr, "/health/ready")
    }

    /// Runs one of the operator's commands and hands back what it printed.
    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command();
        command.args(words).arg("--config").arg(&self.config);
        let told = command.output().with_context(|| format!("cannot run {command:?}"))?;
        if !told.status.success() {
            bail!("{command:?} failed: {}", String::from_utf8_lossy(&told.stderr).trim());
        }
        Ok(String::from_utf8(told.stdout)?)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        let database = format!("sqlite:{}", self.folder.join("knockx.db").display());
        command.env("DATABASE_URL", database).env("HOST", "127.0.0.1").env("ADMIN_PORT", "0");
        command
    }
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let until = Instant::now() + Duration::from_secs(5);
        while self.child.try_wait()?.is_none() && Instant::now() < until {
            pause(Duration::from_millis(10));
        }
        Ok(self.child.kill()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that is gone already has told why on standard error.
        let _ = self.stop();
        let _ = self.child.wait();
    }
}

impl Folder {
    pub fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("knockx-load-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The first API key in what a command printed.
fn key_in(text: &str) -> Option<String> {
    let from = &text[text.find("sk-kx-")?..];
    let end = from.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    Some(from[..end.unwrap_or(from.len())].to_owned())
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Starts a program and waits until `path` answers 200.
fn start(
    name: &'static str,
    mut command: Command,
    addr: SocketAddr,
    path: &str,
) -> anyhow::Result<Server> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut server = Server { name, addr, ready_after: Duration::ZERO, child };
    while !answers(addr, path) {
        if let Some(status) = server.child.try_wait()? {
            bail!("{name} ended with {status} before it was ready: {command:?}");
        }
        if began.elapsed() > PATIENCE {
            bail!("{name} did not answer {path} within {PATIENCE:?}: {command:?}");
        }
        pause(Duration::from_millis(1));
    }
    server.ready_after = began.elapsed();
    Ok(server)
}

fn answers(addr: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}
