//! The layers around every route, and the routes without a credential.

use super::*;
use domain::charge::Charge;
use domain::user::UserStatus;
use jiff::ToSpan;
use quota::backend::{
    Claim, Correction, ExtendOutcome, QuotaUnavailable, RemovedUsage, Reset, TakeOutcome,
    UsageSnapshot,
};
use store::{Used, UserChange};

/// Counters that cannot be reached.
struct Away;

#[async_trait::async_trait]
impl QuotaBackend for Away {
    async fn take(&self, _: Claim, _: Timestamp) -> Result<TakeOutcome, QuotaUnavailable> {
        Err(QuotaUnavailable)
    }
    async fn extend(
        &self,
        _: RequestId,
        _: u64,
        _: u64,
    ) -> Result<ExtendOutcome, QuotaUnavailable> {
        Err(QuotaUnavailable)
    }
    async fn settle(&self, _: Charge) -> u64 {
        0
    }
    async fn correct(&self, _: &Correction) -> Result<(), QuotaUnavailable> {
        Err(QuotaUnavailable)
    }

    async fn reset(&self, _: &Reset) -> Result<RemovedUsage, QuotaUnavailable> {
        Err(QuotaUnavailable)
    }
    async fn usage_snapshot(
        &self,
        _: UserId,
        _: Option<&KeyId>,
        _: Day,
        _: Timestamp,
    ) -> Result<UsageSnapshot, QuotaUnavailable> {
        Err(QuotaUnavailable)
    }
    async fn used_on(&self, _: Day) -> Result<Vec<Used>, QuotaUnavailable> {
        Err(QuotaUnavailable)
    }
    async fn ping(&self) -> Result<(), QuotaUnavailable> {
        Err(QuotaUnavailable)
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
        ("POST", "/api/v1/users/login/", 415),
        ("GET", "/api/v1/plans/compare/pricing/", 200),
        ("GET", "/api/openapi.json", 200),
        ("PATCH", "/api/v1/keys/k_1", 401),
        ("GET", "/api/v1/plans/upgrade", 405),
        ("POST", "/health/", 405),
        ("DELETE", "/api/v1/users/login", 405),
        ("GET", "/nothing/here", 404),
        ("GET", "//nothing", 404),
    ];
    for (method, path, status) in cases {
        let reply = control.ask(method, path, Ask::default()).await;
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
    let code = async |method, path| control.ask(method, path, Ask::default()).await.code();
    assert_eq!(code("POST", "/api/v1/users/register").await, "not_json");
    assert_eq!(code("PUT", "/api/v1/users/register").await, "method_not_allowed");
    assert_eq!(code("GET", "/api/v2").await, "not_found");
    let reply = control.ask("PUT", "/health/ping", Ask::default()).await;
    assert_eq!(reply.header("allow"), "GET,HEAD");
}

#[tokio::test]
async fn every_reply_has_its_id_time_and_security_headers() {
    let control = control().await;
    for path in ["/health/ping", "/nothing", "/api/v1/users/profile"] {
        let reply = control.ask("GET", path, with("x-forwarded-proto", "https")).await;
        assert!(reply.header("x-request-id").starts_with("req_"), "{path}");
        assert!(reply.header("x-process-time").parse::<f64>().unwrap() < 5.0);
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("x-frame-options"), "DENY");
        assert!(reply.header("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert!(reply.header("strict-transport-security").starts_with("max-age="));
    }
    // A caller's own id is not taken for ours.
    for id in ["my-id_1.2", "req_0", "a b", ""] {
        let reply = control.ask("GET", "/health/ping", with("x-request-id", id)).await;
        assert!(reply.header("x-request-id").starts_with("req_0"), "{id:?}");
        assert_ne!(reply.header("x-request-id"), id);
    }
}

#[tokio::test]
async fn health_follows_the_phase_and_the_parts() {
    let control = control().await;
    let health = control.get("/health/", None).await.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["components"]["store"]["latency_ms"].is_number());
    for (phase, status, word) in [
        (Phase::Starting, 503, "starting"),
        (Phase::Ready, 200, "ready"),
        (Phase::ShuttingDown, 503, "draining"),
    ] {
        control.readiness.set(phase);
        let reply = control.get("/health/ready", None).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (status, &word.into()));
        assert_eq!(control.get("/health/", None).await.status, status);
        assert_eq!(control.get("/health/ping", None).await.status, 200);
    }
}

