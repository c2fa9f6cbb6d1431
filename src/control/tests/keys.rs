//! One's own keys.

use super::*;
use jiff::ToSpan;
use store::KeyFilter;

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
        (json!({ "name": "lap\u{202e}pot" }), "name"),
        (json!({ "name": "laptop\u{200b}" }), "name"),
        (json!({ "name": "\u{e0041}laptop" }), "name"),
        (json!({ "name": "a", "expires_at": past }), "expires_at"),
        (json!({ "name": "a", "expires_at": "soon" }), "expires_at"),
        (json!({ "name": "a", "max_tokens_per_day": -1 }), "max_tokens_per_day"),
        (json!({ "name": "a", "max_tokens_per_day": 1.5 }), "max_tokens_per_day"),
        (json!({ "name": "a", "max_tokens_per_day": 1_000_000_000_001_u64 }), "max_tokens_per_day"),
        (json!({ "name": "a", "models": ["no such\u{0}"] }), "models[0]"),
        (json!({ "name": "a", "models": long }), "models"),
        (json!({ "name": "a", "models": ["grok-nonesuch"] }), "models"),
        (json!({ "name": "a", "user_id": ada.user.id }), "user_id"),
    ] {
        control.post(KEYS, Some(&ada.token), form).await.invalid(param);
    }
    assert_eq!(control.get(KEYS, Some(&ada.token)).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_key_is_rotated_at_once_or_with_an_overlap() {
    let control = control().await;
    let (ada, eve) = (control.user().await, control.person("eve@example.com", Role::User).await);
    let token = Some(&*ada.token);
    let form = json!({ "name": "laptop", "max_tokens_per_day": 300, "models": ["grok-4.3"] });
    let first = control.post(KEYS, token, form).await.ok();
    let rotate = async |key: &Value, token: &str, form: Value| {
        let path = format!("{KEYS}/{}/rotate", key["id"].as_str().unwrap());
        control.post(&path, Some(token), form).await
    };
    let status = async |key: &Value| control.get(USAGE, key["api_key"].as_str()).await.status;
    rotate(&first, &eve.token, json!({})).await.refused(404, "not_found");
    let second = rotate(&first, &ada.token, json!({})).await;
    assert_eq!(second.status, 201, "{}", second.text);
    let second = second.json();
    assert_eq!((&second["name"], &second["models"]), (&json!("laptop"), &json!(["grok-4.3"])));
    assert_eq!((&second["max_tokens_per_day"], &second["expires_at"]), (&json!(300), &json!(null)));
    assert_eq!(
        (status(&first).await, status(&second).await),
        (StatusCode::UNAUTHORIZED, StatusCode::OK)
    );
    rotate(&first, &ada.token, json!({})).await.refused(404, "not_found");

    let past = clock::now().checked_sub(1.second()).unwrap();
    rotate(&second, &ada.token, json!({ "old_expires_at": past })).await.invalid("old_expires_at");
    let later = clock::now().checked_add(1.hour()).unwrap();
    let third = rotate(&second, &ada.token, json!({ "old_expires_at": later })).await.ok();
    assert_eq!((status(&second).await, status(&third).await), (StatusCode::OK, StatusCode::OK));
    let list = control.get(KEYS, token).await.ok();
    let shown: Timestamp = list["data"][1]["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(shown.as_millisecond(), later.as_millisecond());
    let expired = control.key(ada.user.id, Some(past), KeyLimits::default()).await;
    let expired = json!({ "id": expired.id().as_str() });
    rotate(&expired, &ada.token, json!({})).await.invalid("id");
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

#[tokio::test]
async fn keys_are_listed_in_pages() {
    let control = control().await;
    let ada = control.user().await;
    let eve = control.person("eve@example.com", Role::User).await;
    for _ in 0..5 {
        control.key(ada.user.id, None, KeyLimits::default()).await;
    }
    let root = control.admin().await;
    let as_admin = format!("/api/v1/admin/users/{}/keys", ada.user.id);
    for (path, token) in [(KEYS, &ada.token), (&as_admin, &root.token)] {
        let token = Some(&**token);
        let whole = control.get(path, token).await.ok();
        let whole = whole["data"].as_array().unwrap().clone();
        let (mut cursor, mut found) = (String::new(), Vec::new());
        for expected in [2, 2, 1] {
            let page = control.get(&format!("{path}?limit=2{cursor}"), token).await.ok();
            let keys = page["data"].as_array().unwrap();
            assert_eq!(keys.len(), expected);
            found.extend(keys.clone());
            cursor = format!("&cursor={}", page["next_cursor"].as_str().unwrap_or_default());
        }
        assert_eq!((&found, &*cursor), (&whole, "&cursor="));
        for bad in ["?limit=0", "?limit=201", "?limit=x"] {
            control.get(&format!("{path}{bad}"), token).await.invalid("limit");
        }
        for bad in ["x", "1.", ".x", "1.%27", "9999999999999999999.x", "-1.a%00"] {
            control.get(&format!("{path}?cursor={bad}"), token).await.invalid("cursor");
        }
        control.get(&format!("{path}?user={}", eve.user.id), token).await.invalid("user");
        // A cursor is a place in whichever list is asked for.
        let place = format!("{KEYS}?cursor=0.{}", whole[0]["id"].as_str().unwrap());
        assert_eq!(control.get(&place, Some(&eve.token)).await.ok()["data"], json!([]));
    }
}

#[tokio::test]
async fn an_admin_revokes_one_key_of_a_user() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let eve = control.person("eve@example.com", Role::User).await;
    let admin = Some(&*root.token);
    let [lost, other] = [
        control.key(ada.user.id, None, KeyLimits::default()).await,
        control.key(ada.user.id, None, KeyLimits::default()).await,
    ];
    let of = |user: &Person, key: &str| format!("/api/v1/admin/users/{}/keys/{key}", user.user.id);
    let id = lost.id().to_string();
    assert_eq!(control.get(USAGE, Some(lost.reveal())).await.status, 200);
    control.delete(&of(&eve, &id), admin).await.refused(404, "not_found");
    control.delete(&of(&ada, "nothing"), admin).await.refused(404, "not_found");
    control.delete(&of(&ada, "a%00b"), admin).await.refused(404, "not_found");
    control.delete(&of(&ada, &id), Some(&ada.token)).await.refused(403, "admins_only");
    let unknown_user = format!("/api/v1/admin/users/{}/keys/{id}", UserId::new());
    control.delete(&unknown_user, admin).await.refused(404, "not_found");
    assert_eq!(control.get(USAGE, Some(lost.reveal())).await.status, 200);

    assert_eq!(control.delete(&of(&ada, &id), admin).await.status, 204);
    control.get(USAGE, Some(lost.reveal())).await.refused(401, "invalid_api_key");
    assert_eq!(control.get(USAGE, Some(other.reveal())).await.status, 200);
    assert_eq!(control.get(USAGE, Some(&ada.token)).await.status, 200, "the session stays");
    control.delete(&of(&ada, &id), admin).await.refused(404, "not_found");

    let log = control.get(&format!("/api/v1/admin/audit?subject=key:{id}"), admin).await.ok();
    let entry = &log["data"][0];
    assert_eq!(entry["action"], "key.revoke");
    assert_eq!(entry["actor"], format!("user:{}", root.user.id));
    assert!(entry["before"]["revoked_at"].is_null() && entry["after"]["revoked_at"].is_string());
    let shown = control.get(&format!("/api/v1/admin/users/{}", ada.user.id), admin).await.ok();
    let shown: Vec<_> = shown["keys"].as_array().unwrap().iter().map(|key| &key["id"]).collect();
    assert_eq!(shown, [&json!(other.id())], "in full are those that live");
}

#[tokio::test]
async fn changes_of_one_account_have_to_wait_and_revoking_never_does() {
    let control = control_with("[accounts]\naccount_changes = 6\n", None).await;
    let (ada, root) = (control.user().await, control.admin().await);
    let eve = control.person("eve@example.com", Role::User).await;
    let token = Some(&*ada.token);
    let key = control.post(KEYS, token, json!({ "name": "laptop" })).await.ok();
    let path = format!("{KEYS}/{}", key["id"].as_str().unwrap());
    let asks = [
        ("POST", KEYS, json!({ "name": "laptop" })),
        ("POST", "/api/v1/users/regenerate-api-key", json!({})),
        ("PATCH", &*path, json!({ "name": "desk" })),
        ("PATCH", "/api/v1/users/profile", json!({ "username": "ada" })),
        ("POST", "/api/v1/plans/upgrade", json!({ "plan_id": "log-min" })),
    ];
    let ask = async |method: &str, path: &str, form: &Value, token: Option<&str>| {
        control.ask(method, path, Ask::default().bearer(token).json(form.clone())).await
    };
    for (method, path, form) in &asks {
        ask(method, path, form, token).await.ok();
    }
    let rows = control.store.keys(ada.user.id, &KeyFilter::default(), 200).await.unwrap().len();
    for (method, path, form) in &asks {
        let refused = ask(method, path, form, token).await;
        refused.refused(429, "too_many_tries");
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|wait| wait >= 1));
    }
    let after = control.store.keys(ada.user.id, &KeyFilter::default(), 200).await.unwrap().len();
    assert_eq!(after, rows, "a refused change leaves nothing behind");
    // Other users do not wait, nor do changes of other fields or revocations.
    control.post(KEYS, Some(&eve.token), json!({ "name": "laptop" })).await.ok();
    let user = format!("/api/v1/admin/users/{}", ada.user.id);
    for _ in 0..8 {
        control.patch(&user, Some(&root.token), json!({ "role": "user" })).await.ok();
    }
    assert_eq!(control.delete(&path, token).await.status, 204);
}

#[tokio::test]
async fn a_keys_models_are_kept_by_their_ids() {
    let control = control().await;
    let ada = control.user().await;
    let token = Some(&*ada.token);
    let form = json!({ "name": "a", "models": ["grok-build-latest", "grok-4.3"] });
    let key = control.post(KEYS, token, form).await;
    assert_eq!(key.status, 201, "{}", key.text);
    assert_eq!(key.json()["models"], json!(["grok-4.5", "grok-4.3"]));
    let id = key.json()["id"].as_str().unwrap().to_owned();
    let change = json!({ "models": ["grok-code-fast"] });
    let changed = control.patch(&format!("{KEYS}/{id}"), token, change).await.ok();
    assert_eq!(changed["models"], json!(["grok-build-0.1"]));
}
