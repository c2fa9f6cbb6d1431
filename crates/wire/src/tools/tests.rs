use super::*;
use crate::request::{Request, Rewrite};
use domain::plan::{RequestPolicy, ServerTools};
use serde_json::{Value, json};

fn policy(server_tools: ServerTools) -> RequestPolicy {
    RequestPolicy { server_tools, ..RequestPolicy::default() }
}

fn ask(surface: Surface, members: &Value) -> Value {
    let mut body = match surface {
        Surface::Responses => json!({ "model": "m", "input": "hi" }),
        Surface::Images => json!({ "model": "m", "prompt": "hi" }),
        _ => {
            json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] })
        }
    };
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Returns the members that are sent upstream, or the refused one.
fn sent(surface: Surface, members: &Value, policy: &RequestPolicy) -> Result<Value, String> {
    let body = ask(surface, members).to_string();
    let refused = |bad: BadBody| bad.param.unwrap_or_default();
    let request = Request::parse(surface, body.as_bytes()).map_err(refused)?;
    request.permit(policy).map_err(refused)?;
    let rewrite = Rewrite { policy: Some(policy), ..Rewrite::default() };
    let bytes = request.rewrite(rewrite);
    // What was made is a body again, and nothing is left to take out.
    let again = Request::parse(surface, &bytes).unwrap();
    assert_eq!(again.stripped_names(policy), Vec::<String>::new());
    assert_eq!(again.rewrite(rewrite), bytes);
    Ok(serde_json::from_slice(&bytes).unwrap())
}

fn stripped(surface: Surface, members: &Value, left: &Value) {
    let sent = sent(surface, members, &policy(ServerTools::Strip)).unwrap();
    assert_eq!(sent, ask(surface, left), "{members}");
    let allowed = self::sent(surface, members, &policy(ServerTools::Allow)).unwrap();
    assert_eq!(allowed, ask(surface, members));
}

const FUNCTION: &str = r#"{"type":"function","name":"f","parameters":{}}"#;

fn function() -> Value {
    serde_json::from_str(FUNCTION).unwrap()
}

#[test]
fn tools_of_the_upstream_are_taken_out_and_others_stay() {
    let responses = Surface::Responses;
    for kind in [
        "web_search",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "x_search",
        "file_search",
        "code_interpreter",
        "code_execution",
        "mcp",
        "image_generation",
        "computer_use_preview",
        "collections_search",
        "live_search",
        "openrouter:web_search",
        "something_new",
    ] {
        let tool = json!({ "type": kind });
        stripped(
            responses,
            &json!({ "tools": [function(), tool] }),
            &json!({ "tools": [function()] }),
        );
        stripped(
            responses,
            &json!({ "tools": [tool, tool], "tool_choice": "required", "parallel_tool_calls": true }),
            &json!({}),
        );
    }
    for tool in [
        json!({ "type": "custom", "name": "apply" }),
        json!({ "type": "local_shell" }),
        json!({ "type": "apply_patch" }),
        json!({ "type": "shell" }),
        json!({ "type": "tool_search", "execution": "client" }),
        json!({ "type": "namespace", "name": "n", "tools": [function()] }),
    ] {
        stripped(responses, &json!({ "tools": [tool] }), &json!({ "tools": [tool] }));
    }
    for tool in [
        json!({ "type": "shell", "environment": { "type": "container_auto" } }),
        json!({ "type": "namespace", "name": "n", "tools": [function(), { "type": "web_search" }] }),
        json!({ "type": "function", "name": "f", "googleSearch": {} }),
        json!({ "google_search": {} }),
        json!({ "type": "builtin_function", "function": { "name": "$web_search" } }),
    ] {
        stripped(
            responses,
            &json!({ "tools": [function(), tool] }),
            &json!({ "tools": [function()] }),
        );
    }
}

#[test]
fn tools_that_came_with_a_message_are_taken_out_too() {
    let search = json!({ "type": "builtin_function", "function": { "name": "$web_search" } });
    let message = |tools: Value| json!({ "messages": [{ "role": "system", "tools": tools }] });
    let given = message(json!([search, function()]));
    stripped(Surface::ChatCompletions, &given, &message(json!([function()])));
    stripped(Surface::ChatCompletions, &message(json!([search])), &message(json!([])));
    let item =
        |tools: Value| json!({ "input": [{ "type": "tool_search_output", "tools": tools }] });
    stripped(
        Surface::Responses,
        &item(json!([{ "type": "mcp" }, function()])),
        &item(json!([function()])),
    );
}

