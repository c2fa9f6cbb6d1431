//! Replies that the upstream keeps belong to the user who made them.

use super::answers::charge_of;
use crate::support::client::{Call, Reply};
use crate::support::{Gateway, Key, Plan, WIDE, gateway, soon};
use serde_json::{Value, json};

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
async fn another_users_reply_is_404_whichever_way_it_is_asked_for() {
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
async fn reading_what_is_kept_is_not_metered_and_passes_untouched() {
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
    let kept = gw.running.store.kept_reply(&id, jiff::Timestamp::now()).await.unwrap().unwrap();
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
async fn a_follow_up_goes_to_the_upstream_that_has_the_reply_and_reserves_for_all_of_it() {
    let two = "[[upstreams]]\nname = \"first\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nsurfaces = [\"chat/completions\"]\n\
               [[upstreams]]\nname = \"second\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\n\
               [[upstreams]]\nname = \"third\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\n";
    let gw = gateway().upstreams(two).start().await;
    let key = gw.key("wide").await;
    let reply = respond(&gw, &key, json!({})).await;
    let id = id_of(&reply);
    let charge = charge_of(&gw, reply.header("x-request-id")).await;
    assert_eq!(&*charge.upstream, "second", "the first does not offer it");
    let now = jiff::Timestamp::now();
    let kept = gw.running.store.kept_reply(&id, now).await.unwrap().unwrap();
    assert_eq!((kept.upstream.as_str(), kept.tokens), ("second", charge.tokens.total()));
    let elsewhere = knockx::account::kept::KeptReply {
        id: "resp_elsewhere".to_owned(),
        upstream: "third".to_owned(),
        ..kept
    };
    assert!(gw.running.store.keep_reply(&elsewhere, now).await.unwrap());
    let follow_up = respond(&gw, &key, json!({"previous_response_id": "resp_elsewhere"})).await;
    // The simulator has no such response, and says so in xAI's words.
    assert_eq!(follow_up.status, 404, "{}", follow_up.text());
    let charge = charge_of(&gw, follow_up.header("x-request-id")).await;
    assert_eq!(&*charge.upstream, "third");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_is_nobodys() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for stream in [false, true] {
        let reply = respond(&gw, &key, json!({"store": false, "stream": stream})).await;
        assert_eq!(reply.status, 200);
        let id = id_of(&reply);
        let kept = gw.running.store.kept_reply(&id, jiff::Timestamp::now()).await.unwrap();
        assert_eq!(kept, None);
        assert_eq!(seen_by(&gw, &key, &id).await, [404; 4]);
    }
    gw.finish().await;
}

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
async fn a_deferred_answer_is_charged_when_it_is_fetched_and_fetched_once() {
    let gw = gateway().start().await;
    let (owner, stranger) = (gw.key("wide").await, gw.key("wide").await);
    let (deferred, id) = defer(&gw, &owner, "Hello").await;
    let charge = charge_of(&gw, deferred.header("x-request-id")).await;
    assert_eq!((charge.tokens.total(), charge.cost_micro_dollars, charge.counted), (0, 0, true));
    assert_eq!(gw.used(owner.user).await, (0, 1));
    let asked = gw.simulator.log.totals().requests;
    assert_eq!(fetch(&gw, &stranger, &id).await.status, 404);
    assert_eq!(gw.simulator.log.totals().requests, asked, "a stranger's question goes nowhere");
    let fetched = fetch(&gw, &owner, &id).await;
    assert_eq!(fetched.status, 200, "{}", fetched.text());
    let usage = &fetched.json()["usage"];
    let charge = charge_of(&gw, fetched.header("x-request-id")).await;
    assert_eq!(charge.tokens.total(), usage["total_tokens"].as_u64().unwrap());
    assert_eq!(gw.used(owner.user).await, (charge.tokens.total(), 2));
    assert_eq!(gw.simulator.log.totals().requests, asked + 1);
    let again = fetch(&gw, &owner, &id).await;
    assert_eq!((again.status, again.code().as_str()), (404, "reply_not_found"));
    assert_eq!(gw.simulator.log.totals().requests, asked + 1, "it is not asked for twice");
    assert_eq!(gw.used(stranger.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_too_early_costs_nothing_and_may_be_repeated() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let (_, id) = defer(&gw, &key, "Hello [sim first-token-ms=600]").await;
    let early = fetch(&gw, &key, &id).await;
    assert_eq!((early.status, early.body.len()), (202, 0));
    assert_eq!(gw.used(key.user).await, (0, 1));
    soon("it is ready", || async { fetch(&gw, &key, &id).await.status == 200 }).await;
    assert_eq!(gw.used(key.user).await.1, 2);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_fetch_at_once_one_is_answered_and_charged() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let (_, id) = defer(&gw, &key, "Hello").await;
    let replies = futures_util::future::join_all((0..8).map(|_| fetch(&gw, &key, &id))).await;
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 404, 409].contains(status)), "{statuses:?}");
    assert_eq!(gw.used(key.user).await.1, 2);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_quota_does_not_cover_stays_to_be_fetched() {
    let small = Plan { id: "small", tokens: 100, ..WIDE };
    let gw = gateway().plan(small).start().await;
    let key = gw.key("small").await;
    let (_, id) = defer(&gw, &key, "Hello").await;
    let used = json!({
        "model": "grok-4.3", "messages": [{"role": "user", "content": "Talk [sim tokens=60]"}],
    });
    assert_eq!(gw.ask(&key, &used.to_string()).await.status, 200);
    let asked = gw.simulator.log.totals().requests;
    let refused = fetch(&gw, &key, &id).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"));
    assert_eq!(gw.simulator.log.totals().requests, asked, "it stays where it is");
    let kept = gw.running.store.kept_reply(&id, jiff::Timestamp::now()).await.unwrap();
    assert!(kept.is_some());
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_not_deferred_and_others_may_mean_something_else() {
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

#[tokio::test(flavor = "multi_thread")]
async fn language_models_are_the_callers_own_with_their_prices() {
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
