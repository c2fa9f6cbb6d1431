//! What an upstream says of the operator does not reach callers.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn upstream_messages_are_redacted() {
    const SECRETS: [&str; 8] = [
        "Op3rat0rK3y",
        "10.1.2.3",
        "ops@corp",
        "vllm-0",
        "fd00::7",
        "sk-proj",
        "9081726354",
        "team-A",
    ];
    let text = format!(
        "bad key {OPERATORS_KEY} of {} at 10.1.2.3:8000 or vllm-0.pods.internal:8000 or [fd00::7], ask ops@corp.example, \
         sk-proj-Ab12Cd34, projects/9081726354, team-A1b2C3d4 done",
        &OPERATORS_KEY[6..]
    );
    let replies = move |path: &str, form: &str| {
        let error =
            error_event(path, &text, "invalid_value").replace("x.y", &text.replace(' ', "_"));
        let whole = json!({"error": {"message": text, "type": "invalid_request_error", "code": OPERATORS_KEY, "param": text}}).to_string();
        let failed = json!({"type": "response.failed", "response": {"id": "r", "status": "failed", "error": {"code": "server_error", "message": text}}}).to_string();
        match form {
            "status" => json(400, &whole),
            "200" => json(200, &whole),
            "xai" => json(422, &json!({"code": "invalid-argument", "error": text}).to_string()),
            "html" => with_headers(400, "content-type: text/plain\r\n", text.as_bytes()),
            "first" => events(&[&error]),
            "failed" if path == "/v1/responses" => events(&[word_event(path), &failed]),
            _ => events(&[word_event(path), &error]),
        }
    };
    let upstream =
        ScriptedUpstream::start(move |asked| replies(&asked.path, user(&asked.body))).await;
    let gw = gateway().upstreams(&upstream.table("a", OPERATORS_KEY, "")).start().await;
    let key = gw.key("wide").await;
    let others = ["/v1/embeddings", "/v1/images/generations", "/v1/messages/count_tokens"];
    for path in SURFACES.into_iter().chain(others) {
        for form in ["status", "200", "xai", "html", "first", "middle", "failed"] {
            let is_stream = ["first", "middle", "failed"].contains(&form);
            if is_stream && !SURFACES.contains(&path) {
                continue;
            }
            let reply =
                ask(&gw, &key, path, form, if is_stream { r#","stream":true"# } else { "" }).await;
            let text = reply.text().to_owned();
            for secret in SECRETS {
                assert!(!text.contains(secret), "{path} {form}: {secret} in {text}");
            }
            assert!(
                form == "html" || text.contains("[key]") && text.contains(" done"),
                "{path} {form}: {text}"
            );
        }
    }
    soon("no call is left", || async { gw.running.quota.open_leases() == 0 }).await;
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_beside_an_answer_is_redacted_and_the_answer_is_charged() {
    let text = format!("tool failed with {OPERATORS_KEY} at 10.1.2.3:8000");
    let words = json!(text).to_string();
    let of_choice = format!(
        r#"{{"index":0,"message":{{"role":"assistant","content":"I said 10.1.2.3"}},"finish_reason":"stop","error":{{"message":{words}}}}}"#
    );
    let usage = r#""usage":{"prompt_tokens":11,"completion_tokens":31,"total_tokens":42}"#;
    let answer = format!(
        r#"{{"id":"c","error":{{"message":{words}}},"choices":[{of_choice}],{usage},"error":{{"code":7,"message":{words}}}}}"#
    );
    let upstream = ScriptedUpstream::start(move |_| json(200, &answer)).await;
    let gw = gateway().upstreams(&upstream.table("a", OPERATORS_KEY, "")).start().await;
    let key = gw.key("wide").await;
    let reply = gw.ask(&key, &crate::support::body("hi", "")).await;
    let read = reply.text();
    assert_eq!(reply.status, 200, "{read}");
    assert_eq!(read.matches("tool failed").count(), 3, "{read}");
    assert!(!read.contains("Op3rat0rK3y") && !read.contains("10.1.2.3:8000"), "{read}");
    assert!(read.contains("I said 10.1.2.3") && read.contains(r#""code":7"#), "{read}");
    gw.settled().await;
    assert_eq!(gw.used(key.user).await, (42, 1));
    gw.finish().await;
}
