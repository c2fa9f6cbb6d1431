//! Setting up a second factor, and logging in with it.

use super::*;
use crate::control::tests::SECRET;
use domain::id::UserId;
use domain::key::Pepper;
use domain::second_factor::SecondFactorKeys;
use jiff::SignedDuration;
use system::clock;

const PAGE: &str = "/console/account/second-factor";
const SET_UP: &str = "/console/account/second-factor/set-up";
const OFF: &str = "/console/account/second-factor/off";
const CODES: &str = "/console/account/second-factor/codes";
const LOGIN: &str = "/console/login";

/// The code that the user's app shows so many steps from now.
async fn code(control: &Control, user: UserId, steps: i64) -> String {
    let factor = control.store.second_factor(user).await.unwrap().unwrap();
    let secret = SecondFactorKeys::of(&Pepper::new(SECRET)).open(&factor.secret, user).unwrap();
    secret.code_at(clock::now() + SignedDuration::from_secs(30 * steps))
}

/// The recovery codes that a page shows.
fn recovery_codes(page: &str) -> Vec<String> {
    let codes = page.split("<pre><code>").nth(1).unwrap().split("</code>").next().unwrap();
    codes.split_whitespace().map(str::to_owned).collect()
}

/// Turns on the second factor in the pages. Returns the recovery codes.
async fn turn_on(control: &Control, browser: &mut Browser<'_>, user: UserId) -> Vec<String> {
    browser.get(PAGE).await;
    let reply = browser.post(PAGE, &[("current_password", PASSWORD)]).await;
    assert_eq!(reply.header("location"), SET_UP, "{}", reply.text);
    let code = code(control, user, 0).await;
    let reply = browser.post(SET_UP, &[("code", &code)]).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    recovery_codes(&reply.text)
}

