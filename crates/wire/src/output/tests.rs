use crate::surface::Surface;
use crate::surface::tests::{RecordingSink, read_stream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Words, bytes of media, bytes of sealed text and pictures that a reply says.
type Said = (String, u64, u64, usize);

fn said(sink: RecordingSink) -> Said {
    let texts: Vec<String> = sink.texts.into_iter().map(|(_, text)| text).collect();
    (texts.join("|"), sink.media, sink.sealed, sink.pictures)
}

fn whole(surface: Surface, reply: &Value) -> Said {
    let mut sink = RecordingSink::default();
    surface.read_reply(reply.to_string().as_bytes(), &mut sink);
    said(sink)
}

fn streamed(surface: Surface, events: &[Value]) -> Said {
    let events: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let stream = events.concat();
    said(read_stream(surface, stream.as_bytes(), 1000).sink)
}

fn noise(bytes: u32) -> String {
    let noise = (0..bytes).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    STANDARD.encode(noise.collect::<Vec<_>>())
}

fn words(text: &str) -> Said {
    (text.to_owned(), 0, 0, 0)
}

#[test]
fn chat_is_heard_under_every_name() {
    let sound = noise(300);
    let seal = format!("gAAAAAB{}", noise(90));
    let picture = format!("data:image/png;base64,{}", noise(60));
    let long = |text: &str| text.len() as u64;
    for (message, expected) in [
        (json!({"content": "Hi"}), words("Hi")),
        (json!({"reasoning_text": "hm"}), words("hm")),
        (json!({"thinking": "hm", "reasoning": "hm"}), words("hm")),
        (
            json!({"audio": {"id": "a", "transcript": "Hello", "data": sound, "expires_at": 1}}),
            ("Hello".to_owned(), long(&sound), 0, 0),
        ),
        (
            json!({"thinking_blocks": [{"type": "thinking", "thinking": "step", "signature": seal}]}),
            ("step".to_owned(), 0, long(&seal), 0),
        ),
        (
            json!({"reasoning": "a step", "reasoning_details": [
                {"type": "reasoning.text", "text": "a step", "format": "x", "index": 0},
                {"type": "reasoning.encrypted", "data": seal}]}),
            ("a step".to_owned(), 0, long(&seal), 0),
        ),
        (
            json!({"reasoning_details": [{"type": "reasoning.summary", "summary": "short"}]}),
            words("short"),
        ),
        (
            json!({"content": "See", "images": [
                {"type": "image_url", "image_url": {"url": picture}, "index": 0},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]}),
            ("See".to_owned(), 0, 0, 2),
        ),
        (
            json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "Hi"}]}),
            words("hm|Hi"),
        ),
        (
            json!({"tool_calls": [{"index": 0, "id": "c", "type": "function",
                "function": {"arguments": "{\"a\":1}", "name": "f"}}]}),
            words("{\"a\":1}|f"),
        ),
        (
            json!({"tool_calls": [{"id": "c", "type": "custom", "custom": {"input": "x", "name": "g"}}]}),
            words("x|g"),
        ),
        (
            json!({"tool_calls": {"function": {"arguments": {"a": 1}, "name": "f"}}}),
            words("{\"a\":1}|f"),
        ),
        (json!({"tool_calls": [{"name": "f", "parameters": {"a": 1}}]}), words("f|{\"a\":1}")),
        (json!({"function_call": {"name": "g", "arguments": "{}"}}), words("{}|g")),
        (json!({"refusal": "No."}), words("No.")),
        (json!({"new_member": {"deep": ["words"]}}), words("words")),
        (json!({"content": null, "provider_specific_fields": {"thinking": "hm"}}), words("hm")),
        (json!({"content": "Hi", "provider_specific_fields": {"content": "Hi"}}), words("Hi")),
        (
            json!({"content": "", "role": "assistant", "refusal": null, "annotations": []}),
            words(""),
        ),
    ] {
        let mut choice =
            json!({"index": 0, "finish_reason": "stop", "logprobs": {"content": [{"token": "x"}]}});
        choice["message"] = message.clone();
        let reply =
            json!({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]});
        assert_eq!(whole(Surface::ChatCompletions, &reply), expected, "{message}");
        choice["delta"] = choice["message"].take();
        choice.as_object_mut().unwrap().remove("message");
        let chunk =
            json!({"id": "c", "choices": [choice], "obfuscation": "pad", "service_tier": "x"});
        assert_eq!(streamed(Surface::ChatCompletions, &[chunk]), expected, "{message}");
    }
    // Beside the choices, or in place of them.
    for (chunk, expected) in [
        (json!({"token": {"text": "Hi", "id": 5}, "generated_text": null}), "Hi"),
        (
            json!({"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": false}),
            "Hi",
        ),
        (json!({"choices": [{"index": 0, "delta": {}, "output": "Hi"}]}), "Hi"),
        (json!({"choices": [{"index": 0, "text": "Hi"}]}), "Hi"),
        (json!({"choices": [{"index": 0, "delta": {}}], "citations": ["https://a.example"]}), ""),
        (json!({"type": "ping"}), ""),
    ] {
        assert_eq!(
            streamed(Surface::ChatCompletions, std::slice::from_ref(&chunk)),
            words(expected),
            "{chunk}"
        );
        assert_eq!(streamed(Surface::Completions, std::slice::from_ref(&chunk)), words(expected));
        assert_eq!(whole(Surface::Completions, &chunk), words(expected), "{chunk}");
    }
}

