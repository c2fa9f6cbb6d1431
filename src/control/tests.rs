//! The router as its callers see it, over a real store and real counters.

use super::*;
use crate::account::charge::Charge;
use crate::account::day::Day;
use crate::account::id::KeyId;
use crate::account::id::{PlanId, RequestId, UserId};
use crate::account::key::{KeyLimits, PlainKey};
use crate::account::user::{Role, UserStatus};
use crate::clock;
use crate::config;
use crate::quota::counters::{Claim, CountersError, Extended, Removed, Reset, Standing, Taken};
use crate::quota::memory::MemoryCounters;
use crate::store::{self, NewKey, NewUser, Used, UserChange};
use crate::telemetry::metrics::Metrics;
use crate::usage::journal::Journal;
use crate::workers::Workers;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const SECRET: &[u8] = b"a pepper for tests";

/// A control plane with one user on `leveler`, and what tests need beside it.
struct Control {
    router: Router,
    admin: Router,
    store: Arc<dyn Store>,
    readiness: Readiness,
    user: UserId,
    _folder: tempfile::TempDir,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e} in {:?}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn control() -> Control {
    control_with(Cors::SameOrigin, None).await
}

async fn control_with(cors: Cors, counters: Option<Arc<dyn Counters>>) -> Control {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("k.db").display());
    let variables = BTreeMap::from([("DATABASE_URL".to_owned(), url)]);
    let config = config::load_from(None, &variables).unwrap();
    let store = store::open(&config.database).await.unwrap();
    store.put_plans(&config.plans).await.unwrap();
    let user = NewUser {
        email: "a@example.com".to_owned(),
        username: None,
        password_hash: None,
        role: Role::User,
        plan: PlanId::from("leveler"),
        created_at: clock::now(),
    };
    let user = store.add_user(&user).await.unwrap().id;
    let metrics = Arc::new(Metrics::new(&[], &[]));
    let tasks = Workers::default();
    let journal =
        Journal::start(Arc::clone(&store), Arc::clone(&metrics), &tasks, CancellationToken::new());
    let counters = counters.unwrap_or_else(|| Arc::new(MemoryCounters::rebuilt(&[], journal)));
    let readiness = Readiness::new();
    readiness.set(Phase::Ready);
    let router = router(ControlState {
        store: Arc::clone(&store),
        counters: Arc::clone(&counters),
        callers: Arc::new(CallerCache::new(Arc::clone(&store), 100)),
        pepper: Pepper::new(SECRET),
        readiness: readiness.clone(),
        started_at: clock::instant(),
        cors,
    });
    let admin = admin_router(AdminState { metrics, counters, readiness: readiness.clone() });
    Control { router, admin, store, readiness, user, _folder: folder }
}

impl Control {
    async fn key(&self, expires_at: Option<Timestamp>, limits: KeyLimits) -> PlainKey {
        let key = PlainKey::generate().unwrap();
        let new = NewKey {
            id: key.id(),
            digest: key.digest(&Pepper::new(SECRET)),
            last_four: key.last_four().to_owned(),
            name: "test".to_owned(),
            created_at: clock::now(),
            expires_at,
            limits,
        };
        self.store.add_key(self.user, &new).await.unwrap();
        key
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[]).await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        send(&self.router, method, path, headers, Body::empty()).await
    }

    async fn usage(&self, key: &PlainKey) -> Reply {
        let bearer = format!("Bearer {}", key.reveal());
        self.send("GET", "/api/v1/chat/usage", &[("authorization", &bearer)]).await
    }
}

async fn send(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    Reply { status: head.status, headers: head.headers, text }
}

/// Counters that cannot be reached.
struct Away;

