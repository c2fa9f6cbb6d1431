//! The program on a Postgres server.

use super::{Call, Host, LOOK, Process, refused, stdout};
use crate::support::{SOON, postgres};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Executor};
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A host whose store is a database of a server.
pub(super) struct OnPostgres {
    pub(super) host: Host,
    database: postgres::Fresh,
    pub(super) addr: SocketAddr,
    /// One of its own, which may be stopped.
    server: Option<postgres::Server>,
}

impl OnPostgres {
    async fn new() -> Self {
        // Free now; should another take it meanwhile, `serve` says so and the test fails by that.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { host: Host::new(), database: postgres::fresh().await, addr, server: None }
    }

    pub(super) async fn with_its_own_server() -> Self {
        let server = postgres::Server::start().await;
        let database = postgres::Fresh { url: server.url("postgres") };
        Self { database, server: Some(server), ..Self::new().await }
    }

    pub(super) fn stop_server(&mut self) {
        self.server.as_mut().unwrap().stop();
    }

    pub(super) async fn start_server(&mut self) {
        self.server.as_mut().unwrap().run().await;
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(words);
        command.env("DATABASE_URL", &self.database.url).env("SECRET_KEY", SECRET);
        command.env("KNOCKX__DATABASE__JOURNAL", self.host.folder.path().join("journal"));
        command.env("PORT", self.addr.port().to_string()).env("RUST_LOG", "error");
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    pub(super) async fn serve(&self) -> Process {
        let log = || File::options().create(true).append(true).open(self.host.log_file()).unwrap();
        let mut process = Process::spawn(self.command(&["serve"]).stdout(log()).stderr(log()));
        let ready = async {
            while !self.run(&["healthcheck"]).status.success() {
                assert!(process.0.try_wait().unwrap().is_none(), "{}", self.host.log());
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(SOON, ready).await.expect("the gateway starts");
        process
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_and_check_report_the_database_state() {
    let on = OnPostgres::new().await;
    for _ in 0..2 {
        assert_eq!(stdout(&on.run(&["migrate"])), "the database schema is up to date\n");
        assert_eq!(stdout(&on.host.run(&["migrate"])), "the database schema is up to date\n");
    }
    let told = stdout(&on.run(&["check"]));
    assert!(told.contains("ok    store postgres://127.0.0.1/") && told.contains(" ms\n"), "{told}");
    assert!(told.contains("Postgres 1"), "{told}");
    let nowhere =
        on.command(&["check"]).env("DATABASE_URL", "postgres://u:pw@127.0.0.1:9/d").output();
    let told = stdout(&nowhere.unwrap());
    assert!(told.contains("FAIL  store") && told.contains("check host, user"), "{told}");
    assert!(!told.contains("pw@"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_served_from_a_server_and_a_second_instance_is_refused() {
    let on = OnPostgres::new().await;
    let output = on.run(&["user", "add", "ada@example.com", "--plan", "wide", "--json"]);
    let added: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut first = on.serve().await;
    let second = on.command(&["serve"]).env("PORT", "0").env("ADMIN_PORT", "0").output();
    let told = refused(&second.unwrap());
    assert!(told.contains("another knockx is using this database"), "{told}");

    for _ in 0..3 {
        let call = Call::post(on.addr, "/v1/chat/completions");
        let call = call.key(added["api_key"].as_str().unwrap());
        let reply = call.body(crate::support::body("hello", "")).send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let verified = on.run(&["usage", "verify"]);
    assert!(stdout(&verified).contains("counters, ledger and rollups agree"), "{verified:?}");
    first.signal("TERM");
    assert!(first.exit().await.success());
    let store = store::open(&on.database.database()).await.unwrap();
    assert_eq!(crate::support::recent_charges(&store).await.len(), 3);

    assert!(on.run(&["usage", "verify"]).status.success());
    store.dead_letter("{}", "not a charge", Timestamp::UNIX_EPOCH).await.unwrap();
    let verified = on.run(&["usage", "verify"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(
        stdout(&verified).contains("1 entry could not be written to the ledger"),
        "{verified:?}"
    );

    // Killed, its lock goes with it.
    let killed = on.serve().await;
    drop(killed);
    let mut next = on.serve().await;
    next.signal("TERM");
    assert!(next.exit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_that_cannot_work_fail_with_one_sentence() {
    let on = OnPostgres::new().await;
    let missing = (on.database.url.rsplit_once('/').unwrap().0).to_owned() + "/none";
    for (name, value, word) in [
        ("SECRET_KEY", "short", "SECRET_KEY"),
        ("DATABASE_URL", &missing, "\"none\" does not exist"),
        ("DATABASE_URL", "postgres://u:hunter2@/d", "expected postgres://"),
    ] {
        let told = refused(&on.command(&["serve"]).env(name, value).output().unwrap());
        assert!(told.contains(word) && !told.contains("hunter2"), "{told}");
    }
    let database = on.database.url.rsplit_once('/').unwrap().1.to_owned();
    let mut past = on.database.connection().await;
    for sql in [
        format!("drop role if exists narrow_{database}"),
        format!("create role narrow_{database} login"),
        format!("alter database {database} set default_transaction_read_only = on"),
    ] {
        past.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let add = ["user", "add", "ada@example.com", "--plan", "wide"];
    for words in [&add[..], &["migrate"]] {
        let told = refused(&on.run(words));
        assert!(told.contains("is read-only") && !told.contains("CREATE"), "{told}");
    }
    let reset = format!("alter database {database} reset default_transaction_read_only");
    past.execute(AssertSqlSafe(reset)).await.unwrap();
    let narrow = on.database.url.replace("postgres@", &format!("narrow_{database}@"));
    let no_tls = format!("{}?sslmode=require", on.database.url);
    for (url, word) in [(&narrow, "grant that privilege"), (&no_tls, "TLS")] {
        let told = refused(&on.command(&add).env("DATABASE_URL", url).output().unwrap());
        assert!(told.contains(word) && !told.contains(" at line "), "{told}");
    }
    past.execute(AssertSqlSafe(format!("drop role narrow_{database}"))).await.unwrap();
    let no_database = on.host.folder.path().join("garbage.db");
    std::fs::write(&no_database, "no database, but long enough to be taken for one".repeat(99))
        .unwrap();
    let url = format!("sqlite:{}", no_database.display());
    let told = refused(&on.command(&add).env("DATABASE_URL", url).output().unwrap());
    assert!(told.contains("restore a backup"), "{told}");
    let data_api = on
        .command(&["serve"])
        .env("DATABASE_URL", "sqlite:k.db")
        .env("NEON_API_URL", "https://n")
        .output();
    assert!(refused(&data_api.unwrap()).contains("Postgres connection string"));
}