#[tokio::test]
async fn the_parts_are_asked_once_a_second_however_many_want_to_know() {
    let control = control().await;
    let asked = (0..50).map(|_| control.get("/health/", None));
    let replies = futures_util::future::join_all(asked).await;
    let first = replies[0].json()["components"].clone();
    assert!(replies.iter().all(|reply| reply.json()["components"] == first), "one answer for all");
    let database = control.get("/health/database", None).await.json();
    assert_eq!(database, first["store"], "and for the store alone");
}

#[tokio::test]
async fn health_is_degraded_while_known_callers_are_served() {
    let control = control().await;
    control.store.close().await;
    let reply = control.get("/health/", None).await;
    let health = reply.json();
    assert_eq!((reply.status.as_u16(), &health["status"]), (200, &"degraded".into()), "{health}");
    let serving =
        serde_json::json!({ "known_callers": true, "new_callers": false, "control_plane": false });
    assert_eq!(health["serving"], serving);
    assert_eq!(control.get("/health/database", None).await.status, 503);
}

#[tokio::test]
async fn the_admin_port_answers_to_its_own_names_only() {
    let control = control().await;
    for (host, status) in
        [("127.0.0.1:9090", 200), ("gateway-1:9090", 200), ("attacker.example:9090", 421)]
    {
        let request = axum::http::Request::get("/metrics").header("host", host);
        let request = request.body(axum::body::Body::empty()).unwrap();
        let reply = tower::ServiceExt::oneshot(control.admin_port.clone(), request).await.unwrap();
        assert_eq!(reply.status(), status, "{host}");
    }
}

#[tokio::test]
async fn counters_that_are_away_are_told_as_503() {
    let control = control_with("", Some(Arc::new(Away))).await;
    let health = control.get("/health/", None).await;
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["components"]["counters"]["status"], "unavailable");
    assert_eq!(health.json()["components"]["store"]["status"], "ok");
    let ada = control.user().await;
    let reply = control.get("/api/v1/chat/usage", Some(&ada.token)).await;
    reply.refused(503, "quota_store_unavailable");
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn plans_are_listed_and_kept_by_their_etag() {
    let control = control().await;
    let reply = control.get("/api/v1/plans/", None).await;
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
        let again = control.ask("GET", "/api/v1/plans", with("if-none-match", known)).await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (status, tag), "{known}");
        assert_eq!(again.text.is_empty(), status == 304);
    }
    let one = control.get("/api/v1/plans/high-max", None).await;
    assert_eq!(one.json()["concurrent_streams"], 500);
    assert_ne!(one.header("etag"), tag);
}

#[tokio::test]
async fn json_is_compressed_when_asked_for() {
    let control = control().await;
    for coding in ["gzip", "br"] {
        let reply = control.ask("GET", "/api/v1/plans/", with("accept-encoding", coding)).await;
        assert_eq!(reply.header("content-encoding"), coding);
        assert!(reply.header("vary").contains("accept-encoding"));
    }
}

#[tokio::test]
async fn origins_are_those_of_the_configuration() {
    let cases = [("", ""), ("\"*\"", "*"), ("[\"https://a.example\"]", "https://a.example")];
    for (origins, allowed) in cases {
        let origins = if origins.is_empty() { "\"\"" } else { origins };
        let control = control_with(&format!("[cors]\norigins = {origins}\n"), None).await;
        let from = ("origin", "https://a.example".to_owned());
        let ask = Ask { headers: vec![from.clone()], ..Ask::default() };
        let reply = control.ask("GET", "/api/v1/plans/", ask).await;
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
        let asks = vec![from, ("access-control-request-method", "GET".to_owned())];
        let ask = Ask { headers: asks, ..Ask::default() };
        let preflight = control.ask("OPTIONS", "/api/v1/plans/", ask).await;
        assert_eq!(preflight.header("access-control-allow-origin"), allowed);
        let stranger = control.ask("GET", "/", with("origin", "https://b.example")).await;
        assert_ne!(stranger.header("access-control-allow-origin"), "https://b.example");
    }
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let control = control().await;
    let path = "/api/v1/users/register";
    let announced =
        [("content-length", "65537".to_owned()), ("content-type", "application/json".to_owned())];
    for headers in [&announced[..], &announced[1..]] {
        let body = Body::from(vec![b' '; 65_537]);
        let reply = raw(&control.router, "POST", path, headers, None, body).await;
        reply.refused(413, "body_too_large");
    }
}

