//! Replies that the upstream keeps belong to the user who made them.

use super::answers::charge_of;
use crate::support::client::{Call, Reply};
use crate::support::{Gateway, Key, gateway};
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
