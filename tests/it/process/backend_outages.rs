//! Redis and Postgres that are there and of no use, or not there at all: who is told, how soon and how often.

use super::cluster::Cluster;
use super::postgres::OnPostgres;
use super::stdout;
use crate::support::http_client::Call;
use crate::support::redis::Redis;
use crate::support::tcp_forward::TcpForward;
use crate::support::{body, soon};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::time::{Duration, Instant};

/// What nobody may have to wait for. The machine may be busy.
const AT_MOST: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_redis_is_reported_everywhere_and_logged_once() {
    let mut cluster = Cluster::new().await;
    let replica = Redis::start_durable();
    replica.follow(&cluster.redis);
    let forward = TcpForward::to(cluster.redis.port()).await;
    cluster.redis_url = Some(format!("redis://{}", forward.addr));
    let gateway = cluster.serve().await;
    let user = cluster.user("ada", "wide");
    assert_eq!(gateway.ask(&user, "hi", "").send().await.status, 200);
    let quiet = cluster.host.log();
    assert!(!quiet.contains("redis failed"), "{quiet}");

    // The failover is half done: the address still leads to what is a replica now.
    replica.command(&["replicaof", "no", "one"]);
    cluster.redis.follow(&replica);
    soon("health says so", || async {
        let health = Call::get(gateway.addr, "/health/").send().await.json();
        health["components"]["counters"]["status"] == "unavailable"
    })
    .await;
    for _ in 0..30 {
        let refused = gateway.ask(&user, "hi", "").send().await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "quota_store_unavailable"));
    }
    let check = cluster.command(&["check"]).output().unwrap();
    let told = stdout(&check);
    assert!(!check.status.success() && told.contains("read-only replica"), "{told}");
    let verify = cluster.command(&["usage", "verify"]).output().unwrap();
    assert_eq!(verify.status.code(), Some(1), "{verify:?}");

    forward.switch(replica.port());
    let promoted = Instant::now();
    assert_eq!(gateway.answer(&user).await.status, 200);
    assert!(promoted.elapsed() < Duration::from_secs(10), "{:?}", promoted.elapsed());
    soon("the end is logged", || async { cluster.host.log().contains("redis recovered") }).await;
    let log = cluster.host.log();
    assert_eq!(log.matches("redis failed").count(), 1, "{log}");
    assert_eq!(log.matches("redis recovered").count(), 1, "{log}");
    cluster.rows(2).await;
    cluster.books_agree();
    gateway.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_refuses_connections_delays_no_call() {
    let mut on = OnPostgres::with_its_own_server().await;
    let added = on.run(&["user", "add", "ada@example.com", "--plan", "wide", "--json"]);
    let added: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    let known = added["api_key"].as_str().unwrap().to_owned();
    let other = on.run(&["key", "add", "ada@example.com", "--json"]);
    let other: serde_json::Value = serde_json::from_slice(&other.stdout).unwrap();
    let unknown = other["api_key"].as_str().unwrap().to_owned();
    let mut serving = on.serve().await;
    let addr = on.addr;
    let chat =
        |key: &str| Call::post(addr, "/v1/chat/completions").key(key).body(body("hello", ""));
    assert_eq!(chat(&known).send().await.status, 200);
    on.stop_server();

    let began = Instant::now();
    let log_in = || {
        let body = r#"{"email":"ada@example.com","password":"correct horse battery"}"#;
        Call::post(addr, "/api/v1/users/login").body(body).send()
    };
    let five = futures_util::future::join_all((0..5).map(|_| chat(&unknown).send()));
    let (five, logged_in) = tokio::join!(five, log_in());
    assert!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
    for refused in five {
        assert_eq!((refused.status, refused.code().as_str()), (503, "key_store_unavailable"));
    }
    assert_eq!(logged_in.status, 503, "{}", logged_in.text());
    let began = Instant::now();
    let verify = on.run(&["usage", "verify"]);
    assert!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
    let told = super::refused(&verify);
    assert!(told.contains("refuses connections"), "{told}");

    on.start_server().await;
    soon("the unknown key is known again", || async { chat(&unknown).send().await.status == 200 })
        .await;
    serving.signal("TERM");
    assert!(serving.exit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_ledger_is_reported_and_recovers() {
    let cluster = Cluster::new().await;
    let gateway = cluster.serve().await;
    let user = cluster.user("ada", "wide");
    assert_eq!(gateway.ask(&user, "hi", "").send().await.status, 200);
    cluster.rows(1).await;
    let mut past = PgConnection::connect(&cluster.database).await.unwrap();
    let name = cluster.database.rsplit_once('/').unwrap().1;
    for sql in [
        format!("alter database {name} set default_transaction_read_only = on"),
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()"
            .to_owned(),
    ] {
        past.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(gateway.ask(&user, "hi", "").send().await.status, 200);
    }
    soon("health says so", || async {
        let health = Call::get(gateway.addr, "/health/").send().await.json();
        let ledger = &health["components"]["ledger"];
        ledger["status"] == "degraded" && ledger["waiting"] == 3
    })
    .await;
    let reset = format!("alter database {name} reset default_transaction_read_only");
    past.execute(AssertSqlSafe(reset)).await.unwrap();
    assert_eq!(cluster.rows(4).await.len(), 4);
    soon("health is well again", || async {
        let health = Call::get(gateway.addr, "/health/").send().await.json();
        health["components"]["ledger"]["status"] == "ok" && health["status"] == "ok"
    })
    .await;
    let log = cluster.host.log();
    assert_eq!(log.matches("charges stay in redis").count(), 1, "{log}");
    cluster.books_agree();
    gateway.ends_well().await;
}
