//! Answers come through as the upstream gave them.

use crate::support::http_client::Call;
use crate::support::{body, gateway};
use domain::charge::{Source, Status};

#[tokio::test(flavor = "multi_thread")]
async fn a_response_body_passes_unchanged() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let reply = gw.ask(&key, &body("Hello!", "")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let usage = &reply.json()["usage"];
    let total = usage["total_tokens"].as_u64().unwrap();
    assert_eq!(gw.used(key.user).await, (total, 1));
    let charge = gw.charge(reply.header("x-request-id")).await;
    assert_eq!((charge.status, charge.source), (Status::Complete, Source::Reported));
    assert_eq!(
        charge.cost_micro_dollars,
        (usage["cost_in_usd_ticks"].as_i64().unwrap() + 5_000) / 10_000
    );
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_done_and_shows_usage_only_on_request() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let unasked = gw.ask(&key, &body("Hello!", r#","stream":true"#)).await;
    let asked = gw
        .ask(&key, &body("Hello!", r#","stream":true,"stream_options":{"include_usage":true}"#))
        .await;
    assert!(unasked.is_done() && asked.is_done());
    assert!(unasked.whole && asked.whole, "the body ends as HTTP says it should");
    assert!(!unasked.text().contains("\"usage\""), "{}", unasked.text());
    assert_eq!(asked.events().len(), unasked.events().len() + 1, "just the usage chunk more");
    assert_eq!(unasked.answer(), asked.answer());
    assert_eq!(unasked.header("x-accel-buffering"), "no");
    let charge = gw.charge(unasked.header("x-request-id")).await;
    assert_eq!((charge.status, charge.source), (Status::Complete, Source::Reported));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_unchanged_however_they_are_chunked() {
    for fault in ["split", "drip", "crlf", "comments", "multiline", "usage-every-chunk"] {
        let gw = gateway().start().await;
        let key = gw.key("wide").await;
        let text =
            body("the same words", r#","stream":true,"stream_options":{"include_usage":true}"#);
        let direct = Call::post(gw.simulator.addr, "/v1/chat/completions")
            .key("sim-test-key")
            .header("x-sim-fault", fault)
            .body(text.clone())
            .send()
            .await;
        let through = gw.chat(&key, &text).header("x-sim-fault", fault).send().await;
        assert_eq!(without_ids(through.text()), without_ids(direct.text()), "{fault}");
        assert!(through.is_done(), "{fault}");
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_request_id_is_stored_but_not_forwarded() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let too_long = "a".repeat(129);
    let sent = [("job-7/42", true), ("req_01", true), ("two words", false), (&too_long, false)];
    for (id, is_kept) in sent {
        for members in ["", r#","stream":true"#] {
            let reply =
                gw.chat(&key, &body("Hello!", members)).header("x-request-id", id).send().await;
            let ours = reply.header("x-request-id");
            assert!(ours.starts_with("req_") && ours != id, "{ours}");
            let charge = gw.charge(ours).await;
            let expected = is_kept.then_some(id);
            assert_eq!(charge.client_request_id.as_deref(), expected, "{id} {members}");
        }
    }
    let unnamed = gw.ask(&key, &body("Hello!", "")).await;
    let charge = gw.charge(unnamed.header("x-request-id")).await;
    assert_eq!(charge.client_request_id, None);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_upstream_are_not_forwarded() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let reply = gw.ask(&key, &body("Hello!", "")).await;
    for stopped in ["set-cookie", "cf-ray", "server", "alt-svc"] {
        assert!(!reply.headers.contains_key(stopped), "{stopped}");
    }
    assert!(reply.header("x-request-id").starts_with("req_"));
    assert!(!reply.header("x-upstream-request-id").is_empty());
    for ours in ["x-process-time", "x-ratelimit-reset-tokens", "x-kx-quota-day-requests-remaining"]
    {
        assert!(reply.headers.contains_key(ours), "{ours}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_those_of_the_callers_plan() {
    let few = crate::support::Plan { id: "few", models: &["grok-4.3"], ..crate::support::WIDE };
    let gw = gateway().plan(few).start().await;
    let (wide, few) = (gw.key("wide").await, gw.key("few").await);
    let count = async |key: &str| {
        Call::get(gw.addr(), "/v1/models").key(key).send().await.json()["data"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!((count(&wide.text).await, count(&few.text).await), (2, 1));
    let one = Call::get(gw.addr(), "/v1/models/grok-latest").key(&few.text).send().await;
    assert_eq!(one.json()["id"], "grok-latest");
    let other =
        Call::get(gw.addr(), "/v1/models/grok-4.20-0309-reasoning").key(&few.text).send().await;
    assert_eq!((other.status, other.code().as_str()), (404, "model_not_found"));
    let refused =
        gw.ask(&few, &body("hi", "").replace("grok-4.3", "grok-4.20-0309-reasoning")).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "model_not_allowed"));
    assert_eq!(gw.used(few.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_preflights_need_no_key() {
    let gw = gateway().start().await;
    let preflight = Call::new(gw.addr(), "OPTIONS", "/v1/chat/completions")
        .header("origin", "https://chat.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,x-stainless-lang")
        .send()
        .await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-headers"), "authorization,x-stainless-lang");
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    let refused = Call::post(gw.addr(), "/v1/chat/completions")
        .header("origin", "https://chat.example")
        .send()
        .await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, "*"));
    assert!(refused.header("access-control-expose-headers").contains("x-should-retry"));
    gw.finish().await;
}

/// Ids and times differ between any two answers.
fn without_ids(text: &str) -> String {
    let mut out = text.to_owned();
    for name in ["\"id\":\"", "\"created\":"] {
        let mut rest = std::mem::take(&mut out);
        while let Some(at) = rest.find(name) {
            let (before, after) = rest.split_at(at + name.len());
            out.push_str(before);
            let end = after.find([',', '"']).unwrap_or(0);
            rest = after[end..].to_owned();
        }
        out.push_str(&rest);
    }
    out
}
