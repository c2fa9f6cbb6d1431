//! `SECRET_KEY`: what changing it ends, and that no command makes keys with another.

use super::{Host, refused};
use crate::support::http_client::Call;
use serde_json::{Value, json};
use std::fs;

const ONE: &str = "one secret of thirty-two bytes, or more";
const OTHER: &str = "another secret of thirty-two bytes, or so";
const ADD: [&str; 6] = ["user", "add", "eve@example.com", "--plan", "wide", "--json"];

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_invalidates_keys_and_tokens() {
    let host = Host::new();
    let serve = async |secret: &str| {
        host.serve_as(host.command(&["serve"]).env("SECRET_KEY", secret)).await
    };
    let first = serve(ONE).await;
    let form = json!({ "email": "ada@example.com", "password": "correct horse battery staple" });
    let register = Call::post(first.addr, "/api/v1/users/register");
    let account = register.body(form.to_string()).send().await.json();
    let text = |field: &str| account[field].as_str().unwrap().to_owned();
    let (key, access, refresh) = (text("api_key"), text("access_token"), text("refresh_token"));
    first.ends_well().await;

    // The same secret ends nothing.
    let again = serve(ONE).await;
    let exchange = async |addr, token: &str| {
        let form = json!({ "refresh_token": token }).to_string();
        Call::post(addr, "/api/v1/users/refresh").body(form).send().await
    };
    assert_eq!(again.chat(&key, "").send().await.status, 200);
    let next = exchange(again.addr, &refresh).await.json();
    let refresh = next["refresh_token"].as_str().unwrap().to_owned();
    again.ends_well().await;
    assert!(!host.log().contains("last used with"), "{}", host.log());

    let other = serve(OTHER).await;
    let log = host.log();
    assert!(log.contains("1 keys created with the old one") && log.contains("1 sessions"), "{log}");
    assert_eq!(other.chat(&key, "").send().await.status, 401);
    assert_eq!(exchange(other.addr, &refresh).await.code(), "invalid_refresh_token");
    let profile = Call::get(other.addr, "/api/v1/users/profile").key(&access).send().await;
    assert_eq!((profile.status, profile.code().as_str()), (401, "invalid_token"));
    other.ends_well().await;

    // With the first one keys work again; what was logged in stays logged out.
    let back = serve(ONE).await;
    assert_eq!(back.chat(&key, "").send().await.status, 200);
    assert_eq!(exchange(back.addr, &refresh).await.code(), "invalid_refresh_token");
    back.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_a_different_secret_creates_no_key() {
    let host = Host::new();
    let serving = host.serve_as(host.command(&["serve"]).env("SECRET_KEY", ONE)).await;
    let with = |words: &[&str], secret: Option<&str>| {
        let mut command = host.command(words);
        command.envs(secret.map(|secret| ("SECRET_KEY", secret)));
        command.output().unwrap()
    };
    let made = with(&["user", "add", "ada@example.com", "--plan", "wide", "--json"], Some(ONE));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(serving.chat(made["api_key"].as_str().unwrap(), "").send().await.status, 200);

    for words in [&ADD[..], &["key", "add", "ada@example.com"]] {
        let told = refused(&with(words, None));
        assert!(told.contains("SECRET_KEY is not set, but"), "{told}");
        let told = refused(&with(words, Some(OTHER)));
        assert!(told.contains("fingerprint") && told.contains("would not work"), "{told}");
        assert!(!told.contains(OTHER) && !told.contains(ONE), "{told}");
    }
    let folder = host.folder.path().join("data");
    assert!(!fs::exists(folder.join("secret.key")).unwrap(), "a refused command makes no secret");
    refused(&with(&["user", "show", "eve@example.com"], Some(ONE)));
    // What makes no key needs no secret.
    assert!(with(&["key", "list", "ada@example.com"], None).status.success());
    let id = made["key"]["id"].as_str().unwrap();
    assert!(with(&["key", "revoke", id], None).status.success());
    assert_eq!(serving.chat(made["api_key"].as_str().unwrap(), "").send().await.status, 401);
    serving.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_created_before_the_first_start_work_or_are_logged() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    serving.ends_well().await;
    let other = host.serve_as(host.command(&["serve"]).env("SECRET_KEY", ONE)).await;
    assert_eq!(other.chat(&key, "").send().await.status, 401);
    assert!(host.log().contains("1 keys created with the old one"), "{}", host.log());
    other.ends_well().await;
}
