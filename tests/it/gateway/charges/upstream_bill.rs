//! The upstream's own bill beside the ledger, where the upstream cannot be stopped.

use crate::support::http_client::{Call, Reply};
use crate::support::{Gateway, Key, Plan, WIDE, gateway, soon};
use serde_json::json;
use std::time::Duration;

const PLAN: Plan = Plan { id: "two", tokens: 2_000, ..WIDE };

async fn respond(gw: &Gateway, key: &Key, input: &str, store: bool) -> Reply {
    let body = json!({"model": "grok-4.3", "input": input, "stream": true, "store": store});
    Call::post(gw.addr(), "/v1/responses").key(&key.text).body(body.to_string()).send().await
}

/// Tokens that the upstream bills, and tokens that were charged.
async fn sums(gw: &Gateway) -> (u64, u64) {
    gw.upstream_is_idle().await;
    gw.settled().await;
    let charges = crate::support::recent_charges(&gw.running.store).await;
    let charged = charges.iter().map(|charge| charge.tokens.total()).sum();
    (gw.simulator.log.totals().billed_tokens, charged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_stream_is_limited_upstream_to_the_daily_quota() {
    let gap = Duration::from_micros(100);
    let gw =
        gateway().plan(PLAN).simulator(|s| (s.tokens, s.token_gap) = (9_000, gap)).start().await;
    let key = gw.key("two").await;
    let reply = respond(&gw, &key, "Hello", true).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("response.incomplete"), "{}", reply.text());
    assert!(!reply.header("x-kx-clamped").is_empty());
    let (billed, charged) = sums(&gw).await;
    assert_eq!(billed, charged);
    assert!((PLAN.tokens - 50..=PLAN.tokens).contains(&charged), "{charged}");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_streams_side_by_side_are_billed_no_more_than_they_are_charged() {
    let gap = Duration::from_micros(100);
    let gw = gateway().plan(PLAN).simulator(|s| (s.tokens, s.token_gap) = (700, gap)).start().await;
    let key = gw.key("two").await;
    let calls = (0..8).map(|_| respond(&gw, &key, "Hello", true));
    let replies = futures_util::future::join_all(calls).await;
    assert!(replies.iter().any(|reply| reply.text().contains("response.completed")));
    let (billed, charged) = sums(&gw).await;
    assert_eq!(billed, charged);
    assert!(charged <= PLAN.tokens);
    gw.finish().await;
}

/// The id that a streamed response was given.
fn id_of(reply: &Reply) -> String {
    let ids = reply.events().into_iter().find_map(|event| {
        let event: serde_json::Value = serde_json::from_str(&event).ok()?;
        event["response"]["id"].as_str().map(str::to_owned)
    });
    ids.unwrap()
}

/// Begins to read a stream, and goes after its first pieces.
async fn leave(gw: &Gateway, key: &Key, body: serde_json::Value) {
    let call = Call::post(gw.addr(), "/v1/responses").key(&key.text).body(body.to_string());
    let mut open = call.open().await;
    for _ in 0..3 {
        open.next().await.expect("tokens flow");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_stream_is_drained_after_a_disconnect() {
    let gw = gateway()
        .simulator(|s| (s.tokens, s.token_gap) = (60, Duration::from_millis(10)))
        .start()
        .await;
    let key = gw.key("wide").await;
    leave(&gw, &key, json!({"model": "grok-4.3", "input": "Hello", "stream": true})).await;
    let (billed, charged) = sums(&gw).await;
    assert_eq!((billed, charged > 60), (charged, true));
    gw.finish().await;
}

/// Nobody reads it: the gateway asks for what it used.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_stream_that_outlives_the_drain_is_settled_by_reading_it_again() {
    let gw = gateway()
        .simulator(|s| {
            (s.tokens, s.token_gap) = (60, Duration::from_millis(15));
            s.reasoning = Some(20_000);
        })
        .limits("drain = 0.3")
        .start()
        .await;
    let key = gw.key("wide").await;
    for model in ["grok-4.3", "grok-4.20-0309-reasoning"] {
        leave(&gw, &key, json!({"model": model, "input": "Hello", "stream": true})).await;
    }
    let (billed, estimated) = sums(&gw).await;
    assert!(billed > 20_000);
    assert_ne!(billed, estimated);
    let is_right = || async {
        let charges = crate::support::recent_charges(&gw.running.store).await;
        charges.iter().map(|charge| charge.tokens.total()).sum::<u64>() == billed
    };
    soon("the charges are what was billed", is_right).await;
    assert_eq!(gw.used(key.user).await.0, billed);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_of_a_stored_response_is_charged_after_a_disconnect() {
    let gw = gateway()
        .simulator(|s| (s.tokens, s.token_gap) = (60, Duration::from_millis(10)))
        .start()
        .await;
    let key = gw.key("wide").await;
    let first = respond(&gw, &key, &"word ".repeat(500), true).await;
    let id = id_of(&first);
    let next = json!({
        "model": "grok-4.3", "input": "Hello", "stream": true, "store": false, "previous_response_id": id,
    });
    leave(&gw, &key, next).await;
    let (billed, charged) = sums(&gw).await;
    assert_eq!((billed, charged > 1_000), (charged, true));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_a_deferred_answer_charges_the_hidden_reasoning_that_was_billed() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let body = json!({
        "model": "grok-4.20-0309-reasoning", "deferred": true, "max_completion_tokens": 10,
        "messages": [{"role": "user", "content": "Think [sim tokens=5 reasoning=900]"}],
    });
    let call = Call::post(gw.addr(), "/v1/chat/completions").key(&key.text);
    let reply = call.body(body.to_string()).send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let (billed, _) = sums(&gw).await;
    assert!(billed > 900, "{billed}");
    let path =
        format!("/v1/chat/deferred-completion/{}", reply.json()["request_id"].as_str().unwrap());
    assert_eq!(Call::get(gw.addr(), &path).key(&key.text).send().await.status, 200);
    let is_right = || async {
        let charges = crate::support::recent_charges(&gw.running.store).await;
        charges.iter().map(|charge| charge.tokens.total()).sum::<u64>() == billed
    };
    soon("the charge is right once it is fetched", is_right).await;
    gw.finish().await;
}
