use super::*;

#[test]
fn only_short_visible_ids_of_callers_are_kept() {
    let of = |value: &[u8]| {
        let value = HeaderValue::from_bytes(value).unwrap();
        client_request_id(&HeaderMap::from_iter([(
            http::HeaderName::from_static("x-request-id"),
            value,
        )]))
    };
    let longest = "~".repeat(128);
    for kept in ["a", "job-7/42:!\"\\", &longest] {
        assert_eq!(of(kept.as_bytes()).as_deref(), Some(kept));
    }
    let too_long = "a".repeat(129);
    for dropped in ["", "a b", "a\tb", "caf\u{e9}", &too_long, "sk-kx-0123_abc", "x=sk-kx-0123_abc"]
    {
        assert_eq!(of(dropped.as_bytes()), None, "{dropped:?}");
    }
    assert_eq!(client_request_id(&HeaderMap::new()), None);
}

#[test]
fn handshakes_of_web_sockets_are_known_below_v1() {
    let endpoint_of = |path: &str, protocol: &'static str| {
        let upgrade = HeaderValue::from_static(protocol);
        let headers = HeaderMap::from_iter([(http::header::UPGRADE, upgrade)]);
        Endpoint::with_headers(&Method::GET, path, &headers)
    };
    for path in ["/v1/responses", "/v1/realtime?model=x", "/v1/chat/completions"] {
        assert_eq!(endpoint_of(path, "WebSocket"), Endpoint::WebSocket);
        assert_eq!(endpoint_of(path, "h2c, websocket"), Endpoint::WebSocket);
    }
    assert_eq!(endpoint_of("/health", "websocket"), Endpoint::Control);
    assert_eq!(endpoint_of("/v1/models", "h2c"), Endpoint::Models(None, ModelListFormat::OpenAi));
}

#[test]
fn anthropics_clients_get_models_in_their_shape() {
    let version = HeaderValue::from_static("2023-06-01");
    let name = http::HeaderName::from_static("anthropic-version");
    let headers = HeaderMap::from_iter([(name, version)]);
    let of = |path: &str| Endpoint::with_headers(&Method::GET, path, &headers);
    let models = Endpoint::Models(None, ModelListFormat::Anthropic);
    assert_eq!(of("/v1/models?limit=1000"), models);
    assert!(
        models.takes_api_key() && !Endpoint::Models(None, ModelListFormat::OpenAi).takes_api_key()
    );
    assert_eq!(of("/v1/models/m"), Endpoint::Models(Some("m".into()), ModelListFormat::Anthropic));
    assert_eq!(of("/v1/language-models"), Endpoint::Models(None, ModelListFormat::Xai));
}

#[test]
fn paths_and_methods_name_endpoints() {
    let of = |method: &str, path: &str| Endpoint::of(&method.parse().unwrap(), path);
    let chat = Endpoint::Call(Surface::ChatCompletions);
    assert_eq!(of("POST", "/v1/chat/completions"), chat);
    assert_eq!(of("POST", "/v1/chat/completions/"), chat);
    assert_eq!(of("POST", "/v1/chat/completions?x=1"), chat);
    assert_eq!(of("POST", "/api/v1/chat/completions"), chat);
    assert_eq!(of("GET", "/v1/chat/completions"), Endpoint::WrongMethod { allow: "POST" });
    assert_eq!(of("GET", "/v1/models"), Endpoint::Models(None, ModelListFormat::OpenAi));
    let model = |id: &str| Endpoint::Models(Some(id.into()), ModelListFormat::OpenAi);
    assert_eq!(of("GET", "/v1/models/grok-4.3"), model("grok-4.3"));
    assert_eq!(of("GET", "/v1/models/xai%2Fgrok"), model("xai/grok"));
    assert_eq!(of("GET", "/v1/language-models"), Endpoint::Models(None, ModelListFormat::Xai));
    let priced = Endpoint::Models(Some("grok-4.3".into()), ModelListFormat::Xai);
    assert_eq!(of("GET", "/v1/language-models/grok-4.3"), priced);
    let deferred = Endpoint::Deferred("3f-6c".into());
    assert_eq!(of("GET", "/v1/chat/deferred-completion/3f-6c"), deferred);
    assert_eq!(of("GET", "/v1/chat/deferred-completion/3f/6c"), Endpoint::Unknown);
    assert_eq!(of("GET", "/v1/chat/deferred-completion/"), Endpoint::Unknown);
    let kept =
        |action| Endpoint::StoredResponse(StoredResponseRequest { id: "resp_1-a".into(), action });
    assert_eq!(of("GET", "/v1/responses/resp_1-a"), kept(StoredResponseAction::Read));
    assert_eq!(of("DELETE", "/v1/responses/resp_1-a/"), kept(StoredResponseAction::Delete));
    assert_eq!(of("POST", "/v1/responses/resp_1-a/cancel"), kept(StoredResponseAction::Cancel));
    assert_eq!(
        of("GET", "/v1/responses/resp_1-a/input_items?limit=1"),
        kept(StoredResponseAction::ListInput)
    );
    assert_eq!(of("POST", "/v1/responses/compact"), Endpoint::Unknown);
    assert_eq!(of("POST", "/v1/responses/input_tokens"), Endpoint::InputTokens);
    assert_eq!(of("GET", "/v1/responses/input_tokens"), Endpoint::WrongMethod { allow: "POST" });
    assert_eq!(of("POST", "/v1/responses/input_tokens/cancel"), Endpoint::Unknown);
    let wrong = |allow| Endpoint::WrongMethod { allow };
    assert_eq!(of("POST", "/v1/responses/resp_1-a"), wrong("GET, DELETE"));
    assert_eq!(of("GET", "/v1/responses/resp_1-a/cancel"), wrong("POST"));
    for none in ["..", "a/b", "a/cancel/b", "a%2Fb", "a b", "\u{e9}"] {
        assert_eq!(of("GET", &format!("/v1/responses/x/{none}/")[..]), Endpoint::Unknown);
    }
    for none in ["..", "a%2Fb", "a.b", "a;b"] {
        assert_eq!(of("GET", &format!("/v1/responses/{none}")), Endpoint::Unknown);
    }
    assert_eq!(of("POST", "/v1/responses"), Endpoint::Call(Surface::Responses));
    assert_eq!(of("POST", "/v1/messages/count_tokens"), Endpoint::Call(Surface::CountTokens));
    assert_eq!(of("OPTIONS", "/v1/anything"), Endpoint::Preflight);
    assert_eq!(of("POST", "/v1/../health"), Endpoint::Unknown);
    assert_eq!(of("POST", "/v1"), Endpoint::Unknown);
    assert_eq!(of("GET", "/api/v1/chat/usage"), Endpoint::Control);
    assert_eq!(of("GET", "/"), Endpoint::Control);
    assert_eq!(of("POST", "/v1x/chat/completions"), Endpoint::Control);
    assert_eq!(of("POST", "/%761/chat/completions"), Endpoint::Control);
}
