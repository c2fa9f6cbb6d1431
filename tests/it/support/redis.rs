//! A real Redis on a free port, ended with the value.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server with a folder of its own.
pub struct Redis {
    process: Child,
    port: u16,
    password: &'static str,
    folder: TempDir,
    words: Vec<String>,
}

/// A master called `main`, its replica, and the three sentinels that watch them.
pub struct Watched {
    pub master: Redis,
    pub replica: Redis,
    pub sentinels: Vec<Redis>,
}

impl Redis {
    /// One server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&[])
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
        format!("redis://{}127.0.0.1:{}", login(self.password), self.port)
    }

    pub fn start_with(more: &[&str]) -> Self {
        Self::start_guarded("", more)
    }

    fn start_guarded(password: &'static str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let words = ["--requirepass", password, "--masterauth", password];
        let words = ["--save", ""].iter().chain(&words).chain(more);
        Self::spawn(folder, port, password, words.map(ToString::to_string).collect())
    }

    /// A sentinel: it keeps what it learns in the file it was started with.
    fn start_sentinel(password: &'static str, master: &Redis) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut config = format!(
            "sentinel monitor main 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n",
            master.port
        );
        if !password.is_empty() {
            config += &format!(
                "sentinel auth-pass main {password}\n\
                 requirepass {password}\nsentinel sentinel-pass {password}\n"
            );
        }
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, config).unwrap();
        let words = vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
        Self::spawn(folder, port, password, words)
    }

    /// `words` come first, since a file of the configuration does.
    fn spawn(folder: TempDir, port: u16, password: &'static str, words: Vec<String>) -> Self {
        let process = process(&words, port, &folder);
        let redis = Self { process, port, password, folder, words };
        redis.wait_until("an answer", |redis| redis.try_command(&["ping"]).is_some());
        redis
    }

    /// One server that has on disk what it has acknowledged.
    pub fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts it again after [`Redis::kill`], with what it has on disk.
    pub fn restart(&mut self) {
        self.process = process(&self.words, self.port, &self.folder);
        self.wait_until("an answer", |redis| redis.try_command(&["ping"]).is_some());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Becomes a replica of `primary`, and waits until it is in step.
    pub fn follow(&self, primary: &Self) {
        self.command(&["replicaof", "127.0.0.1", &primary.port.to_string()]);
        self.wait_until("a replica in step", |replica| {
            replica.command(&["info", "replication"]).contains("master_link_status:up")
        });
    }

    /// Kills it without a word.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Stops it in its tracks: it takes connections and does not answer.
    pub fn freeze(&self) {
        let stop = ["-STOP".to_owned(), self.process.id().to_string()];
        assert!(Command::new("kill").args(stop).status().unwrap().success());
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
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn process(words: &[String], port: u16, folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args(words)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--dir", folder.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed: apt-get install redis-server")
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Watched {
    /// With a password for all of them, unless it is empty.
    pub fn start(password: &'static str) -> Self {
        let master = Redis::start_guarded(password, &["--repl-diskless-sync-delay", "0"]);
        let replica =
            Redis::start_guarded(password, &["--replicaof", &format!("127.0.0.1 {}", master.port)]);
        replica.wait_until("a replica in step", |replica| {
            replica.command(&["info", "replication"]).contains("master_link_status:up")
        });
        let sentinels: Vec<Redis> =
            (0..3).map(|_| Redis::start_sentinel(password, &master)).collect();
        for sentinel in &sentinels {
            sentinel.wait_until("knowledge of the others", |sentinel| {
                let main =
                    sentinel.command(&["sentinel", "master", "main"]).replace(['"', '\''], "");
                let knows = |what: &str| main.contains(what);
                knows("(num-slaves), bulk-string(1)")
                    && knows("(num-other-sentinels), bulk-string(2)")
            });
        }
        Self { master, replica, sentinels }
    }

    /// As an operator writes it.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}{}/main", login(self.master.password), hosts.join(","))
    }
}

fn login(password: &str) -> String {
    if password.is_empty() { String::new() } else { format!(":{password}@") }
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
