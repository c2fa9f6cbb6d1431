//! Users whom admins add, and their invitations.

use super::account_links::token_in;
use super::*;
use crate::mail::Content;

const USERS: &str = "/api/v1/admin/users";
const ACCEPT: &str = "/api/v1/users/accept-invitation";

#[tokio::test]
async fn an_invited_user_sets_a_password_by_the_link() {
    let control = control().await;
    let root = control.admin().await;
    let admin = Some(&*root.token);
    let form = json!({ "email": " Bob@Example.com", "plan_id": "log-min", "role": "admin" });
    let reply = control.post(USERS, admin, form).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let invited = reply.json();
    assert_eq!(invited["user"]["email"], "bob@example.com");
    assert_eq!(
        (&invited["user"]["role"], &invited["user"]["plan"]["id"]),
        (&json!("admin"), &json!("log-min"))
    );
    let link = &invited["invitation"];
    assert_eq!((&link["url"], &link["mailed"]), (&Value::Null, &json!(false)));
    let path = link["path"].as_str().unwrap();
    assert!(path.starts_with("/console/invitation?token=lt-kx-"), "{path}");
    control.login("bob@example.com", PASSWORD).await.refused(401, "invalid_credentials");

    let user = format!("{USERS}/{}/invitation", invited["user"]["id"].as_str().unwrap());
    let newer = control.post(&user, admin, json!({})).await.ok();
    let accept = |path: &str, username: &str| json!({ "token": token_in(path), "password": PASSWORD, "username": username });
    control.post(ACCEPT, None, accept(path, "bob")).await.refused(403, "invalid_link");
    control
        .store
        .add_user(
            &NewUser {
                username: Some("taken".into()),
                email: "t@example.com".into(),
                password_hash: None,
                email_verified: false,
                role: Role::User,
                plan: PlanId::from("leveler"),
                created_at: clock::now(),
            },
            &AuditContext::operator(clock::now()),
        )
        .await
        .unwrap();
    let newer = newer["path"].as_str().unwrap();
    control.post(ACCEPT, None, accept(newer, "taken")).await.refused(409, "username_taken");
    let accepted = control.post(ACCEPT, None, accept(newer, "bob")).await.ok();
    assert_eq!((&accepted["username"], &accepted["email_verified"]), (&json!("bob"), &json!(true)));
    assert!(accepted.get("access_token").is_none());
    control.post(ACCEPT, None, accept(newer, "bobby")).await.refused(403, "invalid_link");
    control.login("bob@example.com", PASSWORD).await.ok();
    let audit = control.get("/api/v1/admin/audit", admin).await.ok().to_string();
    assert!(audit.contains("user.invite") && !audit.contains("lt-kx-"), "{audit}");
}

#[tokio::test]
async fn an_invitation_is_mailed_if_asked_for() {
    let mail = "public_url = \"https://api.example.com\"\n[mail]\nhost = \"localhost\"\ntls = \"none\"\nfrom = \"k@example.com\"\n";
    let control = control_with(mail, None).await;
    let root = control.admin().await;
    let form = json!({ "email": "bob@example.com", "send_mail": true });
    let mut ask = Ask::default().bearer(Some(&root.token)).json(form);
    ask.headers.push(("host", "evil.example".to_owned()));
    let invited = control.ask("POST", USERS, ask).await.ok();
    let mail = control.mail().await;
    assert_eq!(mail.to, "bob@example.com");
    let Content::Invitation { url } = mail.content else { panic!("{mail:?}") };
    assert_eq!(invited["invitation"]["url"], url);
    assert!(url.starts_with("https://api.example.com/console/"), "{url}");
}

#[tokio::test]
async fn only_admins_invite_and_bad_invitations_add_nobody() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let good = json!({ "email": "bob@example.com" });
    let one = format!("{USERS}/{}/invitation", ada.user.id);
    for path in [USERS, &one] {
        control.post(path, None, good.clone()).await.refused(401, "not_authenticated");
        control.post(path, Some(&ada.token), json!({})).await.refused(403, "admins_only");
    }
    let admin = Some(&*root.token);
    for (form, param) in [
        (json!({ "email": "no-address" }), "email"),
        (json!({ "email": "a@example.com\r\nBcc: d@e.f" }), "email"),
        (json!({ "email": "a@example.com", "role": "root" }), "role"),
        (json!({ "email": "a@example.com", "password": PASSWORD }), "password"),
        (json!({ "email": "a@example.com", "username": "x y" }), "username"),
    ] {
        control.post(USERS, admin, form).await.invalid(param);
    }
    let post = async |form: Value| control.post(USERS, admin, form).await;
    post(json!({ "email": "a@example.com", "plan_id": "none" }))
        .await
        .refused(404, "plan_not_found");
    post(json!({ "email": ada.user.email })).await.refused(409, "email_taken");
    post(json!({ "email": "a@example.com", "send_mail": true }))
        .await
        .refused(409, "mail_not_configured");
    let unknown = format!("{USERS}/{}/invitation", UserId::new());
    control.post(&unknown, admin, json!({})).await.refused(404, "not_found");
    let users = control.get(USERS, admin).await.ok();
    assert_eq!(users["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_invitation_takes_a_registered_account_from_the_one_who_registered_it() {
    let control = control().await;
    let root = control.admin().await;
    let form = json!({ "email": "owner@example.com", "password": "the squatter's password" });
    let squatted = control.post("/api/v1/users/register", None, form).await.ok();
    let (key, token) = (squatted["api_key"].as_str(), squatted["access_token"].as_str());
    control.get("/api/v1/chat/usage", key).await.ok();
    let id = squatted["user"]["id"].as_str().unwrap();
    let admin = Some(&*root.token);
    let link = control.post(&format!("{USERS}/{id}/invitation"), admin, json!({})).await.ok();
    control.get("/api/v1/chat/usage", key).await.ok();
    let accept = json!({ "token": token_in(link["path"].as_str().unwrap()), "password": PASSWORD });
    control.post(ACCEPT, None, accept).await.ok();
    control.get("/api/v1/chat/usage", key).await.refused(401, "invalid_api_key");
    control.get("/api/v1/users/profile", token).await.refused(401, "invalid_token");
    let refresh = json!({ "refresh_token": squatted["refresh_token"] });
    let refreshed = control.post("/api/v1/users/refresh", None, refresh).await;
    refreshed.refused(401, "invalid_refresh_token");
    control
        .login("owner@example.com", "the squatter's password")
        .await
        .refused(401, "invalid_credentials");
    control.login("owner@example.com", PASSWORD).await.ok();
}
