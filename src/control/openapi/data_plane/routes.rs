//! The routes of the data plane, one table row each.

use super::bodies::{
    ChatRequest, CompletionRequest, CountRequest, EmbeddingRequest, ImageRequest, MessageRequest,
    MessagesError, Model, Models, ResponseRequest, TokenizeRequest,
};
use super::{Body, Errors, Method, PathId, Reply, Route, error_body, name};

const BAD_REQUEST: (&str, &str) = ("400", "The request is malformed, or the upstream rejected it");
const BAD_KEY: (&str, &str) = ("401", "The API key is missing or not valid");
const SUSPENDED: (&str, &str) = ("403", "The account is suspended");
const UPSTREAM_FAILED: (&str, &str) = ("502", "The upstream failed");
const UNAVAILABLE: (&str, &str) = ("503", "The gateway or the upstream is temporarily unavailable");
const UPSTREAM_TIMEOUT: (&str, &str) = ("504", "The upstream did not reply in time");

/// Errors of any metered call.
const CALL_ERRORS: &[(&str, &str)] = &[
    BAD_REQUEST,
    BAD_KEY,
    ("403", "The plan or the key does not include this model, or the account is suspended"),
    ("404", "The model does not exist, or none of its upstreams offers this route"),
    ("413", "The request body is too large"),
    ("429", "A rate limit or quota is reached; `Retry-After` says when to retry"),
    ("500", "Internal error of the gateway"),
    UPSTREAM_FAILED,
    UNAVAILABLE,
    UPSTREAM_TIMEOUT,
];

const CALL: Errors = Errors { schema: error_body, statuses: CALL_ERRORS };
const ANTHROPIC_CALL: Errors = Errors { schema: name::<MessagesError>, statuses: CALL_ERRORS };

/// Errors of requests for a stored object by its id.
const STORED: Errors = Errors {
    schema: error_body,
    statuses: &[
        BAD_REQUEST,
        BAD_KEY,
        SUSPENDED,
        ("404", "There is no object with this id, or it belongs to another user"),
        ("429", "The upstream's rate limit is reached"),
        UPSTREAM_FAILED,
        UNAVAILABLE,
        UPSTREAM_TIMEOUT,
    ],
};

const MODEL_LIST: Errors =
    Errors { schema: error_body, statuses: &[BAD_KEY, SUSPENDED, UNAVAILABLE] };
const ONE_MODEL: Errors = Errors {
    schema: error_body,
    statuses: &[BAD_KEY, SUSPENDED, ("404", "The model does not exist"), UNAVAILABLE],
};

const STREAMABLE: &[Reply] = &[Reply {
    status: "200",
    description: "The upstream's reply, as one JSON object or as server-sent events",
    body: Body::JsonOrEvents,
}];
const WHOLE: &[Reply] =
    &[Reply { status: "200", description: "The upstream's reply", body: Body::Json }];

