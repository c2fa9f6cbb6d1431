//! Pages that one-time links lead to.

use super::*;
use crate::control::tests::SECRET;
use crate::links::Links;
use domain::actor::AuditContext;
use domain::key::Pepper;
use domain::one_time_link::LinkPurpose;
use domain::user::{Role, User};
use store::NewUser;
use system::clock;

const NEW_PASSWORD: &str = "another long password";

fn links() -> Links {
    Links::new(&Pepper::new(SECRET), None)
}

/// The token of a new link of a user.
async fn token(control: &Control, user: &User, purpose: LinkPurpose) -> String {
    let by = AuditContext::gateway(clock::now());
    let issued = links().issue(&*control.store, user, purpose, &by).await.unwrap();
    token_in(&issued.path)
}

/// The token in the address of a link.
fn token_in(address: &str) -> String {
    address.split_once("?token=").unwrap().1.to_owned()
}

/// A user who has no password yet.
async fn invited(control: &Control) -> User {
    let new = NewUser {
        email: "new@example.com".to_owned(),
        username: None,
        password_hash: None,
        email_verified: false,
        role: Role::User,
        plan: domain::id::PlanId::from("leveler"),
        created_at: clock::now(),
    };
    control.store.add_user(&new, &AuditContext::operator(clock::now())).await.unwrap()
}

#[tokio::test]
async fn the_address_of_each_link_is_a_page() {
    let control = control().await;
    let user = invited(&control).await;
    for purpose in [LinkPurpose::VerifyEmail, LinkPurpose::ResetPassword, LinkPurpose::Invitation] {
        let by = AuditContext::gateway(clock::now());
        let issued = links().issue(&*control.store, &user, purpose, &by).await.unwrap();
        let mut browser = Browser::new(&control);
        for _ in 0..2 {
            let reply = browser.get(&issued.path).await;
            assert_eq!(reply.status, StatusCode::OK, "{}: {}", issued.path, reply.text);
            assert!(
                reply.text.contains("new@example.com") && reply.text.contains("name=\"token\"")
            );
            assert_eq!(reply.header("referrer-policy"), "same-origin");
            assert_eq!(reply.header("cache-control"), "no-store");
        }
    }
}

#[tokio::test]
async fn a_forgotten_password_is_reset_once() {
    let control = control().await;
    let ada = control.user().await;
    let mut logged_in = Browser::logged_in(&control, &ada.user.email).await;
    let token = token(&control, &ada.user, LinkPurpose::ResetPassword).await;
    let mut browser = Browser::new(&control);
    browser.get(&format!("/console/reset?token={token}")).await;
    let short = [("token", token.as_str()), ("new_password", "short")];
    let reply = browser.post("/console/reset", &short).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        reply.text.contains(&token) && reply.text.contains("8 to 128 characters"),
        "the form again"
    );
    let fields = [("token", token.as_str()), ("new_password", NEW_PASSWORD)];
    let reply = browser.post("/console/reset", &fields).await;
    assert_eq!(reply.header("location"), "/console/login?done=password", "{}", reply.text);
    assert!(browser.cookies.is_empty(), "the user logs in");
    assert_eq!(logged_in.get("/console").await.status, StatusCode::SEE_OTHER, "sessions end");
    assert_eq!(control.login(&ada.user.email, NEW_PASSWORD).await.status, StatusCode::OK);
    let reply = browser.post("/console/reset", &fields).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(reply.text.contains("This link cannot be used"), "{}", reply.text);
    let reply = browser.get(&format!("/console/reset?token={token}")).await;
    assert!(reply.text.contains("Send another link"), "{}", reply.text);
}

