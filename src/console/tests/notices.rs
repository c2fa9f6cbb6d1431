//! Mails to the owner of an account about another password or second factor.

use super::*;
use crate::control::tests::{SECRET, control_with};
use crate::mail::message::Language;
use crate::mail::{Content, Job, SecurityEvent};
use domain::id::UserId;
use domain::key::Pepper;
use domain::second_factor::SecondFactorKeys;

const MAIL: &str = "public_url = \"https://api.example.com\"\n[mail]\nhost = \"localhost\"\ntls = \"none\"\nfrom = \"k@example.com\"\n";
const FACTOR: &str = "/console/account/second-factor";

async fn code(control: &Control, user: UserId) -> String {
    let factor = control.store.second_factor(user).await.unwrap().unwrap();
    let secret = SecondFactorKeys::of(&Pepper::new(SECRET)).open(&factor.secret, user).unwrap();
    secret.code_at(clock::now())
}

/// The notice that waits to be sent, and its language.
async fn notice(control: &Control) -> Option<(SecurityEvent, Language)> {
    let Ok(Job::Mail(mail)) = control.mails.lock().await.try_recv() else { return None };
    assert_eq!(mail.to, "ada@example.com");
    match mail.content {
        Content::Security(event) => Some((event, mail.language)),
        _ => None,
    }
}

#[tokio::test]
async fn the_owner_learns_of_each_change_and_of_no_attempt() {
    let control = control_with(MAIL, None).await;
    let (ada, root) = (control.user().await.user, control.admin().await.user);
    let mut browser = Browser::logged_in(&control, &ada.email).await;
    browser.headers.push(("accept-language", "fr, zh;q=0.8, en;q=0.2".to_owned()));
    browser.get(FACTOR).await;
    browser.post(FACTOR, &[("current_password", PASSWORD)]).await;
    let set_up = format!("{FACTOR}/set-up");
    browser.post(&set_up, &[("code", "000000")]).await;
    assert_eq!(notice(&control).await, None);
    let first = code(&control, ada.id).await;
    let page = browser.post(&set_up, &[("code", &first)]).await.text;
    let chinese = |event| Some((event, Language::Chinese));
    assert_eq!(notice(&control).await, chinese(SecurityEvent::SecondFactorEnabled));
    let codes = page.split("<pre><code>").nth(1).unwrap().split("</code>").next().unwrap();
    let codes: Vec<&str> = codes.split_whitespace().collect();
    let proof = [("current_password", PASSWORD), ("code", codes[0])];
    let page = browser.post(&format!("{FACTOR}/codes"), &proof).await.text;
    assert_eq!(notice(&control).await, chinese(SecurityEvent::RecoveryCodesReplaced));
    let codes = page.split("<pre><code>").nth(1).unwrap().split("</code>").next().unwrap();
    let proof =
        [("current_password", PASSWORD), ("code", codes.split_whitespace().next().unwrap())];
    let wrong = [("current_password", "wrong one"), proof[1]];
    browser.post(&format!("{FACTOR}/off"), &wrong).await;
    assert_eq!(notice(&control).await, None);

    let mut admin = Browser::logged_in(&control, &root.email).await;
    let user = format!("/console/admin/users/{}", ada.id);
    admin.get(&user).await;
    admin.post(&format!("{user}/second-factor/remove"), &[]).await;
    let removed = Some((SecurityEvent::SecondFactorRemoved, Language::English));
    assert_eq!(notice(&control).await, removed);

    let password = [("current_password", PASSWORD), ("new_password", "another long password")];
    let reply = browser.post("/console/account/password", &password).await;
    assert_eq!(reply.header("location"), "/console/account?done=password", "{}", reply.text);
    assert_eq!(notice(&control).await, chinese(SecurityEvent::PasswordChanged));
}

#[tokio::test]
async fn a_full_queue_of_mails_fails_no_change() {
    let control = control_with(MAIL, None).await;
    let ada = control.user().await.user;
    control.mails.lock().await.close();
    let mut browser = Browser::logged_in(&control, &ada.email).await;
    browser.get("/console/account").await;
    let password = [("current_password", PASSWORD), ("new_password", "another long password")];
    let reply = browser.post("/console/account/password", &password).await;
    assert_eq!(reply.header("location"), "/console/account?done=password", "{}", reply.text);
}
