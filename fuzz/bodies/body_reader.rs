//! The request reader: never panics, and what it has changed reads back as changed.

use knockx::openai::request::{Changes, LimitField, Request};
use knockx::openai::surface::Surface;
use knockx::tokens::estimate::{cheap_prompt, exact_prompt};

pub fn run(body: &[u8]) {
    let Ok(request) = Request::parse(Surface::ChatCompletions, body) else { return };
    assert_eq!(request.splice(Changes::default()), body);
    assert!(cheap_prompt(&request, 7) >= exact_prompt(&request, 7));
    for limit_field in [LimitField::MaxTokens, LimitField::MaxCompletionTokens] {
        let asked = Changes {
            model: Some("other \"model\""),
            max_output: Some(17),
            limit_field,
            include_usage: true,
        };
        let bytes = request.splice(asked);
        match Request::parse(Surface::ChatCompletions, &bytes) {
            Ok(again) => {
                assert_eq!(again.model, "other \"model\"");
                assert_eq!(again.max_output, Some(17));
                assert!(again.include_usage);
                assert_eq!((again.stream, again.n), (request.stream, request.n));
                assert_eq!(again.prompt.size, request.prompt.size);
                assert_eq!(again.splice(asked), bytes, "a second time changes nothing");
            }
            // Only a body with the most members allowed can be refused for those that were added.
            Err(bad) => assert!(bad.message.contains("members"), "{bad}"),
        }
    }
}
