//! One's own keys.

use super::*;
use jiff::ToSpan;

const KEYS: &str = "/api/v1/keys";
const USAGE: &str = "/api/v1/chat/usage";

#[tokio::test]
async fn keys_are_added_changed_and_revoked() {
    let control = control().await;
    let ada = control.user().await;
    let token = Some(&*ada.token);
    let ends = clock::now().checked_add(1.hour()).unwrap();
    let form = json!({
        "name": " laptop ", "expires_at": ends, "max_tokens_per_day": 300, "models": ["grok-4.3"],
    });
    let reply = control.post(KEYS, token, form).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let key = reply.json();
    assert_eq!((&key["name"], &key["models"]), (&json!("laptop"), &json!(["grok-4.3"])));
    assert_eq!((&key["max_tokens_per_day"], &key["revoked_at"]), (&json!(300), &json!(null)));
    let plain = key["api_key"].as_str();
    assert_eq!(control.get(USAGE, plain).await.ok()["tokens"]["limit"], 300);

    let path = format!("{KEYS}/{}", key["id"].as_str().unwrap());
    let change = json!({ "max_tokens_per_day": null, "expires_at": null, "name": "desk" });
    let changed = control.patch(&path, token, change).await.ok();
    assert_eq!(changed["name"], "desk");
    assert_eq!(changed["max_tokens_per_day"], json!(null));
    assert_eq!(changed["expires_at"], json!(null));
    assert_eq!(changed["models"], json!(["grok-4.3"]), "what is left out stays");
    assert!(changed.get("api_key").is_none());
    assert_eq!(control.get(USAGE, plain).await.ok()["tokens"]["limit"], 5_000);

    assert_eq!(control.delete(&path, token).await.status, 204);
    control.get(USAGE, plain).await.refused(401, "invalid_api_key");
    control.delete(&path, token).await.refused(404, "not_found");
    control.patch(&path, token, json!({ "name": "again" })).await.refused(404, "not_found");
    let list = control.get(KEYS, token).await.ok();
    assert!(list["data"][0]["revoked_at"].is_string());
    assert_eq!(list["next_cursor"], json!(null));
}

#[tokio::test]
async fn bad_keys_name_the_field() {
    let control = control().await;
    let ada = control.user().await;
    let past = clock::now().checked_sub(1.second()).unwrap();
    let long: Vec<String> = (0..101).map(|n| format!("model-{n}")).collect();
    for (form, param) in [
        (json!({}), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": " \t " }), "name"),
        (json!({ "name": "x".repeat(65) }), "name"),
        (json!({ "name": "a", "expires_at": past }), "expires_at"),
        (json!({ "name": "a", "expires_at": "soon" }), "expires_at"),
        (json!({ "name": "a", "max_tokens_per_day": -1 }), "max_tokens_per_day"),
        (json!({ "name": "a", "max_tokens_per_day": 1.5 }), "max_tokens_per_day"),
        (json!({ "name": "a", "max_tokens_per_day": 1_000_000_000_001_u64 }), "max_tokens_per_day"),
        (json!({ "name": "a", "models": ["no such\u{0}"] }), "models[0]"),
        (json!({ "name": "a", "models": long }), "models"),
        (json!({ "name": "a", "user_id": ada.user.id }), "user_id"),
    ] {
        control.post(KEYS, Some(&ada.token), form).await.invalid(param);
    }
    assert_eq!(control.get(KEYS, Some(&ada.token)).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn the_default_key_is_regenerated_and_others_stay() {
    let control = control().await;
    let form = json!({ "email": "ada@example.com", "password": PASSWORD });
    let account = control.post("/api/v1/users/register", None, form).await.ok();
    let token = account["access_token"].as_str();
    let other = control.post(KEYS, token, json!({ "name": "laptop" })).await.ok();
    let new = control.post("/api/v1/users/regenerate-api-key", token, json!({})).await.ok();
    let status = async |key: &Value| control.get(USAGE, key["api_key"].as_str()).await.status;
    assert_eq!(status(&account).await, 401);
    assert_eq!((status(&other).await, status(&new).await), (StatusCode::OK, StatusCode::OK));
}

#[tokio::test]
async fn an_account_has_a_bounded_number_of_live_keys() {
    let control = control().await;
    let ada = control.user().await;
    for _ in 0..100 {
        control.key(ada.user.id, None, KeyLimits::default()).await;
    }
    let form = json!({ "name": "one more" });
    control.post(KEYS, Some(&ada.token), form).await.refused(409, "too_many_keys");
}

#[tokio::test]
async fn a_key_shows_when_it_was_last_used() {
    let control = control().await;
    let ada = control.user().await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let charge = control.charged(ada.user.id, |charge| charge.key = key.id()).await;
    let list = control.get(KEYS, Some(&ada.token)).await.ok();
    let shown: Timestamp = list["data"][0]["last_used_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(shown.as_millisecond(), charge.admitted_at.as_millisecond());
}
