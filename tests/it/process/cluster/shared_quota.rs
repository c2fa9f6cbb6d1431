//! Calls at several gateways count together.

use super::*;

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
    // One stream that lasts: those of the others may all have ended before the kill.
    let lasting = cluster.user("lasting", "tiny");
    let call = doomed.ask(&lasting, "hi", r#","stream":true,"max_tokens":2500"#);
    let call = call.header("x-sim-tokens", "2000").header("x-sim-token-ms", "50");
    let mut stream = call.open().await;
    stream.next().await.unwrap();
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
    // However much the killed gateway had reserved of it, the day can be used up.
    for user in &users {
        let call =
            || second.ask(user, "more", r#","max_tokens":100"#).header("x-sim-tokens", "100");
        while call().send().await.status == 200 {}
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

/// A plan that counts a tenth of cached tokens does so at every gateway, and after a rebuild from the ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cached_tokens_count_in_part_at_all_gateways() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let user = cluster.user("ada", "tenth");
    let text = "A prompt of some words that is sent again. ".repeat(60);
    for members in [r#","max_tokens":40"#, r#","max_tokens":40,"stream":true"#] {
        for gateway in [&one, &two] {
            let reply = gateway.ask(&user, &text, members).send().await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }
    let ledger = cluster.rows(4).await;
    assert!(ledger.iter().all(|row| row.uncounted > 90), "{ledger:?}");
    let counted: u64 = ledger.iter().map(Charge::counted_tokens).sum();
    for gateway in [&one, &two] {
        assert_eq!(gateway.usage(&user).await["tokens"]["used"], counted);
    }
    cluster.books_agree();

    cluster.redis.command(&["flushall"]);
    let reply = one.answer(&user).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let ledger = cluster.rows(5).await;
    let counted: u64 = ledger.iter().map(Charge::counted_tokens).sum();
    let used = || async { two.usage(&user).await["tokens"]["used"] == counted };
    soon("the counters are rebuilt", used).await;
    cluster.books_agree();
    one.ends_well().await;
    two.ends_well().await;
}
