//! Who may call which route: a route that is missing in this table fails the test.

use super::*;

/// Access rule of a route.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// No credentials are needed.
    Open,
    /// A session or an API key is needed.
    Reader,
    /// A session is needed.
    User,
    /// A session of an admin is needed, or for `get` of an auditor.
    Admin,
}

use Rule::{Admin as AdminOnly, Open, Reader, User as SignedIn};

const RULES: [(&str, &str, Rule); 82] = [
    ("get", "/", Open),
    ("get", "/api", Open),
    ("get", "/health", Open),
    ("get", "/health/ping", Open),
    ("get", "/health/ready", Open),
    ("get", "/health/database", Open),
    ("get", "/health/keep-alive", Open),
    ("post", "/api/v1/users/register", Open),
    ("post", "/api/v1/users/login", Open),
    ("post", "/api/v1/users/refresh", Open),
    ("post", "/api/v1/users/logout", SignedIn),
    ("post", "/api/v1/users/verify-email/send", SignedIn),
    ("post", "/api/v1/users/verify-email", Open),
    ("post", "/api/v1/users/forgot-password", Open),
    ("post", "/api/v1/users/reset-password", Open),
    ("post", "/api/v1/users/accept-invitation", Open),
    ("post", "/api/v1/setup", Open),
    ("get", "/api/v1/users/profile", Reader),
    ("patch", "/api/v1/users/profile", SignedIn),
    ("post", "/api/v1/users/change-password", SignedIn),
    ("get", "/api/v1/users/sessions", SignedIn),
    ("delete", "/api/v1/users/sessions", SignedIn),
    ("delete", "/api/v1/users/sessions/{id}", SignedIn),
    ("get", "/api/v1/users/second-factor", SignedIn),
    ("post", "/api/v1/users/second-factor", SignedIn),
    ("post", "/api/v1/users/second-factor/enable", SignedIn),
    ("post", "/api/v1/users/second-factor/recovery-codes", SignedIn),
    ("post", "/api/v1/users/second-factor/disable", SignedIn),
    ("get", "/api/v1/users/identities", SignedIn),
    ("post", "/api/v1/users/identities/{id}/unlink", SignedIn),
    ("get", "/api/v1/users/export", SignedIn),
    ("post", "/api/v1/users/delete-account", SignedIn),
    ("post", "/api/v1/users/regenerate-api-key", SignedIn),
    ("get", "/api/v1/keys", SignedIn),
    ("post", "/api/v1/keys", SignedIn),
    ("patch", "/api/v1/keys/{id}", SignedIn),
    ("post", "/api/v1/keys/{id}/rotate", SignedIn),
    ("delete", "/api/v1/keys/{id}", SignedIn),
    ("get", "/api/v1/chat/usage", Reader),
    ("get", "/api/v1/usage/current", Reader),
    ("get", "/api/v1/usage/daily", Reader),
    ("get", "/api/v1/usage/monthly", Reader),
    ("get", "/api/v1/usage/history", Reader),
    ("get", "/api/v1/usage/history/{request_id}", Reader),
    ("get", "/api/v1/usage/stats", Reader),
    ("get", "/api/v1/plans", Open),
    ("get", "/api/v1/plans/{plan_id}", Open),
    ("get", "/api/v1/plans/compare/pricing", Open),
    ("post", "/api/v1/plans/upgrade", SignedIn),
    ("get", "/api/v1/announcements", Open),
    ("get", "/api/v1/admin/stats/overview", AdminOnly),
    ("get", "/api/v1/admin/users", AdminOnly),
    ("post", "/api/v1/admin/users", AdminOnly),
    ("post", "/api/v1/admin/users/{id}/invitation", AdminOnly),
    ("get", "/api/v1/admin/users/{id}", AdminOnly),
    ("patch", "/api/v1/admin/users/{id}", AdminOnly),
    ("get", "/api/v1/admin/users/{id}/calls", AdminOnly),
    ("get", "/api/v1/admin/calls/{request_id}", AdminOnly),
    ("delete", "/api/v1/admin/users/{id}", AdminOnly),
    ("delete", "/api/v1/admin/users/{id}/second-factor", AdminOnly),
    ("get", "/api/v1/admin/users/{id}/keys", AdminOnly),
    ("delete", "/api/v1/admin/users/{id}/keys/{key_id}", AdminOnly),
    ("post", "/api/v1/admin/users/{id}/reset-usage", AdminOnly),
    ("get", "/api/v1/admin/usage/top-users", AdminOnly),
    ("get", "/api/v1/admin/usage", AdminOnly),
    ("get", "/api/v1/admin/announcements", AdminOnly),
    ("post", "/api/v1/admin/announcements", AdminOnly),
    ("patch", "/api/v1/admin/announcements/{id}", AdminOnly),
    ("delete", "/api/v1/admin/announcements/{id}", AdminOnly),
    ("get", "/api/v1/admin/config", AdminOnly),
    ("get", "/api/v1/admin/upstreams", AdminOnly),
    ("post", "/api/v1/admin/upstreams/{name}/test", AdminOnly),
    ("post", "/api/v1/admin/plans", AdminOnly),
    ("patch", "/api/v1/admin/plans/{id}", AdminOnly),
    ("delete", "/api/v1/admin/plans/{id}", AdminOnly),
    ("get", "/api/v1/admin/upgrades", AdminOnly),
    ("post", "/api/v1/admin/upgrades/{id}/approve", AdminOnly),
    ("post", "/api/v1/admin/upgrades/{id}/reject", AdminOnly),
    ("get", "/api/v1/admin/audit", AdminOnly),
    ("get", "/api/v1/admin/models", AdminOnly),
    ("get", "/api/v1/admin/stats/daily", AdminOnly),
    ("get", "/api/v1/admin/system/health", AdminOnly),
];
const RELOAD: (&str, &str, Rule) = ("post", "/api/v1/admin/config/reload", AdminOnly);

