//! Replies that the upstream keeps belong to the user who made them.

mod deferred_completions;

use crate::support::http_client::{Call, Reply};
use crate::support::raw_socket::RawSocket;
use crate::support::{Gateway, Key, Plan, WIDE, gateway, soon};
use domain::charge::{Charge, Source, Status};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn respond(gw: &Gateway, key: &Key, members: Value) -> Reply {
    let mut body = json!({"model": "grok-4.3", "input": "Hello"});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    let call = Call::post(gw.addr(), "/v1/responses").key(&key.text).body(body.to_string());
    call.send().await
}

/// The id of a response, streamed or whole.
fn id_of(reply: &Reply) -> String {
    let first = reply.events().into_iter().next().unwrap_or_else(|| reply.text().to_owned());
    let value: Value = serde_json::from_str(&first).unwrap();
    let id = value["id"].as_str().or(value["response"]["id"].as_str());
    id.unwrap_or_else(|| panic!("{first}")).to_owned()
}

/// What a key gets for each way to ask for a reply.
async fn seen_by(gw: &Gateway, key: &Key, id: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (method, rest) in [("GET", ""), ("GET", "/input_items?limit=2"), ("POST", "/cancel")] {
        let path = format!("/v1/responses/{id}{rest}");
        let reply = Call::new(gw.addr(), method, &path).key(&key.text).send().await;
        if reply.status == 404 {
            assert_eq!(reply.code(), "reply_not_found");
        }
        statuses.push(reply.status);
    }
    let follow_up = respond(gw, key, json!({"previous_response_id": id})).await;
    if follow_up.status == 404 {
        assert_eq!(follow_up.code(), "previous_response_not_found");
        assert_eq!(follow_up.json()["error"]["param"], "previous_response_id");
    }
    statuses.push(follow_up.status);
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_of_another_user_is_404_on_every_route() {
    let gw = gateway().start().await;
    let (owner, stranger) = (gw.key("wide").await, gw.key("wide").await);
    let second = gw.another_key(owner.user, Default::default()).await;
    for stream in [false, true] {
        let id = id_of(&respond(&gw, &owner, json!({"stream": stream})).await);
        assert_eq!(seen_by(&gw, &stranger, &id).await, [404; 4], "{stream}");
        let delete = Call::new(gw.addr(), "DELETE", &format!("/v1/responses/{id}"));
        assert_eq!(delete.key(&stranger.text).send().await.status, 404);
        assert_eq!(seen_by(&gw, &owner, &id).await, [200; 4], "{stream}");
        assert_eq!(seen_by(&gw, &second, &id).await, [200; 4], "all keys of a user");
        let delete = Call::new(gw.addr(), "DELETE", &format!("/v1/responses/{id}"));
        let deleted = delete.key(&owner.text).send().await;
        assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
        assert_eq!(seen_by(&gw, &owner, &id).await, [404; 4]);
    }
    assert_eq!(gw.used(stranger.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_a_stored_response_is_free_and_unchanged() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let reply = respond(&gw, &key, json!({})).await;
    let used = gw.used(key.user).await;
    let path = format!("/v1/responses/{}", id_of(&reply));
    let read = Call::get(gw.addr(), &path).key(&key.text).send().await;
    assert_eq!(read.body, reply.body);
    assert!(read.headers.contains_key("x-kx-quota-day-tokens-remaining"));
    assert!(!read.headers.contains_key("set-cookie"));
    assert_eq!(gw.used(key.user).await, used);
    for key in ["", "sk-kx-wrong"] {
        assert_eq!(Call::get(gw.addr(), &path).key(key).send().await.status, 401);
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_known_after_a_restart() {
    let gw = gateway().start().await;
    let (owner, stranger) = (gw.key("wide").await, gw.key("wide").await);
    let id = id_of(&respond(&gw, &owner, json!({})).await);
    let folder = gw.finish().await;
    // Its upstream is another simulator, which knows of nothing: what is 404 there is so here.
    let gw = gateway().start_in(folder).await;
    let kept =
        gw.running.store.stored_response(&id, jiff::Timestamp::now()).await.unwrap().unwrap();
    assert_eq!((kept.user, kept.upstream.as_str()), (owner.user, "simulator"));
    let path = format!("/v1/responses/{id}");
    let asked = gw.simulator.log.totals().requests;
    assert_eq!(Call::get(gw.addr(), &path).key(&stranger.text).send().await.status, 404);
    assert_eq!(gw.simulator.log.totals().requests, asked, "a stranger's question goes nowhere");
    assert_eq!(Call::get(gw.addr(), &path).key(&owner.text).send().await.status, 404);
    assert_eq!(gw.simulator.log.totals().requests, asked + 1);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_is_pinned_to_its_upstream_and_reserves_for_its_context() {
    let two = "[[upstreams]]\nname = \"first\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nsurfaces = [\"chat/completions\"]\n\
               [[upstreams]]\nname = \"second\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\n\
               [[upstreams]]\nname = \"third\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\n";
    let gw = gateway().upstreams(two).start().await;
    let key = gw.key("wide").await;
    let reply = respond(&gw, &key, json!({})).await;
    let id = id_of(&reply);
    let charge = gw.charge(reply.header("x-request-id")).await;
    assert_eq!(&*charge.upstream, "second", "the first does not offer it");
    let now = jiff::Timestamp::now();
    let kept = gw.running.store.stored_response(&id, now).await.unwrap().unwrap();
    assert_eq!((kept.upstream.as_str(), kept.tokens), ("second", charge.tokens.total()));
    let elsewhere = domain::stored_response::StoredResponse {
        id: "resp_elsewhere".to_owned(),
        upstream: "third".to_owned(),
        ..kept
    };
    assert!(gw.running.store.record_response(&elsewhere, now).await.unwrap());
    let follow_up = respond(&gw, &key, json!({"previous_response_id": "resp_elsewhere"})).await;
    // The simulator has no such response, and says so in xAI's words.
    assert_eq!(follow_up.status, 404, "{}", follow_up.text());
    let charge = gw.charge(follow_up.header("x-request-id")).await;
    assert_eq!(&*charge.upstream, "third");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_not_stored_has_no_owner() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for stream in [false, true] {
        let reply = respond(&gw, &key, json!({"store": false, "stream": stream})).await;
        assert_eq!(reply.status, 200);
        let id = id_of(&reply);
        let kept = gw.running.store.stored_response(&id, jiff::Timestamp::now()).await.unwrap();
        assert_eq!(kept, None);
        assert_eq!(seen_by(&gw, &key, &id).await, [404; 4]);
    }
    gw.finish().await;
}

/// What a call was charged, once that is as `source` says.
async fn charge_by(gw: &Gateway, deferred: &Reply, source: Source) -> Charge {
    let request = deferred.header("x-request-id").parse().unwrap();
    let row = async || gw.running.store.charge(request).await.unwrap();
    let is_so = || async { row().await.is_some_and(|charge| charge.source == source) };
    soon("it is charged", is_so).await;
    row().await.unwrap()
}

/// A response that is cut after its first events; its id, and the request that made it.
async fn cut_response(gw: &Gateway, key: &Key) -> (String, Reply) {
    let body = json!({
        "model": "grok-4.3", "input": "Hello [sim tokens=900 token-ms=1]", "stream": true,
    });
    let call = Call::post(gw.addr(), "/v1/responses").key(&key.text).body(body.to_string());
    let mut open = call.open().await;
    let mut text = String::new();
    while !text.contains("response.created") {
        text.push_str(std::str::from_utf8(&open.next().await.unwrap()).unwrap());
    }
    let (_, rest) = text.split_once("\"id\":\"").unwrap();
    let id = rest.split_once('"').unwrap().0.to_owned();
    let headers = open.headers.clone();
    drop(open);
    (id, Reply { status: 200, headers, body: Default::default(), whole: false })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_response_is_settled_when_it_is_first_read() {
    let gw = gateway().limits("drain = 0.1").start().await;
    for way in ["read", "cancel", "go on", "delete"] {
        let key = gw.key("wide").await;
        let (id, cut) = cut_response(&gw, &key).await;
        let path = format!("/v1/responses/{id}");
        let made = || async {
            let there = Call::get(gw.simulator.addr, &path).key(&key.text).send().await;
            there.json()["status"] == "completed"
        };
        soon("the upstream has made it to its end", made).await;
        let read = async |method: &str, path: &str| {
            Call::new(gw.addr(), method, path).key(&key.text).send().await.status
        };
        let status = match way {
            "read" => read("GET", &path).await,
            "cancel" => read("POST", &format!("{path}/cancel")).await,
            "delete" => read("DELETE", &path).await,
            _ => respond(&gw, &key, json!({"previous_response_id": id})).await.status,
        };
        assert_eq!(status, 200, "{way}");
        let charge = charge_by(&gw, &cut, Source::Reported).await;
        let request = charge.request.0.to_string();
        let entries = gw.simulator.log.entries();
        let entry = entries.iter().find(|it| it.request.as_ref() == Some(&request)).unwrap();
        assert_eq!(charge.tokens.total(), entry.prompt + entry.completion, "{way}");
        assert_eq!(charge.status, Status::CutByClient);
        if way == "read" {
            let used = (charge.tokens.total(), 1);
            assert_eq!(gw.used(key.user).await, used);
            let reads = (0..8).map(|_| read("GET", &path));
            assert!(futures_util::future::join_all(reads).await.iter().all(|it| *it == 200));
            assert_eq!(gw.used(key.user).await, used, "once");
        }
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_of_an_abandoned_call_is_settled_when_it_is_read() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = "Hello [sim tokens=900]";
    let whole = respond(&gw, &key, json!({"input": text})).await;
    let id = id_of(&whole);
    let charge = charge_by(&gw, &whole, Source::Reported).await;
    // As a gateway leaves it that was killed once the id was noted: all it held, and that it owes.
    let lost = Charge {
        request: domain::id::RequestId::new(),
        status: Status::Abandoned,
        source: Source::Estimated,
        ..charge.clone()
    };
    let entry = store::Entry::Settle(lost.clone());
    gw.running.store.write_batch(&[entry], None).await.unwrap();
    let now = jiff::Timestamp::now();
    let kept = gw.running.store.stored_response(&id, now).await.unwrap().unwrap();
    assert_eq!(kept.unsettled, None, "it was reported");
    let kept = domain::stored_response::StoredResponse { unsettled: Some(lost.request), ..kept };
    assert!(gw.running.store.record_response(&kept, now).await.unwrap());
    let path = format!("/v1/responses/{id}");
    assert_eq!(Call::get(gw.addr(), &path).key(&key.text).send().await.status, 200);
    gw.written().await;
    let settled = gw.running.store.charge(lost.request).await.unwrap().unwrap();
    assert_eq!((settled.status, settled.source), (Status::CutByUpstream, Source::Reported));
    assert_eq!(settled.tokens, charge.tokens);
    assert!(gw.running.store.rollup_drift(crate::support::today()).await.unwrap().is_empty());
}

/// An upstream that gives the same id each time, whole or streamed.
async fn forgetful() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while !bytes.ends_with(b"}") {
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let response = r#"{"id":"resp_123456","object":"response","status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}"#;
                let is_stream = String::from_utf8_lossy(&bytes).contains("\"stream\":true");
                let (kind, body) = if is_stream {
                    let begun = r#"{"type":"response.created","response":{"id":"resp_123456"}}"#;
                    let done = format!(r#"{{"type":"response.completed","response":{response}}}"#);
                    ("text/event-stream", format!("data: {begun}\n\ndata: {done}\n\n"))
                } else {
                    ("application/json", response.to_owned())
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_two_users_were_given_is_delivered_and_readable_by_neither() {
    let upstream = format!(
        "[[upstreams]]\nname = \"small\"\nbase_url = \"http://{}/v1\"\napi_key = \"k\"\n",
        forgetful().await
    );
    for stream in [false, true] {
        let gw = gateway().upstreams(&upstream).start().await;
        let (first, second) = (gw.key("wide").await, gw.key("wide").await);
        let seen = async |key: &Key| {
            let path = "/v1/responses/resp_123456";
            Call::get(gw.addr(), path).key(&key.text).send().await.code()
        };
        for key in [&first, &first, &second] {
            let reply = respond(&gw, key, json!({"stream": stream})).await;
            assert!(reply.status == 200 && reply.whole, "{}", reply.text());
            assert!(reply.text().contains("completed"), "{}", reply.text());
            charge_by(&gw, &reply, Source::Reported).await;
        }
        assert_eq!((gw.used(first.user).await, gw.used(second.user).await), ((14, 2), (7, 1)));
        for key in [&first, &second] {
            assert_eq!(seen(key).await, "reply_not_found", "{stream}");
            let next = respond(&gw, key, json!({"previous_response_id": "resp_123456"})).await;
            assert_eq!(next.code(), "previous_response_not_found");
        }
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn language_models_are_those_of_the_callers_plan_with_prices() {
    let few = Plan { id: "few", models: &["grok-4.3"], ..WIDE };
    let gw = gateway().plan(few).start().await;
    let (wide, few) = (gw.key("wide").await, gw.key("few").await);
    let get = async |key: &Key, path: &str| Call::get(gw.addr(), path).key(&key.text).send().await;
    let all = get(&wide, "/v1/language-models").await.json();
    assert_eq!(all["models"].as_array().unwrap().len(), 2);
    let own = get(&few, "/v1/language-models").await.json();
    assert_eq!(own["models"].as_array().unwrap().len(), 1);
    let one = get(&few, "/v1/language-models/grok-latest").await.json();
    assert_eq!(one, own["models"][0]);
    assert_eq!((&one["id"], &one["aliases"]), (&json!("grok-4.3"), &json!(["grok-latest"])));
    assert_eq!(one["prompt_text_token_price"], 12_500);
    assert_eq!(one["completion_text_token_price"], 25_000);
    let hidden = get(&few, "/v1/language-models/grok-4.20-0309-reasoning").await;
    assert_eq!((hidden.status, hidden.code().as_str()), (404, "model_not_found"));
    gw.finish().await;
}
