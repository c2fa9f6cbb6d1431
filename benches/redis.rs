//! What a call costs Redis, and how calls best share connections: `cargo bench --bench redis`.
//!
//! Starts a `redis-server` of its own. Each line is one run: calls (a take and a settlement) a
//! second, and the same for each second that Redis' own thread worked.
//!
//! With `-- --bulk`: how long takes need while counters are compared with the ledger and rebuilt from it, with
//! all over one connection, and with the bulk work over its own, in turns.

use domain::caller::Caller;
use domain::charge::TokenCount;
use domain::id::UserId;
use domain::testing::wide_limits;
use quota::backend::{QuotaBackend, TakeOutcome};
use quota::redis::connection::{RedisConn, RedisUrls};
use quota::redis::{Clock, RedisQuota, Settings};
use quota::rules::{self, Demand};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::Used;
use system::clock;
use telemetry::metrics::Metrics;
use tokio_util::task::TaskTracker;

const NEED: Demand = Demand {
    prompt: 500,
    output: 256,
    least_output: 1,
    likely_output: 500,
    stream: true,
    sliced: true,
};
const RUN: Duration = Duration::from_secs(5);
const USERS: usize = 1000;
/// Users whose counters bulk work reads and sets, each with one key.
const BULK_USERS: usize = 20_000;
const BULK_CALLERS: usize = 8;
const BULK_RUN: Duration = Duration::from_secs(2);
const BULK_ROUNDS: usize = 4;

const SETTINGS: Settings = Settings {
    clock: Clock::Redis,
    lease: Duration::from_secs(60),
    max_backlog: u64::MAX,
    compare: Duration::from_secs(60),
};

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
        self.ask(&redis::cmd(command)).ok()
    }

    fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> redis::RedisResult<T> {
        command.query(&mut redis::Client::open(self.url())?.get_connection()?)
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
    Caller { plan_limits: wide_limits(), ..domain::testing::caller(user, "a-key") }
}

/// Returns how long the take took.
async fn call(quota: &RedisQuota, caller: &Caller) -> Duration {
    let now = clock::now();
    let claim = quota::testing::claim(caller, NEED, now);
    let tokens = TokenCount { prompt: 500, cached: 0, completion: 100, reasoning: 0 };
    let charge = domain::testing::charge(&claim.lease, tokens);
    let began = clock::instant();
    let taken = quota.take(claim, now).await;
    let took = began.elapsed();
    assert!(matches!(taken, Ok(TakeOutcome::Granted(_))), "{taken:?}");
    quota.settle(charge).await;
    took
}

