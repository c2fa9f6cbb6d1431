//! Calls whose upstream never says what they used: charged what is known, and for what no reply shows the
//! allowance that was reserved for it. Never less than the upstream bills.

use crate::support::http_client::Reply;
use crate::support::surfaces::TEXT_SURFACES;
use crate::support::{Gateway, Key, Plan, WIDE, gateway};
use domain::charge::{Charge, Source, Status};
use serde_json::{Value, json};

const REASONING: &str = "grok-4.20-0309-reasoning";
const PLAIN: &str = "grok-4.3";
/// `limits.expected_hidden_tokens` by default.
const ALLOWANCE: u64 = 4_096;

/// An upstream with these lines, that offers every surface.
fn upstream(lines: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\napi_key = \"k\"\n{lines}\n\
         surfaces = [\"chat/completions\", \"responses\", \"completions\", \"embeddings\", \"messages\"]\n"
    )
}

async fn ask(gw: &Gateway, key: &Key, surface: usize, fault: &str, members: Value) -> Reply {
    let surface = TEXT_SURFACES[surface];
    let call = surface.call(gw, key, &surface.body("hi", members));
    call.header("x-sim-fault", fault).send().await
}

async fn charges(gw: &Gateway) -> Vec<Charge> {
    gw.upstream_is_idle().await;
    gw.charges().await
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_reasoning_is_estimated_where_no_usage_comes() {
    let gw = gateway().simulator(|s| (s.tokens, s.reasoning) = (20, Some(3_000))).start().await;
    let key = gw.key("wide").await;
    for fault in ["no-usage", "zero-usage"] {
        for surface in 0..TEXT_SURFACES.len() {
            for stream in [false, true] {
                let members = json!({"model": REASONING, "stream": stream, "store": false});
                let reply = ask(&gw, &key, surface, fault, members).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
        }
    }
    let charges = charges(&gw).await;
    assert_eq!(charges.len(), 16);
    for charge in charges {
        assert_eq!((charge.status, charge.source), (Status::Complete, Source::Estimated));
        assert_eq!((charge.tokens.completion, charge.tokens.reasoning), (20, ALLOWANCE));
        assert!(
            charge.tokens.total() > gw.bill(&charge).billed.tokens && charge.cost_micro_dollars > 0
        );
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_of_hidden_reasoning_stays_within_the_plan() {
    let plan = Plan { id: "small", tokens: 500, ..WIDE };
    let gw = gateway().plan(plan).simulator(|s| s.reasoning = Some(3_000)).start().await;
    let key = gw.key("small").await;
    let members = json!({"model": REASONING, "max_completion_tokens": 20});
    assert_eq!(ask(&gw, &key, 0, "no-usage", members).await.status, 200);
    assert_eq!(charges(&gw).await[0].tokens.total(), 500);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reasoning_stream_broken_by_its_upstream_is_charged_its_reasoning() {
    let table = upstream("idle_timeout = 0.3");
    let gw = gateway().upstreams(&table).simulator(|s| s.reasoning = Some(3_000)).start().await;
    let key = gw.key("wide").await;
    let faults = ["cut=6", "reset=6", "close=6", "stall=6", "error-event=6", "cut=1", "stall=1"];
    for fault in faults {
        for surface in 0..TEXT_SURFACES.len() {
            let members = json!({"model": REASONING, "stream": true, "store": false});
            ask(&gw, &key, surface, fault, members).await;
        }
    }
    let mut broken = 0;
    for charge in charges(&gw).await {
        // What fails before any output, and says so, is free.
        if charge.status == Status::Failed {
            assert_eq!(charge.tokens.total(), 0);
            continue;
        }
        broken += 1;
        assert_eq!((charge.status, charge.source), (Status::CutByUpstream, Source::Estimated));
        assert_eq!(charge.tokens.reasoning, ALLOWANCE);
        assert!(charge.tokens.total() > gw.bill(&charge).billed.tokens, "{charge:?}");
    }
    assert!(broken >= 20, "{broken}");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_stream_broken_by_its_upstream_is_charged_its_output() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    ask(&gw, &key, 0, "cut=6", json!({"model": PLAIN, "stream": true})).await;
    let charge = charges(&gw).await.remove(0);
    assert_eq!((charge.tokens.reasoning, charge.tokens.completion < 8), (0, true), "{charge:?}");
    gw.finish().await;
}

/// An upstream that took a call may make all of its answer, whoever waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_timeout_is_charged_like_a_disconnect() {
    let gw = gateway().upstreams(&upstream("first_byte_timeout = 0.2")).start().await;
    let key = gw.key("wide").await;
    for surface in 0..TEXT_SURFACES.len() {
        let name = if surface == 1 { "max_output_tokens" } else { "max_tokens" };
        let expected = [
            (PLAIN, false, 1_000..1_060),
            (PLAIN, true, 1..60),
            (REASONING, false, 1_000 + ALLOWANCE..1_060 + ALLOWANCE),
            (REASONING, true, 1_000 + ALLOWANCE..1_060 + ALLOWANCE),
        ];
        for (model, stream, range) in expected {
            let members = json!({"model": model, "stream": stream, "store": false, name: 1_000});
            let reply = ask(&gw, &key, surface, "slow-first-byte=5000", members).await;
            assert_eq!(reply.status, 504, "{}", reply.text());
            let left = reply.header("x-kx-quota-day-tokens-remaining").parse::<u64>().unwrap();
            gw.settled().await;
            let all = crate::support::recent_charges(&gw.running.store).await;
            assert_eq!(left, WIDE.tokens - gw.used(key.user).await.0);
            let charge = all.last().unwrap();
            assert_eq!((charge.status, charge.source), (Status::CutByUpstream, Source::Estimated));
            assert!(range.contains(&charge.tokens.total()), "{model} {stream}: {charge:?}");
        }
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_another_upstream_answers_is_charged_that_answer() {
    let table = upstream("first_byte_timeout = 0.2");
    let slow = table.replace("name = \"simulator\"", "name = \"slow\"");
    let fast = upstream("first_byte_timeout = 60");
    let gw = gateway().upstreams(&format!("{slow}{fast}")).start().await;
    let key = gw.key("wide").await;
    let members = json!({"model": PLAIN, "max_tokens": 1_000});
    let reply = ask(&gw, &key, 0, "slow-first-byte=600", members).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let charge = charges(&gw).await.remove(0);
    assert_eq!((charge.source, charge.tokens.total() < 100), (Source::Reported, true));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_whole_response_is_charged_like_a_disconnect() {
    let table = upstream("idle_timeout = 0.3");
    let gw = gateway().upstreams(&table).limits("reply_bytes = 1048576").start().await;
    let key = gw.key("wide").await;
    for fault in ["oversize", "stall=1"] {
        for model in [PLAIN, REASONING] {
            let members = json!({"model": model, "max_tokens": 1_000});
            let reply = ask(&gw, &key, 0, fault, members).await;
            assert_eq!((reply.status, reply.code().as_str()), (502, "upstream_bad_reply"));
            let left = reply.header("x-kx-quota-day-tokens-remaining").parse::<u64>().unwrap();
            gw.settled().await;
            assert_eq!(left, WIDE.tokens - gw.used(key.user).await.0);
        }
    }
    let charges = charges(&gw).await;
    assert_eq!(charges.len(), 4);
    for charge in charges {
        let hidden = if &*charge.model == REASONING { ALLOWANCE } else { 0 };
        assert_eq!((charge.status, charge.source), (Status::CutByUpstream, Source::Estimated));
        let range = 1_000 + hidden..1_060 + hidden;
        assert!(range.contains(&charge.tokens.total()), "{charge:?}");
    }
    gw.finish().await;
}

/// What tools read is in no event of the stream: their calls reserve an allowance for it, and are not cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_upstream_runs_tools_reserves_for_them_and_is_not_cut_by_quota() {
    let plan = Plan { id: "small", tokens: 1_000, ..WIDE };
    let gw = gateway().plan(plan).simulator(|s| s.tokens = 20_000).start().await;
    let key = gw.key("small").await;
    let tools = json!([{"type": "web_search"}]);
    let with_tools = json!({"model": PLAIN, "stream": true, "store": false, "tools": tools});
    let reply = ask(&gw, &key, 1, "none", with_tools.clone()).await;
    let clamped: u64 = reply.header("x-kx-clamped").parse().unwrap();
    assert!((400..500).contains(&clamped), "half of what is left is for the tools: {clamped}");
    let charge = charges(&gw).await.remove(0);
    assert_eq!((charge.status, charge.source), (Status::Complete, Source::Reported));
    assert_eq!(charge.tokens.total(), gw.bill(&charge).billed.tokens);

    let other = gw.key("small").await;
    ask(&gw, &other, 1, "cut=6", with_tools).await;
    let all = charges(&gw).await;
    let cut = all.iter().find(|charge| charge.user == other.user).unwrap();
    assert_eq!((cut.status, cut.tokens.total()), (Status::CutByUpstream, 1_000), "all of it");
    gw.finish().await;
}
