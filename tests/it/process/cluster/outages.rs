//! Redis, Postgres or a gateway is away, or has lost something.

use super::*;

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

    let missing =
        || cluster.host.log().matches("redis has no counters for some partitions").count();
    let missing_before = missing();
    cluster.redis.command(&["flushall"]);
    let emptied = Instant::now();
    // The rebuild takes at least 2.5 s.
    let usage = Call::get(one.addr, "/api/v1/chat/usage").key(&rich.key).send().await;
    assert_eq!(usage.status, 503, "unknown, not 0: {}", usage.text());
    let models = Call::get(one.addr, "/v1/models").key(&rich.key).send().await;
    assert_eq!(models.status, 200, "{}", models.text());
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
    assert!(log.matches("redis lost charges that it had acknowledged").count() <= 2, "{log}");
    let lines = missing() - missing_before;
    assert!((1..=2).contains(&lines), "at most one line of each gateway: {log}");
    soon("both gateways see all counters again", || async {
        let log = cluster.host.log();
        log.matches("redis has the counters of all partitions").count() == missing()
    })
    .await;
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
    // The tokens used on the newest day, the second of its doubles; see account.lua.
    let wrong = "return redis.call('SETRANGE', KEYS[1], 48, struct.pack('<d', 7))";
    cluster.redis.command(&["eval", wrong, "1", &account]);
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
