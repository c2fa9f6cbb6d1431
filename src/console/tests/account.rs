//! The pages of one's own account: profile, password, sessions, export and deletion.

use super::*;
use domain::user::Role;

const NEW_PASSWORD: &str = "another long password";

/// Paths of the account that are pages.
const PAGES: [&str; 1] = ["/console/account"];

/// Forms of the account.
const FORMS: [&str; 4] = [
    "/console/account/email",
    "/console/account/username",
    "/console/account/password",
    "/console/account/verify",
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