#[async_trait::async_trait]
impl Counters for Away {
    async fn take(&self, _: Claim, _: Timestamp) -> Result<Taken, CountersError> {
        Err(CountersError)
    }
    async fn extend(&self, _: RequestId, _: u64, _: u64) -> Result<Extended, CountersError> {
        Err(CountersError)
    }
    async fn settle(&self, _: Charge) -> u64 {
        0
    }
    async fn reset(&self, _: &Reset) -> Result<Removed, CountersError> {
        Err(CountersError)
    }
    async fn standing(
        &self,
        _: UserId,
        _: Option<&KeyId>,
        _: Day,
        _: Timestamp,
    ) -> Result<Standing, CountersError> {
        Err(CountersError)
    }
    async fn used_on(&self, _: Day) -> Result<Vec<Used>, CountersError> {
        Err(CountersError)
    }
    async fn ping(&self) -> Result<(), CountersError> {
        Err(CountersError)
    }
    fn open_leases(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn every_route_answers_with_and_without_a_trailing_slash() {
    let control = control().await;
    let cases = [
        ("GET", "/", 200),
        ("GET", "/api", 200),
        ("GET", "/api/", 200),
        ("GET", "/health", 200),
        ("GET", "/health/", 200),
        ("HEAD", "/health/", 200),
        ("GET", "/health/ping", 200),
        ("GET", "/health/ready/", 200),
        ("GET", "/health/database", 200),
        ("GET", "/health/keep-alive/", 200),
        ("GET", "/api/v1/plans", 200),
        ("GET", "/api/v1/plans/log-min/", 200),
        ("GET", "/api/v1/plans/none", 404),
        ("GET", "/api/v1/chat/usage/", 401),
        ("POST", "/api/v1/users/login", 501),
        ("GET", "/api/v1/plans/compare/pricing/", 501),
        ("PATCH", "/api/v1/keys/k_1", 501),
        ("GET", "/console/", 501),
        ("GET", "/api/v1/plans/upgrade", 405),
        ("POST", "/health/", 405),
        ("DELETE", "/api/v1/users/login", 405),
        ("GET", "/nothing/here", 404),
        ("GET", "//", 404),
    ];
    for (method, path, status) in cases {
        let reply = control.send(method, path, &[]).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        if status >= 400 {
            let error = &reply.json()["error"];
            let keys: Vec<_> = error.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["code", "message", "param", "type"], "{method} {path}");
        }
    }
}

#[tokio::test]
async fn refusals_name_their_code() {
    let control = control().await;
    let code =
        async |method, path| control.send(method, path, &[]).await.json()["error"]["code"].clone();
    assert_eq!(code("POST", "/api/v1/users/register").await, "not_implemented");
    assert_eq!(code("PUT", "/api/v1/users/register").await, "method_not_allowed");
    assert_eq!(code("GET", "/api/v2").await, "not_found");
    let reply = control.send("PUT", "/health/ping", &[]).await;
    assert_eq!(reply.header("allow"), "GET,HEAD");
}

#[tokio::test]
async fn every_reply_has_its_id_time_and_security_headers() {
    let control = control().await;
    for path in ["/health/ping", "/nothing", "/api/v1/users/profile"] {
        let reply = control.send("GET", path, &[("x-forwarded-proto", "https")]).await;
        assert!(reply.header("x-request-id").starts_with("req_"), "{path}");
        assert!(reply.header("x-process-time").parse::<f64>().unwrap() < 5.0);
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("x-frame-options"), "DENY");
        assert!(reply.header("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert!(reply.header("strict-transport-security").starts_with("max-age="));
    }
    let long = "a".repeat(129);
    for (id, is_kept) in [("my-id_1.2", true), ("a b", false), ("", false), (&*long, false)] {
        let reply = control.send("GET", "/health/ping", &[("x-request-id", id)]).await;
        assert_eq!(reply.header("x-request-id") == id, is_kept, "{id:?}");
    }
}

#[tokio::test]
async fn health_follows_the_phase_and_the_parts() {
    let control = control().await;
    let health = control.get("/health/").await.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["components"]["store"]["latency_ms"].is_number());
    for (phase, status, word) in [
        (Phase::Starting, 503, "starting"),
        (Phase::Ready, 200, "ready"),
        (Phase::Draining, 503, "draining"),
    ] {
        control.readiness.set(phase);
        let reply = control.get("/health/ready").await;
        assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (status, &word.into()));
        assert_eq!(control.get("/health/").await.status, status);
        assert_eq!(control.get("/health/ping").await.status, 200);
    }
}

