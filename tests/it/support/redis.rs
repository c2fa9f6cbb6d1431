//! A real Redis on a free port, ended with the value.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server with a folder of its own.
pub struct Redis {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    /// One server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// One server that has on disk what it has acknowledged.
    pub fn start_durable() -> Self {
        Self::start_with(&DURABLE)
    }

    /// Ends a durable server as a crash does.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts a durable server again, with what it had.
    pub fn restart(&mut self) {
        self.process = spawn(self.port, self.folder.path(), &DURABLE);
        self.wait_until("an answer", |redis| redis.try_command(&["ping"]).is_some());
    }

    /// A cluster of one node that serves every slot: it refuses what a larger one would refuse.
    pub fn start_cluster() -> Self {
        let redis = Self::start_with(&["--cluster-enabled", "yes"]);
        redis.command(&["cluster", "addslotsrange", "0", "16383"]);
        redis.wait_until("a cluster that is whole", |redis| {
            redis.command(&["cluster", "info"]).contains("cluster_state:ok")
        });
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let process = spawn(port, folder.path(), more);
        let redis = Self { process, port, folder };
        redis.wait_until("an answer", |redis| redis.try_command(&["ping"]).is_some());
        redis
    }

    /// Sends a command and gives back the answer's text.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|| panic!("redis refused {words:?}"))
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        let client = redis::Client::open(self.url()).ok()?;
        let mut connection = client.get_connection().ok()?;
        let (verb, arguments) = words.split_first()?;
        let value: redis::Value = redis::cmd(verb).arg(arguments).query(&mut connection).ok()?;
        Some(format!("{value:?}"))
    }

    fn wait_until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < deadline, "no {what} from redis within 20 s");
            std::thread::yield_now();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn spawn(port: u16, folder: &Path, more: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--dir", folder.to_str().unwrap()])
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed: apt-get install redis-server")
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
