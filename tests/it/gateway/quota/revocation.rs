//! Keys: which are refused, and how soon a right ends.

use crate::support::http_client::Call;
use crate::support::{Gateway, Plan, WIDE, body, by, gateway, soon};
use domain::id::PlanId;
use domain::key::KeyLimits;
use domain::user::{Role, UserStatus};
use std::time::{Duration, Instant};
use store::UserChange;

const STREAM: &str = r#","stream":true"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_rejected() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let last = if key.text.ends_with('A') { 'B' } else { 'A' };
    let forged = format!("{}{last}", &key.text[..key.text.len() - 1]);
    let missing = Call::post(gw.addr(), "/v1/chat/completions").body(body("hi", "")).send().await;
    assert_eq!((missing.status, missing.code().as_str()), (401, "-"));
    for text in [forged.as_str(), "sk-kx-", "sk-proj-fake", "", "x"] {
        let refused = Call::post(gw.addr(), "/v1/chat/completions")
            .key(text)
            .body(body("hi", ""))
            .send()
            .await;
        assert_eq!(refused.status, 401, "{text}");
    }
    let unknown = domain::key::PlainKey::generate().unwrap();
    let refused =
        Call::post(gw.addr(), "/v1/chat/completions").key(unknown.reveal()).body("{}").send().await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "invalid_api_key"));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_apply_from_the_next_request() {
    let gw = gateway().plan(Plan { id: "none", requests: 0, ..WIDE }).start().await;
    let key = gw.key("wide").await;
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    gw.change_user(
        key.user,
        UserChange { plan: Some(PlanId::from("none")), ..UserChange::default() },
    )
    .await;
    assert_eq!(gw.ask(&key, &body("hi", "")).await.code(), "insufficient_quota");
    gw.change_user(
        key.user,
        UserChange { plan: Some(PlanId::from("wide")), ..UserChange::default() },
    )
    .await;
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    let suspended = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    gw.change_user(key.user, suspended).await;
    let refused = gw.ask(&key, &body("hi", "")).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "account_deactivated"));
    let models = Call::get(gw.addr(), "/v1/models").key(&key.text).send().await;
    assert_eq!(models.status, 401);
    let resumed = UserChange { status: Some(UserStatus::Active), ..UserChange::default() };
    gw.change_user(key.user, resumed).await;
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_key_ends_its_open_streams_within_a_second() {
    let gw = gateway()
        .simulator(|s| (s.tokens, s.token_gap) = (3, Duration::from_secs(600)))
        .start()
        .await;
    let key = gw.key("wide").await;
    let mut open = gw.chat(&key, &body("hi", STREAM)).open().await;
    open.next().await.expect("the first token");
    gw.running.store.revoke_key(&key.id, &by()).await.unwrap().unwrap();
    let revoked = Instant::now();
    let rest = open.rest().await;
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert!(rest.text().contains("access_revoked") && !rest.is_done(), "{}", rest.text());
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 401);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_response_completes_after_its_key_is_revoked() {
    for suspend in [false, true] {
        let gw = gateway().simulator(|s| s.first_token = Duration::from_millis(800)).start().await;
        let key = gw.key("wide").await;
        let waiting = tokio::spawn(gw.chat(&key, &body("think", "")).send());
        soon("the simulator has the call", || async { gw.simulator.log.totals().requests == 1 })
            .await;
        if suspend {
            let status = Some(UserStatus::Suspended);
            gw.change_user(key.user, UserChange { status, ..UserChange::default() }).await;
        } else {
            gw.running.store.revoke_key(&key.id, &by()).await.unwrap().unwrap();
        }
        assert_eq!(gw.ask(&key, &body("more", "")).await.status, 401);
        let reply = waiting.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let total = reply.json()["usage"]["total_tokens"].as_u64().unwrap();
        assert_eq!(gw.used(key.user).await, (total, 1));
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_not_begun_is_rejected_when_its_key_is_revoked() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = "think [sim fault=slow-first-byte=600000]";
    let waiting = tokio::spawn(gw.chat(&key, &body(text, STREAM)).send());
    soon("the simulator has the call", || async { gw.simulator.log.totals().open == 1 }).await;
    gw.running.store.revoke_key(&key.id, &by()).await.unwrap().unwrap();
    let revoked = Instant::now();
    let reply = waiting.await.unwrap();
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert_eq!((reply.status, reply.code().as_str()), (401, "access_revoked"));
    gw.finish().await;
}

/// The access token of an admin who has just logged in.
async fn admin_token(gw: &Gateway) -> String {
    let form = r#"{"email":"root@test.example","password":"correct horse battery staple"}"#;
    let registered = Call::post(gw.addr(), "/api/v1/users/register").body(form).send().await.json();
    let user = registered["user"]["id"].as_str().unwrap().parse().unwrap();
    gw.change_user(user, UserChange { role: Some(Role::Admin), ..UserChange::default() }).await;
    registered["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_ends_only_the_streams_of_one_key() {
    let gw = gateway()
        .simulator(|s| (s.tokens, s.token_gap) = (3, Duration::from_secs(600)))
        .start()
        .await;
    let key = gw.key("wide").await;
    let other = gw.another_key(key.user, KeyLimits::default()).await;
    let admin = admin_token(&gw).await;
    let mut open = gw.chat(&key, &body("hi", STREAM)).open().await;
    let mut stays = gw.chat(&other, &body("hi", STREAM)).open().await;
    open.next().await.expect("the first token");
    stays.next().await.expect("the first token");
    let path = format!("/api/v1/admin/users/{}/keys/{}", key.user, key.id);
    let revoked = Instant::now();
    let reply = Call::new(gw.addr(), "DELETE", &path).key(&admin).send().await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    let rest = open.rest().await;
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    assert!(rest.text().contains("access_revoked") && !rest.is_done(), "{}", rest.text());
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 401);
    assert_eq!(gw.running.quota.open_leases(), 1, "the other key's stream goes on");
    drop(stays);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_an_account_ends_its_open_streams_within_a_second() {
    let gw = gateway()
        .simulator(|s| (s.tokens, s.token_gap) = (3, Duration::from_secs(600)))
        .start()
        .await;
    let form = r#"{"email":"ada@test.example","password":"correct horse battery staple"}"#;
    let account = Call::post(gw.addr(), "/api/v1/users/register").body(form).send().await.json();
    let text = |field: &str| account[field].as_str().unwrap().to_owned();
    let (key, token) = (text("api_key"), text("access_token"));
    let user = account["user"]["id"].as_str().unwrap().parse().unwrap();
    let wide = UserChange { plan: Some(PlanId::from("wide")), ..UserChange::default() };
    gw.change_user(user, wide).await;
    let chat = || Call::post(gw.addr(), "/v1/chat/completions").key(&key);
    let mut open = chat().body(body("hi", STREAM)).open().await;
    open.next().await.expect("the first token");
    let delete = async |token: &str, form: &str| {
        let call = Call::post(gw.addr(), "/api/v1/users/delete-account").key(token);
        call.body(form.to_owned()).send().await.status
    };
    assert_eq!(delete(&token, r#"{"current_password":"stolen"}"#).await, 403);
    assert_eq!(gw.running.quota.open_leases(), 1, "the stream goes on");
    let right = r#"{"current_password":"correct horse battery staple"}"#;
    let deleted = Instant::now();
    assert_eq!(delete(&token, right).await, 204);
    let rest = open.rest().await;
    assert!(deleted.elapsed() < Duration::from_secs(2), "{:?}", deleted.elapsed());
    assert!(rest.text().contains("access_revoked") && !rest.is_done(), "{}", rest.text());
    assert_eq!(chat().body(body("hi", "")).send().await.status, 401);
    assert_eq!(delete(&token, right).await, 401, "its session has ended");
    gw.finish().await;
}
