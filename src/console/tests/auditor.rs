//! Auditors: the admin pages without a form that changes something, and no form that is taken nonetheless.

use super::routes::{Route, routes};
use super::*;
use crate::control::tests::{Person, configured_upstream, control_with};
use domain::actor::AuditContext;
use domain::id::PlanId;
use domain::key::{KeyLimits, PlainKey};
use domain::user::Role;
use serde_json::{Value, json};
use store::UserChange;
use store::audit::{AuditEntry, AuditFilter};

/// Pages that are nothing but the form of a change.
const FORMS: [&str; 3] =
    ["/console/admin/users/new", "/console/admin/users/{id}/delete", "/console/admin/plans/new"];
/// A search, which is a form so that a key that is pasted as a whole comes into no address.
const SEARCH: &str = "/console/admin/keys";
/// Where forms of a page of an auditor go, besides [`SEARCH`].
const OWN: [&str; 2] = ["/console/logout", "/console/preferences"];
const READ_ONLY: &str = "Read-only";

/// Records that the pages show.
struct Records {
    control: Control,
    ada: Person,
    key: PlainKey,
    call: String,
    upgrade: String,
    announcement: String,
}

impl Records {
    async fn new() -> Self {
        let control = control_with(&configured_upstream("http://127.0.0.1:9/v1"), None).await;
        let (ada, root) = (control.user().await, control.admin().await);
        control.person("auditor@example.com", Role::Auditor).await;
        let key = control.key(ada.user.id, None, KeyLimits::default()).await;
        let call = control.charged(ada.user.id, |_| {}).await.request.to_string();
        let by = AuditContext::operator(clock::now());
        let plan = PlanId::from("log-min");
        let asked = control.store.request_upgrade(ada.user.id, &plan, &by).await.unwrap();
        let announced = json!({ "text": "Maintenance tonight" });
        let path = "/api/v1/admin/announcements";
        let announced: Value = control.post(path, Some(&root.token), announced).await.ok();
        let announcement = announced["id"].as_str().unwrap().to_owned();
        Self { control, ada, key, call, upgrade: asked.id.to_string(), announcement }
    }

    /// The path of a route, of records that exist.
    fn path(&self, route: &Route) -> String {
        let id = match route.pattern.trim_start_matches("/console/admin/").split('/').next() {
            Some("users") => self.ada.user.id.to_string(),
            Some("plans") => "leveler".to_owned(),
            Some("upgrades") => self.upgrade.clone(),
            Some("announcements") => self.announcement.clone(),
            _ => String::new(),
        };
        let session = RefreshToken::parse(&self.ada.refresh).unwrap().session();
        let path = route
            .pattern
            .replace("{id}", &id)
            .replace("{key}", self.key.id().as_str())
            .replace("{session}", &session.to_string())
            .replace("{request}", &self.call)
            .replace("{name}", "mine");
        assert!(!path.contains(['{', '}']) && !path.contains("//"), "{path}: add a record");
        path
    }

    async fn auditor(&self) -> Browser<'_> {
        let mut browser = Browser::logged_in(&self.control, "auditor@example.com").await;
        browser.get("/console").await;
        browser
    }

    async fn log(&self) -> Vec<AuditEntry> {
        self.control.store.audit(&AuditFilter::default(), None, 200).await.unwrap()
    }
}

/// The actions of the forms of a page that are sent by POST, however they are written.
fn posted_to(page: &str) -> Vec<&str> {
    for other in ["hx-post", "hx-put", "hx-patch", "hx-delete", "formmethod", "formaction"] {
        assert!(!page.contains(other), "{other}");
    }
    let forms = page.split("<form").skip(1).map(|rest| rest.split('>').next().unwrap());
    let posted = forms.filter(|tag| !tag.contains("method=\"get\""));
    posted.map(|tag| tag.split("action=\"").nth(1).unwrap().split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn every_admin_page_is_shown_without_its_forms() {
    let records = Records::new().await;
    let mut browser = records.auditor().await;
    for route in routes().iter().filter(|route| route.is_read && route.is_admin()) {
        let path = records.path(route);
        // Where an admin enters the password again, an auditor has nothing to confirm.
        browser.expire_confirmation().await;
        let reply = browser.get(&path).await;
        if FORMS.contains(&route.pattern.as_str()) {
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}");
            assert!(reply.text.contains("This needs an admin."), "{path}: {}", reply.text);
            continue;
        }
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
        let forms = posted_to(&reply.text);
        let is_own = |action: &&str| OWN.contains(action) || (*action == SEARCH && path == SEARCH);
        assert!(forms.iter().all(is_own), "{path}: {forms:?}");
        let is_page = reply.text.contains("<main");
        assert_eq!(reply.text.matches(READ_ONLY).count(), usize::from(is_page), "{path}");
        for form in FORMS {
            let link =
                format!("href=\"{}\"", form.replace("{id}", &records.ada.user.id.to_string()));
            assert!(!reply.text.contains(&link), "{path} links to {form}");
        }
    }
    let csv = browser.get("/console/admin/usage?format=csv").await;
    assert!(csv.header("content-type").starts_with("text/csv"), "{}", csv.text);
    let found = browser.post(SEARCH, &[("key", records.key.reveal())]).await;
    let expected = format!("{SEARCH}?key={}", records.key.id());
    assert_eq!(found.header("location"), expected, "a search is no change");
    let user = browser.get(&format!("/console/admin/users/{}", records.ada.user.id)).await;
    assert!(user.text.contains("<dt>Role</dt><dd>user</dd>"), "{}", user.text);
    let own = browser.get("/console/keys").await;
    assert!(!own.text.contains(READ_ONLY) && own.text.contains("/console/admin/users"));
}

#[tokio::test]
async fn no_admin_form_of_an_auditor_is_taken() {
    let records = Records::new().await;
    let mut browser = records.auditor().await;
    let before = records.log().await;
    let fields = [("status", "suspended"), ("email", "ada@example.com"), ("form_id", "1")];
    for route in routes().iter().filter(|route| route.is_sent && route.is_admin()) {
        let path = records.path(route);
        if path == SEARCH {
            continue;
        }
        for fields in [&fields[..], &fields[..1], &[]] {
            let reply = browser.post(&path, fields).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}: {}", reply.text);
            assert!(reply.text.contains("This needs an admin."), "{path}: {}", reply.text);
        }
    }
    assert_eq!(records.log().await, before);
    let ada = records.control.store.user(records.ada.user.id).await.unwrap().unwrap();
    assert_eq!(ada.status, records.ada.user.status);
}

#[tokio::test]
async fn a_form_sent_again_shows_no_link_to_those_who_are_no_admin_any_more() {
    let control = control().await;
    let root = control.admin().await.user;
    let mut browser = Browser::logged_in(&control, &root.email).await;
    browser.get("/console/admin/users/new").await;
    let form_id = browser.form_id.clone();
    let fields = [("email", "bob@example.com"), ("form_id", &form_id)];
    let first = browser.post("/console/admin/users/new", &fields).await;
    assert!(first.text.contains("lt-kx-"), "{}", first.text);
    let again = browser.post("/console/admin/users/new", &fields).await;
    assert_eq!(again.text, first.text, "a double click");
    let by = AuditContext::operator(clock::now());
    let demoted = UserChange { role: Some(Role::Auditor), ..UserChange::default() };
    control.store.change_user(root.id, &demoted, &by).await.unwrap();
    let again = browser.post("/console/admin/users/new", &fields).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    assert!(!again.text.contains("lt-kx-"), "{}", again.text);
}
