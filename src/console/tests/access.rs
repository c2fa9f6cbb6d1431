//! Who gets in, how a session ends, and what other sites cannot do.

use super::*;
use axum::http::HeaderValue;
use domain::actor::AuditContext;
use domain::user::{Role, UserStatus};
use store::UserChange;
use system::clock;

/// Pages of logged-in users.
const PAGES: [&str; 10] = [
    "/console",
    "/console/meters",
    "/console/keys",
    "/console/keys/new",
    "/console/usage",
    "/console/usage.csv",
    "/console/usage/req_0",
    "/console/plans",
    "/console/plans/log-min",
    "/console/playground",
];

#[tokio::test]
async fn a_new_user_signs_up_and_sees_the_key_once() {
    let control = control().await;
    let mut browser = Browser::new(&control);
    assert!(browser.get("/console/signup").await.text.contains("Sign up"));
    let fields = [("email", "Ada@Example.com"), ("password", "correct horse battery staple")];
    let reply = browser.post("/console/signup", &fields).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    let key = reply.text.split("sk-kx-").nth(1).unwrap().split('<').next().unwrap();
    let overview = browser.get("/console").await;
    assert!(overview.text.contains("ada@example.com") && !overview.text.contains(key));
    // The key works.
    let token = format!("sk-kx-{key}");
    control.get("/api/v1/chat/usage", Some(&token)).await.ok();

    let again = browser.post("/console/signup", &fields).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let bad = [("email", "x"), ("password", "correct horse battery staple")];
    assert_eq!(
        browser.post("/console/signup", &bad).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let short = [("email", "b@c.d"), ("password", "short")];
    assert_eq!(
        browser.post("/console/signup", &short).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test]
async fn pages_ask_to_log_in_first_and_lead_back() {
    let control = control().await;
    control.user().await;
    let mut browser = Browser::new(&control);
    for page in PAGES {
        let reply = browser.get(page).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{page}");
        assert!(reply.header("location").starts_with("/console/login?next=%2Fconsole"), "{page}");
    }
    browser.get("/console/login?next=/console/keys").await;
    let fields =
        [("email", "ada@example.com"), ("password", PASSWORD), ("next", "/console/keys?x=1")];
    let reply = browser.post("/console/login", &fields).await;
    assert_eq!(reply.header("location"), "/console/keys?x=1");
    let elsewhere =
        [("email", "ada@example.com"), ("password", PASSWORD), ("next", "//evil.example")];
    browser.get("/console").await;
    let reply = browser.post("/console/login", &elsewhere).await;
    assert_eq!(reply.header("location"), "/console");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_look_the_same() {
    let control = control().await;
    control.user().await;
    let mut pages = Vec::new();
    for email in ["ada@example.com", "unknown@example.com"] {
        let mut browser = Browser::new(&control);
        browser.get("/console/login").await;
        let reply =
            browser.post("/console/login", &[("email", email), ("password", "wrong one")]).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert!(browser.cookies.is_empty());
        pages.push(reply.text.replace(email, ""));
    }
    assert_eq!(pages[0], pages[1]);
    assert!(pages[0].contains("The e-mail address or the password is wrong."));
}

#[tokio::test]
async fn a_session_ends_with_log_out_suspension_and_a_new_password() {
    let control = control().await;
    let user = control.user().await.user;
    let by = AuditContext::operator(clock::now());
    let suspended = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    let resumed = UserChange { status: Some(UserStatus::Active), ..UserChange::default() };

    let mut browser = Browser::logged_in(&control, &user.email).await;
    browser.get("/console").await;
    let cookies = browser.cookies.clone();
    assert_eq!(browser.post("/console/logout", &[]).await.status, StatusCode::SEE_OTHER);
    assert!(browser.cookies.is_empty());
    browser.cookies = cookies;
    assert_eq!(browser.get("/console").await.status, StatusCode::SEE_OTHER, "the cookie is dead");

    let mut browser = Browser::logged_in(&control, &user.email).await;
    control.store.change_user(user.id, &suspended, &by).await.unwrap();
    assert_eq!(browser.get("/console").await.status, StatusCode::SEE_OTHER);
    control.store.change_user(user.id, &resumed, &by).await.unwrap();
    assert_eq!(browser.get("/console").await.status, StatusCode::SEE_OTHER);

    let mut browser = Browser::logged_in(&control, &user.email).await;
    let hash = Some(domain::password::hash("another long password").unwrap());
    let changed = UserChange { password_hash: hash, ..UserChange::default() };
    control.store.change_user(user.id, &changed, &by).await.unwrap();
    assert_eq!(browser.get("/console").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn log_in_begins_a_session_of_its_own() {
    let control = control().await;
    control.user().await;
    let mut victim = Browser::new(&control);
    // A cookie that an attacker has set.
    victim.cookies.push(("kx".to_owned(), "rt-kx-fixed".to_owned()));
    victim.get("/console/login").await;
    let fields = [("email", "ada@example.com"), ("password", PASSWORD)];
    victim.post("/console/login", &fields).await;
    assert_ne!(victim.cookies[0].1, "rt-kx-fixed");
    let mut one = Browser::logged_in(&control, "ada@example.com").await;
    let two = Browser::logged_in(&control, "ada@example.com").await;
    assert_ne!(one.cookies, two.cookies);
    assert_eq!(one.get("/console").await.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_of_the_api_and_cookies_are_not_exchangeable() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::new(&control);
    for token in [&ada.refresh, &ada.token] {
        browser.cookies = vec![("kx".to_owned(), token.clone())];
        assert_eq!(browser.get("/console").await.status, StatusCode::SEE_OTHER);
    }
    let browser = Browser::logged_in(&control, "ada@example.com").await;
    let cookie = &browser.cookies[0].1;
    let form = serde_json::json!({ "refresh_token": cookie });
    control.post("/api/v1/users/refresh", None, form).await.refused(401, "invalid_refresh_token");
    control.get("/api/v1/users/profile", Some(cookie)).await.refused(401, "invalid_token");
}

#[tokio::test]
async fn other_sites_cannot_send_forms() {
    let control = control().await;
    let user = control.user().await.user;
    let mut browser = Browser::logged_in(&control, &user.email).await;
    browser.get("/console").await;
    let csrf = browser.csrf.clone();
    let ours = ("origin", ORIGIN.to_owned());
    for (header, token) in [
        (("origin", "https://evil.example".to_owned()), csrf.as_str()),
        (("origin", "null".to_owned()), &csrf),
        (("origin", "http://kx.example".to_owned()), &csrf),
        (("referer", ORIGIN.to_owned()), &csrf),
        (("sec-fetch-site", "cross-site".to_owned()), &csrf),
        (("sec-fetch-site", "none".to_owned()), &csrf),
        (ours.clone(), ""),
        (ours.clone(), "another"),
    ] {
        let reply = browser.post_from(header.clone(), "/console/logout", &[("csrf", token)]).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{header:?} {token}");
        assert_eq!(browser.get("/console").await.status, StatusCode::OK, "still logged in");
    }
    // The token of another session.
    let mut other = Browser::logged_in(&control, &user.email).await;
    other.get("/console").await;
    let reply = browser.post_from(ours, "/console/logout", &[("csrf", &other.csrf)]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_cookie_of_a_subdomain_cannot_stand_in_over_tls() {
    let control = control().await;
    let user = control.user().await.user;
    let mut browser = Browser::new(&control);
    browser.headers.push(("x-forwarded-proto", "https".to_owned()));
    browser.get("/console/login").await;
    let fields = [("email", user.email.as_str()), ("password", PASSWORD)];
    let origin = ("origin", format!("https://{HOST}"));
    let reply = browser.post_from(origin, "/console/login", &fields).await;
    let cookie = reply.headers.get("set-cookie").map(HeaderValue::to_str).unwrap().unwrap();
    assert!(cookie.starts_with("__Host-kx=") && cookie.contains("; Secure"), "{cookie}");
    assert!(cookie.contains("; HttpOnly; SameSite=Lax") && cookie.contains("Path=/;"), "{cookie}");
    assert_eq!(browser.get("/console").await.status, StatusCode::OK);
    browser.cookies[0].0 = "kx".to_owned();
    assert_eq!(browser.get("/console").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn attempts_are_throttled_as_on_the_api() {
    let control = control().await;
    control.user().await;
    let mut browser = Browser::new(&control);
    browser.get("/console/login").await;
    let wrong = [("email", "ada@example.com"), ("password", "wrong one")];
    let mut last = StatusCode::OK;
    for _ in 0..12 {
        last = browser.post("/console/login", &wrong).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(control.login("ada@example.com", "wrong one").await.status, last);
}

#[tokio::test]
async fn a_role_is_read_anew_with_each_page() {
    let control = control().await;
    let user = control.user().await.user;
    let mut browser = Browser::logged_in(&control, &user.email).await;
    let by = AuditContext::operator(clock::now());
    let promoted = UserChange { role: Some(Role::Admin), ..UserChange::default() };
    control.store.change_user(user.id, &promoted, &by).await.unwrap();
    assert_eq!(browser.get("/console").await.status, StatusCode::OK);
}
