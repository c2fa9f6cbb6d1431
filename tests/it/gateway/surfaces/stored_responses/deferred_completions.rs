//! Completions that are fetched later.

use super::*;
use crate::support::scripted_upstream::{self, ScriptedUpstream};

/// A chat that is to be fetched later; its request's id there.
async fn defer(gw: &Gateway, key: &Key, text: &str) -> (Reply, String) {
    let body = json!({
        "model": "grok-4.3", "deferred": true, "max_completion_tokens": 50,
        "messages": [{"role": "user", "content": text}],
    });
    let call = Call::post(gw.addr(), "/v1/chat/completions").key(&key.text);
    let reply = call.body(body.to_string()).send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let id = reply.json()["request_id"].as_str().unwrap().to_owned();
    (reply, id)
}

async fn fetch(gw: &Gateway, key: &Key, id: &str) -> Reply {
    let path = format!("/v1/chat/deferred-completion/{id}");
    Call::get(gw.addr(), &path).key(&key.text).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_completion_is_charged_in_full_until_it_is_fetched() {
    let gw = gateway().start().await;
    let (owner, stranger) = (gw.key("wide").await, gw.key("wide").await);
    let (deferred, id) = defer(&gw, &owner, "Hello").await;
    let full = charge_by(&gw, &deferred, Source::Estimated).await;
    assert_eq!((full.status, full.counted, full.tokens.completion), (Status::Complete, true, 50));
    assert!(full.cost_micro_dollars > 0);
    assert_eq!(gw.used(owner.user).await, (full.tokens.total(), 1));
    let asked = gw.simulator.log.totals().requests;
    assert_eq!(fetch(&gw, &stranger, &id).await.status, 404);
    assert_eq!(gw.simulator.log.totals().requests, asked, "a stranger's question goes nowhere");
    let fetched = fetch(&gw, &owner, &id).await;
    assert_eq!(fetched.status, 200, "{}", fetched.text());
    let usage = &fetched.json()["usage"];
    let charge = charge_by(&gw, &deferred, Source::Reported).await;
    assert_eq!(charge.tokens.total(), usage["total_tokens"].as_u64().unwrap());
    let ticks = usage["cost_in_usd_ticks"].as_i64().unwrap();
    assert_eq!(charge.cost_micro_dollars, (ticks + 5_000) / 10_000);
    assert_eq!((charge.status, charge.day, charge.request), (full.status, full.day, full.request));
    assert_eq!(gw.used(owner.user).await, (charge.tokens.total(), 1));
    assert_eq!(gw.simulator.log.totals().requests, asked + 1);
    let again = fetch(&gw, &owner, &id).await;
    assert_eq!((again.status, again.code().as_str()), (404, "reply_not_found"));
    assert_eq!(gw.simulator.log.totals().requests, asked + 1, "it is not asked for twice");
    assert_eq!(gw.used(stranger.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfetched_deferred_completion_stays_charged_over_a_restart() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let (deferred, id) = defer(&gw, &key, "Hello").await;
    let full = charge_by(&gw, &deferred, Source::Estimated).await;
    let now = jiff::Timestamp::now();
    let kept = gw.running.store.stored_response(&id, now).await.unwrap().unwrap();
    assert_eq!(kept.unsettled, Some(full.request));
    let hours = kept.expires_at.duration_since(now).as_hours();
    assert!((23..=24).contains(&hours), "{hours}");
    let folder = gw.finish().await;
    let gw = gateway().start_in(folder).await;
    assert_eq!(gw.used(key.user).await, (full.tokens.total(), 1));
    // Its upstream is another simulator, which has none of it.
    assert_eq!(fetch(&gw, &key, &id).await.status, 404);
    assert_eq!(gw.used(key.user).await, (full.tokens.total(), 1));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_too_early_costs_nothing_and_may_be_repeated() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let (deferred, id) = defer(&gw, &key, "Hello [sim first-token-ms=600]").await;
    let full = charge_by(&gw, &deferred, Source::Estimated).await.tokens.total();
    let early = fetch(&gw, &key, &id).await;
    assert_eq!((early.status, early.body.len()), (202, 0));
    assert_eq!(gw.used(key.user).await, (full, 1));
    soon("it is ready", || async { fetch(&gw, &key, &id).await.status == 200 }).await;
    assert_eq!(gw.used(key.user).await.1, 1);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_fetches_one_is_answered_and_corrects_the_charge() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let (deferred, id) = defer(&gw, &key, "Hello").await;
    let replies = futures_util::future::join_all((0..8).map(|_| fetch(&gw, &key, &id))).await;
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 404, 409].contains(status)), "{statuses:?}");
    let charge = charge_by(&gw, &deferred, Source::Reported).await;
    assert_eq!(gw.used(key.user).await, (charge.tokens.total(), 1));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_completion_can_be_fetched_with_an_exhausted_quota() {
    let small = Plan { id: "small", tokens: 100, ..WIDE };
    let gw = gateway().plan(small).start().await;
    let key = gw.key("small").await;
    let (_, id) = defer(&gw, &key, "Hello [sim tokens=45]").await;
    let used = json!({
        "model": "grok-4.3", "messages": [{"role": "user", "content": "Talk [sim tokens=60]"}],
    });
    assert_eq!(gw.ask(&key, &used.to_string()).await.status, 200);
    assert_eq!(fetch(&gw, &key, &id).await.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_while_fetching_charges_what_was_used() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let (deferred, id) = defer(&gw, &key, "Hello").await;
    let path = format!("/v1/chat/deferred-completion/{id}");
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {}\r\n\r\n", key.text);
    let before = gw.simulator.log.totals().requests;
    let mut raw = RawSocket::connect(gw.addr()).await;
    raw.send(head).await;
    let asked = || async { gw.simulator.log.totals().requests > before };
    soon("the upstream is asked", asked).await;
    drop(raw);
    let charge = charge_by(&gw, &deferred, Source::Reported).await;
    let entry = gw.simulator.log.entries().pop().unwrap();
    assert_eq!(charge.tokens.total(), entry.prompt + entry.completion);
    soon("it is gone", || async { fetch(&gw, &key, &id).await.status == 404 }).await;
    gw.finish().await;
}

/// The upstream delivers a completion once: one that it was about to deliver must not be lost with the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_leaves_before_the_completion_arrives_is_charged_what_was_used() {
    const COMPLETION: &str = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",
        "message":{"role":"assistant","content":"Hi"}}],
        "usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;
    let (deliver, delivery) = std::sync::mpsc::channel::<()>();
    let delivery = std::sync::Mutex::new(delivery);
    let upstream = ScriptedUpstream::start(move |asked| {
        if !asked.path.contains("deferred-completion") {
            return scripted_upstream::json(200, r#"{"request_id":"d-1"}"#);
        }
        let _ = tokio::task::block_in_place(|| delivery.lock().unwrap().recv());
        scripted_upstream::json(200, COMPLETION)
    });
    let upstream = upstream.await;
    let gw = gateway().upstreams(&upstream.table("a", "k", "")).start().await;
    let key = gw.key("wide").await;
    let (deferred, id) = defer(&gw, &key, "Hello").await;
    let full = charge_by(&gw, &deferred, Source::Estimated).await;
    assert!(full.tokens.total() > 10);
    let path = format!("/v1/chat/deferred-completion/{id}");
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {}\r\n\r\n", key.text);
    let mut raw = RawSocket::connect(gw.addr()).await;
    raw.send(head).await;
    soon("the upstream is asked", || async { upstream.asked().len() == 2 }).await;
    drop(raw);
    // It is being fetched still, and not a second time.
    let is_gone = |line: &str| line.contains("route=\"deferred\"") && line.contains("\"499\"");
    soon("the client is seen to have gone", || async { gw.metrics().lines().any(is_gone) }).await;
    assert_eq!(fetch(&gw, &key, &id).await.status, 409);
    deliver.send(()).unwrap();
    let charge = charge_by(&gw, &deferred, Source::Reported).await;
    assert_eq!((charge.tokens.prompt, charge.tokens.completion), (7, 3));
    soon("it is gone", || async { fetch(&gw, &key, &id).await.status == 404 }).await;
    assert_eq!(upstream.asked().len(), 2);
    assert_eq!(gw.used(key.user).await, (10, 1));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_completions_without_stream_can_be_deferred() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let body = |members: &str| crate::support::body("Hello", members);
    let refused = gw.ask(&key, &body(r#","deferred":true,"stream":true"#)).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_value"));
    let plain = gw.ask(&key, &body(r#","deferred":false"#)).await;
    assert_eq!(plain.status, 200);
    assert!(plain.json()["choices"].is_array());
    gw.finish().await;
}
