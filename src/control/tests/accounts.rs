//! Registration, login, logout, and the account of a user.

use super::*;
use domain::user::UserStatus;
use store::UserChange;

const REGISTER: &str = "/api/v1/users/register";
const PROFILE: &str = "/api/v1/users/profile";
const REFRESH: &str = "/api/v1/users/refresh";
const CHANGE_PASSWORD: &str = "/api/v1/users/change-password";

#[tokio::test]
async fn who_registers_can_call_and_is_logged_in() {
    let control = control().await;
    let form =
        json!({ "email": " Ada@Example.COM ", "password": PASSWORD, "username": "Ada.Lovelace" });
    let reply = control.post(REGISTER, None, form).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let account = reply.json();
    assert_eq!(account["user"]["email"], "ada@example.com");
    assert_eq!(account["user"]["username"], "ada.lovelace");
    assert_eq!(account["user"]["role"], "user");
    assert_eq!(account["user"]["plan"]["id"], "baby-free");
    assert_eq!(account["user"]["limits"]["max_tokens_per_day"], 1000);
    assert_eq!((&account["token_type"], &account["expires_in"]), (&json!("bearer"), &json!(900)));
    let (token, key) = (&account["access_token"], &account["api_key"]);
    for credential in [token, key] {
        let profile = control.get(PROFILE, credential.as_str()).await.ok();
        assert_eq!(profile, account["user"]);
    }
    let keys = control.get("/api/v1/keys", token.as_str()).await.ok();
    assert_eq!(keys["data"][0]["name"], "default");
    assert!(key.as_str().unwrap().ends_with(keys["data"][0]["last_four"].as_str().unwrap()));

    let same_email = json!({ "email": "ADA@example.com", "password": PASSWORD });
    control.post(REGISTER, None, same_email).await.refused(409, "email_taken");
    let same_name =
        json!({ "email": "b@example.com", "password": PASSWORD, "username": "ADA.lovelace" });
    control.post(REGISTER, None, same_name).await.refused(409, "username_taken");
    let none = control.login("b@example.com", PASSWORD).await;
    none.refused(401, "invalid_credentials");
}

#[tokio::test]
async fn bad_registrations_name_the_field() {
    let control = control().await;
    let good = json!({ "email": "a@example.com", "password": PASSWORD });
    let with = |field: &str, value: Value| {
        let mut form = good.clone();
        form[field] = value;
        form
    };
    let without = |field: &str| {
        let mut form = good.clone();
        form.as_object_mut().unwrap().remove(field);
        form
    };
    let cases = [
        (with("email", json!("no-address")), "email"),
        (with("email", json!("ada@exаmple.com")), "email"),
        (with("email", json!(7)), "email"),
        (with("email", Value::Null), "email"),
        (without("email"), "email"),
        (with("password", json!("short")), "password"),
        (with("password", json!("x".repeat(129))), "password"),
        (without("password"), "password"),
        (with("username", json!("ab")), "username"),
        (with("username", json!("аda")), "username"),
        (with("username", json!("a\u{0}da")), "username"),
        (with("role", json!("admin")), "role"),
        (with("plan_id", json!("high-max")), "plan_id"),
        (json!([]), ""),
        (json!(["a@example.com", PASSWORD, null]), ""),
        (json!("text"), ""),
    ];
    for (form, param) in cases {
        control.post(REGISTER, None, form).await.invalid(param);
    }
    let json_type = [("content-type", "application/json".to_owned())];
    for (body, headers, status, code) in [
        ("{", &json_type[..], 400, "not_json"),
        ("", &json_type[..], 400, "not_json"),
        ("{} {}", &json_type[..], 400, "not_json"),
        ("{}", &[], 415, "not_json"),
    ] {
        let reply = raw(&control.router, "POST", REGISTER, headers, None, Body::from(body)).await;
        reply.refused(status, code);
    }
    let twice = r#"{"email":"a@example.com","email":"b@example.com","password":"correct horse"}"#;
    let reply = raw(&control.router, "POST", REGISTER, &json_type, None, Body::from(twice)).await;
    reply.invalid("email");
}

#[tokio::test]
async fn registration_can_be_closed_and_is_throttled() {
    let closed = control_with("[accounts]\nregistration = false\n", None).await;
    let form = json!({ "email": "a@example.com", "password": PASSWORD });
    closed.post(REGISTER, None, form).await.refused(403, "registration_closed");

    let control = control_with("[accounts]\naddress_registrations = 2\n", None).await;
    let register = async |number: u32, from: &str| {
        let form = json!({ "email": format!("a{number}@example.com"), "password": PASSWORD });
        let ask = Ask { from: Some(from), ..Ask::default() }.json(form);
        control.ask("POST", REGISTER, ask).await
    };
    for number in 0..2 {
        assert_eq!(register(number, "192.0.2.1").await.status, 201);
    }
    let refused = register(2, "192.0.2.1").await;
    refused.refused(429, "too_many_tries");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(register(3, "192.0.2.2").await.status, 201);
}