#[test]
fn anthropics_tools_are_distinguished() {
    let own = json!({ "name": "f", "input_schema": { "type": "object" } });
    let messages = Surface::Messages;
    for kind in
        ["web_search_20250305", "web_fetch_20250910", "code_execution_20250825", "mcp_toolset"]
    {
        let tool = json!({ "type": kind, "name": "web_search" });
        stripped(messages, &json!({ "tools": [own, tool] }), &json!({ "tools": [own] }));
        stripped(
            messages,
            &json!({ "tools": [tool, own], "tool_choice": { "type": "tool", "name": "web_search" } }),
            &json!({ "tools": [own] }),
        );
    }
    for kind in ["bash_20250124", "text_editor_20250728", "memory_20250818", "custom"] {
        let tool = json!({ "type": kind, "name": "t" });
        stripped(messages, &json!({ "tools": [tool] }), &json!({ "tools": [tool] }));
    }
    stripped(
        messages,
        &json!({ "mcp_servers": [{ "type": "url", "url": "https://a.example" }] }),
        &json!({}),
    );
}

#[test]
fn choices_and_includes_follow() {
    let search = json!({ "type": "web_search" });
    let tools = json!([search, function()]);
    let check = |more: Value, left: Value| {
        let mut members = more;
        members["tools"] = tools.clone();
        let mut left = left;
        left["tools"] = json!([function()]);
        stripped(Surface::Responses, &members, &left);
    };
    check(json!({ "tool_choice": "auto" }), json!({ "tool_choice": "auto" }));
    check(json!({ "tool_choice": { "type": "web_search" } }), json!({}));
    let by_name = json!({ "type": "function", "name": "f" });
    check(json!({ "tool_choice": by_name }), json!({ "tool_choice": by_name }));
    check(
        json!({ "tool_choice": { "type": "allowed_tools", "mode": "auto", "tools": [search, by_name] } }),
        json!({ "tool_choice": { "type": "allowed_tools", "mode": "auto", "tools": [by_name] } }),
    );
    check(
        json!({ "tool_choice": { "type": "allowed_tools", "mode": "auto", "tools": [search] } }),
        json!({}),
    );
    check(
        json!({ "include": ["web_search_call.action.sources", "reasoning.encrypted_content", "file_search_call.results"] }),
        json!({ "include": ["reasoning.encrypted_content"] }),
    );
}

#[test]
fn switches_of_chat_are_taken_out() {
    let chat = Surface::ChatCompletions;
    for (name, value) in [
        ("search_parameters", json!({ "mode": "on" })),
        ("web_search_options", json!({})),
        ("plugins", json!([{ "id": "web" }])),
        ("enable_search", json!(true)),
        ("search_settings", json!({ "country": "de" })),
    ] {
        stripped(chat, &json!({ (name): value }), &json!({}));
        let refused = sent(chat, &json!({ (name): value }), &policy(ServerTools::Refuse));
        assert_eq!(refused, Err(name.to_owned()));
    }
    for (name, value) in
        [("enable_search", json!(false)), ("search_parameters", json!({ "mode": "off" }))]
    {
        let members = json!({ (name): value });
        assert!(sent(chat, &members, &policy(ServerTools::Refuse)).is_ok(), "{members}");
    }
}

#[test]
fn a_plan_may_refuse_them_but_not_what_agents_offer_by_habit() {
    let refuse = policy(ServerTools::Refuse);
    let responses = Surface::Responses;
    let search = json!({ "type": "web_search", "external_web_access": false });
    let codex = json!({ "tools": [function(), { "type": "local_shell" }, search] });
    let left = ask(responses, &json!({ "tools": [function(), { "type": "local_shell" }] }));
    assert_eq!(sent(responses, &codex, &refuse), Ok(left));
    for members in [
        json!({ "tools": [search] }),
        json!({ "tools": [{ "type": "x_search" }, function()] }),
        json!({ "tools": [search, function()], "tool_choice": { "type": "web_search" } }),
        json!({ "tools": [{ "type": "mcp", "server_url": "https://a.example" }] }),
    ] {
        assert_eq!(sent(responses, &members, &refuse), Err("tools[0]".to_owned()), "{members}");
    }
    assert!(sent(responses, &json!({ "tools": [function()] }), &refuse).is_ok());
}

