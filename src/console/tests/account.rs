//! The pages of one's own account: profile, password, sessions, export and deletion.

use super::*;
use domain::user::Role;
use serde_json::json;
use system::clock;

const NEW_PASSWORD: &str = "another long password";

/// Paths of the account that are pages.
const PAGES: [&str; 5] = [
    "/console/account",
    "/console/account/sessions",
    "/console/account/second-factor",
    "/console/account/second-factor/set-up",
    "/console/account/delete",
];

/// Forms of the account.
const FORMS: [&str; 11] = [
    "/console/account/email",
    "/console/account/username",
    "/console/account/password",
    "/console/account/verify",
    "/console/account/sessions/end",
    "/console/account/sessions/end-others",
    "/console/account/second-factor",
    "/console/account/second-factor/set-up",
    "/console/account/second-factor/codes",
    "/console/account/second-factor/off",
    "/console/account/delete",
];

#[tokio::test]
async fn every_page_and_form_of_the_account_needs_a_session() {
    let control = control().await;
    let user = control.user().await.user;
    let mut visitor = Browser::new(&control);
    for path in PAGES {
        let reply = visitor.get(path).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{path}");
        assert!(
            reply.header("location").starts_with("/console/login?next=%2Fconsole%2Faccount"),
            "{path}"
        );
    }
    for path in FORMS {
        let reply = visitor.post(path, &[]).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{path}");
        assert!(reply.header("location").starts_with("/console/login"), "{path}");
    }
    let mut browser = Browser::logged_in(&control, &user.email).await;
    for path in FORMS {
        let origin = ("origin", ORIGIN.to_owned());
        let reply = browser.post_from(origin, path, &[("csrf", "forged")]).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}");
    }
    for path in [
        "/console/account",
        "/console/account/email",
        "/console/account/password",
        "/console/account/verify",
    ] {
        assert!(browser.get(path).await.text.contains("Change the password"), "{path}");
    }
}

#[tokio::test]
async fn the_account_page_shows_who_one_is_and_where_calls_go() {
    let control = control().await;
    let user = control.user().await.user;
    let mut browser = Browser::logged_in(&control, &user.email).await;
    let page = browser.get("/console/account").await.text;
    for part in ["ada@example.com", "http://kx.example:8000/v1", &user.id.0.to_string()] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let page = browser.get("/console/account?done=%3Cscript%3E").await.text;
    assert!(!page.contains("class=\"done\""), "only known words are shown");
}

