//! Sign-in at a provider, which the gateway reaches over HTTP.

mod attacks;
mod linking;

use super::*;
use crate::control::tests::control_with;
use crate::control::tests::openid_provider::{Change, OpenIdProvider, Person, Signing};
use domain::user::User;
use store::UserChange;
use store::audit::AuditFilter;

const START: &str = "/console/oidc/start";
const EMAIL: &str = "ada@example.com";

/// A gateway with a provider.
async fn gateway(more: &str) -> (OpenIdProvider, Control) {
    let provider = OpenIdProvider::start().await;
    let control = control_with(&provider.configuration(more), None).await;
    (provider, control)
}

fn ada() -> Person {
    Person::verified("ada at acme", EMAIL)
}

/// Leaves for the provider. Returns the address there.
async fn leave(browser: &mut Browser<'_>) -> String {
    let reply = browser.get(START).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text);
    reply.header("location").to_owned()
}

/// Signs in at the provider, and comes back.
async fn sign_in(provider: &OpenIdProvider, browser: &mut Browser<'_>, person: &Person) -> Reply {
    let url = leave(browser).await;
    browser.get(&provider.sign_in(&url, person)).await
}

async fn is_logged_in(browser: &mut Browser<'_>) -> bool {
    browser.get("/console").await.status == StatusCode::OK
}

async fn user(control: &Control, email: &str) -> Option<User> {
    control.store.user_by_email(email).await.unwrap()
}

/// A user with a password, whose address is verified.
async fn verified_user(control: &Control) -> User {
    let user = control.user().await.user;
    let change = UserChange { email_verified_at: Some(clock::now()), ..UserChange::default() };
    let by = domain::actor::AuditContext::operator(clock::now());
    control.store.change_user(user.id, &change, &by).await.unwrap().unwrap()
}

async fn actions(control: &Control, user: &User) -> Vec<String> {
    let subject = Some(format!("user:{}", user.id));
    let filter = AuditFilter { subject, ..AuditFilter::default() };
    let entries = control.store.audit(&filter, None, 99).await.unwrap();
    entries.into_iter().rev().map(|entry| entry.action).collect()
}

#[track_caller]
fn refused(reply: &Reply, status: u16, words: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert!(reply.text.contains(words), "{words}: {}", reply.text);
}

#[tokio::test]
async fn the_first_sign_in_creates_an_account_and_the_next_finds_it() {
    let (provider, control) = gateway("").await;
    let mut browser = Browser::new(&control);
    let page = browser.get("/console/login?next=/console/keys").await.text;
    assert!(page.contains("Sign in with Acme ID"), "{page}");
    assert!(page.contains("href=\"/console/oidc/start?next=%2Fconsole%2Fkeys\""), "{page}");
    assert!(browser.get("/console/signup").await.text.contains("Sign in with Acme ID"));

    let reply = browser.get("/console/oidc/start?next=%2Fconsole%2Fkeys").await;
    let cookie = reply.header("set-cookie");
    assert!(cookie.starts_with("kx_sign_in=") && cookie.contains("; HttpOnly; SameSite=Lax"));
    let back = provider.sign_in(reply.header("location"), &ada());
    let reply = browser.get(&back).await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/console/keys"));
    assert!(browser.cookies.iter().all(|(name, _)| name != "kx_sign_in"), "it is removed");
    assert!(is_logged_in(&mut browser).await);
    let created = user(&control, EMAIL).await.unwrap();
    assert!(created.email_verified_at.is_some(), "the provider has verified it");
    let expected = ["user.add", "external_identity.link", "external_identity.sign_in"];
    assert_eq!(actions(&control, &created).await, expected);

    // In another browser, by the other kind of key, and after the address has changed at the provider.
    *provider.behavior().signing.lock() = Signing::Es256;
    let mut other = Browser::new(&control);
    let renamed = Person { email: Some("lovelace@example.com".to_owned()), ..ada() };
    assert_eq!(sign_in(&provider, &mut other, &renamed).await.header("location"), "/console");
    assert!(is_logged_in(&mut other).await);
    assert_eq!(user(&control, "lovelace@example.com").await, None, "the identity is what counts");
    assert_eq!(actions(&control, &created).await.len(), 4);
    assert_eq!(other.get(START).await.header("location"), "/console", "logged in already");
    // No password was set.
    control.login(EMAIL, PASSWORD).await.refused(401, "invalid_credentials");
}

#[tokio::test]
async fn an_address_at_the_userinfo_endpoint_is_found() {
    let (provider, control) = gateway("").await;
    *provider.behavior().thin_tokens.lock() = true;
    let mut browser = Browser::new(&control);
    assert_eq!(sign_in(&provider, &mut browser, &ada()).await.header("location"), "/console");
    assert!(user(&control, EMAIL).await.is_some());
    let unverified = Person { is_verified: false, ..Person::verified("eve", "eve@example.com") };
    let reply = sign_in(&provider, &mut Browser::new(&control), &unverified).await;
    refused(&reply, 403, "no verified e-mail address");
}

#[tokio::test]
async fn accounts_are_created_as_the_operator_decides() {
    for (more, status) in [
        ("[accounts]\nregistration = false", 403),
        ("create_accounts = true\n[accounts]\nregistration = false", 303),
        ("create_accounts = false", 403),
        ("allowed_email_domains = [\"example.org\"]", 403),
        ("allowed_email_domains = \"example.org, Example.COM\"", 303),
    ] {
        let more = more.replace("[accounts]\n", "");
        let (oidc, accounts): (Vec<_>, Vec<_>) =
            more.lines().partition(|line| !line.starts_with("registration"));
        let provider = OpenIdProvider::start().await;
        let configuration = provider.configuration(&oidc.join("\n"));
        let accounts = format!("[accounts]\n{}\n[accounts.oidc]", accounts.join("\n"));
        let configuration = configuration.replace("[accounts.oidc]", &accounts);
        let control = control_with(&configuration, None).await;
        let reply = sign_in(&provider, &mut Browser::new(&control), &ada()).await;
        assert_eq!(reply.status.as_u16(), status, "{more}: {}", reply.text);
        assert_eq!(user(&control, EMAIL).await.is_some(), status == 303, "{more}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_named_and_stops_nothing_else() {
    let (provider, control) = gateway("").await;
    let behavior = provider.behavior();
    *behavior.is_down.lock() = true;
    let known = verified_user(&control).await;
    let mut browser = Browser::new(&control);
    let reply = browser.get(START).await;
    refused(&reply, 503, "The sign-in provider is unavailable.");
    assert!(reply.text.contains("name=\"password\""), "the other way in");
    Browser::logged_in(&control, &known.email).await;
    assert!(control.get("/health", None).await.status.is_success());

    // It goes down between the two visits.
    let (provider, control) = gateway("").await;
    let mut browser = Browser::new(&control);
    let url = leave(&mut browser).await;
    let back = provider.sign_in(&url, &ada());
    *provider.behavior().is_down.lock() = true;
    refused(&browser.get(&back).await, 503, "The sign-in provider is unavailable.");
    assert!(!is_logged_in(&mut browser).await);
}

#[tokio::test]
async fn without_a_provider_there_is_no_such_page() {
    let control = control().await;
    let mut browser = Browser::new(&control);
    assert!(!browser.get("/console/login").await.text.contains("Sign in with"));
    for path in [START, "/console/oidc/callback?code=a&state=b"] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(browser.get("/console/login/code").await.header("location"), "/console");
}
