//! A disconnect is charged what the upstream bills.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_reasoning_stream_is_charged_the_bill_whenever_its_caller_disconnects() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = "Think [sim tokens=40 token-ms=10 first-token-ms=50 reasoning=700]";
    let late = "Think [sim tokens=40 token-ms=10 reasoning=700 fault=slow-first-byte=300]";
    for surface in TEXT {
        for pieces in [0, 1, 5, 30] {
            leave_after(stream(&gw, &key, surface, REASONING, text), pieces).await;
        }
        abandon(&gw, stream(&gw, &key, surface, REASONING, late)).await;
    }
    let charges = gw.charges().await;
    assert_eq!(charges.len(), 4 * 5);
    charges.iter().for_each(|charge| assert_billed(&gw, charge, Status::CutByClient));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_response_is_charged_the_bill_after_a_disconnect() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = "Talk [sim tokens=90 reasoning=300 first-token-ms=200]";
    for surface in TEXT.into_iter().chain(OTHERS) {
        abandon(&gw, call(&gw, &key, surface, PLAIN, text)).await;
    }
    for surface in TEXT {
        abandon(&gw, call(&gw, &key, surface, REASONING, text)).await;
    }
    let charges = gw.charges().await;
    assert_eq!(charges.len(), 6 + 4);
    for charge in &charges {
        assert!(charge.tokens.total() > 0 || charge.cost_micro_dollars > 0, "{charge:?}");
        assert_billed(&gw, charge, Status::CutByClient);
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_stream_is_charged_to_its_end_after_a_disconnect() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for pieces in [1, 10] {
        let text = "Talk [sim tokens=60 token-ms=10]";
        leave_after(stream(&gw, &key, TEXT[1], PLAIN, text), pieces).await;
    }
    let charges = gw.charges().await;
    assert_eq!(charges.len(), 2);
    charges.iter().for_each(|charge| assert_billed(&gw, charge, Status::CutByClient));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_body_that_has_begun_is_drained() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = "Talk [sim tokens=300 fault=drip]";
    let mut stream = TcpStream::connect(gw.addr()).await.unwrap();
    let body = json!({"model": PLAIN, "messages": [{"role": "user", "content": text}]}).to_string();
    let raw = crate::support::raw_socket::chat(&key.text, "", &body);
    stream.write_all(raw.as_bytes()).await.unwrap();
    soon("the simulator has the call", || async { gw.simulator.log.totals().open > 0 }).await;
    drop(stream);
    let charge = gw.only_charge().await;
    let entry = gw.bill(&charge);
    assert_eq!(charge.tokens.total(), entry.prompt + entry.completion, "{charge:?}");
    assert_eq!(charge.source, Source::Reported);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_reserved_is_charged_when_no_usage_comes_in_time() {
    let gw = gateway().limits("drain = 0.2").models(IMAGES).start().await;
    let key = gw.key("wide").await;
    let limit = |(path, body): Surface| -> Value {
        let mut body = body(NEVER);
        let name = match path {
            "/v1/responses" => "max_output_tokens",
            _ => "max_tokens",
        };
        body[name] = 1000.into();
        body
    };
    for surface in TEXT {
        abandon(&gw, ask(&gw, &key, surface.0, limit(surface), PLAIN)).await;
        let mut body = limit(surface);
        body["stream"] = true.into();
        leave_after(ask(&gw, &key, surface.0, body, REASONING), 0).await;
    }
    for charge in gw.charges().await {
        assert_eq!((charge.status, charge.source), (Status::CutByClient, Source::Estimated));
        let hidden = if &*charge.model == REASONING { 4_096 } else { 0 };
        // The prompt was reserved by an upper bound, and may have been counted since.
        let completion = charge.tokens.completion - hidden;
        assert!((1000..1050).contains(&completion), "{charge:?}");
        assert!(charge.tokens.prompt > 0);
    }
    abandon(&gw, call(&gw, &key, OTHERS[1], "imagine", NEVER)).await;
    let image = gw.charges().await.pop().unwrap();
    assert_eq!((image.tokens.total(), image.cost_micro_dollars), (2 * 500, 2 * 70_000));
    soon("the upstream is told", || async { gw.simulator.log.totals().open == 0 }).await;
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_past_the_deadline_are_charged_the_bill() {
    let gw = gateway().limits("call_timeout = 0.2").start().await;
    let key = gw.key("wide").await;
    let text = "Think [sim tokens=50 first-token-ms=500 reasoning=700]";
    let whole = call(&gw, &key, TEXT[0], PLAIN, text).send().await;
    assert_eq!((whole.status, whole.code().as_str()), (504, "upstream_timeout"));
    let streamed = stream(&gw, &key, TEXT[0], REASONING, text).send().await;
    assert!(streamed.text().contains("upstream_cut") && !streamed.whole, "{}", streamed.text());
    let charges = gw.charges().await;
    assert_eq!(charges.len(), 2);
    charges.iter().for_each(|charge| assert_billed(&gw, charge, Status::CutByUpstream));
    gw.finish().await;
}

/// Calls that need little reasoning lower nothing: a hang-up is charged as much after them as before.
#[tokio::test(flavor = "multi_thread")]
async fn short_reasoning_does_not_make_later_disconnects_cheap() {
    let gw = gateway().limits("drain = 0.2").start().await;
    let key = gw.key("wide").await;
    let short = "Think [sim tokens=3 reasoning=10]";
    for _ in 0..30 {
        assert_eq!(call(&gw, &key, TEXT[0], REASONING, short).send().await.status, 200);
    }
    let long = "Think [sim tokens=40 reasoning=3000 first-token-ms=600000]";
    let body = |text| {
        let mut body = TEXT[0].1(text);
        body["max_completion_tokens"] = 50.into();
        body
    };
    abandon(&gw, ask(&gw, &key, TEXT[0].0, body(long), REASONING)).await;
    let mut streamed = body(long);
    streamed["stream"] = true.into();
    leave_after(ask(&gw, &key, TEXT[0].0, streamed, REASONING), 0).await;
    let given_up = gw.charges().await.split_off(30);
    assert_eq!(given_up.len(), 2);
    for charge in given_up {
        assert_eq!((charge.status, charge.source), (Status::CutByClient, Source::Estimated));
        let billed = gw.bill(&charge).billed.tokens;
        assert!(charge.tokens.total() >= billed && billed > 3_000, "{billed}: {charge:?}");
    }
    gw.finish().await;
}

/// A model that was at it for long can have generated more than was reserved.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_call_is_charged_what_could_have_been_generated() {
    let small = Plan { id: "small", tokens: 100, ..WIDE };
    let limits = "drain = 1.5
expected_hidden_tokens = 10";
    let gw = gateway().plan(small).limits(limits).start().await;
    let keys = [gw.key("wide").await, gw.key("small").await];
    for key in &keys {
        let mut body = TEXT[0].1(NEVER);
        body["max_completion_tokens"] = 5.into();
        abandon(&gw, ask(&gw, key, TEXT[0].0, body.clone(), REASONING)).await;
    }
    let charges = gw.charges().await;
    let of = |key: &Key| charges.iter().find(|it| it.user == key.user).unwrap().tokens.total();
    assert!((150..1_000).contains(&of(&keys[0])), "100 tokens a second: {charges:?}");
    assert_eq!(of(&keys[1]), 100, "and never more than the plan has left");
    assert_eq!(gw.used(keys[1].user).await.0, 100);
    gw.finish().await;
}
