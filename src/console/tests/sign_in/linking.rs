//! Identities of accounts that exist: linking, unlinking, the second factor, and confirming.

use super::*;
use crate::control::tests::SECRET;
use domain::actor::AuditContext;
use domain::key::Pepper;
use domain::second_factor::SecondFactorKeys;
use domain::user::UserStatus;

const ACCOUNT: &str = "/console/account";
const LINK: &str = "/console/account/identity/link";
const UNLINK: &str = "/console/account/identity/unlink";
const CODE: &str = "/console/login/code";

/// The address that a page leads to, which a form cannot.
fn address_in(page: &str) -> String {
    let (_, rest) = page.split_once("content=\"0; url=").unwrap();
    rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&")
}

/// Links the identity of a person in the pages.
async fn link(provider: &OpenIdProvider, browser: &mut Browser<'_>, person: &Person) -> Reply {
    browser.get(ACCOUNT).await;
    let page = browser.post(LINK, &[]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let back = provider.sign_in(&address_in(&page.text), person);
    browser.get(&back).await
}

/// Turns on a second factor. Returns a code that the app shows later.
async fn turn_on_factor(control: &Control, browser: &mut Browser<'_>, user: &User) -> String {
    let page = "/console/account/second-factor";
    browser.get(page).await;
    browser.post(page, &[("current_password", PASSWORD)]).await;
    let factor = control.store.second_factor(user.id).await.unwrap().unwrap();
    let keys = SecondFactorKeys::of(&Pepper::new(SECRET));
    let secret = keys.open(&factor.secret, user.id).unwrap();
    let now = clock::now();
    let set_up = format!("{page}/set-up");
    let reply = browser.post(&set_up, &[("code", &secret.code_at(now))]).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    secret.code_at(now.checked_add(30.seconds()).unwrap())
}

#[tokio::test]
async fn an_address_that_both_sides_have_verified_links_once() {
    let (provider, control) = gateway("").await;
    let known = verified_user(&control).await;
    let mut browser = Browser::new(&control);
    assert_eq!(sign_in(&provider, &mut browser, &ada()).await.header("location"), "/console");
    let identities = control.store.identities_of(known.id).await.unwrap();
    assert_eq!(identities.len(), 1);
    assert!(control.login(EMAIL, PASSWORD).await.status.is_success(), "the password stays");
    // The address belongs to another person at the provider now.
    let successor = Person { subject: "another".to_owned(), ..ada() };
    let reply = sign_in(&provider, &mut Browser::new(&control), &successor).await;
    refused(&reply, 409, "cannot be linked automatically");

    let suspended = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    let by = AuditContext::operator(clock::now());
    control.store.change_user(known.id, &suspended, &by).await.unwrap();
    let reply = sign_in(&provider, &mut Browser::new(&control), &ada()).await;
    refused(&reply, 403, "This account is suspended.");
    // A deleted account is another person's: its address is reserved for a day.
    let secret = domain::server_secret::ServerSecret::of(&Pepper::new(SECRET));
    control.store.erase_user(known.id, &secret, &by).await.unwrap();
    let reply = sign_in(&provider, &mut Browser::new(&control), &ada()).await;
    refused(&reply, 409, "Another account had this e-mail address today.");
}

#[tokio::test]
async fn the_second_factor_is_asked_for_after_the_provider() {
    let (provider, control) = gateway("").await;
    let known = verified_user(&control).await;
    let mut owner = Browser::logged_in(&control, EMAIL).await;
    let code = turn_on_factor(&control, &mut owner, &known).await;

    let mut browser = Browser::new(&control);
    assert_eq!(sign_in(&provider, &mut browser, &ada()).await.header("location"), CODE);
    assert!(!is_logged_in(&mut browser).await);
    assert!(control.store.identities_of(known.id).await.unwrap().is_empty(), "not linked yet");
    assert!(browser.get(CODE).await.text.contains("This account has a second factor."));
    let reply = browser.post(CODE, &[("code", "000000")]).await;
    refused(&reply, 401, "The code is wrong");
    refused(&browser.post(CODE, &[]).await, 403, "Enter a code of the second factor.");
    let mut stranger = Browser::new(&control);
    stranger.get("/console/login").await;
    refused(&stranger.post(CODE, &[("code", &code)]).await, 403, "This sign-in has expired");
    let mut copy = browser.clone();
    let reply = browser.post(CODE, &[("code", &code)]).await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/console"));
    assert!(is_logged_in(&mut browser).await);
    assert_eq!(control.store.identities_of(known.id).await.unwrap().len(), 1);
    assert_ne!(copy.post(CODE, &[("code", &code)]).await.status, StatusCode::SEE_OTHER);
    let expected = "external_identity.sign_in";
    assert_eq!(actions(&control, &known).await.last().unwrap(), expected);
}

#[tokio::test]
async fn an_identity_is_linked_and_unlinked_on_the_page_of_the_account() {
    let (provider, control) = gateway("").await;
    let known = control.user().await.user;
    let mut browser = Browser::logged_in(&control, EMAIL).await;
    assert!(browser.get(ACCOUNT).await.text.contains("Link Acme ID"));
    // Neither the address nor its verification matters to who is logged in.
    let work = Person { is_verified: false, ..Person::verified("work", "ada@work.example") };
    let reply = link(&provider, &mut browser, &work).await;
    assert_eq!(reply.header("location"), "/console/account?done=linked", "{}", reply.text);
    let page = browser.get("/console/account?done=linked").await.text;
    assert!(page.contains("Acme ID: ada@work.example, linked") && !page.contains("Link Acme ID"));
    let mut other = Browser::new(&control);
    assert_eq!(sign_in(&provider, &mut other, &work).await.header("location"), "/console");
    assert!(other.get(ACCOUNT).await.text.contains(EMAIL));

    // Another account cannot have it, nor this one a second of the provider.
    control.person("bob@example.com", domain::user::Role::User).await;
    let mut bob = Browser::logged_in(&control, "bob@example.com").await;
    refused(&link(&provider, &mut bob, &work).await, 409, "belongs to another account");
    refused(&link(&provider, &mut browser, &ada()).await, 409, "Unlink it first.");

    let tokens = control.login(EMAIL, PASSWORD).await.ok();
    let token = tokens["access_token"].as_str();
    let list = control.get("/api/v1/users/identities", token).await.ok();
    assert_eq!(list["data"][0]["email"], "ada@work.example", "{list}");
    let export = control.get("/api/v1/users/export", token).await.ok();
    assert_eq!(export["identities"][0]["subject"], "work", "{export}");
    let id = list["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/users/identities/{id}/unlink");
    let wrong = serde_json::json!({ "current_password": "wrong" });
    control.post(&path, token, wrong).await.refused(403, "wrong_password");
    bob.get(ACCOUNT).await;
    assert_eq!(bob.post(UNLINK, &[("id", &id)]).await.status, StatusCode::NOT_FOUND);
    browser.get(ACCOUNT).await;
    let reply = browser.post(UNLINK, &[("id", &id)]).await;
    assert_eq!(reply.header("location"), "/console/account?done=unlinked");
    let right = serde_json::json!({ "current_password": PASSWORD });
    control.post(&path, token, right).await.refused(404, "not_found");
    let reply = sign_in(&provider, &mut Browser::new(&control), &work).await;
    refused(&reply, 403, "no verified e-mail address");
    let actions = actions(&control, &known).await;
    assert_eq!(actions.last().unwrap(), "external_identity.unlink", "{actions:?}");
}

#[tokio::test]
async fn linking_belongs_to_the_session_that_began_it() {
    let (provider, control) = gateway("").await;
    let ada_user = control.user().await.user;
    let mut browser = Browser::logged_in(&control, EMAIL).await;
    browser.expire_confirmation().await;
    browser.get(ACCOUNT).await;
    let reply = browser.post(LINK, &[]).await;
    assert!(reply.header("location").starts_with("/console/confirm?next="), "{}", reply.text);
    let mut browser = Browser::logged_in(&control, EMAIL).await;
    browser.get(ACCOUNT).await;
    // A link of another site begins nothing.
    assert_eq!(browser.get(LINK).await.header("location"), ACCOUNT);
    let page = browser.post(LINK, &[]).await;
    let back = provider.sign_in(&address_in(&page.text), &Person::verified("eve", "e@example.com"));
    // The attempt goes with another session of the browser: nothing is linked.
    control.person("bob@example.com", domain::user::Role::User).await;
    let bob = Browser::logged_in(&control, "bob@example.com").await;
    let mut mixed = browser.clone();
    mixed.cookies.retain(|(name, _)| name != "kx");
    mixed.cookies.extend(bob.cookies.into_iter().filter(|(name, _)| name == "kx"));
    refused(&mixed.get(&back).await, 403, "began in another browser");
    assert!(control.store.identities_of(ada_user.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_account_without_a_password_confirms_at_the_provider_and_sets_one() {
    let (provider, control) = gateway("").await;
    let mut browser = Browser::new(&control);
    sign_in(&provider, &mut browser, &ada()).await;
    let created = user(&control, EMAIL).await.unwrap();
    let identity = control.store.identities_of(created.id).await.unwrap().remove(0);
    let page = browser.get(ACCOUNT).await.text;
    assert!(page.contains("Set a password") && !page.contains("name=\"current_password\""));
    let id = identity.id.to_string();
    refused(&browser.post(UNLINK, &[("id", &id)]).await, 409, "the only way to log in");

    browser.expire_confirmation().await;
    let first = "/console/account/first-password";
    let new = [("new_password", PASSWORD)];
    let reply = browser.post(first, &new).await;
    assert_eq!(reply.header("location"), "/console/confirm?next=%2Fconsole%2Faccount");
    let page = browser.get("/console/confirm?next=%2Fconsole%2Faccount").await.text;
    assert!(page.contains("Sign in again with Acme ID") && !page.contains("name=\"password\""));
    for (authenticated, person, status) in [
        (None, "ada at acme", 403),
        (Some(3600), "ada at acme", 403),
        (Some(0), "another", 409),
        (Some(0), "ada at acme", 303),
    ] {
        browser.get("/console/confirm").await;
        let form = [("next", "/console/keys")];
        let page = browser.post("/console/confirm/provider", &form).await;
        let url = address_in(&page.text);
        assert!(url.contains("prompt=login") && url.contains("max_age=0"), "{url}");
        let person = Person { authenticated, ..Person::verified(person, EMAIL) };
        let reply = browser.get(&provider.sign_in(&url, &person)).await;
        assert_eq!(reply.status.as_u16(), status, "{authenticated:?}: {}", reply.text);
        if status == 303 {
            assert_eq!(reply.header("location"), "/console/keys");
        }
    }
    browser.get(ACCOUNT).await;
    let reply = browser.post(first, &new).await;
    assert_eq!(reply.header("location"), "/console/account?done=password", "{}", reply.text);
    assert!(control.login(EMAIL, PASSWORD).await.status.is_success());
    browser.get(ACCOUNT).await;
    refused(&browser.post(first, &new).await, 422, "Enter your current password.");
    let reply = browser.post(UNLINK, &[("id", &id)]).await;
    assert_eq!(reply.header("location"), "/console/account?done=unlinked", "{}", reply.text);
}

#[tokio::test]
async fn a_session_of_a_person_who_entered_no_password_has_confirmed_nothing() {
    let (provider, control) = gateway("").await;
    for (authenticated, needs_confirmation) in [(Some(3600), true), (Some(1), false), (None, false)]
    {
        let mut browser = Browser::new(&control);
        let person = Person { authenticated, ..ada() };
        sign_in(&provider, &mut browser, &person).await;
        let status = browser.get("/console/keys/new").await.status;
        assert_eq!(status == StatusCode::SEE_OTHER, needs_confirmation, "{authenticated:?}");
    }
}

#[tokio::test]
async fn linking_and_unlinking_are_mailed() {
    let provider = OpenIdProvider::start().await;
    let mail = "[mail]\nhost = \"127.0.0.1\"\ntls = \"none\"\nfrom = \"kx@example.com\"\n";
    let control = control_with(&(provider.configuration("") + mail), None).await;
    verified_user(&control).await;
    let mut browser = Browser::new(&control);
    sign_in(&provider, &mut browser, &ada()).await;
    let mut mails = control.mails.lock().await;
    let subject = |job: crate::mail::Job| match job {
        crate::mail::Job::Mail(mail) => {
            (mail.to.clone(), mail.content.text(mail.language, "x").subject)
        }
        crate::mail::Job::PasswordReset { .. } => panic!("no such mail"),
    };
    let expected = (EMAIL.to_owned(), "A sign-in provider was linked");
    assert_eq!(subject(mails.try_recv().unwrap()), expected);
    sign_in(&provider, &mut Browser::new(&control), &ada()).await;
    assert!(mails.try_recv().is_err(), "once");
    let user = user(&control, EMAIL).await.unwrap();
    let id = control.store.identities_of(user.id).await.unwrap()[0].id.to_string();
    browser.get(ACCOUNT).await;
    browser.post(UNLINK, &[("id", &id)]).await;
    assert_eq!(subject(mails.try_recv().unwrap()).1, "A sign-in provider was unlinked");
}