/// A gateway and the credentials of everyone who may ask.
struct Fixture {
    control: Control,
    user: String,
    auditor: String,
    admin: String,
    key: String,
    admins_key: String,
}

impl Fixture {
    async fn new() -> Self {
        let control = control().await;
        let (ada, root) = (control.user().await, control.admin().await);
        let auditor = control.person("auditor@example.com", Role::Auditor).await;
        let key = control.key(ada.user.id, None, KeyLimits::default()).await;
        let admins_key = control.key(root.user.id, None, KeyLimits::default()).await;
        Self {
            control,
            user: ada.token,
            auditor: auditor.token,
            admin: root.token,
            key: key.reveal().to_owned(),
            admins_key: admins_key.reveal().to_owned(),
        }
    }
}

#[tokio::test]
async fn every_route_answers_those_it_is_for_and_nobody_else() {
    // Reads change nothing, so they share a gateway; each change has one of its own.
    let shared = Fixture::new().await;
    let document = shared.control.get("/api/openapi.json", None).await.ok();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let is_ours = !path.contains("/v1/chat/completions") && !path.starts_with("/v1/");
            let has_rule = RULES.iter().chain([&RELOAD]).any(|(m, p, _)| m == method && p == path);
            assert_eq!(has_rule, is_ours, "{method} {path}: who may ask for it?");
        }
    }
    for (method, path, rule) in RULES.into_iter().chain([RELOAD]) {
        let operation = &document["paths"][path][method];
        assert!(operation.is_object(), "{method} {path} is not described");
        let schemes: Vec<&str> = operation["security"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|one| one.as_object().unwrap().keys().map(String::as_str))
            .collect();
        let described: &[&str] = match rule {
            Open => &[],
            Reader => &["token", "key"],
            SignedIn | AdminOnly => &["token"],
        };
        assert_eq!(schemes, described, "{method} {path}");
        if method == "get" {
            answers_by_rule(&shared, method, path, rule).await;
        } else {
            answers_by_rule(&Fixture::new().await, method, path, rule).await;
        }
    }
}

