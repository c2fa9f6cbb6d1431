//! Limits: what is refused, what is clamped, what is cut, and what a refusal costs (nothing).

use crate::support::{Plan, WIDE, body, gateway, soon, today};
use domain::charge::Status;
use domain::key::KeyLimits;
use jiff::Timestamp;
use std::time::Duration;

const STREAM: &str = r#","stream":true"#;
const TINY: Plan = Plan { id: "tiny", tokens: 100, requests: 3, ..WIDE };

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_day_rejects_without_retry_and_charges_nothing() {
    let gw = gateway().plan(TINY).simulator(|s| s.tokens = 5).start().await;
    let key = gw.key("tiny").await;
    for _ in 0..3 {
        assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    }
    let before = gw.used(key.user).await;
    let refused = gw.ask(&key, &body("hi", "")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"));
    assert_eq!(refused.header("x-should-retry"), "false");
    assert_eq!(refused.header("x-kx-quota-day-requests-remaining"), "0");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 86_400);
    assert_eq!(gw.used(key.user).await, before);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_window_rejects_with_retry_after_and_charges_nothing() {
    let gw = gateway().plan(Plan { id: "slow", window: 2, ..WIDE }).start().await;
    let key = gw.key("slow").await;
    for _ in 0..2 {
        assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    }
    let before = gw.used(key.user).await;
    let refused = gw.ask(&key, &body("hi", "")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.header("x-should-retry"), "");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(gw.used(key.user).await, before);
    gw.finish().await;
}

/// The smaller of two limits is what is reserved, so no reader may find the larger.
#[tokio::test(flavor = "multi_thread")]
async fn two_limits_that_differ_are_sent_as_the_smaller() {
    let gw = gateway().plan(TINY).simulator(|s| s.tokens = 50_000).start().await;
    let key = gw.key("tiny").await;
    for limits in [
        r#","max_tokens":1,"max_completion_tokens":50000"#,
        r#","max_tokens":50000,"max_completion_tokens":1"#,
    ] {
        let reply = gw.ask(&key, &body("hi", limits)).await;
        assert_eq!(reply.json()["usage"]["completion_tokens"], 1, "{}", reply.text());
    }
    assert!(gw.used(key.user).await.0 <= TINY.tokens);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_response_is_clamped_to_the_remaining_quota() {
    let gw = gateway().plan(TINY).simulator(|s| s.tokens = 1000).start().await;
    let key = gw.key("tiny").await;
    let reply = gw.ask(&key, &body("hi", "")).await;
    let usage = &reply.json()["usage"];
    assert_eq!(usage["total_tokens"], 100, "{}", reply.text());
    assert_eq!(reply.header("x-kx-clamped"), usage["completion_tokens"].to_string());
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "length");
    assert_eq!(gw.used(key.user).await, (100, 1));
    let refused = gw.ask(&key, &body("hi", "")).await;
    assert_eq!(refused.code(), "insufficient_quota");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_cut_at_the_limit_with_length() {
    // This upstream ignores the limit it is sent, so the gateway itself has to cut.
    let gw = gateway().plan(TINY).simulator(|s| s.tokens = 1000).start().await;
    let key = gw.key("tiny").await;
    let reply =
        gw.chat(&key, &body("hi", STREAM)).header("x-sim-fault", "overrun=500").send().await;
    assert!(reply.is_done(), "{}", reply.text());
    assert!(reply.text().contains(r#""finish_reason":"length""#));
    let charge = gw.charge(reply.header("x-request-id")).await;
    assert_eq!((charge.status, charge.tokens.total()), (Status::CutByQuota, 100));
    assert_eq!(gw.used(key.user).await, (100, 1));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_streams_whose_sum_fits_all_succeed() {
    const EACH: u64 = 40;
    let prompt = prompt_tokens().await;
    let plan =
        Plan { id: "exact", tokens: 20 * (EACH + prompt), requests: 20, streams: 20, ..WIDE };
    let gw = gateway()
        .plan(plan)
        .simulator(|s| (s.tokens, s.token_gap) = (EACH, Duration::from_millis(2)))
        .start()
        .await;
    let key = gw.key("exact").await;
    let text = body("hi", STREAM);
    let calls = (0..20).map(|_| gw.ask(&key, &text));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.is_done() && !reply.text().contains("length"), "{}", reply.text());
    }
    assert_eq!(gw.used(key.user).await, (20 * (EACH + prompt), 20));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_at_the_same_time_are_limited() {
    let gw = gateway()
        .plan(Plan { id: "two", streams: 2, ..WIDE })
        .simulator(|s| (s.tokens, s.token_gap) = (100_000, Duration::from_millis(5)))
        .start()
        .await;
    let key = gw.key("two").await;
    let text = body("hi", STREAM);
    let (first, second) = (gw.chat(&key, &text).open().await, gw.chat(&key, &text).open().await);
    let refused = gw.ask(&key, &text).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.header("retry-after"), "1");
    drop((first, second));
    gw.settled().await;
    assert_eq!(gw.chat(&key, &text).open().await.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keys_own_lower_limit_counts() {
    let gw = gateway().simulator(|s| s.tokens = 5).start().await;
    let limits = KeyLimits { requests_per_day: Some(1), ..KeyLimits::default() };
    let key = gw.key_with("wide", limits).await;
    let other = gw.another_key(key.user, KeyLimits::default()).await;
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    assert_eq!(gw.ask(&key, &body("hi", "")).await.code(), "insufficient_quota");
    assert_eq!(gw.ask(&other, &body("hi", "")).await.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_reasoning_beyond_the_grant_is_charged_and_counted() {
    let gw =
        gateway().plan(TINY).simulator(|s| (s.tokens, s.reasoning) = (50, Some(300))).start().await;
    let key = gw.key("tiny").await;
    let text = body("hi", "").replace("grok-4.3", "grok-4.20-0309-reasoning");
    let reply = gw.ask(&key, &text).await;
    let total = reply.json()["usage"]["total_tokens"].as_u64().unwrap();
    assert!(total > 300);
    assert_eq!(gw.used(key.user).await, (total, 1));
    assert_eq!(gw.metric("knockx_quota_overshoot_tokens_total").await, total - 100);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_reserves_what_earlier_calls_needed_for_reasoning() {
    let gw = gateway()
        .simulator(|s| (s.tokens, s.reasoning) = (20, Some(9_000)))
        .limits("drain = 0.1")
        .start()
        .await;
    let key = gw.key("wide").await;
    let text = |members| body("hi", members).replace("grok-4.3", "grok-4.20-0309-reasoning");
    let held = async || {
        let call = gw.chat(&key, &text(r#","max_completion_tokens":50"#));
        let waiting = tokio::spawn(call.header("x-sim-first-token-ms", "600000").open());
        soon("it is open", || async { gw.running.quota.open_leases() == 1 }).await;
        let snapshot = gw.running.quota.usage_snapshot(key.user, None, today(), Timestamp::now());
        let held = snapshot.await.unwrap().user.tokens_reserved;
        waiting.abort();
        drop(waiting);
        gw.settled().await;
        held
    };
    let before = held().await;
    let series = r#"knockx_reasoning_allowance_tokens{model="grok-4.20-0309-reasoning"}"#;
    assert_eq!(gw.metric(series).await, 4_096, "the default");
    assert_eq!(gw.ask(&key, &text("")).await.status, 200);
    assert_eq!(held().await, before + 10_240 - 4_096, "at most a quarter more than 9,000");
    assert_eq!(gw.metric(series).await, 10_240);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserve_for_reasoning_leaves_half_of_the_remaining_quota() {
    let plan = Plan { id: "small", tokens: 1_000, ..WIDE };
    let gw = gateway()
        .plan(plan)
        .simulator(|s| (s.tokens, s.reasoning) = (20, Some(300)))
        .limits("expected_hidden_tokens = 300")
        .start()
        .await;
    let (wide, small) = (gw.key("wide").await, gw.key("small").await);
    let text = body("hi", "").replace("grok-4.3", "grok-4.20-0309-reasoning");
    assert_eq!(gw.ask(&wide, &text).await.header("x-kx-clamped"), "");
    let clamped: u64 = gw.ask(&small, &text).await.header("x-kx-clamped").parse().unwrap();
    assert!((600..700).contains(&clamped), "{clamped} of about 990 less 320");
    let clamped: u64 = gw.ask(&small, &text).await.header("x-kx-clamped").parse().unwrap();
    assert!((300..400).contains(&clamped), "{clamped} of about 660 less 320");
    let clamped: u64 = gw.ask(&small, &text).await.header("x-kx-clamped").parse().unwrap();
    assert!((150..180).contains(&clamped), "{clamped}, half of about 330");
    gw.finish().await;
}

/// What the simulator bills for the prompt `hi`.
async fn prompt_tokens() -> u64 {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let tokens =
        gw.ask(&key, &body("hi", "")).await.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    gw.finish().await;
    tokens
}
