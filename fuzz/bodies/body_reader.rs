//! The request reader of every surface: never panics, and what it has changed reads back as changed.

use domain::plan::{RequestPolicy, ServerTools};
use wire::request::{Changes, LimitField, Request};
use wire::surface::{Output, Surface};
use wire::tokens::estimate::{cheap_prompt, exact_prompt};

pub fn run(body: &[u8]) {
    for surface in Surface::ALL {
        read(surface, body);
    }
}

/// What was changed once is a body that is not changed again.
fn settled(surface: Surface, request: &Request<'_>, changes: Changes<'_>) {
    let bytes = request.splice(changes);
    match Request::parse(surface, &bytes) {
        Ok(again) => {
            assert_eq!(again.splice(changes), bytes);
            if let Some(policy) = changes.policy {
                assert_eq!(again.stripped(policy), Vec::<String>::new());
            }
        }
        Err(bad) => assert!(bad.message.contains("fields"), "{bad}"),
    }
}

fn read(surface: Surface, body: &[u8]) {
    let Ok(request) = Request::parse(surface, body) else { return };
    // Limits that disagree are made one; then there is nothing left to change.
    settled(surface, &request, Changes::default());
    let server_tools = ServerTools::Strip;
    let policy = RequestPolicy { server_tools, max_tool_calls: 3, ..RequestPolicy::default() };
    settled(surface, &request, Changes { policy: Some(&policy), ..Changes::default() });
    assert!(cheap_prompt(&request, 7) >= exact_prompt(&request, 7));
    let tells_usage_if_asked = matches!(surface, Surface::ChatCompletions | Surface::Completions);
    let has_limit = matches!(surface.output(), Output::Tokens(_));
    for limit_field in [LimitField::MaxTokens, LimitField::MaxCompletionTokens] {
        let asked = Changes {
            model: Some("other \"model\""),
            max_output: has_limit.then_some(17),
            limit_field,
            include_usage: tells_usage_if_asked,
            policy: None,
            drop_stream_options: false,
        };
        let bytes = request.splice(asked);
        match Request::parse(surface, &bytes) {
            Ok(again) => {
                assert_eq!(again.model, "other \"model\"");
                assert_eq!(again.max_output, has_limit.then_some(17));
                assert_eq!(again.include_usage, tells_usage_if_asked);
                assert_eq!((again.stream, again.n), (request.stream, request.n));
                assert_eq!(again.prompt.size, request.prompt.size);
                assert_eq!(again.ties, request.ties);
                assert_eq!(again.splice(asked), bytes, "a second time changes nothing");
            }
            // Only a body with the most fields allowed can be refused for those that were added.
            Err(bad) => assert!(bad.message.contains("fields"), "{bad}"),
        }
    }
}
