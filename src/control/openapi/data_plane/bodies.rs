//! The bodies of the data plane's routes, as far as the OpenAPI document describes them. Most replies are
//! the upstream's and have no schema here.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};

/// A chat completion request. Other fields are forwarded to the upstream unchanged.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "messages": [{"role": "user", "content": "Hello"}]}))]
pub struct ChatRequest {
    /// A model id or alias from `GET /v1/models`.
    #[schema(min_length = 1)]
    pub model: String,
    /// The conversation; at least one message.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
    /// True to receive the reply as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Maximum number of output tokens; lowered to what the quota grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u64>,
    /// Deprecated name of `max_completion_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
}

/// One message of the conversation.
#[derive(Serialize, ToSchema)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    #[schema(example = "user")]
    pub role: String,
    pub content: Content,
}

/// A text, or a list of parts.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "described, never constructed")]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message; its other fields depend on `type`.
#[derive(Serialize, ToSchema)]
pub struct Part {
    #[serde(rename = "type")]
    #[schema(example = "text")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The models that the plan and the key include.
#[derive(Serialize, ToSchema)]
pub struct Models {
    #[schema(example = "list")]
    pub object: String,
    pub data: Vec<Model>,
}

/// A model of the gateway.
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

/// A response request. Other fields are forwarded to the upstream unchanged.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "input": "Hello", "max_output_tokens": 200}))]
pub struct ResponseRequest {
    /// A model id or alias from `GET /v1/models`.
    #[schema(min_length = 1)]
    pub model: String,
    /// A text, or a list of items such as messages.
    #[schema(schema_with = text_or_items)]
    pub input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// A stored response of the same user to continue from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "resp_1", pattern = "^[A-Za-z0-9_-]{1,128}$")]
    pub previous_response_id: Option<String>,
    /// False if the response must not be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// True to receive the reply as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Maximum number of output tokens; lowered to what the quota grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_output_tokens: Option<u64>,
}

/// A completion request. Other fields are forwarded to the upstream unchanged.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "prompt": "Once upon a time", "max_tokens": 20}))]
pub struct CompletionRequest {
    /// A model id or alias from `GET /v1/models`.
    #[schema(min_length = 1)]
    pub model: String,
    /// A text or a list of texts; each may be a list of token ids.
    #[schema(schema_with = texts)]
    pub prompt: String,
    /// Maximum number of output tokens; lowered to what the quota grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// True to receive the reply as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
}

/// An embeddings request.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "simulated-embedding", "input": ["one text", "another"]}))]
pub struct EmbeddingRequest {
    /// A model id or alias from `GET /v1/models`.
    #[schema(min_length = 1)]
    pub model: String,
    /// A text or a list of texts; each may be a list of token ids.
    #[schema(schema_with = texts)]
    pub input: String,
    /// `float` or `base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<String>,
}

/// An image generation request.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-imagine-image", "prompt": "A lighthouse at night"}))]
pub struct ImageRequest {
    /// A model id or alias from `GET /v1/models`.
    #[schema(min_length = 1)]
    pub model: String,
    pub prompt: String,
    /// Number of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 128)]
    pub n: Option<u64>,
}

/// A message request in Anthropic's format. Other fields are forwarded to the upstream unchanged.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "max_tokens": 200, "messages": [{"role": "user", "content": "Hello"}]}))]
pub struct MessageRequest {
    /// A model id or alias from `GET /v1/models`.
    #[schema(min_length = 1)]
    pub model: String,
    /// Maximum number of output tokens; lowered to what the quota grants.
    #[schema(minimum = 1)]
    pub max_tokens: u64,
    /// The conversation; at least one message.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
    /// True to receive the reply as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
}

/// A request to count the tokens of messages.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "messages": [{"role": "user", "content": "Hello"}]}))]
pub struct CountRequest {
    /// A model id or alias from `GET /v1/models`.
    #[schema(min_length = 1)]
    pub model: String,
    /// The conversation; at least one message.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
}

/// A tokenization request.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "grok-4.3", "text": "Hello there"}))]
pub struct TokenizeRequest {
    /// A model id or alias from `GET /v1/models`.
    #[schema(min_length = 1)]
    pub model: String,
    pub text: String,
}

/// The body of an error on Anthropic's routes.
#[derive(Serialize, ToSchema)]
pub struct MessagesError {
    #[serde(rename = "type")]
    #[schema(example = "error")]
    pub kind: String,
    pub error: MessagesErrorDetail,
}

/// An error in Anthropic's format.
#[derive(Serialize, ToSchema)]
pub struct MessagesErrorDetail {
    #[serde(rename = "type")]
    #[schema(example = "not_found_error")]
    pub kind: String,
    /// What happened and what to do, for people.
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
