//! The playground, and the way from a new account to the first call.

use super::*;
use domain::actor::AuditContext;
use domain::key::KeyLimits;
use domain::user::LimitOverrides;
use store::UserChange;

const PLAYGROUND: &str = "/console/playground";

#[tokio::test]
async fn the_playground_offers_the_models_of_the_plan_that_chat() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let page = browser.get(PLAYGROUND).await.text;
    assert!(page.contains("<option>grok-4.3</option>"), "{page}");
    assert!(!page.contains("multi-agent"), "offers responses alone: {page}");
    assert!(page.contains("You have no active key."), "{page}");
    control.key(ada.user.id, None, KeyLimits::default()).await;
    assert!(!browser.get(PLAYGROUND).await.text.contains("You have no key"));

    let models = Some(["grok-4.7".into()].into());
    let overrides = LimitOverrides { models, ..LimitOverrides::default() };
    let change = UserChange { overrides: Some(overrides), ..UserChange::default() };
    let by = AuditContext::operator(clock::now());
    control.store.change_user(ada.user.id, &change, &by).await.unwrap();
    let page = browser.get(PLAYGROUND).await.text;
    assert!(page.contains("<option>grok-4.7</option>") && !page.contains("grok-4.3<"), "{page}");
}

#[tokio::test]
async fn the_playground_sends_the_key_to_no_page() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let page = browser.get(PLAYGROUND).await.text;
    let form = page.split("id=\"playground\"").nth(1).unwrap().split("</form>").next().unwrap();
    // Even if the script fails, a form without names and address sends nothing.
    for word in [" name=", " action=", " method="] {
        assert!(!form.contains(word), "{word}: {form}");
    }
    assert!(page.contains("<noscript>") && page.contains("curl -N"), "{page}");
    assert!(page.contains("/console/assets/playground-"), "{page}");
    assert!(!browser.get("/console").await.text.contains("playground-"), "only here");
    // The script reads these, so they are there.
    let script = include_str!("../../../assets/console/playground.js");
    for part in script.split("field(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(page.contains(&format!("id=\"{part}\"")), "{part}");
    }
    for part in script.split("texts.").skip(1) {
        let name: String = part.chars().take_while(char::is_ascii_alphabetic).collect();
        assert!(form.contains(&format!("data-{name}=\"")), "{name}");
    }
}

#[tokio::test]
async fn who_has_never_called_is_told_how() {
    let control = control().await;
    let ada = control.user().await;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    assert!(browser.get("/console").await.text.contains("No calls in these days."));
    control.charged(ada.user.id, |_| ()).await;
    let page = browser.get("/console").await.text;
    assert!(
        !page.contains("No calls in these days.") && page.contains("35 tokens in 1 calls"),
        "{page}"
    );
}

#[tokio::test]
async fn a_new_key_leads_to_the_playground() {
    let control = control().await;
    let mut browser = Browser::new(&control);
    browser.get("/console/signup").await;
    let fields = [("email", "ada@example.com"), ("password", "correct horse battery staple")];
    let welcome = browser.post("/console/signup", &fields).await.text;
    assert!(welcome.contains("data-try-key"), "{welcome}");
    browser.get("/console/keys/new").await;
    let created =
        browser.post("/console/keys/new", &[("name", "laptop"), ("scope", "all")]).await.text;
    assert!(created.contains("data-try-key") && created.contains("id=\"api-key\""), "{created}");
}
