use super::*;

/// Prompt, cached, completion and reasoning of a usage object.
fn read(json: &str) -> Option<(u64, u64, u64, u64)> {
    let tokens = Usage::parse(json.as_bytes())?.tokens;
    Some((tokens.prompt, tokens.cached, tokens.completion, tokens.reasoning))
}

fn usage(prompt: u64, completion: u64, reasoning: u64, total: Option<u64>) -> String {
    serde_json::json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total,
        "completion_tokens_details": { "reasoning_tokens": reasoning },
    })
    .to_string()
}

#[test]
fn the_sum_tells_where_the_reasoning_is() {
    for (json, expected) in [
        // Apart, as at xAI.
        (usage(10, 5, 100, Some(115)), (5, 100)),
        // Folded, as at OpenAI.
        (usage(10, 105, 100, Some(115)), (5, 100)),
        // No reasoning: both are the same.
        (usage(10, 5, 0, Some(15)), (5, 0)),
        // No total: folded unless that is impossible.
        (usage(10, 105, 100, None), (5, 100)),
        (usage(10, 5, 100, None), (5, 100)),
        // The sum fits neither: more is apart, less is folded, and nothing goes below zero.
        (usage(10, 5, 100, Some(200)), (5, 100)),
        (usage(10, 5, 100, Some(60)), (0, 5)),
    ] {
        let (_, _, completion, reasoning) = read(&json).unwrap();
        assert_eq!((completion, reasoning), expected, "{json}");
    }
}

#[test]
fn cached_tokens_are_part_of_the_prompt() {
    let json = |cached| {
        format!(
            r#"{{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11,
                "prompt_tokens_details":{{"cached_tokens":{cached}}}}}"#
        )
    };
    assert_eq!(read(&json("4")), Some((10, 4, 1, 0)));
    assert_eq!(read(&json("40")), Some((10, 10, 1, 0)));
    assert_eq!(read(&json("null")), Some((10, 0, 1, 0)));
}

#[test]
fn reads_other_names_and_gaps() {
    for (json, expected) in [
        (
            r#"{"input_tokens":9,"output_tokens":30,"total_tokens":39,
            "input_tokens_details":{"cached_tokens":2},
            "output_tokens_details":{"reasoning_tokens":20}}"#,
            (9, 2, 10, 20),
        ),
        (r#"{"prompt_tokens":8,"total_tokens":8}"#, (8, 0, 0, 0)),
        (r#"{"prompt_tokens":8,"total_tokens":11}"#, (8, 0, 3, 0)),
        (r#"{"completion_tokens":3,"total_tokens":11}"#, (8, 0, 3, 0)),
        (r#"{"prompt_tokens":8.0,"completion_tokens":2.5}"#, (8, 0, 3, 0)),
        (r#"{"prompt_tokens":8,"completion_tokens":2,"prompt_tokens_details":7}"#, (8, 0, 2, 0)),
    ] {
        assert_eq!(read(json), Some(expected), "{json}");
    }
}

#[test]
fn garbage_is_no_usage() {
    for json in [
        "",
        "null",
        "[]",
        "[1,2,3]",
        "7",
        "{}",
        r#"{"total_tokens":9}"#,
        r#"{"prompt_tokens":null}"#,
        r#"{"prompt_tokens":"8","completion_tokens":"9"}"#,
        r#"{"prompt_tokens":-1,"completion_tokens":2}"#,
        r#"{"prompt_tokens":1,"completion_tokens":-2}"#,
        r#"{"prompt_tokens":1,"completion_tokens":18446744073709551615}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1e30}"#,
        r#"{"prompt_tokens":1e999,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1000000001,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":-5}}"#,
        r#"{"prompt_tokens":1,"prompt_tokens":2}"#,
    ] {
        assert_eq!(read(json), None, "{json}");
    }
}

#[test]
fn absurd_costs_are_left_to_our_own_arithmetic() {
    let cost = |ticks: &str| {
        let json =
            format!(r#"{{"prompt_tokens":1,"completion_tokens":2,"cost_in_usd_ticks":{ticks}}}"#);
        Usage::parse(json.as_bytes()).unwrap().cost_ticks
    };
    assert_eq!(cost("1234567"), Some(1_234_567));
    assert_eq!(cost("0"), Some(0));
    for ticks in ["-1", "null", "1.5", "\"9\"", "9223372036854775807", "99999999999999999999"] {
        assert_eq!(cost(ticks), None, "{ticks}");
    }
}

#[test]
fn finds_the_usage_of_a_whole_reply() {
    let usage = Usage::from_reply(include_bytes!("../../../tests/golden/reply.json")).unwrap();
    let tokens = TokenCount { prompt: 214, cached: 192, completion: 12, reasoning: 87 };
    assert_eq!(usage, Usage { tokens, cost_ticks: Some(3_134_000) });
    for body in ["{}", r#"{"usage":null}"#, "not json", r#"{"usage":[]}"#] {
        assert_eq!(Usage::from_reply(body.as_bytes()), None);
    }
}