#[test]
fn responses_are_heard_under_every_name_and_once() {
    let responses = Surface::Responses;
    let (sound, seal) = (noise(300), format!("gAAAAAB{}", noise(90)));
    let picture = STANDARD.encode([&b"\x89PNG\r\n\x1a\n"[..], &[7; 90]].concat());
    let long = |text: &str| text.len() as u64;
    for (item, expected) in [
        (
            json!({"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}),
            words("Hi"),
        ),
        (json!({"type": "message", "content": "Hi"}), words("Hi")),
        (
            json!({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}),
            words("No."),
        ),
        (
            json!({"type": "message", "content": [{"type": "output_audio", "data": sound, "transcript": "Hi"}]}),
            ("Hi".to_owned(), long(&sound), 0, 0),
        ),
        (
            json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
                "content": [], "encrypted_content": seal}),
            ("hm".to_owned(), 0, long(&seal), 0),
        ),
        (
            json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
            words("{}|f"),
        ),
        (json!({"type": "custom_tool_call", "name": "g", "input": "x"}), words("x|g")),
        (json!({"type": "code_interpreter_call", "code": "1+1", "outputs": null}), words("1+1")),
        (json!({"type": "mcp_call", "arguments": "{}", "output": "done"}), words("{}|done")),
        (
            json!({"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"]}}),
            words("ls"),
        ),
        (json!({"type": "image_generation_call", "result": picture}), (String::new(), 0, 0, 1)),
        (json!({"type": "new_thing", "words": {"deep": "Hi"}}), words("Hi")),
    ] {
        let response = json!({"id": "r", "instructions": "be", "tools": [{"name": "t"}],
            "metadata": {"a": "b"}, "text": {"format": {"type": "text"}}, "output": [item]});
        assert_eq!(whole(responses, &response), expected, "{item}");
        let begun = json!({"type": "response.created", "response": {"id": "r", "output": [],
            "billing": {"payer": "x"}, "instructions": "be"}});
        let completed = json!({"type": "response.completed", "response": response});
        assert_eq!(streamed(responses, &[begun.clone(), completed.clone()]), expected, "{item}");
        let added = json!({"type": "response.output_item.added", "output_index": 0, "item": item});
        let done = json!({"type": "response.output_item.done", "output_index": 0, "item": item});
        assert_eq!(streamed(responses, &[begun, added, done, completed]), expected, "{item}");
    }
    let event = |kind: &str, name: &str, value: &str| json!({"type": kind, "output_index": 0, "item_id": "i", (name): value});
    for (events, expected) in [
        (
            vec![
                event("response.output_text.delta", "delta", "Hi"),
                event("response.output_text.done", "text", "Hi"),
            ],
            words("Hi"),
        ),
        (vec![event("response.output_text.done", "text", "Hi")], words("Hi")),
        (vec![event("response.function_call_arguments.done", "arguments", "{}")], words("{}")),
        (vec![event("response.audio.delta", "delta", &sound)], (String::new(), long(&sound), 0, 0)),
        (
            vec![
                event(
                    "response.image_generation_call.partial_image",
                    "partial_image_b64",
                    &picture
                );
                2
            ],
            (String::new(), 0, 0, 2),
        ),
        (vec![json!({"choices": [{"delta": {"content": "Hi"}}]})], words("Hi")),
    ] {
        assert_eq!(streamed(responses, &events), expected, "{events:?}");
    }
    let message =
        |text: &str| json!({"type": "message", "content": [{"type": "output_text", "text": text}]});
    let both =
        json!({"id": "r", "output": [message("one"), message("two")], "output_text": "onetwo"});
    assert_eq!(whole(responses, &both), words("one|two"));
    let completed = json!({"type": "response.completed", "response": both});
    assert_eq!(streamed(responses, &[completed]), words("one|two"));
    let joined =
        json!({"type": "response.completed", "response": {"id": "r", "output_text": "Hi"}});
    assert_eq!(streamed(responses, &[joined]), words("Hi"));
}

