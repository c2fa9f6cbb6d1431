//! A real Postgres: the server that `KNOCKX_TEST_POSTGRES` names (`scripts/servers` sets it), or
//! one of this process's own, which ends with it. Each test makes its own database.
//!
//! Without Postgres on the machine the tests that need it fail: they are never skipped.

use domain::secret::Secret;
use knockx::config::{Database, PostgresServer};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// How often a starting server is asked whether it answers.
const LOOK: Duration = Duration::from_millis(20);

/// Settings of a server whose data is not needed after the tests: it never waits for the disk, and does not look
/// after hundreds of databases that are each used for a second. `scripts/servers` has the same.
const SETTINGS: [&str; 6] =
    ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off"];

/// A server that ends with this value.
pub struct Server {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
    process: Option<Child>,
}

/// A database of its own on the shared server.
pub struct Fresh {
    pub url: String,
}

impl Server {
    /// Makes a cluster in a temporary folder and starts it on a free port.
    pub async fn start() -> Self {
        let bin = bin();
        // Not below a folder that only root may enter: the server runs as somebody else.
        let folder = tempfile::Builder::new().prefix("knockx-pg-").tempdir_in("/tmp").unwrap();
        if is_root() {
            let chown = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(chown.unwrap().success());
        }
        let mut initdb = as_owner(&bin.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "-D"]);
        let made = initdb.arg(folder.path().join("data")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut server = Self { folder, bin, port: free.port(), process: None };
        server.run().await;
        server
    }

    /// Starts the server, again after [`Server::stop`].
    pub async fn run(&mut self) {
        let mut postgres = as_owner(&self.bin.join("postgres"));
        postgres.arg("-D").arg(self.folder.path().join("data"));
        postgres.args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        postgres.args(SETTINGS);
        postgres.arg("-k").arg(self.folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(postgres.spawn().unwrap());
        let answers = async {
            while PgConnection::connect(&self.url("postgres")).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(super::SOON, answers).await.expect("Postgres starts");
    }

    /// Stops the server as an operator in a hurry does: connections are cut, nothing is lost.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let interrupt = format!("kill -INT {}", process.id());
        let _ = Command::new("sh").args(["-c", &interrupt]).status();
        let _ = process.wait();
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A database of its own for one test.
pub async fn fresh() -> Fresh {
    let server = shared().await;
    let mut connection = PgConnection::connect(&server).await.expect("Postgres answers");
    create(&server, &mut connection, &name_of_test(), "template1").await
}

/// A database of its own for one test, with the tables of this version. The first test of a server migrates them;
/// the others copy its database.
pub async fn migrated() -> Fresh {
    let server = shared().await;
    let mut connection = PgConnection::connect(&server).await.expect("Postgres answers");
    let template = format!("migrated_{:016x}", digest_of_migrations());
    // Tests are processes that start at the same time.
    connection.execute("select pg_advisory_lock(1)").await.unwrap();
    let exists = sqlx::query("select from pg_database where datname = $1").bind(&template);
    if exists.fetch_optional(&mut connection).await.unwrap().is_none() {
        let made = create(&server, &mut connection, "migrating", "template1").await;
        store::open(&made.database()).await.unwrap().close().await;
        let rename = format!("alter database migrating rename to {template}");
        connection.execute(AssertSqlSafe(rename)).await.unwrap();
    }
    connection.execute("select pg_advisory_unlock(1)").await.unwrap();
    create(&server, &mut connection, &name_of_test(), &template).await
}

async fn create(server: &str, connection: &mut PgConnection, name: &str, template: &str) -> Fresh {
    for sql in [
        format!("drop database if exists {name}"),
        format!("create database {name} template {template}"),
    ] {
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let (address, _) = server.rsplit_once('/').unwrap();
    Fresh { url: format!("{address}/{name}") }
}

fn name_of_test() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("t{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

/// A server may outlive the version whose tables it has.
fn digest_of_migrations() -> u64 {
    let mut hasher = DefaultHasher::new();
    include_str!("../../../migrations/SHA256SUMS").hash(&mut hasher);
    hasher.finish()
}

impl Fresh {
    pub fn database(&self) -> Database {
        database(&self.url)
    }

    /// A connection past the store.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
}

/// What a configuration makes of a URL of this machine.
pub fn database(url: &str) -> Database {
    Database::Postgres(PostgresServer {
        url: Secret::new(url),
        place: "here".to_owned(),
        pooled: false,
        connections: 4,
    })
}

/// The URL of the server that the tests of this process share.
async fn shared() -> String {
    if let Some(url) = std::env::var("KNOCKX_TEST_POSTGRES").ok().filter(|url| !url.is_empty()) {
        return url;
    }
    static OWN: OnceLock<std::sync::Mutex<Option<Server>>> = OnceLock::new();
    static LOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _lock = LOCK.lock().await;
    let own = OWN.get_or_init(|| std::sync::Mutex::new(None));
    let known = own.lock().unwrap().as_ref().map(|server| server.url("postgres"));
    if let Some(url) = known {
        return url;
    }
    let server = Server::start().await;
    end_with_this_process(&server);
    let url = server.url("postgres");
    *own.lock().unwrap() = Some(server);
    url
}

/// A value in a static is never dropped: a small watcher stops the server and clears its folder.
fn end_with_this_process(server: &Server) {
    let process = server.process.as_ref().unwrap().id();
    let script = "( while kill -0 $1; do sleep 0.2; done; kill -INT $2; \
                  while kill -0 $2; do sleep 0.2; done; rm -rf $3 ) &";
    let mut watcher = Command::new("sh");
    watcher.args(["-c", script, "watcher", &std::process::id().to_string()]);
    watcher.arg(process.to_string()).arg(server.folder.path());
    // Not in the group of the test, which a runner may kill as a whole.
    std::os::unix::process::CommandExt::process_group(&mut watcher, 0);
    watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(watcher.status().unwrap().success());
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program as an account that Postgres accepts, which root is not.
pub fn as_owner(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/tmp").stdin(Stdio::null());
    command
}

/// The newest version on this machine.
fn bin() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|version| version.unwrap().path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .expect("Postgres is needed: apt-get install postgresql, or set KNOCKX_TEST_POSTGRES")
}
