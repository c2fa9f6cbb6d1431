//! The routes of the data plane, one table row each.

use super::bodies::{
    ChatRequest, CompletionRequest, CountRequest, EmbeddingRequest, ImageRequest, MessageRequest,
    MessagesError, Model, Models, ResponseRequest, TokenizeRequest,
};
use super::{Body, Errors, Method, Reply, Route, error_body, name};

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

const RESPONSE_ID: Option<(&str, &str)> = Some(("Id of the response", "resp_1"));
const MODEL_ID: Option<(&str, &str)> = Some(("Id of the model", "grok-4.3"));

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: Method::Post,
        path: "/v1/chat/completions",
        id: "chat_completions",
        summary: "Create a chat completion",
        description: "OpenAI's route. The request is forwarded to the upstream and its reply is \
            returned unchanged. The headers `x-ratelimit-*`, `x-kx-quota-day-tokens-remaining` and \
            `x-kx-quota-day-requests-remaining` show what is left of the limits.",
        path_id: None,
        request: Some(name::<ChatRequest>),
        replies: STREAMABLE,
        errors: CALL,
    },
    Route {
        method: Method::Post,
        path: "/api/v1/chat/completions",
        id: "chat_completions_alias",
        summary: "Create a chat completion (alias)",
        description: "Same as `POST /v1/chat/completions`.",
        path_id: None,
        request: Some(name::<ChatRequest>),
        replies: STREAMABLE,
        errors: CALL,
    },
    Route {
        method: Method::Post,
        path: "/v1/responses",
        id: "responses",
        summary: "Create a response",
        description: "OpenAI's route. Stored responses are visible only to the user who created them.",
        path_id: None,
        request: Some(name::<ResponseRequest>),
        replies: STREAMABLE,
        errors: CALL,
    },
    Route {
        method: Method::Get,
        path: "/v1/responses/{id}",
        id: "response",
        summary: "Get a stored response",
        description: "Responses are stored for 30 days. Returns 404 for responses of other users. \
            Not metered.",
        path_id: RESPONSE_ID,
        request: None,
        replies: WHOLE,
        errors: STORED,
    },
    Route {
        method: Method::Delete,
        path: "/v1/responses/{id}",
        id: "delete_response",
        summary: "Delete a stored response",
        description: "Deletes the response at the upstream. Not metered.",
        path_id: RESPONSE_ID,
        request: None,
        replies: WHOLE,
        errors: STORED,
    },
    Route {
        method: Method::Post,
        path: "/v1/responses/{id}/cancel",
        id: "cancel_response",
        summary: "Cancel a response",
        description: "Forwarded to the upstream. Not metered.",
        path_id: RESPONSE_ID,
        request: None,
        replies: WHOLE,
        errors: STORED,
    },
    Route {
        method: Method::Get,
        path: "/v1/responses/{id}/input_items",
        id: "response_input",
        summary: "List the input items of a response",
        description: "The input that the response was created from. Not metered.",
        path_id: RESPONSE_ID,
        request: None,
        replies: WHOLE,
        errors: STORED,
    },
    Route {
        method: Method::Post,
        path: "/v1/completions",
        id: "completions",
        summary: "Create a completion",
        description: "OpenAI's legacy route.",
        path_id: None,
        request: Some(name::<CompletionRequest>),
        replies: STREAMABLE,
        errors: CALL,
    },
    Route {
        method: Method::Post,
        path: "/v1/embeddings",
        id: "embeddings",
        summary: "Create embeddings",
        description: "OpenAI's route. The tokens of the input are charged.",
        path_id: None,
        request: Some(name::<EmbeddingRequest>),
        replies: WHOLE,
        errors: CALL,
    },
    Route {
        method: Method::Post,
        path: "/v1/images/generations",
        id: "images",
        summary: "Generate images",
        description: "OpenAI's route. Charged as reported by the upstream, otherwise per image.",
        path_id: None,
        request: Some(name::<ImageRequest>),
        replies: WHOLE,
        errors: CALL,
    },
    Route {
        method: Method::Post,
        path: "/v1/messages",
        id: "messages",
        summary: "Create a message",
        description: "Anthropic's route. Errors have Anthropic's shape, and the API key may also be \
            sent as `x-api-key`.",
        path_id: None,
        request: Some(name::<MessageRequest>),
        replies: STREAMABLE,
        errors: ANTHROPIC_CALL,
    },
    Route {
        method: Method::Post,
        path: "/v1/messages/count_tokens",
        id: "count_tokens",
        summary: "Count the tokens of messages",
        description: "Anthropic's route. No tokens are charged.",
        path_id: None,
        request: Some(name::<CountRequest>),
        replies: WHOLE,
        errors: ANTHROPIC_CALL,
    },
    Route {
        method: Method::Post,
        path: "/v1/tokenize-text",
        id: "tokenize_text",
        summary: "Tokenize a text",
        description: "xAI's route. No tokens are charged.",
        path_id: None,
        request: Some(name::<TokenizeRequest>),
        replies: WHOLE,
        errors: CALL,
    },
    Route {
        method: Method::Get,
        path: "/v1/chat/deferred-completion/{id}",
        id: "deferred_completion",
        summary: "Get a deferred completion",
        description: "xAI's route for chat completions with `deferred: true`. The completion is \
            returned once and charged when it is returned. Returns 404 for completions of other \
            users.",
        path_id: Some(("The `request_id` that the chat completion returned", "3f6c")),
        request: None,
        replies: &[
            Reply { status: "200", description: "The completion", body: Body::Json },
            Reply { status: "202", description: "The completion is not ready", body: Body::Empty },
            Reply {
                status: "409",
                description: "Another request is fetching this completion",
                body: Body::Schema(error_body),
            },
        ],
        errors: CALL,
    },
    Route {
        method: Method::Get,
        path: "/v1/models",
        id: "models",
        summary: "List models",
        description: "The models that the plan and the key include.",
        path_id: None,
        request: None,
        replies: &[Reply {
            status: "200",
            description: "The models",
            body: Body::Schema(name::<Models>),
        }],
        errors: MODEL_LIST,
    },
    Route {
        method: Method::Get,
        path: "/v1/models/{id}",
        id: "model",
        summary: "Get a model",
        description: "",
        path_id: MODEL_ID,
        request: None,
        replies: &[Reply {
            status: "200",
            description: "The model",
            body: Body::Schema(name::<Model>),
        }],
        errors: ONE_MODEL,
    },
    Route {
        method: Method::Get,
        path: "/v1/language-models",
        id: "language_models",
        summary: "List language models with prices",
        description: "xAI's route. Prices are in US cents per 100 million tokens.",
        path_id: None,
        request: None,
        replies: &[Reply { status: "200", description: "The models", body: Body::Json }],
        errors: STORED,
    },
    Route {
        method: Method::Get,
        path: "/v1/language-models/{id}",
        id: "language_model",
        summary: "Get a language model with prices",
        description: "xAI's route. Prices are in US cents per 100 million tokens.",
        path_id: MODEL_ID,
        request: None,
        replies: &[Reply { status: "200", description: "The model", body: Body::Json }],
        errors: STORED,
    },
];
