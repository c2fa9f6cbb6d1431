//! Many callers, tiny plans, every kind of ending at once: the books stay exact.

use crate::support::{Gateway, Key, Plan, WIDE, body, gateway};
use domain::charge::{Source, Status};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TASKS: u64 = 256;
const CALLS: u64 = 6;
const LIMIT: u64 = 6_000;

/// Faults that a caller of a busy gateway meets.
/// Rare enough that the upstream is not left alone for it.
const FAULTS: [&str; 12] = [
    "none", "cut=4", "none", "500", "none", "429", "none", "split", "none", "none", "split", "none",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_limit_holds_at_every_grant_and_counters_match_the_ledger() {
    let plan = Plan { id: "tiny", tokens: LIMIT, requests: 100_000, ..WIDE };
    let gw = Arc::new(gateway().plan(plan).simulator(|s| s.tokens = 30).start().await);
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(gw.key("tiny").await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let watch =
        tokio::spawn(watch(Arc::clone(&gw), keys.clone(), Arc::clone(&over), Arc::clone(&done)));
    let callers = (0..TASKS).map(|number| {
        let (gw, key) = (Arc::clone(&gw), keys[usize::try_from(number % 5).unwrap()].clone());
        tokio::spawn(async move {
            for round in 0..CALLS {
                one_call(&gw, &key, number * CALLS + round).await;
            }
        })
    });
    futures_util::future::join_all(callers.collect::<Vec<_>>()).await;
    gw.settled().await;
    done.store(true, Ordering::Release);
    watch.await.unwrap();
    assert!(!over.load(Ordering::Acquire), "settled + reserved passed the limit");
    assert_eq!(gw.metric("knockx_quota_overshoot_tokens_total").await, 0);
    ledger_is_what_the_upstream_said(&gw).await;
    let gw = Arc::into_inner(gw).unwrap();
    gw.finish().await;
}

/// Streams and whole answers, some broken by the upstream, some left by the caller.
async fn one_call(gw: &Gateway, key: &Key, number: u64) {
    let members = if number.is_multiple_of(3) { "" } else { r#","stream":true"# };
    let fault = FAULTS[usize::try_from(number).unwrap() % FAULTS.len()];
    let text = body(&format!("call {number}"), members);
    let mut open =
        gw.chat(key, &text).header("x-sim-fault", fault).header("x-sim-token-ms", "1").open().await;
    if number.is_multiple_of(7) {
        open.next().await;
        return;
    }
    let reply = open.rest().await;
    let complete = members.is_empty()
        || reply.status != 200
        || reply.is_done()
        || reply.text().contains("error");
    assert!(complete, "neither done nor honest about it: {}", reply.text());
}

async fn watch(gw: Arc<Gateway>, keys: Vec<Key>, over: Arc<AtomicBool>, done: Arc<AtomicBool>) {
    while !done.load(Ordering::Acquire) {
        for key in &keys {
            let now = jiff::Timestamp::now();
            let snapshot = gw
                .running
                .quota
                .usage_snapshot(key.user, None, crate::support::today(), now)
                .await
                .unwrap();
            if snapshot.user.tokens_used + snapshot.user.tokens_reserved > LIMIT {
                over.store(true, Ordering::Release);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Every charge that claims to be reported is what the simulator says it billed for that call.
async fn ledger_is_what_the_upstream_said(gw: &Gateway) {
    let truth = gw.simulator.log.entries();
    let charges = crate::support::recent_charges(&gw.running.store).await;
    let mut compared = 0;
    for charge in &charges {
        // The id goes upstream as a bare UUID.
        let request = charge.request.0.to_string();
        let said: Vec<_> =
            truth.iter().filter(|entry| entry.request.as_deref() == Some(&request)).collect();
        if charge.status == Status::Complete {
            assert_eq!(charge.source, Source::Reported, "{charge:?}");
            assert_eq!(said.len(), 1, "{charge:?}");
            let billed = (said[0].prompt, said[0].completion, said[0].reasoning);
            let tokens = charge.tokens;
            assert_eq!((tokens.prompt, tokens.completion, tokens.reasoning), billed, "{charge:?}");
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} of {} calls completed", charges.len());
}
