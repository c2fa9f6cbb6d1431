use super::*;

const UUID: &str = "7d1b2c3e-0a0b-4c4d-8e8f-101112131415";

fn xai(code: &str, message: &str) -> String {
    serde_json::json!({ "code": code, "error": message }).to_string()
}

fn openai(code: &str, kind: &str, message: &str) -> String {
    serde_json::json!({ "error": { "message": message, "type": kind, "param": "x.y", "code": code } })
        .to_string()
}

fn check(status: u16, body: &str, fault: Fault, answer: u16, code: Option<&str>) -> UpstreamError {
    let error = UpstreamError::read(status, Some("application/json"), body.as_bytes());
    let said = (error.fault, error.status, error.body.code.as_deref());
    assert_eq!(said, (fault, answer, code), "{status} {body}");
    assert!(!error.body.message.is_empty());
    error
}

#[test]
fn the_operators_account_is_not_the_callers_fault() {
    let auth = Some("upstream_auth");
    let wrong = "Incorrect API key provided: xa***Qz. Get one from https://console.example/keys.";
    check(400, &xai("invalid-argument", wrong), Fault::OperatorKey, 502, auth);
    check(400, &xai("Client specified an invalid argument", wrong), Fault::OperatorKey, 502, auth);
    check(
        401,
        &openai("invalid_api_key", "invalid_request_error", wrong),
        Fault::OperatorKey,
        502,
        auth,
    );
    check(401, "", Fault::OperatorKey, 502, auth);
    check(403, &xai("permission-denied", "The team is blocked."), Fault::OperatorKey, 502, auth);

    let quota = Some("upstream_quota");
    let spent = format!(
        "Your team {UUID} has either used all available credits or reached its monthly spending limit."
    );
    for (status, code) in [
        (429, "resource-exhausted"),
        (429, "Some resource has been exhausted"),
        (403, "permission-denied"),
    ] {
        let error = check(status, &xai(code, &spent), Fault::OperatorQuota, 503, quota);
        assert!(!error.body.message.contains(UUID));
    }
    for code in ["insufficient_quota", "credit_balance_exhausted", "project_spend_limit_exceeded"] {
        check(
            429,
            &openai(code, "insufficient_quota", "Pay up."),
            Fault::OperatorQuota,
            503,
            quota,
        );
    }
    check(402, "", Fault::OperatorQuota, 503, quota);
}

#[test]
fn a_rate_limit_stays_one() {
    let rate = Some("rate_limit_exceeded");
    let message = format!(
        "Too many requests for team {UUID} and model m. Tokens per Minute (actual/limit): 9/8"
    );
    let error = check(429, &xai("resource-exhausted", &message), Fault::Rate, 429, rate);
    assert_eq!(error.body.kind, "tokens");
    assert!(error.fault.is_retriable());
    let message = "Requests per Second (actual/limit): 2/2";
    let error = check(429, &xai("resource-exhausted", message), Fault::Rate, 429, rate);
    assert_eq!(error.body.kind, "requests");
    assert!(
        !error.body.message.contains("2/2"),
        "the operator's limits are not the caller's business"
    );
    check(429, "slow down", Fault::Rate, 429, rate);
}