#[tokio::test]
async fn a_panic_is_a_500_in_the_same_shape() {
    let panicking = Router::new().route("/", get(async || -> &'static str { panic!("a test") }));
    let router =
        http::middleware::layers(panicking, &crate::config::Cors::SameOrigin, Vec::new().into());
    let reply = send(&router, "GET", "/", Ask::default()).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.json()["error"]["type"], "server_error");
    assert!(reply.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn usage_shows_the_stricter_limits_and_what_is_reserved() {
    let control = control().await;
    let ada = control.user().await;
    let limits = KeyLimits { tokens_per_day: Some(300), ..KeyLimits::default() };
    let key = control.key(ada.user.id, None, limits).await;
    for (credential, limit) in [(key.reveal(), 300), (&*ada.token, 5_000)] {
        let usage = control.get("/api/v1/chat/usage", Some(credential)).await.ok();
        assert_eq!(control.get("/api/v1/usage/current", Some(credential)).await.ok(), usage);
        let tokens = json!({ "used": 0, "reserved": 0, "limit": limit, "remaining": limit });
        assert_eq!(usage["tokens"], tokens);
        assert_eq!(usage["plan"], "leveler");
        assert_eq!(usage["requests"], json!({ "used": 0, "limit": 100, "remaining": 100 }));
        assert_eq!(usage["window"]["remaining"], 100);
        assert_eq!(usage["streams"]["limit"], 50);
        let resets_at: Timestamp = usage["resets_at"].as_str().unwrap().parse().unwrap();
        assert!(resets_at > clock::now());
        assert_eq!(usage["day"].as_str().unwrap().len(), "2026-09-21".len());
    }
}

#[tokio::test]
async fn keys_that_do_not_hold_are_refused() {
    let control = control().await;
    let ada = control.user().await.user.id;
    let path = "/api/v1/chat/usage";
    let asked = async |key: &str| control.get(path, Some(key)).await;
    control.get(path, None).await.refused(401, "not_authenticated");
    for (value, code) in [
        ("Basic abc", "not_authenticated"),
        ("Bearer sk-kx-nonsense", "invalid_api_key"),
        ("Bearer nonsense", "invalid_token"),
        ("Bearer", "not_authenticated"),
    ] {
        control.ask("GET", path, with("authorization", value)).await.refused(401, code);
    }
    let key = control.key(ada, None, KeyLimits::default()).await;
    let bearer = format!("Bearer {}", key.reveal());
    for twice in [[&*bearer, &*bearer], [&*bearer, "Basic abc"], ["Basic abc", &*bearer]] {
        let headers = twice.map(|value| ("authorization", value.to_owned())).to_vec();
        let ask = Ask { headers, ..Ask::default() };
        control.ask("GET", path, ask).await.refused(401, "invalid_token");
    }
    let stranger = PlainKey::generate().unwrap();
    asked(stranger.reveal()).await.refused(401, "invalid_api_key");
    let expired = clock::now().checked_sub(1.second()).unwrap();
    let expired = control.key(ada, Some(expired), KeyLimits::default()).await;
    asked(expired.reveal()).await.refused(401, "invalid_api_key");

    assert_eq!(asked(key.reveal()).await.status, 200);
    control.store.revoke_key(&key.id(), &AuditContext::operator(clock::now())).await.unwrap();
    asked(key.reveal()).await.refused(401, "invalid_api_key");

    let key = control.key(ada, None, KeyLimits::default()).await;
    assert_eq!(asked(key.reveal()).await.status, 200);
    let suspend = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    control.store.change_user(ada, &suspend, &AuditContext::operator(clock::now())).await.unwrap();
    asked(key.reveal()).await.refused(403, "account_suspended");
}

#[tokio::test]
async fn the_admin_port_has_metrics_and_counters() {
    let control = control().await;
    let get = async |path| send(&control.admin_port, "GET", path, Ask::default()).await;
    let metrics = get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text.contains("knockx_build_info"));
    assert_eq!(get("/debug/quota?day=2026-09-21").await.json(), serde_json::json!([]));
    assert_eq!(get("/debug/quota").await.status, 200);
    let bad = get("/debug/quota?day=yesterday").await;
    bad.invalid("day");
    assert_eq!(get("/health/ping").await.status, 200);
    assert_eq!(get("/health/ready").await.status, 200);
    assert_eq!(get("/api/v1/plans/").await.json()["error"]["code"], "not_found");
}

fn with<'a>(name: &'a str, value: &str) -> Ask<'a> {
    Ask { headers: vec![(name, value.to_owned())], ..Ask::default() }
}