const RESPONSE_ID: PathId = ("Id of the response", "resp_1");
const MODEL_ID: PathId = ("Id of the model", "grok-4.3");

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::Post, "/v1/chat/completions", "chat_completions")
        .described(
            "Create a chat completion",
            "OpenAI's route. The request is forwarded to the upstream and its reply is \
            returned unchanged. The headers `x-ratelimit-*`, `x-kx-quota-day-tokens-remaining` and \
            `x-kx-quota-day-requests-remaining` show what is left of the limits.",
        )
        .with_body(name::<ChatRequest>)
        .replying(STREAMABLE, CALL),
    Route::new(Method::Post, "/api/v1/chat/completions", "chat_completions_alias")
        .described("Create a chat completion (alias)", "Same as `POST /v1/chat/completions`.")
        .with_body(name::<ChatRequest>)
        .replying(STREAMABLE, CALL),
    Route::new(Method::Post, "/v1/responses", "responses")
        .described(
            "Create a response",
            "OpenAI's route. Stored responses are visible only to the user who created them.",
        )
        .with_body(name::<ResponseRequest>)
        .replying(STREAMABLE, CALL),
    Route::new(Method::Get, "/v1/responses/{id}", "response")
        .described(
            "Get a stored response",
            "Responses are stored for 30 days. Returns 404 for responses of other users. \
            Not metered.",
        )
        .with_id(RESPONSE_ID)
        .replying(WHOLE, STORED),
    Route::new(Method::Delete, "/v1/responses/{id}", "delete_response")
        .described("Delete a stored response", "Deletes the response at the upstream. Not metered.")
        .with_id(RESPONSE_ID)
        .replying(WHOLE, STORED),
    Route::new(Method::Post, "/v1/responses/{id}/cancel", "cancel_response")
        .described("Cancel a response", "Forwarded to the upstream. Not metered.")
        .with_id(RESPONSE_ID)
        .replying(WHOLE, STORED),
    Route::new(Method::Get, "/v1/responses/{id}/input_items", "response_input")
        .described(
            "List the input items of a response",
            "The input that the response was created from. Not metered.",
        )
        .with_id(RESPONSE_ID)
        .replying(WHOLE, STORED),
    Route::new(Method::Post, "/v1/completions", "completions")
        .described("Create a completion", "OpenAI's legacy route.")
        .with_body(name::<CompletionRequest>)
        .replying(STREAMABLE, CALL),
    Route::new(Method::Post, "/v1/embeddings", "embeddings")
        .described("Create embeddings", "OpenAI's route. The tokens of the input are charged.")
        .with_body(name::<EmbeddingRequest>)
        .replying(WHOLE, CALL),
    Route::new(Method::Post, "/v1/images/generations", "images")
        .described(
            "Generate images",
            "OpenAI's route. Charged as reported by the upstream, otherwise per image.",
        )
        .with_body(name::<ImageRequest>)
        .replying(WHOLE, CALL),
    Route::new(Method::Post, "/v1/messages", "messages")
        .described(
            "Create a message",
            "Anthropic's route. Errors have Anthropic's shape, and the API key may also be \
            sent as `x-api-key`.",
        )
        .with_body(name::<MessageRequest>)
        .replying(STREAMABLE, ANTHROPIC_CALL),
    Route::new(Method::Post, "/v1/messages/count_tokens", "count_tokens")
        .described("Count the tokens of messages", "Anthropic's route. No tokens are charged. The gateway counts for models whose upstreams do not.")
        .with_body(name::<CountRequest>)
        .replying(WHOLE, ANTHROPIC_CALL),
    Route::new(Method::Post, "/v1/responses/input_tokens", "input_tokens")
        .described(
            "Count the tokens of a response's input",
            "OpenAI's route, answered with the gateway's own count. Not metered.",
        )
        .with_body(name::<ResponseRequest>)
        .replying(WHOLE, CALL),
    Route::new(Method::Post, "/v1/tokenize-text", "tokenize_text")
        .described("Tokenize a text", "xAI's route. No tokens are charged.")
        .with_body(name::<TokenizeRequest>)
        .replying(WHOLE, CALL),
    Route::new(Method::Get, "/v1/chat/deferred-completion/{id}", "deferred_completion")
        .described(
            "Get a deferred completion",
            "xAI's route for chat completions with `deferred: true`. The completion is \
            returned once and charged when it is returned. Returns 404 for completions of other \
            users.",
        )
        .with_id(("The `request_id` that the chat completion returned", "3f6c"))
        .replying(
            &[
                Reply { status: "200", description: "The completion", body: Body::Json },
                Reply {
                    status: "202",
                    description: "The completion is not ready",
                    body: Body::Empty,
                },
                Reply {
                    status: "409",
                    description: "Another request is fetching this completion",
                    body: Body::Schema(error_body),
                },
            ],
            CALL,
        ),
    Route::new(Method::Get, "/v1/models", "models")
        .described("List models", "The models that the plan and the key include.")
        .replying(
            &[Reply {
                status: "200",
                description: "The models",
                body: Body::Schema(name::<Models>),
            }],
            MODEL_LIST,
        ),
    Route::new(Method::Get, "/v1/models/{id}", "model")
        .described("Get a model", "")
        .with_id(MODEL_ID)
        .replying(
            &[Reply { status: "200", description: "The model", body: Body::Schema(name::<Model>) }],
            ONE_MODEL,
        ),
    Route::new(Method::Get, "/v1/language-models", "language_models")
        .described(
            "List language models with prices",
            "xAI's route. Prices are in US cents per 100 million tokens.",
        )
        .replying(&[Reply { status: "200", description: "The models", body: Body::Json }], STORED),
    Route::new(Method::Get, "/v1/language-models/{id}", "language_model")
        .described(
            "Get a language model with prices",
            "xAI's route. Prices are in US cents per 100 million tokens.",
        )
        .with_id(MODEL_ID)
        .replying(&[Reply { status: "200", description: "The model", body: Body::Json }], STORED),
];