#[tokio::test]
async fn a_session_lives_by_its_refresh_tokens() {
    let control = control().await;
    let ada = control.user().await;
    let refresh =
        async |token: &str| control.post(REFRESH, None, json!({ "refresh_token": token })).await;
    let next = refresh(&ada.refresh).await.ok();
    let (token, second) = (&next["access_token"], next["refresh_token"].as_str().unwrap());
    assert_eq!(control.get(PROFILE, token.as_str()).await.status, 200);
    assert_eq!(control.get(PROFILE, Some(&ada.token)).await.status, 200, "the same session");

    // The first token once more: it was stolen, so both lose the session.
    refresh(&ada.refresh).await.refused(401, "invalid_refresh_token");
    refresh(second).await.refused(401, "invalid_refresh_token");
    control.get(PROFILE, token.as_str()).await.refused(401, "invalid_token");
    for bad in ["", "nonsense", &ada.token] {
        refresh(bad).await.refused(401, "invalid_refresh_token");
    }
}

#[tokio::test]
async fn logging_out_ends_the_session_and_no_other() {
    let control = control().await;
    let ada = control.user().await;
    let elsewhere = control.log_in(ada.user.clone()).await;
    let out = control.post("/api/v1/users/logout", Some(&ada.token), json!({})).await;
    assert_eq!(out.status, 204);
    control.get(PROFILE, Some(&ada.token)).await.refused(401, "invalid_token");
    let form = json!({ "refresh_token": ada.refresh });
    control.post(REFRESH, None, form).await.refused(401, "invalid_refresh_token");
    assert_eq!(control.get(PROFILE, Some(&elsewhere.token)).await.status, 200);
}

#[tokio::test]
async fn a_new_password_ends_all_sessions() {
    let control = control().await;
    let ada = control.user().await;
    let elsewhere = control.log_in(ada.user.clone()).await;
    let change = async |current: &str, new: &str| {
        let form = json!({ "current_password": current, "new_password": new });
        control.post(CHANGE_PASSWORD, Some(&ada.token), form).await
    };
    change("wrong", "a new password").await.refused(403, "wrong_password");
    change(PASSWORD, "short").await.invalid("new_password");
    let changed = change(PASSWORD, "a new password").await.ok();
    for old in [&ada.token, &elsewhere.token] {
        control.get(PROFILE, Some(old)).await.refused(401, "invalid_token");
    }
    assert_eq!(control.get(PROFILE, changed["access_token"].as_str()).await.status, 200);
    control.login(&ada.user.email, PASSWORD).await.refused(401, "invalid_credentials");
    control.login(&ada.user.email, "a new password").await.ok();
}

#[tokio::test]
async fn suspension_ends_sessions_and_is_told_to_those_with_the_password() {
    let control = control().await;
    let ada = control.user().await;
    let by = AuditContext::operator(clock::now());
    let suspend = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    control.store.change_user(ada.user.id, &suspend, &by).await.unwrap();
    control.get(PROFILE, Some(&ada.token)).await.refused(401, "invalid_token");
    let form = json!({ "refresh_token": ada.refresh });
    control.post(REFRESH, None, form).await.refused(401, "invalid_refresh_token");
    control.login(&ada.user.email, PASSWORD).await.refused(403, "account_suspended");
    control.login(&ada.user.email, "wrong").await.refused(401, "invalid_credentials");
}

#[tokio::test]
async fn the_profile_changes_what_is_ones_own() {
    let control = control().await;
    let ada = control.user().await;
    let eve = control.person("eve@example.com", Role::User).await;
    let change = async |token: &str, form: Value| control.patch(PROFILE, Some(token), form).await;
    assert_eq!(change(&ada.token, json!({ "username": "Ada" })).await.ok()["username"], "ada");
    assert_eq!(change(&ada.token, json!({})).await.ok()["username"], "ada");
    change(&eve.token, json!({ "username": "ADA" })).await.refused(409, "username_taken");
    assert_eq!(change(&ada.token, json!({ "username": null })).await.ok()["username"], json!(null));

    let new_email = |password: Option<&str>| {
        let mut form = json!({ "email": "lovelace@example.com" });
        if let Some(password) = password {
            form["current_password"] = json!(password);
        }
        form
    };
    change(&ada.token, new_email(None)).await.invalid("current_password");
    change(&ada.token, new_email(Some("wrong"))).await.refused(403, "wrong_password");
    let changed = change(&ada.token, new_email(Some(PASSWORD))).await.ok();
    assert_eq!(changed["email"], "lovelace@example.com");
    let form = json!({ "email": "eve@example.com", "current_password": PASSWORD });
    change(&ada.token, form).await.refused(409, "email_taken");
    control.login("lovelace@example.com", PASSWORD).await.ok();
}

#[tokio::test]
async fn an_imported_bcrypt_hash_is_taken_once_and_hashed_anew() {
    let control = control().await;
    let ada = control.user().await.user;
    // bcrypt's own test vector, at a cost that tests can pay.
    let imported = bcrypt::hash("correct horse", 4).unwrap();
    let change = UserChange { password_hash: Some(imported), ..UserChange::default() };
    let by = AuditContext::operator(clock::now());
    control.store.change_user(ada.id, &change, &by).await.unwrap();
    control.login(&ada.email, "wrong").await.refused(401, "invalid_credentials");
    let session = control.login(&ada.email, "correct horse").await.ok();
    let stored = control.store.credentials(&ada.email).await.unwrap().unwrap().password_hash;
    assert!(stored.unwrap().starts_with("$argon2id$"));
    let token = session["access_token"].as_str();
    assert_eq!(control.get(PROFILE, token).await.status, 200, "no session ends by it");
    control.login(&ada.email, "correct horse").await.ok();
}
