//! Several gateways on one Redis and one Postgres.

mod shared_quota;
mod outages;
mod shared_state;

use super::{Host, LOOK, Process, Serving, stdout};
use crate::support::http_client::{Call, Reply};
use crate::support::redis::Redis;
use crate::support::{SOON, body, postgres, soon};
use domain::charge::{Charge, Status};
use domain::user::Role;
use serde_json::Value;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store::audit::AuditFilter;
use store::{self, Store, UserFilter};
use tokio::sync::OnceCell;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const STREAM: &str = r#","stream":true"#;
/// Of the plan `tiny`.
const TINY: u64 = 3_000;
/// Seconds without renewal after which a call is abandoned.
const LEASE: u64 = 2;

/// Gateways and what they share.
pub(super) struct Cluster {
    pub(super) host: Host,
    pub(super) redis: Redis,
    /// Where gateways find Redis, when it is not at its own address.
    pub(super) redis_url: Option<String>,
    pub(super) database: String,
    /// Opened when it is first looked at.
    store: OnceCell<Arc<dyn Store>>,
    /// The e-mail of the first admin, if the gateways are to make one.
    admin: Option<&'static str>,
}

/// A user with a key.
#[derive(Clone)]
pub(super) struct User {
    id: String,
    pub(super) key: String,
    key_id: String,
}

impl Cluster {
    pub(super) async fn new() -> Self {
        let database = postgres::fresh().await.url;
        let (host, store) = (Host::new(), OnceCell::new());
        let redis = Redis::start_durable();
        let cluster = Self { host, redis, redis_url: None, database, store, admin: None };
        let config = cluster.host.config();
        let mut text = std::fs::read_to_string(&config).unwrap();
        text += &format!(
            "[[plans]]\nid = \"tiny\"\nname = \"Tiny\"\nprice_cents = 0\nmax_tokens_per_day = {TINY}\n\
             max_requests_per_day = 100000\nrate_limit_requests = 100000\nconcurrent_streams = 1000\n\
             [[plans]]\nid = \"tenth\"\nname = \"Tenth\"\nprice_cents = 0\nmax_tokens_per_day = 100000\n\
             cached_token_fraction = 0.1\nmax_requests_per_day = 100000\nrate_limit_requests = 100000\n\
             concurrent_streams = 1000\n"
        );
        std::fs::write(config, text).unwrap();
        cluster
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(words);
        let spool = self.host.folder.path().join("spool");
        command
            .env("DATABASE_URL", &self.database)
            .env("REDIS_URL", self.redis_url.clone().unwrap_or_else(|| self.redis.url()));
        if let Some(email) = self.admin {
            command.env("ADMIN_EMAIL", email).env("ADMIN_PASSWORD", "correct horse battery staple");
        }
        command.env("SECRET_KEY", SECRET).env("KNOCKX__REDIS__SPOOL", spool);
        command.env("KNOCKX__REDIS__LEASE", LEASE.to_string());
        command.env("KNOCKX__REDIS__COMPARE", "1").env("RUST_LOG", "warn,knockx=info");
        command
    }

    fn run(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        stdout(&output)
    }

    pub(super) async fn serve(&self) -> Serving {
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Free now; should another take them meanwhile, `serve` says so and the test fails by that.
        self.serve_at(port(), port()).await
    }

    /// With the default delay at its end, as behind a balancer.
    pub(super) async fn serve_at(&self, addr: SocketAddr, admin: SocketAddr) -> Serving {
        let log = || File::options().create(true).append(true).open(self.host.log_file()).unwrap();
        let mut command = self.command(&["serve"]);
        command.env("KNOCKX__LIMITS__SHUTDOWN_DELAY", "2");
        command.env("PORT", addr.port().to_string()).env("ADMIN_PORT", admin.port().to_string());
        let mut process = Process::spawn(command.stdout(log()).stderr(log()));
        let ready = async {
            while tokio::net::TcpStream::connect(addr).await.is_err()
                || Call::get(addr, "/health/ready").send().await.status != 200
            {
                assert!(process.0.try_wait().unwrap().is_none(), "{}", self.host.log());
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(SOON, ready).await.expect("the gateway starts");
        Serving { process, addr, admin }
    }

    pub(super) fn user(&self, name: &str, plan: &str) -> User {
        let email = format!("{name}@example.com");
        let told = self.run(&["user", "add", &email, "--plan", plan, "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        User {
            id: text(&told["user"]["id"]),
            key: text(&told["api_key"]),
            key_id: text(&told["key"]["id"]),
        }
    }

    /// The recent ledger.
    async fn ledger(&self) -> Vec<Charge> {
        crate::support::recent_charges(self.store().await).await
    }

    async fn store(&self) -> &Arc<dyn Store> {
        let open = async || store::open(&postgres::database(&self.database)).await.unwrap();
        self.store.get_or_init(open).await
    }

    /// Waits until as many rows as calls were answered are in the ledger.
    pub(super) async fn rows(&self, at_least: usize) -> Vec<Charge> {
        soon("the rows arrive", || async { self.ledger().await.len() >= at_least }).await;
        self.ledger().await
    }

    pub(super) fn books_agree(&self) {
        let told = self.run(&["usage", "verify"]);
        assert!(told.contains("counters, ledger and rollups agree"), "{told}");
    }
}

impl Serving {
    pub(super) fn ask(&self, user: &User, text: &str, members: &str) -> Call {
        Call::post(self.addr, "/v1/chat/completions").key(&user.key).body(body(text, members))
    }

    /// The reply as soon as calls are admitted.
    pub(super) async fn answer(&self, user: &User) -> Reply {
        loop {
            let reply = self.ask(user, "again", "").send().await;
            if reply.status != 503 {
                return reply;
            }
            assert_eq!(reply.code(), "quota_store_unavailable");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn usage(&self, user: &User) -> Value {
        Call::get(self.addr, "/api/v1/chat/usage").key(&user.key).send().await.json()
    }

    pub(super) async fn metric(&self, name: &str) -> f64 {
        let metrics = Call::get(self.admin, "/metrics").send().await;
        let line = metrics.text().lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}
