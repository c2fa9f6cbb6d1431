//! What agent clients send beside plain calls, and what they are told.

use crate::support::http_client::Call;
use crate::support::{Plan, WIDE, body, gateway};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_handshake_is_rejected_at_once() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for path in ["/v1/responses", "/v1/realtime?model=grok-4.3", "/v1/unknown"] {
        let handshake = Call::get(gw.addr(), path)
            .key(&key.text)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let reply = handshake.send().await;
        assert_eq!((reply.status, reply.code().as_str()), (426, "upgrade_required"), "{path}");
    }
    let named = ["compact", "input_tokens"].map(|name| format!("/v1/responses/{name}"));
    for path in named.iter().map(String::as_str).chain(["/v1/v1/chat/completions"]) {
        let reply = Call::post(gw.addr(), path).key(&key.text).body("{}").send().await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "unknown_url"), "{path}");
    }
    assert_eq!(gw.used(key.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_response_is_not_streamed_again() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let call = json!({"model": "grok-4.3", "input": "hi"}).to_string();
    let made = Call::post(gw.addr(), "/v1/responses").key(&key.text).body(call).send().await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let read = async |query: &str| {
        let path = format!("/v1/responses/{id}{query}");
        Call::get(gw.addr(), &path).key(&key.text).send().await
    };
    let refused = read("?stream=true").await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "unsupported_parameter"));
    assert_eq!(refused.json()["error"]["param"], "stream");
    for query in ["", "?stream=false", "?include=x"] {
        assert_eq!(read(query).await.json()["id"], id.as_str(), "{query}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_clients_list_models_in_their_format() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let ask = async |path: &str, text: &str| {
        let call = Call::get(gw.addr(), path).header("x-api-key", text);
        call.header("anthropic-version", "2023-06-01").send().await
    };
    let listed = ask("/v1/models?limit=1000", &key.text).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    let listed = listed.json();
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"grok-latest") && ids.contains(&"grok-4.3"), "{ids:?}");
    assert_eq!(listed["has_more"], false);
    assert_eq!((&listed["first_id"], &listed["last_id"]), (&json!(ids[0]), &json!(ids.last())));
    let one = ask("/v1/models/grok-latest", &key.text).await.json();
    assert_eq!((&one["type"], &one["id"]), (&json!("model"), &json!("grok-latest")));
    assert!(one["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{one}");
    let refused = ask("/v1/models", "sk-kx-wrong").await;
    assert_eq!((refused.status, &refused.json()["type"]), (401, &json!("error")));
    let of_openai = Call::get(gw.addr(), "/v1/models").key(&key.text).send().await.json();
    assert_eq!(of_openai["data"][0]["context_length"], 1_000_000);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daily_quota_error_contains_the_numbers() {
    let small = Plan { id: "small", tokens: 1_200, ..WIDE };
    let gw = gateway().plan(small).simulator(|s| s.tokens = 300).start().await;
    let key = gw.key("small").await;
    let message = |reply: &Value| reply["error"]["message"].as_str().unwrap().to_owned();
    let never = message(&gw.ask(&key, &body(&"word ".repeat(3_000), "")).await.json());
    assert!(never.contains("than the limit of 1,200 per day"), "{never}");
    assert_eq!(gw.ask(&key, &body("hi", r#","max_tokens":300"#)).await.status, 200);
    let used = gw.used(key.user).await.0;
    let left = 1_200 - used;
    let prompt = "word ".repeat(usize::try_from(left).unwrap() + 50);
    let refused = gw.ask(&key, &body(&prompt, "")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"));
    let told = message(&refused.json());
    let reset = "The quota resets at 2";
    assert!(told.contains(&format!("{left} of today's 1,200")) && told.contains(reset), "{told}");
    gw.finish().await;
}
