//! Errors in streams and in replies that say 200.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_error_as_the_first_event_is_an_error_status_and_costs_nothing() {
    let upstream = ScriptedUpstream::start(|asked| {
        let (path, code) = (&*asked.path, user(&asked.body));
        let error = error_event(path, "invalid arguments", code);
        match asked.body.contains("\"seed\":1") {
            true => events(&[beginning(path), &error]),
            false => crate::support::scripted_upstream::stream(
                format!(": wait\n\ndata: {error}\n\n").as_bytes(),
            ),
        }
    });
    let upstream = upstream.await;
    let sound = pair(HashMap::new()).await.1;
    let first = upstream.table("a", OPERATORS_KEY, "");
    let gw = gateway().upstreams(&format!("{first}{}", sound.table("b", "k", ""))).start().await;
    for path in SURFACES {
        let key = gw.key("wide").await;
        let reply = ask(&gw, &key, path, "invalid_value", r#","stream":true"#).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(error["message"], "invalid arguments", "{path}");
        if path != "/v1/messages" {
            assert_eq!((&error["code"], &error["param"]), (&json!("invalid_value"), &json!("x.y")));
        }
        assert_eq!(gw.used(key.user).await, (0, 1), "{path}");
        // One that another upstream may do better on is asked there.
        let reply = ask(&gw, &key, path, "overloaded_error", r#","stream":true"#).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(&*gw.charge(reply.header("x-request-id")).await.upstream, "b", "{path}");
        // The same behind events that have nothing to show.
        let key = gw.key("wide").await;
        let reply = ask(&gw, &key, path, "invalid_value", r#","stream":true,"seed":1"#).await;
        assert_eq!((reply.status, &reply.json()["error"]["message"]), (400, &error["message"]));
        assert_eq!(gw.used(key.user).await, (0, 1), "{path}");
        let reply = ask(&gw, &key, path, "overloaded_error", r#","stream":true,"seed":1"#).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(&*gw.charge(reply.header("x-request-id")).await.upstream, "b", "{path}");
    }
    gw.finish().await;
}

/// Where no other upstream can have the call, a stream begins with its first event: what fails later can only be
/// an event, and without output nothing is charged.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_before_any_content_of_the_only_upstream_is_an_event() {
    let upstream = ScriptedUpstream::start(|asked| {
        let (path, code) = (&*asked.path, user(&asked.body));
        events(&[beginning(path), &error_event(path, "invalid arguments", code)])
    });
    let upstream = upstream.await;
    let gw = gateway().upstreams(&upstream.table("a", OPERATORS_KEY, "")).start().await;
    for path in SURFACES {
        let key = gw.key("wide").await;
        let reply = ask(&gw, &key, path, "invalid_value", r#","stream":true"#).await;
        assert_eq!(reply.status, 200);
        let (message, code, param) = last_error(&reply);
        assert!(message.contains("invalid arguments"), "{message}");
        if path != "/v1/messages" {
            assert_eq!((code, param), (json!("invalid_value"), json!("x.y")), "{path}");
        }
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!((charge.status, charge.tokens.total()), (Status::Failed, 0), "{path}");
        assert_eq!(gw.used(key.user).await, (0, 0), "{path}");
    }
    gw.finish().await;
}

/// The event with which a stream begins, before it has anything to show.
fn beginning(path: &str) -> &'static str {
    match path {
        "/v1/responses" => r#"{"type":"response.created","response":{"id":"r"}}"#,
        "/v1/messages" => r#"{"type":"message_start","message":{"usage":{"input_tokens":9}}}"#,
        _ => r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_mid_stream_is_forwarded_and_output_is_charged() {
    let upstream = ScriptedUpstream::start(|asked| {
        let (path, code) = (&*asked.path, user(&asked.body));
        events(&[word_event(path), &error_event(path, "the worker went away", code)])
    });
    let upstream = upstream.await;
    let gw = gateway().upstreams(&upstream.table("a", OPERATORS_KEY, "")).start().await;
    for path in SURFACES {
        for (said, told, words) in [
            ("worker_lost", "worker_lost", "the worker went away"),
            ("server_error", "upstream_cut", "the worker went away"),
            ("insufficient_quota", "upstream_quota", "account"),
        ] {
            let key = gw.key("wide").await;
            let reply = ask(&gw, &key, path, said, r#","stream":true"#).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            let (message, code, _) = last_error(&reply);
            assert!(message.contains(words), "{path} {said}: {message}");
            if path != "/v1/messages" {
                assert_eq!(code, told, "{path} {said}");
            }
            let charge = gw.charge(reply.header("x-request-id")).await;
            assert_eq!((charge.status, charge.source), (Status::CutByUpstream, Source::Estimated));
            assert!(
                charge.tokens.prompt > 0 && charge.tokens.completion == 1,
                "{path} {:?}",
                charge.tokens
            );
        }
    }
    gw.finish().await;
}

/// What an upstream bills is charged, also where its reply says that it failed; no other upstream is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_reply_with_usage_is_charged_once() {
    const FAILED: &str = r#"{"id":"resp_1","object":"response","status":"failed","output":[],
        "error":{"code":"server_error","message":"It broke."},
        "usage":{"input_tokens":500,"output_tokens":900,"total_tokens":1400}}"#;
    let upstream = ScriptedUpstream::start(|_| json(200, FAILED)).await;
    let other = ScriptedUpstream::start(|_| json(200, FAILED)).await;
    let tables = format!("{}{}", upstream.table("a", "k", ""), other.table("b", "k", ""));
    let gw = gateway().upstreams(&tables).start().await;
    let key = gw.key("wide").await;
    let reply = ask(&gw, &key, "/v1/responses", "u", "").await;
    assert!(reply.status >= 500, "{}", reply.text());
    let charge = gw.charge(reply.header("x-request-id")).await;
    let charged = (charge.status, charge.source, charge.tokens.total());
    assert_eq!(charged, (Status::CutByUpstream, Source::Reported, 1400));
    assert_eq!(upstream.asked().len() + other.asked().len(), 1);
    gw.finish().await;
}
