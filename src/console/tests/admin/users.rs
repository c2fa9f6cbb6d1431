//! Users and keys, as admins find and change them.

use super::*;

#[tokio::test]
async fn users_are_found_filtered_and_paged() {
    let control = control().await;
    let (mut root, ..) = people(&control).await;
    for number in 0..55 {
        let user = NewUser {
            email: format!("number-{number}@example.com"),
            username: None,
            password_hash: None,
            email_verified: true,
            role: Role::User,
            plan: PlanId::from("leveler"),
            created_at: clock::now(),
        };
        control.store.add_user(&user, &AuditContext::operator(clock::now())).await.unwrap();
    }
    let mut list = async |query: &str| root.get(&format!("/console/admin/users{query}")).await.text;
    let first = list("").await;
    assert!(first.contains("ada@example.com") && !first.contains("number-54@"), "{first}");
    let next = first.split("rel=\"next\"").next().unwrap().rsplit("href=\"").next().unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    let second = list(next.strip_prefix("/console/admin/users").unwrap()).await;
    assert!(second.contains("number-54@") && !second.contains("ada@example.com"));
    assert!(second.contains("First page") && !second.contains("Next page"));

    let found = list("?search=ADA&plan=&status=&role=").await;
    assert!(found.contains("ada@example.com") && !words(&found).contains("number-"));
    assert!(!words(&list("?role=admin").await).contains("ada@example.com"));
    assert!(list("?status=suspended").await.contains("No user matches."));
    let hostile = list("?search=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert!(!hostile.contains("<script>alert"), "{hostile}");
    assert!(hostile.contains("&#34;&#62;&#60;script&#62;"), "{hostile}");
    for bad in ["?role=owner", "?cursor=x", "?other=1"] {
        let reply = root.get(&format!("/console/admin/users{bad}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        let is_named = words(&reply.text).contains("This page has no parameter “other”.");
        assert_eq!(is_named, bad.contains("other"), "{bad}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_user_is_suspended_moved_and_promoted() {
    let control = control().await;
    let (mut root, ada, boss) = people(&control).await;
    let user = format!("/console/admin/users/{}", ada.user.id);
    let mut person = Browser::logged_in(&control, &ada.user.email).await;
    let list = "/console/admin/users?search=ada";
    root.get(list).await;
    let reply =
        root.post(&format!("{user}/change"), &[("status", "suspended"), ("next", list)]).await;
    assert_eq!(reply.header("location"), "/console/admin/users?search=ada&done=suspended");
    assert!(
        words(&root.get(reply.header("location")).await.text).contains("The user is suspended.")
    );
    assert_eq!(person.get("/console").await.status, StatusCode::SEE_OTHER);
    let reply = root.post(&format!("{user}/change"), &[("status", "active")]).await;
    assert_eq!(reply.header("location"), format!("{user}?done=active"));
    root.post(&format!("{user}/change"), &[("plan", "high-max")]).await;
    root.post(&format!("{user}/change"), &[("role", "admin")]).await;
    let now = current(&control, &ada.user).await;
    assert_eq!(
        (now.status, now.plan, now.role),
        (UserStatus::Active, PlanId::from("high-max"), Role::Admin)
    );

    let away = [("status", "suspended"), ("next", "//evil.example")];
    let reply = root.post(&format!("{user}/change"), &away).await;
    assert_eq!(reply.header("location"), "/console?done=suspended");

    let own = format!("/console/admin/users/{}", boss.user.id);
    let page = words(&root.get(&own).await.text);
    assert!(page.contains("This is your own account") && !page.contains("Set the role"));
    for fields in [("status", "suspended"), ("role", "user")] {
        let reply = root.post(&format!("{own}/change"), &[fields]).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{fields:?}");
    }
    for (fields, status) in
        [(("plan", "none"), 404), (("role", "owner"), 422), (("email", "x@y.z"), 422)]
    {
        let reply = root.post(&format!("{user}/change"), &[fields]).await;
        assert_eq!(reply.status.as_u16(), status, "{fields:?}");
    }
    for unknown in ["none", "0199aaaa-0000-7000-8000-000000000000", "%3Cscript%3E"] {
        let reply = root.get(&format!("/console/admin/users/{unknown}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{unknown}");
    }
}

#[tokio::test]
async fn a_users_page_has_meters_keys_month_and_changes() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let user = format!("/console/admin/users/{}", ada.user.id);
    let empty = words(&root.get(&user).await.text);
    assert!(empty.contains("No key is in use.") && empty.contains("none: the plan's limits apply"));

    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let by = AuditContext::operator(clock::now());
    let name =
        KeyChange { name: Some("<script>alert(1)</script>".to_owned()), ..KeyChange::default() };
    control.store.change_key(ada.user.id, &key.id(), &name, &by).await.unwrap();
    control.charged(ada.user.id, |charge| charge.key = key.id()).await;
    control
        .charged(ada.user.id, |charge| {
            charge.request = RequestId::new();
            charge.status = Status::Failed;
        })
        .await;
    let page = root.get(&user).await.text;
    assert!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert(1)"));
    let shown = words(&page);
    for expected in [
        "Tokens today",
        "5,000",
        "grok-4.3",
        "70",
        "user.add",
        "operator, by a command",
        key.last_four(),
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let meters = root.get(&format!("{user}/meters")).await.text;
    assert!(meters.contains("Tokens today") && !meters.contains("<html"));

    let calls = root.get(&format!("{user}/calls")).await.text;
    assert!(words(&calls).contains("Complete") && words(&calls).contains("Failed"));
    let receipt = calls.split("href=\"/console/admin/calls/").nth(1).unwrap();
    let receipt = format!("/console/admin/calls/{}", receipt.split('"').next().unwrap());
    let page = root.get(&receipt).await.text;
    assert!(words(&page).contains("Receipt") && words(&page).contains("ada@example.com"), "{page}");
    assert!(page.contains(&format!("href=\"{user}/calls\"")), "{page}");
    let none = root.get(&format!("/console/admin/calls/{}", RequestId::new())).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert!(words(&none.text).contains("There is no call with this id."), "{}", none.text);
    let failed = root.get(&format!("{user}/calls?status=failed&from=&to=&model=&key=")).await.text;
    assert_eq!(failed.matches("<code>req_").count(), 1);
    let none = root.get(&format!("{user}/calls?model=other")).await.text;
    assert!(words(&none).contains("No call matches."));
    let bad = root.get(&format!("{user}/calls?from=yesterday")).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);

    root.get(&user).await;
    let reply = root.post(&format!("{user}/keys/{}/revoke", key.id()), &[]).await;
    assert_eq!(reply.header("location"), format!("{user}?done=revoked"));
    let stored = control.store.key(ada.user.id, &key.id()).await.unwrap().unwrap();
    assert!(stored.revoked_at.is_some());
    let again = root.post(&format!("{user}/keys/{}/revoke", key.id()), &[]).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    let reply = root.post(&format!("{user}/reset-usage"), &[]).await;
    assert_eq!(reply.header("location"), format!("{user}?done=reset"));
}

#[tokio::test]
async fn a_key_is_found_and_revoked_without_its_secret_in_an_address() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let path = "/console/admin/keys";
    assert!(!words(&root.get(path).await.text).contains("No key matches."));
    let reply = root.post(path, &[("key", key.reveal())]).await;
    let found = format!("{path}?key={}", key.id());
    assert_eq!(reply.header("location"), found);
    let reply = root.post(path, &[("key", key.last_four())]).await;
    for address in [found.as_str(), reply.header("location")] {
        let page = root.get(address).await.text;
        assert!(page.contains("ada@example.com") && page.contains(key.last_four()), "{page}");
        assert!(!page.contains(key.reveal()));
    }
    let revoke = format!("/console/admin/users/{}/keys/{}/revoke", ada.user.id, key.id());
    let reply = root.post(&revoke, &[("next", &found)]).await;
    assert_eq!(reply.header("location"), format!("{found}&done=revoked"));
    let page = words(&root.get(&found).await.text);
    assert!(page.contains("revoked") && !page.contains("Revoke"), "{page}");
    assert!(words(&root.get(&format!("{path}?key=none")).await.text).contains("No key matches."));
}

#[tokio::test]
async fn limits_of_one_user_replace_those_of_the_plan() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let path = format!("/console/admin/users/{}/limits", ada.user.id);
    assert!(words(&root.get(&path).await.text).contains("Plan: 5,000"));
    let fields = [
        ("tokens", "7,000"),
        ("window_requests", "5"),
        ("window_seconds", "60"),
        ("scope", "some"),
        ("models", "grok-4.3"),
    ];
    let reply = root.post(&path, &fields).await;
    assert!(reply.header("location").ends_with("?done=limits"), "{} {}", reply.status, reply.text);
    let overrides = current(&control, &ada.user).await.overrides;
    assert_eq!((overrides.tokens_per_day, overrides.requests_per_day), (Some(7000), None));
    assert_eq!(overrides.window.map(|window| window.refill_seconds), Some(60));
    assert_eq!(overrides.models.as_deref().map(<[_]>::len), Some(1));
    let page = words(&root.get(path.strip_suffix("/limits").unwrap()).await.text);
    assert!(
        page.contains("7,000 tokens per day · 5 requests per 60 s · only the models grok-4.3"),
        "{page}"
    );

    // A mistake is named, and nothing that was typed is lost.
    let reply = root.post(&path, &[("tokens", "many"), ("requests", "12")]).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(reply.text.contains("role=\"alert\"") && reply.text.contains("value=\"many\""));
    assert!(
        reply.text.contains("value=\"12\"")
            && reply.text.contains("Tokens per day: enter a whole number")
    );
    for wrong in [("window_requests", "5"), ("streams", "0"), ("scope", "some")] {
        let reply = root.post(&path, &[wrong]).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    }
    assert_eq!(current(&control, &ada.user).await.overrides, overrides);
    root.post(&path, &[("scope", "plan")]).await;
    assert!(current(&control, &ada.user).await.overrides.is_empty());
}

#[tokio::test]
async fn a_user_is_added_and_sets_a_password_by_the_link() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let path = "/console/admin/users/new";
    root.get(path).await;
    let fields =
        [("email", "Bob@Example.com"), ("username", "bob"), ("plan", "log-min"), ("role", "user")];
    let reply = root.post(path, &fields).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", words(&reply.text));
    let link = reply.text.split("token=").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let bob = control.store.user_by_email("bob@example.com").await.unwrap().unwrap();
    assert_eq!((bob.plan.as_str(), bob.role), ("log-min", Role::User));
    assert!(!root.get(&format!("/console/admin/users/{}", bob.id)).await.text.contains(&link));
    for (name, value, problem) in [
        ("email", "ada@example.com", "Another account has this"),
        ("email", "bob", "This is not an e-mail address."),
        ("username", "b", "A username has"),
        ("plan", "none", "no such record"),
    ] {
        let reply = root.post(path, &changed(&fields, name, value)).await;
        assert!(reply.status.is_client_error(), "{value}");
        assert!(words(&reply.text).contains(problem), "{value}: {}", words(&reply.text));
        assert!(
            reply.text.contains("value=\"bob\"") || name == "username",
            "what was typed is kept"
        );
    }
    // A newer link ends the one before.
    root.get(&format!("/console/admin/users/{}", bob.id)).await;
    let reply = root.post(&format!("/console/admin/users/{}/invitation", bob.id), &[]).await;
    let newer = reply.text.split("token=").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let accept = async |token: &str| {
        let form = serde_json::json!({ "token": token, "password": PASSWORD });
        control.post("/api/v1/users/accept-invitation", None, form).await.status
    };
    assert!(accept(&link).await.is_client_error());
    assert_eq!(accept(&newer).await, StatusCode::OK);
    Browser::logged_in(&control, "bob@example.com").await;
    let reply = root.post(&format!("/console/admin/users/{}/invitation", ada.user.id), &[]).await;
    assert_eq!(reply.status, StatusCode::CREATED);
}

#[tokio::test]
async fn sessions_are_ended_and_a_user_is_deleted() {
    let control = control().await;
    let (mut root, ada, boss) = people(&control).await;
    let user = format!("/console/admin/users/{}", ada.user.id);
    let mut person = Browser::logged_in(&control, &ada.user.email).await;
    let page = root.get(&user).await.text;
    assert!(
        words(&page).contains("Second factor off") && words(&page).contains("127.0.0.1"),
        "{}",
        words(&page)
    );
    let sessions: Vec<&str> =
        page.split("/sessions/").skip(1).filter_map(|rest| rest.split('/').next()).collect();
    assert_eq!(sessions.len(), 2, "of the API and of the console");
    for session in sessions {
        let reply = root.post(&format!("{user}/sessions/{session}/end"), &[]).await;
        assert_eq!(reply.header("location"), format!("{user}?done=session-ended"));
        let again = root.post(&format!("{user}/sessions/{session}/end"), &[]).await;
        assert_eq!(again.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(person.get("/console").await.status, StatusCode::SEE_OTHER);
    assert!(words(&root.get(&user).await.text).contains("The user is logged in nowhere."));
    let off = root.post(&format!("{user}/second-factor/remove"), &[]).await;
    assert_eq!(off.status, StatusCode::CONFLICT, "there is none");

    let delete = format!("{user}/delete");
    assert!(words(&root.get(&delete).await.text).contains("This cannot be undone."));
    let wrong = root.post(&delete, &[("email", "root@example.com")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(current(&control, &ada.user).await.email, "ada@example.com");
    let own = format!("/console/admin/users/{}/delete", boss.user.id);
    let reply = root.post(&own, &[("email", "root@example.com")]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    let reply = root.post(&delete, &[("email", "Ada@Example.com")]).await;
    assert_eq!(reply.header("location"), "/console/admin/users?done=deleted");
    assert_eq!(current(&control, &ada.user).await.status, UserStatus::Deleted);
    let page = root.get(&user).await.text;
    let main = page.split_once("<main").unwrap().1.split_once("</main>").unwrap().0;
    assert!(words(&page).contains("deleted") && !main.contains("<button"), "{main}");
    assert!(!main.contains("hx-get") && !main.contains("/limits\"") && !main.contains("/delete\""));
    assert!(!words(&root.get("/console/admin/users?status=deleted").await.text).contains("Resume"));
    assert_eq!(root.get(&delete).await.status, StatusCode::NOT_FOUND);
}
