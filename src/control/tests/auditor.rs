//! The role auditor: reads what an admin reads, changes only its own account, and learns no secret.

use super::*;
use store::audit::AuditFilter;

const ADMIN: &str = "/api/v1/admin/";

/// An admin route of the OpenAPI document.
struct AdminRoute {
    method: String,
    template: String,
}

/// Records that the paths of routes name, and the people who ask.
struct Records {
    control: Control,
    ada: Person,
    root: Person,
    auditor: Person,
    key: PlainKey,
    call: String,
    upgrade: String,
    announcement: String,
    /// Texts that would let an auditor act as another person.
    secrets: Vec<String>,
}

impl Records {
    async fn new() -> Self {
        let control = control_with(&configured_upstream("http://127.0.0.1:9/v1"), None).await;
        let (ada, root) = (control.user().await, control.admin().await);
        let auditor = control.person("auditor@example.com", Role::Auditor).await;
        let key = control.key(ada.user.id, None, KeyLimits::default()).await;
        let call = control.charged(ada.user.id, |_| {}).await.request.to_string();
        let asked = json!({ "plan_id": "log-min" });
        let asked = control.post("/api/v1/plans/upgrade", Some(&ada.token), asked).await.ok();
        let announced = json!({ "text": "Maintenance tonight" });
        let admin = Some(&*root.token);
        let announced = control.post("/api/v1/admin/announcements", admin, announced).await.ok();
        let invited = json!({ "email": "bob@example.com" });
        let invited = control.post("/api/v1/admin/users", admin, invited).await.ok();
        let link = invited["invitation"]["path"].as_str().unwrap();
        let (_, token) = link.split_once("token=").unwrap();
        let texts = [token, &ada.refresh, &root.refresh, &ada.token, &root.token, key.reveal()];
        let more = ["hunter2-key", "$argon2", "lt-kx-", "su-kx-", "rt-kx-"];
        let secrets = texts.into_iter().chain(more).map(str::to_owned).collect();
        let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
        let (upgrade, announcement) = (id(&asked), id(&announced));
        Self { control, ada, root, auditor, key, call, upgrade, announcement, secrets }
    }

    /// Every admin route of the OpenAPI document, so that a new one is walked as well.
    async fn routes(&self) -> Vec<AdminRoute> {
        let document = self.control.get("/api/openapi.json", None).await.ok();
        let paths = document["paths"].as_object().unwrap();
        let routes = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods
                .map(|method| AdminRoute { method: method.to_uppercase(), template: path.clone() })
        });
        let routes: Vec<_> = routes.filter(|route| route.template.starts_with(ADMIN)).collect();
        assert!(routes.len() > 30, "{}", routes.len());
        routes
    }

    /// The path of a route, of records that exist.
    fn path(&self, template: &str) -> String {
        let id = match template.trim_start_matches(ADMIN).split('/').next().unwrap() {
            "users" => self.ada.user.id.to_string(),
            "plans" => "leveler".to_owned(),
            "upgrades" => self.upgrade.clone(),
            "announcements" => self.announcement.clone(),
            _ => String::new(),
        };
        let path = template
            .replace("{id}", &id)
            .replace("{key_id}", self.key.id().as_str())
            .replace("{request_id}", &self.call)
            .replace("{name}", "mine");
        assert!(!path.contains(['{', '}']) && !path.contains("//"), "{template}: add a record");
        path
    }

    async fn ask(&self, route: &AdminRoute, token: &str) -> Reply {
        let body = body_of(&route.method, &route.template);
        let mut ask = Ask::default().bearer(Some(token));
        if let Some(body) = body {
            ask = ask.json(body);
        }
        self.control.ask(&route.method, &self.path(&route.template), ask).await
    }

    /// What a change would leave behind: the audit log, and the records themselves.
    async fn state(&self) -> Vec<String> {
        let log = self.control.store.audit(&AuditFilter::default(), None, 200).await.unwrap();
        let mut state = vec![serde_json::to_string(&log).unwrap()];
        let user = self.path("/api/v1/admin/users/{id}");
        let keys = format!("{user}/keys");
        for path in ["/api/v1/admin/users", "/api/v1/plans", "/api/v1/admin/upgrades", &keys] {
            state.push(self.control.get(path, Some(&self.root.token)).await.text);
        }
        let path = "/api/v1/admin/announcements";
        state.push(self.control.get(path, Some(&self.root.token)).await.text);
        state.push(format!("{:?}", self.control.store.user(self.ada.user.id).await.unwrap()));
        state
    }
}

/// A body that the route takes; `None` for routes without one.
fn body_of(method: &str, template: &str) -> Option<Value> {
    let plan = json!({
        "id": "team", "name": "Team", "price_cents": 1, "max_tokens_per_day": 1, "concurrent_streams": 1,
        "max_requests_per_day": 1, "window": { "requests": 1, "seconds": 1 },
    });
    Some(match (method, template.trim_start_matches(ADMIN)) {
        ("GET" | "DELETE", _) => return None,
        ("POST", "users") => json!({ "email": "carol@example.com", "role": "admin" }),
        ("PATCH", "users/{id}") => json!({ "role": "admin" }),
        ("POST", "plans") => plan,
        ("PATCH", "plans/{id}") => json!({ "name": "Renamed" }),
        ("POST", "announcements") => json!({ "text": "By the auditor" }),
        ("PATCH", "announcements/{id}") => json!({ "text": "By the auditor" }),
        (
            "POST",
            "users/{id}/invitation"
            | "users/{id}/reset-usage"
            | "upgrades/{id}/approve"
            | "upgrades/{id}/reject"
            | "upstreams/{name}/test"
            | "config/reload",
        ) => json!({}),
        _ => panic!("{method} {template}: add a body that it takes"),
    })
}