/// Calls of `callers` tasks at once, spread over `pool` connections.
async fn run(server: &Server, callers: usize, pool: usize) {
    let metrics = Arc::new(Metrics::new(&[], &[]));
    let mut all = Vec::new();
    for _ in 0..pool {
        let connection = RedisConn::open(&RedisUrls::new(vec![server.url()])).await;
        let connection = connection.expect("redis answers");
        all.push(Arc::new(RedisQuota::new(connection, SETTINGS, Arc::clone(&metrics))));
    }
    all[0].begin(&[]).await.expect("redis answers");
    let users: Arc<Vec<Caller>> = Arc::new((0..USERS).map(|_| caller()).collect());
    let done = Arc::new(AtomicU64::new(0));
    let (began, worked) = (clock::instant(), server.worked());
    let tasks = TaskTracker::new();
    for number in 0..callers {
        let quota = Arc::clone(&all[number % pool]);
        let (users, done) = (Arc::clone(&users), Arc::clone(&done));
        tasks.spawn(async move {
            let mut next = number;
            while began.elapsed() < RUN {
                call(&quota, &users[next % USERS]).await;
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

/// What else Redis is asked for while calls are made.
#[derive(Debug, Clone, Copy)]
enum Bulk {
    Nothing,
    Comparison,
    Rebuild,
}

/// Does bulk work over and over until `BULK_RUN` is over. Returns how often it was done; a command
/// without an answer in time ends a turn.
async fn do_bulk(server: &Server, quota: &RedisQuota, bulk: Bulk, used: &[Used]) -> u64 {
    let (began, mut turns) = (clock::instant(), 0);
    while began.elapsed() < BULK_RUN {
        match bulk {
            Bulk::Nothing => break,
            Bulk::Comparison => match quota.used_on(used[0].day).await {
                Ok(rows) => {
                    assert_eq!(rows.len(), used.len());
                    turns += 1;
                }
                Err(error) => println!("{error:?}"),
            },
            Bulk::Rebuild => {
                // Half of the partitions; calls go on in the others.
                let epochs: Vec<_> =
                    (0..64).step_by(2).map(|p| format!("kx:{{{p}}}:epoch")).collect();
                server.ask::<u64>(redis::cmd("DEL").arg(&epochs)).expect("redis answers");
                turns += u64::from(quota.begin(used).await.is_ok());
            }
        }
    }
    turns
}

/// Times of takes by a few callers while bulk work is done.
async fn takes_beside(
    server: &Server,
    quota: &Arc<RedisQuota>,
    bulk: Bulk,
    (users, used): (&Arc<Vec<Caller>>, &[Used]),
) -> (Vec<Duration>, u64) {
    let mut tasks = tokio::task::JoinSet::new();
    let began = clock::instant();
    for number in 0..BULK_CALLERS {
        let (quota, users) = (Arc::clone(quota), Arc::clone(users));
        tasks.spawn(async move {
            let (mut next, mut times) = (number, Vec::new());
            while began.elapsed() < BULK_RUN {
                times.push(call(&quota, &users[next % users.len()]).await);
                next += 7;
            }
            times
        });
    }
    let (times, turns) = tokio::join!(tasks.join_all(), do_bulk(server, quota, bulk, used));
    (times.into_iter().flatten().collect(), turns)
}

/// The time in milliseconds that so many of a hundred stay below.
fn percentile(times: &mut [Duration], of_hundred: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() * of_hundred / 100).min(times.len() - 1)].as_secs_f64() * 1000.0
}

/// Takes beside bulk work, over one connection and over two.
async fn beside_bulk() {
    let server = Server::start();
    let connection = RedisConn::open(&RedisUrls::new(vec![server.url()])).await;
    let connection = connection.expect("redis answers");
    let quota = |connection| {
        let metrics = Arc::new(Metrics::new(&[], &[]));
        Arc::new(RedisQuota::new(connection, SETTINGS, metrics))
    };
    let (shared, own) = (quota(connection.bulk()), quota(connection));
    let callers: Vec<Caller> = (0..BULK_USERS).map(|_| caller()).collect();
    let (day, _) = rules::debits(&callers[0], NEED, clock::now());
    let row = |user, key| Used { user, key, day, tokens: 1000, requests: 10 };
    let rows =
        callers.iter().flat_map(|it| [row(it.user, None), row(it.user, Some(it.key.clone()))]);
    let used: Vec<Used> = rows.collect();
    own.begin(&used).await.expect("redis answers");
    let is_odd = |it: &Caller| it.user.0.as_bytes()[15] % 2 == 1;
    let users = Arc::new(callers.into_iter().filter(is_odd).collect::<Vec<_>>());
    for bulk in [Bulk::Nothing, Bulk::Comparison, Bulk::Rebuild] {
        let mut ways = [("one connection", &shared, Vec::new(), 0), ("two", &own, Vec::new(), 0)];
        for _ in 0..BULK_ROUNDS {
            for (_, quota, times, turns) in &mut ways {
                let (more, done) = takes_beside(&server, quota, bulk, (&users, &used)).await;
                times.extend(more);
                *turns += done;
            }
        }
        for (way, _, times, turns) in &mut ways {
            println!(
                "{:<12} {way:<16} takes p50 {:>7.2} ms, p99 {:>7.2} ms, {:>6} calls, {turns:>4} turns",
                format!("{bulk:?}"),
                percentile(times, 50),
                percentile(times, 99),
                times.len()
            );
        }
    }
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` asks for a quick look only.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    if std::env::args().any(|word| word == "--bulk") {
        return beside_bulk().await;
    }
    for (callers, pool) in [(1, 1), (16, 1), (64, 1), (64, 8), (256, 1), (256, 8)] {
        run(&Server::start(), callers, pool).await;
    }
}
