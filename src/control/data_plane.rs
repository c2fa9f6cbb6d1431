//! The data plane's part of the description. Its routes are answered elsewhere, in OpenAI's wire format;
//! here they are only told.

use super::api_error::ErrorBody;
use serde::Serialize;
use utoipa::openapi::OpenApi as Document;
use utoipa::{OpenApi, ToSchema};

/// Adds the data plane's routes.
#[must_use]
pub fn described(document: Document) -> Document {
    document.merge_from(Routes::openapi())
}

#[derive(OpenApi)]
#[openapi(paths(chat_completions, chat_completions_alias, models, model))]
struct Routes;

/// A request for an answer. Fields that are not told here go to the model's server as they are.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "messages": [{"role": "user", "content": "Hello"}]}))]
struct ChatRequest {
    /// One of `GET /v1/models`.
    model: String,
    /// At least one.
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    /// True: the answer comes as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    /// The most tokens of output; what the quota does not cover is taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u64>,
    /// The older name of `max_completion_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    max_tokens: Option<u64>,
}

/// One turn of the conversation.
#[derive(Serialize, ToSchema)]
struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    #[schema(example = "user")]
    role: String,
    content: Content,
}

/// A text, or parts of several kinds.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "told, not made")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message; what else it holds goes by its type.
#[derive(Serialize, ToSchema)]
struct Part {
    #[serde(rename = "type")]
    #[schema(example = "text")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// The models that a key may use.
#[derive(Serialize, ToSchema)]
struct Models {
    #[schema(example = "list")]
    object: String,
    data: Vec<Model>,
}

/// A model.
#[derive(Serialize, ToSchema)]
struct Model {
    #[schema(example = "grok-4.3")]
    id: String,
    #[schema(example = "model")]
    object: String,
    created: i64,
    #[schema(example = "xai")]
    owned_by: String,
}

/// Chat completions
///
/// OpenAI's route, passed to the model's server; replies are its bytes. Headers tell what is left:
/// `x-ratelimit-*`, `x-kx-quota-day-tokens-remaining`, `x-kx-quota-day-requests-remaining`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "Models", security(("key" = [])),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer, whole or as events",
            content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 400, body = ErrorBody, description = "The request is not what the model's server takes"),
        (status = 401, body = ErrorBody, description = "The key is missing or does not hold"),
        (status = 403, body = ErrorBody, description = "The plan or the key has not this model, or the account is suspended"),
        (status = 404, body = ErrorBody, description = "There is no such model"),
        (status = 413, body = ErrorBody, description = "The body is too large"),
        (status = 429, body = ErrorBody, description = "A limit is reached: `Retry-After` says until when"),
        (status = 500, body = ErrorBody, description = "Something went wrong on our side"),
        (status = 502, body = ErrorBody, description = "The model's server failed"),
        (status = 503, body = ErrorBody, description = "The gateway or the model's server cannot take calls now"),
        (status = 504, body = ErrorBody, description = "The model's server did not answer in time"),
    ))]
#[expect(dead_code, reason = "told, not called")]
fn chat_completions() {}

/// Chat completions
///
/// The same as `/v1/chat/completions`.
#[utoipa::path(post, path = "/api/v1/chat/completions", tag = "Models", security(("key" = [])),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer, whole or as events",
            content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 400, body = ErrorBody, description = "The request is not what the model's server takes"),
        (status = 401, body = ErrorBody, description = "The key is missing or does not hold"),
        (status = 403, body = ErrorBody, description = "The plan or the key has not this model, or the account is suspended"),
        (status = 404, body = ErrorBody, description = "There is no such model"),
        (status = 413, body = ErrorBody, description = "The body is too large"),
        (status = 429, body = ErrorBody, description = "A limit is reached: `Retry-After` says until when"),
        (status = 500, body = ErrorBody, description = "Something went wrong on our side"),
        (status = 502, body = ErrorBody, description = "The model's server failed"),
        (status = 503, body = ErrorBody, description = "The gateway or the model's server cannot take calls now"),
        (status = 504, body = ErrorBody, description = "The model's server did not answer in time"),
    ))]
#[expect(dead_code, reason = "told, not called")]
fn chat_completions_alias() {}

/// Models
#[utoipa::path(get, path = "/v1/models", tag = "Models", security(("key" = [])),
    responses(
        (status = 200, body = Models),
        (status = 401, body = ErrorBody, description = "The key is missing or does not hold"),
        (status = 403, body = ErrorBody, description = "The account is suspended"),
        (status = 503, body = ErrorBody, description = "The gateway cannot answer now"),
    ))]
#[expect(dead_code, reason = "told, not called")]
fn models() {}

/// One model
#[utoipa::path(get, path = "/v1/models/{id}", tag = "Models", security(("key" = [])),
    params(("id" = String, Path, description = "The model's id", example = "grok-4.3")),
    responses(
        (status = 200, body = Model),
        (status = 401, body = ErrorBody, description = "The key is missing or does not hold"),
        (status = 403, body = ErrorBody, description = "The account is suspended"),
        (status = 404, body = ErrorBody, description = "There is no such model"),
        (status = 503, body = ErrorBody, description = "The gateway cannot answer now"),
    ))]
#[expect(dead_code, reason = "told, not called")]
fn model() {}
