//! Callers who hang up: never cheaper than staying, and charged what the upstream bills.

use crate::support::http_client::{Call, Shared};
use crate::support::raw_socket::with_small_buffers;
use crate::support::surfaces::{TEXT_SURFACES, merge};
use crate::support::{Gateway, Key, Plan, WIDE, by, gateway, soon};
use bytes::Bytes;
use domain::charge::{Charge, Source, Status};
use domain::user::UserStatus;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use store::UserChange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const REASONING: &str = "grok-4.20-0309-reasoning";
const PLAIN: &str = "grok-4.3";
/// An upstream that never answers.
const NEVER: &str = "[sim first-token-ms=600000]";

/// A surface, and the body that asks it for `text`.
type Surface = (&'static str, fn(&str) -> Value);

const TEXT: [Surface; 4] = {
    const fn of(number: usize) -> Surface {
        (TEXT_SURFACES[number].path, TEXT_SURFACES[number].prompt)
    }
    [of(0), of(1), of(2), of(3)]
};

const OTHERS: [Surface; 2] = [
    ("/v1/embeddings", |text| json!({"input": text})),
    ("/v1/images/generations", |text| json!({"prompt": text, "n": 2})),
];

fn call(gw: &Gateway, key: &Key, (path, body): Surface, model: &str, text: &str) -> Call {
    ask(gw, key, path, body(text), model)
}

fn stream(gw: &Gateway, key: &Key, (path, body): Surface, model: &str, text: &str) -> Call {
    let mut body = body(text);
    body["stream"] = true.into();
    ask(gw, key, path, body, model)
}

fn ask(gw: &Gateway, key: &Key, path: &str, mut body: Value, model: &str) -> Call {
    body["model"] = model.into();
    Call::post(gw.addr(), path).key(&key.text).body(body.to_string())
}

/// Sends a call, and goes as soon as the simulator has it.
async fn abandon(gw: &Gateway, call: Call) {
    let before = gw.simulator.log.totals().requests;
    let waiting = tokio::spawn(call.open());
    soon("the simulator has the call", || async { gw.simulator.log.totals().requests > before })
        .await;
    waiting.abort();
    let _ = waiting.await;
}

/// Begins to read a call, and goes after `pieces` of its body.
async fn leave_after(call: Call, pieces: usize) {
    let mut open = call.open().await;
    for _ in 0..pieces {
        open.next().await.expect("tokens flow");
    }
}

fn assert_billed(gw: &Gateway, charge: &Charge, status: Status) {
    let entry = gw.bill(charge);
    assert!(entry.finished, "it was read to its end: {entry:?}");
    let billed = (entry.prompt, entry.completion + entry.reasoning);
    let charged = (charge.tokens.prompt, charge.tokens.completion + charge.tokens.reasoning);
    assert_eq!((charged, charge.source, charge.status), (billed, Source::Reported, status));
    assert_eq!(charge.cost_micro_dollars, (entry.cost_ticks as i64 + 5_000) / 10_000);
}

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

const IMAGES: &str = "[[models]]\nid = \"imagine\"\nupstreams = [{ name = \"simulator\", model = \"grok-4.3\" }]\n\
    context_tokens = 1000\nprices = { input = 1, cached_input = 1, output = 1 }\nimage_price = 0.07\nimage_tokens = 500\n\
    owned_by = \"x\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_cancel_setting_of_an_upstream_overrides_the_default() {
    let upstream = |what: &str| {
        format!(
            "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\napi_key = \"k\"\n\
             on_hang_up = \"{what}\"\n"
        )
    };
    let text = "Talk [sim tokens=60 token-ms=10 reasoning=500]";
    let gw = gateway().upstreams(&upstream("drain")).start().await;
    let key = gw.key("wide").await;
    leave_after(stream(&gw, &key, TEXT[0], PLAIN, text), 2).await;
    assert_billed(&gw, &gw.only_charge().await, Status::CutByClient);
    gw.finish().await;

    let gw = gateway().upstreams(&upstream("cancel")).start().await;
    let key = gw.key("wide").await;
    leave_after(stream(&gw, &key, TEXT[0], REASONING, text), 2).await;
    abandon(&gw, call(&gw, &key, TEXT[0], PLAIN, NEVER)).await;
    let left = Instant::now();
    soon("the upstream is told", || async { gw.simulator.log.totals().open == 0 }).await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    for charge in gw.charges().await {
        assert_eq!((charge.status, charge.source), (Status::CutByClient, Source::Estimated));
        assert!((1..60).contains(&charge.tokens.total()), "{charge:?}");
        assert!(gw.bill(&charge).aborted_by_client);
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_stream_that_reserves_by_slices_passes_no_limit() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\non_hang_up = \"drain\"\n";
    let small = Plan { id: "small", tokens: 400, ..WIDE };
    let gw = gateway().upstreams(upstream).plan(small).limits("slice_tokens = 32").start().await;
    let key = gw.key("small").await;
    let text = "Talk [sim tokens=5000 token-ms=1]";
    leave_after(stream(&gw, &key, TEXT[0], PLAIN, text), 2).await;
    let charge = gw.only_charge().await;
    assert!(charge.tokens.total() <= 400 && charge.tokens.total() > 300, "{charge:?}");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_call_counts_as_a_stream_and_keeps_its_permit() {
    let one = Plan { id: "one", streams: 1, ..WIDE };
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nmax_in_flight = 2\nqueue_length = 0\n";
    let gw = gateway().plan(one).upstreams(upstream).limits("drain = 1").start().await;
    let (key, other) = (gw.key("one").await, gw.key("wide").await);
    leave_after(stream(&gw, &key, TEXT[0], REASONING, NEVER), 0).await;
    abandon(&gw, call(&gw, &other, TEXT[0], PLAIN, NEVER)).await;
    let refused = stream(&gw, &key, TEXT[0], REASONING, "more").send().await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
    let full = call(&gw, &other, TEXT[0], PLAIN, "more").send().await;
    assert_eq!(full.status, 503, "{}", full.text());
    gw.settled().await;
    assert_eq!(stream(&gw, &key, TEXT[0], REASONING, "more").send().await.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reasoning_stream_ended_by_revocation_is_charged_the_bill() {
    for suspend in [false, true] {
        let gw = gateway().start().await;
        let key = gw.key("wide").await;
        let text = "Think [sim tokens=100 token-ms=20 reasoning=700]";
        let mut open = stream(&gw, &key, TEXT[0], REASONING, text).open().await;
        open.next().await.expect("the first token");
        if suspend {
            let status = Some(UserStatus::Suspended);
            gw.change_user(key.user, UserChange { status, ..UserChange::default() }).await;
        } else {
            gw.running.store.revoke_key(&key.id, &by()).await.unwrap().unwrap();
        }
        let ended = Instant::now();
        let rest = open.rest().await;
        assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
        let words = "This API key was revoked or the account was suspended.";
        assert!(rest.text().contains(words) && rest.text().contains("access_revoked"));
        assert!(!rest.is_done() && !rest.whole, "{}", rest.text());
        assert_billed(&gw, &gw.only_charge().await, Status::CutByQuota);
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_reset_or_a_stuck_reader_counts_as_a_disconnect() {
    let gw = gateway().listener("write_timeout = 0.4").start().await;
    let key = gw.key("wide").await;
    let shared = Shared::over(TcpStream::connect(gw.addr()).await.unwrap()).await;
    let text = "Think [sim tokens=40 token-ms=10 reasoning=700]";
    let mut open = shared.open(stream(&gw, &key, TEXT[0], REASONING, text)).await;
    open.next().await.expect("tokens flow");
    drop(open);
    assert_billed(&gw, &gw.only_charge().await, Status::CutByClient);

    let mut silent = with_small_buffers(gw.addr()).await;
    let long = "Think [sim tokens=60000 reasoning=700]";
    let body = json!({
        "model": REASONING, "stream": true, "max_completion_tokens": 100_000,
        "messages": [{"role": "user", "content": long}],
    });
    let raw = crate::support::raw_socket::chat(&key.text, "", &body.to_string());
    silent.write_all(raw.as_bytes()).await.unwrap();
    soon("the call has begun", || async {
        gw.simulator.log.totals().answers + gw.simulator.log.totals().open > 1
    })
    .await;
    let all = gw.charges().await;
    let charge = all.iter().find(|charge| charge.tokens.completion > 1000).expect("the long one");
    assert_billed(&gw, charge, Status::CutByClient);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_charges_what_it_was_draining() {
    let gw = gateway().limits("shutdown_grace = 0.1").start().await;
    let key = gw.key("wide").await;
    let mut body = TEXT[0].1(NEVER);
    body["max_tokens"] = 1000.into();
    abandon(&gw, ask(&gw, &key, TEXT[0].0, body.clone(), PLAIN)).await;
    let staying = tokio::spawn(ask(&gw, &key, TEXT[0].0, body, PLAIN).try_send());
    soon("the simulator has both", || async { gw.simulator.log.totals().open == 2 }).await;
    let Gateway { running, folder, .. } = gw;
    running.stop().await;
    let _ = staying.await;
    let gw = gateway().start_in(folder).await;
    let charges = gw.charges().await;
    let ends: Vec<_> = charges.iter().map(|it| (it.status, it.tokens.completion)).collect();
    assert_eq!(ends, [(Status::CutByClient, 1000), (Status::Failed, 0)]);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_server_tools_is_drained_after_a_disconnect() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = "Talk [sim tokens=60 token-ms=10]";
    let asked = |path: &str, members: Value| {
        let (path, body) = TEXT.into_iter().find(|surface| surface.0 == path).unwrap();
        let mut body = body(text);
        body["stream"] = true.into();
        merge(&mut body, members);
        ask(&gw, &key, path, body, PLAIN)
    };
    let search = json!([{"type": "web_search"}]);
    let numbered = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let with_tools = [
        ("/v1/chat/completions", json!({"tools": search})),
        ("/v1/chat/completions", json!({"search_parameters": {"mode": "on"}})),
        ("/v1/responses", json!({"store": false, "tools": search})),
        ("/v1/messages", json!({"tools": numbered})),
    ];
    let read_on = with_tools.len();
    for (path, members) in with_tools {
        leave_after(asked(path, members), 2).await;
    }
    let of_tools = gw.charges().await;
    assert_eq!(of_tools.len(), read_on);
    of_tools.iter().for_each(|charge| assert_billed(&gw, charge, Status::CutByClient));
    let function = json!([{"type": "function", "function": {"name": "f"}}]);
    leave_after(asked("/v1/chat/completions", json!({"tools": function})), 2).await;
    let without = gw.charges().await.pop().unwrap();
    assert_eq!(without.source, Source::Estimated, "the caller's tools cost nothing unseen");
    gw.finish().await;
}

/// A caller who lets nothing in, and then leaves, is charged what its upstream has sent meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn output_buffered_for_a_stuck_reader_is_charged() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let socket = TcpStream::connect(gw.addr()).await.unwrap();
    let mut shut = h2::client::Builder::new();
    let shaken = shut.initial_window_size(0).handshake::<_, Bytes>(socket).await;
    let (mut sender, connection) = shaken.unwrap();
    let driven = tokio::spawn(connection);
    let messages = json!([{"role": "user", "content": "Say [sim tokens=2000]"}]);
    let body = json!({"model": PLAIN, "stream": true, "messages": messages}).to_string();
    let request = http::Request::post(format!("http://{}/v1/chat/completions", gw.addr()))
        .header("authorization", format!("Bearer {}", key.text))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (reply, mut sending) = sender.send_request(request, false).unwrap();
    sending.send_data(Bytes::from(body), true).unwrap();
    assert_eq!(reply.await.unwrap().status(), 200);
    soon("the upstream has said it all", || async { gw.simulator.log.totals().answers > 0 }).await;
    driven.abort();
    let charge = gw.only_charge().await;
    assert_eq!(charge.status, Status::CutByClient);
    assert!(charge.tokens.completion >= 1_990, "{charge:?}");
    gw.finish().await;
}

/// Calls of one user that are read on keep a quarter of an upstream's places at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_always_disconnects_does_not_starve_others() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nmax_in_flight = 8\nqueue_length = 0\n";
    let gw = gateway().upstreams(upstream).limits("drain = 5").start().await;
    let (key, other) = (gw.key("wide").await, gw.key("wide").await);
    for surface in [TEXT[0], TEXT[1], TEXT[2], TEXT[0]] {
        abandon(&gw, call(&gw, &key, surface, PLAIN, NEVER)).await;
        abandon(&gw, stream(&gw, &key, surface, REASONING, NEVER)).await;
    }
    let began = Instant::now();
    assert_eq!(call(&gw, &other, TEXT[0], PLAIN, "hi").send().await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let charges = gw.charges().await;
    let given_up: Vec<_> = charges.iter().filter(|it| it.status == Status::CutByClient).collect();
    assert_eq!(given_up.len(), 8);
    for charge in given_up {
        assert!(charge.tokens.completion > 100, "all that was reserved: {charge:?}");
    }
    gw.finish().await;
}

/// An upstream cannot bill a request that it has a part of.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_not_sent_whole_is_charged_nothing() {
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap();
    let upstream = format!(
        "[[upstreams]]\nname = \"deaf\"\nbase_url = \"http://{address}/v1\"\napi_key = \"k\"\n"
    );
    let gw = gateway().upstreams(&upstream).start().await;
    let key = gw.key("wide").await;
    let picture = format!("data:image/png;base64,iVBORw0KGgo{}", "A".repeat(24 << 20));
    let content = json!([{"type": "image_url", "image_url": {"url": picture}}]);
    let messages = json!([{"role": "user", "content": content}]);
    for is_stream in [false, true] {
        let body = json!({"messages": messages, "stream": is_stream});
        let waiting = tokio::spawn(ask(&gw, &key, TEXT[0].0, body, REASONING).open());
        let (mut socket, _) = deaf.accept().await.unwrap();
        let mut head = [0; 512];
        socket.read_exact(&mut head).await.unwrap();
        waiting.abort();
        let _ = waiting.await;
        for charge in gw.charges().await {
            assert!(!charge.counted && charge.tokens.total() == 0, "{charge:?}");
        }
        assert_eq!(gw.used(key.user).await, (0, 0));
    }
    gw.finish().await;
}
