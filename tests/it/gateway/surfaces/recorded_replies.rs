//! Recorded answers and errors of upstreams, through the gateway on every surface: the caller has the same
//! bytes, fields and events that nobody knows included, and the ledger what they say was used.

use crate::support::faulty_upstream::{FaultyUpstream, golden};
use crate::support::http_client::{Call, Reply};
use crate::support::{Gateway, Key, gateway};
use domain::charge::{Source, Status, TokenCount};

const SURFACES: &str = r#"["chat/completions", "responses", "completions", "messages"]"#;

/// An upstream and a model for each of the names.
fn tables(trouble: &FaultyUpstream, names: &[&str]) -> (String, String) {
    let upstream = |name: &&str| {
        let addr = trouble.addr;
        format!(
            "[[upstreams]]\nname = {name:?}\nbase_url = \"http://{addr}/{name}/x/v1\"\napi_key = \"k\"\nsurfaces = {SURFACES}\n"
        )
    };
    let model = |name: &&str| {
        format!(
            "[[models]]\nid = {name:?}\nupstreams = [{{ name = {name:?} }}]\ncontext_tokens = 100000\nowned_by = \"x\"\n\
             prices = {{ input = 1, cached_input = 1, output = 1 }}\n"
        )
    };
    (names.iter().map(upstream).collect(), names.iter().map(model).collect())
}

async fn serving(trouble: &FaultyUpstream, names: &[&str]) -> (Gateway, Key) {
    let (upstreams, models) = tables(trouble, names);
    let gw = gateway().upstreams(&upstreams).models(&models).start().await;
    let key = gw.key("wide").await;
    (gw, key)
}

async fn ask(gw: &Gateway, key: &Key, path: &str, model: &str, is_stream: bool) -> Reply {
    let prompt = match path {
        "responses" => r#""input":"hi""#,
        "completions" => r#""prompt":"hi""#,
        "messages" => r#""max_tokens":500,"messages":[{"role":"user","content":"hi"}]"#,
        _ => r#""messages":[{"role":"user","content":"hi"}]"#,
    };
    let options = match path {
        "chat/completions" | "completions" => r#","stream_options":{"include_usage":true}"#,
        _ => "",
    };
    let stream = if is_stream { format!(r#","stream":true{options}"#) } else { String::new() };
    let body = format!(r#"{{"model":"{model}",{prompt}{stream}}}"#);
    Call::post(gw.addr(), &format!("/v1/{path}")).key(&key.text).body(body).send().await
}

const fn tokens(prompt: u64, completion: u64, reasoning: u64) -> TokenCount {
    TokenCount { prompt, cached: 192, completion, reasoning }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_responses_pass_unchanged_and_are_charged_as_reported() {
    const ANSWERS: [(&str, &str, TokenCount); 7] = [
        ("golden-reply.json", "chat/completions", tokens(214, 12, 87)),
        ("golden-stream.sse", "chat/completions", tokens(207, 9, 31)),
        ("golden-stream_crlf.sse", "chat/completions", tokens(207, 9, 31)),
        ("golden-stream_tools.sse", "chat/completions", tokens(207, 9, 31)),
        ("golden-responses.sse", "responses", tokens(207, 9, 31)),
        ("golden-completions.sse", "completions", tokens(207, 40, 0)),
        ("golden-messages.sse", "messages", tokens(207, 40, 0)),
    ];
    let trouble = FaultyUpstream::start().await;
    let (gw, key) = serving(&trouble, &ANSWERS.map(|(name, ..)| name)).await;
    for (name, path, tokens) in ANSWERS {
        let reply = ask(&gw, &key, path, name, name.ends_with(".sse")).await;
        let recorded = golden(name.strip_prefix("golden-").unwrap());
        assert_eq!(
            (reply.status, reply.body[..] == recorded[..]),
            (200, true),
            "{name}: {}",
            reply.text()
        );
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!((charge.status, charge.source), (Status::Complete, Source::Reported), "{name}");
        assert_eq!(charge.tokens, tokens, "{name}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_errors_are_translated_alike_on_every_surface_and_cost_nothing() {
    const ERRORS: [(&str, u16, &str, &str); 12] = [
        ("wrong-key", 502, "upstream_auth", "api_error"),
        ("no-credits", 503, "upstream_quota", "overloaded_error"),
        ("too-long", 400, "context_length_exceeded", "invalid_request_error"),
        ("400", 400, "-", "invalid_request_error"),
        ("403", 502, "upstream_auth", "api_error"),
        ("404", 404, "model_not_found", "not_found_error"),
        ("410", 400, "-", "invalid_request_error"),
        ("422", 400, "-", "invalid_request_error"),
        ("429", 429, "rate_limit_exceeded", "rate_limit_error"),
        ("500", 502, "upstream_error", "api_error"),
        ("html", 502, "upstream_error", "api_error"),
        ("error-200", 503, "upstream_unavailable", "overloaded_error"),
    ];
    let trouble = FaultyUpstream::start().await;
    for path in ["chat/completions", "responses", "completions", "messages"] {
        // A gateway each, so that no breaker knows of the surface before.
        let (gw, key) = serving(&trouble, &ERRORS.map(|(name, ..)| name)).await;
        for (name, status, code, anthropics) in ERRORS {
            for is_stream in [false, true] {
                let reply = ask(&gw, &key, path, name, is_stream).await;
                let told = format!("{path} {name} {is_stream}: {} {}", reply.status, reply.text());
                assert_eq!(reply.status, status, "{told}");
                if path == "messages" {
                    assert_eq!(reply.json()["type"], "error", "{told}");
                    assert_eq!(reply.json()["error"]["type"], anthropics, "{told}");
                } else {
                    assert_eq!(reply.code(), code, "{told}");
                }
                for secret in ["xa***Qz", "credits", "blocked", "2/2"] {
                    assert!(!reply.text().contains(secret), "{told}");
                }
                let charge = gw.charge(reply.header("x-request-id")).await;
                assert_eq!((charge.status, charge.tokens.total()), (Status::Failed, 0), "{told}");
            }
        }
        gw.finish().await;
    }
}