#[tokio::test]
async fn counters_that_are_away_are_told_as_503() {
    let control = control_with(Cors::SameOrigin, Some(Arc::new(Away))).await;
    let health = control.get("/health/").await;
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["components"]["counters"]["status"], "unavailable");
    assert_eq!(health.json()["components"]["store"]["status"], "ok");
    let reply = control.usage(&control.key(None, KeyLimits::default()).await).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["error"]["code"], "quota_store_unavailable");
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn plans_are_listed_and_kept_by_their_etag() {
    let control = control().await;
    let reply = control.get("/api/v1/plans/").await;
    let plans = &reply.json()["data"];
    assert_eq!(plans.as_array().unwrap().len(), 4);
    assert_eq!(plans[0]["id"], "baby-free");
    assert_eq!(plans[1]["max_tokens_per_day"], 5_000);
    assert_eq!(plans[1]["price_cents"], 400);
    assert_eq!(plans[1]["window"], serde_json::json!({ "requests": 100, "seconds": 60 }));
    assert_eq!(plans[1]["time_zone"], "UTC");
    assert_eq!(reply.header("cache-control"), "public, max-age=60");
    let tag = reply.header("etag");
    let both = format!("\"other\", {}", tag.trim_start_matches("W/"));
    for (known, status) in [(tag, 304), (&*both, 304), ("*", 304), ("\"other\"", 200)] {
        let again = control.send("GET", "/api/v1/plans", &[("if-none-match", known)]).await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (status, tag), "{known}");
        assert_eq!(again.text.is_empty(), status == 304);
    }
    let one = control.get("/api/v1/plans/high-max").await;
    assert_eq!(one.json()["concurrent_streams"], 500);
    assert_ne!(one.header("etag"), tag);
}

#[tokio::test]
async fn json_is_compressed_when_asked_for() {
    let control = control().await;
    for coding in ["gzip", "br"] {
        let reply = control.send("GET", "/api/v1/plans/", &[("accept-encoding", coding)]).await;
        assert_eq!(reply.header("content-encoding"), coding);
        assert!(reply.header("vary").contains("accept-encoding"));
    }
}

#[tokio::test]
async fn origins_are_those_of_the_configuration() {
    let listed = Cors::Origins(vec!["https://a.example".to_owned()]);
    let cases = [(Cors::SameOrigin, ""), (Cors::Any, "*"), (listed, "https://a.example")];
    for (cors, allowed) in cases {
        let control = control_with(cors, None).await;
        let from = ("origin", "https://a.example");
        let reply = control.send("GET", "/api/v1/plans/", &[from]).await;
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
        let asks = [from, ("access-control-request-method", "GET")];
        let preflight = control.send("OPTIONS", "/api/v1/plans/", &asks).await;
        assert_eq!(preflight.header("access-control-allow-origin"), allowed);
        let stranger = control.send("GET", "/", &[("origin", "https://b.example")]).await;
        assert_ne!(stranger.header("access-control-allow-origin"), "https://b.example");
    }
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let control = control().await;
    let path = "/api/v1/users/register";
    let length = [("content-length", "65537")];
    let reply = send(&control.router, "POST", path, &length, Body::from(vec![b'x'; 65_537])).await;
    assert_eq!(reply.status, 413);
    assert_eq!(reply.json()["error"]["code"], "body_too_large");
}

