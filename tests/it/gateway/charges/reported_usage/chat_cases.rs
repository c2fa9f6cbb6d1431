//! Replies of chat completions.

use super::*;

pub(super) fn whole_chats() -> Vec<Case> {
    let long = format!(r#"{{"role":"assistant","content":"{}"}}"#, words());
    let call = format!(
        r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{}"}}}}]}}"#,
        words()
    );
    let thought =
        format!(r#"{{"role":"assistant","content":"","reasoning_content":"{}"}}"#, words());
    let none = r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#;
    vec![
        case(
            "one key twice in the message",
            CHAT,
            whole(r#"{"role":"a","role":"assistant","content":"hi"}"#, USAGE),
        ),
        case("content twice", CHAT, whole(r#"{"content":"hi","content":"hi"}"#, USAGE)),
        case("usage twice, the last null", CHAT, whole(HI, &format!(r#"{USAGE},"usage":null"#))),
        case("usage twice, the last zero", CHAT, whole(HI, &format!(r#"{USAGE},"usage":{none}"#))),
        case(
            "a key twice in usage",
            CHAT,
            whole(HI, r#"{"prompt_tokens":0,"prompt_tokens":700,"completion_tokens":300}"#),
        ),
        case(
            "details twice",
            CHAT,
            whole(
                HI,
                &USAGE.replace(
                    '}',
                    r#","completion_tokens_details":{"reasoning_tokens":1,"reasoning_tokens":2}}"#,
                ),
            ),
        ),
        case(
            "numbers as strings",
            CHAT,
            whole(HI, r#"{"prompt_tokens":"700","completion_tokens":"300"}"#),
        ),
        case(
            "numbers as floats",
            CHAT,
            whole(HI, r#"{"prompt_tokens":700.0,"completion_tokens":3e2}"#),
        ),
        case(
            "usage first",
            CHAT,
            json(200, &format!(r#"{{"usage":{USAGE},"choices":[{{"index":0,"message":{HI}}}]}}"#)),
        ),
        case(
            "index below zero",
            CHAT,
            json(200, &format!(r#"{{"choices":[{{"index":-1,"message":{HI}}}],"usage":{USAGE}}}"#)),
        ),
        case(
            "index as text",
            CHAT,
            json(
                200,
                &format!(r#"{{"choices":[{{"index":"0","message":{HI}}}],"usage":{USAGE}}}"#),
            ),
        ),
        case(
            "no list of choices",
            CHAT,
            json(200, &format!(r#"{{"choices":{{"message":{HI}}},"usage":{USAGE}}}"#)),
        ),
        case("choices null", CHAT, json(200, &format!(r#"{{"choices":null,"usage":{USAGE}}}"#))),
        case(
            "message as text",
            CHAT,
            json(200, &format!(r#"{{"choices":[{{"message":"hi"}}],"usage":{USAGE}}}"#)),
        ),
        case(
            "byte order mark",
            CHAT,
            json(200, &format!("\u{feff} \n{{\"choices\":[],\"usage\":{USAGE}}}")),
        ),
        case(
            "Groq's place",
            CHAT,
            json(
                200,
                &format!(r#"{{"choices":[{{"message":{HI}}}],"x_groq":{{"usage":{USAGE}}}}}"#),
            ),
        ),
        case(
            "in the choice",
            CHAT,
            json(200, &format!(r#"{{"choices":[{{"message":{HI},"usage":{USAGE}}}]}}"#)),
        ),
        case(
            "Gemini's names",
            CHAT,
            json(
                200,
                &format!(
                    r#"{{"choices":[{{"message":{HI}}}],"usageMetadata":{{"promptTokenCount":700,"candidatesTokenCount":100,"thoughtsTokenCount":200,"totalTokenCount":1000}}}}"#
                ),
            ),
        ),
        case(
            "deep",
            CHAT,
            json(
                200,
                &format!(
                    r#"{{"choices":[{{"message":{HI}}}],"x":{}{},"usage":{USAGE}}}"#,
                    "[".repeat(500),
                    "]".repeat(500)
                ),
            ),
        ),
        case(
            "a negative detail",
            CHAT,
            whole(
                HI,
                &USAGE.replace('}', r#","completion_tokens_details":{"reasoning_tokens":-5}}"#),
            ),
        ),
        counted(
            case("total alone", CHAT, whole(HI, r#"{"total_tokens":1000}"#)),
            Some(999),
            Some(1),
        ),
        counted(case("zero", CHAT, whole(&long, none)), None, Some(500)),
        counted(case("zero for a tool call", CHAT, whole(&call, none)), None, Some(501)),
        counted(case("zero for reasoning", CHAT, whole(&thought, none)), None, Some(500)),
        counted(
            case(
                "no completion",
                CHAT,
                whole(&long, r#"{"prompt_tokens":700,"completion_tokens":0}"#),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case(
                "no completion, and a total without it",
                CHAT,
                whole(&long, r#"{"prompt_tokens":700,"completion_tokens":0,"total_tokens":700}"#),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case("no prompt", CHAT, whole(HI, r#"{"prompt_tokens":0,"completion_tokens":300}"#)),
            None,
            Some(300),
        ),
        counted(
            case(
                "one token for 500 words",
                CHAT,
                whole(&long, r#"{"prompt_tokens":700,"completion_tokens":1}"#),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case(
                "below zero",
                CHAT,
                whole(&long, r#"{"prompt_tokens":700,"completion_tokens":-300}"#),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case("absurd", CHAT, whole(&long, r#"{"prompt_tokens":700,"completion_tokens":1e30}"#)),
            Some(700),
            Some(500),
        ),
        counted(
            case(
                "too large to count",
                CHAT,
                whole(
                    &long,
                    r#"{"prompt_tokens":700,"completion_tokens":18446744073709551615,"total_tokens":18446744073709551615}"#,
                ),
            ),
            Some(700),
            Some(500),
        ),
    ]
}

pub(super) fn streamed_chats() -> Vec<Case> {
    let long = format!(r#"{{"content":"{}"}}"#, words());
    let last = format!(r#"{{"id":"x","choices":[],"usage":{USAGE}}}"#);
    let none = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
    let early = format!(r#"{{"id":"x","choices":[{{"index":0,"delta":{long}}}],"usage":{USAGE}}}"#);
    let stop = r#"{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let unended = format!("data: {stop}\n\ndata: {last}");
    let late = format!("data: {stop}\n\ndata: [DONE]\n\ndata: {last}\n\n");
    let spoiled = format!(
        r#"data: {{"choices":[{{"index":0,"delta":{{"content":"@"}},"finish_reason":"stop"}}],"usage":{USAGE}}}"#
    );
    let mut spoiled = format!("{spoiled}\n\ndata: [DONE]\n\n").into_bytes();
    let at = spoiled.iter().position(|byte| *byte == b'@').unwrap();
    spoiled[at] = 0xff;
    vec![
        case(
            "stream: one key twice",
            CHAT,
            chat_stream(r#"{"role":"a","role":"b","content":"hi"}"#, &last),
        ),
        case(
            "stream: a key twice beside usage",
            CHAT,
            chat_stream(HI, &format!(r#"{{"id":"x","id":"x","choices":[],"usage":{USAGE}}}"#)),
        ),
        case(
            "stream: an odd index beside usage",
            CHAT,
            chat_stream(
                HI,
                &format!(r#"{{"choices":[{{"index":-1,"delta":{{}}}}],"usage":{USAGE}}}"#),
            ),
        ),
        case("stream: zero at the end", CHAT, events(&[&early, stop, none, "[DONE]"])),
        case(
            "stream: null at the end",
            CHAT,
            events(&[&early, stop, r#"{"choices":[],"usage":null}"#, "[DONE]"]),
        ),
        case(
            "stream: Groq's place",
            CHAT,
            chat_stream(
                HI,
                &format!(
                    r#"{{"choices":[{{"index":0,"delta":{{}}}}],"x_groq":{{"usage":{USAGE}}}}}"#
                ),
            ),
        ),
        case(
            "stream: in the choice",
            CHAT,
            chat_stream(
                HI,
                &format!(r#"{{"choices":[{{"index":0,"delta":{{}},"usage":{USAGE}}}]}}"#),
            ),
        ),
        case(
            "stream: byte order mark",
            CHAT,
            stream(format!("\u{feff}data: {stop}\n\ndata: {last}\n\ndata: [DONE]\n\n").as_bytes()),
        ),
        case("stream: the last event has no end", CHAT, stream(unended.as_bytes())),
        case("stream: after the end marker", CHAT, stream(late.as_bytes())),
        case("stream: beside bytes that are no UTF-8", CHAT, stream(&spoiled)),
        counted(case("stream: zero", CHAT, chat_stream(&long, none)), None, Some(500)),
        counted(
            case(
                "stream: total alone",
                CHAT,
                chat_stream(
                    r#"{"content":"hi"}"#,
                    r#"{"choices":[],"usage":{"total_tokens":1000}}"#,
                ),
            ),
            Some(999),
            Some(1),
        ),
        counted(
            case(
                "stream: before the text",
                CHAT,
                events(&[
                    r#"{"choices":[],"usage":{"prompt_tokens":700,"completion_tokens":1}}"#,
                    &early.replace(USAGE, "null"),
                    stop,
                    "[DONE]",
                ]),
            ),
            Some(700),
            Some(500),
        ),
    ]
}
