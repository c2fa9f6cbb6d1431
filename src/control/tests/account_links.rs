//! Verification of e-mail addresses, and forgotten passwords. Sending itself is in `tests/it/process/mail.rs`.

use super::*;
use crate::mail::{Content, Mail};
use domain::one_time_link::LinkPurpose;
use domain::user::UserStatus;
use store::UserChange;

const MAIL: &str = "public_url = \"https://api.example.com/base\"\n[mail]\nhost = \"localhost\"\ntls = \"none\"\nfrom = \"k@example.com\"\n";
const REGISTER: &str = "/api/v1/users/register";
const PROFILE: &str = "/api/v1/users/profile";
const SEND: &str = "/api/v1/users/verify-email/send";
const VERIFY: &str = "/api/v1/users/verify-email";
const FORGOT: &str = "/api/v1/users/forgot-password";
const RESET: &str = "/api/v1/users/reset-password";
const ACCEPT: &str = "/api/v1/users/accept-invitation";
const NEW_PASSWORD: &str = "another horse entirely";

impl Control {
    /// The next mail that waits to be sent.
    pub(super) async fn mail(&self) -> Mail {
        match self.mails.lock().await.try_recv() {
            Ok(Job::Mail(mail)) => mail,
            other => panic!("{other:?}"),
        }
    }

    async fn no_mail(&self) {
        assert!(self.mails.lock().await.try_recv().is_err());
    }

    /// The token of a new link, as its holder has it.
    pub(super) async fn link(&self, user: &User, purpose: LinkPurpose) -> String {
        let by = AuditContext::operator(clock::now());
        let issued = self.links.issue(&*self.store, user, purpose, &by).await.unwrap();
        token_in(&issued.path)
    }

    async fn is_verified(&self, person: &Person) -> Value {
        self.get(PROFILE, Some(&person.token)).await.ok()["email_verified"].clone()
    }
}

pub(super) fn token_in(link: &str) -> String {
    link.split_once("?token=").unwrap().1.to_owned()
}

#[tokio::test]
async fn registration_mails_a_link_that_verifies_the_address_once() {
    let control = control_with(MAIL, None).await;
    let form = json!({ "email": "ada@example.com", "password": PASSWORD });
    let mut ask = Ask::default().json(form);
    ask.headers.push(("accept-language", "zh-CN".to_owned()));
    ask.headers.push(("host", "evil.example".to_owned()));
    ask.headers.push(("x-forwarded-host", "evil.example".to_owned()));
    let account = control.ask("POST", REGISTER, ask).await.ok();
    assert_eq!(account["user"]["email_verified"], false);
    assert!(account["api_key"].is_string(), "verification is not required");
    let mail = control.mail().await;
    assert_eq!(
        (&*mail.to, mail.language),
        ("ada@example.com", crate::mail::message::Language::Chinese)
    );
    let Content::VerifyEmail { url } = mail.content else { panic!("{mail:?}") };
    let expected = "https://api.example.com/base/console/verify?token=lt-kx-";
    assert!(url.starts_with(expected), "a header does not change the link: {url}");

    let token = json!({ "token": token_in(&url) });
    let user = control.post(VERIFY, None, token.clone()).await.ok();
    assert_eq!(
        (&user["email_verified"], &user["email"]),
        (&json!(true), &json!("ada@example.com"))
    );
    control.post(VERIFY, None, token).await.refused(403, "invalid_link");
    let access = account["access_token"].as_str();
    assert_eq!(control.get(PROFILE, access).await.ok()["email_verified"], true, "no session ends");
    control.post(SEND, access, json!({})).await.refused(409, "already_verified");
    control.no_mail().await;
}

