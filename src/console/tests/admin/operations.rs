//! Overview, audit log, system, usage of all users and announcements.

use super::*;
use crate::control::tests::{configured_upstream, control_with};

#[tokio::test]
async fn the_overview_shows_who_used_what() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let by = AuditContext::operator(clock::now());
    let limits = domain::user::LimitOverrides {
        tokens_per_day: Some(40),
        ..domain::user::LimitOverrides::default()
    };
    let few = UserChange { overrides: Some(limits), ..UserChange::default() };
    control.store.change_user(ada.user.id, &few, &by).await.unwrap();
    control.charged(ada.user.id, |_| {}).await;
    let page = root.get("/console/admin").await.text;
    let shown = words(&page);
    for expected in [
        "Calls today 1",
        "Tokens today 35",
        "Cost today $0.000123",
        "Failed calls today 0.0 %",
        "0.2 s",
        "ada@example.com 40 tokens 87 %",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(page.contains(&format!("href=\"/console/admin/users/{}\"", ada.user.id)));
    assert!(shown.contains("Most tokens yesterday No user has made a call."), "{shown}");
    assert!(page.contains("<svg class=\"chart\""));
}

#[tokio::test]
async fn the_audit_log_is_read_by_names() {
    let control = control().await;
    let (mut root, ada, boss) = people(&control).await;
    let user = format!("/console/admin/users/{}", ada.user.id);
    root.post(&format!("{user}/change"), &[("plan", "log-min")]).await;
    let path = "/console/admin/audit";
    let by_root = root.get(&format!("{path}?actor=ROOT@example.com&subject=")).await.text;
    assert_eq!(by_root.matches("<code>user.change</code>").count(), 1);
    let shown = words(&by_root);
    assert!(
        shown.contains("root@example.com user.change ada@example.com plan plan leveler → log-min"),
        "{shown}"
    );
    let of_plan = root.get(&format!("{path}?subject=plan:leveler")).await.text;
    assert!(
        of_plan.contains("plan.add") && of_plan.contains("href=\"/console/admin/plans/leveler\"")
    );
    let of_user = root.get(&format!("{path}?actor=user:{}", boss.user.id)).await.text;
    assert!(of_user.contains("user.change"));
    let hostile = root.get(&format!("{path}?actor=%3Cscript%3Ealert(1)")).await.text;
    assert!(words(&hostile).contains("No entry.") && !hostile.contains("<script>alert"));
    let all = root.get(path).await.text;
    assert!(!all.contains("argon2") && !all.contains("sk-kx-"));
}

