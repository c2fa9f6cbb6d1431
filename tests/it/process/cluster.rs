//! Several gateways on one Redis and one Postgres.

use super::{Host, LOOK, Process, Serving, stdout};
use crate::support::http_client::{Call, Reply};
use crate::support::redis::Redis;
use crate::support::{SOON, body, postgres, soon, today};
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
             max_requests_per_day = 100000\nrate_limit_requests = 100000\nconcurrent_streams = 1000\n"
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

    /// Today's ledger.
    async fn ledger(&self) -> Vec<Charge> {
        self.store().await.charges(today()).await.unwrap()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gateways_never_exceed_the_quota_even_if_one_is_killed() {
    let cluster = Arc::new(Cluster::new().await);
    let gateways = [cluster.serve().await, cluster.serve().await, cluster.serve().await];
    let addrs: Vec<SocketAddr> = gateways.iter().map(|gateway| gateway.addr).collect();
    let users: Vec<User> = (0..5).map(|n| cluster.user(&format!("u{n}"), "tiny")).collect();
    let [mut doomed, second, third] = gateways;

    let done = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn(never_over(second.addr, users.clone(), Arc::clone(&done)));
    let callers: Vec<_> = (0..500_usize)
        .map(|number| {
            let (addr, user) = (addrs[number % 3], users[number % 5].clone());
            tokio::spawn(async move {
                let text = body(&format!("call {number}"), STREAM);
                let call = Call::post(addr, "/v1/chat/completions").key(&user.key).body(text);
                // The one that is killed answers nobody any more.
                let _ = call.header("x-sim-token-ms", "5").try_send().await;
            })
        })
        .collect();
    soon("streams are under way", || async { doomed.metric("knockx_streams_open").await > 0.0 })
        .await;
    doomed.process.0.kill().unwrap();
    let killed = Instant::now();
    soon("its calls are charged", || async {
        cluster.ledger().await.iter().any(|charge| charge.status == Status::Abandoned)
    })
    .await;
    // The rest is for a machine that is busy with five hundred streams.
    assert!(killed.elapsed() < Duration::from_secs(LEASE + 15), "{:?}", killed.elapsed());
    futures_util::future::join_all(callers).await;
    for user in &users {
        soon("nothing is held any more", || async {
            second.usage(user).await["tokens"]["reserved"] == 0
        })
        .await;
    }
    done.store(true, Ordering::Release);
    assert!(watch.await.unwrap() > 10, "it was looked at now and then");
    for gateway in [&second, &third] {
        assert_eq!(gateway.metric("knockx_quota_overshoot_tokens_total").await, 0.0);
    }
    cluster.books_agree();
    let ledger = cluster.ledger().await;
    for user in &users {
        let mine = ledger.iter().filter(|charge| charge.user.to_string() == user.id);
        let sum: u64 = mine.map(|charge| charge.tokens.total()).sum();
        assert!(sum <= TINY && sum > TINY / 2, "{sum}");
    }
    second.ends_well().await;
    third.ends_well().await;
}

/// Looks at all users until `done`; returns how often.
async fn never_over(addr: SocketAddr, users: Vec<User>, done: Arc<AtomicBool>) -> usize {
    let mut looks = 0;
    while !done.load(Ordering::Acquire) {
        for user in &users {
            let told = Call::get(addr, "/api/v1/chat/usage").key(&user.key).send().await.json();
            let tokens = &told["tokens"];
            assert!(tokens["used"].is_u64(), "{told}");
            let taken = tokens["used"].as_u64().unwrap() + tokens["reserved"].as_u64().unwrap();
            assert!(taken <= TINY, "{told}");
        }
        looks += 1;
        tokio::time::sleep(LOOK).await;
    }
    looks
}

/// Calls at all gateways count together: so many run as fit, and one waits for what ends elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_at_two_gateways_stay_within_the_day() {
    const EACH: u64 = 400;
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    for (name, limit) in [("ada", r#","max_tokens":400"#), ("bob", "")] {
        let user = cluster.user(name, "tiny");
        let calls = (0..20).map(|number| {
            let gateway = if number % 2 == 0 { &one } else { &two };
            let call = gateway.ask(&user, "hi", &format!("{STREAM}{limit}"));
            let call = call.header("x-sim-tokens", &EACH.to_string());
            call.header("x-sim-token-ms", "2").send()
        });
        let replies = futures_util::future::join_all(calls).await;
        let done = replies.iter().filter(|reply| reply.status == 200 && reply.is_done()).count();
        assert!((7..=9).contains(&done), "{done}");
        soon("nothing is held any more", || async {
            one.usage(&user).await["tokens"]["reserved"] == 0
        })
        .await;
        cluster.rows(done).await;
        let ledger = cluster.ledger().await;
        let mine: Vec<_> = ledger.iter().filter(|row| row.user.to_string() == user.id).collect();
        assert!(mine.iter().all(|row| row.status == Status::Complete), "{mine:?}");
        let whole = mine.iter().filter(|row| row.tokens.completion == EACH).count();
        assert_eq!(whole, 7, "of {name}");
        assert!(mine.iter().map(|row| row.tokens.total()).sum::<u64>() <= TINY);
    }
    let user = cluster.user("eve", "tiny");
    let call = one.ask(&user, "hi", r#","stream":true,"max_tokens":2980"#);
    let mut open = call.header("x-sim-tokens", "2900").header("x-sim-token-ms", "20").open().await;
    open.next().await.unwrap();
    let waits = tokio::spawn(two.ask(&user, "hi", "").send());
    soon("it waits", || async { two.metric("knockx_admission_waiting").await == 1.0 }).await;
    drop(open);
    assert_eq!(waits.await.unwrap().status, 200);
    cluster.books_agree();
    one.ends_well().await;
    two.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_does_not_reset_quotas() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let (poor, rich) = (cluster.user("poor", "tiny"), cluster.user("rich", "wide"));
    let mut spent = 0;
    while one.ask(&poor, "spend", "").send().await.status == 200 {
        spent += 1;
    }
    assert!(spent > 3);
    // One stream runs through all of it.
    let long = two.ask(&rich, "talk", STREAM).header("x-sim-tokens", "500");
    let mut open = long.header("x-sim-token-ms", "20").open().await;
    open.next().await.unwrap();
    let before = one.usage(&rich).await["tokens"]["reserved"].clone();
    assert_ne!(before, 0);

    cluster.redis.command(&["flushall"]);
    let emptied = Instant::now();
    let poor_again = one.answer(&poor).await;
    let rich_again = two.answer(&rich).await;
    assert!(emptied.elapsed() < Duration::from_secs(10), "{:?}", emptied.elapsed());
    assert_eq!(poor_again.code(), "insufficient_quota", "{}", poor_again.text());
    assert_eq!(rich_again.status, 200, "{}", rich_again.text());
    let rest = open.rest().await;
    assert!(rest.is_done(), "{}", rest.text());
    let rows = cluster.rows(spent + 2).await.len() as f64;
    assert_eq!(two.usage(&rich).await["tokens"]["reserved"], 0);
    cluster.books_agree();
    // What was sent again is counted once, and told in one line by each gateway at most.
    let persisted = "knockx_usage_persisted_total";
    soon("each row is counted", || async {
        one.metric(persisted).await + two.metric(persisted).await >= rows
    })
    .await;
    assert_eq!(one.metric(persisted).await + two.metric(persisted).await, rows);
    let log = cluster.host.log();
    assert!(log.matches("that redis lost").count() <= 2, "{log}");
    one.ends_well().await;
    two.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_effect_at_every_gateway() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let user = cluster.user("ada", "wide");
    assert_eq!(one.ask(&user, "hi", "").send().await.status, 200);
    let endless = two.ask(&user, "talk", STREAM).header("x-sim-tokens", "100000");
    let mut open = endless.header("x-sim-token-ms", "50").open().await;
    open.next().await.unwrap();
    cluster.run(&["user", "set-plan", &user.id, "tiny"]);
    assert_eq!(one.usage(&user).await["plan"], "tiny");
    cluster.run(&["key", "revoke", &user.key_id]);
    let revoked = Instant::now();
    assert_eq!(one.ask(&user, "hi", "").send().await.status, 401);
    assert_eq!(two.ask(&user, "hi", "").send().await.status, 401);
    let rest = open.rest().await;
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert!(rest.text().contains("access_revoked"), "{}", rest.text());
    cluster.rows(2).await;
    cluster.books_agree();
    one.ends_well().await;
    two.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_calls_complete_while_redis_is_down() {
    let mut cluster = Cluster::new().await;
    let one = cluster.serve().await;
    let mut two = cluster.serve().await;
    let user = cluster.user("ada", "wide");
    let slow = |gateway: &Serving| {
        let call = gateway.ask(&user, "talk", STREAM);
        call.header("x-sim-token-ms", "20").header("x-sim-tokens", "100").open()
    };
    let (mut at_one, mut at_two) = (slow(&one).await, slow(&two).await);
    at_one.next().await.unwrap();
    at_two.next().await.unwrap();
    cluster.redis.kill();
    let asked = Instant::now();
    let refused = one.ask(&user, "hi", "").send().await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "quota_store_unavailable"));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_ne!(refused.header("retry-after"), "");
    assert!(at_one.rest().await.is_done());
    assert!(at_two.rest().await.is_done());
    // What this one has on disk, another sends.
    soon("its charge is on disk", || async {
        let files = cluster.host.folder.path().join("spool").read_dir();
        let has_name = |file: &std::io::Result<std::fs::DirEntry>| {
            file.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|it| it == "spool"))
        };
        files.is_ok_and(|files| files.filter(has_name).count() == 2)
    })
    .await;
    two.process.0.kill().unwrap();
    two.process.0.wait().unwrap();
    cluster.redis.restart();
    soon("calls are admitted again", || async {
        one.ask(&user, "hi", "").send().await.status == 200
    })
    .await;
    let three = cluster.serve().await;
    let rows = cluster.rows(3).await;
    assert!(rows.iter().all(|charge| charge.status == Status::Complete), "{rows:?}");
    cluster.books_agree();
    one.ends_well().await;
    three.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_survive_a_redis_that_rejects_writes_longer_than_a_lease() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let user = cluster.user("ada", "wide");
    let call = one.ask(&user, "talk", STREAM);
    let call = call.header("x-sim-token-ms", "100").header("x-sim-tokens", "300");
    let mut open = call.open().await;
    open.next().await.unwrap();
    let set =
        |replicas| cluster.redis.command(&["config", "set", "min-replicas-to-write", replicas]);
    set("1");
    let uuid = user.id.replace('-', "");
    let partition = u8::from_str_radix(&uuid[30..], 16).unwrap() % 64;
    let deadlines = format!("kx:{{{partition}}}:deadlines");
    let overdue = || {
        let now = jiff::Timestamp::now().as_millisecond().to_string();
        cluster.redis.command(&["zcount", &deadlines, "-inf", &now])
    };
    soon("its lease is overdue", || async { overdue().contains('1') }).await;
    set("0");
    soon("it is renewed", || async { overdue().contains('0') }).await;
    // Others had their chance by now.
    for _ in 0..5 {
        open.next().await.unwrap();
    }
    assert_eq!(cluster.ledger().await, []);
    drop(open);
    let rows = cluster.rows(1).await;
    assert_eq!(rows[0].status, Status::CutByClient);
    cluster.books_agree();
    one.ends_well().await;
    two.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_gateway_charges_the_real_usage() {
    let cluster = Cluster::new().await;
    let (sleepy, other) = (cluster.serve().await, cluster.serve().await);
    let user = cluster.user("ada", "wide");
    let call = sleepy.ask(&user, "talk", STREAM).header("x-sim-token-ms", "5");
    let mut open = call.open().await;
    open.next().await.unwrap();
    sleepy.process.signal("STOP");
    soon("it is taken for dead", || async {
        cluster.ledger().await.first().is_some_and(|charge| charge.status == Status::Abandoned)
    })
    .await;
    assert_eq!(other.usage(&user).await["tokens"]["reserved"], 0);
    sleepy.process.signal("CONT");
    assert!(open.rest().await.is_done());
    soon("the true charge is there", || async {
        cluster.ledger().await.first().is_some_and(|charge| charge.status == Status::Complete)
    })
    .await;
    assert_eq!(cluster.ledger().await.len(), 1);
    cluster.books_agree();
    sleepy.ends_well().await;
    other.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_start_together_create_one_admin() {
    let mut cluster = Cluster::new().await;
    cluster.admin = Some("root@example.com");
    let serving = futures_util::future::join_all((0..4).map(|_| cluster.serve())).await;
    let admins = UserFilter { role: Some(Role::Admin), ..UserFilter::default() };
    let admins = cluster.store().await.users(&admins, None, 9).await.unwrap();
    assert_eq!(admins.iter().map(|user| &*user.email).collect::<Vec<_>>(), ["root@example.com"]);
    for gateway in serving {
        gateway.ends_well().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn known_callers_are_served_while_postgres_is_down() {
    let mut server = postgres::Server::start().await;
    let mut cluster = Cluster::new().await;
    cluster.database = server.url("postgres");
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let (known, unknown) = (cluster.user("ada", "wide"), cluster.user("bob", "wide"));
    for gateway in [&one, &two] {
        assert_eq!(gateway.ask(&known, "hi", "").send().await.status, 200);
    }
    let poor = cluster.user("poor", "tiny");
    let mut spent = 0;
    while one.ask(&poor, "spend", "").send().await.status == 200 {
        spent += 1;
    }
    server.stop();
    let asked = Instant::now();
    assert_eq!(one.ask(&poor, "spend", "").send().await.code(), "insufficient_quota");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    for number in 0..50 {
        let gateway = if number % 2 == 0 { &one } else { &two };
        let answer = gateway.ask(&known, "hi", "").send().await;
        assert_eq!(answer.status, 200, "{} {number}", answer.code());
    }
    let refused = one.ask(&unknown, "hi", "").send().await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "key_store_unavailable"));
    server.run().await;
    cluster.rows(52 + spent).await;
    soon("they are served again", || async {
        one.ask(&unknown, "hi", "").send().await.status == 200
    })
    .await;
    cluster.books_agree();
    one.ends_well().await;
    two.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_response_is_visible_only_to_its_owner_at_every_gateway() {
    let mut server = postgres::Server::start().await;
    let mut cluster = Cluster::new().await;
    cluster.database = server.url("postgres");
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let (ada, bob) = (cluster.user("ada", "wide"), cluster.user("bob", "wide"));
    let respond = |gateway: &Serving, user: &User, members: &str| {
        let body = format!(r#"{{"model":"grok-4.3","input":"hi"{members}}}"#);
        Call::post(gateway.addr, "/v1/responses").key(&user.key).body(body).send()
    };
    let kept = respond(&one, &ada, "").await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/responses/{kept}");
    let next = format!(r#","previous_response_id":"{kept}""#);
    for gateway in [&one, &two] {
        let read = async |user: &User| Call::get(gateway.addr, &path).key(&user.key).send().await;
        assert_eq!((read(&ada).await.status, read(&bob).await.status), (200, 404));
        assert_eq!(respond(gateway, &ada, &next).await.status, 200);
        assert_eq!(respond(gateway, &bob, &next).await.status, 404);
    }
    let answered = cluster.rows(3).await.len();
    server.stop();
    let refused = |reply: &Reply| (reply.status, reply.code());
    let away = (503, "reply_store_unavailable".to_owned());
    let unnoted = respond(&one, &ada, "").await;
    assert_eq!(unnoted.status, 200, "the answer is not lost: {}", unnoted.text());
    let unnoted = unnoted.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(refused(&respond(&two, &ada, &next).await), away);
    let stream = respond(&one, &ada, STREAM).await;
    assert!(stream.text().contains("response.completed"), "{}", stream.text());
    assert_eq!(refused(&Call::get(two.addr, &path).key(&ada.key).send().await), away);
    assert_eq!(respond(&two, &ada, r#","store":false"#).await.status, 200, "nothing to be noted");
    server.run().await;
    cluster.rows(answered + 3).await;
    soon("it is its owner's again", || async {
        Call::get(two.addr, &path).key(&ada.key).send().await.status == 200
    })
    .await;
    for user in [&ada, &bob] {
        let path = format!("/v1/responses/{unnoted}");
        let read = Call::get(one.addr, &path).key(&user.key).send().await;
        assert_eq!(read.status, 404, "nobody's, since it could not be noted");
    }
    cluster.books_agree();
    one.ends_well().await;
    two.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_differs_from_the_ledger_is_corrected() {
    let cluster = Cluster::new().await;
    let one = cluster.serve().await;
    let user = cluster.user("ada", "wide");
    assert_eq!(one.ask(&user, "hi", "").send().await.status, 200);
    cluster.rows(1).await;
    let used = one.usage(&user).await["tokens"]["used"].clone();
    let uuid = user.id.replace('-', "");
    let partition = u8::from_str_radix(&uuid[30..], 16).unwrap() % 64;
    let account = format!("kx:{{{partition}}}:user:{uuid}");
    cluster.redis.command(&["hset", &account, &format!("{}:u", today()), "7"]);
    assert_eq!(one.usage(&user).await["tokens"]["used"], 7);
    // It is looked at again once there was something to write.
    assert_eq!(one.ask(&user, "hi", "").send().await.status, 200);
    soon("the counter is mended", || async {
        one.usage(&user).await["tokens"]["used"].as_u64() == used.as_u64().map(|used| 2 * used)
    })
    .await;
    let filter = AuditFilter { actor: Some("gateway".into()), ..AuditFilter::default() };
    let log = async || cluster.store().await.audit(&filter, None, 1).await.unwrap();
    soon("it is noted", || async { log().await[0].action == "counters.mend" }).await;
    assert_eq!(one.metric("knockx_quota_drift_total").await, 1.0);
    let log = log().await;
    assert_eq!(log[0].subject, format!("user:{}", user.id));
    let tokens = |state: &Option<Value>| state.as_ref().unwrap()["tokens"].as_u64();
    let used = used.as_u64().unwrap();
    assert_eq!((tokens(&log[0].before), tokens(&log[0].after)), (Some(7 + used), Some(2 * used)));
    cluster.books_agree();
    one.ends_well().await;
}
