use super::*;
use crate::request::Request;
use serde_json::{Value, json};

fn found(surface: Surface, body: &Value) -> Inspection {
    inspect(surface, &body.to_string()).unwrap()
}

fn reference(surface: Surface, body: &Value) -> Option<String> {
    found(surface, body).reference
}

#[test]
fn references_of_responses_are_found() {
    let responses = Surface::Responses;
    for (body, path) in [
        (json!({ "conversation": "conv_1" }), "conversation"),
        (json!({ "conversation": { "id": "conv_1" } }), "conversation"),
        (json!({ "prompt": { "id": "pmpt_1" } }), "prompt"),
        (json!({ "input": [{ "id": "msg_1" }] }), "input[0]"),
        (json!({ "input": ["a", { "type": "item_reference", "id": "msg_1" }] }), "input[1].type"),
        (
            json!({ "input": [{ "type": "message", "id": "msg_1", "role": "assistant" }] }),
            "input[0]",
        ),
        (json!({ "input": [{ "type": "message", "id": "msg_1", "content": [ ] }] }), "input[0]"),
        (json!({ "input": [{ "type": "message", "id": "msg_1", "content": "" }] }), "input[0]"),
        (json!({ "input": [{ "type": "reasoning", "id": "rs_1" }] }), "input[0]"),
        (json!({ "input": [{ "type": "image_generation_call", "id": "ig_1" }] }), "input[0]"),
        (
            json!({ "input": [{ "type": "function_call", "id": "fc_1", "call_id": "c", "name": "f" }] }),
            "input[0]",
        ),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_file", "file_id": "file-1" }] }] }),
            "input[0].content[0].file_id",
        ),
        (
            json!({ "input": [{ "type": "function_call_output", "output": [{ "type": "input_image", "file_id": "f" }] }] }),
            "input[0].output[0].file_id",
        ),
        (
            json!({ "input": [{ "type": "code_interpreter_call", "id": "ci", "code": "1", "container_id": "cntr_1" }] }),
            "input[0].container_id",
        ),
        (
            json!({ "tools": [{ "type": "file_search", "vector_store_ids": ["vs_1"] }] }),
            "tools[0].vector_store_ids",
        ),
        (
            json!({ "tools": [{ "type": "code_interpreter", "container": "cntr_1" }] }),
            "tools[0].container",
        ),
        (
            json!({ "tools": [{ "type": "code_interpreter", "container": { "type": "auto", "file_ids": ["f"] } }] }),
            "tools[0].container.file_ids",
        ),
        (
            json!({ "tools": [{ "type": "mcp", "connector_id": "connector_dropbox" }] }),
            "tools[0].connector_id",
        ),
        (
            json!({ "tools": [{ "type": "shell", "environment": { "type": "container_reference", "container_id": "c" } }] }),
            "tools[0].environment.container_id",
        ),
        (
            json!({ "tools": [{ "type": "file_search", "collection_ids": ["c"] }] }),
            "tools[0].collection_ids",
        ),
    ] {
        assert_eq!(reference(responses, &body).as_deref(), Some(path), "{body}");
    }
    // Escapes hide nothing.
    for (body, path) in [
        (r#"{"input":[{"t\u0079pe":"item_\u0072eference"}]}"#, "input[0].type"),
        (r#"{"input":[{"type":"r\u0065asoning","\u0069d":"rs_1"}]}"#, "input[0]"),
        (
            r#"{"input":[{"content":[{"image_url":"f\u0069le:\/\/\/etc"}]}]}"#,
            "input[0].content[0].image_url",
        ),
    ] {
        let found = inspect(responses, body).unwrap();
        assert_eq!(found.reference.as_deref(), Some(path), "{body}");
    }
}

#[test]
fn references_of_chat_and_messages_are_found() {
    let chat = Surface::ChatCompletions;
    for (body, path) in [
        (json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
        (
            json!({ "messages": [{ "content": [{ "type": "file", "file": { "file_id": "file-1" } }] }] }),
            "messages[0].content[0].file.file_id",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "audio": { "id": "audio_1" } }] }),
            "messages[0].audio",
        ),
        (
            json!({ "messages": [{ "content": "a", "attachments": [{ "file_id": "f" }] }] }),
            "messages[0].attachments[0].file_id",
        ),
        (
            json!({ "messages": [{ "content": [{ "type": "image_url", "image_url": { "url": "file:///etc/passwd" } }] }] }),
            "messages[0].content[0].image_url.url",
        ),
        (
            json!({ "messages": [{ "content": [{ "type": "image_url", "image_url": "gs://bucket/a.png" }] }] }),
            "messages[0].content[0].image_url",
        ),
        (json!({ "messages": [{ "images": ["s3://bucket/a.png"] }] }), "messages[0].images[0]"),
    ] {
        assert_eq!(reference(chat, &body).as_deref(), Some(path), "{body}");
    }
    let messages = Surface::Messages;
    for (body, path) in [
        (json!({ "container": "container_1" }), "container"),
        (json!({ "container": { "id": "container_1", "skills": [] } }), "container"),
        (
            json!({ "messages": [{ "content": [{ "type": "document", "source": { "type": "file", "file_id": "f" } }] }] }),
            "messages[0].content[0].source.file_id",
        ),
        (
            json!({ "messages": [{ "content": [{ "type": "container_upload", "file_id": "f" }] }] }),
            "messages[0].content[0].file_id",
        ),
    ] {
        assert_eq!(reference(messages, &body).as_deref(), Some(path), "{body}");
    }
}