#[test]
fn calls_of_tools_are_bounded() {
    let plan = RequestPolicy { max_tool_calls: 5, ..RequestPolicy::default() };
    let responses = Surface::Responses;
    for (given, goes) in
        [(json!(100_000), json!(5)), (json!(5), json!(5)), (json!(null), json!(null))]
    {
        for name in ["max_tool_calls", "max_turns"] {
            let left = ask(responses, &json!({ (name): goes }));
            assert_eq!(sent(responses, &json!({ (name): given }), &plan), Ok(left));
        }
    }
    let tool = |uses: u32| json!({ "tools": [{ "type": "web_search_20250305", "name": "s", "max_uses": uses }] });
    assert_eq!(sent(Surface::Messages, &tool(900), &plan), Ok(ask(Surface::Messages, &tool(5))));
    for bad in [json!(-1), json!("9"), json!(1.5), json!(1e30)] {
        let refused = sent(responses, &json!({ "max_tool_calls": bad }), &plan);
        assert_eq!(refused, Err("max_tool_calls".to_owned()));
    }
}

#[test]
fn tiers_outside_of_the_plan_are_taken_out() {
    let chat = Surface::ChatCompletions;
    let plan = RequestPolicy::default();
    for (members, left) in [
        (json!({ "service_tier": "priority" }), json!({})),
        (json!({ "service_tier": "fast" }), json!({})),
        (json!({ "service_tier": ["priority"] }), json!({})),
        (json!({ "speed": "fast" }), json!({})),
        (json!({ "service_tier": "flex" }), json!({ "service_tier": "flex" })),
        (json!({ "service_tier": "auto" }), json!({ "service_tier": "auto" })),
        (json!({ "service_tier": null }), json!({ "service_tier": null })),
    ] {
        assert_eq!(sent(chat, &members, &plan), Ok(ask(chat, &left)), "{members}");
    }
    let any = RequestPolicy { service_tiers: ["any".into()].into(), ..plan };
    let members = json!({ "service_tier": "priority" });
    assert_eq!(sent(chat, &members, &any), Ok(ask(chat, &members)));
}

#[test]
fn tools_in_every_shape_of_json_are_taken_out() {
    let chat = Surface::ChatCompletions;
    for tools in [
        json!({ "type": "web_search" }),
        json!({ "web_search": {} }),
        json!({ "x_search": {}, "function": { "name": "f" } }),
        json!("web_search"),
        json!(["web_search"]),
        json!([["web_search"]]),
        json!([[{ "type": "web_search" }]]),
        json!(7),
        json!(true),
    ] {
        for surface in [chat, Surface::Responses, Surface::Messages] {
            stripped(surface, &json!({ "tools": tools, "tool_choice": "required" }), &json!({}));
            let refused = sent(surface, &json!({ "tools": tools }), &policy(ServerTools::Refuse));
            assert_eq!(refused, Err("tools[0]".to_owned()), "{tools}");
        }
        let message = |rest: Value| json!({ "messages": [{ "role": "system", "x": 1 }, rest] });
        let left = message(json!({ "role": "system" }));
        let left =
            if tools.is_array() { message(json!({ "role": "system", "tools": [] })) } else { left };
        stripped(chat, &message(json!({ "role": "system", "tools": tools })), &left);
        let body = ask(chat, &json!({ "tools": tools })).to_string();
        let request = Request::parse(chat, body.as_bytes()).unwrap();
        let names = request.stripped_names(&policy(ServerTools::Strip));
        assert!(
            !names.is_empty() && names.iter().all(|name| !name.is_empty()),
            "{tools}: {names:?}"
        );
    }
    for name in ["builtin_tools", "server_tools", "mcpTools"] {
        stripped(chat, &json!({ (name): ["web_search"] }), &json!({}));
    }
}

