//! The request reader of every surface: never panics, and what it has changed reads back as changed.

use domain::plan::{RequestPolicy, ServerTools};
use wire::request::{LimitField, Request, Rewrite};
use wire::surface::{Output, Surface};
use wire::tokens::estimate::{count_prompt, estimate_prompt};

pub fn run(body: &[u8]) {
    for surface in Surface::ALL {
        read(surface, body);
    }
}

/// What was changed once is a body that is not changed again.
fn settled(surface: Surface, request: &Request<'_>, rewrite: Rewrite<'_>) {
    let bytes = request.rewrite(rewrite);
    match Request::parse(surface, &bytes) {
        Ok(again) => {
            assert_eq!(again.rewrite(rewrite), bytes);
            if let Some(policy) = rewrite.policy {
                assert_eq!(again.stripped_names(policy), Vec::<String>::new());
            }
        }
        Err(bad) => assert!(bad.message.contains("fields"), "{bad}"),
    }
}

fn read(surface: Surface, body: &[u8]) {
    let Ok(request) = Request::parse(surface, body) else { return };
    // Limits that disagree are made one; then there is nothing left to change.
    settled(surface, &request, Rewrite::default());
    let server_tools = ServerTools::Strip;
    let policy = RequestPolicy { server_tools, max_tool_calls: 3, ..RequestPolicy::default() };
    settled(surface, &request, Rewrite { policy: Some(&policy), ..Rewrite::default() });
    assert!(estimate_prompt(&request, 7) >= count_prompt(&request, 7));
    let tells_usage_if_asked = matches!(surface, Surface::ChatCompletions | Surface::Completions);
    let has_limit = matches!(surface.output(), Output::Tokens(_));
    for limit_field in [LimitField::MaxTokens, LimitField::MaxCompletionTokens] {
        let asked = Rewrite {
            model: Some("other \"model\""),
            max_output: has_limit.then_some(17),
            limit_field,
            include_usage: tells_usage_if_asked,
            policy: None,
            drop_stream_options: false,
        };
        let bytes = request.rewrite(asked);
        match Request::parse(surface, &bytes) {
            Ok(again) => {
                assert_eq!(again.model, "other \"model\"");
                assert_eq!(again.max_output, has_limit.then_some(17));
                assert_eq!(again.include_usage, tells_usage_if_asked);
                assert_eq!((again.stream, again.n), (request.stream, request.n));
                assert_eq!(again.prompt.size, request.prompt.size);
                assert_eq!(again.dependencies, request.dependencies);
                assert_eq!(again.rewrite(asked), bytes, "a second time changes nothing");
            }
            // Only a body with the most fields allowed can be refused for those that were added.
            Err(bad) => assert!(bad.message.contains("fields"), "{bad}"),
        }
    }
}
