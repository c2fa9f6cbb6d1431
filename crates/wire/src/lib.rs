//! The formats of OpenAI's, xAI's and Anthropic's APIs, as far as the gateway reads or writes them, and token
//! counting. Pure: no I/O, no clock.

pub mod surface;
pub mod request;
pub mod fields;
mod weighed;
mod names;
mod bounds;
mod inspect;
mod reference_names;
mod tools;
mod tool_policy;
pub mod prompt;
mod part;
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
mod complaint;
mod wording;
pub mod redact;
pub mod redact_reply;
pub mod json;
pub mod tokens;
