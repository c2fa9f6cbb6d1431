//! The formats of OpenAI's, xAI's and Anthropic's APIs, as far as the gateway reads or writes them, and token
//! counting. Pure: no I/O, no clock.

pub mod surface;
pub mod request;
pub mod fields;
mod prompt_fields;
mod field_names;
mod output_limits;
mod inspect;
mod reference_names;
mod tools;
mod tool_policy;
pub mod prompt;
mod prompt_walk;
pub mod media;
pub mod cursor;
mod rewrite;
pub mod sse;
pub mod stream_reader;
pub mod output;
pub mod chunk;
pub mod cut;
pub mod usage;
pub mod error;
mod upstream_error_body;
mod error_phrases;
pub mod redact;
pub mod redact_reply;
pub mod json;
mod tool_names;
pub mod translation;
pub mod dialect;
pub mod tokens;
