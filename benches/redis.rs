//! What a call costs Redis, and how calls best share connections: `cargo bench --bench redis`.
//!
//! Starts a `redis-server` of its own. Each line is one run: calls (a take and a settlement) a
//! second, and the same for each second that Redis' own thread worked.

use jiff::tz::TimeZone;
use knockx::account::caller::Caller;
use knockx::account::charge::{Charge, Lease, Source, Status, TokenCount};
use knockx::account::id::{KeyId, PlanId, RequestId, UserId};
use knockx::account::key::{KeyDigest, KeyLimits};
use knockx::account::plan::{PlanLimits, RequestPolicy, Window};
use knockx::account::user::UserStatus;
use knockx::clock;
use knockx::quota::counters::{Claim, Counters, SoFar, Taken};
use knockx::quota::redis::{Clock, RedisCounters, Settings};
use knockx::quota::rules::{self, Need};
use knockx::redis_conn::{RedisConn, RedisUrls};
use knockx::telemetry::metrics::Metrics;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::task::TaskTracker;

const NEED: Need = Need {
    prompt: 500,
    output: 256,
    least_output: 1,
    likely_output: 500,
    stream: true,
    sliced: true,
};
const RUN: Duration = Duration::from_secs(5);
const USERS: usize = 1000;

struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
        let process = Command::new("redis-server")
            .args(["--port", &free.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        let server = Self { process, port: free.port(), _folder: folder };
        while server.try_ask("PING").is_none() {
            std::thread::yield_now();
        }
        server
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn try_ask(&self, command: &str) -> Option<String> {
        let mut connection = redis::Client::open(self.url()).ok()?.get_connection().ok()?;
        redis::cmd(command).query(&mut connection).ok()
    }

    /// Seconds that its main thread has worked.
    fn worked(&self) -> f64 {
        let told = self.try_ask("INFO").expect("redis answers");
        let of = |name: &str| -> f64 {
            let line = told.lines().find_map(|line| line.strip_prefix(name)).expect("a figure");
            line.trim_start_matches(':').parse().expect("a number")
        };
        of("used_cpu_user_main_thread") + of("used_cpu_sys_main_thread")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn caller() -> Caller {
    let user = UserId::new();
    Caller {
        user,
        key: KeyId::from("a-key"),
        digest: KeyDigest([0; 32]),
        user_status: UserStatus::Active,
        key_revoked: false,
        key_expires_at: None,
        key_limits: KeyLimits::default(),
        plan: PlanId::from("plan"),
        plan_limits: PlanLimits {
            tokens_per_day: 1 << 52,
            requests_per_day: 1 << 52,
            window: Window { capacity: 1_000_000, refill_seconds: 1 },
            concurrent_streams: u32::MAX,
            models: None,
            time_zone: TimeZone::UTC,
            policy: RequestPolicy::default(),
        },
        version: 1,
    }
}

async fn call(counters: &RedisCounters, caller: &Caller) {
    let now = clock::now();
    let (day, debits) = rules::debits(caller, NEED, now);
    let lease = Lease {
        request: RequestId::new(),
        user: caller.user,
        key: caller.key.clone(),
        version: caller.version,
        model: "grok-4.3".into(),
        day,
        reserved: 0,
        admitted_at: now,
    };
    let charge = Charge {
        request: lease.request,
        user: lease.user,
        key: lease.key.clone(),
        model: Arc::clone(&lease.model),
        upstream: "xai".into(),
        day,
        admitted_at: now,
        tokens: TokenCount { prompt: 500, cached: 0, completion: 100, reasoning: 0 },
        cost_micro_dollars: 100,
        status: Status::Complete,
        source: Source::Reported,
        counted: true,
        first_token_ms: Some(100),
        total_ms: 1000,
        client_request_id: None,
    };
    let taken = counters.take(Claim { lease, debits, so_far: SoFar::default() }, now).await;
    assert!(matches!(taken, Ok(Taken::Granted(_))), "{taken:?}");
    counters.settle(charge).await;
}

/// Calls of `callers` tasks at once, spread over `pool` connections.
async fn run(server: &Server, callers: usize, pool: usize) {
    let settings = Settings {
        clock: Clock::Redis,
        lease: Duration::from_secs(60),
        max_backlog: u64::MAX,
        compare: Duration::from_secs(60),
    };
    let metrics = Arc::new(Metrics::new(&[], &[]));
    let mut all = Vec::new();
    for _ in 0..pool {
        let connection = RedisConn::open(&RedisUrls::new(vec![server.url()])).await;
        let connection = connection.expect("redis answers");
        all.push(Arc::new(RedisCounters::new(connection, settings, Arc::clone(&metrics))));
    }
    all[0].begin(&[]).await.expect("redis answers");
    let users: Arc<Vec<Caller>> = Arc::new((0..USERS).map(|_| caller()).collect());
    let done = Arc::new(AtomicU64::new(0));
    let (began, worked) = (clock::instant(), server.worked());
    let tasks = TaskTracker::new();
    for number in 0..callers {
        let counters = Arc::clone(&all[number % pool]);
        let (users, done) = (Arc::clone(&users), Arc::clone(&done));
        tasks.spawn(async move {
            let mut next = number;
            while began.elapsed() < RUN {
                call(&counters, &users[next % USERS]).await;
                done.fetch_add(1, Ordering::Relaxed);
                next += 7;
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    let (took, worked) = (began.elapsed().as_secs_f64(), server.worked() - worked);
    #[expect(clippy::cast_precision_loss, reason = "a figure to be read")]
    let calls = done.load(Ordering::Relaxed) as f64;
    println!(
        "{callers:>4} callers, {pool:>2} connections: {:>7.0} calls/s, {:>7.0} calls a second of Redis' thread",
        calls / took,
        calls / worked
    );
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` asks for a quick look only.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    for (callers, pool) in [(1, 1), (16, 1), (64, 1), (64, 8), (256, 1), (256, 8)] {
        run(&Server::start(), callers, pool).await;
    }
}
