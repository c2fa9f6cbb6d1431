//! Redis and Postgres of a run with `--redis`, in a temporary folder.

use crate::cores::{Cores, Side};
use crate::procfs;
use crate::servers::{Server, free_port};
use anyhow::{Context, bail};
use nix::unistd::User;
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The servers that gateways share.
pub struct Backing {
    redis: Server,
    postgres: Server,
}

impl Backing {
    /// Starts both, beside the load.
    pub fn start(cores: &Cores, folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { redis: redis(cores, folder)?, postgres: postgres(cores, folder)? })
    }

    pub fn redis_url(&self) -> String {
        format!("redis://{}", self.redis.addr)
    }

    pub fn database_url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.postgres.addr)
    }

    /// Processor time of the thread of Redis that runs commands. Its other threads write the log.
    pub fn redis_cpu(&self) -> anyhow::Result<Duration> {
        let info = redis_info(self.redis.addr).context("Redis does not answer INFO")?;
        let seconds = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse::<f64>().ok())
                .with_context(|| format!("Redis reports no {name}: it must be 7.0 or later"))
        };
        let user = seconds("used_cpu_user_main_thread")?;
        Ok(Duration::from_secs_f64(user + seconds("used_cpu_sys_main_thread")?))
    }

    /// Processor time of Postgres with its processes of connections.
    pub fn postgres_cpu(&self) -> anyhow::Result<Duration> {
        procfs::cpu_time(self.postgres.pid())
    }
}

fn redis(cores: &Cores, folder: &Path) -> anyhow::Result<Server> {
    let (addr, data) = (free_port()?, folder.join("redis"));
    fs::create_dir_all(&data)?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &addr.port().to_string(), "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
    command.args(["--maxmemory-policy", "noeviction", "--dir"]).arg(data);
    Server::start(cores, Side::Rest, "redis", command, addr, |addr| redis_info(addr).is_ok())
        .context("Redis 7.0 or later is needed (Debian: apt-get install redis-server)")
}

fn redis_info(addr: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"INFO cpu\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut length = String::new();
    reader.read_line(&mut length)?;
    let length = length.trim().strip_prefix('$').context("not a bulk string")?.parse()?;
    let mut text = vec![0; length];
    reader.read_exact(&mut text)?;
    Ok(String::from_utf8(text)?)
}

fn postgres(cores: &Cores, folder: &Path) -> anyhow::Result<Server> {
    let programs = postgres_programs()?;
    let (addr, home) = (free_port()?, folder.join("postgres"));
    fs::create_dir_all(&home)?;
    if rustix::process::geteuid().is_root() {
        let user = User::from_name("postgres")?.context("this machine has no user postgres")?;
        chown(&home, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    let mut initdb = unprivileged(&programs.join("initdb"), &home);
    initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "-D", "data"]);
    let made = initdb.output().with_context(|| format!("cannot run {initdb:?}"))?;
    if !made.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr).trim());
    }
    let mut command = unprivileged(&programs.join("postgres"), &home);
    command.args(["-D", "data", "-h", "127.0.0.1", "-p", &addr.port().to_string(), "-k"]);
    command.arg(&home).stderr(fs::File::create(folder.join("postgres.log"))?);
    let is_ready = programs.join("pg_isready");
    let ready = |addr: SocketAddr| {
        let mut command = Command::new(&is_ready);
        command.args(["-q", "-h", "127.0.0.1", "-p", &addr.port().to_string()]);
        command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let server = Server::start(cores, Side::Rest, "postgres", command, addr, ready)?;
    // Cuts its connections and ends in good order.
    Ok(server.stopped_by(Signal::INT))
}

/// A command in `home`, as the user postgres when this is root: Postgres refuses to run as root.
fn unprivileged(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    }
    command.current_dir(home);
    command
}

/// The folder of the newest Postgres: Debian keeps its programs out of PATH.
fn postgres_programs() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(number);
    let programs = newest.map(|path| path.join("bin")).filter(|bin| bin.join("initdb").exists());
    programs.context("Postgres is needed (Debian: apt-get install postgresql)")
}
