//! Plans that count cached prompt tokens as a fraction: counters, ledger and headers agree on what counts, and what
//! is billed and reported stays as it is.

use crate::support::http_client::{Call, Reply};
use crate::support::{Gateway, Key, Plan, WIDE, body, by, gateway, today};
use domain::cached_tokens::CachedTokenFraction;
use domain::charge::{Charge, Source};
use domain::id::{PlanId, RequestId};
use quota::backend::Reset;
use serde_json::json;
use store::PlanChange;

const LIMIT: u64 = 50_000;
const TENTH: Plan = Plan { id: "tenth", tokens: LIMIT, ..WIDE };
const LENGTH: &str = r#","max_tokens":40"#;

fn fraction(text: &str) -> CachedTokenFraction {
    text.parse().unwrap()
}

async fn set_fraction(gw: &Gateway, text: &str) {
    let change =
        PlanChange { cached_token_fraction: Some(fraction(text)), ..PlanChange::default() };
    gw.running.store.change_plan(&PlanId::from("tenth"), &change, &by()).await.unwrap().unwrap();
}

/// A prompt of which the simulator reports about half as cached.
fn long_prompt() -> String {
    "A prompt of some words that is sent again. ".repeat(60)
}

/// The charge of a call, with what is uncounted of it by a plan with this fraction.
async fn charge_by(gw: &Gateway, reply: &Reply, counted: &str) -> Charge {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let charge = gw.charge(reply.header("x-request-id")).await;
    assert!(charge.tokens.cached > 100, "{charge:?}");
    assert_eq!(charge.uncounted, charge.tokens.uncounted(fraction(counted)), "{charge:?}");
    charge
}

/// Tokens of the charges that count.
fn counted(charges: &[Charge]) -> u64 {
    charges.iter().map(Charge::counted_tokens).sum()
}

/// The remaining tokens, as their user reads them.
async fn remaining(gw: &Gateway, key: &Key) -> u64 {
    let usage = Call::get(gw.addr(), "/api/v1/chat/usage").key(&key.text).send().await.json();
    let number = |name: &str| usage["tokens"][name].as_u64().unwrap();
    number("limit") - number("used")
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_tokens_count_as_the_fraction_of_the_plan() {
    let gw = gateway().plan(TENTH).start().await;
    set_fraction(&gw, "0.1").await;
    let key = gw.key("tenth").await;
    let text = long_prompt();

    let whole = gw.ask(&key, &body(&text, LENGTH)).await;
    let first = charge_by(&gw, &whole, "0.1").await;
    assert!(first.uncounted > 90, "{first:?}");
    let usage = &whole.json()["usage"];
    assert_eq!(usage["total_tokens"].as_u64(), Some(first.tokens.total()), "reported in full");
    let ticks = usage["cost_in_usd_ticks"].as_i64().unwrap();
    assert_eq!(first.cost_micro_dollars, (ticks + 5_000) / 10_000, "billed in full");
    let left: u64 = whole.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert_eq!(left, LIMIT - first.counted_tokens());

    let streamed = gw.ask(&key, &body(&text, r#","max_tokens":40,"stream":true"#)).await;
    let second = charge_by(&gw, &streamed, "0.1").await;
    let used = counted(&[first, second]);
    assert_eq!(gw.used(key.user).await, (used, 2));
    assert_eq!(remaining(&gw, &key).await, LIMIT - used);
    let path = "/api/v1/usage/history";
    let history = Call::get(gw.addr(), path).key(&key.text).send().await.json();
    let rows = history["data"].as_array().unwrap();
    let shown: u64 = rows.iter().map(|row| row["uncounted_tokens"].as_u64().unwrap()).sum();
    let totals: u64 = rows.iter().map(|row| row["tokens"]["total"].as_u64().unwrap()).sum();
    assert_eq!(totals - shown, used);

    let folder = gw.finish().await;
    let gw = gateway().plan(TENTH).start_in(folder).await;
    assert_eq!(gw.used(key.user).await, (used, 2), "after a restart, from the ledger");
    assert_eq!(remaining(&gw, &key).await, LIMIT - used);
    let reset = Reset {
        id: RequestId::new(),
        user: key.user,
        keys: vec![key.id.clone()],
        day: today(),
        at: jiff::Timestamp::now(),
        by: "operator".to_owned(),
    };
    assert_eq!(gw.running.quota.reset(&reset).await.unwrap().tokens, used);
    assert_eq!(gw.used(key.user).await, (0, 0));
    assert_eq!(remaining(&gw, &key).await, LIMIT);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_fraction_applies_to_new_calls_only() {
    let gw = gateway().plan(TENTH).start().await;
    let key = gw.key("tenth").await;
    let text = long_prompt();
    let before = gw.ask(&key, &body(&text, LENGTH)).await;
    assert_eq!(charge_by(&gw, &before, "1").await.uncounted, 0, "in full by default");

    set_fraction(&gw, "0.5").await;
    let stream = body(&text, r#","stream":true"#);
    let call = gw.chat(&key, &stream).header("x-sim-tokens", "40").header("x-sim-token-ms", "20");
    let mut running = call.open().await;
    running.next().await.unwrap();
    set_fraction(&gw, "0").await;
    let after = gw.ask(&key, &body(&text, LENGTH)).await;
    let after = charge_by(&gw, &after, "0").await;
    assert_eq!(after.uncounted, after.tokens.cached);
    charge_by(&gw, &running.rest().await, "0.5").await;
    let charges = gw.charges().await;
    assert_eq!(gw.used(key.user).await, (counted(&charges), 3));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_counts_no_cached_tokens_admits_more_calls() {
    let gw = gateway().plan(Plan { tokens: 1_500, ..TENTH }).start().await;
    let (text, mut calls) = (long_prompt(), [0_u32; 2]);
    for (fraction, calls) in ["1", "0"].into_iter().zip(&mut calls) {
        set_fraction(&gw, fraction).await;
        let key = gw.key("tenth").await;
        while gw.ask(&key, &body(&text, LENGTH)).await.status == 200 {
            *calls += 1;
        }
        assert!(gw.used(key.user).await.0 <= 1_500);
    }
    assert!(calls[1] > calls[0] && calls[0] > 0, "{calls:?}");
    assert_eq!(gw.metric("knockx_quota_overshoot_tokens_total").await, 0);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_counts_by_the_plan_at_admission() {
    let gw = gateway().plan(TENTH).start().await;
    set_fraction(&gw, "0.1").await;
    let key = gw.key("tenth").await;
    let chat = json!({
        "model": "grok-4.3", "deferred": true, "max_completion_tokens": 50,
        "messages": [{"role": "user", "content": long_prompt()}],
    });
    let deferred = gw.ask(&key, &chat.to_string()).await;
    let estimate = gw.charge(deferred.header("x-request-id")).await;
    assert_eq!((estimate.source, estimate.uncounted), (Source::Estimated, 0));
    assert_eq!(gw.used(key.user).await, (estimate.tokens.total(), 1));
    set_fraction(&gw, "1").await;
    let id = deferred.json()["request_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/chat/deferred-completion/{id}");
    assert_eq!(Call::get(gw.addr(), &path).key(&key.text).send().await.status, 200);
    gw.written().await;
    let charge = gw.running.store.charge(estimate.request).await.unwrap().unwrap();
    assert_eq!(charge.source, Source::Reported);
    assert!(charge.uncounted > 90, "{charge:?}");
    assert_eq!(charge.uncounted, charge.tokens.uncounted(fraction("0.1")));
    assert_eq!(gw.used(key.user).await, (charge.counted_tokens(), 1));
    gw.finish().await;
}
