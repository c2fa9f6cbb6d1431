//! What the data plane's routes take and give, as far as it is told. Replies are the model's server's.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};

/// A request for an answer. Fields that are not told here go to the model's server as they are.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "messages": [{"role": "user", "content": "Hello"}]}))]
pub struct ChatRequest {
    /// One of `GET /v1/models`.
    pub model: String,
    /// At least one.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
    /// True: the answer comes as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// The most tokens of output; what the quota does not cover is taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u64>,
    /// The older name of `max_completion_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
}

/// One turn of the conversation.
#[derive(Serialize, ToSchema)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    #[schema(example = "user")]
    pub role: String,
    pub content: Content,
}

/// A text, or parts of several kinds.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "told, not made")]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message; what else it holds goes by its type.
#[derive(Serialize, ToSchema)]
pub struct Part {
    #[serde(rename = "type")]
    #[schema(example = "text")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The models that a key may use.
#[derive(Serialize, ToSchema)]
pub struct Models {
    #[schema(example = "list")]
    pub object: String,
    pub data: Vec<Model>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub struct Model {
    #[schema(example = "grok-4.3")]
    pub id: String,
    #[schema(example = "model")]
    pub object: String,
    pub created: i64,
    #[schema(example = "xai")]
    pub owned_by: String,
}

/// A request for a response. Fields that are not told here go to the model's server as they are.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "input": "Hello", "max_output_tokens": 200}))]
pub struct ResponseRequest {
    /// One of `GET /v1/models`.
    pub model: String,
    /// A text, or items such as messages.
    #[schema(schema_with = text_or_items)]
    pub input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// A kept response of the same user to go on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "resp_1", pattern = "^[A-Za-z0-9_-]{1,128}$")]
    pub previous_response_id: Option<String>,
    /// False: the response is not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// True: the answer comes as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// The most tokens of output; what the quota does not cover is taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_output_tokens: Option<u64>,
}

/// A request for a completion. Fields that are not told here go to the model's server as they are.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "prompt": "Once upon a time", "max_tokens": 20}))]
pub struct CompletionRequest {
    /// One of `GET /v1/models`.
    pub model: String,
    /// A text, or several; each may be in tokens.
    #[schema(schema_with = texts)]
    pub prompt: String,
    /// The most tokens of output; what the quota does not cover is taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// True: the answer comes as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
}

/// A request for embeddings.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "simulated-embedding", "input": ["one text", "another"]}))]
pub struct EmbeddingRequest {
    /// One of `GET /v1/models`.
    pub model: String,
    /// A text, or several; each may be in tokens.
    #[schema(schema_with = texts)]
    pub input: String,
    /// `float` or `base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<String>,
}

/// A request for images.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-imagine-image", "prompt": "A lighthouse at night"}))]
pub struct ImageRequest {
    /// One of `GET /v1/models`.
    pub model: String,
    pub prompt: String,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 128)]
    pub n: Option<u64>,
}

/// A request in Anthropic's shape. Fields that are not told here go to the model's server as they are.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "max_tokens": 200, "messages": [{"role": "user", "content": "Hello"}]}))]
pub struct MessageRequest {
    /// One of `GET /v1/models`.
    pub model: String,
    /// The most tokens of output; what the quota does not cover is taken off.
    #[schema(minimum = 1)]
    pub max_tokens: u64,
    /// At least one.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
    /// True: the answer comes as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
}

/// Messages whose tokens are to be counted.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "messages": [{"role": "user", "content": "Hello"}]}))]
pub struct CountRequest {
    /// One of `GET /v1/models`.
    pub model: String,
    /// At least one.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
}

/// A text to be split into tokens.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "text": "Hello there"}))]
pub struct TokenizeRequest {
    /// One of `GET /v1/models`.
    pub model: String,
    pub text: String,
}

/// Errors of the routes that Anthropic made.
#[derive(Serialize, ToSchema)]
pub struct MessagesError {
    #[serde(rename = "type")]
    #[schema(example = "error")]
    pub kind: String,
    pub error: MessagesErrorDetail,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
pub struct MessagesErrorDetail {
    #[serde(rename = "type")]
    #[schema(example = "not_found_error")]
    pub kind: String,
    /// A sentence for people.
    pub message: String,
}

fn text_or(items: RefOr<Schema>) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let several = ArrayBuilder::new().items(items).min_items(Some(1));
    OneOfBuilder::new().item(text).item(several).into()
}

fn texts() -> RefOr<Schema> {
    text_or(RefOr::T(ObjectBuilder::new().schema_type(Type::String).into()))
}

fn text_or_items() -> RefOr<Schema> {
    text_or(RefOr::Ref(Ref::from_schema_name(Message::name())))
}
