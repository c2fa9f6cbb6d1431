//! The data plane's part of the description. Its routes are answered elsewhere, in OpenAI's wire format;
//! here they are only told.

mod bodies;

use crate::control::api_error::ErrorBody;
use bodies::{
    ChatRequest, CompletionRequest, CountRequest, EmbeddingRequest, ImageRequest, MessageRequest,
    MessagesError, Model, Models, ResponseRequest, TokenizeRequest,
};
use std::collections::BTreeMap;
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi, ToSchema};

/// Adds the data plane's routes.
#[must_use]
pub fn described(document: Document) -> Document {
    document.merge_from(Routes::openapi())
}

#[derive(OpenApi)]
#[openapi(
    components(schemas(MessagesError)),
    paths(
        chat_completions,
        chat_completions_alias,
        responses,
        response,
        delete_response,
        cancel_response,
        response_input,
        completions,
        embeddings,
        images,
        messages,
        count_tokens,
        tokenize_text,
        deferred_completion,
        models,
        model,
        language_models,
        language_model
    )
)]
struct Routes;

/// What any call to a model may be refused with.
const CALLS: [(u16, &str); 10] = [
    (400, "The request is not what the model's server takes"),
    (401, "The key is missing or does not hold"),
    (403, "The plan or the key has not this model, or the account is suspended"),
    (404, "There is no such model, or no server of it offers this route"),
    (413, "The body is too large"),
    (429, "A limit is reached: `Retry-After` says until when"),
    (500, "Something went wrong on our side"),
    (502, "The model's server failed"),
    (503, "The gateway or the model's server cannot take calls now"),
    (504, "The model's server did not answer in time"),
];

/// The same in OpenAI's shape.
struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refused(&ErrorBody::name(), &CALLS)
    }
}

/// The same in Anthropic's shape.
struct RefusedMessage;

impl IntoResponses for RefusedMessage {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refused(&MessagesError::name(), &CALLS)
    }
}

/// What asking for something by its id may be refused with.
struct NotKept;

impl IntoResponses for NotKept {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refused(
            &ErrorBody::name(),
            &[
                (400, "The request is not what the model's server takes"),
                (401, "The key is missing or does not hold"),
                (403, "The account is suspended"),
                (404, "There is none of this id, or it is another user's"),
                (429, "The model's server has no time for it now"),
                (502, "The model's server failed"),
                (503, "The gateway or the model's server cannot take calls now"),
                (504, "The model's server did not answer in time"),
            ],
        )
    }
}

fn refused(schema: &str, refusals: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let schema = Ref::from_schema_name(schema);
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = |(status, what): &(u16, &str)| {
        let response = ResponseBuilder::new().description(*what);
        let response = response.content("application/json", content.clone()).build();
        (status.to_string(), RefOr::T(response))
    };
    refusals.iter().map(response).collect()
}

/// Chat completions
///
/// OpenAI's route, passed to the model's server; replies are its bytes. Headers tell what is left:
/// `x-ratelimit-*`, `x-kx-quota-day-tokens-remaining`, `x-kx-quota-day-requests-remaining`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "Models", security(("key" = [])),
    request_body = ChatRequest,
    responses((status = 200, description = "The answer, whole or as events", content((Value = "application/json"), (String = "text/event-stream"))), Refused))]
#[expect(dead_code, reason = "told, not called")]
fn chat_completions() {}

/// Chat completions
///
/// The same as `/v1/chat/completions`.
#[utoipa::path(post, path = "/api/v1/chat/completions", tag = "Models", security(("key" = [])),
    request_body = ChatRequest,
    responses((status = 200, description = "The answer, whole or as events", content((Value = "application/json"), (String = "text/event-stream"))), Refused))]
#[expect(dead_code, reason = "told, not called")]
fn chat_completions_alias() {}

/// Responses
///
/// OpenAI's route. What the model's server keeps belongs to the user who made it.
#[utoipa::path(post, path = "/v1/responses", tag = "Models", security(("key" = [])),
    request_body = ResponseRequest,
    responses((status = 200, description = "The answer, whole or as events", content((Value = "application/json"), (String = "text/event-stream"))), Refused))]
#[expect(dead_code, reason = "told, not called")]
fn responses() {}

/// One response
///
/// Kept for 30 days; another user's is 404. Not metered.
#[utoipa::path(get, path = "/v1/responses/{id}", tag = "Models", security(("key" = [])),
    params(("id" = String, Path, description = "The response's id", example = "resp_1")),
    responses((status = 200, description = "As the model's server has it", body = Value), NotKept))]
#[expect(dead_code, reason = "told, not called")]
fn response() {}

