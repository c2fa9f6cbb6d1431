use super::*;
use crate::sse::Scanner;

const KEY: &str = "xai-0123456789abcdefSECRET";

fn redactor() -> ReplyRedactor {
    ReplyRedactor::new(Some(KEY), "upstream.example")
}

fn body(json: &str) -> String {
    String::from_utf8(redactor().body(Bytes::from(json.to_owned())).to_vec()).unwrap()
}

fn event(raw: &str) -> Option<String> {
    let mut scanner = Scanner::new(1 << 20);
    scanner.push(raw.as_bytes());
    let event = scanner.next_event().unwrap().unwrap();
    redactor().event(&event).map(|raw| String::from_utf8(raw.to_vec()).unwrap())
}

#[test]
fn the_key_leaves_nowhere() {
    for json in [
        format!(r#"{{"choices":[{{"message":{{"content":"I am {KEY}."}}}}]}}"#),
        format!(r#"{{"id":"{KEY}","data":[{{"embedding":"{KEY}{KEY}"}}]}}"#),
        format!("not JSON {KEY}"),
    ] {
        let clean = body(&json);
        assert_eq!(clean, json.replace(KEY, "[key]"));
        let raw = format!("event: x\ndata: {json}\n\n");
        assert_eq!(event(&raw), Some(raw.replace(KEY, "[key]")));
    }
    let slashed = ReplyRedactor::new(Some("sk/a/b/c/d/e"), "h");
    let body = slashed.body(Bytes::from_static(br#"{"a":"sk\/a\/b\/c\/d\/e"}"#));
    assert_eq!(&body[..], br#"{"a":"[key]"}"#);
    let short = ReplyRedactor::new(Some("test"), "h");
    assert_eq!(&short.body(Bytes::from_static(b"a test"))[..], b"a test");
}

#[test]
fn errors_are_redacted_wherever_they_stand() {
    let base64 = "eGFpLTAxMjM0NTY3ODlhYmNkZWZTRUNSRVQ";
    for (json, clean) in [
        (
            r#"{"choices":[{"delta":{},"error":{"message":"at upstream.example"}}]}"#,
            r#"{"choices":[{"delta":{},"error":{"message":"at [host]"}}]}"#,
        ),
        (
            r#"{"choices":[],"e\u0072ror":"see https://a.example/x"}"#,
            r#"{"choices":[],"e\u0072ror":"see [link]"}"#,
        ),
        (
            r#"{"output":[{"type":"mcp_call","error":"10.0.0.7 is down","arguments":"{}"}],"error":null}"#,
            r#"{"output":[{"type":"mcp_call","error":"[address] is down","arguments":"{}"}],"error":null}"#,
        ),
        (
            r#"{"choices":[{"message":{"content":"a"}}],"last_error":["ops@corp.example"]}"#,
            r#"{"choices":[{"message":{"content":"a"}}],"last_error":["[email]"]}"#,
        ),
    ] {
        assert_eq!(body(json), clean);
        assert_eq!(event(&format!("data: {json}\n\n")), Some(format!("data: {clean}\n\n")));
        let split = format!("event: e\r\ndata: {{\r\ndata: {}\r\n\r\n", &json[1..]);
        let expected = format!("event: e\ndata: {{\ndata: {}\n\n", &clean[1..]);
        assert_eq!(event(&split), Some(expected));
    }
    for encoded in [base64, "%78%61%69%2D%30%31%32%33%34%35", "7861692d30313233343536373839"] {
        let clean =
            body(&format!(r#"{{"choices":[{{"error":{{"message":"key {encoded} no"}}}}]}}"#));
        assert!(clean.contains("[key]") && !clean.contains(encoded), "{clean}");
    }
}

#[test]
fn what_the_model_said_stays() {
    for json in [
        r#"{"choices":[{"message":{"content":"an \"error\": see https://a.example"}}],"error":null}"#,
        r#"{"content":[{"type":"tool_use","input":{"error":"see https://a.example"}}]}"#,
        r#"{"choices":[{"message":{"tool_calls":[{"function":{"arguments":{"error":"10.0.0.7"}}}]}}]}"#,
        r#"{"output":[{"is_error":false,"error":""}],"error":null,"errors":[]}"#,
        "{\"choices\":[{\"delta\":{\"content\":\"caf\\u00e9 error \\u0041\"}}]}",
    ] {
        assert_eq!(body(json), json);
        assert_eq!(event(&format!("data: {json}\n\n")), None, "{json}");
    }
}

#[test]
fn a_reply_may_be_nested_as_deep_as_it_likes() {
    let levels = 200_000;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = format!("{}\"x\"{}", open.repeat(levels), close.repeat(levels));
        let json = format!(r#"{{"detail":{nested},"error":"at upstream.example"}}"#);
        let clean = body(&json);
        assert!(!clean.contains("upstream.example") && clean.starts_with(r#"{"detail":"#));
    }
}
