//! Announcements: admins make them, and callers read the current ones.

use super::*;
use jiff::ToSpan;

const CURRENT: &str = "/api/v1/announcements";
const ALL: &str = "/api/v1/admin/announcements";

async fn shown(control: &Control) -> Vec<Value> {
    control.get(CURRENT, None).await.ok()["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_announcement_is_made_shown_changed_and_deleted() {
    let control = control().await;
    let root = control.admin().await;
    let admin = Some(&*root.token);
    assert_eq!(shown(&control).await, [Value::Null; 0]);
    let text = "Maintenance on Sunday.\n<script>alert(1)</script> & \"more\"";
    let added = control.post(ALL, admin, json!({ "text": format!("  {text}\n") })).await;
    assert_eq!(added.status, 201);
    let added = added.ok();
    assert_eq!((&added["text"], &added["level"]), (&json!(text), &json!("info")));
    assert_eq!(added["created_by"], format!("user:{}", root.user.id));
    let current = shown(&control).await;
    assert_eq!(current.len(), 1);
    assert_eq!(current[0]["text"], text, "as it was written: who shows it escapes it");
    assert_eq!(current[0].get("created_by"), None, "callers do not learn who wrote it");

    let path = format!("{ALL}/{}", added["id"].as_str().unwrap());
    let soon = clock::now().checked_add(1.hours()).unwrap();
    let change = json!({ "level": "warning", "starts_at": soon });
    let changed = control.patch(&path, admin, change).await.ok();
    assert_eq!(changed["level"], "warning");
    assert_eq!(shown(&control).await, [Value::Null; 0], "not yet");
    let past = clock::now().checked_sub(1.hours()).unwrap();
    let change = json!({ "starts_at": past, "ends_at": soon });
    control.patch(&path, admin, change).await.ok();
    assert_eq!(shown(&control).await.len(), 1);
    let end = control.patch(&path, admin, json!({ "ends_at": null })).await.ok();
    assert_eq!(end["ends_at"], Value::Null);
    assert_eq!(control.get(ALL, admin).await.ok()["data"].as_array().unwrap().len(), 1);
    assert_eq!(control.delete(&path, admin).await.status, 204);
    assert_eq!(shown(&control).await, [Value::Null; 0]);
    control.delete(&path, admin).await.refused(404, "not_found");
    control.patch(&path, admin, json!({ "level": "info" })).await.refused(404, "not_found");

    let log = control.get("/api/v1/admin/audit?action=announcement.change", admin).await.ok();
    assert_eq!(log["data"].as_array().unwrap().len(), 3);
    let log = control.get("/api/v1/admin/audit?action=announcement.delete", admin).await.ok();
    assert_eq!(log["data"][0]["before"]["text"], text);
}

#[tokio::test]
async fn an_announcement_is_plain_text_of_five_hundred_characters() {
    let control = control().await;
    let root = control.admin().await;
    let admin = Some(&*root.token);
    let made = async |form: Value| control.post(ALL, admin, form).await;
    assert_eq!(made(json!({ "text": "é".repeat(500) })).await.status, 201);
    assert_eq!(made(json!({ "text": "🚀 Now!" })).await.status, 201);
    for text in ["", " \n ", "a\u{202e}b", "a\u{0}b", "a\tb", "\u{200b}", &"x".repeat(501)] {
        made(json!({ "text": text })).await.invalid("text");
    }
    for (form, param) in [
        (json!({}), "text"),
        (json!({ "text": 1 }), "text"),
        (json!({ "text": "a", "level": "danger" }), "level"),
        (json!({ "text": "a", "starts_at": "tomorrow" }), "starts_at"),
        (json!({ "text": "a", "ends_at": "2020-01-01T00:00:00Z" }), "ends_at"),
        (json!({ "text": "a", "created_by": "operator" }), "created_by"),
    ] {
        made(form).await.invalid(param);
    }
    let page = control.get(&format!("{ALL}?limit=1"), admin).await.ok();
    assert_eq!(page["data"][0]["text"], "🚀 Now!", "the newest first");
    let next = format!("{ALL}?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(control.get(&next, admin).await.ok()["next_cursor"], Value::Null);
    control.get(&format!("{ALL}?cursor=x"), admin).await.invalid("cursor");
}

#[tokio::test]
async fn current_announcements_are_cached_as_plans_are() {
    let control = control().await;
    let root = control.admin().await;
    let first = control.get(CURRENT, None).await;
    assert_eq!(first.header("cache-control"), "public, max-age=60");
    let tag = first.header("etag").to_owned();
    let again = async || {
        let mut ask = Ask::default();
        ask.headers.push(("if-none-match", tag.clone()));
        control.ask("GET", CURRENT, ask).await.status.as_u16()
    };
    assert_eq!(again().await, 304);
    control.post(ALL, Some(&root.token), json!({ "text": "news" })).await.ok();
    assert_eq!(again().await, 200);
}