#[tokio::test]
async fn a_link_opens_only_what_it_is_for() {
    let control = control_with(MAIL, None).await;
    let ada = control.user().await;
    let eve = control.person("eve@example.com", Role::User).await;
    let verify = control.link(&ada.user, LinkPurpose::VerifyEmail).await;
    let reset = control.link(&ada.user, LinkPurpose::ResetPassword).await;
    let invitation = control.link(&ada.user, LinkPurpose::Invitation).await;
    let with = |token: &str| json!({ "token": token });
    let set = |token: &str| json!({ "token": token, "new_password": NEW_PASSWORD });
    let accept = |token: &str| json!({ "token": token, "password": NEW_PASSWORD });
    let setup =
        |token: &str| json!({ "token": token, "email": "x@example.com", "password": NEW_PASSWORD });
    let eves = control.link(&eve.user, LinkPurpose::VerifyEmail).await;
    let (head, _) = reset.split_once('_').unwrap();
    let guessed = format!("{head}_{}", "A".repeat(43));
    let mixed = format!("{head}_{}", eves.split_once('_').unwrap().1);
    for bad in [&*verify, &invitation, &guessed, &mixed, &ada.refresh, "", "lt-kx-", "\u{0}"] {
        control.post(RESET, None, set(bad)).await.refused(403, "invalid_link");
    }
    for bad in [&*reset, &invitation, &guessed, &mixed] {
        control.post(VERIFY, None, with(bad)).await.refused(403, "invalid_link");
    }
    for bad in [&*reset, &verify] {
        control.post(ACCEPT, None, accept(bad)).await.refused(403, "invalid_link");
        control.post("/api/v1/setup", None, setup(bad)).await.refused(403, "invalid_link");
    }
    // One of another user is good for that user alone.
    let user = control.post(VERIFY, Some(&ada.token), with(&eves)).await.ok();
    assert_eq!(user["email"], "eve@example.com");
    assert_eq!(control.is_verified(&ada).await, false);
    control.login(&ada.user.email, PASSWORD).await.ok();
}

#[tokio::test]
async fn a_reset_sets_the_password_and_ends_all_sessions() {
    let control = control_with(MAIL, None).await;
    let ada = control.user().await;
    let token = control.link(&ada.user, LinkPurpose::ResetPassword).await;
    let invitation = control.link(&ada.user, LinkPurpose::Invitation).await;
    let form = |password: &str| json!({ "token": token, "new_password": password });
    control.post(RESET, None, form("short")).await.invalid("new_password");
    let reply = control.post(RESET, None, form(NEW_PASSWORD)).await;
    assert_eq!(
        (reply.status.as_u16(), &*reply.text),
        (204, ""),
        "no session: a second factor is asked for"
    );
    control.get(PROFILE, Some(&ada.token)).await.refused(401, "invalid_token");
    let refresh = json!({ "refresh_token": ada.refresh });
    control
        .post("/api/v1/users/refresh", None, refresh)
        .await
        .refused(401, "invalid_refresh_token");
    control.login(&ada.user.email, PASSWORD).await.refused(401, "invalid_credentials");
    let session = control.login(&ada.user.email, NEW_PASSWORD).await.ok();
    assert_eq!(session["user"]["email_verified"], true, "the link was mailed there");
    control.post(RESET, None, form(PASSWORD)).await.refused(403, "invalid_link");
    let accept = json!({ "token": invitation, "password": PASSWORD });
    control.post(ACCEPT, None, accept).await.refused(403, "invalid_link");
}

#[tokio::test]
async fn no_link_of_a_suspended_user_opens_anything() {
    let control = control_with(MAIL, None).await;
    let ada = control.user().await;
    let before = control.link(&ada.user, LinkPurpose::ResetPassword).await;
    let status = Some(UserStatus::Suspended);
    let change = UserChange { status, ..UserChange::default() };
    let by = AuditContext::operator(clock::now());
    control.store.change_user(ada.user.id, &change, &by).await.unwrap();
    let after = control.link(&ada.user, LinkPurpose::ResetPassword).await;
    for token in [before, after] {
        let form = json!({ "token": token, "new_password": NEW_PASSWORD });
        control.post(RESET, None, form).await.refused(403, "invalid_link");
    }
}

#[tokio::test]
async fn a_forgotten_password_says_nothing_of_the_account() {
    let control = control_with(MAIL, None).await;
    control.user().await;
    let ask = async |email: &str, from: &str| {
        let form = json!({ "email": email });
        control.ask("POST", FORGOT, Ask { from: Some(from), ..Ask::default() }.json(form)).await
    };
    for email in ["Ada@Example.com", "unknown@example.com"] {
        for host in 1..=3 {
            let reply = ask(email, &format!("192.0.2.{host}")).await;
            assert_eq!((reply.status.as_u16(), &*reply.text), (202, ""), "{email}");
            // The request itself does the same in either case: the account is looked up in the background.
            let job = control.mails.lock().await.try_recv().unwrap();
            let Job::PasswordReset { email: queued, .. } = job else { panic!("{job:?}") };
            assert_eq!(queued, email.to_lowercase());
        }
        ask(email, "192.0.2.9").await.refused(429, "too_many_tries");
        control.no_mail().await;
    }
    for (email, param) in [("no-address", "email"), ("a@b.c\r\nBcc: d@e.f", "email")] {
        ask(email, "192.0.2.1").await.invalid(param);
    }
    // One host cannot ask for many accounts.
    let many = async |n: u32| ask(&format!("a{n}@example.com"), "198.51.100.1").await.status;
    for n in 0..30 {
        assert_eq!(many(n).await, 202);
    }
    assert_eq!(many(30).await, 429);
}