#[tokio::test]
async fn a_second_factor_is_set_up_with_a_picture_or_a_text() {
    let control = control().await;
    let ada = control.user().await;
    let user = ada.user.id;
    let mut browser = Browser::logged_in(&control, &ada.user.email).await;
    let mut other = Browser::logged_in(&control, &ada.user.email).await;
    assert!(browser.get(PAGE).await.text.contains("Set up a second factor"));
    assert_eq!(browser.get(SET_UP).await.header("location"), PAGE, "nothing has begun");
    let reply = browser.post(PAGE, &[("current_password", "wrong one")]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(reply.text.contains("The password is wrong."));
    browser.post(PAGE, &[("current_password", PASSWORD)]).await;
    let page = browser.get(SET_UP).await.text;
    assert!(page.contains("src=\"data:image/svg+xml;base64,"), "{page}");
    assert!(page.contains("otpauth://totp/KnockXPrime:ada@example.com"), "{page}");
    let reply = browser.post(SET_UP, &[("code", "no code")]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(reply.text.contains("The code is wrong") && reply.text.contains("data:image/svg"));
    assert!(browser.get(PAGE).await.text.contains("Set up a second factor"), "still off");

    let codes = turn_on(&control, &mut browser, user).await;
    assert!(codes.len() >= 8, "{codes:?}");
    let page = browser.get(PAGE).await.text;
    assert!(page.contains("Turn off the second factor") && !page.contains(&codes[0]), "{page}");
    assert_eq!(other.get("/console").await.status, StatusCode::SEE_OTHER, "other sessions end");
    assert_eq!(browser.get(SET_UP).await.header("location"), PAGE, "the secret is not shown again");

    browser.get(PAGE).await;
    let reply = browser.post(CODES, &[("current_password", "wrong one")]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let reply = browser.post(CODES, &[("current_password", PASSWORD)]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "a code is needed too");
    let reply = browser.post(CODES, &[("current_password", PASSWORD), ("code", &codes[0])]).await;
    let new = recovery_codes(&reply.text);
    assert!(new.len() == codes.len() && new != codes);
    assert_eq!(
        browser.post(OFF, &[("current_password", "wrong one")]).await.status,
        StatusCode::FORBIDDEN
    );
    let reply = browser.post(OFF, &[("current_password", PASSWORD)]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "a code is needed too");
    let reply = browser.post(OFF, &[("current_password", PASSWORD), ("code", &new[0])]).await;
    assert_eq!(reply.header("location"), "/console/account/second-factor?done=off");
    Browser::logged_in(&control, &ada.user.email).await;
}

#[tokio::test]
async fn log_in_takes_a_code_with_the_password() {
    let control = control().await;
    let ada = control.user().await;
    let (user, email) = (ada.user.id, ada.user.email.as_str());
    let mut browser = Browser::logged_in(&control, email).await;
    let codes = turn_on(&control, &mut browser, user).await;

    let mut browser = Browser::new(&control);
    let first = browser.get(LOGIN).await.text;
    let password = [("email", email), ("password", PASSWORD), ("next", "/console/account?x=1")];
    let reply = browser.post(LOGIN, &password).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert!(
        !first.contains("name=\"code\"") && reply.text.contains("name=\"code\""),
        "{}",
        reply.text
    );
    assert!(browser.cookies.is_empty(), "no session before the code");
    let with = |code: &str| {
        let [email, password, next] = password;
        [email, password, next, ("code", code)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let wrong = post(&mut browser, &with("x")).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.text.contains("The code is wrong"), "{}", wrong.text);
    let right = with(&code(&control, user, 1).await);
    let reply = post(&mut browser, &right).await;
    assert_eq!(reply.header("location"), "/console/account?x=1", "{}", reply.text);
    assert_eq!(browser.get("/console").await.status, StatusCode::OK);

    // Neither the same code nor the same recovery code is good twice.
    let mut other = Browser::new(&control);
    assert_eq!(post(&mut other, &right).await.status, StatusCode::UNAUTHORIZED);
    let recovery = with(&codes[0]);
    assert_eq!(post(&mut other, &recovery).await.status, StatusCode::SEE_OTHER);
    let mut third = Browser::new(&control);
    assert_eq!(post(&mut third, &recovery).await.status, StatusCode::UNAUTHORIZED);
    assert!(third.cookies.is_empty());
}

async fn post(browser: &mut Browser<'_>, fields: &[(String, String)]) -> Reply {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    browser.post(LOGIN, &fields).await
}

#[tokio::test]
async fn codes_are_throttled_and_a_wrong_password_asks_for_none() {
    let control = control().await;
    let ada = control.user().await;
    let (user, email) = (ada.user.id, ada.user.email.as_str());
    let mut browser = Browser::logged_in(&control, email).await;
    turn_on(&control, &mut browser, user).await;
    let mut attacker = Browser::new(&control);
    attacker.get(LOGIN).await;
    let reply = attacker.post(LOGIN, &[("email", email), ("password", "wrong one")]).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert!(!reply.text.contains("name=\"code\""), "{}", reply.text);
    let mut last = reply;
    for guess in 0..30 {
        let guess = format!("{guess:06}");
        let fields = [
            ("email", email),
            ("password", PASSWORD),
            ("code", guess.as_str()),
            ("asks_code", "yes"),
        ];
        last = attacker.post(LOGIN, &fields).await;
        if last.status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
    }
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS);
    let seconds = last.header("retry-after").to_owned();
    assert!(seconds.parse::<u64>().unwrap() > 0);
    let wait = format!("Too many attempts. Retry in {seconds} s.");
    assert!(last.text.contains(&wait) && last.text.contains("name=\"code\""), "{}", last.text);
    assert!(last.text.contains(&format!("value=\"{email}\"")), "{}", last.text);
    assert!(attacker.cookies.is_empty());
}

#[tokio::test]
async fn changes_that_need_a_password_need_a_code_as_well() {
    let control = control().await;
    let ada = control.user().await;
    let (user, email) = (ada.user.id, ada.user.email.as_str());
    let mut browser = Browser::logged_in(&control, email).await;
    let codes = turn_on(&control, &mut browser, user).await;
    assert_eq!(browser.get("/console/account").await.text.matches("name=\"code\"").count(), 2);
    let fields = [("email", "new@example.com"), ("current_password", PASSWORD)];
    let reply = browser.post("/console/account/email", &fields).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(reply.text.contains("Enter a code of the second factor."), "{}", reply.text);
    let fields = [fields[0], fields[1], ("code", &codes[0])];
    let reply = browser.post("/console/account/email", &fields).await;
    assert_eq!(reply.header("location"), "/console/account?done=email", "{}", reply.text);
    let fields = [("email", "new@example.com"), ("current_password", PASSWORD)];
    let reply = browser.post("/console/account/delete", &fields).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "deletion too");
}
