//! Every surface goes the same way: bytes unchanged, usage charged as reported, endings honest.

use crate::support::http_client::{Call, Reply};
use crate::support::surfaces::{Surface, TEXT_SURFACES};
use crate::support::{Plan, WIDE, gateway, soon};
use domain::charge::{Source, Status};
use serde_json::{Value, json};

trait EverySurface {
    fn streamed(&self, text: &str) -> String;
    fn usage_of(&self, reply: &Reply) -> (u64, u64);
}

impl EverySurface for Surface {
    fn streamed(&self, text: &str) -> String {
        let mut members = json!({"stream": true});
        if self.last.contains("[DONE]") {
            members["stream_options"] = json!({"include_usage": true});
        }
        self.body(text, members)
    }

    /// Input and output of the last usage object in a reply, whole or streamed.
    fn usage_of(&self, reply: &Reply) -> (u64, u64) {
        let datas = if reply.text().starts_with('{') {
            vec![reply.text().to_owned()]
        } else {
            reply.events()
        };
        let objects = datas.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let usage = |object: Value| {
            let nested = [&object["usage"], &object["response"]["usage"]];
            nested.into_iter().find(|usage| usage.is_object()).cloned()
        };
        let usage = objects.filter_map(usage).next_back().expect("a usage object");
        let number = |name: &str| usage[name].as_u64().unwrap_or(0);
        let beside = number("cache_read_input_tokens") + number("cache_creation_input_tokens");
        (number(self.usage[0]) + beside, number(self.usage[1]))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usage_in_a_reply_matches_the_ledger() {
    let gw = gateway().start().await;
    let long = "many words of a prompt ".repeat(100);
    for surface in &TEXT_SURFACES {
        for (text, stream) in [("Hello", false), ("Hello", true), (&*long, false), (&*long, true)] {
            let key = gw.key("wide").await;
            let body = if stream { surface.streamed(text) } else { surface.body(text, json!({})) };
            let reply = surface.call(&gw, &key, &body).send().await;
            assert_eq!(reply.status, 200, "{}: {}", surface.path, reply.text());
            let charge = gw.charge(reply.header("x-request-id")).await;
            let tokens = &charge.tokens;
            let told = surface.usage_of(&reply);
            assert_eq!((tokens.prompt, tokens.completion), told, "{} {stream}", surface.path);
            assert_eq!((charge.status, charge.source), (Status::Complete, Source::Reported));
            assert_eq!(gw.used(key.user).await, (tokens.total(), 1));
            let truth = gw.simulator.log.entries().pop().unwrap();
            assert_eq!((truth.prompt, truth.completion), told);
            assert_eq!(tokens.cached, truth.cached, "{}", surface.path);
            let ticks = i64::try_from(truth.cost_ticks).unwrap();
            assert_eq!(charge.cost_micro_dollars, (ticks + 5_000) / 10_000);
        }
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_every_surface_pass_unchanged_however_they_are_chunked() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for surface in &TEXT_SURFACES {
        for fault in ["none", "split", "drip", "crlf", "comments"] {
            let mut body = surface.streamed("the same words");
            if surface.path == "/v1/responses" {
                // The gateway sets a limit for stored responses, and the upstream repeats it.
                body = body.replacen('{', r#"{"max_output_tokens":100,"#, 1);
            }
            let direct = Call::post(gw.simulator.addr, surface.path)
                .key("sim-test-key")
                .header("x-sim-fault", fault)
                .body(body.clone())
                .send()
                .await;
            let through = surface.call(&gw, &key, &body).header("x-sim-fault", fault).send().await;
            let (through, direct) = (without_ids(through.text()), without_ids(direct.text()));
            assert_eq!(through, direct, "{} {fault}", surface.path);
            assert!(through.replace('\r', "").contains(surface.last), "{fault}: {through}");
        }
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_quota_ends_a_stream_like_a_token_limit() {
    let tiny = Plan { id: "tiny", tokens: 300, ..WIDE };
    let gw = gateway().plan(tiny).limits("slice_tokens = 32").start().await;
    for surface in &TEXT_SURFACES {
        let key = gw.key("tiny").await;
        let mut body = surface.streamed("Talk [sim tokens=5000]");
        if surface.path == "/v1/responses" {
            // One that is stored reserves its whole output, and is never cut.
            body = body.replacen('{', r#"{"store":false,"#, 1);
        }
        // What the quota leaves goes upstream as the limit; this upstream overlooks it.
        let call = surface.call(&gw, &key, &body).header("x-sim-fault", "overrun=4000");
        let reply = call.send().await;
        assert_eq!((reply.status, reply.whole), (200, true), "{}", reply.text());
        let end = reply.text().rsplit("data: ").take(3).collect::<String>();
        let says =
            ["\"finish_reason\":\"length\"", "max_output_tokens", "\"stop_reason\":\"max_tokens\""];
        assert!(says.iter().any(|words| end.contains(words)), "{}: {end}", surface.path);
        let charge = gw.charge(reply.header("x-request-id")).await;
        let (input, output) = surface.usage_of(&reply);
        assert_eq!((charge.tokens.prompt, charge.tokens.completion), (input, output));
        assert_eq!(charge.status, Status::CutByQuota, "{}", surface.path);
        assert!(charge.tokens.total() <= 300, "{}: {:?}", surface.path, charge.tokens);
        if surface.path == "/v1/responses" {
            let events =
                reply.events().into_iter().map(|data| serde_json::from_str(&data).unwrap());
            let events: Vec<Value> = events.collect();
            let deltas =
                events.iter().filter(|event| event["type"] == "response.output_text.delta");
            let said: String = deltas.filter_map(|event| event["delta"].as_str()).collect();
            let output = &events.last().unwrap()["response"]["output"];
            assert_eq!(output[0]["content"][0]["text"], said, "{output}");
        }
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_of_any_surface_does_not_look_complete() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for surface in &TEXT_SURFACES {
        for fault in ["cut=8", "close=8", "error-event=8"] {
            let body = surface.streamed("Talk [sim tokens=50]");
            let call = surface.call(&gw, &key, &body).header("x-sim-fault", fault);
            let reply = call.send().await;
            assert_eq!(reply.status, 200);
            assert!(!reply.text().contains(surface.last), "{}", reply.text());
            let data = reply.events().pop().unwrap();
            let error: Value = serde_json::from_str(&data).unwrap();
            let message = match surface.path {
                "/v1/responses" => {
                    assert_eq!(error["type"], "error", "{data}");
                    assert!(error["sequence_number"].is_u64(), "{data}");
                    let is_theirs = fault == "error-event=8" && error["code"].is_string();
                    assert!(is_theirs || error["code"] == "upstream_cut", "{data}");
                    &error["message"]
                }
                "/v1/messages" => {
                    assert_eq!(error["type"], "error");
                    assert_eq!(error["error"]["type"], "api_error");
                    &error["error"]["message"]
                }
                _ => &error["error"]["message"],
            };
            assert!(message.as_str().unwrap().starts_with("The response is incomplete"), "{data}");
            let charge = gw.charge(reply.header("x-request-id")).await;
            assert_eq!(charge.status, Status::CutByUpstream, "{} {fault}", surface.path);
        }
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_charges_the_output_on_every_surface() {
    let gw = gateway().start().await;
    for surface in &TEXT_SURFACES {
        let key = gw.key("wide").await;
        // What is stored is made to its end, and charged so.
        let members = json!({"stream": true, "store": false});
        let body = surface.body("Talk [sim tokens=2000 token-ms=5]", members);
        let mut open = surface.call(&gw, &key, &body).open().await;
        let id = open.headers["x-request-id"].to_str().unwrap().to_owned();
        let mut seen = 0;
        while seen < 4000 {
            seen += open.next().await.expect("more to come").len();
        }
        drop(open);
        let charge = gw.charge(&id).await;
        assert_eq!(charge.status, Status::CutByClient, "{}", surface.path);
        assert!((1..2000).contains(&charge.tokens.completion), "{:?}", charge.tokens);
        soon("the upstream is told", || async { gw.simulator.log.totals().open == 0 }).await;
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_clamped_under_the_surfaces_own_name() {
    let tiny = Plan { id: "tiny", tokens: 100, ..WIDE };
    let gw = gateway().plan(tiny).start().await;
    for surface in &TEXT_SURFACES {
        let key = gw.key("tiny").await;
        let body = surface.body("Talk [sim tokens=5000]", json!({surface.limit: 4000}));
        let reply = surface.call(&gw, &key, &body).send().await;
        assert_eq!(reply.status, 200, "{}: {}", surface.path, reply.text());
        let clamped: u64 = reply.header("x-kx-clamped").parse().unwrap();
        let (input, output) = surface.usage_of(&reply);
        assert_eq!((output, input + output), (clamped, 100), "{}", surface.path);
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_bodies_are_rejected_in_the_surfaces_error_format() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let deep = format!(r#"{{"model":"m","input":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for (path, body, says) in [
        ("/v1/responses", r#"{"model":"grok-4.3"}"#, "'input'"),
        ("/v1/responses", r#"{"model":"grok-4.3","input":7}"#, "'input'"),
        ("/v1/responses", r#"{"model":"grok-4.3","input":[7]}"#, "'input[0]'"),
        ("/v1/responses", r#"{"model":"grok-4.3","input":"a","input":"b"}"#, "'input'"),
        (
            "/v1/responses",
            r#"{"model":"grok-4.3","input":"a","max_output_tokens":0}"#,
            "max_output",
        ),
        ("/v1/responses", r#"{"model":"grok-4.3","input":"a","background":true}"#, "'background'"),
        (
            "/v1/responses",
            r#"{"model":"grok-4.3","input":"a","conversation":"c"}"#,
            "'conversation'",
        ),
        ("/v1/responses", r#"{"model":"grok-4.3","input":"a","prompt":{"id":"p"}}"#, "'prompt'"),
        ("/v1/responses", r#"{"model":"grok-4.3","input":"a","store":"no"}"#, "'store'"),
        (
            "/v1/responses",
            r#"{"model":"grok-4.3","input":"a","previous_response_id":7}"#,
            "previous",
        ),
        (
            "/v1/responses",
            r#"{"model":"grok-4.3","input":[{"type":"item_\u0072eference","id":"msg_1"}]}"#,
            "'input[0].type'",
        ),
        ("/v1/responses", &deep, "nested"),
        ("/v1/completions", r#"{"model":"grok-4.3"}"#, "'prompt'"),
        ("/v1/completions", r#"{"model":"grok-4.3","prompt":{}}"#, "'prompt'"),
        ("/v1/completions", r#"{"model":"grok-4.3","prompt":[]}"#, "'prompt'"),
        ("/v1/completions", r#"{"model":"grok-4.3","prompt":[[["a"]]]}"#, "'prompt'"),
        ("/v1/completions", r#"{"model":"grok-4.3","prompt":"a","best_of":1000}"#, "'best_of'"),
        ("/v1/embeddings", r#"{"model":"grok-4.3","input":null}"#, "'input'"),
        ("/v1/embeddings", r#"{"model":"grok-4.3","input":"a","stream":true}"#, "'stream'"),
        ("/v1/images/generations", r#"{"model":"grok-4.3"}"#, "'prompt'"),
        ("/v1/images/generations", r#"{"model":"grok-4.3","prompt":"a","n":0}"#, "'n'"),
        ("/v1/messages", r#"{"model":"grok-4.3","messages":[{}]}"#, "'max_tokens'"),
        ("/v1/messages", r#"{"model":"grok-4.3","max_tokens":9,"messages":"x"}"#, "'messages'"),
        ("/v1/messages/count_tokens", r#"{"model":"grok-4.3"}"#, "'messages'"),
        ("/v1/tokenize-text", r#"{"model":"grok-4.3"}"#, "'text'"),
    ] {
        let reply = Call::post(gw.addr(), path).key(&key.text).body(body.to_owned()).send().await;
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text());
        let error = reply.json();
        assert_eq!(error["error"]["type"], "invalid_request_error", "{path}");
        assert_eq!(error.get("type").is_some(), path.starts_with("/v1/messages"), "{path}");
        assert!(error["error"]["message"].as_str().unwrap().contains(says), "{body}: {error}");
    }
    assert_eq!(gw.used(key.user).await, (0, 0));
    assert_eq!(gw.simulator.log.totals().requests, 0);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_surface_that_no_upstream_offers_is_404() {
    // None of the others can be translated to it.
    let only_completions = "[[upstreams]]\nname = \"plain\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nsurfaces = [\"completions\"]\n";
    let gw = gateway().upstreams(only_completions).start().await;
    let key = gw.key("wide").await;
    let is_offered = |surface: &&Surface| surface.path == "/v1/completions";
    for surface in TEXT_SURFACES.iter().filter(|surface| !is_offered(surface)) {
        let body = surface.body("Hello", json!({}));
        let reply = surface.call(&gw, &key, &body).send().await;
        assert_eq!(reply.status, 404, "{}: {}", surface.path, reply.text());
        if surface.path == "/v1/messages" {
            assert_eq!(reply.json()["error"]["type"], "not_found_error");
        } else {
            assert_eq!(reply.code(), "model_not_found");
        }
    }
    let offered = TEXT_SURFACES.iter().find(is_offered).unwrap();
    let reply = offered.call(&gw, &key, &offered.body("Hello", json!({}))).send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(gw.used(key.user).await.1, 1, "only the one that was offered counts");
    gw.finish().await;
}

const OTHER_MODELS: &str = "[[models]]\nid = \"simulated-embedding\"\nupstreams = [{ name = \"simulator\", surfaces = [\"embeddings\"] }]\n\
    context_tokens = 8000\nprices = { input = 0.02, cached_input = 0.02, output = 0 }\n\
    [[models]]\nid = \"grok-imagine-image\"\nupstreams = [{ name = \"simulator\", surfaces = [\"images/generations\"] }]\n\
    context_tokens = 8000\nprices = { input = 0, cached_input = 0, output = 0 }\nimage_price = 0.05\nimage_tokens = 70\n";

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_pass_untouched_and_cost_their_prompt() {
    let gw = gateway().models(OTHER_MODELS).start().await;
    for input in [json!("one text"), json!(["two", "texts"]), json!([1, 2, 3]), json!([[1], [2]])] {
        for format in ["float", "base64"] {
            let key = gw.key("wide").await;
            let body = json!({
                "model": "simulated-embedding", "input": input, "encoding_format": format,
            });
            let body = body.to_string();
            let direct = Call::post(gw.simulator.addr, "/v1/embeddings").key("sim-test-key");
            let direct = direct.body(body.clone()).send().await;
            let call = Call::post(gw.addr(), "/v1/embeddings").key(&key.text).body(body);
            let reply = call.send().await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.body, direct.body);
            let charge = gw.charge(reply.header("x-request-id")).await;
            let prompt = reply.json()["usage"]["prompt_tokens"].as_u64().unwrap();
            assert_eq!((charge.tokens.prompt, charge.tokens.completion), (prompt, 0));
            assert_eq!(charge.source, Source::Reported);
            assert_eq!(gw.used(key.user).await, (prompt, 1));
            assert!(!reply.headers.contains_key("x-kx-clamped"));
        }
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_cost_the_reported_cost_or_their_price() {
    let few = Plan { id: "few", tokens: 500, ..WIDE };
    let gw = gateway().plan(few).models(OTHER_MODELS).start().await;
    let key = gw.key("few").await;
    let ask = async |n: u64, fault: &str| {
        let body = json!({"model": "grok-imagine-image", "prompt": "a lighthouse", "n": n});
        let call = Call::post(gw.addr(), "/v1/images/generations").key(&key.text);
        call.header("x-sim-fault", fault).body(body.to_string()).send().await
    };
    for (fault, micro_dollars) in [("none", 60_000), ("no-usage", 150_000)] {
        let reply = ask(3, fault).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["data"].as_array().unwrap().len(), 3);
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!(charge.cost_micro_dollars, micro_dollars, "{fault}");
        assert_eq!(charge.tokens.total(), 3 * 70);
    }
    assert_eq!(gw.used(key.user).await, (420, 2));
    // Two more would be 140 of the 80 tokens left: an image is had or not.
    let refused = ask(2, "none").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"));
    assert_eq!(ask(1, "none").await.status, 200);
    assert_eq!(gw.used(key.user).await, (490, 3));
    gw.finish().await;
}

/// Images count against the tokens per day if the configuration does not set `image_tokens`.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_costs_1000_tokens_unless_configured() {
    let free = Plan { id: "free", tokens: 1_500, ..WIDE };
    let gw =
        gateway().plan(free).models(&OTHER_MODELS.replace("image_tokens = 70\n", "")).start().await;
    let key = gw.key("free").await;
    let ask = async |n: u64| {
        let body = json!({"model": "grok-imagine-image", "prompt": "a lighthouse", "n": n});
        Call::post(gw.addr(), "/v1/images/generations")
            .key(&key.text)
            .body(body.to_string())
            .send()
            .await
    };
    assert_eq!(ask(2).await.code(), "insufficient_quota");
    assert_eq!(ask(1).await.status, 200);
    assert_eq!(ask(1).await.code(), "insufficient_quota");
    assert_eq!(gw.used(key.user).await, (1_000, 1));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_tokens_is_free() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for (path, body) in [
        ("/v1/tokenize-text", json!({"model": "grok-4.3", "text": "one two three"})),
        (
            "/v1/messages/count_tokens",
            json!({"model": "grok-4.3", "messages": [{"role": "user", "content": "one two"}]}),
        ),
    ] {
        let call = Call::post(gw.addr(), path).key(&key.text).body(body.to_string());
        let reply = call.send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!(
            (charge.tokens.total(), charge.counted, charge.cost_micro_dollars),
            (0, false, 0)
        );
    }
    assert_eq!(gw.used(key.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_accept_the_key_of_anthropic_clients() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let surface = &TEXT_SURFACES[3];
    let body = surface.body("Hello", json!({}));
    let call = || Call::post(gw.addr(), surface.path).body(body.clone());
    let reply = call().header("x-api-key", &key.text).header("anthropic-version", "2023-06-01");
    let reply = reply.send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["type"], "message");
    for refused in [call(), call().header("x-api-key", "sk-kx-wrong")] {
        let reply = refused.send().await;
        assert_eq!(reply.status, 401);
        let error = reply.json();
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!("authentication_error"))
        );
    }
    let elsewhere = Call::post(gw.addr(), "/v1/chat/completions").header("x-api-key", &key.text);
    assert_eq!(elsewhere.send().await.status, 401);
    gw.finish().await;
}

/// Ids and times differ between any two answers.
fn without_ids(text: &str) -> String {
    let is_id = |c: char| c.is_ascii_hexdigit() || c == '-';
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !is_id(c)) {
        let (body, end) = word.split_at(word.trim_end_matches(|c: char| !is_id(c)).len());
        let is_long = body.len() >= 10;
        out.push_str(if is_long { "-" } else { body });
        out.push_str(end);
    }
    out
}