/// Delete a response
///
/// The model's server keeps it no more. Not metered.
#[utoipa::path(delete, path = "/v1/responses/{id}", tag = "Models", security(("key" = [])),
    params(("id" = String, Path, description = "The response's id", example = "resp_1")),
    responses((status = 200, description = "As the model's server has it", body = Value), NotKept))]
#[expect(dead_code, reason = "told, not called")]
fn delete_response() {}

/// Cancel a response
///
/// Passed on to the model's server. Not metered.
#[utoipa::path(post, path = "/v1/responses/{id}/cancel", tag = "Models", security(("key" = [])),
    params(("id" = String, Path, description = "The response's id", example = "resp_1")),
    responses((status = 200, description = "As the model's server has it", body = Value), NotKept))]
#[expect(dead_code, reason = "told, not called")]
fn cancel_response() {}

/// A response's input
///
/// What the response was made from. Not metered.
#[utoipa::path(get, path = "/v1/responses/{id}/input_items", tag = "Models", security(("key" = [])),
    params(("id" = String, Path, description = "The response's id", example = "resp_1")),
    responses((status = 200, description = "As the model's server has it", body = Value), NotKept))]
#[expect(dead_code, reason = "told, not called")]
fn response_input() {}

/// Completions
///
/// OpenAI's older route.
#[utoipa::path(post, path = "/v1/completions", tag = "Models", security(("key" = [])),
    request_body = CompletionRequest,
    responses((status = 200, description = "The answer, whole or as events", content((Value = "application/json"), (String = "text/event-stream"))), Refused))]
#[expect(dead_code, reason = "told, not called")]
fn completions() {}

/// Embeddings
///
/// OpenAI's route; the prompt's tokens are charged.
#[utoipa::path(post, path = "/v1/embeddings", tag = "Models", security(("key" = [])),
    request_body = EmbeddingRequest,
    responses((status = 200, description = "The answer", body = Value), Refused))]
#[expect(dead_code, reason = "told, not called")]
fn embeddings() {}

/// Images
///
/// OpenAI's route; charged as the model's server says, or by the image.
#[utoipa::path(post, path = "/v1/images/generations", tag = "Models", security(("key" = [])),
    request_body = ImageRequest,
    responses((status = 200, description = "The answer", body = Value), Refused))]
#[expect(dead_code, reason = "told, not called")]
fn images() {}

/// Messages
///
/// Anthropic's route; its errors are in Anthropic's shape, and `x-api-key` is taken too.
#[utoipa::path(post, path = "/v1/messages", tag = "Models", security(("key" = [])),
    request_body = MessageRequest,
    responses((status = 200, description = "The answer, whole or as events", content((Value = "application/json"), (String = "text/event-stream"))), RefusedMessage))]
#[expect(dead_code, reason = "told, not called")]
fn messages() {}

/// Count tokens
///
/// Anthropic's route; nothing is charged.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "Models", security(("key" = [])),
    request_body = CountRequest,
    responses((status = 200, description = "The answer", body = Value), RefusedMessage))]
#[expect(dead_code, reason = "told, not called")]
fn count_tokens() {}

/// Tokenize a text
///
/// xAI's route; nothing is charged.
#[utoipa::path(post, path = "/v1/tokenize-text", tag = "Models", security(("key" = [])),
    request_body = TokenizeRequest,
    responses((status = 200, description = "The answer", body = Value), Refused))]
#[expect(dead_code, reason = "told, not called")]
fn tokenize_text() {}

/// A deferred completion
///
/// xAI's route for a chat with `deferred`: given once, and charged then. Another user's is 404.
#[utoipa::path(get, path = "/v1/chat/deferred-completion/{id}", tag = "Models", security(("key" = [])),
    params(("id" = String, Path, description = "The chat's `request_id`", example = "3f6c")),
    responses(
        (status = 200, description = "The completion", body = Value),
        (status = 202, description = "It is not ready"),
        (status = 409, body = ErrorBody, description = "Another call is fetching it"),
        Refused,
    ))]
#[expect(dead_code, reason = "told, not called")]
fn deferred_completion() {}

/// Language models
///
/// xAI's list, with prices in US cents for a hundred million tokens.
#[utoipa::path(get, path = "/v1/language-models", tag = "Models", security(("key" = [])),
    responses((status = 200, description = "What the key may use", body = Value), NotKept))]
#[expect(dead_code, reason = "told, not called")]
fn language_models() {}

/// One language model
#[utoipa::path(get, path = "/v1/language-models/{id}", tag = "Models", security(("key" = [])),
    params(("id" = String, Path, description = "The model's id", example = "grok-4.3")),
    responses((status = 200, description = "The model", body = Value), NotKept))]
#[expect(dead_code, reason = "told, not called")]
fn language_model() {}

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
