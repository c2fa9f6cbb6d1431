//! What upstreams say when they say no: whose trouble it is, who is asked next, what the caller reads
//! and pays.

use crate::support::http_client::{Call, Reply};
use crate::support::scripted_upstream::{ScriptedUpstream, events, json, with_headers};
use crate::support::{Gateway, Key, gateway, soon};
use domain::charge::{Source, Status};
use serde_json::{Value, json};
use std::collections::HashMap;

const OPERATORS_KEY: &str = "xai-Op3rat0rK3yThatNobodyReads";

/// Status and body by which an upstream says something.
type Said = (u16, &'static str);

/// Credits, balance and limits of the account: 503 `upstream_quota`. Facts of each provider in our own words.
const MONEY: [Said; 20] = [
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits."}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Access denied, please make sure your account is in good standing.","type":"Arrearage","param":null,"code":"Arrearage"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Billing hard limit has been reached","type":"image_generation_user_error","param":null,"code":"billing_hard_limit_reached"}}"#,
    ),
    (
        429,
        r#"{"error":{"message":"You exceeded your current quota, please check your plan.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
    ),
    (
        429,
        r#"{"error":{"message":"Your account is not active.","type":"billing_not_active","param":null,"code":"billing_not_active"}}"#,
    ),
    (
        401,
        r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","code":401}}"#,
    ),
    (
        402,
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
    ),
    (
        402,
        r#"{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}"#,
    ),
    (
        402,
        r#"{"error":{"message":"Credit limit exceeded","type":"credit_limit","code":"credit_limit"}}"#,
    ),
    (
        403,
        r#"{"code":"permission-denied","error":"Your newly created team doesn't have any credits or licenses yet."}"#,
    ),
    (
        429,
        r#"{"code":"resource-exhausted","error":"Your team has either used all available credits or reached its monthly spending limit."}"#,
    ),
    (403, r#"{"error":{"message":"Key limit exceeded (total limit).","code":403}}"#),
    (
        403,
        r#"{"error":{"message":"The free tier of the model has been exhausted.","type":"AllocationQuota.FreeTierOnly","code":"AllocationQuota.FreeTierOnly"}}"#,
    ),
    (403, r#"{"error":{"code":"quotaExceeded","message":"Out of call volume quota."}}"#),
    (
        429,
        r#"{"error":{"type":"exceeded_current_quota_error","message":"Your account is suspended, please check your plan."}}"#,
    ),
    (429, r#"{"error":{"code":"1113","message":"余额不足或无可用资源包"}}"#),
    (
        403,
        r#"[{"error":{"code":403,"message":"This API method requires billing to be enabled.","status":"PERMISSION_DENIED"}}]"#,
    ),
    (
        400,
        r#"{"error":{"message":"Error code: 400 - Your credit balance is too low","type":"invalid_request_error"}}"#,
    ),
    (
        412,
        r#"{"error":{"message":"Spending limit of this account is reached","type":"invalid_request_error"}}"#,
    ),
];

/// Keys, rights and standing of the account: 502 `upstream_auth`.
const KEY: [Said; 26] = [
    (400, r#"{"code":"invalid-argument","error":"Incorrect API key provided: xa***ds."}"#),
    (
        400,
        r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
    ),
    (
        400,
        r#"{"error":{"code":400,"message":"API key expired. Please renew the API key.","status":"INVALID_ARGUMENT"}}"#,
    ),
    (
        400,
        r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Organization has been restricted.","type":"invalid_request_error","code":"organization_restricted"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Your organization must be verified to stream this model.","type":"invalid_request_error","param":"stream","code":"unsupported_value"}}"#,
    ),
    (
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-ab***yz.","type":"invalid_request_error","code":"invalid_api_key"}}"#,
    ),
    (
        401,
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
    ),
    (
        401,
        r#"{"error":{"message":"Authentication Fails (no such user)","type":"authentication_error"}}"#,
    ),
    (401, r#"{"detail":"Unauthorized"}"#),
    (401, r#"{"message":"Unauthorized","request_id":"x"}"#),
    (401, r#"{"error":"Unauthorized"}"#),
    (401, r#"{"error":{"message":"No auth credentials found","code":401}}"#),
    (401, r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key."}}"#),
    (
        401,
        r#"{"error":{"message":"Invalid API-key provided.","type":"invalid_request_error","code":"InvalidApiKey"}}"#,
    ),
    (401, ""),
    (
        403,
        r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use this resource."}}"#,
    ),
    (403, r#"{"code":"permission-denied","error":"The team is blocked."}"#),
    (
        403,
        r#"{"error":{"message":"Project does not have access to model m","type":"invalid_request_error","code":"model_not_found"}}"#,
    ),
    (
        403,
        r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","code":"unsupported_country_region_territory"}}"#,
    ),
    (403, r#"{"error":{"message":"Access to model denied.","code":"AccessDenied.Unpurchased"}}"#),
    (403, r#"{"message":"You don't have access to the model with the specified model ID."}"#),
    (
        403,
        r#"{"error":{"message":"The model is blocked at the organization level","type":"permissions_error","code":"model_permission_blocked_org"}}"#,
    ),
    (403, "<html>Forbidden</html>"),
    (
        400,
        r#"{"error":{"message":"Your OpenAI account has been deactivated","type":"invalid_request_error","code":"account_deactivated"}}"#,
    ),
];

/// The caller's own, though the words look otherwise: told as they are, and nobody else is asked.
const CALLERS: [Said; 14] = [
    (
        400,
        r#"{"error":{"message":"Invalid value: 'Your credit balance is too low'. Supported values are: 'user'.","type":"invalid_request_error","param":"messages[0].role","code":"invalid_value"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"'Your credit balance is too low' is not one of ['user']","type":"invalid_request_error","param":null,"code":null}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Your credit balance is too low is no role","type":"invalid_request_error","param":"messages.0.role","code":null}}"#,
    ),
    (400, r#"{"code":"invalid-argument","error":"messages[0]: bad text \"API key not valid\""}"#),
    (
        400,
        r#"{"error":{"message":"Invalid prompt: billing and credit balance questions","type":"invalid_request_error","code":"invalid_prompt"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Failed to download image","type":"invalid_request_error","param":"url","code":"invalid_image_url"}}"#,
    ),
    (422, r#"{"detail":[{"loc":["body","messages"],"msg":"unauthorized role"}]}"#),
    (
        400,
        r#"{"error":{"message":"Invalid token id 200099","type":"BadRequestError","param":null,"code":400}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"temperature must be below 2","type":"invalid_request_error","param":"temperature"}}"#,
    ),
    (403, r#"{"code":"permission-denied","error":"Content violates usage guidelines."}"#),
    (
        403,
        r#"{"error":{"message":"Your chosen model requires moderation and your input was flagged","code":403}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"The prompt triggered the content management policy","code":"content_filter","param":"prompt"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Input data may contain inappropriate content.","code":"data_inspection_failed","type":"data_inspection_failed"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"This model's maximum context length is 9 tokens, for your account","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
    ),
];

const SURFACES: [&str; 4] =
    ["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/messages"];
const SOUND: &str = r#"{"id":"x","choices":[{"index":0,"message":{"content":"hi"},"text":"hi","finish_reason":"stop"}],"output":[],"content":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

/// The value of `user` in a body: by it the upstreams know what to answer.
fn user(body: &str) -> &str {
    body.split("\"user\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap()
}

fn body(path: &str, user: &str, members: &str) -> String {
    let read = match path {
        "/v1/responses" | "/v1/embeddings" => r#""input":"a prompt""#,
        "/v1/completions" | "/v1/images/generations" => r#""prompt":"a prompt""#,
        _ => r#""max_tokens":50,"messages":[{"role":"user","content":"a prompt"}]"#,
    };
    format!(r#"{{"model":"grok-4.3",{read},"user":"{user}"{members}}}"#)
}

async fn ask(gw: &Gateway, key: &Key, path: &str, user: &str, members: &str) -> Reply {
    Call::post(gw.addr(), path).key(&key.text).body(body(path, user, members)).send().await
}

/// An upstream that answers by the name of the user, and a sound one.
async fn pair(replies: HashMap<String, Vec<u8>>) -> (ScriptedUpstream, ScriptedUpstream) {
    let troubled = ScriptedUpstream::start(move |asked| replies[user(&asked.body)].clone()).await;
    let sound = ScriptedUpstream::start(|asked| match asked.body.contains(r#""stream":true"#) {
        false => json(200, SOUND),
        true => {
            let chunk = SOUND.replace("\"message\"", "\"delta\"");
            let begin = r#"{"type":"message_start","message":{"usage":{"input_tokens":7}}}"#;
            let end = r#"{"type":"message_delta","usage":{"output_tokens":3}}"#;
            let done = format!(r#"{{"type":"response.completed","response":{SOUND}}}"#);
            let parts: &[&str] = match &*asked.path {
                "/v1/messages" => &[begin, end, r#"{"type":"message_stop"}"#],
                "/v1/responses" => &[&done],
                _ => &[&chunk, "[DONE]"],
            };
            events(parts)
        }
    });
    (troubled, sound.await)
}

/// What an upstream says, by surface and form: as a status, as a whole reply of 200, as a stream's
/// first event.
fn forms((status, text): Said) -> Vec<(&'static str, bool, Vec<u8>)> {
    let mut forms = vec![
        ("status", false, json(status, text)),
        ("status of a stream", true, json(status, text)),
    ];
    if text.starts_with('{') && text.contains("\"error\":") {
        let code = format!(r#""error":{{"status":{status},"#);
        let text = text.replacen(r#""error":{"#, &code, 1);
        forms.push(("200", false, json(200, &text)));
        forms.push(("200 for a stream", true, json(200, &text)));
    }
    forms
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_operators_account_are_not_blamed_on_the_caller() {
    let all = MONEY.iter().map(|said| (*said, (503, "upstream_quota", "quota")));
    let all: Vec<_> =
        all.chain(KEY.iter().map(|said| (*said, (502, "upstream_auth", "key")))).collect();
    let mut replies = HashMap::new();
    let mut calls = Vec::new();
    for (number, (said, expected)) in all.iter().enumerate() {
        for (form, is_stream, reply) in forms(*said).into_iter().take(2) {
            let name = format!("{number}-{form}");
            replies.insert(name.clone(), reply);
            calls.push((name, is_stream, *said, *expected));
        }
    }
    let (troubled, sound) = pair(replies).await;
    let (first, second) = (troubled.table("a", OPERATORS_KEY, ""), sound.table("b", "k", ""));
    let gw = gateway().upstreams(&first).start().await;
    let with_another = gateway().upstreams(&format!("{first}{second}")).start().await;
    let mut wrong = Vec::new();
    // One user alone opens no breaker.
    let (key, other) = (gw.key("wide").await, with_another.key("wide").await);
    for (name, is_stream, said, (status, code, _)) in &calls {
        let stream = if *is_stream { r#","stream":true"# } else { "" };
        let path = SURFACES[name.len() % 4];
        let reply = ask(&gw, &key, path, name, stream).await;
        let text = reply.text();
        let is_told =
            text.contains("upstream") && !text.contains("redit") && !text.contains("key\"");
        let has_code = path == "/v1/messages" || reply.code() == *code;
        let is_free = gw.used(key.user).await == (0, 0);
        let saved = ask(&with_another, &other, path, name, stream).await;
        if reply.status != *status || !has_code || !is_told || !is_free || saved.status != 200 {
            wrong.push(format!(
                "{said:?} on {path}: {} {text} {is_free}, then {}",
                reply.status,
                saved.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (trouble, kind) in [("key", &KEY[..]), ("quota", &MONEY)] {
        let series = format!(
            "knockx_upstream_account_refusals_total{{upstream=\"a\",trouble=\"{trouble}\"}}"
        );
        assert_eq!(gw.metric(&series).await, 2 * kind.len() as u64, "{trouble}");
    }
    gw.finish().await;
    with_another.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_caller_stay_client_errors() {
    let replies = CALLERS.iter().enumerate().map(|(n, said)| (n.to_string(), json(said.0, said.1)));
    let (troubled, sound) = pair(replies.collect()).await;
    let tables = [troubled.table("a", OPERATORS_KEY, ""), sound.table("b", "k", "")].concat();
    let gw = gateway().upstreams(&tables).start().await;
    for (number, (status, said)) in CALLERS.iter().enumerate() {
        for stream in ["", r#","stream":true"#] {
            let key = gw.key("wide").await;
            let reply = ask(&gw, &key, SURFACES[0], &number.to_string(), stream).await;
            assert_eq!(
                reply.status,
                if *status == 403 { 403 } else { 400 },
                "{said}: {}",
                reply.text()
            );
            let said: Value = serde_json::from_str(said).unwrap();
            let error = &reply.json()["error"];
            if let Some(message) = said["error"]["message"].as_str() {
                assert_eq!(error["message"], message);
            }
            assert_eq!(gw.used(key.user).await, (0, 1), "it counts as a request: {said}");
        }
    }
    assert!(sound.asked().is_empty());
    gw.finish().await;
}

/// The error of a surface as an event of its streams, with what it says.
fn error_event(path: &str, message: &str, code: &str) -> String {
    match path {
        "/v1/responses" => json!({"type": "error", "code": code, "message": message, "param": "x.y"}),
        "/v1/messages" => json!({"type": "error", "error": {"type": code, "message": message}}),
        _ => json!({"error": {"message": message, "type": "invalid_request_error", "code": code, "param": "x.y"}}),
    }
    .to_string()
}

/// An event of a surface that says a word.
fn word_event(path: &str) -> &'static str {
    match path {
        "/v1/responses" => {
            r#"{"type":"response.output_text.delta","output_index":0,"delta":"word"}"#
        }
        "/v1/messages" => {
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word"}}"#
        }
        "/v1/completions" => r#"{"choices":[{"index":0,"text":"word"}]}"#,
        _ => r#"{"choices":[{"index":0,"delta":{"content":"word"}}]}"#,
    }
}

/// Message, code and param of a stream's last event.
fn last_error(reply: &Reply) -> (String, Value, Value) {
    let last: Value = serde_json::from_str(&reply.events().pop().unwrap()).unwrap();
    let error = if last["error"].is_object() { &last["error"] } else { &last };
    (error["message"].as_str().unwrap().to_owned(), error["code"].clone(), error["param"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_as_the_first_event_is_an_error_status_and_costs_nothing() {
    let upstream = ScriptedUpstream::start(|asked| {
        let (path, code) = (&*asked.path, user(&asked.body));
        let error = error_event(path, "invalid arguments", code);
        let begin = match path {
            "/v1/responses" => r#"{"type":"response.created","response":{"id":"r"}}"#,
            "/v1/messages" => r#"{"type":"message_start","message":{"usage":{"input_tokens":9}}}"#,
            _ => r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#,
        };
        match asked.body.contains("\"seed\":1") {
            true => events(&[begin, &error]),
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
        // Once the stream has begun it can only say so; without output nothing is charged.
        let key = gw.key("wide").await;
        let reply = ask(&gw, &key, path, "invalid_value", r#","stream":true,"seed":1"#).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_reasoning_is_routed_to_the_upstream_that_made_it() {
    const SEALED: [&str; 3] = [
        r#"{"error":{"message":"The encrypted content could not be verified.","type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}"#,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.content.0: Invalid `signature` in `thinking` block"}}"#,
        r#"{"code":"invalid-argument","error":"Could not decrypt encrypted_content of item 2"}"#,
    ];
    let replies =
        SEALED.iter().enumerate().map(|(number, said)| (number.to_string(), json(400, said)));
    let (troubled, sound) = pair(replies.collect()).await;
    let first = troubled.table("a", OPERATORS_KEY, "");
    let gw = gateway().upstreams(&format!("{first}{}", sound.table("b", "k", ""))).start().await;
    let alone = gateway().upstreams(&first).start().await;
    let (key, lone) = (gw.key("wide").await, alone.key("wide").await);
    for path in ["/v1/responses", "/v1/messages", "/v1/chat/completions"] {
        for number in 0..SEALED.len() {
            for stream in ["", r#","stream":true"#] {
                let reply = ask(&gw, &key, path, &number.to_string(), stream).await;
                assert_eq!(reply.status, 200, "{path}: {}", reply.text());
                let reply = ask(&alone, &lone, path, &number.to_string(), stream).await;
                assert_eq!(reply.status, 400, "{path}: {}", reply.text());
            }
        }
    }
    let statuses = gw.running.upstreams().statuses(std::time::Instant::now());
    assert_eq!(statuses[0].failures, 0, "no fault of the upstream");
    gw.finish().await;
    alone.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_options_are_removed_for_upstreams_that_reject_them() {
    let refuse = |asked: &crate::support::scripted_upstream::Asked| match asked
        .body
        .contains("stream_options")
    {
        true => json(
            400,
            r#"{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
        ),
        false => events(&[
            word_event("/v1/chat/completions"),
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ]),
    };
    for lines in ["", "stream_options = false"] {
        let upstream = ScriptedUpstream::start(refuse).await;
        let gw = gateway().upstreams(&upstream.table("a", "k", lines)).start().await;
        let key = gw.key("wide").await;
        for members in
            [r#","stream":true"#, r#","stream":true,"stream_options":{"include_usage":true}"#]
        {
            for _ in 0..2 {
                let reply = ask(&gw, &key, SURFACES[0], "u", members).await;
                assert!(reply.status == 200 && reply.is_done(), "{}", reply.text());
                let charge = gw.charge(reply.header("x-request-id")).await;
                assert_eq!(charge.source, Source::Estimated);
            }
        }
        let refused = upstream.asked().iter().filter(|a| a.body.contains("stream_options")).count();
        assert_eq!(refused, usize::from(lines.is_empty()), "once, and never again");
        assert!(upstream.asked().iter().all(|a| serde_json::from_str::<Value>(&a.body).is_ok()));
        gw.finish().await;
    }
}

/// One caller's own members are refused; every other caller's usage is still asked for and reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_callers_stream_options_do_not_affect_others() {
    const USAGE: &str =
        r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":600,"total_tokens":605}}"#;
    let strict = |asked: &crate::support::scripted_upstream::Asked| {
        let is_asked = asked.body.contains("include_usage");
        match asked.body.contains("foo") || (is_asked && !asked.body.contains(r#""stream":true"#)) {
            true => json(
                400,
                r#"{"error":{"message":"Unknown parameter: 'stream_options.foo'","code":"unknown_parameter"}}"#,
            ),
            false if is_asked => events(&[word_event(SURFACES[0]), USAGE, "[DONE]"]),
            false => events(&[word_event(SURFACES[0]), "[DONE]"]),
        }
    };
    let upstream = ScriptedUpstream::start(strict).await;
    let gw = gateway().upstreams(&upstream.table("a", "k", "")).start().await;
    let (hostile, other) = (gw.key("wide").await, gw.key("wide").await);
    let members = r#","stream":true,"stream_options":{"include_usage":true,"foo":1}"#;
    for _ in 0..2 {
        let refused = ask(&gw, &hostile, SURFACES[0], "u", members).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    // Some refuse them where there is no stream at all.
    let whole =
        ask(&gw, &hostile, SURFACES[0], "whole", r#","stream_options":{"include_usage":true}"#);
    assert_eq!(whole.await.status, 400);
    let reply = ask(&gw, &other, SURFACES[0], "u", r#","stream":true"#).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let charge = gw.charge(reply.header("x-request-id")).await;
    assert_eq!((charge.source, charge.tokens.total()), (Source::Reported, 605));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_reply_is_a_failure_before_the_head() {
    let lines = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let zipped = ScriptedUpstream::start(move |_| with_headers(200, lines, b"\x1f\x8b\x08")).await;
    let sound = pair(HashMap::new()).await.1;
    let first = zipped.table("a", "k", "");
    let alone = gateway().upstreams(&first).start().await;
    let gw = gateway().upstreams(&format!("{first}{}", sound.table("b", "k", ""))).start().await;
    let (lone, key) = (alone.key("wide").await, gw.key("wide").await);
    for stream in ["", r#","stream":true"#] {
        let reply = ask(&alone, &lone, SURFACES[0], "u", stream).await;
        assert_eq!((reply.status, reply.code()), (502, "upstream_bad_reply".to_owned()));
        assert_eq!(ask(&gw, &key, SURFACES[0], "u", stream).await.status, 200);
    }
    assert_eq!(alone.used(lone.user).await, (0, 0));
    gw.finish().await;
    alone.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_surface_that_a_model_lacks_is_named() {
    let only = "[[upstreams]]\nname = \"plain\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nsurfaces = [\"chat/completions\", \"completions\"]\n";
    let gw = gateway().upstreams(only).start().await;
    let key = gw.key("wide").await;
    let reply = ask(&gw, &key, "/v1/responses", "u", "").await;
    assert_eq!((reply.status, reply.code()), (404, "model_not_found".to_owned()));
    let text = "is not available on /v1/responses; use /v1/chat/completions, /v1/completions.";
    assert!(reply.text().contains(text), "{}", reply.text());
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