#[test]
fn places_in_the_queue_are_tiers() {
    let chat = Surface::ChatCompletions;
    let plan = RequestPolicy::default();
    for (members, left) in [
        (json!({ "priority": -100 }), json!({})),
        (json!({ "priority": "high" }), json!({})),
        (json!({ "request_priority": 0, "seed": 1 }), json!({ "seed": 1 })),
        (json!({ "priorityLevel": 1, "scheduling_policy": "fcfs", "qos": "gold" }), json!({})),
        (json!({ "processing_tier": "fast", "serviceTier": "fast" }), json!({})),
        (
            json!({ "nvext": { "agent_hints": { "priority": 9, "a": 1 } } }),
            json!({ "nvext": { "agent_hints": { "a": 1 } } }),
        ),
        (
            json!({ "sampling_params": { "priority": 9, "service_tier": "fast", "top_k": 1 } }),
            json!({ "sampling_params": { "top_k": 1 } }),
        ),
        (
            json!({ "service_tier": "flex", "frontier": 1 }),
            json!({ "service_tier": "flex", "frontier": 1 }),
        ),
    ] {
        assert_eq!(sent(chat, &members, &plan), Ok(ask(chat, &left)), "{members}");
    }
}

#[test]
fn sizes_of_images_are_found_under_every_name() {
    for server_tools in [ServerTools::Allow, ServerTools::Strip, ServerTools::Refuse] {
        let plan = policy(server_tools);
        for (surface, members, refused) in [
            (
                Surface::ChatCompletions,
                json!({ "image_config": { "size": "4K" } }),
                Some("image_config.size"),
            ),
            (
                Surface::ChatCompletions,
                json!({ "image_config": { "image_size": "4K", "aspect_ratio": "1:1" } }),
                Some("image_config.image_size"),
            ),
            (
                Surface::ChatCompletions,
                json!({ "generationConfig": { "imageConfig": { "imageSize": "4K" } } }),
                Some("generationConfig.imageConfig.imageSize"),
            ),
            (Surface::Responses, json!({ "image_quality": "high" }), Some("image_quality")),
            (Surface::Images, json!({ "output_resolution": "8k" }), Some("output_resolution")),
            (Surface::Images, json!({ "size": "4096x4096" }), Some("size")),
            (
                Surface::Images,
                json!({ "image_size": { "width": 4096, "height": 4096 } }),
                Some("image_size"),
            ),
            (
                Surface::Images,
                json!({ "parameters": { "width": 4096, "height": 4096 } }),
                Some("parameters.width"),
            ),
            (Surface::Images, json!({ "options": { "quality": "hd" } }), Some("options.quality")),
            (Surface::ChatCompletions, json!({ "image_config": { "image_size": "1K" } }), None),
            (Surface::Images, json!({ "size": "1024x1024", "batch_size": 1 }), None),
        ] {
            let found = sent(surface, &members, &plan);
            assert_eq!(found.err().as_deref(), refused, "{server_tools:?} {members}");
        }
    }
}

#[test]
fn images_outside_of_the_plan_are_refused() {
    let plan = RequestPolicy::default();
    for (members, refused) in [
        (json!({ "size": "1024x1024", "quality": "low" }), None),
        (json!({ "size": "4096x4096" }), Some("size")),
        (json!({ "size": 9 }), Some("size")),
        (json!({ "quality": "high" }), Some("quality")),
        (json!({ "quality": "HD" }), Some("quality")),
        (json!({ "resolution": "2k" }), Some("resolution")),
        (json!({ "width": 4096, "height": 4096 }), Some("width")),
        (json!({ "width": 1024, "height": 1024 }), None),
    ] {
        let found = sent(Surface::Images, &members, &plan);
        assert_eq!(found.err().as_deref(), refused, "{members}");
    }
    let tool = json!({ "tools": [{ "type": "image_generation", "quality": "high" }] });
    assert_eq!(sent(Surface::Responses, &tool, &plan), Err("tools[0].quality".to_owned()));
    let function =
        json!({ "tools": [{ "type": "function", "name": "f", "size": "huge", "parameters": {} }] });
    assert!(sent(Surface::Responses, &function, &plan).is_ok());
}