#[tokio::test]
async fn without_a_mail_server_all_else_works() {
    let control = control().await;
    let form = json!({ "email": "eve@example.com", "password": PASSWORD });
    assert!(control.post(REGISTER, None, form).await.ok()["api_key"].is_string());
    let ada = control.user().await;
    control.post(SEND, Some(&ada.token), json!({})).await.refused(409, "mail_not_configured");
    for email in [&*ada.user.email, "unknown@example.com"] {
        let reply = control.post(FORGOT, None, json!({ "email": email })).await;
        reply.refused(409, "mail_not_configured");
    }
    let change = json!({ "email": "new@example.com", "current_password": PASSWORD });
    control.patch(PROFILE, Some(&ada.token), change).await.ok();
    control.no_mail().await;
}

#[tokio::test]
async fn another_address_is_unverified_and_the_former_gets_a_notice() {
    let control = control_with(MAIL, None).await;
    let (ada, root) = (control.user().await, control.admin().await);
    let token = control.link(&ada.user, LinkPurpose::VerifyEmail).await;
    control.post(VERIFY, None, json!({ "token": token })).await.ok();
    assert_eq!(control.is_verified(&ada).await, true);
    let old_link = control.link(&ada.user, LinkPurpose::ResetPassword).await;
    let change = json!({ "email": "new@example.com", "current_password": PASSWORD });
    let changed = control.patch(PROFILE, Some(&ada.token), change).await.ok();
    assert_eq!(changed["email_verified"], false);
    let (notice, link) = (control.mail().await, control.mail().await);
    assert_eq!((&*notice.to, &*link.to), ("ada@example.com", "new@example.com"));
    assert!(matches!(notice.content, Content::EmailChanged), "{notice:?}");
    assert!(matches!(link.content, Content::VerifyEmail { .. }), "{link:?}");
    let form = json!({ "token": old_link, "new_password": NEW_PASSWORD });
    control.post(RESET, None, form).await.refused(403, "invalid_link");

    let path = format!("/api/v1/admin/users/{}", ada.user.id);
    let change = json!({ "email": "third@example.com" });
    control.patch(&path, Some(&root.token), change).await.ok();
    assert_eq!(control.mail().await.to, "new@example.com");
    let same = json!({ "username": "ada" });
    control.mail().await;
    control.patch(&path, Some(&root.token), same).await.ok();
    control.no_mail().await;
}

#[tokio::test]
async fn where_it_is_required_nobody_unverified_has_a_key() {
    let more = format!("{MAIL}[accounts]\nrequire_verified_email = true\n");
    let control = control_with(&more, None).await;
    let form = json!({ "email": "ada@example.com", "password": PASSWORD });
    let account = control.post(REGISTER, None, form).await.ok();
    assert_eq!(account["api_key"], Value::Null);
    let token = account["access_token"].as_str();
    let named = || json!({ "name": "laptop" });
    control.post("/api/v1/keys", token, named()).await.refused(403, "email_unverified");
    let regenerate = "/api/v1/users/regenerate-api-key";
    control.post(regenerate, token, json!({})).await.refused(403, "email_unverified");
    let Content::VerifyEmail { url } = control.mail().await.content else { panic!() };
    control.post(VERIFY, None, json!({ "token": token_in(&url) })).await.ok();
    let key = control.post(regenerate, token, json!({})).await.ok()["api_key"].clone();
    control.get(PROFILE, key.as_str()).await.ok();
    // An address that is not verified yet takes the right to call away again.
    let change = json!({ "email": "new@example.com", "current_password": PASSWORD });
    control.patch(PROFILE, token, change).await.ok();
    control.get(PROFILE, key.as_str()).await.refused(403, "email_unverified");
    control.post("/api/v1/keys", token, named()).await.refused(403, "email_unverified");
}
