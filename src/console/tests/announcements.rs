//! Announcements above the pages of logged-in users.

use super::*;
use domain::actor::AuditContext;
use domain::id;
use jiff::{SignedDuration, Timestamp};
use store::announcements::{Announcement, Level};
use system::clock;

async fn announce(control: &Control, text: &str, starts_at: Timestamp, ends_at: Option<Timestamp>) {
    let announcement = Announcement {
        id: id::sorted_by_time(),
        text: text.to_owned(),
        level: Level::Info,
        starts_at,
        ends_at,
        created_by: "operator".to_owned(),
        created_at: starts_at,
    };
    let by = AuditContext::operator(clock::now());
    control.store.add_announcement(&announcement, &by).await.unwrap();
}

#[tokio::test]
async fn logged_in_users_see_current_announcements() {
    let control = control().await;
    let user = control.user().await.user;
    let hour = SignedDuration::from_hours(1);
    let now = clock::now();
    announce(&control, "Maintenance on <b>Sunday</b>.", now - hour, Some(now + hour)).await;
    announce(&control, "It is over.", now - hour * 2, Some(now - hour)).await;
    announce(&control, "It is to come.", now + hour, None).await;
    let mut visitor = Browser::new(&control);
    assert!(!visitor.get("/console/login").await.text.contains("Maintenance"));
    let mut browser = Browser::logged_in(&control, &user.email).await;
    for page in ["/console", "/console/account"] {
        let page = browser.get(page).await.text;
        assert!(page.contains("Maintenance on &#60;b&#62;Sunday"), "{page}");
        assert!(!page.contains("It is over.") && !page.contains("It is to come."), "{page}");
    }
}