#[test]
fn the_callers_own_mistakes_are_reported() {
    let long =
        "This model's maximum prompt length is 256000 but the request contains 300001 tokens.";
    let error = check(
        400,
        &xai("invalid-argument", long),
        Fault::TooLong,
        400,
        Some("context_length_exceeded"),
    );
    assert_eq!(
        (error.body.message.as_str(), error.body.param.as_deref()),
        (long, Some("messages"))
    );
    check(
        400,
        &openai("context_length_exceeded", "invalid_request_error", "Too long."),
        Fault::TooLong,
        400,
        Some("context_length_exceeded"),
    );

    let error = check(
        404,
        &xai("not-found", "The model m does not exist."),
        Fault::Model,
        404,
        Some("model_not_found"),
    );
    assert_eq!(error.body.param.as_deref(), Some("model"));

    let error =
        check(422, &xai("invalid-argument", "missing field `role`"), Fault::Request, 400, None);
    assert_eq!(error.body.message, "missing field `role`");
    check(410, &xai("gone", "Live search is deprecated."), Fault::Request, 400, None);
    check(422, r#"{"detail":"field required"}"#, Fault::Request, 400, None);
    check(400, r#"{"error":"bad stop"}"#, Fault::Request, 400, None);
    let error = check(
        400,
        &openai("unknown_parameter", "invalid_request_error", "Unknown parameter."),
        Fault::Request,
        400,
        Some("unknown_parameter"),
    );
    assert_eq!(error.body.param.as_deref(), Some("x.y"));
    check(
        403,
        &xai("permission-denied", "Content violates usage guidelines."),
        Fault::Content,
        403,
        Some("content_policy_violation"),
    );
    for (code, kept) in [
        ("content_policy_violation", "content_policy_violation"),
        ("content_filter", "content_filter"),
        ("prompt_blocked", "prompt_blocked"),
        ("DataInspectionFailed", "DataInspectionFailed"),
    ] {
        let body = openai(code, "invalid_request_error", "Your request was rejected.");
        let error = check(400, &body, Fault::Content, 400, Some(kept));
        assert_eq!(error.body.param.as_deref(), Some("x.y"));
        assert_eq!(UpstreamError::of_event(body.as_bytes()).fault, Fault::Content);
    }
    let flagged = openai("invalid_prompt", "invalid_request_error", "Your prompt was flagged.");
    check(400, &flagged, Fault::Content, 400, Some("invalid_prompt"));
    let empty = openai("invalid_prompt", "invalid_request_error", "The prompt is empty.");
    check(400, &empty, Fault::Request, 400, Some("invalid_prompt"));
    let named = openai("unknown_parameter", "invalid_request_error", "Unknown: safety.");
    check(400, &named, Fault::Request, 400, Some("unknown_parameter"));
    assert!(!Fault::Request.is_retriable() && !Fault::TooLong.is_retriable());
}

#[test]
fn outages_are_server_errors() {
    for (status, fault, answer, code) in [
        (500, Fault::Broken, 502, "upstream_error"),
        (502, Fault::Broken, 502, "upstream_error"),
        (503, Fault::Unavailable, 503, "upstream_unavailable"),
        (529, Fault::Unavailable, 503, "upstream_unavailable"),
        (504, Fault::Timeout, 504, "upstream_timeout"),
        (408, Fault::Timeout, 504, "upstream_timeout"),
        (302, Fault::Broken, 502, "upstream_error"),
        (101, Fault::Broken, 502, "upstream_error"),
        (404, Fault::Broken, 502, "upstream_error"),
        (400, Fault::Broken, 502, "upstream_error"),
    ] {
        for body in ["", "<html>nginx</html>", "\u{0}\u{1}", "[[[[", "{}", "null"] {
            let error = check(status, body, fault, answer, Some(code));
            assert_eq!(error.body.kind, "server_error");
        }
        let html =
            UpstreamError::read(status, Some("text/html; charset=utf-8"), b"{\"error\":\"x\"}");
        assert_eq!(html.fault, fault);
    }
}

#[test]
fn a_quoted_text_cannot_pose_as_an_operators_error() {
    let quoted = "messages[0]: bad text 'Incorrect API key provided'";
    check(400, &xai("invalid-argument", quoted), Fault::Request, 400, None);
}

#[test]
fn errors_with_status_200_are_found() {
    for (body, fault) in [
        (xai("The service is currently unavailable", "Try later."), Fault::Unavailable),
        (xai("invalid-argument", "bad stop"), Fault::Request),
        (xai("invalid-argument", "Incorrect API key provided."), Fault::OperatorKey),
        (xai("Some resource has been exhausted", "2/2"), Fault::Rate),
        (xai("not-found", "no such model"), Fault::Model),
        (
            r#"{"error":{"message":"m","type":"server_error","code":null}}"#.to_owned(),
            Fault::Broken,
        ),
        (r#"{"error":{"message":"m","code":404}}"#.to_owned(), Fault::Model),
        (r#"{"error":"text"}"#.to_owned(), Fault::Unavailable),
    ] {
        let error = UpstreamError::in_reply(body.as_bytes());
        assert_eq!(error.map(|error| error.fault), Some(fault), "{body}");
    }
    for body in ["", "x", "{}", r#"{"choices":[],"error":{}}"#, r#"{"error":null,"usage":{}}"#] {
        assert_eq!(UpstreamError::in_reply(body.as_bytes()), None, "{body}");
    }
    let reply = include_bytes!("../../../../tests/golden/reply.json");
    assert_eq!(UpstreamError::in_reply(reply), None);
}

#[test]
fn nothing_secret_is_relayed() {
    let secrets = ["xai-Ab12Cd34Ef56", "sk-proj-Zz99Yy88Xx77", UUID, "console.example"];
    let message = format!(
        "key {} or {} of team {} at https://{}/x",
        secrets[0], secrets[1], secrets[2], secrets[3]
    );
    for status in [400, 401, 403, 404, 422, 429, 500, 503] {
        for body in [
            xai("code", &message),
            openai("c_d", "t", &message),
            format!("{{\"error\":{message:?}}}"),
        ] {
            let error = UpstreamError::read(status, None, body.as_bytes());
            let told = format!("{} {}", error.body.to_json(), error.in_stream().to_json());
            assert!(!secrets.iter().any(|secret| told.contains(secret)), "{told}");
        }
    }
}

#[test]
fn writes_openais_shape() {
    let body = ErrorBody {
        message: "m".to_owned(),
        kind: "server_error",
        param: None,
        code: None,
        details: None,
    };
    assert_eq!(
        body.to_json(),
        r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#
    );
}

#[test]
fn a_key_that_contains_a_word_of_ours_leaves_our_sentences_alone() {
    let redactor = Redactor::new(Some("local-upstream-unavailable"), "upstream.example");
    let down = UpstreamError::read(503, Some("application/json"), b"{}");
    let (message, code) = (down.body.message.clone(), down.body.code.clone());
    let down = down.redacted(&redactor);
    assert_eq!((down.body.message, down.body.code), (message, code));
    let said = openai("bad", "invalid_request_error", "No, local-upstream-unavailable.");
    let bad = UpstreamError::read(400, Some("application/json"), said.as_bytes());
    assert!(!bad.redacted(&redactor).body.message.contains("local-upstream"));
}