#[tokio::test]
async fn a_panic_is_a_500_in_the_same_shape() {
    let panicking = Router::new().route("/", get(async || -> &'static str { panic!("a test") }));
    let router = around::surround(panicking, &Cors::SameOrigin);
    let reply = send(&router, "GET", "/", &[], Body::empty()).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.json()["error"]["type"], "server_error");
    assert!(reply.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn usage_shows_the_stricter_limits_and_what_is_reserved() {
    let control = control().await;
    let limits = KeyLimits { tokens_per_day: Some(300), ..KeyLimits::default() };
    let key = control.key(None, limits).await;
    let reply = control.usage(&key).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let usage = reply.json();
    let tokens = serde_json::json!({ "used": 0, "reserved": 0, "limit": 300, "remaining": 300 });
    assert_eq!(usage["tokens"], tokens);
    assert_eq!(usage["plan"], "leveler");
    assert_eq!(usage["requests"], serde_json::json!({ "used": 0, "limit": 100, "remaining": 100 }));
    assert_eq!(usage["window"]["remaining"], 100);
    assert_eq!(usage["streams"]["limit"], 50);
    let resets_at: Timestamp = usage["resets_at"].as_str().unwrap().parse().unwrap();
    assert!(resets_at > clock::now());
    assert_eq!(usage["day"].as_str().unwrap().len(), "2026-09-21".len());
}

#[tokio::test]
async fn keys_that_do_not_hold_are_refused() {
    let control = control().await;
    let refused = async |reply: Reply, status: u16, message: &str| {
        assert_eq!(reply.status, status, "{}", reply.text);
        let text = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(text.contains(message), "{text}");
        assert_eq!(!reply.header("www-authenticate").is_empty(), status == 401);
    };
    refused(control.get("/api/v1/chat/usage").await, 401, "Send your API key").await;
    for (value, message) in [
        ("Basic abc", "Send your API key"),
        ("Bearer sk-kx-nonsense", "not known"),
        ("Bearer", "Send your API key"),
    ] {
        let reply = control.send("GET", "/api/v1/chat/usage", &[("authorization", value)]).await;
        refused(reply, 401, message).await;
    }
    let bearer = format!("Bearer {}", control.key(None, KeyLimits::default()).await.reveal());
    let bearer = bearer.as_str();
    for twice in [[bearer, bearer], [bearer, "Basic abc"], ["Basic abc", bearer]] {
        let headers = twice.map(|value| ("authorization", value));
        let reply = control.send("GET", "/api/v1/chat/usage", &headers).await;
        refused(reply, 401, "not known").await;
    }
    let stranger = PlainKey::generate().unwrap();
    refused(control.usage(&stranger).await, 401, "not known").await;
    let expired = clock::now().checked_sub(1.second()).unwrap();
    let expired = control.key(Some(expired), KeyLimits::default()).await;
    refused(control.usage(&expired).await, 401, "expired").await;

    let key = control.key(None, KeyLimits::default()).await;
    assert_eq!(control.usage(&key).await.status, 200);
    control.store.revoke_key(&key.id(), clock::now()).await.unwrap();
    refused(control.usage(&key).await, 401, "revoked").await;

    let key = control.key(None, KeyLimits::default()).await;
    assert_eq!(control.usage(&key).await.status, 200);
    let suspend = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    control.store.change_user(control.user, &suspend).await.unwrap();
    refused(control.usage(&key).await, 403, "suspended").await;
}

#[tokio::test]
async fn the_admin_port_has_metrics_and_counters() {
    let control = control().await;
    let get = async |path| send(&control.admin, "GET", path, &[], Body::empty()).await;
    let metrics = get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text.contains("knockx_build_info"));
    assert_eq!(get("/debug/quota?day=2026-09-21").await.json(), serde_json::json!([]));
    assert_eq!(get("/debug/quota").await.status, 200);
    let bad = get("/debug/quota?day=yesterday").await;
    assert_eq!((bad.status.as_u16(), &bad.json()["error"]["param"]), (400, &"day".into()));
    assert_eq!(get("/health/ping").await.status, 200);
    assert_eq!(get("/health/ready").await.status, 200);
    assert_eq!(get("/api/v1/plans/").await.json()["error"]["code"], "not_found");
}
