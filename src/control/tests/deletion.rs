//! Deletion and export of accounts.

use super::*;
use domain::user::UserStatus;
use std::collections::BTreeSet;

const DELETE: &str = "/api/v1/users/delete-account";
const EXPORT: &str = "/api/v1/users/export";
const PROFILE: &str = "/api/v1/users/profile";

fn password() -> Value {
    json!({ "current_password": PASSWORD })
}

#[tokio::test]
async fn an_account_is_deleted_with_everything_that_names_its_person() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    control.patch(PROFILE, Some(&ada.token), json!({ "username": "lovelace" })).await.ok();
    let form = json!({ "name": "adas laptop" });
    let key = control.post("/api/v1/keys", Some(&ada.token), form).await.ok();
    let of_caller = |charge: &mut Charge| charge.client_request_id = Some("adas-request".into());
    let charge = control.charged(ada.user.id, of_caller).await;
    let elsewhere = control.log_in(ada.user.clone()).await;

    for (form, code) in [
        (json!({ "current_password": "wrong" }), "wrong_password"),
        (json!({ "password": "wrong" }), "wrong_password"),
    ] {
        control.post(DELETE, Some(&ada.token), form).await.refused(403, code);
    }
    control.post(DELETE, Some(&ada.token), json!({})).await.invalid("current_password");
    control.post(DELETE, None, password()).await.refused(401, "not_authenticated");
    let api_key = key["api_key"].as_str();
    control.post(DELETE, api_key, password()).await.refused(401, "access_token_required");
    control.get(PROFILE, Some(&ada.token)).await.ok();

    assert_eq!(control.post(DELETE, Some(&ada.token), password()).await.status, 204);
    for token in [&ada.token, &elsewhere.token] {
        control.get(PROFILE, Some(token)).await.refused(401, "invalid_token");
        control.post(DELETE, Some(token), password()).await.refused(401, "invalid_token");
    }
    control.get(PROFILE, api_key).await.refused(401, "invalid_api_key");
    let refresh = json!({ "refresh_token": ada.refresh });
    let refreshed = control.post("/api/v1/users/refresh", None, refresh).await;
    refreshed.refused(401, "invalid_refresh_token");
    control.login("ada@example.com", PASSWORD).await.refused(401, "invalid_credentials");

    let shown = format!("deleted user {}", ada.user.id);
    let admin = Some(&*root.token);
    let path = format!("/api/v1/admin/users/{}", ada.user.id);
    let user = control.get(&path, admin).await.ok();
    assert_eq!(
        (&user["user"]["email"], &user["user"]["status"]),
        (&json!(shown), &json!("deleted"))
    );
    let top = control.get("/api/v1/admin/usage/top-users", admin).await.ok();
    assert_eq!(top["data"][0]["email"], json!(shown), "usage stays for the books");
    let row = control.store.charge(charge.request).await.unwrap().unwrap();
    assert_eq!((row.user, row.client_request_id), (ada.user.id, None));
    let users = control.get("/api/v1/admin/users?status=deleted", admin).await.ok();
    assert_eq!(users["data"].as_array().unwrap().len(), 1);
    let counts = control.get("/api/v1/admin/stats/overview", admin).await.ok()["users"].clone();
    assert_eq!((&counts["total"], &counts["deleted"]), (&json!(1), &json!(1)));
    for path in
        ["/api/v1/admin/users", "/api/v1/admin/audit?limit=200", &path, &format!("{path}/keys")]
    {
        let text = control.get(path, admin).await.text;
        for trace in ["ada@example.com", "lovelace", "adas laptop"] {
            assert!(!text.contains(trace), "{path} has {trace}: {text}");
        }
    }
}

#[tokio::test]
async fn a_deleted_user_stays_deleted_and_the_address_is_reserved_for_a_day() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let admin = Some(&*root.token);
    let path = format!("/api/v1/admin/users/{}", ada.user.id);
    control.post(DELETE, Some(&ada.token), password()).await.ok();
    for form in [
        json!({ "status": "active" }),
        json!({ "email": "ada@example.com" }),
        json!({ "role": "admin" }),
    ] {
        control.patch(&path, admin, form).await.refused(404, "not_found");
    }
    control.delete(&path, admin).await.refused(404, "not_found");
    let key =
        NewKey::of(&PlainKey::generate().unwrap(), &Pepper::new(SECRET), "late", clock::now());
    let by = AuditContext::operator(clock::now());
    control.store.add_key(ada.user.id, &key, &by).await.unwrap_err();

    let form = json!({ "email": "ada@example.com", "password": "another password" });
    let again = control.post("/api/v1/users/register", None, form).await;
    again.refused(409, "email_reserved");
    control.login("ada@example.com", PASSWORD).await.refused(401, "invalid_credentials");
    let again = control.person("ada@example.com", Role::User).await;
    assert_ne!(again.user.id, ada.user.id);
    let history = control.get("/api/v1/usage/history", Some(&again.token)).await.ok();
    assert_eq!(history["data"], json!([]), "nothing of the earlier account");
}

