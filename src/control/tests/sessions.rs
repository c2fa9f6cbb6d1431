//! The sessions of a user: listed, and ended one by one or together.

use super::*;

const SESSIONS: &str = "/api/v1/users/sessions";
const PROFILE: &str = "/api/v1/users/profile";

/// Logs in from an address, with a program of this name.
async fn log_in_from(control: &Control, user: &User, from: &str, program: &str) -> Value {
    let form = json!({ "email": user.email, "password": PASSWORD });
    let mut ask = Ask { from: Some(from), ..Ask::default() }.json(form);
    ask.headers.push(("user-agent", program.to_owned()));
    control.ask("POST", "/api/v1/users/login", ask).await.ok()
}

#[tokio::test]
async fn sessions_show_where_they_are_used_and_which_is_this_one() {
    let control = control().await;
    let ada = control.user().await;
    control.person("eve@example.com", Role::User).await;
    let hostile = format!("<script>alert(1)</script>{}", "x".repeat(300));
    let session = log_in_from(&control, &ada.user, "192.0.2.7", &hostile).await;
    let token = session["access_token"].as_str();
    let list = control.get(SESSIONS, token).await.ok()["data"].as_array().unwrap().clone();
    assert_eq!(list.len(), 2, "{list:?}");
    let (this, first) = (&list[0], &list[1]);
    assert_eq!((&this["current"], &first["current"]), (&json!(true), &json!(false)));
    assert_eq!((&this["kind"], &this["address"]), (&json!("api"), &json!("192.0.2.7")));
    let program = this["user_agent"].as_str().unwrap();
    assert_eq!(program.chars().count(), 200, "cut, and otherwise as it was sent");
    assert!(program.starts_with("<script>alert(1)</script>x"));
    assert_eq!(first["user_agent"], json!(null));
    assert_eq!(first["id"], json!(ada.session().to_string()));
    assert_eq!(this["last_seen_at"], this["created_at"]);

    let refresh = json!({ "refresh_token": session["refresh_token"] });
    let ask = Ask { from: Some("203.0.113.9"), ..Ask::default() }.json(refresh);
    control.ask("POST", "/api/v1/users/refresh", ask).await.ok();
    let list = control.get(SESSIONS, token).await.ok();
    assert_eq!(list["data"][0]["address"], "203.0.113.9");
    assert_eq!(list["data"][0]["user_agent"].as_str(), Some(program), "none was sent");
    let text = list.to_string();
    assert!(!text.contains("rt-kx-") && !text.contains("digest"), "{text}");
}

#[tokio::test]
async fn sessions_are_ended_one_by_one_or_all_but_this() {
    let control = control().await;
    let ada = control.user().await;
    let eve = control.person("eve@example.com", Role::User).await;
    let (phone, laptop) =
        (control.log_in(ada.user.clone()).await, control.log_in(ada.user.clone()).await);
    let path = |person: &Person| format!("{SESSIONS}/{}", person.session());
    control.delete(&path(&phone), Some(&eve.token)).await.refused(404, "not_found");
    control.get(PROFILE, Some(&phone.token)).await.ok();
    assert_eq!(control.delete(&path(&phone), Some(&ada.token)).await.status, 204);
    control.get(PROFILE, Some(&phone.token)).await.refused(401, "invalid_token");
    let refresh = json!({ "refresh_token": phone.refresh });
    let refreshed = control.post("/api/v1/users/refresh", None, refresh).await;
    refreshed.refused(401, "invalid_refresh_token");
    control.delete(&path(&phone), Some(&ada.token)).await.refused(404, "not_found");
    for unknown in ["none", "0199aaaa-0000-7000-8000-000000000000", "%00"] {
        let path = format!("{SESSIONS}/{unknown}");
        control.delete(&path, Some(&ada.token)).await.refused(404, "not_found");
    }
    let ended = control.delete(SESSIONS, Some(&ada.token)).await.ok();
    assert_eq!(ended, json!({ "ended": 1 }));
    control.get(PROFILE, Some(&laptop.token)).await.refused(401, "invalid_token");
    control.get(PROFILE, Some(&ada.token)).await.ok();
    control.get(PROFILE, Some(&eve.token)).await.ok();
    assert_eq!(control.delete(&path(&ada), Some(&ada.token)).await.status, 204, "is logging out");
    control.get(PROFILE, Some(&ada.token)).await.refused(401, "invalid_token");
}