#[tokio::test]
async fn an_invited_user_sets_a_password() {
    let control = control().await;
    let user = invited(&control).await;
    let token = token(&control, &user, LinkPurpose::Invitation).await;
    let mut browser = Browser::new(&control);
    let page = browser.get(&format!("/console/invitation?token={token}")).await.text;
    assert!(page.contains("An account was made for you."), "{page}");
    let fields = [("token", token.as_str()), ("new_password", PASSWORD)];
    let reply = browser.post("/console/invitation", &fields).await;
    assert_eq!(reply.header("location"), "/console/login?done=password", "{}", reply.text);
    Browser::logged_in(&control, &user.email).await;
    assert_eq!(browser.post("/console/invitation", &fields).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_address_is_verified_by_the_button_and_not_by_opening_the_link() {
    let control = control().await;
    let user = invited(&control).await;
    let token = token(&control, &user, LinkPurpose::VerifyEmail).await;
    let mut browser = Browser::new(&control);
    browser.get(&format!("/console/verify?token={token}")).await;
    let verified_at =
        async || control.store.user(user.id).await.unwrap().unwrap().email_verified_at;
    assert_eq!(verified_at().await, None);
    let reply = browser.post("/console/verify", &[("token", &token)]).await;
    assert_eq!(reply.header("location"), "/console/login?done=verified", "{}", reply.text);
    assert!(verified_at().await.is_some());
    let reply = browser.get(&format!("/console/verify?token={token}")).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn links_of_one_purpose_and_forged_ones_are_of_no_other_use() {
    let control = control().await;
    let user = invited(&control).await;
    let verify = token(&control, &user, LinkPurpose::VerifyEmail).await;
    let mut browser = Browser::new(&control);
    for page in ["/console/reset", "/console/invitation", "/console/verify", "/console/setup"] {
        for token in ["", "x", "lt-kx-%22%3E%3Cscript%3E", &verify[..verify.len() - 1]] {
            let reply = browser.get(&format!("{page}?token={token}")).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{page} {token}: {}", reply.text);
            assert!(!reply.text.contains("<script>\""), "{}", reply.text);
        }
        assert_eq!(browser.get(page).await.status, StatusCode::FORBIDDEN, "{page}");
    }
    for page in ["/console/reset", "/console/invitation"] {
        let fields = [("token", verify.as_str()), ("new_password", NEW_PASSWORD)];
        assert_eq!(browser.post(page, &fields).await.status, StatusCode::FORBIDDEN, "{page}");
    }
    control.login(&user.email, NEW_PASSWORD).await.refused(401, "invalid_credentials");
    // A form of another site.
    let evil = ("origin", "https://evil.example".to_owned());
    let reply = browser.post_from(evil, "/console/verify", &[("token", &verify)]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert_eq!(
        browser.get(&format!("/console/verify?token={verify}")).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_first_admin_is_created_once() {
    let control = control().await;
    let issued = links().issue_setup(&*control.store, clock::now()).await.unwrap().unwrap();
    let token = token_in(&issued.path);
    let mut browser = Browser::new(&control);
    let page = browser.get(&issued.path).await.text;
    assert!(page.contains("This gateway has no admin yet."), "{page}");
    let bad = [("token", token.as_str()), ("email", "x"), ("new_password", PASSWORD)];
    let reply = browser.post("/console/setup", &bad).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    let fields =
        [("token", token.as_str()), ("email", "root@example.com"), ("new_password", PASSWORD)];
    let reply = browser.post("/console/setup", &fields).await;
    assert_eq!(reply.header("location"), "/console", "{}", reply.text);
    assert!(browser.get("/console").await.text.contains("root@example.com"), "logged in");
    let root = control.store.user_by_email("root@example.com").await.unwrap().unwrap();
    assert_eq!(root.role, Role::Admin);
    let mut other = Browser::new(&control);
    let again =
        [("token", token.as_str()), ("email", "eve@example.com"), ("new_password", PASSWORD)];
    assert_eq!(other.post("/console/setup", &again).await.status, StatusCode::FORBIDDEN);
    assert!(other.cookies.is_empty());
    assert_eq!(other.get(&issued.path).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn without_a_mail_server_the_pages_say_what_to_do() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::new(&control);
    let page = browser.get("/console/forgot").await.text;
    assert!(page.contains("no mail server") && page.contains("knockx user invite"), "{page}");
    let reply = browser.post("/console/forgot", &[("email", &ada.user.email)]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let page = browser.get("/console/account").await.text;
    assert!(page.contains("no mail server") && !page.contains("Send the link again"), "{page}");
    let reply = browser.post("/console/account/verify", &[]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(reply.text.contains("no mail server"), "{}", reply.text);
}
