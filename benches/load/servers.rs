//! Programs of a comparison, started on free loopback ports and stopped at the end.

use crate::cores::{Cores, Side};
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
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
    child: Child,
    /// The signal that makes it end in good order.
    stop_signal: Signal,
}

/// A folder that is gone when dropped.
pub struct Folder(pub PathBuf);

const START_TIMEOUT: Duration = Duration::from_mins(2);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts the simulator.
pub fn simulator(cores: &Cores, binary: &Path) -> anyhow::Result<Server> {
    let addr = free_port()?;
    let mut command = Command::new(binary);
    command.args(["simulate", "--listen", &addr.to_string()]);
    Server::start(cores, Side::Rest, "simulator", command, addr, |_| answers(addr, "/sim/stats"))
}

/// Starts nginx in front of `upstream`, its files in `folder`.
pub fn nginx(cores: &Cores, folder: &Path, upstream: SocketAddr) -> anyhow::Result<Server> {
    let addr = free_port()?;
    let config = include_str!("nginx.conf")
        .replace("{upstream}", &upstream.to_string())
        .replace("{listen}", &addr.to_string());
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file).args(["-e", "stderr"]);
    Server::start(cores, Side::Measured, "nginx", command, addr, |_| answers(addr, "/sim/stats"))
}

/// Starts Envoy in front of `upstream`; it passes requests with `key` on.
pub fn envoy(
    cores: &Cores,
    program: &Path,
    folder: &Path,
    upstream: SocketAddr,
    key: &str,
) -> anyhow::Result<Server> {
    let addr = free_port()?;
    let config = include_str!("envoy.yaml")
        .replace("{address}", &addr.ip().to_string())
        .replace("{port}", &addr.port().to_string())
        .replace("{upstream_address}", &upstream.ip().to_string())
        .replace("{upstream_port}", &upstream.port().to_string())
        .replace("{key}", key);
    let file = folder.join("envoy.yaml");
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("--config-path").arg(file).args(["--concurrency", "1", "--disable-hot-restart"]);
    command.args(["--log-level", "error"]);
    Server::start(cores, Side::Measured, "envoy", command, addr, |_| answers(addr, "/sim/stats"))
}

impl Server {
    /// Starts a program on its side of the cores and waits until `ready`.
    pub fn start(
        cores: &Cores,
        side: Side,
        name: &'static str,
        mut command: Command,
        addr: SocketAddr,
        ready: impl Fn(SocketAddr) -> bool,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        let child = cores.spawn(&mut command, side)?;
        let (ready_after, stop_signal) = (Duration::ZERO, Signal::TERM);
        let mut server = Self { name, addr, ready_after, child, stop_signal };
        while !ready(addr) {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended with {status} before it was ready: {command:?}");
            }
            if began.elapsed() > START_TIMEOUT {
                bail!("{name} was not ready within {START_TIMEOUT:?}: {command:?}");
            }
            pause(Duration::from_millis(1));
        }
        server.ready_after = began.elapsed();
        Ok(server)
    }

    /// Ends by that signal when it is dropped.
    pub fn stopped_by(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as a crash would.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, self.stop_signal)?;
        }
        let until = Instant::now() + STOP_TIMEOUT;
        while self.child.try_wait()?.is_none() && Instant::now() < until {
            pause(Duration::from_millis(10));
        }
        Ok(self.child.kill()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has already ended has written the reason to standard error.
        let _ = self.stop();
        let _ = self.child.wait();
    }
}

impl Folder {
    pub fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("knockx-load-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// A folder in it.
    pub fn part(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// True if `path` answers 200.
pub fn answers(addr: SocketAddr, path: &str) -> bool {
    let request = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    request().unwrap_or(false)
}

pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