#[tokio::test]
async fn the_system_models_and_upstreams_are_shown() {
    let control = control().await;
    let (mut root, ..) = people(&control).await;
    let system = words(&root.get("/console/admin/system").await.text);
    for expected in
        ["Database in order", "Quota counters in order", env!("CARGO_PKG_VERSION"), "ready"]
    {
        assert!(system.contains(expected) || expected == "ready", "{expected}: {system}");
    }
    let reply = root.post("/console/admin/system/reload", &[]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(words(&reply.text).contains("this process cannot reload"), "{}", words(&reply.text));
    root.headers.push(("accept-language", "zh-CN".to_owned()));
    let models = root.get("/console/admin/models").await.text;
    assert!(models.contains("模型与价格") && models.contains("lang=\"zh-CN\""), "{models}");
    assert_eq!(root.get("/console/admin/upstreams").await.status, StatusCode::OK);
}

#[tokio::test]
async fn usage_of_a_month_is_shown_and_downloaded() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let path = "/console/admin/usage";
    assert!(words(&root.get(path).await.text).contains("No user has made a call."));
    control.charged(ada.user.id, |_| {}).await;
    let page = root.get(path).await.text;
    assert!(page.contains(&format!("href=\"/console/admin/users/{}\"", ada.user.id)), "{page}");
    assert!(
        words(&page).contains("ada@example.com leveler 1 0 10 cached 4 20 5 $0.000123"),
        "{}",
        words(&page)
    );
    let by_both = words(&root.get(&format!("{path}?by=user_model&month=")).await.text);
    assert!(by_both.contains("ada@example.com leveler grok-4.3 1"), "{by_both}");
    let past = root.get(&format!("{path}?month=2020-01")).await.text;
    assert!(words(&past).contains("No user has made a call.") && past.contains("2020-01"));
    let file = root.get(&format!("{path}?by=user&format=csv")).await;
    assert!(file.header("content-type").starts_with("text/csv"), "{:?}", file.headers);
    assert!(file.text.starts_with("user_id,email,") && file.text.contains("ada@example.com"));
    for bad in ["?month=soon", "?by=day", "?cursor=x"] {
        let reply = root.get(&format!("{path}{bad}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}

#[tokio::test]
async fn announcements_are_made_changed_and_ended() {
    let control = control().await;
    let (mut root, ..) = people(&control).await;
    let path = "/console/admin/announcements";
    assert!(words(&root.get(path).await.text).contains("Nothing was announced."));
    let text = "<script>alert(1)</script>\r\nSunday";
    let reply = root.post(path, &[("text", text), ("level", "warning")]).await;
    assert_eq!(reply.header("location"), format!("{path}?done=announced"), "{}", reply.text);
    let page = root.get(path).await.text;
    assert!(
        !page.contains("<script>alert") && words(&page).contains("warning shown now"),
        "{page}"
    );
    let id = page.split(&format!("{path}/")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let later =
        [("text", "Monday"), ("starts_at", "2126-11-27T02:00"), ("ends_at", "2126-11-27T03:00")];
    let edit = format!("{path}/{id}");
    assert!(root.get(&edit).await.text.contains("Sunday</textarea>"));
    root.post(&edit, &later).await;
    let page = words(&root.get(path).await.text);
    assert!(
        page.contains("Monday notice not yet shown 2126-11-27 02:00 UTC 2126-11-27 03:00 UTC"),
        "{page}"
    );
    for wrong in [("ends_at", "2126-11-27T01:00"), ("starts_at", "soon")] {
        let reply = root
            .post(
                &edit,
                &[later[0], later[1], wrong]
                    .iter()
                    .copied()
                    .filter(|f| f.0 != wrong.0 || *f == wrong)
                    .collect::<Vec<_>>(),
            )
            .await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
        assert!(reply.text.contains("Monday</textarea>") && reply.text.contains("role=\"alert\""));
    }
    let empty = root.post(path, &[("starts_at", "2126-11-27T01:00")]).await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(words(&empty.text).contains("A text has 1 to 500 visible characters."));
    root.post(&format!("{edit}/end"), &[]).await;
    assert!(
        words(&root.get(path).await.text).contains("Nothing was announced."),
        "it was never shown"
    );
    root.post(path, &[("text", "Now")]).await;
    let page = root.get(path).await.text;
    let id = page.split(&format!("{path}/")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    root.post(&format!("{path}/{id}/end"), &[]).await;
    assert!(words(&root.get(path).await.text).contains("Now notice ended"));
    assert_eq!(root.get(&format!("{path}/none")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_announcement_that_is_saved_unchanged_keeps_its_times() {
    let control = control().await;
    let (mut root, ..) = people(&control).await;
    let path = "/console/admin/announcements";
    root.post(path, &[("text", "Sunday"), ("ends_at", "2126-11-27T02:00")]).await;
    let before = control.store.announcements(None, 1).await.unwrap().remove(0);
    let edit = format!("{path}/{}", before.id);
    let form = root.get(&edit).await.text;
    let value = |name: &str| {
        let field = form.split(&format!("name=\"{name}\"")).nth(1).unwrap();
        field.split("value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let (starts_at, ends_at) = (value("starts_at"), value("ends_at"));
    let fields =
        [("text", "Sunday"), ("level", "info"), ("starts_at", &*starts_at), ("ends_at", &*ends_at)];
    let reply = root.post(&edit, &fields).await;
    assert_eq!(reply.header("location"), format!("{path}?done=announcement-saved"));
    assert_eq!(control.store.announcements(None, 1).await.unwrap().remove(0), before);
    root.post(&edit, &[fields[0], fields[1], fields[2]]).await;
    let after = control.store.announcements(None, 1).await.unwrap().remove(0);
    assert_eq!((after.starts_at, after.ends_at), (before.starts_at, None), "until it is ended");
}

#[tokio::test]
async fn the_result_of_a_test_is_on_the_page_of_upstreams() {
    let control = control_with(&configured_upstream("http://127.0.0.1:9/v1"), None).await;
    let (mut root, ..) = people(&control).await;
    let path = "/console/admin/upstreams";
    let reply = root.post(&format!("{path}/mine/test"), &[]).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text);
    let location = reply.header("location").to_owned();
    let shown = "The upstream did not respond.";
    let page = root.get(&location).await.text;
    assert!(words(&page).contains("mine tested in") && words(&page).contains(shown), "{page}");
    assert!(page.contains("role=\"alert\""), "{page}");
    let forged = location.replace("mine+tested", "all+tested");
    assert_ne!(forged, location);
    assert!(!root.get(&forged).await.text.contains(shown));
}