#[test]
fn a_response_in_the_background_is_refused_on_every_surface() {
    for surface in [Surface::ChatCompletions, Surface::Responses, Surface::Messages] {
        for (given, code) in [
            (json!(true), "invalid_value"),
            (json!("false"), "invalid_type"),
            (json!(0), "invalid_type"),
            (json!({}), "invalid_type"),
            (json!([false]), "invalid_type"),
        ] {
            let bad = inspect(surface, &json!({ "background": given }).to_string()).unwrap_err();
            assert_eq!(
                (bad.param.as_deref(), bad.code),
                (Some("background"), Some(code)),
                "{given}"
            );
        }
        for absent in [json!(false), json!(null)] {
            found(surface, &json!({ "background": absent }));
        }
    }
}

#[test]
fn what_clients_send_with_its_content_passes() {
    // As Codex, openai-agents with `store: false`, the AI SDK and Anthropic's clients send it.
    for (surface, body) in [
        (
            Surface::Responses,
            json!({ "previous_response_id": "resp_1", "store": false,
            "include": ["reasoning.encrypted_content"], "conversation": null, "background": false,
            "input": [
                { "type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                    { "type": "output_text", "text": "a", "annotations": [{ "type": "file_citation", "file_id": "f" }] }] },
                { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA" },
                { "type": "reasoning", "id": "rs_2", "summary": [], "content": [{ "type": "reasoning_text", "text": "b" }] },
                { "type": "reasoning", "summary": [], "encrypted_content": null },
                { "type": "function_call", "id": "fc_1", "call_id": "c", "name": "f",
                  "arguments": "{\"file_id\":\"mine\"}" },
                { "type": "function_call_output", "call_id": "c", "output": "file_id: x" },
                { "type": "custom_tool_call", "id": "ctc_1", "call_id": "d", "name": "g", "input": "*** Begin" },
                { "type": "web_search_call", "id": "ws_1", "status": "completed", "action": { "type": "search" } },
                { "type": "local_shell_call", "id": "ls", "call_id": "e", "action": { "command": ["ls"] } },
                { "type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA" },
                { "type": "image_generation_call", "id": "ig_1", "result": "iVBORw0" },
            ],
            "tools": [
                { "type": "function", "name": "f", "parameters": { "type": "object", "properties": {
                    "file_id": { "type": "string" }, "Type": { "type": "string" } } } },
                { "type": "code_interpreter", "container": { "type": "auto" } },
                { "type": "mcp", "server_url": "https://mcp.example", "authorization": "mine",
                  "headers": { "Container": "x" } },
            ] }),
        ),
        (
            Surface::ChatCompletions,
            json!({ "user": { "id": "u", "file_id": "x" }, "metadata": { "file_id": "x" },
            "messages": [{ "role": "user", "content": [
                { "type": "image_url", "image_url": { "url": "https://a.example/b.png" } },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } },
                { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA", "file_id": null } }] }],
            "response_format": { "type": "json_schema", "json_schema": { "schema": { "properties": { "file_id": {} } } } } }),
        ),
        (
            Surface::Messages,
            json!({ "messages": [{ "role": "assistant", "content": [
                { "type": "tool_use", "id": "toolu_1", "name": "f", "input": { "file_id": "mine", "container": "x" } },
                { "type": "text", "text": "a", "citations": [{ "file_id": "f" }] }] }],
            "container": null }),
        ),
        (Surface::Completions, json!({ "prompt": "conversation" })),
    ] {
        assert_eq!(reference(surface, &body), None);
    }
}

#[test]
fn reasoning_that_is_not_sealed_goes_without_its_id() {
    let policy = domain::plan::RequestPolicy::default();
    let body = r#"{"model":"m","input":[{"type":"reasoning","id":"rs_1","summary":[]},{"id":"rs_2","type":"reasoning","summary":[{"text":"a"}]},"x"]}"#;
    let body = body.replace(r#","x""#, r#",{"role":"user","content":"x"}"#);
    let request = Request::parse(Surface::Responses, body.as_bytes()).unwrap();
    request.permit(&policy).unwrap();
    let rewrite = crate::request::Rewrite { policy: Some(&policy), ..Default::default() };
    let sent = String::from_utf8(request.rewrite(rewrite).to_vec()).unwrap();
    assert_eq!(
        sent,
        r#"{"model":"m","input":[{"type":"reasoning","summary":[]},{"type":"reasoning","summary":[{"text":"a"}]},{"role":"user","content":"x"}]}"#
    );
}

#[test]
fn names_that_a_server_could_read_differently_are_refused() {
    for (body, param) in [
        (r#"{"messages":[{"Role":"user"}]}"#, "messages[0].Role"),
        (
            r#"{"messages":[{"content":[{"type":"file","file":{"File_Id":"f"}}]}]}"#,
            "messages[0].content[0].file.File_Id",
        ),
        (r#"{"input":[{"ID":"msg_1"}]}"#, "input[0].ID"),
        (r#"{"input":[{"type":"message","type":"item_reference"}]}"#, "input[0].type"),
        (r#"{"messages":[{"content":"a","c\u006fntent":"b"}]}"#, "messages[0].content"),
        (r#"{"tools":[{"type":"function","Type":"web_search"}]}"#, "tools[0].Type"),
        ("{\"tools\":[{\"type\":\"x\",\"max_u\u{17f}es\":9}]}", "tools[0].max_u\u{17f}es"),
        (r#"{"stream_options":{"Include_Usage":true}}"#, "stream_options.Include_Usage"),
        (r#"{"thinking":{"Budget_Tokens":1}}"#, "thinking.Budget_Tokens"),
    ] {
        let bad = inspect(Surface::Responses, body).unwrap_err();
        assert_eq!(bad.param.as_deref(), Some(param), "{bad}");
    }
    // Elsewhere names are the caller's own.
    for body in [
        r#"{"x":{"Type":1,"type":2,"type":3}}"#,
        r#"{"metadata":{"Id":1}}"#,
        r#"{"messages":[{"content":[{"type":"tool_use","input":{"Type":1,"ID":2}}]}]}"#,
    ] {
        assert!(inspect(Surface::Messages, body).is_ok(), "{body}");
    }
}
