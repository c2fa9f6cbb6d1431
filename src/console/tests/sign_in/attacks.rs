//! What hostile people do with a sign-in.

use super::*;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const INVALID: &str = "This sign-in has expired, was used before, or began in another browser.";
const REJECTED: &str = "The sign-in provider did not confirm who you are.";

#[tokio::test]
async fn a_response_belongs_to_the_browser_that_began() {
    let (provider, control) = gateway("").await;
    let (mut victim, mut attacker) = (Browser::new(&control), Browser::new(&control));
    let url = leave(&mut attacker).await;
    let eve = Person::verified("eve", "eve@example.com");
    let back = provider.sign_in(&url, &eve);
    // Login CSRF: the victim would act in the account of the attacker.
    refused(&victim.get(&back).await, 403, INVALID);
    leave(&mut victim).await;
    refused(&victim.get(&back).await, 403, INVALID);
    assert!(!is_logged_in(&mut victim).await);
    assert_eq!(
        provider.behavior().token_requests.load(Ordering::Relaxed),
        0,
        "the code is unspent"
    );
    assert_eq!(attacker.get(&back).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_state_is_good_once_and_unforgeable() {
    let (provider, control) = gateway("").await;
    let mut browser = Browser::new(&control);
    let url = leave(&mut browser).await;
    let back = provider.sign_in(&url, &ada());
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    for wrong in ["", "x"] {
        let path = format!("/console/oidc/callback?code={code}&state={wrong}");
        refused(&browser.get(&path).await, 403, INVALID);
    }
    let mut forged = browser.clone();
    forged.cookies = vec![("kx_sign_in".to_owned(), "e30.e30.e30".to_owned())];
    refused(&forged.get(&back).await, 403, INVALID);
    let mut copy = browser.clone();
    assert_eq!(browser.get(&back).await.status, StatusCode::SEE_OTHER);
    // With the cookie, which the browser has removed, and even with another code.
    refused(&copy.get(&back).await, 403, INVALID);
    let again = provider.sign_in(&url, &ada());
    refused(&copy.get(&again).await, 403, INVALID);
    assert!(!is_logged_in(&mut copy).await);
}

#[tokio::test]
async fn of_two_callbacks_at_once_one_begins_a_session() {
    let (provider, control) = gateway("").await;
    let mut browser = Browser::new(&control);
    let url = leave(&mut browser).await;
    let back = provider.sign_in(&url, &ada());
    let mut copy = browser.clone();
    let (one, two) = tokio::join!(browser.get(&back), copy.get(&back));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 403]);
    // Two attempts of a person without an account: both get in, to one account.
    let bob = Person::verified("bob", "bob@example.com");
    let (mut one, mut two) = (Browser::new(&control), Browser::new(&control));
    let paths = (
        provider.sign_in(&leave(&mut one).await, &bob),
        provider.sign_in(&leave(&mut two).await, &bob),
    );
    let (first, second) = tokio::join!(one.get(&paths.0), two.get(&paths.1));
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (303, 303), "{}", second.text);
    assert!(is_logged_in(&mut one).await && is_logged_in(&mut two).await);
}

#[tokio::test]
async fn a_token_that_is_not_exactly_right_is_rejected() {
    let (provider, control) = gateway("").await;
    let set =
        |key: &'static str, value: Value| move |claims: &mut Value| claims[key] = value.clone();
    let now = clock::now().as_second();
    let changes: Vec<(&str, Change)> = vec![
        ("issuer", Box::new(set("iss", json!("https://evil.example")))),
        ("no issuer", Box::new(set("iss", Value::Null))),
        ("audience", Box::new(set("aud", json!("another client")))),
        ("audiences", Box::new(set("aud", json!(["kx client", "another client"])))),
        ("party", Box::new(set("azp", json!("another client")))),
        ("nonce", Box::new(set("nonce", json!("of another sign-in")))),
        ("no nonce", Box::new(set("nonce", Value::Null))),
        ("expired", Box::new(set("exp", json!(now - 61)))),
        ("no expiry", Box::new(set("exp", Value::Null))),
        ("future", Box::new(set("iat", json!(now + 600)))),
        ("not yet", Box::new(set("nbf", json!(now + 600)))),
        ("no subject", Box::new(set("sub", json!("")))),
        ("long subject", Box::new(set("sub", json!("x".repeat(256))))),
    ];
    let count = changes.len();
    for (what, change) in changes {
        *provider.behavior().change.lock() = Some(change);
        let reply = sign_in(&provider, &mut Browser::new(&control), &ada()).await;
        assert_eq!(reply.status.as_u16(), 403, "{what}: {}", reply.text);
        assert!(reply.text.contains(REJECTED), "{what}: {}", reply.text);
    }
    assert!(count > 10);
    assert_eq!(user(&control, EMAIL).await, None);
    *provider.behavior().change.lock() =
        Some(Box::new(|claims| claims["aud"] = json!(["kx client"])));
    assert_eq!(sign_in(&provider, &mut Browser::new(&control), &ada()).await.status.as_u16(), 303);
}

