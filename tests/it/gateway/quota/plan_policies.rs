//! What a plan lets requests ask for beyond tokens, from the next request on.

use crate::support::http_client::Call;
use crate::support::recording_upstream::{RecordingUpstream, Then};
use crate::support::{Gateway, Plan, WIDE, body, by, gateway};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::id::PlanId;
use domain::plan::{PolicyChange, ServerTools};
use serde_json::{Value, json};
use store::PlanChange;

const TOOLS: &str = r#","max_tokens":9,"service_tier":"priority","tools":[{"type":"web_search"},{"type":"function","function":{"name":"f"}}],"tool_choice":"auto","max_tool_calls":100000"#;
const FILE: &str = r#","max_tokens":9,"file_ids":["file-of-somebody"]"#;

async fn change(gw: &Gateway, policy: PolicyChange) {
    let change = PlanChange { policy, ..PlanChange::default() };
    gw.running.store.change_plan(&PlanId::from("wide"), &change, &by()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_applies_from_the_next_request() {
    let recorder = RecordingUpstream::start(Then::Goes).await;
    let gw = gateway().upstreams(&recorder.table()).start().await;
    let key = gw.key("wide").await;
    let last =
        || serde_json::from_slice::<Value>(&recorder.received().pop().unwrap().body).unwrap();
    let function = json!({ "type": "function", "function": { "name": "f" } });

    let reply = gw.ask(&key, &body("hi", TOOLS)).await;
    assert_eq!((reply.status, reply.header("x-kx-stripped")), (200, "service_tier"));
    assert_eq!(last()["tools"], json!([{ "type": "web_search" }, function]));
    assert_eq!((&last()["max_tool_calls"], &last()["service_tier"]), (&json!(20), &Value::Null));

    let policy = PolicyChange {
        server_tools: Some(ServerTools::Strip),
        service_tiers: Some(["priority".into()].into()),
        ..PolicyChange::default()
    };
    change(&gw, policy).await;
    let reply = gw.ask(&key, &body("hi", TOOLS)).await;
    assert_eq!((reply.status, reply.header("x-kx-stripped")), (200, "web_search"));
    assert_eq!(
        (&last()["tools"], &last()["service_tier"]),
        (&json!([function]), &json!("priority"))
    );

    let refuse = ServerTools::Refuse;
    change(&gw, PolicyChange { server_tools: Some(refuse), ..PolicyChange::default() }).await;
    let search = r#","max_tokens":9,"web_search_options":{}"#;
    let reply = gw.ask(&key, &body("hi", search)).await;
    assert_eq!((reply.status, &*reply.code()), (400, "server_tool_not_allowed"));
    assert_eq!(reply.json()["error"]["param"], "web_search_options");
    assert_eq!(gw.ask(&key, &body("hi", r#","max_tokens":9"#)).await.status, 200);

    let reply = gw.ask(&key, &body("hi", FILE)).await;
    assert_eq!((reply.status, &*reply.code()), (400, "reference_not_allowed"));
    assert_eq!(reply.json()["error"]["param"], "file_ids");
    let sent = recorder.received().len();
    change(&gw, PolicyChange { account_references: Some(true), ..PolicyChange::default() }).await;
    assert_eq!(gw.ask(&key, &body("hi", FILE)).await.status, 200);
    assert_eq!(
        (recorder.received().len(), &last()["file_ids"]),
        (sent + 1, &json!(["file-of-somebody"]))
    );
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_in_the_output_of_a_tool_fits_a_small_plan() {
    let small = Plan { id: "small", tokens: 5000, ..WIDE };
    let gw = gateway().plan(small).start().await;
    let key = gw.key("small").await;
    let noise = (0..300_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    let picture = STANDARD.encode([&b"\x89PNG\r\n\x1a\n"[..], &noise.collect::<Vec<_>>()].concat());
    let url = format!("data:image/png;base64,{picture}");
    let ask = json!({ "model": "grok-4.3", "max_output_tokens": 50, "store": false, "input": [
        { "role": "user", "content": "What is it?" },
        { "type": "function_call", "call_id": "c", "name": "view_image", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "c",
          "output": [{ "type": "input_image", "image_url": url }] },
        { "type": "reasoning", "summary": [], "encrypted_content": "gAAAA".repeat(2000) },
    ] });
    let reply =
        Call::post(gw.addr(), "/v1/responses").key(&key.text).body(ask.to_string()).send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    gw.finish().await;
}
