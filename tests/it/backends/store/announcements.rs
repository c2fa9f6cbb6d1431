//! Announcements: shown while they run, and audited.

use super::{Any, admin, at};
use domain::actor::AuditContext;
use domain::id;
use jiff::Timestamp;
use serde_json::json;
use store::announcements::{Announcement, AnnouncementChange, AnnouncementError, Level, SHOWN};
use store::audit::AuditFilter;

fn announcement(text: &str, starts_at: i64, ends_at: Option<i64>) -> Announcement {
    Announcement {
        id: id::sorted_by_time(),
        text: text.to_owned(),
        level: Level::Info,
        starts_at: at(starts_at),
        ends_at: ends_at.map(at),
        created_by: "operator".to_owned(),
        created_at: at(0),
    }
}

async fn add(store: &Any, announcement: &Announcement) {
    store.add_announcement(announcement, &AuditContext::operator(at(0))).await.unwrap();
}

async fn shown(store: &Any, now: Timestamp) -> Vec<String> {
    let current = store.current_announcements(now).await.unwrap();
    current.into_iter().map(|announcement| announcement.text).collect()
}

pub async fn an_announcement_added_twice_is_added_once(store: Any) {
    let one = Announcement { level: Level::Warning, ..announcement("Ünïcode <b>", 1, Some(2)) };
    add(&store, &one).await;
    add(&store, &one).await;
    assert_eq!(store.announcements(None, 9).await.unwrap(), [one]);
    let entries = store.audit(&AuditFilter::default(), None, 9).await.unwrap();
    assert_eq!(entries.len(), 1);
}

pub async fn announcements_are_shown_while_they_run(store: Any) {
    add(&store, &announcement("long", 10, Some(30))).await;
    add(&store, &announcement("short", 20, Some(25))).await;
    add(&store, &announcement("endless", 5, None)).await;
    assert_eq!(shown(&store, at(4)).await, [""; 0]);
    assert_eq!(shown(&store, at(5)).await, ["endless"]);
    assert_eq!(shown(&store, at(10)).await, ["long", "endless"]);
    assert_eq!(shown(&store, at(24)).await, ["short", "long", "endless"], "the latest first");
    assert_eq!(shown(&store, at(25)).await, ["long", "endless"]);
    assert_eq!(shown(&store, at(30)).await, ["endless"]);
    for n in 0..i64::from(SHOWN) {
        add(&store, &announcement("many", 40 + n, None)).await;
    }
    let many = shown(&store, at(100)).await;
    assert_eq!(many.len(), SHOWN as usize);
    assert!(many.iter().all(|text| text == "many"));
}

pub async fn changes_of_announcements_are_logged_with_old_values(store: Any) {
    let (one, by) = (announcement("one", 1, Some(2)), admin());
    add(&store, &one).await;
    let change = |ends_at| AnnouncementChange { ends_at, ..AnnouncementChange::default() };
    let late = change(Some(None));
    let changed = store.change_announcement(one.id, &late, &by).await.unwrap().unwrap();
    assert_eq!(changed, Announcement { ends_at: None, ..one.clone() });
    // As it is already: nothing to log.
    store.change_announcement(one.id, &change(None), &by).await.unwrap().unwrap();
    for end in [0, 1] {
        let refused = store.change_announcement(one.id, &change(Some(Some(at(end)))), &by).await;
        assert!(matches!(refused, Err(AnnouncementError::EndsBeforeStart)), "{refused:?}");
    }
    let all = AnnouncementChange {
        text: Some("two".to_owned()),
        level: Some(Level::Warning),
        starts_at: Some(at(3)),
        ends_at: Some(Some(at(4))),
    };
    let changed = store.change_announcement(one.id, &all, &by).await.unwrap().unwrap();
    assert_eq!(store.announcements(None, 9).await.unwrap(), [changed]);
    assert!(store.delete_announcement(one.id, &by).await.unwrap());
    assert!(!store.delete_announcement(one.id, &by).await.unwrap());
    assert_eq!(store.change_announcement(one.id, &late, &by).await.unwrap(), None);
    assert_eq!(store.announcements(None, 9).await.unwrap(), []);

    let entries = store.audit(&AuditFilter::default(), None, 9).await.unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    let (add, change) = ("announcement.add", "announcement.change");
    assert_eq!(actions, ["announcement.delete", change, change, add]);
    let subject = format!("announcement:{}", one.id);
    assert!(entries.iter().all(|entry| entry.subject == subject));
    assert_eq!(entries[1].before.as_ref().unwrap()["text"], "one");
    assert_eq!(entries[1].after.as_ref().unwrap()["level"], json!("warning"));
    assert_eq!(entries[0].after, None);
    assert_eq!(entries[0].actor, by.actor.to_string());
}

pub async fn announcements_come_in_pages_the_newest_first(store: Any) {
    for n in 0..5 {
        add(&store, &announcement(&n.to_string(), n, None)).await;
    }
    let (mut texts, mut before) = (Vec::new(), None);
    loop {
        let page = store.announcements(before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        texts.extend(page.into_iter().map(|announcement| announcement.text));
    }
    assert_eq!(texts, ["4", "3", "2", "1", "0"]);
}