async fn answers_by_rule(who: &Fixture, method: &str, path: &str, rule: Rule) {
    let method = method.to_uppercase();
    let path = path.replace("{id}", "none").replace("{key_id}", "none");
    let path = path.replace("{plan_id}", "leveler").replace("{name}", "none");
    let path = path.replace("{request_id}", "none");
    let asked = async |credential: Option<&str>| {
        let reply = who.control.ask(&method, &path, Ask::default().bearer(credential)).await;
        (reply.status.as_u16(), reply)
    };
    let is_let_in = |status: u16| status != 401 && status != 403;

    let (anonymous, reply) = asked(None).await;
    assert_eq!(
        is_let_in(anonymous),
        rule == Open,
        "without credentials: {method} {path}: {anonymous}"
    );
    if rule != Open {
        reply.refused(401, "not_authenticated");
    }
    for bad in ["nonsense", "sk-kx-nonsense", ""] {
        let (status, _) = asked(Some(bad)).await;
        assert_eq!(is_let_in(status), rule == Open, "{bad:?}: {method} {path}: {status}");
    }
    for key in [&who.key, &who.admins_key] {
        let (status, reply) = asked(Some(key)).await;
        let expected = rule == Open || rule == Reader;
        assert_eq!(is_let_in(status), expected, "key: {method} {path}: {status}");
        if !expected {
            reply.refused(401, "access_token_required");
        }
    }
    let (user, reply) = asked(Some(&who.user)).await;
    assert_eq!(is_let_in(user), rule != AdminOnly, "user: {method} {path}: {user}");
    if rule == AdminOnly {
        reply.refused(403, "admins_only");
    }
    let (auditor, reply) = asked(Some(&who.auditor)).await;
    let changes_others = rule == AdminOnly && method != "GET";
    assert_eq!(is_let_in(auditor), !changes_others, "auditor: {method} {path}: {auditor}");
    if changes_others {
        reply.refused(403, "read_only_role");
    }
    let (admin, _) = asked(Some(&who.admin)).await;
    assert!(is_let_in(admin), "admin: {method} {path}: {admin}");
}

#[tokio::test]
async fn nobody_reads_or_changes_what_is_anothers() {
    let control = control().await;
    let ada = control.user().await;
    let eve = control.person("eve@example.com", Role::User).await;
    let eve_token = Some(&*eve.token);
    control.charged(ada.user.id, |_| {}).await;
    let added =
        control.post("/api/v1/keys", Some(&ada.token), json!({ "name": "laptop" })).await.ok();
    let key = format!("/api/v1/keys/{}", added["id"].as_str().unwrap());

    control.patch(&key, eve_token, json!({ "name": "mine" })).await.refused(404, "not_found");
    control.delete(&key, eve_token).await.refused(404, "not_found");
    assert_eq!(control.get("/api/v1/keys", eve_token).await.ok()["data"], json!([]));
    let rows = control.get("/api/v1/usage/history", Some(&ada.token)).await.ok();
    assert_eq!(rows["data"].as_array().unwrap().len(), 1);
    assert_eq!(control.get("/api/v1/usage/history", eve_token).await.ok()["data"], json!([]));
    // A cursor is a place, not a right: it shows her own list, which is empty.
    let at = clock::now().as_millisecond() + 1;
    let cursor = format!("/api/v1/usage/history?cursor={at}.{}", RequestId::new());
    assert_eq!(control.get(&cursor, eve_token).await.ok()["data"], json!([]));
    let forged = format!("/api/v1/usage/history?cursor={}", ada.user.id);
    control.get(&forged, eve_token).await.invalid("cursor");

    // Whose a token is, it says itself: nothing in a request makes it another's.
    let sneaky = format!("/api/v1/usage/history?user={}", ada.user.id);
    control.get(&sneaky, eve_token).await.invalid("user");
    for field in ["role", "plan", "plan_id", "limits", "overrides", "status", "id"] {
        let form = json!({ field: "admin" });
        control.patch("/api/v1/users/profile", eve_token, form).await.invalid(field);
    }
    assert_eq!(control.get("/api/v1/keys", Some(&ada.token)).await.ok()["data"][0], {
        let mut key = added.clone();
        key.as_object_mut().unwrap().remove("api_key");
        key
    });
}
