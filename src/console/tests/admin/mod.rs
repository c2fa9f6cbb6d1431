//! Pages of admins.

mod operations;
mod plans;
mod users;

use super::*;
use crate::control::tests::Person;
use domain::actor::AuditContext;
use domain::charge::Status;
use domain::id::{PlanId, RequestId};
use domain::key::KeyLimits;
use domain::refresh_token::RefreshToken;
use domain::user::{Role, User, UserStatus};
use jiff::ToSpan;
use store::{KeyChange, NewUser, UserChange};
use system::clock;

/// Pages of admins that exist without a record.
const PAGES: [&str; 13] = [
    "/console/admin",
    "/console/admin/users",
    "/console/admin/users/new",
    "/console/admin/keys",
    "/console/admin/plans",
    "/console/admin/plans/new",
    "/console/admin/upgrades",
    "/console/admin/models",
    "/console/admin/upstreams",
    "/console/admin/system",
    "/console/admin/audit",
    "/console/admin/usage",
    "/console/admin/announcements",
];

/// A control plane with the admin Root, in a browser of hers, and the user Ada.
async fn people(control: &Control) -> (Browser<'_>, Person, Person) {
    let (ada, root) = (control.user().await, control.admin().await);
    let mut browser = Browser::logged_in(control, &root.user.email).await;
    browser.get("/console").await;
    (browser, ada, root)
}

async fn current(control: &Control, user: &User) -> User {
    control.store.user(user.id).await.unwrap().unwrap()
}

/// What a person reads on a page: without tags, and with one space between words.
fn words(page: &str) -> String {
    let body = page.split_once("<main").map_or(page, |(_, rest)| rest);
    let body = body.split_once("</main>").map_or(body, |(body, _)| body);
    let text = body.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
    let text = text.collect::<Vec<_>>().join(" ").replace("&#39;", "'");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn admin_pages_exist_for_admins_alone() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let id = ada.user.id;
    let user = format!("/console/admin/users/{id}");
    let records = ["", "/limits", "/calls", "/meters"].map(|part| format!("{user}{part}"));
    let plan = "/console/admin/plans/leveler".to_owned();
    let pages = PAGES.map(str::to_owned).into_iter().chain(records).chain([plan]);
    let pages: Vec<String> = pages.collect();
    let (mut visitor, mut browser) =
        (Browser::new(&control), Browser::logged_in(&control, &ada.user.email).await);
    let absent = browser.get("/console/nothing").await;
    for page in &pages {
        assert_eq!(root.get(page).await.status, StatusCode::OK, "{page}");
        let reply = visitor.get(page).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{page}");
        assert!(reply.header("location").starts_with("/console/login?next="), "{page}");
        let reply = browser.get(page).await;
        assert_eq!(
            (reply.status, words(&reply.text)),
            (absent.status, words(&absent.text)),
            "{page}"
        );
    }
    assert!(!browser.get("/console").await.text.contains("/console/admin"));
    assert!(root.get("/console").await.text.contains("/console/admin/users"));
    let forms = ["/change", "/limits", "/reset-usage", "/keys/0123456789ab/revoke"];
    let forms = forms.map(|form| format!("{user}{form}")).into_iter();
    let others = [
        "/console/admin/keys",
        "/console/admin/plans/new",
        "/console/admin/plans/leveler",
        "/console/admin/plans/leveler/retire",
        "/console/admin/plans/leveler/reopen",
        "/console/admin/upgrades/0199aaaa-0000-7000-8000-000000000000/approve",
        "/console/admin/upgrades/0199aaaa-0000-7000-8000-000000000000/reject",
        "/console/admin/system/reload",
    ];
    for form in forms.chain(others.map(str::to_owned)) {
        browser.get("/console").await;
        let reply = browser.post(&form, &[("status", "suspended")]).await;
        assert_eq!(
            (reply.status, words(&reply.text)),
            (absent.status, words(&absent.text)),
            "{form}"
        );
        visitor.get("/console/login").await;
        assert_eq!(visitor.post(&form, &[]).await.status, StatusCode::SEE_OTHER, "{form}");
    }
    assert_eq!(current(&control, &ada.user).await, ada.user);
}

#[tokio::test]
async fn changes_need_a_password_entered_lately() {
    let control = control().await;
    let (mut root, ada, _) = people(&control).await;
    let session = RefreshToken::parse(&root.cookies[0].1).unwrap().session();
    let long_ago = clock::now() - 16.minutes();
    control.store.confirm_session(session, long_ago).await.unwrap();
    let user = format!("/console/admin/users/{}", ada.user.id);
    root.get(&user).await;
    for (form, next) in [
        (format!("{user}/change"), user.clone()),
        (format!("{user}/reset-usage"), user.clone()),
        (format!("{user}/limits"), format!("{user}/limits")),
        (format!("{user}/keys/0123456789ab/revoke"), user.clone()),
        ("/console/admin/plans/new".to_owned(), "/console/admin/plans/new".to_owned()),
        ("/console/admin/plans/leveler".to_owned(), "/console/admin/plans/leveler".to_owned()),
        ("/console/admin/plans/leveler/retire".to_owned(), "/console/admin/plans".to_owned()),
        ("/console/admin/system/reload".to_owned(), "/console/admin/system".to_owned()),
    ] {
        let fields: &[(&str, &str)] =
            if form.ends_with("/change") { &[("status", "suspended")] } else { &[] };
        let reply = root.post(&form, fields).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{form}");
        let next = next.replace('/', "%2F");
        assert_eq!(reply.header("location"), format!("/console/confirm?next={next}"), "{form}");
    }
    assert_eq!(current(&control, &ada.user).await.status, UserStatus::Active);
    root.get("/console/confirm").await;
    root.post("/console/confirm", &[("password", PASSWORD)]).await;
    root.post(&format!("{user}/change"), &[("status", "suspended")]).await;
    assert_eq!(current(&control, &ada.user).await.status, UserStatus::Suspended);
}

fn changed<'a>(
    fields: &[(&'a str, &'a str)],
    name: &str,
    value: &'a str,
) -> Vec<(&'a str, &'a str)> {
    fields.iter().map(|field| if field.0 == name { (field.0, value) } else { *field }).collect()
}