#[tokio::test]
async fn admins_delete_others_and_the_last_one_stays() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let path = |user: &Person| format!("/api/v1/admin/users/{}", user.user.id);
    control.delete(&path(&root), Some(&ada.token)).await.refused(403, "admins_only");
    control.delete(&path(&root), Some(&root.token)).await.refused(409, "own_account");
    control.post(DELETE, Some(&root.token), password()).await.refused(409, "last_admin");
    control
        .patch(&path(&ada), Some(&root.token), json!({ "status": "deleted" }))
        .await
        .invalid("status");
    assert_eq!(control.delete(&path(&ada), Some(&root.token)).await.status, 204);
    control.get(PROFILE, Some(&ada.token)).await.refused(401, "invalid_token");
    let entry = format!("/api/v1/admin/audit?subject=user:{}&limit=1", ada.user.id);
    let entry = control.get(&entry, Some(&root.token)).await.ok()["data"][0].clone();
    assert_eq!(
        (&entry["action"], &entry["before"], &entry["after"]),
        (&json!("user.delete"), &Value::Null, &Value::Null)
    );
    assert_eq!(entry["actor"], format!("user:{}", root.user.id));

    let second = control.person("second@example.com", Role::Admin).await;
    assert_eq!(control.post(DELETE, Some(&root.token), password()).await.status, 204);
    control.post(DELETE, Some(&second.token), password()).await.refused(409, "last_admin");
    let status = control.store.user(root.user.id).await.unwrap().unwrap().status;
    assert_eq!(status, UserStatus::Deleted);
}

/// Whoever has a stolen access token alone.
#[tokio::test]
async fn guessing_the_password_of_a_deletion_has_to_wait() {
    let control = control().await;
    let ada = control.user().await;
    for _ in 0..5 {
        let wrong = json!({ "current_password": "wrong" });
        control.post(DELETE, Some(&ada.token), wrong).await.refused(403, "wrong_password");
    }
    control.post(DELETE, Some(&ada.token), password()).await.refused(429, "too_many_tries");
    control.get(PROFILE, Some(&ada.token)).await.ok();
}

#[tokio::test]
async fn an_export_has_everything_of_one_user() {
    let control = control().await;
    let (ada, eve) = (control.user().await, control.person("eve@example.com", Role::User).await);
    let hostile = "</script>\"quoted\" \u{7f4}";
    let mut expected = BTreeSet::new();
    for number in 0..1003 {
        let of_caller = |charge: &mut Charge| {
            charge.client_request_id = Some(hostile.into());
            charge.admitted_at += jiff::SignedDuration::from_millis(number / 7);
        };
        expected.insert(control.charged(ada.user.id, of_caller).await.request.to_string());
    }
    control.charged(eve.user.id, |_| {}).await;
    let form = json!({ "name": "laptop" });
    let key = control.post("/api/v1/keys", Some(&ada.token), form.clone()).await.ok();
    control.post("/api/v1/keys", Some(&eve.token), form).await.ok();
    control.patch(PROFILE, Some(&ada.token), json!({ "username": "lovelace" })).await.ok();
    let form = json!({ "plan_id": "high-max" });
    for token in [&ada.token, &eve.token] {
        control.post("/api/v1/plans/upgrade", Some(token), form.clone()).await.ok();
    }

    let reply = control.get(EXPORT, Some(&ada.token)).await;
    assert!(reply.header("content-disposition").starts_with("attachment"), "{:?}", reply.headers);
    assert!(reply.text.ends_with("]}\n") && !reply.text.contains("eve@example.com"));
    let export = reply.ok();
    assert_eq!(export["profile"]["email"], "ada@example.com");
    assert_eq!(export["second_factor"]["enabled"], false);
    assert_eq!(export["keys"].as_array().unwrap().len(), 1);
    assert_eq!(export["sessions"][0]["current"], true);
    let requests = export["plan_requests"].as_array().unwrap();
    assert_eq!((requests.len(), &requests[0]["to"]), (1, &json!("high-max")));
    let rows = export["usage"].as_array().unwrap();
    let found: BTreeSet<String> =
        rows.iter().map(|row| row["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((rows.len(), found), (1003, expected), "each row once");
    assert_eq!(rows[0]["client_request_id"], hostile);
    let actions: Vec<&str> =
        export["audit"].as_array().unwrap().iter().map(|c| c["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["user.change", "user.add", "key.add"]);
    let text = export.to_string();
    assert!(!text.contains(key["api_key"].as_str().unwrap()) && !text.contains("argon2"));
}

#[tokio::test]
async fn exports_are_few_and_ones_own() {
    let control = control().await;
    let (ada, eve) = (control.user().await, control.person("eve@example.com", Role::User).await);
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    control.get(EXPORT, Some(key.reveal())).await.refused(401, "access_token_required");
    for _ in 0..3 {
        let export = control.get(EXPORT, Some(&ada.token)).await.ok();
        assert_eq!((&export["usage"], export["keys"].as_array().unwrap().len()), (&json!([]), 1));
    }
    control.get(EXPORT, Some(&ada.token)).await.refused(429, "too_many_tries");
    control.get(EXPORT, Some(&eve.token)).await.ok();
}
