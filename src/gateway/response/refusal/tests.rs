use super::*;
use std::time::Duration;
use wire::request::Request;
use wire::surface::Surface;

/// Status, `type`, `code`, `param`, further headers, and whether the connection ends.
type Row<'a> = (u16, &'a str, &'a str, &'a str, Vec<(&'a str, &'a str)>, bool);

fn check(refusal: Refusal, expected: &Row<'_>) {
    let shown = format!("{refusal:?}");
    let answer = refusal.answer();
    let (code, param) = (answer.body.code.as_deref(), answer.body.param.as_deref());
    let headers: Vec<(&str, &str)> =
        answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let found = (
        answer.status,
        answer.body.kind,
        code.unwrap_or(""),
        param.unwrap_or(""),
        headers,
        answer.close,
    );
    assert_eq!(found, *expected, "{shown}");
    let message = &answer.body.message;
    assert!(message.ends_with('.') || message.contains("YOUR_KEY"), "{message}");
    let json: serde_json::Value = serde_json::from_str(&answer.body.to_json()).unwrap();
    let mut members: Vec<_> = json["error"].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["code", "message", "param", "type"], "{shown}");
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

#[test]
fn what_cannot_be_trusted_ends_the_connection() {
    let closing = |status, code| (status, INVALID, code, "", vec![], true);
    check(Refusal::HeadersTooLarge { limit: 10 }, &closing(431, ""));
    check(Refusal::TooManyHeaders { limit: 10 }, &closing(431, ""));
    check(Refusal::SlowHead(Duration::from_secs(1)), &closing(408, ""));
    check(Refusal::BadHead("why"), &closing(400, ""));
    check(Refusal::BodyTooLarge { limit: 10 }, &closing(413, "request_too_large"));
    check(Refusal::SlowBody { time: Duration::from_secs(1), rate: 0 }, &closing(408, ""));
    let slow = Refusal::SlowBody { time: Duration::from_millis(1_500), rate: 2048 }.answer();
    let text = "The request body did not arrive within 1.5 s, or not at 2048 bytes per second.";
    assert_eq!(slow.body.message, text);
    check(Refusal::CutBody, &closing(400, ""));
}

#[test]
fn routes_and_models() {
    let open = |status, code, param| (status, INVALID, code, param, vec![], false);
    check(Refusal::NoSuchRoute("GET /v1/x".into()), &open(404, "unknown_url", ""));
    let twice = Refusal::NoSuchRoute("POST /v1/v1/chat/completions".into()).answer();
    assert!(twice.body.message.ends_with("contains /v1 twice; remove one."), "{:?}", twice.body);
    let upgrade = vec![("connection", "upgrade"), ("upgrade", "HTTP/1.1")];
    check(Refusal::WebSocket, &(426, INVALID, "upgrade_required", "", upgrade, false));
    check(Refusal::StoredStream, &open(400, "unsupported_parameter", "stream"));
    let allow = vec![("allow", "POST")];
    check(
        Refusal::WrongMethod { allow: "POST" },
        &(405, INVALID, "method_not_allowed", "", allow, false),
    );
    check(Refusal::UnknownModel("m".into()), &open(404, "model_not_found", "model"));
    check(Refusal::ModelNotAllowed("m".into()), &open(403, "model_not_allowed", "model"));
    let bad = Request::parse(Surface::ChatCompletions, br#"{"model":1}"#).unwrap_err();
    check(Refusal::BadBody(bad), &open(400, "invalid_type", "model"));
}

#[test]
fn keys() {
    let asks = vec![("www-authenticate", "Bearer realm=\"knockx\"")];
    let unauthorized = |code| (401, INVALID, code, "", asks.clone(), false);
    check(Refusal::MissingKey, &unauthorized(""));
    check(Refusal::WrongKey, &unauthorized("invalid_api_key"));
    check(Refusal::RevokedKey, &unauthorized("invalid_api_key"));
    check(Refusal::ExpiredKey, &unauthorized("invalid_api_key"));
    check(Refusal::SuspendedUser, &unauthorized("account_deactivated"));
    check(Refusal::UnverifiedUser, &(403, INVALID, "email_unverified", "", vec![], false));
}

#[test]
fn what_is_away_for_a_moment_says_when_to_come_back() {
    let soon = |code| (503, SERVER, code, "", vec![("retry-after", "1")], false);
    check(Refusal::CallersUnavailable, &soon("key_store_unavailable"));
    check(Refusal::QuotaUnavailable, &soon("quota_store_unavailable"));
    check(Refusal::Upstream(UpstreamFailure::Busy), &soon("upstream_busy"));
    let resting = UpstreamFailure::Resting(Duration::from_millis(300));
    check(Refusal::Upstream(resting), &soon("upstream_unavailable"));
    check(Refusal::CountingBusy, &soon("gateway_busy"));
    let closing = (503, SERVER, "shutting_down", "", vec![("retry-after", "1")], true);
    check(Refusal::ShuttingDown, &closing);
    let closing = (503, SERVER, "gateway_busy", "", vec![("retry-after", "1")], true);
    check(Refusal::NoRoom, &closing);
}

#[test]
fn upstream_failures() {
    let failed = |status, code| (status, SERVER, code, "", vec![], false);
    for (failure, status, code) in [
        (UpstreamFailure::Connect, 502, "upstream_unreachable"),
        (UpstreamFailure::ConnectTimeout, 504, "upstream_timeout"),
        (UpstreamFailure::FirstByteTimeout, 504, "upstream_timeout"),
        (UpstreamFailure::Closed, 502, "upstream_closed"),
        (UpstreamFailure::NotHttp, 502, "upstream_bad_reply"),
        (UpstreamFailure::BadReply, 502, "upstream_bad_reply"),
    ] {
        check(Refusal::Upstream(failure), &failed(status, code));
    }
}

#[test]
fn limits() {
    let limited = |limit, by_open_calls, retry_after_ms| {
        Refusal::Limited(Limited { limit, by_open_calls, retry_after_ms, numbers: None })
    };
    let waits = |kind, after, after_ms| {
        let headers = vec![("retry-after", after), ("retry-after-ms", after_ms)];
        (429, kind, "rate_limit_exceeded", "", headers, false)
    };
    check(limited(LimitKind::Window, false, 1_500), &waits("requests", "2", "1500"));
    check(limited(LimitKind::Window, false, 0), &waits("requests", "1", "1"));
    check(limited(LimitKind::ConcurrentStreams, true, 0), &waits("requests", "1", "1000"));
    // What running calls hold comes back within seconds, whatever is left of the day.
    check(limited(LimitKind::TokensPerDay, true, 9_000_000), &waits("tokens", "2", "2000"));
    let gone = |after| {
        let headers = vec![("retry-after", after), ("x-should-retry", "false")];
        (429, "insufficient_quota", "insufficient_quota", "", headers, false)
    };
    check(limited(LimitKind::TokensPerDay, false, 3_600_001), &gone("3601"));
    check(limited(LimitKind::RequestsPerDay, false, 500), &gone("1"));
    check(limited(LimitKind::RequestsPerDay, false, 0), &gone("1"));
}

#[test]
fn waits_are_said_without_trailing_zeros() {
    for (ms, text) in [(0, "0"), (1, "0.001"), (1_500, "1.5"), (60_000, "60")] {
        assert_eq!(seconds(ms), text);
    }
}
