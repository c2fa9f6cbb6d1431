//! The first admin, by the link in the log.

use super::account_links::token_in;
use super::*;

const SETUP: &str = "/api/v1/setup";

async fn setup_link(control: &Control) -> Option<String> {
    let issued = control.links.issue_setup(&*control.store, clock::now()).await.unwrap();
    issued.map(|link| token_in(&link.path))
}

fn form(token: &str, email: &str) -> Value {
    json!({ "token": token, "email": email, "password": PASSWORD })
}

#[tokio::test]
async fn the_last_link_creates_one_admin() {
    let control = control().await;
    let ada = control.user().await;
    let earlier = setup_link(&control).await.unwrap();
    let link = setup_link(&control).await.unwrap();
    control
        .post(SETUP, None, form(&earlier, "root@example.com"))
        .await
        .refused(403, "invalid_link");
    control
        .post(SETUP, None, form("lt-kx-", "root@example.com"))
        .await
        .refused(403, "invalid_link");
    control.post(SETUP, None, form(&link, "no-address")).await.invalid("email");
    control.post(SETUP, None, form(&link, &ada.user.email)).await.refused(409, "email_taken");
    let posts = (0..2).map(|n| {
        control.post(SETUP, None, form(&link, if n == 0 { "a@x.com" } else { "b@x.com" }))
    });
    let replies = futures_util::future::join_all(posts).await;
    let (mut won, mut lost) = (0, 0);
    for reply in replies {
        if reply.status == 201 {
            let session = reply.json();
            assert_eq!(
                (&session["user"]["role"], &session["user"]["email_verified"]),
                (&json!("admin"), &json!(true))
            );
            control.get("/api/v1/admin/users", session["access_token"].as_str()).await.ok();
            won += 1;
        } else {
            reply.refused(403, "invalid_link");
            lost += 1;
        }
    }
    assert_eq!((won, lost), (1, 1));
    assert_eq!(setup_link(&control).await, None, "no further link once an admin exists");
}

#[tokio::test]
async fn a_link_is_of_no_use_once_there_is_an_admin() {
    let control = control().await;
    let link = setup_link(&control).await.unwrap();
    control.admin().await;
    control.post(SETUP, None, form(&link, "eve@example.com")).await.refused(409, "admin_exists");
    // Without a valid link the reply does not reveal whether there is an admin.
    control.post(SETUP, None, form("lt-kx-", "eve@example.com")).await.refused(403, "invalid_link");
}
