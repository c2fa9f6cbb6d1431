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
fn the_total_shows_whether_it_includes_reasoning() {
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
    // More than the prompt is nonsense, and none are taken for cached.
    assert_eq!(read(&json("40")), Some((10, 0, 1, 0)));
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
        (
            r#"{"promptTokenCount":9,"candidatesTokenCount":10,"thoughtsTokenCount":20,"totalTokenCount":39}"#,
            (9, 0, 10, 20),
        ),
        (r#"{"inputTokenCount":9,"outputTokenCount":10}"#, (9, 0, 10, 0)),
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
        r#"{"prompt_tokens":null}"#,
        r#"{"prompt_tokens":-1}"#,
    ] {
        assert_eq!(read(json), None, "{json}");
    }
}

#[test]
fn a_number_that_cannot_be_true_is_treated_as_absent() {
    for (json, expected, source) in [
        (r#"{"prompt_tokens":"8","completion_tokens":" 9 "}"#, (8, 0, 9, 0), Source::Reported),
        (r#"{"prompt_tokens":1,"prompt_tokens":2}"#, (2, 0, 0, 0), Source::Reported),
        (r#"{"prompt_tokens":-1,"completion_tokens":2}"#, (0, 0, 2, 0), Source::Estimated),
        (r#"{"prompt_tokens":1,"completion_tokens":-2}"#, (1, 0, 0, 0), Source::Estimated),
        (
            r#"{"prompt_tokens":1,"completion_tokens":18446744073709551615}"#,
            (1, 0, 0, 0),
            Source::Estimated,
        ),
        (r#"{"prompt_tokens":1,"completion_tokens":1e30}"#, (1, 0, 0, 0), Source::Estimated),
        (r#"{"prompt_tokens":1e999,"completion_tokens":1}"#, (0, 0, 1, 0), Source::Estimated),
        (r#"{"prompt_tokens":"NaN","completion_tokens":1}"#, (0, 0, 1, 0), Source::Estimated),
        (r#"{"prompt_tokens":1000000001,"completion_tokens":1}"#, (0, 0, 1, 0), Source::Estimated),
        (
            r#"{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":-5}}"#,
            (1, 0, 2, 0),
            Source::Reported,
        ),
    ] {
        assert_eq!(read(json), Some(expected), "{json}");
        assert_eq!(Usage::parse(json.as_bytes()).unwrap().source, source, "{json}");
    }
    let only_total = Usage::parse(br#"{"total_tokens":9}"#).unwrap();
    assert_eq!((only_total.tokens, only_total.total), (TokenCount::default(), Some(9)));
}

#[test]
fn what_is_cached_is_within_the_prompt_or_beside_it() {
    let written = |json: &str| Usage::parse(json.as_bytes()).unwrap().cache_written;
    for (json, tokens, cache_written) in [
        (
            r#"{"prompt_tokens":100,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":40,"cache_write_tokens":50}}"#,
            (100, 40, 1, 0),
            50,
        ),
        (
            r#"{"input_tokens":10,"output_tokens":1,"cache_read_input_tokens":40,"cache_creation_input_tokens":50}"#,
            (100, 40, 1, 0),
            50,
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":1,"total_tokens":51,"prompt_tokens_details":{"cached_tokens":40}}"#,
            (50, 40, 1, 0),
            0,
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":50}}"#,
            (10, 4, 1, 0),
            6,
        ),
        (
            r#"{"prompt_tokens":100,"completion_tokens":1,"prompt_cache_hit_tokens":64}"#,
            (100, 64, 1, 0),
            0,
        ),
    ] {
        assert_eq!((read(json), written(json)), (Some(tokens), cache_written), "{json}");
    }
}

#[test]
fn a_total_names_what_is_named_nowhere_else() {
    // Gemini's total has the reasoning.
    let json = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115}"#;
    assert_eq!(read(json), Some((10, 0, 5, 100)));
    let json = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":900000000}"#;
    assert_eq!(read(json), Some((10, 0, 5, 0)), "no model reasons so long");
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
    let usage = Usage::find(include_bytes!("../../../../tests/golden/reply.json")).unwrap();
    let tokens = TokenCount { prompt: 214, cached: 192, completion: 12, reasoning: 87 };
    let expected = Usage { cost_ticks: Some(3_134_000), total: usage.total, ..Usage::of(tokens) };
    assert_eq!(usage, expected);
    for body in ["{}", r#"{"usage":null}"#, "not json", r#"{"usage":[]}"#] {
        assert_eq!(Usage::find(body.as_bytes()), None);
    }
}