#[tokio::test]
async fn a_signature_that_the_key_set_does_not_prove_is_rejected() {
    let (provider, control) = gateway("").await;
    for signing in
        [Signing::None, Signing::Hs256WithPublicKey, Signing::UnknownKey, Signing::WrongKey]
    {
        *provider.behavior().signing.lock() = signing;
        let reply = sign_in(&provider, &mut Browser::new(&control), &ada()).await;
        assert_eq!(reply.status.as_u16(), 403, "{signing:?}: {}", reply.text);
        assert!(reply.text.contains(REJECTED), "{signing:?}");
    }
    assert_eq!(user(&control, EMAIL).await, None);
    // A flood of tokens with unknown keys fetches the set once more, not once each.
    *provider.behavior().signing.lock() = Signing::UnknownKey;
    for _ in 0..10 {
        sign_in(&provider, &mut Browser::new(&control), &ada()).await;
    }
    let fetches = provider.behavior().key_fetches.load(Ordering::Relaxed);
    assert!(fetches <= 2, "{fetches} fetches");
    *provider.behavior().signing.lock() = Signing::Rs256;
    assert_eq!(sign_in(&provider, &mut Browser::new(&control), &ada()).await.status.as_u16(), 303);
}

#[tokio::test]
async fn failed_sign_ins_of_an_address_are_slowed_down() {
    let (provider, control) = gateway("").await;
    let calls = || provider.behavior().token_requests.load(Ordering::Relaxed);
    *provider.behavior().signing.lock() = Signing::WrongKey;
    let mut statuses = Vec::new();
    for _ in 0..32 {
        let reply = sign_in(&provider, &mut Browser::new(&control), &ada()).await;
        statuses.push(reply.status.as_u16());
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    assert!(calls() < 32, "the provider is spared");
}

#[tokio::test]
async fn no_sign_in_leads_to_another_site() {
    let (provider, control) = gateway("").await;
    for next in ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2Fconsole%2F..%2F%2Fevil"] {
        let mut browser = Browser::new(&control);
        browser.headers[0] = ("host", "evil.example".to_owned());
        let reply = browser.get(&format!("{START}?next={next}")).await;
        // The redirect URI is checked by the provider of the test: it is the configured one.
        let back = provider.sign_in(reply.header("location"), &ada());
        assert_eq!(browser.get(&back).await.header("location"), "/console", "{next}");
    }
    // What the provider says in its response is shown nowhere.
    let mut browser = Browser::new(&control);
    let url = leave(&mut browser).await;
    let state = url.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let words = "%3Cscript%3Eevil%3C%2Fscript%3E";
    let path =
        format!("/console/oidc/callback?error={words}&error_description={words}&state={state}");
    let reply = browser.get(&path).await;
    refused(&reply, 403, REJECTED);
    assert!(!reply.text.contains("evil"), "{}", reply.text);
}

#[tokio::test]
async fn an_issuer_in_the_response_must_be_the_configured_one() {
    let (provider, control) = gateway("").await;
    let mut browser = Browser::new(&control);
    let back = provider.sign_in(&leave(&mut browser).await, &ada());
    let reply = browser.get(&format!("{back}&iss=https%3A%2F%2Fevil.example")).await;
    refused(&reply, 403, REJECTED);
    let back = provider.sign_in(&leave(&mut browser).await, &ada());
    let issuer: String = form_urlencoded::byte_serialize(provider.issuer.as_bytes()).collect();
    assert_eq!(browser.get(&format!("{back}&iss={issuer}")).await.status.as_u16(), 303);
}

#[tokio::test]
async fn who_registered_with_anothers_address_keeps_nothing() {
    let (provider, control) = gateway("").await;
    // The squatter registers with Ada's address, which stays unverified, and stays logged in.
    let mut squatter = Browser::new(&control);
    squatter.get("/console/signup").await;
    let fields = [("email", EMAIL), ("password", PASSWORD)];
    assert_eq!(squatter.post("/console/signup", &fields).await.status, StatusCode::CREATED);
    let account = user(&control, EMAIL).await.unwrap();
    assert_eq!(account.email_verified_at, None);

    let mut owner = Browser::new(&control);
    assert_eq!(sign_in(&provider, &mut owner, &ada()).await.header("location"), "/console");
    assert!(is_logged_in(&mut owner).await);
    assert!(!is_logged_in(&mut squatter).await, "the session has ended");
    control.login(EMAIL, PASSWORD).await.refused(401, "invalid_credentials");
    let keys = store::all_keys(&*control.store, account.id).await.unwrap();
    assert!(!keys.is_empty() && keys.iter().all(|key| key.revoked_at.is_some()), "{keys:?}");
    let taken = user(&control, EMAIL).await.unwrap();
    assert!(taken.id == account.id && taken.email_verified_at.is_some());
}

#[tokio::test]
async fn an_unverified_address_reaches_no_account() {
    let (provider, control) = gateway("").await;
    let known = verified_user(&control).await;
    for person in [
        Person { is_verified: false, ..ada() },
        Person { email: None, ..ada() },
        Person::verified("eve", "no address"),
    ] {
        let reply = sign_in(&provider, &mut Browser::new(&control), &person).await;
        refused(&reply, 403, "no verified e-mail address");
    }
    assert!(control.store.identities_of(known.id).await.unwrap().is_empty());
    // An admin whose address was never verified: the role is not for the owner of the address.
    let admin = control.admin().await.user;
    let person = Person::verified("root", &admin.email);
    let reply = sign_in(&provider, &mut Browser::new(&control), &person).await;
    refused(&reply, 409, "cannot be linked automatically");
    assert_eq!(user(&control, &admin.email).await, Some(admin));
}
