//! Limits under other names, through the whole reader.

use crate::request::{BadBody, Request, Rewrite};
use crate::surface::Surface;
use serde_json::{Value, json};

fn ask(surface: Surface, members: &Value) -> Value {
    let mut body = match surface {
        Surface::Responses => json!({ "model": "m", "input": "hi" }),
        Surface::Completions => json!({ "model": "m", "prompt": "hi" }),
        Surface::Images => json!({ "model": "m", "prompt": "hi" }),
        Surface::Messages => json!({ "model": "m", "max_tokens": 5000, "messages": [{}] }),
        _ => json!({ "model": "m", "messages": [{}] }),
    };
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn refusal(surface: Surface, members: &Value) -> BadBody {
    Request::parse(surface, ask(surface, members).to_string().as_bytes()).unwrap_err()
}

fn sent(surface: Surface, members: &Value, max_output: Option<u64>) -> Value {
    let body = ask(surface, members).to_string();
    let request = Request::parse(surface, body.as_bytes()).unwrap();
    serde_json::from_slice(&request.rewrite(Rewrite { max_output, ..Rewrite::default() })).unwrap()
}

#[test]
fn limits_under_other_names_are_held_to_what_is_granted() {
    let chat = Surface::ChatCompletions;
    for name in
        ["n_predict", "num_predict", "max_new_tokens", "maxOutputTokens", "max_output_tokens"]
    {
        // What the upstream may not read is said in its own words too.
        let left = json!({ (name): 100, "max_completion_tokens": 100 });
        assert_eq!(sent(chat, &json!({ (name): 100 }), None), ask(chat, &left));
        let left = json!({ (name): 7, "max_completion_tokens": 7 });
        assert_eq!(sent(chat, &json!({ (name): 100 }), Some(7)), ask(chat, &left));
        let given = json!({ (name): 100_000, "max_tokens": 5 });
        assert_eq!(sent(chat, &given, None), ask(chat, &json!({ (name): 5, "max_tokens": 5 })));
        for bad in [json!(-1), json!("100"), json!(0), json!(1.5)] {
            assert_eq!(refusal(chat, &json!({ (name): bad })).param.as_deref(), Some(name));
        }
    }
    for (object, name) in [
        ("options", "num_predict"),
        ("generationConfig", "maxOutputTokens"),
        ("parameters", "max_new_tokens"),
    ] {
        let given = json!({ (object): { (name): 900, "x": [] }, "max_tokens": 5 });
        let left = json!({ (object): { (name): 5, "x": [] }, "max_tokens": 5 });
        assert_eq!(sent(chat, &given, None), ask(chat, &left));
        let bad = refusal(chat, &json!({ (object): { (name): -1 } }));
        assert_eq!(bad.param, Some(format!("{object}.{name}")));
    }
    let given = json!({ "max_tokens": 900, "max_output_tokens": 5 });
    let left = json!({ "max_tokens": 5, "max_output_tokens": 5 });
    assert_eq!(sent(Surface::Responses, &given, None), ask(Surface::Responses, &left));
}

#[test]
fn least_output_and_budgets_stay_below_the_limit() {
    let chat = Surface::ChatCompletions;
    for (given, left) in [
        (
            json!({ "min_tokens": 900, "max_tokens": 5 }),
            json!({ "min_tokens": 5, "max_tokens": 5 }),
        ),
        (json!({ "min_tokens": 2, "max_tokens": 5 }), json!({ "min_tokens": 2, "max_tokens": 5 })),
        (
            json!({ "reasoning": { "max_tokens": 900 }, "max_tokens": 5 }),
            json!({ "reasoning": { "max_tokens": 5 }, "max_tokens": 5 }),
        ),
        (
            json!({ "thinking_budget": -1, "max_tokens": 5 }),
            json!({ "thinking_budget": -1, "max_tokens": 5 }),
        ),
        (
            json!({ "generationConfig": { "thinkingConfig": { "thinkingBudget": 900 } }, "max_tokens": 5 }),
            json!({ "generationConfig": { "thinkingConfig": { "thinkingBudget": 5 } }, "max_tokens": 5 }),
        ),
    ] {
        assert_eq!(sent(chat, &given, None), ask(chat, &left), "{given}");
    }
    let thinking =
        |budget: u64| json!({ "thinking": { "type": "enabled", "budget_tokens": budget } });
    let messages = Surface::Messages;
    assert_eq!(sent(messages, &thinking(4000), None), ask(messages, &thinking(4000)));
    let mut left = thinking(2999);
    left["max_tokens"] = json!(3000);
    assert_eq!(sent(messages, &thinking(4000), Some(3000)), ask(messages, &left));
    let left = json!({ "thinking": { "type": "disabled" }, "max_tokens": 900 });
    assert_eq!(sent(messages, &thinking(4000), Some(900)), ask(messages, &left));
    assert_eq!(refusal(chat, &json!({ "min_tokens": "9" })).param.as_deref(), Some("min_tokens"));
}

#[test]
fn every_name_for_more_answers_counts() {
    let n = |surface, members: &Value| {
        Request::parse(surface, ask(surface, members).to_string().as_bytes()).unwrap().n
    };
    for name in ["n", "best_of", "num_return_sequences", "candidate_count", "num_beams"] {
        assert_eq!(n(Surface::ChatCompletions, &json!({ (name): 5 })), 5, "{name}");
        let prompts = json!({ (name): 5, "prompt": ["a", "b"] });
        assert_eq!(n(Surface::Completions, &prompts), 10, "{name}");
        for surface in [Surface::Responses, Surface::Messages] {
            assert_eq!(refusal(surface, &json!({ (name): 5 })).param.as_deref(), Some(name));
            assert_eq!(n(surface, &json!({ (name): 1 })), 1);
        }
    }
    assert_eq!(n(Surface::Images, &json!({ "num_images": 4, "n": 1 })), 4);
    let nested = json!({ "generationConfig": { "candidateCount": 8 } });
    let bad = refusal(Surface::ChatCompletions, &nested);
    assert_eq!(bad.param.as_deref(), Some("generationConfig.candidateCount"));
}

#[test]
fn other_models_and_other_ways_are_refused() {
    for (name, value) in [
        ("models", json!(["m", "expensive"])),
        ("route", json!("fallback")),
        ("fallbacks", json!(["expensive"])),
        ("provider", json!({ "order": ["x"] })),
        ("preset", json!("p")),
        ("extra_body", json!({ "model": "x" })),
        ("api_base", json!("http://169.254.169.254")),
        ("use_beam_search", json!(true)),
        ("ignore_eos", json!(true)),
        ("lora_path", json!("/x")),
    ] {
        for surface in [Surface::ChatCompletions, Surface::Responses, Surface::Completions] {
            let bad = refusal(surface, &json!({ (name): value }));
            assert_eq!(bad.param.as_deref(), Some(name), "{bad}");
        }
    }
    let given = json!({ "ignore_eos": true, "max_tokens": 5, "models": null, "provider": "mine" });
    assert_eq!(sent(Surface::ChatCompletions, &given, None), ask(Surface::ChatCompletions, &given));
}

#[test]
fn twins_of_names_are_refused() {
    for name in [
        "Model",
        "MAX_TOKENS",
        "Max_Completion_Tokens",
        "Stream",
        "N",
        "max_to\u{212a}ens",
        "Num_Predict",
    ] {
        let bad = refusal(Surface::ChatCompletions, &json!({ (name): 1 }));
        assert_eq!(bad.param.as_deref(), Some(name));
        assert!(bad.message.contains("ambiguous capitalization"), "{bad}");
    }
    let bad = refusal(Surface::ChatCompletions, &json!({ "options": { "Num_Predict": 9 } }));
    assert_eq!(bad.param.as_deref(), Some("options.Num_Predict"));
}