#[tokio::test]
async fn an_auditor_reads_every_admin_route_and_changes_nothing() {
    let records = Records::new().await;
    let routes = records.routes().await;
    let before = records.state().await;
    for route in &routes {
        let name = format!("{} {}", route.method, route.template);
        let reply = records.ask(route, &records.auditor.token).await;
        if route.method == "GET" {
            assert_eq!(reply.status, 200, "{name}: {}", reply.text);
            for secret in &records.secrets {
                assert!(!reply.text.contains(secret), "{name} has {secret}: {}", reply.text);
            }
        } else {
            reply.refused(403, "read_only_role");
            assert!(reply.text.contains("requires the role `admin`"), "{name}: {}", reply.text);
        }
        records.ask(route, &records.ada.token).await.refused(403, "admins_only");
    }
    assert_eq!(records.state().await, before, "nothing has changed");
    for path in ["/api/v1/admin/usage?format=csv", "/api/v1/admin/users/{id}/calls?format=csv"] {
        let token = Some(&*records.auditor.token);
        let csv = records.control.get(&records.path(path), token).await;
        assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8", "{path}: {}", csv.text);
    }
    // The same requests of an admin are taken, so only the role was the reason.
    let mut routes: Vec<_> = routes.iter().filter(|route| route.method != "GET").collect();
    routes.sort_by_key(|route| route.method == "DELETE");
    for route in routes {
        let name = format!("{} {}", route.method, route.template);
        let reply = records.ask(route, &records.root.token).await;
        assert!(
            !matches!(reply.status.as_u16(), 400 | 401 | 403 | 415 | 422 | 500),
            "{name}: {}",
            reply.text
        );
    }
    assert_ne!(records.state().await, before);
}

#[tokio::test]
async fn an_auditor_owns_an_account_as_any_user() {
    let control = control().await;
    let auditor = control.person("auditor@example.com", Role::Auditor).await;
    let token = Some(&*auditor.token);
    let profile = control.get("/api/v1/users/profile", token).await.ok();
    assert_eq!(profile["role"], "auditor");
    control.patch("/api/v1/users/profile", token, json!({ "username": "eyes" })).await.ok();
    control.patch("/api/v1/users/profile", token, json!({ "role": "admin" })).await.invalid("role");
    let key = control.post("/api/v1/keys", token, json!({ "name": "own" })).await.ok();
    let usage = control.get("/api/v1/chat/usage", key["api_key"].as_str()).await;
    assert_eq!(usage.status, 200, "a key of an auditor calls as any: {}", usage.text);
    let own = format!("/api/v1/admin/users/{}", auditor.user.id);
    control.patch(&own, token, json!({ "role": "admin" })).await.refused(403, "read_only_role");
    let change = json!({ "current_password": PASSWORD, "new_password": "another long password" });
    control.post("/api/v1/users/change-password", token, change).await.ok();
    let gone = json!({ "current_password": "another long password" });
    let again = control.login("auditor@example.com", "another long password").await.ok();
    let token = again["access_token"].as_str();
    control.post("/api/v1/users/delete-account", token, gone).await.ok();
}

#[tokio::test]
async fn an_admin_who_becomes_an_auditor_loses_the_rights_at_once() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let second = control.person("second@example.com", Role::Admin).await;
    let path = |user: &User| format!("/api/v1/admin/users/{}", user.id);
    let demotion = json!({ "role": "auditor" });
    let admin = Some(&*root.token);
    control.patch(&path(&root.user), admin, demotion.clone()).await.refused(409, "own_account");
    let changed = control.patch(&path(&second.user), admin, demotion.clone()).await.ok();
    assert_eq!(changed["user"]["role"], "auditor");
    let token = Some(&*second.token);
    control.get(&path(&ada.user), token).await.ok();
    let suspension = json!({ "status": "suspended" });
    control.patch(&path(&ada.user), token, suspension).await.refused(403, "read_only_role");
    let log = format!("/api/v1/admin/audit?user={}&action=user.change", second.user.id);
    let entry = control.get(&log, admin).await.ok()["data"][0].clone();
    let roles = (&entry["before"]["role"], &entry["after"]["role"]);
    assert_eq!(roles, (&json!("admin"), &json!("auditor")));
    assert_eq!(entry["actor"], format!("user:{}", root.user.id));

    // An auditor is no admin: the last one can neither be made one nor leave.
    let by = AuditContext {
        actor: domain::actor::Actor::User(second.user.id),
        ..AuditContext::operator(clock::now())
    };
    let change = store::UserChange { role: Some(Role::Auditor), ..store::UserChange::default() };
    let last = control.store.change_user(root.user.id, &change, &by).await;
    assert!(matches!(last, Err(store::UserError::LastAdmin)), "{last:?}");
    let found = control.get("/api/v1/admin/users?role=auditor", token).await.ok();
    let emails: Vec<_> =
        found["data"].as_array().unwrap().iter().map(|row| &row["email"]).collect();
    assert_eq!(emails, [&json!("second@example.com")]);
    let invited = json!({ "email": "eyes@example.com", "role": "auditor" });
    let invited = control.post("/api/v1/admin/users", admin, invited).await.ok();
    assert_eq!(invited["user"]["role"], "auditor");
}