#[test]
fn messages_are_heard_under_every_name() {
    let messages = Surface::Messages;
    let seal = noise(90);
    for (block, expected) in [
        (json!({"type": "text", "text": "Hi"}), words("Hi")),
        (
            json!({"type": "thinking", "thinking": "hm", "signature": seal}),
            ("hm".to_owned(), 0, seal.len() as u64, 0),
        ),
        (
            json!({"type": "redacted_thinking", "data": seal}),
            (String::new(), 0, seal.len() as u64, 0),
        ),
        (
            json!({"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}),
            words("{\"a\":1}|f"),
        ),
        (
            json!({"type": "code_execution_tool_result", "tool_use_id": "t",
                "content": {"type": "code_execution_result", "stdout": "4"}}),
            words("4"),
        ),
    ] {
        let message =
            json!({"id": "m", "type": "message", "role": "assistant", "content": [block]});
        assert_eq!(whole(messages, &message), expected, "{block}");
        let start = json!({"type": "message_start", "message": message});
        assert_eq!(streamed(messages, &[start]), expected, "{block}");
        let start = json!({"type": "content_block_start", "index": 0, "content_block": block});
        assert_eq!(streamed(messages, &[start]), expected, "{block}");
    }
    for (delta, expected) in [
        (json!({"type": "text_delta", "text": "Hi"}), "Hi"),
        (json!({"type": "input_json_delta", "partial_json": "{"}), "{"),
        (json!({"type": "new_delta", "words": "Hi"}), "Hi"),
    ] {
        for kind in ["content_block_delta", "new_event"] {
            let event = json!({"type": kind, "index": 0, "delta": delta});
            assert_eq!(streamed(messages, &[event]), words(expected), "{delta}");
        }
    }
    assert_eq!(streamed(messages, &[json!({"type": "new_event", "words": "Hi"})]), words("Hi"));
    assert_eq!(whole(messages, &json!({"content": "Hi"})), words("Hi"));
}

#[test]
fn output_may_be_nested_as_deep_as_it_likes() {
    let levels = 200_000;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = format!("{}\"x\"{}", open.repeat(levels), close.repeat(levels));
        let reply = format!(r#"{{"choices":[{{"message":{{"content":"hi","new":{nested}}}}}]}}"#);
        let mut sink = RecordingSink::default();
        Surface::ChatCompletions.read_reply(reply.as_bytes(), &mut sink);
        let texts: usize = sink.texts.iter().map(|(_, text)| text.len()).sum();
        assert!(texts > levels, "what is below the deepest level counts as it is written");
    }
}