#[tokio::test]
async fn an_email_address_is_changed_with_the_password() {
    let control = control().await;
    let user = control.user().await.user;
    control.person("eve@example.com", Role::User).await;
    let mut browser = Browser::logged_in(&control, &user.email).await;
    browser.get("/console/account").await;
    for (email, password, status, text) in [
        ("new@example.com", "wrong one", 403, "The password is wrong."),
        ("new@example.com", "", 422, "Enter your current password."),
        ("\"><script>", PASSWORD, 422, "This is not an e-mail address."),
        ("eve@example.com", PASSWORD, 409, "Another account has this e-mail address."),
    ] {
        let fields = [("email", email), ("current_password", password)];
        let reply = browser.post("/console/account/email", &fields).await;
        assert_eq!(reply.status.as_u16(), status, "{email}: {}", reply.text);
        assert!(reply.text.contains(text) && !reply.text.contains("<script>\""), "{}", reply.text);
        assert!(!reply.text.contains(PASSWORD), "a password never comes back");
        assert_eq!(reply.text.matches("role=\"alert\"").count(), 1, "{}", reply.text);
    }
    let fields = [("email", " New@Example.com "), ("current_password", PASSWORD)];
    let reply = browser.post("/console/account/email", &fields).await;
    assert_eq!(reply.header("location"), "/console/account?done=email");
    let page = browser.get("/console/account?done=email").await.text;
    assert!(
        page.contains("new@example.com") && page.contains("Your e-mail address is changed."),
        "{page}"
    );
    assert_eq!(control.login("new@example.com", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_username_is_set_and_removed() {
    let control = control().await;
    let user = control.user().await.user;
    let mut browser = Browser::logged_in(&control, &user.email).await;
    browser.get("/console/account").await;
    let reply = browser.post("/console/account/username", &[("username", "Ada.L")]).await;
    assert_eq!(reply.header("location"), "/console/account?done=username");
    assert!(browser.get("/console/account").await.text.contains("<dd>ada.l</dd>"));
    let reply = browser.post("/console/account/username", &[("username", "<b>x</b>")]).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        reply.text.contains("&#60;b&#62;x") && reply.text.contains("A username has 3 to 32"),
        "{}",
        reply.text
    );
    let reply = browser.post("/console/account/username", &[("username", "")]).await;
    assert_eq!(reply.header("location"), "/console/account?done=username");
    let found = control.store.user(user.id).await.unwrap().unwrap();
    assert_eq!(found.username, None);
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions_and_renews_this_one() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let mut other = Browser::logged_in(&control, &ada.user.email).await;
    browser.get("/console/account").await;
    let before = browser.cookies.clone();
    for (current, new, status) in [
        ("wrong one", NEW_PASSWORD, 403),
        (PASSWORD, "short", 422),
        (PASSWORD, &"x".repeat(129), 422),
        ("", NEW_PASSWORD, 422),
    ] {
        let fields = [("current_password", current), ("new_password", new)];
        let reply = browser.post("/console/account/password", &fields).await;
        assert_eq!(reply.status.as_u16(), status, "{new}");
        assert_eq!(browser.cookies, before);
    }
    assert_eq!(other.get("/console").await.status, StatusCode::OK, "nothing has changed yet");
    let fields = [("current_password", PASSWORD), ("new_password", NEW_PASSWORD)];
    let reply = browser.post("/console/account/password", &fields).await;
    assert_eq!(reply.header("location"), "/console/account?done=password", "{}", reply.text);
    assert_ne!(browser.cookies, before, "a new session");
    let page = browser.get("/console/account?done=password").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("All other sessions have ended."));
    let mut thief = Browser::new(&control);
    thief.cookies = before;
    assert_eq!(
        thief.get("/console").await.status,
        StatusCode::SEE_OTHER,
        "the former cookie is dead"
    );
    assert_eq!(other.get("/console").await.status, StatusCode::SEE_OTHER);
    control.get("/api/v1/users/profile", Some(&ada.token)).await.refused(401, "invalid_token");
    control.login(&ada.user.email, PASSWORD).await.refused(401, "invalid_credentials");
    assert_eq!(control.login(&ada.user.email, NEW_PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn sessions_are_listed_and_any_of_them_ended() {
    let control = control().await;
    let ada = control.user().await;
    let mut phone = Browser::new(&control);
    let program = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/140.0 Mobile \"><script>alert(1)</script>";
    phone.headers.push(("user-agent", program.to_owned()));
    phone.get("/console/login").await;
    let fields = [("email", ada.user.email.as_str()), ("password", PASSWORD)];
    phone.post("/console/login", &fields).await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let page = browser.get("/console/account/sessions").await.text;
    for part in ["Chrome on Android", "127.0.0.1", "This session", "Console", "API"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches("name=\"session\"").count(), 2, "the phone and the API: {page}");
    assert!(!page.contains("<script>alert"), "{page}");

    // The session of another user does not exist.
    let eve = control.person("eve@example.com", Role::User).await;
    let others = control.store.sessions_of(eve.user.id, clock::now()).await.unwrap();
    let foreign = others[0].id.0.to_string();
    let reply = browser.post("/console/account/sessions/end", &[("session", &foreign)]).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(control.get("/api/v1/users/profile", Some(&eve.token)).await.status, StatusCode::OK);

    let row = page.split("Chrome on Android").nth(1).unwrap();
    let id = row.split("name=\"session\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let reply = browser.post("/console/account/sessions/end", &[("session", id)]).await;
    assert_eq!(reply.header("location"), "/console/account/sessions?done=ended");
    assert_eq!(phone.get("/console").await.status, StatusCode::SEE_OTHER);
    let again = browser.post("/console/account/sessions/end", &[("session", id)]).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);

    let reply = browser.post("/console/account/sessions/end-others", &[]).await;
    assert_eq!(reply.header("location"), "/console/account/sessions?done=others");
    control.get("/api/v1/users/profile", Some(&ada.token)).await.refused(401, "invalid_token");
    let page = browser.get("/console/account/sessions?done=others").await.text;
    assert!(page.contains("All other sessions have ended.") && !page.contains("name=\"session\""));
}

#[tokio::test]
async fn data_are_exported_as_a_file() {
    let control = control().await;
    let user = control.user().await.user;
    let charge = control.charged(user.id, |_| {}).await;
    let mut browser = Browser::logged_in(&control, &user.email).await;
    browser.get("/console/account").await;
    let reply = browser.post("/console/account/export", &[]).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(reply.header("content-disposition").starts_with("attachment;"));
    let file = reply.json();
    assert_eq!(file["profile"]["email"], json!(user.email));
    assert_eq!(file["usage"][0]["request_id"], json!(charge.request.to_string()));
}

#[tokio::test]
async fn an_account_is_deleted_with_its_address_and_password() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let page = browser.get("/console/account/delete").await.text;
    assert!(page.contains("Kept") && page.contains("cannot be undone"));
    for (email, password, status) in [
        ("eve@example.com", PASSWORD, 422),
        ("", PASSWORD, 422),
        ("ada@example.com", "wrong one", 403),
        ("ada@example.com", "", 422),
    ] {
        let fields = [("email", email), ("current_password", password)];
        let reply = browser.post("/console/account/delete", &fields).await;
        assert_eq!(reply.status.as_u16(), status, "{email}");
        assert_eq!(browser.get("/console").await.status, StatusCode::OK);
    }
    let fields = [("email", "Ada@Example.com"), ("current_password", PASSWORD)];
    let reply = browser.post("/console/account/delete", &fields).await;
    assert_eq!(reply.header("location"), "/console/login?done=deleted", "{}", reply.text);
    assert!(browser.cookies.is_empty());
    assert!(
        browser.get("/console/login?done=deleted").await.text.contains("Your account is deleted.")
    );
    control.get("/api/v1/users/profile", Some(&ada.token)).await.refused(401, "invalid_token");
    control.login(&ada.user.email, PASSWORD).await.refused(401, "invalid_credentials");
}

#[tokio::test]
async fn the_last_admin_cannot_delete_the_account() {
    let control = control().await;
    let root = control.admin().await.user;
    let mut browser = Browser::logged_in(&control, &root.email).await;
    browser.get("/console/account/delete").await;
    let fields = [("email", root.email.as_str()), ("current_password", PASSWORD)];
    let reply = browser.post("/console/account/delete", &fields).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(reply.text.contains("This is the last admin."), "{}", reply.text);
    assert_eq!(browser.get("/console").await.status, StatusCode::OK);
}
